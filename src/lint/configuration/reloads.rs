//! Lints on what keeps instances from coming and going without a reload, and on what a reload or such a change does
//! to clients. What HAProxy adds at run time is told by its table of capabilities.

use std::collections::BTreeSet;

use super::{Look, Pool, value};
use crate::haproxy::config::Server;
use crate::haproxy::runtime::{Dynamic, Version, algorithm, keyword};

impl Look<'_> {
    pub(super) fn reloads(&mut self) {
        for pool in std::mem::take(&mut self.pools) {
            if !pool.from_catalog.is_empty() {
                let fixed = self.balance(&pool);
                if !fixed && !pool.slots {
                    self.options(&pool);
                    self.between(&pool);
                }
            }
            self.pools.push(pool);
        }
        self.mentions();
        self.state_file();
    }

    /// Whether the backend takes no servers at run time, which is told unless slots do without.
    fn balance(&mut self, pool: &Pool<'_>) -> bool {
        let hash_type = self.last(pool.section, |line| line.keyword() == "hash-type");
        let hash_type = hash_type.map(|(_, line)| line.rest(1));
        let words = &pool.backend.balance;
        let name = words.first().map_or("roundrobin", String::as_str);
        let line = self.last(pool.section, |line| line.keyword() == "balance");
        let place = line.map(|(section, line)| self.word(section.file, line, 1));
        let place = place.unwrap_or_else(|| self.section(pool.section));
        if let Dynamic::No(_) = algorithm(words, hash_type.as_deref()) {
            let help = match name.split('(').next().unwrap_or_default() {
                "static-rr" => {
                    "Write `balance roundrobin`, or keep it and write the servers by the helper `slots`."
                }
                "hash" | "hdr" | "rdp-cookie" | "source" | "uri" | "url_param" => {
                    "Add `hash-type consistent`, or keep it and write the servers by the helper `slots`."
                }
                _ => return true, // Not known for certain.
            };
            if !pool.slots {
                let message = format!(
                    "`balance {name}` is laid out when HAProxy loads it, so each instance of the {} that comes or goes needs a reload.",
                    pool.words()
                );
                self.warn("balance-needs-reload", place, message, help);
            }
            return true;
        }
        let ring = !matches!(name, "roundrobin" | "leastconn" | "first");
        let defaults = pool.backend.default_keywords();
        let by_id = |server: &&Server| {
            let given =
                |keyword| value(&server.keywords, keyword).or_else(|| value(&defaults, keyword));
            given("id").is_none() && given("hash-key").is_none()
        };
        if ring && let Some(server) = pool.catalog_servers().find(by_id) {
            let place = pool
                .line(server)
                .map(|line| self.word(pool.section.file, line, 1));
            let message = format!(
                "`balance {name}` places servers by their ids, and those of the {} have none: when one of them goes, others get its place, and most clients change their server.",
                pool.words()
            );
            self.warn(
                "ring-without-id",
                place.unwrap_or_else(|| self.section(pool.section)),
                message,
                "Add `id {{serverId this}}` to the server line; the helper `servers` writes it by itself.",
            );
        }
        false
    }

    /// Options and addresses with which HAProxy adds no server.
    fn options(&mut self, pool: &Pool<'_>) {
        // Without a version only what none takes counts.
        let version = self.about.version.unwrap_or(Version::new(u16::MAX, 0, 0));
        let defaults = pool.backend.default_keywords();
        let file = pool.section.file;
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for server in pool.catalog_servers() {
            let Some(line) = pool.line(server) else {
                continue;
            };
            for group in defaults.iter().chain(&server.keywords) {
                let word = group[0].as_str();
                // Gatewright leaves these to commands, or takes back what they take back.
                let told_otherwise =
                    matches!(word, "enabled" | "disabled") || word.starts_with("no-");
                if told_otherwise || keyword(version, word) == Dynamic::Yes || !told.insert(word) {
                    continue;
                }
                let by_default = pool
                    .section
                    .all("default-server")
                    .find(|line| line.words.iter().any(|one| one.text == word));
                let own = line.words.iter().any(|one| one.text == word);
                let place = match by_default.filter(|_| !own) {
                    Some(line) => self.named(file, line, word),
                    None => self.named(file, line, word),
                };
                let message = format!(
                    "HAProxy adds no server with `{word}` while it runs, so each new instance of the {} needs a reload.",
                    pool.words()
                );
                self.warn("server-needs-reload", place, message, help_for_option(word));
            }
            let bare = server
                .address
                .trim_start_matches("ipv4@")
                .trim_start_matches("ipv6@");
            let bare = bare.trim_start_matches('[').trim_end_matches(']');
            let message = match (server.opaque, bare.parse::<std::net::IpAddr>()) {
                (true, _) if told.insert("\"") => {
                    "HAProxy alone knows what an environment variable in a server line holds, so each change of this server needs a reload."
                }
                (false, Err(_)) if told.insert("address") => {
                    "HAProxy resolves names only when it loads them, so each instance with a name for an address needs a reload."
                }
                _ => continue,
            };
            let place = self.word(file, line, 2);
            self.warn("server-needs-reload", place, message.to_owned(), match server.opaque {
                true => "Write the value itself: {{env \"NAME\"}} reads a variable that templates.environment names.",
                false => "Register instances with IP addresses, or write {{NodeAddress}}.",
            });
        }
    }

    /// A `default-server` line that stands behind a server.
    fn between(&mut self, pool: &Pool<'_>) {
        let defaults: Vec<_> = pool.section.all("default-server").collect();
        let late = pool
            .catalog_servers()
            .map(|server| server.defaults_before)
            .min()
            .and_then(|before| defaults.get(before));
        if let Some(line) = late {
            let place = self.word(pool.section.file, line, 0);
            let message = format!(
                "This line stands behind servers of the {}, so that not all have the same options, and their changes need a reload.",
                pool.words()
            );
            self.warn(
                "server-needs-reload",
                place,
                message,
                "Move `default-server` before the first server.",
            );
        }
    }

    /// Lines that name a server of the catalog: HAProxy removes none that something else points to.
    fn mentions(&mut self) {
        let names: BTreeSet<String> = self
            .pools
            .iter()
            .filter(|pool| !pool.slots)
            .flat_map(Pool::catalog_servers)
            .map(|server| server.name.clone())
            .collect();
        if names.is_empty() {
            return;
        }
        let of_name = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
        let config = self.config;
        for section in &config.sections {
            for line in &section.directives {
                let is_server = line.keyword() == "server";
                let track = line.words.iter().position(|word| word.text == "track");
                let from = match (is_server, track) {
                    (true, None) => continue,
                    (true, Some(track)) => track + 1,
                    // A backend's name comes first there.
                    _ if matches!(line.keyword(), "use_backend" | "default_backend") => 2,
                    (false, _) => 1,
                };
                let found = line
                    .words
                    .iter()
                    .enumerate()
                    .skip(from)
                    .find_map(|(index, word)| {
                        let mut parts = word.text.split(|letter| !of_name(letter));
                        Some((index, parts.find(|part| names.contains(*part))?))
                    });
                let Some((index, name)) = found else {
                    continue;
                };
                let place = self.word(section.file, line, index);
                let message = format!(
                    "The server `{name}` comes from the catalog and is named here, and HAProxy removes no server while it runs that something else names."
                );
                self.warn(
                    "server-needs-reload",
                    place,
                    message,
                    "Choose servers by what they have in common: a backend of its own, written from (where …) or (service … tag=…).",
                );
            }
        }
    }

    /// Measured on 2.6 to 3.2: an old state gives a server its old port with its new address.
    fn state_file(&mut self) {
        if self.pools.iter().all(|pool| pool.from_catalog.is_empty()) {
            return;
        }
        let config = self.config;
        for section in &config.sections {
            for line in section.all("load-server-state-from-file") {
                if line.word(1) == Some("none") {
                    continue;
                }
                let place = self.word(section.file, line, 0);
                self.warn(
                    "server-state-file",
                    place,
                    "A state file from before a reload is laid over servers from the catalog: one that has moved since keeps its former port.".to_owned(),
                    "Take the line away. Gatewright changes servers without a reload, so that there is hardly any state to keep.",
                );
            }
        }
    }
}

fn help_for_option(word: &str) -> &'static str {
    match word {
        "resolvers" | "resolve-prefer" | "resolve-net" | "resolve-opts" | "init-addr" => {
            "Take it away: instances have IP addresses, and nothing is to be resolved."
        }
        "cookie" => {
            "HAProxy takes it from 2.8 on; before, `balance source` with `hash-type consistent` keeps a client at its server."
        }
        "redir" => "Use `http-request redirect` with a condition in the backend.",
        "socks4" | "namespace" => "Put it to servers that do not come from the catalog.",
        _ => {
            "Take it away, or write the servers by the helper `slots`, which changes only addresses."
        }
    }
}
