//! The three set-ups of `examples/airavata`, as a reader finds them.

use std::path::PathBuf;
use std::time::Duration;

use super::gateway::{LIMIT, REPLY, SERVICE, program};
use super::render;
use support::gatewright::Setup;
use support::haproxies::{Version, haproxies};
use support::haproxy::{self, HAProxy};
use support::process::{Process, command};
use support::thrift::instance::Instance;
use support::thrift::{Client, Form};
use support::{ports, temp, tools, wait_for};

const SET_UPS: [(&str, &str); 3] = [
    ("2017-course", "two-on-one-node"),
    ("grpc", "two"),
    ("thrift", "three"),
];

fn folder() -> PathBuf {
    tools::root().join("examples/airavata")
}

#[haproxies]
fn every_haproxy_takes_the_set_ups_without_a_warning_and_they_are_as_expected(version: Version) {
    for (name, catalog) in SET_UPS {
        let expected = format!("{name}/fixtures/{catalog}.expected/haproxy.cfg");
        assert!(folder().join(&expected).is_file(), "{expected} is missing");
    }
    let setup = Setup::new().unwrap();
    let haproxy = version.program().display().to_string();
    let check = |words: &[&str], good: &str| {
        let words = [&["check", "--strict", "--haproxy", &haproxy], words].concat();
        let output = setup.call(&words).unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let last = format!("{good} good, 0 refused. 0 errors and 0 warnings.\n");
        assert!(
            output.status.success() && text.ends_with(&last),
            "{version} {words:?}: {text}"
        );
    };
    check(&[&folder().display().to_string()], "3");
    for (name, _) in SET_UPS {
        let settings = folder().join(name).join("gatewright.toml");
        check(&["-c", &settings.display().to_string()], "1");
    }
}

/// It is a promise of the README, as the quick start is: it plays to its end and sees what it should.
#[test]
fn the_example_sees_what_it_should() {
    let directory = temp::directory().unwrap();
    let mut example = Process::start(
        "The example",
        command(&program(), [""; 0]).env("GATEWRIGHT_BIN", env!("CARGO_BIN_EXE_gatewright")),
        &directory.path().join("log"),
    )
    .unwrap();
    let code = example.wait(Duration::from_secs(180)).unwrap();
    assert_eq!(code, 0, "{}", example.output());
}

/// HAProxy takes TLS off, as Airavata's operators have it do since 2023.
#[haproxies]
fn the_thrift_api_is_served_over_tls_as_well(version: Version) {
    let directory = temp::directory().unwrap();
    let certificate = super::certificate(directory.path());
    let instance = Instance::start(&program(), "a", &Form::default(), directory.path()).unwrap();
    let [api, tls, profile, client] = ports::free().unwrap();
    let catalog = format!(
        r#"{{"services": {{"{SERVICE}": ["{}"], "airavata-profile": []}}}}"#,
        instance.address
    );
    let parameters = format!(
        "api_listen = \"127.0.0.1:{api}\"\ntls_listen = \"127.0.0.1:{tls}\"\nprofile_listen = \"127.0.0.1:{profile}\"\n\
         certificate = \"{certificate}\"\ncheck_interval = \"200ms\"\n"
    );
    let gateway = HAProxy::start(&version, &render("thrift", &catalog, &parameters)).unwrap();
    let _client = HAProxy::start(
        &version,
        &format!(
            "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 5s\n    timeout server 5s\n\
             listen client\n    bind 127.0.0.1:{client}\n    server gateway 127.0.0.1:{tls} ssl verify none\n"
        ),
    )
    .unwrap();
    for port in [api, client] {
        let address = ([127, 0, 0, 1], port).into();
        let name = wait_for(LIMIT, "a reply", || {
            Client::connect(address, &Form::default(), REPLY)
                .ok()?
                .version()
                .ok()
        });
        assert_eq!(name.as_deref(), Ok("a"), "{version}");
    }
    drop(gateway);
}

/// What the course ran in 2017 is refused by every HAProxy since 2.5.
#[haproxies]
fn the_course_s_own_configuration_is_refused_and_the_mended_one_waits_for_its_password(
    version: Version,
) {
    let theirs = tools::root().join("tests/golden/migrate/haproxy-airavata.cfg");
    let (code, text) = haproxy::check(&version, &theirs).unwrap();
    assert!(code != 0 && text.contains("nbproc"), "{version}: {text}");
    let setup = Setup::new().unwrap();
    setup
        .file(
            "catalog.json",
            r#"{"services": {"API-Server": ["10.0.0.1:9190"]}}"#,
        )
        .unwrap();
    let settings = folder().join("2017-course/gatewright.toml");
    let output = setup
        .call(&[
            "render",
            "-c",
            &settings.display().to_string(),
            "--catalog",
            "catalog.json",
        ])
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("config/haproxy/password"), "{text}");
}
