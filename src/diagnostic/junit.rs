//! A report as JUnit XML: a test suite for each set of templates, a test case for each catalog.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::report::{Case, Report};
use super::{Severity, text};
use crate::exit;

/// The report as JUnit XML.
pub fn junit(report: &Report) -> String {
    let mut sets: Vec<(&[PathBuf], Vec<&Case>)> = Vec::new();
    for case in &report.cases {
        match sets.last_mut().filter(|(set, _)| *set == case.templates) {
            Some((_, cases)) => cases.push(case),
            None => sets.push((&case.templates, vec![case])),
        }
    }
    let all: Vec<&Case> = report.cases.iter().collect();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"gatewright check\" {}>\n",
        counts(&all)
    );
    for (_, cases) in &sets {
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" {}>",
            escaped(cases[0].title()),
            counts(cases)
        );
        for case in cases {
            one(case, &mut xml);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn counts(cases: &[&Case]) -> String {
    let failures = cases.iter().filter(|case| case.code != exit::OK).count();
    let seconds: f64 = cases.iter().map(|case| case.took.as_secs_f64()).sum();
    format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{seconds:.3}\"",
        cases.len()
    )
}

fn one(case: &Case, xml: &mut String) {
    let _ = write!(
        xml,
        "    <testcase name=\"with {}\" classname=\"{}\" time=\"{:.3}\"",
        escaped(case.with()),
        escaped(case.title()),
        case.took.as_secs_f64()
    );
    if case.diagnostics.is_empty() && case.code == exit::OK {
        xml.push_str("/>\n");
        return;
    }
    xml.push_str(">\n");
    let shown = |severity: Severity| -> String {
        let of = case
            .diagnostics
            .iter()
            .filter(|one| one.severity == severity);
        of.map(|one| text::render(one, false)).collect()
    };
    let (mut errors, mut warnings) = (shown(Severity::Error), shown(Severity::Warning));
    if case.code != exit::OK {
        if errors.is_empty() {
            // Warnings alone have failed it.
            errors = std::mem::take(&mut warnings);
        }
        let first = case
            .diagnostics
            .iter()
            .max_by_key(|one| one.severity == Severity::Error);
        let _ = writeln!(
            xml,
            "      <failure type=\"{}\" message=\"{}\">{}</failure>",
            escaped(first.map_or("", |one| one.code)),
            escaped(first.map_or("", |one| &one.message)).replace('\n', "&#10;"),
            escaped(&errors)
        );
    }
    if !warnings.is_empty() {
        let _ = writeln!(xml, "      <system-out>{}</system-out>", escaped(&warnings));
    }
    xml.push_str("    </testcase>\n");
}

/// Text for an element or an attribute. Characters that XML 1.0 does not have are shown by their number.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\n' | '\t' => xml.push(letter),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(xml, "\\u{{{:x}}}", u32::from(letter));
            }
            _ => xml.push(letter),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;

    #[test]
    fn suites_and_cases_are_counted_and_failures_hold_the_text() {
        let xml = junit(&example());
        let document = roxmltree::Document::parse(&xml).unwrap();
        let all = document.root_element();
        assert_eq!(all.attribute("tests"), Some("3"));
        assert_eq!(all.attribute("failures"), Some("2"));
        assert_eq!(all.attribute("time"), Some("0.750"));
        let cases: Vec<_> = all
            .descendants()
            .filter(|node| node.has_tag_name("testcase"))
            .collect();
        let names: Vec<_> = cases
            .iter()
            .map(|case| case.attribute("name").unwrap())
            .collect();
        assert_eq!(names, ["with a.json", "with b.json", "with one instance"]);
        let failure = cases[0].first_element_child().unwrap();
        assert_eq!(failure.attribute("type"), Some("haproxy"));
        assert_eq!(
            failure.attribute("message"),
            Some("unknown keyword 'wieght', 100% sure:\nit is, so.")
        );
        let text = failure.text().unwrap();
        assert!(text.contains("server a <b> \"c\" & wieght 1\n"), "{text}");
        let out = cases[2].first_element_child().unwrap();
        assert!(out.has_tag_name("system-out"));
        assert!(!xml.contains('\u{1b}'));
    }
}
