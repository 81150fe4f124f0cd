//! A disk that takes its time, or never answers: only what needs it waits. The status, health, signals and watches do
//! not.

use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{LIMIT, answer};
use support::consul::Consul;
use support::http;
use support::process;
use support::scene::{Catalog, Given, Scene};
use support::wait_for_end;

/// Places at which Gatewright waits as for a disk; see `src/crash.rs`.
struct Places(PathBuf);

impl Places {
    fn hang(&self, place: &str) {
        std::fs::write(self.0.join(place), "").unwrap();
    }

    fn take(&self, place: &str, milliseconds: u64) {
        std::fs::write(self.0.join(place), milliseconds.to_string()).unwrap();
    }

    fn calm(&self, place: &str) {
        std::fs::remove_file(self.0.join(place)).unwrap();
    }
}

/// HAProxy serves one instance.
fn serve(consul: &Consul) -> (Scene, Places) {
    let given = Given::consul(&consul.url())
        .set("status", "listen = \"127.0.0.1:0\"")
        .instances(consul, &["one"]);
    let path = |name: &str| given.setup.path(name);
    let (slow, log) = (path("slow"), path("places"));
    std::fs::create_dir(&slow).unwrap();
    let given = given
        .env("GATEWRIGHT_SLOW", &slow)
        .env("GATEWRIGHT_CRASH_LOG", &log);
    let scene = given.run();
    answer(&scene, &["one"]);
    scene.confirmed("the first set", |_| true);
    (scene, Places(slow.into()))
}

/// How often it has waited for the disk.
fn waits(scene: &Scene) -> usize {
    let log = scene.setup.read("places").unwrap();
    log.lines()
        .filter(|line| line.ends_with(" on disk"))
        .count()
}

/// The loop turns: it answers, and it takes what Consul says.
fn is_alive(scene: &Scene, instances: u64) {
    scene.until("what Consul says now", |status| {
        let queries = status["queries"].as_array().into_iter().flatten();
        queries.into_iter().any(|query| query["items"] == instances)
    });
    let status = scene.setup.status().unwrap();
    let listener: SocketAddr = status["listening"].as_str().unwrap().parse().unwrap();
    let health = http::get(listener, "/healthz").unwrap();
    assert_eq!(health.status, 200, "{}", health.body);
}

// E15
#[test]
fn a_change_is_in_traffic_although_each_sync_takes_half_a_second() {
    let consul = Consul::start().unwrap();
    let (mut scene, disk) = serve(&consul);
    disk.take("file on disk", 500);
    disk.take("name on disk", 500);
    let before = waits(&scene);
    for (count, id) in [(2, "two"), (3, "three")] {
        let address = scene.backend(id);
        consul.instance(id, address);
        answer(&scene, &["one", id]);
        is_alive(&scene, count);
    }
    scene.confirmed("the last set", |status| {
        status["haproxy"]["by_commands"].as_u64() >= Some(2)
    });
    // A file and a directory for each of the two, and the same for their snapshots.
    let waits = waits(&scene) - before;
    assert!(waits <= 8, "{waits}");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// E15 I03
#[test]
fn while_a_sync_hangs_all_else_goes_on_and_so_does_the_change_after_it() {
    let consul = Consul::start().unwrap();
    let (mut scene, disk) = serve(&consul);
    disk.hang("file on disk");
    let addresses = ["two", "three"].map(|id| (id, scene.backend(id)));
    for (count, (id, address)) in [(2, addresses[0]), (3, addresses[1])] {
        consul.instance(id, address);
        is_alive(&scene, count);
    }
    // The commands were out before the disk was asked.
    answer(&scene, &["one", "two"]);
    scene.gatewright.reload();
    scene.logged(&["The settings and templates are read again."]);
    is_alive(&scene, 3);
    disk.calm("file on disk");
    answer(&scene, &["one", "two", "three"]);
    scene.logged(&["The templates were read again."]);
    scene.confirmed("the last set", |_| true);
    // One signal is enough while it hangs, after a while.
    disk.hang("file on disk");
    consul.deregister("three").unwrap();
    is_alive(&scene, 2);
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// E15 I03
/// One call hangs, on a disk or on a file system on the network: from the sync of a file to the look at a template or at
/// the status socket.
#[test]
fn wherever_the_disk_hangs_the_status_answers_and_a_second_signal_ends_it() {
    let consul = Consul::start().unwrap();
    for place in [
        "file on disk",
        "name on disk",
        "file created",
        "file renamed",
        "file removed",
        "file kept",
        "file looked at",
        "file read",
        "socket looked at",
        "child started",
    ] {
        consul.deregister("two").ok();
        let (mut scene, disk) = serve(&consul);
        let address = scene.backend("two");
        disk.hang(place);
        consul.instance("two", address);
        scene.gatewright.reload();
        scene.logged(&["The settings and templates are read again."]);
        is_alive(&scene, 2);
        let family = process::descendants(scene.gatewright.process().pid());
        scene.gatewright.process().signal(Signal::SIGTERM);
        scene.logged(&["Ending;"]);
        assert_eq!(scene.gatewright.stop(LIMIT), Ok(0), "{place}");
        wait_for_end(LIMIT, "HAProxy to end with it", || {
            (!family.iter().any(|pid| process::exists(*pid))).then_some(())
        })
        .unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}
