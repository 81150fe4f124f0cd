//! Services with `urlprefix-` tags are routed by a real HAProxy, with no template written by the user.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::consul::{Consul, instance};
use crate::support::gatewright::Setup;
use crate::support::haproxy::HAProxy;
use crate::support::traffic::{Limits, Traffic};
use crate::support::{http, measured, temp, tools, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// `run --routes` for a Consul, and where it listens.
fn routed(consul: &Consul) -> (Setup, SocketAddr) {
    let [port] = temp::free_ports().unwrap();
    let entrance = at(port);
    let setup = Setup::new()
        .unwrap()
        .env("CONSUL_HTTP_ADDR", &consul.url())
        .argument("--routes")
        .argument("--listen")
        .argument(&entrance.to_string());
    setup
        .settings(&format!(
            "[haproxy]\nmode = \"supervise\"\nbinary = \"{}\"\n[state]\ndirectory = \"{{dir}}state\"\n",
            tools::haproxy("2.6").unwrap().display()
        ))
        .unwrap();
    (setup, entrance)
}

#[test]
fn routes_are_tried_in_fabios_order() {
    conforms("order", &["2.6", "3.2"]);
}

#[test]
fn every_option_does_what_fabio_does_and_broken_access_rules_close() {
    conforms("options", &["2.6"]);
}

/// Renders the catalog of a list, runs it, and compares each answer.
fn conforms(list: &str, versions: &[&str]) {
    let path = tools::root().join(format!("tests/golden/routes/{list}.json"));
    let list: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut echo = String::from(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 9s\n    timeout server 9s\n",
    );
    let mut services = serde_json::Map::new();
    for (name, tags) in list["services"].as_object().unwrap() {
        let [port] = temp::free_ports().unwrap();
        let _ = write!(
            echo,
            "frontend {name}\n    bind 127.0.0.1:{port}\n    http-request return status 200 content-type text/plain lf-string \"{name} %[path] host=%[req.hdr(host)] prefix=%[req.hdr(x-forwarded-prefix)]\"\n"
        );
        let status = if name == "down" {
            "critical"
        } else {
            "passing"
        };
        let one = json!([{ "Address": "127.0.0.1", "Port": port, "Tags": tags, "Status": status }]);
        services.insert(name.clone(), one);
    }
    let _echo = HAProxy::start("2.6", &echo).unwrap();
    let setup = Setup::new().unwrap();
    let catalog = json!({ "services": services });
    setup.file("catalog.json", &catalog.to_string()).unwrap();
    setup
        .settings("[state]\ndirectory = \"{dir}\"\n[parameters.auth.ops]\nuser = \"$5$abc$x\"\n")
        .unwrap();
    for version in versions {
        let [port] = temp::free_ports().unwrap();
        let (entrance, file) = (at(port), setup.path("gatewright.toml"));
        let words = [
            "render",
            "--routes",
            "--listen",
            &entrance.to_string(),
            "-c",
            &file,
            "--catalog",
            "catalog.json",
        ];
        let output = setup.call(&words).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut config = String::new();
        for part in text.split("==> ").skip(1) {
            let (destination, content) = part.split_once(" <==\n").unwrap();
            std::fs::write(destination, content).unwrap();
            if destination.ends_with("haproxy.cfg") {
                content.clone_into(&mut config);
            }
        }
        let haproxy = HAProxy::start(version, &config).unwrap();
        let mut wrong = Vec::new();
        for request in list["requests"].as_array().unwrap() {
            let text = |index: usize| request[index].as_str().unwrap();
            let (status, whole) = ask(entrance, text(0), text(1));
            if i64::from(status) != request[2].as_i64().unwrap() || !whole.contains(text(3)) {
                wrong.push(format!("{request} got {status} {whole}"));
            }
        }
        assert!(wrong.is_empty(), "{version}: {}", wrong.join("\n"));
        drop(haproxy);
    }
}

/// The status of an answer, and its head and body.
fn ask(entrance: SocketAddr, host: &str, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(entrance).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or(0), answer)
}

/// One of three instances dies without notice while eight clients ask: HAProxy tries another one.
#[test]
fn an_instance_that_dies_costs_no_request_and_changes_need_no_template() {
    let consul = Consul::start().unwrap();
    let (setup, entrance) = routed(&consul);
    let mut backends: Vec<Backend> = (0..3)
        .map(|number| Backend::start(&format!("web-{number}")).unwrap())
        .collect();
    for (number, backend) in backends.iter().enumerate() {
        let address = backend.address();
        consul
            .register(&json!({
                "Name": "web", "ID": format!("web-{number}"), "Address": "127.0.0.1",
                "Port": address.port(), "Tags": ["urlprefix-/"],
            }))
            .unwrap();
    }
    let _gatewright = setup.run().unwrap();
    wait_for(LIMIT, "a route", || {
        (http::get(entrance, "/").ok()?.status == 200).then_some(())
    })
    .unwrap();
    let limits = Limits {
        clients: 8,
        pause: Duration::from_millis(2),
        requests: u64::MAX,
        time: LIMIT,
    };
    let traffic = Traffic::start_kept(entrance, limits, &["web"]);
    let asked = |count: u64| {
        wait_for(LIMIT, "traffic", || {
            traffic.look(|report| (report.ok() > count).then_some(()))
        })
        .unwrap();
    };
    asked(500);
    drop(backends.pop());
    let now = traffic.look(|report| report.ok());
    asked(now + 3000);
    let report = traffic.stop();
    measured::note(
        "routes",
        "one of three instances dies under 8 clients: failed requests",
        format!("{} of {}", report.failed, report.ok() + report.failed),
    );
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}

/// A bad check, most likely: the guard keeps them, and HAProxy's own checks decide.
#[test]
fn b09_routes_keep_instances_whose_checks_turn_critical_at_once() {
    let consul = Consul::start().unwrap();
    let (setup, entrance) = routed(&consul);
    let backend = Backend::start("web").unwrap();
    let others: Vec<Backend> = (0..3).map(|_| Backend::start("web").unwrap()).collect();
    for (number, backend) in others.iter().chain([&backend]).enumerate() {
        let id = format!("web-{number}");
        let mut body = instance("web", &id, backend.address());
        body["Tags"] = json!(["urlprefix-/"]);
        body["Check"] =
            json!({"CheckID": format!("check-{id}"), "TTL": "24h", "Status": "passing"});
        consul.register(&body).unwrap();
    }
    let gatewright = setup.run().unwrap();
    let served = || http::get(entrance, "/").is_ok_and(|answer| answer.status == 200);
    wait_for(LIMIT, "a route", || served().then_some(())).unwrap();
    for number in 0..4 {
        consul.set_check(&format!("web-{number}"), "fail").unwrap();
    }
    wait_for(LIMIT, "the hold", || {
        gatewright.log().contains("are held").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    for _ in 0..20 {
        assert!(served(), "{}", gatewright.log());
    }
}
