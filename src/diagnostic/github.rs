//! A report as workflow commands of GitHub Actions, which shows them as annotations at their lines. It shows ten
//! of each severity for a step; the last line says how many there are.

use std::fmt::Write as _;

use super::report::{Found, Report, counted};
use super::{Severity, plain};

/// The report as workflow commands, one a line.
pub fn github(report: &Report) -> String {
    let mut text = String::new();
    for found in report.found() {
        command(&found, report, &mut text);
    }
    let _ = writeln!(
        text,
        "{} and {} in {}.",
        counted(report.count(Severity::Error), "error"),
        counted(report.count(Severity::Warning), "warning"),
        counted(report.cases.len(), "case")
    );
    text
}

fn command(found: &Found<'_>, report: &Report, text: &mut String) {
    let one = found.told(report);
    let place = found.place();
    text.push_str(match one.severity {
        Severity::Error => "::error ",
        Severity::Warning => "::warning ",
    });
    if let Some(place) = &place {
        let _ = write!(
            text,
            "file={},",
            property(&place.path.display().to_string())
        );
        if place.line > 0 {
            let _ = write!(text, "line={},endLine={},", place.line, place.line);
        }
        if place.column > 0 {
            let _ = write!(
                text,
                "col={},endColumn={},",
                place.column,
                place.column + place.length
            );
        }
    }
    let mut lines = vec![one.message.clone()];
    if place != one.place {
        lines.extend(one.place.as_ref().map(|place| format!("at {place}")));
    }
    lines.extend(one.facts());
    lines.extend(one.help.clone());
    // A log that is read in a browser or a terminal is shown what stands there, and does not do it.
    let shown: Vec<_> = lines
        .iter()
        .flat_map(|line| line.split('\n'))
        .map(plain)
        .collect();
    let _ = writeln!(
        text,
        "title={}::{}",
        property(one.code),
        message(&shown.join("\n"))
    );
}

/// As the runner reads a message.
fn message(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// As the runner reads a property.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;

    #[test]
    fn an_annotation_is_one_line_with_its_place() {
        assert_eq!(
            github(&example()),
            "::error file=sub dir/line.hbs,line=2,endLine=2,col=24,endColumn=30,title=haproxy::unknown keyword 'wieght', 100%25 sure:%0Ait is, so.%0Aincluded from haproxy.cfg.hbs:14%0Arendered as /etc/haproxy/haproxy.cfg:1: server a 10.0.0.1:80 wieght 1%0Amade from instance a on node n1 of service \"web\"%0Aa note%0Afound with a.json and b.json%0ADid you mean `weight`?\n\
             ::warning file=haproxy.cfg.hbs,title=quarantined::Left out \\u{1b}[31m.%0Afound with one instance\n\
             1 error and 1 warning in 3 cases.\n"
        );
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }
}
