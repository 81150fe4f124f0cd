//! Instances that come, go, move and change their weight a hundred times a second, under clients that keep
//! their connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::LIMIT;
use crate::runtime::gateway::{Gateway, HEAD};
use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::oldest;
use support::measured::note;
use support::traffic::{Limits, Traffic};
use support::{usage, wait_for};

/// Between two changes.
const EVERY: Duration = Duration::from_millis(10);
/// Instances in the catalog at most, and at least: so many that the guard never sees a loss in mass. Each has
/// two addresses, and both serve all the time.
const MOST: usize = 12;
const FEWEST: usize = 9;
const CLIENTS: usize = 4;

/// The instances of one service, and random changes to them.
pub struct Flapping {
    service: String,
    places: Vec<Backend>,
    /// Address and weight of those that are in the catalog.
    live: BTreeMap<usize, (SocketAddr, u32)>,
    random: fastrand::Rng,
}

impl Flapping {
    /// Starts the instances and registers most of them.
    pub fn start(consul: &Consul, service: &str, seed: u64) -> Flapping {
        let place = |number| Backend::start(&format!("{service} {number}")).unwrap();
        let mut flapping = Flapping {
            service: service.to_owned(),
            places: (0..2 * MOST).map(place).collect(),
            live: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        for number in 0..FEWEST + 2 {
            flapping.put(consul, number, 10);
        }
        flapping
    }

    /// One change, of which Consul knows when this returns.
    pub fn change(&mut self, consul: &Consul) {
        let number = self.random.usize(..MOST);
        match (self.live.get(&number).copied(), self.random.u8(..3)) {
            (None, _) => self.put(consul, number, 10),
            (Some(_), 0) if self.live.len() > FEWEST => {
                self.live.remove(&number);
                consul
                    .catalog_deregister(&json!({
                        "Node": "elsewhere", "ServiceID": format!("{}-{number}", self.service),
                    }))
                    .unwrap();
            }
            (Some((_, weight)), 1) => self.put(consul, number, weight % 20 + 1),
            (Some((_, weight)), _) => self.put(consul, number, weight),
        }
    }

    fn put(&mut self, consul: &Consul, number: usize, weight: u32) {
        let at = self.places[2 * number + self.random.usize(..2)].address();
        self.live.insert(number, (at, weight));
        self.write(consul, number);
    }

    /// Registers all that should be there, as after a catalog was lost.
    pub fn write_all(&self, consul: &Consul) {
        for number in self.live.keys() {
            self.write(consul, *number);
        }
    }

    fn write(&self, consul: &Consul, number: usize) {
        let (at, weight) = self.live[&number];
        consul
            .catalog_register(&json!({
                "Node": "elsewhere", "Address": "127.0.0.1",
                "Service": {
                    "Service": self.service, "ID": format!("{}-{number}", self.service),
                    "Address": at.ip().to_string(), "Port": at.port(),
                    "Weights": {"Passing": weight, "Warning": 1},
                },
            }))
            .unwrap();
    }

    /// Changes for so long at this rate; how many there were.
    pub fn run(
        &mut self,
        consul: &Consul,
        time: Duration,
        every: Duration,
        mut meanwhile: impl FnMut(Duration),
    ) -> u32 {
        let start = Instant::now();
        let mut changes = 0;
        while start.elapsed() < time {
            let due = start + every * changes;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.change(consul);
            changes += 1;
            meanwhile(start.elapsed());
        }
        changes
    }

    /// Address and weight of the instances of the catalog.
    pub fn places(&self) -> BTreeSet<(SocketAddr, u32)> {
        self.live.values().copied().collect()
    }

    /// Where the instances of the catalog are.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.live.values().map(|(address, _)| *address).collect();
        addresses.sort();
        addresses
    }
}

// M01
#[test]
fn flapping_costs_less_than_a_quarter_of_a_processor() {
    let consul = Consul::start().unwrap();
    let template = format!(
        "{HEAD}\nbackend web\n    balance roundrobin\n    retry-on conn-failure empty-response\n{{{{#each (service \"@service@\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}} id {{{{serverId this}}}} weight {{{{Weights.Passing}}}}\n{{{{/each}}}}\n"
    );
    let mut gateway = Gateway::new(&consul, &oldest(), &template, "", "");
    usual_times(&gateway);
    let mut flapping = Flapping::start(&consul, &gateway.service, 4_711);
    gateway.run();
    gateway.converge(&flapping.addresses());
    // How long it flaps, and how long before the first look at the memory.
    let (time, warm_up) = match support::long() {
        true => (Duration::from_secs(60), Duration::from_secs(12)),
        false => (Duration::from_secs(10), Duration::from_secs(5)),
    };
    let limits = Limits {
        clients: CLIENTS,
        pause: Duration::from_millis(5),
        requests: u64::MAX,
        time: time * 3,
    };
    let traffic = Traffic::start_kept(gateway.entrance, limits, &["web"]);
    let mark = gateway.mark();
    let pid = gateway.pid();
    let (before, mut warm) = (usage::time(pid).unwrap(), None);
    let start = Instant::now();
    let changes = flapping.run(&consul, time, EVERY, |passed| {
        if passed > warm_up && warm.is_none() {
            warm = Some((
                usage::memory(pid).unwrap().0,
                usage::descriptors(pid).unwrap(),
            ));
        }
    });
    let took = start.elapsed();
    let after = usage::time(pid).unwrap();
    let ended = Instant::now();
    gateway.converge(&flapping.addresses());
    let right = ended.elapsed();
    let report = traffic.stop();
    let status = gateway.status().unwrap();
    let (memory, _) = usage::memory(pid).unwrap();
    let (warm, open) = warm.unwrap();

    let share = |milliseconds: f64| milliseconds / took.as_millis() as f64 * 100.0;
    let (own, children) = (
        share(after.own - before.own),
        share(after.children - before.children),
    );
    let by_commands = status["haproxy"]["by_commands"].as_u64().unwrap();
    note(
        "m01",
        "changes a second",
        format!("{:.0}", f64::from(changes) / took.as_secs_f64()),
    );
    note(
        "m01",
        "failed requests",
        format!("{} of {}", report.failed, report.failed + report.ok()),
    );
    note(
        "m01",
        "processor",
        format!(
            "{:.1} % of one core ({own:.1} own, {children:.1} of children)",
            own + children
        ),
    );
    note(
        "m01",
        "resident memory",
        format!(
            "{warm:.1} MB after {} s, {memory:.1} MB at the end",
            warm_up.as_secs()
        ),
    );
    note(
        "m01",
        "batches of commands",
        format!("{by_commands}, {} reloads", status["haproxy"]["reloads"]),
    );
    note(
        "m01",
        "right after the end",
        format!("{} ms", right.as_millis()),
    );
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    gateway.assert_not_reloaded(&mark);
    // A debug build takes several times as much for what it does itself.
    let debug = cfg!(debug_assertions) && std::env::var_os("GATEWRIGHT_BIN").is_none();
    let most = if debug { 40.0 } else { 25.0 };
    assert!(
        own + children < most,
        "{own} % and {children} % of children"
    );
    assert!(memory < warm * 1.1 + 1.0, "{warm} MB and then {memory} MB");
    wait_for(LIMIT, "as many descriptors as before", || {
        (usage::descriptors(pid).ok()? <= open + 4).then_some(())
    })
    .unwrap();
    // A child that has just ended may not have been waited for yet.
    wait_for(LIMIT, "no zombies", || {
        (usage::zombies(pid) == 0).then_some(())
    })
    .unwrap();
}

/// The times of the settings as they are by default, not as most tests have them.
fn usual_times(gateway: &Gateway<'_>) {
    let settings = gateway.setup.read("gatewright.toml").unwrap();
    let (before, rest) = settings.split_once("[apply]").unwrap();
    let (_, after) = rest.split_once("[state]").unwrap();
    gateway
        .setup
        .file("gatewright.toml", &format!("{before}[state]{after}"))
        .unwrap();
}
