//! Text that people write by hand. Reads; knows nothing of what the text means.

use std::path::Path;

/// Reads a file of UTF-8 text. A byte order mark at its beginning, which some editors write, is dropped.
pub fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(without_mark)
}

/// The text without the byte order mark at its beginning.
pub fn without_mark(mut text: String) -> String {
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mark_at_the_beginning_is_dropped() {
        for (text, expected) in [
            ("\u{feff}global\n", "global\n"),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("a\u{feff}", "a\u{feff}"),
            ("\u{feff}", ""),
            ("", ""),
        ] {
            assert_eq!(without_mark(text.to_owned()), expected);
        }
    }
}
