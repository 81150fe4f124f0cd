//! One question to an HAProxy command socket, one answer, within a time and a size. A fresh
//! connection each time: one opened before a reload would go on talking to the old worker.
//!
//! Never interprets an answer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::crash;

/// The most that is read of an answer (`show servers state` of 10,000 servers is 740 kB).
const ANSWER_LIMIT: u64 = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nothing listens there: HAProxy is not running, or its master is just replacing itself.
    #[error("Nothing answers on {}: HAProxy is not running, or is just loading a configuration.", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// The connection ended without an answer, as it does while a master replaces itself.
    #[error("HAProxy closed the connection on {} before it answered.", path.display())]
    Cut {
        /// The socket.
        path: PathBuf,
    },
    /// We may not use it.
    #[error("Access to {} is denied. Give the socket a group and a mode that let Gatewright in (bind options `group` and `mode 660`).", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// No answer in time: a frozen process accepts connections and stays silent.
    #[error("HAProxy did not answer on {} within {} ms.", path.display(), limit.as_millis())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The answer is not what the command gives on any known version.
    #[error("HAProxy gave an answer to `{command}` on {} that is not understood: {answer:?}.", path.display())]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        command: String,
        /// The start of what was answered.
        answer: String,
    },
    /// More was answered than is read.
    #[error("HAProxy's answer on {} is longer than {limit} bytes and is not used.", path.display())]
    TooLong {
        /// The socket.
        path: PathBuf,
        /// As much as is read.
        limit: u64,
    },
    /// Anything else.
    #[error("Talking to HAProxy on {} failed: {cause}.", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl SocketError {
    /// Whether the same question may get an answer a moment later (a reload is under way).
    pub fn may_pass(&self) -> bool {
        matches!(self, SocketError::Absent { .. } | SocketError::Cut { .. })
    }

    /// An answer that is not understood, shortened.
    pub fn strange(path: &Path, command: &str, answer: &str) -> SocketError {
        SocketError::Strange {
            path: path.to_owned(),
            command: command.to_owned(),
            answer: answer.chars().take(200).collect(),
        }
    }
}

/// Sends one line and reads to the end.
pub async fn ask(path: &Path, line: &str, limit: Duration) -> Result<String, SocketError> {
    match exchange(path, &format!("{line}\n"), limit).await {
        (answer, None) => Ok(answer),
        (_, Some(error)) => Err(error),
    }
}

/// Sends lines and reads to the end. What has come before an error is handed over too. The writing
/// side is shut at once, because the master's socket keeps the connection open otherwise (seen on
/// 3.0).
pub async fn exchange(path: &Path, lines: &str, limit: Duration) -> (String, Option<SocketError>) {
    let mut answer = Vec::new();
    let talk = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(lines.as_bytes()).await?;
        stream.shutdown().await?;
        crash::point("line sent");
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await
    };
    let error = match tokio::time::timeout(limit, talk).await {
        // What was cut off there must not be taken for the whole.
        Ok(Ok(length)) if length as u64 >= ANSWER_LIMIT => Some(SocketError::TooLong {
            path: path.to_owned(),
            limit: ANSWER_LIMIT,
        }),
        Ok(Ok(_)) => None,
        Ok(Err(cause)) => Some(classify(path, cause)),
        Err(_) => Some(SocketError::TimedOut {
            path: path.to_owned(),
            limit,
        }),
    };
    (String::from_utf8_lossy(&answer).into_owned(), error)
}

fn classify(path: &Path, cause: std::io::Error) -> SocketError {
    let path = path.to_owned();
    match cause.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => SocketError::Absent { path },
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
            SocketError::Cut { path }
        }
        ErrorKind::PermissionDenied => SocketError::Denied { path },
        _ => SocketError::Io { path, cause },
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
