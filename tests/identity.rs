//! Servers keep their ids and slots, so that clients stay where they are when instances come and go,
//! whichever HAProxy it is and however often Gatewright starts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatewright::catalog::fixture::Fixture;
use gatewright::catalog::{Known, Query};
use gatewright::template::{Grammar, Options, Outcome, Source, TemplateSet};

use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::{Version, haproxies, oldest};
use support::haproxy::HAProxy;
use support::{http, ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const KEYS: usize = 1_000;

/// A gateway and the instances behind it, all in one HAProxy: an instance answers with its address.
const RING: &str = r#"defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind 127.0.0.1:@port@
    default_backend web

frontend instances
@binds@
    http-request return status 200 content-type text/plain lf-string %[dst]

backend web
    balance uri
    hash-type consistent
@servers@
"#;

/// Which of the instances answers for each key.
fn placed(version: &Version, port: u16, servers: &str) -> Vec<String> {
    let binds: Vec<String> = (1..=10)
        .map(|n| format!("    bind 127.0.1.{n}:{port}"))
        .collect();
    let text = RING
        .replace("@port@", &port.to_string())
        .replace("@binds@", &binds.join("\n"))
        .replace("@servers@", servers);
    let _haproxy = HAProxy::start(version, &text).unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (0..KEYS)
        .map(|key| {
            http::get(entrance, &format!("/key-{key}"))
                .unwrap_or_else(|error| panic!("{version}, key {key}: {error}"))
                .body
        })
        .collect()
}

/// The server lines of these instances, as a template writes them.
fn servers(port: u16, numbers: impl Iterator<Item = u8>) -> Vec<String> {
    let instances: Vec<String> = numbers
        .map(|n| {
            format!(
                r#"{{"Address": "127.0.1.{n}", "Port": {port}, "Node": "node-{n}", "ID": "web"}}"#
            )
        })
        .collect();
    let catalog = format!(r#"{{"services": {{"web": [{}]}}}}"#, instances.join(","));
    let fixture: Fixture = serde_json::from_str(&catalog).unwrap();
    let template = Source {
        name: "ring".to_owned(),
        path: "ring.hbs".into(),
        text: "{{servers (service \"web\")}}".to_owned(),
        grammar: Grammar::Haproxy,
    };
    let (mut set, _) = TemplateSet::load(vec![template], Vec::new(), Options::default()).unwrap();
    let query = Query::service("web");
    let known = Known {
        answer: Arc::new(fixture.answer(&query).unwrap()),
        revision: 1,
    };
    match set.render(&BTreeMap::from([(query, known)])).unwrap() {
        Outcome::Complete(rendering) => rendering.files[0].lines().map(str::to_owned).collect(),
        incomplete => panic!("{incomplete:?}"),
    }
}

#[haproxies]
fn only_clients_of_a_server_that_goes_are_moved(version: Version) {
    let [port] = ports::free().unwrap();
    let all = servers(port, 1..=10);
    let before = placed(&version, port, &all.join("\n"));
    let everyone: BTreeSet<&String> = before.iter().collect();
    assert_eq!(everyone.len(), 10, "{version}: each has a share");
    // Loaded anew without one: its clients move, and nobody else's.
    let gone = "127.0.1.4";
    let without = placed(
        &version,
        port,
        &servers(port, (1..=10).filter(|n| *n != 4)).join("\n"),
    );
    for (key, (old, new)) in before.iter().zip(&without).enumerate() {
        assert_eq!(old != new, old == gone, "{version}, key {key}");
    }
    // Back again, and in another order: everybody is where they were.
    let turned: Vec<String> = all.into_iter().rev().collect();
    assert_eq!(
        placed(&version, port, &turned.join("\n")),
        before,
        "{version}"
    );
}

/// Why ids are settled by their places on the ring, too. HAProxy 3.0 finds another place for the third one.
#[haproxies]
fn of_three_servers_at_one_place_of_the_ring_one_is_never_asked(version: Version) {
    const PLACES: u32 = 1 << 20;
    let [port] = ports::free().unwrap();
    let ids = [5_000, 5_000 + PLACES, 5_000 + 2 * PLACES, 7_000];
    let lines: Vec<String> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| format!("    server s{n} 127.0.1.{}:{port} id {id}", n + 1))
        .collect();
    let asked: BTreeSet<String> = placed(&version, port, &lines.join("\n"))
        .into_iter()
        .collect();
    let mut expected = BTreeSet::from(["127.0.1.1", "127.0.1.3", "127.0.1.4"].map(str::to_owned));
    if version.asks_three_servers_at_one_place_of_the_ring() {
        expected.insert("127.0.1.2".to_owned());
    }
    assert_eq!(asked, expected, "{version}");
}

const SLOTS: &str = r#"# @version@
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind 127.0.0.1:@port@
    default_backend web

backend web
    balance static-rr
    {{slots (service "web") name="web" spare=2 options="check"}}
"#;

/// The sidecar over one template with slots; HAProxy is not told.
struct Stage {
    consul: Consul,
    setup: Setup,
    port: u16,
}

impl Stage {
    fn start() -> Stage {
        let consul = Consul::start().unwrap();
        let setup = Setup::new().unwrap().env("CONSUL_HTTP_ADDR", &consul.url());
        setup
            .settings(&format!(
                "[haproxy]\nmode = \"none\"\nbinary = \"{}\"\n[apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n[status]\nsocket = \"{{dir}}status.sock\"\n\
                 [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n",
                oldest().program().display()
            ))
            .unwrap();
        let [port] = ports::free().unwrap();
        let stage = Stage {
            consul,
            setup,
            port,
        };
        stage.template("one");
        stage
    }

    fn template(&self, version: &str) {
        let text = SLOTS
            .replace("@version@", version)
            .replace("@port@", &self.port.to_string());
        self.setup.file("haproxy.cfg.hbs", &text).unwrap();
    }

    fn register(&self, numbers: &[u8]) {
        for n in numbers {
            let address = SocketAddr::from((Ipv4Addr::new(127, 0, 1, *n), 80));
            self.consul
                .register_instance("web", &format!("web-{n}"), address)
                .unwrap();
        }
    }

    fn deregister(&self, n: u8) {
        self.consul.deregister(&format!("web-{n}")).unwrap();
    }

    fn run(&self) -> Gatewright {
        self.setup.run().unwrap()
    }

    /// Waits until the slots in the file are had by these instances; 0 is a spare one.
    fn slots(&self, version: &str, expected: &[u8]) {
        let mut seen = String::new();
        wait_for(LIMIT, &format!("the slots {expected:?}"), || {
            seen = self.setup.read("haproxy.cfg").ok()?;
            let lines: Vec<&str> = seen
                .lines()
                .filter_map(|line| line.strip_prefix("    server "))
                .collect();
            let wanted: Vec<String> = expected
                .iter()
                .enumerate()
                .map(|(index, n)| match (index + 1, n) {
                    (slot, 0) => format!("web-{slot} 127.0.0.1:1 id {slot} disabled check"),
                    (slot, n) => format!("web-{slot} 127.0.1.{n}:80 id {slot} check"),
                })
                .collect();
            (seen.starts_with(&format!("# {version}\n")) && lines == wanted).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{seen}"));
    }
}

#[test]
fn instances_keep_their_slots_over_new_templates_and_restarts() {
    let stage = Stage::start();
    stage.register(&[1, 2, 3]);
    wait_for(LIMIT, "three instances in Consul", || {
        (stage.consul.passing("web").ok()?.len() == 3).then_some(())
    })
    .unwrap();
    let mut gatewright = stage.run();
    stage.slots("one", &[1, 2, 3, 0, 0]);
    stage.deregister(1);
    stage.slots("one", &[0, 2, 3, 0, 0]);
    stage.template("two");
    stage.slots("two", &[0, 2, 3, 0, 0]);
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);

    let mut gatewright = stage.run();
    stage.register(&[9]);
    stage.slots("two", &[9, 2, 3, 0, 0]);
    stage.register(&[4]);
    stage.slots("two", &[9, 2, 3, 4, 0]);
    let sentence = "4 of 5 slots of web are used";
    gatewright.wait_for_log(LIMIT, &["WARN", sentence]).unwrap();
    let warned = |status: &serde_json::Value| {
        let warnings = status["warnings"].as_array()?;
        Some(
            warnings
                .iter()
                .any(|warning| warning.as_str().is_some_and(|text| text.contains(sentence))),
        )
    };
    stage
        .setup
        .wait_for_status(LIMIT, "the warning", |status| warned(status)?.then_some(()))
        .unwrap();
    stage.register(&[5]);
    stage.slots("two", &[9, 2, 3, 4, 5, 0, 0]);
    stage
        .setup
        .wait_for_status(LIMIT, "no warning", |status| {
            (!warned(status)?).then_some(())
        })
        .unwrap();
    stage.deregister(2);
    stage.slots("two", &[9, 0, 3, 4, 5, 0, 0]);
    // What `render` shows is what the sidecar would write.
    let settings = stage.setup.path("gatewright.toml");
    let output = stage
        .setup
        .call(&["render", "-c", &settings, "--diff"])
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}
