//! The local status socket: whoever connects says one line, is answered by one JSON object, and the
//! connection closes.
//!
//! ```text
//! status               the status; also for whoever says nothing
//! release ["web"]      lets go what the guard holds of these services
//! release null         of everything, and the listeners that wait
//! release-listeners ["*:80"]     releases listeners that wait
//! release-listeners null         all of them
//! ```
//!
//! Only the sidecar's own user and root are answered.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::model::{Hold, Listener, Status};
use super::places::{Limits, Room, Seat};
use crate::apply::files::private_directory;
use crate::crash;
use crate::descriptors;

/// How many connections are answered at a time, and how long each may take.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the file is still there, and how long after a failure it is made again.
const LOOK: Duration = Duration::from_secs(1);
/// The largest status that is read.
const MAX_STATUS: u64 = 64 << 20;

/// How long a connection may be silent before it is taken for one that wants the status.
const SILENT: Duration = Duration::from_millis(250);
/// The longest line that is read.
const MAX_LINE: u64 = 64 << 10;

/// A question to the loop: it sends the answer back.
#[derive(Debug)]
pub enum Question {
    /// The status.
    Status(oneshot::Sender<Status>),
    /// Lets go what the guard holds of these services, or of all.
    Release(Option<Vec<String>>, oneshot::Sender<Released>),
    /// Releases the listeners at these addresses, or all that wait.
    ReleaseListeners(Option<Vec<String>>, oneshot::Sender<Released>),
}

/// What was let go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// The services; a query's text where it is of none.
    pub released: Vec<String>,
    /// What is held still.
    pub holds: Vec<Hold>,
    /// Listeners that wait still.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// The socket, kept where it is: made again when its file is gone, and removed when the sidecar ends.
#[derive(Debug)]
pub struct StatusSocket {
    path: PathBuf,
    keeper: JoinHandle<()>,
    /// The file that is ours, while there is one.
    ours: watch::Receiver<Result<File, String>>,
}

/// What tells a file from another that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    made: Option<Duration>,
}

impl File {
    fn at(path: &Path) -> Option<File> {
        crash::reading("socket looked at");
        let found = std::fs::symlink_metadata(path).ok()?;
        Some(File {
            device: found.dev(),
            inode: found.ino(),
            made: found
                .created()
                .ok()
                .and_then(|made| made.duration_since(UNIX_EPOCH).ok()),
        })
    }
}

impl StatusSocket {
    /// Listens at `path` (mode 0600) and passes each question on. A file that no sidecar answers
    /// on any more is replaced; one that is no socket is left alone. An address that is in use is an error; for any
    /// other reason it is tried again while `patient`, and [`StatusSocket::problem`] says why.
    pub fn listen(
        path: &Path,
        questions: mpsc::Sender<Question>,
        patient: bool,
    ) -> io::Result<StatusSocket> {
        let first = match bind(path) {
            Err(error) if patient && error.kind() != io::ErrorKind::AddrInUse => Err(error),
            result => Ok(result?),
        };
        let begin = match &first {
            Ok((_, file)) => Ok(*file),
            Err(error) => {
                let problem = cannot_be_made(path, error);
                tracing::warn!("{problem}");
                Err(problem)
            }
        };
        let (tell, ours) = watch::channel(begin);
        let keeper = tokio::spawn(keep(path.to_owned(), first, questions, tell));
        Ok(StatusSocket {
            path: path.to_owned(),
            keeper,
            ours,
        })
    }

    /// Why nothing can be asked at the moment, a whole sentence.
    pub fn problem(&self) -> Option<String> {
        self.ours.borrow().as_ref().err().cloned()
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        self.keeper.abort();
        // Another one may have taken its place.
        if matches!(&*self.ours.borrow(), Ok(ours) if File::at(&self.path) == Some(*ours)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Serves while the file is there, and makes it again when it is not.
async fn keep(
    path: PathBuf,
    first: io::Result<(UnixListener, File)>,
    questions: mpsc::Sender<Question>,
    tell: watch::Sender<Result<File, String>>,
) {
    let mut made = first;
    loop {
        match made {
            Ok((listener, file)) => {
                let _ = tell.send_replace(Ok(file));
                let serving = serve(listener, questions.clone());
                tokio::select! {
                    // Cancel-safe: connections that are open are answered by tasks of their own.
                    () = serving => return,
                    () = gone(&path, file) => {}
                }
                tracing::warn!(
                    "The status socket {} was removed and is made again.",
                    path.display()
                );
            }
            Err(error) => {
                let problem = cannot_be_made(&path, &error);
                if tell.borrow().as_ref().err() != Some(&problem) {
                    tracing::warn!("{problem}");
                }
                let _ = tell.send_replace(Err(problem));
                tokio::time::sleep(LOOK).await;
            }
        }
        let place = path.clone();
        made = spawn_blocking(move || make_again(&place))
            .await
            .unwrap_or_else(|error| Err(error.into()));
    }
}

/// Its folder may be gone as well.
fn make_again(path: &Path) -> io::Result<(UnixListener, File)> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        private_directory(folder).map_err(|error| error.cause)?;
    }
    bind(path)
}

async fn gone(path: &Path, file: File) {
    loop {
        let place = path.to_owned();
        // Nothing waits for a disk that takes its time.
        let found = spawn_blocking(move || File::at(&place)).await;
        if !matches!(found, Ok(Some(found)) if found == file) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A whole sentence for a person.
pub fn cannot_be_made(path: &Path, error: &io::Error) -> String {
    format!(
        "The status socket {} cannot be made: {error}.",
        path.display()
    )
}

fn bind(path: &Path) -> io::Result<(UnixListener, File)> {
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
    let file = File::at(path).ok_or(io::ErrorKind::NotFound)?;
    Ok((listener, file))
}

async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>) {
    let most = CONNECTIONS.min(descriptors::shares().socket);
    let room = Room::new(Limits::of(most));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
                let Some(seat) = room.enter(peer, Instant::now()) else {
                    continue;
                };
                let (questions, number) = (questions.clone(), seat.number());
                let task = tokio::spawn(async move {
                    let _ = timeout(PATIENCE, answer(stream, questions, &seat)).await;
                });
                room.served_by(number, task.abort_handle());
            }
            // Out of descriptors, most likely: no spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn answer(
    stream: UnixStream,
    questions: mpsc::Sender<Question>,
    seat: &Seat<Option<i32>>,
) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_LINE));
    // Cancel-safe enough: of a line that is not there in time nothing is used.
    if timeout(SILENT, read.read_line(&mut line)).await.is_err() {
        line.clear();
    }
    seat.asked();
    let mut text = match line.trim_end().split_once(' ') {
        Some((word @ ("release" | "release-listeners"), names)) => {
            let Ok(names) = serde_json::from_str(names) else {
                return Ok(());
            };
            let (send, receive) = oneshot::channel();
            let question = match word {
                "release" => Question::Release(names, send),
                _ => Question::ReleaseListeners(names, send),
            };
            told(&questions, question, receive).await?
        }
        _ => {
            let (send, receive) = oneshot::channel();
            told(&questions, Question::Status(send), receive).await?
        }
    };
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

/// What the loop answers; an error when it has ended.
async fn told<T: Serialize>(
    questions: &mpsc::Sender<Question>,
    question: Question,
    answer: oneshot::Receiver<T>,
) -> io::Result<Vec<u8>> {
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    questions.send(question).await.map_err(|_| ended(()))?;
    let answer = answer.await.map_err(|_| ended(()))?;
    serde_json::to_vec(&answer).map_err(io::Error::other)
}

/// Asks the sidecar at `path` for its status.
pub async fn ask(path: &Path) -> io::Result<Status> {
    say(path, "status").await
}

/// Asks the sidecar at `path` to let go what its guard holds of these services, or of all.
pub async fn release(path: &Path, services: Option<&[String]>) -> io::Result<Released> {
    let services = serde_json::to_string(&services).map_err(io::Error::other)?;
    say(path, &format!("release {services}")).await
}

/// Asks the sidecar at `path` to release the listeners at these addresses, or all that wait.
pub async fn release_listeners(path: &Path, addresses: Option<&[String]>) -> io::Result<Released> {
    let addresses = serde_json::to_string(&addresses).map_err(io::Error::other)?;
    say(path, &format!("release-listeners {addresses}")).await
}

async fn say<T: DeserializeOwned>(path: &Path, line: &str) -> io::Result<T> {
    let read = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut text = Vec::new();
        stream.take(MAX_STATUS).read_to_end(&mut text).await?;
        if text.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the sidecar closed the connection without an answer",
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
        let socket = StatusSocket::listen(&path, send.clone(), false).unwrap();
        let second = StatusSocket::listen(&path, send.clone(), true).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(StatusSocket::listen(&path, send, false).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
