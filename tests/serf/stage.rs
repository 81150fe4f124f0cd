//! One Gatewright with its own HAProxy over gateways, each an HTTP server with a Serf agent beside it, and an agent of
//! the balancer's own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use support::backend::Backend;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::oldest;
use support::haproxy::{ServerState, cli, servers};
use support::network::Network;
use support::serf::Agent;
use support::traffic::{Limits, Traffic, send};
use support::{ports, wait_for};

/// Gossip may lose a change, and two agents that compare all they know, each 15 s, may be two others.
pub const LIMIT: Duration = Duration::from_secs(120);
/// HAProxy asks each server this often, and takes it out when two answers in a row are missing.
pub const CHECK: Duration = Duration::from_millis(300);

/// Backends, agents, Gatewright and HAProxy. Traffic runs from the first confirmation to [`Stage::quiet`].
pub struct Stage {
    traffic: Option<Traffic>,
    _gatewright: Gatewright,
    pub setup: Setup,
    pub gateways: Vec<Gateway>,
    pub balancer: Agent,
}

/// A member of the service.
pub struct Gateway {
    pub backend: Option<Backend>,
    pub address: SocketAddr,
    pub agent: Agent,
}

impl Gateway {
    /// Starts `gw…` and its agent, which joins the cluster with the usual tags and these.
    pub fn start(name: &str, balancer: &Agent, tags: &[(&str, &str)]) -> Gateway {
        Gateway::start_on(&Network::default(), name, balancer, tags)
    }

    /// As [`Gateway::start`], on a network that can be cut.
    pub fn start_on(
        network: &Network,
        name: &str,
        balancer: &Agent,
        tags: &[(&str, &str)],
    ) -> Gateway {
        let backend = Backend::start(name).unwrap();
        let address = backend.address();
        let port = address.port().to_string();
        let usual = [("role", "airavata-api"), ("port", &port), ("tags", "prod")];
        let tags: Vec<(&str, &str)> = usual.iter().chain(tags).copied().collect();
        Gateway {
            backend: Some(backend),
            address,
            agent: Agent::start_on(network, name, &tags, Some(balancer)).unwrap(),
        }
    }
}

/// The template of all tests here, and of the same test on Consul.
pub fn template(setup: &Setup, entrance: SocketAddr) -> String {
    format!(
        "global\n    stats socket {} mode 600 level admin\n    fd-hard-limit 2000\n    hard-stop-after 10s\n    httpclient.ssl.verify none\n\
         defaults\n    mode http\n    option idle-close-on-response\n    retries 3\n    option redispatch 1\n\
         \x20   retry-on conn-failure empty-response response-timeout\n\
         \x20   timeout connect 1s\n    timeout client 10s\n    timeout server 10s\n\
         frontend in\n    bind {entrance}\n    default_backend api\n\
         backend api\n    balance roundrobin\n\
         {{{{#each (service \"airavata-api\" tag=\"prod\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}} \
         weight {{{{Weights.Passing}}}} check inter {}ms fall 2 rise 1\n{{{{/each}}}}\n",
        setup.path("stats.sock"),
        CHECK.as_millis()
    )
}

/// The settings but for the source.
fn settings(source: &str) -> String {
    format!(
        "{source}\n\
         [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n\
         [haproxy]\nmode = \"supervise\"\nbinary = \"{}\"\nmaster_socket = \"{{dir}}master.sock\"\n\
         [haproxy.drain]\ntime = \"1s\"\n\
         [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
         [state]\ndirectory = \"{{dir}}state\"\n",
        oldest().program().display()
    )
}

/// The usual template and settings with this source; gives where HAProxy will listen.
pub fn prepare(setup: &Setup, source: &str) -> SocketAddr {
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = template(setup, entrance);
    setup.file("haproxy.cfg.hbs", &text).unwrap();
    setup.settings(&settings(source)).unwrap();
    entrance
}

/// Waits until the configuration on disk has these words.
pub fn shows(setup: &Setup, words: &str) {
    let what = format!("`{words}` in the configuration");
    wait_for(LIMIT, &what, || {
        let text = setup.read("haproxy.cfg").ok()?;
        text.contains(words).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", setup.read("gatewright.log").unwrap()));
}

impl Stage {
    /// A balancer and `count` gateways `gw0`…, all in rotation and with traffic. `more` are further lines of the
    /// section `[serf]`.
    pub fn start(count: usize, more: &str) -> Stage {
        Stage::start_on(&Network::default(), count, more)
    }

    /// As [`Stage::start`], on a network that can be cut.
    pub fn start_on(network: &Network, count: usize, more: &str) -> Stage {
        let balancer = Agent::start_on(network, "lb", &[("role", "lb")], None).unwrap();
        let gateways: Vec<Gateway> = (0..count)
            .map(|number| Gateway::start_on(network, &format!("gw{number}"), &balancer, &[]))
            .collect();
        let setup = Setup::new().unwrap();
        let source = format!(
            "[catalog]\nsource = \"serf\"\n[serf]\naddresses = [\"{}\"]\n{more}",
            balancer.rpc()
        );
        let entrance = prepare(&setup, &source);
        let gatewright = setup.run().unwrap();
        let mut stage = Stage {
            traffic: None,
            _gatewright: gatewright,
            setup,
            gateways,
            balancer,
        };
        let all: Vec<String> = stage.names();
        stage.serves(&all.iter().map(String::as_str).collect::<Vec<_>>());
        wait_for(LIMIT, "the first answer", || {
            (send(entrance, 1).ok() == 1).then_some(())
        })
        .unwrap();
        let limits = Limits {
            clients: 2,
            pause: Duration::from_millis(5),
            requests: 150_000,
            time: Duration::from_secs(500),
        };
        stage.traffic = Some(Traffic::start(entrance, limits));
        stage
    }

    fn names(&self) -> Vec<String> {
        let names = self.gateways.iter().map(|one| one.agent.name().to_owned());
        names.collect()
    }

    /// The servers that HAProxy has, by their gateways' names.
    pub fn servers(&self) -> BTreeMap<String, ServerState> {
        let rows = servers(&self.setup.directory().join("stats.sock")).unwrap_or_default();
        let named = rows.into_iter().filter_map(|row| {
            let gateway = self
                .gateways
                .iter()
                .find(|one| one.address == row.address)?;
            Some((gateway.agent.name().to_owned(), row))
        });
        named.collect()
    }

    /// Waits until exactly these are servers that Gatewright wants to have traffic, whatever the checks say.
    pub fn serves(&self, names: &[&str]) {
        self.waits(&format!("the servers {names:?}"), || {
            // First the servers: the change that brought the last of them may still count as under way.
            let here = self.servers();
            let status = self.setup.status().ok()?;
            let settled = ["confirmed", "guarded"].contains(&status["state"].as_str()?);
            let here = here.iter().filter(|(_, row)| row.admin == 0);
            (settled
                && here
                    .map(|(name, _)| name.as_str())
                    .eq(names.iter().copied()))
            .then_some(())
        });
    }

    /// Waits until a server has traffic, or none, by HAProxy's own checks.
    pub fn checks(&self, name: &str, up: bool) {
        self.waits(&format!("the checks of {name} to say {up}"), || {
            let row = self.servers().remove(name)?;
            ((row.operational != 0) == up).then_some(())
        });
    }

    /// Waits until a server has passed so many checks that it takes two failed ones to take it out; right after the
    /// start it takes one.
    pub fn is_sound(&self, name: &str) {
        let socket = self.setup.directory().join("stats.sock");
        let address = self.gateways.iter().find(|one| one.agent.name() == name);
        let port = address.unwrap().address.port().to_string();
        self.waits(&format!("passed checks of {name}"), || {
            let table = cli(&socket, "show servers state").ok()?;
            let rows = table.lines().map(|row| row.split(' ').collect::<Vec<_>>());
            // `srv_check_health` is rise + fall - 1 at most.
            let sound = |row: &Vec<&str>| row.get(18) == Some(&&*port) && row.get(12) == Some(&"2");
            rows.into_iter().find(sound).map(drop)
        });
    }

    /// Waits for something; says everything that is known when it does not come.
    pub fn waits<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(LIMIT, what, probe).unwrap_or_else(|error| {
            panic!(
                "{error}\nservers {:#?}\nstatus {:#?}\n{}\n{}",
                self.servers(),
                self.setup.status(),
                self.setup.read("haproxy.cfg").unwrap_or_default(),
                self.setup.read("gatewright.log").unwrap_or_default()
            )
        })
    }

    /// Waits until the status has what is looked for.
    pub fn status<T>(&self, what: &str, mut probe: impl FnMut(&Value) -> Option<T>) -> T {
        self.waits(what, || probe(&self.setup.status().ok()?))
    }

    /// The changes so far: by a reload and by commands.
    pub fn changes(&self) -> (u64, u64) {
        self.status("the counts of changes", |status| {
            let haproxy = &status["haproxy"];
            Some((
                haproxy["reloads"].as_u64()?,
                haproxy["by_commands"].as_u64()?,
            ))
        })
    }

    /// Asserts that there were so many changes, and says which there were otherwise.
    pub fn has_changed(&self, expected: (u64, u64)) {
        let changes = self.changes();
        let log = || self.setup.read("gatewright.log").unwrap_or_default();
        assert_eq!(changes, expected, "{}", log());
    }

    /// Waits until a gateway has answered.
    pub fn answers(&self, name: &str) {
        let traffic = self.traffic.as_ref().unwrap();
        self.waits(&format!("an answer by {name}"), || {
            let recent = traffic.look(|report| report.recent(20))?;
            recent.contains(name).then_some(())
        });
    }

    /// Waits until a gateway has not answered for a while.
    pub fn is_silent(&self, name: &str) {
        let traffic = self.traffic.as_ref().unwrap();
        self.waits(&format!("no answer by {name}"), || {
            let recent = traffic.look(|report| report.recent(40))?;
            (!recent.contains(name)).then_some(())
        });
    }

    /// So far nothing failed.
    pub fn nothing_failed(&self) {
        let traffic = self.traffic.as_ref().unwrap();
        let (failed, errors) = traffic.look(|report| (report.failed, report.errors.clone()));
        assert_eq!(failed, 0, "{errors:?}");
    }

    /// Ends the traffic: nothing failed. Gives the number of requests.
    pub fn quiet(&mut self) -> u64 {
        let report = self.traffic.take().unwrap().stop();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        assert!(report.ok() > 0);
        report.ok()
    }
}
