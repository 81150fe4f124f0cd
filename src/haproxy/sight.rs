//! Whether a running HAProxy finds, at a path of its own, the file that we see at ours: it may run in
//! another mount namespace, below another root, or with a single file mounted over the one that we replace.
//! Reads only.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, open, openat2,
    statx,
};
use rustix::io::Errno;

/// What a process finds at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// Our file, or its place in our directory while it does not exist.
    Same,
    /// Another file, or none.
    Other,
    /// A file that is mounted by itself: when we replace ours, the process keeps the former one.
    Mounted,
    /// The system does not let us look.
    Unknown,
}

/// Whether there is a directory at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
    /// The system does not let us look.
    Unknown,
}

/// What a process finds at a path that is absolute to it; without a process what we find.
pub fn place(pid: Option<i32>, path: &Path) -> Place {
    let found = match pid {
        None => statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE),
        Some(pid) => root_of(pid).and_then(|root| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let within = ResolveFlags::IN_ROOT;
            let file = openat2(root.as_fd(), path, flags, Mode::empty(), within)?;
            statx(&file, OsStr::new(""), AtFlags::EMPTY_PATH, StatxFlags::TYPE)
        }),
    };
    match found {
        Ok(found) => match FileType::from_raw_mode(found.stx_mode.into()) {
            FileType::Directory => Place::Directory,
            _ => Place::Other,
        },
        Err(Errno::NOENT | Errno::NOTDIR) => Place::Nothing,
        Err(_) => Place::Unknown,
    }
}

fn root_of(pid: i32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open(format!("/proc/{pid}/root"), flags, Mode::empty()) {
        // The process has ended, which says nothing of the path.
        Err(Errno::NOENT) => Err(Errno::SRCH),
        root => root,
    }
}

/// What a file is, whatever its path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    inode: u64,
}

/// Compares what the process finds at `theirs`, which is absolute to it, with what we find at `ours`.
pub fn compare(pid: i32, theirs: &Path, ours: &Path) -> Sight {
    let Ok(root) = root_of(pid) else {
        return Sight::Unknown;
    };
    match (find_below(&root, theirs), find(ours)) {
        (Ok(Some((_, true))), _) => Sight::Mounted,
        (Ok(Some((their, _))), Ok(Some((our, _)))) if their == our => Sight::Same,
        // It does not exist yet: the directories tell.
        (Ok(None), Ok(None)) => match (theirs.parent(), ours.parent()) {
            (Some(theirs), Some(ours)) => match (find_below(&root, theirs), find(ours)) {
                (Ok(their), Ok(our)) if their.map(first) == our.map(first) => Sight::Same,
                (Ok(_), Ok(_)) => Sight::Other,
                _ => Sight::Unknown,
            },
            _ => Sight::Unknown,
        },
        (Ok(_), Ok(_)) => Sight::Other,
        _ => Sight::Unknown,
    }
}

fn first((identity, _): (Identity, bool)) -> Identity {
    identity
}

/// Whether a file is mounted by itself here, so that no other can be renamed over it.
pub fn is_mounted(path: &Path) -> bool {
    matches!(find(path), Ok(Some((_, true))))
}

fn find(path: &Path) -> Result<Option<(Identity, bool)>, Errno> {
    identify(statx(CWD, path, AtFlags::empty(), StatxFlags::INO))
}

/// Links are followed as the process follows them: from its own root.
fn find_below(root: &OwnedFd, path: &Path) -> Result<Option<(Identity, bool)>, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(
        root.as_fd(),
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    ) {
        Ok(file) => identify(statx(
            &file,
            OsStr::new(""),
            AtFlags::EMPTY_PATH,
            StatxFlags::INO,
        )),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The identity, and whether it is the root of a mount (statx(2), since Linux 5.8).
fn identify(found: Result<rustix::fs::Statx, Errno>) -> Result<Option<(Identity, bool)>, Errno> {
    match found {
        Ok(found) => {
            let identity = Identity {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
            };
            let is_root = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
            Ok(Some((identity, is_root)))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_process_in_our_namespace_sees_what_we_see() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "one").unwrap();
        std::fs::write(path("other"), "one").unwrap();
        symlink(path("file"), path("link")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        symlink("folder", path("way")).unwrap();
        let pid = std::process::id().cast_signed();
        for (theirs, ours, sight) in [
            ("file", "file", Sight::Same),
            ("link", "file", Sight::Same),
            ("other", "file", Sight::Other),
            ("new", "file", Sight::Other),
            ("file", "new", Sight::Other),
            ("new", "new", Sight::Same),
            ("way/new", "folder/new", Sight::Same),
            ("folder/new", "new", Sight::Other),
        ] {
            assert_eq!(
                compare(pid, &path(theirs), &path(ours)),
                sight,
                "{theirs} {ours}"
            );
        }
        for who in [Some(pid), None] {
            let found = ["folder", "way", "file", "new", "file/new"];
            let found = found.map(|name| place(who, &path(name)));
            use Place::{Directory, Nothing, Other};
            assert_eq!(found, [Directory, Directory, Other, Nothing, Nothing]);
        }
        assert_eq!(place(Some(i32::MAX), &path("folder")), Place::Unknown);
        assert!(!is_mounted(&path("file")));
        assert!(!is_mounted(&path("new")));
        assert_eq!(
            compare(i32::MAX, &path("file"), &path("file")),
            Sight::Unknown
        );
    }
}
