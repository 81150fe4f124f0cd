//! The first set, and HAProxy at rest: while HAProxy cannot start for want of something on its machine, Gatewright tries
//! again, and claims no configuration that does not exist.

use std::net::TcpListener;

use support::consul::Consul;
use support::haproxies::{Version, haproxies, oldest};
use support::scene::{Given, HEAD, Scene, TEMPLATE};

use crate::reaching::stage::LIMIT;

/// The tries so far.
fn tries(scene: &Scene) -> usize {
    scene.gatewright.log().matches("trying again in").count()
}

/// What the status says to a person.
fn described(scene: &Scene) -> String {
    let settings = scene.setup.path("gatewright.toml");
    let output = scene.setup.call(&["status", "-c", &settings]).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Each of these instances answers, no request fails, and all ends well.
pub fn serves_and_ends(scene: Scene, ids: &[&str]) {
    let scene = scene.serve();
    ids.iter().for_each(|id| scene.serves(id));
    scene.end();
}

fn fails_and_says_so(scene: &Scene, words: &[&str]) {
    scene.until("a failure that is told", |status| {
        let why = status["not_applied"].to_string();
        words.iter().all(|word| why.contains(word))
    });
    scene.wait("a second try", || (tries(scene) >= 2).then_some(()));
    let (log, text) = (scene.gatewright.log(), described(scene));
    assert!(!log.contains("last good"), "{log}");
    assert!(!text.contains("last good"), "{text}");
    assert!(log.contains("No configuration is in force yet"), "{log}");
}

// F05 G10
#[haproxies]
fn a_first_set_with_a_busy_port_is_tried_until_the_port_is_free(version: Version) {
    let consul = Consul::start().unwrap();
    let given = Given::consul(&consul.url())
        .binary(version.program())
        .instances(&consul, &["one"]);
    let other = TcpListener::bind(given.entrance).unwrap();
    let scene = given.run();
    let address = scene.entrance.to_string();
    fails_and_says_so(&scene, &["Another program listens on", &address]);
    drop(other);
    serves_and_ends(scene, &["one"]);
}

// F05 G10
#[test]
fn a_first_set_is_tried_at_once_when_the_operator_asks_for_it() {
    let consul = Consul::start().unwrap();
    let given = Given::consul(&consul.url()).instances(&consul, &["one"]);
    let other = TcpListener::bind(given.entrance).unwrap();
    let mut scene = given.run();
    fails_and_says_so(&scene, &["Another program listens on"]);
    let before = tries(&scene);
    scene.gatewright.reload();
    scene.wait("another try", || (tries(&scene) > before).then_some(()));
    drop(other);
    scene.gatewright.reload();
    serves_and_ends(scene, &["one"]);
}

// F05 G02
#[haproxies(ends)]
fn a_first_set_that_lacks_a_directory_is_tried_until_it_is_there(version: Version) {
    let consul = Consul::start().unwrap();
    let text = format!("global\n    stats socket @dir@/late/h.sock level admin\n{TEMPLATE}");
    let scene = Given::consul(&consul.url())
        .binary(version.program())
        .template(&text)
        .instances(&consul, &["one"])
        .run();
    fails_and_says_so(&scene, &["late/h.sock"]);
    std::fs::create_dir(scene.setup.path("late")).unwrap();
    serves_and_ends(scene, &["one"]);
}

// F05 G02
#[test]
fn a_first_set_over_which_haproxy_ends_gives_way_to_a_mended_one() {
    let consul = Consul::start().unwrap();
    let scene = Given::consul(&consul.url())
        .binary(oldest().program())
        .template(&format!("global\n    uid -1\n{TEMPLATE}"))
        .instances(&consul, &["one"])
        .run();
    fails_and_says_so(&scene, &["uid -1"]);
    scene.template(TEMPLATE);
    serves_and_ends(scene, &["one"]);
}

// F03
#[test]
fn a_first_set_that_is_refused_claims_no_last_good_one() {
    let consul = Consul::start().unwrap();
    let scene = Given::consul(&consul.url())
        .template(&format!("{HEAD}    unknown-word\n"))
        .run();
    scene.until("a refusal", |status| !status["held"].is_null());
    let (log, text) = (scene.gatewright.log(), described(&scene));
    assert!(!log.contains("last good"), "{log}");
    assert!(
        text.starts_with("held: no configuration has been good yet"),
        "{text}"
    );
}

// F05 G10
#[haproxies(ends)]
fn a_restart_with_a_busy_port_does_not_hold_what_changed_meanwhile(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = Given::consul(&consul.url())
        .binary(version.program())
        .set("haproxy", "confirm_timeout = \"2s\"")
        .instances(&consul, &["one"])
        .run();
    scene.confirmed("the first set", |_| true);
    scene.gatewright.stop(LIMIT).unwrap();
    let other = TcpListener::bind(scene.entrance).unwrap();
    let two = scene.backend("two");
    scene.gatewright = scene.setup.run().unwrap();
    scene.logged(&["HAProxy did not start with the last good set"]);
    consul.register_instance("web", "two", two).unwrap();
    scene.until("a failure that is told", |status| {
        status["not_applied"].to_string().contains("listens on")
    });
    drop(other);
    serves_and_ends(scene, &["one", "two"]);
}
