//! Values as Handlebars writes them, in the place of Go's pipelines. Pure.

use super::known::Known;
use super::literal::quote;

/// A value of the result.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `Address`, `s.ServiceMeta.zone`, `this`.
    Path(Path),
    Text(String),
    Number(String),
    Bool(bool),
    Null,
    /// A helper with its parameters and `name=value` pairs.
    Call {
        name: String,
        given: Vec<Value>,
        pairs: Vec<(&'static str, Value)>,
    },
    /// What `printf` makes of plain verbs: texts and values one after the other.
    Joined(Vec<Value>),
}

/// A path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Path {
    pub text: String,
    /// Whether it may be missing where Go has an empty text.
    pub optional: bool,
    /// Whether it may be missing where Go has nothing, which it writes as `<no value>`: a condition takes
    /// that for false, and a tag that writes it is an error here.
    pub lacking: bool,
    pub known: Option<Known>,
}

/// Fields whose value is an object with names that are not the same for all.
const MAPS: &[&str] = &[
    "ServiceMeta",
    "NodeMeta",
    "Meta",
    "ServiceTaggedAddresses",
    "NodeTaggedAddresses",
    "TaggedAddresses",
];

impl Path {
    /// The path of a name.
    pub fn new(text: impl Into<String>) -> Path {
        Path {
            text: text.into(),
            ..Path::default()
        }
    }

    /// Whether it ends in an object in which a name may be missing.
    pub fn is_map(&self) -> bool {
        MAPS.contains(&self.last())
    }

    /// Its last step.
    pub fn last(&self) -> &str {
        self.text.rsplit('.').next().unwrap_or_default()
    }

    /// The path of a field of what is there. `taken` tells names that mean something else when they stand
    /// alone. Nothing when Handlebars cannot write it.
    pub fn field(&self, name: &str, taken: impl Fn(&str) -> bool) -> Option<Path> {
        let plain = |letter: char| {
            letter.is_ascii_alphanumeric() || "_-".contains(letter) || !letter.is_ascii()
        };
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        let segment = if name.chars().all(plain) && !digits {
            name.to_owned()
        } else if !name.is_empty() && !name.contains([']', '\n']) {
            format!("[{name}]")
        } else {
            return None;
        };
        let known = match &self.known {
            Some(free @ Known::Free(_)) => Some(free.item()),
            _ => None,
        };
        let alone = self.text == "this" && !segment.starts_with('[') && !taken(&segment);
        Some(Path {
            text: match alone {
                true => segment,
                false => format!("{}.{segment}", self.text),
            },
            optional: self.optional || self.is_map(),
            lacking: self.lacking || known.is_some(),
            known: known.flatten(),
        })
    }
}

impl Value {
    /// A call without pairs.
    pub fn call(name: &str, given: Vec<Value>) -> Value {
        Value::Call {
            name: name.to_owned(),
            given,
            pairs: Vec::new(),
        }
    }

    /// A name that a block binds, or `this`.
    pub fn path(text: &str) -> Value {
        Value::Path(Path::new(text))
    }

    /// The text that it is, whenever it is rendered.
    pub fn known_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Path(path) => match &path.known {
                Some(Known::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// As the parameter of a helper or block.
    pub fn parameter(&self) -> String {
        match self {
            Value::Path(path) if !path.optional && !path.lacking => path.text.clone(),
            Value::Path(path) => format!("(default {} \"\")", path.text),
            Value::Text(text) => quote(text),
            Value::Number(number) => number.clone(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null => "null".to_owned(),
            // `lookup` refuses what is missing, and `index` does not.
            Value::Call { name, given, .. } if name == "lookup" && self.is_lacking() => {
                let found = Value::call("index", given.clone());
                format!("(default {} \"\")", found.parameter())
            }
            Value::Call { .. } | Value::Joined(_) => format!("({})", self.inner()),
        }
    }

    /// Where only its truth counts, and what is missing is false.
    pub fn truth(&self) -> String {
        match self {
            Value::Path(path) => path.text.clone(),
            other => other.parameter(),
        }
    }

    /// What stands between the braces of a tag that writes it.
    pub fn tag(&self) -> String {
        match self {
            Value::Path(path) if path.optional => format!("default {} \"\"", path.text),
            Value::Path(path) => path.text.clone(),
            Value::Call { .. } | Value::Joined(_) => self.inner(),
            other => other.parameter(),
        }
    }

    /// A call without its parentheses.
    fn inner(&self) -> String {
        let (name, given, pairs) = match self {
            Value::Call { name, given, pairs } => (name, given, pairs),
            Value::Joined(parts) => return joined(parts).inner(),
            other => return other.parameter(),
        };
        let lenient = matches!(name.as_str(), "and" | "or" | "not" | "default");
        let mut text = name.clone();
        for value in given {
            text.push(' ');
            text.push_str(&match lenient {
                true => value.truth(),
                false => value.parameter(),
            });
        }
        for (name, value) in pairs {
            text.push_str(&format!(" {name}={}", value.parameter()));
        }
        text
    }

    /// Calls `see` with every value in it.
    pub fn each(&self, see: &mut impl FnMut(&Value)) {
        see(self);
        match self {
            Value::Call { given, pairs, .. } => {
                let pairs = pairs.iter().map(|(_, value)| value);
                given.iter().chain(pairs).for_each(|value| value.each(see));
            }
            Value::Joined(parts) => parts.iter().for_each(|part| part.each(see)),
            _ => {}
        }
    }
}

/// Texts and values as a call of `printf`.
fn joined(parts: &[Value]) -> Value {
    let mut format = String::new();
    let mut given = Vec::new();
    for part in parts {
        match part {
            Value::Text(text) => format.push_str(&text.replace('%', "%%")),
            other => {
                format.push_str("%v");
                given.push(other.clone());
            }
        }
    }
    given.insert(0, Value::Text(format));
    Value::call("printf", given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_so_that_they_mean_themselves() {
        let taken = |name: &str| name == "key";
        for (base, name, text) in [
            ("this", "Address", Some("Address")),
            ("this", "key", Some("this.key")),
            ("s", "key", Some("s.key")),
            ("ServiceMeta", "a-b", Some("ServiceMeta.a-b")),
            ("ServiceMeta", "a.b c", Some("ServiceMeta.[a.b c]")),
            ("ServiceMeta", "1", Some("ServiceMeta.[1]")),
            ("ServiceMeta", "a]", None),
        ] {
            let path = Path::new(base).field(name, taken);
            assert_eq!(path.map(|path| path.text).as_deref(), text, "{base} {name}");
        }
    }

    #[test]
    fn what_may_be_missing_is_written_as_an_empty_text_where_more_than_its_truth_counts() {
        let zone = Path::new("ServiceMeta").field("zone", |_| false).unwrap();
        let zone = Value::Path(zone);
        assert_eq!(zone.tag(), "default ServiceMeta.zone \"\"");
        assert_eq!(zone.truth(), "ServiceMeta.zone");
        let eq = Value::call("eq", vec![zone.clone(), Value::Text("a".to_owned())]);
        assert_eq!(eq.tag(), "eq (default ServiceMeta.zone \"\") \"a\"");
        let or = Value::call("or", vec![zone, Value::Bool(false)]);
        assert_eq!(or.parameter(), "(or ServiceMeta.zone false)");
    }
}
