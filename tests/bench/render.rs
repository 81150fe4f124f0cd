//! What rendering costs and how the cost grows: `cargo bench --bench render`. It prints a table
//! and asserts nothing about time.
//!
//! A catalog of services with ten instances each is rendered by two templates, one line a server:
//! a loop like that of the shipped templates, and the helper `servers`. Then one instance of one
//! service gets another address, and everything is rendered again.
#![allow(clippy::print_stdout)] // It is what this program is for.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatewright::catalog::{Answer, Instance, Kind, Known, Query, Scope, ServiceName, Status};
use gatewright::template::{Grammar, Options, Outcome, Source, TemplateSet};

const EACH: &str =
    "    server {{serverName this}} {{serverAddress this}} check weight {{Weights.Passing}}";
const COMPACT: &str = "{{servers (service name) options=\"check\" weight=true}}";

fn main() -> ExitCode {
    println!(
        "Median times in milliseconds; ten instances a service, `one` has them all in one service."
    );
    println!(
        "{:<10} {:>8} {:>9} {:>8} {:>9} {:>12} {:>11} {:>10} {:>9}",
        "template",
        "servers",
        "compile",
        "first",
        "one more",
        "same again",
        "text, KB",
        "resident",
        "peak"
    );
    let mut growth = BTreeMap::new();
    for (name, shape) in [
        ("each", Shape::Loop),
        ("servers", Shape::Servers),
        ("one", Shape::One),
    ] {
        for servers in [10, 100, 1_000, 10_000] {
            match measure(shape, servers) {
                Ok(row) => {
                    println!(
                        "{name:<10} {servers:>8} {:>9} {:>8} {:>9} {:>12} {:>11} {:>10} {:>9}",
                        shown(row.compile),
                        shown(row.first),
                        shown(row.again),
                        shown(row.same),
                        row.bytes / 1024,
                        memory("VmRSS:"),
                        memory("VmHWM:"),
                    );
                    growth.insert((name, servers), row.again);
                }
                Err(error) => {
                    println!("{name}, {servers} servers: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    for (name, _) in growth.keys().filter(|(_, servers)| *servers == 10) {
        let time = |servers| {
            growth
                .get(&(*name, servers))
                .map_or(0.0, Duration::as_secs_f64)
        };
        println!(
            "{name}: a thousand times the servers take {:.0} times the time after one change",
            time(10_000) / time(10)
        );
    }
    ExitCode::SUCCESS
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Loop,
    Servers,
    One,
}

struct Row {
    compile: Duration,
    first: Duration,
    again: Duration,
    same: Duration,
    bytes: usize,
}

fn measure(shape: Shape, servers: usize) -> Result<Row, String> {
    let each = if shape == Shape::One { servers } else { 10 };
    let names: Vec<String> = (0..servers / each)
        .map(|index| format!("service-{index:04}"))
        .collect();
    let mut answers = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let list = (0..each).map(|item| instance(name, index, item)).collect();
        learn(&mut answers, Query::service(name), Answer::Instances(list));
    }
    let list = names
        .iter()
        .map(|name| ServiceName {
            name: name.clone(),
            tags: vec!["prod".to_owned()],
        })
        .collect();
    let all = Query {
        kind: Kind::Services {
            node_meta: Default::default(),
            filter: None,
        },
        scope: Scope::default(),
    };
    learn(&mut answers, all, Answer::Services(list));

    let lines = match shape {
        Shape::Servers => format!("    {COMPACT}\n"),
        _ => format!(
            "{{{{#each (service name)}}}}\n{EACH}\n{{{{else}}}}\n    # nothing passes\n{{{{/each}}}}\n"
        ),
    };
    let text = format!(
        "global\n    maxconn 1000\n{{{{#each (services) as |service|}}}}{{{{#let service.Name as |name|}}}}\n\nbackend {{{{name}}}}\n    balance roundrobin\n    option httpchk\n{lines}{{{{/let}}}}{{{{/each}}}}\n"
    );
    let source = Source {
        name: "haproxy.cfg".to_owned(),
        path: "haproxy.cfg.hbs".into(),
        text,
        grammar: Grammar::Haproxy,
    };
    let (mut compile, mut first, mut again, mut same) = (vec![], vec![], vec![], vec![]);
    let mut bytes = 0;
    for round in 0..3 {
        let begun = Instant::now();
        let loaded = TemplateSet::load(vec![source.clone()], Vec::new(), Options::default());
        let (mut set, _) = loaded.map_err(|wrong| format!("{wrong:?}"))?;
        compile.push(begun.elapsed());
        first.push(timed(&mut set, &answers, &mut bytes)?);
        for change in 0..10 {
            let name = &names[(change * 7 + round) % names.len()];
            if let Some(known) = answers.get_mut(&Query::service(name)) {
                let mut list = match known.answer.as_ref() {
                    Answer::Instances(list) => list.clone(),
                    _ => Vec::new(),
                };
                list[each / 2].address = format!("10.200.{round}.{change}");
                let revision = known.revision + 1;
                *known = Known {
                    answer: Arc::new(Answer::Instances(list)),
                    revision,
                };
            }
            again.push(timed(&mut set, &answers, &mut bytes)?);
            same.push(timed(&mut set, &answers, &mut bytes)?);
        }
    }
    Ok(Row {
        compile: median(compile),
        first: median(first),
        again: median(again),
        same: median(same),
        bytes,
    })
}

fn timed(
    set: &mut TemplateSet,
    answers: &BTreeMap<Query, Known>,
    bytes: &mut usize,
) -> Result<Duration, String> {
    let begun = Instant::now();
    let outcome = set.render(answers);
    let took = begun.elapsed();
    match outcome {
        Ok(Outcome::Complete(rendering)) => {
            *bytes = rendering.files.iter().map(String::len).sum();
            Ok(took)
        }
        Ok(Outcome::Incomplete { needed, .. }) => {
            Err(format!("{} answers are missing", needed.len()))
        }
        Err(wrong) => Err(format!("{wrong:?}")),
    }
}

fn learn(answers: &mut BTreeMap<Query, Known>, query: Query, answer: Answer) {
    answers.insert(
        query,
        Known {
            answer: Arc::new(answer),
            revision: 1,
        },
    );
}

/// As much as Consul tells of a small instance.
fn instance(service: &str, index: usize, item: usize) -> Instance {
    let meta = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let address = format!("10.{}.{}.{}", index % 200, item / 250, item % 250 + 1);
    Instance {
        node: format!("node-{:02}", item % 20),
        id: format!("{service}-{item:05}"),
        node_id: "8f2a7c1e-1111-2222-3333-444455556666".to_owned(),
        name: service.to_owned(),
        node_tagged_addresses: meta(&[("lan", &address), ("wan", &address)]),
        node_address: address.clone(),
        address,
        port: 8080,
        node_datacenter: "dc1".to_owned(),
        node_meta: meta(&[("consul-network-segment", "")]),
        service_tagged_addresses: Default::default(),
        service_meta: meta(&[("version", "1.2.3")]),
        tags: vec!["prod".to_owned()],
        status: Status::Passing,
        weight_passing: 1,
        weight_warning: 1,
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

/// A line of `/proc/self/status`, in MB.
fn memory(line: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|found| found.strip_prefix(line));
    let kilobytes = found.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.map_or_else(|| "?".to_owned(), |size| format!("{:.1}", size / 1024.0))
}
