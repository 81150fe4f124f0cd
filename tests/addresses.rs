//! Who writes a key or registers an instance gives a host and a port, never a path, a socket or a descriptor, in any
//! place where HAProxy takes an address.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use serde_json::json;

use support::consul::{Consul, instance};
use support::haproxies::{Version, haproxies};
use support::ports;
use support::scene::{Catalog, Given, HEAD};

/// A key in each kind of line, and metadata in the options of a server.
const PLACES: &str = r#"    # note: {{keyOrDefault "note" "none"}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}} addr {{default ServiceMeta.check "127.0.0.1"}}
{{/each}}
    source {{key "source"}}
global
    log {{key "log"}} local0
    stats socket {{key "stats"}} level user
    stats socket unix@@dir@/{{key "name"}}.sock level user
frontend other
    bind {{key "bind"}}
resolvers dns
    nameserver one {{key "nameserver"}}
log-forward logs
    dgram-bind {{key "dgram-bind"}}
    log {{parameter "target" "stdout"}} format raw local0
"#;

// C05
#[haproxies]
fn who_writes_a_key_replaces_no_file_by_a_socket(version: Version) {
    let consul = Consul::start().unwrap();
    let [stats, bind, log] = ports::free().unwrap();
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let keys = [
        ("bind", at(bind)),
        ("dgram-bind", at(log)),
        ("log", at(log)),
        ("name", "one".to_owned()),
        ("nameserver", at(log)),
        ("source", "127.0.0.1".to_owned()),
        ("stats", at(stats)),
    ];
    for (key, value) in &keys {
        consul.key(key, value);
    }
    let mut scene = Given::consul(&consul.url())
        .binary(version.program())
        .set("parameters", "target = \"fd@1\"")
        .template(&format!("{HEAD}{PLACES}"))
        .instances(&consul, &["one", "two"])
        .serve();
    assert!(scene.file().contains("log fd@1 format raw"));
    scene.setup.file("victim", "kept").unwrap();
    let victim = scene.setup.path("victim");
    let address = "stands in an address and is more than a host and a port";
    let cases = [
        ("bind", victim.clone(), address),
        ("bind", format!("{},unix@{victim}", at(bind)), address),
        ("dgram-bind", format!("uxdg@{victim}"), address),
        ("log", "fd@3".to_owned(), address),
        ("name", "../x".to_owned(), "leads to another folder"),
        ("nameserver", format!("unix@{victim}"), address),
        ("source", "abns@x".to_owned(), address),
        ("stats", victim.clone(), address),
        ("stats", "$HOME/x".to_owned(), "takes for a variable"),
    ];
    for (key, value, reason) in cases {
        let before = scene.file();
        consul.key(key, &value);
        scene.until(&format!("the refusal of {key} {value}"), |status| {
            let told = status["template_errors"][0].as_str().unwrap_or_default();
            told.contains(reason) && !told.contains(&victim)
        });
        assert_eq!(scene.file(), before);
        assert_eq!(scene.setup.read("victim").unwrap(), "kept");
        let good = keys.iter().find(|(name, _)| *name == key).unwrap();
        consul.key(key, &good.1);
        scene.goes_on(&consul, &format!("after {key}"));
    }

    // An instance with such metadata is left out alone.
    for (id, check) in [("bad-path", victim.as_str()), ("bad-kind", "fd@3")] {
        let mut body = instance("web", id, scene.entrance);
        body["Port"] = json!(9);
        body["Address"] = json!(if id == "bad-path" {
            "127.0.0.2"
        } else {
            "127.0.0.3"
        });
        body["Meta"] = json!({ "check": check });
        consul.register(&body).unwrap();
    }
    scene.confirmed("both instances left out", |status| {
        status["quarantined"].as_array().is_some_and(|all| {
            let told = |id: &str| all.iter().any(|one| one.to_string().contains(id));
            all.len() == 2 && told("bad-path") && told("bad-kind")
        })
    });
    scene.goes_on(&consul, "at the end");
    scene.all_serve(&["one", "two"]);
    assert_eq!(scene.setup.read("victim").unwrap(), "kept");
    scene.load();
    scene.end();
}

/// Lines of which HAProxy reads the word `@` as an address, and the section around them.
const LINES: &[(&str, &str)] = &[
    ("frontend f", "bind @:80"),
    ("listen l", "dispatch @:80"),
    ("global", "log @:514 local0"),
    ("defaults", "log @:514 local0"),
    ("fcgi-app a\n docroot /x", "log-stderr @:514 local0"),
    ("mailers m", "mailer one @:25"),
    ("resolvers r", "nameserver one @:53"),
    ("peers p", "peer one @:1024"),
    ("peers p", "server one @:1024"),
    ("log-forward l", "dgram-bind @:514"),
    ("log-forward l", "bind @:514"),
    (
        "ring r\n format raw\n maxlen 1200\n size 32764",
        "server one @:514",
    ),
    ("backend b", "server one @:80"),
    ("backend b", "server-template s 1-3 @:80"),
    ("backend b", "source @"),
    ("backend b", "server one 10.0.0.1:80 check addr @"),
    ("backend b", "server one 10.0.0.1:80 source @"),
    ("backend b", "server one 10.0.0.1:80 socks4 @:1080"),
    ("backend b", "default-server check addr @"),
    (
        "backend b\n option tcp-check",
        "tcp-check connect port 80 addr @",
    ),
    (
        "backend b\n option httpchk",
        "http-check connect port 80 addr @",
    ),
    ("global", "stats socket @:9999"),
];

// C05
/// HAProxy expands variables in addresses and nowhere else, whatever the quotes: so it shows where it takes one.
#[haproxies]
fn haproxy_takes_an_address_where_the_table_says_so(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.cfg");
    let base = "global\n hard-stop-after 1m\ndefaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n \
        timeout server 1s\nfrontend complete\n bind 127.0.0.1:1\n";
    let newer = [("global", "ocsp-update.httpproxy @:80")];
    let newer = newer.iter().filter(|_| !version.name().starts_with("2."));
    for (section, line) in LINES.iter().chain(newer) {
        let line = line.replace('@', "'${GW_HOST}'");
        std::fs::write(&path, format!("{base}{section}\n {line}\n")).unwrap();
        let check = |host: &str| {
            let mut command = Command::new(version.program());
            command.args(["-c", "-f"]).arg(&path).env("GW_HOST", host);
            command.output().unwrap()
        };
        let (good, bad) = (check("127.0.0.1"), check("fd@x"));
        let told = String::from_utf8_lossy(&good.stderr);
        assert!(good.status.success(), "{section}: {line}\n{told}");
        // 2.6 says so of a `bind` of `log-forward`, and ends well.
        let told = String::from_utf8_lossy(&bad.stderr);
        assert!(told.contains("[ALERT]"), "{section}: {line}\n{told}");
    }
}
