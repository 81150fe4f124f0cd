//! Which question goes to Consul next, and whether Consul may hold it. Pure: time and chance are arguments.
//!
//! Consul allows a client address 200 connections, shared by every program on the machine, and a question that Consul
//! holds (a blocking query) occupies one. With few questions each is held. With more of them than connections:
//!
//! - Every question gets its first answer by a plain read before any connection is spent on waiting, and so it does
//!   after an outage.
//! - *Signals* are held first: lists that change whenever an instance does (`signals`). What they name is read at
//!   once; a change that they do not name starts a sweep over everything that it can be about.
//! - *Hot* questions, those whose answers changed last, take the rest of the connections; so a service that changes
//!   twice is followed at once the second time. A hot one takes the place of the coldest.
//! - A cold one is read now and then, for what signals may miss. That interval is the age that an answer can reach.
//!
//! No question starves: one without an answer comes before all that wait, one that was named before all others, and a
//! cold one is due after a time that does not depend on others. The number of requests under way never exceeds the
//! budget. Each question keeps its own pace ([`Pace`]), so one that fails or misbehaves costs no other one anything.
//!
//! While Consul answers nothing (an *outage*), one question is asked at a time, for all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::limit::Pace;

mod budget;
mod load;
mod outage;
mod question;
mod queues;
#[cfg(test)]
mod tests;

use budget::Budget;
pub use load::Load;
use outage::Outage;
pub(super) use outage::{Failure, Told};
use question::{At, Entry, Rank, Then, Urgency};
pub(super) use question::{How, Sort};
use queues::SWEEP_WIDTH;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ask(u64, How),
    /// Another one needs the connection more.
    GiveUp(u64),
}

/// All questions of a source.
#[derive(Debug)]
pub(super) struct Schedule {
    budget: Budget,
    random: fastrand::Rng,
    entries: BTreeMap<u64, Entry>,
    under_way: usize,
    /// Of those, requests of sweeps.
    sweeping: usize,
    /// And those whose last request failed, too.
    struggling: usize,
    first: BTreeSet<Urgency>,
    named: BTreeSet<(Option<Instant>, u64)>,
    later: BTreeSet<(Instant, u64)>,
    /// When each settled question is read if it is not held.
    due: BTreeSet<(Instant, u64)>,
    candidates: BTreeSet<Rank>,
    held: BTreeSet<Rank>,
    /// To be read at the pace of a sweep.
    sweep: BTreeSet<(Option<Instant>, u64)>,
    /// When the last requests of sweeps went out.
    swept: VecDeque<Instant>,
    /// When the sweep began that goes on.
    sweep_began: Option<Instant>,
    /// How long the last one took.
    sweep_took: Duration,
    outage: Option<Outage>,
    /// The question that failed as if all did, before another one has.
    doubt: Option<u64>,
    /// Held since before an outage: whether Consul still knows of it is not known.
    suspect: Vec<u64>,
    /// When the last good answer came.
    answered: Option<Instant>,
    /// Nothing is asked before.
    not_before: Option<Instant>,
}

impl Schedule {
    /// At most `most` requests are ever under way.
    pub(super) fn new(most: usize, seed: u64) -> Schedule {
        Schedule {
            budget: Budget::new(most),
            random: fastrand::Rng::with_seed(seed),
            entries: BTreeMap::new(),
            under_way: 0,
            sweeping: 0,
            struggling: 0,
            first: BTreeSet::new(),
            named: BTreeSet::new(),
            later: BTreeSet::new(),
            due: BTreeSet::new(),
            candidates: BTreeSet::new(),
            held: BTreeSet::new(),
            sweep: BTreeSet::new(),
            swept: VecDeque::new(),
            sweep_began: None,
            sweep_took: Duration::ZERO,
            outage: None,
            doubt: None,
            suspect: Vec::new(),
            answered: None,
            not_before: None,
        }
    }

    /// A question comes. Numbers are never used twice.
    pub(super) fn add(&mut self, number: u64, sort: Sort, pace: Pace) {
        let at = match sort {
            Sort::Errand => At::Errand,
            _ => At::First,
        };
        let entry = Entry {
            sort,
            pace,
            at,
            asked: None,
            answered: None,
            changed: None,
            fails: false,
            refusals: 0,
        };
        self.entries.insert(number, entry);
        self.enter(number, at);
    }

    /// A question goes; its request, if one is under way, is closed.
    pub(super) fn remove(&mut self, number: u64) {
        self.leave(number);
        self.entries.remove(&number);
    }

    /// A question takes part in another way from now on.
    pub(super) fn set_sort(&mut self, number: u64, sort: Sort, now: Instant) {
        let Some(entry) = self.entries.get(&number).filter(|entry| entry.sort != sort) else {
            return;
        };
        let (at, former) = (entry.at, self.rank(number));
        if let At::Asking(_) = at {
            let held = self.held.remove(&former);
            self.replace_sort(number, sort);
            if held {
                self.held.insert(self.rank(number));
            }
            return;
        }
        let swept = self.sweep.contains(&entry.turn(number));
        self.leave(number);
        self.replace_sort(number, sort);
        match at {
            At::Settled(due) => {
                let due = due.min(self.due_at(sort, now));
                self.enter(number, At::Settled(due));
            }
            at => self.enter(number, at),
        }
        if swept {
            self.add_to_sweep(number);
        }
    }

    /// Of how many scopes the signals can be held; none where all questions can. `some` says whether there are any now.
    pub(super) fn signals(&self, some: bool) -> usize {
        let holds = self.budget.holds();
        let waiting = self.waiting();
        let crowded = waiting > holds || (some && waiting * 4 > holds * 3);
        if crowded { holds / 8 } else { 0 }
    }

    /// How many questions would be held if there were room.
    fn waiting(&self) -> usize {
        let waits = |entry: &&Entry| matches!(entry.sort, Sort::Signalled | Sort::Alone);
        self.entries.values().filter(waits).count()
    }

    /// How many may be held.
    pub(super) fn holds(&self) -> usize {
        self.budget.holds()
    }

    /// Something says that the answer to it has changed.
    pub(super) fn name(&mut self, number: u64, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        match &mut entry.at {
            At::First
            | At::Named
            | At::Errand
            | At::Nowhere
            | At::Later(_, Then::First | Then::Named) => {}
            At::Asking(asking) => asking.again = Some(Then::Named),
            At::Later(_, Then::Settled | Then::Swept) | At::Settled(_) => {
                let pause = entry.pace.soonest(now);
                self.leave(number);
                self.enter(number, At::Later(now + pause, Then::Named));
            }
        }
    }

    /// Something may have changed in the answer to it: it is read at the pace of a sweep.
    pub(super) fn sweep(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        match &mut entry.at {
            At::Asking(asking) => {
                asking.again.get_or_insert(Then::Swept);
            }
            At::Settled(_) => self.add_to_sweep(number),
            At::Later(_, then) if *then == Then::Settled => *then = Then::Swept,
            At::First | At::Named | At::Later(..) | At::Errand | At::Nowhere => {}
        }
    }

    /// When the request went out that brought the last answer.
    pub(super) fn answered_at(&self, number: u64) -> Option<Instant> {
        self.entries.get(&number)?.answered
    }

    /// Whether its request has gone out.
    pub(super) fn is_under_way(&self, number: u64) -> bool {
        let at = self.entries.get(&number).map(|entry| entry.at);
        matches!(at, Some(At::Asking(_)))
    }

    /// What to do next; to be asked again until there is nothing.
    pub(super) fn next(&mut self, now: Instant) -> Option<Step> {
        self.wake(now);
        self.time_sweep(now);
        while let Some(number) = self.suspect.pop() {
            if self.held.contains(&self.rank(number)) {
                self.ended(number)?;
                self.enter(number, At::First);
                return Some(Step::GiveUp(number));
            }
        }
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        if self.outage.is_some() {
            return self.next_of_outage(now);
        }
        if self.held.len() > self.budget.holds() {
            return self.give_up(now);
        }
        if self.under_way < self.budget.places() {
            if let Some((_, number)) = self.named.first().copied() {
                return Some(self.ask(number, How::Read, false, now));
            }
            // Those that fail, which may take long to do so, leave half of the places to others.
            if let Some((fails, _, Reverse(number))) = self.first.first().copied()
                && (!fails || self.struggling < self.budget.places().div_ceil(2))
            {
                return Some(self.ask(number, How::Read, false, now));
            }
        }
        if self.first.first().is_some_and(|(fails, ..)| !fails) {
            return None;
        }
        if let Some((heat, _, number)) = self.candidates.last().copied() {
            let room = self.held.len() < self.budget.holds();
            if room && self.under_way < self.budget.places() {
                let how = if self.takes_turns(number) {
                    How::Turn
                } else {
                    How::Hold
                };
                return Some(self.ask(number, how, false, now));
            }
            if !room && self.held.first().is_some_and(|(cold, ..)| *cold < heat) {
                return self.give_up(now);
            }
        }
        let number = self.next_of_sweep(now)?;
        Some(self.ask(number, How::Read, true, now))
    }

    fn time_sweep(&mut self, now: Instant) {
        if !self.sweep.is_empty() {
            self.sweep_began.get_or_insert(now);
        } else if self.sweeping == 0
            && let Some(began) = self.sweep_began.take()
        {
            self.sweep_took = now - began;
        }
    }

    /// When [`Schedule::next`] may have something to do, if nothing happens until then.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        if let Some(at) = self.not_before.filter(|at| now < *at) {
            return Some(at);
        }
        if let Some(outage) = &self.outage {
            let at = outage.asking.is_none().then_some(outage.at);
            return at.filter(|at| now < *at);
        }
        let later = self.later.first().map(|(at, _)| *at);
        let due = match self.sweep.is_empty() {
            true => self.due.first().map(|(at, _)| *at),
            false => Some(now),
        };
        let sweep = due
            .filter(|_| self.sweeping < SWEEP_WIDTH && self.under_way < self.budget.places())
            .map(|at| self.window().map_or(at, |window| at.max(window)));
        [later, sweep, self.budget.retries_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A good answer came. `changed` when it differs from the one before; the first does not. `extra` requests were
    /// needed beyond the first.
    pub(super) fn answered(&mut self, number: u64, changed: bool, extra: u32, now: Instant) {
        let Some(asking) = self.ended(number) else {
            return;
        };
        self.answered = Some(now);
        self.doubt = None;
        let chance = self.random.f64();
        if let Some(entry) = self.entries.get_mut(&number) {
            for _ in 0..extra {
                entry.pace.asked(now);
            }
            let held = match asking.how {
                How::Read => Duration::ZERO,
                How::Hold | How::Turn => now - asking.sent,
            };
            entry.pace.answered(changed, held);
            entry.answered = Some(asking.sent);
            entry.fails = false;
            entry.refusals = 0;
            if changed {
                entry.changed = Some(now);
            }
            match entry.sort {
                Sort::Errand => {}
                Sort::Polled(every) => {
                    let pause = every.mul_f64(0.9 + 0.2 * chance);
                    self.enter(number, At::Later(now + pause, Then::First));
                }
                // One that was held and brought news has been answered since it was named.
                _ if asking.again == Some(Then::Named) && (asking.how == How::Read || !changed) => {
                    let pause = entry.pace.soonest(now);
                    self.enter(number, At::Later(now + pause, Then::Named));
                }
                _ => {
                    let then = match asking.again {
                        Some(Then::Swept) if asking.how == How::Read => Then::Swept,
                        _ => Then::Settled,
                    };
                    let pause = entry.pace.wait(now);
                    self.enter(number, At::Later(now + pause, then));
                    // Without a pause it may be held at once.
                    self.wake(now);
                }
            }
        }
        self.returned(now);
    }

    /// What is under way.
    pub(super) fn load(&self) -> Load {
        let crowded = self.waiting() > self.budget.holds();
        let cold =
            |entry: &&Entry| !matches!(entry.at, At::Asking(asking) if asking.how != How::Read);
        let waits = |entry: &Entry| matches!(entry.sort, Sort::Signalled | Sort::Alone);
        let every = self
            .entries
            .values()
            .filter(cold)
            .filter(|entry| waits(entry));
        let every = every.map(|entry| self.every(entry.sort)).max();
        Load {
            asked: self.entries.len(),
            under_way: self.under_way,
            budget: self.budget.places(),
            limit: self.budget.found(),
            held: self.held.len(),
            crowded,
            sweep: self.sweep_took,
            worst_age: every
                .filter(|_| crowded)
                .map_or(Duration::ZERO, |every| every.mul_f64(1.1)),
        }
    }
}
