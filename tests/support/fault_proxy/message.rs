//! HTTP/1.1 messages as bytes: read whole, changed where a fault says so, else left as they came.

use std::io::{ErrorKind, Read, Write as _};
use std::net::TcpStream;

use super::super::http;
use super::fault::Change;

/// A message: the head with its empty line, and the body as it is on the wire, chunks and all.
#[derive(Debug, Clone)]
pub struct Message {
    head: String,
    body: Vec<u8>,
}

/// What came of waiting for one.
pub enum Incoming {
    /// A whole message.
    Whole(Message),
    /// The other side closed or broke the connection.
    Ended,
    /// The wait was given up.
    Stopped,
}

/// Reads messages off a stream whose reads time out soon.
pub struct Reader {
    stream: TcpStream,
    /// What came beyond the last message.
    rest: Vec<u8>,
}

impl Reader {
    pub fn new(stream: TcpStream) -> Reader {
        Reader {
            stream,
            rest: Vec::new(),
        }
    }

    /// Waits for the next message. `answer` says whether a missing length means "until the end".
    pub fn message(&mut self, answer: bool, stop: impl Fn() -> bool) -> Incoming {
        let mut buffer = [0; 64 * 1024];
        let mut ended = false;
        loop {
            if let Some((message, length)) = whole(&self.rest, answer, ended) {
                self.rest.drain(..length);
                return Incoming::Whole(message);
            }
            if ended {
                return Incoming::Ended;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(error) if waits(&error) => {
                    if stop() {
                        return Incoming::Stopped;
                    }
                }
                Err(_) => return Incoming::Ended,
            }
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Throws away what comes; false when nothing will come any more.
    pub fn discard(&mut self) -> bool {
        match self.stream.read(&mut [0; 4096]) {
            Ok(count) => count > 0,
            Err(error) => waits(&error),
        }
    }

    /// Whether the other side has closed.
    pub fn is_closed(&self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return true;
        }
        let closed = match self.stream.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => !waits(&error),
        };
        self.stream.set_nonblocking(false).is_err() || closed
    }
}

fn waits(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// The first message in `bytes`, if all of it is there, and its length.
fn whole(bytes: &[u8], answer: bool, ended: bool) -> Option<(Message, usize)> {
    let start = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..start]).into_owned();
    let rest = &bytes[start..];
    let status = head.split(' ').nth(1).unwrap_or_default();
    let chunked = http::header(&head, "transfer-encoding").is_some();
    let length = if answer && (status == "204" || status == "304") {
        0
    } else if chunked {
        find(rest, b"0\r\n\r\n").filter(|at| *at == 0 || rest[at - 1] == b'\n')? + 5
    } else {
        match http::header(&head, "content-length") {
            Some(length) => length.parse().ok()?,
            None if !answer => 0,
            None if ended => rest.len(),
            None => return None,
        }
    };
    let body = rest.get(..length)?.to_vec();
    Some((Message { head, body }, start + length))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl Message {
    pub fn head(&self) -> String {
        self.head.clone()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        (self.head.clone().into_bytes(), self.body.clone())
    }

    /// Whether the connection ends after it.
    pub fn closes(&self) -> bool {
        let length = http::header(&self.head, "content-length").is_some()
            || http::header(&self.head, "transfer-encoding").is_some();
        let close = http::header(&self.head, "connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let status = self.head.split(' ').nth(1).unwrap_or_default();
        close || !(length || status == "204")
    }

    /// Takes `index` and `wait` out of the request.
    pub fn without_blocking(&mut self) {
        let Some((line, rest)) = self.head.split_once("\r\n") else {
            return;
        };
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if let Some((path, parameters)) = words.get(1).and_then(|target| target.split_once('?')) {
            let kept: Vec<&str> = parameters
                .split('&')
                .filter(|one| !one.starts_with("index=") && !one.starts_with("wait="))
                .collect();
            words[1] = format!("{path}?{}", kept.join("&"));
        }
        self.head = format!("{}\r\n{rest}", words.join(" "));
    }

    /// Takes a header out; `name` in lower case.
    pub fn without_header(&mut self, name: &str) {
        self.head = self
            .head
            .split_inclusive("\r\n")
            .filter(|line| {
                line.split_once(':')
                    .is_none_or(|(key, _)| !key.eq_ignore_ascii_case(name))
            })
            .collect();
    }

    /// The answer with other values of `X-Consul-Index`.
    pub fn with_index(&self, values: &[String]) -> Message {
        let mut message = self.clone();
        message.without_header("x-consul-index");
        let lines: String = values
            .iter()
            .map(|value| format!("X-Consul-Index: {value}\r\n"))
            .collect();
        message.head.truncate(message.head.len() - 2);
        message.head = format!("{}{lines}\r\n", message.head);
        message
    }

    /// The answer with another status, headers or body.
    pub fn changed(&self, change: &Change) -> Message {
        let mut message = self.clone();
        if let Some(status) = &change.status {
            let rest = message.head.split_once("\r\n").map_or("", |(_, rest)| rest);
            message.head = format!("HTTP/1.1 {status}\r\n{rest}");
        }
        if let Some(body) = &change.body {
            message.without_header("content-length");
            message.without_header("transfer-encoding");
            message.body.clone_from(body);
            message.add_header(&format!("Content-Length: {}", body.len()));
        }
        for header in &change.headers {
            let name = header.split(':').next().unwrap_or_default();
            message.without_header(&name.to_ascii_lowercase());
            message.add_header(header);
        }
        message
    }

    fn add_header(&mut self, line: &str) {
        self.head.truncate(self.head.len() - 2);
        self.head = format!("{}{line}\r\n\r\n", self.head);
    }
}
