//! Services that change the structure of the configuration again and again.
//!
//! Each such change costs a reload, and each reload an old worker that lives as long as its connections. All services
//! share them, so each has a part: a service that has caused [`A_MINUTE`] reloads within a minute, or [`LATELY`] of
//! late while few old workers more are allowed, keeps its structure until its part is free again. Its servers stay
//! current, and the changes of all others go.
//!
//! What makes structure is not known of a template; tags and metadata are what it can be made from. A service is said
//! to have caused a reload when they are others in the new set.

use std::collections::VecDeque;

use super::*;
use crate::catalog::{Instance, ServiceName};

/// So many reloads a service may cause within [`MINUTE`].
const A_MINUTE: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
/// So many within [`WHILE`] where the last old workers that are allowed are kept for others.
const LATELY: usize = 2;
const WHILE: Duration = Duration::from_secs(600);
/// Two in five of the old workers that are allowed are kept for services that have caused fewer.
const RESERVED: (usize, usize) = (2, 5);
/// So many reloads are remembered.
const REMEMBERED: usize = 64;

/// The reloads of late, and what sets are made from because of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Frequent {
    /// When they were, and for which services.
    reloads: VecDeque<(Instant, BTreeSet<String>)>,
    /// The services that keep their structure, and until when at the latest.
    keep: BTreeMap<String, Instant>,
    /// Of the queries of which that makes a difference, what stands in the place of the newest answer.
    kept: BTreeMap<Query, Known>,
    /// The services of which it makes one.
    differ: BTreeSet<String>,
    /// What was compared last: nothing is compared twice.
    compared: Option<(u64, u64)>,
}

impl Frequent {
    /// Until when a service keeps its structure at the latest, if it does. `reserved` is whether the old workers that
    /// are still allowed are kept for others.
    fn keeps_until(&self, service: &str, reserved: bool, now: Instant) -> Option<Instant> {
        let caused = |(_, services): &&(Instant, BTreeSet<String>)| services.contains(service);
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

    fn keeping(&self, reserved: bool, now: Instant) -> BTreeMap<String, Instant> {
        let services: BTreeSet<&String> = self.reloads.iter().flat_map(|one| &one.1).collect();
        let keep = services.into_iter().filter_map(|service| {
            let until = self.keeps_until(service, reserved, now)?;
            Some((service.clone(), until))
        });
        keep.collect()
    }

    /// When the next service may change its structure again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.keep.values().min().copied()
    }

    /// The services of which something is kept, one sentence each, by name.
    pub(super) fn notes(&self) -> impl Iterator<Item = (String, String)> {
        self.differ.iter().map(|service| {
            let sentence = format!(
                "Service {service:?} changes its tags or metadata too often: it has caused {LATELY} reloads or more of late, and other services' changes must not wait for HAProxy's old workers. Its tags and metadata stay as HAProxy has them for up to {} minutes; its servers stay current. `gatewright release {service}` lets the change go now.",
                WHILE.as_secs() / 60
            );
            (format!("changes of {service}"), sentence)
        })
    }

    /// Forgets which reloads these services have caused, or all. Gives the names of those that kept their structure.
    pub(super) fn release(&mut self, services: Option<&[String]>) -> Vec<String> {
        let named = |service: &String| services.is_none_or(|all| all.contains(service));
        for (_, caused) in &mut self.reloads {
            caused.retain(|service| !named(service));
        }
        self.differ
            .iter()
            .filter(|one| named(one))
            .cloned()
            .collect()
    }
}

fn is_list(query: &Query) -> bool {
    matches!(query.kind, Kind::Services { .. })
}

impl Core {
    /// What sets are made from: the newest answer to a query, with the structure that its service keeps.
    pub(super) fn newest(&self, query: &Query) -> Option<&Known> {
        let newest = || self.watches.get(query)?.known.as_ref();
        self.frequent.kept.get(query).or_else(newest)
    }

    /// A set that HAProxy was reloaded with is about to be the last good one.
    pub(super) fn reloaded(&mut self, revision: &Revision, now: Instant) {
        let services = self.interim.restructured(revision);
        let Frequent { reloads, .. } = &mut self.frequent;
        reloads.push_back((now, services));
        let oldest = reloads.len().saturating_sub(REMEMBERED);
        reloads.drain(..oldest);
        reloads.retain(|(at, services)| *at + WHILE > now && !services.is_empty());
    }

    /// Keeps the structure of services that have changed it too often.
    pub(super) fn keep_structure(&mut self, now: Instant) {
        if self.frequent.reloads.is_empty() && self.frequent.keep.is_empty() {
            return;
        }
        let (part, whole) = RESERVED;
        let most = self.timing.max_old_workers;
        let old = self.observed.old_workers;
        let reserved = old > 0 && old + most * part / whole >= most;
        let keep = self.frequent.keeping(reserved, now);
        let others = !keep.keys().eq(self.frequent.keep.keys());
        self.frequent.keep = keep;
        let compared = Some((self.revisions, self.interim.changes()));
        if !others && self.frequent.compared == compared {
            return;
        }
        let keep = &self.frequent.keep;
        let (mut kept, mut newer) = (BTreeMap::new(), BTreeMap::new());
        let mut revision = self.revisions;
        for (query, watched) in &self.watches {
            let concerned = match &query.kind {
                Kind::Service { name, .. } => keep.contains_key(name),
                _ => is_list(query) && !keep.is_empty(),
            };
            if concerned
                && let Some(newest) = &watched.known
                && let Some(good) = self.interim.last_good(query)
                && let Some(answer) = steadied(&good.answer, &newest.answer, keep)
            {
                let same = |former: &&Known| *former.answer == answer;
                let known = self.frequent.kept.get(query).filter(same).cloned();
                let known = known.unwrap_or_else(|| {
                    revision += 1;
                    let answer = Arc::new(answer);
                    Known { answer, revision }
                });
                newer.insert(query.clone(), newest.clone());
                kept.insert(query.clone(), known);
            }
        }
        let revisions = |kept: &BTreeMap<Query, Known>| -> Vec<u64> {
            kept.values().map(|known| known.revision).collect()
        };
        let changed = revisions(&kept) != revisions(&self.frequent.kept);
        self.frequent.differ = restructured(&kept, &newer);
        self.revisions = revision;
        self.frequent.kept = kept;
        self.frequent.compared = Some((self.revisions, self.interim.changes()));
        if changed {
            self.mark_changed(now);
        }
    }
}

/// The services whose tags are others in `new`, or else those whose metadata are: what may have made another structure.
pub(super) fn restructured(
    old: &BTreeMap<Query, Known>,
    new: &BTreeMap<Query, Known>,
) -> BTreeSet<String> {
    let (mut tags, mut metadata) = (BTreeSet::new(), BTreeSet::new());
    for (query, new) in new {
        let Some(old) = old.get(query).filter(|old| old.revision != new.revision) else {
            continue;
        };
        match (&query.kind, &*old.answer, &*new.answer) {
            (Kind::Service { name, .. }, Answer::Instances(old), Answer::Instances(new)) => {
                let tags_of = |list: &[Instance]| -> BTreeSet<Arc<[String]>> {
                    list.iter().map(|one| Arc::clone(&one.tags)).collect()
                };
                if tags_of(old) != tags_of(new) {
                    tags.insert(name.clone());
                } else if shapes(old) != shapes(new) {
                    metadata.insert(name.clone());
                }
            }
            (_, Answer::Services(old), Answer::Services(new)) => {
                let (old, new): (BTreeSet<&ServiceName>, BTreeSet<&ServiceName>) =
                    (old.iter().collect(), new.iter().collect());
                let differ = old.symmetric_difference(&new);
                tags.extend(differ.map(|service| service.name.clone()));
            }
            _ => {}
        }
    }
    match tags.is_empty() {
        true => metadata,
        false => tags,
    }
}

/// What an instance may make structure of.
pub(super) type Shape<'a> = (&'a [String], &'a crate::catalog::Meta);

fn shape(one: &Instance) -> Shape<'_> {
    (&one.tags, &one.service_meta)
}

pub(super) fn shapes(list: &[Instance]) -> BTreeSet<Shape<'_>> {
    list.iter().map(shape).collect()
}

/// The newest answer with the structure of the last good one, if that differs from the newest.
fn steadied(good: &Answer, newest: &Answer, keep: &BTreeMap<String, Instant>) -> Option<Answer> {
    let answer = match (good, newest) {
        (Answer::Instances(good), Answer::Instances(newest)) if !good.is_empty() => {
            Answer::Instances(steadied_instances(good, newest))
        }
        (Answer::Services(good), Answer::Services(newest)) => {
            let kept = |one: &&ServiceName| keep.contains_key(&one.name);
            let others = newest.iter().filter(|one| !kept(one));
            let mut list: Vec<ServiceName> =
                others.chain(good.iter().filter(kept)).cloned().collect();
            list.sort();
            Answer::Services(list)
        }
        _ => return None,
    };
    (answer != *newest).then_some(answer)
}

/// The newest instances, with tags and metadata that the last good ones have. One that is new and like none of them
/// waits; where the last instance with some tags and metadata has gone, it stays.
pub(super) fn steadied_instances(good: &[Instance], newest: &[Instance]) -> Vec<Instance> {
    let former: BTreeMap<_, &Instance> = good.iter().map(|one| (one.key(), one)).collect();
    let known = shapes(good);
    let lone = good.first().filter(|_| known.len() == 1);
    let like = |one: &Instance| good.iter().find(|other| other.tags == one.tags).or(lone);
    let of_now = newest.iter().filter_map(|one| {
        let like = match former.get(&one.key()) {
            Some(former) => former,
            None if known.contains(&shape(one)) => one,
            None => like(one)?,
        };
        Some(Instance {
            tags: Arc::clone(&like.tags),
            service_meta: like.service_meta.clone(),
            ..one.clone()
        })
    });
    let mut list: Vec<Instance> = of_now.collect();
    let there = shapes(&list);
    let gone = good.iter().filter(|one| !there.contains(&shape(one)));
    let gone: Vec<Instance> = gone.cloned().collect();
    if !gone.is_empty() {
        list.extend(gone);
        list.sort_by(|one, other| one.key().cmp(&other.key()));
    }
    list
}
