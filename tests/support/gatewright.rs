//! Gatewright itself as a child process, with a directory of its own for settings, templates and state.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{self, Process};
use super::{Outcome, script, temp, tools, wait_for, wait_for_end};

/// What Gatewright is run with. Everything lies in one temporary directory.
pub struct Setup {
    directory: TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    through: Vec<String>,
    user: Option<(u32, u32)>,
    /// Where the settings last put the status socket.
    socket: Mutex<Option<PathBuf>>,
}

impl Setup {
    /// An empty directory.
    pub fn new() -> Outcome<Setup> {
        Ok(Setup {
            directory: temp::directory()?,
            environment: Vec::new(),
            arguments: Vec::new(),
            through: Vec::new(),
            user: None,
            socket: Mutex::default(),
        })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in the directory, as text for settings and templates.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Writes a file into the directory; folders on the way are made.
    pub fn file(&self, name: &str, text: &str) -> Outcome<()> {
        let path = self.directory.path().join(name);
        let folder = path.parent().unwrap_or(self.directory.path());
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{} cannot be written: {error}.", path.display()))
    }

    /// Writes a program into the directory.
    pub fn script(&self, name: &str, text: &str) -> Outcome<()> {
        script::write(&self.directory.path().join(name), text)
    }

    /// Reads a file of the directory.
    pub fn read(&self, name: &str) -> Outcome<String> {
        let path = self.directory.path().join(name);
        std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}.", path.display()))
    }

    /// Writes `gatewright.toml`. `{dir}` in the text stands for the directory.
    pub fn settings(&self, text: &str) -> Outcome<()> {
        self.file("gatewright.toml", &text.replace("{dir}", &self.path("")))
    }

    /// Sets an environment variable. Consul's own are else not passed on.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs as another user and group, which only root may do.
    pub fn user(mut self, user: u32, group: u32) -> Setup {
        self.user = Some((user, group));
        self
    }

    /// Adds an argument to every call.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts [`Setup::run`]'s Gatewright by these words in front of its command line, such as those of
    /// `unshare`. They must replace themselves by it.
    pub fn through(mut self, words: &[String]) -> Setup {
        self.through = words.to_vec();
        self
    }

    /// Runs a command to its end and gives its exit code and output.
    pub fn call(&self, words: &[&str]) -> Outcome<Output> {
        self.command(words)?
            .output()
            .map_err(|error| format!("Gatewright cannot be started: {error}."))
    }

    /// Starts `gatewright run` on `gatewright.toml`.
    pub fn run(&self) -> Outcome<Gatewright> {
        let settings = self.path("gatewright.toml");
        let words = ["run", "-c", &settings];
        let mut command = self.command(&words)?;
        if let [program, before @ ..] = self.through.as_slice() {
            let inner = command;
            command = Command::new(program);
            command
                .args(before)
                .arg(inner.get_program())
                .args(inner.get_args())
                .current_dir(self.directory.path());
            for (name, value) in inner.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        }
        let log = self.directory.path().join("gatewright.log");
        Ok(Gatewright {
            process: Process::start("Gatewright", &mut command, &log)?,
        })
    }

    /// A command that is not started yet.
    pub fn command(&self, words: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(binary()?);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CONSUL_") || name_text.starts_with("SERF_") {
                command.env_remove(name);
            }
        }
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
            .args(words)
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .current_dir(self.directory.path());
        Ok(command)
    }

    /// What a running sidecar says of itself.
    pub fn status(&self) -> Outcome<Value> {
        // Tests ask up to a hundred times a second, also before the sidecar listens: the socket itself, not a program.
        if let Some(socket) = self.status_socket() {
            return ask(&socket)
                .ok_or_else(|| format!("No sidecar answers on {}.", socket.display()));
        }
        let settings = self.path("gatewright.toml");
        let output = self.call(&["status", "--json", "-c", &settings])?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            format!(
                "`gatewright status --json` gave no JSON ({error}): {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// Where the lines of `gatewright.toml` put the status socket, if they do.
    fn status_socket(&self) -> Option<PathBuf> {
        let path = self.directory().join("gatewright.toml");
        let is_text =
            std::fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() < 1 << 20);
        let Some(settings) = is_text.then(|| self.read("gatewright.toml").ok()).flatten() else {
            return self.socket.lock().ok()?.clone();
        };
        let value = |table: &str, key: &str| {
            let lines = settings.lines().map(str::trim);
            let mut of_table = lines
                .skip_while(|line| *line != table)
                .skip(1)
                .take_while(|line| !line.starts_with('['));
            of_table.find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| self.directory().join(value.trim().trim_matches('"')))
            })
        };
        let in_state = || Some(value("[state]", "directory")?.join("status.sock"));
        let socket = value("[status]", "socket").or_else(in_state);
        if let (Some(socket), Ok(mut last)) = (&socket, self.socket.lock()) {
            *last = Some(socket.clone());
        }
        socket
    }

    /// The same, asked at a socket of the directory: whatever the settings look like.
    pub fn status_at(&self, socket: &str) -> Option<Value> {
        let words = ["status", "--json", "--socket", &self.path(socket)];
        serde_json::from_slice(&self.call(&words).ok()?.stdout).ok()
    }

    /// Waits until the status has what `probe` looks for.
    pub fn wait_for_status<T>(
        &self,
        limit: Duration,
        what: &str,
        mut probe: impl FnMut(&Value) -> Option<T>,
    ) -> Outcome<T> {
        wait_for(limit, what, || probe(&self.status().ok()?))
            .map_err(|error| format!("{error} The last status: {:?}", self.status()))
    }
}

/// What the sidecar behind a status socket says, as `gatewright status --json` prints it.
fn ask(socket: &Path) -> Option<Value> {
    let limit = Some(Duration::from_secs(5));
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(limit).ok()?;
    stream.write_all(b"status\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    serde_json::from_slice(&answer).ok()
}

/// A running sidecar. When dropped it, and the HAProxy it may have started, are killed.
pub struct Gatewright {
    process: Process,
}

impl Gatewright {
    /// The child itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Waits until a line of the log has all these words.
    pub fn wait_for_log(&self, limit: Duration, words: &[&str]) -> Outcome<String> {
        wait_for(limit, &format!("a log line with {words:?}"), || {
            self.log()
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        })
        .map_err(|error| format!("{error} The log ends:\n{}", self.process.last_lines(20)))
    }

    /// Asks it to read settings and templates again (SIGHUP).
    pub fn reload(&mut self) {
        self.process.signal(Signal::SIGHUP);
    }

    /// Asks it to end (SIGTERM) and gives its exit code.
    pub fn stop(&mut self, limit: Duration) -> Outcome<i32> {
        self.process
            .stop(limit)
            .map_err(|error| format!("{error} The log ends:\n{}", self.process.last_lines(20)))
    }
}

/// Ends Gatewright, which must end well and take the HAProxy that it supervises with it.
pub fn end_with_haproxy(gatewright: &mut Gatewright) -> Outcome<()> {
    let family = process::descendants(gatewright.process().pid());
    let code = gatewright.stop(Duration::from_secs(20))?;
    if code != 0 {
        return Err(format!("Gatewright ended with code {code}."));
    }
    wait_for_end(
        Duration::from_secs(5),
        "HAProxy to end with Gatewright",
        || (!family.iter().any(|pid| process::exists(*pid))).then_some(()),
    )
}

/// The program: `GATEWRIGHT_BIN`, or the one that cargo built beside this test, example or benchmark.
pub fn binary() -> Outcome<PathBuf> {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.parent()?.join("gatewright"))
    };
    let path = std::env::var_os("GATEWRIGHT_BIN")
        .map(PathBuf::from)
        .or_else(beside)
        .unwrap_or_else(|| tools::root().join("target/debug/gatewright"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "There is no program {}. Run `cargo build`, or set GATEWRIGHT_BIN.",
            path.display()
        ))
    }
}
