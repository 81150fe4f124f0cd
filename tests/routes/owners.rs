//! Services that claim the routes of others: they take none of their rules of access away.

use super::conformance::{Gateway, HASH};
use super::*;
use support::haproxies::{Version, haproxies};

#[haproxies]
fn a_shared_route_keeps_its_rules_whoever_claims_it(version: Version) {
    let tags = json!({
        "aaa": ["urlprefix-a.b/admin", "urlprefix-a.b/users weight=0.9999", "urlprefix-a.b/known strip=/known", "urlprefix-a.b/first allow=ip:0.0.0.0/0"],
        "web": ["urlprefix-a.b/admin allow=ip:10.0.0.0/8", "urlprefix-a.b/users auth=ops", "urlprefix-a.b/known allow=ip:127.0.0.0/8 auth=ops",
                "urlprefix-a.b/first allow=ip:10.0.0.0/8", "urlprefix-a.b/open"],
        "zzz": ["urlprefix-a.b//x/../%61dmin prepend=/z", "urlprefix-A.B/users host=dst", "urlprefix-a.b/known auth=unknown"],
    });
    let users = format!("[parameters.auth.ops]\nuser = \"{HASH}\"\n");
    let gateway = Gateway::start(&version, &tags, &users);
    let asked = |path: &str, headers: &[(&str, &str)]| {
        let answers = (0..30).map(|_| ask(gateway.entrance, "a.b", path, headers).0);
        answers.collect::<BTreeSet<u16>>()
    };
    let user = [("Authorization", "Basic dXNlcjpzZWNyZXQ=")];
    assert_eq!(asked("/admin", &[]), BTreeSet::from([403]), "{version}");
    assert_eq!(asked("/users", &[]), BTreeSet::from([401]), "{version}");
    assert_eq!(asked("/users", &user), BTreeSet::from([200]), "{version}");
    // Also under a rule that knows nobody.
    assert_eq!(asked("/known", &[]), BTreeSet::from([401]), "{version}");
    assert!(
        asked("/known", &user).is_subset(&BTreeSet::from([200, 401])),
        "{version}"
    );
    for _ in 0..30 {
        let (status, answer) = ask(gateway.entrance, "a.b", "/first", &[]);
        assert!(
            status == 403 || answer.contains("aaa /first"),
            "{version}: {answer}"
        );
    }
    assert_eq!(asked("/open", &[]), BTreeSet::from([200]), "{version}");
}

/// Not even while the owner's own route does not exist, or takes a part of the paths only.
#[haproxies]
fn a_host_of_an_owner_is_never_served_by_routes_for_more_hosts(version: Version) {
    let [sni] = ports::free().unwrap();
    let tags = json!({
        "web": ["urlprefix-a.b/shop", "urlprefix-x.mine.org/x"],
        "acme": ["urlprefix-/.well-known"],
        "wide": ["urlprefix-/", "urlprefix-*.b/", "urlprefix-*/all", "urlprefix-part.org/", "urlprefix-*.org/",
                 "urlprefix-*/ proto=tcp"],
    });
    let settings = format!(
        "[parameters]\nsni_listen = \"127.0.0.1:{sni}\"\n\
         [parameters.owners.web]\nhosts = [\"A.B\", \"gone.b.\", \"*.mine.org\"]\n\
         [parameters.owners.acme]\npaths = [\"/.well-known\"]\n\
         [parameters.owners.team]\nhosts = [\"part.org\"]\npaths = [\"//own\"]\n"
    );
    let gateway = Gateway::start(&version, &tags, &settings);
    for (host, path, status, by) in [
        ("a.b", "/shop/1", 200, "web"),
        ("a.b", "/", 404, ""),
        ("A.B.", "/all", 404, ""),
        ("a.b:80", "/shop", 200, "web"),
        ("a.b", "/.well-known/x", 200, "acme"),
        ("gone.b", "/", 404, ""),
        ("gone.b", "/.well-known/x", 200, "acme"),
        ("x.mine.org", "/x", 200, "web"),
        ("x.mine.org", "/y", 404, ""),
        ("z.y.mine.org", "/", 404, ""),
        ("part.org", "/", 200, "wide"),
        ("part.org", "/own/1", 404, ""),
        ("c.b", "/", 200, "wide"),
        ("mine.org", "/", 200, "wide"),
        ("else.net", "/", 200, "wide"),
    ] {
        let (got, answer) = ask(gateway.entrance, host, path, &[]);
        assert_eq!(got, status, "{version}: {host}{path} {answer}");
        assert!(answer.contains(by), "{version}: {host}{path} {answer}");
    }
    let map = gateway.map("sni.map");
    for line in ["a.b /", "gone.b /", "*.mine.org /", "* wide"] {
        assert!(map.lines().any(|one| one.starts_with(line)), "{map}");
    }
}

#[test]
fn a_line_of_a_key_leads_neither_to_this_machine_nor_to_a_listener() {
    let setup = Setup::new().unwrap();
    let [port] = ports::free().unwrap();
    let lines: Vec<String> = [
        "127.0.0.1:8500",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "127.9.9.9:1",
        "169.254.169.254:80",
        "10.9.9.9:80",
        "localhost:80",
    ]
    .iter()
    .enumerate()
    .map(|(number, target)| format!("route add added-{number} /{number} http://{target}/"))
    .collect();
    let catalog = json!({ "services": {}, "keys": { "fabio/config": lines.join("\n") } });
    setup.file("catalog.json", &catalog.to_string()).unwrap();
    let asked = |settings: &str, listen: &str| {
        setup.settings(settings).unwrap();
        let file = setup.path("gatewright.toml");
        let words = [
            "render",
            "--routes",
            "--listen",
            listen,
            "-c",
            &file,
            "--catalog",
            "catalog.json",
        ];
        let output = setup.call(&words).unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let state = "[state]\ndirectory = \"{dir}\"\n";
    let answer = asked(state, &format!("127.0.0.1:{port}"));
    for number in [0, 1, 2, 3, 4, 6] {
        let refused = format!("Line {} of the key fabio/config is left out", number + 1);
        assert!(answer.contains(&refused), "{number} {answer}");
        assert!(
            !answer.contains(&format!("added-{number}")),
            "{number} {answer}"
        );
    }
    assert!(answer.contains("10.9.9.9:80"), "{answer}");
    assert!(
        answer.contains(
            "its address 127.0.0.1 is this machine's own; catalog.allow_loopback lets it through"
        ),
        "{answer}"
    );
    // Where it may, it is never a listener of the configuration, also of one on all addresses.
    let allowed = format!("{state}[catalog]\nallow_loopback = true\n");
    let answer = asked(&allowed, "0.0.0.0:80");
    for (number, stays) in [(0, false), (1, true), (2, false), (3, true), (5, true)] {
        assert_eq!(
            answer.contains(&format!("added-{number}")),
            stays,
            "{number} {answer}"
        );
    }
    assert!(
        answer.contains("is one on which the gateway itself listens"),
        "{answer}"
    );
}

#[test]
fn an_owner_alone_gets_its_routes_and_the_table_says_who_tried() {
    let setup = Setup::new().unwrap();
    let one = |tags: &[&str]| json!([{ "Address": "127.0.0.1", "Port": 8001, "Tags": tags }]);
    let catalog = json!({ "services": {
        "web": one(&["urlprefix-a.b/", "urlprefix-c.d/"]),
        "team-1": one(&["urlprefix-a.b/", "urlprefix-c.d/ auth=ops", "urlprefix-free.org/"]),
    }});
    setup.file("catalog.json", &catalog.to_string()).unwrap();
    let routes = |parameters: &str| {
        setup
            .settings(&format!("[state]\ndirectory = \"{{dir}}\"\n{parameters}"))
            .unwrap();
        let file = setup.path("gatewright.toml");
        let words = ["routes", "-c", &file, "--catalog", "catalog.json"];
        let output = setup.call(&words).unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let table = routes("");
    for text in [
        "Route a.b/: The services team-1, web claim it, and share its requests. Say in [parameters.owners]",
        "Route c.d/: The services team-1, web claim it, and share its requests. The rules of access of team-1 hold for web too",
    ] {
        assert!(table.contains(text), "{table}");
    }
    let table = routes(
        "[parameters.owners.web]\nhosts = \"A.B\"\n[parameters.owners.\"team-*\"]\nhosts = [\"c.d\", \"free.org\"]\n",
    );
    for text in [
        "Tag `urlprefix-a.b/` of instance team-1-1 on node node-1 is left out because the parameter owners gives a.b/ to `web`.",
        "Tag `urlprefix-c.d/` of instance web-1 on node node-1 is left out because the parameter owners gives c.d/ to `team-*`.",
    ] {
        assert!(table.contains(text), "{table}");
    }
    assert!(!table.contains("share its requests"), "{table}");
    let table = routes("[parameters.owners.web]\nhosts = [\"a..*.b\"]\n");
    let text = "`a..*.b/` in the parameter owners cannot be used because its host is a pattern";
    assert!(table.contains(text), "{table}");
    for wrong in [
        "owners = \"web\"",
        "[parameters.owners.web]\nhost = \"a.b\"",
        "[parameters.owners.web]\nports = [0]",
        "[parameters.owners.web]\nhosts = [\"a.b/x\"]",
        "[parameters.owners.web]\npaths = [\"x\"]",
    ] {
        let line = if wrong.starts_with('[') {
            wrong.to_owned()
        } else {
            format!("[parameters]\n{wrong}")
        };
        let answer = routes(&line);
        assert!(
            answer.contains("The parameter owners has a table"),
            "{wrong} {answer}"
        );
    }
}
