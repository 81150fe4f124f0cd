//! Where a line of HAProxy's configuration takes an address, and what a value may be in one. Pure.
//!
//! HAProxy reads each address with one function, `str2sa_range` (2.6 to 3.4, configuration manual 11 "Address
//! formats"). It expands variables, then takes a kind (`unix@`, `fd@`, `quic4@`, `stream+`, a leading `/`) in any
//! place: a `bind` that names a file replaces that file by a socket. A value from the catalog is a host and a port;
//! the template writes the kind.

use super::Refusal;
use super::line::Options;

/// A keyword whose line holds addresses.
pub struct Row {
    keyword: &'static str,
    /// The words between the keyword and its address. Without them only options hold addresses.
    pub names: Option<usize>,
    /// What follows the address.
    pub options: Options,
}

const fn row(keyword: &'static str, names: Option<usize>, options: Options) -> Row {
    Row {
        keyword,
        names,
        options,
    }
}

/// Each caller of `str2sa_range` and `str2ip` that reads a line of a configuration, but `init-addr`, which takes
/// IP addresses only.
const KEYWORDS: &[Row] = &[
    row("bind", Some(0), Options::Bind),
    row("default-server", None, Options::Server),
    row("dgram-bind", Some(0), Options::Bind),
    row("dispatch", Some(0), Options::None),
    row("http-check", None, Options::None),
    row("log", Some(0), Options::None),
    row("log-stderr", Some(0), Options::None),
    row("mailer", Some(1), Options::None),
    row("nameserver", Some(1), Options::None),
    row("ocsp-update.httpproxy", Some(0), Options::None),
    row("peer", Some(1), Options::Server),
    row("server", Some(1), Options::Server),
    row("server-template", Some(2), Options::Server),
    row("source", Some(0), Options::None),
    row(STATS, Some(1), Options::Bind),
    row("tcp-check", None, Options::None),
];

/// Options of these lines whose argument is an address.
const OPTIONS: &[&str] = &["addr", "agent-addr", "socks4", "source", "usesrc"];

/// The line of a keyword that holds addresses.
pub fn of_keyword(keyword: &str) -> Option<&'static Row> {
    KEYWORDS.iter().find(|row| row.keyword == keyword)
}

/// Whether an address follows this option on a line of this keyword.
pub fn follows(keyword: &str, option: &str) -> bool {
    OPTIONS.contains(&option) && of_keyword(keyword).is_some()
}

/// `stats` takes an address only behind `socket`.
pub const STATS: &str = "stats";

/// What was written of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// What the template wrote before any value and any kind.
    begin: String,
    /// Whether a value stands in it.
    has_value: bool,
    /// Whether the template wrote the kind, and it is not one of IP.
    is_special: bool,
    /// Whether the name of a variable may go on.
    in_variable: bool,
    /// Whether it ends with a dot.
    ends_with_dot: bool,
}

/// The longest kind, with its transport, is shorter.
const LONGEST: usize = 32;

impl Written {
    /// A letter of the template, or of what the operator set.
    pub fn literal(&mut self, letter: char) -> Result<(), Refusal> {
        self.ends_with_dot = letter == '.';
        self.in_variable =
            letter == '$' || (self.in_variable && (letter == '{' || is_of_variable(letter)));
        // `bind` takes a list.
        if letter == ',' {
            *self = Written::default();
            return Ok(());
        }
        if self.is_special {
            return Ok(());
        }
        if letter == '@' && self.has_value {
            return Err(Refusal::AddressKind);
        }
        let is_begin = !self.has_value && (self.begin.is_empty() || self.begin.ends_with('+'));
        self.is_special =
            (letter == '@' && !is_inet(&self.begin)) || (is_begin && matches!(letter, '/' | '$'));
        if self.begin.len() < LONGEST {
            self.begin.push(letter);
        }
        Ok(())
    }

    /// A value from the catalog.
    pub fn value(&mut self, value: &str) -> Result<(), Refusal> {
        if self.in_variable {
            return Err(Refusal::VariableName);
        }
        for (index, part) in value.split(',').enumerate() {
            if index > 0 {
                *self = Written::default();
            }
            let climbs = part.contains("..") || (self.ends_with_dot && part.starts_with('.'));
            match self.is_special {
                true if climbs => return Err(Refusal::Folder),
                false if !part.chars().all(is_of_host) => return Err(Refusal::Address),
                _ => {}
            }
            self.has_value = true;
            self.ends_with_dot = part.ends_with('.');
        }
        Ok(())
    }
}

/// Kinds that still need a host and a port.
fn is_inet(kind: &str) -> bool {
    let kind = kind.rsplit('+').next().unwrap_or(kind);
    let family = kind.strip_suffix(['4', '6']).unwrap_or(kind);
    matches!(family, "ip" | "ipv" | "tcp" | "mptcp" | "udp" | "quic")
}

/// Letters of a host name, an IP address, a port and a range of ports.
fn is_of_host(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._-:[]*".contains(letter)
}

/// Letters of the name of a variable (HAProxy 2.6 to 3.2, configuration manual 2.3 "environment variables").
pub fn is_of_variable(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests;
