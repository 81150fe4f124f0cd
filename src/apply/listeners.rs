//! Listeners of the last good set that a new set does not have, and how a set keeps them until an
//! operator releases them. Pure: texts in, texts out.
//!
//! A section that is kept stands at the end of the last configuration file, with the text that it has
//! in the last good set, behind a copy of the `defaults` that applied to it there. The text depends on
//! nothing else, so a set that is rendered again, also by another process, is the same set.

use std::collections::{BTreeMap, BTreeSet};

use super::gate::is_covered;
use super::plan::configuration;
use super::set::{Candidate, Role, SetFile, without_marker};
use crate::haproxy::config::{
    BackendUse, Bind, Config, Endpoint, Section, Target, is_section_keyword,
};

/// How the comment before a section begins that is kept for a listener.
const KEPT: &str = "# Kept by Gatewright since ";
/// The comment before a backend that such a section chooses.
const KEPT_FOR_IT: &str = "# Kept by Gatewright for a listener that waits.";

/// A listener of the last good set that a set does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// `frontend`, `listen`, `peers` or `log-forward`.
    pub kind: String,
    /// The name of its section in the last good set.
    pub section: String,
    /// Whether only HAProxy knows if it listened.
    pub conditional: bool,
}

/// A listener that a set must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The listener.
    pub lost: &'a Lost,
    /// Since when it is kept, in seconds since 1970.
    pub since: u64,
}

/// Why a set cannot keep a listener that it does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotKeep {
    /// Defaults and names may stand in files that are not of the set.
    #[error("HAProxy also loads configuration files that Gatewright does not write")]
    OtherFiles,
    /// The last good set is not Gatewright's.
    #[error("the configuration that has it was not written by Gatewright")]
    Foreign,
    /// What the section is depends on `.if` blocks or variables.
    #[error("the {kind} `{name}` depends on `.if` blocks or variables")]
    Conditional {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Another section has the name.
    #[error("the configuration has a {new} of the name `{name}`, which is the name of its {kind}")]
    Clash {
        /// The kind of the section to keep.
        kind: String,
        /// The name of both.
        name: String,
        /// The kind of the other section.
        new: String,
    },
    /// A section of the new set listens where the section to keep does.
    #[error(
        "its {kind} `{name}` also listens on {endpoint}, and so does another section of the new configuration"
    )]
    Overlap {
        /// The kind of the section to keep.
        kind: String,
        /// Its name.
        name: String,
        /// The address.
        endpoint: Endpoint,
    },
    /// HAProxy may load them in another order, so the last of them is not known.
    #[error("the set has several configuration files")]
    SeveralFiles,
    /// HAProxy takes rules in a named `defaults` only (2.6 to 3.2), and the copy has no name.
    #[error("the `defaults` of its {kind} `{name}` has rules")]
    DefaultsWithRules {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Backends that only requests choose are not known.
    #[error("its {kind} `{name}` chooses backends by a map or an expression")]
    ChoosesByRequest {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The section has another listener, which goes.
    #[error("its {kind} `{name}` also listens on {endpoint}, which goes")]
    Partly {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
        /// The address that goes.
        endpoint: Endpoint,
    },
    /// The set with the section still does not listen there.
    #[error("its section does not stand for itself")]
    StillLost,
}

/// What a set lacks of the listeners of another one, in order.
pub fn lost(new: &[Bind], good: &[Bind]) -> Vec<Lost> {
    let mut seen = BTreeSet::new();
    let mut lost = Vec::new();
    for bind in good {
        for endpoint in &bind.endpoints {
            if is_covered(endpoint, new) || !seen.insert((endpoint, &bind.kind, &bind.section)) {
                continue;
            }
            lost.push(Lost {
                endpoint: endpoint.clone(),
                kind: bind.kind.clone(),
                section: bind.section.clone(),
                conditional: bind.conditional,
            });
        }
    }
    lost.sort();
    lost
}

/// The lines that decide where a set listens, at little cost: sets with the same lines listen at the
/// same addresses.
pub fn listening_lines(files: &[SetFile]) -> String {
    let mut lines = String::new();
    for file in files.iter().filter(|file| file.role == Role::Config) {
        for line in without_marker(&file.text).lines() {
            let line = line.trim_start();
            let word = line.split_whitespace().next().unwrap_or_default();
            let decides = is_section_keyword(word)
                || matches!(word, "bind" | "dgram-bind" | "disabled" | "enabled")
                // Quotes and variables may spell any word, and a dot begins a condition.
                || !word.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '#');
            if decides && !word.is_empty() {
                lines.push_str(line.trim_end());
                lines.push('\n');
            }
        }
        lines.push('\n');
    }
    lines
}

/// Since when the sections of these files are kept, in seconds since 1970, by kind and name.
pub fn kept_since(files: &[SetFile]) -> BTreeMap<(String, String), u64> {
    let config = configuration(files);
    let texts = Texts::of(files);
    let since = |section: &Section| {
        let before = texts.line(section.file, section.line.checked_sub(1)?)?;
        let digits = before.strip_prefix(KEPT)?.split([':', ' ']).next()?;
        digits.parse().ok()
    };
    config
        .sections
        .iter()
        .filter_map(|section| Some((key(section), since(section)?)))
        .collect()
}

/// A set with the sections of the last good set that have these listeners.
///
/// A section of the new set that has the same kind and name waits with its listener: the two cannot
/// stand in one file, and the new rules are not meant for the old address. Only its servers are the new
/// ones. A backend that a kept section chooses and the new set does not have is kept with it.
pub fn keep(
    new: &[SetFile],
    good: &[SetFile],
    wanted: &[Wanted<'_>],
) -> Result<Candidate, CannotKeep> {
    let new: Vec<SetFile> = new
        .iter()
        .map(|file| SetFile {
            text: without_marker(&file.text).to_owned(),
            ..file.clone()
        })
        .collect();
    let configurations = new.iter().filter(|file| file.role == Role::Config);
    if configurations.count() > 1 {
        return Err(CannotKeep::SeveralFiles);
    }
    let (config, good_config) = (configuration(&new), configuration(good));
    let (binds, good_binds) = (config.binds(), good_config.binds());
    let missing = lost(&binds, &good_binds);
    all_or_nothing(&missing, wanted)?;
    let mut kept: Vec<Kept<'_>> = Vec::new();
    let mut replaced: Vec<&Section> = Vec::new();
    for one in wanted {
        let section = section_of(&good_config, one.lost)?;
        match kept.iter_mut().find(|kept| kept.is(section)) {
            Some(kept) => kept.listeners.push(one),
            None => {
                replaced.extend(same_name(&config, section)?);
                kept.push(Kept {
                    section,
                    listeners: vec![one],
                });
            }
        }
    }
    let mut next = 0;
    while let Some(one) = kept.get(next) {
        for name in chosen(&good_config, one.section) {
            let backend = |section: &&Section| section.is_backend() && section.name == name;
            if config.sections.iter().any(|section| backend(&section)) {
                continue;
            }
            if let Some(section) = good_config.sections.iter().find(backend)
                && !kept.iter().any(|kept| kept.is(section))
            {
                standing(&good_config, section)?;
                replaced.extend(same_name(&config, section)?);
                kept.push(Kept {
                    section,
                    listeners: Vec::new(),
                });
            }
        }
        next += 1;
    }
    for (at, one) in kept.iter().enumerate() {
        stands_alone(&good_config, one.section)?;
        let (kind, name) = key(one.section);
        let clashes = |other: &&Kept<'_>| {
            other.section.name == name
                && (other.section.is_frontend() && one.section.is_frontend()
                    || other.section.is_backend() && one.section.is_backend()
                    || other.section.kind == kind)
        };
        if let Some(other) = kept[..at].iter().find(clashes) {
            let new = other.section.kind.clone();
            return Err(CannotKeep::Clash { kind, name, new });
        }
    }
    let stays = |bind: &&Bind| {
        let key = (bind.kind.as_str(), bind.section.as_str());
        !replaced
            .iter()
            .any(|section| (section.kind.as_str(), section.name.as_str()) == key)
    };
    for one in &kept {
        let section = one.section;
        let own = good_binds.iter().filter(|bind| {
            bind.file == section.file
                && section
                    .directives
                    .iter()
                    .any(|directive| directive.line == bind.line)
        });
        for endpoint in own.flat_map(|bind| &bind.endpoints) {
            let others = binds.iter().filter(stays).flat_map(|bind| &bind.endpoints);
            if others.into_iter().any(|other| overlap(endpoint, other)) {
                return Err(CannotKeep::Overlap {
                    kind: section.kind.clone(),
                    name: section.name.clone(),
                    endpoint: endpoint.clone(),
                });
            }
        }
    }
    kept.sort_by_key(|kept| key(kept.section));
    let (texts, good_texts) = (Texts::of(&new), Texts::of(good));
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    for one in &kept {
        let successor = replaced.iter().find(|new| key(new) == key(one.section));
        let servers = successor.map(|section| texts.servers(section));
        let text = groups
            .entry(good_texts.defaults(&good_config, one.section))
            .or_default();
        one.write(&good_texts, servers, text);
    }
    let mut files = texts.without(&config, &replaced);
    let last = files
        .iter_mut()
        .rev()
        .find(|file| file.role == Role::Config);
    if let Some(last) = last {
        if !last.text.is_empty() && !last.text.ends_with('\n') {
            last.text.push('\n');
        }
        for (defaults, sections) in &groups {
            last.text.push_str(defaults);
            last.text.push_str(sections);
        }
    }
    let binds = configuration(&files).binds();
    let covered = |one: &Wanted<'_>| is_covered(&one.lost.endpoint, &binds);
    // A section that makes way for a kept one may have listened where another of the last good set did.
    let gone = lost(&binds, &good_binds);
    match wanted.iter().all(covered) && gone.iter().all(|one| missing.contains(one)) {
        true => Ok(Candidate::new(files)),
        false => Err(CannotKeep::StillLost),
    }
}

/// A section of the last good set, and what it is kept for.
struct Kept<'a> {
    section: &'a Section,
    listeners: Vec<&'a Wanted<'a>>,
}

impl Kept<'_> {
    fn is(&self, section: &Section) -> bool {
        std::ptr::eq(self.section, section)
    }

    fn write(&self, texts: &Texts<'_>, servers: Option<Vec<&str>>, out: &mut String) {
        let section = self.section;
        out.push('\n');
        match self.listeners.iter().map(|one| one.since).min() {
            None => out.push_str(KEPT_FOR_IT),
            Some(since) => {
                let release: String = self
                    .listeners
                    .iter()
                    .map(|one| format!(" --listener {}", in_shell(&one.lost.endpoint.to_string())))
                    .collect();
                out.push_str(&format!(
                    "{KEPT}{since}: `gatewright release{release}` lets it go."
                ));
            }
        }
        out.push('\n');
        // Its defaults stand right before it.
        let header = match &section.from {
            Some(_) => Some(format!("{} {}", section.kind, section.name)),
            None => texts.line(section.file, section.line).map(str::to_owned),
        };
        out.push_str(&header.unwrap_or_default());
        out.push('\n');
        let last = section.directives.last().map(|directive| directive.line);
        let is_server = |line: usize| {
            let mut directives = section.directives.iter();
            directives.any(|directive| directive.line == line && is_server(directive.keyword()))
        };
        let body: Vec<&str> = (section.line + 1..=last.unwrap_or(section.line))
            .filter(|line| servers.is_none() || !is_server(*line))
            .filter_map(|line| texts.line(section.file, line))
            .collect();
        let told = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let length = body.iter().rposition(told).map_or(0, |at| at + 1);
        for line in body
            .into_iter()
            .take(length)
            .chain(servers.unwrap_or_default())
        {
            out.push_str(line);
            out.push('\n');
        }
    }
}

/// The lines of the configuration files of a set, by [`Section::file`].
struct Texts<'a> {
    files: &'a [SetFile],
    lines: Vec<Vec<&'a str>>,
}

impl<'a> Texts<'a> {
    fn of(files: &'a [SetFile]) -> Texts<'a> {
        let configs = files.iter().filter(|file| file.role == Role::Config);
        Texts {
            files,
            lines: configs
                .map(|file| file.text.split('\n').collect())
                .collect(),
        }
    }

    /// A line, from 1.
    fn line(&self, file: usize, line: usize) -> Option<&'a str> {
        self.lines.get(file)?.get(line.checked_sub(1)?).copied()
    }

    fn servers(&self, section: &Section) -> Vec<&'a str> {
        let servers = section
            .directives
            .iter()
            .filter(|directive| is_server(directive.keyword()));
        servers
            .filter_map(|directive| self.line(section.file, directive.line))
            .collect()
    }

    /// One `defaults` section with all that applied to a section, the farthest first. Sections that
    /// take none have none.
    fn defaults(&self, config: &Config, section: &Section) -> String {
        if !section.is_frontend() && !section.is_backend() {
            return String::new();
        }
        let mut text = "\n# Kept by Gatewright with what follows.\ndefaults\n".to_owned();
        for defaults in config.defaults_of(section).into_iter().rev() {
            for directive in &defaults.directives {
                text.push_str(self.line(defaults.file, directive.line).unwrap_or_default());
                text.push('\n');
            }
        }
        text
    }

    /// The files without these sections.
    fn without(&self, config: &Config, sections: &[&Section]) -> Vec<SetFile> {
        let mut number = 0;
        let files = self.files.iter().map(|file| {
            if file.role != Role::Config || sections.is_empty() {
                return file.clone();
            }
            let here = |section: &&Section| section.file == number;
            let removed: Vec<(usize, usize)> = sections
                .iter()
                .copied()
                .filter(here)
                .map(|section| {
                    let starts = config.sections.iter().filter(here).map(|next| next.line);
                    let end = starts.filter(|line| *line > section.line).min();
                    (section.line, end.unwrap_or(usize::MAX))
                })
                .collect();
            number += 1;
            let mut line = 0;
            let stays = |_: &&str| {
                line += 1;
                !removed
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&line))
            };
            SetFile {
                text: file.text.split_inclusive('\n').filter(stays).collect(),
                ..file.clone()
            }
        });
        files.collect()
    }
}

/// Whether two sections that listen there would share connections.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    let meet = |one: (u16, u16), other: (u16, u16)| one.0 <= other.1 && other.0 <= one.1;
    match (one, other) {
        (
            Endpoint::Inet {
                transport,
                address,
                low,
                high,
            },
            Endpoint::Inet {
                transport: other_transport,
                address: other_address,
                low: other_low,
                high: other_high,
            },
        ) => {
            // `[::]` may take IPv4, too.
            let any = address.is_unspecified() || other_address.is_unspecified();
            transport == other_transport
                && (any || address == other_address)
                && meet((*low, *high), (*other_low, *other_high))
        }
        (
            Endpoint::Host {
                name, low, high, ..
            },
            Endpoint::Host {
                name: other_name,
                low: other_low,
                high: other_high,
                ..
            },
        ) => name == other_name && meet((*low, *high), (*other_low, *other_high)),
        _ => one == other,
    }
}

fn key(section: &Section) -> (String, String) {
    (section.kind.clone(), section.name.clone())
}

fn is_server(keyword: &str) -> bool {
    matches!(keyword, "server" | "server-template")
}

/// The section that has a listener.
fn section_of<'a>(config: &'a Config, lost: &Lost) -> Result<&'a Section, CannotKeep> {
    let bind = config.binds().into_iter().find(|bind| {
        (&bind.kind, &bind.section) == (&lost.kind, &lost.section)
            && bind.endpoints.contains(&lost.endpoint)
    });
    let section = bind.and_then(|bind| {
        let before = |section: &&Section| section.file == bind.file && section.line <= bind.line;
        config
            .sections
            .iter()
            .filter(before)
            .max_by_key(|one| one.line)
    });
    let section = section.ok_or(CannotKeep::StillLost)?;
    standing(config, section)?;
    Ok(section)
}

/// Whether the text of a section and of its defaults is all that there is to it.
fn standing(config: &Config, section: &Section) -> Result<(), CannotKeep> {
    let all = std::iter::once(section).chain(config.defaults_of(section));
    let mut doubtful = all.filter(|one| {
        one.conditional || one.directives.iter().any(|directive| directive.conditional)
    });
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.:".contains(letter);
    // The header of one that names its defaults is written anew.
    let named = section.from.is_some() && !section.name.chars().all(plain);
    match doubtful.next().is_none() && !named {
        true => Ok(()),
        false => Err(CannotKeep::Conditional {
            kind: section.kind.clone(),
            name: section.name.clone(),
        }),
    }
}

/// The section of a new set that a kept one takes the place of.
fn same_name<'a>(config: &'a Config, kept: &Section) -> Result<Option<&'a Section>, CannotKeep> {
    let mut found = None;
    for section in config.sections.iter().filter(|one| one.name == kept.name) {
        let clashes = (section.is_frontend() && kept.is_frontend())
            || (section.is_backend() && kept.is_backend());
        if section.kind == kept.kind && found.is_none() {
            standing(config, section)?;
            found = Some(section);
        } else if clashes || section.kind == kept.kind {
            return Err(CannotKeep::Clash {
                kind: kept.kind.clone(),
                name: kept.name.clone(),
                new: section.kind.clone(),
            });
        }
    }
    Ok(found)
}

/// A section is kept whole, so none of its listeners may go.
fn all_or_nothing(lost: &[Lost], wanted: &[Wanted<'_>]) -> Result<(), CannotKeep> {
    let is_wanted = |one: &&Lost| wanted.iter().any(|wanted| wanted.lost == *one);
    let shares = |one: &&Lost| {
        wanted
            .iter()
            .any(|wanted| (&wanted.lost.kind, &wanted.lost.section) == (&one.kind, &one.section))
    };
    match lost.iter().find(|one| !is_wanted(one) && shares(one)) {
        None => Ok(()),
        Some(one) => Err(CannotKeep::Partly {
            kind: one.kind.clone(),
            name: one.section.clone(),
            endpoint: one.endpoint.clone(),
        }),
    }
}

/// Whether a copy of a section, behind a copy of its defaults, is the same to HAProxy.
fn stands_alone(config: &Config, section: &Section) -> Result<(), CannotKeep> {
    let (kind, name) = key(section);
    let is_rule = |word: &str| {
        word == "acl"
            || word.starts_with("http-")
            || word.starts_with("tcp-re")
            || word.starts_with("quic-")
    };
    let has_rules = |defaults: &&Section| {
        let mut lines = defaults.directives.iter();
        lines.any(|line| is_rule(line.keyword()))
    };
    if config.defaults_of(section).iter().any(has_rules) {
        return Err(CannotKeep::DefaultsWithRules { kind, name });
    }
    let by_request = |one: &BackendUse| !matches!(one.target, Target::Name(_));
    match uses(config, section).iter().any(by_request) {
        true => Err(CannotKeep::ChoosesByRequest { kind, name }),
        false => Ok(()),
    }
}

/// The backends that a section names, also by its defaults.
fn chosen(config: &Config, section: &Section) -> Vec<String> {
    let uses = uses(config, section).into_iter();
    uses.filter_map(|one| match one.target {
        Target::Name(name) => Some(name),
        _ => None,
    })
    .collect()
}

/// How a section chooses backends, also by its defaults.
fn uses(config: &Config, section: &Section) -> Vec<BackendUse> {
    let all: Vec<&Section> = std::iter::once(section)
        .chain(config.defaults_of(section))
        .collect();
    let within = |one: &BackendUse| {
        all.iter().any(|section| {
            let mut lines = section.directives.iter();
            section.file == one.file && lines.any(|line| line.line == one.line)
        })
    };
    config.backend_uses().into_iter().filter(within).collect()
}

/// An address as a word for a shell.
pub fn in_shell(address: &str) -> String {
    format!("'{}'", address.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
