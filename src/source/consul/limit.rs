//! How soon a watch may ask again: a token bucket for answers that bring nothing new, a floor for
//! answers that do, and a backoff for failures. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

use super::super::backoff::{BACKOFF_LEAST, backoff};

/// An answer that Consul held for so long shows that all is well.
const WELL: Duration = Duration::from_millis(500);
/// And so does a time without a failure.
const QUIET: Duration = Duration::from_secs(30);
/// Requests a watch may make at once before the bucket holds it.
pub(super) const BURST: u32 = 2;
/// How long one token takes to come back; Consul's documentation suggests to poll at this rate.
pub(super) const REFILL: Duration = Duration::from_secs(15);
/// The same for the list of all services: its index moves with each registration of any service, so that the owner of one
/// service would delay the discovery of others. It is one request a second, for all services together.
pub(super) const REFILL_OF_LISTS: Duration = Duration::from_secs(1);
/// How much sooner a token comes back for the time that Consul held a request: an answer that was
/// held for half a second costs nothing. Consul wakes a watch more than once for one event (the
/// instance, then its check), and a watch that was held for long must not be late for the second.
const HELD: u32 = 30;
/// How many answers that bring nothing new cost nothing after one that did. Where instances come and go
/// many times a second Consul also wakes a watch for what it does not see, such as a critical instance's
/// weight, and must not be late for the next change because of that.
const LIVELY: u32 = 32;
/// The least time between two requests of one watch, however fast its content changes.
pub(super) const FLOOR: Duration = Duration::from_millis(20);
/// How many requests may follow each other so closely, and how soon each comes back: a watch whose content
/// never rests is asked ten times a second, for reading a large answer costs more than most changes.
const CLOSE: u32 = 32;
const STEADY: Duration = Duration::from_millis(100);
/// The longest backoff.
const BACKOFF_MOST: Duration = Duration::from_secs(30);

/// The pace of one watch.
///
/// Each request takes a token. Content that really changed fills the bucket, so changes are
/// followed at once, and lets a number of answers without news pass; time that Consul held a request
/// gives its token back early; a failure and the first answer after it give theirs back, because the
/// backoff paces them. The backoff starts anew only when all is well, not at the first answer.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// How long one token takes to come back.
    refill: Duration,
    /// When the bucket will be full again (the "theoretical arrival time" of the cell rate algorithm).
    full_at: Option<Instant>,
    /// When the last request went out.
    sent_at: Option<Instant>,
    /// When as many requests as may be close together can be so again.
    close_at: Option<Instant>,
    /// How many more answers without news are let pass.
    credit: u32,
    /// Failures since the last good answer.
    failures: u32,
    /// How far the backoff has grown.
    step: u32,
    /// When the last request went out that failed.
    failed_at: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            refill: REFILL,
            full_at: None,
            sent_at: None,
            close_at: None,
            credit: 0,
            failures: 0,
            step: 0,
            failed_at: None,
        }
    }
}

impl Pace {
    /// The pace of a list of all services.
    pub(super) fn of_list() -> Pace {
        Pace {
            refill: REFILL_OF_LISTS,
            ..Pace::default()
        }
    }

    /// How long the next request must wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let bucket = self
            .full_at
            .map_or(Duration::ZERO, |full_at| {
                full_at.saturating_duration_since(now)
            })
            .saturating_sub(self.refill * (BURST - 1));
        bucket.max(self.soonest(now))
    }

    /// How long a request must wait for which there is a reason.
    pub(super) fn soonest(&self, now: Instant) -> Duration {
        let floor = self.sent_at.map_or(Duration::ZERO, |sent_at| {
            (sent_at + FLOOR).saturating_duration_since(now)
        });
        let steady = self
            .close_at
            .map_or(Duration::ZERO, |close_at| {
                close_at.saturating_duration_since(now)
            })
            .saturating_sub(STEADY * (CLOSE - 1));
        floor.max(steady)
    }

    /// A request goes out.
    pub(super) fn asked(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full_at| full_at.max(now)) + self.refill);
        self.sent_at = Some(now);
        self.close_at = Some(self.close_at.map_or(now, |close_at| close_at.max(now)) + STEADY);
    }

    /// The request was given up unanswered, so that another could go out: it costs nothing.
    pub(super) fn given_up(&mut self) {
        self.full_at = self
            .full_at
            .and_then(|full_at| full_at.checked_sub(self.refill));
    }

    /// The connection was lost on which the request waited, which says nothing of the question: how long to wait before
    /// it is asked again.
    pub(super) fn broke(&mut self, chance: f64) -> Duration {
        self.given_up();
        let pause = backoff(self.step, chance, BACKOFF_MOST);
        self.step = self.step.saturating_add(1);
        pause
    }

    /// A good answer came; `changed` when its content differs from the one before. The first
    /// answer of a watch does not count as a change. `held` is how long Consul held the request.
    pub(super) fn answered(&mut self, changed: bool, held: Duration) {
        let returned = std::mem::take(&mut self.failures) > 0;
        if changed || held >= WELL {
            self.step = 0;
        }
        let given_back = match self.credit {
            0 if !returned => held.saturating_mul(HELD).min(self.refill),
            _ => self.refill,
        };
        self.credit = match changed {
            true => LIVELY,
            false => self.credit.saturating_sub(1),
        };
        self.full_at = self
            .full_at
            .filter(|_| !changed)
            .and_then(|full_at| full_at.checked_sub(given_back));
    }

    /// The request failed: how long to wait before the next one. `chance` is in 0..1 (full jitter).
    pub(super) fn failed(&mut self, chance: f64, retry_after: Option<Duration>) -> Duration {
        self.given_up();
        if let (Some(now), Some(before)) = (
            self.sent_at,
            std::mem::replace(&mut self.failed_at, self.sent_at),
        ) && now.saturating_duration_since(before) >= QUIET
        {
            self.step = 0;
        }
        let backoff = backoff(self.step, chance, BACKOFF_MOST);
        self.step = self.step.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        match retry_after {
            Some(asked) => asked + backoff.min(asked / 4),
            None => backoff,
        }
        .max(BACKOFF_LEAST)
    }

    /// Failures since the last good answer.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::backoff::BACKOFF_FIRST;
    use super::super::index;
    use super::*;

    /// Plays a watch for `span` of model time: each answer takes its delay and bears its index.
    /// Returns when each request went out.
    fn play(span: Duration, answers: &[(u64, Option<u64>, bool)]) -> Vec<(Duration, u64)> {
        let start = Instant::now();
        let (mut now, mut pace, mut index) = (start, Pace::default(), index::FRESH);
        let (mut requests, mut first) = (Vec::new(), true);
        for (delay, received, changed) in answers.iter().cycle() {
            now += pace.wait(now);
            if now - start > span {
                break;
            }
            pace.asked(now);
            requests.push((now - start, index));
            now += Duration::from_millis(*delay);
            pace.answered(*changed && !first, Duration::from_millis(*delay));
            first = false;
            index = index::next(index, *received);
        }
        requests
    }

    /// At most two, then one for each 15 s or for each half second that Consul held the requests.
    fn assert_bounded(requests: &[(Duration, u64)], held: impl Fn(usize) -> u64) {
        let mut before = 0;
        for (count, (at, _)) in requests.iter().enumerate() {
            let earned = at.as_millis() + u128::from(HELD) * u128::from(before);
            let allowed = 2 + earned / REFILL.as_millis();
            before += held(count).min(500);
            assert!((count as u128) < allowed, "request {} at {at:?}", count + 1);
        }
    }

    // B02 B03 B05
    #[test]
    fn a_misbehaving_index_gives_two_requests_and_then_one_per_15_s() {
        let minute = Duration::from_secs(61);
        let rising: Vec<_> = (1..200).map(|index| (0, Some(index), false)).collect();
        for answers in [
            vec![(0, None, false)],
            vec![(0, Some(9), false), (0, Some(5), false)],
            rising,
        ] {
            let requests = play(minute, &answers);
            assert_bounded(&requests, |_| 0);
            assert_eq!(requests.len(), 6, "{requests:?}");
            assert!(requests[1].0 <= FLOOR, "{requests:?}");
        }
    }

    #[test]
    fn a_list_of_services_whose_index_moves_without_news_is_read_each_second() {
        let (start, mut pace) = (Instant::now(), Pace::of_list());
        let (mut now, mut requests) = (start, 0);
        while now - start < Duration::from_secs(60) {
            now += pace.wait(now);
            pace.asked(now);
            now += Duration::from_millis(1);
            pace.answered(false, Duration::from_millis(1));
            requests += 1;
        }
        assert!((58..=64).contains(&requests), "{requests}");
    }

    // M01
    #[test]
    fn content_that_changes_100_times_a_second_is_followed_10_times_a_second() {
        let requests = play(Duration::from_secs(60), &[(10, Some(5), true)]);
        let within = |seconds| {
            let span = Duration::from_secs(seconds);
            requests.iter().filter(|(at, _)| *at < span).count()
        };
        assert!(within(1) >= CLOSE as usize, "{}", within(1));
        let all = CLOSE as usize + 600;
        assert!((all - 5..=all + 1).contains(&within(60)), "{}", within(60));
    }

    // M01
    #[test]
    fn content_that_changes_5_times_a_second_is_never_late() {
        let requests = play(Duration::from_secs(60), &[(200, Some(5), true)]);
        let late = requests
            .windows(2)
            .find(|pair| pair[1].0 - pair[0].0 > Duration::from_millis(200));
        assert_eq!(late, None);
    }

    #[test]
    fn changes_are_followed_promptly_among_many_that_the_watch_does_not_see() {
        let mut answers = vec![(10, Some(5), false); 20];
        answers.push((10, Some(5), true));
        let requests = play(Duration::from_secs(20), &answers);
        let late = requests
            .windows(2)
            .skip(20)
            .find(|pair| pair[1].0 - pair[0].0 > STEADY);
        assert_eq!(late, None);
    }

    #[test]
    fn an_index_that_misbehaves_after_a_change_is_held_soon() {
        let mut answers = vec![(0, Some(5), false), (0, Some(6), true)];
        answers.extend((7..300).map(|index| (0, Some(index), false)));
        let requests = play(Duration::from_secs(61), &answers);
        assert!(requests.len() <= LIVELY as usize + 8, "{}", requests.len());
    }

    #[test]
    fn a_watch_that_was_held_follows_the_second_wake_of_one_event_at_once() {
        // Held for long, then woken by the registration, by its first check, and by its passing.
        let answers = [
            (9_000, Some(5), false),
            (30, Some(6), false),
            (900, Some(7), true),
        ];
        let requests = play(Duration::from_secs(11), &answers);
        let gaps: Vec<_> = requests
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        assert!(gaps[1] < Duration::from_millis(60), "{gaps:?}");
    }

    #[test]
    fn a_watch_that_blocks_its_full_wait_is_never_held() {
        let requests = play(Duration::from_secs(300), &[(60_000, Some(5), false)]);
        assert!(requests.len() >= 5);
        for pair in requests.windows(2).skip(1) {
            assert_eq!(pair[1].0 - pair[0].0, Duration::from_secs(60));
        }
    }

    #[test]
    fn a_failure_does_not_use_up_a_token() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.asked(now);
            pace.failed(0.5, None);
        }
        assert!(pace.wait(now) <= FLOOR);
        assert_eq!(pace.failures(), 10);
        pace.answered(false, Duration::ZERO);
        assert_eq!(pace.failures(), 0);
    }

    // A01
    #[test]
    fn a_watch_that_comes_back_is_not_held_by_what_failed_before() {
        let (mut now, mut pace) = (Instant::now(), Pace::default());
        for _ in 0..3 {
            pace.asked(now);
            now += pace.failed(0.5, None);
            // The answer that brings it up to date, and the question that Consul will hold.
            pace.asked(now);
            pace.answered(false, Duration::ZERO);
            assert!(pace.wait(now) <= FLOOR);
            now += pace.wait(now);
            pace.asked(now);
            let held = Duration::from_secs(2);
            now += held;
            pace.answered(false, held);
            assert_eq!(pace.step, 0);
        }
    }

    #[test]
    fn failures_and_answers_in_turn_are_spread_as_failures_alone_are() {
        let start = Instant::now();
        let (mut now, mut pace, mut requests) = (start, Pace::default(), 0);
        while now - start < Duration::from_secs(60) {
            pace.asked(now);
            now += pace.failed(0.5, None);
            pace.asked(now);
            pace.answered(false, Duration::ZERO);
            now += pace.wait(now);
            requests += 2;
        }
        assert!(requests <= 24, "{requests}");
        // After a quiet time the backoff is short again.
        now += QUIET;
        pace.asked(now);
        assert!(pace.failed(0.5, None) < BACKOFF_FIRST);
    }

    proptest! {
        // B02 B03
        #[test]
        fn unchanged_content_that_comes_at_once_is_asked_for_every_15_s(
            answers in prop::collection::vec((0u64..40_000, prop::option::of(0u64..9), Just(false)), 1..40),
        ) {
            let held = |count: usize| answers[count % answers.len()].0;
            assert_bounded(&play(Duration::from_secs(900), &answers), held);
        }

        #[test]
        fn no_stream_of_answers_beats_the_floor(
            answers in prop::collection::vec((0u64..40, prop::option::of(0u64..9), any::<bool>()), 1..40),
        ) {
            let requests = play(Duration::from_secs(20), &answers);
            for pair in requests.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= FLOOR);
            }
        }

        // A01 A09
        #[test]
        fn a_backoff_is_bounded_and_honours_retry_after(
            step in 0u32..200, chance in 0.0f64..1.0, asked in prop::option::of(0u64..300),
        ) {
            let mut pace = Pace { step, ..Pace::default() };
            let asked = asked.map(Duration::from_secs);
            let wait = pace.failed(chance, asked);
            prop_assert!(wait >= BACKOFF_LEAST);
            prop_assert!(wait >= asked.unwrap_or_default());
            prop_assert!(wait <= asked.unwrap_or_default() + BACKOFF_MOST);
        }
    }
}
