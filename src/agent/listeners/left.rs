//! What a process leaves of the listeners for the next one: what it had found out about those that the
//! templates do not make any more, and which of them an operator has released. Pure: the file lies beside
//! the snapshot and is read and written with it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Judged;
use crate::haproxy::config::Endpoint;

/// The format that is written here.
const FORMAT: u32 = 1;
/// More listeners are not kept: each waits for an operator then.
const LISTENERS_MAX: usize = 1_000;

/// What is known of listeners across processes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Left {
    /// Released by an operator and not gone yet.
    pub released: BTreeSet<Endpoint>,
    /// Why each listener goes or waits.
    pub judged: Vec<Judged>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    released: BTreeSet<Endpoint>,
    judged: Vec<Judged>,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It was written by another version.
    #[error("it was written by another version of Gatewright")]
    Version,
    /// It is not what was written.
    #[error("it is damaged")]
    Damaged,
}

impl Left {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.released.is_empty() && self.judged.is_empty()
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let file = File {
            format: FORMAT,
            released: self.released.iter().take(LISTENERS_MAX).cloned().collect(),
            judged: self.judged.iter().take(LISTENERS_MAX).cloned().collect(),
        };
        // Plain values always have a JSON form.
        let mut bytes = serde_json::to_vec(&file).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file.
    pub fn decode(text: &str) -> Result<Left, Unusable> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| Unusable::Damaged)?;
        if value["format"] != FORMAT {
            return Err(match value["format"].is_u64() {
                true => Unusable::Version,
                false => Unusable::Damaged,
            });
        }
        let file: File = serde_json::from_value(value).map_err(|_| Unusable::Damaged)?;
        Ok(Left {
            released: file.released,
            judged: file.judged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Datum, Reason};
    use super::*;
    use crate::apply::listeners::Lost;
    use crate::catalog::{ItemName, Query};

    fn left() -> Left {
        let endpoint = |path: &str| Endpoint::Unix(path.to_owned());
        let judged = |path: &str, reason, since| Judged {
            lost: Lost {
                endpoint: endpoint(path),
                kind: "listen".to_owned(),
                section: "x".to_owned(),
                conditional: false,
            },
            reason,
            since,
        };
        let datum = |name| Datum {
            what: "Key expose/a".to_owned(),
            queries: vec![Query::service("web"), Query::key("expose/a")],
            name,
        };
        let instance = ItemName::Instance {
            node: "n".to_owned(),
            id: "i".to_owned(),
        };
        let items = vec![datum(ItemName::Key("expose/a".to_owned())), datum(instance)];
        Left {
            released: BTreeSet::from([endpoint("/a")]),
            judged: vec![
                judged("/b", Reason::There(items), None),
                judged("/c", Reason::Condition, Some(7)),
                judged("/d", Reason::Template, Some(8)),
                judged("/e", Reason::Unknown, Some(9)),
            ],
        }
    }

    // E12
    #[test]
    fn what_is_left_is_read_again_and_damage_is_refused() {
        let left = left();
        let text = String::from_utf8(left.encode()).unwrap();
        assert_eq!(Left::decode(&text), Ok(left));
        for length in 0..text.trim_end().len() {
            let part = text.get(..length).unwrap();
            assert_eq!(Left::decode(part), Err(Unusable::Damaged), "{length}");
        }
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(Left::decode(&newer), Err(Unusable::Version));
        assert_eq!(Left::decode("[]"), Err(Unusable::Damaged));
    }

    #[test]
    fn no_more_is_kept_than_a_bounded_number() {
        let one = left().judged.remove(0);
        let many = Left {
            released: (0..3_000)
                .map(|n| Endpoint::Unix(format!("/{n}")))
                .collect(),
            judged: vec![one; 3_000],
        };
        let read = Left::decode(&String::from_utf8(many.encode()).unwrap()).unwrap();
        assert_eq!(
            (read.released.len(), read.judged.len()),
            (LISTENERS_MAX, LISTENERS_MAX)
        );
    }
}
