//! Whether the running HAProxy reads the files that Gatewright writes. Until that is known, nothing that
//! the worker says of itself shows what its next start will load, so no command goes out.

use std::path::{Path, PathBuf};

use super::super::carrier::Carrier;
use super::super::lock::writer_of;
use super::super::set::{REVISION_VARIABLE, is_revision_variable};
use super::super::target::resolve;
use super::super::tell::Seen;
use super::super::validate::{files_of, read_other};
use super::{Applier, ApplyError, invocation};
use crate::haproxy::sight::{self, Sight};
use crate::haproxy::stats::Running;

/// What is known of the files that the running worker was started from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reads {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Its master cannot be looked at. The first reload that is confirmed shows it.
    Unseen,
    /// Ours: seen, or shown by a confirmed reload.
    Ours,
}

/// Another Gatewright that writes a file which the same HAProxy loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    pub file: PathBuf,
    /// Its process, where its lock is visible here.
    pid: Option<i32>,
    /// Whether it uses the one variable that earlier builds had for every set.
    shares: bool,
}

impl Other {
    pub fn in_words(&self) -> String {
        let process = self
            .pid
            .map_or(String::new(), |pid| format!(" (process {pid})"));
        let file = self.file.display();
        format!("Another Gatewright{process} writes {file}, which the same HAProxy loads.")
    }

    /// What is wrong with it.
    pub fn note(&self) -> Option<String> {
        self.shares.then(|| {
            format!(
                "{} It is of an earlier version, which takes every reload of this one for a foreign configuration. Upgrade it.",
                self.in_words()
            )
        })
    }
}

impl Applier {
    /// Compares the configurations of the set with what the master of this worker loads, once for each
    /// worker. An error where it loads another file.
    pub(super) async fn look_at_files(&mut self, running: &Running) -> Result<Reads, ApplyError> {
        self.memory.meet(running);
        if self.memory.reads == Reads::Unknown {
            let Some(master) = self.known_master().await else {
                return Ok(Reads::Unseen);
            };
            self.memory.reads = match master.started {
                Some(_) => {
                    let ours = self.options.key_files();
                    let ours: Vec<&Path> = ours.iter().map(PathBuf::as_path).collect();
                    match self.carrier {
                        Carrier::File(_) => {
                            let files = files_of(Some(&master), &invocation(&self.options), &ours);
                            compare(master.pid, &ours, &files)?
                        }
                        // Others name each file by the path at which we write it.
                        Carrier::Command(_) => {
                            let each = ours
                                .iter()
                                .map(|path| compare(master.pid, &[path], &[path.to_path_buf()]));
                            each.collect::<Result<Vec<Reads>, _>>()?
                                .into_iter()
                                .min()
                                .unwrap_or_default()
                        }
                    }
                }
                None => Reads::Unseen,
            };
        }
        Ok(self.memory.reads)
    }

    /// Looks for other Gatewrights that write files of this HAProxy.
    pub(super) async fn look_for_others(&mut self) {
        let Some(master) = self.known_master().await else {
            return;
        };
        if master.started.is_none() {
            return;
        }
        let ours: Vec<&Path> = self
            .options
            .configurations()
            .map(PathBuf::as_path)
            .collect();
        let files = files_of(Some(&master), &invocation(&self.options), &ours);
        let others = others(&ours, &files);
        for other in others.iter().filter(|one| !self.others.contains(one)) {
            tracing::info!("{}", other.in_words());
        }
        self.others = others;
    }

    /// A worker that has loaded a new revision reads our files.
    pub(super) fn has_read(&mut self, seen: &Seen) {
        if let Seen::Running(running) = seen {
            self.memory.meet(running);
            self.memory.reads = Reads::Ours;
        }
    }
}

/// The files among those that HAProxy loads which another Gatewright writes.
fn others(ours: &[&Path], files: &[PathBuf]) -> Vec<Other> {
    let ours: Vec<PathBuf> = ours.iter().map(|path| resolve(path)).collect();
    let files = files.iter().filter(|file| !ours.contains(&resolve(file)));
    let found = files.filter_map(|file| {
        let text = read_other(file);
        let at = text.rfind(REVISION_VARIABLE)?;
        let variable = text[at..].split_whitespace().next()?;
        is_revision_variable(variable).then(|| Other {
            file: file.clone(),
            pid: writer_of(&resolve(file)),
            shares: variable == REVISION_VARIABLE,
        })
    });
    found.collect()
}

/// The configurations, each with what the master sees at the path by which it loads it.
fn compare(pid: i32, ours: &[&Path], files: &[PathBuf]) -> Result<Reads, ApplyError> {
    let mut reads = Reads::Ours;
    for &destination in ours {
        let sights = files
            .iter()
            .map(|file| (file, sight::compare(pid, file, destination)));
        let place = resolve(destination);
        // The same file may have another path there; what has our path there should be our file.
        let found = sights
            .filter(|(file, sight)| *sight == Sight::Same || resolve(file) == place)
            .min_by_key(|(_, sight)| *sight);
        let destination = destination.to_path_buf();
        match found {
            Some((_, Sight::Same)) => {}
            Some((_, Sight::Unknown)) => reads = Reads::Unseen,
            Some((file, Sight::Mounted)) => {
                let file = file.clone();
                return Err(ApplyError::MountedAlone { pid, file });
            }
            Some((_, Sight::Other)) => return Err(ApplyError::AnotherFile { pid, destination }),
            None => return Err(ApplyError::NotLoaded { pid, destination }),
        }
    }
    Ok(reads)
}
