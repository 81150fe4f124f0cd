//! What tests measured, for people: a line on the terminal and a file below `target/measured`, from which
//! `tests/README.md` has its tables. Nothing is asserted here.

use std::fmt::Display;
use std::io::Write as _;

use super::tools;

/// Notes `value` (with its unit) for `what` under `run`, the name of a run in the table of
/// `tests/README.md` such as `e03`, or the id of an entry of the fault catalogue.
///
/// The test runner keeps back what passing tests print; this goes to the terminal all the same.
pub fn note(run: &str, what: &str, value: impl Display) {
    let line = format!("{run} | {what} | {value}\n");
    let _ = std::io::stderr().write_all(format!("measured: {line}").as_bytes());
    let folder = tools::root().join("target/measured");
    let name: String = what
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(60)
        .collect();
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(format!("{run}-{name}")), line);
}
