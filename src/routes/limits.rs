//! How much of the table one service may take: what passes a limit is left out by name, and the routes of all others
//! fit. Rules of access are read before what is open, and a service with more of them than fit is closed: leaving a
//! rule out opens nothing. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::table::shown;
use super::{HostHeader, Item, Options, Source, Target};
use crate::catalog::Instance;

/// The routes of one service: entries of a map, and backends where its instances or options differ.
const MOST_ROUTES: usize = 2048;
/// The tags of routes that are read of one instance.
const MOST_TAGS: usize = 2048;
/// The bytes of its different tags of routes.
const MOST_BYTES: usize = 256 * 1024;
/// Its targets in all its routes.
const MOST_TARGETS: usize = 30_000;
/// The parts of its routes that are split off for their options. Each is a rule that every request is compared with.
const MOST_SPLITS: usize = 128;
/// How often rules of access are brought together for one target.
const MOST_RULES: usize = 256;
/// How many of its tags are named that are left out or odd.
const MOST_NAMED: usize = 50;

/// What one service has of the table so far.
#[derive(Default)]
pub struct Share {
    /// The options of each route that are kept apart, with the address where that counts.
    groups: BTreeMap<Source, Vec<(Options, String)>>,
    targets: usize,
    splits: usize,
    rules: usize,
    named: usize,
    /// The different tags that are read, where there may be too many, and their bytes.
    tags: Option<(BTreeSet<String>, usize)>,
    /// How much passed each limit.
    over: [usize; 6],
    /// Whether a rule of access is among that.
    has_lost_rules: bool,
}

const ROUTES: usize = 0;
const TARGETS: usize = 1;
const SPLITS: usize = 2;
const NAMED: usize = 3;
const TAGS: usize = 4;
const BYTES: usize = 5;

impl Share {
    /// That of a service whose tags may be too many, or not.
    pub fn new(is_crowded: bool) -> Share {
        Share {
            tags: is_crowded.then(Default::default),
            ..Share::default()
        }
    }

    /// Whether a tag is read, which is the instance's tag of a route at this place. What is not is counted.
    pub fn reads(&mut self, place: usize, tag: &str) -> bool {
        let limit = match place < MOST_TAGS {
            true => (!self.fits(tag)).then_some(BYTES),
            false => Some(TAGS),
        };
        if let Some(limit) = limit {
            self.over[limit] += 1;
            self.has_lost_rules |= is_ruled(tag);
        }
        limit.is_none()
    }

    /// Whether a tag fits beside the different ones that were read.
    fn fits(&mut self, tag: &str) -> bool {
        let Some((tags, bytes)) = &mut self.tags else {
            return true;
        };
        if tags.contains(tag) {
            return true;
        }
        let fits = *bytes + tag.len() <= MOST_BYTES;
        if fits {
            *bytes += tag.len();
            tags.insert(tag.to_owned());
        }
        fits
    }

    /// Whether this target fits. What does not is counted.
    pub fn admits(&mut self, source: &Source, target: &Target) -> bool {
        let own = match target.options.host {
            Some(HostHeader::Target) => format!("{}:{}", target.address, target.port),
            _ => String::new(),
        };
        let known = self.groups.get(source);
        let is_known = known.is_some_and(|groups| {
            let mut groups = groups.iter();
            groups.any(|(options, place)| *options == target.options && *place == own)
        });
        let limit = match known {
            None if self.groups.len() >= MOST_ROUTES => Some(ROUTES),
            _ if self.targets >= MOST_TARGETS => Some(TARGETS),
            Some(_) if !is_known && self.splits >= MOST_SPLITS => Some(SPLITS),
            _ => None,
        };
        if let Some(limit) = limit {
            self.over[limit] += 1;
            // The same rules may stand on the route already.
            let stand = known.is_some_and(|groups| {
                let mut groups = groups.iter();
                groups.any(|(options, _)| options.access == target.options.access)
            });
            self.has_lost_rules |= !stand && !target.options.access.is_open();
            return false;
        }
        self.targets += 1;
        if !is_known {
            self.splits += usize::from(known.is_some());
            let groups = self.groups.entry(source.clone()).or_default();
            groups.push((target.options.clone(), own));
        }
        true
    }

    /// Whether rules of access may be brought together once more.
    pub fn joins_rules(&mut self) -> bool {
        self.rules += 1;
        self.rules <= MOST_RULES
    }

    /// Whether one more tag may be named.
    pub fn names(&mut self) -> bool {
        self.named += 1;
        let fits = self.named <= MOST_NAMED;
        self.over[NAMED] += usize::from(!fits);
        fits
    }

    /// Whether every route of the service answers 403.
    pub fn is_closed(&self) -> bool {
        self.has_lost_rules
    }

    /// What is to tell of what passed the limits.
    pub fn refused(&self, service: &str) -> Vec<Item> {
        let closed = match self.has_lost_rules {
            true => {
                ". It has lost rules of access with them, so all its routes answer 403 to everybody"
            }
            false => "",
        };
        let [routes, targets, splits, named, tags, bytes] = self.over;
        let reasons = [
            (
                routes,
                format!("{routes} of its targets are in more than {MOST_ROUTES} routes{closed}"),
            ),
            (
                targets,
                format!("it has {targets} more targets than {MOST_TARGETS}{closed}"),
            ),
            (
                splits,
                format!(
                    "{splits} of its targets have other options than their routes, {MOST_SPLITS} times already{closed}"
                ),
            ),
            (
                named,
                format!(
                    "only {MOST_NAMED} of its tags that are left out or odd are named, and {named} are not"
                ),
            ),
            (
                tags,
                format!(
                    "{tags} tags of routes are more than the {MOST_TAGS} that are read of an instance{closed}"
                ),
            ),
            (
                bytes,
                format!(
                    "{bytes} tags of routes are beyond the {} KiB that are read of all its tags{closed}",
                    MOST_BYTES / 1024
                ),
            ),
        ];
        let told = reasons.into_iter().filter(|(count, _)| *count > 0);
        told.map(|(_, text)| Item {
            what: format!("A part of service {}", shown(service)),
            text,
        })
        .collect()
    }
}

/// Whether the tags of a service may ask for more routes, or have more bytes, than fit.
pub fn is_crowded(instances: &[(&Instance, bool)], prefix: &str) -> bool {
    let (mut different, mut bytes) = (BTreeSet::new(), 0);
    let tags = instances.iter().flat_map(|(one, _)| one.tags.iter());
    tags.filter(|tag| tag.trim().starts_with(prefix))
        .any(|tag| {
            let is_new = different.insert(tag.as_str());
            bytes += if is_new { tag.len() } else { 0 };
            is_new && (different.len() > MOST_ROUTES || bytes > MOST_BYTES)
        })
}

/// Whether a tag of a route has a rule of access.
pub fn is_ruled(tag: &str) -> bool {
    tag.split_whitespace().skip(1).any(|word| {
        let key = word.split('=').next();
        matches!(key, Some("allow" | "deny" | "auth"))
    })
}
