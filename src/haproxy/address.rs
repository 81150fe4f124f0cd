//! Where a command socket of HAProxy listens, and a connection to it: a file, a name in Linux's
//! abstract namespace, or a TCP port of this machine.
//!
//! Resolves no name but `localhost`: commands must not go to another machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::config::{Endpoint, Transport, endpoint};

/// The bytes of a name in the abstract namespace: `sun_path` without its leading NUL (unix(7)).
const ABSTRACT_LENGTH: usize = 107;

/// Where a command socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A UNIX socket.
    File(PathBuf),
    /// A name in the abstract namespace.
    Abstract {
        /// The name.
        name: String,
        /// `abns@`: HAProxy fills the name up with NULs, which are part of it. Not so `abnsz@` (3.1).
        padded: bool,
    },
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A port of `localhost`, whose addresses are tried in the system's order.
    Localhost(u16),
}

/// A connection to a command socket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Address {
    /// Where to connect to for a socket that listens there. `None`: an inherited socket, a variable,
    /// the name of a host, UDP, or a path whose folder is not known.
    pub fn of(endpoint: &Endpoint, directory: Option<&Path>) -> Option<Address> {
        Some(match endpoint {
            Endpoint::Unix(path) if path.starts_with('/') => Address::File(path.into()),
            Endpoint::Unix(path) => Address::File(directory?.join(path)),
            Endpoint::Abstract { name, padded } => Address::Abstract {
                name: name.clone(),
                padded: *padded,
            },
            Endpoint::Inet {
                transport: Transport::Tcp,
                address,
                low,
                ..
            } => Address::Tcp(SocketAddr::new(reachable(*address), *low)),
            Endpoint::Host {
                transport: Transport::Tcp,
                name,
                low,
                ..
            } if name == "localhost" => Address::Localhost(*low),
            _ => return None,
        })
    }

    /// Connects, without a limit of its own.
    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Address::File(path) => Box::new(UnixStream::connect(path).await?),
            Address::Abstract { name, padded } => {
                let mut path = format!("\0{name}");
                if *padded {
                    let missing = (ABSTRACT_LENGTH + 1).saturating_sub(path.len());
                    path.push_str(&"\0".repeat(missing));
                }
                Box::new(UnixStream::connect(path).await?)
            }
            Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Address::Localhost(port) => Box::new(TcpStream::connect(("localhost", *port)).await?),
        })
    }
}

/// A socket that listens on every address is reached by loopback.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::File(path)
    }
}

/// As HAProxy's configuration writes it.
impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let path = text.starts_with('/') || !text.contains([':', '@']);
        if path {
            return match text {
                "" => Err("The name of a socket is empty.".to_owned()),
                _ => Ok(Address::File(text.into())),
            };
        }
        // A relative path stays one; the settings make it absolute.
        let found = endpoint(text, Transport::Tcp);
        Address::of(&found, Some(Path::new(""))).ok_or_else(|| {
            format!(
                "`{text}` is not the address of a socket. Write it as HAProxy's `stats socket` line does: a path, `127.0.0.1:9999`, `ipv6@[::1]:9999` or `abns@name`."
            )
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::File(path) => write!(out, "{}", path.display()),
            Address::Abstract { name, padded: true } => write!(out, "abns@{name}"),
            Address::Abstract { name, .. } => write!(out, "abnsz@{name}"),
            Address::Tcp(address) => write!(out, "{address}"),
            Address::Localhost(port) => write!(out, "localhost:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_as_haproxy_reads_them() {
        for (text, shown) in [
            ("/run/h.sock", "/run/h.sock"),
            ("/run/a@b:1.sock", "/run/a@b:1.sock"),
            ("h.sock", "h.sock"),
            ("unix@/run/h.sock", "/run/h.sock"),
            ("ipv4@127.0.0.1:9999", "127.0.0.1:9999"),
            ("127.0.0.1:9999", "127.0.0.1:9999"),
            ("*:9999", "127.0.0.1:9999"),
            (":9999", "127.0.0.1:9999"),
            ("ipv6@:9999", "[::1]:9999"),
            ("ipv6@[::1]:9999", "[::1]:9999"),
            ("tcp4@10.0.0.5:1", "10.0.0.5:1"),
            ("localhost:9999", "localhost:9999"),
            ("abns@haproxy", "abns@haproxy"),
            ("abnsz@haproxy", "abnsz@haproxy"),
        ] {
            let address: Result<Address, String> = text.parse();
            assert_eq!(address.map(|found| found.to_string()), Ok(shown.to_owned()));
        }
        for text in [
            "",
            "udp@:1",
            "fd@3",
            "example.com:9",
            ":0",
            "quic4@:9",
            "abcd@x",
            "127.0.0.1:http",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(/|abns@|ipv6@|\\[|:|\\PC){0,12}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(!address.to_string().is_empty());
            }
        }
    }
}
