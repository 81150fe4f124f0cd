//! Everything that is asked of a staged set before it may be swapped in: HAProxy's own validation with
//! the flags, files and directory of the running master, our gate, and free addresses.
//!
//! Changes nothing. A validation that could not be run is an error, never a "valid".

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::configuration;
use super::ports;
use super::set::{Candidate, Role, SetFile};
use super::stage::Staged;
use super::target::resolve;
use super::verdict::ApplyError;
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::alerts::{self, Places};
use crate::haproxy::check::{Invocation, Outcome, check};
use crate::haproxy::process::CommandLine;
use crate::haproxy::sight::{self, Sight};

/// The code of a configuration that HAProxy calls right and would not start with. Our gate says more.
pub const NO_LISTENER: &str = "no-listener";

/// How the running master was started.
#[derive(Debug, Clone)]
pub struct Master {
    /// Its process id.
    pub pid: i32,
    /// Its flags and files.
    pub line: CommandLine,
    /// Its directory.
    pub directory: Option<PathBuf>,
}

impl From<(i32, CommandLine, Option<PathBuf>)> for Master {
    fn from((pid, line, directory): (i32, CommandLine, Option<PathBuf>)) -> Master {
        Master {
            pid,
            line,
            directory,
        }
    }
}

/// What HAProxy says about the staged files: warnings, and at least one error if it refuses them.
/// With `strict` a warning counts as an error.
pub async fn by_haproxy(
    candidate: &Candidate,
    staged: &Staged,
    base: &Invocation,
    master: Option<&Master>,
    limit: Duration,
    strict: bool,
) -> Result<Vec<Finding>, ApplyError> {
    let invocation = invocation(candidate, staged, base, master)?;
    let outcome = check(&invocation, limit).await?;
    let (Outcome::Valid { output } | Outcome::Invalid { output, .. }) = &outcome;
    let mut findings = read_findings(candidate, staged, output);
    for finding in findings.iter_mut().filter(|_| strict) {
        if finding.severity == Severity::Warning {
            finding.severity = Severity::Error;
            let why = "The settings refuse warnings (`strict_warnings` in [gate]).";
            finding.help.get_or_insert_with(|| why.to_owned());
        }
    }
    if let Outcome::Invalid { no_listener, .. } = outcome
        && !findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    {
        findings.push(Finding {
            severity: Severity::Error,
            code: match no_listener {
                true => NO_LISTENER,
                false => "haproxy",
            },
            message: match no_listener {
                true => "HAProxy finds nothing to listen on in this configuration.".into(),
                false => "HAProxy refuses this configuration and does not say why.".to_owned(),
            },
            file: None,
            line: 0,
            column: 0,
            help: None,
        });
    }
    Ok(findings)
}

/// HAProxy's messages with the destinations in place of the staged paths.
pub fn read_findings(candidate: &Candidate, staged: &Staged, output: &[u8]) -> Vec<Finding> {
    if output.trim_ascii().is_empty() {
        return Vec::new();
    }
    let destinations = staged.origins();
    let config = configuration(&candidate.files);
    let places = Places {
        destinations: Some(&destinations),
        config: Some(&config),
    };
    alerts::parse(output, b"", places)
}

/// HAProxy's messages from a reload, where the destinations were loaded.
pub fn read_reload_findings(candidate: &Candidate, output: &str) -> Vec<Finding> {
    let config = configuration(&candidate.files);
    let places = Places {
        destinations: None,
        config: Some(&config),
    };
    alerts::parse(output.as_bytes(), b"", places)
}

/// New addresses that are taken. Only asked when HAProxy is known to run the last good set: what it
/// holds itself would count as taken otherwise.
pub fn by_addresses(candidate: &Candidate, last_good: &[SetFile]) -> Vec<Finding> {
    ports::busy(&candidate.files, last_good)
}

/// As the master will load: its own flags, files and directory, with each destination of the set
/// replaced by its staged file.
fn invocation(
    candidate: &Candidate,
    staged: &Staged,
    base: &Invocation,
    master: Option<&Master>,
) -> Result<Invocation, ApplyError> {
    let destinations: Vec<&Path> = candidate
        .files
        .iter()
        .filter(|file| file.role == Role::Config)
        .map(|file| file.destination.as_path())
        .collect();
    let mut invocation = base.clone();
    let mut files = base.files.clone();
    if let Some(master) = master {
        invocation.binary = program(base, Some(master));
        invocation.flags = master.line.flags.clone();
        invocation.working_directory = master
            .directory
            .clone()
            .or_else(|| base.working_directory.clone());
        let start = invocation.working_directory.clone().unwrap_or_default();
        files = expand(&master.line.files, &start, &destinations);
    }
    // In another mount namespace the same file may have another path.
    let is = |destination: &Path, file: &Path| {
        resolve(destination) == resolve(file)
            || master
                .is_some_and(|master| sight::compare(master.pid, file, destination) == Sight::Same)
    };
    let mut missing: BTreeSet<&Path> = destinations.iter().copied().collect();
    invocation.files = files
        .iter()
        .map(|file| {
            let of_set = destinations.iter().find(|path| is(path, file));
            of_set.map_or(file.clone(), |path| {
                missing.remove(path);
                staged.to_check(path).to_owned()
            })
        })
        .collect();
    let missing = missing.into_iter().next().map(resolve);
    match (missing, master) {
        (Some(destination), Some(master)) => Err(ApplyError::NotLoaded {
            pid: master.pid,
            destination,
        }),
        // Then nothing would be validated of it.
        (Some(destination), None) => Err(ApplyError::Elsewhere { destination }),
        (None, _) => Ok(invocation),
    }
}

/// The program that validates: the master's own, unless the settings name one by its path, or it was
/// replaced by an upgrade or may not be looked at.
pub fn program(base: &Invocation, master: Option<&Master>) -> PathBuf {
    let named = base.binary.components().count() > 1;
    let own = master
        .filter(|_| !named)
        .and_then(|master| std::fs::read_link(format!("/proc/{}/exe", master.pid)).ok())
        .filter(|program| program.is_file());
    own.unwrap_or_else(|| base.binary.clone())
}

/// The configuration files that a master loads, absolute to it.
pub fn loaded_files(master: &Master, start: &Path, destinations: &[PathBuf]) -> Vec<PathBuf> {
    let destinations: Vec<&Path> = destinations.iter().map(PathBuf::as_path).collect();
    expand(&master.line.files, start, &destinations)
}

/// `-f DIRECTORY` loads the `*.cfg` in it that are not hidden, in the order of their names (2.6
/// management manual, section 3); those of the set may be new there.
fn expand(files: &[PathBuf], start: &Path, destinations: &[&Path]) -> Vec<PathBuf> {
    let mut expanded = Vec::new();
    for file in files {
        let path = start.join(file);
        if !path.is_dir() {
            expanded.push(path);
            continue;
        }
        let directory = resolve(&path);
        let here = std::fs::read_dir(&path)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let new = destinations
            .iter()
            .filter(|path| {
                path.parent()
                    .is_some_and(|parent| resolve(parent) == directory)
            })
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        let names: BTreeSet<String> = here
            .chain(new)
            .filter(|name| name.ends_with(".cfg") && !name.starts_with('.'))
            .collect();
        expanded.extend(names.into_iter().map(|name| path.join(name)));
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    // F03
    #[test]
    fn a_directory_is_expanded_as_haproxy_does_with_new_files_of_the_set() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.cfg", ".hidden.cfg", "x.map", "a.cfg"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let new = directory.path().join("ab.cfg");
        let found = expand(&[".".into(), "one.conf".into()], directory.path(), &[&new]);
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.cfg", "ab.cfg", "b.cfg", "one.conf"]);
    }
}
