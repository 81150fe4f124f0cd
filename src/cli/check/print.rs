//! A report for people: what is wrong once, with the catalogs it is wrong with, then a line for each set.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use super::super::failure::print_diagnostics;
use crate::diagnostic::report::{Case, Report};
use crate::diagnostic::{Diagnostic, Severity};
use crate::exit;

/// Writes a report: diagnostics on the standard error, the rest on the standard output.
pub fn text(report: &Report) {
    let told = together(report);
    print_diagnostics(&told);
    let mut out = anstream::stdout().lock();
    for line in lines(report, &told) {
        // A reader that has gone, such as `head`, wants no more.
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

/// Each diagnostic once, with the cases it was found in where these are several.
fn together(report: &Report) -> Vec<Diagnostic> {
    let mut found: Vec<(Diagnostic, Vec<&Case>)> = Vec::new();
    for case in &report.cases {
        for one in &case.diagnostics {
            let alike = |(known, _): &&mut (Diagnostic, Vec<&Case>)| {
                known.code == one.code
                    && known.place == one.place
                    && known.severity == one.severity
                    && (one.place.is_some() || known.message == one.message)
            };
            match found.iter_mut().find(alike) {
                Some((_, cases)) => cases.push(case),
                None => found.push((one.clone(), vec![case])),
            }
        }
    }
    let of_set = |case: &Case| {
        let same = |other: &&Case| other.templates == case.templates;
        report.cases.iter().filter(same).count()
    };
    found
        .into_iter()
        .map(|(one, mut cases)| {
            cases.dedup_by(|a, b| std::ptr::eq(*a, *b));
            let all = of_set(cases[0]);
            match cases.as_slice() {
                [only] if all > 1 => one.note(format!("found {}", with(only))),
                [first, rest @ ..] if !rest.is_empty() && cases.len() < all => {
                    let more = match rest.len() {
                        1 => with(rest[0]),
                        count => format!("with {count} more"),
                    };
                    one.note(format!(
                        "found {} and {more} of {all} catalogs",
                        with(first)
                    ))
                }
                _ => one,
            }
        })
        .collect()
}

/// `with fixtures/three.json`.
fn with(case: &Case) -> String {
    let catalog = case.name.rsplit_once(" with ").map_or("", |(_, with)| with);
    format!("with {catalog}")
}

/// A line for each set of templates, and the sum.
fn lines(report: &Report, told: &[Diagnostic]) -> Vec<String> {
    let bold = anstyle::Style::new().bold();
    let green = anstyle::AnsiColor::Green.on_default().bold();
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let mut sets: Vec<(&[PathBuf], Vec<&Case>)> = Vec::new();
    let mut places: BTreeMap<&[PathBuf], usize> = BTreeMap::new();
    for case in &report.cases {
        let place = *places.entry(&case.templates).or_insert_with(|| {
            sets.push((&case.templates, Vec::new()));
            sets.len() - 1
        });
        sets[place].1.push(case);
    }
    let mut lines = Vec::new();
    let mut refused_sets = 0;
    for (_, cases) in &sets {
        let title = cases[0]
            .name
            .rsplit_once(" with ")
            .map_or(cases[0].name.as_str(), |(title, _)| title);
        let refused: Vec<&&Case> = cases.iter().filter(|case| case.code != exit::OK).collect();
        if refused.is_empty() {
            lines.push(format!("{green}good   {green:#} {title} {}", all(cases)));
            continue;
        }
        refused_sets += 1;
        let names = match refused.len() == cases.len() {
            true => all(cases),
            false => {
                let names: Vec<String> = refused.iter().map(|case| with(case)).collect();
                format!(
                    "{} ({} of {})",
                    names.join(", "),
                    refused.len(),
                    cases.len()
                )
            }
        };
        lines.push(format!("{red}refused{red:#} {title} {names}"));
    }
    let count = |severity| told.iter().filter(|one| one.severity == severity).count();
    lines.push(format!(
        "{bold}{} good, {refused_sets} refused.{bold:#} {} and {}.",
        sets.len() - refused_sets,
        counted(count(Severity::Error), "error"),
        counted(count(Severity::Warning), "warning"),
    ));
    lines
}

/// `with catalog.json and 4 made catalogs`.
fn all(cases: &[&Case]) -> String {
    let files: Vec<&&Case> = cases.iter().filter(|case| case.catalog.is_some()).collect();
    let made = cases.len() - files.len();
    let files = match files.as_slice() {
        [] => None,
        [only] => Some(with(only).replacen("with ", "", 1)),
        several => Some(format!("{} catalogs", several.len())),
    };
    let made = match (made, cases) {
        (0, _) => None,
        (1, [only]) => Some(with(only).replacen("with ", "", 1)),
        (made, _) => Some(format!("{made} made ones")),
    };
    let parts: Vec<String> = files.into_iter().chain(made).collect();
    format!("with {}", parts.join(" and "))
}

fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    }
}
