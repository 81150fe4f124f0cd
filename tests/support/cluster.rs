//! Three real Consul servers on loopback that form one cluster and keep their data.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::consul::without_grpc_tls;
use super::process::{Process, command};
use super::{Outcome, http, ports, temp, tools, wait_for};

/// How many servers there are; two are a quorum.
const SERVERS: usize = 3;

/// The servers. When dropped they are killed and their data removed.
pub struct Cluster {
    servers: Vec<Process>,
    ports: Vec<[u16; 3]>,
    directory: TempDir,
}

impl Cluster {
    /// Starts the servers and waits for a leader that all of them know.
    pub fn start() -> Outcome<Cluster> {
        let mut last = String::new();
        // What is not of these tests may have taken a port between the look and the start.
        for _ in 0..3 {
            let all: [u16; 3 * SERVERS] = ports::free()?;
            let mut cluster = Cluster {
                servers: Vec::new(),
                ports: all.chunks(3).map(|p| [p[0], p[1], p[2]]).collect(),
                directory: temp::directory()?,
            };
            for server in 0..SERVERS {
                let process = cluster.launch(server)?;
                cluster.servers.push(process);
            }
            match cluster.wait_until_ready() {
                Ok(()) => return Ok(cluster),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The HTTP address of a server, counted from 0.
    pub fn address(&self, server: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[server][0]))
    }

    /// Kills a server without notice.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].kill();
    }

    /// Starts a killed server again with its data.
    pub fn restart(&mut self, server: usize) -> Outcome<()> {
        self.servers[server] = self.launch(server)?;
        Ok(())
    }

    /// PUT of any path at one server.
    pub fn put(&self, server: usize, path: &str, body: &str) -> Outcome<()> {
        let answer = http::put(self.address(server), path, body)
            .map_err(|error| format!("Server {server} did not answer PUT {path}: {error}."))?;
        match answer.status {
            200 => Ok(()),
            status => Err(format!(
                "PUT {path} was answered by {status}: {}",
                answer.body
            )),
        }
    }

    /// The status and headers that a server answers a GET with.
    pub fn look(&self, server: usize, path: &str) -> Outcome<http::Answer> {
        http::get(self.address(server), path).map_err(|error| error.to_string())
    }

    /// Waits until every server knows a leader.
    pub fn wait_until_ready(&mut self) -> Outcome<()> {
        wait_for(Duration::from_secs(30), "a leader of the cluster", || {
            (0..SERVERS)
                .all(|server| {
                    let answer = self.look(server, "/v1/catalog/nodes").ok();
                    answer.is_some_and(|answer| {
                        let nodes = serde_json::from_str::<Value>(&answer.body).ok();
                        let count = nodes.and_then(|nodes| nodes.as_array().map(Vec::len));
                        answer.status == 200 && count == Some(SERVERS)
                    })
                })
                .then_some(())
        })
        .map_err(|error| format!("{error} It wrote: {}", self.servers[0].last_lines(10)))
    }

    fn launch(&self, server: usize) -> Outcome<Process> {
        let [port, rpc, lan] = self.ports[server];
        let folder = self.directory.path();
        let mut words = vec![
            "agent".to_owned(),
            "-server".to_owned(),
            format!("-bootstrap-expect={SERVERS}"),
            format!("-node=server-{server}"),
            "-bind=127.0.0.1".to_owned(),
            "-client=127.0.0.1".to_owned(),
            "-log-level=warn".to_owned(),
            "-dns-port=-1".to_owned(),
            "-grpc-port=-1".to_owned(),
            "-serf-wan-port=-1".to_owned(),
            format!("-http-port={port}"),
            format!("-server-port={rpc}"),
            format!("-serf-lan-port={lan}"),
            format!(
                "-data-dir={}",
                folder.join(format!("data-{server}")).display()
            ),
            "-retry-interval=200ms".to_owned(),
            "-hcl=disable_update_check = true".to_owned(),
            "-hcl=performance { raft_multiplier = 1 }".to_owned(),
        ];
        for [_, _, other] in &self.ports {
            if *other != lan {
                words.push(format!("-retry-join=127.0.0.1:{other}"));
            }
        }
        let program = tools::consul()?;
        words.extend(without_grpc_tls(&program)?);
        let log = folder.join(format!("server-{server}.log"));
        Process::start("Consul", &mut command(&program, words), &log)
    }
}
