//! Which configuration the serving worker runs: its process id, its version and the revision it
//! carries, asked on its stats socket or through the master.
//!
//! Read only. An old worker may answer for some milliseconds after a reload (up to 14 seen), so a
//! confirmation asks again until the deadline.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::address::Address;
use super::socket::{SocketError, ask};
use crate::apply::set::{REVISION_VARIABLE, Revision, is_revision_variable};

/// Where the worker is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerSocket {
    /// Its own `stats socket`, of level operator at least.
    Stats(Address),
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

/// Why the answers to `show info` and `get var` do not tell what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untold {
    /// The socket has `level user`, which reads no variable (2.6 to 3.2).
    Level,
    /// They are not what any known version answers.
    Strange,
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
    /// Where to connect to.
    pub fn address(&self) -> Address {
        match self {
            WorkerSocket::Stats(address) => address.clone(),
            WorkerSocket::Master(path) => Address::File(path.clone()),
            WorkerSocket::Worker { master, .. } => Address::File(master.clone()),
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

    /// Asks once; `variable` carries the revision. All questions go over one connection, so one worker
    /// answers them.
    pub async fn running(&self, limit: Duration, variable: &str) -> Result<Running, SocketError> {
        let socket = self.address();
        // To the master each command needs its own prefix.
        let prefix = self.prefix().map_or(String::new(), |prefix| prefix + " ");
        let questions = Running::questions(variable);
        let line = questions
            .map(|question| format!("{prefix}{question}"))
            .join(";");
        let answer = ask(&socket, &line, limit).await?;
        Running::read(&socket, &line, &answer)
    }

    /// Asks until `wanted` is true of the answer or the time is over. `Ok` holds the last answer.
    pub async fn await_running(
        &self,
        limit: Duration,
        each: Duration,
        variable: &str,
        wanted: impl Fn(&Running) -> bool,
    ) -> Result<Running, SocketError> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(2);
        loop {
            let answer = self.running(each, variable).await;
            if matches!(&answer, Ok(running) if wanted(running)) || Instant::now() >= deadline {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Running {
    /// What a worker is asked. It may still have been loaded with the variable of an earlier build.
    pub fn questions(variable: &str) -> [String; 3] {
        let read = |name: &str| format!("get var {name}");
        [
            "show info".to_owned(),
            read(variable),
            read(REVISION_VARIABLE),
        ]
    }

    /// What a socket has said to these, or why it has not said it.
    pub fn read(socket: &Address, asked: &str, answer: &str) -> Result<Running, SocketError> {
        let socket = || socket.clone();
        match Running::parse(answer) {
            Ok(running) => Ok(running),
            Err(Untold::Level) => Err(SocketError::Level { socket: socket() }),
            Err(Untold::Strange) if answer.trim().is_empty() => {
                Err(SocketError::Cut { socket: socket() })
            }
            Err(Untold::Strange) if answer.starts_with("Can't find the target PID") => {
                Err(SocketError::NoWorker { socket: socket() })
            }
            Err(Untold::Strange) => Err(SocketError::strange(&socket(), asked, answer)),
        }
    }

    /// Reads `show info` and `get var` in one text. That a variable cannot be read says nothing of its
    /// value.
    pub fn parse(text: &str) -> Result<Running, Untold> {
        let running = Running::parse_both(text).ok_or(Untold::Strange)?;
        let said = |words: &str| text.lines().any(|line| bare(line).trim() == words);
        match running.revision {
            None if said("Permission denied") => Err(Untold::Level),
            _ => Ok(running),
        }
    }

    fn parse_both(text: &str) -> Option<Running> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::trim)
        };
        let values = text.lines().filter_map(|line| {
            let (name, rest) = bare(line).split_once(": ")?;
            let value = rest.split_once("value=<")?.1.split_once('>')?.0;
            is_revision_variable(name).then_some((name, value))
        });
        // The set's own variable counts, where the worker has it.
        let carried = values
            .max_by_key(|(name, _)| name.len())
            .map(|(_, value)| value);
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

/// An answer without the severity before it that `severity-output` adds: `[6]: `, `[info]: `.
fn bare(line: &str) -> &str {
    let severity = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "));
    match severity {
        Some((word, rest)) if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => rest,
        _ => line,
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
        let severe = text.replace("proc.gatewright", "[6]: proc.gatewright");
        assert_eq!(Running::parse(&severe).unwrap(), running);
        let changing = text.replace("ab>", "ab-ba9876543210>");
        let running = Running::parse(&changing).unwrap();
        assert_eq!(running.revision, Revision::parse("0123456789ab"));
        assert_eq!(running.changing, Revision::parse("ba9876543210"));
        let both =
            format!("proc.gatewright_revision_00ff00ff: type=str value=<aaaaaaaaaaaa>\n{text}");
        for text in [both.clone(), format!("{text}{both}")] {
            let running = Running::parse(&text).unwrap();
            assert_eq!(running.revision, Revision::parse("aaaaaaaaaaaa"));
        }
        let (info, _) = text.split_once("proc.").unwrap();
        let foreign = format!("{info}Variable not found.\n");
        assert_eq!(Running::parse(&foreign).unwrap().revision, None);
        assert_eq!(Running::parse("Unknown command"), Err(Untold::Strange));
        let socket = Address::File("/run/master.sock".into());
        let none = Running::read(
            &socket,
            "@1 show info",
            "Can't find the target PID matching the prefix '@1'\n",
        );
        assert_eq!(none, Err(SocketError::NoWorker { socket }));
    }

    #[test]
    fn a_socket_that_may_not_tell_the_revision_says_nothing_against_it() {
        let info = "Name: HAProxy\nVersion: 3.2.26-1\nUptime_sec: 7\nPid: 4711\nStopping: 0\n\n";
        for denied in [
            "Permission denied\n\n",
            "Permission denied\n",
            "[3]: Permission denied\n",
        ] {
            let text = format!("{info}{denied}");
            assert_eq!(Running::parse(&text), Err(Untold::Level));
        }
    }
}
