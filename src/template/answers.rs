//! Answers as the values that templates see, in Consul's spelling. Here bad instances are put
//! aside: they are left out, named, and never keep the others from being rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::helpers::shorten;
use super::names::server_ids;
use crate::catalog::{Answer, Instance, KeyValue, Meta, Node, Query};

/// The longest name, id or tag that is taken from the catalog.
const MAX_TEXT: usize = 1024;

/// The field of an instance with its server's id, which is settled among those of one answer. No
/// template need know it: the helper `serverId` reads it.
pub const SERVER_ID: &str = "@serverId";

/// An instance that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Whose answer it is in.
    pub query: Query,
    /// Its node, without control characters.
    pub node: String,
    /// Its id, without control characters.
    pub id: String,
    /// Why, to follow "because".
    pub reason: String,
}

impl std::fmt::Display for Quarantined {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "Instance {} on node {} of {} is left out because {}.",
            self.id, self.node, self.query, self.reason
        )
    }
}

/// The value that templates see, and who was left out of it.
pub fn value(query: &Query, answer: &Answer, host_names: bool) -> (Value, Vec<Quarantined>) {
    let mut quarantined = Vec::new();
    let value = match answer {
        Answer::Instances(list) => instances(query, list, host_names, &mut quarantined),
        Answer::Services(list) => list
            .iter()
            .filter(|service| text_fault(&service.name).is_none())
            .map(|service| json!({ "Name": service.name, "Tags": printable(&service.tags) }))
            .collect(),
        Answer::Nodes(list) => list.iter().map(node).collect(),
        Answer::Node(None) | Answer::Key(None) => Value::Null,
        Answer::Node(Some(detail)) => {
            let services: Value = detail
                .services
                .iter()
                .map(|service| {
                    json!({
                        "ID": service.id, "Service": service.name, "Name": service.name,
                        "Tags": printable(&service.tags), "Meta": service.meta,
                        "Address": service.address, "Port": service.port,
                    })
                })
                .collect();
            json!({ "Node": node(&detail.node), "Services": services })
        }
        Answer::Datacenters(names) => names.clone().into(),
        Answer::Key(Some(key)) => match &key.value {
            Some(text) => text.clone().into(),
            // Told apart from a text by its kind; the helper `key` says so.
            None => json!({ "Binary": true }),
        },
        Answer::Tree(keys) => tree(query, keys),
    };
    (value, quarantined)
}

/// The tags that can stand in a file. One instance's tag must not stop what lists all of them; where
/// the instance itself is used, it is put aside and named.
fn printable(tags: &[String]) -> Vec<&String> {
    tags.iter()
        .filter(|tag| !tag.contains(char::is_control))
        .collect()
}

fn instances(
    query: &Query,
    list: &[Instance],
    host_names: bool,
    quarantined: &mut Vec<Quarantined>,
) -> Value {
    let mut names: BTreeSet<(&str, &str)> = BTreeSet::new();
    let faults: Vec<Option<String>> = list
        .iter()
        .map(|one| {
            fault(one, host_names).or_else(|| {
                (!names.insert((&one.node, &one.id)))
                    .then(|| "its node and id were listed before".to_owned())
            })
        })
        .collect();
    // Of several fit ones at one address the healthiest stays, then the first.
    let mut addresses: BTreeMap<(&str, i64), &Instance> = BTreeMap::new();
    for (one, _) in list
        .iter()
        .zip(&faults)
        .filter(|(_, fault)| fault.is_none())
    {
        let best = addresses.entry((&one.address, one.port)).or_insert(one);
        if one.status < best.status {
            *best = one;
        }
    }
    let mut kept = Vec::with_capacity(list.len());
    for (one, fault) in list.iter().zip(faults) {
        let other = addresses
            .get(&(one.address.as_str(), one.port))
            .filter(|best| !std::ptr::eq(**best, one));
        let reason = match (fault, other) {
            (None, None) => {
                kept.push(one);
                continue;
            }
            (Some(reason), _) => reason,
            (None, Some(best)) => format!(
                "instance {} on node {} has the same address {}:{}",
                shorten(&best.id),
                shorten(&best.node),
                one.address,
                one.port
            ),
        };
        quarantined.push(Quarantined {
            query: query.clone(),
            node: shorten(&one.node),
            id: shorten(&one.id),
            reason,
        });
    }
    let identities: Vec<(&str, &str)> = kept
        .iter()
        .map(|one| (one.node.as_str(), one.id.as_str()))
        .collect();
    kept.into_iter()
        .zip(server_ids(&identities))
        .map(|(one, id)| instance(one, id))
        .collect()
}

/// What makes an instance unfit, if anything.
fn fault(one: &Instance, host_names: bool) -> Option<String> {
    for (name, text) in [
        ("node", &one.node),
        ("id", &one.id),
        ("service name", &one.name),
    ] {
        if let Some(fault) = text_fault(text) {
            return Some(format!("its {name} {fault}"));
        }
    }
    if one.address.parse::<IpAddr>().is_err() && !(host_names && is_host_name(&one.address)) {
        return Some(format!(
            "its address `{}` is no IP address{}",
            shorten(&one.address),
            if host_names { " or host name" } else { "" }
        ));
    }
    if let Ok(ip) = one.address.parse::<IpAddr>()
        && (ip.is_unspecified() || ip.is_multicast() || ip.to_string() == "255.255.255.255")
    {
        return Some(format!("its address {ip} is that of no single host"));
    }
    if !(1..=65535).contains(&one.port) {
        return Some(format!("its port {} is not between 1 and 65535", one.port));
    }
    let texts = one
        .tags
        .iter()
        .chain([&one.node_address, &one.node_id, &one.node_datacenter]);
    let pairs = [
        &one.service_meta,
        &one.node_meta,
        &one.node_tagged_addresses,
    ];
    let pairs = pairs
        .into_iter()
        .flatten()
        .flat_map(|(key, value)| [key, value]);
    let tagged = one
        .service_tagged_addresses
        .iter()
        .flat_map(|(name, (address, _))| [name, address]);
    texts
        .chain(pairs)
        .chain(tagged)
        .any(|text| text.contains(char::is_control))
        .then(|| "one of its tags or metadata holds a control character".to_owned())
}

fn text_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > MAX_TEXT {
        Some("is longer than 1024 bytes")
    } else if text.contains(char::is_control) {
        Some("holds a control character")
    } else {
        None
    }
}

/// A host name as DNS has it (RFC 1123): labels of letters, digits and inner hyphens.
pub fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.trim_end_matches('.').split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
        && !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn instance(one: &Instance, server_id: u32) -> Value {
    let tagged: Map<String, Value> = one
        .service_tagged_addresses
        .iter()
        .map(|(name, (address, port))| (name.clone(), json!({ "Address": address, "Port": port })))
        .collect();
    json!({
        SERVER_ID: server_id,
        "Node": one.node,
        "NodeID": one.node_id,
        "NodeAddress": one.node_address,
        "NodeDatacenter": one.node_datacenter,
        "NodeTaggedAddresses": one.node_tagged_addresses,
        "NodeMeta": one.node_meta,
        "ID": one.id,
        "Name": one.name,
        "Address": one.address,
        "Port": one.port,
        "ServiceTaggedAddresses": tagged,
        "ServiceMeta": one.service_meta,
        "Tags": one.tags,
        "Status": one.status.as_str(),
        // HAProxy takes weights from 0 to 256 (configuration manual 5.2).
        "Weights": { "Passing": weight(one.weight_passing), "Warning": weight(one.weight_warning) },
    })
}

fn weight(weight: i64) -> i64 {
    weight.clamp(0, 256)
}

fn node(node: &Node) -> Value {
    let meta = |meta: &Meta| -> Value { json!(meta) };
    json!({
        "Node": node.name,
        "ID": node.id,
        "Address": node.address,
        "Datacenter": node.datacenter,
        "TaggedAddresses": meta(&node.tagged_addresses),
        "Meta": meta(&node.meta),
    })
}

fn tree(query: &Query, keys: &[KeyValue]) -> Value {
    let prefix = match &query.kind {
        crate::catalog::Kind::Tree { prefix } => prefix.as_str(),
        _ => "",
    };
    keys.iter()
        .map(|key| {
            let relative = key
                .path
                .strip_prefix(prefix)
                .unwrap_or(&key.path)
                .trim_start_matches('/');
            json!({ "Key": relative, "Path": key.path, "Value": key.value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::Fixture;

    #[test]
    fn bad_instances_are_left_out_and_named() {
        let fixture: Fixture = serde_json::from_str(
            r#"{ "services": { "web": [
                { "Address": "10.0.0.1", "Port": 80, "ID": "good" },
                { "Address": "10.0.0.1", "Port": 80, "ID": "same" },
                { "Address": "unix@/run/x", "Port": 80, "ID": "socket" },
                { "Address": "db.example", "Port": 80, "ID": "name" },
                { "Address": "0.0.0.0", "Port": 80, "ID": "any" },
                { "Address": "10.0.0.2", "Port": 0, "ID": "zero" },
                { "Address": "10.0.0.2", "Port": 1099511627776, "ID": "huge" },
                { "Address": "10.0.0.2", "Port": 80, "ID": "line\nprogram x" },
                { "Address": "10.0.0.2", "Port": 80, "ID": "tag", "Tags": ["a\u0000"] },
                { "Address": "::1", "Port": 65535, "ID": "six", "Weights": { "Passing": 9999 } }
            ] } }"#,
        )
        .unwrap();
        let query = Query::service("web");
        let answer = fixture.answer(&query).unwrap();
        let ids = |value: &Value| -> Vec<String> {
            let list = value.as_array().unwrap();
            list.iter()
                .map(|item| item["ID"].as_str().unwrap().to_owned())
                .collect()
        };
        let (kept, out) = value(&query, &answer, false);
        assert_eq!(ids(&kept), ["good", "six"]);
        assert_eq!(out.len(), 8);
        assert_eq!(kept[1]["Weights"]["Passing"], 256);
        let sentences: Vec<String> = out.iter().map(ToString::to_string).collect();
        assert!(
            sentences.contains(
                &"Instance zero on node node-6 of service \"web\" is left out because its port 0 is not between 1 and 65535."
                    .to_owned()
            ),
            "{sentences:#?}"
        );
        assert!(sentences.iter().all(|text| !text.contains('\n')));
        let sick: Fixture = serde_json::from_str(
            r#"{ "services": { "web": [
                { "Address": "10.0.0.1", "Port": 80, "ID": "stale", "Status": "critical" },
                { "Address": "10.0.0.1", "Port": 80, "ID": "live" }
            ] } }"#,
        )
        .unwrap();
        let any = Query {
            kind: match query.kind.clone() {
                crate::catalog::Kind::Service { name, .. } => crate::catalog::Kind::Service {
                    name,
                    tag: None,
                    connect: false,
                    health: crate::catalog::HealthFilter::Any,
                    near: None,
                    filter: None,
                    node_meta: BTreeMap::new(),
                },
                other => other,
            },
            scope: query.scope.clone(),
        };
        let (best, _) = value(&any, &sick.answer(&any).unwrap(), false);
        assert_eq!(ids(&best), ["live"], "the healthiest at one address stays");
        let (kept, _) = value(&query, &answer, true);
        assert_eq!(ids(&kept), ["good", "six", "name"]);
    }
}
