//! A report as workflow commands of GitHub Actions, which shows them as annotations at their lines. It shows ten
//! of each severity for a step; the last line says how many there are.

use std::fmt::Write as _;

use super::report::Report;
use super::{Diagnostic, Severity};

/// The report as workflow commands, one a line.
pub fn github(report: &Report) -> String {
    let mut text = String::new();
    for found in report.found() {
        command(&found.told(report), &mut text);
    }
    let _ = writeln!(
        text,
        "{} errors and {} warnings in {} cases.",
        report.count(Severity::Error),
        report.count(Severity::Warning),
        report.cases.len()
    );
    text
}

fn command(one: &Diagnostic, text: &mut String) {
    text.push_str(match one.severity {
        Severity::Error => "::error ",
        Severity::Warning => "::warning ",
    });
    if let Some(place) = &one.place {
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
    lines.extend(one.facts());
    lines.extend(one.help.clone());
    let _ = writeln!(
        text,
        "title={}::{}",
        property(one.code),
        message(&lines.join("\n"))
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
             ::warning title=quarantined::Left out \u{1b}[31m.%0Afound with one instance\n\
             1 errors and 1 warnings in 3 cases.\n"
        );
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }
}
