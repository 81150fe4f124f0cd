//! Places in templates: of a tag, of a name in it, of a fault that the scan found.

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
pub fn tag_place(source: &Source, line: usize, column: usize) -> Place {
    let place = |length| Place::at(&source.path, &source.text, line, column, length);
    if line == 0 {
        return Place::file(&source.path);
    }
    match offset(source, line, column) {
        Some(at) => {
            let text = &source.text[at..];
            let end = if text.starts_with("{{") {
                text.find("}}").map_or(1, |end| end + 2)
            } else {
                1
            };
            Place::bytes(&source.path, &source.text, at..at + end)
        }
        None => place(1),
    }
}

/// The tag at a line and column, or else the one that ends right before.
pub fn last_tag_place(source: &Source, line: usize, column: usize) -> Place {
    let before = offset(source, line, column)
        .map(|at| source.text[..at].trim_end())
        .filter(|before| !source.text[before.len()..].trim_start().starts_with("{{"));
    match before.and_then(|before| before.strip_suffix("}}")?.rfind("{{")) {
        Some(begin) => {
            let end = begin + source.text[begin..].find("}}").map_or(1, |end| end + 2);
            Place::bytes(&source.path, &source.text, begin..end)
        }
        None => tag_place(source, line, column),
    }
}

/// Text of a template at a line and column.
pub fn literal_place(source: &Source, line: usize, column: usize, length: usize) -> Place {
    Place::at(&source.path, &source.text, line, column, length)
}

/// Where the text of an element begins: the engine tells where its first letter is that is no blank, and takes
/// blanks and a line end off either side of it beside a tag.
pub fn text_start(source: &Source, line: usize, column: usize, text: &str) -> (usize, usize) {
    let Some(told) = offset(source, line, column) else {
        return (line, column);
    };
    let whole = &source.text;
    let blanks_before = told - whole[..told].trim_end().len();
    let blanks_after = whole[told..].len() - whole[told..].trim_start().len();
    let starts = (told - blanks_before..=told + blanks_after)
        .filter(|at| whole.is_char_boundary(*at) && whole[*at..].starts_with(text));
    let before_a_tag = |at: &usize| {
        let rest = &whole[at + text.len()..];
        rest.is_empty() || rest.starts_with("{{")
    };
    let start = starts.clone().find(before_a_tag).or(starts.clone().next());
    start.map_or((line, column), |at| {
        let place = Place::bytes(&source.path, whole, at..at);
        (place.line, place.column)
    })
}

/// A name inside the tag at a line and column, or the whole tag.
pub fn name_place(source: &Source, line: usize, column: usize, name: &str) -> Place {
    let whole = tag_place(source, line, column);
    let Some(at) = offset(source, line, column) else {
        return whole;
    };
    let rest = &source.text[at..];
    let tag = &rest[..rest.find("}}").unwrap_or(rest.len())];
    match tag.find(name) {
        Some(found) if !name.is_empty() => Place::bytes(
            &source.path,
            &source.text,
            at + found..at + found + name.len(),
        ),
        _ => whole,
    }
}

/// A word inside the tag at a line and column, apart from the same letters in a longer one, or the whole tag.
/// `after` is what must stand right before it.
pub fn word_place(source: &Source, line: usize, column: usize, word: &str, after: &str) -> Place {
    let whole = tag_place(source, line, column);
    let Some(at) = offset(source, line, column) else {
        return whole;
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
            Place::bytes(&source.path, &source.text, start..start + word.len())
        }
        None => whole,
    }
}

/// The byte at a line and a column, both from 1.
fn offset(source: &Source, line: usize, column: usize) -> Option<usize> {
    let start: usize = source
        .text
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let text = source.text[start..].split('\n').next()?;
    let (at, _) = text.char_indices().nth(column.checked_sub(1)?)?;
    Some(start + at)
}
