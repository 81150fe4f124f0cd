//! The swap of a staged set as one step: all of it or none, also across a crash.
//!
//! Before the first rename, every former file is kept beside its destination (a hard link, so it
//! needs no space) and the whole intent is on disk in the state directory. From then on any crash
//! finds either all former files or all new ones. The former ones are kept until the change is
//! confirmed or taken back. Never decides whether a change is good.
//!
//! Each new file is synced before it takes its place and each directory after that. The record is synced where several
//! files change: one file is whole at every moment by its rename alone. Nothing else waits for the disk. A journaling
//! file system keeps the order of names within a directory, so after a power failure a new name implies that the
//! former file was kept. What the record then says is held against the content: it may be a moment old.
//!
//! Where the state directory cannot be written, a change of one file goes on without a record: its rename alone
//! is one step. A change of several waits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{
    Access, FileError, beside, keep, read, remove, rename, replace, replace_unsynced, sync,
    sync_parent,
};
use super::set::Revision;
use super::stage::{Entry, OLD, Previous};
use crate::catalog::snapshot::digest;
use crate::text;

/// The version of the record.
const FORMAT: u32 = 1;

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Some destinations may hold the new files and some the former.
    Committing,
    /// All destinations hold the new files; HAProxy was not told.
    Committed,
    /// HAProxy was told.
    Told,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    revision: String,
    phase: Phase,
    files: Vec<RecordFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordFile {
    /// Percent-encoded: a path need not be UTF-8.
    target: String,
    existed: bool,
    changed: bool,
    /// The digest of what is put back. Earlier builds did not write it.
    #[serde(default)]
    former: Option<String>,
    /// The digest of what takes its place.
    #[serde(default)]
    new: Option<String>,
}

/// A change between its commit and its end. When the process dies, the record on disk stays.
#[derive(Debug)]
pub struct Change {
    path: PathBuf,
    record: Record,
    /// Whether the record is on the disk.
    recorded: bool,
}

impl Change {
    /// Swaps the staged files in. On an error all former files are back.
    pub fn commit(
        state_directory: &Path,
        revision: &Revision,
        entries: Vec<Entry>,
    ) -> Result<Change, FileError> {
        let mut change = Change {
            path: state_directory.join("journal.json"),
            recorded: false,
            record: Record {
                format: FORMAT,
                revision: revision.to_string(),
                phase: Phase::Committing,
                files: entries
                    .iter()
                    .map(|entry| RecordFile {
                        target: encode(&entry.target),
                        existed: entry.previous != Previous::Absent,
                        changed: entry.staged.is_some(),
                        former: entry.former.clone(),
                        new: Some(entry.new.clone()),
                    })
                    .collect(),
            },
        };
        match change.swap(&entries) {
            Ok(()) => Ok(change),
            Err(error) => {
                for staged in entries.iter().filter_map(|entry| entry.staged.as_ref()) {
                    let _ = remove(staged);
                }
                let _ = change.take_back();
                Err(error)
            }
        }
    }

    fn swap(&mut self, entries: &[Entry]) -> Result<(), FileError> {
        for entry in entries
            .iter()
            .filter(|entry| entry.previous != Previous::Written)
        {
            let old = beside(&entry.target, OLD);
            remove(&old)?;
            if entry.previous == Previous::Absent {
                continue;
            }
            keep(&entry.target, &old)?;
        }
        for staged in entries.iter().filter_map(|entry| entry.staged.as_ref()) {
            sync(staged)?;
        }
        self.save(match self.is_one_step() {
            true => replace_unsynced,
            false => replace,
        })?;
        for entry in entries {
            if let Some(staged) = &entry.staged {
                rename(staged, &entry.target)?;
            }
        }
        sync_directories(self.record.files.iter().filter(|file| file.changed))
    }

    /// Whether one rename is the whole swap.
    fn is_one_step(&self) -> bool {
        self.record.files.iter().filter(|file| file.changed).count() < 2
    }

    /// Notes that HAProxy is told next.
    pub fn told(&mut self) -> Result<(), FileError> {
        self.record.phase = Phase::Told;
        self.save(replace_unsynced)
    }

    fn save(
        &mut self,
        replace: fn(&Path, &[u8], Access) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let text = serde_json::to_vec(&self.record)
            .map_err(|error| FileError::of("write", &self.path)(error.into()))?;
        match replace(&self.path, &text, Access::PRIVATE) {
            Ok(()) => self.recorded = true,
            // A record that stayed there would speak of an earlier moment.
            Err(_) if self.is_one_step() && self.forget().is_ok() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn forget(&mut self) -> Result<(), FileError> {
        match remove(&self.path) {
            // Where nothing can be removed, one that does not exist is forgotten all the same.
            Err(error) if self.recorded || self.path.exists() => return Err(error),
            _ => self.recorded = false,
        }
        Ok(())
    }

    /// The set that was being applied.
    pub fn revision(&self) -> Option<Revision> {
        Revision::parse(&self.record.revision)
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.record.phase
    }

    /// Puts the former files back, the configuration first, and forgets the change. Needs no space:
    /// they are only renamed. Goes on after an error, so that no more stays mixed than must; the
    /// record then stays, and it can be repeated, also after a crash.
    pub fn take_back(mut self) -> Result<(), FileError> {
        let mut result = Ok(());
        for file in self.record.files.iter().rev() {
            result = result.and(file.take_back());
        }
        result.and_then(|()| sync_directories(&self.record.files))?;
        self.forget()
    }

    /// The change stands: it is forgotten, and only then the former files are removed. In the other
    /// order a crash in between would leave a record by which some files are put back and others not.
    pub fn finish(mut self) -> Result<(), FileError> {
        if self.recorded {
            self.forget()?;
        }
        for file in &self.record.files {
            // One that stays goes at the next change or start.
            let _ = remove(&file.old());
        }
        Ok(())
    }

    /// Whether all destinations hold the new files.
    fn is_complete(&self) -> bool {
        let mut changed = self.record.files.iter().filter(|file| file.changed);
        changed.all(|file| file.new.is_some() && holds(&file.target(), file.new.as_ref()))
    }

    /// Whether each former file is at its place or kept.
    fn can_be_taken_back(&self) -> bool {
        let is_there = |file: &RecordFile| {
            file.former.is_none()
                || holds(&file.target(), file.former.as_ref())
                || holds(&file.old(), file.former.as_ref())
        };
        self.record.files.iter().all(is_there)
    }
}

fn holds(path: &Path, wanted: Option<&String>) -> bool {
    matches!(read(path), Ok(Some(text)) if Some(&digest(&text)) == wanted)
}

/// Makes the names in the directories of these files durable, each directory once.
fn sync_directories<'a>(files: impl IntoIterator<Item = &'a RecordFile>) -> Result<(), FileError> {
    let targets = files.into_iter().map(RecordFile::target);
    let each: BTreeMap<Option<PathBuf>, PathBuf> = targets
        .map(|target| (target.parent().map(Path::to_owned), target))
        .collect();
    each.values().try_for_each(|target| sync_parent(target))
}

impl RecordFile {
    fn target(&self) -> PathBuf {
        decode(&self.target)
    }

    fn old(&self) -> PathBuf {
        beside(&self.target(), OLD)
    }

    fn take_back(&self) -> Result<(), FileError> {
        let (target, old) = (self.target(), self.old());
        if old.exists() {
            rename(&old, &target)?;
            // Renaming one link of a file onto another does nothing at all (rename(2)).
            remove(&old)?;
        } else if !self.existed && self.changed {
            remove(&target)?;
        }
        Ok(())
    }
}

/// What a crash has left. An interrupted swap is taken back at once; a complete one is returned, to
/// be confirmed or taken back when HAProxy has been asked. One whose former files are gone stands: a power failure
/// has brought its record back. A damaged record is an error only if it cannot be removed: it is written before any
/// destination is touched, by rename.
pub fn recover(state_directory: &Path) -> Result<Option<Change>, FileError> {
    let path = state_directory.join("journal.json");
    let Ok(bytes) = text::bytes(&path, text::WRITTEN) else {
        return Ok(None);
    };
    let record = serde_json::from_slice::<Record>(&bytes).ok();
    let Some(record) = record.filter(|record| record.format == FORMAT) else {
        tracing::warn!(path = %path.display(), "a damaged or newer journal is ignored");
        remove(&path)?;
        return Ok(None);
    };
    let mut change = Change {
        path,
        record,
        recorded: true,
    };
    if !change.can_be_taken_back() {
        tracing::warn!(revision = %change.record.revision, "the former files of a change are gone, so the new ones stay");
        change.finish()?;
        return Ok(None);
    }
    for file in change
        .record
        .files
        .iter()
        .filter(|file| file.former.is_some())
    {
        // That of an earlier change, which a power failure has brought back.
        if !holds(&file.old(), file.former.as_ref()) {
            remove(&file.old())?;
        }
    }
    if change.record.phase == Phase::Committing && change.is_complete() {
        change.record.phase = Phase::Committed;
    }
    if change.record.phase == Phase::Committing {
        tracing::warn!(revision = %change.record.revision, "an interrupted swap of files is taken back");
        change.take_back()?;
        return Ok(None);
    }
    Ok(Some(change))
}

/// A path as text that any file system's names survive.
pub fn encode(path: &Path) -> String {
    const SET: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    percent_encoding::percent_encode(path.as_os_str().as_encoded_bytes(), SET).to_string()
}

/// The opposite of [`encode`].
pub fn decode(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(
        percent_encoding::percent_decode_str(text).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::set::{Candidate, Role, SetFile};
    use super::super::stage::stage;
    use super::*;

    fn set(directory: &Path, word: &str) -> Candidate {
        let file = |name: &str, role| SetFile {
            destination: directory.join(name),
            role,
            mode: None,
            text: format!("{name} {word}\n"),
        };
        Candidate::new(vec![
            file("h.cfg", Role::Config),
            file("a.map", Role::Map),
            file("b.map", Role::Map),
        ])
    }

    fn contents(directory: &Path) -> BTreeMap<String, String> {
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    fn state(directory: &Path) -> PathBuf {
        let state = directory.join("state");
        super::super::files::private_directory(&state).unwrap();
        state
    }

    #[test]
    fn a_change_is_swapped_in_and_taken_back_whole() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(directory.path());
        let one = set(directory.path(), "one");
        let entries = stage(&one, None, None, &[]).unwrap().into_entries();
        Change::commit(&state, &one.revision, entries)
            .unwrap()
            .finish()
            .unwrap();
        std::fs::remove_file(directory.path().join("b.map")).unwrap();
        let before = contents(directory.path());
        assert_eq!(before.len(), 2);

        let two = set(directory.path(), "two");
        let entries = stage(&two, None, None, &[]).unwrap().into_entries();
        let change = Change::commit(&state, &two.revision, entries).unwrap();
        assert_eq!(
            std::fs::read_to_string(directory.path().join("b.map")).unwrap(),
            "b.map two\n"
        );
        change.take_back().unwrap();
        assert_eq!(contents(directory.path()), before, "b.map is gone again");
        assert!(recover(&state).unwrap().is_none());
    }

    /// A crash after each single step of a commit leaves, after recovery, all former or all new files.
    #[test]
    fn a_crash_at_any_step_leaves_a_whole_set() {
        for steps in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let state = state(directory.path());
            let one = set(directory.path(), "one");
            let entries = stage(&one, None, None, &[]).unwrap().into_entries();
            Change::commit(&state, &one.revision, entries)
                .unwrap()
                .finish()
                .unwrap();
            let before = contents(directory.path());

            // What `swap` does, cut off.
            let two = set(directory.path(), "two");
            let entries = stage(&two, None, None, &[]).unwrap().into_entries();
            let change = Change::commit(&state, &two.revision, entries.clone()).unwrap();
            let mut crashed = Change {
                path: change.path,
                record: change.record,
                recorded: true,
            };
            crashed.save(replace).unwrap();
            for entry in entries.iter().skip(steps) {
                // Undo the renames that would have come after the crash.
                let staged = entry.staged.as_ref().unwrap();
                std::fs::rename(&entry.target, staged).unwrap();
                std::fs::hard_link(beside(&entry.target, OLD), &entry.target).unwrap();
            }
            assert!(recover(&state).unwrap().is_none());
            let destinations: Vec<PathBuf> = two
                .files
                .iter()
                .map(|file| file.destination.clone())
                .collect();
            super::super::stage::clean(destinations.iter().map(PathBuf::as_path), false);
            assert_eq!(contents(directory.path()), before, "after {steps} renames");
        }
    }

    #[test]
    fn a_complete_swap_survives_a_crash_to_be_confirmed_or_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(directory.path());
        let one = set(directory.path(), "one");
        let entries = stage(&one, None, None, &[]).unwrap().into_entries();
        drop(Change::commit(&state, &one.revision, entries).unwrap());
        let change = recover(&state).unwrap().unwrap();
        assert_eq!(change.phase(), Phase::Committed);
        assert_eq!(change.revision(), Some(one.revision));
        change.take_back().unwrap();
        assert!(contents(directory.path()).is_empty());
        std::fs::write(state.join("journal.json"), "{ torn").unwrap();
        assert!(recover(&state).unwrap().is_none());
    }

    #[test]
    fn without_a_place_for_the_record_one_file_is_swapped_and_several_wait() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("no/such/state");
        let three = set(directory.path(), "one");
        let entries = stage(&three, None, None, &[]).unwrap().into_entries();
        let error = Change::commit(&state, &three.revision, entries).unwrap_err();
        assert!(error.path.starts_with(&state), "{error}");
        assert!(contents(directory.path()).is_empty());

        let one = |word: &str| Candidate::new(vec![set(directory.path(), word).files[0].clone()]);
        let swap = |word: &str| {
            let entries = stage(&one(word), None, None, &[]).unwrap().into_entries();
            Change::commit(&state, &one(word).revision, entries).unwrap()
        };
        swap("two").finish().unwrap();
        let before = contents(directory.path());
        assert_eq!(before["h.cfg"], one("two").files[0].text);
        let mut change = swap("three");
        change.told().unwrap();
        assert_eq!(
            std::fs::read_to_string(directory.path().join("h.cfg")).unwrap(),
            one("three").files[0].text
        );
        change.take_back().unwrap();
        assert_eq!(contents(directory.path()), before);
    }

    #[test]
    fn any_path_survives_the_record() {
        let path = PathBuf::from(OsString::from_vec(b"/a b%2f/\xff\xc3\xa4\n.cfg".to_vec()));
        assert_eq!(decode(&encode(&path)), path);
    }
}
