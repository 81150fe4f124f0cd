//! A line of HAProxy's configuration, word by word: which words it can do without. Pure.
//!
//! A value that is empty leaves no word, so the word after it takes its place. That is harmless where an
//! option may begin, and among the patterns of an ACL beside others. Anywhere else it could mean something
//! else, or anything: nothing is assumed of a keyword that is not listed here. (HAProxy 2.6 to 3.2,
//! configuration manual 4.2 "acl" to "tcp-response", 5.1, 5.2 and 7.1.)

use super::Refusal;
use super::address::{self, Written};
use crate::haproxy::config::arguments::{of_bind_option, of_server_option};

/// No keyword or option is longer; the rest of a word is not kept.
const LONGEST: usize = 64;

/// Keywords before the name of a section or a server, in which HAProxy takes letters, digits and `_.:-` (2.6 to 3.2,
/// configuration manual 4 "proxies" and 5).
const NAMED: &[&str] = &[
    "backend",
    "default_backend",
    "frontend",
    "listen",
    "peers",
    "server",
    "use-server",
    "use_backend",
    "userlist",
];

/// The words of a line so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    keyword: String,
    /// The word that is being written.
    word: String,
    /// Words before that one: two stands for more.
    ended: u8,
    at: At,
    /// The address that is being written.
    address: Written,
}

/// What the next word is, or the one that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The keyword.
    Keyword,
    /// So many words with a meaning of their own, then what comes after them.
    Names(usize, After),
    /// An address, then options.
    Address(Options),
    /// An option, or so many arguments of the one before.
    Options(Options, usize),
    /// The action of a rule.
    Action,
    /// What an ACL looks at.
    Fetch { anonymous: bool },
    /// Its flags and patterns.
    Patterns {
        anonymous: bool,
        /// The argument of a flag or an operator.
        argument: bool,
        /// Whether there is a pattern already.
        some: bool,
    },
    /// A term of a condition.
    Condition,
    /// A word of which nothing is known; `if` or `unless` begins a condition.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Address(Options),
    Action,
    Fetch,
}

/// Whose options follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Options {
    Server,
    Bind,
    Rule,
    /// None that are known.
    None,
}

impl Line {
    /// Before its first word.
    pub fn new() -> Line {
        Line {
            keyword: String::new(),
            word: String::new(),
            ended: 0,
            at: At::Keyword,
            address: Written::default(),
        }
    }

    /// The line is over.
    pub fn clear(&mut self) {
        self.keyword.clear();
        self.word.clear();
        self.ended = 0;
        self.at = At::Keyword;
        self.address = Written::default();
    }

    /// A letter of the word that is being written.
    pub fn push(&mut self, letter: char) {
        if self.word.len() < LONGEST {
            self.word.push(letter);
        }
    }

    /// The word is complete.
    pub fn end_word(&mut self) {
        self.at = self.after(&self.word);
        self.ended = (self.ended + 1).min(2);
        if self.keyword.is_empty() {
            std::mem::swap(&mut self.keyword, &mut self.word);
        }
        self.word.clear();
        self.address = Written::default();
    }

    /// The first word, as far as it is written.
    pub fn keyword(&self) -> &str {
        match self.at {
            At::Keyword => &self.word,
            _ => &self.keyword,
        }
    }

    /// Whether the next word, or the one that is being written, is the name of a section or a server.
    pub fn is_name(&self) -> bool {
        self.ended == 1 && NAMED.contains(&&*self.keyword)
    }

    /// Whether the next word, or the one that is being written, is the keyword.
    pub fn is_keyword(&self) -> bool {
        self.at == At::Keyword
    }

    /// Whether the next word, or the one that is being written, is an address.
    pub fn is_address(&self) -> bool {
        matches!(self.at, At::Address(_))
    }

    /// Whether HAProxy searches words of this line for variables after the quotes are gone, so that `$` cannot be
    /// escaped.
    pub fn expands_variables(&self) -> bool {
        address::of_keyword(self.keyword()).is_some()
    }

    /// Judges a letter that the template writes here, or a parameter.
    pub fn judge_literal(&mut self, letter: char) -> Result<(), Refusal> {
        if self.is_address() {
            self.address.literal(letter)?;
        }
        Ok(())
    }

    /// Judges a value from the catalog that is to be written here.
    pub fn judge_value(&mut self, value: &str) -> Result<(), Refusal> {
        if self.is_address() {
            self.address.value(value)?;
        }
        Ok(())
    }

    /// Whether the line means what it would mean with the next word, less what only that word says.
    pub fn can_do_without(&self) -> bool {
        match self.at {
            At::Keyword => true,
            At::Options(Options::None, _) => false,
            At::Options(_, arguments) => arguments == 0,
            At::Patterns { argument, some, .. } => some && !argument,
            At::Names(..)
            | At::Address(_)
            | At::Action
            | At::Fetch { .. }
            | At::Condition
            | At::Other => false,
        }
    }

    /// Whether `%` may begin an expression here, which HAProxy evaluates for each request. Patterns, names,
    /// passwords and most options are plain text to it.
    pub fn takes_formats(&self) -> bool {
        let plain = matches!(self.keyword(), "acl" | "bind" | "group" | "peer" | "user")
            || matches!(self.at, At::Patterns { .. });
        !plain
    }

    /// Whether a word that begins with `-`, or is a brace, means something here: not in user lists, and not
    /// as the argument of an option.
    pub fn takes_flags(&self) -> bool {
        let plain =
            matches!(self.keyword(), "group" | "user") || matches!(self.at, At::Options(_, 1..));
        !plain
    }

    /// Where the line stands behind a word.
    fn after(&self, word: &str) -> At {
        match self.at {
            At::Keyword => after_keyword(word),
            At::Names(1, After::Address(_))
                if self.keyword == address::STATS && word != "socket" =>
            {
                after_other(word)
            }
            At::Names(1, After::Address(options)) => At::Address(options),
            At::Names(1, After::Action) => At::Action,
            At::Names(1, After::Fetch) => At::Fetch { anonymous: false },
            At::Names(count, after) => At::Names(count - 1, after),
            At::Address(options) => At::Options(options, 0),
            At::Options(options, 0) if address::follows(&self.keyword, word) => {
                At::Address(options)
            }
            At::Other if address::follows(&self.keyword, word) => At::Address(Options::None),
            At::Options(options, 0) => match options.arguments(word) {
                Some(arguments) => At::Options(options, arguments),
                None => after_other(word),
            },
            At::Options(options, arguments) => At::Options(options, arguments - 1),
            At::Action if ACTIONS.contains(&word) => At::Options(Options::Rule, 0),
            At::Action | At::Other => after_other(word),
            At::Condition if word == "{" => At::Fetch { anonymous: true },
            At::Condition => At::Condition,
            At::Fetch { anonymous } => At::Patterns {
                anonymous,
                argument: false,
                some: false,
            },
            At::Patterns {
                anonymous: true,
                argument: false,
                ..
            } if word == "}" => At::Condition,
            At::Patterns {
                anonymous,
                argument,
                some,
            } => {
                let flag = !argument && word.starts_with('-');
                At::Patterns {
                    anonymous,
                    argument: !argument && WITH_ARGUMENT.contains(&word),
                    // Patterns may all come from a file.
                    some: some
                        || word == "-f"
                        || !(flag || argument || WITH_ARGUMENT.contains(&word)),
                }
            }
        }
    }
}

impl Options {
    fn arguments(self, word: &str) -> Option<usize> {
        match self {
            Options::Server => of_server_option(word),
            Options::Bind => of_bind_option(word),
            Options::Rule => RULE_OPTIONS
                .iter()
                .find(|(name, _)| *name == word)
                .map(|(_, count)| *count),
            Options::None => None,
        }
    }
}

fn after_keyword(word: &str) -> At {
    if let Some(row) = address::of_keyword(word) {
        return match row.names {
            None => At::Options(row.options, 0),
            Some(0) => At::Address(row.options),
            Some(names) => At::Names(names, After::Address(row.options)),
        };
    }
    match word {
        "default-bind" => At::Options(Options::Bind, 0),
        "acl" => At::Names(1, After::Fetch),
        "http-request" | "http-response" | "http-after-response" => At::Action,
        "tcp-request" | "tcp-response" => At::Names(1, After::Action),
        "redirect" => At::Options(Options::Rule, 0),
        _ => At::Other,
    }
}

fn after_other(word: &str) -> At {
    match word {
        "if" | "unless" => At::Condition,
        _ => At::Other,
    }
}

/// Actions that take options only.
const ACTIONS: &[&str] = &[
    "accept",
    "allow",
    "auth",
    "deny",
    "redirect",
    "reject",
    "return",
    "silent-drop",
    "tarpit",
];

/// The options of these actions, each with the count of its arguments.
const RULE_OPTIONS: &[(&str, usize)] = &[
    ("append-slash", 0),
    ("clear-cookie", 1),
    ("code", 1),
    ("content-type", 1),
    ("default-errorfiles", 0),
    ("deny_status", 1),
    ("drop-query", 0),
    ("errorfile", 1),
    ("errorfiles", 1),
    ("file", 1),
    ("hdr", 2),
    ("ignore-empty", 0),
    ("lf-file", 1),
    ("lf-string", 1),
    ("location", 1),
    ("prefix", 1),
    ("realm", 1),
    ("rst-ttl", 1),
    ("scheme", 1),
    ("set-cookie", 1),
    ("status", 1),
    ("string", 1),
];

/// Flags of an ACL and operators between its patterns that take the next word.
const WITH_ARGUMENT: &[&str] = &["-f", "-m", "-u", "eq", "ge", "gt", "le", "lt"];

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> Line {
        let mut line = Line::new();
        for word in words.split_whitespace() {
            word.chars().for_each(|letter| line.push(letter));
            line.end_word();
        }
        line
    }

    #[test]
    fn an_option_can_be_left_out() {
        for words in [
            "",
            "server s 10.0.0.1:80",
            "server s 10.0.0.1:80 check inter 2s",
            "server s 10.0.0.1:80 set-proxy-v2-tlv-fmt(0x20) %[src]",
            "server-template s 1-3 api.local:80 check",
            "default-server",
            "peer p 10.0.0.1:1024",
            "bind :80",
            "bind :443 ssl crt /x.pem",
            "http-request allow",
            "http-request deny deny_status 429",
            "http-request return status 200 hdr a b",
            "tcp-request connection reject",
            "http-response redirect location /x",
            "acl a src 10.0.0.1",
            "acl a src -f /x.lst",
            "acl a hdr(host) -i -m beg a",
            "use_backend b if { src 10.0.0.1",
            "http-request deny unless { path /a } { src 10.0.0.1",
        ] {
            assert!(line(words).can_do_without(), "{words}");
        }
    }

    #[test]
    fn a_word_with_a_meaning_of_its_own_cannot_be_left_out() {
        for words in [
            "server",
            "server s",
            "server s 10.0.0.1:80 sni",
            "server s 10.0.0.1:80 new-in-4.0",
            "server s 10.0.0.1:80 new-in-4.0 check",
            "server-template s",
            "peer p",
            "bind",
            "bind :443 ssl crt",
            "http-request",
            "http-request set-header X-A",
            "http-request set-header X-A b",
            "http-request deny if",
            "http-request deny if a",
            "http-request deny unless { src",
            "http-request deny unless { src -i",
            "http-request deny unless { src 10.0.0.1 }",
            "tcp-request",
            "tcp-request content",
            "acl a",
            "acl a src",
            "acl a src -f",
            "acl a hdr(host) -m",
            "acl a sc0_conn_rate gt",
            "acl a src -u 5",
            "use_backend",
            "use_backend b",
            "timeout client",
            "log",
            "log 10.0.0.1:514",
            "user u password",
            "backend",
        ] {
            assert!(!line(words).can_do_without(), "{words}");
        }
    }

    #[test]
    fn formats_and_flags_mean_something_only_where_haproxy_takes_them() {
        for (words, formats, flags) in [
            ("", true, true),
            ("user u insecure-password", false, false),
            ("group g users", false, false),
            ("acl a path_beg", false, true),
            ("http-request deny if { path_beg", false, true),
            ("http-request deny if", true, true),
            ("http-request set-header X-A", true, true),
            ("bind :443 ssl crt", false, false),
            ("bind :443", false, true),
            ("server s a:1 cookie", true, false),
            ("server s a:1", true, true),
            ("log-format", true, true),
        ] {
            let line = line(words);
            assert_eq!(line.takes_formats(), formats, "{words}");
            assert_eq!(line.takes_flags(), flags, "{words}");
        }
    }

    #[test]
    fn addresses_are_known_by_their_place() {
        for words in [
            "server s",
            "server-template s 1-3",
            "dispatch",
            "bind",
            "dgram-bind",
            "peer p",
            "log",
            "log-stderr",
            "nameserver n",
            "mailer m",
            "source",
            "source 10.0.0.1 usesrc",
            "stats socket",
            "ocsp-update.httpproxy",
            "server s a:1 check addr",
            "server s a:1 agent-check agent-addr",
            "server s a:1 socks4",
            "server s a:1 source",
            "server s a:1 source 10.0.0.1:1-9 usesrc",
            "server s a:1 new-in-4.0 addr",
            "server-template s 1-3 api.local:80 addr",
            "peer p a:1 source",
            "default-server check addr",
            "tcp-check connect port 80 addr",
            "http-check connect default addr",
        ] {
            assert!(line(words).is_address(), "{words}");
        }
        for words in [
            "server",
            "server s a",
            "server s a:1 cookie",
            "server s a:1 addr 10.0.0.1",
            "bind a",
            "stats",
            "stats uri",
            "stats socket /x",
            "stats socket /x level",
            "http-request set-header addr",
            "use_backend",
        ] {
            assert!(!line(words).is_address(), "{words}");
        }
    }
}
