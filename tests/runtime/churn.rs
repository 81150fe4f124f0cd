//! A thousand random changes of the catalog, a hundred a second, under clients that keep their
//! connections: no request fails and HAProxy is not loaded again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;

use super::LIMIT;
use super::gateway::Gateway;
use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::traffic::{Limits, Traffic};
use support::wait_for;

const SERVICES: [&str; 2] = ["web", "api"];
/// Each has two nodes with an instance of each service, of which at least one serves.
const CHANGERS: usize = 4;
const CHANGES: usize = 1_000 / CHANGERS;
/// Between two changes of one changer.
const EVERY: Duration = Duration::from_millis(10 * CHANGERS as u64);
/// How long an instance answers after it has left the catalog, as one that ends in good order does; and as
/// long as the worker still sends something to it, for this is no test of how fast the machine is.
const GRACE: Duration = Duration::from_secs(2);

struct Instance {
    service: &'static str,
    id: String,
    place: Option<Backend>,
    weight: u16,
    failing: bool,
}

struct Node {
    name: String,
    failing: bool,
    instances: Vec<Instance>,
}

/// What the catalog should say of one instance: address and weight.
type Expected = BTreeMap<SocketAddr, (&'static str, u32)>;

/// Changes its own part of the catalog, at random but the same for the same seed.
struct Changer<'a> {
    consul: &'a Consul,
    number: u8,
    nodes: Vec<Node>,
    /// Those that have left the catalog and still answer.
    leaving: VecDeque<(Instant, Backend)>,
    random: fastrand::Rng,
    done: BTreeMap<&'static str, usize>,
}

impl<'a> Changer<'a> {
    /// Everything is there and passing.
    fn new(consul: &'a Consul, number: u8, seed: u64) -> Changer<'a> {
        let mut changer = Changer {
            consul,
            number,
            nodes: Vec::new(),
            leaving: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed + u64::from(number)),
            done: BTreeMap::new(),
        };
        for half in 0..2 {
            let name = format!("node-{number}-{half}");
            let instances = SERVICES.map(|service| Instance {
                service,
                id: format!("{service}-{number}-{half}"),
                place: None,
                weight: 10,
                failing: false,
            });
            changer.nodes.push(Node {
                name,
                failing: false,
                instances: instances.into(),
            });
        }
        for node in 0..2 {
            for instance in 0..2 {
                changer.place(node, instance);
                changer.write(node, instance);
            }
        }
        changer
    }

    /// Starts the instance at a new address; at a former one it goes on for a while.
    fn place(&mut self, node: usize, instance: usize) {
        let host = Ipv4Addr::new(127, 0, 2 + self.number, self.random.u8(1..=250));
        let instance = &mut self.nodes[node].instances[instance];
        let name = format!("{} {}", instance.service, self.random.u32(..));
        let place = Backend::start_at(&name, SocketAddr::from((host, 0))).unwrap();
        self.leaving.extend(
            instance
                .place
                .replace(place)
                .map(|old| (Instant::now(), old)),
        );
    }

    /// The instance with its check, in one step.
    fn write(&self, node: usize, instance: usize) {
        let node = &self.nodes[node];
        let instance = &node.instances[instance];
        let place = instance.place.as_ref().unwrap().address();
        self.consul
            .catalog_register(&json!({
                "Node": node.name, "Address": "127.0.0.1",
                "Service": {
                    "Service": instance.service, "ID": instance.id,
                    "Address": place.ip().to_string(), "Port": place.port(),
                    "Weights": {"Passing": instance.weight, "Warning": 1},
                },
                "Check": {
                    "Node": node.name, "CheckID": format!("check-{}", instance.id), "Name": "its own",
                    "ServiceID": instance.id, "Status": status(instance.failing),
                },
            }))
            .unwrap();
    }

    fn write_node(&self, node: usize) {
        let node = &self.nodes[node];
        self.consul
            .catalog_register(&json!({
                "Node": node.name, "Address": "127.0.0.1",
                "Check": {
                    "Node": node.name, "CheckID": "node-check", "Name": "the node's",
                    "Status": status(node.failing),
                },
            }))
            .unwrap();
    }

    fn remove(&mut self, node: usize, instance: usize) {
        let node = &mut self.nodes[node];
        let instance = &mut node.instances[instance];
        self.consul
            .catalog_deregister(&json!({"Node": node.name, "ServiceID": instance.id}))
            .unwrap();
        instance.failing = false;
        self.leaving
            .extend(instance.place.take().map(|old| (Instant::now(), old)));
    }

    fn serving(&self) -> Expected {
        let nodes = self.nodes.iter().filter(|node| !node.failing);
        let instances = nodes.flat_map(|node| &node.instances);
        instances
            .filter(|instance| !instance.failing)
            .filter_map(|instance| {
                let place = instance.place.as_ref()?.address();
                Some((place, (instance.service, u32::from(instance.weight))))
            })
            .collect()
    }

    /// Whether each service has another instance that serves than those that `node`, or one instance of
    /// it, would take along.
    fn can_spare(&self, node: usize, instance: Option<usize>) -> bool {
        let mut left = self.serving();
        for (index, going) in self.nodes[node].instances.iter().enumerate() {
            if instance.is_none_or(|instance| instance == index)
                && let Some(place) = &going.place
            {
                left.remove(&place.address());
            }
        }
        let services: BTreeSet<&str> = left.values().map(|(service, _)| *service).collect();
        services.len() == SERVICES.len()
    }

    /// One change; false when the one that was drawn is not possible now.
    fn change(&mut self) -> bool {
        let (node, instance) = (self.random.usize(0..2), self.random.usize(0..2));
        let there = self.nodes[node].instances[instance].place.is_some();
        let kind = match self.random.u8(0..6) {
            0 | 1 if !there => {
                self.place(node, instance);
                self.write(node, instance);
                "added"
            }
            1 if self.can_spare(node, Some(instance)) => {
                self.remove(node, instance);
                "removed"
            }
            2 if there => {
                self.place(node, instance);
                self.write(node, instance);
                "readdressed"
            }
            3 if there => {
                self.nodes[node].instances[instance].weight = self.random.u16(5..=20);
                self.write(node, instance);
                "weighed"
            }
            4 if there => {
                let failing = !self.nodes[node].instances[instance].failing;
                if failing && !self.can_spare(node, Some(instance)) {
                    return false;
                }
                self.nodes[node].instances[instance].failing = failing;
                self.write(node, instance);
                if failing { "failing" } else { "passing again" }
            }
            5 => {
                let failing = !self.nodes[node].failing;
                if failing && !self.can_spare(node, None) {
                    return false;
                }
                self.nodes[node].failing = failing;
                self.write_node(node);
                if failing {
                    "node failing"
                } else {
                    "node passing again"
                }
            }
            _ => return false,
        };
        *self.done.entry(kind).or_default() += 1;
        true
    }

    /// All changes, at their times.
    fn run(mut self, gateway: &Gateway<'_>) -> Changer<'a> {
        let start = Instant::now();
        for number in 0..CHANGES {
            let due = start + EVERY * u32::try_from(number).unwrap();
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            while !self.change() {}
            self.end_one(gateway);
        }
        self
    }

    /// Ends the instance that left first, if its time has come.
    fn end_one(&mut self, gateway: &Gateway<'_>) {
        let is_due = |(since, _): &(Instant, Backend)| since.elapsed() > GRACE;
        if !self.leaving.front().is_some_and(is_due) {
            return;
        }
        let Some((_, place)) = self.leaving.pop_front() else {
            return;
        };
        let servers = gateway.servers();
        let mut serving = servers.iter().filter(|server| server.admin == 0);
        match servers.is_empty() || serving.any(|server| server.address == place.address()) {
            true => self.leaving.push_back((Instant::now(), place)),
            false => *self.done.entry("ended").or_default() += 1,
        }
    }
}

fn status(failing: bool) -> &'static str {
    if failing { "critical" } else { "passing" }
}

#[haproxies]
fn a_thousand_changes(version: Version) {
    const SEED: u64 = 4_711;
    let consul = Consul::start().unwrap();
    let template =
        std::fs::read_to_string(support::tools::root().join("templates/http.cfg.hbs")).unwrap();
    let mut gateway = Gateway::new(&consul, &version, &template, "", "");
    let parameters = format!(
        "[parameters]\nservices = [\"web\", \"api\"]\nlisten = \"{}\"\nstats_socket = \"{{dir}}stats.sock\"\nlog_requests = \"errors\"\nhard_stop_after = \"20s\"\nfd_hard_limit = 2000\n",
        gateway.entrance
    );
    gateway.add_settings(&parameters);
    let changers: Vec<Changer<'_>> = (0..CHANGERS as u8)
        .map(|number| Changer::new(&consul, number, SEED))
        .collect();
    let mut expected = expect(&changers);
    gateway.run();
    agree(&gateway, &expected);
    let before = gateway.mark();
    let limits = Limits {
        clients: 32,
        pause: Duration::from_millis(20),
        requests: u64::MAX,
        time: Duration::from_secs(300),
    };
    let traffic = Traffic::start_kept(gateway.entrance, limits, &SERVICES);
    let begun = Instant::now();
    let mut changers: Vec<Changer<'_>> = std::thread::scope(|scope| {
        let running: Vec<_> = changers
            .into_iter()
            .map(|changer| scope.spawn(|| changer.run(&gateway)))
            .collect();
        running
            .into_iter()
            .map(|changer| changer.join().unwrap())
            .collect()
    });
    let took = begun.elapsed();
    expected = expect(&changers);
    agree(&gateway, &expected);
    // Those that were removed are deleted; nothing but the catalog's instances is left.
    gateway.wait_for_none("leaving");
    gateway.wait("no other server", || {
        (gateway.servers().len() == expected.len()).then_some(())
    });
    let report = traffic.stop();
    let status = gateway.status().unwrap();
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, count) in changers.iter().flat_map(|changer| &changer.done) {
        *done.entry(kind).or_default() += count;
    }
    println!(
        "{version}: {done:?} in {took:.1?}; {} requests, slowest {:.1?}; {} batches of commands, {} reloads, {} divergences",
        report.ok(),
        report.slowest,
        status["haproxy"]["by_commands"],
        status["haproxy"]["reloads"],
        status["haproxy"]["divergences"],
    );
    if report.failed > 0 {
        gateway.fail(&format!("{} failed: {:?}", report.failed, report.errors));
    }
    gateway.assert_not_reloaded(&before);
    // What takes traffic now is what the catalog has, and each of them does.
    let names: BTreeSet<String> = changers
        .iter()
        .flat_map(|changer| &changer.nodes)
        .filter(|node| !node.failing)
        .flat_map(|node| &node.instances)
        .filter(|instance| !instance.failing)
        .filter_map(|instance| Some(instance.place.as_ref()?.name().to_owned()))
        .collect();
    // 2.6 goes on using a connection to a server's former address that was busy when the address was
    // changed, until it is closed; so whoever has left ends now.
    for changer in &mut changers {
        changer.leaving.clear();
    }
    let traffic = Traffic::start_kept(gateway.entrance, limits, &SERVICES);
    gateway.wait("traffic to each instance", || {
        let answered = traffic.look(|report| report.answers.keys().cloned().collect());
        let strangers: Vec<&String> = BTreeSet::difference(&answered, &names).collect();
        assert!(strangers.is_empty(), "{version}: {strangers:?}");
        (answered == names).then_some(())
    });
    let rest = traffic.stop();
    assert_eq!(rest.failed, 0, "{version}: {:?}", rest.errors);
    assert_eq!(
        status["haproxy"]["divergences"],
        0,
        "{version}\n{}",
        gateway.log()
    );
}

fn expect(changers: &[Changer<'_>]) -> Expected {
    changers.iter().flat_map(Changer::serving).collect()
}

/// Waits until catalog, file, worker and revision agree.
fn agree(gateway: &Gateway<'_>, expected: &Expected) {
    let mut ids = Vec::new();
    for service in SERVICES {
        let found = gateway
            .consul
            .get(&format!("/v1/health/service/{service}?passing=1"));
        for entry in found.unwrap().as_array().unwrap() {
            let at = &entry["Service"];
            let address = format!("{}:{}", at["Address"].as_str().unwrap(), at["Port"]);
            let weight = at["Weights"]["Passing"].as_u64().unwrap() as u32;
            ids.push((address.parse::<SocketAddr>().unwrap(), (service, weight)));
        }
    }
    assert_eq!(
        ids.into_iter().collect::<Expected>(),
        *expected,
        "the catalog"
    );
    let what = format!("{} to run what the catalog says", gateway.version);
    wait_for(LIMIT, &what, || {
        let listed = gateway.listed();
        let of_file: BTreeMap<SocketAddr, (&str, u32)> = listed
            .iter()
            .map(|((backend, _), (address, weight))| (*address, (backend.as_str(), *weight)))
            .collect();
        let same = of_file.len() == expected.len()
            && of_file
                .iter()
                .zip(expected)
                .all(|(one, two)| one.0 == two.0 && one.1 == two.1);
        (same && gateway.serving() == listed).then_some(())?;
        gateway.confirmed()
    })
    .unwrap_or_else(|error| gateway.fail(&format!("{error} Expected {expected:#?}")));
}
