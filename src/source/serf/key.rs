//! The key of an agent with `rpc_auth`: read anew for each connection, shown nowhere.

use super::{Key, Secret};
use crate::source::secret;

/// The key as it is now; `None` where none is set. The error is a part of a sentence.
pub(super) fn read(key: &Key) -> Result<Option<Secret>, String> {
    match key {
        Key::None => Ok(None),
        Key::Value(secret) => Ok(Some(secret.clone())),
        Key::File(path) => {
            let wrong = |what| format!("the key file {} {what}", path.display());
            secret::read(path).map(Some).map_err(wrong)
        }
    }
}
