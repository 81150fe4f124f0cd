//! `gatewright render --plan`: what would be done to the running HAProxy, and why.

use crate::agent::explain::explain;
use crate::apply::preview::{Preview, Would, preview};
use crate::apply::set::Candidate;
use crate::diagnostic::{Diagnostic, Severity};
use crate::exit;
use crate::settings::{Environment, Settings};
use crate::template::SourceMap;

use super::super::failure::print_diagnostics;
use super::super::{Failure, check, run, wiring};
use super::write;

/// More commands are counted, not shown.
const SHOWN: usize = 50;

/// Prints what would be done; the exit code says whether it would be refused.
pub fn plan(
    settings: &Settings,
    environment: &Environment,
    candidate: &Candidate,
    maps: &[SourceMap],
) -> Result<u8, Failure> {
    let options = wiring::apply_options(settings, environment);
    let preview = run::block_on(preview(&options, &wiring::rules(settings), candidate))?;
    let mut findings = preview.findings.clone();
    findings.extend(check::by_haproxy(settings, candidate)?);
    let told: Vec<Diagnostic> = findings
        .iter()
        .map(|finding| explain(finding, candidate, maps))
        .collect();
    print_diagnostics(&told);
    let refused = told.iter().any(|one| one.severity == Severity::Error);
    write(&in_words(&preview, candidate, refused));
    Ok(match refused {
        true => exit::REFUSED,
        false => exit::OK,
    })
}

fn in_words(preview: &Preview, candidate: &Candidate, refused: bool) -> String {
    let bold = anstyle::Style::new().bold();
    let mut text = format!(
        "{}\nThe set is revision {}. Changes: {}.\n{bold}",
        preview.running, candidate.revision, preview.changes
    );
    if refused {
        text.push_str(&format!(
            "Refused{bold:#}: the live files and HAProxy would stay as they are.\n"
        ));
        return text;
    }
    match &preview.would {
        Would::Nothing => {
            text.push_str(&format!(
                "Nothing{bold:#} would be done: HAProxy runs this and the files are current.\n"
            ));
        }
        Would::Start => text.push_str(&format!(
            "The files would be written{bold:#}, and HAProxy started by `gatewright run`.\n"
        )),
        Would::Write { reason } => text.push_str(&format!(
            "The files would be written{bold:#} and nobody told: {reason}.\n"
        )),
        Would::Reload { reason } => text.push_str(&format!("Reload{bold:#}, because {reason}.\n")),
        Would::Commands(commands) if commands.is_empty() => text.push_str(&format!(
            "The files would be written{bold:#}; the worker runs the same already.\n"
        )),
        Would::Commands(commands) => {
            let what = match commands.len() {
                1 => "One Runtime API command".to_owned(),
                count => format!("{count} Runtime API commands"),
            };
            text.push_str(&format!("{what}{bold:#}, without a reload:\n"));
            for command in commands.iter().take(SHOWN) {
                text.push_str(&format!("    {command}\n"));
            }
            if commands.len() > SHOWN {
                text.push_str(&format!("    … and {} more\n", commands.len() - SHOWN));
            }
        }
    }
    text
}
