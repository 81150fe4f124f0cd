//! Holds `tests/README.md` to the tests that exist: every entry of the fault catalogue has tests, or a reason why it
//! has none.
//!
//! The comment directly above a test names the entries that the test shows, as `// A04 A05`. With `MAP=write` in the
//! environment the test writes the lists of tests into the page, and the figures that `target/measured` holds.

mod page;
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use page::{Page, Table};
use support::tools;

/// How many entries each area has.
const AREAS: [(char, u32); 13] = [
    ('A', 22),
    ('B', 25),
    ('C', 18),
    ('D', 14),
    ('E', 15),
    ('F', 12),
    ('G', 18),
    ('H', 17),
    ('I', 12),
    ('J', 15),
    ('K', 8),
    ('L', 14),
    ('M', 10),
];
/// What stands in place of tests where a note gives the reason.
const NONE: &str = "none";
const REASONS: [&str; 2] = ["Not applicable: ", "Not built: "];

#[test]
fn every_entry_of_the_catalogue_is_tested_or_has_a_reason() {
    let path = tools::root().join("tests/README.md");
    let current = std::fs::read_to_string(&path).unwrap();
    let tests = tests::by_entry();
    let mut page = Page::read(&current);
    let mut wrong = Vec::new();
    list_tests(&mut page, &tests, &mut wrong);
    let without_figures = page.to_string();
    list_figures(&mut page);
    let written = page.to_string();
    if std::env::var_os("MAP").is_some_and(|word| word == "write") {
        std::fs::write(&path, &written).unwrap();
        return;
    }
    let wide = current.lines().filter(|line| line.chars().count() >= 120);
    wrong.extend(wide.map(|line| format!("This line of the page is too long: {line}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Figures differ from run to run.
    assert!(
        current == without_figures || current == written,
        "tests/README.md lists other tests than exist; `MAP=write tests/run -E 'test(map::)'` lists them"
    );
}

/// The tables of the examples' pages whose last column is `test`.
#[test]
fn every_test_that_the_examples_pages_name_exists() {
    let pages = ["examples/README.md", "examples/airavata/README.md"];
    let text = pages.map(|page| std::fs::read_to_string(tools::root().join(page)).unwrap());
    let text = text.concat();
    let tests: BTreeSet<String> = tests::all().into_iter().map(|test| test.name).collect();
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
    assert!(
        missing.is_empty(),
        "{pages:?} name tests that do not exist: {missing:?}"
    );
}

/// Writes the tests of each entry into its row, and says what the page or the tests lack.
fn list_tests(
    page: &mut Page,
    tests: &BTreeMap<String, BTreeSet<String>>,
    wrong: &mut Vec<String>,
) {
    let notes: Vec<String> = page.notes().map(str::to_owned).collect();
    let mut missing: BTreeSet<String> = AREAS
        .iter()
        .flat_map(|(area, count)| (1..=*count).map(move |number| format!("{area}{number:02}")))
        .collect();
    for row in page.tables(page::FAULTS).flat_map(Table::rows) {
        let id = row[0].clone();
        if !missing.remove(&id) {
            wrong.push(format!(
                "{id} is not an entry, or stands in the table twice."
            ));
        }
        row[2] = match tests.get(&id) {
            Some(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                names.join(" ")
            }
            None => NONE.to_owned(),
        };
        let excused = |reason: &&str| {
            notes
                .iter()
                .any(|note| note.starts_with(&format!("* {id}: {reason}")))
        };
        if row[2] == NONE && !REASONS.iter().any(excused) {
            wrong.push(format!(
                "{id} ({}) has neither a test nor a reason.",
                row[1]
            ));
        }
    }
    wrong.extend(missing.iter().map(|id| format!("The tables lack {id}.")));
    let promised: BTreeSet<String> = page
        .tables(page::PROMISES)
        .flat_map(Table::rows)
        .flat_map(|row| row[2].split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for id in tests
        .keys()
        .filter(|id| !id.starts_with('P') && !promised.contains(*id))
    {
        wrong.push(format!("{id} belongs to no promise."));
    }
}

/// Writes the figures of `target/measured` into the table of runs.
fn list_figures(page: &mut Page) {
    let rows = page.tables(page::RUNS);
    for row in rows.flat_map(Table::rows) {
        if let Some(figures) = measured(&row[0]) {
            row[2] = figures;
        }
    }
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
