//! Hides passwords and tokens in what HAProxy says about a configuration, because its messages quote
//! the configuration's words. What follows a word such as `insecure-password` or `Authorization` is
//! taken for a secret; a secret under a name that says nothing is not known for one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::config::{Config, Word};
use crate::catalog::secrets::{HIDDEN, LEAST};

/// Words of HAProxy's own sentences that may follow a keyword it speaks of.
const PROSE: [&str; 14] = [
    "in", "expects", "requires", "missing", "is", "must", "cannot", "not", "for", "and", "or",
    "has", "argument", "keyword",
];

/// The secrets of a configuration, the longest first.
pub fn secrets(config: &Config) -> Vec<String> {
    let mut found = BTreeSet::new();
    let sections = config
        .sections
        .iter()
        .flat_map(|section| &section.directives);
    for directive in config.outside.iter().chain(sections) {
        for (index, word) in directive.words.iter().enumerate() {
            if is_secrets_name(&word.text)
                && let Some(value) = directive.words[index + 1..].iter().find(is_value)
            {
                found.extend(parts(&value.text).filter(|part| part.len() >= LEAST));
            }
        }
    }
    let mut found: Vec<String> = found.into_iter().map(str::to_owned).collect();
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}

/// The values of environment variables that are secrets by their names, the longest first.
pub fn secret_values(environment: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let named = environment.iter().filter_map(|(name, value)| {
        let is_secret = names_a_secret(name.to_str()?);
        Some(value.to_str()?).filter(|_| is_secret)
    });
    let parts = named.flat_map(parts).filter(|part| part.len() >= LEAST);
    let mut found: Vec<String> = parts.map(str::to_owned).collect();
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.dedup();
    found
}

/// Whether the value of an environment variable of this name is taken for a secret.
pub fn names_a_secret(variable: &str) -> bool {
    variable.ends_with("_AUTH") || is_secrets_name(variable)
}

/// A secret as a whole, and what HAProxy may show of it alone: the password of `user:password`, the
/// token of `Bearer token`.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    let last = value.rsplit([':', ' ']).next().unwrap_or_default();
    [value, last].into_iter()
}

/// Flags and match methods stand between a name and its value.
fn is_value(word: &&Word) -> bool {
    !word.text.starts_with('-') && !matches!(word.text.as_str(), "str" | "beg" | "sub" | "reg")
}

fn is_secrets_name(word: &str) -> bool {
    let word = word.trim_end_matches(':');
    if word.is_empty()
        || !word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    {
        return false;
    }
    let word = word.to_ascii_lowercase();
    let speaks = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "authorization",
        "api-key",
        "apikey",
        "api_key",
        "credential",
    ];
    matches!(word.as_str(), "auth" | "pass") || speaks.iter().any(|part| word.contains(part))
}

/// A line of a configuration, or a message that may quote one, without secrets.
pub fn hide(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), HIDDEN);
        }
    }
    after_names(&text)
}

/// Hides the word, or the quoted words, after each name of a secret; after `NAME:`, a header, all.
fn after_names(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, word, after)) = next_word(rest) {
        shown.push_str(before);
        shown.push_str(word);
        rest = after;
        if let Some((name, value)) = word.split_once('=')
            && is_secrets_name(name)
            && !value.is_empty()
        {
            shown.truncate(shown.len() - value.len());
            shown.push_str(HIDDEN);
            continue;
        }
        // HAProxy quotes the keywords it speaks of: 'password'.
        if !is_secrets_name(word.trim_start_matches(['"', '<', '(', '{'])) {
            continue;
        }
        if word.ends_with(':') {
            shown.push(' ');
            shown.push_str(HIDDEN);
            return shown;
        }
        if let Some((before, value, after)) = next_word(rest)
            && !PROSE.contains(&value.trim_end_matches([',', '.']))
            && !value.starts_with(['-', '%', '\''])
            && value != HIDDEN
        {
            shown.push_str(before);
            shown.push_str(HIDDEN);
            rest = after;
        }
    }
    shown.push_str(rest);
    shown
}

/// The blanks, the next word and what follows. A word that begins with `"` goes to the next one.
fn next_word(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find(|c: char| !c.is_whitespace())?;
    let word = &text[start..];
    let quoted = word
        .strip_prefix('"')
        .and_then(|inner| inner.find('"').map(|end| end + 2));
    let end = quoted.unwrap_or_else(|| word.find(char::is_whitespace).unwrap_or(word.len()));
    Some((&text[..start], &word[..end], &word[end..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // L14
    #[test]
    fn what_follows_the_name_of_a_secret_is_hidden() {
        for (text, shown) in [
            (
                "user admin insecure-password s3cr3t groups a",
                "user admin insecure-password (hidden) groups a",
            ),
            ("stats auth admin:s3cr3t", "stats auth (hidden)"),
            (
                "http-request set-header Authorization \"Basic czNjcjN0\" if x",
                "http-request set-header Authorization (hidden) if x",
            ),
            (
                "option httpchk GET / HTTP/1.1 X-Consul-Token: s3cr3t",
                "option httpchk GET / HTTP/1.1 X-Consul-Token: (hidden)",
            ),
            ("password=s3cr3t", "password=(hidden)"),
            (
                "unknown keyword 'password' in 'userlist' section",
                "unknown keyword 'password' in 'userlist' section",
            ),
            (
                "'stats auth' expects a user and a password in 'defaults'",
                "'stats auth' expects a user and a password in 'defaults'",
            ),
            ("bind :80 alpn h2", "bind :80 alpn h2"),
        ] {
            assert_eq!(hide(text, &[]), shown);
        }
    }

    // L14
    #[test]
    fn a_secret_of_the_configuration_is_hidden_wherever_it_is_quoted() {
        let config = Config::parse(
            "userlist u\n user a insecure-password hunter22 wrong\nbackend b\n stats auth admin:pa55word\n \
             http-request set-header X-Api-Key \"k-1234567\"\n stick store-request req.cook(token) table b\n",
        );
        let secrets = secrets(&config);
        assert_eq!(
            secrets,
            ["admin:pa55word", "k-1234567", "hunter22", "pa55word"]
        );
        assert_eq!(
            hide(
                "unknown argument 'hunter22' after <pa55word> in table b",
                &secrets
            ),
            "unknown argument '(hidden)' after <(hidden)> in table b"
        );
    }

    // L14
    #[test]
    fn the_value_of_a_variable_is_a_secret_by_its_name() {
        let environment = [
            ("ADMIN_PASSWORD", "pa55word"),
            ("SERF_RPC_AUTH", "c2VyZg"),
            ("SHORT_TOKEN", "k3y"),
            ("CONSUL_HTTP_AUTH", "me:hunter22"),
            ("LB_ADDR", "10.0.0.1"),
        ];
        let environment = environment.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(
            secret_values(&environment.into()),
            ["me:hunter22", "pa55word", "hunter22", "c2VyZg"]
        );
    }

    proptest! {
        // L14
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,80}", name in "password|auth|token:|secret=") {
            let _ = hide(&format!("{text} {name} {text}"), &[]);
        }
    }
}
