//! Part 5, run only when it is named: many services on a Consul with its default limit of 200 connections
//! for each client address, by a template and by `run --routes`. Another client of the same address needs
//! new connections all the while.

mod answers;
mod changes;
mod goals;
mod probe;
mod registry;
mod sidecar;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::numbers::{milliseconds, thousands};
use super::options::{Options, Shape, Way};
use super::report::{Report, Row, say};
use super::subject::{Subject, worker};
use changes::{Amount, Changes, Measured};
use goals::{Goals, Told};
use registry::Registry;
use sidecar::Sidecar;
use support::{Outcome, interrupted, usage, wait_for};
use watch::{Connections, Other, Seen};

/// How long Consul and HAProxy may take to be equal after the last change.
const EQUAL: Duration = Duration::from_secs(20);
/// After the first set, before the rest: what follows a reload.
const CALM: Duration = Duration::from_secs(3);
/// HAProxy's own checks under `--routes`, in a second: more would be what is measured.
const CHECKS: usize = 1_000;

/// What is measured at once.
#[derive(Clone, Copy)]
struct Case<'a> {
    version: &'a str,
    shape: Shape,
    way: Way,
}

/// Measures all sizes by all ways on all versions that are asked for.
pub fn run(options: &Options, report: &mut Report) -> Outcome<()> {
    support::interrupt_on_signals()?;
    let runtime = crate::runtime()?;
    let port = answers::start(runtime.handle())?;
    let scale = &options.scale;
    for shape in &scale.shapes {
        for version in &scale.haproxy {
            // What the floor took by the first way is what the others are compared with, too.
            let mut floor = None;
            for way in &scale.ways {
                let case = Case {
                    version,
                    shape: *shape,
                    way: *way,
                };
                say(&format!(
                    "HAProxy {version}, {shape} instances, {}",
                    way.name()
                ));
                if let Err(error) = one(options, case, port, &mut floor, report) {
                    if interrupted() {
                        return Err(error);
                    }
                    let row = case.row("given up");
                    report.row(Row {
                        measured: error.lines().next().unwrap_or_default().to_owned(),
                        met: Some(false),
                        broken: vec![error],
                        ..row
                    });
                }
            }
        }
    }
    Ok(())
}

fn one(
    options: &Options,
    case: Case<'_>,
    port: u16,
    floor: &mut Option<f64>,
    report: &mut Report,
) -> Outcome<()> {
    let Case {
        version,
        shape,
        way,
    } = case;
    let [health, places] = amounts(options.quick);
    let usual = (shape.total() / 10).clamp(1, 100);
    let nodes = options.scale.nodes.unwrap_or(usual);
    let prepared: BTreeSet<usize> = (0..health.changes.min(shape.services))
        .step_by(2)
        .map(|number| changes::service_of(number, shape.services))
        .collect();
    let mut registry = Registry::start(shape, nodes, port, |service| prepared.contains(&service))?;
    let checks = Duration::from_millis((shape.total() * 1_000 / CHECKS).max(1_000) as u64);
    if way == Way::Routes && checks > Duration::from_secs(1) {
        report.note(&format!(
            "scale, routes, {shape}: HAProxy checks each server every {} s instead of every second: {} checks a second would be what is measured.",
            checks.as_secs(),
            thousands(shape.total() as u64),
        ));
    }
    let other = Other::start(registry.consul().address());

    let began = Instant::now();
    let mut sidecar = Sidecar::start(&registry, version, way, checks)?;
    let pid = sidecar.pid();
    let connections = Connections::start(pid, registry.consul().address().port());
    let first = match sidecar.first_set(&registry, way, began) {
        Ok(first) => first,
        Err(error) => {
            // What was seen until then counts all the same.
            report.row(connections_row(case, connections.peak(), None, nodes));
            report.row(other_row(case, &other.stop()));
            return Err(error);
        }
    };
    say(&format!("  first set after {} ms", first.as_millis()));
    std::thread::sleep(CALM);
    let idle = Idle::measure(&sidecar, pid, options.scale.rest)?;
    let start = usage::memory(pid)?;
    let at_rest = connections.now();

    let first_worker = sidecar.stats().and_then(worker);
    let by_floor = Goals::of(shape).is_some_and(|goals| goals.by_floor);
    let with_floor = by_floor && way == Way::Template;
    let mut changing = Changes::new(&mut registry, &mut sidecar, version, with_floor)?;
    changing.health(health)?;
    changing.places(places)?;
    let measured = changing.end();
    let equal = equal_after(&registry, sidecar.stats());
    let reloaded = first_worker != sidecar.stats().and_then(worker);
    let end = usage::memory(pid)?;
    let peak = connections.peak();
    drop(connections);
    let seen = other.stop();
    if interrupted() {
        return Err("Interrupted.".to_owned());
    }
    if with_floor {
        *floor = Told::of(&measured.floor).median;
    }

    let goals = Goals::of(shape);
    report.row(connections_row(case, peak, Some(at_rest), nodes));
    report.row(
        Row {
            measured: goals::time(milliseconds(first)),
            goal: goals.map_or("", |goals| goals.first.1),
            met: goals.map(|goals| milliseconds(first) <= goals.first.0),
            ..case.row("first set")
        }
        .figure("ms", milliseconds(first)),
    );
    times(case, &measured, *floor, report);
    report.row(idle.row(case, goals));
    let rest = start.0.max(end.0);
    report.row(
        Row {
            measured: format!(
                "{:.1} MB after the start, {:.1} MB at the end, {:.1} MB at most",
                start.0, end.0, end.1
            ),
            goal: goals.map_or("", |goals| goals.memory.1),
            met: goals.map(|goals| rest <= goals.memory.0[0] && end.1 <= goals.memory.0[1]),
            ..case.row("resident memory")
        }
        .figure("start_mb", start.0)
        .figure("end_mb", end.0)
        .figure("most_mb", end.1),
    );
    report.row(other_row(case, &seen));
    report.row(end_row(case, equal, reloaded));
    Ok(())
}

/// How many changes of health, and of instances and addresses.
fn amounts(quick: bool) -> [Amount; 2] {
    let amount = |changes, seconds| Amount {
        changes,
        limit: Duration::from_secs(seconds),
    };
    match quick {
        true => [amount(16, 35), amount(16, 50)],
        false => [amount(32, 80), amount(32, 110)],
    }
}

impl Case<'_> {
    fn row(&self, what: &str) -> Row {
        Row {
            part: "scale",
            haproxy: self.version.to_owned(),
            who: format!("{}, {what}", self.way.name()),
            shape: Some(self.shape),
            ..Row::default()
        }
    }
}

/// What Gatewright does while nothing changes.
struct Idle {
    seconds: f64,
    requests: u64,
    processor_ms: f64,
}

impl Idle {
    fn measure(sidecar: &Sidecar, pid: u32, rest: Duration) -> Outcome<Idle> {
        let look = || -> Outcome<(u64, f64)> {
            let time = usage::time(pid)?;
            Ok((sidecar.requests()?, time.own + time.children))
        };
        let (before, began) = (look()?, Instant::now());
        while began.elapsed() < rest && !interrupted() {
            std::thread::sleep(Duration::from_millis(100));
        }
        let after = look()?;
        Ok(Idle {
            seconds: began.elapsed().as_secs_f64(),
            requests: after.0 - before.0,
            processor_ms: after.1 - before.1,
        })
    }

    fn row(&self, case: Case<'_>, goals: Option<Goals>) -> Row {
        let rate = self.requests as f64 / self.seconds;
        let share = self.processor_ms / self.seconds / 10.0;
        Row {
            measured: format!(
                "{rate:.2} requests/s, {share:.1} % of a processor, over {:.0} s",
                self.seconds
            ),
            goal: goals.map_or("", |goals| goals.idle.1),
            met: goals.map(|goals| rate <= goals.idle.0),
            ..case.row("at rest")
        }
        .figure("requests_per_second", rate)
        .figure("processor_percent", share)
        .figure("seconds", self.seconds)
    }
}

/// The rows of all changes.
fn times(case: Case<'_>, measured: &Measured, floor: Option<f64>, report: &mut Report) {
    let goals = Goals::of(case.shape);
    let by_floor = goals.is_some_and(|goals| goals.by_floor);
    if !measured.floor.times.is_empty() {
        let told = Told::of(&measured.floor);
        report.row(told.row(case.row("another address, by hand (floor)")));
    }
    let rows = [
        (
            "health change to traffic",
            measured.fell.with(&measured.recovered),
            [
                ("critical", &measured.fell),
                ("passing", &measured.recovered),
            ],
            goals::HEALTH,
        ),
        (
            "new instance or address to traffic",
            measured.added.with(&measured.moved),
            [("instance", &measured.added), ("address", &measured.moved)],
            goals.map_or(goals::NONE, |goals| goals.places),
        ),
    ];
    for (what, all, parts, limits) in rows {
        let told = Told::of(&all);
        let mut row = told.row(case.row(what));
        for (name, times) in parts {
            let part = Told::of(times);
            row.measured.push_str(&format!("; {name} {}", part.short()));
            row = part.figures(row, &format!("{name}_"));
        }
        if by_floor {
            if let (Some(floor), Some(median)) = (floor, told.median) {
                row.measured
                    .push_str(&format!("; {:.2} × floor", median / floor));
                row.goal = "p50 ≤ 1.25 × floor";
                row.met = Some(median <= 1.25 * floor);
            }
        } else if goals.is_some() {
            row.goal = limits.text;
            row.met = told.meets(limits);
        }
        report.row(row);
    }
    let told = Told::of(&measured.second);
    let row = told.row(case.row("second change within a minute"));
    report.row(Row {
        goal: goals::SECOND.text,
        met: told.meets(goals::SECOND),
        ..row
    });
}

fn connections_row(case: Case<'_>, peak: usize, at_rest: Option<usize>, nodes: usize) -> Row {
    let goals = Goals::of(case.shape);
    let mut row = Row {
        measured: format!("{peak} at most, "),
        goal: goals.map_or("", |goals| goals.connections.1),
        met: goals.map(|goals| peak <= goals.connections.0),
        ..case.row("connections to Consul")
    }
    .figure("most", peak as f64);
    if let Some(count) = at_rest {
        row.measured.push_str(&format!("{count} at rest, "));
        row = row.figure("at_rest", count as f64);
    }
    row.measured.push_str(&format!("{nodes} nodes"));
    row
}

fn other_row(case: Case<'_>, seen: &Seen) -> Row {
    let count = seen.times.len() + seen.failed;
    let answers = changes::Times {
        times: seen.times.clone(),
        late: 0,
    };
    let mut broken = Vec::new();
    if seen.failed > 0 {
        broken.push(format!(
            "{} of {count} requests of another client failed, the first by: {}.",
            seen.failed,
            seen.first.as_deref().unwrap_or_default(),
        ));
    }
    Row {
        measured: format!(
            "{} of {} requests on new connections failed; {}",
            seen.failed,
            thousands(count as u64),
            Told::of(&answers).short(),
        ),
        goal: "0 failed",
        met: Some(seen.failed == 0),
        broken,
        ..case.row("another client of Consul")
    }
    .figure("failed", seen.failed as f64)
    .figure("requests", count as f64)
}

/// How long until HAProxy runs exactly what Consul names as passing.
fn equal_after(registry: &Registry, stats: Option<&Path>) -> Outcome<Duration> {
    let stats = stats.ok_or("There is no stats socket.")?;
    let wanted = registry.expected();
    let began = Instant::now();
    let mut difference = (0, 0);
    wait_for(EQUAL, "Consul and HAProxy to be equal", || {
        let runs: BTreeSet<_> = sidecar::running(stats)?.into_iter().collect();
        difference = (
            wanted.difference(&runs).count(),
            runs.difference(&wanted).count(),
        );
        (difference == (0, 0)).then(|| began.elapsed())
    })
    .map_err(|error| {
        format!(
            "{error} {} missing, {} too many.",
            difference.0, difference.1
        )
    })
}

fn end_row(case: Case<'_>, equal: Outcome<Duration>, reloaded: bool) -> Row {
    let reload = if reloaded {
        "HAProxy was reloaded"
    } else {
        "no reload"
    };
    let row = case.row("Consul and HAProxy at the end");
    match equal {
        Ok(after) => Row {
            measured: format!("equal after {}, {reload}", goals::time(milliseconds(after))),
            goal: "equal, no reload",
            met: Some(!reloaded),
            ..row
        },
        Err(error) => Row {
            measured: format!("NOT equal, {reload}"),
            goal: "equal, no reload",
            met: Some(false),
            broken: vec![error],
            ..row
        },
    }
}
