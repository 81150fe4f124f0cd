//! What a real Consul loses at once, and what is meant.

use serde_json::json;

use super::stage::{LIMIT, Stage};
use support::consul::Consul;
use support::measured::note;
use support::wait_for;

// B07 J03
#[test]
fn a_wiped_consul_empties_nothing() {
    let mut consul = Consul::start().unwrap();
    let mut stage = Stage::new(&consul.url(), 4, "");
    stage.register(&consul, 0..4);
    stage = stage.start();

    // Killed, its data gone, started again: a cluster that knows nothing.
    consul.kill();
    consul.restart().unwrap();
    let hold = stage.holds(4, "4 are gone from the catalog");
    assert_eq!(
        (&hold["present"], &hold["reference"]),
        (&json!(0), &json!(4))
    );
    assert!(hold["ends_in_seconds"].is_null(), "{hold}");
    stage.shows(&[0, 1, 2, 3]);

    // The hold outlives us: the process that comes next compares with what was shown, not with
    // nothing (J03).
    let before = stage.setup.read("haproxy.cfg").unwrap();
    stage.gatewright().process().kill();
    stage.run();
    stage.holds(4, "4 are gone from the catalog");
    stage.shows(&[0, 1, 2, 3]);
    assert_eq!(stage.setup.read("haproxy.cfg").unwrap(), before);

    // What comes back goes in; with three of four there is no mass loss any more.
    stage.register(&consul, [0]);
    stage.holds(3, "3 are gone from the catalog");
    stage.register(&consul, [1, 2]);
    stage.until("the end of the hold", |status| {
        status["holds"].as_array()?.is_empty().then_some(())
    });
    stage.register(&consul, [3]);
    stage.shows(&[0, 1, 2, 3]);
    let requests = stage.quiet();
    note(
        "e01",
        "servers removed after Consul was killed and wiped",
        "0 of 4",
    );
    note(
        "e01",
        "requests failed meanwhile",
        format!("0 of {requests}"),
    );
    stage.stop();
}

// B08 E12
#[test]
fn an_agent_restart_removes_nothing() {
    let mut consul = Consul::start_persistent().unwrap();
    let mut stage = Stage::new(&consul.url(), 3, "");
    // One service with a check, which is critical after a restart until it is set again, and two
    // without: the agent knows them again from its data.
    stage.register(&consul, [0]);
    for number in [1, 2] {
        let backend = &stage.backends[number];
        consul
            .register_instance("web", backend.name(), backend.address())
            .unwrap();
    }
    stage = stage.start();
    // `leave`: the agent takes its services out of the catalog before it goes.
    consul.stop();
    wait_for(LIMIT, "a failing query", || {
        let status = stage.setup.status().ok()?;
        status["queries"][0]["error"].as_str().map(drop)
    })
    .unwrap();
    stage.shows(&[0, 1, 2]);
    consul.restart().unwrap();
    wait_for(LIMIT, "the services that need no check", || {
        (consul.passing("web").ok()?.len() >= 2).then_some(())
    })
    .unwrap();
    consul.set_check("web-0", "pass").unwrap();
    stage.until("the end of the holds", |status| {
        let over = status["holds"].as_array()?.is_empty() && status["queries"][0]["items"] == 3;
        over.then_some(())
    });
    stage.shows(&[0, 1, 2]);
    let reloads = stage.until("the counts", |status| status["haproxy"]["reloads"].as_u64());
    assert!(reloads <= 1, "{reloads} reloads");
    let requests = stage.quiet();
    note("e12", "servers removed by an agent restart", "0 of 3");
    note(
        "e12",
        "requests failed meanwhile",
        format!("0 of {requests}"),
    );
    stage.stop();
}

// B09 B13 B14
#[test]
fn critical_ones_are_held_and_maintenance_passes_at_once() {
    let consul = Consul::start().unwrap();
    let mut stage = Stage::new(
        &consul.url(),
        6,
        "[guard]\nhold = \"3s\"\nmin_instances = 1\n",
    );
    stage.register(&consul, 0..4);
    stage.run();
    stage.shows(&[0, 1, 2, 3]);
    stage.gatewright().process().kill();
    let mut stage = stage.start_with_all_but(4);

    // A single one that falls ill goes at once.
    consul.set_check("web-0", "fail").unwrap();
    stage.shows(&[1, 2, 3]);
    consul.set_check("web-0", "pass").unwrap();
    stage.shows(&[0, 1, 2, 3]);
    assert_eq!(stage.count_log("are held"), 0);

    // All at once: a bad check, most likely. HAProxy's own checks decide.
    for id in 0..4 {
        consul.set_check(&format!("web-{id}"), "fail").unwrap();
    }
    let hold = stage.holds_some("are critical");
    assert!(hold["held"].as_u64().unwrap() >= 2, "{hold}");
    assert!(!stage.running().is_empty());
    // A new one goes in while they are held.
    stage.register(&consul, [4]);
    wait_for(LIMIT, "the new one", || {
        stage.running().contains(&4).then_some(())
    })
    .unwrap();
    for id in 0..4 {
        consul.set_check(&format!("web-{id}"), "pass").unwrap();
    }
    stage.shows(&[0, 1, 2, 3, 4]);
    stage.until("the end of the hold", |status| {
        status["holds"].as_array()?.is_empty().then_some(())
    });

    // Maintenance of one, of most and of the last: at once, and nothing is held.
    let warnings = stage.count_log("are held");
    consul.maintenance("web-0", true).unwrap();
    stage.shows(&[1, 2, 3, 4]);
    for id in ["web-1", "web-2", "web-3"] {
        consul.maintenance(id, true).unwrap();
    }
    stage.shows(&[4]);
    let requests = stage.quiet();
    consul.maintenance("web-4", true).unwrap();
    stage.shows(&[]);
    for id in 0..5 {
        consul.maintenance(&format!("web-{id}"), false).unwrap();
    }
    stage.shows(&[0, 1, 2, 3, 4]);
    consul.node_maintenance(true).unwrap();
    stage.shows(&[]);
    consul.node_maintenance(false).unwrap();
    stage.shows(&[0, 1, 2, 3, 4]);
    assert_eq!(stage.count_log("are held"), warnings);

    // An instance whose node has failed is gone, whatever its own check says (B14).
    let far = stage.backends[5].address();
    let node = |status: &str| {
        json!({
            "Node": "far", "Address": "127.0.0.1",
            "Service": {"Service": "web", "ID": "far", "Address": far.ip().to_string(), "Port": far.port()},
            "Checks": [
                {"Node": "far", "CheckID": "serfHealth", "Name": "serf", "Status": status},
                {"Node": "far", "CheckID": "own", "Name": "own", "ServiceID": "far", "Status": "passing"},
            ],
        })
    };
    consul.catalog_register(&node("passing")).unwrap();
    stage.shows(&[0, 1, 2, 3, 4, 5]);
    consul.catalog_register(&node("critical")).unwrap();
    stage.shows(&[0, 1, 2, 3, 4]);

    // A share that stays away goes after its time.
    for id in 0..3 {
        consul.set_check(&format!("web-{id}"), "fail").unwrap();
    }
    stage.holds_some("critical");
    stage.shows(&[3, 4]);
    assert!(stage.count_log("its time is over") >= 1);
    note(
        "b13",
        "requests failed over checks and maintenance",
        format!("0 of {requests}"),
    );
    stage.stop();
}

// B12
#[test]
fn a_renamed_service_is_held_by_its_name_until_it_is_released() {
    let consul = Consul::start().unwrap();
    let mut stage = Stage::new(&consul.url(), 2, "");
    stage.register(&consul, 0..2);
    stage = stage.start();
    for backend in &stage.backends {
        consul.deregister(backend.name()).unwrap();
        let id = format!("{}-renamed", backend.name());
        consul
            .register_instance("website", &id, backend.address())
            .unwrap();
    }
    // Two in one answer, or the first one as a single removal.
    let hold = stage.holds_some("gone from the catalog");
    assert_eq!(hold["present"], 0);
    let held = hold["held"].as_u64().unwrap();
    wait_for(LIMIT, "those that are held alone", || {
        (stage.running().len() as u64 == held).then_some(())
    })
    .unwrap();
    let line = stage
        .gatewright()
        .wait_for_log(LIMIT, &["service", "web", "are held"])
        .unwrap();
    assert!(line.contains("gatewright release web"), "{line}");
    stage.until("the guarded state", |status| {
        (status["state"] == "guarded").then_some(())
    });
    let status = stage
        .setup
        .call(&["status", "-c", &stage.setup.path("gatewright.toml")])
        .unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    for part in [
        "guarded: what vanished is kept until it returns or is released",
        &format!("service \"web\": {held} of 2 kept for"),
        "ends when they return or by `gatewright release web`",
    ] {
        assert!(status.contains(part), "`{part}` is not in: {status}");
    }

    let (code, text) = stage.release(&["wob"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Nothing of wob is held."), "{text}");
    assert!(text.contains("Did you mean `web`?"), "{text}");
    assert_eq!(stage.running().len() as u64, held);
    stage.quiet();
    assert_eq!(
        stage.release(&["web"]),
        (Some(0), "Released: web.\n".into())
    );
    stage.shows(&[]);
    assert_eq!(
        stage.release(&["--all"]),
        (Some(0), "Nothing is held.\n".into())
    );
    assert_eq!(stage.count_log("it was released"), 1);
    assert_eq!(stage.count_log("are held"), 1);
    stage.stop();
    let (code, text) = stage.release(&["web"]);
    assert_eq!(code, Some(10), "{text}");
}

impl Stage {
    /// Goes on with a process that was killed, with traffic.
    fn start_with_all_but(mut self, last: usize) -> Stage {
        let late = self.backends.split_off(last);
        let mut stage = self.start();
        stage.backends.extend(late);
        stage
    }

    /// Waits until anything of `web` is held for this reason.
    fn holds_some(&self, reason: &str) -> serde_json::Value {
        self.until(reason, |status| {
            let hold = &status["holds"][0];
            let fits = hold["reason"].as_str()?.contains(reason);
            fits.then(|| hold.clone())
        })
    }
}
