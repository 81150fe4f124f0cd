//! Named templates: `define`, `block` and `template` become inline partials. A partial must be defined
//! before it is used, so one that is used earlier, and every `block`, is moved to the beginning. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::convert::Converter;
use super::functions::Trouble;
use super::known::Known;
use super::pieces::Stand;
use super::scope::Scope;
use super::tree::{self, Define, Node, Operand, Pipe, Tag, Term};
use super::value::Value;

/// The named templates of a file.
#[derive(Debug, Default)]
pub struct Parts<'a> {
    parts: BTreeMap<&'a str, Part<'a>>,
}

#[derive(Debug)]
struct Part<'a> {
    /// Its name as a partial.
    name: String,
    /// The names that it includes.
    includes: BTreeSet<&'a str>,
    /// Where it is defined, and included first.
    defined: usize,
    included: Option<usize>,
    /// Whether it writes several lines.
    long: bool,
    /// Whether `$` is used in a block of it where `.` is something else.
    root: bool,
    /// What it is given, each time that it is included.
    given: Vec<Option<String>>,
}

impl Part<'_> {
    /// What is known of its `.`.
    fn known(&self) -> Option<Known> {
        let texts: Option<BTreeSet<String>> = self.given.iter().cloned().collect();
        let mut texts = Vec::from_iter(texts?);
        match texts.len() {
            1 => texts.pop().map(Known::Text),
            _ => Some(Known::OneOf(texts)),
        }
    }
}

impl<'a> Parts<'a> {
    /// Of a template.
    pub fn of(source: &str, nodes: &'a [Node]) -> Parts<'a> {
        let mut parts: BTreeMap<&str, Part<'a>> = BTreeMap::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut uses: Vec<(&str, usize, Option<String>)> = Vec::new();
        tree::each_include(nodes, &mut |name, at, given| {
            uses.push((name, at, constant(given)))
        });
        tree::each_define(nodes, &mut |define| {
            let mut includes = BTreeSet::new();
            tree::each_include(&define.body, &mut |name, at, given| {
                includes.insert(name);
                uses.push((name, at, constant(given)));
            });
            let mut root = false;
            tree::each_pipe(&define.body, 0, &mut |pipe, depth| {
                root |= depth > 0 && uses_root(pipe);
            });
            let mut name: String = define
                .name
                .chars()
                .map(
                    |letter| match letter.is_ascii_alphanumeric() || "_-".contains(letter) {
                        true => letter,
                        false => '-',
                    },
                )
                .collect();
            while name.is_empty() || !names.insert(name.clone()) {
                name.push('2');
            }
            parts.insert(
                &define.name,
                Part {
                    name,
                    includes,
                    defined: define.open.range.start,
                    included: None,
                    long: is_long(source, define),
                    root,
                    given: Vec::new(),
                },
            );
        });
        for (name, at, given) in uses {
            if let Some(part) = parts.get_mut(name) {
                part.included = Some(part.included.map_or(at, |first| first.min(at)));
                part.given.push(given);
            }
        }
        Parts { parts }
    }

    /// Whether a part includes itself, on whatever way.
    fn is_circular(&self, name: &str) -> bool {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut waiting: Vec<&str> = vec![name];
        while let Some(one) = waiting.pop() {
            let includes = self.parts.get(one).map(|part| &part.includes);
            for included in includes.into_iter().flatten() {
                if *included == name {
                    return true;
                }
                if seen.insert(included) {
                    waiting.push(included);
                }
            }
        }
        false
    }
}

/// The text that a pipeline is.
fn constant(given: Option<&Pipe>) -> Option<String> {
    match given?.commands.as_slice() {
        [command] => match command.operands.as_slice() {
            [
                Operand {
                    term: Term::Text(text),
                    ..
                },
            ] => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn uses_root(pipe: &Pipe) -> bool {
    let is_root = |operand: &Operand| operand.term == Term::Variable("$".to_owned());
    pipe.commands
        .iter()
        .flat_map(|command| &command.operands)
        .any(is_root)
}

fn is_long(source: &str, define: &Define) -> bool {
    let mut body = &source[define.open.range.end..define.close.range.start];
    if define.open.right {
        body = body.trim_start();
    }
    if define.close.left {
        body = body.trim_end();
    }
    body.contains('\n')
}

impl Converter<'_> {
    /// `{{define "name"}}…{{end}}`
    pub fn define(&mut self, define: &Define) {
        let early = self
            .parts
            .parts
            .get(define.name.as_str())
            .is_some_and(|part| {
                part.included
                    .is_some_and(|included| included < part.defined)
            });
        if early {
            self.moved(define);
            let text = format!("\"{}\" is defined at the beginning.", define.name);
            self.comment(&text, &define.open, &define.close);
            return;
        }
        let style = self.styles.of(&define.open);
        let close = self.styles.of(&define.close);
        self.body(
            define,
            |converter, codes| converter.write(codes, &style),
            |converter, codes| {
                converter.write(codes, &close);
            },
        );
    }

    /// `{{block "name" pipeline}}…{{end}}`: the partial at the beginning, its use here.
    pub fn block(&mut self, define: &Define, pipe: &Pipe) {
        let code = self.include_code(&define.name, Some(pipe), &define.open);
        match code {
            Ok(code) => {
                self.moved(define);
                let (left, right) = (
                    self.styles.of(&define.open).left,
                    self.styles.of(&define.close).right,
                );
                self.converted += 1;
                self.out.tag(code, left, right, Stand::Partial);
            }
            Err(trouble) => self.leave(&define.open, &define.close, trouble),
        }
    }

    /// `{{template "name" pipeline}}`
    pub fn include(&mut self, tag: &Tag, name: &str, given: Option<&Pipe>) -> Result<(), Trouble> {
        let code = self.include_code(name, given, tag)?;
        let style = self.styles.of(tag);
        let long = self.parts.parts.get(name).is_some_and(|part| part.long);
        let stand = match (style.line, long) {
            (true, _) => Stand::Line,
            (false, true) => Stand::Partial,
            (false, false) => Stand::Kept,
        };
        self.converted += 1;
        let exact = !style.line;
        self.out
            .tag(code, style.left && exact, style.right && exact, stand);
        Ok(())
    }

    fn include_code(
        &mut self,
        name: &str,
        given: Option<&Pipe>,
        tag: &Tag,
    ) -> Result<String, Trouble> {
        let Some(part) = self.parts.parts.get(name) else {
            return Err(Trouble::new(
                format!("No template `{name}` is defined in this file."),
                "Put it into the folder that templates.partials names, as NAME.hbs, and write {{> NAME}}.",
            ));
        };
        if self.parts.is_circular(name) {
            return Err(Trouble::new(
                format!("The template `{name}` includes itself, and partials here end."),
                "Write out as many levels as there are.",
            ));
        }
        let mut code = format!("> {}", part.name);
        if let Some(given) = given.filter(|given| !is_nothing(given)) {
            let value = match is_dot(given) {
                // Without a parameter a partial sees what is here.
                true => None,
                false => Some(self.reader().pipe(given)?),
            };
            if let Some(value) = &value {
                self.notes.read(value);
                self.doubt(value, tag);
            }
            match value {
                Some(Value::Path(path)) => code.push_str(&format!(" {}", path.text)),
                Some(value) => code.push_str(&format!(" {}", value.parameter())),
                None => {}
            }
        }
        Ok(code)
    }

    /// Defines a partial at the beginning of the result.
    fn moved(&mut self, define: &Define) {
        let before = std::mem::take(&mut self.out);
        let depth = std::mem::take(&mut self.depth);
        let (open, close) = (self.styles.of(&define.open), self.styles.of(&define.close));
        let line = open.line && close.line;
        let stand = match line {
            true => Stand::Line,
            false => Stand::Kept,
        };
        let each = |converter: &mut Converter<'_>, codes: &[String], left: bool, right: bool| {
            converter.converted += 1;
            for (at, code) in codes.iter().enumerate() {
                if line && at > 0 {
                    converter.out.text("\n");
                }
                let (first, last) = (at == 0, at + 1 == codes.len());
                converter.out.tag(
                    code.as_str(),
                    left && first && !line,
                    right && last && !line,
                    stand,
                );
            }
        };
        self.body(
            define,
            |converter, codes| each(converter, codes, false, open.right),
            |converter, codes| each(converter, codes, close.left, false),
        );
        match line {
            true => self.out.text("\n"),
            // A line's end that is not written.
            false => self.out.tag("!\n", false, false, Stand::Value),
        }
        let made = std::mem::replace(&mut self.out, before);
        self.moved.append(made);
        self.depth = depth;
    }

    /// The body of a named template, of which nothing outside is seen.
    fn body(
        &mut self,
        define: &Define,
        open: impl FnOnce(&mut Self, &[String]),
        close: impl FnOnce(&mut Self, &[String]),
    ) {
        let part = self.parts.parts.get(define.name.as_str());
        let (name, root) = part.map_or(("", false), |part| (part.name.as_str(), part.root));
        let known = part.and_then(Part::known);
        let mut opening = vec![format!("#*inline \"{name}\"")];
        let mut closing = vec!["/inline".to_owned()];
        let here = match root {
            true => {
                opening.push(format!("#let this as |{}|", self.names.root));
                closing.insert(0, "/let".to_owned());
                self.names.root.clone()
            }
            false => "this".to_owned(),
        };
        let inner = Scope::of_part(here, known);
        let scope = std::mem::replace(&mut self.scope, inner);
        let depth = self.depth;
        self.depth += opening.len();
        open(self, &opening);
        let mut codes = self.inside(&define.body);
        codes.extend(closing);
        close(self, &codes);
        self.depth = depth;
        self.scope = scope;
    }
}

fn is_dot(pipe: &Pipe) -> bool {
    match pipe.commands.as_slice() {
        [command] => match command.operands.as_slice() {
            [only] => only.term == Term::Dot && only.fields.is_empty(),
            _ => false,
        },
        _ => false,
    }
}

fn is_nothing(pipe: &Pipe) -> bool {
    let [command] = pipe.commands.as_slice() else {
        return false;
    };
    matches!(command.operands.as_slice(), [only] if only.term == Term::Nil)
}
