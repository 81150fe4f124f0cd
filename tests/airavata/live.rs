//! The set-ups of the course and of gRPC under a live Gatewright and Consul: instances come, go and change, and
//! what the operator sets in Consul's keys arrives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::at;
use super::gateway::{Gateway, LIMIT, REPLY, Scene};
use support::backend::Backend;
use support::gatewright::Setup;
use support::haproxies::{Version, haproxies};
use support::thrift::{Client, Form};
use support::{http, ports, wait_for};

/// A set-up that listens there.
fn started(
    scene: &Scene,
    version: &Version,
    set_up: (&str, &'static str),
    listen: SocketAddr,
    more: &str,
) -> Gateway {
    let setup = Setup::new().unwrap();
    let parameters = format!("listen = \"{listen}\"\n{more}");
    Gateway::of(setup, scene, version, set_up, listen, &parameters)
}

/// Two instances of `API-Server`. Nothing is applied until the password of the statistics is in Consul.
#[haproxies(ends)]
fn the_course_s_set_up_waits_for_its_password_and_follows_instances_and_keys(version: Version) {
    let form = Form {
        framed: false,
        service: Some("CredentialManagementService".to_owned()),
    };
    let mut scene = Scene::empty();
    scene.add_to("API-Server", "a", &form);
    scene.add_to("API-Server", "b", &form);
    let [listen, stats] = ports::free().unwrap().map(at);
    let parameters = format!("stats_port = \"{stats}\"\n");
    let set_up = ("2017-course", "apis_backend");
    let gateway = started(&scene, &version, set_up, listen, &parameters);
    gateway
        .setup
        .wait_for_status(LIMIT, "the missing key to be named", |status| {
            (waits(status) && status["ready"] == false).then_some(())
        })
        .unwrap();
    TcpStream::connect(listen).unwrap_err();

    scene
        .consul
        .set_key("config/haproxy/password", "first")
        .unwrap();
    let is_up = |address: SocketAddr, up: bool| {
        gateway.wait(&format!("{address} to be up: {up}"), || {
            let server = gateway.server(address);
            up == server.is_some_and(|one| one.operational == 2 && one.admin == 0)
        });
    };
    let (a, b) = (scene.instances[0].address, scene.instances[1].address);
    is_up(a, true);
    is_up(b, true);
    let answers = || Client::connect(listen, &form, REPLY)?.version();
    let mut seen: Vec<String> = (0..4).map(|_| answers().unwrap()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["a", "b"], "{version}");
    assert_eq!(statistics(stats, "admin:first"), 200, "{version}");
    assert_eq!(statistics(stats, "admin:second"), 401, "{version}");

    // One goes and comes back, without a reload.
    let worker = gateway.worker();
    scene.consul.set_check("b", "fail").unwrap();
    is_up(b, false);
    for _ in 0..4 {
        assert_eq!(answers().as_deref(), Ok("a"), "{version}");
    }
    scene.consul.set_check("b", "pass").unwrap();
    is_up(b, true);
    assert_eq!(gateway.worker(), worker, "{version} was reloaded");

    // The password and the number of connections are HAProxy's own settings: by a reload.
    let mut kept = Client::connect(listen, &form, REPLY).unwrap();
    kept.version().unwrap();
    scene
        .consul
        .set_key("config/haproxy/maxconn", "1234")
        .unwrap();
    scene
        .consul
        .set_key("config/haproxy/password", "second")
        .unwrap();
    wait_for(LIMIT, "the second password", || {
        (statistics(stats, "admin:second") == 200).then_some(())
    })
    .unwrap();
    gateway.wait("1234 connections", || gateway.information("Maxconn: 1234"));
    kept.version().unwrap();
    // The password is gone from Consul: what runs stays as it is.
    let worker = gateway.worker();
    scene.consul.delete_key("config/haproxy/password").unwrap();
    gateway
        .setup
        .wait_for_status(LIMIT, "the missing key to be named again", |status| {
            waits(status).then_some(())
        })
        .unwrap();
    assert_eq!(statistics(stats, "admin:second"), 200, "{version}");
    answers().unwrap();
    assert_eq!(gateway.worker(), worker, "{version} was reloaded");
}

/// Whether nothing new is applied because the password is not there.
fn waits(status: &Value) -> bool {
    let missing = &status["waiting_for"];
    missing.to_string().contains("config/haproxy/password")
}

/// What the statistics page answers to this user and password.
fn statistics(address: SocketAddr, login: &str) -> u16 {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REPLY))?;
        let login = BASE64_STANDARD.encode(login);
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: stats\r\nConnection: close\r\nAuthorization: Basic {login}\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.unwrap_or(0)
}

/// REST of the unified server: weights, maintenance and an instance that leaves, without a reload.
#[haproxies(ends)]
fn the_grpc_set_up_follows_instances_without_a_reload(version: Version) {
    let scene = Scene::empty();
    let (one, two) = (
        Backend::start("one").unwrap(),
        Backend::start("two").unwrap(),
    );
    for backend in [&one, &two] {
        let consul = &scene.consul;
        consul
            .register_checked("airavata", backend.name(), backend.address())
            .unwrap();
    }
    let [listen] = ports::free().unwrap().map(at);
    let parameters = "check_path = \"/health\"\ncheck_interval = \"200ms\"\n";
    let set_up = ("grpc", "airavata-rest");
    let gateway = started(&scene, &version, set_up, listen, parameters);
    let serves = |names: &[&str]| {
        gateway.wait(&format!("{names:?} to serve"), || {
            let mut seen: Vec<String> = (0..4)
                .filter_map(|_| http::get(listen, "/api/v1/x").ok())
                .filter(|answer| answer.status == 200)
                .map(|answer| answer.body)
                .collect();
            seen.sort();
            let all = seen.len() == 4;
            seen.dedup();
            all && seen == names
        });
    };
    serves(&["one", "two"]);
    let worker = gateway.worker();
    scene.consul.maintenance("two", true).unwrap();
    serves(&["one"]);
    scene.consul.maintenance("two", false).unwrap();
    serves(&["one", "two"]);
    // Sick for HAProxy's check, and well for Consul.
    one.set_healthy(false);
    serves(&["two"]);
    one.set_healthy(true);
    serves(&["one", "two"]);
    scene.consul.deregister("one").unwrap();
    serves(&["two"]);
    assert_eq!(gateway.worker(), worker, "{version} was reloaded");
}
