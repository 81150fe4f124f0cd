//! Holds `tests/README.md` to the tests that there are: every entry of the fault catalogue has tests whose
//! names start with its id, or a reason why it has none.
//!
//! `MAP=write cargo test --test main map` writes the lists of tests anew, and the column of the runs that
//! `target/measured` has figures for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use support::tools;

/// How many entries each area has.
const AREAS: [(char, u32); 13] = [
    ('A', 22),
    ('B', 25),
    ('C', 18),
    ('D', 14),
    ('E', 14),
    ('F', 12),
    ('G', 18),
    ('H', 17),
    ('I', 12),
    ('J', 15),
    ('K', 8),
    ('L', 14),
    ('M', 10),
];
const REASONS: [&str; 2] = ["Not applicable: ", "Not built: "];

#[test]
fn every_entry_of_the_catalogue_is_tested_or_has_a_reason() {
    let path = tools::root().join("tests/README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let tests = tests_by_entry();
    let written = rewritten(&text, &tests);
    if std::env::var_os("MAP").is_some_and(|word| word == "write") {
        std::fs::write(&path, &written).unwrap();
    }
    let rows: BTreeMap<String, Vec<String>> = rows(&written);
    let mut wrong = Vec::new();
    for (area, count) in AREAS {
        for number in 1..=count {
            let id = format!("{area}{number:02}");
            match rows.get(&id) {
                None => wrong.push(format!("{id} is not in the table.")),
                Some(row) if row[3].is_empty() => {
                    wrong.push(format!(
                        "{id} ({}) has neither a test nor a reason.",
                        row[2]
                    ));
                }
                Some(row) if row[1].is_empty() => wrong.push(format!("{id} has no promise.")),
                Some(_) => {}
            }
        }
    }
    for id in tests.keys().filter(|id| !rows.contains_key(*id)) {
        wrong.push(format!(
            "The tests {:?} name the entry {id}, which the table does not have.",
            tests[id]
        ));
    }
    let total: u32 = AREAS.iter().map(|(_, count)| count).sum();
    assert_eq!(rows.len(), total as usize, "rows of the table");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let current = std::fs::read_to_string(&path).unwrap();
    assert!(
        without_figures(&current) == without_figures(&written),
        "tests/README.md names other tests than there are; `MAP=write cargo test --test main map` writes it anew"
    );
}

/// The tables of the README whose last column is `test`.
#[test]
fn every_test_that_the_readme_names_is_there() {
    let text = std::fs::read_to_string(tools::root().join("README.md")).unwrap();
    let tests = tests();
    let mut in_table = false;
    let mut named = BTreeSet::new();
    for line in text.lines() {
        in_table = line.ends_with("| test |") || in_table && line.starts_with('|');
        let cells = line.rsplit('|').nth(1).filter(|_| in_table);
        let words = cells.unwrap_or_default().split('`').skip(1).step_by(2);
        named.extend(words.map(str::to_owned));
    }
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<&String> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "There are no tests {missing:?}.");
}

/// Every test function below `src` and `tests` whose name starts with ids, by id.
fn tests_by_entry() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in tests() {
        for id in ids(&name) {
            found.entry(id).or_default().insert(name.clone());
        }
    }
    found
}

/// Every test function below `src` and `tests`.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["src", "tests"] {
        collect(&tools::root().join(folder), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if ["#[test]", "#[tokio::test", "#[haproxies"]
                    .iter()
                    .any(|marker| line.starts_with(marker))
                {
                    is_test = true;
                } else if let Some(name) = function(line)
                    && std::mem::take(&mut is_test)
                {
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("async fn ")
        .or_else(|| line.strip_prefix("fn "))?;
    rest.split(['(', '<']).next()
}

/// The ids that lead a name: `a07` and `a14` of `a07_a14_nonsense_is_discarded`.
fn ids(name: &str) -> Vec<String> {
    name.split('_')
        .skip_while(|word| promise_word(word))
        .map_while(|word| {
            let mut letters = word.chars();
            let area = letters
                .next()
                .filter(|letter| ('a'..='m').contains(letter))?;
            let number = letters.as_str();
            (number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit()))
                .then(|| format!("{}{number}", area.to_ascii_uppercase()))
        })
        .collect()
}

/// A promise that leads a name, as `p7`.
fn promise_word(word: &str) -> bool {
    word.strip_prefix('p').is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// The cells of each row that begins with an id.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    text.lines()
        .filter_map(cells)
        .map(|cells| (cells[0].clone(), cells))
        .collect()
}

fn cells(line: &str) -> Option<Vec<String>> {
    let cells: Vec<String> = line
        .strip_prefix("| ")?
        .strip_suffix('|')?
        .split(" |")
        .map(|cell| cell.trim().to_owned())
        .collect();
    (cells.len() >= 4 && ids(&cells[0].to_ascii_lowercase()).len() == 1).then_some(cells)
}

/// The text with the tests that there are, and the figures that were measured.
fn rewritten(text: &str, tests: &BTreeMap<String, BTreeSet<String>>) -> String {
    let by_promise = by_promise(text);
    let mut out = String::new();
    for line in text.lines() {
        let line = if let Some(cells) = cells(line) {
            let tests = match tests.get(&cells[0]) {
                Some(names) => {
                    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                    names.join(", ")
                }
                None if REASONS.iter().any(|reason| cells[3].starts_with(reason)) => {
                    cells[3].clone()
                }
                None => String::new(),
            };
            let note = cells.get(4).cloned().unwrap_or_default();
            format!(
                "| {} | {} | {} | {tests} | {note} |",
                cells[0], cells[1], cells[2]
            )
        } else if let Some((promise, ids)) =
            promise(line).and_then(|name| Some((name, by_promise.get(name)?)))
        {
            format!(
                "| {promise} | {} | {} |",
                line.split('|').nth(2).unwrap_or_default().trim(),
                ids.join(" ")
            )
        } else if let Some((run, peers)) = run(line) {
            match measured(run) {
                Some(figures) => format!("| {run} | {peers} | {figures} |"),
                None => line.to_owned(),
            }
        } else {
            line.to_owned()
        };
        let _ = writeln!(out, "{line}");
    }
    out
}

/// The promise of a row of the first table: `| P1 | … | … |`.
fn promise(line: &str) -> Option<&str> {
    let name = line.strip_prefix("| ")?.split(" |").next()?;
    let number = name.strip_prefix('P')?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some(name)
}

fn by_promise(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, cells) in rows(text) {
        for promise in cells[1].split_whitespace() {
            found
                .entry(promise.to_owned())
                .or_default()
                .push(id.clone());
        }
    }
    found
}

/// A row of the table of runs: `| e03 | what the others did | what we do |`.
fn run(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let name = cells.next()?;
    let known = name.strip_prefix('e').is_some_and(|number| {
        number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    known.then_some((name, cells.next()?.trim()))
}

/// What `target/measured` has for a run.
fn measured(run: &str) -> Option<String> {
    let mut lines = BTreeSet::new();
    for entry in std::fs::read_dir(tools::root().join("target/measured")).ok()? {
        let text = std::fs::read_to_string(entry.ok()?.path()).ok()?;
        let mut cells = text.trim().splitn(3, " | ");
        if cells.next() == Some(run)
            && let (Some(what), Some(value)) = (cells.next(), cells.next())
        {
            lines.insert(format!("{what}: {value}"));
        }
    }
    (!lines.is_empty()).then(|| lines.into_iter().collect::<Vec<_>>().join("; "))
}

/// What must be equal: figures differ from run to run.
fn without_figures(text: &str) -> String {
    text.lines()
        .filter(|line| run(line).is_none())
        .collect::<Vec<_>>()
        .join("\n")
}
