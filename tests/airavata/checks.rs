//! What the helper `thriftCheck` writes, against a service on the crate `thrift`, on every HAProxy.

use std::fmt::Write as _;

use super::gateway::{LIMIT, program, statistic};
use support::gatewright::Setup;
use support::haproxies::{Version, haproxies};
use support::haproxy::HAProxy;
use support::thrift::Form;
use support::thrift::instance::Instance;
use support::{ports, temp, wait_for};

/// Backend, call, form of the instance, what the check says in the end.
const CASES: [(&str, &str, &str, &str); 12] = [
    ("plain", r#""getAPIVersion""#, "plain", "L7OK"),
    ("plain-to-framed", r#""getAPIVersion""#, "framed", "down"),
    ("plain-to-many", r#""getAPIVersion""#, "many", "L7RSP"),
    ("framed", r#""getAPIVersion" framed=true"#, "framed", "L7OK"),
    (
        "framed-to-plain",
        r#""getAPIVersion" framed=true"#,
        "plain",
        "down",
    ),
    ("many", r#""getAPIVersion" service="Users""#, "many", "L7OK"),
    (
        "framed-many",
        r#""getAPIVersion" service="Users" framed=true"#,
        "framed-many",
        "L7OK",
    ),
    (
        "no-service",
        r#""getAPIVersion" service="Others" exception=true"#,
        "many",
        "L7RSP",
    ),
    ("no-method", r#""ping""#, "plain", "L7RSP"),
    (
        "no-method-framed",
        r#""ping" framed=true"#,
        "framed",
        "L7RSP",
    ),
    ("exception", r#""ping" exception=true"#, "plain", "L7OK"),
    (
        "exception-many",
        r#""ping" service="Users" framed=true exception=true"#,
        "framed-many",
        "L7OK",
    ),
];

#[haproxies]
fn a_reply_of_the_method_is_wanted_in_every_form(version: Version) {
    let directory = temp::directory().unwrap();
    let instances = [
        ("plain", false, None),
        ("framed", true, None),
        ("many", false, Some("Users")),
        ("framed-many", true, Some("Users")),
    ]
    .map(|(name, framed, service)| {
        let form = Form {
            framed,
            service: service.map(str::to_owned),
        };
        Instance::start(&program(), name, &form, directory.path()).unwrap()
    });
    let mut template = String::from(
        "defaults\n    mode tcp\n    timeout connect 2s\n    timeout check 1s\n    timeout client 5s\n    timeout server 5s\n",
    );
    for (backend, call, form, _) in CASES {
        let instance = instances.iter().find(|one| one.name == form).unwrap();
        let _ = write!(
            template,
            "backend {backend}\n    {{{{thriftCheck {call}}}}}\n    server one {} check inter 200ms fall 1 rise 1\n",
            instance.address
        );
    }
    // An instance that speaks TLS: HAProxy takes it off before the first one.
    let [tls] = ports::free().unwrap();
    let certificate = super::certificate(directory.path());
    let _ = write!(
        template,
        "backend tls\n    {{{{thriftCheck \"getAPIVersion\"}}}}\n    server one 127.0.0.1:{tls} ssl verify none check inter 200ms fall 1 rise 1\n\
         frontend in\n    bind 127.0.0.1:{tls} ssl crt {certificate}\n    default_backend plain\n"
    );
    let setup = Setup::new().unwrap();
    setup.file("h.cfg.hbs", &template).unwrap();
    setup.file("empty.json", r#"{"services": {}}"#).unwrap();
    let output = setup
        .call(&["render", "-t", "h.cfg.hbs", "--catalog", "empty.json"])
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let haproxy = HAProxy::start(&version, &text).unwrap();
    let mut last = String::new();
    wait_for(LIMIT, "the checks to say what they should", || {
        last = haproxy.ask("@1 show stat").ok()?;
        let cases = CASES
            .iter()
            .map(|(backend, _, _, wanted)| (*backend, *wanted));
        let good = cases.chain([("tls", "L7OK")]).all(|(backend, wanted)| {
            let column = |name| statistic(&last, backend, "one", name).unwrap_or_default();
            let up = column("status") == "UP";
            match wanted {
                "down" => column("status") == "DOWN",
                wanted => up == (wanted == "L7OK") && column("check_status") == wanted,
            }
        });
        good.then_some(())
    })
    .unwrap_or_else(|error| panic!("{version}: {error}\n{last}"));
}
