//! Services that want reload upon reload.
//!
//! A service whose tags or metadata change may change the structure of the configuration. That costs a reload, and each
//! reload an old worker that lives as long as its connections. All services share them, so each has a part: where only
//! services want a reload that have caused [`A_MINUTE`] within a minute, or [`LATELY`] of late while few old workers
//! more are allowed, the reload waits until the part of one of them is free again. As soon as another service, a key
//! or a template wants one, it goes, with all changes. Servers stay current meanwhile, as whenever a reload waits.

use std::collections::VecDeque;

use super::*;
use crate::catalog::{Instance, Meta, Scope, ServiceName};

/// So many reloads a service may cause within [`MINUTE`].
const A_MINUTE: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
/// So many within [`WHILE`] where the last old workers that are allowed are kept for others.
const LATELY: usize = 2;
const WHILE: Duration = Duration::from_secs(600);
/// Two in five of the old workers that are allowed are kept for services that have caused fewer.
const RESERVED: (usize, usize) = (2, 5);
/// So many services are named in a sentence.
const NAMED: usize = 5;
/// So many reloads are remembered.
const REMEMBERED: usize = 64;

/// A service by its name and where it is.
type Service = (Scope, String);

/// The reloads of late, and what waits because of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Frequent {
    /// When they were, and which services wanted them.
    reloads: VecDeque<(Instant, BTreeSet<Service>)>,
    /// Until when the next one waits, and why, a whole sentence.
    waiting: Option<(Instant, String)>,
    /// The services that want a set's reload; that set and the structure for which it was looked up.
    wanted: Option<(Revision, u64, BTreeSet<Service>)>,
}

impl Frequent {
    /// Until when a service may cause no reload. `reserved` is whether the old workers that are still allowed are kept
    /// for others.
    fn until(&self, service: &Service, reserved: bool, now: Instant) -> Option<Instant> {
        let caused = |(_, services): &&(Instant, BTreeSet<Service>)| services.contains(service);
        let times: Vec<Instant> = self
            .reloads
            .iter()
            .filter(caused)
            .map(|one| one.0)
            .collect();
        let nth_last = |nth: usize| Some(*times.get(times.len().checked_sub(nth)?)?);
        let minute = nth_last(A_MINUTE).map(|at| at + MINUTE);
        let lately = nth_last(LATELY).filter(|_| reserved).map(|at| at + WHILE);
        minute.max(lately).filter(|until| *until > now)
    }

    /// Until when the next reload waits at the latest, if it does for the services that want it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(until, _)| *until)
    }

    /// Why it does, a whole sentence.
    pub(super) fn reason(&self) -> Option<&String> {
        self.waiting.as_ref().map(|(_, why)| why)
    }

    /// Forgets which reloads these services have caused, or all. False if none waits.
    pub(super) fn release(&mut self, services: Option<&[String]>) -> bool {
        for (_, caused) in &mut self.reloads {
            caused.retain(|(_, name)| services.is_some_and(|all| !all.contains(name)));
        }
        self.waiting.is_some()
    }
}

impl Core {
    /// A set that HAProxy was reloaded with is about to be the last good one.
    pub(super) fn reloaded(&mut self, revision: &Revision, now: Instant) {
        let services = self.interim.restructured(revision);
        let reloads = &mut self.frequent.reloads;
        reloads.push_back((now, services));
        let oldest = reloads.len().saturating_sub(REMEMBERED);
        reloads.drain(..oldest);
        reloads.retain(|(at, services)| *at + WHILE > now && !services.is_empty());
    }

    /// Until when the reload for a set waits, if all services that want it have caused too many.
    pub(super) fn others_first(&mut self, revision: &Revision, now: Instant) -> Option<Instant> {
        if self.frequent.reloads.is_empty() {
            return None;
        }
        let (part, whole) = RESERVED;
        let most = self.timing.max_old_workers;
        let old = self.observed.old_workers;
        let reserved = old > 0 && old + most * part / whole >= most;
        let changes = self.interim.changes();
        let known = self.frequent.wanted.take();
        let known = known.filter(|known| (&known.0, known.1) == (revision, changes));
        let look = || {
            (
                revision.clone(),
                changes,
                self.interim.restructured(revision),
            )
        };
        let known = known.unwrap_or_else(look);
        let until = known.2.iter();
        let until = until.map(|service| self.frequent.until(service, reserved, now));
        let until: Option<Vec<Instant>> = until.collect();
        self.frequent.wanted = Some(known);
        until?.into_iter().min()
    }

    /// Whether a reload for the pending set waits so that others go first. Says once why, if it needs one.
    pub(super) fn lets_others_go_first(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let pending = self.pending.as_ref().filter(|_| !self.repair);
        let revision = pending.map(|pending| pending.revision.clone());
        let until = revision.and_then(|revision| {
            let until = self.others_first(&revision, now)?;
            // Who needs the reload must not keep the servers of all others from being current.
            if self.needs_reload.is_some() {
                self.suspect(&revision);
            }
            Some(until)
        });
        let Some(until) = until else {
            self.frequent.waiting = None;
            return false;
        };
        if let Some((former, _)) = &mut self.frequent.waiting {
            *former = until;
        } else if self.needs_reload.is_some() {
            let services = self.frequent.wanted.iter().flat_map(|known| &known.2);
            let names = services.take(NAMED).map(|(_, name)| format!("{name:?}"));
            let names: Vec<String> = names.collect();
            let sentence = format!(
                "Tags or metadata change too often, of {}. Each change costs a reload, so the next one waits {} at most, or until another service wants one; servers stay current. `gatewright release --all` lets it go now.",
                names.join(", "),
                seconds(until - now)
            );
            say(actions, Weight::Warning, sentence.clone());
            self.frequent.waiting = Some((until, sentence));
        }
        true
    }
}

/// The services whose tags or metadata are others in `new`, if nothing else than services may be why it has another
/// structure. `used` are the queries that either set asks.
pub(super) fn restructured<'a>(
    old: &BTreeMap<Query, Known>,
    new: &BTreeMap<Query, Known>,
    used: impl Iterator<Item = &'a Query> + Clone,
) -> BTreeSet<Service> {
    let mut services = BTreeSet::new();
    for query in used.clone() {
        let (old, new) = match (old.get(query), new.get(query)) {
            (Some(old), Some(new)) if old.revision == new.revision => continue,
            (Some(old), Some(new)) => (&*old.answer, &*new.answer),
            // The list says that it came or went.
            _ => continue,
        };
        match (&query.kind, old, new) {
            (Kind::Service { name, .. }, Answer::Instances(old), Answer::Instances(new)) => {
                if shapes(old) != shapes(new) {
                    services.insert((query.scope.clone(), name.clone()));
                }
            }
            (_, Answer::Services(old), Answer::Services(new)) => {
                let (old, new): (BTreeSet<&ServiceName>, BTreeSet<&ServiceName>) =
                    (old.iter().collect(), new.iter().collect());
                let asked: BTreeSet<&str> = used.clone().filter_map(name_of).collect();
                let differ = old.symmetric_difference(&new);
                let differ = differ.filter(|one| asked.contains(one.name.as_str()));
                services.extend(differ.map(|one| (query.scope.clone(), one.name.clone())));
            }
            (_, old, new) if old == new => {}
            _ => return BTreeSet::new(),
        }
    }
    services
}

/// The service whose instances a query asks for.
fn name_of(query: &Query) -> Option<&str> {
    match &query.kind {
        Kind::Service { name, .. } => Some(name),
        _ => None,
    }
}

/// What structure can be made of.
type Shape<'a> = (&'a [String], &'a Meta);

fn shapes(list: &[Instance]) -> BTreeSet<Shape<'_>> {
    list.iter()
        .map(|one| (&*one.tags, &one.service_meta))
        .collect()
}
