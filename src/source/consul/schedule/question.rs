//! What is known of one question, apart from its answer.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::super::limit::Pace;

/// The kinds of [`Heat`].
pub(super) const SIGNAL: u8 = 2;
pub(super) const ALONE: u8 = 1;

/// How a question takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::consul) enum Sort {
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
pub(in crate::source::consul) enum How {
    /// Answered at once.
    Read,
    /// Answered when something changes.
    Hold,
    /// The same, but not for long: others wait for the connection.
    Turn,
}

/// How urgently a question needs a connection to wait on, the greatest first: its kind, and when its answer changed.
pub(super) type Heat = (u8, Option<Instant>);
/// Among those of one heat, the one that was asked longest ago comes first.
pub(super) type Rank = (Heat, Reverse<Option<Instant>>, u64);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sort: Sort,
    pub(super) pace: Pace,
    pub(super) at: At,
    /// When it was asked last.
    pub(super) asked: Option<Instant>,
    /// When the request went out that brought the last answer.
    pub(super) answered: Option<Instant>,
    /// When its answer changed last.
    pub(super) changed: Option<Instant>,
    /// Whether its last request failed for a reason of its own.
    pub(super) fails: bool,
    /// How often in a row its connection was refused.
    pub(super) refusals: u32,
}

impl Entry {
    /// Its place in `first`: those that fail come last, signals before others, then the newest.
    pub(super) fn urgency(&self, number: u64) -> Urgency {
        (self.fails, self.sort != Sort::Signal, Reverse(number))
    }

    /// Its place in `named` and `sweep`: the one that was asked longest ago comes first.
    pub(super) fn turn(&self, number: u64) -> (Option<Instant>, u64) {
        (self.asked, number)
    }
}

pub(super) type Urgency = (bool, bool, Reverse<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
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
pub(super) struct Asking {
    pub(super) how: How,
    pub(super) sent: Instant,
    /// How many requests were under way then, this one among them.
    pub(super) beside: usize,
    /// Something has changed in the answer since ([`Then::Named`]), or may have ([`Then::Swept`]).
    pub(super) again: Option<Then>,
    /// It is part of a sweep.
    pub(super) sweep: bool,
    /// The last request failed, too.
    pub(super) struggles: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    First,
    Named,
    Settled,
    /// Settled, and to be read at the pace of a sweep.
    Swept,
}
