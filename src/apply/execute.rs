//! One set at a time becomes what HAProxy runs, or nothing changes.
//!
//! ```text
//! compare → stage → haproxy -c, gate, addresses → keep → swap in → tell → confirm → finish
//!    │                        │                                │       │
//! Unchanged                Refused                             └───────┴──► take back: Rejected, Unconfirmed
//! ```
//!
//! *Written*, *applied* and *confirmed* are three facts, kept apart in the state directory. Never
//! retries by itself and keeps no clock: when to apply what is the agent's decision.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::files::{self, FileError};
use super::history::{History, Rejection, StoredSet};
use super::journal::{self, Change, Phase};
use super::lock::Lock;
use super::set::{Candidate, Revision, Role, SetFile};
use super::stage::{self, stage};
use super::tell::{Haproxy, Mode, Seen, Told};
use super::validate::{self, Judge, Master};
pub use super::verdict::{ApplyError, Observation, Options, Verdict};
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::check::Invocation;
use crate::haproxy::stats::Running;
use crate::haproxy::supervise::Supervisor;

/// A socket that refuses this long means that HAProxy is not running.
const ABSENT: Duration = Duration::from_secs(2);
/// After HAProxy says "loaded", an old worker may still answer (up to 14 ms seen, more under load).
const STALE: Duration = Duration::from_secs(3);
/// For a service manager to bring a HAProxy back that ended.
const RETURN: Duration = Duration::from_secs(5);

/// The one that writes the destinations and tells HAProxy.
pub struct Applier {
    options: Options,
    judge: Judge,
    history: History,
    haproxy: Haproxy,
    last_good: Option<StoredSet>,
    pending: Option<Change>,
    _lock: Lock,
}

impl Applier {
    /// Takes the locks, cleans up after a crash and reads what is known. Touches neither HAProxy nor,
    /// unless a swap was interrupted, its files.
    pub fn open(options: Options, judge: Judge) -> Result<Applier, ApplyError> {
        let main = options
            .destinations
            .iter()
            .find(|(_, role)| *role == Role::Config)
            .ok_or(ApplyError::NoConfiguration)?;
        let lock = Lock::acquire(&options.state_directory, &main.0)?;
        let mut history = History::open(&options.state_directory, options.keep)?;
        let pending = journal::recover(&options.state_directory)?;
        stage::clean(options.destinations.iter().map(|(path, _)| path.as_path()));
        if pending.is_none() {
            history.adopt_live(&options.destinations)?;
        }
        let mut haproxy = Haproxy::new(
            options.mode.clone(),
            options.stats_socket.clone(),
            invocation(&options),
            options.command_timeout,
            options.confirm_timeout,
        );
        let last_good = history.last_good();
        if let Some(good) = &last_good {
            haproxy.learn_socket(&good.files);
        }
        Ok(Applier {
            last_good,
            options,
            judge,
            history,
            haproxy,
            pending,
            _lock: lock,
        })
    }

    /// What a failed change goes back to.
    pub fn last_good(&self) -> Option<&[SetFile]> {
        self.last_good.as_ref().map(|set| set.files.as_slice())
    }

    /// The supervised HAProxy, once it was started. The handle can be kept and used at any time.
    pub fn supervisor(&self) -> Option<Supervisor> {
        self.haproxy.supervisor().cloned()
    }

    /// Under `supervise`, the handle to HAProxy, started or not. It can be kept and used at any time.
    pub fn guardian(&mut self) -> Option<Supervisor> {
        self.haproxy.guardian()
    }

    /// Takes over the HAProxy of an applier that this one replaces. False when the settings name
    /// another master socket: then it could not be reached, and a second one would be started.
    pub fn inherit(&mut self, supervisor: Supervisor) -> bool {
        self.haproxy.inherit(supervisor)
    }

    /// Makes HAProxy run this set, or leaves everything as it was.
    pub async fn apply(&mut self, candidate: &Candidate) -> Verdict {
        let result = self.try_apply(candidate, true).await;
        self.end(result)
    }

    /// Whatever failed: HAProxy may be started again, and a change that could not be ended is settled
    /// at the next try.
    fn end(&mut self, result: Result<Verdict, ApplyError>) -> Verdict {
        self.haproxy.hold_restarts(!self.has_configuration());
        result.unwrap_or_else(|error| {
            match journal::recover(&self.options.state_directory) {
                Ok(change) => self.pending = change,
                Err(error) => tracing::warn!(%error, "the journal could not be read"),
            }
            Verdict::Failed { error }
        })
    }

    /// Goes back to a kept good set: the given one, or the newest before the current. The gate is not
    /// asked: this is an operator's order.
    pub async fn roll_back(&mut self, to: Option<&Revision>) -> Verdict {
        let current = self.last_good.as_ref().map(|set| set.revision.clone());
        let wanted = match to {
            Some(revision) => Some(revision.clone()),
            None => self
                .history
                .kept()
                .into_iter()
                .find(|kept| Some(kept) != current.as_ref()),
        };
        let kept = wanted.and_then(|revision| self.history.load_set(&revision));
        self.apply_kept(kept).await
    }

    /// Applies the last good set again, without asking the gate: for a start while the catalog is
    /// away. A supervised HAProxy is started with it.
    pub async fn resume(&mut self) -> Verdict {
        let good = self.last_good.clone();
        self.apply_kept(good).await
    }

    async fn apply_kept(&mut self, set: Option<StoredSet>) -> Verdict {
        let Some(set) = set else {
            return Verdict::Failed {
                error: ApplyError::NothingKept,
            };
        };
        // The settings may name other files since it was kept.
        let known = |file: &SetFile| {
            self.options
                .destinations
                .iter()
                .any(|(path, _)| *path == file.destination)
        };
        if let Some(file) = set.files.iter().find(|file| !known(file)) {
            return Verdict::Failed {
                error: ApplyError::Elsewhere {
                    destination: file.destination.clone(),
                },
            };
        }
        let candidate = match set.marked {
            true => Candidate {
                revision: set.revision,
                files: set.files,
            },
            false => Candidate::new(set.files),
        };
        let result = self.try_apply(&candidate, false).await;
        self.end(result)
    }

    /// Looks at HAProxy and at the files. A set that was written while HAProxy was away becomes
    /// confirmed here when HAProxy has come with it.
    pub async fn observe(&mut self) -> Observation {
        let seen = self.haproxy.seen(Duration::from_millis(300)).await;
        if let (Seen::Running(running), None) = (&seen, &self.pending)
            && running.revision.is_some()
            && running.revision == self.history.state().written
            && let Err(error) = self.confirmed(running.revision.clone())
        {
            tracing::warn!(%error, "what HAProxy runs could not be noted");
        }
        let state = self.history.state().clone();
        Observation {
            drift: self.drift(state.written.as_ref()),
            seen,
            written: state.written,
            applied: state.applied,
            confirmed: state.confirmed,
            rejected: state.rejected,
            old_workers: self.haproxy.old_workers().await,
            supervised: self.haproxy.supervisor().map(Supervisor::status),
        }
    }

    async fn try_apply(
        &mut self,
        candidate: &Candidate,
        judged: bool,
    ) -> Result<Verdict, ApplyError> {
        let started = Instant::now();
        let seen = self.haproxy.seen(ABSENT).await;
        self.settle(&seen)?;
        let current = is_live(candidate);
        if let Some(verdict) = self.already(candidate, &seen, current)? {
            self.haproxy.adopt().await;
            return Ok(verdict);
        }
        let process = self.process(&seen).await;
        if let Some(verdict) = self.remembered(candidate, process) {
            return Ok(verdict);
        }
        if !matches!(seen, Seen::Absent { .. })
            && let Some(old_workers) = self.haproxy.old_workers().await
            && old_workers >= self.options.max_old_workers
        {
            return Ok(Verdict::Busy { old_workers });
        }
        let master = self.master().await;
        let directory = master
            .as_ref()
            .and_then(|master| master.directory.clone())
            .or_else(|| self.options.working_directory.clone());
        let staged = stage(candidate, self.last_good(), directory.as_deref())?;
        let base = invocation(&self.options);
        let limit = self.options.validate_timeout;
        let mut findings =
            validate::by_haproxy(candidate, &staged, &base, master.as_ref(), limit).await?;
        if !is_error(&findings) && judged {
            findings.extend((self.judge)(candidate, self.last_good()));
        }
        if !is_error(&findings) {
            findings.extend(self.taken_addresses(candidate, &seen));
        }
        if is_error(&findings) {
            let kept = self.set_aside(candidate, &in_words(&findings));
            return Ok(Verdict::Refused { findings, kept });
        }
        self.history.keep(&StoredSet::from(candidate))?;
        let change = Change::commit(
            &self.options.state_directory,
            &candidate.revision,
            staged.into_entries(),
        )?;
        let written = Some(candidate.revision.clone());
        if let Err(error) = self.history.update(|state| state.written = written) {
            change.take_back().map_err(ApplyError::TakeBack)?;
            return Err(error.into());
        }
        self.take_effect(candidate, change, started, findings).await
    }

    /// A change that a crash left complete on disk: what the worker runs is confirmed, anything else is
    /// taken back, and applied again if it is still wanted.
    fn settle(&mut self, seen: &Seen) -> Result<(), ApplyError> {
        let Some(change) = self.pending.take() else {
            return Ok(());
        };
        let revision = change.revision();
        if runs(seen, revision.as_ref()) {
            change.finish()?;
            self.confirmed(revision)?;
        } else {
            change.take_back().map_err(ApplyError::TakeBack)?;
            let good = self.history.last_good().map(|set| set.revision);
            self.history.update(|state| state.written = good)?;
            self.history.adopt_live(&self.options.destinations)?;
        }
        self.last_good = self.history.last_good();
        Ok(())
    }

    /// Nothing to do: it runs, or it is written and there is nobody to tell.
    fn already(
        &mut self,
        candidate: &Candidate,
        seen: &Seen,
        current: bool,
    ) -> Result<Option<Verdict>, ApplyError> {
        let revision = Some(&candidate.revision);
        if !current {
            return Ok(None);
        }
        if runs(seen, revision) {
            self.confirmed(revision.cloned())?;
            return Ok(Some(Verdict::Unchanged));
        }
        if !self.haproxy.can_ask() && self.history.state().applied.as_ref() == revision {
            return Ok(Some(Verdict::Unchanged));
        }
        let written = self.history.state().written.as_ref() == revision;
        if !self.haproxy.can_tell() && written {
            return Ok(Some(Verdict::Written {
                revision: candidate.revision.clone(),
                reason: "nobody is told in this mode".to_owned(),
            }));
        }
        let supervised = matches!(self.options.mode, Mode::Supervise { .. });
        match seen {
            Seen::Absent { reason }
                if !supervised && self.history.state().written.as_ref() == revision =>
            {
                Ok(Some(Verdict::Written {
                    revision: candidate.revision.clone(),
                    reason: reason.clone(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// What this HAProxy has rejected before it would reject again.
    fn remembered(&self, candidate: &Candidate, process: Option<i32>) -> Option<Verdict> {
        let rejection = self.history.state().rejected.as_ref()?;
        let same = rejection.revision == candidate.revision.as_str();
        // Of a HAProxy that cannot be told apart from the next one nothing is remembered.
        (same && process.is_some() && rejection.process == process).then(|| Verdict::Rejected {
            reason: format!("HAProxy has rejected this set before. {}", rejection.reason),
            findings: Vec::new(),
            restored: true,
            kept: None,
        })
    }

    fn taken_addresses(&self, candidate: &Candidate, seen: &Seen) -> Vec<Finding> {
        match (seen, &self.last_good) {
            (Seen::Running(running), Some(good)) if runs_set(running, good) => {
                validate::by_addresses(candidate, &good.files)
            }
            _ => Vec::new(),
        }
    }

    /// The files are in place: tell, confirm, and finish or take back.
    async fn take_effect(
        &mut self,
        candidate: &Candidate,
        mut change: Change,
        started: Instant,
        findings: Vec<Finding>,
    ) -> Result<Verdict, ApplyError> {
        let revision = candidate.revision.clone();
        if let Err(error) = change.reached(Phase::Told) {
            change.take_back().map_err(ApplyError::TakeBack)?;
            return Err(error.into());
        }
        self.haproxy.learn_socket(&candidate.files);
        self.haproxy.hold_restarts(true);
        let told = self.haproxy.tell().await;
        let wanted = |running: &Running| running.revision.as_ref() == Some(&revision);
        let limit = match (&told, &self.options.mode) {
            (Told::Loaded, Mode::Signal { .. } | Mode::Command { .. }) => {
                self.options.confirm_timeout
            }
            (Told::Loaded, _) => STALE.min(self.options.confirm_timeout),
            // A command may fail after it has reloaded.
            _ => Duration::ZERO,
        };
        let seen = match &told {
            Told::Absent { .. } | Told::Ended { .. } => Seen::Absent {
                reason: String::new(),
            },
            _ => self.haproxy.confirm(limit, wanted).await,
        };
        if runs(&seen, Some(&revision)) {
            change.finish()?;
            self.confirmed(Some(revision.clone()))?;
            return Ok(Verdict::Confirmed {
                revision,
                took: started.elapsed(),
                means: self.haproxy.means(),
                findings,
            });
        }
        match told {
            Told::Absent { reason } => {
                change.finish()?;
                Ok(Verdict::Written { revision, reason })
            }
            Told::Loaded if !self.haproxy.can_ask() => {
                change.finish()?;
                self.history
                    .update(|state| state.applied = Some(revision.clone()))?;
                self.last_good = self.history.last_good();
                Ok(Verdict::Written {
                    revision,
                    reason: describe(&seen),
                })
            }
            Told::Loaded => {
                let reason = format!(
                    "HAProxy was told to load revision {revision}, but {}.",
                    describe(&seen)
                );
                let evidence = matches!(seen, Seen::Running(_));
                self.back(candidate, change, reason, Vec::new(), evidence)
                    .await
            }
            Told::Failed { output } => {
                let findings = validate::read_reload_findings(candidate, &output);
                let reason = match findings.iter().find(|f| f.severity == Severity::Error) {
                    Some(finding) => format!("HAProxy did not load it: {}", finding.message),
                    None if output.is_empty() => {
                        "HAProxy did not load it; its log says why (this version does not tell)."
                            .into()
                    }
                    None => format!("HAProxy did not load it: {}", shorten(&output)),
                };
                self.back(candidate, change, reason, findings, true).await
            }
            Told::Ended { reason } => self.back(candidate, change, reason, Vec::new(), true).await,
            Told::Unanswered { reason } => {
                self.back(candidate, change, reason, Vec::new(), false)
                    .await
            }
        }
    }

    /// The former files are put back at once; then HAProxy is brought back to them if it runs
    /// something else. `evidence`: HAProxy did not take it, rather than nothing being known.
    async fn back(
        &mut self,
        candidate: &Candidate,
        change: Change,
        reason: String,
        findings: Vec<Finding>,
        evidence: bool,
    ) -> Result<Verdict, ApplyError> {
        change.take_back().map_err(ApplyError::TakeBack)?;
        let good = self.last_good.as_ref().map(|set| set.revision.clone());
        if let Err(error) = self.history.update(|state| state.written = good) {
            tracing::warn!(%error, "the return to the last good set could not be noted");
        }
        if let Some(good) = &self.last_good {
            self.haproxy.learn_socket(&good.files);
        }
        let restored = self.bring_back(evidence).await;
        let kept = self.set_aside(candidate, &reason);
        if !evidence {
            return Ok(Verdict::Unconfirmed { reason, restored });
        }
        let seen = self.haproxy.seen(Duration::ZERO).await;
        let rejection = Rejection {
            revision: candidate.revision.to_string(),
            reason: reason.clone(),
            process: self.process(&seen).await,
        };
        if let Err(error) = self
            .history
            .update(|state| state.rejected = Some(rejection))
        {
            tracing::warn!(%error, "the rejection could not be noted");
        }
        Ok(Verdict::Rejected {
            reason,
            findings,
            restored,
            kept,
        })
    }

    /// Whether HAProxy runs the last good set again. A HAProxy that gave no answer is not told again:
    /// what it was told already makes it load the files that are back.
    async fn bring_back(&mut self, answers: bool) -> bool {
        self.haproxy.hold_restarts(!self.has_configuration());
        let Some(good) = self.last_good.clone() else {
            return false;
        };
        if !self.haproxy.can_ask() {
            return answers && self.haproxy.tell().await == Told::Loaded;
        }
        let wanted = |running: &Running| runs_set(running, &good);
        let runs_it = |seen: Seen| matches!(seen, Seen::Running(running) if wanted(&running));
        if !answers {
            return runs_it(self.haproxy.confirm(STALE, wanted).await);
        }
        // A supervised HAProxy is started again by us, another one perhaps by its service manager.
        let deadline = Instant::now()
            + match self.options.mode {
                Mode::Supervise { .. } => self.options.confirm_timeout,
                _ => RETURN,
            };
        loop {
            if runs_it(self.haproxy.seen(Duration::ZERO).await) {
                return true;
            }
            // Also when nothing answers: a master of 2.6 whose new worker failed after the fork may
            // live on without any, and a reload of good files brings one back.
            match self.haproxy.tell().await {
                Told::Loaded => {
                    let limit = self.options.confirm_timeout;
                    return runs_it(self.haproxy.confirm(limit, wanted).await);
                }
                Told::Failed { .. } => return false,
                _ if Instant::now() >= deadline => return false,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The worker reports this revision.
    fn confirmed(&mut self, revision: Option<Revision>) -> Result<(), FileError> {
        self.history.update(|state| {
            state.written.clone_from(&revision);
            state.applied.clone_from(&revision);
            state.confirmed = revision;
            state.rejected = None;
        })?;
        self.last_good = self.history.last_good();
        Ok(())
    }

    fn set_aside(&self, candidate: &Candidate, reason: &str) -> Option<PathBuf> {
        self.history
            .set_aside(candidate, reason)
            .inspect_err(|error| tracing::warn!(%error, "the refused set could not be kept"))
            .ok()
    }

    /// Which HAProxy this is: its master where that is known.
    async fn process(&self, seen: &Seen) -> Option<i32> {
        if let Some(socket) = self.haproxy.master_socket()
            && let Ok(processes) = socket.processes().await
        {
            return Some(processes.master.pid);
        }
        match seen {
            Seen::Running(running) => Some(running.pid),
            _ => None,
        }
    }

    async fn master(&self) -> Option<Master> {
        let (pid, line, directory) = self.haproxy.command_line().await?;
        Some(Master {
            pid,
            line,
            directory,
        })
    }

    /// Whether there is a main configuration for HAProxy to start from.
    fn has_configuration(&self) -> bool {
        self.options
            .destinations
            .iter()
            .filter(|(_, role)| *role == Role::Config)
            .all(|(path, _)| path.exists())
    }

    fn drift(&self, written: Option<&Revision>) -> Vec<PathBuf> {
        let set = written.and_then(|revision| self.history.load_set(revision));
        set.into_iter()
            .flat_map(|set| set.files)
            .filter(|file| {
                !matches!(files::read(&file.destination), Ok(Some(text)) if text == file.text)
            })
            .map(|file| file.destination)
            .collect()
    }
}

/// How HAProxy is called when its own command line is not known, and when we start it.
fn invocation(options: &Options) -> Invocation {
    let of_set = options
        .destinations
        .iter()
        .filter(|(_, role)| *role == Role::Config)
        .map(|(path, _)| path.clone());
    Invocation {
        binary: options.binary.clone(),
        flags: std::iter::once(OsString::from("-W"))
            .chain(options.flags.iter().cloned())
            .collect(),
        files: options.extra_files.iter().cloned().chain(of_set).collect(),
        working_directory: options.working_directory.clone(),
        environment: options.environment.clone(),
    }
}

fn is_live(candidate: &Candidate) -> bool {
    candidate
        .files
        .iter()
        .all(|file| matches!(files::read(&file.destination), Ok(Some(text)) if text == file.text))
}

fn is_error(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
}

fn runs(seen: &Seen, revision: Option<&Revision>) -> bool {
    matches!(seen, Seen::Running(running) if revision.is_some() && running.revision.as_ref() == revision)
}

/// A set that stood there before Gatewright came carries no revision.
fn runs_set(running: &Running, set: &StoredSet) -> bool {
    running.revision.as_ref() == set.marked.then_some(&set.revision)
}

fn describe(seen: &Seen) -> String {
    match seen {
        Seen::Running(running) => match &running.revision {
            Some(revision) => format!("its worker {} runs revision {revision}", running.pid),
            None => format!(
                "its worker {} runs a configuration that is not Gatewright's",
                running.pid
            ),
        },
        Seen::Absent { reason } | Seen::Unknown { reason } => {
            reason.trim_end_matches('.').to_owned()
        }
    }
}

fn in_words(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| {
            let file = finding.file.as_ref().map_or(String::new(), |file| {
                format!("{}:{}: ", file.display(), finding.line)
            });
            format!("{file}{}\n", finding.message)
        })
        .collect()
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(500).collect()
}
