//! A name that the template puts together is a name: where it holds a tag, a datacenter or states, no instance
//! has it, and the log, the status and `render` say so.

use serde_json::Value;

use support::consul::Consul;
use support::gatewright::Setup;
use support::scene::{Given, HEAD};

const SENTENCE: &str = "No instance has the service name `prod.web`. A computed name is taken whole, so that `.` ends no part of it: write tag=, dc= or status= where the service is asked for.";

fn warns(status: &Value, sentence: &str) -> bool {
    let warnings = status["warnings"].as_array();
    warnings.is_some_and(|list| list.iter().any(|one| one == sentence))
}

#[test]
fn a_computed_name_with_a_tag_is_a_warning_until_it_is_mended() {
    let consul = Consul::start().unwrap();
    consul.set_key("backend", "prod.web").unwrap();
    let template = format!(
        "{HEAD}{{{{#each (service (key \"backend\"))}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}}\n{{{{/each}}}}\n    server spare 127.0.0.1:9 backup\n"
    );
    let scene = Given::consul(&consul.url())
        .template(&template)
        .instances(&consul, &["one"])
        .run();
    scene.until("the warning", |status| warns(status, SENTENCE));
    scene.logged(&["No instance has the service name `prod.web`"]);
    consul.set_key("backend", "web").unwrap();
    scene.confirmed("the warning to go", |status| {
        !warns(status, SENTENCE) && !status["warnings"].to_string().contains("prod.web")
    });
    scene.serve().serves("one");
}

#[test]
fn render_warns_of_a_computed_name_that_holds_more_than_a_name() {
    let setup = Setup::new().unwrap();
    setup
        .settings("[state]\ndirectory = \"{dir}\"\n[[template]]\nsource = \"a.cfg.hbs\"\ndestination = \"{dir}/a.cfg\"\n")
        .unwrap();
    let catalog = r#"{"services": {"web": [{"Address": "10.0.0.1", "Port": 80, "Tags": ["prod"]}], "v1.api": [{"Address": "10.0.0.2", "Port": 80}], "v2.api": [{"Address": "10.0.0.3", "Port": 80, "Status": "critical"}]}, "keys": {"name": "web|any"}}"#;
    setup.file("catalog.json", catalog).unwrap();
    for (expression, warned) in [
        ("(service (printf \"%s.web\" \"prod\"))", Some("prod.web")),
        ("(service (key \"name\"))", Some("web|any")),
        ("(service (printf \"%s@dc1\" \"web\"))", Some("web@dc1")),
        (
            "(service (printf \"%s~_agent\" \"web\"))",
            Some("web~_agent"),
        ),
        // A name that instances have, dot or not.
        ("(service (printf \"v1.%s\" \"api\"))", None),
        (
            "(services)}}{{/each}}{{#each (service (printf \"v2.%s\" \"api\"))",
            None,
        ),
        ("(service (printf \"%s\" \"none\"))", None),
        ("(service \"prod.none\")", None),
        ("(service \"web\" tag=(printf \"%s\" \"a.b\"))", None),
    ] {
        let template = format!(
            "{}{{{{#each {expression}}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}}\n{{{{/each}}}}\n    server spare 127.0.0.1:9 backup\n",
            HEAD.replace("@bind@", "127.0.0.1:8080")
        );
        setup.file("a.cfg.hbs", &template).unwrap();
        let file = setup.path("gatewright.toml");
        let words = ["render", "-c", &file, "--catalog", "catalog.json"];
        let output = setup.call(&words).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{expression}: {told}");
        let wanted = warned.map(|name| {
            format!("warning[computed-name]: No instance has the service name `{name}`.")
        });
        match wanted {
            Some(wanted) => assert!(told.contains(&wanted), "{expression}: {told}"),
            None => assert!(!told.contains("computed-name"), "{expression}: {told}"),
        }
    }
}

/// What is passed over would read another datacenter than the template says.
#[test]
fn a_computed_datacenter_of_services_and_nodes_is_named_by_dc() {
    let setup = Setup::new().unwrap();
    setup
        .settings("[state]\ndirectory = \"{dir}\"\n[[template]]\nsource = \"a.cfg.hbs\"\ndestination = \"{dir}/a.cfg\"\n")
        .unwrap();
    setup.file("catalog.json", r#"{"services": {}}"#).unwrap();
    let file = setup.path("gatewright.toml");
    for (expression, code) in [
        ("(services (printf \"@%s\" \"dc2\"))", 4),
        ("(nodes (printf \"@%s\" \"dc2\"))", 4),
        ("(services (printf \"%s\" \"\"))", 0),
        ("(services \"@dc1\")", 0),
    ] {
        let template = format!(
            "{}    server spare 127.0.0.1:9\n{{{{#each {expression}}}}}\n{{{{/each}}}}\n",
            HEAD.replace("@bind@", "127.0.0.1:8080")
        );
        setup.file("a.cfg.hbs", &template).unwrap();
        let words = ["render", "-c", &file, "--catalog", "catalog.json"];
        let output = setup.call(&words).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{expression}: {told}");
        let named = told.contains("A computed datacenter is written as dc=DATACENTER.");
        assert_eq!(named, code == 4, "{expression}: {told}");
    }
}
