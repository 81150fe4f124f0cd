//! A status with everything in it, for tests of those who show it.

use std::collections::BTreeMap;

use super::*;

/// Something of everything, with hostile names.
pub fn status() -> Status {
    let hostile = "web</td><script>\"\\\n\u{1b}[2J";
    Status {
        version: "0.0.0".to_owned(),
        pid: 4711,
        uptime_seconds: 3_700.0,
        state: State::Held,
        ready: true,
        not_ready: None,
        applied: Some(Applied {
            revision: "0123456789abcdef".to_owned(),
            confirmed: true,
            seconds_ago: 12.5,
            story: "backend web: 1 server added: commands confirmed in 4 ms".to_owned(),
        }),
        held: Some(Held {
            revision: "fedcba9876543210".to_owned(),
            by: "validation".to_owned(),
            why: vec!["unknown keyword 'canary-config-word' in 'backend' section".to_owned()],
            at: vec!["haproxy at /etc/gatewright/http.cfg.hbs:41:5".to_owned()],
        }),
        structure_kept: Some(StructureKept {
            since_seconds: 61.0,
            because: "the newest set is refused".to_owned(),
            servers_current: false,
            not_current: Some("They quote `canary-config-word`.".to_owned()),
        }),
        no_last_good: false,
        not_applied: Some("HAProxy said `canary-config-word`.".to_owned()),
        pending: Some("aaaa".to_owned()),
        waiting_for: vec!["key \"a/b\"".to_owned()],
        waiting_seconds: Some(61.0),
        template_errors: vec!["the value `canary-config-word` cannot stand here".to_owned()],
        template_errors_at: vec!["unfit at /etc/gatewright/http.cfg.hbs:3:1".to_owned()],
        settings_errors: vec!["`canary-config-word` is no length of time.".to_owned()],
        quarantined: vec![format!("Instance {hostile} has no address.")],
        queries: vec![
            Watched {
                query: format!("service {hostile:?}"),
                items: Some(1_204),
                age_seconds: Some(3.0),
                error: Some(
                    "Consul at http://127.0.0.1:8500 sent nonsense for /v1/kv/a: canary-config-word. Check it."
                        .to_owned(),
                ),
                failing_seconds: Some(2.0),
            },
            Watched {
                query: "service \"api\"".to_owned(),
                items: None,
                age_seconds: None,
                error: None,
                failing_seconds: None,
            },
        ],
        holds: vec![Hold {
            query: "service \"web\"".to_owned(),
            service: Some("web".to_owned()),
            present: 2,
            held: 8,
            reference: 10,
            reason: "They are gone from the catalog.".to_owned(),
            since_seconds: 30.0,
            ends_in_seconds: Some(30.0),
        }],
        listeners: vec![Listener {
            address: "127.0.0.1:8080".to_owned(),
            section: format!("listen {hostile}"),
            reason: "The templates do not make it any more.".to_owned(),
            since_seconds: 90.0,
            not_kept: None,
        }],
        snapshot: Some(Snapshot {
            saved_seconds_ago: Some(4.0),
            in_use: 1,
            oldest_seconds: Some(90.0),
        }),
        haproxy: HAProxy {
            mode: "master".to_owned(),
            reachable: true,
            running: Some("0123456789abcdef".to_owned()),
            worker: Some(4712),
            version: Some("2.6.12".to_owned()),
            old_workers: 2,
            drift: vec!["The file /etc/haproxy.cfg was changed.".to_owned()],
            leaving: vec!["web/a".to_owned()],
            by_hand: vec!["web/b is in maintenance.".to_owned()],
            reloads: 3,
            by_commands: 1_204_567,
            divergences: 1,
        },
        warnings: vec![
            "Consul's certificate is not verified.".to_owned(),
            "`canary-config-word` is no length of time.".to_owned(),
        ],
        consul: Consul {
            source: crate::source::Origin::Consul,
            members: BTreeMap::new(),
            cut_off: false,
            address: "https://127.0.0.1:8501".to_owned(),
            addresses: vec!["https://127.0.0.1:8501".to_owned()],
            requests: 10_000,
            errors: BTreeMap::from([("timeout".to_owned(), 2)]),
            watches: 2,
            load: crate::status::parts::Load::default(),
            switches: 1,
            throttled_seconds: Some(1.0),
            last_error: Some("Consul at x did it for /v1: canary-config-word.".to_owned()),
            certificates: vec![Certificate {
                purpose: "client".to_owned(),
                file: "/etc/client.pem".to_owned(),
                not_after: 1_927_843_200,
                expires_in_seconds: 100.0,
            }],
        },
        work: Work::of(&crate::agent::core::Counts::default()),
        log: LogLines {
            summed_up: 1_204,
            lost: 1,
        },
        process: Process::read(),
        listening: Some("127.0.0.1:9877".to_owned()),
    }
}

// L04
#[test]
fn the_public_status_holds_no_word_of_configuration_settings_or_answers() {
    let told = serde_json::to_string(&status()).unwrap();
    assert!(told.contains("canary-config-word"));
    let public = status().public();
    let told = serde_json::to_string(&public).unwrap();
    assert!(!told.contains("canary-config-word"), "{told}");
    assert!(told.contains("/etc/gatewright/http.cfg.hbs:41:5"), "{told}");
    assert!(told.contains("The settings on disk are wrong"), "{told}");
}

#[test]
fn the_json_reads_back_and_that_of_an_older_sidecar_too() {
    let told = serde_json::to_value(status()).unwrap();
    let read: Status = serde_json::from_value(told.clone()).unwrap();
    assert_eq!(read, status_with(read.process.clone()));
    let mut old = told;
    for name in [
        "ready",
        "not_ready",
        "not_applied",
        "structure_kept",
        "consul",
        "work",
        "log",
        "process",
        "listening",
        "holds",
        "snapshot",
        "settings_errors",
        "template_errors_at",
    ] {
        old.as_object_mut().unwrap().remove(name);
    }
    assert!(serde_json::from_value::<Status>(old).is_ok());
    for state in State::ALL {
        let word = serde_json::to_value(state).unwrap();
        assert_eq!(word, state.as_str());
    }
}

fn status_with(process: Process) -> Status {
    let status = status();
    Status { process, ..status }
}

// L13
#[test]
fn a_certificate_that_expires_soon_is_a_warning() {
    let with = |days: f64| Certificate {
        purpose: "client".to_owned(),
        file: "/c.pem".to_owned(),
        not_after: 0,
        expires_in_seconds: days * 86_400.0,
    };
    assert_eq!(expiring(&with(15.0)), None);
    let soon = expiring(&with(2.5)).unwrap();
    assert!(soon.contains("(/c.pem) expires in 2.5 days"), "{soon}");
    assert!(expiring(&with(-1.0)).unwrap().contains("has expired"));
}

#[test]
fn a_haproxy_newer_than_any_known_one_says_as_which_it_is_treated() {
    let described = |version: Option<&str>| {
        let haproxy = HAProxy {
            version: version.map(str::to_owned),
            ..HAProxy::default()
        };
        haproxy.described()
    };
    assert_eq!(described(None), "unknown version");
    assert_eq!(described(Some("3.2.26-1")), "3.2.26-1");
    assert_eq!(
        described(Some("3.4.0")),
        "3.4.0 (newer than any known one, treated as 3.2)"
    );
}
