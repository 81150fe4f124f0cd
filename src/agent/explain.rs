//! A finding about a rendered line, told as a diagnostic about the template that made it.

use crate::apply::set::Candidate;
use crate::diagnostic::{Cause, Diagnostic, Place, Severity};
use crate::haproxy::{Finding, redact};
use crate::lint;
use crate::template::{Origin, SourceMap};

/// Points at the template where the map knows it, else at the rendered line. `maps` stand in the
/// order of the set's files. Nothing that is a secret of the set is shown.
pub fn explain(finding: &Finding, set: &Candidate, maps: &[SourceMap]) -> Diagnostic {
    found(finding, set, maps).without(&set.origin.secrets)
}

fn found(finding: &Finding, set: &Candidate, maps: &[SourceMap]) -> Diagnostic {
    let files = &set.files;
    let mut diagnostic = match finding.severity {
        Severity::Error => Diagnostic::error(finding.code, &finding.message),
        Severity::Warning => Diagnostic::warning(finding.code, &finding.message),
    };
    diagnostic.help.clone_from(&finding.help);
    let Some(path) = &finding.file else {
        return diagnostic;
    };
    let found = files.iter().position(|file| file.destination == *path);
    let text = found.map_or("", |index| files[index].text.as_str());
    let rendered = Place::at(path, text, finding.line, finding.column, 1);
    if finding.line == 0 {
        let template = found.and_then(|index| maps.get(index)?.template(index));
        diagnostic.place = Some(template.unwrap_or_else(|| Place::file(path)));
        return diagnostic;
    }
    let Some((map, origin)) = found
        .and_then(|index| maps.get(index))
        .and_then(|map| Some((map, map.origin(finding.line)?)))
    else {
        diagnostic.place = Some(Place {
            text: redact::hide(&set.origin.secrets.hide(&rendered.text), &[]),
            ..rendered
        });
        return diagnostic;
    };
    let column = match finding.column {
        0 => meant(&finding.message, &rendered.text),
        // Lints mean a word.
        column if lint::find(finding.code).is_some() => {
            let rest = rendered.text.chars().skip(column - 1);
            let length = rest.take_while(|letter| !letter.is_whitespace()).count();
            Some((column, length.max(1)))
        }
        column => Some((column, 1)),
    };
    let part = column.and_then(|(column, length)| {
        let part = map.part(finding.line, column)?;
        Some(match part.value {
            true => part.place,
            // Only what is meant of the text around it.
            false => Place {
                column: part.place.column + (column - part.column),
                length: length.min(part.length - (column - part.column)),
                ..part.place
            },
        })
    });
    diagnostic.place = part.or_else(|| whole_line(map, finding.line));
    diagnostic.includes = origin
        .chain
        .iter()
        .skip(1)
        .map(|position| Place {
            line: position.line,
            column: position.column,
            ..Place::file(&position.path)
        })
        .collect();
    diagnostic.causes = causes(&origin);
    diagnostic.notes.extend(other_line(finding, map));
    diagnostic.rendered = Some(Place {
        text: redact::hide(&rendered.text, &[]),
        ..rendered
    });
    diagnostic
}

/// What the other line is that a message speaks of: `already defined at line 17`, `declared at FILE:7`.
fn other_line(finding: &Finding, map: &SourceMap) -> Option<String> {
    let file = finding.file.as_ref()?.display().to_string();
    let after = ["at line ", &format!("at {file}:")]
        .iter()
        .find_map(|mark| finding.message.split_once(*mark))
        .map(|(_, after)| after)?;
    let digits = after
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?;
    let line: usize = digits.parse().ok().filter(|line| *line != finding.line)?;
    let place = map.parts(line).into_iter().next()?.place;
    let origin = map.origin(line)?;
    let made = match causes(&origin).first() {
        Some(cause) => format!(", made from {cause}"),
        None => String::new(),
    };
    Some(format!(
        "line {line} is {}:{}{made}",
        place.path.display(),
        place.line
    ))
}

/// The template's line that a rendered line begins with, without the blanks around it.
fn whole_line(map: &SourceMap, line: usize) -> Option<Place> {
    let first = map.parts(line).into_iter().next()?.place;
    let shown = first.text.trim();
    Some(Place {
        column: first.text.chars().count() - first.text.trim_start().chars().count() + 1,
        length: shown.chars().count().max(1),
        ..first
    })
}

/// What of the catalog made a line: the items that were gone through, and the answers that no item of
/// it stands for.
fn causes(origin: &Origin) -> Vec<Cause> {
    let queries: Vec<String> = origin.queries.iter().map(ToString::to_string).collect();
    let mut causes: Vec<Cause> = origin
        .items
        .iter()
        .map(|item| match item.cause() {
            cause if cause.query.is_empty() => Cause {
                query: queries.join(" and "),
                ..cause
            },
            cause => cause,
        })
        .collect();
    let told = |query: &String| causes.iter().any(|cause| cause.query.contains(query));
    let rest: Vec<Cause> = queries
        .iter()
        .filter(|query| !told(query))
        .map(|query| Cause {
            query: query.clone(),
            item: None,
        })
        .collect();
    causes.extend(rest);
    causes
}

/// The column, from 1, and the length of the word of a line that a message quotes. HAProxy names the keyword that
/// holds a word before the word itself, and what may have been meant after it.
fn meant(message: &str, line: &str) -> Option<(usize, usize)> {
    let said = message
        .split_once("did you mean")
        .map_or(message, |(before, _)| before);
    let quoted: Vec<&str> = said.split('\'').skip(1).step_by(2).collect();
    quoted
        .iter()
        .rev()
        .find_map(|word| {
            let at = find_word(line, word)?;
            Some((line[..at].chars().count() + 1, word.chars().count()))
        })
        // A value that is out of its range is told without quotes; an address may have it as its port.
        .or_else(|| {
            let numbers = said.split(|letter: char| !letter.is_ascii_digit());
            let numbers: Vec<&str> = numbers.filter(|word| !word.is_empty()).collect();
            let at = numbers
                .iter()
                .rev()
                .find_map(|word| find_word(line, word))?;
            let start = line[..at].rfind(char::is_whitespace).map_or(0, |blank| {
                blank + line[blank..].chars().next().map_or(1, char::len_utf8)
            });
            let word = line[start..].split_whitespace().next()?;
            Some((line[..start].chars().count() + 1, word.chars().count()))
        })
}

/// Where a word stands in a line as a word of its own.
fn find_word(line: &str, word: &str) -> Option<usize> {
    let part = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !word.is_empty() && !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_haproxy_means_is_found() {
        for (message, line, found) in [
            (
                "'server web/n1:a' : unknown keyword 'wieght'; did you mean 'weight' maybe ?",
                "    server n1:a 10.0.0.1:80 wieght 1",
                Some("wieght"),
            ),
            (
                "unknown keyword 'defualt_backend' in 'frontend' section; did you mean 'default_backend' maybe ?",
                "    defualt_backend web",
                Some("defualt_backend"),
            ),
            (
                "'bind' : unknown keyword 'sl'.",
                "    bind :80 sl",
                Some("sl"),
            ),
            (
                "Proxy 'in': unable to find required default_backend: 'wbe'.",
                "    default_backend wbe",
                Some("wbe"),
            ),
            (
                "Another program listens on 127.0.0.1:8080 already.",
                "    bind 127.0.0.1:8080 ssl",
                Some("127.0.0.1:8080"),
            ),
            (
                "weight of server a is not within 0 and 256 (300)..",
                "    server a 10.0.0.1:80 weight 300",
                Some("300"),
            ),
            ("nothing is quoted", "    bind :80", None),
            ("it is 'not there'", "    bind :80", None),
            ("it's one quote", "    bind :80", None),
            ("an '' empty one", "    bind :80", None),
        ] {
            let shown = meant(message, line).map(|(column, length)| {
                line.chars()
                    .skip(column - 1)
                    .take(length)
                    .collect::<String>()
            });
            assert_eq!(shown.as_deref(), found, "{message}");
        }
    }
}
