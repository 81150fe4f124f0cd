//! The story: what members do, and what traffic must show after each step.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::instance::Instance;
use crate::screen::Screen;
use crate::support::gatewright::{Gatewright, Setup};
use crate::support::serf::Agent;
use crate::support::traffic::{self, Limits, Traffic};
use crate::support::{Outcome, interrupted, process, temp, tools, wait_for, wait_for_end};

/// How long a change may take: gossip, some failed checks, slow machines.
const LIMIT: Duration = Duration::from_secs(30);
/// All gateways of the story.
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
        "Three members",
        "",
        |_| Ok(()),
        &["gateway-a", "gateway-b", "gateway-c"],
    )?;
    stage.step(
        "A member joins",
        "gateway-d is started with an agent of its own, which knows one other",
        |stage| stage.add("gateway-d"),
        &["gateway-a", "gateway-b", "gateway-c", "gateway-d"],
    )?;
    stage.step(
        "A member is killed with its agent",
        "gateway-b: its requests go elsewhere and HAProxy's checks take it out; Serf needs some seconds more to notice",
        |stage| {
            let member = stage.member("gateway-b")?;
            member.agent.kill();
            member.instance.kill();
            Ok(())
        },
        &["gateway-a", "gateway-c", "gateway-d"],
    )?;
    stage.step(
        "Serf has noticed",
        "gateway-b is failed now, and nothing changes: it stays in the configuration, and down",
        |stage| stage.balancer.sees("gateway-b", "failed"),
        &["gateway-a", "gateway-c", "gateway-d"],
    )?;
    stage.step(
        "A member is tagged",
        "`serf tags -set drain=true` at gateway-d: no new connections",
        |stage| {
            stage
                .member("gateway-d")?
                .agent
                .set_tags(&[("drain", "true")])
        },
        &["gateway-a", "gateway-c"],
    )?;
    stage.step(
        "The killed member is back",
        "gateway-b listens on another port now, and its agent says so by a tag",
        |stage| stage.bring_back("gateway-b"),
        &["gateway-a", "gateway-b", "gateway-c"],
    )?;
    stage.step(
        "A member leaves",
        "`serf leave` at gateway-a, which then stops",
        |stage| stage.member("gateway-a")?.agent.leave(),
        &["gateway-b", "gateway-c"],
    )?;
    stage.step(
        "The balancer's own agent is restarted",
        "it comes back alone and is not believed until it has joined again",
        |stage| {
            stage.balancer.restart(None)?;
            let other = stage.member("gateway-c")?.agent.gossip();
            stage.balancer.join(&other)?;
            let followed = "Gatewright to follow the members again";
            stage.setup.wait_for_status(LIMIT, followed, |status| {
                let alive = &status["consul"]["members"]["alive"];
                (*alive == 4 && status["queries"][0]["error"].is_null()).then_some(())
            })
        },
        &["gateway-b", "gateway-c"],
    )
}

/// A gateway and its agent.
struct Member {
    instance: Instance,
    agent: Agent,
}

/// Everything that runs. The order of the fields is the order in which they are stopped.
struct Stage<'a> {
    screen: &'a Screen,
    pace: Pace,
    traffic: Option<Traffic>,
    gatewright: Gatewright,
    members: Vec<Member>,
    balancer: Agent,
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
        let balancer = Agent::start("balancer", &[("role", "balancer")], None)?;
        screen.line(&format!("  balancer     an agent, rpc {}", balancer.rpc()));
        let mut members = Vec::new();
        for name in &NAMES[..3] {
            members.push(begin(name, &setup, &balancer, screen)?);
        }
        let [port] = temp::free_ports()?;
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        setup.settings(&settings(&balancer, entrance)?)?;
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
        let limits = Limits {
            clients: 4,
            pause: Duration::from_millis(5),
            requests: 100_000,
            time: Duration::from_secs(300),
        };
        Ok(Stage {
            screen,
            pace,
            traffic: Some(Traffic::start(entrance, limits)),
            gatewright,
            members,
            balancer,
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

    /// Settled is: only these, and all of them, answered the last requests.
    fn wait_until_settled(&self, expected: &[&str]) -> Outcome<()> {
        let wanted: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("traffic to reach exactly {}", expected.join(", "));
        wait_for(LIMIT, &what, || {
            let recent = self.traffic.as_ref()?.look(|report| report.recent(60))?;
            (recent == wanted).then_some(())
        })
    }

    fn add(&mut self, name: &'static str) -> Outcome<()> {
        let member = begin(name, &self.setup, &self.balancer, self.screen)?;
        self.members.push(member);
        Ok(())
    }

    /// Starts a killed gateway and its agent again.
    fn bring_back(&mut self, name: &'static str) -> Outcome<()> {
        let Stage {
            members,
            balancer,
            setup,
            ..
        } = self;
        let member = members.iter_mut().find(|one| one.instance.name == name);
        let member = member.ok_or_else(|| format!("There is no member {name}."))?;
        member.instance = Instance::start(name, setup.directory())?;
        member.agent.restart(Some(balancer))?;
        let port = member.instance.address.port().to_string();
        member.agent.set_tags(&[("port", &port)])
    }

    fn member(&mut self, name: &str) -> Outcome<&mut Member> {
        self.members
            .iter_mut()
            .find(|member| member.instance.name == name)
            .ok_or_else(|| format!("There is no member {name}."))
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

/// Starts a gateway, and its agent with the tags that say what it offers.
fn begin(name: &'static str, setup: &Setup, balancer: &Agent, screen: &Screen) -> Outcome<Member> {
    let instance = Instance::start(name, setup.directory())?;
    let port = instance.address.port().to_string();
    let tags = [("role", "airavata-api"), ("port", &port)];
    let agent = Agent::start(name, &tags, Some(balancer))?;
    screen.line(&format!(
        "  {name:<12} http://{}, agent with role=airavata-api port={port}",
        instance.address
    ));
    Ok(Member { instance, agent })
}

fn settings(balancer: &Agent, entrance: SocketAddr) -> Outcome<String> {
    let root = tools::root();
    Ok(format!(
        r#"[catalog]
source = "serf"

[serf]
addresses = ["{serf}"]

[haproxy]
mode = "supervise"
binary = "{binary}"
master_socket = "{{dir}}master.sock"

[haproxy.drain]
time = "1s"

[state]
directory = "{{dir}}state"

[status]
socket = "{{dir}}gatewright.sock"

[templates]
partials = "{root}/templates/partials"

[[template]]
source = "{root}/examples/serf/haproxy.cfg.hbs"
destination = "{{dir}}haproxy.cfg"

[parameters]
listen = "{entrance}"
stats_socket = "{{dir}}stats.sock"
log_requests = "errors"
"#,
        serf = balancer.rpc(),
        binary = tools::any_haproxy()?.display(),
        root = root.display(),
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
