//! Sections that listen on one address. HAProxy sets SO_REUSEPORT on each of its sockets (2.6 to 3.2), so it starts, and
//! the kernel gives each of the sections some of the connections.

use std::collections::BTreeMap;

use crate::haproxy::config::{Bind, Endpoint, split_port};

/// A `bind` line whose address another section has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared<'a> {
    /// The earlier line.
    pub first: &'a Bind,
    /// The later line.
    pub second: &'a Bind,
    /// The address of the later line.
    pub endpoint: &'a Endpoint,
}

/// A socket on one address shares it with another one only in the same namespace and on the same interface. A socket
/// with an address of its own goes before one on all addresses, and one with an interface before one without.
type Place<'a> = (String, [Option<&'a str>; 2]);

struct Listener<'a> {
    ports: (u16, u16),
    bind: &'a Bind,
    endpoint: &'a Endpoint,
}

/// The lines that are certain to share an address with an earlier line of another section, in the order of the first
/// ports. Several lines of one section may share an address, for example to bind threads to sockets.
pub fn shared(binds: &[Bind]) -> Vec<Shared<'_>> {
    let mut places: BTreeMap<Place<'_>, Vec<Listener<'_>>> = BTreeMap::new();
    for bind in binds.iter().filter(|bind| !bind.conditional) {
        let options = ["interface", "namespace"].map(|name| value(&bind.options, name));
        for endpoint in &bind.endpoints {
            if let Some((address, ports)) = address(endpoint) {
                let listener = Listener {
                    ports,
                    bind,
                    endpoint,
                };
                places.entry((address, options)).or_default().push(listener);
            }
        }
    }
    places.into_values().flat_map(pairs).collect()
}

/// Each listener with the next one of another section that has one of its ports.
fn pairs(mut listeners: Vec<Listener<'_>>) -> Vec<Shared<'_>> {
    listeners.sort_by_key(|listener| listener.ports);
    let next = |(at, one): (usize, &_)| {
        let one: &Listener<'_> = one;
        let other = listeners[at + 1..]
            .iter()
            .take_while(|other| other.ports.0 <= one.ports.1)
            .find(|other| section(other.bind) != section(one.bind))?;
        let later = (other.bind.file, other.bind.line) >= (one.bind.file, one.bind.line);
        let (first, second) = if later { (one, other) } else { (other, one) };
        Some(Shared {
            first: first.bind,
            second: second.bind,
            endpoint: second.endpoint,
        })
    };
    listeners.iter().enumerate().filter_map(next).collect()
}

fn section(bind: &Bind) -> (&str, &str) {
    (&bind.kind, &bind.section)
}

/// What is the same for the same address, and its ports. An address with a variable is the same where its text is.
fn address(endpoint: &Endpoint) -> Option<(String, (u16, u16))> {
    match endpoint {
        Endpoint::Inet {
            transport,
            address,
            low,
            high,
        } => Some((format!("{transport:?} {address}"), (*low, *high))),
        Endpoint::Host {
            transport,
            name,
            low,
            high,
        } => Some((format!("{transport:?} {name}"), (*low, *high))),
        Endpoint::Opaque(text) => {
            let port = split_port(text).1?.parse().ok().filter(|port| *port > 0)?;
            Some((text.clone(), (port, port)))
        }
        // The last one of two UNIX sockets takes the path over; HAProxy does not start on two of the others.
        Endpoint::Unix(_) | Endpoint::Abstract { .. } | Endpoint::Inherited(_) => None,
    }
}

fn value<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    let at = options.iter().position(|option| option == name)?;
    options.get(at + 1).map(String::as_str)
}
