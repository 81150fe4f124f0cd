//! The helper `sockaddr`: this machine's addresses, by the names of go-sockaddr, which
//! consul-template hands it to.

use std::net::IpAddr;
use std::sync::Arc;

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};

use super::super::recorder::Recorder;
use super::{as_text, failed, refuse_missing};
use crate::catalog::Network;
use crate::catalog::fitness::shorten;

/// Where the interfaces come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// Those that this machine has when it is rendered.
    #[default]
    OfThisMachine,
    /// These.
    Given(Vec<Interface>),
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
    /// Whether packets to everywhere go out of it.
    pub default_route: bool,
}

impl Interfaces {
    /// The addresses now. Where the machine's own cannot be read there are none.
    pub fn list(&self) -> Vec<Interface> {
        match self {
            Interfaces::Given(list) => list.clone(),
            Interfaces::OfThisMachine => of_this_machine(),
        }
    }
}

/// The addresses of interfaces that are up.
fn of_this_machine() -> Vec<Interface> {
    use nix::net::if_::InterfaceFlags;
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default_route = |name: &str| {
        routes.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.next() == Some("00000000")
        })
    };
    nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter(|one| one.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|one| {
            let address = one.address?;
            let four = address.as_sockaddr_in().map(|four| four.ip().into());
            let address = four.or_else(|| address.as_sockaddr_in6().map(|six| six.ip().into()))?;
            Some(Interface {
                default_route: default_route(&one.interface_name),
                name: one.interface_name,
                address,
            })
        })
        .collect()
}

/// Networks of RFC 6890 that routers forward within a site.
const PRIVATE: [&str; 6] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "fc00::/7",
];
/// What no router forwards: this machine, its link, examples, groups and what is reserved.
const NOT_FORWARDED: [&str; 16] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "100::/64",
    "2001:db8::/32",
    "fe80::/10",
    "ff00::/8",
];

fn lies_in(address: IpAddr, networks: &[&str]) -> bool {
    networks
        .iter()
        .filter_map(|network| network.parse::<Network>().ok())
        .any(|network| network.contains(address))
}

/// The addresses that a question of go-sockaddr's language finds, the best first.
fn find(question: &str, all: Vec<Interface>) -> Result<Vec<IpAddr>, String> {
    let (name, rest) = match question.split_once(char::is_whitespace) {
        Some((name, rest)) => (name, rest.trim().trim_matches(['"', '`'])),
        None => (question, ""),
    };
    let private = |one: &Interface| lies_in(one.address, &PRIVATE);
    let mut found: Vec<Interface> = all;
    found.retain(|one| !lies_in(one.address, &NOT_FORWARDED));
    match name {
        "GetPrivateIP" | "GetPrivateIPs" if rest.is_empty() => {
            found.retain(private);
            found.sort_by_key(|one| (!one.default_route, one.address.is_ipv6()));
        }
        "GetPublicIP" | "GetPublicIPs" if rest.is_empty() => {
            found.retain(|one| !private(one));
            found.sort_by_key(|one| (!one.default_route, one.address.is_ipv6()));
        }
        "GetInterfaceIP" | "GetInterfaceIPs" if !rest.is_empty() => {
            let pattern = regex_lite::RegexBuilder::new(rest)
                .size_limit(1 << 16)
                .build()
                .map_err(|error| format!("The name is no regular expression: {error}."))?;
            found.retain(|one| pattern.is_match(&one.name));
            found.sort_by_key(|one| one.address.is_ipv6());
        }
        _ => {
            return Err(format!(
                "`sockaddr` knows GetPrivateIP, GetPrivateIPs, GetPublicIP, GetPublicIPs, and GetInterfaceIP and GetInterfaceIPs with the name of an interface, not \"{}\". Write the address in [parameters] instead.",
                shorten(question)
            ));
        }
    }
    let most = if name.ends_with('s') { usize::MAX } else { 1 };
    Ok(found
        .into_iter()
        .take(most)
        .map(|one| one.address)
        .collect())
}

/// `{{sockaddr QUESTION …}}`.
pub struct SockaddrHelper {
    pub recorder: Arc<Recorder>,
}

impl HelperDef for SockaddrHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let words: Option<Vec<String>> = helper
            .params()
            .iter()
            .map(|param| as_text(param.value()))
            .collect();
        let words = words.ok_or_else(|| failed("`sockaddr` wants texts."))?;
        let all = self.recorder.options().interfaces.list();
        // They may be others next time.
        self.recorder.depends_on_more();
        let found = find(words.join(" ").trim(), all).map_err(failed)?;
        let texts: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        Ok(ScopedJson::Derived(texts.join(" ").into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Interface> {
        [
            ("lo", "127.0.0.1", false),
            ("eth1", "192.168.7.9", false),
            ("eth0", "fd00::2", true),
            ("eth0", "10.1.2.3", true),
            ("eth0", "fe80::1", true),
            ("eth2", "9.9.9.9", false),
            ("eth3", "192.0.2.2", true),
        ]
        .map(|(name, address, default_route)| Interface {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            default_route,
        })
        .into()
    }

    #[test]
    fn the_interface_of_the_default_route_comes_first_and_ipv4_before_ipv6() {
        for (question, expected) in [
            ("GetPrivateIP", "10.1.2.3"),
            ("GetPrivateIPs", "10.1.2.3 fd00::2 192.168.7.9"),
            ("GetPublicIP", "9.9.9.9"),
            ("GetInterfaceIP \"eth1\"", "192.168.7.9"),
            ("GetInterfaceIPs eth0", "10.1.2.3 fd00::2"),
            // As in go-sockaddr: what no router forwards is not found.
            ("GetInterfaceIP lo", ""),
            ("GetInterfaceIP eth3", ""),
        ] {
            let found = find(question, machine()).unwrap();
            let texts: Vec<String> = found.iter().map(IpAddr::to_string).collect();
            assert_eq!(texts.join(" "), expected, "{question}");
        }
        assert!(find("GetAllInterfaces | attr \"address\"", machine()).is_err());
        assert!(find("GetInterfaceIP", machine()).is_err());
    }
}
