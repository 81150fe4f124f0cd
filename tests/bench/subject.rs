//! What is measured: something that sends traffic to the instances which Consul names. Gatewright
//! with its HAProxy is here; the same change by hand is in `hand`, others in `peers`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatewright::haproxy::config::Config;

use super::catalog::{Catalog, Place};
use support::gatewright::{Gatewright, Setup};
use support::haproxies::Version;
use support::haproxy::{HAProxy, cli};
use support::{Outcome, http, ports, tools, wait_for};

/// How long anything may take to be there.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Something that is measured. When dropped it is stopped.
pub trait Subject {
    /// Its name in the table.
    fn name(&self) -> &str;
    /// Where its traffic enters.
    fn entrance(&self) -> SocketAddr;
    /// The path that leads to its service.
    fn path(&self) -> String {
        "/".to_owned()
    }
    /// The service whose instances it follows.
    fn service(&self) -> &str;
    /// The stats socket of its HAProxy, if it has one.
    fn stats(&self) -> Option<&Path>;
    /// The configuration file of its HAProxy, if it has one.
    fn file(&self) -> Option<PathBuf> {
        None
    }
    /// The end of its log, when it has one.
    fn log(&mut self) -> String {
        String::new()
    }
    /// Why it ended, if it did.
    fn ended(&mut self) -> Option<String>;
}

/// How Gatewright tells HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Gatewright starts HAProxy.
    Supervise,
    /// HAProxy runs already and is reached by its master socket.
    Master,
}

/// Gatewright, as a user would run it, with a HAProxy.
pub struct Sidecar {
    gatewright: Gatewright,
    // Kept for its end.
    _haproxy: Option<HAProxy>,
    setup: Setup,
    service: String,
    entrance: SocketAddr,
    stats: PathBuf,
    first: Duration,
}

impl Sidecar {
    /// Starts it for `service` and the services of `size` other servers, and waits until HAProxy runs
    /// its first set.
    pub fn start(
        catalog: &Catalog,
        version: &str,
        mode: Mode,
        service: &str,
        size: usize,
    ) -> Outcome<Sidecar> {
        let setup = Setup::new()?;
        let entrance = free_address()?;
        let stats = setup.directory().join("stats.sock");
        let template = include_str!("haproxy.cfg.hbs");
        setup.file("haproxy.cfg.hbs", template)?;
        let (haproxy, telling) = match mode {
            Mode::Supervise => (
                None,
                "mode = \"supervise\"\nmaster_socket = \"{dir}master.sock\"".to_owned(),
            ),
            Mode::Master => {
                // Without a stats socket HAProxy 2.6 hands no listening sockets over at its first
                // reload, which then takes two seconds (by experiment).
                let start = format!(
                    "global\n    stats socket {} mode 600 level admin\ndefaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    timeout connect 5s\nfrontend http.in\n    bind {entrance}\n",
                    stats.display()
                );
                let haproxy = HAProxy::start(&Version::known(version)?, &start)?;
                let socket = haproxy.master_socket().display().to_string();
                (
                    Some(haproxy),
                    format!("mode = \"master\"\nmaster_socket = \"{socket}\""),
                )
            }
        };
        let destination = haproxy
            .as_ref()
            .map_or_else(|| setup.directory().join("haproxy.cfg"), HAProxy::config);
        let mut names = vec![service.to_owned()];
        names.extend(Catalog::other_names(size));
        setup.settings(&format!(
            r#"[consul]
addresses = ["{consul}"]

[haproxy]
{telling}
binary = "{binary}"
stats_socket = "{stats}"

[guard]
max_loss = "100%"
overall_max_loss = "100%"

[state]
directory = "{{dir}}state"

[status]
socket = "{{dir}}gatewright.sock"

[[template]]
source = "{{dir}}haproxy.cfg.hbs"
destination = "{destination}"

[parameters]
service = "{service}"
services = {names:?}
listen = "{entrance}"
stats_socket = "{stats}"
"#,
            consul = catalog.consul().url(),
            binary = tools::haproxy(version)?.display(),
            stats = stats.display(),
            destination = destination.display(),
        ))?;
        let began = Instant::now();
        let mut gatewright = setup.run()?;
        wait_for(LIMIT, "HAProxy to run Gatewright's first set", || {
            if !gatewright.process().is_running() {
                return Some(Err("Gatewright ended at its start."));
            }
            revision(&stats, &destination).map(|_| Ok(()))
        })
        .and_then(|outcome| outcome.map_err(str::to_owned))
        .map_err(|error| {
            let log = gatewright.process().last_lines(10);
            format!("{error} Its log ends:\n{log}")
        })?;
        Ok(Sidecar {
            first: began.elapsed(),
            gatewright,
            _haproxy: haproxy,
            setup,
            service: service.to_owned(),
            entrance,
            stats,
        })
    }

    /// From its start until the worker carried its first revision.
    pub fn first(&self) -> Duration {
        self.first
    }

    /// Gatewright's process id.
    pub fn pid(&mut self) -> u32 {
        self.gatewright.process().pid()
    }
}

impl Subject for Sidecar {
    fn name(&self) -> &str {
        "gatewright"
    }

    fn entrance(&self) -> SocketAddr {
        self.entrance
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn stats(&self) -> Option<&Path> {
        Some(&self.stats)
    }

    fn file(&self) -> Option<PathBuf> {
        let own = self._haproxy.as_ref().map(HAProxy::config);
        Some(own.unwrap_or_else(|| self.setup.directory().join("haproxy.cfg")))
    }

    fn log(&mut self) -> String {
        log_of(&mut self.gatewright)
    }

    fn ended(&mut self) -> Option<String> {
        end_of(&mut self.gatewright)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Graceful, so that a supervised HAProxy ends with it; else everything is killed.
        let _ = self.gatewright.stop(Duration::from_secs(15));
    }
}

/// The end of Gatewright's log.
pub fn log_of(gatewright: &mut Gatewright) -> String {
    let log = gatewright.process().last_lines(10);
    format!("Its log ends:\n{log}")
}

/// Why Gatewright ended, if it did.
pub fn end_of(gatewright: &mut Gatewright) -> Option<String> {
    let running = gatewright.process().is_running();
    (!running).then(|| format!("Gatewright ended. {}", log_of(gatewright)))
}

/// A loopback address that nobody listens on at this moment.
pub fn free_address() -> Outcome<SocketAddr> {
    let [port] = ports::free()?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Waits until the entrance answers by 200.
pub fn wait_until_served(subject: &mut dyn Subject) -> Outcome<()> {
    let what = format!("{} to serve", subject.name());
    wait_for(LIMIT, &what, || {
        if let Some(why) = subject.ended() {
            return Some(Err(why));
        }
        let answer = http::get(subject.entrance(), &subject.path()).ok()?;
        (answer.status == 200).then_some(Ok(()))
    })?
}

/// The process id of the worker that answers on a stats socket.
pub fn worker(stats: &Path) -> Option<u32> {
    let info = cli(stats, "show info").ok()?;
    info.lines()
        .find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok())
}

/// The servers of a backend that HAProxy runs, without those in maintenance.
pub fn running(stats: &Path, backend: &str) -> Option<BTreeSet<Place>> {
    let state = cli(stats, &format!("show servers state {backend}")).ok()?;
    let mut places = BTreeSet::new();
    for line in state.lines().skip(1).filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        // Columns of format 1 (HAProxy 2.6 management manual 9.3 "show servers state").
        let [address, admin, weight, port] = [4, 6, 7, 18].map(|at| words.get(at).copied());
        let (Some(address), Some(admin), Some(weight), Some(port)) = (address, admin, weight, port)
        else {
            continue;
        };
        // 0x40 is no maintenance: the name was set at run time.
        if admin.parse::<u32>().ok()? & 0x3f == 0 {
            let address = format!("{address}:{port}").parse().ok()?;
            places.insert((address, weight.parse().ok()?));
        }
    }
    Some(places)
}

/// The servers of a backend as its configuration file has them.
pub fn written(file: &Path, backend: &str) -> Option<BTreeSet<Place>> {
    let text = std::fs::read_to_string(file).ok()?;
    let backends = Config::parse(&text).backends();
    let found = backends.iter().find(|found| found.name == backend)?;
    let place = |server: &gatewright::haproxy::config::Server| {
        let port = server.port.as_deref()?;
        let keyword = |wanted: &str| server.keywords.iter().find(|words| words[0] == wanted);
        let weight = keyword("weight").and_then(|words| words.get(1)?.parse().ok());
        let address = format!("{}:{port}", server.address).parse().ok()?;
        Some((address, weight.unwrap_or(1)))
    };
    found
        .servers
        .iter()
        .filter(|server| !server.disabled)
        .map(place)
        .collect()
}

/// The revision of this file's set that the worker carries.
pub fn revision(stats: &Path, destination: &Path) -> Option<String> {
    let config = std::fs::read_to_string(destination).ok()?;
    support::haproxy::revision(stats, &config)
}
