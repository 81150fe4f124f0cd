//! Lints on a rendered configuration: what HAProxy takes and what then goes otherwise than it was meant, above all
//! when instances come and go. What HAProxy or the gate refuse is not told here again.

mod proxies;
mod reloads;
mod servers;

use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::config::{Backend, Config, Directive, Section, Server};
use crate::haproxy::runtime::Version;

/// What is known besides the configuration.
pub struct About<'a> {
    /// The text of each file of the configuration, in the order of [`Config::files`].
    pub texts: &'a [&'a str],
    /// HAProxy's version, where it is known.
    pub version: Option<Version>,
    /// Whether HAProxy is told through a master; `None` when nobody knows.
    pub master: Option<bool>,
    /// Whether HAProxy loads no other configuration file.
    pub complete: bool,
    /// Whether a line, from 1, of a file was written from the catalog.
    pub from_catalog: &'a dyn Fn(usize, usize) -> bool,
}

/// What is most likely not meant in a configuration.
pub fn configuration(config: &Config, about: &About<'_>) -> Vec<Finding> {
    let pools = config
        .backend_sections()
        .map(|section| (section, config.backend(section)))
        .filter(|(section, backend)| !section.conditional && !backend.disabled)
        .map(|(section, backend)| Pool::new(section, backend, about))
        .collect();
    let mut look = Look {
        config,
        about,
        lines: about
            .texts
            .iter()
            .map(|text| text.split('\n').collect())
            .collect(),
        pools,
        found: Vec::new(),
    };
    look.proxies();
    look.servers();
    look.reloads();
    let mut found = look.found;
    found.sort_by(|one, two| {
        (&one.file, one.line, one.column).cmp(&(&two.file, two.line, two.column))
    });
    found
}

/// A backend and those of its servers that come from the catalog.
struct Pool<'a> {
    section: &'a Section,
    backend: Backend,
    /// Servers from the catalog that are not disabled, by their places among all.
    from_catalog: Vec<usize>,
    /// Whether they are slots, which take every instance without a reload.
    slots: bool,
}

impl<'a> Pool<'a> {
    fn new(section: &'a Section, backend: Backend, about: &About<'_>) -> Pool<'a> {
        let servers = backend.servers.iter().enumerate();
        let from_catalog: Vec<usize> = servers
            .filter(|(_, server)| server.template.is_none() && !server.conditional)
            .filter(|(_, server)| (about.from_catalog)(section.file, server.line))
            .map(|(index, _)| index)
            .collect();
        let all_slots = from_catalog
            .iter()
            .all(|index| is_slot(&backend.servers[*index]));
        Pool {
            section,
            slots: all_slots && !from_catalog.is_empty(),
            from_catalog,
            backend,
        }
    }

    /// The servers from the catalog.
    fn catalog_servers(&self) -> impl Iterator<Item = &Server> {
        self.from_catalog
            .iter()
            .map(|index| &self.backend.servers[*index])
    }

    /// The line of a server.
    fn line(&self, server: &Server) -> Option<&'a Directive> {
        let mut lines = self.section.directives.iter();
        lines.find(|directive| directive.line == server.line)
    }

    /// `backend \`web\``.
    fn words(&self) -> String {
        format!("{} `{}`", self.backend.kind, self.backend.name)
    }
}

/// Whether it is one that the helper `slots` writes: `NAME-N … id N`.
fn is_slot(server: &Server) -> bool {
    let number = server.name.rsplit_once('-').map(|(_, number)| number);
    number.is_some_and(|number| value(&server.keywords, "id") == Some(number))
}

/// The value of a keyword, the last one in force.
fn value<'a>(keywords: &'a [Vec<String>], keyword: &str) -> Option<&'a str> {
    let found = keywords
        .iter()
        .rev()
        .find(|group| group.first().is_some_and(|word| word == keyword))?;
    found.get(1).map(String::as_str)
}

struct Look<'a> {
    config: &'a Config,
    about: &'a About<'a>,
    lines: Vec<Vec<&'a str>>,
    pools: Vec<Pool<'a>>,
    found: Vec<Finding>,
}

impl<'a> Look<'a> {
    /// A warning at a place: file, line and column from 1, 0 where unknown.
    fn warn(
        &mut self,
        code: &'static str,
        (file, line, column): (usize, usize, usize),
        message: String,
        help: &str,
    ) {
        let path = self.config.path(file).to_owned();
        self.found.push(Finding {
            severity: Severity::Warning,
            code,
            message,
            file: Some(path),
            line,
            column,
            help: Some(help.to_owned()),
        });
    }

    /// The place of a word of a line.
    fn word(&self, file: usize, directive: &Directive, index: usize) -> (usize, usize, usize) {
        let start = directive.words.get(index).map(|word| word.span.start);
        let line = self.line(file, directive.line);
        let column = start
            .and_then(|start| line.get(..start))
            .map_or(0, |before| before.chars().count() + 1);
        (file, directive.line, column)
    }

    /// The place of the word of a line that is this one, else of its second one.
    fn named(&self, file: usize, directive: &Directive, word: &str) -> (usize, usize, usize) {
        let found = directive.words.iter().position(|one| one.text == word);
        self.word(file, directive, found.unwrap_or(1))
    }

    /// The place of a section's name, or of its keyword when it has none.
    fn section(&self, section: &Section) -> (usize, usize, usize) {
        let line = self.line(section.file, section.line);
        let keyword = line.find(section.kind.as_str()).unwrap_or(0);
        let after = keyword + section.kind.len();
        let name = match section.name.as_str() {
            "" => None,
            name => line.get(after..).and_then(|rest| rest.find(name)),
        };
        let start = name.map_or(keyword, |name| after + name);
        let before = line.get(..start).unwrap_or_default();
        (section.file, section.line, before.chars().count() + 1)
    }

    fn line(&self, file: usize, line: usize) -> &'a str {
        let lines = self.lines.get(file);
        lines
            .and_then(|lines| lines.get(line.checked_sub(1)?))
            .copied()
            .unwrap_or_default()
    }

    /// What a section says last by a keyword, itself or by its defaults, with the section that says it.
    fn last<'s>(
        &'s self,
        section: &'s Section,
        fits: impl Fn(&Directive) -> bool,
    ) -> Option<(&'s Section, &'s Directive)> {
        std::iter::once(section)
            .chain(self.config.defaults_of(section))
            .find_map(|section| {
                let mut lines = section.directives.iter();
                Some((section, lines.rfind(|directive| fits(directive))?))
            })
    }

    /// Whether HAProxy is at least of a version; false when nobody knows.
    fn at_least(&self, major: u16, minor: u16) -> bool {
        let wanted = Version::new(major, minor, 0);
        self.about.version.is_some_and(|version| version >= wanted)
    }
}

#[cfg(test)]
mod tests;
