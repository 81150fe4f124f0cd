//! Plays every stored input of every target, and mutations of them drawn with a seed: a tenth of them unless
//! `GATEWRIGHT_LONG` is set. `GATEWRIGHT_FUZZ_RUNS` draws another number, `GATEWRIGHT_FUZZ_SEED` other ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::*;

/// Mutations of each target in a long run.
const RUNS: u32 = 4_000;
const SEED: u64 = 2_026;
/// No input is longer.
const LONGEST: usize = 4_096;

/// What is put into inputs: words and marks that mean something to one of the readers.
const WORDS: &[&str] = &[
    "\n",
    "\r",
    "\t",
    " ",
    "\0",
    "\"",
    "'",
    "\\",
    "\\x",
    "#",
    "$",
    "${",
    "}",
    "%[",
    "{{",
    "}}",
    "{{#if ",
    "{{/if}}",
    "{{else}}",
    "{{> ",
    "{{!--",
    "--}}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "::",
    "/",
    ";",
    "=",
    "-",
    "-1",
    "0",
    "99999",
    "4294967296",
    "18446744073709551616",
    "1e999",
    "NaN",
    "null",
    "true",
    "[null]",
    "[{}]",
    "{}",
    "[]",
    "\u{fe0f}",
    "\u{202e}",
    "é",
    "server ",
    "backend ",
    "listen ",
    "global",
    "bind ",
    "use-server ",
    "default-server ",
    "[ALERT]",
    "[WARNING]",
    "[NOTICE]",
    " : parsing [",
    "Success=0",
    "Success=1",
    "# old workers",
    "master",
    "worker",
    "1\n# ",
    "Pid: ",
    "value=<",
    ">",
    "\"Service\":",
    "\"Checks\":",
    "\"Port\":",
    "\"Weights\":",
    "[[template]]",
    "[haproxy]",
    "\"\"\"",
    "'''",
    "service ",
    "key ",
];

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", folder.display()));
    let mut found: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

fn mutate(random: &mut fastrand::Rng, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut data = corpus[random.usize(..corpus.len())].1.clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=data.len());
        let end = (at + random.usize(..=16)).min(data.len());
        match random.u8(..8) {
            0 => drop(data.drain(at..end)),
            1 if at < data.len() => data[at] ^= 1 << random.u8(..8),
            2 => data.insert(at, random.u8(..)),
            3 => {
                let piece = data[at..end].to_vec();
                let to = random.usize(..=data.len());
                data.splice(to..to, piece);
            }
            4 => data.truncate(at),
            5 => {
                let other = &corpus[random.usize(..corpus.len())].1;
                let from = random.usize(..=other.len());
                let to = (from + random.usize(..=64)).min(other.len());
                data.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let word = WORDS[random.usize(..WORDS.len())];
                data.splice(at..end, word.bytes());
            }
        }
    }
    data.truncate(LONGEST);
    data
}

fn play(name: &str, data: &[u8], whence: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(name, data)));
    if let Err(panic) = outcome {
        eprintln!("{name}, {whence}: {}", data.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn fuzz(name: &str) {
    let corpus = corpus(name);
    for (path, data) in &corpus {
        play(name, data, &path.display().to_string());
    }
    let seed = number("GATEWRIGHT_FUZZ_SEED", SEED as usize) as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    for turn in 0..number("GATEWRIGHT_FUZZ_RUNS", support::cases(RUNS) as usize) {
        let data = mutate(&mut random, &corpus);
        play(name, &data, &format!("seed {seed}, turn {turn}"));
    }
}

macro_rules! replayed {
    ($($test:ident $target:literal;)*) => {
        $(#[test] fn $test() { fuzz($target); })*

        #[test]
        fn each_target_is_replayed() {
            let replayed = [$($target),*];
            let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(replayed.as_slice(), targets);
        }
    };
}

replayed! {
    alerts_take_any_bytes "alerts";
    answers_to_commands_take_any_bytes "commands";
    configuration_takes_any_bytes "configuration";
    consuls_answers_take_any_bytes "consul";
    escaped_values_never_change_the_structure "escape";
    an_index_takes_any_bytes "index";
    serfs_values_take_any_bytes "serf";
    settings_take_any_bytes "settings";
    what_haproxy_shows_takes_any_bytes "show";
    templates_take_any_bytes "template";
}
