//! Addresses of instances, and networks as settings name them to say which addresses those may have. Pure.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address, or all that share its first bits: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    /// How many leading bits count.
    bits: u8,
}

impl Network {
    /// Whether an address lies in it, or leads there: an IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is IPv4, and
    /// one behind NAT64 (`64:ff9b::10.0.0.1`, RFC 6052) is that one, too.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let translated = match address {
            IpAddr::V6(six) => behind_nat64(six),
            IpAddr::V4(_) => None,
        };
        self.has(address) || translated.is_some_and(|four| self.has(four.into()))
    }

    fn has(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }

    /// What lies in both: the narrower one, or nothing.
    pub fn overlap(self, other: Network) -> Option<Network> {
        let (narrow, wide) = match self.bits >= other.bits {
            true => (self, other),
            false => (other, self),
        };
        wide.contains(narrow.address).then_some(narrow)
    }
}

fn behind_nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, _, _] = address.segments() else {
        return None;
    };
    let [.., a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

/// An address in the one spelling by which it is compared: IPv6 has several, and IPv4 may be written as IPv6. Any other
/// text stays as it is.
pub fn one_spelling(address: &str) -> Cow<'_, str> {
    // Nothing else has a second spelling, and lists are long.
    match address
        .contains(':')
        .then(|| address.parse::<IpAddr>().ok())
    {
        Some(Some(ip)) => Cow::Owned(ip.to_canonical().to_string()),
        _ => Cow::Borrowed(address),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || {
            format!(
                "`{text}` is no network. Write an address, or one with its leading bits: `10.0.0.0/8`, `fd00::/8`."
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Network { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_have_the_narrower_one_in_common_or_nothing() {
        let overlap = |one: &str, two: &str| {
            let one: Network = one.parse().unwrap();
            one.overlap(two.parse().unwrap())
                .map(|found| found.to_string())
        };
        for (one, two, both) in [
            ("10.0.0.0/8", "10.1.0.0/16", Some("10.1.0.0/16")),
            ("10.1.0.0/16", "10.0.0.0/8", Some("10.1.0.0/16")),
            ("0.0.0.0/0", "192.0.2.7", Some("192.0.2.7/32")),
            ("fd00::/8", "fd00::/8", Some("fd00::/8")),
            ("10.0.0.0/8", "11.0.0.0/16", None),
            ("::/0", "10.0.0.0/8", None),
            ("0.0.0.0/0", "fd00::1", None),
        ] {
            assert_eq!(overlap(one, two).as_deref(), both, "{one} {two}");
        }
    }

    #[test]
    fn a_network_holds_what_shares_its_leading_bits() {
        let holds = |network: &str, address: &str| {
            let network: Network = network.parse().unwrap();
            network.contains(address.parse().unwrap())
        };
        for (network, address) in [
            ("10.0.0.0/8", "10.255.0.1"),
            ("10.9.9.9/8", "10.0.0.1"),
            ("0.0.0.0/0", "203.0.113.9"),
            ("::/0", "2001:db8::1"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "::ffff:192.0.2.7"),
            ("fd00::/8", "fdff::1"),
        ] {
            assert!(holds(network, address), "{network} {address}");
        }
        for (network, address) in [
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "fd00::1"),
            ("::/0", "10.0.0.1"),
            ("192.0.2.7", "192.0.2.6"),
            ("fd00::/8", "fe00::1"),
        ] {
            assert!(!holds(network, address), "{network} {address}");
        }
        for text in [
            "",
            "/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_compared_in_one_spelling() {
        for (written, one) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:DB8:0:0::0001", "2001:db8::1"),
            ("gateway.example", "gateway.example"),
            ("not:an:address", "not:an:address"),
            ("", ""),
        ] {
            assert_eq!(one_spelling(written), one);
        }
    }
}
