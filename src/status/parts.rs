//! The parts of the status that are told in numbers: Consul, certificates, what was applied and how it
//! ended, HAProxy's validations and commands, the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agent::core::{Cause, Counts, End};
use crate::haproxy::tally::{Counted, TALLY};
use crate::source::{ErrorClass, Origin, SourceStatus, consul};

use super::process::wall_clock;
use super::repeats::LEFT_OUT;

/// The catalog as it is asked: Consul, or what is read instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Consul {
    /// What it is: Consul, Serf or a file.
    #[serde(default)]
    pub source: Origin,
    /// The address that is asked now.
    pub address: String,
    /// All of them, in order of preference.
    pub addresses: Vec<String>,
    /// Requests since the start.
    pub requests: u64,
    /// Failures since the start, by class.
    pub errors: BTreeMap<String, u64>,
    /// Watches alive.
    pub watches: u64,
    /// What is under way for them; of Consul only.
    #[serde(default)]
    pub load: Load,
    /// How often another address was taken.
    pub switches: u64,
    /// How long the address asked to be left alone, from now.
    pub throttled_seconds: Option<f64>,
    /// The last failure, a sentence; it may be over.
    pub last_error: Option<String>,
    /// The files of certificates in use.
    pub certificates: Vec<Certificate>,
    /// Serf's members by state: `alive`, `failed`, `leaving`, `left`.
    #[serde(default)]
    pub members: BTreeMap<String, u64>,
    /// Whether so many of them fail that Serf's agent may be the one that is cut off.
    #[serde(default)]
    pub cut_off: bool,
}

/// The queries to Consul and the connections that they share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Distinct queries; several watches may share one.
    pub queries: usize,
    /// Requests under way, each on a connection.
    pub connections: usize,
    /// The most there may be at the moment.
    pub connections_allowed: usize,
    /// Blocking queries.
    pub blocking_queries: usize,
    /// How long the last sweep over the queries that do not block took.
    pub sweep_seconds: f64,
    /// The greatest age of an answer whose query does not block and whose changes no list names; 0 when all block.
    pub worst_age_seconds: f64,
    /// Why a change may be seen late.
    pub late: Option<String>,
}

impl Load {
    fn of(load: &consul::Load) -> Load {
        Load {
            queries: load.asked,
            connections: load.under_way,
            connections_allowed: load.budget,
            blocking_queries: load.held,
            sweep_seconds: load.sweep.as_secs_f64(),
            worst_age_seconds: load.worst_age.as_secs_f64(),
            late: load.late(),
        }
    }
}

/// A file of certificates that is used towards Consul.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `client`, or `ca` for the authorities.
    pub purpose: String,
    /// The file.
    pub file: String,
    /// When the first certificate in it expires, in seconds since 1970.
    pub not_after: i64,
    /// The same from now, by the wall clock; negative when it has expired.
    pub expires_in_seconds: f64,
}

impl Consul {
    /// Reads the source.
    pub fn of(source: &SourceStatus) -> Consul {
        let now = wall_clock();
        let errors = ErrorClass::ALL.iter().map(|class| {
            let count = source.errors.get(class).copied().unwrap_or_default();
            (class.as_str().to_owned(), count)
        });
        let certificates = source.certificates.iter().map(|certificate| Certificate {
            purpose: certificate.purpose.to_owned(),
            file: certificate.file.display().to_string(),
            not_after: certificate.not_after,
            expires_in_seconds: certificate.not_after as f64 - now,
        });
        Consul {
            source: source.origin,
            address: source.address.clone(),
            addresses: source.addresses.clone(),
            requests: source.requests,
            errors: errors.collect(),
            watches: source.watches,
            load: Load::of(&source.load),
            switches: source.switches,
            throttled_seconds: source.throttled_for.map(|time| time.as_secs_f64()),
            last_error: source.last_error.as_ref().map(ToString::to_string),
            certificates: certificates.collect(),
            cut_off: source.cut_off,
            members: source
                .members
                .iter()
                .map(|(state, count)| ((*state).to_owned(), *count))
                .collect(),
        }
    }
}

/// What was done since the start, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Applied sets by how it ended.
    pub changes: BTreeMap<String, u64>,
    /// Reloads by cause and result.
    pub reloads: Vec<Reloads>,
    /// Runs of `haproxy -c` by result: `valid`, `invalid`, `not_run`.
    pub validations: BTreeMap<String, u64>,
    /// How long they took together.
    pub validation_seconds: f64,
    /// Batches of Runtime API commands by result: `done`, `refused`, `failed`.
    pub batches: BTreeMap<String, u64>,
    /// Commands that were answered.
    pub commands: u64,
}

/// Reloads of one cause that ended in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reloads {
    /// `first`, `structure`, `repair` or `foreign`.
    pub cause: String,
    /// `confirmed`, `rejected` or `unconfirmed`.
    pub result: String,
    /// How many.
    pub count: u64,
}

impl Work {
    /// Reads the counts of the core and of the process.
    pub fn of(counts: &Counts) -> Work {
        let results = [
            (End::Reload, "confirmed"),
            (End::Rejected, "rejected"),
            (End::Unconfirmed, "unconfirmed"),
        ];
        let reloads = Cause::ALL.iter().flat_map(|cause| {
            results.map(|(end, result)| Reloads {
                cause: cause.as_str().to_owned(),
                result: result.to_owned(),
                count: counts
                    .reload_ends
                    .get(&(*cause, end))
                    .copied()
                    .unwrap_or_default(),
            })
        });
        let changes = End::ALL.iter().map(|end| {
            let count = counts.ends.get(end).copied().unwrap_or_default();
            (end.as_str().to_owned(), count)
        });
        let Counted {
            valid,
            invalid,
            not_run,
            validation_time,
            batches_done,
            batches_refused,
            batches_failed,
            commands,
        } = TALLY.counted();
        let named = |pairs: [(&str, u64); 3]| pairs.map(|(name, n)| (name.to_owned(), n)).into();
        Work {
            changes: changes.collect(),
            reloads: reloads.collect(),
            validations: named([("valid", valid), ("invalid", invalid), ("not_run", not_run)]),
            validation_seconds: validation_time.as_secs_f64(),
            batches: named([
                ("done", batches_done),
                ("refused", batches_refused),
                ("failed", batches_failed),
            ]),
            commands,
        }
    }
}

/// What the log has left out since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LogLines {
    /// Repeats that one line a minute summed up.
    pub summed_up: u64,
    /// Lines that nobody read in time.
    pub lost: u64,
}

impl LogLines {
    /// As it is now.
    pub fn now() -> LogLines {
        let (summed_up, lost) = LEFT_OUT.counts();
        LogLines { summed_up, lost }
    }
}
