//! Lints on `global`, frontends and single lines.

use std::collections::{BTreeMap, BTreeSet};

use super::Look;
use crate::haproxy::config::{Bind, Directive, Endpoint, Section};

/// Keywords of lines that may end in a condition.
const CONDITIONAL: &[&str] = &[
    "http-after-response",
    "http-request",
    "http-response",
    "redirect",
    "tcp-request",
    "tcp-response",
    "use-server",
    "use_backend",
];

/// What later versions refuse or warn about and this one takes in silence: the first words of the line, the version
/// that speaks about it, and what to write.
const DEPRECATED: &[(&[&str], (u16, u16), &str)] = &[
    (
        &["stats", "bind-process"],
        (2, 8),
        "Take the line away: there is one process.",
    ),
    (
        &["option", "accept-invalid-http-request"],
        (3, 2),
        "Have the clients send valid requests; from 3.2 on it is `option accept-unsafe-violations-in-http-request`.",
    ),
    (
        &["option", "accept-invalid-http-response"],
        (3, 2),
        "Have the servers send valid answers; from 3.2 on it is `option accept-unsafe-violations-in-http-response`.",
    ),
];

/// Ports below are for root, unless the system says otherwise (ip_unprivileged_port_start).
const RESERVED: u16 = 1024;

impl Look<'_> {
    pub(super) fn proxies(&mut self) {
        self.hard_stop();
        self.rights();
        self.sockets();
        self.idle_close();
        self.shared_names();
        self.deprecated();
        self.conditions();
    }

    fn hard_stop(&mut self) {
        if !self.about.complete || self.config.hard_stop_after().is_some() {
            return;
        }
        let place = self.global();
        self.warn(
            "no-hard-stop-after",
            place,
            "Nothing ends old workers: after a reload each lives as long as its last connection.".to_owned(),
            "Add `hard-stop-after 10m` to `global`, or another time that your longest requests need.",
        );
    }

    /// The place of the first `global`, or of the configuration where it has none.
    fn global(&self) -> (usize, usize, usize) {
        let mut globals = self.config.of_kind("global");
        globals
            .next()
            .map_or((0, 0, 0), |global| self.section(global))
    }

    /// Whether HAProxy keeps the rights of root, where its configuration shows that root starts it.
    fn rights(&mut self) {
        let globals = self.config.of_kind("global");
        let lines: Vec<&Directive> = globals.flat_map(|global| &global.directives).collect();
        let says = |words: &[&str]| lines.iter().find(|line| words.contains(&line.keyword()));
        if !self.about.complete || says(&["user", "uid"]).is_some() {
            return;
        }
        let reserved = |bind: &Bind| {
            let mut ports = bind.endpoints.iter().filter_map(Endpoint::tcp);
            ports.find_map(|(_, low, _)| (low < RESERVED).then_some(low))
        };
        let what = match says(&["chroot", "group", "gid"]) {
            Some(line) => format!("`{}`", line.keyword()),
            None => match self.config.binds().iter().find_map(reserved) {
                Some(port) => format!("Port {port}"),
                None => return,
            },
        };
        let place = self.global();
        self.warn(
            "keeps-root",
            place,
            format!("{what} needs root's rights, and HAProxy keeps them for its whole life."),
            "Add `user haproxy` and `group haproxy` to `global`, or allow this where HAProxy is started as another user.",
        );
    }

    fn sockets(&mut self) {
        let sockets = self.config.stats_sockets();
        let certain = || sockets.iter().filter(|socket| !socket.conditional);
        let admin = sockets
            .iter()
            .any(|socket| socket.level == crate::haproxy::config::Level::Admin);
        let place = |look: &Self, socket: &crate::haproxy::config::StatsSocket| {
            let lines = look
                .config
                .of_kind("global")
                .filter(|one| one.file == socket.file);
            let mut lines = lines.flat_map(|global| &global.directives);
            let line = lines.find(|line| line.line == socket.line);
            line.map_or((socket.file, socket.line, 0), |line| {
                look.word(socket.file, line, 2)
            })
        };
        let first = certain().next();
        match (first, self.about.master) {
            _ if admin => {}
            (Some(socket), master) => {
                let place = place(self, socket);
                let how = match master {
                    Some(true) => {
                        "so changes of servers go through the master socket, which is many times slower"
                    }
                    Some(false) => "so each change of a server is a reload",
                    None => {
                        "so each change of a server is a reload, unless there is a master socket"
                    }
                };
                let message = format!("No `stats socket` is of `level admin`, {how}.");
                self.warn("no-admin-socket", place, message, "Add `level admin` to the line, and `mode 600`, so that only its owner may open it.");
            }
            (None, Some(false)) if self.about.complete => {
                let global = self.config.of_kind("global").next();
                let place = global.map_or((0, 0, 0), |global| self.section(global));
                self.warn(
                    "no-admin-socket",
                    place,
                    "There is no `stats socket` of `level admin`, so each change of a server is a reload.".to_owned(),
                    "Add `stats socket /run/haproxy.sock mode 600 level admin` to `global`.",
                );
            }
            _ => {}
        }
        if self.about.master != Some(false) || certain().any(|socket| socket.expose_fd_listeners) {
            return;
        }
        if let Some(socket) = first {
            let place = place(self, socket);
            self.warn(
                "no-expose-fd",
                place,
                "Without a master a new process gets the listening sockets through a `stats socket` with `expose-fd listeners`, and none has it; connections may be refused at each reload.".to_owned(),
                "Add `expose-fd listeners` to the line, and start the new process with `-x` and the socket's path. With `haproxy -W` neither is needed.",
            );
        }
    }

    /// Kept connections that a reload meets while a request is on its way are reset (measured on 2.6 to 3.2).
    fn idle_close(&mut self) {
        let mut lacking: BTreeMap<Option<usize>, Vec<&Section>> = BTreeMap::new();
        for section in self.config.sections.iter().filter(|one| one.is_frontend()) {
            if section.conditional
                || self.config.is_disabled(section)
                || section.all("bind").next().is_none()
                || serves_only_statistics(section)
            {
                continue;
            }
            let mode = self.last(section, |line| line.keyword() == "mode");
            let is_http = mode.is_some_and(|(_, line)| line.word(1) == Some("http"));
            let says = |line: &Directive| says_option(line, "idle-close-on-response").is_some();
            let option = self.last(section, says);
            let set = option.and_then(|(_, line)| says_option(line, "idle-close-on-response"));
            if is_http && set != Some(true) {
                lacking.entry(section.defaults).or_default().push(section);
            }
        }
        let lacking: Vec<Vec<&Section>> = lacking.into_values().collect();
        for sections in lacking {
            let names: Vec<String> = sections
                .iter()
                .map(|section| format!("`{}`", section.name))
                .collect();
            let place = self.section(sections[0]);
            let message = format!(
                "{} {} {} no `option idle-close-on-response`: a reload resets kept connections on which a request is just coming.",
                match sections.len() {
                    1 => "The frontend",
                    _ => "The frontends",
                },
                names.join(", "),
                match sections.len() {
                    1 => "has",
                    _ => "have",
                },
            );
            self.warn(
                "no-idle-close",
                place,
                message,
                "Add `option idle-close-on-response` to their `defaults` (with a `timeout http-keep-alive`, so that idle clients leave old workers).",
            );
        }
    }

    fn shared_names(&mut self) {
        if self.at_least(3, 2) {
            return; // HAProxy warns itself.
        }
        let sections = self.config.sections.iter().filter(|one| !one.conditional);
        let named = |kind: &str| -> BTreeMap<&str, &Section> {
            let of_kind = sections.clone().filter(|one| one.kind == kind);
            of_kind.map(|one| (one.name.as_str(), one)).collect()
        };
        let (frontends, backends) = (named("frontend"), named("backend"));
        for (name, frontend) in frontends {
            let Some(backend) = backends.get(name) else {
                continue;
            };
            let later = match (frontend.file, frontend.line) > (backend.file, backend.line) {
                true => frontend,
                false => backend,
            };
            let place = self.section(later);
            self.warn(
                "shared-name",
                place,
                format!("A frontend and a backend are both called `{name}`, which HAProxy 3.2 warns of and later versions refuse."),
                "Rename one of them; `.in` behind the frontend's name is usual here.",
            );
        }
    }

    fn deprecated(&mut self) {
        for section in &self.config.sections {
            for line in &section.directives {
                let begins = |words: &[&str]| {
                    let mut pairs = words.iter().enumerate();
                    pairs.all(|(index, word)| line.word(index) == Some(word))
                };
                let known = DEPRECATED.iter().find(|(words, ..)| begins(words));
                let Some((words, (major, minor), help)) = known else {
                    continue;
                };
                if self.at_least(*major, *minor) {
                    continue; // HAProxy speaks about it itself.
                }
                let place = self.word(section.file, line, words.len() - 1);
                let message = format!(
                    "`{}` is not taken without complaint from HAProxy {major}.{minor} on.",
                    words.join(" ")
                );
                self.warn("deprecated-keyword", place, message, help);
            }
            if section.kind == "program" && !self.at_least(3, 1) {
                let place = self.section(section);
                self.warn(
                    "deprecated-keyword",
                    place,
                    "The section `program` is not taken without complaint from HAProxy 3.1 on."
                        .to_owned(),
                    "Start the program by systemd or another manager of processes.",
                );
            }
        }
    }

    /// Tried on 2.6 and 3.2: `if` with nothing behind it is never true, `unless` always.
    fn conditions(&mut self) {
        let config = self.config;
        for section in &config.sections {
            for line in &section.directives {
                let keyword = line.keyword();
                let takes_one = CONDITIONAL.contains(&keyword)
                    || (keyword == "monitor" && line.word(1) == Some("fail"));
                let last = line.words.len() - 1;
                let (true, Some(word @ ("if" | "unless"))) =
                    (takes_one && last > 0, line.word(last))
                else {
                    continue;
                };
                let place = self.word(section.file, line, last);
                let always = match word {
                    "if" => "never",
                    _ => "always",
                };
                self.warn(
                    "empty-condition",
                    place,
                    format!("Nothing stands behind `{word}`, and HAProxy takes the line for one that {always} applies."),
                    "Write the condition, or take the word away. Where a value of the catalog was to stand there, use {{#if}} around the whole line.",
                );
            }
        }
    }
}

/// Whether a line switches an option on or off.
fn says_option(line: &Directive, option: &str) -> Option<bool> {
    match (line.keyword(), line.word(1), line.word(2)) {
        ("option", Some(name), _) if name == option => Some(true),
        ("no", Some("option"), Some(name)) if name == option => Some(false),
        _ => None,
    }
}

/// A page for people and monitors loses nothing that matters.
fn serves_only_statistics(section: &Section) -> bool {
    let words: BTreeSet<&str> = section.directives.iter().map(Directive::keyword).collect();
    let service = section
        .all("http-request")
        .any(|line| line.word(1) == Some("use-service"));
    let backends = ["default_backend", "use_backend", "server"];
    (words.contains("stats") || service) && backends.iter().all(|word| !words.contains(word))
}
