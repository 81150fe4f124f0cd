//! Configuration escaping: what a value from the catalog may become in a file, decided by where in
//! the file it lands. Pure.
//!
//! The rules are HAProxy's own (configuration manual 2.6, section 2.2 "Quoting and escaping"):
//! outside quotes a backslash takes the meaning from a blank, `#`, quotes and itself; inside
//! double quotes from `$`, `"` and itself; inside single quotes nothing can be escaped. What keeps
//! a meaning however it is quoted (`%`, a leading `-`, a lone brace, `$` in an address) is refused.
//!
//! An empty value leaves nothing, not even `""`: to HAProxy an empty word ends the line, and the words after it
//! are lost without a word. Where the line would mean something else without it, it is refused ([`line`]).

mod address;
mod line;

use serde::{Deserialize, Serialize};

use address::is_of_variable;
use line::Line;

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The owner of a service, the writer of a key, or of a file.
    Catalog,
    /// The operator: a parameter of the settings or a variable of the environment.
    Operator,
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
    /// It would go on with the name of a variable that the template begins.
    VariableName,
    /// It is more than a host and a port in an address.
    Address,
    /// It stands before the `@` of an address.
    AddressKind,
    /// It leads to another folder in the path of a socket.
    Folder,
    /// It would be an option, such as `-f FILE` of an ACL, or the brace that ends one.
    Option,
    /// It stands inside `(…)` or `[…]`, where other characters have a meaning too.
    Argument,
    /// HAProxy takes no such character in the name of a section or server.
    Name,
    /// It is empty, and the line means something else without it.
    Empty,
    /// It is empty and a part of an address, which is then any host or any port.
    EmptyAddress,
    /// It is empty and a whole argument inside `(…)` or `[…]`.
    EmptyArgument,
    /// It is empty between quotes, which ends the line to HAProxy, and words follow.
    EmptyQuotes,
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
            Refusal::VariableName => {
                "stands in the name of a variable of the environment, which it would choose"
            }
            Refusal::Address => {
                "stands in an address and is more than a host and a port: it could be a path, a socket or a descriptor"
            }
            Refusal::AddressKind => {
                "stands before the `@` of an address, where it would choose the kind"
            }
            Refusal::Folder => {
                "stands in the path of a socket and holds `..`, which leads to another folder"
            }
            Refusal::Option => "would be an option or a brace to HAProxy",
            Refusal::Argument => {
                "stands inside parentheses or brackets and holds more than letters, digits and `_.:/@-`"
            }
            Refusal::Name => {
                "stands in a name and holds more than letters, digits and `_.:-`, which is all that HAProxy takes there"
            }
            Refusal::Empty => "is empty, and the line means something else without it",
            Refusal::EmptyAddress => {
                "is empty and part of an address, which would be any host or any port"
            }
            Refusal::EmptyArgument => "is empty and a whole argument in parentheses or brackets",
            Refusal::EmptyQuotes => {
                "is empty between quotes, where the line ends for HAProxy, and words follow"
            }
        }
    }

    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            Refusal::Control | Refusal::Folder => {
                "Mend the value in the catalog, or leave it out of the template."
            }
            Refusal::Address => {
                "Write `IP:port` or `:port` in the catalog. If a socket is meant, write its kind in the template: unix@{{…}}."
            }
            Refusal::AddressKind => "Write the kind in the template, as in unix@{{…}}.",
            Refusal::VariableName => "Write the whole name in the template: `${NAME}`.",
            Refusal::SingleQuote => "Use double quotes in the template.",
            Refusal::AfterBackslash => "Take the backslash out; values are escaped by themselves.",
            Refusal::BeginsLine => {
                "Write the keyword in the template, or use {{raw …}} if a value must choose it."
            }
            Refusal::Expression | Refusal::Variable | Refusal::Option | Refusal::Argument => {
                "Mend the value in the catalog, or use {{raw …}} if it is meant so."
            }
            Refusal::EndsWord => {
                "Mend the value in the catalog, or use {{raw …}} if it is meant to be several words."
            }
            Refusal::Name => {
                "Write {{backendName Name}} or {{serverName this}}, which make a legal name of any."
            }
            Refusal::Empty | Refusal::EmptyArgument => {
                "Give it a default by {{default … \"…\"}}, or write the words that need it inside {{#if …}}."
            }
            Refusal::EmptyAddress => {
                "Give it a default by {{default … \"…\"}}; `*` is any address of this host."
            }
            Refusal::EmptyQuotes => {
                "Take the quotes out (values are escaped by themselves), or write the word inside {{#if …}}."
            }
        }
    }
}

/// Follows a file while it is written and knows what the next value would mean. Equal ones write
/// the same from here on, if they are given the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escaper {
    grammar: Grammar,
    quotes: Quotes,
    backslash: bool,
    /// Words begun on this line.
    words: usize,
    /// What they are.
    line: Line,
    /// Whether the last byte belongs to a word.
    in_word: bool,
    /// Whether nothing but quotes was written of this word.
    word_empty: bool,
    /// Whether the name of a variable may go on: HAProxy replaces them in double quotes.
    variable: bool,
    /// Parentheses and brackets open in this word.
    depth: usize,
    /// Whether the last byte begins an argument inside of them.
    argument_begins: bool,
    /// An empty value stands where the last byte begins an argument.
    argument_empty: bool,
    /// An empty value, or a block that wrote nothing, is in this word or where it would begin.
    empty: bool,
    /// A word that is empty because of the data ended the line to HAProxy.
    cut: bool,
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
            variable: false,
            words: 0,
            line: Line::new(),
            in_word: false,
            word_empty: true,
            depth: 0,
            argument_begins: false,
            argument_empty: false,
            empty: false,
            cut: false,
        }
    }

    /// Follows text of the template, which may show that an empty value before it cannot be left out.
    pub fn literal(&mut self, text: &str, out: &mut String) -> Result<(), Refusal> {
        out.push_str(text);
        if self.grammar == Grammar::Plain {
            return Ok(());
        }
        // Quotes that were opened before: what stands between was up to a block.
        self.empty |= matches!(self.quotes, Quotes::Double | Quotes::Single) && self.word_empty;
        text.chars().try_for_each(|letter| self.follow(letter))
    }

    fn follow(&mut self, letter: char) -> Result<(), Refusal> {
        if letter == '\n' {
            // A line ends everything: HAProxy knows no continuation.
            self.end_word()?;
            self.words = 0;
            self.line.clear();
            self.quotes = Quotes::None;
            self.backslash = false;
            self.variable = false;
            self.cut = false;
            return Ok(());
        }
        let goes_on = letter == '$' || (self.variable && (letter == '{' || is_of_variable(letter)));
        self.variable = goes_on && self.quotes == Quotes::Double && !self.backslash;
        if std::mem::take(&mut self.backslash) {
            return self.write_literal(letter);
        }
        let haproxy = self.grammar == Grammar::Haproxy;
        match (self.quotes, letter) {
            (Quotes::Comment, _) => Ok(()),
            (Quotes::None, ' ' | '\t' | '\r') => self.end_word(),
            (Quotes::None, '#') if haproxy || (self.words == 0 && !self.in_word) => {
                self.end_word()?;
                self.quotes = Quotes::Comment;
                Ok(())
            }
            (Quotes::None, '\\') if haproxy => {
                self.backslash = true;
                self.begin_word()
            }
            (Quotes::None, '"') if haproxy => {
                self.quotes = Quotes::Double;
                self.begin_word()
            }
            (Quotes::None, '\'') if haproxy => {
                self.quotes = Quotes::Single;
                self.begin_word()
            }
            (Quotes::Double, '\\') => {
                self.backslash = true;
                Ok(())
            }
            (Quotes::Double, '"') | (Quotes::Single, '\'') => {
                self.quotes = Quotes::None;
                Ok(())
            }
            (_, letter) => {
                if self.argument_empty && matches!(letter, ',' | ')' | ']') {
                    return Err(Refusal::EmptyArgument);
                }
                self.write_literal(letter)?;
                match letter {
                    '(' | '[' => self.depth += 1,
                    ')' | ']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                self.argument_begins = matches!(letter, '(' | '[' | ',');
                Ok(())
            }
        }
    }

    /// The word is over, if there is one. One that is empty because of the data must be one that the line can do
    /// without.
    fn end_word(&mut self) -> Result<(), Refusal> {
        self.missing().map_or(Ok(()), Err)?;
        if std::mem::take(&mut self.in_word) {
            // An empty word of the template itself is its own affair.
            self.cut |= self.word_empty && self.empty;
            self.line.end_word();
        }
        self.empty = false;
        self.depth = 0;
        self.argument_begins = false;
        self.argument_empty = false;
        Ok(())
    }

    /// What is wrong if the word ends here.
    pub fn missing(&self) -> Option<Refusal> {
        let vanishes = self.grammar == Grammar::Haproxy
            && self.quotes != Quotes::Comment
            && self.empty
            && (!self.in_word || self.word_empty);
        (vanishes && !self.line.can_do_without()).then_some(Refusal::Empty)
    }

    fn begin_word(&mut self) -> Result<(), Refusal> {
        if !self.in_word {
            if self.cut {
                return Err(Refusal::EmptyQuotes);
            }
            self.in_word = true;
            self.word_empty = true;
            self.words += 1;
        }
        Ok(())
    }

    /// A letter of a word, by the template.
    fn write_literal(&mut self, letter: char) -> Result<(), Refusal> {
        if self.grammar == Grammar::Haproxy {
            self.line.judge_literal(letter)?;
        }
        self.write(letter)
    }

    /// A letter of a word.
    fn write(&mut self, letter: char) -> Result<(), Refusal> {
        self.begin_word()?;
        self.word_empty = false;
        self.argument_begins = false;
        self.argument_empty = false;
        self.line.push(letter);
        Ok(())
    }

    /// Writes a value where the file stands now.
    ///
    /// In a line, one line end at its end is dropped: `consul kv put KEY @FILE` stores that of the file.
    pub fn value(&mut self, value: &str, origin: Origin, out: &mut String) -> Result<(), Refusal> {
        if self.grammar == Grammar::Plain {
            let control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
            if value.split("\r\n").any(|line| line.contains(control)) {
                return Err(Refusal::Control);
            }
            out.push_str(value);
            return Ok(());
        }
        let value = value.strip_suffix('\n').unwrap_or(value);
        let value = value.strip_suffix('\r').unwrap_or(value);
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
            Grammar::Haproxy => self.haproxy_value(value, origin, out),
            Grammar::Map => self.map_value(value, out),
            _ => self.crt_list_value(value, out),
        }
    }

    fn haproxy_value(
        &mut self,
        value: &str,
        origin: Origin,
        out: &mut String,
    ) -> Result<(), Refusal> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.:/@-".contains(letter);
        if value.is_empty() {
            return self.empty_value();
        }
        if value.contains('%') && self.line.takes_formats() {
            return Err(Refusal::Expression);
        }
        if value.contains('$') && self.line.expands_variables() {
            return Err(Refusal::Variable);
        }
        let begins = !self.in_word || self.word_empty;
        match origin {
            Origin::Catalog if self.variable => return Err(Refusal::VariableName),
            Origin::Catalog => self.line.judge_value(value)?,
            Origin::Operator => {
                value
                    .chars()
                    .try_for_each(|letter| self.line.judge_literal(letter))?;
            }
        }
        // Quotes do not help: HAProxy compares the word that is left of them.
        let option = value.starts_with('-') || value == "{" || value == "}";
        if begins && option && self.line.takes_flags() {
            return Err(Refusal::Option);
        }
        // Quotes do not keep it from being the keyword either.
        if self.line.is_keyword() {
            return Err(Refusal::BeginsLine);
        }
        if self.depth > 0 && !value.chars().all(plain) {
            return Err(Refusal::Argument);
        }
        // One illegal name would make HAProxy refuse the whole file.
        let legal = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
        if self.line.is_name() && !value.chars().all(legal) {
            return Err(Refusal::Name);
        }
        self.variable = false;
        let escaped: &[char] = match self.quotes {
            Quotes::Double => &['"', '\\', '$'],
            Quotes::Single if value.contains('\'') => return Err(Refusal::SingleQuote),
            Quotes::Single | Quotes::Comment => &[],
            Quotes::None => &[' ', '#', '\\', '"', '\''],
        };
        for letter in value.chars() {
            if escaped.contains(&letter) {
                out.push('\\');
            }
            out.push(letter);
            self.write(letter)?;
        }
        Ok(())
    }

    /// Nothing is written; what follows decides whether a word is missing.
    fn empty_value(&mut self) -> Result<(), Refusal> {
        if self.line.is_address() {
            return Err(Refusal::EmptyAddress);
        }
        self.argument_empty |= self.argument_begins;
        self.empty = true;
        Ok(())
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
            self.begin_word()?;
        }
        out.push_str(value);
        Ok(())
    }

    fn crt_list_value(&mut self, value: &str, out: &mut String) -> Result<(), Refusal> {
        if value.is_empty() || value.contains([' ', '[', ']', '#']) {
            return Err(Refusal::EndsWord);
        }
        self.begin_word()?;
        out.push_str(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
