//! The supervisor and the master socket on real HAProxy.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatewright::haproxy::check::Invocation;
use gatewright::haproxy::master::{MasterSocket, Reload};
use gatewright::haproxy::process::Master;
use gatewright::haproxy::supervise::{Options, Status, Supervisor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::haproxies::{Version, haproxies, oldest};

use crate::real::{Haproxy, configuration, eventually, free_port, get};

// G02
#[haproxies]
async fn every_version_tells_the_outcome_of_a_reload(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("h.cfg");
    let text = configuration(directory.path(), free_port(), "one");
    std::fs::write(&main, &text).unwrap();
    let haproxy = Haproxy::start(&version, directory.path(), &main).await;
    let master = MasterSocket {
        path: directory.path().join("master.sock"),
        limit: Duration::from_secs(2),
    };
    let limit = Duration::from_secs(20);
    for round in 0..3 {
        std::fs::write(&main, format!("{text}    nonsense\n")).unwrap();
        let bad = master.reload(limit).await.unwrap();
        assert!(
            matches!(bad, Reload::Failed { .. }),
            "{version} {round}: {bad:?}"
        );
        std::fs::write(&main, &text).unwrap();
        let good = master.reload(limit).await.unwrap();
        assert!(
            matches!(good, Reload::Loaded { .. }),
            "{version} {round}: {good:?}"
        );
    }
    let pid = haproxy.child.id().cast_signed();
    assert_eq!(
        master.processes_within(limit).await.unwrap().master.pid,
        pid
    );
    assert!(Master::open(pid).is_ok());
    let worker = master.processes().await.unwrap().workers[0].pid;
    assert!(
        Master::open(worker).is_err(),
        "{version}: a worker is no master"
    );
}

fn supervisor(directory: &Path, port: u16) -> Supervisor {
    let main = directory.join("h.cfg");
    std::fs::write(&main, configuration(directory, port, "one")).unwrap();
    Supervisor::new(Options {
        invocation: Invocation {
            binary: oldest().program().to_owned(),
            flags: vec!["-W".into()],
            files: vec![main],
            working_directory: None,
            environment: BTreeMap::new(),
        },
        socket: directory.join("master.sock"),
        start_limit: Duration::from_secs(20),
        stop_limit: Duration::from_secs(20),
        first_wait: Duration::from_millis(50),
        longest_wait: Duration::from_secs(1),
    })
}

// I03
#[tokio::test]
async fn a_second_order_to_end_does_not_wait_for_connections() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let supervisor = supervisor(directory.path(), port);
    let limit = Duration::from_secs(20);
    assert!(matches!(
        supervisor.start(limit).await,
        Status::Running { .. }
    ));
    let mut held = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut held, b"GET / HT")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let first = supervisor.clone();
    let stopping = tokio::spawn(async move { first.stop().await });
    let status = supervisor.clone();
    eventually("it is ending", || {
        matches!(status.status(), Status::Stopping { .. })
    })
    .await;
    assert!(!stopping.is_finished());
    supervisor.kill().await;
    stopping.await.unwrap();
    assert_eq!(supervisor.status(), Status::Stopped);
    assert!(get(port).await.is_err());
}

// I01
/// Runs itself once more as process 1 of a pid namespace of its own (needs root): what a dead master
/// leaves behind is reaped, and our own children are left to their owner.
#[tokio::test]
async fn as_process_one_nothing_stays_unreaped() {
    const NAME: &str = "haproxy::supervise::as_process_one_nothing_stays_unreaped";
    if std::process::id() != 1 {
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 passed"), "{text}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let supervisor = supervisor(directory.path(), port);
    let limit = Duration::from_secs(20);
    for _ in 0..3 {
        let Status::Running { pid } = supervisor.start(limit).await else {
            panic!("{:?}", supervisor.status());
        };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let watched = supervisor.clone();
        eventually(
            "another master serves",
            || matches!(watched.status(), Status::Running { pid: now } if now != pid),
        )
        .await;
    }
    // A worker notices the end of its master after up to two seconds, and is ours to reap then.
    eventually("only one master and one worker are left", || {
        haproxy_processes() == 2
    })
    .await;
    supervisor.stop().await;
    eventually("nothing is left", || haproxy_processes() == 0).await;
}

/// Processes of any state, zombies too, that were started as HAProxy.
fn haproxy_processes() -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| stat.contains("(haproxy)"))
        .count()
}
