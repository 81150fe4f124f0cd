//! `gatewright check --watch`: checks again whenever something that was read is saved.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};

use super::super::Failure;
use super::{Check, print};
use crate::diagnostic::Diagnostic;
use crate::exit;

/// Editors write a file in several steps; nothing new for so long means that they are done.
const SETTLE: Duration = Duration::from_millis(100);

/// Checks, and again after each save, until it is interrupted.
pub fn watch(check: &Check) -> Result<u8, Failure> {
    let failed = |error: notify::Error| {
        Failure::one(
            exit::FAILURE,
            Diagnostic::error("watch", format!("The files cannot be watched: {error}.")),
        )
    };
    let (send, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Being read is no change, and our own reading would wake us for ever.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = send.send(());
        }
    })
    .map_err(failed)?;
    let mut watched = BTreeSet::new();
    loop {
        // Before they are read, so that no save in between is missed.
        for folder in folders(check) {
            if !watched.contains(&folder) {
                watcher
                    .watch(&folder, RecursiveMode::Recursive)
                    .map_err(failed)?;
                watched.insert(folder);
            }
        }
        match check.once() {
            Ok(report) => print::text(&report),
            Err(failure) => failure.print(),
        }
        let _ = writeln!(
            std::io::stderr(),
            "\nWaiting for a change in {}; Ctrl-C ends.",
            listed(&watched)
        );
        if changes.recv().is_err() {
            return Ok(exit::OK);
        }
        while changes.recv_timeout(SETTLE).is_ok() {}
        // The screen is not cleared: it keeps the last report, and the output of former commands.
        let _ = writeln!(std::io::stderr(), "\nA file has changed; checking again.\n");
    }
}

/// The folders with what is read: those that were named, and those of files that were.
fn folders(check: &Check) -> BTreeSet<PathBuf> {
    // Broken settings are told by the check; then it is enough to watch these.
    let settings = check.load().ok();
    let templates = settings.iter().flat_map(|settings| {
        let templates = settings.template.iter();
        templates
            .map(|template| template.source.clone())
            .chain(settings.templates.partials.clone())
            .chain(settings.check.fixtures.clone())
    });
    templates
        .chain(check.paths.iter().cloned())
        .chain(check.settings.config.clone())
        .filter_map(|path| match path.is_dir() {
            true => Some(path),
            false => {
                let folder = path.parent()?;
                let folder = match folder == Path::new("") {
                    true => Path::new("."),
                    false => folder,
                };
                Some(folder.to_owned())
            }
        })
        .filter(|folder| folder.is_dir())
        .collect()
}

fn listed(folders: &BTreeSet<PathBuf>) -> String {
    let names: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    names.join(", ")
}
