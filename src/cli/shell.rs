//! `gatewright completions` and `gatewright man`: for shells and for readers of manuals.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::diagnostic::{Diagnostic, Place};
use crate::exit;

use super::{Cli, Failure};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright completions bash > /etc/bash_completion.d/gatewright
  gatewright completions zsh > \"${fpath[1]}/_gatewright\"
  gatewright completions fish > ~/.config/fish/completions/gatewright.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "gatewright", &mut text);
        let _ = anstream::stdout().lock().write_all(&text);
        Ok(exit::OK)
    }
}

/// Print a manual page, or write all of them into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright man | man -l -
  gatewright man check | man -l -
  gatewright man --dir /usr/local/share/man/man1")]
pub struct Man {
    /// The page of a command [default: that of the program]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write every page into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

impl Man {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let mut cli = Cli::command();
        cli.build();
        if let Some(folder) = &self.dir {
            write_all(&cli, folder).map_err(|error| {
                Failure::one(
                    exit::FAILURE,
                    Diagnostic::error(
                        "unwritable",
                        format!("The page cannot be written: {error}."),
                    )
                    .at(Place::file(folder)),
                )
            })?;
            return Ok(exit::OK);
        }
        let command = match &self.command {
            None => &cli,
            Some(name) => cli.find_subcommand(name).ok_or_else(|| {
                Failure::one(
                    exit::USAGE,
                    Diagnostic::error("topic", format!("There is no command `{name}`."))
                        .help("`gatewright --help` lists them."),
                )
            })?,
        };
        let _ = anstream::stdout().lock().write_all(&page(command));
        Ok(exit::OK)
    }
}

/// `gatewright.1` and `gatewright-check.1` and so on.
fn write_all(cli: &clap::Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("gatewright.1"), page(cli))?;
    for command in cli.get_subcommands() {
        let name = format!("gatewright-{}.1", command.get_name());
        std::fs::write(folder.join(name), page(command))?;
    }
    Ok(())
}

fn page(command: &clap::Command) -> Vec<u8> {
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = clap_mangen::Man::new(command.clone()).render(&mut text);
    text
}
