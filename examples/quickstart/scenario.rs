//! The story: what is done to the instances, and what traffic must show after each step.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;

use support::consul::{self, Consul};
use support::demo::instance::Instance;
use support::demo::screen::Screen;
use support::demo::show::{LIMIT, NAMES, Pace, Show};
use support::gatewright::Setup;
use support::{Outcome, ports, tools, wait_for};

/// The service's name in Consul.
const SERVICE: &str = "gateway";

/// Plays the whole story. Everything is stopped when it returns.
pub fn play(pace: Pace, screen: &Screen) -> Outcome<()> {
    let mut stage = Stage::set(pace, screen)?;
    let outcome = steps(&mut stage);
    stage.show.close(outcome)
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

/// Everything that runs.
struct Stage<'a> {
    show: Show<'a>,
    instances: Vec<Instance>,
    consul: Consul,
    setup: Setup,
}

impl<'a> Stage<'a> {
    fn set(pace: Pace, screen: &'a Screen) -> Outcome<Stage<'a>> {
        let setup = Setup::new()?;
        screen.heading("Starting");
        tools::choose_any_consul();
        let consul = Consul::start()?;
        screen.line(&format!("  Consul       {}", consul.url()));

        let mut instances = Vec::new();
        for name in &NAMES[..3] {
            instances.push(begin(name, &setup, &consul, screen)?);
        }
        wait_for(LIMIT, "three passing instances in Consul", || {
            (consul.passing(SERVICE).ok()?.len() == 3).then_some(())
        })?;

        let [port] = ports::free()?;
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        setup.settings(&settings(&consul, entrance)?)?;
        Ok(Stage {
            show: Show::begin(pace, screen, &setup, entrance)?,
            instances,
            consul,
            setup,
        })
    }

    /// Does something, waits until HAProxy's file holds exactly `expected` and exactly they answer, and shows
    /// what was seen.
    fn step(
        &mut self,
        title: &str,
        note: &str,
        act: impl FnOnce(&mut Stage<'a>) -> Outcome<()>,
        expected: &[&str],
    ) -> Outcome<()> {
        let begun = self.show.announce(title, note)?;
        act(self)?;
        let (setup, instances) = (&self.setup, &self.instances);
        self.show.see(begun, expected, |wanted| {
            let Ok(file) = setup.read("haproxy.cfg") else {
                return false;
            };
            let listed = instances
                .iter()
                .filter(|instance| file.contains(&format!(" {} ", instance.address)))
                .map(|instance| instance.name.to_owned());
            listed.collect::<BTreeSet<_>>() == *wanted
        })
    }

    fn add(&mut self, name: &'static str) -> Outcome<()> {
        let instance = begin(name, &self.setup, &self.consul, self.show.screen())?;
        self.instances.push(instance);
        Ok(())
    }

    fn instance(&mut self, name: &str) -> Outcome<&mut Instance> {
        self.instances
            .iter_mut()
            .find(|instance| instance.name == name)
            .ok_or_else(|| format!("There is no instance {name}."))
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
