//! Gatewright is killed after every single effect of a change (see `crash`), and the next one makes of it
//! what it should: the files are good at each moment, and it converges with at most one reload, or
//! with none where nothing differs.
//!
//! The one that is killed is this test program, started again as a child that applies one set.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatewright::apply::execute::{Applier, Means, Options, Verdict};
use gatewright::apply::gate::Rules;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::apply::tell::Mode;
use gatewright::haproxy::master::{MasterSocket, Reload};
use support::haproxies::{Version, oldest};
use support::measured;

use super::super::open;
use super::bench::{Bench, Servers, Traffic};

/// The test that is the child, among all of this program.
const CHILD: &str = concat!(module_path!(), "::child");

/// Far more than any change has.
const MOST: usize = 400;

/// Where the child finds what it is to do.
const DIRECTORY: &str = "GATEWRIGHT_TEST_DIRECTORY";
const PROGRAM: &str = "GATEWRIGHT_TEST_HAPROXY";

/// A way from one set to another that ends well or not.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The first set of all, beside a HAProxy on a configuration that somebody wrote.
    First,
    Commands,
    Reload,
    Refused,
    Rejected,
}

impl Way {
    fn to(self) -> Servers {
        match self {
            Way::First | Way::Reload => Servers::Loaded,
            Way::Commands => Servers::Next,
            Way::Refused => Servers::Refused,
            Way::Rejected => Servers::Rejected,
        }
    }

    /// What must run in the end.
    fn end(self) -> Servers {
        match self {
            Way::Refused | Way::Rejected => Servers::Former,
            way => way.to(),
        }
    }
}

// G13 I08 J08 J12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_effect_of_the_first_set_it_converges() {
    converges(Way::First, 45).await;
}

// G13 I08 J08 J12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_effect_of_commands_it_converges() {
    converges(Way::Commands, 30).await;
}

// G13 I08 J08 J12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_effect_of_a_reload_it_converges() {
    converges(Way::Reload, 30).await;
}

// G13 I08 J08 J12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_effect_of_a_refused_set_it_converges() {
    converges(Way::Refused, 17).await;
}

// G13 I08 J08 J12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_effect_of_a_rejected_set_it_converges() {
    converges(Way::Rejected, 48).await;
}

/// Kills the child after each effect of a way, or after each tenth if the run is not a long one. There are more than
/// `least` effects.
async fn converges(way: Way, least: usize) {
    let step = if support::long() { 1 } else { 10 };
    let count = step * sweep(oldest(), way, (1..MOST).step_by(step)).await;
    if support::long() {
        measured::note("crash sweep", &format!("places in {way:?}"), count);
    }
    assert!(
        count > least,
        "{count} places: are they still where they were?"
    );
}

/// Opens, applies as the agent does, and ends well; killed before that, mostly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests start it"]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = PathBuf::from(directory);
    let text = std::fs::read_to_string(directory.join("wanted")).unwrap();
    let main = directory.join("haproxy.cfg");
    let mut options = Options::new(
        directory.join("state"),
        vec![(main.clone(), Role::Config)],
        Mode::Master {
            socket: directory.join("master.sock"),
        },
        std::env::var_os(PROGRAM).unwrap().into(),
    );
    options.stats_socket = Some(directory.join("stats.sock").into());
    options.max_old_workers = 50;
    let candidate = Candidate::new(vec![SetFile {
        destination: main,
        role: Role::Config,
        mode: None,
        text,
    }]);
    let mut applier = Applier::open(options, Rules::default()).unwrap();
    drive(&mut applier, &candidate).await;
}

/// Applies as the agent does until it has ended.
async fn drive(applier: &mut Applier, candidate: &Candidate) -> Vec<Verdict> {
    let mut told = Vec::new();
    let mut means = Means::Commands;
    for _ in 0..6 {
        let verdict = applier.apply(candidate, means).await;
        means = Means::Any;
        let ended = match &verdict {
            Verdict::Refused { .. } | Verdict::Rejected { .. } | Verdict::StillRejected { .. } => {
                applier.observe().await;
                true
            }
            Verdict::Confirmed { .. } | Verdict::Unchanged => {
                let seen = applier.observe().await;
                if seen.servers.differs.is_some() {
                    means = Means::Reload;
                }
                !seen.diverges() && seen.servers.differs.is_none()
            }
            _ => false,
        };
        told.push(verdict);
        if ended {
            return told;
        }
    }
    panic!("it does not end: {told:#?}");
}

/// One way, killed at these of its places; how many there were.
async fn sweep(version: Version, way: Way, numbers: impl Iterator<Item = usize> + Send) -> usize {
    let mut bench = match way {
        Way::First => Bench::written_by_hand(&version).await,
        _ => Bench::start(&version, "admin").await,
    };
    let mut options = bench.options();
    options.stats_socket = Some(bench.socket().into());
    let open = || open(options.clone(), Rules::default());
    if way != Way::First {
        drive(&mut open(), &bench.set(Servers::Former)).await;
    }
    std::fs::write(bench.path().join("wanted"), bench.text(way.to())).unwrap();
    // What may stand in the live file, all of it valid.
    let mut known = vec![
        bench.text(Servers::Former),
        one_text(&bench, Servers::Former),
    ];
    if way != Way::Refused {
        known.push(one_text(&bench, way.to()));
    }
    for text in &known {
        let file = bench.path().join("known.cfg");
        std::fs::write(&file, text).unwrap();
        let mut check = tokio::process::Command::new(version.program());
        let output = check.args(["-W", "-c", "-f"]).arg(&file).output().await;
        assert!(output.unwrap().status.success(), "{text}");
    }
    assert_eq!(bench.reloads().await, 0);
    let traffic = Traffic::paced(bench.port(), Duration::from_millis(20));
    for (count, number) in numbers.enumerate() {
        let (killed, place) = killed_at(&bench, &version, number).await;
        let place = format!("{way:?} on {version}, killed at {place}");
        let live = std::fs::read_to_string(bench.main()).unwrap();
        assert!(known.contains(&live), "{place}: {live}");

        let mut applier = open();
        let told = drive(&mut applier, &bench.set(way.to())).await;
        bench
            .assert_equal(way.end(), &format!("{place}: {told:?}"))
            .await;
        let reloads = bench.reloads().await;
        let most = match way {
            Way::Refused | Way::Commands => 0,
            Way::First | Way::Reload => 1,
            // The set that fails counts, and on the way back the good one.
            Way::Rejected => 4,
        };
        assert!(
            reloads <= most || way == Way::Commands && reloads <= 1,
            "{place}: {reloads} reloads, {told:?}"
        );
        drop(applier);

        // Nothing differs any more: nothing is written and nobody is told.
        let stamp = stamp(&bench.main());
        let mut applier = open();
        let again = drive(&mut applier, &bench.set(way.end())).await;
        assert!(
            matches!(again[..], [Verdict::Unchanged]),
            "{place}: {again:?}"
        );
        assert_eq!(stamp, self::stamp(&bench.main()), "{place}");
        assert_eq!(bench.reloads().await, 0, "{place}");
        drop(applier);
        assert_eq!(litter(&bench), [""; 0], "{place}");
        if !killed {
            assert_eq!(traffic.failed().await, 0, "{way:?} on {version}");
            return count;
        }
        go_back(&mut bench, way, &open).await;
    }
    panic!("{way:?}: more than {MOST} places");
}

fn one_text(bench: &Bench, servers: Servers) -> String {
    bench.set(servers).files.remove(0).text
}

/// Whether it was killed, and the last place that it reached.
async fn killed_at(bench: &Bench, version: &Version, number: usize) -> (bool, String) {
    let log = bench.path().join("places");
    let _ = std::fs::remove_file(&log);
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", CHILD.split_once("::").unwrap().1])
        .env(DIRECTORY, bench.path())
        .env(PROGRAM, version.program())
        .env("GATEWRIGHT_CRASH_AT", number.to_string())
        .env("GATEWRIGHT_CRASH_LOG", &log)
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let killed = output.status.signal() == Some(9);
    assert!(
        killed || output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let places = std::fs::read_to_string(&log).unwrap();
    (killed, places.lines().last().unwrap().to_owned())
}

fn stamp(path: &Path) -> (u64, i64, i64) {
    let file = std::fs::metadata(path).unwrap();
    (file.ino(), file.mtime(), file.mtime_nsec())
}

/// What is left of a change that has ended, beside the files and among what is kept.
fn litter(bench: &Bench) -> Vec<String> {
    let state = bench.state();
    let mut found = Vec::new();
    for directory in [bench.path(), &state] {
        found.extend(
            names(directory).filter(|name| name.contains("gatewright-") || name == "journal.json"),
        );
    }
    for part in ["sets", "rejected"] {
        let part = state.join(part);
        for set in names(&part) {
            let whole = part.join(&set).join("manifest.json").exists();
            let half = names(&part.join(&set)).any(|name| name.contains("gatewright-"));
            if !whole || half {
                found.push(format!("a part of set {set}"));
            }
        }
    }
    found
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
}

/// To where the next round begins.
async fn go_back(bench: &mut Bench, way: Way, open: &impl Fn() -> Applier) {
    match way {
        Way::First => {
            std::fs::remove_dir_all(bench.state()).unwrap();
            std::fs::write(bench.main(), bench.text(Servers::Former)).unwrap();
            let limit = Duration::from_secs(20);
            let path = bench.master_path();
            let reload = MasterSocket { path, limit }.reload(limit).await;
            assert!(matches!(reload, Ok(Reload::Loaded { .. })), "{reload:?}");
        }
        Way::Refused => {}
        Way::Rejected => {
            // It is remembered for as long as this HAProxy lives, and would not be tried.
            std::fs::remove_dir_all(bench.state()).unwrap();
            drive(&mut open(), &bench.set(Servers::Former)).await;
        }
        Way::Commands | Way::Reload => {
            let mut applier = open();
            drive(&mut applier, &bench.set(Servers::Former)).await;
            bench.tidy(&mut applier).await;
        }
    }
    bench.reloads().await;
}
