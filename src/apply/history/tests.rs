//! The state directory: what is kept, found again, damaged, lost and full.

use super::*;

fn set(text: &str) -> Candidate {
    Candidate::new(vec![SetFile {
        destination: "/etc/haproxy/h.cfg".into(),
        role: Role::Config,
        mode: Some(0o640),
        text: text.into(),
    }])
}

#[test]
fn the_facts_and_the_sets_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let one = set("one");
    let mut history = History::open(directory.path(), 2);
    assert_eq!(
        (history.state(), history.last_good()),
        (&State::default(), None)
    );
    history.keep(&StoredSet::from(&one));
    history.update(|state| state.confirmed = Some(one.revision.clone()));
    let again = History::open(directory.path(), 2);
    assert_eq!(again.state(), history.state());
    assert_eq!(again.last_good().unwrap().files, one.files);
}

#[test]
fn old_sets_go_but_never_the_confirmed_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::open(directory.path(), 2);
    let first = set("first");
    history.keep(&StoredSet::from(&first));
    history.update(|state| state.confirmed = Some(first.revision.clone()));
    for number in 0..9 {
        let candidate = set(&format!("set {number}"));
        history.keep(&StoredSet::from(&candidate));
        history.set_aside(&candidate, "why").unwrap();
    }
    let kept = history.kept();
    assert_eq!(kept.len(), 4, "two, the newest and the confirmed");
    assert!(kept.contains(&first.revision));
    assert_eq!(
        by_age(&directory.path().join("rejected")).len(),
        KEEP_REJECTED
    );
}

// E12 J10
#[test]
fn damage_and_newer_versions_are_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let one = set("one");
    let mut history = History::open(directory.path(), 2);
    history.keep(&StoredSet::from(&one));
    history.update(|state| state.applied = Some(one.revision.clone()));
    let sets = directory.path().join("sets").join(one.revision.as_str());
    std::fs::write(sets.join("0-h.cfg"), "tampered").unwrap();
    assert_eq!(history.last_good(), None);
    for text in [
        "",
        "{",
        "{\"format\":2,\"written\":null,\"applied\":null,\"confirmed\":null,\"rejected\":null}",
    ] {
        std::fs::write(directory.path().join("state.json"), text).unwrap();
        let history = History::open(directory.path(), 2);
        assert_eq!(history.state(), &State::default());
    }
}

// E12
#[test]
fn live_files_are_taken_over_with_the_revision_they_carry() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h.cfg");
    let destinations = [(path.clone(), Role::Config)];
    let state = directory.path().join("state");
    let mut history = History::open(&state, 2);
    history.adopt_live(&destinations).unwrap();
    assert_eq!(history.last_good(), None, "there is nothing yet");
    let ours = set("global\n");
    std::fs::write(&path, &ours.files[0].text).unwrap();
    history.adopt_live(&destinations).unwrap();
    let good = history.last_good().unwrap();
    assert_eq!((good.marked, good.revision), (true, ours.revision));

    std::fs::write(&path, "# by hand\n").unwrap();
    let mut other = History::open(&directory.path().join("other"), 2);
    other.adopt_live(&destinations).unwrap();
    assert!(!other.last_good().unwrap().marked);
}

#[test]
fn a_set_that_was_adopted_is_kept_anew_when_it_is_written_with_its_marker() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("h.cfg");
    std::fs::write(&live, "frontend f\n").unwrap();
    let mut history = History::open(&directory.path().join("state"), 2);
    history.adopt_live(&[(live.clone(), Role::Config)]).unwrap();
    let candidate = Candidate::new(vec![SetFile {
        destination: live,
        role: Role::Config,
        mode: None,
        text: "frontend f\n".into(),
    }]);
    assert_eq!(history.state().written.as_ref(), Some(&candidate.revision));
    history.keep(&StoredSet::from(&candidate));
    let kept = history.load_set(&candidate.revision).unwrap();
    assert_eq!(kept.files, candidate.files);
}

// E01 E12
#[test]
fn what_cannot_be_written_is_known_all_the_same_and_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    // Nothing can be made below a file.
    std::fs::write(&state, "").unwrap();
    let mut history = History::open(&state, 2);
    assert!(history.problem().is_some());
    let sets = ["one", "two", "three"].map(set);
    for candidate in &sets {
        history.keep(&StoredSet::from(candidate));
        history.update(|state| state.confirmed = Some(candidate.revision.clone()));
        assert_eq!(history.last_good().unwrap().files, candidate.files);
    }
    // Not more than the facts name, and the one that was applied last.
    assert!(history.unsaved.len() <= 2, "{:?}", history.unsaved);
    history.restore(history.last_good().as_ref());
    assert!(not_kept(history.problem().unwrap()).contains("Gatewright goes on without"));

    std::fs::remove_file(&state).unwrap();
    history.restore(history.last_good().as_ref());
    assert!(history.problem().is_none() && history.unsaved.is_empty());
    let again = History::open(&state, 2);
    assert_eq!(again.state(), history.state());
    assert_eq!(again.last_good().unwrap().files, sets[2].files);
}

// E12
#[test]
fn what_somebody_removes_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let one = set("one");
    let mut history = History::open(&state, 2);
    history.keep(&StoredSet::from(&one));
    history.update(|state| state.confirmed = Some(one.revision.clone()));
    let good = history.last_good().unwrap();
    for part in ["", "sets", "state.json"] {
        let path = state.join(part);
        match path.is_dir() {
            true => std::fs::remove_dir_all(&path).unwrap(),
            false => std::fs::remove_file(&path).unwrap(),
        }
        history.restore(Some(&good));
        let again = History::open(&state, 2);
        assert_eq!(again.state(), history.state(), "{part}");
        assert_eq!(again.last_good().as_ref(), Some(&good), "{part}");
    }
}
