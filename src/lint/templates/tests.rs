use super::*;
use crate::diagnostic::render;
use crate::template::{Options, Source, TemplateSet};

/// A template `t.hbs` with partials, as it was compiled.
pub fn set(template: &str, partials: &[(&str, &str)]) -> Outlines {
    let source = |name: &str, text: &str| Source {
        name: name.to_owned(),
        path: format!("{name}.hbs").into(),
        text: text.to_owned(),
        grammar: Grammar::Haproxy,
    };
    let partials = partials
        .iter()
        .map(|(name, text)| source(name, text))
        .collect();
    let loaded = TemplateSet::load(vec![source("t", template)], partials, Options::default());
    let (set, _) = loaded.unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    set.outlines()
}

fn told(template: &str, partials: &[(&str, &str)]) -> String {
    let found = templates(&set(template, partials));
    found.iter().map(|one| render(one, false)).collect()
}

#[test]
fn a_field_that_is_not_there_is_told_with_what_may_have_been_meant() {
    assert_eq!(
        told(
            "{{#each (service \"web\")}}\n{{Address}}:{{Prot}} {{Weights.passing}} {{ServiceMeta.any}} {{../x}}\n{{/each}}\n{{name}}\n",
            &[]
        ),
        "warning[unknown-field]: An instance has no field `Prot`.
 --> t.hbs:2:15
  |
2 | {{Address}}:{{Prot}} {{Weights.passing}} {{ServiceMeta.any}} {{../x}}
  |               ^^^^
  |
  = help: Did you mean `Port`?
warning[unknown-field]: `Weights` has no field `passing`.
 --> t.hbs:2:24
  |
2 | {{Address}}:{{Prot}} {{Weights.passing}} {{ServiceMeta.any}} {{../x}}
  |                        ^^^^^^^^^^^^^^^
  |
  = help: Did you mean `Passing`?
warning[unknown-field]: There is no `x` here: at the top of a template only helpers and names that blocks bind give values.
 --> t.hbs:2:64
  |
2 | {{Address}}:{{Prot}} {{Weights.passing}} {{ServiceMeta.any}} {{../x}}
  |                                                                ^^^^
  |
  = help: Read the catalog by a helper, such as (service \"web\"), or a value of the settings by (parameter \"name\").
warning[unknown-field]: There is no `name` here: at the top of a template only helpers and names that blocks bind give values.
 --> t.hbs:4:3
  |
4 | {{name}}
  |   ^^^^
  |
  = help: Read the catalog by a helper, such as (service \"web\"), or a value of the settings by (parameter \"name\").
"
    );
}

fn codes(template: &str, partials: &[(&str, &str)]) -> Vec<String> {
    let found = templates(&set(template, partials));
    let place = |one: &Diagnostic| {
        let place = one.place.as_ref().unwrap();
        let length: String = place
            .text
            .chars()
            .skip(place.column - 1)
            .take(place.length)
            .collect();
        format!("{} {place} {length}", one.code)
    };
    found.iter().map(place).collect()
}

#[test]
fn what_this_is_is_known_through_blocks_names_and_helpers() {
    for good in [
        "{{#each (service \"web\") as |s i|}}{{s.Port}}{{i}}{{Port}}{{@index}}{{#if s.Tags}}{{/if}}{{/each}}",
        "{{#each (services)}}{{Name}}{{#each (service Name)}}{{Node}} {{../Name}}{{/each}}{{/each}}",
        "{{#each (byTag (service \"web\")) as |list tag|}}{{tag}}{{#each list}}{{ID}}{{/each}}{{/each}}",
        "{{#each (where (service \"web\") \"ServiceMeta.zone\" \"a\")}}{{ID}}{{/each}}",
        "{{#with (node \"n\")}}{{Node.Address}}{{#each Services}}{{Service}}{{/each}}{{/with}}",
        "{{#each (sortBy (service \"web\") \"Port\")}}{{ID}}{{#each Tags}}{{this}}{{/each}}{{#each ServiceMeta as |v k|}}{{v}}{{k}}{{/each}}{{/each}}",
        "{{#each (tree \"a\")}}{{Key}}{{Path}}{{Value}}{{/each}}{{#each (datacenters)}}{{this}}{{/each}}",
        "{{#let (service \"web\") as |all|}}{{#each all}}{{#let Port as |p|}}{{p}}{{ID}}{{../ID}}{{/let}}{{/each}}{{/let}}",
        "{{#each (parameters \"list\")}}{{x}}{{/each}}{{#each (parseJSON (key \"j\"))}}{{x.y}}{{/each}}",
        "{{#each (nodes)}}{{Node}}{{Meta.a}}{{lookup this \"x\"}}{{/each}}{{#each (service \"w\")}}{{default ServiceMeta.a \"b\"}}{{ServiceTaggedAddresses.lan.Port}}{{/each}}",
        "{{#each (service \"web\")}}{{> p}}{{> q this}}{{> r x=1}}{{/each}}{{#each (parameters \"l\") as |n|}}{{> n}}{{/each}}",
    ] {
        let partials = [
            ("p", "{{ID}}"),
            ("q", "{{Port}}"),
            ("r", "{{x}}{{y}}"),
            ("n", "{{n}}"),
        ];
        assert_eq!(codes(good, &partials), Vec::<String>::new(), "{good}");
    }
    for (bad, told) in [
        (
            "{{#each (services)}}{{ID}}{{/each}}",
            "unknown-field t.hbs:1:23 ID",
        ),
        (
            "{{#each (service \"a\")}}{{#each (services)}}{{../Nam}}{{/each}}{{/each}}",
            "unknown-field t.hbs:1:46 ../Nam",
        ),
        (
            "{{#each (service \"a\") as |s|}}{{toUpper s.Nam}}{{/each}}",
            "unknown-field t.hbs:1:41 s.Nam",
        ),
        (
            "{{#with (first (service \"a\"))}}{{#if (eq Prot 1)}}{{/if}}{{/with}}",
            "unknown-field t.hbs:1:42 Prot",
        ),
        (
            "{{#each (byMeta (service \"a\") \"z\")}}{{#each this}}{{id}}{{/each}}{{/each}}",
            "unknown-field t.hbs:1:53 id",
        ),
        (
            "{{#each (where (service \"a\") \"tags\" \"x\")}}{{/each}}",
            "unknown-field t.hbs:1:31 tags",
        ),
        (
            "{{#each (sortBy (nodes) \"Name\")}}{{/each}}",
            "unknown-field t.hbs:1:26 Name",
        ),
        (
            "{{#each (service \"a\")}}{{#each Tags}}{{/each}}{{else}}{{ID}}{{/each}}",
            "unknown-field t.hbs:1:57 ID",
        ),
        (
            "{{#each (nodes)}}{{> p}}{{/each}}",
            "unknown-field p.hbs:1:3 Port",
        ),
        (
            "{{#*inline \"i\"}}{{Port}}{{/inline}}{{#each (nodes)}}{{> i}}{{/each}}",
            "unknown-field t.hbs:1:19 Port",
        ),
    ] {
        assert_eq!(codes(bad, &[("p", "{{Port}}")]), [told], "{bad}");
    }
    // A partial's place comes with the place that included it.
    let found = templates(&set(
        "\n{{#each (nodes)}}{{> p}}{{/each}}",
        &[("p", "{{Port}}")],
    ));
    assert_eq!(found[0].includes[0].to_string(), "t.hbs:2:18");
}

#[test]
fn what_is_told_is_what_rendering_finds() {
    use crate::catalog::fixture::Fixture;
    use crate::catalog::{Known, Query};

    let catalog = r#"{"services": {"web": [{"Address": "10.0.0.1", "Port": 80, "Tags": ["a"]}]}}"#;
    let fixture: Fixture = serde_json::from_str(catalog).unwrap();
    for (inner, good) in [
        ("{{#let Port as |p|}}{{p}}{{../Name}}{{/let}}", true),
        ("{{#let Port as |p|}}{{p}}{{../../Name}}{{/let}}", false),
        ("{{#each Tags}}{{../Name}}{{/each}}", true),
        ("{{#each Tags}}{{../../Name}}{{/each}}", false),
        ("{{#if Tags}}{{Name}}{{/if}}", true),
        ("{{#with Weights}}{{Passing}}{{../Port}}{{/with}}", true),
        ("{{#with Weights}}{{Port}}{{/with}}", false),
        ("{{> p}}", true),
        ("{{> up}}", true),
        ("{{> q}}", false),
    ] {
        let text = format!("{{{{#each (service \"web\")}}}}{inner}{{{{/each}}}}\n");
        let source = |name: &str, text: &str| Source {
            name: name.to_owned(),
            path: format!("{name}.hbs").into(),
            text: text.to_owned(),
            grammar: Grammar::Plain,
        };
        let partials = [("p", "{{ID}}"), ("up", "{{../ID}}"), ("q", "{{Id}}")];
        let partials = partials.map(|(name, text)| source(name, text)).to_vec();
        let (mut set, _) =
            TemplateSet::load(vec![source("t", &text)], partials, Options::default()).unwrap();
        assert_eq!(templates(&set.outlines()).is_empty(), good, "{inner}");
        set.be_strict();
        let query = Query::service("web");
        let known = Known {
            answer: std::sync::Arc::new(fixture.answer(&query).unwrap()),
            revision: 1,
        };
        let rendered = set.render(&[(query, known)].into());
        assert_eq!(rendered.is_ok(), good, "{inner}: {rendered:?}");
    }
}

#[test]
fn lists_and_items_are_not_written_as_text() {
    for (bad, sentence) in [
        (
            "{{service \"web\"}}",
            "t.hbs:1:1: What `service` gives is a list, which cannot be written as text. Go through it: {{#each (service \"web\")}}…{{/each}}; or write its items as one text: {{join \",\" (service \"web\")}}.",
        ),
        (
            "{{#each (service \"web\")}}{{Tags}}{{/each}}",
            "t.hbs:1:26: `Tags` is a list, which cannot be written as text. Go through it: {{#each Tags}}…{{/each}}; or write its items as one text: {{join \",\" Tags}}.",
        ),
        (
            "{{#each (service \"web\")}}{{ServiceMeta}}{{/each}}",
            "t.hbs:1:26: `ServiceMeta` is several values by their names, which cannot be written as text. Name one of them: {{ServiceMeta.NAME}}.",
        ),
        (
            "{{#each (services)}}{{this}}{{/each}}",
            "t.hbs:1:21: `this` is an item with several fields, which cannot be written as text. Name one of its fields: Name, Tags.",
        ),
    ] {
        let found = templates(&set(bad, &[]));
        assert_eq!(found.len(), 1, "{bad}");
        assert_eq!(found[0].code, "prints-list");
        assert_eq!(found[0].to_string(), sentence);
    }
}

#[test]
fn values_of_two_kinds_are_never_equal() {
    for (inner, sentence) in [
        (
            "{{#if (eq Port \"80\")}}{{/if}}",
            "t.hbs:1:42: `Port` is a number and `80` is text, so they are never equal. Write 80 without quotes.",
        ),
        (
            "{{#if (ne \"80\" Port)}}{{/if}}",
            "t.hbs:1:37: `80` is text and `Port` is a number, so they always differ. Write 80 without quotes.",
        ),
        (
            "{{#if (eq ServiceMeta.x 1)}}{{/if}}",
            "t.hbs:1:50: `ServiceMeta.x` is text and `1` is a number, so they are never equal. Write \"1\" in quotes, or make a number of the other: (parseInt …).",
        ),
        (
            "{{#if (eq (in Tags \"a\") \"true\")}}{{/if}}",
            "t.hbs:1:51: `(in Tags \"a\")` is true or false and `true` is text, so they are never equal. Use the other alone: it is true or false already.",
        ),
        (
            "{{#if (eq @index Name)}}{{/if}}",
            "t.hbs:1:43: `@index` is a number and `Name` is text, so they are never equal. Compare values of one kind.",
        ),
    ] {
        let found = templates(&set(
            &format!("{{{{#each (service \"web\")}}}}{inner}{{{{/each}}}}"),
            &[],
        ));
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, [sentence], "{inner}");
    }
    let found = templates(&set(
        "{{#each (where (service \"w\") \"Port\" \"80\")}}{{/each}}",
        &[],
    ));
    assert_eq!(
        found[0].to_string(),
        "t.hbs:1:38: `Port` is a number and `80` is text, so no item is ever found. Write 80 without quotes."
    );
    for good in [
        "(eq Port 80)",
        "(eq Status \"passing\")",
        "(eq (key \"a\") \"1\")",
        "(eq (parameter \"a\" 1) \"1\")",
        "(eq (lookup this \"Port\") \"1\")",
        "(eq (len Tags) 2)",
        "(eq @first true)",
    ] {
        let text =
            format!("{{{{#each (service \"web\")}}}}{{{{#if {good}}}}}{{{{/if}}}}{{{{/each}}}}");
        assert_eq!(codes(&text, &[]), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn names_that_hide_something_or_that_nothing_reads_are_told() {
    for (bad, told) in [
        (
            "{{#each (parameters \"k\") as |nodes|}}{{/each}}",
            "shadows-helper t.hbs:1:30 nodes",
        ),
        (
            "{{#each (service \"a\") as |s services|}}{{/each}}",
            "shadows-helper t.hbs:1:29 services",
        ),
        (
            "{{#each (service \"a\") as |Port|}}{{Port.ID}}{{/each}}",
            "shadows-field t.hbs:1:27 Port",
        ),
        (
            "{{#let 1 as |Name|}}{{Name}}{{#each (services)}}{{Name}}{{/each}}{{/let}}",
            "shadows-field t.hbs:1:14 Name",
        ),
        (
            "{{#let 1 as |n|}}{{#let 2 as |m|}}{{m}}{{/let}}{{/let}}",
            "unused-name t.hbs:1:14 n",
        ),
    ] {
        assert_eq!(codes(bad, &[]), [told], "{bad}");
    }
    for good in [
        "{{#let 1 as |n|}}{{#if true}}{{add n 1}}{{/if}}{{/let}}",
        "{{#let 1 as |n|}}{{> p x=n}}{{/let}}",
        "{{#let 1 as |n|}}{{#each (service \"a\")}}{{else}}{{n}}{{/each}}{{/let}}",
        "{{#let 1 as |n|}}{{> p}}{{/let}}",
        "{{#let 1 as |n|}}{{#*inline \"i\"}}{{n}}{{/inline}}{{> i}}{{/let}}",
        "{{#let 1 as |n|}}{{#> p}}{{n}}{{/p}}{{/let}}",
        "{{#each (parameters \"k\") as |key index|}}{{key}}{{index}}{{/each}}",
    ] {
        let partials = [("p", "{{x}}{{n}}")];
        let mut told = codes(good, &partials);
        told.retain(|one| !one.starts_with("unknown-field p.hbs"));
        assert_eq!(told, Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_backend_that_may_have_no_server_says_what_is_to_be_then() {
    assert_eq!(
        told("backend web\n    balance roundrobin\n{{#each (service \"web\")}}\n    server {{ID}} {{serverAddress this}}\n{{/each}}\n", &[]),
        "warning[no-else]: This loop has no {{else}}: when it has no round, the backend `web` has no server at all, and HAProxy answers 503 to everybody.
 --> t.hbs:3:1
  |
3 | {{#each (service \"web\")}}
  | ^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: Say after {{else}} what is to be then: a server of your own, `http-request return status 503` with a page, or a comment that 503 is meant. A line `server … backup` beside the loop helps, too.
"
    );
    let each = "{{#each (service \"web\")}}\n server a {{Address}}\n{{/each}}\n";
    for bad in [
        format!("backend a\n{each}backend b\n server x 10.0.0.1:80\n"),
        format!("{{{{#each (services)}}}}\nbackend {{{{Name}}}}\n{each}{{{{else}}}}\n# none\n{{{{/each}}}}\n"),
        format!("listen l\n bind :80\n{{{{> p}}}}\n{each}"),
        "backend a\n{{#let (service \"web\") as |all|}}\n{{#each all}}\n server a {{Address}}\n{{/each}}\n{{/let}}\n".to_owned(),
        "backend a\n{{#each (service \"web\")}}\n{{#if Tags}}\n server a {{Address}}\n{{else}}\n server b {{Address}}\n{{/if}}\n{{/each}}\n".to_owned(),
        "backend a\n {{servers (service \"web\")}}\n".to_owned(),
        "backend a\n{{#each (where (service \"web\") \"Node\" \"n\")}} server a {{Address}}\n{{/each}}\n".to_owned(),
    ] {
        let told = codes(&bad, &[("p", " mode http\n")]);
        assert_eq!(told.len(), 1, "{bad}: {told:?}");
        assert!(told[0].starts_with("no-else"), "{bad}: {told:?}");
    }
    let otherwise =
        "{{#each (service \"web\")}}\n server a {{Address}}\n{{else}}\n # none\n{{/each}}\n";
    for good in [
        format!("backend a\n{otherwise}"),
        format!("backend a\n{each} server sorry 10.0.0.1:80 backup\n"),
        format!("backend a\n http-request return status 503 if FALSE\n{each}"),
        format!("backend a\n errorfile 503 /e.http\n{each}"),
        format!("{{{{#if (service \"web\")}}}}\nbackend a\n{each}{{{{/if}}}}\n"),
        "backend a\n{{#if (service \"web\")}}\n {{servers (service \"web\")}}\n{{else}}\n # none\n{{/if}}\n".to_owned(),
        format!("frontend f\n use_backend b if {{ nbsrv(a) lt 1 }}\nbackend a\n{each}"),
        "backend a\n {{slots (service \"web\") name=\"a\"}}\n".to_owned(),
        "backend a\n{{#each (parameters \"list\")}}\n server s{{@index}} {{this}}\n{{/each}}\n".to_owned(),
        "{{#each (byTag (service \"web\"))}}\nbackend {{@key}}\n{{#each this}}\n server a {{Address}}\n{{/each}}\n{{/each}}\n".to_owned(),
        "{{#each (service \"web\")}}\nbackend {{ID}}\n server a {{Address}}\n{{/each}}\n".to_owned(),
        "frontend f\n{{#each (service \"web\")}}\n acl {{ID}} src {{Address}}\n{{/each}}\n".to_owned(),
        "resolvers r\n{{#each (service \"dns\")}}\n nameserver {{ID}} {{Address}}:53\n{{/each}}\n".to_owned(),
    ] {
        assert_eq!(codes(&good, &[]), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn partials_that_include_each_other_a_thousandfold_end() {
    let names: Vec<String> = (0..24).map(|number| format!("p{number}")).collect();
    let texts: Vec<String> = (1..=24)
        .map(|next| format!("{{{{> p{next}}}}}{{{{> p{next}}}}}"))
        .collect();
    let mut partials: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    partials.push(("p24", "x"));
    assert_eq!(codes("{{> p0}}", &partials), Vec::<String>::new());
}
