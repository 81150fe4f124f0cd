//! One Gatewright with its own HAProxy over some services, with traffic all the time, and a count of
//! the servers that HAProxy was ever made to lose.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::oldest;
use support::haproxy::servers;
use support::traffic::{Limits, Traffic, send};
use support::{ports, wait_for};

pub const LIMIT: Duration = Duration::from_secs(30);

/// Backends, Gatewright and HAProxy. Traffic goes to `web` from the first confirmation to the end.
pub struct Stage {
    traffic: Option<Traffic>,
    pub gatewright: Option<Gatewright>,
    pub setup: Setup,
    pub backends: Vec<Backend>,
    pub entrance: SocketAddr,
}

impl Stage {
    /// Settings and template; nothing runs yet. `more` goes to the end of the settings.
    pub fn new(consul: &str, count: usize, more: &str) -> Stage {
        let backends = (0..count)
            .map(|number| Backend::start(&format!("web-{number}")).unwrap())
            .collect();
        let [port] = ports::free().unwrap();
        let stage = Stage {
            traffic: None,
            gatewright: None,
            setup: Setup::new().unwrap(),
            backends,
            entrance: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        stage.template("");
        stage
            .setup
            .settings(&format!(
                "[consul]\naddresses = [\"{consul}\"]\n\
                 [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n\
                 [haproxy]\nmode = \"supervise\"\nbinary = \"{}\"\nmaster_socket = \"{{dir}}master.sock\"\n\
                 [haproxy.drain]\ntime = \"1s\"\n\
                 [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n{more}",
                oldest().program().display()
            ))
            .unwrap();
        stage
    }

    /// Writes the template, with a line of its own in the backend.
    pub fn template(&self, line: &str) {
        let text = format!(
            "global\n    stats socket {} mode 600 level admin\n    fd-hard-limit 2000\n    hard-stop-after 10s\n    httpclient.ssl.verify none\n\
             defaults\n    mode http\n    option idle-close-on-response\n    retries 3\n    option redispatch 1\n\
             \x20   timeout connect 2s\n    timeout client 10s\n    timeout server 10s\n\
             frontend in\n    bind {}\n    default_backend web\n\
             backend web\n    balance roundrobin\n{line}\
             {{{{#each (service \"web\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}} check inter 200ms fall 1 rise 1\n{{{{/each}}}}\n",
            self.setup.path("stats.sock"),
            self.entrance,
        );
        self.setup.file("haproxy.cfg.hbs", &text).unwrap();
    }

    /// Starts Gatewright.
    pub fn run(&mut self) {
        self.gatewright = Some(self.setup.run().unwrap());
    }

    /// Starts Gatewright and, once HAProxy serves, traffic.
    pub fn start(mut self) -> Stage {
        self.run();
        let all: Vec<usize> = (0..self.backends.len()).collect();
        self.shows(&all);
        wait_for(LIMIT, "the first answer", || {
            (send(self.entrance, 1).ok() == 1).then_some(())
        })
        .unwrap();
        let limits = Limits {
            clients: 2,
            pause: Duration::from_millis(5),
            requests: 50_000,
            time: Duration::from_secs(150),
        };
        self.traffic = Some(Traffic::start(self.entrance, limits));
        self
    }

    pub fn register(&self, consul: &Consul, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            let backend = &self.backends[number];
            consul
                .register_checked("web", backend.name(), backend.address())
                .unwrap();
        }
    }

    pub fn gatewright(&mut self) -> &mut Gatewright {
        self.gatewright.as_mut().unwrap()
    }

    /// What HAProxy runs for `web`, by the backends' numbers, drained servers left out.
    pub fn running(&self) -> BTreeSet<usize> {
        let socket = self.setup.directory().join("stats.sock");
        let rows = servers(&socket).unwrap_or_default();
        rows.iter()
            .filter(|row| row.admin == 0)
            .filter_map(|row| {
                self.backends
                    .iter()
                    .position(|backend| backend.address() == row.address)
            })
            .collect()
    }

    /// Waits until HAProxy runs exactly these, and the status is settled.
    pub fn shows(&self, numbers: &[usize]) {
        let wanted: BTreeSet<usize> = numbers.iter().copied().collect();
        wait_for(LIMIT, &format!("HAProxy to run {numbers:?}"), || {
            let status = self.setup.status().ok()?;
            let settled = ["confirmed", "guarded"].contains(&status["state"].as_str()?);
            (settled && self.running() == wanted).then_some(())
        })
        .unwrap_or_else(|error| self.fail(&error));
    }

    /// Waits until so many are held of `web`, and gives the hold.
    pub fn holds(&self, held: usize, reason: &str) -> Value {
        self.until(&format!("{held} held because {reason}"), |status| {
            let hold = &status["holds"][0];
            let fits = hold["service"] == "web"
                && hold["held"] == held
                && hold["reason"].as_str()?.contains(reason)
                && status["state"] == "guarded";
            fits.then(|| hold.clone())
        })
    }

    pub fn until<T>(&self, what: &str, probe: impl FnMut(&Value) -> Option<T>) -> T {
        self.setup
            .wait_for_status(LIMIT, what, probe)
            .unwrap_or_else(|error| self.fail(&error))
    }

    /// Runs `gatewright release` with these arguments and gives exit code and output.
    pub fn release(&self, words: &[&str]) -> (Option<i32>, String) {
        let settings = self.setup.path("gatewright.toml");
        let words: Vec<&str> = ["release", "-c", &settings]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        let output = self.setup.call(&words).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    pub fn count_log(&self, words: &str) -> usize {
        let log = self.setup.read("gatewright.log").unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }

    pub fn stop(&mut self) {
        let code = self.gatewright().stop(LIMIT).unwrap();
        assert_eq!(code, 0);
    }

    fn fail(&self, error: &str) -> ! {
        panic!(
            "{error}\nrunning {:?} status {:?}\n{}",
            self.running(),
            self.setup.status(),
            self.setup.read("gatewright.log").unwrap_or_default()
        )
    }

    /// Ends the traffic: nothing failed. Gives the number of requests.
    pub fn quiet(&mut self) -> u64 {
        let report = self.traffic.take().unwrap().stop();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        assert!(report.ok() > 0);
        report.ok()
    }
}
