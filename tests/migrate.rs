//! Templates of consul-template, converted: `golden/migrate` holds each with its conversion and with what
//! the real consul-template makes of it.
//!
//! `GOLDEN=write` writes the conversions anew, and what consul-template makes where the variable
//! `CONSUL_TEMPLATE` or the PATH names one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gatewright::catalog::fixture::Fixture;
use gatewright::catalog::{Known, Query};
use gatewright::migrate::{Delimiters, Migration, migrate, proof};
use gatewright::template::{Grammar, Options, Outcome, Source, TemplateSet};
use serde_json::{Value, json};

use support::consul::Consul;
use support::process::{Process, command};
use support::{Outcome as Told, temp, tools, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const VARIABLE: (&str, &str) = ("GATEWRIGHT_GOLDEN", "golden");

fn folder() -> PathBuf {
    tools::root().join("tests/golden/migrate")
}

fn writes() -> bool {
    std::env::var_os("GOLDEN").is_some_and(|word| word == "write")
}

/// A template of consul-template and what is made of it.
struct Case {
    name: String,
    path: PathBuf,
    template: String,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "ctmpl"))
            .collect();
        paths.sort();
        paths
            .into_iter()
            .map(|path| Case {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                template: std::fs::read_to_string(&path).unwrap(),
                path,
            })
            .collect()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.path.with_extension(ending)
    }

    fn stored(&self, ending: &str) -> String {
        std::fs::read_to_string(self.beside(ending)).unwrap_or_default()
    }

    fn migrate(&self, exact: bool) -> Migration {
        migrate(&self.path, &self.template, &Delimiters::default(), exact)
            .unwrap_or_else(|wrong| panic!("{}: {wrong}", self.name))
    }

    /// The language of what it makes.
    fn grammar(&self) -> Grammar {
        match self.name.split_once('-') {
            Some(("haproxy", _)) => Grammar::Haproxy,
            Some(("map", _)) => Grammar::Map,
            _ => Grammar::Plain,
        }
    }

    fn render(&self, text: &str) -> String {
        let template = Source {
            name: self.name.clone(),
            path: self.beside("hbs"),
            text: text.to_owned(),
            grammar: self.grammar(),
        };
        render(template).unwrap_or_else(|wrong| panic!("{}: {wrong}\n{text}", self.name))
    }
}

fn catalog() -> Value {
    let text = std::fs::read_to_string(folder().join("catalog.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Renders a template with the catalog.
fn render(template: Source) -> Told<String> {
    let fixture: Fixture = serde_json::from_value(catalog()).unwrap();
    let (name, value) = VARIABLE;
    let options = Options {
        environment: [
            (name.to_owned(), Some(value.to_owned())),
            ("GATEWRIGHT_NONE".to_owned(), None),
        ]
        .into(),
        ..Options::default()
    };
    let (mut set, _) = TemplateSet::load(vec![template], Vec::new(), options)
        .map_err(|wrong| format!("{wrong:?}"))?;
    let mut answers: BTreeMap<Query, Known> = BTreeMap::new();
    let mut needed: BTreeSet<Query> = set.literal_queries().clone();
    loop {
        for query in std::mem::take(&mut needed) {
            let answer = fixture
                .answer(&query)
                .map_err(|misfit| misfit.to_string())?;
            let known = Known {
                answer: Arc::new(answer),
                revision: answers.len() as u64 + 1,
            };
            answers.insert(query, known);
        }
        match set.render(&answers).map_err(|wrong| format!("{wrong:?}"))? {
            Outcome::Complete(mut rendering) => {
                let left_out = &rendering.quarantined;
                if !left_out.is_empty() {
                    return Err(format!("Left out: {left_out:?}"));
                }
                return Ok(rendering.files.remove(0));
            }
            Outcome::Incomplete {
                needed: more,
                absent,
                ..
            } if more.is_empty() => {
                return Err(format!("Absent: {absent:?}"));
            }
            Outcome::Incomplete { needed: more, .. } => needed = more,
        }
    }
}

/// The lines that hold something.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[test]
fn every_template_is_converted_as_expected_and_loads() {
    let cases = Case::all();
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in cases {
        let made = case.migrate(false);
        if writes() {
            std::fs::write(case.beside("hbs"), &made.text).unwrap();
        }
        // They hold values right behind a backslash, which are marked and written all the same.
        match case.name.as_str() {
            "backslashes" | "braces" => assert!(!made.left.is_empty(), "{}", case.name),
            name => assert_eq!(made.left, [], "{name}"),
        }
        assert_eq!(made.text, case.stored("hbs"), "{}", case.name);
        for exact in [false, true] {
            let text = case.migrate(exact).text;
            assert_eq!(proof(&case.path, &text), [], "{}: {text}", case.name);
        }
    }
}

#[test]
fn an_exact_conversion_writes_the_same_bytes_as_consul_template() {
    for case in Case::all() {
        let rendered = case.render(&case.migrate(true).text);
        assert_eq!(rendered, case.stored("cfg"), "{}", case.name);
    }
}

#[test]
fn a_conversion_differs_from_consul_template_by_empty_lines_at_most() {
    for case in Case::all() {
        let made = case.migrate(false);
        let rendered = case.render(&made.text);
        let expected = case.stored("cfg");
        match made.loses_lines {
            true => assert_eq!(lines(&rendered), lines(&expected), "{}", case.name),
            false => assert_eq!(rendered, expected, "{}", case.name),
        }
    }
}

#[test]
fn a_template_that_trims_the_line_end_before_each_block_needs_neither_trims_nor_guards() {
    let case = Case::all()
        .into_iter()
        .find(|case| case.name == "haproxy-documented")
        .unwrap();
    let made = case.migrate(true);
    assert_eq!(made.text.matches('~').count(), 0, "{}", made.text);
    assert_eq!(made.text.matches("{{!}}").count(), 0, "{}", made.text);
}

/// The real consul-template, if this machine has one.
fn consul_template() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CONSUL_TEMPLATE").filter(|name| !name.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("consul-template"))
        .find(|program| program.is_file())
}

/// Puts the catalog into a real Consul.
fn fill(consul: &Consul, catalog: &Value) -> Told<()> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (key, value) in object(&catalog["keys"]) {
        consul.set_key(&key, value.as_str().unwrap_or_default())?;
    }
    let nodes = catalog["nodes"].as_array().cloned().unwrap_or_default();
    for node in nodes.iter().filter(|node| node["Node"] != "test") {
        consul.catalog_register(&json!({
            "Node": node["Node"], "Address": node["Address"], "NodeMeta": node["Meta"],
        }))?;
    }
    for (name, list) in object(&catalog["services"]) {
        for one in list
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one["Node"] != "test")
        {
            let id = &one["ID"];
            consul.catalog_register(&json!({
                "Node": one["Node"], "Address": one["Address"], "SkipNodeUpdate": true,
                "Service": {
                    "Service": name, "ID": id, "Address": one["Address"], "Port": one["Port"],
                    "Tags": one["Tags"], "Meta": one["ServiceMeta"],
                },
                "Check": {
                    "CheckID": format!("{name} {id}"), "Name": "alive", "ServiceID": id,
                    "Status": one["Status"].as_str().unwrap_or("passing"),
                },
            }))?;
        }
    }
    Ok(())
}

/// What the real program makes of templates, or what it says against them.
fn real(program: &Path, consul: &Consul, cases: &[&Case]) -> Told<Vec<String>> {
    let made = temp::directory()?;
    let mut words = vec![
        "-once".to_owned(),
        "-log-level=err".to_owned(),
        format!("-consul-addr={}", consul.address()),
        "-max-stale=0".to_owned(),
    ];
    for case in cases {
        let out = made.path().join(&case.name);
        words.push(format!(
            "-template={}:{}",
            case.path.display(),
            out.display()
        ));
    }
    let mut command: Command = command(program, &words);
    command.env(VARIABLE.0, VARIABLE.1);
    let mut process = Process::start("consul-template", &mut command, &made.path().join("log"))?;
    wait_for(LIMIT, "consul-template to end", || {
        (!process.is_running()).then_some(())
    })
    .map_err(|error| format!("{error} {}", process.output()))?;
    cases
        .iter()
        .map(|case| {
            std::fs::read_to_string(made.path().join(&case.name))
                .map_err(|error| format!("{}: {error}. {}", case.name, process.output()))
        })
        .collect()
}

#[test]
fn the_stored_texts_are_those_of_the_real_consul_template() {
    let Some(program) = consul_template() else {
        // The stored texts stand for it.
        assert!(Case::all().iter().all(|case| case.beside("cfg").is_file()));
        return;
    };
    let consul = Consul::start().unwrap();
    fill(&consul, &catalog()).unwrap();
    let cases = Case::all();
    if writes() {
        for case in &cases {
            let text = real(&program, &consul, &[case]).unwrap();
            std::fs::write(case.beside("cfg"), &text[0]).unwrap();
        }
    }
    let all: Vec<&Case> = cases.iter().collect();
    for (case, text) in all.iter().zip(real(&program, &consul, &all).unwrap()) {
        assert_eq!(text, case.stored("cfg"), "{}", case.name);
    }
}
