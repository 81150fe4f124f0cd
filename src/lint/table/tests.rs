use std::collections::BTreeSet;

use super::super::templates::tests::set;
use super::super::{About, Allowed, Comments, Used, configuration, templates};
use super::*;
use crate::haproxy::config::Config;
use crate::template::{Grammar, Options, Source, TemplateSet};

#[test]
fn codes_are_plain_words_and_there_once() {
    let codes: BTreeSet<&str> = LINTS.iter().map(|lint| lint.code).collect();
    assert_eq!(codes.len(), LINTS.len());
    for lint in LINTS {
        let plain = |letter: u8| letter.is_ascii_lowercase() || letter == b'-';
        assert!(lint.code.bytes().all(plain), "{}", lint.code);
        for sentence in [lint.what, lint.help] {
            assert!(sentence.ends_with('.'), "{sentence}");
        }
        assert_eq!(find(lint.code), Some(lint));
    }
}

/// The codes that are told of an example.
fn codes(of: Of, code: &str, text: &str) -> Vec<&'static str> {
    match of {
        Of::Template if code == "never-there" => {
            let source = Source {
                name: "t".to_owned(),
                path: "t.hbs".into(),
                text: text.to_owned(),
                grammar: Grammar::Haproxy,
            };
            let loaded = TemplateSet::load(vec![source], Vec::new(), Options::default());
            loaded.unwrap().1.iter().map(|one| one.code).collect()
        }
        // A call of a helper that a name hides is refused besides.
        Of::Template => templates(&set(text, &[]))
            .iter()
            .map(|one| one.code)
            .collect(),
        Of::Configuration => {
            let about = About {
                texts: &[text],
                version: None,
                master: Some(code != "no-expose-fd"),
                complete: matches!(code, "no-hard-stop-after" | "keeps-root"),
                from_catalog: &|_, _| true,
            };
            let found = configuration(&Config::parse(text), &about);
            found.iter().map(|one| one.code).collect()
        }
        Of::Comments => {
            let mut comments = Comments::default();
            comments.template("t.hbs".as_ref(), text);
            let mut used = Used::default();
            Allowed::default().sift(Vec::new(), &comments, &mut used);
            comments.remarks(&used).iter().map(|one| one.code).collect()
        }
        Of::Several => Vec::new(),
    }
}

#[test]
fn every_example_shows_its_lint_and_how_to_be_without() {
    for lint in LINTS {
        let Some(Example { bad, good }) = lint.example else {
            continue;
        };
        assert_eq!(codes(lint.of, lint.code, bad), [lint.code], "{bad}");
        assert_eq!(codes(lint.of, lint.code, good), [""; 0], "{good}");
    }
}

#[test]
fn the_reference_names_each_with_its_example() {
    let text = reference();
    for lint in LINTS {
        assert!(text.contains(&format!(
            "\n## {}\n\n{} {}\n",
            lint.code, lint.what, lint.help
        )));
    }
    assert!(text.contains(
        "Add `id {{serverId this}}` to the server line.\n\n```\nnot backend b\n     balance random\n     server a 10.0.0.1:80 check\nbut backend b\n"
    ), "{text}");
}
