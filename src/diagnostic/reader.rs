//! What readers of TOML and JSON say of a value, in words of ours. Pure.

use super::nearest;

/// A sentence about a value of the wrong kind, and a remedy, from the reader's message. `what` is what the text
/// is: a setting, a field of a catalog file.
pub fn reworded(message: &str, what: &str) -> (String, Option<String>) {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (word, known) = words(rest);
        return (
            format!("There is no {what} `{word}` here."),
            help(word, &known),
        );
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (word, known) = words(rest);
        return (
            format!("`{word}` is not one of the values here."),
            help(word, &known),
        );
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let (word, _) = words(rest);
        return (
            format!("The {what} `{word}` is missing here."),
            Some(format!("Add `{word}`.")),
        );
    }
    let plain = message
        .replace("expected usize", "expected a whole number")
        .replace("expected u64", "expected a whole number")
        .replace("expected u32", "expected a whole number")
        .replace("expected u16", "expected a whole number")
        .replace("expected i64", "expected a whole number")
        .replace("expected f64", "expected a number")
        .replace("a map", "an object");
    match plain.strip_prefix("invalid type: ") {
        Some(rest) => (format!("The value has the wrong type: {rest}."), None),
        None => (plain, None),
    }
}

/// The word that is wrong, and those that are known.
fn words(text: &str) -> (&str, Vec<&str>) {
    let mut words = text.split('`').skip(1).step_by(2);
    (words.next().unwrap_or_default(), words.collect())
}

fn help(word: &str, known: &[&str]) -> Option<String> {
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("Did you mean `{near}`?")),
        None if known.is_empty() => None,
        None => Some(format!("Known here: `{}`.", known.join("`, `"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_speak_of_types_and_people_of_values() {
        for (message, sentence, help) in [
            (
                "unknown field `Adress`, expected one of `Address`, `Port`",
                "There is no field `Adress` here.",
                Some("Did you mean `Address`?"),
            ),
            (
                "unknown field `x`, expected `Address` or `Port`",
                "There is no field `x` here.",
                Some("Known here: `Address`, `Port`."),
            ),
            (
                "unknown field `x`, there are no fields",
                "There is no field `x` here.",
                None,
            ),
            (
                "unknown variant `pasing`, expected one of `passing`, `warning`",
                "`pasing` is not one of the values here.",
                Some("Did you mean `passing`?"),
            ),
            (
                "missing field `Port`",
                "The field `Port` is missing here.",
                Some("Add `Port`."),
            ),
            (
                "invalid type: string \"80\", expected i64",
                "The value has the wrong type: string \"80\", expected a whole number.",
                None,
            ),
            (
                "EOF while parsing a value",
                "EOF while parsing a value",
                None,
            ),
        ] {
            let (told, remedy) = reworded(message, "field");
            assert_eq!((told.as_str(), remedy.as_deref()), (sentence, help));
        }
    }
}
