//! Where requests come in: a host and the beginning of a path, the name that a TLS client asks for, or a
//! TCP port. Also the order in which
//! routes are tried.

use std::cmp::Ordering;
use std::fmt;

/// The longest host or path.
const MAX_LENGTH: usize = 1024;
/// The most labels behind the stars of a host: the shipped template looks for each number of them.
const MAX_LABELS: usize = 8;

/// What a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Requests whose host is this one and whose path begins so.
    Http {
        /// In lower case, perhaps with a port, perhaps with `*.` or `*.*.` before it; empty for every host.
        host: String,
        /// Begins with a slash; without percent-encoding, dots and double slashes, as requests' paths are compared.
        path: String,
    },
    /// TLS connections whose client asks for this name, passed through as they are.
    Sni {
        /// In lower case, perhaps with `*.` or `*.*.` before it.
        host: String,
    },
    /// Connections to this port.
    Tcp {
        /// From 1 to 65535.
        port: u16,
    },
}

impl Source {
    /// Reads `host/path`, `/path`, `host` or `:port`. `$DC` and `${DC}` stand for the datacenter, every other
    /// variable for nothing.
    pub fn parse(text: &str, datacenter: &str) -> Result<Source, String> {
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().ok().filter(|port| *port > 0);
            return port
                .map(|port| Source::Tcp { port })
                .ok_or_else(|| "its port is not between 1 and 65535".to_owned());
        }
        if text.is_empty() {
            return Err(
                "it names no source: a host is written `host/`, a path `/path`, a TCP port `:PORT`"
                    .to_owned(),
            );
        }
        if is_address(text) {
            return Err("it names an address to listen at, which tags cannot open here; write `:PORT` and name the port in the parameter tcp_ports".to_owned());
        }
        // A host alone takes every path (Fabio 1.7, `hostpath` of route/table.go).
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let host = expand(host, datacenter).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        let path = match path {
            "" => "/".to_owned(),
            path => normal(&decoded(&expand(path, datacenter))?),
        };
        if let Some(fault) = host_fault(&host).or_else(|| path_fault(&path)) {
            return Err(fault);
        }
        Ok(Source::Http { host, path })
    }

    /// What tells routes apart in the order in which they are tried, as far as it need not be turned round.
    fn parts(&self) -> (u8, &str, &str, u16) {
        match self {
            Source::Http { host, path } => (2, host, path, 0),
            Source::Sni { host } => (1, host, "", 0),
            Source::Tcp { port } => (0, "", "", *port),
        }
    }
}

impl Ord for Source {
    /// The first is tried first. Hosts are compared by their letters from the end, so that an exact one comes
    /// before `*.a.b` and that before `*.b`, then paths, both backwards; a longer path comes before what it
    /// begins with.
    fn cmp(&self, other: &Source) -> Ordering {
        let (kind, host, path, port) = self.parts();
        let (other_kind, other_host, other_path, other_port) = other.parts();
        let hosts = || other_host.chars().rev().cmp(host.chars().rev());
        other_kind
            .cmp(&kind)
            .then_with(hosts)
            .then_with(|| (other_path, other_port).cmp(&(path, port)))
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Source) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Http { host, path } => write!(out, "{host}{path}"),
            Source::Sni { host } => write!(out, "tls:{host}"),
            Source::Tcp { port } => write!(out, ":{port}"),
        }
    }
}

/// Replaces `$name` and `${name}` as Go's `os.Expand` does.
fn expand(text: &str, datacenter: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, left) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some(braced) => braced,
            None => {
                let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                after.split_at(after.find(|letter| !word(letter)).unwrap_or(after.len()))
            }
        };
        if name == "DC" {
            out.push_str(datacenter);
        }
        rest = left;
    }
    out.push_str(rest);
    out
}

fn host_fault(host: &str) -> Option<String> {
    let end = match host {
        "*" | "*.*" => "",
        _ => {
            let one = host.strip_prefix("*.").unwrap_or(host);
            one.strip_prefix("*.").unwrap_or(one)
        }
    };
    // HAProxy finds these by a few lookups, however long a request and however many routes there are.
    let wild = end.len() < host.len();
    if end.contains(['*', '?', '[', ']', '{', '}', '\\'])
        || wild && end.split('.').count() > MAX_LABELS
    {
        return Some("its host is a pattern other than `*`, `*.*`, `*.NAME` and `*.*.NAME` with at most 8 labels in NAME; write such a pattern, or a tag for each host".to_owned());
    }
    let (name, port) = match end.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (end, None),
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if !name.chars().all(plain) || host.len() > MAX_LENGTH {
        return Some("its host holds more than letters, digits and `. _ -`".to_owned());
    }
    port.filter(|port| !port.parse::<u16>().is_ok_and(|port| port > 0))
        .map(|_| "the port of its host is not between 1 and 65535".to_owned())
}

fn path_fault(path: &str) -> Option<String> {
    if path.len() > MAX_LENGTH {
        return Some("its path is longer than 1024 bytes".to_owned());
    }
    // The template refuses requests for such paths.
    let (_, parameter) = path.split_once(';').unwrap_or_default();
    if path.contains('\\')
        || parameter.contains('/')
        || ["/;", "/.;", "/..;"]
            .iter()
            .any(|hidden| path.contains(hidden))
    {
        return Some("its path holds a backslash, or a parameter (`;`) in an inner segment or in one of nothing but dots, which no request may".to_owned());
    }
    let unfit = |letter: char| letter.is_whitespace() || letter.is_control();
    path.contains(unfit)
        .then(|| "its path holds a blank or a control character, also without its percent-encoding, which no entry of a map can".to_owned())
}

/// Whether it is `IP:PORT`, with which Fabio's `tcp-dynamic` opens a listener.
fn is_address(text: &str) -> bool {
    text.parse::<std::net::SocketAddr>().is_ok()
}

/// A path without `.`, `..` and double slashes, as HAProxy normalizes those of requests: a route that kept them would
/// match no request, and its rules would protect nothing.
fn normal(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    let end = if folder && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

/// A path without its percent-encoding. What is no encoding stays.
fn decoded(path: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let encoded = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8(bytes)
        .map_err(|_| "its path is no UTF-8 without its percent-encoding".to_owned())
}
