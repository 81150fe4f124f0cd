//! Listeners that come and go with the catalog, and those that are lost by anything else, on real Consul and HAProxy.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::ports;
use support::scene::{Given, Scene, TEMPLATE};
use support::traffic::send;

const LIMIT: Duration = Duration::from_secs(60);

/// One listener for each key of `expose`.
const EXPOSE: &str = r#"
{{#each (ls "expose")}}
listen tcp_{{Key}}
    bind 127.0.0.1:{{Value}}
    default_backend web
{{/each}}
"#;

/// One listener for each service with the tag `tcp`, at the port in its name.
const SERVICES: &str = r#"
{{#each (services)}}
{{#if (contains "tcp" Tags)}}
listen service_{{Name}}
    bind 127.0.0.1:{{trimPrefix "s" Name}}
{{#each (service Name)}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
{{/if}}
{{/each}}
"#;

fn given(consul: &Consul, version: &Version, more: &str) -> Given {
    Given::consul(&consul.url())
        .binary(version.program())
        .template(&format!("{TEMPLATE}{more}"))
        .limit(LIMIT)
        .instances(consul, &["one", "two"])
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn serves(scene: &Scene, port: u16) {
    scene.wait(&format!("an answer at {port}"), || {
        (send(local(port), 1).ok() == 1).then_some(())
    });
}

fn refuses(scene: &Scene, port: u16) {
    scene.wait(&format!("no listener at {port}"), || {
        std::net::TcpStream::connect(local(port)).err()
    });
}

fn waiting(status: &Value) -> Vec<&str> {
    let all = status["listeners"].as_array().into_iter().flatten();
    all.filter_map(|one| one["address"].as_str()).collect()
}

fn release(scene: &Scene, words: &[&str]) -> (Option<i32>, String) {
    let settings = scene.setup.path("gatewright.toml");
    let words = [&["release", "-c", &settings], words].concat();
    let output = scene.setup.call(&words).unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

fn restart(scene: &mut Scene) {
    scene.gatewright.process().kill();
    scene.gatewright = scene.setup.run().unwrap();
}

// G18
#[haproxies(ends)]
fn a_listener_goes_with_its_key_and_returns_with_it(version: Version) {
    let consul = Consul::start().unwrap();
    let [a, b, c] = ports::free().unwrap();
    for (key, port) in [("a", a), ("b", b), ("c", c)] {
        let port = port.to_string();
        consul.set_key(&format!("expose/{key}"), &port).unwrap();
    }
    let mut scene = given(&consul, &version, EXPOSE).serve();
    for port in [a, b, c] {
        serves(&scene, port);
    }
    consul.delete_key("expose/b").unwrap();
    refuses(&scene, b);
    scene.logged(&[
        &format!("The listener 127.0.0.1:{b} (listen `tcp_b`) is removed: Key expose/b of tree "),
        " is gone from the catalog.",
    ]);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    for port in [a, c] {
        serves(&scene, port);
    }
    consul.set_key("expose/b", &b.to_string()).unwrap();
    serves(&scene, b);

    // While Gatewright is not there: what the snapshot shows was made from the key.
    scene.confirmed("the third listener", |_| scene.file().contains("tcp_b"));
    scene.wait("the key in the snapshot", || {
        let snapshot = scene.setup.read("state/snapshot.json").ok()?;
        snapshot.contains("expose/b").then_some(())
    });
    scene.gatewright.process().kill();
    consul.delete_key("expose/b").unwrap();
    scene.gatewright = scene.setup.run().unwrap();
    refuses(&scene, b);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.all_serve(&["one", "two"]);
    scene.end();
}

// G18 B07
#[haproxies(ends)]
fn a_mass_loss_of_keys_keeps_their_listeners_until_the_guard_releases_them(version: Version) {
    let consul = Consul::start().unwrap();
    let ports: [u16; 4] = ports::free().unwrap();
    for (key, port) in ports.iter().enumerate() {
        let port = port.to_string();
        consul.set_key(&format!("expose/{key}"), &port).unwrap();
    }
    let scene = given(&consul, &version, EXPOSE).serve();
    ports.iter().for_each(|port| serves(&scene, *port));
    consul
        .put(
            "/v1/txn",
            &json!([{"KV": {"Verb": "delete-tree", "Key": "expose/"}}]).to_string(),
        )
        .unwrap();
    let status = scene.until("the hold", |status| status["holds"][0]["held"] == 4);
    assert!(waiting(&status).is_empty());
    ports.iter().for_each(|port| serves(&scene, *port));
    let (code, text) = release(&scene, &["tree \"expose\""]);
    assert_eq!(code, Some(0), "{text}");
    ports.iter().for_each(|port| refuses(&scene, *port));
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.end();
}

// G18
#[haproxies(ends)]
fn a_listener_goes_with_its_service(version: Version) {
    let consul = Consul::start().unwrap();
    let [a, b] = ports::free().unwrap();
    let given = given(&consul, &version, SERVICES);
    let backend = support::backend::Backend::start("tcp").unwrap();
    for port in [a, b] {
        let name = format!("s{port}");
        let mut body = support::consul::instance(&name, &name, backend.address());
        body["Tags"] = json!(["tcp"]);
        consul.register(&body).unwrap();
    }
    let scene = given.serve();
    serves(&scene, a);
    serves(&scene, b);
    consul.deregister(&format!("s{b}")).unwrap();
    refuses(&scene, b);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    serves(&scene, a);
    // A service that is still there and is not to be exposed any more: a condition.
    let name = format!("s{a}");
    let body = support::consul::instance(&name, &name, backend.address());
    consul.register(&body).unwrap();
    let status = scene.until("the listener that waits", |status| {
        status["state"] == "guarded" && !waiting(status).is_empty()
    });
    assert_eq!(waiting(&status), [format!("127.0.0.1:{a}")]);
    let reason = status["listeners"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains(&format!(
            "Service {name} of services, which the catalog still has"
        )),
        "{reason}"
    );
    serves(&scene, a);
    scene.all_serve(&["one", "two"]);
    // Its data goes after all, once the guard has released it.
    consul.deregister(&name).unwrap();
    scene.until("the hold", |status| {
        status["holds"][0]["query"] == "services"
    });
    serves(&scene, a);
    let (code, text) = release(&scene, &["services"]);
    assert_eq!(code, Some(0), "{text}");
    refuses(&scene, a);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.end();
}

// G18
#[haproxies(ends)]
fn a_listener_lost_by_a_template_waits_while_everything_else_goes_on(version: Version) {
    let consul = Consul::start().unwrap();
    let [extra, moved, new] = ports::free().unwrap();
    let section = |name: &str, port: u16| {
        format!("\nfrontend {name}\n    bind 127.0.0.1:{port}\n    default_backend web\n")
    };
    let before = section("extra", extra) + &section("moved", moved);
    let mut scene = given(&consul, &version, &before).serve();
    serves(&scene, extra);

    // One listener is gone and another one has moved.
    let after = section("added", new) + &section("moved", moved).replace(&moved.to_string(), "1");
    scene.template(&format!("{TEMPLATE}{after}"));
    let status = scene.until("the listeners that wait", |status| {
        status["state"] == "guarded" && waiting(status).len() == 2
    });
    let mut expected = [extra, moved].map(|port| format!("127.0.0.1:{port}"));
    let mut shown = waiting(&status);
    expected.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, expected);
    assert!(status["held"].is_null(), "{status}");
    for port in [extra, moved, new] {
        serves(&scene, port);
    }
    let shown = scene
        .setup
        .call(&["status", "-c", &scene.setup.path("gatewright.toml")])
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let line = format!("127.0.0.1:{extra} (frontend extra): waits for ");
    assert!(shown.contains(&line), "{shown}");
    assert!(
        shown.contains(&format!(
            "ends by `gatewright release --listener '127.0.0.1:{extra}'`"
        )),
        "{shown}"
    );

    // A change of servers needs no reload.
    let reloads = status["haproxy"]["reloads"].clone();
    scene.serves_another(&consul, "three");
    let status = scene.until("the third instance", |status| status["state"] == "guarded");
    assert_eq!(status["haproxy"]["reloads"], reloads);

    // Another process knows what waits, and since when, and reloads nothing.
    let file = scene.file();
    restart(&mut scene);
    let status = scene.until("what waits", |status| {
        status["state"] == "guarded" && waiting(status).len() == 2
    });
    assert_eq!(scene.file(), file);
    assert_eq!(status["haproxy"]["reloads"], 0);
    serves(&scene, extra);
    scene.all_serve(&["one", "two", "three"]);

    let (code, text) = release(&scene, &["--listener", "127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("Nothing of the listener 127.0.0.1:1 is held."),
        "{text}"
    );
    let address = format!("127.0.0.1:{extra}");
    let (code, text) = release(&scene, &["--listener", &address]);
    assert_eq!((code, text), (Some(0), format!("Released: {address}.\n")));
    refuses(&scene, extra);
    serves(&scene, moved);
    // The template has it back: nothing waits, nothing is closed.
    let after = section("added", new) + &section("moved", moved);
    scene.template(&format!("{TEMPLATE}{after}"));
    scene.confirmed("nothing waits", |status| {
        waiting(status).is_empty() && !scene.file().contains("Kept by")
    });
    serves(&scene, moved);
    scene.template(&format!("{TEMPLATE}{}", section("added", new)));
    scene.until("the listener that waits", |status| {
        waiting(status).len() == 1
    });
    let (code, text) = release(&scene, &["--all-listeners"]);
    assert_eq!(code, Some(0), "{text}");
    refuses(&scene, moved);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.all_serve(&["one", "two", "three"]);
    scene.end();
}

// G18
#[haproxies(ends)]
fn a_listener_that_cannot_be_kept_holds_the_whole_set_until_it_is_released(version: Version) {
    let consul = Consul::start().unwrap();
    let [extra] = ports::free().unwrap();
    let more = format!(
        "\nlisten extra\n    bind 127.0.0.1:{extra}\n    errorfile 503 @dir@/503.http\n    default_backend web\n"
    );
    let given = given(&consul, &version, &more);
    let page = "HTTP/1.0 503 Away\r\nCache-Control: no-cache\r\n\r\n";
    given.setup.file("503.http", page).unwrap();
    let scene = given.serve();
    serves(&scene, extra);

    // Its name is that of a backend now.
    let clash = format!("{TEMPLATE}\nbackend extra\n    server x 127.0.0.1:1\n");
    scene.template(&clash);
    let status = scene.until("the refusal", |status| status["state"] == "held");
    assert_eq!(waiting(&status), [format!("127.0.0.1:{extra}")]);
    let why = status["listeners"][0]["not_kept"].as_str().unwrap();
    assert!(why.contains("which is the name of its listen"), "{why}");
    serves(&scene, extra);

    // A file that it needs is gone: HAProxy's own validation refuses the set that keeps it.
    scene.template(TEMPLATE);
    scene.until("the set that keeps it", |status| {
        status["state"] == "guarded"
    });
    std::fs::remove_file(scene.setup.path("503.http")).unwrap();
    consul.set_key("note", "later").unwrap();
    let status = scene.until("the refusal", |status| status["state"] == "held");
    assert_eq!(waiting(&status), [format!("127.0.0.1:{extra}")]);
    let address = format!("127.0.0.1:{extra}");
    let (code, text) = release(&scene, &["--listener", &address]);
    assert_eq!(code, Some(0), "{text}");
    refuses(&scene, extra);
    scene.follows("later");

    // And one whose set was refused by the gate is released all the same.
    let [other] = ports::free().unwrap();
    let more = format!("\nlisten other\n    bind 127.0.0.1:{other}\n    default_backend web\n");
    scene.template(&format!("{TEMPLATE}{more}"));
    serves(&scene, other);
    scene.template(&format!(
        "{TEMPLATE}\nbackend other\n    server x 127.0.0.1:1\n"
    ));
    scene.until("the refusal", |status| status["state"] == "held");
    let (code, text) = release(&scene, &["--all"]);
    assert_eq!(
        (code, text),
        (Some(0), format!("Released: listener 127.0.0.1:{other}.\n"))
    );
    refuses(&scene, other);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.all_serve(&["one", "two"]);
    scene.end();
}

/// A value that HAProxy refuses holds every set back.
const LIMITED: &str = r#"
frontend limited
    bind unix@@dir@/limited.sock
    timeout client {{keyOrDefault "limit" "10s"}}
"#;

fn held_back(scene: &Scene, consul: &Consul) {
    consul.set_key("limit", "oops").unwrap();
    scene.until("the refusal", |status| status["state"] == "held");
}

// G18
#[haproxies(ends)]
fn a_listener_goes_with_its_key_over_a_restart_before_the_next_set(version: Version) {
    let consul = Consul::start().unwrap();
    // Two of eight are no mass loss.
    let all: [u16; 8] = ports::free().unwrap();
    let [a, b, c, ..] = all;
    for (key, port) in ('a'..).zip(all) {
        let port = port.to_string();
        consul.set_key(&format!("expose/{key}"), &port).unwrap();
    }
    let mut scene = given(&consul, &version, &format!("{EXPOSE}{LIMITED}")).serve();
    for port in [a, b, c] {
        serves(&scene, port);
    }
    held_back(&scene, &consul);
    consul.delete_key("expose/b").unwrap();
    scene.logged(&["is gone from the catalog", &format!("127.0.0.1:{b}")]);
    scene.gatewright.process().kill();
    consul.delete_key("expose/c").unwrap();
    scene.gatewright = scene.setup.run().unwrap();
    scene.until("the refusal", |status| status["state"] == "held");
    serves(&scene, b);
    consul.set_key("limit", "20s").unwrap();
    refuses(&scene, b);
    refuses(&scene, c);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    serves(&scene, a);
    scene.all_serve(&["one", "two"]);
    scene.end();
}

// G18
#[haproxies(ends)]
fn a_listener_that_waits_goes_with_its_key_after_a_restart(version: Version) {
    let consul = Consul::start().unwrap();
    let [before, after, other] = ports::free().unwrap();
    consul.set_key("expose/a", &before.to_string()).unwrap();
    consul.set_key("expose/b", &other.to_string()).unwrap();
    let mut scene = given(&consul, &version, EXPOSE).serve();
    serves(&scene, before);
    consul.set_key("expose/a", &after.to_string()).unwrap();
    let reason = |status: &Value| status["listeners"][0]["reason"].as_str().map(str::to_owned);
    let status = scene.until("the listener that waits", |status| {
        status["state"] == "guarded" && reason(status).is_some()
    });
    let since = status["listeners"][0]["since"].clone();
    let why = reason(&status);
    assert!(
        why.as_ref().unwrap().contains("Key expose/a of tree"),
        "{why:?}"
    );
    scene.wait("what is left for the next process", || {
        let left = scene.setup.read("state/listeners.json").ok()?;
        left.contains("expose/a").then_some(())
    });
    restart(&mut scene);
    let status = scene.until("the listener that waits", |status| {
        status["state"] == "guarded" && reason(status).is_some()
    });
    assert_eq!(
        (reason(&status), &status["listeners"][0]["since"]),
        (why, &since)
    );
    serves(&scene, before);
    consul.delete_key("expose/a").unwrap();
    refuses(&scene, before);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.goes_on(&consul, "later");
    scene.wait("nothing is left", || {
        scene.setup.read("state/listeners.json").err()
    });
    serves(&scene, other);
    // A damaged file is named and does no harm.
    scene.setup.file("state/listeners.json", "{").unwrap();
    restart(&mut scene);
    scene.logged(&["listeners.json is ignored: it is damaged."]);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    serves(&scene, other);
    scene.end();
}

// G18
#[haproxies(ends)]
fn a_release_outlives_gatewright(version: Version) {
    let consul = Consul::start().unwrap();
    let [extra] = ports::free().unwrap();
    let section = format!("\nlisten extra\n    bind 127.0.0.1:{extra}\n    default_backend web\n");
    let mut scene = given(&consul, &version, &format!("{LIMITED}{section}")).serve();
    serves(&scene, extra);
    held_back(&scene, &consul);
    scene.template(&format!("{TEMPLATE}{LIMITED}"));
    let address = format!("127.0.0.1:{extra}");
    scene.until("the listener that waits", |status| {
        waiting(status) == [address.as_str()]
    });
    let (code, text) = release(&scene, &["--listener", &address]);
    assert_eq!(code, Some(0), "{text}");
    scene.wait("the release in the state directory", || {
        let left = scene.setup.read("state/listeners.json").ok()?;
        left.contains("\"released\":[{").then_some(())
    });
    restart(&mut scene);
    scene.until("the refusal", |status| status["state"] == "held");
    serves(&scene, extra);
    consul.set_key("limit", "20s").unwrap();
    refuses(&scene, extra);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    scene.end();
}

// G18
#[haproxies(ends)]
fn a_listener_of_the_second_file_waits_there_and_an_address_beside_it_goes(version: Version) {
    let consul = Consul::start().unwrap();
    let [kept, beside, extra] = ports::free().unwrap();
    consul.set_key("more/a", &beside.to_string()).unwrap();
    let second = |bind: &str| {
        format!(
            "defaults\n    mode http\n    timeout connect 2s\n    timeout client 5s\n    timeout server 5s\n\
             frontend extra\n    bind 127.0.0.1:{extra}\n    default_backend web\n\
             frontend two\n{bind}{{{{#each (ls \"more\")}}}}\n    bind 127.0.0.1:{{{{Value}}}}\n{{{{/each}}}}\n    default_backend web\n"
        )
    };
    let given = given(&consul, &version, "")
        .more("[[template]]\nsource = \"second.cfg.hbs\"\ndestination = \"{dir}/second.cfg\"\n");
    let bind = format!("    bind 127.0.0.1:{kept}\n");
    given.setup.file("second.cfg.hbs", &second(&bind)).unwrap();
    let scene = given.serve();
    for port in [kept, beside, extra] {
        serves(&scene, port);
    }
    scene.setup.file("second.cfg.hbs", &second("")).unwrap();
    let address = format!("127.0.0.1:{kept}");
    scene.until("the listener that waits", |status| {
        status["state"] == "guarded" && waiting(status) == [address.as_str()]
    });
    assert!(!scene.file().contains("Kept by"));
    assert!(scene.setup.read("second.cfg").unwrap().contains("Kept by"));
    consul.set_key("note", "later").unwrap();
    scene.wait("the note in the file", || {
        scene.file().contains("# note: later\n").then_some(())
    });
    consul.delete_key("more/a").unwrap();
    refuses(&scene, beside);
    serves(&scene, kept);
    serves(&scene, extra);
    let (code, text) = release(&scene, &["--listener", &address]);
    assert_eq!(code, Some(0), "{text}");
    refuses(&scene, kept);
    scene.confirmed("nothing waits", |status| waiting(status).is_empty());
    serves(&scene, extra);
    scene.all_serve(&["one", "two"]);
    scene.end();
}
