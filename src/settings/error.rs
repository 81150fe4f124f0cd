//! Makes diagnostics of what the TOML reader refuses, and finds the place of a key.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Place, nearest};

/// The reader's error as a diagnostic: an unknown key gets the nearest known one.
pub fn diagnose(path: &Path, source: &str, error: &toml::de::Error) -> Diagnostic {
    let message = error.message();
    let mut place = match error.span() {
        Some(span) => Place::bytes(path, source, span),
        None => Place::file(path),
    };
    let secret = is_secret(&place.text);
    if let Some(key) = &secret {
        place.text = format!("{key} = (not shown)");
        place.column = place.column.min(key.chars().count()).max(1);
        place.length = 1;
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown_key(rest).at(place);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut words = backquoted(rest);
        let word = words.next().unwrap_or_default();
        let known: Vec<&str> = words.collect();
        let diagnostic = Diagnostic::error(
            "wrong-value",
            format!("`{word}` is not one of the values here."),
        );
        return with_nearest(diagnostic, word, &known).at(place);
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let field = backquoted(rest).next().unwrap_or_default();
        return Diagnostic::error("missing-key", format!("The key `{field}` is missing here."))
            .at(place)
            .help(format!("Add `{field} = …`."));
    }
    if secret.is_some() {
        return Diagnostic::error("wrong-value", "The value here cannot be used.")
            .at(place)
            .help("See examples/settings/gatewright.toml for each key and its form. It is not shown because it may be a secret.");
    }
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        return Diagnostic::error(
            "wrong-type",
            format!("The value has the wrong type: {rest}."),
        )
        .at(place)
        .help("See examples/settings/gatewright.toml for each key and its form.");
    }
    let code = if error.span().is_some() && DeTable::parse(source).is_ok() {
        "wrong-value"
    } else {
        "syntax"
    };
    let mut sentence = message.trim().replace('\n', "; ");
    if code == "syntax" {
        sentence = format!("This is not TOML: {sentence}");
    }
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    Diagnostic::error(code, sentence).at(place)
}

/// The key of a line whose value may be a secret, also when the key is misspelt.
fn is_secret(line: &str) -> Option<String> {
    let key = line.split_once('=')?.0.trim();
    let near = |secret: &str| strsim::damerau_levenshtein(&key.to_lowercase(), secret) <= 2;
    let within = |word: &str| key.to_lowercase().contains(word);
    let secret = near("token")
        || near("http_auth")
        || ["token", "auth", "secret", "password"]
            .into_iter()
            .any(within);
    (secret && !near("token_file")).then(|| key.to_owned())
}

fn unknown_key(rest: &str) -> Diagnostic {
    let mut words = backquoted(rest);
    let word = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
    with_nearest(
        Diagnostic::error("unknown-key", format!("There is no setting `{word}` here.")),
        word,
        &known,
    )
}

fn with_nearest(diagnostic: Diagnostic, word: &str, known: &[&str]) -> Diagnostic {
    let list = known.join("`, `");
    match nearest(word, known.iter().copied()) {
        Some(near) => diagnostic.help(format!("Did you mean `{near}`?")),
        None if known.is_empty() => diagnostic,
        None => diagnostic.help(format!("Known here: `{list}`.")),
    }
}

/// The words between backquotes.
fn backquoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Where the value of a key stands in a source that was read before. A step that is a number
/// counts in an array of tables.
pub fn locate(source: &str, keys: &[&str]) -> Option<Range<usize>> {
    let table = DeTable::parse(source).ok()?;
    let mut span = table.span();
    let mut value = DeValue::Table(table.into_inner());
    for key in keys {
        let next = match value {
            DeValue::Table(table) => table
                .into_iter()
                .find(|(name, _)| name.as_ref() == *key)
                .map(|(_, value)| value),
            DeValue::Array(array) => array.into_iter().nth(key.parse().ok()?),
            _ => None,
        }?;
        span = next.span();
        value = next.into_inner();
    }
    Some(span)
}
