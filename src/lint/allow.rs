//! What somebody has allowed: by the settings, by a flag, by a comment in a template or in the configuration that it
//! makes. A comment allows the line that it stands on, or the next one when it stands alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::table::{LINTS, find};
use crate::diagnostic::{Diagnostic, Place, Severity, nearest};

/// What begins a comment of ours.
const MARK: &str = "gatewright:";

/// Codes that are allowed everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(BTreeSet<String>);

impl Allowed {
    /// Of codes; the first one that there is not is an error.
    pub fn new<'a>(codes: impl IntoIterator<Item = &'a str>) -> Result<Allowed, Diagnostic> {
        let mut allowed = BTreeSet::new();
        for code in codes {
            if find(code).is_none() {
                let diagnostic =
                    Diagnostic::error("unknown-lint", format!("There is no lint `{code}`."));
                return Err(diagnostic.help(meant(code)));
            }
            allowed.insert(code.to_owned());
        }
        Ok(Allowed(allowed))
    }

    /// Takes out of the diagnostics of one case what is allowed here or by a comment, and warnings at the very place
    /// of an error, which say nothing new. Which comments were of use is noted. Errors stay.
    pub fn sift(
        &self,
        diagnostics: Vec<Diagnostic>,
        comments: &Comments,
        used: &mut Used,
    ) -> Vec<Diagnostic> {
        let errors: Vec<Place> = diagnostics
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .filter_map(|one| one.place.clone())
            .filter(|place| place.line > 0)
            .collect();
        let stays = |one: &Diagnostic| {
            if one.severity == Severity::Error {
                return true;
            }
            let by_comment = comments.allow(one, used);
            let echo = one
                .place
                .as_ref()
                .is_some_and(|place| errors.contains(place));
            !by_comment && !echo && !self.0.contains(one.code)
        };
        let mut diagnostics = diagnostics;
        diagnostics.retain(stays);
        diagnostics
    }
}

/// The nearest code there is.
fn meant(code: &str) -> String {
    match nearest(code, LINTS.iter().map(|lint| lint.code)) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "`gatewright help lints` lists them all.".to_owned(),
    }
}

/// Comments that allowed something, by where they stand, with the code. Of several cases they are put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used(BTreeSet<(PathBuf, usize, String)>);

impl Used {
    /// Adds those of another case.
    pub fn extend(&mut self, other: Used) {
        self.0.extend(other.0);
    }
}

/// The comments of templates, and of what was rendered from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comments {
    list: Vec<Comment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comment {
    /// The file whose lines it is about.
    path: PathBuf,
    /// The line that it is about; none for the whole file.
    line: Option<usize>,
    /// Where it was written, and the code there.
    place: Place,
    code: String,
}

impl Comments {
    /// Reads those of a template or partial: `{{!-- gatewright: allow CODE --}}` for a line,
    /// `{{!-- gatewright: allow-file CODE --}}` for the whole file.
    pub fn template(&mut self, path: &Path, text: &str) {
        let mut from = 0;
        while let Some(found) = text[from..].find("{{!") {
            let start = from + found;
            let inner = &text[start..];
            let close = match inner.trim_start_matches("{{!").starts_with("--") {
                true => "--}}",
                false => "}}",
            };
            let Some(length) = inner.find(close) else {
                return;
            };
            let end = start + length + close.len();
            from = end;
            let Some(order) = Order::read(&text[start..start + length]) else {
                continue;
            };
            let line = (!order.whole_file).then(|| {
                let alone = |line: &str| is_comment_or_blank(line);
                line_meant(text, end, alone)
            });
            for (at, code) in order.codes {
                let at = start + at;
                self.list.push(Comment {
                    path: path.to_owned(),
                    line,
                    place: Place::bytes(path, text, at..at + code.len()),
                    code,
                });
            }
        }
    }

    /// Reads those of a rendered configuration: `# gatewright: allow CODE`. `origin` is where the template has a
    /// line and column of it.
    pub fn rendered(
        &mut self,
        path: &Path,
        text: &str,
        origin: impl Fn(usize, usize) -> Option<Place>,
    ) {
        let mut at = 0;
        for (index, line) in text.split('\n').enumerate() {
            let end = at + line.len();
            if let Some(start) = line.find('#')
                && let Some(order) = Order::read(&line[start..])
            {
                let alone =
                    |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
                let meant = (!order.whole_file).then(|| line_meant(text, end, alone));
                for (inside, code) in order.codes {
                    let bytes = at + start + inside;
                    let here = Place::bytes(path, text, bytes..bytes + code.len());
                    let place = match origin(index + 1, here.column) {
                        Some(place) => Place {
                            length: code.chars().count(),
                            ..place
                        },
                        None => here,
                    };
                    self.list.push(Comment {
                        path: path.to_owned(),
                        line: meant,
                        place,
                        code,
                    });
                }
            }
            at = end + 1;
        }
    }

    /// Whether one of them allows it. Each that does is noted.
    fn allow(&self, diagnostic: &Diagnostic, used: &mut Used) -> bool {
        let places = diagnostic
            .place
            .iter()
            .chain(&diagnostic.includes)
            .chain(&diagnostic.rendered);
        let places: Vec<(&Path, usize)> = places
            .map(|place| (place.path.as_path(), place.line))
            .collect();
        let mut allowed = false;
        for comment in self.list.iter().filter(|one| one.code == diagnostic.code) {
            let covers = |(path, line): &(&Path, usize)| {
                *path == comment.path && comment.line.is_none_or(|meant| meant == *line)
            };
            if places.iter().any(covers) {
                used.0.insert(comment.key());
                allowed = true;
            }
        }
        allowed
    }

    /// What is wrong with the comments themselves, when these were of use in all cases together.
    pub fn remarks(&self, used: &Used) -> Vec<Diagnostic> {
        let mut told = BTreeMap::new();
        for comment in &self.list {
            let Comment { place, code, .. } = comment;
            let remark = if find(code).is_none() {
                Diagnostic::warning("unknown-allow", format!("There is no lint `{code}`."))
                    .help(meant(code))
            } else if !used.0.contains(&comment.key()) {
                Diagnostic::warning(
                    "useless-allow",
                    format!("Nothing is left that `{code}` allows here."),
                )
                .help("Take the comment away.")
            } else {
                continue;
            };
            told.entry(comment.key())
                .or_insert_with(|| remark.at(place.clone()));
        }
        told.into_values().collect()
    }

    /// Adds those of another case.
    pub fn extend(&mut self, other: Comments) {
        for comment in other.list {
            if !self.list.contains(&comment) {
                self.list.push(comment);
            }
        }
    }
}

impl Comment {
    fn key(&self) -> (PathBuf, usize, String) {
        (self.place.path.clone(), self.place.line, self.code.clone())
    }
}

/// What a comment says.
struct Order {
    whole_file: bool,
    /// The codes with their first byte in the comment.
    codes: Vec<(usize, String)>,
}

impl Order {
    fn read(comment: &str) -> Option<Order> {
        let start = comment.len()
            - comment
                .trim_start_matches(['{', '!', '-', '#', ' ', '\t', '\n'])
                .len();
        let rest = comment[start..].strip_prefix(MARK)?;
        let word = rest.trim_start();
        let (whole_file, list) = match word.strip_prefix("allow-file") {
            Some(list) => (true, list),
            None => (false, word.strip_prefix("allow")?),
        };
        if !list.starts_with(char::is_whitespace) {
            return None;
        }
        let mut codes = Vec::new();
        let mut at = comment.len() - list.len();
        // What follows a word that no code holds is a reason in words.
        for part in list.split_inclusive([',', ' ', '\t', '\n']) {
            let word = part.trim_end_matches([',', ' ', '\t', '\n']);
            let is_code = word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            if !word.is_empty() {
                if !is_code || word == "-" {
                    break;
                }
                codes.push((at, word.to_owned()));
                if !part.contains(',') {
                    break;
                }
            }
            at += part.len();
        }
        (!codes.is_empty()).then_some(Order { whole_file, codes })
    }
}

/// The number of the line that a comment is about whose end is at a byte: its own, unless that is `alone`.
fn line_meant(text: &str, end: usize, alone: impl Fn(&str) -> bool) -> usize {
    let number = text[..end].matches('\n').count() + 1;
    let lines = || text.lines().enumerate().skip(number - 1);
    let meant = lines().find(|(_, line)| !alone(line));
    meant.map_or(number, |(index, _)| index + 1)
}

/// Whether a line of a template holds nothing but comments.
fn is_comment_or_blank(line: &str) -> bool {
    let mut rest = line.trim();
    // The end of a comment that began on a line before.
    if let (Some(end), true) = (rest.find("--}}"), !rest.starts_with("{{")) {
        rest = rest[end + 4..].trim_start();
    }
    while let Some(inner) = rest.strip_prefix("{{!") {
        let Some(end) = inner.find("}}") else {
            return true;
        };
        rest = inner[end + 2..].trim_start();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::render;

    const TEMPLATE: &str = "\
{{!-- gatewright: allow-file no-check --}}
{{!-- gatewright: allow no-else, unused-name because it is so --}}

{{#each (service \"web\")}}
    server {{!-- gatewright: allow prints-list --}} {{Tags}}
{{/each}}
# gatewright: allow slow-check
server a 10.0.0.1:80 check inter 60s
{{! gatewright: allow no-els }}
{{!-- gatewright: allowance no-else --}}
{{!-- something: allow no-else --}}
";

    fn comments() -> Comments {
        let mut comments = Comments::default();
        comments.template(Path::new("t.hbs"), TEMPLATE);
        comments
    }

    fn warning(code: &'static str, line: usize) -> Diagnostic {
        Diagnostic::warning(code, "It is so.").at(Place::at(
            Path::new("t.hbs"),
            TEMPLATE,
            line,
            1,
            1,
        ))
    }

    fn left(
        diagnostics: Vec<Diagnostic>,
        comments: &Comments,
        used: &mut Used,
    ) -> Vec<(&'static str, usize)> {
        Allowed::default()
            .sift(diagnostics, comments, used)
            .iter()
            .map(|one| (one.code, one.place.as_ref().map_or(0, |place| place.line)))
            .collect()
    }

    #[test]
    fn a_comment_allows_its_line_the_next_one_or_the_file() {
        let mut used = Used::default();
        let all = vec![
            warning("no-check", 8),
            warning("no-else", 4),
            warning("no-else", 5),
            warning("prints-list", 5),
            warning("prints-list", 6),
        ];
        assert_eq!(
            left(all, &comments(), &mut used),
            [("no-else", 5), ("prints-list", 6)]
        );
        let remarks = comments().remarks(&used);
        let told: Vec<String> = remarks.iter().map(|one| render(one, false)).collect();
        assert_eq!(
            told.concat(),
            "warning[useless-allow]: Nothing is left that `unused-name` allows here.
 --> t.hbs:2:34
  |
2 | {{!-- gatewright: allow no-else, unused-name because it is so --}}
  |                                  ^^^^^^^^^^^
  |
  = help: Take the comment away.
warning[unknown-allow]: There is no lint `no-els`.
 --> t.hbs:9:23
  |
9 | {{! gatewright: allow no-els }}
  |                       ^^^^^^
  |
  = help: Did you mean `no-else`?
"
        );
    }

    #[test]
    fn a_comment_of_the_configuration_allows_the_next_line() {
        let text = "backend b\n # gatewright: allow slow-check\n\n # more\n server a h:1\n server b h:2 # gatewright: allow no-check, slow-check\n";
        let mut comments = Comments::default();
        let origin = |line: usize, column: usize| {
            Some(Place::at(Path::new("t.hbs"), TEMPLATE, line + 5, column, 1))
        };
        comments.rendered(Path::new("/h.cfg"), text, origin);
        let rendered = |code, line| Diagnostic {
            rendered: Some(Place::at(Path::new("/h.cfg"), text, line, 1, 1)),
            ..warning(code, 1)
        };
        let mut used = Used::default();
        let all = vec![
            rendered("slow-check", 5),
            rendered("slow-check", 6),
            rendered("no-check", 5),
        ];
        assert_eq!(left(all, &comments, &mut used), [("no-check", 1)]);
        // Where the template has it is told.
        let remarks = comments.remarks(&used);
        assert_eq!(remarks.len(), 1);
        let place = remarks[0].place.as_ref().unwrap();
        assert_eq!(place.to_string(), "t.hbs:11:35");
    }

    #[test]
    fn settings_allow_everywhere_and_errors_stay() {
        let allowed = Allowed::new(["no-else"]).unwrap();
        let error = |code| Diagnostic {
            severity: Severity::Error,
            ..warning(code, 9)
        };
        let all = vec![
            warning("no-else", 1),
            error("no-else"),
            warning("unknown-field", 9),
            warning("unknown-field", 8),
        ];
        let left = allowed.sift(all, &Comments::default(), &mut Used::default());
        let codes: Vec<_> = left.iter().map(|one| (one.code, one.severity)).collect();
        assert_eq!(
            codes,
            [
                ("no-else", Severity::Error),
                ("unknown-field", Severity::Warning)
            ],
            "what is at the place of an error says nothing new"
        );
        assert_eq!(
            Allowed::new(["no-chek"]).unwrap_err().to_string(),
            "There is no lint `no-chek`. Did you mean `no-check`?"
        );
    }

    #[test]
    fn no_text_makes_reading_panic() {
        for text in [
            "{{!",
            "{{!--",
            "{{!-- gatewright: allow",
            "# gatewright: allow é,é",
            "{{!-- gatewright: allow \u{e9} --}}",
            "--}}",
        ] {
            let mut comments = Comments::default();
            comments.template(Path::new("t"), text);
            comments.rendered(Path::new("t"), text, |_, _| None);
            assert!(comments.remarks(&Used::default()).is_empty(), "{text}");
        }
    }
}
