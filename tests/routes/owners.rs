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
    for wrong in [
        "owners = \"web\"",
        "[parameters.owners.web]\nhost = \"a.b\"",
        "[parameters.owners.web]\nports = [0]",
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
