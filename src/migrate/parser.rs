//! From words to a tree, by the grammar of Go's `text/template/parse` (Go 1.26). The first thing that Go
//! would refuse is the error. Pure; no input makes it panic.

use std::ops::Range;

use super::Fault;
use super::lexer::{Delimiters, Kind, Token, lex};
use super::literal;
use super::pipeline::Place;
use super::tree::{Branch, Define, Node, Pipe, Tag, Word};

/// How deep blocks and parentheses may stand inside each other.
const DEPTH: usize = 100;

/// Reads a template.
pub fn parse(source: &str, delimiters: &Delimiters) -> Result<Vec<Node>, Fault> {
    let tokens = lex(source, delimiters)?;
    let mut parser = Parser {
        source,
        tokens: &tokens,
        at: 0,
        variables: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
        defined: Vec::new(),
    };
    let (nodes, end) = parser.list(true)?;
    match end {
        Ending::End(tag) | Ending::Else(tag, _) => Err(fault(
            tag.range,
            "No block is open here.",
            "Take it out, or add the `{{if}}`, `{{range}}` or `{{with}}` that it belongs to.",
        )),
        Ending::File => Ok(nodes),
    }
}

pub(super) fn fault(
    at: Range<usize>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Fault {
    Fault {
        at,
        message: message.into(),
        help: help.into(),
    }
}

/// What ends a list of nodes.
enum Ending {
    File,
    End(Tag),
    /// With the block that an `else if` or `else with` opens.
    Else(Tag, Option<(Word, Pipe)>),
}

pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    /// Those that are set here.
    pub(super) variables: Vec<String>,
    /// How many `range` are around.
    pub(super) loops: usize,
    pub(super) depth: usize,
    /// Names of `define` and `block`.
    pub(super) defined: Vec<String>,
}

impl<'a> Parser<'a> {
    /// The next word; at the end of the file it stays there.
    pub(super) fn peek(&self) -> &'a Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub(super) fn next(&mut self) -> &'a Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    pub(super) fn text(&self, token: &Token) -> &'a str {
        &self.source[token.range.clone()]
    }

    pub(super) fn deeper<T>(
        &mut self,
        at: &Range<usize>,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.depth >= DEPTH {
            return Err(fault(
                at.clone(),
                "Too much stands inside each other here.",
                "Move inner parts into templates of their own.",
            ));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn list(&mut self, top: bool) -> Result<(Vec<Node>, Ending), Fault> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::End => return Ok((nodes, Ending::File)),
                Kind::Text => nodes.push(Node::Text(token.range.clone())),
                Kind::Comment { left, right } => nodes.push(Node::Comment(Tag {
                    range: token.range.clone(),
                    left,
                    right,
                })),
                Kind::Open { trims } => {
                    let open = Tag {
                        range: token.range.clone(),
                        left: trims,
                        right: false,
                    };
                    match self.deeper(&token.range, |parser| parser.action(open, top))? {
                        Read::Node(node) => nodes.push(node),
                        Read::Ending(ending) => return Ok((nodes, ending)),
                    }
                }
                _ => return Err(self.unexpected(token, "outside of a tag")),
            }
        }
    }

    fn action(&mut self, mut tag: Tag, top: bool) -> Result<Read, Fault> {
        self.skip_space();
        let first = self.peek();
        let keyword = match first.kind {
            Kind::Word => self.text(first),
            _ => "",
        };
        if is_keyword(keyword) {
            self.at += 1;
        }
        let node = match keyword {
            "if" => self.branch(Word::If, tag)?,
            "range" => self.branch(Word::Range, tag)?,
            "with" => self.branch(Word::With, tag)?,
            "end" => {
                self.close(&mut tag, "`end`")?;
                return Ok(Read::Ending(Ending::End(tag)));
            }
            "else" => return self.otherwise(tag),
            "break" | "continue" => {
                self.close(&mut tag, &format!("`{keyword}`"))?;
                if self.loops == 0 {
                    let message = format!("`{keyword}` stands outside of a `range`.");
                    return Err(fault(tag.range, message, "Take it out."));
                }
                Node::Jump(tag)
            }
            "template" => {
                let name = self.name("template")?;
                self.skip_space();
                let given = match self.peek().kind {
                    Kind::Close { .. } => None,
                    _ => Some(self.pipe(Place::Include)?),
                };
                self.close(&mut tag, "`template`")?;
                Node::Include { tag, name, given }
            }
            "define" if top => {
                let name = self.defined_name("define")?;
                self.close(&mut tag, "`define`")?;
                Node::Define(Box::new(self.part(tag, name)?))
            }
            "define" => {
                return Err(fault(
                    first.range.clone(),
                    "`define` stands inside of a block.",
                    "Move it out of all blocks.",
                ));
            }
            "block" => {
                let name = self.defined_name("block")?;
                let pipe = self.pipe(Place::Include)?;
                self.close(&mut tag, "`block`")?;
                Node::Block(Box::new(self.part(tag, name)?), pipe)
            }
            _ => {
                let pipe = self.pipe(Place::Action)?;
                self.close(&mut tag, "the tag")?;
                Node::Action(tag, pipe)
            }
        };
        Ok(Read::Node(node))
    }

    fn otherwise(&mut self, mut tag: Tag) -> Result<Read, Fault> {
        self.skip_space();
        let token = self.peek();
        let word = match (token.kind, self.text(token)) {
            (Kind::Word, "if") => Some(Word::If),
            (Kind::Word, "with") => Some(Word::With),
            _ => None,
        };
        let Some(word) = word else {
            self.close(&mut tag, "`else`")?;
            return Ok(Read::Ending(Ending::Else(tag, None)));
        };
        self.at += 1;
        let pipe = self.pipe(Place::Block)?;
        self.close(&mut tag, "`else`")?;
        Ok(Read::Ending(Ending::Else(tag, Some((word, pipe)))))
    }

    fn branch(&mut self, word: Word, mut open: Tag) -> Result<Node, Fault> {
        let outer = self.variables.len();
        let pipe = self.pipe(match word {
            Word::Range => Place::Range,
            _ => Place::Block,
        })?;
        self.close(&mut open, "the tag")?;
        let opened = open.range.clone();
        self.loops += usize::from(word == Word::Range);
        let (body, mut ending) = self.list(false)?;
        self.loops -= usize::from(word == Word::Range);
        let mut others: Vec<(Tag, Option<Pipe>, Vec<Node>)> = Vec::new();
        let close = loop {
            match ending {
                Ending::End(tag) => break tag,
                Ending::File => return Err(unclosed(opened)),
                Ending::Else(tag, condition) => {
                    if others.last().is_some_and(|(_, pipe, _)| pipe.is_none()) {
                        let help = "Take it out; nothing can follow the last `else`.";
                        return Err(fault(tag.range, "This block has its `else` already.", help));
                    }
                    let pipe = match condition {
                        Some((other, _)) if other != word || word == Word::Range => {
                            let help = "Write `{{else}}`, and a block of its own inside.";
                            return Err(fault(
                                tag.range,
                                "This `else` opens another kind of block than it is in.",
                                help,
                            ));
                        }
                        condition => condition.map(|(_, pipe)| pipe),
                    };
                    let (nodes, next) = self.list(false)?;
                    others.push((tag, pipe, nodes));
                    ending = next;
                }
            }
        };
        self.variables.truncate(outer);
        Ok(Node::Branch(Box::new(Branch {
            word,
            open,
            pipe,
            body,
            others,
            close,
        })))
    }

    /// The body of a `define` or `block`: nothing of what is set outside is seen in it.
    fn part(&mut self, open: Tag, name: String) -> Result<Define, Fault> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, ending) = self.list(false)?;
        self.variables = outer;
        self.loops = loops;
        match ending {
            Ending::End(close) => Ok(Define {
                open,
                name,
                body,
                close,
            }),
            Ending::File => Err(unclosed(open.range)),
            Ending::Else(tag, _) => Err(fault(
                tag.range,
                "`else` stands in a named template, outside of any block of it.",
                "Take it out.",
            )),
        }
    }

    fn name(&mut self, what: &str) -> Result<String, Fault> {
        self.skip_space();
        let token = self.next();
        match token.kind {
            Kind::Text2 | Kind::Raw => self.unquoted(token),
            _ => Err(fault(
                token.range.clone(),
                format!("`{what}` wants the name of a template here."),
                "Write it in quotes.",
            )),
        }
    }

    fn defined_name(&mut self, what: &str) -> Result<String, Fault> {
        let start = self.at;
        let name = self.name(what)?;
        if self.defined.contains(&name) {
            let place = self.tokens[start..self.at]
                .iter()
                .rfind(|token| token.kind != Kind::Space)
                .map_or(0..1, |token| token.range.clone());
            let message = format!("A template `{name}` is defined already.");
            return Err(fault(place, message, "Give one of them another name."));
        }
        self.defined.push(name.clone());
        Ok(name)
    }

    pub(super) fn unquoted(&self, token: &Token) -> Result<String, Fault> {
        literal::unquote(self.text(token)).ok_or_else(|| {
            fault(
                token.range.clone(),
                "This text holds an escape that means nothing, or is no UTF-8.",
                "Mend it, or use backquotes, in which a backslash is one.",
            )
        })
    }

    /// The right delimiter; the tag reaches to it.
    fn close(&mut self, tag: &mut Tag, what: &str) -> Result<(), Fault> {
        self.skip_space();
        let token = self.next();
        match token.kind {
            Kind::Close { trims } => {
                tag.range.end = token.range.end;
                tag.right = trims;
                Ok(())
            }
            _ => Err(self.unexpected(token, &format!("at the end of {what}"))),
        }
    }

    pub(super) fn unexpected(&self, token: &Token, place: &str) -> Fault {
        let found = match token.kind {
            Kind::End => "The template ends".to_owned(),
            Kind::Close { .. } => "The tag ends".to_owned(),
            _ => format!("`{}` stands", self.text(token).trim()),
        };
        fault(
            token.range.clone(),
            format!("{found} {place}, where it cannot."),
            "A tag holds values and functions with their parameters, joined by `|`.",
        )
    }
}

enum Read {
    Node(Node),
    Ending(Ending),
}

fn unclosed(open: Range<usize>) -> Fault {
    fault(
        open,
        "This block is never closed.",
        "Add {{end}} where it ends.",
    )
}

pub(super) fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "block"
            | "break"
            | "continue"
            | "define"
            | "else"
            | "end"
            | "if"
            | "range"
            | "template"
            | "with"
    )
}
