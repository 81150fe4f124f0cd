//! What was written, applied and confirmed, and the sets themselves, in the state directory.
//!
//! ```text
//! state.json            written, applied and confirmed revision: three facts, kept apart
//! sets/REVISION/        manifest.json and the files; the last good one is what a failed change goes back to
//! rejected/REVISION/    the same with reason.txt: refused by the validation or by HAProxy
//! journal.json          a change under way (see `journal`)
//! ```
//!
//! A file here that is damaged, or written by a newer version, is ignored with a warning: the live
//! files are the truth to start from. Never touches a destination.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{
    Access, FileError, TEMPORARY, beside, private_directory, read, remove, remove_directory,
    replace, write_new,
};
use super::journal::{decode, encode};
use super::origin::Origin;
use super::rejections::Rejections;
use super::set::{Candidate, Revision, Role, SetFile, is_revision_variable};
use crate::catalog::snapshot::digest;

/// The version of every file here.
const FORMAT: u32 = 1;
/// Rejected sets that are kept.
const KEEP_REJECTED: usize = 5;

/// A set as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Names the content.
    pub revision: Revision,
    /// Whether the configuration carries the revision, so that a worker can report it. One that
    /// stood there before Gatewright came does not.
    pub marked: bool,
    /// The files.
    pub files: Vec<SetFile>,
    /// What of them came from values.
    pub origin: Origin,
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
    /// What HAProxy did not load.
    pub rejected: Rejections,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    written: Option<String>,
    applied: Option<String>,
    confirmed: Option<String>,
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
}

impl History {
    /// Opens or makes the directory. `keep` is the number of good sets that are kept, at least one.
    pub fn open(directory: &Path, keep: usize) -> Result<History, FileError> {
        for part in [
            directory,
            &directory.join("sets"),
            &directory.join("rejected"),
        ] {
            private_directory(part)?;
        }
        clean(directory);
        let path = directory.join("state.json");
        let state =
            load::<StateFile>(&path, |file| file.format).map_or_else(State::default, |file| {
                let revision = |text: Option<String>| text.as_deref().and_then(Revision::parse);
                State {
                    written: revision(file.written),
                    applied: revision(file.applied),
                    confirmed: revision(file.confirmed),
                    rejected: file.rejections,
                }
            });
        Ok(History {
            directory: directory.to_owned(),
            keep: keep.max(1),
            state,
        })
    }

    /// The three facts.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Changes the facts; nothing is written when they stay the same.
    pub fn update(&mut self, change: impl FnOnce(&mut State)) -> Result<(), FileError> {
        let mut state = self.state.clone();
        change(&mut state);
        if state == self.state {
            return Ok(());
        }
        let text = |revision: &Option<Revision>| revision.as_ref().map(Revision::to_string);
        let file = StateFile {
            format: FORMAT,
            written: text(&state.written),
            applied: text(&state.applied),
            confirmed: text(&state.confirmed),
            rejected: None,
            rejections: state.rejected.clone(),
        };
        save(&self.directory.join("state.json"), &file)?;
        self.state = state;
        Ok(())
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
    pub fn keep(&self, set: &StoredSet) -> Result<(), FileError> {
        let sets = self.directory.join("sets");
        let path = sets.join(set.revision.as_str());
        // A set that was adopted has the revision of its text, but not the marker in it.
        if self.load_set(&set.revision).as_ref() != Some(set) {
            store(&path, set, next_sequence(&sets))?;
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
        Ok(())
    }

    /// Sets a candidate aside with the reason, for a person to look at. Returns where.
    pub fn set_aside(&self, candidate: &Candidate, reason: &str) -> Result<PathBuf, FileError> {
        let rejected = self.directory.join("rejected");
        let path = rejected.join(candidate.revision.as_str());
        let set = StoredSet::from(candidate);
        store(&path, &set, next_sequence(&rejected))?;
        let note = path.join("reason.txt");
        write_new(
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
        let is_main = |file: &&SetFile| file.role == Role::Config && !file.text.trim().is_empty();
        let Some(main) = files.iter().find(is_main) else {
            return Ok(());
        };
        let marked = revision_in(&main.text);
        let set = StoredSet {
            marked: marked.is_some(),
            revision: marked.unwrap_or_else(|| Candidate::new(files.clone()).revision),
            files,
            origin: Origin::default(),
        };
        self.keep(&set)?;
        self.update(|state| {
            state.written = Some(set.revision.clone());
            state.applied = Some(set.revision.clone());
            state.confirmed = None;
        })
    }
}

/// Removes what a crash has left half written: it was never renamed into its place, or has no manifest.
fn clean(directory: &Path) {
    for name in ["state.json", "journal.json"] {
        let _ = remove(&beside(&directory.join(name), TEMPORARY));
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
        write_new(&path.join(&name), file.text.as_bytes(), Access::PRIVATE)?;
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
    // Last: without it the directory is no set.
    save(&path.join("manifest.json"), &manifest)
}

fn save(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| FileError::of("write", path)(error.into()))?;
    text.push(b'\n');
    replace(path, &text, Access::PRIVATE)
}

fn load<T: DeserializeOwned>(path: &Path, format: impl Fn(&T) -> u32) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
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
            let manifest = std::fs::read(path.join("manifest.json")).ok();
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
mod tests {
    use super::*;

    fn set(text: &str) -> Candidate {
        Candidate::new(vec![SetFile {
            destination: "/etc/haproxy/h.cfg".into(),
            role: Role::Config,
            mode: Some(0o640),
            text: text.into(),
        }])
    }

    #[test]
    fn the_facts_and_the_sets_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let one = set("one");
        let mut history = History::open(directory.path(), 2).unwrap();
        assert_eq!(
            (history.state(), history.last_good()),
            (&State::default(), None)
        );
        history.keep(&StoredSet::from(&one)).unwrap();
        history
            .update(|state| state.confirmed = Some(one.revision.clone()))
            .unwrap();
        let again = History::open(directory.path(), 2).unwrap();
        assert_eq!(again.state(), history.state());
        assert_eq!(again.last_good().unwrap().files, one.files);
    }

    #[test]
    fn old_sets_go_but_never_the_confirmed_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut history = History::open(directory.path(), 2).unwrap();
        let first = set("first");
        history.keep(&StoredSet::from(&first)).unwrap();
        history
            .update(|state| state.confirmed = Some(first.revision.clone()))
            .unwrap();
        for number in 0..9 {
            let candidate = set(&format!("set {number}"));
            history.keep(&StoredSet::from(&candidate)).unwrap();
            history.set_aside(&candidate, "why").unwrap();
        }
        let kept = history.kept();
        assert_eq!(kept.len(), 4, "two, the newest and the confirmed");
        assert!(kept.contains(&first.revision));
        assert_eq!(
            by_age(&directory.path().join("rejected")).len(),
            KEEP_REJECTED
        );
    }

    // E12 J10
    #[test]
    fn damage_and_newer_versions_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let one = set("one");
        let mut history = History::open(directory.path(), 2).unwrap();
        history.keep(&StoredSet::from(&one)).unwrap();
        history
            .update(|state| state.applied = Some(one.revision.clone()))
            .unwrap();
        let sets = directory.path().join("sets").join(one.revision.as_str());
        std::fs::write(sets.join("0-h.cfg"), "tampered").unwrap();
        assert_eq!(history.last_good(), None);
        for text in [
            "",
            "{",
            "{\"format\":2,\"written\":null,\"applied\":null,\"confirmed\":null,\"rejected\":null}",
        ] {
            std::fs::write(directory.path().join("state.json"), text).unwrap();
            let history = History::open(directory.path(), 2).unwrap();
            assert_eq!(history.state(), &State::default());
        }
    }

    // E12
    #[test]
    fn live_files_are_taken_over_with_the_revision_they_carry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("h.cfg");
        let destinations = [(path.clone(), Role::Config)];
        let state = directory.path().join("state");
        let mut history = History::open(&state, 2).unwrap();
        history.adopt_live(&destinations).unwrap();
        assert_eq!(history.last_good(), None, "there is nothing yet");
        let ours = set("global\n");
        std::fs::write(&path, &ours.files[0].text).unwrap();
        history.adopt_live(&destinations).unwrap();
        let good = history.last_good().unwrap();
        assert_eq!((good.marked, good.revision), (true, ours.revision));

        std::fs::write(&path, "# by hand\n").unwrap();
        let mut other = History::open(&directory.path().join("other"), 2).unwrap();
        other.adopt_live(&destinations).unwrap();
        assert!(!other.last_good().unwrap().marked);
    }

    #[test]
    fn a_set_that_was_adopted_is_kept_anew_when_it_is_written_with_its_marker() {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("h.cfg");
        std::fs::write(&live, "frontend f\n").unwrap();
        let mut history = History::open(&directory.path().join("state"), 2).unwrap();
        history.adopt_live(&[(live.clone(), Role::Config)]).unwrap();
        let candidate = Candidate::new(vec![SetFile {
            destination: live,
            role: Role::Config,
            mode: None,
            text: "frontend f\n".into(),
        }]);
        assert_eq!(history.state().written.as_ref(), Some(&candidate.revision));
        history.keep(&StoredSet::from(&candidate)).unwrap();
        let kept = history.load_set(&candidate.revision).unwrap();
        assert_eq!(kept.files, candidate.files);
    }
}
