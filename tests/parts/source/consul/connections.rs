//! Connections that end, hang, swallow what is sent or lead to a stranger.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gatewright::source::consul::{Address, TlsOptions};
use tokio::net::TcpListener;

use super::*;

// A13 C13
#[tokio::test]
async fn a_gzip_bomb_is_cut_off_at_the_cap() {
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

// A04
#[tokio::test]
async fn a_trickled_body_is_abandoned() {
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

// A05 A06 A07
#[tokio::test]
async fn an_answer_cut_off_or_nonsense_is_discarded_whole() {
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

// A02
#[tokio::test]
async fn a_black_holed_connection_is_given_up_and_not_used_again() {
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

// A21
#[tokio::test]
async fn a_kept_alive_connection_that_is_closed_as_we_write_is_no_failure() {
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

// B17
#[tokio::test]
async fn dropping_a_watch_closes_its_connection() {
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

// A19
#[tokio::test]
async fn another_address_takes_over_with_a_fresh_index() {
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

// B22
#[tokio::test]
async fn a_deadline_ends_a_single_read() {
    let fake = Fake::start(|_, _| Reply::Stuck(Vec::new())).await;
    let consul = fake.consul(|_| {});
    let error = consul
        .read_once(&Query::service("web"), Duration::from_millis(100))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Timeout);
    // A name that no URL carries has no instances: Consul is not asked.
    let (answer, _) = consul
        .read_once(&Query::service(".."), PATIENCE)
        .await
        .unwrap();
    assert!(answer.is_empty(), "{answer:?}");
    assert_eq!(fake.requests().len(), 1);
}

// A15
#[tokio::test]
async fn a_secure_address_is_never_downgraded() {
    let fake = Fake::start(|_, _| json("X-Consul-Index: 5", &web(1))).await;
    let consul = fake.consul(|options| {
        options.addresses = vec![fake.address.parse::<Address>().unwrap().secured()];
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

/// A certificate for `127.0.0.1` from an authority of its own, with this year as its end.
fn certificate(folder: &Path, name: &str, until: i32) -> rustls::ServerConfig {
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

// A15
#[tokio::test]
async fn an_expired_certificate_is_refused() {
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
            tls: TlsOptions {
                ca_file: Some(folder.path().join("ca.pem")),
                server_name: Some("consul.test".into()),
                ..TlsOptions::default()
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

// A02
#[tokio::test]
async fn no_idle_connection_is_used_after_one_was_black_holed() {
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
