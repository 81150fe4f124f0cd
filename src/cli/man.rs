//! `gatewright man`: the help of each command as a page for readers of manuals.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::diagnostic::{Diagnostic, Place};
use crate::exit;

use super::{Cli, Failure};

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
        let _ = anstream::stdout()
            .lock()
            .write_all(page(command).as_bytes());
        Ok(exit::OK)
    }
}

/// The name of the program, and of its page.
const PROGRAM: &str = "gatewright";

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

/// The page of a command.
fn page(command: &clap::Command) -> String {
    let mut page = Vec::new();
    // Writing into memory does not fail.
    let _ = sections(command, &mut page);
    let mut text = String::from_utf8_lossy(&page).into_owned();
    let help = command.get_after_long_help().or(command.get_after_help());
    text.push_str(&after(&help.map(ToString::to_string).unwrap_or_default()));
    if command.get_name() != PROGRAM {
        text.push_str(".SH \"SEE ALSO\"\n.BR gatewright (1)\n");
    }
    text
}

fn sections(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    // Not its own title line, which leaves an empty date out, and so takes the version for the date.
    writeln!(
        page,
        ".TH {} 1 \"\" \"gatewright {}\" Gatewright",
        command.get_display_name().unwrap_or(PROGRAM),
        env!("CARGO_PKG_VERSION")
    )?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    Ok(())
}

/// What follows the help, with a section for each paragraph that is headed by a line with a colon. Its lines stay
/// as they are: examples that are filled could not be copied, nor tables read.
fn after(help: &str) -> String {
    let mut text = String::new();
    for paragraph in help.split("\n\n") {
        let first = paragraph.lines().next().unwrap_or_default();
        if first.is_empty() {
            continue;
        }
        let heading = first.strip_suffix(':').filter(|_| !first.starts_with(' '));
        match heading {
            Some(heading) => text.push_str(&format!(".SH \"{}\"\n", heading.to_uppercase())),
            None if first.starts_with(' ') => text.push_str(".PP\n"),
            None => text.push_str(".SH NOTES\n"),
        }
        let as_it_is = heading.is_some() || first.starts_with(' ');
        if as_it_is {
            text.push_str(".nf\n");
        }
        let skipped = usize::from(heading.is_some());
        for line in paragraph.lines().skip(skipped) {
            text.push_str(&plain_line(line));
            text.push('\n');
        }
        if as_it_is {
            text.push_str(".fi\n");
        }
    }
    text
}

/// A line as it stands: nothing in it is an order to the formatter, and quotes and hyphens can be copied.
fn plain_line(line: &str) -> String {
    let mut text = String::with_capacity(line.len() + 8);
    if line.starts_with(['.', '\'']) {
        text.push_str("\\&");
    }
    for letter in line.chars() {
        match letter {
            '\\' => text.push_str("\\e"),
            '-' => text.push_str("\\-"),
            '\'' => text.push_str("\\(aq"),
            '`' => text.push_str("\\(ga"),
            '~' => text.push_str("\\(ti"),
            '^' => text.push_str("\\(ha"),
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_and_tables_keep_their_lines() {
        assert_eq!(
            after("Examples:\n  a --b 'c' > ~/d\n  .e \\f\n\n  more\n\nThe exit code is 0.\n"),
            ".SH \"EXAMPLES\"\n.nf\n  a \\-\\-b \\(aqc\\(aq > \\(ti/d\n  .e \\ef\n.fi\n\
             .PP\n.nf\n  more\n.fi\n.SH NOTES\nThe exit code is 0.\n"
        );
        assert_eq!(plain_line(".TH"), "\\&.TH");
        assert_eq!(after(""), "");
    }
}
