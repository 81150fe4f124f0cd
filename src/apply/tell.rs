//! How HAProxy is told of new files, in each mode, and by which sockets it is asked what it runs (`seen`). One reload at a time, each
//! awaited as far as the mode allows.
//!
//! Never touches a file of the set and never judges: it reports what was seen.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::time::Duration;

use tokio::process::Command;

use super::set::SetFile;
use crate::catalog::secrets::Secrets;
use crate::haproxy::address::Address;
use crate::haproxy::check::Invocation;
use crate::haproxy::child::{self, Limits};
use crate::haproxy::config::Level;
use crate::haproxy::master::{MasterSocket, Reload, Watched};
use crate::haproxy::process::{Master, ProcessError, Started};
use crate::haproxy::redact;
use crate::haproxy::socket::SocketError;
use crate::haproxy::stats::WorkerSocket;
use crate::haproxy::supervise::{self, Death, Status, Supervisor};

/// One question to a socket.
const ASK: Duration = Duration::from_secs(1);
/// Past this a refused socket means that HAProxy is not running, unless its process is seen.
const ABSENT: Duration = Duration::from_secs(2);

mod orphan;
mod seen;

use orphan::Known;
pub use seen::{STALE, Seen, Unknown};

/// How HAProxy is made to take new files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// `reload` on the master socket (`-S`).
    Master {
        /// The socket.
        socket: PathBuf,
    },
    /// Gatewright starts HAProxy itself and is its parent.
    Supervise {
        /// The master socket that HAProxy makes.
        socket: PathBuf,
        /// From the graceful end to the hard one.
        stop_limit: Duration,
    },
    /// SIGUSR2 to the master that the pid file names.
    Signal {
        /// What `-p` or `pidfile` writes.
        pid_file: PathBuf,
    },
    /// A program that reloads HAProxy, such as `systemctl reload haproxy`.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<OsString>,
    },
    /// Nobody: the files alone.
    None,
}

/// What came of telling HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It says that it has loaded the files.
    Loaded,
    /// It was told in a way that has no answer: by a signal or by a command.
    Sent,
    /// It says that it has not loaded them; the former worker serves on.
    Failed {
        /// What it printed.
        output: String,
    },
    /// It was running and ended over it.
    Ended {
        /// What is known of it.
        reason: String,
        /// By what it ended.
        death: Death,
    },
    /// It was down, and did not start from them either.
    NotStarted {
        /// How it ended and its last words.
        reason: String,
    },
    /// It is not running.
    Absent {
        /// What shows it.
        reason: String,
    },
    /// It could not be told, or gave no answer in time.
    Unanswered {
        /// Why.
        reason: String,
    },
}

/// HAProxy, as it is reached.
#[derive(Debug)]
pub struct Haproxy {
    mode: Mode,
    /// Every way to ask the worker, the first one that answers is used.
    ways: Vec<WorkerSocket>,
    /// Whether these were read from a configuration, because nothing else names one.
    learnt: bool,
    /// The stats sockets of the configuration, the most able first.
    sockets: Vec<WorkerSocket>,
    /// Those of them that take commands.
    commands: Vec<WorkerSocket>,
    /// The last process behind a stats socket that is known to be a worker of ours; 0 at first.
    own_worker: AtomicI32,
    /// The master that its socket has named.
    known: Known,
    /// Whether HAProxy was waited for in vain and has not answered since.
    absent: AtomicBool,
    /// Whether nothing listens at the path of the master socket although the master is ready.
    lost: AtomicBool,
    /// A master that was told in a way that has no answer.
    told: Option<Watched>,
    /// Whether the last one was told by SIGUSR2 because its socket is gone.
    by_signal: bool,
    supervisor: Option<Supervisor>,
    /// What the log does not show of a supervised HAProxy's messages.
    withheld: Secrets,
    /// What carries the revision of the set in a worker.
    variable: String,
    invocation: Invocation,
    command_timeout: Duration,
    reload_timeout: Duration,
}

impl Haproxy {
    /// `invocation` is how a supervised HAProxy is started; `variable` carries the revision of the set.
    pub fn new(
        mode: Mode,
        stats_socket: Option<Address>,
        variable: String,
        invocation: Invocation,
        command_timeout: Duration,
        reload_timeout: Duration,
    ) -> Haproxy {
        let master = match &mode {
            Mode::Master { socket } | Mode::Supervise { socket, .. } => Some(socket.clone()),
            _ => None,
        };
        // A reload does not make the file of a stats socket anew (2.6 to 3.2), since the new worker takes
        // over what the former one listens on: should it be gone, the master is the other way.
        let stats_socket = stats_socket.map(WorkerSocket::Stats);
        let ways: Vec<WorkerSocket> = stats_socket
            .into_iter()
            .chain(master.map(WorkerSocket::Master))
            .collect();
        Haproxy {
            mode,
            learnt: ways.is_empty(),
            sockets: Vec::new(),
            commands: Vec::new(),
            ways,
            own_worker: AtomicI32::new(0),
            known: Known::default(),
            absent: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            told: None,
            by_signal: false,
            supervisor: None,
            withheld: Secrets::default(),
            variable,
            invocation,
            command_timeout,
            reload_timeout,
        }
    }

    /// Reads the `stats socket` lines of the configuration that runs, or is about to. Where neither a
    /// master socket nor the settings name a way to ask the worker, they are it, the most able first.
    pub fn learn_socket(&mut self, files: &[SetFile]) {
        let mut sockets = super::plan::configuration(files).stats_sockets();
        sockets.retain(|socket| socket.plain && !socket.conditional);
        sockets.sort_by_key(|socket| Reverse(socket.level));
        let directory = self.invocation.working_directory.as_deref();
        let found: Vec<(Level, WorkerSocket)> = sockets
            .iter()
            .filter_map(|socket| {
                let address = Address::of(&socket.endpoint, directory)?;
                Some((socket.level, WorkerSocket::Stats(address)))
            })
            .collect();
        let admin = found.iter().filter(|(level, _)| *level == Level::Admin);
        self.commands = admin.map(|(_, socket)| socket.clone()).collect();
        self.sockets = found.into_iter().map(|(_, socket)| socket).collect();
        if self.learnt {
            self.ways.clone_from(&self.sockets);
        }
    }

    /// The mode in a few words.
    pub fn means(&self) -> &'static str {
        match self.mode {
            Mode::Master { .. } | Mode::Supervise { .. } if self.by_signal => {
                "reload by SIGUSR2, because the master socket is gone,"
            }
            Mode::Master { .. } => "reload by the master socket",
            Mode::Supervise { .. } => "reload of the supervised HAProxy",
            Mode::Signal { .. } => "reload by SIGUSR2",
            Mode::Command { .. } => "reload by command",
            Mode::None => "files only",
        }
    }

    /// Whether there is any socket to ask what runs.
    pub fn can_ask(&self) -> bool {
        !self.ways.is_empty()
    }

    /// Whether HAProxy can be told at all.
    pub fn can_tell(&self) -> bool {
        self.mode != Mode::None
    }

    /// The supervised HAProxy, once it was started.
    pub fn supervisor(&self) -> Option<&Supervisor> {
        self.supervisor.as_ref()
    }

    /// The master socket, in the modes that have one.
    pub fn master_socket(&self) -> Option<MasterSocket> {
        match &self.mode {
            Mode::Master { socket } | Mode::Supervise { socket, .. } => Some(MasterSocket {
                path: socket.clone(),
                limit: ASK,
            }),
            _ => None,
        }
    }

    /// The running master and how it was started, to validate as it will load; that is `None` where it may not be
    /// looked at.
    pub async fn master(&self) -> Option<(i32, Option<Started>)> {
        let master = match &self.mode {
            Mode::Signal { pid_file } => Master::find(pid_file).await,
            // A command names no process; the worker that answers is its child.
            Mode::Command { .. } => match self.seen(Duration::ZERO).await {
                Seen::Running(running) => Master::above(running.pid),
                _ => return None,
            },
            _ => match self.processes().await? {
                Ok(processes) => Master::open(processes.master.pid),
                Err(_) => Master::open(self.orphan()?.pid()),
            },
        };
        match master {
            Ok(master) => Some((master.pid(), Some(master.started()?))),
            Err(ProcessError::Denied { pid, .. }) => Some((pid, None)),
            Err(_) => None,
        }
    }

    /// Why HAProxy could not be told, where that is certain before it must be: rights that are missing, or
    /// a pid file that names something else.
    pub async fn may_not_tell(&self) -> Option<String> {
        if let Mode::Signal { pid_file } = &self.mode {
            return match Master::find(pid_file).await {
                Ok(_) | Err(ProcessError::NotRunning { .. }) => None,
                Err(error) => Some(error.to_string()),
            };
        }
        let socket = self.master_socket()?;
        match socket.processes().await {
            Err(error @ SocketError::Denied { .. }) => Some(error.to_string()),
            Err(SocketError::Absent { .. }) => {
                let pid = self.orphan()?.pid();
                let socket = socket.path;
                Some(Unknown::Orphan { pid, socket }.to_string())
            }
            _ => None,
        }
    }

    /// How many workers only finish their connections; `None` where that is not known.
    pub async fn old_workers(&self) -> Option<usize> {
        match self.processes().await? {
            Ok(processes) => Some(processes.old_count()),
            Err(_) => Some(self.orphan()?.workers().saturating_sub(1)),
        }
    }

    /// From here to `false` a supervised HAProxy that ends is not started again.
    pub fn hold_restarts(&self, held: bool) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.hold_restarts(held);
        }
    }

    /// From here on no message shows these.
    pub fn withhold(&mut self, secrets: &Secrets) {
        self.withheld = secrets.clone();
        if let Some(supervisor) = &self.supervisor {
            supervisor.withhold(secrets.clone());
        }
    }

    /// The same where they are those of the set that HAProxy has, and better known.
    pub fn withhold_instead(&mut self, secrets: &Secrets) {
        self.withheld = secrets.clone();
        if let Some(supervisor) = &self.supervisor {
            supervisor.withhold_instead(secrets.clone());
        }
    }

    /// Tells HAProxy to load the files that stand at the destinations.
    pub async fn tell(&mut self) -> Told {
        self.told = None;
        self.by_signal = false;
        match self.mode.clone() {
            Mode::Master { socket } => self.tell_master(socket).await,
            Mode::Supervise { socket, stop_limit } => self.tell_child(socket, stop_limit).await,
            Mode::Signal { pid_file } => self.tell_by_signal(pid_file).await,
            Mode::Command { argv } => self.tell_by_command(argv).await,
            Mode::None => Told::Absent {
                reason: "no way to tell HAProxy is configured".into(),
            },
        }
    }

    async fn tell_master(&mut self, socket: PathBuf) -> Told {
        if let Some(Err(error)) = self.processes().await {
            let reason = error.to_string();
            return match (error, self.orphan()) {
                (SocketError::Absent { .. }, Some(master)) => {
                    self.by_signal = true;
                    self.signal(&master).await
                }
                (SocketError::Absent { .. }, None) => Told::Absent { reason },
                _ => Told::Unanswered { reason },
            };
        }
        let master = MasterSocket {
            path: socket,
            limit: ASK,
        };
        match master.reload(self.reload_timeout).await {
            Ok(Reload::Loaded { .. }) => Told::Loaded,
            Ok(Reload::Failed { output }) => Told::Failed { output },
            Ok(Reload::MasterGone { killed }) => ended(killed),
            Err(error) => Told::Unanswered {
                reason: error.to_string(),
            },
        }
    }

    async fn tell_child(&mut self, socket: PathBuf, stop_limit: Duration) -> Told {
        if matches!(self.status(), Some(Status::Running { .. })) {
            match self.tell_master(socket.clone()).await {
                // It had ended before it was told, which says nothing of the files: it starts from them.
                Told::Absent { reason } => {
                    if matches!(self.ended(ABSENT).await, Some(Status::Running { .. })) {
                        return Told::Unanswered { reason };
                    }
                }
                Told::Ended { reason, death } => {
                    return match self.ended(ABSENT).await {
                        Some(Status::Down { reason, death }) => Told::Ended { reason, death },
                        _ => Told::Ended { reason, death },
                    };
                }
                told => return told,
            }
        }
        let supervisor = self.supervise(socket.clone(), stop_limit);
        // A HAProxy that is down waits for its files: these.
        supervisor.hold_restarts(false);
        let was_down = matches!(supervisor.status(), Status::Down { .. });
        // One that was started before the files were swapped has loaded the former ones, perhaps.
        let was_starting = matches!(supervisor.status(), Status::Starting { .. });
        let adopted = match supervisor.status() {
            Status::Waiting => {
                let master = MasterSocket {
                    path: socket.clone(),
                    limit: ASK,
                };
                master.processes().await.is_ok()
            }
            _ => false,
        };
        let status = if was_down {
            supervisor.start_again(self.reload_timeout).await
        } else {
            supervisor.start(self.reload_timeout).await
        };
        let status = match status {
            // It ended over the former files: the next start loads these.
            Status::Down { .. } if was_starting => {
                supervisor.start_again(self.reload_timeout).await
            }
            status => status,
        };
        match status {
            // It runs what an earlier Gatewright gave it.
            Status::Running { .. } if adopted || was_starting => self.tell_master(socket).await,
            Status::Running { .. } => Told::Loaded,
            Status::Down { reason, death } if adopted => Told::Ended { reason, death },
            Status::Down { reason, .. } => Told::NotStarted { reason },
            Status::Stopping { .. } | Status::Stopped => Told::Absent {
                reason: "HAProxy was told to end".into(),
            },
            Status::Waiting | Status::Starting { .. } => Told::Unanswered {
                reason: "HAProxy was started and does not serve yet".into(),
            },
        }
    }

    /// Becomes the guardian of a HAProxy that an earlier Gatewright has left.
    pub async fn adopt(&mut self) {
        let limit = self.reload_timeout;
        if let Some(supervisor) = self.guardian()
            && supervisor.status() == Status::Waiting
        {
            supervisor.start(limit).await;
        }
    }

    /// Under `supervise`, the guardian; it starts nothing before it is told to.
    pub fn guardian(&mut self) -> Option<Supervisor> {
        match self.mode.clone() {
            Mode::Supervise { socket, stop_limit } => Some(self.supervise(socket, stop_limit)),
            _ => None,
        }
    }

    /// Takes over the guardian of a HAProxy that runs already; false when that listens elsewhere.
    pub fn inherit(&mut self, supervisor: Supervisor) -> bool {
        let Mode::Supervise { socket, stop_limit } = self.mode.clone() else {
            return true;
        };
        if supervisor.socket() != socket {
            return false;
        }
        supervisor.renew(self.guardian_options(socket, stop_limit));
        self.supervisor = Some(supervisor);
        true
    }

    fn supervise(&mut self, socket: PathBuf, stop_limit: Duration) -> Supervisor {
        let options = self.guardian_options(socket, stop_limit);
        let begun = || {
            let supervisor = Supervisor::new(options);
            supervisor.withhold(self.withheld.clone());
            supervisor
        };
        self.supervisor.get_or_insert_with(begun).clone()
    }

    fn guardian_options(&self, socket: PathBuf, stop_limit: Duration) -> supervise::Options {
        supervise::Options {
            invocation: self.invocation.clone(),
            socket,
            start_limit: self.reload_timeout,
            stop_limit,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
        }
    }

    /// Waits until the supervised HAProxy serves; its status after at most `limit`.
    pub async fn serving(&self, limit: Duration) -> Status {
        let Some(supervisor) = &self.supervisor else {
            return Status::Waiting;
        };
        let mut status = supervisor.watch();
        let serves = |status: &Status| matches!(status, Status::Running { .. } | Status::Stopped);
        let _ = tokio::time::timeout(limit, status.wait_for(serves)).await;
        supervisor.status()
    }

    /// Waits until the supervised HAProxy is known to have ended; its status after at most `limit`.
    async fn ended(&self, limit: Duration) -> Option<Status> {
        let mut status = self.supervisor.as_ref()?.watch();
        let ended = |status: &Status| !matches!(status, Status::Running { .. });
        let _ = tokio::time::timeout(limit, status.wait_for(ended)).await;
        self.status()
    }

    fn status(&self) -> Option<Status> {
        match (&self.mode, &self.supervisor) {
            (Mode::Supervise { .. }, Some(supervisor)) => Some(supervisor.status()),
            (Mode::Supervise { .. }, None) => Some(Status::Waiting),
            _ => None,
        }
    }

    async fn tell_by_signal(&mut self, pid_file: PathBuf) -> Told {
        match Master::find(&pid_file).await {
            Ok(master) => self.signal(&master).await,
            Err(error) => not_told(error),
        }
    }

    /// SIGUSR2 has no answer, so the master is watched from now on.
    async fn signal(&mut self, master: &Master) -> Told {
        let worker = match self.seen(Duration::ZERO).await {
            Seen::Running(running) => Some(running.pid),
            _ => None,
        };
        self.told = Some(Watched::new(master.pid(), worker));
        match master.signal_reload(self.reload_timeout).await {
            Ok(()) => Told::Sent,
            Err(error) => not_told(error),
        }
    }

    /// How the master ended that was told in a way that has no answer; `None` while it lives.
    pub fn end_of_told(&self) -> Option<Told> {
        let told = self.told.as_ref().filter(|told| told.gone())?;
        Some(ended(told.killed()))
    }

    async fn tell_by_command(&mut self, argv: Vec<OsString>) -> Told {
        let Some((program, arguments)) = argv.split_first() else {
            return Told::Unanswered {
                reason: "The reload command is empty.".into(),
            };
        };
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            // What reloads HAProxy has no need of our access to Consul.
            if name.as_encoded_bytes().starts_with(b"CONSUL_") {
                command.env_remove(name);
            }
        }
        let limits = Limits {
            time: self.command_timeout,
            output: 16 * 1024,
        };
        if let Seen::Running(running) = self.seen(Duration::ZERO).await
            && let Ok(master) = Master::above(running.pid)
        {
            self.told = Some(Watched::new(master.pid(), Some(running.pid)));
        }
        match child::run(command, limits).await {
            Ok(ended) if ended.status.success() => Told::Sent,
            // It may have failed for any reason, so it is no word about the files.
            Ok(ended) => Told::Unanswered {
                reason: failed_command(
                    ended.status,
                    &redact::hide(&String::from_utf8_lossy(&ended.output), &[]),
                ),
            },
            Err(error) => Told::Unanswered {
                reason: error.to_string(),
            },
        }
    }

    /// Ends a supervised HAProxy; the others are not ours to end.
    pub async fn end(&self, at_once: bool) {
        if let Some(supervisor) = &self.supervisor {
            match at_once {
                true => supervisor.kill().await,
                false => supervisor.stop().await,
            }
        }
    }
}

fn ended(killed: bool) -> Told {
    Told::Ended {
        reason: "The HAProxy master ended when it loaded the new configuration.".into(),
        death: match killed {
            true => Death::Killed,
            false => Death::Unseen,
        },
    }
}

fn not_told(error: ProcessError) -> Told {
    match error {
        ProcessError::NotRunning { reason } => Told::Absent { reason },
        error => Told::Unanswered {
            reason: error.to_string(),
        },
    }
}

fn failed_command(status: ExitStatus, output: &str) -> String {
    format!("The reload command ended with {status}. {}", output.trim())
        .trim_end()
        .to_owned()
}
