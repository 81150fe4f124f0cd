//! One set at a time becomes what HAProxy runs, or nothing changes.
//!
//! ```text
//! compare ─┬► commands, with haproxy -c beside them → swap in → confirm          (`commands`)
//!          │      └► refused: undone
//!          └► stage → haproxy -c, gate, addresses → swap in → tell → confirm     (`load`)
//!                └► Refused                            └───────┴► taken back
//! ```
//!
//! *Written*, *applied* and *confirmed* are three facts, kept apart in the state directory. Never
//! retries by itself and keeps no clock: when to apply what is the agent's decision.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod certificates;
mod commands;
mod holds;
mod kept;
mod load;
mod loaded;
mod look;
mod memory;
mod notes;
mod patterns;
mod reads;
mod remembered;
mod telling;

use self::commands::{Attempt, MOMENT};
pub(super) use self::loaded::others_of;
use self::memory::Memory;
use self::notes::Program;
use self::reads::Other;
use super::carrier::Carrier;
use super::files;
use super::gate::{self, Rules};
use super::history::{History, StoredSet, not_kept};
use super::journal::{self, Change, Phase};
use super::lock::Lock;
use super::origin;
use super::plan::Comparison;
use super::rejections::{Build, Rejection, structure};
use super::roots;
use super::set::{Candidate, Revision, Role, SetFile};
use super::stage::{self, Staged, stage};
use super::tell::{Haproxy, Mode, Seen};
use super::validate::{self, Master};
use super::verdict::in_words;
pub use super::verdict::{ApplyError, Means, Observation, Options, Verdict};
use crate::catalog::guard;
use crate::diagnostic::{Severity, with_causes};
use crate::haproxy::Finding;
use crate::haproxy::check::Invocation;
use crate::haproxy::stats::Running;
use crate::haproxy::supervise::Supervisor;

/// A socket that refuses this long means that HAProxy is not running.
const ABSENT: Duration = Duration::from_secs(2);

/// The one that writes the destinations and tells HAProxy.
pub struct Applier {
    options: Options,
    /// How it is known which set a worker runs.
    carrier: Carrier,
    rules: Rules,
    history: History,
    haproxy: Haproxy,
    /// What is known of the running worker.
    memory: Memory,
    /// Whether the files of the last change could not be swapped in: then that is tried before commands go out.
    unwritable: bool,
    /// The program that validates.
    program: Option<Program>,
    /// Other Gatewrights that write files of the same HAProxy.
    others: Vec<Other>,
    /// What was warned of in the set that was applied last.
    warned: Option<String>,
    last_good: Option<Arc<StoredSet>>,
    pending: Option<Change>,
    /// By what the first set is judged that follows the last good one of a former process.
    loss: Option<guard::Rules>,
    /// Whether the operator has consented to what the values of the next set have lost.
    meant: bool,
    /// Said once: we are ending, and no validation is waited for.
    ending: Ending,
    lock: Lock,
}

/// Tells an applier that is at work that we are ending: a validation under way is killed, since nothing
/// is swapped in yet; what comes after that is brought to its end.
#[derive(Debug, Clone, Default)]
pub struct Ending(Arc<tokio::sync::watch::Sender<bool>>);

impl Ending {
    /// We are ending.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits for that.
    async fn begun(&self) {
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

impl Applier {
    /// Takes the locks, cleans up after a crash and reads what is known. Touches neither HAProxy nor,
    /// unless a swap was interrupted, its files.
    pub fn open(options: Options, rules: Rules) -> Result<Applier, ApplyError> {
        let carrier = options.carrier().ok_or(ApplyError::NoConfiguration)?;
        let lock = Lock::acquire(&options.state_directory, carrier.main())?;
        if let Some(problem) = lock.problem() {
            tracing::warn!("{problem}");
        }
        let mut history = History::open(&options.state_directory, options.keep);
        if let Some(problem) = history.problem() {
            tracing::warn!("{}", not_kept(problem));
        }
        // HAProxy may be down: it starts from the files as they are, whatever is left to do about them.
        let recovered = journal::recover(&options.state_directory)
            .inspect_err(|error| tracing::error!("{}", with_causes(error)));
        let (pending, unsettled) = match recovered {
            Ok(change) => (change, false),
            Err(_) => (None, true),
        };
        let destinations = options.destinations.iter().map(|(path, _)| path.as_path());
        stage::clean(destinations, pending.is_some() || unsettled);
        if pending.is_none() {
            history.adopt_live(&options.destinations)?;
        }
        let haproxy = Haproxy::new(
            options.mode.clone(),
            options.stats_socket.clone(),
            carrier.variable(),
            invocation(&options),
            options.command_timeout,
            options.confirm_timeout,
        );
        let last_good = history.last_good().map(Arc::new);
        let mut applier = Applier {
            last_good: last_good.clone(),
            options,
            carrier,
            rules,
            history,
            haproxy,
            memory: Memory::default(),
            unwritable: false,
            program: None,
            others: Vec::new(),
            warned: None,
            pending,
            loss: None,
            meant: false,
            ending: Ending::default(),
            lock,
        };
        if let Some(good) = &last_good {
            applier.learn_socket(&good.files);
        }
        Ok(applier)
    }

    /// What a failed change goes back to.
    pub fn last_good(&self) -> Option<&[SetFile]> {
        self.last_good.as_ref().map(|set| set.files.as_slice())
    }

    /// The same, to be kept.
    pub fn last_good_set(&self) -> Option<Arc<StoredSet>> {
        self.last_good.clone()
    }

    /// Its revision.
    pub fn last_good_revision(&self) -> Option<&Revision> {
        self.last_good.as_ref().map(|set| &set.revision)
    }

    /// Lets the first set lose no more servers than the guard would let go: for a process that knows
    /// nothing of what the catalog showed before.
    pub fn refuse_loss(&mut self, rules: guard::Rules) {
        self.loss = Some(rules);
    }

    /// Lets it lose what it has lost: servers, and what was in values.
    pub fn allow_loss(&mut self) {
        self.loss = None;
        self.meant = true;
    }

    /// Lets sets be loaded again that HAProxy has rejected; `all`: also those over which it ended.
    pub fn forget_rejections(&mut self, all: bool) {
        self.history.update(|state| state.rejected.forget(all));
    }

    /// The supervised HAProxy, once it was started. The handle can be kept and used at any time.
    pub fn supervisor(&self) -> Option<Supervisor> {
        self.haproxy.supervisor().cloned()
    }

    /// Under `supervise`, the handle to HAProxy, started or not. It can be kept and used at any time.
    pub fn guardian(&mut self) -> Option<Supervisor> {
        self.haproxy.guardian()
    }

    /// By which it is told, whoever has it then, that we are ending.
    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// Takes over the HAProxy of an applier that this one replaces. False when the settings name
    /// another master socket: then it could not be reached, and a second one would be started.
    pub fn inherit(&mut self, supervisor: Supervisor) -> bool {
        self.haproxy.inherit(supervisor)
    }

    /// Makes HAProxy run this set, by these means, or leaves everything as it was.
    pub async fn apply(&mut self, candidate: &Candidate, means: Means) -> Verdict {
        let mut result = self.try_apply(candidate, means, true).await;
        if let Ok(Verdict::Confirmed { findings, .. }) = &mut result {
            let messages = findings.iter_mut().map(|finding| &mut finding.message);
            messages.for_each(|text| *text = candidate.origin.secrets.hide(text));
        }
        if let Ok(Verdict::Unchanged | Verdict::Confirmed { .. } | Verdict::Written { .. }) =
            &result
        {
            self.loss = None;
            self.meant = false;
        }
        self.end(result)
    }

    /// Whatever failed: HAProxy may be started again, and a change that could not be ended is settled
    /// at the next try.
    fn end(&mut self, result: Result<Verdict, ApplyError>) -> Verdict {
        self.haproxy.hold_restarts(!self.has_configuration());
        if let Ok(Verdict::Confirmed { findings, .. }) = &result {
            self.warned = notes::warned(findings);
        }
        result.unwrap_or_else(|error| {
            match journal::recover(&self.options.state_directory) {
                Ok(change) => self.pending = change,
                Err(error) => tracing::warn!(%error, "the journal could not be read"),
            }
            Verdict::Failed { error }
        })
    }

    async fn try_apply(
        &mut self,
        candidate: &Candidate,
        means: Means,
        judged: bool,
    ) -> Result<Verdict, ApplyError> {
        let started = Instant::now();
        let mut comparison = self.compare(candidate);
        let mut why_not = None;
        if means != Means::Reload && self.may_be_quick(candidate) {
            let commands = self.by_commands(candidate, None, &comparison, judged, started);
            match commands.await? {
                Attempt::Ended(verdict) => return Ok(verdict),
                Attempt::Reload { reason } => why_not = Some(reason),
                Attempt::LookFirst => self.memory.session = None,
            }
        }
        let seen = self.look().await;
        if let Seen::Running(running) = &seen {
            self.look_at_files(running).await?;
        }
        if self.settle(&seen).await? {
            comparison = self.compare(candidate);
        }
        if means != Means::Reload
            && let Some(verdict) = self.already(candidate, &seen)?
        {
            self.haproxy.adopt().await;
            return Ok(verdict);
        }
        if let Some(verdict) = self.remembered(candidate, &seen).await {
            return Ok(verdict);
        }
        if means != Means::Reload && why_not.is_none() {
            let running = match &seen {
                Seen::Running(running) => Some(running),
                _ => None,
            };
            let commands = match running {
                Some(_) => {
                    self.by_commands(candidate, running, &comparison, judged, started)
                        .await?
                }
                None => Attempt::Reload {
                    reason: "HAProxy is not known to run".to_owned(),
                },
            };
            match commands {
                Attempt::Ended(verdict) => return Ok(verdict),
                Attempt::Reload { reason } => why_not = Some(reason),
                Attempt::LookFirst => why_not = Some("HAProxy does not answer".to_owned()),
            }
        }
        let mut story = match (&self.last_good, comparison.changes.is_empty()) {
            (None, _) => "first configuration".to_owned(),
            (_, true) => "no change but comments".to_owned(),
            _ => comparison.changes.to_string(),
        };
        if let Some(reason) = why_not {
            if means == Means::Commands {
                return Ok(Verdict::NeedsReload { reason });
            }
            // What differs by its nature is the whole reason; anything else is told.
            let beyond = comparison.changes.beyond_servers_and_maps();
            let by_nature = comparison.reload.is_some() && comparison.reload == beyond;
            let other = comparison.reload.as_ref().is_none_or(|why| *why == reason);
            if other && !by_nature && self.last_good.is_some() {
                story = format!("{story} (not by commands: {reason})");
            }
        }
        if !matches!(seen, Seen::Absent { .. })
            && let Some(old_workers) = self.haproxy.old_workers().await
            && old_workers >= self.options.max_old_workers
        {
            return Ok(Verdict::Busy { old_workers });
        }
        let master = self.master().await;
        if let Some(verdict) = self.killed_before(candidate, &seen, master.as_ref()) {
            return Ok(verdict);
        }
        let staged = self.staged(candidate, master.as_ref())?;
        let mut findings = self.validated(candidate, &staged, master.as_ref()).await?;
        if !is_error(&findings) && judged {
            findings.extend(gate::judge(candidate, self.last_good(), &self.rules));
            findings.extend(self.lost(candidate));
        }
        if !is_error(&findings) {
            findings.extend(self.taken_addresses(candidate, &seen));
            findings.extend(self.missing_roots(candidate, master.as_ref()));
        }
        if is_error(&findings) {
            return Ok(self.refused(candidate, findings));
        }
        self.forget_workers();
        let change = self.swap_in(candidate, staged)?;
        let master = master.as_ref();
        self.take_effect(candidate, change, master, story, started, findings)
            .await
    }

    fn lost(&self, candidate: &Candidate) -> Vec<Finding> {
        let Some(good) = &self.last_good else {
            return Vec::new();
        };
        let mut findings = match self.meant {
            true => Vec::new(),
            false => {
                let new = (candidate.files.as_slice(), &candidate.origin);
                origin::judge(new, (&good.files, &good.origin))
            }
        };
        if let Some(rules) = &self.loss {
            findings.extend(gate::judge_loss(candidate, &good.files, rules));
        }
        findings
    }

    /// What runs, before anything is done about it.
    async fn look(&mut self) -> Seen {
        match &self.pending {
            // A crash came after HAProxy was told, which may be loading just now.
            Some(change) if change.phase() == Phase::Told => {
                let wanted = self.reports(change.revision());
                let seen = self.haproxy.seen_after_load(wanted).await;
                self.recognized(seen).await
            }
            _ => self.seen(ABSENT).await,
        }
    }

    fn compare(&self, candidate: &Candidate) -> Comparison {
        match &self.last_good {
            Some(good) => self.difference(&good.files, &candidate.files),
            None => Comparison::default(),
        }
    }

    /// Whether the worker was told before and nothing is open, so that it need not be looked for.
    fn may_be_quick(&self, candidate: &Candidate) -> bool {
        self.pending.is_none()
            && self.memory.session.is_some()
            && self
                .history
                .state()
                .rejected
                .of(&candidate.revision)
                .is_none()
            && self
                .last_good
                .as_ref()
                .is_some_and(|good| good.revision != candidate.revision)
    }

    /// The candidate beside its destinations.
    fn staged(&self, candidate: &Candidate, master: Option<&Master>) -> Result<Staged, ApplyError> {
        let directory = master
            .and_then(|master| master.started.as_ref()?.directory.as_deref())
            .or(self.options.working_directory.as_deref());
        // Others may name our maps and lists, and a change of servers must not wait for their files.
        let others = match candidate.files.iter().all(|file| file.role == Role::Config) {
            true => Vec::new(),
            false => validate::others(&candidate.files, &invocation(&self.options), master),
        };
        Ok(stage(candidate, self.last_good(), directory, &others)?)
    }

    /// The files become the live ones, on the disk when this returns.
    fn swap_in(&mut self, candidate: &Candidate, staged: Staged) -> Result<Change, ApplyError> {
        self.unwritable = true;
        self.haproxy.withhold(&candidate.origin.secrets);
        self.history.keep(&StoredSet::from(candidate));
        let change = Change::commit(
            &self.options.state_directory,
            &candidate.revision,
            staged.into_entries(),
        )?;
        let written = Some(candidate.revision.clone());
        self.history.update(|state| state.written = written);
        self.unwritable = false;
        Ok(change)
    }

    /// HAProxy's own validation, unless we are ending.
    async fn validated(
        &self,
        candidate: &Candidate,
        staged: &Staged,
        master: Option<&Master>,
    ) -> Result<Vec<Finding>, ApplyError> {
        let base = invocation(&self.options);
        let limit = self.options.validate_timeout;
        let strict = self.rules.strict_warnings;
        tokio::select! {
            // Cancel safe: a validation that is dropped is killed with its whole group.
            findings = validate::by_haproxy(candidate, staged, &base, master, limit, strict) => findings,
            () = self.ending.begun() => Err(ApplyError::Ending),
        }
    }

    fn refused(&self, candidate: &Candidate, findings: Vec<Finding>) -> Verdict {
        let reason = candidate.origin.secrets.hide(&in_words(&findings));
        let kept = self.set_aside(candidate, &reason);
        Verdict::Refused { findings, kept }
    }

    /// A change that a crash left complete on disk: what the worker runs is confirmed, anything else is
    /// taken back, and applied again if it is still wanted.
    async fn settle(&mut self, seen: &Seen) -> Result<bool, ApplyError> {
        let Some(change) = self.pending.take() else {
            return Ok(false);
        };
        let revision = change.revision();
        if runs(seen, revision.as_ref()) || self.end_batch(seen, revision.as_ref()).await {
            change.finish()?;
            self.confirmed(revision);
        } else {
            self.forget_workers();
            change.take_back().map_err(ApplyError::TakeBack)?;
            let good = self.history.last_good().map(|set| set.revision);
            self.history.update(|state| state.written = good);
            self.history.adopt_live(&self.options.destinations)?;
        }
        self.last_good = self.history.last_good().map(Arc::new);
        Ok(true)
    }

    fn taken_addresses(&self, candidate: &Candidate, seen: &Seen) -> Vec<Finding> {
        match (seen, &self.last_good) {
            (Seen::Running(running), Some(good)) if runs_set(running, good) => {
                validate::by_addresses(candidate, &good.files)
            }
            _ => Vec::new(),
        }
    }

    /// Roots that HAProxy could not enter. Where its process is not visible, only a HAProxy of our own sees
    /// what we see.
    fn missing_roots(&self, candidate: &Candidate, master: Option<&Master>) -> Vec<Finding> {
        let supervised = matches!(self.options.mode, Mode::Supervise { .. });
        if master.is_none() && !supervised {
            return Vec::new();
        }
        let started = master.and_then(|master| master.started.as_ref());
        let directory = started
            .and_then(|started| started.directory.as_deref())
            .or(self.options.working_directory.as_deref());
        roots::missing(&candidate.files, master.map(|master| master.pid), directory)
    }

    /// The worker reports this revision.
    fn confirmed(&mut self, revision: Option<Revision>) {
        self.history.update(|state| {
            state.written.clone_from(&revision);
            state.applied.clone_from(&revision);
            state.confirmed = revision;
        });
        self.learn_last_good();
    }

    /// Takes the last good set as it is kept. One that is lost on the disk stays known.
    fn learn_last_good(&mut self) {
        if let Some(good) = self.history.last_good() {
            self.last_good = Some(Arc::new(good));
        }
    }

    /// The state directory has again what could not be written there or what somebody has removed. Says what is
    /// still missing.
    fn keep_state(&mut self) -> Vec<String> {
        self.lock.renew();
        self.history.restore(self.last_good.as_deref());
        let of_lock = self.lock.problem().map(ToString::to_string);
        let of_history = self.history.problem().map(not_kept);
        of_lock.into_iter().chain(of_history).collect()
    }

    fn set_aside(&self, candidate: &Candidate, reason: &str) -> Option<PathBuf> {
        self.history
            .set_aside(candidate, reason)
            .inspect_err(|error| tracing::warn!(%error, "the refused set could not be kept"))
            .ok()
    }

    async fn master(&self) -> Option<Master> {
        let (pid, started) = self.haproxy.master().await?;
        Some(Master {
            pid,
            started,
            supervised: matches!(self.options.mode, Mode::Supervise { .. }),
        })
    }

    /// Whether HAProxy has what it starts from.
    fn has_configuration(&self) -> bool {
        self.options.key_files().iter().all(|path| path.exists())
    }
}

/// How HAProxy is called when its own command line is not known, and when we start it.
pub(super) fn invocation(options: &Options) -> Invocation {
    let of_set = options.configurations().cloned();
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

fn is_live(files: &[SetFile]) -> bool {
    files
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
    match set.marked {
        true => running.revision.as_ref() == Some(&set.revision),
        // One that was led back to it carries what a batch gave it.
        false => running.revision.as_ref().is_none_or(|r| *r == set.revision),
    }
}
