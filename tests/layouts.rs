//! Layouts that people have: a master by `master-worker` in the configuration, files of another owner, sections that a
//! version refuses.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use support::haproxies::{Version, haproxies};

use super::environment::{Stage, warnings};

/// Neither is anybody's on a usual system.
const USER: u32 = 61_234;
const GROUP: u32 = 61_235;
const BIND: &str = "    bind 127.0.0.1:@port@";

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

// F03 G06
#[haproxies(ends)]
fn a_master_by_its_configuration_is_reloaded_in_every_mode(version: Version) {
    // HAProxy 3.2 takes `-S` only with `-W`.
    let modes: &[&str] = match version.is_oldest() {
        true => &["signal", "command", "supervise", "master"],
        false => &["signal", "command", "supervise"],
    };
    for mode in modes {
        let mut stage = Stage::new(&version);
        let text = stage.text("    master-worker", BIND);
        let socket = stage.setup.path("master.sock");
        let words: &[&str] = match *mode {
            "master" => &["-S", &socket],
            _ => &[],
        };
        if *mode != "supervise" {
            stage.start_haproxy(words, &[("ZONE", "a")], &text);
        }
        let header = "    http-request set-header X-Zone \"z$ZONE\"";
        stage.template("    master-worker", &format!("{BIND}\n{header}"));
        stage.settings(mode, "environment = [\"ZONE=a\"]");
        stage.run();
        let status = stage.confirmed();
        assert_eq!(warnings(&status), Vec::<String>::new(), "{mode}");
        let master = stage.haproxy.as_ref().map(|haproxy| haproxy.pid());
        // A configuration without the line leaves the master what it is.
        stage.template("", &format!("{BIND}\n{header}"));
        let reloads = status["haproxy"]["reloads"].as_u64();
        let status = stage.until("the second set", |status| {
            status["state"] == "confirmed" && status["haproxy"]["reloads"].as_u64() > reloads
        });
        assert_eq!(warnings(&status), Vec::<String>::new(), "{mode}");
        assert!(stage.answers(), "{mode}");
        if let Some(haproxy) = &mut stage.haproxy {
            assert!(haproxy.is_running(), "{mode}");
            assert_eq!(Some(haproxy.pid()), master);
        }
        stage.end();
    }
}

/// HAProxy of root, and Gatewright as a user of its own that may write to the directory.
fn beside_root(version: &Version) -> Stage {
    let mut stage = Stage::new(version);
    let socket = format!("{},mode,0660,gid,{GROUP}", stage.setup.path("master.sock"));
    let text = stage.text("", BIND);
    stage.start_haproxy(&["-W", "-db", "-S", &socket], &[], &text);
    stage.setup = stage.setup.user(USER, GROUP);
    chown(stage.setup.directory(), Some(USER), Some(GROUP)).unwrap();
    stage.template("", &format!("{BIND}\n    maxconn 100"));
    stage.settings("master", "");
    stage
}

// E05 I12
#[haproxies(ends)]
fn a_file_of_root_that_all_may_read_is_replaced_and_keeps_its_mode(version: Version) {
    let mut stage = beside_root(&version);
    let file = stage.setup.directory().join("haproxy.cfg");
    mode(&file, 0o644);
    stage.run();
    stage.confirmed();
    let found = std::fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), found.gid()), (USER, GROUP));
    assert_eq!(found.mode() & 0o7777, 0o644);
    assert!(stage.answers());
    stage.end();
}

// E05 I12
#[haproxies(ends)]
fn a_file_that_may_not_be_replaced_is_told_by_its_owner(version: Version) {
    let mut stage = beside_root(&version);
    let file = stage.setup.directory().join("haproxy.cfg");
    let settings = stage.setup.path("gatewright.toml");
    let refused = |stage: &Stage, parts: &[&str]| {
        let output = stage.setup.call(&["run", "-c", &settings]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        let file = file.display().to_string();
        for part in parts.iter().copied().chain([file.as_str()]) {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("right to write in that directory"), "{said}");
    };
    // It may not be read.
    for bits in [0o600, 0o640] {
        mode(&file, bits);
        let belongs = format!("the file belongs to user root and group root with mode {bits:04o}");
        refused(
            &stage,
            &[&belongs, "Gatewright's user 61234 may not read it", "chgrp"],
        );
    }
    // It may be read, and only its owner may replace it.
    mode(&file, 0o644);
    chown(stage.setup.directory(), Some(0), Some(GROUP)).unwrap();
    mode(stage.setup.directory(), 0o1775);
    refused(
        &stage,
        &["belongs to user root", "may not replace it", "is sticky"],
    );
    chown(stage.setup.directory(), Some(USER), Some(GROUP)).unwrap();
    mode(stage.setup.directory(), 0o755);

    // The group may do what others may not: HAProxy could read it by that.
    mode(&file, 0o654);
    stage.run();
    let what = "belongs to user root and group root with mode 0654";
    let log = |stage: &Stage, parts: &[&str]| {
        let gatewright = stage.gatewright.as_ref().unwrap();
        let line = gatewright.wait_for_log(std::time::Duration::from_secs(30), parts);
        line.unwrap_or_else(|error| panic!("{error}"))
    };
    log(&stage, &[what, "HAProxy could lose access", "chgrp"]);
    assert!(stage.answers());
    assert_eq!(std::fs::metadata(&file).unwrap().uid(), 0);
    // Once it belongs to a group of Gatewright's, all goes by itself.
    chown(&file, None, Some(GROUP)).unwrap();
    stage.confirmed();
    let found = std::fs::metadata(&file).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (USER, GROUP, 0o654)
    );
    stage.end();
}

// F01 K01
#[haproxies(ends)]
fn a_reason_that_haproxy_calls_a_warning_is_told(version: Version) {
    let mut stage = Stage::new(&version);
    stage.template("", BIND);
    stage.settings("supervise", "");
    stage.run();
    stage.confirmed();
    let text = stage.text("", BIND);
    let program = "program idle\n    command sleep 600\n";
    stage
        .setup
        .file("haproxy.cfg.hbs", &format!("{text}{program}"))
        .unwrap();
    if version.warns_of_deprecated_lines() {
        let place = format!("haproxy.cfg.hbs:{}", text.lines().count() + 1);
        stage.refuses(&[
            "The 'program' section is deprecated",
            "expose-deprecated-directives",
            &place,
        ]);
    } else {
        stage.until("the program", |status| {
            status["state"] == "confirmed" && status["haproxy"]["reloads"].as_u64() >= Some(1)
        });
    }
    stage.end();
}

// F01 K01
#[haproxies(ends)]
fn an_error_that_names_no_place_is_told_with_the_warnings(version: Version) {
    let mut stage = Stage::new(&version);
    stage.setup.file("other.cfg", "# nothing yet\n").unwrap();
    stage.template("", BIND);
    stage.settings("supervise", "config_files = [\"other.cfg\"]");
    stage.run();
    stage.confirmed();
    let [port] = support::ports::free().unwrap();
    // A proxy of a file that is not of the set: HAProxy gives its name alone.
    for (number, (line, part)) in [
        (
            "use_backend nowhere if a",
            "unable to find required use_backend: 'nowhere'",
        ),
        (
            "stick-table type ip size 1k peers nopeers",
            "unable to find sync peers 'nopeers'",
        ),
        (
            "http-request track-sc0 src table notable",
            "unable to find table 'notable'",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let other = format!(
            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n\
             frontend other\n    bind 127.0.0.1:{port}\n    acl a path\n    {line}\n"
        );
        stage.setup.file("other.cfg", &other).unwrap();
        stage.template("", &format!("{BIND}\n    maxconn {}", 100 + number));
        stage.refuses(&[part, "this ACL will never match"]);
    }
    stage.end();
}
