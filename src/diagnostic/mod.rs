//! What a person can act on: a code, a place, a sentence and a remedy. Data only; the writers of
//! text, JSON and others are beside it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::catalog::secrets::Secrets;

pub mod codes;
mod github;
mod json;
mod junit;
mod plain;
mod reader;
pub mod report;
mod sarif;
mod text;

pub use github::github;
pub use json::json;
pub use junit::junit;
pub use plain::{is_unplain, plain};
pub use reader::reworded;
pub use sarif::sarif;
pub use text::render;

/// The JSON Schema of what [`json()`] writes.
pub const CHECK_SCHEMA: &str = include_str!("check.schema.json");

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing is refused for it.
    Warning,
    /// The thing at this place is refused.
    Error,
}

/// A stretch of text in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the person named it.
    pub path: PathBuf,
    /// Line, counted from 1; 0 when only the file is known.
    pub line: usize,
    /// Column in characters, counted from 1; 0 when only the line is known.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub length: usize,
    /// The text of the line, without its end.
    pub text: String,
}

impl Place {
    /// The file as a whole.
    pub fn file(path: &Path) -> Place {
        Place {
            path: path.to_owned(),
            line: 0,
            column: 0,
            length: 1,
            text: String::new(),
        }
    }

    /// A stretch of `source`, the text of `path`. Line and column count from 1.
    pub fn at(path: &Path, source: &str, line: usize, column: usize, length: usize) -> Place {
        Place {
            path: path.to_owned(),
            line,
            column,
            length: length.max(1),
            text: line
                .checked_sub(1)
                .and_then(|line| source.lines().nth(line))
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// The same without what no message may show.
    pub fn without(mut self, secrets: &Secrets) -> Place {
        let shown = |letters: &[char]| secrets.hide(&letters.iter().collect::<String>());
        let letters: Vec<char> = self.text.chars().collect();
        let start = self.column.saturating_sub(1).min(letters.len());
        let end = (start + self.length).min(letters.len());
        let [before, meant] = [&letters[..start], &letters[start..end]].map(shown);
        self.text = secrets.hide(&self.text);
        self.column = before.chars().count() + 1;
        self.length = meant.chars().count().max(1);
        self
    }

    /// The stretch between two byte offsets of `source`, cut at the end of its first line.
    pub fn bytes(path: &Path, source: &str, range: std::ops::Range<usize>) -> Place {
        let start = floor_boundary(source, range.start);
        let end = floor_boundary(source, range.end).max(start);
        let before = &source[..start];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = source[line_start..start].chars().count() + 1;
        let stretch = source[start..end].split('\n').next().unwrap_or_default();
        Place::at(path, source, line, column, stretch.chars().count())
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// An error with what caused it, on one line. An error's own text says only its own layer.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let more = one.to_string();
        if !text.contains(&more) {
            text.push(' ');
            text.push_str(&more);
        }
        cause = one.source();
    }
    text
}

/// `path:line:column`, as compilers write it.
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.path.display())?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
            if self.column > 0 {
                write!(out, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// What of the catalog made a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// The query, as a template writes it: `service "web"`. Empty when it is not known.
    pub query: String,
    /// The item of its answer, in words: `instance a on node n1`. None when the whole answer counts.
    pub item: Option<String>,
}

/// `instance a on node n1 of service "web"`.
impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Some(item) if self.query.is_empty() => out.write_str(item),
            Some(item) => write!(out, "{item} of {}", self.query),
            None => write!(out, "the answer to {}", self.query),
        }
    }
}

/// One thing to tell a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for the kind, such as `unknown-key`.
    pub code: &'static str,
    /// A whole sentence: what is wrong.
    pub message: String,
    /// Where, if anywhere.
    pub place: Option<Place>,
    /// Where the template of the place was included, innermost first.
    pub includes: Vec<Place>,
    /// The line of the rendered file, under its destination.
    pub rendered: Option<Place>,
    /// What of the catalog made that line.
    pub causes: Vec<Cause>,
    /// More facts.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The same without what no message may show.
    pub fn without(mut self, secrets: &Secrets) -> Diagnostic {
        let rendered = self.rendered.iter_mut().map(|place| &mut place.text);
        let texts = self.notes.iter_mut().chain(&mut self.help).chain(rendered);
        texts.for_each(|text| *text = secrets.hide(text));
        self.message = secrets.hide(&self.message);
        self
    }

    /// An error without a place yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            place: None,
            includes: Vec::new(),
            rendered: None,
            causes: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// A warning without a place yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(code, message)
        }
    }

    /// The same, at a place.
    pub fn at(mut self, place: Place) -> Diagnostic {
        self.place = Some(place);
        self
    }

    /// The same, with a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The same, with one more fact.
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }
}

impl Diagnostic {
    /// All facts beside it as sentences, in the order in which a person reads them: where it was included, what was
    /// rendered, what of the catalog made it, and the rest.
    pub fn facts(&self) -> Vec<String> {
        let includes = self
            .includes
            .iter()
            .map(|place| format!("included from {}:{}", place.path.display(), place.line));
        let rendered = self.rendered.iter().map(|place| {
            format!(
                "rendered as {}:{}: {}",
                place.path.display(),
                place.line,
                place.text.trim()
            )
        });
        let causes = self.causes.iter().map(|cause| format!("made from {cause}"));
        includes
            .chain(rendered)
            .chain(causes)
            .chain(self.notes.iter().cloned())
            .collect()
    }
}

/// One line, for logs: `path:line:column: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        out.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(out, " {help}")?;
        }
        Ok(())
    }
}

/// The word nearest to `word` among `known`, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            let distance =
                strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_range_becomes_a_line_and_a_column() {
        let source = "a = 1\nbé = \"x\"\n";
        let at = source.find('"').unwrap();
        let place = Place::bytes(Path::new("f"), source, at..at + 3);
        assert_eq!((place.line, place.column, place.length), (2, 6, 3));
        assert_eq!(place.to_string(), "f:2:6");
        assert_eq!(place.text, "bé = \"x\"");
        // Past the end is the end, not a panic.
        Place::bytes(Path::new("f"), source, 900..901);
    }

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("adress", ["address", "token"]), Some("address"));
        assert_eq!(nearest("frobnicate", ["address", "token"]), None);
    }
}
