//! What a failure means: for one question, for a limit of Consul's, or that Consul is away. While it is away one
//! question at a time is asked, another one each time, so that one that always fails cannot hide that Consul is back.

use std::time::{Duration, Instant};

use super::super::super::backoff::backoff;
use super::question::{At, Entry, How, Sort, Then};
use super::{Schedule, Step};

/// The longest pause between two questions during an outage.
pub(super) const AWAY_MOST: Duration = Duration::from_secs(4);
/// How much later one is asked again that a limit of Consul's kept out.
const REFUSED: Duration = Duration::from_millis(250);
/// Failures of held questions so close together are one.
const TOGETHER: Duration = Duration::from_secs(1);
/// Within how long after an outage a source begins to ask for everything: half as long as the outage, within these.
/// Not less for few questions: Consul 1.8.7 holds those of an election and then answers those of all sources at once.
pub(super) const APART_LEAST: Duration = Duration::from_secs(1);
pub(super) const APART_MOST: Duration = Duration::from_secs(3);
/// A question whose connection is refused so often in a row, while others are answered, fails.
const REFUSALS: u32 = 3;

/// Why a question was not answered.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::source::consul) struct Failure {
    /// Every other one is likely to fail for the same reason.
    pub everyone: bool,
    /// The connection was lost before any answer.
    pub lost: bool,
    /// The connection was refused after it had been taken, or by 429: that may be a limit of Consul's.
    pub refused: bool,
    /// Another address might do better.
    pub address: bool,
    /// Nobody listens.
    pub unreachable: bool,
    /// It is to be asked no sooner.
    pub retry_after: Option<Duration>,
    /// And so is every other one.
    pub throttled: bool,
}

/// What is to be told of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::consul) enum Told {
    /// Nothing: it will be asked again at once.
    Nothing,
    /// It fails.
    Fails {
        attempts: u32,
        retry_in: Duration,
        /// An outage has begun or goes on.
        outage: bool,
    },
}

#[derive(Debug)]
pub(super) struct Outage {
    pub(super) began: Instant,
    pub(super) step: u32,
    /// When the next question is asked.
    pub(super) at: Instant,
    /// The question that is asked for all.
    pub(super) asking: Option<u64>,
}

impl Schedule {
    /// No answer came.
    pub(in crate::source::consul) fn failed(
        &mut self,
        number: u64,
        failure: Failure,
        now: Instant,
    ) -> Told {
        let probes = self
            .outage
            .as_ref()
            .is_some_and(|outage| outage.asking == Some(number));
        let Some(asking) = self.ended(number) else {
            return Told::Nothing;
        };
        let chance = self.random.f64();
        if let Some(asked) = failure.retry_after.filter(|_| failure.throttled) {
            let jitter = (asked / 4)
                .min(Duration::from_secs(5))
                .mul_f64(self.random.f64());
            self.not_before = self.not_before.max(Some(now + asked + jitter));
        }
        if failure.unreachable {
            self.budget.forget();
        }
        // Of many that are refused at once the last one shows that it is no limit.
        let lives = self.answered.is_some_and(|at| at >= asking.sent) || self.under_way > 0;
        let refusals = self.entries.get(&number).map_or(0, |entry| entry.refusals);
        let refused = failure.refused && lives && self.outage.is_none() && refusals < REFUSALS;
        let lost = failure.lost && asking.how != How::Read;
        let Some(entry) = self.entries.get_mut(&number) else {
            return Told::Nothing;
        };
        if refused || lost {
            let mut pause = entry.pace.broke(chance);
            if refused {
                pause += REFUSED;
                entry.refusals += 1;
            }
            self.ask_again(number, At::Later(now + pause, Then::First));
            if refused {
                self.budget.refused(asking.sent, asking.beside, now);
            }
            return Told::Nothing;
        }
        entry.fails = true;
        if !failure.refused {
            entry.refusals = 0;
        }
        let all_fail = || self.entries.values().all(|entry| entry.fails);
        let everyone =
            failure.everyone || (failure.address && (self.outage.is_some() || all_fail()));
        // Many that are held fail together: there need not be an answer in between.
        let since = match asking.how {
            How::Read => asking.sent,
            How::Hold | How::Turn => now.checked_sub(TOGETHER).unwrap_or(now),
        };
        let none_since = self.answered.is_none_or(|at| at < since);

        let doubted = self.doubt.is_some_and(|doubted| doubted != number);
        let alone = self
            .entries
            .values()
            .filter(|entry| entry.sort != Sort::Errand)
            .count()
            < 2;
        let sure = failure.unreachable || doubted || alone;
        if everyone && none_since && !sure && self.outage.is_none() {
            self.doubt = Some(number);
            self.ask_another(number);
        }
        if everyone && (self.outage.is_some() || (none_since && sure)) {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.pace.given_up();
            }
            return self.out(number, probes, now);
        }
        if probes {
            // To refuse is to answer.
            self.returned(now);
        }
        let Some(entry) = self.entries.get_mut(&number) else {
            return Told::Nothing;
        };
        let retry_in = entry.pace.failed(chance, failure.retry_after);
        let attempts = entry.pace.failures();
        self.ask_again(number, At::Later(now + retry_in, Then::First));
        Told::Fails {
            attempts,
            retry_in,
            outage: false,
        }
    }

    /// An errand is not asked again: whoever sent it hears that it failed.
    fn ask_again(&mut self, number: u64, at: At) {
        let entry = self.entries.get(&number);
        if entry.is_some_and(|entry| entry.sort != Sort::Errand) {
            self.enter(number, at);
        }
    }

    /// An outage begins or goes on.
    fn out(&mut self, number: u64, probes: bool, now: Instant) -> Told {
        self.ask_again(number, At::First);
        if self.outage.is_none() {
            // What looked like a limit was the beginning of this.
            self.budget.forget();
        } else if !probes {
            return Told::Nothing;
        }
        let outage = self.outage.get_or_insert(Outage {
            began: now,
            step: 0,
            at: now,
            asking: None,
        });
        let retry_in = backoff(outage.step, self.random.f64(), AWAY_MOST);
        outage.step = outage.step.saturating_add(1);
        outage.at = now + retry_in;
        Told::Fails {
            attempts: outage.step,
            retry_in,
            outage: true,
        }
    }

    /// Consul answers; if it did not before, everything is asked anew, for it may be another one.
    pub(super) fn returned(&mut self, now: Instant) {
        let Some(outage) = self.outage.take() else {
            return;
        };
        // The longer it was, the more others come back with this one.
        let apart = ((now - outage.began) / 2).clamp(APART_LEAST, APART_MOST);
        let at = now + apart.mul_f64(self.random.f64());
        self.not_before = self.not_before.max(Some(at));
        self.suspect = self.held.iter().map(|(.., number)| *number).collect();
        let idle = |at: At| matches!(at, At::Settled(_) | At::Later(..) | At::Named);
        let idle = self.entries.iter().filter(|(_, entry)| idle(entry.at));
        for number in idle.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.leave(number);
            self.enter(number, At::First);
        }
    }

    pub(super) fn next_of_outage(&mut self, now: Instant) -> Option<Step> {
        let ready = self
            .outage
            .as_ref()
            .is_some_and(|outage| outage.asking.is_none() && outage.at <= now);
        if !ready || self.under_way >= self.budget.places() {
            return None;
        }
        let number = self.longest_unasked(|entry| !matches!(entry.at, At::Asking(_)))?;
        let step = self.ask(number, How::Read, false, now);
        if let Some(outage) = &mut self.outage {
            outage.asking = Some(number);
        }
        Some(step)
    }

    /// One failed as if all did: another one shows whether that is so.
    fn ask_another(&mut self, number: u64) {
        let idle = |entry: &Entry| !matches!(entry.at, At::Asking(_));
        let other = self.longest_unasked(|entry| idle(entry) && entry.at != At::Nowhere);
        match other.filter(|other| *other != number) {
            Some(other) => {
                self.leave(other);
                self.enter(other, At::First);
            }
            None => self
                .suspect
                .extend(self.held.first().map(|(.., other)| *other)),
        }
    }

    fn longest_unasked(&self, among: impl Fn(&Entry) -> bool) -> Option<u64> {
        let all = self.entries.iter();
        let all = all.filter(|(_, entry)| entry.sort != Sort::Errand && among(entry));
        let all = all.min_by_key(|(_, entry)| entry.asked);
        all.map(|(number, _)| *number)
    }
}
