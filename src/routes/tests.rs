use std::collections::BTreeSet;

use proptest::prelude::*;

use super::layout::{Layout, lay_out};
use super::overrides::{Command, Line};
use super::table::build;
use super::*;
use crate::catalog::fixture::Fixture;
use crate::catalog::{Answer, HealthFilter, Instance, Kind, Query, Scope, Status};

mod claims;
mod limits;

fn rules(ports: &[u16]) -> Rules {
    Rules {
        prefix: tag::PREFIX.to_owned(),
        states: vec![Status::Passing],
        ports: ports.iter().copied().collect(),
        sni: false,
        users: BTreeSet::from(["ops".to_owned()]),
        owners: Vec::new(),
        verifies: true,
        ignored_port: Some(80),
    }
}

/// Instances of one service, each with its tags.
fn instances(service: &str, list: &[&[&str]]) -> Vec<Instance> {
    let list: Vec<serde_json::Value> = list
        .iter()
        .enumerate()
        .map(|(index, tags)| {
            serde_json::json!({ "Address": "10.0.0.1", "Port": 8000 + index, "ID": format!("{service}-{index}"), "Tags": tags })
        })
        .collect();
    let fixture: Fixture =
        serde_json::from_value(serde_json::json!({ "services": { service: list } })).unwrap();
    let query = Query {
        kind: Kind::Service {
            name: service.to_owned(),
            tag: None,
            connect: false,
            health: HealthFilter::Any,
            near: None,
            filter: None,
            node_meta: Default::default(),
        },
        scope: Scope::default(),
    };
    match fixture.answer(&query).unwrap() {
        Answer::Instances(list) => list,
        other => panic!("{other:?}"),
    }
}

fn made(instances: &[Instance], lines: &str) -> Table {
    made_by(instances, lines, &rules(&[9000]))
}

fn made_by(instances: &[Instance], lines: &str, rules: &Rules) -> Table {
    let lines = overrides::parse("fabio/config", lines, "dc1");
    let each = instances
        .iter()
        .map(|one| (one, one.status == Status::Passing));
    build(each, &lines, rules, |_, _| None)
}

fn laid(table: &Table) -> Layout {
    laid_by(table, &rules(&[9000]))
}

fn laid_by(table: &Table, rules: &Rules) -> Layout {
    lay_out(table, rules, |service, special| match special {
        None => service.to_owned(),
        Some(special) => format!("{service}<{special}>"),
    })
}

fn sources(table: &Table) -> Vec<String> {
    let sources = table.routes.iter().map(|route| route.source.to_string());
    sources.collect()
}

fn sentences(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .map(|item| format!("{}: {}", item.what, item.text))
        .collect()
}

#[test]
fn a_tag_names_a_host_a_path_or_a_port() {
    let source = |tag: &str| {
        tag::parse(tag, "urlprefix-", "iu")
            .map(|read| read.map(|request| request.source.to_string()))
    };
    for (tag, expected) in [
        ("urlprefix-GW.Example.org/Api", "gw.example.org/Api"),
        ("  urlprefix-/  ", "/"),
        ("urlprefix-*.example.org/", "*.example.org/"),
        ("urlprefix-gw.example.org:8080/", "gw.example.org:8080/"),
        ("urlprefix-:9000 proto=tcp", ":9000"),
        ("urlprefix-A.b:443/ proto=tcp strip=/x", "tls:a.b"),
        (
            "urlprefix-gw-$DC.example.org/${DC}/$other/x",
            "gw-iu.example.org/iu/x",
        ),
        // A host alone; an address alone is a listener of `tcp-dynamic`.
        ("urlprefix-APIServer", "apiserver/"),
        ("urlprefix-GW.example.org strip=/x", "gw.example.org/"),
        ("urlprefix-gw.example.org:8080", "gw.example.org:8080/"),
        ("urlprefix-*.example.org", "*.example.org/"),
        ("urlprefix-*.*.example.org:81", "*.*.example.org:81/"),
        ("urlprefix-*.*.1.2.3.4.5.6.7.8/", "*.*.1.2.3.4.5.6.7.8/"),
        ("urlprefix-*", "*/"),
        ("urlprefix-GW.example.org./x", "gw.example.org/x"),
        ("urlprefix-*.*/x", "*.*/x"),
        ("urlprefix-gw.example.org proto=tcp", "tls:gw.example.org"),
        // Paths are compared without their encoding.
        ("urlprefix-/\u{e9}", "/\u{e9}"),
        ("urlprefix-/%C3%a9/%41", "/\u{e9}/A"),
        ("urlprefix-/100%/%zz%4", "/100%/%zz%4"),
        // And without what requests have no more when they are compared.
        ("urlprefix-a.b//admin", "a.b/admin"),
        ("urlprefix-a.b/x/../admin/", "a.b/admin/"),
        ("urlprefix-a.b/x/%2e%2E%2f/./admin", "a.b/admin"),
        ("urlprefix-a.b/../..", "a.b/"),
        ("urlprefix-a.b/x/.", "a.b/x/"),
        ("urlprefix-a.b/.../..x", "a.b/.../..x"),
    ] {
        assert_eq!(source(tag), Some(Ok(expected.to_owned())), "{tag}");
    }
    assert_eq!(source("prod"), None);
    for tag in [
        "urlprefix-",
        "urlprefix- /",
        "urlprefix-$DC.example.org:x",
        "urlprefix-gw.example.org:",
        "urlprefix-10.0.0.1:9000 proto=tcp",
        "urlprefix-:0 proto=tcp",
        "urlprefix-:21903x proto=tcp",
        "urlprefix-/ proto=tcp",
        "urlprefix-{a,b}.example.org/",
        "urlprefix-gw.example.org:http/",
        "urlprefix-/a%20b",
        "urlprefix-/a%0ab",
        "urlprefix-/%ff",
        "urlprefix-gw.ex\u{e4}mple.org",
        "urlprefix-*.*.*.example.org/",
        "urlprefix-*foo.org/",
        "urlprefix-gw-*.example.org/",
        "urlprefix-gw.*/",
        "urlprefix-*.*foo.org/",
        "urlprefix-gw?.example.org/",
        "urlprefix-*:8080/",
        "urlprefix-*.1.2.3.4.5.6.7.8.9/",
        "urlprefix-/a\\b",
        "urlprefix-/x/..;/admin",
        "urlprefix-/%3b",
    ] {
        assert!(source(tag).unwrap().is_err(), "{tag}");
    }
}

#[test]
fn options_are_read_and_written_as_fabio_writes_them() {
    let options = |words: &str| {
        let read = tag::parse(&format!("urlprefix-a.b/ {words}"), "urlprefix-", "");
        read.unwrap().map(|request| request.options.to_string())
    };
    for words in [
        "proto=https strip=/api prepend=/v2 host=internal.example.org tlsskipverify=true",
        "proto=grpcs grpcservername=api.internal",
        "host=dst",
        "redirect=301,https://new.example.org$path",
        "allow=ip:10.0.0.0/8,ip:fd00::1/128",
        "deny=ip:192.0.2.7/32 auth=ops",
    ] {
        assert_eq!(options(words), Ok(words.to_owned()));
    }
    for words in [
        "strip=api",
        "strip=/a%20b",
        "prepend=/a\"b",
        "host=",
        "host=-f",
        "redirect=abc",
        "redirect=200,http://a/",
        "redirect=301,javascript:x",
        "redirect=301,https://a/%[env(X)]",
    ] {
        assert!(options(words).is_err(), "{words}");
    }
}

#[test]
fn a_rule_of_access_that_cannot_be_read_closes_the_route() {
    for words in [
        "allow=10.0.0.0/8",
        "allow=ip:10.0.0.0/8 deny=ip:10.1.0.0/16",
        "deny=ip:127.0.0.300",
        "deny=ip:fe80::1234,100.123.0.0/16",
        "auth=a(b",
        "auth=staff strip=admin",
        "allow=ip:10.0.0.0/8 redirect=399,/x",
        "prepend=/a\"b deny=ip:10.0.0.1",
        "allow=",
        "allow",
    ] {
        let tag = format!("urlprefix-a.b/ {words}");
        let request = tag::parse(&tag, "urlprefix-", "").unwrap().unwrap();
        assert!(request.options.access.is_closed(), "{words}");
        assert!(!request.notes.is_empty(), "{words}");
        assert!(
            request
                .notes
                .iter()
                .all(|note| note.contains("answers 403 to everybody"))
        );
    }
}

#[test]
fn what_is_probably_meant_otherwise_is_noted() {
    let notes = |tag: &str| tag::parse(tag, "urlprefix-", "").unwrap().unwrap().notes;
    assert_eq!(
        notes("urlprefix-APIServer/"),
        [
            "Its host `apiserver` has no dot, so only requests for exactly that name are taken. A service that speaks Thrift or another protocol over TCP is tagged `:PORT proto=tcp`; one for every host begins with a slash."
        ]
    );
    assert_eq!(
        notes("urlprefix-:9000"),
        ["It names a TCP port and lacks `proto=tcp`; it is taken so."]
    );
    assert_eq!(
        notes("urlprefix-a.b/ register=web"),
        ["`register=web` is left to others: Gatewright does not enter itself into Consul."]
    );
    assert!(notes("urlprefix-localhost/").is_empty());
    let tags: [&[&str]; 1] = [&["urlprefix-*.a.b:80/x", "urlprefix-a.b:8080/"]];
    let list = instances("web", &tags);
    assert_eq!(
        sentences(&made(&list, "").notes),
        [
            "Tag `urlprefix-*.a.b:80/x` of instance web-0 on node node-web-0: Port 80 is left out of the hosts of requests, so no request comes to it. Write `*.a.b` without the port."
        ]
    );
    let rules = Rules {
        ignored_port: None,
        ..rules(&[])
    };
    assert_eq!(made_by(&list, "", &rules).notes.len(), 2);
}

#[test]
fn exact_hosts_come_before_longer_patterns_before_shorter_before_none() {
    let tags = [
        "urlprefix-/",
        "urlprefix-*.foo.com/",
        "urlprefix-/long/path",
        "urlprefix-a.edge.foo.com/x",
        "urlprefix-*.edge.foo.com/",
        "urlprefix-a.edge.foo.com/xy",
        "urlprefix-:9000 proto=tcp",
        "urlprefix-*.foo.com/api",
    ];
    let table = made(&instances("web", &[&tags]), "");
    assert_eq!(
        sources(&table),
        [
            "a.edge.foo.com/xy",
            "a.edge.foo.com/x",
            "*.edge.foo.com/",
            "*.foo.com/api",
            "*.foo.com/",
            "/long/path",
            "/",
            ":9000",
        ]
    );
    assert_eq!(laid(&table).http[2].0, "14:*.edge.foo.com/");
}

#[test]
fn routes_of_a_whole_service_share_its_backend() {
    let one: &[&str] = &["urlprefix-a.b/", "urlprefix-/x", "urlprefix-/y strip=/y"];
    let table = made(&instances("web", &[one, one]), "");
    let layout = laid(&table);
    assert_eq!(
        layout.http,
        [
            ("3:a.b/".to_owned(), "web".to_owned()),
            ("/y".to_owned(), "web<strip=/y>".to_owned()),
            ("/x".to_owned(), "web".to_owned()),
        ]
    );
    assert_eq!(layout.backends["web"].servers.len(), 2);
    // An instance that is not in every route parts them.
    let layout = laid(&made(&instances("web", &[one, &one[..2]]), ""));
    assert_eq!(layout.http[1].1, "web</y strip=/y>");
    assert_eq!(layout.http[2].1, "web");
}

#[test]
fn nobody_healthy_leaves_the_route_and_no_server() {
    let mut list = instances("web", &[&["urlprefix-a.b/"]]);
    list[0].status = Status::Critical;
    let layout = laid(&made(&list, ""));
    assert_eq!(layout.http, [("3:a.b/".to_owned(), "web".to_owned())]);
    assert!(layout.backends["web"].servers.is_empty());
}

#[test]
fn weights_are_shares_of_the_route() {
    for (fixed, expected) in [
        (vec![None, None], vec![256, 256]),
        (vec![Some(0.05), None], vec![13, 256]),
        (vec![Some(0.05), None, None], vec![27, 256, 256]),
        (vec![Some(0.2), Some(0.2)], vec![256, 256]),
        (vec![Some(3.0), Some(1.0)], vec![256, 85]),
        (vec![Some(1.0), None], vec![256, 0]),
    ] {
        let shares = shares(&fixed);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{fixed:?}");
        assert_eq!(scaled(&shares), expected, "{fixed:?}");
    }
}

#[test]
fn a_share_too_small_for_a_weight_is_split_off() {
    let list = instances(
        "web",
        &[&["urlprefix-a.b/"], &["urlprefix-a.b/ weight=0.0005"]],
    );
    let layout = laid(&made(&list, ""));
    let main = &layout.http[0].1;
    assert_eq!(layout.splits.len(), 1);
    assert_eq!((&layout.splits[0].from, layout.splits[0].part), (main, 500));
    assert_ne!(layout.splits[0].to, *main);
    for backend in [main, &layout.splits[0].to] {
        assert_eq!(layout.backends[backend].servers[0].1, 256);
    }
}

#[test]
fn targets_with_other_options_share_a_route_by_split() {
    let list = instances(
        "web",
        &[
            &["urlprefix-a.b/ strip=/v1"],
            &["urlprefix-a.b/ strip=/v2 weight=0.25"],
        ],
    );
    let layout = laid(&made(&list, ""));
    assert_eq!(layout.http[0].1, "web<a.b/ strip=/v1>");
    assert_eq!(layout.splits[0].part, 250_000);
}

#[test]
fn lines_add_remove_and_weigh() {
    let list = instances(
        "web",
        &[&["urlprefix-a.b/", "v1"], &["urlprefix-a.b/", "v2"]],
    );
    let table = made(
        &list,
        "# a canary\nroute weight web a.b/ weight 0.1 tags \"v2\"\n\nroute add old c.d/ http://10.9.9.9:80/ tags \"x\" opts \"strip=/c\"\nroute add gone g.d/ http://10.9.9.8:80/\nroute del gone",
    );
    assert!(table.refused.is_empty(), "{:?}", table.refused);
    assert_eq!(sources(&table), ["c.d/", "a.b/"]);
    assert_eq!(table.routes[0].targets[0].options.to_string(), "strip=/c");
    let shares: Vec<f64> = table.routes[1]
        .targets
        .iter()
        .map(|one| one.share)
        .collect();
    assert_eq!(shares, [0.9, 0.1]);
}

#[test]
fn a_bad_line_is_shown_and_the_others_count() {
    let list = instances("web", &[&["urlprefix-a.b/"]]);
    let table = made(
        &list,
        "route weigt web a.b/ weight 0.1\nroute weight nobody a.b/ weight 0.1\nroute add two c.d/ http://10.9.9.9:80/\nroute add x \"y",
    );
    assert_eq!(sources(&table), ["c.d/", "a.b/"]);
    assert_eq!(
        sentences(&table.refused),
        [
            "Line 1 of the key fabio/config: it is none of `route add SERVICE SOURCE TARGET`, `route del SERVICE`, `route weight SERVICE SOURCE weight SHARE`",
            "Line 2 of the key fabio/config: it fits no target",
            "Line 4 of the key fabio/config: a quote is never closed",
        ]
    );
}

/// Without certificates to check by HAProxy would refuse all routes.
#[test]
fn a_target_that_cannot_be_verified_costs_only_its_route() {
    let tags: [&[&str]; 1] = [&[
        "urlprefix-a.b/tls proto=https",
        "urlprefix-a.b/grpc proto=grpcs auth=ops",
        "urlprefix-a.b/any proto=https tlsskipverify=true",
        "urlprefix-a.b/plain",
    ]];
    let list = instances("web", &tags);
    let rules = Rules {
        verifies: false,
        ..rules(&[])
    };
    let table = made_by(&list, "", &rules);
    assert_eq!(sources(&table), ["a.b/plain", "a.b/grpc", "a.b/any"]);
    assert_eq!(
        sentences(&table.refused),
        [
            "Tag `urlprefix-a.b/tls proto=https` of instance web-0 on node node-web-0: the parameter upstream_ca names no file of certificates by which its own could be checked"
        ]
    );
    let options = &table.routes[1].targets[0].options;
    assert!(options.access.is_closed() && options.skip_verify);
    assert_eq!(sources(&made(&list, "")).len(), 4);
}

#[test]
fn ports_and_lists_of_users_must_be_named() {
    let list = instances(
        "web",
        &[&[
            "urlprefix-:9000 proto=tcp",
            "urlprefix-:22 proto=tcp",
            "urlprefix-c.d/ proto=tcp",
            "urlprefix-a.b/ auth=nobody",
        ]],
    );
    let table = made(&list, "");
    assert_eq!(
        sentences(&table.refused),
        [
            "Tag `urlprefix-:22 proto=tcp` of instance web-0 on node node-web-0: the parameter tcp_ports does not name the port 22",
            "Tag `urlprefix-c.d/ proto=tcp` of instance web-0 on node node-web-0: the parameter sni_listen names no address for TLS connections that are passed through"
        ]
    );
    assert_eq!(
        sentences(&table.notes),
        [
            "Tag `urlprefix-a.b/ auth=nobody` of instance web-0 on node node-web-0: There is no list of users `nobody`, so it answers 401 to everybody. Name it in [parameters.auth.nobody]."
        ]
    );
    let layout = laid(&table);
    assert_eq!(layout.listeners[0].backend, "tcp::9000");
    // A port that nobody uses is listened on all the same: its listener never comes and goes.
    let idle = laid(&made(&[], ""));
    assert_eq!(idle.listeners, layout.listeners);
}

/// What requests match, worked out the slow way: every route in order, the first that fits.
fn first<'a>(
    table: &'a Table,
    host: &str,
    path: &str,
    may: impl Fn(&Source) -> bool,
) -> Option<&'a Source> {
    fn glob(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|at| glob(rest, &text[at..])),
            [b'?', rest @ ..] => !text.is_empty() && glob(rest, &text[1..]),
            [letter, rest @ ..] => text.first() == Some(letter) && glob(rest, &text[1..]),
        }
    }
    let fits = |source: &&Source| match source {
        Source::Http {
            host: own,
            path: begin,
        } => (own.is_empty() || glob(own.as_bytes(), host.as_bytes())) && path.starts_with(begin),
        Source::Sni { .. } | Source::Tcp { .. } => false,
    };
    let mut sources = table.routes.iter().map(|route| &route.source);
    sources.find(|source| fits(source) && may(source))
}

/// The entry that the lookups of the shipped template find.
fn looked_up(layout: &Layout, host: &str, path: &str) -> Option<(String, String)> {
    let longest = |text: String| {
        let entries = layout.http.iter();
        let found = entries.filter(|(key, _)| text.starts_with(key.as_str()));
        found.max_by_key(|(key, _)| key.len()).cloned()
    };
    let of_host = |host: &str| longest(format!("{}:{host}{path}", host.len()));
    let labels: Vec<&str> = host.split('.').collect();
    let patterns = (0..labels.len()).rev().flat_map(|count| {
        let end = labels[labels.len() - count..].iter();
        let end: String = end.map(|label| format!(".{label}")).collect();
        let two = (labels.len() >= count + 2).then(|| format!("*.*{end}"));
        two.into_iter().chain([format!("*{end}")])
    });
    of_host(host)
        .or_else(|| patterns.filter_map(|pattern| of_host(&pattern)).next())
        .or_else(|| longest(path.to_owned()))
}

proptest! {
    #[test]
    fn no_tag_and_no_line_makes_it_panic(tag in "\\PC{0,60}", line in "(route (add|del|weight)|\\PC{0,9})( [a-z./:*\"=%$]{0,12}){0,8}") {
        let tags = [format!("urlprefix-{tag}"), format!("urlprefix-a.b/ {tag}"), format!("urlprefix-:9000 {tag}")];
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let table = made(&instances("web", &[&tags]), &line);
        let layout = laid(&table);
        // Every entry leads to a backend that exists.
        for (key, backend) in layout.http.iter().chain(&layout.sni) {
            prop_assert!(layout.backends.contains_key(backend), "{key} {backend}");
            prop_assert!(!key.contains(char::is_whitespace) && !key.starts_with('#'), "{key}");
        }
    }

    /// The lookups of the shipped template find the route that comes first in Fabio's order.
    #[test]
    fn the_maps_find_what_the_order_says(
        routes in proptest::collection::vec(("(a\\.b|x\\.a\\.b|\\*\\.a\\.b|\\*\\.\\*\\.a\\.b|\\*\\.b|\\*\\.\\*\\.b|\\*\\.\\*|\\*|)", "/[ab]{0,3}"), 1..10),
        host in "(a\\.b|x\\.a\\.b|z\\.y\\.a\\.b|y\\.b|c)",
        path in "/[ab]{0,4}",
    ) {
        let tags: Vec<String> = routes.iter().map(|(host, path)| format!("urlprefix-{host}{path}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let table = made(&instances("web", &[&tags]), "");
        let layout = laid(&table);
        let found = looked_up(&layout, &host, &path);
        let found = found.map(|(key, _)| key.split_once(':').map_or(key.clone(), |(_, key)| key.to_owned()));
        prop_assert_eq!(found, first(&table, &host, &path, |_| true).map(ToString::to_string));
    }

    /// Of a request for what an owner has, only routes that an owner has count.
    #[test]
    fn requests_for_an_owners_host_never_fall_through_to_others(
        routes in proptest::collection::vec(("(a\\.b|x\\.a\\.b|\\*\\.a\\.b|\\*\\.\\*\\.a\\.b|\\*\\.b|\\*\\.\\*\\.b|\\*\\.\\*|\\*|)", "/[ab]{0,2}"), 1..9),
        owned in proptest::collection::vec(("(s[0-8]|s\\*)", proptest::option::of("(a\\.b|x\\.a\\.b|\\*\\.a\\.b|\\*\\.b|\\*)"), proptest::option::of("/[ab]{0,2}")), 1..5),
        host in "(a\\.b|x\\.a\\.b|z\\.y\\.a\\.b|y\\.b|c)",
        path in "/[ab]{0,3}",
    ) {
        let owners: Vec<Owner> = owned.into_iter().map(|(service, host, path)| Owner {
            service,
            hosts: host.into_iter().collect(),
            paths: path.into_iter().collect(),
            ..Owner::default()
        }).collect();
        let rules = Rules { owners, ..rules(&[]) };
        let services = routes.iter().enumerate().flat_map(|(number, (host, path))| {
            instances(&format!("s{number}"), &[&[&format!("urlprefix-{host}{path}")]])
        });
        let table = made_by(&services.collect::<Vec<_>>(), "", &rules);
        let layout = laid_by(&table, &rules);
        let asked = Source::Http { host: host.clone(), path: path.clone() };
        let owned = owners::are_named(&rules.owners, &asked);
        let expected = first(&table, &host, &path, |source| !owned || owners::are_named(&rules.owners, source));
        let expected = expected.map(|source| {
            let key = match source {
                Source::Http { host, path } if !host.is_empty() => format!("{}:{host}{path}", host.len()),
                source => source.to_string(),
            };
            let mut entries = layout.http.iter();
            entries.find(|(one, _)| *one == key).unwrap().1.clone()
        });
        let found = looked_up(&layout, &host, &path).map(|(_, backend)| backend);
        prop_assert_eq!(found.filter(|backend| backend != super::layout::NOWHERE), expected);
        let keys: BTreeSet<&str> = layout.http.iter().map(|(key, _)| key.as_str()).collect();
        prop_assert_eq!(keys.len(), layout.http.len());
    }

    #[test]
    fn shares_are_one_and_weights_are_near(fixed in proptest::collection::vec(proptest::option::of(0.01f64..2.0), 1..12)) {
        let shares = shares(&fixed);
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let weights = scaled(&shares);
        prop_assert!(weights.iter().all(|weight| *weight <= 256));
        prop_assert!(weights.contains(&256));
    }
}

#[test]
fn a_line_tells_its_place() {
    let lines = overrides::parse("fabio/config/a", "// c\n\nroute del x", "");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].what(), "Line 3 of the key fabio/config/a");
    assert!(matches!(
        &lines[0],
        Line {
            command: Ok(Command::Delete(_)),
            ..
        }
    ));
}
