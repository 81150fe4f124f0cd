//! One HTTP/1.1 connection that is kept: a request can be sent and its answer read later, so that
//! other work goes on between the two. It never sends a request twice; what fails is an error.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use support::Outcome;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of `X-Consul-Index`.
    pub index: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the other side will close the connection.
    pub closes: bool,
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects; `limit` holds for the connect and each read and write.
    pub fn open(address: SocketAddr, limit: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
        })
    }

    /// A handle that ends whatever waits on this connection.
    pub fn closer(&self) -> io::Result<Closer> {
        self.stream.try_clone().map(Closer)
    }

    /// Sends a request, as [`request`] writes it.
    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// Reads the answer to the oldest request.
    pub fn receive(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, used)) = parse(&self.buffer)? {
                self.buffer.drain(..used);
                return Ok(answer);
            }
            self.fill()?;
        }
    }

    /// Reads Consul's answer to a change.
    pub fn confirmed(&mut self) -> Outcome<()> {
        let answer = self
            .receive()
            .map_err(|error| format!("Consul did not answer: {error}."))?;
        match answer.status {
            200 => Ok(()),
            status => Err(format!(
                "Consul answered by {status}: {}",
                String::from_utf8_lossy(&answer.body)
            )),
        }
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request)?;
        self.receive()
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        let count = self.stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

/// Ends a connection from elsewhere.
pub struct Closer(TcpStream);

impl Closer {
    /// Whoever reads sees the end.
    pub fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A request as bytes.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The first whole answer in `bytes` and how many of them it takes; `None` when more must come.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP status line"))?;
    let mut answer = Answer {
        status,
        index: None,
        body: Vec::new(),
        closes: false,
    };
    let (mut length, mut chunked) = (0, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => answer.closes = value.eq_ignore_ascii_case("close"),
            "x-consul-index" => answer.index = value.parse().ok(),
            _ => {}
        }
    }
    let start = end + 4;
    if !chunked {
        let Some(body) = bytes.get(start..start + length) else {
            return Ok(None);
        };
        answer.body = body.to_vec();
        return Ok(Some((answer, start + length)));
    }
    let mut at = start;
    loop {
        let Some(line) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let digits = String::from_utf8_lossy(&bytes[at..at + line]);
        let size = usize::from_str_radix(digits.trim(), 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk without a size"))?;
        at += line + 2;
        let Some(chunk) = bytes.get(at..at + size) else {
            return Ok(None);
        };
        answer.body.extend_from_slice(chunk);
        at += size + 2;
        if bytes.len() < at {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some((answer, at)));
        }
    }
}
