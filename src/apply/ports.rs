//! Whether the addresses that a new set listens on, and the last good one did not, are free.
//!
//! `haproxy -c` binds nothing, so it accepts an address that another program holds. The reload then
//! fails after pausing every listener of the serving worker for 2 s (2.6 to 3.2, `MAX_START_RETRIES`
//! in haproxy.c); and one held by another HAProxy of the same user is shared silently.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::set::{Role, SetFile};
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::config::{Bind, Config, Endpoint};

/// More new addresses than this are not tried (a range of ports can be long).
const PROBES_MAX: usize = 256;

/// An error for each new address that is taken. Addresses that cannot be tried (another
/// transport, no such address here, a port that only root may take) are left to HAProxy.
pub fn busy(new: &[SetFile], last_good: &[SetFile]) -> Vec<Finding> {
    taken(new, last_good)
        .map(|listener| Finding {
            severity: Severity::Error,
            code: "address-in-use",
            message: format!(
                "Another program listens on {} already; a reload would pause all listeners for 2 s and fail.",
                listener.address
            ),
            file: Some(listener.file),
            line: listener.line,
            column: 0,
            help: Some("Stop the other program or choose another address.".into()),
        })
        .collect()
}

/// The listeners of a set that the last good one does not have and whose address is taken.
pub(super) fn taken(new: &[SetFile], last_good: &[SetFile]) -> impl Iterator<Item = Listener> {
    let old = listeners(last_good);
    listeners(new)
        .into_iter()
        .filter(move |listener| {
            !old.iter()
                .any(|held| overlap(held.address, listener.address))
        })
        .take(PROBES_MAX)
        .filter(|listener| is_taken(listener.address))
}

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    file: PathBuf,
    line: usize,
}

/// The TCP addresses that are certain to be bound.
fn listeners(files: &[SetFile]) -> Vec<Listener> {
    let config = Config::parse_files(
        files
            .iter()
            .filter(|file| file.role == Role::Config)
            .map(|file| (file.destination.as_path(), file.text.as_str())),
    );
    config
        .binds()
        .into_iter()
        .filter(|bind| !bind.conditional)
        .flat_map(|bind| {
            let file = config.files.get(bind.file).cloned().unwrap_or_default();
            addresses(&bind)
                .map(move |address| Listener {
                    address,
                    file: file.clone(),
                    line: bind.line,
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn addresses(bind: &Bind) -> impl Iterator<Item = SocketAddr> + '_ {
    // In another network namespace the answer here means nothing.
    let elsewhere = bind.options.iter().any(|option| option == "namespace");
    bind.endpoints
        .iter()
        .filter(move |_| !elsewhere)
        .filter_map(Endpoint::tcp)
        .flat_map(|(address, low, high)| {
            (low..=high)
                .take(PROBES_MAX)
                .filter(|port| *port != 0)
                .map(move |port| SocketAddr::new(address, port))
        })
}

/// HAProxy's own listener would answer "taken" for an address that includes it.
fn overlap(held: SocketAddr, new: SocketAddr) -> bool {
    held.port() == new.port()
        && (held.ip() == new.ip() || held.ip().is_unspecified() || new.ip().is_unspecified())
}

/// Binds without SO_REUSEPORT, as no second HAProxy could be noticed otherwise, and without
/// listening. SO_REUSEADDR, as HAProxy does, so that connections that are just closing do not count.
fn is_taken(address: SocketAddr) -> bool {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let try_it = || -> Result<(), Errno> {
        let handle = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&handle, true)?;
        if address.is_ipv6() {
            // As HAProxy without `v4v6`; a listener on the same IPv4 port does not count then.
            sockopt::set_ipv6_v6only(&handle, true)?;
        }
        bind(&handle, &address)
    };
    try_it() == Err(Errno::ADDRINUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(binds: &[String]) -> Vec<SetFile> {
        let lines: String = binds
            .iter()
            .map(|bind| format!("    bind {bind}\n"))
            .collect();
        vec![SetFile {
            destination: "/h.cfg".into(),
            role: Role::Config,
            mode: None,
            text: format!("frontend f\n{lines}"),
        }]
    }

    // F05
    #[test]
    fn only_a_new_address_that_is_taken_is_an_error() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let taken = set(&["127.0.0.2:0".into(), format!("127.0.0.1:{port}")]);
        let findings = busy(&taken, &[]);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].code, findings[0].line), ("address-in-use", 3));
        assert!(busy(&taken, &taken).is_empty(), "ours already");
        let wider = set(&[format!("*:{port}")]);
        assert!(busy(&wider, &taken).is_empty(), "includes ours");
        assert_eq!(busy(&wider, &[]).len(), 1);
        drop(other);
        assert!(busy(&taken, &[]).is_empty());
    }
}
