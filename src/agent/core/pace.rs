//! How much of the time the sidecar may work while the catalog never rests. Pure: the time and the
//! processor time used are arguments.
//!
//! Rendering, validating and telling a worker cost the processor time that was used meanwhile, that of
//! `haproxy -c` too. A fifth of one processor is theirs, with some of it in hand: a single change, or a
//! handful, is never delayed, and where instances flap a hundred times a second their changes go
//! together. It never decides what is done, only that it waits.

use std::time::Duration;

use tokio::time::Instant;

/// One part in so many of a processor is for work.
const SHARE: u32 = 5;
/// How much work may go at once after a rest.
const IN_HAND: Duration = Duration::from_millis(500);
/// The longest wait, whatever one piece of work took.
const LONGEST: Duration = Duration::from_secs(5);

/// The pace of one sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// When all of it will be in hand again (the "theoretical arrival time" of the cell rate algorithm).
    full_at: Option<Instant>,
    /// Processor time used by the process and its children so far, where that is told.
    used: Option<Duration>,
    rendering: Option<Work>,
    applying: Option<Work>,
}

/// Something under way: when it began, and what had been used and counted until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Work {
    since: Instant,
    used: Option<Duration>,
}

impl Pace {
    /// So much has been used since the start.
    pub(super) fn used(&mut self, used: Duration) {
        self.used = Some(used);
    }

    /// A rendering begins.
    pub(super) fn renders(&mut self, now: Instant) {
        self.rendering = Some(self.begin(now));
    }

    /// It ended.
    pub(super) fn rendered(&mut self, now: Instant) {
        if let Some(work) = self.rendering.take() {
            self.ended(work, now);
        }
    }

    /// A set is applied from now on.
    pub(super) fn applies(&mut self, now: Instant) {
        self.applying = Some(self.begin(now));
    }

    /// That ended. Reloads have a distance of their own, and what failed a pause: they do not count.
    pub(super) fn applied(&mut self, counts: bool, now: Instant) {
        if let Some(work) = self.applying.take().filter(|_| counts) {
            self.ended(work, now);
        }
    }

    fn begin(&self, now: Instant) -> Work {
        Work {
            since: now,
            used: self.used,
        }
    }

    /// On a busy machine work takes longer than it costs; and a HAProxy of ours that ends counts with
    /// all that it has ever used.
    fn ended(&mut self, work: Work, now: Instant) {
        let took = now.saturating_duration_since(work.since);
        let cost = match (work.used, self.used) {
            (Some(before), Some(after)) => after.saturating_sub(before).min(took),
            _ => took,
        };
        self.worked(cost, now);
        // Nothing counts twice.
        for other in [&mut self.rendering, &mut self.applying]
            .into_iter()
            .flatten()
        {
            other.used = other.used.max(self.used);
        }
    }

    /// Something cost so much.
    fn worked(&mut self, took: Duration, now: Instant) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        let latest = now + IN_HAND * SHARE + LONGEST;
        // A wait of any length would end in the latest one as well.
        let full_at = from + took.min(IN_HAND + LONGEST) * SHARE;
        self.full_at = Some(full_at.min(latest));
    }

    /// Nothing is begun before this.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.full_at?.checked_sub(IN_HAND * SHARE)
    }

    /// Whether something may be begun.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.ready_at().is_none_or(|ready_at| now >= ready_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn work_costs_the_processor_time_that_was_used_meanwhile() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let used = Duration::from_millis;
        let mut pace = Pace::default();
        pace.used(used(1_000));
        pace.applies(at(0));
        pace.used(used(1_100));
        pace.renders(at(100));
        // Rendered in 200 ms of a busy machine, of which 40 were its own.
        pace.used(used(1_140));
        pace.rendered(at(300));
        assert_eq!(pace.full_at, Some(at(300 + 40 * 5)));
        // What the rendering has used is counted.
        pace.used(used(1_150));
        pace.applied(true, at(400));
        assert_eq!(pace.full_at, Some(at(500 + 10 * 5)));
        // A child that has run for an hour has ended meanwhile.
        pace.applies(at(10_000));
        pace.used(used(3_600_000));
        pace.applied(true, at(10_060));
        assert_eq!(pace.full_at, Some(at(10_060 + 60 * 5)));
        pace.applies(at(20_000));
        pace.used(used(3_700_000));
        pace.applied(false, at(20_060));
        assert_eq!(pace.full_at, Some(at(10_060 + 60 * 5)));
    }

    /// Plays changes that come after these gaps and cost so much each, both in milliseconds; those that
    /// wait go together. Returns when each piece of work began, and what it took.
    fn play(changes: &[(u64, u64)]) -> Vec<(Duration, Duration)> {
        let start = Instant::now();
        let (mut pace, mut free, mut work) = (Pace::default(), start, Vec::new());
        let mut came = start;
        for (gap, took) in changes {
            came += Duration::from_millis(*gap);
            if came < free {
                continue; // The next begin sees it.
            }
            let began = pace.ready_at().map_or(came, |ready_at| ready_at.max(came));
            assert!(pace.is_ready(began));
            let took = Duration::from_millis(*took);
            free = began + took;
            pace.worked(took, free);
            work.push((began - start, took));
        }
        work
    }

    #[test]
    fn a_handful_of_changes_is_not_delayed() {
        let work = play(&[(0, 60); 8].map(|(_, took)| (100, took)));
        let begun: Vec<u128> = work.iter().map(|(at, _)| at.as_millis()).collect();
        assert_eq!(begun, [100, 200, 300, 400, 500, 600, 700, 800]);
    }

    // M01
    #[test]
    fn flapping_is_worked_on_for_a_fifth_of_the_time() {
        let minute = 60_000 / 10;
        let work = play(&vec![(10, 60); minute]);
        let busy: Duration = work.iter().map(|(_, took)| *took).sum();
        assert!(
            busy <= Duration::from_secs(60) / SHARE + IN_HAND * 2,
            "{busy:?}"
        );
        assert!(busy >= Duration::from_secs(11), "{busy:?}");
        // Nothing waits longer than the work before it asks for.
        let late = work.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
        assert!(late <= Some(Duration::from_millis(60 * 6 + 10)), "{late:?}");
    }

    // M04
    #[test]
    fn work_that_takes_very_long_is_not_waited_for_much_longer() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.worked(Duration::from_secs(3_600), now);
        assert_eq!(pace.ready_at(), Some(now + LONGEST));
        assert!(!pace.is_ready(now));
        assert!(pace.is_ready(now + LONGEST));
    }

    proptest! {
        #[test]
        fn work_never_has_more_than_its_share_of_any_long_time(
            changes in prop::collection::vec((0u64..400, 1u64..1_000), 1..300),
        ) {
            let work = play(&changes);
            for (first, (from, _)) in work.iter().enumerate() {
                let mut busy = Duration::ZERO;
                for (began, took) in &work[first..] {
                    // What was in hand, and one piece that was begun with next to nothing of it.
                    prop_assert!(busy <= (*began - *from) / SHARE + IN_HAND + Duration::from_secs(1));
                    busy += *took;
                }
            }
        }

        #[test]
        fn nothing_waits_for_ever(
            changes in prop::collection::vec((0u64..400, 0u64..20_000), 1..300),
        ) {
            let work = play(&changes);
            for pair in work.windows(2) {
                let gap = pair[1].0 - (pair[0].0 + pair[0].1);
                prop_assert!(gap <= LONGEST + Duration::from_millis(400));
            }
        }

        #[test]
        fn changes_with_time_between_them_go_at_once(
            changes in prop::collection::vec((0u64..5_000, 0u64..500), 1..100),
        ) {
            let (mut pace, mut now) = (Pace::default(), Instant::now());
            for (more, took) in changes {
                prop_assert!(pace.is_ready(now));
                now += Duration::from_millis(took);
                pace.worked(Duration::from_millis(took), now);
                now += Duration::from_millis(took * u64::from(SHARE - 1) + more);
            }
        }
    }
}
