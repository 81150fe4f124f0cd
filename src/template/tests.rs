use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::catalog::Known;
use crate::catalog::fixture::Fixture;
use crate::diagnostic::{Diagnostic, render as show};

const CATALOG: &str = r#"{
    "services": {
        "web": [
            { "Address": "10.0.0.1", "Port": 8080, "Node": "n1", "ID": "web-1", "Tags": ["prod", "a"], "ServiceMeta": {"zone": "x"} },
            { "Address": "fd00::2", "Port": 8081, "Node": "n2", "ID": "web-2", "Tags": ["prod"], "ServiceMeta": {"zone": "y"}, "Weights": {"Passing": 7} },
            { "Address": "10.0.0.3", "Port": 8082, "Node": "n3", "ID": "web-3", "Status": "critical" }
        ],
        "other": []
    },
    "keys": { "app/max": "20", "app/deep/x": "1", "app/deep/y": "2", "empty": "", "json": "{\"a\":[1,2]}", "words": "a b\"c" },
    "datacenters": ["dc1", "dc2"]
}"#;

pub(super) fn source(text: &str) -> Source {
    Source {
        name: "t".into(),
        path: "t.hbs".into(),
        text: text.into(),
        grammar: Grammar::Haproxy,
    }
}

pub(super) fn partial(name: &str, text: &str) -> Source {
    Source {
        name: name.into(),
        path: format!("{name}.hbs").into(),
        ..source(text)
    }
}

pub(super) fn options() -> Options {
    let parameters = serde_json::json!({ "listen": "127.0.0.1:80", "services": ["web", "other"] });
    Options {
        parameters: parameters.as_object().unwrap().clone(),
        raw: true,
        environment: [
            ("HOME".to_owned(), Some("/root".to_owned())),
            ("UNSET".to_owned(), None),
        ]
        .into(),
        ..Options::default()
    }
}

pub(super) fn load(text: &str, partials: &[(&str, &str)]) -> Result<TemplateSet, Vec<Diagnostic>> {
    let partials = partials
        .iter()
        .map(|(name, text)| partial(name, text))
        .collect();
    TemplateSet::load(vec![source(text)], partials, options()).map(|(set, _)| set)
}

/// Renders as the sidecar does: in rounds, until every query is answered.
pub(super) fn complete(set: &mut TemplateSet, catalog: &str) -> Result<Rendering, Vec<Diagnostic>> {
    let fixture: Fixture = serde_json::from_str(catalog).unwrap();
    let mut answers = BTreeMap::new();
    for _ in 0..10 {
        match set.render(&answers)? {
            Outcome::Complete(rendering) => return Ok(rendering),
            Outcome::Incomplete { needed, absent, .. } => {
                assert!(!needed.is_empty(), "waits for {absent:?}");
                for query in needed {
                    let known = Known {
                        answer: Arc::new(fixture.answer(&query).unwrap()),
                        revision: 1,
                    };
                    answers.insert(query, known);
                }
            }
        }
    }
    panic!("it never ended");
}

pub(super) fn rendered(text: &str, partials: &[(&str, &str)]) -> String {
    let result = load(text, partials).and_then(|mut set| complete(&mut set, CATALOG));
    match result {
        Ok(rendering) => rendering.files.into_iter().next().unwrap(),
        Err(wrong) => wrong.iter().map(|one| show(one, false)).collect(),
    }
}

#[test]
fn helpers_do_what_the_reference_says() {
    for (template, expected) in [
        // The catalog.
        (
            "x {{#each (service \"web\")}}{{ID}} {{/each}}",
            "x web-1 web-2 ",
        ),
        (
            "x {{#each (service \"web\" status=\"any\")}}{{Status}} {{/each}}",
            "x passing passing critical ",
        ),
        (
            "x {{#each (service \"a.web\")}}{{ID}} {{/each}}",
            "x web-1 ",
        ),
        (
            "x {{#each (service \"web|critical,warning\")}}{{ID}} {{/each}}",
            "x web-3 ",
        ),
        (
            "x {{#each (service \"other\")}}{{ID}}{{else}}none{{/each}}",
            "x none",
        ),
        (
            "x {{#each (service \"web\") as |s i|}}{{i}}={{s.Address}}:{{s.Port}} {{/each}}",
            "x 0=10.0.0.1:8080 1=fd00::2:8081 ",
        ),
        (
            "x {{#each (service \"web\")}}{{ServiceMeta.zone}}{{Weights.Passing}} {{/each}}",
            "x x1 y7 ",
        ),
        (
            "x {{#each (services)}}{{Name}}:{{len Tags}} {{/each}}",
            "x other:0 web:2 ",
        ),
        (
            "x {{#each (services)}}{{Name}}:{{len (service Name)}} {{/each}}",
            "x other:0 web:2 ",
        ),
        ("x {{#each (nodes)}}{{Node}} {{/each}}", "x n1 n2 n3 "),
        (
            "x {{#with (node \"n2\")}}{{Node.Address}}{{#each Services}}/{{ID}}{{/each}}{{/with}}",
            "x fd00::2/web-2",
        ),
        (
            "x {{#with (node \"no\")}}y{{else}}z{{/with}}{{#with (node \"no\")}}y{{/with}}",
            "x z",
        ),
        ("x {{join (datacenters) \",\"}}", "x dc1,dc2"),
        ("x {{key \"app/max\"}}", "x 20"),
        (
            "x {{keyOrDefault \"no\" \"5\"}}{{keyOrDefault \"empty\" \"6\"}}{{keyOrDefault \"app/max\" \"7\"}}",
            "x 5620",
        ),
        (
            "x {{#if (keyExists \"app/max\")}}y{{/if}}{{#if (keyExists \"no\")}}z{{/if}}",
            "x y",
        ),
        (
            "x {{#each (ls \"app\")}}{{Key}}={{Value}} {{/each}}",
            "x max=20 ",
        ),
        (
            "x {{#each (tree \"app\")}}{{Key}}={{Value}} {{/each}}",
            "x deep/x=1 deep/y=2 max=20 ",
        ),
        // HAProxy.
        (
            "x {{#each (service \"web\")}}{{serverName this}} {{serverAddress this}} {{/each}}",
            "x n1:web-1 10.0.0.1:8080 n2:web-2 [fd00::2]:8081 ",
        ),
        (
            "b\n    {{servers (service \"web\") options=\"check inter 2s\" weight=true}}\nend",
            "b\n    server n1:web-1 10.0.0.1:8080 id 751013519 check inter 2s weight 1\n    server n2:web-2 [fd00::2]:8081 id 1894432364 check inter 2s weight 7\nend",
        ),
        (
            "x {{#each (service \"web\")}}{{serverId this}} {{/each}}",
            "x 751013519 1894432364 ",
        ),
        (
            "b\n    {{slots (service \"web\") name=\"web\" spare=1 options=\"check\"}}\nend",
            "b\n    server web-1 10.0.0.1:8080 id 1 check\n    server web-2 [fd00::2]:8081 id 2 check\n    server web-3 127.0.0.1:1 id 3 disabled check\nend",
        ),
        (
            "x {{key \"words\"}}|{{raw (key \"words\")}}",
            "x a\\ b\\\"c|a b\"c",
        ),
        // Parameters and environment.
        (
            "x {{parameter \"listen\"}} {{parameter \"no\" \"d\"}}",
            "x 127.0.0.1:80 d",
        ),
        (
            "x {{#each (parameters \"services\")}}{{this}} {{/each}}{{#each (parameters \"listen\")}}{{this}}{{/each}}",
            "x web other 127.0.0.1:80",
        ),
        ("x {{env \"HOME\"}}{{env \"UNSET\"}}", "x /root"),
        // Lists.
        (
            "x {{#each (byTag (service \"web\"))}}{{@key}}={{#each this}}{{ID}},{{/each}} {{/each}}",
            "x a=web-1, prod=web-1,web-2, ",
        ),
        (
            "x {{#each (byMeta (service \"web\") \"zone\")}}{{@key}}={{len this}} {{/each}}",
            "x x=1 y=1 ",
        ),
        (
            "x {{#each (byKey (tree \"app\"))}}{{@key}}:{{#each this}}{{Key}}{{Value}} {{/each}}{{/each}}",
            "x deep:x1 y2 ",
        ),
        (
            "x {{#each (where (service \"web\") \"ServiceMeta.zone\" \"y\")}}{{ID}}{{/each}}",
            "x web-2",
        ),
        (
            "x {{#each (sortBy (service \"web\") \"Port\" \"desc\")}}{{ID}} {{/each}}",
            "x web-2 web-1 ",
        ),
        ("x {{len (uniq (service \"web\") \"Name\")}}", "x 1"),
        (
            "x {{#with (first (service \"web\"))}}{{ID}}{{/with}}{{#with (last (service \"web\"))}}{{ID}}{{/with}}",
            "x web-1web-2",
        ),
        ("x {{len (limit (service \"web\") 1)}}", "x 1"),
        (
            "x {{#each (service \"web\")}}{{#if (contains \"a\" Tags)}}{{ID}}{{/if}}{{#if (in Tags \"no\")}}!{{/if}}{{/each}}",
            "x web-1",
        ),
        // Text.
        (
            "x {{join (split \",\" \"a,b\") \"-\"}}{{toUpper \"a\"}}{{toLower \"B\"}}{{trim \" c \"}}",
            "x a-bAbc",
        ),
        (
            "x {{replaceAll \"-\" \"_\" \"a-b\"}}{{regexReplace \"b+\" \"<$0>\" \"abba\"}}",
            "x a_ba<bb>a",
        ),
        (
            "x {{#if (regexMatch \"^a.c$\" \"abc\")}}y{{/if}}{{default no \"d\"}}",
            "x yd",
        ),
        // Comparison.
        (
            "x {{#if (and (eq 1 1.0) (ne \"a\" \"b\") (lt 1 2) (ge 2 2) (gt \"b\" \"a\") (le 1 1))}}y{{/if}}",
            "x y",
        ),
        (
            "x {{or \"\" \"d\"}}{{and \"a\" \"b\"}}{{#if (not \"\")}}n{{/if}}",
            "x dbn",
        ),
        // Numbers.
        (
            "x {{add 1 2}} {{subtract 1 5}} {{multiply 2 3}} {{divide 2 9}} {{modulo 4 9}} {{parseInt \"12\"}}",
            "x 3 4 6 4 1 12",
        ),
        ("x {{#if (parseBool \"false\")}}y{{else}}n{{/if}}", "x n"),
        // Formats.
        (
            "x {{join (lookup (parseJSON (key \"json\")) \"a\") \"+\"}}{{base64Decode (base64Encode \"hi\")}}",
            "x 1+2hi",
        ),
        (
            "x '{{toJSON (parseJSON (key \"json\"))}}'",
            "x '{\"a\":[1,2]}'",
        ),
        // Blocks.
        (
            "x {{#let (key \"app/max\") as |max|}}{{max}}{{max}}{{/let}}",
            "x 2020",
        ),
        (
            "x {{#each (service \"web\")}}{{#let Port as |p|}}{{ID}}{{p}} {{/let}}{{/each}}",
            "x web-18080 web-28081 ",
        ),
        ("x {{{{raw}}}}{{as it is}}{{{{/raw}}}}", "x {{as it is}}"),
        ("a\n{{#if true}}\nb\n{{/if}}\nc", "a\nb\nc"),
    ] {
        assert_eq!(rendered(template, &[]), expected, "{template}");
    }
}

#[test]
fn partials_see_what_is_around_them() {
    assert_eq!(
        rendered(
            "x\n{{#each (service \"web\")}}\n  {{> line weight=3}}\n{{/each}}\n{{> foot}}",
            &[
                ("line", "server {{ID}} {{weight}}\n"),
                ("foot", "# {{len (service \"web\")}}\n")
            ],
        ),
        "x\n  server web-1 3\n  server web-2 3\n# 2\n"
    );
    assert_eq!(
        rendered(
            "{{#*inline \"i\"}}x {{key \"app/max\"}}{{/inline}}{{> i}} {{> i}}",
            &[]
        ),
        "x 20 x 20"
    );
}

// D01 D03 D04 D09
/// What is refused when it is loaded or rendered, word by word.
#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (template, expected) in [
        (
            "a\n{{#each (service \"web\")}}\n  {{Adress}}\n{{/each}}",
            "error[missing-value]: There is no `Adress` here.\n --> t.hbs:3:3\n  |\n3 |   {{Adress}}\n  |   ^^^^^^^^^^\n  |\n  = help: Did you mean `Address`?\n",
        ),
        (
            "x {{#each (service \"web\")}}",
            "error[unclosed-block]: The block `each` is opened here and never closed.\n --> t.hbs:1:3\n  |\n1 | x {{#each (service \"web\")}}\n  |   ^^^^^^^^^^^^^^^^^^^^^^^^^\n  |\n  = help: Add {{/each}}.\n",
        ),
        (
            "{{#if a}}\n{{#each b}}\n{{/if}}\n{{/each}}",
            "error[mismatched-block]: `if` is closed here, but the block open at this point is `each` of line 2.\n --> t.hbs:3:1\n  |\n3 | {{/if}}\n  | ^^^^^^^\n  |\n  = help: Close it with {{/each}} first.\nerror[stray-tag]: There is no open block for `each` here.\n --> t.hbs:4:1\n  |\n4 | {{/each}}\n  | ^^^^^^^^^\n  |\n  = help: Take it out, or add the tag that opens the block.\n",
        ),
        (
            "x {{toUper \"a\"}}",
            "error[unknown-helper]: There is no helper `toUper`.\n --> t.hbs:1:5\n  |\n1 | x {{toUper \"a\"}}\n  |     ^^^^^^\n  |\n  = help: Did you mean `toUpper`?\n",
        ),
        (
            "x {{{Name}}}",
            "error[unescaped-output]: `{{{…}}}` would write a value without escaping.\n --> t.hbs:1:3\n  |\n1 | x {{{Name}}}\n  |   ^^^^^^^^^\n  |\n  = help: Write {{…}}, or {{raw …}} if the value may add words and lines.\n",
        ),
        (
            "x {{#each (service \"web\" tga=\"a\")}}{{/each}}",
            "error[unknown-pair]: `service` does not take `tga=`.\n --> t.hbs:1:12\n  |\n1 | x {{#each (service \"web\" tga=\"a\")}}{{/each}}\n  |            ^^^^^^^\n  |\n  = help: Did you mean `tag=`?\n",
        ),
        (
            "x {{join Tags}}",
            "error[parameters]: `join` takes 2 parameters and got 1.\n --> t.hbs:1:5\n  |\n1 | x {{join Tags}}\n  |     ^^^^\n  |\n  = help: It is written as {{join Tags \",\"}}.\n",
        ),
        (
            "x {{#with (first (service \"web\"))}}{{Tags}}{{/with}}",
            "error[helper]: The value of `Tags` is a list of 2, which cannot be written as text. Use {{#each}}, {{join}}, {{toJSON}} or one of its fields.\n --> t.hbs:1:36\n  |\n1 | x {{#with (first (service \"web\"))}}{{Tags}}{{/with}}\n  |                                    ^^^^^^^^\n",
        ),
        (
            "x {{divide 0 5}}",
            "error[helper]: A number cannot be divided by 0.\n --> t.hbs:1:3\n  |\n1 | x {{divide 0 5}}\n  |   ^^^^^^^^^^^^^^\n",
        ),
        (
            "{{key \"words\"}} on",
            "error[hostile-value]: The value is the first word of a line, where it would choose the keyword.\n --> t.hbs:1:1\n  |\n1 | {{key \"words\"}} on\n  | ^^^^^^^^^^^^^^^\n  |\n  = help: Write the keyword in the template, or use {{raw …}} if a value must choose it.\n",
        ),
        (
            "x {{> missing}}",
            "error[unknown-partial]: There is no partial `missing`.\n --> t.hbs:1:7\n  |\n1 | x {{> missing}}\n  |       ^^^^^^^\n  |\n  = help: Put `missing.hbs` into the folder that templates.partials names.\n",
        ),
        (
            "x {{env \"CONSUL_HTTP_TOKEN\"}}",
            "error[helper]: Templates may not read the environment variable `CONSUL_HTTP_TOKEN`. Name it in templates.environment.\n --> t.hbs:1:3\n  |\n1 | x {{env \"CONSUL_HTTP_TOKEN\"}}\n  |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^\n",
        ),
    ] {
        assert_eq!(rendered(template, &[]), expected, "{template}");
    }
}

/// Fields and functions that people know from consul-template and that are not here.
#[test]
fn what_consul_template_has_and_this_has_not_is_explained() {
    const CHECKS: &str = "  = help: The checks of an instance are left out: their output may change at any time, and each change would be one of the configuration. Status is what Consul makes of them all, and (service \"…\" status=\"any\") gives instances of every state.\n";
    for (template, expected) in [
        (
            "x {{#each (service \"web\")}}{{#each Checks}}{{Status}}{{/each}}{{/each}}",
            "error[absent-field]: There is no `Checks` here.\n --> t.hbs:1:36\n  |\n1 | x {{#each (service \"web\")}}{{#each Checks}}{{Status}}{{/each}}{{/each}}\n  |                                    ^^^^^^\n  |\n",
        ),
        (
            "x {{#each (service \"web\") as |s|}}{{len s.Checks}}{{/each}}",
            "error[absent-field]: There is no `Checks` here.\n --> t.hbs:1:43\n  |\n1 | x {{#each (service \"web\") as |s|}}{{len s.Checks}}{{/each}}\n  |                                           ^^^^^^\n  |\n",
        ),
        (
            "x {{#with (first (service \"web\"))}}{{len Checks}}{{/with}}",
            "error[missing-value]: There is no `Checks` here.\n --> t.hbs:1:36\n  |\n1 | x {{#with (first (service \"web\"))}}{{len Checks}}{{/with}}\n  |                                    ^^^^^^^^^^^^^^\n  |\n",
        ),
    ] {
        assert_eq!(
            rendered(template, &[]),
            format!("{expected}{CHECKS}"),
            "{template}"
        );
    }
    assert_eq!(
        rendered("x {{timestamp \"unix\"}}", &[]),
        "error[unknown-helper]: There is no helper `timestamp`.\n --> t.hbs:1:5\n  |\n1 | x {{timestamp \"unix\"}}\n  |     ^^^^^^^^^\n  |\n  = help: It is not here. A file with the time in it is never the same.\n"
    );
    // A field of one's own may have the name.
    assert_eq!(
        rendered(
            "x {{#let (parseJSON \"{\\\"Checks\\\":1}\") as |s|}}{{s.Checks}}{{/let}}",
            &[]
        ),
        "x 1"
    );
}

/// Helpers that want parameters leave their names to what a block binds.
#[test]
fn a_bound_name_may_be_that_of_a_helper() {
    assert_eq!(
        rendered(
            "x {{#each (service \"web\") as |s index|}}{{index}}{{add index 1}}{{> p key=index}} {{/each}}",
            &[("p", "({{key}})")]
        ),
        "x 01(0) 12(1) "
    );
    assert!(rendered("x {{toUpper}}", &[]).starts_with("error[parameters]"));
    assert!(
        rendered(
            "x {{#each (services) as |services|}}{{/each}}{{len (services)}}",
            &[]
        )
        .ends_with('2')
    );
}

/// What is demanded and not there keeps the rendering from being used.
#[test]
fn keys_and_folders_are_waited_for_where_that_is_demanded() {
    let fixture: Fixture = serde_json::from_str(CATALOG).unwrap();
    let waits_for = |text: &str| -> Vec<String> {
        let mut set = load(text, &[]).unwrap();
        let mut answers = BTreeMap::new();
        loop {
            match set.render(&answers).unwrap() {
                Outcome::Complete(_) => return Vec::new(),
                Outcome::Incomplete { needed, absent, .. } if needed.is_empty() => {
                    return absent.iter().map(ToString::to_string).collect();
                }
                Outcome::Incomplete { needed, .. } => {
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
            }
        }
    };
    for (text, expected) in [
        ("x {{key \"no\"}}", vec!["key \"no\""]),
        (
            "x {{#each (safeTree \"no\")}}{{Key}}{{/each}}",
            vec!["tree \"no\""],
        ),
        ("x {{#if (safeTree \"no\")}}{{/if}}", vec!["tree \"no\""]),
        ("x {{len (safeLs \"no/x\")}}", vec!["tree \"no/x\""]),
        // Only keys in a folder below.
        (
            "x {{len (tree \"app\")}}{{len (safeLs \"app/deep\")}}",
            vec![],
        ),
        (
            "x {{len (safeTree \"app\")}}{{len (ls \"no\")}}{{keyOrDefault \"no\" \"\"}}",
            vec![],
        ),
    ] {
        assert_eq!(waits_for(text), expected, "{text}");
    }
}

// D05
#[test]
fn partials_that_include_each_other_are_refused() {
    let text = rendered("x {{> a}}", &[("a", "{{> b}}"), ("b", "{{> a}}")]);
    assert!(
        text.contains("error[partial-cycle]: Partials include each other without end: a → b → a."),
        "{text}"
    );
    let text = rendered("x {{> a}}", &[("a", "{{> a}}")]);
    assert!(text.contains("a → a"), "{text}");
    let text = rendered("{{#*inline \"i\"}}{{> i}}{{/inline}}{{> i}}", &[]);
    assert!(text.contains("i → i"), "{text}");
}

// D05 D06
#[test]
fn nesting_and_size_have_bounds() {
    let deep = format!("{}{}", "{{#if a}}".repeat(1000), "{{/if}}".repeat(1000));
    assert!(rendered(&deep, &[]).contains("nested-too-deep"));
    let large = rendered(&"x".repeat((1 << 20) + 1), &[]);
    assert!(
        large.contains("has 1048577 bytes, and templates.max_template allows 1048576."),
        "{large}"
    );
    let expression = format!("x {{{{{}1{}}}}}", "(not ".repeat(2000), ")".repeat(2000));
    let text = rendered(&expression, &[]);
    assert!(
        text.starts_with("error["),
        "{}",
        &text[..200.min(text.len())]
    );
    let small = Options {
        max_output: 1000,
        ..options()
    };
    let (mut set, _) = TemplateSet::load(
        vec![source("{{#each (service \"web\")}}x                                                  {{/each}}\n")],
        Vec::new(),
        Options { max_output: 60, ..small },
    )
    .unwrap();
    let wrong = complete(&mut set, CATALOG).unwrap_err();
    assert_eq!(wrong[0].code, "output-too-large");
}

#[test]
fn queries_with_literal_parameters_are_known_before_any_rendering() {
    let set = load(
        "{{#if x}}{{> p}}{{/if}}{{len (service \"web\" tag=\"a\")}}{{#each (services)}}{{len (service Name)}}{{/each}}",
        &[("p", "{{keyOrDefault \"k\" (toUpper \"a\")}}"), ("unused", "{{key \"never\"}}")],
    )
    .unwrap();
    let queries: Vec<String> = set
        .literal_queries()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        queries,
        ["service \"web\" tag=\"a\"", "services", "key \"k\""]
    );
}

#[test]
fn what_is_not_known_yet_is_named() {
    let mut set = load("x {{key \"no\"}}{{len (service \"web\")}}", &[]).unwrap();
    let Ok(Outcome::Incomplete { needed, absent, .. }) = set.render(&BTreeMap::new()) else {
        panic!("it is not complete");
    };
    assert_eq!((needed.len(), absent.len()), (2, 0));
    let fixture: Fixture = serde_json::from_str(CATALOG).unwrap();
    let answers: BTreeMap<Query, Known> = needed
        .into_iter()
        .map(|query| {
            let answer = Arc::new(fixture.answer(&query).unwrap());
            (
                query,
                Known {
                    answer,
                    revision: 1,
                },
            )
        })
        .collect();
    let Ok(Outcome::Incomplete {
        needed,
        absent,
        used,
    }) = set.render(&answers)
    else {
        panic!("the key is not there");
    };
    assert_eq!(needed, BTreeSet::new());
    assert_eq!(absent, BTreeSet::from([Query::key("no")]));
    assert_eq!(used.len(), 2);
}

#[test]
fn each_line_knows_where_it_came_from() {
    let text = "global\n    maxconn {{key \"app/max\"}}\n{{#each (service \"web\")}}\n{{> line}}\n{{/each}}\nend {{len (services)}}\n";
    let mut set = load(text, &[("line", "# one\nserver {{ID}}\n")]).unwrap();
    let rendering = complete(&mut set, CATALOG).unwrap();
    let lines = "global\n    maxconn 20\n# one\nserver web-1\n# one\nserver web-2\nend 2\n";
    assert_eq!(rendering.files, [lines]);
    let map = set.source_maps(&rendering.files).remove(0);
    let chain = |line| -> Vec<String> {
        map.origin(line)
            .unwrap()
            .chain
            .iter()
            .map(|at| format!("{}:{}", at.path.display(), at.line))
            .collect()
    };
    assert_eq!(chain(1), ["t.hbs:1"]);
    assert_eq!(chain(2), ["t.hbs:2"]);
    assert_eq!(chain(3), ["line.hbs:1", "t.hbs:4"]);
    assert_eq!(chain(6), ["line.hbs:2", "t.hbs:4"]);
    assert_eq!(chain(7), ["t.hbs:6"]);
    let queries = |line| -> Vec<String> {
        map.origin(line)
            .unwrap()
            .queries
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(queries(1), [""; 0]);
    assert_eq!(queries(2), ["key \"app/max\""]);
    assert_eq!(queries(4), ["service \"web\""]);
    assert_eq!(queries(7), ["services"]);
    assert_eq!(map.lines_of(&Query::service("web")), [3, 4, 5, 6]);
    let items = |line| -> Vec<String> {
        let items = map.origin(line).unwrap().items;
        items.into_iter().map(|item| item.what).collect()
    };
    assert_eq!(items(2), [""; 0]);
    assert_eq!(items(4), ["Instance web-1 on node n1"]);
    assert_eq!(items(5), ["Instance web-2 on node n2"]);
    assert_eq!(items(7), [""; 0]);
}

/// Each stretch of a line with the place that made it, as `text<line:column+length of the template`.
fn stretches(map: &SourceMap, text: &str, line: usize) -> Vec<String> {
    let shown: Vec<char> = text.lines().nth(line - 1).unwrap().chars().collect();
    let parts = map.parts(line).into_iter().map(|part| {
        let text: String = shown[part.column - 1..part.column - 1 + part.length]
            .iter()
            .collect();
        let place = part.place;
        let sign = if part.value { '=' } else { '<' };
        format!(
            "{text}{sign}{}:{}+{}",
            place.line, place.column, place.length
        )
    });
    parts.collect()
}

#[test]
fn a_source_map_knows_the_column_of_each_stretch() {
    let text = "frontend é\n{{#each (service \"web\")}}\n    server {{ID}} {{serverAddress this}} check\n{{else}}\n    # none\n{{/each}}\n{{servers (service \"web\") options=\"check\"}} x\nend\n";
    let mut set = load(text, &[]).unwrap();
    let rendering = complete(&mut set, CATALOG).unwrap();
    let map = set.source_maps(&rendering.files).remove(0);
    let file = &rendering.files[0];
    assert_eq!(stretches(&map, file, 1), ["frontend é<1:1+10"]);
    assert_eq!(
        stretches(&map, file, 2),
        [
            "    server <3:1+11",
            "web-1=3:12+6",
            " <3:18+1",
            "10.0.0.1:8080=3:19+22",
            " check<3:41+6",
        ]
    );
    // All lines of `servers` come of its tag, each of an instance of its own.
    let servers = r#"{{servers (service "web") options="check"}}"#.len();
    assert_eq!(map.parts(4)[0].place.line, 7);
    assert_eq!(map.parts(5)[0].place.length, servers);
    assert_eq!(
        map.origin(5).unwrap().items[0].what,
        "Instance web-2 on node n2"
    );
    assert_eq!(
        stretches(&map, file, 5)[1],
        format!(" x<7:{}+2", servers + 1)
    );
    assert_eq!(stretches(&map, file, 6), ["end<8:1+3"]);
    assert_eq!(map.part(2, 12).unwrap().place.column, 12);
    assert_eq!(map.part(2, 99), None);
    assert_eq!(map.part(99, 1), None);
}

#[test]
fn only_what_changed_is_taken_in_and_the_text_is_always_the_same() {
    let mut set = load("x {{#each (service \"web\")}}{{ID}} {{/each}}", &[]).unwrap();
    let query = Query::service("web");
    let mut render = |catalog: &str, revision| {
        let fixture: Fixture = serde_json::from_str(catalog).unwrap();
        let answer = Arc::new(fixture.answer(&query).unwrap());
        let answers = BTreeMap::from([(query.clone(), Known { answer, revision })]);
        match set.render(&answers) {
            Ok(Outcome::Complete(rendering)) => rendering.files[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    let less = CATALOG.replace("web-1", "web-0");
    assert_eq!(render(CATALOG, 1), "x web-1 web-2 ");
    assert_eq!(render(CATALOG, 1), "x web-1 web-2 ");
    // The same revision means the same answer: it is not even looked at.
    assert_eq!(render(&less, 1), "x web-1 web-2 ");
    assert_eq!(render(&less, 2), "x web-0 web-2 ");
}

// C12
#[test]
fn ten_thousand_servers_are_rendered() {
    let instances: Vec<String> = (0..10_000)
        .map(|n| {
            format!(
                r#"{{"Address": "10.0.{}.{}", "Port": 80}}"#,
                n / 250,
                n % 250
            )
        })
        .collect();
    let catalog = format!(r#"{{"services": {{"web": [{}]}}}}"#, instances.join(","));
    let mut set = load(
        "backend b\n    {{servers (service \"web\") options=\"check\"}}\n",
        &[],
    )
    .unwrap();
    let rendering = complete(&mut set, &catalog).unwrap();
    assert_eq!(rendering.files[0].lines().count(), 10_001);
    assert_eq!(rendering.quarantined, []);
}

#[test]
fn the_shipped_templates_load() {
    let (set, warnings) = TemplateSet::load(
        vec![source(crate::template::shipped("http").unwrap())],
        crate::template::shipped_partials(),
        options(),
    )
    .unwrap_or_else(|wrong| {
        panic!(
            "{}",
            wrong.iter().map(|one| show(one, false)).collect::<String>()
        )
    });
    assert_eq!(warnings, []);
    drop(set);
}

proptest! {
    /// Templates of any text are refused or rendered, and nothing panics.
    #[test]
    fn no_template_makes_it_panic(
        parts in proptest::collection::vec(prop_oneof![
            Just("{{#if x}}"), Just("{{/if}}"), Just("{{else}}"), Just("{{> p}}"), Just("{{"), Just("}}"),
            Just("{{#each (service \"web\")}}"), Just("{{/each}}"), Just("{{ID}}"), Just("\n"), Just(" x "),
            Just("{{#*inline \"p\"}}"), Just("{{/inline}}"), Just("{{@index}}"), Just("{{../x}}"), Just("\""), Just("{{this}}"),
            Just("{{#let 1 as |v|}}"), Just("{{/let}}"), Just("{{v}}"), Just("{{#> p}}"), Just("{{/p}}"), Just("{{~"), Just("(")
        ], 0..12)
    ) {
        let text: String = parts.concat();
        if let Ok(mut set) = load(&text, &[("p", "x {{ID}} {{> @partial-block}}")]) {
            let _ = complete(&mut set, CATALOG);
        }
    }
}

/// `toJSON` writes quotes, which only a plain file takes as they are.
fn routes_of(call: &str) -> Result<serde_json::Value, Vec<Diagnostic>> {
    let plain = Source {
        grammar: Grammar::Plain,
        ..source(&format!(
            "{{{{toJSON ({call} prefix=\"pr\" overrides=\"\")}}}}"
        ))
    };
    let (mut set, _) = TemplateSet::load(vec![plain], Vec::new(), options())?;
    let rendering = complete(&mut set, CATALOG)?;
    Ok(serde_json::from_str(&rendering.files[0]).unwrap())
}

#[test]
fn a_part_of_the_routes_is_the_field_of_that_name() {
    let whole = routes_of("routes").unwrap();
    let parts = whole.as_object().unwrap();
    for (name, part) in parts {
        assert_eq!(
            routes_of(&format!("routes \"{name}\"")).as_ref(),
            Ok(part),
            "{name}"
        );
    }
    // The tag `prod` asks for the host `od`.
    assert_eq!(parts["http"][0]["key"], "2:od/");
    assert_eq!(parts["backends"][0]["servers"][1]["Address"], "fd00::2");
    let wrong = routes_of("routes \"servers\"").unwrap_err();
    assert!(
        wrong[0]
            .message
            .starts_with("`routes` has no part `servers`. It has: http,")
    );
}
