//! Whether a set of `bind` lines still accepts what an address of another set accepted.

use crate::haproxy::config::{Bind, Endpoint};

/// Whether the new endpoints accept every connection that this one did. A wildcard covers each
/// address of its family, and `[::]` with `v4v6` those of IPv4 too.
pub fn is_covered(old: &Endpoint, binds: &[Bind]) -> bool {
    let new = || binds.iter().flat_map(|bind| &bind.endpoints);
    let Endpoint::Inet {
        transport,
        address,
        low,
        high,
    } = old
    else {
        let Endpoint::Host {
            transport,
            name,
            low,
            high,
        } = old
        else {
            return new().any(|endpoint| endpoint == old);
        };
        let ranges = new().filter_map(|endpoint| match endpoint {
            Endpoint::Host {
                transport: t,
                name: n,
                low,
                high,
            } if t == transport && n == name => Some((*low, *high)),
            _ => None,
        });
        return covers(ranges.collect(), *low, *high);
    };
    let mut ranges = Vec::new();
    for bind in binds {
        let both = bind.options.iter().any(|word| word == "v4v6");
        for endpoint in &bind.endpoints {
            if let Endpoint::Inet {
                transport: t,
                address: a,
                low,
                high,
            } = endpoint
                && t == transport
                && (a == address
                    || a.is_unspecified()
                        && (a.is_ipv4() == address.is_ipv4() || a.is_ipv6() && both))
            {
                ranges.push((*low, *high));
            }
        }
    }
    covers(ranges, *low, *high)
}

fn covers(mut ranges: Vec<(u16, u16)>, low: u16, high: u16) -> bool {
    ranges.sort_unstable();
    let mut next = u32::from(low);
    for (from, to) in ranges {
        if u32::from(from) <= next {
            next = next.max(u32::from(to) + 1);
        }
    }
    next > u32::from(high)
}
