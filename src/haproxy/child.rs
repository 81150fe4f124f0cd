//! One child process within limits: its own process group, a time limit for the whole group, a cap
//! on what it may say, and nobody left behind.
//!
//! Every child of Gatewright is started by [`spawn`], which notes its process id. As process 1 of a
//! container we also have to reap orphans that were never ours; [`reap_orphans`] leaves the noted
//! ones to their owner, so that nobody waits for a child that somebody else has taken.
//!
//! Never decides what an exit status means.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::{crash, descriptors};

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After this the whole process group is killed.
    pub time: Duration,
    /// Bytes of output that are kept; the rest is read and dropped.
    pub output: usize,
}

/// A child that ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output and standard error, in order, up to the cap.
    pub output: Vec<u8>,
}

/// Why there is no exit status.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// There is no such program.
    #[error("The program {} was not found. Install it or give its full path.", program.display())]
    Missing {
        /// What was to be run.
        program: PathBuf,
    },
    /// The system would not start it.
    #[error("The program {} could not be started: {cause}.", program.display())]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It ran past its limit and was killed with all it had started.
    #[error("The program {} did not end within {} s and was killed. Raise the limit if it needs longer.", program.display(), limit.as_secs_f32())]
    TimedOut {
        /// What was run.
        program: PathBuf,
        /// The limit.
        limit: Duration,
    },
}

/// Runs a program to its end, with nothing on standard input.
pub async fn run(mut command: Command, limits: Limits) -> Result<Ended, ChildError> {
    let program = PathBuf::from(command.as_std().get_program());
    let failed = |cause: std::io::Error| start_error(&program, cause);
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer);
    let mut child = spawn(&mut command, Lifetime::Ours).map_err(failed)?;
    // The command holds the writing end; the pipe would never end.
    drop(command);
    let mut receiver = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
    let mut output = Vec::new();
    match tokio::time::timeout(
        limits.time,
        follow(&mut child, &mut receiver, &mut output, limits.output),
    )
    .await
    {
        Ok(status) => Ok(Ended {
            status: status.map_err(failed)?,
            output,
        }),
        Err(_) => {
            child.signal_group(Signal::SIGKILL);
            let _ = child.wait().await;
            Err(ChildError::TimedOut {
                program,
                limit: limits.time,
            })
        }
    }
}

/// Waits for the end and reads on meanwhile, so that a full pipe never blocks the child.
async fn follow(
    child: &mut Owned,
    receiver: &mut pipe::Receiver,
    output: &mut Vec<u8>,
    cap: usize,
) -> std::io::Result<ExitStatus> {
    let mut buffer = [0; 4096];
    let mut open = true;
    let mut keep = |bytes: &[u8]| {
        let room = cap.saturating_sub(output.len()).min(bytes.len());
        output.extend_from_slice(&bytes[..room]);
    };
    let status = loop {
        tokio::select! {
            // Cancel safe: tokio documents it for `Child::wait`.
            status = child.wait() => break status?,
            // Cancel safe: a cancelled read has taken nothing.
            read = receiver.read(&mut buffer), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(count) => keep(&buffer[..count]),
            },
        }
    };
    // The last words are still in the pipe; a grandchild may hold it open, so not for long.
    let rest = async {
        while let Ok(count @ 1..) = receiver.read(&mut buffer).await {
            keep(&buffer[..count]);
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), rest).await;
    Ok(status)
}

fn start_error(program: &std::path::Path, cause: std::io::Error) -> ChildError {
    let program = program.to_owned();
    match cause.kind() {
        std::io::ErrorKind::NotFound => ChildError::Missing { program },
        _ => ChildError::Start { program, cause },
    }
}

/// What happens to a child whose handle is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Its group is killed: it works for us only.
    Ours,
    /// It lives on: a proxy that serves must not die with its manager.
    Own,
}

/// A child with its process group, noted as ours until it is reaped.
#[derive(Debug)]
pub struct Owned {
    child: Child,
    pid: Pid,
    lifetime: Lifetime,
    reaped: bool,
}

/// Starts a program in a process group of its own and notes it.
pub fn spawn(command: &mut Command, lifetime: Lifetime) -> std::io::Result<Owned> {
    command
        .process_group(0)
        .kill_on_drop(lifetime == Lifetime::Ours);
    // Only another start waits for a program on a disk that takes its time.
    let _one = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    noted().starting = true;
    let started = descriptors::as_before(|| command.spawn());
    let mut noted = noted();
    noted.starting = false;
    let child = started?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .ok_or_else(|| std::io::Error::other("the new process has no id"))?;
    noted.children.insert(pid);
    drop(noted);
    crash::point("child started");
    Ok(Owned {
        child,
        pid: Pid::from_raw(pid),
        lifetime,
        reaped: false,
    })
}

impl Owned {
    /// Its process id, which is also that of its group.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits until it ends and reaps it. Cancel safe.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.forget();
        status
    }

    /// Takes its standard error, when that was piped.
    pub fn take_stderr(&mut self) -> Option<tokio::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Sends a signal to the process; does nothing once it is reaped.
    pub fn signal(&self, signal: Signal) {
        if !self.reaped {
            let _ = kill(self.pid, signal);
        }
    }

    /// Sends a signal to its whole group; does nothing once it is reaped.
    pub fn signal_group(&self, signal: Signal) {
        if !self.reaped {
            let _ = killpg(self.pid, signal);
        }
    }

    fn forget(&mut self) {
        self.reaped = true;
        noted().children.remove(&self.pid.as_raw());
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.reaped {
            if self.lifetime == Lifetime::Ours {
                self.signal_group(Signal::SIGKILL);
            }
            self.forget();
        }
    }
}

/// The children that [`spawn`] has started.
struct Noted {
    children: BTreeSet<i32>,
    /// Whether there may be one that is not among them yet.
    starting: bool,
}

static NOTED: Mutex<Noted> = Mutex::new(Noted {
    children: BTreeSet::new(),
    starting: false,
});
/// Held across a start.
static STARTS: Mutex<()> = Mutex::new(());

fn noted() -> MutexGuard<'static, Noted> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps dead children that [`spawn`] did not start: what process 1 inherits. Returns how many.
/// Stops at a dead child of ours, whose owner is about to reap it; call again on the next SIGCHLD
/// and on a slow timer.
pub fn reap_orphans() -> usize {
    let noted = noted();
    if noted.starting {
        return 0;
    }
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let mut count = 0;
    while let Ok(status) = waitid(Id::All, look) {
        let (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) = status else {
            break;
        };
        if noted.children.contains(&pid.as_raw())
            || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err()
        {
            break;
        }
        count += 1;
    }
    count
}
