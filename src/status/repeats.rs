//! Which log lines are let through. Of each kind of line a few pass at once; those that follow are
//! counted and told by one line a minute, which says how many there were and shows the last one.
//!
//! [`Repeats`] is pure: the time is an argument. Lines are of one kind when one place in the program says
//! them; an error is of a kind of its own when its words, numbers aside, are new, so that no error
//! waits behind others. Nothing is left out without being counted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How many lines of a kind pass before the rest is summed up.
pub const BURST: u32 = 10;
/// How long lines are summed up for one line.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Kinds that are told apart; beyond, an error is of the kind of its place.
const KINDS: usize = 256;

/// What the log has left out since the start, for the status.
pub static LEFT_OUT: LeftOut = LeftOut {
    summed_up: AtomicU64::new(0),
    lost: AtomicU64::new(0),
};

/// Lines that were not written.
#[derive(Debug)]
pub struct LeftOut {
    /// They were repeats; a summary told how many.
    pub summed_up: AtomicU64,
    /// Nobody read the log, and what waited for a reader was too much.
    pub lost: AtomicU64,
}

impl LeftOut {
    /// Both counts.
    pub fn counts(&self) -> (u64, u64) {
        (self.summed_up.load(Relaxed), self.lost.load(Relaxed))
    }
}

thread_local! {
    static KIND: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// Lets a line be logged as one of a kind: that of the place which has said it, not of the one which
/// logs it.
pub fn of_kind(kind: &'static Location<'static>, log: impl FnOnce()) {
    KIND.set(Some(kind));
    log();
    KIND.set(None);
}

/// The kind of the line that is being logged on this thread, where that was said.
pub fn kind() -> Option<&'static Location<'static>> {
    KIND.get()
}

/// A kind of line: the file and line of the program that says it, and for errors the words.
type Kind = (&'static str, u32, Option<String>);

/// The lines of one kind.
#[derive(Debug)]
struct Seen<L> {
    /// When the burst, or what is being summed up, began.
    since: Instant,
    /// How many have passed.
    passed: u32,
    /// How many have not, and the last of them.
    left_out: u64,
    last: Option<(L, String)>,
}

/// The lines of one kind that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary<L> {
    /// Their level.
    pub level: L,
    /// How many.
    pub count: u64,
    /// Over how long.
    pub over: Duration,
    /// The last one.
    pub last: String,
}

/// What has been logged lately. `L` is what a level is to the one who asks.
#[derive(Debug)]
pub struct Repeats<L> {
    kinds: BTreeMap<Kind, Seen<L>>,
}

impl<L> Default for Repeats<L> {
    fn default() -> Repeats<L> {
        Repeats {
            kinds: BTreeMap::new(),
        }
    }
}

impl<L: Copy> Repeats<L> {
    /// Whether a line passes. One that does not is counted.
    pub fn passes(
        &mut self,
        place: (&'static str, u32),
        level: L,
        is_error: bool,
        message: &str,
        now: Instant,
    ) -> bool {
        let words = (is_error && self.kinds.len() < KINDS).then(|| without_numbers(message));
        let seen = self.kinds.entry((place.0, place.1, words)).or_insert(Seen {
            since: now,
            passed: 0,
            left_out: 0,
            last: None,
        });
        // A burst that ended by itself is over after a while.
        if seen.left_out == 0 && now >= seen.since + PERIOD {
            seen.since = now;
            seen.passed = 0;
        }
        if seen.passed < BURST {
            seen.passed += 1;
            return true;
        }
        if seen.left_out == 0 {
            seen.since = now;
        }
        seen.left_out += 1;
        seen.last = Some((level, message.to_owned()));
        LEFT_OUT.summed_up.fetch_add(1, Relaxed);
        false
    }

    /// What is due to be told. A kind that was quiet for the whole time begins anew.
    pub fn due(&mut self, now: Instant) -> Vec<Summary<L>> {
        self.take(now, PERIOD)
    }

    /// All that was not told yet, at the end.
    pub fn rest(&mut self, now: Instant) -> Vec<Summary<L>> {
        self.take(now, Duration::ZERO)
    }

    fn take(&mut self, now: Instant, after: Duration) -> Vec<Summary<L>> {
        let mut told = Vec::new();
        self.kinds.retain(|_, seen| {
            let over = now.saturating_duration_since(seen.since);
            if over < after {
                return true;
            }
            let Some((level, last)) = seen.last.take() else {
                return false;
            };
            told.push(Summary {
                level,
                count: std::mem::take(&mut seen.left_out),
                over,
                last,
            });
            // It goes on being summed up: the next line passes only after a quiet time.
            seen.since = now;
            true
        });
        told
    }
}

/// Numbers and revisions differ from line to line of one kind.
fn without_numbers(message: &str) -> String {
    let words = message.split_whitespace();
    let kept = words.filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit()));
    kept.take(40).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: (&str, u32) = ("core.rs", 1);

    // M05
    #[test]
    fn repeats_are_summed_up_once_a_minute_and_a_new_error_passes_at_once() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        let mut passed = 0;
        let mut told = Vec::new();
        // 100 changes a second for five minutes.
        for tick in 0..30_000u64 {
            let now = start + Duration::from_millis(10) * tick as u32;
            let line = format!("Change {tick} was applied.");
            passed += u32::from(repeats.passes(HERE, 'i', false, &line, now));
            told.extend(repeats.due(now));
        }
        assert_eq!(passed, BURST);
        assert_eq!(told.len(), 4, "one a minute");
        assert!(told.iter().all(|one| (5_900..=6_001).contains(&one.count)));
        // An error whose words are new passes in the midst of others.
        let now = start + Duration::from_secs(300);
        for number in 0..50 {
            let line = format!("Set {number} is refused.");
            repeats.passes(HERE, 'e', true, &line, now);
        }
        assert!(repeats.passes(HERE, 'e', true, "The disk is full.", now));
        assert!(!repeats.passes(HERE, 'e', true, "Set 51 is refused.", now));
        // After a quiet minute it begins anew.
        let rest = repeats.rest(now);
        let all: u64 = told.iter().chain(&rest).map(|one| one.count).sum();
        assert_eq!(all, 30_000 + 51 - u64::from(2 * BURST));
        let later = now + PERIOD;
        repeats.due(later);
        assert!(repeats.passes(HERE, 'i', false, "Change 1 was applied.", later));
    }

    proptest! {
        // P9
        /// Whatever comes when: each line passes or is counted, and no kind passes more than a burst
        /// in any period and one summary.
        #[test]
        fn no_line_is_lost_and_none_beyond_the_bound_passes(
            lines in prop::collection::vec((0u64..20_000, 0u32..3, any::<bool>()), 0..300),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut repeats = Repeats::default();
            let (mut passed, mut told) = (0, 0);
            let mut times: BTreeMap<(u32, bool), Vec<Instant>> = BTreeMap::new();
            for (pause, line, error) in &lines {
                now += Duration::from_millis(*pause);
                told += repeats.due(now).iter().map(|one| one.count).sum::<u64>();
                if repeats.passes(("a.rs", *line), 'l', *error, "It is so.", now) {
                    passed += 1;
                    times.entry((*line, *error)).or_default().push(now);
                }
            }
            told += repeats.rest(now).iter().map(|one| one.count).sum::<u64>();
            prop_assert_eq!(passed + told, lines.len() as u64);
            for times in times.values() {
                for window in times.windows(2 * BURST as usize + 1) {
                    prop_assert!(window[window.len() - 1] - window[0] >= PERIOD);
                }
            }
        }
    }
}
