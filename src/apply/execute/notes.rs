//! What somebody should know of HAProxy although nothing has failed yet: rights that are missing, a
//! worker that takes no commands, a program on the disk that is not the one that runs. Looked for at the
//! start and with each look at HAProxy; changes nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, eaccess};

use super::super::environment::{self, one_of_each};
use super::super::set::SetFile;
use super::super::tell::{Mode, Seen};
use super::super::validate::{self, Master};
use super::reads::Other;
use super::{Applier, invocation};
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::check::{CheckError, Invocation, version};
use crate::haproxy::process::user_of;
use crate::haproxy::stats::Running;

/// `haproxy -v` takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// The answer of a program to `-v`, as long as the program stays the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    /// Device, inode and the time of the last change of the inode.
    file: (u64, u64, i64),
    version: Result<String, String>,
}

impl Applier {
    /// Whether the worker has root's rights, as far as its process is seen.
    pub(super) async fn is_root(&mut self, seen: &Seen) -> bool {
        let Seen::Running(running) = seen else {
            return false;
        };
        // Without its master the number may be that of another process here.
        self.known_master().await.is_some() && user_of(running.pid) == Some(0)
    }

    /// A sentence for each.
    pub(super) async fn notes(&mut self, seen: &Seen) -> Vec<String> {
        let mut notes = Vec::new();
        if let Seen::Unknown(why) = seen
            && (self.haproxy.can_ask() || self.haproxy.can_tell())
        {
            notes.push(why.to_string());
        }
        notes.extend(self.haproxy.may_not_tell().await);
        if let Mode::Command { argv } = &self.options.mode
            && let Some(program) = argv.first()
            && find(program).is_none()
        {
            notes.push(format!(
                "The reload command {} was not found or may not be run, so HAProxy cannot be reloaded. Install it, or correct `command` in the settings.",
                Path::new(program).display()
            ));
        }
        let running = match seen {
            Seen::Running(running) => Some(running),
            _ => None,
        };
        if let Some(running) = running
            && self.options.commands
            && self.haproxy.can_tell()
            && self.session(running).await.is_none()
        {
            notes.push(
                "HAProxy has no socket that takes commands, so each change of a server is a reload. Give a `stats socket` of its configuration `level admin`, or name the master socket in the settings.".to_owned(),
            );
        }
        notes.extend(self.about_program(running).await);
        notes.extend(self.about_environment(running).await);
        if let Some(running) = running {
            self.memory.meet(running);
            self.look_for_others().await;
        }
        notes.extend(self.others.iter().filter_map(Other::note));
        notes.extend(self.unnamed());
        notes.extend(self.warned.clone());
        // Where one reason is behind several of them it is said once.
        notes.sort();
        notes.dedup();
        notes
    }

    /// What the set in force reads of the environment that HAProxy lacks, or has with another value.
    async fn about_environment(&mut self, running: Option<&Running>) -> Vec<String> {
        let (Some(running), Some(good)) = (running, &self.last_good) else {
            return Vec::new();
        };
        let revision = good.revision.clone();
        self.memory.meet(running);
        // A large configuration takes long to read, and neither it nor the master's environment changes.
        if let Some((of, told)) = &self.memory.environment
            && *of == revision
        {
            return told.clone();
        }
        let files = good.files.clone();
        let master = self.known_master().await;
        let base = invocation(&self.options);
        let named = self.options.named_variables.clone();
        let told = tokio::task::spawn_blocking(move || {
            environment_in_words(&files, &base, master.as_ref(), &named)
        });
        let told = told.await.unwrap_or_default();
        self.memory.environment = Some((revision, told.clone()));
        told
    }

    /// What is wrong with the program that validates.
    async fn about_program(&mut self, running: Option<&Running>) -> Option<String> {
        let master = match running {
            Some(running) => {
                self.memory.meet(running);
                self.known_master().await
            }
            None => None,
        };
        let base = invocation(&self.options);
        let binary = validate::program(&base, master.as_ref());
        let Some(path) = find(binary.as_os_str()) else {
            return Some(format!(
                "The program {}, which validates each set, was not found or may not be run, so nothing can be applied. Install it, or correct `binary` in the settings.",
                binary.display()
            ));
        };
        let found = std::fs::metadata(&path).ok()?;
        let file = (found.dev(), found.ino(), found.ctime());
        let known = self.program.as_ref();
        if known.is_none_or(|known| (&known.path, known.file) != (&path, file)) {
            let version = version(&base, &path, LIMIT).await;
            self.program = Some(Program {
                version: version.map_err(|error: CheckError| error.to_string()),
                path,
                file,
            });
        }
        let program = self.program.as_ref()?;
        match (&program.version, running) {
            (Err(why), _) => Some(why.clone()),
            (Ok(version), Some(running)) if *version != running.version => Some(format!(
                "HAProxy runs version {}, but {}, which validates each set, is {version}. Restart HAProxy, so that what is validated is what is run.",
                running.version,
                program.path.display()
            )),
            _ => None,
        }
    }
}

fn environment_in_words(
    files: &[SetFile],
    base: &Invocation,
    master: Option<&Master>,
    named: &BTreeSet<String>,
) -> Vec<String> {
    let loaded = validate::loaded(files, base, master);
    let lacks = validate::lacks(&loaded, base, master, named);
    let told = one_of_each(lacks, |_| false).into_iter().map(|lack| {
        let file = loaded.files.get(lack.used.file);
        let place = file.map_or(String::new(), |file| {
            format!("{}:{}: ", file.display(), lack.used.line)
        });
        format!("{place}{} {}", lack.message(), lack.help())
    });
    told.collect()
}

/// How often, and where first, a set was warned of. What its environment lacks is looked for with each look.
pub(super) fn warned(findings: &[Finding]) -> Option<String> {
    let mut warnings = findings.iter().filter(|finding| {
        finding.severity == Severity::Warning && finding.code != environment::CODE
    });
    let first = warnings.next()?;
    let place = first.file.as_ref().map_or(String::new(), |file| {
        format!("{}:{}: ", file.display(), first.line)
    });
    let more = match warnings.count() {
        0 => String::new(),
        more => format!(" There are {more} more warnings."),
    };
    Some(format!(
        "The set in force was warned of: {place}{}{more}",
        first.message
    ))
}

/// Names the content of a program's file, also over a restart of the container that it is in.
pub(super) fn stamp(program: &Path) -> Option<String> {
    let found = std::fs::metadata(find(program.as_os_str())?).ok()?;
    let (size, seconds, nanoseconds) = (found.size(), found.mtime(), found.mtime_nsec());
    Some(format!("{size} {seconds}.{nanoseconds:09}"))
}

/// The file of a program, looked up as a process that is started is. `None` when it cannot be run.
fn find(program: &OsStr) -> Option<PathBuf> {
    find_in(std::env::var_os("PATH").as_deref(), program)
}

fn find_in(folders: Option<&OsStr>, program: &OsStr) -> Option<PathBuf> {
    let may_run = |path: &PathBuf| path.is_file() && eaccess(path, AccessFlags::X_OK).is_ok();
    let path = PathBuf::from(program);
    if path.components().count() > 1 {
        return Some(path).filter(may_run);
    }
    std::env::split_paths(folders?)
        .map(|folder| folder.join(program))
        .find(may_run)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // F07 I12
    #[test]
    fn a_program_that_may_not_be_run_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let folders = Some(directory.path().as_os_str());
        let program = directory.path().join("sh");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(folders, OsStr::new("sh")), Some(program));
        assert!(find_in(folders, OsStr::new("no-such-program")).is_none());
        assert!(find(directory.path().as_os_str()).is_none(), "a directory");
        let file = directory.path().join("haproxy");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        assert!(find(file.as_os_str()).is_none(), "not executable");
    }
}
