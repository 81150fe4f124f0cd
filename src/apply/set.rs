//! A set: the files that are validated, swapped in and confirmed as one, and their revision.
//!
//! The revision is written into the main configuration as a process-wide variable, so that the
//! running worker can be asked which set it loaded (HAProxy 2.6 configuration manual 3.1
//! "set-var", management manual 9.3 "get var"). Templates need not mention it. A set without a configuration is
//! known otherwise, see `carrier`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::origin::Origin;
use crate::haproxy::config::Endpoint;

/// How the variable is called that carries the revision in a worker, before the name of the set's main file.
/// Earlier builds used this alone, which several Gatewrights that write a file each for one HAProxy shared.
pub const REVISION_VARIABLE: &str = "proc.gatewright_revision";

/// The variable that carries the revision of the set with this main file.
pub fn revision_variable(main: &Path) -> String {
    // `/etc//h.cfg` is the same file.
    let main: PathBuf = main.components().collect();
    let bytes = main.as_os_str().as_encoded_bytes();
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digits = hash.as_ref()[..4].iter();
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    format!("{REVISION_VARIABLE}_{digits}")
}

/// Whether a variable carries a revision: of any set, or of an earlier build.
pub fn is_revision_variable(name: &str) -> bool {
    match name.strip_prefix(REVISION_VARIABLE) {
        Some(rest) => rest.is_empty() || rest.starts_with('_'),
        None => false,
    }
}

/// What a file of the set is to HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A map file (`map(…)` and its kin); swapped in before the configuration.
    Map,
    /// A list of certificates (`crt-list`); swapped in before the configuration.
    CrtList,
    /// Anything else the configuration names: error pages, ACL files, certificates.
    Other,
    /// A configuration file that HAProxy loads by `-f`. The first one carries the revision.
    Config,
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFile {
    /// Absolute path of the file that HAProxy reads.
    pub destination: PathBuf,
    /// What HAProxy takes it for.
    pub role: Role,
    /// Permission bits; `None` keeps those of the existing file, or 0600 for a new one.
    pub mode: Option<u32>,
    /// The whole text.
    pub text: String,
}

/// The name of a set's content: the first 12 hexadecimal digits of its SHA-256.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

impl Revision {
    /// Reads a revision that a worker or a file of ours reported.
    pub fn parse(text: &str) -> Option<Revision> {
        let text = text.trim();
        (text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| Revision(text.to_ascii_lowercase()))
    }

    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A rendered set with its revision written in, ready to be judged and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Names the content.
    pub revision: Revision,
    /// In the order of the settings. The first one with [`Role::Config`] ends in the marker.
    pub files: Vec<SetFile>,
    /// Where the last good set may listen and this one need not.
    pub may_lose: BTreeSet<Endpoint>,
    /// What of it came from values.
    pub origin: Origin,
}

impl Candidate {
    /// Makes every file end in a line end (HAProxy refuses one that does not), computes the
    /// revision and appends the marker to the first configuration file.
    pub fn new(mut files: Vec<SetFile>) -> Candidate {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for file in &mut files {
            if !file.text.is_empty() && !file.text.ends_with('\n') {
                file.text.push('\n');
            }
            let path = file.destination.as_os_str().as_encoded_bytes();
            for part in [path, file.text.as_bytes()] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let digits = hash.finish().as_ref()[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let revision = Revision(digits);
        if let Some(main) = files.iter_mut().find(|file| file.role == Role::Config)
            && !main.text.trim().is_empty()
        {
            let marker = marker(&main.destination, &revision);
            main.text.push_str(&marker);
        }
        Candidate {
            revision,
            files,
            may_lose: BTreeSet::new(),
            origin: Origin::default(),
        }
    }
}

const MARKER_START: &str = "\n# Written by Gatewright; the worker is asked for this value after each reload.\nglobal\n    set-var ";

/// The lines that make a worker carry the revision. HAProxy adds up several `global` sections.
fn marker(main: &Path, revision: &Revision) -> String {
    format!(
        "{MARKER_START}{} str({revision})\n",
        revision_variable(main)
    )
}

/// A text without the lines that carry its revision.
pub fn without_marker(text: &str) -> &str {
    let is_last = |rest: &str| {
        let mut words = rest.split_whitespace();
        words.next().is_some_and(is_revision_variable) && rest.lines().count() == 1
    };
    match text.rsplit_once(MARKER_START) {
        Some((before, rest)) if is_last(rest) => before,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Candidate {
        Candidate::new(vec![SetFile {
            destination: "/h.cfg".into(),
            role: Role::Config,
            mode: None,
            text: text.into(),
        }])
    }

    // D10 F10
    #[test]
    fn the_revision_names_the_content_and_is_in_the_file() {
        let one = set("defaults\n");
        assert_eq!(one, set("defaults"), "the final line end is always there");
        assert_ne!(one.revision, set("defaults\n\n").revision);
        assert!(
            one.files[0]
                .text
                .ends_with(&format!("str({})\n", one.revision))
        );
        assert_eq!(Revision::parse(one.revision.as_str()), Some(one.revision));
        assert_eq!(Revision::parse("zz"), None);
        assert_eq!(without_marker(&one.files[0].text), "defaults\n");
        assert_eq!(without_marker("defaults\n"), "defaults\n");
        let earlier = format!("{MARKER_START}{REVISION_VARIABLE} str(0123456789ab)\n");
        assert_eq!(
            without_marker(&format!("defaults\n{earlier}")),
            "defaults\n"
        );
        let more = format!("defaults\n{earlier}frontend f\n");
        assert_eq!(without_marker(&more), more, "it is not at the end");
    }

    #[test]
    fn each_main_file_has_a_variable_of_its_own() {
        let [one, two] = ["/a.cfg", "/b.cfg"].map(|path| revision_variable(Path::new(path)));
        assert_ne!(one, two);
        assert!(is_revision_variable(&one) && is_revision_variable(REVISION_VARIABLE));
        assert!(!is_revision_variable("proc.gatewright_revisions"));
        assert!(
            set("defaults\n").files[0]
                .text
                .contains(&revision_variable(Path::new("/h.cfg")))
        );
    }
}
