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
    /// The whole environment: a token of ours must not be readable as `"${CONSUL_HTTP_TOKEN}"`.
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

/// The environment of every HAProxy we start: a search path and what the settings give, nothing
/// inherited.
pub fn environment(given: &BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
    let mut environment = given.clone();
    environment.entry("PATH".into()).or_insert_with(|| {
        std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into())
    });
    environment.retain(|name, _| !name.as_encoded_bytes().starts_with(b"CONSUL_"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, Invocation) {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("haproxy");
        std::fs::write(&binary, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        let invocation = Invocation {
            binary,
            flags: vec!["-W".into()],
            files: vec!["/a.cfg".into(), "/b.cfg".into()],
            working_directory: None,
            environment: BTreeMap::from([("CONSUL_HTTP_TOKEN".into(), "secret".into())]),
        };
        (directory, invocation)
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn f03_f11_flags_files_and_a_clean_environment_are_handed_over() {
        let (_directory, invocation) = script("echo \"$@\"; env | grep -c CONSUL; exit 0");
        let Outcome::Valid { output } = check(&invocation, LIMIT).await.unwrap() else {
            panic!("valid");
        };
        assert_eq!(output, b"-W -c -f /a.cfg -f /b.cfg\n0\n");
    }

    /// Whatever is open here, a validator has three descriptors, and nothing to read.
    #[tokio::test]
    async fn f11_a_validator_gets_no_input_and_no_descriptor_of_ours() {
        let (directory, invocation) = script("cat; ls -l /proc/$$/fd");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "secret\n").unwrap();
        let _open = std::fs::File::open(&secret).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _lock = crate::apply::lock::Lock::acquire(
            &directory.path().join("state"),
            &directory.path().join("h.cfg"),
        )
        .unwrap();
        let Outcome::Valid { output } = check(&invocation, LIMIT).await.unwrap() else {
            panic!("valid");
        };
        let listed = String::from_utf8(output).unwrap();
        let inherited: Vec<String> = (3..1024)
            .filter(|number| {
                let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
                let flags = about.ok().and_then(|text| {
                    let line = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
                    u32::from_str_radix(line.trim(), 8).ok()
                });
                // O_CLOEXEC
                flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
            })
            .map(|number| format!(" {number} -> "))
            .collect();
        let open: Vec<&str> = listed
            .lines()
            .filter(|line| line.contains("->"))
            // What the shell opens for itself is at 10 and above.
            .filter(|line| !line.ends_with("/haproxy") && !line.contains(" 10 -> "))
            // This program may have been started with descriptors; see `close_inherited`.
            .filter(|line| !inherited.iter().any(|number| line.contains(number)))
            .collect();
        assert_eq!(open.len(), 3, "{listed}");
        assert!(open[0].ends_with("-> /dev/null"), "{listed}");
        for line in &open[1..] {
            assert!(line.contains("-> pipe:"), "{listed}");
        }
        drop(listener);
    }

    #[tokio::test]
    async fn f07_i11_what_cannot_be_started_is_never_a_yes() {
        let (directory, invocation) = script("exit 0");
        // Open for writing (ETXTBSY), as while a package is being unpacked.
        let busy = std::fs::File::options()
            .write(true)
            .open(&invocation.binary)
            .unwrap();
        let error = check(&invocation, LIMIT).await.unwrap_err();
        assert!(
            matches!(&error, CheckError::Run(ChildError::Start { .. })),
            "{error}"
        );
        drop(busy);
        assert!(matches!(
            check(&invocation, LIMIT).await,
            Ok(Outcome::Valid { .. })
        ));
        // Empty, as after a package was unpacked onto a full disk; no program; not executable.
        let program = |name: &str, text: &[u8], mode: u32| {
            use std::os::unix::fs::PermissionsExt;
            let binary = directory.path().join(name);
            std::fs::write(&binary, text).unwrap();
            std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(mode)).unwrap();
            Invocation {
                binary,
                ..invocation.clone()
            }
        };
        for (name, text, mode) in [
            ("empty", &b""[..], 0o755),
            ("rubbish", b"\x7fELF\0\0", 0o755),
            ("data", b"#!/bin/sh\nexit 0\n", 0o644),
        ] {
            let outcome = check(&program(name, text, mode), LIMIT).await;
            assert!(outcome.is_err(), "{name}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn f06_f07_each_end_has_its_class() {
        let (_a, two) = script("exit 2");
        assert!(matches!(
            check(&two, LIMIT).await,
            Ok(Outcome::Invalid {
                no_listener: true,
                ..
            })
        ));
        let (_b, killed) = script("kill -9 $$");
        let error = check(&killed, LIMIT).await.unwrap_err();
        assert!(matches!(error, CheckError::Killed { signal: 9 }), "{error}");
        let (_c, seven) = script("exit 7");
        assert!(matches!(
            check(&seven, LIMIT).await,
            Err(CheckError::Unknown { status: 7, .. })
        ));
        let (_d, slow) = script("sleep 60");
        let error = check(&slow, Duration::from_millis(300)).await.unwrap_err();
        assert!(
            matches!(error, CheckError::Run(ChildError::TimedOut { .. })),
            "{error}"
        );
    }
}
