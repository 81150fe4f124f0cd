//! What lints claim of HAProxy, tried on the real ones.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatewright::haproxy::alerts::{Places, parse};
use gatewright::haproxy::config::Config;
use gatewright::haproxy::socket::ask;
use gatewright::haproxy::{Finding, runtime};
use gatewright::lint::{About, configuration};
use support::haproxies::{Version, haproxies};

use crate::real::{Haproxy, free_port, get};

mod help;

fn codes(text: &str, version: Option<runtime::Version>) -> Vec<&'static str> {
    let about = About {
        texts: &[text],
        version,
        master: Some(true),
        complete: true,
        from_catalog: &|_, _| true,
    };
    let found = configuration(&Config::parse(text), &about);
    found.iter().map(|one| one.code).collect()
}

fn number(version: &str) -> runtime::Version {
    runtime::Version::parse(version).unwrap()
}

/// What `haproxy -c` of a version has to say.
fn validated(version: &Version, text: &str) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.cfg");
    std::fs::write(&path, text).unwrap();
    let output = Command::new(version.program())
        .args(["-W", "-c", "-f"])
        .arg(&path)
        .output()
        .unwrap();
    parse(&output.stderr, &output.stdout, Places::default())
}

const BASE: &str = "global\n hard-stop-after 1m\ndefaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n";

#[haproxies]
fn what_is_told_as_deprecated_is_taken_in_silence_by_the_old_one_and_not_by_the_new_one(
    version: Version,
) {
    let frontend = "frontend f\n bind 127.0.0.1:18881\n default_backend b\nbackend b\n";
    let bind_process = version.refuses_bind_process();
    let others = version.warns_of_deprecated_lines();
    for (text, code, is_told) in [
        (format!("{}{frontend}", BASE.replace(" hard", " stats bind-process 1\n hard")), "deprecated-keyword", bind_process),
        (format!("{}{frontend}", BASE.replace(" mode tcp", " mode http\n option idle-close-on-response\n option accept-invalid-http-request")), "deprecated-keyword", others),
        (format!("{}{frontend} option accept-invalid-http-response\n", BASE.replace(" mode tcp", " mode http\n option idle-close-on-response")), "deprecated-keyword", others),
        (format!("{BASE}{frontend}program p\n command true\n"), "deprecated-keyword", others),
        (format!("{BASE}frontend b\n bind 127.0.0.1:18881\n default_backend b\nbackend b\n"), "shared-name", others),
    ] {
        let told = codes(&text, Some(number(&format!("{}.0", version.name()))));
        if is_told {
            assert_ne!(validated(&version, &text), [], "{text}");
            assert_eq!(told, [""; 0], "{text}");
        } else {
            assert_eq!(validated(&version, &text), [], "{text}");
            assert_eq!(told, [code], "{text}");
        }
    }
}

#[haproxies(ends)]
fn no_version_says_a_word_about_what_else_is_told(version: Version) {
    let text = "global\ndefaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n\
        frontend f\n bind 127.0.0.1:18881\n http-request deny if\n default_backend b\n\
        backend b\n balance source\n option httpchk\n server a 10.0.0.1:80 id 1\n server c 10.0.0.1:80 id 2\n\
        backend d\n balance random\n use-server a if TRUE\n server a 10.0.0.1:80 check inter 60s resolvers r\n server b 10.0.0.2:80\n\
        resolvers r\n nameserver n 127.0.0.1:53\n";
    assert_eq!(validated(&version, text), [], "{version}");
    assert_eq!(
        codes(text, None),
        [
            "no-hard-stop-after",
            "no-idle-close",
            "empty-condition",
            "balance-needs-reload",
            "check-option-unused",
            "duplicate-address",
            "server-needs-reload", // `use-server`
            "ring-without-id",
            "slow-check",
            "server-needs-reload", // `resolvers`
            "no-check",
        ]
    );
}

#[haproxies(ends)]
async fn servers_are_refused_and_empty_conditions_count_as_told(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (free_port(), free_port());
    let path = folder.path().join("h.cfg");
    let text = format!(
        "global\n hard-stop-after 1m\n stats socket {}/stats.sock level admin\n{}\
         frontend one\n bind 127.0.0.1:{one}\n http-request return status 200 content-type text/plain string taken if\n http-request return status 200 content-type text/plain string passed\n\
         frontend two\n bind 127.0.0.1:{two}\n http-request return status 200 content-type text/plain string taken unless\n http-request return status 200 content-type text/plain string passed\n\
         backend fixed\n balance source\n server s 127.0.0.1:1 check\n\
         backend free\n use-server used if TRUE\n server used 127.0.0.1:1 check\n\
         resolvers r\n nameserver n 127.0.0.1:53\n",
        folder.path().display(),
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n option idle-close-on-response\n",
    );
    std::fs::write(&path, &text).unwrap();
    assert_eq!(
        codes(&text, None),
        [
            "empty-condition",
            "empty-condition",
            "balance-needs-reload",
            "server-needs-reload"
        ]
    );
    let _running = Haproxy::start(&version, folder.path(), &path).await;
    assert_eq!(get(one).await.unwrap(), "passed", "{version}");
    assert_eq!(get(two).await.unwrap(), "taken", "{version}");

    let socket = folder.path().join("stats.sock");
    let said = async |line: &str| asked(&socket, line).await;
    assert!(
        said("add server fixed/n 127.0.0.1:2")
            .await
            .contains("dynamic load balancing"),
        "{version}"
    );
    assert!(
        said("add server free/n 127.0.0.1:2")
            .await
            .contains("New server registered"),
        "{version}"
    );
    assert!(
        !said("add server free/m 127.0.0.1:2 resolvers r")
            .await
            .contains("New server"),
        "{version}"
    );
    said("set server free/used state maint").await;
    assert!(
        said("del server free/used")
            .await
            .contains("configuration elements pointing to it"),
        "{version}"
    );
}

async fn asked(socket: &Path, line: &str) -> String {
    let socket = socket.to_owned().into();
    ask(&socket, line, Duration::from_secs(20)).await.unwrap()
}
