//! What most tests have in common: instances of the service `web` in a Consul, Gatewright with its settings and a
//! template, the HAProxy that it supervises, and traffic through that.
//!
//! [`Given`] says what there is at the start, [`Scene`] is what runs. Unlike the rest of this crate both panic, with the
//! status and the log of Gatewright.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backend::Backend;
use super::cluster::Cluster;
use super::consul::{Consul, instance};
use super::gatewright::{Gatewright, Setup};
use super::haproxies::oldest;
use super::traffic::{Limits, Report, Traffic, send};
use super::{Outcome, ports, wait_for};

macro_rules! head {
    () => {
        "defaults
    mode http
    option idle-close-on-response
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
    default_backend web

backend web
"
    };
}

/// A template up to the first line of `backend web`. HAProxy listens at `@bind@`, and `@dir@` is the directory.
pub const HEAD: &str = head!();

/// The service `web`, and a key that shows in a comment.
pub const TEMPLATE: &str = concat!(
    head!(),
    r#"    # note: {{keyOrDefault "note" "none"}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
"#
);

/// A template with the entrance and the setup's directory filled in.
pub fn filled(template: &str, setup: &Setup, entrance: SocketAddr) -> String {
    template
        .replace("@bind@", &entrance.to_string())
        .replace("@dir@", setup.path("").trim_end_matches('/'))
}

/// Where instances of `web` and keys are registered.
pub trait Catalog {
    /// Registers an instance without a check.
    fn instance(&self, id: &str, address: SocketAddr);
    /// Sets a key.
    fn key(&self, key: &str, value: &str);
}

impl Catalog for Consul {
    fn instance(&self, id: &str, address: SocketAddr) {
        good(self.register_instance("web", id, address));
    }

    fn key(&self, key: &str, value: &str) {
        good(self.set_key(key, value));
    }
}

impl Catalog for Cluster {
    fn instance(&self, id: &str, address: SocketAddr) {
        let body = instance("web", id, address).to_string();
        good(self.put(0, "/v1/agent/service/register", &body));
    }

    fn key(&self, key: &str, value: &str) {
        good(self.put(0, &format!("/v1/kv/{key}"), value));
    }
}

/// What there is before Gatewright starts: [`TEMPLATE`] and settings for the oldest HAProxy under `supervise`.
pub struct Given {
    /// The directory of Gatewright.
    pub setup: Setup,
    /// Where HAProxy listens.
    pub entrance: SocketAddr,
    backends: Vec<Backend>,
    sections: BTreeMap<&'static str, String>,
    more: String,
    destination: String,
    limit: Duration,
}

impl Given {
    /// Over the Consul at a URL.
    pub fn consul(url: &str) -> Given {
        Given::addresses(&[url.to_owned()])
    }

    /// Over the Consul at several URLs.
    pub fn addresses(urls: &[String]) -> Given {
        let [port] = good(ports::free());
        let sections = [
            ("consul", format!("addresses = {urls:?}\n")),
            (
                "haproxy",
                "mode = \"supervise\"\nmaster_socket = \"{dir}/master.sock\"\n".to_owned(),
            ),
            (
                "apply",
                "reload_interval = \"200ms\"\ncompare_interval = \"1s\"\n".to_owned(),
            ),
            ("state", "directory = \"{dir}/state\"\n".to_owned()),
        ];
        let given = Given {
            setup: good(Setup::new()),
            entrance: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            backends: Vec::new(),
            sections: BTreeMap::from(sections),
            more: String::new(),
            destination: "haproxy.cfg".to_owned(),
            limit: Duration::from_secs(30),
        };
        given.template(TEMPLATE)
    }

    /// See [`Setup::env`].
    pub fn env(mut self, name: &str, value: &str) -> Given {
        self.setup = self.setup.env(name, value);
        self
    }

    /// See [`Setup::through`].
    pub fn through(mut self, words: &[String]) -> Given {
        self.setup = self.setup.through(words);
        self
    }

    /// Adds lines to a section of the settings. `{dir}` and `{entrance}` are filled in.
    pub fn set(mut self, section: &'static str, lines: &str) -> Given {
        let text = self.sections.entry(section).or_default();
        text.push_str(lines);
        text.push('\n');
        self
    }

    /// Takes a line out of a section of the settings again.
    pub fn unset(mut self, section: &'static str, key: &str) -> Given {
        let text = self.sections.entry(section).or_default();
        let kept = text.lines().filter(|line| !line.starts_with(key));
        *text = kept.map(|line| format!("{line}\n")).collect();
        self
    }

    /// Adds whole sections at the end of the settings, such as a further template.
    pub fn more(mut self, text: &str) -> Given {
        self.more.push_str(text);
        self
    }

    /// Another program as HAProxy.
    pub fn binary(self, program: &Path) -> Given {
        self.set("haproxy", &format!("binary = {program:?}"))
    }

    /// Another template; see [`filled`].
    pub fn template(self, text: &str) -> Given {
        let text = filled(text, &self.setup, self.entrance);
        good(self.setup.file("haproxy.cfg.hbs", &text));
        self
    }

    /// Another file for HAProxy, below the directory.
    pub fn destination(mut self, name: &str) -> Given {
        name.clone_into(&mut self.destination);
        self
    }

    /// How long each thing may take that is waited for: 30 s, if nothing else is said.
    pub fn limit(mut self, limit: Duration) -> Given {
        self.limit = limit;
        self
    }

    /// Starts instances that answer their ids, and registers them.
    pub fn instances(mut self, catalog: &impl Catalog, ids: &[&str]) -> Given {
        for id in ids {
            let backend = good(Backend::start(id));
            catalog.instance(id, backend.address());
            self.backends.push(backend);
        }
        self
    }

    /// Starts Gatewright.
    pub fn run(mut self) -> Scene {
        if !self.sections["haproxy"].contains("binary = ") {
            self = self.binary(oldest().program());
        }
        let mut settings: String = self
            .sections
            .iter()
            .map(|(name, lines)| format!("[{name}]\n{lines}\n"))
            .collect();
        settings.push_str(&format!(
            "[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/{}\"\n\n{}",
            self.destination, self.more
        ));
        let settings = settings.replace("{entrance}", &self.entrance.to_string());
        good(self.setup.settings(&settings));
        Scene {
            traffic: None,
            gatewright: good(self.setup.run()),
            setup: self.setup,
            backends: self.backends,
            entrance: self.entrance,
            destination: self.destination,
            limit: self.limit,
        }
    }

    /// Starts Gatewright, and traffic; see [`Scene::serve`].
    pub fn serve(self) -> Scene {
        self.run().serve()
    }
}

/// What runs. The order of the fields is the order in which they stop.
pub struct Scene {
    traffic: Option<Traffic>,
    /// The program.
    pub gatewright: Gatewright,
    /// Its directory.
    pub setup: Setup,
    backends: Vec<Backend>,
    /// Where HAProxy listens.
    pub entrance: SocketAddr,
    destination: String,
    limit: Duration,
}

impl Scene {
    /// Waits until every instance answers through HAProxy, starts traffic, and waits for the confirmation.
    pub fn serve(mut self) -> Scene {
        let count = self.backends.len();
        self.wait("the first answers of all instances", || {
            (send(self.entrance, 2 * count as u64).answers.len() == count).then_some(())
        });
        self.load();
        self.confirmed("the first configuration", |status| {
            status["applied"]["confirmed"] == true
        });
        self
    }

    /// Starts traffic.
    pub fn load(&mut self) {
        let limits = Limits {
            clients: 2,
            pause: Duration::from_millis(5),
            requests: 50_000,
            time: Duration::from_secs(150),
        };
        self.traffic = Some(Traffic::start(self.entrance, limits));
    }

    /// Writes another template; see [`filled`].
    pub fn template(&self, text: &str) {
        let text = filled(text, &self.setup, self.entrance);
        good(self.setup.file("haproxy.cfg.hbs", &text));
    }

    /// The text that HAProxy reads.
    pub fn file(&self) -> String {
        self.setup.read(&self.destination).unwrap_or_default()
    }

    /// Waits for whatever the test looks for.
    pub fn wait<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(self.limit, what, probe).unwrap_or_else(|error| self.fail(&error))
    }

    /// Waits until the status is so, and gives it.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, || self.setup.status().ok().filter(&holds))
    }

    /// Waits until the status is `confirmed` and so, and gives it.
    pub fn confirmed(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.until(what, |status| {
            status["state"] == "confirmed" && holds(status)
        })
    }

    /// Waits until a line of the log has all these words, and gives it.
    pub fn logged(&self, words: &[&str]) -> String {
        let line = self.gatewright.wait_for_log(self.limit, words);
        line.unwrap_or_else(|error| self.fail(&error))
    }

    /// Starts an instance that is not registered.
    pub fn backend(&mut self, id: &str) -> SocketAddr {
        let backend = good(Backend::start(id));
        let address = backend.address();
        self.backends.push(backend);
        address
    }

    /// A new instance is registered. Gives how long it takes until it serves.
    pub fn serves_another(&mut self, catalog: &impl Catalog, id: &str) -> Duration {
        let address = self.backend(id);
        let began = Instant::now();
        catalog.instance(id, address);
        self.serves(id);
        began.elapsed()
    }

    /// Waits until an instance answers a request of the traffic.
    pub fn serves(&self, id: &str) {
        self.wait(&format!("an answer of {id}"), || {
            self.look(|report| report.answers.contains_key(id).then_some(()))
        });
    }

    /// No request has failed so far, and every one of these still serves.
    pub fn all_serve(&self, ids: &[&str]) {
        if let Some(traffic) = &self.traffic {
            self.assert_no_failure(&traffic.take());
        }
        ids.iter().for_each(|id| self.serves(id));
    }

    /// What the traffic counted since its start or the last [`Scene::all_serve`].
    pub fn look<T>(&self, at: impl FnOnce(&Report) -> Option<T>) -> Option<T> {
        self.traffic.as_ref().and_then(|traffic| traffic.look(at))
    }

    /// A new note reaches the file and the worker. Gives how long that takes.
    pub fn goes_on(&self, catalog: &impl Catalog, note: &str) -> Duration {
        let began = Instant::now();
        catalog.key("note", note);
        self.follows(note);
        began.elapsed()
    }

    /// Waits until the note is in the file and in the worker, and no query fails.
    pub fn follows(&self, note: &str) {
        let line = format!("# note: {note}\n");
        self.confirmed(&line, |status| {
            let queries = status["queries"].as_array();
            self.file().contains(&line)
                && status["applied"]["confirmed"] == true
                && status["haproxy"]["reachable"] == true
                && queries.is_some_and(|all| all.iter().all(|query| query["error"].is_null()))
        });
    }

    /// Ends the traffic, of which nothing failed, and Gatewright, which ends well.
    pub fn end(mut self) -> Report {
        let report = self.traffic.take().map(Traffic::stop).unwrap_or_default();
        self.assert_no_failure(&report);
        assert!(report.ok() > 0, "nothing was answered");
        assert_eq!(good(self.gatewright.stop(self.limit)), 0);
        report
    }

    fn assert_no_failure(&self, report: &Report) {
        if report.failed > 0 {
            self.fail(&format!(
                "{} requests failed: {:?}.",
                report.failed, report.errors
            ));
        }
    }

    /// Panics with this sentence and with all that there is to know.
    pub fn fail(&self, error: &str) -> ! {
        let status = self.setup.status();
        panic!("{error}\nstatus {status:?}\n{}", self.gatewright.log())
    }
}

fn good<T>(outcome: Outcome<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}
