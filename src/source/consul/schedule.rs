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

use super::super::backoff::backoff;
use super::limit::Pace;

mod budget;
#[cfg(test)]
mod tests;

use budget::Budget;

/// How often a cold question is read whose changes signals show.
const SIGNALLED_EVERY: Duration = Duration::from_secs(200);
/// How often a cold question is read that nothing signals, and how many of those may be read in a second.
const ALONE_EVERY: Duration = Duration::from_secs(30);
const ALONE_RATE: u32 = 10;
/// The kinds of [`Heat`].
const SIGNAL: u8 = 2;
const ALONE: u8 = 1;
/// Sweeps make so many requests a second at most, and so many at a time.
const SWEEP_RATE: usize = 50;
const SWEEP_WIDTH: usize = 4;
/// The longest pause between two questions during an outage.
const AWAY_MOST: Duration = Duration::from_secs(4);
/// How much later one is asked again that a limit of Consul's kept out.
const REFUSED: Duration = Duration::from_millis(250);
/// Failures of held questions so close together are one.
const TOGETHER: Duration = Duration::from_secs(1);
/// Within how long after an outage a source begins to ask for everything: half as long as the outage, within these.
/// Not less for few questions: Consul 1.8.7 holds those of an election and then answers those of all sources at once.
const APART_LEAST: Duration = Duration::from_secs(1);
const APART_MOST: Duration = Duration::from_secs(3);
/// A question whose connection is refused so often in a row, while others are answered, fails.
const REFUSALS: u32 = 3;

/// How a question takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// It tells of changes in others.
    Signal,
    /// Signals show its changes.
    Signalled,
    /// Nothing else shows its changes.
    Alone,
    /// Consul cannot hold it; it is read at this interval.
    Polled(Duration),
    /// It is read once, as part of a sweep.
    Errand,
}

/// How a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Answered at once.
    Read,
    /// Answered when something changes.
    Hold,
    /// The same, but not for long: others wait for the connection.
    Turn,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ask(u64, How),
    /// Another one needs the connection more.
    GiveUp(u64),
}

/// Why a question was not answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failure {
    /// Every other one is likely to fail for the same reason.
    pub(super) everyone: bool,
    /// The connection was lost before any answer.
    pub(super) lost: bool,
    /// The connection was refused after it had been taken, or by 429: that may be a limit of Consul's.
    pub(super) refused: bool,
    /// Another address might do better.
    pub(super) address: bool,
    /// Nobody listens.
    pub(super) unreachable: bool,
    /// It is to be asked no sooner.
    pub(super) retry_after: Option<Duration>,
    /// And so is every other one.
    pub(super) throttled: bool,
}

/// What is to be told of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
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

/// How urgently a question needs a connection to wait on, the greatest first: its kind, and when its answer changed.
type Heat = (u8, Option<Instant>);
/// Among those of one heat, the one that was asked longest ago comes first.
type Rank = (Heat, Reverse<Option<Instant>>, u64);

#[derive(Debug)]
struct Entry {
    sort: Sort,
    pace: Pace,
    at: At,
    /// When it was asked last.
    asked: Option<Instant>,
    /// When the request went out that brought the last answer.
    answered: Option<Instant>,
    /// When its answer changed last.
    changed: Option<Instant>,
    /// Whether its last request failed for a reason of its own.
    fails: bool,
    /// How often in a row its connection was refused.
    refusals: u32,
}

impl Entry {
    /// Its place in `first`: those that fail come last, signals before others, then the newest.
    fn urgency(&self, number: u64) -> Urgency {
        (self.fails, self.sort != Sort::Signal, Reverse(number))
    }

    /// Its place in `named` and `sweep`: the one that was asked longest ago comes first.
    fn turn(&self, number: u64) -> (Option<Instant>, u64) {
        (self.asked, number)
    }
}

type Urgency = (bool, bool, Reverse<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Among `first`, `named`: it is asked as soon as there is a place.
    First,
    Named,
    /// Among `later`: it may not be asked before.
    Later(Instant, Then),
    /// Among `due` and `candidates`: it has an answer and may be asked, held, or left alone.
    Settled(Instant),
    /// Among `sweep`, until it is asked.
    Errand,
    /// Among nothing, for a moment or until it is removed.
    Nowhere,
    /// A request is under way.
    Asking(Asking),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asking {
    how: How,
    sent: Instant,
    /// How many requests were under way then, this one among them.
    beside: usize,
    /// Something has changed in the answer since ([`Then::Named`]), or may have ([`Then::Swept`]).
    again: Option<Then>,
    /// It is part of a sweep.
    sweep: bool,
    /// The last request failed, too.
    struggles: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    First,
    Named,
    Settled,
    /// Settled, and to be read at the pace of a sweep.
    Swept,
}

#[derive(Debug)]
struct Outage {
    began: Instant,
    step: u32,
    /// When the next question is asked.
    at: Instant,
    /// The question that is asked for all.
    asking: Option<u64>,
}

/// What is under way, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Questions.
    pub asked: usize,
    /// Requests under way.
    pub under_way: usize,
    /// The most there may be at the moment.
    pub budget: usize,
    /// The limit of Consul's that was found.
    pub limit: Option<usize>,
    /// Questions that Consul holds.
    pub held: usize,
    /// Whether there are more questions than can be held.
    pub crowded: bool,
    /// How old an answer can be at the worst that nothing held or named.
    pub worst_age: Duration,
    /// How long the last sweep took.
    pub sweep: Duration,
}

impl Load {
    /// What somebody should know and do about a limit of Consul's.
    pub fn limited(&self) -> Option<String> {
        let limit = self.limit?;
        Some(format!(
            "Consul takes no more than {limit} connections of this address at the moment, so {} questions share {} and leave the rest to others. \
             Raise limits.http_max_conns_per_client in Consul's configuration, or set consul.max_connections to less.",
            self.asked, self.budget
        ))
    }

    /// Why a change may be seen late.
    pub fn late(&self) -> Option<String> {
        self.crowded.then(|| {
            format!(
                "{} questions share {} connections to Consul, which holds {} of them. A change that Consul's lists of services, nodes and failing checks \
                 do not name may take up to {} s. Raise consul.max_connections to have more of them held.",
                self.asked, self.budget, self.held, self.worst_age.as_secs()
            )
        })
    }
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
    pub(super) fn add(&mut self, number: u64, sort: Sort) {
        let at = match sort {
            Sort::Errand => At::Errand,
            _ => At::First,
        };
        let entry = Entry {
            sort,
            pace: Pace::default(),
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

    /// No answer came.
    pub(super) fn failed(&mut self, number: u64, failure: Failure, now: Instant) -> Told {
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
            if entry.sort != Sort::Errand {
                self.enter(number, At::Later(now + pause, Then::First));
            }
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
        if entry.sort != Sort::Errand {
            self.enter(number, At::Later(now + retry_in, Then::First));
        }
        Told::Fails {
            attempts,
            retry_in,
            outage: false,
        }
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

    /// An outage begins or goes on.
    fn out(&mut self, number: u64, probes: bool, now: Instant) -> Told {
        if self
            .entries
            .get(&number)
            .is_some_and(|entry| entry.sort != Sort::Errand)
        {
            self.enter(number, At::First);
        }
        let begins = self.outage.is_none();
        if begins {
            // What looked like a limit was the beginning of this.
            self.budget.forget();
        }
        let (step, at) = (0, now);
        let began = now;
        let outage = self.outage.get_or_insert(Outage {
            began,
            step,
            at,
            asking: None,
        });
        if !begins && !probes {
            return Told::Nothing;
        }
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
    fn returned(&mut self, now: Instant) {
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

    fn next_of_outage(&mut self, now: Instant) -> Option<Step> {
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

    fn next_of_sweep(&mut self, now: Instant) -> Option<u64> {
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
    fn window(&self) -> Option<Instant> {
        let full = self.swept.len() >= SWEEP_RATE;
        self.swept
            .front()
            .filter(|_| full)
            .map(|at| *at + Duration::from_secs(1))
    }

    /// Takes the connection of the coldest question that is held.
    fn give_up(&mut self, now: Instant) -> Option<Step> {
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

    fn ask(&mut self, number: u64, how: How, sweep: bool, now: Instant) -> Step {
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
    fn takes_turns(&self, number: u64) -> bool {
        let (kind, _) = self.heat(number);
        let others = |rank: &&Rank| rank.0.0 == kind && rank.2 != number;
        let waits = self.candidates.iter().rev().filter(others).count();
        kind == ALONE && self.held.len() + waits >= self.budget.holds()
    }

    /// A request is no longer under way.
    fn ended(&mut self, number: u64) -> Option<Asking> {
        let At::Asking(asking) = self.entries.get(&number)?.at else {
            return None;
        };
        self.leave(number);
        Some(asking)
    }

    /// What had to wait and need not any more.
    fn wake(&mut self, now: Instant) {
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

    fn settle(&mut self, number: u64, now: Instant) {
        if let Some(sort) = self.entries.get(&number).map(|entry| entry.sort) {
            let due = self.due_at(sort, now);
            self.enter(number, At::Settled(due));
        }
    }

    fn due_at(&mut self, sort: Sort, now: Instant) -> Instant {
        now + self.every(sort).mul_f64(0.9 + 0.2 * self.random.f64())
    }

    fn add_to_sweep(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number) {
            self.sweep.insert(entry.turn(number));
        }
    }

    /// How often a question is read that is not held.
    fn every(&self, sort: Sort) -> Duration {
        match sort {
            Sort::Signalled => SIGNALLED_EVERY,
            _ => {
                let cold = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX);
                ALONE_EVERY.max(Duration::from_secs(1).saturating_mul(cold) / ALONE_RATE)
            }
        }
    }

    fn heat(&self, number: u64) -> Heat {
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

    fn rank(&self, number: u64) -> Rank {
        let asked = self.entries.get(&number).and_then(|entry| entry.asked);
        (self.heat(number), Reverse(asked), number)
    }

    fn replace_sort(&mut self, number: u64, sort: Sort) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.sort = sort;
        }
    }

    /// Takes a question out of whatever it is among.
    fn leave(&mut self, number: u64) {
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
    fn enter(&mut self, number: u64, at: At) {
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
