//! Instances hang, are killed without notice, drain and come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::gateway::{LIMIT, REPLY, Scene, statistic};
use support::haproxies::{Version, haproxies};
use support::haproxy::HAProxy;
use support::thrift::Form;
use support::thrift::callers::Callers;
use support::{measured, ports, wait_for};

/// Its port still takes connections, so only a check that wants an answer finds it. What has waited for one
/// gets an error instead of waiting for ever, and the instance serves again once it answers.
#[haproxies]
fn an_instance_that_hangs_is_taken_out_by_the_check_and_comes_back(version: Version) {
    let mut scene = Scene::new(&["a"]);
    let gateway = scene.gateway(&version);
    // One that HAProxy did not start with is checked as well.
    scene.add("b");
    let (a, b) = (scene.instances[0].address, scene.instances[1].address);
    // The same servers with a check that only connects.
    let plain = HAProxy::start(&version, &plain_check(a, b)).unwrap();
    let mut waiting = gateway.client_of("b");

    scene.instance("b").hang();
    gateway.wait("the check to find that b hangs", || {
        gateway
            .server(b)
            .is_some_and(|server| server.operational == 0)
    });
    assert_eq!(gateway.statistic("test:b", "check_status"), "L7TOUT");
    for _ in 0..10 {
        assert_eq!(gateway.client().version().as_deref(), Ok("a"));
    }
    let begin = Instant::now();
    waiting.version().unwrap_err();
    // It is cut off, and does not wait for its own time-out.
    assert!(begin.elapsed() < REPLY / 2);
    let text = plain.ask("@1 show stat").unwrap();
    let checks = |column| statistic(&text, "plain", "b", column).unwrap();
    assert_eq!([checks("status"), checks("check_status")], ["UP", "L4OK"]);

    scene.instance("b").go_on();
    gateway.wait("b to be up again", || {
        gateway
            .server(b)
            .is_some_and(|server| server.operational == 2)
    });
    gateway.client_of("b");
}

fn plain_check(a: SocketAddr, b: SocketAddr) -> String {
    let [port] = ports::free().unwrap();
    format!(
        "defaults\n    mode tcp\n    timeout connect 2s\n    timeout check 700ms\n    timeout client 5s\n    timeout server 5s\n\
         frontend in\n    bind 127.0.0.1:{port}\n    default_backend plain\n\
         backend plain\n    server a {a} check inter 500ms fall 2\n    server b {b} check inter 500ms fall 2\n"
    )
}

/// In TCP mode HAProxy can try again what has not begun: the connection to the instance. What a client has sent is
/// lost with the instance, and only the client knows whether it may send it again.
#[haproxies]
fn an_instance_that_is_killed_costs_the_calls_in_flight_and_no_new_connection(version: Version) {
    const CLIENTS: usize = 4;
    let mut scene = Scene::new(&["a", "b", "c"]);
    let gateway = scene.gateway(&version);
    let callers = Callers::start(
        gateway.address,
        &Form::default(),
        CLIENTS,
        Duration::from_millis(10),
    );
    wait_for(LIMIT, "calls to all instances", || {
        callers
            .look(|tally| tally.connections.len() == 3)
            .then_some(())
    })
    .unwrap();
    let mut client = gateway.client_of("c");
    let in_flight = std::thread::spawn(move || client.launch(LIMIT));
    scene.instance("c").kill();
    let killed = Instant::now();
    // It has the fewest connections now, so these are tried there first.
    let mut new: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut new {
        assert_ne!(client.version().unwrap(), "c");
    }
    in_flight.join().unwrap().unwrap_err();
    // Until long after the check has found it.
    let c = scene.instance("c").address;
    gateway.wait("the check to find that c is gone", || {
        gateway
            .server(c)
            .is_some_and(|server| server.operational == 0)
    });
    let now = callers.look(|tally| tally.all());
    wait_for(LIMIT, "calls after that", || {
        callers.look(|tally| tally.all() > now + 200).then_some(())
    })
    .unwrap();
    let tally = callers.stop();
    let lost = &tally.lost;
    assert!(
        lost.iter().all(|one| one.opened < killed),
        "{version}: a new connection has failed: {lost:?}"
    );
    assert!(
        lost.iter()
            .all(|one| one.instance.as_deref().is_none_or(|name| name == "c")),
        "{version}: {lost:?}"
    );
    assert!(lost.len() <= CLIENTS, "{version}: {lost:?}");
    assert_eq!(gateway.count("econ"), 0, "{version}");
    let (again, elsewhere) = (gateway.count("wretr"), gateway.count("wredis"));
    assert!(again + elsewhere > 0);
    let connections: u64 = tally.connections.values().sum();
    measured::note(
        "airavata",
        &format!("{version}, one of three instances killed under {CLIENTS} clients"),
        format!(
            "{} of {} calls lost in flight, none of the connections of after the kill ({connections} in all), {} connections tried again, slowest call {} ms",
            lost.len(),
            tally.all() + lost.len() as u64,
            again + elsewhere,
            tally.slowest.as_millis()
        ),
    );
    // Another one in its place.
    scene.add("c");
    gateway.client_of("c");
}

/// Maintenance in Consul: no new connection, and those that there are go on as long as their clients want.
#[haproxies]
fn an_instance_that_drains_finishes_its_calls_and_gets_no_new_connection(version: Version) {
    let scene = Scene::new(&["a", "b"]);
    let gateway = scene.gateway(&version);
    let b = scene.instances[1].address;
    let worker = gateway.worker();
    let mut kept = gateway.client_of("b");
    let mut client = gateway.client_of("b");
    let in_flight = std::thread::spawn(move || client.launch(Duration::from_secs(4)));

    scene.consul.maintenance("b", true).unwrap();
    gateway.wait("b to drain", || {
        gateway.server(b).is_some_and(|server| server.admin != 0)
    });
    for _ in 0..20 {
        assert_eq!(gateway.client().version().as_deref(), Ok("a"));
        assert_eq!(kept.version().as_deref(), Ok("b"));
    }
    assert_eq!(in_flight.join().unwrap().as_deref(), Ok("b"));
    assert_eq!(kept.version().as_deref(), Ok("b"));
    drop(kept);
    gateway.wait("b to be gone", || gateway.server(b).is_none());

    scene.consul.maintenance("b", false).unwrap();
    gateway.client_of("b");
    assert_eq!(gateway.worker(), worker, "HAProxy was reloaded");
}
