//! One writer for a destination: locks held for the life of the process, in the state directory and
//! beside the main destination. They die with the process, so there is never a stale one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::files::{FileError, beside, private_directory};

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
    _held: [Flock<File>; 2],
}

impl Lock {
    /// Takes both or none.
    pub fn acquire(state_directory: &Path, destination: &Path) -> Result<Lock, LockError> {
        private_directory(state_directory)?;
        let state = take(&state_directory.join("lock"))?;
        // Two names of one file must meet in the same lock.
        let real = std::fs::canonicalize(destination).unwrap_or_else(|_| destination.to_owned());
        let beside = take(&beside(&real, LOCK))?;
        Ok(Lock {
            _held: [state, beside],
        })
    }
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
    options.mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
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
