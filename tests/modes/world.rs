//! Gatewright and HAProxy over one service, in each way of reloading.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Mode::{self, Command, Master, Signal as Usr2, Supervise};
use super::{END, LIMIT};
use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::Version;
use support::haproxy::{self, cli};
use support::process::{self, Process, command};
use support::traffic::{Limits, Traffic, send};
use support::{ports, wait_for};

/// One Gatewright, one HAProxy and the instances of one service. The order of the fields is the
/// order in which they are stopped.
pub struct World {
    pub gatewright: Option<Gatewright>,
    pub haproxy: Option<Process>,
    pub instances: Vec<(String, Backend)>,
    pub setup: Setup,
    pub mode: Mode,
    pub version: Version,
    pub service: String,
    pub entrance: SocketAddr,
}

impl World {
    /// Four instances and more in Consul, HAProxy on a configuration of somebody's own, and the
    /// settings. Nothing of ours runs yet.
    pub fn new(consul: &Consul, mode: Mode, version: &Version, count: usize) -> World {
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

    pub fn template(&self, more: &str) -> String {
        let service = &self.service;
        format!(
            "global\n    stats socket {{{{parameter \"stats_socket\"}}}} mode 600 level admin\n    fd-hard-limit 2000\n    hard-stop-after 20s\n    httpclient.ssl.verify none\n\
             defaults\n    mode http\n    option idle-close-on-response\n    retries 3\n    option redispatch 1\n\
             \x20   timeout connect 5s\n    timeout client 30s\n    timeout server {{{{parameter \"timeout\"}}}}\n\
             frontend in\n    bind {entrance}\n    default_backend web\n{more}\
             backend web\n    balance roundrobin\n\
             {{{{#each (service \"{service}\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}} weight {{{{keyOrDefault \"{service}/weight\" \"10\"}}}}\n{{{{/each}}}}\n",
            entrance = self.entrance,
        )
    }

    pub fn settings(&self, more: &str) {
        self.settings_with("30s", more);
    }

    pub fn settings_with(&self, timeout: &str, more: &str) {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.directory().join(name)
    }

    /// A configuration that somebody wrote before Gatewright came: the first instance only.
    pub fn write_by_hand(&self) {
        let address = self.instances[0].1.address();
        let text = format!(
            "global\n stats socket {} mode 600 level admin\n fd-hard-limit 2000\n httpclient.ssl.verify none\n\
             defaults\n mode http\n option idle-close-on-response\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend in\n bind {}\n default_backend web\nbackend web\n server old {address}\n",
            self.setup.path("stats.sock"),
            self.entrance,
        );
        self.setup.file("haproxy.cfg", &text).unwrap();
    }

    /// Starts HAProxy as its own service manager would, and waits until it serves.
    pub fn start_haproxy(&mut self) {
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
    pub fn start(&mut self, consul: &Consul) {
        if self.mode != Supervise && self.haproxy.is_none() {
            self.write_by_hand();
            self.start_haproxy();
        }
        self.run(consul);
        self.converge(&(0..self.instances.len()).collect::<Vec<_>>());
    }

    pub fn run(&mut self, consul: &Consul) {
        let setup = std::mem::replace(&mut self.setup, Setup::new().unwrap());
        self.setup = setup.env("CONSUL_HTTP_ADDR", &consul.url());
        self.gatewright = Some(self.setup.run().unwrap());
    }

    pub fn gatewright(&mut self) -> &mut Gatewright {
        self.gatewright.as_mut().unwrap()
    }

    pub fn register(&self, consul: &Consul, number: usize) {
        let (id, backend) = &self.instances[number];
        consul
            .register_checked(&self.service, id, backend.address())
            .unwrap();
    }

    pub fn id(&self, number: usize) -> &str {
        &self.instances[number].0
    }

    pub fn names(&self, numbers: &[usize]) -> BTreeSet<String> {
        numbers
            .iter()
            .map(|number| self.id(*number).to_owned())
            .collect()
    }

    pub fn settle_in_consul(&self, consul: &Consul, numbers: &[usize]) {
        let wanted: Vec<String> = self.names(numbers).into_iter().collect();
        wait_for(LIMIT, &format!("Consul to have {wanted:?}"), || {
            (consul.passing(&self.service).ok()? == wanted).then_some(())
        })
        .unwrap();
    }

    pub fn file(&self) -> String {
        self.setup.read("haproxy.cfg").unwrap_or_default()
    }

    /// The instances that the file on disk has.
    pub fn listed(&self) -> BTreeSet<String> {
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
    pub fn written(&self) -> Option<String> {
        haproxy::revision_of(&self.file())
    }

    /// The revision that the worker carries, by its own word.
    pub fn running(&self) -> Option<String> {
        haproxy::revision(&self.path("stats.sock"), &self.file())
    }

    pub fn worker(&self) -> Option<u32> {
        haproxy::worker(&self.path("stats.sock"))
    }

    /// The master that a supervised HAProxy has.
    pub fn master(&self) -> Option<u32> {
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
    pub fn converge(&self, numbers: &[usize]) -> String {
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

    pub fn wait_for_state(&self, state: &str) {
        wait_for(LIMIT, state, || {
            (self.status()?["state"] == state).then_some(())
        })
        .unwrap_or_else(|error| self.fail(&error));
    }

    /// Asked at the socket, so that it is told whatever the settings file looks like.
    pub fn status(&self) -> Option<serde_json::Value> {
        self.setup.status_at("status.sock")
    }

    pub fn fail(&self, error: &str) -> ! {
        panic!(
            "{error}\nfile {:?} running {:?} status {:?}\n{}",
            self.written(),
            self.running(),
            self.status(),
            self.setup.read("gatewright.log").unwrap_or_default()
        )
    }

    pub fn traffic(&self) -> Traffic {
        let limits = Limits {
            clients: 3,
            pause: Duration::from_millis(2),
            requests: 100_000,
            time: Duration::from_secs(120),
        };
        Traffic::start(self.entrance, limits)
    }

    /// What a write would change: the file's inode, its time and its text.
    pub fn stamp(&self) -> (u64, i64, i64, String) {
        let file = std::fs::metadata(self.path("haproxy.cfg")).unwrap();
        (file.ino(), file.mtime(), file.mtime_nsec(), self.file())
    }

    /// Sends SIGTERM and checks that Gatewright ends well, in time and with everything it had.
    pub fn end(&mut self) {
        let own = self.gatewright().process().pid();
        let family = process::descendants(own);
        let began = Instant::now();
        let code = self.gatewright().stop(LIMIT);
        let took = began.elapsed();
        assert_eq!(code, Ok(0), "{:?} on {}", self.mode, self.version);
        self.check_end(&family, took);
    }

    /// Sends the second SIGTERM: whatever is under way is cut, HAProxy's connections as well.
    pub fn end_by_second_signal(&mut self, family: &[u32]) {
        let began = Instant::now();
        assert_eq!(self.gatewright().stop(LIMIT), Ok(0));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        self.check_end(family, took);
        for (_, backend) in &self.instances {
            backend.set_delay(Duration::ZERO);
        }
    }

    pub fn check_end(&self, family: &[u32], took: Duration) {
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
