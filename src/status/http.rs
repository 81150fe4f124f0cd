//! The optional HTTP listener: metrics, health, the status as JSON and a page. It can be read, and nothing
//! can be asked of the sidecar through it.
//!
//! It lives on a thread and a loop of its own, at a lower priority: whoever asks much delays no change,
//! and when the sidecar's loop stands still it is told here. Connections, heads and times are bounded.
//! The loop is asked at most every 250 ms, whatever comes in.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::heartbeat::Heartbeat;
use super::metrics::{self, Own};
use super::model::Status;
use super::page;
use super::places::{Limits, Room};
use super::process::Process;
use super::routes::{Route, route};
use super::socket::Question;
use crate::descriptors;

/// Connections at a time. When there are more, the oldest silent one ends.
pub const CONNECTIONS: usize = 64;
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(3);
/// For a connection as a whole.
const WHOLE: Duration = Duration::from_secs(10);
/// The largest head, in bytes (the least that hyper takes), and its lines.
const HEAD_BYTES: usize = 8_192;
const HEAD_LINES: usize = 64;
/// How long an answer of the loop is used.
pub const FRESH: Duration = Duration::from_millis(250);
/// How long the loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a failure to accept: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where to listen, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 is a free one.
    pub address: SocketAddr,
    /// Names that may be asked for, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// What the listener asks.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The loop.
    pub questions: mpsc::Sender<Question>,
    /// Whether it turns.
    pub heartbeat: Heartbeat,
}

/// A listener; dropping it closes the address.
#[derive(Debug)]
pub struct StatusListener {
    /// As it was asked for.
    listen: Listen,
    /// As it is.
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StatusListener {
    /// Listens. The error is a whole sentence.
    pub fn start(listen: Listen, sources: Sources) -> Result<StatusListener, String> {
        let wrong = |error: io::Error| {
            format!(
                "The status listener cannot listen on {}: {error}. Name another address in status.listen or --status-listen, or end who holds it.",
                listen.address
            )
        };
        let socket = std::net::TcpListener::bind(listen.address).map_err(wrong)?;
        socket.set_nonblocking(true).map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        let (stop, stopped) = oneshot::channel();
        let hosts = listen.hosts.clone();
        let thread = std::thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || run(socket, hosts, sources, stopped))
            .map_err(wrong)?;
        Ok(StatusListener {
            listen,
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is as wanted.
    pub fn is_as(&self, wanted: &Listen) -> bool {
        self.listen == *wanted
    }
}

impl Drop for StatusListener {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // The thread has nothing to wait for, and the address is free when this returns.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread.
fn run(
    socket: std::net::TcpListener,
    hosts: Vec<String>,
    sources: Sources,
    stopped: oneshot::Receiver<()>,
) {
    // On Linux that of this thread alone. Without it the listener works as well.
    let _ = rustix::process::setpriority_process(None, 10);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        tracing::error!("The status listener cannot start its loop.");
        return;
    };
    let serving = async {
        match TcpListener::from_std(socket) {
            Ok(listener) => serve(listener, Rc::new(Known::new(hosts, sources))).await,
            Err(error) => tracing::error!("The status listener cannot listen: {error}."),
        }
    };
    LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            // Cancel-safe: connections that are open end with the thread.
            () = serving => {}
            _ = stopped => {}
        }
    });
}

async fn serve(listener: TcpListener, known: Rc<Known>) {
    let most = CONNECTIONS.min(descriptors::shares().status);
    let room = Room::new(Limits::of(most));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(seat) = room.enter(peer(from.ip()), Instant::now()) else {
            continue;
        };
        let number = seat.number();
        let known = Rc::clone(&known);
        let task = tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                seat.asked();
                answer(&known, request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .keep_alive(false)
                .max_buf_size(HEAD_BYTES)
                .max_headers(HEAD_LINES)
                .serve_connection(TokioIo::new(stream), service);
            // Cancel safety: an answer cut off here went to one who did not read it.
            let _ = timeout(WHOLE, connection).await;
        });
        room.served_by(number, task.abort_handle());
        // Where many came at once, each shows whether it has asked before it has to leave for the next.
        tokio::task::yield_now().await;
    }
}

/// By what clients are told apart: a client of IPv6 has a whole /64 of addresses.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four => four,
    }
}

type Answer = Response<Full<Bytes>>;

/// Answers one request. Its body, if it has one, is not read.
async fn answer(known: &Known, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let asked = route(
        request.method(),
        request.uri(),
        request.version(),
        request.headers(),
        &known.hosts,
    );
    Ok(match asked {
        Ok(route) => known.answer(route).await,
        Err(refused) => {
            let mut answer = respond(refused.status, TEXT, refused.text);
            if refused.status == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = HeaderValue::from_static("GET, HEAD");
                answer.headers_mut().insert(header::ALLOW, allowed);
            }
            answer
        }
    })
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nothing of others is loaded, nothing runs, nobody frames it and nobody keeps it.
const SAFE: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in SAFE {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// What the listener knows.
struct Known {
    hosts: Vec<String>,
    sources: Sources,
    /// The last answer of the loop. Whoever comes while it is asked waits for that.
    last: tokio::sync::Mutex<Option<Rc<Told>>>,
}

/// An answer of the loop, or that there was none, with what was made of it.
struct Told {
    at: Instant,
    status: Option<Status>,
    made: RefCell<[Option<Bytes>; 3]>,
}

impl Known {
    fn new(hosts: Vec<String>, sources: Sources) -> Known {
        Known {
            hosts,
            sources,
            last: tokio::sync::Mutex::new(None),
        }
    }

    async fn answer(&self, route: Route) -> Answer {
        let quiet = self.sources.heartbeat.quiet_for(Instant::now());
        let alive = self.sources.heartbeat.is_alive(Instant::now());
        if route == Route::Alive {
            return match alive {
                true => respond(StatusCode::OK, TEXT, "alive\n"),
                false => unavailable(stands_still(quiet)),
            };
        }
        let told = self.told().await;
        let Some(status) = &told.status else {
            return match route {
                Route::Metrics => respond(
                    StatusCode::OK,
                    EXPOSITION,
                    told.make(0, || metrics::render(None, &self.own())),
                ),
                Route::Page => {
                    let mut answer = unavailable(page::page_without(quiet.as_secs_f64()));
                    let html = HeaderValue::from_static(HTML);
                    answer.headers_mut().insert(header::CONTENT_TYPE, html);
                    answer
                }
                _ => unavailable(stands_still(quiet)),
            };
        };
        match route {
            Route::Metrics => respond(
                StatusCode::OK,
                EXPOSITION,
                told.make(0, || metrics::render(Some(status), &self.own())),
            ),
            Route::Page => respond(StatusCode::OK, HTML, told.make(1, || page::page(status))),
            Route::Status => respond(StatusCode::OK, JSON, told.make(2, || json(status))),
            Route::Ready | Route::Alive => match &status.not_ready {
                None => respond(StatusCode::OK, TEXT, "ready\n"),
                Some(why) => unavailable(format!("{why}\n")),
            },
        }
    }

    /// The loop's answer, at most 250 ms old.
    async fn told(&self) -> Rc<Told> {
        let mut last = self.last.lock().await;
        if let Some(told) = last.as_ref().filter(|told| told.at.elapsed() < FRESH) {
            return Rc::clone(told);
        }
        let (send, receive) = oneshot::channel();
        let asking = async {
            let question = Question::Status(send);
            self.sources.questions.send(question).await.ok()?;
            receive.await.ok()
        };
        // Cancel safety: a question that nobody waits for is answered into the void.
        let status = timeout(PATIENCE, asking).await.ok().flatten();
        let told = Rc::new(Told {
            at: Instant::now(),
            status: status.map(Status::public),
            made: RefCell::default(),
        });
        *last = Some(Rc::clone(&told));
        told
    }

    fn own(&self) -> Own {
        let now = Instant::now();
        Own {
            uptime_seconds: self.sources.heartbeat.since_start(now).as_secs_f64(),
            quiet_seconds: self.sources.heartbeat.quiet_for(now).as_secs_f64(),
            process: Process::read(),
        }
    }
}

impl Told {
    /// Each text is made once.
    fn make(&self, which: usize, make: impl FnOnce() -> String) -> Bytes {
        self.made.borrow_mut()[which]
            .get_or_insert_with(|| make().into())
            .clone()
    }
}

fn json(status: &Status) -> String {
    serde_json::to_string_pretty(status).unwrap_or_default() + "\n"
}

fn unavailable(text: impl Into<Bytes>) -> Answer {
    respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn stands_still(quiet: Duration) -> String {
    format!(
        "The loop does not answer; it turned last {:.0} s ago.\n",
        quiet.as_secs_f64()
    )
}
