//! The story: what is done to the instances, and what the callers must see after each step.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::consul::Consul;
use support::gatewright::{self, Gatewright, Setup};
use support::thrift::callers::{Callers, Tally};
use support::thrift::instance::Instance;
use support::thrift::{Client, Form};
use support::{Outcome, haproxy, interrupted, ports, tools, wait_for};

/// How long a step may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The service's name in Consul, and the backend's.
const SERVICE: &str = "airavata-api";
/// As many clients call without a pause, 20 calls on a connection, each of 10 ms.
const CLIENTS: usize = 6;
const WORK: Duration = Duration::from_millis(10);
/// How many new connections are looked at in the end of a step.
const SAMPLE: u64 = 60;

/// Plays the whole story. Everything is stopped when it returns.
pub fn play() -> Outcome<()> {
    let mut stage = Stage::set()?;
    let outcome = steps(&mut stage).map_err(|error| {
        if interrupted() {
            return "\nInterrupted. Everything is stopped.".to_owned();
        }
        let log = stage.gatewright.process().last_lines(15);
        format!("\n{error}\nGatewright's log ends:\n{log}")
    });
    let (calls, lost) = (stage.calls, stage.lost);
    let end = stage.clear();
    outcome?;
    end?;
    line("");
    line(&format!(
        "Every step was as expected: {lost} of {calls} calls were lost, all of them with the instance that hung or was killed. Everything is stopped."
    ));
    Ok(())
}

fn steps(stage: &mut Stage) -> Outcome<()> {
    let nothing = 0..=0;
    let in_flight = 0..=CLIENTS;
    stage.step(
        "Three instances",
        "",
        nothing.clone(),
        |_| Ok(()),
        &["a", "b", "c"],
    )?;
    stage.step(
        "An instance comes",
        "d is started and registered with Consul",
        nothing.clone(),
        |stage| stage.add("d"),
        &["a", "b", "c", "d"],
    )?;
    stage.step(
        "An instance hangs",
        "b is frozen: its port takes connections, Consul takes it for well, and nothing is answered; HAProxy's check wants an answer",
        in_flight.clone(),
        |stage| stage.instance("b").map(Instance::hang),
        &["a", "c", "d"],
    )?;
    stage.step(
        "It answers again",
        "",
        nothing.clone(),
        |stage| stage.instance("b").map(Instance::go_on),
        &["a", "b", "c", "d"],
    )?;
    stage.step(
        "An instance is killed without notice",
        "c is gone as a spot instance is: calls in flight are lost with it, new connections go elsewhere",
        in_flight,
        |stage| stage.instance("c").map(Instance::kill),
        &["a", "b", "d"],
    )?;
    stage.step(
        "Another one takes its place",
        "",
        nothing.clone(),
        |stage| stage.add("c"),
        &["a", "b", "c", "d"],
    )?;
    stage.step(
        "An instance drains",
        "a is put into maintenance in Consul: it finishes what it has",
        nothing,
        |stage| stage.consul.maintenance("a", true),
        &["b", "c", "d"],
    )
}

/// Everything that runs. The order of the fields is the order in which they are stopped.
struct Stage {
    callers: Option<Callers>,
    gatewright: Gatewright,
    instances: Vec<Instance>,
    consul: Consul,
    setup: Setup,
    calls: u64,
    lost: usize,
}

impl Stage {
    fn set() -> Outcome<Stage> {
        line("Starting");
        let setup = Setup::new()?;
        tools::choose_any_consul();
        let consul = Consul::start()?;
        line(&format!("  Consul       {}", consul.url()));
        let mut instances = Vec::new();
        for name in ["a", "b", "c"] {
            instances.push(begin(name, &setup, &consul)?);
        }
        let [api, profile] = ports::free()?;
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, api));
        setup.settings(&settings(&consul, entrance, profile)?)?;
        let mut gatewright = setup.run()?;
        line(&format!("  Gatewright   {}", setup.path("gatewright.toml")));
        wait_for(LIMIT, "the first reply through HAProxy", || {
            if !gatewright.process().is_running() {
                return Some(Err("Gatewright ended.".to_owned()));
            }
            let mut client = Client::connect(entrance, &Form::default(), LIMIT).ok()?;
            client.version().ok().map(|_| Ok(()))
        })
        .and_then(|outcome| outcome)
        .map_err(|error| {
            let log = gatewright.process().last_lines(30);
            format!("{error}\nGatewright's log ends:\n{log}")
        })?;
        line(&format!("  HAProxy      {entrance} serves Thrift"));
        line(&format!(
            "  {CLIENTS} clients call without a pause from now on, 20 calls on each connection."
        ));
        Ok(Stage {
            callers: Some(Callers::start(entrance, &Form::default(), CLIENTS, WORK)),
            gatewright,
            instances,
            consul,
            setup,
            calls: 0,
            lost: 0,
        })
    }

    /// Does something, waits until HAProxy sends new connections to exactly `expected`, and shows what was seen.
    fn step(
        &mut self,
        title: &str,
        note: &str,
        may_lose: std::ops::RangeInclusive<usize>,
        act: impl FnOnce(&mut Stage) -> Outcome<()>,
        expected: &[&str],
    ) -> Outcome<()> {
        line("");
        line(title);
        if !note.is_empty() {
            line(&format!("  {note}"));
        }
        let begin = Instant::now();
        act(self)?;
        self.wait_until_used(expected)?;
        let took = begin.elapsed();
        // Connections that were on their way then.
        let tally = self.tally_of(2 * CLIENTS as u64)?;
        let sample = self.tally_of(SAMPLE)?;
        for (name, count) in &sample.replies {
            line(&format!("  {name:<4} {count:>5} calls"));
        }
        let lost: Vec<&str> = [&tally, &sample]
            .iter()
            .flat_map(|tally| &tally.lost)
            .map(|lost| lost.error.as_str())
            .collect();
        let calls = tally.all() + sample.all() + lost.len() as u64;
        let names: BTreeSet<&str> = sample.connections.keys().map(String::as_str).collect();
        line(&format!(
            "  after {:.1} s; {} of {calls} calls were lost",
            took.as_secs_f64(),
            lost.len()
        ));
        if names != expected.iter().copied().collect() {
            return Err(format!(
                "New connections went to {names:?}, and {expected:?} were expected."
            ));
        }
        if !may_lose.contains(&lost.len()) {
            return Err(format!("Lost calls: {lost:?}"));
        }
        self.calls += calls;
        self.lost += lost.len();
        Ok(())
    }

    /// What comes until there were so many new connections.
    fn tally_of(&self, connections: u64) -> Outcome<Tally> {
        let callers = self.callers.as_ref().ok_or("The clients have ended.")?;
        wait_for(LIMIT, "calls", || {
            let count = callers.look(|tally| tally.connections.values().sum::<u64>());
            (count >= connections).then(|| callers.take())
        })
    }

    /// HAProxy's own word: the servers that get new connections.
    fn wait_until_used(&self, expected: &[&str]) -> Outcome<()> {
        let of = |name: &str| self.instances.iter().find(|one| one.name == name);
        let wanted: BTreeSet<SocketAddr> = expected
            .iter()
            .filter_map(|name| Some(of(name)?.address))
            .collect();
        let socket = PathBuf::from(self.setup.path("admin.sock"));
        let what = format!("HAProxy to use exactly {}", expected.join(", "));
        wait_for(LIMIT, &what, || {
            let used: BTreeSet<SocketAddr> = haproxy::servers(&socket)
                .ok()?
                .into_iter()
                .filter(|one| one.backend == SERVICE && one.operational == 2 && one.admin == 0)
                .map(|one| one.address)
                .collect();
            (used == wanted).then_some(())
        })
    }

    /// Starts an instance, in the place of one of that name.
    fn add(&mut self, name: &str) -> Outcome<()> {
        let instance = begin(name, &self.setup, &self.consul)?;
        self.instances.retain(|one| one.name != name);
        self.instances.push(instance);
        Ok(())
    }

    fn instance(&mut self, name: &str) -> Outcome<&mut Instance> {
        let found = self.instances.iter_mut().find(|one| one.name == name);
        found.ok_or_else(|| format!("There is no instance {name}."))
    }

    /// Stops everything in order; Gatewright must end well and take HAProxy with it.
    fn clear(mut self) -> Outcome<()> {
        drop(self.callers.take());
        gatewright::end_with_haproxy(&mut self.gatewright)
    }
}

/// Consul's check of it always passes: what Consul does not see, HAProxy's own check must find.
fn begin(name: &str, setup: &Setup, consul: &Consul) -> Outcome<Instance> {
    let program = std::env::current_exe()
        .map_err(|error| format!("The path of this program is not known: {error}."))?;
    let instance = Instance::start(&program, name, &Form::default(), setup.directory())?;
    consul.register_checked(SERVICE, name, instance.address)?;
    line(&format!("  instance {name}   {}", instance.address));
    Ok(instance)
}

fn settings(consul: &Consul, entrance: SocketAddr, profile: u16) -> Outcome<String> {
    let template = tools::root().join("examples/airavata/thrift/haproxy.cfg.hbs");
    Ok(format!(
        r#"[consul]
addresses = ["{consul}"]

[haproxy]
mode = "supervise"
binary = "{binary}"
master_socket = "{{dir}}master.sock"

[state]
directory = "{{dir}}state"

[status]
socket = "{{dir}}status.sock"

[[template]]
source = "{template}"
destination = "{{dir}}haproxy.cfg"

[parameters]
api_listen = "{entrance}"
profile_listen = "127.0.0.1:{profile}"
admin_socket = "{{dir}}admin.sock"
check_exception = false
check_interval = "500ms"
timeout_check = "700ms"
"#,
        consul = consul.url(),
        binary = tools::any_haproxy()?.display(),
        template = template.display(),
    ))
}

fn line(text: &str) {
    anstream::println!("{text}");
}
