//! What lists that cover everything say of single services, so that few connections show the changes of many. Pure.
//!
//! The index of `/v1/catalog/services` moves with each registration and each end of one, `/v1/health/state/critical` and
//! `/warning` change with the health of any instance, `/v1/catalog/nodes` with the address of any node (Consul 1.8 to
//! 1.21). What a list does not name is found on the nodes: an instance there that was modified after the last answer
//! about its service, or one of that answer that is not there any more.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{Check, NodeEntry};
use crate::catalog::{Answer, Instance, Node, ServiceName};

/// What a list names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) services: BTreeSet<String>,
    /// All services on these nodes.
    pub(super) nodes: BTreeSet<String>,
}

/// The services and nodes whose checks came into a state or left it.
pub(super) fn by_checks(before: &BTreeSet<Check>, after: &BTreeSet<Check>) -> Named {
    let mut named = Named::default();
    for check in before.symmetric_difference(after) {
        match check.service.is_empty() {
            true => named.nodes.insert(check.node.clone()),
            false => named.services.insert(check.service.clone()),
        };
    }
    named
}

/// What differs in a list of services or nodes.
pub(super) fn by_lists(before: &Answer, after: &Answer) -> Named {
    let mut named = Named::default();
    match (before, after) {
        (Answer::Services(before), Answer::Services(after)) => {
            let name = |service: &ServiceName| service.name.clone();
            named.services = different(before, after).into_iter().map(name).collect();
        }
        (Answer::Nodes(before), Answer::Nodes(after)) => {
            let name = |node: &Node| node.name.clone();
            named.nodes = different(before, after).into_iter().map(name).collect();
        }
        _ => {}
    }
    named
}

fn different<'a, T: Ord>(before: &'a [T], after: &'a [T]) -> BTreeSet<&'a T> {
    let (before, after): (BTreeSet<&T>, BTreeSet<&T>) =
        (before.iter().collect(), after.iter().collect());
    &before ^ &after
}

/// What is registered on a node, by service; Consul's names of services are the same in any case.
pub(super) fn by_service(entries: &[NodeEntry]) -> BTreeMap<String, Vec<&NodeEntry>> {
    let mut services: BTreeMap<String, Vec<&NodeEntry>> = BTreeMap::new();
    for entry in entries {
        services
            .entry(entry.service.to_lowercase())
            .or_default()
            .push(entry);
    }
    services
}

/// Whether what a node has of a service shows that an answer about that service is out of date. `seen` is the index of
/// that answer.
pub(super) fn is_outdated(answer: &Answer, seen: u64, node: &str, here: &[&NodeEntry]) -> bool {
    let is_gone =
        |one: &Instance| one.node.name == node && !here.iter().any(|entry| entry.id == one.id);
    here.iter().any(|entry| entry.modified > seen)
        || matches!(answer, Answer::Instances(list) if list.iter().any(is_gone))
}

/// Whether an answer holds an instance on one of these nodes.
pub(super) fn is_on_one(answer: &Answer, nodes: &BTreeSet<String>) -> bool {
    let here = |one: &Instance| nodes.contains(&one.node.name);
    matches!(answer, Answer::Instances(list) if list.iter().any(here))
}
