//! What was written, applied and confirmed, and the sets themselves, in the state directory.
//!
//! ```text
//! state.json            written, applied and confirmed revision: three facts, kept apart
//! sets/REVISION/        manifest.json and the files; the last good one is what a failed change goes back to
//! rejected/REVISION/    the same with reason.txt: refused by the validation or by HAProxy
//! journal.json          a change under way (see `journal`)
//! ```
//!
//! Only what HAProxy has rejected is synced, because nothing else knows it. After a power failure the others may be
//! damaged or those of a moment ago.
//!
//! A file here that is damaged, or written by a newer version, is ignored with a warning: the live
//! files are the truth to start from. What cannot be written is kept in memory and written when that works
//! again, so that neither a full disk nor a lost directory stops a change. Never touches a destination.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{
    Access, FileError, TEMPORARY, beside, private_directory, read, remove, remove_directory,
    replace, replace_unsynced, write_unsynced,
};
use super::journal::{decode, encode};
use super::origin::Origin;
use super::rejections::Rejections;
use super::set::{Candidate, Revision, Role, SetFile, is_revision_variable};
use crate::catalog::secrets::Secrets;
use crate::catalog::snapshot::digest;
use crate::text;

/// The version of every file here.
const FORMAT: u32 = 1;
/// Rejected sets that are kept.
const KEEP_REJECTED: usize = 5;

/// A set as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Names the content.
    pub revision: Revision,
    /// Whether a worker that runs the set reports the revision. A configuration that stood there before Gatewright
    /// came carries none.
    pub marked: bool,
    /// The files.
    pub files: Vec<SetFile>,
    /// What of them came from values.
    pub origin: Origin,
}

impl StoredSet {
    /// What no message about the set may show.
    pub fn secrets(&self) -> Secrets {
        let texts = self.files.iter().map(|file| file.text.as_str());
        self.origin.secrets.of_files(texts)
    }
}

/// The three facts, and the sets that HAProxy did not load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// What the destinations hold.
    pub written: Option<Revision>,
    /// What HAProxy was told to load and, as far as it can be asked, did not refuse.
    pub applied: Option<Revision>,
    /// What the worker reported.
    pub confirmed: Option<Revision>,
    /// The workers that were there once `written` was in place, and may have loaded former files; `None` where that
    /// is not known. Only for sets whose revision Gatewright gives to a worker.
    pub earlier: Option<Vec<i32>>,
    /// What HAProxy did not load.
    pub rejected: Rejections,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    written: Option<String>,
    applied: Option<String>,
    confirmed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    earlier: Option<Vec<i32>>,
    /// The latest one as earlier builds wrote it, for which a failed reload command counted, too. Not read.
    #[serde(default)]
    rejected: Option<serde_json::Value>,
    #[serde(default)]
    rejections: Rejections,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    marked: bool,
    /// Grows by one with each set that is kept: the order, whatever the clock does.
    sequence: u64,
    /// Seconds since 1970, for people.
    when: u64,
    files: Vec<ManifestFile>,
    #[serde(default)]
    origin: Origin,
}

#[derive(Serialize, Deserialize)]
struct ManifestFile {
    destination: String,
    role: StoredRole,
    mode: Option<u32>,
    name: String,
    digest: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredRole {
    Map,
    CrtList,
    Other,
    Config,
}

/// The state directory.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    keep: usize,
    state: State,
    /// Sets that are not on the disk: those that the facts name, and the one that is being applied.
    unsaved: Vec<StoredSet>,
    /// Why something is not on the disk; `None` when all is.
    problem: Option<FileError>,
}

impl History {
    /// Opens or makes the directory. `keep` is the number of good sets that are kept, at least one.
    pub fn open(directory: &Path, keep: usize) -> History {
        let problem = make_directories(directory).err();
        clean(directory);
        let path = directory.join("state.json");
        let state =
            load::<StateFile>(&path, |file| file.format).map_or_else(State::default, |file| {
                let revision = |text: Option<String>| text.as_deref().and_then(Revision::parse);
                State {
                    written: revision(file.written),
                    applied: revision(file.applied),
                    confirmed: revision(file.confirmed),
                    earlier: file.earlier,
                    rejected: file.rejections,
                }
            });
        History {
            directory: directory.to_owned(),
            keep: keep.max(1),
            state,
            unsaved: Vec::new(),
            problem,
        }
    }

    /// Why something is not on the disk.
    pub fn problem(&self) -> Option<&FileError> {
        self.problem.as_ref()
    }

    /// The three facts.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Changes the facts; nothing is written when they stay the same.
    pub fn update(&mut self, change: impl FnOnce(&mut State)) {
        let before = self.state.clone();
        change(&mut self.state);
        let save = match self.state.rejected == before.rejected {
            true => replace_unsynced,
            false => replace,
        };
        if self.state != before
            && let Err(error) = self.save_state(save)
        {
            self.failed(error);
        }
    }

    /// Writes what is not on the disk, because it could not be written or because somebody has removed it.
    /// `last_good` is the set that a failed change goes back to.
    pub fn restore(&mut self, last_good: Option<&StoredSet>) {
        let good = last_good.filter(|set| !self.manifest(&set.revision).exists());
        let state = self.directory.join("state.json");
        let lost = good.is_some() || self.state != State::default() && !state.exists();
        if self.problem.is_none() && !lost {
            return;
        }
        if self.problem.is_none() {
            tracing::warn!(
                "The state directory {} was emptied or removed; its files are written again.",
                self.directory.display()
            );
        }
        if let Some(good) = good
            && !self.unsaved.contains(good)
        {
            self.unsaved.push(good.clone());
        }
        match self.try_to_restore() {
            Ok(()) => {
                if self.problem.take().is_some() {
                    tracing::info!(
                        "The state directory {} can be written again.",
                        self.directory.display()
                    );
                }
            }
            Err(error) => self.failed(error),
        }
    }

    fn try_to_restore(&mut self) -> Result<(), FileError> {
        make_directories(&self.directory)?;
        // In their order: each gets the next number.
        while let Some(set) = self.unsaved.first() {
            self.store(set)?;
            self.unsaved.remove(0);
        }
        self.save_state(replace)
    }

    fn save_state(&self, save: Save) -> Result<(), FileError> {
        let text = |revision: &Option<Revision>| revision.as_ref().map(Revision::to_string);
        let file = StateFile {
            format: FORMAT,
            written: text(&self.state.written),
            applied: text(&self.state.applied),
            confirmed: text(&self.state.confirmed),
            earlier: self.state.earlier.clone(),
            rejected: None,
            rejections: self.state.rejected.clone(),
        };
        write(&self.directory.join("state.json"), &file, save)
    }

    /// Said once until everything is on the disk again; the status says it for as long.
    fn failed(&mut self, error: FileError) {
        if self.problem.is_none() {
            tracing::warn!("{}", not_kept(&error));
        }
        self.problem = Some(error);
    }

    fn manifest(&self, revision: &Revision) -> PathBuf {
        let sets = self.directory.join("sets");
        sets.join(revision.as_str()).join("manifest.json")
    }

    fn store(&self, set: &StoredSet) -> Result<(), FileError> {
        let sets = self.directory.join("sets");
        let path = sets.join(set.revision.as_str());
        store(&path, set, next_sequence(&sets))
    }

    /// The set that a failed change goes back to: what the worker confirmed, else what was applied.
    pub fn last_good(&self) -> Option<StoredSet> {
        let good = [&self.state.confirmed, &self.state.applied];
        good.into_iter()
            .flatten()
            .find_map(|revision| self.load_set(revision))
    }

    /// One of the kept sets.
    pub fn load_set(&self, revision: &Revision) -> Option<StoredSet> {
        if let Some(set) = self.unsaved.iter().find(|set| set.revision == *revision) {
            return Some(set.clone());
        }
        let directory = self.directory.join("sets").join(revision.as_str());
        let manifest = load::<Manifest>(&directory.join("manifest.json"), |file| file.format)?;
        let mut files = Vec::new();
        for file in manifest.files {
            let path = directory.join(&file.name);
            let text = read(&path).ok().flatten()?;
            if digest(&text) != file.digest {
                tracing::warn!(path = %path.display(), "a damaged file of a kept set: the set is ignored");
                return None;
            }
            files.push(SetFile {
                destination: decode(&file.destination),
                role: file.role.into(),
                mode: file.mode,
                text,
            });
        }
        Some(StoredSet {
            revision: revision.clone(),
            marked: manifest.marked,
            files,
            origin: manifest.origin,
        })
    }

    /// The kept good sets, newest first.
    pub fn kept(&self) -> Vec<Revision> {
        by_age(&self.directory.join("sets"))
            .into_iter()
            .filter_map(|(_, path)| Revision::parse(path.file_name()?.to_str()?))
            .collect()
    }

    /// Keeps a set; the facts say later whether it was good. The oldest beyond the number kept are
    /// removed, never one that the facts name.
    pub fn keep(&mut self, set: &StoredSet) {
        let sets = self.directory.join("sets");
        let path = sets.join(set.revision.as_str());
        let named = [
            &self.state.written,
            &self.state.applied,
            &self.state.confirmed,
        ];
        self.unsaved
            .retain(|one| named.contains(&&Some(one.revision.clone())));
        // A set that was adopted has the revision of its text, but not the marker in it.
        if self.load_set(&set.revision).as_ref() != Some(set)
            && let Err(error) = self.store(set)
        {
            remove_directory(&path);
            self.unsaved.retain(|one| one.revision != set.revision);
            self.unsaved.push(set.clone());
            self.failed(error);
        }
        let named = [
            &self.state.written,
            &self.state.applied,
            &self.state.confirmed,
        ];
        // The one just kept is not good yet, so it does not count.
        for (_, old) in by_age(&sets).into_iter().skip(self.keep + 1) {
            let is_named = old.file_name().is_some_and(|name| {
                named
                    .into_iter()
                    .flatten()
                    .any(|revision| name == revision.as_str())
            });
            if !is_named && old != path {
                remove_directory(&old);
            }
        }
    }

    /// Sets a candidate aside with the reason, for a person to look at. Returns where.
    pub fn set_aside(&self, candidate: &Candidate, reason: &str) -> Result<PathBuf, FileError> {
        let rejected = self.directory.join("rejected");
        let path = rejected.join(candidate.revision.as_str());
        let set = StoredSet::from(candidate);
        store(&path, &set, next_sequence(&rejected))?;
        let note = path.join("reason.txt");
        write_unsynced(
            &note,
            format!("{}\n", reason.trim_end()).as_bytes(),
            Access::PRIVATE,
        )?;
        for (_, old) in by_age(&rejected).into_iter().skip(KEEP_REJECTED) {
            remove_directory(&old);
        }
        Ok(path)
    }

    /// Takes the files that stand at the destinations as the last good set, when nothing better is
    /// known: the first start beside a running HAProxy, or a lost state directory.
    pub fn adopt_live(&mut self, destinations: &[(PathBuf, Role)]) -> Result<(), FileError> {
        if self.last_good().is_some() {
            return Ok(());
        }
        let mut files = Vec::new();
        for (destination, role) in destinations {
            if let Some(text) = read(destination)? {
                files.push(SetFile {
                    destination: destination.clone(),
                    role: *role,
                    mode: None,
                    text,
                });
            }
        }
        let alone = destinations.iter().all(|(_, role)| *role != Role::Config);
        let is_main = |file: &&SetFile| file.role == Role::Config && !file.text.trim().is_empty();
        let marked = match files.iter().find(is_main) {
            Some(main) => revision_in(&main.text),
            // Which set a worker runs is shown by the worker alone.
            None if alone && !files.is_empty() => Some(Candidate::new(files.clone()).revision),
            None => return Ok(()),
        };
        let set = StoredSet {
            marked: marked.is_some(),
            revision: marked.unwrap_or_else(|| Candidate::new(files.clone()).revision),
            files,
            origin: Origin::default(),
        };
        self.keep(&set);
        self.update(|state| {
            state.written = Some(set.revision.clone());
            state.applied = Some(set.revision.clone());
            state.confirmed = None;
        });
        Ok(())
    }
}

/// What a person must know while the state directory cannot be written.
pub fn not_kept(error: &FileError) -> String {
    format!(
        "{error} Gatewright goes on without that: HAProxy starts from the live files, but a change of several files waits, and a restart of Gatewright knows no earlier set."
    )
}

fn make_directories(directory: &Path) -> Result<(), FileError> {
    private_directory(directory)?;
    private_directory(&directory.join("sets"))?;
    private_directory(&directory.join("rejected"))
}

/// Removes what a crash has left half written: it was never renamed into its place, or has no manifest.
fn clean(directory: &Path) {
    for name in ["state.json", "journal.json"] {
        let path = directory.join(name);
        let _ = remove(&beside(&path, TEMPORARY));
        // Nothing takes the place of a directory; whatever is in it is not ours.
        if path.is_dir() {
            let _ = std::fs::remove_dir(&path);
        }
    }
    for part in ["sets", "rejected"] {
        for (_, path) in by_age(&directory.join(part)) {
            if !path.join("manifest.json").exists() {
                remove_directory(&path);
            }
        }
    }
}

/// The revision that the last marker of a configuration carries.
fn revision_in(text: &str) -> Option<Revision> {
    let value = text.lines().rev().find_map(|line| {
        let rest = line.trim().strip_prefix("set-var")?.trim();
        let (name, value) = rest.split_once(' ')?;
        is_revision_variable(name).then(|| value.trim())
    })?;
    Revision::parse(value.strip_prefix("str(")?.strip_suffix(')')?)
}

fn store(path: &Path, set: &StoredSet, sequence: u64) -> Result<(), FileError> {
    remove_directory(path);
    private_directory(path)?;
    let mut listed = Vec::new();
    for (index, file) in set.files.iter().enumerate() {
        let base = file.destination.file_name().unwrap_or_default();
        let base: String = base
            .to_string_lossy()
            .chars()
            .filter(|character| character.is_ascii_alphanumeric() || "._-".contains(*character))
            .take(60)
            .collect();
        let name = format!("{index}-{base}");
        write_unsynced(&path.join(&name), file.text.as_bytes(), Access::PRIVATE)?;
        listed.push(ManifestFile {
            destination: encode(&file.destination),
            role: file.role.into(),
            mode: file.mode,
            name,
            digest: digest(&file.text),
        });
    }
    let manifest = Manifest {
        format: FORMAT,
        marked: set.marked,
        sequence,
        when: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        files: listed,
        origin: set.origin.clone(),
    };
    // Last: without it the directory is no set. Its digests tell a file that did not reach the disk.
    write(&path.join("manifest.json"), &manifest, replace_unsynced)
}

/// How a file of ours is replaced: synced or not.
type Save = fn(&Path, &[u8], Access) -> Result<(), FileError>;

fn write(path: &Path, value: &impl Serialize, save: Save) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| FileError::of("write", path)(error.into()))?;
    text.push(b'\n');
    save(path, &text, Access::PRIVATE)
}

fn load<T: DeserializeOwned>(path: &Path, format: impl Fn(&T) -> u32) -> Option<T> {
    let bytes = text::bytes(path, text::WRITTEN).ok()?;
    match serde_json::from_slice::<T>(&bytes) {
        Ok(value) if format(&value) == FORMAT => Some(value),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "a state file of another version is ignored");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a damaged state file is ignored");
            None
        }
    }
}

/// Sets of a directory, newest first; what is no set comes last and is removed first.
fn by_age(directory: &Path) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .map(|path| {
            let manifest = text::bytes(&path.join("manifest.json"), text::WRITTEN).ok();
            let sequence = manifest
                .and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok())
                .map_or(0, |manifest| manifest.sequence);
            (sequence, path)
        })
        .collect();
    found.sort_by(|one, two| two.cmp(one));
    found
}

fn next_sequence(directory: &Path) -> u64 {
    by_age(directory)
        .first()
        .map_or(1, |(newest, _)| newest.saturating_add(1))
}

impl From<Role> for StoredRole {
    fn from(role: Role) -> StoredRole {
        match role {
            Role::Map => StoredRole::Map,
            Role::CrtList => StoredRole::CrtList,
            Role::Other => StoredRole::Other,
            Role::Config => StoredRole::Config,
        }
    }
}

impl From<StoredRole> for Role {
    fn from(role: StoredRole) -> Role {
        match role {
            StoredRole::Map => Role::Map,
            StoredRole::CrtList => Role::CrtList,
            StoredRole::Other => Role::Other,
            StoredRole::Config => Role::Config,
        }
    }
}

/// A kept set as a candidate has it.
impl From<&Candidate> for StoredSet {
    fn from(candidate: &Candidate) -> StoredSet {
        StoredSet {
            revision: candidate.revision.clone(),
            marked: true,
            files: candidate.files.clone(),
            origin: candidate.origin.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
