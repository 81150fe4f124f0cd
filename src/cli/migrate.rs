//! `gatewright migrate`: a template of consul-template as one of ours.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, plain};
use crate::exit;
use crate::migrate::{Delimiters, Migration, migrate, proof};
use crate::text;

use super::Failure;
use super::failure::print_diagnostics;

/// Rewrite a template of consul-template as one of Gatewright's
///
/// Reads the Go template as consul-template does and writes the same in Handlebars: pipelines turned
/// inside out, variables as {{#let}} blocks, named templates as inline partials. What it cannot convert
/// stays in its place as a comment that begins with "gatewright migrate", and is listed with the reason
/// and what to write instead. A tag that is converted and may write something else has such a comment before
/// it and is listed too. Lines that hold nothing but a block's tag vanish, where consul-template
/// leaves empty ones; everything else that is written stays the same.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright migrate haproxy.ctmpl
  gatewright migrate haproxy.ctmpl -o haproxy.cfg.hbs
  gatewright migrate haproxy.ctmpl --check
  gatewright migrate --left-delimiter '[[' --right-delimiter ']]' haproxy.ctmpl

The exit code is 0 when everything is converted, and 4 when something is left to do by hand or the
template is none that consul-template would take.")]
pub struct Migrate {
    /// The template of consul-template; - reads the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the result to a file instead of the screen
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only tell what would be left to do, and write nothing
    #[arg(long, conflicts_with = "output")]
    check: bool,
    /// Keep empty lines, too: what is written is the same to the byte
    #[arg(long)]
    exact: bool,
    /// What begins a tag
    #[arg(long, value_name = "TEXT", default_value = "{{")]
    left_delimiter: String,
    /// What ends a tag
    #[arg(long, value_name = "TEXT", default_value = "}}")]
    right_delimiter: String,
}

impl Migrate {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let (path, source) = read(&self.file)?;
        let delimiters = Delimiters {
            left: self.left_delimiter.clone(),
            right: self.right_delimiter.clone(),
        };
        if delimiters.left.is_empty() || delimiters.right.is_empty() {
            let wrong = Diagnostic::error("delimiter", "A delimiter cannot be empty.")
                .help("Leave the flag out, or give it a text such as `[[`.");
            return Err(Failure::one(exit::USAGE, wrong));
        }
        let migration = migrate(&path, &source, &delimiters, self.exact)
            .map_err(|wrong| Failure::one(exit::TEMPLATE, *wrong))?;
        if !self.check {
            self.write(&migration.text)?;
        }
        print_diagnostics(&migration.left);
        let mut error = anstream::stderr().lock();
        let _ = error.write_all(summary(&path, &migration).as_bytes());
        let target = self.output.unwrap_or_else(|| PathBuf::from("converted"));
        let wrong = proof(&target, &migration.text);
        if !wrong.is_empty() {
            let fault = Diagnostic::error(
                "migrate",
                "The converted template does not load. That is a fault of `gatewright migrate`, not of yours.",
            )
            .help("Please report it with the template; until then, mend the places below by hand.");
            let all = std::iter::once(fault).chain(wrong).collect();
            return Err(Failure::new(exit::FAILURE, all));
        }
        Ok(match migration.left.is_empty() {
            true => exit::OK,
            false => exit::TEMPLATE,
        })
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        let written = match &self.output {
            None => {
                return {
                    // A reader that has gone wants no more.
                    let _ = anstream::stdout().lock().write_all(text.as_bytes());
                    Ok(())
                };
            }
            Some(path) => std::fs::write(path, text).map_err(|error| (path, error)),
        };
        written.map_err(|(path, error)| {
            let message = format!("{} cannot be written: {error}.", path.display());
            let wrong = Diagnostic::error("unwritable", message)
                .help("Name a file in a folder that exists and may be written.");
            Failure::one(exit::FAILURE, wrong)
        })
    }
}

fn read(path: &Path) -> Result<(PathBuf, String), Failure> {
    let unread = |error: std::io::Error| {
        let message = format!("{} cannot be read: {error}.", path.display());
        let wrong = Diagnostic::error("unreadable", message)
            .help("Name the file of a Go template, or - for the standard input.");
        Failure::one(exit::FAILURE, wrong)
    };
    if path != Path::new("-") {
        return text::read(path, text::WRITTEN)
            .map(|text| (path.to_owned(), text))
            .map_err(unread);
    }
    if std::io::stdin().is_terminal() {
        let _ = writeln!(
            anstream::stderr(),
            "Reading the template from the terminal; end it with ctrl-D."
        );
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(unread)?;
    Ok((PathBuf::from("standard input"), text::without_mark(text)))
}

/// What was done and what is to be known, for the standard error.
fn summary(path: &Path, migration: &Migration) -> String {
    let tags = |count: usize| match count {
        1 => "1 tag".to_owned(),
        count => format!("{count} tags"),
    };
    let mut lines = vec![match migration.left.len() {
        0 => format!(
            "{}: {} converted, nothing left.",
            path.display(),
            tags(migration.converted)
        ),
        left => format!(
            "{}: {} converted, {left} left; look for \"gatewright migrate\" in the result.",
            path.display(),
            tags(migration.converted)
        ),
    }];
    if migration.loses_lines {
        lines.push(
            "Empty lines and blanks at the ends of lines may differ from what consul-template writes; --exact keeps them."
                .to_owned(),
        );
    }
    for (line, note) in &migration.notes {
        lines.push(format!("line {line}: {}", plain(note)));
    }
    if !migration.environment.is_empty() {
        let names: Vec<String> = migration
            .environment
            .iter()
            .map(|name| format!("\"{}\"", plain(name)))
            .collect();
        lines.push(format!(
            "Set templates.environment = [{}] in the settings.",
            names.join(", ")
        ));
    }
    if migration.files {
        lines.push(
            "Set templates.files to the folder of the files that are read, and name them below it."
                .to_owned(),
        );
    }
    lines.push(String::new());
    lines.join("\n  ").trim_end_matches(' ').to_owned()
}
