//! What is fuzzed: everything that reads bytes which others wrote, each with what must hold whatever they
//! are. `tests/fuzz` runs the same targets under libFuzzer; the tests here play the stored corpora and
//! mutations of them, with a seed, on stable Rust.
//!
//! Compiled only for tests and under `--cfg fuzzing`; it opens nothing.

use crate::haproxy::alerts::{self, Places, ReloadReply};
use crate::haproxy::config::{Config, WORDS_MAX, lex, quote};
use crate::haproxy::master::Processes;
use crate::haproxy::runtime::{self, Answer, Command, ServerRef, ServerState, Version};
use crate::haproxy::stats::Running;
use crate::settings;
use crate::source::{consul, serf};
use crate::template;

#[cfg(test)]
mod replay;

/// Takes any bytes and panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("alerts", alerts),
    ("commands", commands),
    ("configuration", configuration),
    ("consul", consul::fuzzing::answer),
    ("escape", template::fuzzing::escape),
    ("index", consul::fuzzing::index),
    ("serf", serf::fuzzing::rpc),
    ("settings", read_settings),
    ("show", show),
    ("template", template::fuzzing::compile),
];

/// Runs one target; an unknown name is a mistake of the caller's.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("there is no target {name}"));
    target(data);
}

/// Lines become words, words can be quoted, and a whole file becomes sections.
fn configuration(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(words) = lex(line) else { continue };
        assert!(words.len() <= WORDS_MAX);
        let mut end = 0;
        for word in &words {
            assert!(end <= word.span.start && word.span.start <= word.span.end);
            end = word.span.end;
            assert!(end <= line.len());
            let Some(quoted) = quote(&word.text) else {
                assert!(word.text.chars().any(char::is_control));
                continue;
            };
            let again = lex(format!("a {quoted} b").as_bytes()).expect("a quoted word is a word");
            assert_eq!(again.len(), 3, "{quoted}");
            assert_eq!(again[1].text, word.text);
            assert!(!again[1].opaque);
        }
    }
    let text = String::from_utf8_lossy(data);
    let config = Config::parse(&text);
    for backend in config.backends() {
        for server in &backend.servers {
            assert!(!server.name.contains('\n'));
        }
    }
}

/// HAProxy's alerts, before and after a byte that parts the two streams.
fn alerts(data: &[u8]) {
    let (stderr, stdout) = halves(data, 0xff);
    let text = String::from_utf8_lossy(stdout);
    let config = Config::parse(&text);
    for config in [None, Some(&config)] {
        let places = Places {
            config,
            ..Places::default()
        };
        for finding in alerts::parse(stderr, stdout, places) {
            assert!(!finding.message.is_empty());
        }
        if let ReloadReply::Refused(why) = alerts::reload_reply(stderr, places) {
            assert!(!why.is_empty(), "refused for no reason");
        }
    }
}

/// Every table that a worker or master prints.
fn show(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let lines = text.lines().count();
    if let Some(processes) = Processes::parse(text) {
        assert!(processes.old_count() <= processes.old_workers.len());
        assert!(processes.workers.len() + processes.old_workers.len() < lines);
    }
    if let Ok(running) = Running::parse(text) {
        assert!(!running.version.contains('\n'));
    }
    if let Ok(rows) = runtime::parse_servers_state(text) {
        assert!(rows.len() <= lines);
    }
    if let Ok(rows) = runtime::parse_server_connections(text) {
        assert!(rows.len() <= lines);
    }
    if let Ok(entries) = runtime::parse_map_entries(text) {
        assert!(entries.len() <= lines);
    }
    if let Ok(entries) = runtime::parse_crt_list(text) {
        assert!(entries.len() <= lines);
    }
    assert!(runtime::parse_maps(text).len() <= lines);
    assert!(runtime::parse_certificates(text).held.len() <= lines);
    assert!(runtime::parse_crt_lists(text).len() <= lines);
    let _ = runtime::parse_certificate(text);
    let _ = Version::parse(text);
}

/// What HAProxy says to a command: nothing that holds a word of failure is ever taken for success.
fn commands(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let at = || ServerRef {
        backend: "web".to_owned(),
        server: "a".to_owned(),
    };
    let commands = [
        Command::DeleteServer(at()),
        Command::EnableServer(at()),
        Command::SetAddress {
            at: at(),
            address: [127, 0, 0, 1].into(),
            port: 80,
        },
        Command::SetWeight {
            at: at(),
            weight: 7,
        },
        Command::SetState {
            at: at(),
            state: ServerState::Maint,
        },
        Command::AddServer {
            at: at(),
            address: [127, 0, 0, 1].into(),
            port: 80,
            options: Vec::new(),
        },
        Command::PrepareMap {
            map: "/m".to_owned(),
        },
    ];
    let versions = [
        Version::new(2, 6, 12),
        Version::new(2, 8, 5),
        Version::new(3, 0, 11),
        Version::new(3, 2, 0),
    ];
    let command = &commands[usize::from(*first) % commands.len()];
    let text = String::from_utf8_lossy(rest);
    for version in versions {
        let answer = command.judge(&text, version);
        let failed = ["No such", "Unknown", "rror", "denied", "ailed"];
        if failed.iter().any(|word| text.contains(word)) {
            let done = matches!(answer, Answer::Done | Answer::Version(_));
            assert!(!done, "{command:?}: {text:?}");
        }
    }
}

/// A settings file: read, or refused at a place in words.
fn read_settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = settings::parse("gatewright.toml".as_ref(), &text) {
        assert!(!error.to_string().is_empty());
    }
}

/// What stands before and after the first such byte.
pub fn halves(data: &[u8], at: u8) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == at) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}
