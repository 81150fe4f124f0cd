//! What HAProxy is and how to talk to it: its configuration language, its validation, its sockets
//! and its processes. Decides nothing.

pub mod address;
pub mod check;
pub mod child;
pub mod master;
pub mod process;
pub mod redact;
pub mod runtime;
pub mod sight;
pub mod socket;
pub mod stats;
pub mod supervise;
pub mod tally;

use std::path::PathBuf;

use crate::diagnostic::Severity;

pub mod alerts;
pub mod config;

/// Something that HAProxy's validation or our gate has to say about a rendered file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Errors refuse the set; warnings are shown.
    pub severity: Severity,
    /// A stable word for the kind: `haproxy` for HAProxy's own, else one of the gate's.
    pub code: &'static str,
    /// What is wrong, as a sentence (HAProxy's own words for its own).
    pub message: String,
    /// The destination path of the file, when it is known.
    pub file: Option<PathBuf>,
    /// Line of the rendered file, from 1; 0 when unknown.
    pub line: usize,
    /// Column of that line, from 1; 0 when unknown.
    pub column: usize,
    /// What to do about it.
    pub help: Option<String>,
}
