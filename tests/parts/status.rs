//! The listener on a real socket, asked by a plain client; the loop is played.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatewright::status::heartbeat::Heartbeat;
use gatewright::status::http::{CONNECTIONS, FRESH, Listen, Sources, StatusListener};
use gatewright::status::model::Status;
use gatewright::status::socket::Question;
use serde_json::json;
use tokio::sync::mpsc;

/// The status of a sidecar that is ready.
fn status() -> Status {
    let status = json!({
        "version": "0.0.0", "pid": 4711, "uptime_seconds": 3_700.0, "state": "confirmed", "ready": true,
        "applied": {"revision": "0123456789abcdef", "confirmed": true, "seconds_ago": 12.5, "story": "+1 server"},
        "waiting_for": [], "template_errors": [], "quarantined": [], "queries": [], "warnings": [],
        "haproxy": {"mode": "master", "reachable": true, "old_workers": 0, "drift": [], "leaving": [], "by_hand": []},
    });
    serde_json::from_value(status).unwrap()
}

/// A listener on a free port, and who answers for the loop.
struct Bench {
    listener: StatusListener,
    heartbeat: Heartbeat,
    asked: Arc<std::sync::atomic::AtomicU64>,
}

impl Bench {
    /// A loop that answers with this, or never.
    fn start(answers: Option<Status>) -> Bench {
        let (send, mut questions) = mpsc::channel::<Question>(16);
        let heartbeat = Heartbeat::default();
        let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            while let Some(question) = questions.blocking_recv() {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                match (&answers, question) {
                    (Some(status), Question::Status(back)) => {
                        let _ = back.send(status.clone());
                    }
                    (_, question) => unanswered.push(question),
                }
            }
        });
        let listen = Listen {
            address: "127.0.0.1:0".parse().unwrap(),
            hosts: Vec::new(),
        };
        let sources = Sources {
            questions: send,
            heartbeat: heartbeat.clone(),
        };
        Bench {
            listener: StatusListener::start(listen, sources).unwrap(),
            heartbeat,
            asked,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Sends bytes and takes everything until the end.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused before it was read.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())
    }
}

// L04
#[test]
fn every_answer_is_safe_and_nothing_but_reads_is_taken() {
    let bench = Bench::start(Some(status()));
    for path in [
        "/", "/metrics", "/status", "/healthz", "/readyz", "/nothing",
    ] {
        let answer = bench.get(path).to_lowercase();
        for part in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "connection: close",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.contains(part), "{path}: {part} is not in {answer}");
        }
        assert!(!answer.contains("access-control-allow"), "{answer}");
    }
    assert!(bench.get("/readyz").ends_with("\r\n\r\nready\n"));
    assert!(bench.get("/healthz").ends_with("\r\n\r\nalive\n"));
    let head = bench.send(b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    // HAProxy's own check asks so.
    let old = bench.send(b"GET /readyz HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    for request in [
        "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nabc",
        "DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ] {
        let answer = bench.send(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(
            answer.to_lowercase().contains("allow: get, head"),
            "{answer}"
        );
    }
    let rebound = bench.send(b"GET /status HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
    assert!(!rebound.contains("revision"), "{rebound}");
    // Neither a huge head nor nonsense is taken.
    let long = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n",
        "A: b\r\n".repeat(200)
    );
    for request in [
        long.as_str(),
        many.as_str(),
        "\u{1}\u{2}\r\n\r\n",
        "GET\r\n\r\n",
    ] {
        let answer = bench.send(request.as_bytes());
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert!(bench.get("/healthz").starts_with("HTTP/1.1 200"));
}

// L04
#[test]
fn connections_that_say_nothing_are_ended_and_keep_nobody_out() {
    let bench = Bench::start(Some(status()));
    // More than are served at a time: half a request each.
    let mut slow: Vec<TcpStream> = (0..CONNECTIONS + 20).map(|_| bench.connect()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ");
    }
    assert!(bench.get("/healthz").starts_with("HTTP/1.1 200"));
    for stream in &mut slow {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}

// L04
#[test]
fn seven_hundred_half_requests_of_one_peer_do_not_keep_it_from_asking() {
    let bench = Bench::start(Some(status()));
    let flood: Vec<TcpStream> = (0..700)
        .map(|_| {
            let mut stream = bench.connect();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ");
            stream
        })
        .collect();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(bench.get(path).starts_with("HTTP/1.1 200"), "{path}");
    }
    // Each is ended in the end.
    for mut stream in flood {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

// M09
#[test]
fn however_often_it_is_asked_the_loop_is_not() {
    let bench = Bench::start(Some(status()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for path in ["/metrics", "/", "/status", "/readyz"]
                    .iter()
                    .cycle()
                    .take(100)
                {
                    assert!(bench.get(path).starts_with("HTTP/1.1 200"));
                }
            });
        }
    });
    let asked = bench.asked.load(std::sync::atomic::Ordering::Relaxed);
    let most = begun.elapsed().as_millis() / FRESH.as_millis() + 1;
    assert!(u128::from(asked) <= most, "asked {asked} times");
}

// I07
#[test]
fn a_loop_that_stands_still_is_told_by_the_listener() {
    let bench = Bench::start(None);
    let ready = bench.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("The loop does not answer"), "{ready}");
    assert!(bench.get("/").contains("not alive"));
    let metrics = bench.get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(
        metrics.contains("\ngatewright_loop_quiet_seconds "),
        "{metrics}"
    );
    assert!(!metrics.contains("gatewright_ready"), "{metrics}");
    // Alive is what the heartbeat says.
    bench.heartbeat.beat(Instant::now());
    assert!(bench.heartbeat.is_alive(Instant::now()));
    assert!(bench.get("/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_listener_that_goes_frees_its_address_and_a_taken_one_is_an_error() {
    let bench = Bench::start(Some(status()));
    let listen = Listen {
        address: bench.listener.address(),
        hosts: Vec::new(),
    };
    let (questions, _keep) = mpsc::channel(1);
    let sources = Sources {
        questions,
        heartbeat: Heartbeat::default(),
    };
    let error = StatusListener::start(listen.clone(), sources.clone()).unwrap_err();
    assert!(error.contains("cannot listen on 127.0.0.1:"), "{error}");
    drop(bench);
    // A child that another test is just starting holds the listener, too, until it has become its program.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = StatusListener::start(listen.clone(), sources.clone()) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
