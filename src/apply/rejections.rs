//! The sets that HAProxy did not load after its validation had passed, so that none of them is loaded again
//! before something has changed that may make a difference: the content, HAProxy's program, or the
//! operator's mind. Pure.

use serde::{Deserialize, Serialize};

use super::plan::is_marker;
use super::set::{Revision, Role, SetFile};
use crate::catalog::snapshot::digest;
use crate::haproxy::config::Config;

/// As many are remembered.
const REMEMBERED: usize = 16;

/// A set that HAProxy did not load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its revision.
    pub revision: String,
    /// Why.
    pub reason: String,
    /// Whether HAProxy ended over it.
    pub fatal: bool,
    /// Whether somebody may have killed HAProxy in just that moment, so that it is loaded once more.
    pub doubtful: bool,
    /// What it is besides its servers; see [`structure`].
    pub structure: String,
    /// The HAProxy that did not load it.
    pub build: Build,
    /// The worker that ran after it. When another one reports the set, that one has loaded it.
    pub worker: Option<i32>,
}

/// What is known of HAProxy's program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The version that the worker reports.
    pub version: Option<String>,
    /// Size and time of the last change of the file.
    pub file: Option<String>,
}

impl Build {
    /// What is not known is no difference.
    fn differs(&self, other: &Build) -> bool {
        let differ = |one: &Option<String>, two: &Option<String>| match (one, two) {
            (Some(one), Some(two)) => one != two,
            _ => false,
        };
        differ(&self.version, &other.version) || differ(&self.file, &other.file)
    }
}

/// The latest of them, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rejections(Vec<Rejection>);

impl Rejections {
    /// The newest.
    pub fn latest(&self) -> Option<&Rejection> {
        self.0.first()
    }

    /// What is remembered of this set, whatever HAProxy runs.
    pub fn of(&self, revision: &Revision) -> Option<&Rejection> {
        let is_its = |one: &&Rejection| one.revision == revision.as_str();
        self.0.iter().find(is_its)
    }

    /// Why this HAProxy must not load this set again.
    pub fn against(&self, revision: &Revision, build: &Build) -> Option<&Rejection> {
        self.of(revision)
            .filter(|one| !one.doubtful && !one.build.differs(build))
    }

    /// Whether HAProxy has ended over one.
    pub fn any_fatal(&self) -> bool {
        self.0.iter().any(|one| one.fatal)
    }

    /// The set over which this HAProxy has ended and from which one of this structure differs in its
    /// servers alone.
    pub fn fatal_as(&self, structure: &str, build: &Build) -> Option<&Rejection> {
        self.0.iter().find(|one| {
            one.fatal && !one.doubtful && one.structure == structure && !one.build.differs(build)
        })
    }

    /// Remembers one, in place of what was known of the same set.
    pub fn note(&mut self, rejection: Rejection) {
        self.0.retain(|one| one.revision != rejection.revision);
        self.0.insert(0, rejection);
        self.0.truncate(REMEMBERED);
    }

    /// A worker reports a set: where it was not there when the set was rejected, it has loaded the set.
    pub fn reported(&mut self, revision: &Revision, worker: i32) {
        self.0
            .retain(|one| one.revision != revision.as_str() || one.worker == Some(worker));
    }

    /// The operator wants them loaded again; `all`: also those over which HAProxy ended.
    pub fn forget(&mut self, all: bool) {
        self.0.retain(|one| one.fatal && !all);
    }
}

/// Names what a set is besides its servers, comments and revision.
pub fn structure(files: &[SetFile]) -> String {
    let (configs, others): (Vec<&SetFile>, Vec<&SetFile>) =
        files.iter().partition(|file| file.role == Role::Config);
    let mut text = String::new();
    if configs.is_empty() {
        others.iter().for_each(|file| text.push_str(&file.text));
    }
    for file in configs {
        let config = Config::parse(&file.text);
        for section in &config.sections {
            text.push_str(&format!(
                "{} {} {:?}\n",
                section.kind, section.name, section.from
            ));
            let lines = section.directives.iter();
            for line in lines.filter(|line| line.keyword() != "server" && !is_marker(line)) {
                text.push_str(&line.rest(0).join(" "));
                text.push('\n');
            }
        }
    }
    digest(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(letter: char) -> Revision {
        Revision::parse(&letter.to_string().repeat(12)).unwrap()
    }

    fn build(version: &str, file: &str) -> Build {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Build {
            version: known(version),
            file: known(file),
        }
    }

    fn rejection(letter: char, fatal: bool) -> Rejection {
        Rejection {
            revision: revision(letter).to_string(),
            reason: "why".into(),
            fatal,
            doubtful: false,
            structure: letter.to_string(),
            build: build("2.6", "1"),
            worker: Some(7),
        }
    }

    #[test]
    fn a_set_is_not_loaded_again_by_the_same_program() {
        let mut known = Rejections::default();
        known.note(rejection('a', false));
        known.note(rejection('b', true));
        let against = |letter, build| known.against(&revision(letter), &build).is_some();
        assert!(against('a', build("2.6", "1")));
        assert!(against('a', build("", "1")), "HAProxy is away");
        assert!(against('a', build("2.6", "")));
        assert!(!against('a', build("2.8", "1")));
        assert!(!against('a', build("2.6", "2")), "an upgrade");
        assert!(!against('c', build("2.6", "1")));
        let fatal = |structure, build| known.fatal_as(structure, &build).is_some();
        assert!(fatal("b", build("2.6", "1")));
        assert!(!fatal("b", build("2.6", "2")));
        assert!(!fatal("a", build("2.6", "1")), "HAProxy has outlived it");
    }

    #[test]
    fn a_worker_that_has_loaded_a_set_clears_it_and_the_former_one_does_not() {
        let mut known = Rejections::default();
        known.note(rejection('a', true));
        known.reported(&revision('a'), 7);
        known.reported(&revision('b'), 8);
        assert!(known.of(&revision('a')).is_some());
        known.reported(&revision('a'), 8);
        assert_eq!(known, Rejections::default());
    }

    #[test]
    fn one_in_doubt_may_be_loaded_once_more() {
        let mut known = Rejections::default();
        let doubtful = Rejection {
            doubtful: true,
            ..rejection('a', true)
        };
        known.note(doubtful);
        let now = build("2.6", "1");
        assert_eq!(known.against(&revision('a'), &now), None);
        assert_eq!(known.fatal_as("a", &now), None);
        known.note(rejection('a', true));
        assert!(known.against(&revision('a'), &now).is_some());
    }

    #[test]
    fn the_operator_clears_what_haproxy_has_outlived_or_all() {
        let mut known = Rejections::default();
        known.note(rejection('a', false));
        known.note(rejection('b', true));
        known.forget(false);
        assert_eq!(known.0, [rejection('b', true)]);
        known.forget(true);
        assert!(known.latest().is_none());
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let mut known = Rejections::default();
        for number in 0..40 {
            let mut one = rejection('a', false);
            one.revision = format!("{number:012}");
            known.note(one.clone());
            known.note(one);
        }
        assert_eq!(known.0.len(), REMEMBERED);
        assert_eq!(known.latest().unwrap().revision, format!("{:012}", 39));
    }

    #[test]
    fn the_structure_of_a_set_is_all_but_servers_comments_and_revision() {
        let of = |text: &str| {
            structure(&[SetFile {
                destination: "/h.cfg".into(),
                role: Role::Config,
                mode: None,
                text: text.into(),
            }])
        };
        let one = of("global\n chroot /x\nbackend b\n server a 10.0.0.1:80\n");
        assert_eq!(
            one,
            of(
                "global\n  chroot '/x' # why\nbackend b\n server c 10.0.0.2:81\n server d 10.0.0.3:80\n"
            )
        );
        assert_ne!(
            one,
            of("global\n chroot /y\nbackend b\n server a 10.0.0.1:80\n")
        );
        assert_ne!(
            one,
            of("global\n chroot /x\nbackend c\n server a 10.0.0.1:80\n")
        );
    }
}
