//! The gate: what a set must be besides valid. `haproxy -c` accepts an empty file, a configuration
//! without a server and one that has lost a listener (measured on 2.6 to 3.2); the gate does not.
//! Pure: it reads the texts of the set and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod coverage;
mod loss;
mod shared;

pub use self::coverage::is_covered;
pub use self::loss::{LAST_SERVERS_LOST, SERVERS_LOST, judge_loss};
use super::listeners::{in_shell, lost};
use super::plan::{configuration, is_marker, map_entries};
use super::set::{Candidate, Role, SetFile};
use crate::diagnostic::{Severity, nearest};
use crate::haproxy::Finding;
use crate::haproxy::config::{Backend, Bind, Config, Endpoint, MapUse, Section, Target};

/// The code of a set that does not listen where the last good one does.
pub const BIND_LOST: &str = "bind-lost";

/// More findings than this are counted, not listed.
const FINDINGS_MAX: usize = 100;

/// What the operator asks of every set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Backend → how many servers that are not disabled it must have. It must exist.
    pub min_servers: BTreeMap<String, usize>,
    /// The same for every other backend that does not answer by itself.
    pub require_servers_default: usize,
    /// Whether a listening address of the last good set may go away.
    pub allow_bind_loss: bool,
    /// The kinds of section that may be there; `None` allows all.
    pub allowed_sections: Option<BTreeSet<String>>,
    /// Whether a set about which HAProxy's validation warns is refused.
    pub strict_warnings: bool,
    /// Whether HAProxy loads no configuration file outside the set. When it does, names that are not
    /// found here may be there.
    pub complete: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            min_servers: BTreeMap::new(),
            require_servers_default: 0,
            allow_bind_loss: false,
            allowed_sections: None,
            strict_warnings: false,
            complete: true,
        }
    }
}

/// Everything that speaks against a set. Errors refuse it; warnings are shown.
pub fn judge(new: &Candidate, last_good: Option<&[SetFile]>, rules: &Rules) -> Vec<Finding> {
    let config = configuration(&new.files);
    let backends = config.backends();
    let mut gate = Gate {
        files: &new.files,
        may_lose: &new.may_lose,
        config: &config,
        names: backends.iter().map(|b| b.name.clone()).collect(),
        backends,
        rules,
        findings: Vec::new(),
    };
    gate.texts();
    if gate.content(last_good) {
        gate.sections();
        gate.listeners(last_good);
        gate.servers();
        gate.references();
        gate.maps();
    }
    let mut findings = gate.findings;
    findings.sort_by_key(|finding| finding.severity != Severity::Error);
    if findings.len() > FINDINGS_MAX {
        let more = findings.len() - FINDINGS_MAX;
        findings.truncate(FINDINGS_MAX);
        findings.push(Finding {
            severity: Severity::Warning,
            code: "more-findings",
            message: format!("There are {more} more findings."),
            file: None,
            line: 0,
            column: 0,
            help: None,
        });
    }
    findings
}

/// What speaks against the servers of a part of a set: the backends that are in these texts. What the
/// whole must be is not asked.
pub fn judge_servers(part: &[SetFile], rules: &Rules) -> Vec<Finding> {
    let config = configuration(part);
    let backends = config.backends();
    let rules = Rules {
        complete: false,
        ..rules.clone()
    };
    let mut gate = Gate {
        files: part,
        may_lose: &BTreeSet::new(),
        config: &config,
        names: backends.iter().map(|b| b.name.clone()).collect(),
        backends,
        rules: &rules,
        findings: Vec::new(),
    };
    gate.texts();
    gate.servers();
    gate.findings
}

/// Whether a configuration says anything but which set it is.
fn has_lines(config: &Config) -> bool {
    let mut sections = config.sections.iter();
    sections.any(|section| {
        let mut directives = section.directives.iter();
        section.kind != "global" || directives.any(|one| !is_marker(one))
    })
}

struct Gate<'a> {
    files: &'a [SetFile],
    may_lose: &'a BTreeSet<Endpoint>,
    config: &'a Config,
    backends: Vec<Backend>,
    names: BTreeSet<String>,
    rules: &'a Rules,
    findings: Vec<Finding>,
}

impl Gate<'_> {
    /// Bytes and lines, before any meaning.
    fn texts(&mut self) {
        for file in self.files {
            let text = &file.text;
            if file.role != Role::Other && !text.is_empty() && !text.ends_with('\n') {
                let line = text.split('\n').count();
                let place = (file.destination.clone(), line);
                self.error(
                    "no-final-newline",
                    place,
                    "The last line does not end in a line feed, so the file may be cut.".into(),
                )
                .help =
                    Some("HAProxy refuses such a file. End the template with a line end.".into());
            }
            if let Some((line, column, character)) = control_character(file) {
                let code = u32::from(character);
                let place = (file.destination.clone(), line);
                let finding = self.error(
                    "control-character",
                    place,
                    format!("The control character \\x{code:02x} stands in this line."),
                );
                finding.column = column;
                finding.help = Some(
                    "It most likely comes from a value of the catalog; leave it out or escape it."
                        .into(),
                );
            }
        }
        for error in &self.config.errors {
            let place = (self.config.path(error.file).to_owned(), error.line);
            self.error("unreadable-line", place, error.error.to_string())
                .column = error.column;
        }
    }

    /// Whether the set says anything. Beside a configuration of others, a set may consist of one comment or have no
    /// configuration, unless the last good one held more.
    fn content(&mut self, last_good: Option<&[SetFile]>) -> bool {
        let main = self.files.iter().find(|file| file.role == Role::Config);
        let beside = main.is_none_or(|file| !file.text.trim().is_empty())
            && !self.rules.complete
            && last_good.is_none_or(|files| !has_lines(&configuration(files)));
        if main.is_some() && has_lines(self.config) || beside {
            return true;
        }
        let place = (self.main(), 0);
        self.error(
            "empty-configuration",
            place,
            "The configuration is empty.".into(),
        )
        .help = Some(
            "Look at the template's conditions: HAProxy would start with nothing to serve.".into(),
        );
        false
    }

    fn sections(&mut self) {
        let config = self.config;
        if let Some(allowed) = &self.rules.allowed_sections {
            for section in config
                .sections
                .iter()
                .filter(|s| !allowed.contains(&s.kind))
            {
                let place = self.at(section.file, section.line);
                let kind = &section.kind;
                self.error(
                    "section-not-allowed",
                    place,
                    format!("A `{kind}` section is not allowed here by the settings."),
                );
            }
        }
        let mut told = BTreeSet::new(); // two listen sections clash as frontends and as backends
        for fits in [Section::is_frontend, Section::is_backend] {
            let mut seen: BTreeMap<&str, &Section> = BTreeMap::new();
            let certain = |s: &&Section| fits(s) && !s.conditional;
            for section in config.sections.iter().filter(certain) {
                let Some(first) = seen.get(section.name.as_str()) else {
                    seen.insert(&section.name, section);
                    continue;
                };
                if !told.insert((section.file, section.line)) {
                    continue;
                }
                let place = self.at(section.file, section.line);
                let message = format!(
                    "The {} `{}` has the same name as the {} on line {}{}.",
                    section.kind,
                    section.name,
                    first.kind,
                    first.line,
                    self.of_other_file(first.file, section.file),
                );
                self.error("duplicate-section", place, message).help =
                    Some("Two catalog entries may lead to one name; make the names differ.".into());
            }
        }
    }

    fn listeners(&mut self, last_good: Option<&[SetFile]>) {
        let binds = self.config.binds();
        if self.rules.complete && binds.is_empty() && !self.has_peers() {
            let place = (self.main(), 0);
            let message =
                "No frontend, listen, log-forward or peers section has an address to listen on.";
            self.error("no-frontend", place, message.into()).help =
                Some("HAProxy would accept no connection.".into());
        }
        let good = last_good.map(|files| configuration(files).binds());
        self.shared(&binds, good.as_deref().unwrap_or_default());
        let Some(good) = good.filter(|_| !self.rules.allow_bind_loss) else {
            return;
        };
        for lost in lost(&binds, &good) {
            if self.may_lose.contains(&lost.endpoint) {
                continue;
            }
            let message = format!(
                "The last good set listens on {} ({} `{}`); this one does not.",
                lost.endpoint, lost.kind, lost.section
            );
            let place = (self.main(), 0);
            let finding = self.error(BIND_LOST, place, message);
            finding.help = Some(format!(
                "If this is meant, run `gatewright release --listener {}`.",
                in_shell(&lost.endpoint.to_string())
            ));
            if lost.conditional {
                finding.severity = Severity::Warning;
            }
        }
    }

    /// Two sections on one address. Where the last good set has that, too, its operator lives with it.
    fn shared(&mut self, binds: &[Bind], good: &[Bind]) {
        let known: BTreeSet<&Endpoint> = shared::shared(good)
            .iter()
            .map(|one| one.endpoint)
            .collect();
        for one in shared::shared(binds) {
            let (first, second) = (one.first, one.second);
            let message = format!(
                "The {} `{}` listens on {}, and so does the {} `{}` on line {}{}: the kernel would give each of them some of the connections.",
                second.kind,
                second.section,
                one.endpoint,
                first.kind,
                first.section,
                first.line,
                self.of_other_file(first.file, second.file),
            );
            let place = self.at(second.file, second.line);
            let finding = self.error("address-shared", place, message);
            finding.help = Some("Give each section an address of its own, or put the lines of both into one section.".into());
            if known.contains(one.endpoint) {
                finding.severity = Severity::Warning;
            }
        }
    }

    /// Whether a peer has an address: HAProxy listens on that of its own name.
    fn has_peers(&self) -> bool {
        let sections = self.config.sections.iter();
        sections
            .filter(|section| section.kind == "peers" && !self.config.is_disabled(section))
            .flat_map(|section| &section.directives)
            .any(|line| matches!(line.keyword(), "peer" | "server") && line.word(2).is_some())
    }

    fn servers(&mut self) {
        for backend in self.backends.clone() {
            self.duplicate_servers(&backend);
            let named = self.rules.min_servers.get(&backend.name).copied();
            let need = match named {
                Some(need) => need,
                None if self.answers_by_itself(&backend) => 0,
                None => self.rules.require_servers_default,
            };
            let (certain, most) = if backend.disabled {
                (0, 0)
            } else {
                backend.enabled_servers()
            };
            if certain >= need {
                continue;
            }
            let place = self.at(backend.file, backend.line);
            let message = format!(
                "The {} `{}` has {} of the {need} servers it must have.",
                backend.kind, backend.name, certain
            );
            let finding = self.error("too-few-servers", place, message);
            if most >= need {
                finding.severity = Severity::Warning;
                finding.help =
                    Some("Others stand in conditional blocks and are not counted.".into());
            } else {
                finding.help = Some("Look at the health of its service in the catalog, or lower the minimum in the settings.".into());
            }
        }
        let required: Vec<&String> = self.rules.min_servers.keys().collect();
        for name in required {
            if !self.rules.complete || self.has_backend(name) {
                continue;
            }
            let place = (self.main(), 0);
            let help = self.did_you_mean(name);
            self.error(
                "missing-backend",
                place,
                format!("The settings require the backend `{name}`, which is not there."),
            )
            .help = help;
        }
    }

    fn duplicate_servers(&mut self, backend: &Backend) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let certain = |s: &&crate::haproxy::config::Server| {
            !s.conditional && !s.opaque && s.template.is_none()
        };
        for server in backend.servers.iter().filter(certain) {
            let Some(first) = seen.insert(&server.name, server.line) else {
                continue;
            };
            let place = self.at(backend.file, server.line);
            let message = format!(
                "The server `{}` of the {} `{}` is already there on line {first}.",
                server.name, backend.kind, backend.name
            );
            self.error("duplicate-server", place, message).help = Some(
                "Give each server a name of its own, for example by the helper `serverName`."
                    .into(),
            );
        }
    }

    /// Literal backend names.
    fn references(&mut self) {
        if !self.rules.complete {
            return;
        }
        for reference in self.config.backend_uses() {
            let Target::Name(name) = &reference.target else {
                continue;
            };
            if self.has_backend(name) {
                continue;
            }
            let place = self.at(reference.file, reference.line);
            let help = self.did_you_mean(name);
            let severity = self.severity(reference.conditional);
            let finding = self.error(
                "unknown-backend",
                place,
                format!("There is no backend `{name}`."),
            );
            finding.severity = severity;
            finding.help = help;
        }
    }

    /// Map files, and the backends that their values name.
    fn maps(&mut self) {
        let uses = self.config.maps();
        for file in self.files.iter().filter(|file| file.role == Role::Map) {
            let used = uses.iter().any(|map| names(&map.path, &file.destination));
            for entry in map_entries(&file.text)
                .iter()
                .filter(|e| e.value.is_empty())
            {
                let place = (file.destination.clone(), entry.line);
                let finding = self.error(
                    "map-without-value",
                    place,
                    format!("The key `{}` has no value.", entry.key),
                );
                if !used {
                    finding.severity = Severity::Warning;
                }
            }
        }
        if !self.rules.complete {
            return;
        }
        let mut told = BTreeSet::new();
        for reference in self.config.backend_uses() {
            let Target::Map {
                before,
                map,
                after,
                variable,
            } = &reference.target
            else {
                continue;
            };
            let severity = self.severity(reference.conditional || variable.is_some());
            for (place, value) in self.map_values(map) {
                let name = format!("{before}{value}{after}");
                let computed = map.converter.starts_with("map_regm") && value.contains('\\');
                if computed
                    || value.is_empty()
                    || self.has_backend(&name)
                    || !told.insert((place.clone(), name.clone()))
                {
                    continue;
                }
                let help = self.did_you_mean(&name);
                let message = format!(
                    "There is no backend `{name}`, which `use_backend` on line {} may choose.",
                    reference.line
                );
                let finding = self.error("unknown-backend-in-map", place, message);
                finding.severity = severity;
                finding.help = help;
            }
        }
    }

    /// The values of a map of the set, with their places, and the default.
    fn map_values(&self, map: &MapUse) -> Vec<((PathBuf, usize), String)> {
        let mut values = Vec::new();
        let of_use =
            |file: &&SetFile| file.role == Role::Map && names(&map.path, &file.destination);
        for file in self.files.iter().filter(of_use) {
            for entry in map_entries(&file.text) {
                values.push(((file.destination.clone(), entry.line), entry.value));
            }
        }
        values.extend(
            map.default
                .clone()
                .map(|value| (self.at(map.file, map.line), value)),
        );
        values
    }

    /// Whether a backend needs no server: it returns, redirects or denies, or sends elsewhere.
    fn answers_by_itself(&self, backend: &Backend) -> bool {
        let section = self
            .config
            .sections
            .iter()
            .find(|s| (s.file, s.line) == (backend.file, backend.line));
        let answers = |words: (&str, &str)| match words {
            ("http-request" | "tcp-request", action) => [
                "return",
                "redirect",
                "deny",
                "tarpit",
                "reject",
                "use-service",
            ]
            .contains(&action),
            (keyword, _) => [
                "redirect",
                "stats",
                "dispatch",
                "use-fcgi-app",
                "use_backend",
                "default_backend",
            ]
            .contains(&keyword),
        };
        backend.servers.is_empty()
            && section.is_some_and(|section| {
                let directives = section.directives.iter();
                directives
                    .map(|d| (d.keyword(), d.word(1).unwrap_or_default()))
                    .any(answers)
            })
    }

    fn has_backend(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Errors are warnings where only HAProxy knows.
    fn severity(&self, conditional: bool) -> Severity {
        if conditional || self.backends.iter().any(|backend| backend.conditional) {
            Severity::Warning
        } else {
            Severity::Error
        }
    }

    fn did_you_mean(&self, name: &str) -> Option<String> {
        let near = nearest(name, self.names.iter().map(String::as_str))?;
        Some(format!("Did you mean `{near}`?"))
    }

    fn main(&self) -> PathBuf {
        let main = self.files.iter().find(|file| file.role == Role::Config);
        main.map(|file| file.destination.clone())
            .unwrap_or_default()
    }

    fn at(&self, file: usize, line: usize) -> (PathBuf, usize) {
        (self.config.path(file).to_owned(), line)
    }

    fn of_other_file(&self, file: usize, this: usize) -> String {
        if file == this {
            return String::new();
        }
        format!(" of {}", self.config.path(file).display())
    }

    fn error(
        &mut self,
        code: &'static str,
        place: (PathBuf, usize),
        message: String,
    ) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding {
            severity: Severity::Error,
            code,
            message,
            file: Some(place.0).filter(|path| !path.as_os_str().is_empty()),
            line: place.1,
            column: 0,
            help: None,
        });
        &mut self.findings[at]
    }
}

/// Whether a path in the configuration means a file of the set.
fn names(written: &str, destination: &Path) -> bool {
    let written = Path::new(written);
    destination == written || (written.is_relative() && destination.ends_with(written))
}

fn control_character(file: &SetFile) -> Option<(usize, usize, char)> {
    for (index, line) in file.text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let bad = |c: char| match file.role {
            Role::Other => c == '\0',
            _ => c.is_control() && c != '\t',
        };
        if let Some((column, character)) = line.chars().enumerate().find(|(_, c)| bad(*c)) {
            return Some((index + 1, column + 1, character));
        }
    }
    None
}

#[cfg(test)]
mod tests;
