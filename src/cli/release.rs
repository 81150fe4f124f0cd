//! `gatewright release`: an operator's consent to a loss that the guard holds.

use std::io::Write;
use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, nearest};
use crate::exit;
use crate::settings::environment;
use crate::status::model::Hold;
use crate::status::socket;

use super::Failure;
use super::flags::SettingsFlag;

/// Let go what the guard holds of services whose instances vanished in mass
///
/// Tells a running sidecar over its status socket that the instances of these services are meant to
/// be gone. `gatewright status` shows what is held. With --all everything is let go, also a set that
/// is refused because it has lost servers since the last good configuration. The exit code is 0 when
/// everything named was let go, 1 when nothing of a name is held, and 10 when no sidecar answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright release web -c /etc/gatewright/gatewright.toml
  gatewright release --all --socket /run/gatewright/status.sock")]
pub struct Release {
    /// The services
    #[arg(
        value_name = "SERVICE",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    services: Vec<String>,
    /// Everything that is held
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    settings: SettingsFlag,
    /// The status socket, when no settings file names it
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Release {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let environment = environment::read();
        let path = match &self.socket {
            Some(path) => path.clone(),
            None => self
                .settings
                .load(&environment, |_| {})?
                .status_socket(&environment),
        };
        let services = (!self.all).then_some(self.services.as_slice());
        let answer = super::run::block_on(socket::release(&path, services))?
            .map_err(|error| super::status::not_running(&path, &error))?;
        let mut lines: Vec<String> = answer
            .released
            .iter()
            .map(|name| format!("Released: {name}."))
            .collect();
        if lines.is_empty() && self.all {
            lines.push("Nothing is held.".to_owned());
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let _ = anstream::stdout().lock().write_all(text.as_bytes());
        let missing: Vec<&String> = self
            .services
            .iter()
            .filter(|name| !answer.released.contains(name))
            .collect();
        match missing.is_empty() {
            true => Ok(exit::OK),
            false => Err(Failure::new(
                exit::FAILURE,
                missing
                    .into_iter()
                    .map(|name| not_held(name, &answer.holds))
                    .collect(),
            )),
        }
    }
}

fn not_held(name: &str, holds: &[Hold]) -> Diagnostic {
    let held: Vec<&str> = holds
        .iter()
        .map(|hold| hold.service.as_deref().unwrap_or(&hold.query))
        .collect();
    let message = format!("Nothing of {name} is held.");
    Diagnostic::error("not-held", message).help(match nearest(name, held.iter().copied()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None if held.is_empty() => "Nothing else is held either.".to_owned(),
        None => format!("Held are: {}.", held.join(", ")),
    })
}
