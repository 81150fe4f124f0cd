//! What hostile data and broken templates come to, by the ids of the fault catalogue.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{complete, load, options, rendered, source};
use super::*;
use crate::diagnostic::Diagnostic;
use crate::haproxy::config::Config;

fn with(text: &str, options: Options) -> TemplateSet {
    TemplateSet::load(vec![source(text)], Vec::new(), options)
        .unwrap()
        .0
}

fn told(rendering: &Rendering) -> Vec<String> {
    rendering
        .quarantined
        .iter()
        .map(ToString::to_string)
        .collect()
}

// Structure.

/// A value that may stand in every place.
const HARMLESS: &str = "v";

const PLACES: &str = r#"defaults
    mode http
{{#each (services)}}
backend {{backendName Name}}
    # {{Name}} {{join Tags ","}}
{{#each (service Name)}}
    server {{serverName this}} {{serverAddress this}} weight {{Weights.Passing}}
    http-response set-header X-Id {{ID}} if { src {{ServiceMeta.m}} }
    http-response set-header X-Node "{{Node}} {{first Tags}}"
    http-response set-header X-Zone '{{ServiceMeta.m}}'
    http-response set-header X-Arg %[str({{ServiceMeta.m}})]
    server other {{NodeAddress}}:80
{{/each}}
{{/each}}
{{#each (tree "t")}}
    # {{Key}} {{Value}}
    http-response set-header X-Key {{Value}} {{Value}}x"{{Value}}"
{{/each}}
frontend f
    default_backend {{keyOrDefault "one" "none"}}
"#;

fn catalog(name: &str, node: &str, meta: &str, values: [&str; 2]) -> Value {
    json!({
        "services": {
            name: [ { "Address": "10.0.0.1", "Port": 80, "ID": name, "Node": node, "NodeAddress": node, "Tags": [meta], "ServiceMeta": {"m": meta} } ],
            "last": [ { "Address": "10.0.0.2", "Port": 80, "ID": "l", "Node": "l", "NodeAddress": "10.0.0.2", "Tags": ["t"], "ServiceMeta": {"m": "m"} } ],
        },
        "keys": { "t/x": values[0], "one": values[1] },
    })
}

/// Sections with their kinds, and the words of each line as far as they are the template's: the keyword
/// and how many follow.
fn shape(text: &str) -> Result<Vec<(String, usize)>, String> {
    let config = Config::parse_files([(Path::new("h.cfg"), text)]);
    if !config.errors.is_empty() || !config.outside.is_empty() {
        return Err(format!("{:?} {:?}", config.errors, config.outside));
    }
    Ok(config
        .sections
        .iter()
        .flat_map(|section| {
            let lines = section.directives.iter().map(|one| {
                let words = one.words.iter().filter(|word| !word.opaque);
                (one.keyword().to_owned(), words.count())
            });
            [(section.kind.clone(), 0)].into_iter().chain(lines)
        })
        .collect())
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "\n",
            "\r",
            "\0",
            "\t",
            "\u{7f}",
            " ",
            "#",
            "\"",
            "'",
            "\\",
            "$",
            "${HOME}",
            "$(id)",
            "%",
            "%[env(HOME)]",
            "{",
            "}",
            "-f",
            "unix@/x",
            "/x",
            "program x",
            "global",
            "lua-load /x",
            "stats socket /x",
            "setenv A b",
            ".if 1",
            "{{key \"s\"}}",
            "{{{x}}}",
            "(",
            ")",
            ",",
            ";",
            "\u{202e}",
            "\u{200b}",
            "é",
            "::",
            "web",
            "10.0.0.1",
            "v",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    // P6 C01 C02 C03 C04
    /// Whatever stands in the catalog, the sections, lines and words are those that the template has
    /// with harmless data; or what is hostile is left out and named, or the rendering is refused.
    #[test]
    fn no_catalog_changes_the_structure(
        name in hostile(), node in hostile(), meta in hostile(), value in hostile(), key in hostile(),
    ) {
        let hostile = catalog(&name, &node, &meta, [&value, &key]);
        let mut set = load(PLACES, &[]).unwrap();
        let Ok(rendering) = complete(&mut set, &hostile.to_string()) else { return Ok(()); };
        let text = &rendering.files[0];
        prop_assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        let found = shape(text);
        // The same with harmless data, and without what was left out.
        let left_out = |kind: &str, name: &str| {
            let begin = format!("{kind} {}", crate::catalog::fitness::shorten(name));
            rendering.quarantined.iter().any(|one| one.what == begin || one.what.starts_with(&format!("{begin} ")))
        };
        // Sorted as the hostile one is, so that lines stand in the same order.
        prop_assume!(name != "last");
        let harmless_name = if name.as_str() > "last" { "zz" } else { "a" };
        let mut harmless = catalog(harmless_name, "10.0.0.9", HARMLESS, [HARMLESS, HARMLESS]);
        if left_out("Service", &name) {
            harmless["services"].as_object_mut().unwrap().remove(harmless_name);
        } else if left_out("Instance", &name) {
            harmless["services"][harmless_name] = json!([]);
        }
        if left_out("Key", "t/x") {
            harmless["keys"].as_object_mut().unwrap().remove("t/x");
        }
        let mut clean = load(PLACES, &[]).unwrap();
        let expected = complete(&mut clean, &harmless.to_string()).unwrap();
        prop_assert_eq!(found, shape(&expected.files[0]), "{}", text);
    }
}

// C04
#[test]
fn a_template_in_data_is_never_rendered() {
    let catalog = json!({ "keys": { "outer": "{{key \"secret\"}}", "secret": "canary" } });
    let mut set = load("x {{key \"outer\"}} '{{key \"outer\"}}'", &[]).unwrap();
    let rendering = complete(&mut set, &catalog.to_string()).unwrap();
    assert_eq!(
        rendering.files,
        ["x {{key\\ \\\"secret\\\"}} '{{key \"secret\"}}'"]
    );
    assert_eq!(rendering.used.len(), 1);
}

// What is left out.

// C05
#[test]
fn addresses_are_judged_by_the_settings() {
    let address = |address: &str| json!({ "Address": address, "Port": 80, "ID": address });
    let all = [
        "10.0.0.1",
        "10.9.9.9",
        "127.0.0.1",
        "169.254.169.254",
        "169.254.1.1",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.0.0.2",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fd00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "localhost",
        "unix@/x",
        "/x",
        "10.0.0.1:80",
        "10.1",
        "0x7f000001",
        "fe80::1%eth0",
        "",
    ];
    let list: Vec<Value> = all.iter().copied().map(address).collect();
    let catalog = json!({ "services": { "web": list } }).to_string();
    let kept = |options: Options| -> Vec<String> {
        let mut set = with(
            "{{#each (service \"web\")}}x {{Address}}\n{{/each}}",
            options,
        );
        let rendering = complete(&mut set, &catalog).unwrap();
        let mut kept: Vec<String> = rendering.files[0]
            .lines()
            .map(|line| line[2..].to_owned())
            .collect();
        kept.sort();
        assert_eq!(kept.len() + rendering.quarantined.len(), all.len());
        kept
    };
    let networks = |list: &[&str]| list.iter().map(|one| one.parse().unwrap()).collect();
    let settings = crate::settings::Settings::default();
    let usual = Options {
        fitness: Fitness {
            deny: settings.catalog.deny_addresses,
            ..Fitness::default()
        },
        ..Options::default()
    };
    assert_eq!(
        kept(usual.clone()),
        [
            "10.0.0.1",
            "10.9.9.9",
            "127.0.0.1",
            "64:ff9b::10.0.0.2",
            "::1",
            "fd00::1",
        ]
    );
    let inside = Options {
        fitness: Fitness {
            allow: networks(&["10.0.0.0/16", "fd00::/8"]),
            ..usual.fitness.clone()
        },
        ..usual.clone()
    };
    assert_eq!(kept(inside), ["10.0.0.1", "64:ff9b::10.0.0.2", "fd00::1"]);
    let without = Options {
        fitness: Fitness {
            deny: networks(&["127.0.0.0/8", "::1", "169.254.0.0/16"]),
            host_names: true,
            ..Fitness::default()
        },
        ..usual
    };
    assert_eq!(
        kept(without),
        [
            "10.0.0.1",
            "10.9.9.9",
            "100.100.100.200",
            "168.63.129.16",
            "64:ff9b::10.0.0.2",
            "fd00::1",
            "fd00:ec2::254",
            "fe80::1",
            "localhost"
        ]
    );
}

// C05
#[test]
fn a_loopback_address_is_left_out_where_its_node_is_another_machine() {
    let at = |address: &str, node: &str| json!({ "Address": address, "Port": 80, "ID": format!("{address} {node}"), "NodeAddress": node });
    let list = vec![
        at("10.0.0.1", "10.0.0.1"),
        at("127.0.0.1", "10.0.0.1"),
        at("127.0.0.2", "192.0.2.1"),
        at("127.0.0.3", "127.0.0.1"),
        at("127.0.0.4", "node.example"),
        at("::1", "10.0.0.1"),
        at("::ffff:127.0.0.5", "10.0.0.1"),
    ];
    let catalog = json!({ "services": { "web": list } }).to_string();
    let kept = |options: Options| -> Vec<String> {
        let template = "{{#each (service \"web\")}}x {{Address}}\n{{/each}}";
        let rendering = complete(&mut with(template, options), &catalog).unwrap();
        let lines = rendering.files[0].lines();
        let mut kept: Vec<String> = lines.map(|line| line[2..].to_owned()).collect();
        kept.sort();
        kept
    };
    let usual = Options {
        fitness: Fitness {
            loopback: Some(["192.0.2.1".parse().unwrap()].into()),
            ..Fitness::default()
        },
        ..Options::default()
    };
    assert_eq!(
        kept(usual.clone()),
        ["10.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
    );
    let all = Options {
        fitness: Fitness {
            loopback: None,
            ..Fitness::default()
        },
        ..usual
    };
    assert_eq!(kept(all).len(), list.len());
}

const LISTENERS: &str = "global\n    stats socket ipv4@127.0.0.1:9999 level admin\nfrontend in\n    bind 10.0.0.1:80,:8000-8010\n    bind-process 1\n    bind [::]:8443\n    bind quic4@10.0.0.1:90\nlisten x\n    # bind 10.0.0.2:80\n    bind {{keyOrDefault \"listen\" \"10.0.0.7:70\"}}\n{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n";

// C05
#[test]
fn an_instance_that_is_our_own_listener_is_left_out() {
    let at = |address: &str, port: u16| json!({ "Address": address, "Port": port, "ID": format!("{address}-{port}") });
    let list = vec![
        at("10.0.0.1", 80),
        at("10.0.0.1", 81),
        at("10.0.0.1", 90),
        at("10.0.0.2", 80),
        at("10.0.0.7", 70),
        at("10.0.0.8", 70),
        at("127.0.0.1", 8000),
        at("127.0.0.1", 9999),
        at("192.0.2.1", 8010),
        at("192.0.2.2", 8010),
        at("192.0.2.1", 8011),
        at("::1", 8443),
        at("192.0.2.1", 8443),
        at("::1", 8001),
        at("127.0.0.1", 8500),
        at("127.0.0.1", 8501),
        at("192.0.2.1", 9200),
    ];
    let catalog = |listen: Option<&str>| {
        let keys = listen.map_or(json!({}), |listen| json!({ "listen": listen }));
        json!({ "services": { "web": list }, "keys": keys }).to_string()
    };
    let own = Options {
        local_addresses: ["192.0.2.1".parse().unwrap()].into(),
        listens: ["127.0.0.1:8500", "0.0.0.0:9200"]
            .map(|at| at.parse().unwrap())
            .into(),
        ..Options::default()
    };
    let mut set = with(LISTENERS, own.clone());
    let out = |rendering: &Rendering| -> Vec<String> {
        let id = |one: &Quarantined| one.what.split(' ').nth(1).unwrap().to_owned();
        rendering.quarantined.iter().map(id).collect()
    };
    let rendering = complete(&mut set, &catalog(None)).unwrap();
    let mut expected = vec![
        "10.0.0.1-80",
        "10.0.0.7-70",
        "127.0.0.1-8000",
        "127.0.0.1-8500",
        "127.0.0.1-9999",
        "192.0.2.1-8010",
        "::1-8443",
        "192.0.2.1-8443",
        "192.0.2.1-9200",
    ];
    let mut found = out(&rendering);
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(
        told(&rendering).contains(&"Instance 10.0.0.1-80 on node node-10.0.0.1-80 of service \"web\" is left out because its address 10.0.0.1:80 is one on which the gateway itself listens.".to_owned()),
        "{:#?}",
        told(&rendering)
    );
    assert_eq!(rendering.files[0].matches("    server ").count(), 8);
    // Whoever listens elsewhere may serve there.
    let moved = complete(&mut with(LISTENERS, own), &catalog(Some("10.0.0.8:70"))).unwrap();
    assert!(out(&moved).contains(&"10.0.0.8-70".to_owned()));
    assert!(!out(&moved).contains(&"10.0.0.7-70".to_owned()));
    let any = Options {
        own_listeners: true,
        ..Options::default()
    };
    let rendering = complete(&mut with(LISTENERS, any), &catalog(None)).unwrap();
    assert_eq!(rendering.quarantined, []);
}

// C05
#[test]
fn a_listener_that_an_instance_makes_keeps_it_out_and_stays_away() {
    let template = "frontend in\n{{#each (service \"web\")}}\n    bind {{serverAddress this}}\n{{/each}}\nbackend b\n{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n";
    let catalog = r#"{"services": {"web": [{"Address": "10.0.0.1", "Port": 80, "ID": "a"}]}}"#;
    let mut set = load(template, &[]).unwrap();
    for _ in 0..3 {
        let rendering = complete(&mut set, catalog).unwrap();
        assert_eq!(rendering.files, ["frontend in\nbackend b\n"]);
        assert_eq!(rendering.quarantined.len(), 1);
    }
}

const ZONES: &str = "{{#each (services)}}\nbackend {{Name}}\n{{#each (service Name)}}\n    server {{serverName this}} {{serverAddress this}} # {{ServiceMeta.zone}}\n    set x\"{{ServiceMeta.zone}}\n{{/each}}\n{{/each}}\nend {{keyOrDefault \"k\" \"d\"}}\n";

fn zones(web: &[Option<&str>], other: &[Option<&str>]) -> String {
    let list = |name: &str, zones: &[Option<&str>]| -> Value {
        let one = |(number, zone): (usize, &Option<&str>)| {
            json!({
                "Address": format!("10.0.{}.{}", name.len(), number + 1), "Port": 80, "Node": "n", "ID": format!("{name}-{}", number + 1),
                "ServiceMeta": zone.map_or(json!({}), |zone| json!({ "zone": zone })),
            })
        };
        zones.iter().enumerate().map(one).collect()
    };
    json!({ "services": { "web": list("web", web), "other": list("other", other) } }).to_string()
}

// C10 C11
#[test]
fn what_cannot_be_written_is_left_out_and_the_rest_goes_on() {
    let mut set = load(ZONES, &[]).unwrap();
    let mut servers = |catalog: &str| -> Result<(Vec<String>, Vec<String>), Vec<Diagnostic>> {
        let rendering = complete(&mut set, catalog)?;
        // What remembers says what one that knows nothing says.
        let fresh = complete(&mut load(ZONES, &[]).unwrap(), catalog)?;
        assert_eq!(rendering, fresh);
        let maps = set.source_maps(&rendering.files);
        let text = &rendering.files[0];
        let lines = text.lines().count();
        assert!(maps[0].origin(lines).is_some(), "every line has an origin");
        assert!(text.ends_with("end d\n"));
        let kept = text.lines().filter_map(|line| {
            line.strip_prefix("backend ")
                .or(line.strip_prefix("    server n:"))
                .map(|rest| rest.split(' ').next().unwrap_or_default().to_owned())
        });
        Ok((kept.collect(), told(&rendering)))
    };
    let all = ["other", "other-1", "web", "web-1", "web-2", "web-3"];
    let good = zones(&[Some("a"), Some("b"), Some("c")], &[Some("d")]);
    assert_eq!(
        servers(&good).unwrap(),
        (all.map(str::to_owned).into(), Vec::new())
    );

    // One instance without the field: the template's line is named, the others are written.
    let (kept, out) = servers(&zones(&[Some("a"), None, Some("c")], &[Some("d")])).unwrap();
    assert_eq!(kept, ["other", "other-1", "web", "web-1", "web-3"]);
    assert_eq!(
        out,
        [
            "Instance web-2 on node n of service \"web\" is left out because the template cannot write it (t.hbs:4:57: There is no `ServiceMeta.zone` here)."
        ]
    );
    // A hostile value, and one that ends in the middle of the line: nothing of the instance is left.
    let (kept, out) = servers(&zones(
        &[Some("%[env(X)]"), Some("b"), Some("c")],
        &[Some("d")],
    ))
    .unwrap();
    assert_eq!(kept, ["other", "other-1", "web", "web-2", "web-3"]);
    assert!(
        out[0].contains("The value of `ServiceMeta.zone` holds a `%`"),
        "{out:?}"
    );
    assert!(!out[0].contains("env"), "a value is not told: {out:?}");

    // A service of which nothing can be written, by what it lacks: it goes as a whole.
    let (kept, out) = servers(&zones(&[Some("a"), Some("b"), Some("c")], &[None])).unwrap();
    assert_eq!(kept, ["web", "web-1", "web-2", "web-3"]);
    assert!(
        out[0].starts_with(
            "Service other of services is left out because the template cannot write it (t.hbs:4:57"
        ),
        "{out:?}"
    );
    // By a hostile value: it is empty, and the service is told by its instances.
    let (kept, out) = servers(&zones(&[Some("a"), Some("b"), Some("c")], &[Some("%")])).unwrap();
    assert_eq!(kept, ["other", "web", "web-1", "web-2", "web-3"]);
    assert!(out[0].starts_with("Instance other-1 on node n"), "{out:?}");

    // What fails for all is wrong with the template, and everything is held.
    let wrong = servers(&zones(&[None, None, None], &[None])).unwrap_err();
    assert_eq!(wrong[0].code, "missing-value");
    // Mended, all is there again.
    assert_eq!(
        servers(&good).unwrap(),
        (all.map(str::to_owned).into(), Vec::new())
    );
}

// C10
#[test]
fn slots_and_lists_that_helpers_make_are_left_out_of_as_well() {
    let template = "{{slots (service \"web\") name=\"s\" spare=1}}\n{{#each (sortBy (service \"web\") \"Port\")}}\nx {{ID}} {{ServiceMeta.zone}}\n{{/each}}\n";
    let mut set = load(template, &[]).unwrap();
    let rendering = complete(&mut set, &zones(&[Some("a"), None], &[])).unwrap();
    assert!(
        rendering.files[0].ends_with("\nx web-1 a\n"),
        "{rendering:?}"
    );
    assert!(told(&rendering)[0].starts_with("Instance web-2 on node n is left out because"));
    // Those who look for faults get the fault.
    let mut strict = load(template, &[]).unwrap();
    strict.be_strict();
    let wrong = complete(&mut strict, &zones(&[Some("a"), None], &[])).unwrap_err();
    assert_eq!(wrong[0].code, "missing-value");
}

// C01 C10
#[test]
fn a_bad_node_service_or_key_is_left_out_and_told() {
    let catalog = json!({
        "services": { "web": [{ "Address": "10.0.0.1", "Port": 80, "Node": "good" }], "bad\nname": [] },
        "nodes": [{ "Node": "good", "Address": "10.0.0.1" }, { "Node": "bad\u{7f}", "Address": "10.0.0.2" }, { "Node": "meta", "Address": "10.0.0.3", "Meta": { "a": "\n" } }],
        "keys": { "t/a": "1", "t/b\rc": "2" },
    });
    let template = "{{#each (services)}}x {{Name}}\n{{/each}}{{#each (nodes)}}y {{Node}}\n{{/each}}{{#each (tree \"t\")}}z {{Key}}\n{{/each}}";
    let mut set = load(template, &[]).unwrap();
    let rendering = complete(&mut set, &catalog.to_string()).unwrap();
    assert_eq!(rendering.files, ["x web\ny good\nz a\n"]);
    assert_eq!(
        told(&rendering),
        [
            "Service bad\\nname of services is left out because its name holds a control character.",
            "Node bad\\u{7f} of nodes is left out because its name holds a control character.",
            "Node meta of nodes is left out because its address or metadata holds a control character.",
            "Key t/b\\rc of tree \"t\" is left out because its path holds a control character.",
        ]
    );
}

// C08
#[test]
fn what_is_told_shows_letters_that_hide() {
    let catalog = json!({ "services": { "web": [{ "Address": "x\u{202e}y\u{200b}", "Port": 80, "ID": "a\u{2066}b" }] } });
    let mut set = load("{{#each (service \"web\")}}{{ID}}{{/each}}", &[]).unwrap();
    let told = told(&complete(&mut set, &catalog.to_string()).unwrap());
    assert!(told[0].is_ascii(), "{told:?}");
    assert!(
        told[0].contains("a\\u{2066}b") && told[0].contains("x\\u{202e}y\\u{200b}"),
        "{told:?}"
    );
}

// C16
#[test]
fn what_is_no_text_is_no_text() {
    for (template, code) in [
        ("x {{base64Decode \"aGk\"}}", "helper"),
        ("x {{base64Decode \"a*==\"}}", "helper"),
        ("x {{base64Decode \"/w==\"}}", "helper"),
        ("x {{parseInt (key \"secret\")}}", "helper"),
        ("x {{parseJSON (key \"secret\")}}", "helper"),
        ("x {{base64Decode (key \"secret\")}}", "helper"),
        ("x {{add 1 (key \"secret\")}}", "helper"),
        ("x {{key \"secret\"}}", "hostile-value"),
    ] {
        let mut set = load(template, &[]).unwrap();
        let wrong = complete(&mut set, r#"{ "keys": { "secret": "canary%" } }"#).unwrap_err();
        assert_eq!(wrong[0].code, code, "{template}");
        let text = crate::diagnostic::render(&wrong[0], false);
        assert!(!text.contains("canary"), "C18: {text}");
    }
    let binary = BTreeMap::from([(
        Query::key("bytes"),
        crate::catalog::Known {
            answer: std::sync::Arc::new(crate::catalog::Answer::Key(Some(
                crate::catalog::KeyValue {
                    path: "bytes".into(),
                    value: None,
                },
            ))),
            revision: 1,
        },
    )]);
    let wrong = load("x {{key \"bytes\"}}", &[])
        .unwrap()
        .render(&binary)
        .unwrap_err();
    assert!(wrong[0].message.contains("no UTF-8 text"), "{wrong:?}");
}

// Broken templates.

// D03
#[test]
fn a_condition_on_what_is_never_there_is_told() {
    let warned = |text: &str, partials: Vec<Source>| -> Vec<String> {
        let (_, warnings) = TemplateSet::load(vec![source(text)], partials, options()).unwrap();
        warnings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        warned(
            "{{#each (service \"web\")}}{{#if Tag}}x{{/if}}{{/each}}\n{{#unless nope}}y{{/unless}}",
            Vec::new()
        ),
        [
            "t.hbs:1:32: There is no `Tag` here, so this condition is always the same. Did you mean `Tags`?",
            "t.hbs:2:11: There is no `nope` here, so this condition is always the same. Name a field of what is gone through, or a name that a block binds.",
        ]
    );
    for fine in [
        "{{#each (service \"web\")}}{{#if Tags}}x{{/if}}{{#if ServiceMeta.a}}{{/if}}{{#if @first}}{{/if}}{{#if this}}{{/if}}{{#if ../x}}{{/if}}{{/each}}",
        "{{#each (service \"web\") as |s i|}}{{#if s}}x{{/if}}{{#unless i}}{{/unless}}{{/each}}",
        "{{#let 1 as |v|}}{{#if v}}x{{/if}}{{/let}}",
        "{{#each (parameters \"services\")}}{{#if anything}}x{{/if}}{{/each}}",
        "{{#with (node \"n\")}}{{#if Services}}x{{/if}}{{/with}}",
        "{{#*inline \"p\"}}{{#if x}}{{/if}}{{/inline}}{{> p x=1}}",
        "{{#if (key \"a\")}}x{{/if}}{{#if true}}y{{/if}}",
    ] {
        assert_eq!(warned(fine, Vec::new()), [""; 0], "{fine}");
    }
    assert_eq!(warned("x", crate::template::shipped_partials()), [""; 0]);
}

// D04
#[test]
fn raw_must_be_allowed() {
    let refused = |text: &str| {
        TemplateSet::load(vec![source(text)], Vec::new(), Options::default())
            .err()
            .map(|wrong| wrong[0].code)
    };
    assert_eq!(refused("x {{raw (key \"a\")}}"), Some("raw-not-allowed"));
    assert_eq!(
        refused("x {{#if (raw \"a\")}}{{/if}}"),
        Some("raw-not-allowed")
    );
    assert_eq!(refused("x {{{key \"a\"}}}"), Some("unescaped-output"));
    // The block writes only what stands in the template.
    assert_eq!(refused("x {{{{raw}}}}{{as it is}}{{{{/raw}}}}"), None);
}

// D05
#[test]
fn the_deepest_templates_that_are_taken_are_rendered() {
    let deepest = Options::default().max_nesting - 1;
    let nested = |inner: &str| {
        format!(
            "{}{inner}{}",
            "{{#if true}}".repeat(deepest),
            "{{/if}}".repeat(deepest)
        )
    };
    let names: Vec<String> = (0..deepest).map(|number| format!("p{number}")).collect();
    let texts: Vec<String> = (0..deepest)
        .map(|number| {
            nested(&match names.get(number + 1) {
                Some(next) => format!("{{{{> {next}}}}}"),
                None => "the end".to_owned(),
            })
        })
        .collect();
    let partials: Vec<(&str, &str)> = names
        .iter()
        .map(String::as_str)
        .zip(texts.iter().map(String::as_str))
        .collect();
    assert_eq!(rendered(&nested("x {{> p0}}"), &partials), "x the end");
}

// D06
#[test]
fn a_rendering_ends_when_its_time_is_over() {
    let many: Vec<u32> = (0..3000).collect();
    let each = "{{#each (parameters \"many\")}}";
    for inner in ["", "x\n", "{{#if false}}x{{/if}}"] {
        let text = format!("{}{inner}{}", each.repeat(4), "{{/each}}".repeat(4));
        let mut set = with(
            &text,
            Options {
                parameters: json!({ "many": many }).as_object().unwrap().clone(),
                timeout: Duration::from_millis(20),
                max_output: 1 << 30,
                ..Options::default()
            },
        );
        let wrong = complete(&mut set, "{}").unwrap_err();
        assert_eq!(wrong[0].code, "too-slow", "{wrong:?}");
    }
    let grow = |inner: &str| {
        format!(
            "{}x {{{{len v}}}}{}",
            format!("{{{{#let ({inner}) as |v|}}}}").repeat(12),
            "{{/let}}".repeat(12)
        )
    };
    for grown in [
        "replaceAll \"a\" \"aaaaaaaaaaaaaaaaaaaa\" (default v \"a\")",
        "regexReplace \"a+\" \"$0$0$0$0$0$0$0$0$0$0$0$0\" (default v \"a\")",
    ] {
        // The name is bound from the second block on.
        let text = grow(grown).replacen("default v", "default \"\"", 1);
        let mut set = load(&text, &[]).unwrap();
        let wrong = complete(&mut set, "{}").unwrap_err();
        assert!(wrong[0].message.contains("larger than 1 MiB"), "{wrong:?}");
    }
}

// D08
#[test]
fn no_helper_gives_what_is_not_the_same_next_time() {
    for word in ["now", "time", "stamp", "random", "uuid", "shuffle"] {
        let found = helpers::TABLE
            .iter()
            .find(|entry| entry.name.to_lowercase().contains(word));
        assert!(found.is_none(), "{word}");
    }
}

// D12
#[test]
fn a_template_that_reads_what_it_makes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("made.cfg"), "x\n").unwrap();
    std::fs::write(at("other"), "o").unwrap();
    std::os::unix::fs::symlink("made.cfg", at("link")).unwrap();
    let options = Options {
        files: Some(folder.path().to_owned()),
        destinations: vec![at("made.cfg")],
        ..Options::default()
    };
    let loaded = |text: &str| TemplateSet::load(vec![source(text)], Vec::new(), options.clone());
    let wrong = loaded("x {{file \"made.cfg\"}}").unwrap_err();
    assert_eq!(wrong[0].code, "circular");
    for hidden in ["link", "./made.cfg"] {
        let (mut set, _) = loaded(&format!("x {{{{file (toLower \"{hidden}\")}}}}")).unwrap();
        let wrong = complete(&mut set, "{}").unwrap_err();
        assert!(
            wrong[0].message.contains("would depend on itself"),
            "{wrong:?}"
        );
    }
    let (mut set, _) = loaded("x {{file \"other\"}}").unwrap();
    assert_eq!(complete(&mut set, "{}").unwrap().files, ["x o"]);
}
