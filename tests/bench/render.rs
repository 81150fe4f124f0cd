//! What rendering costs and how the cost grows: `cargo bench --bench render`. It prints a table
//! and asserts nothing about time.
//!
//! A catalog of services with ten instances each is rendered by two templates, one line a server:
//! a loop like that of the shipped templates, and the helper `servers`. The shipped set of `run --routes` routes
//! one host to each service; its first rendering begins without answers, as that of `run` does. Then one
//! instance of one service gets another address, and everything is rendered again.
#![allow(clippy::print_stdout)] // It is what this program is for.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatewright::catalog::{
    Answer, HealthFilter, Instance, Kind, Known, Node, Query, Scope, ServiceName,
};
use gatewright::template::{
    Grammar, Options, Outcome, Source, TemplateSet, shipped, shipped_partials,
};

const EACH: &str =
    "    server {{serverName this}} {{serverAddress this}} check weight {{Weights.Passing}}";
const COMPACT: &str = "{{servers (service name) options=\"check\" weight=true}}";

/// What `run --routes` renders.
const ROUTES: [(&str, Grammar); 5] = [
    ("routes", Grammar::Haproxy),
    ("routes-http", Grammar::Map),
    ("routes-sni", Grammar::Map),
    ("routes-noroute", Grammar::Plain),
    ("routes-unavailable", Grammar::Plain),
];

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
        ("routes", Shape::Routes),
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
    Routes,
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
        let tag = tag(shape, index);
        let list = (0..each).map(|item| instance(name, index, item, &tag));
        let list: Vec<Instance> = list.collect();
        if shape == Shape::Routes {
            learn(&mut answers, any(name), Answer::Instances(list.clone()));
        }
        learn(&mut answers, Query::service(name), Answer::Instances(list));
    }
    let list = names.iter().enumerate().map(|(index, name)| ServiceName {
        name: name.clone(),
        tags: vec![tag(shape, index)],
        tags_left_out: 0,
    });
    let all = query(Kind::Services {
        node_meta: Default::default(),
        filter: None,
    });
    learn(&mut answers, all, Answer::Services(list.collect()));
    for key in [
        "fabio/config",
        "fabio/noroute.html",
        "fabio/unavailable.html",
    ] {
        let path = key.to_owned();
        learn(&mut answers, query(Kind::Key { path }), Answer::Key(None));
    }
    let prefix = "fabio/config".to_owned();
    learn(
        &mut answers,
        query(Kind::Tree { prefix }),
        Answer::Tree(Vec::new()),
    );

    let (mut compile, mut first, mut again, mut same) = (vec![], vec![], vec![], vec![]);
    let mut bytes = 0;
    for round in 0..3 {
        let begun = Instant::now();
        let (sources, partials, options) = templates(shape)?;
        let loaded = TemplateSet::load(sources, partials, options);
        let (mut set, _) = loaded.map_err(|wrong| format!("{wrong:?}"))?;
        compile.push(begun.elapsed());
        let known = match shape {
            Shape::Routes => BTreeMap::new(),
            _ => answers.clone(),
        };
        first.push(discovered(&mut set, known, &answers, &mut bytes)?);
        for change in 0..10 {
            let name = &names[(change * 7 + round) % names.len()];
            for query in [Query::service(name), any(name)] {
                let Some(known) = answers.get_mut(&query) else {
                    continue;
                };
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

/// The templates and partials of a shape, and what they may do.
fn templates(shape: Shape) -> Result<(Vec<Source>, Vec<Source>, Options), String> {
    if shape == Shape::Routes {
        let sources = ROUTES.into_iter().map(|(name, grammar)| {
            Ok(Source {
                name: name.to_owned(),
                path: format!("shipped:{name}").into(),
                text: shipped(name)
                    .ok_or(format!("{name} is not shipped"))?
                    .into(),
                grammar,
            })
        });
        let parameters = [("folder", "/run/routes"), ("stats_socket", "/run/stats")];
        let options = Options {
            parameters: parameters
                .map(|(name, value)| (name.to_owned(), value.into()))
                .into_iter()
                .collect(),
            ..Options::default()
        };
        return Ok((
            sources.collect::<Result<_, String>>()?,
            shipped_partials(),
            options,
        ));
    }
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
    Ok((vec![source], Vec::new(), Options::default()))
}

/// Renders until nothing is missing any more; what is asked for is answered at once.
fn discovered(
    set: &mut TemplateSet,
    mut known: BTreeMap<Query, Known>,
    answers: &BTreeMap<Query, Known>,
    bytes: &mut usize,
) -> Result<Duration, String> {
    let mut took = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let outcome = set.render(&known);
        took += begun.elapsed();
        match outcome {
            Ok(Outcome::Complete(rendering)) => {
                *bytes = rendering.files.iter().map(String::len).sum();
                return Ok(took);
            }
            Ok(Outcome::Incomplete { needed, .. }) => {
                for query in needed {
                    let answer = answers.get(&query);
                    let answer = answer.ok_or_else(|| format!("{query} is not answered"))?;
                    known.insert(query, answer.clone());
                }
            }
            Err(wrong) => return Err(format!("{wrong:?}")),
        }
    }
}

fn timed(
    set: &mut TemplateSet,
    answers: &BTreeMap<Query, Known>,
    bytes: &mut usize,
) -> Result<Duration, String> {
    discovered(set, answers.clone(), answers, bytes)
}

fn query(kind: Kind) -> Query {
    let scope = Scope::default();
    Query { kind, scope }
}

/// Every instance of a service.
fn any(service: &str) -> Query {
    query(Kind::Service {
        name: service.to_owned(),
        tag: None,
        connect: false,
        health: HealthFilter::Any,
        near: None,
        filter: None,
        node_meta: Default::default(),
    })
}

/// The tag of a service and its instances.
fn tag(shape: Shape, index: usize) -> String {
    match shape {
        Shape::Routes => format!("urlprefix-s{index}.example/"),
        _ => "prod".to_owned(),
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
fn instance(service: &str, index: usize, item: usize, tag: &str) -> Instance {
    let meta = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let address = format!("10.{}.{}.{}", index % 200, item / 250, item % 250 + 1);
    Instance {
        node: Arc::new(Node {
            name: format!("node-{:02}", item % 20),
            id: "8f2a7c1e-1111-2222-3333-444455556666".to_owned(),
            address: address.clone(),
            datacenter: "dc1".to_owned(),
            tagged_addresses: meta(&[("lan", &address), ("wan", &address)]),
            meta: meta(&[("consul-network-segment", "")]),
        }),
        service_meta: meta(&[("version", "1.2.3")]),
        tags: [tag.to_owned()].into(),
        ..Instance::plain(service, "", &format!("{service}-{item:05}"), &address, 8080)
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
