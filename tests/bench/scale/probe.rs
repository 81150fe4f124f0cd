//! Waits until traffic shows a change: HAProxy's stats socket says that the server is there, then a real
//! request is answered by it. A server that must get no more requests is gone by the stats socket alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::subject::running;
use crate::wire::Connection;
use support::interrupted;

/// How long a change may take; a longer one counts as this long.
pub const LIMIT: Duration = Duration::from_secs(15);
/// The pause between two looks, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_micros(300), Duration::from_millis(20)];

/// What a HAProxy is asked by.
pub struct Probe {
    stats: PathBuf,
    entrance: SocketAddr,
    connection: Option<Connection>,
}

/// What must be seen.
pub struct Wanted<'a> {
    /// The backend.
    pub backend: &'a str,
    /// The host that leads to it.
    pub host: &'a str,
    /// The server's address.
    pub address: Ipv4Addr,
    /// Whether requests reach it, or else none does.
    pub serves: bool,
}

impl Probe {
    /// For the HAProxy with this stats socket that clients reach at `entrance`.
    pub fn new(stats: &Path, entrance: SocketAddr) -> Probe {
        Probe {
            stats: stats.to_owned(),
            entrance,
            connection: None,
        }
    }

    /// How long after `began` it was seen, if it was within [`LIMIT`].
    pub fn wait(&mut self, wanted: &Wanted<'_>, began: Instant) -> Option<Duration> {
        loop {
            if self.seen(wanted) {
                return Some(began.elapsed());
            }
            let waited = began.elapsed();
            if waited > LIMIT || interrupted() {
                return None;
            }
            let [least, most] = PAUSES;
            std::thread::sleep((waited / 50).clamp(least, most));
        }
    }

    fn seen(&mut self, wanted: &Wanted<'_>) -> bool {
        // Nothing is known while HAProxy does not answer.
        let Some(places) = running(&self.stats, wanted.backend) else {
            return false;
        };
        let listed = places.iter().any(|(at, _)| at.ip() == wanted.address);
        match wanted.serves {
            // Requests go round the servers in turn.
            true => listed && (0..=2 * places.len()).any(|_| self.answered(wanted)),
            false => !listed,
        }
    }

    /// Sends a request and says whether the server answered it.
    fn answered(&mut self, wanted: &Wanted<'_>) -> bool {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", wanted.host);
        let kept = self.connection.take();
        let connection = kept.map_or_else(|| Connection::open(self.entrance, LIMIT), Ok);
        let Ok(mut connection) = connection else {
            return false;
        };
        let Ok(answer) = connection.ask(request.as_bytes()) else {
            return false;
        };
        self.connection = (!answer.closes).then_some(connection);
        answer.status == 200 && answer.body == wanted.address.to_string().as_bytes()
    }
}
