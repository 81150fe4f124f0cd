//! Gatewright with the HAProxy that it supervises, by a template with a backend for each service or by
//! `run --routes`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::registry::{Registry, host, name};
use crate::options::Way;
use crate::subject::{Subject, end_of, free_address, log_of, revision};
use support::gatewright::{Gatewright, Setup};
use support::{Outcome, haproxy, tools, wait_for};

/// How long the first set may take before the measurement is given up.
const FIRST: Duration = Duration::from_secs(150);

/// A running sidecar.
pub struct Sidecar {
    gatewright: Gatewright,
    setup: Setup,
    entrance: SocketAddr,
    stats: PathBuf,
    file: PathBuf,
    /// The backend of each host.
    backends: BTreeMap<String, String>,
}

impl Sidecar {
    /// Starts Gatewright. HAProxy runs nothing yet.
    pub fn start(
        registry: &Registry,
        version: &str,
        way: Way,
        check_interval: Duration,
    ) -> Outcome<Sidecar> {
        let entrance = free_address()?;
        let mut setup = Setup::new()?;
        let folder = setup.directory().join("state");
        let (stats, file) = match way {
            Way::Template => (
                setup.directory().join("stats.sock"),
                setup.directory().join("haproxy.cfg"),
            ),
            Way::Routes => (folder.join("stats.sock"), folder.join("haproxy.cfg")),
        };
        // One of three instances is more than the guard lets go at once by default.
        let mut settings = format!(
            "[consul]\naddresses = [\"{consul}\"]\n\
             [haproxy]\nmode = \"supervise\"\nmaster_socket = \"{{dir}}master.sock\"\nbinary = \"{binary}\"\n\
             [guard]\nmax_loss = \"100%\"\noverall_max_loss = \"100%\"\n\
             [state]\ndirectory = \"{{dir}}state\"\n\
             [status]\nsocket = \"{{dir}}gatewright.sock\"\n",
            consul = registry.consul().url(),
            binary = tools::haproxy(version)?.display(),
        );
        match way {
            Way::Template => {
                setup.file("scale.cfg.hbs", include_str!("../scale.cfg.hbs"))?;
                let names: Vec<String> = (0..registry.count()).map(name).collect();
                settings.push_str(&format!(
                    "[[template]]\nsource = \"{{dir}}scale.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n\
                     [parameters]\nservices = {names:?}\nlisten = \"{entrance}\"\nstats_socket = \"{}\"\n",
                    stats.display(),
                ));
            }
            Way::Routes => {
                setup = setup
                    .argument("--routes")
                    .argument("--listen")
                    .argument(&entrance.to_string());
                let interval = check_interval.as_millis();
                settings.push_str(&format!(
                    "[parameters]\ncheck_interval = \"{interval}ms\"\n"
                ));
            }
        }
        setup.settings(&settings)?;
        let gatewright = setup.run()?;
        Ok(Sidecar {
            gatewright,
            setup,
            entrance,
            stats,
            file,
            backends: BTreeMap::new(),
        })
    }

    /// Waits until HAProxy runs all servers and carries a revision. `began` is when Gatewright started.
    pub fn first_set(
        &mut self,
        registry: &Registry,
        way: Way,
        began: Instant,
    ) -> Outcome<Duration> {
        let servers = registry.expected().len();
        let mut first = None;
        let mut found = 0;
        let outcome = wait_for(FIRST, "HAProxy to run all servers", || {
            if let Some(why) = self.ended() {
                return Some(Err(why));
            }
            revision(&self.stats, &self.file)?;
            let at = began.elapsed();
            found = running(&self.stats)?.len();
            (found == servers).then(|| {
                first = Some(at);
                Ok(())
            })
        });
        match outcome {
            Ok(outcome) => outcome?,
            Err(error) => {
                return Err(format!(
                    "{error} It runs {found} of {servers}. {}",
                    self.log()
                ));
            }
        }
        self.backends = match way {
            Way::Template => (0..registry.count())
                .map(|service| (host(service), name(service)))
                .collect(),
            Way::Routes => self
                .setup
                .read("state/http.map")?
                .lines()
                .filter_map(|line| line.split_once("/ "))
                .filter_map(|(key, backend)| Some((key.split_once(':')?.1, backend)))
                .map(|(host, backend)| (host.to_owned(), backend.to_owned()))
                .collect(),
        };
        first.ok_or_else(|| "The first set has no time.".to_owned())
    }

    /// Gatewright's process id.
    pub fn pid(&mut self) -> u32 {
        self.gatewright.process().pid()
    }

    /// How many requests Gatewright says that it sent to Consul.
    pub fn requests(&self) -> Outcome<u64> {
        let status = self.setup.status()?;
        let requests = status["consul"]["requests"].as_u64();
        requests.ok_or_else(|| "The status has no number of requests.".to_owned())
    }

    /// The backend of a service.
    pub fn backend(&self, service: usize) -> Outcome<&str> {
        let host = host(service);
        let backend = self.backends.get(&host).map(String::as_str);
        backend.ok_or_else(|| format!("No backend serves {host}."))
    }
}

/// The addresses of all servers that HAProxy runs, without those in maintenance.
pub fn running(stats: &Path) -> Option<Vec<SocketAddr>> {
    let servers = haproxy::servers(stats).ok()?;
    let active = servers.into_iter().filter(|server| server.admin == 0);
    Some(active.map(|server| server.address).collect())
}

impl Subject for Sidecar {
    fn name(&self) -> &str {
        "gatewright"
    }

    fn entrance(&self) -> SocketAddr {
        self.entrance
    }

    /// The first service: the floor moves a server of it.
    fn service(&self) -> &str {
        let first = self.backends.values().next();
        first.map_or("", String::as_str)
    }

    fn stats(&self) -> Option<&Path> {
        Some(&self.stats)
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.file.clone())
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
        // Graceful, so that HAProxy ends with it; else everything is killed.
        let _ = self.gatewright.stop(Duration::from_secs(15));
    }
}
