//! Which items of an answer are fit to be used. A bad one is put aside: it is left out, named, and
//! never keeps the others from being rendered. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::answers::Item;
use super::listeners::Listeners;
use crate::catalog::fitness::{Fitness, has_control, name_fault, shorten, text_fault};
use crate::catalog::{Instance, Node, NodeService, Query, one_spelling};

/// Something of the catalog that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Whose answer it is in, where that is known.
    pub query: Option<Query>,
    /// What it is, without control characters: `Instance ID on node NODE`, `Node NODE`.
    pub what: String,
    /// Why, to follow "because".
    pub reason: String,
}

impl std::fmt::Display for Quarantined {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.what)?;
        if let Some(query) = &self.query {
            write!(out, " of {query}")?;
        }
        write!(out, " is left out because {}.", self.reason)
    }
}

/// How an instance is called in sentences.
pub fn instance_words(node: &str, id: &str) -> String {
    format!("Instance {} on node {}", shorten(id), shorten(node))
}

/// What instances are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Standard<'a> {
    /// Each by itself.
    pub fitness: &'a Fitness,
    /// Where the gateway itself listens.
    pub own: &'a Listeners,
}

/// The places of the instances that are kept; the others are noted.
pub fn judge(
    query: &Query,
    list: &[Instance],
    items: &mut [Item],
    standard: Standard<'_>,
    quarantined: &mut Vec<Quarantined>,
) -> Vec<usize> {
    // In a sorted list nothing is listed twice.
    let distinct = list.is_sorted_by(|one, next| one.key() < next.key());
    let mut names: BTreeSet<(&str, &str)> = BTreeSet::new();
    let faults: Vec<Option<String>> = list
        .iter()
        .zip(items)
        .map(|(one, item)| {
            if !item.fit
                && let Some(fault) = standard.fitness.fault(one)
            {
                return Some(fault);
            }
            item.fit = true;
            // Where the configuration listens may change while the instance does not.
            if let Some(fault) = own_fault(&one.address, one.port, standard.own) {
                return Some(fault);
            }
            (!distinct && !names.insert(one.key()))
                .then(|| "its node and id were listed before".to_owned())
        })
        .collect();
    let mut places: Vec<(Cow<'_, str>, i64, usize)> = list
        .iter()
        .zip(&faults)
        .enumerate()
        .filter(|(_, (_, fault))| fault.is_none())
        .map(|(place, (one, _))| (one_spelling(&one.address), one.port, place))
        .collect();
    places.sort_unstable();
    // Of several fit ones at one address the healthiest stays, then the first.
    let mut best_at: BTreeMap<(Cow<'_, str>, i64), &Instance> = BTreeMap::new();
    for group in places.chunk_by(|one, next| (&one.0, one.1) == (&next.0, next.1)) {
        let best = group.iter().filter_map(|(_, _, place)| list.get(*place));
        if let ([(address, port, _), _, ..], Some(best)) =
            (group, best.min_by_key(|one| one.status))
        {
            best_at.insert((address.clone(), *port), best);
        }
    }
    let mut kept = Vec::with_capacity(list.len());
    for (place, (one, fault)) in list.iter().zip(faults).enumerate() {
        let other = best_at
            .get(&(one_spelling(&one.address), one.port))
            .filter(|best| !std::ptr::eq(**best, one));
        let reason = match (fault, other) {
            (None, None) => {
                kept.push(place);
                continue;
            }
            (Some(reason), _) => reason,
            (None, Some(best)) => format!(
                "instance {} on node {} has the same address {}:{}",
                shorten(&best.id),
                shorten(&best.node.name),
                one.address,
                one.port
            ),
        };
        quarantined.push(Quarantined {
            query: Some(query.clone()),
            what: instance_words(&one.node.name, &one.id),
            reason,
        });
    }
    kept
}

/// What makes an address that a key names unfit, if anything.
pub fn place_fault(address: &str, port: u16, standard: Standard<'_>) -> Option<String> {
    let own = || own_fault(address, i64::from(port), standard.own);
    standard.fitness.place_fault(address).or_else(own)
}

fn own_fault(address: &str, port: i64, own: &Listeners) -> Option<String> {
    own.have(address, port)
        .then(|| format!("its address {address}:{port} is one on which the gateway itself listens"))
}

/// What makes a node unfit to be listed, if anything.
pub fn node_fault(node: &Node) -> Option<String> {
    if let Some(fault) = name_fault(&node.name) {
        return Some(format!("its name {fault}"));
    }
    let pairs = [&node.tagged_addresses, &node.meta].into_iter().flatten();
    [&node.id, &node.address, &node.datacenter]
        .into_iter()
        .chain(pairs.flat_map(|(key, value)| [key, value]))
        .any(|text| has_control(text))
        .then(|| "its address or metadata holds a control character".to_owned())
}

/// What makes a service of a node unfit to be listed, if anything.
pub fn node_service_fault(service: &NodeService) -> Option<String> {
    if let Some(fault) = text_fault(&service.id) {
        return Some(format!("its id {fault}"));
    }
    if let Some(fault) = name_fault(&service.name) {
        return Some(format!("its name {fault}"));
    }
    let pairs = service.meta.iter().flat_map(|(key, value)| [key, value]);
    pairs
        .chain([&service.address])
        .any(|text| has_control(text))
        .then(|| "its address or metadata holds a control character".to_owned())
}
