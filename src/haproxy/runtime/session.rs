//! The connection that carries commands to one worker and matches their answers.

use std::time::Duration;

use super::answer::Answer;
use super::command::Command;
use super::state::ServerRow;
use super::version::Version;
use crate::haproxy::socket::SocketError;
use crate::haproxy::stats::{Running, WorkerSocket};

/// One worker's command socket.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where the worker is reached.
    pub socket: WorkerSocket,
    /// What it is.
    pub version: Version,
    /// For one exchange.
    pub limit: Duration,
}

/// What came of commands.
#[derive(Debug)]
pub struct Batch {
    /// As many answers as are known, in the order of the commands.
    pub answers: Vec<Answer>,
    /// Why there are no more, when that is not a refusal.
    pub error: Option<SocketError>,
    /// How long it took.
    pub took: Duration,
}

impl Session {
    /// Sends commands in order.
    pub async fn send(&self, commands: &[Command]) -> Batch {
        let _ = commands;
        Batch {
            answers: Vec::new(),
            error: None,
            took: Duration::ZERO,
        }
    }

    /// What runs, and its servers: those of `backends`, or all.
    pub async fn servers(
        &self,
        backends: Option<&[String]>,
    ) -> Result<(Running, Vec<ServerRow>), SocketError> {
        let _ = backends;
        let running = self.socket.running(self.limit).await?;
        Ok((running, Vec::new()))
    }
}
