//! From consul-template: a Go template becomes one in Handlebars that writes the same.
//!
//! The template is read as Go reads it (`lexer`, `parser`), what surrounds each tag is judged
//! (`space`), and the tree is written anew (`convert`, `scope`, `functions`). Pure: text goes in,
//! text and what to tell a person come out.

mod convert;
mod format;
mod functions;
mod known;
mod lexer;
mod literal;
mod named;
mod notes;
mod parser;
mod pieces;
mod pipeline;
mod scope;
mod short;
mod space;
mod tree;
mod value;

use std::ops::Range;
use std::path::Path;

use crate::diagnostic::{Diagnostic, Place};
use crate::template::{Grammar, Options, Source, TemplateSet};

pub use lexer::Delimiters;

/// What is wrong with a Go template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    at: Range<usize>,
    message: String,
    help: String,
}

/// A template as it was converted.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// The template in Handlebars.
    pub text: String,
    /// How many tags were converted.
    pub converted: usize,
    /// What stays as it was, each with its place, the reason and what to write instead.
    pub left: Vec<Diagnostic>,
    /// Whether what is written may differ from consul-template's by empty lines.
    pub loses_lines: bool,
    /// Sentences about places that are converted and should be known, by line.
    pub notes: Vec<(usize, String)>,
    /// Environment variables that templates.environment must name.
    pub environment: Vec<String>,
    /// Whether files are read, which templates.files must allow.
    pub files: bool,
}

/// Converts a template, the text of `path`. With `exact`, what is written is the same to the byte, also
/// in its empty lines. A diagnostic when Go would not take the template.
pub fn migrate(
    path: &Path,
    source: &str,
    delimiters: &Delimiters,
    exact: bool,
) -> Result<Migration, Box<Diagnostic>> {
    let nodes = parser::parse(source, delimiters).map_err(|fault| {
        let place = Place::bytes(path, source, fault.at);
        Box::new(
            Diagnostic::error("go-template", fault.message)
                .at(place)
                .help(fault.help),
        )
    })?;
    let styles = space::styles(source, &nodes, exact);
    let names = scope::Names::of(&nodes);
    let parts = named::Parts::of(source, &nodes);
    let mut converter = convert::Converter {
        source,
        styles: &styles,
        names: &names,
        parts: &parts,
        scope: scope::Scope::default(),
        out: pieces::Pieces::default(),
        moved: pieces::Pieces::default(),
        lets: Vec::new(),
        depth: 0,
        left: Vec::new(),
        notes: notes::Notes::default(),
        converted: 0,
        exact,
    };
    converter.all(&nodes);
    let left = converter.left.iter().map(|one| {
        Diagnostic::warning("not-converted", one.trouble.why.as_str())
            .at(Place::bytes(path, source, one.range.clone()))
            .help(one.trouble.instead.as_str())
    });
    let left = left.collect();
    let mut pieces = converter.moved;
    pieces.append(converter.out);
    Ok(Migration {
        text: pieces.write(),
        converted: converter.converted,
        left,
        loses_lines: styles.lost() > 0,
        notes: converter.notes.lines,
        environment: converter.notes.environment.into_iter().collect(),
        files: converter.notes.files,
    })
}

/// What the loader has against a converted template. Anything at all is a fault of the conversion.
pub fn proof(path: &Path, text: &str) -> Vec<Diagnostic> {
    let template = Source {
        name: path.display().to_string(),
        path: path.to_owned(),
        text: text.to_owned(),
        grammar: Grammar::Haproxy,
    };
    let options = Options {
        raw: true,
        ..Options::default()
    };
    match TemplateSet::load(vec![template], Vec::new(), options) {
        Ok(_) => Vec::new(),
        Err(wrong) => wrong,
    }
}

#[cfg(test)]
mod tests;
