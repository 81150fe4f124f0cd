//! Loopback ports for what tests and examples start: the one place that gives them out.
//!
//! They lie below the range from which the system takes a port for whoever asks for any and for
//! outgoing connections, so that neither can get one between this and its use. Each process claims
//! blocks of them and gives none out twice, so that a server that is gone leaves its port empty.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

/// How many ports a process claims at a time.
const BLOCK: u16 = 64;

/// The lowest port that is given out; well-known servers are below it.
const LOWEST: u16 = 10_000;

/// Where Linux starts to take ports by itself unless it was told otherwise (ip-sysctl, ip_local_port_range).
const USUAL_END: u16 = 32_768;

/// What this process holds.
static HELD: Mutex<Held> = Mutex::new(Held {
    claims: Vec::new(),
    left: 0..0,
    taken: BTreeSet::new(),
});

struct Held {
    /// A socket for each block, whose name no other process can have at the same time.
    claims: Vec<UnixDatagram>,
    /// What of the last block was not given out.
    left: Range<u16>,
    /// The ports of the last block that sockets had when it was claimed. Only this process takes ports of the block, and
    /// to read the system's list costs milliseconds.
    taken: BTreeSet<u16>,
}

/// As many different ports, which no socket has on any address, for TCP and for UDP.
pub fn free<const N: usize>() -> Result<[u16; N], String> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = [0; N];
    for port in &mut ports {
        *port = loop {
            let Some(next) = held.left.next() else {
                held.claim()?;
                continue;
            };
            if !held.taken.contains(&next) {
                break next;
            }
        };
    }
    Ok(ports)
}

impl Held {
    /// Takes a block that no process has, from a place that differs from one process to the next.
    fn claim(&mut self) -> Result<(), String> {
        let blocks = (end() - LOWEST) / BLOCK;
        let first = (std::process::id() % u32::from(blocks)) as u16;
        for step in 0..blocks {
            let start = LOWEST + (first + step) % blocks * BLOCK;
            let name = format!("gatewright-test-ports-{start}");
            let claim = SocketAddr::from_abstract_name(name)
                .and_then(|address| UnixDatagram::bind_addr(&address));
            if let Ok(claim) = claim {
                self.claims.push(claim);
                self.left = start..start + BLOCK;
                self.taken = taken();
                return Ok(());
            }
        }
        Err(format!(
            "All loopback ports from {LOWEST} to {} are claimed by tests that run.",
            end()
        ))
    }
}

/// The first port that the system may take by itself. A machine on which nearly all are its own gives
/// no better than the usual range.
fn end() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    first
        .filter(|first| *first > LOWEST + 32 * BLOCK)
        .unwrap_or(USUAL_END)
}

/// The local ports of all sockets, as the system lists them. To bind a port for a moment would not do: a process that
/// another thread starts just then has the socket, too, until it runs its program.
fn taken() -> BTreeSet<u16> {
    let mut found = BTreeSet::new();
    for kind in ["tcp", "tcp6", "udp", "udp6"] {
        let sockets = std::fs::read_to_string(format!("/proc/net/{kind}")).unwrap_or_default();
        // The second word of a line is the local address.
        let local = sockets
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1)?.rsplit_once(':'));
        found.extend(local.filter_map(|(_, port)| u16::from_str_radix(port, 16).ok()));
    }
    found
}
