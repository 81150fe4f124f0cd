//! What a worker tells about its maps: `show map` and `show map FILE`.
//!
//! Never panics on any text.

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
/// Lines that are not of that form are passed over.
pub fn parse_map_entries(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(parse_entry).collect()
}

/// `0x7fd33004cae0 key value`
fn parse_entry(line: &str) -> Option<(String, String)> {
    let (reference, rest) = line.split_once(' ')?;
    reference.strip_prefix("0x")?;
    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((key.to_owned(), value.to_owned()))
}
