//! How many requests may be under way at the same time. Without a limit each watch has a connection of its
//! own; a Consul that refuses connections beyond a limit of its own makes watches take turns.
//!
//! Consul allows a client 200 connections by default (`limits.http_max_conns_per_client`). Consul 1.8.7
//! closes those beyond without an answer; newer ones send 429. This process has a limit of its own: its share of
//! the file descriptors. Nothing here sends or reads anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A request that Consul has held for so long has a connection that it accepts.
const HELD: Duration = Duration::from_millis(500);
/// What is refused so soon after the limit changed says nothing new.
const SETTLE: Duration = Duration::from_secs(1);
/// How often one more is tried.
const GROW: Duration = Duration::from_secs(60);
/// How long Consul may hold a request while watches take turns.
pub(super) const TURN: Duration = Duration::from_secs(5);

/// The places for requests of one source, handed out in the order in which they are asked for.
#[derive(Debug)]
pub(super) struct Connections {
    places: Arc<Semaphore>,
    /// More requests are never under way.
    most: usize,
    state: Mutex<State>,
    limited: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// The limit that was found, and when.
    limit: Option<(usize, Instant)>,
    /// Places that exist: free ones and those in use.
    places: usize,
    next: u64,
    /// When each request under way began.
    under_way: BTreeMap<u64, Instant>,
}

/// A place for one request, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Connections>,
    number: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Connections> {
        Arc::new(Connections {
            places: Arc::new(Semaphore::new(most)),
            most,
            state: Mutex::new(State {
                limit: None,
                places: most,
                next: 0,
                under_way: BTreeMap::new(),
            }),
            limited: watch::Sender::new(0),
        })
    }

    /// Waits for a place.
    pub(super) async fn place(self: &Arc<Connections>) -> Place {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.full(Instant::now());
                // The semaphore is never closed.
                Arc::clone(&self.places).acquire_owned().await.ok()
            }
        };
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.under_way.insert(number, Instant::now());
        Place {
            of: Arc::clone(self),
            number,
            permit,
        }
    }

    /// All that there can be are under way and more are wanted: they take turns.
    fn full(&self, now: Instant) {
        let mut state = self.state();
        if state.limit.is_none() {
            state.limit = Some((self.most, now));
            drop(state);
            self.limited.send_modify(|count| *count += 1);
        }
    }

    /// Whether the limit in force is the share of descriptors, not one of Consul's.
    pub(super) fn is_own_limit(&self) -> bool {
        self.limit() == Some(self.most)
    }

    /// The limit in force.
    pub(super) fn limit(&self) -> Option<usize> {
        self.state().limit.map(|(limit, _)| limit)
    }

    /// Grows when a limit was found where none was: whoever is being held must take turns from now on.
    pub(super) fn limited(&self) -> watch::Receiver<u64> {
        self.limited.subscribe()
    }

    /// A new connection was refused after it had been taken. That is a limit only if others are held.
    pub(super) fn refused(&self, now: Instant) {
        let mut state = self.state();
        let settled = |since: Instant| now.saturating_duration_since(since) >= SETTLE;
        if state.limit.is_some_and(|(_, since)| !settled(since)) {
            return;
        }
        let held = |began: &&Instant| now.saturating_duration_since(**began) >= HELD;
        let limit = state.under_way.values().filter(held).count();
        if limit == 0 || state.limit.is_some_and(|(known, _)| known <= limit) {
            return;
        }
        let first = state.limit.is_none();
        state.limit = Some((limit, now));
        let excess = state.places.saturating_sub(limit);
        state.places -= self.places.forget_permits(excess);
        drop(state);
        if first {
            self.limited.send_modify(|count| *count += 1);
        }
    }

    /// Consul is away or another one: whatever limit there was may be gone.
    pub(super) fn forget_limit(&self) {
        let mut state = self.state();
        if state.limit.take().is_some() {
            self.places.add_permits(self.most - state.places);
            state.places = self.most;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.under_way.remove(&self.number);
        let Some((limit, since)) = state.limit else {
            return;
        };
        let now = Instant::now();
        if state.places > limit {
            if let Some(permit) = self.permit.take() {
                permit.forget();
                state.places -= 1;
            }
        } else if now.saturating_duration_since(since) >= GROW && limit < self.of.most {
            state.limit = Some((limit + 1, now));
            state.places += 1;
            self.of.places.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 4096;

    #[tokio::test]
    async fn watches_take_turns_when_there_are_more_than_descriptors() {
        let connections = Connections::new(2);
        let mut limited = connections.limited();
        limited.mark_unchanged();
        let (first, _second) = (connections.place().await, connections.place().await);
        assert_eq!(connections.limit(), None);
        let moment = Duration::from_millis(20);
        let third = tokio::time::timeout(moment, connections.place()).await;
        assert!(third.is_err());
        assert!(
            limited.has_changed().unwrap(),
            "those that are held give way"
        );
        assert!(connections.is_own_limit());
        drop(first);
        let _third = connections.place().await;
        // Consul may allow fewer still.
        let settled = Instant::now() + SETTLE;
        connections.state().under_way.remove(&2);
        connections.refused(settled);
        assert_eq!(connections.limit(), Some(1));
        assert!(!connections.is_own_limit());
    }

    // A10
    #[tokio::test]
    async fn a_limit_is_as_many_as_are_held() {
        let connections = Connections::new(MOST);
        let (first, second) = (connections.place().await, connections.place().await);
        // Both may be refused themselves yet.
        connections.refused(Instant::now());
        assert_eq!(connections.limit(), None);
        let third = connections.place().await;
        let later = Instant::now() + HELD;
        connections.state().under_way.insert(third.number, later);
        connections.refused(later);
        assert_eq!(connections.limit(), Some(2));
        drop(third);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), connections.place())
                .await
                .is_err()
        );
        drop(first);
        let fourth = connections.place().await;
        assert!(
            tokio::time::timeout(Duration::from_millis(20), connections.place())
                .await
                .is_err()
        );
        drop((second, fourth));
        assert_eq!(connections.state().under_way.len(), 0);
        assert_eq!(connections.state().places, 2);
        connections.forget_limit();
        assert_eq!(connections.limit(), None);
        assert_eq!(connections.places.available_permits(), MOST);
    }

    // A10
    #[tokio::test]
    async fn one_more_is_tried_each_minute() {
        let connections = Connections::new(MOST);
        let place = connections.place().await;
        let later = Instant::now() + HELD;
        connections.refused(later);
        assert_eq!(connections.limit(), Some(1));
        // What follows at once says nothing new.
        connections.refused(later);
        connections.state().limit = Instant::now().checked_sub(GROW).map(|then| (1, then));
        drop(place);
        assert_eq!(connections.limit(), Some(2));
        assert_eq!(connections.places.available_permits(), 2);
    }
}
