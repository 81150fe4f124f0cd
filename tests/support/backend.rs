//! A small HTTP server that answers its own name, with a health that can be switched.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Outcome, ports};

/// A running server. When dropped its port is closed and its connections are cut.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    healthy: AtomicBool,
    closing: AtomicBool,
    requests: AtomicU64,
    checks: AtomicU64,
    delay: Mutex<Duration>,
    holding: AtomicBool,
    held: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
}

impl Backend {
    /// Listens on a loopback port of its own.
    pub fn start(name: &str) -> Outcome<Backend> {
        let [port] = ports::free()?;
        Backend::start_on(name, port)
    }

    /// Listens on the given loopback port.
    pub fn start_on(name: &str, port: u16) -> Outcome<Backend> {
        Backend::start_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Listens on the given loopback address; the system gives the port where that is 0.
    pub fn start_at(name: &str, at: SocketAddr) -> Outcome<Backend> {
        let failed = |error: io::Error| format!("Backend {name} cannot listen: {error}.");
        let listener = TcpListener::bind(at).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            healthy: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            delay: Mutex::new(Duration::ZERO),
            holding: AtomicBool::new(false),
            held: AtomicU64::new(0),
            connections: Mutex::new(Vec::new()),
        });
        let served = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &served));
        Ok(Backend {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it answers.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many requests it answered, without those for `/health`.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many requests for `/health` it answered.
    pub fn checks(&self) -> u64 {
        self.shared.checks.load(Ordering::Relaxed)
    }

    /// Makes requests for `/hold` wait until this is taken back, or lets them go on.
    pub fn hold(&self, holding: bool) {
        self.shared.holding.store(holding, Ordering::Relaxed);
    }

    /// How many requests wait for that.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// Sets what `/health` says: 200 or 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Makes each further answer wait.
    pub fn set_delay(&self, delay: Duration) {
        if let Ok(mut current) = self.shared.delay.lock() {
            *current = delay;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        if let Ok(connections) = self.shared.connections.lock() {
            for connection in connections.iter() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if let (Ok(mut connections), Ok(copy)) = (shared.connections.lock(), stream.try_clone()) {
            // Those that the other side closed have no peer any more.
            connections.retain(|connection| connection.peer_addr().is_ok());
            connections.push(copy);
        }
        let served = Arc::clone(shared);
        std::thread::spawn(move || serve(&stream, &served));
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    stream.set_nodelay(true).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            break;
        }
        let mut keep = line.contains("HTTP/1.1");
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).ok()? == 0 || header.trim().is_empty() {
                break;
            }
            let header = header.to_ascii_lowercase();
            keep &= !(header.starts_with("connection:") && header.contains("close"));
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        io::copy(&mut io::Read::take(&mut reader, length), &mut io::sink()).ok()?;
        answer(stream, shared, &line, keep).ok()?;
        if !keep {
            break;
        }
    }
    stream.shutdown(Shutdown::Both).ok()
}

fn answer(mut stream: &TcpStream, shared: &Shared, line: &str, keep: bool) -> io::Result<()> {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("/"));
    let mut status = "200 OK";
    match (method, path) {
        ("PUT", "/health/fail") => shared.healthy.store(false, Ordering::Relaxed),
        ("PUT", "/health/pass") => shared.healthy.store(true, Ordering::Relaxed),
        (_, "/health") => {
            shared.checks.fetch_add(1, Ordering::Relaxed);
            if !shared.healthy.load(Ordering::Relaxed) {
                status = "503 Service Unavailable";
            }
        }
        _ => {
            let delay = shared.delay.lock().map(|delay| *delay).unwrap_or_default();
            std::thread::sleep(delay);
            if path == "/hold" {
                shared.held.fetch_add(1, Ordering::Relaxed);
                while shared.holding.load(Ordering::Relaxed)
                    && !shared.closing.load(Ordering::Relaxed)
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                shared.held.fetch_sub(1, Ordering::Relaxed);
            }
            shared.requests.fetch_add(1, Ordering::Relaxed);
        }
    }
    let connection = if keep { "keep-alive" } else { "close" };
    let name = &shared.name;
    // One write, so that a client sees either nothing or the whole.
    stream.write_all(
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{name}",
            name.len()
        )
        .as_bytes(),
    )
}
