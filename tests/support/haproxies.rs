//! The HAProxy programs that a test runs against: the four versions that `haproxy/get-tools` fetches, and further ones
//! that `GATEWRIGHT_HAPROXY` names.
//!
//! A test that depends on a version asks for what the version can do: the methods of [`Version`] name each difference
//! once. A program newer than any known one counts as the newest known one.

use std::fmt;
use std::path::{Path, PathBuf};

use super::process::command;
use super::{Outcome, tools};

pub use matrix::haproxies;

/// A HAProxy program and its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    program: PathBuf,
    major: u32,
    minor: u32,
}

/// One of [`tools::HAPROXY_VERSIONS`], such as `2.6`. Panics if its program was not fetched.
pub fn known(version: &str) -> Version {
    Version::known(version).unwrap_or_else(|why| panic!("{why}"))
}

/// The program at a place of `GATEWRIGHT_HAPROXY`, which is a list like `PATH`. Panics if it does not run.
pub fn named(index: usize) -> Version {
    let programs = std::env::var_os("GATEWRIGHT_HAPROXY").unwrap_or_default();
    let Some(program) = std::env::split_paths(&programs).nth(index) else {
        panic!(
            "GATEWRIGHT_HAPROXY names fewer than {} programs; it named more when this test was built.",
            index + 1
        );
    };
    Version::of(&program).unwrap_or_else(|why| panic!("GATEWRIGHT_HAPROXY: {why}"))
}

/// The oldest known version: for tests that need any HAProxy.
pub fn oldest() -> Version {
    known(tools::HAPROXY_VERSIONS[0])
}

/// The newest known version.
pub fn newest() -> Version {
    known(tools::HAPROXY_VERSIONS[tools::HAPROXY_VERSIONS.len() - 1])
}

impl Version {
    /// One of [`tools::HAPROXY_VERSIONS`].
    pub fn known(version: &str) -> Outcome<Version> {
        Version::of(&tools::haproxy(version)?)
    }

    /// The program at a path, which is asked for its version.
    pub fn of(program: &Path) -> Outcome<Version> {
        let output = command(program, ["-v"])
            .output()
            .map_err(|error| format!("{} cannot be started: {error}.", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let words = text.split_once("version ").map(|(_, rest)| rest);
        let version = words.and_then(|rest| {
            let mut numbers = rest.split(['.', '-', ' ']);
            let major: u32 = numbers.next()?.parse().ok()?;
            let minor: u32 = numbers.next()?.parse().ok()?;
            Some((major, minor))
        });
        let (major, minor) = version.ok_or_else(|| {
            let program = program.display();
            format!("`{program} -v` does not say its version: {text}")
        })?;
        Ok(Version {
            program: program.to_owned(),
            major,
            minor,
        })
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its branch, such as `3.2`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// The newest known branch that is not newer than this program's, or else the oldest one: for tables of what
    /// single versions print.
    pub fn behaves_as(&self) -> &'static str {
        let branch = |name: &str| {
            let (major, minor) = name.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let mut known = tools::HAPROXY_VERSIONS.into_iter().rev();
        known
            .find(|name| branch(name).is_some_and(|(major, minor)| self.is_at_least(major, minor)))
            .unwrap_or(tools::HAPROXY_VERSIONS[0])
    }

    /// Whether `add server … enabled` adds a server that is not in maintenance, as in 2.6 (haproxy/haproxy#2497).
    /// Newer ones refuse the word.
    pub fn adds_enabled_servers(&self) -> bool {
        !self.is_at_least(2, 7)
    }

    /// Whether `bind-process` in `stats` is an error: 2.7 and later.
    pub fn refuses_bind_process(&self) -> bool {
        self.is_at_least(2, 7)
    }

    /// Whether the program warns of `program` sections, `accept-invalid-http-…` options and a name that a frontend
    /// and a backend share: 3.2, and not yet 3.0.
    pub fn warns_of_deprecated_lines(&self) -> bool {
        self.is_at_least(3, 2)
    }

    /// Whether the master answers `reload` with the messages of the load: 2.7 and later.
    pub fn tells_why_a_reload_failed(&self) -> bool {
        self.is_at_least(2, 7)
    }

    /// Whether no known version is older: where each step of a long test is tried, and some of them on the others.
    pub fn is_oldest(&self) -> bool {
        self.name() == tools::HAPROXY_VERSIONS[0]
    }

    fn is_at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

/// What differs between versions.
impl Version {
    /// Whether each of three servers whose ids have one place on the ring of `hash-type consistent` is asked. Only
    /// HAProxy 3.0 does that; before it and in 3.2 one of them never is.
    pub fn asks_three_servers_at_one_place_of_the_ring(&self) -> bool {
        (self.major, self.minor) == (3, 0)
    }

    /// Whether `del map` of a key that the map does not have answers nothing, as for one that it had: 3.4. Older ones
    /// say `Key not found.`
    pub fn deletes_a_missing_key_in_silence(&self) -> bool {
        self.is_at_least(3, 4)
    }

    /// Whether a server can start as down until its first check passes: `init-state`, since HAProxy 3.1.
    pub fn has_init_state(&self) -> bool {
        self.is_at_least(3, 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HAProxy {}", self.name())
    }
}
