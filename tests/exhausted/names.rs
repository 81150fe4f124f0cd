//! Names that Consul cannot be asked for, or HAProxy cannot take, cost only what bears them.

use serde_json::{Value, json};

use super::{LIMIT, answer, warns};
use support::consul::Consul;
use support::haproxies::{Version, haproxies, oldest};
use support::scene::{Catalog, Given, HEAD, Scene};

/// Everything that the catalog lists is asked for by its name, and names sections.
const LISTED: &str = r#"defaults
    mode http
    option idle-close-on-response
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
{{#each (services)}}
    use_backend {{Name}} if { req.hdr(host) -m str {{backendName Name}} }
{{/each}}
    default_backend web
{{#each (services)}}

backend {{Name}}
    # note: {{keyOrDefault "note" "none"}}
{{#each (service Name)}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
{{/each}}
{{#each (nodes)}}
{{#with (node Node)}}
{{#each Services}}
# {{Name}} is on a node
{{/each}}
{{/with}}
{{/each}}
{{#each (tree "cfg")}}
# {{Key}} is {{keyOrDefault Path "nothing"}}
{{/each}}
"#;

/// Services whose name is no name, with what is said of each.
const ODD: [&str; 9] = [
    ".",
    "..",
    "a/../b",
    "a//b",
    "./a",
    "/a",
    // Zero-width, and what looks like a blank.
    "we\u{200b}b",
    "we\u{a0}b",
    "\u{202e}bew",
];

fn given(consul: &Consul, version: &Version) -> Given {
    Given::consul(&consul.url())
        .binary(version.program())
        .template(LISTED)
        .instances(consul, &["one"])
}

fn register(consul: &Consul, node: &str, name: &str) {
    consul
        .catalog_register(&json!({
            "Node": node, "Address": "127.0.0.1",
            "Service": { "Service": name, "ID": format!("id-{name}"), "Address": "127.0.0.1", "Port": 9 },
        }))
        .unwrap();
}

fn quarantined(status: &Value, name: &str) -> bool {
    let list = status["quarantined"].as_array().into_iter().flatten();
    let mut texts = list.filter_map(Value::as_str);
    texts.any(|text| text.contains(name))
}

/// A new server of the good service is served.
fn goes_on(scene: &mut Scene, consul: &Consul, id: &str) {
    let address = scene.backend(id);
    consul.instance(id, address);
    answer(scene, &["one", id]);
}

// C17
#[haproxies(ends)]
fn a_service_with_an_odd_name_costs_only_itself(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = given(&consul, &version).run();
    scene.confirmed("the first set", |_| true);
    for (number, name) in ODD.iter().enumerate() {
        register(&consul, "elsewhere", name);
        let shown: String = name
            .chars()
            .flat_map(|letter| match letter {
                letter if letter.is_ascii() => vec![letter],
                letter => letter.escape_unicode().collect(),
            })
            .collect();
        scene.confirmed(&format!("the quarantine of {name:?}"), |status| {
            quarantined(status, &format!("Service {shown}"))
                || quarantined(status, &format!("Service {name}"))
        });
        goes_on(&mut scene, &consul, &format!("web-{number}"));
    }
    scene.goes_on(&consul, "after");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// C17
#[haproxies(ends)]
fn a_first_start_among_odd_names_serves_the_others(version: Version) {
    let consul = Consul::start().unwrap();
    // A legal name can be made of any, but not every service can be asked for.
    let text = LISTED.replace("backend {{Name}}", "backend {{backendName Name}}");
    let given = given(&consul, &version).template(&text);
    ODD.iter()
        .for_each(|name| register(&consul, "elsewhere", name));
    for node in [".", "..", "n/../m"] {
        register(&consul, node, "other");
    }
    let keys = ["cfg/../x", "cfg/./y", "cfg/good"]
        .map(|key| json!({ "KV": { "Verb": "set", "Key": key, "Value": "dg==" } }));
    consul.put("/v1/txn", &json!(keys).to_string()).unwrap();
    let mut scene = given.run();
    let status = scene.confirmed("the first set", |_| true);
    for words in ["Node ..", "Node n/../m", "Key cfg/../x", "Service a/../b"] {
        assert!(
            quarantined(&status, words),
            "{words}: {:#?}",
            status["quarantined"]
        );
    }
    assert!(scene.file().contains("# good is v\n"), "{}", scene.file());
    assert!(scene.file().contains("backend other\n"), "{}", scene.file());
    answer(&scene, &["one"]);
    goes_on(&mut scene, &consul, "two");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

/// The lines of `backend web`. What they ask is made of data that anybody may write: a tag and a key.
const COMPUTED: &str = r#"    # note: {{keyOrDefault "note" "none"}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}}
{{#each Tags}}
    # {{this}}: {{keyOrDefault this "no key"}}
{{/each}}
{{/each}}
{{#each (split "," (keyOrDefault "more" ""))}}

backend more-{{@index}}
{{#each (service this)}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
{{/each}}
"#;

// C17
#[test]
fn a_computed_name_that_cannot_be_asked_for_costs_only_itself() {
    let consul = Consul::start().unwrap();
    let mut scene = given(&consul, &oldest())
        .template(&format!("{HEAD}{COMPUTED}"))
        .run();
    scene.confirmed("the first set", |_| true);
    let address = scene.backend("two");
    let tags = ["..", "cfg/../../v1/agent/self", "a//b", "good"];
    consul.set_key("good", "is there").unwrap();
    let body = json!({
        "Node": "elsewhere", "Address": "127.0.0.1",
        "Service": { "Service": "web", "ID": "two", "Address": "127.0.0.1", "Port": address.port(), "Tags": tags },
    });
    consul.catalog_register(&body).unwrap();
    consul.set_key("more", "../x,web").unwrap();
    answer(&scene, &["one", "two"]);
    let status = scene.confirmed("what cannot be asked", |status| {
        warns(status, &["cannot be asked", "key \"..\""])
            && warns(status, &["cannot be asked", "service \"../x\""])
    });
    assert!(
        warns(&status, &["another path"]),
        "{:#?}",
        status["warnings"]
    );
    assert!(
        scene.file().contains("# good: is there\n"),
        "{}",
        scene.file()
    );
    // Of what is not wanted any more nothing is said.
    consul.set_key("more", "web").unwrap();
    scene.confirmed("the end of a warning", |status| {
        !warns(status, &["service \"../x\""])
    });
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// C17
#[test]
fn a_name_in_the_template_that_cannot_be_asked_for_is_a_mistake() {
    let consul = Consul::start().unwrap();
    let text = LISTED.replace("(tree \"cfg\")", "(tree \"cfg/../x\")");
    let given = given(&consul, &oldest()).template(&text);
    let setup = &given.setup;
    let settings = format!(
        "[consul]\naddresses = [\"{}\"]\n[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/haproxy.cfg\"\n",
        consul.url()
    );
    setup.settings(&settings).unwrap();
    let output = setup
        .call(&["render", "-c", &setup.path("gatewright.toml")])
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("error[unanswerable]") && said.contains("cfg/../x"),
        "{said}"
    );
}
