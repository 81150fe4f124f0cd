//! Templates and partials as they were compiled, for those who look at them without rendering them: what is
//! printed, which blocks there are, what is included, and where each of it stands. Pure; it judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handlebars::template::{
    DecoratorTemplate, HelperTemplate, Parameter, TemplateElement as Element,
};
use handlebars::{Path, Template};
use serde_json::Value;

use super::helpers::{self, Action};
use super::place::{Lines, tag_place, word_place};
use super::rewrite::{head, is_path, raw};
use super::{Source, scope};
use crate::catalog::Query;
use crate::diagnostic::Place;

/// All templates of a set and the partials that they may include.
#[derive(Debug, Clone)]
pub struct Outlines {
    /// Templates first, then partials.
    pub sources: Arc<[Source]>,
    /// How many of them are templates.
    pub templates: usize,
    /// What is in each of them.
    pub nodes: Vec<Vec<Node>>,
    lines: Vec<Lines>,
}

/// Where a tag begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The number of the source.
    pub source: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Text that is written as it is.
    Text(String),
    /// `{{x}}`.
    Print(At, Expression),
    /// `{{#x}}…{{else}}…{{/x}}`.
    Block(Box<Block>),
    /// `{{> x}}`.
    Include(Box<Include>),
    /// `{{#*inline "x"}}…{{/inline}}`.
    Inline(Inline),
}

/// A block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Where it begins.
    pub at: At,
    /// The helper and what it is given.
    pub call: Call,
    /// The names after `as`, in order.
    pub binds: Vec<String>,
    /// What stands in it.
    pub body: Vec<Node>,
    /// What stands behind its `{{else}}`, if it has one.
    pub inverse: Option<Vec<Node>>,
}

/// A use of a partial.
#[derive(Debug, Clone, PartialEq)]
pub struct Include {
    /// Where it stands.
    pub at: At,
    /// The partial's name.
    pub name: String,
    /// What it is given.
    pub parameters: Vec<Expression>,
    /// What it is given by name.
    pub pairs: BTreeMap<String, Expression>,
    /// The block of `{{#> x}}…{{/x}}`.
    pub block: Option<Vec<Node>>,
}

/// A partial that is defined in a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Inline {
    /// Where it begins.
    pub at: At,
    /// Its name.
    pub name: String,
    /// What stands in it.
    pub body: Vec<Node>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// It is written out.
    Literal(Value),
    /// It is found by a path.
    Path(PathName),
    /// A variable such as `@index`, without what leads to it.
    Variable(String),
    /// A helper gives it.
    Call(Box<Call>),
}

/// A path, as `../Weights.Passing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathName {
    /// As it was written.
    pub text: String,
    /// How many blocks further out it begins.
    pub up: usize,
    /// The names from there on; none for `this`.
    pub names: Vec<String>,
}

/// A call of a helper.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The helper.
    pub name: String,
    /// What it is given.
    pub parameters: Vec<Expression>,
    /// What it is given by name.
    pub pairs: BTreeMap<String, Expression>,
    /// What it asks of the catalog, where that can be read off the template.
    pub query: Option<Query>,
}

impl Outlines {
    /// Of compiled sources, in their order.
    pub(super) fn new(sources: Arc<[Source]>, templates: usize, parsed: &[Template]) -> Outlines {
        let nodes = parsed
            .iter()
            .enumerate()
            .map(|(source, template)| Reader { source }.template(template))
            .collect();
        let lines = sources.iter().map(|source| Lines::new(&source.text));
        Outlines {
            lines: lines.collect(),
            sources,
            templates,
            nodes,
        }
    }

    /// The number of the partial of a name.
    pub fn partial(&self, name: &str) -> Option<usize> {
        let partials = &self.sources[self.templates..];
        let found = partials.iter().position(|source| source.name == name)?;
        Some(found + self.templates)
    }

    /// A whole tag.
    pub fn tag(&self, at: At) -> Place {
        let source = &self.sources[at.source];
        tag_place(source, &self.lines[at.source], at.line, at.column)
    }

    /// A word of a tag, or the whole tag when it is not in it. `after` is what stands before it.
    pub fn word(&self, at: At, word: &str, after: &str) -> Place {
        let source = &self.sources[at.source];
        let lines = &self.lines[at.source];
        word_place(source, lines, (at.line, at.column), word, after)
    }

    /// Everything that is asked of the catalog and can be read off, each with the tag and the helper that asks.
    pub fn queries(&self) -> Vec<(At, &str, &Query)> {
        let mut found = Vec::new();
        for nodes in &self.nodes {
            each_node(nodes, &mut |node| {
                node.each_part(&mut |at, part| {
                    if let Part::Call(call) = part {
                        let name = call.name.as_str();
                        found.extend(call.query.iter().map(|query| (at, name, query)));
                    }
                });
            });
        }
        found
    }

    /// The partials that the templates reach, and the names of all that they include.
    pub fn reached(&self) -> (BTreeSet<usize>, BTreeSet<&str>) {
        let mut waiting: Vec<&[Node]> = self.nodes[..self.templates]
            .iter()
            .map(Vec::as_slice)
            .collect();
        let (mut partials, mut names) = (BTreeSet::new(), BTreeSet::new());
        while let Some(nodes) = waiting.pop() {
            each_node(nodes, &mut |node| {
                let Node::Include(include) = node else {
                    return;
                };
                names.insert(include.name.as_str());
                if let Some(index) = self.partial(&include.name)
                    && partials.insert(index)
                {
                    waiting.push(&self.nodes[index]);
                }
            });
        }
        (partials, names)
    }
}

/// Every node, and those inside of it after it.
pub fn each_node<'a>(nodes: &'a [Node], found: &mut impl FnMut(&'a Node)) {
    for node in nodes {
        found(node);
        match node {
            Node::Text(_) | Node::Print(..) => {}
            Node::Block(block) => {
                each_node(&block.body, found);
                each_node(block.inverse.as_deref().unwrap_or_default(), found);
            }
            Node::Include(include) => {
                each_node(include.block.as_deref().unwrap_or_default(), found);
            }
            Node::Inline(inline) => each_node(&inline.body, found),
        }
    }
}

/// A part of a tag.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A call, before its parameters.
    Call(&'a Call),
    /// A path.
    Path(&'a PathName),
}

impl Node {
    /// Every call and every path of its own tag.
    pub fn each_part<'a>(&'a self, found: &mut impl FnMut(At, Part<'a>)) {
        match self {
            Node::Text(_) | Node::Inline(_) => {}
            Node::Print(at, expression) => expression.each_part(*at, found),
            Node::Block(block) => block.call.each_part(block.at, found),
            Node::Include(include) => {
                for one in include.parameters.iter().chain(include.pairs.values()) {
                    one.each_part(include.at, found);
                }
            }
        }
    }
}

impl Expression {
    fn each_part<'a>(&'a self, at: At, found: &mut impl FnMut(At, Part<'a>)) {
        match self {
            Expression::Path(path) => found(at, Part::Path(path)),
            Expression::Call(call) => call.each_part(at, found),
            Expression::Literal(_) | Expression::Variable(_) => {}
        }
    }
}

impl Call {
    fn each_part<'a>(&'a self, at: At, found: &mut impl FnMut(At, Part<'a>)) {
        found(at, Part::Call(self));
        for one in self.parameters.iter().chain(self.pairs.values()) {
            one.each_part(at, found);
        }
    }
}

struct Reader {
    source: usize,
}

impl Reader {
    fn template(&self, template: &Template) -> Vec<Node> {
        let places = template.mapping.iter().map(|at| (at.0, at.1));
        let places = places.chain(std::iter::repeat((0, 0)));
        let elements = template.elements.iter().zip(places);
        elements
            .filter_map(|(element, (line, column))| {
                let at = At {
                    source: self.source,
                    line,
                    column,
                };
                self.element(element, at)
            })
            .collect()
    }

    fn element(&self, element: &Element, at: At) -> Option<Node> {
        Some(match element {
            Element::RawString(text) if text.is_empty() => return None,
            Element::RawString(text) => Node::Text(text.clone()),
            Element::Expression(helper) | Element::HtmlExpression(helper) => {
                Node::Print(at, tag(helper))
            }
            Element::HelperBlock(helper) => Node::Block(Box::new(self.block(helper, at))),
            Element::PartialExpression(partial) | Element::PartialBlock(partial) => {
                Node::Include(Box::new(self.include(partial, at)))
            }
            Element::DecoratorExpression(inline) | Element::DecoratorBlock(inline) => {
                let name = match inline.params.first() {
                    Some(Parameter::Literal(name)) => name.as_str().unwrap_or_default(),
                    _ => "",
                };
                Node::Inline(Inline {
                    at,
                    name: name.to_owned(),
                    body: self.inside(inline.template.as_ref()).unwrap_or_default(),
                })
            }
            _ => return None, // Comments.
        })
    }

    fn inside(&self, template: Option<&Template>) -> Option<Vec<Node>> {
        template.map(|template| self.template(template))
    }

    fn block(&self, helper: &HelperTemplate, at: At) -> Block {
        Block {
            at,
            call: call(helper),
            binds: scope::binds(helper)
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            body: self.inside(helper.template.as_ref()).unwrap_or_default(),
            inverse: self.inside(helper.inverse.as_ref()),
        }
    }

    fn include(&self, partial: &DecoratorTemplate, at: At) -> Include {
        Include {
            at,
            name: match &partial.name {
                Parameter::Literal(name) => name.as_str().unwrap_or_default().to_owned(),
                other => head(other).to_owned(),
            },
            parameters: partial.params.iter().map(expression).collect(),
            pairs: pairs(&partial.hash),
            block: self.inside(partial.template.as_ref()),
        }
    }
}

/// What a tag prints.
fn tag(helper: &HelperTemplate) -> Expression {
    match is_path(helper) {
        true => expression(&helper.name),
        false => Expression::Call(Box::new(call(helper))),
    }
}

fn expression(parameter: &Parameter) -> Expression {
    match parameter {
        Parameter::Literal(value) => Expression::Literal(value.clone()),
        Parameter::Path(Path::Local((_, name, _))) => Expression::Variable(name.clone()),
        Parameter::Path(path) => Expression::Path(path_name(raw(path))),
        Parameter::Name(name) => Expression::Path(path_name(name)),
        Parameter::Subexpression(inner) => match inner.element.as_ref() {
            Element::Expression(helper) => Expression::Call(Box::new(call(helper))),
            _ => Expression::Literal(Value::Null),
        },
        _ => Expression::Literal(Value::Null), // No other kind is there today.
    }
}

fn call(helper: &HelperTemplate) -> Call {
    let name = head(&helper.name);
    let query = match helpers::find(name).map(|entry| entry.action) {
        Some(Action::Query(reads)) => {
            let pairs = helper
                .hash
                .iter()
                .map(|(name, value)| (name.as_str(), value));
            helpers::literal_query(reads, &helper.params, &pairs.collect())
                .and_then(|query| query.ok())
        }
        _ => None,
    };
    Call {
        name: name.to_owned(),
        parameters: helper.params.iter().map(expression).collect(),
        pairs: pairs(&helper.hash),
        query,
    }
}

fn pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a String, &'a Parameter)>,
) -> BTreeMap<String, Expression> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.clone(), expression(value)))
        .collect()
}

fn path_name(text: &str) -> PathName {
    let mut rest = text;
    let mut up = 0;
    loop {
        if let Some(inner) = rest.strip_prefix("../") {
            up += 1;
            rest = inner;
        } else if let Some(inner) = ["./", "this.", "this/"]
            .iter()
            .find_map(|prefix| rest.strip_prefix(prefix))
        {
            rest = inner;
        } else {
            break;
        }
    }
    match rest {
        "this" | "." => rest = "",
        ".." => {
            up += 1;
            rest = "";
        }
        _ => {}
    }
    PathName {
        text: text.to_owned(),
        up,
        names: names(rest),
    }
}

/// The names between dots or slashes; those in brackets may hold either.
fn names(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut bracket = false;
    for letter in text.chars() {
        match (letter, bracket, names.last_mut()) {
            ('[', false, _) => bracket = true,
            (']', true, _) => bracket = false,
            ('.' | '/', false, _) => names.push(String::new()),
            (letter, _, Some(name)) => name.push(letter),
            (_, _, None) => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn a_template_is_told_part_by_part() {
        let set = load(
            "backend b\n{{#each (service \"web\") as |s|}}\n  server {{s.Address}}:{{../Port.[a.b]}} {{@index}}\n{{else}}\n  # none\n{{/each}}\n{{> p this x=1}}\n{{#*inline \"i\"}}{{/inline}}",
            &[("p", "{{key \"a\"}}{{> i}}")],
        )
        .unwrap();
        let outlines = set.outlines();
        let [
            Node::Text(text),
            Node::Block(block),
            Node::Include(include),
            Node::Inline(inline),
        ] = &outlines.nodes[0][..]
        else {
            panic!("{:#?}", outlines.nodes[0]);
        };
        assert_eq!(text, "backend b\n");
        assert_eq!(block.call.name, "each");
        assert_eq!(block.binds, ["s"]);
        assert_eq!((block.at.line, block.at.column), (2, 1));
        assert!(
            matches!(&block.inverse.as_deref(), Some([Node::Text(text)]) if text == "  # none\n")
        );
        let paths: Vec<(usize, &[String])> = block
            .body
            .iter()
            .filter_map(|node| match node {
                Node::Print(_, Expression::Path(path)) => Some((path.up, &path.names[..])),
                _ => None,
            })
            .collect();
        assert_eq!(
            paths,
            [
                (0, &["s".to_owned(), "Address".to_owned()][..]),
                (1, &["Port".to_owned(), "a.b".to_owned()][..])
            ]
        );
        assert_eq!(include.name, "p");
        assert!(
            matches!(&include.parameters[..], [Expression::Path(path)] if path.names.is_empty())
        );
        assert_eq!(inline.name, "i");
        let queries: Vec<String> = outlines
            .queries()
            .into_iter()
            .map(|(at, name, query)| format!("{} {name} {query}", at.source))
            .collect();
        assert_eq!(queries, ["0 service service \"web\"", "1 key key \"a\""]);
        let (partials, names) = outlines.reached();
        assert_eq!(partials, BTreeSet::from([1]));
        assert_eq!(names, BTreeSet::from(["p", "i"]));
        assert_eq!(outlines.word(block.at, "web", "").column, 19);
        assert_eq!(outlines.word(block.at, "s", "|").column, 29);
    }
}
