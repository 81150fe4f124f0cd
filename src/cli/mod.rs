//! The command line: one file a command. Each returns an exit code of [`crate::exit`].

mod capture;
mod check;
mod failure;
mod flags;
mod gather;
mod help;
mod helpers;
mod log;
mod man;
mod migrate;
mod own;
mod place;
mod release;
mod render;
mod rights;
mod routes;
mod run;
mod schema;
mod shell;
mod status;
mod warnings;
mod wiring;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::diagnostic::Diagnostic;

pub use failure::Failure;

/// Keeps HAProxy's configuration equal to what Consul says is healthy, without ever making it worse.
#[derive(Debug, Parser)]
#[command(
    name = "gatewright",
    version,
    after_help = EXIT_CODES,
    after_long_help = after_help(),
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// What a command is for stands at its own type; a sentence here would hide the rest of it.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Render(render::Render),
    Check(check::Check),
    Capture(capture::Capture),
    Status(status::StatusCommand),
    Release(release::Release),
    Migrate(migrate::Migrate),
    Routes(routes::Routes),
    Helpers(helpers::Helpers),
    Help(help::Help),
    Schema(schema::Schema),
    Completions(shell::Completions),
    Man(man::Man),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked for was done      5  haproxy -c or the gate refused the configuration
  1  an input or output error           6  the catalog could not be read
  2  the command line is wrong          8  another instance holds the lock
  3  the settings are wrong             9  the compared texts differ
  4  a template or fixture is wrong    10  no sidecar answers on the status socket";

const EXAMPLES: &str = "\
Examples:
  Run HAProxy in front of the healthy instances of a service, with no settings file:
      gatewright run --service airavata-api --listen 127.0.0.1:8080

  Keep the HAProxy of this machine current, as a sidecar:
      gatewright run -c /etc/gatewright/gatewright.toml

  See what would be written, and how it differs from what is there:
      gatewright render -c gatewright.toml --diff

  Record what the templates read, and check them in CI without Consul:
      gatewright capture -c gatewright.toml -o fixtures/today.json
      gatewright check -c gatewright.toml fixtures/";

/// What `gatewright --help` and `gatewright help` end with.
fn after_help() -> String {
    let topics = help::topic_list();
    format!("{EXAMPLES}\n\nTopics of help:\n{topics}\n{EXIT_CODES}")
}

/// From here on no core dump and no other process of the same user shows what is in memory: tokens, values of keys and
/// of the environment. A program that is started from here may dump its core: the flag ends with `exec`.
fn keep_memory_private() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        let message = format!("Core dumps cannot be switched off: {error}.");
        failure::print_diagnostics(&[Diagnostic::warning("core-dumps", message)]);
    }
}

/// Closes what was open when the program was started, beside the three standard streams: a child of ours
/// would inherit it from us. Only for the very beginning, when nothing of ours is open.
pub fn close_inherited() {
    let inherited: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in inherited {
        // The one of the folder itself is gone already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// A path as seen from here, where it lies below.
pub fn near(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let below = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    let path = below.unwrap_or(path);
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

/// Reads the arguments, runs the command and returns the exit code.
pub fn main() -> u8 {
    let cli = Cli::parse();
    keep_memory_private();
    let result = match cli.command {
        Command::Run(command) => command.run(),
        Command::Render(command) => command.run(),

        Command::Check(command) => command.run(),
        Command::Capture(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Release(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Routes(command) => command.run(),
        Command::Helpers(command) => command.run(),
        Command::Help(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
