//! This machine: its addresses, and where Gatewright and a Consul on it listen.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::settings::Settings;
use crate::source::consul::Address;

/// Where the status listener and a Consul on this machine listen.
pub fn listens(settings: &Settings, local: &BTreeSet<IpAddr>) -> BTreeSet<SocketAddr> {
    let consul = settings.consul.addresses.iter();
    let consul = consul.flat_map(|address| match address.parse() {
        Ok(Address::Tcp { host, port, .. }) if host == "localhost" => {
            let both = [
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ];
            both.map(|ip| SocketAddr::new(ip, port)).to_vec()
        }
        Ok(Address::Tcp { host, port, .. }) => {
            let ip = host.parse::<IpAddr>().ok();
            let here = ip.filter(|ip| ip.is_loopback() || local.contains(ip));
            here.map(|ip| SocketAddr::new(ip, port))
                .into_iter()
                .collect()
        }
        Ok(Address::Unix(_)) | Err(_) => Vec::new(),
    });
    let status = settings.status.listen.iter().map(|listen| listen.0);
    consul.chain(status).collect()
}

/// Where systems keep the certificates of the authorities that they trust: Debian, Fedora, Alpine, openSUSE.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The file with the authorities that this machine trusts.
pub fn authorities() -> Option<&'static str> {
    AUTHORITIES
        .into_iter()
        .find(|path| std::path::Path::new(path).is_file())
}

/// The addresses of this machine's interfaces.
pub fn local_addresses() -> BTreeSet<IpAddr> {
    nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let four = address.as_sockaddr_in().map(|four| four.ip().into());
            four.or_else(|| address.as_sockaddr_in6().map(|six| six.ip().into()))
        })
        .collect()
}
