//! A wall clock that jumps: nothing that decides reads it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use support::tools;

/// What may read it, because it only shows or stores the time: when a set was refused, when the snapshot was
/// saved, when the process began, for how long a listener has been kept, and the file times that tell whether a
/// certificate or a catalog was replaced.
const SHOWN: [&str; 6] = [
    "src/agent/snapshot.rs",
    "src/apply/history.rs",
    "src/source/consul/tls.rs",
    "src/source/file.rs",
    "src/status/model.rs",
    "src/status/process.rs",
];

// I10
#[test]
fn only_what_is_shown_reads_the_wall_clock() {
    let root = tools::root();
    let mut found = BTreeSet::new();
    visit(&root.join("src"), &mut |path, text| {
        let reads = ["SystemTime", "Timestamp::now", "Zoned::now", "Utc::now"];
        if reads.iter().any(|word| text.contains(word)) {
            let path = path.strip_prefix(&root).unwrap_or(path);
            found.insert(path.display().to_string());
        }
    });
    found.retain(|path| !path.contains("tests"));
    let shown: BTreeSet<String> = SHOWN.map(str::to_owned).into();
    assert_eq!(found, shown);
}

fn visit(folder: &Path, each: &mut dyn FnMut(&PathBuf, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => visit(&path, each),
            false => each(&path, &std::fs::read_to_string(&path).unwrap()),
        }
    }
}
