//! Which instances are fit to be used, each looked at by itself. Pure.
//!
//! The guard counts only fit ones and templates see only fit ones, so both ask here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::{Instance, Network, unaskable};
use crate::text::shown;

/// The longest name, id or tag that is taken from the catalog.
const MAX_TEXT: usize = 1024;

/// Which addresses instances may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitness {
    /// Whether it may be a host name.
    pub host_names: bool,
    /// The networks it must lie in, if there are any.
    pub allow: Vec<Network>,
    /// The networks it must not lie in.
    pub deny: Vec<Network>,
    /// The addresses of this machine, where an instance may have a loopback address only if its node is this
    /// machine or has a loopback address itself; without them any instance may.
    pub loopback: Option<BTreeSet<IpAddr>>,
}

impl Default for Fitness {
    fn default() -> Fitness {
        Fitness {
            host_names: false,
            allow: Vec::new(),
            deny: Vec::new(),
            loopback: Some(BTreeSet::new()),
        }
    }
}

impl Fitness {
    /// What makes an instance unfit, if anything, to follow "because".
    pub fn fault(&self, one: &Instance) -> Option<String> {
        for (name, text) in [
            ("node", &one.node.name),
            ("id", &one.id),
            ("service name", &one.name),
        ] {
            if let Some(fault) = text_fault(text) {
                return Some(format!("its {name} {fault}"));
            }
        }
        if let Some(fault) = self.address_fault(&one.address) {
            return Some(fault);
        }
        if self.is_elsewhere(one) {
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
            .any(|text| has_control(text))
            .then(|| "one of its tags or metadata holds a control character".to_owned())
    }

    /// What makes an address unfit, if anything.
    pub fn address_fault(&self, text: &str) -> Option<String> {
        let Ok(ip) = text.parse::<IpAddr>() else {
            return (!(self.host_names && is_host_name(text))).then(|| {
                format!(
                    "its address `{}` is no IP address{}",
                    shorten(text),
                    if self.host_names { " or host name" } else { "" }
                )
            });
        };
        // IPv4 written as IPv6 is reached as IPv4.
        let plain = ip.to_canonical();
        if plain.is_unspecified()
            || plain.is_multicast()
            || plain == IpAddr::V4(Ipv4Addr::BROADCAST)
        {
            return Some(format!("its address {ip} is that of no single host"));
        }
        if let Some(network) = self.deny.iter().find(|one| one.contains(plain)) {
            return Some(format!(
                "its address {ip} lies in {network}, which catalog.deny_addresses forbids"
            ));
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|one| one.contains(plain)) {
            return Some(format!(
                "its address {ip} lies in no network of catalog.allow_addresses"
            ));
        }
        None
    }

    /// What makes an address that a key names unfit, if anything: no node says on which machine it is.
    pub fn place_fault(&self, address: &str) -> Option<String> {
        let loopback = || {
            let here = match address.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                // RFC 6761 section 6.3.
                Err(_) => {
                    let name = address.trim_end_matches('.').to_ascii_lowercase();
                    name == "localhost" || name.ends_with(".localhost")
                }
            };
            (self.loopback.is_some() && here).then(|| {
                format!(
                    "its address {address} is this machine's own; catalog.allow_loopback lets it through"
                )
            })
        };
        self.address_fault(address).or_else(loopback)
    }

    /// Whether the address is a loopback address that is not let through, and the node another machine.
    fn is_elsewhere(&self, one: &Instance) -> bool {
        let Some(local) = &self.loopback else {
            return false;
        };
        let parse = |text: &str| Some(text.parse::<IpAddr>().ok()?.to_canonical());
        let is_here = |ip: IpAddr| ip.is_loopback() || local.contains(&ip);
        parse(&one.address).is_some_and(|ip| ip.is_loopback())
            && parse(&one.node.address).is_some_and(|ip| !is_here(ip))
    }
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
    } else if has_control(text) {
        Some("holds a control character")
    } else {
        None
    }
}

/// Whether a text holds a control character. Nearly none has a byte with which one could begin.
pub fn has_control(text: &str) -> bool {
    let may_begin = |byte: u8| byte < b' ' || byte == 0x7f || byte == 0xc2;
    text.bytes().any(may_begin) && text.contains(char::is_control)
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

/// The start of a name or value in a sentence, without control characters.
pub fn shorten(text: &str) -> String {
    shown(text, 40)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::has_control;

    proptest! {
        #[test]
        fn a_control_character_is_found_by_its_first_byte(text in "[a-z\\u{7e}-\\u{a1}\\u{0}-\\u{20}é€]{0,8}") {
            prop_assert_eq!(has_control(&text), text.contains(char::is_control));
        }
    }
}
