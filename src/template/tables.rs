//! The route tables of one rendering: each is made once, however many templates ask for it. Pure.

use std::sync::Arc;

use crate::routes::layout::Layout;
use crate::routes::{Rules, Table};

/// Templates ask for one table, or for a few that differ. Of more, the first ones are made again.
const MOST: usize = 4;

/// What a table is made by.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub rules: Rules,
    /// The key, and the folder of keys, that hold lines of routes.
    pub overrides: String,
}

/// A table, and what of it becomes what.
#[derive(Debug)]
pub struct Made {
    pub table: Table,
    pub layout: Layout,
}

/// The tables made so far.
#[derive(Debug, Default)]
pub struct Tables {
    kept: Vec<(Wanted, Vec<u64>, Arc<Made>)>,
}

impl Tables {
    /// A table, and the editions of the answers that it was made from.
    pub fn find(&self, wanted: &Wanted) -> Option<(Arc<Made>, &[u64])> {
        let mut kept = self.kept.iter();
        let (_, asked, made) = kept.find(|(by, ..)| by == wanted)?;
        Some((Arc::clone(made), asked))
    }

    /// Takes a table that was made from all the answers it asked for.
    pub fn keep(&mut self, wanted: Wanted, asked: Vec<u64>, made: Arc<Made>) {
        if self.kept.len() == MOST {
            self.kept.remove(0);
        }
        self.kept.push((wanted, asked, made));
    }
}
