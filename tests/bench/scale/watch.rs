//! What goes on beside the measurement: the count of Gatewright's connections to Consul, and another
//! client of the same address that needs a new connection for each of its requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::registry::name;
use support::{http, usage};

/// How often connections are counted, at the start and later.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(50);
/// How long the start is.
const START: Duration = Duration::from_secs(5);
/// Requests of the other client, a second.
const RATE: u32 = 10;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Counts established connections of a process until it is dropped.
pub struct Connections {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicUsize; 2]>,
    thread: Option<JoinHandle<()>>,
}

impl Connections {
    /// Counts those of process `pid` to `port`.
    pub fn start(pid: u32, port: u16) -> Connections {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<[AtomicUsize; 2]> = Arc::default();
        let (ends, found) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let [now, peak] = &*found;
            while !ends.load(Ordering::Relaxed) {
                // The process may have ended, which others find out.
                if let Ok(count) = usage::connections(pid, port) {
                    now.store(count, Ordering::Relaxed);
                    peak.fetch_max(count, Ordering::Relaxed);
                }
                let early = began.elapsed() < START;
                std::thread::sleep(if early { OFTEN } else { SELDOM });
            }
        });
        Connections {
            stop,
            counts,
            thread: Some(thread),
        }
    }

    /// How many there were at the last count.
    pub fn now(&self) -> usize {
        self.counts[0].load(Ordering::Relaxed)
    }

    /// The most there were at any count.
    pub fn peak(&self) -> usize {
        self.counts[1].load(Ordering::Relaxed)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the other client saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// How long each good answer took.
    pub times: Vec<Duration>,
    /// Requests without a good answer.
    pub failed: usize,
    /// The first failure, in words.
    pub first: Option<String>,
}

/// The other client.
pub struct Other {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Other {
    /// Starts it: ten requests a second, each on a new connection.
    pub fn start(consul: SocketAddr) -> Other {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let path = format!("/v1/health/service/{}?passing=1", name(0));
            let mut seen = Seen::default();
            let mut due = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = http::request(consul, "GET", &path, "", LIMIT);
                match answer.map(|answer| answer.status) {
                    Ok(200) => seen.times.push(began.elapsed()),
                    Ok(status) => seen.fail(format!("status {status}")),
                    Err(error) => seen.fail(error.to_string()),
                }
                due += Duration::from_secs(1) / RATE;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            seen
        });
        Other {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it and says what it saw.
    pub fn stop(mut self) -> Seen {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.end();
    }
}

impl Seen {
    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.first.get_or_insert(why);
    }
}
