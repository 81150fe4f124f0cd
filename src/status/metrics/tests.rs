//! A strict reader of the exposition format, and what it finds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::status::model::tests::status;

/// The samples of each metric: name with suffix, labels, value.
type Read = BTreeMap<String, (String, Vec<(String, BTreeMap<String, String>, f64)>)>;

/// Reads an exposition by the rules of the text format 0.0.4 and of Prometheus' naming, and refuses
/// everything else.
fn read(text: &str) -> Result<Read, String> {
    let mut families = Read::new();
    let mut current: Option<String> = None;
    let mut helped: Option<String> = None;
    let mut series = BTreeSet::new();
    if !text.ends_with('\n') {
        return Err("no line end at the end".to_owned());
    }
    for line in text.lines() {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else {
                return wrong("no help");
            };
            if !is_name(name) || help.is_empty() || families.contains_key(name) {
                return wrong("a wrong or repeated name");
            }
            helped = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else {
                return wrong("no type");
            };
            if helped.as_deref() != Some(name) {
                return wrong("a type without help before it");
            }
            if !matches!(kind, "gauge" | "counter" | "summary") {
                return wrong("an unknown type");
            }
            if (kind == "counter") != name.ends_with("_total") {
                return wrong("a counter ends in _total and nothing else does");
            }
            families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            current = Some(name.to_owned());
        } else if line.starts_with('#') || line.is_empty() {
            return wrong("another comment or an empty line");
        } else {
            let (name, labels, value) = sample(line)?;
            let Some(family) = &current else {
                return wrong("a sample before its type");
            };
            let (kind, samples) = families.get_mut(family).unwrap();
            let suffix = name.strip_prefix(family.as_str());
            let fits = match kind.as_str() {
                "summary" => matches!(suffix, Some("_sum" | "_count")),
                _ => suffix == Some(""),
            };
            if !fits {
                return wrong("a sample of another metric");
            }
            if !series.insert((name.clone(), labels.clone())) {
                return wrong("a series twice");
            }
            if kind != "gauge" && !(value.is_finite() && value >= 0.0) {
                return wrong("a count below zero");
            }
            samples.push((name, labels, value));
        }
    }
    Ok(families)
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|letter| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn sample(line: &str) -> Result<(String, BTreeMap<String, String>, f64), String> {
    let wrong = |why: &str| format!("{why}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let name = line[..end].to_owned();
    if !is_name(&name) {
        return Err(wrong("a wrong name"));
    }
    let mut labels = BTreeMap::new();
    let mut rest = &line[end..];
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            if !is_name(label) {
                return Err(wrong("a wrong label"));
            }
            let mut value = String::new();
            let mut letters = after.char_indices();
            let closed = loop {
                match letters.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => match letters.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, c @ ('\\' | '"'))) => value.push(c),
                        _ => return Err(wrong("a wrong escape")),
                    },
                    Some((_, c)) if c.is_control() => return Err(wrong("a control character")),
                    Some((_, c)) => value.push(c),
                    None => return Err(wrong("an open label")),
                }
            };
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(wrong("a label twice"));
            }
            rest = &after[closed + 1..];
            if let Some(more) = rest.strip_prefix(',') {
                rest = more;
            } else {
                rest = rest.strip_prefix('}').ok_or_else(|| wrong("no end"))?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or_else(|| wrong("no blank"))?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        number
            if number
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.e".contains(&b)) =>
        {
            number.parse().map_err(|_| wrong("no number"))?
        }
        _ => return Err(wrong("no number")),
    };
    Ok((name, labels, value))
}

fn own() -> Own {
    Own {
        uptime_seconds: 12.25,
        quiet_seconds: 0.5,
        process: Process::read(),
    }
}

// P10
#[test]
fn every_metric_is_written_by_the_rules_with_the_labels_of_the_table() {
    let mut families = Read::new();
    for source in [Origin::Serf, Origin::File, Origin::Consul] {
        let mut status = status();
        status.consul.source = source;
        status.consul.members = BTreeMap::from([("alive".to_owned(), 3)]);
        let text = render(Some(&status), &own());
        families.extend(read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}")));
    }
    let written: BTreeSet<&str> = families.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = FAMILIES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(written, known);
    for (name, _, labels, _) in FAMILIES {
        // The labels are those that are written.
        let expected: BTreeSet<&str> = labels.split(", ").filter(|l| !l.is_empty()).collect();
        for (_, labels, _) in &families[*name].1 {
            let written: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
            assert_eq!(written, expected, "{name}");
        }
    }
}

// P10
#[test]
fn the_numbers_are_those_of_the_status() {
    let status = status();
    let families = read(&render(Some(&status), &own())).unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| {
        let wanted: BTreeMap<String, String> = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let (_, samples) = &families[name];
        let found = samples.iter().find(|(_, labels, _)| *labels == wanted);
        found
            .unwrap_or_else(|| panic!("{name} {labels:?} in {samples:?}"))
            .2
    };
    assert_eq!(value("gatewright_ready", &[]), 1.0);
    assert_eq!(value("gatewright_state", &[("state", "held")]), 1.0);
    assert_eq!(value("gatewright_state", &[("state", "confirmed")]), 0.0);
    assert_eq!(value("gatewright_refused", &[("by", "validation")]), 1.0);
    let api = [("query", "service \"api\"")];
    assert_eq!(value("gatewright_query_age_seconds", &api), f64::INFINITY);
    assert_eq!(value("gatewright_query_items", &api), 0.0);
    let web = [("query", "service \"web\"")];
    assert_eq!(value("gatewright_guard_held_items", &web), 8.0);
    assert_eq!(
        value("gatewright_consul_errors_total", &[("class", "timeout")]),
        2.0
    );
    assert_eq!(
        value(
            "gatewright_reloads_total",
            &[("cause", "first"), ("result", "confirmed")]
        ),
        0.0
    );
    let client = [("purpose", "client"), ("file", "/etc/client.pem")];
    let expiry = value("gatewright_certificate_expiry_timestamp_seconds", &client);
    assert_eq!(expiry, 1_927_843_200.0);
    assert_eq!(value("gatewright_log_lines_summed_up_total", &[]), 1_204.0);
}

// P9
#[test]
fn series_are_bounded_and_the_rest_is_told_as_one() {
    let mut status = status();
    let watched = Watched {
        query: String::new(),
        items: Some(2),
        age_seconds: Some(1.0),
        error: None,
        failing_seconds: None,
    };
    status.queries = (0..QUERIES_MAX + 500)
        .map(|number| Watched {
            query: format!("service \"web-{number}\""),
            age_seconds: Some(number as f64),
            ..watched.clone()
        })
        .collect();
    let families = read(&render(Some(&status), &own())).unwrap();
    let others = BTreeMap::from([("query".to_owned(), OTHERS.to_owned())]);
    for (name, expected) in [
        ("gatewright_query_items", 1_000.0),
        ("gatewright_query_age_seconds", (QUERIES_MAX + 499) as f64),
    ] {
        let (_, samples) = &families[name];
        assert_eq!(samples.len(), QUERIES_MAX + 1);
        assert_eq!(samples.last().unwrap().1, others);
        assert_eq!(samples.last().unwrap().2, expected);
    }
}

// I07
#[test]
fn without_the_loop_the_process_is_still_told() {
    let families = read(&render(None, &own())).unwrap();
    assert!(families.contains_key("gatewright_loop_quiet_seconds"));
    assert!(families.contains_key("process_resident_memory_bytes"));
    assert!(!families.contains_key("gatewright_ready"));
}

proptest! {
    // L09
    #[test]
    fn no_name_from_the_catalog_breaks_the_exposition(name in "(?s).{0,40}") {
        let mut status = status();
        status.queries[0].query = name.clone();
        status.queries.truncate(1);
        status.holds[0].query = name;
        let read = read(&render(Some(&status), &own()));
        prop_assert!(read.is_ok(), "{:?}", read);
    }
}
