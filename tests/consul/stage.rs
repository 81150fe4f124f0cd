//! One Gatewright, its HAProxy and traffic, with a fault proxy between it and a real Consul.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::backend::Backend;
use support::consul::Consul;
use support::fault_proxy::FaultProxy;
use support::gatewright::{Gatewright, Setup};
use support::traffic::{Limits, Traffic, send};
use support::usual::{TEMPLATE, Usual, filled};
use support::{ports, wait_for};

pub const LIMIT: Duration = Duration::from_secs(40);
/// Given to Gatewright as its token; it may go to Consul and nowhere else.
pub const CANARY: &str = "c0ffee00-feed-4bad-8bad-canarytoken0";

/// What differs from the usual stage.
#[derive(Default)]
pub struct Differs<'a> {
    /// Lines of the section `[consul]`; with addresses of their own or those of the proxy.
    pub consul: &'a str,
    /// Lines of the template.
    pub template: &'a str,
    /// Addresses instead of the proxy's.
    pub addresses: Option<Vec<String>>,
    /// Variables of Gatewright's environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// Words in front of Gatewright's command line.
    pub through: &'a [String],
    /// Done once Gatewright has been started and before anything is expected of it.
    pub meanwhile: Option<&'a dyn Fn(&Gatewright)>,
    /// Prepares what the template reads, once the instances are there.
    pub prepare: Option<&'a dyn Fn()>,
}

pub struct Stage {
    pub traffic: Traffic,
    pub gatewright: Gatewright,
    pub setup: Setup,
    backends: Vec<Backend>,
}

/// Where instances are registered: the fake needs no more of a Consul than this.
pub trait Catalog {
    fn instance(&self, id: &str, address: SocketAddr);
    fn key(&self, key: &str, value: &str);
}

impl Catalog for Consul {
    fn instance(&self, id: &str, address: SocketAddr) {
        self.register_instance("web", id, address).unwrap();
    }

    fn key(&self, key: &str, value: &str) {
        self.set_key(key, value).unwrap();
    }
}

impl Stage {
    pub fn start(catalog: &impl Catalog, proxy: &FaultProxy, differs: &Differs<'_>) -> Stage {
        let mut backends = Vec::new();
        for id in ["one", "two"] {
            let backend = Backend::start(id).unwrap();
            catalog.instance(id, backend.address());
            backends.push(backend);
        }
        catalog.key("note", "none");
        if let Some(prepare) = differs.prepare {
            prepare();
        }
        let mut setup = Setup::new().unwrap().through(differs.through);
        for (name, value) in differs.environment {
            setup = setup.env(name, value);
        }
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let note = "\"none\"}}\n";
        let text = TEMPLATE.replace(note, &format!("{note}{}\n", differs.template));
        let text = filled(&text, &setup, entrance);
        setup.file("haproxy.cfg.hbs", &text).unwrap();
        setup.file("token", &format!("{CANARY}\n")).unwrap();
        let addresses = differs
            .addresses
            .clone()
            .unwrap_or_else(|| vec![proxy.url()]);
        Usual {
            consul: &format!("wait = \"1s\"\n{}\n", differs.consul),
            ..Usual::of(&addresses)
        }
        .write(&setup)
        .unwrap();
        let gatewright = setup.run().unwrap();
        if let Some(meanwhile) = differs.meanwhile {
            meanwhile(&gatewright);
        }
        wait_for(LIMIT, "the first answers of both", || {
            let report = send(entrance, 4);
            (report.answers.len() == 2).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
        let traffic = Traffic::start(
            entrance,
            Limits {
                clients: 1,
                pause: Duration::from_millis(10),
                requests: 50_000,
                time: Duration::from_secs(150),
            },
        );
        let stage = Stage {
            traffic,
            gatewright,
            setup,
            backends,
        };
        stage.until("the first configuration", |status| {
            status["state"] == "confirmed"
        });
        stage
    }

    pub fn file(&self) -> String {
        self.setup.read("haproxy.cfg").unwrap()
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.setup
            .wait_for_status(LIMIT, what, |status| holds(status).then(|| status.clone()))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.gatewright.log()))
    }

    /// Waits until every query fails, for a reason with these words.
    pub fn all_fail(&self, words: &str) {
        self.until(words, |status| {
            let queries = status["queries"].as_array();
            queries.is_some_and(|queries| {
                queries
                    .iter()
                    .all(|query| query["error"].as_str().is_some_and(|e| e.contains(words)))
            })
        });
    }

    /// A new key reaches the file and the worker; how long that took.
    pub fn goes_on(&self, catalog: &impl Catalog, note: &str) -> Duration {
        let began = Instant::now();
        catalog.key("note", note);
        self.follows(note);
        began.elapsed()
    }

    /// Waits until the note is in the file and in the worker, and no query fails.
    pub fn follows(&self, note: &str) {
        let line = format!("# note: {note}\n");
        wait_for(LIMIT, &line, || self.file().contains(&line).then_some(()))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.gatewright.log()));
        self.until("everything as it should be", |status| {
            let queries = status["queries"].as_array();
            status["state"] == "confirmed"
                && queries.is_some_and(|all| all.iter().all(|query| query["error"].is_null()))
        });
    }

    /// A new instance is registered; how long it took until it served.
    pub fn serves_another(&mut self, catalog: &impl Catalog, id: &str) -> Duration {
        let backend = Backend::start(id).unwrap();
        let began = Instant::now();
        catalog.instance(id, backend.address());
        self.backends.push(backend);
        self.waits_for(id);
        began.elapsed()
    }

    /// Waits until an instance serves.
    pub fn waits_for(&self, id: &str) {
        wait_for(LIMIT, &format!("an answer of {id}"), || {
            self.traffic
                .look(|report| report.answers.contains_key(id))
                .then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.gatewright.log()));
    }

    /// An instance that nobody has registered yet.
    pub fn backend(&mut self, id: &str) -> SocketAddr {
        let backend = Backend::start(id).unwrap();
        let address = backend.address();
        self.backends.push(backend);
        address
    }

    /// No request has failed so far, and every one of these still serves.
    pub fn all_serve(&self, ids: &[&str]) {
        let report = self.traffic.take();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        for id in ids {
            self.waits_for(id);
        }
    }

    /// Ends it: nothing failed all the time, and the token is nowhere.
    pub fn end(mut self) {
        let (file, log) = (self.file(), self.gatewright.log());
        assert!(!log.contains(CANARY), "{log}");
        assert!(!file.contains(CANARY));
        let report = self.traffic.stop();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        assert!(report.ok() > 0);
        assert_eq!(self.gatewright.stop(LIMIT).unwrap(), 0);
    }
}
