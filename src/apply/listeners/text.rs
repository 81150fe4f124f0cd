//! The text of a section that is kept, out of the lines of the last good set. Pure.

use std::collections::BTreeSet;

use super::{KEPT, KEPT_FOR_IT, Wanted, in_shell};
use crate::apply::set::{Role, SetFile};
use crate::haproxy::config::{Config, Section};

/// A section of the last good set, and what it is kept for.
pub(super) struct Kept<'a> {
    pub section: &'a Section,
    pub listeners: Vec<&'a Wanted<'a>>,
    /// Lines of its file with the addresses that it loses.
    pub without: BTreeSet<usize>,
}

impl Kept<'_> {
    pub fn is(&self, section: &Section) -> bool {
        std::ptr::eq(self.section, section)
    }

    pub fn write(&self, texts: &Texts<'_>, servers: Option<Vec<&str>>, out: &mut String) {
        let section = self.section;
        out.push('\n');
        match self.listeners.iter().map(|one| one.since).min() {
            None => out.push_str(KEPT_FOR_IT),
            Some(since) => {
                let release: String = self
                    .listeners
                    .iter()
                    .map(|one| format!(" --listener {}", in_shell(&one.lost.endpoint.to_string())))
                    .collect();
                out.push_str(&format!(
                    "{KEPT}{since}: run `gatewright release{release}` to remove it."
                ));
            }
        }
        out.push('\n');
        // Its defaults stand right before it.
        let header = match &section.from {
            Some(_) => Some(format!("{} {}", section.kind, section.name)),
            None => texts.line(section.file, section.line).map(str::to_owned),
        };
        out.push_str(&header.unwrap_or_default());
        out.push('\n');
        let last = section.directives.last().map(|directive| directive.line);
        let is_server = |line: usize| {
            let mut directives = section.directives.iter();
            directives.any(|directive| directive.line == line && is_server(directive.keyword()))
        };
        let body: Vec<&str> = (section.line + 1..=last.unwrap_or(section.line))
            .filter(|line| servers.is_none() || !is_server(*line))
            .filter(|line| !self.without.contains(line))
            .filter_map(|line| texts.line(section.file, line))
            .collect();
        let says_something =
            |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let length = body.iter().rposition(says_something).map_or(0, |at| at + 1);
        for line in body
            .into_iter()
            .take(length)
            .chain(servers.unwrap_or_default())
        {
            out.push_str(line);
            out.push('\n');
        }
    }
}

/// The lines of the configuration files of a set, by [`Section::file`].
pub(super) struct Texts<'a> {
    files: &'a [SetFile],
    lines: Vec<Vec<&'a str>>,
}

impl<'a> Texts<'a> {
    pub fn of(files: &'a [SetFile]) -> Texts<'a> {
        let configs = files.iter().filter(|file| file.role == Role::Config);
        Texts {
            files,
            lines: configs
                .map(|file| file.text.split('\n').collect())
                .collect(),
        }
    }

    /// A line, from 1.
    pub fn line(&self, file: usize, line: usize) -> Option<&'a str> {
        self.lines.get(file)?.get(line.checked_sub(1)?).copied()
    }

    pub fn servers(&self, section: &Section) -> Vec<&'a str> {
        let servers = section
            .directives
            .iter()
            .filter(|directive| is_server(directive.keyword()));
        servers
            .filter_map(|directive| self.line(section.file, directive.line))
            .collect()
    }

    /// One `defaults` section with all that applied to a section, the farthest first. Sections that
    /// take none have none.
    pub fn defaults(&self, config: &Config, section: &Section) -> String {
        if !section.is_frontend() && !section.is_backend() {
            return String::new();
        }
        let mut text = "\n# Kept by Gatewright with what follows.\ndefaults\n".to_owned();
        for defaults in config.defaults_of(section).into_iter().rev() {
            for directive in &defaults.directives {
                text.push_str(self.line(defaults.file, directive.line).unwrap_or_default());
                text.push('\n');
            }
        }
        text
    }

    /// The files without these sections.
    pub fn without(&self, config: &Config, sections: &[&Section]) -> Vec<SetFile> {
        let mut number = 0;
        let files = self.files.iter().map(|file| {
            if file.role != Role::Config || sections.is_empty() {
                return file.clone();
            }
            let here = |section: &&Section| section.file == number;
            let removed: Vec<(usize, usize)> = sections
                .iter()
                .copied()
                .filter(here)
                .map(|section| {
                    let starts = config.sections.iter().filter(here).map(|next| next.line);
                    let end = starts.filter(|line| *line > section.line).min();
                    (section.line, end.unwrap_or(usize::MAX))
                })
                .collect();
            number += 1;
            let mut line = 0;
            let stays = |_: &&str| {
                line += 1;
                !removed
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&line))
            };
            SetFile {
                text: file.text.split_inclusive('\n').filter(stays).collect(),
                ..file.clone()
            }
        });
        files.collect()
    }
}

fn is_server(keyword: &str) -> bool {
    matches!(keyword, "server" | "server-template")
}
