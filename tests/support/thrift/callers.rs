//! Clients that call without a pause, many calls on each connection, with everything that came back counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Client, Form};
use crate::interrupted;

/// After so many calls a client takes a new connection.
const CALLS: u64 = 20;
/// How long a client waits for a reply.
const LIMIT: Duration = Duration::from_secs(5);

/// A call that got no reply. Its client takes a new connection.
#[derive(Debug, Clone)]
pub struct Lost {
    /// When its connection was opened, as the client sees it.
    pub opened: Instant,
    /// Who answered on that connection before; nobody, if it was the first call.
    pub instance: Option<String>,
    /// What came instead, in words.
    pub error: String,
}

/// What came of some calls.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Replies, by the instance.
    pub replies: BTreeMap<String, u64>,
    /// Connections that were opened, by the instance that answered first on them.
    pub connections: BTreeMap<String, u64>,
    /// Calls that got no reply.
    pub lost: Vec<Lost>,
    /// The longest time from a call (the first one on a connection: from its opening) to its reply.
    pub slowest: Duration,
}

impl Tally {
    /// How many replies there were.
    pub fn all(&self) -> u64 {
        self.replies.values().sum()
    }
}

/// Running clients. They end when this is dropped.
pub struct Callers {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// Starts so many clients, each of whose calls is `work` long.
    pub fn start(address: SocketAddr, form: &Form, clients: usize, work: Duration) -> Callers {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients)
            .map(|_| {
                let (tally, stop, form) = (Arc::clone(&tally), Arc::clone(&stop), form.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) && !interrupted() {
                        connection(address, &form, work, &tally, &stop);
                    }
                })
            })
            .collect();
        Callers {
            tally,
            stop,
            threads,
        }
    }

    /// Looks at what came so far.
    pub fn look<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&locked(&self.tally))
    }

    /// What came since the last time.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *locked(&self.tally))
    }

    /// Ends the clients and gives what came since the last time.
    pub fn stop(mut self) -> Tally {
        self.end();
        self.take()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.end();
    }
}

/// One connection with its calls.
fn connection(
    address: SocketAddr,
    form: &Form,
    work: Duration,
    tally: &Mutex<Tally>,
    stop: &AtomicBool,
) {
    let opened = Instant::now();
    let mut instance = None;
    let lost = |instance: Option<String>, error: String| Lost {
        opened,
        instance,
        error,
    };
    let mut client = match Client::connect(address, form, LIMIT) {
        Ok(client) => client,
        Err(error) => {
            locked(tally).lost.push(lost(None, error));
            // Nobody listens: no hurry.
            std::thread::sleep(Duration::from_millis(50));
            return;
        }
    };
    let mut begin = opened;
    for _ in 0..CALLS {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match client.launch(work) {
            Ok(name) => {
                let mut tally = locked(tally);
                if instance.is_none() {
                    *tally.connections.entry(name.clone()).or_default() += 1;
                }
                *tally.replies.entry(name.clone()).or_default() += 1;
                tally.slowest = tally.slowest.max(begin.elapsed());
                begin = Instant::now();
                instance = Some(name);
            }
            Err(error) => {
                locked(tally).lost.push(lost(instance, error));
                return;
            }
        }
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
