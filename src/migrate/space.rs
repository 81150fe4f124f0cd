//! Blanks and line ends around tags. Go keeps the line end after a tag that stands alone on its line;
//! Handlebars swallows such a line whole. Decided here, before anything is converted: which tags may
//! become lines of Handlebars, and which must keep their surroundings to the byte.
//!
//! A tag on a line of its own may become such a line when what Go writes differs from it by empty lines
//! at most. That is so when all tags of its block stand on lines of their own and
//!
//! * none of them trims on its right: then Go begins a new line after each of them; or
//! * none of them trims on its left and those that trim on their right begin at the first column: then
//!   Go is at the beginning of a line before each of them.
//!
//! If all of them trim on the same side, the line end before each is written instead of the one after
//! it, or the other way round, and nothing differs at all.
//!
//! Of other blocks, a single tag may become a line when Go is at the beginning of a line in all places
//! from which it comes there.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::SPACE;
use super::tree::{Define, Node, Tag, Word};

/// How a tag is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether it becomes a line of Handlebars.
    pub line: bool,
    /// The blanks before it on its line.
    pub indent: String,
    /// Whether it trims, and there is something to trim.
    pub left: bool,
    pub right: bool,
    /// Whether the trim on the left joins the tag to what was written before.
    joins: bool,
    /// Whether what Go writes differs by empty lines.
    pub loses_lines: bool,
}

/// The styles of all tags, by where they begin.
#[derive(Debug, Default)]
pub struct Styles {
    begin: BTreeMap<usize, Style>,
    end: BTreeMap<usize, usize>,
}

impl Styles {
    /// The style of a tag.
    pub fn of(&self, tag: &Tag) -> Style {
        self.begin
            .get(&tag.range.start)
            .cloned()
            .unwrap_or_default()
    }

    /// The style of the tag that begins at this byte.
    pub fn beginning(&self, at: usize) -> Option<&Style> {
        self.begin.get(&at)
    }

    /// The style of the tag that ends at this byte.
    pub fn ending(&self, at: usize) -> Option<&Style> {
        self.begin.get(self.end.get(&at)?)
    }

    /// How many lines are lost.
    pub fn lost(&self) -> usize {
        self.begin
            .values()
            .filter(|style| style.loses_lines)
            .count()
    }
}

/// What a tag is to its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It writes something, or must keep its place for another reason.
    Solid,
    /// A part of a block.
    Block,
    /// It writes nothing: a comment, or a variable that is set.
    Quiet,
    /// A part of a named template.
    Define,
    /// Where a named template is written.
    Include,
}

struct Mark<'a> {
    tag: &'a Tag,
    part: Part,
    /// Tags of one group are lines together, or none is.
    group: usize,
}

/// Decides for all tags. With `exact`, nothing may differ.
pub fn styles(source: &str, nodes: &[Node], exact: bool) -> Styles {
    let mut marks = Marks {
        list: Vec::new(),
        blocks: Vec::new(),
        names: BTreeMap::new(),
        groups: 0,
    };
    marks.list(nodes);
    let (marks, blocks) = (marks.list, marks.blocks);
    let exactly = decide(source, &marks, true);
    let wanted = match exact {
        true => exactly.clone(),
        false => {
            let mut styles = decide(source, &marks, false);
            loosen(source, &marks, &blocks, &mut styles);
            styles
        }
    };
    let mut made = Styles::default();
    for ((mark, mut style), exactly) in marks.iter().zip(wanted).zip(exactly) {
        style.loses_lines = style.line && !exactly.line;
        made.end.insert(mark.tag.range.end, mark.tag.range.start);
        made.begin.insert(mark.tag.range.start, style);
    }
    made
}

fn decide(source: &str, marks: &[Mark<'_>], exact: bool) -> Vec<Style> {
    let mut styles = surroundings(source, marks, exact);
    while narrow(source, marks, &mut styles, exact) {}
    styles
}

/// The tags of a block, by their numbers.
struct Block {
    tags: Vec<usize>,
    /// Whether its body may be followed by itself.
    loops: bool,
    /// Whether one of its parts is always written.
    otherwise: bool,
}

struct Marks<'a> {
    list: Vec<Mark<'a>>,
    blocks: Vec<Block>,
    /// Groups of named templates.
    names: BTreeMap<&'a str, usize>,
    groups: usize,
}

impl<'a> Marks<'a> {
    fn group(&mut self) -> usize {
        self.groups += 1;
        self.groups
    }

    fn push(&mut self, tag: &'a Tag, part: Part, group: usize) {
        self.list.push(Mark { tag, part, group });
    }

    fn named(&mut self, name: &'a str) -> usize {
        match self.names.get(name) {
            Some(group) => *group,
            None => {
                let group = self.group();
                self.names.insert(name, group);
                group
            }
        }
    }

    fn define(&mut self, define: &'a Define, part: Part) {
        let group = self.named(&define.name);
        self.push(&define.open, part, group);
        self.list(&define.body);
        self.push(&define.close, part, group);
    }

    fn list(&mut self, nodes: &'a [Node]) {
        for node in nodes {
            match node {
                Node::Text(_) => {}
                Node::Comment(tag) | Node::Jump(tag) => {
                    let group = self.group();
                    self.push(tag, Part::Quiet, group);
                }
                Node::Action(tag, pipe) => {
                    let part = match pipe.names.is_empty() {
                        true => Part::Solid,
                        false => Part::Quiet,
                    };
                    let group = self.group();
                    self.push(tag, part, group);
                }
                Node::Branch(branch) => {
                    let group = self.group();
                    let mut tags = vec![self.list.len()];
                    self.push(&branch.open, Part::Block, group);
                    self.list(&branch.body);
                    for (tag, _, body) in &branch.others {
                        tags.push(self.list.len());
                        self.push(tag, Part::Block, group);
                        self.list(body);
                    }
                    tags.push(self.list.len());
                    self.push(&branch.close, Part::Block, group);
                    let last = branch.others.last();
                    self.blocks.push(Block {
                        tags,
                        loops: branch.word == Word::Range,
                        otherwise: last.is_some_and(|(_, pipe, _)| pipe.is_none()),
                    });
                }
                Node::Include { tag, name, .. } => {
                    let group = self.named(name);
                    self.push(tag, Part::Include, group);
                }
                Node::Define(define) => self.define(define, Part::Define),
                Node::Block(define, _) => self.define(define, Part::Solid),
            }
        }
    }
}

/// The text before a tag, from the tag before it.
fn before<'a>(source: &'a str, marks: &[Mark<'_>], at: usize) -> &'a str {
    let start = match at {
        0 => 0,
        at => marks[at - 1].tag.range.end,
    };
    &source[start..marks[at].tag.range.start]
}

fn after<'a>(source: &'a str, marks: &[Mark<'_>], at: usize) -> &'a str {
    let end = marks
        .get(at + 1)
        .map_or(source.len(), |next| next.tag.range.start);
    &source[marks[at].tag.range.end..end]
}

fn is_blank(text: &str) -> bool {
    text.trim_start_matches(SPACE).is_empty()
}

/// The tags' trims as far as they do anything, and which stand on lines of their own.
fn surroundings(source: &str, marks: &[Mark<'_>], exact: bool) -> Vec<Style> {
    let mut made: Vec<Style> = Vec::with_capacity(marks.len());
    // Nothing was written yet, so that there is nothing that a trim could join to something.
    let mut head = true;
    for (at, mark) in marks.iter().enumerate() {
        let (before, after) = (before(source, marks, at), after(source, marks, at));
        let trimmed = made.last().is_some_and(|last| last.right) && is_blank(before);
        head &= is_blank(before);
        let left = mark.tag.left && before.ends_with(SPACE) && !trimmed;
        let joins = left && (!head || exact);
        let right = mark.tag.right && after.starts_with(SPACE);
        let (line_start, indent) = split_indent(before);
        head &= mark.part == Part::Quiet && indent.is_empty();
        let begins = line_start.ends_with('\n') || (line_start.is_empty() && at == 0);
        let rest = after.trim_start_matches([' ', '\t']);
        let at_end = after.is_empty() && at + 1 == marks.len();
        let ends = rest.starts_with('\n') || rest.starts_with("\r\n") || at_end;
        let trims = match mark.part {
            Part::Solid => true,
            Part::Block | Part::Quiet => right && (joins || !indent.is_empty()),
            Part::Define => mark.tag.left || mark.tag.right,
            Part::Include => right,
        };
        // To the byte: only where a line end can be written before instead of after, or the other
        // way round.
        let moved = !exact
            || (left && !at_end && rest.len() == after.len() && !(at == 0 && is_blank(before)))
            || right;
        let part = !exact || matches!(mark.part, Part::Block | Part::Quiet);
        made.push(Style {
            line: begins && ends && !trims && moved && part,
            indent: match mark.part {
                // Handlebars would write it before each line of what is included.
                Part::Include => String::new(),
                _ => indent.to_owned(),
            },
            left,
            right,
            joins,
            loses_lines: false,
        });
    }
    made
}

fn split_indent(text: &str) -> (&str, &str) {
    let start = text.trim_end_matches([' ', '\t']).len();
    text.split_at(start)
}

/// Takes lines back whose group or neighbours do not allow them; says whether there were any.
fn narrow(source: &str, marks: &[Mark<'_>], styles: &mut [Style], exact: bool) -> bool {
    let mut refused: BTreeSet<usize> = BTreeSet::new();
    // How many tags each group has, how many of them trim on which side, and how many are indented.
    let mut groups: BTreeMap<usize, [usize; 4]> = BTreeMap::new();
    for (at, mark) in marks.iter().enumerate() {
        let style = &styles[at];
        let [tags, lefts, rights, indented] = groups.entry(mark.group).or_default();
        *tags += 1;
        *lefts += usize::from(style.joins);
        *rights += usize::from(style.right);
        *indented += usize::from(!style.indent.is_empty());
        let before_gone = at > 0
            && styles[at - 1].right
            && !styles[at - 1].line
            && is_blank(before(source, marks, at));
        let after_gone = styles
            .get(at + 1)
            .is_some_and(|next| next.left && !next.line)
            && is_blank(after(source, marks, at));
        if !style.line || (before_gone && !style.left) || (after_gone && !style.right) {
            refused.insert(mark.group);
        }
    }
    for (group, [tags, lefts, rights, indented]) in groups {
        let mixed = rights > 0 && (lefts > 0 || indented > 0);
        if mixed || (exact && lefts != tags && rights != tags) {
            refused.insert(group);
        }
    }
    let mut changed = false;
    for (mark, style) in marks.iter().zip(styles) {
        if style.line && refused.contains(&mark.group) {
            style.line = false;
            changed = true;
        }
    }
    changed
}

/// Makes lines of single tags of blocks that are not lines as a whole.
fn loosen(source: &str, marks: &[Mark<'_>], blocks: &[Block], styles: &mut [Style]) {
    // Whether Go is at the beginning of a line before a tag, or behind blanks there.
    let begins = |styles: &[Style], at: usize| {
        let before = before(source, marks, at);
        let eaten = at > 0 && styles[at - 1].right && is_blank(before);
        let (line, _) = split_indent(before);
        !styles[at].left && !eaten && (line.ends_with('\n') || (at == 0 && line.is_empty()))
    };
    let ends = |styles: &[Style], at: usize| {
        let after = after(source, marks, at);
        let eaten = styles.get(at + 1).is_some_and(|next| next.left) && is_blank(after);
        let rest = after.trim_start_matches([' ', '\t']);
        !styles[at].right && !eaten && (rest.starts_with('\n') || rest.starts_with("\r\n"))
    };
    for block in blocks {
        if block.tags.iter().any(|at| styles[*at].line) {
            continue;
        }
        let [open, rest @ ..] = block.tags.as_slice() else {
            continue;
        };
        let bare = |at: &usize| styles[*at].indent.is_empty() && begins(styles, *at);
        let opens = bare(open);
        let body_ends = rest.first().is_some_and(bare);
        let others_end = rest.iter().rev().skip(1).all(bare);
        let mut lines = Vec::new();
        for (place, at) in block.tags.iter().enumerate() {
            let closes = place + 1 == block.tags.len();
            let comes_from_line_start = match (place, closes) {
                (0, _) => opens && (body_ends || !block.loops),
                (_, true) => others_end && (opens || block.otherwise),
                _ => opens,
            };
            // Blanks before the tag would be lost from a line that goes on.
            let plain = styles[*at].indent.is_empty() || (closes && !block.loops);
            if comes_from_line_start && plain && begins(styles, *at) && ends(styles, *at) {
                lines.push(*at);
            }
        }
        for at in lines {
            styles[at].line = true;
        }
    }
}
