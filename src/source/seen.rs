//! What one task has read for all watches of a source together, and how each watch tells of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Freshness, ReadError, Update, Watch, WatchId, keep_alive};
use crate::catalog::{Answer, Query};

/// How soon a query is looked at again that what is known has no answer to.
const AGAIN: Duration = Duration::from_secs(60);

/// What a source shares: the state of one task that reads for all watches. The first watch begins the task, and it
/// ends with the last of those who share it.
#[derive(Debug)]
pub(super) struct Followed<S> {
    pub shared: Arc<S>,
    follower: OnceLock<Watch>,
    watches: AtomicU64,
}

impl<S: Send + Sync + 'static> Followed<S> {
    /// Nothing is begun yet.
    pub fn new(shared: S) -> Arc<Followed<S>> {
        Arc::new(Followed {
            shared: Arc::new(shared),
            follower: OnceLock::new(),
            watches: AtomicU64::new(0),
        })
    }

    /// How many watches are alive.
    pub fn watches(&self) -> u64 {
        self.watches.load(Ordering::Relaxed)
    }

    /// A watch that does what `told` does. `follow` is the task, begun anew should it end by a mistake.
    pub fn watch<F, T>(
        self: &Arc<Self>,
        name: &'static str,
        follow: impl Fn(Arc<S>) -> F + Send + 'static,
        told: impl FnOnce(Arc<S>) -> T,
    ) -> Watch
    where
        F: Future<Output = ()> + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        self.follower.get_or_init(|| {
            let shared = Arc::clone(&self.shared);
            Watch::begin(keep_alive(name, move || follow(Arc::clone(&shared))))
        });
        let counted = Counted::new(Arc::clone(self));
        // In a box, because a future that awaits another one would hold it twice.
        let told = Box::pin(told(Arc::clone(&self.shared)));
        Watch::begin(async move {
            let _counted = counted;
            told.await;
        })
    }
}

/// One of the watches that are alive; keeps the follower running.
struct Counted<S>(Arc<Followed<S>>);

impl<S> Counted<S> {
    fn new(followed: Arc<Followed<S>>) -> Counted<S> {
        followed.watches.fetch_add(1, Ordering::Relaxed);
        Counted(followed)
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known.
#[derive(Debug)]
pub(super) enum Seen<T> {
    /// Nothing yet.
    Nothing,
    /// All of it; the same `Arc` where it was read again and is the same.
    Known(Arc<T>, Freshness),
    /// The last attempts have failed.
    Failed {
        /// Why.
        error: ReadError,
        /// Attempts since the last good one.
        attempts: u32,
        /// When the next one is.
        retry_in: Duration,
        /// Whether every query fails, for the same reason.
        outage: bool,
    },
}

// By hand: a derived one would ask it of `T`, too.
impl<T> Clone for Seen<T> {
    fn clone(&self) -> Seen<T> {
        match self {
            Seen::Nothing => Seen::Nothing,
            Seen::Known(known, freshness) => Seen::Known(Arc::clone(known), freshness.clone()),
            Seen::Failed {
                error,
                attempts,
                retry_in,
                outage,
            } => Seen::Failed {
                error: error.clone(),
                attempts: *attempts,
                retry_in: *retry_in,
                outage: *outage,
            },
        }
    }
}

/// One query: tells what is answered to it whenever something was read. Runs until the receiver is gone.
pub(super) async fn tell<T>(
    mut seen: watch::Receiver<Seen<T>>,
    answer: impl Fn(&Arc<T>, &Query) -> Result<Arc<Answer>, ReadError>,
    watch: WatchId,
    query: Query,
    out: mpsc::Sender<Update>,
) {
    let mut last = None;
    seen.mark_changed();
    loop {
        tokio::select! {
            // Cancel safety: a change that is not taken now is taken in the next turn.
            changed = seen.changed() => if changed.is_err() { return },
            // Cancel safety: waiting for the receiver's end loses nothing.
            () = out.closed() => return,
        }
        // The update is made once there is room for it: every query has this task, and a task takes the memory of all
        // that it holds while it waits.
        let Ok(room) = out.reserve().await else {
            return;
        };
        let now = seen.borrow_and_update().clone();
        if let Some(update) = update(now, &mut last, &answer, watch, &query) {
            room.send(update);
        }
    }
}

/// What to tell of what is known now; nothing before anything is.
fn update<T>(
    now: Seen<T>,
    last: &mut Option<(Arc<T>, Arc<Answer>)>,
    answer: impl Fn(&Arc<T>, &Query) -> Result<Arc<Answer>, ReadError>,
    watch: WatchId,
    query: &Query,
) -> Option<Update> {
    let (known, freshness) = match now {
        Seen::Nothing => return None,
        Seen::Failed {
            error,
            attempts,
            retry_in,
            outage,
        } => {
            return Some(Update::Failed {
                watch,
                query: query.clone(),
                error,
                attempts,
                retry_in,
                outage,
            });
        }
        Seen::Known(known, freshness) => (known, freshness),
    };
    let answered = match last {
        Some((before, answer)) if Arc::ptr_eq(before, &known) => Ok(Arc::clone(answer)),
        _ => answer(&known, query),
    };
    let query = query.clone();
    Some(match answered {
        Err(error) => Update::Failed {
            watch,
            query,
            error,
            attempts: 1,
            retry_in: AGAIN,
            outage: false,
        },
        Ok(answer) => {
            let same = last.as_ref().is_some_and(|(_, before)| *before == answer);
            *last = Some((known, Arc::clone(&answer)));
            match same {
                true => Update::Unchanged {
                    watch,
                    query,
                    freshness,
                },
                false => Update::Answered {
                    watch,
                    query,
                    answer,
                    freshness,
                },
            }
        }
    })
}
