//! What a server can be given at run time, by version.

use super::version::Version;

/// Whether something can be done at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dynamic {
    /// It can.
    Yes,
    /// It cannot, and why, in words that can follow "because".
    No(&'static str),
}

/// Whether `add server` takes a keyword of a server line.
pub fn keyword(version: Version, keyword: &str) -> Dynamic {
    let _ = (version, keyword);
    Dynamic::No("not yet known")
}

/// Whether a backend with this `balance` (its words, the algorithm first; empty when there is no
/// such line) and this `hash-type` can be given servers at run time.
pub fn algorithm(balance: &[String], hash_type: Option<&[String]>) -> Dynamic {
    let consistent = hash_type
        .and_then(|words| words.first())
        .map(String::as_str);
    let name = balance.first().map_or("roundrobin", String::as_str);
    match name.split('(').next().unwrap_or_default() {
        "roundrobin" | "leastconn" | "first" | "random" => Dynamic::Yes,
        "static-rr" => {
            Dynamic::No("the backend's `balance static-rr` is laid out when it is loaded")
        }
        "source" | "uri" | "url_param" | "hdr" | "rdp-cookie" | "hash" => match consistent {
            Some("consistent") => Dynamic::Yes,
            _ => Dynamic::No("the backend's hash is map-based; `hash-type consistent` is not"),
        },
        _ => Dynamic::No("the backend's balance algorithm is not known"),
    }
}

/// Whether `wait … srv-removable` is there (3.0).
pub fn waits_removable(version: Version) -> bool {
    version >= Version::new(3, 0, 0)
}

/// Whether a server line takes `init-state` (3.1).
pub fn init_state(version: Version) -> bool {
    version >= Version::new(3, 1, 0)
}
