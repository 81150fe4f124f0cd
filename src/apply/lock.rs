//! One writer for a destination: locks held for the life of the process, in the state directory and
//! beside the main destination. They die with the process, so there is never a stale one.
//!
//! Once there is a configuration that HAProxy can start from, a lock file that cannot be made is only told: a full
//! disk must not keep HAProxy from being started.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::files::{FileError, beside, ours_alone, private_directory};

/// What stands beside a destination, after its name.
const LOCK: &str = "gatewright.lock";

/// Why the locks are not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds one.
    #[error("Another Gatewright{} already manages this destination; it holds the lock {}. Stop it, or give this one another destination and state directory.", holder(*pid), path.display())]
    Held {
        /// The lock.
        path: PathBuf,
        /// The process that wrote its number into it, if it is readable.
        pid: Option<i32>,
    },
    /// Others may write to the state directory.
    #[error(transparent)]
    Open(FileError),
    /// The lock file cannot be made.
    #[error(transparent)]
    File(#[from] FileError),
}

fn holder(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Both locks, released when dropped.
#[derive(Debug)]
pub struct Lock {
    state_directory: PathBuf,
    held: [(PathBuf, Option<Flock<File>>); 2],
    problem: Option<LockError>,
}

impl Lock {
    /// Takes both. Where the destination exists, only one that another process holds is an error.
    pub fn acquire(state_directory: &Path, destination: &Path) -> Result<Lock, LockError> {
        // Two names of one file must meet in the same lock.
        let real = std::fs::canonicalize(destination);
        let can_start = real.is_ok();
        let real = real.unwrap_or_else(|_| destination.to_owned());
        let paths = [state_directory.join("lock"), beside(&real, LOCK)];
        let mut lock = Lock {
            state_directory: state_directory.to_owned(),
            held: paths.map(|path| (path, None)),
            problem: None,
        };
        lock.renew();
        match lock.problem.take() {
            Some(LockError::File(error)) if can_start => {
                lock.problem = Some(LockError::File(error));
                Ok(lock)
            }
            Some(error) => Err(error),
            None => Ok(lock),
        }
    }

    /// Why a lock is not held.
    pub fn problem(&self) -> Option<&LockError> {
        self.problem.as_ref()
    }

    /// Takes again what could not be taken, and what somebody has removed.
    pub fn renew(&mut self) {
        let directory = &self.state_directory;
        self.problem = private_directory(directory)
            .map_err(LockError::File)
            .and_then(|()| ours_alone(directory).map_err(LockError::Open))
            .err();
        for (path, held) in &mut self.held {
            if held.as_ref().is_some_and(|file| stands_at(file, path)) {
                continue;
            }
            match take(path) {
                Ok(file) => *held = Some(file),
                // Another process counts for more than a disk.
                Err(error @ LockError::Held { .. }) => {
                    if !matches!(self.problem, Some(LockError::Held { .. })) {
                        self.problem = Some(error);
                    }
                }
                Err(error) => {
                    self.problem.get_or_insert(error);
                }
            }
        }
    }
}

fn stands_at(file: &File, path: &Path) -> bool {
    let found = file
        .metadata()
        .ok()
        .zip(std::fs::symlink_metadata(path).ok());
    found.is_some_and(|(ours, there)| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// The Gatewright that writes a file, by the lock beside it. It need not be one that still holds the lock.
pub fn writer_of(destination: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(beside(destination, LOCK)).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

/// The lock is held by a read-only handle: one open for writing would keep an administrator from
/// remounting the file system read-only.
fn take(path: &Path) -> Result<Flock<File>, LockError> {
    let mut options = OpenOptions::new();
    // A named pipe in its place is no reason to wait.
    options
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let mut for_writing = options.clone();
    let made = for_writing
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let writable = match made {
        Ok(file) => Some(file),
        // One that is there can be locked all the same: new settings on a disk that has become
        // read-only must not be the end.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && path.exists() => None,
        Err(error) => return Err(FileError::of("open the lock file", path)(error).into()),
    };
    let file = options
        .read(true)
        .open(path)
        .map_err(FileError::of("open the lock file", path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => {
            // For people and for the message of the second one; the lock itself does not need it.
            if let Some(mut file) = writable {
                let _ = file.set_len(0);
                let _ = writeln!(file, "{}", std::process::id());
            }
            Ok(held)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let _ = file.rewind();
            let _ = file.read_to_string(&mut text);
            Err(LockError::Held {
                path: path.to_owned(),
                pid: text.trim().parse().ok(),
            })
        }
        Err((_, error)) => Err(FileError::of("lock", path)(error.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // E01 E12
    #[test]
    fn a_lock_that_cannot_be_made_is_only_told_once_haproxy_can_start() {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("h.cfg");
        let state = directory.path().join("state");
        // A named pipe is not waited for.
        std::fs::create_dir(&state).unwrap();
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&state.join("lock"), mode).unwrap();
        assert!(Lock::acquire(&state, &destination).is_err());
        std::fs::write(&destination, "global\n").unwrap();
        let mut lock = Lock::acquire(&state, &destination).unwrap();
        assert!(lock.problem().unwrap().to_string().contains("lock"));
        // The other one is held.
        let other = directory.path().join("other");
        let held = Lock::acquire(&other, &destination).unwrap_err();
        assert!(matches!(held, LockError::Held { .. }), "{held}");

        std::fs::remove_file(state.join("lock")).unwrap();
        lock.renew();
        assert!(lock.problem().is_none());
        // Wiped, they are made again.
        std::fs::remove_dir_all(&state).unwrap();
        lock.renew();
        assert!(lock.problem().is_none());
        let another = directory.path().join("another.cfg");
        let held = Lock::acquire(&state, &another).unwrap_err();
        assert!(matches!(held, LockError::Held { .. }), "{held}");
    }

    // L07
    #[test]
    fn a_state_directory_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("h.cfg");
        std::fs::write(&destination, "global\n").unwrap();
        let state = directory.path().join("state");
        let acquire = || Lock::acquire(&state, &destination);
        drop(acquire().unwrap());
        let bits = |bits| {
            let bits = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(&state, bits).unwrap();
        };
        for (mode, taken) in [
            (0o700, true),
            (0o755, true),
            (0o2750, true),
            (0o770, false),
            (0o702, false),
            (0o1777, false),
        ] {
            bits(mode);
            let lock = acquire();
            assert_eq!(lock.is_ok(), taken, "{mode:o}");
            if let Err(error) = lock {
                assert!(matches!(error, LockError::Open(_)), "{error}");
                let said = error.to_string();
                let named = format!("its mode {mode:o} lets other users write to it");
                assert!(
                    said.contains(&named) && said.contains("chmod go-w"),
                    "{said}"
                );
            }
        }
        // While it runs, it is only told.
        bits(0o700);
        let mut lock = acquire().unwrap();
        bits(0o777);
        lock.renew();
        assert!(matches!(lock.problem(), Some(LockError::Open(_))));
        bits(0o700);
        lock.renew();
        assert!(lock.problem().is_none());
        drop(lock);
        if nix::unistd::geteuid().is_root() {
            chown(&state, Some(61_234), None).unwrap();
            let said = acquire().unwrap_err().to_string();
            assert!(said.contains("it belongs to the user 61234"), "{said}");
        }
    }

    // E10 E11
    #[test]
    fn a_second_one_is_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("h.cfg");
        let state = [directory.path().join("one"), directory.path().join("two")];
        let first = Lock::acquire(&state[0], &destination).unwrap();
        for second in &state {
            let error = Lock::acquire(second, &destination).unwrap_err();
            let LockError::Held { pid, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*pid, Some(std::process::id().cast_signed()));
        }
        assert_eq!(
            writer_of(&destination),
            Some(std::process::id().cast_signed())
        );
        assert_eq!(writer_of(&directory.path().join("other.cfg")), None);
        drop(first);
        Lock::acquire(&state[1], &destination).unwrap();
    }
}
