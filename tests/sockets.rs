//! HAProxy's command socket wherever it listens and whatever it lets Gatewright do: TCP ports, abstract
//! names, levels, and sockets of other programs. A set that HAProxy was told to load stays where no socket
//! tells whether it did.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use serde_json::{Value, json};

use support::backend::Backend;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::{Version, haproxies};
use support::haproxy::{HAProxy, cli};
use support::process::{Process, command};
use support::{ports, traffic, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

const SIGNAL: &str =
    "mode = \"signal\"\npid_file = \"{dir}haproxy.pid\"\nconfirm_timeout = \"8s\"\n";
/// Where no socket confirms: a change waits for so long.
const UNCONFIRMED: &str =
    "mode = \"signal\"\npid_file = \"{dir}haproxy.pid\"\nconfirm_timeout = \"3s\"\n";
const MASTER: &str =
    "mode = \"master\"\nmaster_socket = \"{dir}master.sock\"\nconfirm_timeout = \"8s\"\n";

/// What stands in a configuration beside its `global` section.
const REST: &str = "defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend in
    bind @entrance@
    default_backend web
backend web
";

/// Gatewright, the HAProxy that it reloads, and two instances of which one is in the catalog at first.
struct World {
    gatewright: Gatewright,
    _haproxy: Process,
    setup: Setup,
    entrance: SocketAddr,
    instances: [Backend; 2],
}

impl World {
    /// `global` is the `global` section's lines and `told` the settings of `haproxy`; `{dir}` is the
    /// directory.
    fn start(version: &Version, setup: Setup, global: &str, told: &str) -> World {
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let instances = ["one", "two"].map(|name| Backend::start(name).unwrap());
        let text = template(&setup, global, entrance);
        setup.file("haproxy.cfg.hbs", &text).unwrap();
        let (by_hand, _) = text.split_once("{{#each").unwrap();
        setup.file("haproxy.cfg", by_hand).unwrap();
        let (master, pid) = (setup.path("master.sock"), setup.path("haproxy.pid"));
        let file = setup.path("haproxy.cfg");
        let words = ["-W", "-db", "-S", &master, "-p", &pid, "-f", &file];
        let mut command = command(version.program(), words);
        let log = setup.directory().join("haproxy.log");
        let haproxy = Process::start("HAProxy", &mut command, &log).unwrap();
        wait_for(LIMIT, "HAProxy to listen", || {
            std::net::TcpStream::connect(entrance).ok()
        })
        .unwrap();
        setup
            .settings(&format!(
                "[haproxy]\nbinary = {:?}\n{told}\n[catalog]\nsource = \"file\"\nfile = \"{{dir}}catalog.json\"\n\
                 [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n\
                 [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n",
                version.program()
            ))
            .unwrap();
        let gatewright = setup.run().unwrap();
        let world = World {
            gatewright,
            _haproxy: haproxy,
            setup,
            entrance,
            instances,
        };
        world.register(&["one"]);
        world
    }

    fn register(&self, names: &[&str]) {
        let instances = self.instances.iter();
        let list: Vec<Value> = instances
            .filter(|one| names.contains(&one.name()))
            .map(|one| {
                let address = one.address();
                json!({"ID": one.name(), "Address": address.ip().to_string(), "Port": address.port()})
            })
            .collect();
        let text = json!({"services": {"web": list}}).to_string();
        self.setup.file("catalog.json.new", &text).unwrap();
        let (from, to) = (
            self.setup.path("catalog.json.new"),
            self.setup.path("catalog.json"),
        );
        std::fs::rename(from, to).unwrap();
    }

    /// Waits until a status holds, with all that there is to know where it never does.
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(LIMIT, what, || self.setup.status().ok().filter(&holds)).unwrap_or_else(|error| {
            let status = self.setup.status();
            panic!("{error}\n{status:#?}\n{}", self.gatewright.log())
        })
    }

    /// Waits until exactly these instances answer through HAProxy.
    fn serves(&self, names: &[&str]) {
        wait_for(LIMIT, &format!("answers of {names:?}"), || {
            let report = traffic::send(self.entrance, 6);
            let answers = report.answers.keys().map(String::as_str);
            answers.eq(names.iter().copied()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.gatewright.log()));
    }

    /// Registers both instances and waits until both serve and HAProxy has confirmed it. Whether it took
    /// the second one by commands.
    fn grows(&self, case: &str) -> bool {
        let commands = |status: &Value| status["haproxy"]["by_commands"].as_u64();
        let first = self.until(&format!("the first set by {case}"), is_confirmed);
        self.serves(&["one"]);
        self.register(&["one", "two"]);
        self.serves(&["one", "two"]);
        let second = self.until(&format!("the second set by {case}"), |status| {
            let address = self.instances[1].address().to_string();
            is_confirmed(status) && self.file().contains(&address)
        });
        commands(&second) > commands(&first)
    }

    /// Registers both instances, of which no socket tells that HAProxy serves them: the new set stays, is
    /// not confirmed, and the status says why in these words.
    fn grows_unconfirmed(&self, case: &str, why: &[&str]) {
        for names in [&["one"][..], &["one", "two"]] {
            self.register(names);
            self.serves(names);
            let status = self.until(&format!("{names:?} unconfirmed by {case}"), |status| {
                let applied = &status["applied"];
                status["state"] == "unconfirmed"
                    && applied["confirmed"] == false
                    && status["held"].is_null()
                    && self.file().matches("    server ").count() == names.len()
                    && why
                        .iter()
                        .all(|word| status["warnings"].to_string().contains(word))
            });
            let story = status["applied"]["story"].to_string();
            assert!(
                why.iter().all(|word| story.contains(word)),
                "{case}: {story}"
            );
        }
        // It stays so: nothing is taken back and HAProxy is not reloaded again and again.
        let reloads = self.reloads();
        let uptime = |status: &Value| status["uptime_seconds"].as_f64().unwrap_or_default();
        let before = uptime(&self.setup.status().unwrap());
        self.until("further looks", |status| uptime(status) > before + 3.0);
        assert_eq!(self.reloads(), reloads, "{case}");
        self.serves(&["one", "two"]);
        assert!(!self.gatewright.log().contains("last good"), "{case}");
    }

    fn file(&self) -> String {
        self.setup.read("haproxy.cfg").unwrap()
    }

    /// By the master's own count.
    fn reloads(&self) -> String {
        let master = self.setup.directory().join("master.sock");
        let text = cli(&master, "show proc").unwrap();
        let line = text.lines().find(|line| line.contains(" master "));
        line.unwrap().split_whitespace().nth(2).unwrap().to_owned()
    }
}

fn template(setup: &Setup, global: &str, entrance: SocketAddr) -> String {
    let global = global.replace("{dir}", &setup.path(""));
    let rest = REST.replace("@entrance@", &entrance.to_string());
    format!(
        "global\n    fd-hard-limit 2000\n    hard-stop-after 5s\n    httpclient.ssl.verify none\n{global}{rest}\
         {{{{#each (service \"web\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}}\n{{{{/each}}}}\n"
    )
}

fn is_confirmed(status: &Value) -> bool {
    status["state"] == "confirmed" && status["applied"]["confirmed"] == true
}

/// A name that no other test has.
fn name(setup: &Setup) -> String {
    let path = setup.directory().file_name().unwrap().to_string_lossy();
    format!("gatewright-{}", path.trim_start_matches('.'))
}

// H01
#[haproxies(ends)]
fn a_socket_on_a_port_or_an_abstract_name_confirms_and_takes_commands(version: Version) {
    let [one, two, three, four] = ports::free().unwrap();
    let mut addresses = vec![
        format!("ipv4@127.0.0.1:{one}"),
        format!("127.0.0.1:{two}"),
        format!("ipv6@[::1]:{three}"),
        format!("*:{four}"),
        "abns@NAME".to_owned(),
    ];
    if version.has_init_state() {
        addresses.push("abnsz@NAME".to_owned());
    }
    for address in addresses {
        let setup = Setup::new().unwrap();
        let address = address.replace("NAME", &name(&setup));
        let global = format!("    stats socket {address} level admin\n");
        let world = World::start(&version, setup, &global, SIGNAL);
        assert!(world.grows(&address), "{address}");
    }
}

// H01
#[haproxies(ends)]
fn the_settings_name_a_port_or_an_abstract_name(version: Version) {
    for named in ["127.0.0.1:PORT", "localhost:PORT", "abns@NAME"] {
        let setup = Setup::new().unwrap();
        let [port] = ports::free().unwrap();
        let named = named.replace("PORT", &port.to_string());
        let named = named.replace("NAME", &name(&setup));
        // The configuration names it by a variable, which only HAProxy can read.
        let bound = named.replace("localhost", "127.0.0.1");
        let global =
            format!("    presetenv WHERE {bound}\n    stats socket \"${{WHERE}}\" level admin\n");
        let told = format!("{SIGNAL}stats_socket = \"{named}\"\n");
        let world = World::start(&version, setup, &global, &told);
        assert!(world.grows(&named), "{named}");
    }
}

// H01
#[haproxies(ends)]
fn of_several_sockets_the_most_able_one_is_used(version: Version) {
    let user = "    stats socket {dir}user.sock level user\n";
    let operator = "    stats socket {dir}operator.sock\n";
    for (case, global, commands) in [
        (
            "admin last",
            format!("{user}{operator}    stats socket abns@NAME level admin\n"),
            true,
        ),
        ("operator last", format!("{user}{operator}"), false),
        (
            "an admin whose answers hold their severity",
            format!(
                "{user}    stats socket {{dir}}severe.sock level admin severity-output number\n"
            ),
            false,
        ),
        (
            "an admin that wants a PROXY header",
            format!(
                "    stats socket {{dir}}proxy.sock level admin accept-proxy\n{user}{operator}"
            ),
            false,
        ),
    ] {
        let setup = Setup::new().unwrap();
        let global = global.replace("NAME", &name(&setup));
        let world = World::start(&version, setup, &global, SIGNAL);
        assert_eq!(world.grows(case), commands, "{case}");
    }
}

// H01
#[haproxies(ends)]
fn a_socket_of_level_user_leaves_the_new_set_in_place(version: Version) {
    let [port] = ports::free().unwrap();
    for address in ["{dir}user.sock", "127.0.0.1:PORT", "abns@NAME"] {
        let setup = Setup::new().unwrap();
        let address = address.replace("PORT", &port.to_string());
        let address = address.replace("NAME", &name(&setup));
        let global = format!("    stats socket {address} level user\n");
        let world = World::start(&version, setup, &global, UNCONFIRMED);
        world.grows_unconfirmed(&address, &["`level user`", "`level admin`"]);
        // The remedy.
        let global = global.replace("level user", "level admin");
        let text = template(&world.setup, &global, world.entrance);
        world.setup.file("haproxy.cfg.hbs", &text).unwrap();
        world.until("the remedy", |status| {
            is_confirmed(status) && world.file().contains("level admin")
        });
        world.register(&["two"]);
        world.serves(&["two"]);
        world.until("commands", |status| {
            let warned = status["warnings"].to_string().contains("level user");
            is_confirmed(status) && status["haproxy"]["by_commands"] == 1 && !warned
        });
    }
}

// H01
#[haproxies(ends)]
fn the_master_is_asked_where_the_stats_socket_does_not_tell(version: Version) {
    for (case, level) in [("user", " level user"), ("operator", "")] {
        let setup = Setup::new().unwrap();
        let global = format!("    stats socket {{dir}}stats.sock{level}\n");
        let told = format!("{MASTER}stats_socket = \"{{dir}}stats.sock\"\n");
        let world = World::start(&version, setup, &global, &told);
        assert!(world.grows(case), "{case}");
    }
}

/// What a socket does that is not HAProxy's.
#[derive(Clone, Copy)]
enum Does {
    Garbage,
    Close,
}

/// Starts a program that has the socket's path.
fn occupy(setup: &Setup, does: Does) {
    let listener = UnixListener::bind(setup.directory().join("other.sock")).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            answer(&mut client, does);
        }
    });
}

fn answer(client: &mut UnixStream, does: Does) {
    if let Does::Garbage = does {
        let _ = client.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = client.read(&mut [0; 4096]);
        let _ = client.write_all(b"220 mail.example ESMTP\r\n500 what?\r\n");
    }
}

// H01 H03
#[haproxies(ends)]
fn a_socket_of_another_program_is_no_word_against_a_set(version: Version) {
    for (case, does, why) in [
        ("garbage", Does::Garbage, "is not understood"),
        ("closes at once", Does::Close, "closed the connection"),
    ] {
        let setup = Setup::new().unwrap();
        occupy(&setup, does);
        let told = format!("{UNCONFIRMED}stats_socket = \"{{dir}}other.sock\"\n");
        let world = World::start(&version, setup, "", &told);
        world.grows_unconfirmed(case, &[why, "other.sock"]);

        // The master knows better.
        let setup = Setup::new().unwrap();
        occupy(&setup, does);
        let told = format!("{MASTER}stats_socket = \"{{dir}}other.sock\"\n");
        let world = World::start(&version, setup, "", &told);
        world.grows(case);
    }
}

// H01
#[haproxies(ends)]
fn a_socket_of_another_haproxy_is_no_word_against_a_set(version: Version) {
    let other = |setup: &Setup| {
        let text = format!(
            "global\n stats socket {} level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n\
             frontend f\n bind {}\n",
            setup.path("other.sock"),
            setup.path("f.sock"),
        );
        HAProxy::start(&version, &text).unwrap()
    };
    let setup = Setup::new().unwrap();
    let _other = other(&setup);
    let told = format!("{UNCONFIRMED}stats_socket = \"{{dir}}other.sock\"\n");
    let world = World::start(&version, setup, "", &told);
    world.grows_unconfirmed("signal", &["is not a worker of the HAProxy", "other.sock"]);

    let setup = Setup::new().unwrap();
    let _other = other(&setup);
    let told = format!("{MASTER}stats_socket = \"{{dir}}other.sock\"\n");
    let world = World::start(&version, setup, "", &told);
    world.grows("master");
}
