//! All instances at once: one listener on every loopback address answers each request by the address
//! that HAProxy connected to, and closes the connection.
//!
//! A connection serves one request because HAProxy 2.6.12 keeps a busy connection to the old address
//! after `set server addr` (see `servers`).

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use support::{Outcome, ports};

/// Listens until the runtime ends, and says on which port.
pub fn start(runtime: &Handle) -> Outcome<u16> {
    let [port] = ports::free()?;
    let listener = runtime
        .block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .map_err(|error| format!("The instances cannot listen on port {port}: {error}."))?;
    runtime.spawn(async move {
        loop {
            // An error concerns one connection; the listener continues.
            if let Ok((stream, peer)) = listener.accept().await
                && peer.ip().is_loopback()
            {
                tokio::spawn(answer(stream));
            }
        }
    });
    Ok(port)
}

/// Requests have no body, so the blank line ends each. HAProxy's checks send nothing.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let name = stream.local_addr()?.ip().to_string();
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 || request.len() > 16 << 10 {
            return Ok(());
        }
    }
    let length = name.len();
    let text =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{name}");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
