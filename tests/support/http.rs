//! The smallest HTTP/1.1 client that will do: one request, one connection, the whole answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines as sent, without the status line.
    pub head: String,
    /// The body, put together when it came in chunks.
    pub body: String,
}

/// GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    request(address, "GET", path, "", Duration::from_secs(10))
}

/// GET of a host on a connection of its own.
pub fn get_from(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    send(address, "GET", host, path, "", Duration::from_secs(10))
}

/// PUT on a connection of its own.
pub fn put(address: SocketAddr, path: &str, body: &str) -> io::Result<Answer> {
    request(address, "PUT", path, body, Duration::from_secs(10))
}

/// One request; `limit` holds for the connect and for each read.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> io::Result<Answer> {
    send(address, method, &address.to_string(), path, body, limit)
}

fn send(
    address: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} bytes that are no whole HTTP answer", bytes.len()),
        )
    })
}

/// One request with a body of any bytes; the status and the body of its answer, as it came.
pub fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
    limit: Duration,
) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // By version 1.0 the answer comes in one piece.
    let length = body.len();
    stream.write_all(
        format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|at| at == b"\r\n\r\n");
    let status = String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok());
    match (end, status) {
        (Some(end), Some(status)) => Ok((status, answer.split_off(end + 4))),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} bytes that are no HTTP answer", answer.len()),
        )),
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (status_line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let body = if header(head, "transfer-encoding").is_some_and(|value| value == "chunked") {
        unchunk(body)?
    } else {
        match header(head, "content-length") {
            Some(length) => body.get(..length.parse().ok()?)?.to_owned(),
            None => body.to_owned(),
        }
    };
    Some(Answer {
        status,
        head: head.to_owned(),
        body,
    })
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// The value of a header; `name` in lower case.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
