//! The floor: the same change made by hand. One blocking query on the one service, then one command
//! on the stats socket of a HAProxy whose configuration is as large. It writes no file, checks
//! nothing and proves nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::catalog::places;
use super::subject::{Subject, free_address};
use super::wire::{Closer, Connection, request};
use support::haproxies::Version;
use support::haproxy::{HAProxy, cli};
use support::{Outcome, temp};

/// The service that is changed by hand.
pub const SERVICE: &str = "moved-by-hand";

/// A HAProxy and a thread that tells it.
pub struct Hand {
    haproxy: HAProxy,
    _directory: TempDir,
    stats: PathBuf,
    entrance: SocketAddr,
    closer: Closer,
    thread: Option<JoinHandle<Outcome<()>>>,
}

impl Hand {
    /// Starts it on a copy of `model`'s configuration.
    pub fn start(consul: SocketAddr, version: &str, model: &dyn Subject) -> Outcome<Hand> {
        let directory = temp::directory()?;
        let stats = directory.path().join("stats.sock");
        let entrance = free_address()?;
        let file = model.file().ok_or("The model has no configuration file.")?;
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{} cannot be read: {error}.", file.display()))?;
        let model_stats = model.stats().ok_or("The model has no stats socket.")?;
        let text = text
            .replace(
                &model_stats.display().to_string(),
                &stats.display().to_string(),
            )
            .replace(&model.entrance().to_string(), &entrance.to_string());
        let server = text
            .lines()
            .skip_while(|line| *line != format!("backend {}", model.service()))
            .find_map(|line| line.trim().strip_prefix("server ")?.split(' ').next())
            .ok_or("The model's service has no server.")?;
        let target = format!("{}/{server}", model.service());
        let haproxy = HAProxy::start(&Version::known(version)?, &text)?;

        let mut connection = Connection::open(consul, Duration::from_secs(90))
            .map_err(|error| format!("Consul cannot be reached: {error}."))?;
        let closer = connection
            .closer()
            .map_err(|error| format!("A connection cannot be shared: {error}."))?;
        let socket = stats.clone();
        let thread = std::thread::spawn(move || follow(&mut connection, &socket, &target));
        Ok(Hand {
            haproxy,
            _directory: directory,
            stats,
            entrance,
            closer,
            thread: Some(thread),
        })
    }
}

/// Reads the service and tells each of its answers, until the connection is closed.
fn follow(connection: &mut Connection, stats: &Path, target: &str) -> Outcome<()> {
    let mut index = 0;
    loop {
        let path = format!("/v1/health/service/{SERVICE}?passing=1&wait=60s&index={index}");
        let Ok(answer) = connection.ask(&request("GET", &path, "")) else {
            return Ok(());
        };
        index = answer.index.unwrap_or(0);
        let Ok(body) = serde_json::from_slice(&answer.body) else {
            return Err("Consul's answer is no JSON.".to_owned());
        };
        if let Some((address, _)) = places(&body).first() {
            let line = format!(
                "set server {target} addr {} port {}",
                address.ip(),
                address.port()
            );
            cli(stats, &line).map_err(|error| format!("HAProxy did not answer: {error}."))?;
        }
    }
}

impl Subject for Hand {
    fn name(&self) -> &str {
        "floor (by hand)"
    }

    fn entrance(&self) -> SocketAddr {
        self.entrance
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn stats(&self) -> Option<&Path> {
        Some(&self.stats)
    }

    fn ended(&mut self) -> Option<String> {
        if !self.haproxy.process().is_running() {
            return Some("The HAProxy of the floor ended.".to_owned());
        }
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(match thread.join() {
            Ok(Err(error)) => error,
            _ => "The floor lost its connection to Consul.".to_owned(),
        })
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
