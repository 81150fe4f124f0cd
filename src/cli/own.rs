//! This machine: its addresses, and where Gatewright and what it reads on it listen.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::settings::Settings;
use crate::source::consul::Address;

/// Where the status listener, and a Consul and Serf's agents on this machine, listen.
pub fn listens(settings: &Settings, local: &BTreeSet<IpAddr>) -> BTreeSet<SocketAddr> {
    let consul = settings.consul.addresses.iter();
    let consul = consul.filter_map(|address| match address.parse() {
        Ok(Address::Tcp { host, port, .. }) => Some((host, port)),
        Ok(Address::Unix(_)) | Err(_) => None,
    });
    let serf = settings.serf.addresses.iter().filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host.to_owned(), port.parse().ok()?))
    });
    let read = consul.chain(serf).flat_map(|(host, port)| {
        let here: Vec<IpAddr> = match host.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() || ip.is_unspecified() || local.contains(&ip) => vec![ip],
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            _ => Vec::new(),
        };
        here.into_iter().map(move |ip| SocketAddr::new(ip, port))
    });
    let status = settings.status.listen.iter().map(|listen| listen.0);
    read.chain(status).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_serf_on_this_machine_listen_here() {
        let mut settings = Settings::default();
        settings.consul.addresses.clear();
        settings.serf.addresses = [
            "127.0.0.1:7373",
            "LocalHost:7374",
            "[::1]:7375",
            "0.0.0.0:7376",
            "10.1.2.3:7377",
            "10.9.9.9:7378",
            "serf.example.org:7379",
        ]
        .map(str::to_owned)
        .into();
        let local = BTreeSet::from(["10.1.2.3".parse().unwrap()]);
        let listens = listens(&settings, &local);
        let listens: Vec<String> = listens.iter().map(SocketAddr::to_string).collect();
        let expected = [
            "0.0.0.0:7376",
            "10.1.2.3:7377",
            "127.0.0.1:7373",
            "127.0.0.1:7374",
            "[::1]:7374",
            "[::1]:7375",
        ];
        assert_eq!(listens, expected);
    }
}
