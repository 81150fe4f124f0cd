//! What other users of the machine can do: nothing to the state directory, to the folder of a check, or to the memory of
//! a program that has read secrets.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::consul::Consul;
use support::haproxies::{Version, haproxies, oldest};
use support::process::descendants;
use support::scene::{Catalog, Given, Scene, TEMPLATE};
use support::wait_for;

use crate::first_start::serves_and_ends;
use crate::reaching::stage::LIMIT;

// L07
#[test]
fn a_state_directory_of_others_is_refused_at_the_start_and_told_later() {
    let consul = Consul::start().unwrap();
    let mut scene = Given::consul(&consul.url())
        .instances(&consul, &["one"])
        .run();
    scene.confirmed("the first set", |_| true);
    let state = scene.setup.directory().join("state");
    assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    let bits = |bits| std::fs::set_permissions(&state, PermissionsExt::from_mode(bits)).unwrap();
    bits(0o777);
    let told = |status: &serde_json::Value| {
        status["warnings"]
            .to_string()
            .contains("lets other users write to it")
    };
    scene.until("the warning", told);
    consul.key("note", "later");
    scene.wait("the change", || {
        scene.file().contains("later").then_some(())
    });
    let settings = scene.setup.path("gatewright.toml");
    scene.gatewright.stop(LIMIT).unwrap();
    let refused = |why: &str| {
        let output = scene.setup.call(&["run", "-c", &settings]).unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(
            text.contains(why) && text.contains("state.directory"),
            "{text}"
        );
    };
    refused("its mode 777 lets other users write to it");
    bits(0o700);
    chown(&state, Some(61_234), None).unwrap();
    refused("it belongs to the user 61234");
    chown(&state, Some(0), None).unwrap();
    scene.gatewright = scene.setup.run().unwrap();
    scene.confirmed("the set again", |_| true);
}

// L07
#[test]
fn the_folder_of_a_check_is_private_whatever_the_umask() {
    let setup = support::gatewright::Setup::new().unwrap();
    setup
        .file("x.cfg.hbs", "# {{parameter \"a\" \"b\"}}\n")
        .unwrap();
    setup.file("tmp/none", "").unwrap();
    // Stands for HAProxy, and says how it finds the folder.
    let probe = format!(
        "#!/bin/sh\nstat -c %a {0}/tmp/gatewright-check-* >> {0}/modes\nexec {1} \"$@\"\n",
        setup.path("").trim_end_matches('/'),
        oldest().program().display()
    );
    setup.script("haproxy", &probe).unwrap();
    let gatewright = setup.command(&[]).unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(gatewright.get_program())
        .args([
            "check",
            "x.cfg.hbs",
            "--no-made",
            "--haproxy",
            &setup.path("haproxy"),
        ])
        .env("TMPDIR", setup.path("tmp"))
        .current_dir(setup.directory())
        .output()
        .unwrap();
    let modes = setup.read("modes").unwrap_or_default();
    assert!(!modes.is_empty(), "{output:?}");
    assert!(modes.lines().all(|mode| mode == "700"), "{modes}");
}

// L11
#[test]
fn a_sidecar_that_reads_keys_leaves_no_core_and_haproxy_may() {
    let consul = Consul::start().unwrap();
    let unlimited = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];
    let mut scene = Given::consul(&consul.url())
        .through(&unlimited.map(str::to_owned))
        .instances(&consul, &["one"])
        .run();
    scene.confirmed("the first set", |_| true);
    let pid = scene.gatewright.process().pid();
    let family = descendants(pid);
    assert!(!family.is_empty());
    for child in &family {
        let limits = std::fs::read_to_string(format!("/proc/{child}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        assert!(line.unwrap().contains("unlimited  "), "{limits}");
    }
    scene.gatewright.process().signal(Signal::SIGABRT);
    let status = wait_for(LIMIT, "the end", || {
        scene.gatewright.process().exit_status()
    })
    .unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped());
    // HAProxy outlives it.
    for child in family {
        let _ = kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL);
    }
    assert!(!Path::new(&scene.setup.path("core")).exists());
}

/// HAProxy's worker in the status, and its effective user.
fn worker_of(scene: &Scene) -> String {
    // The status may name one that has ended since.
    scene.wait("the worker", || {
        let worker = scene.setup.status().ok()?["haproxy"]["worker"].as_i64()?;
        let text = std::fs::read_to_string(format!("/proc/{worker}/status")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Uid:"))?;
        line.split_whitespace().nth(2).map(str::to_owned)
    })
}

// L11
#[haproxies(ends)]
fn a_haproxy_that_keeps_the_rights_of_root_is_a_standing_warning(version: Version) {
    let consul = Consul::start().unwrap();
    let scene = Given::consul(&consul.url())
        .binary(version.program())
        .instances(&consul, &["one"])
        .run();
    let told = |status: &serde_json::Value| status["warnings"].to_string().contains("runs as root");
    scene.until("the warning", told);
    assert_eq!(worker_of(&scene), "0");
    for line in ["user nobody", "uid 61234\n    gid 61235"] {
        scene.template(&format!("global\n    {line}\n{TEMPLATE}"));
        scene.wait("the line", || scene.file().contains(line).then_some(()));
        scene.until("no warning", |status| !told(status));
        assert_ne!(worker_of(&scene), "0");
    }
    serves_and_ends(scene, &["one"]);
}

// L11
#[haproxies(ends)]
fn the_shipped_global_gives_up_the_rights_of_root_where_haproxy_has_a_user(version: Version) {
    let consul = Consul::start().unwrap();
    let shipped = format!("{{{{> global}}}}\n{TEMPLATE}");
    for (users, groups, user) in [
        (
            "haproxy:x:61234:61235::/nonexistent:/bin/false",
            "haproxy:x:61235:",
            "61234",
        ),
        (
            "haproxy:x:61234:61235::/nonexistent:/bin/false",
            "",
            "61234",
        ),
        ("", "haproxy:x:61235:", "0"),
        ("", "", "0"),
    ] {
        let given = Given::consul(&consul.url())
            .binary(version.program())
            .template(&shipped)
            .instances(&consul, &["one"]);
        let dir = given.setup.path("");
        for (name, lines) in [("passwd", users), ("group", groups)] {
            let first = "root:x:0:0:root:/root:/bin/sh\n";
            given
                .setup
                .file(name, &format!("{first}{lines}\n"))
                .unwrap();
        }
        let own = format!(
            "mount --bind {dir}passwd /etc/passwd && mount --bind {dir}group /etc/group && exec \"$@\""
        );
        let words = ["unshare", "--mount", "sh", "-ec", &own, "sh"].map(str::to_owned);
        let scene = given.through(&words).run();
        assert_eq!(
            worker_of(&scene),
            user,
            "{users} {groups}\n{}",
            scene.file()
        );
        serves_and_ends(scene, &["one"]);
    }
}
