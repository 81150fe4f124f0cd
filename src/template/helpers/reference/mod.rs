//! The reference of the template language, made of the tables that run it: as text for a terminal
//! and as Markdown. Pure.

mod content;

use std::fmt::Write as _;

use super::{Entry, Example, PAIRS};
use crate::markdown::terminal;

/// The catalog that the examples are rendered from.
pub const CATALOG: &str = include_str!("../example.json");
/// What else they see.
pub const SURROUNDINGS: &str = "\
[parameters]
listen = \"127.0.0.1:8080\"
services = [\"web\", \"batch\"]

[templates]
environment = [\"REGION\", \"RACK\"]     # REGION is \"eu\", RACK is not set
files = \"files\"                       # with motd.txt: \"Welcome\"
allow_raw = true

# This machine: 10.0.0.9 at eth0 (default route), 192.168.7.9 at eth1.";

/// A piece of the reference. Texts are Markdown of the simplest kind: words, and code in backticks.
#[derive(Debug, Clone)]
pub enum Block {
    /// A heading; 1 is the title.
    Heading(u8, String),
    /// A paragraph.
    Text(String),
    /// Points of a list.
    List(Vec<String>),
    /// Lines as they are.
    Code(&'static str, String),
    /// A helper.
    Helper(&'static Entry),
    /// A table: what its columns are, and its rows.
    Table([&'static str; 3], Vec<[String; 3]>),
}

/// The whole reference.
pub fn reference() -> Vec<Block> {
    content::blocks()
}

/// The whole reference for a terminal.
pub fn reference_text() -> String {
    terminal(&reference_markdown())
}

/// The whole reference as Markdown.
pub fn reference_markdown() -> String {
    markdown(&reference())
}

/// One helper, for a terminal.
pub fn helper_text(entry: &Entry) -> String {
    terminal(&helper_markdown(entry))
}

impl Entry {
    /// Name and parameters: `trim [LETTERS:text] TEXT:text`.
    pub fn call(&self) -> String {
        let name = if self.is_block() {
            format!("#{}", self.name)
        } else {
            self.name.to_owned()
        };
        format!("{name} {}", self.signature).trim_end().to_owned()
    }

    /// The pairs it takes, by name and kind: `tag=text`.
    fn pairs_in_words(&self) -> Option<String> {
        let words: Vec<String> = self
            .pairs
            .iter()
            .map(|name| {
                let kind = PAIRS.iter().find(|(pair, ..)| pair == name);
                format!("{name}={}", kind.map_or("value", |(_, kind, _)| kind))
            })
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// Blocks as Markdown.
pub fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        if !out.is_empty() {
            out.push('\n');
        }
        // Writing into a String cannot fail.
        let _ = match block {
            Block::Heading(level, title) => {
                writeln!(out, "{} {title}", "#".repeat(usize::from(*level)))
            }
            Block::Text(words) => writeln!(out, "{words}"),
            Block::List(points) => points
                .iter()
                .try_for_each(|point| writeln!(out, "* {point}")),
            Block::Code(language, lines) => {
                writeln!(out, "```{language}\n{}\n```", lines.trim_end())
            }
            Block::Helper(entry) => write!(out, "{}", helper_markdown(entry)),
            Block::Table(heads, rows) => {
                let line = |cells: [&str; 3]| {
                    let cells = cells.map(|cell| cell.replace('|', "\\|"));
                    format!("| {} |\n", cells.join(" | "))
                };
                let rows = rows
                    .iter()
                    .map(|row| line(row.each_ref().map(String::as_str)));
                write!(
                    out,
                    "{}|---|---|---|\n{}",
                    line(*heads),
                    rows.collect::<String>()
                )
            }
        };
    }
    out
}

fn helper_markdown(entry: &Entry) -> String {
    let mut out = format!("#### `{}`\n\n{}\n", entry.call(), entry.what);
    if !entry.notes.is_empty() {
        let _ = write!(out, "\nNote: {}\n", entry.notes);
    }
    if let Some(pairs) = entry.pairs_in_words() {
        let _ = write!(out, "\nPairs: `{pairs}`\n");
    }
    for Example { template, output } in entry.examples {
        let _ = write!(
            out,
            "\n```handlebars\n{template}\n```\n```text\n{output}\n```\n"
        );
    }
    out
}

#[cfg(test)]
mod tests;
