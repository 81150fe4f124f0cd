//! YAML: read into the values that templates have, within bounds, and written from them.
//!
//! Plain words mean what they mean to consul-template's parser (go-yaml 2): `yes`, `on` and `y` are
//! truth values, `010` is octal, `1_000` a number. What JSON has no word for, such as `.inf` or a
//! date, stays a text.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use super::MAX_ITEMS;

/// How deep lists and mappings may stand inside each other.
const MAX_DEPTH: usize = 64;
/// The most bytes that all texts have together, those that aliases repeat counted each time.
const MAX_BYTES: usize = 16 << 20;

/// Reads the first document of a text.
pub fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            // What it says after the place may quote the text, which may be a secret.
            let at = error.marker();
            format!(
                "The text is no YAML: line {}, column {}.",
                at.line(),
                at.col() + 1
            )
        })?;
        let done = matches!(event, Event::DocumentEnd | Event::StreamEnd);
        reader.event(event).map_err(|sentence| {
            format!(
                "The YAML cannot be read at line {}: {sentence}.",
                span.start.line()
            )
        })?;
        if done {
            break;
        }
    }
    Ok(reader.root.unwrap_or_default())
}

/// Builds values from the parser's events, without recursion.
#[derive(Default)]
struct Reader {
    root: Option<Value>,
    /// The lists and mappings that are open.
    open: Vec<Open>,
    anchors: BTreeMap<usize, Value>,
    items: usize,
    bytes: usize,
}

struct Open {
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Value>),
    /// The key that waits for its value, and what `<<` adds.
    Mapping(Map<String, Value>, Option<Key>, Vec<Value>),
}

enum Key {
    Name(String),
    /// `<<`, as a plain word.
    Merge,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if text == "<<" && style == ScalarStyle::Plain && self.begins_merge() {
                    return Ok(());
                }
                let value = scalar(&text, style, tag.as_deref());
                self.done(value, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, Items::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(anchor, Items::Mapping(Map::new(), None, Vec::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, items }) = self.open.pop() else {
                    return Ok(());
                };
                let value = match items {
                    Items::List(list) => Value::Array(list),
                    Items::Mapping(mut fields, _, merged) => {
                        for (name, value) in merged.iter().filter_map(Value::as_object).flatten() {
                            fields.entry(name.clone()).or_insert_with(|| value.clone());
                        }
                        Value::Object(fields)
                    }
                };
                self.done(value, anchor)
            }
            Event::Alias(anchor) => {
                let value = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or("an alias stands inside of what it names")?;
                // Each use counts whole, so that aliases of aliases end in time.
                self.count(&value)?;
                self.done(value, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, items: Items) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("it is more than {MAX_DEPTH} levels deep"));
        }
        self.open.push(Open { anchor, items });
        Ok(())
    }

    /// Takes `<<` for what it is where a key is expected.
    fn begins_merge(&mut self) -> bool {
        match self.open.last_mut().map(|open| &mut open.items) {
            Some(Items::Mapping(_, key, _)) if key.is_none() => {
                *key = Some(Key::Merge);
                true
            }
            _ => false,
        }
    }

    /// A whole value goes to where it belongs.
    fn done(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        self.add(1, value.as_str().map_or(0, str::len))?;
        if anchor > 0 {
            self.count(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(value),
            Some(Items::List(list)) => list.push(value),
            Some(Items::Mapping(fields, key, merged)) => match key.take() {
                None => {
                    let name = super::as_text(&value).or_else(|| value.is_null().then(String::new));
                    *key = Some(Key::Name(name.ok_or("a list or mapping is no key")?));
                }
                Some(Key::Merge) => match value {
                    Value::Array(list) => merged.extend(list),
                    other => merged.push(other),
                },
                Some(Key::Name(name)) => {
                    fields.insert(name, value);
                }
            },
        }
        Ok(())
    }

    /// Counts a copy of a value.
    fn count(&mut self, value: &Value) -> Result<(), String> {
        let mut waiting = vec![value];
        while let Some(value) = waiting.pop() {
            self.add(1, value.as_str().map_or(0, str::len))?;
            match value {
                Value::Array(list) => waiting.extend(list),
                Value::Object(fields) => waiting.extend(fields.values()),
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, items: usize, bytes: usize) -> Result<(), String> {
        self.items += items;
        self.bytes += bytes;
        if self.items > MAX_ITEMS || self.bytes > MAX_BYTES {
            return Err(format!(
                "with its aliases it has more than {MAX_ITEMS} values or 16 MiB of texts"
            ));
        }
        Ok(())
    }
}

/// What a word stands for.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.suffix == "str" || tag.handle == "!");
    if style != ScalarStyle::Plain || is_text {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return true.into();
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return false.into();
        }
        _ => {}
    }
    whole(text)
        .or_else(|| real(text))
        .unwrap_or_else(|| text.into())
}

/// A whole number: `-5`, `0x1f`, `0b11`, `010`, `1_000`.
fn whole(text: &str) -> Option<Value> {
    let text = text.replace('_', "");
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (digits, radix) = if let Some(digits) = digits.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = digits.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = digits.strip_prefix("0o") {
        (digits, 8)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (&digits[1..], 8)
    } else {
        (digits, 10)
    };
    // A sign may not follow the prefix.
    let size = digits
        .starts_with(|letter: char| letter.is_ascii_alphanumeric())
        .then(|| u64::from_str_radix(digits, radix).ok())??;
    if minus {
        i64::try_from(-i128::from(size)).ok().map(Value::from)
    } else {
        Some(size.into())
    }
}

/// A number with a fraction or an exponent.
fn real(text: &str) -> Option<Value> {
    let plain = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
    let number: f64 = text.chars().all(plain).then(|| text.parse().ok())??;
    Number::from_f64(number).map(Value::Number)
}

/// Writes a value.
pub fn write(value: &Value) -> String {
    let mut text = String::new();
    write_at(value, 0, &mut text);
    text.trim_start_matches(['\n', ' ']).to_owned()
}

/// Writes a value after a colon or a hyphen, or at the top.
fn write_at(value: &Value, depth: usize, out: &mut String) {
    let line = |out: &mut String| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                line(out);
                out.push_str(&word(name));
                out.push(':');
                // The items of a list stand as far to the right as the key of the list.
                let inner = if value.is_array() { depth } else { depth + 1 };
                write_at(value, inner, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                line(out);
                out.push('-');
                let mut inner = String::new();
                write_at(item, depth + 1, &mut inner);
                // The first line of what is inside follows its hyphen.
                out.push(' ');
                out.push_str(inner.trim_start_matches(['\n', ' ']));
            }
        }
        Value::Object(_) => out.push_str(" {}"),
        Value::Array(_) => out.push_str(" []"),
        Value::String(text) => {
            out.push(' ');
            out.push_str(&word(text));
        }
        other => {
            out.push(' ');
            out.push_str(&super::as_text(other).unwrap_or_else(|| "null".to_owned()));
        }
    }
}

/// A text as a word: as it is where that means the same, else quoted as in JSON.
fn word(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_./-".contains(letter);
    let simple = text.starts_with(|letter: char| letter.is_alphabetic() || letter == '/')
        && text.chars().all(|letter| plain(letter) || letter == ' ')
        && !text.ends_with(' ');
    if simple && scalar(text, ScalarStyle::Plain, None).is_string() {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As consul-template 0.42 read it.
    #[test]
    fn words_mean_what_they_mean_to_consul_template() {
        assert_eq!(
            read(
                "a: yes\nb: [1, 0x10, 010, 1_000, 1.5, .5, 1e3, ~, null, \"\", on, y, 2001-01-01, .inf2]\n\
                 c: &x {p: 1, q: 2}\nd: {<<: *x, q: 3}\n1: z\ntrue: w\ne: !!str 5\nf: |\n  t\n  u\n"
            ),
            Ok(json!({
                "a": true,
                "b": [1, 16, 8, 1000, 1.5, 0.5, 1000.0, null, null, "", true, true, "2001-01-01", ".inf2"],
                "c": { "p": 1, "q": 2 },
                "d": { "p": 1, "q": 3 },
                "1": "z",
                "true": "w",
                "e": "5",
                "f": "t\nu\n",
            }))
        );
        assert_eq!(read("- a\n---\n- b\n"), Ok(json!(["a"])));
        assert_eq!(read("# nothing\n"), Ok(Value::Null));
        assert_eq!(read("-0x8000000000000000"), Ok(json!(i64::MIN)));
    }

    #[test]
    fn aliases_and_nesting_have_bounds() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let wrong = read(&bomb).unwrap_err();
        assert!(wrong.contains("more than 100000 values"), "{wrong}");
        let deep = "[".repeat(200) + &"]".repeat(200);
        let wrong = read(&deep).unwrap_err();
        assert!(wrong.contains("more than 64 levels deep"), "{wrong}");
        let wrong = read("a: &a [*a]").unwrap_err();
        assert!(wrong.contains("inside of what it names"), "{wrong}");
        assert!(!read("secret: {").unwrap_err().contains("secret"));
    }

    #[test]
    fn values_are_written_as_blocks() {
        assert_eq!(
            write(&json!({
                "b": [1, 2.5, { "x": 1, "y": [1, []] }, [2, 3]],
                "c": {}, "d": [], "e": null, "f": "yes", "g": "a b", "h": "1", "i": "x: y",
                "j": "a\nb", "k": true, "l": "", "m": { "n": 1 },
            })),
            "b:\n- 1\n- 2.5\n- x: 1\n  \"y\":\n  - 1\n  - []\n- - 2\n  - 3\nc: {}\nd: []\ne: null\nf: \"yes\"\ng: a b\n\
             h: \"1\"\ni: \"x: y\"\nj: \"a\\nb\"\nk: true\nl: \"\"\nm:\n  \"n\": 1"
        );
        assert_eq!(write(&json!("a")), "a");
        assert_eq!(write(&json!([])), "[]");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z0-9:#\\-\\[\\]{}&*!|>'\"%@` ~.\\n\\t\\\\é]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z0-9:<\\- ~]{0,4}", inner, 0..5)
                    .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(value in value()) {
            prop_assert_eq!(read(&write(&value)), Ok(value));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a:\\-\\[\\]{}&*!|>'\"%@`#,?~<. \\n\\t]{0,60}") {
            let _ = read(&text);
        }
    }
}
