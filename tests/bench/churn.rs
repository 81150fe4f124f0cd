//! Part 2: a hundred changes a second under 32 keep-alive clients; what failed, and whether catalog,
//! HAProxy and file are equal afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::catalog::{Catalog, Place};
use super::clients::Clients;
use super::numbers::{Samples, milliseconds, thousands, written};
use super::report::{Report, Row};
use super::servers::{self, Server};
use super::subject::{
    Mode, Sidecar, Subject, revision, running, wait_until_served, worker, written as in_file,
};
use super::{Bench, peers};
use support::{Outcome, interrupted, wait_for};

const CLIENTS: usize = 32;
/// Changes a second.
const RATE: u32 = 100;
/// The fewest and the most instances, and how many there are at first.
const FEWEST: usize = 8;
const MOST: usize = 20;
const FIRST: usize = 12;
/// How long catalog, HAProxy and file may take to be equal.
const EQUAL: Duration = Duration::from_secs(20);
/// How long traffic goes on afterwards, twice.
const SHORT: Duration = Duration::from_millis(500);

/// Measures Gatewright, and whoever else is named, on one HAProxy version.
pub fn run(bench: &mut Bench, version: &str, size: usize, report: &mut Report) -> Outcome<()> {
    let mut names = vec!["churned".to_owned()];
    names.extend(peers::named(&bench.options).map(|peer| peer.service().to_owned()));
    for service in names {
        let mut churn = Churn::new(&service, &bench.servers);
        churn.begin(&mut bench.catalog)?;
        let mut subject: Box<dyn Subject> =
            match peers::named(&bench.options).find(|peer| peer.service() == service) {
                Some(peer) => peer.start(&bench.catalog, version, size)?,
                None => Box::new(Sidecar::start(
                    &bench.catalog,
                    version,
                    Mode::Supervise,
                    &service,
                    size,
                )?),
            };
        wait_until_served(subject.as_mut())?;
        one(bench, churn, subject, version, size, report)?;
    }
    Ok(())
}

fn one(
    bench: &mut Bench,
    mut churn: Churn,
    mut subject: Box<dyn Subject>,
    version: &str,
    size: usize,
    report: &mut Report,
) -> Outcome<()> {
    let time = Duration::from_secs(if bench.options.quick { 8 } else { 15 });
    let mut workers = Workers::default();
    workers.look(subject.as_ref());
    let runtime = bench.runtime.handle();
    let clients = Clients::start(runtime, subject.entrance(), &subject.path(), CLIENTS);
    let accepted = servers::accepted();
    let began = Instant::now();
    let mut changes = 0;
    while began.elapsed() < time && !interrupted() {
        let due = began + Duration::from_secs(1) * changes / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        churn.step(&mut bench.catalog)?;
        changes += 1;
        if changes.is_multiple_of(RATE / 2) {
            workers.look(subject.as_ref());
        }
    }
    let rate = f64::from(changes) / began.elapsed().as_secs_f64();
    let since = Instant::now();
    let equal = wait_until_equal(&bench.catalog, subject.as_ref());
    let took = milliseconds(since.elapsed());
    let reloads = workers.look(subject.as_ref());
    // Requests on their way end; from then on only what the catalog names should answer.
    std::thread::sleep(SHORT);
    clients.mark();
    std::thread::sleep(SHORT);
    let (count, ran) = clients.stop(runtime);
    let gone: u64 = count
        .marked
        .iter()
        .map(|(name, times)| times * u64::from(!churn.is_live(name)))
        .sum();
    let opened = servers::accepted() - accepted;
    let failed = count.failed();
    let name = subject.name().to_owned();
    let ours = name == "gatewright";

    let sent = count.times.len() as u64 + failed;
    let speed = sent as f64 / ran.as_secs_f64();
    let times = Samples::milliseconds(count.times);
    let high = times.percentile(0.99).unwrap_or(f64::NAN);
    let mut measured = format!(
        "{failed} of {} requests failed, {reloads} reloads, {} changes/s, {} requests/s, p99 {} ms, {} connections to instances, ",
        thousands(sent),
        written(rate),
        written(speed),
        written(high),
        thousands(opened),
    );
    let mut broken = Vec::new();
    match &equal {
        Ok(()) => measured.push_str(&format!("equal after {} ms", written(took))),
        Err(_) => measured.push_str("NOT equal at the end"),
    }
    broken.extend(equal.err());
    if gone > 0 {
        measured.push_str(&format!(
            ", then {gone} requests in {SHORT:?} to instances that are gone"
        ));
    }
    if failed > 0 {
        let first = count.first.unwrap_or_default();
        broken.push(format!("{failed} requests failed, the first by: {first}."));
    }
    if reloads > 0 {
        broken.push(format!("HAProxy was reloaded {reloads} times."));
    }
    broken.extend(subject.ended());
    let row = Row {
        part: "churn",
        haproxy: version.to_owned(),
        who: name,
        servers: size,
        measured,
        goal: if ours {
            "0 failed, no reload, 100 changes/s"
        } else {
            ""
        },
        met: ours.then_some(broken.is_empty() && gone == 0 && rate >= f64::from(RATE) * 0.95),
        broken: if ours { broken } else { Vec::new() },
        ..Row::default()
    };
    report.row(
        row.figure("failed", failed as f64)
            .figure("reset", count.reset as f64)
            .figure("refused", count.refused as f64)
            .figure("reloads", reloads as f64)
            .figure("changes_per_second", rate)
            .figure("requests", sent as f64)
            .figure("requests_per_second", speed)
            .figure("p50_ms", times.median().unwrap_or(f64::NAN))
            .figure("p99_ms", high)
            .figure("connections_to_instances", opened as f64)
            .figure("connections_closed", count.closed as f64)
            .figure("equal_after_ms", took)
            .figure("requests_to_gone_instances", gone as f64),
    );
    drop(subject);
    churn.clear(&mut bench.catalog)
}

/// The worker processes that were seen.
#[derive(Default)]
struct Workers(BTreeSet<u32>);

impl Workers {
    /// Looks, and says how many came after the first.
    fn look(&mut self, subject: &dyn Subject) -> usize {
        self.0.extend(subject.stats().and_then(worker));
        self.0.len().saturating_sub(1)
    }
}

/// Equal is: what Consul names, what HAProxy runs and what its file says; and the revision that the
/// worker carries, if it carries one, is the file's.
fn wait_until_equal(catalog: &Catalog, subject: &dyn Subject) -> Outcome<()> {
    let (Some(stats), Some(file)) = (subject.stats(), subject.file()) else {
        return Ok(());
    };
    let service = subject.service();
    let wanted = catalog.places(service)?;
    let all = || Some((running(stats, service)?, in_file(&file, service)?));
    wait_for(EQUAL, "catalog, HAProxy and file to be equal", || {
        let (runs, places) = all()?;
        let carried = revision(stats, &file).is_none_or(|revision| {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.contains(&format!("str({revision})"))
        });
        (runs == wanted && places == wanted && carried).then_some(())
    })
    .map_err(|error| match all() {
        Some((runs, file)) => format!(
            "{error} Not in HAProxy: {:?}; too much: {:?}; not in the file: {:?}; too much: {:?}.",
            wanted.difference(&runs).collect::<Vec<_>>(),
            runs.difference(&wanted).collect::<Vec<_>>(),
            wanted.difference(&file).collect::<Vec<_>>(),
            file.difference(&wanted).collect::<Vec<_>>(),
        ),
        None => format!("{error} HAProxy or its file cannot be read."),
    })
}

/// The instances of one service, and random changes to them. Instance `n` is at one of the servers
/// `2n` and `2n + 1`, so no two are ever at the same one. Every server answers all the time: what is
/// removed or moved away from still serves what was sent to it.
struct Churn {
    service: String,
    servers: Vec<Server>,
    live: BTreeMap<usize, Place>,
    random: fastrand::Rng,
}

impl Churn {
    fn new(service: &str, servers: &[Server]) -> Churn {
        Churn {
            service: service.to_owned(),
            servers: servers.to_vec(),
            live: BTreeMap::new(),
            random: fastrand::Rng::with_seed(7),
        }
    }

    /// Fills up to the first number of instances.
    fn begin(&mut self, catalog: &mut Catalog) -> Outcome<()> {
        (0..FIRST).try_for_each(|number| self.put(number, catalog))
    }

    /// One change: an instance gets another address, another weight, comes or goes.
    fn step(&mut self, catalog: &mut Catalog) -> Outcome<()> {
        let number = self.random.usize(..MOST);
        match self.live.get(&number).copied() {
            None => self.put(number, catalog),
            Some(_) if self.live.len() > FEWEST && self.random.u8(..4) == 0 => {
                self.live.remove(&number);
                catalog.deregister(&self.id(number))
            }
            Some((address, weight)) if self.random.u8(..3) == 0 => {
                self.set(number, (address, weight % 100 + 1), catalog)
            }
            Some((address, weight)) => {
                let pair = &self.servers[number * 2..number * 2 + 2];
                let other = pair.iter().find(|server| server.address != address);
                let address = other.map_or(address, |server| server.address);
                self.set(number, (address, weight), catalog)
            }
        }
    }

    fn put(&mut self, number: usize, catalog: &mut Catalog) -> Outcome<()> {
        let address = self.servers[number * 2 + self.random.usize(..2)].address;
        let weight = self.random.u16(1..=100);
        self.set(number, (address, weight), catalog)
    }

    fn set(&mut self, number: usize, place: Place, catalog: &mut Catalog) -> Outcome<()> {
        self.live.insert(number, place);
        catalog.register(&self.service, &self.id(number), place)
    }

    /// Whether the server of this name is one of the instances.
    fn is_live(&self, name: &str) -> bool {
        let server = self.servers.iter().find(|server| server.name == name);
        let address = server.map(|server| server.address);
        self.live.values().any(|place| Some(place.0) == address)
    }

    fn clear(self, catalog: &mut Catalog) -> Outcome<()> {
        let mut numbers = self.live.keys();
        numbers.try_for_each(|number| catalog.deregister(&self.id(*number)))
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number}", self.service)
    }
}
