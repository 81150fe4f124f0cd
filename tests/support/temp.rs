//! Temporary directories.

use tempfile::TempDir;

use super::Outcome;

/// A directory that is removed when dropped. Its path is short: a Unix socket's holds 107 bytes.
pub fn directory() -> Outcome<TempDir> {
    tempfile::Builder::new()
        .prefix("gw-")
        .tempdir()
        .map_err(|error| format!("A temporary directory cannot be made: {error}."))
}
