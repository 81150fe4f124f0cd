//! The way to Consul: refused, swallowed, frozen, cut, full, redirected, renamed.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use super::stage::{CANARY, Catalog as _, LIMIT, Scene, all_fail, end, given};
use support::consul::Consul;
use support::fault_proxy::fault::{Change, Index, answer, gzip_bomb, json, redirect};
use support::fault_proxy::{Fault, FaultProxy, Request};
use support::{measured, ports, wait_for};

const TOKEN: &str = "token_file = \"token\"";

/// A figure of the process in KiB, such as `VmHWM`.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// A01 A02 A03
#[test]
fn refused_black_holed_and_frozen_connections() {
    let mut consul = Consul::start_persistent().unwrap();
    let proxy = FaultProxy::start(consul.address()).unwrap();
    let mut scene = given(&consul, &proxy.url()).serve();
    let before = scene.file();

    // Both connections go on existing and nothing comes over them any more.
    let blind = Instant::now();
    proxy.forget();
    proxy.swallow_existing();
    let three = scene.backend("three");
    consul.instance("three", three);
    fails_or_serves(&scene, "did not answer in time", "three");
    scene.serves("three");
    let seen = blind.elapsed();
    measured::note(
        "e03",
        "black-holed connections, wait 1 s: a new instance served after",
        format!("{:.1} s", seen.as_secs_f64()),
    );
    // The blocking query may take 17/16 of its wait and 10 s: 11.06 s here, and 73.75 s with the default wait of 60 s.
    // The rest is for a machine that has much else to do.
    assert!(seen < Duration::from_secs(20), "{seen:?}");
    wait_for(LIMIT, "both to start over", || {
        let fresh = |part: &str| {
            let of = |request: &&Request| {
                request.target.contains(part) && !request.target.contains("index=")
            };
            proxy.requests().iter().any(|request| of(&request))
        };
        (fresh("/service/web") && fresh("/kv/note")).then_some(())
    })
    .unwrap();
    scene.all_serve(&["one", "two", "three"]);
    scene.follows("none");

    // Frozen: connections are taken, nothing is answered.
    let held = scene.file();
    consul.pause();
    let frozen = Instant::now();
    all_fail(&scene, "did not answer in time");
    let told = frozen.elapsed();
    assert_eq!(scene.file(), held);
    consul.resume();
    let resumed = Instant::now();
    consul.key("note", "thawed");
    scene.follows("thawed");
    measured::note(
        "e18",
        "frozen Consul, wait 1 s: told in the status after",
        format!("{:.1} s", told.as_secs_f64()),
    );
    measured::note(
        "e18",
        "frozen Consul goes on: followed after",
        format!("{:.2} s", resumed.elapsed().as_secs_f64()),
    );
    scene.all_serve(&["one", "two", "three"]);

    // Refused, for long enough that backoffs have grown.
    let held = scene.file();
    assert_ne!(held, before);
    consul.kill();
    all_fail(&scene, "cannot be reached");
    let sent = || proxy.requests().len();
    let (from, begun) = (sent(), Instant::now());
    scene.until("six seconds without Consul", |status| {
        status["queries"][0]["failing_seconds"]
            .as_f64()
            .is_some_and(|failing| failing > 6.0)
    });
    let rate = (sent() - from) as f64 / begun.elapsed().as_secs_f64();
    measured::note(
        "e03",
        "Consul gone: requests a second of 2 watches",
        format!("{rate:.1}"),
    );
    assert!(rate < 4.0, "{rate}");
    assert_eq!(scene.file(), held);
    scene.all_serve(&["one", "two", "three"]);
    consul.restart().unwrap();
    let back = Instant::now();
    consul.key("note", "back");
    scene.follows("back");
    let took = back.elapsed();
    measured::note(
        "e03",
        "Consul back after being killed: followed after",
        format!("{:.2} s", took.as_secs_f64()),
    );
    end(scene);
}

/// The status tells of it before the new instance serves, or at the latest when it does.
fn fails_or_serves(scene: &Scene, words: &str, id: &str) {
    scene.wait(words, || {
        let status = scene.setup.status().ok()?;
        let told = status["queries"]
            .as_array()?
            .iter()
            .any(|query| query["error"].as_str().is_some_and(|e| e.contains(words)));
        let served = scene.look(|report| Some(report.answers.contains_key(id)));
        (told || served == Some(true)).then_some(())
    });
    // The log is written beside the status, so it may come a moment later.
    scene.gatewright.wait_for_log(LIMIT, &[words]).unwrap();
}

/// Gatewright with a token asks the proxy. The stranger takes every connection and must get none.
struct Told {
    scene: Scene,
    proxy: FaultProxy,
    stranger: FaultProxy,
    consul: Consul,
}

impl Told {
    fn start() -> Told {
        let consul = Consul::start().unwrap();
        let proxy = FaultProxy::start(consul.address()).unwrap();
        let stranger = FaultProxy::start(consul.address()).unwrap();
        let elsewhere = stranger.url();
        let scene = given(&consul, &proxy.url())
            .set("consul", TOKEN)
            .set("consul", "body_timeout = \"500ms\"")
            .env("HTTP_PROXY", &elsewhere)
            .env("http_proxy", &elsewhere)
            .env("ALL_PROXY", &elsewhere)
            .serve();
        Told {
            scene,
            proxy,
            stranger,
            consul,
        }
    }

    /// Each answer makes every query fail with these words, and changes nothing.
    fn holds(&self, cases: Vec<(&str, Fault)>) {
        let Told { scene, proxy, .. } = self;
        let before = scene.file();
        for (words, fault) in cases {
            proxy.set(fault.clone());
            proxy.cut();
            all_fail(scene, words);
            assert_eq!(scene.file(), before, "{fault:?}");
            proxy.pass();
            scene.follows("none");
            well(proxy);
        }
    }

    /// All goes on, and the token went to Consul alone.
    fn end(mut self) {
        self.scene.serves_another(&self.consul, "three");
        self.scene.all_serve(&["one", "two", "three"]);
        let accepted = self.stranger.accepted();
        assert!(accepted == 0, "{:?}", self.stranger.requests());
        assert!(
            self.proxy
                .requests()
                .iter()
                .all(|request| request.header("x-consul-token") == Some(CANARY))
        );
        end(self.scene);
    }
}

// A04 A05 A07 A14
#[test]
fn whatever_body_the_address_answers_is_held() {
    let told = Told::start();
    let json_head =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n";
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    told.holds(vec![
        (
            "did not answer in time",
            Fault::Drip(json_head.to_vec(), Duration::from_millis(50)),
        ),
        ("cannot be reached", Fault::CutAt(300)),
        (
            "the body does not have the shape",
            Fault::Answer(json("null")),
        ),
        (
            "the body does not have the shape",
            Fault::Answer(json("[{}]")),
        ),
        (
            "the body ends too early",
            Fault::Answer(json("[{\"Node\": {\"No")),
        ),
        ("the body", Fault::Answer(json(&deep))),
    ]);
    told.end();
}

// A06 A08 A12 A18 A20 L05
#[test]
fn whatever_else_the_address_answers_is_held() {
    let told = Told::start();
    let location = format!("{}/v1/health/service/web?passing=1", told.stranger.url());
    let wide = format!("X-Wide: {}", "w".repeat(500_000));
    told.holds(vec![
        (
            "its content type is not JSON",
            Fault::Change(Change {
                headers: vec!["Content-Type: text/html".into()],
                body: Some(b"<html>Log in, please</html>".to_vec()),
                ..Change::default()
            }),
        ),
        (
            "a redirect, which is never followed",
            Fault::Answer(redirect("302 Found", &location)),
        ),
        (
            "answered with a server error",
            Fault::Change(Change {
                status: Some("503 Service Unavailable".into()),
                ..Change::default()
            }),
        ),
        (
            "Consul at",
            Fault::AnswerAndClose(answer("200 OK", &[&wide], b"[]")),
        ),
        // An alert of TLS, as from a port that speaks it.
        (
            "Consul at",
            Fault::AnswerAndClose(b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
        ),
    ]);
    measured::note(
        "e08",
        "302: requests to the other host",
        told.stranger.accepted(),
    );
    told.end();
}

// A09 A13 A20
#[test]
fn a_limit_is_honoured_odd_indexes_are_taken_and_a_bomb_is_held() {
    let mut told = Told::start();
    let Told {
        scene,
        proxy,
        consul,
        ..
    } = &mut told;
    // Retry-After was honoured by both watches: what was sent again came after it.
    proxy.forget();
    proxy.set(Fault::Answer(answer(
        "429 Too Many",
        &["Retry-After: 3"],
        b"",
    )));
    proxy.cut();
    all_fail(scene, "asks for fewer requests");
    let requests = proxy.requests();
    let early = requests
        .windows(3)
        .any(|three| three[2].at - three[0].at < Duration::from_millis(2500));
    assert!(!early, "{requests:?}");
    proxy.pass();
    scene.follows("none");

    // What only looks odd is taken: a wide header that is none of ours, and odd indexes.
    for index in [
        Index::Two,
        Index::Text("-1".into()),
        Index::Text("9".repeat(65_536)),
    ] {
        proxy.set(Fault::Index(index));
        proxy.cut();
        scene.follows("none");
    }
    proxy.pass();
    proxy.cut();
    scene.goes_on(consul, "before the bomb");

    let before = scene.file();
    let pid = scene.gatewright.process().pid();
    let calm = memory(pid, "VmHWM");
    proxy.set(Fault::Answer(gzip_bomb(400)));
    proxy.cut();
    all_fail(scene, "sent too large an answer");
    assert_eq!(scene.file(), before);
    let peak = memory(pid, "VmHWM");
    measured::note(
        "e15",
        "400 MB bomb: most resident memory",
        format!("{} MB", peak / 1024),
    );
    measured::note("e15", "before the bomb", format!("{} MB", calm / 1024));
    assert!(peak < 150 * 1024, "{peak} KiB");
    proxy.pass();
    told.end();
}

/// Waits until Consul has held a question of each watch and answered it.
fn well(proxy: &FaultProxy) {
    proxy.forget();
    wait_for(LIMIT, "questions that Consul holds", || {
        let asked = |part: &str| {
            let of = |request: &&Request| {
                request.target.contains(part) && request.target.contains("index=")
            };
            proxy.requests().iter().filter(of).count()
        };
        (asked("/service/web") > 1 && asked("/kv/note") > 1).then_some(())
    })
    .unwrap();
}

// A17 A19
#[test]
fn a_name_that_moves_and_a_second_agent() {
    let consul = Consul::start().unwrap();
    let [port] = ports::free().unwrap();
    let at = |last: u8| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
    let (first, second) = (
        FaultProxy::start_at(at(1), consul.address()).unwrap(),
        FaultProxy::start_at(at(2), consul.address()).unwrap(),
    );
    // A name service of its own: files that only this process sees at the usual places.
    let files = support::temp::directory().unwrap();
    let hosts = files.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 consul.test\n").unwrap();
    std::fs::write(
        files.path().join("resolv.conf"),
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )
    .unwrap();
    let mounts = "mount --bind \"$0/hosts\" /etc/hosts && mount --bind \"$0/resolv.conf\" /etc/resolv.conf && exec \"$@\"";
    let through = [
        "unshare",
        "-m",
        "sh",
        "-c",
        mounts,
        &files.path().display().to_string(),
    ]
    .map(str::to_owned);
    let mut scene = given(&consul, &format!("http://consul.test:{port}"))
        .through(&through)
        .serve();
    assert_eq!(second.requests().len(), 0);
    let before = scene.file();
    std::fs::write(&hosts, "").unwrap();
    first.cut();
    all_fail(&scene, "cannot be reached");
    assert_eq!(scene.file(), before);
    std::fs::write(&hosts, "127.0.0.2 consul.test\n").unwrap();
    scene.goes_on(&consul, "moved");
    assert!(second.count("GET") > 0);
    assert!(!second.requests()[0].target.contains("index="));

    // Now both are named one after the other.
    let settings = scene.setup.read("gatewright.toml").unwrap();
    let both = format!("addresses = [\"{}\", \"{}\"]", first.url(), second.url());
    let old = settings
        .lines()
        .find(|line| line.starts_with("addresses"))
        .unwrap();
    scene
        .setup
        .file("gatewright.toml", &settings.replace(old, &both))
        .unwrap();
    first.forget();
    scene.gatewright.reload();
    wait_for(LIMIT, "requests at the first", || {
        (first.count("index=") > 1).then_some(())
    })
    .unwrap();
    second.forget();
    first.set(Fault::Reset);
    first.cut();
    scene.goes_on(&consul, "second");
    for part in ["/service/web", "/kv/note"] {
        let first = wait_for(LIMIT, part, || {
            let of = |request: &Request| request.target.contains(part);
            second.requests().into_iter().find(of)
        });
        let first = first.unwrap().target;
        assert!(!first.contains("index="), "{first}");
    }
    // The first one is well again, and nobody goes back without need.
    first.pass();
    first.forget();
    scene.goes_on(&consul, "still the second");
    assert_eq!(first.count("GET"), 0);
    scene.all_serve(&["one", "two"]);
    end(scene);
}

// A22
#[test]
fn no_descriptors_left() {
    let consul = Consul::start().unwrap();
    let proxy = FaultProxy::start(consul.address()).unwrap();
    let mut scene = given(&consul, &proxy.url()).serve();
    let number = scene.gatewright.process().pid();
    let pid = rustix::process::Pid::from_raw(number as i32);
    let none = Rlimit {
        current: Some(3),
        ..getrlimit(Resource::Nofile)
    };
    let usual = prlimit(pid, Resource::Nofile, none).unwrap();
    proxy.cut();
    consul.key("note", "meanwhile");
    scene.logged(&["Too many open files"]);
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    // A question waits at the door of the status meanwhile, which is where a loop would spin.
    let socket = scene.setup.directory().join("state/status.sock");
    let mut waiting = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let (from, begun) = (ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks() - from;
    let share = used as f64 / begun.elapsed().as_secs_f64();
    measured::note(
        "A22",
        "no descriptors: processor of one core",
        format!("{share:.0} %"),
    );
    assert!(share < 50.0, "{used} hundredths in {:?}", begun.elapsed());
    let log = scene.gatewright.log();
    assert!(log.matches("Too many open files").count() <= 12, "{log}");
    prlimit(pid, Resource::Nofile, usual).unwrap();
    scene.follows("meanwhile");
    let mut status = String::new();
    let _ = waiting.read_to_string(&mut status);
    scene.serves_another(&consul, "three");
    scene.all_serve(&["one", "two", "three"]);
    end(scene);
}

// A01
#[test]
fn a_start_without_consul_waits_for_it() {
    // Nothing listens there until later.
    let [port] = ports::free().unwrap();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let consul = Consul::start().unwrap();
    let scene = given(&consul, &format!("http://{at}")).run();
    scene.logged(&["cannot be reached"]);
    let _late = FaultProxy::start_at(at, consul.address()).unwrap();
    let scene = scene.serve();
    scene.all_serve(&["one", "two"]);
    end(scene);
}
