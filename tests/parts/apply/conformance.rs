//! The fake worker is as the real HAProxy 2.6: the same sites, plans and stray commands, and after each
//! step the same answers and the same servers.

#[path = "../../../src/apply/plan/property_tests/applied.rs"]
#[allow(dead_code)] // The tests of the plan use all of it.
mod applied;
#[path = "../../../src/apply/plan/property_tests/family.rs"]
#[allow(dead_code)]
mod family;
#[path = "../../../src/apply/plan/property_tests/worker.rs"]
#[allow(dead_code)]
mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use gatewright::apply::plan::{Plan, Policy};
use gatewright::apply::set::REVISION_VARIABLE;
use gatewright::haproxy::runtime::{
    Answer, Command, ServerRef, ServerRow, ServerState, Session, Version,
};
use gatewright::haproxy::stats::WorkerSocket;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::haproxies::{self, haproxies, known};

use self::applied::Applied;
use self::family::{Line, Site, named, sites};
use self::worker::{Worker, patterns};
use crate::real::Haproxy;

/// How many sites follow one another.
const STEPS: usize = 40;

/// A real worker that has loaded a site.
struct Real {
    _haproxy: Haproxy,
    session: Session,
    directory: tempfile::TempDir,
}

impl Real {
    async fn load(version: &haproxies::Version, site: &Site) -> Real {
        let directory = tempfile::tempdir().unwrap();
        for file in site.files(directory.path()) {
            std::fs::write(&file.destination, &file.text).unwrap();
        }
        let main = directory.path().join("h.cfg");
        let haproxy = Haproxy::start(version, directory.path(), &main).await;
        let socket = WorkerSocket::Stats(directory.path().join("stats.sock").into());
        let each = Duration::from_secs(20);
        let running = socket
            .await_running(each, each, REVISION_VARIABLE, |_| true)
            .await
            .unwrap();
        Real {
            _haproxy: haproxy,
            session: Session {
                socket,
                version: Version::parse(&running.version).unwrap(),
                limit: each,
                variable: REVISION_VARIABLE.to_owned(),
            },
            directory,
        }
    }

    fn map(&self) -> String {
        self.directory.path().join("m.map").display().to_string()
    }

    fn acl(&self) -> String {
        self.directory.path().join("p.acl").display().to_string()
    }

    /// Sends the commands to both, compares what each answers, and returns the answers.
    async fn say(&self, fake: &mut Worker, commands: &[Command]) -> Vec<Answer> {
        let batch = self.session.send(commands).await;
        assert!(batch.error.is_none(), "{batch:?}");
        for (command, answer) in commands.iter().zip(&batch.answers) {
            let said = fake.carry_out(command);
            let same = match (&said, answer) {
                (Answer::Refused { kind: one, .. }, Answer::Refused { kind: two, .. }) => {
                    one == two
                }
                (one, two) => one == two,
            };
            assert!(same, "{command:?}: {answer:?}, and the fake {said:?}");
        }
        assert_eq!(batch.answers.len(), commands.len());
        batch.answers
    }

    async fn compare(&self, fake: &Worker) {
        let (_, mut rows) = self.session.servers(None).await.unwrap();
        let seen = |rows: &mut Vec<ServerRow>| -> Vec<_> {
            rows.sort_by_key(|row| (row.backend.clone(), row.server.clone()));
            let of_row = |row: &ServerRow| {
                let weights = (row.user_weight, row.initial_weight);
                let name = format!("{}/{}", row.backend, row.server);
                // 0x40 only tells that its name was set at run time.
                let admin = row.admin.0 & 0x3f;
                (
                    name,
                    row.id,
                    row.address,
                    row.port,
                    weights,
                    admin,
                    row.forced_id,
                )
            };
            rows.iter().map(of_row).collect()
        };
        assert_eq!(seen(&mut rows), seen(&mut fake.rows()));
        let entries = self.session.map_entries(&self.map(), None).await.unwrap();
        assert_eq!(entries, fake.map);
        let patterns = self.session.acl_patterns(&self.acl()).await.unwrap();
        assert_eq!(patterns, fake.acl);
    }
}

/// Commands that no plan makes, or not here: they are refused in all ways.
fn stray() -> impl Strategy<Value = Vec<Command>> {
    let at = (0..4_u8, 0..10_u8).prop_map(|(backend, server)| {
        let server = match server {
            8 => "t1".to_owned(),
            server => format!("s{server}"),
        };
        ServerRef::new(format!("b{backend}"), server)
    });
    let state = prop_oneof![
        Just(ServerState::Ready),
        Just(ServerState::Drain),
        Just(ServerState::Maint)
    ];
    let words = prop_oneof![
        Just("weight 3 id 12"),
        Just("weight 0"),
        Just("check id 30"),
        Just("interface lo"),
        Just("source 127.0.0.2 interface lo"),
        Just("no-check"),
        Just("cookie c"),
    ];
    let command = (at, state, 0..9_u8, words).prop_map(|(at, state, kind, words)| match kind {
        0 => Command::AddServer {
            at,
            address: [127, 0, 0, 9].into(),
            port: 8009,
            options: vec![words.split(' ').map(str::to_owned).collect()],
        },
        1 => Command::DeleteServer(at),
        2 => Command::EnableServer(at),
        3 => Command::EnableHealth(at),
        4 => Command::SetAddress {
            at,
            address: [127, 0, 0, 1].into(),
            port: 8001,
        },
        5 => Command::SetWeight { at, weight: 5 },
        6 => Command::SetWeight { at, weight: 0 },
        7 => Command::EnableAgent(at),
        _ => Command::SetState { at, state },
    });
    prop::collection::vec(command, 0..6)
}

// H03
#[tokio::test]
async fn the_fake_worker_is_as_the_real_one() {
    let imitated = known("2.6");
    let mut runner = TestRunner::deterministic();
    let mut reloads: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..2 {
        let tree = sites(STEPS).prop_map(named).new_tree(&mut runner).unwrap();
        let sites = tree.current();
        let mut real = Real::load(&imitated, &sites[0]).await;
        let mut applied = Applied::start(&sites[0]);
        applied.worker = Worker::load(&sites[0], &real.map());
        real.compare(&applied.worker).await;
        for pair in sites.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            match applied.plan(old, new, Policy::default()) {
                Plan::Nothing => {}
                Plan::Commands(steps) => {
                    real.say(&mut applied.worker, &steps.servers.first).await;
                    real.say(&mut applied.worker, &steps.servers.ready).await;
                    for map in &steps.maps {
                        let file = real.map();
                        let prepare = Command::PrepareMap { map: file.clone() };
                        let answers = real.say(&mut applied.worker, &[prepare]).await;
                        let [Answer::Version(version)] = answers[..] else {
                            panic!("{answers:?}");
                        };
                        let mut commands =
                            Command::add_map_entries(&file, version, map.entries.clone());
                        commands.push(Command::CommitMap { map: file, version });
                        real.say(&mut applied.worker, &commands).await;
                    }
                    for acl in &steps.acls {
                        let file = real.acl();
                        let prepare = Command::PrepareAcl { acl: file.clone() };
                        let answers = real.say(&mut applied.worker, &[prepare]).await;
                        let [Answer::Version(version)] = answers[..] else {
                            panic!("{answers:?}");
                        };
                        let commands = patterns(&file, version, &acl.patterns);
                        real.say(&mut applied.worker, &commands).await;
                    }
                    real.say(&mut applied.worker, &steps.servers.last).await;
                    applied.note(&steps, true);
                }
                Plan::Reload { reason } => {
                    *reloads.entry(reason).or_default() += 1;
                    real = Real::load(&imitated, new).await;
                    applied = Applied::start(new);
                    applied.worker = Worker::load(new, &real.map());
                }
            }
            real.compare(&applied.worker).await;
            let stray = stray().new_tree(&mut runner).unwrap().current();
            real.say(&mut applied.worker, &stray).await;
            real.compare(&applied.worker).await;
        }
    }
    let count: usize = reloads.values().sum();
    assert!(
        count < STEPS * 3 / 2,
        "many changes need no reload: {count}, {reloads:#?}"
    );
}

/// 0x04 of the state stays when a command makes a disabled server ready, and it serves all the same.
#[haproxies]
async fn a_server_that_the_file_disables_serves_when_it_is_made_ready(version: haproxies::Version) {
    let mut runner = TestRunner::deterministic();
    let tree = sites(1).prop_map(named).new_tree(&mut runner).unwrap();
    let mut site = tree.current().remove(0);
    site.backends.truncate(1);
    let lines = &mut site.backends[0];
    (lines.balance, lines.defaults, lines.template) = (0, 0, None);
    lines.servers = vec![Line {
        name: "s0".to_owned(),
        host: 1,
        port: 8001,
        weight: None,
        id: None,
        disabled: true,
        options: 0,
    }];
    let real = Real::load(&version, &site).await;
    let at = || ServerRef::new("b0", "s0");
    for (state, admin, operational) in [
        (ServerState::Ready, 0x04, 2),
        (ServerState::Drain, 0x0c, 2),
        (ServerState::Maint, 0x05, 0),
        (ServerState::Ready, 0x04, 2),
    ] {
        let command = Command::SetState { at: at(), state };
        assert!(real.session.send(&[command]).await.is_done(1));
        let (_, rows) = real.session.servers(None).await.unwrap();
        let seen = (rows[0].admin.0 & 0x3f, rows[0].operational);
        assert_eq!(seen, (admin, operational), "{version}: {state:?}");
        assert_eq!(rows[0].admin.serves(), state == ServerState::Ready);
    }
}
