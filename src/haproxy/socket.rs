//! One question to an HAProxy command socket, one answer, within a time and a size. A fresh
//! connection each time: one opened before a reload would go on talking to the old worker.
//!
//! Never interprets an answer.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::address::Address;
use crate::crash;
use crate::text::shortened;

/// The most that is read of an answer (`show servers state` of 10,000 servers is 740 kB).
const ANSWER_LIMIT: u64 = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// Nothing listens there: HAProxy is not running, or its master is just replacing itself.
    #[error(
        "Nothing answers on {socket}: HAProxy is not running, or is just loading a configuration."
    )]
    Absent {
        /// The socket.
        socket: Address,
    },
    /// The connection ended without an answer, as it does while a master replaces itself.
    #[error("HAProxy closed the connection on {socket} before it answered.")]
    Cut {
        /// The socket.
        socket: Address,
    },
    /// The master is asked for its current worker and has none, as for a moment after its start (seen on 3.2).
    #[error("HAProxy's master on {socket} has no worker yet.")]
    NoWorker {
        /// The socket.
        socket: Address,
    },
    /// We may not use it.
    #[error(
        "Access to {socket} is denied. Give the socket a group and a mode that let Gatewright in (bind options `group` and `mode 660`)."
    )]
    Denied {
        /// The socket.
        socket: Address,
    },
    /// Its level lets nobody read a variable, and so the revision.
    #[error(
        "HAProxy does not say on {socket} which configuration it runs, because that socket has `level user`. Give its `stats socket` line `level admin`."
    )]
    Level {
        /// The socket.
        socket: Address,
    },
    /// No answer in time: a frozen process accepts connections and stays silent.
    #[error("HAProxy did not answer on {socket} within {} ms.", limit.as_millis())]
    TimedOut {
        /// The socket.
        socket: Address,
        /// The limit.
        limit: Duration,
    },
    /// The answer is not what the command gives on any known version.
    #[error(
        "HAProxy gave an answer to `{command}` on {socket} that is not understood: {answer:?}."
    )]
    Strange {
        /// The socket.
        socket: Address,
        /// What was asked.
        command: String,
        /// The start of what was answered.
        answer: String,
    },
    /// More was answered than is read.
    #[error("HAProxy's answer on {socket} is longer than {limit} bytes and is not used.")]
    TooLong {
        /// The socket.
        socket: Address,
        /// As much as is read.
        limit: u64,
    },
    /// Anything else.
    #[error("Talking to HAProxy on {socket} failed: {cause}.")]
    Io {
        /// The socket.
        socket: Address,
        /// What the system said.
        cause: String,
    },
}

impl SocketError {
    /// Whether the same question may get an answer a moment later (a reload is under way).
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            SocketError::Absent { .. } | SocketError::Cut { .. } | SocketError::NoWorker { .. }
        )
    }

    /// Whether this socket is no use, whether HAProxy runs or not, so that another way may be tried.
    pub fn leads_nowhere(&self) -> bool {
        !matches!(
            self,
            SocketError::Cut { .. } | SocketError::TimedOut { .. } | SocketError::NoWorker { .. }
        )
    }

    /// Whether the same question gets the same until somebody changes a configuration, a right or a
    /// setting.
    pub fn lasts(&self) -> bool {
        !matches!(
            self,
            SocketError::Absent { .. }
                | SocketError::TimedOut { .. }
                | SocketError::NoWorker { .. }
        )
    }

    /// An answer that is not understood, shortened.
    pub fn strange(socket: &Address, command: &str, answer: &str) -> SocketError {
        SocketError::Strange {
            socket: socket.clone(),
            command: command.to_owned(),
            answer: shortened(answer, 200),
        }
    }
}

/// Sends one line and reads to the end.
pub async fn ask(socket: &Address, line: &str, limit: Duration) -> Result<String, SocketError> {
    match exchange(socket, &format!("{line}\n"), limit).await {
        (answer, None) => Ok(answer),
        (_, Some(error)) => Err(error),
    }
}

/// Sends lines and reads to the end. What has come before an error is handed over too. The writing
/// side is shut at once, because the master's socket keeps the connection open otherwise (seen on
/// 3.0).
pub async fn exchange(
    socket: &Address,
    lines: &str,
    limit: Duration,
) -> (String, Option<SocketError>) {
    let mut answer = Vec::new();
    let talk = async {
        let mut stream = socket.connect().await?;
        stream.write_all(lines.as_bytes()).await?;
        stream.shutdown().await?;
        crash::point("line sent");
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await
    };
    let error = match tokio::time::timeout(limit, talk).await {
        // What was cut off there must not be taken for the whole.
        Ok(Ok(length)) if length as u64 >= ANSWER_LIMIT => Some(SocketError::TooLong {
            socket: socket.clone(),
            limit: ANSWER_LIMIT,
        }),
        Ok(Ok(_)) => None,
        Ok(Err(cause)) => Some(classify(socket, &cause)),
        Err(_) => Some(SocketError::TimedOut {
            socket: socket.clone(),
            limit,
        }),
    };
    (String::from_utf8_lossy(&answer).into_owned(), error)
}

fn classify(socket: &Address, cause: &std::io::Error) -> SocketError {
    let socket = socket.clone();
    match cause.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => SocketError::Absent { socket },
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
            SocketError::Cut { socket }
        }
        ErrorKind::PermissionDenied => SocketError::Denied { socket },
        _ => SocketError::Io {
            socket,
            cause: cause.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // H13
    #[tokio::test]
    async fn an_answer_that_is_too_long_or_never_ends_is_no_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let path = Address::File(path);
        let server = tokio::spawn(async move {
            // First more than is read, then a byte now and then for ever.
            for endless in [false, true] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let piece = vec![b'x'; 1 << 20];
                while !endless && stream.write_all(&piece).await.is_ok() {}
                while endless && stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        let error = ask(&path, "show info", Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(matches!(error, SocketError::TooLong { .. }), "{error}");
        let limit = Duration::from_millis(300);
        let error = ask(&path, "show info", limit).await.unwrap_err();
        assert!(matches!(error, SocketError::TimedOut { .. }), "{error}");
        server.await.unwrap();
    }
}
