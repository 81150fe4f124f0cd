//! `gatewright render`: the templates once, to the screen, a file, or as a difference.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use crate::apply::set::{Candidate, REVISION_VARIABLE};
use crate::diagnostic::{Diagnostic, Place};
use crate::exit;
use crate::settings::{Settings, environment};
use crate::text;

mod explain;
mod plan;
mod trace;

use super::failure::print_diagnostics;
use super::flags::{SettingsFlag, SourceFlags};
use super::gather::{Catalog, Gathered, gather, read_fixture};
use super::{Failure, rights, run, wiring};

/// Render the templates once, to the screen or a file
///
/// Nothing is told to HAProxy or changed, but the file named by --output. With several
/// templates, each is headed by the name of its destination.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright render --service web
  gatewright render -c gatewright.toml --diff
  gatewright render -t haproxy.cfg.hbs --catalog fixtures/three.json
  gatewright render -c gatewright.toml --explain
  gatewright render -c gatewright.toml --trace 42
  gatewright render -c gatewright.toml --plan

--plan compares with the live files and asks the running worker. It knows nothing of what a running sidecar
holds back (see `gatewright status`).

More: `gatewright help templates`, `gatewright help changes`, `gatewright help troubleshooting`")]
pub struct Render {
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
    /// Answer from a catalog file instead of Consul
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Write the result to a file (of the first template)
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["diff", "explain"])]
    output: Option<PathBuf>,
    /// Show how the result differs from the destinations, or from a file; exit code 9 when it does
    #[arg(long, value_name = "FILE")]
    diff: Option<Option<PathBuf>>,
    /// List each query, the size and age of its answer, and the lines that came of it
    #[arg(long)]
    explain: bool,
    /// Tell the whole story of one line of the result: which part of the template and which instance made it; of
    /// several files LINE is FILE:LINE
    #[arg(long, value_name = "LINE", conflicts_with_all = ["diff", "explain", "output"])]
    trace: Option<String>,
    /// Tell what would be done to the running HAProxy, and why, without doing it
    #[arg(long, conflicts_with_all = ["diff", "explain", "output", "trace"])]
    plan: bool,
    /// How long one query to Consul may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

impl Render {
    /// Runs the command.
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings
            .find_and_say(!self.source.say_what_to_render())?;
        let environment = environment::read();
        let settings = self.settings.load(&environment, |settings| {
            self.source.apply(settings, &environment);
            rights::drop_rights(settings);
        })?;
        wiring::says_what_to_render(&settings)?;
        let (mut set, warnings) = wiring::load_templates(&settings, &environment)
            .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?;
        print_diagnostics(&warnings);
        let catalog = match &self.catalog {
            Some(path) => Catalog::Fixture(Box::new(read_fixture(path)?), path.clone()),
            None => Catalog::Live(
                wiring::source(&settings)?,
                Duration::from_secs(self.timeout.max(1)),
            ),
        };
        let rounds = settings.catalog.max_discovery_rounds;
        // The sidecar goes on from its last good files, and so do the slots here.
        let files: Vec<String> = settings
            .template
            .iter()
            .filter_map(|template| text::read(&template.destination, text::OWN).ok())
            .collect();
        set.remember_slots(files.iter().map(String::as_str));
        let gathered = run::block_on(gather(&mut set, &catalog, rounds))??;
        let quarantined: Vec<Diagnostic> = gathered
            .rendering
            .quarantined
            .iter()
            .map(|one| Diagnostic::warning("quarantined", one.to_string()))
            .collect();
        print_diagnostics(&quarantined);
        let noted: Vec<Diagnostic> = gathered
            .rendering
            .noted
            .iter()
            .map(|one| Diagnostic::warning(one.code, &one.text))
            .collect();
        print_diagnostics(&noted);
        let crowded: Vec<Diagnostic> = gathered
            .rendering
            .crowded
            .iter()
            .map(|one| Diagnostic::warning("slots", one.to_string()))
            .collect();
        print_diagnostics(&crowded);
        let candidate = wiring::set_of(&settings, &gathered.rendering);
        if self.explain {
            write(&explain::explain(&mut set, &gathered, &candidate));
            return Ok(exit::OK);
        }
        if let Some(line) = &self.trace {
            write(&trace::trace(&mut set, &gathered, &candidate, line)?);
            return Ok(exit::OK);
        }
        if self.plan {
            let maps = set.source_maps(&gathered.rendering.files);
            return plan::plan(&settings, &environment, &candidate, &maps);
        }
        if let Some(against) = &self.diff {
            return differ(&candidate, &gathered.rendering.files, against.as_deref());
        }
        match &self.output {
            None => {
                write(&texts(&candidate, &gathered.rendering.files));
                Ok(exit::OK)
            }
            Some(path) => save(path, &settings, &gathered),
        }
    }
}

fn write(text: &str) {
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
}

/// The rendered texts without the marker; several are headed by their names.
fn texts(candidate: &Candidate, files: &[String]) -> String {
    if let [only] = files {
        return only.clone();
    }
    let mut text = String::new();
    for (file, content) in candidate.files.iter().zip(files) {
        text.push_str(&format!(
            "==> {} <==\n{content}",
            file.destination.display()
        ));
        if !content.ends_with('\n') {
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn save(path: &std::path::Path, settings: &Settings, gathered: &Gathered) -> Result<u8, Failure> {
    let text = gathered.rendering.files.first().map_or("", String::as_str);
    if settings.template.len() > 1 {
        print_diagnostics(&[Diagnostic::warning(
            "first-only",
            "There are several templates; --output gets the result of the first.",
        )]);
    }
    let access = crate::apply::files::Access::of(path)
        .ok()
        .flatten()
        .unwrap_or(crate::apply::files::Access {
            mode: 0o644,
            owner: None,
        });
    crate::apply::files::replace(path, text.as_bytes(), access).map_err(|error| {
        Failure::one(
            exit::FAILURE,
            Diagnostic::error("unwritable", error.to_string()).at(Place::file(path)),
        )
    })?;
    Ok(exit::OK)
}

/// The differences from the destinations, whose files hold the marker, or from a file as `--output`
/// writes it.
fn differ(
    candidate: &Candidate,
    files: &[String],
    against: Option<&std::path::Path>,
) -> Result<u8, Failure> {
    let mut text = String::new();
    for (index, file) in candidate.files.iter().enumerate() {
        let (path, new) = match (index, against) {
            (_, None) => (file.destination.as_path(), &file.text),
            (0, Some(against)) => (against, &files[0]),
            _ => continue,
        };
        let old = match text::read(path, text::OWN) {
            Ok(old) => old,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Failure::one(
                    exit::FAILURE,
                    Diagnostic::error("unreadable", format!("The file cannot be read: {error}."))
                        .at(Place::file(path)),
                ));
            }
        };
        // A copy of a live file holds the marker of its revision, a file written here does not.
        let new = match old.contains(REVISION_VARIABLE) {
            true => &file.text,
            false => new,
        };
        text.push_str(&difference(&path.display().to_string(), &old, new));
    }
    write(&text);
    Ok(if text.is_empty() {
        exit::OK
    } else {
        exit::DIFFERENT
    })
}

/// A unified difference, red and green on a terminal.
fn difference(name: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let bold = anstyle::Style::new().bold();
    let red = anstyle::AnsiColor::Red.on_default();
    let green = anstyle::AnsiColor::Green.on_default();
    let cyan = anstyle::AnsiColor::Cyan.on_default();
    let mut text = String::new();
    for (index, hunk) in diff
        .unified_diff()
        .context_radius(3)
        .iter_hunks()
        .enumerate()
    {
        if index == 0 {
            text.push_str(&format!(
                "{bold}--- {name}{bold:#}\n{bold}+++ {name} (rendered){bold:#}\n"
            ));
        }
        text.push_str(&format!("{cyan}{}{cyan:#}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            let line = match change.tag() {
                ChangeTag::Delete => format!("{red}-{line}{red:#}\n"),
                ChangeTag::Insert => format!("{green}+{line}{green:#}\n"),
                ChangeTag::Equal => format!(" {line}\n"),
            };
            text.push_str(&line);
        }
    }
    text
}
