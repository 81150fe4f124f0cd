//! The story: what is done to the instances, and what traffic must show after each step.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::instance::Instance;
use crate::screen::Screen;
use crate::support::consul::{self, Consul};
use crate::support::gatewright::{Gatewright, Setup};
use crate::support::traffic::{self, Limits, Traffic};
use crate::support::{Outcome, interrupted, process, temp, tools, wait_for, wait_for_end};

/// How long a change may take: Consul's check interval, a few missed checks, one reload, slow machines.
const LIMIT: Duration = Duration::from_secs(30);
/// The service's name in Consul.
const SERVICE: &str = "gateway";
/// All instances of the story.
const NAMES: [&str; 4] = ["gateway-a", "gateway-b", "gateway-c", "gateway-d"];

/// For a person to follow, or for a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// 200 requests a step and time to read.
    Calm,
    /// 60 requests a step, no pauses.
    Fast,
}

/// Plays the whole story. Everything is stopped when it returns.
pub fn play(pace: Pace, screen: &Screen) -> Outcome<()> {
    let mut stage = Stage::set(pace, screen)?;
    let outcome = steps(&mut stage).map_err(|error| {
        if interrupted() {
            return "\nInterrupted. Everything is stopped.".to_owned();
        }
        let log = stage.gatewright.process().last_lines(15);
        format!("\n{error}\nGatewright's log ends:\n{log}")
    });
    let sent = stage.sent;
    let (failed, surprises) = (stage.failed, stage.surprises);
    let end = stage.clear();
    outcome?;
    end?;
    screen.line("");
    if surprises > 0 {
        return Err(format!("{surprises} steps were not as expected."));
    }
    screen.line(&format!(
        "Every step was as expected: {failed} of {sent} requests failed. Everything is stopped."
    ));
    Ok(())
}

fn steps(stage: &mut Stage) -> Outcome<()> {
    stage.step(
        "Three instances",
        "",
        |_| Ok(()),
        &["gateway-a", "gateway-b", "gateway-c"],
    )?;
    stage.step(
        "An instance is added",
        "gateway-d is started and registered with Consul",
        |stage| stage.add("gateway-d"),
        &["gateway-a", "gateway-b", "gateway-c", "gateway-d"],
    )?;
    stage.step(
        "An instance is unhealthy",
        "gateway-b answers 503 to Consul's check",
        |stage| stage.instance("gateway-b")?.set_healthy(false),
        &["gateway-a", "gateway-c", "gateway-d"],
    )?;
    stage.step(
        "An instance dies without notice",
        "gateway-c is killed; HAProxy sends its requests elsewhere until Consul has noticed",
        |stage| {
            stage.instance("gateway-c")?.kill();
            Ok(())
        },
        &["gateway-a", "gateway-d"],
    )?;
    stage.step(
        "An instance is healthy again",
        "gateway-b answers 200 to Consul's check",
        |stage| stage.instance("gateway-b")?.set_healthy(true),
        &["gateway-a", "gateway-b", "gateway-d"],
    )?;
    stage.step(
        "An instance is removed",
        "gateway-a is taken out of Consul and still runs",
        |stage| stage.consul.deregister("gateway-a"),
        &["gateway-b", "gateway-d"],
    )
}

/// Everything that runs. The order of the fields is the order in which they are stopped.
struct Stage<'a> {
    screen: &'a Screen,
    pace: Pace,
    traffic: Option<Traffic>,
    gatewright: Gatewright,
    instances: Vec<Instance>,
    consul: Consul,
    setup: Setup,
    entrance: SocketAddr,
    sent: u64,
    failed: u64,
    surprises: u32,
}

impl<'a> Stage<'a> {
    fn set(pace: Pace, screen: &'a Screen) -> Outcome<Stage<'a>> {
        let setup = Setup::new()?;
        screen.heading("Starting");
        let consul = Consul::start()?;
        screen.line(&format!("  Consul       {}", consul.url()));

        let mut instances = Vec::new();
        for name in &NAMES[..3] {
            instances.push(begin(name, &setup, &consul, screen)?);
        }
        wait_for(LIMIT, "three passing instances in Consul", || {
            (consul.passing(SERVICE).ok()?.len() == 3).then_some(())
        })?;

        let [port] = temp::free_ports()?;
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        setup.settings(&settings(&consul, entrance)?)?;
        let mut gatewright = setup.run()?;
        screen.line(&format!("  Gatewright   {}", setup.path("gatewright.toml")));
        wait_for(LIMIT, "the first answer through HAProxy", || {
            if !gatewright.process().is_running() {
                return Some(Err("Gatewright ended.".to_owned()));
            }
            (traffic::send(entrance, 1).ok() == 1).then_some(Ok(()))
        })
        .and_then(|outcome| outcome)
        .map_err(|error| {
            let log = gatewright.process().last_lines(30);
            format!("{error}\nGatewright's log ends:\n{log}")
        })?;
        screen.line(&format!("  HAProxy      http://{entrance} serves"));
        screen.note("Four clients send requests from now on, each with a new connection.");

        let traffic = Traffic::start(
            entrance,
            Limits {
                clients: 4,
                pause: Duration::from_millis(5),
                requests: 100_000,
                time: Duration::from_secs(300),
            },
        );
        Ok(Stage {
            screen,
            pace,
            traffic: Some(traffic),
            gatewright,
            instances,
            consul,
            setup,
            entrance,
            sent: 0,
            failed: 0,
            surprises: 0,
        })
    }

    /// Does something, waits until exactly `expected` answer, and shows what was seen.
    fn step(
        &mut self,
        title: &str,
        note: &str,
        act: impl FnOnce(&mut Stage<'a>) -> Outcome<()>,
        expected: &[&str],
    ) -> Outcome<()> {
        if self.pace == Pace::Calm {
            pause(Duration::from_secs(2))?;
        }
        self.screen.heading(title);
        if !note.is_empty() {
            self.screen.note(note);
        }
        let begin = Instant::now();
        act(self)?;
        let settled = self.wait_until_settled(expected);
        let took = begin.elapsed();

        let count = if self.pace == Pace::Calm { 200 } else { 60 };
        let sample = traffic::send(self.entrance, count);
        let meanwhile = self.traffic.as_ref().map(Traffic::take).unwrap_or_default();
        self.screen.spread(&NAMES, &sample);

        let answered: BTreeSet<&str> = sample.answers.keys().map(String::as_str).collect();
        let failed = sample.failed + meanwhile.failed;
        let sent = sample.ok() + meanwhile.ok() + failed;
        let good = settled.is_ok() && failed == 0 && answered == expected.iter().copied().collect();
        self.screen.verdict(good, took, sent, failed);
        for error in meanwhile.errors.iter().chain(&sample.errors) {
            self.screen.note(&format!("a request failed: {error}"));
        }
        self.sent += sent;
        self.failed += failed;
        self.surprises += u32::from(!good);
        settled
    }

    /// Settled is: HAProxy's file holds exactly these instances, and only they, and all of them,
    /// answered the last requests.
    fn wait_until_settled(&mut self, expected: &[&str]) -> Outcome<()> {
        let wanted: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("traffic to reach exactly {}", expected.join(", "));
        wait_for(LIMIT, &what, || {
            let file = self.setup.read("haproxy.cfg").ok()?;
            let listed = self
                .instances
                .iter()
                .filter(|instance| file.contains(&format!(" {} ", instance.address)))
                .map(|instance| instance.name.to_owned())
                .collect::<BTreeSet<_>>();
            let recent = self.traffic.as_ref()?.look(|report| report.recent(40))?;
            (listed == wanted && recent == wanted).then_some(())
        })
    }

    fn add(&mut self, name: &'static str) -> Outcome<()> {
        let instance = begin(name, &self.setup, &self.consul, self.screen)?;
        self.instances.push(instance);
        Ok(())
    }

    fn instance(&mut self, name: &str) -> Outcome<&mut Instance> {
        self.instances
            .iter_mut()
            .find(|instance| instance.name == name)
            .ok_or_else(|| format!("There is no instance {name}."))
    }

    /// Stops everything in order; Gatewright must end well and take HAProxy with it.
    fn clear(mut self) -> Outcome<()> {
        drop(self.traffic.take());
        let family = process::descendants(self.gatewright.process().pid());
        let code = self.gatewright.stop(Duration::from_secs(20))?;
        if code != 0 {
            return Err(format!("Gatewright ended with code {code}."));
        }
        wait_for_end(
            Duration::from_secs(5),
            "HAProxy to end with Gatewright",
            || (!family.iter().any(|pid| process::exists(*pid))).then_some(()),
        )
    }
}

fn begin(name: &'static str, setup: &Setup, consul: &Consul, screen: &Screen) -> Outcome<Instance> {
    let instance = Instance::start(name, setup.directory())?;
    let mut body = consul::instance(SERVICE, name, instance.address);
    // Consul 1.8 counts a new check as critical until its first run; 1 s is its smallest interval.
    body["Check"] = json!({
        "HTTP": format!("http://{}/health", instance.address), "Interval": "1s", "Timeout": "1s"
    });
    consul.register(&body)?;
    screen.line(&format!("  {name:<12} http://{}", instance.address));
    Ok(instance)
}

fn settings(consul: &Consul, entrance: SocketAddr) -> Outcome<String> {
    let templates = tools::root().join("templates");
    Ok(format!(
        r#"[consul]
addresses = ["{consul}"]

[haproxy]
mode = "supervise"
binary = "{binary}"
master_socket = "{{dir}}master.sock"

# Here half of four instances go within seconds, and that is meant.
[guard]
max_loss = "75%"

[state]
directory = "{{dir}}state"

[status]
socket = "{{dir}}gatewright.sock"

[templates]
partials = "{templates}/partials"

[[template]]
source = "{templates}/http.cfg.hbs"
destination = "{{dir}}haproxy.cfg"

[parameters]
services = ["{SERVICE}"]
listen = "{entrance}"
stats_socket = "{{dir}}stats.sock"
check_interval = "1s"
log_requests = "errors"
"#,
        consul = consul.url(),
        binary = tools::any_haproxy()?.display(),
        templates = templates.display(),
    ))
}

fn pause(time: Duration) -> Outcome<()> {
    std::thread::sleep(time);
    if interrupted() {
        Err("Interrupted.".to_owned())
    } else {
        Ok(())
    }
}
