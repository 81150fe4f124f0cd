//! The snapshot's file in the state directory: read once at the start, replaced as one step. What is
//! in it and when it is written is decided elsewhere ([`crate::catalog::snapshot`], the core).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::core::Memory;
use crate::apply::execute::Applier;
use crate::apply::files::{Access, FileError, TEMPORARY, beside, read, remove, replace};
use crate::catalog::guard::Rules;
use crate::catalog::snapshot::{Content, Snapshot, decode, encode};

/// The file's name.
pub const NAME: &str = "snapshot.json";

/// Writes it, for us alone to read. The error is a whole sentence.
pub fn write(path: &Path, content: &Content) -> Result<(), String> {
    replace(path, &encode(content, wall()), Access::PRIVATE).map_err(|error| error.to_string())
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
