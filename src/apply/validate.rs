//! Everything that is asked of a staged set before it may be swapped in: HAProxy's own validation with
//! the flags, files and directory of the running master, our gate, and free addresses.
//!
//! Changes nothing. A validation that could not be run is an error, never a "valid".

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::{CODE, Environments, Lack, Reason, Whose, one_of_each};
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
use crate::haproxy::config::{VariableUse, variable_uses};
use crate::haproxy::process::{Environment, Started, Values};
use crate::haproxy::redact;
use crate::haproxy::sight::{self, Sight};
use crate::text;

/// The code of a configuration that HAProxy calls right and would not start with. Our gate says more.
pub const NO_LISTENER: &str = "no-listener";

/// The running master.
#[derive(Debug, Clone)]
pub struct Master {
    /// Its process id.
    pub pid: i32,
    /// How it was started; `None` when it may not be looked at.
    pub started: Option<Started>,
    /// Whether Gatewright has started it.
    pub supervised: bool,
}

/// What HAProxy loads beside a set, and what it reads of its environment.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The configuration files in order, those of the set by their destinations.
    pub files: Vec<PathBuf>,
    /// What they read of the environment; `file` is an index of `files`.
    pub uses: Vec<VariableUse>,
}

/// More of another configuration file is not looked at for variables.
const OTHER_MAX: u64 = 4 << 20;

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
    let loaded = loaded(&candidate.files, base, master);
    let invocation = invocation(candidate, staged, base, master, &loaded)?;
    let outcome = check(&invocation, limit).await?;
    let (Outcome::Valid { output } | Outcome::Invalid { output, .. }) = &outcome;
    let secrets = redact::secret_values(&invocation.environment);
    let mut findings = read_findings(candidate, staged, output, &secrets);
    let refused = matches!(outcome, Outcome::Invalid { .. });
    let mut lacks = lacks(&loaded, base, master, &BTreeSet::new());
    // A value that differs is HAProxy's own here, so the set is judged as it will be loaded.
    lacks.retain(|lack| !matches!(lack.reason, Reason::Differs { .. }));
    findings.splice(0..0, lacking(lacks, &loaded, &findings, refused, strict));
    for finding in findings.iter_mut().filter(|_| strict) {
        if finding.severity == Severity::Warning && finding.code != CODE {
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

/// The configuration files that HAProxy loads with a set, and what they read of its environment.
pub fn loaded(files: &[SetFile], base: &Invocation, master: Option<&Master>) -> Loaded {
    let found = configurations(files, base, master);
    let texts: Vec<Cow<'_, str>> = found
        .iter()
        .map(|(path, of_set)| match of_set {
            Some(file) => Cow::Borrowed(file.text.as_str()),
            None => Cow::Owned(read_other(path)),
        })
        .collect();
    Loaded {
        uses: variable_uses(texts.iter().map(|text| &**text)),
        files: found.into_iter().map(|(path, _)| path).collect(),
    }
}

/// The configuration files of others that HAProxy loads with a set, and their texts.
pub fn others(
    files: &[SetFile],
    base: &Invocation,
    master: Option<&Master>,
) -> Vec<(PathBuf, String)> {
    let found = configurations(files, base, master).into_iter();
    let others = found.filter(|(_, of_set)| of_set.is_none());
    others
        .map(|(path, _)| {
            let text = read_other(&path);
            (path, text)
        })
        .collect()
}

/// The configuration files that HAProxy loads, in order; those of the set with their destinations.
fn configurations<'a>(
    files: &'a [SetFile],
    base: &Invocation,
    master: Option<&Master>,
) -> Vec<(PathBuf, Option<&'a SetFile>)> {
    let of_set: Vec<(&SetFile, PathBuf)> = files
        .iter()
        .filter(|file| file.role == Role::Config)
        .map(|file| (file, resolve(&file.destination)))
        .collect();
    let destinations: Vec<&Path> = of_set
        .iter()
        .map(|(file, _)| file.destination.as_path())
        .collect();
    let paths = files_of(master, base, &destinations).into_iter();
    paths
        .map(|path| {
            let place = resolve(&path);
            // In another mount namespace the same file may have another path.
            let is = |file: &SetFile| {
                master.is_some_and(|master| {
                    sight::compare(master.pid, &path, &file.destination) == Sight::Same
                })
            };
            let mut of_set = of_set.iter();
            match of_set.find(|(file, destination)| *destination == place || is(file)) {
                Some((file, _)) => (file.destination.clone(), Some(*file)),
                None => (path, None),
            }
        })
        .collect()
}

/// A file that HAProxy loads beside the set; what cannot be read is HAProxy's to name.
pub(super) fn read_other(path: &Path) -> String {
    let bytes = text::bytes(path, OTHER_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What these files read of the environment that HAProxy lacks. `named` are the variables that the settings name.
pub fn lacks(
    loaded: &Loaded,
    base: &Invocation,
    master: Option<&Master>,
    named: &BTreeSet<String>,
) -> Vec<Lack> {
    let environments = Environments {
        values: &environment(loaded, base, master),
        whose: whose(master),
        given: &base.environment,
        named,
        own: &|name| std::env::var_os(name).is_some(),
    };
    environments.lacks(&loaded.uses)
}

/// Whose environment a set is validated with.
fn whose(master: Option<&Master>) -> Whose {
    match master {
        None => Whose::Settings,
        Some(master) => match environment_of(master) {
            None => Whose::Hidden { pid: master.pid },
            Some(_) => Whose::Master {
                pid: master.pid,
                supervised: master.supervised,
            },
        },
    }
}

fn environment_of(master: &Master) -> Option<&Environment> {
    master.started.as_ref()?.environment.as_ref()
}

/// The environment that a set is validated with: the running master's, else that of the settings.
fn environment(loaded: &Loaded, base: &Invocation, master: Option<&Master>) -> Values {
    match master.and_then(environment_of) {
        None => base.environment.clone(),
        Some(theirs) if !theirs.foreign => theirs.values.clone(),
        // Nothing but what the configuration reads.
        Some(theirs) => {
            let mut values = base.environment.clone();
            for used in &loaded.uses {
                let name = used.name.as_str().into();
                match theirs.values.get(&name) {
                    Some(value) => values.insert(name, value.clone()),
                    None => values.remove(&name),
                };
            }
            values
        }
    }
}

/// The variables that HAProxy lacks as findings: errors where HAProxy refuses their line, or names none, and where
/// warnings count as errors.
fn lacking(
    lacks: Vec<Lack>,
    loaded: &Loaded,
    findings: &[Finding],
    refused: bool,
    strict: bool,
) -> Vec<Finding> {
    let file = |lack: &Lack| {
        loaded
            .files
            .get(lack.used.file)
            .cloned()
            .unwrap_or_default()
    };
    let errors: Vec<(Option<PathBuf>, usize)> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| (finding.file.clone(), finding.line))
        .collect();
    let nowhere = errors.iter().all(|(file, _)| file.is_none());
    let is_there = |lack: &Lack| errors.contains(&(Some(file(lack)), lack.used.line));
    let told = one_of_each(lacks, is_there).into_iter().map(|lack| {
        let missing = matches!(lack.reason, Reason::Missing { .. });
        let blamed = missing && (strict || refused && (nowhere || is_there(&lack)));
        let mut finding = lack.finding(file(&lack));
        if blamed {
            finding.severity = Severity::Error;
        }
        finding
    });
    told.collect()
}

/// HAProxy's messages with the destinations in place of the staged paths. The secrets of its environment are hidden
/// in them.
pub fn read_findings(
    candidate: &Candidate,
    staged: &Staged,
    output: &[u8],
    secrets: &[String],
) -> Vec<Finding> {
    if output.trim_ascii().is_empty() {
        return Vec::new();
    }
    let destinations = staged.origins();
    let config = configuration(&candidate.files);
    let places = Places {
        destinations: Some(&destinations),
        config: Some(&config),
        secrets,
    };
    alerts::parse(output, b"", places)
}

/// HAProxy's messages from a reload, where the destinations were loaded. The secrets of its environment are hidden
/// in them.
pub fn read_reload_findings(
    candidate: &Candidate,
    output: &str,
    secrets: &[String],
) -> Vec<Finding> {
    let config = configuration(&candidate.files);
    let places = Places {
        destinations: None,
        config: Some(&config),
        secrets,
    };
    alerts::parse(output.as_bytes(), b"", places)
}

/// What HAProxy may quote of a set and must not be shown: the secrets of the configuration, and those of the
/// environment that HAProxy loads it with.
pub fn secrets(candidate: &Candidate, base: &Invocation, master: Option<&Master>) -> Vec<String> {
    let loaded = loaded(&candidate.files, base, master);
    let mut secrets = redact::secret_values(&environment(&loaded, base, master));
    secrets.extend(redact::secrets(&configuration(&candidate.files)));
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// New addresses that are taken. Only asked when HAProxy is known to run the last good set: what it
/// holds itself would count as taken otherwise.
pub fn by_addresses(candidate: &Candidate, last_good: &[SetFile]) -> Vec<Finding> {
    ports::busy(&candidate.files, last_good)
}

/// As the master will load: its own flags, files, directory and environment, with each destination of the set
/// replaced by its staged file.
fn invocation(
    candidate: &Candidate,
    staged: &Staged,
    base: &Invocation,
    master: Option<&Master>,
    loaded: &Loaded,
) -> Result<Invocation, ApplyError> {
    let destinations = candidate
        .files
        .iter()
        .filter(|file| file.role == Role::Config)
        .map(|file| &file.destination);
    let mut invocation = base.clone();
    invocation.environment = environment(loaded, base, master);
    if let Some(started) = master.and_then(|master| master.started.as_ref()) {
        invocation.binary = program(base, master);
        invocation.flags = started.line.flags.clone();
        invocation.working_directory = directory(base, master);
    }
    let missing = destinations
        .clone()
        .find(|destination| !loaded.files.contains(destination));
    invocation.files = loaded
        .files
        .iter()
        .map(|file| staged.to_check(file).to_owned())
        .collect();
    match (missing, master) {
        (Some(destination), Some(master)) => Err(ApplyError::NotLoaded {
            pid: master.pid,
            destination: resolve(destination),
        }),
        // Then nothing would be validated of it.
        (Some(destination), None) => Err(ApplyError::Elsewhere {
            destination: resolve(destination),
        }),
        (None, _) => Ok(invocation),
    }
}

/// Where HAProxy's relative paths start.
fn directory(base: &Invocation, master: Option<&Master>) -> Option<PathBuf> {
    let of_master = master.and_then(|master| master.started.as_ref()?.directory.clone());
    of_master.or_else(|| base.working_directory.clone())
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

/// The configuration files that a master loads, absolute to it; those of the settings where none may be looked at.
pub fn files_of(
    master: Option<&Master>,
    base: &Invocation,
    destinations: &[&Path],
) -> Vec<PathBuf> {
    match master.and_then(|master| master.started.as_ref()) {
        None => base.files.clone(),
        Some(started) => {
            let start = directory(base, master).unwrap_or_default();
            expand(&started.line.files, &start, destinations)
        }
    }
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
