//! The story: what members do, and what traffic must show after each step.

use std::net::{Ipv4Addr, SocketAddr};

use support::demo::instance::Instance;
use support::demo::screen::Screen;
use support::demo::show::{LIMIT, NAMES, Pace, Show};
use support::gatewright::Setup;
use support::serf::Agent;
use support::{Outcome, ports, tools};

/// Plays the whole story. Everything is stopped when it returns.
pub fn play(pace: Pace, screen: &Screen) -> Outcome<()> {
    let mut stage = Stage::set(pace, screen)?;
    let outcome = steps(&mut stage);
    stage.show.close(outcome)
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
            // The others may not have heard of its new port yet: Serf sends gossip twice only.
            let other = stage.member("gateway-b")?.agent.gossip();
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

/// Everything that runs.
struct Stage<'a> {
    show: Show<'a>,
    members: Vec<Member>,
    balancer: Agent,
    setup: Setup,
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
        let [port] = ports::free()?;
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        setup.settings(&settings(&balancer, entrance)?)?;
        Ok(Stage {
            show: Show::begin(pace, screen, &setup, entrance)?,
            members,
            balancer,
            setup,
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
        let begun = self.show.announce(title, note)?;
        act(self)?;
        self.show.see(begun, expected, |_| true)
    }

    fn add(&mut self, name: &'static str) -> Outcome<()> {
        let member = begin(name, &self.setup, &self.balancer, self.show.screen())?;
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
