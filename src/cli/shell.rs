//! `gatewright completions`: for shells.

use std::io::Write;

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;

use crate::exit;

use super::{Cli, Failure, help};

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
        let topics = PossibleValuesParser::new(help::TOPICS.iter().map(|topic| topic.name));
        let mut cli = Cli::command().mut_subcommand("help", |command| {
            command.mut_arg("name", |name| name.value_parser(topics))
        });
        clap_complete::generate(self.shell, &mut cli, "gatewright", &mut text);
        let _ = anstream::stdout().lock().write_all(&text);
        Ok(exit::OK)
    }
}
