//! What an answer to a command means: an exact table for each command. What is not in it is a
//! refusal, so a new wording can stop a change but never pass for success.
//!
//! All texts were seen on the real 2.6.12, 2.8.25, 3.0.11 and 3.2.26, on the stats socket and
//! through the master; where they differ, the table asks for the version.

use super::command::Command;
use super::version::Version;
use crate::text::shortened;

/// What HAProxy made of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It did it.
    Done,
    /// There was nothing to do.
    AlreadySo,
    /// It did it; this is the number of the map version that was prepared.
    Version(u32),
    /// It did not do it, or we cannot be sure that it did.
    Refused {
        /// Its words, shortened.
        answer: String,
        /// What can be made of them.
        kind: Refusal,
    },
}

/// Why HAProxy did not do something, as far as something can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The backend has no server of that name.
    NoSuchServer,
    /// There is no backend of that name.
    NoSuchBackend,
    /// A server or certificate of that name is there already.
    Exists,
    /// Another server of the backend has the id.
    IdTaken,
    /// Only a server in maintenance can be deleted.
    NotInMaintenance,
    /// The server still has connections.
    StillConnected,
    /// Something else in the configuration uses it (`use-server`, `track`, a crt-list).
    PointedAt,
    /// The backend's algorithm cannot take this at run time.
    StaticBalance,
    /// The backend is one of an old worker, which only finishes its connections.
    Disabled,
    /// There is no map, map entry, certificate, crt-list or crt-list line of that name.
    NoSuchEntry,
    /// Anything else.
    Other,
}

impl Answer {
    /// Whether what the command wants is so now.
    pub fn is_done(&self) -> bool {
        !matches!(self, Answer::Refused { .. })
    }
}

/// `set server … addr` says "no need to change" up to 2.8 and "nothing changed" from 3.0.
const NEW_ADDRESS_WORDS: Version = Version::new(3, 0, 0);

impl Command {
    /// What `answer` means, given to this command by HAProxy of `version`.
    pub fn judge(&self, answer: &str, version: Version) -> Answer {
        let answer = answer.trim();
        self.success(answer, version)
            .unwrap_or_else(|| Answer::Refused {
                answer: shortened(answer, 400),
                kind: self.refusal(answer),
            })
    }

    /// The answers that mean that what is wanted is so.
    fn success(&self, answer: &str, version: Version) -> Option<Answer> {
        let done = |is: bool| is.then_some(Answer::Done);
        let already = |is: bool| is.then_some(Answer::AlreadySo);
        match self {
            Command::AddServer { .. } => done(answer == "New server registered."),
            Command::DeleteServer(_) => {
                done(answer == "Server deleted.").or(already(answer == "No such server."))
            }
            Command::SetAddress { .. } => set_address(answer, version),
            Command::PrepareMap { .. } | Command::PrepareAcl { .. } => {
                let number = answer.strip_prefix("New version created: ")?;
                number.parse().ok().map(Answer::Version)
            }
            Command::DeleteMapEntry { .. } => {
                done(answer.is_empty()).or(already(answer == "Key not found."))
            }
            Command::NewCertificate { file } => {
                done(answer == format!("New empty certificate store '{file}'!"))
            }
            Command::SetCertificate { file, .. } => done(
                answer == format!("Transaction created for certificate {file}!")
                    || answer == format!("Transaction updated for certificate {file}!"),
            ),
            Command::CommitCertificate { file } => {
                done(succeeded(answer, &format!("Committing {file}")))
            }
            Command::AbortCertificate { file } => {
                done(answer == format!("Transaction aborted for certificate '{file}'!"))
                    .or(already(answer == "No ongoing transaction!"))
            }
            Command::DeleteCertificate { file } => done(
                answer == format!("Certificate '{file}' deleted!"),
            )
            .or(already(
                answer
                    == format!("Can't remove the certificate: certificate '{file}' doesn't exist!"),
            )),
            Command::AddCrtListLine { list, line } => {
                let file = line.split(' ').next().unwrap_or_default();
                let start = format!("Inserting certificate '{file}' in crt-list '{list}'");
                done(succeeded(answer, &start))
            }
            Command::DeleteCrtListLine { list, file } => {
                done(answer == format!("Entry '{}' deleted in crtlist '{list}'!", bare(file)))
            }
            Command::EnableServer(_)
            | Command::EnableHealth(_)
            | Command::EnableAgent(_)
            | Command::SetWeight { .. }
            | Command::SetState { .. }
            | Command::SetHealthDown(_)
            | Command::ShutdownSessions(_)
            | Command::AddMapEntries { .. }
            | Command::CommitMap { .. }
            | Command::ClearMapVersion { .. }
            | Command::SetMapEntry { .. }
            | Command::AddMapEntry { .. }
            | Command::AddAclPattern { .. }
            | Command::CommitAcl { .. }
            | Command::ClearAclVersion { .. }
            | Command::SetVariable { .. } => done(answer.is_empty()),
        }
    }

    fn refusal(&self, answer: &str) -> Refusal {
        match answer {
            "No such server." => return Refusal::NoSuchServer,
            "No such backend." => return Refusal::NoSuchBackend,
            "Already exists a server with the same name in backend." => return Refusal::Exists,
            "Only servers in maintenance mode can be deleted." => {
                return Refusal::NotInMaintenance;
            }
            "Server still has connections attached to it, cannot remove it." => {
                return Refusal::StillConnected;
            }
            "This server cannot be removed at runtime due to other configuration elements pointing to it." =>
            {
                return Refusal::PointedAt;
            }
            "Backend must use a dynamic load balancing to support dynamic servers."
            | "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'." => {
                return Refusal::StaticBalance;
            }
            "Proxy is disabled." => return Refusal::Disabled,
            "Unknown map identifier. Please use #<id> or <file>."
            | "Unknown ACL identifier. Please use #<id> or <file>."
            | "entry not found." => {
                return Refusal::NoSuchEntry;
            }
            _ => {}
        }
        // Since 3.4 the sentence names the backend.
        if answer.starts_with("Backend does not support dynamic servers : ")
            && answer.ends_with(" uses a non dynamic load balancing method.")
        {
            return Refusal::StaticBalance;
        }
        if let Command::AddServer { at, .. } = self
            && let Some(other) = id_holder(answer)
        {
            return match other == at.server {
                true => Refusal::Exists,
                false => Refusal::IdTaken,
            };
        }
        match self.certificate_refusal() {
            Some(texts) => texts
                .into_iter()
                .find_map(|(text, kind)| (answer == text).then_some(kind))
                .unwrap_or(Refusal::Other),
            None => Refusal::Other,
        }
    }

    /// The refusals whose words hold a file's name.
    fn certificate_refusal(&self) -> Option<Vec<(String, Refusal)>> {
        use Refusal::{Exists, NoSuchEntry, PointedAt};
        Some(match self {
            Command::NewCertificate { file } => {
                vec![(format!("Certificate '{file}' already exists!"), Exists)]
            }
            Command::SetCertificate { file, .. } => vec![(
                format!(
                    "Can't replace a certificate which is not referenced by the configuration!\nCan't update {file}!"
                ),
                NoSuchEntry,
            )],
            Command::CommitCertificate { file } => vec![(
                format!("No ongoing transaction! !\nCan't commit {file}!"),
                NoSuchEntry,
            )],
            Command::DeleteCertificate { file } => vec![(
                format!(
                    "Can't remove the certificate: certificate '{file}' in use, can't be deleted!"
                ),
                PointedAt,
            )],
            Command::AddCrtListLine { list, line } => {
                let file = line.split(' ').next().unwrap_or_default();
                let text = |what: String| (format!("Can't edit the crt-list: {what}"), NoSuchEntry);
                vec![
                    text(format!("crt-list '{list}' does not exist!")),
                    text(format!("certificate '{file}' does not exist!")),
                    text(format!("certificate '{file}' is empty!")),
                ]
            }
            Command::DeleteCrtListLine { list, file } => {
                let file = bare(file);
                let text = |what: String| (format!("Can't delete the entry: {what}"), NoSuchEntry);
                vec![
                    text(format!("crt-list '{list}' does not exist!")),
                    text(format!("certificate '{file}' does not exist!")),
                    text(format!(
                        "certificate '{file}' can't be found in crt-list '{list}'!"
                    )),
                ]
            }
            _ => return None,
        })
    }
}

/// `IP changed from 'A' to 'B', port changed from '1' to '2' by 'stats socket command'` and the
/// parts of it. From 3.0 the change is made a moment after the answer.
fn set_address(answer: &str, version: Version) -> Option<Answer> {
    let new = version >= NEW_ADDRESS_WORDS;
    if answer == "nothing changed" {
        return new.then_some(Answer::AlreadySo);
    }
    let mut changed = false;
    for part in answer
        .strip_suffix(" by 'stats socket command'")?
        .split(", ")
    {
        match part {
            "no need to change the addr" | "no need to change the port" if !new => {}
            _ if is_change(part, "IP") || is_change(part, "port") => changed = true,
            _ => return None,
        }
    }
    Some(match changed {
        true => Answer::Done,
        false => Answer::AlreadySo,
    })
}

/// `port changed from '1' to '2'`
fn is_change(part: &str, what: &str) -> bool {
    part.strip_prefix(what)
        .and_then(|rest| rest.strip_prefix(" changed from '")?.strip_suffix('\''))
        .and_then(|rest| rest.split_once("' to '"))
        .is_some_and(|(from, to)| is_place(from) && is_place(to))
}

/// An address, what HAProxy says for one of another family, or a port, which may be one to add.
fn is_place(text: &str) -> bool {
    text == "unix"
        || text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '+' | '-'))
}

/// The server that has the id: HAProxy looks at ids before names. `'id' : custom id 99 already used at
/// (null):0 ('server x').`, where 2.6 to 3.2 tell a file and a line of one from the configuration.
fn id_holder(answer: &str) -> Option<&str> {
    let rest = answer.strip_prefix("'id' : custom id ")?;
    let (_, rest) = rest.split_once(" already used at ")?;
    let (_, name) = rest.rsplit_once(" ('server ")?;
    name.strip_suffix("').")
}

/// `start`, then a dot for each step of the work, then success.
fn succeeded(answer: &str, start: &str) -> bool {
    answer
        .strip_prefix(start)
        .is_some_and(|rest| rest.trim_start_matches('.') == "\nSuccess!")
}

/// The certificate's file name without the line number that may follow it.
fn bare(file: &str) -> &str {
    match file.rsplit_once(':') {
        Some((name, number)) if number.parse::<u32>().is_ok() => name,
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::ServerRef;
    use super::*;
    use proptest::prelude::*;

    const OLD: Version = Version::new(2, 8, 25);
    const NEW: Version = Version::new(3, 2, 26);

    fn set_address() -> Command {
        Command::SetAddress {
            at: ServerRef::new("b", "s"),
            address: [127, 0, 0, 1].into(),
            port: 80,
        }
    }

    // H03
    #[test]
    fn an_address_is_changed_in_the_words_of_the_version() {
        let (both, port, neither, nothing) = (
            "IP changed from '::1' to '127.0.0.1', port changed from '1' to '80' by 'stats socket command'\n\n",
            "no need to change the addr, port changed from '1' to '80' by 'stats socket command'\n",
            "no need to change the addr, no need to change the port by 'stats socket command'\n",
            "nothing changed\n\n",
        );
        let judge = |text, version| set_address().judge(text, version);
        assert_eq!(judge(both, OLD), Answer::Done);
        assert_eq!(judge(both, NEW), Answer::Done);
        assert_eq!(judge(port, OLD), Answer::Done);
        assert!(!judge(port, NEW).is_done());
        assert_eq!(judge(neither, OLD), Answer::AlreadySo);
        assert!(!judge(nothing, OLD).is_done());
        assert_eq!(judge(nothing, NEW), Answer::AlreadySo);
        let map = "no need to change the addr, can't change <port> to port map because it is incompatible with current health check port configuration (use 'port' statement from the 'server' directive. by 'stats socket command'";
        assert!(!judge(map, OLD).is_done());
        assert!(!judge("", OLD).is_done());
        let odd = "IP changed from '::1' to 'Unknown' by 'stats socket command'\n";
        assert!(!judge(odd, OLD).is_done());
    }

    // H03
    #[test]
    fn deleting_what_is_gone_is_no_failure() {
        let command = Command::DeleteServer(ServerRef::new("b", "s"));
        assert_eq!(command.judge("No such server.\n", OLD), Answer::AlreadySo);
        let kind = |text: &str| match command.judge(text, OLD) {
            Answer::Refused { kind, .. } => Some(kind),
            _ => None,
        };
        assert_eq!(kind("No such backend."), Some(Refusal::NoSuchBackend));
        assert_eq!(kind(""), Some(Refusal::Other));
        assert_eq!(kind("Server deleted. Really."), Some(Refusal::Other));
    }

    #[test]
    fn a_static_balance_is_refused_in_the_words_of_the_version() {
        let command = Command::AddServer {
            at: ServerRef::new("b", "s"),
            address: [127, 0, 0, 1].into(),
            port: 80,
            options: Vec::new(),
        };
        for said in [
            "Backend must use a dynamic load balancing to support dynamic servers.\n",
            "Backend does not support dynamic servers : backend 'b' uses a non dynamic load balancing method.\n",
        ] {
            let Answer::Refused { kind, .. } = command.judge(said, NEW) else {
                panic!("{said}");
            };
            assert_eq!(kind, Refusal::StaticBalance, "{said}");
        }
    }

    proptest! {
        // H03
        #[test]
        fn only_the_known_words_are_success(text in "[ -~\n]{1,80}") {
            let text = format!("x{text}");
            for command in [
                set_address(),
                Command::EnableServer(ServerRef::new("b", "s")),
                Command::DeleteServer(ServerRef::new("b", "s")),
                Command::PrepareMap { map: "m".into() },
                Command::PrepareAcl { acl: "a".into() },
                Command::CommitAcl { acl: "a".into(), version: 1 },
                Command::CommitCertificate { file: "c".into() },
            ] {
                prop_assert!(!command.judge(&text, NEW).is_done());
            }
        }
    }
}
