//! The local status socket: whoever connects is told the status as one JSON object and the
//! connection closes. Nothing is read from it, so nothing can be asked of the sidecar.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::model::Status;

/// How many connections are answered at a time, and how long each may take.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest status that is read.
const MAX_STATUS: u64 = 64 << 20;

/// A question to the loop: it sends its status back.
pub type Question = oneshot::Sender<Status>;

/// The socket's file, removed when the sidecar ends.
#[derive(Debug)]
pub struct StatusSocket {
    path: PathBuf,
}

impl StatusSocket {
    /// Listens at `path` (mode 0600) and passes each question on. A file that no sidecar answers
    /// on any more is replaced; one that is no socket is left alone.
    pub fn listen(path: &Path, questions: mpsc::Sender<Question>) -> io::Result<StatusSocket> {
        if let Ok(file) = std::fs::symlink_metadata(path) {
            if !file.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file of another kind",
                ));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another sidecar answers there",
                ));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        tokio::spawn(serve(listener, questions));
        Ok(StatusSocket {
            path: path.to_owned(),
        })
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // A full house waits here, and the kernel's queue waits behind it.
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let questions = questions.clone();
                tokio::spawn(async move {
                    let _ = timeout(PATIENCE, answer(stream, questions)).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely: no spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn answer(mut stream: UnixStream, questions: mpsc::Sender<Question>) -> io::Result<()> {
    let (send, receive) = oneshot::channel();
    if questions.send(send).await.is_err() {
        return Ok(());
    }
    let Ok(status) = receive.await else {
        return Ok(());
    };
    let mut text = serde_json::to_vec(&status).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}

/// Asks the sidecar at `path`.
pub async fn ask(path: &Path) -> io::Result<Status> {
    let read = async {
        let stream = UnixStream::connect(path).await?;
        let mut text = Vec::new();
        stream.take(MAX_STATUS).read_to_end(&mut text).await?;
        if text.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the sidecar closed the connection without a status",
            ));
        }
        serde_json::from_slice(&text).map_err(io::Error::other)
    };
    match timeout(PATIENCE, read).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the sidecar did not answer within 5 s",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_foreign_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (send, _keep) = mpsc::channel(1);
        let socket = StatusSocket::listen(&path, send.clone()).unwrap();
        let second = StatusSocket::listen(&path, send.clone()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(StatusSocket::listen(&path, send).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
