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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::gate;
use super::super::plan::{
    Comparison, Difference, Doubt, Known, MapStep, Plan, Policy, Pool, Steps, Wanted, compare,
    is_settled, of_backend,
};
use super::super::set::{Candidate, REVISION_VARIABLE, Revision, SetFile};
use super::super::tell::Seen;
use super::super::validate::{self, Master};
use super::super::verdict::Servers;
use super::{Applier, ApplyError, Verdict, invocation, is_error, runs, runs_set};
use crate::haproxy::runtime::{Answer, Command, ServerRef, ServerRow, Session};
use crate::haproxy::stats::Running;

/// How long the commands may go out alone before the files are validated beside them.
const HEAD_START: Duration = Duration::from_millis(20);
/// How long an address that was set may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(1);
/// For a connection that ended early to be made again.
const MOMENT: Duration = Duration::from_millis(100);

/// What is known of the running worker besides its set.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The worker that this is about.
    pub worker: Option<i32>,
    /// When all its servers were last compared with the file.
    pub audited: Option<Instant>,
    /// Servers that were removed: as they were, and since when they leave.
    pub leaving: BTreeMap<ServerRef, (Option<Wanted>, Instant)>,
    /// Servers that a batch has touched that did not end well.
    pub doubtful: Doubt,
    /// Where it takes commands.
    pub session: Option<Session>,
    /// What the last comparison has shown.
    pub servers: Servers,
    /// How its master was started, once that was looked up.
    pub master: Option<Option<Master>>,
}

impl Memory {
    /// A new worker starts from the files; nothing that was said to the former one counts.
    pub fn forget(&mut self) {
        *self = Memory::default();
    }

    /// Makes it about this worker.
    pub fn meet(&mut self, running: &Running) {
        if self.worker != Some(running.pid) {
            self.forget();
            self.worker = Some(running.pid);
        }
        if running.changing.is_some() {
            self.doubtful = Doubt::All;
        }
    }

    /// Takes up the servers that leave and are not known to, because an earlier Gatewright removed them,
    /// and forgets those that the file has.
    pub fn find_leaving(&mut self, pools: &[Pool], rows: &[ServerRow]) {
        let now = Instant::now();
        for pool in pools {
            for (server, what) in pool.compare(of_backend(rows, &pool.backend)) {
                if what == Difference::Leaving {
                    let at = ServerRef::new(&pool.backend, server);
                    self.leaving.entry(at).or_insert((None, now));
                }
            }
        }
        let pools: BTreeMap<&str, &Pool> = pools
            .iter()
            .map(|pool| (pool.backend.as_str(), pool))
            .collect();
        self.leaving.retain(|at, _| {
            !pools
                .get(at.backend.as_str())
                .is_some_and(|pool| pool.names(&at.server))
        });
    }

    pub fn wanted_of_leaving(&self) -> BTreeMap<ServerRef, Wanted> {
        let with = |(at, (was, _)): (&ServerRef, &(Option<Wanted>, Instant))| {
            Some((at.clone(), was.clone()?))
        };
        self.leaving.iter().filter_map(with).collect()
    }
}

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
        let Some(good) = self.last_good.clone() else {
            return reload("there is no set to start from");
        };
        if let Some(reason) = &comparison.reload {
            return reload(reason.clone());
        }
        if !self.options.commands || !self.haproxy.can_tell() {
            return reload("the settings say so");
        }
        if judged && !self.gate_agrees(candidate, comparison) {
            return reload("the gate must look at all of it");
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
            Plan::Nothing => Steps::default(),
            Plan::Commands(steps) => *steps,
            Plan::Reload { reason } => return reload(reason),
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
        let base = invocation(&self.options);
        // Until this change has ended well, what runs must be compared with the file again.
        let audited = self.memory.audited.take();
        let limit = self.options.validate_timeout;
        let said = Notify::new();
        let (told, validated) =
            tokio::join!(change.tell(&steps, self.options.policy, &said), async {
                // Starting a process takes longer than most batches.
                let _ = tokio::time::timeout(HEAD_START, said.notified()).await;
                validate::by_haproxy(candidate, &staged, &base, master.as_ref(), limit).await
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
        let change = self.swap_in(candidate, staged)?;
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
                .take_effect(candidate, change, story, started, findings)
                .await?;
            return Ok(Attempt::Ended(verdict));
        }
        change.finish()?;
        self.confirmed(Some(candidate.revision.clone()))?;
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
        if !comparison.maps.is_empty() || now.changing.is_some() {
            return false;
        }
        let Some((_, found, rows)) = self.read_servers(backends, now).await else {
            return false;
        };
        let differs = |pool: &Pool| {
            let rows = rows.iter().filter(|row| row.backend == pool.backend);
            !pool.compare(rows).is_empty()
        };
        found.pid == now.pid && !comparison.pools.iter().any(|(_, new)| differs(new))
    }

    /// Our own rules, as far as the difference reaches. Only where they find nothing may commands go
    /// out; what they find is told when the whole set is judged.
    fn gate_agrees(&self, candidate: &Candidate, comparison: &Comparison) -> bool {
        let findings = match comparison.maps.is_empty() && comparison.certificates.is_empty() {
            true => gate::judge_servers(&comparison.read, &self.rules),
            false => gate::judge(candidate, self.last_good(), &self.rules),
        };
        !is_error(&findings)
    }

    /// How the master was started does not change while a worker lives.
    async fn known_master(&mut self) -> Option<Master> {
        match &self.memory.master {
            Some(master) => master.clone(),
            None => {
                let master = self.master().await;
                self.memory.master = Some(master.clone());
                master
            }
        }
    }

    /// Where HAProxy's relative paths start, as far as that was looked up.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let of_master = self.memory.master.as_ref();
        of_master
            .and_then(|master| master.as_ref()?.directory.clone())
            .or_else(|| self.options.working_directory.clone())
    }

    fn plan(&self, comparison: &Comparison, session: &Session, rows: &[ServerRow]) -> Plan {
        let known = Known {
            version: session.version,
            rows,
            leaving: &self.memory.wanted_of_leaving(),
            doubtful: &self.memory.doubtful,
        };
        comparison.plan(known, self.options.policy)
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
            Plan::Nothing => Steps::default(),
            Plan::Commands(steps) => *steps,
            Plan::Reload { reason } => return Outcome::Refused { why: reason },
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
        let back = compare(&candidate.files, good);
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
            tracing::error!(
                "The commands of a refused set could not be undone ({told:?}); what the worker runs is compared with the file again."
            );
        }
    }
}

impl Memory {
    /// What a batch has left behind. After one that did not end well all servers are compared with the
    /// file before anything is done to one that seems to leave.
    pub fn note(&mut self, steps: &Steps, told: &Outcome) {
        let now = Instant::now();
        for (at, was) in &steps.servers.leaving {
            self.leaving.insert(at.clone(), (Some(was.clone()), now));
        }
        if !matches!(told, Outcome::Runs) {
            // It is not known whether it is still the former one that leaves, or already the new one.
            for command in &steps.servers.first {
                if let Command::AddServer { at, .. } = command
                    && let Some((was, _)) = self.leaving.get_mut(at)
                {
                    *was = None;
                }
            }
        }
        match (told, &mut self.doubtful) {
            (Outcome::Runs, doubt) => {
                for at in &steps.servers.touched {
                    if !steps.servers.leaving.contains_key(at) {
                        self.leaving.remove(at);
                    }
                }
                if let Doubt::Some(servers) = doubt {
                    servers.retain(|at| !steps.servers.touched.contains(at));
                }
                return;
            }
            (_, Doubt::Some(servers)) => servers.extend(steps.servers.touched.iter().cloned()),
            (_, doubt @ Doubt::None) => *doubt = Doubt::Some(steps.servers.touched.clone()),
            (_, Doubt::All) => {}
        }
        self.audited = None;
        self.session = None;
    }
}

/// What came of telling a worker.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was read back and runs what it should.
    Runs,
    /// It runs something else, or could not be read.
    Differs {
        /// What, in words.
        why: String,
    },
    /// It does not take such commands.
    Refused {
        /// What it said.
        why: String,
    },
}

/// One batch and what must be so after it.
pub(super) struct Telling<'a> {
    pub session: &'a Session,
    pub running: &'a Running,
    pub old: &'a Revision,
    pub new: &'a Revision,
    pub pools: Vec<&'a Pool>,
    pub backends: &'a [String],
    /// Where the paths of HAProxy's maps start.
    pub directory: Option<PathBuf>,
}

impl Telling<'_> {
    /// Sends everything in order and reads back what the worker then runs.
    pub async fn tell(&self, steps: &Steps, policy: Policy, said: &Notify) -> Outcome {
        let sent = match steps.cost.commands {
            0 => Ok(()),
            _ => self.send(steps).await,
        };
        said.notify_one();
        if let Err(outcome) = sent {
            return outcome;
        }
        self.await_settled(|at, what| is_settled(what, steps.servers.speaks_of(at, what), policy))
            .await
    }

    /// Reads back until nothing differs but what is `fine`. From 3.0 on an address that was set is shown
    /// a moment later; no other difference goes away by itself, but all are given that moment.
    async fn await_settled(&self, fine: impl Fn(&ServerRef, &Difference) -> bool) -> Outcome {
        let deadline = Instant::now() + IN_FORCE;
        let mut pause = Duration::from_millis(1);
        loop {
            let Some(rows) = read(self.session, self.backends, self.running).await else {
                return Outcome::Differs {
                    why: "it could not be read back, or is another worker".to_owned(),
                };
            };
            let of = |pool: &Pool| -> Vec<(ServerRef, Difference)> {
                let found = pool.compare(of_backend(&rows, &pool.backend)).into_iter();
                found
                    .map(|(server, what)| (ServerRef::new(&pool.backend, server), what))
                    .collect()
            };
            let mut found = self.pools.iter().flat_map(|pool| of(pool));
            match found.find(|(at, what)| !fine(at, what)) {
                None => return Outcome::Runs,
                Some((at, what)) if Instant::now() >= deadline => {
                    return Outcome::Differs {
                        why: format!("{at} {what}"),
                    };
                }
                Some(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    async fn send(&self, steps: &Steps) -> Result<(), Outcome> {
        let mut commands = Vec::new();
        if self.old != self.new {
            commands.push(Command::SetVariable {
                name: REVISION_VARIABLE.to_owned(),
                value: format!("{}-{}", self.old, self.new),
            });
        }
        commands.extend(steps.servers.first.iter().cloned());
        self.send_all(&commands).await?;
        if !steps.servers.ready.is_empty() {
            let moved = |at: &ServerRef, what: &Difference| {
                *what != Difference::Address || !steps.servers.touched.contains(at)
            };
            match self.await_settled(moved).await {
                Outcome::Runs => self.send_all(&steps.servers.ready).await?,
                outcome => return Err(outcome),
            }
        }
        self.add_certificates(&steps.certificates).await?;
        for map in &steps.maps {
            self.exchange_map(map).await?;
        }
        self.send_all(&steps.servers.last).await?;
        self.remove_certificates(&steps.certificates).await
    }

    pub(super) async fn send_all(&self, commands: &[Command]) -> Result<(), Outcome> {
        if commands.is_empty() {
            return Ok(());
        }
        let batch = self.session.send(commands).await;
        if let Some(error) = batch.error {
            return Err(Outcome::Differs {
                why: error.to_string(),
            });
        }
        let why = match batch.refusal() {
            None if batch.is_done(commands.len()) => return Ok(()),
            None => "not every command was answered".to_owned(),
            Some((at, answer)) => format!(
                "it answered `{}` with {answer:?}",
                first_line(&commands[at])
            ),
        };
        Err(Outcome::Differs { why })
    }

    /// All entries of a map in one step for traffic: a new version is filled beside the one in use.
    async fn exchange_map(&self, map: &MapStep) -> Result<(), Outcome> {
        let refused = |why: String| Outcome::Refused { why };
        let maps = self.session.maps().await;
        let maps = maps.map_err(|error| refused(error.to_string()))?;
        let is_it = |path: &str| {
            let path = Path::new(path);
            path == map.destination
                || self
                    .directory
                    .as_ref()
                    .is_some_and(|directory| directory.join(path) == map.destination)
        };
        // A map that no line uses is not loaded.
        let Some(found) = maps.into_iter().find(|found| is_it(&found.path)) else {
            return Err(refused(format!(
                "HAProxy knows no map {}",
                map.destination.display()
            )));
        };
        let prepare = [Command::PrepareMap {
            map: found.path.clone(),
        }];
        let batch = self.session.send(&prepare).await;
        let Some(Answer::Version(version)) = batch.answers.first() else {
            return Err(refused(format!(
                "a new version of the map {} was not begun",
                found.path
            )));
        };
        let version = *version;
        let mut commands = Command::add_map_entries(&found.path, version, map.entries.clone());
        commands.push(Command::CommitMap {
            map: found.path.clone(),
            version,
        });
        if let Err(told) = self.send_all(&commands).await {
            let map = found.path.clone();
            let _ = self
                .session
                .send(&[Command::ClearMapVersion { map, version }])
                .await;
            return Err(told);
        }
        let entries = self.session.map_entries(&found.path, None).await;
        match entries {
            Ok(entries) if entries == map.entries => Ok(()),
            Ok(_) => Err(Outcome::Differs {
                why: format!("the map {} has other entries", found.path),
            }),
            Err(error) => Err(Outcome::Differs {
                why: error.to_string(),
            }),
        }
    }
}

fn first_line(command: &Command) -> String {
    let text = command.encode().unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Whether a batch has left it on the way to another set. It must be led back to the file first: a plan
/// for this one speaks only of the servers that differ between the two files.
fn is_between(running: &Running, candidate: &Candidate) -> bool {
    let to = running.changing.as_ref();
    to.is_some_and(|to| *to != candidate.revision)
}

/// The servers of these backends, if the worker is still the same and not about to end.
pub(super) async fn read(
    session: &Session,
    backends: &[String],
    running: &Running,
) -> Option<Vec<ServerRow>> {
    if backends.is_empty() {
        return Some(Vec::new());
    }
    let (now, rows) = session.servers(Some(backends)).await.ok()?;
    (now.pid == running.pid && !now.stopping).then_some(rows)
}

/// Gives the worker its revision.
pub(super) async fn mark(session: &Session, revision: &str) -> bool {
    let command = Command::SetVariable {
        name: REVISION_VARIABLE.to_owned(),
        value: revision.to_owned(),
    };
    let command = [command];
    // Said twice it means the same, and a lost answer must not cost a reload.
    session.send(&command).await.is_done(1) || session.send(&command).await.is_done(1)
}
