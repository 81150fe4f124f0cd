//! Why something vanished: what an unfiltered read of the same service and a read of the canary
//! show, and the reason made of it, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::items::Item;
use crate::catalog::{HealthFilter, Instance, Kind, Query, Scope, Status};

/// A question asked beside the watches, once and without blocking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The query whose loss it is about; without one only the canary is looked at.
    pub about: Option<Query>,
    /// The same service in whatever state.
    pub unfiltered: Option<Query>,
    /// The canary.
    pub canary: Option<Query>,
    /// What the token must be permitted to read for all that vanished to be seen, or an evenly spread
    /// part of it.
    pub rights: Vec<Right>,
}

/// Something that a token may be permitted to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// A node, by its name.
    Node(String),
    /// A service, by its name.
    Service(String),
    /// A key, by its path.
    Key(String),
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Right::Node(name) => ("node", name),
            Right::Service(name) => ("service", name),
            Right::Key(path) => ("key", path),
        };
        write!(out, "the {kind} {name:?}")
    }
}

/// Whether the token would see what vanished, if it were there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Yes: the catalog knows no rights, or shows other things that stand under the same ones.
    Certain,
    /// Yes, by Consul's word on the token.
    Given,
    /// No: the token may not read this.
    Denied(Right),
    /// This node is not seen any more either, and Consul does not tell whether the token may read it.
    Unseen(String),
    /// Consul does not tell, and nothing that it shows stands against it.
    Untold,
    /// There is no answer.
    Silent,
}

/// So many rights are asked about at a time.
const RIGHTS: usize = 512;
/// And so many services, besides the nodes of their instances.
const FEW: usize = 16;

/// What the token must be permitted to read for these items to be seen.
pub(super) fn rights<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<Right> {
    let (mut all, mut services) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        all.insert(match item {
            Item::Instance(instance) => {
                // One in nearly all cases; the sidecar of a service has a name of its own.
                services.insert(Right::Service(instance.name.clone()));
                Right::Node(instance.node.name.clone())
            }
            Item::Service(service) => Right::Service(service.name.clone()),
            Item::Node(node) => Right::Node(node.name.clone()),
            Item::Key(key) => Right::Key(key.path.clone()),
        });
    }
    let some = |all: BTreeSet<Right>, most: usize| {
        let step = all.len().div_ceil(most).max(1);
        all.into_iter().step_by(step)
    };
    some(all, RIGHTS).chain(some(services, FEW)).collect()
}

/// Why there is no answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The catalog refused: 403.
    Forbidden,
    /// So much failed at once that the catalog's agent may be the one that is cut off.
    CutOff,
    /// Anything else; it says nothing about the catalog.
    Unknown,
}

/// What came of an [`Inquiry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The inquiry's `about`.
    pub about: Option<Query>,
    /// The instances in whatever state, where they were asked for.
    pub instances: Option<Result<Vec<Instance>, Silence>>,
    /// Whether Consul said that it left something out for want of rights (Consul 1.11 and later).
    pub filtered: bool,
    /// Where the canary was asked, and whether it was seen.
    pub canary: Option<(Scope, Result<bool, Silence>)>,
    /// Whether the token would see what vanished.
    pub permission: Permission,
}

/// What of the canary is known in one datacenter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sight {
    /// Not asked yet, or no answer.
    #[default]
    Unknown,
    /// It is there: what is not seen is not there.
    Visible,
    /// It was seen once and is not any more.
    Lost,
}

/// The unfiltered question behind a query; only services have one.
pub(super) fn unfiltered(query: &Query) -> Option<Query> {
    let mut query = query.clone();
    let Kind::Service { health, near, .. } = &mut query.kind else {
        return None;
    };
    *health = HealthFilter::Any;
    *near = None;
    Some(query)
}

/// The read that shows whether the token still sees anything.
pub(super) fn canary(name: &str, scope: &Scope) -> Query {
    let mut query = Query::service(name);
    if let Kind::Service { health, .. } = &mut query.kind {
        *health = HealthFilter::Any;
    }
    // The servers' own service is in the default namespace and partition.
    query.scope.datacenter.clone_from(&scope.datacenter);
    query
}

/// What is known about the loss of one query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing yet.
    #[default]
    Open,
    /// Consul does not tell.
    Silent,
    /// The token lacks rights: a proof that nothing is proved.
    NotPermitted(String),
    /// The states of what vanished; the absent have none.
    Known(BTreeMap<Option<Status>, usize>),
    /// It is no service, so that there is nothing to look at but the canary.
    Absent,
    /// It is no service, and the token may read it.
    Readable,
}

impl Finding {
    /// Whether the time of a hold runs.
    pub fn counts(&self) -> bool {
        matches!(
            self,
            Finding::Known(_) | Finding::Absent | Finding::Readable
        )
    }

    /// Counts the states of items in an unfiltered answer.
    pub fn of<'a>(items: impl Iterator<Item = &'a Item>, seen: &States<'_>) -> Finding {
        let mut counts = BTreeMap::new();
        for item in items {
            *counts.entry(seen.of(item)).or_default() += 1;
        }
        Finding::Known(counts)
    }

    /// A whole sentence.
    pub fn sentence(&self, canary: &str) -> String {
        match self {
            Finding::Open => "The catalog is being asked why.".to_owned(),
            Finding::Silent => {
                "The catalog does not tell why, so the time of the hold does not run.".to_owned()
            }
            Finding::NotPermitted(what) => {
                format!("{what}, so the time of the hold does not run.")
            }
            Finding::Absent => format!("The service {canary} is seen, so they are gone."),
            Finding::Readable => "The token may read them, so they are gone.".to_owned(),
            Finding::Known(counts) => {
                let parts: Vec<String> = counts
                    .iter()
                    .rev() // what is in the catalog first, from bad to good
                    .map(|(status, count)| {
                        let verb = if *count == 1 { "is" } else { "are" };
                        match status {
                            Some(Status::Passing) => {
                                format!("{count} {verb} passing and asked for no more")
                            }
                            Some(status) => format!("{count} {verb} {status}"),
                            None => format!("{count} {verb} gone from the catalog"),
                        }
                    })
                    .collect();
                format!("Of these {}.", parts.join(", "))
            }
        }
    }
}

/// The states of instances by node and id.
pub(super) struct States<'a>(BTreeMap<(&'a str, &'a str), Status>);

impl<'a> States<'a> {
    pub fn new(instances: &'a [Instance]) -> States<'a> {
        States(
            instances
                .iter()
                .map(|one| (one.key(), one.status))
                .collect(),
        )
    }

    pub fn of(&self, item: &Item) -> Option<Status> {
        let (node, id) = item.key();
        self.at(&node, &id)
    }

    pub fn at(&self, node: &str, id: &str) -> Option<Status> {
        self.0.get(&(node, id)).copied()
    }
}
