//! The instances that traffic reaches: small HTTP servers on loopback ports, all in this process,
//! that answer their own name. They live until the program ends.
//!
//! HAProxy 2.6.12 goes on with a connection on which a request was on its way when `set server addr`
//! changed its server's address: a client that is never silent stays with the old instance for ever
//! (2.8, 3.0 and 3.2 do not; by experiment). Where that is not what is measured, [`CLOSE`] asks the
//! instance to close its connection after the answer, so that each request needs a new one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use support::Outcome;

/// Behind a path: close the connection after the answer.
pub const CLOSE: &str = "?close";

/// Connections that any server has accepted.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);

/// How many connections all servers together have accepted so far.
pub fn accepted() -> u64 {
    ACCEPTED.load(Ordering::Relaxed)
}

/// A running server.
#[derive(Debug, Clone)]
pub struct Server {
    /// What it answers.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Starts `count` of them, named `s0`, `s1`, ….
pub fn start(runtime: &Handle, count: usize) -> Outcome<Vec<Server>> {
    (0..count)
        .map(|number| {
            runtime
                .block_on(listen(format!("s{number}")))
                .map_err(|error| format!("A server cannot listen on loopback: {error}."))
        })
        .collect()
}

async fn listen(name: String) -> std::io::Result<Server> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let answer = |header: &str| -> Arc<[u8]> {
        let length = name.len();
        format!("HTTP/1.1 200 OK\r\n{header}Content-Length: {length}\r\n\r\n{name}")
            .into_bytes()
            .into()
    };
    let answers = [answer(""), answer("Connection: close\r\n")];
    tokio::spawn(async move {
        loop {
            // An error is one connection's; the listener goes on.
            if let Ok((stream, _)) = listener.accept().await {
                ACCEPTED.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, answers.clone()));
            }
        }
    });
    Ok(Server { name, address })
}

/// Requests have no body and come one at a time, so the blank line ends each.
async fn serve(mut stream: TcpStream, answers: [Arc<[u8]>; 2]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.ok()?;
        if count == 0 {
            return None;
        }
        filled += count;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            let line = buffer[..filled].split(|byte| *byte == b'\r').next()?;
            let close = line
                .windows(CLOSE.len())
                .any(|part| part == CLOSE.as_bytes());
            stream.write_all(&answers[usize::from(close)]).await.ok()?;
            if close {
                return stream.shutdown().await.ok();
            }
            filled = 0;
        } else if filled == buffer.len() {
            return None;
        }
    }
}
