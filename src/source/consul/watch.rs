//! One watch: asks, tells what came, rests, asks again, for ever.
//!
//! It never gives up and never forgets its last answer; it ends when its handle or the receiver is
//! dropped. How long it rests is decided by [`Pace`], which is pure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::{Update, WatchId};
use super::client::{Client, Position, Read};
use super::error::ReadError;
use super::index;
use super::limit::Pace;
use super::outage::{self, ALONE_MOST};
use crate::catalog::{Answer, Kind, Query};

/// Above this many watches the first query of each is splayed.
const MANY: u64 = 16;
/// How far.
const SPLAY: Duration = Duration::from_millis(50);

/// How long a watch rests.
#[derive(Clone, Copy)]
enum Rest {
    /// Until the instant.
    Until(Instant),
    /// Until the instant, or until Consul has come back more often than the number says.
    Away(Instant, u64),
}

/// What a watch is at.
enum State {
    /// Nothing may be sent before. Next: `Asking`.
    Resting(Rest),
    /// A request goes out and is waited for; most of the time is spent here. Next: `Telling`, or
    /// `Resting` when the address asked to be left alone.
    Asking,
    /// There is news; a slow receiver keeps the watch here with no request in flight. Next: `Resting`.
    Telling(Box<Update>, Rest),
}

/// The task of one watch.
pub(super) struct Watcher {
    client: Arc<Client>,
    id: WatchId,
    query: Query,
    out: mpsc::Sender<Update>,
    pace: Pace,
    position: Position,
    last: Option<Arc<Answer>>,
    /// Tells this watch from the others of the source.
    number: u64,
    failed_at: Instant,
}

impl Watcher {
    pub(super) fn new(
        client: Arc<Client>,
        id: WatchId,
        query: Query,
        out: mpsc::Sender<Update>,
    ) -> Watcher {
        let number = client.watch_started();
        Watcher {
            number,
            failed_at: Instant::now(),
            client,
            id,
            query,
            out,
            pace: Pace::default(),
            position: Position::default(),
            last: None,
        }
    }

    /// Runs until the receiver is gone.
    pub(super) async fn run(mut self) {
        let out = self.out.clone();
        let many = self.client.watches.load(Ordering::Relaxed) > MANY;
        let splay = if many {
            SPLAY.mul_f64(fastrand::f64())
        } else {
            Duration::ZERO
        };
        let mut state = State::Resting(Rest::Until(Instant::now() + splay));
        loop {
            state = tokio::select! {
                // Cancel safety: a dropped step drops its request; that happens only when we end.
                next = self.step(state) => match next {
                    Some(next) => next,
                    None => return,
                },
                // Cancel safety: waiting for the receiver's end loses nothing.
                () = out.closed() => return,
            };
        }
    }

    /// One step; `None` when there is nobody left to tell.
    async fn step(&mut self, state: State) -> Option<State> {
        match state {
            State::Resting(Rest::Until(until)) => {
                sleep_until(until).await;
                Some(State::Asking)
            }
            State::Resting(Rest::Away(until, returns)) => {
                let mut returned = self.client.returned.subscribe();
                tokio::select! {
                    // Cancel safety: both only wait.
                    () = sleep_until(until) => Some(State::Asking),
                    _ = returned.wait_for(|now| *now != returns) => {
                        let called = outage::called_back(
                            self.failed_at.into_std(),
                            Instant::now().into_std(),
                            fastrand::f64(),
                        );
                        Some(State::Resting(Rest::Until(until.min(called.into()))))
                    }
                }
            }
            State::Asking => {
                let mut limited = self.client.connections.limited();
                let _place = self.client.connections.place().await;
                let now = Instant::now();
                if let Some(pause) = self.client.throttled_for(now) {
                    let jitter = (pause / 4)
                        .min(Duration::from_secs(5))
                        .mul_f64(fastrand::f64());
                    return Some(State::Resting(Rest::Until(now + pause + jitter)));
                }
                self.pace.asked(now.into_std());
                let result = tokio::select! {
                    // Cancel safety: a request that is given up is closed and asked again.
                    result = self.client.read(&self.query, self.position) => result,
                    Ok(()) = limited.changed() => {
                        // Others wait for a connection: ask again when it is this watch's turn.
                        self.pace.given_up();
                        return Some(State::Asking);
                    }
                };
                Some(match result {
                    Ok(read) => self.answered(read),
                    Err(error) => self.failed(error),
                })
            }
            State::Telling(update, rest) => {
                self.out.send(*update).await.ok()?;
                Some(State::Resting(rest))
            }
        }
    }

    fn answered(&mut self, read: Read) -> State {
        let now = Instant::now();
        for _ in 0..read.extra_requests {
            self.pace.asked(now.into_std());
        }
        self.position = read.position;
        if self.pace.failures() > 0 {
            self.client.failing.fetch_sub(1, Ordering::Relaxed);
        }
        self.client.is_back();
        let same = self.last.as_deref() == Some(&read.answer);
        // The first answer is news, but no sign that the content moves.
        self.pace
            .answered(!same && self.last.is_some(), now.into_std());
        let (watch, query, freshness) = (self.id, self.query.clone(), read.freshness);
        let update = if same {
            Update::Unchanged {
                watch,
                query,
                freshness,
            }
        } else {
            let answer = Arc::new(read.answer);
            self.last = Some(Arc::clone(&answer));
            Update::Answered {
                watch,
                query,
                answer,
                freshness,
            }
        };
        let rest = if matches!(self.query.kind, Kind::Datacenters { .. }) {
            self.client
                .options
                .poll_interval
                .mul_f64(0.9 + 0.2 * fastrand::f64())
        } else {
            self.pace.wait(now.into_std())
        };
        State::Telling(Box::new(update), Rest::Until(now + rest))
    }

    fn failed(&mut self, error: ReadError) -> State {
        let now = Instant::now();
        self.failed_at = now;
        if self.pace.failures() == 0 {
            self.client.failing.fetch_add(1, Ordering::Relaxed);
        }
        // What concerns all is asked by one of them; what concerns this query alone is its own affair.
        let all_fail = self.client.failing.load(Ordering::Relaxed)
            >= self.client.watches.load(Ordering::Relaxed);
        let concerns_all = error.class.concerns_all() || (all_fail && error.class.blames_address());
        let away = concerns_all.then(|| self.client.away(self.number, now.into_std()));
        let most = away.is_some_and(|(_, alone)| alone).then_some(ALONE_MOST);
        let retry_in = self.pace.failed(fastrand::f64(), error.retry_after, most);
        // After any failure Consul may be another one, with another history.
        self.position.index = index::FRESH;
        let update = Update::Failed {
            watch: self.id,
            query: self.query.clone(),
            error,
            attempts: self.pace.failures(),
            retry_in,
        };
        let until = now + retry_in;
        let rest = match away {
            Some((returns, _)) => Rest::Away(until, returns),
            None => Rest::Until(until),
        };
        State::Telling(Box::new(update), rest)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.pace.failures() > 0 {
            self.client.failing.fetch_sub(1, Ordering::Relaxed);
        }
        self.client.watch_ended(self.number);
    }
}
