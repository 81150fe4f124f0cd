//! What a session makes of a worker: large batches, what is read back, what ends in the middle.

use std::collections::BTreeMap;

use gatewright::apply::set::REVISION_VARIABLE;
use gatewright::haproxy::master::MasterSocket;
use gatewright::haproxy::runtime::{Answer, Refusal, SendError, ServerRow, ServerState};
use gatewright::haproxy::socket::SocketError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::haproxies::{haproxies, newest, oldest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

// H13
#[haproxies]
async fn a_thousand_servers_are_added_and_read_back(version: Version) {
    for way in 0..2 {
        let worker = Worker::start(&version).await;
        let session = &worker.sessions()[way];
        // As many words as HAProxy reads; the last pair counts.
        let long = format!("{}weight 9", "weight 5 ".repeat(28));
        let commands: Vec<Command> = (0..500)
            .flat_map(|number| {
                let at = server("b", &format!("new{number}"));
                let options = format!("id {} {long}", number + 100);
                [add(at.clone(), &options), Command::EnableServer(at)]
            })
            .collect();
        let batch = session.send(&commands).await;
        assert!(batch.is_done(1_000), "{version}: {:?}", batch.refusal());
        let backends = ["b".to_owned(), "none".to_owned(), "static".to_owned()];
        let (running, rows) = session.servers(Some(&backends)).await.unwrap();
        assert_eq!(
            runtime::Version::parse(&running.version),
            Some(worker.version)
        );
        assert_eq!(rows.len(), 503);
        let new: BTreeMap<u32, _> = rows.iter().map(|row| (row.id, row)).collect();
        for number in 0..500 {
            let row = new[&(number + 100)];
            assert_eq!(row.server, format!("new{number}"));
            assert_eq!((row.user_weight, row.port), (9, 8080), "{version}");
            assert!(row.admin.serves() && row.forced_id && !row.fqdn);
        }
        let (_, all) = session.servers(None).await.unwrap();
        assert!(all.len() > rows.len());
    }
}

// H03
#[haproxies]
async fn states_and_addresses_are_read_back(version: Version) {
    let worker = Worker::start(&version).await;
    for session in worker.sessions() {
        let at = server("b", "s1");
        for (state, wanted) in [
            (ServerState::Drain, 0x08),
            (ServerState::Maint, 0x01),
            (ServerState::Ready, 0),
        ] {
            let command = Command::SetState {
                at: at.clone(),
                state,
            };
            assert!(session.send(&[command]).await.is_done(1));
            let admin = row(&session, "s1").await.admin.0 & 0x3f;
            assert_eq!(admin, wanted, "{version}: {state:?}");
        }
        for last in [2, 3] {
            let address = [127, 0, 0, last].into();
            let command = Command::SetAddress {
                at: at.clone(),
                address,
                port: 2_000,
            };
            assert!(session.send(&[command]).await.is_done(1));
            // From 3.0 a task makes the change after the answer.
            let deadline = Instant::now() + Duration::from_secs(20);
            while row(&session, "s1").await.address != Some(address) {
                assert!(Instant::now() < deadline, "{version}");
            }
        }
        let options = "id 31 check inter 60s";
        let at = server("b", "new");
        let commands = [add(at.clone(), options), Command::EnableServer(at.clone())];
        assert!(session.send(&commands).await.is_done(2));
        assert!(!row(&session, "new").await.check_enabled);
        let commands = [Command::EnableHealth(at.clone())];
        assert!(session.send(&commands).await.is_done(1));
        assert!(row(&session, "new").await.check_enabled, "{version}");
        let commands = [
            Command::SetState {
                at: at.clone(),
                state: ServerState::Maint,
            },
            Command::DeleteServer(at),
        ];
        assert!(session.send(&commands).await.is_done(2));
    }
}

async fn row(session: &Session, name: &str) -> ServerRow {
    let (_, rows) = session.servers(Some(&["b".to_owned()])).await.unwrap();
    rows.into_iter().find(|row| row.server == name).unwrap()
}

// H10
#[haproxies]
async fn a_connected_server_is_deleted_when_its_connections_have_ended(version: Version) {
    let worker = Worker::start(&version).await;
    let listener = tokio::net::UnixListener::bind(worker.path("echo.sock")).unwrap();
    for session in worker.sessions() {
        let ready = Command::SetState {
            at: server("t", "echo"),
            state: ServerState::Ready,
        };
        assert!(session.send(&[ready]).await.is_done(1));
        let mut client = tokio::net::TcpStream::connect(("127.0.0.1", worker.port))
            .await
            .unwrap();
        client.write_all(b"x").await.unwrap();
        let (mut behind, _) = listener.accept().await.unwrap();
        behind.read_u8().await.unwrap();
        let sessions = async || {
            let rows = session.connections("t").await.unwrap();
            rows.iter().map(|row| row.sessions).sum::<u32>()
        };
        assert_eq!(sessions().await, 1, "{version}");
        let maint = Command::SetState {
            at: server("t", "echo"),
            state: ServerState::Maint,
        };
        let delete = Command::DeleteServer(server("t", "echo"));
        let batch = session.send(&[maint, delete.clone()]).await;
        let connected = matches!(
            batch.answers[..],
            [
                Answer::Done,
                Answer::Refused {
                    kind: Refusal::StillConnected,
                    ..
                }
            ]
        );
        assert!(connected, "{version}: {batch:?}");
        drop((client, behind));
        let deadline = Instant::now() + Duration::from_secs(20);
        while sessions().await > 0 {
            assert!(Instant::now() < deadline, "{version}");
        }
    }
    let delete = Command::DeleteServer(server("t", "echo"));
    let batch = worker.sessions()[0].send(&[delete]).await;
    assert!(batch.is_done(1), "{version}: {batch:?}");
    assert_eq!(worker.sessions()[0].connections("t").await.unwrap(), []);
    assert_eq!(worker.sessions()[0].connections("none").await.unwrap(), []);
}

#[haproxies]
async fn a_map_is_replaced_whole_and_read_back(version: Version) {
    let worker = Worker::start(&version).await;
    let map = worker.file("m.map");
    for session in worker.sessions() {
        let mut entries: Vec<(String, String)> = (0..1_000)
            .map(|number| (format!("/key{number}"), format!("value  {number}")))
            .collect();
        for (key, value) in [
            ("/;a;\\", "one; two\\ \"three\" 'four'"),
            ("<<", "<< #"),
            ("/é", "ü"),
        ] {
            entries.push((key.to_owned(), value.to_owned()));
        }
        let prepare = Command::PrepareMap { map: map.clone() };
        let batch = session.send(&[prepare]).await;
        let Some(&Answer::Version(number)) = batch.answers.first() else {
            panic!("{batch:?}");
        };
        let mut commands = Command::add_map_entries(&map, number, entries.clone());
        let filled = session.send(&commands).await;
        assert!(filled.is_done(commands.len()), "{version}: {filled:?}");
        let before = session.map_entries(&map, None).await.unwrap();
        assert_ne!(before, entries);
        let prepared = session.map_entries(&map, Some(number)).await.unwrap();
        assert_eq!(prepared, entries, "{version}");
        commands = vec![Command::CommitMap {
            map: map.clone(),
            version: number,
        }];
        assert!(session.send(&commands).await.is_done(1));
        assert_eq!(session.map_entries(&map, None).await.unwrap(), entries);
        let maps = session.maps().await.unwrap();
        let info = maps.iter().find(|info| info.path == map).unwrap();
        assert_eq!(info.current, Some(number), "{version}");
        assert_eq!(info.entries, Some(1_003), "{version}");
        let clear = Command::AddMapEntry {
            map: map.clone(),
            key: "/one".into(),
            value: "more".into(),
        };
        assert!(session.send(&[clear]).await.is_done(1));
        assert!(session.map_entries("/none", None).await.is_err());
    }
}

#[haproxies]
async fn a_revision_is_moved_and_told_with_the_servers(version: Version) {
    let revisions = ["0123456789ab", "ba9876543210"];
    let worker = Worker::start(&version).await;
    for (session, revision) in worker.sessions().iter().zip(revisions) {
        let commands = [
            Command::SetVariable {
                name: REVISION_VARIABLE.into(),
                value: revision.into(),
            },
            Command::SetWeight {
                at: server("b", "s1"),
                weight: 5,
            },
        ];
        let batch = session.send(&commands).await;
        assert!(batch.is_done(2), "{version}: {batch:?}");
        let (running, _) = session.servers(Some(&[])).await.unwrap();
        let told = running.revision.map(|revision| revision.to_string());
        assert_eq!(told.as_deref(), Some(revision), "{version}");
    }
}

// H09
#[haproxies]
async fn an_old_worker_takes_nothing(version: Version) {
    let worker = Worker::start(&version).await;
    let listener = tokio::net::UnixListener::bind(worker.path("echo.sock")).unwrap();
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", worker.port))
        .await
        .unwrap();
    client.write_all(b"x").await.unwrap();
    let behind = listener.accept().await.unwrap();
    let session = worker.sessions()[0].clone();
    let (old, _) = session.servers(Some(&[])).await.unwrap();
    let master = MasterSocket {
        path: worker.path("master.sock"),
        limit: Duration::from_secs(20),
    };
    master.reload(Duration::from_secs(20)).await.unwrap();
    let command = Command::EnableServer(server("b", "s1"));
    let text = command.encode().unwrap();
    let line = format!("@!{} {}", old.pid, text.trim_end());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = master.command(&line).await.unwrap_or_default();
        match command.judge(&answer, worker.version) {
            Answer::Refused {
                kind: Refusal::Disabled,
                ..
            } => break,
            // It is told to stop a moment after the new one has loaded.
            _ => assert!(Instant::now() < deadline, "{version}: {answer}"),
        }
    }
    drop((client, behind));
}

// H05
#[tokio::test]
async fn nothing_is_sent_of_commands_with_an_unspeakable_one() {
    let worker = Worker::start(&oldest()).await;
    let session = &worker.sessions()[0];
    let before = worker.ask("show servers state b").await;
    let commands = [
        add(server("b", "new"), "id 21"),
        Command::EnableServer(server("b", "new;show info")),
    ];
    let batch = session.send(&commands).await;
    assert!(matches!(batch.error, Some(SendError::Unspeakable(_))));
    assert_eq!(worker.ask("show servers state b").await.len(), before.len());
}

// H03 H11
#[tokio::test]
async fn a_batch_stops_after_the_exchange_that_was_refused() {
    let worker = Worker::start(&newest()).await;
    let session = &worker.sessions()[0];
    let commands: Vec<Command> = (0..250)
        .map(|number| match number {
            120 => add(server("none", "new"), ""),
            _ => add(server("b", &format!("new{number}")), ""),
        })
        .collect();
    let batch = session.send(&commands).await;
    assert!(batch.error.is_none());
    assert_eq!(batch.answers.len(), 200);
    assert_eq!(batch.refusal().map(|(index, _)| index), Some(120));
    let (_, rows) = session.servers(Some(&["b".to_owned()])).await.unwrap();
    assert_eq!(rows.len(), 2 + 199);
}

/// Stops a process. A thread that runs on another processor goes on for a moment after the signal.
async fn freeze(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    let stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
        let (_, state) = stat.rsplit_once(") ").unwrap();
        state.starts_with('T')
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        if tasks.all(|task| stopped(task.unwrap())) {
            return;
        }
        assert!(Instant::now() < deadline, "the process stops");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// H01 H02
#[haproxies]
async fn a_worker_that_does_not_answer_is_told_apart_from_none(version: Version) {
    let worker = Worker::start(&version).await;
    let [mut session, through_master] = worker.sessions();
    let (running, _) = session.servers(Some(&[])).await.unwrap();
    session.limit = Duration::from_millis(200);
    let command = Command::EnableServer(server("b", "s1"));
    let pid = Pid::from_raw(running.pid);
    freeze(pid).await;
    let batch = session.send(std::slice::from_ref(&command)).await;
    kill(pid, Signal::SIGCONT).unwrap();
    let timed_out = matches!(
        batch.error,
        Some(SendError::Socket(SocketError::TimedOut { .. }))
    );
    assert!(
        timed_out && batch.answers.is_empty(),
        "{version}: {batch:?}"
    );
    drop(worker);
    for session in [session, through_master] {
        let batch = session.send(std::slice::from_ref(&command)).await;
        let absent = matches!(
            batch.error,
            Some(SendError::Socket(SocketError::Absent { .. }))
        );
        assert!(absent, "{version}: {batch:?}");
    }
}

// H05
/// Every printable letter either comes through as it is, in a word of its own, or is refused.
#[haproxies]
async fn every_letter_comes_through_or_is_refused(version: Version) {
    let worker = Worker::start(&version).await;
    let map = worker.file("m.map");
    for session in worker.sessions() {
        let words = (' '..='~').flat_map(|letter| {
            [
                format!("{letter}"),
                format!("{letter}{letter}"),
                format!("a{letter}b"),
                format!("a{letter}b{letter}c"),
                format!("{letter}1 "),
            ]
        });
        let commands: Vec<Command> = words
            .map(|word| Command::AddMapEntry {
                map: map.clone(),
                key: word.clone(),
                value: word,
            })
            .filter(|command| command.encode().is_ok())
            .collect();
        assert!(commands.len() > 350);
        let before = session.map_entries(&map, None).await.unwrap().len();
        let batch = session.send(&commands).await;
        assert!(batch.is_done(commands.len()), "{version}: {batch:?}");
        let entries = session.map_entries(&map, None).await.unwrap();
        let wanted: Vec<(String, String)> = commands
            .into_iter()
            .map(|command| match command {
                Command::AddMapEntry { key, value, .. } => (key, value),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(entries[before..], wanted, "{version}");
    }
}
