//! Who leaves when a listener is full. A connection that has not sent its request yet costs its client nothing, so
//! a new connection does not wait behind such ones: it takes the place of the oldest. Never reads or writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// An answer that is not taken for so long may be given up for a new connection.
const SLOW: Duration = Duration::from_secs(1);

/// As many connections of one peer may be without a whole request.
const UNFINISHED_OF_PEER: usize = 16;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all peers.
    pub most: usize,
    /// Of all peers, without a whole request.
    pub unfinished: usize,
    /// Of one peer.
    pub of_peer: usize,
    /// Of one peer, without a whole request.
    pub unfinished_of_peer: usize,
}

impl Limits {
    /// Room for requests beside silent connections, and for others beside one peer.
    pub fn of(most: usize) -> Limits {
        Limits {
            most,
            unfinished: (most * 3 / 4).max(1),
            of_peer: most.div_ceil(2),
            unfinished_of_peer: UNFINISHED_OF_PEER.min(most.div_ceil(4)),
        }
    }
}

/// The connections of a listener, in the order in which they came.
#[derive(Debug)]
struct Places<P> {
    limits: Limits,
    next: u64,
    taken: BTreeMap<u64, Taken<P>>,
}

#[derive(Debug)]
struct Taken<P> {
    peer: P,
    since: Instant,
    /// Whether the whole request has come.
    asked: bool,
    task: Option<AbortHandle>,
}

impl<P: Copy + PartialEq> Places<P> {
    /// The number of a new connection and the one that leaves for it; `None` when the new one must leave.
    fn enter(&mut self, peer: P, now: Instant) -> Option<(u64, Option<Taken<P>>)> {
        let of_peer = |one: &Taken<P>| one.peer == peer;
        let silent = |one: &Taken<P>| one.peer == peer && !one.asked;
        let count = |which: &dyn Fn(&Taken<P>) -> bool| {
            let all = self.taken.values();
            all.filter(|one| which(one)).count()
        };
        let leaves = if count(&of_peer) >= self.limits.of_peer {
            Some(self.first_to_leave(of_peer, now)?)
        } else if count(&silent) >= self.limits.unfinished_of_peer {
            Some(self.first_to_leave(silent, now)?)
        } else if count(&|one| !one.asked) >= self.limits.unfinished
            || self.taken.len() >= self.limits.most
        {
            Some(self.first_to_leave(|_| true, now)?)
        } else {
            None
        };
        let left = leaves.and_then(|number| self.taken.remove(&number));
        self.next += 1;
        let taken = Taken {
            peer,
            since: now,
            asked: false,
            task: None,
        };
        self.taken.insert(self.next, taken);
        Some((self.next, left))
    }

    /// The oldest that has not asked, else the oldest that takes its answer slowly.
    fn first_to_leave(&self, among: impl Fn(&Taken<P>) -> bool, now: Instant) -> Option<u64> {
        let find = |which: &dyn Fn(&Taken<P>) -> bool| {
            let mut all = self.taken.iter().filter(|(_, one)| among(one));
            all.find(|(_, one)| which(one)).map(|(number, _)| *number)
        };
        find(&|one| !one.asked)
            .or_else(|| find(&|one| now.saturating_duration_since(one.since) >= SLOW))
    }
}

/// The places of one listener.
#[derive(Debug)]
pub struct Room<P>(Mutex<Places<P>>);

/// A place of a connection, free again when dropped.
#[derive(Debug)]
pub struct Seat<P> {
    room: Arc<Room<P>>,
    number: u64,
}

impl<P: Copy + PartialEq> Room<P> {
    /// An empty one.
    pub fn new(limits: Limits) -> Arc<Room<P>> {
        Arc::new(Room(Mutex::new(Places {
            limits,
            next: 0,
            taken: BTreeMap::new(),
        })))
    }

    /// A place for a new connection, for which an older one may be ended; `None` where it must go itself.
    pub fn enter(self: &Arc<Self>, peer: P, now: Instant) -> Option<Seat<P>> {
        let (number, left) = self.places().enter(peer, now)?;
        if let Some(task) = left.and_then(|left| left.task) {
            task.abort();
        }
        Some(Seat {
            room: Arc::clone(self),
            number,
        })
    }

    /// The task that serves a connection.
    pub fn served_by(&self, number: u64, task: AbortHandle) {
        if let Some(taken) = self.places().taken.get_mut(&number) {
            taken.task = Some(task);
        }
    }
}

impl<P> Room<P> {
    fn places(&self) -> MutexGuard<'_, Places<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> Seat<P> {
    /// Tells this connection from the others.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The whole request has come.
    pub fn asked(&self) {
        if let Some(taken) = self.room.places().taken.get_mut(&self.number) {
            taken.asked = true;
        }
    }
}

impl<P> Drop for Seat<P> {
    fn drop(&mut self) {
        self.room.places().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        most: 4,
        unfinished: 3,
        of_peer: 2,
        unfinished_of_peer: 2,
    };

    fn places() -> Places<u8> {
        Places {
            limits: LIMITS,
            next: 0,
            taken: BTreeMap::new(),
        }
    }

    fn numbers(places: &Places<u8>) -> Vec<u64> {
        places.taken.keys().copied().collect()
    }

    #[test]
    fn the_oldest_silent_connection_leaves_first() {
        let (mut places, now) = (places(), Instant::now());
        for peer in [1, 2, 3] {
            assert!(matches!(places.enter(peer, now), Some((_, None))));
        }
        assert!(places.enter(4, now).is_some());
        assert_eq!(numbers(&places), [2, 3, 4]);
        // One that has asked stays, also when it is older.
        places.taken.get_mut(&2).unwrap().asked = true;
        places.enter(5, now).unwrap();
        places.enter(6, now).unwrap();
        assert_eq!(numbers(&places), [2, 4, 5, 6]);
    }

    #[test]
    fn a_peer_with_many_connections_loses_its_own() {
        let (mut places, now) = (places(), Instant::now());
        for peer in [1, 2, 2, 2] {
            places.enter(peer, now).unwrap();
        }
        assert_eq!(numbers(&places), [1, 3, 4]);
    }

    // L04
    #[test]
    fn silent_connections_of_a_peer_take_no_place_of_its_requests() {
        let (mut places, now) = (places(), Instant::now());
        places.limits = Limits {
            most: 8,
            unfinished: 6,
            of_peer: 4,
            unfinished_of_peer: 2,
        };
        let (first, _) = places.enter(1, now).unwrap();
        places.taken.get_mut(&first).unwrap().asked = true;
        for _ in 0..3 {
            places.enter(1, now).unwrap();
        }
        assert_eq!(numbers(&places), [1, 3, 4]);
        places.enter(2, now).unwrap();
        places.enter(1, now).unwrap();
        assert_eq!(numbers(&places), [1, 4, 5, 6]);
        assert_eq!(Limits::of(64).unfinished_of_peer, 16);
        assert_eq!(Limits::of(4).unfinished_of_peer, 1);
    }

    #[test]
    fn answers_under_way_are_given_up_only_when_they_are_slow() {
        let (mut places, now) = (places(), Instant::now());
        for peer in [1, 2, 3, 4] {
            let (number, _) = places.enter(peer, now).unwrap();
            places.taken.get_mut(&number).unwrap().asked = true;
        }
        assert!(places.enter(5, now).is_none());
        assert_eq!(numbers(&places), [1, 2, 3, 4]);
        assert!(places.enter(5, now + SLOW).is_some());
        assert_eq!(numbers(&places), [2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn no_limit_is_passed_and_a_newcomer_finds_a_place_while_any_is_silent(
            steps in prop::collection::vec((0..4_u8, 0..3_u8), 0..100)
        ) {
            let (mut places, now) = (places(), Instant::now());
            for (peer, step) in steps {
                if step == 0 {
                    if let Some(taken) = places.taken.values_mut().find(|one| one.peer == peer) {
                        taken.asked = true;
                    }
                    continue;
                }
                let silent_of_peer = places.taken.values().any(|one| one.peer == peer && !one.asked);
                let entered = places.enter(peer, now).is_some();
                prop_assert!(entered || !silent_of_peer);
                let of = |which: &dyn Fn(&Taken<u8>) -> bool| places.taken.values().filter(|one| which(one)).count();
                prop_assert!(places.taken.len() <= LIMITS.most);
                prop_assert!(of(&|one| !one.asked) <= LIMITS.unfinished);
                prop_assert!(of(&|one| one.peer == peer) <= LIMITS.of_peer);
                prop_assert!(of(&|one| one.peer == peer && !one.asked) <= LIMITS.unfinished_of_peer);
            }
        }
    }
}
