//! Real Serf agents on free loopback ports, which make one cluster.

mod teller;

pub use teller::Teller;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::network::{Network, Relay};
use super::process::{Process, command};
use super::{Outcome, ports, temp, tools, wait_for};

/// How long an agent may take to start, to join or to leave.
const LIMIT: Duration = Duration::from_secs(60);

/// A running agent. When dropped it is killed and its data removed.
pub struct Agent {
    process: Process,
    name: String,
    node: OsString,
    /// Gossip and RPC.
    ports: [u16; 2],
    /// What the others know it by, where that is not its own port.
    relay: Option<Relay>,
    key: Option<&'static str>,
    /// Each as `NAME=VALUE`.
    tags: Vec<OsString>,
    directory: TempDir,
}

impl Agent {
    /// Starts an agent and lets it join another one. It fails over within five seconds or so (`-profile=local`).
    pub fn start(name: &str, tags: &[(&str, &str)], join: Option<&Agent>) -> Outcome<Agent> {
        Agent::start_as(name.as_ref(), words(tags), join, None, None)
    }

    /// As [`Agent::start`], on a network that can be cut.
    pub fn start_on(
        network: &Network,
        name: &str,
        tags: &[(&str, &str)],
        join: Option<&Agent>,
    ) -> Outcome<Agent> {
        Agent::start_as(name.as_ref(), words(tags), join, None, Some(network))
    }

    /// As [`Agent::start`], with a key that clients of its RPC address must have (`rpc_auth`).
    pub fn start_with_key(
        name: &str,
        tags: &[(&str, &str)],
        join: Option<&Agent>,
        key: &'static str,
    ) -> Outcome<Agent> {
        Agent::start_as(name.as_ref(), words(tags), join, Some(key), None)
    }

    /// As [`Agent::start`], with a name and tags (`NAME=VALUE`) of any bytes.
    pub fn start_odd(node: &OsStr, tags: Vec<OsString>, join: &Agent) -> Outcome<Agent> {
        Agent::start_as(node, tags, Some(join), None, None)
    }

    fn start_as(
        node: &OsStr,
        tags: Vec<OsString>,
        join: Option<&Agent>,
        key: Option<&'static str>,
        network: Option<&Network>,
    ) -> Outcome<Agent> {
        let mut last = String::new();
        // What is not of these tests may have taken a port between the look and the start.
        for _ in 0..3 {
            let directory = temp::directory()?;
            let ports = ports::free()?;
            let relay = network.map(|one| one.relay(ports[0])).transpose()?;
            let through = relay.as_ref().map(Relay::port);
            let process = launch(&directory, node, ports, through, key, &tags, join)?;
            let mut agent = Agent {
                process,
                name: node.to_string_lossy().into_owned(),
                node: node.to_owned(),
                ports,
                relay,
                key,
                tags: tags.clone(),
                directory,
            };
            match agent.wait_until_ready(join) {
                Ok(()) => return Ok(agent),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its RPC address.
    pub fn rpc(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    /// Where the others reach it.
    pub fn gossip(&self) -> String {
        let port = self.relay.as_ref().map_or(self.ports[0], Relay::port);
        format!("127.0.0.1:{port}")
    }

    /// The port that it gossips from.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Kills it without notice: the others find out.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it.
    pub fn pause(&mut self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen one go on.
    pub fn resume(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Starts it again on the same ports, with the tags of its first start; it joins where a cluster is named.
    pub fn restart(&mut self, join: Option<&Agent>) -> Outcome<()> {
        self.process.kill();
        self.process = launch(
            &self.directory,
            &self.node,
            self.ports,
            self.relay.as_ref().map(Relay::port),
            self.key,
            &self.tags,
            join,
        )?;
        self.wait_until_ready(join)
    }

    /// Lets it join the cluster of the agent that gossips there.
    pub fn join(&self, gossip: &str) -> Outcome<()> {
        self.command("join", &[gossip]).map(drop)
    }

    /// Leaves the cluster in good order, and ends.
    pub fn leave(&mut self) -> Outcome<()> {
        self.command::<&str>("leave", &[])?;
        self.process.wait(LIMIT).map(drop)
    }

    /// Sets tags while it runs.
    pub fn set_tags(&self, tags: &[(&str, &str)]) -> Outcome<()> {
        let set = words(tags).into_iter().flat_map(|tag| ["-set".into(), tag]);
        match self.command("tags", &set.collect::<Vec<OsString>>()) {
            // They are set by then; an agent that knows of a dead one may be slow to tell the others (memberlist,
            // `UpdateNode`).
            Err(error) if error.contains("timeout waiting for update broadcast") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Takes a tag off.
    pub fn delete_tag(&self, name: &str) -> Outcome<()> {
        self.command("tags", &["-delete", name]).map(drop)
    }

    /// The members that it knows, by state.
    pub fn members(&self) -> Outcome<BTreeMap<String, String>> {
        let output = self.command("members", &["-format=json"])?;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("`serf members` gave no JSON: {error}."))?;
        let list = told["members"].as_array().into_iter().flatten();
        let pair = |one: &serde_json::Value| {
            let text = |field: &str| one[field].as_str().map(str::to_owned);
            Some((text("name")?, text("status")?))
        };
        Ok(list.filter_map(pair).collect())
    }

    /// Waits until it sees a member in a state.
    pub fn sees(&self, name: &str, state: &str) -> Outcome<()> {
        let what = format!("{} to see {name} {state}", self.name);
        wait_for(LIMIT, &what, || {
            let members = self.members().ok()?;
            (members.get(name).map(String::as_str) == Some(state)).then_some(())
        })
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// One of Serf's own commands, to this agent.
    pub fn command<W: AsRef<OsStr>>(&self, name: &str, rest: &[W]) -> Outcome<Output> {
        let mut words: Vec<OsString> =
            vec![name.into(), format!("-rpc-addr={}", self.rpc()).into()];
        words.extend(self.key.map(|key| format!("-rpc-auth={key}").into()));
        words.extend(rest.iter().map(|word| word.as_ref().to_owned()));
        let output = command(&tools::serf()?, &words)
            .output()
            .map_err(|error| format!("Serf cannot be started: {error}."))?;
        match output.status.success() {
            true => Ok(output),
            false => Err(format!(
                "`serf {name}` failed: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    /// Ready is: its RPC address answers, and who was to be joined is there.
    fn wait_until_ready(&mut self, join: Option<&Agent>) -> Outcome<()> {
        let mut died = false;
        let outcome = wait_for(LIMIT, "Serf to be ready", || {
            if !self.process.is_running() {
                died = true;
                return Some(());
            }
            let members = self.members().ok()?;
            let joined = join.is_none_or(|other| members.contains_key(other.name()));
            joined.then_some(())
        });
        match outcome {
            Ok(()) if !died => Ok(()),
            Ok(()) => Err(format!(
                "Serf ended at its start: {}",
                self.process.last_lines(10)
            )),
            Err(error) => Err(format!("{error} It wrote: {}", self.process.last_lines(10))),
        }
    }
}

/// Tags as Serf's flags take them.
fn words(tags: &[(&str, &str)]) -> Vec<OsString> {
    let word = |(name, value): &(&str, &str)| format!("{name}={value}").into();
    tags.iter().map(word).collect()
}

fn launch(
    directory: &TempDir,
    node: &OsStr,
    ports: [u16; 2],
    through: Option<u16>,
    key: Option<&str>,
    tags: &[OsString],
    join: Option<&Agent>,
) -> Outcome<Process> {
    let [gossip, rpc] = ports;
    let mut words: Vec<OsString> = vec![
        "agent".into(),
        "-node".into(),
        node.to_owned(),
        "-profile=local".into(),
        format!("-bind=127.0.0.1:{gossip}").into(),
        format!("-rpc-addr=127.0.0.1:{rpc}").into(),
        "-retry-interval=1s".into(),
    ];
    words.extend(through.map(|port| format!("-advertise=127.0.0.1:{port}").into()));
    words.extend(join.map(|other| format!("-retry-join={}", other.gossip()).into()));
    for tag in tags {
        words.extend(["-tag".into(), tag.clone()]);
    }
    // Failed members are sought again each half minute by default.
    let mut config = serde_json::json!({"reconnect_interval": "1s"});
    if let Some(key) = key {
        config["rpc_auth"] = key.into();
    }
    let file = directory.path().join("agent.json");
    std::fs::write(&file, config.to_string())
        .map_err(|error| format!("{} cannot be written: {error}.", file.display()))?;
    words.push(format!("-config-file={}", file.display()).into());
    let log = directory.path().join("serf.log");
    Process::start("Serf", &mut command(&tools::serf()?, words), &log)
}
