//! What of a set's text came whole from a value, such as a key or a file, and what such a value has lost since
//! the last good set. A template's loop may drop a section because the catalog has dropped a service; a value
//! that has lost one, or ends in the middle of a line, was most likely cut. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plan::configuration;
use super::set::{Role, SetFile};
use crate::catalog::secrets::Secrets;
use crate::catalog::snapshot::digest;
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::config::{Config, Section, is_section_keyword};

/// The code of a section that a value has lost.
pub const SECTION_LOST: &str = "section-lost";
/// The code of a value that ends in the middle of a line.
pub const TEXT_CUT: &str = "text-cut";

const MEANT: &str = "If this is meant, run `gatewright release --all`.";

/// Where the lines of a set came from, as far as that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Names the templates that made the set; empty where that is not known.
    templates: String,
    /// Kind and name of each section that no template begins, so that a value has it.
    sections: BTreeSet<(String, String)>,
    /// The words by which the templates begin lines that hold values.
    words: BTreeSet<String>,
    /// What no message about the set may show. Only where it stands in the files is stored.
    pub secrets: Secrets,
}

impl Origin {
    /// Of a set that these templates and partials made.
    pub fn of<'a>(files: &[SetFile], templates: impl Iterator<Item = &'a str> + Clone) -> Origin {
        // Elsewhere a value of several lines is refused.
        if !templates.clone().any(|text| text.contains("raw")) {
            return Origin::default();
        }
        let mut words = BTreeSet::new();
        let mut heads: BTreeSet<(&str, Option<&str>)> = BTreeSet::new();
        let mut all = String::new();
        for text in templates {
            all.push_str(text);
            all.push('\0');
            for line in text.lines() {
                let mut parts = line.split_whitespace();
                let word = parts.next().unwrap_or_default();
                if is_section_keyword(word) {
                    let whole = !line.contains("{{");
                    heads.insert((word, whole.then_some(parts.next().unwrap_or_default())));
                }
                if line.contains("{{") {
                    words.insert(word.to_owned());
                    // A tag may stand before the section, and write nothing.
                    let words = line.split(['}', '{', ' ', '\t']);
                    heads.extend(
                        words
                            .filter(|word| is_section_keyword(word))
                            .map(|word| (word, None)),
                    );
                }
            }
        }
        let configs = files.iter().filter(|file| file.role == Role::Config);
        let lines = configs.flat_map(|file| file.text.lines());
        let sections = lines.filter_map(|line| {
            let mut parts = line.split_whitespace();
            let kind = parts.next().filter(|word| is_section_keyword(word))?;
            let name = parts.next().filter(|name| !name.starts_with('#'))?;
            let made = heads.contains(&(kind, None)) || heads.contains(&(kind, Some(name)));
            (!made).then(|| (kind.to_owned(), name.to_owned()))
        });
        Origin {
            sections: sections.collect(),
            templates: digest(&all),
            words,
            secrets: Secrets::default(),
        }
    }
}

/// What the values of a set have lost since the last good one. Another template is an operator's work.
pub fn judge(new: (&[SetFile], &Origin), good: (&[SetFile], &Origin)) -> Vec<Finding> {
    let (files, origin) = new;
    if origin.templates != good.1.templates || good.1.sections.is_empty() {
        return Vec::new();
    }
    let (now, before) = (configuration(files), configuration(good.0));
    let main = files.iter().find(|file| file.role == Role::Config);
    let error = |code, message, file: Option<&SetFile>, line| Finding {
        severity: Severity::Error,
        code,
        message,
        file: file.map(|file| file.destination.clone()),
        line,
        column: 0,
        help: Some(MEANT.into()),
    };
    let mut findings = Vec::new();
    for (kind, name) in &good.1.sections {
        let Some(new) = find(&now, kind, name) else {
            let message = format!(
                "The {kind} `{name}` was in a value of the last good set and is gone from it, so the value may be cut."
            );
            findings.push(error(SECTION_LOST, message, main, 0));
            continue;
        };
        let Some(old) = find(&before, kind, name) else {
            continue;
        };
        let (old, lines) = (lines_of(&before, old, good.0), lines_of(&now, new, files));
        if let Some(line) = cut_at(&old, &lines, &origin.words) {
            let file = files
                .iter()
                .find(|file| file.destination == now.path(new.file));
            let message = format!(
                "The {kind} `{name}` ends in the middle of a line of the last good set, so the value that it is in may be cut."
            );
            findings.push(error(TEXT_CUT, message, file, line));
        }
    }
    findings
}

fn find<'a>(config: &'a Config, kind: &str, name: &str) -> Option<&'a Section> {
    let mut sections = config.sections.iter();
    sections.find(|section| section.kind == kind && section.name == name)
}

/// The lines of a section that are neither blank nor comments, with their numbers.
fn lines_of<'a>(config: &Config, section: &Section, files: &'a [SetFile]) -> Vec<(usize, &'a str)> {
    let path = config.path(section.file);
    let file = files.iter().find(|file| file.destination == path);
    let all: Vec<&str> = file.map_or(Vec::new(), |file| file.text.split('\n').collect());
    let numbers = section.directives.iter().map(|line| line.line);
    numbers
        .filter_map(|number| Some((number, all.get(number.checked_sub(1)?)?.trim_start())))
        .collect()
}

/// The last line of a section, where that is all that is left of a longer line and of those after it.
/// `words` begin lines of the templates, which may have changed for any reason.
fn cut_at(old: &[(usize, &str)], new: &[(usize, &str)], words: &BTreeSet<String>) -> Option<usize> {
    let ((number, last), before) = new.split_last()?;
    let whole = old.get(before.len())?.1;
    let word = last.split_whitespace().next()?;
    let same = before.iter().zip(old).all(|(new, old)| new.1 == old.1);
    let cut = whole.len() > last.len() && whole.starts_with(last) && !words.contains(word);
    (same && cut).then_some(*number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "defaults\n mode http\n{{raw (key \"more\")}}\nbackend {{x}}\n balance random\nfrontend in\n bind :80\n";

    fn set(value: &str, backends: &[&str]) -> Vec<SetFile> {
        let made: String = backends
            .iter()
            .map(|name| format!("backend {name}\n balance random\n"))
            .collect();
        vec![SetFile {
            destination: "/h.cfg".into(),
            role: Role::Config,
            mode: None,
            text: format!("defaults\n mode http\n{value}\n{made}frontend in\n bind :80\n"),
        }]
    }

    const VALUE: &str =
        "listen a\n bind :81\n server s 10.0.0.1:80\nfrontend b\n bind :82\n default_backend x";

    fn judged(value: &str, backends: &[&str], template: &str) -> Vec<(&'static str, usize)> {
        let good = set(VALUE, &["x", "y"]);
        let origin = Origin::of(&good, [TEMPLATE].into_iter());
        let new = set(value, backends);
        let found = judge(
            (&new, &Origin::of(&new, [template].into_iter())),
            (&good, &origin),
        );
        found.iter().map(|one| (one.code, one.line)).collect()
    }

    #[test]
    fn a_value_that_has_lost_sections_or_ends_within_a_line_is_found() {
        let both = ["x", "y"];
        assert_eq!(judged(VALUE, &both, TEMPLATE), []);
        let whole = "listen a\n bind :81\n server s 10.0.0.1:80\nfrontend b\n bind :82";
        assert_eq!(judged(whole, &both, TEMPLATE), [], "a whole line");
        let (lost, _) = VALUE.split_once("frontend").unwrap();
        assert_eq!(judged(lost, &both, TEMPLATE), [(SECTION_LOST, 0)]);
        let (cut, _) = VALUE.split_once("_backend").unwrap();
        assert_eq!(judged(cut, &both, TEMPLATE), [(TEXT_CUT, 8)]);
        let (cut, _) = VALUE.split_once(".1:80").unwrap();
        assert_eq!(
            judged(cut, &both, TEMPLATE),
            [(SECTION_LOST, 0), (TEXT_CUT, 5)]
        );
        assert_eq!(judged("", &both, TEMPLATE).len(), 2);
    }

    #[test]
    fn a_template_may_lose_its_own_sections_and_another_template_any() {
        assert_eq!(judged(VALUE, &["x"], TEMPLATE), [], "of a loop");
        assert_eq!(judged("", &["x"], "{{raw (key \"other\")}}\n"), []);
        let changed = VALUE.replace("10.0.0.1:80", "10.0.0.2:8080");
        assert_eq!(judged(&changed, &["x", "y"], TEMPLATE), []);
    }

    #[test]
    fn a_line_that_the_templates_may_have_made_is_not_taken_for_cut() {
        let template = format!("{TEMPLATE}\n default_backend {{{{x}}}}\n");
        let good = set(VALUE, &[]);
        let new = set(VALUE.strip_suffix('x').unwrap(), &[]);
        let [one, two] = [&good, &new].map(|set| Origin::of(set, [template.as_str()].into_iter()));
        assert_eq!(judge((&new, &two), (&good, &one)), []);
    }

    #[test]
    fn without_raw_values_nothing_is_known() {
        let files = set(VALUE, &[]);
        assert_eq!(
            Origin::of(&files, ["backend b\n"].into_iter()),
            Origin::default()
        );
        assert_eq!(
            judge((&[], &Origin::default()), (&files, &Origin::default())),
            []
        );
    }
}
