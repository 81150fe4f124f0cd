//! The executor on real HAProxy: each promise in each mode, and each way to fail.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod certificates;
mod validation;

use super::execute::{Applier, ApplyError, Means, Options, Verdict};
use super::gate::Rules;
use super::journal::{self, Change, Phase};
use super::lock::LockError;
use super::set::{Candidate, Role, SetFile};
use super::stage::stage;
use super::tell::{Mode, Seen};
use super::testing;
use crate::haproxy::process::Master;
use crate::haproxy::supervise::{Status, Supervisor};
use crate::haproxy::testing::{
    Haproxy, VERSIONS, configuration, eventually, free_port, get, haproxy, measured,
};

/// A directory with a destination, a port and what is started for it.
struct Bench {
    directory: tempfile::TempDir,
    version: &'static str,
    port: u16,
    haproxy: Option<Haproxy>,
    /// Masters that outlive their supervisor.
    masters: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Master,
    Supervise,
    Signal,
    Command,
}

impl Bench {
    fn new(version: &'static str) -> Bench {
        Bench {
            directory: tempfile::tempdir().unwrap(),
            version,
            port: free_port(),
            haproxy: None,
            masters: Vec::new(),
        }
    }

    /// With a HAProxy on a configuration that somebody wrote by hand.
    async fn with_haproxy(version: &'static str) -> Bench {
        let mut bench = Bench::new(version);
        std::fs::write(bench.main(), bench.text("by-hand")).unwrap();
        bench.haproxy = Some(Haproxy::start(version, bench.path(), &bench.main()).await);
        bench
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn main(&self) -> PathBuf {
        self.path().join("haproxy.cfg")
    }

    fn text(&self, word: &str) -> String {
        configuration(self.path(), self.port, word)
    }

    fn set(&self, text: String) -> Candidate {
        Candidate::new(vec![SetFile {
            destination: self.main(),
            role: Role::Config,
            mode: None,
            text,
        }])
    }

    fn options(&self, way: Way) -> Options {
        let socket = self.path().join("master.sock");
        let mode = match way {
            Way::Master => Mode::Master { socket },
            Way::Supervise => Mode::Supervise {
                socket,
                stop_limit: Duration::from_secs(5),
            },
            Way::Signal => Mode::Signal {
                pid_file: self.path().join("pid"),
            },
            Way::Command => {
                let pid = self.path().join("pid");
                let script = format!("kill -USR2 $(cat {})", pid.display());
                Mode::Command {
                    argv: ["sh".into(), "-c".into(), OsString::from(script)].into(),
                }
            }
        };
        let mut options = Options::new(
            self.path().join("state"),
            vec![(self.main(), Role::Config)],
            mode,
            haproxy(self.version),
        );
        options.confirm_timeout = Duration::from_secs(15);
        if matches!(way, Way::Signal | Way::Command) {
            options.stats_socket = Some(self.path().join("stats.sock"));
        }
        options
    }

    fn applier(&self, way: Way) -> Applier {
        testing::open(self.options(way), Rules::default())
    }

    /// Applies and keeps hold of a supervised HAProxy.
    async fn apply(&mut self, applier: &mut Applier, text: String) -> Verdict {
        let verdict = applier.apply(&self.set(text), Means::Any).await;
        if let Some(supervisor) = applier.supervisor() {
            self.note(&supervisor);
        }
        verdict
    }

    fn note(&mut self, supervisor: &Supervisor) {
        if let Status::Running { pid } | Status::Starting { pid } = supervisor.status() {
            self.masters.push(pid);
        }
    }

    fn live(&self) -> String {
        std::fs::read_to_string(self.main()).unwrap()
    }

    /// Nothing of ours lies beside the destination but the lock.
    fn assert_clean(&self) {
        let names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("gatewright-"))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }

    async fn serves(&self, word: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = get(self.port).await;
            if matches!(&answer, Ok(body) if body == word) {
                return;
            }
            assert!(Instant::now() < deadline, "wanted {word}, got {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in &self.masters {
            if Master::open(*pid).is_ok() {
                let group = nix::unistd::Pid::from_raw(*pid);
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

fn confirmed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Confirmed { .. })
}

#[tokio::test]
async fn g01_j07_a_set_is_confirmed_in_every_mode_and_a_restart_changes_nothing() {
    for version in VERSIONS {
        for way in [Way::Master, Way::Supervise, Way::Signal, Way::Command] {
            let mut bench = match way {
                Way::Supervise => Bench::new(version),
                _ => Bench::with_haproxy(version).await,
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
}

#[tokio::test]
async fn f01_a_refused_set_touches_nothing_and_names_the_place() {
    for version in VERSIONS {
        let mut bench = Bench::with_haproxy(version).await;
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
}

#[tokio::test]
async fn f05_an_address_of_another_program_is_refused_before_any_listener_is_paused() {
    let mut bench = Bench::with_haproxy("2.6").await;
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

#[tokio::test]
async fn g02_what_haproxy_cannot_load_is_taken_back_and_not_tried_twice() {
    for version in VERSIONS {
        for way in [Way::Master, Way::Supervise] {
            let mut bench = Bench::with_haproxy(version).await;
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
}

/// Before 3.1 a worker that fails after the fork takes the master with it. The parent starts HAProxy
/// again, from the last good files.
#[tokio::test]
async fn g02_g10_a_master_that_dies_of_a_set_is_started_again_from_the_last_good_one() {
    for version in VERSIONS {
        let mut bench = Bench::new(version);
        let mut applier = bench.applier(Way::Supervise);
        let good = bench.text("good");
        assert!(confirmed(&bench.apply(&mut applier, good).await));
        let bad =
            bench
                .text("bad")
                .replacen("global\n", "global\n    chroot /no/such/directory\n", 1);
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
}

/// A HAProxy that somebody kills in just the moment in which it is told says nothing of the set.
#[tokio::test]
async fn g10_j06_a_master_killed_while_it_is_told_leaves_the_set_to_be_taken() {
    for version in VERSIONS {
        let mut bench = Bench::new(version);
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
}

#[tokio::test]
async fn g10_j06_a_supervised_haproxy_is_restarted_adopted_and_ended() {
    let mut bench = Bench::new("2.6");
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

#[tokio::test]
async fn f07_a_validator_that_is_killed_or_missing_changes_nothing() {
    let mut bench = Bench::with_haproxy("2.6").await;
    let script = bench.path().join("validator");
    std::fs::write(&script, "#!/bin/sh\nkill -9 $$\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for binary in [script, "/no/such/haproxy".into()] {
        let mut options = bench.options(Way::Master);
        options.binary = binary;
        let mut applier = testing::open(options, Rules::default());
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

/// A small file system of its own; needs root, as the tests have in a container.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, kilobytes: u32) -> Disk {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={kilobytes}k,mode=0755");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "a tmpfs cannot be mounted; this test needs root"
        );
        Disk(path)
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let status = Command::new("mount")
            .args(["-o", &option])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn e01_e07_a_full_or_read_only_disk_leaves_the_old_set_whole() {
    let mut bench = Bench::new("2.6");
    let disk = Disk::mount(bench.path().join("disk"), 64);
    let main = disk.0.join("haproxy.cfg");
    std::fs::write(&main, bench.text("by-hand")).unwrap();
    bench.haproxy = Some(Haproxy::start("2.6", bench.path(), &main).await);
    let mut options = bench.options(Way::Master);
    options.destinations = vec![(main.clone(), Role::Config)];
    let mut applier = testing::open(options, Rules::default());
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
    let names = || std::fs::read_dir(&disk.0).unwrap().count();

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

#[tokio::test]
async fn e10_a_second_instance_is_refused() {
    let bench = Bench::new("2.6");
    let _first = bench.applier(Way::Master);
    let second = Applier::open(bench.options(Way::Master), Rules::default());
    assert!(matches!(
        second.err(),
        Some(ApplyError::Lock(LockError::Held { pid: Some(_), .. }))
    ));
}

#[tokio::test]
async fn g06_a_stale_pid_file_never_makes_us_signal_another_process() {
    let mut bench = Bench::new("2.6");
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

/// Whatever the command of the operator does, the former files are back where it does not reload, and
/// nothing that it has started is left.
#[tokio::test]
async fn g12_i02_a_reload_command_that_hangs_or_fails_changes_nothing() {
    let mut bench = Bench::with_haproxy("2.6").await;
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
        let mut applier = testing::open(options, Rules::default());
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

/// A master that is frozen gives no answer: the files are the former ones meanwhile, nothing is said
/// twice, and when it goes on the set is taken. A frozen worker keeps no reload back.
#[tokio::test]
async fn g03_g11_a_frozen_master_or_worker_ends_confirmed() {
    use nix::sys::signal::{Signal, kill};
    for version in VERSIONS {
        let mut bench = Bench::with_haproxy(version).await;
        let mut options = bench.options(Way::Master);
        options.confirm_timeout = Duration::from_secs(3);
        let mut applier = testing::open(options, Rules::default());
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
}

#[tokio::test]
async fn g08_j04_files_written_while_haproxy_is_away_are_confirmed_when_it_comes() {
    let mut bench = Bench::new("3.2");
    let mut applier = bench.applier(Way::Master);
    let text = bench.text("one");
    for _ in 0..2 {
        let verdict = bench.apply(&mut applier, text.clone()).await;
        assert!(matches!(verdict, Verdict::Written { .. }), "{verdict:?}");
    }
    assert!(matches!(applier.observe().await.seen, Seen::Absent { .. }));
    bench.haproxy = Some(Haproxy::start("3.2", bench.path(), &bench.main()).await);
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

/// A crash after the swap and before HAProxy was told: the set is applied again, with one reload.
#[tokio::test]
async fn g13_a_crash_before_the_reload_converges() {
    for phase in [Phase::Committing, Phase::Committed, Phase::Told] {
        let mut bench = Bench::with_haproxy("2.6").await;
        let mut applier = bench.applier(Way::Master);
        let one = bench.text("one");
        assert!(confirmed(&bench.apply(&mut applier, one).await));
        let two = bench.set(bench.text("two"));
        let staged = stage(&two, applier.last_good(), None).unwrap();
        drop(applier);
        let state = bench.path().join("state");
        let mut change = Change::commit(&state, &two.revision, staged.into_entries()).unwrap();
        change.reached(phase).unwrap();
        drop(change);
        let mut applier = bench.applier(Way::Master);
        let text = bench.text("two");
        let verdict = bench.apply(&mut applier, text).await;
        assert!(confirmed(&verdict), "{phase:?}: {verdict:?}");
        bench.serves("two").await;
        bench.assert_clean();
        assert!(journal::recover(&state).unwrap().is_none());
    }
}

#[tokio::test]
async fn an_earlier_set_can_be_gone_back_to() {
    let mut bench = Bench::with_haproxy("3.2").await;
    let mut applier = bench.applier(Way::Master);
    for word in ["one", "two"] {
        let text = bench.text(word);
        assert!(confirmed(&bench.apply(&mut applier, text).await));
    }
    let verdict = applier.roll_back(None).await;
    assert!(confirmed(&verdict), "{verdict:?}");
    bench.serves("one").await;
}

/// A restart of everything while the catalog is away: HAProxy is started from the last good set.
#[tokio::test]
async fn a_supervised_haproxy_is_resumed_without_a_new_set() {
    let mut bench = Bench::new("3.2");
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

/// The gate has its say after HAProxy: an empty configuration is valid to `haproxy -W -c`.
#[tokio::test]
async fn f02_an_empty_set_is_refused_by_the_gate() {
    let mut bench = Bench::with_haproxy("2.6").await;
    let mut applier = bench.applier(Way::Master);
    let verdict = bench.apply(&mut applier, "global\n".into()).await;
    assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    bench.serves("by-hand").await;
}

#[tokio::test]
async fn g05_old_workers_are_bounded() {
    let mut bench = Bench::with_haproxy("2.6").await;
    let mut options = bench.options(Way::Master);
    options.max_old_workers = 1;
    let mut applier = testing::open(options, Rules::default());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g15_forty_reloads_in_a_row_lose_no_new_connection() {
    for version in VERSIONS {
        let mut bench = Bench::with_haproxy(version).await;
        let mut options = bench.options(Way::Master);
        options.max_old_workers = 50;
        let mut applier = testing::open(options, Rules::default());
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
}
