//! Where a rendered configuration, Gatewright and what it reads listen, to tell an instance that would send requests
//! round in a loop, or to HAProxy's own command socket. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::Options;
use crate::haproxy::config::Config;

/// Addresses and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Address, first and last port.
    ranges: BTreeSet<(IpAddr, u16, u16)>,
    /// What `*` stands for besides loopback.
    local: BTreeSet<IpAddr>,
}

impl Listeners {
    /// The `bind` and `stats socket` lines of configurations, and where Gatewright and what it reads listen; none where
    /// instances may have such an address.
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>, options: &Options) -> Listeners {
        if options.own_listeners {
            return Listeners::default();
        }
        // A configuration may be large and its listeners are few: only their lines are read.
        let (mut binds, mut stats) = (String::from("frontend x\n"), String::from("global\n"));
        for text in texts {
            gather(text, "bind", &mut binds);
            gather(text, "stats", &mut stats);
        }
        let path = Path::new("");
        let binds = Config::parse_files([(path, binds.as_str())]).binds();
        let stats = Config::parse_files([(path, stats.as_str())]).stats_sockets();
        let endpoints = binds.into_iter().flat_map(|bind| bind.endpoints);
        let ranges = endpoints
            .chain(stats.into_iter().map(|socket| socket.endpoint))
            .filter_map(|endpoint| endpoint.tcp())
            .chain(
                options
                    .listens
                    .iter()
                    .map(|at| (at.ip(), at.port(), at.port())),
            )
            .map(|(address, low, high)| (address.to_canonical(), low, high));
        Listeners {
            ranges: ranges.collect(),
            local: options.local_addresses.clone(),
        }
    }

    /// Whether this is one of them.
    pub fn have(&self, address: &str, at: i64) -> bool {
        let port = |low: u16, high: u16| (i64::from(low)..=i64::from(high)).contains(&at);
        if !self.ranges.iter().any(|(_, low, high)| port(*low, *high)) {
            return false;
        }
        let Ok(ip) = address.parse::<IpAddr>() else {
            return false;
        };
        let ip = ip.to_canonical();
        self.ranges.iter().any(|(address, low, high)| {
            let any = match address {
                IpAddr::V4(own) => own.is_unspecified() && ip.is_ipv4(),
                IpAddr::V6(own) => own.is_unspecified(),
            };
            let here = any && (ip.is_loopback() || self.local.contains(&ip));
            port(*low, *high) && (*address == ip || here)
        })
    }

    /// These and others.
    pub fn and(mut self, others: &Listeners) -> Listeners {
        self.ranges.extend(&others.ranges);
        self.local.extend(&others.local);
        self
    }
}

/// Takes over the lines that begin with a keyword.
fn gather(text: &str, keyword: &str, out: &mut String) {
    for (at, _) in text.match_indices(keyword) {
        let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let blank = text[begin..at]
            .bytes()
            .all(|byte| matches!(byte, b' ' | b'\t'));
        if blank && text[at + keyword.len()..].starts_with([' ', '\t']) {
            out.push_str(text[at..].lines().next().unwrap_or_default());
            out.push('\n');
        }
    }
}
