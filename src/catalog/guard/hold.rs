//! What the guard remembers of one query: what was believed lately, and what is held of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::Finding;
use super::items::{Item, Key, Present};
use crate::catalog::Answer;

/// One guarded query.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    /// The source's last answer.
    pub present: Arc<Answer>,
    /// How many items of it count.
    pub count: usize,
    /// Whether Consul said of it that something was left out for want of rights.
    pub filtered: bool,
    /// The same of the last answer that was believed as a whole.
    pub filtered_before: bool,
    /// How many items were believed, each number until the instant; the current one is `count`.
    pub believed: VecDeque<(Instant, usize)>,
    /// What vanished lately and was let go.
    pub departed: BTreeMap<Key, Instant>,
    /// What is held.
    pub hold: Option<Hold>,
}

/// Items that vanished in mass.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub since: Instant,
    /// The number of items by which the loss is judged.
    pub reference: usize,
    /// The items as they were last seen, with the clock's reading when they vanished.
    pub items: BTreeMap<Key, (Item, Duration)>,
    /// The time that has run: only while Consul shows that what it does not show is not there.
    pub clock: Duration,
    /// Up to when it was counted.
    pub counted: Instant,
    pub finding: Finding,
    /// When Consul is asked next.
    pub ask_at: Instant,
    /// The question on its way.
    pub asked: Option<Instant>,
    /// Whether people were told.
    pub told: bool,
}

impl Guarded {
    pub fn new(answer: Arc<Answer>, count: usize, filtered: bool) -> Guarded {
        Guarded {
            present: answer,
            count,
            filtered,
            filtered_before: filtered,
            believed: VecDeque::new(),
            departed: BTreeMap::new(),
            hold: None,
        }
    }

    /// The largest number of items believed since `start`.
    pub fn reference(&self, start: Instant) -> usize {
        let before = match &self.hold {
            Some(hold) => hold.reference,
            None => self
                .believed
                .iter()
                .filter(|(until, _)| *until >= start)
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0),
        };
        before.max(self.count)
    }

    /// Takes over a number that was believed until now.
    pub fn remember(&mut self, now: Instant, count: usize, start: Instant) {
        while self
            .believed
            .front()
            .is_some_and(|(until, _)| *until < start)
        {
            self.believed.pop_front();
        }
        // A number is of no use once a later one was as large.
        while self
            .believed
            .back()
            .is_some_and(|(_, former)| *former <= count)
        {
            self.believed.pop_back();
        }
        self.believed.push_back((now, count));
        self.departed.retain(|_, left| *left >= start);
    }

    /// These are known to have left on purpose: they were never lost.
    pub fn forgive(&mut self, count: usize) {
        for (_, believed) in &mut self.believed {
            *believed = believed.saturating_sub(count);
        }
        if let Some(hold) = &mut self.hold {
            hold.reference = hold.reference.saturating_sub(count);
        }
    }

    /// Forgets what was, so that the present is the measure.
    pub fn settle(&mut self) {
        self.believed.clear();
        self.departed.clear();
    }
}

impl Hold {
    pub fn new(reference: usize, now: Instant) -> Hold {
        Hold {
            since: now,
            reference,
            items: BTreeMap::new(),
            clock: Duration::ZERO,
            counted: now,
            finding: Finding::Open,
            ask_at: now,
            asked: None,
            told: false,
        }
    }

    /// Lets go what came back or was replaced.
    pub fn compare(&mut self, present: &Present<'_>) {
        self.items.retain(|_, (item, _)| !present.replaces(item));
    }

    /// The clock as far as it may have run.
    pub fn reading(&self, now: Instant, most: Duration) -> Duration {
        self.clock + now.saturating_duration_since(self.counted).min(most)
    }

    /// When the clock reads so much that the first item has been held for `limit`, if it runs.
    pub fn first_due(&self, limit: Option<Duration>) -> Option<Instant> {
        let first = self.items.values().map(|(_, at)| *at).min()?;
        Some(self.counted + (first + limit?).saturating_sub(self.clock))
    }

    /// When the last item will have been held for `limit`.
    pub fn last_due(&self, limit: Option<Duration>) -> Option<Instant> {
        let last = self.items.values().map(|(_, at)| *at).max()?;
        Some(self.counted + (last + limit?).saturating_sub(self.clock))
    }
}
