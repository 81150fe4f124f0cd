//! What Consul says and does not say: lost quorum, missing and deleted keys, slow datacenters, limits.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::{Catalog as _, LIMIT, all_fail, end, given, with_lines};
use support::cluster::Cluster;
use support::consul::Consul;
use support::fault_proxy::{Fault, FaultProxy};
use support::{consuls, http, measured, wait_for};

// A08 B06
#[consuls]
fn a_lost_quorum_removes_nothing() {
    let mut cluster = Cluster::start().unwrap();
    let proxy = FaultProxy::start(cluster.address(0)).unwrap();
    let mut scene = given(&cluster, &proxy.url()).serve();
    let before = scene.file();
    cluster.kill(1);
    cluster.kill(2);
    all_fail(&scene, "has no cluster leader");
    // The fake of this fault is this answer.
    let answer = cluster.look(0, "/v1/health/service/web?passing=1").unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (500, "No cluster leader")
    );
    assert_eq!(http::header(&answer.head, "x-consul-index"), Some("1"));
    assert_eq!(
        http::header(&answer.head, "x-consul-knownleader"),
        Some("false")
    );
    let stale = cluster
        .look(0, "/v1/health/service/web?passing=1&stale")
        .unwrap();
    assert_eq!(stale.status, 200);
    assert_eq!(
        http::header(&stale.head, "x-consul-knownleader"),
        Some("false")
    );
    scene.until("some seconds without a leader", |status| {
        status["queries"][0]["failing_seconds"]
            .as_f64()
            .is_some_and(|failing| failing > 3.0)
    });
    assert_eq!(scene.file(), before);
    scene.all_serve(&["one", "two"]);
    cluster.restart(1).unwrap();
    cluster.restart(2).unwrap();
    cluster.wait_until_ready().unwrap();
    let back = Instant::now();
    cluster.key("note", "quorum");
    scene.follows("quorum");
    let took = back.elapsed();
    measured::note("e12", "lost quorum: servers removed", 0);
    measured::note(
        "e12",
        "quorum back: followed after",
        format!("{:.2} s", took.as_secs_f64()),
    );
    scene.serves_another(&cluster, "three");
    scene.all_serve(&["one", "two", "three"]);
    end(scene);
}

fn waiting(status: &Value) -> bool {
    status["state"] == "waiting"
        && status["waiting_seconds"].is_number()
        && status["waiting_for"].as_array().is_some_and(|list| {
            list.iter()
                .any(|query| query.as_str().is_some_and(|q| q.contains("cfg/limit")))
        })
}

// B16 B18 B19 B20 B22
#[consuls]
fn missing_and_deleted_keys_and_a_slow_datacenter() {
    let consul = Consul::start().unwrap();
    let proxy = FaultProxy::start(consul.address()).unwrap();
    consul.set_key("cfg/limit", "10").unwrap();
    consul.set_key("other", "there").unwrap();
    let lines = "    # limit: {{key \"cfg/limit\"}}\n    # other: {{keyOrDefault \"other@dc1\" \"none\"}}\n";
    let mut scene = given(&consul, &proxy.url())
        .template(&with_lines(lines))
        .serve();
    assert!(scene.file().contains("# other: there\n"));
    // A key with a default that is deleted is a change like another.
    consul.delete_key("other").unwrap();
    scene.wait("the default", || {
        scene.file().contains("# other: none\n").then_some(())
    });

    // One that must exist keeps its last value, for all to see, and servers go on.
    consul.delete_key("cfg/limit").unwrap();
    scene.until("the missing key in the status", waiting);
    scene.logged(&["A template waits for", "cfg/limit"]);
    let three = scene.backend("three");
    consul.instance("three", three);
    // Writes that have nothing to do with it wake the watch of a missing key.
    proxy.forget();
    let began = Instant::now();
    for count in 0..20 {
        consul.set_key(&format!("noise/{count}"), "x").unwrap();
    }
    scene
        .setup
        .wait_for_status(LIMIT, "three seconds of waiting", |status| {
            (status["waiting_seconds"].as_f64()? > 3.0).then_some(())
        })
        .unwrap();
    let asked = proxy.count("/v1/kv/cfg/limit");
    measured::note(
        "e17",
        "missing key, 20 unrelated writes: requests of its watch",
        format!("{asked} in {:.1} s", began.elapsed().as_secs_f64()),
    );
    assert!(asked <= 40, "{asked}");
    scene.serves("three");
    assert!(scene.file().contains("# limit: 10\n"), "{}", scene.file());
    consul.set_key("cfg/limit", "20").unwrap();
    wait_for(LIMIT, "the limit", || {
        scene.file().contains("# limit: 20\n").then_some(())
    })
    .unwrap();
    measured::note(
        "e18",
        "missing key",
        "shown as waiting_for with its time; servers followed meanwhile, all else when it came",
    );

    // A datacenter that answers no more keeps its last answer and delays nothing else.
    proxy.set_for("dc=dc1", Fault::Swallow);
    wait_for(LIMIT, "a question to the slow datacenter", || {
        (proxy.requests().last()?.at.elapsed() < LIMIT && proxy.count("dc=dc1") > 0).then_some(())
    })
    .unwrap();
    let began = Instant::now();
    consul.key("note", "beside");
    scene.wait("the note beside it", || {
        scene.file().contains("# note: beside\n").then_some(())
    });
    let slow = began.elapsed();
    measured::note(
        "B22",
        "followed beside a silent datacenter after",
        format!("{:.2} s", slow.as_secs_f64()),
    );
    scene.all_serve(&["one", "two", "three"]);
    end(scene);
}

// A10
#[consuls]
fn more_watches_than_consul_takes_connections() {
    let consul = Consul::start_with(&["-hcl=limits { http_max_conns_per_client = 5 }"]).unwrap();
    // Consul counts by address, and what the test asks must not count.
    let proxy = FaultProxy::start_from(Ipv4Addr::new(127, 0, 0, 2), consul.address()).unwrap();
    let keys: Vec<String> = (0..7).map(|key| format!("k{key}")).collect();
    let lines: String = keys
        .iter()
        .map(|key| format!("    # {key}: {{{{key \"{key}\"}}}}\n"))
        .collect();
    for key in &keys {
        consul.set_key(key, "first").unwrap();
    }
    let scene = given(&consul, &proxy.url())
        .template(&with_lines(&lines))
        .serve();
    proxy.forget();
    let began = Instant::now();
    for round in ["second", "third"] {
        for key in &keys {
            consul.set_key(key, round).unwrap();
        }
        scene.wait("all nine are served", || {
            let file = scene.file();
            keys.iter()
                .all(|key| file.contains(&format!("# {key}: {round}\n")))
                .then_some(())
        });
    }
    scene.until("the warning", |status| {
        status["warnings"].as_array().is_some_and(|list| {
            list.iter().any(|line| {
                line.as_str()
                    .is_some_and(|l| l.contains("leave the rest to others"))
            })
        })
    });
    // What the changes themselves ask for comes at once; a rate needs a time.
    let rated = Duration::from_secs(5);
    wait_for(LIMIT, "5 s of requests", || {
        (began.elapsed() >= rated).then_some(())
    })
    .unwrap();
    let rate = proxy.requests().len() as f64 / began.elapsed().as_secs_f64();
    measured::note(
        "e17",
        "9 watches, 5 connections: requests a second",
        format!("{rate:.1}"),
    );
    assert!(rate < 60.0, "{rate}");
    // The proxy counts a connection that Consul has closed until Gatewright's side of it ends, too.
    wait_for(LIMIT, "six connections at most", || {
        (proxy.open() <= 6).then_some(())
    })
    .unwrap();
    scene.all_serve(&["one", "two"]);
    end(scene);
}
