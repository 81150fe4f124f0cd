//! `gatewright capture`: what the templates read from live Consul, as a catalog file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::apply::files;
use crate::catalog::fixture::{Fixture, secrets};
use crate::diagnostic::{Diagnostic, Place};
use crate::exit;
use crate::settings::environment;

use super::failure::print_diagnostics;
use super::flags::{SettingsFlag, SourceFlags};
use super::gather::{Catalog, gather};
use super::{Failure, run, wiring};

/// Record from live Consul what the templates read, as a fixture
///
/// The file holds exactly the answers that a rendering used, in a stable order. Values of keys and metadata
/// whose name says that they are secret, such as `db/password`, are left out (`capture.secrets` in the settings has
/// the patterns), and so are values that are secrets by their form: private keys, hashes of passwords, tokens, URLs
/// with a password. The file is written so that only its owner can read it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright capture -c gatewright.toml -o fixtures/today.json
  gatewright capture -t haproxy.cfg.hbs | less

More: `gatewright help ci`")]
pub struct Capture {
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
    /// The file to write [default: the screen]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out keys and metadata like this, too; `*` stands for anything; may be repeated
    #[arg(long, value_name = "PATTERN")]
    secret: Vec<String>,
    /// Record secrets as well
    #[arg(long, conflicts_with = "secret")]
    keep_secrets: bool,
    /// How long one query to Consul may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

impl Capture {
    /// Runs the command.
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings
            .find_and_say(!self.source.say_what_to_render())?;
        let environment = environment::read();
        let settings = self.settings.load(&environment, |settings| {
            self.source.apply(settings, &environment)
        })?;
        wiring::says_what_to_render(&settings)?;
        let (mut set, _) = wiring::load_templates(&settings, &environment)
            .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?;
        let catalog = Catalog::Live(
            wiring::source(&settings)?,
            Duration::from_secs(self.timeout.max(1)),
        );
        let rounds = settings.catalog.max_discovery_rounds;
        let gathered = run::block_on(gather(&mut set, &catalog, rounds))??;
        let mut fixture = Fixture::default();
        let mut patterns = settings.capture.secrets.clone();
        patterns.extend(self.secret.iter().cloned());
        let mut left_out = BTreeSet::new();
        for (query, (known, _)) in &gathered.answers {
            let mut answer = known.answer.as_ref().clone();
            if !self.keep_secrets {
                left_out.extend(secrets::leave_out(&mut answer, &patterns));
            }
            fixture.record(query, &answer);
        }
        tell_left_out(&left_out);
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

fn tell_left_out(names: &BTreeSet<String>) {
    if names.is_empty() {
        return;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    print_diagnostics(&[Diagnostic::warning(
        "secrets-left-out",
        format!(
            "The recording holds `{}` in place of the values of {}.",
            secrets::LEFT_OUT,
            names.join(", ")
        ),
    )
    .help("Write values that may be shown into the file where a template needs others, or record them with --keep-secrets.")]);
}
