//! A change that is told to the running worker by Runtime API commands.
//!
//! The order, and why it is safe:
//!
//! 1. The plan is proven by our own rules: each value is typed, each keyword is one that the version
//!    takes, the gate agrees, and everything else of the configuration is the text that HAProxy has
//!    validated before.
//! 2. The new files are written beside the live ones; a full disk shows here, before anything is said.
//! 3. The commands go out, and `haproxy -c` of the new files runs beside them, so that validation never
//!    delays traffic. Until both have ended the live files are the former set, which is good: whoever
//!    reloads or restarts HAProxy in this moment gets a good set, and the next look finds the
//!    difference. The worker carries `OLD-NEW` as its revision meanwhile, so that a crash of ours here
//!    is known as such afterwards.
//! 4. What the worker runs is read back and compared with the new set.
//! 5. If `haproxy -c` refuses, the commands are undone and the former files have never been touched.
//!    If the worker runs something else, it is told once more, and then HAProxy is reloaded.
//! 6. The new files are swapped in, on the disk, and only then the worker is given the new revision.
//!    A crash between the two finds the new files and `OLD-NEW`, and ends the change.
//!
//! At each of these moments files and worker are both good sets, and what differs between them is shown
//! by the revision.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::files::{self, FileError};
use super::super::gate;
use super::super::history::StoredSet;
use super::super::plan::{Comparison, Known, Plan, Pool, Steps, of_backend};
use super::super::set::{Candidate, Revision, SetFile};
use super::super::target::to_replace;
use super::super::tell::Seen;
use super::super::validate::Master;
use super::reads::Reads;
use super::telling::{Outcome, Telling, mark, read};
use super::{Applier, ApplyError, Verdict, is_error, runs, runs_set};
use crate::haproxy::runtime::{ServerRow, Session};
use crate::haproxy::stats::Running;

/// How long the commands may go out alone before the files are validated beside them.
const HEAD_START: Duration = Duration::from_millis(20);
/// For a connection that ended early to be made again.
pub(super) const MOMENT: Duration = Duration::from_millis(100);

/// What came of trying commands.
pub(super) enum Attempt {
    /// The change has ended, well or not.
    Ended(Verdict),
    /// The worker that was told last does not answer, is another one or runs something else: HAProxy must
    /// be looked at first.
    LookFirst,
    /// Commands do not do.
    Reload {
        /// Why, in words.
        reason: String,
    },
}

fn reload(reason: impl Into<String>) -> Result<Attempt, ApplyError> {
    Ok(Attempt::Reload {
        reason: reason.into(),
    })
}

impl Applier {
    /// Tells the worker what differs, if all of it can be told. `running` is the worker; without it the
    /// one that was told last is meant, if it still runs.
    pub(super) async fn by_commands(
        &mut self,
        candidate: &Candidate,
        running: Option<&Running>,
        comparison: &Comparison,
        judged: bool,
        started: Instant,
    ) -> Result<Attempt, ApplyError> {
        if let Some(reason) = &comparison.reload {
            return reload(reason.clone());
        }
        if !self.options.commands || !self.haproxy.can_tell() {
            return reload("the settings say so");
        }
        let Some(good) = self.last_good.clone() else {
            return reload("there is no set to start from");
        };
        if judged && !self.gate_agrees(candidate, comparison) {
            return reload("the gate must look at all of it");
        }
        if self.unwritable {
            self.try_to_write(&good)?;
        }
        if self.memory.reads != Reads::Ours {
            let unknown = "it is not known yet that HAProxy reads the files that Gatewright writes";
            return running.map_or(Ok(Attempt::LookFirst), |_| reload(unknown));
        }
        let backends = comparison.backends();
        let look_first = running.is_none();
        let doubt = |reason: &str| match look_first {
            true => Ok(Attempt::LookFirst),
            false => reload(reason),
        };
        let read = match running {
            Some(running) => {
                self.memory.meet(running);
                if is_between(running, candidate)
                    && let Some(why) = self.look_at_servers(running).await.differs
                {
                    return reload(why);
                }
                if self.session(running).await.is_none() {
                    return reload("HAProxy has no socket of level admin that takes commands");
                }
                self.read_servers(&backends, running).await
            }
            None => match self.memory.session.clone() {
                Some(session) => {
                    let read = session.servers(Some(&backends)).await.ok();
                    read.map(|(running, rows)| (session, running, rows))
                }
                None => None,
            },
        };
        let Some((session, running, rows)) = read else {
            return doubt("the servers of the worker could not be read");
        };
        let running = &running;
        if Some(running.pid) != self.memory.worker || running.stopping {
            return doubt("another worker runs");
        }
        if !runs_set(running, &good) {
            return doubt("HAProxy does not run the last good set");
        }
        if is_between(running, candidate) {
            return doubt("a change to another set has not ended");
        }
        self.memory.meet(running);
        let steps = match self.plan(comparison, &session, &rows) {
            Ok(steps) => steps,
            Err(reason) => return reload(reason),
        };
        let master = self.known_master().await;
        let change = Telling {
            session: &session,
            running,
            old: &good.revision,
            new: &candidate.revision,
            pools: comparison.pools.iter().map(|(_, new)| new).collect(),
            backends: &backends,
            directory: self.directory(),
        };
        let staged = self.staged(candidate, master.as_ref())?;
        // Until this change has ended well, what runs must be compared with the file again.
        let audited = self.memory.audited.take();
        let said = Notify::new();
        let (told, validated) =
            tokio::join!(change.tell(&steps, self.options.policy, &said), async {
                // Starting a process takes longer than most batches.
                let _ = tokio::time::timeout(HEAD_START, said.notified()).await;
                self.validated(candidate, &staged, master.as_ref()).await
            },);
        self.memory.note(&steps, &told);
        let findings = match validated {
            Ok(findings) if !is_error(&findings) => findings,
            outcome => {
                self.undo(candidate, &good.files, &session, running).await;
                return Ok(Attempt::Ended(self.refused(candidate, outcome?)));
            }
        };
        let told = match told {
            Outcome::Differs { why } => {
                let why = candidate.origin.secrets.hide(&why);
                tracing::warn!(
                    "HAProxy's worker does not run what it was told ({why}); it is told once more."
                );
                self.tell_again(comparison, &change).await
            }
            told => told,
        };
        if let Outcome::Differs { why } | Outcome::Refused { why } = told {
            return reload(why);
        }
        let change = match self.swap_in(candidate, staged) {
            Ok(change) => change,
            Err(error) => {
                self.undo(candidate, &good.files, &session, running).await;
                return Err(error);
            }
        };
        let marked = mark(&session, candidate.revision.as_str()).await;
        let now = self.haproxy.seen(MOMENT).await;
        let same = match &now {
            Seen::Running(now) if now.pid == running.pid => marked,
            Seen::Running(now) => self.has_loaded(now, comparison, &backends).await,
            _ => false,
        };
        if !same || !runs(&now, Some(&candidate.revision)) {
            // Somebody reloaded it meanwhile, or it fell silent: the files are good, so it loads them.
            let story = comparison.changes.to_string();
            let verdict = self
                .take_effect(candidate, change, master.as_ref(), story, started, findings)
                .await?;
            return Ok(Attempt::Ended(verdict));
        }
        change.finish()?;
        self.confirmed(Some(candidate.revision.clone()));
        self.memory.audited = audited;
        Ok(Attempt::Ended(Verdict::Confirmed {
            revision: candidate.revision.clone(),
            took: started.elapsed(),
            means: match steps.cost.commands {
                0 => "no command".to_owned(),
                _ => steps.cost.to_string(),
            },
            reloaded: false,
            story: match comparison.changes.is_empty() {
                true => "no change but comments".to_owned(),
                false => comparison.changes.to_string(),
            },
            findings,
        }))
    }

    /// Replaces the live files by what they hold: what fails there would fail after the commands.
    fn try_to_write(&mut self, good: &StoredSet) -> Result<(), FileError> {
        for file in &good.files {
            let (target, access) = to_replace(&file.destination)?;
            if let (Some(text), Some(access)) = (files::read(&target)?, access) {
                files::replace(&target, text.as_bytes(), access)?;
            }
        }
        self.unwritable = false;
        Ok(())
    }

    /// A batch that a crash of ours has left between the swap of the files and its end: the worker was
    /// compared with the new set before the files were swapped.
    pub(super) async fn end_batch(&mut self, seen: &Seen, revision: Option<&Revision>) -> bool {
        let (Seen::Running(running), Some(revision)) = (seen, revision) else {
            return false;
        };
        if running.changing.as_ref() != Some(revision) {
            return false;
        }
        match self.session(running).await {
            Some(session) => mark(&session, revision.as_str()).await,
            None => false,
        }
    }

    /// The servers of these backends and the way by which they were read. A way that leads nowhere any
    /// more is chosen anew.
    async fn read_servers(
        &mut self,
        backends: &[String],
        running: &Running,
    ) -> Option<(Session, Running, Vec<ServerRow>)> {
        for _ in 0..2 {
            let session = self.session(running).await?;
            if let Ok((found, rows)) = session.servers(Some(backends)).await {
                return Some((session, found, rows));
            }
            self.memory.session = None;
        }
        None
    }

    /// The way to tell this worker something, chosen once for as long as it leads there.
    pub(super) async fn session(&mut self, running: &Running) -> Option<Session> {
        if self.memory.session.is_none() {
            self.memory.session = self.haproxy.session(running).await;
        }
        self.memory.session.clone()
    }

    /// Whether a worker that has taken the place of the one that was told has loaded the new files. The
    /// revision alone does not say so: it may have been given to one that has loaded the former.
    async fn has_loaded(
        &mut self,
        now: &Running,
        comparison: &Comparison,
        backends: &[String],
    ) -> bool {
        self.memory.meet(now);
        let told_more = !comparison.maps.is_empty() || !comparison.acls.is_empty();
        if told_more || now.changing.is_some() {
            return false;
        }
        let Some((_, found, rows)) = self.read_servers(backends, now).await else {
            return false;
        };
        let differs = |pool: &Pool| !pool.compare(of_backend(&rows, &pool.backend)).is_empty();
        found.pid == now.pid && !comparison.pools.iter().any(|(_, new)| differs(new))
    }

    /// Our own rules, as far as the difference reaches. Only where they find nothing may commands go
    /// out; what they find is told when the whole set is judged.
    fn gate_agrees(&self, candidate: &Candidate, comparison: &Comparison) -> bool {
        let servers_only = comparison.maps.is_empty()
            && comparison.acls.is_empty()
            && comparison.certificates.is_empty();
        let findings = match servers_only {
            true => gate::judge_servers(&comparison.read, &self.rules),
            false => gate::judge(candidate, self.last_good(), &self.rules),
        };
        !is_error(&findings) && self.lost(candidate).is_empty()
    }

    /// How the master was started does not change while a worker lives.
    pub(super) async fn known_master(&mut self) -> Option<Master> {
        if self.memory.master.is_none() {
            self.memory.master = self.master().await;
        }
        self.memory.master.clone()
    }

    /// Where HAProxy's relative paths start, as far as that was looked up.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let of_master = self.memory.master.as_ref();
        of_master
            .and_then(|master| master.started.as_ref()?.directory.clone())
            .or_else(|| self.options.working_directory.clone())
    }

    /// What the worker must be told, or why only a reload will do.
    fn plan(
        &self,
        comparison: &Comparison,
        session: &Session,
        rows: &[ServerRow],
    ) -> Result<Steps, String> {
        let known = Known {
            version: session.version,
            rows,
            leaving: &self.memory.wanted_of_leaving(),
            doubtful: &self.memory.doubtful,
        };
        match comparison.plan(known, self.options.policy) {
            Plan::Nothing => Ok(Steps::default()),
            Plan::Commands(steps) => Ok(*steps),
            Plan::Reload { reason } => Err(reason),
        }
    }

    /// From what the worker runs now.
    async fn tell_again(&mut self, comparison: &Comparison, change: &Telling<'_>) -> Outcome {
        let unread = || Outcome::Differs {
            why: "the servers of the worker could not be read".to_owned(),
        };
        let Some(rows) = read(change.session, change.backends, change.running).await else {
            return unread();
        };
        let steps = match self.plan(comparison, change.session, &rows) {
            Ok(steps) => steps,
            Err(why) => return Outcome::Refused { why },
        };
        let told = change
            .tell(&steps, self.options.policy, &Notify::new())
            .await;
        self.memory.note(&steps, &told);
        told
    }

    /// Leads the worker back to the former set. Where that cannot be seen to have succeeded, the next
    /// look mends it.
    async fn undo(
        &mut self,
        candidate: &Candidate,
        good: &[SetFile],
        session: &Session,
        running: &Running,
    ) {
        let back = self.difference(&candidate.files, good);
        let backends = back.backends();
        let change = Telling {
            session,
            running,
            old: &candidate.revision,
            new: &candidate.revision,
            pools: back.pools.iter().map(|(_, new)| new).collect(),
            backends: &backends,
            directory: self.directory(),
        };
        let told = self.tell_again(&back, &change).await;
        let revision = self
            .last_good
            .as_ref()
            .map(|good| good.revision.to_string());
        let marked = match (&told, revision) {
            (Outcome::Runs, Some(revision)) => mark(session, &revision).await,
            _ => false,
        };
        if !marked {
            let why = match told {
                Outcome::Runs => "the worker does not report the former revision".to_owned(),
                Outcome::Differs { why } | Outcome::Refused { why } => {
                    let former = self.last_good.as_ref().map(|good| good.secrets());
                    former
                        .unwrap_or_default()
                        .hide(&candidate.origin.secrets.hide(&why))
                }
            };
            tracing::error!(
                "The commands of a refused set could not be undone ({why}); what the worker runs is compared with the file again."
            );
        }
    }
}

/// Whether a batch has left it on the way to another set. It must be led back to the file first: a plan
/// for this one speaks only of the servers that differ between the two files.
fn is_between(running: &Running, candidate: &Candidate) -> bool {
    let to = running.changing.as_ref();
    to.is_some_and(|to| *to != candidate.revision)
}
