//! Notices that files on disk have changed, whoever replaced them and how: written in place,
//! renamed over, or by the symlink swap of a Kubernetes ConfigMap. It watches the folders, and what
//! counts is that the content differs, not that something happened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::text;

/// Files that change together are told of together.
const QUIET: Duration = Duration::from_millis(200);
/// But in a folder that is never quiet, such as one with a log, they are looked at after this time.
const RESTLESS: Duration = Duration::from_secs(2);
/// Nobody relies on being told alone: the content is compared this often too.
const AT_LEAST: Duration = Duration::from_secs(30);
/// As often where the system tells nothing.
const LOOK: Duration = Duration::from_secs(2);

/// A running watch; dropping it ends it.
pub struct FileWatch {
    /// Wakes the thread.
    events: mpsc::SyncSender<()>,
    end: mpsc::Sender<()>,
    started: Arc<OnceLock<Option<String>>>,
}

enum Wake {
    Event,
    End,
    Time,
}

impl FileWatch {
    /// Watches groups of files and folders, and calls with a group's number when the content of
    /// one of it differs from before. A folder stands for the files right in it. Where the system does not tell
    /// of changes, the files are looked at every 2 s; that is said unless it is `known`. A disk that takes its time
    /// only keeps a thread of the watch's own waiting.
    pub fn start(
        groups: Vec<BTreeSet<PathBuf>>,
        known: Option<String>,
        changed: impl Fn(usize) + Send + 'static,
    ) -> std::io::Result<FileWatch> {
        let (events, queue) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel::<()>();
        let started = Arc::new(OnceLock::new());
        let (wake, tell) = (events.clone(), Arc::clone(&started));
        thread::Builder::new()
            .name("file-watch".to_owned())
            .spawn(move || {
                let (_watcher, problem) = watcher(&folders(&groups), wake);
                let look = match problem {
                    Some(_) => LOOK,
                    None => AT_LEAST,
                };
                if problem != known
                    && let Some(problem) = &problem
                {
                    tracing::warn!("{problem}");
                }
                let mut before: Vec<_> = groups.iter().map(digest).collect();
                let _ = tell.set(problem);
                loop {
                    match wait(&queue, &ended, look) {
                        Wake::End => return,
                        Wake::Time => {}
                        Wake::Event => {
                            // Until nothing happens any more.
                            let first = Instant::now();
                            while first.elapsed() < RESTLESS {
                                match wait(&queue, &ended, QUIET) {
                                    Wake::End => return,
                                    Wake::Event => {}
                                    Wake::Time => break,
                                }
                            }
                        }
                    }
                    for (group, files) in groups.iter().enumerate() {
                        let now = digest(files);
                        if now != before[group] {
                            before[group] = now;
                            changed(group);
                        }
                    }
                }
            })?;
        Ok(FileWatch {
            events,
            end,
            started,
        })
    }

    /// Set once a change is noticed, to why the files are looked at instead of watched.
    pub fn started(&self) -> Arc<OnceLock<Option<String>>> {
        Arc::clone(&self.started)
    }

    /// Why the files are looked at instead of watched, a whole sentence.
    pub fn problem(&self) -> Option<String> {
        self.started.get().cloned().flatten()
    }
}

impl Drop for FileWatch {
    /// Wakes the thread, so that it ends now.
    fn drop(&mut self) {
        let (end, _) = mpsc::channel();
        self.end = end;
        let _ = self.events.try_send(());
    }
}

/// The folders in which something happens when one of the files changes.
fn folders(groups: &[BTreeSet<PathBuf>]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in groups.iter().flatten() {
        if path.is_dir() {
            folders.insert(path.clone());
        }
        // The target of a symlink may be swapped: its folder is watched as well.
        for path in [Some(path.clone()), path.canonicalize().ok()]
            .into_iter()
            .flatten()
        {
            folders.extend(path.parent().map(Path::to_owned));
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// Watches as many of the folders as the system allows, and says why not all.
fn watcher(
    folders: &BTreeSet<PathBuf>,
    events: mpsc::SyncSender<()>,
) -> (Option<RecommendedWatcher>, Option<String>) {
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files is an event too, and not of interest.
        let reading = matches!(&event, Ok(event) if event.kind.is_access());
        if !reading {
            let _ = events.try_send(());
        }
    });
    let mut watcher = match made {
        Ok(watcher) => watcher,
        Err(error) => {
            let settings = "fs.inotify.max_user_instances";
            return (None, Some(not_told(&error, settings)));
        }
    };
    let mut problem = None;
    for folder in folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            problem = Some(not_told(&error, "fs.inotify.max_user_watches"));
        }
    }
    (Some(watcher), problem)
}

fn not_told(error: &notify::Error, setting: &str) -> String {
    let cause = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "the limit of inotify watches is reached".to_owned(),
        notify::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    };
    format!(
        "The system does not tell of changed templates and settings ({cause}), so Gatewright compares them every {} s. Raise {setting} (sysctl), or end programs that use inotify.",
        LOOK.as_secs()
    )
}

fn wait(queue: &mpsc::Receiver<()>, ended: &mpsc::Receiver<()>, time: Duration) -> Wake {
    let wake = match queue.recv_timeout(time) {
        Ok(()) => Wake::Event,
        Err(mpsc::RecvTimeoutError::Timeout) => Wake::Time,
        Err(mpsc::RecvTimeoutError::Disconnected) => Wake::End,
    };
    match ended.try_recv() {
        Err(mpsc::TryRecvError::Disconnected) => Wake::End,
        _ => wake,
    }
}

/// A hash of the names and contents of files; what cannot be read counts as such.
fn digest(files: &BTreeSet<PathBuf>) -> Vec<u8> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |path: &Path| {
        hash.update(path.as_os_str().as_encoded_bytes());
        match text::bytes(path, text::WRITTEN) {
            Ok(bytes) => {
                hash.update(&(bytes.len() as u64).to_be_bytes());
                hash.update(&bytes);
            }
            Err(_) => hash.update(b"\0unreadable"),
        }
    };
    for path in files {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_file())
                .collect();
            inside.sort();
            inside.iter().for_each(|path| add(path));
        } else {
            add(path);
        }
    }
    hash.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Waits for a group's number; the watch looks at content, so nothing else comes.
    fn told(queue: &mpsc::Receiver<usize>) -> Option<usize> {
        queue.recv_timeout(Duration::from_secs(10)).ok()
    }

    // E13
    #[test]
    fn a_change_is_noticed_however_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..one")).unwrap();
        fs::create_dir(at("..two")).unwrap();
        fs::write(at("..one/linked"), "1").unwrap();
        fs::write(at("..two/linked"), "2").unwrap();
        std::os::unix::fs::symlink("..one", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/linked", at("linked")).unwrap();
        fs::write(at("plain"), "a").unwrap();
        fs::create_dir(at("partials")).unwrap();
        let (send, queue) = mpsc::channel();
        let groups = vec![
            BTreeSet::from([at("plain"), at("linked")]),
            BTreeSet::from([at("partials")]),
        ];
        let watch = FileWatch::start(groups, None, move |group| {
            let _ = send.send(group);
        })
        .unwrap();
        watch.started().wait();
        fs::write(at("plain"), "b").unwrap();
        assert_eq!(told(&queue), Some(0), "written in place");
        fs::write(at("new"), "c").unwrap();
        fs::rename(at("new"), at("plain")).unwrap();
        assert_eq!(told(&queue), Some(0), "renamed over");
        std::os::unix::fs::symlink("..two", at("..swap")).unwrap();
        fs::rename(at("..swap"), at("..data")).unwrap();
        assert_eq!(told(&queue), Some(0), "swapped as a ConfigMap is");
        fs::write(at("partials/p.hbs"), "p").unwrap();
        assert_eq!(told(&queue), Some(1), "a file appeared in a folder");
        // Something else in the folder that never rests keeps nothing back.
        let restless = Arc::new(AtomicBool::new(true));
        let (log, on) = (at("log"), Arc::clone(&restless));
        let writer = thread::spawn(move || {
            while on.load(Ordering::Relaxed) {
                fs::write(&log, "line").unwrap();
                thread::sleep(QUIET / 10);
            }
        });
        fs::write(at("plain"), "d").unwrap();
        let seen = told(&queue);
        restless.store(false, Ordering::Relaxed);
        writer.join().unwrap();
        assert_eq!(seen, Some(0), "beside a busy log");
        // The same content is no change; the next real one is the next message.
        fs::write(at("plain"), "d").unwrap();
        fs::write(at("partials/p.hbs"), "q").unwrap();
        assert_eq!(told(&queue), Some(1));
        drop(watch);
    }
}
