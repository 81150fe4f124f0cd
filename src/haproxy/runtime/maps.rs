//! What a worker tells about its maps and its files of ACL patterns: `show map`, `show acl`, and either with
//! a FILE.
//!
//! Never panics on any text.

use super::state::Strange;

/// One map, or one list of patterns, that the worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// HAProxy's number for it.
    pub id: u32,
    /// Its file name as the configuration writes it, without `file@` and `opt@`; empty without a file.
    pub path: String,
    /// Whether a map reads it, which takes keys with values.
    pub of_map: bool,
    /// How many entries it has.
    pub entries: Option<usize>,
    /// The version that traffic sees.
    pub current: Option<u32>,
    /// The latest version that was prepared.
    pub next: Option<u32>,
}

/// Reads `show map` or `show acl`. Lines that are not of that form are passed over.
pub fn parse_maps(text: &str) -> Vec<MapInfo> {
    text.lines().filter_map(parse_info).collect()
}

/// `0 (m.map) pattern loaded from file 'm.map' used by map at file 'h.cfg' line 12. curr_ver=0
/// next_ver=0 entry_cnt=2`
fn parse_info(line: &str) -> Option<MapInfo> {
    let (id, rest) = line.split_once(" (")?;
    let (path, rest) = rest.split_once(") ")?;
    let after = |name: &str| {
        rest.rsplit(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    Some(MapInfo {
        id: id.parse().ok()?,
        path: path.to_owned(),
        of_map: rest.contains(" by map at file "),
        entries: after("entry_cnt").and_then(|number| number.parse().ok()),
        current: after("curr_ver").and_then(|number| number.parse().ok()),
        next: after("next_ver").and_then(|number| number.parse().ok()),
    })
}

/// Reads `show map FILE` or `show map @VERSION FILE`: keys with their values, in HAProxy's order.
pub fn parse_map_entries(text: &str) -> Result<Vec<(String, String)>, Strange> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| parse_entry(line).ok_or_else(|| Strange::new(index + 1, line)))
        .collect()
}

/// Reads `show acl FILE` or `show acl @VERSION FILE`: the patterns in HAProxy's order.
pub fn parse_patterns(text: &str) -> Result<Vec<String>, Strange> {
    let lines = text.lines().enumerate();
    let pattern = |(index, line)| match parse_reference(line) {
        Some(pattern) => Ok(pattern.to_owned()),
        None => Err(Strange::new(index + 1, line)),
    };
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(pattern)
        .collect()
}

/// `0x7fd33004cae0 key value`
fn parse_entry(line: &str) -> Option<(String, String)> {
    let rest = parse_reference(line)?;
    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((key.to_owned(), value.to_owned()))
}

/// What follows HAProxy's own name for an entry.
fn parse_reference(line: &str) -> Option<&str> {
    let (reference, rest) = line.split_once(' ')?;
    let digits = reference.strip_prefix("0x")?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn maps_are_read_with_their_versions() {
        let text = "# id (file) description\n0 (/h/m.map) pattern loaded from file '/h/m.map' used by map at file '/h/h.cfg' line 12. curr_ver=1 next_ver=3 entry_cnt=2\n-1 (x) y\n\n";
        let info = MapInfo {
            id: 0,
            path: "/h/m.map".into(),
            of_map: true,
            entries: Some(2),
            current: Some(1),
            next: Some(3),
        };
        assert_eq!(parse_maps(text), [info]);
    }

    #[test]
    fn entries_keep_blanks_in_their_values() {
        let text = "0x7f9c8404bec0 /d one  two\n0x7f9c8404bf60 /e\n\n";
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            parse_map_entries(text),
            Ok(vec![entry("/d", "one  two"), entry("/e", "")])
        );
        assert_eq!(parse_map_entries("\n"), Ok(Vec::new()));
        let unknown = "Unknown map identifier. Please use #<id> or <file>.\n\n";
        assert!(parse_map_entries(unknown).is_err());
    }

    #[test]
    fn pattern_files_are_read_with_their_users() {
        let text = "# id (file) description\n0 (/h/a.acl) pattern loaded from file '/h/a.acl' used by acl at file '/h/h.cfg' line 10, by acl at file '/h/h.cfg' line 11. curr_ver=0 next_ver=0 entry_cnt=4\n\
            1 () acl 'src' file '/h/h.cfg' line 10. curr_ver=0 next_ver=0 entry_cnt=0\n\
            2 (/h/o.acl) pattern loaded from file 'opt@/h/o.acl' used by acl at file '/h/h.cfg' line 12, by map at file '/h/h.cfg' line 13. curr_ver=0 next_ver=0 entry_cnt=1\n\n";
        let found = parse_maps(text);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.path.as_str(), one.of_map))
            .collect();
        assert_eq!(
            found,
            [("/h/a.acl", false), ("", false), ("/h/o.acl", true)]
        );
        let shown = "0x55a6c1b80380 10.0.0.1\n0x55a6c1b803d0 /a b \n\n";
        assert_eq!(
            parse_patterns(shown),
            Ok(vec!["10.0.0.1".into(), "/a b ".into()])
        );
        let unknown = "Unknown ACL identifier. Please use #<id> or <file>.\n\n";
        assert!(parse_patterns(unknown).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*", line in "[0x() ]*") {
            for text in [text, line] {
                let _ = parse_maps(&text);
                let _ = parse_map_entries(&text);
                let _ = parse_patterns(&text);
            }
        }
    }
}
