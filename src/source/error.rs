//! What can go wrong with one read, as data with a class, and the sentence a person reads.
//!
//! The text never holds a token: it is built from the address, the path and a cleaned detail.

use std::fmt;
use std::time::Duration;

use super::Origin;

/// The class of a failure, for metrics and for deciding what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// No connection, or it was lost before the answer was whole.
    Unreachable,
    /// A deadline passed: for connecting, for the first byte or for the body.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// What came is not an answer of the catalog: a redirect, another content type, nonsense.
    Protocol,
    /// The answer exceeds the cap on decoded bytes.
    TooLarge,
    /// 401 or 403: the token is unknown or lacks rights.
    Forbidden,
    /// 429: asked to slow down.
    Throttled,
    /// 400: Consul does not accept the question, for example its filter expression.
    Rejected,
    /// A 5xx other than "No cluster leader".
    Server,
    /// 500 "No cluster leader".
    NoLeader,
    /// The question cannot be written as a request, so none was sent.
    Unaskable,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [ErrorClass; 11] = [
        ErrorClass::Unreachable,
        ErrorClass::Timeout,
        ErrorClass::Tls,
        ErrorClass::Protocol,
        ErrorClass::TooLarge,
        ErrorClass::Forbidden,
        ErrorClass::Throttled,
        ErrorClass::Rejected,
        ErrorClass::Server,
        ErrorClass::NoLeader,
        ErrorClass::Unaskable,
    ];

    /// A stable word, for metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Unreachable => "unreachable",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Tls => "tls",
            ErrorClass::Protocol => "protocol",
            ErrorClass::TooLarge => "too_large",
            ErrorClass::Forbidden => "forbidden",
            ErrorClass::Throttled => "throttled",
            ErrorClass::Rejected => "rejected",
            ErrorClass::Server => "server",
            ErrorClass::NoLeader => "no_leader",
            ErrorClass::Unaskable => "unaskable",
        }
    }

    /// Whether every other query is likely to fail for the same reason.
    pub(super) fn concerns_all(self) -> bool {
        matches!(
            self,
            ErrorClass::Unreachable | ErrorClass::Timeout | ErrorClass::NoLeader
        )
    }

    /// Whether another address may do better.
    pub(super) fn blames_address(self) -> bool {
        matches!(
            self,
            ErrorClass::Unreachable
                | ErrorClass::Timeout
                | ErrorClass::Tls
                | ErrorClass::Protocol
                | ErrorClass::Server
                | ErrorClass::NoLeader
        )
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Why one read gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// What was asked.
    pub origin: Origin,
    /// The class.
    pub class: ErrorClass,
    /// The address that was asked.
    pub address: String,
    /// What was asked for: a path without parameters, or a command.
    pub path: String,
    /// What happened, cleaned of control characters and secrets, without a final full stop.
    pub detail: String,
    /// The status of an HTTP answer that is a refusal.
    pub status: Option<u16>,
    /// How long the other side asked to be left alone, already capped.
    pub retry_after: Option<Duration>,
}

impl ReadError {
    /// An error of Consul; `detail` is cleaned here.
    pub(super) fn new(class: ErrorClass, address: &str, path: &str, detail: &str) -> ReadError {
        ReadError::of(Origin::Consul, class, address, path, detail)
    }

    /// An error of any source; `detail` is cleaned here.
    pub(super) fn of(
        origin: Origin,
        class: ErrorClass,
        address: &str,
        path: &str,
        detail: &str,
    ) -> ReadError {
        ReadError {
            origin,
            class,
            address: address.to_owned(),
            path: path.to_owned(),
            detail: clean(detail),
            status: None,
            retry_after: None,
        }
    }
}

impl std::error::Error for ReadError {}

impl ReadError {
    /// Whether the cause is the query, by its name or by the size of its answer: other queries need not fail.
    pub fn blames_query(&self) -> bool {
        let class = self.class;
        matches!(
            class,
            ErrorClass::Rejected | ErrorClass::Unaskable | ErrorClass::TooLarge
        ) || matches!(self.status, Some(301 | 308 | 404))
    }

    /// What is wrong with the catalog itself, as a whole sentence; without what was asked for.
    pub fn of_all(&self) -> String {
        self.sentence("")
    }

    fn sentence(&self, wanted: &str) -> String {
        let ReadError {
            address, detail, ..
        } = self;
        let (what, remedy) = match self.origin {
            Origin::Consul => of_consul(self.class),
            Origin::Serf => of_serf(self.class),
            Origin::File => (
                "cannot be used",
                "Correct it; what was read before stays in force.",
            ),
        };
        let who = match self.origin {
            Origin::Serf => "Serf's agent",
            origin => origin.name(),
        };
        format!("{who} at {address} {what}{wanted}: {detail}. {remedy}")
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.sentence(&format!(" for {}", self.path)))
    }
}

fn of_consul(class: ErrorClass) -> (&'static str, &'static str) {
    match class {
        ErrorClass::Unreachable => (
            "cannot be reached",
            "Check that the agent runs and that the address is right.",
        ),
        ErrorClass::Timeout => (
            "did not answer in time",
            "Check the agent's load and the network between.",
        ),
        ErrorClass::Tls => (
            "failed the TLS handshake",
            "Check the CA, the client certificate and the server name.",
        ),
        ErrorClass::Protocol => (
            "sent something that is no answer of Consul",
            "Check that the address is Consul's HTTP API.",
        ),
        ErrorClass::TooLarge => (
            "sent too large an answer",
            "Narrow the query or raise the cap on the body.",
        ),
        ErrorClass::Forbidden => (
            "forbids the read",
            "Check the token and its policy; a token file is read again by itself.",
        ),
        ErrorClass::Throttled => (
            "asks for fewer requests",
            "Use fewer queries or raise the agent's limits.",
        ),
        ErrorClass::Rejected => (
            "rejected the query",
            "Correct the query; a filter expression is the usual cause.",
        ),
        ErrorClass::Server => (
            "answered with a server error",
            "See the agent's log; the query is repeated by itself.",
        ),
        ErrorClass::NoLeader => (
            "has no cluster leader",
            "Restore the quorum of the servers, or allow stale reads.",
        ),
        ErrorClass::Unaskable => (
            "was not asked",
            "Correct the name or the path in the template.",
        ),
    }
}

fn of_serf(class: ErrorClass) -> (&'static str, &'static str) {
    match class {
        ErrorClass::Unreachable => (
            "cannot be reached",
            "Check that the agent runs and that the address is its rpc-addr.",
        ),
        ErrorClass::Timeout => (
            "did not answer in time",
            "Check the agent's load and the network between.",
        ),
        ErrorClass::Forbidden => (
            "refuses us",
            "Check serf.auth_key_file against the agent's rpc_auth.",
        ),
        ErrorClass::TooLarge => ("sent too large an answer", "Raise serf.max_answer."),
        ErrorClass::NoLeader => (
            "is alone",
            "Let it join the cluster again; what was known before stays in force.",
        ),
        ErrorClass::Unaskable => (
            "was not asked",
            "Take the query out of the template, or read Consul.",
        ),
        _ => (
            "sent something that is no answer of Serf",
            "Check that the address is the agent's rpc-addr.",
        ),
    }
}

/// One short line out of anything: control characters become spaces, the end is cut.
pub(super) fn clean(text: &str) -> String {
    const MOST: usize = 300;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(MOST));
        if line.chars().count() >= MOST {
            line = line.chars().take(MOST).collect();
            line.push('…');
            break;
        }
    }
    line.trim_end_matches(['.', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_whole_sentence_with_a_remedy() {
        let error = ReadError::new(
            ErrorClass::Unreachable,
            "http://127.0.0.1:8500",
            "/v1/kv/a",
            "Connection refused\r\n (os error 111).",
        );
        assert_eq!(
            error.to_string(),
            "Consul at http://127.0.0.1:8500 cannot be reached for /v1/kv/a: Connection refused (os error 111). \
             Check that the agent runs and that the address is right."
        );
    }

    #[test]
    fn a_detail_is_one_short_line() {
        assert_eq!(clean("a\0b\n\nc."), "a b c");
        assert!(clean(&"x".repeat(5000)).chars().count() <= 301);
    }
}
