//! The fault proxy is kept honest: what it passes is what Consul says, and what it makes up in Consul's name
//! is compared with what a real Consul 1.8.7 does, where that can be brought to it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::consul::{Consul, instance};
use support::fault_proxy::fault::{Change, Index};
use support::fault_proxy::{Fault, FaultProxy};
use support::{consuls, http, wait_for};

const LIMIT: Duration = Duration::from_secs(10);

fn get(address: SocketAddr, path: &str) -> http::Answer {
    http::get(address, path).unwrap()
}

/// Whether a new connection is refused after it was taken, or is kept without a word.
fn is_refused(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let _ = stream.write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut bytes = [0; 16];
    !matches!(stream.read(&mut bytes), Ok(count) if count > 0)
}

#[consuls]
fn passing_through_the_proxy_changes_nothing_that_consul_says() {
    let consul = Consul::start().unwrap();
    let proxy = FaultProxy::start(consul.address()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    for id in 0..40 {
        consul
            .register(&instance("web", &format!("web-{id}"), address))
            .unwrap();
    }
    consul.set_key("a/b", "c").unwrap();
    wait_for(LIMIT, "all instances", || {
        (consul.passing("web").ok()?.len() == 40).then_some(())
    })
    .unwrap();
    for path in [
        "/v1/health/service/web?passing=1",
        "/v1/health/service/none",
        "/v1/catalog/services",
        "/v1/catalog/nodes",
        "/v1/catalog/datacenters",
        "/v1/kv/a/b",
        "/v1/kv/none",
        "/v1/kv/?recurse",
        "/v1/health/service/web?dc=nowhere",
        "/v1/health/service/web?filter=nonsense",
        "/nowhere",
    ] {
        let (direct, passed) = (get(consul.address(), path), get(proxy.address(), path));
        assert_eq!(
            (direct.status, &direct.body),
            (passed.status, &passed.body),
            "{path}"
        );
        let kept = |answer: &http::Answer| -> Vec<String> {
            let changing = ["date:", "x-consul-lastcontact:"];
            answer
                .head
                .lines()
                .filter(|line| {
                    !changing
                        .iter()
                        .any(|name| line.to_ascii_lowercase().starts_with(name))
                })
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(kept(&direct), kept(&passed), "{path}");
    }
    // A question that Consul holds is answered at the change, through the proxy as without it.
    let index = http::header(&get(consul.address(), "/v1/kv/a/b").head, "x-consul-index")
        .unwrap()
        .to_owned();
    let (through, began) = (proxy.address(), Instant::now());
    let held =
        std::thread::spawn(move || get(through, &format!("/v1/kv/a/b?index={index}&wait=30s")));
    wait_for(LIMIT, "the question at the proxy", || {
        (proxy.count("wait=30s") == 1).then_some(())
    })
    .unwrap();
    consul.set_key("a/b", "changed").unwrap();
    assert!(held.join().unwrap().body.contains("Y2hhbmdlZA=="));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[consuls]
fn each_fault_of_the_proxy_is_what_its_name_says() {
    let consul = Consul::start().unwrap();
    let proxy = FaultProxy::start(consul.address()).unwrap();
    consul.set_key("a", "b").unwrap();
    let path = "/v1/kv/a";
    let whole = get(proxy.address(), path);
    let mut indexes = Vec::new();
    for index in [
        Index::Zero,
        Index::Missing,
        Index::Rising,
        Index::Rising,
        Index::Falling,
        Index::Falling,
    ] {
        proxy.set(Fault::Index(index));
        let answer = get(proxy.address(), path);
        assert_eq!(answer.body, whole.body);
        let index = http::header(&answer.head, "x-consul-index");
        indexes.push(index.map(|index| index.parse::<u64>().unwrap()));
    }
    assert_eq!(indexes[..2], [Some(0), None]);
    assert!(
        indexes[2] < indexes[3] && indexes[4] > indexes[5],
        "{indexes:?}"
    );
    proxy.set(Fault::Index(Index::Two));
    assert_eq!(
        get(proxy.address(), path)
            .head
            .matches("X-Consul-Index")
            .count(),
        2
    );
    proxy.set(Fault::Change(Change {
        status: Some("418 Teapot".into()),
        headers: vec!["X-Odd: 1".into()],
        body: Some(b"tea".to_vec()),
    }));
    let changed = get(proxy.address(), path);
    assert_eq!((changed.status, changed.body.as_str()), (418, "tea"));
    assert_eq!(http::header(&changed.head, "x-odd"), Some("1"));
    for fault in [Fault::Reset, Fault::Close, Fault::CutAt(40)] {
        proxy.set(fault);
        assert!(http::get(proxy.address(), path).is_err());
    }
    // What was set for some requests leaves the others alone.
    proxy.pass();
    proxy.set_for("/v1/kv/a", Fault::Delay(Duration::from_millis(300)));
    let began = Instant::now();
    assert_eq!(get(proxy.address(), path).body, whole.body);
    assert!(began.elapsed() >= Duration::from_millis(300));
    proxy.set_for("/v1/kv/a", Fault::Swallow);
    let limit = Duration::from_millis(300);
    assert!(http::request(proxy.address(), "GET", path, "", limit).is_err());
    assert_eq!(get(proxy.address(), "/v1/kv/none").status, 404);
    proxy.pass();
    proxy.swallow_new();
    assert!(http::request(proxy.address(), "GET", path, "", limit).is_err());
    proxy.pass();
    assert_eq!(get(proxy.address(), path).body, whole.body);
}

// A10
#[consuls]
fn a_real_consul_closes_connections_beyond_its_limit_without_an_answer() {
    let consul = Consul::start_with(&["-hcl=limits { http_max_conns_per_client = 5 }"]).unwrap();
    // Those of the requests that waited for its start may still be counted.
    let held = wait_for(LIMIT, "five connections", || {
        let held: Vec<TcpStream> = (0..5)
            .map_while(|_| {
                let mut stream = TcpStream::connect(consul.address()).ok()?;
                stream.set_read_timeout(Some(LIMIT)).ok()?;
                stream
                    .write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: c\r\n\r\n")
                    .ok()?;
                (stream.read(&mut [0; 4096]).ok()? > 0).then_some(stream)
            })
            .collect();
        (held.len() == 5).then_some(held)
    })
    .unwrap();
    assert!(is_refused(consul.address()));
    drop(held);
    wait_for(LIMIT, "a free place", || {
        (!is_refused(consul.address())).then_some(())
    })
    .unwrap();
}
