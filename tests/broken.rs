//! Broken templates, settings and catalogs, each with all that is told about it: `golden/broken/NAME` holds the files
//! and `expected.txt`. A person who reads that must know what to change, and where.
//!
//! `BROKEN=write tests/run broken::` writes the texts anew; read every one that changed.

use std::path::{Path, PathBuf};
use std::process::Output;

use support::gatewright::Setup;
use support::haproxies::{Version, haproxies};
use support::tools;

const FEWEST: usize = 60;

/// The texts of the oldest HAProxy are kept; the messages of each other one must lead to the same places.
#[haproxies]
fn every_broken_thing_is_told_with_its_place_and_remedy(version: Version) {
    let folder = tools::root().join("tests/golden/broken");
    let cases = inside(&folder);
    assert!(cases.len() >= FEWEST, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy();
        let expected = case.join("expected.txt");
        let told = told(case, &version);
        if version.is_oldest() && std::env::var_os("BROKEN").is_some_and(|word| word == "write") {
            std::fs::write(&expected, &told).unwrap();
        }
        let kept = std::fs::read_to_string(&expected).unwrap_or_default();
        let same = match version.is_oldest() {
            true => told == kept,
            false => without_words_of_haproxy(&told) == without_words_of_haproxy(&kept),
        };
        if !same {
            wrong.push(format!(
                "== {name} on {version}\n{told}\n-- expected\n{kept}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn inside(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    paths
}

/// All that `gatewright check` says of a case.
fn told(case: &Path, version: &Version) -> String {
    let setup = Setup::new().unwrap();
    copy(case, setup.directory());
    let haproxy = version.program().display().to_string();
    let words = std::fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let words: Vec<&str> = match words.split_whitespace().collect::<Vec<_>>() {
        words if words.is_empty() => vec!["."],
        words => words,
    };
    let words = [&["check", "--no-made", "--haproxy", &haproxy], &words[..]].concat();
    let output = setup.call(&words).unwrap();
    shown(&output).replace(&setup.path(""), "/here/")
}

fn shown(output: &Output) -> String {
    format!(
        "{}{}exit code {}\n",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
        output.status.code().unwrap_or(-1)
    )
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else if !["expected.txt", "arguments"]
            .contains(&&*path.file_name().unwrap().to_string_lossy())
        {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Versions word a fault differently; where it is must be the same.
fn without_words_of_haproxy(told: &str) -> String {
    let lines = told
        .lines()
        .map(|line| match line.split_once("[haproxy]: ") {
            Some((before, _)) => before,
            None => line,
        });
    lines.collect::<Vec<_>>().join("\n")
}
