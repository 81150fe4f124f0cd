//! Configuration escaping: what a value from the catalog may become in a file, decided by where in
//! the file it lands. Pure.
//!
//! The rules are HAProxy's own (configuration manual 2.6, section 2.2 "Quoting and escaping"):
//! outside quotes a backslash takes the meaning from a blank, `#`, quotes and itself; inside
//! double quotes from `$`, `"` and itself; inside single quotes nothing can be escaped. What keeps
//! a meaning however it is quoted (`%`, a leading `-`, a lone brace, `$` in an address) is refused.

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// HAProxy's configuration.
    Haproxy,
    /// A map file: the first word of a line is the key, the rest its value.
    Map,
    /// A list of certificates: words, options in brackets.
    CrtList,
    /// Anything else: values are written as they are.
    Plain,
}

/// Why a value cannot be written where it stands. Each is the end of a sentence that begins with
/// the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A control character.
    Control,
    /// A single quote inside single quotes.
    SingleQuote,
    /// A backslash of the template stands right before it.
    AfterBackslash,
    /// It would be the first word of a line.
    BeginsLine,
    /// A blank or a bracket would end the word, and there is no way to escape it.
    EndsWord,
    /// `%` may begin an expression that HAProxy evaluates for each request.
    Expression,
    /// `$` names a variable in an address, however it is quoted.
    Variable,
    /// It would be another kind of address: a socket, or what HAProxy inherited.
    Socket,
    /// It would be an option, such as `-f FILE` of an ACL, or the brace that ends one.
    Option,
    /// It stands inside `(…)` or `[…]`, where other characters have a meaning too.
    Argument,
}

impl Refusal {
    /// What is wrong, to follow "The value `x` …".
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Control => "holds a control character, which could begin a new line or word",
            Refusal::SingleQuote => {
                "holds a single quote and stands inside single quotes, where nothing can be escaped"
            }
            Refusal::AfterBackslash => "stands right after a backslash of the template",
            Refusal::BeginsLine => "is the first word of a line, where it would choose the keyword",
            Refusal::EndsWord => "holds a character that would end the word here",
            Refusal::Expression => "holds a `%`, which HAProxy may evaluate as an expression",
            Refusal::Variable => "holds a `$`, which HAProxy takes for a variable in an address",
            Refusal::Socket => {
                "stands where a server's address does and holds an `@`, or begins with `/`: it would be a socket"
            }
            Refusal::Option => "would be an option or a brace to HAProxy",
            Refusal::Argument => {
                "stands inside parentheses or brackets and holds more than letters, digits and `_.:/@-`"
            }
        }
    }

    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            Refusal::Control => "Mend the value in the catalog, or leave it out of the template.",
            Refusal::SingleQuote => "Use double quotes in the template.",
            Refusal::AfterBackslash => "Take the backslash out; values are escaped by themselves.",
            Refusal::BeginsLine => {
                "Write the keyword in the template, or use {{raw …}} if a value must choose it."
            }
            Refusal::Expression
            | Refusal::Variable
            | Refusal::Socket
            | Refusal::Option
            | Refusal::Argument => {
                "Mend the value in the catalog, or use {{raw …}} if it is meant so."
            }
            Refusal::EndsWord => {
                "Mend the value in the catalog, or use {{raw …}} if it is meant to be several words."
            }
        }
    }
}

/// Keywords whose line may hold an address. HAProxy searches addresses for variables after the quotes
/// are gone, so `$` cannot be escaped there (2.6, function str2sa_range).
const WITH_ADDRESS: &[&str] = &[
    "bind",
    "bind-process",
    "default-bind",
    "default-server",
    "dispatch",
    "http-check",
    "log",
    "mailer",
    "nameserver",
    "peer",
    "server",
    "server-template",
    "source",
    "stats",
    "tcp-check",
    "unix-bind",
    "usesrc",
];

/// Follows a file while it is written and knows what the next value would mean. Equal ones write
/// the same from here on, if they are given the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escaper {
    grammar: Grammar,
    quotes: Quotes,
    backslash: bool,
    /// Words begun on this line.
    words: usize,
    /// The first of them, as far as it is the template's.
    keyword: String,
    /// Whether the last byte belongs to a word.
    in_word: bool,
    /// Whether nothing but quotes was written of this word.
    word_empty: bool,
    /// Parentheses and brackets open in this word.
    depth: usize,
    /// An empty value stood where a word begins: it must not vanish.
    empty_word: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Double,
    Single,
    Comment,
}

impl Escaper {
    /// At the beginning of a file.
    pub fn new(grammar: Grammar) -> Escaper {
        Escaper {
            grammar,
            quotes: Quotes::None,
            backslash: false,
            words: 0,
            keyword: String::new(),
            in_word: false,
            word_empty: true,
            depth: 0,
            empty_word: false,
        }
    }

    /// Follows text of the template. Returns what must be written instead, when that differs:
    /// a word that vanished by being empty becomes `""`.
    pub fn literal(&mut self, text: &str, out: &mut String) {
        if self.grammar == Grammar::Plain {
            out.push_str(text);
            return;
        }
        let mut rest = text;
        if self.empty_word
            && let Some(next) = rest.chars().next()
        {
            self.empty_word = false;
            if next.is_ascii_whitespace() || next == '#' {
                out.push_str("\"\"");
            } else {
                self.words -= 1;
                self.in_word = false;
            }
        }
        while let Some(letter) = rest.chars().next() {
            self.follow(letter);
            rest = &rest[letter.len_utf8()..];
        }
        out.push_str(text);
    }

    fn follow(&mut self, letter: char) {
        if letter == '\n' {
            // A line ends everything: HAProxy knows no continuation.
            self.words = 0;
            self.keyword.clear();
            self.quotes = Quotes::None;
            self.backslash = false;
            self.end_word();
            return;
        }
        if std::mem::take(&mut self.backslash) {
            self.begin_word();
            self.word_empty = false;
            return;
        }
        let haproxy = self.grammar == Grammar::Haproxy;
        match (self.quotes, letter) {
            (Quotes::Comment, _) => {}
            (Quotes::None, ' ' | '\t' | '\r') => self.end_word(),
            (Quotes::None, '#') if haproxy || (self.words == 0 && !self.in_word) => {
                self.quotes = Quotes::Comment;
            }
            (Quotes::None, '\\') if haproxy => {
                self.backslash = true;
                self.begin_word();
            }
            (Quotes::None, '"') if haproxy => {
                self.quotes = Quotes::Double;
                self.begin_word();
            }
            (Quotes::None, '\'') if haproxy => {
                self.quotes = Quotes::Single;
                self.begin_word();
            }
            (Quotes::Double, '\\') => self.backslash = true,
            (Quotes::Double, '"') | (Quotes::Single, '\'') => self.quotes = Quotes::None,
            (_, letter) => {
                self.begin_word();
                self.word_empty = false;
                if self.words == 1 {
                    self.keyword.push(letter);
                }
                match letter {
                    '(' | '[' => self.depth += 1,
                    ')' | ']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
    }

    fn end_word(&mut self) {
        self.in_word = false;
        self.depth = 0;
    }

    fn begin_word(&mut self) {
        if !self.in_word {
            self.in_word = true;
            self.word_empty = true;
            self.words += 1;
        }
    }

    /// Writes a value from the catalog where the file stands now.
    pub fn value(&mut self, value: &str, out: &mut String) -> Result<(), Refusal> {
        if self.grammar == Grammar::Plain {
            let control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
            if value.contains(control) {
                return Err(Refusal::Control);
            }
            out.push_str(value);
            return Ok(());
        }
        if value.contains(char::is_control) {
            return Err(Refusal::Control);
        }
        if self.quotes == Quotes::Comment {
            out.push_str(value);
            return Ok(());
        }
        if self.backslash {
            return Err(Refusal::AfterBackslash);
        }
        match self.grammar {
            Grammar::Haproxy => self.haproxy_value(value, out),
            Grammar::Map => self.map_value(value, out),
            _ => self.crt_list_value(value, out),
        }
    }

    fn haproxy_value(&mut self, value: &str, out: &mut String) -> Result<(), Refusal> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.:/@-".contains(letter);
        if value.contains('%') {
            return Err(Refusal::Expression);
        }
        if value.contains('$') && WITH_ADDRESS.contains(&self.keyword.as_str()) {
            return Err(Refusal::Variable);
        }
        if self.is_server_address() && value_is_socket(value, !self.in_word || self.word_empty) {
            return Err(Refusal::Socket);
        }
        // Quotes do not help: HAProxy compares the word that is left of them.
        let begins = !self.in_word || self.word_empty;
        if begins && (value.starts_with('-') || value == "{" || value == "}") {
            return Err(Refusal::Option);
        }
        if self.depth > 0 && !value.chars().all(plain) {
            return Err(Refusal::Argument);
        }
        let escaped: &[char] = match self.quotes {
            Quotes::Double => &['"', '\\', '$'],
            Quotes::Single if value.contains('\'') => return Err(Refusal::SingleQuote),
            Quotes::Single | Quotes::Comment => &[],
            Quotes::None => {
                if self.words == 0 {
                    return Err(Refusal::BeginsLine);
                }
                &[' ', '#', '\\', '"', '\'']
            }
        };
        if value.is_empty() && self.quotes == Quotes::None && !self.in_word {
            self.begin_word();
            self.empty_word = true;
            return Ok(());
        }
        if !value.is_empty() {
            self.empty_word = false;
            self.begin_word();
            self.word_empty = false;
        }
        for letter in value.chars() {
            if escaped.contains(&letter) {
                out.push('\\');
            }
            out.push(letter);
        }
        Ok(())
    }

    /// Whether a value written now is the address of a server, or part of it.
    fn is_server_address(&self) -> bool {
        let word = if self.in_word {
            self.words
        } else {
            self.words + 1
        };
        match self.keyword.as_str() {
            "server" => word == 3,
            "dispatch" => word == 2,
            "server-template" => word == 4,
            _ => false,
        }
    }

    /// A key ends at the first blank and a comment begins with the line: neither may come from
    /// data. A value goes on to the end of the line and may hold both.
    fn map_value(&mut self, value: &str, out: &mut String) -> Result<(), Refusal> {
        let key = self.words == 0 || (self.words == 1 && self.in_word);
        let begins = self.words == 0 && !self.in_word;
        if key && (value.contains(' ') || (begins && (value.is_empty() || value.starts_with('#'))))
        {
            return Err(Refusal::EndsWord);
        }
        if !value.is_empty() {
            self.begin_word();
        }
        out.push_str(value);
        Ok(())
    }

    fn crt_list_value(&mut self, value: &str, out: &mut String) -> Result<(), Refusal> {
        if value.is_empty() || value.contains([' ', '[', ']', '#']) {
            return Err(Refusal::EndsWord);
        }
        self.begin_word();
        out.push_str(value);
        Ok(())
    }

    /// The end of the file: an empty last word is written out.
    pub fn end(&mut self, out: &mut String) {
        if std::mem::take(&mut self.empty_word) {
            out.push_str("\"\"");
        }
    }
}

/// HAProxy 2.6, section 11 "Address formats": `unix@`, `abns@`, `fd@`, `sockpair@`, or a path.
fn value_is_socket(value: &str, begins: bool) -> bool {
    value.contains('@') || (begins && value.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// HAProxy's tokenizer in small, as an oracle of its own: words by line, variables expanded
    /// to `${}` so that one that slips in is seen.
    fn words(text: &str) -> Result<Vec<Vec<String>>, String> {
        let mut lines = Vec::new();
        for line in text.split('\n') {
            let mut found: Vec<String> = Vec::new();
            let mut word: Option<String> = None;
            let mut letters = line.chars().peekable();
            let (mut double, mut single) = (false, false);
            while let Some(letter) = letters.next() {
                match letter {
                    '\\' if !single => {
                        let next = letters.next().ok_or("backslash at the end")?;
                        let taken = if double {
                            "\"\\$".contains(next)
                        } else {
                            " #\\\"'nrt".contains(next)
                        };
                        let word = word.get_or_insert_default();
                        if !taken {
                            word.push('\\');
                        }
                        word.push(next);
                    }
                    '"' if !single => {
                        double = !double;
                        word.get_or_insert_default();
                    }
                    '\'' if !double => {
                        single = !single;
                        word.get_or_insert_default();
                    }
                    '$' if double => return Err("a variable".into()),
                    '#' if !double && !single => break,
                    ' ' | '\t' if !double && !single => found.extend(word.take()),
                    letter => word.get_or_insert_default().push(letter),
                }
            }
            if double || single {
                return Err("open quotes".into());
            }
            found.extend(word);
            lines.push(found);
        }
        Ok(lines)
    }

    fn write(grammar: Grammar, parts: &[(&str, bool)]) -> Result<String, Refusal> {
        let mut escaper = Escaper::new(grammar);
        let mut out = String::new();
        for (text, data) in parts {
            if *data {
                escaper.value(text, &mut out)?;
            } else {
                escaper.literal(text, &mut out);
            }
        }
        escaper.end(&mut out);
        Ok(out)
    }

    // C01 C03 D04
    #[test]
    fn a_value_is_escaped_by_where_it_lands() {
        for (before, value, after, expected) in [
            ("server a ", "b c", "\n", "server a b\\ c\n"),
            ("set \"x ", "$a \"\\", "\"", "set \"x \\$a \\\"\\\\\""),
            ("set x ", "$a", "", "set x $a"),
            ("set '", "a\"b c#", "'", "set 'a\"b c#'"),
            ("set ", "", " b", "set \"\" b"),
            ("set a", "", " b", "set a b"),
            ("set ", "", "b", "set b"),
            ("set ", "", "", "set \"\""),
            ("set ", "", "# c", "set \"\"# c"),
            ("# note ", "a b", "\n", "# note a b\n"),
            ("a ", "#b", "", "a \\#b"),
            (
                "server s 10.0.0.1:80 crt ",
                "/a@b",
                "",
                "server s 10.0.0.1:80 crt /a@b",
            ),
            ("bind ", "unix@/run/x", "", "bind unix@/run/x"),
            ("a ", "{{key \"x\"}}", "", "a {{key\\ \\\"x\\\"}}"),
        ] {
            assert_eq!(
                write(
                    Grammar::Haproxy,
                    &[(before, false), (value, true), (after, false)]
                ),
                Ok(expected.to_owned())
            );
        }
        for (before, value, refusal) in [
            ("a ", "b\nc", Refusal::Control),
            ("a ", "\0", Refusal::Control),
            ("a '", "it's", Refusal::SingleQuote),
            ("a \\", "b", Refusal::AfterBackslash),
            ("  ", "program", Refusal::BeginsLine),
            ("a b\n", "program", Refusal::BeginsLine),
            ("a ", "%[env(TOKEN)]", Refusal::Expression),
            ("acl a src ", "-f", Refusal::Option),
            ("acl a src \"", "-f", Refusal::Option),
            ("use_backend b if { src ", "}", Refusal::Option),
            ("server s ", "unix@/run/x", Refusal::Socket),
            ("server s ", "/run/x", Refusal::Socket),
            ("server s \"", "/run/x", Refusal::Socket),
            ("server s ipv4", "@1", Refusal::Socket),
            ("dispatch ", "fd@3", Refusal::Socket),
            ("server ", "$TOKEN", Refusal::Variable),
            ("server s ", "$TOKEN", Refusal::Variable),
            ("server s \"", "${TOKEN}", Refusal::Variable),
            ("a b(", "c),d", Refusal::Argument),
            ("a %[str(", "c d", Refusal::Argument),
        ] {
            assert_eq!(
                write(Grammar::Haproxy, &[(before, false), (value, true)]),
                Err(refusal),
                "{before:?} {value:?}"
            );
        }
        assert_eq!(
            write(
                Grammar::Map,
                &[
                    ("", false),
                    ("a.example", true),
                    (" ", false),
                    ("b c", true)
                ]
            ),
            Ok("a.example b c".to_owned())
        );
        for value in ["a b", "#a", ""] {
            assert_eq!(
                write(Grammar::Map, &[(value, true)]),
                Err(Refusal::EndsWord)
            );
        }
    }

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("server s ".to_owned()),
            Just(" ".to_owned()),
            Just("\n    set x ".to_owned()),
            Just("\"".to_owned()),
            Just("'".to_owned()),
            Just("# c".to_owned()),
            Just("word".to_owned()),
        ]
    }

    proptest! {
        // C02 C03
        /// Whatever the values are, the words of each line are as many as with a harmless value,
        /// and each value arrives whole; or the file is refused.
        #[test]
        fn no_value_changes_the_structure(
            pieces in proptest::collection::vec((piece(), any::<String>()), 1..6)
        ) {
            let mut hostile = Vec::new();
            let mut harmless = Vec::new();
            for (text, value) in &pieces {
                hostile.push((text.as_str(), false));
                hostile.push((value.as_str(), true));
                harmless.push((text.as_str(), false));
                harmless.push(("v", true));
            }
            let (Ok(hostile), Ok(harmless)) =
                (write(Grammar::Haproxy, &hostile), write(Grammar::Haproxy, &harmless))
            else {
                return Ok(());
            };
            // Templates that leave quotes open are broken without any value.
            if let Ok(expected) = words(&harmless) {
                let found = words(&hostile);
                prop_assert!(found.is_ok(), "{found:?}\n{hostile}");
                let count = |lines: &[Vec<String>]| -> Vec<usize> { lines.iter().map(Vec::len).collect() };
                prop_assert_eq!(count(&found.unwrap()), count(&expected), "{}", hostile);
            }
        }

        // C03
        #[test]
        fn a_value_arrives_as_it_was(value in "\\PC{1,20}") {
            for (before, after) in [("a ", ""), ("a \"", "\""), ("a '", "'")] {
                let parts = [(before, false), (value.as_str(), true), (after, false)];
                if let Ok(text) = write(Grammar::Haproxy, &parts) {
                    prop_assert_eq!(&words(&text).unwrap()[0][1], &value);
                }
            }
        }
    }
}
