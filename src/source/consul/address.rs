//! Where Consul's HTTP API is, and which of several addresses is asked now. Pure.
//!
//! An `https://` address is never turned into a plain one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::ConsulError;

/// The port of Consul's HTTP API when an address names neither a scheme nor a port.
const DEFAULT_PORT: u16 = 8500;

/// One address of Consul's HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `http://host:port` or, with TLS, `https://host:port`.
    Tcp {
        /// Whether TLS is spoken.
        tls: bool,
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:///path`.
    Unix(PathBuf),
}

impl Address {
    /// The same address with TLS, for `CONSUL_HTTP_SSL=true`. A Unix socket stays as it is.
    pub fn secured(self) -> Address {
        match self {
            Address::Tcp { host, port, .. } => Address::Tcp {
                tls: true,
                host,
                port,
            },
            Address::Unix(path) => Address::Unix(path),
        }
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self, Address::Tcp { tls: true, .. })
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl Default for Address {
    fn default() -> Address {
        Address::Tcp {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: DEFAULT_PORT,
        }
    }
}

/// Reads `host`, `host:port`, `http://…`, `https://…` or `unix:///path`.
impl FromStr for Address {
    type Err = ConsulError;

    fn from_str(text: &str) -> Result<Address, ConsulError> {
        let wrong = |reason: &str| ConsulError::Address {
            // A mistaken address may hold a password; only what follows it is repeated.
            text: text.rsplit('@').next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(wrong("the path of a Unix socket starts with a slash"));
            }
            return Ok(Address::Unix(path.into()));
        }
        let schemed = text.contains("://");
        let full = if schemed {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let url = reqwest::Url::parse(&full).map_err(|error| wrong(&error.to_string()))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong("the scheme is none of http, https and unix")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("user and password have a setting of their own"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("only scheme, host and port may be given"));
        }
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(wrong("there is no host"));
        }
        let known = url.port_or_known_default().unwrap_or(DEFAULT_PORT);
        // The parser drops `:80` from an http address, so ask the text whether a port was there.
        let bare = !schemed && url.port().is_none() && !text.ends_with(":80");
        Ok(Address::Tcp {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: if bare { DEFAULT_PORT } else { known },
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { tls, host, port } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(out, "{scheme}://[{host}]:{port}")
                } else {
                    write!(out, "{scheme}://{host}:{port}")
                }
            }
            Address::Unix(path) => write!(out, "unix://{}", path.display()),
        }
    }
}

/// Which of `n` addresses is asked: sticky, with a cool-down for those that failed.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    current: usize,
    cool_until: Vec<Option<Instant>>,
    /// Grows with each switch; an index learned under another number is worthless.
    pub(super) epoch: u64,
}

impl Choice {
    /// The first of `count` addresses.
    pub(super) fn new(count: usize) -> Choice {
        Choice {
            current: 0,
            cool_until: vec![None; count],
            epoch: 0,
        }
    }

    /// The address to ask now.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The address at `failed` failed. Moves on unless somebody already did: to the next one that
    /// is not cooling down, else to the one that failed longest ago.
    pub(super) fn failed(&mut self, failed: usize, now: Instant, cool_down: Duration) {
        let count = self.cool_until.len();
        if let Some(until) = self.cool_until.get_mut(failed) {
            *until = Some(now + cool_down);
        }
        if failed != self.current || count < 2 {
            return;
        }
        let others = (1..count).map(|step| (failed + step) % count);
        let next = others.min_by_key(|&at| self.cool_until[at].filter(|until| *until > now));
        if let Some(next) = next {
            self.current = next;
            self.epoch += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_consul_s_own_variables_are() {
        for (text, shown) in [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("consul", "http://consul:8500"),
            ("consul:80", "http://consul:80"),
            ("http://consul", "http://consul:80"),
            ("https://consul.example", "https://consul.example:443"),
            ("https://[::1]:8501", "https://[::1]:8501"),
            ("[::1]", "http://[::1]:8500"),
            ("unix:///run/consul.sock", "unix:///run/consul.sock"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        let plain: Address = "consul:8500".parse().unwrap();
        assert_eq!(plain.secured().to_string(), "https://consul:8500");
    }

    #[test]
    fn an_impossible_address_says_why_and_repeats_no_password() {
        for text in [
            "",
            "ftp://consul",
            "unix://relative",
            "http://consul/ui",
            "http://consul?token=x",
            "consul:99999",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let error = "http://user:hunter2@consul".parse::<Address>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    // A19
    #[test]
    fn fail_over_is_sticky_and_does_not_flip_flop() {
        let (now, cool) = (Instant::now(), Duration::from_secs(30));
        let mut choice = Choice::new(3);
        choice.failed(0, now, cool);
        assert_eq!((choice.current(), choice.epoch), (1, 1));
        // A late failure of the old address changes nothing.
        choice.failed(0, now, cool);
        assert_eq!((choice.current(), choice.epoch), (1, 1));
        // The cooling one is passed over.
        choice.failed(1, now, cool);
        assert_eq!(choice.current(), 2);
        // All cool down: the one that failed longest ago.
        let later = now + Duration::from_secs(1);
        choice.failed(2, later, cool);
        assert_eq!(choice.current(), 0);
        let mut alone = Choice::new(1);
        alone.failed(0, now, cool);
        assert_eq!((alone.current(), alone.epoch), (0, 0));
    }
}
