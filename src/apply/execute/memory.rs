//! What is known of the running worker besides the set that it runs, kept from one change to the next.
//! It is about one worker and forgotten with it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::plan::{Difference, Doubt, Pool, Steps, Wanted, of_backend};
use super::super::set::Revision;
use super::super::validate::Master;
use super::super::verdict::Servers;
use super::reads::Reads;
use super::telling::Outcome;
use crate::haproxy::runtime::{Command, ServerRef, ServerRow, Session};
use crate::haproxy::stats::Running;

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
    /// Its master, once that has answered.
    pub master: Option<Master>,
    /// Whether it reads our files.
    pub reads: Reads,
    /// Why it is not known to hold the written set, which it should have loaded.
    pub unlike: Option<String>,
    /// Files of a set that no configuration names, in words.
    pub unnamed: Option<(Revision, Vec<String>)>,
    /// What a set reads of the environment that HAProxy lacks, in words.
    pub environment: Option<(Revision, Vec<String>)>,
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
