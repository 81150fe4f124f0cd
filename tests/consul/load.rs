//! What many watches and many sidecars ask of one Consul: bounded whatever its index says, and spread when it
//! comes back. The source alone is under test here, without the rest of the program.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatewright::catalog::{Answer, Query};
use gatewright::source::consul::{Consul as Source, Options};
use gatewright::source::{Update, Watch, WatchId};
use tokio::sync::mpsc;

use support::consul::Consul;
use support::fault_proxy::fault::Index;
use support::fault_proxy::{Fault, FaultProxy};
use support::{measured, wait_for};

const LIMIT: Duration = Duration::from_secs(40);

/// What one source last knew of each key, and whether its last message was an answer.
type Known = Arc<Mutex<BTreeMap<u64, (Option<String>, bool)>>>;

struct Running {
    known: Known,
    _source: Source,
    _watches: Vec<Watch>,
}

/// A source that watches these keys.
fn watch(runtime: &tokio::runtime::Runtime, url: &str, keys: &[&str]) -> Running {
    let _within = runtime.enter();
    let source = Source::new(Options {
        addresses: vec![url.parse().unwrap()],
        wait: Duration::from_secs(60),
        ..Options::default()
    })
    .unwrap();
    let (out, mut updates) = mpsc::channel(64);
    let watches = keys
        .iter()
        .zip(0..)
        .map(|(key, id)| source.watch(WatchId(id), Query::key(key), out.clone()))
        .collect();
    let known = Known::default();
    let kept = Arc::clone(&known);
    runtime.spawn(async move {
        while let Some(update) = updates.recv().await {
            let WatchId(id) = update.watch();
            let mut known = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = known.entry(id).or_default();
            entry.1 = !matches!(update, Update::Failed { .. });
            if let Update::Answered { answer, .. } = update
                && let Answer::Key(pair) = &*answer
            {
                entry.0 = pair.as_ref().and_then(|pair| pair.value.clone());
            }
        }
    });
    Running {
        known,
        _source: source,
        _watches: watches,
    }
}

impl Running {
    fn all(&self, count: usize, holds: impl Fn(&(Option<String>, bool)) -> bool) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() == count && known.values().all(holds)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

// B01 B02 B03 B05
#[test]
fn a_misbehaving_index_costs_two_requests_in_five_seconds() {
    let consul = Consul::start().unwrap();
    consul.set_key("a", "first").unwrap();
    let runtime = runtime();
    let kinds = [
        ("index 0", Index::Zero),
        ("no index", Index::Missing),
        ("index falling", Index::Falling),
        ("index alternating", Index::Alternating),
        ("index ever rising", Index::Rising),
        ("two indexes", Index::Two),
        ("index -1", Index::Text("-1".into())),
        ("index 2^64", Index::Text("18446744073709551616".into())),
    ];
    let running: Vec<_> = kinds
        .into_iter()
        .map(|(name, index)| {
            let proxy = FaultProxy::start(consul.address()).unwrap();
            proxy.set(Fault::Index(index));
            let source = watch(&runtime, &proxy.url(), &["a"]);
            (name, proxy, source)
        })
        .collect();
    wait_for(LIMIT, "the first answers", || {
        let first = |known: &(Option<String>, bool)| known.0.as_deref() == Some("first");
        running
            .iter()
            .all(|(_, _, source)| source.all(1, first))
            .then_some(())
    })
    .unwrap();
    // What must not happen needs time in which it could.
    let time = Duration::from_secs(5);
    std::thread::sleep(time);
    for (name, proxy, _) in &running {
        let requests = proxy.requests();
        // A slow start adds to the time in which requests are right.
        let end = requests[0].at + time;
        let asked = requests.iter().filter(|request| request.at < end).count();
        measured::note("e02", &format!("{name}: requests in 5 s"), asked);
        assert!(asked <= 2, "{name}: {requests:?}");
    }
}

// B25
#[test]
fn two_hundred_sources_come_back_apart_and_within_ten_seconds() {
    const SOURCES: usize = 200;
    const MACHINES: usize = 8;
    let keys = ["a", "b", "c"];
    let mut consul = Consul::start_persistent().unwrap();
    for key in keys {
        consul.set_key(key, "x").unwrap();
    }
    // Consul takes 200 connections of one address.
    let proxies: Vec<FaultProxy> = (0..MACHINES as u8)
        .map(|last| {
            FaultProxy::start_from(Ipv4Addr::new(127, 0, 1, last), consul.address()).unwrap()
        })
        .collect();
    let runtime = runtime();
    let sources: Vec<Running> = (0..SOURCES)
        .map(|number| watch(&runtime, &proxies[number % MACHINES].url(), &keys))
        .collect();
    let until = |what: &str, good: bool| {
        wait_for(LIMIT, what, || {
            let all = |known: &(Option<String>, bool)| known.1 == good;
            sources
                .iter()
                .all(|source| source.all(keys.len(), all))
                .then_some(())
        })
        .unwrap();
    };
    let forget = || proxies.iter().for_each(FaultProxy::forget);
    let requests = || {
        let all = proxies.iter().flat_map(FaultProxy::requests);
        let mut times: Vec<Instant> = all.map(|request| request.at).collect();
        times.sort();
        times
    };
    until("the first answers", true);
    consul.kill();
    until("all to fail", false);
    // Long enough for the backoffs to have grown.
    let gone = Instant::now();
    forget();
    std::thread::sleep(Duration::from_secs(4));
    let rate = requests().len() as f64 / gone.elapsed().as_secs_f64() / SOURCES as f64;
    measured::note(
        "B25",
        "Consul gone: requests a second of each source",
        format!("{rate:.2}"),
    );
    assert!(rate < 4.0, "{rate}");
    consul.restart().unwrap();
    let back = Instant::now();
    forget();
    until("all to be back", true);
    let took = back.elapsed();
    let rest = Duration::from_secs(10).saturating_sub(took);
    std::thread::sleep(rest);
    let times = requests();
    let within = |from: &Instant| {
        let end = *from + Duration::from_secs(1);
        times.partition_point(|at| *at < end) - times.partition_point(|at| at < from)
    };
    let peak = times.iter().map(within).max().unwrap_or(0);
    let mean = times.partition_point(|at| *at < back + Duration::from_secs(10)) / 10;
    measured::note(
        "B25",
        "200 sources with 3 watches: all back, after Consul was ready",
        format!("{:.1} s", took.as_secs_f64()),
    );
    measured::note(
        "B25",
        "requests a second in the next 10 s; most in one second",
        format!("{mean}; {peak}"),
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(peak < 5 * mean, "{peak} of {mean}");
    // The one that asks for all, and two for each watch.
    assert!(times.len() <= SOURCES * keys.len() * 4, "{}", times.len());
}
