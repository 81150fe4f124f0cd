//! `gatewright help`: the help of a command, or a topic.

use std::io::Write;

use clap::CommandFactory;

use crate::diagnostic::{Diagnostic, codes, nearest};
use crate::exit;
use crate::lint;
use crate::template::helpers;

use super::{Cli, EXIT_CODES, Failure};

/// Print the help of a command or a topic: templates, codes, lints, exit-codes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright help check
  gatewright help templates   # the language of templates, with all helpers
  gatewright help codes       # what the word in brackets of an error means")]
pub struct Help {
    /// A command or a topic
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// A topic: its name, and what it prints.
type Topic = (&'static str, fn() -> String);

/// How wide lines are.
const WIDTH: usize = 100;

const TOPICS: [Topic; 4] = [
    ("templates", || helpers::reference::reference_text(WIDTH)),
    ("codes", code_list),
    ("lints", lint::reference),
    ("exit-codes", || format!("{EXIT_CODES}\n")),
];

impl Help {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let mut cli = Cli::command();
        let Some(name) = &self.name else {
            return Ok(print(&cli.render_long_help().ansi().to_string()));
        };
        if let Some((_, text)) = TOPICS.iter().find(|(topic, _)| topic == name) {
            return Ok(print(&text()));
        }
        cli.build();
        if let Some(command) = cli.find_subcommand_mut(name) {
            return Ok(print(&command.render_long_help().ansi().to_string()));
        }
        let commands: Vec<String> = cli
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        let topics = TOPICS.iter().map(|(topic, _)| *topic);
        let known: Vec<&str> = commands.iter().map(String::as_str).chain(topics).collect();
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

fn print(text: &str) -> u8 {
    // A reader that has gone, such as `head`, wants no more.
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
    exit::OK
}

/// Every code with its meaning and remedy.
fn code_list() -> String {
    let bold = anstyle::Style::new().bold();
    let mut text = String::new();
    for code in codes::CODES {
        text.push_str(&format!(
            "{bold}{}{bold:#}\n  {} {}\n",
            code.code, code.what, code.help
        ));
    }
    text
}
