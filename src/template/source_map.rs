//! Where each line of a rendered file came from.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::catalog::Query;

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

/// The origin of one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The place in the template, then the places where it was included, innermost first.
    pub chain: Vec<Position>,
    /// The queries whose answers were being read.
    pub queries: BTreeSet<Query>,
}

/// The origins of a file's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceMap {
    lines: Vec<Origin>,
}

impl SourceMap {
    /// Of lines in order.
    pub fn new(lines: Vec<Origin>) -> SourceMap {
        SourceMap { lines }
    }

    /// The origin of a line, counted from 1.
    pub fn origin(&self, line: usize) -> Option<&Origin> {
        self.lines
            .get(line.checked_sub(1)?)
            .filter(|origin| !origin.chain.is_empty())
    }

    /// How many lines came of a query, and the first of them.
    pub fn lines_of(&self, query: &Query) -> Vec<usize> {
        self.lines
            .iter()
            .enumerate()
            .filter(|(_, origin)| origin.queries.contains(query))
            .map(|(index, _)| index + 1)
            .collect()
    }
}
