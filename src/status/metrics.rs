//! The status as Prometheus reads it (text exposition format 0.0.4). Written by hand: it is one value
//! turned into lines, and a test reads it back strictly. Series are bounded: beyond a number of queries
//! the rest is told as one.

use std::fmt::Write as _;

use super::model::{Hold, State, Status, Watched};
use super::process::{Process, wall_clock};
use crate::diagnostic::plain;
use crate::source::Origin;

mod families;

use families::Kind::{Counter, Gauge, Summary};
pub use families::{FAMILIES, Kind};

/// Queries that have series of their own; the rest has one, under [`OTHERS`].
pub const QUERIES_MAX: usize = 1_000;
/// The label of the rest.
pub const OTHERS: &str = "(others)";
/// Longer label values are cut, in characters.
const LABEL_MAX: usize = 256;

/// What is known without the loop.
#[derive(Debug, Clone)]
pub struct Own {
    /// Time since the start.
    pub uptime_seconds: f64,
    /// Time since the loop turned last.
    pub quiet_seconds: f64,
    /// What the process costs.
    pub process: Process,
}

/// The exposition. Without a status, because the loop does not answer, only what is known without it.
pub fn render(status: Option<&Status>, own: &Own) -> String {
    let mut out = Exposition(String::with_capacity(16 << 10));
    out.one(
        "gatewright_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    out.value("gatewright_uptime_seconds", own.uptime_seconds);
    out.value("gatewright_loop_quiet_seconds", own.quiet_seconds);
    if let Some(status) = status {
        sidecar(&mut out, status);
        queries(&mut out, &status.queries);
        guard(&mut out, status);
        source(&mut out, status);
        work(&mut out, status);
        haproxy(&mut out, status);
        out.value(
            "gatewright_log_lines_summed_up_total",
            status.log.summed_up as f64,
        );
        out.value("gatewright_log_lines_lost_total", status.log.lost as f64);
    }
    let process = &own.process;
    out.value(
        "process_resident_memory_bytes",
        process.resident_bytes as f64,
    );
    out.value("process_open_fds", process.open_fds as f64);
    out.value("process_max_fds", process.max_fds as f64);
    out.value("process_cpu_seconds_total", process.cpu_seconds);
    out.value("process_threads", process.threads as f64);
    out.value(
        "process_start_time_seconds",
        (wall_clock() - own.uptime_seconds).round(),
    );
    out.value("gatewright_child_processes", process.children as f64);
    out.0
}

fn sidecar(out: &mut Exposition, status: &Status) {
    out.value("gatewright_ready", truth(status.ready));
    out.begin("gatewright_state");
    for state in State::ALL {
        let here = truth(state == status.state);
        out.sample("gatewright_state", &[("state", state.as_str())], here);
    }
    if let Some(applied) = &status.applied {
        let confirmed = if applied.confirmed { "true" } else { "false" };
        let labels = [
            ("revision", applied.revision.as_str()),
            ("confirmed", confirmed),
        ];
        out.one("gatewright_applied_info", &labels, 1.0);
        out.value("gatewright_applied_age_seconds", applied.seconds_ago);
    }
    out.begin("gatewright_refused");
    for by in ["validation", "haproxy"] {
        let refused = status.held.as_ref().is_some_and(|held| held.by == by);
        out.sample("gatewright_refused", &[("by", by)], truth(refused));
    }
    let kept = status.structure_kept.as_ref();
    let seconds = |current: bool| {
        kept.filter(|kept| kept.servers_current == current)
            .map_or(0.0, |kept| kept.since_seconds)
    };
    out.begin("gatewright_structure_kept_seconds");
    for (label, current) in [("current", true), ("stale", false)] {
        out.sample(
            "gatewright_structure_kept_seconds",
            &[("servers", label)],
            seconds(current),
        );
    }
    out.value("gatewright_pending", truth(status.pending.is_some()));
    out.value(
        "gatewright_template_errors",
        status.template_errors.len() as f64,
    );
    out.value(
        "gatewright_settings_errors",
        status.settings_errors.len() as f64,
    );
    out.value("gatewright_warnings", status.warnings.len() as f64);
    out.value(
        "gatewright_waiting_queries",
        status.waiting_for.len() as f64,
    );
    out.value(
        "gatewright_waiting_seconds",
        status.waiting_seconds.unwrap_or(0.0),
    );
    out.value(
        "gatewright_quarantined_instances",
        status.quarantined.len() as f64,
    );
}

fn queries(out: &mut Exposition, queries: &[Watched]) {
    let failing = queries.iter().filter(|query| query.error.is_some());
    out.value("gatewright_queries", queries.len() as f64);
    out.value("gatewright_queries_failing", failing.count() as f64);
    let age = |query: &Watched| query.age_seconds.unwrap_or(f64::INFINITY);
    let items = |query: &Watched| query.items.unwrap_or(0) as f64;
    let failing = |query: &Watched| query.failing_seconds.unwrap_or(0.0);
    let name = |query: &Watched| query.query.clone();
    out.each("gatewright_query_age_seconds", queries, name, age, f64::max);
    out.each("gatewright_query_items", queries, name, items, |a, b| a + b);
    out.each(
        "gatewright_query_failing_seconds",
        queries,
        name,
        failing,
        f64::max,
    );
}

fn guard(out: &mut Exposition, status: &Status) {
    let holds = &status.holds;
    let sum = |a: f64, b: f64| a + b;
    let name = |hold: &Hold| hold.query.clone();
    out.value("gatewright_guard_holds", holds.len() as f64);
    out.each(
        "gatewright_guard_held_items",
        holds,
        name,
        |hold| hold.held as f64,
        sum,
    );
    out.each(
        "gatewright_guard_present_items",
        holds,
        name,
        |hold| hold.present as f64,
        sum,
    );
    out.each(
        "gatewright_guard_reference_items",
        holds,
        name,
        |hold| hold.reference as f64,
        sum,
    );
    out.each(
        "gatewright_guard_hold_seconds",
        holds,
        name,
        |hold| hold.since_seconds,
        f64::max,
    );
    let listeners = &status.listeners;
    out.value("gatewright_listeners_waiting", listeners.len() as f64);
    out.begin("gatewright_listener_waiting_seconds");
    for one in listeners.iter().take(QUERIES_MAX) {
        let labels = [("address", one.address.as_str())];
        out.sample(
            "gatewright_listener_waiting_seconds",
            &labels,
            one.since_seconds,
        );
    }
    let snapshot = status.snapshot.as_ref();
    if let Some(age) = snapshot.and_then(|snapshot| snapshot.saved_seconds_ago) {
        out.value("gatewright_snapshot_age_seconds", age);
    }
    let in_use = snapshot.map_or(0, |snapshot| snapshot.in_use);
    out.value("gatewright_snapshot_queries", in_use as f64);
}

fn source(out: &mut Exposition, status: &Status) {
    let source = &status.consul;
    let words = source.source.word();
    out.one("gatewright_source_info", &[("source", words)], 1.0);
    match source.source {
        Origin::Consul => consul(out, status),
        Origin::Serf => {
            out.value("gatewright_serf_reads_total", source.requests as f64);
            out.counts("gatewright_serf_errors_total", "class", &source.errors);
            let switches = source.switches as f64;
            out.value("gatewright_serf_address_switches_total", switches);
            out.counts("gatewright_serf_members", "state", &source.members);
            out.value("gatewright_serf_cut_off", truth(source.cut_off));
        }
        Origin::File => {
            out.value("gatewright_file_reads_total", source.requests as f64);
            out.counts("gatewright_file_errors_total", "class", &source.errors);
        }
    }
}

fn consul(out: &mut Exposition, status: &Status) {
    let consul = &status.consul;
    out.value("gatewright_consul_requests_total", consul.requests as f64);
    out.counts("gatewright_consul_errors_total", "class", &consul.errors);
    out.value("gatewright_consul_watches", consul.watches as f64);
    let load = &consul.load;
    for (name, count) in [
        ("gatewright_consul_queries", load.queries),
        ("gatewright_consul_connections", load.connections),
        (
            "gatewright_consul_connections_allowed",
            load.connections_allowed,
        ),
        ("gatewright_consul_blocking_queries", load.blocking_queries),
    ] {
        out.value(name, count as f64);
    }
    out.value("gatewright_consul_sweep_seconds", load.sweep_seconds);
    out.value(
        "gatewright_consul_worst_age_seconds",
        load.worst_age_seconds,
    );
    out.value(
        "gatewright_consul_address_switches_total",
        consul.switches as f64,
    );
    out.value(
        "gatewright_consul_throttled_seconds",
        consul.throttled_seconds.unwrap_or(0.0),
    );
    const EXPIRY: &str = "gatewright_certificate_expiry_timestamp_seconds";
    out.begin(EXPIRY);
    for certificate in &consul.certificates {
        let labels = [
            ("purpose", certificate.purpose.as_str()),
            ("file", &certificate.file),
        ];
        out.sample(EXPIRY, &labels, certificate.not_after as f64);
    }
}

fn work(out: &mut Exposition, status: &Status) {
    let work = &status.work;
    out.counts("gatewright_changes_total", "result", &work.changes);
    out.begin("gatewright_reloads_total");
    for reloads in &work.reloads {
        let labels = [
            ("cause", reloads.cause.as_str()),
            ("result", &reloads.result),
        ];
        out.sample("gatewright_reloads_total", &labels, reloads.count as f64);
    }
    out.value(
        "gatewright_divergences_total",
        status.haproxy.divergences as f64,
    );
    out.counts("gatewright_runtime_batches_total", "result", &work.batches);
    out.value("gatewright_runtime_commands_total", work.commands as f64);
    out.counts("gatewright_validations_total", "result", &work.validations);
    const DURATION: &str = "gatewright_validation_duration_seconds";
    out.begin(DURATION);
    out.sample(&format!("{DURATION}_sum"), &[], work.validation_seconds);
    let runs: u64 = work.validations.values().sum();
    out.sample(&format!("{DURATION}_count"), &[], runs as f64);
}

fn haproxy(out: &mut Exposition, status: &Status) {
    let haproxy = &status.haproxy;
    out.value("gatewright_haproxy_reachable", truth(haproxy.reachable));
    if haproxy.reachable {
        let revision = haproxy.running.as_deref().unwrap_or_default();
        let version = haproxy.version.as_deref().unwrap_or_default();
        let labels = [("revision", revision), ("version", version)];
        out.one("gatewright_haproxy_running_info", &labels, 1.0);
    }
    out.value("gatewright_haproxy_old_workers", haproxy.old_workers as f64);
    out.value(
        "gatewright_haproxy_leaving_servers",
        haproxy.leaving.len() as f64,
    );
    out.value("gatewright_haproxy_by_hand", haproxy.by_hand.len() as f64);
    out.value("gatewright_drifted_files", haproxy.drift.len() as f64);
}

fn truth(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

struct Exposition(String);

impl Exposition {
    /// The two lines before the samples of a metric.
    fn begin(&mut self, name: &str) {
        let known = FAMILIES.iter().find(|(known, ..)| *known == name);
        debug_assert!(known.is_some(), "{name} is not in the table");
        let Some((_, kind, _, help)) = known else {
            return;
        };
        let kind = match kind {
            Gauge => "gauge",
            Counter => "counter",
            Summary => "summary",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let start = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{start}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = match value {
            value if value == f64::INFINITY => writeln!(self.0, " +Inf"),
            value => writeln!(self.0, " {value}"),
        };
    }

    fn one(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.begin(name);
        self.sample(name, labels, value);
    }

    fn value(&mut self, name: &str, value: f64) {
        self.one(name, &[], value);
    }

    fn counts(
        &mut self,
        name: &str,
        label: &str,
        counts: &std::collections::BTreeMap<String, u64>,
    ) {
        self.begin(name);
        for (word, count) in counts {
            self.sample(name, &[(label, word)], *count as f64);
        }
    }

    /// One series for each, up to the bound; `join` makes one of the rest.
    fn each<T>(
        &mut self,
        name: &str,
        all: &[T],
        query: impl Fn(&T) -> String,
        value: impl Fn(&T) -> f64,
        join: impl Fn(f64, f64) -> f64,
    ) {
        self.begin(name);
        let (own, rest) = all.split_at(all.len().min(QUERIES_MAX));
        for one in own {
            self.sample(name, &[("query", &query(one))], value(one));
        }
        if let Some(joined) = rest.iter().map(value).reduce(join) {
            self.sample(name, &[("query", OTHERS)], joined);
        }
    }
}

/// As a label's value is written. A name from the catalog stays on its line and within bounds.
fn escaped(value: &str) -> String {
    let short: String = value.chars().take(LABEL_MAX).collect();
    plain(&short).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests;
