//! What HAProxy runs and what the files hold, looked at without a change in mind; and what is put right
//! there: servers that differ from the file, and servers that were removed and may go now.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::files;
use super::super::plan::{
    Cost, Difference, Doubt, Known, Pool, ServerCommands, Steps, is_settled, of_backend, pools,
};
use super::super::set::{Revision, Role};
use super::super::tell::Seen;
use super::super::verdict::Servers;
use super::reads::Reads;
use super::telling::{Outcome, Telling, mark};
use super::{Applier, Observation, StoredSet};
use crate::haproxy::runtime::{
    Answer, Command, Refusal, ServerRef, ServerRow, ServerState, Session,
};
use crate::haproxy::stats::Running;
use crate::haproxy::supervise::Supervisor;

impl Applier {
    /// Looks at HAProxy and at the files. A set that was written while HAProxy was away becomes
    /// confirmed here when HAProxy has come with it; servers that differ from the file are put right by
    /// commands, and servers that were removed go when they may.
    pub async fn observe(&mut self) -> Observation {
        let missing = self.keep_state();
        let seen = self.seen(Duration::from_millis(300)).await;
        if let (Seen::Running(running), None) = (&seen, &self.pending)
            && running.revision.is_some()
            && running.revision == self.history.state().written
        {
            self.confirmed(running.revision.clone());
        }
        self.reported(&seen);
        let servers = match &seen {
            Seen::Running(running) if self.options.commands && self.pending.is_none() => {
                self.look_at_servers(running).await
            }
            _ => Servers::default(),
        };
        let mut notes = self.notes(&seen).await;
        notes.extend(missing);
        let root = self.is_root(&seen).await;
        let old_workers = match &seen {
            Seen::Absent { .. } => None,
            _ => self.haproxy.old_workers().await,
        };
        let state = self.history.state().clone();
        Observation {
            drift: self.drift(state.written.as_ref()),
            seen,
            written: state.written,
            applied: state.applied,
            confirmed: state.confirmed,
            rejected: state.rejected.latest().cloned(),
            old_workers,
            supervised: self.haproxy.supervisor().map(Supervisor::status),
            servers,
            root,
            notes,
        }
    }

    pub(super) async fn look_at_servers(&mut self, running: &Running) -> Servers {
        let runs_good = |good: &StoredSet| running.revision.as_ref() == Some(&good.revision);
        // Nothing is put right by commands in a worker that may read other files.
        if !matches!(self.look_at_files(running).await, Ok(Reads::Ours)) {
            return Servers::default();
        }
        let session = self.session(running).await;
        let (true, Some(session)) = (self.last_good.as_deref().is_some_and(runs_good), session)
        else {
            return Servers::default();
        };
        // A batch that has not ended leaves servers of which only a comparison tells.
        let due = running.changing.is_some()
            || self
                .memory
                .audited
                .is_none_or(|last| last.elapsed() >= self.options.audit_interval);
        if due {
            match self.audit(&session, running).await {
                Some(servers) => self.memory.servers = servers,
                None => self.memory.audited = None,
            }
        } else {
            self.memory.servers.repaired = None;
        }
        // Only when it is certain that the file has none of them.
        if self.memory.audited.is_some() {
            self.let_go(&session).await;
        }
        let mut servers = self.memory.servers.clone();
        servers.leaving = self
            .memory
            .leaving
            .keys()
            .map(ToString::to_string)
            .collect();
        servers
    }

    /// Compares every server of the worker with the file. `None` when it could not be read.
    async fn audit(&mut self, session: &Session, running: &Running) -> Option<Servers> {
        let (now, rows) = session.servers(None).await.ok()?;
        if now.pid != running.pid || now.stopping {
            return None;
        }
        // Reading a large configuration takes long enough to keep a change waiting.
        let files = self.last_good.as_ref()?.files.clone();
        let pools = tokio::task::spawn_blocking(move || pools(&files))
            .await
            .ok()?;
        self.memory.audited = Some(Instant::now());
        self.memory.find_leaving(&pools, &rows);
        let mut servers = Servers {
            by_hand: self.by_hand(&pools, &rows),
            ..Servers::default()
        };
        let (steps, differences) = match self.repair(&pools, session, &rows) {
            Ok((steps, differences)) => (steps, differences),
            Err(why) => {
                servers.differs = Some(self.last_good.as_ref()?.secrets().hide(&why));
                return Some(servers);
            }
        };
        if running.changing.is_some() && self.has_exchanged_files() {
            // A change that did not end may have left other maps or patterns than the files have.
            servers.differs = Some("maps or patterns may differ from the files".to_owned());
            return Some(servers);
        }
        if differences.is_empty() {
            self.memory.doubtful = Doubt::None;
            if running.changing.is_some()
                && let Some(revision) = &running.revision
            {
                mark(session, revision.as_str()).await;
            }
            return Some(servers);
        }
        let what = in_words(&differences);
        let backends: Vec<String> = pools.iter().map(|pool| pool.backend.clone()).collect();
        let revision = running.revision.clone()?;
        let change = Telling {
            session,
            running,
            old: &revision,
            new: &revision,
            pools: pools.iter().collect(),
            backends: &backends,
            directory: self.directory(),
        };
        let told = change
            .tell(&steps, self.options.policy, &Notify::new())
            .await;
        self.memory.note(&steps, &told);
        match told {
            Outcome::Runs => {
                self.memory.doubtful = Doubt::None;
                if running.changing.is_some() {
                    mark(session, revision.as_str()).await;
                }
                servers.repaired = Some(what);
            }
            Outcome::Differs { why } | Outcome::Refused { why } => {
                let why = format!("{what}; {why}");
                servers.differs = Some(self.last_good.as_ref()?.secrets().hide(&why));
            }
        }
        Some(servers)
    }

    /// Whether the last good set has files whose entries are changed by commands.
    fn has_exchanged_files(&self) -> bool {
        let good = self.last_good.as_deref();
        let mut files = good.into_iter().flat_map(|good| &good.files);
        files.any(|file| matches!(file.role, Role::Map | Role::Other))
    }

    /// What leads from what runs to the file, and what differs. An error says what only a reload
    /// can put right.
    fn repair(
        &self,
        pools: &[Pool],
        session: &Session,
        rows: &[ServerRow],
    ) -> Result<(Steps, Vec<(ServerRef, Difference)>), String> {
        let known = Known {
            version: session.version,
            rows,
            leaving: &self.memory.wanted_of_leaving(),
            doubtful: &self.memory.doubtful,
        };
        let mut commands = ServerCommands::default();
        let mut differences = Vec::new();
        for pool in pools.iter().filter(|pool| !pool.disabled) {
            commands.lead(pool, pool, known, self.options.policy)?;
            for (server, what) in pool.compare(of_backend(rows, &pool.backend)) {
                let at = ServerRef::new(&pool.backend, server);
                if commands.speaks_of(&at, &what) && !is_settled(&what, true, self.options.policy) {
                    differences.push((at, what));
                }
            }
        }
        let mut steps = Steps {
            servers: commands,
            ..Steps::default()
        };
        steps.cost = Cost::of(&steps, rows.len());
        Ok((steps, differences))
    }

    /// What people have set on servers of the file.
    fn by_hand(&self, pools: &[Pool], rows: &[ServerRow]) -> Vec<String> {
        let mut found = Vec::new();
        for pool in pools {
            for (server, what) in pool.compare(of_backend(rows, &pool.backend)) {
                let at = ServerRef::new(&pool.backend, server);
                let by_hand = matches!(what, Difference::Held(_) | Difference::Weight { .. });
                if by_hand
                    && is_settled(&what, false, self.options.policy)
                    && !self.memory.doubtful.holds(&at)
                {
                    found.push(format!(
                        "The server {at} {what}, which somebody has set by hand; it stays so."
                    ));
                }
            }
        }
        found
    }

    /// Deletes the servers that were removed and whose connections have ended, or whose time is up.
    async fn let_go(&mut self, session: &Session) {
        if self.memory.leaving.is_empty() {
            return;
        }
        let mut backends: Vec<String> = self
            .memory
            .leaving
            .keys()
            .map(|at| at.backend.clone())
            .collect();
        backends.dedup();
        let mut connections = Vec::new();
        for backend in &backends {
            match session.connections(backend).await {
                Ok(rows) => connections.extend(rows),
                Err(_) => return,
            }
        }
        let now = Instant::now();
        let mut gone = Vec::new();
        for (at, (_, since)) in &self.memory.leaving {
            let drain = &self.options.drain;
            let time = drain.backends.get(&at.backend).unwrap_or(&drain.time);
            let is_up = now.duration_since(*since) >= *time;
            let row = connections
                .iter()
                .find(|row| row.backend == at.backend && row.server == at.server);
            let Some(row) = row else {
                gone.push(at.clone()); // Somebody else has deleted it.
                continue;
            };
            if !row.ended() && !is_up {
                continue;
            }
            let mut commands = vec![Command::SetState {
                at: at.clone(),
                state: ServerState::Maint,
            }];
            if is_up && drain.shutdown_sessions {
                commands.push(Command::ShutdownSessions(at.clone()));
            }
            commands.push(Command::DeleteServer(at.clone()));
            let batch = session.send(&commands).await;
            match batch.answers.last() {
                Some(answer) if answer.is_done() && batch.answers.len() == commands.len() => {
                    gone.push(at.clone());
                }
                Some(Answer::Refused {
                    kind: Refusal::NoSuchServer,
                    ..
                }) => gone.push(at.clone()),
                // It stays in maintenance, which is harmless, and is tried again.
                _ => tracing::debug!(server = %at, "a removed server cannot be deleted yet"),
            }
        }
        for at in gone {
            self.memory.leaving.remove(&at);
        }
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

fn in_words(differences: &[(ServerRef, Difference)]) -> String {
    let told: Vec<String> = differences
        .iter()
        .take(3)
        .map(|(at, what)| format!("{at} {what}"))
        .collect();
    match differences.len().saturating_sub(told.len()) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}
