//! Where a supervised HAProxy makes its master socket, if the settings name no place.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::unistd::{AccessFlags, eaccess};
use ring::digest::{SHA256, digest};

/// Its name.
const SOCKET: &str = "master.sock";

/// For each state directory. A HAProxy that runs keeps its socket, whatever becomes of the directory.
static CHOSEN: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());

/// In the state directory, or in a private one for temporary files where HAProxy could make no socket there: the
/// directory is read-only or another user's, or its disk takes no new file. HAProxy would not start.
pub fn of_master_socket(state_directory: &Path) -> PathBuf {
    let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    chosen
        .entry(state_directory.to_owned())
        .or_insert_with(|| choose(state_directory))
        .clone()
}

fn choose(state_directory: &Path) -> PathBuf {
    let usual = state_directory.join(SOCKET);
    let other = elsewhere(state_directory);
    let socket = other.join(SOCKET);
    // One that an earlier Gatewright has left is adopted where it is.
    let runs_there = is_private(&other) && UnixStream::connect(&socket).is_ok();
    if !runs_there && (takes_files(state_directory) || !make(&other)) {
        return usual;
    }
    tracing::warn!(
        "HAProxy has its master socket in {}, because it can make none in the state directory {}.",
        other.display(),
        state_directory.display()
    );
    socket
}

/// The same for the same state directory and user.
fn elsewhere(state_directory: &Path) -> PathBuf {
    let hash = digest(&SHA256, state_directory.as_os_str().as_encoded_bytes());
    let short: String = hash.as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    std::env::temp_dir().join(format!("gatewright-{}-{short}", nix::unistd::geteuid()))
}

/// One that does not exist yet takes them if it can be made.
fn takes_files(directory: &Path) -> bool {
    if !directory.exists() {
        let above = directory.ancestors().find(|above| above.exists());
        let rights = AccessFlags::W_OK | AccessFlags::X_OK;
        return above.is_some_and(|above| above.is_dir() && eaccess(above, rights).is_ok());
    }
    let probe = directory.join(format!(".gatewright-probe-{}", std::process::id()));
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&probe);
    let _ = std::fs::remove_file(&probe);
    made.is_ok()
}

fn make(directory: &Path) -> bool {
    // One that is there already may be ours.
    let _ = std::fs::DirBuilder::new().mode(0o700).create(directory);
    is_private(directory)
}

/// Nobody else can have put anything there.
fn is_private(directory: &Path) -> bool {
    std::fs::symlink_metadata(directory).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.mode() & 0o077 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_in_the_state_directory_while_that_takes_files() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(choose(&state), state.join(SOCKET));
        assert!(!state.exists());
        std::fs::create_dir(&state).unwrap();
        assert_eq!(choose(&state), state.join(SOCKET));
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
        // A file in place of the directory takes none.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let other = choose(&file);
        assert!(is_private(other.parent().unwrap()));
        assert_eq!(other, choose(&file), "and is found again");
        let _ = std::fs::remove_dir(other.parent().unwrap());
    }

    #[test]
    fn a_directory_that_others_may_use_is_not_private() {
        let folder = tempfile::tempdir().unwrap();
        let bits = |bits| {
            let bits = std::os::unix::fs::PermissionsExt::from_mode(bits);
            std::fs::set_permissions(folder.path(), bits).unwrap();
        };
        bits(0o700);
        assert!(is_private(folder.path()));
        bits(0o750);
        assert!(!is_private(folder.path()) && !make(folder.path()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(!is_private(&link));
    }
}
