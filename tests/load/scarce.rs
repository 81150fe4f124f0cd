//! Many services, slow parts, little memory and little processor time: slower, and right.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;

use super::LIMIT;
use super::flapping::Flapping;
use crate::runtime::gateway::{Gateway, HEAD, listed};
use support::consul::Consul;
use support::haproxies::oldest;
use support::measured::note;
use support::traffic::{Limits, Traffic};
use support::{usage, wait_for};

/// A backend of one service as most have it.
const BACKEND: &str = "
backend web
    balance roundrobin
    retry-on conn-failure empty-response
{{#each (service \"@service@\")}}
    server {{serverName this}} {{serverAddress this}} id {{serverId this}} weight {{Weights.Passing}}
{{/each}}
";

// M04
#[test]
fn a_slow_validator_has_one_set_at_a_time_and_the_newest_wins() {
    let consul = Consul::start().unwrap();
    let mut gateway = Gateway::new(&consul, &oldest(), &format!("{HEAD}{BACKEND}"), "", "");
    let (dir, real) = (gateway.setup.path(""), oldest());
    gateway.setup.script(
        "haproxy",
        &format!(
            "#!/bin/sh\ncase \" $* \" in *\" -c \"*)\n    echo begin >> {dir}validations; sleep 3; echo end >> {dir}validations ;;\nesac\nexec {} \"$@\"\n",
            real.program().display()
        ),
    ).unwrap();
    let mut instances = Flapping::start(&consul, &gateway.service, 4);
    gateway.run();
    gateway.converge(&instances.addresses());
    let traffic = Traffic::start_kept(gateway.entrance, gentle(), &["web"]);
    let (mark, pid) = (gateway.mark(), gateway.pid());
    let before = gateway.setup.read("validations").unwrap().lines().count();
    let (begun, first) = (Instant::now(), usage::memory(pid).unwrap().0);
    let every = Duration::from_millis(20);
    let changes = instances.run(&consul, Duration::from_secs(8), every, |_| {});
    gateway.converge(&instances.addresses());
    let took = begun.elapsed();
    let report = traffic.stop();
    let log = gateway.setup.read("validations").unwrap();
    let lines: Vec<&str> = log.lines().collect();
    // Never two at once, and each takes what it takes: what waits is one set, the newest.
    for pair in lines.chunks(2) {
        assert_eq!(pair, ["begin", "end"], "{lines:?}");
    }
    let validations = (lines.len() - before) / 2;
    assert!(
        validations as u64 <= took.as_secs() / 3 + 1,
        "{validations} in {took:?}"
    );
    let last = usage::memory(pid).unwrap().0;
    assert!(last < first * 1.2 + 4.0, "{first} MB and then {last} MB");
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    gateway.assert_not_reloaded(&mark);
    note(
        "m04",
        "changes while a validation takes 3 s",
        format!("{changes}, {validations} validations"),
    );
}

// M02 M03 M08
#[test]
fn a_thousand_services_share_sixty_connections_and_little_memory() {
    const SERVICES: usize = 1_000;
    let consul = Consul::start().unwrap();
    let names: Vec<String> = (0..SERVICES)
        .map(|number| format!("s-{number:04}"))
        .collect();
    let address = |number: usize| SocketAddr::from(([127, 1, 0, 1], 10_000 + number as u16));
    let register = |number: usize, address: SocketAddr| {
        consul
            .catalog_register(&json!({
                "Node": "elsewhere", "Address": "127.0.0.1",
                "Service": {"Service": names[number], "ID": names[number], "Address": address.ip().to_string(), "Port": address.port()},
            }))
            .unwrap();
    };
    (0..SERVICES).for_each(|number| register(number, address(number)));
    let template = format!(
        "{}\n{{{{#each (parameters \"names\") as |name|}}}}\nbackend {{{{name}}}}\n{{{{#each (service name)}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}} id {{{{serverId this}}}}\n{{{{/each}}}}\n{{{{/each}}}}\n",
        HEAD.replace("default_backend web", "default_backend s-0000")
            .replace("fd-hard-limit 2000", "fd-hard-limit 4000"),
    );
    let more = format!("[parameters]\nnames = {names:?}\n");
    let mut gateway = Gateway::new(&consul, &oldest(), &template, "", &more);
    let begun = Instant::now();
    gateway.run();
    let agree = |wanted: &BTreeSet<SocketAddr>| {
        wait_for(LIMIT, "all services to be served", || {
            let of_file: BTreeSet<SocketAddr> = gateway
                .listed()
                .into_values()
                .map(|(address, _)| address)
                .collect();
            (of_file == *wanted).then_some(())?;
            gateway.confirmed()
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gateway.log()));
    };
    let mut wanted: BTreeSet<SocketAddr> = (0..SERVICES).map(address).collect();
    agree(&wanted);
    let first = begun.elapsed();
    let begun = Instant::now();
    for number in [0, SERVICES / 2, SERVICES - 1] {
        let moved = SocketAddr::from(([127, 1, 0, 2], 10_000 + number as u16));
        wanted.remove(&address(number));
        wanted.insert(moved);
        register(number, moved);
    }
    agree(&wanted);
    let changed = begun.elapsed();
    let pid = gateway.pid();
    let connections = usage::connections(pid, consul.address().port()).unwrap();
    let open = usage::descriptors(pid).unwrap();
    let (memory, most) = usage::memory(pid).unwrap();
    note(
        "m03",
        "1,000 services",
        format!(
            "first set after {first:.1?}, three changes after {changed:.1?}, {connections} connections, {open} descriptors, {memory:.0} MB, {most:.0} MB at most"
        ),
    );
    // Beside them at most the reserve for single questions.
    assert!(connections <= 60, "{connections}");
    assert!(open <= connections + 40, "{open}");
    assert!(most < 200.0, "{most} MB");
}

// M07
#[test]
fn little_memory_and_a_tenth_of_a_processor_make_it_slow_but_right() {
    let consul = Consul::start().unwrap();
    let mut gateway = Gateway::new(&consul, &oldest(), &format!("{HEAD}{BACKEND}"), "", "");
    let mut instances = Flapping::start(&consul, &gateway.service, 7);
    gateway.run();
    let pid = gateway.pid();
    // What memory a control group would give it, without one: 64 MB of data, for its children as well,
    // beside the stack of a rendering, which is 64 MiB of addresses and next to no memory.
    let limit = Rlimit {
        current: Some(128 << 20),
        maximum: Some(128 << 20),
    };
    let process = rustix::process::Pid::from_raw(pid.try_into().unwrap());
    prlimit(process, Resource::Data, limit).unwrap();
    gateway.converge(&instances.addresses());
    let traffic = Traffic::start_kept(gateway.entrance, gentle(), &["web"]);
    let mark = gateway.mark();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let own = Pid::from_raw(pid.try_into().unwrap());
            while !ended.load(Ordering::Relaxed) {
                kill(own, Signal::SIGSTOP).unwrap();
                std::thread::sleep(Duration::from_millis(90));
                kill(own, Signal::SIGCONT).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        instances.run(
            &consul,
            Duration::from_secs(5),
            Duration::from_millis(20),
            |_| {},
        );
        let wanted = instances.places();
        let outcome = wait_for(LIMIT, "the slow one to arrive", || {
            let of_file: BTreeSet<_> = listed(&gateway.file()).into_values().collect();
            let served: BTreeSet<_> = gateway.serving().into_values().collect();
            (of_file == wanted && served == wanted).then_some(())
        });
        ended.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    gateway.converge(&instances.addresses());
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    gateway.assert_not_reloaded(&mark);
    let (memory, most) = usage::memory(pid).unwrap();
    note(
        "m07",
        "64 MB and a tenth of the time",
        format!("{memory:.1} MB, {most:.1} MB at most"),
    );
    assert!(most < 64.0, "{most} MB");
}

fn gentle() -> Limits {
    Limits {
        clients: 2,
        pause: Duration::from_millis(10),
        requests: u64::MAX,
        time: LIMIT * 3,
    }
}
