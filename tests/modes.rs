//! Every way of telling HAProxy keeps the same promises: no request fails over a change, what is on
//! disk is what runs, and starting, ending and faults of others leave nothing worse than it was.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::{Version, haproxies, newest, oldest};
use support::haproxy::cli;
use support::measured::note;
use support::process::{self, Process, command};
use support::traffic::{Limits, Traffic, send};
use support::{http, ports, wait_for};

mod crashes;

const LIMIT: Duration = Duration::from_secs(30);
/// The end after SIGTERM: ten seconds for work on its way, and some for a busy machine.
const END: Duration = Duration::from_secs(12);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Supervise,
    Master,
    Signal,
    Command,
}

use Mode::{Command, Master, Signal as Usr2, Supervise};

/// One Gatewright, one HAProxy and the instances of one service. The order of the fields is the
/// order in which they are stopped.
struct World {
    gatewright: Option<Gatewright>,
    haproxy: Option<Process>,
    instances: Vec<(String, Backend)>,
    setup: Setup,
    mode: Mode,
    version: Version,
    service: String,
    entrance: SocketAddr,
}

impl World {
    /// Four instances and more in Consul, HAProxy on a configuration of somebody's own, and the
    /// settings. Nothing of ours runs yet.
    fn new(consul: &Consul, mode: Mode, version: &Version, count: usize) -> World {
        let [port] = ports::free().unwrap();
        let service = format!("{mode:?}").to_lowercase();
        let mut world = World {
            gatewright: None,
            haproxy: None,
            instances: Vec::new(),
            setup: Setup::new().unwrap(),
            mode,
            version: version.clone(),
            entrance: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            service,
        };
        for number in 0..count {
            let id = format!("{}-{number}", world.service);
            let backend = Backend::start(&id).unwrap();
            world.instances.push((id, backend));
            world.register(consul, number);
        }
        world.settle_in_consul(consul, &(0..count).collect::<Vec<_>>());
        let dir = world.setup.path("");
        // With the file `slow` there, a validation takes longer than anybody waits.
        world.setup.script(
            "validator",
            &format!(
                "#!/bin/sh\nif [ -e {dir}slow ] && [ \"$1\" != -v ]; then echo $$ > {dir}validating; sleep 600; fi\n\
                 exec {} \"$@\"\n",
                version.program().display()
            ),
        ).unwrap();
        world.setup.script(
            "reload",
            &format!(
                "#!/usr/bin/perl\nuse IO::Socket::UNIX;\n\
                 my $master = IO::Socket::UNIX->new(Peer => '{dir}master.sock') or die;\n\
                 print $master \"reload\\n\"; $master->flush; shutdown($master, 1); my @answer = <$master>;\n"
            ),
        ).unwrap();
        let template = world.template("");
        world.setup.file("haproxy.cfg.hbs", &template).unwrap();
        world.settings("");
        world
    }

    fn template(&self, more: &str) -> String {
        let service = &self.service;
        format!(
            "global\n    stats socket {{{{parameter \"stats_socket\"}}}} mode 600 level admin\n    fd-hard-limit 2000\n    hard-stop-after 20s\n\
             defaults\n    mode http\n    option idle-close-on-response\n    retries 3\n    option redispatch 1\n\
             \x20   timeout connect 5s\n    timeout client 30s\n    timeout server {{{{parameter \"timeout\"}}}}\n\
             frontend in\n    bind {entrance}\n    default_backend web\n{more}\
             backend web\n    balance roundrobin\n\
             {{{{#each (service \"{service}\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}} weight {{{{keyOrDefault \"{service}/weight\" \"10\"}}}}\n{{{{/each}}}}\n",
            entrance = self.entrance,
        )
    }

    fn settings(&self, more: &str) {
        self.settings_with("30s", more);
    }

    fn settings_with(&self, timeout: &str, more: &str) {
        let told = match self.mode {
            Supervise => "mode = \"supervise\"\nmaster_socket = \"{dir}master.sock\"",
            Master => "mode = \"master\"\nmaster_socket = \"{dir}master.sock\"",
            Usr2 => {
                "mode = \"signal\"\npid_file = \"{dir}haproxy.pid\"\nstats_socket = \"{dir}stats.sock\""
            }
            Command => {
                "mode = \"command\"\ncommand = [\"{dir}reload\"]\nstats_socket = \"{dir}stats.sock\""
            }
        };
        self.setup
            .settings(&format!(
                "[haproxy]\nbinary = \"{{dir}}validator\"\n{told}\n\
                 [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n[status]\nsocket = \"{{dir}}status.sock\"\n\
                 [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n\
                 [parameters]\nstats_socket = \"{{dir}}stats.sock\"\ntimeout = \"{timeout}\"\n{more}"
            ))
            .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.directory().join(name)
    }

    /// A configuration that somebody wrote before Gatewright came: the first instance only.
    fn write_by_hand(&self) {
        let address = self.instances[0].1.address();
        let text = format!(
            "global\n stats socket {} mode 600 level admin\n fd-hard-limit 2000\n\
             defaults\n mode http\n option idle-close-on-response\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend in\n bind {}\n default_backend web\nbackend web\n server old {address}\n",
            self.setup.path("stats.sock"),
            self.entrance,
        );
        self.setup.file("haproxy.cfg", &text).unwrap();
    }

    /// Starts HAProxy as its own service manager would, and waits until it serves.
    fn start_haproxy(&mut self) {
        let mut words = vec!["-W", "-db"];
        let socket = self.setup.path("master.sock");
        let pid_file = self.setup.path("haproxy.pid");
        let file = self.setup.path("haproxy.cfg");
        if self.mode != Usr2 {
            words.extend(["-S", &socket]);
        }
        words.extend(["-p", &pid_file, "-f", &file]);
        let haproxy = Process::start(
            "HAProxy",
            &mut command(self.version.program(), words),
            &self.path("haproxy.log"),
        );
        self.haproxy = Some(haproxy.unwrap());
        wait_for(LIMIT, "HAProxy to serve", || {
            self.worker()?;
            (send(self.entrance, 1).ok() == 1).then_some(())
        })
        .unwrap();
    }

    /// Starts HAProxy, where it is not ours to start, and Gatewright, and waits for the first
    /// confirmation.
    fn start(&mut self, consul: &Consul) {
        if self.mode != Supervise && self.haproxy.is_none() {
            self.write_by_hand();
            self.start_haproxy();
        }
        self.run(consul);
        self.converge(&(0..self.instances.len()).collect::<Vec<_>>());
    }

    fn run(&mut self, consul: &Consul) {
        let setup = std::mem::replace(&mut self.setup, Setup::new().unwrap());
        self.setup = setup.env("CONSUL_HTTP_ADDR", &consul.url());
        self.gatewright = Some(self.setup.run().unwrap());
    }

    fn gatewright(&mut self) -> &mut Gatewright {
        self.gatewright.as_mut().unwrap()
    }

    fn register(&self, consul: &Consul, number: usize) {
        let (id, backend) = &self.instances[number];
        consul
            .register_checked(&self.service, id, backend.address())
            .unwrap();
    }

    fn id(&self, number: usize) -> &str {
        &self.instances[number].0
    }

    fn names(&self, numbers: &[usize]) -> BTreeSet<String> {
        numbers
            .iter()
            .map(|number| self.id(*number).to_owned())
            .collect()
    }

    fn settle_in_consul(&self, consul: &Consul, numbers: &[usize]) {
        let wanted: Vec<String> = self.names(numbers).into_iter().collect();
        wait_for(LIMIT, &format!("Consul to have {wanted:?}"), || {
            (consul.passing(&self.service).ok()? == wanted).then_some(())
        })
        .unwrap();
    }

    fn file(&self) -> String {
        self.setup.read("haproxy.cfg").unwrap_or_default()
    }

    /// The instances that the file on disk has.
    fn listed(&self) -> BTreeSet<String> {
        let file = self.file();
        let servers: BTreeSet<&str> = file
            .lines()
            .filter_map(|line| line.trim().strip_prefix("server ")?.split(' ').nth(1))
            .collect();
        self.instances
            .iter()
            .filter(|(_, backend)| servers.contains(backend.address().to_string().as_str()))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The revision that the file on disk carries.
    fn written(&self) -> Option<String> {
        let file = self.file();
        let (_, rest) = file.split_once("proc.gatewright_revision str(")?;
        Some(rest.split_once(')')?.0.to_owned())
    }

    /// The revision that the worker carries, by its own word.
    fn running(&self) -> Option<String> {
        let answer = cli(&self.path("stats.sock"), "get var proc.gatewright_revision").ok()?;
        Some(
            answer
                .split_once("value=<")?
                .1
                .split_once('>')?
                .0
                .to_owned(),
        )
    }

    fn worker(&self) -> Option<u32> {
        let info = cli(&self.path("stats.sock"), "show info").ok()?;
        info.lines()
            .find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok())
    }

    /// The master that a supervised HAProxy has.
    fn master(&self) -> Option<u32> {
        let processes = cli(&self.path("master.sock"), "show proc").ok()?;
        processes
            .lines()
            .find(|line| line.contains("master"))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    }

    /// Waits until the file has exactly these instances, the running worker runs that file, and the
    /// status says so.
    fn converge(&self, numbers: &[usize]) -> String {
        let wanted = self.names(numbers);
        let what = format!("{:?} on {} to run {wanted:?}", self.mode, self.version);
        wait_for(LIMIT, &what, || {
            let revision = self.written()?;
            let status = self.status()?;
            let good = self.listed() == wanted
                && self.running().as_ref() == Some(&revision)
                && status["state"] == "confirmed"
                && status["applied"]["revision"] == *revision
                && status["applied"]["confirmed"] == true
                && status["haproxy"]["running"] == *revision;
            good.then_some(revision)
        })
        .unwrap_or_else(|error| self.fail(&error))
    }

    fn wait_for_state(&self, state: &str) {
        wait_for(LIMIT, state, || {
            (self.status()?["state"] == state).then_some(())
        })
        .unwrap_or_else(|error| self.fail(&error));
    }

    /// Asked at the socket, so that it is told whatever the settings file looks like.
    fn status(&self) -> Option<serde_json::Value> {
        let socket = self.setup.path("status.sock");
        let words = ["status", "--json", "--socket", &socket];
        serde_json::from_slice(&self.setup.call(&words).ok()?.stdout).ok()
    }

    fn fail(&self, error: &str) -> ! {
        panic!(
            "{error}\nfile {:?} running {:?} status {:?}\n{}",
            self.written(),
            self.running(),
            self.status(),
            self.setup.read("gatewright.log").unwrap_or_default()
        )
    }

    fn traffic(&self) -> Traffic {
        let limits = Limits {
            clients: 3,
            pause: Duration::from_millis(2),
            requests: 100_000,
            time: Duration::from_secs(120),
        };
        Traffic::start(self.entrance, limits)
    }

    /// What a write would change: the file's inode, its time and its text.
    fn stamp(&self) -> (u64, i64, i64, String) {
        let file = std::fs::metadata(self.path("haproxy.cfg")).unwrap();
        (file.ino(), file.mtime(), file.mtime_nsec(), self.file())
    }

    /// Sends SIGTERM and checks that Gatewright ends well, in time and with everything it had.
    fn end(&mut self) {
        let own = self.gatewright().process().pid();
        let family = process::descendants(own);
        let began = Instant::now();
        let code = self.gatewright().stop(LIMIT);
        let took = began.elapsed();
        assert_eq!(code, Ok(0), "{:?} on {}", self.mode, self.version);
        self.check_end(&family, took);
    }

    /// Sends the second SIGTERM: whatever is under way is cut, HAProxy's connections as well.
    fn end_by_second_signal(&mut self, family: &[u32]) {
        let began = Instant::now();
        assert_eq!(self.gatewright().stop(LIMIT), Ok(0));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        self.check_end(family, took);
        for (_, backend) in &self.instances {
            backend.set_delay(Duration::ZERO);
        }
    }

    fn check_end(&self, family: &[u32], took: Duration) {
        let at = format!("{:?} on {}", self.mode, self.version);
        assert!(took < END, "{at}: {took:?}");
        wait_for(LIMIT, "everything it started to end with it", || {
            (!family.iter().any(|pid| process::exists(*pid))).then_some(())
        })
        .unwrap_or_else(|error| self.fail(&format!("{at}: {error}")));
        assert!(!self.path("status.sock").exists(), "{at}");
        for lock in ["state/lock", ".haproxy.cfg.gatewright.lock"] {
            if let Ok(file) = std::fs::File::open(self.path(lock)) {
                let free = Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok();
                assert!(free, "{at}: {lock}");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A supervised HAProxy that outlived a killed Gatewright belongs to nobody.
        if self.mode == Supervise
            && let Some(master) = self.master()
        {
            let family = process::descendants(master);
            for pid in std::iter::once(master).chain(family) {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
}

// Changes under load.

/// 100 changes of the catalog and 20 of a key, each with requests around it.
fn a_hundred_changes(mode: Mode, version: &Version) {
    let consul = &Consul::start().unwrap();
    let mut world = World::new(consul, mode, version, 5);
    world.start(consul);
    let traffic = world.traffic();
    for change in 0..100 {
        let number = 1 + change % 4;
        let id = world.id(number).to_owned();
        match (change / 4 + number) % 6 {
            0 => consul.maintenance(&id, true).unwrap(),
            1 => consul.maintenance(&id, false).unwrap(),
            2 => consul.set_check(&id, "fail").unwrap(),
            3 => consul.set_check(&id, "pass").unwrap(),
            4 => consul.deregister(&id).unwrap(),
            _ => world.register(consul, number),
        }
        if change % 5 == 4 {
            let weight = (10 + change).to_string();
            consul
                .set_key(&format!("{}/weight", world.service), &weight)
                .unwrap();
        }
        let before = traffic.look(|report| report.ok() + report.failed);
        wait_for(LIMIT, "ten further requests", || {
            traffic.look(|report| (report.ok() + report.failed >= before + 10).then_some(()))
        })
        .unwrap();
    }
    world.settle_in_consul(consul, &[0, 1, 3]);
    world.converge(&[0, 1, 3]);
    // The key is watched apart from the service, so its last change may come after.
    wait_for(LIMIT, "the last weight in the file", || {
        world.file().contains(" weight 109\n").then_some(())
    })
    .unwrap();
    world.converge(&[0, 1, 3]);
    let report = traffic.stop();
    assert_eq!(
        report.failed,
        0,
        "{mode:?} on {version}: {:?} of {} requests",
        report.errors,
        report.ok()
    );
    let log = world.gatewright().log();
    let reloads = log.matches(" confirmed in ").count();
    assert!(reloads > 3, "{mode:?} on {version}:\n{log}");
    println!(
        "{mode:?} on {version}: {reloads} configurations, {} requests, the slowest in {:?}",
        report.ok(),
        report.slowest
    );
    world.end();
}

#[haproxies(ends)]
fn g01_g15_no_request_fails_over_a_hundred_changes_under_supervise(version: Version) {
    a_hundred_changes(Supervise, &version);
}

#[haproxies]
fn g01_g15_no_request_fails_over_a_hundred_changes_by_the_master_socket(version: Version) {
    a_hundred_changes(Master, &version);
}

#[haproxies(ends)]
fn g01_g15_no_request_fails_over_a_hundred_changes_by_signal(version: Version) {
    a_hundred_changes(Usr2, &version);
}

#[test]
fn g01_g15_no_request_fails_over_a_hundred_changes_by_command() {
    a_hundred_changes(Command, &oldest());
}

/// Pairs of changes that need a reload each, at gaps of 0 to 400 ms and with next to no distance kept between
/// two reloads: HAProxy runs each of the later ones in the end.
fn no_update_is_lost(mode: Mode) {
    const PAIRS: u32 = 40;
    let consul = &Consul::start().unwrap();
    let mut world = World::new(consul, mode, &oldest(), 2);
    let key = format!("{}/queue", world.service);
    let more = format!("backend spare\n    timeout queue {{{{keyOrDefault \"{key}\" \"1\"}}}}s\n");
    world
        .setup
        .file("haproxy.cfg.hbs", &world.template(&more))
        .unwrap();
    let settings = world.setup.read("gatewright.toml").unwrap();
    let settings = settings.replace("reload_interval = \"200ms\"", "reload_interval = \"1ms\"");
    world.setup.file("gatewright.toml", &settings).unwrap();
    world.start(consul);
    let mut lost = Vec::new();
    for pair in 0..PAIRS {
        let gap = Duration::from_millis(400) * pair / (PAIRS - 1);
        let [first, second] = [2 * pair + 10, 2 * pair + 11];
        consul.set_key(&key, &first.to_string()).unwrap();
        std::thread::sleep(gap);
        consul.set_key(&key, &second.to_string()).unwrap();
        let line = format!("    timeout queue {second}s\n");
        let arrived = wait_for(LIMIT, &line, || {
            let runs = world.file().contains(&line) && world.running() == world.written();
            runs.then_some(())
        });
        if let Err(error) = arrived {
            lost.push(format!("{gap:?}: {error}"));
        }
    }
    assert_eq!(lost, [""; 0], "{mode:?}");
    world.converge(&[0, 1]);
    let reloads = world.status().unwrap()["haproxy"]["reloads"].as_u64();
    let reloads = reloads.unwrap();
    assert!(reloads > u64::from(PAIRS), "{mode:?}: {reloads}");
    world.end();
    let what = format!("lost updates at gaps of 0 to 400 ms, {mode:?}");
    note(
        "g01",
        &what.to_lowercase(),
        format!("{} of {PAIRS}, {reloads} reloads", lost.len()),
    );
}

#[test]
fn g01_no_update_is_lost_at_any_gap_under_supervise() {
    no_update_is_lost(Supervise);
}

#[test]
fn g01_no_update_is_lost_at_any_gap_by_the_master_socket() {
    no_update_is_lost(Master);
}

#[test]
fn g01_no_update_is_lost_at_any_gap_by_signal() {
    no_update_is_lost(Usr2);
}

#[test]
fn g01_no_update_is_lost_at_any_gap_by_command() {
    no_update_is_lost(Command);
}

#[test]
fn requests_follow_the_catalog() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 3);
    world.start(&consul);
    let traffic = world.traffic();
    let follow = |world: &World, numbers: &[usize]| {
        let wanted = world.names(numbers);
        wait_for(LIMIT, &format!("traffic to {wanted:?}"), || {
            (traffic.look(|report| report.recent(30))? == wanted).then_some(())
        })
        .unwrap_or_else(|error| world.fail(&error));
    };
    follow(&world, &[0, 1, 2]);
    let id = format!("{}-3", world.service);
    let backend = Backend::start(&id).unwrap();
    world.instances.push((id, backend));
    world.register(&consul, 3);
    follow(&world, &[0, 1, 2, 3]);
    consul.set_check(world.id(1), "fail").unwrap();
    follow(&world, &[0, 2, 3]);
    consul.set_check(world.id(1), "pass").unwrap();
    consul.deregister(world.id(0)).unwrap();
    follow(&world, &[1, 2, 3]);
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}

// What others do to HAProxy.

#[test]
fn g09_g17_j05_a_haproxy_that_others_reloaded_or_restarted_is_brought_back_by_the_master_socket() {
    brought_back(Master);
}

#[test]
fn g09_g17_j05_a_haproxy_that_others_reloaded_or_restarted_is_brought_back_by_signal() {
    brought_back(Usr2);
}

fn brought_back(mode: Mode) {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, mode, &oldest(), 2);
    world.start(&consul);
    let ours = world.converge(&[0, 1]);
    let signal = |world: &mut World, signal| world.haproxy.as_mut().unwrap().signal(signal);

    world.write_by_hand();
    signal(&mut world, Signal::SIGUSR2);
    world
        .gatewright()
        .wait_for_log(
            LIMIT,
            &[
                "HAProxy runs a configuration without our revision instead of",
                "it is brought back.",
            ],
        )
        .unwrap();
    assert_eq!(world.converge(&[0, 1]), ours, "{mode:?}");

    world.haproxy.as_mut().unwrap().stop(LIMIT).unwrap();
    world.wait_for_state("unconfirmed");
    world.write_by_hand();
    world.start_haproxy();
    assert_eq!(world.converge(&[0, 1]), ours, "{mode:?}");
    world.end();
}

#[test]
fn g08_j04_a_haproxy_that_starts_later_is_confirmed_without_a_further_write() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &newest(), 2);
    world.run(&consul);
    world.wait_for_state("unconfirmed");
    let stamp = world.stamp();
    world.start_haproxy();
    world.converge(&[0, 1]);
    assert_eq!(world.stamp(), stamp);
    let uptime = cli(&world.path("master.sock"), "show proc").unwrap();
    assert!(!uptime.contains("# old workers\n1"), "{uptime}");
    world.end();
}

// Ending.

#[test]
fn i03_j11_an_end_leaves_a_haproxy_of_others_alone() {
    let mut consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &oldest(), 2);
    world.start(&consul);
    let worker = world.worker();
    let untouched = |world: &World, stamp: &(u64, i64, i64, String)| {
        assert_eq!(world.worker(), worker);
        assert_eq!(world.stamp(), *stamp);
        assert_eq!(send(world.entrance, 5).failed, 0);
    };

    let stamp = world.stamp();
    world.end();
    untouched(&world, &stamp);

    world.run(&consul);
    world.converge(&[0, 1]);
    untouched(&world, &stamp);
    world.setup.file("slow", "").unwrap();
    consul.deregister(world.id(1)).unwrap();
    wait_for(LIMIT, "a validation", || {
        world.path("validating").exists().then_some(())
    })
    .unwrap();
    world.end();
    untouched(&world, &stamp);
    std::fs::remove_file(world.path("slow")).unwrap();

    consul.kill();
    world.run(&consul);
    world
        .setup
        .wait_for_status(LIMIT, "a failing query", |status| {
            status["queries"][0]["error"].as_str().map(drop)
        })
        .unwrap();
    world.end();
    untouched(&world, &stamp);
}

#[test]
fn j11_a_supervised_haproxy_finishes_its_requests_and_ends_with_us() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 2);
    world.start(&consul);
    let slow = slow_request(&world, Duration::from_secs(2));
    world.end();
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
    assert_eq!(send(world.entrance, 1).failed, 1);
}

#[test]
fn i03_a_second_signal_ends_a_supervised_haproxy_at_once() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &newest(), 2);
    world.start(&consul);
    let slow = slow_request(&world, Duration::from_secs(20));
    let family = process::descendants(world.gatewright().process().pid());
    world.gatewright().process().signal(Signal::SIGTERM);
    world
        .gatewright()
        .wait_for_log(LIMIT, &["HAProxy is ended gracefully."])
        .unwrap();
    world.end_by_second_signal(&family);
    let _ = slow.join().unwrap();
}

#[test]
fn i03_a_supervised_haproxy_ends_with_us_while_a_set_is_being_validated() {
    let consul = Consul::start().unwrap();
    let mut world = validating(&consul, &oldest());
    world.end();
}

#[test]
fn i03_a_second_signal_ends_a_supervised_haproxy_while_a_set_is_being_validated() {
    let consul = Consul::start().unwrap();
    let mut world = validating(&consul, &newest());
    let slow = slow_request(&world, Duration::from_secs(20));
    let family = process::descendants(world.gatewright().process().pid());
    world.gatewright().process().signal(Signal::SIGTERM);
    world
        .gatewright()
        .wait_for_log(LIMIT, &["Ending;"])
        .unwrap();
    world.end_by_second_signal(&family);
    let _ = slow.join().unwrap();
}

/// A supervised HAProxy and a validation that does not end.
fn validating(consul: &Consul, version: &Version) -> World {
    let mut world = World::new(consul, Supervise, version, 2);
    world.start(consul);
    world.setup.file("slow", "").unwrap();
    consul.deregister(world.id(1)).unwrap();
    wait_for(LIMIT, "a validation", || {
        world.path("validating").exists().then_some(())
    })
    .unwrap();
    world
}

/// A request that is with an instance when this returns.
fn slow_request(
    world: &World,
    delay: Duration,
) -> std::thread::JoinHandle<std::io::Result<http::Answer>> {
    for (_, backend) in &world.instances {
        backend.set_delay(delay);
    }
    let entrance = world.entrance;
    let request = std::thread::spawn(move || http::get(entrance, "/slow"));
    wait_for(LIMIT, "the request to be on its way", || {
        let sessions = cli(&world.path("stats.sock"), "show stat -1 2 -1").ok()?;
        let current = |line: &str| line.split(',').nth(4)?.parse::<u32>().ok();
        let (backend, _) = sessions.split_once("\n\n").unwrap_or((&sessions, ""));
        backend
            .lines()
            .find_map(|line| current(line).filter(|count| *count > 0))
            .map(drop)
    })
    .unwrap();
    request
}

// One and again.

#[test]
fn e10_a_second_instance_on_the_same_destination_says_so_and_goes() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &newest(), 2);
    world.start(&consul);
    let stamp = world.stamp();
    let pid = world.gatewright().process().pid();
    let settings = world.setup.read("gatewright.toml").unwrap();
    let elsewhere = settings
        .replace(&world.setup.path("state"), &world.setup.path("state-2"))
        .replace(
            &world.setup.path("status.sock"),
            &world.setup.path("2.sock"),
        );
    world.setup.file("second.toml", &elsewhere).unwrap();
    for (file, lock) in [
        ("gatewright.toml", world.setup.path("state/lock")),
        (
            "second.toml",
            world.setup.path(".haproxy.cfg.gatewright.lock"),
        ),
    ] {
        let output = world
            .setup
            .call(&["run", "-c", &world.setup.path(file)])
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(8), "{text}");
        assert_eq!(
            text.trim_end(),
            format!(
                "error[state]: Another Gatewright (process {pid}) already manages this destination; it holds the lock {lock}. \
                 Stop it, or give this one another destination and state directory."
            )
        );
    }
    assert_eq!(world.stamp(), stamp);
    world.wait_for_state("confirmed");
    world.end();
}

#[test]
fn j07_a_restart_with_an_unchanged_world_writes_and_reloads_nothing_by_the_master_socket() {
    restarted_unchanged(Master, &oldest());
}

#[test]
fn j07_a_restart_with_an_unchanged_world_writes_and_reloads_nothing_by_signal() {
    restarted_unchanged(Usr2, &newest());
}

#[test]
fn j07_a_restart_with_an_unchanged_world_writes_and_reloads_nothing_under_supervise() {
    restarted_unchanged(Supervise, &newest());
}

fn restarted_unchanged(mode: Mode, version: &Version) {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, mode, version, 2);
    world.start(&consul);
    let (stamp, worker) = (world.stamp(), world.worker());
    // A supervised HAProxy outlives its parent only when that is killed.
    match mode {
        Supervise => world.gatewright().process().kill(),
        _ => world.end(),
    }
    world.run(&consul);
    world.converge(&[0, 1]);
    world
        .gatewright()
        .wait_for_log(
            LIMIT,
            &["HAProxy already runs this configuration; nothing was written or reloaded."],
        )
        .unwrap();
    assert_eq!(world.stamp(), stamp, "{mode:?}");
    assert_eq!(world.worker(), worker, "{mode:?}");
    if mode == Supervise {
        // Adopted is as good as started: it goes with us.
        let master = world.master().unwrap();
        world.end();
        wait_for(LIMIT, "the adopted HAProxy's end", || {
            (!process::exists(master)).then_some(())
        })
        .unwrap();
    }
}

// Consul's faults.

#[test]
fn a_consul_that_goes_and_comes_back_empty_changes_nothing_until_it_is_whole() {
    let mut consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 2);
    // Without the guard, the gate alone.
    world.settings("[guard]\nenabled = false\n[gate]\nmin_servers = { web = 1 }\n");
    world.start(&consul);
    let (stamp, worker) = (world.stamp(), world.worker());
    let traffic = world.traffic();
    consul.kill();
    let failing = world
        .setup
        .wait_for_status(LIMIT, "a failing query", |status| {
            status["queries"]
                .as_array()?
                .iter()
                .find(|query| query["error"].is_string())
                .cloned()
        })
        .unwrap();
    let query = failing["query"].as_str().unwrap();
    assert!(query.contains(&world.service), "{failing}");
    consul.restart().unwrap();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["catalog answers", "again after"])
        .unwrap();
    world.wait_for_state("held");
    assert_eq!(world.stamp(), stamp);
    assert_eq!(world.worker(), worker);
    world.register(&consul, 1);
    world.converge(&[1]);
    world.register(&consul, 0);
    world.converge(&[0, 1]);
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    world.end();
}

// Settings.

#[test]
fn changed_settings_are_applied_on_sighup_and_broken_ones_change_nothing_under_supervise() {
    changed_settings(Supervise);
}

#[test]
fn changed_settings_are_applied_on_sighup_and_broken_ones_change_nothing_by_the_master_socket() {
    changed_settings(Master);
}

fn changed_settings(mode: Mode) {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, mode, &oldest(), 2);
    world.start(&consul);
    let (stamp, worker) = (world.stamp(), world.worker());

    // Nothing is different: nothing is done, and the supervised HAProxy is still ours.
    world.gatewright().reload();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["The settings and templates are read again."])
        .unwrap();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["The templates were read again."])
        .unwrap();
    world.converge(&[0, 1]);
    assert_eq!(world.stamp(), stamp);
    assert_eq!(world.worker(), worker);

    world.settings_with("31s", "");
    world.gatewright().reload();
    wait_for(LIMIT, "the new parameter", || {
        world.file().contains("timeout server 31s").then_some(())
    })
    .unwrap_or_else(|error| world.fail(&error));
    world.converge(&[0, 1]);

    let (stamp, worker) = (world.stamp(), world.worker());
    world.settings("surprise = 1\n[haproxi]\n");
    world.gatewright().reload();
    world
        .gatewright()
        .wait_for_log(
            LIMIT,
            &["haproxi", "The settings read before stay in force."],
        )
        .unwrap();
    world.converge(&[0, 1]);
    assert_eq!(world.stamp(), stamp);
    assert_eq!(world.worker(), worker);
    let warnings = world.status().unwrap()["warnings"].clone();
    let wrong = format!(
        "{}:20:2: There is no setting `haproxi` here. Did you mean `haproxy`? The settings read before stay in force.",
        world.setup.path("gatewright.toml")
    );
    assert_eq!(warnings, serde_json::json!([wrong]));
    consul.deregister(world.id(1)).unwrap();
    world.converge(&[0]);
    world.end();
}

#[test]
fn a_supervised_haproxy_is_still_kept_and_ended_after_a_sighup() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 2);
    world.start(&consul);
    world.gatewright().reload();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["The templates were read again."])
        .unwrap();
    world.converge(&[0, 1]);
    let master = world.master().unwrap();
    kill(Pid::from_raw(master.cast_signed()), Signal::SIGKILL).unwrap();
    wait_for(LIMIT, "another HAProxy", || {
        world.master().filter(|pid| *pid != master)
    })
    .unwrap_or_else(|error| world.fail(&error));
    world.converge(&[0, 1]);
    world.gatewright().reload();
    let again = || {
        let log = world.setup.read("gatewright.log").ok()?;
        (log.matches("The templates were read again.").count() >= 2).then_some(())
    };
    wait_for(LIMIT, "the settings to be read again", again).unwrap();
    world.end();
    assert_eq!(send(world.entrance, 1).failed, 1);
}
