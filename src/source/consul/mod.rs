//! Consul as a source: blocking queries over its HTTP API, of one task for all watches, over few connections.
//!
//! This file is the whole of what others use: options, the watch handle and the status. It never
//! gives up on a watch, never follows a redirect and never shows a token.
//!
//! HTTP/2 over https is not used. A connection takes 250 requests at a time (Go's default), and most agents are asked by
//! plain http on loopback: the schedule would be needed all the same, beside four more crates.
//! `?cached` is not used. The agent goes on asking its servers for each cached answer for days, and a read after a signal
//! may bring an answer from before that signal. Stale reads are a setting ([`Options::stale`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error;
use super::seen::{self, Followed, Seen};
use super::{Freshness, Origin, SourceStatus, Update, Watch, WatchId};
use crate::catalog::guard::{Permission, Right};
use crate::catalog::{Answer, Instance, Query, Scope};
use crate::source::Secret;
use asked::Asked;

mod address;
mod answer;
mod asked;
mod certificate;
mod client;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod index;
mod intern;
mod limit;
mod listed;
mod permission;
mod query;
mod response;
mod schedule;
mod signals;
mod stream;
mod tls;
mod token;
mod wanted;

pub use super::{ErrorClass, ReadError};
pub use address::Address;
pub use certificate::Certificate;
pub use schedule::Load;
pub use tls::TlsOptions;
pub use token::{TokenSource, TokenStatus};

/// An answer of so long ago is as good as one that is asked for now.
const A_MOMENT: Duration = Duration::from_secs(1);

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
    /// The most connections to one agent, which allows 200 to one client address by default.
    pub max_connections: usize,
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
            max_connections: 60,
            poll_interval: Duration::from_secs(15),
            cool_down: Duration::from_secs(30),
            tls: TlsOptions::default(),
        }
    }
}

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

/// Why Consul cannot be asked a query at all: the end of a sentence.
pub fn unaskable(query: &Query) -> Option<String> {
    query::request(query, &Scope::default()).err()
}

/// Consul. Cheap to clone; clones share connections, token and fail-over.
#[derive(Debug, Clone)]
pub struct Consul {
    client: Arc<client::Client>,
    followed: Arc<Followed<wanted::Shared>>,
}

impl Consul {
    /// Prepares the clients; nothing is sent yet. Errors are about options and files.
    pub fn new(options: Options) -> Result<Consul, ConsulError> {
        let client = Arc::new(client::Client::new(options)?);
        let followed = Followed::new(wanted::Shared::new(Arc::clone(&client)));
        Ok(Consul { client, followed })
    }

    /// Watches a query until the returned handle is dropped. Must be called within a Tokio runtime.
    ///
    /// While `out` is full, only the newest of what comes is kept. A query that cannot
    /// be asked, because the catalog itself holds an odd name, is answered with nothing: it must not keep all others
    /// waiting. The status names it.
    pub fn watch(&self, id: WatchId, query: Query, out: mpsc::Sender<Update>) -> Watch {
        if let Some(not_asked) = self.client.not_asked(&query) {
            return Watch::begin(async move {
                let _not_asked = not_asked;
                let update = Update::Answered {
                    watch: id,
                    answer: Arc::new(Answer::nothing(&query.kind)),
                    query,
                    freshness: Freshness::now(Instant::now()),
                };
                let _ = out.send(update).await;
                out.closed().await;
            });
        }
        let asked = Asked::of(&query, &self.client.defaults);
        self.followed
            .watch("Consul", follow::follow, |shared| async move {
                let (interest, seen) = shared.want(asked);
                let part = |answer: &Arc<Answer>, query: &Query| Ok(asked::part(query, answer));
                seen::tell(seen, part, id, query, out).await;
                drop(interest);
            })
    }

    /// What the watch of a query saw a moment ago of all instances, whatever their health, and whether Consul left some
    /// out for want of rights.
    pub fn evidence(&self, query: &Query) -> Option<(Vec<Instance>, bool)> {
        let asked = Asked::of(query, &self.client.defaults);
        match self.followed.shared.seen(&asked)? {
            Seen::Known(answer, freshness) if freshness.at.elapsed() < A_MOMENT => match &*answer {
                Answer::Instances(list) => Some((list.clone(), freshness.filtered_by_acls)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Asks once, without blocking, each address at most once, within `deadline` in all.
    pub async fn read_once(
        &self,
        query: &Query,
        deadline: Duration,
    ) -> Result<(Answer, Freshness), ReadError> {
        if self.client.not_asked(query).is_some() {
            return Ok((Answer::nothing(&query.kind), Freshness::now(Instant::now())));
        }
        self.client.read_once(query, deadline).await
    }

    /// Whether the token would see all this, if it were there.
    pub async fn permission(
        &self,
        scope: &Scope,
        rights: Vec<Right>,
        deadline: Duration,
    ) -> Permission {
        let asked = permission::ask(&self.client, scope, rights);
        // Cancel safety: a question that is given up closes its connection.
        let answer = tokio::time::timeout(deadline, asked).await;
        answer.unwrap_or(Permission::Silent)
    }

    /// What the source is doing.
    pub fn status(&self) -> SourceStatus {
        let (load, mut status) = (self.followed.shared.load(), self.client.status());
        status.notes.extend(self.client.few_descriptors(&load));
        SourceStatus {
            watches: self.followed.watches(),
            load,
            ..status
        }
    }
}
