//! Notices that files on disk have changed, whoever replaced them and how: written in place,
//! renamed over, or by the symlink swap of a Kubernetes ConfigMap. It watches the folders, and what
//! counts is that the content differs, not that something happened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Files that change together are told of together.
const QUIET: Duration = Duration::from_millis(200);
/// But in a folder that is never quiet, such as one with a log, they are looked at after this time.
const RESTLESS: Duration = Duration::from_secs(2);
/// Nobody relies on being told alone: the content is compared this often too.
const AT_LEAST: Duration = Duration::from_secs(30);
/// The largest file that is compared.
const MAX_FILE: u64 = 16 << 20;

/// A running watch; dropping it ends it.
pub struct FileWatch {
    _watcher: RecommendedWatcher,
    _end: mpsc::Sender<()>,
}

enum Wake {
    Event,
    End,
    Time,
}

impl FileWatch {
    /// Watches groups of files and folders, and calls with a group's number when the content of
    /// one of it differs from before. A folder stands for the files right in it.
    pub fn start(
        groups: Vec<BTreeSet<PathBuf>>,
        changed: impl Fn(usize) + Send + 'static,
    ) -> notify::Result<FileWatch> {
        let (events, queue) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel::<()>();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading the files is an event too, and not of interest.
                let reading = matches!(&event, Ok(event) if event.kind.is_access());
                if !reading {
                    let _ = events.try_send(());
                }
            })?;
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
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        let mut before: Vec<_> = groups.iter().map(digest).collect();
        thread::Builder::new()
            .name("file-watch".to_owned())
            .spawn(move || {
                loop {
                    match wait(&queue, &ended, AT_LEAST) {
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
            })
            .map_err(notify::Error::io)?;
        Ok(FileWatch {
            _watcher: watcher,
            _end: end,
        })
    }
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
        let small =
            std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= MAX_FILE);
        match small.then(|| std::fs::read(path)) {
            Some(Ok(bytes)) => {
                hash.update(&(bytes.len() as u64).to_be_bytes());
                hash.update(&bytes);
            }
            _ => hash.update(b"\0unreadable"),
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
    use std::sync::Arc;
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
        let watch = FileWatch::start(groups, move |group| {
            let _ = send.send(group);
        })
        .unwrap();
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
