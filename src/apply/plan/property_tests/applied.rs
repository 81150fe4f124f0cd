//! What an applier knows of a worker from one change to the next, with the fake worker in place of a real one.

use std::collections::BTreeMap;
use std::path::Path;

use gatewright::apply::plan::{Doubt, Known, Plan, Policy, Steps, Wanted, compare, is_settled};
use gatewright::apply::set::SetFile;
use gatewright::haproxy::runtime::{Command, ServerRef, ServerState, Version};

use super::family::Site;
use super::worker::{Knobs, Worker};

/// Where the files of a site are, as the fake worker is told.
const DIRECTORY: &str = "/run/h";

/// What an applier keeps between two changes: a worker, and what is known of it.
pub struct Applied {
    pub worker: Worker,
    leaving: BTreeMap<ServerRef, Wanted>,
    doubtful: Doubt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Runs,
    Differs,
    Reload,
}

impl Applied {
    pub fn start(site: &Site) -> Applied {
        Applied {
            worker: load(site),
            leaving: BTreeMap::new(),
            doubtful: Doubt::None,
        }
    }

    pub fn plan(&self, old: &Site, new: &Site, policy: Policy) -> Plan {
        let comparison = compare(&files(old), &files(new));
        let rows = self.worker.rows();
        let backends = comparison.backends();
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| backends.contains(&row.backend))
            .collect();
        let known = Known {
            version: Version::new(2, 6, 12),
            rows: &rows,
            leaving: &self.leaving,
            doubtful: &self.doubtful,
        };
        comparison.plan(known, policy)
    }

    /// One attempt, as the applier makes it: told, read back, noted.
    pub fn attempt(&mut self, old: &Site, new: &Site, policy: Policy, knobs: Knobs) -> Told {
        let steps = match self.plan(old, new, policy) {
            Plan::Nothing => Steps::default(),
            Plan::Commands(steps) => *steps,
            Plan::Reload { .. } => return Told::Reload,
        };
        check_order(&steps, old, new);
        let carried_out = self.worker.take(&steps, knobs);
        let read = compare(&files(old), &files(new));
        let settled = read.pools.iter().all(|(_, pool)| {
            let rows = self.worker.rows();
            let rows = rows.iter().filter(|row| row.backend == pool.backend);
            pool.compare(rows).iter().all(|(server, what)| {
                let at = ServerRef::new(&pool.backend, server);
                is_settled(what, steps.servers.speaks_of(&at, what), policy)
            })
        });
        let runs = carried_out && settled;
        self.note(&steps, runs);
        match runs {
            true => Told::Runs,
            false => Told::Differs,
        }
    }

    /// As `Memory::note` does.
    pub fn note(&mut self, steps: &Steps, runs: bool) {
        for (at, was) in &steps.servers.leaving {
            self.leaving.insert(at.clone(), was.clone());
        }
        for command in steps.servers.first.iter().filter(|_| !runs) {
            if let Command::AddServer { at, .. } = command {
                self.leaving.remove(at);
            }
        }
        match (runs, &mut self.doubtful) {
            (true, doubt) => {
                for at in &steps.servers.touched {
                    if !steps.servers.leaving.contains_key(at) {
                        self.leaving.remove(at);
                    }
                }
                if let Doubt::Some(servers) = doubt {
                    servers.retain(|at| !steps.servers.touched.contains(at));
                }
            }
            (false, Doubt::Some(servers)) => servers.extend(steps.servers.touched.clone()),
            (false, doubt) => *doubt = Doubt::Some(steps.servers.touched.clone()),
        }
    }

    /// Tries, tries once more from what it then runs, and loads the files if that does not do.
    pub fn change(&mut self, old: &Site, new: &Site, policy: Policy, knobs: Knobs) -> Told {
        let mut told = self.attempt(old, new, policy, knobs);
        if told == Told::Differs {
            told = self.attempt(old, new, policy, Knobs::default());
        }
        if told != Told::Runs {
            *self = Applied::start(new);
        }
        told
    }

    /// Deletes some of the servers that leave, as the look at them does when their connections ended.
    pub fn let_go(&mut self, which: impl Fn(usize) -> bool) {
        let leaving: Vec<ServerRef> = self.leaving.keys().cloned().collect();
        for (_, at) in leaving.iter().enumerate().filter(|(n, _)| which(*n)) {
            self.worker.carry_out(&Command::SetState {
                at: at.clone(),
                state: ServerState::Maint,
            });
            if self
                .worker
                .carry_out(&Command::DeleteServer(at.clone()))
                .is_done()
            {
                self.leaving.remove(at);
            }
        }
    }
}

pub fn files(site: &Site) -> Vec<SetFile> {
    site.files(Path::new(DIRECTORY))
}

pub fn load(site: &Site) -> Worker {
    Worker::load(site, &format!("{DIRECTORY}/m.map"))
}

/// No server that stays is removed or drained, and what comes comes before what goes.
fn check_order(steps: &Steps, old: &Site, new: &Site) {
    let (old, new) = (load(old), load(new));
    let holds = |worker: &Worker, at: &ServerRef| {
        worker.backends[&at.backend]
            .servers
            .contains_key(&at.server)
    };
    let first = &steps.servers.first;
    for (number, command) in first.iter().enumerate() {
        match command {
            Command::SetState { at, state } => {
                let disabled = |worker: &Worker| {
                    let server = worker.backends[&at.backend].servers.get(&at.server);
                    server.is_some_and(|server| server.row.admin.maint())
                };
                assert_ne!(*state, ServerState::Drain, "{steps:#?}");
                let stays = holds(&old, at) && holds(&new, at) && !disabled(&new);
                assert!(!stays || *state == ServerState::Ready, "{steps:#?}");
            }
            Command::DeleteServer(at) => {
                assert!(!holds(&old, at) || !holds(&new, at), "{steps:#?}");
                let added = first[number..].iter().any(
                    |command| matches!(command, Command::AddServer { at: added, .. } if added == at),
                );
                assert!(added || !holds(&new, at), "{steps:#?}");
            }
            _ => {}
        }
    }
    for command in &steps.servers.last {
        let Command::SetState { at, state } = command else {
            panic!("{steps:#?}");
        };
        assert_eq!(*state, ServerState::Drain, "{steps:#?}");
        assert!(!holds(&new, at), "{steps:#?}");
    }
}
