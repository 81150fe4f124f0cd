//! Whether the running HAProxy reads the files that Gatewright writes. Until that is known, nothing that
//! the worker says of itself shows what its next start will load, so no command goes out.

use std::path::{Path, PathBuf};

use super::super::target::resolve;
use super::super::tell::Seen;
use super::super::validate::files_of;
use super::{Applier, ApplyError, invocation};
use crate::haproxy::sight::{self, Sight};
use crate::haproxy::stats::Running;

/// What is known of the files that the running worker was started from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reads {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Its master cannot be looked at. The first reload that is confirmed shows it.
    Unseen,
    /// Ours: seen, or shown by a confirmed reload.
    Ours,
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
                    let ours: Vec<&Path> = self
                        .options
                        .configurations()
                        .map(PathBuf::as_path)
                        .collect();
                    let files = files_of(Some(&master), &invocation(&self.options), &ours);
                    compare(master.pid, &ours, &files)?
                }
                None => Reads::Unseen,
            };
        }
        Ok(self.memory.reads)
    }

    /// A worker that has loaded a new revision reads our files.
    pub(super) fn has_read(&mut self, seen: &Seen) {
        if let Seen::Running(running) = seen {
            self.memory.meet(running);
            self.memory.reads = Reads::Ours;
        }
    }
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
