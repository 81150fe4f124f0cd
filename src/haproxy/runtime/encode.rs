//! A command's text on HAProxy's command line.
//!
//! This is the one place where values become commands, so what could be taken for more than one
//! word or one command is refused here, whoever made the value. Never repairs a value.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::command::{Command, ServerRef};
use crate::text::shortened;

/// The longest text of one command with its payload, in bytes. HAProxy takes up to `tune.bufsize`
/// (16,384 unless set); 2.6 drops a longer payload silently.
pub const COMMAND_LIMIT: usize = 12_000;

/// The most words that one command may have (`MAX_CLI_ARGS`). 2.6 to 3.0 drop what is beyond
/// silently, and answer that the server is registered.
const WORDS_LIMIT: usize = 64;

/// Why a command cannot be said. Nothing of it is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unspeakable {
    /// A value holds a character that ends a word, a command or a line, or none at all.
    #[error(
        "HAProxy's command line cannot carry {what} {value:?}: it is empty or holds a character that would end it. Reload HAProxy instead."
    )]
    Value {
        /// What it is: `the server's name`, `the map's file name`, …
        what: &'static str,
        /// The value, shortened.
        value: String,
    },
    /// A weight above 256.
    #[error("HAProxy takes weights from 0 to 256, not {weight}.")]
    Weight {
        /// The weight.
        weight: u16,
    },
    /// More words than HAProxy reads of one command.
    #[error(
        "HAProxy reads at most 64 words of one command; this one has {words}. Reload HAProxy instead."
    )]
    Words {
        /// How many there are.
        words: usize,
    },
    /// Longer than HAProxy's buffer is sure to hold.
    #[error(
        "A command of {length} bytes is longer than the {COMMAND_LIMIT} that HAProxy's buffer is sure to hold. Reload HAProxy instead."
    )]
    Long {
        /// Its length in bytes.
        length: usize,
    },
}

impl Command {
    /// What to write, each line with its end. Refused is whatever could be read as more than one
    /// word where one is meant, or as more than this command.
    pub fn encode(&self) -> Result<String, Unspeakable> {
        let mut text = String::new();
        self.write(&mut text)?;
        let words = text.lines().next().unwrap_or_default().split(' ').count();
        if words > WORDS_LIMIT {
            return Err(Unspeakable::Words { words });
        }
        if text.len() > COMMAND_LIMIT {
            return Err(Unspeakable::Long { length: text.len() });
        }
        Ok(text)
    }

    /// How many prompts HAProxy answers it with: one for each of its lines that is a command.
    pub(super) fn prompts(&self) -> usize {
        match self {
            Command::SetVariable { .. } => 2,
            _ => 1,
        }
    }

    fn write(&self, text: &mut String) -> Result<(), Unspeakable> {
        match self {
            Command::AddServer {
                at,
                address,
                port,
                options,
            } => {
                let at = server(at)?;
                line(
                    text,
                    format_args!("add server {at} {}", endpoint(*address, *port)),
                );
                text.pop();
                for each in options.iter().flatten() {
                    let _ = write!(text, " {}", word("the server option", each)?);
                }
                text.push('\n');
            }
            Command::DeleteServer(at) => line(text, format_args!("del server {}", server(at)?)),
            Command::EnableServer(at) => line(text, format_args!("enable server {}", server(at)?)),
            Command::EnableHealth(at) => line(text, format_args!("enable health {}", server(at)?)),
            Command::EnableAgent(at) => line(text, format_args!("enable agent {}", server(at)?)),
            Command::SetAddress { at, address, port } => line(
                text,
                format_args!("set server {} addr {address} port {port}", server(at)?),
            ),
            Command::SetWeight { at, weight } => {
                if *weight > 256 {
                    return Err(Unspeakable::Weight { weight: *weight });
                }
                line(
                    text,
                    format_args!("set server {} weight {weight}", server(at)?),
                );
            }
            Command::SetState { at, state } => line(
                text,
                format_args!("set server {} state {}", server(at)?, state.word()),
            ),
            Command::SetHealthDown(at) => {
                line(text, format_args!("set server {} health down", server(at)?));
            }
            Command::ShutdownSessions(at) => {
                line(
                    text,
                    format_args!("shutdown sessions server {}", server(at)?),
                );
            }
            Command::PrepareMap { map } => line(text, format_args!("prepare map {}", file(map)?)),
            Command::AddMapEntries {
                map,
                version,
                entries,
            } => {
                line(text, format_args!("add map @{version} {} <<", file(map)?));
                for (key, value) in entries {
                    let key = payload_key(key)?;
                    let value = payload_line("the map value", value)?;
                    line(text, format_args!("{key} {value}"));
                }
                text.push('\n');
            }
            Command::CommitMap { map, version } => {
                line(text, format_args!("commit map @{version} {}", file(map)?));
            }
            Command::ClearMapVersion { map, version } => {
                line(text, format_args!("clear map @{version} {}", file(map)?));
            }
            Command::SetMapEntry { map, key, value } => {
                let (map, key) = (file(map)?, word("the map key", key)?);
                let value = word("the map value", value)?;
                line(text, format_args!("set map {map} {key} {value}"));
            }
            Command::AddMapEntry { map, key, value } => {
                let (map, key) = (file(map)?, word("the map key", key)?);
                let value = word("the map value", value)?;
                line(text, format_args!("add map {map} {key} {value}"));
            }
            Command::DeleteMapEntry { map, key } => {
                let (map, key) = (file(map)?, word("the map key", key)?);
                line(text, format_args!("del map {map} {key}"));
            }
            Command::PrepareAcl { acl } => line(text, format_args!("prepare acl {}", file(acl)?)),
            Command::AddAclPattern {
                acl,
                version,
                pattern,
            } => {
                let (acl, pattern) = (file(acl)?, escaped("the pattern", pattern)?);
                line(text, format_args!("add acl @{version} {acl} {pattern}"));
            }
            Command::CommitAcl { acl, version } => {
                line(text, format_args!("commit acl @{version} {}", file(acl)?));
            }
            Command::ClearAclVersion { acl, version } => {
                line(text, format_args!("clear acl @{version} {}", file(acl)?));
            }
            Command::NewCertificate { file: name } => {
                line(text, format_args!("new ssl cert {}", file(name)?));
            }
            Command::SetCertificate { file: name, pem } => {
                line(text, format_args!("set ssl cert {} <<", file(name)?));
                write_pem(text, pem.as_str())?;
                text.push('\n');
            }
            Command::CommitCertificate { file: name } => {
                line(text, format_args!("commit ssl cert {}", file(name)?));
            }
            Command::AbortCertificate { file: name } => {
                line(text, format_args!("abort ssl cert {}", file(name)?));
            }
            Command::DeleteCertificate { file: name } => {
                line(text, format_args!("del ssl cert {}", file(name)?));
            }
            Command::AddCrtListLine { list, line: entry } => {
                line(text, format_args!("add ssl crt-list {} <<", file(list)?));
                let entry = payload_line("the line of the crt-list", entry)?;
                line(text, format_args!("{entry}\n"));
            }
            Command::DeleteCrtListLine { list, file: name } => {
                let (list, name) = (file(list)?, file(name)?);
                line(text, format_args!("del ssl crt-list {list} {name}"));
            }
            Command::SetVariable { name, value } => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                let name = chosen("the variable's name", name, plain)?;
                let value = chosen("the variable's value", value, plain)?;
                line(text, format_args!("experimental-mode on"));
                line(text, format_args!("set var {name} str({value})"));
            }
        }
        Ok(())
    }
}

fn line(text: &mut String, words: fmt::Arguments<'_>) {
    let _ = text.write_fmt(words);
    text.push('\n');
}

fn endpoint(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// HAProxy allows the same letters in the names of backends and servers, in files and commands
/// (`invalid_char`, 2.6 to 3.2), and none of them means anything on the command line.
fn server(at: &ServerRef) -> Result<&ServerRef, Unspeakable> {
    backend(&at.backend)?;
    chosen("the server's name", &at.server, is_name_byte)?;
    Ok(at)
}

pub(super) fn backend(name: &str) -> Result<&str, Unspeakable> {
    chosen("the backend's name", name, is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)
}

/// A file name that a command takes for one: `@1` would be a version, `#0` an id.
pub(super) fn file(name: &str) -> Result<&str, Unspeakable> {
    match name.starts_with('@') {
        true => Err(unspeakable("the file name", name)),
        false => word("the file name", name),
    }
}

/// One word: `;` ends a command, a blank a word, `\` makes a letter of either, `<<` begins a
/// payload and `#` an id or a comment.
fn word<'a>(what: &'static str, value: &'a str) -> Result<&'a str, Unspeakable> {
    if value.starts_with('#') || value.contains("<<") {
        return Err(unspeakable(what, value));
    }
    chosen(what, value, |byte| {
        byte.is_ascii_graphic() && byte != b';' && byte != b'\\'
    })
}

/// One word that may hold blanks, `;` and `\`, each behind a `\` (2.6 to 3.2, by experiment).
fn escaped(what: &'static str, value: &str) -> Result<String, Unspeakable> {
    let ends = value.starts_with('#') || value.contains("<<");
    if value.is_empty() || ends || value.chars().any(char::is_control) {
        return Err(unspeakable(what, value));
    }
    let mut word = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, ' ' | ';' | '\\') {
            word.push('\\');
        }
        word.push(letter);
    }
    Ok(word)
}

/// One line of a payload, or the last part of one. HAProxy reads a payload as it is, up to an empty
/// line, but drops blanks around its parts.
fn payload_line<'a>(what: &'static str, value: &'a str) -> Result<&'a str, Unspeakable> {
    let blank = value.starts_with(' ') || value.ends_with(' ');
    match value.is_empty() || blank || value.chars().any(char::is_control) {
        true => Err(unspeakable(what, value)),
        false => Ok(value),
    }
}

/// The key of a payload's line. A `#` makes no comment here (2.6 to 3.2, by experiment).
fn payload_key(key: &str) -> Result<&str, Unspeakable> {
    match key.contains(' ') {
        true => Err(unspeakable("the map key", key)),
        false => payload_line("the map key", key),
    }
}

/// Certificates and keys without empty lines, one of which would end the payload.
fn write_pem(text: &mut String, pem: &str) -> Result<(), Unspeakable> {
    let before = text.len();
    for each in pem.lines().map(str::trim).filter(|each| !each.is_empty()) {
        // The key in it must not get into a message.
        if !each
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            return Err(unspeakable("the certificate", "…"));
        }
        line(text, format_args!("{each}"));
    }
    match text.len() > before {
        true => Ok(()),
        false => Err(unspeakable("the certificate", "")),
    }
}

fn chosen<'a>(
    what: &'static str,
    value: &'a str,
    allowed: impl Fn(u8) -> bool,
) -> Result<&'a str, Unspeakable> {
    match !value.is_empty() && value.bytes().all(allowed) {
        true => Ok(value),
        false => Err(unspeakable(what, value)),
    }
}

fn unspeakable(what: &'static str, value: &str) -> Unspeakable {
    Unspeakable::Value {
        what,
        value: shortened(value, 80),
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::ServerState;
    use super::*;
    use proptest::prelude::*;

    fn at() -> ServerRef {
        ServerRef::new("b", "web-1")
    }

    fn add(options: &[&[&str]]) -> Command {
        Command::AddServer {
            at: at(),
            address: "2001:db8::1".parse().unwrap(),
            port: 80,
            options: options
                .iter()
                .map(|words| words.iter().map(|word| (*word).to_owned()).collect())
                .collect(),
        }
    }

    #[test]
    fn commands_are_written_as_haproxy_reads_them() {
        for (command, text) in [
            (
                add(&[&["check"], &["weight", "5"], &["sni", "req.hdr(host)"]]),
                "add server b/web-1 [2001:db8::1]:80 check weight 5 sni req.hdr(host)\n",
            ),
            (Command::DeleteServer(at()), "del server b/web-1\n"),
            (
                Command::SetAddress {
                    at: at(),
                    address: [10, 0, 0, 1].into(),
                    port: 8080,
                },
                "set server b/web-1 addr 10.0.0.1 port 8080\n",
            ),
            (
                Command::SetState {
                    at: at(),
                    state: ServerState::Drain,
                },
                "set server b/web-1 state drain\n",
            ),
            (
                Command::AddMapEntries {
                    map: "/m.map".into(),
                    version: 3,
                    entries: vec![("/a;b".into(), "one two".into()), ("k".into(), "#v".into())],
                },
                "add map @3 /m.map <<\n/a;b one two\nk #v\n\n",
            ),
            (
                Command::AddAclPattern {
                    acl: "/a.acl".into(),
                    version: 2,
                    pattern: "/a b;c\\d ".into(),
                },
                "add acl @2 /a.acl /a\\ b\\;c\\\\d\\ \n",
            ),
            (
                Command::SetCertificate {
                    file: "/a.pem".into(),
                    pem: "A\r\n\n  \nB".into(),
                },
                "set ssl cert /a.pem <<\nA\nB\n\n",
            ),
            (
                Command::SetVariable {
                    name: "proc.x".into(),
                    value: "0a1b".into(),
                },
                "experimental-mode on\nset var proc.x str(0a1b)\n",
            ),
        ] {
            assert_eq!(command.encode().as_deref(), Ok(text));
        }
    }

    // H04 H05
    #[test]
    fn what_the_command_line_cannot_carry_is_refused() {
        for value in [
            "", "a b", "a;b", "a\nb", "a\\b", "a<<", "#0", "é", "a\tb", "a\u{7f}",
        ] {
            let refused = |command: Command| {
                assert!(
                    matches!(command.encode(), Err(Unspeakable::Value { .. })),
                    "{value:?}"
                );
            };
            refused(Command::EnableServer(ServerRef::new("b", value)));
            refused(Command::EnableServer(ServerRef::new(value, "s")));
            refused(add(&[&["weight", value]]));
            refused(Command::PrepareMap { map: value.into() });
            refused(Command::PrepareAcl { acl: value.into() });
            refused(Command::DeleteMapEntry {
                map: "/m".into(),
                key: value.into(),
            });
            refused(Command::SetVariable {
                name: "proc.x".into(),
                value: value.into(),
            });
        }
        for value in ["", "#0", "a<<b", "a\nb", "a\tb", "a\u{7f}"] {
            let add = Command::AddAclPattern {
                acl: "/a".into(),
                version: 1,
                pattern: value.into(),
            };
            assert!(add.encode().is_err(), "{value:?}");
        }
        let weight = Command::SetWeight {
            at: at(),
            weight: 257,
        };
        assert_eq!(weight.encode(), Err(Unspeakable::Weight { weight: 257 }));
        let many = vec![["weight", "5"].as_slice(); 31];
        assert_eq!(add(&many).encode(), Err(Unspeakable::Words { words: 66 }));
        assert!(add(&many[1..]).encode().is_ok());
        assert!(Command::PrepareMap { map: "@1".into() }.encode().is_err());
        let long = Command::PrepareMap {
            map: "m".repeat(COMMAND_LIMIT),
        };
        assert!(matches!(long.encode(), Err(Unspeakable::Long { .. })));
    }

    #[test]
    fn a_key_never_gets_into_a_message() {
        let pem = "-----BEGIN PRIVATE KEY-----\nSECRET\u{0}\n";
        let command = Command::SetCertificate {
            file: "/a".into(),
            pem: pem.into(),
        };
        assert!(!format!("{command:?}").contains("SECRET"));
        assert!(!command.encode().unwrap_err().to_string().contains("SECRET"));
    }

    #[test]
    fn a_long_map_is_split_in_order() {
        let entries: Vec<(String, String)> = (0..5_000)
            .map(|number| (format!("/key{number}"), format!("value {number}")))
            .collect();
        let commands = Command::add_map_entries("/m.map", u32::MAX, entries.clone());
        assert!(commands.len() > 5 && commands.len() < 20);
        let mut whole = Vec::new();
        for command in commands {
            assert!(command.encode().is_ok());
            let Command::AddMapEntries { entries, .. } = command else {
                panic!("{command:?}");
            };
            whole.extend(entries);
        }
        assert_eq!(whole, entries);
        assert!(Command::add_map_entries("/m.map", 1, []).is_empty());
    }

    /// Every command with `value` wherever a text can stand.
    fn with_everywhere(value: &str) -> Vec<Command> {
        let text = || value.to_owned();
        let server = || ServerRef::new(value, value);
        let (map, key, file, list) = (text, text, text, text);
        vec![
            Command::AddServer {
                at: at(),
                address: [127, 0, 0, 1].into(),
                port: 1,
                options: vec![vec![text(), text()]],
            },
            Command::AddServer {
                at: server(),
                address: [127, 0, 0, 1].into(),
                port: 1,
                options: Vec::new(),
            },
            Command::DeleteServer(server()),
            Command::EnableServer(server()),
            Command::EnableHealth(server()),
            Command::EnableAgent(server()),
            Command::SetAddress {
                at: server(),
                address: [127, 0, 0, 1].into(),
                port: 1,
            },
            Command::SetWeight {
                at: server(),
                weight: 1,
            },
            Command::SetState {
                at: server(),
                state: ServerState::Ready,
            },
            Command::SetHealthDown(server()),
            Command::ShutdownSessions(server()),
            Command::PrepareMap { map: map() },
            Command::AddMapEntries {
                map: "/m".into(),
                version: 1,
                entries: vec![(key(), text())],
            },
            Command::CommitMap {
                map: map(),
                version: 1,
            },
            Command::ClearMapVersion {
                map: map(),
                version: 1,
            },
            Command::SetMapEntry {
                map: map(),
                key: key(),
                value: text(),
            },
            Command::AddMapEntry {
                map: map(),
                key: key(),
                value: text(),
            },
            Command::DeleteMapEntry {
                map: map(),
                key: key(),
            },
            Command::NewCertificate { file: file() },
            Command::SetCertificate {
                file: "/c".into(),
                pem: value.into(),
            },
            Command::CommitCertificate { file: file() },
            Command::AbortCertificate { file: file() },
            Command::DeleteCertificate { file: file() },
            Command::AddCrtListLine {
                list: "/l".into(),
                line: text(),
            },
            Command::DeleteCrtListLine {
                list: list(),
                file: file(),
            },
            Command::SetVariable {
                name: text(),
                value: text(),
            },
        ]
    }

    /// The commands that HAProxy reads, by its own rules: a line ends a command, and so does `;`
    /// unless `\` stands before it; after `<<` at the end of a line all is payload up to an empty line.
    fn commands_read(text: &str) -> Vec<String> {
        let mut commands = Vec::new();
        let mut lines = text.split_terminator('\n');
        while let Some(line) = lines.next() {
            commands.extend(line.split(';').map(str::to_owned));
            if line.contains("<<") {
                assert!(
                    lines.by_ref().any(str::is_empty),
                    "the payload ends: {text:?}"
                );
            }
        }
        commands
    }

    proptest! {
        // H05
        #[test]
        fn no_text_adds_a_command(value in "(?s).*|[a-z;\\\\\n<# @:+>-]*|[a-z./]+") {
            for command in with_everywhere(&value) {
                let Ok(text) = command.encode() else { continue };
                let read = commands_read(&text);
                prop_assert_eq!(read.len(), command.prompts(), "{:?}", text);
                // Nor a word: each kind has as many as with a plain value.
                for plain in with_everywhere("a") {
                    if std::mem::discriminant(&plain) != std::mem::discriminant(&command) { continue }
                    if matches!(&plain, Command::AddServer { options, .. } if options.is_empty()) { continue }
                    if matches!(&command, Command::AddServer { options, .. } if options.is_empty()) { continue }
                    let plain = plain.encode().unwrap();
                    let words = |text: &str| text.split(' ').count();
                    prop_assert_eq!(words(&read[0]), words(&commands_read(&plain)[0]));
                }
            }
        }
    }
}
