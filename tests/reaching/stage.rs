//! Gatewright beside a HAProxy that its service manager starts again whenever it ends, over a catalog file with two
//! instances.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use support::backend::Backend;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::Version;
use support::process::{Process, command, exists};
use support::traffic::{Limits, Report, Traffic, send};
use support::{ports, wait_for};

pub const LIMIT: Duration = Duration::from_secs(30);

pub const MASTER: &str = "mode = \"master\"\nmaster_socket = \"{dir}master.sock\"\n";
pub const SUPERVISE: &str = "mode = \"supervise\"\nmaster_socket = \"{dir}master.sock\"\n";
pub const SIGNAL: &str =
    "mode = \"signal\"\npid_file = \"{dir}haproxy.pid\"\nstats_socket = \"{dir}stats.sock\"\n";
pub const COMMAND: &str =
    "mode = \"command\"\ncommand = [\"{dir}reload\"]\nstats_socket = \"{dir}stats.sock\"\n";

/// The usual `global` section.
pub const GLOBAL: &str = "    stats socket {dir}stats.sock level admin\n";

const REST: &str = "defaults
    mode http
    option idle-close-on-response
    retries 3
    option redispatch 1
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend in
    bind @entrance@
    default_backend web
@more@backend web
";
const SERVERS: &str = "{{#each (service \"web\")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
";

/// What runs. The order of the fields is the order in which they stop.
pub struct Stage {
    traffic: Option<Traffic>,
    pub gatewright: Gatewright,
    keeper: Option<Process>,
    pub setup: Setup,
    pub entrance: SocketAddr,
    instances: Vec<Backend>,
}

impl Stage {
    /// Starts all of it on a HAProxy that has these lines in `global`, with the first instance registered, and waits
    /// for the first confirmation. `told` are settings of `haproxy`.
    pub fn start(version: &Version, told: &str, global: &str) -> Stage {
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let instances = ["one", "two", "three"].map(|name| Backend::start(name).unwrap());
        let setup = Setup::new().unwrap();
        let dir = setup.path("");
        let binary = setup.directory().join("haproxy");
        symlink(version.program(), &binary).unwrap();
        // A newer HAProxy that is restarted must not find the name of the older one's process.
        let manager = format!(
            "#!/bin/sh\nwhile :; do\n  {dir}haproxy -W -db -S {dir}master.sock -p {dir}haproxy.pid -f {dir}haproxy.cfg\n  \
             echo \"ended $?\" >> {dir}ends\n  while [ -e {dir}stay-down ]; do sleep 0.05; done\n  sleep 0.3\ndone\n"
        );
        setup.script("manager", &manager).unwrap();
        let reload = format!(
            "#!/bin/sh\n[ -e {dir}broken ] && . {dir}broken\necho run >> {dir}runs\nexec {dir}ask reload\n"
        );
        setup.script("reload", &reload).unwrap();
        let ask = format!(
            "#!/usr/bin/perl\nuse IO::Socket::UNIX;\n\
             my $master = IO::Socket::UNIX->new(Peer => '{dir}master.sock') or exit 0;\n\
             print $master \"$ARGV[0]\\n\"; $master->flush; shutdown($master, 1); my @answer = <$master>;\n"
        );
        setup.script("ask", &ask).unwrap();
        setup.file("files/none", "").unwrap();
        setup
            .settings(&format!(
                "[haproxy]\nbinary = \"{{dir}}haproxy\"\nconfirm_timeout = \"8s\"\n{told}\n\
                 [catalog]\nsource = \"file\"\nfile = \"{{dir}}catalog.json\"\n\
                 [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n[templates]\nallow_raw = true\nfiles = \"{{dir}}files\"\n\
                 [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n"
            ))
            .unwrap();
        let first = text(&setup, entrance, global, "");
        setup.file("haproxy.cfg", &first).unwrap();
        let catalog = catalog(&instances[..1], "");
        setup.file("catalog.json", &catalog).unwrap();
        setup
            .file("haproxy.cfg.hbs", &format!("{first}{SERVERS}"))
            .unwrap();
        let supervised = told.contains("supervise");
        let keeper = (!supervised).then(|| keeper(&setup));
        if !supervised {
            wait_for(LIMIT, "HAProxy to listen", || {
                std::net::TcpStream::connect(entrance).ok()
            })
            .unwrap();
        }
        let gatewright = setup.run().unwrap();
        let stage = Stage {
            traffic: None,
            gatewright,
            keeper,
            setup,
            entrance,
            instances: instances.into(),
        };
        stage.confirmed("the first set", |_| true);
        stage.serves(&["one"]);
        stage
    }

    /// Another template: lines of `global`, and lines before the backend.
    pub fn template(&self, global: &str, more: &str) {
        let text = text(&self.setup, self.entrance, global, more);
        self.setup
            .file("new.hbs", &format!("{text}{SERVERS}"))
            .unwrap();
        self.rename("new.hbs", "haproxy.cfg.hbs");
    }

    /// Registers the first so many instances.
    pub fn register(&self, count: usize) {
        self.catalog(count, "");
    }

    /// The same, with the value of the key `more`.
    pub fn catalog(&self, count: usize, more: &str) {
        let text = catalog(&self.instances[..count], more);
        self.setup.file("new.json", &text).unwrap();
        self.rename("new.json", "catalog.json");
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.directory().join(name)
    }

    /// The text that HAProxy reads.
    pub fn file(&self) -> String {
        self.setup.read("haproxy.cfg").unwrap_or_default()
    }

    /// How often HAProxy has ended.
    pub fn ends(&self) -> usize {
        self.setup.read("ends").unwrap_or_default().lines().count()
    }

    /// HAProxy's program becomes another version.
    pub fn exchange(&self, version: &Version) {
        symlink(version.program(), self.path("other")).unwrap();
        self.rename("other", "haproxy");
    }

    /// Kills HAProxy's master, so that its manager starts it again.
    pub fn kill_haproxy(&self) {
        let text = self.setup.read("haproxy.pid").unwrap();
        let pid: i32 = text.lines().next().unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        // Its workers follow it.
        self.wait("the end of HAProxy", || {
            (!exists(pid.cast_unsigned())).then_some(())
        });
    }

    /// Kills Gatewright and starts it again.
    pub fn restart(&mut self) {
        self.gatewright.process().kill();
        self.gatewright = self.setup.run().unwrap();
    }

    /// Waits until Gatewright has looked at HAProxy some times.
    pub fn looks(&self) {
        let uptime = |status: &Value| status["uptime_seconds"].as_f64().unwrap_or_default();
        let before = uptime(&self.until("a status", |_| true));
        self.until("some looks", |status| uptime(status) > before + 2.0);
    }

    pub fn wait<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(LIMIT, what, probe).unwrap_or_else(|error| self.fail(&error))
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, || self.setup.status().ok().filter(&holds))
    }

    pub fn confirmed(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.until(what, |status| {
            status["state"] == "confirmed" && status["held"].is_null() && holds(status)
        })
    }

    /// Waits until the configuration that HAProxy reads has these words, confirmed.
    pub fn follows(&self, words: &str) {
        self.confirmed(words, |_| self.file().contains(words));
    }

    /// Waits until the status says why a set is held back.
    pub fn held(&self, words: &[&str]) -> Value {
        self.until(&format!("a set that is held for {words:?}"), |status| {
            let why = status["held"].to_string();
            words.iter().all(|word| why.contains(word))
        })
    }

    pub fn logged(&self, words: &[&str]) -> String {
        let line = self.gatewright.wait_for_log(LIMIT, words);
        line.unwrap_or_else(|error| self.fail(&error))
    }

    /// Waits until exactly these instances answer through HAProxy.
    pub fn serves(&self, names: &[&str]) {
        self.wait(&format!("answers of {names:?}"), || {
            let report = send(self.entrance, 6);
            let answers: Vec<&str> = report.answers.keys().map(String::as_str).collect();
            let mut wanted = names.to_vec();
            wanted.sort_unstable();
            (answers == wanted).then_some(())
        });
    }

    pub fn load(&mut self) {
        self.traffic = Some(Traffic::start(
            self.entrance,
            Limits {
                clients: 2,
                pause: Duration::from_millis(5),
                requests: 50_000,
                time: Duration::from_secs(120),
            },
        ));
    }

    /// Ends the traffic; none of it failed.
    pub fn no_failure(&mut self) {
        let report: Report = self.traffic.take().map(Traffic::stop).unwrap_or_default();
        if report.failed > 0 || report.ok() == 0 {
            self.fail(&format!("{:?}", report.errors));
        }
    }

    /// Ends HAProxy for good.
    pub fn without_haproxy(&mut self) {
        self.keeper = None;
        let _ = std::fs::remove_file(self.path("master.sock"));
        let _ = std::fs::remove_file(self.path("haproxy.pid"));
    }

    /// Starts HAProxy and its manager again.
    pub fn with_haproxy(&mut self) {
        self.keeper = Some(keeper(&self.setup));
    }

    pub fn fail(&self, error: &str) -> ! {
        panic!(
            "{error}\nstatus {:#?}\n{}\nHAProxy:\n{}",
            self.setup.status(),
            self.gatewright.log(),
            self.setup.read("haproxy.log").unwrap_or_default()
        )
    }
}

fn keeper(setup: &Setup) -> Process {
    let manager: &Path = &setup.directory().join("manager");
    let log = setup.directory().join("haproxy.log");
    Process::start("HAProxy's manager", &mut command(manager, [""; 0]), &log).unwrap()
}

fn text(setup: &Setup, entrance: SocketAddr, global: &str, more: &str) -> String {
    let rest = REST
        .replace("@entrance@", &entrance.to_string())
        .replace("@more@", more);
    format!("global\n{global}{rest}").replace("{dir}", &setup.path(""))
}

fn catalog(instances: &[Backend], more: &str) -> String {
    let list = instances.iter().map(|one| {
        let address = one.address();
        json!({"ID": one.name(), "Address": address.ip().to_string(), "Port": address.port()})
    });
    let list: Vec<Value> = list.collect();
    json!({"services": {"web": list}, "keys": {"more": more}}).to_string()
}
