//! What each command is answered with.

use gatewright::haproxy::runtime::{Answer, Refusal, ServerState};
use support::haproxies::haproxies;

use super::*;

/// What an answer should mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meant {
    Done,
    AlreadySo,
    Version,
    Refused(Refusal),
}

fn meant(answer: &Answer) -> Meant {
    match answer {
        Answer::Done => Meant::Done,
        Answer::AlreadySo => Meant::AlreadySo,
        Answer::Version(_) => Meant::Version,
        Answer::Refused { kind, .. } => Meant::Refused(*kind),
    }
}

/// Sends each command by itself, on both ways to a worker.
async fn expect(version: &Version, script: impl Fn(&Worker) -> Vec<(Command, Meant)>) {
    for way in 0..2 {
        let worker = Worker::start(version).await;
        let session = &worker.sessions()[way];
        for (command, wanted) in script(&worker) {
            let batch = session.send(std::slice::from_ref(&command)).await;
            let got: Vec<Meant> = batch.answers.iter().map(meant).collect();
            assert_eq!(got, [wanted], "{version}, {way}: {command:?}: {batch:?}");
        }
        // All at once mean the same: no answer is taken for another command's.
        let worker = Worker::start(version).await;
        let session = &worker.sessions()[way];
        let (commands, wanted): (Vec<Command>, Vec<Meant>) = script(&worker).into_iter().unzip();
        let batch = session.send(&commands).await;
        let got: Vec<Meant> = batch.answers.iter().map(meant).collect();
        assert_eq!(got, wanted, "{version}, {way}: {batch:?}");
    }
}

use Meant::{AlreadySo, Done, Refused};

#[haproxies]
async fn servers_are_added_changed_and_deleted(version: Version) {
    let set_address = |at, last, port| Command::SetAddress {
        at,
        address: [127, 0, 0, last].into(),
        port,
    };
    let state = |at, state| Command::SetState { at, state };
    let weight = |at, weight| Command::SetWeight { at, weight };
    expect(&version, |_| {
        let new = || server("b", "new");
        vec![
            (add(new(), "id 21 check weight 7"), Done),
            (add(new(), "id 22"), Refused(Refusal::Exists)),
            (add(new(), "id 21"), Refused(Refusal::Exists)),
            (
                add(server("b", "other"), "id 21"),
                Refused(Refusal::IdTaken),
            ),
            (
                add(server("b", "other"), "id 11"),
                Refused(Refusal::IdTaken),
            ),
            (
                add(server("none", "x"), ""),
                Refused(Refusal::NoSuchBackend),
            ),
            (
                add(server("static", "x"), ""),
                Refused(Refusal::StaticBalance),
            ),
            (add(server("b", "bad"), "nonsense"), Refused(Refusal::Other)),
            (Command::EnableHealth(new()), Done),
            (Command::EnableServer(new()), Done),
            (Command::EnableAgent(new()), Refused(Refusal::Other)),
            (Command::SetHealthDown(new()), Done),
            (set_address(new(), 2, 8081), Done),
            (set_address(server("b", "s1"), 1, 1001), AlreadySo),
            (weight(new(), 256), Done),
            (
                weight(server("static", "s1"), 9),
                Refused(Refusal::StaticBalance),
            ),
            (state(new(), ServerState::Drain), Done),
            (
                Command::DeleteServer(new()),
                Refused(Refusal::NotInMaintenance),
            ),
            (state(new(), ServerState::Ready), Done),
            (state(new(), ServerState::Maint), Done),
            (Command::ShutdownSessions(new()), Done),
            (Command::DeleteServer(new()), Done),
            (Command::DeleteServer(new()), AlreadySo),
            (add(new(), "id 21 agent-check agent-port 1"), Done),
            (Command::EnableAgent(new()), Done),
            (state(server("b", "s1"), ServerState::Maint), Done),
            (Command::DeleteServer(server("b", "s1")), Done),
        ]
    })
    .await;
}

// H03
#[haproxies]
async fn what_is_not_there_is_refused_by_its_kind(version: Version) {
    expect(&version, |_| {
        let mut script = Vec::new();
        for (at, kind) in [
            (server("none", "s1"), Refusal::NoSuchBackend),
            (server("b", "none"), Refusal::NoSuchServer),
        ] {
            let commands = [
                Command::EnableServer(at.clone()),
                Command::EnableHealth(at.clone()),
                Command::EnableAgent(at.clone()),
                Command::SetHealthDown(at.clone()),
                Command::ShutdownSessions(at.clone()),
                Command::SetWeight {
                    at: at.clone(),
                    weight: 3,
                },
                Command::SetState {
                    at: at.clone(),
                    state: ServerState::Ready,
                },
                Command::SetAddress {
                    at,
                    address: [127, 0, 0, 1].into(),
                    port: 3,
                },
            ];
            script.extend(commands.map(|command| (command, Refused(kind))));
        }
        let at = server("none", "s1");
        script.push((Command::DeleteServer(at), Refused(Refusal::NoSuchBackend)));
        script
    })
    .await;
}

// H10
#[haproxies]
async fn servers_that_something_names_stay(version: Version) {
    expect(&version, |_| {
        let maint = |name| Command::SetState {
            at: server("named", name),
            state: ServerState::Maint,
        };
        let delete = |name| Command::DeleteServer(server("named", name));
        vec![
            (maint("used"), Done),
            (maint("tracked"), Done),
            (delete("used"), Refused(Refusal::PointedAt)),
            (delete("tracked"), Refused(Refusal::PointedAt)),
            (delete("tracking"), Done),
        ]
    })
    .await;
}

#[haproxies]
async fn maps_and_variables_are_changed(version: Version) {
    let gone = match version.deletes_a_missing_key_in_silence() {
        true => Done,
        false => AlreadySo,
    };
    expect(&version, |worker| {
        let map = || worker.file("m.map");
        let none = || "/none.map".to_owned();
        let key = || "/new".to_owned();
        let add = |map, version| Command::AddMapEntries {
            map,
            version,
            entries: vec![(key(), "v".into())],
        };
        let set = |map, key: &str| Command::SetMapEntry {
            map,
            key: key.to_owned(),
            value: "v".into(),
        };
        let add_one = |map| Command::AddMapEntry {
            map,
            key: key(),
            value: "v".into(),
        };
        let delete = |map| Command::DeleteMapEntry { map, key: key() };
        let variable = |name: &str| Command::SetVariable {
            name: name.to_owned(),
            value: "0a-1.b".into(),
        };
        let missing = Refused(Refusal::NoSuchEntry);
        vec![
            (Command::PrepareMap { map: map() }, Meant::Version),
            (add(map(), 1), Done),
            (add(map(), 9), Refused(Refusal::Other)),
            (
                Command::CommitMap {
                    map: map(),
                    version: 9,
                },
                Refused(Refusal::Other),
            ),
            (
                Command::CommitMap {
                    map: map(),
                    version: 1,
                },
                Done,
            ),
            (Command::PrepareMap { map: map() }, Meant::Version),
            (
                Command::ClearMapVersion {
                    map: map(),
                    version: 2,
                },
                Done,
            ),
            (set(map(), "/new"), Done),
            (set(map(), "/none"), missing),
            (add_one(map()), Done),
            (delete(map()), Done),
            (delete(map()), gone),
            (Command::PrepareMap { map: none() }, missing),
            (add(none(), 1), missing),
            (
                Command::CommitMap {
                    map: none(),
                    version: 1,
                },
                missing,
            ),
            (
                Command::ClearMapVersion {
                    map: none(),
                    version: 1,
                },
                missing,
            ),
            (set(none(), "/a"), missing),
            (add_one(none()), missing),
            (delete(none()), missing),
            (variable("proc.gatewright_revision"), Done),
            (variable("sess.x"), Refused(Refusal::Other)),
        ]
    })
    .await;
}

#[haproxies]
async fn certificates_are_changed(version: Version) {
    expect(&version, |worker| {
        let [a, b, list, none] =
            ["a.pem", "b.pem", "list.txt", "none"].map(|name| worker.file(name));
        let set = |file: &String, pem: &str| Command::SetCertificate {
            file: file.clone(),
            pem: std::fs::read_to_string(worker.path(pem))
                .unwrap()
                .as_str()
                .into(),
        };
        let new = |file: &String| Command::NewCertificate { file: file.clone() };
        let commit = |file: &String| Command::CommitCertificate { file: file.clone() };
        let abort = |file: &String| Command::AbortCertificate { file: file.clone() };
        let delete = |file: &String| Command::DeleteCertificate { file: file.clone() };
        let line = |list: &String, file: &String| Command::AddCrtListLine {
            list: list.clone(),
            line: format!("{file} [alpn h2] b.example *.b.example"),
        };
        let unlist = |list: &String, file: &str| Command::DeleteCrtListLine {
            list: list.clone(),
            file: file.to_owned(),
        };
        let missing = Refused(Refusal::NoSuchEntry);
        vec![
            (new(&b), Done),
            (new(&b), Refused(Refusal::Exists)),
            (line(&list, &b), missing),
            (set(&b, "a.pem"), Done),
            (set(&b, "b.pem"), Done),
            (abort(&b), Done),
            (abort(&b), AlreadySo),
            (commit(&b), missing),
            (set(&b, "b.pem"), Done),
            (commit(&b), Done),
            (line(&list, &b), Done),
            (line(&none, &b), missing),
            (line(&list, &none), missing),
            (delete(&b), Refused(Refusal::PointedAt)),
            (set(&b, "a.pem"), Done),
            (commit(&b), Done),
            (unlist(&none, &b), missing),
            (unlist(&list, &none), missing),
            (unlist(&list, &format!("{b}:2")), Done),
            (unlist(&list, &b), missing),
            (delete(&b), Done),
            (delete(&b), AlreadySo),
            (set(&none, "b.pem"), missing),
            (set(&a, "h.cfg"), Refused(Refusal::Other)),
            (set(&a, "a.crt"), Done),
            (commit(&a), Refused(Refusal::Other)),
            (abort(&a), Done),
        ]
    })
    .await;
}
