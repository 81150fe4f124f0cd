//! Lints on templates as they were compiled. Each template is gone through as it would be rendered, partials in
//! the places where they are included, so that what `this` is there is known.

mod empty;
mod names;
mod values;

use std::collections::BTreeSet;
use std::path::PathBuf;

use self::empty::Flow;
use super::shape::Shape;
use crate::diagnostic::{Diagnostic, Place};
use crate::template::Grammar;
use crate::template::outline::{
    At, Block, Expression, Include, Inline, Node, Outlines, Part, each_node,
};

/// Nodes that are looked at in all; partials that include each other often may be long to go through.
const BUDGET: usize = 200_000;

/// What is most likely not meant in the templates, and in the partials where they include them.
pub fn templates(outlines: &Outlines) -> Vec<Diagnostic> {
    let mut walk = Walk {
        outlines,
        stack: Vec::new(),
        bound: Vec::new(),
        includes: Vec::new(),
        inline: Vec::new(),
        flow: None,
        asks_servers: empty::asks_how_many(outlines),
        found: Vec::new(),
        told: BTreeSet::new(),
        budget: BUDGET,
    };
    for index in 0..outlines.templates {
        walk.stack = vec![Shape::Nothing];
        walk.flow = (outlines.sources[index].grammar == Grammar::Haproxy).then(Flow::default);
        collect_inline(&outlines.nodes[index], &mut walk.inline);
        walk.nodes(&outlines.nodes[index]);
        walk.flow_ends();
    }
    walk.found
}

/// A name that a block binds.
struct Bound {
    name: String,
    shape: Shape,
    at: At,
    used: bool,
}

struct Walk<'a> {
    outlines: &'a Outlines,
    /// What `this` is, and what it is in the blocks around, innermost last.
    stack: Vec<Shape>,
    bound: Vec<Bound>,
    /// The includes that led here, outermost first.
    includes: Vec<At>,
    /// Inline partials that are defined so far.
    inline: Vec<&'a Inline>,
    /// Where in a configuration the text is.
    flow: Option<Flow>,
    /// Whether a condition somewhere asks how many servers a backend has.
    asks_servers: bool,
    found: Vec<Diagnostic>,
    /// Code and place of what was told already.
    told: BTreeSet<(&'static str, PathBuf, usize, usize)>,
    budget: usize,
}

fn collect_inline<'a>(nodes: &'a [Node], found: &mut Vec<&'a Inline>) {
    each_node(nodes, &mut |node| {
        if let Node::Inline(inline) = node {
            found.push(inline);
        }
    });
}

impl<'a> Walk<'a> {
    fn nodes(&mut self, nodes: &'a [Node]) {
        for node in nodes {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            match node {
                Node::Text(text) => self.flow_text(text),
                Node::Print(at, expression) => self.print(*at, expression),
                Node::Block(block) => self.block(block),
                Node::Include(include) => self.include(include),
                // It is gone through where it is included. Names that it reads are read.
                Node::Inline(inline) => self.mark(&inline.body),
            }
        }
    }

    fn block(&mut self, block: &'a Block) {
        let at = block.at;
        let name = block.call.name.as_str();
        let parameters = match name {
            // A condition on what is never there is told when templates are loaded.
            "if" | "unless" => self.condition(at, &block.call),
            _ => self.parameters(at, &block.call),
        };
        let value = parameters.first().cloned().unwrap_or(Shape::Unknown);
        let here = self.stack.last().cloned().unwrap_or(Shape::Unknown);
        let (inside, bound) = match name {
            "each" => (Some(value.element()), vec![value.element(), value.label()]),
            "with" => (Some(value.clone()), vec![value.clone()]),
            "let" => (Some(here), vec![value.clone()]),
            _ => (None, Vec::new()),
        };
        let pushed = inside.is_some();
        self.stack.extend(inside);
        let outer = self.bound.len();
        let shapes = bound.into_iter().chain(std::iter::repeat(Shape::Unknown));
        for (name, shape) in block.binds.iter().zip(shapes) {
            self.binds(at, name);
            self.bound.push(Bound {
                name: name.clone(),
                shape,
                at,
                used: false,
            });
        }
        self.shadowed_fields(outer);
        self.flow_enters(block, &value);
        self.nodes(&block.body);
        self.flow_turns();
        for bound in self.bound.split_off(outer) {
            if name == "let" && !bound.used && self.budget > 0 {
                self.unused_name(&bound);
            }
        }
        if pushed {
            self.stack.pop();
        }
        self.nodes(block.inverse.as_deref().unwrap_or_default());
        self.flow_leaves();
    }

    fn include(&mut self, include: &'a Include) {
        let at = include.at;
        let mut given = Vec::new();
        for one in &include.parameters {
            given.push(self.shape(at, one));
        }
        let pairs: Vec<(&String, Shape)> = include
            .pairs
            .iter()
            .map(|(name, one)| (name, self.shape(at, one)))
            .collect();
        let block = include.block.as_deref().unwrap_or_default();
        // What stands in the block is written where the partial says so, if it does.
        self.mark(block);
        let Some(body) = self.body(&include.name) else {
            return;
        };
        if self.includes.len() >= 32 || self.includes.contains(&at) {
            return;
        }
        let here = match (given.into_iter().next(), pairs.is_empty()) {
            (Some(shape), true) => shape,
            (None, true) => self.stack.last().cloned().unwrap_or(Shape::Unknown),
            // Fields are added to it.
            (_, false) => Shape::Unknown,
        };
        // Names that are bound outside may or may not be seen in a partial.
        let shapes: Vec<Shape> = self
            .bound
            .iter_mut()
            .map(|bound| std::mem::replace(&mut bound.shape, Shape::Unknown))
            .collect();
        let outer = self.bound.len();
        for (name, shape) in pairs {
            self.bound.push(Bound {
                name: name.clone(),
                shape,
                at,
                used: true,
            });
        }
        self.stack.push(here);
        self.includes.push(at);
        self.nodes(body);
        self.includes.pop();
        self.stack.pop();
        self.bound.truncate(outer);
        for (bound, shape) in self.bound.iter_mut().zip(shapes) {
            bound.shape = shape;
        }
    }

    /// What stands in the partial of a name.
    fn body(&self, name: &str) -> Option<&'a [Node]> {
        let inline = self.inline.iter().rev().find(|inline| inline.name == name);
        if let Some(inline) = inline {
            return Some(&inline.body);
        }
        let index = self.outlines.partial(name)?;
        self.outlines.nodes.get(index).map(Vec::as_slice)
    }

    /// Takes the names that some nodes read for used.
    fn mark(&mut self, nodes: &[Node]) {
        let mut names = BTreeSet::new();
        each_node(nodes, &mut |node| {
            node.each_part(&mut |_, part| {
                if let Part::Path(path) = part {
                    names.extend(path.names.first().map(String::as_str));
                }
            });
        });
        for bound in &mut self.bound {
            bound.used |= names.contains(bound.name.as_str());
        }
    }

    fn warn(&mut self, code: &'static str, place: Place, message: String, help: String) {
        let key = (code, place.path.clone(), place.line, place.column);
        if !self.told.insert(key) {
            return;
        }
        let mut warning = Diagnostic::warning(code, message).at(place).help(help);
        let includes = self.includes.iter().rev();
        warning.includes = includes.map(|at| self.outlines.tag(*at)).collect();
        self.found.push(warning);
    }

    /// A path of an expression as a word of its tag.
    fn path_place(&self, at: At, expression: &Expression) -> Place {
        match expression {
            Expression::Path(path) => self.outlines.word(at, &path.text, ""),
            Expression::Call(call) => self.outlines.word(at, &call.name, ""),
            Expression::Literal(value) => match value {
                serde_json::Value::String(text) => self.outlines.word(at, text, ""),
                other => self.outlines.word(at, &other.to_string(), ""),
            },
            Expression::Variable(_) => self.outlines.tag(at),
        }
    }
}

#[cfg(test)]
pub(in crate::lint) mod tests;
