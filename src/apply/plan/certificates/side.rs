//! One set as its certificates see it: which files are named as certificates, by which lines, and under
//! which names HAProxy knows them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::super::set::{Role, SetFile};
use super::super::configuration;
use super::list::{self, Line};
use super::pem::{self, Kind};
use super::{find, told};
use crate::haproxy::config::{Config, Directive};

/// One set.
pub struct Side<'a> {
    pub files: &'a [SetFile],
    /// The crt-lists of the set.
    pub lists: BTreeMap<&'a Path, Vec<Line>>,
    config: Config,
    /// `crt-base`.
    base: Option<String>,
    /// Certificates that lines of the configuration name.
    direct: BTreeSet<&'a Path>,
    /// The crt-lists that lines of the configuration name.
    used: BTreeSet<&'a Path>,
    /// The certificates of each `bind` line.
    binds: Vec<Bind<'a>>,
}

/// A certificate as HAProxy names it, below `crt-base`.
pub fn with_base(base: Option<&str>, written: &str) -> String {
    match base {
        Some(base) if !written.starts_with('/') => format!("{base}/{written}"),
        _ => written.to_owned(),
    }
}

/// The certificates among which a `bind` line chooses.
#[derive(Default)]
struct Bind<'a> {
    /// Those that are files of the set, with the names that a line of a list gives them.
    members: Vec<(&'a Path, Vec<String>)>,
    /// One whose names are not known.
    unknown: Option<String>,
}

impl<'a> Side<'a> {
    /// Reads a set. An error says what in it is not certain.
    pub fn of(files: &'a [SetFile]) -> Result<Side<'a>, String> {
        let config = configuration(files);
        if config.is_conditional() || !config.errors.is_empty() {
            return Err("conditional blocks may name certificates".to_owned());
        }
        if config.global_value("default-path").is_some() {
            return Err("`default-path` changes where certificates are".to_owned());
        }
        if config.of_kind("crt-store").next().is_some() {
            return Err("a `crt-store` names certificates".to_owned());
        }
        let base = config.global_value("crt-base").map(str::to_owned);
        if base.as_ref().is_some_and(|base| !base.starts_with('/')) {
            return Err("`crt-base` is no absolute path".to_owned());
        }
        let mut lists = BTreeMap::new();
        for file in files.iter().filter(|file| file.role == Role::CrtList) {
            let lines = list::lines(&file.text);
            let lines = lines.map_err(|why| format!("{}: {why}", file.destination.display()))?;
            lists.insert(file.destination.as_path(), lines);
        }
        let mut side = Side {
            files,
            lists,
            config: Config::default(),
            base,
            direct: BTreeSet::new(),
            used: BTreeSet::new(),
            binds: Vec::new(),
        };
        for directive in config
            .sections
            .iter()
            .flat_map(|section| &section.directives)
        {
            side.take(directive)?;
        }
        side.config = config;
        Ok(side)
    }

    fn take(&mut self, directive: &Directive) -> Result<(), String> {
        let mut bind = Bind::default();
        for pair in directive.words.windows(2) {
            let [option, value] = pair else { continue };
            let written = value.text.as_str();
            if !matches!(option.text.as_str(), "crt" | "crt-list") {
                continue;
            }
            if value.opaque {
                return Err("an environment variable names a certificate".to_owned());
            }
            if option.text == "crt" {
                match self.file(written) {
                    Some(path) => {
                        self.direct.insert(path);
                        bind.members.push((path, Vec::new()));
                    }
                    None => bind.unknown = Some(written.to_owned()),
                }
                continue;
            }
            let list = self.lists.iter().find(|(path, _)| is_at(written, path));
            let Some((path, lines)) = list else {
                bind.unknown = Some(format!("those of {written}"));
                continue;
            };
            self.used.insert(path);
            for line in lines {
                match self.file(&line.file) {
                    Some(path) => bind.members.push((path, line.filters.clone())),
                    None => bind.unknown = Some(line.file.clone()),
                }
            }
        }
        if directive.keyword() == "bind" {
            self.binds.push(bind);
        }
        Ok(())
    }

    /// The name under which HAProxy knows a certificate that is written so.
    pub fn name(&self, written: &str) -> String {
        with_base(self.base.as_deref(), written)
    }

    /// The file of the set that is written so. Where HAProxy's relative paths start is not known here;
    /// who tells the worker looks again.
    fn file(&self, written: &str) -> Option<&'a Path> {
        let name = self.name(written);
        let mut files = self.files.iter().filter(|file| file.role == Role::Other);
        let file = files.find(|file| is_at(&name, &file.destination))?;
        Some(file.destination.as_path())
    }

    /// A certificate whose content is known.
    pub fn of_set(&self, written: &str) -> Result<&'a Path, String> {
        let file = self.file(written);
        file.ok_or_else(|| format!("the certificate {written} is no file of the set"))
    }

    /// The files of the set that are named as certificates.
    pub fn named(&self) -> BTreeSet<&'a Path> {
        let listed = self.lists.values().flatten();
        let listed = listed.filter_map(|line| self.file(&line.file));
        listed.chain(self.direct.iter().copied()).collect()
    }

    /// A configuration outside the set may name a list together with certificates that are not known.
    pub fn refuse_unused(&self, list: &Path) -> Result<(), String> {
        match self.used.contains(list) {
            true => Ok(()),
            false => Err(format!(
                "no line of the set's configuration names {}",
                list.display()
            )),
        }
    }

    /// Whether no line of the configuration names it.
    pub fn is_only_listed(&self, path: &Path) -> bool {
        !self.direct.contains(path)
    }

    /// The one name under which HAProxy holds this file, if it takes it for nothing but a certificate.
    pub fn only_name(&self, path: &Path) -> Result<String, String> {
        let last = path.file_name();
        let mut names = BTreeSet::new();
        for directive in self.config.sections.iter().flat_map(|s| &s.directives) {
            let mut before = "";
            for word in &directive.words {
                let is_it = Path::new(&word.text).file_name() == last;
                if is_it && before != "crt" {
                    return Err(format!(
                        "line {} of the configuration may take {} for something else",
                        directive.line,
                        told(path)
                    ));
                }
                if is_it && self.file(&word.text) == Some(path) {
                    names.insert(self.name(&word.text));
                }
                before = &word.text;
            }
        }
        for line in self.lists.values().flatten() {
            if self.file(&line.file) == Some(path) {
                names.insert(self.name(&line.file));
            }
        }
        match (names.pop_first(), names.is_empty()) {
            (Some(name), true) => Ok(name),
            _ => Err(format!("{} is written in several ways", told(path))),
        }
    }

    /// Where one of these certificates shares a name with another one of its `bind` line, their order
    /// counts, and at run time it becomes another one.
    pub fn refuse_shared_names(&self, touched: &[&Path]) -> Result<(), String> {
        let named = |path: &Path| {
            let mut members = self.binds.iter().flat_map(|bind| &bind.members);
            self.direct.contains(path) || members.any(|(member, _)| *member == path)
        };
        if let Some(path) = touched.iter().find(|path| !named(path)) {
            return Err(format!(
                "no line of the set's configuration leads to {}",
                told(path)
            ));
        }
        let mut known: BTreeMap<&Path, (Vec<String>, Kind)> = BTreeMap::new();
        for bind in &self.binds {
            let is_touched = |path: &Path| touched.contains(&path);
            if !bind.members.iter().any(|(path, _)| is_touched(path)) {
                continue;
            }
            let files: BTreeSet<&Path> = bind.members.iter().map(|(path, _)| *path).collect();
            if let Some(other) = &bind.unknown {
                return Err(format!(
                    "the names of the certificate {other} are not known"
                ));
            }
            if files.len() == 1 {
                continue;
            }
            let mut holders: BTreeMap<String, Vec<(&Path, Kind)>> = BTreeMap::new();
            for (path, filters) in &bind.members {
                if !known.contains_key(path) {
                    let text = find(self.files, path).map_or("", |file| file.text.as_str());
                    let leaf = pem::read(text).map_err(|why| format!("{} {why}", told(path)))?;
                    known.insert(path, (leaf.names, leaf.kind));
                }
                let Some((own, kind)) = known.get(path) else {
                    continue;
                };
                // A name that is taken out counts as well: then it is not certain which one has it.
                let given = |name: &String| name.trim_start_matches('!').to_ascii_lowercase();
                let names = match filters.is_empty() {
                    true => own.clone(),
                    false => filters.iter().map(given).collect(),
                };
                for name in names {
                    holders.entry(name).or_default().push((path, *kind));
                }
            }
            for (name, holders) in &holders {
                for (path, kind) in holders.iter().filter(|(path, _)| is_touched(path)) {
                    let meets = |(other, of): &&(&Path, Kind)| other != path && of.meets(*kind);
                    if let Some((other, _)) = holders.iter().find(meets) {
                        return Err(format!(
                            "the certificates {} and {} are both for {name}, so that their order counts",
                            path.display(),
                            other.display()
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a path as HAProxy reads it can be this file.
fn is_at(written: &str, destination: &Path) -> bool {
    match written.starts_with('/') {
        true => destination == Path::new(written),
        false => destination.ends_with(written),
    }
}
