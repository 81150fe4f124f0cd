//! The result of a check as plain data, for people and machines. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Diagnostic, Place, Severity};
use crate::exit;

/// What came of a run of checks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// One for each set of templates and catalog.
    pub cases: Vec<Case>,
}

/// What came of one set of templates with one catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// `haproxy.cfg.hbs with fixtures/three.json`.
    pub name: String,
    /// The templates of the set.
    pub templates: Vec<PathBuf>,
    /// The catalog file; none for a made catalog.
    pub catalog: Option<PathBuf>,
    /// The exit code that it alone would give.
    pub code: u8,
    /// What is to be told of it.
    pub diagnostics: Vec<Diagnostic>,
    /// How long it took.
    pub took: Duration,
}

/// A diagnostic, and the cases it was found in.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<'a> {
    /// As it was found first.
    pub diagnostic: &'a Diagnostic,
    /// In order, at least one.
    pub cases: Vec<&'a Case>,
}

impl Report {
    /// The exit code of the whole run.
    pub fn code(&self) -> u8 {
        let codes = self.cases.iter().map(|case| case.code);
        codes.max().unwrap_or(exit::OK)
    }

    /// Each diagnostic once: what is said of one place by one code is one, whatever catalog showed it. Where one
    /// catalog makes it an error and another a warning, it is an error.
    pub fn found(&self) -> Vec<Found<'_>> {
        let mut found: Vec<Found<'_>> = Vec::new();
        let mut known = BTreeMap::new();
        for case in &self.cases {
            for diagnostic in &case.diagnostics {
                let next = found.len();
                let index = *known.entry(sameness(diagnostic)).or_insert(next);
                match found.get_mut(index) {
                    Some(known) => {
                        if diagnostic.severity > known.diagnostic.severity {
                            known.diagnostic = diagnostic;
                        }
                        if known
                            .cases
                            .last()
                            .is_none_or(|last| !std::ptr::eq(*last, case))
                        {
                            known.cases.push(case);
                        }
                    }
                    None => found.push(Found {
                        diagnostic,
                        cases: vec![case],
                    }),
                }
            }
        }
        found
    }

    /// How many different diagnostics of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        let found = self.found();
        let of = found
            .iter()
            .filter(|one| one.diagnostic.severity == severity);
        of.count()
    }
}

/// `1 error`, `2 errors`.
pub fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    }
}

/// What is equal for diagnostics that are one: the code and the place, and without a line the message.
fn sameness(one: &Diagnostic) -> impl Ord + use<'_> {
    let place = one.place.as_ref();
    let message = match place {
        Some(place) if place.line > 0 => "",
        _ => &one.message,
    };
    let place = place.map(|at| (&at.path, at.line, at.column, at.length, &at.text));
    (one.code, place, message)
}

impl Case {
    /// The catalog in words, as in `with fixtures/three.json`.
    pub fn with(&self) -> &str {
        self.name
            .rsplit_once(" with ")
            .map_or("", |(_, catalog)| catalog)
    }

    /// What is checked with it.
    pub fn title(&self) -> &str {
        self.name
            .rsplit_once(" with ")
            .map_or(&self.name, |(title, _)| title)
    }
}

impl Found<'_> {
    /// A place among the files that are checked, for what shows nothing without one: the diagnostic's own, or the
    /// template as a whole where it has none or is about a rendered file alone; the catalog for what that holds.
    pub fn place(&self) -> Option<Place> {
        let case = self.cases[0];
        let first = case.templates.first();
        // A rendered file's path is absolute, also where everything else is seen from here.
        let near = first.is_none_or(|template| template.is_relative());
        let own = self.diagnostic.place.as_ref();
        if let Some(place) = own.filter(|place| !near || place.path.is_relative()) {
            return Some(place.clone());
        }
        let catalog = case.catalog.as_ref();
        let file = catalog.filter(|_| self.diagnostic.code == "quarantined");
        file.or(first).map(|path| Place::file(path))
    }

    /// The diagnostic with a note about the catalogs that showed it, where these are some of several.
    pub fn told(&self, report: &Report) -> Diagnostic {
        let one = self.diagnostic.clone();
        let first = self.cases[0];
        let same = |case: &&Case| case.templates == first.templates;
        let all = report.cases.iter().filter(same).count();
        match self.cases.as_slice() {
            [only] if all > 1 => one.note(format!("found with {}", only.with())),
            [first, second] if all > 2 => {
                one.note(format!("found with {} and {}", first.with(), second.with()))
            }
            [first, rest @ ..] if !rest.is_empty() && self.cases.len() < all => one.note(format!(
                "found with {} and {} more of {all} catalogs",
                first.with(),
                rest.len()
            )),
            _ => one,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::super::{Cause, Place};
    use super::*;

    /// A report with all that a diagnostic can hold.
    pub fn example() -> Report {
        let source = "backend web\n    server a <b> \"c\" & wieght 1\n";
        let diagnostic = Diagnostic {
            includes: vec![Place {
                line: 14,
                column: 3,
                ..Place::file(Path::new("haproxy.cfg.hbs"))
            }],
            rendered: Some(Place::at(
                Path::new("/etc/haproxy/haproxy.cfg"),
                "server a 10.0.0.1:80 wieght 1",
                1,
                22,
                6,
            )),
            causes: vec![Cause {
                query: "service \"web\"".to_owned(),
                item: Some("instance a on node n1".to_owned()),
            }],
            ..Diagnostic::error(
                "haproxy",
                "unknown keyword 'wieght', 100% sure:\nit is, so.",
            )
        }
        .at(Place::bytes(Path::new("sub dir/line.hbs"), source, 35..41))
        .note("a note")
        .help("Did you mean `weight`?");
        let case = |with: &str, code, diagnostics| Case {
            name: format!("haproxy.cfg.hbs with {with}"),
            templates: vec!["haproxy.cfg.hbs".into()],
            catalog: with.ends_with(".json").then(|| with.into()),
            code,
            diagnostics,
            took: Duration::from_millis(250),
        };
        Report {
            cases: vec![
                case("a.json", 5, vec![diagnostic.clone()]),
                case("b.json", 5, vec![diagnostic]),
                case(
                    "one instance",
                    0,
                    vec![Diagnostic::warning("quarantined", "Left out \u{1b}[31m.")],
                ),
            ],
        }
    }

    #[test]
    fn what_several_catalogs_show_is_told_once() {
        let report = example();
        let found = report.found();
        assert_eq!(found.len(), 2);
        let notes: Vec<Vec<String>> = found.iter().map(|one| one.told(&report).notes).collect();
        assert_eq!(
            notes,
            [
                vec![
                    "a note".to_owned(),
                    "found with a.json and b.json".to_owned()
                ],
                vec!["found with one instance".to_owned()]
            ]
        );
        assert_eq!((report.code(), report.count(Severity::Error)), (5, 1));
    }

    #[test]
    fn what_has_no_place_among_the_files_is_at_the_template_or_the_catalog() {
        let mut report = example();
        let place = |report: &Report| -> Vec<String> {
            let found = report.found();
            found
                .iter()
                .map(|one| one.place().unwrap().to_string())
                .collect()
        };
        assert_eq!(
            place(&report),
            ["sub dir/line.hbs:2:24", "haproxy.cfg.hbs"],
            "of a made catalog there is no file"
        );
        report.cases[2].catalog = Some("c.json".into());
        assert_eq!(place(&report)[1], "c.json");
        let rendered = Place::at(Path::new("/etc/haproxy/haproxy.cfg"), "x\n", 1, 1, 1);
        report.cases[2].diagnostics =
            vec![Diagnostic::error("duplicate-server", "Twice.").at(rendered)];
        assert_eq!(place(&report)[1], "haproxy.cfg.hbs");
        report.cases[2].templates = vec!["/srv/haproxy.cfg.hbs".into()];
        assert_eq!(place(&report)[1], "/etc/haproxy/haproxy.cfg:1:1");
    }
}
