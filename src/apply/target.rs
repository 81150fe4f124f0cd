//! Where a destination really is, and whether a file can be put there.
//!
//! A link is followed once, and the file behind it is replaced, so that the link stays. One in a
//! directory that everybody may write to is not: anybody could have put it there, to have a file of
//! his choice replaced. Reads only.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};

use super::files::{self, Access, FileError, NOT_IN_STICKY, STICKY, of_owner};
use crate::haproxy::sight;

/// As many links as Linux follows in one path (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Write permission for everybody.
const BY_OTHERS: u32 = 0o002;

/// The file behind a link; a link that leads nowhere is taken as the place of a new file.
pub fn resolve(destination: &Path) -> PathBuf {
    std::fs::canonicalize(destination).unwrap_or_else(|_| {
        let parent = destination.parent().unwrap_or(Path::new("/"));
        match (std::fs::canonicalize(parent), destination.file_name()) {
            (Ok(parent), Some(name)) => match std::fs::read_link(destination) {
                Ok(link) => parent.join(link),
                Err(_) => parent.join(name),
            },
            _ => destination.to_owned(),
        }
    })
}

/// The same for a file that is about to be replaced, with what it is now. An error where it must
/// not be: a link that anybody may have put there, or something that is no regular file.
pub fn to_replace(destination: &Path) -> Result<(PathBuf, Option<Access>), FileError> {
    if let Some(link) = open_link(destination, &mut LINKS_MAX.clone()) {
        let cause = format!(
            "the link {} stands in a directory that everybody may write to, so it may lead anywhere. Name the file itself, or keep others from writing in that directory",
            link.display()
        );
        return Err(FileError::of("replace", destination)(Error::other(cause)));
    }
    let target = resolve(destination);
    if sight::is_mounted(&target) {
        return Err(FileError::of("replace", &target)(
            ErrorKind::ResourceBusy.into(),
        ));
    }
    let found = Access::of(&target).map_err(FileError::of("replace", &target))?;
    Ok((target, found))
}

/// Whether files can be put at a destination at all, as far as that is seen without a try: for the
/// start, where an impossible one is a mistake in the settings. Later it is a fault that may pass.
pub fn check(destination: &Path) -> Result<(), FileError> {
    let (target, found) = to_replace(destination)?;
    let directory = target.parent().unwrap_or(Path::new("/"));
    let failed = FileError::of("write", destination);
    match std::fs::metadata(directory) {
        Ok(found) if !found.is_dir() => return Err(failed(ErrorKind::NotADirectory.into())),
        Ok(_) => {}
        Err(error) => return Err(failed(error)),
    }
    eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| failed(error.into()))?;
    let Some(owner) = found.and_then(|found| found.owner) else {
        return Ok(());
    };
    if eaccess(&target, AccessFlags::R_OK).is_err() {
        files::read(&target)?;
    }
    may_replace(directory, owner.0)
        .map_err(|cause| of_owner(&target, "replace", NOT_IN_STICKY, cause))
        .map_err(FileError::of("replace", destination))
}

/// Whether a file of this owner may be replaced in its directory, as rename(2) says of sticky ones.
fn may_replace(directory: &Path, owner: u32) -> std::io::Result<()> {
    let own = nix::unistd::geteuid();
    let found = std::fs::metadata(directory)?;
    let ours = own.is_root() || [owner, found.uid()].contains(&own.as_raw());
    match found.mode() & STICKY != 0 && !ours {
        true => Err(ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

/// The first link on the way to a path that stands in a directory that everybody may write to.
fn open_link(path: &Path, left: &mut usize) -> Option<PathBuf> {
    let ways: Vec<&Path> = path.ancestors().collect();
    for place in ways.into_iter().rev() {
        let (Ok(link), Some(parent)) = (std::fs::read_link(place), place.parent()) else {
            continue;
        };
        let open = std::fs::metadata(parent).is_ok_and(|found| found.mode() & BY_OTHERS != 0);
        if open || *left == 0 {
            return Some(place.to_owned());
        }
        *left -= 1;
        if let Some(found) = open_link(&parent.join(link), left) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    // E06 L07
    #[test]
    fn a_link_in_a_directory_that_everybody_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["ours", "shared", "real"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let secret = path("real/secret");
        std::fs::write(&secret, "before\n").unwrap();
        symlink(&secret, path("ours/h.cfg")).unwrap();
        let found = to_replace(&path("ours/h.cfg")).unwrap();
        assert_eq!(found.0, secret.canonicalize().unwrap());

        symlink(&secret, path("shared/h.cfg")).unwrap();
        symlink(path("real"), path("shared/folder")).unwrap();
        symlink(path("shared/folder"), path("ours/folder")).unwrap();
        // The sticky bit of /tmp keeps others from replacing a link, not from putting one there first.
        for bits in [0o777, 0o1777] {
            mode(&path("shared"), bits);
            for name in ["shared/h.cfg", "shared/folder/h.cfg", "ours/folder/h.cfg"] {
                let error = to_replace(&path(name)).unwrap_err().to_string();
                assert!(
                    error.contains("a directory that everybody may write to"),
                    "{name}: {error}"
                );
                assert!(check(&path(name)).is_err(), "{name}");
            }
            // A file of its own may stand there.
            assert!(to_replace(&path("shared/other.cfg")).is_ok());
        }
        mode(&path("shared"), 0o755);
        assert!(to_replace(&path("ours/folder/h.cfg")).is_ok());
        symlink("round", path("ours/round")).unwrap();
        assert!(to_replace(&path("ours/round")).is_err());
        assert_eq!(std::fs::read_to_string(secret).unwrap(), "before\n");
    }

    // E07
    #[test]
    fn an_impossible_destination_is_found_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        assert!(check(&path("file")).is_ok() && check(&path("new")).is_ok());
        for (name, why) in [
            ("folder", "it is a directory. Name a file."),
            (
                "none/h.cfg",
                "its directory does not exist. Create it or correct the path.",
            ),
            (
                "file/h.cfg",
                "a part of its path is not a directory. Correct the path.",
            ),
        ] {
            let error = check(&path(name)).unwrap_err().to_string();
            assert!(error.ends_with(why), "{name}: {error}");
        }
        // To replace a device would take it away from everybody.
        let error = check(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(
            error.ends_with("it is not a regular file. Name a file."),
            "{error}"
        );
    }
}
