//! What proves to a source that we may ask: a text that is never shown, and files that hold one.

use std::fmt;
use std::path::Path;

use crate::text;

/// A longer file holds neither a token nor a key.
const LONGEST: u64 = 64 * 1024;

/// A text that is never shown: neither Debug nor Display gives its content.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The content, for what is sent to the source and for nothing else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    /// Nothing is left of it in memory that is used for something else.
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(hidden)")
    }
}

/// Reads a file that holds one, without the ends of its lines. The error is the end of a sentence that begins
/// with the file.
pub(super) fn read(path: &Path) -> Result<Secret, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let text = text::read(path, LONGEST).map_err(failed)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("is empty".to_owned()),
        text => Ok(Secret::new(text)),
    }
}
