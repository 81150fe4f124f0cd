//! Requests through the gateway, a new connection each or many on one, bounded in number and time, with
//! everything that came back counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::keep_alive::KeepAlive;
use super::{http, interrupted};

/// After so many requests a kept connection is ended by its client, between two requests.
const KEPT_FOR: u64 = 100;

/// What came of some requests.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Answers with status 200, by their body: the backend's name.
    pub answers: BTreeMap<String, u64>,
    /// Requests that failed, or were answered by another status.
    pub failed: u64,
    /// The first few failures, in words.
    pub errors: Vec<String>,
    /// The longest time that a request took.
    pub slowest: Duration,
    recent: VecDeque<String>,
}

impl Report {
    /// How many were answered well.
    pub fn ok(&self) -> u64 {
        self.answers.values().sum()
    }

    /// The backends that answered any of the last `count` good requests; `None` until there are that many.
    pub fn recent(&self, count: usize) -> Option<BTreeSet<String>> {
        let start = self.recent.len().checked_sub(count)?;
        Some(self.recent.range(start..).cloned().collect())
    }

    /// Counts those of another report as well.
    pub fn append(&mut self, other: Report) {
        for (name, count) in other.answers {
            *self.answers.entry(name).or_default() += count;
        }
        self.failed += other.failed;
        self.errors.extend(other.errors);
        self.slowest = self.slowest.max(other.slowest);
        self.recent.extend(other.recent);
    }

    fn add(&mut self, outcome: Result<String, String>, took: Duration) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(name) => {
                if self.recent.len() == 256 {
                    self.recent.pop_front();
                }
                self.recent.push_back(name.clone());
                *self.answers.entry(name).or_default() += 1;
            }
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < 5 {
                    self.errors.push(error);
                }
            }
        }
    }
}

/// How much traffic there is at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads that send at the same time.
    pub clients: usize,
    /// The pause of each client between two requests.
    pub pause: Duration,
    /// The largest number of requests of each client.
    pub requests: u64,
    /// The longest time.
    pub time: Duration,
}

/// Traffic in the background.
pub struct Traffic {
    shared: Arc<Mutex<State>>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: bool,
    report: Report,
}

impl Traffic {
    /// Begins to send.
    pub fn start(address: SocketAddr, limits: Limits) -> Traffic {
        let shared = Arc::new(Mutex::new(State::default()));
        let clients = (0..limits.clients)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || client(limits, &shared, || one(address)))
            })
            .collect();
        Traffic { shared, clients }
    }

    /// Begins to send on kept connections, to one of `hosts` after the other. An answer to `web` must
    /// begin with `web`; one that was cut short, or a connection that ends while it is waited for,
    /// counts as failed.
    pub fn start_kept(
        address: SocketAddr,
        limits: Limits,
        hosts: &'static [&'static str],
    ) -> Traffic {
        let shared = Arc::new(Mutex::new(State::default()));
        let clients = (0..limits.clients)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let mut connection = KeepAlive::new(address);
                    let mut count = 0;
                    client(limits, &shared, || {
                        count += 1;
                        if count % KEPT_FOR == 0 {
                            connection.close();
                        }
                        let host = hosts[count as usize % hosts.len()];
                        kept(&mut connection, host)
                    });
                })
            })
            .collect();
        Traffic { shared, clients }
    }

    /// Hands over what was counted since the start or the last call, and counts from zero.
    pub fn take(&self) -> Report {
        std::mem::take(&mut lock(&self.shared).report)
    }

    /// What was counted since the start or the last [`Traffic::take`].
    pub fn look<T>(&self, at: impl FnOnce(&Report) -> T) -> T {
        at(&lock(&self.shared).report)
    }

    /// Ends the traffic; requests on their way are finished and counted.
    pub fn stop(mut self) -> Report {
        self.end();
        self.take()
    }

    fn end(&mut self) {
        lock(&self.shared).stop = true;
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

fn client(
    limits: Limits,
    shared: &Mutex<State>,
    mut send: impl FnMut() -> (Result<String, String>, Duration),
) {
    let end = Instant::now() + limits.time;
    for _ in 0..limits.requests {
        if Instant::now() >= end || interrupted() || lock(shared).stop {
            return;
        }
        let (outcome, took) = send();
        lock(shared).report.add(outcome, took);
        std::thread::sleep(limits.pause);
    }
}

/// Sends `count` requests one after the other.
pub fn send(address: SocketAddr, count: u64) -> Report {
    let mut report = Report::default();
    for _ in 0..count {
        if interrupted() {
            break;
        }
        let (outcome, took) = one(address);
        report.add(outcome, took);
    }
    report
}

fn one(address: SocketAddr) -> (Result<String, String>, Duration) {
    let start = Instant::now();
    let outcome = match http::get(address, "/") {
        Ok(answer) if answer.status == 200 => Ok(answer.body),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(error) => Err(error.to_string()),
    };
    (outcome, start.elapsed())
}

fn kept(connection: &mut KeepAlive, host: &str) -> (Result<String, String>, Duration) {
    let start = Instant::now();
    let outcome = match connection.get(host, "/") {
        Ok(answer) if answer.status != 200 => Err(format!("status {}", answer.status)),
        Ok(answer) if !answer.body.starts_with(host) => {
            Err(format!("{host} was answered by {}", answer.body))
        }
        Ok(answer) => Ok(answer.body),
        Err(error) => Err(error.to_string()),
    };
    (outcome, start.elapsed())
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
