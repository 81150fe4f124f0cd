//! Templates and values as any bytes: see `crate::fuzzing`.

use std::collections::BTreeMap;

use super::escape::{Escaper, Origin};
use super::scan::scan;
use super::{Grammar, Options, Source, TemplateSet};
use crate::haproxy::config::lex;

/// What a template may say around a value.
const AROUND: [&str; 16] = [
    "server s ",
    " ",
    "\n    set x ",
    "\"",
    "'",
    "# c",
    "word",
    "\n",
    "acl a src ",
    " { src ",
    " }",
    "%[str(",
    ")]",
    "\\ ",
    "log ",
    "\n    http-request set-header X-A ",
];

/// Values between pieces of a template: each arrives whole, as a part of the word that a harmless one would
/// be in, and no other word comes or goes, but for words that are empty.
pub fn escape(data: &[u8]) {
    let (mut literals, mut values) = (Vec::new(), Vec::new());
    for piece in data.split(|byte| *byte == 0xff).take(12) {
        let (first, value) = piece.split_first().unwrap_or((&0, &[]));
        literals.push(AROUND[usize::from(*first) % AROUND.len()]);
        values.push(String::from_utf8_lossy(value).into_owned());
    }
    let harmless: Vec<String> = (0..values.len())
        .map(|number| format!("v{number:02}v"))
        .collect();
    let (Some(hostile), Some(plain)) = (write(&literals, &values), write(&literals, &harmless))
    else {
        return;
    };
    let (hostile, plain): (Vec<&str>, Vec<&str>) =
        (hostile.split('\n').collect(), plain.split('\n').collect());
    assert_eq!(hostile.len(), plain.len(), "lines");
    for (hostile, plain) in hostile.into_iter().zip(plain) {
        // A template that HAProxy does not take is broken without any value.
        let Ok(expected) = lex(plain.as_bytes()) else {
            continue;
        };
        let found = lex(hostile.as_bytes()).unwrap_or_else(|error| panic!("{error}: {hostile}"));
        let wanted: Vec<(String, bool)> = expected
            .iter()
            .map(|word| (with_values(&word.text, &harmless, &values), word.opaque))
            .filter(|(text, opaque)| *opaque || !text.is_empty())
            .collect();
        let mut found: Vec<(String, bool)> = found
            .into_iter()
            .map(|word| (word.text, word.opaque))
            .collect();
        // To HAProxy an empty word ends the line.
        let read = found
            .iter()
            .position(|(text, opaque)| !opaque && text.is_empty());
        found.truncate(read.unwrap_or(found.len()));
        assert_eq!(found, wanted, "{hostile}");
    }
}

/// A word with the values in the places of the harmless ones. A value may look like a harmless one itself.
fn with_values(word: &str, harmless: &[String], values: &[String]) -> String {
    let (mut out, mut rest) = (String::new(), word);
    let next = |rest: &str| {
        let pairs = harmless.iter().zip(values);
        let found = pairs.filter_map(|(name, value)| Some((rest.find(name)?, name, value)));
        found.min_by_key(|(at, ..)| *at)
    };
    while let Some((at, name, value)) = next(rest) {
        out.push_str(&rest[..at]);
        out.push_str(value);
        rest = &rest[at + name.len()..];
    }
    out.push_str(rest);
    out
}

fn write(literals: &[&str], values: &[String]) -> Option<String> {
    let mut escaper = Escaper::new(Grammar::Haproxy);
    let mut out = String::new();
    for (literal, value) in literals.iter().zip(values) {
        escaper.literal(literal, &mut out).ok()?;
        escaper.value(value, Origin::Catalog, &mut out).ok()?;
    }
    escaper.missing().is_none().then_some(())?;
    Some(out)
}

/// A template: its tags lie within it, and it is compiled and rendered without any answer, or refused.
pub fn compile(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let (tags, _) = scan(&text, 32);
    let mut end = 0;
    for tag in &tags {
        assert!(end <= tag.range.start && tag.range.end <= text.len());
        assert!(text.get(tag.range.clone()).is_some());
        end = tag.range.end;
    }
    let source = Source {
        name: "haproxy.cfg".to_owned(),
        path: "haproxy.cfg.hbs".into(),
        text,
        grammar: Grammar::Haproxy,
    };
    let options = Options {
        max_output: 64 << 10,
        ..Options::default()
    };
    match TemplateSet::load(vec![source], Vec::new(), options) {
        Ok((mut set, _)) => {
            let first = set.render(&BTreeMap::new());
            assert_eq!(first, set.render(&BTreeMap::new()));
        }
        Err(errors) => assert!(errors.iter().all(|error| !error.to_string().is_empty())),
    }
}
