//! The watch against a small HTTP server that misbehaves on purpose; `real` has what a real Consul does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gatewright::catalog::{Answer, HealthFilter, Kind, Query, Scope};
use gatewright::source::consul::{Consul, ErrorClass, Options, ReadError, TokenSource};
use gatewright::source::{Secret, Update, Watch, WatchId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use fake::{Fake, Reply, blocks, json, reply, web};

mod connections;
mod fake;
mod real;
mod refusals;

const PATIENCE: Duration = Duration::from_secs(10);
const CANARY: &str = "3f0c-canary-token";

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

// B01 B02 B03 B05
#[tokio::test]
async fn a_misbehaving_index_gives_at_most_two_requests() {
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
        requests[1].contains("?index=1&wait=60000ms"),
        "{}",
        requests[1]
    );
}

// A08
#[tokio::test]
async fn a_500_gives_neither_index_nor_data_and_the_next_query_starts_over() {
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

// B06
#[tokio::test]
async fn a_stale_answer_is_asked_for_again_and_used_when_that_fails() {
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

// B04
#[tokio::test]
async fn other_content_under_the_same_index_is_delivered() {
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

// B05
#[tokio::test]
async fn what_a_lagging_server_says_does_not_replace_what_is_newer() {
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

// B21 I10
#[tokio::test]
async fn the_server_s_clock_is_not_looked_at() {
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

// B23
#[tokio::test]
async fn what_consul_cannot_block_on_is_polled() {
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
        kind: Kind::Datacenters { ignore_down: false },
        scope: Scope::default(),
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
            kind: Kind::Datacenters { ignore_down },
            scope: Scope::default(),
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

/// An answer to whatever a watch of services, or a signal for them, asks.
fn any_list(head: &str) -> Reply {
    let list = match head {
        _ if head.contains("/v1/catalog/services") => "{}",
        _ if head.contains("/v1/health/service/") => &web(1),
        _ => "[]",
    };
    blocks(head, list)
}

// A10
#[tokio::test]
async fn many_watches_share_few_connections() {
    let fake = Fake::start(|head, _| any_list(head)).await;
    let consul = fake.consul(|_| {});
    let (out, mut updates) = mpsc::channel(256);
    let watch = |name: &str, health| {
        let mut query = Query::service(name);
        if let Kind::Service { health: own, .. } = &mut query.kind {
            *own = health;
        }
        consul.watch(WatchId(1), query, out.clone())
    };
    let names: Vec<String> = (0..200).map(|id| format!("web-{id}")).collect();
    let all = names.iter().flat_map(|name| {
        let any = watch(name, HealthFilter::Any);
        [watch(name, HealthFilter::Passing), any]
    });
    let watches: Vec<Watch> = all.collect();
    for _ in 0..watches.len() {
        assert!(matches!(next(&mut updates).await, Update::Answered { .. }));
    }
    let asked = fake.requests();
    let firsts = asked
        .iter()
        .filter(|head| head.contains("/v1/health/service/") && !head.contains("index="));
    assert_eq!(firsts.count(), 200, "one question a service");
    until("as many are held as may be", || {
        consul.status().load.held == 44
    })
    .await;
    assert!(fake.open.load(Ordering::SeqCst) <= 60);
    let status = consul.status();
    assert_eq!(status.warnings(), Vec::<String>::new());
    assert_eq!((status.watches, status.load.asked), (400, 204));
    let late = status.load.late().unwrap();
    assert!(
        late.starts_with("204 queries share 53 connections"),
        "{late}"
    );
}
