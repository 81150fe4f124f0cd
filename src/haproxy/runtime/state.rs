//! What a worker tells about its servers: `show servers state` and `show stat`, read line by line
//! into values.
//!
//! Never panics on any text; columns that a later version adds are passed over.

use std::net::IpAddr;

use crate::text::shortened;

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
            text: shortened(text, 200),
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

    /// Whether the configuration says `disabled`. It is in maintenance for that reason only while
    /// [`AdminState::forced_maint`] holds too: the bit stays when a command makes it ready (2.6 to 3.2).
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

    /// Whether new traffic may go to it: neither maintenance nor drain. 0x04 only remembers what the
    /// configuration said, and 0x40 that its name was set at run time.
    pub fn serves(self) -> bool {
        self.0 & 0x3b == 0
    }

    /// Whether it is in maintenance for whatever reason.
    pub fn maint(self) -> bool {
        self.0 & 0x23 != 0
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

/// What keeps a server busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConnections {
    /// Its backend.
    pub backend: String,
    /// Its name.
    pub server: String,
    /// Requests and TCP connections that it serves now (`scur`). While there is one, it cannot be
    /// deleted.
    pub sessions: u32,
    /// Requests that wait for it (`qcur`).
    pub queued: u32,
    /// Connections kept for a next request (`idle_conn_cur`). They keep 2.8, and no other version
    /// from 2.6 to 3.2, from deleting it.
    pub idle: u32,
}

impl ServerConnections {
    /// Whether all that it served has ended.
    pub fn ended(&self) -> bool {
        self.sessions == 0 && self.queued == 0
    }
}

/// Reads `show stat BACKEND 4 -1`. Several answers may follow one another. `show servers conn` would
/// be shorter, but its `used_cur` does not count TCP connections (2.6 to 3.2).
pub fn parse_server_connections(text: &str) -> Result<Vec<ServerConnections>, Strange> {
    let mut rows = Vec::new();
    let mut columns: Option<[usize; 5]> = None;
    for (index, line) in text.lines().enumerate() {
        let strange = || Strange::new(index + 1, line);
        if line.trim().is_empty() {
            continue;
        }
        if let Some(names) = line.strip_prefix("# ") {
            columns = Some(find_columns(names).ok_or_else(strange)?);
            continue;
        }
        let columns = columns.as_ref().ok_or_else(strange)?;
        rows.push(parse_connections(line, columns).ok_or_else(strange)?);
    }
    match columns {
        Some(_) => Ok(rows),
        None => Err(Strange::new(0, "")),
    }
}

fn find_columns(names: &str) -> Option<[usize; 5]> {
    let mut columns = [0; 5];
    let wanted = ["pxname", "svname", "scur", "qcur", "idle_conn_cur"];
    for (column, wanted) in columns.iter_mut().zip(wanted) {
        *column = names.split(',').position(|name| name == wanted)?;
    }
    Some(columns)
}

fn parse_connections(line: &str, columns: &[usize; 5]) -> Option<ServerConnections> {
    let words: Vec<&str> = line.split(',').collect();
    let word = |index: usize| words.get(columns[index]).copied();
    Some(ServerConnections {
        backend: word(0)?.to_owned(),
        server: word(1)?.to_owned(),
        sessions: word(2)?.parse().ok()?,
        queued: word(3)?.parse().ok()?,
        idle: word(4)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n\
        3 b 11 s1 127.0.0.1 2 0 1 1 8 6 0 4 6 0 0 1 - 1001 - 0 0 - - 0\n\
        3 b 12 s2 ::1 0 9 50 1 8 1 0 0 0 0 0 1 - 1002 - 0 0 - - 0 a column of 2040\n\
        4 c 1 dns - 0 96 1 1 8 1 0 0 0 0 0 0 web.example 80 - 0 0 - - 0\n\n";

    #[test]
    fn servers_are_read_with_their_state() {
        let rows = parse_servers_state(&format!("{STATE}{STATE}")).unwrap();
        assert_eq!(rows.len(), 6);
        assert_eq!(
            rows[0],
            ServerRow {
                backend: "b".into(),
                server: "s1".into(),
                id: 11,
                address: Some([127, 0, 0, 1].into()),
                port: 1001,
                operational: 2,
                admin: AdminState(0),
                user_weight: 1,
                initial_weight: 1,
                fqdn: false,
                forced_id: true,
                check_enabled: true,
            }
        );
        let second = &rows[1];
        assert!(second.admin.forced_maint() && second.admin.forced_drain());
        assert!(!second.admin.serves() && !second.check_enabled);
        assert_eq!(
            (second.user_weight, second.address),
            (50, "::1".parse().ok())
        );
        assert!(rows[2].fqdn && rows[2].address.is_none() && rows[2].admin.dns_maint());
    }

    #[test]
    fn bits_4_and_64_are_no_maintenance() {
        for bits in [0x04, 0x40, 0x44] {
            assert!(AdminState(bits).serves() && !AdminState(bits).maint());
        }
        for bit in [0x01, 0x02, 0x08, 0x10, 0x20] {
            let state = AdminState(0x44 | bit);
            assert!(!state.serves());
            assert!(state.maint() != state.drain());
        }
    }

    // H03 H13
    #[test]
    fn other_texts_are_strange() {
        for text in [
            "",
            "Can't find backend.\n",
            "2\n# be_id\n",
            "1\n3 b 11 s1\n",
            "3 b 11 s1 127.0.0.1 2 0 1 1 8 6 0 4 6 0 0 1 - 1001 - 0 0 - - 0\n",
        ] {
            assert!(parse_servers_state(text).is_err(), "{text}");
        }
        assert_eq!(parse_servers_state("1\n# none\n\n"), Ok(Vec::new()));
        assert!(parse_server_connections("No such proxy.\n").is_err());
    }

    #[test]
    fn connections_are_found_by_their_columns_names() {
        let text = "# pxname,svname,qcur,qmax,scur,idle_conn_cur,\nb,s1,1,0,2,3,\n\n";
        let row = ServerConnections {
            backend: "b".into(),
            server: "s1".into(),
            sessions: 2,
            queued: 1,
            idle: 3,
        };
        assert_eq!(parse_server_connections(text), Ok(vec![row]));
    }

    proptest! {
        // H13
        #[test]
        fn no_text_panics(text in "(?s).*", at in 0..STATE.len(), words in "[0-9 a#\\n-]*") {
            let _ = parse_servers_state(&text);
            let _ = parse_server_connections(&text);
            let _ = parse_servers_state(&format!("{}{words}{}", &STATE[..at], &STATE[at..]));
            let _ = parse_server_connections(&format!("# pxname,svname,scur,qcur,idle_conn_cur\n{text}"));
        }
    }
}
