//! A light look at a template's tags before it is compiled: blocks that are not closed, or closed
//! by another name, are named here, because the compiler reports them at the end of the file.

use std::ops::Range;

/// One `{{…}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its bytes, braces included.
    pub range: Range<usize>,
    /// What it is.
    pub kind: TagKind,
    /// The block's, partial's or helper's name.
    pub name: String,
}

/// What a tag is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// `{{#x}}`, `{{^x}}` with a name.
    Open,
    /// `{{/x}}`.
    Close,
    /// `{{else}}`, `{{else if …}}`, `{{^}}`.
    Else,
    /// `{{> x}}`.
    Partial,
    /// `{{x}}`.
    Expression,
    /// `{{{x}}}` or `{{&x}}`.
    Unescaped,
    /// `{{! … }}` or a raw block.
    Skipped,
}

/// What is wrong with the tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `{{` without its end.
    Unended(Range<usize>),
    /// `{{!--` without its end.
    UnendedComment(Range<usize>),
    /// A text inside a tag that begins and does not end.
    UnendedText(Range<usize>),
    /// A parenthesis inside a tag that is opened and not closed.
    Parenthesis(Range<usize>),
    /// A tag with nothing in it.
    Empty(Range<usize>),
    /// A field as Go templates write it: `{{.Node}}`.
    Go(Range<usize>),
    /// A block that is never closed.
    Unclosed(Tag),
    /// A block closed by another name.
    Mismatch {
        /// The block.
        open: Tag,
        /// What closes it.
        close: Tag,
    },
    /// A closing tag or an `else` without a block.
    Stray(Tag),
    /// More blocks inside each other than allowed.
    Deep(Tag),
}

/// The tags of a template and what is wrong with them.
pub fn scan(text: &str, max_nesting: usize) -> (Vec<Tag>, Vec<Fault>) {
    let mut tags = Vec::new();
    let mut faults = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("{{") {
        let start = at + found;
        let escapes = text[..start]
            .bytes()
            .rev()
            .take_while(|byte| *byte == b'\\')
            .count();
        if escapes % 2 == 1 {
            at = start + 2;
            continue;
        }
        match tag(text, start) {
            Some(tag) => {
                at = tag.range.end;
                tags.push(tag);
            }
            None => {
                faults.push(unended(text, start));
                break;
            }
        }
    }
    for tag in &tags {
        faults.extend(inside(text, tag));
    }
    balance(&tags, max_nesting, &mut faults);
    (tags, faults)
}

fn tag(text: &str, start: usize) -> Option<Tag> {
    let rest = &text[start..];
    let make = |length: usize, kind, name: &str| {
        Some(Tag {
            range: start..start + length,
            kind,
            name: name.to_owned(),
        })
    };
    if let Some(raw) = rest.strip_prefix("{{{{") {
        let name = word(raw);
        let close = format!("{{{{{{{{/{name}}}}}}}}}");
        let end = rest.find(&close)?;
        return make(end + close.len(), TagKind::Skipped, name);
    }
    if let Some(inner) = rest.strip_prefix("{{{") {
        let end = rest.find("}}}")?;
        return make(end + 3, TagKind::Unescaped, word(inner));
    }
    let inner = rest[2..].trim_start_matches('~');
    if let Some(comment) = inner.strip_prefix('!') {
        let end = if comment.starts_with("--") {
            ["--}}", "--~}}"]
                .iter()
                .filter_map(|close| rest.find(close).map(|at| at + close.len()))
                .min()?
        } else {
            rest.find("}}")? + 2
        };
        return make(end, TagKind::Skipped, "");
    }
    let end = end(rest)?;
    let body = rest[2..end - 2].trim_matches('~').trim();
    let (kind, name) = if let Some(name) = body.strip_prefix("#>") {
        (TagKind::Open, word(name))
    } else if let Some(name) = body.strip_prefix('#') {
        (
            TagKind::Open,
            word(name.trim_start().trim_start_matches('*')),
        )
    } else if let Some(name) = body.strip_prefix('/') {
        (TagKind::Close, word(name))
    } else if let Some(name) = body.strip_prefix('^') {
        let name = word(name);
        let kind = if name.is_empty() {
            TagKind::Else
        } else {
            TagKind::Open
        };
        (kind, name)
    } else if let Some(name) = body.strip_prefix('>') {
        (TagKind::Partial, word(name))
    } else if let Some(name) = body.strip_prefix('&') {
        (TagKind::Unescaped, word(name))
    } else if word(body) == "else" {
        (TagKind::Else, "else")
    } else {
        (TagKind::Expression, word(body))
    };
    make(end, kind, name)
}

/// What a tag that does not end lacks.
fn unended(text: &str, start: usize) -> Fault {
    let rest = &text[start..];
    if rest[2..].trim_start_matches('~').starts_with("!--") {
        return Fault::UnendedComment(start..start + 5);
    }
    // With an odd number of quotes up to the tag's end, it is a text that does not end.
    let line = rest.split('\n').next().unwrap_or_default();
    let tag = line.find("}}").map(|end| &line[..end]);
    let quotes = |tag: &&str| tag.matches('"').count() % 2 == 1;
    match tag.filter(quotes).and_then(|tag| tag.rfind('"')) {
        Some(at) => Fault::UnendedText(start + at..start + tag.map_or(at + 1, str::len)),
        None => Fault::Unended(start..start + 2),
    }
}

/// What is wrong inside a tag, of what the compiler could not say.
fn inside(text: &str, tag: &Tag) -> Option<Fault> {
    if tag.kind == TagKind::Skipped {
        return None;
    }
    let range = tag.range.clone();
    let body = &text[range.clone()];
    let inner = body.trim_matches(['{', '}', '~']).trim();
    if inner.is_empty() {
        return Some(Fault::Empty(range));
    }
    let mut open: Vec<usize> = Vec::new();
    let mut quote = None;
    let mut before = ' ';
    // The body without what stands in quotation marks.
    let mut bare = String::with_capacity(body.len());
    for (at, letter) in body.char_indices() {
        let quoted = quote.is_some() || matches!(letter, '"' | '\'');
        let blank = if quoted {
            " ".repeat(letter.len_utf8())
        } else {
            letter.to_string()
        };
        bare.push_str(&blank);
        match quote {
            Some(begun) if letter == begun && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            None if letter == '(' => open.push(at),
            None if letter == ')' => {
                open.pop();
            }
            // A tag that begins inside of it: it has no end of its own.
            None if at > 2 && body[at..].starts_with("{{") => {
                return Some(Fault::Unended(range.start..range.start + 2));
            }
            _ => {}
        }
        before = letter;
    }
    if let Some(at) = open.first() {
        return Some(Fault::Parenthesis(range.start + at..range.start + at + 1));
    }
    let go = |word: &&str| {
        let name = word.strip_prefix('.').unwrap_or_default();
        name.starts_with(|letter: char| letter.is_ascii_alphabetic())
            || word
                .strip_prefix('$')
                .is_some_and(|name| name.starts_with(char::is_alphanumeric))
    };
    let word = bare.split([' ', '(', ')', '|', '{', '}', '~']).find(go)?;
    let at = bare.find(word)?;
    Some(Fault::Go(range.start + at..range.start + at + word.len()))
}

/// The length of a tag up to its `}}`, quoted texts passed over.
fn end(rest: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(2) {
        match (quote, letter) {
            (Some(_), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), letter) if letter == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '}') if rest[at..].starts_with("}}") => return Some(at + 2),
            _ => {}
        }
        escaped = false;
    }
    None
}

fn word(text: &str) -> &str {
    let text = text.trim_start().trim_start_matches(['"', '\'']);
    let end = text
        .find(|letter: char| letter.is_whitespace() || "}~|()\"'".contains(letter))
        .unwrap_or(text.len());
    &text[..end]
}

fn balance(tags: &[Tag], max_nesting: usize, faults: &mut Vec<Fault>) {
    let mut open: Vec<&Tag> = Vec::new();
    let mut deep = false;
    for tag in tags {
        match tag.kind {
            TagKind::Open => {
                open.push(tag);
                if open.len() > max_nesting && !deep {
                    deep = true;
                    faults.push(Fault::Deep(tag.clone()));
                }
            }
            TagKind::Else if open.is_empty() => faults.push(Fault::Stray(tag.clone())),
            TagKind::Close => match open.pop() {
                None => faults.push(Fault::Stray(tag.clone())),
                Some(begun) if begun.name != tag.name => {
                    let further_out = open.iter().rposition(|outer| outer.name == tag.name);
                    // As many are closed as are opened: then two of them cross.
                    let count = |kind| {
                        let alike = |tag: &&Tag| tag.kind == kind && tag.name == begun.name;
                        tags.iter().filter(alike).count()
                    };
                    let crossed = count(TagKind::Open) == count(TagKind::Close);
                    faults.push(match further_out {
                        Some(_) if !crossed => Fault::Unclosed(begun.clone()),
                        _ => Fault::Mismatch {
                            open: begun.clone(),
                            close: tag.clone(),
                        },
                    });
                    // A block further out of that name: the inner ones were not closed.
                    if let Some(depth) = further_out {
                        open.truncate(depth);
                    }
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    faults.extend(open.into_iter().map(|tag| Fault::Unclosed(tag.clone())));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_told_apart() {
        let text = r#"a {{x}} {{#each (s "}}") as |i|}} {{else}} {{> p}} {{/each}} \{{no}} {{!-- }} --}} {{{u}}} {{{{raw}}}} {{y}} {{{{/raw}}}}"#;
        let (tags, faults) = scan(text, 64);
        assert_eq!(faults, []);
        let kinds: Vec<_> = tags
            .iter()
            .map(|tag| (tag.kind, tag.name.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                (TagKind::Expression, "x"),
                (TagKind::Open, "each"),
                (TagKind::Else, "else"),
                (TagKind::Partial, "p"),
                (TagKind::Close, "each"),
                (TagKind::Skipped, ""),
                (TagKind::Unescaped, "u"),
                (TagKind::Skipped, "raw"),
            ]
        );
    }

    #[test]
    fn blocks_must_be_closed_by_their_name() {
        let fault = |text| scan(text, 2).1;
        assert!(matches!(&fault("{{#if x}}")[..], [Fault::Unclosed(tag)] if tag.name == "if"));
        assert!(
            matches!(&fault("{{#if x}}{{/each}}")[..], [Fault::Mismatch { open, close }]
            if open.name == "if" && close.name == "each")
        );
        assert!(matches!(&fault("{{/if}}")[..], [Fault::Stray(_)]));
        assert!(matches!(&fault("{{x")[..], [Fault::Unended(_)]));
        assert!(matches!(
            &fault("{{#if a}}{{#if b}}{{#if c}}{{/if}}{{/if}}{{/if}}")[..],
            [Fault::Deep(_)]
        ));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}#/^!\"'~a\\\\ é|-]{0,60}") {
            scan(&text, 4);
        }
    }
}
