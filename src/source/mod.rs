//! Where answers come from. A source watches queries and reports what it learns as [`Update`]s.
//!
//! A source never decides what to do about an answer and never forgets one because of an error.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::{Answer, Query};

pub mod consul;

pub use consul::{ErrorClass, ReadError};

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
