//! The shipped templates give exactly the configurations in `golden/templates`, and every HAProxy takes these.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gatewright::catalog::{Answer, Instance, Known, Query, Status};
use gatewright::template::{
    Grammar, Options, Outcome, Source, TemplateSet, shipped, shipped_partials,
};
use serde_json::Value;

use crate::support::haproxy::check;
use crate::support::tools;

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

#[test]
fn every_haproxy_takes_them_without_a_warning() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "cfg"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        for version in tools::HAPROXY_VERSIONS {
            let (code, text) = check(version, &file).unwrap();
            assert_eq!(code, 0, "{version} {}: {text}", file.display());
        }
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

fn render(case: &Value, instances: &Value) -> String {
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
    render_source(template, options, instances)
}

fn render_source(template: Source, options: Options, instances: &Value) -> String {
    let (mut set, warnings) =
        TemplateSet::load(vec![template], shipped_partials(), options).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
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
    Instance {
        node: text("Node"),
        id: text("ID"),
        node_id: String::new(),
        name: text("Name"),
        address: text("Address"),
        port: from["Port"].as_i64().unwrap(),
        node_address: text("Address"),
        node_datacenter: "dc1".to_owned(),
        node_tagged_addresses: BTreeMap::new(),
        node_meta: BTreeMap::new(),
        service_tagged_addresses: BTreeMap::new(),
        service_meta: BTreeMap::new(),
        tags: Vec::new(),
        status: Status::Passing,
        weight_passing: from["Weights"]["Passing"].as_i64().unwrap(),
        weight_warning: from["Weights"]["Warning"].as_i64().unwrap(),
    }
}
