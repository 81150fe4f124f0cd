//! A catalog file that is replaced, broken and removed while it is in use.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::stage::{LIMIT, prepare, shows};
use support::backend::Backend;
use support::gatewright::Setup;
use support::haproxies::oldest;
use support::traffic::{self, Limits, Traffic};
use support::{ports, tools, wait_for};

/// A catalog with these instances.
fn catalog(instances: &[(&str, SocketAddr)]) -> Value {
    let list: Vec<Value> = instances
        .iter()
        .map(|(id, address)| {
            json!({"ID": id, "Address": address.ip().to_string(), "Port": address.port(), "Tags": ["prod"]})
        })
        .collect();
    json!({"services": {"airavata-api": list}})
}

/// As most programs replace a file: written beside it and renamed.
fn replace(setup: &Setup, text: &str) {
    setup.file("catalog.json.new", text).unwrap();
    let from = setup.path("catalog.json.new");
    std::fs::rename(from, setup.path("catalog.json")).unwrap();
}

#[test]
fn a_file_is_followed_and_a_broken_or_missing_one_changes_nothing() {
    let one = Backend::start("one").unwrap();
    let two = Backend::start("two").unwrap();
    let three = Backend::start("three").unwrap();
    let setup = Setup::new().unwrap();
    let source = "[catalog]\nsource = \"file\"\nfile = \"catalog.json\"\n";
    let entrance = prepare(&setup, source);

    // A start without the file waits for it.
    let mut gatewright = setup.run().unwrap();
    gatewright
        .wait_for_log(LIMIT, &["The catalog file at", "cannot be used"])
        .unwrap();
    replace(
        &setup,
        &catalog(&[("one", one.address()), ("two", two.address())]).to_string(),
    );

    // So many that no instance is left out by chance, whatever the other clients take.
    let send = || traffic::send(entrance, 60);
    let answered_by = |names: &[&str]| {
        wait_for(LIMIT, &format!("answers by {names:?}"), || {
            let report = send();
            report
                .answers
                .keys()
                .map(String::as_str)
                .eq(names.iter().copied())
                .then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", setup.read("gatewright.log").unwrap()));
    };
    answered_by(&["one", "two"]);
    let limits = Limits {
        clients: 2,
        pause: std::time::Duration::from_millis(5),
        requests: 50_000,
        time: std::time::Duration::from_secs(100),
    };
    let running = Traffic::start(entrance, limits);
    let counted = |what: &str, reads: &dyn Fn(&Value) -> bool| {
        setup
            .wait_for_status(LIMIT, what, |status| reads(status).then_some(()))
            .unwrap();
    };

    // Replaced by renaming.
    let three_of_them = [
        ("one", one.address()),
        ("three", three.address()),
        ("two", two.address()),
    ];
    replace(&setup, &catalog(&three_of_them).to_string());
    answered_by(&["one", "three", "two"]);
    // Written in place.
    setup
        .file("catalog.json", &catalog(&three_of_them[..2]).to_string())
        .unwrap();
    answered_by(&["one", "three"]);

    // Cut short: said, and what was read before stays.
    replace(&setup, "{\"services\": {\"airavata-api\": [");
    counted("the broken file", &|status| {
        let error = status["queries"][0]["error"].as_str().unwrap_or_default();
        error.contains("catalog.json cannot be used") && error.contains("EOF while parsing")
    });
    answered_by(&["one", "three"]);
    // Gone: the same.
    std::fs::remove_file(setup.path("catalog.json")).unwrap();
    counted("the missing file", &|status| {
        let error = status["queries"][0]["error"].as_str().unwrap_or_default();
        error.contains("No such file")
    });
    answered_by(&["one", "three"]);
    // Whole, but with nothing in it: held by the guard as a mass loss of Consul is.
    replace(&setup, "{}");
    counted("the hold", &|status| status["state"] == "guarded");
    let report = send();
    let held = ["one", "three"].map(|name| report.answers.contains_key(name));
    assert_eq!((held, report.failed), ([true, true], 0), "{report:?}");

    replace(&setup, &catalog(&three_of_them).to_string());
    answered_by(&["one", "three", "two"]);
    counted("no error", &|status| {
        status["queries"][0]["error"].is_null() && status["state"] == "confirmed"
    });
    let report = running.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    let status = setup.status().unwrap();
    assert_eq!(status["haproxy"]["reloads"], 1, "only the first: {status}");
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}

#[test]
fn a_link_to_a_file_is_followed_when_it_is_turned_elsewhere() {
    let setup = Setup::new().unwrap();
    for (folder, port) in [("a", 8001), ("b", 8002)] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = catalog(&[("api", address)]).to_string();
        setup
            .file(&format!("{folder}/catalog.json"), &text)
            .unwrap();
    }
    let turn = |to: &str| {
        let new = setup.path("new");
        std::os::unix::fs::symlink(setup.path(to), &new).unwrap();
        std::fs::rename(new, setup.path("current")).unwrap();
    };
    turn("a");
    prepare(
        &setup,
        "[catalog]\nsource = \"file\"\nfile = \"{dir}current/catalog.json\"\n",
    );
    let mut gatewright = setup.run().unwrap();
    shows(&setup, "127.0.0.1:8001");
    turn("b");
    shows(&setup, "127.0.0.1:8002");
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}

#[test]
fn the_example_with_a_file_serves_and_follows() {
    let from = tools::root().join("examples/file");
    let read = |name: &str| std::fs::read_to_string(from.join(name)).unwrap();
    let backends = ["one", "two", "three"].map(|name| Backend::start(name).unwrap());
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let setup = Setup::new().unwrap();
    // As it is, but for the ports, the program and the place.
    let port_of = |number: usize| backends[number].address().port().to_string();
    let catalog = read("catalog.json")
        .replace("9001", &port_of(0))
        .replace("9002", &port_of(1));
    setup.file("catalog.json", &catalog).unwrap();
    let text = read("haproxy.cfg.hbs").replace("127.0.0.1:8080", &entrance.to_string());
    setup.file("haproxy.cfg.hbs", &text).unwrap();
    let partials = tools::root().join("templates/partials");
    let text = read("gatewright.toml")
        .replace("../../templates/partials", &partials.display().to_string())
        .replace(
            "[haproxy]\n",
            &format!("[haproxy]\nbinary = \"{}\"\n", oldest().program().display()),
        );
    setup.file("gatewright.toml", &text).unwrap();
    let mut gatewright = setup.run().unwrap();
    let answered_by = |names: &[&str]| {
        wait_for(LIMIT, &format!("answers by {names:?}"), || {
            let report = traffic::send(entrance, 9);
            let names = names.iter().copied();
            report
                .answers
                .keys()
                .map(String::as_str)
                .eq(names)
                .then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", setup.read("gatewright.log").unwrap()));
    };
    answered_by(&["one", "two"]);
    replace(&setup, &catalog.replace(&port_of(0), &port_of(2)));
    answered_by(&["three", "two"]);
    assert_eq!(setup.status().unwrap()["haproxy"]["reloads"], 1);
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}
