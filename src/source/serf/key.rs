//! The key of an agent with `rpc_auth`: read anew for each connection, shown nowhere.

use std::io::Read as _;
use std::path::Path;

use super::{Key, Secret};

/// A longer file holds no key.
const LONGEST: u64 = 64 * 1024;

/// The key as it is now; `None` where none is set. The error is a part of a sentence.
pub(super) fn read(key: &Key) -> Result<Option<Secret>, String> {
    match key {
        Key::None => Ok(None),
        Key::Value(secret) => Ok(Some(secret.clone())),
        Key::File(path) => file(path).map(Some),
    }
}

fn file(path: &Path) -> Result<Secret, String> {
    let wrong = |what: &str| format!("the key file {} {what}", path.display());
    let failed = |error: std::io::Error| wrong(&format!("cannot be read: {error}"));
    // Opening a named pipe would block for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(wrong("is not a regular file"));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong("is empty")),
        key => Ok(Secret::new(key)),
    }
}
