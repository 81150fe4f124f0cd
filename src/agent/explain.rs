//! A finding about a rendered line, told as a diagnostic about the template that made it.

use crate::apply::set::SetFile;
use crate::diagnostic::{Cause, Diagnostic, Place, Severity};
use crate::haproxy::{Finding, redact};
use crate::template::SourceMap;

/// Points at the template where the map knows it, else at the rendered line. `maps` stand in the
/// order of `files`.
pub fn explain(finding: &Finding, files: &[SetFile], maps: &[SourceMap]) -> Diagnostic {
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
        diagnostic.place = Some(Place::file(path));
        return diagnostic;
    }
    let origin = found
        .and_then(|index| maps.get(index))
        .and_then(|map| map.origin(finding.line));
    let Some(origin) = origin else {
        diagnostic.place = Some(rendered);
        return diagnostic;
    };
    let mut chain = origin.chain.iter();
    if let Some(position) = chain.next() {
        // Only for the line's text; the place is known without it.
        let source = std::fs::read_to_string(&position.path).unwrap_or_default();
        let text = source.lines().nth(position.line.saturating_sub(1));
        let (column, length) = match text {
            Some(text) => {
                let start = text.len() - text.trim_start().len();
                (start + 1, text.trim().chars().count())
            }
            None => (0, 1),
        };
        diagnostic.place = Some(Place::at(
            &position.path,
            &source,
            position.line,
            column,
            length,
        ));
    }
    diagnostic.includes = chain
        .map(|position| Place {
            line: position.line,
            column: position.column,
            ..Place::file(&position.path)
        })
        .collect();
    diagnostic.rendered = Some(Place {
        text: redact::hide(&rendered.text, &[]),
        ..rendered
    });
    diagnostic.causes = origin
        .queries
        .iter()
        .map(|query| Cause {
            query: query.to_string(),
            item: None,
        })
        .collect();
    diagnostic
}
