//! The words of a Go template: text, and what stands inside its delimiters. The rules are those of Go's
//! `text/template/parse` (Go 1.26), so that what consul-template takes is taken here, and nothing else.
//! Pure; no input makes it panic.

use std::ops::Range;

use super::Fault;

/// What is trimmed by `{{-` and `-}}`, and what separates words.
pub const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// One word of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the template.
    pub range: Range<usize>,
}

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text outside of delimiters, never empty.
    Text,
    /// A whole `{{/* … */}}`, delimiters included.
    Comment {
        left: bool,
        right: bool,
    },
    /// The left delimiter, with `-` when it trims.
    Open {
        trims: bool,
    },
    /// The right one.
    Close {
        trims: bool,
    },
    Space,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    Dot,
    /// `.Name`
    Field,
    /// `$` or `$name`
    Variable,
    /// A function's name or a keyword.
    Word,
    Bool,
    Number,
    /// `'x'`
    Character,
    /// `"…"`
    Text2,
    /// `` `…` ``
    Raw,
    /// Any other printable character.
    Other,
    /// The end of the template.
    End,
}

/// The delimiters around what is not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiters {
    /// `{{` unless set otherwise.
    pub left: String,
    /// `}}` unless set otherwise.
    pub right: String,
}

impl Default for Delimiters {
    fn default() -> Delimiters {
        Delimiters {
            left: "{{".to_owned(),
            right: "}}".to_owned(),
        }
    }
}

/// All words of a template; the last is [`Kind::End`].
pub fn lex(source: &str, delimiters: &Delimiters) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer {
        source,
        left: &delimiters.left,
        right: &delimiters.right,
        at: 0,
        tokens: Vec::new(),
    };
    lexer.all()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    left: &'a str,
    right: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let range = self.at..self.at + length;
        self.at = range.end;
        self.tokens.push(Token { kind, range });
    }

    fn fault<T>(&self, length: usize, message: impl Into<String>, help: &str) -> Result<T, Fault> {
        Err(Fault {
            at: self.at..(self.at + length.max(1)).min(self.source.len()),
            message: message.into(),
            help: help.to_owned(),
        })
    }

    fn all(&mut self) -> Result<(), Fault> {
        while let Some(found) = self.rest().find(self.left) {
            if found > 0 {
                self.push(Kind::Text, found);
            }
            let after = &self.rest()[self.left.len()..];
            let trims = trims_left(after);
            let inside = &after[if trims { 2 } else { 0 }..];
            if inside.starts_with("/*") {
                self.comment(trims)?;
            } else {
                self.push(
                    Kind::Open { trims },
                    self.left.len() + usize::from(trims) * 2,
                );
                self.action()?;
            }
        }
        if !self.rest().is_empty() {
            self.push(Kind::Text, self.rest().len());
        }
        self.push(Kind::End, 0);
        Ok(())
    }

    fn comment(&mut self, left: bool) -> Result<(), Fault> {
        let rest = self.rest();
        let begin = self.left.len() + if left { 2 } else { 0 } + 2;
        let Some(end) = rest[begin..].find("*/").map(|at| begin + at + 2) else {
            return self.fault(
                begin,
                "The comment is never closed.",
                "Close it with `*/}}`.",
            );
        };
        match self.closing(&rest[end..]) {
            Some((right, length)) => {
                self.push(Kind::Comment { left, right }, end + length);
                Ok(())
            }
            None => {
                self.at += end;
                self.fault(
                    1,
                    "A comment must end right before the closing delimiter.",
                    "Write nothing between `*/` and `}}`; code after a comment goes into a tag of its own.",
                )
            }
        }
    }

    /// Whether the right delimiter begins a text, and how long it is with its trim marker.
    fn closing(&self, text: &str) -> Option<(bool, usize)> {
        let marked = text.strip_prefix(SPACE).and_then(|rest| {
            let rest = rest.strip_prefix('-')?;
            rest.starts_with(self.right).then_some(2 + self.right.len())
        });
        match marked {
            Some(length) => Some((true, length)),
            None => text
                .starts_with(self.right)
                .then_some((false, self.right.len())),
        }
    }

    fn action(&mut self) -> Result<(), Fault> {
        let opened = self.at;
        let mut parens: Vec<usize> = Vec::new();
        loop {
            let rest = self.rest();
            if let Some((trims, length)) = self.closing(rest) {
                if let Some(open) = parens.last() {
                    self.at = *open;
                    return self.fault(1, "This parenthesis is never closed.", "Add `)`.");
                }
                self.push(Kind::Close { trims }, length);
                return Ok(());
            }
            let Some(letter) = rest.chars().next() else {
                self.at = opened.saturating_sub(self.left.len());
                return self.fault(
                    self.left.len(),
                    "A tag begins here that never ends.",
                    "Close it with the right delimiter.",
                );
            };
            match letter {
                letter if SPACE.contains(&letter) => self.space(),
                '=' => self.push(Kind::Assign, 1),
                ':' if rest.starts_with(":=") => self.push(Kind::Declare, 2),
                ':' => return self.fault(1, "`:` stands alone.", "Write `:=`."),
                '|' => self.push(Kind::Pipe, 1),
                '"' => self.quoted('"', Kind::Text2, "text")?,
                '\'' => self.quoted('\'', Kind::Character, "character")?,
                '`' => self.raw()?,
                '$' => self.name(Kind::Variable)?,
                '.' if !rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                    self.name(Kind::Field)?;
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                letter if is_name(letter) => self.word()?,
                '(' => {
                    parens.push(self.at);
                    self.push(Kind::LeftParen, 1);
                }
                ')' => {
                    if parens.pop().is_none() {
                        return self.fault(1, "No parenthesis is open here.", "Take it out.");
                    }
                    self.push(Kind::RightParen, 1);
                }
                '!'..='~' => self.push(Kind::Other, 1),
                _ => {
                    return self.fault(
                        letter.len_utf8(),
                        "This character cannot stand in a tag.",
                        "Put it into quotes, or take it out.",
                    );
                }
            }
        }
    }

    /// A run of blanks, up to one that belongs to ` -}}`.
    fn space(&mut self) {
        let rest = self.rest();
        let length = rest
            .find(|letter| !SPACE.contains(&letter))
            .unwrap_or(rest.len());
        // The last blank belongs to the trim marker, if there is one.
        let length = match self.closing(&rest[length - 1..]) {
            Some((true, _)) => length - 1,
            _ => length,
        };
        self.push(Kind::Space, length);
    }

    fn quoted(&mut self, quote: char, kind: Kind, what: &str) -> Result<(), Fault> {
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' if matches!(letters.next(), Some((_, next)) if next != '\n') => {}
                '\\' | '\n' => break,
                letter if letter == quote => {
                    self.push(kind, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.fault(
            1,
            format!("The quoted {what} is not closed on its line."),
            "Close it, or use backquotes for a text of several lines.",
        )
    }

    fn raw(&mut self) -> Result<(), Fault> {
        match self.rest()[1..].find('`') {
            Some(length) => {
                self.push(Kind::Raw, length + 2);
                Ok(())
            }
            None => self.fault(1, "The text in backquotes is never closed.", "Add a `."),
        }
    }

    /// What begins with `.` or `$`.
    fn name(&mut self, kind: Kind) -> Result<(), Fault> {
        let rest = self.rest();
        let length = 1 + rest[1..]
            .find(|letter| !is_name(letter))
            .unwrap_or(rest.len() - 1);
        self.terminated(length)?;
        let kind = match (kind, length) {
            (Kind::Field, 1) => Kind::Dot,
            _ => kind,
        };
        self.push(kind, length);
        Ok(())
    }

    fn word(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let length = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        self.terminated(length)?;
        let kind = match &rest[..length] {
            "true" | "false" => Kind::Bool,
            _ => Kind::Word,
        };
        self.push(kind, length);
        Ok(())
    }

    /// Whether what follows a name may follow a name.
    fn terminated(&mut self, length: usize) -> Result<(), Fault> {
        let rest = &self.rest()[length..];
        let ends = match rest.chars().next() {
            None => true,
            Some(letter) => SPACE.contains(&letter) || ".,|:)(".contains(letter),
        };
        if ends || rest.starts_with(self.right) {
            return Ok(());
        }
        self.at += length;
        let letter = rest.chars().next().unwrap_or(' ');
        self.fault(
            letter.len_utf8(),
            format!("`{letter}` cannot follow a name."),
            "Put a blank between them.",
        )
    }

    fn number(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let signed = rest.trim_start_matches(['+', '-']);
        let signs = rest.len() - signed.len();
        let body = signed
            .find(|letter: char| !(is_name(letter) || letter == '.'))
            .unwrap_or(signed.len());
        let mut length = signs + body;
        // The sign of an exponent: 1e-3.
        let exponent = signed[..body].ends_with(['e', 'E', 'p', 'P']);
        if exponent && signed[body..].starts_with(['+', '-']) {
            let digits = &signed[body + 1..];
            length += 1 + digits
                .find(|letter: char| !is_name(letter))
                .unwrap_or(digits.len());
        }
        if body == 0 || signs > 1 {
            return self.fault(length, "This is no number.", "Write it in digits.");
        }
        self.push(Kind::Number, length);
        Ok(())
    }
}

fn trims_left(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(SPACE))
}

/// Whether a character belongs to names.
fn is_name(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}
