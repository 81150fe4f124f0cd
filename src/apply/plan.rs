//! What must be done so that a worker runs a set: nothing, commands, or a load of the files; and what the
//! difference is in words. Pure: what is known of the worker is an argument.
//!
//! ```text
//! two sets ── compare ──► Comparison ── plan(what the worker runs) ──► Nothing | Commands | Reload, why
//! ```
//!
//! Commands are chosen only where everything that differs can be said by them for certain; what is not
//! understood for certain is a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

mod acls;
mod certificates;
mod changes;
mod commands;
mod cost;
mod diff;
mod maps;
mod mentions;
mod narrow;
mod servers;

pub use acls::{AclStep, acl_patterns, is_pattern_file};
pub use certificates::{CertificateStep, CertificateSteps, CrtListStep, crt_list, fingerprint};
pub use changes::{Changes, MapChanges, ServerChanges};
pub use commands::{
    Doubt, HandWeights, Known, NewServers, Policy, ServerCommands, is_settled, of_backend,
};
pub use cost::Cost;
pub use diff::{diff, diff_sets, is_marker};
pub use maps::{MapEntry, map_entries};
pub use servers::{Difference, Pool, Wanted, is_held};

use self::certificates::Unsaid;
use self::mentions::mentioned;
use self::narrow::narrow;
use super::set::{REVISION_VARIABLE, Revision, Role, SetFile, revision_variable};
use crate::haproxy::config::Config;

/// What to do with a set that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The worker need not be told: what it runs means the same.
    Nothing,
    /// The worker is told what differs.
    Commands(Box<Steps>),
    /// HAProxy must load the files again.
    Reload {
        /// Why, in words.
        reason: String,
    },
}

/// What the worker is told, in this order: servers come before a map or an ACL may choose their backends,
/// and leave after none does. Certificates come before maps, and go last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// Servers.
    pub servers: ServerCommands,
    /// Maps, each with all its new entries.
    pub maps: Vec<MapStep>,
    /// Pattern files of ACLs, each with all its new patterns.
    pub acls: Vec<AclStep>,
    /// Certificates and the lines of crt-lists.
    pub certificates: CertificateSteps,
    /// What it costs, against what a reload would.
    pub cost: Cost,
}

/// One map that is exchanged as a whole, in one step for traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapStep {
    /// The file of the set.
    pub destination: PathBuf,
    /// Its keys and values, in order.
    pub entries: Vec<(String, String)>,
}

/// How two sets differ, read no further than it takes to say that.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// The difference.
    pub changes: Changes,
    /// Each backend whose servers differ: as it was, and as it is wanted.
    pub pools: Vec<(Pool, Pool)>,
    /// Each map that differs.
    pub maps: Vec<MapStep>,
    /// Each pattern file of ACLs that differs.
    pub acls: Vec<AclStep>,
    /// Certificates that differ.
    pub certificates: CertificateSteps,
    /// Why only a load of the files will do, if that is certain without asking the worker.
    pub reload: Option<String>,
    /// The configuration files as far as they were read: whole, or what differs.
    pub read: Vec<SetFile>,
}

/// The difference between two sets.
pub fn compare(old: &[SetFile], new: &[SetFile]) -> Comparison {
    let narrowed = narrow(old, new);
    let configs = |files: &[SetFile]| -> Vec<SetFile> {
        let configs = files.iter().filter(|file| file.role == Role::Config);
        configs.cloned().collect()
    };
    let (before, after) = narrowed.unwrap_or_else(|| (configs(old), configs(new)));
    let (before, read) = (configuration(&before), after);
    let after = configuration(&read);
    let mut changes = diff(&before, &after);
    diff::diff_files(old, new, &mut changes);
    let mut comparison = Comparison {
        read,
        ..Comparison::default()
    };
    comparison.reload = changes.beyond_servers_and_maps();
    if comparison.reload.is_some() && changes.is_about_files() {
        comparison.take_certificates(old, new, &changes);
    }
    if comparison.reload.is_none() {
        comparison.take_pools(&before, &after, &changes);
        comparison.take_maps(new, &changes);
        comparison.take_acls(new, &changes);
        comparison.refuse_mentioned(new, &changes);
    }
    comparison.changes = changes;
    comparison
}

impl Comparison {
    fn take_pools(&mut self, before: &Config, after: &Config, changes: &Changes) {
        let pools = |config: &Config| -> BTreeMap<String, Pool> {
            let sections = config.backend_sections();
            sections
                .filter(|section| changes.servers.contains_key(&section.name))
                .map(|section| (section.name.clone(), Pool::of(config, section)))
                .collect()
        };
        let (mut before, mut after) = (pools(before), pools(after));
        for (name, servers) in &changes.servers {
            let (Some(old), Some(new)) = (before.remove(name), after.remove(name)) else {
                self.reload = Some(format!("the servers of {name} are not certain"));
                return;
            };
            if servers.reordered && new.order_counts {
                self.reload = Some(format!("the order of the servers in {name} counts"));
            }
            // What cannot be said for certain is not part of a pool, so a pool cannot tell its change.
            let unsaid = servers.changed.iter().find(|(was, is)| {
                let template = was.template.is_some() || is.template.is_some();
                template
                    || old.unclear.contains_key(&was.name)
                    || new.unclear.contains_key(&is.name)
            });
            if let Some((_, server)) = unsaid {
                let why = match new
                    .unclear
                    .get(&server.name)
                    .or(old.unclear.get(&server.name))
                {
                    Some(why) => why,
                    None => "it is a server-template",
                };
                self.reload = Some(format!("{} in {name} differs and {why}", server.name));
            }
            self.pools.push((old, new));
        }
    }

    fn take_maps(&mut self, new: &[SetFile], changes: &Changes) {
        for file in new {
            if !changes.maps.contains_key(&file.destination) {
                continue;
            }
            let entries = map_entries(&file.text);
            self.maps.push(MapStep {
                destination: file.destination.clone(),
                entries: entries.into_iter().map(|e| (e.key, e.value)).collect(),
            });
        }
    }

    fn take_acls(&mut self, new: &[SetFile], changes: &Changes) {
        let differs = |file: &&SetFile| changes.acls.contains_key(&file.destination);
        self.acls = new
            .iter()
            .filter(differs)
            .map(|file| AclStep {
                destination: file.destination.clone(),
                patterns: acl_patterns(&file.text),
            })
            .collect();
    }

    fn take_certificates(&mut self, old: &[SetFile], new: &[SetFile], changes: &Changes) {
        match certificates::lead(old, new, changes) {
            Ok(steps) => {
                self.certificates = steps;
                self.reload = None;
            }
            Err(Unsaid::Because(why)) => self.reload = Some(why),
            Err(Unsaid::OtherFiles) => {}
        }
    }

    /// A server that other lines name (`use-server`, `track`, `srv_is_up`…) cannot be removed alone.
    fn refuse_mentioned(&mut self, new: &[SetFile], changes: &Changes) {
        let gone: BTreeSet<&str> = changes
            .servers
            .values()
            .flat_map(|servers| servers.removed.iter().map(|server| server.name.as_str()))
            .collect();
        if let Some(name) = mentioned(new, &gone) {
            self.reload = Some(format!("another line names the server {name}"));
        }
    }

    /// The backends whose servers must be known before a plan can be made.
    pub fn backends(&self) -> Vec<String> {
        let names = self.pools.iter().map(|(_, new)| new.backend.clone());
        names.collect()
    }

    /// What must be done to a worker that was given the old set and of which this is known.
    pub fn plan(&self, known: Known<'_>, policy: Policy) -> Plan {
        let reload = |reason: String| Plan::Reload { reason };
        if let Some(reason) = &self.reload {
            return reload(reason.clone());
        }
        let mut steps = Steps {
            maps: self.maps.clone(),
            acls: self.acls.clone(),
            certificates: self.certificates.clone(),
            ..Steps::default()
        };
        for (old, new) in &self.pools {
            if let Err(reason) = steps.servers.lead(old, new, known, policy) {
                return reload(reason);
            }
        }
        steps.cost = Cost::of(&steps, known.rows.len());
        if let Some(reason) = steps.cost.too_high() {
            return reload(reason);
        }
        match steps
            == (Steps {
                cost: steps.cost,
                ..Steps::default()
            }) {
            true => Plan::Nothing,
            false => Plan::Commands(Box::new(steps)),
        }
    }
}

/// Every backend of a set.
pub fn pools(files: &[SetFile]) -> Vec<Pool> {
    let config = configuration(files);
    let sections = config.backend_sections();
    sections.map(|section| Pool::of(&config, section)).collect()
}

/// The revision that the configuration of a set carries.
pub fn revision(files: &[SetFile]) -> Option<Revision> {
    let main = files.iter().find(|file| file.role == Role::Config)?;
    let config = configuration(files);
    let own = config.process_variable(&revision_variable(&main.destination));
    Revision::parse(own.or_else(|| config.process_variable(REVISION_VARIABLE))?)
}

/// The configuration files of a set as one configuration, under their destination paths.
pub fn configuration(files: &[SetFile]) -> Config {
    let configs = files.iter().filter(|file| file.role == Role::Config);
    Config::parse_files(configs.map(|file| (file.destination.as_path(), file.text.as_str())))
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
