//! The changes that are measured, one at a time, on services that nothing changed for a while; and, a
//! little later, a second change of each.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::probe::{LIMIT, Probe, Wanted};
use super::registry::{Change, Expected, Registry, host};
use super::sidecar::Sidecar;
use crate::hand::{self, Hand};
use crate::subject::Subject;
use support::{Outcome, interrupted};

/// How many services change before their second changes follow.
const BATCH: usize = 8;
/// The pause before second changes.
const BEFORE_SECOND: Duration = Duration::from_secs(1);
/// A change that comes later than this is no second change within a minute.
const MINUTE: Duration = Duration::from_secs(55);

/// The pause after a change, so that each stands alone: changes that come one upon the other may use a
/// fifth of a processor and go together beyond that. It is uneven, so that no rhythm of Gatewright's own
/// meets all changes alike.
fn pause(servers: usize, number: usize) -> Duration {
    let least = match servers {
        0..=100 => 200,
        101..=1_000 => 400,
        _ => 1_000,
    };
    Duration::from_millis(least + (number * 37 % 200) as u64)
}

/// How long changes took.
#[derive(Debug, Default)]
pub struct Times {
    /// Those that took longer than [`LIMIT`] count as this long.
    pub times: Vec<Duration>,
    /// How many took longer.
    pub late: usize,
}

impl Times {
    fn add(&mut self, time: Option<Duration>) {
        self.late += usize::from(time.is_none());
        self.times.push(time.unwrap_or(LIMIT));
    }

    /// Both together.
    pub fn with(&self, other: &Times) -> Times {
        Times {
            times: [self.times.as_slice(), &other.times].concat(),
            late: self.late + other.late,
        }
    }
}

/// How long the changes of each kind took.
#[derive(Debug, Default)]
pub struct Measured {
    /// A check became critical.
    pub fell: Times,
    /// A check became passing.
    pub recovered: Times,
    /// An instance was registered.
    pub added: Times,
    /// An instance got another address.
    pub moved: Times,
    /// The second change of a service within a minute.
    pub second: Times,
    /// Another address, by hand.
    pub floor: Times,
}

/// How many changes, and how long they may take together.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Changes.
    pub changes: usize,
    /// The time after which no further one starts.
    pub limit: Duration,
}

/// Which service the change of a number concerns: each one once before any comes again.
pub fn service_of(number: usize, services: usize) -> usize {
    // A prime that no number of services is a multiple of.
    (number * 7_919 + 1) % services
}

/// Makes changes and measures them.
pub struct Changes<'a> {
    registry: &'a mut Registry,
    sidecar: &'a mut Sidecar,
    probe: Probe,
    servers: usize,
    floor: Option<Floor>,
    number: usize,
    measured: Measured,
}

/// The same change made by hand, in turns.
struct Floor {
    hand: Hand,
    probe: Probe,
    backend: String,
}

impl<'a> Changes<'a> {
    /// For a sidecar that runs its first set. With `floor` the change made by hand is measured, too.
    pub fn new(
        registry: &'a mut Registry,
        sidecar: &'a mut Sidecar,
        version: &str,
        floor: bool,
    ) -> Outcome<Changes<'a>> {
        let floor = match floor {
            true => Some(Floor::start(registry, sidecar, version)?),
            false => None,
        };
        let stats = sidecar.stats().ok_or("There is no stats socket.")?;
        let probe = Probe::new(stats, sidecar.entrance());
        Ok(Changes {
            servers: registry.expected().len(),
            registry,
            sidecar,
            probe,
            floor,
            number: 0,
            measured: Measured::default(),
        })
    }

    /// Changes of health, which the registry prepared for every other service.
    pub fn health(&mut self, amount: Amount) -> Outcome<()> {
        self.run(amount, |registry, service, number| {
            match registry.critical(service) {
                Some(instance) => Change::Recover { service, instance },
                None => Change::Fail {
                    service,
                    instance: number % registry.passing(service).len().max(1),
                },
            }
        })
    }

    /// New instances and new addresses.
    pub fn places(&mut self, amount: Amount) -> Outcome<()> {
        self.run(amount, |registry, service, number| {
            match registry.passing(service).as_slice() {
                [instance, ..] if number % 2 == 1 => Change::Move {
                    service,
                    instance: *instance,
                },
                _ => Change::Add { service },
            }
        })
    }

    /// What was measured.
    pub fn end(self) -> Measured {
        self.measured
    }

    fn run(
        &mut self,
        amount: Amount,
        choose: impl Fn(&Registry, usize, usize) -> Change,
    ) -> Outcome<()> {
        let end = Instant::now() + amount.limit;
        let mut left = amount.changes;
        while left > 0 && Instant::now() < end && !interrupted() {
            let mut seconds = Vec::new();
            for _ in 0..left.min(BATCH).min(self.registry.count()) {
                if Instant::now() >= end {
                    break;
                }
                let service = service_of(self.number, self.registry.count());
                let change = choose(self.registry, service, self.number);
                let began = Instant::now();
                let (time, expected) = self.change(change)?;
                let of_kind = match change {
                    Change::Fail { .. } => &mut self.measured.fell,
                    Change::Recover { .. } => &mut self.measured.recovered,
                    Change::Add { .. } => &mut self.measured.added,
                    Change::Move { .. } => &mut self.measured.moved,
                };
                of_kind.add(time);
                if time.is_some() {
                    seconds.push((began, self.second(change, expected)));
                }
                if let Some(floor) = &mut self.floor {
                    self.measured.floor.add(floor.change(self.registry)?);
                }
                std::thread::sleep(pause(self.servers, self.number));
                self.number += 1;
                left -= 1;
            }
            std::thread::sleep(BEFORE_SECOND);
            for (began, change) in seconds {
                if began.elapsed() < MINUTE && !interrupted() {
                    let (time, Expected { service, .. }) = self.change(change)?;
                    self.measured.second.add(time);
                    std::thread::sleep(pause(self.servers, service));
                }
            }
        }
        Ok(())
    }

    /// The change that follows a change of the same service.
    fn second(&self, first: Change, expected: Expected) -> Change {
        let Expected {
            service, instance, ..
        } = expected;
        match first {
            Change::Fail { .. } => Change::Recover { service, instance },
            Change::Recover { .. } | Change::Add { .. } => Change::Move { service, instance },
            Change::Move { .. } => match self.registry.critical(service) {
                Some(instance) => Change::Recover { service, instance },
                None => Change::Fail { service, instance },
            },
        }
    }

    fn change(&mut self, change: Change) -> Outcome<(Option<Duration>, Expected)> {
        let began = Instant::now();
        let expected = self.registry.send(change)?;
        let wanted = Wanted {
            backend: self.sidecar.backend(expected.service)?,
            host: &host(expected.service),
            address: expected.address,
            serves: expected.serves,
        };
        let time = self.probe.wait(&wanted, began);
        self.registry.finish()?;
        if time.is_none() {
            self.sidecar.ended().map_or(Ok(()), Err)?;
        }
        Ok((time, expected))
    }
}

impl Floor {
    fn start(registry: &mut Registry, sidecar: &Sidecar, version: &str) -> Outcome<Floor> {
        registry.send_alone(hand::SERVICE)?;
        registry.finish()?;
        let hand = Hand::start(registry.consul().address(), version, sidecar)?;
        let stats = hand.stats().ok_or("The floor has no stats socket.")?;
        let mut floor = Floor {
            probe: Probe::new(stats, hand.entrance()),
            backend: sidecar.service().to_owned(),
            hand,
        };
        // The first change warms the connections.
        floor.change(registry)?;
        Ok(floor)
    }

    fn change(&mut self, registry: &mut Registry) -> Outcome<Option<Duration>> {
        let began = Instant::now();
        let address: Ipv4Addr = registry.send_alone(hand::SERVICE)?;
        let wanted = Wanted {
            backend: &self.backend,
            host: &host(0),
            address,
            serves: true,
        };
        let time = self.probe.wait(&wanted, began);
        registry.finish()?;
        self.hand.ended().map_or(Ok(time), Err)
    }
}
