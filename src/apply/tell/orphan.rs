//! A master whose socket is gone: the file was removed, as cleaners of temporary directories do, or
//! something else has its path. HAProxy serves on and does not listen there again before it is restarted,
//! so it is found by its process, and told by a signal.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::seen::{Answer, Unknown};
use super::{ABSENT, ASK, Haproxy};
use crate::haproxy::master::Processes;
use crate::haproxy::process::{Master, parent};
use crate::haproxy::socket::SocketError;

/// Between two questions to a master that replaces itself.
const PAUSE: Duration = Duration::from_millis(20);

/// The master that its socket has named, held by a pidfd: the number cannot come to mean another process.
/// The lock is held for a moment at a time, never while something is awaited.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Arc<Master>>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Master>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> Option<Arc<Master>> {
        self.lock().clone().filter(|master| !master.gone())
    }

    /// Whether it runs.
    pub fn lives(&self) -> bool {
        self.living().is_some()
    }

    /// Whether a process is its worker, or that is not known.
    pub fn has_worker(&self, pid: i32) -> bool {
        let master = self.living();
        master.is_none_or(|master| parent(pid) == Some(master.pid()))
    }

    /// This socket names this master.
    pub fn note(&self, pid: i32, socket: &Path) {
        let known = self.living().is_some_and(|master| master.pid() == pid);
        if !known {
            // In another process namespace the number means nothing, or another process.
            let master = Master::open(pid).ok();
            let its = master.filter(|master| master.has_socket(socket));
            *self.lock() = its.map(Arc::new);
        }
    }
}

impl Haproxy {
    /// Lists the processes by the master socket, in the modes that have one. A master that replaces itself
    /// is waited for, one that is known to be gone or to have lost its socket is not.
    pub(super) async fn processes(&self) -> Option<Result<Processes, SocketError>> {
        let socket = self.master_socket()?;
        let deadline = Instant::now() + self.patience(ABSENT);
        loop {
            let error = match socket.processes().await {
                Ok(processes) => {
                    self.known.note(processes.master.pid, &socket.path);
                    self.absent.store(false, Ordering::Relaxed);
                    self.lost.store(false, Ordering::Relaxed);
                    return Some(Ok(processes));
                }
                Err(error) => error,
            };
            let ended = Instant::now() >= deadline || self.known_orphan().is_some();
            if !error.may_pass() || ended {
                return Some(Err(error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How long a HAProxy that does not answer is waited for: once.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        match self.absent.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => patience,
        }
    }

    /// The master that runs although nothing listens at the path of its socket. Asked only where nothing
    /// has listened for as long as a load may take.
    pub(super) fn orphan(&self) -> Option<Arc<Master>> {
        let socket = self.master_socket()?.path;
        if self.known.living().is_none() {
            *self.known.lock() = Master::of_socket(&socket).map(Arc::new);
        }
        // A master that loads does not listen either.
        if let Some(master) = self.known.living() {
            self.lost.store(master.is_ready(), Ordering::Relaxed);
        }
        self.known_orphan()
    }

    /// The same at once, where it is known already or certain.
    pub(super) fn known_orphan(&self) -> Option<Arc<Master>> {
        let socket = self.master_socket()?.path;
        let listens =
            || std::fs::metadata(&socket).is_ok_and(|found| found.file_type().is_socket());
        let master = self.known.living()?;
        (self.lost.load(Ordering::Relaxed) || !listens()).then_some(master)
    }

    /// Asks the worker of such a master by the stats sockets of its configuration.
    pub(super) async fn ask_orphan(&self, master: &Master) -> Answer {
        for socket in &self.sockets {
            match socket.running(ASK, &self.variable).await {
                Ok(running) if parent(running.pid) != Some(master.pid()) => {}
                Ok(running) if running.stopping => return Err(Unknown::OldWorker),
                Ok(running) => return Ok(running),
                Err(_) => {}
            }
        }
        Err(Unknown::Orphan {
            pid: master.pid(),
            socket: self
                .master_socket()
                .map(|socket| socket.path)
                .unwrap_or_default(),
        })
    }
}
