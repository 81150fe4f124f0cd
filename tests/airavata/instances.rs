//! Instances hang, are killed without notice, drain and come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::gateway::{Gateway, LIMIT, REPLY, Scene, statistic};
use support::haproxy::HAProxy;
use support::thrift::Form;
use support::thrift::callers::Callers;
use support::{measured, ports, tools, wait_for};

/// Its port still takes connections, so only a check that wants an answer finds it. What has waited for one
/// gets an error instead of waiting for ever, and the instance serves again once it answers.
#[test]
fn an_instance_that_hangs_is_taken_out_by_the_check_and_comes_back() {
    let mut scene = Scene::new(&["a"]);
    let gateways = scene.gateways(&tools::HAPROXY_VERSIONS);
    // One that HAProxy did not start with is checked as well.
    scene.add("b");
    let (a, b) = (scene.instances[0].address, scene.instances[1].address);
    // The same servers with a check that only connects.
    let plain: Vec<HAProxy> = tools::HAPROXY_VERSIONS
        .iter()
        .map(|version| HAProxy::start(version, &plain_check(a, b)).unwrap())
        .collect();
    let mut waiting: Vec<_> = gateways.iter().map(|one| one.client_of("b")).collect();

    scene.instance("b").hang();
    for (gateway, client) in gateways.iter().zip(&mut waiting) {
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
        client.version().unwrap_err();
        // It is cut off, and does not wait for its own time-out.
        assert!(begin.elapsed() < REPLY / 2, "{}", gateway.version);
    }
    for (haproxy, version) in plain.iter().zip(tools::HAPROXY_VERSIONS) {
        let text = haproxy.ask("@1 show stat").unwrap();
        let checks = |column| statistic(&text, "plain", "b", column).unwrap();
        assert_eq!(
            [checks("status"), checks("check_status")],
            ["UP", "L4OK"],
            "{version}"
        );
    }

    scene.instance("b").go_on();
    for gateway in &gateways {
        gateway.wait("b to be up again", || {
            gateway
                .server(b)
                .is_some_and(|server| server.operational == 2)
        });
        gateway.client_of("b");
    }
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
#[test]
fn an_instance_that_is_killed_costs_the_calls_in_flight_and_no_new_connection() {
    const CLIENTS: usize = 4;
    let mut scene = Scene::new(&["a", "b", "c"]);
    let gateways = scene.gateways(&tools::HAPROXY_VERSIONS);
    let callers: Vec<Callers> = gateways
        .iter()
        .map(|one| {
            Callers::start(
                one.address,
                &Form::default(),
                CLIENTS,
                Duration::from_millis(10),
            )
        })
        .collect();
    for callers in &callers {
        wait_for(LIMIT, "calls to all instances", || {
            callers
                .look(|tally| tally.connections.len() == 3)
                .then_some(())
        })
        .unwrap();
    }
    let in_flight: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            let mut client = gateway.client_of("c");
            std::thread::spawn(move || client.launch(LIMIT))
        })
        .collect();
    scene.instance("c").kill();
    let killed = Instant::now();
    for gateway in &gateways {
        // It has the fewest connections now, so these are tried there first.
        let mut new: Vec<_> = (0..3).map(|_| gateway.client()).collect();
        for client in &mut new {
            assert_ne!(client.version().unwrap(), "c", "{}", gateway.version);
        }
    }
    for call in in_flight {
        call.join().unwrap().unwrap_err();
    }
    // Until long after the check has found it.
    let c = scene.instance("c").address;
    for (gateway, callers) in gateways.iter().zip(&callers) {
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
    }
    let mut tried_again = 0;
    for (gateway, callers) in gateways.iter().zip(callers) {
        let version = gateway.version;
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
        tried_again += again + elsewhere;
        let connections: u64 = tally.connections.values().sum();
        measured::note(
            "airavata",
            &format!("HAProxy {version}, one of three instances killed under {CLIENTS} clients"),
            format!(
                "{} of {} calls lost in flight, none of the connections of after the kill ({connections} in all), {} connections tried again, slowest call {} ms",
                lost.len(),
                tally.all() + lost.len() as u64,
                again + elsewhere,
                tally.slowest.as_millis()
            ),
        );
    }
    assert!(tried_again > 0);
    // Another one in its place.
    scene.add("c");
    for gateway in &gateways {
        gateway.client_of("c");
    }
}

/// Maintenance in Consul: no new connection, and those that there are go on as long as their clients want.
#[test]
fn an_instance_that_drains_finishes_its_calls_and_gets_no_new_connection() {
    let scene = Scene::new(&["a", "b"]);
    let gateways = scene.gateways(&tools::HAPROXY_VERSIONS);
    let b = scene.instances[1].address;
    let workers: Vec<String> = gateways.iter().map(Gateway::worker).collect();
    let mut kept: Vec<_> = gateways.iter().map(|one| one.client_of("b")).collect();
    let in_flight: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            let mut client = gateway.client_of("b");
            std::thread::spawn(move || client.launch(Duration::from_secs(4)))
        })
        .collect();

    scene.consul.maintenance("b", true).unwrap();
    for (gateway, client) in gateways.iter().zip(&mut kept) {
        gateway.wait("b to drain", || {
            gateway.server(b).is_some_and(|server| server.admin != 0)
        });
        for _ in 0..20 {
            assert_eq!(gateway.client().version().as_deref(), Ok("a"));
            assert_eq!(client.version().as_deref(), Ok("b"), "{}", gateway.version);
        }
    }
    for call in in_flight {
        assert_eq!(call.join().unwrap().as_deref(), Ok("b"));
    }
    for (gateway, mut client) in gateways.iter().zip(kept) {
        assert_eq!(client.version().as_deref(), Ok("b"), "{}", gateway.version);
        drop(client);
        gateway.wait("b to be gone", || gateway.server(b).is_none());
    }

    scene.consul.maintenance("b", false).unwrap();
    for (gateway, worker) in gateways.iter().zip(workers) {
        gateway.client_of("b");
        assert_eq!(gateway.worker(), worker, "{} was reloaded", gateway.version);
    }
}
