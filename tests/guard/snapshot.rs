//! Starts while Consul is away, or has forgotten everything.

use std::os::unix::fs::PermissionsExt;

use super::stage::{LIMIT, Stage};
use support::consul::Consul;
use support::http;
use support::wait_for;

// J01 J13
#[test]
fn without_consul_the_last_answers_do() {
    let mut consul = Consul::start().unwrap();
    let mut stage = Stage::new(&consul.url(), 3, "");
    stage.register(&consul, 0..3);
    stage = stage.start();
    let snapshot = stage.setup.directory().join("state/snapshot.json");
    wait_for(LIMIT, "the snapshot", || snapshot.exists().then_some(())).unwrap();
    let mode = std::fs::metadata(&snapshot).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // It is a catalog that can be rendered.
    let settings = stage.setup.path("gatewright.toml");
    let shown = stage.setup.call(&[
        "render",
        "-c",
        &settings,
        "--catalog",
        &snapshot.display().to_string(),
    ]);
    let shown = shown.unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    for backend in &stage.backends {
        assert!(text.contains(&backend.address().to_string()), "{text}");
    }

    // Nothing has changed: nothing is written and nothing reloaded, by us or by HAProxy.
    consul.kill();
    let before = stage.setup.read("haproxy.cfg").unwrap();
    stage.gatewright().process().kill();
    stage.run();
    let used = stage.until("the snapshot in use", |status| {
        let used = status["snapshot"]["in_use"] == 1 && status["applied"]["confirmed"] == true;
        used.then(|| status["snapshot"]["oldest_seconds"].as_f64())
    });
    assert!(used.is_some_and(|age| age >= 0.0), "{used:?}");
    stage.shows(&[0, 1, 2]);
    assert_eq!(stage.setup.read("haproxy.cfg").unwrap(), before);

    // A template that has changed is applied all the same.
    stage.template("    # changed\n");
    wait_for(LIMIT, "the changed template", || {
        let text = stage.setup.read("haproxy.cfg").ok()?;
        text.contains("# changed").then_some(())
    })
    .unwrap();
    stage.shows(&[0, 1, 2]);

    // Consul is back, empty: held by what the snapshot knew (J03), and live answers from here on.
    consul.restart().unwrap();
    stage.holds(3, "3 are gone from the catalog");
    stage.shows(&[0, 1, 2]);
    stage.register(&consul, 0..3);
    stage.until("live answers", |status| {
        let live = status["snapshot"]["in_use"] == 0 && status["holds"].as_array()?.is_empty();
        live.then_some(())
    });
    stage.shows(&[0, 1, 2]);
    stage.quiet();
    stage.stop();
}

// E12 J02
#[test]
fn a_lost_or_damaged_state_is_rebuilt_from_the_live_file() {
    let mut consul = Consul::start().unwrap();
    let mut stage = Stage::new(&consul.url(), 3, "");
    // No file and no Consul: nothing is written (J02).
    consul.kill();
    stage.run();
    stage.until("a failing query", |status| {
        status["queries"][0]["error"].as_str().map(drop)
    });
    assert!(stage.setup.read("haproxy.cfg").is_err());
    stage.until("the state", |status| {
        (status["state"] == "waiting").then_some(())
    });
    stage.stop();
    consul.restart().unwrap();
    stage.register(&consul, 0..3);
    stage = stage.start();

    // Damaged, and another time lost altogether, with a Consul that has forgotten everything: the
    // files are the measure.
    for lost in [false, true] {
        consul.kill();
        stage.gatewright().process().kill();
        if lost {
            std::fs::remove_dir_all(stage.setup.directory().join("state")).unwrap();
        } else {
            stage
                .setup
                .file("state/snapshot.json", "{\"gatewright_snapshot\":9}\n")
                .unwrap();
        }
        consul.restart().unwrap();
        stage.run();
        stage.until("the refused set", |status| {
            let why = status["held"]["why"][0].as_str()?;
            why.contains("had 3 enabled servers").then_some(())
        });
        assert_eq!(stage.running().len(), 3, "{:?}", stage.setup.status());
        if !lost {
            assert_eq!(stage.count_log("it was written by a newer version"), 1);
            stage.register(&consul, 0..3);
            stage.shows(&[0, 1, 2]);
        }
    }
    stage.quiet();
    let (code, text) = stage.release(&["--all"]);
    assert_eq!(code, Some(0), "{text}");
    stage.shows(&[]);
    assert_eq!(http::get(stage.entrance, "/").unwrap().status, 503);
    stage.stop();
}
