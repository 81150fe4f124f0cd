//! Follows the members of a cluster through one agent at a time, for all queries together, and answers each query
//! from what it follows.
//!
//! An event says only that something has changed: the whole list is read then, and every half minute anyway,
//! because an agent drops events of a slow reader without a word. It never gives up and forgets nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::client::Connection;
use super::members::Members;
use crate::source::backoff::backoff;
use crate::source::seen::Seen;
use crate::source::{ErrorClass, Freshness, Origin, ReadError};

/// The longest backoff; one connection asks for all queries.
const BACKOFF_MOST: Duration = Duration::from_secs(4);
/// A connection that was good for so long shows that all is well.
const QUIET: Duration = Duration::from_secs(30);
/// How often an agent that says nothing is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// The least time between two reads of the members, however many events come.
const FLOOR: Duration = Duration::from_millis(100);

/// What the follower is at.
enum State {
    /// No agent is asked before. Next: `Connecting`.
    Away(Instant),
    /// The addresses are tried, each once. Next: `Following`, or `Away` when none is good.
    Connecting,
    /// Events are waited for; most of the time is spent here. Next: `Following`, or `Connecting` when the
    /// connection was lost.
    Following {
        connection: Box<Connection>,
        since: Instant,
        read_at: Instant,
        ping_at: Instant,
    },
}

/// The task that follows.
pub(super) struct Follower {
    shared: Arc<Shared>,
    /// The members that were believed last.
    last: Option<Arc<Members>>,
    step: u32,
    attempts: u32,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>) -> Follower {
        // Of one that has ended by a mistake, they are still here.
        let last = shared.told().members.clone();
        Follower {
            shared,
            last,
            step: 0,
            attempts: 0,
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        let mut state = State::Connecting;
        loop {
            state = self.step(state).await;
        }
    }

    async fn step(&mut self, state: State) -> State {
        match state {
            State::Away(until) => {
                sleep_until(until).await;
                State::Connecting
            }
            State::Connecting => {
                let mut last_error = None;
                for _ in 0..self.shared.options.addresses.len() {
                    match self.connect().await {
                        Ok(following) => return following,
                        Err(error) => {
                            self.shared.failed(&error);
                            last_error = Some(error);
                        }
                    }
                }
                match last_error {
                    Some(error) => self.away(error),
                    None => State::Away(Instant::now() + BACKOFF_MOST),
                }
            }
            State::Following {
                mut connection,
                since,
                read_at,
                ping_at,
            } => {
                let now = Instant::now();
                let mut due = read_at;
                let result = tokio::select! {
                    // Cancel safety: what has arrived of an event stays in the connection.
                    event = connection.event() => event.map(|()| due = due.min(now + FLOOR)),
                    // Cancel safety: waiting loses nothing.
                    () = sleep_until(read_at) => self.read(&mut connection).await.map(|()| due = self.next_read()),
                    // Cancel safety: waiting loses nothing.
                    () = sleep_until(ping_at), if ping_at < read_at => self.ping(&mut connection).await,
                };
                if since.elapsed() >= QUIET {
                    self.step = 0;
                }
                match result {
                    Ok(()) => State::Following {
                        connection,
                        since,
                        read_at: due,
                        ping_at: Instant::now() + PING,
                    },
                    Err(error) => {
                        self.shared.failed(&error);
                        // The next address, at once where there is one; else, and when connections do not last, a
                        // moment later.
                        match self.shared.options.addresses.len() > 1 && since.elapsed() >= QUIET {
                            true => State::Connecting,
                            false => self.away(error),
                        }
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<State, ReadError> {
        let address = self.shared.address();
        let mut connection = Connection::open(&address, &self.shared.options).await?;
        // First the events, then the list: so nothing that happens in between is missed.
        connection.subscribe().await?;
        self.read(&mut connection).await?;
        let now = Instant::now();
        Ok(State::Following {
            connection: Box::new(connection),
            since: now,
            read_at: self.next_read(),
            ping_at: now + PING,
        })
    }

    async fn ping(&mut self, connection: &mut Connection) -> Result<(), ReadError> {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        connection.ping().await
    }

    async fn read(&mut self, connection: &mut Connection) -> Result<(), ReadError> {
        let begun = Instant::now();
        let members = self.shared.read(connection, self.last.as_deref()).await?;
        if let Some(last) = &self.last
            && members.has_forgotten(last)
        {
            return Err(ReadError::of(
                Origin::Serf,
                ErrorClass::NoLeader,
                &self.shared.address(),
                "members",
                "it does not know most of the members that were alive, nor that they failed or left",
            ));
        }
        let members = match self.last.take() {
            Some(last) if *last == members => last,
            _ => Arc::new(members),
        };
        self.last = Some(Arc::clone(&members));
        self.shared.told().members = Some(Arc::clone(&members));
        self.attempts = 0;
        let seen = Seen::Known(members, Freshness::now(begun));
        self.shared.seen.send_replace(seen);
        Ok(())
    }

    fn next_read(&self) -> Instant {
        let interval = self.shared.options.read_interval;
        let next = Instant::now() + interval.mul_f64(0.75 + 0.5 * fastrand::f64());
        let end = self.last.as_ref().and_then(|last| last.next_end());
        end.map_or(next, |end| next.min(end))
    }

    fn away(&mut self, error: ReadError) -> State {
        let retry_in = backoff(self.step, fastrand::f64(), BACKOFF_MOST);
        self.step = self.step.saturating_add(1);
        self.attempts = self.attempts.saturating_add(1);
        self.shared.seen.send_replace(Seen::Failed {
            error,
            attempts: self.attempts,
            retry_in,
            outage: true,
        });
        State::Away(Instant::now() + retry_in)
    }
}
