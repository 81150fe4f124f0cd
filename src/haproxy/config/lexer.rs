//! One line of an HAProxy configuration cut into words, by the rules of HAProxy 2.6 (configuration
//! manual 2.2 "Quoting and escaping" and 2.3 "Environment variables"; compared with the real
//! program in `tests/parts/haproxy/config.rs`).
//!
//! HAProxy has no line continuation: a backslash before the line end is a plain backslash. A
//! carriage return ends the line, even inside quotes. This file never expands a variable and
//! never panics, whatever the bytes.

use std::ops::Range;

/// A line of more words than this is refused (HAProxy 2.6 `MAX_LINE_ARGS`).
pub const WORDS_MAX: usize = 64;

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word as HAProxy sees it, quotes and escapes resolved. For an opaque word, variables
    /// stay as written (`${NAME}`) and bytes that are not UTF-8 are written `\xHH`.
    pub text: String,
    /// Whether only HAProxy knows the value: the word holds an environment variable (which may even
    /// make it vanish, or become several words) or is not UTF-8.
    pub opaque: bool,
    /// Where it stands in the line, in bytes, with its quotes.
    pub span: Range<usize>,
}

/// Why HAProxy refuses a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LexErrorKind {
    /// A quote is not closed on its line.
    #[error("This quote is not closed on its line.")]
    UnmatchedQuote,
    /// `\x` is not followed by two hexadecimal digits.
    #[error("`\\x` needs two hexadecimal digits after it.")]
    BadHexadecimal,
    /// A variable in double quotes has an impossible name.
    #[error("A variable's name starts with a letter, `_` or a known `.NAME`.")]
    BadVariableName,
    /// `${` without its `}`.
    #[error("`${{` is not closed by `}}`.")]
    UnmatchedBrace,
    /// `[` after a variable's name that is not `[*]`.
    #[error("Only `[*]` may follow the name of a variable in braces.")]
    BadExpansion,
    /// More words than HAProxy takes on one line.
    #[error("HAProxy takes at most {WORDS_MAX} words on one line.")]
    TooManyWords,
    /// A NUL byte.
    #[error("The line holds a NUL byte.")]
    Nul,
}

/// A line that HAProxy refuses before it looks at the keywords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct LexError {
    /// What is wrong.
    pub kind: LexErrorKind,
    /// Byte of the line at which it is wrong, from 0.
    pub at: usize,
}

/// An environment variable that HAProxy puts in, because it stands between double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name. HAProxy's own `.FILE`, `.LINE` and `.SECTION` keep their dot.
    pub name: String,
    /// Where its `$` stands in the line, in bytes.
    pub at: usize,
    /// Index of its word.
    pub word: usize,
    /// Whether it is written with a default, as `${NAME-default}`.
    pub has_default: bool,
    /// What the word begins and ends with besides: both are empty where the variable is all of it.
    pub around: (String, String),
}

/// Cuts a line (without its line feed) into words. A blank line and a comment have none.
pub fn lex(line: &[u8]) -> Result<Vec<Word>, LexError> {
    lex_with_variables(line).map(|(words, _)| words)
}

/// The same, with the environment variables in these words.
pub fn lex_with_variables(line: &[u8]) -> Result<(Vec<Word>, Vec<Variable>), LexError> {
    if let Some(at) = line.iter().position(|byte| *byte == 0) {
        let kind = LexErrorKind::Nul;
        return Err(LexError { kind, at });
    }
    let mut lexer = Lexer {
        line,
        at: 0,
        word: None,
        words: Vec::new(),
        variables: Vec::new(),
    };
    lexer.run()?;
    Ok((lexer.words, lexer.variables))
}

/// The word written so that HAProxy reads it back as exactly this one word. `None` when it holds a
/// control character, which no name or value needs.
///
/// This is the quoting of a line: it does not protect `%` in a log format, or a comma in the arguments of
/// a function such as `map(…)`.
pub fn quote(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/@,=+-%*".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Some(word.to_owned());
    }
    let mut text = String::with_capacity(word.len() + 2);
    text.push('"');
    for character in word.chars() {
        if matches!(character, '"' | '\\' | '$') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    Some(text)
}

struct Lexer<'a> {
    line: &'a [u8],
    at: usize,
    word: Option<Building>,
    words: Vec<Word>,
    variables: Vec<Variable>,
}

#[derive(Default)]
struct Building {
    start: usize,
    bytes: Vec<u8>,
    /// The variables in it, each with where it stands in `bytes`.
    variables: Vec<(Variable, Range<usize>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Quote {
    None,
    Single(usize),
    Double(usize),
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), LexError> {
        let mut quote = Quote::None;
        while let Some(byte) = self.peek(0) {
            match (byte, quote) {
                (b'\n' | b'\r', _) | (b'#', Quote::None) => break,
                (b'"', Quote::None) => quote = self.open(Quote::Double(self.at)),
                (b'\'', Quote::None) => quote = self.open(Quote::Single(self.at)),
                (b'"', Quote::Double(_)) | (b'\'', Quote::Single(_)) => {
                    self.at += 1;
                    quote = Quote::None;
                }
                (b'\\', Quote::None | Quote::Double(_)) => self.escape(quote != Quote::None)?,
                (b'$', Quote::Double(_)) => self.variable()?,
                (b' ' | b'\t' | 0x0b | 0x0c, Quote::None) => self.separator()?,
                _ => self.plain(),
            }
        }
        self.finish_word();
        match quote {
            Quote::None => Ok(()),
            Quote::Single(at) | Quote::Double(at) => {
                let kind = LexErrorKind::UnmatchedQuote;
                Err(LexError { kind, at })
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.at + ahead).copied()
    }

    fn building(&mut self) -> &mut Building {
        let start = self.at;
        self.word.get_or_insert_with(|| Building {
            start,
            ..Building::default()
        })
    }

    fn push(&mut self, byte: u8) {
        self.building().bytes.push(byte);
    }

    /// One byte that stands for itself, and those after it that always do.
    fn plain(&mut self) {
        let (start, line) = (self.at, self.line);
        let always = |byte: &u8| *byte >= b'-' && *byte != b'\\';
        let more = line[start + 1..].iter().take_while(|byte| always(byte));
        let end = start + 1 + more.count();
        self.building().bytes.extend_from_slice(&line[start..end]);
        self.at = end;
    }

    fn open(&mut self, quote: Quote) -> Quote {
        self.building();
        self.at += 1;
        quote
    }

    /// A backslash outside single quotes. One that starts no escape stands for itself, as does one
    /// before `$` outside double quotes (HAProxy 2.6.12 does so; its manual says otherwise).
    fn escape(&mut self, quoted: bool) -> Result<(), LexError> {
        let (byte, length) = match self.peek(1) {
            Some(byte @ (b' ' | b'\\' | b'#' | b'\'' | b'"')) => (byte, 2),
            Some(b'$') if quoted => (b'$', 2),
            Some(b't') => (b'\t', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b'x') => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (Some(high), Some(low)) = (digit(self.peek(2)), digit(self.peek(3))) else {
                    return self.fail(LexErrorKind::BadHexadecimal, self.at);
                };
                ((high * 16 + low) as u8, 4)
            }
            _ => (b'\\', 1),
        };
        self.push(byte);
        self.at += length;
        Ok(())
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}` or `${NAME[*]}`, kept as written.
    fn variable(&mut self) -> Result<(), LexError> {
        let start = self.at;
        self.at += 1;
        let brace = (self.peek(0) == Some(b'{')).then_some(self.at);
        if brace.is_some() {
            self.at += 1;
        }
        let name = self.at;
        if !matches!(self.peek(0), Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' || byte == b'.')
        {
            return self.fail(LexErrorKind::BadVariableName, name);
        }
        self.at += 1;
        while matches!(self.peek(0), Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        let known: [&[u8]; 3] = [b".FILE", b".LINE", b".SECTION"];
        if self.line[name] == b'.' && !known.contains(&&self.line[name..self.at]) {
            return self.fail(LexErrorKind::BadVariableName, name);
        }
        let name = show_bytes(&self.line[name..self.at]);
        let mut has_default = false;
        if let Some(brace) = brace {
            if self.peek(0) == Some(b'[') {
                if self.peek(1) != Some(b'*') || self.peek(2) != Some(b']') {
                    return self.fail(LexErrorKind::BadExpansion, self.at);
                }
                self.at += 3;
            }
            if self.peek(0) == Some(b'-') {
                has_default = true;
                while !matches!(self.peek(0), None | Some(b'}')) {
                    self.at += 1;
                }
            }
            if self.peek(0) != Some(b'}') {
                return self.fail(LexErrorKind::UnmatchedBrace, brace);
            }
            self.at += 1;
        }
        let written = self.line[start..self.at].to_vec();
        let variable = Variable {
            name,
            at: start,
            word: self.words.len(),
            has_default,
            around: Default::default(),
        };
        let building = self.building();
        let from = building.bytes.len();
        building.bytes.extend(written);
        let range = from..building.bytes.len();
        building.variables.push((variable, range));
        Ok(())
    }

    fn separator(&mut self) -> Result<(), LexError> {
        self.finish_word();
        while matches!(self.peek(0), Some(b' ' | b'\t' | 0x0b | 0x0c | b'\r')) {
            self.at += 1;
        }
        // HAProxy 2.6 counts what stands after the separator, be it nothing or a comment.
        if self.words.len() >= WORDS_MAX {
            let at = self.words.last().map_or(0, |word| word.span.start);
            return self.fail(LexErrorKind::TooManyWords, at);
        }
        Ok(())
    }

    fn finish_word(&mut self) {
        let Some(building) = self.word.take() else {
            return;
        };
        let mut bytes = building.bytes;
        // `\x00` ends the word, as HAProxy's strings are C strings.
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        let opaque = !building.variables.is_empty();
        for (variable, range) in building.variables {
            let before = bytes.get(..range.start).unwrap_or_default();
            let after = bytes.get(range.end..).unwrap_or_default();
            self.variables.push(Variable {
                around: (show_bytes(before), show_bytes(after)),
                ..variable
            });
        }
        let (text, valid) = match String::from_utf8(bytes) {
            Ok(text) => (text, true),
            Err(error) => (show_bytes(error.as_bytes()), false),
        };
        self.words.push(Word {
            text,
            opaque: opaque || !valid,
            span: building.start..self.at,
        });
    }

    fn fail<T>(&self, kind: LexErrorKind, at: usize) -> Result<T, LexError> {
        Err(LexError { kind, at })
    }
}

/// Text with the bytes that are not UTF-8 written `\xHH`.
fn show_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = lex(line.as_bytes()).unwrap();
        words.into_iter().map(|word| word.text).collect()
    }

    fn error(line: &str) -> (LexErrorKind, usize) {
        let error = lex(line.as_bytes()).unwrap_err();
        (error.kind, error.at)
    }

    #[test]
    fn the_five_equal_lines_of_the_manual_are_equal() {
        let lines = [
            r#"log-format %{+Q}o\ %t\ %s\ %{-Q}r"#,
            r#"log-format "%{+Q}o %t %s %{-Q}r""#,
            r#"log-format '%{+Q}o %t %s %{-Q}r'"#,
            r#"log-format "%{+Q}o %t"' %s %{-Q}r'"#,
            r#"log-format "%{+Q}o %t"' %s'\ %{-Q}r"#,
        ];
        for line in lines {
            assert_eq!(words(line), ["log-format", "%{+Q}o %t %s %{-Q}r"], "{line}");
        }
    }

    #[test]
    fn escapes_mean_what_the_manual_says() {
        assert_eq!(
            words(r#"\ \#\\\'\"\n\r\t\x41 $a"#),
            [" #\\'\"\n\r\tA", "$a"]
        );
        assert_eq!(words(r"'a\' \1 \"), ["a\\", "\\1", "\\"]);
        assert_eq!(words(r#"a "" b # c"#), ["a", "", "b"]);
        assert_eq!(words("a#b"), ["a"]);
        assert_eq!(words("a\rb \""), ["a"], "a carriage return ends the line");
        assert_eq!(words(r"a\x00b c"), ["a", "c"], "as a C string ends");
    }

    #[test]
    fn a_variable_is_kept_as_written_and_flagged() {
        let line = br#"bind "fd@${FD-3}" '$A' "\$A" "${L[*]}""#;
        let found = lex(line).unwrap();
        let seen: Vec<_> = found.iter().map(|w| (w.text.as_str(), w.opaque)).collect();
        assert_eq!(
            seen,
            [
                ("bind", false),
                ("fd@${FD-3}", true),
                ("$A", false),
                ("$A", false),
                ("${L[*]}", true)
            ]
        );
        assert_eq!(&line[found[1].span.clone()], br#""fd@${FD-3}""#);
    }

    #[test]
    fn a_variable_is_found_with_what_stands_around_it() {
        let line = br#"bind "${LB_ADDR}:80" '$A' $B x"${C-1}$D""#;
        let (_, found) = lex_with_variables(line).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|v| (v.name.as_str(), v.word, v.has_default, &v.around))
            .collect();
        let around = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        assert_eq!(
            seen,
            [
                ("LB_ADDR", 1, false, &around("", ":80")),
                ("C", 4, true, &around("x", "$D")),
                ("D", 4, false, &around("x${C-1}", "")),
            ]
        );
        assert_eq!(&line[found[0].at..found[0].at + 10], b"${LB_ADDR}");
    }

    #[test]
    fn errors_point_at_the_byte_haproxy_points_at() {
        use LexErrorKind::*;
        assert_eq!(error("foo \"abc"), (UnmatchedQuote, 4));
        assert_eq!(error("foo 'abc\r'"), (UnmatchedQuote, 4));
        assert_eq!(error(r"foo a\xZZ"), (BadHexadecimal, 5));
        assert_eq!(error("foo \"${FOO BAR}\""), (UnmatchedBrace, 6));
        assert_eq!(error("foo \"$0\""), (BadVariableName, 6));
        assert_eq!(error("foo \"$.FOO\""), (BadVariableName, 6));
        assert_eq!(error("foo \"${A[x]}\""), (BadExpansion, 8));
        assert_eq!(error("a\0b"), (Nul, 1));
        assert_eq!(
            lex("w ".repeat(63).trim_end().as_bytes()).unwrap().len(),
            63
        );
        assert_eq!(
            lex("w ".repeat(64).trim_end().as_bytes()).unwrap().len(),
            64
        );
        assert_eq!(error(&"w ".repeat(64)), (TooManyWords, 126));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = lex(&line);
        }

        #[test]
        fn no_tricky_text_makes_it_panic(line in r#"[ a$"'\\#{}x0-9*\[\].\t-]{0,60}"#) {
            if let Ok(words) = lex(line.as_bytes()) {
                for word in words {
                    prop_assert!(line.get(word.span.clone()).is_some());
                }
            }
        }

        #[test]
        fn a_quoted_word_is_read_back_as_one_word(word in r"\PC{0,40}", tricky in r#"[ a$"'\\#{}x0\[\]]{0,20}"#) {
            for word in [word, tricky] {
                if word.chars().any(char::is_control) { continue; }
                let line = format!("a {} b", quote(&word).unwrap());
                let words = lex(line.as_bytes()).unwrap();
                prop_assert_eq!(words.len(), 3);
                prop_assert_eq!(&words[1].text, &word);
                prop_assert!(!words[1].opaque);
            }
        }
    }
}
