//! What was recorded from real agents (`tests/golden/serf`) is read as it was meant, and no bytes do harm.

use proptest::prelude::*;
use rmpv::Value;

use super::members::{Failed, Mapping, Member, Members, State};
use super::wire::{self, Inbox};
use super::*;
use crate::catalog::{HealthFilter, Kind, Status};

fn member(name: &str, state: State, tags: &[(&str, &str)]) -> Member {
    Member {
        name: name.into(),
        address: "10.0.0.1".parse().ok(),
        state,
        tags: tags
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
    }
}

fn instances(members: &Members, query: &Query) -> Vec<Instance> {
    match members.answer(query).unwrap() {
        Answer::Instances(list) => list,
        other => panic!("{other:?}"),
    }
}

/// An answer with one member, `gw1`, as Serf 0.10.1 sent it.
const RECORDED: &str = "82a54572726f72a0a35365710481a74d656d62657273918ba441646472c4047f000001ab44656c656761746543757205ab44656c65676174654d617805ab44656c65676174654d696e02a44e616d65a3677731a4506f7274cd552aab50726f746f636f6c43757202ab50726f746f636f6c4d617805ab50726f746f636f6c4d696e01a6537461747573a5616c697665a45461677383a4726f6c65ac61697261766174612d617069a4706f7274a438393330a26463a26975";

fn recorded() -> Vec<u8> {
    let digits = RECORDED.as_bytes().chunks(2);
    let digits = digits.map(|two| std::str::from_utf8(two).unwrap());
    digits
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect()
}

#[test]
fn a_recorded_answer_is_read_however_it_is_cut() {
    let bytes = recorded();
    for cut in 0..=bytes.len() {
        let mut inbox = Inbox::new(1 << 20);
        let mut values = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            inbox.buffer.extend_from_slice(part);
            while let Some(value) = inbox.next().unwrap() {
                values.push(value);
            }
        }
        let [head, body] = values.as_slice() else {
            panic!("{cut}: {values:?}");
        };
        assert_eq!(wire::head(head).unwrap().seq, 4);
        let (list, unreadable) = wire::members(body).unwrap();
        let tags = [("role", "airavata-api"), ("port", "8930"), ("dc", "iu")];
        let mut expected = member("gw1", State::Alive, &tags);
        expected.address = "127.0.0.1".parse().ok();
        assert_eq!((list, unreadable), (vec![expected], Vec::new()));
    }
}

#[test]
fn a_request_is_what_serfs_own_client_sends() {
    let body = [("Version", 1u64.into())];
    assert_eq!(
        wire::request("handshake", 0, Some(&body)),
        b"\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01"
    );
}

#[test]
fn what_is_announced_too_large_or_too_deep_is_not_waited_for() {
    let mut inbox = Inbox::new(1000);
    inbox
        .buffer
        .extend_from_slice(&[0xdb, 0xff, 0xff, 0xff, 0xff]);
    assert!(inbox.next().is_err());
    for bytes in [
        vec![0x91; 100],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xc1],
    ] {
        let mut inbox = Inbox::new(1 << 20);
        inbox.buffer.extend_from_slice(&bytes);
        assert!(inbox.next().is_err(), "{bytes:?}");
    }
}

#[test]
fn a_member_whose_tags_are_no_text_is_left_out_alone() {
    let bad = Value::Map(vec![
        ("Name".into(), "x".into()),
        ("Status".into(), "alive".into()),
        (
            "Tags".into(),
            Value::Map(vec![("a".into(), Value::Binary(vec![0xff]))]),
        ),
    ]);
    let list = Value::Map(vec![("Members".into(), Value::Array(vec![bad]))]);
    assert_eq!(wire::members(&list), Ok((Vec::new(), vec!["x".to_owned()])));
}

#[test]
fn tags_become_an_instance_in_consuls_words() {
    let tags = [
        ("service", "api, profile"),
        ("port", "1"),
        ("port.api", "8930"),
        ("weight", "50"),
        ("tags", "b,a"),
        ("version", "2"),
        ("drain.profile", "true"),
    ];
    let members = Members::new(
        vec![member("gw1", State::Alive, &tags)],
        Vec::new(),
        &Mapping::default(),
        None,
        Instant::now(),
    );
    let api = &instances(&members, &Query::service("api"))[0];
    assert_eq!(
        (api.address.as_str(), api.port, api.weight_passing),
        ("10.0.0.1", 8930, 50)
    );
    assert_eq!((api.node.name.as_str(), api.id.as_str()), ("gw1", "api"));
    assert_eq!(api.tags[..], ["a", "b"]);
    let meta: Vec<_> = api.service_meta.iter().collect();
    assert_eq!(meta, [(&"version".to_owned(), &"2".to_owned())]);
    assert_eq!(instances(&members, &Query::service("profile")), []);
}

#[test]
fn an_id_that_several_services_of_a_member_have_counts_for_none() {
    let ids = |tags: &[(&str, &str)]| {
        let list = vec![member("gw1", State::Alive, tags)];
        let now = Instant::now();
        let members = Members::new(list, Vec::new(), &Mapping::default(), None, now);
        ["a", "b", "c"].map(|name| {
            let list = instances(&members, &Query::service(name));
            list.first().map(|one| one.id.clone()).unwrap_or_default()
        })
    };
    let several = ("role", "a,b,c");
    assert_eq!(ids(&[("role", "a"), ("id", "x")]), ["x", "", ""]);
    assert_eq!(ids(&[several, ("id", "x")]), ["a", "b", "c"]);
    assert_eq!(ids(&[several, ("id.a", "x")]), ["x", "b", "c"]);
    assert_eq!(
        ids(&[several, ("id.a", "x"), ("id.b", " x")]),
        ["a", "b", "c"]
    );
    // The name of another service is its id; the own name may be said.
    assert_eq!(ids(&[several, ("id.a", "b")]), ["a", "b", "c"]);
    assert_eq!(
        ids(&[several, ("id.a", "b"), ("id.b", "x")]),
        ["a", "x", "c"]
    );
    assert_eq!(ids(&[several, ("id", "c")]), ["a", "b", "c"]);
    assert_eq!(ids(&[several, ("id.c", "c")]), ["a", "b", "c"]);
}

#[test]
fn each_state_has_its_meaning() {
    let mut query = Query::service("api");
    if let Kind::Service { health, .. } = &mut query.kind {
        *health = HealthFilter::Any;
    }
    let tags = [("role", "api"), ("port", "1")];
    for (state, failed, expected) in [
        (State::Alive, Failed::Keep, Some(Status::Passing)),
        (State::Failed, Failed::Keep, Some(Status::Passing)),
        (State::Failed, Failed::Remove, Some(Status::Critical)),
        (State::Leaving, Failed::Keep, Some(Status::Maintenance)),
        (State::Left, Failed::Keep, None),
        (State::Unknown, Failed::Keep, None),
    ] {
        let mapping = Mapping {
            failed,
            ..Mapping::default()
        };
        let members = Members::new(
            vec![member("gw1", state, &tags)],
            Vec::new(),
            &mapping,
            None,
            Instant::now(),
        );
        let seen = instances(&members, &query).first().map(|one| one.status);
        assert_eq!(seen, expected, "{state:?} {failed:?}");
    }
}

#[test]
fn those_who_left_are_proved_gone_and_a_mass_of_failures_proves_nothing() {
    let tags = [("role", "api"), ("port", "1")];
    let list = |states: &[State]| {
        let members = states.iter().enumerate();
        let members = members.map(|(n, state)| member(&format!("m{n}"), *state, &tags));
        Members::new(
            members.collect(),
            Vec::new(),
            &Mapping::default(),
            None,
            Instant::now(),
        )
    };
    let (alive, left, failed) = (State::Alive, State::Left, State::Failed);
    let gone = list(&[alive, left])
        .evidence(&Query::service("api"))
        .unwrap();
    assert_eq!(gone[1].status, Status::Maintenance);
    let cut_off = list(&[alive, failed, failed]).evidence(&Query::service("api"));
    assert_eq!(cut_off, Err(Silence::CutOff));
    // But members that leave while others fail do so, and one that drains its instance does.
    let mut members: Vec<Member> = [alive, left, State::Leaving, failed, failed]
        .iter()
        .zip(["drains", "left", "leaves", "failed0", "failed1"])
        .map(|(state, name)| member(name, *state, &tags))
        .collect();
    members[0].tags.insert("drain".into(), "true".into());
    let now = Instant::now();
    let members = Members::new(members, Vec::new(), &Mapping::default(), None, now);
    assert!(members.looks_cut_off());
    let gone = members.evidence(&Query::service("api")).unwrap();
    assert!(gone.iter().all(|one| one.status == Status::Maintenance));
    let names: Vec<&str> = gone.iter().map(|one| one.node.name.as_str()).collect();
    assert_eq!(names, ["drains", "leaves", "left"]);

    let before = list(&[alive, alive, alive]);
    assert!(list(&[alive]).has_forgotten(&before));
    assert!(!list(&[alive, left, failed]).has_forgotten(&before));
    assert!(!list(&[alive, alive]).has_forgotten(&before));
}

#[test]
fn members_that_cannot_be_read_any_more_are_not_forgotten() {
    let tags = [("role", "api"), ("port", "1")];
    let now = Instant::now();
    let list = |names: &[&str], unreadable: &[&str], before: Option<&Members>| {
        let members = names.iter().map(|name| member(name, State::Alive, &tags));
        let unreadable = unreadable.iter().map(|name| (*name).to_owned());
        let mapping = Mapping::default();
        Members::new(
            members.collect(),
            unreadable.collect(),
            &mapping,
            before,
            now,
        )
    };
    let all = list(&["a", "b", "c", "d"], &[], None);
    let alone = list(&["a"], &[], Some(&all));
    assert!(alone.has_forgotten(&all));
    let unreadable = list(&["a"], &["b", "c", "d"], Some(&all));
    assert!(!unreadable.has_forgotten(&all));
    // They go at once: the agent knows of them.
    assert_eq!(unreadable.untold(), 0);
    assert_eq!(instances(&unreadable, &Query::service("api")).len(), 1);
    // One more that was never readable is none of them.
    let others = list(&["a"], &["x", "y", "z"], Some(&all));
    assert!(others.has_forgotten(&all));
}

#[test]
fn a_member_of_which_the_agent_says_nothing_stays_for_a_while() {
    let tags = [("role", "api"), ("port", "1")];
    let start = Instant::now();
    let list = |names: &[&str], before: Option<&Members>, seconds: u64| {
        let members = names.iter().map(|name| member(name, State::Alive, &tags));
        let now = start + Duration::from_secs(seconds);
        Members::new(
            members.collect(),
            Vec::new(),
            &Mapping::default(),
            before,
            now,
        )
    };
    let passing = |members: &Members| {
        let list = instances(members, &Query::service("api"));
        list.into_iter()
            .map(|one| one.node.name.clone())
            .collect::<Vec<_>>()
    };
    let all = list(&["a", "b", "c"], None, 0);
    assert_eq!((all.untold(), all.next_end()), (0, None));
    // An agent that started again: the others come one after the other.
    let some = list(&["a", "c"], Some(&all), 100);
    assert!(!some.has_forgotten(&all));
    assert_eq!(passing(&some), ["a", "b", "c"]);
    assert_eq!(some.count(State::Alive), 2);
    assert_eq!(some.next_end(), Some(start + Duration::from_secs(130)));
    // Each read in between keeps the time at which it was missed first.
    let later = list(&["a", "c"], Some(&some), 129);
    assert_eq!((passing(&later).len(), later.untold()), (3, 1));
    let back = list(&["a", "b", "c"], Some(&later), 129);
    assert_eq!((passing(&back).len(), back.untold()), (3, 0));
    let gone = list(&["a", "c"], Some(&later), 130);
    assert_eq!(passing(&gone), ["a", "c"]);
    assert_eq!(gone.next_end(), None);
    // One that is out, because it failed, is not in for it.
    let mapping = Mapping {
        failed: Failed::Remove,
        ..Mapping::default()
    };
    let mut list = ["a", "b", "c"].map(|name| member(name, State::Alive, &tags));
    list[0].state = State::Failed;
    let out = Members::new(list.to_vec(), Vec::new(), &mapping, None, start);
    assert_eq!(passing(&out), ["b", "c"]);
    let untold = Members::new(list[1..].to_vec(), Vec::new(), &mapping, Some(&out), start);
    assert_eq!((passing(&untold), untold.untold()), (passing(&out), 1));
    // A member that left is in the list, and goes at once.
    let left = [
        member("a", State::Alive, &tags),
        member("b", State::Left, &tags),
    ];
    let left = Members::new(
        left.to_vec(),
        Vec::new(),
        &Mapping::default(),
        Some(&gone),
        start,
    );
    assert_eq!(passing(&left), ["a", "c"]);
}

#[test]
fn when_half_fail_at_once_nobody_goes_and_nobody_comes_back_who_was_out_before() {
    let tags = [("role", "api"), ("port", "1")];
    let mapping = Mapping {
        failed: Failed::Remove,
        ..Mapping::default()
    };
    let start = Instant::now();
    let list = |states: &[State], before: Option<&Members>, seconds: u64| {
        let members = states.iter().enumerate();
        let members = members.map(|(n, state)| member(&format!("m{n}"), *state, &tags));
        let now = start + Duration::from_secs(seconds);
        Members::new(members.collect(), Vec::new(), &mapping, before, now)
    };
    let passing = |members: &Members| {
        let list = instances(members, &Query::service("api"));
        list.into_iter()
            .map(|one| one.node.name.clone())
            .collect::<Vec<_>>()
    };
    let (alive, failed) = (State::Alive, State::Failed);
    let one_is_out = list(&[failed, alive, alive, alive, alive], None, 0);
    assert_eq!(passing(&one_is_out), ["m1", "m2", "m3", "m4"]);
    // The others follow, one a little later than the other: only the first goes, and it is back with the second.
    let begins = list(
        &[failed, failed, alive, alive, alive],
        Some(&one_is_out),
        100,
    );
    assert_eq!(passing(&begins), ["m2", "m3", "m4"]);
    let cut_off = list(&[failed, failed, failed, alive, alive], Some(&begins), 101);
    assert!(cut_off.looks_cut_off());
    assert_eq!(passing(&cut_off), ["m1", "m2", "m3", "m4"]);
    let longer = list(&[failed; 5], Some(&cut_off), 1000);
    assert_eq!(passing(&longer), ["m1", "m2", "m3", "m4"]);
    let later = list(&[failed; 5], Some(&longer), 2000);
    assert_eq!(passing(&later), ["m1", "m2", "m3", "m4"]);
    // What still fails afterwards does fail.
    let over = list(&[failed, failed, alive, alive, alive], Some(&later), 2001);
    assert!(!over.looks_cut_off());
    assert_eq!(passing(&over), ["m2", "m3", "m4"]);
}

#[test]
fn a_member_with_more_tags_than_serf_allows_is_left_out_alone() {
    let entry = |name: &str, tag: String| {
        Value::Map(vec![
            ("Name".into(), name.into()),
            ("Status".into(), "alive".into()),
            ("Tags".into(), Value::Map(vec![("a".into(), tag.into())])),
        ])
    };
    let list = vec![entry("x", "y".repeat(5000)), entry("z", "y".repeat(500))];
    let list = Value::Map(vec![("Members".into(), Value::Array(list))]);
    let (members, unreadable) = wire::members(&list).unwrap();
    assert_eq!((members.len(), unreadable), (1, vec!["x".to_owned()]));
    assert_eq!(members[0].name, "z");
}

#[test]
fn what_serf_does_not_know_is_said() {
    assert_eq!(
        unanswerable(&Query::key("a")).as_deref(),
        Some("Serf has no keys and values")
    );
    assert_eq!(unanswerable(&Query::service("a")), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut inbox = Inbox::new(1000);
        inbox.buffer.extend_from_slice(&bytes);
        while let Ok(Some(value)) = inbox.next() {
            let _ = (wire::head(&value), wire::event(&value), wire::members(&value));
        }
    }
}
