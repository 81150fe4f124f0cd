//! Two Gatewrights that write a file each for one HAProxy.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use support::backend::Backend;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::{Version, haproxies};
use support::process::{Process, command};
use support::traffic::send;
use support::{ports, wait_for};

use super::stage::LIMIT;

struct Sidecar {
    gatewright: Gatewright,
    setup: Setup,
    entrance: SocketAddr,
    backends: Vec<Backend>,
    global: String,
}

impl Sidecar {
    fn new(version: &Version, global: &str, master: &str) -> Sidecar {
        let [port] = ports::free().unwrap();
        let setup = Setup::new().unwrap();
        let backends = ["1", "2", "3"].map(|id| Backend::start(id).unwrap());
        let settings = format!(
            "[haproxy]\nbinary = {:?}\nmode = \"master\"\nmaster_socket = \"{master}\"\nconfirm_timeout = \"8s\"\n\
             [catalog]\nsource = \"file\"\nfile = \"{{dir}}catalog.json\"\n\
             [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
             [state]\ndirectory = \"{{dir}}state\"\n\
             [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n",
            version.program()
        );
        setup.settings(&settings).unwrap();
        let mut sidecar = Sidecar {
            // Started once HAProxy runs.
            gatewright: setup.run().unwrap(),
            setup,
            entrance: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            backends: backends.into(),
            global: global.to_owned(),
        };
        sidecar.gatewright.process().kill();
        sidecar.register(0);
        sidecar.template("", "haproxy.cfg");
        sidecar.template("", "haproxy.cfg.hbs");
        sidecar
    }

    /// Lines before the backend.
    fn template(&self, more: &str, file: &str) {
        let port = self.entrance.port();
        let servers = match file {
            "haproxy.cfg" => "",
            _ => {
                "{{#each (service \"web\")}}    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n"
            }
        };
        let text = format!(
            "{}defaults\n    mode http\n    timeout connect 2s\n    timeout client 10s\n    timeout server 10s\n\
             frontend in-{port}\n    bind {}\n    default_backend web-{port}\n{more}backend web-{port}\n{servers}",
            self.global, self.entrance
        );
        self.setup.file("new", &text).unwrap();
        std::fs::rename(self.setup.path("new"), self.setup.path(file)).unwrap();
    }

    /// The service has so many instances.
    fn register(&self, count: usize) {
        let list = self.backends.iter().take(count).enumerate().map(|(number, backend)| {
            let address = backend.address();
            json!({"ID": format!("i{number}"), "Address": address.ip().to_string(), "Port": address.port()})
        });
        let list: Vec<Value> = list.collect();
        let text = json!({"services": {"web": list}}).to_string();
        self.setup.file("new.json", &text).unwrap();
        std::fs::rename(self.setup.path("new.json"), self.setup.path("catalog.json")).unwrap();
    }

    fn confirmed(&self, words: &str) -> Value {
        let probe = || {
            let status = self.setup.status().ok()?;
            let good = status["state"] == "confirmed"
                && status["held"].is_null()
                && status["applied"]["confirmed"] == true
                && self.setup.read("haproxy.cfg").ok()?.contains(words);
            good.then_some(status)
        };
        wait_for(LIMIT, &format!("{words:?} confirmed"), probe).unwrap_or_else(|error| {
            panic!(
                "{error}\n{:#?}\n{}",
                self.setup.status(),
                self.gatewright.log()
            )
        })
    }
}

// G17
#[haproxies(ends)]
fn two_sidecars_with_a_file_each_share_one_haproxy(version: Version) {
    let home = Setup::new().unwrap();
    let master = home.path("master.sock");
    let global = format!(
        "global\n    stats socket {} level admin\n",
        home.path("stats.sock")
    );
    let mut sidecars = [
        Sidecar::new(&version, &global, &master),
        Sidecar::new(&version, "", &master),
    ];
    let [one, two] = [0, 1].map(|number: usize| sidecars[number].setup.path("haproxy.cfg"));
    let manager = format!(
        "#!/bin/sh\nwhile :; do\n  {} -W -db -S {master} -p {} -f {one} -f {two}\n  sleep 0.3\ndone\n",
        version.program().display(),
        home.path("pid")
    );
    home.script("manager", &manager).unwrap();
    let log = home.directory().join("haproxy.log");
    let words: [&str; 0] = [];
    let mut run = command(&home.directory().join("manager"), words);
    let _manager = Process::start("HAProxy's manager", &mut run, &log).unwrap();
    wait_for(LIMIT, "HAProxy to listen", || {
        std::net::TcpStream::connect(sidecars[1].entrance).ok()
    })
    .unwrap();
    for sidecar in &mut sidecars {
        sidecar.gatewright = sidecar.setup.run().unwrap();
        sidecar.confirmed("gatewright_revision_");
    }
    // Each is named by the other.
    for (one, other) in [(0, 1), (1, 0)] {
        let pid = sidecars[other].gatewright.process().pid();
        let file = sidecars[other].setup.path("haproxy.cfg");
        let said = format!("Another Gatewright (process {pid}) writes {file}");
        // It is seen when a worker is looked at for the first time.
        let seen = format!("backend seen-by-{one}\n");
        sidecars[one].template(&seen, "haproxy.cfg.hbs");
        sidecars[one].confirmed(&seen);
        sidecars[one]
            .gatewright
            .wait_for_log(LIMIT, &[&said])
            .unwrap();
    }
    let serves = |sidecar: &Sidecar| {
        wait_for(LIMIT, "answers", || {
            (send(sidecar.entrance, 5).failed == 0).then_some(())
        })
        .unwrap();
    };
    for round in 1..4 {
        // Servers of both at once, then the structure of both at once.
        sidecars.iter().for_each(|one| one.register(round));
        for sidecar in &sidecars {
            let newest = sidecar.backends[round - 1].address();
            sidecar.confirmed(&newest.to_string());
            serves(sidecar);
        }
        let more = |one: &Sidecar| format!("backend more-{round}-{}\n", one.entrance.port());
        sidecars
            .iter()
            .for_each(|one| one.template(&more(one), "haproxy.cfg.hbs"));
        for sidecar in &sidecars {
            sidecar.confirmed(&more(sidecar));
            serves(sidecar);
        }
    }
    // HAProxy is started again, and one of them.
    let pid: i32 = home
        .read("pid")
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    sidecars[0].gatewright.process().kill();
    sidecars[0].gatewright = sidecars[0].setup.run().unwrap();
    sidecars.iter().for_each(|one| one.register(3));
    for sidecar in &sidecars {
        sidecar.confirmed(&sidecar.backends[2].address().to_string());
        serves(sidecar);
    }
    // What HAProxy does not load of one is no word against the other, where HAProxy says which file it is.
    if !version.tells_why_a_reload_failed() {
        return;
    }
    sidecars[0].template(
        "frontend bad\n    bind unix@/no/such/folder/bad.sock\n",
        "haproxy.cfg.hbs",
    );
    sidecars[1].template("backend good\n", "haproxy.cfg.hbs");
    sidecars[1].confirmed("backend good\n");
    serves(&sidecars[1]);
}
