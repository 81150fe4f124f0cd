//! The last complete answers as a file, so that a start while Consul is away has something to start
//! from, and the guard a measure.
//!
//! ```text
//! {"gatewright_snapshot":1,"sha256":"…"}      of everything below
//! {"revision":"…","queries":{…},"catalog":{…}}
//! ```
//!
//! `catalog` is a fixture ([`super::fixture`]), so `gatewright render --catalog` reads this file too.
//! What is damaged, or was written by a newer version, is refused as a whole. Pure: no file is opened
//! here.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{Context, Digest, SHA256};
use serde::{Deserialize, Serialize};

use super::fixture::{Fixture, Recording};
use super::{Answer, Query};

/// The format that is written here.
const FORMAT: u32 = 1;
/// How every snapshot begins.
const START: &str = "{\"gatewright_snapshot\":";

/// What is to be kept.
#[derive(Debug, Clone)]
pub struct Content {
    /// The revision of the set that was rendered from these answers.
    pub revision: String,
    /// The answers as templates saw them.
    pub answers: Vec<Kept>,
    /// The datacenters in which the guard's canary was seen.
    pub canary_seen: Vec<Option<String>>,
    /// The templates that the set was rendered by, as one text.
    pub templates: Arc<str>,
}

impl PartialEq for Content {
    /// Answers are shared, never changed: the same ones are equal.
    fn eq(&self, other: &Content) -> bool {
        self.revision == other.revision
            && self.canary_seen == other.canary_seen
            && self.templates == other.templates
            && self.answers.len() == other.answers.len()
            && self
                .answers
                .iter()
                .zip(&other.answers)
                .all(|(one, two)| one.query == two.query && Arc::ptr_eq(&one.answer, &two.answer))
    }
}

/// One answer to be kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What was asked.
    pub query: Query,
    /// What templates saw.
    pub answer: Arc<Answer>,
    /// How old it is.
    pub age: Duration,
    /// By how many items the guard judges the next one.
    pub reference: usize,
    /// Whether the guard lets what it holds of it go by half at a time.
    pub eased: bool,
}

/// A snapshot as it was read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The revision of the set that was rendered from these answers.
    pub revision: String,
    /// The datacenters in which the guard's canary was seen.
    pub canary_seen: Vec<Option<String>>,
    queries: BTreeMap<String, About>,
    /// The answers.
    pub catalog: Fixture,
    /// The templates that the set was rendered by, as one text; older files have none.
    #[serde(default)]
    pub templates: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// Seconds since 1970 at which the answer was current; only to show its age.
    read_at: u64,
    reference: usize,
    /// Written only where it is so: earlier versions do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    eased: bool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    gatewright_snapshot: u32,
    sha256: String,
}

/// A snapshot as it is written.
#[derive(Serialize)]
struct Body<'a> {
    revision: &'a str,
    canary_seen: &'a [Option<String>],
    queries: BTreeMap<&'a str, About>,
    catalog: Catalog<'a>,
    templates: &'a str,
}

/// A [`Fixture`] of recorded answers only.
#[derive(Serialize)]
struct Catalog<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    answers: BTreeMap<&'a str, Recording<'a>>,
}

/// Passes on what is written and takes its digest.
struct Digesting<W> {
    out: W,
    digest: Context,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An answer of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    /// The answer.
    pub answer: Arc<Answer>,
    /// How old it is, by the wall clock.
    pub age: Duration,
    /// By how many items the guard judges the next one.
    pub reference: usize,
    /// Whether the guard lets what it holds of it go by half at a time.
    pub eased: bool,
}

/// Why a file cannot be used as a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It does not begin as one.
    #[error("it is no snapshot")]
    Foreign,
    /// It was written by a later version.
    #[error("it was written by a newer version of Gatewright")]
    Newer,
    /// Its content is not what was written.
    #[error("it is damaged")]
    Damaged,
}

/// Writes a snapshot. `wall` is the time in seconds since 1970.
///
/// Neither the text nor a second form of the answers is ever in memory as a whole. The header, which holds the digest
/// of what follows, is written twice: its length is always the same.
pub fn write(content: &Content, wall: u64, out: &mut (impl Write + Seek)) -> io::Result<()> {
    let kept: BTreeMap<String, &Kept> = content
        .answers
        .iter()
        .filter(|kept| is_text(&kept.answer))
        .map(|kept| (kept.query.to_string(), kept))
        .collect();
    let about = |kept: &Kept| About {
        read_at: wall.saturating_sub(kept.age.as_secs()),
        reference: kept.reference,
        eased: kept.eased,
    };
    let body = Body {
        revision: &content.revision,
        canary_seen: &content.canary_seen,
        queries: kept
            .iter()
            .map(|(query, kept)| (query.as_str(), about(kept)))
            .collect(),
        catalog: Catalog {
            answers: kept
                .iter()
                .map(|(query, kept)| (query.as_str(), Recording(&kept.answer)))
                .collect(),
        },
        templates: &content.templates,
    };
    let header = |sha256: String| -> io::Result<String> {
        let header = Header {
            gatewright_snapshot: FORMAT,
            sha256,
        };
        Ok(serde_json::to_string(&header)? + "\n")
    };
    let mut out = Digesting {
        out: BufWriter::new(out),
        digest: Context::new(&SHA256),
    };
    out.out.write_all(header(digest(""))?.as_bytes())?;
    serde_json::to_writer(&mut out, &body)?;
    out.write_all(b"\n")?;
    let Digesting { mut out, digest } = out;
    out.rewind()?;
    out.write_all(header(hexadecimal(&digest.finish()))?.as_bytes())?;
    out.flush()
}

/// The bytes of a snapshot.
#[cfg(test)]
pub fn encode(content: &Content, wall: u64) -> Vec<u8> {
    let mut bytes = io::Cursor::new(Vec::new());
    write(content, wall, &mut bytes).expect("memory takes all");
    bytes.into_inner()
}

/// Reads a snapshot.
pub fn decode(text: &str) -> Result<Snapshot, Unusable> {
    if !is_snapshot(text) {
        return Err(Unusable::Foreign);
    }
    let (header, body) = text.split_once('\n').ok_or(Unusable::Damaged)?;
    let number: String = header[START.len()..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    if number.parse::<u32>().is_ok_and(|format| format > FORMAT) {
        return Err(Unusable::Newer);
    }
    let header: Header = serde_json::from_str(header).map_err(|_| Unusable::Damaged)?;
    if header.gatewright_snapshot != FORMAT || header.sha256 != digest(body) {
        return Err(Unusable::Damaged);
    }
    serde_json::from_str(body).map_err(|_| Unusable::Damaged)
}

/// Whether a text begins as a snapshot does.
pub fn is_snapshot(text: &str) -> bool {
    text.starts_with(START)
}

impl Snapshot {
    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Whether a query is answered here.
    pub fn has(&self, query: &Query) -> bool {
        self.queries.contains_key(&query.to_string())
    }

    /// The same without its answers.
    pub fn without_answers(&self) -> Snapshot {
        Snapshot {
            revision: self.revision.clone(),
            canary_seen: self.canary_seen.clone(),
            queries: BTreeMap::new(),
            catalog: Fixture::default(),
            templates: None,
        }
    }

    /// The answer to a query, if it is here. `wall` is the time in seconds since 1970.
    pub fn recall(&self, query: &Query, wall: u64) -> Option<Recalled> {
        let about = self.queries.get(&query.to_string())?;
        Some(Recalled {
            answer: Arc::new(self.catalog.answer(query).ok()?),
            age: Duration::from_secs(wall.saturating_sub(about.read_at)),
            reference: about.reference,
            eased: about.eased,
        })
    }
}

/// A value that is no text cannot be kept in a fixture; without its answer nothing is rendered,
/// which is better than from an empty one.
fn is_text(answer: &Answer) -> bool {
    match answer {
        Answer::Key(Some(key)) => key.value.is_some(),
        Answer::Tree(keys) => keys.iter().all(|key| key.value.is_some()),
        _ => true,
    }
}

/// What shows that a text is stored as it was written: its SHA-256, in hexadecimal digits.
pub fn digest(text: &str) -> String {
    hexadecimal(&ring::digest::digest(&SHA256, text.as_bytes()))
}

fn hexadecimal(digest: &Digest) -> String {
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::{Instance, Kind, Meta, Node, Pairs, Status};

    fn content() -> Content {
        let instance = |node: &str, id: &str| Instance {
            node: Arc::new(Node {
                id: "uuid".into(),
                address: "10.0.0.9".into(),
                datacenter: "dc1".into(),
                tagged_addresses: Meta::from([("lan".into(), "10.0.0.9".into())]),
                ..Node::named(node)
            }),
            service_tagged_addresses: Pairs::from([("wan".into(), ("1.2.3.4".into(), 8080))]),
            service_meta: Meta::from([("version".into(), "\u{1}\"2\"".into())]),
            tags: ["a".into()].into(),
            status: Status::Warning,
            weight_passing: 10,
            weight_warning: 2,
            ..Instance::plain("web", node, id, "10.0.0.1", 80)
        };
        let mut nearest = Query::service("web");
        if let Kind::Service { near, .. } = &mut nearest.kind {
            *near = Some("_agent".into());
        }
        let kept = |query: Query, answer: Answer| Kept {
            answer: Arc::new(answer),
            age: Duration::from_secs(7),
            reference: 3,
            eased: query == Query::service("web"),
            query,
        };
        let value = |value: Option<&str>| {
            Answer::Key(Some(crate::catalog::KeyValue {
                path: "k".into(),
                value: value.map(str::to_owned),
            }))
        };
        Content {
            revision: "0123456789ab".into(),
            answers: vec![
                kept(
                    Query::service("web"),
                    Answer::Instances(vec![instance("a", "1"), instance("b", "2")]),
                ),
                // Consul's order is kept where it was asked for.
                kept(
                    nearest,
                    Answer::Instances(vec![instance("b", "2"), instance("a", "1")]),
                ),
                kept(Query::key("k"), value(Some("v"))),
                kept(Query::key("binary"), value(None)),
                kept(Query::key("absent"), Answer::Key(None)),
            ],
            canary_seen: vec![None],
            templates: "web \"{{x}}\"\n".into(),
        }
    }

    #[test]
    fn a_snapshot_gives_back_what_was_kept() {
        let content = content();
        let text = String::from_utf8(encode(&content, 1_000)).unwrap();
        let snapshot = decode(&text).unwrap();
        assert_eq!(snapshot.revision, content.revision);
        assert_eq!(snapshot.canary_seen, content.canary_seen);
        assert_eq!(snapshot.templates.as_deref(), Some(&*content.templates));
        for kept in &content.answers {
            let recalled = snapshot.recall(&kept.query, 1_100);
            if kept.query == Query::key("binary") {
                assert_eq!(recalled, None);
                continue;
            }
            let recalled = recalled.unwrap();
            assert_eq!(recalled.answer, kept.answer, "{}", kept.query);
            assert_eq!(recalled.age, Duration::from_secs(107));
            assert_eq!((recalled.reference, recalled.eased), (3, kept.eased));
        }
        assert_eq!(snapshot.recall(&Query::service("other"), 1_100), None);
        assert!(snapshot.has(&Query::key("absent")) && !snapshot.has(&Query::key("other")));
        let bare = snapshot.without_answers();
        assert_eq!(bare.recall(&Query::service("web"), 1_100), None);
        assert_eq!(
            (bare.is_empty(), bare.revision),
            (true, snapshot.revision.clone())
        );
        // A clock that was set back makes nothing younger than now.
        let recalled = snapshot.recall(&Query::service("web"), 0).unwrap();
        assert_eq!(recalled.age, Duration::ZERO);
    }

    // E12
    #[test]
    fn a_damaged_foreign_or_newer_snapshot_is_refused_as_a_whole() {
        let text = String::from_utf8(encode(&content(), 1_000)).unwrap();
        assert_eq!(decode(""), Err(Unusable::Foreign));
        assert_eq!(decode("{}\n"), Err(Unusable::Foreign));
        assert_eq!(
            decode(&text.replace("\"Port\":80", "\"Port\":81")),
            Err(Unusable::Damaged)
        );
        let newer = text.replacen("snapshot\":1", "snapshot\":2", 1);
        assert_eq!(decode(&newer), Err(Unusable::Newer));
        for length in 0..text.len() {
            if let Some(part) = text.get(..length) {
                assert!(decode(part).is_err(), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,80}") {
            let _ = decode(&text);
            let _ = decode(&format!("{START}{text}"));
            let _ = decode(&format!("{START}1\n{text}"));
        }
    }
}
