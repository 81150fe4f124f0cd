//! The tests that exist, read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use support::tools;

/// A test function.
pub struct Test {
    /// Without its module.
    pub name: String,
    /// The entries of the catalogue that it shows, as `A04`, and the promises, as `P6`.
    pub entries: Vec<String>,
}

/// Every test function below `src` and `tests`.
pub fn all() -> Vec<Test> {
    let mut found = Vec::new();
    for folder in ["src", "tests"] {
        collect(&tools::root().join(folder), &mut found);
    }
    found
}

/// The names of the tests that show an entry.
pub fn by_entry() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for test in all() {
        for entry in test.entries {
            found.entry(entry).or_default().insert(test.name.clone());
        }
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<Test>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            read(&std::fs::read_to_string(&path).unwrap(), found);
        }
    }
}

fn read(text: &str, found: &mut Vec<Test>) {
    let mut entries = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(named) = line.strip_prefix("// ").and_then(named_entries) {
            entries = named;
        } else if ["#[test]", "#[tokio::test", "#[haproxies", "#[consuls"]
            .iter()
            .any(|mark| line.starts_with(mark))
        {
            is_test = true;
        } else if let Some(name) = function(line) {
            let entries = std::mem::take(&mut entries);
            if std::mem::take(&mut is_test) {
                found.push(Test {
                    name: name.to_owned(),
                    entries,
                });
            }
        } else if !line.starts_with("//") && !line.starts_with('#') {
            entries.clear();
        }
    }
}

/// The words of a comment, if each is an entry or a promise.
fn named_entries(comment: &str) -> Option<Vec<String>> {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_entry = |word: &&str| match word.split_at_checked(1) {
        Some(("P", number)) => is_number(number),
        Some((area, number)) => {
            number.len() == 2
                && is_number(number)
                && area.bytes().all(|byte| (b'A'..=b'M').contains(&byte))
        }
        None => false,
    };
    let words: Vec<&str> = comment.split(' ').collect();
    words
        .iter()
        .all(is_entry)
        .then(|| words.into_iter().map(str::to_owned).collect())
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("async fn ")
        .or_else(|| line.strip_prefix("fn "))?;
    rest.split(['(', '<']).next()
}
