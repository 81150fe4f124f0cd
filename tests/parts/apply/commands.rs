//! Faults while commands go out, on real HAProxy: whatever breaks at whichever line, in the end the
//! files, the worker and its revision are equal, after at most one reload, and no server that is good
//! before and after was lost meanwhile.

mod bench;
mod crashes;
mod proxy;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gatewright::apply::execute::{Applier, Means, Verdict};
#[cfg(debug_assertions)]
use gatewright::apply::files::faults;
use gatewright::apply::gate::Rules;
use gatewright::haproxy::master::{MasterSocket, Reload};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use support::haproxies::{Version, haproxies};
use support::script;
use tokio::sync::Notify;

use self::bench::{Bench, Servers, Traffic};
use self::proxy::{Fault, Proxy, meanwhile};
use super::disk::Disk;
use crate::real::eventually;

/// The lines of the whole change up to the look at its end.
async fn lines_of_a_change(bench: &Bench, applier: &mut Applier) -> Vec<String> {
    bench.proxy().calm();
    let told = bench.bring(applier, Servers::Next).await;
    let lines = bench.proxy().lines();
    assert!(bench.proxy().commands().len() > 8, "{told:?} {lines:#?}");
    bench.bring(applier, Servers::Former).await;
    bench.tidy(applier).await;
    lines
}

/// The lines at which something breaks: in the long run each of them on the oldest HAProxy, each third on the others.
fn places(version: &Version, end: usize) -> impl Iterator<Item = usize> + use<> {
    (1..=end).step_by(match (support::long(), version.is_oldest()) {
        (true, true) => 1,
        (true, false) => 3,
        (false, true) => 5,
        (false, false) => 10,
    })
}

/// Cuts the connection at every line of the change and of the look after it.
async fn cut_everywhere(mut bench: Bench) {
    let version = bench.version.clone();
    let mut applier = bench.settled().await;
    let count = lines_of_a_change(&bench, &mut applier).await.len();
    assert_eq!(bench.reloads().await, 0);
    let traffic = Traffic::to(bench.port());
    for (line, fault) in
        places(&version, count).flat_map(|n| [(n, Fault::CutBefore), (n, Fault::CutAfter)])
    {
        let after = matches!(fault, Fault::CutAfter);
        bench.proxy().at(line, fault);
        let told = bench.bring(&mut applier, Servers::Next).await;
        let lines = bench.proxy().lines();
        bench.proxy().calm();
        let place = format!("{version} line {line} after {after}: {told:#?} {lines:#?}");
        bench.assert_equal(Servers::Next, &place).await;
        let reloads = bench.reloads().await;
        assert_eq!(reloads, 0, "{place}");
        bench.bring(&mut applier, Servers::Former).await;
        bench.tidy(&mut applier).await;
        assert_eq!(bench.reloads().await, 0, "back, {place}");
        bench.assert_equal(Servers::Former, &place).await;
    }
    assert_eq!(traffic.failed().await, 0, "{version}");
}

// H11
#[haproxies(ends)]
async fn a_connection_that_is_cut_at_any_line_ends_equal(version: Version) {
    cut_everywhere(Bench::with_proxy(&version).await).await;
}

// H11
/// A connection that ends each time at the same command: commands do not do, and what they have left
/// behind is led back where the change is not wanted any more, or loaded.
#[haproxies(ends)]
async fn a_command_that_never_goes_through_ends_equal(version: Version) {
    let mut bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    lines_of_a_change(&bench, &mut applier).await;
    assert_eq!(bench.reloads().await, 0);
    let traffic = Traffic::to(bench.port());
    let words = [
        "set var",
        "set server web/moved",
        "enable server web/new1",
        "weight 20",
        "web/gone2 state drain",
        "show servers state web",
    ];
    for (word, fault) in words
        .iter()
        .flat_map(|word| [(word, Fault::CutBefore), (word, Fault::CutAfter)])
    {
        let after = matches!(fault, Fault::CutAfter);
        let next = bench.set(Servers::Next);
        bench.proxy().each(word, fault.clone());
        let verdict = applier.apply(&next, Means::Commands).await;
        bench.proxy().calm();
        let place = format!("{version} {word} after {after}: {verdict:?}");
        if let Verdict::Confirmed { .. } = verdict {
            // It was carried out, so it is not said again.
            assert!(after, "{place}");
            bench.assert_equal(Servers::Next, &place).await;
            bench.bring(&mut applier, Servers::Former).await;
        } else {
            assert!(matches!(verdict, Verdict::NeedsReload { .. }), "{place}");
        }
        let seen = applier.observe().await;
        let place = format!("{place} {seen:?}");
        bench.assert_equal(Servers::Former, &place).await;
        bench.tidy(&mut applier).await;
        bench.assert_equal(Servers::Former, &place).await;
        assert_eq!(bench.reloads().await, 0, "{place}");

        bench.proxy().each(word, fault);
        let told = bench.bring(&mut applier, Servers::Next).await;
        bench.proxy().calm();
        let place = format!("{version} {word} after {after}: {told:#?}");
        bench.assert_equal(Servers::Next, &place).await;
        let reloads = bench.reloads().await;
        assert!(reloads == 1 || after && reloads == 0, "{place}");
        bench.bring(&mut applier, Servers::Former).await;
        bench.tidy(&mut applier).await;
        assert_eq!(bench.reloads().await, 0, "back, {place}");
    }
    assert_eq!(traffic.failed().await, 0, "{version}");
}

/// The number of the line that ends the change: the new revision. What follows is a look.
fn end_of(lines: &[String]) -> usize {
    let sets = |line: &String| line.starts_with("set var");
    lines.iter().rposition(sets).unwrap() + 1
}

// G09 G17 H07 H09 H16
#[haproxies(ends)]
async fn a_worker_that_is_replaced_at_any_line_ends_equal(version: Version) {
    let mut bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    let lines = lines_of_a_change(&bench, &mut applier).await;
    assert_eq!(bench.reloads().await, 0);
    let traffic = Traffic::to(bench.port());
    for line in places(&version, end_of(&lines) + 1) {
        let path = bench.real_master();
        let ended = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&ended);
        let reload = meanwhile(move || {
            let limit = Duration::from_secs(15);
            let (path, tell) = (path.clone(), Arc::clone(&tell));
            async move {
                let reload = MasterSocket { path, limit }.reload(limit).await;
                assert!(matches!(reload, Ok(Reload::Loaded { .. })), "{reload:?}");
                tell.store(true, Ordering::Relaxed);
                true
            }
        });
        bench.proxy().at(line, reload);
        let mut told = bench.bring(&mut applier, Servers::Next).await;
        if !ended.load(Ordering::Relaxed) {
            // A reload that takes longer than Gatewright waits for an answer ends after the change.
            eventually("the reload has ended", || ended.load(Ordering::Relaxed)).await;
            told.extend(bench.bring(&mut applier, Servers::Next).await);
        }
        let place = format!(
            "{version} line {line}: {told:#?} {:#?}",
            bench.proxy().lines()
        );
        bench.proxy().calm();
        bench.assert_equal(Servers::Next, &place).await;
        let reloads = bench.reloads().await;
        // One of them is the other's.
        assert!((1..=2).contains(&reloads), "{reloads} reloads, {place}");
        bench.bring(&mut applier, Servers::Former).await;
        bench.tidy(&mut applier).await;
        bench.assert_equal(Servers::Former, &place).await;
        assert_eq!(bench.reloads().await, 0, "back, {place}");
    }
    assert_eq!(traffic.failed().await, 0, "{version}");
}

/// Lines of a change at which the file of the socket goes.
const DELETED_AT: [usize; 3] = [7, 16, 24];

// H01
/// A reload hands the open socket over and does not make its file anew.
#[haproxies(ends)]
async fn a_deleted_socket_file_ends_equal(version: Version) {
    delete_the_socket(&version, true, None).await;
}

// H01
#[haproxies(ends)]
async fn a_socket_file_that_is_deleted_at_any_line_ends_equal(version: Version) {
    for line in DELETED_AT {
        delete_the_socket(&version, true, Some(line)).await;
    }
}

// H01
#[haproxies(ends)]
async fn a_deleted_socket_file_that_no_setting_names_ends_equal(version: Version) {
    delete_the_socket(&version, false, None).await;
}

// H01
#[haproxies(ends)]
async fn a_socket_file_without_a_setting_deleted_at_any_line_ends_equal(version: Version) {
    for line in DELETED_AT {
        delete_the_socket(&version, false, Some(line)).await;
    }
}

/// Deletes the file of the socket before the change, or at a line of it. `named`: whether the settings name it.
async fn delete_the_socket(version: &Version, named: bool, line: Option<usize>) {
    let mut bench = Bench::with_proxy(version).await;
    let mut options = bench.options();
    if !named {
        options.stats_socket = None;
    }
    let mut applier = bench.settled_with(options).await;
    let files = [bench.socket(), proxy::behind(&bench.socket())];
    let delete = move || {
        for file in &files {
            std::fs::remove_file(file).unwrap();
        }
    };
    match line {
        None => delete(),
        Some(line) => bench.proxy().at(
            line,
            meanwhile(move || {
                delete();
                async { true }
            }),
        ),
    }
    let told = bench.bring(&mut applier, Servers::Next).await;
    let place = format!("{version} named {named} line {line:?}: {told:#?}");
    bench.assert_equal(Servers::Next, &place).await;
    let first = bench.reloads().await;
    let told = bench.bring(&mut applier, Servers::Former).await;
    bench.assert_equal(Servers::Former, &place).await;
    let second = bench.reloads().await;
    let place = format!("{place} then {told:#?}");
    assert!(first + second <= 1, "{first} and {second} reloads, {place}");
}

// H02
#[haproxies(ends)]
async fn a_frozen_worker_ends_equal(version: Version) {
    freeze_the_worker(&version, None).await;
}

// H02
#[haproxies(ends)]
async fn a_worker_that_is_frozen_for_a_moment_ends_equal(version: Version) {
    freeze_the_worker(&version, Some(300)).await;
}

// H02
#[haproxies(ends)]
async fn a_worker_that_is_frozen_for_a_while_ends_equal(version: Version) {
    freeze_the_worker(&version, Some(1500)).await;
}

/// `thaw`: after how many milliseconds the worker goes on by itself.
async fn freeze_the_worker(version: &Version, thaw: Option<u64>) {
    for line in [6, 21] {
        let mut bench = Bench::with_proxy(version).await;
        let mut applier = bench.settled().await;
        let (running, _) = bench.worker().await;
        let worker = Pid::from_raw(running.pid);
        let freeze = meanwhile(move || {
            kill(worker, Signal::SIGSTOP).unwrap();
            if let Some(thaw) = thaw {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(thaw)).await;
                    let _ = kill(worker, Signal::SIGCONT);
                });
            }
            async { true }
        });
        bench.proxy().at(line, freeze);
        let begun = Instant::now();
        let bring = bench.bring(&mut applier, Servers::Next);
        let told = tokio::time::timeout(Duration::from_secs(60), bring).await;
        let took = begun.elapsed();
        let place = format!("{version} thaw {thaw:?} line {line} {took:?}: {told:#?}");
        assert!(told.is_ok(), "{place}");
        // As the agent does, which goes on trying for as long as nothing answers.
        for _ in 0..3 {
            if bench.responds().await {
                break;
            }
            bench.bring(&mut applier, Servers::Next).await;
        }
        bench.assert_equal(Servers::Next, &place).await;
        let _ = kill(worker, Signal::SIGCONT);
        // What was queued is carried out now, perhaps.
        let told = bench.bring(&mut applier, Servers::Next).await;
        bench
            .assert_equal(Servers::Next, &format!("{place} {told:?}"))
            .await;
        let reloads = bench.reloads().await;
        assert!(reloads <= 1, "{reloads} reloads, {place}");
    }
}

// H11 J12
/// Gatewright ends at a line; what it has said by then is carried out, or is not.
#[haproxies(ends)]
async fn an_end_of_gatewright_at_any_line_ends_equal(version: Version) {
    let mut bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    let lines = lines_of_a_change(&bench, &mut applier).await;
    let end = end_of(&lines) + 1;
    assert_eq!(bench.reloads().await, 0);
    let traffic = Traffic::to(bench.port());
    for (line, goes_on, then) in places(&version, end).flat_map(|line| {
        [
            (line, false, Servers::Next),
            (line, true, Servers::Next),
            (line, false, Servers::Former),
            (line, true, Servers::Former),
        ]
    }) {
        let place = format!("{version} line {line} goes on {goes_on} then {then:?}");
        let (reached, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (Arc::clone(&reached), Arc::clone(&gone));
        let hook = meanwhile(move || {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            async move {
                tell.notify_one();
                wait.notified().await;
                goes_on
            }
        });
        bench.proxy().at(line, hook);
        tokio::select! {
            told = bench.bring(&mut applier, Servers::Next) => panic!("{place}: {told:?}"),
            () = reached.notified() => {}
        }
        drop(applier);
        gone.notify_one();
        bench.proxy().calm();
        bench.proxy().idle().await;
        applier = bench.applier();
        let told = bench.bring(&mut applier, then).await;
        bench
            .assert_equal(then, &format!("{place}: {told:#?}"))
            .await;
        let reloads = bench.reloads().await;
        assert!(reloads == 0, "{reloads} reloads, {place}: {told:#?}");
        bench.bring(&mut applier, Servers::Former).await;
        bench.tidy(&mut applier).await;
        bench.assert_equal(Servers::Former, &place).await;
        assert_eq!(bench.reloads().await, 0, "back, {place}");
    }
    assert_eq!(traffic.failed().await, 0, "{version}");
}

/// A program in place of `haproxy` that refuses once it is told to, and not before the commands are out.
fn refusing(bench: &Bench) -> PathBuf {
    let validator = bench.path().join("validator");
    let text = format!(
        "#!/bin/sh\nif [ -e {0}/refuse ]; then\n\
         echo \"[ALERT]    (1) : config : no, said the test\" >&2; exit 1; fi\nexec {1} \"$@\"\n",
        bench.path().display(),
        bench.version.program().display()
    );
    script::write(&validator, &text).unwrap();
    validator
}

// F01 H11
#[haproxies(ends)]
async fn commands_of_a_refused_set_are_undone_and_a_cut_undo_is_mended(version: Version) {
    let mut bench = Bench::with_proxy(&version).await;
    let mut options = bench.options();
    options.binary = refusing(&bench);
    let mut applier = bench.settled_with(options).await;
    std::fs::write(bench.path().join("refuse"), "").unwrap();
    let traffic = Traffic::to(bench.port());
    let next = bench.set(Servers::Next);
    bench.proxy().calm();
    let verdict = applier.apply(&next, Means::Commands).await;
    assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    let lines = bench.proxy().lines();
    assert!(bench.proxy().commands().len() > 8, "{lines:#?}");
    bench.assert_equal(Servers::Former, "undone").await;
    bench.tidy(&mut applier).await;
    for (line, fault) in
        places(&version, lines.len()).flat_map(|n| [(n, Fault::CutBefore), (n, Fault::CutAfter)])
    {
        let place = format!("{version} line {line} {:?}", lines[line - 1]);
        bench.proxy().at(line, fault);
        let verdict = applier.apply(&next, Means::Commands).await;
        bench.proxy().calm();
        assert!(
            matches!(
                verdict,
                Verdict::Refused { .. } | Verdict::NeedsReload { .. }
            ),
            "{place}: {verdict:?}"
        );
        let seen = applier.observe().await;
        let place = format!("{place}: {verdict:?} {seen:?}");
        assert!(seen.servers.differs.is_none(), "{place}");
        bench.assert_equal(Servers::Former, &place).await;
        bench.tidy(&mut applier).await;
    }
    assert_eq!(bench.reloads().await, 0);
    assert_eq!(traffic.failed().await, 0, "{version}");
}

/// A configuration that somebody wrote by hand has no revision to go back to.
#[haproxies(ends)]
async fn a_first_change_that_is_refused_or_cut_leaves_no_revision_behind(version: Version) {
    let mut bench = Bench::by_hand(&version).await;
    let mut options = bench.options();
    options.binary = refusing(&bench);
    std::fs::write(bench.path().join("refuse"), "").unwrap();
    let mut applier = Applier::open(options, Rules::default()).unwrap();
    let next = bench.set(Servers::Next);
    let verdict = applier.apply(&next, Means::Commands).await;
    assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    let (running, rows) = bench.worker().await;
    let seen = applier.observe().await;
    assert!(!seen.diverges(), "{running:?} {rows:?} {seen:?}");
    std::fs::remove_file(bench.path().join("refuse")).unwrap();
    for line in [8, 12, 18, 24] {
        bench.proxy().at(line, Fault::CutAfter);
        let told = bench.bring(&mut applier, Servers::Next).await;
        bench
            .assert_equal(Servers::Next, &format!("{told:?}"))
            .await;
        assert!(bench.reloads().await <= 1);
        bench.bring(&mut applier, Servers::Former).await;
    }
}

// E01 H07
#[haproxies(ends)]
async fn a_disk_that_takes_no_file_stops_the_change_before_anything_is_said(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::mount(directory.path().join("disk"), 64);
    let mut bench = Bench::at(&version, disk.path().join("haproxy.cfg")).await;
    let mut applier = bench.settled().await;
    let filler = disk.path().join("filler");
    let mut full = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut full, &[0; 4096]).is_ok() {}
    bench.proxy().calm();
    let verdict = applier.apply(&bench.set(Servers::Next), Means::Any).await;
    let Verdict::Failed { error } = verdict else {
        panic!("{verdict:?}");
    };
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(bench.proxy().commands(), [""; 0]);
    bench.assert_equal(Servers::Former, "").await;
    drop(full);
    std::fs::remove_file(filler).unwrap();
    bench.bring(&mut applier, Servers::Next).await;
    bench.assert_equal(Servers::Next, "").await;
    assert_eq!(bench.reloads().await, 0);
    drop(bench);
}

// E02 E06
/// A file that cannot be replaced is found out after the commands of the first try only; they are undone, and the
/// next tries say nothing.
#[haproxies(ends)]
async fn a_file_that_cannot_be_replaced_costs_commands_once(version: Version) {
    let mut bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    let immutable = |flag: &str| {
        let chattr = std::process::Command::new("chattr")
            .arg(flag)
            .arg(bench.main())
            .status();
        assert!(chattr.unwrap().success());
    };
    immutable("+i");
    for first in [true, false, false] {
        bench.proxy().calm();
        let verdict = applier.apply(&bench.set(Servers::Next), Means::Any).await;
        let commands = bench.proxy().commands();
        // So that nothing is left that only root's tools can remove.
        if !matches!(verdict, Verdict::Failed { .. }) || commands.is_empty() == first {
            immutable("-i");
            panic!("{version} {first}: {verdict:?} {commands:?}");
        }
    }
    immutable("-i");
    bench.assert_equal(Servers::Former, "").await;
    bench.bring(&mut applier, Servers::Next).await;
    bench.assert_equal(Servers::Next, "").await;
    assert_eq!(bench.reloads().await, 0);
    drop(bench);
}

// E15
/// A change of one file waits for the disk twice, by commands as by a reload: for the file and for its directory.
#[cfg(debug_assertions)]
#[haproxies(ends)]
async fn a_change_of_one_file_waits_for_the_disk_twice(version: Version) {
    let bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    for (means, by_reload) in [(Means::Any, false), (Means::Reload, true)] {
        faults::calm();
        let verdict = applier.apply(&bench.set(Servers::Next), means).await;
        let waits: Vec<_> = faults::taken()
            .into_iter()
            .filter(|taken| matches!(taken.step, faults::Step::Sync | faults::Step::SyncNames))
            .collect();
        let done = matches!(verdict, Verdict::Confirmed { reloaded, .. } if reloaded == by_reload);
        assert!(done, "{verdict:?}");
        assert_eq!(waits.len(), 2, "{version} {means:?}: {waits:#?}");
        bench.bring(&mut applier, Servers::Former).await;
        bench.tidy(&mut applier).await;
    }
    drop(bench);
}

// E02 H11
/// A disk that breaks when the commands are out already: the files and the worker are brought together.
#[cfg(debug_assertions)]
#[haproxies(ends)]
async fn a_disk_that_fails_while_commands_are_out_ends_equal(version: Version) {
    let mut bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    lines_of_a_change(&bench, &mut applier).await;
    faults::calm();
    bench.bring(&mut applier, Servers::Next).await;
    let steps = faults::taken().len();
    bench.bring(&mut applier, Servers::Former).await;
    bench.tidy(&mut applier).await;
    assert_eq!(bench.reloads().await, 0);
    let traffic = Traffic::to(bench.port());
    for (number, stays) in (0..steps).step_by(9).zip([false, true].into_iter().cycle()) {
        faults::fail(number, nix::libc::EIO, stays);
        let next = bench.set(Servers::Next);
        let verdict = applier.apply(&next, Means::Any).await;
        let place = format!("{version} step {number} {stays}: {verdict:?}");
        faults::calm();
        let told = bench.bring(&mut applier, Servers::Next).await;
        let place = format!("{place} {told:#?}");
        bench.assert_equal(Servers::Next, &place).await;
        bench.bring(&mut applier, Servers::Former).await;
        bench.tidy(&mut applier).await;
        bench.assert_equal(Servers::Former, &place).await;
        assert_eq!(bench.reloads().await, 0, "{place}");
    }
    assert_eq!(traffic.failed().await, 0, "{version}");
}

// H08
/// HAProxy is killed while commands go out, or after that, and somebody starts it again from the files as
/// they are.
#[haproxies(ends)]
async fn a_haproxy_that_is_killed_at_any_line_comes_back_with_the_files(version: Version) {
    let bench = Bench::with_proxy(&version).await;
    let mut applier = bench.settled().await;
    let count = end_of(&lines_of_a_change(&bench, &mut applier).await);
    drop((applier, bench));
    for line in [3, count / 2, count, count + 1] {
        let mut bench = Bench::with_proxy(&version).await;
        let mut applier = bench.settled().await;
        let next = bench.set(Servers::Next);
        let master = Pid::from_raw(bench.processes().await.master.pid);
        let killed = Arc::new(Notify::new());
        let tell = Arc::clone(&killed);
        let crash = meanwhile(move || {
            killpg(master, Signal::SIGKILL).unwrap();
            tell.notify_one();
            async { true }
        });
        let verdict = if line <= count {
            bench.proxy().at(line, crash);
            let again = async {
                killed.notified().await;
                bench.again().await;
            };
            tokio::join!(applier.apply(&next, Means::Any), again).0
        } else {
            let verdict = applier.apply(&next, Means::Any).await;
            assert!(matches!(verdict, Verdict::Confirmed { .. }), "{verdict:?}");
            killpg(master, Signal::SIGKILL).unwrap();
            bench.again().await;
            let (running, _) = bench.worker().await;
            assert_eq!(running.revision, Some(next.revision.clone()));
            verdict
        };
        let told = bench.bring(&mut applier, Servers::Next).await;
        let place = format!("{version} line {line} of {count}: {verdict:?} {told:#?}");
        bench.assert_equal(Servers::Next, &place).await;
        let reloads = bench.reloads().await;
        assert!(
            reloads <= u64::from(line <= count),
            "{reloads} reloads, {place}"
        );
    }
}

// H01 H14
/// The command line must be of level admin; one of level operator is asked, and refuses to be told.
#[haproxies(ends)]
async fn a_socket_of_level_operator_is_not_told_again_and_again(version: Version) {
    let mut bench = Bench::start(&version, "operator").await;
    bench.stats = Some(Proxy::before(&bench.socket()));
    let mut applier = bench.settled().await;
    bench.proxy().calm();
    for servers in [Servers::Next, Servers::Former, Servers::Next] {
        let told = bench.bring(&mut applier, servers).await;
        bench.assert_equal(servers, &format!("{told:?}")).await;
    }
    assert_eq!(bench.proxy().commands(), [""; 0]);
    assert_eq!(bench.reloads().await, 0, "the master takes commands");
}
