//! What the data of one service cost all others: the memory of `run --routes` above its rest, and how long a service
//! waits that is registered at the same moment.

use std::net::Ipv4Addr;
use std::time::Instant;

use serde_json::{Value, json};

use super::Options;
use super::cost::wait_until_quiet;
use super::numbers::{milliseconds, written};
use super::report::{Report, Row, say};
use super::servers;
use super::subject::{LIMIT, end_of, free_address, log_of};
use support::consul::{Consul, instance};
use support::gatewright::Setup;
use support::{Outcome, http, interrupted, tools, usage, wait_for};

/// One service's registrations: how many instances, and what each of them holds.
struct Case {
    what: &'static str,
    instances: usize,
    fill: fn(&mut Value, usize),
}

const CASES: [Case; 8] = [
    Case {
        what: "25,000 tags of one instance",
        instances: 1,
        fill: |body, _| body["Tags"] = tags(25_000, |n| format!("urlprefix-/t{n}/ strip=/t{n}")),
    },
    Case {
        what: "28 instances with 0.5 MB of tags each",
        instances: 28,
        fill: |body, at| {
            body["Tags"] = tags(500, |n| format!("urlprefix-/{at}-{n}-{}/", "x".repeat(980)))
        },
    },
    Case {
        what: "200 instances with 200 routes each",
        instances: 200,
        fill: |body, at| body["Tags"] = tags(200, |n| format!("urlprefix-/{at}-{n}/")),
    },
    Case {
        what: "2,000 hosts with two stars each",
        instances: 1,
        fill: |body, _| {
            body["Tags"] = tags(2_000, |n| format!("urlprefix-*.*.team{n}.example.org/"))
        },
    },
    Case {
        what: "2,000 routes with rules of access each",
        instances: 1,
        fill: |body, _| {
            let networks = "ip:10.0.0.0/16,ip:10.1.0.0/16,ip:10.2.0.0/16";
            body["Tags"] = tags(2_000, |n| format!("urlprefix-/{n}/ allow={networks}"));
        },
    },
    Case {
        what: "2,000 routes by 2,000 targets of their own",
        instances: 1,
        fill: |body, _| {
            body["Tags"] = tags(2_000, |n| format!("urlprefix-/{n}/ host=h{n}.example.org"))
        },
    },
    Case {
        what: "100 instances with 64 × 512 bytes of metadata each",
        instances: 100,
        fill: |body, at| {
            let pair = |n: usize| (format!("m{n}"), json!(format!("{at}").repeat(512 / 3)));
            body["Meta"] = (0..64).map(pair).collect::<serde_json::Map<_, _>>().into();
            body["Tags"] = json!(["urlprefix-/metadata/"]);
        },
    },
    Case {
        what: "5,000 instances",
        instances: 5_000,
        fill: |body, _| body["Tags"] = json!(["urlprefix-/many/"]),
    },
];

fn tags(count: usize, tag: impl Fn(usize) -> String) -> Value {
    (0..count).map(tag).collect()
}

/// Measures each case on one HAProxy version, with a sidecar of its own.
pub fn run(options: &Options, report: &mut Report) -> Outcome<()> {
    support::interrupt_on_signals()?;
    let runtime = super::runtime()?;
    let server = servers::start(runtime.handle(), 1)?.remove(0);
    for version in &options.haproxy {
        for case in &CASES {
            if interrupted() {
                return Ok(());
            }
            say(&format!("HAProxy {version}, {}", case.what));
            report.row(measure(case, version, &server)?);
        }
    }
    Ok(())
}

fn measure(case: &Case, version: &str, server: &servers::Server) -> Outcome<Row> {
    let consul = Consul::start()?;
    let entrance = free_address()?;
    let setup = Setup::new()?
        .env("CONSUL_HTTP_ADDR", &consul.url())
        .argument("--routes")
        .argument("--listen")
        .argument(&entrance.to_string());
    setup.settings(&format!(
        "[haproxy]\nmode = \"supervise\"\nbinary = \"{}\"\n\
         [state]\ndirectory = \"{{dir}}state\"\n\
         [catalog]\nallow_loopback = true\n",
        tools::haproxy(version)?.display()
    ))?;
    let mut gatewright = setup.run()?;
    let pid = gatewright.process().pid();
    let mut serves = |name: &str| -> Outcome<()> {
        let mut body = instance(name, name, server.address);
        body["Tags"] = json!([format!("urlprefix-/{name}/")]);
        consul.register(&body)?;
        let what = format!("{name} to be in traffic");
        let outcome = wait_for(LIMIT, &what, || {
            if let Some(why) = end_of(&mut gatewright) {
                return Some(Err(why));
            }
            let answer = http::get(entrance, &format!("/{name}/")).ok()?;
            (answer.body == server.name).then_some(Ok(()))
        });
        match outcome {
            Ok(outcome) => outcome,
            Err(error) => Err(format!("{error} {}", log_of(&mut gatewright))),
        }
    };
    serves("before")?;
    wait_until_quiet(pid)?;
    let rest = usage::memory(pid)?.0;
    let bodies = (0..case.instances).map(|at| {
        let address = Ipv4Addr::from(0x7f01_0001 + at as u32);
        let mut body = instance("large", &format!("large-{at}"), (address, 9).into());
        (case.fill)(&mut body, at);
        body
    });
    for body in bodies {
        consul.register(&body)?;
    }
    let began = Instant::now();
    serves("meanwhile")?;
    let waited = milliseconds(began.elapsed());
    wait_until_quiet(pid)?;
    let most = usage::memory(pid)?.1 - rest;
    let row = Row {
        part: "neighbour",
        haproxy: version.to_owned(),
        who: case.what.to_owned(),
        servers: case.instances,
        measured: format!(
            "{} MB above rest at most; another service in traffic after {} ms",
            written(most),
            written(waited)
        ),
        goal: "≤ 64 MB, ≤ 5 s",
        met: Some(most <= 64.0 && waited <= 5_000.0),
        ..Row::default()
    };
    Ok(row
        .figure("rest_mb", rest)
        .figure("above_rest_mb", most)
        .figure("waited_ms", waited))
}
