//! Which configuration the serving worker runs: its process id, its version and the revision it
//! carries, asked on its stats socket or through the master.
//!
//! Read only. An old worker may answer for some milliseconds after a reload (up to 14 seen), so a
//! confirmation asks again until the deadline.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::socket::{SocketError, ask};
use crate::apply::set::{REVISION_VARIABLE, Revision};

/// Where the worker is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerSocket {
    /// Its own `stats socket`, of level operator at least.
    Stats(PathBuf),
    /// The master's socket, which hands the question on to the worker that is current then.
    Master(PathBuf),
    /// The master's socket, which hands the question on to this worker and to no other.
    Worker {
        /// The master's socket.
        master: PathBuf,
        /// The worker's process id.
        pid: i32,
    },
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The worker's process id, as HAProxy sees it.
    pub pid: i32,
    /// Whether this is an old worker that only finishes its connections.
    pub stopping: bool,
    /// The revision it carries; `None` when it loaded a configuration that is not ours.
    pub revision: Option<Revision>,
    /// The revision that it is being led to by commands: these have been begun and not ended.
    pub changing: Option<Revision>,
    /// HAProxy's version.
    pub version: String,
    /// Since when it runs, in seconds.
    pub uptime: u64,
}

impl WorkerSocket {
    /// The socket's file.
    pub fn path(&self) -> &Path {
        match self {
            WorkerSocket::Stats(path) | WorkerSocket::Master(path) => path,
            WorkerSocket::Worker { master, .. } => master,
        }
    }

    /// What the master must be told so that a worker gets what follows; nothing to a worker itself.
    pub fn prefix(&self) -> Option<String> {
        match self {
            WorkerSocket::Stats(_) => None,
            WorkerSocket::Master(_) => Some("@1".to_owned()),
            WorkerSocket::Worker { pid, .. } => Some(format!("@!{pid}")),
        }
    }

    /// Asks once. Both questions go over one connection, so one worker answers both.
    pub async fn running(&self, limit: Duration) -> Result<Running, SocketError> {
        let path = self.path();
        // To the master each command needs its own prefix.
        let prefix = self.prefix().map_or(String::new(), |prefix| prefix + " ");
        let line = format!("{prefix}show info;{prefix}get var {REVISION_VARIABLE}");
        let answer = ask(path, &line, limit).await?;
        Running::parse(&answer).ok_or_else(|| match answer.trim() {
            "" => SocketError::Cut {
                path: path.to_owned(),
            },
            _ => SocketError::strange(path, &line, &answer),
        })
    }

    /// Asks until `wanted` is true of the answer or the time is over. `Ok` holds the last answer.
    pub async fn await_running(
        &self,
        limit: Duration,
        each: Duration,
        wanted: impl Fn(&Running) -> bool,
    ) -> Result<Running, SocketError> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(2);
        loop {
            let answer = self.running(each).await;
            if matches!(&answer, Ok(running) if wanted(running)) || Instant::now() >= deadline {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Running {
    /// Reads `show info` and `get var` in one text.
    pub fn parse(text: &str) -> Option<Running> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::trim)
        };
        let carried = text
            .lines()
            .filter_map(|line| line.strip_prefix(REVISION_VARIABLE))
            .find_map(|rest| rest.split_once("value=<")?.1.split_once('>'))
            .map(|(carried, _)| carried);
        let (revision, changing) = match carried
            .map(|text| text.split_once('-').unwrap_or((text, "")))
        {
            Some((revision, changing)) => (Revision::parse(revision), Revision::parse(changing)),
            None => (None, None),
        };
        Some(Running {
            pid: value("Pid")?.parse().ok()?,
            stopping: value("Stopping") == Some("1"),
            revision,
            changing,
            version: value("Version")?.to_owned(),
            uptime: value("Uptime_sec")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_read_from_both_answers() {
        let text = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nUptime_sec: 7\nPid: 4711\nStopping: 0\n\nproc.gatewright_revision: type=str value=<0123456789ab>\n";
        let running = Running::parse(text).unwrap();
        assert_eq!(
            (running.pid, running.stopping, running.uptime),
            (4711, false, 7)
        );
        assert_eq!(running.revision, Revision::parse("0123456789ab"));
        let changing = text.replace("ab>", "ab-ba9876543210>");
        let running = Running::parse(&changing).unwrap();
        assert_eq!(running.revision, Revision::parse("0123456789ab"));
        assert_eq!(running.changing, Revision::parse("ba9876543210"));
        let foreign = text.replace("proc.gatewright_revision: type=str", "Variable not found.");
        assert_eq!(Running::parse(&foreign).unwrap().revision, None);
        assert_eq!(Running::parse("Unknown command"), None);
    }
}
