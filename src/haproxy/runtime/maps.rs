//! What a worker tells about its maps: `show map` and `show map FILE`.
//!
//! Never panics on any text.

use super::state::Strange;

/// One map that the worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// HAProxy's number for it.
    pub id: u32,
    /// Its file name as the configuration writes it; empty for a map without a file.
    pub path: String,
    /// How many entries it has.
    pub entries: Option<usize>,
    /// The version that traffic sees.
    pub current: Option<u32>,
    /// The latest version that was prepared.
    pub next: Option<u32>,
}

/// Reads `show map`. Lines that are not of that form are passed over.
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

/// `0x7fd33004cae0 key value`
fn parse_entry(line: &str) -> Option<(String, String)> {
    let (reference, rest) = line.split_once(' ')?;
    let digits = reference.strip_prefix("0x")?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((key.to_owned(), value.to_owned()))
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

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*", line in "[0x() ]*") {
            for text in [text, line] {
                let _ = parse_maps(&text);
                let _ = parse_map_entries(&text);
            }
        }
    }
}
