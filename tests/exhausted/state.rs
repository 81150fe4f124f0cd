//! The state directory is full, read-only, another user's, damaged, or wiped while Gatewright runs.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;
use serde_json::Value;

use super::{LIMIT, answer, restart, warns};
use crate::faults::files::Disk;
use support::consul::Consul;
use support::haproxies::{Version, haproxies, oldest};
use support::scene::{Catalog, Given, Scene, TEMPLATE};
use support::temp;

/// Nobody's on a usual system.
const USER: u32 = 61_234;

/// The key `timeout` needs a reload.
fn template() -> String {
    let timeout = "timeout server {{keyOrDefault \"timeout\" \"10s\"}}";
    TEMPLATE.replace("timeout server 10s", timeout)
}

fn given(consul: &Consul, version: &Version) -> Given {
    Given::consul(&consul.url())
        .binary(version.program())
        .template(&template())
        .instances(consul, &["one"])
}

/// Starts Gatewright with its state directory on a disk of its own.
fn on_disk(given: Given, disk: &Disk) -> Scene {
    symlink(&disk.0, given.setup.directory().join("state")).unwrap();
    let scene = given.run();
    scene.confirmed("the first set", |_| true);
    answer(&scene, &["one"]);
    scene
}

/// Leaves no room on a disk.
fn fill(disk: &Disk) -> PathBuf {
    let filler = disk.0.join("filler");
    // As much as fits.
    let _ = std::fs::write(&filler, vec![0; 1 << 20]);
    filler
}

fn reloads(status: &Value) -> u64 {
    status["haproxy"]["reloads"].as_u64().unwrap()
}

/// A server comes by commands, and a timeout by a reload.
fn goes_on(scene: &mut Scene, consul: &Consul, id: &str, timeout: &str) {
    let before = scene.confirmed("calm", |_| true);
    let address = scene.backend(id);
    consul.instance(id, address);
    answer(scene, &["one", id]);
    let after = scene.confirmed("the new server", |status| {
        status["haproxy"]["by_commands"].as_u64() > before["haproxy"]["by_commands"].as_u64()
    });
    assert_eq!(reloads(&after), reloads(&before));
    consul.key("timeout", timeout);
    scene.confirmed("the new timeout", |status| {
        scene.file().contains(timeout) && reloads(status) > reloads(&before)
    });
    answer(scene, &["one", id]);
}

fn facts(scene: &Scene) -> Value {
    let text = scene.setup.read("state/state.json").unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

// E01 J07
#[haproxies(ends)]
fn a_restart_with_a_full_disk_of_the_state_starts_haproxy_and_changes_go_on(version: Version) {
    for lost in [false, true] {
        let place = temp::directory().unwrap();
        let disk = Disk::mount(place.path().join("disk"));
        let consul = Consul::start().unwrap();
        let mut scene = on_disk(given(&consul, &version), &disk);
        restart(&mut scene, |_| {
            if lost {
                for entry in std::fs::read_dir(&disk.0).unwrap() {
                    let path = entry.unwrap().path();
                    let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
                }
            }
            fill(&disk);
        });
        answer(&scene, &["one"]);
        goes_on(&mut scene, &consul, "two", "11s");
        let words = ["the disk is full", "Gatewright goes on without that"];
        scene.until("the standing warning", |status| warns(status, &words));
        std::fs::remove_file(disk.0.join("filler")).unwrap();
        let status = scene.until("the end of the warning", |status| !warns(status, &words));
        let running = &status["haproxy"]["running"];
        assert_eq!(facts(&scene)["confirmed"], *running, "lost: {lost}");
        // What was stored late is what a restart goes on from.
        restart(&mut scene, |_| {});
        answer(&scene, &["one", "two"]);
        scene.confirmed("the same set", |status| {
            status["haproxy"]["running"] == *running
        });
        assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
    }
}

// E01
#[haproxies(ends)]
fn a_full_disk_of_the_state_stops_neither_haproxy_nor_changes(version: Version) {
    let place = temp::directory().unwrap();
    let disk = Disk::with(place.path().join("disk"), "size=1m,nr_inodes=64");
    let consul = Consul::start().unwrap();
    // HAProxy's own socket, too, has no place in the state directory.
    let given = given(&consul, &version)
        .unset("haproxy", "master_socket")
        .set("status", "listen = \"127.0.0.1:0\"");
    let mut scene = on_disk(given, &disk);
    assert!(scene.setup.directory().join("state/master.sock").exists());
    restart(&mut scene, |_| {
        let file = |number: i32| std::fs::write(disk.0.join(format!("filler-{number}")), "");
        assert!((0..100).any(|number| file(number).is_err()));
    });
    answer(&scene, &["one"]);
    let line = scene.logged(&["HAProxy has its master socket in "]);
    let socket = line.split(" socket in ").nth(1).unwrap();
    let elsewhere = PathBuf::from(socket.split(',').next().unwrap());
    assert!(elsewhere.join("master.sock").exists());
    scene.logged(&["The status socket", "cannot be made"]);
    let address = scene.backend("two");
    consul.instance("two", address);
    answer(&scene, &["one", "two"]);
    for number in 0..100 {
        let _ = std::fs::remove_file(disk.0.join(format!("filler-{number}")));
    }
    let words = ["Gatewright goes on without that"];
    scene.until("the status, and no warning", |status| {
        !warns(status, &words)
    });
    goes_on(&mut scene, &consul, "three", "12s");
    // HAProxy keeps its socket, whatever becomes of the directory.
    scene.gatewright.reload();
    goes_on(&mut scene, &consul, "four", "13s");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
    std::fs::remove_dir_all(elsewhere).unwrap();
}

// E05
#[haproxies(ends)]
fn a_read_only_state_directory_stops_neither_haproxy_nor_changes(version: Version) {
    let place = temp::directory().unwrap();
    let disk = Disk::mount(place.path().join("disk"));
    let consul = Consul::start().unwrap();
    let mut scene = on_disk(
        given(&consul, &version).set("status", "socket = \"{dir}/status.sock\""),
        &disk,
    );
    restart(&mut scene, |_| disk.writable(false));
    answer(&scene, &["one"]);
    let words = ["the file system is read-only", "Gatewright goes on without"];
    goes_on(&mut scene, &consul, "two", "11s");
    scene.until("the standing warning", |status| warns(status, &words));
    // Read-only from one moment to the next is no different.
    disk.writable(true);
    scene.until("the end of the warning", |status| !warns(status, &words));
    disk.writable(false);
    goes_on(&mut scene, &consul, "three", "12s");
    disk.writable(true);
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    let inside = path.is_dir().then(|| std::fs::read_dir(path));
    for entry in inside.into_iter().flatten().flatten() {
        give(&entry.unwrap().path());
    }
}

// E06
#[test]
fn a_state_directory_of_another_user_stops_neither_haproxy_nor_changes() {
    let consul = Consul::start().unwrap();
    let mut given = given(&consul, &oldest()).set("status", "socket = \"{dir}/status.sock\"");
    given.setup = given.setup.user(USER, USER);
    give(given.setup.directory());
    let mut scene = given.run();
    scene.confirmed("the first set", |_| true);
    let state = scene.setup.directory().join("state");
    restart(&mut scene, |_| {
        chown(&state, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    });
    answer(&scene, &["one"]);
    let words = ["permission is denied", "Gatewright goes on without"];
    scene.until("the standing warning", |status| warns(status, &words));
    goes_on(&mut scene, &consul, "two", "11s");
    chown(&state, Some(USER), Some(USER)).unwrap();
    scene.until("the end of the warning", |status| !warns(status, &words));
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// E12
#[test]
fn no_damage_to_the_state_keeps_haproxy_from_being_started() {
    let consul = Consul::start().unwrap();
    let given = given(&consul, &oldest()).set("status", "socket = \"{dir}/status.sock\"");
    let mut scene = given.run();
    scene.confirmed("the first set", |_| true);
    let state = scene.setup.directory().join("state");
    let clear = |name: &str| {
        let path = state.join(name);
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        path
    };
    let pipe = |name: &str| nix::unistd::mkfifo(&clear(name), Mode::S_IRWXU).unwrap();
    let folder = |name: &str| std::fs::create_dir(clear(name)).unwrap();
    let file = |name: &str| std::fs::write(clear(name), "{ torn").unwrap();
    let sparse = |name: &str| {
        let file = std::fs::File::create(clear(name)).unwrap();
        file.set_len(8 << 30).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&str));
    let damages: [Damage; 11] = [
        ("state.json", &pipe),
        ("state.json", &sparse),
        ("state.json", &folder),
        ("journal.json", &pipe),
        ("journal.json", &folder),
        ("snapshot.json", &pipe),
        ("snapshot.json", &sparse),
        ("lock", &pipe),
        ("lock", &folder),
        ("sets", &file),
        ("rejected", &file),
    ];
    for (name, damage) in damages {
        restart(&mut scene, |_| damage(name));
        answer(&scene, &["one"]);
        scene.confirmed(name, |_| true);
        clear(name);
    }
    goes_on(&mut scene, &consul, "two", "11s");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

fn exit_code(command: &mut Command) -> Option<i32> {
    command.output().unwrap().status.code()
}

// E12
#[haproxies(ends)]
fn a_state_directory_that_is_wiped_while_it_runs_is_made_again(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = given(&consul, &version).run();
    scene.confirmed("the first set", |_| true);
    let state = scene.setup.directory().join("state");
    let settings = scene.setup.path("gatewright.toml");
    let wipe = || std::fs::remove_dir_all(&state).unwrap();
    let exchange = || {
        std::fs::rename(&state, scene.setup.directory().join("away")).unwrap();
        std::fs::create_dir(&state).unwrap();
    };
    let socket = || std::fs::remove_file(state.join("status.sock")).unwrap();
    let lock = || std::fs::remove_file(state.join("lock")).unwrap();
    let faults: [(&str, &dyn Fn()); 4] = [
        ("wiped", &wipe),
        ("exchanged", &exchange),
        ("without its socket", &socket),
        ("without its lock", &lock),
    ];
    for (what, fault) in faults {
        let is_seen = |status: &Value| status["haproxy"]["running"].is_string();
        let revision = scene.confirmed("calm", is_seen)["haproxy"]["running"].clone();
        scene.wait("the snapshot", || {
            state.join("snapshot.json").exists().then_some(())
        });
        fault();
        let kept = format!("sets/{}/manifest.json", revision.as_str().unwrap());
        for part in ["status.sock", "lock", "state.json", &kept, "snapshot.json"] {
            scene.wait(&format!("{part} when {what}"), || {
                state.join(part).exists().then_some(())
            });
        }
        let mut release = scene
            .setup
            .command(&["release", "--all", "-c", &settings])
            .unwrap();
        assert_eq!(exit_code(&mut release), Some(0), "{what}");
        // The lock keeps a second one away.
        let mut second = scene.setup.command(&["run", "-c", &settings]).unwrap();
        assert_eq!(exit_code(&mut second), Some(8), "{what}");
    }
    goes_on(&mut scene, &consul, "two", "11s");
    let is_seen = |status: &Value| status["haproxy"]["running"] == status["applied"]["revision"];
    let before = scene.confirmed("calm", is_seen);
    scene.gatewright.process().kill();
    scene.gatewright = scene.setup.run().unwrap();
    let after = scene.confirmed("the next process", |status| {
        status["pid"] != before["pid"] && is_seen(status)
    });
    assert_eq!(after["haproxy"]["running"], before["haproxy"]["running"]);
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}
