//! The benchmark: what a change costs and how soon traffic sees it, on real Consul and HAProxy, beside
//! the same change made by hand in the same run. `tests/bench/run` calls it.
//!
//! It prints; it never fails because of a time. It ends with code 1 when a request failed, HAProxy was
//! reloaded or the end was not equal where that must not be, or when something real is missing.

mod alone;
mod catalog;
mod churn;
mod clients;
mod cost;
mod hand;
mod latency;
mod neighbour;
mod numbers;
mod options;
mod peers;
mod report;
mod scale;
mod servers;
mod subject;
mod wire;

use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;
use tokio::runtime::Runtime;

use catalog::Catalog;
use options::{Options, USAGE};
use report::{Report, say};
use servers::Server;
use support::Outcome;

/// As many instances as the churn has, at two addresses each.
const SERVERS: usize = 40;

/// What all parts share.
struct Bench {
    options: Options,
    catalog: Catalog,
    servers: Vec<Server>,
    runtime: Runtime,
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            anstream::println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&error);
            return ExitCode::from(2);
        }
    };
    match measure(options) {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            say("\nWhat must not happen:");
            broken.iter().for_each(|line| say(&format!("  {line}")));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn measure(options: Options) -> Outcome<Vec<String>> {
    let began = Instant::now();
    let mut report = Report::default();
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    if options.has("alone") {
        say("Without Consul and HAProxy");
        alone::run(&options.sizes, &mut report)?;
    }
    if options.has("latency") || options.has("churn") || options.has("cost") {
        real_parts(options.clone(), &mut report)?;
        for remark in peers::missing(&options) {
            report.note(&remark);
        }
    }
    if options.has(options::SCALE) {
        scale::run(&options, &mut report)?;
    }
    if options.has(options::NEIGHBOUR) {
        neighbour::run(&options, &mut report)?;
    }
    if profile == "debug" {
        report.note("This was a debug build: the times mean nothing.");
    }
    anstream::println!("{}{}", report.table(), report.charts());
    if let Some(path) = &options.json {
        let frame = json!({
            "version": env!("CARGO_PKG_VERSION"), "profile": profile, "quick": options.quick,
            "haproxy": options.haproxy, "sizes": options.sizes, "parts": options.parts,
            "processors": std::thread::available_parallelism().map_or(0, |count| count.get()),
            "seconds": began.elapsed().as_secs(),
        });
        report.write(path, frame)?;
    }
    say(&format!("It took {} s.", began.elapsed().as_secs()));
    Ok(report.broken())
}

/// What clients and servers of the benchmark run on.
fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("The asynchronous runtime cannot be started: {error}."))
}

/// The parts with Consul and HAProxy: sizes ascend, because Consul is filled further for each.
fn real_parts(options: Options, report: &mut Report) -> Outcome<()> {
    support::interrupt_on_signals()?;
    let runtime = runtime()?;
    let mut bench = Bench {
        servers: servers::start(runtime.handle(), SERVERS)?,
        catalog: Catalog::start(options.fabio.is_some())?,
        runtime,
        options,
    };
    let (sizes, versions) = (bench.options.sizes.clone(), bench.options.haproxy.clone());
    for (turn, size) in sizes.into_iter().enumerate() {
        bench.catalog.fill(size)?;
        for version in &versions {
            let servers = numbers::thousands(size as u64);
            say(&format!("HAProxy {version}, {servers} other servers"));
            if bench.options.has("latency") {
                latency::run(&mut bench, version, size, report)?;
            }
            if bench.options.has("churn") && turn == 0 {
                churn::run(&mut bench, version, size, report)?;
            }
            if bench.options.has("cost") {
                cost::run(&mut bench, version, size, report)?;
            }
        }
    }
    Ok(())
}
