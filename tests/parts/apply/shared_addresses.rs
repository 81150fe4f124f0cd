//! The gate refuses two sections on one address exactly where the kernel gives each of them some of the connections.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use gatewright::apply::gate::{Rules, judge};
use gatewright::apply::set::{Candidate, Role, SetFile};
use support::haproxies::{Version, haproxies};
use support::haproxy::HAProxy;
use support::{http, ports};

/// By chance all of so many connections go to one of two sections once in 2^63 runs.
const CONNECTIONS: usize = 64;

// F05
#[haproxies]
fn sections_are_refused_where_the_kernel_splits_connections(version: Version) {
    let six = Path::new("/proc/net/if_inet6").exists();
    for (first, second, splits) in [
        ("127.0.0.1:@0", "127.0.0.1:@0", true),
        (":@0", "0.0.0.0:@0", true),
        ("*:@0", "ipv4@:@0", true),
        ("127.0.0.1:@0-@1", "127.0.0.1:@0", true),
        ("127.0.0.1:@0,127.0.0.1:@1", "127.0.0.1:@0", true),
        ("127.0.0.1:@0 thread 1", "127.0.0.1:@0 thread 2", true),
        (":@0 interface lo", ":@0 interface lo", true),
        (":@0", "127.0.0.1:@0", false),
        (":@0 interface lo", ":@0", false),
        ("127.0.0.1:@0", "127.0.0.1:@1", false),
        ("127.0.0.1:@0", "127.0.0.2:@0", false),
        ("[::]:@0 v4v6", "127.0.0.1:@0", false),
        ("[::]:@0 v4v6", ":@0", false),
    ] {
        if first.contains("::") && !six {
            continue;
        }
        let [low, high] = neighbours();
        let fill = |bind: &str| {
            bind.replace("@0", &low.to_string())
                .replace("@1", &high.to_string())
        };
        let section = |name: &str, bind: &str| {
            format!(
                "frontend {name}\n    bind {}\n    http-request return status 200 content-type text/plain string {name}\n",
                fill(bind)
            )
        };
        let text = format!(
            "global\n    nbthread 2\ndefaults\n    mode http\n    timeout client 10s\n{}{}",
            section("a", first),
            section("b", second)
        );
        let file = SetFile {
            destination: "/h.cfg".into(),
            role: Role::Config,
            mode: None,
            text: text.clone(),
        };
        let found = judge(&Candidate::new(vec![file]), None, &Rules::default());
        let refused = found.iter().any(|one| one.code == "address-shared");
        assert_eq!(refused, splits, "{first} and {second}: {found:?}");
        let _haproxy = HAProxy::start(&version, &text).unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, low));
        let answers: BTreeSet<String> = (0..CONNECTIONS)
            .map(|_| http::get(entrance, "/").unwrap().body)
            .collect();
        assert_eq!(
            answers.len(),
            if splits { 2 } else { 1 },
            "{first} and {second}: {answers:?}"
        );
    }
}

/// Two free ports, one right after the other.
fn neighbours() -> [u16; 2] {
    loop {
        let pair = ports::free().unwrap();
        if pair[1] == pair[0] + 1 {
            return pair;
        }
    }
}
