//! What a server can be given at run time, by version: a table of what `add server` of the real
//! 2.6.12, 2.8.25, 3.0.11 and 3.2.26 takes.
//!
//! Knows keywords only; whether their values are good is for HAProxy to say.

use super::version::Version;

/// Whether something can be done at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dynamic {
    /// It can.
    Yes,
    /// It cannot, and why, in words that can follow "because".
    No(&'static str),
}

/// The first version whose `add server` can be used without experimental mode and with checks.
const FIRST: Version = Version::new(2, 6, 0);

/// The server keywords that `add server` has taken since 2.6, sorted.
const SINCE_2_6: &[&str] = &[
    "addr",
    "agent-addr",
    "agent-check",
    "agent-inter",
    "agent-port",
    "agent-send",
    "allow-0rtt",
    "alpn",
    "backup",
    "ca-file",
    "check",
    "check-alpn",
    "check-proto",
    "check-send-proxy",
    "check-sni",
    "check-ssl",
    "check-via-socks4",
    "ciphers",
    "ciphersuites",
    "crl-file",
    "crt",
    "disabled",
    "downinter",
    "error-limit",
    "fall",
    "fastinter",
    "force-sslv3",
    "force-tlsv10",
    "force-tlsv11",
    "force-tlsv12",
    "force-tlsv13",
    "id",
    "inter",
    // Only as a part of `source`, as on any server line.
    "interface",
    "maxconn",
    "maxqueue",
    "minconn",
    "no-backup",
    "no-send-proxy",
    "no-send-proxy-v2",
    "no-ssl-reuse",
    "no-sslv3",
    "no-tfo",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "npn",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "port",
    "proto",
    "proxy-v2-options",
    "rise",
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2-ssl",
    "send-proxy-v2-ssl-cn",
    "slowstart",
    "sni",
    "source",
    "ssl",
    "ssl-max-ver",
    "ssl-min-ver",
    "tfo",
    "tls-tickets",
    "track",
    // Only as a part of `source`.
    "usesrc",
    "verify",
    "verifyhost",
    "weight",
    "ws",
];

/// What came later, with the first version that is known to take it: 2.7, 2.9, most of 3.1 and 3.3 were
/// not tried, so nothing is promised for them that their predecessor did not take. `init-state` was
/// tried on 3.1.0.
const SINCE: &[(&str, Version)] = &[
    ("cookie", Version::new(2, 8, 0)),
    ("shard", Version::new(2, 8, 0)),
    ("client-sigalgs", Version::new(3, 0, 0)),
    ("curves", Version::new(3, 0, 0)),
    ("guid", Version::new(3, 0, 0)),
    ("hash-key", Version::new(3, 0, 0)),
    ("pool-conn-name", Version::new(3, 0, 0)),
    ("set-proxy-v2-tlv-fmt", Version::new(3, 0, 0)),
    ("sigalgs", Version::new(3, 0, 0)),
    ("init-state", INIT_STATE),
    ("check-pool-conn-name", Version::new(3, 2, 0)),
    ("check-reuse-pool", Version::new(3, 2, 0)),
    ("idle-ping", Version::new(3, 2, 0)),
    ("strict-maxconn", Version::new(3, 2, 0)),
    ("no-check-sni-auto", Version::new(3, 4, 0)),
    ("no-renegotiate", Version::new(3, 4, 0)),
    ("no-sni-auto", Version::new(3, 4, 0)),
    ("renegotiate", Version::new(3, 4, 0)),
];

const INIT_STATE: Version = Version::new(3, 1, 0);

/// Whether `add server` takes a keyword of a server line. A keyword with an argument of its own, such
/// as `set-proxy-v2-tlv-fmt(0x20)`, may be given whole. `ca-file`, `crl-file` and `crt` are taken
/// only with files that the configuration has loaded; see [`names_loaded_file`].
pub fn keyword(version: Version, keyword: &str) -> Dynamic {
    if version < FIRST {
        return TOO_OLD;
    }
    let name = keyword.split('(').next().unwrap_or_default();
    if SINCE_2_6.binary_search(&name).is_ok() {
        return Dynamic::Yes;
    }
    match SINCE.iter().find(|(known, _)| *known == name) {
        Some((_, since)) if version >= *since => Dynamic::Yes,
        Some(_) => Dynamic::No("this version of HAProxy does not take it on an added server"),
        None if name == "enabled" => {
            Dynamic::No("an added server is enabled by a command, not by `enabled`")
        }
        None => Dynamic::No("HAProxy does not take it on an added server"),
    }
}

const TOO_OLD: Dynamic = Dynamic::No("HAProxy before 2.6 adds servers in experimental mode only");

/// Whether the keyword's value is a file that must have been loaded by the configuration before an
/// added server can use it: HAProxy opens no file at run time (2.6 to 3.2).
pub fn names_loaded_file(keyword: &str) -> bool {
    matches!(keyword, "ca-file" | "crl-file" | "crt")
}

/// Whether a backend with this `balance` (its words, the algorithm first; empty when there is no
/// such line) and this `hash-type` can be given servers, and weights, at run time.
pub fn algorithm(balance: &[String], hash_type: Option<&[String]>) -> Dynamic {
    let name = balance.first().map_or("roundrobin", String::as_str);
    let consistent = hash_type
        .and_then(<[String]>::first)
        .is_some_and(|kind| kind == "consistent");
    match name.split('(').next().unwrap_or_default() {
        "roundrobin" | "leastconn" | "first" | "random" => Dynamic::Yes,
        "hash" | "hdr" | "rdp-cookie" | "source" | "uri" | "url_param" => match consistent {
            true => Dynamic::Yes,
            false => Dynamic::No("the backend's hash is map-based; `hash-type consistent` is not"),
        },
        "static-rr" => Dynamic::No(
            "`balance static-rr` is laid out once, when it is loaded; `roundrobin` is not",
        ),
        _ => {
            Dynamic::No("it is not known whether the backend's algorithm takes servers at run time")
        }
    }
}

/// Whether `wait … srv-removable` is there (3.0).
pub fn waits_removable(version: Version) -> bool {
    version >= Version::new(3, 0, 0)
}

/// Whether a server line takes `init-state` (3.1).
pub fn init_state(version: Version) -> bool {
    version >= INIT_STATE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    // H14
    #[test]
    fn tables_are_sorted_and_name_nothing_twice() {
        assert!(SINCE_2_6.is_sorted());
        assert!(SINCE.is_sorted_by_key(|(_, since)| since));
        for (name, _) in SINCE {
            assert!(SINCE_2_6.binary_search(name).is_err(), "{name}");
        }
    }

    // H14
    #[test]
    fn a_version_between_two_known_ones_promises_what_the_older_one_does() {
        let yes = |major, minor, name| keyword(Version::new(major, minor, 3), name) == Dynamic::Yes;
        assert!(!yes(2, 5, "weight") && yes(2, 6, "weight") && yes(4, 0, "weight"));
        assert!(!yes(2, 7, "cookie") && yes(2, 8, "cookie"));
        assert!(!yes(3, 0, "init-state") && yes(3, 1, "init-state"));
        assert!(!yes(3, 1, "idle-ping") && yes(3, 2, "idle-ping") && yes(3, 4, "idle-ping"));
        assert!(yes(3, 0, "set-proxy-v2-tlv-fmt(0x20)"));
        for name in ["enabled", "resolvers", "no-check", "", "(", "chek"] {
            assert!(!yes(3, 2, name), "{name}");
        }
    }

    #[test]
    fn algorithms_that_can_grow() {
        let consistent = words("consistent sdbm avalanche");
        for text in ["roundrobin", "leastconn", "first", "random", "random(4)"] {
            assert_eq!(algorithm(&words(text), None), Dynamic::Yes, "{text}");
        }
        assert_eq!(algorithm(&[], None), Dynamic::Yes);
        for text in [
            "source",
            "uri whole",
            "url_param id",
            "hdr(x)",
            "rdp-cookie(c)",
            "hash req.fhdr(x)",
        ] {
            assert!(
                matches!(algorithm(&words(text), None), Dynamic::No(_)),
                "{text}"
            );
            assert_eq!(
                algorithm(&words(text), Some(&consistent)),
                Dynamic::Yes,
                "{text}"
            );
            let map = words("map-based");
            assert!(matches!(
                algorithm(&words(text), Some(&map)),
                Dynamic::No(_)
            ));
        }
        for text in ["static-rr", "sticky", ""] {
            let answer = algorithm(&words(text), Some(&consistent));
            assert!(matches!(answer, Dynamic::No(_)), "{text}");
        }
    }
}
