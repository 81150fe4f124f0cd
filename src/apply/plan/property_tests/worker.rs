//! A fake worker for the tests of the plan: what HAProxy 2.6 makes of a configuration and of each
//! command, and the ways in which a batch can fail on the way. The conformance test in
//! `tests/parts/apply` holds it to the real 2.6.
//!
//! It reads no configuration: it is laid out from the value that the text was written from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gatewright::apply::plan::Steps;
use gatewright::haproxy::runtime::{
    AdminState, Answer, Command, Refusal, ServerRef, ServerRow, ServerState,
};

use super::family::{BALANCES, BETWEEN, DEFAULTS, OPTIONS, Site};

/// What it does not do as it should, by the number of the command from 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Knobs {
    /// The connection is cut before this command.
    pub truncate: Option<usize>,
    /// This command is refused.
    pub refuse: Option<usize>,
}

/// A worker as it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// Backend → whether its algorithm takes servers, and its servers by name.
    pub backends: BTreeMap<String, Backend>,
    /// The file name of its one map.
    pub map_file: String,
    /// The entries that traffic sees.
    pub map: Vec<(String, String)>,
    /// The file name of its one pattern file.
    pub acl_file: String,
    /// The patterns that traffic sees.
    pub acl: Vec<String>,
    prepared: BTreeMap<u32, Vec<(String, String)>>,
    versions: u32,
    prepared_patterns: BTreeMap<u32, Vec<String>>,
    pattern_versions: u32,
}

/// A backend as it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend {
    dynamic: bool,
    pub servers: BTreeMap<String, Server>,
}

/// A server as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub row: ServerRow,
    /// What it was given besides address, weight, id and state.
    pub options: BTreeMap<String, String>,
    /// Whether its checks go on.
    pub checks: bool,
    /// A server with a connection cannot be deleted.
    pub connections: u32,
}

impl Worker {
    /// One that has just loaded the files of a site.
    pub fn load(site: &Site, map_file: &str) -> Worker {
        let mut worker = Worker {
            map_file: map_file.to_owned(),
            map: site.map.clone(),
            acl_file: map_file.replace("m.map", "p.acl"),
            acl: site.acl.clone(),
            ..Worker::default()
        };
        for lines in &site.backends {
            let mut backend = Backend {
                dynamic: BALANCES[lines.balance].1,
                servers: BTreeMap::new(),
            };
            let last = lines.servers.len().saturating_sub(1);
            for (at, line) in lines.servers.iter().enumerate() {
                let mut words: Vec<&str> = DEFAULTS[lines.defaults].split('|').collect();
                if lines.between && at > 0 && at == last {
                    words.push(BETWEEN);
                }
                words.extend(OPTIONS[line.options].split('|'));
                let mut options = effective(&words);
                let weight = options.remove("weight").and_then(|text| text.parse().ok());
                let weight = line.weight.or(weight).unwrap_or(1);
                let disabled = options.remove("disabled").is_some() || line.disabled;
                let row = ServerRow {
                    backend: lines.name.clone(),
                    server: line.name.clone(),
                    id: line.id.unwrap_or(0),
                    address: Some([127, 0, 0, line.host.max(1)].into()),
                    port: line.port,
                    operational: 0,
                    admin: AdminState(if disabled { MAINT | CONFIG_MAINT } else { 0 }),
                    user_weight: weight,
                    initial_weight: weight,
                    fqdn: line.host == 0,
                    forced_id: line.id.is_some(),
                    check_enabled: false,
                };
                backend.insert(row, options, true);
            }
            for number in 1..=2 {
                let Some((port, checked)) = lines.template else {
                    continue;
                };
                let mut words: Vec<&str> = DEFAULTS[lines.defaults].split('|').collect();
                if lines.between && !lines.servers.is_empty() && lines.servers.len() > 1 {
                    words.push(BETWEEN);
                }
                words.extend(checked.then_some("check"));
                let mut options = effective(&words);
                let weight = options.remove("weight").and_then(|text| text.parse().ok());
                let disabled = options.remove("disabled").is_some();
                let row = ServerRow {
                    backend: lines.name.clone(),
                    server: format!("t{number}"),
                    id: 0,
                    address: Some([127, 0, 0, 1].into()),
                    port,
                    operational: 0,
                    admin: AdminState(if disabled { MAINT | CONFIG_MAINT } else { 0 }),
                    user_weight: weight.unwrap_or(1),
                    initial_weight: weight.unwrap_or(1),
                    fqdn: false,
                    forced_id: false,
                    check_enabled: false,
                };
                backend.insert(row, options, true);
            }
            let names = lines.servers.iter().map(|line| line.name.as_str());
            let templates = lines.template.iter().flat_map(|_| ["t1", "t2"]);
            // Each takes the first free number from its place on.
            for (name, place) in names.chain(templates).zip(1..) {
                backend.number(name, place);
            }
            worker.backends.insert(lines.name.clone(), backend);
        }
        worker
    }

    /// What `show servers state` shows.
    pub fn rows(&self) -> Vec<ServerRow> {
        let servers = self.backends.values().flat_map(|b| b.servers.values());
        servers.map(|server| server.row.clone()).collect()
    }

    /// Sends the steps as a session does: what follows a refused command in the same exchange is
    /// carried out all the same. False when something was refused or cut.
    pub fn take(&mut self, steps: &Steps, knobs: Knobs) -> bool {
        let mut sent = 0;
        if !self.exchange(&steps.servers.first, knobs, &mut sent)
            || !self.exchange(&steps.servers.ready, knobs, &mut sent)
        {
            return false;
        }
        for map in &steps.maps {
            let file = map.destination.display().to_string();
            let prepare = Command::PrepareMap { map: file.clone() };
            let Some(Answer::Version(version)) = self.one(&prepare, knobs, &mut sent) else {
                return false;
            };
            let mut commands = Command::add_map_entries(&file, version, map.entries.clone());
            commands.push(Command::CommitMap {
                map: file.clone(),
                version,
            });
            if !self.exchange(&commands, knobs, &mut sent) {
                let clear = Command::ClearMapVersion { map: file, version };
                self.one(&clear, knobs, &mut sent);
                return false;
            }
        }
        for acl in &steps.acls {
            let file = acl.destination.display().to_string();
            let prepare = Command::PrepareAcl { acl: file.clone() };
            let Some(Answer::Version(version)) = self.one(&prepare, knobs, &mut sent) else {
                return false;
            };
            let commands = patterns(&file, version, &acl.patterns);
            if !self.exchange(&commands, knobs, &mut sent) {
                let clear = Command::ClearAclVersion { acl: file, version };
                self.one(&clear, knobs, &mut sent);
                return false;
            }
        }
        self.exchange(&steps.servers.last, knobs, &mut sent)
    }

    fn exchange(&mut self, commands: &[Command], knobs: Knobs, sent: &mut usize) -> bool {
        let mut good = true;
        for command in commands {
            match self.one(command, knobs, sent) {
                None => return false,
                Some(answer) => good &= answer.is_done(),
            }
        }
        good
    }

    fn one(&mut self, command: &Command, knobs: Knobs, sent: &mut usize) -> Option<Answer> {
        let number = *sent;
        *sent += 1;
        if knobs.truncate.is_some_and(|at| number >= at) {
            return None;
        }
        Some(match knobs.refuse == Some(number) {
            true => refused(Refusal::Other),
            false => self.carry_out(command),
        })
    }

    /// What HAProxy 2.6 does at this command, and what its answer means.
    pub fn carry_out(&mut self, command: &Command) -> Answer {
        self.try_to(command).unwrap_or_else(refused)
    }

    fn try_to(&mut self, command: &Command) -> Result<Answer, Refusal> {
        match command {
            Command::AddServer {
                at,
                address,
                port,
                options,
            } => {
                let backend = self.backend(at)?;
                backend.add(at, *address, *port, options)?;
            }
            Command::DeleteServer(at) => {
                let backend = self.backend(at)?;
                let Some(server) = backend.servers.get(&at.server) else {
                    return Ok(Answer::AlreadySo);
                };
                if server.row.admin.0 & MAINT == 0 {
                    return Err(Refusal::NotInMaintenance);
                }
                if server.connections > 0 {
                    return Err(Refusal::StillConnected);
                }
                backend.servers.remove(&at.server);
            }
            Command::EnableServer(at) => set_state(self.find(at)?, ServerState::Ready),
            Command::SetState { at, state } => set_state(self.find(at)?, *state),
            Command::EnableHealth(at) => {
                let server = self.find(at)?;
                if !server.options.contains_key("check") {
                    return Err(Refusal::Other);
                }
                server.checks = true;
            }
            Command::EnableAgent(at) => {
                self.find(at)?;
                return Err(Refusal::Other);
            }
            Command::SetAddress { at, address, port } => {
                let row = &mut self.find(at)?.row;
                if (row.address, row.port) == (Some(*address), *port) {
                    return Ok(Answer::AlreadySo);
                }
                (row.address, row.port) = (Some(*address), *port);
            }
            Command::SetWeight { at, weight } => {
                let dynamic = self.backend(at)?.dynamic;
                let row = &mut self.find(at)?.row;
                if !dynamic && *weight != 0 && *weight != row.initial_weight {
                    return Err(Refusal::StaticBalance);
                }
                row.user_weight = *weight;
            }
            Command::SetHealthDown(at) | Command::ShutdownSessions(at) => {
                self.find(at)?;
            }
            Command::PrepareMap { map } => {
                self.is_map(map)?;
                self.versions += 1;
                self.prepared.insert(self.versions, Vec::new());
                return Ok(Answer::Version(self.versions));
            }
            Command::AddMapEntries {
                map,
                version,
                entries,
            } => {
                self.is_map(map)?;
                let prepared = self.prepared.get_mut(version).ok_or(Refusal::Other)?;
                prepared.extend(entries.iter().cloned());
            }
            Command::CommitMap { map, version } => {
                self.is_map(map)?;
                self.map = self.prepared.remove(version).ok_or(Refusal::Other)?;
            }
            Command::ClearMapVersion { map, version } => {
                self.is_map(map)?;
                self.prepared.remove(version);
            }
            Command::PrepareAcl { acl } => {
                self.is_acl(acl)?;
                self.pattern_versions += 1;
                self.prepared_patterns
                    .insert(self.pattern_versions, Vec::new());
                return Ok(Answer::Version(self.pattern_versions));
            }
            Command::AddAclPattern {
                acl,
                version,
                pattern,
            } => {
                self.is_acl(acl)?;
                let prepared = self.prepared_patterns.get_mut(version);
                prepared.ok_or(Refusal::Other)?.push(pattern.clone());
            }
            Command::CommitAcl { acl, version } => {
                self.is_acl(acl)?;
                let prepared = self.prepared_patterns.remove(version);
                self.acl = prepared.ok_or(Refusal::Other)?;
            }
            Command::ClearAclVersion { acl, version } => {
                self.is_acl(acl)?;
                self.prepared_patterns.remove(version);
            }
            Command::SetVariable { .. } => {}
            _ => return Err(Refusal::Other),
        }
        Ok(Answer::Done)
    }

    fn backend(&mut self, at: &ServerRef) -> Result<&mut Backend, Refusal> {
        let backend = self.backends.get_mut(&at.backend);
        backend.ok_or(Refusal::NoSuchBackend)
    }

    fn find(&mut self, at: &ServerRef) -> Result<&mut Server, Refusal> {
        let servers = &mut self.backend(at)?.servers;
        servers.get_mut(&at.server).ok_or(Refusal::NoSuchServer)
    }

    fn is_acl(&self, acl: &str) -> Result<(), Refusal> {
        match acl == self.acl_file {
            true => Ok(()),
            false => Err(Refusal::NoSuchEntry),
        }
    }

    fn is_map(&self, map: &str) -> Result<(), Refusal> {
        match map == self.map_file {
            true => Ok(()),
            false => Err(Refusal::NoSuchEntry),
        }
    }
}

impl Backend {
    fn add(
        &mut self,
        at: &ServerRef,
        address: IpAddr,
        port: u16,
        options: &[Vec<String>],
    ) -> Result<(), Refusal> {
        if !self.dynamic {
            return Err(Refusal::StaticBalance);
        }
        let mut options = parse(&options.concat())?;
        let id = options.remove("id").and_then(|text| text.parse().ok());
        // HAProxy looks at ids before names.
        if let Some(holder) = self.servers.values().find(|s| Some(s.row.id) == id) {
            return Err(match holder.row.server == at.server {
                true => Refusal::Exists,
                false => Refusal::IdTaken,
            });
        }
        if self.servers.contains_key(&at.server) {
            return Err(Refusal::Exists);
        }
        let weight = options.remove("weight").and_then(|text| text.parse().ok());
        let weight = weight.unwrap_or(1);
        let row = ServerRow {
            backend: at.backend.clone(),
            server: at.server.clone(),
            id: id.unwrap_or(0),
            address: Some(address),
            port,
            operational: 0,
            admin: AdminState(MAINT),
            user_weight: weight,
            initial_weight: weight,
            fqdn: false,
            forced_id: id.is_some(),
            check_enabled: false,
        };
        self.insert(row, options, false);
        self.number(&at.server, 1);
        Ok(())
    }

    fn insert(&mut self, row: ServerRow, options: BTreeMap<String, String>, checks: bool) {
        let server = Server {
            checks: checks && options.contains_key("check"),
            options,
            connections: 0,
            row,
        };
        self.servers.insert(server.row.server.clone(), server);
    }

    /// Gives a server without an id the first one that is free.
    fn number(&mut self, name: &str, from: u32) {
        let taken = |id: u32| self.servers.values().any(|server| server.row.id == id);
        let free = (from..).find(|id| !taken(*id)).unwrap_or(0);
        match self.servers.get_mut(name) {
            Some(server) if server.row.id == 0 => server.row.id = free,
            _ => {}
        }
    }
}

/// The commands that fill a version of a pattern file and put it in force.
pub fn patterns(file: &str, version: u32, patterns: &[String]) -> Vec<Command> {
    let add = |pattern: &String| Command::AddAclPattern {
        acl: file.to_owned(),
        version,
        pattern: pattern.clone(),
    };
    let commit = Command::CommitAcl {
        acl: file.to_owned(),
        version,
    };
    patterns.iter().map(add).chain([commit]).collect()
}

const MAINT: u8 = 0x01;
const CONFIG_MAINT: u8 = 0x04;
const DRAIN: u8 = 0x08;

fn set_state(server: &mut Server, state: ServerState) {
    let admin = &mut server.row.admin.0;
    // That the file disables it is remembered, and means nothing more.
    *admin &= !(MAINT | DRAIN);
    *admin |= match state {
        ServerState::Ready => 0,
        ServerState::Drain => DRAIN,
        ServerState::Maint => MAINT,
    };
}

fn refused(kind: Refusal) -> Answer {
    Answer::Refused {
        answer: String::new(),
        kind,
    }
}

/// What lines of words come to when each stands after the ones before it.
fn effective(words: &[&str]) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for group in words.iter().filter(|group| !group.is_empty()) {
        let (keyword, value) = group.split_once(' ').unwrap_or((group, ""));
        match keyword.strip_prefix("no-") {
            Some(taken_back) => drop(options.remove(taken_back)),
            None => drop(options.insert(keyword.to_owned(), value.to_owned())),
        }
    }
    options
}

/// The words of `add server` after the address, as far as the family has them; `interface` is a part of
/// `source` and stands right after it.
fn parse(words: &[String]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut options = BTreeMap::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(keyword) = words.next() {
        let value = match keyword {
            "check" | "backup" | "send-proxy" => String::new(),
            "inter" | "fall" | "rise" | "maxconn" | "weight" | "id" => {
                words.next().ok_or(Refusal::Other)?.to_owned()
            }
            "source" => {
                let mut value = words.next().ok_or(Refusal::Other)?.to_owned();
                if words.next_if_eq(&"interface").is_some() {
                    value = format!("{value} interface {}", words.next().ok_or(Refusal::Other)?);
                }
                value
            }
            _ => return Err(Refusal::Other),
        };
        options.insert(keyword.to_owned(), value);
    }
    Ok(options)
}
