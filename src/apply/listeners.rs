//! Listeners of the last good set that a new set does not have, and how a set keeps them until an
//! operator releases them. Pure: texts in, texts out.
//!
//! A section that is kept stands at the end of its configuration file, with the text that it has in the
//! last good set but for addresses that are removed, behind a copy of the `defaults` that applied to it
//! there. The text depends on nothing else, so a set that is rendered again, also by another process, is
//! the same set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::gate::is_covered;
use super::plan::configuration;
use super::set::{Candidate, Role, SetFile, without_marker};
use crate::haproxy::config::{Bind, Config, Endpoint, Section, is_section_keyword};

mod doubt;
mod text;

use self::doubt::{
    chosen, has_own_defaults, lines_to_lose, of_section, others_begin_with_defaults, overlap,
    same_name, section_of, standing, stands_alone,
};
use self::text::{Kept, Texts};

/// How the comment before a section begins that is kept for a listener.
const KEPT: &str = "# Kept by Gatewright since ";
/// The comment before a backend that such a section chooses.
const KEPT_FOR_IT: &str = "# Kept by Gatewright for a listener that waits.";

/// A listener of the last good set that a set does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// HAProxy may load the files in another order than the settings have.
    #[error("the `defaults` of its {kind} `{name}` may stand in another configuration file")]
    DefaultsElsewhere {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The file that has the section is not of the set any more.
    #[error("the settings no longer name the configuration file of its {kind} `{name}`")]
    FileGone {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A copy of `defaults` at the end of one file would reach into another.
    #[error(
        "the first sections of {} take their `defaults` from another configuration file",
        file.display()
    )]
    OpenFile {
        /// That file.
        file: PathBuf,
    },
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
    /// A line of the section has another listener, which is removed.
    #[error("a `bind` line of its {kind} `{name}` also has {endpoint}, which is removed")]
    Partly {
        /// The section's kind.
        kind: String,
        /// Its name.
        name: String,
        /// The address that goes.
        endpoint: Endpoint,
    },
    /// The set with the section still does not listen there.
    #[error("a copy of its section would not listen there")]
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
    let (config, good_config) = (configuration(&new), configuration(good));
    let (binds, good_binds) = (config.binds(), good_config.binds());
    let missing = lost(&binds, &good_binds);
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
                    without: lines_to_lose(&good_binds, section, &missing, wanted)?,
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
                    without: BTreeSet::new(),
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
        let own = of_section(&good_binds, section).filter(|bind| !one.without.contains(&bind.line));
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
    let several = |config: &Config| config.files.len() > 1;
    let mut groups: BTreeMap<(usize, String), String> = BTreeMap::new();
    for one in &kept {
        let section = one.section;
        if several(&good_config) {
            has_own_defaults(&good_config, section)?;
        }
        let place = place_of(&config, good_config.path(section.file)).ok_or_else(|| {
            let (kind, name) = key(section);
            CannotKeep::FileGone { kind, name }
        })?;
        let defaults = good_texts.defaults(&good_config, section);
        if several(&config) && !defaults.is_empty() {
            others_begin_with_defaults(&config, place)?;
        }
        let successor = replaced.iter().find(|new| key(new) == key(section));
        let servers = successor.map(|section| texts.servers(section));
        let text = groups.entry((place, defaults)).or_default();
        one.write(&good_texts, servers, text);
    }
    let mut files = texts.without(&config, &replaced);
    let of_role = files.iter_mut().filter(|file| file.role == Role::Config);
    for (place, file) in of_role.enumerate() {
        let here = groups.iter().filter(|((at, _), _)| *at == place);
        for ((_, defaults), sections) in here {
            if !file.text.is_empty() && !file.text.ends_with('\n') {
                file.text.push('\n');
            }
            file.text.push_str(defaults);
            file.text.push_str(sections);
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

/// The configuration file of a set to which a section of this file belongs: the only one, or the one of the same
/// path.
fn place_of(config: &Config, path: &Path) -> Option<usize> {
    match config.files.len() {
        1 => Some(0),
        count => (0..count).find(|file| config.path(*file) == path),
    }
}

fn key(section: &Section) -> (String, String) {
    (section.kind.clone(), section.name.clone())
}

/// An address as a word for a shell.
pub fn in_shell(address: &str) -> String {
    format!("'{}'", address.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
