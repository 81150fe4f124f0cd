//! Where answers come from. A source watches queries and reports what it learns as [`Update`]s.
//!
//! A source never decides what to do about an answer and never forgets one because of an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::catalog::guard::{Permission, Right, Silence};
use crate::catalog::{Answer, Instance, Query, Scope};

mod backoff;
pub mod consul;
mod error;
pub mod file;
mod secret;
mod seen;
pub mod serf;

use consul::{Certificate, Consul, Load, TokenStatus};
pub use error::{ErrorClass, ReadError};
use file::CatalogFile;
pub use secret::Secret;
use serf::Serf;

/// Which catalog is read.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Consul's agent, by HTTP.
    #[default]
    Consul,
    /// Serf's agent, by RPC.
    Serf,
    /// A file.
    File,
}

impl Origin {
    /// Its name in settings and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Origin::Consul => "consul",
            Origin::Serf => "serf",
            Origin::File => "file",
        }
    }

    /// Its name, to begin a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Consul => "Consul",
            Origin::Serf => "Serf",
            Origin::File => "The catalog file",
        }
    }

    /// Its name within a sentence.
    pub fn within(self) -> &'static str {
        match self {
            Origin::File => "the catalog file",
            other => other.name(),
        }
    }
}

/// The catalog that is read. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Source {
    /// Consul.
    Consul(Consul),
    /// Serf.
    Serf(Serf),
    /// A file.
    File(CatalogFile),
}

impl Source {
    /// Watches a query until the returned handle is dropped. Must be called within a Tokio runtime.
    pub fn watch(&self, id: WatchId, query: Query, out: mpsc::Sender<Update>) -> Watch {
        match self {
            Source::Consul(consul) => consul.watch(id, query, out),
            Source::Serf(serf) => serf.watch(id, query, out),
            Source::File(file) => file.watch(id, query, out),
        }
    }

    /// Asks once, within `deadline` in all.
    pub async fn read_once(
        &self,
        query: &Query,
        deadline: Duration,
    ) -> Result<(Answer, Freshness), ReadError> {
        match self {
            Source::Consul(consul) => consul.read_once(query, deadline).await,
            Source::Serf(serf) => serf.read_once(query, deadline).await,
            Source::File(file) => file.read_once(query),
        }
    }

    /// What is known, without asking anybody, of the instances that a query does not see any more. `None` where
    /// the query itself has to be asked for that.
    /// The flag says whether the catalog left some out for want of rights.
    pub fn evidence(&self, query: &Query) -> Option<Result<(Vec<Instance>, bool), Silence>> {
        match self {
            Source::Serf(serf) => Some(serf.evidence(query).map(|list| (list, false))),
            Source::Consul(consul) => consul.evidence(query).map(Ok),
            Source::File(_) => None,
        }
    }

    /// Whether the token would see all this, if it were there. Asks within `deadline` in all; Serf and the file
    /// have no rights.
    pub async fn permission(
        &self,
        scope: &Scope,
        rights: Vec<Right>,
        deadline: Duration,
    ) -> Permission {
        match self {
            Source::Consul(consul) if !rights.is_empty() => {
                consul.permission(scope, rights, deadline).await
            }
            Source::Consul(_) | Source::Serf(_) | Source::File(_) => Permission::Certain,
        }
    }

    /// What the source is doing.
    pub fn status(&self) -> SourceStatus {
        match self {
            Source::Consul(consul) => consul.status(),
            Source::Serf(serf) => serf.status(),
            Source::File(file) => file.status(),
        }
    }
}

/// The caller's number for one watch, so that a late message of a cancelled watch can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// How an answer was got and how old it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// When the whole answer had arrived.
    pub at: Instant,
    /// `X-Consul-LastContact`: how long ago the answering server had heard from the leader.
    pub last_contact: Duration,
    /// The `Age` header of an answer that came from the agent's own cache.
    pub age: Option<Duration>,
    /// `X-Consul-KnownLeader`; true when the header is missing.
    pub known_leader: bool,
    /// `X-Consul-Results-Filtered-By-ACLs` (Consul 1.11 and later): the token hides part of the answer.
    pub filtered_by_acls: bool,
    /// `X-Consul-Index`, 0 when there was no usable one.
    pub index: u64,
    /// From the request to the end of the answer; most of it is waiting in a blocking query.
    pub took: Duration,
}

impl Freshness {
    /// Of an answer of somebody who says nothing of its age; the question went out at `begun`.
    fn now(begun: Instant) -> Freshness {
        let now = Instant::now();
        Freshness {
            at: now,
            last_contact: Duration::ZERO,
            age: None,
            known_leader: true,
            filtered_by_acls: false,
            index: 0,
            took: now - begun,
        }
    }
}

/// A message of a watch.
#[derive(Debug, Clone)]
pub enum Update {
    /// The first answer, or one whose content differs from the last.
    Answered {
        /// The number the caller gave.
        watch: WatchId,
        /// What was asked.
        query: Query,
        /// What it is now.
        answer: Arc<Answer>,
        /// How it was got.
        freshness: Freshness,
    },
    /// The last answer was confirmed: its content is still the same.
    Unchanged {
        /// The number the caller gave.
        watch: WatchId,
        /// What was asked.
        query: Query,
        /// How it was got.
        freshness: Freshness,
    },
    /// No answer this time; the watch goes on by itself.
    Failed {
        /// The number the caller gave.
        watch: WatchId,
        /// What was asked.
        query: Query,
        /// Why.
        error: ReadError,
        /// Failures since the last good answer, this one included.
        attempts: u32,
        /// When the watch asks again.
        retry_in: Duration,
        /// Whether every query of the source fails, for the same reason.
        outage: bool,
    },
}

impl Update {
    /// The watch the message belongs to.
    pub fn watch(&self) -> WatchId {
        match self {
            Update::Answered { watch, .. }
            | Update::Unchanged { watch, .. }
            | Update::Failed { watch, .. } => *watch,
        }
    }
}

/// What the source is doing, for people and metrics.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// What it is.
    pub origin: Origin,
    /// The address that is asked now.
    pub address: String,
    /// All addresses, in order of preference.
    pub addresses: Vec<String>,
    /// How often the address was switched.
    pub switches: u64,
    /// Requests sent since the start.
    pub requests: u64,
    /// Watches alive.
    pub watches: u64,
    /// What is under way for them.
    pub load: Load,
    /// Failures since the start, by class.
    pub errors: BTreeMap<ErrorClass, u64>,
    /// The last failure.
    pub last_error: Option<ReadError>,
    /// How long the current address asked to be left alone, from now.
    pub throttled_for: Option<Duration>,
    /// The token, or Serf's key.
    pub token: TokenStatus,
    /// How many members Serf knows, by state.
    pub members: BTreeMap<&'static str, u64>,
    /// Whether so many of them fail that Serf's agent may be the one that is cut off.
    pub cut_off: bool,
    /// Other things that somebody should know, a sentence each.
    pub notes: Vec<String>,
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
        [
            self.load.limited(),
            self.token.problem.clone(),
            self.tls_problem.clone(),
        ]
        .into_iter()
        .flatten()
        .chain(self.notes.iter().cloned())
        .collect()
    }
}

/// A watch that panics is started anew after a while; one that silently ended would be blind for ever.
async fn keep_alive<F: Future<Output = ()> + Send + 'static>(
    name: &'static str,
    begin: impl Fn() -> F,
) {
    let mut pause = Duration::from_secs(1);
    loop {
        // Ends with this task, which the handle ends.
        let mut running = tokio::task::JoinSet::new();
        running.spawn(begin());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(
                    "A watch of {name} has failed by a mistake in Gatewright and is started anew in {} s. What is known stays in force.",
                    pause.as_secs()
                );
            }
            _ => return,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}

/// A running watch. Dropping it ends the task and closes the connection of a request in flight.
#[derive(Debug)]
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    task: JoinHandle<()>,
}

impl Watch {
    fn begin(work: impl Future<Output = ()> + Send + 'static) -> Watch {
        Watch {
            task: tokio::spawn(work),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod keep_alive_tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    // I06
    #[tokio::test(start_paused = true)]
    async fn a_watch_that_panics_is_started_anew_with_growing_pauses() {
        let begun = AtomicU32::new(0);
        let at = tokio::time::Instant::now();
        keep_alive("Consul", || {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            async move { assert!(number >= 3, "a mistake of ours") }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 4);
        assert_eq!(at.elapsed().as_secs(), 1 + 2 + 4);
    }
}
