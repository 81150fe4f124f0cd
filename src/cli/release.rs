//! `gatewright release`: an operator's consent to a loss that the guard holds.

use std::io::Write;
use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, nearest};
use crate::exit;
use crate::settings::environment;
use crate::status::socket;

use super::Failure;
use super::flags::SettingsFlag;

/// Release what is held: vanished instances, and listeners that wait
///
/// Tells a running sidecar over its status socket that the instances of these services, or these
/// listeners, are meant to be gone. `gatewright status` shows what is held. With --all everything is
/// released: also a set that is refused because it has lost servers since the last good configuration,
/// and a set that HAProxy has rejected, which is then loaded again.
/// The exit code is 0 when everything named was released, 1 when nothing of a name is held, and 10 when
/// no sidecar answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright release web -c /etc/gatewright/gatewright.toml
  gatewright release --listener '*:8080' -c /etc/gatewright/gatewright.toml
  gatewright release --all --socket /run/gatewright/status.sock

More: `gatewright help guard`")]
pub struct Release {
    /// The services
    #[arg(
        value_name = "SERVICE",
        required_unless_present_any = ["all", "listener", "all_listeners"],
        conflicts_with = "all"
    )]
    services: Vec<String>,
    /// A listener that waits, by its address; may be given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        conflicts_with_all = ["all", "all_listeners"]
    )]
    listener: Vec<String>,
    /// Every listener that waits
    #[arg(long, conflicts_with = "all")]
    all_listeners: bool,
    /// Everything that is held, listeners too
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
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings.find_and_say(self.socket.is_none())?;
        let environment = environment::read();
        let path = match &self.socket {
            Some(path) => path.clone(),
            None => self
                .settings
                .load(&environment, |_| {})?
                .status_socket(&environment),
        };
        let mut released: Vec<String> = Vec::new();
        let mut missing: Vec<Diagnostic> = Vec::new();
        if self.all || !self.services.is_empty() {
            let services = (!self.all).then_some(self.services.as_slice());
            let answer = super::run::block_on(socket::release(&path, services))?
                .map_err(|error| super::status::not_running(&path, &error))?;
            let holds = answer.holds.iter();
            let held: Vec<&str> = holds
                .map(|hold| hold.service.as_deref().unwrap_or(&hold.query))
                .collect();
            missing.extend(not_held(&self.services, &answer.released, &held, ""));
            released.extend(answer.released);
        }
        if self.all_listeners || !self.listener.is_empty() {
            let addresses = (!self.all_listeners).then_some(self.listener.as_slice());
            let answer = super::run::block_on(socket::release_listeners(&path, addresses))?
                .map_err(|error| super::status::not_running(&path, &error))?;
            let listeners = answer.listeners.iter();
            let held: Vec<&str> = listeners.map(|one| one.address.as_str()).collect();
            let (named, what) = (&self.listener, "the listener ");
            missing.extend(not_held(named, &answer.released, &held, what));
            released.extend(answer.released);
        }
        let mut lines: Vec<String> = released
            .iter()
            .map(|name| format!("Released: {name}."))
            .collect();
        if lines.is_empty() && missing.is_empty() {
            lines.push("Nothing is held.".to_owned());
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let _ = anstream::stdout().lock().write_all(text.as_bytes());
        match missing.is_empty() {
            true => Ok(exit::OK),
            false => Err(Failure::new(exit::FAILURE, missing)),
        }
    }
}

/// What was named and is not held.
fn not_held(
    named: &[String],
    released: &[String],
    held: &[&str],
    what: &'static str,
) -> Vec<Diagnostic> {
    let missing = named.iter().filter(|name| !released.contains(name));
    let told = missing.map(|name| {
        let message = format!("Nothing of {what}{name} is held.");
        let help = match nearest(name, held.iter().copied()) {
            Some(near) => format!("Did you mean `{near}`?"),
            None if held.is_empty() => "Nothing else is held either.".to_owned(),
            None => format!("Held are: {}.", held.join(", ")),
        };
        Diagnostic::error("not-held", message).help(help)
    });
    told.collect()
}
