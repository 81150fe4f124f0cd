//! HAProxy's own validation: the same binary, flags, files, directory and environment as the master
//! that will load them, with `-c`. What it prints is handed on as it is.
//!
//! "Could not be run" is never "valid": it is an error of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::child::{self, ChildError, Limits};
use super::redact;
use super::tally::TALLY;

/// Output that is kept of one run.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// How HAProxy is called, apart from what is validated.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The program.
    pub binary: PathBuf,
    /// Flags that change what is valid, such as `-W` (without it a `program` section is refused).
    pub flags: Vec<OsString>,
    /// The configuration files in the order of `-f`.
    pub files: Vec<PathBuf>,
    /// Relative paths in the configuration start here.
    pub working_directory: Option<PathBuf>,
    /// The whole environment, apart from a search path where it holds none.
    pub environment: BTreeMap<OsString, OsString>,
}

/// What HAProxy said.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit 0; there may be warnings.
    Valid {
        /// Everything it printed, up to 64 KiB.
        output: Vec<u8>,
    },
    /// Exit 1 (errors) or 2 (no error, but nothing to listen on).
    Invalid {
        /// Everything it printed, up to 64 KiB.
        output: Vec<u8>,
        /// It was exit 2.
        no_listener: bool,
    },
}

/// The validation itself failed, which says nothing about the configuration.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It did not run to an end.
    #[error("HAProxy's validation could not be run, so nothing was changed.")]
    Run(#[from] ChildError),
    /// It was killed by somebody, such as the kernel when memory ran out.
    #[error(
        "HAProxy's validation was killed by signal {signal}, so nothing was changed. If memory ran out, raise the limit of this service."
    )]
    Killed {
        /// The signal.
        signal: i32,
    },
    /// It does not say that it is HAProxy.
    #[error("The program {} does not say that it is HAProxy: {output:?}. Correct `binary` in the settings.", program.display())]
    NoHaproxy {
        /// What was run.
        program: PathBuf,
        /// The start of its output.
        output: String,
    },
    /// An exit status that no HAProxy gives for `-c`.
    #[error(
        "HAProxy's validation ended with exit status {status}, which HAProxy does not use for it: {output}"
    )]
    Unknown {
        /// The status.
        status: i32,
        /// The start of its output.
        output: String,
    },
}

/// The environment of every HAProxy we start: a search path and what is given, nothing inherited.
fn environment(given: &BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
    let mut environment = given.clone();
    environment.entry("PATH".into()).or_insert_with(|| {
        std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into())
    });
    environment
}

impl Invocation {
    /// The command for these files with `more` flags before them.
    pub fn command<const N: usize>(&self, more: [OsString; N]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(&self.flags)
            .args(more)
            .args(
                self.files
                    .iter()
                    .flat_map(|file| ["-f".into(), file.clone().into_os_string()]),
            )
            .env_clear()
            .envs(environment(&self.environment));
        if let Some(directory) = &self.working_directory {
            command.current_dir(directory);
        }
        command
    }
}

/// Runs `BINARY flags -c -f A -f B …`. Kills and reaps it with all its children at the limit.
pub async fn check(invocation: &Invocation, limit: Duration) -> Result<Outcome, CheckError> {
    let begun = Instant::now();
    let outcome = run(invocation, limit).await;
    TALLY.validated(&outcome, begun.elapsed());
    outcome
}

async fn run(invocation: &Invocation, limit: Duration) -> Result<Outcome, CheckError> {
    let limits = Limits {
        time: limit,
        output: OUTPUT_LIMIT,
    };
    let ended = child::run(invocation.command(["-c".into()]), limits).await?;
    let output = ended.output;
    match (ended.status.code(), ended.status.signal()) {
        (Some(0), _) => Ok(Outcome::Valid { output }),
        (Some(status @ (1 | 2)), _) => Ok(Outcome::Invalid {
            output,
            no_listener: status == 2,
        }),
        (None, Some(signal)) => Err(CheckError::Killed { signal }),
        (status, _) => Err(CheckError::Unknown {
            status: status.unwrap_or(-1),
            output: redact::hide(&String::from_utf8_lossy(&output), &[])
                .chars()
                .take(300)
                .collect(),
        }),
    }
}

/// What a program says to `-v` of itself, as the worker says it in `show info`: `2.6.12-1+deb12u4`.
pub async fn version(
    base: &Invocation,
    program: &Path,
    limit: Duration,
) -> Result<String, CheckError> {
    let mut command = Command::new(program);
    command
        .arg("-v")
        .env_clear()
        .envs(environment(&base.environment));
    let limits = Limits {
        time: limit,
        output: 4096,
    };
    let ended = child::run(command, limits).await?;
    let output = String::from_utf8_lossy(&ended.output);
    // `HAProxy version 2.6.12-1+deb12u4 2025/04/24 - https://haproxy.org/`; `HA-Proxy` before 2.4.
    let word = output
        .lines()
        .find_map(|line| line.split_once("roxy version ")?.1.split(' ').next());
    match (ended.status.success(), word) {
        (true, Some(word)) => Ok(word.to_owned()),
        _ => Err(CheckError::NoHaproxy {
            program: program.to_owned(),
            output: output.chars().take(300).collect(),
        }),
    }
}
