//! Disks that fail at any step, litter, strange names and a lost state directory: the files that HAProxy
//! reads are one whole set throughout, and everything goes on when the fault is over.
//!
//! Nobody is told and the validation always agrees: this is about files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gatewright::apply::execute::{Applier, Means, Options, Verdict};
use gatewright::apply::files::faults::{self, Step};
use gatewright::apply::gate::Rules;
use gatewright::apply::history::History;
use gatewright::apply::journal;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::apply::stage::stage;
use gatewright::apply::tell::Mode;
use nix::libc::{EDQUOT, EIO, ENOSPC};
use support::script;

/// A set of three files and a state directory.
struct Place {
    directory: tempfile::TempDir,
    /// Where the files are.
    files: PathBuf,
}

const NAMES: [&str; 3] = ["haproxy.cfg", "a.map", "page.http"];

impl Place {
    fn new() -> Place {
        Place::below("etc")
    }

    fn below(name: impl AsRef<Path>) -> Place {
        faults::calm();
        // Where there is memory for files nothing waits for a disk; that it fails is only said.
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let files = directory.path().join(name);
        std::fs::create_dir(&files).unwrap();
        let validator = directory.path().join("haproxy");
        script::write(&validator, "#!/bin/sh\nexit 0\n").unwrap();
        Place { directory, files }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn set(&self, word: &str) -> Candidate {
        let text = |name: &str| match name {
            "haproxy.cfg" => format!(
                "# {word}\nfrontend f\n    bind 127.0.0.1:1\n    default_backend b\nbackend b\n    server s 127.0.0.1:2\n"
            ),
            _ => format!("# {word}\n"),
        };
        let role = |name: &str| match name {
            "haproxy.cfg" => Role::Config,
            "a.map" => Role::Map,
            _ => Role::Other,
        };
        let files = NAMES.map(|name| SetFile {
            destination: self.files.join(name),
            role: role(name),
            mode: None,
            text: text(name),
        });
        Candidate::new(files.into())
    }

    fn open(&self) -> Applier {
        let files = self.set("").files.into_iter();
        let destinations = files.map(|file| (file.destination, file.role)).collect();
        let options = Options::new(
            self.state(),
            destinations,
            Mode::None,
            self.directory.path().join("haproxy"),
        );
        Applier::open(options, Rules::default()).unwrap()
    }

    async fn apply(&self, applier: &mut Applier, word: &str) -> Verdict {
        applier.apply(&self.set(word), Means::Any).await
    }

    /// The word that each file carries.
    fn words(&self) -> Vec<String> {
        let word = |name: &&str| {
            let text = std::fs::read_to_string(self.files.join(name)).unwrap_or_default();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("# ").to_owned()
        };
        NAMES.iter().map(word).collect()
    }

    /// Fails unless the files are these and nothing of ours lies about.
    fn assert_holds(&self, word: &str, place: &str) {
        for file in &self.set(word).files {
            let text = std::fs::read_to_string(&file.destination).unwrap_or_default();
            assert_eq!(text, file.text, "{place}");
        }
        assert_eq!(self.litter(), [""; 0], "{place}");
        assert!(
            journal::recover(&self.state()).unwrap().is_none(),
            "{place}"
        );
    }

    /// What staging, swapping and replacing leave while they are at work.
    fn litter(&self) -> Vec<String> {
        let mut found = Vec::new();
        for directory in [&self.files, &self.state()] {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let name = entry.unwrap().file_name().to_string_lossy().into_owned();
                if name.contains("gatewright-") || name == "journal.json" {
                    found.push(name);
                }
            }
        }
        found
    }
}

// E02
/// Each step of a change fails once, as it does on a full disk, one over its quota and a broken one; and
/// each as the first of a disk that takes nothing any more.
#[tokio::test]
async fn a_disk_that_fails_at_any_step_leaves_a_whole_set_and_nothing_else() {
    let place = Place::new();
    let mut applier = place.open();
    assert!(matches!(
        place.apply(&mut applier, "start").await,
        Verdict::Written { .. }
    ));
    faults::calm();
    place.apply(&mut applier, "counted").await;
    let steps = faults::taken().len();
    assert!(steps > 30, "{:#?}", faults::taken());
    place.assert_holds("counted", "without a fault");
    let codes = [ENOSPC, EIO, EDQUOT];
    let mut failed = 0;
    let mut former = "counted".to_owned();
    for (number, stays) in (0..steps).flat_map(|number| [(number, false), (number, true)]) {
        let next = format!("next-{number}-{stays}");
        faults::fail(number, codes[number % codes.len()], stays);
        let verdict = place.apply(&mut applier, &next).await;
        let what = format!("{number} {stays}: {verdict:?} {:#?}", faults::taken());
        let words = place.words();
        assert!(
            words.iter().all(|word| *word == words[0]),
            "{words:?} {what}"
        );
        assert!([&former, &next].contains(&&words[0]), "{words:?} {what}");
        if let Verdict::Failed { error } = &verdict {
            failed += 1;
            let text = error.to_string();
            assert!(
                text.contains(&*place.directory.path().to_string_lossy()),
                "{text}"
            );
        } else {
            assert_eq!(words[0], next, "{what}");
        }
        faults::calm();
        // Gatewright goes on, or was started again.
        let restarted = number % 2 == 0;
        if restarted {
            drop(applier);
            applier = place.open();
        }
        let verdict = place.apply(&mut applier, &next).await;
        let done = matches!(verdict, Verdict::Written { .. } | Verdict::Unchanged);
        assert!(done, "{verdict:?} after {what}");
        // A former file that could not be removed goes at the next change or start.
        let left = place.litter();
        let only_old = left.iter().all(|name| name.ends_with("gatewright-old"));
        assert!(
            only_old && (left.is_empty() || !restarted),
            "{left:?} {what}"
        );
        assert_eq!(place.words(), [&*next; 3], "{what}");
        former = next;
    }
    drop(applier);
    place.open();
    place.assert_holds(&former, "in the end");
    assert!(failed > steps, "{failed} of {steps} twice");
}

// E04 E15
/// The order in which a power failure at any moment leaves a whole file under each name, and how often a change waits
/// for the disk.
#[tokio::test]
async fn each_file_is_synced_before_it_takes_its_place_and_each_directory_after() {
    let place = Place::new();
    let mut applier = place.open();
    place.apply(&mut applier, "one").await;
    faults::calm();
    place.apply(&mut applier, "two").await;
    let taken = faults::taken();
    let first = |step, path: &Path| {
        let is = |other: &faults::Taken| other.step == step && other.path == path;
        let found = taken.iter().position(is);
        found.unwrap_or_else(|| panic!("{step:?} {path:?}: {taken:#?}"))
    };
    let synced: Vec<usize> = (0..taken.len())
        .filter(|at| matches!(taken[*at].step, Step::Sync | Step::SyncNames))
        .collect();
    let named = |path: &Path| synced.contains(&first(Step::SyncNames, path));
    assert!(named(&place.files) && named(&place.state()));
    // The files and the record, and the two directories.
    assert_eq!(synced.len(), NAMES.len() + 1 + 2, "{taken:#?}");
    let journal = place.state().join("journal.json");
    let intent = first(Step::SyncNames, &place.state());
    assert!(first(Step::Rename, &journal) < intent);
    for name in NAMES {
        let renamed = first(Step::Rename, &place.files.join(name));
        let new = place.files.join(format!(".{name}.gatewright-new"));
        assert!(first(Step::Sync, &new) < renamed, "{name}: {taken:#?}");
        assert!(intent < renamed, "{name}: {taken:#?}");
        assert!(
            renamed < first(Step::SyncNames, &place.files),
            "{name}: {taken:#?}"
        );
    }
}

// E04
/// A power failure takes the latest names of a directory with it: the record is of a change that has ended, or the
/// former files are those of a change before.
#[tokio::test]
async fn a_record_that_a_power_failure_brings_back_makes_no_mixed_set() {
    let place = Place::new();
    let mut applier = place.open();
    place.apply(&mut applier, "one").await;
    let two = place.set("two");
    let entries = stage(&two, applier.last_good(), None, &[]).unwrap();
    let change = journal::Change::commit(&place.state(), &two.revision, entries.into_entries());
    drop(applier);
    let record = std::fs::read(place.state().join("journal.json")).unwrap();
    let old = |name: &str| place.files.join(format!(".{name}.gatewright-old"));
    let former = std::fs::read(old("a.map")).unwrap();
    change.unwrap().finish().unwrap();
    let bring_back = || std::fs::write(place.state().join("journal.json"), &record).unwrap();

    // It has ended, and some of the former files are gone for good.
    bring_back();
    std::fs::write(old("a.map"), &former).unwrap();
    assert!(journal::recover(&place.state()).unwrap().is_none());
    place.assert_holds("two", "a change that had ended");

    // Nothing of it has reached the directory, where a former file of a change before it lies.
    for file in &place.set("one").files {
        std::fs::write(&file.destination, &file.text).unwrap();
    }
    bring_back();
    std::fs::write(old("a.map"), "# zero\n").unwrap();
    assert!(journal::recover(&place.state()).unwrap().is_none());
    place.assert_holds("one", "a change that never came");
}

// E08
/// Nobody can read a new file before it is as closed as it will be.
#[tokio::test]
async fn owner_and_mode_are_set_before_there_is_content() {
    let place = Place::new();
    let main = place.files.join(NAMES[0]);
    std::fs::write(&main, &place.set("by-hand").files[0].text).unwrap();
    std::fs::set_permissions(&main, std::fs::Permissions::from_mode(0o640)).unwrap();
    // Only root can give a file away.
    let other = if nix::unistd::geteuid().is_root() {
        12_345
    } else {
        nix::unistd::getgid().as_raw()
    };
    std::os::unix::fs::chown(&main, None, Some(other)).unwrap();
    let mut applier = place.open();
    faults::calm();
    place.apply(&mut applier, "one").await;
    let taken = faults::taken();
    let of = |path: &Path| -> Vec<Step> {
        taken
            .iter()
            .filter(|other| other.path == path)
            .map(|other| other.step)
            .take(5)
            .collect()
    };
    for name in NAMES {
        let steps = of(&place.files.join(format!(".{name}.gatewright-new")));
        use Step::{Create, Mode, Own, Remove, Write};
        assert_eq!(steps, [Remove, Create, Own, Mode, Write], "{name}");
    }
    let found = |name: &str| std::fs::metadata(place.files.join(name)).unwrap();
    assert_eq!(
        (found(NAMES[0]).mode() & 0o7777, found(NAMES[0]).gid()),
        (0o640, other)
    );
    assert_eq!(found(NAMES[1]).mode() & 0o7777, 0o600);
    // Nor can anybody read what is kept.
    let mut left = vec![place.state()];
    while let Some(path) = left.pop() {
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o077, 0, "{}", path.display());
        if found.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
}

// E03
#[tokio::test]
async fn leftovers_of_ours_go_at_the_next_start_and_nothing_else_does() {
    let place = Place::new();
    let mut applier = place.open();
    place.apply(&mut applier, "one").await;
    let ours: Vec<PathBuf> = NAMES
        .iter()
        .flat_map(|name| {
            ["new", "check", "tmp", "old"].map(|end| format!(".{name}.gatewright-{end}"))
        })
        .map(|name| place.files.join(name))
        .collect();
    let others = [
        ".other.cfg.gatewright-new",
        "haproxy.cfg.bak",
        ".haproxy.cfg.swp",
    ]
    .map(|name| place.files.join(name));
    for path in ours.iter().chain(&others) {
        std::fs::write(path, "left by a crash\n").unwrap();
    }
    // Another one at work holds the lock, and its files are its own.
    let second = Applier::open(
        Options::new(
            place.state(),
            vec![(place.files.join(NAMES[0]), Role::Config)],
            Mode::None,
            "haproxy".into(),
        ),
        Rules::default(),
    );
    assert!(second.is_err());
    assert!(ours.iter().all(|path| path.exists()));
    drop(applier);
    let mut applier = place.open();
    assert!(ours.iter().all(|path| !path.exists()));
    assert!(others.iter().all(|path| path.exists()));
    others
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
    assert!(matches!(
        place.apply(&mut applier, "one").await,
        Verdict::Written { .. } | Verdict::Unchanged
    ));
    place.assert_holds("one", "in the end");
}

// E09 E13
#[tokio::test]
async fn an_edit_is_seen_whatever_the_clock_says() {
    let place = Place::new();
    let mut applier = place.open();
    place.apply(&mut applier, "one").await;
    assert!(applier.observe().await.drift.is_empty());
    let map = place.files.join(NAMES[1]);
    let times = || {
        let found = std::fs::metadata(&map).unwrap();
        (found.modified().unwrap(), found.len())
    };
    let (before, length) = times();
    std::fs::write(&map, "# two\n").unwrap();
    let file = std::fs::File::options().append(true).open(&map).unwrap();
    file.set_modified(before).unwrap();
    assert_eq!(times(), (before, length), "nothing but the content differs");
    assert_eq!(applier.observe().await.drift, std::slice::from_ref(&map));
    // And the other way: a touched file is none that was changed.
    std::fs::write(&map, "# one\n").unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(applier.observe().await.drift.is_empty());
    std::fs::remove_file(&map).unwrap();
    assert_eq!(applier.observe().await.drift, std::slice::from_ref(&map));
    // An observation repairs nothing; the next set does.
    assert!(!map.exists());
    place.apply(&mut applier, "one").await;
    place.assert_holds("one", "written anew");
}

// E12
/// Whoever cleans up below /var takes what is kept, not what runs.
#[tokio::test]
async fn a_lost_or_damaged_state_directory_is_made_anew_from_the_live_files() {
    let place = Place::new();
    let mut applier = place.open();
    place.apply(&mut applier, "one").await;
    // While it runs…
    std::fs::remove_dir_all(place.state()).unwrap();
    let verdict = place.apply(&mut applier, "two").await;
    assert!(matches!(verdict, Verdict::Written { .. }), "{verdict:?}");
    place.assert_holds("two", "lost while it ran");
    drop(applier);
    // …and between two runs: lost, damaged, or that of a newer version.
    let newer = "{\"format\": 99, \"written\": null, \"applied\": null, \"confirmed\": null, \"rejected\": null, \"more\": 1}";
    let record =
        "{\"format\": 99, \"revision\": \"0123456789ab\", \"phase\": \"committed\", \"files\": []}";
    for (file, text) in [
        ("", ""),
        ("state.json", "{ torn"),
        ("state.json", newer),
        ("journal.json", "\0\0\0"),
        ("journal.json", record),
    ] {
        match file {
            "" => std::fs::remove_dir_all(place.state()).unwrap(),
            file => std::fs::write(place.state().join(file), text).unwrap(),
        }
        let inode = std::fs::metadata(place.files.join(NAMES[0])).unwrap().ino();
        let mut applier = place.open();
        let good = applier.last_good().unwrap();
        assert_eq!(good, place.set("two").files, "{file} {text}");
        let verdict = place.apply(&mut applier, "two").await;
        let same = matches!(verdict, Verdict::Unchanged | Verdict::Written { .. });
        assert!(same, "{file} {text}: {verdict:?}");
        let now = std::fs::metadata(place.files.join(NAMES[0])).unwrap().ino();
        assert_eq!(inode, now, "nothing is written for it");
        place.assert_holds("two", text);
    }
    // What is kept of the sets is known by its content.
    let history = History::open(&place.state(), 5);
    let revision = place.set("two").revision;
    let kept = place.state().join("sets").join(revision.as_str());
    std::fs::write(kept.join("0-haproxy.cfg"), "# another\n").unwrap();
    assert!(history.load_set(&revision).is_none());
    assert_eq!(place.open().last_good().unwrap(), place.set("two").files);
}

// E14
#[tokio::test]
async fn a_folder_whose_name_is_no_text_and_a_name_that_is_too_long() {
    let place = Place::below(OsStr::from_bytes(b"\xff\xfe etc\n\xc3\xa4%2f"));
    let mut applier = place.open();
    for word in ["one", "two"] {
        let verdict = place.apply(&mut applier, word).await;
        assert!(matches!(verdict, Verdict::Written { .. }), "{verdict:?}");
        place.assert_holds(word, "no text");
    }
    drop(applier);
    let applier = place.open();
    assert_eq!(applier.last_good().unwrap(), place.set("two").files);
    drop(applier);

    let name = "n".repeat(250);
    let file = SetFile {
        destination: place.files.join(&name),
        ..place.set("long").files[0].clone()
    };
    std::fs::write(&file.destination, "old\n").unwrap();
    let set = Candidate::new(vec![file.clone()]);
    let error = stage(&set, None, None, &[]).unwrap_err().to_string();
    assert!(
        error.contains("its name is too long. Choose a shorter one"),
        "{error}"
    );
    let left: BTreeMap<_, _> = std::fs::read_dir(&place.files)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .map(|name| (name.len(), name))
        .collect();
    assert_eq!(std::fs::read_to_string(&file.destination).unwrap(), "old\n");
    assert!(
        left.keys().all(|length| *length == 250 || *length < 30),
        "{left:?}"
    );
}
