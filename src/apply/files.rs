//! Files written so that a crash or a full disk never leaves half of one: new file with its final
//! mode and owner, content, fsync, rename, fsync of the directory. A file that Gatewright can do without
//! after a power failure is not synced: nothing waits for the disk for it.
//!
//! Knows nothing of sets. Never follows a link when it creates.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown};

use self::faults::step;
use crate::crash;
use crate::text;

#[cfg(debug_assertions)]
pub mod faults;

/// A release build makes no step fail.
#[cfg(not(debug_assertions))]
mod faults {
    use std::path::Path;

    use super::Step;

    pub fn step(_: Step, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new file, with no content.
    Create,
    /// Its owner.
    Own,
    /// Its mode.
    Mode,
    /// Its content.
    Write,
    /// Its content onto the disk.
    Sync,
    /// It takes another's place.
    Rename,
    /// A second name.
    Link,
    /// The names of a directory onto the disk.
    SyncNames,
    /// It goes.
    Remove,
    /// A new directory.
    MakeDirectory,
}

/// A file operation that did not work: what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {action} {}: {}", path.display(), explain(cause))]
pub struct FileError {
    /// What was tried, such as `write`.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub cause: std::io::Error,
}

impl FileError {
    /// For `map_err`.
    pub fn of<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl Fn(std::io::Error) -> FileError + 'a {
        move |cause| FileError {
            action,
            path: path.to_owned(),
            cause,
        }
    }
}

fn explain(cause: &std::io::Error) -> String {
    let (what, remedy) = match cause.kind() {
        ErrorKind::StorageFull => ("the disk is full", "Free some space on that file system."),
        ErrorKind::QuotaExceeded => ("the quota is used up", "Raise it or free some space."),
        ErrorKind::ReadOnlyFilesystem => (
            "the file system is read-only",
            "Mount it writable or choose another destination (under systemd: ReadWritePaths).",
        ),
        ErrorKind::PermissionDenied => (
            "permission is denied",
            "Give the user of Gatewright the right to write in that directory.",
        ),
        ErrorKind::IsADirectory => ("it is a directory", "Name a file."),
        ErrorKind::NotADirectory => ("a part of its path is not a directory", "Correct the path."),
        ErrorKind::NotFound => (
            "its directory does not exist",
            "Create it or correct the path.",
        ),
        ErrorKind::ResourceBusy => (
            "something is mounted on it",
            "Mount its directory instead of the single file, so that the file can be replaced as one step.",
        ),
        ErrorKind::InvalidFilename => (
            "its name is too long",
            "Choose a shorter one: up to 29 bytes are added to it for files beside it.",
        ),
        _ => return sentence(cause),
    };
    format!("{what}. {remedy}")
}

fn sentence(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    match text.ends_with('.') {
        true => text,
        false => text + ".",
    }
}

/// Whose a file is and who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; `None` leaves them to the system.
    pub owner: Option<(u32, u32)>,
}

impl Access {
    /// For ourselves only.
    pub const PRIVATE: Access = Access {
        mode: 0o600,
        owner: None,
    };

    /// That of an existing file.
    pub fn of(path: &Path) -> std::io::Result<Option<Access>> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => Err(std::io::Error::other(
                "it is not a regular file. Name a file",
            )),
            Ok(found) => Ok(Some(Access {
                mode: found.mode() & 0o7777,
                owner: Some((found.uid(), found.gid())),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Writes a new file to the disk. A leftover of the same name is removed first; when anything fails
/// nothing is left.
pub fn write_new(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    write_unsynced(path, bytes, access)?;
    sync_new(path)
}

fn sync_new(path: &Path) -> Result<(), FileError> {
    sync(path).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

/// The same, without waiting for the disk: [`sync`] must follow before the file replaces another.
pub fn write_unsynced(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    write_by(path, access, |file| file.write_all(bytes))
}

fn write_by(
    path: &Path,
    access: Access,
    content: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), FileError> {
    remove(path)?;
    let write = || -> std::io::Result<()> {
        step(Step::Create, path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        crash::point("file created");
        step(Step::Own, path)?;
        take_owner(&file, access)?;
        step(Step::Mode, path)?;
        // After the owner: a change of owner clears some bits. Not subject to the umask.
        file.set_permissions(std::fs::Permissions::from_mode(access.mode))?;
        step(Step::Write, path)?;
        content(&mut file)?;
        crash::point("file written");
        Ok(())
    };
    write().map_err(|cause| {
        let _ = std::fs::remove_file(path);
        FileError::of("write", path)(cause)
    })
}

/// Waits until a file is on the disk.
pub fn sync(path: &Path) -> Result<(), FileError> {
    step(Step::Sync, path)
        .and_then(|()| File::open(path)?.sync_all())
        .map_err(FileError::of("write", path))?;
    crash::point("file on disk");
    Ok(())
}

/// Keeps owner and group, or the group alone where only root could do more. What cannot be kept is an error when
/// HAProxy could lose access by it: the group may do what others may not, or only the former owner may read.
fn take_owner(file: &File, access: Access) -> std::io::Result<()> {
    let Some((user, group)) = access.owner else {
        return Ok(());
    };
    let found = file.metadata()?;
    if (found.uid(), found.gid()) == (user, group) {
        return Ok(());
    }
    let (owner, to_group) = (Uid::from_raw(user), Some(Gid::from_raw(group)));
    let Err(error) = fchown(file, Some(owner), to_group) else {
        return Ok(());
    };
    if error != Errno::EPERM {
        return Err(error.into());
    }
    let (for_group, for_others) = (access.mode >> 3 & 0o7, access.mode & 0o7);
    let by_group = fchown(file, None, to_group).is_ok();
    let remedy = if !by_group && for_group & !for_others != 0 {
        "Give that file a group that Gatewright's user is in (chgrp), or put Gatewright's user into its group."
    } else if !owner.is_root()
        && user != found.uid()
        && for_group & 0o4 == 0
        && for_others & 0o4 == 0
    {
        "Give that file to Gatewright's user (chown), or let a group read it that HAProxy's and Gatewright's users are in."
    } else {
        return Ok(());
    };
    Err(std::io::Error::other(format!(
        "the file that it replaces {}, and Gatewright's user {} may not keep that, so HAProxy could lose access. {remedy}",
        belongs(user, group, access.mode),
        name_of_user(found.uid()),
    )))
}

/// Whose a file is, in words.
fn belongs(user: u32, group: u32, mode: u32) -> String {
    let group = nix::unistd::Group::from_gid(Gid::from_raw(group))
        .ok()
        .flatten()
        .map_or(group.to_string(), |group| group.name);
    format!(
        "belongs to user {} and group {group} with mode {:04o}",
        name_of_user(user),
        mode & 0o7777
    )
}

fn name_of_user(user: u32) -> String {
    let found = nix::unistd::User::from_uid(Uid::from_raw(user)).ok();
    found.flatten().map_or(user.to_string(), |user| user.name)
}

/// A refusal that comes of whose a file is, and not of its directory, says so.
pub(super) fn of_owner(
    path: &Path,
    action: &str,
    remedy: &str,
    cause: std::io::Error,
) -> std::io::Error {
    match (cause.kind(), std::fs::symlink_metadata(path)) {
        (ErrorKind::PermissionDenied, Ok(found)) if found.is_file() => {
            let belongs = belongs(found.uid(), found.gid(), found.mode());
            let own = name_of_user(nix::unistd::geteuid().as_raw());
            std::io::Error::other(format!(
                "the file {belongs}, and Gatewright's user {own} may not {action} it. {remedy}"
            ))
        }
        _ => cause,
    }
}

/// The suffix of a file that is about to replace another.
pub const TEMPORARY: &str = "gatewright-tmp";

/// Replaces a file as one step that is on the disk when this returns.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    replace_by(path, access, |file| file.write_all(bytes))
}

/// The same, with content that `content` writes.
pub fn replace_by(
    path: &Path,
    access: Access,
    content: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), FileError> {
    let new = beside(path, TEMPORARY);
    write_by(&new, access, content)?;
    sync_new(&new)?;
    rename(&new, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })?;
    sync_parent(path)
}

/// The same, without waiting for the disk. After a power failure the file may hold the former content or be
/// empty: whoever reads it must do without it then.
pub fn replace_unsynced(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    let new = beside(path, TEMPORARY);
    write_unsynced(&new, bytes, access)?;
    rename(&new, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

/// Renames within one directory.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    step(Step::Rename, to)
        .and_then(|()| std::fs::rename(from, to))
        .map_err(|cause| match in_sticky_directory(to) {
            true => of_owner(to, "replace", NOT_IN_STICKY, cause),
            false => cause,
        })
        .map_err(FileError::of("replace", to))?;
    crash::point("file renamed");
    Ok(())
}

/// The mode bit of a directory in which only its owner may replace a file.
pub(super) const STICKY: u32 = 0o1000;
/// What helps there.
pub(super) const NOT_IN_STICKY: &str = "Its directory is sticky (mode +t), where only the owner replaces a file. Give the file to Gatewright's user (chown), or use another directory.";

/// Whether only its owner may replace a file, whoever may write to the directory.
fn in_sticky_directory(path: &Path) -> bool {
    let directory = path
        .parent()
        .and_then(|parent| std::fs::metadata(parent).ok());
    directory.is_some_and(|found| found.mode() & STICKY != 0)
}

/// Keeps what a file holds under a second name beside it. A copy where the system links nothing, such as
/// another user's file that we may replace and not write to (`fs.protected_hardlinks`, proc(5)).
pub fn keep(from: &Path, to: &Path) -> Result<(), FileError> {
    match link(from, to) {
        Err(error)
            if matches!(
                error.cause.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::TooManyLinks
            ) =>
        {
            let failed = FileError::of("keep", to);
            let access = Access::of(from).map_err(&failed)?;
            let bytes = text::bytes(from, text::OWN).map_err(&failed)?;
            write_new(to, &bytes, access.unwrap_or(Access::PRIVATE))
        }
        other => other,
    }
}

/// Gives a file a second name in the same directory.
fn link(from: &Path, to: &Path) -> Result<(), FileError> {
    step(Step::Link, to)
        .and_then(|()| std::fs::hard_link(from, to))
        .map_err(FileError::of("keep", to))?;
    crash::point("file kept");
    Ok(())
}

/// Makes the names in the directory of `path` durable.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    step(Step::SyncNames, directory)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(FileError::of("write to disk", directory))?;
    crash::point("name on disk");
    Ok(())
}

/// Removes a file if it is there.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match step(Step::Remove, path).and_then(|()| std::fs::remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // There, also what does not exist cannot be removed.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && !exists(path) => Ok(()),
        Err(error) => Err(FileError::of("remove", path)(error)),
        Ok(()) => {
            crash::point("file removed");
            Ok(())
        }
    }
}

/// Also a link that leads nowhere.
fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Reads a text file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    match text::bytes(path, text::OWN) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let remedy = "Let a group read it that Gatewright's user is in (chgrp, chmod g+r), or give it to that user (chown).";
            let error = of_owner(path, "read", remedy, error);
            Err(FileError::of("read", path)(error))
        }
    }
}

/// `/etc/h.cfg` → `/etc/.h.cfg.suffix`: the same file system, and hidden, so that HAProxy leaves it
/// out when it loads a whole directory (`-f dir`, `crt dir`; configuration manual 2.6, `crt`).
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// A directory for us alone, with its parents.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    step(Step::MakeDirectory, path)
        .and_then(|()| {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
        })
        .map_err(FileError::of("create", path))?;
    crash::point("directory made");
    Ok(())
}

/// An error where another user than ours and root owns the state directory or may write to it: its files decide what HAProxy
/// loads.
pub fn ours_alone(state_directory: &Path) -> Result<(), FileError> {
    let failed = FileError::of("use the state directory", state_directory);
    let found = std::fs::metadata(state_directory).map_err(&failed)?;
    let Some(why) = who_else_writes(&found) else {
        return Ok(());
    };
    let (user, place) = (nix::unistd::geteuid(), state_directory.display());
    let cause = format!(
        "{why}, who could change what HAProxy loads. If its content is yours, run `chown {user} {place}` and `chmod go-w {place}`; else name another directory in state.directory, such as {place}/state, which Gatewright makes for itself alone"
    );
    Err(failed(std::io::Error::other(cause)))
}

/// Who may write to a file or directory besides us and root: a clause about it.
fn who_else_writes(found: &std::fs::Metadata) -> Option<String> {
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if ![0, nix::unistd::geteuid().as_raw()].contains(&owner) {
        return Some(format!("it belongs to the user {owner}"));
    }
    (mode & 0o022 != 0).then(|| format!("its mode {mode:o} lets other users write to it"))
}

/// Removes a directory of ours with all that is in it, if it is there.
pub fn remove_directory(path: &Path) {
    if std::fs::remove_dir_all(path).is_ok() {
        crash::point("directory removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_what_it_is_given_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("h.cfg");
        let access = Access {
            mode: 0o640,
            owner: None,
        };
        replace(&path, b"one\n", access).unwrap();
        replace(&path, b"two\n", Access::of(&path).unwrap().unwrap()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_says_what_where_and_the_remedy() {
        let error = replace(Path::new("/no/such/h.cfg"), b"", Access::PRIVATE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Cannot write /no/such/.h.cfg.gatewright-tmp: its directory does not exist. Create it or correct the path."
        );
    }
}
