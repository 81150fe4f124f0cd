//! What the guard remembers of one query: what was believed lately, and what is held of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// How many items were in rotation, each number until the instant; the current one is `count`, or the
    /// hold's.
    pub believed: VecDeque<(Instant, usize)>,
    /// What vanished lately and was let go.
    pub departed: BTreeMap<Key, Instant>,
    /// What is held.
    pub hold: Option<Hold>,
    /// Whether the next hold goes on with one of a former process that left too few.
    pub eased: bool,
}

/// Items that vanished in mass.
///
/// Of a service, any returned instance stands for one held instance: held instances fill the number up
/// to `reference`, and the others are a reserve. Names of services, nodes and keys do not stand for one
/// another: templates see all of them.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub since: Instant,
    /// Whether its first items are in it.
    begun: bool,
    /// The number of items that are wanted in rotation, and by which the loss is judged.
    pub reference: usize,
    /// The items as they were last seen.
    pub items: BTreeMap<Key, Held>,
    /// Whether any item stands for any other.
    pub interchangeable: bool,
    /// What came during the hold, under an identity and an address that nothing held has, and when.
    came: BTreeMap<Key, Instant>,
    /// The time that has run: only while Consul shows that what it does not show is not there.
    pub clock: Duration,
    /// Up to when it was counted.
    pub counted: Instant,
    /// The clock's reading at the last loss or return, or since when the present rule holds.
    quiet: Duration,
    /// The clock's reading before which no item's own time has run.
    earliest: Duration,
    /// The most that were present since it began.
    best: usize,
    /// How long a quiet time ends it; `None` for ever.
    limit: Option<Duration>,
    /// Whether the rule became shorter while this was held. At most half leaves at a time then.
    pub eased: bool,
    pub finding: Finding,
    /// Whether it stands on the token's rights, which are known with a delay.
    pub late: bool,
    /// When Consul is asked next.
    pub ask_at: Instant,
    /// The question on its way.
    pub asked: Option<Instant>,
    /// Whether people were told.
    pub told: bool,
}

/// One item that vanished.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub item: Item,
    /// When it vanished.
    since: Instant,
    /// The clock's reading then.
    at: Duration,
    /// Whether it vanished after the first ones.
    pub later: bool,
    /// Whether it had come during the hold and stayed for less than [`SETTLED`].
    brief: bool,
}

/// An instance that came during a hold counts like the older ones after this time. One that comes and
/// goes, again and again under new names, would else take the place of all that was there before.
const SETTLED: Duration = Duration::from_secs(30);

/// Consul's servers may act on a changed policy while the agent still knows the former one: by default for
/// 30 s (`acl.policy_ttl`, Consul 1.8).
const LATE: Duration = Duration::from_secs(45);

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
            eased: false,
        }
    }

    /// The largest number of items in rotation since `start`.
    pub fn reference(&self, start: Instant) -> usize {
        let lately = self
            .believed
            .iter()
            .filter(|(until, _)| *until >= start)
            .map(|(_, count)| *count);
        let held = self.hold.as_ref().map(|hold| hold.reference);
        lately.chain(held).fold(self.count, usize::max)
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
    pub fn new(
        reference: usize,
        interchangeable: bool,
        limit: Option<Duration>,
        now: Instant,
    ) -> Hold {
        Hold {
            since: now,
            begun: false,
            reference,
            items: BTreeMap::new(),
            interchangeable,
            came: BTreeMap::new(),
            clock: Duration::ZERO,
            counted: now,
            quiet: Duration::ZERO,
            earliest: Duration::ZERO,
            best: 0,
            limit,
            eased: false,
            finding: Finding::Open,
            late: false,
            ask_at: now,
            asked: None,
            told: false,
        }
    }

    /// Takes what is present now: what came back, or was replaced at its address, is held no more.
    pub fn compare(
        &mut self,
        present: &Present<'_>,
        arrived: &[Item],
        now: Instant,
        most: Duration,
    ) {
        let arrived: Vec<Key> = match arrived.is_empty() {
            true => Vec::new(),
            false => {
                let places: BTreeSet<_> = self
                    .items
                    .values()
                    .filter_map(|held| held.item.place())
                    .collect();
                let new = arrived.iter().filter(|item| {
                    !self.items.contains_key(&item.key())
                        && !item.place().is_some_and(|place| places.contains(&place))
                });
                self.quiet = self.reading(now, most);
                new.map(Item::key).collect()
            }
        };
        self.items.retain(|_, held| !present.replaces(&held.item));
        self.came.retain(|_, came| *came + SETTLED > now);
        self.came.extend(arrived.into_iter().map(|key| (key, now)));
    }

    /// Takes what vanished.
    pub fn add(&mut self, vanished: Vec<Item>, now: Instant, most: Duration) {
        if vanished.is_empty() {
            return;
        }
        let at = self.reading(now, most);
        self.quiet = at;
        let later = std::mem::replace(&mut self.begun, true);
        for item in vanished {
            let key = item.key();
            let came = self.came.remove(&key);
            let held = Held {
                item,
                since: now,
                at,
                later,
                brief: came.is_some(),
            };
            self.items.insert(key, held);
        }
        // However often what is new comes and goes.
        let most = self.reference.saturating_mul(2);
        if self.items.len() > most {
            for key in self.in_order().split_off(most) {
                self.items.remove(&key);
            }
        }
        self.ask_at = now; // the reason may be another one now
    }

    /// The keys of all items, those first that are shown first.
    fn in_order(&self) -> Vec<Key> {
        let mut order: Vec<(&Key, &Held)> = self.items.iter().collect();
        order.sort_by(|(one, a), (two, b)| {
            // The youngest are the likeliest to live, where one stands for another.
            let age = match self.interchangeable {
                true => b.since.cmp(&a.since),
                false => a.since.cmp(&b.since),
            };
            a.brief.cmp(&b.brief).then(age).then(one.cmp(two))
        });
        order.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// How many are shown besides so many that are present.
    pub fn held(&self, present: usize) -> usize {
        match self.interchangeable {
            true => self.items.len().min(self.reference.saturating_sub(present)),
            false => self.items.len(),
        }
    }

    /// The keys of those that are shown besides so many that are present, in their order.
    pub fn shown(&self, present: usize) -> Vec<Key> {
        if self.held(present) == self.items.len() && !self.interchangeable {
            return self.items.keys().cloned().collect();
        }
        let mut order = self.in_order();
        order.truncate(self.held(present));
        order
    }

    /// The clock as far as it may have run: what happens now has happened by this reading. A pause of this
    /// process or of Consul is left out.
    pub fn reading(&self, now: Instant, most: Duration) -> Duration {
        self.clock + now.saturating_duration_since(self.counted).min(most)
    }

    /// So many are present now. More than ever since it began is a recovery that gets on.
    pub fn count(&mut self, present: usize, now: Instant, most: Duration) {
        self.reference = self.reference.max(present);
        if present > self.best {
            self.best = present;
            self.earliest = self.reading(now, most);
        }
    }

    /// The rule under which it stands from now on. A shorter time begins now.
    pub fn set_limit(&mut self, limit: Option<Duration>, now: Instant, most: Duration) {
        let shorter = match (self.limit, limit) {
            (None, Some(_)) => true,
            (Some(before), Some(after)) => after < before,
            (_, None) => false,
        };
        if shorter {
            self.begin_again(self.reading(now, most));
            self.eased = true;
        }
        self.limit = limit;
    }

    /// Nothing of the time that has run before this reading counts.
    pub fn begin_again(&mut self, reading: Duration) {
        self.quiet = reading;
        self.earliest = reading;
    }

    /// How long the quiet time is that ends it.
    fn quiet_time(&self) -> Option<Duration> {
        let limit = self.limit?;
        Some(match self.late {
            true => limit.max(LATE),
            false => limit,
        })
    }

    /// When its quiet time is over, if the clock runs and nothing happens.
    pub fn due(&self) -> Option<Instant> {
        let left = self
            .quiet
            .saturating_add(self.quiet_time()?)
            .saturating_sub(self.clock);
        self.counted.checked_add(left)
    }

    /// When the last item leaves then, besides so many that are present; see [`Hold::expire`].
    pub fn last_due(&self, present: usize, whole: bool) -> Option<Instant> {
        let mut reference = self.reference;
        let mut more: u32 = 0;
        while self.eased && !whole && half(reference, present) > present {
            reference = half(reference, present);
            more += 1;
        }
        self.due()?
            .checked_add(self.quiet_time()?.saturating_mul(more))
    }

    /// Lets go what its time allows, with so many present. `whole` is whether a quiet time that is over
    /// may end all of it. `fits` says whether so many in rotation are no mass loss.
    pub fn expire(&mut self, present: usize, whole: bool, fits: impl Fn(usize) -> bool) -> Expired {
        let Some(limit) = self.quiet_time() else {
            return Expired::default();
        };
        if self.clock >= self.quiet.saturating_add(limit) {
            return self.expire_quiet(present, whole);
        }
        // While others come and go, a share at a time.
        let shown = self.shown(present);
        let over = |key: &&Key| {
            let held = self.items.get(*key);
            held.is_some_and(|held| self.clock >= held.at.max(self.earliest).saturating_add(limit))
        };
        let mut over: Vec<Key> = shown.iter().rev().filter(over).cloned().collect();
        let in_rotation = present + shown.len();
        while !over.is_empty() && !fits(in_rotation - over.len()) {
            over.pop();
        }
        self.reference = self.reference.saturating_sub(over.len()).max(present);
        Expired {
            quiet: false,
            left: self.remove(&over),
        }
    }

    fn expire_quiet(&mut self, present: usize, whole: bool) -> Expired {
        let reference = match self.eased && !whole {
            true => half(self.reference, present),
            false => present,
        };
        self.reference = reference;
        self.begin_again(self.clock);
        let staying = reference - present;
        let leaving = self.in_order().split_off(staying.min(self.items.len()));
        Expired {
            quiet: true,
            left: self.remove(&leaving),
        }
    }

    /// Forgets these; gives them back.
    pub fn remove(&mut self, keys: &[Key]) -> Vec<Key> {
        let gone = keys.iter().filter(|key| self.items.remove(*key).is_some());
        gone.cloned().collect()
    }
}

/// What left a hold because its time was over.
#[derive(Debug, Default)]
pub(super) struct Expired {
    /// Whether nothing was lost or returned for the whole time.
    pub quiet: bool,
    pub left: Vec<Key>,
}

/// The number of which at most half is missing from `reference`, and that is not below `present`.
fn half(reference: usize, present: usize) -> usize {
    match reference {
        0 | 1 => present,
        reference => reference.div_ceil(2).max(present),
    }
}
