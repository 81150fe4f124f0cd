//! The watch against a small HTTP server that misbehaves on purpose. Ports come from the system and
//! everything runs on the loopback; what a real Consul does is in `real_tests`.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::super::{Update, WatchId};
use super::{Consul, ErrorClass, Options, ReadError, TokenSource, Watch};
use crate::catalog::{Answer, Query};
use crate::source::Secret;

const PATIENCE: Duration = Duration::from_secs(10);
const CANARY: &str = "3f0c-canary-token";

/// What the fake does with one request.
enum Reply {
    /// A whole answer.
    Whole(Vec<u8>),
    /// These bytes, then nothing more while the connection stays open.
    Stuck(Vec<u8>),
    /// These bytes one after the other, one each 50 ms, after a whole head.
    Trickle(Vec<u8>, Vec<u8>),
    /// These bytes, then the connection is closed.
    Cut(Vec<u8>),
}

struct Fake {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// `script` gets the head of each request and its number, counted from 0.
    async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, open) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let script = Arc::new(script);
        let task = tokio::spawn({
            let (requests, open) = (Arc::clone(&requests), Arc::clone(&open));
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (script, requests, open) = (script.clone(), requests.clone(), open.clone());
                    connections.spawn(async move {
                        open.fetch_add(1, Ordering::SeqCst);
                        serve(stream, &*script, &requests).await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Fake {
            address,
            requests,
            open,
            task,
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn consul(&self, change: impl FnOnce(&mut Options)) -> Consul {
        let mut options = Options {
            addresses: vec![self.address.parse().unwrap()],
            ..Options::default()
        };
        change(&mut options);
        Consul::new(options).unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &(impl Fn(&str, usize) -> Reply + ?Sized),
    requests: &Mutex<Vec<String>>,
) {
    // Delayed acknowledgements would hide a busy loop.
    stream.set_nodelay(true).unwrap();
    while let Some(head) = head(&mut stream).await {
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(head.clone());
            requests.len() - 1
        };
        match script(&head, number) {
            Reply::Whole(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Stuck(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read(&mut [0]).await;
                return;
            }
            Reply::Trickle(head, body) => {
                let _ = stream.write_all(&head).await;
                for byte in body {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                return;
            }
            Reply::Cut(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
        }
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

fn reply(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend(format!("{header}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

fn json(index: &str, body: &str) -> Reply {
    Reply::Whole(reply(
        "200 OK",
        &["Content-Type: application/json", index],
        body.as_bytes(),
    ))
}

/// A service with one instance on `port`.
fn web(port: u64) -> String {
    format!(
        r#"[{{"Node":{{"Node":"n","Address":"10.0.0.1"}},"Service":{{"ID":"w","Service":"web","Port":{port}}},"Checks":[]}}]"#
    )
}

/// Holds a blocking query for ever and answers any other.
fn blocks(head: &str, body: &str) -> Reply {
    if head.contains("index=") {
        Reply::Stuck(Vec::new())
    } else {
        json("X-Consul-Index: 5", body)
    }
}

fn watch(consul: &Consul) -> (Watch, mpsc::Receiver<Update>) {
    let (out, updates) = mpsc::channel(64);
    (
        consul.watch(WatchId(7), Query::service("web"), out),
        updates,
    )
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> Update {
    timeout(PATIENCE, updates.recv()).await.unwrap().unwrap()
}

async fn next_port(updates: &mut mpsc::Receiver<Update>) -> i64 {
    loop {
        if let Update::Answered { answer, .. } = next(updates).await {
            match &*answer {
                Answer::Instances(list) => return list[0].port,
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn next_error(updates: &mut mpsc::Receiver<Update>) -> ReadError {
    loop {
        if let Update::Failed { error, .. } = next(updates).await {
            return error;
        }
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The class of a read whose only answer is `bytes`.
async fn class_of(bytes: Vec<u8>) -> ErrorClass {
    let fake = Fake::start(move |_, _| Reply::Whole(bytes.clone())).await;
    let consul = fake.consul(|_| {});
    let error = consul
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap_err();
    error.class
}

#[tokio::test]
async fn b01_b02_b03_b05_a_misbehaving_index_gives_at_most_two_requests() {
    type Index = fn(usize) -> String;
    let kinds: [Index; 6] = [
        |_| "X-Consul-Index: 0".into(),
        |_| "X-Other: 1".into(),
        |n| format!("X-Consul-Index: {}", 1000 - n),
        |n| format!("X-Consul-Index: {}", n + 1),
        |n| format!("X-Consul-Index: {}", [9, 5][n % 2]),
        |_| "X-Consul-Index: 4\r\nX-Consul-Index: 5".into(),
    ];
    let mut running = Vec::new();
    for kind in kinds {
        let fake = Fake::start(move |_, n| json(&kind(n), &web(1))).await;
        let consul = fake.consul(|_| {});
        let (watch, updates) = watch(&consul);
        running.push((fake, consul, watch, updates));
    }
    // What must not happen needs time in which it could: a busy loop makes 600 requests a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (fake, _, _, updates) in &mut running {
        assert_eq!(next_port(updates).await, 1);
        assert_eq!(fake.requests().len(), 2, "{:?}", fake.requests());
    }
}

#[tokio::test]
async fn real_changes_are_followed_at_once() {
    let fake =
        Fake::start(|_, n| json(&format!("X-Consul-Index: {}", n + 1), &web(n as u64))).await;
    let (_watch, mut updates) = watch(&fake.consul(|_| {}));
    let began = Instant::now();
    for port in 0..50 {
        assert_eq!(next_port(&mut updates).await, port);
    }
    // A watch that is held for misbehaving would take a second and more for each.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert!(began.elapsed() >= Duration::from_millis(900));
    let requests = fake.requests();
    assert!(!requests[0].contains("index="), "{}", requests[0]);
    assert!(
        requests[1].contains("&index=1&wait=60000ms"),
        "{}",
        requests[1]
    );
}

#[tokio::test]
async fn a08_a_500_gives_neither_index_nor_data_and_the_next_query_starts_over() {
    let fake = Fake::start(|_, n| match n {
        0 => json("X-Consul-Index: 5", &web(1)),
        1 => Reply::Whole(reply(
            "500 Internal Server Error",
            &[
                "X-Consul-Index: 1",
                "X-Consul-KnownLeader: false",
                "Content-Type: application/json",
            ],
            b"No cluster leader",
        )),
        _ => json("X-Consul-Index: 2", &web(2)),
    })
    .await;
    let consul = fake.consul(|_| {});
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    let error = next_error(&mut updates).await;
    assert_eq!(error.class, ErrorClass::NoLeader);
    assert_eq!(next_port(&mut updates).await, 2);
    let requests = fake.requests();
    assert!(requests[1].contains("index=5"));
    assert!(!requests[2].contains("index="), "{}", requests[2]);
    assert_eq!(consul.status().errors[&ErrorClass::NoLeader], 1);
}

#[tokio::test]
async fn a12_l01_l05_the_token_goes_to_the_configured_address_only_and_is_never_shown() {
    let other = Fake::start(|_, _| json("X-Consul-Index: 5", &web(666))).await;
    let location = format!("Location: {}/v1/health/service/web", other.address);
    let fake = Fake::start(move |_, n| {
        let headers = [location.as_str()];
        Reply::Whole(match n % 2 {
            0 => reply("302 Found", &headers, b""),
            _ => reply("500 Oops", &[], format!("you sent {CANARY}").as_bytes()),
        })
    })
    .await;
    let consul = fake.consul(|options| {
        options.token = TokenSource::Value(Secret::new(CANARY));
    });
    let (_watch, mut updates) = watch(&consul);
    for class in [ErrorClass::Protocol, ErrorClass::Server] {
        let error = next_error(&mut updates).await;
        assert_eq!(error.class, class, "{error}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }
    assert!(fake.requests()[0].contains(&format!("x-consul-token: {CANARY}")));
    assert!(other.requests().is_empty());
    assert!(!format!("{consul:?} {:?}", consul.status()).contains(CANARY));
}

#[tokio::test]
async fn a11_l02_a_403_reads_the_token_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old\n").unwrap();
    let fake = Fake::start(|head, _| {
        if head.contains("x-consul-token: new\r\n") {
            blocks(head, &web(1))
        } else {
            Reply::Whole(reply("403 Forbidden", &[], b"ACL not found"))
        }
    })
    .await;
    let consul = fake.consul(|options| options.token = TokenSource::File(path.clone()));
    let (_watch, mut updates) = watch(&consul);
    let error = next_error(&mut updates).await;
    assert_eq!(error.class, ErrorClass::Forbidden);
    assert!(error.detail.contains("ACL not found"), "{error}");
    std::fs::write(&path, "").unwrap();
    next_error(&mut updates).await;
    assert!(consul.status().token.problem.is_some());
    std::fs::write(&path, "new\n").unwrap();
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(consul.status().token.problem, None);
}

#[tokio::test]
async fn a09_a_429_is_left_alone_for_as_long_as_it_asks() {
    let fake = Fake::start(|head, n| match n {
        0 => Reply::Whole(reply("429 Too Many Requests", &["Retry-After: 2"], b"")),
        _ => blocks(head, &web(1)),
    })
    .await;
    let consul = fake.consul(|_| {});
    let began = Instant::now();
    let (_watch, mut updates) = watch(&consul);
    let error = next_error(&mut updates).await;
    assert_eq!(
        (error.class, error.retry_after),
        (ErrorClass::Throttled, Some(Duration::from_secs(2)))
    );
    // Another watch of the same address waits too.
    let (_other, mut others) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(next_port(&mut others).await, 1);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a13_c13_a_gzip_bomb_is_cut_off_at_the_cap() {
    // 64 MiB of spaces, which is white space in front of JSON.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..1024 {
        encoder.write_all(&[b' '; 1 << 16]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let headers = [
        "Content-Type: application/json",
        "Content-Encoding: gzip",
        "X-Consul-Index: 5",
    ];
    let bytes = reply("200 OK", &headers, &bomb);
    let fake = Fake::start(move |_, _| Reply::Whole(bytes.clone())).await;
    let consul = fake.consul(|options| options.max_body_bytes = 1 << 20);
    let error = consul
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(fake.requests()[0].contains("accept-encoding: gzip"));
}

#[tokio::test]
async fn a04_a_trickled_body_is_abandoned() {
    let fake = Fake::start(|head, n| match n {
        0 => {
            let whole = reply(
                "200 OK",
                &["Content-Type: application/json", "X-Consul-Index: 5"],
                web(1).as_bytes(),
            );
            let body = whole.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
            Reply::Trickle(whole[..body].to_vec(), whole[body..].to_vec())
        }
        _ => blocks(head, &web(2)),
    })
    .await;
    let consul = fake.consul(|options| options.body_timeout = Duration::from_millis(300));
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_error(&mut updates).await.class, ErrorClass::Timeout);
    assert_eq!(next_port(&mut updates).await, 2);
}

#[tokio::test]
async fn a05_a06_a07_an_answer_cut_off_or_nonsense_is_discarded_whole() {
    let fake = Fake::start(|head, n| {
        let headers = ["Content-Type: application/json", "X-Consul-Index: 9"];
        match n {
            0 => json("X-Consul-Index: 5", &web(1)),
            1 => {
                let whole = reply("200 OK", &headers, web(2).as_bytes());
                Reply::Cut(whole[..whole.len() - 9].to_vec())
            }
            2 => Reply::Whole(reply("200 OK", &headers, b"[null]")),
            3 => Reply::Whole(reply("200 OK", &["Content-Type: text/html"], b"[]")),
            4 => Reply::Whole(reply("200 OK", &headers, b"null")),
            _ => blocks(head, &web(3)),
        }
    })
    .await;
    let consul = fake.consul(|_| {});
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    for class in [
        ErrorClass::Unreachable,
        ErrorClass::Protocol,
        ErrorClass::Protocol,
        ErrorClass::Protocol,
    ] {
        let error = next_error(&mut updates).await;
        assert_eq!(error.class, class, "{error}");
    }
    assert_eq!(next_port(&mut updates).await, 3);
}

#[tokio::test]
async fn a02_a_black_holed_connection_is_given_up_and_not_used_again() {
    // The second request, a blocking one, is swallowed.
    let fake = Fake::start(|_, n| match n {
        0 => json("X-Consul-Index: 5", &web(1)),
        1 => Reply::Stuck(Vec::new()),
        _ => json("X-Consul-Index: 6", &web(2)),
    })
    .await;
    let consul = fake.consul(|options| {
        options.wait = Duration::from_millis(320);
        options.margin = Duration::from_secs(2);
    });
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    let began = Instant::now();
    assert_eq!(next_error(&mut updates).await.class, ErrorClass::Timeout);
    assert!(
        began.elapsed() >= Duration::from_millis(2300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(next_port(&mut updates).await, 2);
    assert!(!fake.requests()[2].contains("index="));
    until("the dead connection is closed", || {
        fake.open.load(Ordering::SeqCst) == 1
    })
    .await;
}

#[tokio::test]
async fn a21_a_kept_alive_connection_that_is_closed_as_we_write_is_no_failure() {
    let fake = Fake::start(|head, n| match n {
        1 => Reply::Cut(Vec::new()),
        _ => blocks(head, &web(1)),
    })
    .await;
    let consul = fake.consul(|_| {});
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    until("the query is sent again", || fake.requests().len() == 3).await;
    assert_eq!(fake.requests()[1], fake.requests()[2]);
    assert!(consul.status().errors.is_empty());
    assert!(updates.try_recv().is_err());
}

#[tokio::test]
async fn b17_dropping_a_watch_closes_its_connection() {
    let fake = Fake::start(|head, _| blocks(head, &web(1))).await;
    let consul = fake.consul(|_| {});
    let (watch, mut updates) = watch(&consul);
    next_port(&mut updates).await;
    until("the query blocks", || fake.requests().len() == 2).await;
    drop(watch);
    until("the connection is closed", || {
        fake.open.load(Ordering::SeqCst) == 0
    })
    .await;
    until("the watch is gone", || consul.status().watches == 0).await;
}

#[tokio::test]
async fn a19_another_address_takes_over_with_a_fresh_index() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fake = Fake::start(|head, _| blocks(head, &web(1))).await;
    let consul = fake.consul(|options| options.addresses.insert(0, dead.parse().unwrap()));
    let (_watch, mut updates) = watch(&consul);
    let error = next_error(&mut updates).await;
    assert_eq!(
        (error.class, error.address),
        (ErrorClass::Unreachable, dead)
    );
    assert_eq!(next_port(&mut updates).await, 1);
    let status = consul.status();
    assert_eq!((status.address, status.switches), (fake.address.clone(), 1));
    let (answer, _) = consul
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap();
    assert_eq!(answer.len(), 1);
}

#[tokio::test]
async fn b06_a_stale_answer_is_asked_for_again_and_used_when_that_fails() {
    let fake = Fake::start(|head, _| {
        if head.contains("stale") {
            json(
                "X-Consul-Index: 5\r\nX-Consul-LastContact: 36000\r\nX-Consul-KnownLeader: false",
                &web(1),
            )
        } else {
            Reply::Whole(reply(
                "500 Internal Server Error",
                &[],
                b"No cluster leader",
            ))
        }
    })
    .await;
    let consul = fake.consul(|options| options.stale = true);
    let (answer, freshness) = consul
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap();
    assert_eq!(answer.len(), 1);
    assert_eq!(freshness.last_contact, Duration::from_secs(36));
    assert!(!freshness.known_leader);
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn only_consul_s_own_404_means_absent() {
    let read = |headers: &'static [&'static str], body: &'static [u8]| async move {
        let fake =
            Fake::start(move |_, _| Reply::Whole(reply("404 Not Found", headers, body))).await;
        let consul = fake.consul(|_| {});
        consul
            .read_once(&Query::key("a"), PATIENCE)
            .await
            .map(|(answer, _)| answer)
    };
    assert_eq!(
        read(&["X-Consul-Index: 5"], b"").await,
        Ok(Answer::Key(None))
    );
    assert!(read(&[], b"").await.is_err());
    assert!(read(&["X-Consul-Index: 5"], b"<html>").await.is_err());
    let class = class_of(reply("404 Not Found", &["X-Consul-Index: 5"], b"")).await;
    assert_eq!(class, ErrorClass::Protocol, "no service answers 404");
}

#[tokio::test]
async fn a06_a08_a11_a12_each_status_has_its_class() {
    for (status, class) in [
        ("204 No Content", ErrorClass::Protocol),
        ("301 Moved Permanently", ErrorClass::Protocol),
        ("307 Temporary Redirect", ErrorClass::Protocol),
        ("400 Bad Request", ErrorClass::Rejected),
        ("401 Unauthorized", ErrorClass::Forbidden),
        ("503 Service Unavailable", ErrorClass::Server),
    ] {
        assert_eq!(class_of(reply(status, &[], b"")).await, class, "{status}");
    }
}

#[tokio::test]
async fn b22_a_deadline_ends_a_single_read() {
    let fake = Fake::start(|_, _| Reply::Stuck(Vec::new())).await;
    let consul = fake.consul(|_| {});
    let error = consul
        .read_once(&Query::service("web"), Duration::from_millis(100))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Timeout);
    let error = consul
        .read_once(&Query::service(".."), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Unaskable, "{error}");
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a15_a_secure_address_is_never_downgraded() {
    let fake = Fake::start(|_, _| json("X-Consul-Index: 5", &web(1))).await;
    let consul = fake.consul(|options| {
        options.addresses = vec![fake.address.parse::<super::Address>().unwrap().secured()];
        options.token = TokenSource::Value(Secret::new(CANARY));
        options.tls.insecure_skip_verify = true;
        options.margin = Duration::from_secs(1);
        options.connect_timeout = Duration::from_secs(1);
    });
    assert!(consul.status().insecure_skip_verify);
    consul
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap_err();
    assert!(!fake.requests().iter().any(|head| head.contains(CANARY)));
}

#[tokio::test]
async fn b04_other_content_under_the_same_index_is_delivered() {
    let fake = Fake::start(|head, n| match n {
        0 => json("X-Consul-Index: 5", &web(1)),
        1 => json("X-Consul-Index: 5", &web(2)),
        _ => blocks(head, &web(2)),
    })
    .await;
    let (_watch, mut updates) = watch(&fake.consul(|_| {}));
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(next_port(&mut updates).await, 2);
}

#[tokio::test]
async fn b05_what_a_lagging_server_says_does_not_replace_what_is_newer() {
    // The stale answers come from two servers in turn, one of which is behind.
    let fake = Fake::start(|head, n| {
        let newer = || json("X-Consul-Index: 9", &web(9));
        match n {
            0 => newer(),
            _ if !head.contains("stale") && n < 4 => Reply::Whole(reply(
                "500 Internal Server Error",
                &[],
                b"No cluster leader",
            )),
            _ if !head.contains("stale") => newer(),
            _ => json("X-Consul-Index: 5", &web(5)),
        }
    })
    .await;
    let consul = fake.consul(|options| options.stale = true);
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 9);
    // Without a leader nothing is said for what is older…
    assert_eq!(next_error(&mut updates).await.class, ErrorClass::NoLeader);
    // …and with one it decides.
    loop {
        match next(&mut updates).await {
            Update::Unchanged { freshness, .. } => break assert_eq!(freshness.index, 9),
            Update::Answered { answer, .. } => panic!("{answer:?}"),
            Update::Failed { .. } => {}
        }
    }
}

#[tokio::test]
async fn b11_a_token_that_ends_while_a_query_blocks_holds_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "short-lived").unwrap();
    let fake = Fake::start(|head, n| match n {
        0 => json("X-Consul-Index: 5", &web(1)),
        _ if head.contains("x-consul-token: next\r\n") => blocks(head, &web(1)),
        _ => Reply::Whole(reply(
            "403 Forbidden",
            &["X-Consul-Index: 6"],
            b"ACL not found",
        )),
    })
    .await;
    let consul = fake.consul(|options| options.token = TokenSource::File(path.clone()));
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(next_error(&mut updates).await.class, ErrorClass::Forbidden);
    std::fs::write(&path, "next").unwrap();
    loop {
        match next(&mut updates).await {
            Update::Unchanged { .. } => break,
            Update::Failed { error, .. } => assert_eq!(error.class, ErrorClass::Forbidden),
            Update::Answered { answer, .. } => panic!("{answer:?}"),
        }
    }
}

#[tokio::test]
async fn b21_i10_the_server_s_clock_is_not_looked_at() {
    let fake = Fake::start(|head, n| match n {
        0 => json(
            "X-Consul-Index: 5\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT",
            &web(1),
        ),
        1 => json(
            "X-Consul-Index: 6\r\nDate: Fri, 31 Dec 9999 23:59:59 GMT",
            &web(2),
        ),
        _ => blocks(head, &web(2)),
    })
    .await;
    let (_watch, mut updates) = watch(&fake.consul(|_| {}));
    for _ in 0..2 {
        match next(&mut updates).await {
            Update::Answered { freshness, .. } => {
                assert_eq!(
                    (freshness.age, freshness.last_contact),
                    (None, Duration::ZERO)
                );
                assert!(freshness.at.elapsed() < PATIENCE);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn b23_what_consul_cannot_block_on_is_polled() {
    let fake = Fake::start(|_, n| {
        let list = if n == 0 {
            r#"["dc1"]"#
        } else {
            r#"["dc1","dc2"]"#
        };
        json("X-Other: 1", list)
    })
    .await;
    let consul = fake.consul(|options| options.poll_interval = Duration::from_millis(50));
    let (out, mut updates) = mpsc::channel(64);
    let query = Query {
        kind: crate::catalog::Kind::Datacenters { ignore_down: false },
        scope: crate::catalog::Scope::default(),
    };
    let _watch = consul.watch(WatchId(1), query, out);
    for count in [1, 2] {
        match next(&mut updates).await {
            Update::Answered { answer, .. } => assert_eq!(answer.len(), count),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(next(&mut updates).await, Update::Unchanged { .. }));
    assert!(fake.requests().iter().all(|head| !head.contains("index=")));
}

/// What Consul 1.8.7 says of a datacenter that it knows and cannot reach is a 500.
#[tokio::test]
async fn datacenters_that_do_not_answer_are_left_out_on_demand() {
    let fake = Fake::start(|head, _| {
        if head.contains("/v1/catalog/datacenters") {
            json("X-Other: 1", r#"["dc1","dc2","dc3"]"#)
        } else if head.contains("dc=dc2") {
            let body = b"No path to datacenter";
            Reply::Whole(reply("500 Internal Server Error", &[], body))
        } else if head.contains("dc=dc3") {
            Reply::Whole(reply("403 Forbidden", &[], b"Permission denied"))
        } else {
            json("X-Consul-Index: 5", "{}")
        }
    })
    .await;
    let consul = fake.consul(|_| {});
    for (ignore_down, expected) in [(false, "dc1,dc2,dc3"), (true, "dc1,dc3")] {
        let query = Query {
            kind: crate::catalog::Kind::Datacenters { ignore_down },
            scope: crate::catalog::Scope::default(),
        };
        match consul.read_once(&query, PATIENCE).await.unwrap().0 {
            Answer::Datacenters(names) => assert_eq!(names.join(","), expected),
            other => panic!("{other:?}"),
        }
    }
    // One that is down is no fault of the agent that says so.
    let status = consul.status();
    assert_eq!((status.switches, status.errors.len()), (0, 0));
    let asked = fake.requests();
    let services: Vec<_> = asked
        .iter()
        .filter(|head| head.contains("/v1/catalog/services?dc="))
        .collect();
    assert_eq!(services.len(), 3, "{asked:?}");
}

#[tokio::test]
async fn a10_many_watches_are_warned_of() {
    let fake = Fake::start(|head, _| blocks(head, &web(1))).await;
    let consul = fake.consul(|_| {});
    let (out, mut updates) = mpsc::channel(256);
    let watch = |id| {
        consul.watch(
            WatchId(id),
            Query::service(&format!("web-{id}")),
            out.clone(),
        )
    };
    let begun = async |count: u64| {
        while consul.status().watches < count {
            tokio::task::yield_now().await;
        }
    };
    let mut watches: Vec<Watch> = (0..150).map(watch).collect();
    begun(150).await;
    assert_eq!(consul.status().warnings(), Vec::<String>::new());
    watches.push(watch(150));
    begun(151).await;
    let warnings = consul.status().warnings();
    assert!(
        warnings[0].starts_with("151 queries are watched"),
        "{warnings:?}"
    );
    assert!(matches!(next(&mut updates).await, Update::Answered { .. }));
}

/// A certificate for `127.0.0.1` from an authority of its own, with this year as its end.
fn certificate(folder: &std::path::Path, name: &str, until: i32) -> rustls::ServerConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap()
}

#[tokio::test]
async fn a15_an_expired_certificate_is_refused() {
    for (until, class) in [(2001, ErrorClass::Tls), (4000, ErrorClass::Protocol)] {
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(certificate(folder.path(), "consul.test", until));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        // Speaks TLS, and nothing that is an answer of Consul.
        let server = std::thread::spawn({
            let listener = listener.into_std().unwrap();
            listener.set_nonblocking(false).unwrap();
            move || {
                use std::io::Read as _;
                let (mut stream, _) = listener.accept().unwrap();
                let mut tls = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut stream);
                if matches!(stream.read(&mut [0; 4096]), Ok(count) if count > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        let consul = Consul::new(Options {
            addresses: vec![address.parse().unwrap()],
            tls: super::TlsOptions {
                ca_file: Some(folder.path().join("ca.pem")),
                server_name: Some("consul.test".into()),
                ..super::TlsOptions::default()
            },
            ..Options::default()
        })
        .unwrap();
        let error = consul
            .read_once(&Query::service("web"), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(error.class, class, "{error}");
        server.join().unwrap();
    }
}

#[tokio::test]
async fn a02_no_idle_connection_is_used_after_one_was_black_holed() {
    // Two answers leave two idle connections. Whatever comes over those later is swallowed.
    let fake = Fake::start(|_, n| match n {
        0 | 1 => json("X-Consul-Index: 5", &web(1)),
        2 => Reply::Stuck(Vec::new()),
        _ => json("X-Consul-Index: 6", &web(2)),
    })
    .await;
    let consul = fake.consul(|options| options.margin = Duration::from_secs(2));
    let query = Query::service("web");
    let (one, two) = tokio::join!(
        consul.read_once(&query, PATIENCE),
        consul.read_once(&query, PATIENCE)
    );
    assert!(one.is_ok() && two.is_ok());
    let error = consul.read_once(&query, PATIENCE).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Timeout, "{error}");
    until("the idle connections are closed", || {
        fake.open.load(Ordering::SeqCst) == 0
    })
    .await;
    assert!(consul.read_once(&query, PATIENCE).await.is_ok());
}
