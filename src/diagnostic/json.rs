//! A report as JSON: documented in examples/ci/README.md, versioned, with a JSON Schema (`gatewright schema check`).

use serde::Serialize;

use super::report::{Case, Report};
use super::{Diagnostic, Place, Severity};

/// Grows when a field changes its meaning or goes; new fields do not count.
const FORMAT: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    format: u32,
    program: &'static str,
    version: &'static str,
    exit_code: u8,
    errors: usize,
    warnings: usize,
    cases: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    name: &'a str,
    templates: Vec<String>,
    catalog: Option<String>,
    exit_code: u8,
    seconds: f64,
    diagnostics: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    severity: &'static str,
    code: &'a str,
    message: &'a str,
    place: Option<Where<'a>>,
    includes: Vec<Where<'a>>,
    rendered: Option<Where<'a>>,
    causes: Vec<Made<'a>>,
    notes: &'a [String],
    help: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Where<'a> {
    path: String,
    line: Option<usize>,
    column: Option<usize>,
    end_column: Option<usize>,
    text: &'a str,
}

#[derive(Serialize)]
struct Made<'a> {
    query: &'a str,
    item: Option<&'a str>,
}

/// The report as JSON, with a line end.
pub fn json(report: &Report) -> String {
    let whole = Whole {
        format: FORMAT,
        program: "gatewright",
        version: env!("CARGO_PKG_VERSION"),
        exit_code: report.code(),
        errors: report.count(Severity::Error),
        warnings: report.count(Severity::Warning),
        cases: report.cases.iter().map(one).collect(),
    };
    let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
    text.push('\n');
    text
}

fn one(case: &Case) -> One<'_> {
    let paths = case.templates.iter();
    One {
        name: &case.name,
        templates: paths.map(|path| path.display().to_string()).collect(),
        catalog: case.catalog.as_ref().map(|path| path.display().to_string()),
        exit_code: case.code,
        seconds: case.took.as_secs_f64(),
        diagnostics: case.diagnostics.iter().map(told).collect(),
    }
}

fn told(one: &Diagnostic) -> Told<'_> {
    Told {
        severity: match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        code: one.code,
        message: &one.message,
        place: one.place.as_ref().map(place),
        includes: one.includes.iter().map(place).collect(),
        rendered: one.rendered.as_ref().map(place),
        causes: one
            .causes
            .iter()
            .map(|cause| Made {
                query: &cause.query,
                item: cause.item.as_deref(),
            })
            .collect(),
        notes: &one.notes,
        help: one.help.as_deref(),
    }
}

fn place(place: &Place) -> Where<'_> {
    let some = |number: usize| Some(number).filter(|number| *number > 0);
    Where {
        path: place.path.display().to_string(),
        line: some(place.line),
        column: some(place.column),
        end_column: some(place.column).map(|column| column + place.length),
        text: &place.text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;

    #[test]
    fn everything_is_there() {
        let value: serde_json::Value = serde_json::from_str(&json(&example())).unwrap();
        assert_eq!(value["format"], 1);
        assert_eq!(value["exitCode"], 5);
        assert_eq!(
            (&value["errors"], &value["warnings"]),
            (&1.into(), &1.into())
        );
        let told = &value["cases"][0]["diagnostics"][0];
        assert_eq!(told["code"], "haproxy");
        assert_eq!(
            told["place"],
            serde_json::json!({
                "path": "sub dir/line.hbs", "line": 2, "column": 24, "endColumn": 30,
                "text": "    server a <b> \"c\" & wieght 1"
            })
        );
        assert_eq!(told["includes"][0]["line"], 14);
        assert_eq!(told["rendered"]["path"], "/etc/haproxy/haproxy.cfg");
        assert_eq!(told["causes"][0]["item"], "instance a on node n1");
        assert_eq!(value["cases"][2]["catalog"], serde_json::Value::Null);
    }
}
