//! Loopback ports for what tests and examples start: the one place that gives them out.
//!
//! They lie below the range from which the system takes a port for whoever asks for any and for
//! outgoing connections, so that neither can get one between this and its use. Each process claims
//! blocks of them and gives none out twice, so that a server that is gone leaves its port empty.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, socket,
};

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
    /// The ports of the last block that sockets had when it was claimed. Only this process takes ports of the block.
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
                self.taken = taken(self.left.clone())?;
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

/// Which of these ports a socket has on any address, for TCP or for UDP.
///
/// Each is bound for a moment, by a thread with file descriptors of its own: a process that another thread starts just
/// then would have the socket, too, until it runs its program.
pub fn taken(ports: Range<u16>) -> Result<BTreeSet<u16>, String> {
    let look = || {
        unshare(CloneFlags::CLONE_FILES)
            .map_err(|error| format!("A thread cannot have files of its own: {error}."))?;
        Ok(ports.filter(|port| !is_free(*port)).collect())
    };
    std::thread::scope(|scope| {
        let looked = scope.spawn(look).join();
        looked.unwrap_or_else(|_| Err("The look for free ports ended early.".to_owned()))
    })
}

/// Whether no socket has the port, by either version of IP.
fn is_free(port: u16) -> bool {
    let four = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    let six = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    [SockType::Stream, SockType::Datagram].iter().all(|kind| {
        is_unused(AddressFamily::Inet, *kind, &four) && is_unused(AddressFamily::Inet6, *kind, &six)
    })
}

/// Whether an address can be bound, or is of a version of IP that this machine does not have.
fn is_unused(family: AddressFamily, kind: SockType, address: &dyn SockaddrLike) -> bool {
    let bound = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
        .and_then(|socket| bind(socket.as_raw_fd(), address));
    bound != Err(Errno::EADDRINUSE)
}
