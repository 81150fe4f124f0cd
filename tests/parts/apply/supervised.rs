//! An HAProxy that Gatewright starts: started again after its end, adopted by the next Gatewright, and ended.

use std::path::Path;
use std::time::{Duration, Instant};

use gatewright::apply::execute::Verdict;
use gatewright::haproxy::supervise::Status;
use support::haproxies::{Version, haproxies, newest, oldest};

use super::bench::{Bench, Way, confirmed};
use crate::real::{eventually, get};

// G02 G10
/// Before 3.1 a worker that fails after the fork takes the master with it. The parent starts HAProxy
/// again, from the last good files.
#[haproxies(ends)]
async fn a_master_that_dies_of_a_set_is_started_again_from_the_last_good_one(version: Version) {
    let mut bench = Bench::new(&version);
    let mut applier = bench.applier(Way::Supervise);
    let good = bench.text("good");
    assert!(confirmed(&bench.apply(&mut applier, good).await));
    let bad = bench
        .text("bad")
        .replacen("global\n", "global\n    uid -1\n", 1);
    let verdict = bench.apply(&mut applier, bad.clone()).await;
    assert!(
        matches!(verdict, Verdict::Rejected { restored: true, .. }),
        "{version}: {verdict:?}"
    );
    bench.serves("good").await;
    let again = bench.apply(&mut applier, bad).await;
    assert!(matches!(again, Verdict::StillRejected { .. }), "{again:?}");
    let next = bench.text("next");
    assert!(confirmed(&bench.apply(&mut applier, next).await));
}

// G10 J06
/// A HAProxy that somebody kills in just the moment in which it is told says nothing of the set.
#[haproxies(ends)]
async fn a_master_killed_while_it_is_told_leaves_the_set_to_be_taken(version: Version) {
    let mut bench = Bench::new(&version);
    let mut applier = bench.applier(Way::Supervise);
    let first = bench.text("first");
    assert!(confirmed(&bench.apply(&mut applier, first).await));
    for round in 0..4_u64 {
        let Status::Running { pid } = applier.supervisor().unwrap().status() else {
            panic!("{version}: it runs");
        };
        // From before the validation to after the reload.
        let killer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50 * round)).await;
            let master = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGKILL);
        });
        let word = format!("round{round}");
        let text = bench.text(&word);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match bench.apply(&mut applier, text.clone()).await {
                Verdict::Confirmed { .. } | Verdict::Unchanged => break,
                Verdict::Unconfirmed { .. } | Verdict::Failed { .. } => {}
                verdict => panic!("{version}, round {round}: {verdict:?}"),
            }
            assert!(Instant::now() < deadline, "{version}, round {round}");
        }
        killer.await.unwrap();
        let watched = applier.supervisor().unwrap();
        eventually(
            "another master serves",
            || matches!(watched.status(), Status::Running { pid: now } if now != pid),
        )
        .await;
        bench.note(&watched);
        bench.serves(&word).await;
    }
}

// G10 J06
#[tokio::test]
async fn a_supervised_haproxy_is_restarted_adopted_and_ended() {
    let mut bench = Bench::new(&oldest());
    let mut applier = bench.applier(Way::Supervise);
    let text = bench.text("one");
    assert!(confirmed(&bench.apply(&mut applier, text.clone()).await));
    let supervisor = applier.supervisor().unwrap();
    let Status::Running { pid } = supervisor.status() else {
        panic!("running");
    };
    // A second Gatewright after a crash of the first finds it and starts no other.
    drop((applier, supervisor));
    let mut applier = bench.applier(Way::Supervise);
    let verdict = bench.apply(&mut applier, text).await;
    assert!(matches!(verdict, Verdict::Unchanged), "{verdict:?}");
    let adopted = applier.supervisor().unwrap().status();
    assert_eq!(adopted, Status::Running { pid });
    let next = bench.text("two");
    let verdict = bench.apply(&mut applier, next).await;
    assert!(confirmed(&verdict), "{verdict:?}");
    let watched = applier.supervisor().unwrap();
    assert_eq!(watched.status(), Status::Running { pid });

    let master = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(
        "another master serves",
        || matches!(watched.status(), Status::Running { pid: now } if now != pid),
    )
    .await;
    bench.note(&watched);
    bench.serves("two").await;
    let Status::Running { pid } = watched.status() else {
        panic!("running");
    };
    watched.stop().await;
    assert_eq!(watched.status(), Status::Stopped);
    assert!(get(bench.port).await.is_err());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "reaped");
}

/// A restart of everything while the catalog is away: HAProxy is started from the last good set.
#[tokio::test]
async fn a_supervised_haproxy_is_resumed_without_a_new_set() {
    let mut bench = Bench::new(&newest());
    let mut applier = bench.applier(Way::Supervise);
    assert!(
        matches!(applier.resume().await, Verdict::Failed { .. }),
        "nothing yet"
    );
    let text = bench.text("one");
    assert!(confirmed(&bench.apply(&mut applier, text).await));
    applier.supervisor().unwrap().stop().await;
    drop(applier);
    let mut applier = bench.applier(Way::Supervise);
    let verdict = applier.resume().await;
    bench.note(&applier.supervisor().unwrap());
    assert!(confirmed(&verdict), "{verdict:?}");
    bench.serves("one").await;
}
