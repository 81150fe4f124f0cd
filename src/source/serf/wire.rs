//! Serf's RPC protocol as bytes: a plain sequence of MessagePack values, with nothing that frames them.
//!
//! So nothing is guessed: a value is looked through first, without a copy, until all of it has arrived, and
//! only then read. Its size, depth and number of parts are bounded there. Pure; the connection is in `client`.
//! The protocol is that of Serf's `cmd/serf/command/agent/ipc.go`, version 1 (Serf 0.8.2 and 0.10.1 alike).

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::BytesMut;
use rmpv::Value;

use super::members::{Member, State};

/// No value of the protocol is nested deeper than six.
const DEEPEST: usize = 12;
/// A member has some forty parts; this is enough for fifty thousand of them.
const MOST_PARTS: u64 = 2_000_000;

/// Serf lets a member have 512 bytes of tags and a name of 128; whoever has more is no Serf.
const LONGEST_MEMBER: usize = 4096;

/// Why what came is no answer of Serf; a part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// More bytes than one value may have.
    #[error("a value of more than {0} bytes")]
    TooLarge(usize),
    /// A list in a list in a list…
    #[error("a value that is nested too deep or has too many parts")]
    TooMuch,
    /// A byte that begins no value.
    #[error("bytes that are no MessagePack")]
    NotMessagePack,
    /// A value of another form than the protocol's.
    #[error("{0}")]
    Form(&'static str),
}

/// What has arrived and was not read yet.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Where arriving bytes are put.
    pub buffer: BytesMut,
    most: usize,
    scan: Scan,
}

/// How far the value at the beginning was looked through.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    /// How many values are still to come at each depth.
    open: Vec<u64>,
    parts: u64,
}

impl Inbox {
    /// Takes values of up to `most` bytes.
    pub fn new(most: usize) -> Inbox {
        Inbox {
            buffer: BytesMut::new(),
            most,
            scan: Scan::default(),
        }
    }

    /// The next value, if all of it has arrived. After an error nothing that follows can be told apart.
    pub fn next(&mut self) -> Result<Option<Value>, Wrong> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let whole = self.scan.advance(&self.buffer)?;
        // A value that is announced as larger is not waited for.
        if self.scan.at > self.most || self.buffer.len() > self.most + (1 << 16) {
            return Err(Wrong::TooLarge(self.most));
        }
        if !whole {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(self.scan.at);
        self.scan = Scan::default();
        let mut rest = &bytes[..];
        match rmpv::decode::read_value_with_max_depth(&mut rest, 2 * DEEPEST) {
            Ok(value) if rest.is_empty() => Ok(Some(value)),
            _ => Err(Wrong::NotMessagePack),
        }
    }
}

impl Scan {
    /// Goes on as far as there are bytes. Whether the value is whole; `at` is its end then, and where not,
    /// at least so many bytes it has.
    fn advance(&mut self, bytes: &[u8]) -> Result<bool, Wrong> {
        if self.open.is_empty() && self.at == 0 {
            self.open.push(1);
        }
        while let Some(left) = self.open.last_mut() {
            if *left == 0 {
                self.open.pop();
                continue;
            }
            let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) else {
                return Ok(false);
            };
            let Some((length, parts)) = measure(rest)? else {
                return Ok(false);
            };
            *left -= 1;
            self.parts += 1;
            let inside = self
                .open
                .iter()
                .fold(parts, |sum, n| sum.saturating_add(*n));
            if self.parts.saturating_add(inside) > MOST_PARTS || self.open.len() > DEEPEST {
                return Err(Wrong::TooMuch);
            }
            self.at = self.at.saturating_add(length);
            if parts > 0 {
                self.open.push(parts);
            }
        }
        Ok(self.at <= bytes.len())
    }
}

/// How many bytes the value at the beginning has without the values in it, and how many those are.
/// `None` when too few bytes are there to tell.
fn measure(bytes: &[u8]) -> Result<Option<(usize, u64)>, Wrong> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let number = |width: usize| -> Option<usize> {
        let digits = bytes.get(1..1 + width)?;
        let number = digits
            .iter()
            .fold(0u64, |n, digit| n << 8 | u64::from(*digit));
        usize::try_from(number).ok()
    };
    let text = |width: usize, more: usize| Some((1 + width + more + number(width)?, 0));
    let parts = |width: usize, each: u64| Some((1 + width, each * number(width)? as u64));
    Ok(match first {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Some((1, 0)),
        0x80..=0x8f => Some((1, 2 * u64::from(first & 0x0f))),
        0x90..=0x9f => Some((1, u64::from(first & 0x0f))),
        0xa0..=0xbf => Some((1 + usize::from(first & 0x1f), 0)),
        0xc1 => return Err(Wrong::NotMessagePack),
        0xc4 | 0xd9 => text(1, 0),
        0xc5 | 0xda => text(2, 0),
        0xc6 | 0xdb => text(4, 0),
        0xc7 => text(1, 1),
        0xc8 => text(2, 1),
        0xc9 => text(4, 1),
        0xcc | 0xd0 => Some((2, 0)),
        0xcd | 0xd1 => Some((3, 0)),
        0xca | 0xce | 0xd2 => Some((5, 0)),
        0xcb | 0xcf | 0xd3 => Some((9, 0)),
        0xd4 => Some((3, 0)),
        0xd5 => Some((4, 0)),
        0xd6 => Some((6, 0)),
        0xd7 => Some((10, 0)),
        0xd8 => Some((18, 0)),
        0xdc => parts(2, 1),
        0xdd => parts(4, 1),
        0xde => parts(2, 2),
        0xdf => parts(4, 2),
    })
}

/// The head of every answer and event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the question, or of the stream.
    pub seq: u64,
    /// What went wrong, in Serf's words; empty when nothing did.
    pub error: String,
}

/// A request: its head and, where it has one, its body.
pub(super) fn request(command: &str, seq: u64, body: Option<&[(&str, Value)]>) -> Vec<u8> {
    let head = [("Command", Value::from(command)), ("Seq", seq.into())];
    let mut bytes = Vec::new();
    for fields in [Some(head.as_slice()), body].into_iter().flatten() {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()));
        // Writing into memory does not fail.
        let _ = rmpv::encode::write_value(&mut bytes, &Value::Map(fields.collect()));
    }
    bytes
}

/// Reads a head.
pub(super) fn head(value: &Value) -> Result<Head, Wrong> {
    const NO_HEAD: Wrong = Wrong::Form("something else than the head of an answer");
    let seq = field(value, "Seq").and_then(Value::as_u64).ok_or(NO_HEAD)?;
    let error = field(value, "Error").and_then(text).ok_or(NO_HEAD)?;
    Ok(Head { seq, error })
}

/// Reads the body of an event; only its kind matters.
pub(super) fn event(value: &Value) -> Result<String, Wrong> {
    field(value, "Event")
        .and_then(text)
        .ok_or(Wrong::Form("an event of no kind"))
}

/// The members of an answer, and the names of those that were left out because their name or tags are no text or too
/// long. What is no text of a name, or too long of it, is not in it.
pub(super) fn members(value: &Value) -> Result<(Vec<Member>, Vec<String>), Wrong> {
    let list = match field(value, "Members") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(Value::Nil) => &[],
        _ => return Err(Wrong::Form("a list of members that is no list")),
    };
    let mut unreadable = Vec::new();
    let mut members = Vec::with_capacity(list.len());
    for entry in list {
        if !entry.is_map() {
            return Err(Wrong::Form("a member that is no map"));
        }
        match member(entry) {
            Some(member) => members.push(member),
            None => unreadable.push(part_of_name(entry)),
        }
    }
    Ok((members, unreadable))
}

fn member(value: &Value) -> Option<Member> {
    let tags = match field(value, "Tags") {
        Some(Value::Map(pairs)) => pairs
            .iter()
            .map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect::<Option<BTreeMap<_, _>>>()?,
        Some(Value::Nil) | None => BTreeMap::new(),
        Some(_) => return None,
    };
    let name = field(value, "Name").and_then(text)?;
    let length = tags.iter().fold(name.len(), |sum, (tag, value)| {
        sum + tag.len() + value.len()
    });
    if name.is_empty() || length > LONGEST_MEMBER {
        return None;
    }
    Some(Member {
        name,
        address: field(value, "Addr").and_then(address),
        state: State::parse(&field(value, "Status").and_then(text)?),
        tags,
    })
}

fn part_of_name(member: &Value) -> String {
    let name = field(member, "Name").and_then(Value::as_slice);
    let name = name.unwrap_or_default();
    String::from_utf8_lossy(name.get(..LONGEST_MEMBER).unwrap_or(name)).into_owned()
}

fn address(value: &Value) -> Option<IpAddr> {
    let bytes = value.as_slice()?;
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_canonical())
}

/// The value of a key; Serf's keys are case-sensitive.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let pairs = value.as_map()?;
    let found = pairs.iter().find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| value)
}

/// Serf writes bytes as text and takes either, so either is read. `None` when it is not UTF-8.
fn text(value: &Value) -> Option<String> {
    std::str::from_utf8(value.as_slice()?)
        .ok()
        .map(str::to_owned)
}
