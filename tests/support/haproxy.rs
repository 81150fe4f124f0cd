//! A real HAProxy, master and worker, on a configuration of the test's own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::haproxies::Version;
use super::process::{Process, command};
use super::{Outcome, temp, wait_for};

/// A running master. When dropped it and its workers are killed.
pub struct HAProxy {
    process: Process,
    directory: TempDir,
}

impl HAProxy {
    /// Starts a version on a configuration, and waits until its worker serves.
    pub fn start(version: &Version, config: &str) -> Outcome<HAProxy> {
        HAProxy::start_with(version, config, "")
    }

    /// The same with options for the master socket, such as `mode 660`: by them it is made anew at each reload.
    pub fn start_with(version: &Version, config: &str, options: &str) -> Outcome<HAProxy> {
        let directory = temp::directory()?;
        let file = directory.path().join("haproxy.cfg");
        write(&file, config)?;
        let socket = directory.path().join("master.sock").display().to_string();
        let socket: Vec<&str> = std::iter::once(socket.as_str())
            .chain(options.split_whitespace())
            .collect();
        let words = [
            "-W",
            "-db",
            "-S",
            &socket.join(","),
            "-f",
            &file.to_string_lossy(),
        ]
        .map(str::to_owned);
        let log = directory.path().join("haproxy.log");
        let name = version.to_string();
        let process = Process::start(&name, &mut command(version.program(), words), &log)?;
        let mut haproxy = HAProxy { process, directory };
        let mut died = false;
        let outcome = wait_for(Duration::from_secs(20), &format!("{name} to serve"), || {
            died = !haproxy.process.is_running();
            (died || haproxy.worker().is_some()).then_some(())
        });
        match outcome {
            Ok(()) if !died => Ok(haproxy),
            _ => Err(format!(
                "{name} did not start: {}",
                haproxy.process.last_lines(10)
            )),
        }
    }

    /// The master's process id.
    pub fn master(&self) -> u32 {
        self.process.pid()
    }

    /// The current worker's process id, by the worker's own word.
    pub fn worker(&self) -> Option<u32> {
        let info = cli(&self.master_socket(), "@1 show info").ok()?;
        info.lines()
            .find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok())
    }

    /// Where the master listens for commands.
    pub fn master_socket(&self) -> PathBuf {
        self.directory.path().join("master.sock")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("haproxy.cfg")
    }

    /// The directory of everything it has.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The child itself, for signals and its output.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// One command to the master (or by `@1 …` to its worker).
    pub fn ask(&self, command: &str) -> Outcome<String> {
        cli(&self.master_socket(), command)
            .map_err(|error| format!("HAProxy's master did not answer `{command}`: {error}."))
    }
}

/// One command on one connection to a master or stats socket. The sending side is shut down after
/// it, because a master keeps the connection open else (HAProxy 2.6 to 3.2, by experiment).
pub fn cli(socket: &Path, command: &str) -> io::Result<String> {
    let limit = Some(Duration::from_secs(10));
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The process id of the worker behind a stats socket, by its own word.
pub fn worker(socket: &Path) -> Option<u32> {
    let info = cli(socket, "show info").ok()?;
    let mut lines = info.lines();
    lines.find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok())
}

/// The revision of this configuration's set that the worker behind a stats socket carries, by its own word.
pub fn revision(socket: &Path, config: &str) -> Option<String> {
    let answer = cli(socket, &format!("get var {}", variable_of(config)?)).ok()?;
    let (_, rest) = answer.split_once("value=<")?;
    Some(rest.split_once('>')?.0.to_owned())
}

/// The revision of Gatewright's that a configuration carries.
pub fn revision_of(config: &str) -> Option<String> {
    let (_, rest) = config.rsplit_once(variable_of(config)?)?;
    let (_, rest) = rest.split_once("str(")?;
    Some(rest.split_once(')')?.0.to_owned())
}

/// The variable that carries it in a worker.
pub fn variable_of(config: &str) -> Option<&str> {
    let at = config.rfind("proc.gatewright_revision")?;
    config[at..].split(' ').next()
}

/// One server as a worker tells it in `show servers state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Its backend.
    pub backend: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Where it is.
    pub address: SocketAddr,
    /// Its weight now.
    pub weight: u32,
    /// `srv_op_state`: 0 is down, 2 is up.
    pub operational: u32,
    /// `srv_admin_state` without 0x04 (it started as `disabled`) and 0x40 (its name was set), which keep
    /// nothing from it: 0 takes traffic.
    pub admin: u32,
}

/// Every server of the worker behind a stats socket, those without an IP address left out.
pub fn servers(socket: &Path) -> io::Result<Vec<ServerState>> {
    let text = cli(socket, "show servers state")?;
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    Ok(rows.filter_map(server_state).collect())
}

fn server_state(row: &str) -> Option<ServerState> {
    let words: Vec<&str> = row.split(' ').collect();
    let number = |index: usize| words.get(index)?.parse::<u32>().ok();
    let address = words.get(4)?.parse::<IpAddr>().ok()?;
    Some(ServerState {
        backend: (*words.get(1)?).to_owned(),
        name: (*words.get(3)?).to_owned(),
        id: number(2)?,
        address: SocketAddr::from((address, u16::try_from(number(18)?).ok()?)),
        weight: number(7)?,
        operational: number(5)?,
        admin: number(6)? & 0x3b,
    })
}

/// What `haproxy -c` says about a file: its exit code and everything it printed.
pub fn check(version: &Version, file: &Path) -> Outcome<(i32, String)> {
    let output = command(version.program(), ["-c", "-dW", "-f"])
        .arg(file)
        .output()
        .map_err(|error| format!("{version} cannot be started: {error}."))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn write(file: &Path, text: &str) -> Outcome<()> {
    std::fs::write(file, text)
        .map_err(|error| format!("{} cannot be written: {error}.", file.display()))
}
