//! A set that HAProxy reloads: confirmed in every mode, or refused, or taken back.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatewright::apply::execute::{Applier, ApplyError, Means, Verdict};
use gatewright::apply::gate::Rules;
use gatewright::apply::journal::{self, Change};
use gatewright::apply::lock::LockError;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::apply::stage::stage;
use gatewright::apply::tell::{Mode, Seen};
use support::haproxies::{Version, haproxies, newest, oldest};
use support::{measured, script};

use super::bench::{Bench, Way, confirmed};
use super::disk::Disk;
use super::open;
use crate::real::{Haproxy, eventually, get};

// G01 J07
#[haproxies(ends)]
async fn a_set_is_confirmed_in_every_mode_and_a_restart_changes_nothing(version: Version) {
    for way in [Way::Master, Way::Supervise, Way::Signal, Way::Command] {
        let mut bench = match way {
            Way::Supervise => Bench::new(&version),
            _ => Bench::with_haproxy(&version).await,
        };
        let mut applier = bench.applier(way);
        if way == Way::Command {
            // A plain SIGUSR2 kills a HAProxy that has just started (see `process`).
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for word in ["one", "two"] {
            let text = bench.text(word);
            let verdict = bench.apply(&mut applier, text).await;
            assert!(confirmed(&verdict), "{version} {way:?} {word}: {verdict:?}");
            bench.serves(word).await;
            if way == Way::Command {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        bench.assert_clean();
        let before = std::fs::metadata(bench.main()).unwrap();
        drop(applier);
        let mut applier = bench.applier(way);
        let text = bench.text("two");
        let verdict = bench.apply(&mut applier, text).await;
        assert!(
            matches!(verdict, Verdict::Unchanged),
            "{version} {way:?}: {verdict:?}"
        );
        let after = std::fs::metadata(bench.main()).unwrap();
        assert_eq!(
            (before.ino(), before.mtime_nsec()),
            (after.ino(), after.mtime_nsec())
        );
        let seen = applier.observe().await;
        assert!(!seen.diverges() && seen.drift.is_empty(), "{seen:?}");
        assert_eq!(seen.confirmed, seen.written);
    }
}

// F01
#[haproxies(ends)]
async fn a_refused_set_touches_nothing_and_names_the_place(version: Version) {
    let mut bench = Bench::with_haproxy(&version).await;
    let mut applier = bench.applier(Way::Master);
    let before = std::fs::metadata(bench.main()).unwrap().ino();
    let text = bench.text("one") + "    nonsense here\n";
    let line = text.lines().count();
    let verdict = bench.apply(&mut applier, text).await;
    let Verdict::Refused { findings, kept } = verdict else {
        panic!("{version}: {verdict:?}");
    };
    let finding = &findings[0];
    assert_eq!(finding.file.as_deref(), Some(bench.main().as_path()));
    assert_eq!(finding.line, line);
    assert!(finding.message.contains("nonsense"), "{}", finding.message);
    let reason = std::fs::read_to_string(kept.unwrap().join("reason.txt")).unwrap();
    assert!(reason.contains("nonsense"));
    assert_eq!(std::fs::metadata(bench.main()).unwrap().ino(), before);
    bench.assert_clean();
    bench.serves("by-hand").await;
}

// F05
#[tokio::test]
async fn an_address_of_another_program_is_refused_before_any_listener_is_paused() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut applier = bench.applier(Way::Master);
    let text = bench.text("one") + &format!("    bind {}\n", other.local_addr().unwrap());
    let verdict = bench.apply(&mut applier, text.clone()).await;
    let Verdict::Refused { findings, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(findings[0].code, "address-in-use");
    assert_eq!(findings[0].line, text.lines().count());
    bench.serves("by-hand").await;
    drop(other);
    let verdict = bench.apply(&mut applier, text).await;
    assert!(confirmed(&verdict), "{verdict:?}");
}

// G02
#[haproxies(ends)]
async fn what_haproxy_cannot_load_is_taken_back_and_not_tried_twice(version: Version) {
    for way in [Way::Master, Way::Supervise] {
        let mut bench = Bench::with_haproxy(&version).await;
        if way == Way::Supervise {
            bench.haproxy = None;
            std::fs::remove_file(bench.main()).unwrap();
        }
        let mut applier = bench.applier(way);
        let good = bench.text("good");
        let verdict = bench.apply(&mut applier, good).await;
        assert!(confirmed(&verdict), "{version} {way:?}: {verdict:?}");
        let good = bench.live();
        // Each try swaps the live file, and swaps it back.
        let main = bench.main();
        let stamp = || {
            let file = std::fs::metadata(&main).unwrap();
            (file.ino(), file.ctime(), file.ctime_nsec())
        };
        let untouched = stamp();
        // The validation binds nothing, so it accepts this.
        let bad = bench.text("bad").replacen(
            "global\n",
            "global\n    stats socket /no/such/directory/x.sock\n",
            1,
        );
        let verdict = bench.apply(&mut applier, bad.clone()).await;
        let Verdict::Rejected { restored, kept, .. } = &verdict else {
            panic!("{version} {way:?}: {verdict:?}");
        };
        assert!(
            *restored && kept.is_some(),
            "{version} {way:?}: {verdict:?}"
        );
        assert_eq!(bench.live(), good);
        bench.assert_clean();
        bench.serves("good").await;
        let before = stamp();
        assert_ne!(before, untouched, "a try shows");
        let again = bench.apply(&mut applier, bad).await;
        assert!(matches!(again, Verdict::StillRejected { .. }), "{again:?}");
        assert_eq!(stamp(), before, "no reload was tried");
        let next = bench.text("next");
        let verdict = bench.apply(&mut applier, next).await;
        assert!(confirmed(&verdict), "{version} {way:?}: {verdict:?}");
    }
}

// F07
#[tokio::test]
async fn a_validator_that_is_killed_or_missing_changes_nothing() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let validator = bench.path().join("validator");
    script::write(&validator, "#!/bin/sh\nkill -9 $$\n").unwrap();
    for binary in [validator, "/no/such/haproxy".into()] {
        let mut options = bench.options(Way::Master);
        options.binary = binary;
        let mut applier = open(options, Rules::default());
        let before = bench.live();
        let text = bench.text("one");
        let verdict = bench.apply(&mut applier, text).await;
        assert!(
            matches!(
                verdict,
                Verdict::Failed {
                    error: ApplyError::Check(_)
                }
            ),
            "{verdict:?}"
        );
        assert_eq!(bench.live(), before);
        bench.assert_clean();
    }
    bench.serves("by-hand").await;
}

// E01 E07
#[tokio::test]
async fn a_full_or_read_only_disk_leaves_the_old_set_whole() {
    let mut bench = Bench::new(&oldest());
    let disk = Disk::mount(bench.path().join("disk"), 64);
    let main = disk.path().join("haproxy.cfg");
    std::fs::write(&main, bench.text("by-hand")).unwrap();
    bench.haproxy = Some(Haproxy::start(&bench.version, bench.path(), &main).await);
    let mut options = bench.options(Way::Master);
    options.destinations = vec![(main.clone(), Role::Config)];
    let mut applier = open(options, Rules::default());
    let set = |text: String| {
        Candidate::new(vec![SetFile {
            destination: main.clone(),
            role: Role::Config,
            mode: None,
            text,
        }])
    };
    let before = std::fs::read_to_string(&main).unwrap();
    let large = bench.text("one") + &"# padding to fill the disk\n".repeat(5_000);
    let small = set(bench.text("two"));
    let names = || std::fs::read_dir(disk.path()).unwrap().count();

    let verdict = applier.apply(&set(large), Means::Any).await;
    let Verdict::Failed { error } = verdict else {
        panic!("{verdict:?}");
    };
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(
        (std::fs::read_to_string(&main).unwrap(), names()),
        (before.clone(), 2)
    );

    disk.remount("ro");
    let verdict = applier.apply(&small, Means::Any).await;
    let Verdict::Failed { error } = verdict else {
        panic!("{verdict:?}");
    };
    assert!(
        error.to_string().contains("the file system is read-only"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&main).unwrap(), before);
    bench.serves("by-hand").await;

    disk.remount("rw");
    let verdict = applier.apply(&small, Means::Any).await;
    assert!(confirmed(&verdict), "{verdict:?}");
    assert_eq!(names(), 2, "the file and the lock");
    drop(bench.haproxy.take());
}

// E10
#[tokio::test]
async fn a_second_instance_is_refused() {
    let bench = Bench::new(&oldest());
    let _first = bench.applier(Way::Master);
    let second = Applier::open(bench.options(Way::Master), Rules::default());
    assert!(matches!(
        second.err(),
        Some(ApplyError::Lock(LockError::Held { pid: Some(_), .. }))
    ));
}

// G06
#[tokio::test]
async fn a_stale_pid_file_never_makes_us_signal_another_process() {
    let mut bench = Bench::new(&oldest());
    let mut decoy = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(bench.path().join("pid"), format!("{}\n", decoy.id())).unwrap();
    let mut applier = bench.applier(Way::Signal);
    let text = bench.text("one");
    let verdict = bench.apply(&mut applier, text).await;
    let Verdict::Unconfirmed { reason, .. } = &verdict else {
        panic!("{verdict:?}");
    };
    assert!(reason.contains("is not an HAProxy master"), "{reason}");
    assert!(decoy.try_wait().unwrap().is_none(), "it lives");
    decoy.kill().unwrap();
    decoy.wait().unwrap();
    // The number is free now: HAProxy is not running, and that is no error.
    let text = bench.text("one");
    let verdict = bench.apply(&mut applier, text).await;
    assert!(matches!(verdict, Verdict::Written { .. }), "{verdict:?}");
}

// G12 I02
/// Whatever the command of the operator does, the former files are back where it does not reload, and
/// nothing that it has started is left.
#[tokio::test]
async fn a_reload_command_that_hangs_or_fails_changes_nothing() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let before = bench.live();
    let pid = bench.path().join("grandchild");
    let hangs = format!("sleep 600 & echo $! > {}; wait", pid.display());
    for script in [hangs.as_str(), "echo It is locked.; exit 3"] {
        let mut options = bench.options(Way::Command);
        options.mode = Mode::Command {
            argv: ["sh".into(), "-c".into(), script.into()].into(),
        };
        options.command_timeout = Duration::from_millis(700);
        options.commands = false;
        let mut applier = open(options, Rules::default());
        let text = bench.text("one");
        let verdict = bench.apply(&mut applier, text).await;
        let (reason, restored) = match &verdict {
            Verdict::Unconfirmed { reason, restored } => (reason, restored),
            Verdict::Rejected {
                reason, restored, ..
            } => (reason, restored),
            other => panic!("{other:?}"),
        };
        assert!(*restored, "{verdict:?}");
        let said = ["did not end within 0.7 s and was killed", "It is locked."];
        assert!(said.iter().any(|said| reason.contains(said)), "{reason}");
        assert_eq!(bench.live(), before);
        bench.assert_clean();
        bench.serves("by-hand").await;
    }
    let grandchild = std::fs::read_to_string(pid).unwrap();
    let stat = format!("/proc/{}/stat", grandchild.trim());
    eventually("the grandchild is dead", || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

// G03 G11
/// A master that is frozen gives no answer: the files are the former ones meanwhile, nothing is said
/// twice, and when it goes on the set is taken. A frozen worker keeps no reload back.
#[haproxies(ends)]
async fn a_frozen_master_or_worker_ends_confirmed(version: Version) {
    use nix::sys::signal::{Signal, kill};
    let mut bench = Bench::with_haproxy(&version).await;
    let mut options = bench.options(Way::Master);
    options.confirm_timeout = Duration::from_secs(3);
    let mut applier = open(options, Rules::default());
    let one = bench.text("one");
    assert!(confirmed(&bench.apply(&mut applier, one).await));
    let before = bench.live();
    let Seen::Running(running) = applier.observe().await.seen else {
        panic!("running");
    };
    let master = bench.haproxy.as_ref().unwrap().child.id().cast_signed();
    let master = nix::unistd::Pid::from_raw(master);
    kill(master, Signal::SIGSTOP).unwrap();
    let two = bench.text("two");
    let verdict = bench.apply(&mut applier, two.clone()).await;
    assert!(
        matches!(
            verdict,
            Verdict::Unconfirmed { .. } | Verdict::Failed { .. }
        ),
        "{version}: {verdict:?}"
    );
    assert_eq!(bench.live(), before, "{version}");
    bench.serves("one").await;
    kill(master, Signal::SIGCONT).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !confirmed(&bench.apply(&mut applier, two.clone()).await) {
        assert!(Instant::now() < deadline, "{version}");
    }
    bench.serves("two").await;

    let Seen::Running(now) = applier.observe().await.seen else {
        panic!("running");
    };
    assert_ne!(now.pid, running.pid);
    let worker = nix::unistd::Pid::from_raw(now.pid);
    kill(worker, Signal::SIGSTOP).unwrap();
    let three = bench.text("three");
    let mut verdict = bench.apply(&mut applier, three.clone()).await;
    for _ in 0..3 {
        if confirmed(&verdict) || matches!(verdict, Verdict::Unchanged) {
            break;
        }
        verdict = bench.apply(&mut applier, three.clone()).await;
    }
    let _ = kill(worker, Signal::SIGCONT);
    assert!(
        confirmed(&verdict) || matches!(verdict, Verdict::Unchanged),
        "{version}: {verdict:?}"
    );
    bench.serves("three").await;
    bench.assert_clean();
}

// G08 J04
#[tokio::test]
async fn files_written_while_haproxy_is_away_are_confirmed_when_it_comes() {
    let mut bench = Bench::new(&newest());
    let mut applier = bench.applier(Way::Master);
    let text = bench.text("one");
    for _ in 0..2 {
        let verdict = bench.apply(&mut applier, text.clone()).await;
        assert!(matches!(verdict, Verdict::Written { .. }), "{verdict:?}");
    }
    assert!(matches!(applier.observe().await.seen, Seen::Absent { .. }));
    bench.haproxy = Some(Haproxy::start(&bench.version, bench.path(), &bench.main()).await);
    let seen = applier.observe().await;
    assert!(
        !seen.diverges() && seen.confirmed == seen.written,
        "{seen:?}"
    );
    let verdict = bench.apply(&mut applier, text).await;
    assert!(matches!(verdict, Verdict::Unchanged), "{verdict:?}");
    std::fs::write(bench.main(), "# edited\n").unwrap();
    assert_eq!(applier.observe().await.drift, [bench.main()]);
}

// G13
/// A crash after the swap and before HAProxy was told: the set is applied again, with one reload.
#[tokio::test]
async fn a_crash_before_the_reload_converges() {
    for told in [false, true] {
        let mut bench = Bench::with_haproxy(&oldest()).await;
        let mut applier = bench.applier(Way::Master);
        let one = bench.text("one");
        assert!(confirmed(&bench.apply(&mut applier, one).await));
        let two = bench.set(bench.text("two"));
        let staged = stage(&two, applier.last_good(), None, &[]).unwrap();
        drop(applier);
        let state = bench.path().join("state");
        let mut change = Change::commit(&state, &two.revision, staged.into_entries()).unwrap();
        if told {
            change.told().unwrap();
        }
        drop(change);
        let mut applier = bench.applier(Way::Master);
        let text = bench.text("two");
        let verdict = bench.apply(&mut applier, text).await;
        assert!(confirmed(&verdict), "{told}: {verdict:?}");
        bench.serves("two").await;
        bench.assert_clean();
        assert!(journal::recover(&state).unwrap().is_none());
    }
}

#[tokio::test]
async fn an_earlier_set_can_be_gone_back_to() {
    let mut bench = Bench::with_haproxy(&newest()).await;
    let mut applier = bench.applier(Way::Master);
    for word in ["one", "two"] {
        let text = bench.text(word);
        assert!(confirmed(&bench.apply(&mut applier, text).await));
    }
    let verdict = applier.roll_back(None).await;
    assert!(confirmed(&verdict), "{verdict:?}");
    bench.serves("one").await;
}

// F02
/// The gate has its say after HAProxy: an empty configuration is valid to `haproxy -W -c`.
#[tokio::test]
async fn an_empty_set_is_refused_by_the_gate() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let mut applier = bench.applier(Way::Master);
    let verdict = bench.apply(&mut applier, "global\n".into()).await;
    assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    bench.serves("by-hand").await;
}

// G05
#[tokio::test]
async fn old_workers_are_bounded() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let mut options = bench.options(Way::Master);
    options.max_old_workers = 1;
    let mut applier = open(options, Rules::default());
    // An open connection keeps its worker.
    let text = bench.text("one");
    let mut held = tokio::net::TcpStream::connect(("127.0.0.1", bench.port))
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut held, b"GET / HT")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(confirmed(&bench.apply(&mut applier, text).await));
    let next = bench.text("two");
    let verdict = bench.apply(&mut applier, next.clone()).await;
    assert!(
        matches!(verdict, Verdict::Busy { old_workers: 1 }),
        "{verdict:?}"
    );
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !confirmed(&bench.apply(&mut applier, next.clone()).await) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// G15
#[haproxies(ends)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_reloads_in_a_row_lose_no_new_connection(version: Version) {
    let mut bench = Bench::with_haproxy(&version).await;
    let mut options = bench.options(Way::Master);
    options.max_old_workers = 50;
    let mut applier = open(options, Rules::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, good, bad) = (stop.clone(), good.clone(), bad.clone());
            let port = bench.port;
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let count = if get(port).await.is_ok() { &good } else { &bad };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let started = Instant::now();
    for number in 0..40 {
        let text = bench.text(&format!("word-{number}"));
        let verdict = bench.apply(&mut applier, text).await;
        assert!(confirmed(&verdict), "{version} {number}: {verdict:?}");
    }
    let took = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let (good, bad) = (good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed));
    measured::note(
        "e16",
        &format!("failed requests over 40 reloads on {version}"),
        format!("{bad} of {} in {took:.1?}", good + bad),
    );
    assert_eq!(bad, 0, "{version}: of {good}");
    bench.serves("word-39").await;
}
