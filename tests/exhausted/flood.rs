//! Connections that say nothing, say half or take nothing keep nobody from being answered.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::LIMIT;
use support::consul::Consul;
use support::http::get;
use support::scene::{Given, Scene};

/// How often one more connection is opened.
const EVERY: Duration = Duration::from_millis(10);
/// A monitor that asks gives up sooner than this.
const SOON: Duration = Duration::from_secs(1);

fn scene(consul: &Consul) -> (Scene, SocketAddr) {
    let scene = Given::consul(&consul.url())
        .set("status", "listen = \"127.0.0.1:0\"")
        .instances(consul, &["one"])
        .run();
    let status = scene.confirmed("the first set", |status| status["listening"].is_string());
    let address = status["listening"].as_str().unwrap().parse().unwrap();
    (scene, address)
}

/// Opens a connection every 10 ms and keeps the last 400, while `probe` runs.
fn flooded<C>(open: impl Fn() -> Option<C> + Sync + Send, probe: impl FnOnce())
where
    C: Send,
{
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = std::collections::VecDeque::new();
            while !ended.load(Ordering::Relaxed) {
                kept.extend(open());
                if kept.len() > 400 {
                    kept.pop_front();
                }
                std::thread::sleep(EVERY);
            }
        });
        // It has begun.
        std::thread::sleep(50 * EVERY);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(probe));
        ended.store(true, Ordering::Relaxed);
        if let Err(cause) = result {
            std::panic::resume_unwind(cause);
        }
    });
}

fn probes(address: SocketAddr) {
    for path in ["/healthz", "/metrics", "/readyz"].repeat(4) {
        let began = Instant::now();
        let answer = get(address, path).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert!(began.elapsed() < SOON, "{path} {:?}", began.elapsed());
        std::thread::sleep(20 * EVERY);
    }
}

fn connect(address: SocketAddr, text: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, SOON).ok()?;
    let _ = stream.write_all(text.as_bytes());
    Some(stream)
}

// M09
#[test]
fn a_flood_of_silent_connections_delays_no_probe() {
    let consul = Consul::start().unwrap();
    let (mut scene, address) = scene(&consul);
    let whole = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    for text in [
        "",
        // Half a request.
        "GET /healthz HTTP/1.1\r\nHost: local",
        // An answer that is not taken.
        &whole,
        // Nothing that is a request.
        "\u{1}\u{2}",
    ] {
        flooded(|| connect(address, text), || probes(address));
    }
    // One that was there before the flood and says the rest in time is answered.
    let mut early = connect(address, "GET /healthz HTTP/1.1\r\n").unwrap();
    early
        .write_all(format!("Host: {address}\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut early, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

fn ask(socket: &Path) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"status\n").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

// M09
#[test]
fn a_flood_of_silent_connections_to_the_status_socket_delays_no_question() {
    let consul = Consul::start().unwrap();
    let (mut scene, _) = scene(&consul);
    let socket: PathBuf = scene.setup.directory().join("state/status.sock");
    for text in ["", "stat"] {
        let open = || {
            let mut stream = UnixStream::connect(&socket).ok()?;
            let _ = stream.write_all(text.as_bytes());
            Some(stream)
        };
        flooded(open, || {
            for _ in 0..12 {
                let began = Instant::now();
                assert_eq!(ask(&socket)["state"], "confirmed");
                assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
                std::thread::sleep(20 * EVERY);
            }
        });
    }
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}
