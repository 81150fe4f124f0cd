//! Backends and their servers as values: `server`, `server-template`, `default-server` and
//! `balance` lines (HAProxy 2.6 configuration manual 4.2 and 5.2). It knows nothing of what their options mean to
//! health or traffic.

use super::addresses::split_port;
use super::arguments::of_server_option;
use super::sections::{Config, Directive, Section};

/// A backend, or the backend half of a listen section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// `backend` or `listen`.
    pub kind: String,
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line of the section's first line, from 1.
    pub line: usize,
    /// The words after `balance`, its own or from its defaults; empty when HAProxy's default is in
    /// force.
    pub balance: Vec<String>,
    /// The words of its `default-server` lines, and before them those of its defaults.
    pub default_server: Vec<String>,
    /// Its servers in order.
    pub servers: Vec<Server>,
    /// Whether the whole section is disabled.
    pub disabled: bool,
    /// Whether only HAProxy knows if it is there under this name.
    pub conditional: bool,
}

/// One `server` or `server-template` line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// The name, or the prefix of a template's names.
    pub name: String,
    /// The address without its port, as written (with brackets and prefixes).
    pub address: String,
    /// What follows the last colon of the address, as written.
    pub port: Option<String>,
    /// The keywords after the address, each with its value.
    pub keywords: Vec<Vec<String>>,
    /// First and last number of a `server-template`.
    pub template: Option<(u32, u32)>,
    /// Whether `disabled` is in force for it, of its own or from `default-server`.
    pub disabled: bool,
    /// Whether it is a `backup` server.
    pub backup: bool,
    /// How many `default-server` lines of the section stand before it.
    pub defaults_before: usize,
    /// Whether only HAProxy knows if this line counts.
    pub conditional: bool,
    /// Whether a word of it holds a variable.
    pub opaque: bool,
    /// Line in its file, from 1.
    pub line: usize,
}

impl Config {
    /// All backends and listen sections.
    pub fn backends(&self) -> Vec<Backend> {
        let sections = self.backend_sections();
        sections.map(|section| self.backend(section)).collect()
    }

    /// The section of a backend, or of a listen section, as a value.
    pub fn backend(&self, section: &Section) -> Backend {
        let defaults = self.defaults_of(section);
        let inherited = defaults.iter().rev();
        let mut default_server: Vec<String> = inherited
            .flat_map(|defaults| defaults.all("default-server"))
            .flat_map(|directive| directive.rest(1))
            .collect();
        let balance = std::iter::once(section)
            .chain(defaults)
            .find_map(|section| section.all("balance").last())
            .map(|directive| directive.rest(1));
        let mut servers = Vec::new();
        let mut defaults_before = 0;
        for directive in &section.directives {
            match directive.keyword() {
                "default-server" => {
                    default_server.extend(directive.rest(1));
                    defaults_before += 1;
                }
                "server" | "server-template" => {
                    let server = server(directive, &default_server, defaults_before);
                    servers.extend(server);
                }
                _ => {}
            }
        }
        Backend {
            name: section.name.clone(),
            kind: section.kind.clone(),
            file: section.file,
            line: section.line,
            balance: balance.unwrap_or_default(),
            default_server,
            servers,
            disabled: self.is_disabled(section),
            conditional: section.conditional,
        }
    }
}

fn server(directive: &Directive, defaults: &[String], defaults_before: usize) -> Option<Server> {
    let is_template = directive.keyword() == "server-template";
    let name = directive.word(1)?.to_owned();
    let (template, at) = if is_template {
        (Some(range(directive.word(2)?)), 3)
    } else {
        (None, 2)
    };
    let whole = directive.word(at)?;
    let (address, port) = if whole.starts_with('/') || whole.contains("unix@") {
        (whole, None)
    } else {
        split_port(whole)
    };
    let keywords = keywords(&directive.rest(at + 1));
    let defaults = self::keywords(defaults);
    let last = |yes: &str, no: &str| {
        let mut all = defaults.iter().chain(&keywords).filter_map(|k| k.first());
        all.rfind(|word| *word == yes || *word == no)
            .is_some_and(|word| word == yes)
    };
    Some(Server {
        disabled: last("disabled", "enabled"),
        backup: last("backup", "no-backup"),
        conditional: directive.conditional,
        opaque: directive.words.iter().any(|word| word.opaque),
        address: address.to_owned(),
        port: port.map(str::to_owned),
        line: directive.line,
        name,
        keywords,
        template,
        defaults_before,
    })
}

fn range(text: &str) -> (u32, u32) {
    let (low, high) = text.split_once('-').unwrap_or(("1", text));
    (low.parse().unwrap_or(1), high.parse().unwrap_or(0))
}

/// The words cut into keywords with their values.
fn keywords(words: &[String]) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut group = vec![word.clone()];
        let arguments = of_server_option(word).unwrap_or(0);
        group.extend(words.by_ref().take(arguments).cloned());
        groups.push(group);
    }
    groups
}

impl Server {
    /// How many servers the line makes: 1, or as many as the template says.
    pub fn count(&self) -> usize {
        match self.template {
            None => 1,
            Some((low, high)) => (u64::from(high) + 1).saturating_sub(u64::from(low)) as usize,
        }
    }

    /// Whether both lines say the same to HAProxy; the place in the file does not count.
    pub fn same_meaning(&self, other: &Server) -> bool {
        let line = other.line;
        Server {
            line,
            ..self.clone()
        } == *other
    }

    /// Address and port as written.
    pub fn target(&self) -> String {
        match &self.port {
            Some(port) => format!("{}:{port}", self.address),
            None => self.address.clone(),
        }
    }
}

impl Backend {
    /// The keywords of `default-server`, each with its value, its own after those of its defaults.
    pub fn default_keywords(&self) -> Vec<Vec<String>> {
        keywords(&self.default_server)
    }

    /// How many servers it has that are not disabled: for certain, and at most (with the
    /// conditional ones).
    pub fn enabled_servers(&self) -> (usize, usize) {
        let enabled = self.servers.iter().filter(|server| !server.disabled);
        enabled.fold((0, 0), |(certain, most), server| {
            let count = server.count();
            let certain_count = if server.conditional { 0 } else { count };
            (certain + certain_count, most + count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_values() {
        let config = Config::parse(
            "defaults\n balance leastconn\n default-server check\nbackend b\n server a 10.0.0.1:80 weight 5 cookie disabled backup\n\
             \n default-server disabled\n server b [::1]:81 id 7\n server c h enabled\n server d unix@/run/d:1\n\
             \n server-template t 3-5 api.local:80 resolvers disabled check\n",
        );
        let backend = &config.backends()[0];
        assert_eq!(backend.balance, ["leastconn"]);
        assert_eq!(backend.default_server, ["check", "disabled"]);
        let seen: Vec<_> = backend
            .servers
            .iter()
            .map(|s| (s.name.as_str(), s.target(), s.disabled, s.backup, s.count()))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", "10.0.0.1:80".to_owned(), false, true, 1),
                ("b", "[::1]:81".to_owned(), true, false, 1),
                ("c", "h".to_owned(), false, false, 1),
                ("d", "unix@/run/d:1".to_owned(), true, false, 1),
                ("t", "api.local:80".to_owned(), true, false, 3),
            ]
        );
        assert_eq!(backend.servers[0].port.as_deref(), Some("80"));
        assert_eq!(backend.servers[0].keywords[1], ["cookie", "disabled"]);
        assert_eq!(backend.enabled_servers(), (2, 2));
    }

    #[test]
    fn a_server_in_a_conditional_block_is_not_counted_for_certain() {
        let config = Config::parse(
            "backend b\n server a h:1\n .if feature(X)\n server b h:2\n .endif\n server c \"${H}:1\"\n",
        );
        assert_eq!(config.backends()[0].enabled_servers(), (2, 3));
    }
}
