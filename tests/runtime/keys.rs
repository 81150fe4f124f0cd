//! Which server a key gets by consistent hashing: only those move that must, whether the change was told
//! or loaded.

use std::net::{Ipv4Addr, SocketAddr};

use super::gateway::{Gateway, HEAD};
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::keep_alive::KeepAlive;

const KEYS: usize = 1_000;
const SERVERS: u8 = 10;

/// The gateway and the instances behind it: an instance answers with its address.
const TEMPLATE: &str = "
frontend instances
@binds@
    http-request return status 200 content-type text/plain lf-string %[dst]

backend web
    balance @balance@
    hash-type consistent
    {{servers (service \"@service@\") options=\"check inter 1s\"}}
";

#[haproxies]
fn only_keys_that_must_move_do(version: Version) {
    only_keys_that_must_move_do_by("uri", &version);
}

#[haproxies]
fn only_keys_that_must_move_do_by_hash(version: Version) {
    only_keys_that_must_move_do_by("hash path", &version);
}

fn only_keys_that_must_move_do_by(balance: &str, version: &Version) {
    let consul = Consul::start().unwrap();
    let binds: Vec<String> = (1..=SERVERS + 1)
        .map(|n| format!("    bind 127.0.1.{n}:@port@"))
        .collect();
    let template = format!("{HEAD}{TEMPLATE}")
        .replace("@binds@", &binds.join("\n"))
        .replace("@balance@", balance);
    // The servers are the same HAProxy's own listeners.
    let own = "[catalog]\nallow_own_listeners = true\n";
    let mut gateway = Gateway::new(&consul, version, &template, "", own);
    let port = gateway.second.port();
    let at = |n: u8| SocketAddr::from((Ipv4Addr::new(127, 0, 1, n), port));
    for n in 1..=SERVERS {
        gateway.register(&n.to_string(), at(n), 1);
    }
    let addresses: Vec<SocketAddr> = (1..=SERVERS).map(at).collect();
    let mark = gateway.start(&addresses);
    let before = placed(gateway.entrance);

    gateway.deregister("4");
    let without: Vec<SocketAddr> = (1..=SERVERS).filter(|n| *n != 4).map(at).collect();
    gateway.converge(&without);
    let removed = placed(gateway.entrance);
    let mut moved = [0, 0];
    for (key, (old, new)) in before.iter().zip(&removed).enumerate() {
        assert_eq!(
            old != new,
            old == "127.0.1.4",
            "{version}, key {key}: {old} {new}"
        );
        moved[0] += usize::from(old != new);
    }

    gateway.register("11", at(11), 1);
    let with: Vec<SocketAddr> = without.iter().copied().chain([at(11)]).collect();
    gateway.converge(&with);
    let added = placed(gateway.entrance);
    for (key, (old, new)) in removed.iter().zip(&added).enumerate() {
        assert_eq!(
            old != new,
            new == "127.0.1.11",
            "{version}, key {key}: {old} {new}"
        );
        moved[1] += usize::from(old != new);
    }
    // About a tenth each, and surely not none and not a half.
    assert!(
        moved.iter().all(|count| (20..400).contains(count)),
        "{moved:?}"
    );
    gateway.assert_not_reloaded(&mark);

    gateway.write_template(&format!("{template}\nbackend another\n"));
    gateway.wait("the reload", || {
        (gateway.worker()? != mark.worker && gateway.file().contains("backend another"))
            .then_some(())
    });
    gateway.converge(&with);
    assert_eq!(placed(gateway.entrance), added, "{version}");
    println!("{version}: {moved:?} of {KEYS} moved, and none by the reload");
}

/// Which of the instances answers for each key.
fn placed(entrance: SocketAddr) -> Vec<String> {
    let mut client = KeepAlive::new(entrance);
    (0..KEYS)
        .map(|key| client.get("web", &format!("/key-{key}")).unwrap().body)
        .collect()
}
