//! The sets in which questions wait, and the moves between them. A question is in those of its [`At`], and in no other.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::question::{ALONE, Asking, At, Heat, How, Rank, SIGNAL, Sort, Then};
use super::{Schedule, Step};

/// How often a cold question is read whose changes signals show.
const SIGNALLED_EVERY: Duration = Duration::from_secs(200);
/// How often a cold question is read that nothing signals, and how many of those may be read in a second.
const ALONE_EVERY: Duration = Duration::from_secs(30);
const ALONE_RATE: u32 = 10;
/// Sweeps make so many requests a second at most, and so many at a time.
pub(super) const SWEEP_RATE: usize = 50;
pub(super) const SWEEP_WIDTH: usize = 4;

impl Schedule {
    pub(super) fn next_of_sweep(&mut self, now: Instant) -> Option<u64> {
        let open = self.window().is_none_or(|at| at <= now);
        if !open || self.sweeping >= SWEEP_WIDTH || self.under_way >= self.budget.places() {
            return None;
        }
        let due = self
            .due
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, number)| *number);
        due.or_else(|| self.sweep.first().map(|(_, number)| *number))
    }

    /// When a sweep may make the next request.
    pub(super) fn window(&self) -> Option<Instant> {
        let full = self.swept.len() >= SWEEP_RATE;
        self.swept
            .front()
            .filter(|_| full)
            .map(|at| *at + Duration::from_secs(1))
    }

    /// Takes the connection of the coldest question that is held.
    pub(super) fn give_up(&mut self, now: Instant) -> Option<Step> {
        let (.., number) = self.held.first().copied()?;
        let asking = self.ended(number)?;
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.pace.given_up();
        }
        match asking.again {
            Some(Then::Named) => self.enter(number, At::Named),
            again => {
                // What it waited for may never have reached Consul.
                let entry = self.entries.get(&number)?;
                let (sort, since) = (entry.sort, entry.answered.unwrap_or(now));
                let due = self.due_at(sort, since);
                self.enter(number, At::Settled(due));
                if again.is_some() {
                    self.add_to_sweep(number);
                }
            }
        }
        Some(Step::GiveUp(number))
    }

    pub(super) fn ask(&mut self, number: u64, how: How, sweep: bool, now: Instant) -> Step {
        let from = self.entries.get(&number).map(|entry| entry.at);
        self.leave(number);
        self.under_way += 1;
        self.sweeping += usize::from(sweep);
        if sweep {
            self.swept.push_back(now);
            if self.swept.len() > SWEEP_RATE {
                self.swept.pop_front();
            }
        }
        let beside = self.under_way;
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.asked = Some(now);
            self.struggling += usize::from(entry.fails);
            entry.pace.asked(now);
            // The one that named it has its own pace, and so has a failure after which it is asked anew.
            let again = from == Some(At::First) && entry.answered.is_some();
            if from == Some(At::Named) || again {
                entry.pace.given_up();
            }
            entry.at = At::Asking(Asking {
                how,
                sent: now,
                beside,
                again: None,
                sweep,
                struggles: entry.fails,
            });
        }
        if how != How::Read {
            self.held.insert(self.rank(number));
        }
        Step::Ask(number, how)
    }

    /// Whether the questions of a kind that nothing signals are more than can be held.
    pub(super) fn takes_turns(&self, number: u64) -> bool {
        if self.heat(number).0 != ALONE {
            return false;
        }
        let others = |rank: &&Rank| rank.0.0 == ALONE && rank.2 != number;
        let waits = self.candidates.iter().filter(others).count();
        self.held.len() + waits >= self.budget.holds()
    }

    /// A request is no longer under way.
    pub(super) fn ended(&mut self, number: u64) -> Option<Asking> {
        let At::Asking(asking) = self.entries.get(&number)?.at else {
            return None;
        };
        self.leave(number);
        Some(asking)
    }

    /// What had to wait and need not any more.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.budget.retries_at().is_some_and(|at| at <= now) {
            self.budget.forget();
        }
        while let Some((at, number)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, number));
            let Some(At::Later(_, then)) = self.entries.get(&number).map(|entry| entry.at) else {
                continue;
            };
            match then {
                Then::First => self.enter(number, At::First),
                Then::Named => self.enter(number, At::Named),
                Then::Settled => self.settle(number, now),
                Then::Swept => {
                    self.settle(number, now);
                    self.add_to_sweep(number);
                }
            }
        }
    }

    pub(super) fn settle(&mut self, number: u64, now: Instant) {
        if let Some(sort) = self.entries.get(&number).map(|entry| entry.sort) {
            let due = self.due_at(sort, now);
            self.enter(number, At::Settled(due));
        }
    }

    pub(super) fn due_at(&mut self, sort: Sort, now: Instant) -> Instant {
        now + self.every(sort).mul_f64(0.9 + 0.2 * self.random.f64())
    }

    pub(super) fn add_to_sweep(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number) {
            self.sweep.insert(entry.turn(number));
        }
    }

    /// How often a question is read that is not held.
    pub(super) fn every(&self, sort: Sort) -> Duration {
        match sort {
            Sort::Signalled => SIGNALLED_EVERY,
            _ => {
                let cold = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX);
                ALONE_EVERY.max(Duration::from_secs(1).saturating_mul(cold) / ALONE_RATE)
            }
        }
    }

    pub(super) fn heat(&self, number: u64) -> Heat {
        let entry = self.entries.get(&number);
        entry.map_or((0, None), |entry| {
            match entry.sort {
                Sort::Signal => (SIGNAL, None),
                // They take turns: none is held for long at the cost of another.
                Sort::Alone => (ALONE, None),
                Sort::Signalled | Sort::Polled(_) | Sort::Errand => (0, entry.changed),
            }
        })
    }

    pub(super) fn rank(&self, number: u64) -> Rank {
        let asked = self.entries.get(&number).and_then(|entry| entry.asked);
        (self.heat(number), Reverse(asked), number)
    }

    pub(super) fn replace_sort(&mut self, number: u64, sort: Sort) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.sort = sort;
        }
    }

    /// Takes a question out of whatever it is among.
    pub(super) fn leave(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let (at, rank) = (entry.at, self.rank(number));
        let (urgency, turn) = (entry.urgency(number), entry.turn(number));
        self.sweep.remove(&turn);
        match at {
            At::First => {
                self.first.remove(&urgency);
            }
            At::Named => {
                self.named.remove(&turn);
            }
            At::Later(at, _) => {
                self.later.remove(&(at, number));
            }
            At::Settled(due) => {
                self.due.remove(&(due, number));
                self.candidates.remove(&rank);
            }
            At::Asking(asking) => {
                self.under_way -= 1;
                self.sweeping -= usize::from(asking.sweep);
                self.struggling -= usize::from(asking.struggles);
                self.held.remove(&rank);
                if let Some(outage) = &mut self.outage
                    && outage.asking == Some(number)
                {
                    outage.asking = None;
                }
            }
            At::Errand | At::Nowhere => {}
        }
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.at = At::Nowhere;
        }
    }

    /// Puts a question that is among nothing where it belongs now.
    pub(super) fn enter(&mut self, number: u64, at: At) {
        let rank = self.rank(number);
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.at = at;
        match at {
            At::First => {
                self.first.insert(entry.urgency(number));
            }
            At::Named => {
                self.named.insert(entry.turn(number));
            }
            At::Later(at, _) => {
                self.later.insert((at, number));
            }
            At::Settled(due) => {
                self.due.insert((due, number));
                self.candidates.insert(rank);
            }
            At::Errand => {
                self.sweep.insert(entry.turn(number));
            }
            At::Asking(_) | At::Nowhere => {}
        }
    }
}
