//! Pattern files of ACLs (`-f FILE`): their patterns, how two differ, and whether a file of the set is one
//! and nothing else, so that the worker can be given its patterns. Pure.

use std::path::{Path, PathBuf};

use super::super::set::{Role, SetFile};
use super::changes::{Changes, MapChanges};
use super::configuration;
use super::diff::numbered;
use crate::haproxy::config::{Config, Directive};

/// One pattern file that is exchanged as a whole, in one step for traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclStep {
    /// The file of the set.
    pub destination: PathBuf,
    /// Its patterns, in order.
    pub patterns: Vec<String>,
}

/// What may stand before the path of a pattern file (3.0; HAProxy 3.0 configuration manual 2.7).
const PREFIXES: [&str; 2] = ["file@", "opt@"];

/// The patterns of a file: the lines that are neither empty nor start with `#`, without the blanks before
/// them. Those behind them count, and a carriage return ends a pattern (2.6 to 3.2, by experiment).
pub fn acl_patterns(text: &str) -> Vec<String> {
    let lines = text.split('\n').filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split('\r').next().unwrap_or_default())
        .map(|line| line.trim_start_matches([' ', '\t']))
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Takes the files out of the changed ones that are certain to be patterns of ACLs in both sets.
pub(super) fn sort_out(old: &[SetFile], new: &[SetFile], changes: &mut Changes) {
    let find = |files: &'_ [SetFile], path: &Path| -> Option<String> {
        let file = files.iter().find(|file| file.destination == path)?;
        (file.role == Role::Other).then(|| file.text.clone())
    };
    let mut differing = Vec::new();
    for path in &changes.files_changed {
        if let (Some(before), Some(after)) = (find(old, path), find(new, path)) {
            differing.push((path.clone(), before, after));
        }
    }
    if differing.is_empty() {
        return;
    }
    let configs = [configuration(old), configuration(new)];
    for (path, before, after) in differing {
        if !configs.iter().all(|config| is_pattern_file(config, &path)) {
            continue;
        }
        changes.files_changed.retain(|changed| *changed != path);
        let found = diff_patterns(&before, &after);
        if found != MapChanges::default() {
            changes.acls.insert(path, found);
        }
    }
}

/// Whether a configuration names this file behind `-f`, and names nothing like it anywhere else.
pub fn is_pattern_file(config: &Config, path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let mut used = false;
    let sections = config.sections.iter();
    let within = sections.flat_map(|one| {
        one.directives
            .iter()
            .map(move |line| (line, one.kind == "program"))
    });
    for (directive, program) in within.chain(config.outside.iter().map(|line| (line, true))) {
        for (at, word) in directive.words.iter().enumerate() {
            if !word.text.contains(name) {
                continue;
            }
            // With `-M` each line is a key and a value, as in a map.
            let as_map = directive.words.iter().any(|word| word.text == "-M");
            if program || word.opaque || as_map || !is_behind_f(directive, at) {
                return false;
            }
            let bare = PREFIXES
                .iter()
                .find_map(|prefix| word.text.strip_prefix(prefix));
            used |= Path::new(bare.unwrap_or(&word.text)) == path;
        }
    }
    used
}

fn is_behind_f(directive: &Directive, at: usize) -> bool {
    at.checked_sub(1)
        .is_some_and(|before| directive.word(before) == Some("-f"))
}

/// How the patterns of two files differ. Their order means nothing: any that matches is enough.
fn diff_patterns(old: &str, new: &str) -> MapChanges {
    let (old, new) = (acl_patterns(old), acl_patterns(new));
    let keys = |patterns: &[String]| -> std::collections::BTreeSet<(String, usize)> {
        let numbered = numbered(patterns, |pattern| pattern).into_iter();
        numbered.map(|(key, _)| key).collect()
    };
    let (old, new) = (keys(&old), keys(&new));
    MapChanges {
        added: new.difference(&old).count(),
        removed: old.difference(&new).count(),
        ..MapChanges::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(config: &str, patterns: &str) -> Vec<SetFile> {
        let file = |name: &str, role, text: &str| SetFile {
            destination: Path::new("/h").join(name),
            role,
            mode: None,
            text: text.to_owned(),
        };
        vec![
            file("h.cfg", Role::Config, config),
            file("a.acl", Role::Other, patterns),
        ]
    }

    /// What differs by the patterns alone, in words.
    fn told(config: &str, old: &str, new: &str) -> (String, bool) {
        let changes = super::super::diff_sets(&set(config, old), &set(config, new));
        (changes.to_string(), changes.acls.is_empty())
    }

    #[test]
    fn patterns_are_read_as_haproxy_reads_them() {
        assert_eq!(
            acl_patterns("# c\n\n10.0.0.1\r\n \t10.0.0.0/8\n  # x\n/a b \n \n/d"),
            ["10.0.0.1", "10.0.0.0/8", "# x", "/a b ", "/d"]
        );
        let cut = acl_patterns("10.0.0.1\r10.0.0.0/8\n# old:\r0.0.0.0/0\n");
        assert_eq!(cut, ["10.0.0.1"]);
    }

    #[test]
    fn a_file_behind_f_and_nowhere_else_is_a_pattern_file() {
        for config in [
            "frontend f\n acl a src -f /h/a.acl\n",
            "frontend f\n acl a path -i -f /h/a.acl -f /h/b.acl\n http-request deny if { src -f /h/a.acl }\n",
            "frontend f\n acl a src -f opt@/h/a.acl\n acl b src -f file@/h/a.acl\n",
            "frontend f\n acl a src -f \"/h/a.acl\"\n acl b src -f a.acl\n",
            "frontend f\n acl a src -f /h/./a.acl\n",
        ] {
            let (told, none) = told(config, "1\n2\n2\n", "2\n1\n3\n");
            assert_eq!(
                (told.as_str(), none),
                ("+1 −1 entries in a.acl", false),
                "{config}"
            );
        }
        for config in [
            "frontend f\n",
            "frontend f\n acl a src -f a.acl\n",
            "frontend f\n acl a src -f virt@/h/a.acl\n",
            "frontend f\n acl a path -M -f /h/a.acl\n",
            "frontend f\n acl a src -f \"$DIR/a.acl\"\n",
            "frontend f\n acl a src -f /h/a.acl\n acl b src -f \"${DIR}/a.acl\"\n",
            "frontend f\n acl a src -f /h/a.acl\n errorfile 503 /h/a.acl\n",
            "frontend f\n acl a src -f /h/a.acl\n errorfile 503 a.acl\n",
            "frontend f\n acl a src -f /h/a.acl\n http-request set-header x %[src,map_ip(/h/a.acl)]\n",
            "program p\n command x -f /h/a.acl\n",
            "acl a src -f /h/a.acl\n",
        ] {
            let (told, none) = told(config, "1\n", "2\n");
            assert_eq!((told.as_str(), none), ("changed a.acl", true), "{config}");
        }
    }

    #[test]
    fn comments_blanks_and_order_are_no_difference() {
        let config = "frontend f\n acl a src -f /h/a.acl\n";
        let (told, none) = told(config, "# old\n1\n\n2\n", "2\n  1\n# new\n");
        assert_eq!((told.as_str(), none), ("no change", true));
    }

    proptest! {
        /// What is written one pattern a line is read back, whatever comments stand between.
        #[test]
        fn patterns_that_are_written_are_read(
            patterns in prop::collection::vec("[!-\"$-~][ -~]{0,6}", 0..6), text in "(?s).{0,40}"
        ) {
            let written: String = patterns.iter().map(|p| format!("#c\n\t{p}\n\n")).collect();
            prop_assert_eq!(acl_patterns(&written), patterns);
            for pattern in acl_patterns(&text) {
                prop_assert!(!pattern.is_empty() && !pattern.contains(['\n', '\r']));
            }
        }
    }
}
