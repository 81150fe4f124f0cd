//! Finds the real programs that `haproxy/get-tools` fetched.

use std::path::{Path, PathBuf};

use super::Outcome;

/// The HAProxy versions that are tested against, oldest first.
pub const HAPROXY_VERSIONS: [&str; 4] = ["2.6", "2.8", "3.0", "3.2"];

/// The program `consul`, or the one that `GATEWRIGHT_CONSUL` names.
pub fn consul() -> Outcome<PathBuf> {
    named("GATEWRIGHT_CONSUL").unwrap_or_else(|| find("consul", "consul"))
}

/// HAProxy of one version, such as `2.6`.
pub fn haproxy(version: &str) -> Outcome<PathBuf> {
    find(&format!("haproxy-{version}"), "haproxy")
}

/// The HAProxy that `GATEWRIGHT_HAPROXY` names, or else the oldest one.
pub fn any_haproxy() -> Outcome<PathBuf> {
    named("GATEWRIGHT_HAPROXY").unwrap_or_else(|| haproxy(HAPROXY_VERSIONS[0]))
}

/// The program `serf`, or the one that `GATEWRIGHT_SERF` names.
pub fn serf() -> Outcome<PathBuf> {
    named("GATEWRIGHT_SERF").unwrap_or_else(|| find("serf", "serf"))
}

/// The program `fabio` that `GATEWRIGHT_FABIO` names, to compare routes with; nothing else needs it.
pub fn fabio() -> Outcome<Option<PathBuf>> {
    named("GATEWRIGHT_FABIO").transpose()
}

fn find(folder: &str, program: &str) -> Outcome<PathBuf> {
    let path = directory().join(folder).join(program);
    is_program(&path)
        .map_err(|why| format!("{why} Run `haproxy/get-tools {folder}`, or set GATEWRIGHT_TOOLS."))
}

fn named(variable: &str) -> Option<Outcome<PathBuf>> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(is_program(Path::new(&value)).map_err(|why| format!("{variable}: {why}")))
}

fn is_program(path: &Path) -> Outcome<PathBuf> {
    if path.is_file() {
        Ok(path.to_owned())
    } else {
        Err(format!("There is no program {}.", path.display()))
    }
}

fn directory() -> PathBuf {
    match std::env::var_os("GATEWRIGHT_TOOLS") {
        Some(set) if !set.is_empty() => PathBuf::from(set),
        _ => root().join("target/tools"),
    }
}

/// The project's own directory.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .canonicalize()
        .expect("the directory that this was built in")
}
