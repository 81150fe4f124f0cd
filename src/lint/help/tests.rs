//! The table of messages and remedies. Real programs are held to it in `tests/parts/lint/help.rs`.

use std::path::Path;

use super::*;
use crate::diagnostic::Severity;

fn finding(code: &'static str, message: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        code,
        message: message.to_owned(),
        file: Some(Path::new("/h.cfg").to_owned()),
        line: 1,
        column: 0,
        help: None,
    }
}

#[test]
fn only_haproxys_own_findings_without_help_are_explained() {
    let message = "unknown keyword 'chek'; did you mean 'check' maybe ?";
    assert_eq!(
        help_for(&finding("haproxy", message)).as_deref(),
        Some("Write `check` if that is meant.")
    );
    assert_eq!(help_for(&finding("no-check", message)), None);
    let told = Finding {
        help: Some("Look.".to_owned()),
        ..finding("haproxy", message)
    };
    assert_eq!(help_for(&told), None);
    assert_eq!(help_for(&finding("haproxy", "something new")), None);
    let message = "'server web/a' : unknown keyword 'check inter 2s'.";
    let help = help_for(&finding("haproxy", message)).unwrap();
    assert!(
        help.starts_with("`check inter 2s` is one word with blanks in it."),
        "{help}"
    );
    // What has no quotes leaves no gap open.
    let help = help_for(&finding(
        "haproxy",
        "unable to find required default_backend",
    ))
    .unwrap();
    assert!(help.starts_with("Add a section `backend …`"), "{help}");
}

proptest::proptest! {
    #[test]
    fn no_message_makes_it_panic(message in "(unknown keyword '|'|did you mean '|out of section|\\PC){0,30}") {
        help_for(&finding("haproxy", &message));
    }
}

#[test]
fn every_sentence_is_whole_and_every_entry_can_be_reached() {
    for (parts, help) in SAID {
        assert!(help.ends_with('.') || help.ends_with('`'), "{help}");
        let message = parts.concat();
        let first = SAID.iter().find(|(parts, _)| {
            let mut rest = message.as_str();
            parts.iter().all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        });
        assert_eq!(
            first.map(|(found, _)| *found),
            Some(*parts),
            "another entry hides it"
        );
    }
}
