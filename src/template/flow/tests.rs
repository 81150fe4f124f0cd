//! What helpers make of secrets is hidden wherever a template carries it, and nothing else is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::fixture::Fixture;
use crate::catalog::secrets::{HIDDEN, Secrets};
use crate::catalog::{Known, Query};
use crate::settings::model::Capture;
use crate::template::tests::{complete, options, partial, source};
use crate::template::{Options, Outcome, Rendering, TemplateSet};

const CATALOG: &str = r#"{
    "keys": {
        "k": "canary1x", "b64": "aHVudGVyMjI=", "list": "canary1x,canary2x", "number": "424242", "on": "true",
        "json": "{\"password\":\"c\\u0061nary1x\",\"list\":[\"canary2x\"],\"canary3x\":1,\"n\":424242}",
        "spaced": "two \"secret words\"", "t/one": "canary1x", "t/b": "canary2x", "of/node1": "west"
    },
    "services": {
        "web": [
            { "Node": "node1", "ID": "web-1", "Address": "10.0.0.1", "Port": 8080,
              "ServiceMeta": { "password": "canary1x", "zone": "zone-west" } },
            { "Node": "node2", "ID": "web-2", "Address": "10.0.0.2", "Port": 8080,
              "ServiceMeta": { "password": "canary2x", "zone": "zone-east" } }
        ]
    }
}"#;

const PARTIALS: [(&str, &str); 3] = [
    ("upper", "{{toUpper word}}"),
    ("this", "{{toUpper this}}"),
    ("around", "{{toUpper word}} {{> @partial-block}}"),
];

fn set(template: &str) -> TemplateSet {
    let options = Options {
        secrets: Capture::default().secrets,
        ..options()
    };
    let partials = PARTIALS.map(|(name, text)| partial(name, text));
    let loaded = TemplateSet::load(vec![source(template)], partials.into(), options);
    loaded
        .unwrap_or_else(|wrong| panic!("{template}: {wrong:?}"))
        .0
}

fn rendered(template: &str) -> Rendering {
    let rendering = complete(&mut set(template), CATALOG);
    rendering.unwrap_or_else(|wrong| panic!("{template}: {wrong:?}"))
}

/// The secrets of a set as a later process reads them from the disk.
fn stored(rendering: &Rendering) -> Secrets {
    let stored = serde_json::to_string(&rendering.secrets).unwrap();
    let words = ["canary", "CANARY", "hunter22"];
    assert!(words.iter().all(|word| !stored.contains(word)), "{stored}");
    let read: Secrets = serde_json::from_str(&stored).unwrap();
    read.of_files(rendering.files.iter().map(String::as_str))
}

#[test]
fn what_a_helper_makes_of_a_secret_is_hidden() {
    for (tags, made) in [
        ("{{toUpper (key \"k\")}}", "CANARY1X"),
        (
            "{{#each (service \"web\")}}{{#each ServiceMeta}}{{toUpper this}} {{/each}}{{/each}}",
            "CANARY1X",
        ),
        (
            "{{#each (service \"web\")}}{{toUpper (lookup ServiceMeta \"password\")}} {{/each}}",
            "CANARY1X",
        ),
        ("{{base64Decode (key \"b64\")}}", "hunter22"),
        ("{{base64Encode (key \"k\")}}", "Y2FuYXJ5MXg="),
        (
            "{{sha256Hex (key \"k\")}}",
            "2ba61ff43f258e744b4e24c605644a246560b1041f6c7729e42b4bd065409997",
        ),
        ("{{add 1 (parseInt (key \"number\"))}}", "424243"),
        ("{{replaceAll \"can\" \"pell\" (key \"k\")}}", "pellary1x"),
        (
            "{{regexReplaceAll \"c(an)\" \"$1\" (key \"k\")}}",
            "anary1x",
        ),
        (
            "{{join \"-\" (split \",\" (key \"list\"))}}",
            "canary1x-canary2x",
        ),
        ("{{printf \"%s-%s\" \"pre\" (key \"k\")}}", "pre-canary1x"),
        ("{{trimPrefix \"can\" (keyOrDefault \"k\" \"x\")}}", "ary1x"),
        (
            "{{#with (parseJSON (key \"json\"))}}{{password}}{{/with}}",
            "canary1x",
        ),
        (
            "{{#with (parseJSON (key \"json\"))}}{{n}}{{/with}}",
            "424242",
        ),
        (
            "{{#with (parseJSON (key \"json\"))}}{{toUpper (index list 0)}}{{/with}}",
            "CANARY2X",
        ),
        (
            "{{#each (parseJSON (key \"json\")) as |v k|}}{{toUpper k}} {{/each}}",
            "CANARY3X",
        ),
        (
            "{{#each (parseJSON (key \"json\"))}}{{toUpper @key}} {{/each}}",
            "CANARY3X",
        ),
        (
            "{{#with (parseJSON (key \"json\"))}}{{#each (service \"web\")}}{{toUpper ../password}} {{/each}}{{/with}}",
            "CANARY1X",
        ),
        (
            "{{#let (toUpper (key \"k\")) as |v|}}{{#each (service \"web\")}}{{v}} {{/each}}{{/let}}",
            "CANARY1X",
        ),
        (
            "{{#let (key \"k\") as |v|}}{{#each (service \"web\") as |s|}}{{#if s.ID}}{{toUpper v}} {{/if}}{{/each}}{{/let}}",
            "CANARY1X",
        ),
        (
            "{{#each (tree \"t\")}}{{toUpper Value}} {{/each}}",
            "CANARY2X",
        ),
        (
            "{{#each (ls \"t\") as |pair|}}{{toUpper pair.Value}} {{/each}}",
            "CANARY2X",
        ),
        (
            "{{#each (explode (tree \"t\")) as |v|}}{{toUpper v}} {{/each}}",
            "CANARY2X",
        ),
        (
            "{{toUpper (lookup (explode (tree \"t\")) \"b\")}}",
            "CANARY2X",
        ),
        (
            "{{#each (service \"web\")}}{{toUpper ServiceMeta.password}} {{/each}}",
            "CANARY1X",
        ),
        (
            "{{#each (service \"web\")}}{{toUpper (lookup ServiceMeta \"password\")}} {{/each}}",
            "CANARY2X",
        ),
        (
            "{{#each (service \"web\")}}{{#with ServiceMeta}}{{toUpper password}} {{/with}}{{/each}}",
            "CANARY2X",
        ),
        ("{{> upper word=(key \"k\")}}", "CANARY1X"),
        (
            "{{#let (key \"k\") as |word|}}{{> upper word=word}}{{/let}}",
            "CANARY1X",
        ),
        (
            "{{> this (parseJSON (key \"on\"))}} {{> this (key \"k\")}}",
            "CANARY1X",
        ),
        ("{{#> around word=(key \"k\")}}x{{/around}}", "CANARY1X"),
        (
            "{{#let (key \"k\") as |w|}}{{#> around word=\"x\"}}{{toUpper w}}{{/around}}{{/let}}",
            "CANARY1X",
        ),
        (
            "{{#*inline \"i\"}}{{toUpper word}}{{/inline}}{{> i word=(key \"k\")}}",
            "CANARY1X",
        ),
        ("{{default (toUpper (key \"k\")) \"x\"}}", "CANARY1X"),
        ("{{raw (toUpper (key \"k\"))}}", "CANARY1X"),
        (
            "{{toUpper (env \"HOME\")}} {{envOrDefault \"UNSET\" (toUpper (key \"k\"))}}",
            "CANARY1X",
        ),
        (
            "{{#if (key \"k\")}}x{{else}}y{{/if}} {{toUpper (or (key \"k\") \"x\")}}",
            "CANARY1X",
        ),
    ] {
        let rendering = rendered(&format!("# {tags}\n"));
        let written = rendering.files[0].contains(made);
        assert!(written, "{tags} writes {:?}", rendering.files);
        for secrets in [&rendering.secrets, &stored(&rendering)] {
            assert_eq!(
                secrets.hide(&format!("'{made}' is bad")),
                format!("'{HIDDEN}' is bad"),
                "{tags}"
            );
        }
    }
}

#[test]
fn what_does_not_come_from_a_secret_is_shown() {
    for (tags, made) in [
        (
            "{{#if (eq (key \"k\") \"x\")}}x{{else}}{{#each (service \"web\")}}{{toUpper ID}} {{/each}}{{/if}}",
            "WEB-1",
        ),
        (
            "{{#let (key \"k\") as |v|}}{{#each (service \"web\")}}{{toUpper ID}} {{/each}}{{/let}}",
            "WEB-1",
        ),
        (
            "{{#with (parseJSON (key \"json\"))}}{{#each (service \"web\") as |s|}}{{toUpper s.ID}} {{/each}}{{/with}}",
            "WEB-2",
        ),
        (
            "{{#each (where (service \"web\") \"ServiceMeta.password\" (key \"k\"))}}{{ID}} {{/each}}",
            "web-1",
        ),
        (
            "{{#each (service \"web\")}}{{toUpper (printf \"%s-%d\" Node Port)}} {{/each}}",
            "NODE1-8080",
        ),
        (
            "{{#each (service \"web\")}}{{toUpper ServiceMeta.zone}} {{key (printf \"of/%s\" \"node1\")}} {{/each}}",
            "ZONE-WEST",
        ),
        (
            "{{#each (tree \"t\")}}{{Path}} {{/each}}{{#each (service \"web\")}}{{Node}}{{/each}}",
            "t/one",
        ),
        (
            "{{eq (key \"on\") \"true\"}} {{parseBool (key \"on\")}}",
            "false",
        ),
        ("{{> upper word=\"public\"}}", "PUBLIC"),
    ] {
        let rendering = rendered(&format!("# {tags}\n"));
        assert!(
            rendering.files[0].contains(made) || made == "false",
            "{tags}: {:?}",
            rendering.files
        );
        assert_eq!(rendering.secrets.hide(made), made, "{tags}");
        assert_eq!(stored(&rendering).hide(made), made, "{tags}");
    }
}

#[test]
fn a_value_that_was_escaped_is_hidden_in_either_form() {
    let rendering = rendered("x {{key \"spaced\"}} \"{{toUpper (key \"spaced\")}}\"\n");
    assert_eq!(
        rendering.files[0],
        "x two\\ \\\"secret\\ words\\\" \"TWO \\\"SECRET WORDS\\\"\"\n"
    );
    for secrets in [&rendering.secrets, &stored(&rendering)] {
        for text in [
            "two \"secret words\"",
            "two\\ \\\"secret\\ words\\\"",
            "TWO \"SECRET WORDS\"",
            "TWO \\\"SECRET WORDS\\\"",
        ] {
            assert_eq!(secrets.hide(text), HIDDEN);
        }
    }
}

#[test]
fn a_part_that_is_not_rendered_again_keeps_its_secrets() {
    let template = "# {{toUpper (key \"k\")}}\nbackend web\n{{#each (service \"web\")}}    server {{ID}} {{serverAddress this}} # {{toUpper ServiceMeta.password}} {{toLower (toUpper (key (printf \"of/%s\" \"node1\")))}}\n{{/each}}# {{base64Decode (key \"b64\")}}\n";
    let mut set = set(template);
    let first = complete(&mut set, CATALOG).unwrap();
    let fixture: Fixture = serde_json::from_str(&CATALOG.replace("10.0.0.2", "10.0.0.33")).unwrap();
    let known = |query: &Query| {
        let answer = Arc::new(fixture.answer(query).unwrap());
        let revision = 1 + u64::from(*query == Query::service("web"));
        (query.clone(), Known { answer, revision })
    };
    let answers: BTreeMap<Query, Known> = first.used.iter().map(known).collect();
    let before = set.taken_again();
    let Ok(Outcome::Complete(again)) = set.render(&answers) else {
        panic!("incomplete");
    };
    assert!(set.taken_again() > before);
    assert_ne!(first.files, again.files);
    let whole = stored(&again);
    for word in ["CANARY1X", "CANARY2X", "hunter22"] {
        assert_eq!(again.secrets.hide(word), HIDDEN);
        assert_eq!(whole.hide(word), HIDDEN);
    }
    assert_eq!(
        whole.hide("server web-1 10.0.0.33:8080"),
        "server web-1 10.0.0.33:8080"
    );
}

#[test]
fn an_unchanged_rendering_keeps_its_secrets() {
    let mut set = set("# {{toUpper (key \"k\")}}\n");
    for _ in 0..2 {
        let rendering = complete(&mut set, CATALOG).unwrap();
        assert_eq!(stored(&rendering).hide("CANARY1X"), HIDDEN);
        assert_eq!(rendering.secrets.hide("CANARY1X"), HIDDEN);
    }
}

#[test]
fn a_helper_that_fails_does_not_quote_what_another_made_of_a_secret() {
    for tags in [
        "{{printf (toUpper (key \"k\")) 1}}",
        "{{sortBy (service \"web\") \"ID\" (toUpper (key \"k\"))}}",
        "{{byMeta (printf \"zone|%s\" (toUpper (key \"k\"))) (service \"web\")}}",
        "{{#let (toUpper (key \"k\")) as |v|}}{{sortBy (service \"web\") \"ID\" v}}{{/let}}",
    ] {
        let wrong = complete(&mut set(&format!("# {tags}\n")), CATALOG).unwrap_err();
        let told = format!("{wrong:?}");
        assert!(
            told.contains(HIDDEN) && !told.contains("CANARY"),
            "{tags}: {told}"
        );
    }
}
