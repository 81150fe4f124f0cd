//! `gatewright routes`: the route table that the tags of services make, and what is refused.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::exit;
use crate::settings::environment;
use crate::template::{Grammar, Source, TemplateSet};

use super::flags::{SettingsFlag, SourceFlags};
use super::gather::{Catalog, gather, read_fixture};
use super::{Failure, run, wiring};

/// Print the route table that the tags of services make, and what is refused
///
/// Nothing is written or told to HAProxy. Routes are listed in the order in which they are tried.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright routes
  gatewright routes --catalog fixtures/today.json --json

More: `gatewright help fabio`")]
pub struct Routes {
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
    /// Answer from a catalog file instead of Consul
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// As JSON: what the helper `routes` gives to templates
    #[arg(long)]
    json: bool,
    /// How long one query to Consul may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

impl Routes {
    /// Runs the command.
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings.find_and_say(true)?;
        let environment = environment::read();
        let settings = self.settings.load(&environment, |settings| {
            self.source.apply(settings, &environment);
        })?;
        let template = Source {
            name: "routes".to_owned(),
            path: "shipped:routes".into(),
            text: "{{toJSON (routes)}}".to_owned(),
            grammar: Grammar::Plain,
        };
        let options = wiring::template_options(&settings, &environment);
        let (mut set, _) = TemplateSet::load(vec![template], Vec::new(), options)
            .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?;
        let catalog = match &self.catalog {
            Some(path) => Catalog::Fixture(Box::new(read_fixture(path)?), path.clone()),
            None => Catalog::Live(
                wiring::source(&settings)?,
                Duration::from_secs(self.timeout.max(1)),
            ),
        };
        let rounds = settings.catalog.max_discovery_rounds;
        let gathered = run::block_on(gather(&mut set, &catalog, rounds))??;
        let text = gathered.rendering.files.first().map_or("", String::as_str);
        let table: Value = serde_json::from_str(text).map_err(|error| {
            Failure::one(
                exit::FAILURE,
                Diagnostic::error("fixture", format!("The table cannot be read: {error}.")),
            )
        })?;
        let shown = match self.json {
            true => format!("{table:#}\n"),
            false => listed(&table),
        };
        let _ = anstream::stdout().lock().write_all(shown.as_bytes());
        Ok(exit::OK)
    }
}

/// A line for each target, below its route.
fn listed(table: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bold = anstyle::Style::new().bold();
    let mut out = String::new();
    for route in list(&table["routes"]) {
        out.push_str(&format!("{bold}{}{bold:#}\n", text(&route["source"])));
        for target in list(&route["targets"]) {
            let share = target["share"].as_f64().unwrap_or_default() * 100.0;
            let state = match target["up"].as_bool() {
                Some(true) => format!("{share:.2} %"),
                _ => "not healthy".to_owned(),
            };
            let line = format!(
                "  {} {} {}:{} {state} {}",
                text(&target["service"]),
                text(&target["id"]),
                text(&target["address"]),
                target["port"],
                text(&target["options"])
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    for (items, title) in [("refused", "Left out"), ("notes", "To note")] {
        let items = list(&table[items]);
        if !items.is_empty() {
            out.push_str(&format!("{bold}{title}{bold:#}\n"));
        }
        for item in items {
            out.push_str(&format!("  {}\n", text(&item["sentence"])));
        }
    }
    out
}
