//! `gatewright help`: the help of a command, or a topic.

mod topics;

use std::io::Write;

use clap::CommandFactory;

use crate::diagnostic::{Diagnostic, nearest};
use crate::exit;
use crate::markdown::terminal;

use super::{Cli, Failure};
pub use topics::TOPICS;

/// Print the help of a command, or a page about a topic
///
/// Without NAME, lists the commands and the topics.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright help check
  gatewright help templates | less   # the language of templates, with all helpers
  gatewright help codes              # what the word in brackets of an error means")]
pub struct Help {
    /// A command or a topic
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Help {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let mut cli = Cli::command();
        let Some(name) = &self.name else {
            return Ok(print(&cli.render_long_help().ansi().to_string()));
        };
        cli.build();
        let command = cli.find_subcommand_mut(name);
        let topic = TOPICS.iter().find(|topic| topic.name == name);
        // Some commands and topics have one name.
        let command = command.map(|command| command.render_long_help().ansi().to_string());
        let page = topic.map(|topic| terminal(&topic.page()));
        if command.is_some() || page.is_some() {
            let both: Vec<String> = command.into_iter().chain(page).collect();
            return Ok(print(&both.join("\n")));
        }
        let commands = cli.get_subcommands().map(clap::Command::get_name);
        let topics = TOPICS.iter().map(|topic| topic.name);
        let known: Vec<&str> = commands.chain(topics).collect();
        let diagnostic = Diagnostic::error("topic", format!("There is no help about `{name}`."));
        Err(Failure::one(
            exit::USAGE,
            match nearest(name, known.iter().copied()) {
                Some(near) => diagnostic.help(format!("Did you mean `{near}`?")),
                None => diagnostic.help(format!("There is help about {}.", known.join(", "))),
            },
        ))
    }
}

/// The topics with a line each, for the help of the program.
pub fn topic_list() -> String {
    let line = |topic: &topics::Topic| format!("  {:<16} {}\n", topic.name, topic.about);
    TOPICS.iter().map(line).collect()
}

fn print(text: &str) -> u8 {
    // A reader that has gone, such as `head`, wants no more.
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
    exit::OK
}

#[cfg(test)]
mod tests;
