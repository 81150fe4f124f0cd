//! How it is known which set a worker runs: decided once, by the files that the settings name. Pure.

use std::path::{Path, PathBuf};

use super::plan::{self, Comparison};
use super::set::{Candidate, Revision, Role, SetFile, revision_variable};

/// Who sets the variable by which a worker reports its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// The main file of the set, which each worker loads.
    File(PathBuf),
    /// Gatewright, in a worker that has loaded the set: only configurations of others name these files. The path is
    /// the first of them.
    Command(PathBuf),
}

impl Carrier {
    /// `beside` says that HAProxy loads configurations of others, too. `None` where no configuration could name the
    /// files.
    pub fn of(destinations: &[(PathBuf, Role)], beside: bool) -> Option<Carrier> {
        let is_main = |(_, role): &&(PathBuf, Role)| *role == Role::Config;
        let main = destinations.iter().find(is_main);
        let first = || destinations.iter().map(|(path, _)| path).min();
        match main {
            Some((main, _)) => Some(Carrier::File(main.clone())),
            None if beside => Some(Carrier::Command(first()?.clone())),
            None => None,
        }
    }

    /// The file that stands for the set.
    pub fn main(&self) -> &Path {
        match self {
            Carrier::File(path) | Carrier::Command(path) => path,
        }
    }

    /// The variable of a worker that carries the revision.
    pub fn variable(&self) -> String {
        revision_variable(self.main())
    }

    /// Whether Gatewright sets it.
    pub fn is_command(&self) -> bool {
        matches!(self, Carrier::Command(_))
    }

    /// The revision of files that stand at the destinations.
    pub fn revision(&self, files: &[SetFile]) -> Option<Revision> {
        match self {
            Carrier::File(_) => plan::revision(files),
            Carrier::Command(_) => Some(Candidate::new(files.to_vec()).revision),
        }
    }

    /// The difference between two sets. `others` are the configurations of others, which alone say what a file is
    /// where the set has none.
    pub fn compare(&self, old: &[SetFile], new: &[SetFile], others: &[SetFile]) -> Comparison {
        match self {
            Carrier::File(_) => plan::compare(old, new),
            Carrier::Command(_) => plan::compare(&[old, others].concat(), &[new, others].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_a_configuration_of_ours_is_known_by_a_command() {
        let of = |files: &[(&str, Role)], beside| {
            let files: Vec<(PathBuf, Role)> = files
                .iter()
                .map(|(path, role)| (path.into(), *role))
                .collect();
            Carrier::of(&files, beside)
        };
        let (map, main) = (("/b.map", Role::Map), ("/h.cfg", Role::Config));
        let second = ("/a.http", Role::Other);
        for beside in [true, false] {
            assert_eq!(
                of(&[map, main], beside),
                Some(Carrier::File("/h.cfg".into()))
            );
        }
        let alone = of(&[map, second], true).unwrap();
        assert_eq!(alone, Carrier::Command("/a.http".into()));
        assert_eq!(of(&[second, map], true).unwrap(), alone);
        assert_eq!(alone.variable(), revision_variable(Path::new("/a.http")));
        assert_eq!((of(&[map], false), of(&[], true)), (None, None));
    }
}
