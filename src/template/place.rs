//! Places in templates: of a tag, of a name in it, of a fault that the scan found.

use std::ops::Range;

use super::Source;
use super::scan::Fault;
use crate::diagnostic::{Diagnostic, Place};

/// What is wrong with the tags, with its place.
pub fn explain(source: &Source, fault: Fault) -> Diagnostic {
    let at = |range| Place::bytes(&source.path, &source.text, range);
    match fault {
        Fault::Unended(range) => {
            Diagnostic::error("unended-tag", "`{{` begins a tag here that never ends.")
                .at(at(range))
                .help("Close it with `}}`, or write `\\{{` for the two braces themselves.")
        }
        Fault::UnendedComment(range) => {
            Diagnostic::error("unended-tag", "A comment begins here and never ends.")
                .at(at(range))
                .help("Close it with `--}}`.")
        }
        Fault::UnendedText(range) => {
            Diagnostic::error("unended-tag", "A text begins here that never ends.")
                .at(at(range))
                .help("Close it with a quotation mark.")
        }
        Fault::Parenthesis(range) => {
            Diagnostic::error("syntax", "The parenthesis opened here is never closed.")
                .at(at(range))
                .help("Add `)` before the end of the tag.")
        }
        Fault::Empty(range) => Diagnostic::error("syntax", "The tag is empty.")
            .at(at(range))
            .help("Write a field or a helper into it, or take it out."),
        Fault::Go(range) => {
            let written = &source.text[range.clone()];
            let bare = written.trim_start_matches(['.', '$']);
            Diagnostic::error("go-template", "This is how templates of consul-template are written.")
                .at(at(range))
                .help(format!(
                    "Write `{bare}` for `{written}`; `gatewright migrate` rewrites a whole template of consul-template."
                ))
        }
        Fault::Unclosed(tag) => Diagnostic::error(
            "unclosed-block",
            format!("The block `{}` is opened here and never closed.", tag.name),
        )
        .at(at(tag.range))
        .help(format!("Add {{{{/{}}}}}.", tag.name)),
        Fault::Mismatch { open, close } => {
            let line = source.text[..open.range.start].matches('\n').count() + 1;
            Diagnostic::error(
                "mismatched-block",
                format!(
                    "`{}` is closed here, but the block open at this point is `{}` of line {line}.",
                    close.name, open.name
                ),
            )
            .at(at(close.range))
            .help(format!("Close it with {{{{/{}}}}} first.", open.name))
        }
        Fault::Stray(tag) => Diagnostic::error(
            "stray-tag",
            format!("There is no open block for `{}` here.", tag.name),
        )
        .at(at(tag.range))
        .help("Take it out, or add the tag that opens the block."),
        Fault::Deep(tag) => Diagnostic::error(
            "nested-too-deep",
            "Too many blocks stand inside each other here.",
        )
        .at(at(tag.range))
        .help("Move the inner ones into a partial."),
    }
}

/// The tag at a line and column, whole.
pub fn tag_place(source: &Source, lines: &Lines, line: usize, column: usize) -> Place {
    if line == 0 {
        return Place::file(&source.path);
    }
    match lines.offset(&source.text, line, column) {
        Some(at) => {
            let text = &source.text[at..];
            let end = if text.starts_with("{{") {
                text.find("}}").map_or(1, |end| end + 2)
            } else {
                1
            };
            lines.stretch(source, at..at + end)
        }
        None => Place::at(&source.path, &source.text, line, column, 1),
    }
}

/// The tag at a line and column, or else the one that ends right before. Nothing is written at a tag that ends a body:
/// blanks before it are told as standing there.
pub fn last_tag_place(source: &Source, line: usize, column: usize) -> Place {
    let lines = Lines::new(&source.text);
    let before = lines
        .offset(&source.text, line, column)
        .map(|at| source.text[..at].trim_end())
        .filter(|before| {
            let rest = source.text[before.len()..].trim_start();
            let ends = ["{{/", "{{~/", "{{else", "{{~else"];
            !rest.starts_with("{{") || ends.iter().any(|end| rest.starts_with(end))
        });
    match before.and_then(|before| before.strip_suffix("}}")?.rfind("{{")) {
        Some(begin) => {
            let end = begin + source.text[begin..].find("}}").map_or(1, |end| end + 2);
            lines.stretch(source, begin..end)
        }
        None => tag_place(source, &lines, line, column),
    }
}

/// Text of a template at a line and column.
pub fn literal_place(source: &Source, line: usize, column: usize, length: usize) -> Place {
    Place::at(&source.path, &source.text, line, column, length)
}

/// Where the text of an element begins: the engine tells where its first letter is that is no blank, and takes
/// blanks and a line end off either side of it beside a tag.
pub fn text_start(
    whole: &str,
    lines: &Lines,
    line: usize,
    column: usize,
    text: &str,
) -> (usize, usize) {
    let Some(told) = lines.offset(whole, line, column) else {
        return (line, column);
    };
    let blanks_before = told - whole[..told].trim_end().len();
    let blanks_after = whole[told..].len() - whole[told..].trim_start().len();
    let starts = (told - blanks_before..=told + blanks_after)
        .filter(|at| whole.is_char_boundary(*at) && whole[*at..].starts_with(text));
    let before_a_tag = |at: &usize| {
        let rest = &whole[at + text.len()..];
        rest.is_empty() || rest.starts_with("{{")
    };
    let start = starts.clone().find(before_a_tag).or(starts.clone().next());
    start.map_or((line, column), |at| lines.place(whole, at))
}

/// A name inside the tag at a line and column, or the whole tag.
pub fn name_place(source: &Source, lines: &Lines, line: usize, column: usize, name: &str) -> Place {
    let whole = || tag_place(source, lines, line, column);
    let Some(at) = lines.offset(&source.text, line, column) else {
        return whole();
    };
    let rest = &source.text[at..];
    let tag = &rest[..rest.find("}}").unwrap_or(rest.len())];
    match tag.find(name) {
        Some(found) if !name.is_empty() => {
            lines.stretch(source, at + found..at + found + name.len())
        }
        _ => whole(),
    }
}

/// A word inside the tag at a line and column, apart from the same letters in a longer one, or the whole tag.
/// `after` is what must stand right before it.
pub fn word_place(
    source: &Source,
    lines: &Lines,
    (line, column): (usize, usize),
    word: &str,
    after: &str,
) -> Place {
    let whole = || tag_place(source, lines, line, column);
    let Some(at) = lines.offset(&source.text, line, column) else {
        return whole();
    };
    let rest = &source.text[at..];
    let tag = &rest[..rest.find("}}").unwrap_or(rest.len())];
    let of_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '@');
    let alone = |found: &usize| {
        let (before, behind) = (&tag[..*found], &tag[found + word.len()..]);
        before.ends_with(after) && !before.ends_with(of_word) && !behind.starts_with(of_word)
    };
    let found = tag.match_indices(word).map(|(found, _)| found).find(alone);
    match found.filter(|_| !word.is_empty()) {
        Some(found) => {
            let start = at + found;
            lines.stretch(source, start..start + word.len())
        }
        None => whole(),
    }
}

/// The lines of a text, for many places in it.
#[derive(Debug, Clone)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Of this text.
    pub fn new(text: &str) -> Lines {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(ends).collect())
    }

    /// The byte at a line and a column, both from 1.
    fn offset(&self, text: &str, line: usize, column: usize) -> Option<usize> {
        let start = *self.0.get(line.checked_sub(1)?)?;
        let line = text[start..].split('\n').next()?;
        let (at, _) = line.char_indices().nth(column.checked_sub(1)?)?;
        Some(start + at)
    }

    /// The place of some bytes, which begin and end letters: [`Place::bytes`].
    fn stretch(&self, source: &Source, range: Range<usize>) -> Place {
        let (line, column) = self.place(&source.text, range.start);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let text = source.text[start..].lines().next().unwrap_or_default();
        let first = source.text[range].split('\n').next().unwrap_or_default();
        Place {
            path: source.path.clone(),
            line,
            column,
            length: first.chars().count().max(1),
            text: text.to_owned(),
        }
    }

    /// The line and column, from 1, of a byte that begins a letter.
    fn place(&self, text: &str, at: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, text[start..at].chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::*;

    #[test]
    fn what_is_told_at_the_end_of_a_body_came_of_the_tag_before() {
        let text = "{{#each a}}\nuser {{b}}\n{{else}}\n  user {{c}} {{d}}\n{{/each}}\n";
        for ((line, column), place) in [
            ((3, 1), (2, 6)),
            ((5, 1), (4, 14)),
            ((4, 8), (4, 8)),
            ((4, 14), (4, 14)),
        ] {
            let found = last_tag_place(&source(text), line, column);
            assert_eq!((found.line, found.column), place);
        }
    }

    #[test]
    fn lines_tell_the_same_places() {
        let text = "a\n\n  é {{b}}\r\nc";
        let lines = Lines::new(text);
        for (at, _) in text.char_indices() {
            let source = source(text);
            for end in (at..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                let place = Place::bytes(&source.path, text, at..end);
                assert_eq!(lines.stretch(&source, at..end), place, "{at} {end}");
            }
            let (line, column) = lines.place(text, at);
            let told = lines.offset(text, line, column);
            assert!(told.is_none_or(|told| told == at), "{at}");
        }
        assert_eq!(lines.offset(text, 9, 1), None);
        assert_eq!(lines.offset(text, 0, 1), None);
    }
}
