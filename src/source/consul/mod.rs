//! Consul as a source: blocking queries over its HTTP API, one task and one connection a watch.
//!
//! This file is the whole of what others use: options, the watch handle and the status. It never
//! gives up on a watch, never follows a redirect and never shows a token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Freshness, Update, WatchId};
use crate::catalog::{Answer, Query};

mod address;
mod answer;
mod certificate;
mod client;
mod connections;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod index;
mod limit;
mod outage;
mod query;
mod response;
mod tls;
mod token;
mod watch;

#[cfg(test)]
mod real_tests;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use certificate::Certificate;
pub use error::{ErrorClass, ReadError};
pub use tls::TlsOptions;
pub use token::{Secret, TokenSource, TokenStatus};

/// How Consul is reached and asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agents to ask, in order of preference. One is asked at a time.
    pub addresses: Vec<Address>,
    /// The ACL token.
    pub token: TokenSource,
    /// User and password of HTTP basic authentication.
    pub http_auth: Option<(String, Secret)>,
    /// The datacenter of queries that name none.
    pub datacenter: Option<String>,
    /// The namespace of queries that name none (Consul Enterprise).
    pub namespace: Option<String>,
    /// The partition of queries that name none (Consul Enterprise).
    pub partition: Option<String>,
    /// Let any server answer, not the leader alone.
    pub stale: bool,
    /// With `stale`: an answer from a server that has not heard from the leader for longer is asked
    /// for once more without it. If that fails, the stale answer is used all the same, and its
    /// [`Freshness::last_contact`] shows how old it may be.
    pub max_stale: Duration,
    /// How long Consul may hold a blocking query (`wait`).
    pub wait: Duration,
    /// How long an answer may take to begin, beyond what Consul may hold it (`wait` and a sixteenth).
    pub margin: Duration,
    /// How long a connection may take, with DNS and TLS.
    pub connect_timeout: Duration,
    /// How long a body may take from its first byte.
    pub body_timeout: Duration,
    /// The cap on a decoded body.
    pub max_body_bytes: usize,
    /// How often the queries are asked that Consul does not block on.
    pub poll_interval: Duration,
    /// How long an address that failed is avoided when there are others.
    pub cool_down: Duration,
    /// TLS settings, for `https://` addresses.
    pub tls: TlsOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            addresses: vec![Address::default()],
            token: TokenSource::None,
            http_auth: None,
            datacenter: None,
            namespace: None,
            partition: None,
            stale: false,
            max_stale: Duration::from_secs(10),
            wait: Duration::from_secs(60),
            margin: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            max_body_bytes: 64 * 1024 * 1024,
            poll_interval: Duration::from_secs(15),
            cool_down: Duration::from_secs(30),
            tls: TlsOptions::default(),
        }
    }
}

/// Above this many watches the status warns: Consul's own limit may be near.
const MANY_WATCHES: u64 = 150;

/// Why a source cannot be made at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsulError {
    /// An address cannot be read.
    #[error("The Consul address {text:?} cannot be used: {reason}.")]
    Address {
        /// The address.
        text: String,
        /// Why.
        reason: String,
    },
    /// The list of addresses is empty.
    #[error("There is no Consul address; name at least one.")]
    NoAddress,
    /// Certificates, keys or the server name cannot be used. A whole sentence.
    #[error("{0}")]
    Tls(String),
    /// The token cannot be used. A whole sentence.
    #[error("{0}")]
    Token(String),
}

/// What the source is doing, for people and metrics.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The address that is asked now.
    pub address: String,
    /// All addresses, in order of preference.
    pub addresses: Vec<String>,
    /// How often the address was switched.
    pub switches: u64,
    /// Requests sent since the start.
    pub requests: u64,
    /// Watches alive, which is also the most connections in use. Consul's default limit is 200 a client
    /// (`http_max_conns_per_client`, Consul 1.7 and later).
    pub watches: u64,
    /// Failures since the start, by class.
    pub errors: BTreeMap<ErrorClass, u64>,
    /// The last failure.
    pub last_error: Option<ReadError>,
    /// How long the current address asked to be left alone, from now.
    pub throttled_for: Option<Duration>,
    /// How many connections Consul lets this process have, where that was found to be too few; the watches
    /// then take turns.
    pub connection_limit: Option<usize>,
    /// The token.
    pub token: TokenStatus,
    /// Why changed certificate files could not be loaded; the old ones stay in use.
    pub tls_problem: Option<String>,
    /// The files of certificates in use, with when they expire.
    pub certificates: Vec<Certificate>,
    /// A warning: certificates are not verified.
    pub insecure_skip_verify: bool,
}

impl SourceStatus {
    /// What somebody should know and do something about, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let many = (self.watches > MANY_WATCHES).then(|| {
            format!(
                "{} queries are watched, each on a connection of its own; Consul allows one address 200 by default. \
                 Raise limits.http_max_conns_per_client in Consul's configuration, or make templates ask less.",
                self.watches
            )
        });
        let limited = self.connection_limit.map(|limit| {
            format!(
                "Consul takes only {limit} connections of ours, so {} watches take turns and see changes later. \
                 Raise limits.http_max_conns_per_client in its configuration.",
                self.watches
            )
        });
        [
            many,
            limited,
            self.token.problem.clone(),
            self.tls_problem.clone(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Consul. Cheap to clone; clones share connections, token and fail-over.
#[derive(Debug, Clone)]
pub struct Consul {
    client: Arc<client::Client>,
}

impl Consul {
    /// Prepares the clients; nothing is sent yet. Errors are about options and files.
    pub fn new(options: Options) -> Result<Consul, ConsulError> {
        let client = Arc::new(client::Client::new(options)?);
        Ok(Consul { client })
    }

    /// Watches a query until the returned handle is dropped. Must be called within a Tokio runtime.
    ///
    /// While `out` is full the watch asks nothing; its next request sees whatever is newest then.
    pub fn watch(&self, id: WatchId, query: Query, out: mpsc::Sender<Update>) -> Watch {
        let client = Arc::clone(&self.client);
        let begin = move || {
            let (client, query, out) = (Arc::clone(&client), query.clone(), out.clone());
            watch::Watcher::new(client, id, query, out).run()
        };
        Watch {
            task: tokio::spawn(keep_alive(begin)),
        }
    }

    /// Asks once, without blocking, each address at most once, within `deadline` in all.
    pub async fn read_once(
        &self,
        query: &Query,
        deadline: Duration,
    ) -> Result<(Answer, Freshness), ReadError> {
        self.client.read_once(query, deadline).await
    }

    /// What the source is doing.
    pub fn status(&self) -> SourceStatus {
        self.client.status()
    }
}

/// A watch that panics is started anew after a while; one that silently ended would be blind for ever.
async fn keep_alive<F: Future<Output = ()> + Send + 'static>(begin: impl Fn() -> F) {
    let mut pause = Duration::from_secs(1);
    loop {
        // Ends with this task, which the handle ends.
        let mut running = tokio::task::JoinSet::new();
        running.spawn(begin());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(
                    "A watch of Consul has failed by a mistake in Gatewright and is started anew in {} s. What is known stays in force.",
                    pause.as_secs()
                );
            }
            _ => return,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}

#[cfg(test)]
mod keep_alive_tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn i06_a_watch_that_panics_is_started_anew_with_growing_pauses() {
        let begun = AtomicU32::new(0);
        let at = tokio::time::Instant::now();
        keep_alive(|| {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            async move { assert!(number >= 3, "a mistake of ours") }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 4);
        assert_eq!(at.elapsed().as_secs(), 1 + 2 + 4);
    }
}

/// A running watch. Dropping it ends the task and closes the connection of a request in flight.
#[derive(Debug)]
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
