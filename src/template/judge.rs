//! Which items of an answer are fit to be used. A bad one is put aside: it is left out, named, and
//! never keeps the others from being rendered. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::answers::Item;
use super::helpers::shorten;
use super::listeners::Listeners;
use crate::catalog::{Instance, Network, Node, NodeService, Query, one_spelling, unaskable};

/// The longest name, id or tag that is taken from the catalog.
const MAX_TEXT: usize = 1024;

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

/// Which addresses instances may have.
#[derive(Debug, Clone, Copy)]
pub struct Addresses<'a> {
    /// Whether it may be a host name.
    pub host_names: bool,
    /// The networks it must lie in, if there are any.
    pub allow: &'a [Network],
    /// The networks it must not lie in.
    pub deny: &'a [Network],
    /// The addresses of this machine, where an instance may have a loopback address only if its node is this
    /// machine or has a loopback address itself; without them any instance may.
    pub loopback: Option<&'a BTreeSet<IpAddr>>,
    /// Where the gateway itself listens.
    pub own: &'a Listeners,
}

/// The places of the instances that are kept; the others are noted.
pub fn judge(
    query: &Query,
    list: &[Instance],
    items: &mut [Item],
    addresses: Addresses<'_>,
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
                && let Some(fault) = fault(one, addresses)
            {
                return Some(fault);
            }
            item.fit = true;
            // Where the configuration listens may change while the instance does not.
            if let Some(fault) = own_fault(&one.address, one.port, addresses) {
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

/// What makes an instance unfit, if anything.
fn fault(one: &Instance, addresses: Addresses<'_>) -> Option<String> {
    for (name, text) in [
        ("node", &one.node.name),
        ("id", &one.id),
        ("service name", &one.name),
    ] {
        if let Some(fault) = text_fault(text) {
            return Some(format!("its {name} {fault}"));
        }
    }
    if let Some(fault) = address_fault(&one.address, addresses) {
        return Some(fault);
    }
    if addresses
        .loopback
        .is_some_and(|local| is_elsewhere(one, local))
    {
        return Some(format!(
            "its address {} is this machine's own, but its node is at {}; catalog.allow_loopback lets it through",
            one.address,
            shorten(&one.node.address)
        ));
    }
    if !(1..=65535).contains(&one.port) {
        return Some(format!("its port {} is not between 1 and 65535", one.port));
    }
    let node = &one.node;
    let texts = one
        .tags
        .iter()
        .chain([&node.address, &node.id, &node.datacenter]);
    let pairs = [&one.service_meta, &node.meta, &node.tagged_addresses];
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

/// What makes an address that a key names unfit, if anything: no node says on which machine it is.
pub fn place_fault(address: &str, port: u16, addresses: Addresses<'_>) -> Option<String> {
    let loopback = || {
        let here = match address.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            // RFC 6761 section 6.3.
            Err(_) => {
                let name = address.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        };
        (addresses.loopback.is_some() && here).then(|| {
            format!(
                "its address {address} is this machine's own; catalog.allow_loopback lets it through"
            )
        })
    };
    address_fault(address, addresses)
        .or_else(loopback)
        .or_else(|| own_fault(address, i64::from(port), addresses))
}

fn own_fault(address: &str, port: i64, addresses: Addresses<'_>) -> Option<String> {
    addresses
        .own
        .have(address, port)
        .then(|| format!("its address {address}:{port} is one on which the gateway itself listens"))
}

/// Whether the address is a loopback address and the node another machine.
fn is_elsewhere(one: &Instance, local: &BTreeSet<IpAddr>) -> bool {
    let parse = |text: &str| Some(text.parse::<IpAddr>().ok()?.to_canonical());
    let is_here = |ip: IpAddr| ip.is_loopback() || local.contains(&ip);
    parse(&one.address).is_some_and(|ip| ip.is_loopback())
        && parse(&one.node.address).is_some_and(|ip| !is_here(ip))
}

/// What makes an address unfit, if anything.
pub fn address_fault(text: &str, addresses: Addresses<'_>) -> Option<String> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return (!(addresses.host_names && is_host_name(text))).then(|| {
            format!(
                "its address `{}` is no IP address{}",
                shorten(text),
                if addresses.host_names {
                    " or host name"
                } else {
                    ""
                }
            )
        });
    };
    // IPv4 written as IPv6 is reached as IPv4.
    let plain = ip.to_canonical();
    if plain.is_unspecified()
        || plain.is_multicast()
        || plain == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
    {
        return Some(format!("its address {ip} is that of no single host"));
    }
    if let Some(network) = addresses.deny.iter().find(|one| one.contains(plain)) {
        return Some(format!(
            "its address {ip} lies in {network}, which catalog.deny_addresses forbids"
        ));
    }
    if !addresses.allow.is_empty() && !addresses.allow.iter().any(|one| one.contains(plain)) {
        return Some(format!(
            "its address {ip} lies in no network of catalog.allow_addresses"
        ));
    }
    None
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
        .any(|text| text.contains(char::is_control))
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
        .any(|text| text.contains(char::is_control))
        .then(|| "its address or metadata holds a control character".to_owned())
}

/// What makes the name of something unfit that a template may ask the catalog for.
pub fn name_fault(name: &str) -> Option<&'static str> {
    text_fault(name).or_else(|| unaskable(name))
}

/// What makes a text unfit, if anything, to follow it in a sentence.
pub fn text_fault(text: &str) -> Option<&'static str> {
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

/// A host name as DNS has it (RFC 1123): labels of letters, digits and inner hyphens. One that ends in
/// a number is none: the system's resolver takes `127.1` and `0x7f000001` for addresses.
pub fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last
        .get(..2)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("0x"));
    text.len() <= 253
        && !hexadecimal
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}
