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
        let topics: Vec<&str> = help::TOPICS.iter().map(|topic| topic.name).collect();
        let known = PossibleValuesParser::new(topics.iter().copied());
        let mut cli = Cli::command().mut_subcommand("help", |command| {
            command.mut_arg("name", |name| name.value_parser(known))
        });
        clap_complete::generate(self.shell, &mut cli, "gatewright", &mut text);
        if self.shell == Shell::Fish {
            // The generator for fish leaves out the values of what has no flag.
            let topics = topics.join(" ");
            let seen = "__fish_seen_subcommand_from help";
            text.extend(
                format!("complete -c gatewright -n \"{seen}\" -f -a \"{topics}\"\n").bytes(),
            );
        }
        let _ = anstream::stdout().lock().write_all(&text);
        Ok(exit::OK)
    }
}
