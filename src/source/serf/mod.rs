//! Serf as a source: the members that one agent knows, followed by its RPC protocol. It needs no master: each
//! balancer has an agent of its own and renders for itself.
//!
//! This file is the whole of what others use: options, the handle and the status. It answers the queries that
//! Consul answers, as far as Serf knows anything of them; see [`members::Mapping`] for what tags mean.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Secret;
use super::consul::{Load, TokenStatus};
use super::seen::{Followed, Seen, tell};
use super::{ErrorClass, Freshness, Origin, ReadError, SourceStatus, Update, Watch, WatchId};
use crate::catalog::fitness::shorten;
use crate::catalog::guard::Silence;
use crate::catalog::{Answer, Instance, Query};

mod client;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
pub mod members;
#[cfg(test)]
mod recorded_tests;
#[cfg(test)]
mod tests;
mod wire;

use client::Connection;
pub use members::{Failed, unanswerable};
use members::{Mapping, Members, State};

/// Where the key of `rpc_auth` comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Key {
    /// The agent asks for none.
    #[default]
    None,
    /// The key itself.
    Value(Secret),
    /// A file with the key, read for each connection.
    File(PathBuf),
}

/// How Serf is reached and read.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agents' RPC addresses, in order of preference. One is asked at a time.
    pub addresses: Vec<String>,
    /// The key.
    pub key: Key,
    /// What tags mean.
    pub mapping: Mapping,
    /// How often all members are read, about.
    pub read_interval: Duration,
    /// How long a connection, and an answer, may take.
    pub timeout: Duration,
    /// The cap on one answer, in bytes.
    pub max_answer: usize,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    options: Options,
    seen: watch::Sender<Seen<Members>>,
    requests: AtomicU64,
    state: Mutex<Told>,
}

/// What is told in the status.
#[derive(Debug, Default)]
struct Told {
    current: usize,
    switches: u64,
    errors: BTreeMap<ErrorClass, u64>,
    last_error: Option<ReadError>,
    /// The members that were believed last.
    members: Option<Arc<Members>>,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address that is asked now.
    fn address(&self) -> String {
        let current = self.told().current;
        self.options
            .addresses
            .get(current)
            .cloned()
            .unwrap_or_default()
    }

    /// Counts a failure; the next address is the one to ask.
    fn failed(&self, error: &ReadError) {
        let mut told = self.told();
        *told.errors.entry(error.class).or_default() += 1;
        told.last_error = Some(error.clone());
        let count = self.options.addresses.len();
        if count > 1 {
            told.current = (told.current + 1) % count;
            told.switches += 1;
        }
    }

    fn answer(&self, members: &Members, query: &Query) -> Result<Answer, ReadError> {
        let answer = members.answer(query);
        answer.map_err(|why| self.unaskable(query, &why))
    }

    /// For a query that Serf has no answer to.
    fn unaskable(&self, query: &Query, why: &str) -> ReadError {
        let (address, query) = (self.address(), query.to_string());
        ReadError::of(Origin::Serf, ErrorClass::Unaskable, &address, &query, why)
    }

    /// Reads all members; `before` are those that were believed last.
    async fn read(
        &self,
        connection: &mut Connection,
        before: Option<&Members>,
    ) -> Result<Members, ReadError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (list, unreadable) = connection.members().await?;
        let mapping = &self.options.mapping;
        let now = Instant::now();
        Ok(Members::new(list, unreadable, mapping, before, now))
    }
}

/// Serf. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Serf {
    followed: Arc<Followed<Shared>>,
}

impl Serf {
    /// Prepares the client; nothing is sent yet.
    pub fn new(options: Options) -> Serf {
        let shared = Shared {
            options,
            seen: watch::Sender::new(Seen::Nothing),
            requests: AtomicU64::new(0),
            state: Mutex::default(),
        };
        Serf {
            followed: Followed::new(shared),
        }
    }

    /// Watches a query until the returned handle is dropped. Must be called within a Tokio runtime.
    pub fn watch(&self, id: WatchId, query: Query, out: mpsc::Sender<Update>) -> Watch {
        let follow = |shared| follow::Follower::new(shared).run();
        self.followed.watch("Serf", follow, |shared| async move {
            let answer =
                |members: &Arc<Members>, query: &Query| shared.answer(members, query).map(Arc::new);
            tell(shared.seen.subscribe(), answer, id, query, out).await;
        })
    }

    /// Asks once, on a connection of its own, each address at most once, within `deadline` in all.
    pub async fn read_once(
        &self,
        query: &Query,
        deadline: Duration,
    ) -> Result<(Answer, Freshness), ReadError> {
        let shared = &self.followed.shared;
        let begun = Instant::now();
        if let Some(why) = unanswerable(query) {
            return Err(shared.unaskable(query, &why));
        }
        let read = async {
            let mut last = None;
            for address in &shared.options.addresses {
                let members = match Connection::open(address, &shared.options).await {
                    Ok(mut connection) => shared.read(&mut connection, None).await,
                    Err(error) => Err(error),
                };
                match members {
                    Ok(members) => return Ok(members),
                    Err(error) => last = Some(error),
                }
            }
            Err(last)
        };
        let late = |detail: &str| {
            let address = shared.address();
            ReadError::of(
                Origin::Serf,
                ErrorClass::Timeout,
                &address,
                "members",
                detail,
            )
        };
        match timeout(deadline, read).await {
            Ok(Ok(members)) => Ok((shared.answer(&members, query)?, Freshness::now(begun))),
            Ok(Err(error)) => Err(error.unwrap_or_else(|| late("no address is set"))),
            Err(_) => Err(late("the time for the question was over")),
        }
    }

    /// What is known of the instances that a query does not see any more.
    pub fn evidence(&self, query: &Query) -> Result<Vec<Instance>, Silence> {
        match &*self.followed.shared.seen.borrow() {
            Seen::Known(members, _) => members.evidence(query),
            Seen::Nothing | Seen::Failed { .. } => Err(Silence::Unknown),
        }
    }

    /// What the source is doing.
    pub fn status(&self) -> SourceStatus {
        let shared = &self.followed.shared;
        let address = shared.address();
        let told = shared.told();
        SourceStatus {
            origin: Origin::Serf,
            address,
            addresses: shared.options.addresses.clone(),
            switches: told.switches,
            requests: shared.requests.load(Ordering::Relaxed),
            watches: self.followed.watches(),
            errors: told.errors.clone(),
            last_error: told.last_error.clone(),
            throttled_for: None,
            load: Load::default(),
            token: TokenStatus {
                source: match &shared.options.key {
                    Key::None => "none".to_owned(),
                    Key::Value(_) => "value".to_owned(),
                    Key::File(path) => path.display().to_string(),
                },
                problem: None,
            },
            members: told.members.as_deref().map(counts).unwrap_or_default(),
            cut_off: told.members.as_deref().is_some_and(Members::looks_cut_off),
            notes: told.members.as_deref().map(notes).unwrap_or_default(),
            tls_problem: None,
            certificates: Vec::new(),
            insecure_skip_verify: false,
        }
    }
}

/// How many members are in each state.
fn counts(members: &Members) -> BTreeMap<&'static str, u64> {
    [
        ("alive", State::Alive),
        ("failed", State::Failed),
        ("leaving", State::Leaving),
        ("left", State::Left),
    ]
    .map(|(name, state)| (name, members.count(state) as u64))
    .into()
}

/// What somebody should know of them, a sentence each.
fn notes(members: &Members) -> Vec<String> {
    let cut_off = members.looks_cut_off().then(|| {
        format!(
            "{} members of Serf fail and {} are alive: this machine may be the one that is cut off. Nobody is taken out for it, and HAProxy's checks decide.",
            members.count(State::Failed),
            members.count(State::Alive)
        )
    });
    let unreadable = (!members.unreadable.is_empty()).then(|| {
        let some = members.unreadable.iter().take(5);
        let names: Vec<String> = some.map(|name| shorten(name)).collect();
        format!(
            "{} members of Serf are left out, because their name or a tag is not UTF-8, or both are longer than 4096 bytes: {}. Write these tags anew with `serf tags`, or start the agent under another name.",
            members.unreadable.len(),
            names.join(", ")
        )
    });
    let untold = (members.untold() > 0).then(|| {
        format!(
            "{} members of Serf that were here are missing in the agent's list, and neither failed nor left. They stay for up to 30 s, because an agent that started again learns of the others one after the other.",
            members.untold()
        )
    });
    cut_off
        .into_iter()
        .chain(unreadable)
        .chain(untold)
        .collect()
}
