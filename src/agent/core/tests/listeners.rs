//! Listeners that wait, inside the core: what is said of them, and how an operator releases them.

use super::*;
use crate::agent::listeners::{Cause as Why, Reason, Waiting};
use crate::apply::listeners::{CannotKeep, Lost};
use crate::haproxy::config::Endpoint;

fn lost(address: &str) -> Lost {
    Lost {
        endpoint: Endpoint::Unix(address.to_owned()),
        kind: "frontend".to_owned(),
        section: "in".to_owned(),
        conditional: false,
    }
}

fn waits(address: &str, cannot_keep: Option<CannotKeep>) -> Waiting {
    Waiting {
        lost: lost(address),
        reason: Reason::Template,
        since: 1,
        cannot_keep,
    }
}

fn rendered(text: &str, listeners: Listeners) -> Event {
    let Event::Rendered(Rendered::Complete {
        candidate,
        used,
        quarantined,
        noted,
        ..
    }) = complete(text, &["web"])
    else {
        panic!("not complete");
    };
    Event::Rendered(Rendered::Complete {
        candidate,
        used,
        quarantined,
        noted,
        listeners,
    })
}

/// Renders once more, with this about the listeners, and gives what is said.
fn said(bench: &mut Bench, text: &str, listeners: Listeners) -> Vec<(Weight, String)> {
    bench.core.compare_again(bench.now);
    let mut actions = bench.core.handle_timeout(bench.now + TIMING.settle);
    bench.now += TIMING.settle;
    let event = rendered(text, listeners);
    actions.extend(bench.core.handle(event, bench.now));
    let said = actions.into_iter().filter_map(|action| match action {
        Action::Say(notice) if notice.message.contains("listener") => {
            Some((notice.weight, notice.message))
        }
        _ => None,
    });
    said.collect()
}

// G18
#[test]
fn a_listener_that_waits_is_told_once_and_released_by_its_address() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    let wait = |waiting: Vec<Waiting>| Listeners {
        wait: waiting,
        ..Listeners::default()
    };
    let first = said(&mut bench, "one", wait(vec![waits("/a", None)]));
    let expected = "The listener unix@/a (frontend `in`) waits for an operator. The templates do not make it any more, also not from the former answers. Its section is kept as it was, and everything else goes on. If it is meant to go, run `gatewright release --listener 'unix@/a'`.";
    assert_eq!(first, [(Weight::Warning, expected.to_owned())]);
    let both = || {
        wait(vec![
            waits("/a", None),
            waits("/b", Some(CannotKeep::Foreign)),
        ])
    };
    let second = said(&mut bench, "one", both());
    assert_eq!(second.len(), 1);
    assert!(
        second[0].1.contains("The whole set waits with it, because"),
        "{second:?}"
    );

    let named = ["/c".to_owned(), "unix@/a".to_owned()];
    let (names, actions) = bench.core.release_listeners(Some(&named), bench.now);
    assert_eq!(names, ["unix@/a"]);
    assert!(
        silent(actions)
            .iter()
            .any(|action| matches!(action, Action::Render(_)))
    );
    // A rendering that began before it says that it waits: the release stays.
    let _ = bench.core.handle(rendered("one", both()), bench.now);
    assert_eq!(bench.core.listeners().released().len(), 1);
    let goes = Listeners {
        go: vec![(lost("/a"), Why::Released)],
        wait: vec![waits("/b", Some(CannotKeep::Foreign))],
    };
    let third = said(&mut bench, "one", goes);
    let expected = "The listener unix@/a (frontend `in`) is removed: it was released.";
    assert_eq!(third, [(Weight::Info, expected.to_owned())]);
    assert_eq!(bench.core.listeners().released().len(), 1);
    // It is gone, and the other one is back.
    let last = said(&mut bench, "one", Listeners::default());
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(bench.core.listeners().released().is_empty());
    let (names, _) = bench.core.release_listeners(None, bench.now);
    assert_eq!(names, Vec::<String>::new());
}

// G18
#[test]
fn a_set_refused_for_its_listeners_is_tried_again_after_their_release() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.change(2);
    let waiting = Listeners {
        wait: vec![waits("/a", Some(CannotKeep::Foreign))],
        ..Listeners::default()
    };
    bench.event(rendered("two", waiting));
    bench.wait();
    let why = vec![Diagnostic::error("bind-lost", "A bind is lost.")];
    bench.event(ended("two", Outcome::Refused(why)));
    assert!(bench.core.refused().is_some());
    let (names, actions) = bench.core.release_listeners(None, bench.now);
    assert_eq!(names, ["listener unix@/a"]);
    assert!(bench.core.refused().is_none());
    let mut actions = bench.seen(actions);
    if actions.is_empty() {
        actions = bench.wait();
    }
    assert!(matches!(actions[..], [Action::Render(_)]), "{actions:?}");
    let goes = Listeners {
        go: vec![(lost("/a"), Why::Released)],
        ..Listeners::default()
    };
    bench.event(rendered("two", goes));
    assert_eq!(bench.wait(), [Action::Apply(candidate("two"), Means::Any)]);
}
