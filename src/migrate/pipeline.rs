//! Pipelines of a Go template: commands joined by `|`, and the variables that get the last one's value.

use super::Fault;
use super::lexer::Kind;
use super::literal;
use super::parser::{Parser, fault, is_keyword};
use super::tree::{Command, Operand, Pipe, Term};

/// Where a pipeline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Action,
    Block,
    Range,
    Include,
    Group,
}

fn ends(place: Place, kind: Kind) -> bool {
    match place {
        Place::Group => kind == Kind::RightParen,
        _ => matches!(kind, Kind::Close { .. }),
    }
}

impl Parser<'_> {
    pub(super) fn pipe(&mut self, place: Place) -> Result<Pipe, Fault> {
        self.skip_space();
        let start = self.peek().range.start;
        let mut pipe = Pipe {
            range: start..start,
            names: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declarations(&mut pipe, place)?;
        loop {
            self.skip_space();
            let token = self.peek();
            match token.kind {
                Kind::Close { .. } | Kind::RightParen if ends(place, token.kind) => break,
                _ => pipe.commands.push(self.command()?),
            }
        }
        let end = pipe.commands.last().map_or(start, |last| last.range.end);
        pipe.range = start..end;
        self.check(&pipe)?;
        if !pipe.assigns {
            self.variables.extend(pipe.names.iter().cloned());
        }
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, place: Place) -> Result<(), Fault> {
        loop {
            self.skip_space();
            let before = self.at;
            if self.peek().kind != Kind::Variable {
                return Ok(());
            }
            let token = self.next();
            self.skip_space();
            let (kind, text) = (self.peek().kind, self.text(self.peek()));
            let name = self.text(token).to_owned();
            match kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assigns = kind == Kind::Assign;
                    self.at += 1;
                    pipe.names.push(name);
                    break;
                }
                Kind::Other if text == "," && place == Place::Range && pipe.names.is_empty() => {
                    self.at += 1;
                    pipe.names.push(name);
                }
                Kind::Other if text == "," => {
                    return Err(fault(
                        self.peek().range.clone(),
                        "Too many variables are set here.",
                        "Only `range` sets two.",
                    ));
                }
                _ => {
                    self.at = before;
                    break;
                }
            }
        }
        if pipe.assigns
            && let Some(name) = pipe
                .names
                .iter()
                .find(|name| !self.variables.contains(name))
        {
            let at = self.tokens[self.at - 1].range.clone();
            let message = format!("`{name}` is not set anywhere before.");
            return Err(fault(at, message, "Write `:=` to set a new variable."));
        }
        Ok(())
    }

    fn check(&self, pipe: &Pipe) -> Result<(), Fault> {
        if pipe.commands.is_empty() {
            let at = pipe.range.start..pipe.range.start + 1;
            return Err(fault(
                at,
                "A value is missing here.",
                "Write one, or take the tag out.",
            ));
        }
        for command in pipe.commands.iter().skip(1) {
            let first = &command.operands[0];
            let value = matches!(
                first.term,
                Term::Text(_) | Term::Number(_) | Term::Bool(_) | Term::Nil
            ) || (first.term == Term::Dot && first.fields.is_empty());
            if value {
                return Err(fault(
                    first.range.clone(),
                    "Only a function can follow `|`.",
                    "Write the value first and the function after it.",
                ));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Fault> {
        let mut operands = Vec::new();
        let start = self.peek().range.start;
        loop {
            self.skip_space();
            let Some(operand) = self.operand()? else {
                break;
            };
            operands.push(operand);
            let token = self.peek();
            match token.kind {
                Kind::Space => {}
                Kind::Close { .. } | Kind::RightParen | Kind::Pipe => break,
                _ => return Err(self.unexpected(token, "right after a value")),
            }
        }
        self.skip_space();
        let token = self.peek();
        match token.kind {
            Kind::Pipe => {
                self.at += 1;
                self.skip_space();
                // Nothing may be missing behind it.
                if matches!(
                    self.peek().kind,
                    Kind::Close { .. } | Kind::RightParen | Kind::Pipe
                ) {
                    let help = "Write one, or take the `|` out.";
                    return Err(fault(
                        token.range.clone(),
                        "No function follows this `|`.",
                        help,
                    ));
                }
            }
            Kind::Close { .. } | Kind::RightParen => {}
            _ => return Err(self.unexpected(token, "in a tag")),
        }
        match operands.last() {
            Some(last) => Ok(Command {
                range: start..last.range.end,
                operands,
            }),
            None => Err(self.unexpected(token, "in a tag")),
        }
    }

    fn operand(&mut self) -> Result<Option<Operand>, Fault> {
        let token = self.peek();
        let text = self.text(token);
        self.at += 1;
        let mut fields = Vec::new();
        let term = match token.kind {
            Kind::Word if text == "nil" => Term::Nil,
            Kind::Word if is_keyword(text) => {
                let message = format!("`{text}` stands where a value is wanted.");
                return Err(fault(
                    token.range.clone(),
                    message,
                    "It begins a tag of its own.",
                ));
            }
            Kind::Word => Term::Function(text.to_owned()),
            Kind::Dot => Term::Dot,
            Kind::Field => {
                fields.push(text[1..].to_owned());
                Term::Dot
            }
            Kind::Variable => {
                if !self.variables.iter().any(|name| name == text) {
                    let message = format!("`{text}` is not set here.");
                    let help = format!(
                        "Set it before, in the same block or one around: {{{{{text} := …}}}}."
                    );
                    return Err(fault(token.range.clone(), message, help));
                }
                Term::Variable(text.to_owned())
            }
            Kind::Text2 | Kind::Raw => Term::Text(self.unquoted(token)?),
            Kind::Bool => Term::Bool(text == "true"),
            Kind::Number | Kind::Character => {
                let number = match token.kind {
                    Kind::Number => literal::number(text),
                    _ => literal::character(text),
                };
                Term::Number(number.ok_or_else(|| {
                    fault(
                        token.range.clone(),
                        format!("`{text}` is no number that can be used here."),
                        "Write it in decimal digits.",
                    )
                })?)
            }
            Kind::LeftParen => {
                let pipe = self.deeper(&token.range, |parser| parser.pipe(Place::Group))?;
                self.at += 1; // The closing one, at which the pipeline ended.
                Term::Group(Box::new(pipe))
            }
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        let start = token.range.start;
        while self.peek().kind == Kind::Field {
            let field = self.next();
            let value = matches!(
                term,
                Term::Text(_) | Term::Number(_) | Term::Bool(_) | Term::Nil
            ) || (term == Term::Dot && fields.is_empty());
            if value {
                return Err(self.unexpected(field, "right after a value"));
            }
            fields.push(self.text(field)[1..].to_owned());
        }
        let end = self.tokens[self.at - 1].range.end;
        Ok(Some(Operand {
            range: start..end,
            term,
            fields,
        }))
    }
}
