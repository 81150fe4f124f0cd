//! The snapshot's file in the state directory, and that of the listeners beside it: read once at the start,
//! each replaced as one step. What is in them and when they are written is decided elsewhere
//! ([`crate::catalog::snapshot`], [`super::listeners`], the core).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::core::Memory;
use super::listeners::Left;
use crate::apply::execute::Applier;
use crate::apply::files::{
    Access, FileError, TEMPORARY, beside, read, remove, replace, replace_by,
};
use crate::catalog::guard::Rules;
use crate::catalog::snapshot::{self, Content, Snapshot, decode};

/// The file's name.
pub const NAME: &str = "snapshot.json";

/// What is known of listeners, beside the snapshot.
const LISTENERS: &str = "listeners.json";
/// A larger one was not written here.
const LISTENERS_MAX: u64 = 4 << 20;

/// Writes both, for us alone to read. The listeners come first: what explains why one goes must not be missing
/// once the snapshot is that of the set without it. The error is a whole sentence.
pub fn write(path: &Path, content: &Content, left: &Left) -> Result<(), String> {
    write_listeners(&path.with_file_name(LISTENERS), left)
        .and_then(|()| {
            replace_by(path, Access::PRIVATE, |file| {
                snapshot::write(content, wall(), file)
            })
        })
        .map_err(|error| error.to_string())
}

fn write_listeners(path: &Path, left: &Left) -> Result<(), FileError> {
    let bytes = left.encode();
    match (std::fs::read(path), left.is_empty()) {
        (Ok(former), false) if former == bytes => Ok(()),
        (_, false) => replace(path, &bytes, Access::PRIVATE),
        (Ok(_), true) => remove(path),
        (Err(_), true) => Ok(()),
    }
}

/// What a former process has left of listeners.
pub fn recall_listeners(snapshot: &Path) -> Left {
    let path = snapshot.with_file_name(LISTENERS);
    let _ = remove(&beside(&path, TEMPORARY));
    let Ok(found) = std::fs::metadata(&path) else {
        return Left::default();
    };
    let text = match found.len() <= LISTENERS_MAX {
        true => std::fs::read_to_string(&path).unwrap_or_default(),
        false => String::new(),
    };
    Left::decode(&text).unwrap_or_else(|problem| {
        tracing::warn!(
            "The file {} is ignored: {problem}. Listeners that no longer have a template wait for an operator.",
            path.display()
        );
        Left::default()
    })
}

/// What a former process left. Without it the applier compares the first set with the last good
/// files itself.
pub fn recall(path: &Path, applier: &mut Applier, rules: &Rules, now: Instant) -> Memory {
    // Of a former process that was killed while it wrote.
    let _ = remove(&beside(path, TEMPORARY));
    let snapshot = load(path);
    if snapshot.is_none() && applier.last_good().is_some() {
        applier.refuse_loss(rules.clone());
    }
    Memory::new(snapshot, applier.last_good_revision(), now, wall())
}

/// A file that cannot be used is left where it is until it is replaced.
fn load(path: &Path) -> Option<Snapshot> {
    let problem = match read(path).map(|text| text.as_deref().map(decode)) {
        Ok(None) => return None,
        Ok(Some(Ok(snapshot))) => return Some(snapshot),
        Ok(Some(Err(error))) => error.to_string(),
        Err(FileError { cause, .. }) => format!("it cannot be read: {cause}"),
    };
    tracing::warn!(
        "The snapshot {} is ignored: {problem}. The next complete answers replace it.",
        path.display()
    );
    None
}

/// Seconds since 1970, for ages that are shown and nothing else.
pub fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
