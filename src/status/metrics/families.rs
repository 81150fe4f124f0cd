//! The table of all metrics.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, from the start of the process.
    Counter,
    /// A count and a sum.
    Summary,
}

use Kind::{Counter, Gauge, Summary};

/// Every metric: name, kind, labels, meaning. The README's table is this one.
#[rustfmt::skip]
pub const FAMILIES: &[(&str, Kind, &str, &str)] = &[
    ("gatewright_build_info", Gauge, "version", "Always 1."),
    ("gatewright_uptime_seconds", Gauge, "", "Time since the start."),
    ("gatewright_loop_quiet_seconds", Gauge, "", "Time since the loop turned last; more than 10 means that it stands still. The metrics below, up to the process's, are missing then."),
    ("gatewright_ready", Gauge, "", "Whether HAProxy runs a set that it has confirmed."),
    ("gatewright_state", Gauge, "state", "1 for the state it is in: starting, confirmed, unconfirmed, held, waiting, guarded, applying; 0 for the others."),
    ("gatewright_applied_info", Gauge, "revision, confirmed", "The set that was applied last. Always 1."),
    ("gatewright_applied_age_seconds", Gauge, "", "Time since then."),
    ("gatewright_refused", Gauge, "by", "Whether a newer set is refused, by validation or haproxy, and the last good one is in force."),
    ("gatewright_pending", Gauge, "", "Whether a set waits for its turn or is being applied."),
    ("gatewright_template_errors", Gauge, "", "Errors of the templates on disk and of the last rendering; the last good set is in force meanwhile."),
    ("gatewright_settings_errors", Gauge, "", "Errors of the settings on disk; the former ones are in force meanwhile."),
    ("gatewright_warnings", Gauge, "", "Standing warnings, such as unverified TLS; the status has them in words."),
    ("gatewright_waiting_queries", Gauge, "", "Queries and keys that a rendering waits for; nothing is applied meanwhile."),
    ("gatewright_waiting_seconds", Gauge, "", "How long it has waited; 0 when it does not."),
    ("gatewright_quarantined_instances", Gauge, "", "Instances that are left out, because their data is unfit."),
    ("gatewright_queries", Gauge, "", "Watched queries."),
    ("gatewright_queries_failing", Gauge, "", "Those whose last request failed."),
    ("gatewright_query_age_seconds", Gauge, "query", "How old what is known may be; +Inf before the first answer."),
    ("gatewright_query_items", Gauge, "query", "How many things the last answer holds."),
    ("gatewright_query_failing_seconds", Gauge, "query", "Time since the first failure in a row; 0 when the last request succeeded."),
    ("gatewright_guard_holds", Gauge, "", "Queries of which the guard keeps what has vanished in mass."),
    ("gatewright_guard_held_items", Gauge, "query", "What it keeps."),
    ("gatewright_guard_present_items", Gauge, "query", "What the catalog still shows."),
    ("gatewright_guard_reference_items", Gauge, "query", "What the loss is judged by."),
    ("gatewright_guard_hold_seconds", Gauge, "query", "How long it has kept them."),
    ("gatewright_listeners_waiting", Gauge, "", "Listeners that the templates do not make any more and that wait for `gatewright release --listener`."),
    ("gatewright_listener_waiting_seconds", Gauge, "address", "How long they have waited."),
    ("gatewright_snapshot_age_seconds", Gauge, "", "Time since the snapshot was written; missing before the first time."),
    ("gatewright_snapshot_queries", Gauge, "", "Queries that are answered from the snapshot, because the catalog does not answer them."),
    ("gatewright_source_info", Gauge, "source", "What is read: consul, serf or file; only its own metrics are there. Always 1."),
    ("gatewright_consul_requests_total", Counter, "", "Requests to Consul."),
    ("gatewright_consul_errors_total", Counter, "class", "Those that failed: unreachable, timeout, tls, protocol, too_large, forbidden, throttled, rejected, server, no_leader, unaskable."),
    ("gatewright_consul_watches", Gauge, "", "Watches, each with one connection."),
    ("gatewright_consul_address_switches_total", Counter, "", "How often another of the addresses was taken."),
    ("gatewright_consul_throttled_seconds", Gauge, "", "How long Consul asked to be left alone, from now; 0 when it does not."),
    ("gatewright_serf_reads_total", Counter, "", "Reads of all of Serf's members."),
    ("gatewright_serf_errors_total", Counter, "class", "What failed with an agent: unreachable, timeout, protocol, too_large, forbidden, no_leader (it is alone and is not believed), unaskable."),
    ("gatewright_serf_address_switches_total", Counter, "", "How often another of the agents was taken."),
    ("gatewright_serf_members", Gauge, "state", "Members as the agent lists them: alive, failed, leaving, left."),
    ("gatewright_serf_cut_off", Gauge, "", "Whether so many members fail that the agent may be the one that is cut off; none is taken out meanwhile."),
    ("gatewright_file_reads_total", Counter, "", "Reads of the catalog file."),
    ("gatewright_file_errors_total", Counter, "class", "Those that failed: unreachable (missing or unreadable), protocol (no catalog), too_large."),
    ("gatewright_certificate_expiry_timestamp_seconds", Gauge, "purpose, file", "When the first certificate of the file expires: client (shown to Consul) or ca (trusted for Consul)."),
    ("gatewright_changes_total", Counter, "result", "Applied sets by how it ended: unchanged, commands, reload, written (nobody could be told), refused (by validation or the gate), rejected (by HAProxy), unconfirmed, busy (too many old workers), failed (not tried)."),
    ("gatewright_reloads_total", Counter, "cause, result", "Reloads. cause: first, structure (a change that commands do not make), repair (the worker did not run what the file held), foreign (HAProxy was restarted or reloaded by others). result: confirmed, rejected, unconfirmed."),
    ("gatewright_divergences_total", Counter, "", "How often the worker did not run what the file held."),
    ("gatewright_runtime_batches_total", Counter, "result", "Batches of Runtime API commands: done, refused, failed."),
    ("gatewright_runtime_commands_total", Counter, "", "Runtime API commands that were answered."),
    ("gatewright_validations_total", Counter, "result", "Runs of haproxy -c: valid, invalid, not_run (cut off or not started, which says nothing about the files)."),
    ("gatewright_validation_duration_seconds", Summary, "", "How long they took."),
    ("gatewright_haproxy_reachable", Gauge, "", "Whether a worker answered at the last look."),
    ("gatewright_haproxy_running_info", Gauge, "revision, version", "What it reported. Always 1."),
    ("gatewright_haproxy_old_workers", Gauge, "", "Workers that still serve their last connections."),
    ("gatewright_haproxy_leaving_servers", Gauge, "", "Servers that were removed and still have connections."),
    ("gatewright_haproxy_by_hand", Gauge, "", "Servers that people have set to something else than the file."),
    ("gatewright_drifted_files", Gauge, "", "Files that are not as they were written."),
    ("gatewright_log_lines_summed_up_total", Counter, "", "Repeated log lines that one line a minute told together."),
    ("gatewright_log_lines_lost_total", Counter, "", "Log lines that are lost, because nobody read the log."),
    ("process_resident_memory_bytes", Gauge, "", "Memory in use."),
    ("process_open_fds", Gauge, "", "Open file descriptors."),
    ("process_max_fds", Gauge, "", "The most that it may have."),
    ("process_cpu_seconds_total", Counter, "", "Processor time."),
    ("process_threads", Gauge, "", "Threads."),
    ("process_start_time_seconds", Gauge, "", "When it started, since 1970."),
    ("gatewright_child_processes", Gauge, "", "Children alive: a validation, and under supervise HAProxy's master."),
];
