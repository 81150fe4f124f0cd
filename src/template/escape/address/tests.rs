//! Values in addresses, with the reader of configurations as an oracle.

use proptest::prelude::*;

use super::*;
use crate::haproxy::config::{Endpoint, Transport, endpoint};
use crate::template::escape::{Escaper, Grammar, Origin};

/// Each place of the grammar that takes an address, with the text before it.
const PLACES: &[&str] = &[
    "bind ",
    "dgram-bind ",
    "dispatch ",
    "log ",
    "log-stderr ",
    "mailer m ",
    "nameserver n ",
    "ocsp-update.httpproxy ",
    "peer p ",
    "server s ",
    "server-template s 1-3 ",
    "source ",
    "source 10.0.0.1 usesrc ",
    "stats socket ",
    "default-server check addr ",
    "http-check connect port 80 addr ",
    "tcp-check connect addr ",
    "server s a:1 check addr ",
    "server s a:1 agent-check agent-addr ",
    "server s a:1 socks4 ",
    "server s a:1 source ",
    "server s a:1 source 10.0.0.1 usesrc ",
    "server s a:1 new-in-4.0 addr ",
];

/// Values that are more than a host and a port.
const KINDS: &[&str] = &[
    "/var/lib/x.sock",
    "unix@/x",
    "unix@x",
    "uxst@/x",
    "uxdg@/x",
    "abns@x",
    "abnsz@x",
    "fd@3",
    "sockpair@4",
    "rhttp@b/s",
    "ring@r",
    "backend@b",
    "ipv4@10.0.0.1:80",
    "quic4@:443",
    "udp@10.0.0.1:80",
    "mptcp@10.0.0.1:80",
    "stream+10.0.0.1:80",
    "dgram+/x",
    "quic+:443",
    "10.0.0.1:80,/x",
    ":80,unix@/x",
    ":80,fd@3",
    "fe80::1%eth0",
    "x y",
];

fn write(parts: &[(&str, Option<Origin>)]) -> Result<String, Refusal> {
    let mut escaper = Escaper::new(Grammar::Haproxy);
    let mut out = String::new();
    for (text, origin) in parts {
        match origin {
            Some(origin) => escaper.value(text, *origin, &mut out)?,
            None => escaper.literal(text, &mut out)?,
        }
    }
    Ok(out)
}

fn catalog(before: &str, value: &str, after: &str) -> Result<String, Refusal> {
    write(&[
        (before, None),
        (value, Some(Origin::Catalog)),
        (after, None),
    ])
}

// C05
#[test]
fn a_value_in_any_address_is_a_host_and_a_port() {
    for before in PLACES {
        for quote in ["", "\"", "'"] {
            let before = format!("{before}{quote}");
            for value in [
                "10.0.0.1:80",
                ":80",
                "*:80",
                "[::1]:80",
                "::1:80",
                "a-b.example.org:2000-2010",
                "10.0.0.1:80,:81",
                "stdout",
            ] {
                let expected = format!("{before}{value}{quote}\n");
                let found = catalog(&before, value, &format!("{quote}\n"));
                assert_eq!(found, Ok(expected));
            }
            for value in KINDS {
                let found = catalog(&before, value, "");
                let format = value.contains('%') && found == Err(Refusal::Expression);
                assert!(format || found == Err(Refusal::Address), "{before}{value}");
            }
            let found = catalog(&before, "$HOME/x", "");
            assert_eq!(found, Err(Refusal::Variable), "{before}");
        }
    }
}

// C05
#[test]
fn the_template_or_the_operator_writes_the_kind_of_an_address() {
    for (before, value, after) in [
        ("bind unix@", "/run/x.sock", ""),
        ("bind :80,/run/", "a/x", ".sock mode 600"),
        ("server s abns@", "x@y", ""),
        ("log fd@", "1", " local0"),
        ("log ring@", "a/b", " local0"),
        ("bind ipv4@", "10.0.0.1:80", ""),
        ("bind quic4@", ":443", ""),
        ("server s 10.0.0.1:", "80", ""),
        ("server s ", "10.0.0.1", ":+100"),
        ("bind :80,", "10.0.0.1", ":81"),
        ("bind \"${DIR}/", "a", "\""),
    ] {
        assert!(catalog(before, value, after).is_ok(), "{before}{value}");
    }
    for (before, value, after, refusal) in [
        ("bind ", "abns", "@10.0.0.1:80", Refusal::AddressKind),
        ("bind ipv4@", "/x", "", Refusal::Address),
        ("bind quic4@", "unix@/x", "", Refusal::Address),
        ("bind unix@", "/run/x,fd@3", "", Refusal::Address),
        ("bind unix@/run/a,", "/x", "", Refusal::Address),
        ("bind :", "80,/x", "", Refusal::Address),
        ("bind stream+", "/x", "", Refusal::Address),
        ("bind /run/", "../var/lib/x", ".sock", Refusal::Folder),
        ("bind /run/.", "./x", ".sock", Refusal::Folder),
        ("server s unix@", "/run/../x", "", Refusal::Folder),
        ("bind \"$", "HOME", "\"", Refusal::VariableName),
        ("bind \"${A_", "B", "}\"", Refusal::VariableName),
    ] {
        let found = catalog(before, value, after);
        assert_eq!(found, Err(refusal), "{before}{value}{after}");
    }
    for value in ["/dev/log", "unix@/x", "fd@1", "10.0.0.1:514", "stdout"] {
        let parts = [
            ("log ", None),
            (value, Some(Origin::Operator)),
            (" local0", None),
        ];
        assert_eq!(write(&parts), Ok(format!("log {value} local0")));
    }
}

#[test]
fn words_beside_an_address_are_no_addresses() {
    for (before, value) in [
        ("server s a:1 crt ", "/x@y.pem"),
        ("server s a:1 addr 10.0.0.1 cookie ", "a/b@c+d"),
        ("bind :80 name ", "a/b"),
        ("stats uri ", "/stats"),
        ("stats socket /run/x level ", "admin"),
        ("log 10.0.0.1:514 format ", "a/b"),
        ("http-request set-path ", "/a@b"),
        ("option httpchk GET ", "/health"),
        ("http-check send uri ", "/health"),
        ("acl addr path_beg ", "/addr"),
    ] {
        assert!(catalog(before, value, "").is_ok(), "{before}{value}");
    }
}

proptest! {
    // C05 C06
    /// Whatever values a template joins, HAProxy reads a socket only where the template names one.
    #[test]
    fn no_values_make_a_socket(
        place in prop::sample::select(PLACES),
        parts in prop::collection::vec(
            (
                prop::sample::select(vec!["", ":", "10.0.0.1", "ipv4@", "tcp6@", "@", ",", "stream+", "\"", "'"]),
                prop_oneof![
                    prop::sample::select(KINDS).prop_map(str::to_owned),
                    "(unix|fd|abns|@|/|,|:|\\+|\\.|[0-9]|x){1,6}",
                    any::<String>(),
                ],
            ),
            1..4,
        ),
    ) {
        let mut written = vec![(place, None)];
        for (text, value) in &parts {
            written.push((text, None));
            written.push((value, Some(Origin::Catalog)));
        }
        let Ok(text) = write(&written) else { return Ok(()); };
        let Ok(words) = crate::haproxy::config::lex(text.as_bytes()) else { return Ok(()); };
        let Some(word) = words.get(place.split_whitespace().count()) else { return Ok(()); };
        for address in word.text.split(',') {
            let found = endpoint(address, Transport::Tcp);
            let socket = matches!(found, Endpoint::Unix(_) | Endpoint::Abstract { .. } | Endpoint::Inherited(_));
            prop_assert!(!socket && !word.opaque, "{text:?} is {found:?}");
        }
    }
}
