//! Headers by which a proxy tells of a client, or by which a client makes a tunnel: they go no further.

use super::conformance::Gateway;
use super::*;
use support::haproxies::{Version, haproxies};

/// Header lines that only a proxy may write, also in spellings that targets take for them.
const TOLD: [&str; 26] = [
    "X-Forwarded-Proto",
    "X-FORWARDED-HOST",
    "x-forwarded-port",
    "X-Forwarded-Prefix",
    "X-Forwarded-User",
    "X-Forwarded-Fo",
    "X-Forwarded-Foo",
    "X-Forwarded-For-Original",
    "X_Forwarded_For",
    "X-Forwarded_For",
    "X_Forwarded-Proto",
    "X.Forwarded.Proto",
    "Forwarded",
    "X-Real-IP",
    "X_Real_IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "Client-IP",
    "Client_IP",
    "X-Original-URL",
    "X-Original-Host",
    "X_Original_URI",
    "X-Rewrite-URL",
    "X-Rewrite_URL",
    "Proxy",
];

/// The names of the headers that the target of `web` got.
fn names(answer: &str) -> BTreeSet<String> {
    let (_, rest) = answer
        .split_once(" names=")
        .unwrap_or_else(|| panic!("{answer}"));
    rest.split('|').map(str::to_lowercase).collect()
}

fn told() -> Vec<(&'static str, &'static str)> {
    let told = TOLD.map(|name| (name, "10.66.6.6"));
    let kept = [
        ("X-Forwarded-For", "10.66.6.6"),
        ("X-Request-ID", "7"),
        ("X-Forward", "1"),
    ];
    told.into_iter().chain(kept).collect()
}

#[haproxies]
fn only_trusted_proxies_tell_of_clients(version: Version) {
    let tags = json!({ "web": ["urlprefix-/"] });
    let untold = Gateway::start(&version, &tags, "");
    let (status, answer) = ask(untold.entrance, "a.b", "/", &told());
    let got = names(&answer);
    assert_eq!(status, 200, "{version}: {answer}");
    for name in TOLD.map(str::to_lowercase) {
        let own = ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];
        assert!(
            own.contains(&name.as_str()) || !got.contains(&name),
            "{version}: {name} {answer}"
        );
    }
    for name in ["x-forwarded-for", "x-request-id", "x-forward"] {
        assert!(got.contains(name), "{version}: {name} {answer}");
    }
    assert!(
        answer.contains("for=10.66.6.6 proto=http "),
        "{version}: {answer}"
    );
    let proxies = "[parameters]\ntrusted_proxies = [\"192.0.2.1\", \"127.0.0.0/8\"]\n";
    let trusting = Gateway::start(&version, &tags, proxies);
    let (_, answer) = ask(trusting.entrance, "a.b", "/", &told());
    let got = names(&answer);
    for name in TOLD.map(str::to_lowercase) {
        assert!(got.contains(&name), "{version}: {name} {answer}");
    }
    assert!(
        answer.contains("for=10.66.6.6 proto=10.66.6.6 "),
        "{version}: {answer}"
    );
    let (_, answer) = ask(trusting.entrance, "a.b", "/", &[]);
    assert!(answer.contains(" proto=http "), "{version}: {answer}");
}

#[haproxies]
fn the_template_for_http_passes_on_what_trusted_proxies_tell(version: Version) {
    for (proxies, passed) in [("", false), ("trusted_proxies = \"127.0.0.1\"\n", true)] {
        let tags = json!({ "web": [] });
        let settings = format!("[parameters]\n{proxies}");
        let gateway = Gateway::start_by(&version, &tags, &settings, &["--service", "web"]);
        let (status, answer) = ask(gateway.entrance, "a.b", "/", &told());
        let got = names(&answer);
        assert_eq!(status, 200, "{version}: {answer}");
        for name in TOLD.map(str::to_lowercase) {
            let own = name == "x-forwarded-proto";
            assert_eq!(
                own || passed,
                got.contains(&name),
                "{version}: {name} {answer}"
            );
        }
        assert!(got.contains("x-forwarded-for"), "{version}: {answer}");
    }
}

#[haproxies]
fn only_websocket_makes_a_tunnel(version: Version) {
    let tags = json!({ "web": ["urlprefix-/"] });
    let gateway = Gateway::start(&version, &tags, "");
    let settings = ("HTTP2-Settings", "AAMAAABkAAQAAP__");
    for protocol in ["h2c", "h2", "TLS/1.0", "websocket2"] {
        let lines = [
            ("Upgrade", protocol),
            settings,
            ("Connection", "Upgrade, HTTP2-Settings"),
        ];
        let (status, answer) = ask(gateway.entrance, "a.b", "/", &lines);
        let got = names(&answer);
        assert_eq!(status, 200, "{version}: {protocol} {answer}");
        for name in ["upgrade", "http2-settings"] {
            assert!(!got.contains(name), "{version}: {protocol} {answer}");
        }
    }
    for second in ["h2c", "websocket"] {
        let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let lines = [
            ("Connection", "Upgrade"),
            ("Upgrade", second),
            ("Upgrade", "WebSocket"),
            key,
        ];
        // HAProxy itself refuses some of them.
        let (status, answer) = ask(gateway.entrance, "a.b", "/", &lines);
        assert!(
            status == 400
                || answer.contains(" upgrades=websocket\r\n")
                || answer.ends_with(" upgrades=websocket"),
            "{version}: {second} {answer}"
        );
    }
    // The client names headers that a target is to drop.
    let lines = [("Connection", "X-Forwarded-For, X-Forwarded-Proto")];
    let (_, answer) = ask(gateway.entrance, "a.b", "/", &lines);
    assert!(
        !answer
            .to_lowercase()
            .contains("x-forwarded-for, x-forwarded-proto"),
        "{version}: {answer}"
    );
}

#[haproxies]
fn a_websocket_over_http_2_meets_the_rules_of_its_route(version: Version) {
    let tags = json!({ "web": ["urlprefix-/public", "urlprefix-/admin allow=ip:10.0.0.0/8"] });
    let gateway = Gateway::start(&version, &tags, "");
    for path in [
        "/admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/%61dmin",
    ] {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a.b"),
            (":path", path),
        ];
        let (status, answer) = h2::ask(gateway.entrance, &fields);
        assert!(
            matches!(status, 0 | 400 | 403),
            "{version}: {path} {status} {answer}"
        );
    }
}
