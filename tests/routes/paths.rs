//! Hosts without a slash, and paths that are encoded, not ASCII or full of dots: taken as Fabio takes them.

use super::conformance::{Gateway, conforms};
use super::*;
use support::haproxies::{Version, haproxies};

#[haproxies(ends)]
fn a_host_alone_takes_every_path_and_each_spelling_of_a_path_meets_its_route(version: Version) {
    conforms("paths", &version);
}

/// Spellings of `/admin` for one target or another: what each costs a client that may not ask for it.
const ADMIN: [(&str, u16); 49] = [
    ("/admin", 403),
    ("/public/../admin", 403),
    ("/public/%2e%2e/admin", 403),
    ("/public/.%2E/admin", 403),
    ("/%61dmin", 403),
    ("/%2561dmin", 403),
    ("//admin", 403),
    ("/public/..//..///admin", 403),
    ("/./admin", 403),
    ("/%2Fadmin", 403),
    ("/%2f%2fadmin", 403),
    ("/%252Fadmin", 403),
    ("/admin/%2e", 403),
    ("/admin;x=1", 403),
    ("/x%2F..%2Fadmin", 400),
    ("/public/..%2fadmin", 400),
    ("/public/%252e%252e/admin", 400),
    ("/public/.%252e/admin", 400),
    ("/public/..", 200),
    ("/public/../admin/../public", 200),
    ("/\\admin", 400),
    ("/%5cadmin", 400),
    ("/public\\..\\admin", 400),
    ("/public%5C..%5Cadmin", 400),
    ("/public/..;/admin", 400),
    ("/public/..;x=1/admin", 400),
    ("/.;/admin", 400),
    ("/;/admin", 400),
    ("/%3b/admin", 400),
    ("/public/%c0%ae%c0%ae/admin", 400),
    ("/public/%25C0%25AE/admin", 400),
    ("/public/%e0%80%ae/admin", 400),
    ("/public%00%2f..%2fadmin", 400),
    ("/%00/admin", 400),
    ("/admin%2500", 400),
    ("/%u0061dmin", 400),
    ("/a%zz/admin", 400),
    ("/public#/../admin", 400),
    ("/in;x/secret", 400),
    ("/in;x=1;y/secret/more", 400),
    ("/in%3Bx/secret", 400),
    ("/in%253bx/secret", 400),
    ("/in/secret;x=1", 403),
    ("/in/other;x=1", 200),
    ("/%2561dmin/%25zz", 400),
    ("/%2561dmin/100%25", 400),
    ("/public/100%25", 200),
    ("/%e0%81%a1dmin", 400),
    ("/%f8%80%80%80%ae/admin", 400),
];

#[haproxies]
fn no_spelling_of_a_path_gets_around_its_rules(version: Version) {
    let tags = json!({
        "web": ["urlprefix-a.b/", "urlprefix-a.b/public"],
        "admin": ["urlprefix-a.b//x/../%61dmin allow=ip:10.0.0.0/8", "urlprefix-a.b/in/secret allow=ip:10.0.0.0/8"],
    });
    let gateway = Gateway::start(&version, &tags, "");
    for (path, expected) in ADMIN {
        let (status, answer) = ask(gateway.entrance, "a.b", path, &[]);
        assert_eq!(status, expected, "{version}: {path} {answer}");
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.b"),
            (":path", path),
        ];
        let (status, answer) = h2::ask(gateway.entrance, &fields);
        // HAProxy itself refuses some streams.
        assert!(
            status == expected || status == 0 && expected == 400,
            "{version}: HTTP/2 {path} {status} {answer}"
        );
    }
    let many = format!("/{}admin", "%2f".repeat(3000));
    assert_eq!(ask(gateway.entrance, "a.b", &many, &[]).0, 400);
}

#[haproxies]
fn a_target_gets_the_path_that_was_compared(version: Version) {
    let gateway = Gateway::start(&version, &json!({ "web": ["urlprefix-a.b"] }), "");
    for (path, passed) in [
        ("/x/../y", "/y"),
        ("/%7Ex/%41", "/~x/A"),
        ("//x///y/", "/x/y/"),
        ("/x/./y/.", "/x/y/"),
        ("/../../x", "/x"),
        ("/x/%2e%2e", "/"),
        ("/a%20b", "/a%20b"),
        ("/a%2Fb", "/a%2Fb"),
        (
            "/to/https:%2F%2Fexample.org%2F",
            "/to/https:%2F%2Fexample.org%2F",
        ),
        ("/x/y;a=1", "/x/y;a=1"),
        ("/.../..x", "/.../..x"),
        ("/x?/../y", "/x"),
        ("http://a.b/x/../y", "/y"),
    ] {
        let (status, answer) = ask(gateway.entrance, "a.b", path, &[]);
        let passed = format!("\r\n\r\nweb {passed} host=a.b ");
        assert!(
            status == 200 && answer.contains(&passed),
            "{version}: {path} {answer}"
        );
    }
}

#[haproxies]
fn what_is_left_behind_a_prefix_leads_nowhere_above_it(version: Version) {
    let tags = json!({ "web": ["urlprefix-a.b/a strip=/a prepend=/public"] });
    let gateway = Gateway::start(&version, &tags, "");
    for (path, passed) in [
        ("/a/ok", Some("/public/ok")),
        ("/a.b", Some("/public/.b")),
        ("/a...", Some("/public/...")),
        ("/a", Some("/public/")),
        ("/a../secret", None),
        ("/a%2e%2e/secret", None),
        ("/a..%2fsecret", None),
        ("/a..;/secret", None),
        ("/a;x/s", None),
        ("/a..", None),
    ] {
        let (status, answer) = ask(gateway.entrance, "a.b", path, &[]);
        match passed {
            Some(passed) => {
                let passed = format!("\r\n\r\nweb {passed} host=a.b ");
                assert!(
                    status == 200 && answer.contains(&passed),
                    "{version}: {path} {answer}"
                );
            }
            None => assert_eq!(status, 400, "{version}: {path} {answer}"),
        }
    }
}

#[haproxies]
fn a_request_without_a_path_is_refused(version: Version) {
    let gateway = Gateway::start(&version, &json!({ "web": ["urlprefix-/"] }), "");
    for line in [
        "OPTIONS * HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a.b HTTP/1.1",
        "GET http://a.b?x HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "CONNECT a.b HTTP/1.1",
        "CONNECT /x HTTP/1.1",
    ] {
        let request = format!("{line}\r\nHost: a.b\r\n");
        let (status, answer) = ask_raw(gateway.entrance, request.as_bytes());
        assert_eq!(status, 400, "{version}: {line} {answer}");
    }
}
