//! What Consul sends, as any bytes: see `crate::fuzzing`.

use std::collections::BTreeMap;

use super::{answer, index};
use crate::catalog::{HealthFilter, Kind, Query};

/// An answer of the kind that the first byte names.
pub fn answer(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let kinds = kinds();
    let kind = &kinds[usize::from(*first) % kinds.len()];
    let outcome = answer::parse(kind, body);
    assert_eq!(outcome, answer::parse(kind, body));
    // Values are secrets: an error says only where it is.
    if let Err(error) = &outcome {
        assert!(error.len() < 120, "{error}");
    }
    let nothing = matches!(body.trim_ascii(), b"" | b"null" | b"[null]" | b"[{}]");
    if nothing && !matches!(kind, Kind::Node { .. }) {
        assert!(outcome.is_err(), "{kind:?}: {outcome:?}");
    }
}

/// A query of each kind.
pub(super) fn kinds() -> [Kind; 7] {
    let mut service = Query::service("web").kind;
    if let Kind::Service { health, .. } = &mut service {
        *health = HealthFilter::Any;
    }
    [
        service,
        Kind::Services {
            node_meta: BTreeMap::new(),
            filter: None,
        },
        Kind::Nodes {
            near: None,
            filter: None,
            node_meta: BTreeMap::new(),
        },
        Kind::Node {
            name: "n".to_owned(),
        },
        Kind::Datacenters { ignore_down: false },
        Query::key("a").kind,
        Kind::Tree {
            prefix: String::new(),
        },
    ]
}

/// The values of the index header, one a line, and what is sent after them.
pub fn index(data: &[u8]) {
    let mut sent = index::FRESH;
    for header in data.split(|byte| *byte == b'\n') {
        let values: Vec<&[u8]> = header.split(|byte| *byte == b'|').collect();
        let received = index::parse(values.iter().copied());
        if let Some(received) = received {
            assert!(received > 0 && values.len() == 1);
            let text = received.to_string();
            assert_eq!(
                header.iter().skip_while(|byte| **byte == b'0').count(),
                text.len()
            );
        }
        let next = index::next(sent, received);
        assert!(next <= received.unwrap_or(1));
        assert!(next == index::FRESH || received.is_none() || next >= sent);
        sent = next;
    }
}
