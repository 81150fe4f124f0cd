//! One question to Consul over HTTP: token, deadlines, size cap, fail-over, and what each status means.
//!
//! An answer counts only when all of it arrived, was a 200 with JSON (or Consul's own 404 of an absent
//! key) and has the right shape. Locks here are never held across an await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::super::Freshness;
use super::address::Choice;
use super::asked::{Asked, Reply};
use super::certificate::{self, Certificate};
use super::error::{ErrorClass, ReadError};
use super::query::{self, Mode, Request};
use super::response::{
    excerpt, freshness, from_consul, is_json, retry_after, sensitive, transport,
};
use super::tls::{self, Endpoint, Stamp};
use super::token::Token;
use super::{ConsulError, Load, Options, Origin, SourceStatus, answer, index};
use crate::catalog::{Answer, Kind, Query, Scope};
use crate::descriptors;
use crate::source::Secret;

mod exchange;

/// How often certificate files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A connection lost sooner than this was being closed while the request was written.
const RACE: Duration = Duration::from_millis(500);
/// How many queries that cannot be asked are named.
const NAMED: usize = 10;
/// A query that cannot be asked is looked at again after this.
const UNASKABLE: Duration = Duration::from_secs(300);
/// A larger body is parsed off the loop.
const LARGE: usize = 256 * 1024;

/// The shared client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) options: Options,
    pub(super) defaults: Scope,
    token: Token,
    shared: Mutex<Shared>,
    requests: AtomicU64,
    /// For what is asked beside the watches.
    beside: Semaphore,
    /// Queries of watches that cannot be asked, each with how many watches there are and why.
    not_asked: Mutex<BTreeMap<String, (usize, String)>>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Arc<Vec<Endpoint>>,
    stamp: Stamp,
    looked_at: Instant,
    tls_problem: Option<String>,
    certificates: Vec<Certificate>,
    choice: Choice,
    /// Of each address: until when it asked to be left alone.
    throttled: Vec<Option<Instant>>,
    /// Of each address: whether its last request was answered, so that a connection may be kept alive.
    kept_alive: Vec<bool>,
    errors: BTreeMap<ErrorClass, u64>,
    last_error: Option<ReadError>,
}

/// Where a watch stands in Consul's history.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// The index to send.
    pub(super) index: u64,
    /// The address's epoch under which it was learned.
    pub(super) epoch: u64,
    /// The index of what is known; it outlives a failure.
    pub(super) seen: u64,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) reply: Reply,
    pub(super) freshness: Freshness,
    /// Where to go on.
    pub(super) position: Position,
    /// How many requests it took beyond the first, for the pace.
    pub(super) extra_requests: u32,
}

/// The address chosen for one read.
struct Target {
    at: usize,
    endpoint: Endpoint,
    /// All of them, as they were then.
    endpoints: Arc<Vec<Endpoint>>,
    epoch: u64,
}

/// A query that cannot be asked, and is wanted.
pub(super) struct NotAsked {
    client: Arc<Client>,
    query: String,
}

impl Drop for NotAsked {
    fn drop(&mut self) {
        let all = self.client.not_asked.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = all.get_mut(&self.query) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.query);
            }
        }
    }
}

/// Why a question was not answered.
#[derive(Debug)]
pub(super) struct Miss {
    pub(super) error: ReadError,
    /// The connection was there and was lost before any answer.
    pub(super) lost: bool,
    /// The connection was refused after it had been taken: Consul may allow no more.
    pub(super) refused: bool,
    /// There was no connection.
    pub(super) gone: bool,
}

impl From<ReadError> for Miss {
    fn from(error: ReadError) -> Miss {
        Miss {
            error,
            lost: false,
            refused: false,
            gone: false,
        }
    }
}

/// Why a body could not be read.
type Failed = (ErrorClass, String);

struct Good {
    reply: Reply,
    freshness: Freshness,
    received: Option<u64>,
}

/// How many connections there may be.
fn most(options: &Options) -> usize {
    options.max_connections.min(descriptors::shares().watches)
}

/// How many of them are for what is asked beside the watches.
fn beside(options: &Options) -> usize {
    (most(options) / 8).max(1)
}

impl Client {
    pub(super) fn new(options: Options) -> Result<Client, ConsulError> {
        if options.addresses.is_empty() {
            return Err(ConsulError::NoAddress);
        }
        let stamp = tls::stamp(&options.tls);
        let endpoints = tls::endpoints(&options)?;
        let count = endpoints.len();
        Ok(Client {
            defaults: Scope {
                datacenter: options.datacenter.clone(),
                namespace: options.namespace.clone(),
                partition: options.partition.clone(),
            },
            token: Token::load(options.token.clone())?,
            shared: Mutex::new(Shared {
                endpoints: Arc::new(endpoints),
                stamp,
                looked_at: Instant::now(),
                tls_problem: None,
                certificates: certificate::in_use(&options.tls),
                choice: Choice::new(count),
                throttled: vec![None; count],
                kept_alive: vec![false; count],
                errors: BTreeMap::new(),
                last_error: None,
            }),
            requests: AtomicU64::new(0),
            beside: Semaphore::new(beside(&options)),
            not_asked: Mutex::default(),
            options,
        })
    }

    /// How many connections watches may have.
    pub(super) fn followed(&self) -> usize {
        most(&self.options)
            .saturating_sub(beside(&self.options))
            .max(1)
    }

    /// Why few connections are shared, where that is for want of descriptors.
    pub(super) fn few_descriptors(&self, load: &Load) -> Option<String> {
        let few = load.crowded && most(&self.options) < self.options.max_connections;
        few.then(|| {
            format!(
                "Gatewright may open few files (ulimit -n, LimitNOFILE), so {} queries share {} connections to Consul and changes are seen later. Raise the limit.",
                load.asked, load.budget
            )
        })
    }

    /// Asks once, each address at most once.
    pub(super) async fn read_once(
        &self,
        query: &Query,
        deadline: Duration,
    ) -> Result<(Answer, Freshness), ReadError> {
        let asked = Asked::Query(query.clone());
        let began_at = self.target().endpoint.address;
        let all = async {
            let mut left = self.options.addresses.len();
            loop {
                left -= 1;
                // The semaphore is never closed.
                let _place = self.beside.acquire().await.ok();
                match self.read(&asked, Position::default(), Duration::ZERO).await {
                    Ok(Read {
                        reply: Reply::Answer(answer),
                        freshness,
                        ..
                    }) => return Ok((answer, freshness)),
                    // No answer to a query is of another kind.
                    Ok(_) => {}
                    Err(miss) if left > 0 && miss.error.class.blames_address() => {}
                    Err(miss) => return Err(miss.error),
                }
            }
        };
        timeout(deadline, all).await.unwrap_or_else(|_| {
            let path = asked
                .request(&self.defaults)
                .map_or_else(|_| query.to_string(), |request| request.path);
            let detail = format!("{deadline:?} passed");
            Err(ReadError::new(
                ErrorClass::Timeout,
                &began_at,
                &path,
                &detail,
            ))
        })
    }

    /// Asks the current address, from `position` on. Blocks as long as Consul does, which may hold it for `wait`.
    pub(super) async fn read(
        &self,
        asked: &Asked,
        position: Position,
        wait: Duration,
    ) -> Result<Read, Miss> {
        let target = self.target();
        let request = asked.request(&self.defaults).map_err(|reason| {
            let address = &target.endpoint.address;
            let mut error =
                ReadError::new(ErrorClass::Unaskable, address, &asked.to_string(), &reason);
            // It will be no better until the template changes.
            error.retry_after = Some(UNASKABLE);
            self.note(&error);
            error
        })?;
        let known = if position.epoch == target.epoch {
            position.index
        } else {
            index::FRESH
        };
        let mode = Mode {
            index: known,
            wait,
            stale: self.options.stale,
        };
        let mut extra_requests = 0;
        let mut sent = known;
        let mut good = self.ask(&target, asked, &request, mode).await?;
        // Servers that lag behind by different times would make the content jump back and forth.
        let older = position.epoch == target.epoch
            && good.received.is_some_and(|index| index < position.seen);
        let lags = good.freshness.last_contact > self.options.max_stale;
        if mode.stale && request.blocks && (lags || older) {
            let mode = Mode {
                index: index::FRESH,
                stale: false,
                ..mode
            };
            extra_requests += 1;
            match self.ask(&target, asked, &request, mode).await {
                Ok(fresh) => {
                    good = fresh;
                    sent = index::FRESH;
                }
                // What is known is newer.
                Err(error) if older => return Err(error),
                // The stale answer is used: see `Options::max_stale`.
                Err(_) => {}
            }
        }
        if let (Asked::Query(query), Reply::Answer(Answer::Datacenters(names))) =
            (asked, &mut good.reply)
            && query.kind == (Kind::Datacenters { ignore_down: true })
        {
            let all = std::mem::take(names);
            extra_requests += u32::try_from(all.len()).unwrap_or(u32::MAX);
            *names = self.those_that_answer(&target, all).await?;
        }
        Ok(Read {
            reply: good.reply,
            freshness: good.freshness,
            position: Position {
                index: index::next(sent, good.received),
                epoch: target.epoch,
                seen: good.received.unwrap_or(position.seen),
            },
            extra_requests,
        })
    }

    /// The datacenters whose servers answer at the moment, by asking each for its services. That one
    /// does not is no fault of the agent that is asked.
    async fn those_that_answer(
        &self,
        target: &Target,
        all: Vec<String>,
    ) -> Result<Vec<String>, ReadError> {
        let token = self.token.current(Instant::now().into_std());
        let mode = Mode {
            index: index::FRESH,
            wait: self.options.wait,
            stale: false,
        };
        let mut answering = Vec::with_capacity(all.len());
        for name in all {
            let query = Query {
                kind: Kind::Services {
                    node_meta: BTreeMap::new(),
                    filter: None,
                },
                scope: Scope {
                    datacenter: Some(name.clone()),
                    ..Scope::default()
                },
            };
            let asked = Asked::Query(query);
            let Ok(request) = asked.request(&self.defaults) else {
                continue;
            };
            // Cancel safety: an exchange that is given up closes its connection.
            let result = self
                .exchange(target, &asked, &request, mode, token.as_ref())
                .await;
            match result.map_err(|miss| miss.error) {
                // To refuse is to answer.
                Ok(_) => answering.push(name),
                Err(error) if error.class == ErrorClass::Forbidden => answering.push(name),
                Err(error)
                    if matches!(
                        error.class,
                        ErrorClass::Server | ErrorClass::NoLeader | ErrorClass::Timeout
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answering)
    }

    /// How long the current address asked to be left alone, from now.
    pub(super) fn throttled_for(&self, now: Instant) -> Option<Duration> {
        let shared = self.shared();
        let until = (*shared.throttled.get(shared.choice.current())?)?;
        until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// Without what the task that asks knows.
    pub(super) fn status(&self) -> SourceStatus {
        let throttled_for = self.throttled_for(Instant::now());
        let shared = self.shared();
        let addresses: Vec<String> = self
            .options
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        SourceStatus {
            origin: Origin::Consul,
            members: BTreeMap::new(),
            cut_off: false,
            notes: self.notes(),
            address: addresses
                .get(shared.choice.current())
                .cloned()
                .unwrap_or_default(),
            addresses,
            switches: shared.choice.epoch,
            requests: self.requests.load(Ordering::Relaxed),
            watches: 0,
            load: Load::default(),
            errors: shared.errors.clone(),
            last_error: shared.last_error.clone(),
            throttled_for,
            token: self.token.status(),
            tls_problem: shared.tls_problem.clone(),
            certificates: shared.certificates.clone(),
            insecure_skip_verify: self.options.tls.insecure_skip_verify,
        }
    }

    fn notes(&self) -> Vec<String> {
        let not_asked = self.not_asked.lock();
        let not_asked = not_asked.unwrap_or_else(PoisonError::into_inner);
        let named = not_asked.iter().take(NAMED).map(|(query, (_, why))| {
            format!("Consul cannot be asked {query}: {why}. Gatewright renders as if nothing had that name. Correct the name in the catalog.")
        });
        let more = not_asked.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("Consul cannot be asked {more} more queries."));
        named.chain(more).collect()
    }

    /// A query that cannot be asked; the status names it until that is dropped.
    pub(super) fn not_asked(self: &Arc<Self>, query: &Query) -> Option<NotAsked> {
        let why = query::request(query, &self.defaults).err()?;
        let query = query.to_string();
        let mut all = self
            .not_asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.entry(query.clone()).or_insert((0, why)).0 += 1;
        Some(NotAsked {
            client: Arc::clone(self),
            query,
        })
    }

    /// One exchange, repeated only when a kept-alive connection was closed as we wrote (a GET may be
    /// repeated), or when a 403 met a token that has changed on disk since or was never taken before.
    async fn ask(
        &self,
        target: &Target,
        asked: &Asked,
        request: &Request,
        mode: Mode,
    ) -> Result<Good, Miss> {
        let kept_alive = self.shared().kept_alive[target.at];
        let mut began = Instant::now();
        let mut token = self.token.current(began.into_std());
        let mut refused = Vec::new();
        let mut repeated = false;
        let result = loop {
            let result = self
                .exchange(target, asked, request, mode, token.as_ref())
                .await;
            let now = Instant::now();
            match &result {
                Ok(_) => self.token.accepted(token.as_ref()),
                Err(miss) if miss.lost && !repeated && kept_alive && now - began < RACE => {
                    repeated = true;
                    began = now;
                    continue;
                }
                Err(miss) if miss.error.class == ErrorClass::Forbidden => {
                    refused.push(token);
                    if let Some(next) = self.token.after_refusal(&refused, now.into_std()) {
                        token = Some(next);
                        began = now;
                        continue;
                    }
                }
                Err(_) => {}
            }
            break result;
        };
        let mut shared = self.shared();
        match result {
            Ok(good) => {
                shared.kept_alive[target.at] = true;
                Ok(good)
            }
            Err(mut miss) => {
                let error = &miss.error;
                let throttled = error.class == ErrorClass::Throttled && error.retry_after.is_none();
                miss.refused = throttled || (miss.lost && began.elapsed() < RACE);
                miss.gone = error.class == ErrorClass::Unreachable && !miss.lost;
                shared.kept_alive[target.at] = false;
                if let Some(pause) = error.retry_after {
                    shared.throttled[target.at] = Some(Instant::now() + pause);
                }
                if error.class.blames_address() {
                    let now = Instant::now().into_std();
                    shared.choice.failed(target.at, now, self.options.cool_down);
                }
                // What swallowed one connection may have swallowed the idle ones too: no request may wait
                // on another of those.
                if error.class == ErrorClass::Timeout
                    && Arc::ptr_eq(&shared.endpoints, &target.endpoints)
                    && let Ok(fresh) = tls::endpoints(&self.options)
                {
                    shared.endpoints = Arc::new(fresh);
                }
                if error.class == ErrorClass::Tls {
                    self.reload_tls(&mut shared);
                }
                drop(shared);
                // A limit is told of by itself.
                if !miss.refused {
                    self.note(&miss.error);
                }
                Err(miss)
            }
        }
    }

    /// The address to ask now. Looks at the certificate files when the last look is old enough.
    fn target(&self) -> Target {
        let mut shared = self.shared();
        if shared.looked_at.elapsed() >= LOOK_EVERY {
            self.reload_tls(&mut shared);
        }
        let at = shared.choice.current();
        Target {
            at,
            endpoint: shared.endpoints[at].clone(),
            endpoints: Arc::clone(&shared.endpoints),
            epoch: shared.choice.epoch,
        }
    }

    /// Makes new clients when a certificate file changed. Those that exist stay when that fails.
    fn reload_tls(&self, shared: &mut Shared) {
        shared.looked_at = Instant::now();
        let stamp = tls::stamp(&self.options.tls);
        if stamp == shared.stamp {
            return;
        }
        shared.stamp = stamp;
        match tls::endpoints(&self.options) {
            Ok(endpoints) => {
                shared.endpoints = Arc::new(endpoints);
                shared.tls_problem = None;
                shared.certificates = certificate::in_use(&self.options.tls);
            }
            Err(error) => shared.tls_problem = Some(error.to_string()),
        }
    }

    fn basic_auth(&self) -> Option<String> {
        let (user, password) = self.options.http_auth.as_ref()?;
        let pair = format!("{user}:{}", password.reveal());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Some(format!("Basic {encoded}"))
    }

    /// A hostile server may send our own secrets back in its error text.
    fn redact(&self, text: &str, token: Option<&Secret>) -> String {
        let password = self
            .options
            .http_auth
            .as_ref()
            .map(|(_, password)| password);
        let auth = self.basic_auth();
        let encoded = auth.as_deref().and_then(|auth| auth.strip_prefix("Basic "));
        let secrets = [token, password].into_iter().flatten().map(Secret::reveal);
        secrets
            .chain(encoded)
            .filter(|secret| !secret.is_empty())
            .fold(text.to_owned(), |text, secret| {
                text.replace(secret, "(hidden)")
            })
    }

    fn note(&self, error: &ReadError) {
        let mut shared = self.shared();
        *shared.errors.entry(error.class).or_default() += 1;
        shared.last_error = Some(error.clone());
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
