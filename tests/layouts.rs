//! Layouts that people have: a master by `master-worker` in the configuration, files of another owner, sections that a
//! version refuses.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use support::haproxies::{Version, haproxies};
use support::http;
use support::process::{Process, command};

use super::environment::{Stage, warnings, written};

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

/// A configuration of root's that names files of ours, and one of ours without a section.
struct Static {
    stage: Stage,
    file: String,
}

impl Static {
    fn new(version: &Version) -> Static {
        let stage = Stage::new(version);
        let directory = stage.setup.directory().to_owned();
        std::fs::create_dir(directory.join("etc")).unwrap();
        let lines = "    bind 127.0.0.1:@port@
    acl blocked path -f @dir@blocked.lst
    http-request deny if blocked
    http-request deny deny_status 421 if { src,map_ip(@dir@nets.map) -m str no }
    http-request return status 200 content-type text/plain lf-string \"%[path,map(@dir@hosts.map,none)]\"";
        let file = stage.setup.path("etc/site.cfg");
        stage
            .setup
            .file("etc/site.cfg", &stage.text("", lines))
            .unwrap();
        mode(Path::new(&file), 0o644);
        for (name, text) in [
            ("gatewright.cfg", "# Which set HAProxy runs.\n"),
            (
                "hosts.map",
                "{{#each (tree \"hosts\")}}\n/{{Key}} {{Value}}\n{{/each}}\n",
            ),
            ("nets.map", "{{keyOrDefault \"net\" \"10.0.0.0/8\"}} no\n"),
            ("blocked.lst", "{{keyOrDefault \"blocked\" \"/bad\"}}\n"),
        ] {
            stage.setup.file(&format!("{name}.hbs"), text).unwrap();
        }
        let this = Static { stage, file };
        this.keys(r#"{"hosts/a": "one"}"#);
        this
    }

    fn keys(&self, keys: &str) {
        let catalog = format!("{{\"services\": {{}}, \"keys\": {keys}}}");
        self.stage.setup.file("catalog.new", &catalog).unwrap();
        let path = |name: &str| self.stage.setup.path(name);
        std::fs::rename(path("catalog.new"), path("catalog.json")).unwrap();
    }

    fn settings(&self, mode: &str, lines: &str) {
        let mut text = format!(
            "[haproxy]\nmode = \"{mode}\"\nbinary = {:?}\nmaster_socket = \"{{dir}}master.sock\"\n{lines}\n\
             [catalog]\nsource = \"file\"\nfile = \"catalog.json\"\n\
             [apply]\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
             [state]\ndirectory = \"{{dir}}state\"\n",
            self.stage.version.program()
        );
        for (name, kind) in [
            ("gatewright.cfg", "config"),
            ("hosts.map", "map"),
            ("nets.map", "map"),
            ("blocked.lst", "other"),
        ] {
            text.push_str(&written(name, kind));
        }
        self.stage.setup.settings(&text).unwrap();
    }

    fn asks(&self, path: &str) -> Option<(u16, String)> {
        let entrance = SocketAddr::from(([127, 0, 0, 1], self.stage.port));
        let answer = http::get(entrance, path).ok()?;
        Some((answer.status, answer.body))
    }

    fn answers(&self, path: &str, status: u16, body: &str) {
        self.stage.wait(&format!("{path} {status} {body}"), || {
            self.asks(path)
                .is_some_and(|(got, text)| got == status && (body.is_empty() || text == body))
                .then_some(())
        });
    }

    fn reloads(&self) -> u64 {
        let status = self.stage.setup.status().unwrap();
        status["haproxy"]["reloads"].as_u64().unwrap()
    }

    /// Maps change by commands, other files by a reload, and what the configuration cannot load is refused.
    fn follows(self) {
        self.stage.confirmed();
        self.answers("/a", 200, "one");
        self.answers("/bad", 403, "");
        let reloads = self.reloads();
        self.keys(r#"{"hosts/a": "two", "hosts/b": "new"}"#);
        self.answers("/a", 200, "two");
        self.answers("/b", 200, "new");
        self.stage.confirmed();
        assert_eq!(self.reloads(), reloads);
        self.keys(r#"{"hosts/a": "two", "net": "999.0.0.0/8"}"#);
        self.stage.refuses(&["nets.map", "(hidden)"]);
        assert_eq!(self.asks("/a").unwrap().1, "two");
        self.keys(r#"{"hosts/a": "three", "blocked": "/b"}"#);
        self.answers("/a", 200, "three");
        self.answers("/b", 403, "");
        self.answers("/bad", 200, "none");
        self.stage.confirmed();
        let beside = std::fs::read_dir(self.stage.setup.directory()).unwrap();
        let left: Vec<String> = beside
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("gatewright-"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
        self.stage.end();
    }
}

// F03 I12
#[haproxies(ends)]
fn maps_beside_a_configuration_of_others_are_validated_with_it(version: Version) {
    let mut site = Static::new(&version);
    site.settings("supervise", &format!("config_files = [{:?}]", site.file));
    site.stage.run();
    site.follows();
}

#[haproxies(ends)]
fn a_configuration_of_root_beside_our_maps_is_never_touched(version: Version) {
    let mut site = Static::new(&version);
    let setup = &site.stage.setup;
    for (name, text) in [
        ("hosts.map", "/a old\n"),
        ("nets.map", ""),
        ("blocked.lst", "/bad\n"),
        ("gatewright.cfg", "# none\n"),
    ] {
        setup.file(name, text).unwrap();
        chown(setup.directory().join(name), Some(USER), Some(GROUP)).unwrap();
    }
    let socket = format!("{},mode,0660,gid,{GROUP}", setup.path("master.sock"));
    let words = [
        "-W",
        "-db",
        "-S",
        &socket,
        "-f",
        &site.file,
        "-f",
        &setup.path("gatewright.cfg"),
    ];
    let mut start = command(version.program(), words);
    let log = setup.directory().join("haproxy.log");
    let haproxy = Process::start("HAProxy", &mut start, &log).unwrap();
    site.stage.haproxy = Some(haproxy);
    site.answers("/a", 200, "old");
    site.stage.setup = site.stage.setup.user(USER, GROUP);
    chown(site.stage.setup.directory(), Some(USER), Some(GROUP)).unwrap();
    site.settings("master", &format!("config_files = [{:?}]", site.file));
    site.stage.run();
    site.follows();
}
