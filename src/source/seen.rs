//! What one task has read for all watches of a source together, and how each watch tells of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Freshness, ReadError, Update, WatchId};
use crate::catalog::{Answer, Query};

/// How soon a query is looked at again that what is known has no answer to.
const AGAIN: Duration = Duration::from_secs(60);

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
            } => Seen::Failed {
                error: error.clone(),
                attempts: *attempts,
                retry_in: *retry_in,
            },
        }
    }
}

/// One query: tells what is answered to it whenever something was read. Runs until the receiver is gone.
pub(super) async fn tell<T>(
    mut seen: watch::Receiver<Seen<T>>,
    answer: impl Fn(&T, &Query) -> Result<Answer, ReadError>,
    watch: WatchId,
    query: Query,
    out: mpsc::Sender<Update>,
) {
    let mut last: Option<(Arc<T>, Arc<Answer>)> = None;
    seen.mark_changed();
    loop {
        tokio::select! {
            // Cancel safety: a change that is not taken now is taken in the next turn.
            changed = seen.changed() => if changed.is_err() { return },
            // Cancel safety: waiting for the receiver's end loses nothing.
            () = out.closed() => return,
        }
        let now = seen.borrow_and_update().clone();
        let query = query.clone();
        let update = match now {
            Seen::Nothing => continue,
            Seen::Failed {
                error,
                attempts,
                retry_in,
            } => Update::Failed {
                watch,
                query,
                error,
                attempts,
                retry_in,
            },
            Seen::Known(known, freshness) => {
                let answered = match &last {
                    Some((before, answer)) if Arc::ptr_eq(before, &known) => Ok(Arc::clone(answer)),
                    _ => answer(&known, &query).map(Arc::new),
                };
                match answered {
                    Err(error) => Update::Failed {
                        watch,
                        query,
                        error,
                        attempts: 1,
                        retry_in: AGAIN,
                    },
                    Ok(answer) => {
                        let same = last.as_ref().is_some_and(|(_, before)| *before == answer);
                        last = Some((known, Arc::clone(&answer)));
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
                }
            }
        };
        if out.send(update).await.is_err() {
            return;
        }
    }
}
