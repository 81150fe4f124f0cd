//! How many requests may be under way at the same time, and which of them may wait in Consul. Pure: time is an
//! argument.
//!
//! Consul allows a client address 200 connections by default (`limits.http_max_conns_per_client`), shared by every
//! program on the machine. Consul 1.8.7 closes those beyond without an answer; newer ones send 429.

use std::time::{Duration, Instant};

/// How long a limit of Consul's is believed before more is tried.
const BELIEVED: Duration = Duration::from_secs(60);
/// A limit of fewer than this is believed when two requests were refused, so shortly after each other.
const FEW: usize = 8;
const SHORTLY: Duration = Duration::from_secs(10);
/// What is refused so soon after a limit was found says nothing new.
const TOGETHER: Duration = Duration::from_secs(1);

/// The requests that may be under way.
#[derive(Debug)]
pub(super) struct Budget {
    /// More are never under way.
    most: usize,
    /// So many Consul took before it refused one, and when that was.
    found: Option<(usize, Instant)>,
    /// When a request was refused that alone is no sign of a limit.
    refused: Option<Instant>,
}

impl Budget {
    pub(super) fn new(most: usize) -> Budget {
        Budget {
            most,
            found: None,
            refused: None,
        }
    }

    /// How many requests may be under way. Where Consul takes fewer than wanted, a quarter is left to others.
    pub(super) fn places(&self) -> usize {
        let places = self.found.map_or(self.most, |(taken, _)| taken * 3 / 4);
        places.clamp(1, self.most)
    }

    /// How many of them may wait in Consul; the others stay free for what has to be asked at once.
    pub(super) fn holds(&self) -> usize {
        let places = self.places();
        places - places.div_ceil(6)
    }

    /// The limit of Consul's that is believed.
    pub(super) fn found(&self) -> Option<usize> {
        self.found.map(|(taken, _)| taken)
    }

    /// Consul refused a request for its connection that was sent when so many were under way, this one among them.
    pub(super) fn refused(&mut self, sent: Instant, under_way: usize, now: Instant) {
        let taken = under_way.saturating_sub(1).max(1);
        match self.found {
            Some((known, at)) if sent <= at => self.found = Some((known.min(taken), at)),
            // Consul may not have noticed yet what was closed for the limit.
            Some((_, at)) if now.saturating_duration_since(at) < TOGETHER => {}
            _ => {
                // One alone may have another cause.
                let again = self.again(now);
                self.found = (again || taken >= FEW)
                    .then_some((taken, now))
                    .or(self.found);
            }
        }
    }

    /// Whether a request was refused not long before, too.
    fn again(&mut self, now: Instant) -> bool {
        let before = self.refused.replace(now);
        before.is_some_and(|at| now.saturating_duration_since(at) < SHORTLY)
    }

    /// When more is tried again.
    pub(super) fn retries_at(&self) -> Option<Instant> {
        self.found.map(|(_, at)| at + BELIEVED)
    }

    /// Consul is away or another one, or time has passed: whatever limit there was may be gone.
    pub(super) fn forget(&mut self) {
        self.found = None;
    }
}
