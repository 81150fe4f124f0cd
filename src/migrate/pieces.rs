//! What is written, in pieces, and how they become a template of Handlebars. Pure.
//!
//! Handlebars swallows the line of a block, partial or comment that stands alone on it. Where that is
//! not wanted, an empty comment beside the tag keeps the line: `{{#if x}}{{!}}`.

use super::lexer::SPACE;

/// A piece of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, as it is to be written by the template.
    Text(String),
    /// What stands between `{{` and `}}`.
    Tag(Written),
}

/// A tag of Handlebars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Without braces.
    pub code: String,
    /// `{{~`
    pub left: bool,
    /// `~}}`
    pub right: bool,
    /// How it stands to its line.
    pub stand: Stand,
}

/// How a tag stands to its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// It is its line, which Handlebars swallows.
    Line,
    /// Nothing around it may be swallowed.
    Kept,
    /// A partial of several lines: nothing may be swallowed, and its lines may not be indented.
    Partial,
    /// Handlebars swallows nothing around it.
    Value,
}

/// The pieces under construction.
#[derive(Debug, Default)]
pub struct Pieces {
    list: Vec<Piece>,
    /// The next text loses the blanks at its beginning.
    trims_next: bool,
}

impl Pieces {
    /// Adds text.
    pub fn text(&mut self, text: &str) {
        let text = match std::mem::take(&mut self.trims_next) {
            true => text.trim_start_matches(SPACE),
            false => text,
        };
        match self.list.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.list.push(Piece::Text(text.to_owned())),
        }
    }

    /// Adds a tag.
    pub fn tag(&mut self, code: impl Into<String>, left: bool, right: bool, stand: Stand) {
        self.trims_next = false;
        self.list.push(Piece::Tag(Written {
            code: code.into(),
            left,
            right,
            stand,
        }));
    }

    /// Adds a comment. Comments cannot trim, so that the text around it is trimmed here.
    pub fn comment(&mut self, code: &str, left: bool, right: bool, stand: Stand) {
        self.trim_before(left);
        self.tag(code, false, false, stand);
        self.trims_next = right;
    }

    /// Adds text in the place of a tag.
    pub fn literal(&mut self, text: &str, left: bool, right: bool) {
        self.trim_before(left);
        self.trims_next = false;
        self.text(text);
        self.trims_next = right;
    }

    /// What is trimmed by a tag that is not written as one is taken away here, what a tag before it
    /// trims as well: Handlebars would trim across a comment.
    fn trim_before(&mut self, left: bool) {
        if let Some(Piece::Text(text)) = self.list.last_mut()
            && left
        {
            text.truncate(text.trim_end_matches(SPACE).len());
        }
        let (text, before) = match self.list.as_mut_slice() {
            [.., Piece::Tag(tag), Piece::Text(text)] => (Some(text), tag),
            [.., Piece::Tag(tag)] => (None, tag),
            _ => return,
        };
        if std::mem::take(&mut before.right)
            && let Some(text) = text
        {
            *text = text.trim_start_matches(SPACE).to_owned();
        }
    }

    /// The tag before does not trim; for text whose blanks are not those of Go.
    pub fn untrim(&mut self) {
        if let Some(Piece::Tag(tag)) = self.list.last_mut() {
            tag.right = false;
        }
    }

    /// Whether the last thing written is a line's end, or nothing was written.
    pub fn at_line_start(&self) -> bool {
        match self.list.as_slice() {
            [] => true,
            [.., Piece::Tag(before), Piece::Text(text)] if before.right => {
                text.trim_start_matches(SPACE).ends_with('\n')
            }
            [.., Piece::Text(text)] => text.ends_with('\n'),
            [.., Piece::Tag(_)] => false,
        }
    }

    /// Adds all of others.
    pub fn append(&mut self, mut others: Pieces) {
        self.list.append(&mut others.list);
    }

    /// The template.
    pub fn write(mut self) -> String {
        self.join_trimmed();
        let mut out = String::new();
        for (at, piece) in self.list.iter().enumerate() {
            let next = self.list.get(at + 1);
            match piece {
                Piece::Text(text) => {
                    write_text(text, matches!(next, Some(Piece::Tag(_))), &mut out);
                }
                Piece::Tag(tag) => write_tag(tag, next, &mut out),
            }
        }
        out
    }

    /// A tag that trims all there is up to the next one stands right before it. Where it stood alone on
    /// its line, Handlebars (handlebars 6.4) would swallow the line end after the next tag instead.
    fn join_trimmed(&mut self) {
        let mut joined: Vec<Piece> = Vec::with_capacity(self.list.len());
        let mut pieces = std::mem::take(&mut self.list).into_iter().peekable();
        while let Some(piece) = pieces.next() {
            let alone = match joined.as_slice() {
                [_] => true,
                [.., Piece::Text(line), _] => {
                    let line = line.trim_end_matches([' ', '\t']);
                    line.is_empty() || line.ends_with('\n')
                }
                _ => false,
            };
            match (joined.last_mut(), &piece, pieces.peek()) {
                (Some(Piece::Tag(before)), Piece::Text(text), Some(Piece::Tag(_)))
                    if alone && before.right && text.trim_matches(SPACE).is_empty() =>
                {
                    before.right = false;
                }
                _ => joined.push(piece),
            }
        }
        self.list = joined;
    }
}

/// Text in which nothing is a tag.
fn write_text(text: &str, before_tag: bool, out: &mut String) {
    let mut parts = text.split("{{").peekable();
    while let Some(part) = parts.next() {
        out.push_str(part);
        let another = parts.peek().is_some();
        if (another || before_tag) && part.ends_with('\\') {
            // One backslash would take the braces' meaning, two stand for one.
            out.push('\\');
            if another {
                out.push_str("{{!}}");
            }
        }
        if another {
            out.push_str("\\{{");
        } else if before_tag && part.ends_with('{') {
            out.pop();
            out.push_str("{{print \"{\"}}");
        }
    }
}

fn write_tag(tag: &Written, next: Option<&Piece>, out: &mut String) {
    let line = &out[out.rfind(['\n', '\r']).map_or(0, |at| at + 1)..];
    let indented = !line.is_empty() && line.trim_matches([' ', '\t']).is_empty();
    let begins = line.trim_matches([' ', '\t']).is_empty();
    let ends = match next {
        None => true,
        Some(Piece::Text(text)) => {
            let rest = text.trim_start_matches([' ', '\t']);
            rest.starts_with(['\n', '\r'])
        }
        Some(Piece::Tag(_)) => false,
    };
    let alone = begins && ends;
    let (before, after) = match tag.stand {
        Stand::Line | Stand::Value => (false, false),
        Stand::Partial => (alone || (line.ends_with([' ', '\t']) && !tag.left), false),
        Stand::Kept if !alone || (tag.left && tag.right) => (false, false),
        Stand::Kept if tag.right => (indented, false),
        Stand::Kept => (false, true),
    };
    if before {
        out.push_str("{{!}}");
    }
    out.push_str(if tag.left { "{{~" } else { "{{" });
    out.push_str(&tag.code);
    out.push_str(if tag.right { "~}}" } else { "}}" });
    if after {
        out.push_str("{{!}}");
    }
}
