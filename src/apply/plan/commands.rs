//! The Runtime API commands that lead from what a worker runs to the servers of a configuration, in an
//! order in which no instance is missing at any moment. Pure.
//!
//! What was seen of the worker decides, not what was once sent to it: applied twice, the second
//! plan is empty.

use std::collections::{BTreeMap, BTreeSet};

use super::servers::{Difference, Pool, Wanted, is_held};
use crate::haproxy::runtime::{
    Command, Dynamic, ServerRef, ServerRow, ServerState, Version, init_state, keyword,
};

/// Whether a new server takes traffic before HAProxy's own first check of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewServers {
    /// At once: the catalog has said that it is healthy.
    #[default]
    Up,
    /// After its first good checks.
    Checked,
}

/// What happens to a weight that somebody else has set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HandWeights {
    /// It stays until the file's weight changes.
    #[default]
    Keep,
    /// The file's weight is set again.
    TakeBack,
}

/// What the operator has chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// For servers that are added.
    pub new_servers: NewServers,
    /// For weights that differ from the file.
    pub hand_weights: HandWeights,
}

/// What is known of the worker.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its version decides what can be said.
    pub version: Version,
    /// The servers that it runs, at least those of the backends in question, sorted by backend.
    pub rows: &'a [ServerRow],
    /// Servers that were removed and may still be there, as they were.
    pub leaving: &'a BTreeMap<ServerRef, Wanted>,
    /// Servers that an interrupted batch has touched: their weight and state are ours to set.
    pub doubtful: &'a Doubt,
}

/// Which servers may be in a state that nobody meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Doubt {
    /// None.
    #[default]
    None,
    /// These.
    Some(BTreeSet<ServerRef>),
    /// It is not known which.
    All,
}

impl Doubt {
    /// Whether it is about this one.
    pub fn holds(&self, at: &ServerRef) -> bool {
        match self {
            Doubt::None => false,
            Doubt::Some(servers) => servers.contains(at),
            Doubt::All => true,
        }
    }
}

/// Before this version (HAProxy issue 3413) a server that is added without an id to a backend with `random`
/// or a consistent hash silently gets no traffic.
const RING_IDS: Version = Version::new(2, 8, 25);

/// Commands for servers, in the order in which they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerCommands {
    /// New servers and changed ones: before anything sends traffic to them.
    pub first: Vec<Command>,
    /// Servers that take traffic again at a new address: after that address is in force, which from 3.0
    /// on is a moment after it was set.
    pub ready: Vec<Command>,
    /// Servers that leave: after nothing sends traffic to them any more.
    pub last: Vec<Command>,
    /// The servers that leave, as they were.
    pub leaving: BTreeMap<ServerRef, Wanted>,
    /// Every server that is spoken of.
    pub touched: BTreeSet<ServerRef>,
    /// Those of them whose weight is set.
    weighed: BTreeSet<ServerRef>,
    /// Those of them whose state is set.
    stated: BTreeSet<ServerRef>,
    /// How many servers are added.
    pub added: usize,
}

impl ServerCommands {
    /// Adds what makes the worker run the servers of `new`, where it was given those of `old`. An error
    /// says in words why that cannot be done at run time.
    pub fn lead(
        &mut self,
        old: &Pool,
        new: &Pool,
        known: Known<'_>,
        policy: Policy,
    ) -> Result<(), String> {
        let rows: BTreeMap<&str, &ServerRow> = of_backend(known.rows, &new.backend)
            .iter()
            .map(|row| (row.server.as_str(), row))
            .collect();
        certain(old, new)?;
        for (name, wanted) in &new.servers {
            let step = Step {
                at: ServerRef {
                    backend: new.backend.clone(),
                    server: name.clone(),
                },
                wanted,
                known,
                policy,
                pool: new,
            };
            match (old.servers.get(name), rows.get(name.as_str())) {
                (Some(before), Some(row)) => self.change(&step, before, row)?,
                (None, Some(row)) => self.again(&step, row)?,
                (_, None) => self.add(&step)?,
            }
        }
        for row in rows.values().filter(|row| !new.names(&row.server)) {
            let at = ServerRef {
                backend: new.backend.clone(),
                server: row.server.clone(),
            };
            if self.touched.contains(&at) {
                continue; // It has made way.
            }
            // What an interrupted batch has made of it is not known: its checks may rest, for one.
            let was = match known.doubtful.holds(&at) {
                true => None,
                false => old.servers.get(&row.server),
            };
            if is_held(row) {
                // It leaves already.
                if let Some(was) = was
                    && !known.leaving.contains_key(&at)
                {
                    self.leaving.insert(at, was.clone());
                }
                continue;
            }
            if let Some(why) = &new.fixed {
                return Err(format!("{} cannot be removed: {why}", row.server));
            }
            if let Some(was) = was {
                self.leaving.insert(at.clone(), was.clone());
            }
            self.touched.insert(at.clone());
            self.last.push(Command::SetState {
                at,
                state: ServerState::Drain,
            });
        }
        Ok(())
    }

    /// Whether a command puts right just this. What people have set besides stays, whatever else is
    /// said about the server.
    pub fn speaks_of(&self, at: &ServerRef, what: &Difference) -> bool {
        match what {
            Difference::Weight { .. } => self.weighed.contains(at),
            Difference::Held(_) => self.stated.contains(at),
            _ => self.touched.contains(at),
        }
    }

    /// A server that runs and stays.
    fn change(&mut self, step: &Step<'_>, before: &Wanted, row: &ServerRow) -> Result<(), String> {
        let Step { at, wanted, .. } = step;
        if before.options != wanted.options {
            return Err(format!(
                "the options of {} in {} differ",
                at.server, at.backend
            ));
        }
        if wanted.id.is_some_and(|id| id != row.id) {
            return Err(format!("the id of {} in {} differs", at.server, at.backend));
        }
        let ours = step.known.doubtful.holds(at);
        let moves = self.readdress(step, row);
        let by_hand = before.weight == wanted.weight && !ours;
        let keep = by_hand && step.policy.hand_weights == HandWeights::Keep;
        if row.user_weight != wanted.weight && !keep {
            self.weigh(step)?;
        }
        let held = is_held(row);
        if wanted.disabled && !row.admin.forced_maint() {
            self.state(at, ServerState::Maint);
        } else if !wanted.disabled && held && (before.disabled || ours) {
            // One that a person holds stays so.
            self.ready(at, moves);
        }
        Ok(())
    }

    /// A server that runs, but was not in the former file: it comes back while it leaves, or an
    /// interrupted batch has added it.
    fn again(&mut self, step: &Step<'_>, row: &ServerRow) -> Result<(), String> {
        let Step { at, wanted, .. } = step;
        let same = step.known.leaving.get(at).is_some_and(|before| {
            before.options == wanted.options && wanted.id.is_none_or(|id| id == row.id)
        });
        if !same {
            // Its options are not known, or others: it must go first, because of its name.
            self.state(at, ServerState::Maint);
            self.say(at, Command::DeleteServer(at.clone()));
            return self.add(step);
        }
        let moves = self.readdress(step, row);
        if row.user_weight != wanted.weight {
            self.weigh(step)?;
        }
        match wanted.disabled {
            true => self.state(at, ServerState::Maint),
            false => self.ready(at, moves),
        }
        Ok(())
    }

    fn add(&mut self, step: &Step<'_>) -> Result<(), String> {
        let Step { at, wanted, .. } = step;
        if let Some(why) = &step.pool.fixed {
            return Err(format!("{} cannot be added: {why}", at.server));
        }
        let version = step.known.version;
        if step.pool.ring && wanted.id.is_none() && version < RING_IDS {
            return Err(format!(
                "{} has no `id`, without which this version of HAProxy gives an added server no traffic in {}",
                at.server, at.backend
            ));
        }
        self.free_id(step)?;
        let mut options: Vec<Vec<String>> = Vec::new();
        for (name, values) in wanted.options.iter() {
            if let Dynamic::No(why) = keyword(version, name) {
                return Err(format!(
                    "{} cannot be added at run time because of its keyword `{name}`: {why}",
                    at.server
                ));
            }
            options.push(std::iter::once(name).chain(values).cloned().collect());
        }
        options.push(vec!["weight".into(), wanted.weight.to_string()]);
        if let Some(id) = wanted.id {
            options.push(vec!["id".into(), id.to_string()]);
        }
        let checked = step.policy.new_servers == NewServers::Checked
            && wanted.options.contains_key("check")
            && !wanted.options.contains_key("init-state");
        if checked && init_state(version) {
            options.push(vec!["init-state".into(), "down".into()]);
        }
        self.added += 1;
        self.weighed.insert(at.clone());
        self.stated.insert(at.clone());
        self.say(
            at,
            Command::AddServer {
                at: at.clone(),
                address: wanted.address,
                port: wanted.port,
                options,
            },
        );
        // Checks of a server added at run time rest until they are enabled.
        if wanted.options.contains_key("check") {
            self.say(at, Command::EnableHealth(at.clone()));
        }
        if wanted.options.contains_key("agent-check") {
            self.say(at, Command::EnableAgent(at.clone()));
        }
        if !wanted.disabled {
            self.say(at, Command::EnableServer(at.clone()));
            // Before `init-state` (3.1) this is the one order that makes it wait for its checks; both
            // go out on one line, so that hardly a request comes between.
            if checked && !init_state(version) {
                self.say(at, Command::SetHealthDown(at.clone()));
            }
        }
        Ok(())
    }

    /// Two servers of a backend cannot have one id, even if one of them leaves.
    fn free_id(&mut self, step: &Step<'_>) -> Result<(), String> {
        let Step { at, wanted, .. } = step;
        let holder = step.known.rows.iter().find(|row| {
            row.backend == at.backend && row.server != at.server && Some(row.id) == wanted.id
        });
        let Some(holder) = holder else {
            return Ok(());
        };
        if step.pool.names(&holder.server) || !is_held(holder) {
            return Err(format!(
                "the id of {} in {} is still that of {}",
                at.server, at.backend, holder.server
            ));
        }
        let holder = ServerRef::new(&at.backend, &holder.server);
        self.state(&holder, ServerState::Maint);
        self.say(&holder, Command::DeleteServer(holder.clone()));
        Ok(())
    }

    fn weigh(&mut self, step: &Step<'_>) -> Result<(), String> {
        if let Some(why) = &step.pool.fixed {
            return Err(format!(
                "the weight of {} cannot be changed: {why}",
                step.at.server
            ));
        }
        let at = &step.at;
        self.weighed.insert(at.clone());
        self.say(
            at,
            Command::SetWeight {
                at: at.clone(),
                weight: step.wanted.weight,
            },
        );
        Ok(())
    }

    /// Whether the server gets another address.
    fn readdress(&mut self, step: &Step<'_>, row: &ServerRow) -> bool {
        let Step { at, wanted, .. } = step;
        let moves = row.address != Some(wanted.address) || row.port != wanted.port;
        if moves {
            self.say(
                at,
                Command::SetAddress {
                    at: at.clone(),
                    address: wanted.address,
                    port: wanted.port,
                },
            );
        }
        moves
    }

    fn ready(&mut self, at: &ServerRef, moves: bool) {
        if !moves {
            return self.state(at, ServerState::Ready);
        }
        self.touched.insert(at.clone());
        self.stated.insert(at.clone());
        self.ready.push(Command::SetState {
            at: at.clone(),
            state: ServerState::Ready,
        });
    }

    fn state(&mut self, at: &ServerRef, state: ServerState) {
        self.stated.insert(at.clone());
        self.say(
            at,
            Command::SetState {
                at: at.clone(),
                state,
            },
        );
    }

    fn say(&mut self, at: &ServerRef, command: Command) {
        self.touched.insert(at.clone());
        self.first.push(command);
    }
}

impl ServerCommands {
    /// Every command, in order.
    pub fn all(&self) -> impl Iterator<Item = &Command> {
        self.first.iter().chain(&self.ready).chain(&self.last)
    }
}

/// The rows of one backend, out of rows that are sorted by backend.
pub fn of_backend<'a>(rows: &'a [ServerRow], backend: &str) -> &'a [ServerRow] {
    let from = rows.partition_point(|row| row.backend.as_str() < backend);
    let count = rows[from..].partition_point(|row| row.backend == backend);
    &rows[from..from + count]
}

struct Step<'a> {
    at: ServerRef,
    wanted: &'a Wanted,
    known: Known<'a>,
    policy: Policy,
    pool: &'a Pool,
}

/// Whether the difference of the lines can be said at run time at all.
fn certain(old: &Pool, new: &Pool) -> Result<(), String> {
    if new.disabled {
        return Err(format!(
            "the backend {} is disabled or conditional",
            new.backend
        ));
    }
    if old.unclear != new.unclear || !old.same_templates(new) {
        let lines = new.unclear.iter().chain(&old.unclear);
        let why = lines
            .map(|(name, why)| format!("{name}: {why}"))
            .next()
            .unwrap_or_else(|| "a server-template differs".to_owned());
        return Err(format!(
            "not every server of {} is certain ({why})",
            new.backend
        ));
    }
    Ok(())
}

/// Whether what is left after a batch is as it should be: servers that leave, and what people have set
/// where the batch did not speak of it.
pub fn is_settled(what: &Difference, spoken_of: bool, policy: Policy) -> bool {
    match what {
        Difference::Leaving => true,
        Difference::Held(_) => !spoken_of,
        Difference::Weight { .. } => !spoken_of && policy.hand_weights == HandWeights::Keep,
        Difference::Missing
        | Difference::Address
        | Difference::Serves
        | Difference::Id
        | Difference::Extra => false,
    }
}
