//! Files that are read whole: only regular files, and only up to a limit. A named pipe without a writer would be
//! waited for without end, and a device or a sparse file fills the memory. Knows nothing of what a text means.

use std::fs::{Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::crash;

/// Unit of the limits.
pub const MEBIBYTE: u64 = 1 << 20;
/// For settings, templates and other files that people write.
pub const WRITTEN: u64 = 16 * MEBIBYTE;
/// For a catalog and for a file of a set, whose size follows the catalog.
pub const OF_CATALOG: u64 = 64 * MEBIBYTE;
/// For any file that Gatewright has written itself, and for one that stands where it writes.
pub const OWN: u64 = 1024 * MEBIBYTE;

/// Reads a regular file of at most `limit` bytes. Never blocks on a named pipe, and opens no device.
pub fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    crash::reading("file looked at");
    // Before it is opened: opening a device may already do something.
    fits(&std::fs::metadata(path)?, limit)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)?;
    // The path may lead elsewhere by now.
    let found = file.metadata()?;
    fits(&found, limit)?;
    let mut bytes = Vec::new();
    bytes.try_reserve(found.len().try_into().unwrap_or(0))?;
    crash::reading("file read");
    // It may have grown, and a file of /proc says that it is empty.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(too_large(limit)),
        false => Ok(bytes),
    }
}

/// Reads UTF-8 text in the same way. A byte order mark at its beginning, which some editors write, is dropped.
pub fn read(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(bytes(path, limit)?)
        .map(without_mark)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

fn fits(found: &Metadata, limit: u64) -> Result<()> {
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    match found.len() > limit {
        true => Err(too_large(limit)),
        false => Ok(()),
    }
}

fn too_large(limit: u64) -> Error {
    let size = match limit % MEBIBYTE {
        0 => format!("{} MiB", limit / MEBIBYTE),
        _ => format!("{limit} bytes"),
    };
    Error::new(ErrorKind::FileTooLarge, format!("it has more than {size}"))
}

/// At most so many letters of a text, and `…` where it goes on.
pub fn shortened(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The same without control characters, for a sentence.
pub fn shown(text: &str, letters: usize) -> String {
    let short = shortened(text, letters);
    short.chars().flat_map(char::escape_debug).collect()
}

/// The text without the byte order mark at its beginning.
pub fn without_mark(mut text: String) -> String {
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mark_at_the_beginning_is_dropped() {
        for (text, expected) in [
            ("\u{feff}global\n", "global\n"),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("a\u{feff}", "a\u{feff}"),
            ("\u{feff}", ""),
            ("", ""),
        ] {
            assert_eq!(without_mark(text.to_owned()), expected);
        }
    }

    #[test]
    fn only_a_regular_file_within_the_limit_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let why = |name: &Path, limit| bytes(name, limit).unwrap_err().to_string();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(why(&path("pipe"), 9), "it is not a regular file");
        std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        assert_eq!(why(&path("zero"), 9), "it is not a regular file");
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert_eq!(why(&path("socket"), 9), "it is not a regular file");
        assert_eq!(
            bytes(folder.path(), 9).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
        // A sparse file has a size and takes no room.
        let sparse = std::fs::File::create(path("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(why(&path("sparse"), WRITTEN), "it has more than 16 MiB");
        std::fs::write(path("file"), "abc").unwrap();
        assert_eq!(bytes(&path("file"), 3).unwrap(), b"abc");
        assert_eq!(why(&path("file"), 2), "it has more than 2 bytes");
        // The size of this one is said to be 0.
        assert!(bytes(Path::new("/proc/self/stat"), WRITTEN).is_ok());
        assert_eq!(
            why(Path::new("/proc/self/stat"), 2),
            "it has more than 2 bytes"
        );
        std::fs::write(path("file"), b"\xff").unwrap();
        let error = read(&path("file"), 3).unwrap_err();
        assert_eq!(error.to_string(), "it is not UTF-8 text");
    }
}
