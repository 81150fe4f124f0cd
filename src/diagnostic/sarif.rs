//! A report as SARIF 2.1.0 (OASIS), which code hosts and editors show at the lines of the templates.

use std::collections::BTreeMap;
use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::report::{Found, Report};
use super::{Diagnostic, Place, Severity, codes};

/// What a path may not hold as part of an address (RFC 3986, sections 3.3 and 4.2: a colon in the first step of a
/// relative one would end a scheme).
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b':')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What relative addresses start from.
const ROOT: &str = "%SRCROOT%";

/// The report as a SARIF log. `rule` tells what a code of a lint means.
pub fn sarif(
    report: &Report,
    lint: impl Fn(&str) -> Option<(&'static str, &'static str)>,
) -> String {
    let found = report.found();
    let mut rules: BTreeMap<&str, Severity> = BTreeMap::new();
    for one in found.iter().map(|found| found.diagnostic) {
        let worst = rules.entry(one.code).or_insert(one.severity);
        *worst = (*worst).max(one.severity);
    }
    let index = |code: &str| rules.keys().position(|known| *known == code);
    let results: Vec<Value> = found
        .iter()
        .map(|one| result(one, report, index(one.diagnostic.code)))
        .collect();
    let described: Vec<Value> = rules
        .iter()
        .map(|(code, severity)| {
            let known = codes::find(code).map(|code| (code.what, code.help));
            let (what, help) = known.or_else(|| lint(code)).unwrap_or((code, code));
            json!({
                "id": code,
                "shortDescription": { "text": what },
                "help": { "text": help },
                "defaultConfiguration": { "level": level(*severity) },
            })
        })
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "gatewright",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": described,
            } },
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { ROOT: {
                "description": { "text": "The folder in which the check was run." },
            } },
            "invocations": [{
                "executionSuccessful": true,
                "exitCode": report.code(),
            }],
            "results": results,
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).unwrap_or_default();
    text.push('\n');
    text
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn result(found: &Found<'_>, report: &Report, index: Option<usize>) -> Value {
    let one = &found.told(report);
    let place = found.place();
    let mut message = vec![one.message.clone()];
    message.extend(one.notes.iter().cloned());
    message.extend(one.help.clone());
    let mut related: Vec<Value> = Vec::new();
    let elsewhere = one.place.iter().filter(|own| place.as_ref() != Some(own));
    let elsewhere = elsewhere.map(|place| (place, "what it is about"));
    let includes = one
        .includes
        .iter()
        .map(|place| (place, "included from here"));
    let rendered = one
        .rendered
        .iter()
        .map(|place| (place, "the rendered line"));
    let others = elsewhere.chain(includes).chain(rendered);
    for (number, (place, words)) in others.enumerate() {
        let mut at = location(place);
        at["id"] = number.into();
        at["message"] = json!({ "text": words });
        related.push(at);
    }
    let mut value = json!({
        "ruleId": one.code,
        "level": level(one.severity),
        "message": { "text": message.join("\n") },
        "locations": place.iter().map(shown).collect::<Vec<_>>(),
        "partialFingerprints": { "place/v1": fingerprint(one) },
    });
    if let Some(index) = index {
        value["ruleIndex"] = index.into();
    }
    if !related.is_empty() {
        value["relatedLocations"] = related.into();
    }
    if !one.causes.is_empty() {
        let causes: Vec<String> = one.causes.iter().map(ToString::to_string).collect();
        value["properties"] = json!({ "madeFrom": causes });
    }
    value
}

/// The location of a result. Code hosts refuse a whole log for one result without a location, and want a line.
fn shown(place: &Place) -> Value {
    let mut at = location(place);
    if place.line == 0 {
        at["physicalLocation"]["region"] = json!({ "startLine": 1 });
    }
    at
}

fn location(place: &Place) -> Value {
    let mut physical = Map::new();
    physical.insert("artifactLocation".to_owned(), artifact(&place.path));
    if place.line > 0 {
        let mut region = json!({
            "startLine": place.line,
            "snippet": { "text": place.text },
        });
        if place.column > 0 {
            region["startColumn"] = place.column.into();
            region["endColumn"] = (place.column + place.length).into();
        }
        physical.insert("region".to_owned(), region);
    }
    json!({ "physicalLocation": physical })
}

/// A path below where it was run from is relative to the root of the sources.
fn artifact(path: &Path) -> Value {
    let text = path.to_string_lossy();
    let encoded = utf8_percent_encode(&text, PATH).to_string();
    match path.is_absolute() {
        true => json!({ "uri": format!("file://{encoded}") }),
        false => json!({ "uri": encoded, "uriBaseId": ROOT }),
    }
}

/// The same for the same thing in another run, also when lines were added above it.
fn fingerprint(one: &Diagnostic) -> String {
    let (path, text) = match &one.place {
        Some(place) => (place.path.to_string_lossy().into_owned(), place.text.trim()),
        None => (String::new(), one.message.as_str()),
    };
    let whole = format!("{}\0{path}\0{text}", one.code);
    let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
    let bytes = digest.as_ref().iter().take(16);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;

    #[test]
    fn a_result_has_its_rule_place_and_story() {
        let log: Value = serde_json::from_str(&sarif(&example(), |_| None)).unwrap();
        let run = &log["runs"][0];
        let result = &run["results"][0];
        assert_eq!(result["ruleId"], "haproxy");
        let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], "haproxy");
        let physical = &result["locations"][0]["physicalLocation"];
        assert_eq!(physical["artifactLocation"]["uri"], "sub%20dir/line.hbs");
        assert_eq!(physical["region"]["startColumn"], 24);
        assert_eq!(physical["region"]["endColumn"], 30);
        let related = &result["relatedLocations"][1]["physicalLocation"];
        assert_eq!(
            related["artifactLocation"]["uri"],
            "file:///etc/haproxy/haproxy.cfg"
        );
        assert_eq!(
            result["properties"]["madeFrom"][0],
            "instance a on node n1 of service \"web\""
        );
        assert_eq!(
            result["partialFingerprints"]["place/v1"]
                .as_str()
                .unwrap()
                .len(),
            32
        );
    }

    #[test]
    fn every_result_has_a_location_with_a_line() {
        let log: Value = serde_json::from_str(&sarif(&example(), |_| None)).unwrap();
        let physical = &log["runs"][0]["results"][1]["locations"][0]["physicalLocation"];
        assert_eq!(
            *physical,
            json!({
                "artifactLocation": { "uri": "haproxy.cfg.hbs", "uriBaseId": "%SRCROOT%" },
                "region": { "startLine": 1 },
            })
        );
        let mut report = example();
        let rendered = Place::at(Path::new("/haproxy.cfg"), "a\nb\n", 2, 1, 1);
        report.cases[2].diagnostics =
            vec![Diagnostic::error("duplicate-server", "Twice.").at(rendered)];
        let log: Value = serde_json::from_str(&sarif(&report, |_| None)).unwrap();
        let result = &log["runs"][0]["results"][1];
        let uri = |at: &Value| at["physicalLocation"]["artifactLocation"]["uri"].clone();
        assert_eq!(uri(&result["locations"][0]), "haproxy.cfg.hbs");
        assert_eq!(uri(&result["relatedLocations"][0]), "file:///haproxy.cfg");
    }

    #[test]
    fn an_address_holds_nothing_that_ends_a_path() {
        let address = |path: &str| artifact(Path::new(path))["uri"].clone();
        assert_eq!(address("a:b/ü ?#%.hbs"), "a%3Ab/%C3%BC%20%3F%23%25.hbs");
        assert_eq!(address("/etc/a b"), "file:///etc/a%20b");
    }
}
