//! What must be done so that HAProxy runs a set, and what the difference is in words. Pure; it is the
//! base on which run-time commands can be chosen instead of a reload.
//!
//! Two configurations are compared by meaning: comments, blank lines and quoting are no difference, and
//! neither is the revision that Gatewright writes into the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

mod changes;
mod narrow;

pub use changes::{Changes, MapChanges, ServerChanges};

use super::set::{Candidate, REVISION_VARIABLE, Revision, Role, SetFile};
use crate::haproxy::config::{Backend, Bind, Config, Directive, Section, Server};

/// What to do with a set that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// What runs means the same: neither write nor tell. The texts may differ in comments; the
    /// files of what runs stay, with its revision.
    Nothing,
    /// HAProxy must load the files again.
    Reload {
        /// Why, in words.
        reason: String,
        /// What differs.
        changes: Box<Changes>,
    },
    /// It is not known what HAProxy runs: it starts, or must be made to load, the set.
    Start,
}

/// What must be done so that the set runs where `running` does.
pub fn plan(running: Option<&[SetFile]>, new: &Candidate) -> Plan {
    let Some(running) = running else {
        return Plan::Start;
    };
    let changes = diff_sets(running, &new.files);
    if changes.is_empty() {
        return Plan::Nothing;
    }
    Plan::Reload {
        reason: changes.to_string(),
        changes: Box::new(changes),
    }
}

/// The revision that the configuration of a set carries.
pub fn revision(files: &[SetFile]) -> Option<Revision> {
    Revision::parse(configuration(files).process_variable(REVISION_VARIABLE)?)
}

/// The configuration files of a set as one configuration, under their destination paths.
pub fn configuration(files: &[SetFile]) -> Config {
    let configs = files.iter().filter(|file| file.role == Role::Config);
    Config::parse_files(configs.map(|file| (file.destination.as_path(), file.text.as_str())))
}

/// One entry of a map file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// The value; empty when there is none.
    pub value: String,
}

/// The entries of a map file: the first word and the rest of each line that is neither blank nor a
/// comment (HAProxy 2.6 configuration manual 7.3.1 "map").
pub fn map_entries(text: &str) -> Vec<MapEntry> {
    let blank = [' ', '\t', '\r'];
    let mut entries = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim_matches(blank);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        entries.push(MapEntry {
            line: index + 1,
            key: key.to_owned(),
            value: value.trim_matches(blank).to_owned(),
        });
    }
    entries
}

/// The difference between two sets of files: the configuration, the maps and all else.
pub fn diff_sets(old: &[SetFile], new: &[SetFile]) -> Changes {
    let mut changes = diff(&configuration(old), &configuration(new));
    let by_path = |files: &[SetFile]| -> BTreeMap<PathBuf, SetFile> {
        let files = files.iter();
        files.map(|f| (f.destination.clone(), f.clone())).collect()
    };
    let (old, new) = (by_path(old), by_path(new));
    for (path, file) in &new {
        match old.get(path) {
            None => changes.files_added.push(path.clone()),
            Some(before) if before.role != file.role => changes.files_changed.push(path.clone()),
            Some(_) if file.role == Role::Config => {}
            Some(before) if file.role == Role::Map => {
                let maps = diff_maps(&before.text, &file.text);
                if maps != MapChanges::default() {
                    changes.maps.insert(path.clone(), maps);
                }
            }
            Some(before) if before.text != file.text => changes.files_changed.push(path.clone()),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|path| !new.contains_key(*path));
    changes.files_removed.extend(gone.cloned());
    changes
}

/// The difference between two configurations.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    let (old_parts, new_parts) = (parts(old), parts(new));
    let by_key = |parts: &'_ [Part]| -> BTreeMap<String, usize> {
        let parts = parts.iter().enumerate();
        parts.map(|(at, part)| (part.key.clone(), at)).collect()
    };
    let (in_old, in_new) = (by_key(&old_parts), by_key(&new_parts));
    for part in &new_parts {
        let Some(before) = in_old.get(&part.key).map(|at| &old_parts[*at]) else {
            changes.sections_added.push(part.key.clone());
            continue;
        };
        if before.rest != part.rest {
            changes.sections_changed.push(part.key.clone());
        }
        let (added, removed) = multiset_difference(&before.binds, &part.binds);
        let tell = |bind: String| format!("{bind} in {}", part.key);
        changes.binds_added.extend(added.into_iter().map(tell));
        changes.binds_removed.extend(removed.into_iter().map(tell));
        if let Some(servers) = diff_servers(&before.servers, &part.servers) {
            changes.servers.insert(part.name.clone(), servers);
        }
    }
    let gone = old_parts
        .iter()
        .filter(|part| !in_new.contains_key(&part.key));
    changes.sections_removed = gone.map(|part| part.key.clone()).collect();
    let kept_old = old_parts.iter().map(|part| &part.key);
    let kept_new = new_parts.iter().map(|part| &part.key);
    changes.sections_reordered = !kept_old
        .filter(|key| in_new.contains_key(*key))
        .eq(kept_new.filter(|key| in_old.contains_key(*key)));
    changes
}

/// A section as it is compared.
struct Part {
    /// `backend api`; the second of the same name is `backend api (2)`.
    key: String,
    name: String,
    servers: Vec<Server>,
    /// Each listening address with the options of its line.
    binds: Vec<String>,
    /// Every other line that means something.
    rest: Vec<Line>,
}

type Line = (bool, Vec<(String, bool)>);

fn parts(config: &Config) -> Vec<Part> {
    let of_line = |backend: Backend| ((backend.file, backend.line), backend.servers);
    let mut backends: BTreeMap<_, _> = config.backends().into_iter().map(of_line).collect();
    let of_line = |bind: Bind| ((bind.file, bind.line), bind);
    let binds: BTreeMap<_, _> = config.binds().into_iter().map(of_line).collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut parts: Vec<Part> = Vec::new();
    for section in &config.sections {
        let title = format!("{} {}", section.kind, section.name)
            .trim()
            .to_owned();
        let own = |d: &&Directive| !is_marker(d);
        let lines = section.directives.iter().filter(own);
        let rest = rest(section, lines);
        // HAProxy adds up all `global` sections.
        if section.kind == "global" {
            match parts.iter_mut().find(|part| part.key == "global") {
                Some(part) => part.rest.extend(rest),
                None if rest.is_empty() => {}
                None => parts.push(part(title, section, Vec::new(), Vec::new(), rest)),
            }
            continue;
        }
        let count = seen.entry(title.clone()).or_insert(0);
        *count += 1;
        let key = match *count {
            1 => title,
            count => format!("{title} ({count})"),
        };
        let at = (section.file, section.line);
        let servers = backends.remove(&at).unwrap_or_default();
        let mut listening = Vec::new();
        for directive in &section.directives {
            if let Some(bind) = binds.get(&(section.file, directive.line)) {
                let options = bind.options.join(" ");
                for endpoint in &bind.endpoints {
                    listening.push(format!("{endpoint} {options}").trim().to_owned());
                }
            }
        }
        parts.push(part(key, section, servers, listening, rest));
    }
    if !config.outside.is_empty() || !config.errors.is_empty() {
        let outside = config.outside.iter().map(line);
        let errors = config
            .errors
            .iter()
            .map(|e| (true, vec![(format!("{e:?}"), true)]));
        parts.push(Part {
            key: "lines outside any section".to_owned(),
            name: String::new(),
            servers: Vec::new(),
            binds: Vec::new(),
            rest: outside.chain(errors).collect(),
        });
    }
    parts
}

fn part(
    key: String,
    section: &Section,
    servers: Vec<Server>,
    binds: Vec<String>,
    rest: Vec<Line>,
) -> Part {
    Part {
        key,
        name: section.name.clone(),
        servers,
        binds,
        rest,
    }
}

/// The lines that are compared word by word: in a conditional block that is every line.
fn rest<'a>(section: &Section, lines: impl Iterator<Item = &'a Directive>) -> Vec<Line> {
    let from = section
        .from
        .iter()
        .map(|name| (true, vec![(name.clone(), true)]));
    let compared = |directive: &&Directive| {
        let elsewhere = match directive.keyword() {
            "server" | "server-template" => section.is_backend(),
            "bind" => section.is_frontend(),
            _ => false,
        };
        directive.conditional || !elsewhere
    };
    from.chain(lines.filter(compared).map(line)).collect()
}

fn line(directive: &Directive) -> Line {
    let words = directive.words.iter();
    let words = words.map(|word| (word.text.clone(), word.opaque)).collect();
    (directive.conditional, words)
}

/// Whether a line is the revision that Gatewright writes into the file.
pub fn is_marker(directive: &Directive) -> bool {
    directive.keyword() == "set-var" && directive.word(1) == Some(REVISION_VARIABLE)
}

fn diff_servers(old: &[Server], new: &[Server]) -> Option<ServerChanges> {
    let (old, new) = (numbered(old, |s| &s.name), numbered(new, |s| &s.name));
    let mut changes = ServerChanges::default();
    let before: BTreeMap<_, _> = old.iter().map(|(key, server)| (key, *server)).collect();
    let after: BTreeMap<_, _> = new.iter().map(|(key, server)| (key, *server)).collect();
    for (key, server) in &new {
        match before.get(key) {
            None => changes.added.push((*server).clone()),
            Some(old) if !old.same_meaning(server) => {
                changes.changed.push(((*old).clone(), (*server).clone()));
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(key, _)| !after.contains_key(key));
    changes.removed = gone.map(|(_, server)| (*server).clone()).collect();
    let kept_old = old
        .iter()
        .map(|(key, _)| key)
        .filter(|key| after.contains_key(key));
    let kept_new = new
        .iter()
        .map(|(key, _)| key)
        .filter(|key| before.contains_key(key));
    changes.reordered = !kept_old.eq(kept_new);
    (changes != ServerChanges::default()).then_some(changes)
}

fn diff_maps(old: &str, new: &str) -> MapChanges {
    let (old, new) = (map_entries(old), map_entries(new));
    let (old, new) = (numbered(&old, |e| &e.key), numbered(&new, |e| &e.key));
    let before: BTreeMap<_, _> = old.iter().map(|(key, entry)| (key, &entry.value)).collect();
    let after: BTreeMap<_, _> = new.iter().map(|(key, entry)| (key, &entry.value)).collect();
    let kept_old = old
        .iter()
        .map(|(key, _)| key)
        .filter(|key| after.contains_key(key));
    let kept_new = new
        .iter()
        .map(|(key, _)| key)
        .filter(|key| before.contains_key(key));
    MapChanges {
        added: after
            .keys()
            .filter(|key| !before.contains_key(*key))
            .count(),
        removed: before
            .keys()
            .filter(|key| !after.contains_key(*key))
            .count(),
        changed: after
            .iter()
            .filter(|(key, value)| before.get(*key).is_some_and(|old| old != *value))
            .count(),
        reordered: !kept_old.eq(kept_new),
    }
}

/// Each item under its name and how often the name stood before it.
fn numbered<T>(items: &[T], name: impl Fn(&T) -> &String) -> Vec<((String, usize), &T)> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut numbered = Vec::new();
    for item in items {
        let count = seen.entry(name(item).clone()).or_insert(0);
        numbered.push(((name(item).clone(), *count), item));
        *count += 1;
    }
    numbered
}

fn multiset_difference(old: &[String], new: &[String]) -> (Vec<String>, Vec<String>) {
    let mut removed = old.to_vec();
    let mut added = Vec::new();
    for item in new {
        match removed.iter().position(|other| other == item) {
            Some(at) => drop(removed.remove(at)),
            None => added.push(item.clone()),
        }
    }
    (added, removed)
}

#[cfg(test)]
mod tests;
