//! HAProxy reads the files that Gatewright writes, or nothing is said to it: single files that are mounted, other
//! mount namespaces, other roots.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::{Version, haproxies, oldest};
use support::haproxy::cli;
use support::process::{Process, command};
use support::traffic::send;
use support::{ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
/// Nobody's on a usual system.
const USER: u32 = 61_234;

/// A Consul with an instance of `web`, and HAProxy on a configuration that Gatewright is to keep.
struct World {
    consul: Consul,
    backends: Vec<Backend>,
    entrance: SocketAddr,
    text: String,
    setup: Setup,
    haproxy: Option<Process>,
    gatewright: Option<Gatewright>,
}

impl World {
    fn new(version: &Version) -> World {
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = format!(
            "global\n    httpclient.ssl.verify none\ndefaults\n    mode http\n    timeout connect 2s\n    \
             timeout client 10s\n    timeout server 10s\nfrontend in\n    bind {entrance}\n    \
             default_backend web\nbackend web\n"
        );
        let setup = Setup::new().unwrap();
        for folder in ["live", "run", "other"] {
            std::fs::create_dir(setup.directory().join(folder)).unwrap();
        }
        let servers = "{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n";
        setup
            .file("haproxy.cfg.hbs", &format!("{text}{servers}"))
            .unwrap();
        setup.file("live/haproxy.cfg", &text).unwrap();
        let mut world = World {
            consul: Consul::start().unwrap(),
            backends: Vec::new(),
            entrance,
            text,
            setup,
            haproxy: None,
            gatewright: None,
        };
        world.instance("one");
        world
            .setup
            .settings(&format!(
                "[consul]\naddresses = [\"{}\"]\n\n\
                 [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/live/haproxy.cfg\"\n\n\
                 [haproxy]\nmode = \"master\"\nbinary = {:?}\nmaster_socket = \"{{dir}}/run/master.sock\"\n\n\
                 [apply]\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\n\
                 [state]\ndirectory = \"{{dir}}/state\"\n",
                world.consul.url(),
                version.program(),
            ))
            .unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.directory().join(name)
    }

    fn instance(&mut self, id: &str) {
        let backend = Backend::start(id).unwrap();
        self.consul
            .register_instance("web", id, backend.address())
            .unwrap();
        self.backends.push(backend);
    }

    /// Starts HAProxy on `file` in a mount namespace of its own, after a script there in Gatewright's directory.
    fn haproxy(&mut self, version: &Version, script: &str, file: &str) {
        let run = format!("{script}\nexec \"$@\"");
        let socket = format!("{},mode,666", self.path("run/master.sock").display());
        let file = self.path(file).display().to_string();
        let program = version.program().display().to_string();
        let words = [
            "-m", "sh", "-ec", &run, "sh", &program, "-W", "-db", "-S", &socket, "-f", &file,
        ]
        .map(str::to_owned);
        let mut command = command(Path::new("unshare"), words);
        command.current_dir(self.setup.directory());
        let log = self.path("haproxy.log");
        self.haproxy = Some(Process::start("HAProxy", &mut command, &log).unwrap());
        wait_for(LIMIT, "HAProxy to serve", || self.worker().map(drop)).unwrap();
    }

    fn worker(&self) -> Option<String> {
        let info = cli(&self.path("run/master.sock"), "@1 show info").ok()?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        pid.map(str::to_owned)
    }

    fn run(&mut self) {
        self.gatewright = Some(self.setup.run().unwrap());
    }

    fn logged(&self, words: &[&str]) {
        let gatewright = self.gatewright.as_ref().unwrap();
        gatewright.wait_for_log(LIMIT, words).unwrap();
    }

    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(LIMIT, what, || self.setup.status().ok().filter(&holds));
        found.unwrap_or_else(|error| {
            let log = self.gatewright.as_ref().map(Gatewright::log);
            panic!(
                "{error}\n{:?}\n{}",
                self.setup.status(),
                log.unwrap_or_default()
            )
        })
    }

    fn serves(&self, ids: &[&str]) {
        wait_for(LIMIT, &format!("answers of {ids:?}"), || {
            let answers = send(self.entrance, 2 * ids.len() as u64).answers;
            ids.iter().all(|id| answers.contains_key(*id)).then_some(())
        })
        .unwrap_or_else(|error| {
            let log = self.gatewright.as_ref().map(Gatewright::log);
            panic!("{error}\n{}", log.unwrap_or_default())
        });
    }

    /// Gatewright says why it does nothing, and neither the worker nor the file has changed.
    fn nothing_is_done(&mut self, words: &[&str]) {
        let worker = self.worker();
        self.run();
        self.logged(words);
        let said = |status: &Value| {
            let text = status.to_string();
            words.iter().all(|word| text.contains(word))
        };
        self.until("the reason in the status", said);
        assert_eq!(self.setup.read("live/haproxy.cfg").unwrap(), self.text);
        assert_eq!(self.worker(), worker);
        let destination = self.path("live/haproxy.cfg");
        let variable = gatewright::apply::set::revision_variable(&destination);
        let revision = cli(
            &self.path("run/master.sock"),
            &format!("@1 get var {variable}"),
        );
        assert!(
            !revision.unwrap().contains("value="),
            "nothing was said to the worker"
        );
        assert_eq!(self.gatewright.as_mut().unwrap().stop(LIMIT).unwrap(), 0);
    }
}

// E06
#[haproxies(ends)]
fn a_haproxy_with_the_single_file_mounted_is_told_nothing(version: Version) {
    let mut world = World::new(&version);
    let mount = "mount --bind live/haproxy.cfg live/haproxy.cfg";
    world.haproxy(&version, mount, "live/haproxy.cfg");
    world.nothing_is_done(&[
        "has the single file",
        "Mount the directory instead of the file",
    ]);
}

// E06
#[haproxies(ends)]
fn a_haproxy_that_finds_another_file_at_that_path_is_told_nothing(version: Version) {
    for script in [
        // Another directory, and a link that leads elsewhere there.
        "cp live/haproxy.cfg other; mount --bind other live",
        "cp live/haproxy.cfg run; mount -t tmpfs none live; ln -s ../run/haproxy.cfg live/haproxy.cfg",
    ] {
        let mut world = World::new(&version);
        world.haproxy(&version, script, "live/haproxy.cfg");
        world.nothing_is_done(&["reads another file than Gatewright writes"]);
    }
}

// E06
#[haproxies(ends)]
fn a_haproxy_started_with_another_file_is_told_nothing(version: Version) {
    let mut world = World::new(&version);
    world.haproxy(&version, "cp live/haproxy.cfg other", "other/haproxy.cfg");
    world.nothing_is_done(&["does not load", "Start it with `-f` for that file"]);
}

// E06
#[haproxies(ends)]
fn the_same_file_at_another_path_of_haproxy_is_followed(version: Version) {
    for (script, file) in [
        ("mount --bind live other", "other/haproxy.cfg"),
        ("ln -s ../live/haproxy.cfg other/h.cfg", "other/h.cfg"),
    ] {
        let mut world = World::new(&version);
        world.haproxy(&version, script, file);
        world.run();
        world.serves(&["one"]);
        let before = world.until("the first set", |status| status["state"] == "confirmed");
        world.instance("two");
        world.serves(&["one", "two"]);
        let after = world.until("the second set", |status| {
            status["state"] == "confirmed" && status["haproxy"]["by_commands"].as_u64() > Some(0)
        });
        assert_eq!(after["haproxy"]["reloads"], before["haproxy"]["reloads"]);
        assert_eq!(world.gatewright.as_mut().unwrap().stop(LIMIT).unwrap(), 0);
    }
}

/// Gives a directory and all in it to the user.
fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    for entry in std::fs::read_dir(path).into_iter().flatten() {
        give(&entry.unwrap().path());
    }
}

// E06
#[haproxies(ends)]
fn a_confirmed_reload_comes_first_where_haproxy_cannot_be_looked_at(version: Version) {
    let mut world = World::new(&version);
    world.haproxy(&version, ":", "live/haproxy.cfg");
    world.run();
    world.serves(&["one"]);
    world.until("the first set", |status| status["state"] == "confirmed");
    assert_eq!(world.gatewright.as_mut().unwrap().stop(LIMIT).unwrap(), 0);
    // Another user may not look at the processes of root.
    chown(world.path(""), Some(USER), Some(USER)).unwrap();
    give(&world.path("live"));
    give(&world.path("state"));
    let setup = std::mem::replace(&mut world.setup, Setup::new().unwrap());
    world.setup = setup.user(USER, USER);
    world.run();
    world.logged(&["watches Consul"]);
    let worker = world.worker();
    world.instance("two");
    world.logged(&["reload", "it is not known yet that HAProxy reads the files"]);
    world.serves(&["one", "two"]);
    assert_ne!(world.worker(), worker);
    let worker = world.worker();
    world.instance("three");
    world.serves(&["one", "two", "three"]);
    assert_eq!(world.worker(), worker);
    assert_eq!(world.gatewright.as_mut().unwrap().stop(LIMIT).unwrap(), 0);
}

// E06
#[test]
fn a_destination_that_is_mounted_alone_is_refused_at_the_start() {
    for (script, destination) in [
        (
            "mount --bind live/haproxy.cfg live/haproxy.cfg",
            "live/haproxy.cfg",
        ),
        (
            "ln -s ../live/haproxy.cfg other/h.cfg; mount --bind live/haproxy.cfg live/haproxy.cfg",
            "other/h.cfg",
        ),
        (
            "touch other/a.map; mount --bind other/a.map other/a.map",
            "other/a.map",
        ),
    ] {
        let mut world = World::new(&oldest());
        let settings = world.setup.read("gatewright.toml").unwrap();
        let settings = match destination.strip_suffix(".map") {
            None => settings.replace("live/haproxy.cfg", destination),
            Some(_) => {
                world.setup.file("a.map.hbs", "a b\n").unwrap();
                let destination = world.path(destination);
                format!(
                    "{settings}\n[[template]]\nsource = \"a.map.hbs\"\ndestination = {destination:?}\n"
                )
            }
        };
        world.setup.file("gatewright.toml", &settings).unwrap();
        let script = format!("{script}\nexec \"$@\"");
        let through = ["unshare", "-m", "sh", "-ec", &script, "sh"].map(str::to_owned);
        let setup = std::mem::replace(&mut world.setup, Setup::new().unwrap());
        world.setup = setup.through(&through);
        world.run();
        let gatewright = world.gatewright.as_mut().unwrap();
        assert_eq!(
            gatewright.process().wait(LIMIT).unwrap(),
            3,
            "{}",
            gatewright.log()
        );
        let said = gatewright.log();
        assert!(
            said.contains("something is mounted on it. Mount its directory"),
            "{said}"
        );
        assert!(!said.contains("confirmed"), "{said}");
    }
}
