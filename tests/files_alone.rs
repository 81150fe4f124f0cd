//! Maps and other files of ours that only a configuration of others names: HAProxy loads no configuration of ours, so
//! Gatewright finds out by itself which set a worker runs.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::gatewright::Setup;
use support::haproxies::{Version, haproxies, oldest};
use support::haproxy::cli;
use support::process::{Process, command};
use support::{Outcome, http};

use super::environment::{Stage, warnings, written};

mod faults;

const LIMIT: Duration = Duration::from_secs(30);
/// Nobody on a usual system.
const USER: u32 = 61_236;

/// The lines of the frontend that name files of ours.
const LINES: &str = "    bind 127.0.0.1:@port@
    errorfile 403 @dir@403.http
    acl blocked path -f @dir@blocked.lst
    http-request deny if blocked
    http-request deny deny_status 421 if { src,map_ip(@dir@nets.map) -m str no }
    http-request return status 200 content-type text/plain lf-string \"%[path,map(@dir@hosts.map,none)]\"";

const FILES: [(&str, &str, &str); 4] = [
    (
        "hosts.map",
        "map",
        "{{#each (tree \"hosts\")}}\n/{{Key}} {{Value}}\n{{/each}}\n",
    ),
    (
        "nets.map",
        "map",
        "{{keyOrDefault \"net\" \"10.0.0.0/8\"}} no\n",
    ),
    (
        "blocked.lst",
        "other",
        "{{keyOrDefault \"blocked\" \"/bad\"}}\n",
    ),
    (
        "403.http",
        "other",
        "HTTP/1.0 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n{{keyOrDefault \"page\" \"no\"}}\n",
    ),
];

/// A HAProxy on a configuration of others, and Gatewright that writes four files for it.
struct Site {
    stage: Stage,
    file: String,
}

impl Site {
    fn new(version: &Version) -> Site {
        let stage = Stage::new(version);
        let site = Site {
            file: stage.setup.path("etc/site.cfg"),
            stage,
        };
        site.configuration("", LINES);
        for (name, _, text) in FILES {
            let template = format!("{name}.hbs");
            site.stage.setup.file(&template, text).unwrap();
        }
        site.keys(r#"{"hosts/a": "one"}"#);
        site
    }

    fn configuration(&self, global: &str, lines: &str) {
        let text = self.stage.text(global, lines);
        let last = "    http-request return status 200 content-type text/plain string yes\n";
        let text = text.replace(last, "");
        self.stage.setup.file("etc/site.cfg", &text).unwrap();
    }

    fn keys(&self, keys: &str) {
        let catalog = format!("{{\"services\": {{}}, \"keys\": {keys}}}");
        self.stage.setup.file("catalog.new", &catalog).unwrap();
        let path = |name: &str| self.stage.setup.path(name);
        std::fs::rename(path("catalog.new"), path("catalog.json")).unwrap();
    }

    fn settings(&self, mode: &str) {
        self.settings_with(mode, "");
    }

    fn settings_with(&self, mode: &str, lines: &str) {
        let others = format!("config_files = [{:?}]\n{lines}", self.file);
        self.stage.settings(mode, &others);
        let text = self.stage.setup.read("gatewright.toml").unwrap();
        let mut text = text.split_once("[[template]]").unwrap().0.to_owned();
        for (name, kind, _) in FILES {
            text.push_str(&written(name, kind));
        }
        self.stage.setup.settings(&text).unwrap();
    }

    /// Files that stood there before Gatewright came, and a HAProxy that has loaded them.
    fn start_haproxy(&mut self) {
        for (name, text) in [
            ("hosts.map", "/a old\n"),
            ("nets.map", ""),
            ("blocked.lst", "/bad\n"),
            ("403.http", "HTTP/1.0 403 Forbidden\r\n\r\nold\n"),
        ] {
            self.stage.setup.file(name, text).unwrap();
        }
        self.haproxy();
        self.answers("/a", 200, "old");
    }

    /// Gatewright beside that HAProxy, in this mode, with its first set.
    fn confirmed_in(version: &Version, mode: &str) -> Site {
        let mut site = Site::new(version);
        site.start_haproxy();
        site.settings(mode);
        site.stage.run();
        site.confirmed("one");
        site
    }

    fn haproxy(&mut self) {
        self.haproxy_after("");
    }

    /// In a mount namespace of its own, after a script there.
    fn haproxy_after(&mut self, script: &str) {
        let setup = &self.stage.setup;
        let socket = format!("{},mode,666", setup.path("master.sock"));
        let pid_file = setup.path("haproxy.pid");
        let words = [
            "-W", "-db", "-S", &socket, "-p", &pid_file, "-f", &self.file,
        ];
        let mut start = match script {
            "" => command(self.stage.version.program(), words),
            script => {
                let run = format!("{script}\nexec \"$0\" \"$@\"");
                let mut start = command(Path::new("unshare"), ["-m", "sh", "-ec", &run]);
                start.arg(self.stage.version.program()).args(words);
                start
            }
        };
        let log = setup.directory().join("haproxy.log");
        self.stage.haproxy = Some(Process::start("HAProxy", &mut start, &log).unwrap());
    }

    fn asks(&self, path: &str) -> Outcome<(u16, String)> {
        let entrance = SocketAddr::from(([127, 0, 0, 1], self.stage.port));
        let answer = http::get(entrance, path).map_err(|error| error.to_string())?;
        Ok((answer.status, answer.body.trim().to_owned()))
    }

    fn answers(&self, path: &str, status: u16, body: &str) {
        let is_it = |got: (u16, String)| got.0 == status && (body.is_empty() || got.1 == body);
        self.stage.wait(&format!("{path} {status} {body}"), || {
            self.asks(path).is_ok_and(is_it).then_some(())
        });
    }

    /// A word of the master about itself.
    fn master(&self, word: usize) -> u64 {
        let socket = self.stage.setup.directory().join("master.sock");
        self.stage.wait("the master", || {
            let all = cli(&socket, "show proc").ok()?;
            let master = all.lines().find(|line| line.contains("master"))?;
            master.split_whitespace().nth(word)?.parse().ok()
        })
    }

    /// Reloads by the word of the master, whoever caused them.
    fn reloads(&self) -> u64 {
        self.master(2)
    }

    /// Waits until Gatewright knows what this worker runs.
    fn knows(&self, worker: u32) {
        self.stage.until("the worker to be known", |status| {
            status["haproxy"]["worker"] == worker
                && status["haproxy"]["running"].is_string()
                && status["state"] == "confirmed"
        });
    }

    /// Waits for a worker after this one.
    fn next_worker(&self, former: u32) -> u32 {
        self.stage.wait("another worker", || {
            self.worker().filter(|one| *one != former)
        })
    }

    fn log(&self, parts: &[&str]) {
        let gatewright = self.stage.gatewright.as_ref().unwrap();
        let line = gatewright.wait_for_log(LIMIT, parts);
        line.unwrap_or_else(|error| panic!("{error}"));
    }

    fn worker(&self) -> Option<u32> {
        support::haproxy::worker(&self.stage.setup.directory().join("stats.sock"))
    }

    /// Confirmed with this answer of the map and no warning.
    fn confirmed(&self, answer: &str) {
        self.answers("/a", 200, answer);
        self.stage
            .until("the confirmation without a warning", |status| {
                status["state"] == "confirmed" && warnings(status).is_empty()
            });
    }

    /// The same, but for a warning about this file alone.
    fn confirmed_but(&self, file: &str) {
        let status = self.stage.confirmed();
        let warnings = warnings(&status);
        assert!(
            warnings.iter().all(|one| one.contains(file)),
            "{warnings:?}"
        );
    }

    fn stop(&mut self) {
        let mut gatewright = self.stage.gatewright.take().unwrap();
        assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    }
}

// E12 G01
#[haproxies(ends)]
fn files_alone_follow_the_catalog_in_every_mode(version: Version) {
    for mode in ["master", "signal", "command", "supervise"] {
        let mut site = Site::new(&version);
        if mode != "supervise" {
            site.start_haproxy();
        }
        site.settings(mode);
        site.stage.run();
        site.confirmed("one");
        site.answers("/bad", 403, "no");
        let reloads = site.reloads();
        site.keys(r#"{"hosts/a": "two", "hosts/b": "new", "blocked": "/worse"}"#);
        site.confirmed("two");
        site.answers("/b", 200, "new");
        site.answers("/worse", 403, "no");
        site.answers("/bad", 200, "none");
        assert_eq!(site.reloads(), reloads, "{mode}: a map and patterns");
        site.keys(r#"{"hosts/a": "two", "blocked": "/worse", "page": "never"}"#);
        site.answers("/worse", 403, "never");
        site.confirmed("two");
        assert_eq!(site.reloads(), reloads + 1, "{mode}: a page");
        site.keys(r#"{"hosts/a": "three", "net": "999.0.0.0/8"}"#);
        site.stage.refuses(&["nets.map", "(hidden)"]);
        // The worker holds what the file says, whatever was told to it meanwhile.
        let is_file = |answer: String| {
            site.stage
                .setup
                .read("hosts.map")
                .unwrap()
                .contains(&answer)
        };
        site.stage.wait("the map of the file", || {
            is_file(site.asks("/a").ok()?.1).then_some(())
        });
        site.keys(r#"{"hosts/a": "three", "blocked": "/worse", "page": "never"}"#);
        site.confirmed("three");
        assert_eq!(site.reloads(), reloads + 1, "{mode}: a map");
        site.stage.end();
    }
}

// E12 G17 J06
#[haproxies(ends)]
fn no_start_and_no_reload_by_others_costs_a_reload(version: Version) {
    for mode in ["master", "command"] {
        let mut site = Site::confirmed_in(&version, mode);
        let (reloads, worker) = (site.reloads(), site.worker().unwrap());
        site.stop();
        site.stage.run();
        site.confirmed("one");
        site.stage.gatewright.take().unwrap().process().kill();
        site.stage.run();
        site.confirmed("one");
        assert_eq!(
            (site.reloads(), site.worker()),
            (reloads, Some(worker)),
            "{mode}"
        );
        // By commands the files differ from what this worker has loaded.
        site.keys(r#"{"hosts/a": "two"}"#);
        site.confirmed("two");
        let haproxy = site.stage.haproxy.as_mut().unwrap();
        haproxy.signal(Signal::SIGUSR2);
        let second = site.next_worker(worker);
        site.knows(second);
        site.keys(r#"{"hosts/a": "three"}"#);
        site.confirmed("three");
        assert_eq!(site.reloads(), reloads + 1, "{mode}: that of others alone");
        // HAProxy ends and is started again while Gatewright is away.
        site.stop();
        site.stage.haproxy.take().unwrap().kill();
        site.haproxy();
        site.answers("/a", 200, "three");
        site.stage.run();
        site.confirmed("three");
        site.knows(site.worker().unwrap());
        site.keys(r#"{"hosts/a": "four"}"#);
        site.confirmed("four");
        assert_eq!(site.reloads(), 0, "{mode}: after a new start");
        site.stage.end();
    }
}

// G17 J06
#[haproxies(ends)]
fn a_supervised_haproxy_that_is_killed_comes_back_without_a_reload(version: Version) {
    let mut site = Site::new(&version);
    site.settings("supervise");
    site.stage.run();
    site.confirmed("one");
    site.keys(r#"{"hosts/a": "two"}"#);
    site.confirmed("two");
    let worker = site.worker().unwrap();
    kill(Pid::from_raw(site.master(0) as i32), Signal::SIGKILL).unwrap();
    let next = site.next_worker(worker);
    site.knows(next);
    site.answers("/a", 200, "two");
    assert_eq!(site.reloads(), 0);
    site.stage.end();
}

// G17 K01
#[haproxies(ends)]
fn a_file_that_no_configuration_names_is_a_standing_warning(version: Version) {
    let mut site = Site::new(&version);
    site.configuration(
        "",
        &LINES.replace("errorfile 403 @dir@403.http", "maxconn 100"),
    );
    site.settings("supervise");
    site.stage.run();
    site.stage.confirmed();
    let page = site.stage.setup.path("403.http");
    site.stage
        .warns(&["No configuration that HAProxy loads names", &page]);
    assert_eq!(warnings(&site.stage.setup.status().unwrap()).len(), 1);
    site.stage.end();
}

// G17 J04
#[haproxies(ends)]
fn a_lost_state_directory_and_another_user_cost_no_reload(version: Version) {
    let mut site = Site::new(&version);
    for (name, ..) in FILES {
        let template = format!("{name}.hbs");
        let path = site.stage.setup.directory().join(&template);
        std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }
    site.start_haproxy();
    // HAProxy is root's, so its process cannot be looked at.
    let directory = site.stage.setup.directory().to_owned();
    let files = FILES.iter().map(|(name, ..)| directory.join(name));
    for path in files.chain([directory.clone()]) {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    site.settings("master");
    site.stage.setup = site.stage.setup.user(USER, USER);
    site.stage.run();
    site.confirmed("one");
    let reloads = site.reloads();
    site.keys(r#"{"hosts/a": "two"}"#);
    site.confirmed("two");
    site.stop();
    std::fs::remove_dir_all(directory.join("state")).unwrap();
    site.stage.run();
    site.confirmed("two");
    assert_eq!(site.reloads(), reloads);
    site.stage.end();
}

// G17 J04
#[haproxies(ends)]
fn two_gatewrights_with_files_alone_know_the_reloads_of_each_other(version: Version) {
    let mut site = Site::new(&version);
    let second = Setup::new().unwrap();
    let tags = second.path("tags.map");
    let line =
        format!("    http-request deny deny_status 410 if {{ path,map({tags}) -m str tea }}");
    let (first, last) = LINES.rsplit_once('\n').unwrap();
    site.configuration("", &format!("{first}\n{line}\n{last}"));
    second.file("tags.map", "/pot tea\n").unwrap();
    second.file("tags.map.hbs", "/cup tea\n").unwrap();
    second.file("catalog.json", "{\"services\": {}}").unwrap();
    let socket = site.stage.setup.path("master.sock");
    let settings = format!(
        "[haproxy]\nmode = \"master\"\nbinary = {:?}\nmaster_socket = {socket:?}\nconfig_files = [{:?}]\n\
         [catalog]\nsource = \"file\"\nfile = \"catalog.json\"\n\
         [apply]\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
         [state]\ndirectory = \"{{dir}}state\"\n\
         [[template]]\nsource = \"tags.map.hbs\"\ndestination = \"{{dir}}tags.map\"\nkind = \"map\"\n",
        version.program(),
        site.file
    );
    second.settings(&settings).unwrap();
    site.start_haproxy();
    site.settings("master");
    site.stage.run();
    site.confirmed("one");
    let mut other = second.run().unwrap();
    site.answers("/cup", 410, "");
    let (reloads, worker) = (site.reloads(), site.worker().unwrap());
    site.knows(worker);
    site.keys(r#"{"hosts/a": "one", "page": "never"}"#);
    let next = site.next_worker(worker);
    site.knows(next);
    site.stage.wait("the other to know the worker", || {
        let status = second.status().ok()?;
        (status["state"] == "confirmed" && status["haproxy"]["worker"] == next).then_some(())
    });
    second.file("tags.map.hbs", "/can tea\n").unwrap();
    site.answers("/can", 410, "");
    site.keys(r#"{"hosts/a": "two", "page": "never"}"#);
    site.confirmed("two");
    assert_eq!(site.reloads(), reloads + 1, "that of the page alone");
    assert_eq!(other.stop(LIMIT).unwrap(), 0);
    site.stage.end();
}

// F10 G01
#[haproxies(ends)]
fn certificates_of_a_list_alone_change_by_commands(version: Version) {
    let mut site = Site::new(&version);
    let [port] = support::ports::free().unwrap();
    let lines =
        format!("{LINES}\nlisten tls\n    bind 127.0.0.1:{port} ssl crt-list @dir@list.txt");
    site.configuration("", &lines);
    site.settings("supervise");
    let mut text = site.stage.setup.read("gatewright.toml").unwrap();
    for (name, kind) in [
        ("a.pem", "other"),
        ("b.pem", "other"),
        ("list.txt", "crt-list"),
    ] {
        text.push_str(&format!(
            "[[template]]\nsource = \"{name}.hbs\"\ndestination = \"{{dir}}{name}\"\nkind = \"{kind}\"\n"
        ));
    }
    site.stage.setup.settings(&text).unwrap();
    for name in ["a", "b"] {
        make_certificate(&site, name);
    }
    let list = |site: &Site, lines: &str| {
        let text = lines.replace("@dir@", &site.stage.setup.path(""));
        site.stage.setup.file("list.txt.hbs", &text).unwrap();
    };
    list(&site, "@dir@a.pem\n");
    site.stage.run();
    site.confirmed_but("b.pem");
    let (reloads, socket) = (
        site.reloads(),
        site.stage.setup.directory().join("stats.sock"),
    );
    list(&site, "@dir@a.pem\n@dir@b.pem b.example\n");
    let question = format!("show ssl crt-list -n {}", site.stage.setup.path("list.txt"));
    let lists = |part: &str| {
        site.stage.wait(&format!("{part} in the list"), || {
            cli(&socket, &question).ok()?.contains(part).then_some(())
        });
    };
    lists("b.pem");
    site.confirmed("one");
    assert_eq!(site.reloads(), reloads);
    // Another worker holds the same certificates.
    let worker = site.worker().unwrap();
    kill(Pid::from_raw(site.master(0) as i32), Signal::SIGUSR2).unwrap();
    site.knows(site.next_worker(worker));
    lists("b.pem");
    assert_eq!(site.reloads(), reloads + 1);
    make_certificate(&site, "b");
    site.stage.until("the other certificate", |status| {
        status["haproxy"]["by_commands"].as_u64() >= Some(2) && status["state"] == "confirmed"
    });
    assert_eq!(site.reloads(), reloads + 1);
    site.stage.end();
}

/// A new certificate with its key, in the template of that name.
fn make_certificate(site: &Site, name: &str) {
    let made = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
    let both = made.cert.pem() + &made.signing_key.serialize_pem();
    let template = format!("{name}.pem.hbs");
    site.stage.setup.file(&template, &both).unwrap();
}

// F03 L07
#[test]
fn check_and_render_take_files_alone_only_beside_a_configuration() {
    let mut site = Site::new(&oldest());
    site.start_haproxy();
    site.settings("master");
    let settings = site.stage.setup.path("gatewright.toml");
    let call = |site: &Site, words: &[&str]| {
        let output = site.stage.setup.call(words).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = call(
        &site,
        &["check", "-c", &settings, "--no-made", "catalog.json"],
    );
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = call(&site, &["render", "-c", &settings]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("/a one"), "{said}");
    let (code, said) = call(&site, &["render", "-c", &settings, "--plan"]);
    assert!(code.is_some_and(|code| code < 2), "{said}");
    assert!(said.contains("Reload, because"), "{said}");
    site.stage.run();
    site.confirmed("one");
    site.keys(r#"{"hosts/a": "two"}"#);
    site.confirmed("two");
    site.stage
        .setup
        .file("hosts.map.hbs", "/a three\n")
        .unwrap();
    site.confirmed("three");
    let (_, said) = call(&site, &["render", "-c", &settings, "--plan"]);
    assert!(!said.contains("Reload"), "{said}");
    let text = site.stage.setup.read("gatewright.toml").unwrap();
    let others = text
        .lines()
        .filter(|line| !line.starts_with("config_files"));
    let text: Vec<&str> = others.collect();
    site.stage
        .setup
        .file("none.toml", &text.join("\n"))
        .unwrap();
    let (code, said) = call(&site, &["run", "-c", &site.stage.setup.path("none.toml")]);
    assert_eq!(code, Some(3), "{said}");
    for part in ["kind = \"config\"", "haproxy.config_files"] {
        assert!(said.contains(part), "{said}");
    }
    site.stage.end();
}
