//! `gatewright check`: templates against catalog files, the gate and the real `haproxy -c`.

mod cases;
mod expected;
mod lints;
mod one;
mod pool;
mod print;
mod watch;

use std::io::Write;
use std::path::PathBuf;

pub use one::by_haproxy;

use crate::diagnostic::{self, report::Report};
use crate::exit;
use crate::lint::{self, Allowed};
use crate::settings::{Settings, environment};

use super::Failure;
use super::flags::{SettingsFlag, SourceFlags};

/// Check templates against catalog files and `haproxy -c`; needs no Consul
///
/// Each set of templates is rendered from each of its catalogs and validated by the real HAProxy and by the
/// gate. Templates are those of the settings, or each .hbs file that is named or lies below a named folder.
/// Catalogs are the .json files that are named or lie right in a named folder, and those in the folder `fixtures`
/// (or `NAME.fixtures` for NAME.hbs) beside a template. Besides, catalogs are made: with nothing healthy, one
/// instance, two on one node, many, with empty metadata, and hostile values.
///
/// Where `NAME.expected` beside the catalog NAME.json holds a file named as the template without .hbs, the
/// rendered text must be that.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright check .                                 # all templates, with the catalogs beside them
  gatewright check haproxy.cfg.hbs fixtures/three.json --haproxy /usr/sbin/haproxy
  gatewright check -c gatewright.toml fixtures/ --watch
  gatewright check . --format sarif > gatewright.sarif
  gatewright check --service web fixtures/

The exit code is 0 when everything is good, 4 when a template or a catalog file is wrong, 5 when
haproxy -c or the gate refuses a configuration (or, with --strict, something is warned of), and 9
when a rendered text is not the expected one. Of several the highest counts.

More: `gatewright help ci`, `gatewright help lints`, `gatewright help codes`")]
pub struct Check {
    /// Templates (.hbs), catalog files (.json) and folders with either
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
    /// How the result is written: for people, for scripts, or for the pages of a CI service
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Let warnings fail, too
    #[arg(long)]
    strict: bool,
    /// Use no made catalogs, only files
    #[arg(long)]
    no_made: bool,
    /// Write the rendered texts as the expected ones, beside the catalogs
    #[arg(long)]
    update: bool,
    /// Check again whenever a template, partial, catalog or the settings are saved
    #[arg(long, conflicts_with_all = ["update", "format"])]
    watch: bool,
    /// Do not tell of this lint (may be repeated); `gatewright help lints` lists them
    #[arg(long, value_name = "CODE")]
    allow: Vec<String>,
    /// How many are checked at once [default: one for each processor]
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Sentences and carets
    Text,
    /// JSON; `gatewright schema check` prints its schema
    Json,
    /// Annotations of GitHub Actions
    Github,
    /// JUnit XML
    Junit,
    /// SARIF 2.1.0
    Sarif,
}

impl Format {
    fn print(self, report: &Report) {
        let text = match self {
            Format::Text => return print::text(report),
            Format::Json => diagnostic::json(report),
            Format::Github => diagnostic::github(report),
            Format::Junit => diagnostic::junit(report),
            Format::Sarif => diagnostic::sarif(report, |code| {
                lint::find(code).map(|lint| (lint.what, lint.help))
            }),
        };
        // A reader that has gone wants no more.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

impl Check {
    /// Runs the command.
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings
            .find_and_say(self.paths.is_empty() && !self.source.say_what_to_render())?;
        if self.watch {
            return watch::watch(&self);
        }
        let report = self.once()?;
        self.format.print(&report);
        Ok(report.code())
    }

    /// Checks everything once.
    fn once(&self) -> Result<Report, Failure> {
        let settings = self.load()?;
        let cases = cases::cases(&settings, &self.paths, !self.no_made)?;
        let environment = environment::read();
        let codes = settings.check.allow.iter().chain(&self.allow);
        let rules = one::Rules {
            strict: self.strict,
            update: self.update,
            allowed: Allowed::new(codes.map(String::as_str))
                .map_err(|wrong| Failure::one(exit::USAGE, wrong))?,
            version: lints::haproxy_version(&settings, &environment),
            environment,
        };
        let done = pool::run(&cases, self.jobs, |case| one::check(case, &rules));
        let (done, seen): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let mut report = Report { cases: done };
        lints::together(&mut report, &cases, &seen, &rules.allowed, self.strict);
        Ok(report)
    }

    fn load(&self) -> Result<Settings, Failure> {
        let environment = environment::read();
        self.settings.load(&environment, |settings| {
            self.source.apply(settings, &environment)
        })
    }
}
