//! Servers never wait for structure: whatever keeps the newest set from being applied, a deploy that replaces every
//! instance reaches HAProxy, and no request fails.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;

use support::consul::{Consul, instance};
use support::haproxies::{Version, haproxies};
use support::ports;
use support::scene::{Given, Scene, TEMPLATE};
use support::traffic::send;

const LIMIT: Duration = Duration::from_secs(60);

/// [`TEMPLATE`] with two keys in it, of which one has to exist.
fn keys() -> String {
    let lines = "\nbackend web\n    balance {{keyOrDefault \"balance\" \"roundrobin\"}}\n    # needed: {{key \"needed\"}}\n";
    TEMPLATE.replace("\nbackend web\n", lines)
}

fn scene(consul: &Consul, version: &Version) -> Scene {
    consul.set_key("needed", "here").unwrap();
    Given::consul(&consul.url())
        .binary(version.program())
        .template(&keys())
        .limit(LIMIT)
        .instances(consul, &["one", "two", "three", "four"])
        .serve()
}

fn ids(round: &str) -> [String; 4] {
    ["one", "two", "three", "four"].map(|id| match round {
        "" => id.to_owned(),
        round => format!("{id}-{round}"),
    })
}

/// Kills Gatewright once the answers are on disk from which it goes on. HAProxy serves on.
fn kill(scene: &mut Scene) {
    scene.until("the snapshot", |status| {
        let saved = status["snapshot"]["saved_seconds_ago"].as_f64();
        let applied = status["applied"]["seconds_ago"].as_f64();
        saved.is_some_and(|saved| applied.is_some_and(|applied| saved < applied))
    });
    scene.gatewright.process().kill();
}

/// Every instance is replaced by one of the new round, one after the other. None of the former ones serves then.
fn deploy(scene: &mut Scene, consul: &Consul, from: &str, to: &str) {
    let (former, new) = (ids(from), ids(to));
    for (former, new) in former.iter().zip(&new) {
        let address = scene.backend(new);
        consul.register_instance("web", new, address).unwrap();
        scene.serves(new);
        consul.deregister(former).unwrap();
        scene.wait(&format!("the end of {former}"), || {
            let answers = send(scene.entrance, 16).answers;
            (!answers.contains_key(former)).then_some(())
        });
    }
    let new = BTreeSet::from(new);
    scene.wait("the new instances alone", || {
        let all = send(scene.entrance, 32).answers.into_keys();
        (all.collect::<BTreeSet<String>>() == new).then_some(())
    });
}

/// Two deploys while the newest set cannot be applied.
fn deploys(scene: &mut Scene, consul: &Consul, because: &str) {
    for (from, to) in [("", "2"), ("2", "3")] {
        deploy(scene, consul, from, to);
        let status = scene.until("the kept structure", |status| {
            !status["structure_kept"].is_null() && status["applied"]["confirmed"] == true
        });
        let kept = &status["structure_kept"];
        assert_eq!(kept["because"], because, "{status}");
        assert_eq!(kept["servers_current"], true, "{status}");
    }
}

/// What was wrong is mended: the newest set is applied, with the servers of now.
fn mended(scene: Scene, text: &str) {
    scene.confirmed("the newest set", |status| {
        status["structure_kept"].is_null() && scene.file().contains(text)
    });
    assert!(scene.file().contains("three-3"), "{}", scene.file());
    scene.end();
}

/// Two deploys while the key is missing, which exists again then.
fn deploys_without_the_key(mut scene: Scene, consul: &Consul) {
    let because = "the newest set waits for an answer or a key";
    deploys(&mut scene, consul, because);
    consul.set_key("needed", "again").unwrap();
    mended(scene, "# needed: again");
}

fn is_refused(status: &Value) -> bool {
    status["state"] == "held" && !status["held"].is_null()
}

#[haproxies(ends)]
fn a_key_that_makes_the_set_refused_does_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, &version);
    consul.set_key("balance", "wrong-word").unwrap();
    scene.until("the refusal", is_refused);
    deploys(&mut scene, &consul, "the newest set is refused");
    scene.logged(&["Gatewright keeps the last good structure, because the newest set is refused"]);
    consul.set_key("balance", "leastconn").unwrap();
    mended(scene, "balance leastconn");
}

#[haproxies(ends)]
fn a_key_that_is_deleted_does_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let scene = scene(&consul, &version);
    consul.delete_key("needed").unwrap();
    scene.until("the waiting", |status| status["state"] == "waiting");
    deploys_without_the_key(scene, &consul);
}

#[haproxies(ends)]
fn a_listener_that_cannot_be_had_does_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, &version);
    let [port] = ports::free().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let taken = TcpListener::bind(address).unwrap();
    let bind = format!("    bind @bind@\n    bind {address}\n");
    scene.template(&keys().replace("    bind @bind@\n", &bind));
    scene.until("the refusal", is_refused);
    deploys(&mut scene, &consul, "the newest set is refused");
    drop(taken);
    // A set that was refused is tried again after a while, or with the next change.
    consul.set_key("balance", "leastconn").unwrap();
    mended(scene, &format!("bind {address}"));
}

#[haproxies(ends)]
fn templates_that_fail_do_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, &version);
    // They compile, and fail with any data.
    scene.template(&keys().replace("{{serverAddress this}}", "{{ServiceMeta.absent}}"));
    scene.until("the error", |status| {
        status["template_errors"][0].is_string() || is_refused(status)
    });
    deploys(&mut scene, &consul, "the newest set cannot be rendered");
    scene.template(&keys().replace("    # needed", "    # mended: yes\n    # needed"));
    mended(scene, "# mended: yes");
}

#[haproxies(ends)]
fn old_workers_that_hold_back_a_reload_do_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    consul.set_key("needed", "here").unwrap();
    let mut scene = Given::consul(&consul.url())
        .binary(version.program())
        .set("haproxy", "max_old_workers = 1")
        .template(&keys().replace("timeout client 10s", "timeout client 10m"))
        .limit(LIMIT)
        .instances(&consul, &["one", "two", "three", "four"])
        .serve();
    // A client that is silent keeps the worker of its time.
    let silent = std::net::TcpStream::connect(scene.entrance).unwrap();
    consul.set_key("balance", "leastconn").unwrap();
    scene.confirmed("a reload", |status| {
        scene.file().contains("balance leastconn") && status["haproxy"]["old_workers"] == 1
    });
    consul.set_key("balance", "random").unwrap();
    deploys(&mut scene, &consul, "the newest set waits for a reload");
    drop(silent);
    mended(scene, "balance random");
}

#[haproxies(ends)]
fn a_restart_in_the_middle_does_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, &version);
    consul.set_key("balance", "wrong-word").unwrap();
    scene.until("the refusal", is_refused);
    deploy(&mut scene, &consul, "", "2");
    // The templates are broken besides when it comes back.
    kill(&mut scene);
    scene.template("{{#each");
    scene.gatewright = scene.setup.run().unwrap();
    deploy(&mut scene, &consul, "2", "3");
    let status = scene.until("the kept structure", |status| {
        !status["structure_kept"].is_null()
    });
    assert_eq!(
        status["structure_kept"]["because"],
        "the templates on disk cannot be read"
    );
    consul.set_key("balance", "leastconn").unwrap();
    scene.template(&keys());
    mended(scene, "balance leastconn");
}

#[haproxies(ends)]
fn a_restart_while_a_key_is_missing_does_not_stop_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, &version);
    kill(&mut scene);
    consul.delete_key("needed").unwrap();
    scene.gatewright = scene.setup.run().unwrap();
    deploys_without_the_key(scene, &consul);
}

#[haproxies(ends)]
fn without_the_former_templates_it_says_that_servers_are_stale(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, &version);
    kill(&mut scene);
    std::fs::remove_file(scene.setup.path("state/snapshot.json")).unwrap();
    scene.template("{{#each");
    scene.gatewright = scene.setup.run().unwrap();
    let status = scene.until("the stale servers", |status| {
        status["structure_kept"]["servers_current"] == false
    });
    let why = status["structure_kept"]["not_current"].as_str().unwrap();
    assert!(
        why.contains("the templates of the last good set are not known"),
        "{why}"
    );
}

#[haproxies(ends)]
fn one_service_with_bad_data_does_not_stop_the_servers_of_another(version: Version) {
    let consul = Consul::start().unwrap();
    let template = keys()
        + "\nbackend other\n{{#each (service \"other\")}}\n    server {{serverName this}} {{serverAddress this}} {{default ServiceMeta.option \"\"}}\n{{/each}}\n";
    consul.set_key("needed", "here").unwrap();
    let mut scene = Given::consul(&consul.url())
        .binary(version.program())
        .template(&template)
        .limit(LIMIT)
        .instances(&consul, &["one", "two", "three", "four"])
        .serve();
    let address = scene.backend("bad");
    let mut bad = instance("other", "bad", address);
    bad["Meta"] = serde_json::json!({ "option": "no-such-option" });
    consul.register(&bad).unwrap();
    scene.until("the refusal", is_refused);
    for (from, to) in [("", "2"), ("2", "3")] {
        deploy(&mut scene, &consul, from, to);
    }
    // Each service that has changed is tried by itself until only this one is left.
    scene.until("the kept servers", |status| {
        let kept = &status["structure_kept"];
        let why = kept["not_current"].as_str().unwrap_or_default();
        kept["servers_current"] == false
            && why.contains("The servers of service \"other\" stay as they were")
    });
    consul
        .register(&instance("other", "bad", scene.entrance))
        .unwrap();
    mended(scene, "backend other");
}
