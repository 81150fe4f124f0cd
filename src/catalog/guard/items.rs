//! The items of an answer, whatever its kind: which are gone, and how held ones are put back.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::Rules;
use crate::catalog::fitness::Fitness;
use crate::catalog::{Answer, Instance, KeyValue, Kind, Node, Query, ServiceName, one_spelling};

/// What tells an item from the others of its answer: node and id of an instance, else the name.
pub type Key = (String, String);

/// One item of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Instance(Box<Instance>),
    Service(ServiceName),
    Node(Box<Node>),
    Key(KeyValue),
}

impl Item {
    pub fn key(&self) -> Key {
        let (one, two) = match self {
            Item::Instance(instance) => instance.key(),
            Item::Service(service) => service.key(),
            Item::Node(node) => node.key(),
            Item::Key(key) => key.key(),
        };
        (one.to_owned(), two.to_owned())
    }

    /// Whether templates see it.
    pub fn is_fit(&self, fitness: &Fitness) -> bool {
        match self {
            Item::Instance(instance) => instance.counts(Some(fitness)),
            Item::Service(_) | Item::Node(_) | Item::Key(_) => true,
        }
    }

    /// The address, in one spelling, and the port of an instance.
    pub fn place(&self) -> Option<(Cow<'_, str>, i64)> {
        match self {
            Item::Instance(instance) => Some((one_spelling(&instance.address), instance.port)),
            Item::Service(_) | Item::Node(_) | Item::Key(_) => None,
        }
    }
}

/// What is present, to be looked up.
pub(super) struct Present<'a> {
    keys: BTreeSet<(&'a str, &'a str)>,
    addresses: BTreeSet<(Cow<'a, str>, i64)>,
}

impl<'a> Present<'a> {
    pub fn of(answer: &'a Answer, fitness: Option<&Fitness>) -> Present<'a> {
        let mut addresses = BTreeSet::new();
        let keys = match answer {
            Answer::Instances(list) => {
                let fit = list.iter().filter(|one| one.counts(fitness));
                let place = |one: &'a Instance| (one_spelling(&one.address), one.port);
                addresses.extend(fit.clone().map(place));
                fit.map(Keyed::key).collect()
            }
            Answer::Services(list) => list.iter().map(Keyed::key).collect(),
            Answer::Nodes(list) => list.iter().map(Keyed::key).collect(),
            Answer::Tree(list) => list.iter().map(Keyed::key).collect(),
            Answer::Node(_) | Answer::Datacenters(_) | Answer::Key(_) => BTreeSet::new(),
        };
        Present { keys, addresses }
    }

    /// Whether something stands where this one stood: the same item, or another one at the same
    /// address and port.
    pub fn replaces(&self, item: &Item) -> bool {
        let (one, two) = item.key();
        let taken = item.place();
        taken.is_some_and(|place| self.addresses.contains(&place))
            || self.keys.contains(&(one.as_str(), two.as_str()))
    }
}

trait Keyed: Clone {
    fn key(&self) -> (&str, &str);
    fn item(&self) -> Item;
    /// Whether templates see it; all do without a standard.
    fn counts(&self, _: Option<&Fitness>) -> bool {
        true
    }
}

impl Keyed for Instance {
    fn key(&self) -> (&str, &str) {
        Instance::key(self)
    }
    fn item(&self) -> Item {
        Item::Instance(Box::new(self.clone()))
    }
    fn counts(&self, fitness: Option<&Fitness>) -> bool {
        fitness.is_none_or(|fitness| fitness.fault(self).is_none())
    }
}

impl Keyed for ServiceName {
    fn key(&self) -> (&str, &str) {
        (&self.name, "")
    }
    fn item(&self) -> Item {
        Item::Service(self.clone())
    }
}

impl Keyed for Node {
    fn key(&self) -> (&str, &str) {
        (&self.name, "")
    }
    fn item(&self) -> Item {
        Item::Node(Box::new(self.clone()))
    }
}

impl Keyed for KeyValue {
    fn key(&self) -> (&str, &str) {
        (&self.path, "")
    }
    fn item(&self) -> Item {
        Item::Key(self.clone())
    }
}

/// Whether the answers to a query are guarded: those that are lists of what services need.
pub(super) fn is_guarded(query: &Query) -> bool {
    match query.kind {
        Kind::Service { .. } | Kind::Services { .. } | Kind::Nodes { .. } | Kind::Tree { .. } => {
            true
        }
        Kind::Node { .. } | Kind::Datacenters { .. } | Kind::Key { .. } => false,
    }
}

/// How many items count. An unfit instance does not. The canary does not among the names of services: Consul's servers register
/// themselves, so that an emptied catalog still has this one.
pub(super) fn count(answer: &Answer, rules: &Rules) -> usize {
    match answer {
        Answer::Instances(list) => {
            let fit = list.iter().filter(|one| one.counts(Some(&rules.fitness)));
            fit.count()
        }
        Answer::Services(list) => {
            let others = list.iter().filter(|service| service.name != rules.canary);
            others.count()
        }
        other => other.len(),
    }
}

/// The items that count in `old` and do not, or are not there, in `new`. Without a standard all count.
pub(super) fn vanished(old: &Answer, new: &Answer, fitness: Option<&Fitness>) -> Vec<Item> {
    match (old, new) {
        (Answer::Instances(old), Answer::Instances(new)) => missing(old, new, fitness),
        (Answer::Services(old), Answer::Services(new)) => missing(old, new, fitness),
        (Answer::Nodes(old), Answer::Nodes(new)) => missing(old, new, fitness),
        (Answer::Tree(old), Answer::Tree(new)) => missing(old, new, fitness),
        _ => Vec::new(),
    }
}

fn missing<T: Keyed>(old: &[T], new: &[T], fitness: Option<&Fitness>) -> Vec<Item> {
    let sorted = |list: &[T]| list.is_sorted_by(|a, b| a.key() <= b.key());
    if !sorted(old) || !sorted(new) {
        let present = new.iter().filter(|item| item.counts(fitness));
        let present: BTreeSet<_> = present.map(Keyed::key).collect();
        let gone = old
            .iter()
            .filter(|item| !present.contains(&item.key()) && item.counts(fitness));
        return gone.map(Keyed::item).collect();
    }
    // Nearly always equal but for a few: no tree is built for ten thousand.
    let mut gone = Vec::new();
    let mut new = new.iter().filter(|item| item.counts(fitness)).peekable();
    for item in old {
        while new
            .next_if(|candidate| candidate.key() < item.key())
            .is_some()
        {}
        let stays = new
            .peek()
            .is_some_and(|candidate| candidate.key().cmp(&item.key()) == Ordering::Equal);
        if !stays && item.counts(fitness) {
            gone.push(item.item());
        }
    }
    gone
}

/// `present` with `held` put where they belong: by their key, or at the end where the order is
/// Consul's (`near`).
pub(super) fn with<'a>(
    query: &Query,
    present: &Answer,
    held: impl Iterator<Item = &'a Item>,
) -> Answer {
    let by_distance = matches!(
        query.kind,
        Kind::Service { near: Some(_), .. } | Kind::Nodes { near: Some(_), .. }
    );
    let mut answer = present.clone();
    for item in held {
        match (&mut answer, item) {
            (Answer::Instances(list), Item::Instance(held)) => list.push((**held).clone()),
            (Answer::Services(list), Item::Service(held)) => list.push(held.clone()),
            (Answer::Nodes(list), Item::Node(held)) => list.push((**held).clone()),
            (Answer::Tree(list), Item::Key(held)) => list.push(held.clone()),
            _ => {}
        }
    }
    if !by_distance {
        match &mut answer {
            Answer::Instances(list) => list.sort_by(|a, b| a.key().cmp(&b.key())),
            Answer::Services(list) => list.sort_by(|a, b| a.key().cmp(&b.key())),
            Answer::Nodes(list) => list.sort_by(|a, b| a.key().cmp(&b.key())),
            Answer::Tree(list) => list.sort_by(|a, b| a.key().cmp(&b.key())),
            Answer::Node(_) | Answer::Datacenters(_) | Answer::Key(_) => {}
        }
    }
    answer
}
