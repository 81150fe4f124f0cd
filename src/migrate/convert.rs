//! From a Go template's tree to the pieces of one in Handlebars. What cannot be converted stays as a
//! marked comment in its place. Pure.

use std::ops::Range;

use super::functions::{self, Trouble};
use super::known::doubts;
use super::lexer::SPACE;
use super::named::Parts;
use super::notes::Notes;
use super::pieces::{Pieces, Stand};
use super::scope::{Names, Reader, Scope};
use super::space::{Style, Styles};
use super::tree::{Branch, Node, Pipe, Tag, Word};
use super::value::Value;

/// How deep blocks of the result may stand inside each other; the loader takes as many by default.
const DEPTH: usize = 32;

/// Something that stays as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// Its bytes in the template.
    pub range: Range<usize>,
    /// Why, and what to do.
    pub trouble: Trouble,
}

/// The conversion under way.
pub struct Converter<'a> {
    pub source: &'a str,
    pub styles: &'a Styles,
    pub names: &'a Names,
    pub parts: &'a Parts<'a>,
    pub scope: Scope,
    pub out: Pieces,
    /// What is moved to the beginning.
    pub moved: Pieces,
    /// For each list of nodes around, how many `let` are to be closed at its end.
    pub lets: Vec<usize>,
    /// Blocks of the result that are open.
    pub depth: usize,
    pub left: Vec<Left>,
    pub notes: Notes,
    pub converted: usize,
    /// Whether nothing that is written may differ.
    pub exact: bool,
}

impl Converter<'_> {
    /// The whole template.
    pub fn all(&mut self, nodes: &[Node]) {
        self.lets.push(0);
        self.nodes(nodes);
        let lets = self.lets.pop().unwrap_or_default();
        let line = self.out.at_line_start();
        for _ in 0..lets {
            match line {
                true => {
                    self.out.tag("/let", false, false, Stand::Line);
                    self.out.text("\n");
                }
                false => self.out.tag("/let", false, false, Stand::Kept),
            }
        }
    }

    pub fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.node(node);
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Text(range) => self.text(range),
            Node::Comment(tag) => {
                let inner = &self.source[tag.range.clone()];
                let start = inner.find("/*").map_or(0, |at| at + 2);
                let end = inner.rfind("*/").unwrap_or(inner.len()).max(start);
                let text = inner[start..end].to_owned();
                self.comment(&text, tag, tag);
            }
            Node::Action(tag, pipe) if pipe.names.is_empty() => self.action(tag, pipe),
            Node::Action(tag, pipe) => self.declaration(tag, pipe),
            Node::Jump(tag) => self.leave(
                tag,
                tag,
                Trouble::new(
                    "A loop goes through its whole list.",
                    "Choose the items before: {{#each (limit LIST 10)}}, {{#each (where LIST \"Field\" VALUE)}}, or {{#if}} around the rest of the loop.",
                ),
            ),
            Node::Branch(branch) => {
                if let Err(trouble) = self.branch(branch) {
                    self.leave(&branch.open, &branch.close, trouble);
                }
            }
            Node::Include { tag, name, given } => {
                if let Err(trouble) = self.include(tag, name, given.as_ref()) {
                    self.leave(tag, tag, trouble);
                }
            }
            Node::Define(define) => self.define(define),
            Node::Block(define, pipe) => self.block(define, pipe),
        }
    }

    // Text and comments.

    fn text(&mut self, range: &Range<usize>) {
        let before = self.styles.ending(range.start);
        let after = self.styles.beginning(range.end);
        let mut text = self.source[range.clone()].to_owned();
        if let Some(style) = before.filter(|style| style.right) {
            let rest = text.trim_start_matches(SPACE);
            if style.line {
                text = match text.contains('\n') {
                    true => format!("\n{rest}"),
                    false => rest.to_owned(),
                };
            } else if rest.starts_with(char::is_whitespace) {
                text = rest.to_owned();
                self.out.untrim();
            }
        }
        if let Some(style) = after.filter(|style| style.line) {
            let kept = text.trim_end_matches(SPACE);
            let end = text.trim_end_matches([' ', '\t']).len();
            text = match (style.left, kept.is_empty()) {
                (true, true) if before.is_none() => String::new(),
                (true, _) => format!("{kept}\n{}", style.indent),
                (false, _) => format!("{}{}", &text[..end], style.indent),
            };
        } else if let Some(style) = after.filter(|style| style.left) {
            let kept = text.trim_end_matches(SPACE);
            if kept.ends_with(char::is_whitespace) || style.right {
                text.truncate(kept.len());
            }
        }
        self.out.text(&text);
    }

    /// A comment in the place of everything between two tags.
    pub fn comment(&mut self, text: &str, open: &Tag, close: &Tag) {
        let (first, last) = (self.styles.of(open), self.styles.of(close));
        let line = first.line && last.line;
        self.comment_as(
            text,
            open,
            close,
            match line {
                true => Stand::Line,
                false => Stand::Kept,
            },
        );
    }

    fn comment_as(&mut self, text: &str, open: &Tag, close: &Tag, stand: Stand) {
        let (first, last) = (self.styles.of(open), self.styles.of(close));
        let line = first.line && last.line;
        let text = text.replace("--}}", "-- }}");
        let text = text.trim_matches(SPACE);
        self.out.comment(
            &format!("!-- {text} --"),
            first.left && !line,
            last.right && !line,
            stand,
        );
    }

    /// Leaves what stands between two tags as it was, in a comment.
    pub fn leave(&mut self, open: &Tag, close: &Tag, trouble: Trouble) {
        let range = open.range.start..close.range.end;
        let line = self.line(range.start);
        let original = &self.source[range.clone()];
        let text = format!("gatewright migrate: line {line}: {original}");
        match self.exact {
            true => self.comment(&text, open, close),
            // Its line goes with it; what was written there is missing anyway.
            false => self.comment_as(&text, open, close, Stand::Line),
        }
        self.left.push(Left { range, trouble });
    }

    /// Lists what may differ in a value though it is converted.
    pub fn doubt(&mut self, value: &Value, tag: &Tag) {
        for trouble in doubts(value) {
            self.mark(tag, trouble);
        }
    }

    /// Lists a tag that is converted all the same, and marks the place before it.
    fn mark(&mut self, tag: &Tag, trouble: Trouble) {
        let line = self.line(tag.range.start);
        let original = &self.source[tag.range.clone()];
        let text = format!("!-- gatewright migrate: line {line}: {original} --");
        let style = self.styles.of(tag);
        let (stand, left) = match style.line {
            true => (Stand::Line, false),
            false => (Stand::Kept, style.left),
        };
        self.out
            .comment(&text.replace("--}}", "-- }}"), left, false, stand);
        if style.line {
            self.out.text(&format!("\n{}", style.indent));
        }
        self.left.push(Left {
            range: tag.range.clone(),
            trouble,
        });
    }

    pub fn line(&self, at: usize) -> usize {
        self.source[..at].matches('\n').count() + 1
    }

    // Values.

    pub fn reader(&self) -> Reader<'_> {
        Reader {
            names: self.names,
            scope: &self.scope,
        }
    }

    fn action(&mut self, tag: &Tag, pipe: &Pipe) {
        let value = match self.reader().pipe(pipe) {
            Ok(value) => value,
            Err(trouble) => return self.leave(tag, tag, trouble),
        };
        if value == Value::Null {
            let trouble =
                Trouble::new("Nothing is written here, which Go refuses.", "Take it out.");
            return self.leave(tag, tag, trouble);
        }
        let parts = match &value {
            Value::Joined(parts) => parts.as_slice(),
            value => std::slice::from_ref(value),
        };
        if let Some(list) = parts.iter().find(|part| part.is_list()) {
            return self.leave(tag, tag, functions::brackets(list));
        }
        self.doubt(&value, tag);
        let style = self.styles.of(tag);
        let before = &self.source[..tag.range.start];
        let slashes = before.len() - before.trim_end_matches('\\').len();
        if slashes % 2 == 1 && !style.left && !parts.first().is_some_and(is_written_out) {
            self.mark(
                tag,
                Trouble::new(
                    "A value stands right behind a backslash, which a configuration refuses.",
                    "Take the backslash out: values are escaped by themselves. In other files, take the comment out.",
                ),
            );
        }
        self.converted += 1;
        let line = self.line(tag.range.start);
        let begins = self.begins_line(tag.range.start);
        let parts = match value {
            Value::Joined(parts) => parts,
            value => vec![value],
        };
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.into_iter().enumerate() {
            let (left, right) = (style.left && at == 0, style.right && at == last);
            match &part {
                Value::Text(text) | Value::Number(text) => self.out.literal(text, left, right),
                Value::Bool(truth) => self.out.literal(&truth.to_string(), left, right),
                part => {
                    self.notes.written(part, line, begins && at == 0);
                    self.out.tag(part.tag(), left, right, Stand::Value);
                }
            }
        }
    }

    /// Whether a line of what is written begins here.
    fn begins_line(&self, at: usize) -> bool {
        let before = self.source[..at].trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with('\n')
    }

    /// `{{$x := …}}`: the rest of the block stands in a `let`.
    fn declaration(&mut self, tag: &Tag, pipe: &Pipe) {
        let Some(name) = pipe.names.last() else {
            return;
        };
        let value = match self.reader().pipe(pipe) {
            _ if pipe.assigns => {
                self.scope.changes(name);
                Err(Trouble::new(
                    format!(
                        "`{name}` gets another value, and names here keep theirs: below, it is still the first one."
                    ),
                    "Use @first, @last or @index in loops, {{#if}} around what differs, or a list helper such as `where`, `uniq` or `len`.",
                ))
            }
            Ok(_) if self.depth >= DEPTH => Err(too_deep()),
            value => value,
        };
        match value {
            Ok(value) => {
                self.notes.read(&value);
                self.doubt(&value, tag);
                self.scope.set(name, value.known());
                let code = format!("#let {} as |{}|", value.parameter(), self.names.name(name));
                self.write(&[code], &self.styles.of(tag));
                self.depth += 1;
                if let Some(count) = self.lets.last_mut() {
                    *count += 1;
                }
            }
            Err(trouble) => {
                if !pipe.assigns {
                    self.scope.set_left(name, self.line(tag.range.start));
                }
                self.leave(tag, tag, trouble);
            }
        }
    }

    /// Writes the tags that one of Go's becomes: each on a line of its own, or all beside each other.
    pub fn write(&mut self, codes: &[String], style: &Style) {
        self.converted += 1;
        for (at, code) in codes.iter().enumerate() {
            if style.line {
                if at > 0 {
                    self.out.text(&format!("\n{}", style.indent));
                }
                self.out.tag(code.as_str(), false, false, Stand::Line);
            } else {
                let (left, right) = (style.left && at == 0, style.right && at + 1 == codes.len());
                self.out.tag(code.as_str(), left, right, Stand::Kept);
            }
        }
    }

    // Blocks.

    /// The nodes between two tags, and the tags that close what was opened among them.
    pub fn inside(&mut self, nodes: &[Node]) -> Vec<String> {
        self.lets.push(0);
        let variables = self.scope.count();
        self.nodes(nodes);
        self.scope.truncate(variables);
        let lets = self.lets.pop().unwrap_or_default();
        self.depth -= lets;
        vec!["/let".to_owned(); lets]
    }

    fn branch(&mut self, branch: &Branch) -> Result<(), Trouble> {
        let variables = self.scope.count();
        let plan = self.plan(branch);
        let plan = match plan {
            Ok(plan) => plan,
            Err(trouble) => {
                self.scope.truncate(variables);
                return Err(trouble);
            }
        };
        let dot = self.scope.dot.clone();
        let changes = branch.word != Word::If;
        let mut closing = plan.closing;
        for value in &plan.values {
            self.doubt(value, &branch.open);
        }
        let mut values = plan.values.iter().map(|value| match branch.word {
            Word::Range => value.known().and_then(|known| known.item()),
            _ => value.known(),
        });
        self.write(&plan.open, &self.styles.of(&branch.open));
        let depth = self.depth;
        self.depth += plan.depth;
        if changes {
            self.scope.enter(values.next().flatten(), variables);
        }
        let mut codes = self.inside(&branch.body);
        for ((tag, pipe, nodes), (other, more)) in branch.others.iter().zip(plan.others) {
            codes.extend(other);
            self.write(&codes, &self.styles.of(tag));
            closing.extend(more);
            self.scope.dot = dot.clone();
            if pipe.is_some() && changes {
                self.scope.enter(values.next().flatten(), variables);
            }
            codes = self.inside(nodes);
        }
        codes.extend(closing.into_iter().rev());
        self.write(&codes, &self.styles.of(&branch.close));
        self.scope.dot = dot;
        self.depth = depth;
        self.scope.truncate(variables);
        Ok(())
    }

    /// What the tags of a block become, decided before anything of it is written.
    fn plan(&mut self, branch: &Branch) -> Result<Plan, Trouble> {
        let chained = branch.others.iter().any(|(_, pipe, _)| pipe.is_some());
        let value = self.condition(branch.word, &branch.pipe)?;
        self.notes.read(&value);
        let bound: Vec<String> = branch
            .pipe
            .names
            .iter()
            .map(|name| self.names.name(name))
            .collect();
        let mut plan = Plan::default();
        match (branch.word, bound.as_slice()) {
            (Word::If, []) if !chained && is_not(&value).is_some() => {
                let inner = is_not(&value).map(Value::truth).unwrap_or_default();
                plan.opens(format!("#unless {inner}"), "/unless");
            }
            (Word::If, []) => plan.opens(format!("#if {}", value.truth()), "/if"),
            (Word::With, []) => plan.opens(format!("#with {}", value.parameter()), "/with"),
            (Word::With, [name]) if branch.others.is_empty() => {
                plan.opens(format!("#with {} as |{name}|", value.parameter()), "/with");
            }
            (Word::Range, names) => {
                let names = match names {
                    [] => String::new(),
                    [item] => format!(" as |{item}|"),
                    [index, item, ..] => format!(" as |{item} {index}|"),
                };
                plan.opens(format!("#each {}{names}", value.truth()), "/each");
            }
            (word, [name, ..]) => {
                plan.opens(format!("#let {} as |{name}|", value.parameter()), "/let");
                plan.opens(
                    format!("#{} {name}", keyword(word)),
                    &format!("/{}", keyword(word)),
                );
            }
        }
        let last = branch.pipe.names.len().saturating_sub(1);
        for (at, name) in branch.pipe.names.iter().enumerate() {
            let known = match branch.word {
                Word::Range if at == last => value.known().and_then(|known| known.item()),
                Word::Range => None,
                _ => value.known(),
            };
            self.scope.set(name, known);
        }
        plan.values.push(value);
        plan.depth = plan.open.len();
        for (_, pipe, _) in &branch.others {
            let Some(pipe) = pipe else {
                plan.others.push((vec!["else".to_owned()], Vec::new()));
                continue;
            };
            let value = self.condition(branch.word, pipe)?;
            self.notes.read(&value);
            let word = keyword(branch.word);
            let shown = match branch.word {
                Word::If => value.truth(),
                _ => value.parameter(),
            };
            match pipe.names.first() {
                None => plan
                    .others
                    .push((vec![format!("else {word} {shown}")], Vec::new())),
                Some(name) => {
                    let bound = self.names.name(name);
                    plan.others.push((
                        vec![
                            "else".to_owned(),
                            format!("#let {} as |{bound}|", value.parameter()),
                            format!("#{word} {bound}"),
                        ],
                        vec!["/let".to_owned(), format!("/{word}")],
                    ));
                    plan.depth += 2;
                    self.scope.set(name, value.known());
                }
            }
            plan.values.push(value);
        }
        // The loader counts tags that open, and `else if` is none.
        match self.depth + plan.depth > DEPTH {
            true => Err(too_deep()),
            false => Ok(plan),
        }
    }

    fn condition(&mut self, word: Word, pipe: &Pipe) -> Result<Value, Trouble> {
        if pipe.assigns {
            return Err(Trouble::new(
                "A block gives another value to a variable, and names here keep theirs.",
                "Write `:=`, which sets a new one.",
            ));
        }
        let value = self.reader().pipe(pipe)?;
        match (word, &value) {
            (Word::Range, Value::Number(_)) => super::functions::call("loop", vec![value]),
            _ => Ok(value),
        }
    }
}

/// What the tags of a block become.
#[derive(Default)]
struct Plan {
    open: Vec<String>,
    closing: Vec<String>,
    /// For each `else`: its tags, and what closes them in the end.
    others: Vec<(Vec<String>, Vec<String>)>,
    /// The values of all its pipelines.
    values: Vec<Value>,
    depth: usize,
}

impl Plan {
    fn opens(&mut self, open: String, close: &str) {
        self.open.push(open);
        self.closing.push(close.to_owned());
    }
}

fn keyword(word: Word) -> &'static str {
    match word {
        Word::If => "if",
        Word::Range => "each",
        Word::With => "with",
    }
}

/// Whether it becomes text of the template.
fn is_written_out(value: &Value) -> bool {
    matches!(value, Value::Text(_) | Value::Number(_) | Value::Bool(_))
}

fn is_not(value: &Value) -> Option<&Value> {
    match value {
        Value::Call { name, given, .. } if name == "not" => given.first(),
        _ => None,
    }
}

fn too_deep() -> Trouble {
    Trouble::new(
        format!(
            "More than {DEPTH} blocks would stand inside each other here; each variable is one."
        ),
        "Write values where they are used instead of setting variables, or move a part into a partial.",
    )
}
