//! Where a configuration listens: `bind` lines and the addresses in them (HAProxy 2.6 configuration
//! manual 4.2 "bind" and 11 "Address formats"). Reads text only: it resolves no name and opens no
//! socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::lexer::Word;
use super::sections::Config;

/// One `bind` line of a section that is not disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// `frontend`, `listen`, `peers` or `log-forward`.
    pub kind: String,
    /// The section's name.
    pub section: String,
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line in its file, from 1.
    pub line: usize,
    /// The address list as written.
    pub text: String,
    /// Each address of the list.
    pub endpoints: Vec<Endpoint>,
    /// The words after the address.
    pub options: Vec<String>,
    /// Whether only HAProxy knows if this line counts.
    pub conditional: bool,
}

/// What carries the connections to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// QUIC, over UDP.
    Quic,
    /// UDP.
    Udp,
}

/// One place to listen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Endpoint {
    /// An IP address; `*` and nothing are 0.0.0.0.
    Inet {
        /// What carries it.
        transport: Transport,
        /// The address.
        address: IpAddr,
        /// First port.
        low: u16,
        /// Last port, the same when there is one.
        high: u16,
    },
    /// A host name that HAProxy resolves when it starts.
    Host {
        /// What carries it.
        transport: Transport,
        /// The name.
        name: String,
        /// First port.
        low: u16,
        /// Last port, the same when there is one.
        high: u16,
    },
    /// A UNIX socket.
    Unix(String),
    /// A socket in the abstract namespace.
    Abstract {
        /// The name.
        name: String,
        /// `abns@`: filled up with NULs, which are part of the name. Not so `abnsz@` (3.1).
        padded: bool,
    },
    /// A socket inherited from the parent, as written (`fd@3`, `sockpair@4`).
    Inherited(String),
    /// Not understood for certain: a variable, or a port that is none. As written.
    Opaque(String),
}

impl Endpoint {
    /// Address, first and last port, where TCP listens on an IP address.
    pub fn tcp(&self) -> Option<(IpAddr, u16, u16)> {
        match self {
            Endpoint::Inet {
                transport: Transport::Tcp,
                address,
                low,
                high,
            } => Some((*address, *low, *high)),
            _ => None,
        }
    }
}

/// What a command socket lets its clients do; each level can do what the ones before it can (HAProxy
/// 2.6 configuration manual 5.1 "level").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Reads figures, but no variable.
    User,
    /// Reads everything. HAProxy's default.
    Operator,
    /// Changes servers, maps and variables.
    Admin,
}

/// One `stats socket` line of `global`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSocket {
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line in its file, from 1.
    pub line: usize,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What its clients may do.
    pub level: Level,
    /// Whether a command goes over it as it is: without TLS and without a PROXY header.
    pub plain: bool,
    /// Whether it hands over the listening sockets (`expose-fd listeners`).
    pub expose_fd_listeners: bool,
    /// Whether only HAProxy knows if this line counts.
    pub conditional: bool,
}

/// Bind options of a socket that does not read a command as it is written.
const NOT_PLAIN: [&str; 3] = ["ssl", "accept-proxy", "accept-netscaler-cip"];

impl Config {
    /// All `bind` lines (and `dgram-bind` of `log-forward`) of sections that are not disabled.
    pub fn binds(&self) -> Vec<Bind> {
        let kinds = ["frontend", "listen", "peers", "log-forward"];
        let mut binds = Vec::new();
        for section in &self.sections {
            if !kinds.contains(&section.kind.as_str()) || self.is_disabled(section) {
                continue;
            }
            for directive in &section.directives {
                let transport = match directive.keyword() {
                    "bind" => Transport::Tcp,
                    "dgram-bind" => Transport::Udp,
                    _ => continue,
                };
                let Some(address) = directive.words.get(1) else {
                    continue;
                };
                binds.push(Bind {
                    kind: section.kind.clone(),
                    section: section.name.clone(),
                    file: section.file,
                    line: directive.line,
                    text: address.text.clone(),
                    endpoints: endpoints(address, transport),
                    options: directive.rest(2),
                    conditional: directive.conditional,
                });
            }
        }
        binds
    }

    /// The `stats socket` lines of `global`.
    pub fn stats_sockets(&self) -> Vec<StatsSocket> {
        let mut sockets = Vec::new();
        for section in self.of_kind("global") {
            for directive in section.all("stats") {
                if directive.word(1) != Some("socket") {
                    continue;
                }
                let Some(address) = directive.words.get(2) else {
                    continue;
                };
                let options = directive.rest(3);
                let value = |name: &str| {
                    let at = options.iter().position(|word| word == name)?;
                    options.get(at + 1).cloned()
                };
                // Here a word without a colon is the path of a socket, with or without a slash.
                let path = !address.opaque && !address.text.contains([':', '@']);
                let endpoint = if path {
                    Endpoint::Unix(address.text.clone())
                } else {
                    let found = endpoints(address, Transport::Tcp);
                    found
                        .into_iter()
                        .next()
                        .unwrap_or_else(|| opaque(&address.text))
                };
                sockets.push(StatsSocket {
                    file: section.file,
                    line: directive.line,
                    endpoint,
                    level: match value("level").as_deref() {
                        Some("admin") => Level::Admin,
                        Some("user") => Level::User,
                        _ => Level::Operator,
                    },
                    plain: !options
                        .iter()
                        .any(|word| NOT_PLAIN.contains(&word.as_str())),
                    expose_fd_listeners: value("expose-fd").as_deref() == Some("listeners"),
                    conditional: directive.conditional,
                });
            }
        }
        sockets
    }
}

/// The addresses of a list, as `bind` takes it.
pub fn endpoints(list: &Word, transport: Transport) -> Vec<Endpoint> {
    if list.opaque {
        return list.text.split(',').map(opaque).collect();
    }
    list.text
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| endpoint(text, transport))
        .collect()
}

fn opaque(text: &str) -> Endpoint {
    Endpoint::Opaque(text.to_owned())
}

pub(crate) fn endpoint(text: &str, default_transport: Transport) -> Endpoint {
    let mut transport = default_transport;
    let mut rest = text;
    if let Some(after) = rest.strip_prefix("stream+") {
        (transport, rest) = (Transport::Tcp, after);
    } else if let Some(after) = rest.strip_prefix("dgram+") {
        (transport, rest) = (Transport::Udp, after);
    }
    let mut six = false;
    if let Some((prefix, after)) = rest.split_once('@') {
        rest = after;
        six = prefix.ends_with('6');
        match prefix {
            "ip" | "ipv4" | "ipv6" => {}
            "tcp" | "tcp4" | "tcp6" => transport = Transport::Tcp,
            "udp" | "udp4" | "udp6" => transport = Transport::Udp,
            "quic4" | "quic6" => transport = Transport::Quic,
            "unix" | "uxst" | "uxdg" => return Endpoint::Unix(after.to_owned()),
            "abns" | "abnsz" => {
                return Endpoint::Abstract {
                    name: after.to_owned(),
                    padded: prefix == "abns",
                };
            }
            "fd" | "sockpair" => return Endpoint::Inherited(text.to_owned()),
            _ => return opaque(text),
        }
    }
    if rest.starts_with('/') {
        return Endpoint::Unix(rest.to_owned());
    }
    let (host, port) = split_port(rest);
    let Some((low, high)) = port.and_then(ports) else {
        return opaque(text);
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = match host {
        "" | "*" if six => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        "" | "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        _ => host.parse().ok(),
    };
    match address {
        Some(address) => Endpoint::Inet {
            transport,
            address,
            low,
            high,
        },
        None => Endpoint::Host {
            transport,
            name: host.to_owned(),
            low,
            high,
        },
    }
}

/// Address and port at the last colon that is not inside brackets, as HAProxy cuts them.
pub(crate) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rfind([':', ']']) {
        Some(at) if text[at..].starts_with(':') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    }
}

fn ports(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high && low > 0).then_some((low, high))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, host, low, high) = match self {
            Endpoint::Inet {
                transport,
                address,
                low,
                high,
            } => {
                let host = match address {
                    IpAddr::V4(address) if address.is_unspecified() => "*".to_owned(),
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => format!("[{address}]"),
                };
                (transport, host, low, high)
            }
            Endpoint::Host {
                transport,
                name,
                low,
                high,
            } => (transport, name.clone(), low, high),
            Endpoint::Unix(path) => return write!(out, "unix@{path}"),
            Endpoint::Abstract { name, padded } => {
                let kind = if *padded { "abns" } else { "abnsz" };
                return write!(out, "{kind}@{name}");
            }
            Endpoint::Inherited(text) | Endpoint::Opaque(text) => return out.write_str(text),
        };
        match transport {
            Transport::Tcp => {}
            Transport::Quic => out.write_str("QUIC ")?,
            Transport::Udp => out.write_str("UDP ")?,
        }
        write!(out, "{host}:{low}")?;
        if high != low {
            write!(out, "-{high}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listens(text: &str) -> Vec<String> {
        let config = Config::parse(&format!("frontend f\n bind {text}\n"));
        let binds = config.binds();
        let endpoints = binds.iter().flat_map(|bind| &bind.endpoints);
        endpoints.map(Endpoint::to_string).collect()
    }

    #[test]
    fn addresses_are_read_by_meaning() {
        assert_eq!(listens("*:80"), ["*:80"]);
        assert_eq!(listens(":80,0.0.0.0:443 ssl"), ["*:80", "*:443"]);
        assert_eq!(listens("[::]:443"), ["[::]:443"]);
        assert_eq!(listens(":::443"), ["[::]:443"]);
        assert_eq!(listens("ipv6@:443"), ["[::]:443"]);
        assert_eq!(listens("ipv4@10.0.0.1:2000-2010"), ["10.0.0.1:2000-2010"]);
        assert_eq!(listens("quic4@:443"), ["QUIC *:443"]);
        assert_eq!(listens("/run/a.sock"), ["unix@/run/a.sock"]);
        assert_eq!(listens("unix@a,abns@b,fd@3"), ["unix@a", "abns@b", "fd@3"]);
        assert_eq!(listens("localhost:80"), ["localhost:80"]);
        assert_eq!(listens("\"${IP}:80\""), ["${IP}:80"]);
        assert_eq!(listens("10.0.0.1"), ["10.0.0.1"], "no port: not understood");
    }

    #[test]
    fn a_disabled_frontend_does_not_listen() {
        let config = Config::parse("frontend f\n bind :80\n disabled\nlisten l\n bind :81 ssl\n");
        let binds = config.binds();
        assert_eq!(binds.len(), 1);
        assert_eq!((binds[0].section.as_str(), binds[0].line), ("l", 5));
        assert_eq!(binds[0].options, ["ssl"]);
    }

    #[test]
    fn stats_sockets_have_a_level() {
        let config = Config::parse(
            "global\n stats socket /run/h.sock mode 600 level admin expose-fd listeners\n stats socket ipv4@127.0.0.1:9999\n stats timeout 5s\n",
        );
        let sockets = config.stats_sockets();
        assert_eq!(sockets.len(), 2);
        assert_eq!(sockets[0].endpoint, Endpoint::Unix("/run/h.sock".into()));
        assert_eq!(sockets[0].level, Level::Admin);
        assert!(sockets[0].expose_fd_listeners);
        assert_eq!(sockets[1].endpoint.to_string(), "127.0.0.1:9999");
        assert_eq!(sockets[1].level, Level::Operator);
    }
}
