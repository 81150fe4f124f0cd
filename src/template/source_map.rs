//! Where each line of a rendered file came from: the template and the places it was included from, down to
//! the column, and the item of the catalog that was being written. Pure; places are worked out when asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Source;
use super::load::Spot;
use super::place::{Lines, literal_place, tag_place};
use super::writer::{LineMarks, Segment};
use crate::catalog::{ItemName, Query};
use crate::diagnostic::{Cause, Place};

/// A tag or a stretch of text in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The template's or partial's name.
    pub template: String,
    /// Its file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// An item of the catalog that a line was written from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The query in whose answer it is, where that is known.
    pub query: Option<Query>,
    /// What it is: `Instance ID on node NODE`.
    pub what: String,
    /// By what it is the same in another answer, where that is known.
    pub name: Option<ItemName>,
}

impl Item {
    /// The same, as a part of a diagnostic.
    pub fn cause(&self) -> Cause {
        let mut letters = self.what.chars();
        let first = letters.next().map(|first| first.to_ascii_lowercase());
        Cause {
            query: self
                .query
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            // It stands inside a sentence.
            item: Some(first.into_iter().chain(letters).collect()),
        }
    }
}

/// The origin of one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The place in the template, then the places where it was included, innermost first.
    pub chain: Vec<Position>,
    /// The queries whose answers were being read.
    pub queries: BTreeSet<Query>,
    /// The items that were being gone through, outermost first.
    pub items: Vec<Item>,
}

/// What a stretch of a line was made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Column of the rendered line, from 1.
    pub column: usize,
    /// How many characters of it.
    pub length: usize,
    /// The text of the template, or the whole tag whose value it is.
    pub place: Place,
    /// Whether it is a value.
    pub value: bool,
}

/// The origins of a file's lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceMap {
    lines: Vec<LineMarks>,
    from: Arc<From>,
}

/// What the marks of lines mean.
#[derive(Debug, Default, PartialEq)]
pub struct From {
    /// Templates and partials.
    pub sources: Arc<[Source]>,
    /// Where each position is.
    pub spots: Arc<[Spot]>,
    /// The last query of each call.
    pub calls: BTreeMap<u64, Query>,
    /// Items of the catalog by their numbers.
    pub items: Vec<Item>,
}

impl SourceMap {
    /// Of lines in order.
    pub fn new(lines: Vec<LineMarks>, from: Arc<From>) -> SourceMap {
        SourceMap { lines, from }
    }

    /// The origin of a line, counted from 1.
    pub fn origin(&self, line: usize) -> Option<Origin> {
        let marks = self.line(line)?;
        let first = marks.segments.first()?;
        let chain = std::iter::once(self.position(first.at, first.offset))
            .chain(first.includes.iter().rev().map(|at| self.position(*at, 0)))
            .flatten()
            .collect();
        Some(Origin {
            chain,
            queries: self.queries(marks).cloned().collect(),
            items: marks
                .items
                .iter()
                .filter_map(|number| self.from.items.get(*number).cloned())
                .collect(),
        })
    }

    /// The items within whose rounds a column of a line was written, outermost first; both count from 1.
    /// The line itself may hold more of them, side by side.
    pub fn items_at(&self, line: usize, column: usize) -> Vec<Item> {
        let column = column.saturating_sub(1);
        let segments = self.line(line).map(|marks| marks.segments.as_slice());
        let segment = segments
            .unwrap_or_default()
            .iter()
            .find(|one| (one.column..one.column + one.length).contains(&column));
        let numbers = segment.map(|segment| segment.items.iter());
        let items = numbers.into_iter().flatten();
        items
            .filter_map(|number| self.from.items.get(*number).cloned())
            .collect()
    }

    /// The template of a file, by its place in the set.
    pub fn template(&self, index: usize) -> Option<Place> {
        self.from
            .sources
            .get(index)
            .map(|source| Place::file(&source.path))
    }

    /// What a column of a line was made by; both count from 1.
    pub fn part(&self, line: usize, column: usize) -> Option<Part> {
        self.parts(line)
            .into_iter()
            .find(|part| (part.column..part.column + part.length).contains(&column))
    }

    /// What each stretch of a line was made by, in order.
    pub fn parts(&self, line: usize) -> Vec<Part> {
        let segments = self.line(line).map(|marks| marks.segments.as_slice());
        segments
            .unwrap_or_default()
            .iter()
            .filter_map(|segment| {
                Some(Part {
                    column: segment.column + 1,
                    length: segment.length,
                    place: self.place(segment)?,
                    value: segment.tag,
                })
            })
            .collect()
    }

    /// The lines that came of a query, from 1.
    pub fn lines_of(&self, query: &Query) -> Vec<usize> {
        self.lines
            .iter()
            .enumerate()
            .filter(|(_, marks)| self.queries(marks).any(|one| one == query))
            .map(|(index, _)| index + 1)
            .collect()
    }

    fn line(&self, line: usize) -> Option<&LineMarks> {
        self.lines.get(line.checked_sub(1)?)
    }

    fn queries<'a>(&'a self, marks: &'a LineMarks) -> impl Iterator<Item = &'a Query> {
        let segments = marks.segments.iter();
        segments
            .flat_map(|segment| segment.includes.iter().chain([&segment.at]))
            .filter_map(|at| self.from.spots.get(*at))
            .flat_map(|spot| &spot.calls)
            .filter_map(|call| self.from.calls.get(call))
    }

    fn position(&self, at: usize, offset: usize) -> Option<Position> {
        let spot = self.from.spots.get(at)?;
        let source = self.from.sources.get(spot.source)?;
        Some(Position {
            template: source.name.clone(),
            path: source.path.clone(),
            line: spot.line + offset,
            column: if offset == 0 { spot.column } else { 1 },
        })
    }

    fn place(&self, segment: &Segment) -> Option<Place> {
        let spot = self.from.spots.get(segment.at)?;
        let source = self.from.sources.get(spot.source)?;
        Some(match segment.tag {
            true => tag_place(source, &Lines::new(&source.text), spot.line, spot.column),
            false => {
                let column = match segment.offset {
                    0 => spot.column + segment.inner,
                    _ => 1 + segment.inner,
                };
                literal_place(source, spot.line + segment.offset, column, segment.length)
            }
        })
    }
}
