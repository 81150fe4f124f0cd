//! The difference between two sets as a value, and in words: `+1 −0 servers in airavata-api`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::haproxy::config::Server;

/// How many changes are told by name.
const TOLD_MAX: usize = 3;

/// The difference between two sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sections that are new, such as `backend api`.
    pub sections_added: Vec<String>,
    /// Sections that are gone.
    pub sections_removed: Vec<String>,
    /// Sections of which other lines than `bind` and `server` differ.
    pub sections_changed: Vec<String>,
    /// Whether the same sections stand in another order.
    pub sections_reordered: bool,
    /// Addresses, such as `*:80 in frontend web`.
    pub binds_added: Vec<String>,
    /// Addresses that are gone.
    pub binds_removed: Vec<String>,
    /// Backend → its servers, where they differ.
    pub servers: BTreeMap<String, ServerChanges>,
    /// Map file → its entries, where they differ.
    pub maps: BTreeMap<PathBuf, MapChanges>,
    /// Pattern file of ACLs → its patterns, where they differ.
    pub acls: BTreeMap<PathBuf, MapChanges>,
    /// Other files of the set that are new.
    pub files_added: Vec<PathBuf>,
    /// Other files of the set that are gone.
    pub files_removed: Vec<PathBuf>,
    /// Other files of the set that differ.
    pub files_changed: Vec<PathBuf>,
}

/// How the servers of a backend differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerChanges {
    /// Those that are new.
    pub added: Vec<Server>,
    /// Those that are gone.
    pub removed: Vec<Server>,
    /// Those that are there in both and differ: old and new.
    pub changed: Vec<(Server, Server)>,
    /// Whether those that are in both stand in another order.
    pub reordered: bool,
}

/// How the entries of a map differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapChanges {
    /// How many keys are new.
    pub added: usize,
    /// How many keys are gone.
    pub removed: usize,
    /// How many keys have another value.
    pub changed: usize,
    /// Whether the keys that are in both stand in another order (which counts for some maps).
    pub reordered: bool,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// What differs besides servers and the entries of maps and ACLs, in words.
    pub fn beyond_servers_and_maps(&self) -> Option<String> {
        let rest = Changes {
            servers: BTreeMap::new(),
            maps: BTreeMap::new(),
            acls: BTreeMap::new(),
            ..self.clone()
        };
        (!rest.is_empty()).then(|| rest.to_string())
    }

    /// Whether other files differ, and nothing else besides servers and the entries of maps and ACLs.
    pub fn is_about_files(&self) -> bool {
        let rest = Changes {
            files_added: Vec::new(),
            files_removed: Vec::new(),
            files_changed: Vec::new(),
            ..self.clone()
        };
        self.beyond_servers_and_maps().is_some() && rest.beyond_servers_and_maps().is_none()
    }

    /// Each change in words, the most important first.
    pub fn items(&self) -> Vec<String> {
        let mut items = Vec::new();
        let list = |items: &mut Vec<String>, verb: &str, names: &[String]| {
            items.extend(names.iter().map(|name| format!("{verb} {name}")));
        };
        list(&mut items, "removed", &self.sections_removed);
        list(&mut items, "added", &self.sections_added);
        list(&mut items, "no longer listens on", &self.binds_removed);
        list(&mut items, "listens on", &self.binds_added);
        for (backend, servers) in &self.servers {
            items.push(format!("{servers} in {backend}"));
        }
        list(&mut items, "changed", &self.sections_changed);
        for (path, map) in self.maps.iter().chain(&self.acls) {
            items.push(format!("{map} in {}", short(path)));
        }
        let paths = |paths: &[PathBuf]| -> Vec<String> { paths.iter().map(|p| short(p)).collect() };
        list(&mut items, "removed", &paths(&self.files_removed));
        list(&mut items, "added", &paths(&self.files_added));
        list(&mut items, "changed", &paths(&self.files_changed));
        if self.sections_reordered {
            items.push("sections in another order".to_owned());
        }
        items
    }
}

fn short(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The most important changes, such as `+1 −0 servers in airavata-api; changed frontend web`.
impl fmt::Display for Changes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.items();
        let told = items.len().min(TOLD_MAX);
        out.write_str(&items[..told].join("; "))?;
        match items.len() - told {
            0 if items.is_empty() => out.write_str("no change"),
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

impl fmt::Display for ServerChanges {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, removed) = (count(&self.added), count(&self.removed));
        tell(
            out,
            "server",
            added,
            removed,
            self.changed.len(),
            self.reordered,
        )
    }
}

impl fmt::Display for MapChanges {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = "entry";
        tell(
            out,
            noun,
            self.added,
            self.removed,
            self.changed,
            self.reordered,
        )
    }
}

fn count(servers: &[Server]) -> usize {
    servers
        .iter()
        .map(Server::count)
        .fold(0, usize::saturating_add)
}

fn tell(
    out: &mut fmt::Formatter<'_>,
    noun: &str,
    added: usize,
    removed: usize,
    changed: usize,
    reordered: bool,
) -> fmt::Result {
    let many = if noun == "entry" {
        "entries"
    } else {
        "servers"
    };
    if added + removed > 0 {
        write!(out, "+{added} −{removed} {many}")?;
        if changed > 0 {
            write!(out, " ({changed} changed)")?;
        }
        return Ok(());
    }
    match changed {
        0 if reordered => write!(out, "{many} in another order"),
        1 => write!(out, "1 {noun} changed"),
        _ => write!(out, "{changed} {many} changed"),
    }
}
