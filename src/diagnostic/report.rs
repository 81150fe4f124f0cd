//! The result of a check as plain data, for people and machines.

use std::path::PathBuf;
use std::time::Duration;

use super::Diagnostic;
use crate::exit;

/// What came of a run of checks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// One for each set of templates and catalog.
    pub cases: Vec<Case>,
}

/// What came of one set of templates with one catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// `haproxy.cfg.hbs with fixtures/three.json`.
    pub name: String,
    /// The templates of the set.
    pub templates: Vec<PathBuf>,
    /// The catalog file; none for a made catalog.
    pub catalog: Option<PathBuf>,
    /// The exit code that it alone would give.
    pub code: u8,
    /// What is to be told of it.
    pub diagnostics: Vec<Diagnostic>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// The exit code of the whole run.
    pub fn code(&self) -> u8 {
        self.cases
            .iter()
            .map(|case| case.code)
            .max()
            .unwrap_or(exit::OK)
    }
}
