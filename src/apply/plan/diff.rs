//! The difference between two sets by meaning: comments, blank lines and quoting are no difference, and
//! neither is the revision that Gatewright writes into the file. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::set::{Role, SetFile, is_revision_variable};
use super::acls;
use super::changes::{Changes, MapChanges, ServerChanges};
use super::configuration;
use super::maps::diff_maps;
use crate::haproxy::config::{Backend, Bind, Config, Directive, LineError, Section, Server, Word};

/// The difference between two sets of files: the configuration, the maps and all else.
pub fn diff_sets(old: &[SetFile], new: &[SetFile]) -> Changes {
    let mut changes = diff(&configuration(old), &configuration(new));
    diff_files(old, new, &mut changes);
    changes
}

/// The difference between the files that are no configuration.
pub fn diff_files(old: &[SetFile], new: &[SetFile], changes: &mut Changes) {
    let by_path = |files: &'_ [SetFile]| -> BTreeMap<PathBuf, usize> {
        let files = files.iter().enumerate();
        files.map(|(at, f)| (f.destination.clone(), at)).collect()
    };
    let (in_old, in_new) = (by_path(old), by_path(new));
    for (path, at) in &in_new {
        let file = &new[*at];
        match in_old.get(path).map(|at| &old[*at]) {
            None => changes.files_added.push(path.clone()),
            Some(before) if before.role != file.role => changes.files_changed.push(path.clone()),
            Some(_) if file.role == Role::Config => {}
            Some(before) if before.text == file.text => {}
            Some(before) if file.role == Role::Map => {
                let maps = diff_maps(&before.text, &file.text);
                if maps != MapChanges::default() {
                    changes.maps.insert(path.clone(), maps);
                }
            }
            Some(_) => changes.files_changed.push(path.clone()),
        }
    }
    let gone = in_old.keys().filter(|path| !in_new.contains_key(*path));
    changes.files_removed.extend(gone.cloned());
    acls::sort_out(old, new, changes);
}

/// The difference between two configurations.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    let (old_parts, new_parts) = (parts(old), parts(new));
    let by_key = |parts: &'_ [Part<'_>]| -> BTreeMap<String, usize> {
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
    changes.sections_reordered = reordered(
        old_parts.iter().map(|part| &part.key),
        new_parts.iter().map(|part| &part.key),
        |key| in_old.contains_key(key),
        |key| in_new.contains_key(key),
    );
    changes
}

/// A section as it is compared.
struct Part<'a> {
    /// `backend api`; the second of the same name is `backend api (2)`.
    key: String,
    name: String,
    servers: Vec<Server>,
    /// Each listening address with the options of its line.
    binds: Vec<String>,
    /// Every other line that means something.
    rest: Vec<Line<'a>>,
}

/// A line that is compared word by word, without where the words stand.
enum Line<'a> {
    Directive(&'a Directive),
    /// The `defaults` section that the section names.
    From(&'a str),
    Wrong(&'a LineError),
}

impl PartialEq for Line<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Line::Directive(one), Line::Directive(two)) => {
                let same =
                    |(one, two): (&Word, &Word)| (&one.text, one.opaque) == (&two.text, two.opaque);
                one.conditional == two.conditional
                    && one.words.len() == two.words.len()
                    && one.words.iter().zip(&two.words).all(same)
            }
            (Line::From(one), Line::From(two)) => one == two,
            (Line::Wrong(one), Line::Wrong(two)) => one == two,
            _ => false,
        }
    }
}

fn parts(config: &Config) -> Vec<Part<'_>> {
    let of_line = |backend: Backend| ((backend.file, backend.line), backend.servers);
    let mut backends: BTreeMap<_, _> = config.backends().into_iter().map(of_line).collect();
    let of_line = |bind: Bind| ((bind.file, bind.line), bind);
    let binds: BTreeMap<_, _> = config.binds().into_iter().map(of_line).collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut parts: Vec<Part<'_>> = Vec::new();
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
        let outside = config.outside.iter().map(Line::Directive);
        let errors = config.errors.iter().map(Line::Wrong);
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

fn part<'a>(
    key: String,
    section: &Section,
    servers: Vec<Server>,
    binds: Vec<String>,
    rest: Vec<Line<'a>>,
) -> Part<'a> {
    Part {
        key,
        name: section.name.clone(),
        servers,
        binds,
        rest,
    }
}

/// The lines that are compared word by word: in a conditional block that is every line.
fn rest<'a>(section: &'a Section, lines: impl Iterator<Item = &'a Directive>) -> Vec<Line<'a>> {
    let from = section.from.iter().map(|name| Line::From(name));
    let compared = |directive: &&Directive| {
        let elsewhere = match directive.keyword() {
            "server" | "server-template" => section.is_backend(),
            "bind" => section.is_frontend(),
            _ => false,
        };
        directive.conditional || !elsewhere
    };
    from.chain(lines.filter(compared).map(Line::Directive))
        .collect()
}

/// Whether a line is the revision that Gatewright writes into the file.
pub fn is_marker(directive: &Directive) -> bool {
    directive.keyword() == "set-var" && directive.word(1).is_some_and(is_revision_variable)
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
    changes.reordered = reordered(
        old.iter().map(|(key, _)| key),
        new.iter().map(|(key, _)| key),
        |key| before.contains_key(key),
        |key| after.contains_key(key),
    );
    (changes != ServerChanges::default()).then_some(changes)
}

/// Whether the keys that are in both stand in another order.
pub(super) fn reordered<'a, K: PartialEq + 'a>(
    old: impl Iterator<Item = &'a K>,
    new: impl Iterator<Item = &'a K>,
    in_old: impl Fn(&K) -> bool,
    in_new: impl Fn(&K) -> bool,
) -> bool {
    !old.filter(|key| in_new(key))
        .eq(new.filter(|key| in_old(key)))
}

/// Each item under its name and how often the name stood before it.
pub(super) fn numbered<T>(items: &[T], name: impl Fn(&T) -> &String) -> Vec<((String, usize), &T)> {
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
