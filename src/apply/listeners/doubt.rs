//! Whether a section of the last good set can stand in a new set and mean the same to HAProxy there. Pure; what
//! is not certain is an error.

use std::collections::BTreeSet;

use super::{CannotKeep, Lost, Wanted, key};
use crate::haproxy::config::{BackendUse, Bind, Config, Endpoint, Section, Target};

/// The section that has a listener.
pub(super) fn section_of<'a>(config: &'a Config, lost: &Lost) -> Result<&'a Section, CannotKeep> {
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
pub(super) fn standing(config: &Config, section: &Section) -> Result<(), CannotKeep> {
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
pub(super) fn same_name<'a>(
    config: &'a Config,
    kept: &Section,
) -> Result<Option<&'a Section>, CannotKeep> {
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

/// The lines of a section whose every address is lost and not kept. A line with both kinds of address cannot be
/// kept.
pub(super) fn lines_to_lose(
    binds: &[Bind],
    section: &Section,
    lost: &[Lost],
    wanted: &[Wanted<'_>],
) -> Result<BTreeSet<usize>, CannotKeep> {
    let goes = |endpoint: &Endpoint| {
        let is = |one: &Lost| {
            one.endpoint == *endpoint && (&one.kind, &one.section) == (&section.kind, &section.name)
        };
        lost.iter().any(is) && !wanted.iter().any(|wanted| is(wanted.lost))
    };
    let mut lines = BTreeSet::new();
    for bind in of_section(binds, section) {
        let mut leaving = bind.endpoints.iter().filter(|endpoint| goes(endpoint));
        let Some(first) = leaving.next() else {
            continue;
        };
        if leaving.count() + 1 < bind.endpoints.len() {
            return Err(CannotKeep::Partly {
                kind: section.kind.clone(),
                name: section.name.clone(),
                endpoint: first.clone(),
            });
        }
        lines.insert(bind.line);
    }
    Ok(lines)
}

/// The `bind` lines of a section.
pub(super) fn of_section<'a>(
    binds: &'a [Bind],
    section: &'a Section,
) -> impl Iterator<Item = &'a Bind> {
    binds.iter().filter(|bind| {
        let mut lines = section.directives.iter();
        bind.file == section.file && lines.any(|directive| directive.line == bind.line)
    })
}

/// Whether a section takes its `defaults` from its own file, whatever the order in which HAProxy loads the files.
pub(super) fn has_own_defaults(config: &Config, section: &Section) -> Result<(), CannotKeep> {
    let defaults = config.defaults_of(section);
    let takes_some = section.is_frontend() || section.is_backend();
    let here = !defaults.is_empty() && defaults.iter().all(|one| one.file == section.file);
    match takes_some && !here {
        false => Ok(()),
        true => Err(CannotKeep::DefaultsElsewhere {
            kind: section.kind.clone(),
            name: section.name.clone(),
        }),
    }
}

/// Whether `defaults` at the end of one file change nothing in the others, whatever their order: each begins
/// with its own.
pub(super) fn others_begin_with_defaults(config: &Config, file: usize) -> Result<(), CannotKeep> {
    let mut closed = BTreeSet::from([file]);
    for section in &config.sections {
        if section.kind == "defaults" && !section.conditional {
            closed.insert(section.file);
        }
        let takes_former =
            (section.is_frontend() || section.is_backend()) && section.from.is_none();
        if takes_former && !closed.contains(&section.file) {
            return Err(CannotKeep::OpenFile {
                file: config.path(section.file).to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether a copy of a section, behind a copy of its defaults, is the same to HAProxy.
pub(super) fn stands_alone(config: &Config, section: &Section) -> Result<(), CannotKeep> {
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
pub(super) fn chosen(config: &Config, section: &Section) -> Vec<String> {
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

/// Whether two sections that listen there would share connections.
pub(super) fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
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
