//! Services with `urlprefix-` tags are routed by a real HAProxy, with no template written by the user.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use support::backend::Backend;
use support::consul::{Consul, instance};
use support::gatewright::Setup;
use support::haproxies::{Version, oldest};
use support::haproxy::HAProxy;
use support::process::{self, Process};
use support::traffic::{Limits, Report, Traffic};
use support::{http, measured, ports, tools, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// `run --routes` for a Consul, and where it listens.
fn routed(consul: &Consul) -> (Setup, SocketAddr) {
    routed_by(consul, &oldest(), "")
}

/// The same by some HAProxy and with more settings.
fn routed_by(consul: &Consul, version: &Version, more: &str) -> (Setup, SocketAddr) {
    let [port] = ports::free().unwrap();
    let entrance = at(port);
    let setup = Setup::new()
        .unwrap()
        .env("CONSUL_HTTP_ADDR", &consul.url())
        .argument("--routes")
        .argument("--listen")
        .argument(&entrance.to_string());
    setup
        .settings(&format!(
            "[haproxy]\nmode = \"supervise\"\nbinary = \"{}\"\n[state]\ndirectory = \"{{dir}}state\"\n[catalog]\nallow_loopback = true\n{more}",
            version.program().display()
        ))
        .unwrap();
    (setup, entrance)
}

/// Renders the routes of `catalog.json`, writes the maps and pages, and gives the configuration.
fn rendered(setup: &Setup, entrance: SocketAddr) -> String {
    rendered_by(setup, entrance, &["--routes"])
}

/// The same for other shipped templates.
fn rendered_by(setup: &Setup, entrance: SocketAddr, words: &[&str]) -> String {
    let (listen, file) = (entrance.to_string(), setup.path("gatewright.toml"));
    let place = [
        "--listen",
        &listen,
        "-c",
        &file,
        "--catalog",
        "catalog.json",
    ];
    let words = [&["render"], words, &place].concat();
    let output = setup.call(&words).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // One file alone is printed without its name.
    let mut config = (!text.starts_with("==> ") && output.status.success()).then(|| text.clone());
    for part in text.split("==> ").skip(1) {
        let (destination, content) = part.split_once(" <==\n").unwrap();
        match destination.ends_with("haproxy.cfg") {
            true => config = Some(content.to_owned()),
            false => std::fs::write(destination, content).unwrap(),
        }
    }
    config.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The status of an answer, and its head and body.
fn ask(entrance: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    ask_raw(entrance, request.as_bytes())
}

/// The same for the lines of a request as they are.
fn ask_raw(entrance: SocketAddr, request: &[u8]) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(entrance).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(&[request, b"Connection: close\r\n\r\n"].concat())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or(0), answer)
}

mod conformance;
mod generated;
mod h2;
mod headers;
mod hosts;
mod live;
mod neighbours;
mod owners;
mod paths;
mod upstreams;
