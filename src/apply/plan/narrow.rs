//! The part of two configurations in which they differ, cut out before anything is parsed, so that the
//! cost of a change follows the change and not the size of the file.
//!
//! Only certainty narrows: texts with conditional blocks, with quoted or computed section names or with
//! other sections in another order are left to the comparison by meaning. Never judges.

use std::path::Path;

use super::super::set::{Role, SetFile, without_marker};
use crate::haproxy::config::is_section_keyword;

/// One section as text, from its first line to the line before the next section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk<'a> {
    /// `backend`, `global`…; empty for what stands before the first section.
    kind: &'a str,
    text: &'a str,
}

impl<'a> Chunk<'a> {
    fn head(&self) -> &'a str {
        self.text.split('\n').next().unwrap_or_default()
    }

    fn is_pool(&self) -> bool {
        matches!(self.kind, "backend" | "listen")
    }
}

/// The sections that differ, as two small sets of files: for each configuration file the `defaults` and
/// the backends (or listen sections) that differ, in order. `None` when anything else differs too, or
/// nothing is certain.
pub fn narrow(old: &[SetFile], new: &[SetFile]) -> Option<(Vec<SetFile>, Vec<SetFile>)> {
    let is_config = |file: &&SetFile| file.role == Role::Config;
    let (mut old, mut new) = (old.iter().filter(is_config), new.iter().filter(is_config));
    let mut narrowed = (Vec::new(), Vec::new());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return Some(narrowed),
            (Some(before), Some(after)) if before.destination == after.destination => {
                let (one, two) =
                    narrow_text(without_marker(&before.text), without_marker(&after.text))?;
                narrowed.0.push(part(&before.destination, one));
                narrowed.1.push(part(&after.destination, two));
            }
            _ => return None,
        }
    }
}

fn part(destination: &Path, text: String) -> SetFile {
    SetFile {
        destination: destination.to_owned(),
        role: Role::Config,
        mode: None,
        text,
    }
}

fn narrow_text(old: &str, new: &str) -> Option<(String, String)> {
    if old == new {
        return Some((String::new(), String::new()));
    }
    let (before, after) = (chunks(old)?, chunks(new)?);
    if before.len() != after.len() {
        return None;
    }
    let (mut one, mut two) = (String::new(), String::new());
    for (before, after) in before.iter().zip(&after) {
        if before.text == after.text {
            // What a backend inherits is the same in both.
            if before.kind == "defaults" {
                one.push_str(before.text);
                two.push_str(after.text);
            }
            continue;
        }
        if !before.is_pool() || before.head() != after.head() {
            return None;
        }
        one.push_str(before.text);
        two.push_str(after.text);
    }
    Some((one, two))
}

/// The sections of a text. `None` when a line could start a section in a way that only a full reading
/// shows, or when a line may be there or not.
fn chunks(text: &str) -> Option<Vec<Chunk<'_>>> {
    let mut chunks = Vec::new();
    let (mut start, mut kind) = (0, "");
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let word = first_word(line);
        match word.as_bytes().first() {
            Some(b'.' | b'[') => return None,
            Some(first) if first.is_ascii_lowercase() && is_section_keyword(word) => {
                chunks.push(Chunk {
                    kind,
                    text: &text[start..at],
                });
                (start, kind) = (at, word);
            }
            // A keyword may be written with quotes or escapes.
            Some(b'#') | None => {}
            Some(_)
                if word
                    .bytes()
                    .any(|byte| matches!(byte, b'"' | b'\'' | b'\\' | b'#')) =>
            {
                return None;
            }
            Some(_) => {}
        }
        at += line.len();
    }
    chunks.push(Chunk {
        kind,
        text: &text[start..],
    });
    Some(chunks)
}

/// The first word by the separators of HAProxy's tokenizer; a carriage return ends the line.
fn first_word(line: &str) -> &str {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c);
    let bytes = line.as_bytes();
    let start = bytes.iter().take_while(|byte| blank(byte)).count();
    let length = bytes[start..]
        .iter()
        .take_while(|byte| !blank(byte) && !matches!(byte, b'\n' | b'\r'))
        .count();
    line.get(start..start + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{configuration, diff};
    use super::*;

    const OLD: &str = "global\n nbthread 2\ndefaults\n mode tcp\nfrontend web\n bind :80\n\
        backend api\n server a 10.0.0.1:80\nbackend other\n server a 10.0.0.1:80\n";

    fn set(text: &str) -> Vec<SetFile> {
        vec![part(Path::new("/h.cfg"), text.to_owned())]
    }

    fn narrowed(old: &str, new: &str) -> Option<(String, String)> {
        let (one, two) = narrow(&set(old), &set(new))?;
        Some((one[0].text.clone(), two[0].text.clone()))
    }

    #[test]
    fn only_the_backends_that_differ_and_what_they_inherit_are_left() {
        let new = OLD.replace("0.1:80\nbackend other", "0.2:80\nbackend other");
        let (one, two) = narrowed(OLD, &new).unwrap();
        assert_eq!(
            one,
            "defaults\n mode tcp\nbackend api\n server a 10.0.0.1:80\n"
        );
        assert_eq!(
            two,
            "defaults\n mode tcp\nbackend api\n server a 10.0.0.2:80\n"
        );
        assert_eq!(narrowed(OLD, OLD), Some((String::new(), String::new())));
    }

    #[test]
    fn what_is_not_certain_is_not_narrowed() {
        for new in [
            OLD.replace("nbthread 2", "nbthread 3"),
            OLD.replace("bind :80", "bind :81"),
            OLD.replace("backend other", "backend more"),
            format!("{OLD}backend more\n"),
            OLD.replace(
                " server a 10.0.0.1:80\nbackend",
                " .if defined(A)\n server a 10.0.0.1:80\n .endif\nbackend",
            ),
            OLD.replace("backend other", "\"backend\" other"),
            OLD.replace("backend other", "back\\end other"),
        ] {
            assert_eq!(narrowed(OLD, &new), None, "{new}");
        }
    }

    proptest! {
        /// What is narrowed says the same as the whole.
        #[test]
        fn the_narrowed_texts_differ_as_the_whole_ones_do(
            old in config(), new in config()
        ) {
            if let Some((one, two)) = narrow(&set(&old), &set(&new)) {
                let whole = diff(&configuration(&set(&old)), &configuration(&set(&new)));
                let part = diff(&configuration(&one), &configuration(&two));
                let lines = |text: &str| text.replace(char::is_numeric, "");
                prop_assert_eq!(lines(&format!("{:?}", part.items())), lines(&format!("{:?}", whole.items())));
                prop_assert_eq!(part.sections_changed, whole.sections_changed);
                prop_assert_eq!(part.servers.keys().collect::<Vec<_>>(), whole.servers.keys().collect::<Vec<_>>());
            }
        }
    }

    fn config() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("backend a\n"),
            Just("backend b\n"),
            Just("listen l\n"),
            Just("defaults\n"),
            Just(" server x 10.0.0.1:80\n"),
            Just(" server y 10.0.0.2:80 check\n"),
            Just(" default-server check\n"),
            Just(" balance leastconn\n"),
            Just("# backend a\n"),
            Just(" bind :80\n"),
            Just("\n"),
            Just(" server z 10.0.0.3:80 # backend b\n"),
        ];
        proptest::collection::vec(line, 0..14).prop_map(|lines| lines.concat())
    }
}
