//! The loop's own pulse: it turns at least once a second, which is marked for those who watch it: the
//! status listener, and systemd where the unit has `WatchdogSec`.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::systemd::Systemd;
use crate::status::heartbeat::Heartbeat;

/// The longest time between two turns of the loop, and the shortest between two marks.
const SLOW: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);

/// Marks the turns of the loop.
#[derive(Debug)]
pub struct Pulse {
    heartbeat: Heartbeat,
    /// How often systemd wants to hear of us at least (`WATCHDOG_USEC`), if it does.
    watchdog: Option<Duration>,
    told: Option<Instant>,
    next: Instant,
}

impl Pulse {
    /// As the environment says.
    pub fn new(heartbeat: Heartbeat) -> Pulse {
        Pulse::with(heartbeat, sd_notify::watchdog_enabled())
    }

    fn with(heartbeat: Heartbeat, watchdog: Option<Duration>) -> Pulse {
        Pulse {
            heartbeat,
            watchdog,
            told: None,
            next: Instant::now(),
        }
    }

    /// The loop turns.
    pub fn beat(&mut self, systemd: &mut Systemd) {
        let now = Instant::now();
        self.heartbeat.beat(now.into_std());
        if self.is_to_be_told(now) {
            self.told = Some(now);
            systemd.watchdog();
        }
        self.next = now + self.every();
    }

    /// Waits until the loop must turn, whether or not anything happens.
    pub async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// systemd asks for a sign in half its time at the latest (sd_watchdog_enabled(3)); a third leaves
    /// room for a slow turn.
    fn every(&self) -> Duration {
        match self.watchdog {
            Some(time) => (time / 3).clamp(QUICK, SLOW),
            None => SLOW,
        }
    }

    fn is_to_be_told(&self, now: Instant) -> bool {
        let every = self.every();
        self.watchdog.is_some() && self.told.is_none_or(|told| now >= told + every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // I07
    #[tokio::test(start_paused = true)]
    async fn the_loop_turns_once_a_second_and_systemd_hears_of_it_in_time() {
        let heartbeat = Heartbeat::default();
        let mut idle = Pulse::with(heartbeat.clone(), None);
        let start = Instant::now();
        idle.beat(&mut Systemd::default());
        idle.due().await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert!(!idle.is_to_be_told(Instant::now()));

        let limit = Duration::from_millis(900);
        let mut pulse = Pulse::with(heartbeat, Some(limit));
        let mut last = Instant::now();
        for turn in 0..100 {
            let due = pulse.is_to_be_told(Instant::now());
            if due {
                assert!(last.elapsed() < limit / 2, "turn {turn}");
                last = Instant::now();
            }
            pulse.beat(&mut Systemd::default());
            // A busy loop turns more often than anybody needs to know.
            assert!(!pulse.is_to_be_told(Instant::now()));
            match turn % 3 {
                0 => pulse.due().await,
                _ => tokio::time::advance(Duration::from_millis(20)).await,
            }
        }
    }
}
