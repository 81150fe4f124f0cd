//! A real Consul agent on free loopback ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, command};
use super::{Outcome, http, ports, temp, tools, wait_for};

/// A running agent that is its own server. When dropped it is killed and its data removed.
pub struct Consul {
    process: Process,
    ports: [u16; 4],
    persistent: bool,
    arguments: Vec<String>,
    /// The token of every request of the test's own.
    token: Option<&'static str>,
    directory: TempDir,
}

/// May do everything where there are permissions.
const MANAGEMENT: &str = "7e57ab1e-0000-4000-8000-000000000000";

/// An ACL token.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is known by.
    pub accessor: String,
    /// What a client sends.
    pub secret: String,
}

impl Consul {
    /// Starts a development agent: ready within about a second, forgets everything when stopped.
    pub fn start() -> Outcome<Consul> {
        Consul::start_as(false, &[])
    }

    /// Starts a server that keeps its data across [`Consul::restart`].
    pub fn start_persistent() -> Outcome<Consul> {
        Consul::start_as(true, &[])
    }

    /// As [`Consul::start`], with further arguments.
    pub fn start_with(arguments: &[&str]) -> Outcome<Consul> {
        Consul::start_as(false, arguments)
    }

    /// As [`Consul::start`], with permissions: who has no token may read nothing.
    pub fn start_with_acl() -> Outcome<Consul> {
        let acl = format!(
            "-hcl=acl {{ enabled = true, default_policy = \"deny\", tokens {{ master = \"{MANAGEMENT}\", agent = \"{MANAGEMENT}\" }} }}"
        );
        Consul::start_as(false, &[&acl])
    }

    /// Makes a policy and gives its id.
    pub fn create_policy(&self, name: &str, rules: &str) -> Outcome<String> {
        let body = json!({"Name": name, "Rules": rules}).to_string();
        let made = json_of(&self.ask("PUT", "/v1/acl/policy", &body)?)?;
        text_of(&made, "ID")
    }

    /// Gives a policy other rules.
    pub fn update_policy(&self, id: &str, name: &str, rules: &str) -> Outcome<()> {
        let body = json!({"ID": id, "Name": name, "Rules": rules}).to_string();
        self.put(&format!("/v1/acl/policy/{id}"), &body)
    }

    /// Makes a token with the rights of a policy.
    pub fn create_token(&self, policy: &str) -> Outcome<Token> {
        let body = json!({"Policies": [{"Name": policy}]}).to_string();
        let made = json_of(&self.ask("PUT", "/v1/acl/token", &body)?)?;
        Ok(Token {
            accessor: text_of(&made, "AccessorID")?,
            secret: text_of(&made, "SecretID")?,
        })
    }

    /// Deletes a token.
    pub fn delete_token(&self, token: &Token) -> Outcome<()> {
        let path = format!("/v1/acl/token/{}", token.accessor);
        self.ask("DELETE", &path, "").map(drop)
    }

    fn start_as(persistent: bool, arguments: &[&str]) -> Outcome<Consul> {
        let mut last = String::new();
        // What is not of these tests may have taken a port between the look and the start.
        for _ in 0..3 {
            let directory = temp::directory()?;
            let ports = ports::free()?;
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let guarded = arguments.iter().any(|word| word.contains(MANAGEMENT));
            let process = launch(&directory, ports, persistent, &arguments)?;
            let mut consul = Consul {
                process,
                ports,
                persistent,
                arguments,
                token: guarded.then_some(MANAGEMENT),
                directory,
            };
            match consul.wait_until_ready() {
                Ok(()) => return Ok(consul),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Stops the agent as an operator would, or kills it.
    pub fn stop(&mut self) {
        if self.process.stop(Duration::from_secs(10)).is_err() {
            self.process.kill();
        }
    }

    /// Kills the agent without notice.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts a stopped or killed agent again on the same ports.
    pub fn restart(&mut self) -> Outcome<()> {
        self.process.kill();
        self.process = launch(
            &self.directory,
            self.ports,
            self.persistent,
            &self.arguments,
        )?;
        self.wait_until_ready()
    }

    /// Kills the agent, removes all that it knew, and starts it again on the same ports.
    pub fn wipe(&mut self) -> Outcome<()> {
        self.process.kill();
        let data = self.directory.path().join("data");
        std::fs::remove_dir_all(&data)
            .map_err(|error| format!("{} cannot be removed: {error}.", data.display()))?;
        self.restart()
    }

    /// Freezes the agent: connections are taken, nothing is answered.
    pub fn pause(&mut self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen agent go on.
    pub fn resume(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// The address of its HTTP interface.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0]))
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What the agent logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Registers a service with the agent; `body` as the agent's interface takes it.
    pub fn register(&self, body: &Value) -> Outcome<()> {
        self.put("/v1/agent/service/register", &body.to_string())
    }

    /// Registers an instance without a check: it counts as passing.
    pub fn register_instance(&self, service: &str, id: &str, address: SocketAddr) -> Outcome<()> {
        self.register(&instance(service, id, address))
    }

    /// Registers an instance with a check that [`Consul::set_check`] sets; it starts as passing.
    pub fn register_checked(&self, service: &str, id: &str, address: SocketAddr) -> Outcome<()> {
        let mut body = instance(service, id, address);
        body["Check"] =
            json!({"CheckID": format!("check-{id}"), "TTL": "24h", "Status": "passing"});
        self.register(&body)
    }

    /// Sets the check of an instance from [`Consul::register_checked`]: `pass`, `warn` or `fail`.
    pub fn set_check(&self, id: &str, outcome: &str) -> Outcome<()> {
        self.put(&format!("/v1/agent/check/{outcome}/check-{id}"), "")
    }

    /// Takes an instance out of the agent.
    pub fn deregister(&self, id: &str) -> Outcome<()> {
        self.put(&format!("/v1/agent/service/deregister/{id}"), "")
    }

    /// Puts an instance into maintenance, or ends that.
    pub fn maintenance(&self, id: &str, on: bool) -> Outcome<()> {
        self.put(
            &format!("/v1/agent/service/maintenance/{id}?enable={on}&reason=test"),
            "",
        )
    }

    /// Puts the agent's node into maintenance, or ends that.
    pub fn node_maintenance(&self, on: bool) -> Outcome<()> {
        self.put(
            &format!("/v1/agent/maintenance?enable={on}&reason=test"),
            "",
        )
    }

    /// Writes straight to the catalog, as for nodes without an agent; takes what an agent refuses.
    pub fn catalog_register(&self, body: &Value) -> Outcome<()> {
        self.put("/v1/catalog/register", &body.to_string())
    }

    /// Writes many services of one node straight to the catalog, in transactions of as many as Consul takes
    /// (64 in 1.8).
    pub fn catalog_register_all(&self, node: &str, services: &[Value]) -> Outcome<()> {
        self.catalog_register(&json!({"Node": node, "Address": "127.0.0.1"}))?;
        for some in services.chunks(64) {
            let set =
                |service| json!({"Service": {"Verb": "set", "Node": node, "Service": service}});
            let operations: Vec<Value> = some.iter().map(set).collect();
            self.put("/v1/txn", &json!(operations).to_string())?;
        }
        Ok(())
    }

    /// Sets the check of a node without an agent: with it all its instances pass, or none.
    pub fn set_node_check(&self, node: &str, passing: bool) -> Outcome<()> {
        let status = if passing { "passing" } else { "critical" };
        self.catalog_register(&json!({
            "Node": node, "Address": "127.0.0.1",
            "Check": {"Node": node, "CheckID": "node", "Name": "the node's", "Status": status},
        }))
    }

    /// Removes a node, or a service of it, straight from the catalog.
    pub fn catalog_deregister(&self, body: &Value) -> Outcome<()> {
        self.put("/v1/catalog/deregister", &body.to_string())
    }

    /// Sets a key.
    pub fn set_key(&self, key: &str, value: &str) -> Outcome<()> {
        self.put(&format!("/v1/kv/{key}"), value)
    }

    /// Deletes a key.
    pub fn delete_key(&self, key: &str) -> Outcome<()> {
        self.ask("DELETE", &format!("/v1/kv/{key}"), "").map(drop)
    }

    /// The service ids that are passing, sorted.
    pub fn passing(&self, service: &str) -> Outcome<Vec<String>> {
        let found = self.get(&format!("/v1/health/service/{service}?passing=1"))?;
        let mut ids: Vec<String> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["Service"]["ID"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// GET of any path, as JSON.
    pub fn get(&self, path: &str) -> Outcome<Value> {
        json_of(&self.ask("GET", path, "")?)
    }

    /// PUT of any path.
    pub fn put(&self, path: &str, body: &str) -> Outcome<()> {
        self.ask("PUT", path, body).map(drop)
    }

    /// A snapshot of everything that the agent's server holds.
    pub fn snapshot(&self) -> Outcome<Vec<u8>> {
        self.exchange("GET", &[])
    }

    /// Replaces everything that the agent's server holds by a snapshot.
    pub fn restore(&self, snapshot: &[u8]) -> Outcome<()> {
        self.exchange("PUT", snapshot).map(drop)
    }

    fn exchange(&self, method: &str, snapshot: &[u8]) -> Outcome<Vec<u8>> {
        let limit = Duration::from_secs(10);
        let (status, body) =
            http::exchange(self.address(), method, "/v1/snapshot", snapshot, limit).map_err(
                |error| format!("Consul did not answer {method} /v1/snapshot: {error}."),
            )?;
        match status {
            200 => Ok(body),
            status => Err(format!(
                "Consul answered {method} /v1/snapshot by {status}."
            )),
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Outcome<String> {
        let limit = Duration::from_secs(10);
        let with_token = match self.token {
            Some(token) if path.contains('?') => format!("{path}&token={token}"),
            Some(token) => format!("{path}?token={token}"),
            None => path.to_owned(),
        };
        let answer = http::request(self.address(), method, &with_token, body, limit)
            .map_err(|error| format!("Consul did not answer {method} {path}: {error}."))?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(format!(
                "Consul answered {method} {path} by {status}: {}",
                answer.body
            )),
        }
    }

    /// Ready is: there is a leader and the agent is in the catalog, so that nothing written is lost.
    fn wait_until_ready(&mut self) -> Outcome<()> {
        let mut died = false;
        let outcome = wait_for(Duration::from_secs(30), "Consul to be ready", || {
            if !self.process.is_running() {
                died = true;
                return Some(());
            }
            let nodes = self.get("/v1/health/service/consul?passing=1").ok()?;
            (!nodes.as_array()?.is_empty()).then_some(())
        });
        match outcome {
            Ok(()) if !died => Ok(()),
            Ok(()) => Err(format!(
                "Consul ended at its start: {}",
                self.process.last_lines(10)
            )),
            Err(error) => Err(format!("{error} It wrote: {}", self.process.last_lines(10))),
        }
    }
}

fn json_of(body: &str) -> Outcome<Value> {
    serde_json::from_str(body).map_err(|error| format!("Consul's answer is no JSON: {error}."))
}

fn text_of(value: &Value, field: &str) -> Outcome<String> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| format!("Consul's answer has no {field}: {value}"))
}

fn launch(
    directory: &TempDir,
    ports: [u16; 4],
    persistent: bool,
    arguments: &[String],
) -> Outcome<Process> {
    let [http, server, lan, wan] = ports;
    let mut words = vec![
        "agent".to_owned(),
        "-node=test".to_owned(),
        "-bind=127.0.0.1".to_owned(),
        "-client=127.0.0.1".to_owned(),
        "-log-level=warn".to_owned(),
        "-dns-port=-1".to_owned(),
        "-grpc-port=-1".to_owned(),
        format!("-http-port={http}"),
        format!("-server-port={server}"),
        format!("-serf-lan-port={lan}"),
        format!("-serf-wan-port={wan}"),
        // Else it asks a server of its maker for newer versions.
        "-hcl=disable_update_check = true".to_owned(),
    ];
    if persistent {
        words.extend([
            "-server".to_owned(),
            "-bootstrap-expect=1".to_owned(),
            format!("-data-dir={}", directory.path().join("data").display()),
            "-hcl=performance { raft_multiplier = 1 }".to_owned(),
        ]);
    } else {
        words.push("-dev".to_owned());
    }
    let program = tools::consul()?;
    words.extend(without_grpc_tls(&program)?);
    words.extend_from_slice(arguments);
    let log = directory.path().join("consul.log");
    Process::start("Consul", &mut command(&program, words), &log)
}

/// Consul 1.14 and later also listen for gRPC over TLS, on a port that is the same for all agents of a machine.
pub(crate) fn without_grpc_tls(program: &Path) -> Outcome<Option<String>> {
    const FLAG: &str = "-grpc-tls-port";
    if tools::consul_is_fetched() {
        return Ok(None);
    }
    let help = command(program, ["agent", "-help"])
        .output()
        .map_err(|error| format!("{} cannot be started: {error}.", program.display()))?;
    let text = [help.stdout, help.stderr].concat();
    let known = String::from_utf8_lossy(&text).contains(FLAG);
    Ok(known.then(|| format!("{FLAG}=-1")))
}

/// An instance as the agent's interface takes it.
pub fn instance(service: &str, id: &str, address: SocketAddr) -> Value {
    json!({"Name": service, "ID": id, "Address": address.ip().to_string(), "Port": address.port()})
}
