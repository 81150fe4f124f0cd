//! Makes diagnostics of what the TOML reader refuses, and finds the place of a key.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Place, reworded};

/// The reader's error as a diagnostic: an unknown key gets the nearest known one.
pub fn diagnose(path: &Path, source: &str, error: &toml::de::Error) -> Diagnostic {
    let message = error.message();
    let mut place = match error.span() {
        Some(span) => Place::bytes(path, source, span),
        None => Place::file(path),
    };
    let inside = error
        .span()
        .is_some_and(|span| in_environment(source, span.start));
    let secret = match inside {
        true => Some(ENVIRONMENT.to_owned()),
        false => is_secret(&place.text),
    };
    if let Some(key) = &secret {
        hide(&mut place, key);
    }
    let code = [
        ("unknown field ", "unknown-key"),
        ("unknown variant ", "wrong-value"),
        ("missing field ", "missing-key"),
    ]
    .iter()
    .find(|(start, _)| message.starts_with(start));
    if let Some((_, code)) = code {
        let (sentence, help) = reworded(message, "setting");
        let diagnostic = Diagnostic::error(code, sentence).at(place);
        return match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        };
    }
    if let (true, Some(rest)) = (inside, message.strip_prefix("invalid type: ")) {
        // Before it stands the value.
        let (_, expected) = rest.rsplit_once(", expected ").unwrap_or(("", "another"));
        let sentence = format!("The value here is of another type: expected {expected}.");
        return Diagnostic::error("wrong-type", sentence)
            .at(place)
            .help("`gatewright help settings` shows each key and its form.");
    }
    // What we say of a variable names it, not its value.
    if secret.is_some() && !inside {
        return Diagnostic::error("wrong-value", "The value here cannot be used.")
            .at(place)
            .help("`gatewright help settings` shows each key and its form. It is not shown because it may be a secret.");
    }
    if message.starts_with("invalid type: ") {
        let (sentence, _) = reworded(message, "setting");
        return Diagnostic::error("wrong-type", sentence)
            .at(place)
            .help("`gatewright help settings` shows each key and its form.");
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

/// The key whose list holds values of variables.
const ENVIRONMENT: &str = "environment";

/// Shows of a line that may hold a secret only its key.
fn hide(place: &mut Place, key: &str) {
    place.text = format!("{key} = (not shown)");
    place.column = place.column.min(key.chars().count()).max(1);
    place.length = 1;
}

/// Hides what stands in the list of HAProxy's variables.
pub fn hide_environment(source: &str, at: usize, place: &mut Place) {
    if in_environment(source, at) {
        hide(place, ENVIRONMENT);
    }
}

/// Whether a byte stands in the list `haproxy.environment`, also in a text that is no TOML. That of
/// `templates` holds names only.
fn in_environment(source: &str, at: usize) -> bool {
    let before = source.get(..at).unwrap_or(source);
    let (mut inside, mut of_templates) = (false, false);
    let mut lines = before.split('\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if !inside && line.starts_with('[') {
            of_templates = line == "[templates]";
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        inside |= key == ENVIRONMENT && !of_templates;
        // The last line is the one that the byte stands in.
        if line.ends_with(']') && lines.peek().is_some() {
            inside = false;
        }
    }
    inside
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
