//! One service with ten thousand instances, of which one changes again and again.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use serde_json::{Value, json};

use super::LIMIT;
use crate::runtime::gateway::{Gateway, HEAD};
use support::consul::Consul;
use support::haproxies::oldest;
use support::measured::note;
use support::{usage, wait_for};

const INSTANCES: usize = 10_000;
/// Changes of one instance, each after the one before it was confirmed; fewer in the usual run.
const CHANGES: [usize; 2] = [6, 2];

/// The backend, line by line as most have it and by the helper for long lists.
const BACKENDS: [(&str, &str); 2] = [
    (
        "each",
        "{{#each (service \"@service@\")}}\n    server {{serverName this}} {{serverAddress this}} id {{serverId this}}\n{{/each}}\n",
    ),
    ("servers", "    {{servers (service \"@service@\")}}\n"),
];

// C12 M02
#[test]
fn ten_thousand_instances_are_written_and_changed_in_little_memory() {
    let consul = Consul::start().unwrap();
    for (name, lines) in BACKENDS {
        written_and_changed(&consul, name, lines);
    }
}

fn written_and_changed(consul: &Consul, name: &str, lines: &str) {
    let template = format!("{HEAD}\nbackend web\n{lines}");
    let mut gateway = Gateway::new(consul, &oldest(), &template, "", "");
    let service = gateway.service.clone();
    let instance = |number: usize, at: SocketAddr| {
        json!({
            "ID": format!("{service}-{number}"), "Service": service,
            "Address": at.ip().to_string(), "Port": at.port(),
        })
    };
    let all: Vec<Value> = (0..INSTANCES)
        .map(|number| instance(number, place(1, number)))
        .collect();
    consul.catalog_register_all("elsewhere", &all).unwrap();

    let begun = Instant::now();
    gateway.run();
    wait_for_written(&gateway, place(1, INSTANCES - 1));
    let first = begun.elapsed();
    let (_, most_at_first) = usage::memory(gateway.pid()).unwrap();
    gateway.wait("the first set to be confirmed", || gateway.confirmed());
    assert_eq!(gateway.listed().len(), INSTANCES);
    let mut took = Vec::new();
    let changes = CHANGES[usize::from(!support::long())];
    for change in 0..changes {
        let (number, at) = (change * (INSTANCES / changes), place(2, change));
        let begun = Instant::now();
        consul
            .catalog_register_all("elsewhere", &[instance(number, at)])
            .unwrap();
        wait_for_written(&gateway, at);
        took.push(begun.elapsed());
        gateway.wait("the change to be confirmed", || gateway.confirmed());
    }
    assert_eq!(gateway.listed().len(), INSTANCES);
    let begun = Instant::now();
    assert_eq!(consul.passing(&service).unwrap().len(), INSTANCES);
    let answer = begun.elapsed();
    let (_, most) = usage::memory(gateway.pid()).unwrap();
    took.sort();
    note(
        "c12",
        &format!("10,000 instances by {name}"),
        format!(
            "written {first:.2?} after the start, with {most_at_first:.0} MB at most; a change {:.2?} after it was made ({:.2?} at most), of which Consul's answer takes {answer:.2?}; {most:.0} MB at most after {changes} changes",
            took[took.len() / 2],
            took[took.len() - 1],
        ),
    );
    assert!(most_at_first < 100.0, "{most_at_first} MB");
    // Comparing two configurations of that size takes as much again for a moment, and the allocator keeps
    // it; a debug build has more of it.
    assert!(most < 200.0, "{most} MB");
}

fn place(net: u8, number: usize) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    SocketAddr::from(([127, net, high, low], 10_000))
}

/// Looks at the file only, and only when it is another one, so that nothing else is measured.
fn wait_for_written(gateway: &Gateway<'_>, address: SocketAddr) {
    let words = format!(" {address}");
    let path = gateway.setup.path("haproxy.cfg");
    let mut seen = None;
    wait_for(LIMIT, &format!("{address} in the file"), || {
        let inode = std::fs::metadata(&path).ok()?.ino();
        let is_another = seen.replace(inode) != Some(inode);
        (is_another && gateway.file().contains(&words)).then_some(())
    })
    .unwrap_or_else(|error| {
        let log = gateway.log();
        panic!("{error}\n{}", &log[log.len().saturating_sub(4_000)..])
    });
}
