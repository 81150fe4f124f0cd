//! Fabio's routes by the tags of Serf's members: no part of the shipped set asks for what only Consul has.

use std::net::{Ipv4Addr, SocketAddr};

use super::stage::LIMIT;
use support::backend::Backend;
use support::gatewright::Setup;
use support::haproxies::oldest;
use support::serf::Agent;
use support::{http, ports, wait_for};

#[test]
fn routes_come_from_tags_of_members_and_ask_for_no_key() {
    let balancer = Agent::start("lb", &[("role", "lb")], None).unwrap();
    let backend = Backend::start("gw0").unwrap();
    let port = backend.address().port().to_string();
    let tags = [("role", "web"), ("port", &port), ("tags", "urlprefix-/web")];
    let _member = Agent::start("gw0", &tags, Some(&balancer)).unwrap();
    for by_flag in [true, false] {
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let rpc = balancer.rpc().to_string();
        let setup = Setup::new().unwrap().argument("--routes");
        let (setup, source) = match by_flag {
            true => (setup.argument("--serf-addr").argument(&rpc), String::new()),
            false => (
                setup,
                format!("[catalog]\nsource = \"serf\"\n[serf]\naddresses = [\"{rpc}\"]\n"),
            ),
        };
        setup
            .settings(&format!(
                "{source}[parameters]\nlisten = \"{entrance}\"\nupstream_ca = \"/dev/null\"\n\
                 [haproxy]\nmode = \"supervise\"\nbinary = {:?}\nmaster_socket = \"{{dir}}master.sock\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n",
                oldest().program()
            ))
            .unwrap();
        let settings = setup.path("gatewright.toml");
        let table = setup.call(&["routes", "-c", &settings]).unwrap();
        let text = String::from_utf8_lossy(&table.stdout).into_owned();
        assert!(text.contains("/web"), "{text}{table:?}");
        let rendered = setup.call(&["render", "-c", &settings]).unwrap();
        assert!(rendered.status.success(), "{rendered:?}");
        let gatewright = setup.run().unwrap();
        let answers = |path: &str, status: u16, body: &str| {
            let what = format!("{body} at {path}");
            wait_for(LIMIT, &what, || {
                let answer = http::get(entrance, path).ok()?;
                (answer.status == status && answer.body.contains(body)).then_some(())
            })
            .unwrap_or_else(|error| panic!("{error} {:?}\n{}", setup.status(), gatewright.log()));
        };
        answers("/web", 200, "gw0");
        answers("/none", 404, "There is no such route");
    }
}
