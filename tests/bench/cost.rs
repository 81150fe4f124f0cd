//! Part 3: what Gatewright costs: its first render, its memory and connections, and the processor
//! time of one change with that of the children it starts. HAProxy runs beside it and is not counted.

use std::time::{Duration, Instant};

use super::Bench;
use super::numbers::{milliseconds, thousands, written};
use super::report::{Report, Row};
use super::subject::{LIMIT, Mode, Sidecar, Subject, running, worker};
use support::{Outcome, interrupted, usage, wait_for};

/// The shortest time between two changes.
const PACE: Duration = Duration::from_millis(500);
const SERVICE: &str = "counted";

/// Measures on one HAProxy version with one size.
pub fn run(bench: &mut Bench, version: &str, size: usize, report: &mut Report) -> Outcome<()> {
    let (changes, limit) = match bench.options.quick {
        true => (8, Duration::from_secs(7)),
        false => (22, Duration::from_secs(11)),
    };
    let id = format!("{SERVICE}-1");
    let catalog = &mut bench.catalog;
    catalog.register(SERVICE, &id, (bench.servers[0].address, 1))?;
    let mut sidecar = Sidecar::start(catalog, version, Mode::Master, SERVICE, size)?;
    let pid = sidecar.pid();
    wait_until_quiet(pid)?;
    let start = usage::memory(pid)?;
    let connections = usage::connections(pid, catalog.consul().address().port())?;

    let first_worker = sidecar.stats().and_then(worker);
    let before = usage::time(pid)?;
    let began = Instant::now();
    let mut done = 0;
    while done < changes && began.elapsed() < limit && !interrupted() {
        let due = Instant::now() + PACE;
        done += 1;
        let place = (bench.servers[done % 2].address, 1);
        catalog.register(SERVICE, &id, place)?;
        // Each is waited for, so that no two are applied as one.
        wait_for(LIMIT, "the change to be in force", || {
            if let Some(why) = sidecar.ended() {
                return Some(Err(why));
            }
            let found = running(sidecar.stats()?, SERVICE)?;
            found.contains(&place).then_some(Ok(()))
        })??;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    wait_until_quiet(pid)?;
    let after = usage::time(pid)?;
    let end = usage::memory(pid)?;
    let each = |total: f64| total / (done.max(1) as f64);
    let (own, children) = (
        each(after.own - before.own),
        each(after.children - before.children),
    );
    let reloaded = first_worker != sidecar.stats().and_then(worker);

    let row = Row {
        part: "cost",
        haproxy: version.to_owned(),
        servers: size,
        ..Row::default()
    };
    let (goal, met) = match size {
        1_000 => ("≤ 10 ms", Some(own + children <= 10.0)),
        _ => ("", None),
    };
    report.row(
        Row {
            who: "processor time of a change".to_owned(),
            measured: format!(
                "{} ms: {} own, {} of children; {done} changes{}",
                written(own + children),
                written(own),
                written(children),
                if reloaded { ", by reload" } else { "" }
            ),
            goal,
            met,
            ..row.clone()
        }
        .figure("own_ms", own)
        .figure("children_ms", children)
        .figure("changes", done as u32),
    );
    let first = sidecar.first();
    let (goal, met) = match size {
        10_000 => (
            "≤ 1 s, ≤ 150 connections",
            Some(first <= Duration::from_secs(1) && connections <= 150),
        ),
        _ => ("", None),
    };
    report.row(
        Row {
            who: "start".to_owned(),
            measured: format!(
                "first set confirmed after {} ms, {connections} connections to Consul",
                written(milliseconds(first))
            ),
            goal,
            met,
            ..row.clone()
        }
        .figure("first_confirmed_ms", milliseconds(first))
        .figure("connections", connections as u32),
    );
    let (goal, met) = match size {
        10 => ("≤ 8 MB", Some(start.0 <= 8.0)),
        10_000 => ("≤ 40 MB at most", Some(end.1 <= 40.0)),
        _ => ("", None),
    };
    report.row(
        Row {
            who: "resident memory".to_owned(),
            measured: format!(
                "{} MB after the start, {} MB at the end, {} MB at most",
                written(start.0),
                written(end.0),
                written(end.1)
            ),
            goal,
            met,
            ..row
        }
        .figure("start_mb", start.0)
        .figure("end_mb", end.0)
        .figure("most_mb", end.1),
    );
    report.bar(
        "Processor time of one change, own and children, in ms",
        format!("{version} {} others", thousands(size as u64)),
        own + children,
    );
    report.bar(
        "Resident memory of Gatewright at the end, in MB",
        format!("{version} {} others", thousands(size as u64)),
        end.0,
    );
    Ok(())
}

/// Waits until the process has used no processor time for a while.
pub fn wait_until_quiet(pid: u32) -> Outcome<()> {
    let look = || {
        let time = usage::time(pid).unwrap_or_default();
        (time.own, time.children)
    };
    let mut last = (look(), Instant::now());
    wait_for(LIMIT, "Gatewright to be quiet", || {
        let now = look();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(400)).then_some(())
    })
}
