//! A hold ends as gently as it began (P2): while instances return to a real Consul, held ones leave one for one; and
//! what a token may not see any more is not gone.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use support::backend::Backend;
use support::consul::Consul;
use support::fault_proxy::fault::answer;
use support::fault_proxy::{Fault, FaultProxy};
use support::haproxies::{Version, haproxies};
use support::haproxy::servers;
use support::scene::{Given, HEAD, Scene};

/// The lines of `backend web`: its instances, and what else a token may not see any more.
const SERVERS: &str = r#"{{#each (nodes)}}
    # node {{Node}}
{{/each}}
{{#each (tree "data")}}
    # key {{Key}}
{{/each}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
"#;

/// What runs, and the instances by their numbers.
struct World {
    scene: Scene,
    backends: Vec<Backend>,
}

impl World {
    /// So many instances, each started and registered, with traffic. `guard` are lines of the settings.
    fn start(
        version: &Version,
        url: &str,
        token: Option<&str>,
        guard: &str,
        register: impl Fn(usize, &Backend),
    ) -> World {
        let backends: Vec<Backend> = (0..10)
            .map(|number| Backend::start(&format!("web-{number}")).unwrap())
            .collect();
        for (number, backend) in backends.iter().enumerate() {
            register(number, backend);
        }
        let mut given = Given::consul(url)
            .template(&format!(
                "global\n    stats socket @dir@/stats.sock mode 600 level admin\n\n{HEAD}{SERVERS}"
            ))
            .binary(version.program())
            .set("guard", guard);
        if let Some(token) = token {
            given.setup.file("token", token).unwrap();
            given = given.set("consul", "token_file = \"{dir}token\"\nwait = \"2s\"");
        }
        let mut world = World {
            scene: given.run(),
            backends,
        };
        world.shows(10);
        world.scene.load();
        world.scene.confirmed("the first set", |status| {
            status["applied"]["confirmed"] == true
        });
        world
    }

    /// The servers in rotation, by the numbers of the instances.
    fn running(&self) -> BTreeSet<usize> {
        let socket = self.scene.setup.directory().join("stats.sock");
        let rows = servers(&socket).unwrap_or_default();
        rows.iter()
            .filter(|row| row.admin == 0)
            .filter_map(|row| {
                let mut all = self.backends.iter();
                all.position(|backend| backend.address() == row.address)
            })
            .collect()
    }

    /// Waits until so many are in rotation.
    fn shows(&self, count: usize) {
        self.scene
            .wait(&format!("{count} servers in rotation"), || {
                (self.running().len() == count).then_some(())
            });
    }

    /// Waits for something of the hold of `web` while never fewer than so many are in rotation. An empty answer
    /// is a worker that is being replaced.
    fn while_at_least(&self, least: usize, what: &str, probe: impl Fn(&Value) -> bool) {
        self.scene.wait(what, || {
            let running = self.running().len();
            if running > 0 && running < least {
                self.scene
                    .fail(&format!("{running} of {least} are in rotation."));
            }
            let status = self.scene.setup.status().ok()?;
            probe(&hold(&status, "service \"web\"")).then_some(())
        });
    }

    /// Gatewright is killed and another one started; HAProxy runs on. The catalog has changed last at `changed`.
    fn restart(&mut self, changed: Instant) {
        // What it goes on from is on the disk a moment after each change.
        self.scene.until("the snapshot", |status| {
            let saved = status["snapshot"]["saved_seconds_ago"].as_f64();
            let applied = status["applied"]["seconds_ago"].as_f64();
            let since = changed.elapsed().as_secs_f64();
            let pending = !status["pending"].is_null();
            !pending && saved.is_some_and(|saved| saved < since && Some(saved) < applied)
        });
        self.scene.gatewright.process().kill();
        self.scene.gatewright = self.scene.setup.run().unwrap();
    }
}

/// The hold of a query, `null` when nothing of it is held.
fn hold(status: &Value, query: &str) -> Value {
    let holds = status["holds"].as_array().into_iter().flatten();
    let mut of_query = holds.filter(|hold| hold["query"] == query);
    of_query.next().cloned().unwrap_or_default()
}

fn is_held(hold: &Value, held: usize) -> bool {
    hold["held"] == held
}

fn register(consul: &Consul, backend: &Backend) {
    let address = backend.address();
    consul
        .register_instance("web", backend.name(), address)
        .unwrap();
}

/// A Consul that has lost all that it knew, held for longer than a hold of a share would last.
fn wiped(version: &Version, seconds: u64) -> (Consul, World) {
    let mut consul = Consul::start().unwrap();
    let guard = format!("hold = \"{seconds}s\"");
    let world = World::start(version, &consul.url(), None, &guard, |_, backend| {
        register(&consul, backend);
    });
    consul.kill();
    consul.restart().unwrap();
    world.while_at_least(10, "the hold of all, and its time", |hold| {
        is_held(hold, 10) && hold["since_seconds"].as_f64() > Some(seconds as f64 + 1.0)
    });
    (consul, world)
}

// B07
#[haproxies(ends)]
fn after_a_wipe_held_servers_leave_one_for_one_with_those_that_return(version: Version) {
    let (consul, world) = wiped(&version, 12);
    let order = [7, 0, 3, 9, 1, 8];
    for (returned, number) in order.into_iter().enumerate() {
        register(&consul, &world.backends[number]);
        world.while_at_least(10, "the returned one", |hold| {
            hold["present"] == returned + 1 && is_held(hold, 9 - returned)
        });
    }
    assert_eq!(world.running().len(), 10);
    // Seven of ten are no mass loss.
    register(&consul, &world.backends[2]);
    world.while_at_least(7, "the end of the hold", Value::is_null);
    for number in [4, 5, 6] {
        register(&consul, &world.backends[number]);
    }
    world.shows(10);
    world.scene.end();
}

// B07 J03
#[haproxies(ends)]
fn new_addresses_take_the_places_of_held_servers_whatever_happens_meanwhile(version: Version) {
    let (consul, mut world) = wiped(&version, 12);
    for number in 10..20 {
        let backend = Backend::start(&format!("web-{number}")).unwrap();
        world.backends.push(backend);
    }
    let new = |world: &World| world.running().range(10..).count();
    for number in 10..14 {
        register(&consul, &world.backends[number]);
        world.while_at_least(10, "a new one", |hold| is_held(hold, 19 - number));
    }
    world.scene.wait("the new ones in rotation", || {
        (new(&world) == 4 && world.running().len() == 10).then_some(())
    });

    // One goes to maintenance and leaves at once. One of the old ones returns.
    consul.maintenance("web-10", true).unwrap();
    world.while_at_least(10, "the maintenance", |hold| hold["present"] == 3);
    world.scene.wait("the server in maintenance to leave", || {
        let running = world.running();
        (running.len() == 10 && !running.contains(&10)).then_some(())
    });
    let changed = Instant::now();
    register(&consul, &world.backends[5]);
    world.while_at_least(10, "an old one", |hold| is_held(hold, 6));

    // Killed and started again, it goes on where it was; what is lost again is held again.
    world.restart(changed);
    world.while_at_least(10, "the hold of the next process", |hold| is_held(hold, 6));
    consul.deregister("web-5").unwrap();
    world.while_at_least(10, "the hold of one more", |hold| is_held(hold, 7));
    for number in 14..18 {
        register(&consul, &world.backends[number]);
    }
    world.while_at_least(7, "the end of the hold", Value::is_null);
    world.scene.wait("the new ones alone", || {
        let wanted: BTreeSet<usize> = (11..18).collect();
        (world.running() == wanted).then_some(())
    });
    world.scene.end();
}

// B07 J03
#[haproxies(ends)]
fn a_recovery_that_stops_takes_half_of_the_servers_at_a_time(version: Version) {
    let (consul, mut world) = wiped(&version, 6);
    let changed = Instant::now();
    register(&consul, &world.backends[0]);
    world.while_at_least(10, "the returned one", |hold| hold["present"] == 1);
    // The next process knows that there was none.
    world.restart(changed);
    world.while_at_least(10, "the hold of the next process", |hold| {
        is_held(hold, 9) && !hold["ends_in_seconds"].is_null()
    });
    let mut numbers = vec![10];
    world.scene.wait("the last held one to leave", || {
        let running = world.running().len();
        if running > 0 && numbers.last() != Some(&running) {
            numbers.push(running);
        }
        (running == 1).then_some(())
    });
    let gently = |pair: &[usize]| pair[1] < pair[0] && pair[1] * 2 >= pair[0];
    assert!(numbers.windows(2).all(gently), "{numbers:?}");
    world.scene.end();
}

/// Ten instances on nodes of their own, five each of `a-` and `b-`, and a token that sees all of them.
fn on_nodes(
    version: &Version,
    guard: &str,
    through: Option<&FaultProxy>,
) -> (Consul, String, World) {
    let consul = Consul::start_with_acl().unwrap();
    if let Some(proxy) = through {
        proxy.set_upstream(consul.address());
    }
    let policy = consul.create_policy("gatewright", ALL).unwrap();
    let token = consul.create_token("gatewright").unwrap();
    for key in ["a-1", "a-2", "b-1", "b-2"] {
        consul.set_key(&format!("data/{key}"), "x").unwrap();
    }
    let url = through.map_or_else(|| consul.url(), FaultProxy::url);
    let world = World::start(
        version,
        &url,
        Some(&token.secret),
        guard,
        |number, backend| {
            consul.catalog_register(&on_node(number, backend)).unwrap();
        },
    );
    world.scene.wait("the canary in the snapshot", || {
        let snapshot = world.scene.setup.read("state/snapshot.json").ok()?;
        snapshot.contains("\"canary_seen\":[null]").then_some(())
    });
    (consul, policy, world)
}

fn on_node(number: usize, backend: &Backend) -> Value {
    let at = backend.address();
    let node = format!("{}-{}", ["a", "b"][number % 2], number);
    json!({
        "Node": node, "Address": "127.0.0.1",
        "Service": {"Service": "web", "ID": backend.name(), "Address": at.ip().to_string(), "Port": at.port()},
    })
}

const ALL: &str = r#"service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
key_prefix "" { policy = "read" }"#;

// B10
#[haproxies(ends)]
fn nodes_hidden_by_rights_are_held_without_end(version: Version) {
    let (consul, policy, mut world) = on_nodes(&version, "hold = \"1s\"", None);
    let half = r#"service_prefix "" { policy = "read" }
        node_prefix "a" { policy = "read" }
        node "test" { policy = "read" }
        key_prefix "data/a" { policy = "read" }"#;
    let changed = Instant::now();
    consul.update_policy(&policy, "gatewright", half).unwrap();
    let hidden = |hold: &Value, held: usize| {
        is_held(hold, held)
            && hold["ends_in_seconds"].is_null()
            && hold["reason"]
                .as_str()
                .is_some_and(|why| why.starts_with("The token may not read the "))
    };
    world.while_at_least(10, "the hold of half of them", |hold| {
        hidden(hold, 5) && hold["since_seconds"].as_f64() > Some(5.0)
    });
    // The nodes themselves and the keys are hidden as well, and held, too.
    world.scene.until("the holds of the other lists", |status| {
        hidden(&hold(status, "nodes"), 5) && hidden(&hold(status, "tree \"data\""), 2)
    });

    // The next process asks for itself.
    world.restart(changed);
    world.while_at_least(10, "the hold of the next process", |hold| hidden(hold, 5));

    // The rights come back with fewer instances: those that are seen again are not held any more, and of the
    // two others it is known that they are gone.
    for number in [1, 3] {
        let node = format!("b-{number}");
        consul.catalog_deregister(&json!({"Node": node})).unwrap();
    }
    consul.update_policy(&policy, "gatewright", ALL).unwrap();
    world.while_at_least(8, "the end of the hold", Value::is_null);
    world.shows(8);
    world.scene.end();
}

// B10
#[haproxies(ends)]
fn a_service_hidden_by_rights_is_held_beyond_the_time_of_the_last(version: Version) {
    let guard = "hold = \"1s\"\nhold_last = \"1s\"";
    let (consul, policy, world) = on_nodes(&version, guard, None);
    let others = r#"service "consul" { policy = "read" }
        node_prefix "" { policy = "read" }
        key_prefix "" { policy = "read" }"#;
    consul.update_policy(&policy, "gatewright", others).unwrap();
    world.while_at_least(10, "the hold of all of them", |hold| {
        is_held(hold, 10)
            && hold["since_seconds"].as_f64() > Some(5.0)
            && hold["reason"]
                == "The token may not read the service \"web\", so the time of the hold does not run."
    });
    consul.update_policy(&policy, "gatewright", ALL).unwrap();
    world.while_at_least(10, "the end of the hold", Value::is_null);
    world.scene.end();
}

/// As with a Consul before 1.8, or behind a proxy that lets GET through alone.
// B10
#[haproxies(ends)]
fn where_consul_does_not_tell_the_rights_a_hidden_node_is_not_gone(version: Version) {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let proxy = FaultProxy::start(nowhere).unwrap();
    let refusal = answer("405 Method Not Allowed", &[], b"");
    proxy.set_for("/v1/internal/", Fault::Answer(refusal));
    let (consul, policy, world) = on_nodes(&version, "hold = \"1s\"", Some(&proxy));
    let half = ALL.replace(
        "node_prefix \"\"",
        "node \"test\" { policy = \"read\" } node_prefix \"a\"",
    );
    consul.update_policy(&policy, "gatewright", &half).unwrap();
    world.while_at_least(10, "the hold of half of them", |hold| {
        is_held(hold, 5)
            && hold["since_seconds"].as_f64() > Some(5.0)
            && hold["reason"]
                .as_str()
                .is_some_and(|why| why.contains("gone from the catalog as well"))
    });
    consul.update_policy(&policy, "gatewright", ALL).unwrap();
    world.while_at_least(10, "the end of the hold", Value::is_null);

    // Instances that leave their nodes are gone: the nodes are seen. A single one is held by no time at all.
    for number in [1, 3, 5, 7] {
        let (node, id) = (format!("b-{number}"), format!("web-{number}"));
        let body = json!({"Node": node, "ServiceID": id});
        consul.catalog_deregister(&body).unwrap();
    }
    world.shows(6);
    world.scene.end();
}
