//! Which watch asks while Consul gives no answers, and when the others follow. Pure: time is an argument.
//!
//! Backoffs grow long, so that a Consul that comes back is not met by all at once. One watch of each
//! source stays at a short one: the first answer it gets lets the others ask, a moment apart.
//! Nothing here sends, waits or draws lots.

use std::time::{Duration, Instant};

/// The longest backoff of the watch that asks for all.
pub(super) const ALONE_MOST: Duration = Duration::from_secs(4);
/// A watch that has not been heard of for so long does not ask for all any more.
const TERM: Duration = Duration::from_secs(90);
/// How far apart the others follow. Not less for few watches: Consul 1.8.7 holds questions while it elects a
/// leader and then answers those of all sources at once.
const APART: Duration = Duration::from_secs(1);
/// No watch is called back sooner after its own failure.
const REST: Duration = Duration::from_millis(500);

/// What one source knows of its Consul being away.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The watch that asks for all, and until when that is so without a sign of it.
    alone: Option<(u64, Instant)>,
    /// Whether a watch has failed since the last answer to any.
    away: bool,
}

impl Outage {
    /// A watch has failed for a reason that concerns all. Whether it is the one to ask for all.
    pub(super) fn failed(&mut self, watch: u64, now: Instant) -> bool {
        self.away = true;
        match self.alone {
            Some((other, until)) if other != watch && now < until => false,
            _ => {
                self.alone = Some((watch, now + TERM));
                true
            }
        }
    }

    /// A watch got an answer. Whether the others must be told that Consul is back.
    pub(super) fn answered(&mut self) -> bool {
        self.alone = None;
        std::mem::take(&mut self.away)
    }

    /// A watch has ended. Whether another must take its place.
    pub(super) fn ended(&mut self, watch: u64) -> bool {
        let was = self.alone.is_some_and(|(alone, _)| alone == watch);
        if was {
            self.alone = None;
        }
        was
    }
}

/// When a watch asks that failed at `failed` and was told at `now` that Consul is back. `chance` is in 0..1.
pub(super) fn called_back(failed: Instant, now: Instant, chance: f64) -> Instant {
    let chance = chance.clamp(0.0, 1.0);
    (now + APART.mul_f64(chance)).max(failed + REST.mul_f64(chance))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::limit::Pace;
    use super::*;

    /// When each request of many sources went out: while Consul was away, and once it was back. No time
    /// passes between a request and its refusal or answer.
    struct Played {
        before: Vec<Duration>,
        after: Vec<Duration>,
    }

    /// `sources` with `watches` each lose Consul at zero and find it again at `back`.
    fn play(sources: usize, watches: usize, back: Duration, seed: u64) -> Played {
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut played = Played {
            before: Vec::new(),
            after: Vec::new(),
        };
        for _ in 0..sources {
            let mut outage = Outage::default();
            let mut paces = vec![Pace::default(); watches];
            let mut due: Vec<Option<Instant>> = vec![Some(start); watches];
            let mut failed = vec![start; watches];
            while let Some((at, now)) = due
                .iter()
                .enumerate()
                .filter_map(|(at, due)| Some((at, (*due)?)))
                .min_by_key(|(_, due)| *due)
            {
                if now - start < back {
                    played.before.push(now - start);
                    let alone = outage.failed(at as u64, now);
                    let most = alone.then_some(ALONE_MOST);
                    failed[at] = now;
                    due[at] = Some(now + paces[at].failed(random.f64(), None, most));
                } else {
                    played.after.push(now - start);
                    due[at] = None;
                    if outage.answered() {
                        for (other, due) in due.iter_mut().enumerate() {
                            let Some(due) = due else { continue };
                            let called = called_back(failed[other], now, random.f64());
                            *due = (*due).min(called);
                        }
                    }
                }
            }
        }
        played
    }

    /// The most of `times` within any quarter of a second.
    fn peak(times: &[Duration]) -> usize {
        let mut times = times.to_vec();
        times.sort();
        let end =
            |from: &Duration| times.partition_point(|at| *at < *from + Duration::from_millis(250));
        times
            .iter()
            .enumerate()
            .map(|(first, from)| end(from) - first)
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        // B25
        #[test]
        fn after_any_outage_all_are_back_within_5_s_and_not_at_once(
            seed: u64, away in 60u64..600, watches in 1usize..20,
        ) {
            let back = Duration::from_secs(away);
            let played = play(50, watches, back, seed);
            prop_assert_eq!(played.after.len(), 50 * watches);
            let last = played.after.iter().max().unwrap();
            prop_assert!(*last <= back + Duration::from_secs(5), "{last:?}");
            // An even spread over 4 s would be a sixteenth in each quarter second.
            let peak = peak(&played.after);
            prop_assert!(peak <= 50 * watches / 3 + 5, "{peak} of {}", played.after.len());
        }
    }

    // B25
    #[test]
    fn a_long_outage_costs_each_source_less_than_a_request_a_second() {
        let while_away = Duration::from_secs(660);
        for watches in [1, 10] {
            let played = play(50, watches, while_away, 7);
            // Past the first minute: one watch at 2 s on average, each other one at 15 s.
            let late = played
                .before
                .iter()
                .filter(|at| **at > Duration::from_secs(60))
                .count();
            let each = 0.55 + 0.08 * (watches - 1) as f64;
            assert!((late as f64) < 50.0 * 600.0 * each, "{watches}: {late}");
            let steady: Vec<_> = played
                .before
                .into_iter()
                .filter(|at| *at > Duration::from_secs(60))
                .collect();
            assert!(peak(&steady) <= 30 * watches, "{}", peak(&steady));
        }
    }

    #[test]
    fn one_watch_asks_for_all_and_another_takes_its_place() {
        let now = Instant::now();
        let mut outage = Outage::default();
        assert!(!outage.answered());
        assert!(outage.failed(1, now));
        assert!(!outage.failed(2, now));
        assert!(outage.failed(1, now));
        assert!(!outage.ended(2));
        assert!(outage.ended(1));
        assert!(outage.failed(2, now));
        assert!(!outage.failed(1, now));
        assert!(outage.failed(1, now + TERM));
        assert!(outage.answered());
        assert!(!outage.answered());
    }
}
