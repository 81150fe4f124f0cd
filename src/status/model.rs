//! The status as data. Its JSON form is an interface: fields are added, never renamed. It holds no
//! value of the catalog but names and counts, and no secret.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::agent::core::Core;
use crate::agent::listeners::Waiting;
use crate::diagnostic::Diagnostic;
use crate::haproxy::runtime::Version;
use crate::source::SourceStatus;

pub use super::parts::{Certificate, Consul, LogLines, Reloads, Work};
use super::process::Process;

/// The whole status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Gatewright's version.
    pub version: String,
    /// The sidecar's process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// One word for the whole.
    pub state: State,
    /// Whether HAProxy runs a set that it has confirmed. A Consul that is away changes nothing in that.
    #[serde(default)]
    pub ready: bool,
    /// Why not, a sentence.
    #[serde(default)]
    pub not_ready: Option<String>,
    /// What HAProxy has taken.
    pub applied: Option<Applied>,
    /// Whether no set was good so far, so that none is in force while one is held or waits.
    #[serde(default)]
    pub no_last_good: bool,
    /// What was refused, and why.
    pub held: Option<Held>,
    /// The last good structure, where it is kept because the newest set cannot be applied.
    #[serde(default)]
    pub structure_kept: Option<StructureKept>,
    /// Why the last try to apply a set failed; it is tried again.
    #[serde(default)]
    pub not_applied: Option<String>,
    /// The revision that waits for its turn or is being applied.
    pub pending: Option<String>,
    /// Queries and keys that a rendering waits for.
    pub waiting_for: Vec<String>,
    /// Seconds since the waiting began.
    pub waiting_seconds: Option<f64>,
    /// What is wrong with the templates.
    pub template_errors: Vec<String>,
    /// The same without words of the configuration: what kind, and where.
    #[serde(default)]
    pub template_errors_at: Vec<String>,
    /// What is wrong with the settings on disk; also among the warnings.
    #[serde(default)]
    pub settings_errors: Vec<String>,
    /// Instances that were left out, a sentence each.
    pub quarantined: Vec<String>,
    /// Every watched query.
    pub queries: Vec<Watched>,
    /// What vanished from the catalog and is kept by the guard.
    #[serde(default)]
    pub holds: Vec<Hold>,
    /// Listeners of the last good set that the templates do not make any more; they wait for an operator.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// The answers on disk, once there are any.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
    /// HAProxy as it was last seen.
    pub haproxy: HAProxy,
    /// What somebody should know and may have forgotten, such as unverified TLS.
    pub warnings: Vec<String>,
    /// Consul as it is asked.
    #[serde(default)]
    pub consul: Consul,
    /// What was done since the start, and how it ended.
    #[serde(default)]
    pub work: Work,
    /// What the log has left out.
    #[serde(default)]
    pub log: LogLines,
    /// What this process costs.
    #[serde(default)]
    pub process: Process,
    /// Where metrics, health and the page are served by HTTP.
    #[serde(default)]
    pub listening: Option<String>,
}

/// One word for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing was applied yet.
    Starting,
    /// HAProxy runs what the catalog says.
    Confirmed,
    /// The files are current; HAProxy has not confirmed them.
    Unconfirmed,
    /// A newer set was refused; the last good one is in force.
    Held,
    /// Something a template needs is not known; the last good one is in force.
    Waiting,
    /// HAProxy runs what the catalog says, what the guard keeps of what vanished from it, and listeners
    /// that wait for an operator.
    Guarded,
    /// A set is on its way.
    Applying,
}

impl State {
    /// All of them.
    pub const ALL: [State; 7] = [
        State::Starting,
        State::Confirmed,
        State::Unconfirmed,
        State::Held,
        State::Waiting,
        State::Guarded,
        State::Applying,
    ];

    /// Its word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Confirmed => "confirmed",
            State::Unconfirmed => "unconfirmed",
            State::Held => "held",
            State::Waiting => "waiting",
            State::Guarded => "guarded",
            State::Applying => "applying",
        }
    }

    /// What it means, for a person.
    fn meaning(self) -> &'static str {
        match self {
            State::Starting => "nothing was applied yet",
            State::Confirmed => "HAProxy runs what the catalog says",
            State::Unconfirmed => "the files are current, HAProxy has not confirmed them",
            State::Held | State::Waiting => "the last good configuration is in force",
            State::Guarded => "what vanished is kept until it returns or is released",
            State::Applying => "a new set is on its way",
        }
    }
}

/// What HAProxy has taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The set.
    pub revision: String,
    /// Whether the running worker reported it.
    pub confirmed: bool,
    /// How long ago.
    pub seconds_ago: f64,
    /// What changed and what was done; empty when nothing had to be.
    pub story: String,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The set.
    pub revision: String,
    /// `validation` or `haproxy`.
    pub by: String,
    /// Why.
    pub why: Vec<String>,
    /// The same without words of the configuration: what kind, and where.
    #[serde(default)]
    pub at: Vec<String>,
}

/// The last good structure, which is kept while the newest set cannot be applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StructureKept {
    /// Since when.
    pub since_seconds: f64,
    /// What keeps the newest set from being applied, to follow "because".
    pub because: String,
    /// Whether its servers follow the catalog.
    pub servers_current: bool,
    /// Why they do not, a whole sentence.
    pub not_current: Option<String>,
}

/// A watched query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// As a template asks it.
    pub query: String,
    /// How many things the last answer holds; `None` before the first one.
    pub items: Option<usize>,
    /// How old what is known may be: the time since the last answer plus its own age.
    pub age_seconds: Option<f64>,
    /// The last error, while it lasts.
    pub error: Option<String>,
    /// Seconds since the first error in a row.
    pub failing_seconds: Option<f64>,
}

/// What vanished from one query's answer and is kept by the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// As a template asks it.
    pub query: String,
    /// The service, where the query is of one: what `gatewright release` is given.
    pub service: Option<String>,
    /// How many items the catalog shows now.
    pub present: usize,
    /// How many more are kept.
    pub held: usize,
    /// The largest number believed within the window, by which the loss is judged.
    pub reference: usize,
    /// Why, a whole sentence.
    pub reason: String,
    /// Seconds since the hold began.
    pub since_seconds: f64,
    /// Seconds until it ends by itself; `None` when only the items' return or a release ends it.
    pub ends_in_seconds: Option<f64>,
}

/// A listener that the templates do not make any more and that waits for an operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it listens: what `gatewright release --listener` is given.
    pub address: String,
    /// Its section's kind and name.
    pub section: String,
    /// Why it does not go by itself, a whole sentence.
    pub reason: String,
    /// Seconds since it waits.
    pub since_seconds: f64,
    /// Why its section cannot be kept, to follow "because". Then the whole set waits; else everything
    /// but the section goes on.
    pub not_kept: Option<String>,
}

/// The answers that are kept on disk for a start without Consul.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// How long ago it was written; `None` when this process has not written one yet.
    pub saved_seconds_ago: Option<f64>,
    /// Queries that are answered from it, because Consul does not answer them.
    pub in_use: usize,
    /// The age of the oldest of these answers.
    pub oldest_seconds: Option<f64>,
}

/// HAProxy as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HAProxy {
    /// How it is told.
    pub mode: String,
    /// Whether a worker answered.
    pub reachable: bool,
    /// The revision the worker reports.
    pub running: Option<String>,
    /// The worker's process id.
    pub worker: Option<i32>,
    /// Its version.
    pub version: Option<String>,
    /// Workers that still serve their last connections.
    pub old_workers: usize,
    /// Files that are not as they were written.
    pub drift: Vec<String>,
    /// Servers that were removed and still have connections.
    #[serde(default)]
    pub leaving: Vec<String>,
    /// What people have set by hand, one sentence each.
    #[serde(default)]
    pub by_hand: Vec<String>,
    /// Changes that were taken by a reload, since the start.
    #[serde(default)]
    pub reloads: u64,
    /// Changes that the running worker took by commands, since the start.
    #[serde(default)]
    pub by_commands: u64,
    /// How often the worker did not run what the file held, since the start.
    #[serde(default)]
    pub divergences: u64,
}

/// What the status says beside what the core knows.
#[derive(Debug, Clone)]
pub struct Frame {
    /// When the sidecar started.
    pub started: Instant,
    /// How HAProxy is told.
    pub mode: String,
    /// Standing warnings.
    pub warnings: Vec<String>,
    /// What is wrong with the settings on disk.
    pub settings_errors: Vec<String>,
    /// Where HTTP is served.
    pub listening: Option<String>,
}

impl Status {
    /// What the state means, for a person.
    pub fn meaning(&self) -> &'static str {
        match self.state {
            State::Held | State::Waiting if self.no_last_good => {
                "no configuration has been good yet, so none is in force"
            }
            state => state.meaning(),
        }
    }

    /// Reads the core and the source.
    pub fn of(core: &Core, source: &SourceStatus, frame: &Frame, now: Instant) -> Status {
        let since = |then: Instant| (now - then).as_secs_f64();
        let waiting = core.waiting();
        let observed = core.observed();
        let not_ready = not_ready(core);
        let consul = Consul::of(source);
        let warnings = frame
            .warnings
            .iter()
            .chain(&frame.settings_errors)
            .chain(core.noted())
            .chain(&observed.notes)
            .cloned()
            .chain(source.warnings())
            .chain(consul.certificates.iter().filter_map(expiring));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: since(frame.started),
            state: state(core),
            ready: not_ready.is_none(),
            not_ready,
            applied: core.applied().map(|applied| Applied {
                revision: applied.revision.to_string(),
                confirmed: applied.confirmed,
                seconds_ago: since(applied.at),
                story: applied.story.clone(),
            }),
            no_last_good: !core.has_last_good(),
            held: core.refused().map(|refused| Held {
                revision: refused.revision.to_string(),
                by: if refused.by_haproxy {
                    "haproxy"
                } else {
                    "validation"
                }
                .to_owned(),
                why: refused.why.iter().map(ToString::to_string).collect(),
                at: refused.why.iter().map(kind_and_place).collect(),
            }),
            structure_kept: core.structure_kept().map(|kept| StructureKept {
                since_seconds: since(kept.since),
                because: kept.obstacle.reason().to_owned(),
                servers_current: kept.not_current.is_none(),
                not_current: kept.not_current.clone(),
            }),
            not_applied: core.failure().map(str::to_owned),
            pending: core.pending().map(ToString::to_string),
            waiting_for: waiting
                .needed
                .iter()
                .chain(&waiting.absent)
                .map(ToString::to_string)
                .collect(),
            waiting_seconds: waiting.since.map(since),
            template_errors: core.template_errors().map(ToString::to_string).collect(),
            template_errors_at: core.template_errors().map(kind_and_place).collect(),
            settings_errors: frame.settings_errors.clone(),
            quarantined: core.quarantined().to_vec(),
            queries: core
                .watches()
                .iter()
                .map(|(query, watched)| Watched {
                    query: query.to_string(),
                    items: watched.answer().map(|answer| answer.len()),
                    age_seconds: watched
                        .answered_at
                        .map(|then| since(then) + watched.age.as_secs_f64()),
                    error: watched
                        .failing
                        .as_ref()
                        .map(|failing| failing.error.clone()),
                    failing_seconds: watched.failing.as_ref().map(|failing| since(failing.since)),
                })
                .collect(),
            holds: core
                .holds()
                .into_iter()
                .map(|hold| Hold {
                    query: hold.query.to_string(),
                    service: hold.service,
                    present: hold.present,
                    held: hold.held,
                    reference: hold.reference,
                    reason: hold.reason,
                    since_seconds: since(hold.since),
                    ends_in_seconds: hold
                        .ends_at
                        .map(|end| end.saturating_duration_since(now).as_secs_f64()),
                })
                .collect(),
            listeners: core.listeners().waiting().iter().map(listener).collect(),
            snapshot: snapshot(core, now),
            haproxy: HAProxy {
                mode: frame.mode.clone(),
                reachable: observed.reachable,
                running: observed.running.as_ref().map(ToString::to_string),
                worker: observed.worker,
                version: observed.version.clone(),
                old_workers: observed.old_workers,
                drift: observed.drift.clone(),
                leaving: observed.servers.leaving.clone(),
                by_hand: observed.servers.by_hand.clone(),
                reloads: core.counts().reloads,
                by_commands: core.counts().by_commands,
                divergences: core.counts().divergences,
            },
            warnings: warnings.collect(),
            consul,
            work: Work::of(core.counts()),
            log: LogLines::now(),
            process: Process::read(),
            listening: frame.listening.clone(),
        }
    }
}

impl HAProxy {
    /// Its version; of a branch newer than any known one, also the branch that it is treated as.
    pub fn described(&self) -> String {
        let Some(text) = &self.version else {
            return "unknown version".to_owned();
        };
        match Version::parse(text).and_then(|version| version.treated_as()) {
            Some(known) => format!("{text} (newer than any known one, treated as {known})"),
            None => text.clone(),
        }
    }
}

fn listener(one: &Waiting) -> Listener {
    let lost = &one.lost;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = wall.map_or(0, |since| since.as_secs());
    Listener {
        address: lost.endpoint.to_string(),
        section: format!("{} {}", lost.kind, lost.section),
        reason: one.reason.to_string(),
        since_seconds: wall.saturating_sub(one.since) as f64,
        not_kept: one.cannot_keep.as_ref().map(ToString::to_string),
    }
}

fn snapshot(core: &Core, now: Instant) -> Option<Snapshot> {
    let memory = core.memory();
    let used: Vec<f64> = core
        .watches()
        .values()
        .filter(|watched| watched.from_snapshot)
        .filter_map(|watched| Some((now - watched.answered_at?) + watched.age))
        .map(|age| age.as_secs_f64())
        .collect();
    memory.exists().then(|| Snapshot {
        saved_seconds_ago: memory.saved_at().map(|at| (now - at).as_secs_f64()),
        in_use: used.len(),
        oldest_seconds: used.into_iter().reduce(f64::max),
    })
}

fn state(core: &Core) -> State {
    if core.pending().is_some() {
        State::Applying
    } else if core.refused().is_some() || core.template_errors().next().is_some() {
        State::Held
    } else if core.waiting().since.is_some() {
        State::Waiting
    } else {
        match core.applied() {
            None => State::Starting,
            Some(applied) if applied.confirmed && keeps(core) => State::Guarded,
            Some(applied) if applied.confirmed => State::Confirmed,
            Some(_) => State::Unconfirmed,
        }
    }
}

/// Whether HAProxy is to run something that the catalog or the templates do not have any more.
fn keeps(core: &Core) -> bool {
    !core.holds().is_empty() || !core.listeners().waiting().is_empty()
}

/// Ready means that HAProxy runs a set that it has confirmed: by this process, or before it started and
/// nothing newer was applied yet.
fn not_ready(core: &Core) -> Option<String> {
    let observed = core.observed();
    match core.applied() {
        Some(applied) if applied.confirmed => None,
        Some(applied) => Some(format!(
            "HAProxy has not confirmed revision {}: {}.",
            applied.revision,
            match (observed.reachable, &observed.running) {
                (false, _) => "no worker answers".to_owned(),
                (true, Some(running)) => format!("it reports {running}"),
                (true, None) => "it reports no revision".to_owned(),
            }
        )),
        None if observed.confirmed => None,
        None => Some("No set was applied since the start.".to_owned()),
    }
}

/// What kind of error and where, without the words that it quotes.
fn kind_and_place(error: &Diagnostic) -> String {
    match &error.place {
        Some(place) => format!("{} at {place}", error.code),
        None => error.code.to_owned(),
    }
}

/// A sentence about a certificate that expires soon or has expired.
fn expiring(certificate: &Certificate) -> Option<String> {
    const SOON: f64 = 14.0 * 86_400.0;
    let Certificate {
        purpose,
        file,
        expires_in_seconds: left,
        ..
    } = certificate;
    let when = match *left {
        left if left > SOON => return None,
        left if left > 0.0 => format!("expires in {:.1} days", left / 86_400.0),
        _ => "has expired".to_owned(),
    };
    let whose = match purpose.as_str() {
        "client" => "The certificate that is shown to Consul",
        _ => "A certificate of the authorities that are trusted for Consul",
    };
    Some(format!(
        "{whose} ({file}) {when}. Replace the file; it is read again by itself."
    ))
}

#[cfg(test)]
pub(crate) mod tests;
