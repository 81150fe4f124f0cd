//! Clients that note when a request failed, so that a failure can be told from one that HAProxy's own death
//! explains.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::http;

const CLIENTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(10);

/// A request that was not answered by 200.
#[derive(Debug, Clone)]
pub struct Failure {
    pub begun: Instant,
    pub ended: Instant,
    pub why: String,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    good: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

/// Requests on a connection of their own each, until dropped.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub fn start(entrance: SocketAddr) -> Clients {
        let shared = Arc::new(Shared::default());
        let client = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let why = match http::get(entrance, "/") {
                        Ok(answer) if answer.status == 200 => None,
                        Ok(answer) => Some(format!("status {}", answer.status)),
                        Err(error) => Some(error.to_string()),
                    };
                    match why {
                        None => drop(shared.good.fetch_add(1, Ordering::Relaxed)),
                        Some(why) => shared.failures.lock().unwrap().push(Failure {
                            begun,
                            ended: Instant::now(),
                            why,
                        }),
                    }
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Clients { shared, threads }
    }

    /// How many were answered.
    pub fn good(&self) -> u64 {
        self.shared.good.load(Ordering::Relaxed)
    }

    /// The failures since the last call.
    pub fn failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.shared.failures.lock().unwrap())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
