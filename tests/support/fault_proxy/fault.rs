//! What the fault proxy can do with a request, and ready-made answers that no Consul gives.

use std::io::Write as _;
use std::time::Duration;

/// What is done with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing: it is passed on, and so is the answer.
    Pass,
    /// It is taken and never answered; the connection stays open.
    Swallow,
    /// The connection is reset.
    Reset,
    /// The connection is closed, as Consul closes one that was idle.
    Close,
    /// It is passed on after this time.
    Delay(Duration),
    /// The body of the real answer goes out byte by byte, one each time.
    Trickle(Duration),
    /// The real answer ends after so many bytes, its head counted.
    CutAt(usize),
    /// The real answer with another index; the request is not held.
    Index(Index),
    /// The real answer with other parts.
    Change(Change),
    /// These bytes instead of an answer.
    Answer(Vec<u8>),
    /// The same, and the connection is closed.
    AnswerAndClose(Vec<u8>),
    /// These bytes, then a space each time for as long as the client takes them.
    Drip(Vec<u8>, Duration),
}

/// Parts of an answer that are replaced.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Such as `503 Service Unavailable`.
    pub status: Option<String>,
    /// Such as `Date: Thu, 01 Jan 1970 00:00:00 GMT`; each replaces the one of its name.
    pub headers: Vec<String>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

/// What `X-Consul-Index` says.
#[derive(Debug, Clone)]
pub enum Index {
    /// 0.
    Zero,
    /// The header is not there.
    Missing,
    /// One lower each time.
    Falling,
    /// 900 and 500 in turn.
    Alternating,
    /// One higher each time.
    Rising,
    /// Two different headers.
    Two,
    /// The same text each time.
    Text(String),
}

impl Index {
    /// The values of the header in the answer of this number.
    pub fn values(&self, number: u64) -> Vec<String> {
        match self {
            Index::Zero => vec!["0".to_owned()],
            Index::Missing => Vec::new(),
            Index::Falling => vec![(1_000_000 - number.min(999_999)).to_string()],
            Index::Alternating => vec![[900, 500][(number % 2) as usize].to_string()],
            Index::Rising => vec![(1_000_000 + number).to_string()],
            Index::Two => vec!["41".to_owned(), "42".to_owned()],
            Index::Text(text) => vec![text.clone()],
        }
    }
}

/// A whole answer.
pub fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend(format!("{header}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

/// A 200 that looks as if Consul had sent it.
pub fn json(body: &str) -> Vec<u8> {
    let headers = ["Content-Type: application/json", "X-Consul-Index: 7"];
    answer("200 OK", &headers, body.as_bytes())
}

/// A redirect.
pub fn redirect(status: &str, to: &str) -> Vec<u8> {
    answer(status, &[&format!("Location: {to}")], b"")
}

/// An answer of some hundred KB that unpacks to `megabytes` of white space and an empty list.
pub fn gzip_bomb(megabytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let space = vec![b' '; 1 << 20];
    for _ in 0..megabytes {
        // Writing into a Vec cannot fail.
        let _ = encoder.write_all(&space);
    }
    let _ = encoder.write_all(b"[]");
    let body = encoder.finish().unwrap_or_default();
    let headers = [
        "Content-Type: application/json",
        "Content-Encoding: gzip",
        "X-Consul-Index: 7",
    ];
    answer("200 OK", &headers, &body)
}
