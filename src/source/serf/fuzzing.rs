//! What an agent sends, as any bytes: see `crate::fuzzing`.

use tokio::time::Instant;

use super::members::{Failed, Mapping, Members, State};
use super::wire::{self, Inbox};
use crate::catalog::{Answer, Query};

/// A stream of values, the same however it arrives; the first byte says where it is cut.
pub fn rpc(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else {
        return;
    };
    let (one, two) = stream.split_at(usize::from(*first).min(stream.len()));
    let whole = values(&[stream]);
    // As text, for no NaN equals itself.
    assert_eq!(format!("{whole:?}"), format!("{:?}", values(&[one, two])));
    let mut before: Option<Members> = None;
    for value in &whole.0 {
        let _ = (wire::head(value), wire::event(value));
        let Ok((list, unreadable)) = wire::members(value) else {
            continue;
        };
        let listed = list.len();
        let members = Members::new(
            list,
            unreadable,
            &Mapping {
                failed: Failed::Remove,
                ..Mapping::default()
            },
            before.as_ref(),
            Instant::now(),
        );
        assert!(members.count(State::Alive) + members.count(State::Failed) <= listed);
        let Ok(Answer::Instances(instances)) = members.answer(&Query::service("airavata-api"))
        else {
            panic!("no answer to a service");
        };
        assert!(instances.len() <= listed + members.untold());
        before = Some(members);
    }
}

/// The values of a stream that arrives in parts, and whether it went wrong.
fn values(parts: &[&[u8]]) -> (Vec<rmpv::Value>, bool) {
    let mut inbox = Inbox::new(4096);
    let mut values = Vec::new();
    for part in parts {
        inbox.buffer.extend_from_slice(part);
        loop {
            match inbox.next() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(_) => return (values, true),
            }
        }
    }
    (values, false)
}
