//! The real programs of the soak, each started and ended by the test as by an init system, and the oracle:
//! catalog, file, running servers and revision agree, nobody's request failed but when no worker listened,
//! and nothing grows.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::clients::Clients;
use crate::faults::files::Disk;
use crate::load::flapping::Flapping;
use crate::runtime::gateway::listed;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::oldest;
use support::haproxy;
use support::haproxy::{check, cli};
use support::process::{Process, command, descendants};
use support::{ports, usage, wait_for};

pub const LIMIT: Duration = Duration::from_secs(60);

/// `@dir@` and `@entrance@` are filled in.
pub const TEMPLATE: &str = "global
    stats socket @dir@/stats.sock mode 600 level admin
    fd-hard-limit 1000
    hard-stop-after 5s
    httpclient.ssl.verify none

defaults
    mode http
    retries 3
    option redispatch 1
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @entrance@
    default_backend web

backend web
    balance roundrobin
    # {{key \"needed\"}}
    retry-on conn-failure empty-response
{{#each (service \"web\")}}
    server {{serverName this}} {{serverAddress this}} id {{serverId this}} weight {{Weights.Passing}}
{{/each}}
";

/// Everything that runs. The order of the fields is the order in which they end.
pub struct Stage {
    pub clients: Clients,
    pub gatewright: Gatewright,
    pub haproxy: Process,
    pub instances: Flapping,
    pub consul: Consul,
    setup: Setup,
    pub disk: Disk,
    entrance: SocketAddr,
    /// From HAProxy's death to the first connection that the next worker took.
    deaths: Vec<(Instant, Instant)>,
    explained: usize,
    /// Resident memory, descriptors and threads of the first calm.
    first: Option<(f64, usize, usize)>,
}

impl Stage {
    pub fn start(seed: u64) -> Stage {
        let consul = Consul::start_persistent().unwrap();
        consul.set_key("needed", "here").unwrap();
        let instances = Flapping::start(&consul, "web", seed);
        let setup = Setup::new().unwrap();
        // The file that HAProxy reads lies on a disk that can be full.
        let disk = Disk::mount(setup.directory().join("disk"));
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = fill(TEMPLATE, &disk.0, entrance);
        setup.file("haproxy.cfg.hbs", &text).unwrap();
        let (before, _) = text.split_once("{{#each").unwrap();
        let first = format!("{before}    server first {}\n", instances.addresses()[0]);
        setup.file("disk/haproxy.cfg", &first).unwrap();
        setup
            .settings(&format!(
                "[consul]\naddresses = [\"{}\"]\nwait = \"10s\"\n\
                 [haproxy]\nmode = \"master\"\nbinary = \"{}\"\nmaster_socket = \"{{dir}}master.sock\"\nmax_old_workers = 50\n\
                 [gate]\nmin_servers = {{ web = 1 }}\n\
                 [guard]\nwindow = \"5s\"\nhold = \"3s\"\nhold_last = \"10s\"\n\
                 [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\naudit_interval = \"2s\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n[status]\nsocket = \"{{dir}}status.sock\"\n\
                 [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}disk/haproxy.cfg\"\n",
                consul.url(),
                oldest().program().display(),
            ))
            .unwrap();
        let haproxy = launch(&setup, entrance);
        let gatewright = setup.run().unwrap();
        Stage {
            clients: Clients::start(entrance),
            gatewright,
            haproxy,
            instances,
            consul,
            setup,
            disk,
            entrance,
            deaths: Vec::new(),
            explained: 0,
            first: None,
        }
    }

    pub fn start_gatewright(&mut self) {
        self.gatewright = self.setup.run().unwrap();
        // Another process has another memory.
        self.first = None;
    }

    /// As an init system does; `died` is when the former one did.
    pub fn start_haproxy(&mut self, died: Instant) {
        let file = self.disk.0.join("haproxy.cfg");
        let (code, output) = check(&oldest(), &file).unwrap();
        assert_eq!(code, 0, "HAProxy cannot be started from the file: {output}");
        self.haproxy = launch(&self.setup, self.entrance);
        self.deaths.push((died, Instant::now()));
    }

    pub fn write_template(&self, text: &str) {
        let text = fill(text, &self.disk.0, self.entrance);
        self.setup.file("haproxy.cfg.hbs", &text).unwrap();
    }

    /// The process id of the worker that serves.
    pub fn worker(&self) -> Option<u32> {
        let info = self.ask("@1 show info")?;
        info.lines()
            .find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok())
    }

    fn ask(&self, command: &str) -> Option<String> {
        cli(&self.setup.directory().join("master.sock"), command).ok()
    }

    /// Address and weight of the servers that the worker sends traffic to.
    fn running(&self) -> Option<BTreeSet<(SocketAddr, u32)>> {
        let text = self.ask("@1 show servers state web")?;
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        let rows = rows.map(|line| line.split(' ').collect::<Vec<_>>());
        let serving = rows.filter(|words| {
            let admin = words.get(6).and_then(|word| word.parse::<u32>().ok());
            admin.is_some_and(|admin| admin & 0x3b == 0)
        });
        serving
            .map(|words| {
                let address = format!("{}:{}", words[4], words.get(18)?);
                Some((address.parse().ok()?, words[7].parse().ok()?))
            })
            .collect()
    }

    /// The newest set cannot be applied: the worker sends traffic to the instances of now all the same.
    pub fn servers_go_on(&self, fault: super::fault::Fault) {
        self.consul.set_node_check("elsewhere", true).unwrap();
        let wanted = self.instances.places();
        let current = wait_for(LIMIT, "the servers of now", || {
            (self.running()? == wanted).then_some(())
        });
        if let Err(error) = current {
            panic!(
                "{error} {fault:?}\nwanted {wanted:?}\nruns {:?}\nstatus {:#}",
                self.running(),
                self.setup.status().unwrap_or_default(),
            );
        }
    }

    /// Waits until all agree, and looks at what must not have grown.
    pub fn calm(&mut self, after: &str) {
        self.consul.set_node_check("elsewhere", true).unwrap();
        let wanted = self.instances.places();
        let agreed = wait_for(LIMIT, "catalog, file, worker and revision to agree", || {
            let file = self.setup.read("disk/haproxy.cfg").ok()?;
            let of_file: BTreeSet<_> = listed(&file).into_values().collect();
            let revision = haproxy::revision_of(&file)?;
            let variable = haproxy::variable_of(&file)?;
            let carried = self.ask(&format!("@1 get var {variable}"))?;
            let status = self.setup.status().ok()?;
            let same = of_file == wanted
                && self.running()? == wanted
                && carried.contains(&format!("value=<{revision}>"))
                && status["state"] == "confirmed"
                && status["applied"]["revision"] == *revision;
            same.then_some(())
        });
        if let Err(error) = agreed {
            panic!(
                "{error} After {after}.\nwanted {wanted:?}\nruns {:?}\nstatus {:#}\nfile {}\n{}",
                self.running(),
                self.setup.status().unwrap_or_default(),
                self.setup.read("disk/haproxy.cfg").unwrap_or_default(),
                self.gatewright.process().last_lines(60),
            );
        }
        self.account(after);
        self.measure(after);
    }

    /// Every failed request has its reason in a death of HAProxy that the test has caused.
    fn account(&mut self, after: &str) {
        for failure in self.clients.failures() {
            let explained = self
                .deaths
                .iter()
                .any(|(died, back)| failure.begun <= *back && failure.ended >= *died);
            assert!(
                explained,
                "after {after}: a request failed while a worker listened: {}, {:?} long, {:?} ago; deaths {:?}\n{}",
                failure.why,
                failure.ended - failure.begun,
                failure.begun.elapsed(),
                self.deaths
                    .iter()
                    .map(|(died, back)| (died.elapsed(), back.elapsed()))
                    .collect::<Vec<_>>(),
                self.gatewright.process().last_lines(60),
            );
            self.explained += 1;
        }
    }

    fn measure(&mut self, after: &str) {
        let pid = self.gatewright.process().pid();
        let (memory, _) = usage::memory(pid).unwrap();
        let open = usage::descriptors(pid).unwrap();
        let threads = usage::threads(pid).unwrap();
        let (first, first_open, first_threads) = *self.first.get_or_insert((memory, open, threads));
        assert!(
            memory < first * 1.5 + 8.0,
            "{first} MB and now {memory} MB after {after}"
        );
        assert!(
            open <= first_open + 8,
            "{first_open} descriptors and now {open} after {after}"
        );
        assert!(
            threads <= first_threads + 8,
            "{first_threads} threads and now {threads} after {after}"
        );
        wait_for(LIMIT, "no child", || {
            descendants(pid).is_empty().then_some(())
        })
        .unwrap_or_else(|error| panic!("{error} After {after}."));
        let folders = [
            self.disk.0.clone(),
            self.setup.directory().to_owned(),
            self.setup.directory().join("state"),
        ];
        let left = || -> Vec<PathBuf> {
            folders
                .iter()
                .flat_map(|folder| std::fs::read_dir(folder).unwrap())
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.to_string_lossy().contains("gatewright-"))
                .collect()
        };
        // A snapshot may just be written.
        wait_for(LIMIT, "nothing left over", || {
            left().is_empty().then_some(())
        })
        .unwrap_or_else(|error| panic!("{error} {:?} after {after}", left()));
    }

    /// Ends everything; what came of the requests.
    pub fn end(mut self) -> String {
        self.account("the end");
        let summary = format!(
            "{} answered, {} failed while no worker listened, 0 others",
            self.clients.good(),
            self.explained
        );
        assert_eq!(self.gatewright.stop(LIMIT).unwrap(), 0);
        self.haproxy.signal(Signal::SIGTERM);
        summary
    }
}

fn fill(text: &str, disk: &std::path::Path, entrance: SocketAddr) -> String {
    text.replace("@dir@", &disk.display().to_string())
        .replace("@entrance@", &entrance.to_string())
}

/// Starts HAProxy on the file that is there; it listens when this returns.
fn launch(setup: &Setup, entrance: SocketAddr) -> Process {
    let (socket, file) = (setup.path("master.sock"), setup.path("disk/haproxy.cfg"));
    let words = ["-W", "-db", "-S", &socket, "-f", &file];
    let log = setup.directory().join("haproxy.log");
    let mut haproxy =
        Process::start("HAProxy", &mut command(oldest().program(), words), &log).unwrap();
    wait_for(LIMIT, "HAProxy to listen", || {
        TcpStream::connect_timeout(&entrance, Duration::from_secs(1)).ok()
    })
    .unwrap_or_else(|error| panic!("{error} {}", haproxy.last_lines(20)));
    assert!(haproxy.is_running());
    haproxy
}
