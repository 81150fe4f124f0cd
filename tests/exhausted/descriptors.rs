//! Few file descriptors: HAProxy, files and the status have theirs before watches take the rest.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{LIMIT, warns};
use support::consul::Consul;
use support::haproxies::{Version, haproxies, newest, oldest};
use support::http::get;
use support::process::{Process, command};
use support::scene::{Given, Scene, filled};
use support::usage;

const SERVICES: usize = 100;

/// A backend of each service. HAProxy needs few descriptors for itself.
const MANY: &str = r#"global
    maxconn 8

defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
    http-request return status 200 content-type text/plain string here
{{#each (parameters "names") as |name|}}

backend {{name}}
{{#each (service name)}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
{{/each}}
"#;

fn through(limit: &str) -> Vec<String> {
    let script = format!("ulimit {limit}; exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

fn address(number: usize, host: u8) -> SocketAddr {
    SocketAddr::from(([127, 1, 0, host], 10_000 + number as u16))
}

fn service(number: usize, host: u8) -> Value {
    let (name, at) = (format!("s-{number:03}"), address(number, host));
    json!({ "Service": name, "ID": name, "Address": at.ip().to_string(), "Port": at.port() })
}

/// Gatewright under this limit, with a hundred services.
fn many(consul: &Consul, version: &Version, limit: &str) -> Given {
    let services: Vec<Value> = (0..SERVICES).map(|number| service(number, 1)).collect();
    consul.catalog_register_all("elsewhere", &services).unwrap();
    let names: Vec<String> = (0..SERVICES)
        .map(|number| format!("s-{number:03}"))
        .collect();
    Given::consul(&consul.url())
        .binary(version.program())
        .template(MANY)
        .set("status", "listen = \"127.0.0.1:0\"")
        .more(&format!("[parameters]\nnames = {names:?}\n"))
        .through(&through(limit))
        .limit(Duration::from_secs(60))
}

/// A HAProxy that Gatewright finds running, under the limits of the test: the newest needs more than 64 for itself.
fn beside(given: Given, version: &Version) -> (Given, Process) {
    let given = given
        .unset("haproxy", "mode")
        .set("haproxy", "mode = \"master\"");
    let head = MANY.split("{{#each").next().unwrap();
    let text = filled(head, &given.setup, given.entrance);
    given.setup.file("haproxy.cfg", &text).unwrap();
    let (socket, file) = (
        given.setup.path("master.sock"),
        given.setup.path("haproxy.cfg"),
    );
    let words = ["-W", "-db", "-S", &socket, "-f", &file].map(str::to_owned);
    let mut command = command(version.program(), words);
    let log = given.setup.directory().join("haproxy.log");
    let haproxy = Process::start("HAProxy", &mut command, &log).unwrap();
    (given, haproxy)
}

/// The addresses of the file.
fn served(scene: &Scene) -> BTreeSet<SocketAddr> {
    let text = scene.file();
    let lines = text.lines().map(str::trim);
    let servers = lines.filter(|line| line.starts_with("server "));
    let addresses = servers.filter_map(|line| line.split(' ').nth(2)?.parse().ok());
    addresses.collect()
}

/// All services are served, and each is still watched when its turn comes.
fn serves_all(scene: &mut Scene, consul: &Consul, limit: usize) -> Value {
    let mut wanted: BTreeSet<_> = (0..SERVICES).map(|number| address(number, 1)).collect();
    let whole = |scene: &Scene, wanted: &BTreeSet<SocketAddr>| {
        scene.confirmed("all services", |status| {
            served(scene) == *wanted && status["applied"]["confirmed"] == true
        })
    };
    whole(scene, &wanted);
    for number in [0, SERVICES / 2, SERVICES - 1] {
        wanted.remove(&address(number, 1));
        wanted.insert(address(number, 2));
        let node = json!({
            "Node": "elsewhere", "Address": "127.0.0.1", "Service": service(number, 2),
        });
        consul.catalog_register(&node).unwrap();
    }
    let status = whole(scene, &wanted);
    let open = usage::descriptors(scene.gatewright.process().pid()).unwrap();
    assert!(open < limit, "{open} of {limit}");
    println!("{open} of {limit} descriptors");
    status
}

/// Clients of the status that stay keep nobody from asking.
fn silent(status: &Value) -> (Vec<TcpStream>, SocketAddr) {
    let listening: SocketAddr = status["listening"].as_str().unwrap().parse().unwrap();
    let open = |_| TcpStream::connect(listening).unwrap();
    let silent = (0..100).map(open).collect();
    assert_eq!(get(listening, "/healthz").unwrap().status, 200);
    (silent, listening)
}

// M03
#[haproxies(ends)]
fn with_64_descriptors_a_hundred_services_are_served_and_the_status_answers(version: Version) {
    let consul = Consul::start().unwrap();
    let (given, _haproxy) = beside(many(&consul, &version, "-n 64"), &version);
    let mut scene = given.run();
    let status = serves_all(&mut scene, &consul, 64);
    assert!(warns(&status, &["ulimit -n", "share"]), "{status:#?}");
    let (_silent, _) = silent(&status);
    // A reload beside them: validation, files and the master's socket have their descriptors.
    scene.template(&MANY.replace("maxconn 8", "maxconn 9"));
    scene.confirmed("the reload", |status| {
        scene.file().contains("maxconn 9") && status["applied"]["confirmed"] == true
    });
    assert_eq!(get(scene.entrance, "/").unwrap().body, "here");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// M03
#[haproxies(ends)]
fn with_few_descriptors_haproxy_is_started_again(version: Version) {
    for (words, limit) in [("-n 256", 256), ("-S -n 64", 20_000)] {
        let consul = Consul::start().unwrap();
        let mut scene = many(&consul, &version, words).run();
        let status = serves_all(&mut scene, &consul, limit);
        assert!(!warns(&status, &["ulimit -n"]), "{status:#?}");
        let (_silent, listening) = silent(&status);
        let status = scene.until("the worker", |status| status["haproxy"]["worker"].is_i64());
        let worker = status["haproxy"]["worker"].as_i64().unwrap();
        kill(Pid::from_raw(worker as i32), Signal::SIGKILL).unwrap();
        scene.until("another worker", |status| {
            let now = &status["haproxy"]["worker"];
            status["haproxy"]["reachable"] == true && now.is_i64() && now.as_i64() != Some(worker)
        });
        assert_eq!(get(scene.entrance, "/").unwrap().body, "here");
        assert_eq!(get(listening, "/healthz").unwrap().status, 200);
        assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
    }
}

/// The soft limit of a process.
fn soft_limit(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let words = line.unwrap().split_whitespace();
    words.rev().nth(2).unwrap().to_owned()
}

// M03
#[test]
fn gatewright_takes_the_hard_limit_and_its_children_see_the_former_one() {
    let consul = Consul::start().unwrap();
    let version = newest();
    let given = Given::consul(&consul.url()).instances(&consul, &["one"]);
    let script = |name: &str, program: &str| {
        let text = format!(
            "#!/bin/sh\necho $(ulimit -S -n) $(ulimit -H -n) >> {}\nexec {program} \"$@\"\n",
            given.setup.path("limits")
        );
        given.setup.script(name, &text).unwrap();
    };
    script("haproxy", &version.program().display().to_string());
    let program = given.setup.directory().join("haproxy");
    let mut scene = given
        .binary(&program)
        .through(&through("-S -n 300; ulimit -H -n 900"))
        .serve();
    let pid = scene.gatewright.process().pid();
    // It is the former one while a child starts.
    scene.wait("the raised limit", || {
        (soft_limit(pid) == "900").then_some(())
    });
    scene.goes_on(&consul, "changed");
    let seen = scene.setup.read("limits").unwrap();
    assert!(seen.lines().count() > 1, "{seen}");
    assert!(seen.lines().all(|line| line == "300 900"), "{seen}");
    scene.end();
}

// M03
#[test]
fn a_reload_command_sees_the_former_limit_too() {
    let consul = Consul::start().unwrap();
    let given = Given::consul(&consul.url()).instances(&consul, &["one"]);
    let text = format!("#!/bin/sh\nulimit -S -n > {}\n", given.setup.path("limit"));
    given.setup.script("reload", &text).unwrap();
    let command = format!("command = [{:?}]", given.setup.path("reload"));
    let mut scene = given
        .unset("haproxy", "mode")
        .unset("haproxy", "master_socket")
        .set("haproxy", &command)
        .binary(oldest().program())
        .through(&through("-S -n 300; ulimit -H -n 900"))
        .run();
    let seen = scene.wait("the reload", || {
        scene
            .setup
            .read("limit")
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    assert_eq!(seen, "300\n");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}
