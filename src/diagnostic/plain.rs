//! Text from elsewhere as one line that does nothing to a terminal, a log file or a reader's eye.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character escaped that is not shown as itself: line ends, terminal codes (C0 and
/// C1), and those that change the direction of what follows.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unplain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_unplain(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character must not stand in a line as it is.
pub fn is_unplain(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // L09
    #[test]
    fn line_ends_and_terminal_codes_are_shown_not_done() {
        let hostile = "web\r\n2026 ERROR forged\u{1b}[2J\u{9b}31m\u{202e}txt\0";
        assert_eq!(
            plain(hostile),
            "web\\r\\n2026 ERROR forged\\u{1b}[2J\\u{9b}31m\\u{202e}txt\\u{0}"
        );
        assert!(matches!(plain("a service, größer als 3"), Cow::Borrowed(_)));
    }

    proptest! {
        // L09
        #[test]
        fn nothing_unplain_is_left_of_any_text(text in "(?s).*") {
            prop_assert!(!plain(&text).contains(is_unplain));
        }
    }
}
