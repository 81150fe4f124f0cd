//! A report for people: what is wrong once, with the catalogs it is wrong with, then a line for each set.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use super::super::failure::print_diagnostics;
use crate::diagnostic::report::{Case, Report, counted};
use crate::diagnostic::{Diagnostic, Severity};
use crate::exit;

/// Writes a report: diagnostics on the standard error, the rest on the standard output.
pub fn text(report: &Report) {
    let found = report.found();
    let told: Vec<Diagnostic> = found.iter().map(|one| one.told(report)).collect();
    print_diagnostics(&told);
    let mut out = anstream::stdout().lock();
    for line in lines(report) {
        // A reader that has gone, such as `head`, wants no more.
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

/// A line for each set of templates, and the sum.
fn lines(report: &Report) -> Vec<String> {
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
        let title = cases[0].title();
        let refused: Vec<&&Case> = cases.iter().filter(|case| case.code != exit::OK).collect();
        if refused.is_empty() {
            lines.push(format!("{green}good   {green:#} {title} {}", all(cases)));
            continue;
        }
        refused_sets += 1;
        let names = match refused.len() == cases.len() {
            true => all(cases),
            false => {
                let names: Vec<String> = refused
                    .iter()
                    .map(|case| format!("with {}", case.with()))
                    .collect();
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
    let count = |severity| report.count(severity);
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
        [only] => Some(only.with().to_owned()),
        several => Some(format!("{} catalogs", several.len())),
    };
    let made = match (made, cases) {
        (0, _) => None,
        (1, [only]) => Some(only.with().to_owned()),
        (made, _) => Some(format!("{made} made ones")),
    };
    let parts: Vec<String> = files.into_iter().chain(made).collect();
    format!("with {}", parts.join(" and "))
}
