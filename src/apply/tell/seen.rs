//! What HAProxy runs, asked by every way that leads to its worker, and why that may not be known.
//!
//! Changes nothing. A way that leads to no worker of ours is passed over, and is no word against a set.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{ABSENT, ASK, Haproxy, Mode};
use crate::haproxy::address::Address;
use crate::haproxy::process::{Master, ProcessError, parent};
use crate::haproxy::runtime::{Session, Version};
use crate::haproxy::socket::{SocketError, ask};
use crate::haproxy::stats::{Running, WorkerSocket};
use crate::haproxy::supervise::Status;

/// After HAProxy says "loaded", an old worker may still answer (up to 14 ms seen, more under load).
pub const STALE: Duration = Duration::from_secs(3);

/// For a HAProxy that a command has started in place of another one to answer.
const ANOTHER: Duration = Duration::from_millis(150);

/// For a worker to begin to serve once its master has loaded it.
const MOMENT: Duration = Duration::from_millis(300);

/// What was seen of HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Its worker answers.
    Running(Running),
    /// It is not running.
    Absent {
        /// What shows it.
        reason: String,
    },
    /// It cannot be asked, or does not answer. This is no word against a set.
    Unknown(Unknown),
}

/// Why it is not known what HAProxy runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// There is nothing to ask.
    #[error(
        "There is no socket to ask HAProxy what it runs. Configure `stats socket` and name it in the settings."
    )]
    NoSocket,
    /// A reload is under way, or no worker serves.
    #[error("Only an old worker answers, which is finishing its connections.")]
    OldWorker,
    /// The process is there, and its socket is not.
    #[error("{reason}")]
    Silent {
        /// What shows it.
        reason: String,
    },
    /// Another HAProxy has the socket.
    #[error(
        "Process {pid}, which answers on {socket}, is not a worker of the HAProxy that Gatewright reloads. Name a `stats socket` of that HAProxy in the settings."
    )]
    Foreign {
        /// The process that answers.
        pid: i32,
        /// Where.
        socket: Address,
    },
    /// The master has lost its socket.
    #[error(
        "HAProxy (master process {pid}) runs, and nothing answers on its master socket {} any more: its file was removed or replaced. Gatewright reloads HAProxy by SIGUSR2 meanwhile. Restart HAProxy if the next reload does not make the socket again, and keep cleaners of temporary files away from it.", socket.display()
    )]
    Orphan {
        /// The master.
        pid: i32,
        /// Its socket.
        socket: PathBuf,
    },
    /// A worker that has loaded the newest files cannot be asked what it holds.
    #[error(
        "HAProxy's worker {pid} has loaded the newest files and takes no commands, so Gatewright cannot ask it what it holds. Give a `stats socket` of HAProxy's configuration `level admin`, or name the master socket in the settings."
    )]
    Mute {
        /// The worker.
        pid: i32,
    },
    /// What a worker holds that has loaded the newest files cannot be read.
    #[error(
        "HAProxy's worker {pid} has loaded the newest files, and Gatewright cannot read back what it holds: {why}."
    )]
    Unread {
        /// The worker's process.
        pid: i32,
        /// In words, without secrets.
        why: String,
    },
    /// The socket does not tell it.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl Unknown {
    /// Whether another question gets the same until somebody changes the configuration, the settings or
    /// a right, so that waiting for a word about the set is in vain.
    pub fn lasts(&self) -> bool {
        match self {
            Unknown::NoSocket
            | Unknown::Foreign { .. }
            | Unknown::Orphan { .. }
            | Unknown::Mute { .. }
            | Unknown::Unread { .. } => true,
            Unknown::OldWorker | Unknown::Silent { .. } => false,
            Unknown::Socket(error) => error.lasts(),
        }
    }

    /// Whether one such answer is enough. A connection that was closed or cut may be one of many.
    fn is_certain(&self) -> bool {
        match self {
            Unknown::NoSocket
            | Unknown::Foreign { .. }
            | Unknown::Orphan { .. }
            | Unknown::Mute { .. }
            | Unknown::Unread { .. } => true,
            Unknown::OldWorker | Unknown::Silent { .. } => false,
            Unknown::Socket(error) => matches!(
                error,
                SocketError::Denied { .. }
                    | SocketError::Level { .. }
                    | SocketError::Strange { .. }
            ),
        }
    }

    fn may_pass(&self) -> bool {
        match self {
            Unknown::NoSocket
            | Unknown::Foreign { .. }
            | Unknown::Orphan { .. }
            | Unknown::Mute { .. }
            | Unknown::Unread { .. } => false,
            Unknown::OldWorker | Unknown::Silent { .. } => true,
            Unknown::Socket(error) => error.may_pass(),
        }
    }

    /// Whether this says more than that nothing listens.
    fn is_more(&self) -> bool {
        !matches!(self, Unknown::Socket(SocketError::Absent { .. }))
    }
}

/// What a worker says that it runs.
pub(super) type Answer = Result<Running, Unknown>;

impl Haproxy {
    /// The way to tell this worker something while it runs: its own stats socket where that is of level
    /// admin, which is many times faster than through the master, else the master.
    pub async fn session(&self, running: &Running) -> Option<Session> {
        let version = Version::parse(&running.version)?;
        let session = |socket: WorkerSocket| Session {
            socket,
            version,
            limit: ASK,
            variable: self.variable.clone(),
        };
        for socket in self.commands.iter().chain(&self.ways) {
            if self.takes_commands(socket, running).await {
                return Some(session(socket.clone()));
            }
        }
        let master = self.master_socket()?.path;
        if self.known_orphan().is_some() {
            return None;
        }
        if !self.commands.is_empty() {
            tracing::warn!(
                "HAProxy's stats socket does not take commands; they go through the master socket {}.",
                master.display()
            );
        }
        // A worker that takes its place must not get what was meant for it.
        Some(session(WorkerSocket::Worker {
            master,
            pid: running.pid,
        }))
    }

    /// Every worker that the master knows, one that is starting among them; `None` where there is no master to ask. Up to
    /// 3.0 a master answers nothing while it loads.
    pub async fn workers(&self) -> Option<Result<Vec<i32>, SocketError>> {
        let found = match self.processes().await? {
            Err(error @ SocketError::Absent { .. }) => Err(error),
            Err(_) => {
                self.master_socket()?
                    .processes_within(self.reload_timeout)
                    .await
            }
            found => found,
        };
        Some(found.map(|found| {
            let all = found.workers.iter().chain(&found.old_workers);
            all.map(|worker| worker.pid).collect()
        }))
    }

    /// What runs now. A reload under way is waited for; `patience` is for a socket that refuses.
    pub async fn seen(&self, patience: Duration) -> Seen {
        let supervised = matches!(self.mode, Mode::Supervise { .. });
        if supervised && matches!(self.status(), None | Some(Status::Waiting)) {
            // Not started by us yet. One that an earlier Gatewright left answers at once, and is
            // adopted.
            let seen = self.ask(Duration::ZERO).await;
            self.absent
                .store(matches!(seen, Seen::Absent { .. }), Ordering::Relaxed);
            return seen;
        }
        match self.ask(self.patience(patience)).await {
            Seen::Absent { reason } if self.process_is_there().await => {
                Seen::Unknown(Unknown::Silent { reason })
            }
            seen => {
                let waited = patience >= ABSENT || !matches!(seen, Seen::Absent { .. });
                if waited {
                    let absent = matches!(seen, Seen::Absent { .. });
                    self.absent.store(absent, Ordering::Relaxed);
                }
                seen
            }
        }
    }

    async fn ask(&self, patience: Duration) -> Seen {
        if self.ways.is_empty() {
            return match &self.mode {
                Mode::Signal { pid_file } => match Master::find(pid_file).await {
                    Err(ProcessError::NotRunning { reason }) => Seen::Absent { reason },
                    _ => Seen::Unknown(Unknown::NoSocket),
                },
                _ => Seen::Unknown(Unknown::NoSocket),
            };
        }
        let ended = |answer: &Answer| match answer {
            Ok(_) => true,
            Err(why) => !why.may_pass(),
        };
        let answer = match self.ask_until(patience, ended).await {
            // A search for its process is made only here.
            Err(why) if !why.is_more() => match self.orphan() {
                Some(master) => self.ask_orphan(&master).await,
                None => Err(why),
            },
            answer => answer,
        };
        match answer {
            Ok(running) => Seen::Running(running),
            Err(Unknown::Socket(error @ SocketError::Absent { .. })) => Seen::Absent {
                reason: error.to_string(),
            },
            Err(why) => Seen::Unknown(why),
        }
    }

    /// Asks until an answer is an end or the time is over; the last answer.
    async fn ask_until(&self, limit: Duration, ended: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(2);
        loop {
            let answer = self.ask_once().await;
            if ended(&answer) || Instant::now() >= deadline {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Asks by one way after the other until one leads to a worker of ours.
    async fn ask_once(&self) -> Answer {
        let mut found = Unknown::NoSocket;
        for (number, way) in self.ways.iter().enumerate() {
            let why = match way.running(ASK, &self.variable).await {
                Ok(running) if !self.is_own(way, &running).await => Unknown::Foreign {
                    pid: running.pid,
                    socket: way.address(),
                },
                // Right after a reload an old worker may answer for some milliseconds.
                Ok(running) if running.stopping => return Err(Unknown::OldWorker),
                Ok(running) => return Ok(running),
                Err(error) if error.leads_nowhere() => error.into(),
                Err(error @ SocketError::TimedOut { .. }) => return Err(error.into()),
                Err(error) => error.into(),
            };
            if number == 0 || why.is_more() {
                found = why;
            }
        }
        if !found.is_more()
            && let Some(master) = self.known_orphan()
        {
            return self.ask_orphan(&master).await;
        }
        Err(found)
    }

    /// Whether the process behind a stats socket is a worker of the HAProxy that we reload, as far as that
    /// can be seen: another one may have the socket's path or port.
    async fn is_own(&self, way: &WorkerSocket, running: &Running) -> bool {
        let pid = running.pid;
        if !matches!(way, WorkerSocket::Stats(_)) || self.own_worker.load(Ordering::Relaxed) == pid
        {
            return true;
        }
        let own = match &self.mode {
            Mode::Master { .. } | Mode::Supervise { .. } => match self.master_socket() {
                Some(master) => match master.processes().await {
                    Ok(all) => {
                        // A master that loses its socket later is known by then.
                        self.known.note(all.master.pid, &master.path);
                        let mut workers = all.workers.iter().chain(&all.old_workers);
                        workers.any(|worker| worker.pid == pid)
                    }
                    Err(_) => return self.known.has_worker(pid),
                },
                None => return true,
            },
            Mode::Signal { pid_file } => match (parent(pid), Master::find(pid_file).await) {
                (Some(parent), Ok(master)) => [parent, pid].contains(&master.pid()),
                _ => return true,
            },
            Mode::Command { .. } | Mode::None => return true,
        };
        if own {
            self.own_worker.store(pid, Ordering::Relaxed);
        }
        own
    }

    /// A command may be one that ends HAProxy and starts another. But a master that has ended over its files
    /// must not be started from them once more.
    fn return_time(&self) -> Duration {
        match self.mode {
            Mode::Command { .. } => ANOTHER,
            _ => Duration::ZERO,
        }
    }

    async fn process_is_there(&self) -> bool {
        match &self.mode {
            Mode::Signal { pid_file } => Master::find(pid_file).await.is_ok(),
            Mode::Master { .. } => self.known.lives(),
            _ => matches!(
                self.status(),
                Some(Status::Starting { .. } | Status::Running { .. })
            ),
        }
    }

    /// Waits until the worker runs what is `wanted`; the last thing seen otherwise. A socket that cannot
    /// tell it is not waited for longer than a former worker may have it.
    pub async fn confirm(&self, limit: Duration, wanted: impl Fn(&Running) -> bool) -> Seen {
        if self.ways.is_empty() {
            return Seen::Unknown(Unknown::NoSocket);
        }
        let started = Instant::now();
        let gone = OnceLock::new();
        let ended = |answer: &Answer| match answer {
            Ok(running) => wanted(running),
            // A service manager may start another one at once.
            Err(_) if self.end_of_told().is_some() => {
                gone.get_or_init(Instant::now).elapsed() >= self.return_time()
            }
            Err(why) => why.is_certain() && started.elapsed() >= STALE,
        };
        match self.ask_until(limit, ended).await {
            Ok(running) => Seen::Running(running),
            Err(why) => Seen::Unknown(why),
        }
    }

    /// What runs once a reload that may be under way has ended: the master does not answer during a load,
    /// and the former worker does so for a moment longer. A second reload would follow the first if
    /// that one were believed.
    pub async fn seen_after_load(&self, wanted: impl Fn(&Running) -> bool) -> Seen {
        let _ = self.processes().await;
        match self.confirm(MOMENT, wanted).await {
            seen @ Seen::Running(_) => seen,
            _ => self.seen(ABSENT).await,
        }
    }

    /// Whether this is a socket of that worker, and not another HAProxy's, and lets us change something.
    async fn takes_commands(&self, socket: &WorkerSocket, running: &Running) -> bool {
        let WorkerSocket::Stats(address) = socket else {
            return false;
        };
        let found = socket.running(ASK, &self.variable).await;
        matches!(found, Ok(found) if found.pid == running.pid)
            && matches!(ask(address, "show cli level", ASK).await, Ok(level) if level.trim() == "admin")
    }
}
