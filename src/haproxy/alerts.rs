//! What HAProxy says when it validates or loads a configuration, as findings with a place. The formats
//! were recorded on HAProxy 2.6.12, 2.8.25, 3.0.11 and 3.2.26. It starts nothing and trusts
//! nothing: the bytes may be anything, any length.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Finding;
use super::config::Config;
use super::redact;
use crate::diagnostic::Severity;

/// No more than this is read of what HAProxy says.
const INPUT_MAX: usize = 64 * 1024;
/// No more findings than this are kept; HAProxy itself stops at about 50 alerts.
const FINDINGS_MAX: usize = 100;
/// Longer messages are cut, in characters.
const MESSAGE_MAX: usize = 1_000;

/// How the last lines begin, that sum up.
const VERDICTS: [&str; 3] = [
    "Warnings were found",
    "Configuration file is valid",
    "Configuration file has no error",
];

/// What is needed to find the places that HAProxy means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places<'a> {
    /// The path that HAProxy was given for a file → the path the file is meant for.
    pub destinations: Option<&'a BTreeMap<PathBuf, PathBuf>>,
    /// The configuration under its destination paths, for the messages that name only a proxy or a
    /// server.
    pub config: Option<&'a Config>,
    /// Further secrets that HAProxy may quote: values of its environment.
    pub secrets: &'a [String],
}

/// What the master says to `reload` (HAProxy 2.7 and newer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadReply {
    /// `Success=1`: the new worker runs. With its warnings.
    Loaded(Vec<Finding>),
    /// `Success=0`: the old worker still runs. With the reasons.
    Refused(Vec<Finding>),
    /// Nothing, or something else: 2.6 always, and any version while another reload runs. The state
    /// must be read.
    Unknown(String),
}

/// The findings in what `haproxy -c` wrote. Noise (notices, the summaries after an error) is
/// dropped; when nothing but a summary is left, it is the finding.
pub fn parse(stderr: &[u8], stdout: &[u8], places: Places<'_>) -> Vec<Finding> {
    let mut messages = messages(stderr);
    messages.extend(messages_of_stdout(stdout));
    let (summaries, mut rest): (Vec<Message>, Vec<Message>) = messages
        .into_iter()
        .partition(|message| message.is_summary());
    let has_error = rest.iter().any(|m| m.severity == Severity::Error);
    let mut summary = summaries
        .into_iter()
        .find(|m| !has_error && m.severity == Severity::Error);
    // The reason may be called a warning: 3.2 says no more of a `program` section, which it refuses.
    let at_a_place = |m: &Message| located(&m.text).0.is_some();
    if summary.as_ref().is_some_and(Message::is_of_parsing) && rest.iter().any(at_a_place) {
        summary = None;
        for reason in rest.iter_mut().filter(|m| at_a_place(m)) {
            reason.severity = Severity::Error;
        }
    }
    let secrets = match rest.is_empty() {
        true => Vec::new(),
        false => {
            let of_config = places.config.map(redact::secrets).unwrap_or_default();
            let mut all = [of_config.as_slice(), places.secrets].concat();
            all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
            all
        }
    };
    let mut findings: Vec<Finding> = Vec::new();
    for message in rest.into_iter().chain(summary).take(FINDINGS_MAX) {
        let finding = message.finding(places, &secrets);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// The verdict in the master's answer to `reload`.
pub fn reload_reply(reply: &[u8], places: Places<'_>) -> ReloadReply {
    let text = String::from_utf8_lossy(&reply[..reply.len().min(INPUT_MAX)]);
    let text = text.trim_start();
    let after = |verdict: &str| text.strip_prefix(verdict);
    if let Some(rest) = after("Success=1") {
        ReloadReply::Loaded(parse(rest.as_bytes(), b"", places))
    } else if let Some(rest) = after("Success=0") {
        let mut findings = parse(rest.as_bytes(), b"", places);
        if !findings.iter().any(|f| f.severity == Severity::Error) {
            findings.push(without_reason(rest));
        }
        ReloadReply::Refused(findings)
    } else {
        ReloadReply::Unknown(printable(&redact::hide(text.trim_end(), &[])))
    }
}

/// A refusal that names no error, with what it says.
fn without_reason(said: &str) -> Finding {
    let said = said.trim().trim_start_matches("--").trim();
    Finding {
        severity: Severity::Error,
        code: "haproxy",
        message: match said {
            "" => "HAProxy did not load the configuration and gave no reason.".to_owned(),
            said => printable(&redact::hide(
                &format!("HAProxy did not load the configuration: {said}"),
                &[],
            )),
        },
        file: None,
        line: 0,
        column: 0,
        help: None,
    }
}

struct Message {
    severity: Severity,
    text: String,
    echoes: bool,
}

/// Messages with their continuation lines.
fn messages(bytes: &[u8]) -> Vec<Message> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(INPUT_MAX)]);
    let mut messages: Vec<Message> = Vec::new();
    let mut in_noise = true;
    for line in text.lines() {
        match header(line) {
            Some((Some(severity), text)) => {
                in_noise = false;
                messages.push(Message {
                    severity,
                    echoes: echoes_the_line(text),
                    text: text.to_owned(),
                });
            }
            Some((None, _)) => in_noise = true,
            None => {
                let continued = line.trim_start().trim_start_matches('|').trim();
                // The last words, which may stand on either output.
                if VERDICTS.iter().any(|start| continued.starts_with(start)) {
                    in_noise = true;
                }
                if !in_noise
                    && !continued.is_empty()
                    && let Some(message) = messages.last_mut().filter(|message| !message.echoes)
                {
                    message.text.push(' ');
                    message.text.push_str(continued);
                }
            }
        }
    }
    messages
}

/// Severity (none for noise) and text of a line `[ALERT]    (123) : config : text`.
fn header(line: &str) -> Option<(Option<Severity>, &str)> {
    let (level, rest) = line.strip_prefix('[')?.split_once(']')?;
    let severity = match level {
        "EMERG" | "ALERT" => Some(Severity::Error),
        "WARNING" | "DIAG" => Some(Severity::Warning),
        "NOTICE" | "INFO" | "DEBUG" => None,
        _ => return None,
    };
    let (pid, text) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let text = text.trim_start().strip_prefix(':')?.trim_start();
    let text = text.strip_prefix("config : ").unwrap_or(text);
    Some((severity, text.trim()))
}

/// The tokenizer's errors are followed by the line itself and a caret.
fn echoes_the_line(text: &str) -> bool {
    text.ends_with(':') && text.contains(POSITION)
}

/// Before a column, from 1.
const POSITION: &str = " at position ";

fn messages_of_stdout(bytes: &[u8]) -> Option<Message> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(INPUT_MAX)]);
    let line = text.lines().find(|line| line.contains("will not start"))?;
    Some(Message {
        severity: Severity::Error,
        text: line.trim().to_owned(),
        echoes: false,
    })
}

/// How a summary begins after which nothing was loaded, because a file could not be read.
const OF_PARSING: [&str; 2] = [
    "Error(s) found in configuration file",
    "Fatal errors found in configuration",
];

impl Message {
    fn is_of_parsing(&self) -> bool {
        let (_, text) = located(&self.text);
        OF_PARSING.iter().any(|start| text.starts_with(start))
    }

    fn is_summary(&self) -> bool {
        let starts = [
            "Configuration file has no error but will not start",
            "Failed to initialize server(s) addr",
            "Loading failure!",
            "Failed to load worker",
            "Former worker",
            "Current worker",
            "A worker process unexpectedly died",
            "too many fatal errors",
        ];
        let (_, text) = located(&self.text);
        self.is_of_parsing() || starts.iter().any(|start| text.starts_with(start))
    }

    fn finding(self, places: Places<'_>, secrets: &[String]) -> Finding {
        let (place, text) = located(&self.text);
        let column = column(text);
        let (file, line) = match place {
            Some((path, line)) => (Some(destination(&path, places)), line),
            None => match places.config.and_then(|config| search(&self.text, config)) {
                Some((path, line)) => (Some(path), line),
                None => (None, 0),
            },
        };
        let mut message = text.to_owned();
        if let Some((before, after)) = text.rsplit_once(POSITION).filter(|_| column > 0) {
            let after = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
            message = format!("{before}{}", after.trim_end_matches(':'));
        }
        for (staged, destination) in places.destinations.into_iter().flatten() {
            let (from, to) = (staged.to_string_lossy(), destination.to_string_lossy());
            message = message.replace(from.as_ref(), to.as_ref());
        }
        if message.trim().is_empty() {
            message = "HAProxy gives no reason".to_owned();
        }
        Finding {
            severity: self.severity,
            code: "haproxy",
            message: printable(&redact::hide(&message, secrets)),
            file,
            line,
            column,
            help: None,
        }
    }
}

/// Cuts `parsing [FILE:LINE] : ` off the front of a message. A place elsewhere in it counts too, but
/// the text stays.
fn located(text: &str) -> (Option<(PathBuf, usize)>, &str) {
    let mut rest = text;
    let mut found = None;
    // Some messages say it twice.
    while let Some((place, after)) = front(rest) {
        found = found.or(Some(place));
        rest = after;
    }
    if found.is_some() {
        return (found, rest);
    }
    let elsewhere = text.split('[').skip(1).find_map(|part| {
        let (place, _) = part.split_once(']')?;
        path_and_line(place)
    });
    (elsewhere, text)
}

/// A place at the front of a message, and what follows.
fn front(text: &str) -> Option<((PathBuf, usize), &str)> {
    let bare = text
        .strip_prefix("parsing ")
        .or_else(|| text.strip_prefix("Parsing "))
        .unwrap_or(text);
    let (place, rest) = bare.strip_prefix('[')?.split_once(']')?;
    Some((path_and_line(place)?, rest.trim_start_matches([' ', ':'])))
}

fn path_and_line(text: &str) -> Option<(PathBuf, usize)> {
    let (path, line) = text.rsplit_once(':')?;
    let line = line.parse().ok()?;
    (!path.is_empty()).then(|| (PathBuf::from(path), line))
}

fn column(text: &str) -> usize {
    let after = |mark: &str| text.rsplit_once(mark).map(|(_, after)| after);
    let digits = after(POSITION).or_else(|| after(", position "));
    let digits = digits.unwrap_or_default();
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

fn destination(path: &Path, places: Places<'_>) -> PathBuf {
    let known = places.destinations.and_then(|map| map.get(path));
    known.cloned().unwrap_or_else(|| path.to_owned())
}

/// The line that a message without a place means, by the proxy or the server it names.
fn search(text: &str, config: &Config) -> Option<(PathBuf, usize)> {
    let quoted = |mark: &str| {
        let after = &text[text.find(mark)? + mark.len()..];
        after.split_once('\'').map(|(name, _)| name)
    };
    if let Some((backend, server)) = quoted("'server ").and_then(|both| both.split_once('/')) {
        let backends = config.backends();
        let backend = backends.iter().find(|b| b.name == backend)?;
        let line = backend.servers.iter().find(|s| s.name == server)?.line;
        return Some((config.path(backend.file).to_owned(), line));
    }
    let kinds = [
        ("Proxy '", "proxy"),
        ("frontend '", "frontend"),
        ("backend '", "backend"),
        ("listen '", "listen"),
        ("proxy '", "proxy"),
    ];
    let (name, kind) = kinds
        .iter()
        .find_map(|(mark, kind)| Some((quoted(mark)?, *kind)))?;
    let section = config.sections.iter().find(|section| {
        let proxy = section.is_frontend() || section.is_backend();
        let fits = match kind {
            "frontend" => section.is_frontend(),
            "backend" => section.is_backend(),
            "listen" => section.kind == "listen",
            _ => proxy,
        };
        section.name == name && fits
    });
    // Both halves may have the same name: a missing backend is the frontend's.
    let section = section?;
    let wanted = quoted("default_backend: '")
        .map(|name| ("default_backend", name))
        .or_else(|| quoted("use_backend: '").map(|name| ("use_backend", name)));
    let directive = wanted.and_then(|(keyword, name)| {
        let of_name = config.sections.iter().filter(|s| s.name == section.name);
        of_name
            .filter(|s| s.is_frontend())
            .flat_map(|s| s.all(keyword).map(move |d| (s, d)))
            .find(|(_, d)| d.word(1) == Some(name))
    });
    let (file, line) = match directive {
        Some((section, directive)) => (section.file, directive.line),
        None => (section.file, section.line),
    };
    Some((config.path(file).to_owned(), line))
}

/// The text without control characters, and not too long.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count >= MESSAGE_MAX {
            shown.push('…');
            break;
        }
        match character {
            '\t' | '\n' | '\r' => shown.push(' '),
            c if c.is_control() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
