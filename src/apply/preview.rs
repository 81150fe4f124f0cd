//! What applying a set would do to a running HAProxy, found without doing it: reads the live files and asks the
//! worker, takes no lock and changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::carrier::Carrier;
use super::execute::{Options, invocation, others_of};
use super::files;
use super::gate::{self, Rules};
use super::plan::{Comparison, Doubt, Known, Plan, Steps};
use super::set::{Candidate, Revision, SetFile};
use super::tell::{Haproxy, Mode, Seen};
use super::validate;
use crate::haproxy::Finding;

/// How long a HAProxy that does not answer is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Would {
    /// HAProxy runs it already, and the files are current.
    Nothing,
    /// The worker would be told what differs.
    Commands(Vec<String>),
    /// HAProxy would load the files again.
    Reload {
        /// Why, in words.
        reason: String,
    },
    /// The files would be written and HAProxy started, by `gatewright run` as its parent.
    Start,
    /// The files would be written, and nobody told.
    Write {
        /// Why, in words.
        reason: String,
    },
}

/// What applying a set would do.
#[derive(Debug)]
pub struct Preview {
    /// What runs, in words.
    pub running: String,
    /// How the set differs from the live files, in words.
    pub changes: String,
    /// What would be done if nothing refuses it.
    pub would: Would,
    /// What the gate says.
    pub findings: Vec<Finding>,
}

/// Finds out what applying this set would do.
pub async fn preview(options: &Options, rules: &Rules, candidate: &Candidate) -> Preview {
    let live = live(candidate);
    let carrier = options.carrier().unwrap_or(Carrier::File(PathBuf::new()));
    let others = others_of(options, &live);
    let mut haproxy = Haproxy::new(
        // Only looked at; a supervised one is the child of somebody else.
        match &options.mode {
            Mode::Supervise { socket, .. } => Mode::Master {
                socket: socket.clone(),
            },
            other => other.clone(),
        },
        options.stats_socket.clone(),
        carrier.variable(),
        invocation(options),
        options.command_timeout,
        options.confirm_timeout,
    );
    haproxy.learn_socket(&[&live[..], &others].concat());
    let seen = haproxy.seen(PATIENCE).await;
    let comparison = carrier.compare(&live, &candidate.files, &others);
    let whole = live.len() == candidate.files.len();
    let changes = match (whole, comparison.changes.is_empty()) {
        (false, _) => "first configuration".to_owned(),
        (true, true) => "no change but comments".to_owned(),
        (true, false) => comparison.changes.to_string(),
    };
    let mut findings = gate::judge(candidate, whole.then_some(live.as_slice()), rules);
    if matches!(seen, Seen::Running(_)) && whole {
        findings.extend(validate::by_addresses(candidate, &live));
    }
    let written = carrier.revision(&live);
    let would = would(
        options,
        candidate,
        (&live, written),
        &comparison,
        &haproxy,
        &seen,
    )
    .await;
    Preview {
        running: in_words(&seen),
        changes: match would {
            Would::Nothing => "none".to_owned(),
            _ => changes,
        },
        would,
        findings,
    }
}

/// The destinations as they are; those that are not there are left out.
fn live(candidate: &Candidate) -> Vec<SetFile> {
    let files = candidate.files.iter().filter_map(|file| {
        Some(SetFile {
            text: files::read(&file.destination).ok()??,
            ..file.clone()
        })
    });
    files.collect()
}

async fn would(
    options: &Options,
    candidate: &Candidate,
    (live, written): (&[SetFile], Option<Revision>),
    comparison: &Comparison,
    haproxy: &Haproxy,
    seen: &Seen,
) -> Would {
    let reload = |reason: &str| Would::Reload {
        reason: reason.to_owned(),
    };
    let running = match seen {
        Seen::Running(running) => running,
        Seen::Absent { .. } if matches!(options.mode, Mode::Supervise { .. }) => {
            return Would::Start;
        }
        Seen::Absent { .. } => {
            return Would::Write {
                reason: "HAProxy is not running".to_owned(),
            };
        }
        Seen::Unknown(_) => {
            return Would::Write {
                reason: "HAProxy cannot be asked".to_owned(),
            };
        }
    };
    if live.len() < candidate.files.len() {
        return reload("there is no earlier configuration to start from");
    }
    if live == candidate.files && running.revision.as_ref() == Some(&candidate.revision) {
        return Would::Nothing;
    }
    if written.is_none() || running.revision != written {
        return reload("HAProxy does not run what the live files hold");
    }
    if let Some(reason) = &comparison.reload {
        return reload(reason);
    }
    if !options.commands {
        return reload("the settings say so");
    }
    let Some(session) = haproxy.session(running).await else {
        return reload("HAProxy has no socket of level admin that takes commands");
    };
    let Ok((_, rows)) = session.servers(Some(&comparison.backends())).await else {
        return reload("the servers of the worker could not be read");
    };
    let known = Known {
        version: session.version,
        rows: &rows,
        leaving: &BTreeMap::new(),
        doubtful: &Doubt::default(),
    };
    match comparison.plan(known, options.policy) {
        Plan::Nothing => Would::Commands(Vec::new()),
        Plan::Commands(steps) => Would::Commands(said(&steps)),
        Plan::Reload { reason } => Would::Reload { reason },
    }
}

/// The commands as HAProxy would get them; maps and certificates in words, because their content may be long
/// or secret.
fn said(steps: &Steps) -> Vec<String> {
    let servers = &steps.servers;
    let encode = |commands: &[crate::haproxy::runtime::Command]| -> Vec<String> {
        let lines = commands.iter().filter_map(|command| command.encode().ok());
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let mut said = encode(&servers.first);
    said.extend(encode(&servers.ready));
    for one in &steps.certificates.contents {
        said.push(format!("set ssl cert {} …", one.destination.display()));
    }
    for list in &steps.certificates.lists {
        said.push(format!(
            "crt-list {}: {} lines added, {} removed",
            list.destination.display(),
            list.added.len(),
            list.removed.len()
        ));
    }
    for map in &steps.maps {
        said.push(format!(
            "map {}: all {} entries exchanged in one step",
            map.destination.display(),
            map.entries.len()
        ));
    }
    for acl in &steps.acls {
        said.push(format!(
            "acl {}: all {} patterns exchanged in one step",
            acl.destination.display(),
            acl.patterns.len()
        ));
    }
    said.extend(encode(&servers.last));
    for one in &steps.certificates.forgotten {
        said.push(format!("del ssl cert {}", one.display()));
    }
    said
}

fn in_words(seen: &Seen) -> String {
    match seen {
        Seen::Running(running) => {
            let revision = match &running.revision {
                Some(revision) => format!("revision {revision}"),
                None => "a configuration that carries no revision".to_owned(),
            };
            format!(
                "HAProxy {} (worker {}) runs {revision}.",
                running.version, running.pid
            )
        }
        Seen::Absent { reason } => {
            format!("HAProxy is not running: {}.", reason.trim_end_matches('.'))
        }
        Seen::Unknown(why) => {
            let why = why.to_string();
            format!("HAProxy cannot be asked: {}.", why.trim_end_matches('.'))
        }
    }
}
