//! Temporary directories and free ports.

use std::net::{Ipv4Addr, TcpListener};

use tempfile::TempDir;

use super::Outcome;

/// A directory that is removed when dropped. Its path is short: a Unix socket's holds 107 bytes.
pub fn directory() -> Outcome<TempDir> {
    tempfile::Builder::new()
        .prefix("gw-")
        .tempdir()
        .map_err(|error| format!("A temporary directory cannot be made: {error}."))
}

/// As many different free loopback ports. Somebody else may take one before it is used, so whoever
/// starts a program on them looks whether it came up.
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|error| format!("No loopback port can be had: {error}."))?;
        *port = listener
            .local_addr()
            .map_err(|error| format!("A listener has no address: {error}."))?
            .port();
        held.push(listener);
    }
    Ok(ports)
}
