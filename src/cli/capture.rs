//! `gatewright capture`: what the templates read from live Consul, as a catalog file.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::apply::files;
use crate::catalog::fixture::Fixture;
use crate::diagnostic::{Diagnostic, Place};
use crate::exit;
use crate::settings::environment;

use super::flags::{SettingsFlag, SourceFlags};
use super::gather::{Catalog, gather};
use super::{Failure, run, wiring};

/// Record from live Consul what the templates read, as a fixture
///
/// The file holds exactly the answers that a rendering used, in a stable order, values of keys
/// included; it is written so that only its owner can read it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright capture -c gatewright.toml -o fixtures/today.json
  gatewright capture -t haproxy.cfg.hbs | less")]
pub struct Capture {
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
    /// The file to write [default: the screen]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long one question to Consul may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

impl Capture {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let environment = environment::read();
        let settings = self.settings.load(&environment, |settings| {
            self.source.apply(settings, &environment)
        })?;
        let (mut set, _) = wiring::load_templates(&settings, &environment)
            .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?;
        let catalog = Catalog::Live(
            wiring::consul(&settings)?,
            Duration::from_secs(self.timeout.max(1)),
        );
        let rounds = settings.catalog.max_discovery_rounds;
        let gathered = run::block_on(gather(&mut set, &catalog, rounds))??;
        let mut fixture = Fixture::default();
        for (query, (known, _)) in &gathered.answers {
            fixture.record(query, &known.answer);
        }
        let mut text = serde_json::to_string_pretty(&fixture).unwrap_or_default();
        text.push('\n');
        match &self.output {
            None => {
                let _ = anstream::stdout().lock().write_all(text.as_bytes());
            }
            Some(path) => {
                let access = files::Access {
                    mode: 0o600,
                    owner: None,
                };
                files::replace(path, text.as_bytes(), access).map_err(|error| {
                    Failure::one(
                        exit::FAILURE,
                        Diagnostic::error("unwritable", error.to_string()).at(Place::file(path)),
                    )
                })?;
            }
        }
        Ok(exit::OK)
    }
}
