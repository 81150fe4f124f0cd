//! A proxy in front of Consul's HTTP address that does wrong on purpose, switchable at any time.
//!
//! Each connection of a client has one to Consul. It changes nothing unless it was told to, and it never
//! delays small writes: Nagle's algorithm with delayed acknowledgements would hide a busy loop.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect as connect_socket, socket, sockopt};

use super::{Outcome, ports};

pub mod fault;
mod message;

pub use fault::Fault;
use message::{Incoming, Reader};

/// How often a connection that waits looks whether something was switched.
const LOOK: Duration = Duration::from_millis(20);

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// When.
    pub at: Instant,
    /// The number of its connection, from 0.
    pub connection: u64,
    /// Path and parameters.
    pub target: String,
    /// The whole head.
    pub head: String,
}

impl Request {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        super::http::header(&self.head, name)
    }
}

/// A running proxy. When dropped its port is closed and its connections are cut.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    /// The address that connections to Consul come from, where that counts.
    source: Option<Ipv4Addr>,
    closing: AtomicBool,
    accepted: AtomicU64,
    swallow_new: AtomicBool,
    rules: Mutex<Vec<(String, Fault)>>,
    connections: Mutex<BTreeMap<u64, Connection>>,
    log: Mutex<Vec<Request>>,
    answers: AtomicU64,
}

/// What is known of a connection besides the thread that serves it.
struct Connection {
    client: TcpStream,
    swallowed: Arc<AtomicBool>,
}

impl FaultProxy {
    /// Listens on a loopback port of its own.
    pub fn start(upstream: SocketAddr) -> Outcome<FaultProxy> {
        FaultProxy::launch(own()?, None, upstream)
    }

    /// As [`FaultProxy::start`], with connections to Consul that come from another loopback address:
    /// Consul counts connections by it.
    pub fn start_from(source: Ipv4Addr, upstream: SocketAddr) -> Outcome<FaultProxy> {
        FaultProxy::launch(own()?, Some(source), upstream)
    }

    /// Listens on the given loopback address.
    pub fn start_at(at: SocketAddr, upstream: SocketAddr) -> Outcome<FaultProxy> {
        FaultProxy::launch(at, None, upstream)
    }

    fn launch(
        at: SocketAddr,
        source: Option<Ipv4Addr>,
        upstream: SocketAddr,
    ) -> Outcome<FaultProxy> {
        let failed = |error: std::io::Error| format!("The fault proxy cannot listen: {error}.");
        let listener = TcpListener::bind(at).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            source,
            closing: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            swallow_new: AtomicBool::new(false),
            rules: Mutex::default(),
            connections: Mutex::default(),
            log: Mutex::default(),
            answers: AtomicU64::new(0),
        });
        let served = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &served));
        Ok(FaultProxy {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this with every request to come for which nothing else was set.
    pub fn set(&self, fault: Fault) {
        self.set_for("", fault);
    }

    /// Does this with every request to come whose head holds `text`. What was set last wins.
    pub fn set_for(&self, text: &str, fault: Fault) {
        let mut rules = lock(&self.shared.rules);
        rules.retain(|(known, _)| known != text);
        rules.push((text.to_owned(), fault));
    }

    /// Passes every request to come, on old and on new connections that are not swallowed.
    pub fn pass(&self) {
        lock(&self.shared.rules).clear();
        self.shared.swallow_new.store(false, Ordering::Relaxed);
    }

    /// Swallows whatever goes over the connections there are, without closing them.
    pub fn swallow_existing(&self) {
        for connection in lock(&self.shared.connections).values() {
            connection.swallowed.store(true, Ordering::Relaxed);
        }
    }

    /// Swallows whatever comes on connections to come; those there are go on.
    pub fn swallow_new(&self) {
        self.shared.swallow_new.store(true, Ordering::Relaxed);
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        for connection in lock(&self.shared.connections).values() {
            abort(&connection.client);
        }
    }

    /// Goes to another Consul with connections to come.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
    }

    /// Every request since the start or the last [`FaultProxy::forget`].
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.log).clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.shared.log).clear();
    }

    /// How many requests there were whose head holds `text`.
    pub fn count(&self, text: &str) -> usize {
        let log = lock(&self.shared.log);
        log.iter()
            .filter(|request| request.head.contains(text))
            .count()
    }

    /// How many answers went out, real and made up.
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

/// A loopback address that nobody else gets.
fn own() -> Outcome<SocketAddr> {
    let [port] = ports::free()?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        let swallowed = Arc::new(AtomicBool::new(shared.swallow_new.load(Ordering::Relaxed)));
        let Ok(client) = stream.try_clone() else {
            continue;
        };
        let known = Connection {
            client,
            swallowed: Arc::clone(&swallowed),
        };
        lock(&shared.connections).insert(number, known);
        let served = Arc::clone(shared);
        std::thread::spawn(move || {
            let reset = serve(&stream, &served, number, &swallowed).is_none();
            if reset {
                linger_zero(&stream);
            }
            lock(&served.connections).remove(&number);
        });
    }
}

/// Serves one connection; `None` when it is to be reset.
fn serve(stream: &TcpStream, shared: &Shared, number: u64, swallowed: &AtomicBool) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(LOOK)).ok()?;
    let mut client = Reader::new(stream.try_clone().ok()?);
    let mut upstream: Option<Reader> = None;
    let swallowing = || swallowed.load(Ordering::Relaxed);
    let gone = || shared.closing.load(Ordering::Relaxed);
    loop {
        let request = match client.message(false, || gone() || swallowing()) {
            Incoming::Whole(request) => request,
            Incoming::Ended | Incoming::Stopped if !swallowing() => return Some(()),
            _ => return swallow(stream, shared),
        };
        let head = request.head();
        let known = Request {
            at: Instant::now(),
            connection: number,
            target: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            head: head.clone(),
        };
        let fault = chosen(shared, &head);
        lock(&shared.log).push(known);
        let counted = |bytes: &[u8]| {
            let mut out = stream;
            out.write_all(bytes).ok()?;
            shared.answers.fetch_add(1, Ordering::Relaxed);
            Some(())
        };
        let mut changed = request;
        match &fault {
            Fault::Swallow => return swallow(stream, shared),
            Fault::Reset => return None,
            Fault::Close => return Some(()),
            Fault::Answer(bytes) => {
                counted(bytes)?;
                continue;
            }
            Fault::AnswerAndClose(bytes) => {
                counted(bytes)?;
                return Some(());
            }
            Fault::Drip(head, each) => {
                let mut out = stream;
                out.write_all(head).ok()?;
                loop {
                    std::thread::sleep(*each);
                    if gone() || out.write_all(b" ").is_err() {
                        return Some(());
                    }
                }
            }
            Fault::Delay(time) => {
                let end = Instant::now() + *time;
                while Instant::now() < end {
                    if gone() || client.is_closed() {
                        return Some(());
                    }
                    std::thread::sleep(LOOK);
                }
            }
            // What a misbehaving index does shows only where Consul does not hold the request.
            Fault::Index(_) => changed.without_blocking(),
            Fault::Pass | Fault::Trickle(_) | Fault::CutAt(_) | Fault::Change(_) => {}
        }
        if matches!(fault, Fault::Change(_)) {
            changed.without_header("accept-encoding");
        }
        let answer = loop {
            let kept = upstream.is_some();
            let connection = match &mut upstream {
                Some(upstream) => upstream,
                None => upstream.insert(connect(shared)?),
            };
            let sent = connection.write(&changed.bytes()).is_ok();
            let stop = || gone() || swallowing() || client.is_closed();
            match connection.message(true, stop) {
                Incoming::Whole(answer) if sent => break answer,
                Incoming::Stopped if swallowing() => return swallow(stream, shared),
                Incoming::Stopped => return Some(()),
                // Consul may close a connection that it kept; a new one may not be refused silently.
                _ if kept => upstream = None,
                _ => return None,
            }
        };
        if swallowing() {
            return swallow(stream, shared);
        }
        match fault {
            Fault::Trickle(each) => {
                let (head, body) = answer.parts();
                let mut out = stream;
                out.write_all(&head).ok()?;
                for byte in body {
                    std::thread::sleep(each);
                    if gone() || out.write_all(&[byte]).is_err() {
                        return Some(());
                    }
                }
            }
            Fault::CutAt(most) => {
                let bytes = answer.bytes();
                counted(&bytes[..most.min(bytes.len())])?;
                return Some(());
            }
            Fault::Index(index) => {
                let count = shared.answers.load(Ordering::Relaxed);
                counted(&answer.with_index(&index.values(count)).bytes())?;
            }
            Fault::Change(change) => counted(&answer.changed(&change).bytes())?,
            _ => counted(&answer.bytes())?,
        }
        if answer.closes() {
            return Some(());
        }
    }
}

fn chosen(shared: &Shared, head: &str) -> Fault {
    lock(&shared.rules)
        .iter()
        .rev()
        .filter(|(text, _)| head.contains(text.as_str()))
        .max_by_key(|(text, _)| !text.is_empty())
        .map_or(Fault::Pass, |(_, fault)| fault.clone())
}

fn connect(shared: &Shared) -> Option<Reader> {
    let upstream = *lock(&shared.upstream);
    let stream = match shared.source {
        None => TcpStream::connect_timeout(&upstream, Duration::from_secs(5)).ok()?,
        Some(source) => connect_from(source, upstream).ok()?,
    };
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(LOOK)).ok()?;
    Some(Reader::new(stream))
}

fn connect_from(source: Ipv4Addr, upstream: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    connect_socket(&socket, &upstream)?;
    Ok(TcpStream::from(socket))
}

/// Takes whatever comes and says nothing, until the client goes.
fn swallow(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = Reader::new(stream.try_clone().ok()?);
    loop {
        // Each look waits for something to come.
        if shared.closing.load(Ordering::Relaxed) || !reader.discard() {
            return Some(());
        }
    }
}

/// Closing sends a reset.
fn linger_zero(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

fn abort(stream: &TcpStream) {
    linger_zero(stream);
    let _ = stream.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
