//! Whether the loop turns, told to others without asking it: a loop that stands still cannot answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A loop that has not turned for so long is not alive. The loop turns at least once a second and does
/// nothing itself that takes long.
pub const ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// The loop marks each of its turns here; cheap to clone.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds from the start to the last turn.
    turned: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat {
            started: Instant::now(),
            turned: Arc::default(),
        }
    }
}

impl Heartbeat {
    /// The loop turns.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started);
        self.turned.store(
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }

    /// How long ago the loop turned last.
    pub fn quiet_for(&self, now: Instant) -> Duration {
        let last = self.started + Duration::from_millis(self.turned.load(Relaxed));
        now.saturating_duration_since(last)
    }

    /// How long ago the process started.
    pub fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Whether the loop turns.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.quiet_for(now) <= ALIVE_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // I07
    #[test]
    fn a_loop_that_stands_still_is_not_alive() {
        let heartbeat = Heartbeat::default();
        let start = heartbeat.started;
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        heartbeat.clone().beat(after(100));
        assert!(heartbeat.is_alive(after(110)));
        assert!(!heartbeat.is_alive(after(111)));
        assert_eq!(heartbeat.quiet_for(after(111)), Duration::from_secs(11));
        heartbeat.beat(after(111));
        assert!(heartbeat.is_alive(after(112)));
        // Time that seems to go back is no sign of anything.
        assert!(heartbeat.is_alive(start));
    }
}
