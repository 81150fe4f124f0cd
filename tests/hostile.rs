//! Data is data: whatever stands in the real Consul, nothing of it becomes a section, a line or a word
//! of the configuration, and no bad instance keeps the good ones from being served.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use gatewright::haproxy::config::Config;
use serde_json::{Value, json};

use support::backend::Backend;
use support::consul::{Consul, instance};
use support::gatewright::Setup;
use support::haproxies::{newest, oldest};
use support::haproxy::HAProxy;
use support::scene::{Given, Scene};
use support::{ports, process, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// Prints names, ids, tags, metadata and keys in words, in double and single quotes and in comments.
const EVERYWHERE: &str = r#"defaults
    mode http
    option idle-close-on-response
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
    default_backend web
{{#each (services)}}
    # service {{Name}} with {{join Tags " "}}
{{#if (eq Name "web")}}
    http-response set-header X-Name {{Name}}
{{/if}}
{{/each}}
{{#each (tree "data")}}
    # key {{Key}} is {{Value}}
    http-response set-header X-Key {{Value}}
    http-response set-header X-Key "in quotes {{Value}}"
    http-response set-header X-Key 'in quotes {{Key}}'
{{/each}}

backend web
    retries 3
    option redispatch 1
{{#each (service "web")}}
    # {{ID}} {{join Tags " "}} {{#each ServiceMeta}}{{@key}}={{this}} {{/each}}
    server {{serverName this}} {{serverAddress this}} weight {{Weights.Passing}}
    http-response set-header X-Id {{ID}}
    http-response set-header X-Id "in quotes {{ID}}"
{{#each Tags}}
    http-response set-header X-Tag x{{this}}
    http-response set-header X-Tag "in quotes {{this}}"
{{/each}}
{{#each ServiceMeta}}
    http-response set-header X-Meta {{@key}}={{this}}
    http-response set-header X-Meta "{{@key}} {{this}}"
{{/each}}
{{/each}}
"#;

/// Texts that a word and quotes can hold, if they are escaped.
const QUOTED: &[&str] = &[
    "${HOME}",
    "\"${HOME}\"",
    "$(reboot)",
    "program evil",
    "a b\\",
    "\\",
    "\"",
    "it's",
    "' option x '",
    "# not a comment",
    "unix@/x",
    "{{key \"x\"}}",
    "{{{raw}}}",
    "a; shutdown sessions",
    "global",
    "ünïcödé ☃",
    "}}",
    "if { always_true }",
    ".if 1",
];

/// A scene on another template; HAProxy's environment has something to print.
fn scene(consul: &Consul, template: &str) -> Scene {
    Given::consul(&consul.url())
        .env("HAPROXY_CANARY", "canary")
        .env("NO_COLOR", "1")
        .template(template)
        .run()
}

/// The sections with their keywords: all that tells HAProxy what to do.
fn shape(text: &str) -> Vec<(String, Vec<String>)> {
    let config = Config::parse_files([(Path::new("haproxy.cfg"), text)]);
    assert!(config.errors.is_empty(), "{:?}", config.errors);
    assert!(config.outside.is_empty(), "{:?}", config.outside);
    config
        .sections
        .iter()
        .map(|section| {
            let title = format!("{} {}", section.kind, section.name);
            let keywords = section.directives.iter().map(|one| {
                let words = one.words.iter().take(2).map(|word| word.text.as_str());
                match one.keyword() {
                    "http-response" | "option" => words.collect::<Vec<_>>().join(" "),
                    keyword => keyword.to_owned(),
                }
            });
            (title.trim().to_owned(), keywords.collect())
        })
        .collect()
}

/// What the template gives for so many keys and these instances: each with its number of tags and
/// metadata.
fn expected(keys: usize, instances: &[(usize, usize)]) -> Vec<(String, Vec<String>)> {
    let section = |title: &str, keywords: &[&str]| {
        let keywords = keywords.iter().map(|keyword| (*keyword).to_owned());
        (title.to_owned(), keywords.collect())
    };
    let header = "http-response set-header";
    let mut frontend = vec!["bind", "default_backend", header];
    frontend.extend(vec![header; 3 * keys]);
    let mut backend = vec!["retries", "option redispatch"];
    for (tags, meta) in instances {
        backend.extend(["server", header, header]);
        backend.extend(vec![header; 2 * (tags + meta)]);
    }
    vec![
        section(
            "defaults",
            &[
                "mode",
                "option idle-close-on-response",
                "timeout",
                "timeout",
                "timeout",
            ],
        ),
        section("frontend in", &frontend),
        section("backend web", &backend),
        section("global", &["set-var"]),
    ]
}

/// Instances that no configuration can hold, each with the reason that must be told. Real Consul
/// takes every one of them.
fn unfit(good: SocketAddr) -> Vec<(Value, &'static str)> {
    let at = |number: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, number));
    let with = |field: &str, value: Value, id: &str| {
        let mut body = instance("web", id, at(9));
        body[field] = value;
        body
    };
    let control = "one of its tags or metadata holds a control character";
    vec![
        (
            instance("web", "bad\nprogram evil\n command /bin/touch", at(9)),
            "its id holds a control character",
        ),
        (
            instance("web", "bad\0nul", at(9)),
            "its id holds a control character",
        ),
        (
            instance("web", "bad\ttab", at(9)),
            "its id holds a control character",
        ),
        (
            instance("web", &format!("bad-{}", "x".repeat(100_000)), at(9)),
            "its id is longer than 1024 bytes",
        ),
        (
            with("Tags", json!(["v1\n\nprogram evil"]), "bad-tag"),
            control,
        ),
        (
            with("Meta", json!({"note": "x\r\nglobal"}), "bad-meta"),
            control,
        ),
        (
            with("Address", json!("unix@/x"), "bad-unix"),
            "its address `unix@/x` is no IP address",
        ),
        (
            with("Address", json!("127.0.0.1:80 check\n"), "bad-words"),
            "its address `127.0.0.1:80 check\\n` is no IP address",
        ),
        (
            with("Address", json!("localhost"), "bad-name"),
            "its address `localhost` is no IP address",
        ),
        (
            with("Address", json!("${HOME}"), "bad-variable"),
            "its address `${HOME}` is no IP address",
        ),
        (
            with("Address", json!("255.255.255.255"), "bad-all"),
            "its address 255.255.255.255 is that of no single host",
        ),
        (
            with("Port", json!(1_u64 << 40), "bad-large"),
            "its port 1099511627776 is not between 1 and 65535",
        ),
        (
            with("Port", json!(-1), "bad-negative"),
            "its port -1 is not between 1 and 65535",
        ),
        (
            with("Port", json!(0), "bad-zero"),
            "its port 0 is not between 1 and 65535",
        ),
        (instance("web", "bad-twin", good), "has the same address"),
    ]
}

// P6 C01 C02 C03 C04 C05 C06 C07 C08 C10
#[test]
fn hostile_data_adds_nothing_and_stops_no_good_instance() {
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, EVERYWHERE);
    let good = [
        Backend::start("good").unwrap(),
        Backend::start("better").unwrap(),
    ];
    for (backend, id) in good.iter().zip(["a", "b"]) {
        consul
            .register_instance("web", id, backend.address())
            .unwrap();
    }
    scene.confirmed("the good instances", |_| {
        let file = scene.file();
        file.matches("\n    server ").count() == 2
    });
    scene.load();

    // What words and quotes can hold is written: the ids, tags, metadata and keys of living instances.
    let fit: Vec<Backend> = QUOTED
        .iter()
        .map(|_| Backend::start("fit").unwrap())
        .collect();
    for (text, backend) in QUOTED.iter().zip(&fit) {
        let mut body = instance("web", &format!("fit {text}"), backend.address());
        body["Tags"] = json!([text, "second"]);
        body["Meta"] = json!({"note": text, "empty": ""});
        consul.register(&body).unwrap();
        let key: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        // Single quotes can hold no single quote; the template has keys there.
        if !text.contains('\'') {
            consul.set_key(&format!("data/{key}"), text).unwrap();
        }
        // The names of services reach only a comment.
        let name = format!("{text} service");
        consul
            .register(&json!({"Name": name, "ID": name, "Tags": [text]}))
            .unwrap();
    }
    let long = "y".repeat(100_000);
    let mut body = instance("long", "long", scene.entrance);
    body["Tags"] = json!([long]);
    consul.register(&body).unwrap();
    // What nothing can hold is left out.
    let unfit = unfit(good[0].address());
    for (body, _) in &unfit {
        consul.register(body).unwrap();
    }
    let keys = QUOTED.iter().filter(|text| !text.contains('\'')).count();
    let all = 2 + QUOTED.len();
    scene.confirmed("every fit instance and key", |_| {
        let file = scene.file();
        file.matches("\n    server ").count() == all
            && file.matches("    # key ").count() == keys
            && file.contains(&long)
    });
    let status = scene
        .setup
        .wait_for_status(LIMIT, "all that is left out", |status| {
            (status["quarantined"].as_array()?.len() == unfit.len()).then(|| status.clone())
        })
        .unwrap();

    let mut instances = vec![(0, 0); 2];
    instances.extend(vec![(2, 2); QUOTED.len()]);
    let file = scene.file();
    assert_eq!(shape(&file), expected(keys, &instances));
    let (code, output) =
        support::haproxy::check(&newest(), &scene.setup.directory().join("haproxy.cfg")).unwrap();
    assert_eq!(code, 0, "{output}");

    let told: BTreeSet<&str> = status["quarantined"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect();
    assert_eq!(told.len(), unfit.len(), "{told:#?}");
    for (body, reason) in &unfit {
        let id = body["ID"].as_str().unwrap();
        let id: String = id.chars().take(12).flat_map(char::escape_debug).collect();
        assert!(
            told.iter()
                .any(|one| one.starts_with(&format!("Instance {id}")) && one.contains(reason)),
            "{id}: {reason}\n{told:#?}"
        );
        // A status line is one line, whatever the id was.
        assert!(told.iter().all(|one| !one.contains(char::is_control)));
    }

    // The living ones are all reached, whatever they are called, and nothing failed.
    wait_for(LIMIT, "an answer of every instance", || {
        fit.iter()
            .chain(&good)
            .all(|backend| backend.requests() > 0)
            .then_some(())
    })
    .unwrap();
    // Only HAProxy was ever started: no `program`.
    for child in process::descendants(scene.gatewright.process().pid()) {
        if let Ok(name) = std::fs::read_to_string(format!("/proc/{child}/comm")) {
            assert_eq!(name.trim(), "haproxy");
        }
    }
    let report = scene.end();
    assert!(report.answers["good"] > 0 && report.answers["better"] > 0);
}

/// One value for each place that can refuse one.
const PLACES: &str = r#"defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend in
    bind @bind@
    acl one path_beg {{key "word"}}
    http-request set-header X-A a{{key "joined"}}
    http-request set-header X-B 'single {{key "single"}}'
    http-request set-header X-C "double {{key "double"}}"
    http-request set-header X-D %[str({{key "argument"}})]
    # {{key "comment"}}
    default_backend web
backend web
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
"#;

// P6 C01 C02 C03
#[test]
fn a_value_that_its_place_cannot_hold_refuses_only_that_rendering() {
    let control = "holds a control character, which could begin a new line or word";
    let expression = "holds a `%`, which HAProxy may evaluate as an expression";
    let cases: &[(&str, &str, usize, &str, &str)] = &[
        (
            "word",
            "-f",
            8,
            "-f",
            "would be an option or a brace to HAProxy",
        ),
        (
            "word",
            "}",
            8,
            "}",
            "would be an option or a brace to HAProxy",
        ),
        (
            "word",
            "x\n    use_backend evil",
            8,
            "x\\n    use_backend evil",
            control,
        ),
        ("joined", "%[env(HOME)]", 9, "%[env(HOME)]", expression),
        ("joined", "\tb", 9, "\\tb", control),
        (
            "single",
            "' if { always_true }",
            10,
            "\\' if { always_true }",
            "holds a single quote and stands inside single quotes, where nothing can be escaped",
        ),
        ("double", "%[env(HOME)]", 11, "%[env(HOME)]", expression),
        ("double", "\"\nglobal", 11, "\\\"\\nglobal", control),
        (
            "argument",
            "x),env(HOME",
            12,
            "x),env(HOME",
            "stands inside parentheses or brackets and holds more than letters, digits and `_.:/@-`",
        ),
        (
            "comment",
            "\nprogram evil\n    command /bin/true",
            13,
            "\\nprogram evil\\n    command /bin/true",
            control,
        ),
        ("comment", "a\0b", 13, "a\\0b", control),
        ("comment", "a\rb", 13, "a\\rb", control),
    ];
    let consul = Consul::start().unwrap();
    let mut scene = scene(&consul, PLACES);
    let keys = ["word", "joined", "single", "double", "argument", "comment"];
    for key in keys {
        consul.set_key(key, "plain").unwrap();
    }
    let backend = Backend::start("good").unwrap();
    consul
        .register_instance("web", "a", backend.address())
        .unwrap();
    scene.confirmed("the first configuration", |_| {
        let file = scene.file();
        file.contains("\n    server ")
    });
    scene.load();
    for (number, (key, value, line, shown, reason)) in cases.iter().enumerate() {
        let before = scene.file();
        consul.set_key(key, value).unwrap();
        let error = scene
            .setup
            .wait_for_status(LIMIT, &format!("the refusal of {value:?}"), |status| {
                Some(status["template_errors"][0].as_str()?.to_owned())
            })
            .unwrap();
        let place = format!("haproxy.cfg.hbs:{line}:");
        assert!(error.contains(&place), "{value:?} in {place}: {error}");
        let sentence = format!("The value {reason}.");
        assert!(error.contains(&sentence), "{sentence}\n{error}");
        let told = shown.len() > 2 && error.contains(shown);
        assert!(!told, "a value is not shown: {error}");
        assert!(!error.contains(char::is_control), "{error:?}");
        assert_eq!(scene.file(), before, "{value:?}");
        let good = format!("good-{number}");
        consul.set_key(key, &good).unwrap();
        scene.confirmed("the mended value", |_| scene.file().contains(&good));
    }
    scene.end();
}

// D01
#[test]
fn broken_templates_are_refused_at_the_start_and_haproxy_is_left_alone() {
    let [port] = ports::free().unwrap();
    let running = format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\nfrontend in\n    bind 127.0.0.1:{port}\n    http-request return status 204\n"
    );
    let haproxy = HAProxy::start(&oldest(), &running).unwrap();
    let before = (std::fs::read(haproxy.config()).unwrap(), haproxy.worker());
    for (template, place) in [
        (
            "defaults\n  {{#each (service \"web\")}}\n",
            "haproxy.cfg.hbs:2:3",
        ),
        ("defaults\n{{serverNam this}}\n", "haproxy.cfg.hbs:2:3"),
    ] {
        let setup = Setup::new().unwrap();
        setup.file("haproxy.cfg.hbs", template).unwrap();
        setup
            .settings(&format!(
                "[consul]\naddresses = [\"http://127.0.0.1:1\"]\n\
                 [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{}\"\n\
                 [haproxy]\nmode = \"master\"\nmaster_socket = \"{}\"\n\
                 [state]\ndirectory = \"{{dir}}/state\"\n",
                haproxy.config().display(),
                haproxy.master_socket().display(),
            ))
            .unwrap();
        let output = setup.call(&["run", "-c", "gatewright.toml"]).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        // One exit code for each kind of fault: 4 is that of templates.
        assert_eq!(output.status.code(), Some(4), "{told}");
        assert!(told.contains(place), "{told}");
    }
    assert_eq!(
        (std::fs::read(haproxy.config()).unwrap(), haproxy.worker()),
        before
    );
    assert_eq!(
        support::http::get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/")
            .unwrap()
            .status,
        204
    );
}
