use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::super::{Grammar, Options, Outcome, Source, TemplateSet};
use super::super::{Interface, Interfaces, TABLE};
use super::*;
use crate::catalog::Known;
use crate::catalog::fixture::Fixture;
use crate::diagnostic::render as show;

/// The surroundings that the reference describes.
fn options(files: &std::path::Path) -> Options {
    let settings: toml::Table = toml::from_str(SURROUNDINGS).unwrap();
    let parameters = serde_json::to_value(&settings["parameters"]).unwrap();
    std::fs::write(files.join("motd.txt"), "Welcome\n").unwrap();
    let interface = |name: &str, address: &str, default_route| Interface {
        name: name.to_owned(),
        address: address.parse().unwrap(),
        default_route,
    };
    Options {
        parameters: parameters.as_object().unwrap().clone(),
        raw: settings["templates"]["allow_raw"].as_bool().unwrap(),
        environment: [("REGION", Some("eu")), ("RACK", None)]
            .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
            .into(),
        files: Some(files.to_owned()),
        interfaces: Interfaces::Given(vec![
            interface("lo", "127.0.0.1", false),
            interface("eth0", "10.0.0.9", true),
            interface("eth1", "192.168.7.9", false),
        ]),
        ..Options::default()
    }
}

fn rendered(template: &str, options: &Options, fixture: &Fixture) -> String {
    let source = Source {
        name: "example".into(),
        path: "example.hbs".into(),
        text: template.to_owned(),
        grammar: Grammar::Plain,
    };
    let wrong = |wrong: Vec<crate::diagnostic::Diagnostic>| -> String {
        wrong.iter().map(|one| show(one, false)).collect()
    };
    let mut set = match TemplateSet::load(vec![source], Vec::new(), options.clone()) {
        Ok((set, _)) => set,
        Err(errors) => return wrong(errors),
    };
    let mut answers = BTreeMap::new();
    loop {
        match set.render(&answers) {
            Ok(Outcome::Complete(rendering)) => return rendering.files.concat(),
            Ok(Outcome::Incomplete { needed, absent, .. }) => {
                assert!(!needed.is_empty(), "{template} waits for {absent:?}");
                for query in needed {
                    let answer = Arc::new(fixture.answer(&query).unwrap());
                    answers.insert(
                        query,
                        Known {
                            answer,
                            revision: 1,
                        },
                    );
                }
            }
            Err(errors) => return wrong(errors),
        }
    }
}

#[test]
fn every_example_writes_what_the_reference_says() {
    let files = tempfile::tempdir().unwrap();
    let options = options(files.path());
    let fixture: Fixture = serde_json::from_str(CATALOG).unwrap();
    let mut wrong = Vec::new();
    for entry in TABLE {
        assert!(!entry.examples.is_empty(), "{} has no example", entry.name);
        for Example { template, output } in entry.examples {
            assert!(template.contains(entry.name), "{}: {template}", entry.name);
            let found = rendered(template, &options, &fixture);
            if found != *output {
                wrong.push(format!(
                    "{}\n{template}\n{found:?}\n{output:?}\n",
                    entry.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The signature is what the numbers of parameters say, and every pair is explained.
#[test]
fn every_helper_is_described_as_it_is_called() {
    let kinds = ["text", "number", "truth", "list", "object", "value"];
    for entry in TABLE {
        let words: Vec<&str> = entry.signature.split_whitespace().collect();
        let wanted = words.iter().filter(|word| !word.starts_with('[')).count();
        let repeated = words.iter().any(|word| word.contains('…'));
        let (least, most) = entry.parameters;
        assert_eq!(wanted, least, "{}", entry.call());
        assert_eq!(repeated, most >= 64, "{}", entry.call());
        assert!(repeated || words.len() == most, "{}", entry.call());
        for word in words {
            let (name, kind) = word.split_once(':').unwrap();
            let kind = kind.trim_end_matches([']', '…']);
            assert!(kinds.contains(&kind), "{}", entry.call());
            assert!(
                name.trim_start_matches('[')
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                "{}",
                entry.call()
            );
        }
        for pair in entry.pairs {
            assert!(PAIRS.iter().any(|(name, ..)| name == pair), "{pair}");
        }
        for sentence in [entry.what, entry.notes] {
            let whole = sentence.is_empty() || sentence.ends_with(['.', '}']);
            assert!(whole, "{}: {sentence}", entry.name);
        }
        assert!(
            !entry.what.is_empty() && !entry.example.is_empty(),
            "{}",
            entry.name
        );
    }
    let mut names: Vec<&str> = TABLE.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
    let groups: Vec<_> = TABLE.iter().map(|entry| entry.group).collect();
    assert!(groups.is_sorted());
}

/// What the reference says of paths, partials and blanks.
#[test]
fn templates_are_written_as_the_reference_says() {
    let files = tempfile::tempdir().unwrap();
    let options = options(files.path());
    let fixture: Fixture = serde_json::from_str(CATALOG).unwrap();
    let first = "{{#each (service \"v1.web\")}}";
    for (template, output) in [
        (
            "{{Tags.0}} {{this.Tags.1}} {{ServiceMeta.[zone]}}",
            "prod v1 a",
        ),
        (
            "{{#each Tags}}{{../ID}}/{{this}}/{{@index}}/{{@../index}} {{/each}}",
            "web-1/prod/0/0 web-1/v1/1/0 ",
        ),
        (
            "{{#*inline \"p\"}}<{{ID}}{{w}}>{{/inline}}{{> p w=3}}",
            "<web-13>",
        ),
        (
            "{{#*inline \"p\"}}<{{Passing}}>{{/inline}}{{> p Weights}}",
            "<10>",
        ),
        (
            "{{#*inline \"p\"}}<{{> @partial-block}}>{{/inline}}{{#> p}}{{ID}}{{/p}}{{#> q}}none{{/q}}",
            "<web-1>none",
        ),
        ("a {{~ID~}} b{{!-- {{x}} --}}", "aweb-1b"),
        ("a \\{{ID}}", "a {{ID}}"),
        (
            "{{#if Nothing.at.all}}y{{else}}n{{/if}}{{#each ServiceMeta}} {{@key}}={{this}}{{#if @last}}.{{/if}}{{/each}}",
            "n shard=2 zone=a.",
        ),
    ] {
        let template = format!("{first}{template}{{{{/each}}}}");
        assert_eq!(
            rendered(&template, &options, &fixture),
            output,
            "{template}"
        );
    }
    assert_eq!(
        rendered(
            "a\n  {{#if true}}\n  b\n  {{/if}}\n  {{!-- c --}}\nd\n",
            &options,
            &fixture
        ),
        "a\n  b\nd\n"
    );
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_helper_is_described_on_a_terminal_and_in_markdown() {
    let trim = TABLE.iter().find(|entry| entry.name == "trim").unwrap();
    assert_eq!(
        plain(&helper_text(trim)),
        "\
trim [LETTERS:text] TEXT:text
  Without certain letters at both ends; with one parameter, without blanks.

    {{trim \"/\" \"/api/v1/\"}}|{{trim \"  a \"}}|

    | api/v1|a|
"
    );
    assert_eq!(
        markdown(&[Block::Helper(trim)]),
        "\
#### `trim [LETTERS:text] TEXT:text`

Without certain letters at both ends; with one parameter, without blanks.

```handlebars
{{trim \"/\" \"/api/v1/\"}}|{{trim \"  a \"}}|
```
```text
api/v1|a|
```
"
    );
}

#[test]
fn the_reference_holds_everything_in_both_forms() {
    let (text, markdown) = (plain(&reference_text()), reference_markdown());
    for entry in TABLE {
        assert!(
            text.lines().any(|line| line == entry.call()),
            "{}",
            entry.name
        );
        assert!(markdown.contains(&format!("#### `{}`", entry.call())));
    }
    for one in super::super::DIFFERENCES {
        let first = one.theirs.split_whitespace().next().unwrap();
        assert!(text.contains(first), "{first}");
        assert!(markdown.contains(&first.replace('|', "\\|")), "{first}");
    }
    assert!(text.starts_with("The language of templates\n  Templates are"));
    assert!(markdown.starts_with("# The language of templates\n"));
    // Code keeps its lines.
    for line in text.lines().filter(|line| line.chars().count() > 100) {
        assert!(line.starts_with("    "), "{line}");
    }
}
