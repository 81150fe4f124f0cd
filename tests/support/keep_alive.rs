//! An HTTP/1.1 client that keeps its connection. It knows what a browser may retry from what is a loss:
//! only an answer that says `Connection: close` ends a connection well.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::http::{Answer, header};

/// For the connect and for each read.
const LIMIT: Duration = Duration::from_secs(30);

/// One client with at most one connection.
pub struct KeepAlive {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl KeepAlive {
    /// Connects at the first request.
    pub fn new(address: SocketAddr) -> KeepAlive {
        KeepAlive {
            address,
            connection: None,
        }
    }

    /// Ends the connection; the next request opens another one.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Whether the connection is kept for a next request.
    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// GET on the kept connection. After an error there is none.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, LIMIT)?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        connection.get_mut().write_all(request.as_bytes())?;
        let answer = read(&mut connection)?;
        if header(&answer.head, "connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

/// One answer with a `Content-Length`; anything else is an error.
fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let strange = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let mut lines = String::new();
    loop {
        let before = lines.len();
        if connection.read_line(&mut lines)? == 0 {
            return Err(match before {
                0 => io::Error::new(ErrorKind::UnexpectedEof, "closed instead of an answer"),
                _ => io::Error::new(ErrorKind::UnexpectedEof, "closed within the headers"),
            });
        }
        if &lines[before..] == "\r\n" {
            break;
        }
    }
    let (status_line, head) = lines.split_once("\r\n").unwrap_or((&lines, ""));
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| strange("no status line"))?;
    let length = header(head, "content-length")
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| strange("no Content-Length"))?;
    let mut body = vec![0; length];
    connection
        .read_exact(&mut body)
        .map_err(|error| io::Error::new(error.kind(), "closed within the body"))?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
