//! The shipped templates give exactly the configurations in `golden/templates`, and every HAProxy takes these.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gatewright::agent::explain::explain;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::catalog::{Answer, Instance, Known, Query};
use gatewright::diagnostic::{self, Diagnostic};
use gatewright::haproxy::config::Config;
use gatewright::lint;
use gatewright::template::{
    Grammar, Options, Outcome, Source, TemplateSet, shipped, shipped_partials,
};
use serde_json::Value;

use support::haproxies::{Version, haproxies};
use support::haproxy::check;
use support::tools;

fn folder() -> PathBuf {
    tools::root().join("tests/golden/templates")
}

#[test]
fn they_render_as_expected() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    for (case, wanted) in all["cases"].as_object().unwrap() {
        let expected = std::fs::read_to_string(folder().join(format!("{case}.cfg"))).unwrap();
        assert_eq!(render(wanted, &all["instances"]), expected, "{case}");
    }
}

#[haproxies]
fn every_haproxy_takes_them_without_a_warning(version: Version) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "cfg"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let (code, text) = check(&version, &file).unwrap();
        assert_eq!(code, 0, "{version} {}: {text}", file.display());
    }
}

/// What `servers`, `serverId` and `slots` write for one service.
const HELPERS: &str = r#"defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind 127.0.0.1:8930
    use_backend fixed if { path_beg /fixed }
    use_backend mapped if { path_beg /mapped }
    use_backend each if { path_beg /each }
    default_backend ring

backend ring
    balance hdr(x-key)
    hash-type consistent
    {{servers (service "web") options="check inter 2s" weight=true}}

backend each
    balance random
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}} id {{serverId this}}
{{/each}}

backend fixed
    balance static-rr
    {{slots (service "web") name="fixed" options="check inter 2s fall 2 rise 2"}}

backend mapped
    balance source
    {{slots (service "nothing") name="mapped" spare=2}}
"#;

#[test]
fn helpers_write_servers_as_expected() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let template = Source {
        name: "helpers".to_owned(),
        path: "helpers.cfg.hbs".into(),
        text: HELPERS.to_owned(),
        grammar: Grammar::Haproxy,
    };
    let rendered = render_source(template, Options::default(), &all["instances"]);
    let expected = std::fs::read_to_string(folder().join("helpers.cfg")).unwrap();
    assert_eq!(rendered, expected);
}

/// What lints tell of a rendered template and of the set.
fn lints(set: &mut TemplateSet, instances: &Value) -> Vec<Diagnostic> {
    let rendered = complete(set, instances);
    let files = [SetFile {
        destination: "/etc/haproxy/haproxy.cfg".into(),
        role: Role::Config,
        mode: None,
        text: rendered.clone(),
    }];
    let maps = set.source_maps(std::slice::from_ref(&rendered));
    let config = Config::parse_files([(files[0].destination.as_path(), rendered.as_str())]);
    let about = lint::About {
        texts: &[&rendered],
        version: None,
        master: Some(true),
        complete: true,
        from_catalog: &|file, line| {
            let origin = maps.get(file).and_then(|map| map.origin(line));
            origin.is_some_and(|origin| !origin.queries.is_empty())
        },
    };
    let found = lint::configuration(&config, &about);
    let candidate = Candidate::new(files.to_vec());
    let found = found.iter().map(|one| explain(one, &candidate, &maps));
    found.chain(lint::templates(&set.outlines())).collect()
}

/// The shipped templates, in every case, have nothing that a lint tells of, or say that it is meant.
#[test]
fn they_are_free_of_what_lints_tell() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut used = lint::Used::default();
    let mut comments = lint::Comments::default();
    let mut outlines = Vec::new();
    for (case, wanted) in all["cases"].as_object().unwrap() {
        let (template, options) = shipped_case(wanted);
        let mut set = load(template, options);
        let outline = set.outlines();
        for source in outline.sources.iter() {
            comments.template(&source.path, &source.text);
        }
        let told = lints(&mut set, &all["instances"]);
        let told = lint::Allowed::default().sift(told, &comments, &mut used);
        assert_eq!(texts(&told), "", "{case}");
        outlines.push(outline);
    }
    assert_eq!(texts(&lint::unused(&outlines)), "");
    assert_eq!(texts(&comments.remarks(&used)), "");
}

#[test]
fn the_template_of_the_readme_is_free_of_what_lints_tell() {
    let readme = std::fs::read_to_string(tools::root().join("README.md")).unwrap();
    let start = readme.find("{{> global}}\n\n{{> defaults}}").unwrap();
    let text = readme[start..].split("```").next().unwrap();
    let template = Source {
        name: "readme".to_owned(),
        path: "readme.cfg.hbs".into(),
        text: text.replace(" tag=\"prod\"", ""),
        grammar: Grammar::Haproxy,
    };
    let instances = serde_json::json!({"airavata-api": [
        {"Node": "n", "ID": "a", "Name": "airavata-api", "Address": "10.0.0.1", "Port": 8080,
         "Weights": {"Passing": 1, "Warning": 1}}
    ]});
    let mut set = load(template, Options::default());
    assert_eq!(texts(&lints(&mut set, &instances)), "");
}

/// From the line of the configuration back to the tag that wrote it.
#[test]
fn what_lints_tell_is_told_at_the_place_in_the_template() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let template = Source {
        name: "helpers".to_owned(),
        path: "helpers.cfg.hbs".into(),
        text: HELPERS.replace(
            "options=\"check inter 2s\"",
            "options=\"check resolvers r\"",
        ),
        grammar: Grammar::Haproxy,
    };
    let mut set = load(template, Options::default());
    let places: Vec<String> = lints(&mut set, &all["instances"])
        .iter()
        .map(|one| {
            let place = one.place.as_ref().unwrap();
            let text = place.text.chars().skip(place.column.saturating_sub(1));
            let word: String = text.take(place.length).collect();
            format!("{} {place} {word}", one.code)
        })
        .collect();
    assert_eq!(
        places,
        [
            "no-hard-stop-after helpers.cfg.hbs ",
            "no-idle-close helpers.cfg.hbs:7:10 in",
            "server-needs-reload helpers.cfg.hbs:17:5 {{servers (service \"web\") options=\"check resolvers r\" weight=true}}",
            "no-check helpers.cfg.hbs:22:12 {{serverName this}}",
            "no-else helpers.cfg.hbs:17:7 servers",
            "no-else helpers.cfg.hbs:21:1 {{#each (service \"web\")}}",
        ]
    );
}

fn texts(told: &[Diagnostic]) -> String {
    told.iter()
        .map(|one| diagnostic::render(one, false))
        .collect()
}

fn render(case: &Value, instances: &Value) -> String {
    let (template, options) = shipped_case(case);
    render_source(template, options, instances)
}

fn shipped_case(case: &Value) -> (Source, Options) {
    let name = case["template"].as_str().unwrap().replace(".cfg.hbs", "");
    let template = Source {
        name: name.clone(),
        path: format!("shipped:{name}").into(),
        text: shipped(&name).unwrap().to_owned(),
        grammar: Grammar::Haproxy,
    };
    let options = Options {
        parameters: case["parameters"].as_object().unwrap().clone(),
        ..Options::default()
    };
    (template, options)
}

fn render_source(template: Source, options: Options, instances: &Value) -> String {
    complete(&mut load(template, options), instances)
}

fn load(template: Source, options: Options) -> TemplateSet {
    let (set, warnings) = TemplateSet::load(vec![template], shipped_partials(), options).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    set
}

fn complete(set: &mut TemplateSet, instances: &Value) -> String {
    let answers: BTreeMap<Query, Known> = instances
        .as_object()
        .unwrap()
        .iter()
        .map(|(service, list)| (Query::service(service), known(list)))
        .collect();
    match set.render(&answers).unwrap() {
        Outcome::Complete(mut rendering) => rendering.files.remove(0),
        incomplete => panic!("{incomplete:?}"),
    }
}

fn known(list: &Value) -> Known {
    let instances = list.as_array().unwrap().iter().map(instance).collect();
    Known {
        answer: Arc::new(Answer::Instances(instances)),
        revision: 1,
    }
}

fn instance(from: &Value) -> Instance {
    let text = |field: &str| from[field].as_str().unwrap().to_owned();
    let port = from["Port"].as_i64().unwrap();
    let [node, id, name, address] = ["Node", "ID", "Name", "Address"].map(text);
    Instance {
        weight_passing: from["Weights"]["Passing"].as_i64().unwrap(),
        weight_warning: from["Weights"]["Warning"].as_i64().unwrap(),
        ..Instance::plain(&name, &node, &id, &address, port)
    }
}
