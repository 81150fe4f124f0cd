//! Which environment variables a configuration reads from the environment that HAProxy was started with. The rules
//! were tried on HAProxy 2.6.12, 2.8.25, 3.0.11 and 3.2.26. What the configuration sets or unsets itself, and what
//! HAProxy sets itself, is not among them.

use std::collections::BTreeSet;

use super::lexer::{Variable, Word, lex_with_variables};

/// What HAProxy sets itself (configuration manual of 3.2, section 2.4; HAProxy 2.6 lacks some of them).
const HAPROXYS_OWN: [&str; 13] = [
    "HAPROXY_BRANCH",
    "HAPROXY_CFGFILES",
    "HAPROXY_CLI",
    "HAPROXY_HTTPS_LOG_FMT",
    "HAPROXY_HTTP_CLF_LOG_FMT",
    "HAPROXY_HTTP_LOG_FMT",
    "HAPROXY_LOCALPEER",
    "HAPROXY_MASTER_CLI",
    "HAPROXY_MWORKER",
    "HAPROXY_STARTUP_VERSION",
    "HAPROXY_TCP_CLF_LOG_FMT",
    "HAPROXY_TCP_LOG_FMT",
    "HAPROXY_PROCESSES",
];

/// How a variable is read, which decides what becomes of one that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// It is a whole word, which is then empty: HAProxy 2.6 ends the line there, 2.8 and later leave the word out.
    Word,
    /// It is a part of a word, of which the rest stays.
    Part,
    /// It is the address of a `bind` line, which then listens on every address.
    BindAddress,
    /// It is read while HAProxy runs, by `env(NAME)`, which then returns nothing.
    Fetch,
    /// The configuration provides for its absence: a condition, a line in an `.if` block, a default.
    Optional,
}

/// A place where a configuration reads a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableUse {
    /// Its name.
    pub name: String,
    /// How it is read.
    pub form: Form,
    /// Index of the text.
    pub file: usize,
    /// Line of the text, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The places where texts, in the order in which HAProxy loads them, read its environment.
pub fn variable_uses<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<VariableUse> {
    let mut reader = Reader::default();
    for (file, text) in texts.into_iter().enumerate() {
        reader.depth = 0;
        for (index, line) in text.split('\n').enumerate() {
            // Most lines of a large configuration are servers of the catalog.
            let marks = ["$", "env", "defined("];
            if marks.iter().any(|mark| line.contains(mark)) || line.trim_start().starts_with('.') {
                reader.line(file, index + 1, line);
            }
        }
    }
    reader.uses
}

#[derive(Default)]
struct Reader {
    uses: Vec<VariableUse>,
    /// Names that the configuration itself sets or unsets.
    settled: BTreeSet<String>,
    /// After `resetenv` everything is settled.
    reset: bool,
    /// How many `.if` blocks the line stands in.
    depth: usize,
}

impl Reader {
    fn line(&mut self, file: usize, number: usize, line: &str) {
        // HAProxy refuses such a line, whatever the variables hold.
        let Ok((words, variables)) = lex_with_variables(line.as_bytes()) else {
            return;
        };
        let Some(keyword) = words.first().map(|word| word.text.as_str()) else {
            return;
        };
        let condition = matches!(keyword, ".if" | ".elif");
        match keyword {
            ".if" => self.depth += 1,
            ".endif" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let optional = condition || self.depth > 0;
        let column = |at: usize| {
            let before = line.bytes().take(at);
            1 + before.filter(|byte| byte & 0xc0 != 0x80).count()
        };
        let mut found: Vec<(String, Form, usize)> = Vec::new();
        for variable in variables {
            let form = form(&variable, keyword);
            found.push((variable.name, form, variable.at));
        }
        for word in &words {
            let function = if condition { "defined(" } else { "env(" };
            let names = arguments_of(&word.text, function);
            found.extend(names.map(|name| (name.to_owned(), Form::Fetch, word.span.start)));
        }
        for (name, form, at) in found {
            if name.starts_with('.') || self.is_settled(&name) {
                continue;
            }
            self.uses.push(VariableUse {
                form: if optional { Form::Optional } else { form },
                file,
                line: number,
                column: column(at),
                name,
            });
        }
        self.settle(&words);
    }

    fn is_settled(&self, name: &str) -> bool {
        self.reset || self.settled.contains(name) || HAPROXYS_OWN.contains(&name)
    }

    /// A line in an `.if` block may count or not; nothing is missing for certain after it.
    fn settle(&mut self, words: &[Word]) {
        let mut words = words.iter().map(|word| word.text.clone());
        match words.next().as_deref() {
            Some("setenv" | "presetenv") => self.settled.extend(words.next()),
            Some("unsetenv") => self.settled.extend(words),
            Some("resetenv") => self.reset = true,
            _ => {}
        }
    }
}

fn form(variable: &Variable, keyword: &str) -> Form {
    let (before, after) = &variable.around;
    let is_bind = matches!(keyword, "bind" | "dgram-bind");
    match variable.has_default {
        true => Form::Optional,
        false if before.is_empty() && after.is_empty() => Form::Word,
        false if is_bind && before.is_empty() && after.starts_with(':') => Form::BindAddress,
        false => Form::Part,
    }
}

/// The first arguments of a function in a word: `env(NAME)`, and not that of `setenv(…)`.
fn arguments_of<'a>(text: &'a str, function: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(function).filter_map(move |(at, _)| {
        let part_of_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let before = text.as_bytes()[..at].last().copied();
        let rest = &text[at + function.len()..];
        let name = rest.split([')', ',']).next().unwrap_or_default();
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (is_name && !before.is_some_and(part_of_name)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<(String, Form, usize, usize)> {
        variable_uses([text])
            .into_iter()
            .map(|found| (found.name, found.form, found.line, found.column))
            .collect()
    }

    #[test]
    fn each_way_of_reading_a_variable_is_told_apart() {
        let text = r#"global
    localpeer "$HOSTNAME"
frontend f
    bind "${LB_ADDR}:80"
    bind "127.0.0.1:${PORT}"
    bind "*:${OTHER-8080}"
    http-request set-header X-Region %[env(REGION)]
    http-request set-header X-É "é$E"
    # "$COMMENT" '$SINGLE' $BARE
    http-request deny if { path '$SINGLE' $BARE \"$ESCAPED }
"#;
        let name = str::to_owned;
        assert_eq!(
            uses(text),
            [
                (name("HOSTNAME"), Form::Word, 2, 16),
                (name("LB_ADDR"), Form::BindAddress, 4, 11),
                (name("PORT"), Form::Part, 5, 21),
                (name("OTHER"), Form::Optional, 6, 13),
                (name("REGION"), Form::Fetch, 7, 38),
                (name("E"), Form::Part, 8, 35),
            ]
        );
    }

    #[test]
    fn what_the_configuration_or_haproxy_sets_itself_is_not_missing() {
        let text = r#"global
    presetenv A 1
    setenv B "$C"
    unsetenv D
    log "$A" "$B" "$D" "$HAPROXY_LOCALPEER" "${HAPROXY_HTTP_LOG_FMT}" "${.LINE}"
defaults
    log-format "$E"
"#;
        let names =
            |text: &str| -> Vec<String> { uses(text).into_iter().map(|(name, ..)| name).collect() };
        assert_eq!(names(text), ["C", "E"]);
        assert_eq!(
            names("global\n log \"$A\"\n resetenv A\n log \"$B\"\n"),
            ["A"]
        );
        let files = ["global\n setenv A 1\n", "global\n log \"$A\" \"$B\"\n"];
        let found = variable_uses(files);
        assert_eq!((found.len(), found[0].file), (1, 1));
    }

    #[test]
    fn what_stands_in_a_condition_is_optional() {
        let text = r#"global
.if defined(PROD) && !streq("$STAGE",x)
    log "$A"
.else
    log "$B"
.endif
    log "$C"
"#;
        let forms: Vec<(String, Form)> = uses(text)
            .into_iter()
            .map(|(name, form, ..)| (name, form))
            .collect();
        let optional = |name: &str| (name.to_owned(), Form::Optional);
        let expected = [
            optional("STAGE"),
            optional("PROD"),
            optional("A"),
            optional("B"),
            ("C".to_owned(), Form::Word),
        ];
        assert_eq!(forms, expected);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"(?s)[ \n.$"{}env()ifdA-Cé\\']{0,80}"#) {
            let _ = variable_uses([text.as_str(), ".if", text.as_str()]);
        }
    }
}
