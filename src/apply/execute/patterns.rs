//! Maps and pattern files of ACLs are exchanged as a whole, in one step for traffic: a new version is filled
//! beside the one in use, committed, and read back.
//!
//! A file that the worker has loaded under several names is exchanged under each.

use std::path::Path;

use super::super::plan::{AclStep, MapStep};
use super::telling::{Outcome, Telling};
use crate::haproxy::runtime::{Answer, Command, MapInfo, SendError};

impl Telling<'_> {
    /// All entries of a map.
    pub(super) async fn exchange_map(&self, map: &MapStep) -> Result<(), Outcome> {
        let loaded = self.session.maps().await.map_err(refused)?;
        for MapInfo { path: name, .. } in self.named(&loaded, &map.destination, "map")? {
            let prepare = Command::PrepareMap { map: name.clone() };
            let version = self.begin(prepare, &name).await?;
            let entries = Command::add_map_entries(&name, version, map.entries.clone());
            let clear = Command::ClearMapVersion {
                map: name.clone(),
                version,
            };
            let commit = Command::CommitMap {
                map: name.clone(),
                version,
            };
            self.fill(&entries, clear, commit).await?;
            let entries = self.session.map_entries(&name, None).await;
            let entries = entries.map_err(differs)?;
            if entries != map.entries {
                return Err(Outcome::Differs {
                    why: format!("the map {name} has other entries"),
                });
            }
        }
        Ok(())
    }

    /// All patterns of a file.
    pub(super) async fn exchange_acl(&self, acl: &AclStep) -> Result<(), Outcome> {
        let loaded = self.session.acls().await.map_err(refused)?;
        let named = self.named(&loaded, &acl.destination, "pattern file")?;
        if named.iter().any(|one| one.of_map) {
            return Err(Outcome::Refused {
                why: format!("{} is a map, too", acl.destination.display()),
            });
        }
        for MapInfo { path: name, .. } in named {
            let prepare = Command::PrepareAcl { acl: name.clone() };
            let version = self.begin(prepare, &name).await?;
            let add = |pattern: &String| Command::AddAclPattern {
                acl: name.clone(),
                version,
                pattern: pattern.clone(),
            };
            let patterns: Vec<Command> = acl.patterns.iter().map(add).collect();
            let clear = Command::ClearAclVersion {
                acl: name.clone(),
                version,
            };
            let commit = Command::CommitAcl {
                acl: name.clone(),
                version,
            };
            self.fill(&patterns, clear, commit).await?;
            let mut patterns = self.session.acl_patterns(&name).await.map_err(differs)?;
            let mut wanted = acl.patterns.clone();
            // Their order means nothing.
            patterns.sort_unstable();
            wanted.sort_unstable();
            if patterns != wanted {
                return Err(Outcome::Differs {
                    why: format!("the pattern file {name} has other patterns"),
                });
            }
        }
        Ok(())
    }

    /// The same, where it is loaded by any.
    fn named(
        &self,
        loaded: &[MapInfo],
        destination: &Path,
        kind: &str,
    ) -> Result<Vec<MapInfo>, Outcome> {
        let named = self.names_of(loaded, destination)?;
        match named.is_empty() {
            // A file that no line uses is not loaded.
            true => Err(Outcome::Refused {
                why: format!("HAProxy knows no {kind} {}", destination.display()),
            }),
            false => Ok(named),
        }
    }

    /// A file of the set under each name by which the worker has loaded it, where no other name may be the
    /// same file.
    pub(super) fn names_of(
        &self,
        loaded: &[MapInfo],
        destination: &Path,
    ) -> Result<Vec<MapInfo>, Outcome> {
        let shown = destination.display();
        let mut named = Vec::new();
        for one in loaded {
            let path = Path::new(&one.path);
            let is_it = match &self.directory {
                Some(directory) => directory.join(path) == destination,
                None => path == destination,
            };
            // A link, `..` or `default-path` may lead to the same file.
            let unclear = !is_it
                && path.file_name().is_some()
                && path.file_name() == destination.file_name()
                && !self.is_another_file(path, destination);
            if unclear {
                return Err(Outcome::Refused {
                    why: format!("it is not known whether {} is {shown}", one.path),
                });
            }
            if is_it {
                named.push(one.clone());
            }
        }
        Ok(named)
    }

    /// Whether a path, as the worker knows it, certainly leads to another file.
    fn is_another_file(&self, path: &Path, destination: &Path) -> bool {
        let absolute = match (&self.directory, path.is_absolute()) {
            (_, true) => path.to_owned(),
            (Some(directory), false) => directory.join(path),
            (None, false) => return false,
        };
        match (
            std::fs::canonicalize(absolute),
            std::fs::canonicalize(destination),
        ) {
            (Ok(one), Ok(other)) => one != other,
            _ => false,
        }
    }

    async fn begin(&self, prepare: Command, name: &str) -> Result<u32, Outcome> {
        let batch = self.session.send(&[prepare]).await;
        match batch.answers.first() {
            Some(Answer::Version(version)) => Ok(*version),
            _ => Err(Outcome::Refused {
                why: format!("a new version of {name} was not begun"),
            }),
        }
    }

    /// Fills the new version and commits it. The commit goes out only once every entry was taken, for HAProxy
    /// carries out what follows a refused command; and nothing is cleared after it, for HAProxy would clear what
    /// traffic uses (`clear map @VERSION` of the current version, 2.6 to 3.2).
    async fn fill(
        &self,
        entries: &[Command],
        clear: Command,
        commit: Command,
    ) -> Result<(), Outcome> {
        let told = self.send_all(entries).await;
        if told.is_err() {
            let _ = self.session.send(&[clear]).await;
            return told;
        }
        self.send_all(&[commit]).await
    }
}

pub(super) fn refused(error: SendError) -> Outcome {
    Outcome::Refused {
        why: error.to_string(),
    }
}

fn differs(error: SendError) -> Outcome {
    Outcome::Differs {
        why: error.to_string(),
    }
}
