//! What lints tell of a case, and of all cases together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::{run, wiring};
use super::cases::{Case, CaseCatalog};
use super::one::seen_from_here;
use crate::agent::explain::explain;
use crate::apply::set::{Candidate, Role, without_marker};
use crate::catalog::Query;
use crate::diagnostic::report::Report;
use crate::diagnostic::{Diagnostic, Severity};
use crate::exit;
use crate::haproxy::check::{Invocation, version};
use crate::haproxy::config::Config;
use crate::haproxy::runtime::Version;
use crate::lint::{self, Allowed, Comments, Recorded, Used};
use crate::settings::{Environment, Mode, Settings};
use crate::template::outline::Outlines;
use crate::template::{SourceMap, TemplateSet};

/// What was seen of a case, for what is told of all cases together.
pub struct Seen {
    outlines: Outlines,
    comments: Comments,
    used: Used,
    asked: BTreeSet<Query>,
}

/// HAProxy's version, if its program tells it.
pub fn haproxy_version(settings: &Settings, environment: &Environment) -> Option<Version> {
    let base = Invocation {
        binary: settings.haproxy.binary.clone(),
        flags: Vec::new(),
        files: Vec::new(),
        working_directory: None,
        environment: wiring::haproxy_environment(settings, environment),
    };
    let limit = Duration::from_secs(10);
    let told = run::block_on(version(&base, &base.binary, limit))
        .ok()?
        .ok()?;
    Version::parse(&told)
}

/// Adds what lints tell of a rendered set, and takes out what is allowed.
pub fn case(
    told: &mut Vec<Diagnostic>,
    settings: &Settings,
    set: &TemplateSet,
    (rendered, maps): (&Candidate, &[SourceMap]),
    asked: BTreeSet<Query>,
    (version, allowed): (Option<Version>, &Allowed),
) -> Seen {
    let outlines = set.outlines();
    let mut comments = Comments::default();
    for source in outlines.sources.iter() {
        comments.template(&source.path, &source.text);
    }
    // What carries the revision is ours.
    let configs: Vec<_> = rendered
        .files
        .iter()
        .zip(maps)
        .filter(|(file, _)| file.role == Role::Config)
        .map(|(file, map)| (&file.destination, without_marker(&file.text), map))
        .collect();
    for (path, text, map) in &configs {
        let origin = |line, column| {
            map.part(line, column).map(|part| crate::diagnostic::Place {
                column: part.place.column + column.saturating_sub(part.column),
                ..part.place
            })
        };
        comments.rendered(path, text, origin);
    }
    let texts: Vec<&str> = configs.iter().map(|(_, text, _)| *text).collect();
    let config = Config::parse_files(
        configs
            .iter()
            .map(|(path, text, _)| (path.as_path(), *text)),
    );
    let about = lint::About {
        texts: &texts,
        version,
        master: master(settings),
        complete: settings.haproxy.config_files.is_empty(),
        from_catalog: &|file, line| {
            let origin = configs.get(file).and_then(|(.., map)| map.origin(line));
            origin.is_some_and(|origin| !origin.queries.is_empty())
        },
    };
    // What HAProxy refuses, a misspelt keyword, may be just what a lint would miss.
    if !told.iter().any(|one| one.severity == Severity::Error) {
        let found = lint::configuration(&config, &about);
        told.extend(found.iter().map(|one| explain(one, rendered, maps)));
    }
    told.extend(lint::templates(&outlines));
    let mut used = Used::default();
    *told = allowed.sift(std::mem::take(told), &comments, &mut used);
    Seen {
        outlines,
        comments,
        used,
        asked,
    }
}

/// Whether HAProxy has a master, where that is certain.
fn master(settings: &Settings) -> Option<bool> {
    let hands_over = |word: &String| matches!(word.as_str(), "-sf" | "-st");
    match wiring::resolve_mode(settings) {
        Mode::Supervise | Mode::Master | Mode::Signal => Some(true),
        Mode::Command if settings.haproxy.command.iter().any(hands_over) => Some(false),
        _ => None,
    }
}

/// Adds to the report what lints tell of all cases together: to the first case of a set what its catalogs lack,
/// and to the first of all what nothing uses.
pub fn together(
    report: &mut Report,
    cases: &[Case],
    seen: &[Option<Seen>],
    allowed: &Allowed,
    strict: bool,
) {
    // Without every case nobody knows what is never used.
    let all: Option<Vec<&Seen>> = seen.iter().map(Option::as_ref).collect();
    let Some(all) = all else { return };
    let mut comments = Comments::default();
    let mut used = Used::default();
    let mut first_of_set = Vec::new();
    let mut told = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        comments.extend(all[index].comments.clone());
        used.extend(all[index].used.clone());
        let of_set = |other: &Case| Arc::ptr_eq(&other.settings, &case.settings);
        if cases[..index].iter().any(of_set) {
            continue;
        }
        first_of_set.push(&all[index].outlines);
        let recorded: Vec<Recorded<'_>> = cases
            .iter()
            .zip(&all)
            .filter(|(other, _)| of_set(other))
            .filter_map(|(other, seen)| match &other.catalog {
                CaseCatalog::File(_, Ok(fixture)) => Some(Recorded {
                    fixture,
                    used: &seen.asked,
                }),
                _ => None,
            })
            .collect();
        told.push((index, lint::across(&all[index].outlines, &recorded)));
    }
    told.push((0, lint::unused(first_of_set)));
    let mut left: Vec<(usize, Vec<Diagnostic>)> = told
        .into_iter()
        .map(|(index, one)| (index, allowed.sift(one, &comments, &mut used)))
        .collect();
    let remarks = comments.remarks(&used);
    left.push((0, allowed.sift(remarks, &comments, &mut used)));
    for (index, mut found) in left {
        let Some(case) = report.cases.get_mut(index) else {
            continue;
        };
        if strict && !found.is_empty() {
            case.code = case.code.max(exit::REFUSED);
        }
        found.iter_mut().for_each(seen_from_here);
        case.diagnostics.extend(found);
    }
}
