//! A candidate beside its destinations: every file that differs is written there in full, with its
//! final owner and mode, before anything that HAProxy reads is touched.
//!
//! The copy that is validated names the other files of the set by their staged paths; the copy
//! that is swapped in names them by their destinations. A configuration of others that names a file of the set is
//! validated by a copy as well. Never touches a destination, nor a file of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{Access, FileError, TEMPORARY, beside, read, remove, write_new, write_unsynced};
use super::plan::configuration;
use super::set::{Candidate, Role, SetFile};
use super::target::{resolve, to_replace};
use crate::catalog::snapshot::digest;
use crate::haproxy::config::Config;

const NEW: &str = "gatewright-new";
const CHECK: &str = "gatewright-check";
/// The former content, kept from commit to confirmation.
pub const OLD: &str = "gatewright-old";

/// What to restore when a change is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// What stands at the destination.
    Live,
    /// The last good text, already written beside: the destination was edited by others, or holds
    /// a set that was never confirmed.
    Written,
    /// Nothing: the file did not exist.
    Absent,
}

/// One file that this change concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file itself, behind any link.
    pub target: PathBuf,
    /// The new content; `None` when the destination holds it already.
    pub staged: Option<PathBuf>,
    /// What to restore.
    pub previous: Previous,
    /// The digest of what to restore; `None` when the file did not exist.
    pub former: Option<String>,
    /// The digest of the new content.
    pub new: String,
}

/// A staged candidate. What is not committed is removed when it is dropped.
#[derive(Debug)]
pub struct Staged {
    entries: Vec<Entry>,
    /// Destination → the file to validate in its place.
    checked: BTreeMap<PathBuf, PathBuf>,
    leftovers: Vec<PathBuf>,
}

/// Writes what differs. `last_good` is what a failed change goes back to, where it is known;
/// `working_directory` is where HAProxy's relative paths start; `others` are the configurations of others that HAProxy
/// loads with the set.
pub fn stage(
    candidate: &Candidate,
    last_good: Option<&[SetFile]>,
    working_directory: Option<&Path>,
    others: &[(PathBuf, String)],
) -> Result<Staged, FileError> {
    let mut staged = Staged {
        entries: Vec::new(),
        checked: BTreeMap::new(),
        leftovers: Vec::new(),
    };
    let mut replacements = Vec::new();
    for file in in_order(candidate) {
        let entry = staged.prepare(file, last_good)?;
        if let Some(new) = entry.as_ref().and_then(|entry| entry.staged.as_ref()) {
            replacements.extend(spellings(&file.destination, new, working_directory));
        }
        staged.entries.extend(entry);
    }
    let base = staged.certificate_base(candidate, others);
    let listed: Vec<(String, String)> = below_base(&base, &staged.checked, "");
    // A list whose certificates are staged is validated by a copy of its own, so that is what the
    // configuration names.
    for file in in_order(candidate).filter(|file| file.role == Role::CrtList) {
        let named = [&replacements[..], &listed].concat();
        if staged.prepare_check(file, &named)? {
            let check = staged.to_check(&file.destination);
            replacements.splice(0..0, spellings(&file.destination, check, working_directory));
        }
    }
    replacements.extend(below_base(&base, &staged.checked, "crt "));
    for file in in_order(candidate).filter(|file| file.role == Role::Config) {
        staged.prepare_check(file, &replacements)?;
    }
    // Where the set has no configuration, any of its files will do.
    if let Some(main) = in_order(candidate).last() {
        let mut number = 0;
        for (path, text) in others {
            let copy = copy_of_other(&resolve(&main.destination), number);
            // Only our own validation reads it.
            let (text, copy) = (seen_from(path, text), (copy.as_path(), Access::PRIVATE));
            number += usize::from(staged.copy_to_check(path, &text, copy, &replacements)?);
        }
    }
    Ok(staged)
}

/// Maps, lists and others before the configuration that names them; the first configuration file,
/// which carries the revision, last of all.
fn in_order(candidate: &Candidate) -> impl Iterator<Item = &SetFile> {
    let (main, parts): (Vec<_>, Vec<_>) = candidate
        .files
        .iter()
        .partition(|file| file.role == Role::Config);
    parts.into_iter().chain(main.into_iter().rev())
}

impl Staged {
    fn prepare(
        &mut self,
        file: &SetFile,
        last_good: Option<&[SetFile]>,
    ) -> Result<Option<Entry>, FileError> {
        let (target, existing) = to_replace(&file.destination)?;
        let live = read(&target)?;
        let good = last_good
            .into_iter()
            .flatten()
            .find(|good| good.destination == file.destination)
            .map(|good| good.text.as_str());
        let access = Access {
            mode: file
                .mode
                .or(existing.map(|found| found.mode))
                .unwrap_or(0o600),
            owner: existing.and_then(|found| found.owner),
        };
        let same_mode = existing.is_some_and(|found| found.mode == access.mode);
        let new = live.as_deref() != Some(&file.text) || !same_mode;
        let previous = match (&live, good) {
            (Some(live), Some(good)) if live == good => Previous::Live,
            (_, Some(_)) => Previous::Written,
            (Some(_), None) => Previous::Live,
            (None, None) => Previous::Absent,
        };
        if !new && previous != Previous::Written {
            return Ok(None);
        }
        if let (Previous::Written, Some(good)) = (previous, good) {
            let old = beside(&target, OLD);
            write_new(&old, good.as_bytes(), access)?;
            self.leftovers.push(old);
        }
        let mut staged = None;
        if new {
            let path = beside(&target, NEW);
            // Not on the disk before it is committed: commands need not wait for that.
            write_unsynced(&path, file.text.as_bytes(), access)?;
            self.leftovers.push(path.clone());
            self.checked.insert(file.destination.clone(), path.clone());
            staged = Some(path);
        }
        let former = match previous {
            Previous::Live => live.as_deref(),
            Previous::Written => good,
            Previous::Absent => None,
        };
        Ok(Some(Entry {
            target,
            staged,
            previous,
            former: former.map(digest),
            new: digest(&file.text),
        }))
    }

    /// `crt-base`, where it could be asked for.
    fn certificate_base(
        &self,
        candidate: &Candidate,
        others: &[(PathBuf, String)],
    ) -> Option<PathBuf> {
        let files = candidate.files.iter();
        let mut parts = files.filter(|file| file.role == Role::Other);
        if !parts.any(|file| self.checked.contains_key(&file.destination)) {
            return None;
        }
        let of_others = others.iter().map(|(path, text)| (&**path, text.as_str()));
        let base = |config: Config| config.global_value("crt-base").map(PathBuf::from);
        base(configuration(&candidate.files)).or_else(|| base(Config::parse_files(of_others)))
    }

    /// A second copy for the validation where the text names other staged files. False where none is
    /// needed.
    fn prepare_check(
        &mut self,
        file: &SetFile,
        replacements: &[(String, String)],
    ) -> Result<bool, FileError> {
        let copy = beside(&resolve(&file.destination), CHECK);
        let access = Access::of(&resolve(&file.destination)).ok().flatten();
        let copy = (copy.as_path(), access.unwrap_or(Access::PRIVATE));
        self.copy_to_check(&file.destination, &file.text, copy, replacements)
    }

    fn copy_to_check(
        &mut self,
        path: &Path,
        text: &str,
        (copy, access): (&Path, Access),
        replacements: &[(String, String)],
    ) -> Result<bool, FileError> {
        // Most configurations name no file of the set.
        let mut named = replacements.iter();
        if !named.any(|(path, _)| text.contains(path.as_str())) {
            return Ok(false);
        }
        let replaced = replace_paths(text, replacements);
        if replaced == text {
            return Ok(false);
        }
        write_unsynced(copy, replaced.as_bytes(), access)?;
        self.leftovers.push(copy.to_owned());
        self.checked.insert(path.to_owned(), copy.to_owned());
        Ok(true)
    }

    /// The file to validate in place of a destination; the destination itself where nothing differs.
    pub fn to_check<'a>(&'a self, destination: &'a Path) -> &'a Path {
        self.checked
            .get(destination)
            .map_or(destination, PathBuf::as_path)
    }

    /// Staged path → destination, to name the destination in what HAProxy says.
    pub fn origins(&self) -> BTreeMap<PathBuf, PathBuf> {
        self.checked
            .iter()
            .map(|(destination, staged)| (staged.clone(), destination.clone()))
            .collect()
    }

    /// Whether any destination would change.
    pub fn changes(&self) -> bool {
        self.entries.iter().any(|entry| entry.staged.is_some())
    }

    /// Hands the files over to a commit, which cleans up itself from now on.
    pub fn into_entries(mut self) -> Vec<Entry> {
        let is_staged = |path: &PathBuf| {
            let mut entries = self.entries.iter();
            entries.any(|entry| entry.staged.as_ref() == Some(path))
        };
        for check in self.checked.values().filter(|path| !is_staged(path)) {
            let _ = remove(check);
        }
        self.leftovers.clear();
        std::mem::take(&mut self.entries)
    }
}

/// Removes what was staged and not committed.
impl Drop for Staged {
    fn drop(&mut self) {
        for path in &self.leftovers {
            let _ = remove(path);
        }
    }
}

/// Removes what a crash has left beside these destinations, by names that only we give. The former
/// contents are among it unless a `change` is still to be ended, which needs them.
pub fn clean<'a>(destinations: impl IntoIterator<Item = &'a Path>, change: bool) {
    let old = (!change).then_some(OLD);
    for destination in destinations {
        let target = resolve(destination);
        for suffix in [NEW, CHECK, TEMPORARY].into_iter().chain(old) {
            let _ = remove(&beside(&target, suffix));
        }
        let copies = (0..).map(|number| copy_of_other(&target, number));
        for copy in copies.take_while(|copy| copy.exists()) {
            let _ = remove(&copy);
        }
    }
}

/// The copy of a configuration of others that is validated with the set of this main file.
fn copy_of_other(main: &Path, number: usize) -> PathBuf {
    beside(main, &format!("{CHECK}-{number}"))
}

/// The text of a configuration of others as it means the same elsewhere: `default-path config` and `parent` count from
/// the place of the file (2.6 configuration manual 3.1 "default-path").
fn seen_from(path: &Path, text: &str) -> String {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        match words.as_slice() {
            ["default-path", "config"] => format!("default-path origin {folder}\n"),
            ["default-path", "parent"] => format!("default-path origin {folder}/..\n"),
            _ => line.to_owned(),
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

/// How a configuration may spell a path: in full, or relative to HAProxy's directory.
fn spellings(
    destination: &Path,
    staged: &Path,
    working_directory: Option<&Path>,
) -> Vec<(String, String)> {
    let staged = staged.to_string_lossy().into_owned();
    let relative = working_directory.and_then(|directory| destination.strip_prefix(directory).ok());
    [Some(destination), relative]
        .into_iter()
        .flatten()
        .map(|path| (path.to_string_lossy().into_owned(), staged.clone()))
        .collect()
}

/// Certificates as they are spelt where `crt-base` stands before them, after `keyword`.
fn below_base(
    base: &Option<PathBuf>,
    staged: &BTreeMap<PathBuf, PathBuf>,
    keyword: &str,
) -> Vec<(String, String)> {
    let below = |(destination, staged): (&PathBuf, &PathBuf)| {
        let written = destination.strip_prefix(base.as_ref()?).ok()?;
        let spelt = |path: &Path| format!("{keyword}{}", path.display());
        Some((spelt(written), spelt(staged)))
    };
    staged.iter().filter_map(below).collect()
}

/// Replaces whole paths only: `/m/a.map` is left alone within `/m/a.map.old` and `/x/m/a.map`.
pub fn replace_paths(text: &str, replacements: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        let whole = |path: &str| {
            !path.is_empty()
                && rest.starts_with(path)
                && !before.is_some_and(in_path)
                && ends_here(&rest[path.len()..])
        };
        let (taken, written) = match replacements.iter().find(|(path, _)| whole(path)) {
            Some((path, staged)) => (path.as_str(), staged.as_str()),
            None => (&rest[..next.len_utf8()], &rest[..next.len_utf8()]),
        };
        result.push_str(written);
        before = taken.chars().next_back();
        rest = &rest[taken.len()..];
    }
    result
}

fn in_path(character: char) -> bool {
    character.is_alphanumeric() || "/._-+~@".contains(character)
}

fn ends_here(rest: &str) -> bool {
    !rest.chars().next().is_some_and(in_path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn set(directory: &Path, main: &str, map: &str) -> Candidate {
        let file = |name: &str, role, text: &str| SetFile {
            destination: directory.join(name),
            role,
            mode: None,
            text: text.into(),
        };
        Candidate::new(vec![
            file("h.cfg", Role::Config, main),
            file("a.map", Role::Map, map),
        ])
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Only what names a file of the set is copied, and what a crash leaves is found again.
    #[test]
    fn a_configuration_of_others_is_checked_by_a_copy_beside_ours() {
        let directory = tempfile::tempdir().unwrap();
        let map = directory.path().join("a.map");
        let other = |name: &str, text: String| (Path::new("/etc/site").join(name), text);
        let others = [
            other("one.cfg", "default-path config\n".to_owned()),
            other(
                "two.cfg",
                format!(
                    "default-path config\n default-path parent\nx map({})\n",
                    map.display()
                ),
            ),
        ];
        let main = directory.path().join("h.cfg");
        let staged = stage(
            &set(directory.path(), "# one\n", "k v\n"),
            None,
            None,
            &others,
        )
        .unwrap();
        assert_eq!(staged.to_check(&others[0].0), others[0].0);
        let copy = staged.to_check(&others[1].0).to_owned();
        assert_eq!(copy, copy_of_other(&main, 0));
        assert_eq!(std::fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
        let new = staged.to_check(&map).display();
        assert_eq!(
            std::fs::read_to_string(&copy).unwrap(),
            format!(
                "default-path origin /etc/site\ndefault-path origin /etc/site/..\nx map({new})\n"
            )
        );
        std::mem::forget(staged);
        clean([main.as_path(), map.as_path()], false);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    // F10
    #[test]
    fn the_checked_copy_names_the_staged_map_and_nothing_is_left_when_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let map = directory.path().join("a.map");
        let text = format!(
            "x map({0},d)\ny map({0}.old)\nz map(a.map)\n",
            map.display()
        );
        let candidate = set(directory.path(), &text, "k v\n");
        let staged = stage(&candidate, None, Some(directory.path()), &[]).unwrap();
        let main = candidate.files[0].destination.clone();
        let checked = std::fs::read_to_string(staged.to_check(&main)).unwrap();
        let new = directory
            .path()
            .canonicalize()
            .unwrap()
            .join(".a.map.gatewright-new");
        let start = format!(
            "x map({0},d)\ny map({1}.old)\nz map({0})\n",
            new.display(),
            map.display()
        );
        assert!(checked.starts_with(&start), "{checked}");
        assert!(staged.changes());
        assert!(!names(directory.path()).contains(&"h.cfg".to_owned()));
        drop(staged);
        assert!(names(directory.path()).is_empty());
    }

    // E05 E06 E08
    #[test]
    fn a_link_is_written_through_and_mode_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("h.cfg"), "old\n").unwrap();
        std::fs::set_permissions(real.join("h.cfg"), std::fs::Permissions::from_mode(0o640))
            .unwrap();
        symlink(real.join("h.cfg"), directory.path().join("h.cfg")).unwrap();
        let candidate = set(directory.path(), "new\n", "");
        let entries = stage(&candidate, None, None, &[]).unwrap().into_entries();
        let target = real.canonicalize().unwrap().join("h.cfg");
        let main = entries.iter().find(|entry| entry.target == target).unwrap();
        let new = main.staged.as_ref().unwrap();
        assert_eq!(std::fs::metadata(new).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(main.previous, Previous::Live);
        // A new file is for its owner only.
        let map = entries.iter().find(|entry| entry.target != target).unwrap();
        let new = map.staged.as_ref().unwrap();
        assert_eq!(std::fs::metadata(new).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(map.previous, Previous::Absent);
    }

    #[test]
    fn equal_files_are_not_staged_again() {
        let directory = tempfile::tempdir().unwrap();
        let candidate = set(directory.path(), "a\n", "k v\n");
        for file in &candidate.files {
            std::fs::write(&file.destination, &file.text).unwrap();
        }
        let staged = stage(&candidate, Some(&candidate.files), None, &[]).unwrap();
        assert!(!staged.changes() && staged.into_entries().is_empty());
    }

    // E07
    #[test]
    fn a_directory_as_destination_is_refused_with_a_sentence() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("h.cfg")).unwrap();
        let error = stage(&set(directory.path(), "a\n", ""), None, None, &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("it is a directory. Name a file."),
            "{error}"
        );
    }

    // F10
    #[test]
    fn a_list_is_validated_with_its_staged_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let file = |name: &str, role, text: &str| SetFile {
            destination: path(name),
            role,
            mode: None,
            text: text.into(),
        };
        let list = path("list.txt").display().to_string();
        let base = directory.path().display();
        let main =
            format!("global\n crt-base {base}\nfrontend f\n bind :1 crt a.pem crt-list {list}\n");
        let set = |pem: &str| {
            Candidate::new(vec![
                file("h.cfg", Role::Config, &main),
                file(
                    "list.txt",
                    Role::CrtList,
                    &format!("{base}/a.pem x\na.pem y\n"),
                ),
                file("a.pem", Role::Other, pem),
            ])
        };
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let check = |staged: &Staged| {
            let (config, list, pem) = (path("h.cfg"), path("list.txt"), path("a.pem"));
            let (config, list) = (staged.to_check(&config), staged.to_check(&list));
            let pem = staged.to_check(&pem).display();
            let both = format!("crt {pem} crt-list {}", list.display());
            assert!(read(config).contains(&both), "{}", read(config));
            assert_eq!(read(list), format!("{pem} x\n{pem} y\n"));
        };
        check(&stage(&set("1"), None, None, &[]).unwrap());
        // The list itself is there already and stays.
        for file in set("1").files {
            std::fs::write(file.destination, file.text).unwrap();
        }
        let staged = stage(&set("2"), None, None, &[]).unwrap();
        check(&staged);
        let mut changed = staged.entries.iter().map(|entry| &entry.target);
        assert!(!changed.any(|target| target.ends_with("list.txt")));
        drop(staged);
        assert_eq!(names(directory.path()), ["a.pem", "h.cfg", "list.txt"]);
    }

    proptest::proptest! {
        #[test]
        fn without_a_whole_path_the_text_stays(text in "[a-z/. (),]{0,80}") {
            let replaced = replace_paths(&text, &[("/q/Z.map".into(), "/new".into())]);
            proptest::prop_assert_eq!(replaced, text);
        }
    }
}
