//! How a command fails: an exit code and what to tell.

use std::io::Write;

use crate::diagnostic::{Diagnostic, render};

/// The end of a command that did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    /// One of [`crate::exit`].
    pub code: u8,
    /// What to tell, on the standard error.
    pub diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// With several things to tell.
    pub fn new(code: u8, diagnostics: Vec<Diagnostic>) -> Failure {
        Failure { code, diagnostics }
    }

    /// With one thing to tell.
    pub fn one(code: u8, diagnostic: Diagnostic) -> Failure {
        Failure::new(code, vec![diagnostic])
    }

    /// Writes everything on the standard error; colours only on a terminal.
    pub fn print(&self) {
        print_diagnostics(&self.diagnostics);
    }
}

/// Writes diagnostics on the standard error; colours only on a terminal and without NO_COLOR.
pub fn print_diagnostics(diagnostics: &[Diagnostic]) {
    let mut error = anstream::stderr().lock();
    for diagnostic in diagnostics {
        let _ = writeln!(error, "{}", render(diagnostic, true));
    }
}
