//! A Go template as a tree. Every part knows its place, because what surrounds it decides how it is written.

use std::ops::Range;

/// A pair of delimiters with what stands between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its bytes, delimiters included.
    pub range: Range<usize>,
    /// `{{-`: the blanks before it are trimmed.
    pub left: bool,
    /// `-}}`: the blanks after it are trimmed.
    pub right: bool,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Text, as it stands in the file.
    Text(Range<usize>),
    /// `{{/* … */}}`
    Comment(Tag),
    /// `{{pipeline}}`
    Action(Tag, Pipe),
    /// `if`, `range` and `with`
    Branch(Box<Branch>),
    /// `{{break}}` or `{{continue}}`
    Jump(Tag),
    /// `{{template "name" pipeline}}`
    Include {
        tag: Tag,
        name: String,
        given: Option<Pipe>,
    },
    /// `{{define "name"}}…{{end}}`
    Define(Box<Define>),
    /// `{{block "name" pipeline}}…{{end}}`: defined and included at once.
    Block(Box<Define>, Pipe),
}

/// Which block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    If,
    Range,
    With,
}

/// `{{if}}…{{else if}}…{{else}}…{{end}}` and its like.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    pub word: Word,
    pub open: Tag,
    pub pipe: Pipe,
    pub body: Vec<Node>,
    /// Each `else`, with its condition if it has one.
    pub others: Vec<(Tag, Option<Pipe>, Vec<Node>)>,
    pub close: Tag,
}

/// A named part.
#[derive(Debug, Clone, PartialEq)]
pub struct Define {
    pub open: Tag,
    pub name: String,
    pub body: Vec<Node>,
    pub close: Tag,
}

/// Commands that give their value to the next, and the variables that get the last one's.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipe {
    pub range: Range<usize>,
    /// Variables that are set, with their `$`.
    pub names: Vec<String>,
    /// `=` instead of `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// A value, or a function with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub range: Range<usize>,
    pub operands: Vec<Operand>,
}

/// A value with fields taken of it: `$x.Name`, `(index …).Name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    pub range: Range<usize>,
    pub term: Term,
    pub fields: Vec<String>,
}

/// What an operand begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    Function(String),
    /// `.`, also before a field.
    Dot,
    /// With its `$`.
    Variable(String),
    Group(Box<Pipe>),
    Text(String),
    /// As Handlebars writes it.
    Number(String),
    Bool(bool),
    Nil,
}

/// Calls `see` with every pipeline of the nodes, those in parentheses too, and how many blocks that change
/// what `.` means are around it.
pub fn each_pipe<'a>(nodes: &'a [Node], depth: usize, see: &mut impl FnMut(&'a Pipe, usize)) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Comment(_) | Node::Jump(_) => {}
            Node::Action(_, pipe) => pipe_and_groups(pipe, depth, see),
            Node::Include { given, .. } => {
                if let Some(pipe) = given {
                    pipe_and_groups(pipe, depth, see);
                }
            }
            Node::Branch(branch) => {
                let inside = depth + usize::from(branch.word != Word::If);
                pipe_and_groups(&branch.pipe, depth, see);
                each_pipe(&branch.body, inside, see);
                for (_, pipe, body) in &branch.others {
                    let inside = match pipe {
                        Some(pipe) => {
                            pipe_and_groups(pipe, depth, see);
                            inside
                        }
                        None => depth,
                    };
                    each_pipe(body, inside, see);
                }
            }
            Node::Define(define) => each_pipe(&define.body, depth, see),
            Node::Block(define, pipe) => {
                pipe_and_groups(pipe, depth, see);
                each_pipe(&define.body, depth, see);
            }
        }
    }
}

fn pipe_and_groups<'a>(pipe: &'a Pipe, depth: usize, see: &mut impl FnMut(&'a Pipe, usize)) {
    see(pipe, depth);
    for operand in pipe.commands.iter().flat_map(|command| &command.operands) {
        if let Term::Group(inner) = &operand.term {
            pipe_and_groups(inner, depth, see);
        }
    }
}

/// Calls `see` with every named part of the nodes, outer ones first.
pub fn each_define<'a>(nodes: &'a [Node], see: &mut impl FnMut(&'a Define)) {
    for node in nodes {
        match node {
            Node::Define(define) | Node::Block(define, _) => {
                see(define);
                each_define(&define.body, see);
            }
            Node::Branch(branch) => {
                each_define(&branch.body, see);
                for (_, _, body) in &branch.others {
                    each_define(body, see);
                }
            }
            _ => {}
        }
    }
}

/// Calls `see` with the name and place of every include of the nodes and with what it is given, but not
/// with those in named parts.
pub fn each_include<'a>(nodes: &'a [Node], see: &mut impl FnMut(&'a str, usize, Option<&'a Pipe>)) {
    for node in nodes {
        match node {
            Node::Include { tag, name, given } => see(name, tag.range.start, given.as_ref()),
            Node::Block(define, pipe) => see(&define.name, define.open.range.start, Some(pipe)),
            Node::Branch(branch) => {
                each_include(&branch.body, see);
                for (_, _, body) in &branch.others {
                    each_include(body, see);
                }
            }
            _ => {}
        }
    }
}
