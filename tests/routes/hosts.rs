//! What a client may send as the host: everything else is refused before anything is looked up by it.

use super::conformance::Gateway;
use super::*;
use support::haproxies::{Version, haproxies, oldest};

fn gateway(version: &Version) -> Gateway {
    let tags = json!({ "web": [
        "urlprefix-gw.example.org/public", "urlprefix-gw.example.org/admin allow=ip:10.0.0.0/8",
        "urlprefix-*.wild.example.org/public", "urlprefix-/open",
    ]});
    Gateway::start(version, &tags, "")
}

/// Hosts that are none.
fn unfit() -> Vec<String> {
    let long = "a".repeat(256);
    let texts = [
        "gw.example.org/public",
        "gw.example.org/public?x=",
        "gw.example.org/public#",
        "gw.example.org\\public",
        "gw.example.org%2fpublic",
        "14:gw.example.org",
        "user@gw.example.org",
        "*.wild.example.org",
        "gw.example.org,other.example.org",
        "other.example.org/public,gw.example.org",
        "gw.example.org public",
        "gw.example.org:",
        "gw.example.org:123456",
        "gw.example.org:80:80",
        "gw.example.org..",
        "gw.example.org.:81",
        "gw.example.org:8o",
        ":80",
        "[::1",
        "::1",
        "[gw.example.org]",
        "",
        &long,
    ];
    texts.map(str::to_owned).into()
}

#[haproxies]
fn a_host_that_is_none_is_refused_whatever_the_path(version: Version) {
    let gateway = gateway(&version);
    for host in unfit() {
        for path in ["/admin", "/public", "/open", "/"] {
            let (status, answer) = ask(gateway.entrance, &host, path, &[]);
            assert_eq!(status, 400, "{version}: {host:?} {path} {answer}");
            // HAProxy itself takes an empty port and the usual one from `:authority`.
            if host.ends_with(':') || host.ends_with(":80") {
                continue;
            }
            let authority = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", host.as_str()),
                (":path", path),
            ];
            let (status, answer) = h2::ask(gateway.entrance, &authority);
            assert!(
                matches!(status, 0 | 400),
                "{version}: HTTP/2 {host:?} {path} {status} {answer}"
            );
        }
    }
}

#[haproxies]
fn a_host_that_is_one_meets_its_route_and_its_rules(version: Version) {
    let gateway = gateway(&version);
    let longest = format!("{}.wild.example.org", "a".repeat(255 - 17));
    for (host, public) in [
        ("gw.example.org", 200),
        ("GW.Example.ORG:80", 200),
        ("gw.example.org.", 200),
        ("gw.example.org.:80", 200),
        ("gw.example.org:8080", 404),
        ("a-1_b.wild.example.org", 200),
        (&longest, 200),
        ("[2001:db8::1]:8080", 404),
        ("[::1]", 404),
        ("10.0.0.1:00080", 404),
    ] {
        let admin = if host.to_lowercase().starts_with("gw.example.org") && public == 200 {
            403
        } else {
            404
        };
        for (path, status) in [("/public", public), ("/admin", admin), ("/open", 200)] {
            let (got, answer) = ask(gateway.entrance, host, path, &[]);
            assert_eq!(got, status, "{version}: {host} {path} {answer}");
            let authority = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", host),
                (":path", path),
            ];
            let (got, answer) = h2::ask(gateway.entrance, &authority);
            assert_eq!(got, status, "{version}: HTTP/2 {host} {path} {answer}");
        }
    }
}

#[haproxies]
fn a_request_names_exactly_one_host_unless_it_is_http_1_0(version: Version) {
    let gateway = gateway(&version);
    for (lines, status) in [
        ("GET /open HTTP/1.1\r\n", 400),
        ("GET /open HTTP/1.0\r\n", 200),
        ("GET /admin HTTP/1.0\r\n", 404),
        ("GET http://gw.example.org/open HTTP/1.0\r\n", 400),
        ("GET http://gw.example.org/public HTTP/1.1\r\n", 400),
        (
            "GET http://gw.example.org/public HTTP/1.1\r\nHost: gw.example.org\r\n",
            200,
        ),
        (
            "GET http://gw.example.org/admin HTTP/1.1\r\nHost: gw.example.org\r\n",
            403,
        ),
        (
            "GET http://gw.example.org/admin HTTP/1.1\r\nHost: other.example.org\r\n",
            400,
        ),
        (
            "GET /admin HTTP/1.1\r\nHost: other.example.org\r\nHost: gw.example.org\r\n",
            400,
        ),
        (
            "GET /admin HTTP/1.1\r\nHost: gw.example.org\r\nHost: gw.example.org/public\r\n",
            400,
        ),
        (
            "GET /admin HTTP/1.0\r\nHost: gw.example.org/public\r\n",
            400,
        ),
        (
            "CONNECT gw.example.org:80 HTTP/1.1\r\nHost: gw.example.org:80\r\n",
            400,
        ),
    ] {
        let (got, answer) = ask_raw(gateway.entrance, lines.as_bytes());
        assert_eq!(got, status, "{version}: {lines:?} {answer}");
    }
    let method = [(":method", "GET"), (":scheme", "http"), (":path", "/open")];
    for (more, status) in [
        (&[][..], 400),
        (&[("host", "gw.example.org")], 200),
        (
            &[(":authority", "gw.example.org"), ("host", "gw.example.org")],
            200,
        ),
    ] {
        let (got, answer) = h2::ask(gateway.entrance, &[&method, more].concat());
        assert_eq!(got, status, "{version}: HTTP/2 {more:?} {answer}");
    }
    // The rules are those of the authority, whatever a second name says.
    for (authority, host) in [
        ("gw.example.org", "other.example.org"),
        ("gw.example.org", "gw.example.org/public"),
        ("other.example.org", "gw.example.org"),
    ] {
        let (got, answer) = h2::ask(
            gateway.entrance,
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/admin"),
                (":authority", authority),
                ("host", host),
            ],
        );
        assert_ne!(got, 200, "{version}: HTTP/2 {authority} {host} {answer}");
    }
}

/// Hosts and paths that are long, deep, encoded or full of what lookups look for.
fn costly() -> Vec<(String, String)> {
    let host = |part: &str, count: usize| (part.repeat(count), "/none".to_owned());
    let path = |part: &str, count: usize| {
        let labels = format!("{}team7.example.net", "a.".repeat(100));
        (labels, format!("/{}", part.repeat(count)))
    };
    vec![
        host(".", 8000),
        host(".", 255),
        host("a.", 127),
        host("*.", 4000),
        host("example.org.", 600),
        path("a/", 7000),
        path("%41/", 3500),
        path("/%2f", 510),
        path("/%2f", 3500),
        path("a/../", 2800),
        path("%25", 4600),
        path(";", 14_000),
        path("example.org/", 1100),
    ]
}

#[haproxies]
fn a_thousand_patterns_of_hosts_are_found_whatever_is_asked_for(version: Version) {
    let patterns = (0..500).flat_map(|team| {
        [
            format!("urlprefix-*.*.team{team}.example.org/"),
            format!("urlprefix-*.team{team}.example.org/one"),
        ]
    });
    // Each is refused and leaves the others as they are.
    let stars = (0..10).map(|count| format!("urlprefix-{}x.example.org/", "*a".repeat(count + 1)));
    let tags: Vec<String> = patterns.chain(stars).collect();
    let mut gateway = Gateway::start(&version, &json!({ "web": tags }), "");
    let worker = gateway.haproxy.worker();
    for (host, path) in costly() {
        let (status, answer) = ask(gateway.entrance, &host, &path, &[]);
        assert!(matches!(status, 400 | 404), "{version}: {path} {answer}");
        for (host, path, status) in [
            ("a.b.team499.example.org", "/", 200),
            ("a.team499.example.org", "/one", 200),
            ("a.team499.example.org", "/", 404),
        ] {
            let (got, answer) = ask(gateway.entrance, host, path, &[]);
            assert_eq!(got, status, "{version}: {host}{path} {answer}");
        }
    }
    assert_eq!(gateway.haproxy.worker(), worker);
    assert!(gateway.haproxy.process().is_running());
}

/// What a lookup costs depends on its kind: trees, and expressions that no tag has a part in and whose texts are short.
#[test]
fn no_tag_makes_a_regular_expression() {
    let expressions = |tags: Value| {
        let [sni] = ports::free().unwrap();
        let settings = format!("[parameters]\nsni_listen = \"127.0.0.1:{sni}\"\n");
        let gateway = Gateway::start(&oldest(), &tags, &settings);
        let kinds = ["_reg", "-m reg", "regsub", "replace-", "_dom", "_sub("];
        let lines = gateway.config.lines().map(str::trim);
        let found = lines.filter(|line| kinds.iter().any(|kind| line.contains(kind)));
        found.map(str::to_owned).collect::<Vec<String>>()
    };
    let none = expressions(json!({ "web": ["urlprefix-a.b"] }));
    assert_eq!(
        none.iter().filter(|line| line.contains("_reg")).count(),
        0,
        "{none:?}"
    );
    let tags = json!({
        "web": ["urlprefix-*.a.b/x strip=/x", "urlprefix-*.*.c.d/ prepend=/p", "urlprefix-*/.*(a+)+$",
                "urlprefix-tls.org/ proto=tcp", "urlprefix-*.tls.org/ proto=tcp"],
    });
    assert_eq!(expressions(tags), none);
}
