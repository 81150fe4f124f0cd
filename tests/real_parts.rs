//! The ground that the other tests stand on: the real programs start, and the support code tells the truth about them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::{Version, haproxies, oldest};
use support::haproxy::HAProxy;
use support::traffic::{Limits, Traffic, send};
use support::{ports, process, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn consul_tells_health_and_keeps_its_data_over_a_restart() {
    let mut consul = Consul::start_persistent().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    consul.register_checked("web", "web-1", address).unwrap();
    consul.register_instance("web", "web-2", address).unwrap();
    consul.set_key("a/b", "c d").unwrap();
    let passing = |consul: &Consul, ids: &[&str]| {
        wait_for(LIMIT, &format!("{ids:?}"), || {
            (consul.passing("web").ok()? == ids).then_some(())
        })
        .unwrap();
    };
    passing(&consul, &["web-1", "web-2"]);
    consul.set_check("web-1", "fail").unwrap();
    passing(&consul, &["web-2"]);
    consul.maintenance("web-2", true).unwrap();
    passing(&consul, &[]);
    consul.maintenance("web-2", false).unwrap();

    consul.kill();
    assert!(consul.passing("web").is_err());
    consul.restart().unwrap();
    passing(&consul, &["web-2"]);
    let key = consul.get("/v1/kv/a/b").unwrap();
    assert_eq!(key[0]["Value"], "YyBk");
    consul.deregister("web-2").unwrap();
    passing(&consul, &[]);
}

#[haproxies]
fn every_haproxy_starts_serves_and_reloads(version: Version) {
    let backends = [
        Backend::start("one").unwrap(),
        Backend::start("two").unwrap(),
    ];
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = |backend: &Backend| {
        format!(
            "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n\
             listen l\n bind {entrance}\n server s {}\n",
            backend.address()
        )
    };
    let mut haproxy = HAProxy::start(&version, &config(&backends[0])).unwrap();
    assert_eq!(send(entrance, 5).answers["one"], 5, "{version}");

    let traffic = Traffic::start(
        entrance,
        Limits {
            clients: 2,
            pause: Duration::from_millis(1),
            requests: 10_000,
            time: LIMIT,
        },
    );
    std::fs::write(haproxy.config(), config(&backends[1])).unwrap();
    haproxy.ask("reload").unwrap();
    wait_for(LIMIT, "answers by two only", || {
        let recent = traffic.look(|report| report.recent(20))?;
        (recent.len() == 1 && recent.contains("two")).then_some(())
    })
    .unwrap();
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{version}: {:?}", report.errors);

    let workers = process::descendants(haproxy.master());
    assert!(!workers.is_empty(), "{version}");
    haproxy.process().stop(LIMIT).unwrap();
    wait_for(LIMIT, "the workers' end", || {
        (!workers.iter().any(|worker| process::exists(*worker))).then_some(())
    })
    .unwrap();
}

#[test]
fn a_dropped_haproxy_leaves_no_worker() {
    let [port] = ports::free().unwrap();
    let config = format!(
        "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n\
         frontend f\n bind 127.0.0.1:{port}\n"
    );
    let haproxy = HAProxy::start(&oldest(), &config).unwrap();
    let worker = haproxy.worker().unwrap();
    assert!(process::exists(worker));
    drop(haproxy);
    wait_for(LIMIT, "the worker's end", || {
        (!process::exists(worker)).then_some(())
    })
    .unwrap();
}

#[test]
fn a_refused_request_is_counted_as_failed() {
    let backend = Backend::start("gone").unwrap();
    let address = backend.address();
    assert_eq!(send(address, 3).ok(), 3);
    drop(backend);
    let report = send(address, 3);
    assert_eq!((report.ok(), report.failed), (0, 3));
}

#[test]
fn a_port_that_a_socket_has_on_any_address_is_taken() {
    let [free, four, six, held] = ports::free().unwrap();
    let taken = |port: u16| ports::taken(port..port + 1).unwrap().contains(&port);
    let _four = TcpListener::bind((Ipv4Addr::LOCALHOST, four)).unwrap();
    let _six = UdpSocket::bind((Ipv6Addr::LOCALHOST, six)).unwrap();
    // The end that closes first keeps the port for a minute.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, held)).unwrap();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, held)).unwrap();
    drop(listener.accept().unwrap());
    drop((listener, client));
    assert_eq!(
        [free, four, six, held].map(taken),
        [false, true, true, true]
    );
}
