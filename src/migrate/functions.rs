//! consul-template's functions and Go's own, as helpers. What has a helper of the same name becomes a
//! call of it; the others are told apart here. Pure.

use std::path::Path;

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

fn printf(mut given: Vec<Value>) -> Made {
    let Some(format) = given.first().and_then(Value::known_text).map(str::to_owned) else {
        return helper("printf", given, Vec::new());
    };
    let Some(parts) = verbs(&format) else {
        return helper("printf", given, Vec::new());
    };
    let mut values = given.drain(1..);
    let mut joined = Vec::new();
    for part in parts {
        match part {
            Some(text) => joined.push(Value::Text(text)),
            None => match values.next() {
                Some(Value::Joined(inner)) => joined.extend(inner),
                Some(value) => joined.push(value),
                None => return Err(miscounted()),
            },
        }
    }
    if values.next().is_some() {
        return Err(miscounted());
    }
    Ok(Value::Joined(joined))
}

fn miscounted() -> Trouble {
    Trouble::new(
        "`printf` has another number of values than its format has verbs.",
        "Give each verb its value.",
    )
}

/// The texts of a format, and nothing for each verb that writes a value as it is; none if there is another
/// verb.
fn verbs(format: &str) -> Option<Vec<Option<String>>> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next()? {
            '%' => text.push('%'),
            's' | 'd' | 'v' => {
                if !text.is_empty() {
                    parts.push(Some(std::mem::take(&mut text)));
                }
                parts.push(None);
            }
            _ => return None,
        }
    }
    if !text.is_empty() {
        parts.push(Some(text));
    }
    Some(parts)
}

/// Go's `print` puts a blank between two values when neither is a text. Where it surely puts none, the
/// values stand one after the other.
fn print(given: Vec<Value>) -> Made {
    let is_text = |value: &Value| matches!(value, Value::Text(_));
    match given.len() > 1 && given.windows(2).all(|pair| pair.iter().any(is_text)) {
        true => Ok(Value::Joined(given)),
        false => helper("print", given, Vec::new()),
    }
}

/// `index LIST 0`, `index MAP "name"`, and several in turn. In a map of texts, what is missing is an empty
/// text.
fn index(mut given: Vec<Value>) -> Made {
    let map = match given.first() {
        Some(Value::Path(path)) if path.is_map() && given.len() == 2 => Some(path.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_taken_apart() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            verbs("a%s:%d%%"),
            Some(vec![text("a"), None, text(":"), None, text("%")])
        );
        assert_eq!(verbs("%05d"), None);
        assert_eq!(verbs("%"), None);
    }
}
