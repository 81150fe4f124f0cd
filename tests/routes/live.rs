//! `run --routes` beside a real Consul: instances come, go, die and change while clients ask.

use std::process::Command;

use super::*;
use support::gatewright;
use support::haproxies::oldest;

/// Eight clients for ten seconds, three times over; after two of them one of three instances is killed
/// with SIGKILL. HAProxy tries another one.
#[test]
fn an_instance_that_is_killed_costs_no_request() {
    let consul = Consul::start().unwrap();
    let (setup, entrance) = routed(&consul);
    let mut instances = Instances::start(&consul);
    let _gatewright = setup.run().unwrap();
    let report = instances.killed_under_load(&consul, entrance);
    measured::note(
        "a6",
        "one of three instances killed under 8 clients, 3 times: failed requests",
        format!("{} of {}", report.failed, report.ok() + report.failed),
    );
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}

/// Three processes that answer as `web`, routed by their tags.
pub(super) struct Instances(Vec<(String, HAProxy)>);

impl Instances {
    pub(super) fn start(consul: &Consul) -> Instances {
        let mut instances = Instances(Vec::new());
        for number in 0..3 {
            instances.add(consul, number);
        }
        instances
    }

    fn add(&mut self, consul: &Consul, number: usize) {
        let [port] = ports::free().unwrap();
        let id = format!("web-{number}");
        let config = format!(
            "defaults\n    mode http\n    timeout connect 2s\n    timeout client 9s\n    timeout server 9s\nfrontend f\n    bind 127.0.0.1:{port}\n    http-request return status 200 content-type text/plain string {id}\n"
        );
        let process = HAProxy::start(&oldest(), &config).unwrap();
        let mut body = instance("web", &id, at(port));
        body["Tags"] = json!(["urlprefix-/"]);
        body["Check"] = json!({"TCP": at(port).to_string(), "Interval": "1s", "Status": "passing"});
        consul.register(&body).unwrap();
        self.0.push((id, process));
    }

    /// Half of the clients keep their connections.
    pub(super) fn killed_under_load(&mut self, consul: &Consul, entrance: SocketAddr) -> Report {
        let mut whole = Report::default();
        let limits = Limits {
            clients: 4,
            pause: Duration::from_millis(2),
            requests: u64::MAX,
            time: Duration::from_secs(10),
        };
        for round in 0..3 {
            let all: BTreeSet<String> = self.0.iter().map(|(id, _)| id.clone()).collect();
            wait_for(LIMIT, "all three to be asked", || {
                let names =
                    (0..30).map(|_| http::get(entrance, "/").ok().map(|answer| answer.body));
                (names.flatten().collect::<BTreeSet<_>>() == all).then_some(())
            })
            .unwrap();
            let kept = Traffic::start_kept(entrance, limits, &["web"]);
            let fresh = Traffic::start(entrance, limits);
            std::thread::sleep(Duration::from_secs(2));
            let (id, mut killed) = self.0.remove(0);
            killed.process().kill();
            drop(killed);
            std::thread::sleep(Duration::from_secs(8));
            whole.append(kept.stop());
            whole.append(fresh.stop());
            consul.deregister(&id).unwrap();
            self.add(consul, 3 + round);
        }
        whole
    }
}

/// For people.
fn status(setup: &Setup) -> String {
    let settings = setup.path("gatewright.toml");
    let output = Command::new(gatewright::binary().unwrap())
        .args(["status", "-c", &settings])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What the running HAProxy takes by commands, and what only a reload brings.
#[test]
fn instances_weights_and_paths_come_without_a_reload_and_services_with_one() {
    let consul = Consul::start().unwrap();
    let (setup, entrance) = routed(&consul);
    let backends: Vec<Backend> = ["web", "web", "one", "other", "extra"]
        .map(|name| Backend::start(name).unwrap())
        .into();
    let register = |number: usize, tags: &[&str]| {
        let backend = &backends[number];
        let mut body = instance(backend.name(), &format!("i{number}"), backend.address());
        body["Tags"] = json!(tags);
        consul.register(&body).unwrap();
    };
    register(0, &["urlprefix-/web"]);
    register(2, &["urlprefix-/both weight=0.2"]);
    register(3, &["urlprefix-/both weight=0.8", "urlprefix-APIServer/"]);
    let gatewright = setup.run().unwrap();
    let answers = |path: &str, name: &str| {
        wait_for(LIMIT, &format!("{name} at {path}"), || {
            let answer = http::get(entrance, path).ok()?;
            answer.body.contains(name).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    };
    let reloads = || {
        setup.status().unwrap()["haproxy"]["reloads"]
            .as_u64()
            .unwrap()
    };
    // In turns by weight, so that the shares of a hundred are exact.
    let share = |percent: usize| {
        wait_for(LIMIT, "the shares", || {
            let asked = (0..100).filter_map(|_| http::get(entrance, "/both").ok());
            (asked.filter(|answer| answer.body == "one").count() == percent).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    };
    answers("/web", "web");
    share(20);
    // HAProxy serves a moment before it is confirmed and told of.
    wait_for(LIMIT, "the first set to be told of", || {
        (reloads() > 0).then_some(())
    })
    .unwrap();
    let before = reloads();
    // A path, an instance, a weight.
    register(0, &["urlprefix-/web", "urlprefix-/new"]);
    answers("/new", "web");
    register(1, &["urlprefix-/web", "urlprefix-/new"]);
    wait_for(LIMIT, "the second instance", || {
        let _ = http::get(entrance, "/web");
        (backends[1].requests() > 0).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    register(2, &["urlprefix-/both weight=0.5"]);
    register(3, &["urlprefix-/both weight=0.5", "urlprefix-APIServer/"]);
    share(50);
    assert_eq!(reloads(), before, "{}", gatewright.log());
    // A Thrift service, most likely.
    let warned = "APIServer/";
    gatewright
        .wait_for_log(LIMIT, &["WARN", warned, "proto=tcp"])
        .unwrap();
    wait_for(LIMIT, "the warning in the status", || {
        status(&setup).contains(warned).then_some(())
    })
    .unwrap();
    // A service that was not routed before: by its override.
    let line = format!("route add extra /extra http://{}/", backends[4].address());
    consul.set_key("fabio/config", &line).unwrap();
    answers("/extra", "extra");
    wait_for(LIMIT, "one reload", || {
        (reloads() == before + 1).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    // Pages are texts of the configuration.
    assert_eq!(http::get(entrance, "/none").unwrap().status, 404);
    consul
        .set_key("fabio/noroute.html", "<h1>Nothing here</h1>")
        .unwrap();
    answers("/none", "<h1>Nothing here</h1>");
    consul
        .set_key("fabio/noroute.html", "<h1>Nor here</h1>")
        .unwrap();
    answers("/none", "<h1>Nor here</h1>");
}

// B09
/// A bad check, most likely: the guard keeps them, and HAProxy's own checks decide.
#[test]
fn routes_keep_instances_whose_checks_turn_critical_at_once() {
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
