//! Lists of catalogs, requests and the answers that Fabio's documentation promises, through a real HAProxy;
//! and through Fabio itself where there is one.

use std::path::Path;

use super::live::Instances;
use super::*;
use support::haproxies::{Version, haproxies, oldest};
use support::temp;

#[haproxies(ends)]
fn routes_are_tried_in_fabios_order(version: Version) {
    conforms("order", &version);
}

#[test]
fn every_option_does_what_fabio_does_and_broken_access_rules_close() {
    conforms("options", &oldest());
}

#[test]
fn another_prefix_and_other_states_are_routed_where_the_parameters_say_so() {
    let setup = Setup::new().unwrap();
    let one = |tag: &str, status: &str| json!([{ "Address": "127.0.0.1", "Port": 8001, "Tags": [tag], "Status": status }]);
    let catalog = json!({ "services": {
        "good": one("gw-good.org/", "passing"), "ill": one("gw-ill.org/", "warning"),
        "dead": one("gw-dead.org/", "critical"), "fabio": one("urlprefix-fabio.org/", "passing"),
    }});
    setup.file("catalog.json", &catalog.to_string()).unwrap();
    let routes = |parameters: &str| -> Value {
        setup
            .settings(&format!("[state]\ndirectory = \"{{dir}}\"\n{parameters}"))
            .unwrap();
        let file = setup.path("gatewright.toml");
        let words = ["routes", "--json", "-c", &file, "--catalog", "catalog.json"];
        let output = setup.call(&words).unwrap();
        let table: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let up = |route: &Value| json!([route["source"], route["targets"][0]["up"]]);
        table["routes"].as_array().unwrap().iter().map(up).collect()
    };
    assert_eq!(routes(""), json!([["fabio.org/", true]]));
    let prefix = "[parameters]\ntag_prefix = \"gw-\"\n";
    let states = |ill: bool| json!([["dead.org/", false], ["good.org/", true], ["ill.org/", ill]]);
    let sorted = |table: Value| {
        let mut list = table.as_array().unwrap().clone();
        list.sort_by_key(Value::to_string);
        Value::Array(list)
    };
    assert_eq!(sorted(routes(prefix)), states(false));
    let warning = format!("{prefix}route_status = \"passing,warning\"\n");
    assert_eq!(sorted(routes(&warning)), states(true));
}

/// Each of them, with the answers in which it is known to differ: shown, and no others.
#[test]
fn the_same_lists_run_through_fabio_where_there_is_one() {
    let Some(program) = tools::fabio().unwrap() else {
        measured::note("fabio", "lists of routes compared", "none: no Fabio here");
        return;
    };
    for name in ["order", "options", "paths"] {
        let list = List::read(name);
        let consul = Consul::start().unwrap();
        let echo = Echo::start(&list.services);
        for (service, port) in &echo.ports {
            let mut body = instance(service, service, at(*port));
            body["Tags"] = list.services[service].clone();
            let status = if service == "down" {
                "critical"
            } else {
                "passing"
            };
            body["Check"] =
                json!({"CheckID": format!("check-{service}"), "TTL": "24h", "Status": status});
            consul.register(&body).unwrap();
        }
        let page = "<h1>There is no such route</h1>";
        consul.set_key("fabio/noroute.html", page).unwrap();
        let fabio = Fabio::start(&program, &consul, list.routed);
        let mut differs = 0;
        let mut wrong = Vec::new();
        for request in &list.requests {
            let (status, text) = request.of_fabio();
            if (status, text) != (request.status, &request.text) {
                differs += 1;
                println!("{name}: Fabio answers {status} {text:?} to {request:?}");
            }
            let (got, whole) = request.ask(fabio.entrance);
            if got != status || !whole.contains(text) {
                wrong.push(format!("{request:?} got {got} {whole}"));
            }
        }
        let count = format!(
            "{} requests, {differs} answered otherwise",
            list.requests.len()
        );
        measured::note("fabio", name, count);
        assert!(wrong.is_empty(), "{name}: {}", wrong.join("\n"));
    }
}

/// What the test of the same name does to HAProxy.
#[test]
fn an_instance_that_is_killed_costs_requests_of_fabio_where_there_is_one() {
    let Some(program) = tools::fabio().unwrap() else {
        measured::note(
            "fabio",
            "requests that a killed instance costs",
            "no Fabio here",
        );
        return;
    };
    let consul = Consul::start().unwrap();
    let mut instances = Instances::start(&consul);
    let fabio = Fabio::start(&program, &consul, 3);
    let report = instances.killed_under_load(&consul, fabio.entrance);
    measured::note(
        "fabio",
        "one of three instances killed under 8 clients, 3 times: failed requests",
        format!("{} of {}", report.failed, report.ok() + report.failed),
    );
}

/// A real Fabio.
struct Fabio {
    entrance: SocketAddr,
    _directory: tempfile::TempDir,
    _process: Process,
}

impl Fabio {
    /// Starts it and waits until it has so many routes.
    fn start(program: &Path, consul: &Consul, routes: usize) -> Fabio {
        let directory = temp::directory().unwrap();
        let users = directory.path().join("users");
        std::fs::write(&users, format!("user:{FABIO_HASH}\n")).unwrap();
        let [entrance, page] = ports::free().unwrap();
        let words = [
            "-insecure".to_owned(),
            format!("-proxy.addr=127.0.0.1:{entrance}"),
            format!("-ui.addr=127.0.0.1:{page}"),
            format!("-registry.consul.addr={}", consul.address()),
            "-registry.consul.register.enabled=false".to_owned(),
            format!("-proxy.auth=name=ops;type=basic;file={}", users.display()),
        ];
        let log = directory.path().join("log");
        let process = Process::start("Fabio", &mut process::command(program, words), &log).unwrap();
        wait_for(LIMIT, "Fabio's routes", || {
            let answer = http::get(at(page), "/api/routes").ok()?;
            let found: Vec<Value> = serde_json::from_str(&answer.body).ok()?;
            (found.len() >= routes).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error} {}", process.last_lines(20)));
        Fabio {
            entrance: at(entrance),
            _directory: directory,
            _process: process,
        }
    }
}

/// `secret` for Fabio, which knows other hashes than HAProxy.
const FABIO_HASH: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";
/// `secret` for HAProxy.
pub(super) const HASH: &str = "$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0";

/// Tags by service, and what is answered.
struct List {
    services: Value,
    requests: Vec<Request>,
    /// How many routes Fabio makes of it at least.
    routed: usize,
}

#[derive(Debug)]
struct Request {
    host: String,
    path: String,
    status: u16,
    /// What the head or the body holds.
    text: String,
    headers: Vec<(String, String)>,
    /// Status and text of Fabio, where they are others.
    fabio: Option<(u16, String)>,
}

impl List {
    fn read(name: &str) -> List {
        let path = tools::root().join(format!("tests/golden/routes/{name}.json"));
        let list: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let requests = list["requests"].as_array().unwrap();
        List {
            services: list["services"].clone(),
            requests: requests.iter().map(Request::read).collect(),
            routed: usize::try_from(list["fabio_routes"].as_u64().unwrap()).unwrap(),
        }
    }
}

impl Request {
    fn read(request: &Value) -> Request {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let status = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        let more = &request[4];
        let headers = more["headers"].as_object().into_iter().flatten();
        Request {
            host: text(&request[0]),
            path: text(&request[1]),
            status: status(&request[2]),
            text: text(&request[3]),
            headers: headers
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            fabio: more
                .get("fabio")
                .map(|answer| (status(&answer[0]), text(&answer[1]))),
        }
    }

    fn of_fabio(&self) -> (u16, &String) {
        match &self.fabio {
            Some((status, text)) => (*status, text),
            None => (self.status, &self.text),
        }
    }

    /// The status of the answer, and its head and body.
    fn ask(&self, entrance: SocketAddr) -> (u16, String) {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        ask(entrance, &self.host, &self.path, &headers)
    }
}

/// A real HAProxy with a port for each service, which tells what has arrived.
struct Echo {
    ports: BTreeMap<String, u16>,
    _haproxy: HAProxy,
}

impl Echo {
    fn start(tags: &Value) -> Echo {
        let mut config = String::from(
            "defaults\n    mode http\n    timeout connect 2s\n    timeout client 9s\n    timeout server 9s\n",
        );
        let mut ports = BTreeMap::new();
        for name in tags.as_object().unwrap().keys() {
            let [port] = ports::free().unwrap();
            let _ = write!(
                config,
                "frontend {name}\n    bind 127.0.0.1:{port}\n    http-request return status 200 content-type text/plain lf-string \"{name} %[path] host=%[req.hdr(host)] prefix=%[req.hdr(x-forwarded-prefix)] for=%[req.hdr(x-forwarded-for,1)] proto=%[req.hdr(x-forwarded-proto)] names=%[req.hdr_names(|)] named=%[req.fhdr(connection)] upgrades=%[req.hdr(upgrade)]\"\n"
            );
            ports.insert(name.clone(), port);
        }
        Echo {
            ports,
            _haproxy: HAProxy::start(&oldest(), &config).unwrap(),
        }
    }
}

/// A HAProxy on the routes that tags ask for.
pub(super) struct Gateway {
    /// Where clients ask.
    pub(super) entrance: SocketAddr,
    /// The rendered configuration.
    pub(super) config: String,
    /// It itself.
    pub(super) haproxy: HAProxy,
    _echo: Echo,
    _setup: Setup,
}

impl Gateway {
    /// Starts it on services with their tags. The service `down` is critical; `settings` are lines of settings.
    pub(super) fn start(version: &Version, tags: &Value, settings: &str) -> Gateway {
        Gateway::start_by(version, tags, settings, &["--routes"])
    }

    /// The same with other words for the shipped template.
    pub(super) fn start_by(
        version: &Version,
        tags: &Value,
        settings: &str,
        words: &[&str],
    ) -> Gateway {
        let echo = Echo::start(tags);
        let mut services = serde_json::Map::new();
        for (name, port) in &echo.ports {
            let status = if name == "down" {
                "critical"
            } else {
                "passing"
            };
            let one = json!([{ "Address": "127.0.0.1", "Port": port, "Tags": tags[name], "Status": status }]);
            services.insert(name.clone(), one);
        }
        let setup = Setup::new().unwrap();
        let catalog = json!({ "services": services });
        setup.file("catalog.json", &catalog.to_string()).unwrap();
        setup
            .settings(&format!("[state]\ndirectory = \"{{dir}}\"\n{settings}"))
            .unwrap();
        let [port] = ports::free().unwrap();
        let entrance = at(port);
        let config = rendered_by(&setup, entrance, words);
        Gateway {
            entrance,
            haproxy: HAProxy::start(version, &config).unwrap(),
            config,
            _echo: echo,
            _setup: setup,
        }
    }
}

impl Gateway {
    /// A map as it was rendered.
    pub(super) fn map(&self, name: &str) -> String {
        let line = self
            .config
            .lines()
            .find(|line| line.contains(&format!("/{name}")))
            .unwrap();
        let end = line.find(&format!("/{name}")).unwrap() + name.len() + 1;
        let begin = line[..end].rfind('(').unwrap() + 1;
        std::fs::read_to_string(&line[begin..end]).unwrap()
    }
}

/// Renders the catalog of a list, runs it, and compares each answer.
pub fn conforms(list: &str, version: &Version) {
    let list = List::read(list);
    let users = format!("[parameters.auth.ops]\nuser = \"{HASH}\"\n");
    let gateway = Gateway::start(version, &list.services, &users);
    let mut wrong = Vec::new();
    for request in &list.requests {
        let (status, whole) = request.ask(gateway.entrance);
        if status != request.status || !whole.contains(&request.text) {
            wrong.push(format!("{request:?} got {status} {whole}"));
        }
    }
    assert!(wrong.is_empty(), "{version}: {}", wrong.join("\n"));
}
