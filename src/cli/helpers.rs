//! `gatewright helpers`: the template language, from the tables that run it.

use std::io::Write;

use crate::diagnostic::{Diagnostic, nearest};
use crate::exit;
use crate::template::helpers::reference::{helper_text, reference_markdown, reference_text};
use crate::template::helpers::{Group, TABLE};

use super::Failure;

/// List the helpers of the template language, each with examples and what they write
///
/// With a NAME, tells all there is of the helpers whose name holds it; without one, lists them all
/// in short. --all writes the whole reference: how templates are written, every helper, and what
/// differs from consul-template. `gatewright help escaping` says how values are escaped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright helpers
  gatewright helpers printf
  gatewright helpers --all | less
  gatewright helpers --markdown > reference.md")]
pub struct Helpers {
    /// Only helpers whose name holds this
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The whole reference
    #[arg(long, conflicts_with_all = ["name", "markdown"])]
    all: bool,
    /// The whole reference as Markdown
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

impl Helpers {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let text = match &self.name {
            _ if self.markdown => reference_markdown(),
            _ if self.all => reference_text(),
            None => list(),
            Some(name) => found(name)?,
        };
        // A reader that has gone, such as `head`, wants no more.
        let _ = anstream::stdout().lock().write_all(text.as_bytes());
        Ok(exit::OK)
    }
}

/// All helpers, two lines each.
fn list() -> String {
    let bold = anstyle::Style::new().bold();
    let dim = anstyle::Style::new().dimmed();
    let mut text = String::new();
    for group in Group::ALL {
        text.push_str(&format!("{bold}{}{bold:#}\n", group.title()));
        for entry in TABLE.iter().filter(|entry| entry.group == group) {
            text.push_str(&format!(
                "  {bold}{}{bold:#}\n      {dim}{}{dim:#}\n",
                entry.call(),
                entry.example
            ));
        }
    }
    text.push_str(
        "\n`gatewright helpers NAME` says what one does, `--all` everything there is to know.\n",
    );
    text
}

/// The helpers whose name holds this, as a whole.
fn found(name: &str) -> Result<String, Failure> {
    let wanted = name.to_lowercase();
    let texts: Vec<String> = TABLE
        .iter()
        .filter(|entry| entry.name.to_lowercase().contains(&wanted))
        .map(helper_text)
        .collect();
    if texts.is_empty() {
        let diagnostic = Diagnostic::error(
            "unknown-helper",
            format!("There is no helper whose name holds `{name}`."),
        );
        let near = nearest(name, TABLE.iter().map(|entry| entry.name));
        return Err(Failure::one(
            exit::USAGE,
            match near {
                Some(near) => diagnostic.help(format!("Did you mean `{near}`?")),
                None => diagnostic.help("`gatewright helpers` lists them all."),
            },
        ));
    }
    Ok(texts.join("\n"))
}
