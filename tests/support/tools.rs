//! Finds the real programs that `haproxy/get-tools` fetched.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::Outcome;

/// The HAProxy versions that are tested against, oldest first.
pub const HAPROXY_VERSIONS: [&str; 4] = include!("matrix/versions.in");

thread_local! {
    /// Which of the programs of `GATEWRIGHT_CONSUL` this thread starts; else the fetched one.
    static CONSUL: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Lets this thread start the Consul at a place of `GATEWRIGHT_CONSUL`, which is a list like `PATH`.
pub fn choose_consul(index: usize) {
    CONSUL.set(Some(index));
}

/// Lets this thread start the first Consul that `GATEWRIGHT_CONSUL` names, if it names one.
pub fn choose_any_consul() {
    CONSUL.set(
        std::env::var_os("GATEWRIGHT_CONSUL")
            .filter(|paths| !paths.is_empty())
            .map(|_| 0),
    );
}

/// The program `consul`: the fetched one, or the one that this thread has chosen.
pub fn consul() -> Outcome<PathBuf> {
    let Some(index) = CONSUL.get() else {
        return find("consul", "consul");
    };
    let programs = std::env::var_os("GATEWRIGHT_CONSUL").unwrap_or_default();
    let program = std::env::split_paths(&programs).nth(index).ok_or_else(|| {
        format!(
            "GATEWRIGHT_CONSUL names fewer than {} programs; it named more when this test was built.",
            index + 1
        )
    })?;
    is_program(&program).map_err(|why| format!("GATEWRIGHT_CONSUL: {why}"))
}

/// Whether [`consul`] is the fetched one, Consul 1.8.
pub fn consul_is_fetched() -> bool {
    CONSUL.get().is_none()
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
