//! consul-template's functions and Go's own, as helpers. What has a helper of the same name becomes a
//! call of it; the others are told apart here. Pure.

use std::path::Path;

use super::format::{self, Part};
use super::known::Known;
use super::short;
use super::value::Value;
use crate::template::helpers;

/// Why something is not converted, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// A whole sentence.
    pub why: String,
    /// A whole sentence.
    pub instead: String,
}

impl Trouble {
    /// With both sentences.
    pub fn new(why: impl Into<String>, instead: impl Into<String>) -> Trouble {
        Trouble {
            why: why.into(),
            instead: instead.into(),
        }
    }
}

/// A converted call.
pub type Made = Result<Value, Trouble>;

/// A function with its parameters; what is piped into it is the last of them.
pub fn call(name: &str, mut given: Vec<Value>) -> Made {
    match name {
        "printf" => return printf(given),
        "print" => return print(given),
        "service" | "connect" | "services" | "nodes" | "node" | "key" | "keyExists"
        | "keyOrDefault" | "ls" | "tree" | "safeLs" | "safeTree" => {
            let (given, pairs) = short::query(name, given)?;
            return asked(helper(name, given, pairs)?);
        }
        _ => {}
    }
    match name {
        // One alone is itself.
        "and" | "or" if given.len() == 1 => Ok(given.remove(0)),
        "index" => index(given),
        "eq" | "ne" => compared(name, given),
        _ => helper(name, given, Vec::new()),
    }
}

/// A call of a helper, if there is one and it takes as many parameters.
fn helper(name: &str, given: Vec<Value>, pairs: Vec<(&'static str, Value)>) -> Made {
    let Some(entry) = helpers::find(name).filter(|entry| !entry.is_block()) else {
        let told = helpers::absent_function(name);
        return Err(match told {
            Some(told) => Trouble::new(format!("There is no helper `{name}`."), told),
            None => Trouble::new(
                format!("`{name}` is no function of consul-template."),
                "Write what it gives, or use a helper; `gatewright helpers` lists them all.",
            ),
        });
    };
    let (least, most) = entry.parameters;
    if given.len() < least || given.len() > most {
        return Err(Trouble::new(
            format!("`{name}` does not take {} here.", parameters(given.len())),
            format!("It is written as {}.", entry.example),
        ));
    }
    if let Some((pair, _)) = pairs.iter().find(|(pair, _)| !entry.pairs.contains(pair)) {
        return Err(Trouble::new(
            format!("`{name}` does not take `{pair}=`."),
            format!("It is written as {}.", entry.example),
        ));
    }
    Ok(Value::Call {
        name: name.to_owned(),
        given,
        pairs,
    })
}

/// A call that reads the catalog, unless the loader refuses what it asks.
fn asked(call: Value) -> Made {
    let text = format!("{{{{#with {}}}}}{{{{/with}}}}", call.parameter());
    match super::proof(Path::new("converted"), &text)
        .into_iter()
        .next()
    {
        None => Ok(call),
        Some(wrong) => {
            let help = wrong.help.unwrap_or_else(|| "Mend the name.".to_owned());
            Err(Trouble::new(wrong.message, help))
        }
    }
}

fn parameters(count: usize) -> String {
    match count {
        1 => "1 parameter".to_owned(),
        count => format!("{count} parameters"),
    }
}

fn printf(given: Vec<Value>) -> Made {
    let Some(format) = given.first().and_then(Value::known_text) else {
        return helper("printf", given, Vec::new());
    };
    let values = &given[1..];
    if let Some(list) = values.iter().find(|value| value.is_list()) {
        return Err(brackets(list));
    }
    let parts = format::read(format, values.len())?;
    let plain = |part: &Part| !matches!(part, Part::Verb(..));
    if parts.iter().all(plain) {
        let mut joined = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => joined.push(Value::Text(text)),
                Part::Plain(place) | Part::Verb(_, place) => match &values[place] {
                    Value::Joined(inner) => joined.extend(inner.iter().cloned()),
                    value => joined.push(value.clone()),
                },
            }
        }
        return Ok(Value::Joined(joined));
    }
    let mut text = String::new();
    let mut ordered = Vec::new();
    for part in parts {
        let (code, place) = match part {
            Part::Text(part) => {
                text.push_str(&part.replace('%', "%%"));
                continue;
            }
            Part::Plain(place) => ("v".to_owned(), place),
            Part::Verb(code, place) => (code, place),
        };
        text.push('%');
        text.push_str(&code);
        ordered.push(values[place].clone());
    }
    ordered.insert(0, Value::Text(text));
    helper("printf", ordered, Vec::new())
}

/// Why a list or map that is written stays as it was.
pub fn brackets(list: &Value) -> Trouble {
    let shown = list.parameter();
    let texts = match list {
        Value::Path(path) => !path.is_map(),
        Value::Call { name, .. } => name == "split" || name == "loop" || name == "datacenters",
        _ => false,
    };
    Trouble::new(
        "A list is written here; consul-template writes it in brackets.",
        match texts {
            true => format!("Write {{{{join {shown} \" \"}}}}."),
            false => format!("Go through it with {{{{#each {shown}}}}}."),
        },
    )
}

/// Go's `print` puts a blank between two values when neither is a text. Where it surely puts none, the
/// values stand one after the other.
fn print(given: Vec<Value>) -> Made {
    if let Some(list) = given.iter().find(|value| value.is_list()) {
        return Err(brackets(list));
    }
    let is_text = |value: &Value| matches!(value, Value::Text(_));
    match given.len() > 1 && given.windows(2).all(|pair| pair.iter().any(is_text)) {
        true => Ok(Value::Joined(given)),
        false => helper("print", given, Vec::new()),
    }
}

/// `index LIST 0`, `index MAP "name"`, and several in turn. In a map of texts, what is missing is an empty
/// text.
fn index(mut given: Vec<Value>) -> Made {
    let is_number = matches!(given.get(1), Some(Value::Number(_)));
    let map = match given.first() {
        Some(Value::Path(path)) if path.is_map() && given.len() == 2 => Some(path.clone()),
        // The names of other maps are asked for by `lookup`, which does not refuse what is missing.
        Some(value) if !is_number && given.len() == 2 && is_free(value) => {
            let named = match (value, given[1].known_text()) {
                (Value::Path(path), Some(name)) => path.field(name, |_| true).map(Value::Path),
                _ => None,
            };
            return Ok(named.unwrap_or_else(|| Value::call("lookup", given)));
        }
        _ => None,
    };
    let Some(map) = map else {
        return helper("index", given, Vec::new());
    };
    let named = given[1]
        .known_text()
        .and_then(|name| map.field(name, |_| true));
    Ok(match named {
        Some(path) => Value::Path(path),
        None => {
            let name = given.remove(1);
            let found = Value::call("index", vec![given.remove(0), name]);
            Value::call("default", vec![found, Value::Text(String::new())])
        }
    })
}

fn is_free(value: &Value) -> bool {
    matches!(value.known(), Some(Known::Free(_)))
}

/// `eq` and `ne`. Go takes a field that is missing for unequal to every text, also to the empty one.
fn compared(name: &str, given: Vec<Value>) -> Made {
    let empty = given.iter().any(|one| one.known_text() == Some(""));
    match given.iter().find(|one| one.is_lacking()) {
        Some(field) if empty => Err(Trouble::new(
            format!(
                "Go takes a missing {} for unequal to an empty text.",
                field.truth()
            ),
            format!(
                "Write {{{{#if {}}}}}, which is false for both.",
                field.truth()
            ),
        )),
        _ => helper(name, given, Vec::new()),
    }
}
