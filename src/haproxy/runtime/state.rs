//! What a worker tells about its servers: `show servers state` and `show servers conn`, read line
//! by line into values.
//!
//! Never panics on any text; columns that a later version adds are passed over.

use std::net::IpAddr;

/// A text that is not what the command gives on any known version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Line {line} of HAProxy's answer is not understood: {text:?}.")]
pub struct Strange {
    /// The line, from 1; 0 when the answer is empty.
    pub line: usize,
    /// Its start.
    pub text: String,
}

impl Strange {
    pub(super) fn new(line: usize, text: &str) -> Strange {
        Strange {
            line,
            text: text.chars().take(200).collect(),
        }
    }
}

/// One server as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRow {
    /// Its backend.
    pub backend: String,
    /// Its name.
    pub server: String,
    /// Its number within the backend, given by `id` or by HAProxy.
    pub id: u32,
    /// Its address; `None` for a name that is not resolved and for a Unix socket.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Its operational state: 0 stopped, 1 starting, 2 running, 3 stopping (`srv_op_state`).
    pub operational: u8,
    /// Whether it is in maintenance or draining, and by whom.
    pub admin: AdminState,
    /// The weight that it has now.
    pub user_weight: u16,
    /// The weight that it was given when it was made.
    pub initial_weight: u16,
    /// Whether its address is a name.
    pub fqdn: bool,
    /// Whether its id was given by `id`.
    pub forced_id: bool,
    /// Whether it checks (`srv_check_state` bit 1, 2.6 to 3.2: configured and enabled).
    pub check_enabled: bool,
}

/// The bits of `srv_admin_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdminState(pub u8);

impl AdminState {
    /// In maintenance by a command.
    pub fn forced_maint(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// In maintenance because the server that it tracks is.
    pub fn inherited_maint(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// In maintenance by `disabled` in the configuration.
    pub fn config_maint(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Draining by a command.
    pub fn forced_drain(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// Draining because the server that it tracks is.
    pub fn inherited_drain(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// In maintenance because its name does not resolve.
    pub fn dns_maint(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Whether new traffic may go to it: neither maintenance nor drain. 0x40 only tells that its
    /// name was set at run time.
    pub fn serves(self) -> bool {
        self.0 & 0x3f == 0
    }

    /// Whether it is in maintenance for whatever reason.
    pub fn maint(self) -> bool {
        self.0 & 0x27 != 0
    }

    /// Whether it drains for whatever reason.
    pub fn drain(self) -> bool {
        self.0 & 0x18 != 0
    }
}

/// Reads `show servers state` (format version 1, the only one from 2.6 to 3.2). Several answers may
/// follow one another.
pub fn parse_servers_state(text: &str) -> Result<Vec<ServerRow>, Strange> {
    let mut rows = Vec::new();
    let mut begun = false;
    for (index, line) in text.lines().enumerate() {
        match line.trim_end() {
            "" => {}
            "1" => begun = true,
            comment if comment.starts_with('#') => {}
            line => match parse_row(line) {
                Some(row) if begun => rows.push(row),
                _ => return Err(Strange::new(index + 1, line)),
            },
        }
    }
    match begun {
        true => Ok(rows),
        false => Err(Strange::new(0, "")),
    }
}

fn parse_row(line: &str) -> Option<ServerRow> {
    let mut columns = [""; 19];
    let mut words = line.split(' ');
    for column in &mut columns {
        *column = words.next()?;
    }
    let check_state: u32 = columns[13].parse().ok()?;
    Some(ServerRow {
        backend: columns[1].to_owned(),
        server: columns[3].to_owned(),
        id: columns[2].parse().ok()?,
        address: match columns[4] {
            "-" => None,
            address => address.parse().ok(),
        },
        port: columns[18].parse().ok()?,
        operational: columns[5].parse().ok()?,
        admin: AdminState(columns[6].parse().ok()?),
        user_weight: columns[7].parse().ok()?,
        initial_weight: columns[8].parse().ok()?,
        fqdn: columns[17] != "-",
        forced_id: columns[16] == "1",
        check_enabled: check_state & 0x06 == 0x06,
    })
}

/// What a server is connected by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConnections {
    /// Its backend.
    pub backend: String,
    /// Its name.
    pub server: String,
    /// Connections that carry something now.
    pub used: u32,
    /// Connections kept for the next request.
    pub idle: u32,
}

/// Reads `show servers conn`. Several answers may follow one another.
pub fn parse_servers_connections(text: &str) -> Result<Vec<ServerConnections>, Strange> {
    let mut rows = Vec::new();
    let mut columns: Option<(usize, usize)> = None;
    for (index, line) in text.lines().enumerate() {
        let strange = || Strange::new(index + 1, line);
        if line.trim().is_empty() {
            continue;
        }
        if let Some(names) = line.strip_prefix("# ") {
            let place = |name| names.split(' ').position(|column| column == name);
            columns = place("used_cur").zip(place("idle_cur"));
            continue;
        }
        let (used, idle) = columns.ok_or_else(strange)?;
        rows.push(parse_connections(line, used, idle).ok_or_else(strange)?);
    }
    match columns {
        Some(_) => Ok(rows),
        None => Err(Strange::new(0, "")),
    }
}

fn parse_connections(line: &str, used: usize, idle: usize) -> Option<ServerConnections> {
    let words: Vec<&str> = line.split(' ').collect();
    let (backend, server) = words.first()?.split_once('/')?;
    Some(ServerConnections {
        backend: backend.to_owned(),
        server: server.to_owned(),
        used: words.get(used)?.parse().ok()?,
        idle: words.get(idle)?.parse().ok()?,
    })
}
