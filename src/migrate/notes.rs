//! What a person should know of a converted template, though nothing is left to do. Pure.

use std::collections::BTreeSet;

use super::value::Value;

/// Notes, and names that the settings must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Whole sentences, each with its line.
    pub lines: Vec<(usize, String)>,
    /// Environment variables that are read.
    pub environment: BTreeSet<String>,
    /// Whether files are read.
    pub files: bool,
    told: BTreeSet<String>,
}

impl Notes {
    /// A value is written at a line, perhaps as its first word.
    pub fn written(&mut self, value: &Value, line: usize, begins: bool) {
        self.read(value);
        let shown = value.tag();
        let words = "Where it holds several";
        let sentence = if begins {
            format!(
                "{{{{{shown}}}}} begins a line, where a value is refused in a configuration. Write the keyword in the template, or {{{{raw …}}}}."
            )
        } else if may_be_words(value) {
            let raw = format!("{{{{raw {}}}}}", value.parameter());
            format!(
                "{{{{{shown}}}}} is one word here. {words}, write {raw} and set templates.allow_raw = true."
            )
        } else {
            return;
        };
        if self.told.insert(shown) {
            self.lines.push((line, sentence));
        }
    }

    /// A value is read.
    pub fn read(&mut self, value: &Value) {
        value.each(&mut |value| {
            let Value::Call { name, given, .. } = value else {
                return;
            };
            match name.as_str() {
                "env" | "mustEnv" | "envOrDefault" => {
                    let name = given.first().and_then(Value::known_text);
                    self.environment.insert(name.unwrap_or("…").to_owned());
                }
                "file" => self.files = true,
                _ => {}
            }
        });
    }
}

/// Whether a value is a text that people write into a key or a file, and that may hold blanks.
fn may_be_words(value: &Value) -> bool {
    match value {
        Value::Path(path) => path.text == "Value" || path.text.ends_with(".Value"),
        Value::Call { name, given, .. } => match name.as_str() {
            "key" | "file" => true,
            "keyOrDefault" => given
                .get(1)
                .and_then(Value::known_text)
                .is_some_and(|text| text.contains(' ')),
            "join" => given
                .iter()
                .any(|part| matches!(part, Value::Text(text) if text.contains([' ', '\n']))),
            "trimSpace" | "toLower" | "replaceAll" | "regexReplaceAll" | "trim" | "indent" => {
                given.iter().any(may_be_words)
            }
            _ => false,
        },
        _ => false,
    }
}
