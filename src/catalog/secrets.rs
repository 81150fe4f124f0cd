//! What no message may show: values of keys, texts of files that templates read, metadata under a name such as
//! `password`, and what helpers made of them. Words of the templates are public. Pure.
//!
//! Where secrets stand in the files of a set is stored with the set, their words are not: they are read off the files
//! when a later process tells of the set.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Answer, Meta};

/// What stands in a secret's place.
pub const HIDDEN: &str = "(hidden)";
/// A shorter word would be found in too many sentences.
pub const LEAST: usize = 4;
/// A word of this length is hidden within other words, too.
const LONG: usize = 8;
/// Stands where a message was cut.
const CUT: char = '…';

/// Names of keys and metadata that are secret, unless `capture.secrets` says otherwise.
pub const SECRET_NAMES: [&str; 14] = [
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*secret*",
    "*token*",
    "*credential*",
    "*api_key*",
    "*api-key*",
    "*apikey*",
    "*private*key*",
    "*pass",
    "*pwd*",
    "*auth*",
    "*dsn*",
];

/// How passwords' hashes (crypt(5)) and well-known tokens begin.
const BEGINNINGS: [&str; 22] = [
    "$1$",
    "$2a$",
    "$2b$",
    "$2x$",
    "$2y$",
    "$5$",
    "$6$",
    "$7$",
    "$y$",
    "$gy$",
    "$apr1$",
    "$argon2",
    "$pbkdf2",
    "$scrypt$",
    "{SSHA",
    "AGE-SECRET-KEY-1",
    "ghp_",
    "github_pat_",
    "glpat-",
    "hvs.",
    "xoxb-",
    "xoxp-",
];
/// A hash or token has at least this many bytes; `$1$2`, a replacement in a regular expression, has fewer.
const SHORTEST: usize = 20;

/// The secrets that a rendering read and wrote. They are shared, and looked through only when there is something to
/// tell.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

/// A stretch of a file that came from a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, usize)", into = "(usize, usize)")]
pub struct SecretPart {
    /// Its first byte.
    pub start: usize,
    /// How many bytes there are.
    pub len: usize,
    /// Whether a helper has changed it; not stored.
    pub changed: bool,
}

impl From<(usize, usize)> for SecretPart {
    fn from((start, len): (usize, usize)) -> SecretPart {
        let changed = true;
        SecretPart {
            start,
            len,
            changed,
        }
    }
}

impl From<SecretPart> for (usize, usize) {
    fn from(part: SecretPart) -> (usize, usize) {
        (part.start, part.len)
    }
}

impl SecretPart {
    fn of<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start..self.end()).unwrap_or_default()
    }

    fn end(&self) -> usize {
        self.start.saturating_add(self.len)
    }

    /// With the letters and digits right before and behind it, if there are any: a message may quote them as one word.
    fn within<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (before, after) = (text.get(..self.start)?, text.get(self.end()..)?);
        let start = before.trim_end_matches(char::is_alphanumeric).len();
        let rest = after.trim_start_matches(char::is_alphanumeric).len();
        let wide = text.get(start..text.len() - rest)?;
        (wide.len() > self.len).then_some(wide)
    }
}

#[derive(Clone, Default)]
struct Inner {
    answers: Vec<Arc<Answer>>,
    files: Vec<Arc<str>>,
    patterns: Vec<String>,
    templates: Arc<[String]>,
    /// What was written otherwise than it was read.
    changed: Vec<String>,
    /// Where each file of the set holds secrets, if that is known.
    parts: Option<Vec<Vec<SecretPart>>>,
    words: OnceLock<Vec<String>>,
}

impl Secrets {
    /// The secrets of answers and files. `patterns` are names of metadata, as in `capture.secrets`; the words of
    /// `templates` are public.
    pub fn new(
        answers: Vec<Arc<Answer>>,
        files: Vec<Arc<str>>,
        patterns: &[String],
        templates: &Arc<[String]>,
    ) -> Secrets {
        Secrets(Arc::new(Inner {
            answers,
            files,
            patterns: patterns.to_vec(),
            templates: Arc::clone(templates),
            ..Inner::default()
        }))
    }

    /// The words of these texts, whatever they were read from.
    pub fn of_texts(changed: Vec<String>) -> Secrets {
        Secrets(Arc::new(Inner {
            changed,
            ..Inner::default()
        }))
    }

    /// The same, with what the rendering wrote into its files.
    pub fn written(self, texts: &[String], parts: Vec<Vec<SecretPart>>) -> Secrets {
        let mut changed = Vec::new();
        for (text, parts) in texts.iter().zip(&parts) {
            for part in parts {
                let written = part.of(text);
                let is_other = part.changed || written.contains('\\');
                let others = part.within(text).into_iter();
                let others = others.chain(is_other.then_some(written));
                changed.extend(others.map(str::to_owned));
            }
        }
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.changed = changed;
        inner.parts = Some(parts);
        Secrets(Arc::new(inner))
    }

    /// The same of a set with other texts: where they stand in these is not known.
    pub fn elsewhere(self) -> Secrets {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.parts = None;
        Secrets(Arc::new(inner))
    }

    /// The secrets of a set that was read back from the disk, by its files: what stands beside them is public.
    /// Where it is not known what they are, each word but the first of a line may be one.
    pub fn of_files<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Secrets {
        let mut words = Words::default();
        let mut secrets: Vec<&str> = Vec::new();
        for (index, text) in texts.enumerate() {
            let Some(parts) = &self.0.parts else {
                for line in text.lines().map(str::trim_start) {
                    let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
                    words.is_public(first);
                    secrets.push(rest);
                }
                continue;
            };
            let mut end = 0;
            for part in parts.get(index).into_iter().flatten() {
                words.is_public(text.get(end..part.start).unwrap_or_default());
                secrets.push(part.of(text));
                secrets.extend(part.within(text));
                end = part.end();
            }
            words.is_public(text.get(end..).unwrap_or_default());
        }
        secrets.into_iter().for_each(|text| words.add_written(text));
        Secrets(Arc::new(Inner {
            parts: self.0.parts.clone(),
            words: words.sorted().into(),
            ..Inner::default()
        }))
    }

    /// A sentence or a line with `(hidden)` in the place of each secret.
    pub fn hide(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for word in self.words() {
            if shown.contains(word.as_str()) {
                shown = replaced(&shown, word);
            }
        }
        match shown.contains(CUT) {
            true => self.hide_cut(&shown),
            false => shown,
        }
    }

    /// Hides the beginning of a secret, where a message was cut within it.
    fn hide_cut(&self, text: &str) -> String {
        let mut pieces = text.split(CUT).peekable();
        let mut shown = String::with_capacity(text.len());
        while let Some(piece) = pieces.next() {
            let cut = parts(piece).last().unwrap_or_default();
            let begins = |word: &String| word.starts_with(cut);
            let is_cut = pieces.peek().is_some();
            match is_cut && cut.chars().count() >= LEAST && self.words().iter().any(begins) {
                true => {
                    shown.push_str(&piece[..piece.len() - cut.len()]);
                    shown.push_str(HIDDEN);
                }
                false => shown.push_str(piece),
            }
            if is_cut {
                shown.push(CUT);
            }
        }
        shown
    }

    fn words(&self) -> &[String] {
        self.0.words.get_or_init(|| {
            let mut words = Words::default();
            self.0
                .templates
                .iter()
                .for_each(|text| words.is_public(text));
            for answer in &self.0.answers {
                self.values(answer, &mut |value| words.add(value));
            }
            self.0.files.iter().for_each(|text| words.add(text));
            self.0
                .changed
                .iter()
                .for_each(|text| words.add_written(text));
            words.sorted()
        })
    }

    fn values(&self, answer: &Answer, add: &mut impl FnMut(&str)) {
        let mut meta = |meta: &Meta| {
            let secret = |(name, value): &(&String, &String)| {
                is_secret_name(name, &self.0.patterns) || holds_secret(value)
            };
            meta.iter().filter(secret).for_each(|(_, value)| add(value));
        };
        match answer {
            Answer::Key(Some(key)) => key.value.iter().for_each(|value| add(value)),
            Answer::Tree(list) => {
                let values = list.iter().filter_map(|key| key.value.as_ref());
                values.for_each(|value| add(value));
            }
            Answer::Instances(list) => list.iter().for_each(|one| {
                meta(&one.service_meta);
                meta(&one.node.meta);
            }),
            Answer::Nodes(list) => list.iter().for_each(|one| meta(&one.meta)),
            Answer::Node(Some(detail)) => {
                meta(&detail.node.meta);
                let services = detail.services.iter();
                services.for_each(|service| meta(&service.meta));
            }
            _ => {}
        }
    }
}

/// Words that are hidden, and public ones.
#[derive(Default)]
struct Words<'a> {
    hidden: BTreeSet<String>,
    public: BTreeSet<&'a str>,
}

impl<'a> Words<'a> {
    fn is_public(&mut self, text: &'a str) {
        self.public.extend(parts(text));
    }

    fn add(&mut self, value: &str) {
        // HAProxy and helpers quote a value as a whole, one of its lines, a word or a part of one.
        let lines = value.lines().map(str::trim);
        let words = value.split(|letter: char| letter.is_whitespace() || "\"'".contains(letter));
        let all = lines.chain(words).chain(parts(value));
        let public = &self.public;
        let all = all.filter(|word| word.chars().count() >= LEAST && !public.contains(word));
        self.hidden.extend(all.map(str::to_owned));
    }

    /// Adds what stands in a file, where blanks and quotes may have a backslash before them.
    fn add_written(&mut self, text: &str) {
        self.add(text);
        if text.contains('\\') {
            let mut letters = text.chars();
            let next = || match letters.next() {
                Some('\\') => letters.next(),
                letter => letter,
            };
            self.add(&std::iter::from_fn(next).collect::<String>());
        }
    }

    /// The longest come first, since a value holds its own words.
    fn sorted(self) -> Vec<String> {
        let mut hidden: Vec<String> = self.hidden.into_iter().collect();
        hidden.sort_by_key(|word| std::cmp::Reverse(word.len()));
        hidden
    }
}

/// Only where the secrets stand is stored.
impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.parts.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Secrets, D::Error> {
        let parts = Option::deserialize(input)?;
        Ok(Secrets(Arc::new(Inner {
            parts,
            ..Inner::default()
        })))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secrets")
    }
}

/// Two sets of the same content are equal, whatever was read for them.
impl PartialEq for Secrets {
    fn eq(&self, _: &Secrets) -> bool {
        true
    }
}

impl Eq for Secrets {}

/// Letters with digits stand in no sentence by chance.
fn is_mixed(word: &str) -> bool {
    word.contains(char::is_numeric) && word.contains(char::is_alphabetic)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric())
}

fn replaced(text: &str, word: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let end = at + word.len();
        let whole = || {
            let before = text[..at].chars().next_back();
            let after = text[end..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        };
        if word.len() >= LONG || is_mixed(word) || whole() {
            shown.push_str(&text[from..at]);
            shown.push_str(HIDDEN);
            from = end;
        }
    }
    shown.push_str(&text[from..]);
    shown
}

/// Whether a name of a key or of metadata is like one of these patterns, in which `*` stands for anything.
pub fn is_secret_name(name: &str, patterns: &[String]) -> bool {
    let name = name.to_lowercase();
    patterns
        .iter()
        .any(|pattern| matches(&pattern.to_lowercase(), &name))
}

/// Whether a text holds a private key, a hash of a password, a token, or a URL with a password.
pub fn holds_secret(text: &str) -> bool {
    let run = |rest: &str| {
        let in_token = |c: char| c.is_ascii_alphanumeric() || "$./+=_-,{}".contains(c);
        rest.find(|c| !in_token(c)).unwrap_or(rest.len())
    };
    let is_private_key = text.contains("-----BEGIN ") && text.contains("PRIVATE KEY");
    let begins_token = BEGINNINGS.iter().any(|beginning| {
        let mut found = text.match_indices(beginning);
        found.any(|(at, _)| run(&text[at..]) >= SHORTEST)
    });
    // A JSON Web Token: `eyJ` is `{"` in base64.
    let has_web_token = text.match_indices("eyJ").any(|(at, _)| {
        let token = &text[at..at + run(&text[at..])];
        token.len() >= SHORTEST && token.matches('.').count() >= 2
    });
    // A password may hold `/` and `@`; the word is read to its end.
    let has_password = text.split("://").skip(1).any(|rest| {
        let word = rest.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
        let user = word.take(1).find_map(|word| word.rsplit_once('@'));
        let password = user.and_then(|(user, _)| user.split_once(':'));
        password.is_some_and(|(_, password)| !password.is_empty())
    });
    is_private_key || begins_token || has_web_token || has_password
}

/// Whether a text is like a pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::KeyValue;
    use crate::settings::model::Capture;

    fn of_key(value: &str, template: &str) -> Secrets {
        let key = KeyValue {
            path: "k".to_owned(),
            value: Some(value.to_owned()),
        };
        let answers = vec![Arc::new(Answer::Key(Some(key)))];
        Secrets::new(answers, Vec::new(), &[], &[template.to_owned()].into())
    }

    #[test]
    fn a_value_is_hidden_as_a_whole_by_line_and_by_word() {
        let secrets = of_key("user:hunter22\nsecond line \"in quotes\"", "");
        for (text, shown) in [
            ("'user:hunter22' is no number", "'(hidden)' is no number"),
            ("the password hunter22.", "the password (hidden)."),
            ("xhunter22x", "x(hidden)x"),
            ("near 'second line \"in quotes\"'", "near '(hidden)'"),
            ("the quotes", "the (hidden)"),
            ("unquotes users secondly", "unquotes users secondly"),
        ] {
            assert_eq!(secrets.hide(text), shown);
        }
    }

    #[test]
    fn words_of_the_templates_and_short_ones_stay() {
        let secrets = of_key(
            "backend roundrobin on 80",
            "balance roundrobin {{key \"k\"}}",
        );
        assert_eq!(
            secrets.hide("'backend': roundrobin is on at 80"),
            "'(hidden)': roundrobin is on at 80"
        );
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, like) in [
            ("*token*", "app/TOKEN", true),
            ("*token*", "token", true),
            ("*token*", "app/tok", false),
            ("app/*/key", "app/a/b/key", true),
            ("app/*/key", "app/key", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                is_secret_name(text, &[pattern.to_owned()]),
                like,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_value_that_is_a_secret_by_its_form_is_known() {
        for value in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg\n-----END OPENSSH PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----\nMII\n-----BEGIN RSA PRIVATE KEY-----\nMII",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "admin:$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
            "$2y$10$abcdefghijklmnopqrstuuhLcPyiGVjMpKqVEJzq8RmQpJtJ1KcYG",
            "user a password $5$rounds=5000$abc$0123456789abcdefABCDEF./",
            "$6$abc$0123456789abcdefABCDEF./0123456789",
            "a:$apr1$abcdefgh$0123456789abcdefABCDEF",
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g",
            "$y$j9T$abcdefgh$0123456789abcdefABCDEF",
            "postgres://app:hunter22@db.internal:5432/app",
            "redis://:hunter22@cache:6379",
            "amqp://a:p/w@q\"",
            "see http://a and http://b:c@d",
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        ] {
            assert!(holds_secret(value), "{value}");
        }
        for value in [
            "",
            "1",
            "on",
            "10.0.0.1:80",
            "http://10.0.0.1:80/a",
            "ssh://git@example.org/a",
            "http://user:@example.org",
            "a@b:c",
            "/$1$2$3",
            "^/(.*)$1$",
            "-----BEGIN CERTIFICATE-----",
            "eyJ.a.b",
            "roundrobin",
        ] {
            assert!(!holds_secret(value), "{value}");
        }
    }

    #[test]
    fn names_of_credentials_are_secrets_by_default() {
        let patterns = Capture::default().secrets;
        for name in [
            "db/pass",
            "DB_PWD",
            "pwd/a",
            "auth/basic",
            "app/dsn",
            "dsn_main",
        ] {
            assert!(is_secret_name(name, &patterns), "{name}");
        }
        for name in ["app/maxconn", "passive", "bypass_cache"] {
            assert!(!is_secret_name(name, &patterns), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_word_of_a_value_is_left(value in "[a-z0-9:/ \"]{0,30}", before in "[a-z' ]{0,9}", after in "[a-z'. ]{0,9}") {
            let secrets = of_key(&value, "");
            let shown = secrets.hide(&format!("{before} '{value}' {after}"));
            for word in parts(&value) {
                if word.len() >= LONG {
                    prop_assert!(!shown.contains(word), "{word} in {shown}");
                } else if word.len() >= LEAST {
                    prop_assert!(parts(&shown).all(|one| one != word || word == "hidden"), "{word} in {shown}");
                }
            }
            prop_assert_eq!(secrets.hide("on at 80"), "on at 80");
        }
    }
}
