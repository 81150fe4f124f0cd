//! One real HAProxy of one version, supervised by the real program over a Consul, and what they say of
//! themselves. Asserts only what every test of this folder means: converged, and not reloaded.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::LIMIT;
use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::Version;
use support::haproxy::{self, ServerState, cli};
use support::{ports, wait_for};

/// What stands above the frontends of most templates here. Without the last line of `global` HAProxy reads the
/// system's 140 certificate authorities at each start and each `-c`, which is most of the time these take (2.6 to 3.2).
pub const HEAD: &str = "global
    stats socket @dir@stats.sock mode 600 level admin
    fd-hard-limit 2000
    hard-stop-after 20s
    httpclient.ssl.verify none

defaults
    mode http
    option idle-close-on-response
    timeout connect 5s
    timeout client 60s
    timeout server 60s

frontend in
    bind @entrance@
    default_backend web
";

/// The order of the fields is the order in which they are stopped.
pub struct Gateway<'a> {
    gatewright: Option<Gatewright>,
    pub setup: Setup,
    pub consul: &'a Consul,
    pub version: Version,
    /// The one service; each gateway over the same Consul has its own.
    pub service: String,
    /// Where HAProxy's first frontend listens.
    pub entrance: SocketAddr,
    /// A second address.
    pub second: SocketAddr,
}

/// Which worker it was, and how often it was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub worker: u32,
    pub reloads: Value,
}

impl<'a> Gateway<'a> {
    /// The template and the settings. In the template `@dir@`, `@entrance@`, `@second@`, `@port@` and
    /// `@service@` are filled in; `haproxy` is put into the section of that name and `more` at the end.
    /// Nothing runs yet.
    pub fn new(
        consul: &'a Consul,
        version: &Version,
        template: &str,
        haproxy: &str,
        more: &str,
    ) -> Gateway<'a> {
        let [one, two] = ports::free().unwrap();
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let gateway = Gateway {
            gatewright: None,
            setup: Setup::new().unwrap().env("CONSUL_HTTP_ADDR", &consul.url()),
            consul,
            version: version.clone(),
            service: "web".to_owned(),
            entrance: at(one),
            second: at(two),
        };
        gateway
            .setup
            .script(
                "haproxy",
                &format!("#!/bin/sh\nexec {} \"$@\"\n", version.program().display()),
            )
            .unwrap();
        gateway.write_template(template);
        gateway
            .setup
            .settings(&format!(
                "[haproxy]\nbinary = \"{{dir}}haproxy\"\nmode = \"supervise\"\nmaster_socket = \"{{dir}}master.sock\"\n{haproxy}\n\
                 [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\naudit_interval = \"1s\"\n\
                 [guard]\nenabled = false\n\
                 [state]\ndirectory = \"{{dir}}state\"\n[status]\nsocket = \"{{dir}}status.sock\"\n\
                 [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n{more}"
            ))
            .unwrap();
        gateway
    }

    /// Adds to the settings, before the start.
    pub fn add_settings(&self, more: &str) {
        let settings = self.setup.read("gatewright.toml").unwrap();
        self.setup.settings(&format!("{settings}{more}")).unwrap();
    }

    pub fn write_template(&self, template: &str) {
        let text = template
            .replace("@dir@", &self.setup.path(""))
            .replace("@entrance@", &self.entrance.to_string())
            .replace("@second@", &self.second.to_string())
            .replace("@port@", &self.second.port().to_string())
            .replace("@service@", &self.service);
        self.setup.file("haproxy.cfg.hbs", &text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.directory().join(name)
    }

    /// Starts an instance, without registering it.
    pub fn instance(&self, name: &str) -> Backend {
        Backend::start(&format!("{}-{name}", self.service)).unwrap()
    }

    pub fn register(&self, name: &str, address: SocketAddr, weight: u16) {
        self.consul
            .register(&json!({
                "Name": self.service, "ID": format!("{}-{name}", self.service),
                "Address": address.ip().to_string(), "Port": address.port(),
                "Weights": {"Passing": weight, "Warning": 1},
            }))
            .unwrap();
    }

    pub fn deregister(&self, name: &str) {
        let id = format!("{}-{name}", self.service);
        self.consul.deregister(&id).unwrap();
    }

    /// Starts Gatewright once Consul has so many instances, and waits until these serve.
    pub fn start(&mut self, addresses: &[SocketAddr]) -> Mark {
        let what = format!("Consul to have {addresses:?}");
        wait_for(LIMIT, &what, || {
            (self.consul.passing(&self.service).ok()?.len() == addresses.len()).then_some(())
        })
        .unwrap();
        self.run();
        self.converge(addresses);
        self.mark()
    }

    /// Starts Gatewright.
    pub fn run(&mut self) {
        self.gatewright = Some(self.setup.run().unwrap());
    }

    /// Gatewright's process id.
    pub fn pid(&mut self) -> u32 {
        self.gatewright
            .as_mut()
            .map_or(0, |running| running.process().pid())
    }

    pub fn status(&self) -> Option<Value> {
        self.setup.status_at("status.sock")
    }

    pub fn worker(&self) -> Option<u32> {
        haproxy::worker(&self.path("stats.sock"))
    }

    pub fn mark(&self) -> Mark {
        wait_for(LIMIT, "a status", || {
            Some(Mark {
                worker: self.worker()?,
                reloads: self.status()?["haproxy"]["reloads"].clone(),
            })
        })
        .unwrap_or_else(|error| self.fail(&error))
    }

    pub fn assert_not_reloaded(&self, before: &Mark) {
        let now = self.mark();
        if now != *before {
            self.fail(&format!("Was {before:?} and is {now:?}."));
        }
    }

    /// A command of somebody else's to the worker.
    pub fn by_hand(&self, command: &str) -> String {
        cli(&self.path("stats.sock"), command).unwrap()
    }

    /// Every server of the worker.
    pub fn servers(&self) -> Vec<ServerState> {
        haproxy::servers(&self.path("stats.sock")).unwrap_or_default()
    }

    /// The server at an address in a backend, whatever its state.
    pub fn server(&self, backend: &str, address: SocketAddr) -> Option<ServerState> {
        self.servers()
            .into_iter()
            .find(|server| server.backend == backend && server.address == address)
    }

    /// The text of the file that HAProxy reads.
    pub fn file(&self) -> String {
        self.setup.read("haproxy.cfg").unwrap_or_default()
    }

    /// Backend, name, address and weight of every server line that is not `disabled`.
    pub fn listed(&self) -> BTreeMap<(String, String), (SocketAddr, u32)> {
        listed(&self.file())
    }

    /// The same of the servers of the worker that take traffic.
    pub fn serving(&self) -> BTreeMap<(String, String), (SocketAddr, u32)> {
        let serving = self
            .servers()
            .into_iter()
            .filter(|server| server.admin == 0);
        serving
            .map(|server| {
                (
                    (server.backend, server.name),
                    (server.address, server.weight),
                )
            })
            .collect()
    }

    /// The revision that the file carries, once the worker carries it too and the status says that it
    /// is confirmed.
    pub fn confirmed(&self) -> Option<String> {
        let written = haproxy::revision_of(&self.file())?;
        (haproxy::revision(&self.path("stats.sock"), &self.file())? == written).then_some(())?;
        let status = self.status()?;
        let good = status["state"] == "confirmed"
            && status["applied"]["revision"] == *written
            && status["haproxy"]["running"] == *written;
        good.then_some(written)
    }

    /// Waits until the file has exactly these addresses in the backend `web`, the worker serves what
    /// the file has, and both carry the same revision.
    pub fn converge(&self, addresses: &[SocketAddr]) {
        let mut wanted = addresses.to_vec();
        wanted.sort();
        let what = format!("{} to serve {wanted:?}", self.version);
        wait_for(LIMIT, &what, || {
            let listed = self.listed();
            let of_web = listed.iter().filter(|((backend, _), _)| backend == "web");
            let mut of_web: Vec<SocketAddr> = of_web.map(|(_, (address, _))| *address).collect();
            of_web.sort();
            (of_web == wanted && self.serving() == listed).then_some(())?;
            self.confirmed()
        })
        .unwrap_or_else(|error| self.fail(&error));
    }

    /// Waits until a list of the status in `haproxy` has an entry with these words.
    pub fn wait_for_entry(&self, list: &str, words: &str) {
        self.wait_for_list(list, &format!("`{words}`"), |entries| {
            entries
                .iter()
                .any(|entry| entry.as_str().is_some_and(|text| text.contains(words)))
        });
    }

    /// Waits until a list of the status in `haproxy` is empty.
    pub fn wait_for_none(&self, list: &str) {
        self.wait_for_list(list, "nothing", |entries| entries.is_empty());
    }

    fn wait_for_list(&self, list: &str, what: &str, probe: impl Fn(&[Value]) -> bool) {
        wait_for(LIMIT, &format!("{what} in {list}"), || {
            probe(self.status()?["haproxy"][list].as_array()?).then_some(())
        })
        .unwrap_or_else(|error| self.fail(&error));
    }

    /// Waits for whatever the test looks for.
    pub fn wait<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(LIMIT, what, probe).unwrap_or_else(|error| self.fail(&error))
    }

    pub fn log(&self) -> String {
        self.setup.read("gatewright.log").unwrap_or_default()
    }

    pub fn fail(&self, error: &str) -> ! {
        let log = self.log();
        // HAProxy's own lines go there, too.
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.starts_with(['{', 'e']))
            .collect();
        panic!(
            "{} {error}\nfile {:#?}\nworker {:?} {:#?}\nstatus {:#}\n{}",
            self.version,
            self.listed(),
            self.worker(),
            self.servers(),
            self.status().unwrap_or_default(),
            lines[lines.len().saturating_sub(80)..].join("\n"),
        )
    }
}

/// Backend, name, address and weight of every server line of a file that is not `disabled`.
pub fn listed(file: &str) -> BTreeMap<(String, String), (SocketAddr, u32)> {
    let mut found = BTreeMap::new();
    let mut backend = "";
    for line in file.lines() {
        if let Some(name) = line.strip_prefix("backend ") {
            backend = name;
        }
        let Some(server) = line.trim().strip_prefix("server ") else {
            continue;
        };
        let words: Vec<&str> = server.split(' ').collect();
        if words.contains(&"disabled") {
            continue;
        }
        let weight = words.iter().position(|word| *word == "weight");
        let weight = weight.map_or(1, |index| words[index + 1].parse().unwrap());
        let address = words[1].parse().unwrap();
        found.insert((backend.to_owned(), words[0].to_owned()), (address, weight));
    }
    found
}
