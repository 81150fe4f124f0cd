//! A child process that ends with its value, and whose output is kept in a file.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Outcome, wait_for_end};

/// A running child. When dropped it and everything it started are killed.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program in a process group of its own, so that Ctrl-C in a terminal reaches only us.
    /// Its output goes to `log`. Its standard input stays open until the value is dropped.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Outcome<Process> {
        let failed = |error: std::io::Error| format!("{name} cannot be started: {error}.");
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Process {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
            ended: None,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The end of what it wrote, for an error message. A HAProxy without `option httplog` writes a line for each
    /// connection, which would leave no room for the others.
    pub fn last_lines(&self, count: usize) -> String {
        let output = self.output();
        let tells = |line: &&str| !line.starts_with("Connect from ");
        let lines: Vec<&str> = output.lines().filter(tells).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Sends it a signal. Nothing happens when it has ended already.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let _ = kill(pid(self.child.id()), signal);
        }
    }

    /// Waits for its end: the exit code, or 128 + the signal, as a shell says it.
    pub fn wait(&mut self, limit: Duration) -> Outcome<i32> {
        let what = format!("the end of {}", self.name);
        let status = wait_for_end(limit, &what, || self.exit_status())?;
        Ok(status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Asks it to end by SIGTERM and waits.
    pub fn stop(&mut self, limit: Duration) -> Outcome<i32> {
        self.signal(Signal::SIGTERM);
        self.wait(limit)
    }

    /// Kills it at once (SIGKILL); what it started lives on.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        // Listed before the kill: orphans lose their parent's number.
        let family = descendants(self.child.id());
        self.kill();
        for member in family {
            let _ = kill(pid(member), Signal::SIGKILL);
        }
    }
}

/// The processes that `parent` started and that these started, children before grandchildren.
pub fn descendants(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
        {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

/// Whether a process with this number exists and is no zombie.
pub fn exists(number: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{number}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit(')')
                .next()
                .map(|rest| !rest.trim_start().starts_with('Z'))
        })
        .unwrap_or(false)
}

/// A command with its words.
pub fn command<I: AsRef<OsStr>>(program: &Path, words: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap_or(i32::MAX))
}
