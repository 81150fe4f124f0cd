//! Map files: their entries, how two differ, and what makes a worker take the new ones. Pure.

use std::collections::BTreeMap;

use super::changes::MapChanges;
use super::diff::{numbered, reordered};

/// One entry of a map file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// The value; empty when there is none.
    pub value: String,
}

/// The entries of a map file: the first word and the rest of each line that is neither blank nor a
/// comment (HAProxy 2.6 configuration manual 7.3.1 "map"). A `#` behind blanks is a key (2.6 to 3.2, by
/// experiment).
pub fn map_entries(text: &str) -> Vec<MapEntry> {
    let blank = [' ', '\t', '\r'];
    let mut entries = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let comment = line.starts_with('#');
        let line = line.trim_matches(blank);
        if line.is_empty() || comment {
            continue;
        }
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        entries.push(MapEntry {
            line: index + 1,
            key: key.to_owned(),
            value: value.trim_matches(blank).to_owned(),
        });
    }
    entries
}

/// How the entries of two map files differ.
pub(super) fn diff_maps(old: &str, new: &str) -> MapChanges {
    let (old, new) = (map_entries(old), map_entries(new));
    let (old, new) = (numbered(&old, |e| &e.key), numbered(&new, |e| &e.key));
    let before: BTreeMap<_, _> = old.iter().map(|(key, entry)| (key, &entry.value)).collect();
    let after: BTreeMap<_, _> = new.iter().map(|(key, entry)| (key, &entry.value)).collect();
    MapChanges {
        added: after
            .keys()
            .filter(|key| !before.contains_key(*key))
            .count(),
        removed: before
            .keys()
            .filter(|key| !after.contains_key(*key))
            .count(),
        changed: after
            .iter()
            .filter(|(key, value)| before.get(*key).is_some_and(|old| old != *value))
            .count(),
        reordered: reordered(
            old.iter().map(|(key, _)| key),
            new.iter().map(|(key, _)| key),
            |key| before.contains_key(key),
            |key| after.contains_key(key),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_comment_behind_blanks_is_a_key() {
        let entries = map_entries("k v\n  # indented\n#c\nj   w  w  \r\n\n");
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (entry.line, entry.key.as_str(), entry.value.as_str()))
            .collect();
        assert_eq!(
            entries,
            [(1, "k", "v"), (2, "#", "indented"), (4, "j", "w  w")]
        );
    }
}
