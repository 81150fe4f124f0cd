//! What can be said to a running worker, as values. `encode` turns them into text and `answer` judges
//! what HAProxy says to them; nothing here does either.

use std::fmt;
use std::net::IpAddr;

use super::encode::COMMAND_LIMIT;

/// A server's name within its backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerRef {
    /// The backend's name.
    pub backend: String,
    /// The server's name.
    pub server: String,
}

/// Certificates with their private key as PEM. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(String);

impl Pem {
    /// The text, key included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Pem {
    fn from(text: &str) -> Pem {
        Pem(text.to_owned())
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pem({} bytes)", self.0.len())
    }
}

/// The administrative state of a server (`set server … state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerState {
    /// It takes traffic if its checks are good.
    Ready,
    /// No new traffic but by persistence; checks go on.
    Drain,
    /// No traffic and no checks.
    Maint,
}

/// One thing to say to a running worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `add server`: it begins in maintenance, its checks stopped.
    AddServer {
        /// Its name.
        at: ServerRef,
        /// Its address.
        address: IpAddr,
        /// Its port.
        port: u16,
        /// Each keyword with its values, such as `["weight", "5"]`. `default-server` is not
        /// inherited by an added server (2.6 to 3.2), so all of them are spelt out.
        options: Vec<Vec<String>>,
    },
    /// `del server`: takes one out that is in maintenance and has no connection.
    DeleteServer(ServerRef),
    /// `enable server`: out of maintenance.
    EnableServer(ServerRef),
    /// `enable health`: starts the checks of an added server.
    EnableHealth(ServerRef),
    /// `enable agent`: starts the agent checks of an added server.
    EnableAgent(ServerRef),
    /// `set server … addr … port …`. From 3.0 a task makes the change a moment after the answer: what
    /// is read back at once may be the former address, and traffic may still go there.
    SetAddress {
        /// Which server.
        at: ServerRef,
        /// Its new address.
        address: IpAddr,
        /// Its new port.
        port: u16,
    },
    /// `set server … weight`, absolute.
    SetWeight {
        /// Which server.
        at: ServerRef,
        /// From 0 to 256.
        weight: u16,
    },
    /// `set server … state`.
    SetState {
        /// Which server.
        at: ServerRef,
        /// Its new state.
        state: ServerState,
    },
    /// `set server … health down`: until its check has been good often enough.
    SetHealthDown(ServerRef),
    /// `shutdown sessions server`: cuts every connection it has.
    ShutdownSessions(ServerRef),
    /// `prepare map`: begins a new version, whose number the answer holds.
    PrepareMap {
        /// The map's file name, as the configuration writes it.
        map: String,
    },
    /// `add map @VERSION … <<`: fills a version that was prepared.
    AddMapEntries {
        /// The map's file name.
        map: String,
        /// The version.
        version: u32,
        /// Keys with their values.
        entries: Vec<(String, String)>,
    },
    /// `commit map @VERSION`: the version becomes what traffic sees, at once.
    CommitMap {
        /// The map's file name.
        map: String,
        /// The version.
        version: u32,
    },
    /// `clear map @VERSION`: drops a version that was prepared.
    ClearMapVersion {
        /// The map's file name.
        map: String,
        /// The version.
        version: u32,
    },
    /// `set map`: changes the value of a key that is there.
    SetMapEntry {
        /// The map's file name.
        map: String,
        /// The key.
        key: String,
        /// The new value.
        value: String,
    },
    /// `add map`: a key that is there already gets a second entry, which no look-up finds.
    AddMapEntry {
        /// The map's file name.
        map: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// `del map`: takes out every entry of a key.
    DeleteMapEntry {
        /// The map's file name.
        map: String,
        /// The key.
        key: String,
    },
    /// `prepare acl`: begins a new version of a pattern file, whose number the answer holds.
    PrepareAcl {
        /// The file name, as the configuration writes it.
        acl: String,
    },
    /// `add acl @VERSION`: one pattern, since it takes no payload (2.6 to 3.2).
    AddAclPattern {
        /// The file name.
        acl: String,
        /// The version.
        version: u32,
        /// The pattern, as it stands in the file.
        pattern: String,
    },
    /// `commit acl @VERSION`: the version becomes what traffic sees, at once.
    CommitAcl {
        /// The file name.
        acl: String,
        /// The version.
        version: u32,
    },
    /// `clear acl @VERSION`: drops a version that was prepared.
    ClearAclVersion {
        /// The file name.
        acl: String,
        /// The version.
        version: u32,
    },
    /// `new ssl cert`: an empty certificate in memory.
    NewCertificate {
        /// Its file name.
        file: String,
    },
    /// `set ssl cert … <<`: its new content, not in use before it is committed.
    SetCertificate {
        /// Its file name.
        file: String,
        /// Certificate, chain and key.
        pem: Pem,
    },
    /// `commit ssl cert`.
    CommitCertificate {
        /// Its file name.
        file: String,
    },
    /// `abort ssl cert`: drops a content that was set and not committed.
    AbortCertificate {
        /// Its file name.
        file: String,
    },
    /// `del ssl cert`: forgets one that nothing uses.
    DeleteCertificate {
        /// Its file name.
        file: String,
    },
    /// `add ssl crt-list … <<`.
    AddCrtListLine {
        /// The list's file name.
        list: String,
        /// The line, as it stands in the file.
        line: String,
    },
    /// `del ssl crt-list`.
    DeleteCrtListLine {
        /// The list's file name.
        list: String,
        /// The certificate's file name in it.
        file: String,
    },
    /// `set var`, which is experimental on every version.
    SetVariable {
        /// Its name, with its scope: `proc.…`.
        name: String,
        /// Its value, a string.
        value: String,
    },
}

impl ServerRef {
    /// A server by its names.
    pub fn new(backend: impl Into<String>, server: impl Into<String>) -> ServerRef {
        ServerRef {
            backend: backend.into(),
            server: server.into(),
        }
    }
}

impl fmt::Display for ServerRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.backend, self.server)
    }
}

impl Command {
    /// The commands that fill `version` of a map, each short enough to be sent. Entries stay in
    /// order. One entry that is too long alone is refused when it is encoded.
    pub fn add_map_entries(
        map: &str,
        version: u32,
        entries: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<Command> {
        let room = COMMAND_LIMIT.saturating_sub(map.len() + 40);
        let mut pieces: Vec<Vec<(String, String)>> = Vec::new();
        let mut used = usize::MAX;
        for (key, value) in entries {
            let length = key.len() + value.len() + 2;
            used = used.saturating_add(length);
            if used > room {
                pieces.push(Vec::new());
                used = length;
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push((key, value));
            }
        }
        let command = |entries| Command::AddMapEntries {
            map: map.to_owned(),
            version,
            entries,
        };
        pieces.into_iter().map(command).collect()
    }
}

impl ServerState {
    pub(super) fn word(self) -> &'static str {
        match self {
            ServerState::Ready => "ready",
            ServerState::Drain => "drain",
            ServerState::Maint => "maint",
        }
    }
}
