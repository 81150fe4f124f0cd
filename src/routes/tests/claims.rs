//! Services that claim routes of one another: whose rules hold, who may, and what is told.

use super::*;

/// One instance of each service with its tags.
fn services(list: &[(&str, &[&str])]) -> Vec<Instance> {
    let each = list
        .iter()
        .map(|(service, tags)| instances(service, &[tags]));
    each.flatten().collect()
}

/// The options of each target of a route, by service.
fn of_route(table: &Table, source: &str) -> Vec<(String, String)> {
    let mut routes = table.routes.iter();
    let route = routes.find(|one| one.source.to_string() == source).unwrap();
    let targets = route.targets.iter();
    targets
        .map(|one| (one.service.clone(), one.options.to_string()))
        .collect()
}

#[test]
fn a_second_tag_for_a_target_adds_its_rules_of_access() {
    for tags in [
        ["urlprefix-a.b/x", "urlprefix-A.B//x allow=ip:10.0.0.0/8"],
        ["urlprefix-a.b/x allow=ip:10.0.0.0/8", "urlprefix-A.B//x"],
        [
            "urlprefix-a.b/x strip=/x",
            "urlprefix-A.B//x allow=ip:10.0.0.0/8 strip=/x",
        ],
    ] {
        let table = made(&services(&[("web", &tags)]), "");
        let [(_, options)] = &of_route(&table, "a.b/x")[..] else {
            panic!("{table:?}");
        };
        assert!(options.contains("allow=ip:10.0.0.0/8"), "{options}");
        assert_eq!(table.refused.len(), 1, "{:?}", table.refused);
    }
}

#[test]
fn of_two_registrations_of_one_target_the_passing_one_counts() {
    let two = instances("web", &[&["urlprefix-a.b/"], &["urlprefix-a.b/"]]);
    let twin = Instance {
        id: "web-twin".to_owned(),
        ..two[0].clone()
    };
    let lines = Vec::new();
    let each = [(&two[0], false), (&twin, true), (&two[1], false)];
    let table = build(each, &lines, &rules(&[]), |_, _| None);
    let up: Vec<bool> = table.routes[0].targets.iter().map(|one| one.up).collect();
    assert_eq!(up, [true, false]);
}

#[test]
fn the_first_rules_of_access_hold_for_every_target_of_a_route() {
    let rules = "allow=ip:10.0.0.0/8 auth=ops";
    let table = made(
        &services(&[
            ("aaa", &["urlprefix-a.b/x", "urlprefix-:9000 proto=tcp"]),
            ("web", &["urlprefix-a.b/x allow=ip:10.0.0.0/8 auth=ops"]),
            (
                "zzz",
                &[
                    "urlprefix-A.B//%78 strip=/x",
                    "urlprefix-:9000 proto=tcp deny=ip:10.0.0.1",
                ],
            ),
        ]),
        "route add line a.b/x http://10.9.9.9:80/",
    );
    assert_eq!(
        of_route(&table, "a.b/x"),
        [
            ("aaa".to_owned(), rules.to_owned()),
            ("line".to_owned(), rules.to_owned()),
            ("web".to_owned(), rules.to_owned()),
            ("zzz".to_owned(), format!("strip=/x {rules}")),
        ]
    );
    let tcp = of_route(&table, ":9000");
    assert_eq!(tcp[0].1, "proto=tcp deny=ip:10.0.0.1/32");
    assert_eq!(
        sentences(&table.notes),
        [
            "Route a.b/x: The services aaa, line, web, zzz claim it, and share its requests. The rules of access of web hold for aaa, line, zzz too, which has none. Say in [parameters.owners] who may claim it.",
            "Route :9000: The services aaa, zzz claim it, and share its requests. The rules of access of zzz hold for aaa too, which has none. Say in [parameters.owners] who may claim it.",
        ]
    );
}

#[test]
fn no_service_weakens_the_rules_of_another_one() {
    let table = made(
        &services(&[
            (
                "aaa",
                &[
                    "urlprefix-a.b/x allow=ip:0.0.0.0/0",
                    "urlprefix-c.d/ allow=nonsense",
                ],
            ),
            (
                "web",
                &[
                    "urlprefix-a.b/x allow=ip:10.0.0.0/8,ip:fd00::/8",
                    "urlprefix-c.d/",
                ],
            ),
            ("zzz", &["urlprefix-a.b/x deny=ip:10.0.0.1"]),
        ]),
        "",
    );
    let options: Vec<String> = of_route(&table, "a.b/x")
        .into_iter()
        .map(|(_, one)| one)
        .collect();
    assert_eq!(
        options,
        [
            "allow=ip:0.0.0.0/0",
            "allow=ip:10.0.0.0/8",
            "allow=ip:0.0.0.0/0 deny=ip:10.0.0.1/32",
        ]
    );
    assert_eq!(of_route(&table, "c.d/")[1].1, "access=closed");
    // Of one service, an instance with rules keeps its own, and one without gets them.
    let tags: [&[&str]; 3] = [
        &["urlprefix-a.b/ allow=ip:10.0.0.0/8"],
        &["urlprefix-a.b/ allow=ip:192.0.2.0/24"],
        &["urlprefix-a.b/"],
    ];
    let table = made(&instances("web", &tags), "");
    let options: Vec<String> = of_route(&table, "a.b/")
        .into_iter()
        .map(|(_, one)| one)
        .collect();
    assert_eq!(
        options,
        [
            "allow=ip:10.0.0.0/8",
            "allow=ip:192.0.2.0/24",
            "allow=ip:10.0.0.0/8"
        ]
    );
    assert!(table.notes.is_empty());
}

#[test]
fn an_open_route_inside_a_protected_one_of_another_service_is_noted() {
    let table = made(
        &services(&[
            (
                "web",
                &[
                    "urlprefix-a.b/admin auth=ops",
                    "urlprefix-a.b/admin/help",
                    "urlprefix-a.b/",
                ],
            ),
            (
                "zzz",
                &[
                    "urlprefix-a.b/admin/x",
                    "urlprefix-a.b/adm",
                    "urlprefix-c.d/admin/x",
                    "urlprefix-a.b/admin/y auth=ops",
                ],
            ),
        ]),
        "",
    );
    assert_eq!(
        sentences(&table.notes),
        [
            "Route a.b/admin/x: The service zzz takes it out of the protected route a.b/admin of web, and has no rules of access. Say in [parameters.owners] who may claim it."
        ]
    );
}

#[test]
fn what_an_owner_is_given_no_other_service_may_claim() {
    let owner = |service: &str, hosts: &[&str], paths: &[&str], ports: &[u16]| Owner {
        service: service.to_owned(),
        hosts: hosts.iter().map(|&one| one.to_owned()).collect(),
        paths: paths.iter().map(|&one| one.to_owned()).collect(),
        ports: ports.iter().copied().collect(),
    };
    let rules = Rules {
        owners: vec![
            owner("web", &["a.b", "*.wild.org"], &[], &[9000]),
            owner("team-*", &["a.b"], &["/team"], &[]),
            owner("open", &[], &["/open"], &[]),
        ],
        ..rules(&[9000])
    };
    let table = made_by(
        &services(&[
            (
                "web",
                &[
                    "urlprefix-a.b/",
                    "urlprefix-*.wild.org/",
                    "urlprefix-:9000 proto=tcp",
                    "urlprefix-other.org/",
                ],
            ),
            ("team-1", &["urlprefix-a.b/team/1", "urlprefix-a.b/else"]),
            ("open", &["urlprefix-/open/x", "urlprefix-a.b/open"]),
            (
                "zzz",
                &[
                    "urlprefix-a.b/admin",
                    "urlprefix-A.B:8080/",
                    "urlprefix-x.wild.org/",
                    "urlprefix-*.x.wild.org/",
                    "urlprefix-:9000 proto=tcp",
                    "urlprefix-/open",
                    "urlprefix-free.org/",
                    "urlprefix-/",
                ],
            ),
        ]),
        "route add zzz a.b/line http://10.9.9.9:80/",
        &rules,
    );
    let mut found = sources(&table);
    found.sort();
    assert_eq!(
        found,
        [
            "*.wild.org/",
            "/",
            "/open/x",
            ":9000",
            "a.b/",
            "a.b/team/1",
            "free.org/"
        ]
    );
    let reasons: Vec<&str> = table.refused.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the parameter owners gives a.b/open to `web`",
            "the parameter owners gives a.b/else to `web`",
            "the parameter owners does not name other.org/ among what this service may claim",
            "the parameter owners gives *.x.wild.org/ to `web`",
            "the parameter owners gives /open to `open`",
            "the parameter owners gives :9000 to `web`",
            "the parameter owners gives a.b:8080/ to `web`",
            "the parameter owners gives a.b/admin to `web`",
            "the parameter owners gives x.wild.org/ to `web`",
            "the parameter owners gives a.b/line to `web`",
        ]
    );
}

#[test]
fn a_pattern_for_all_hosts_takes_no_path_of_an_owner() {
    let owner = Owner {
        service: "acme".to_owned(),
        paths: BTreeSet::from(["/.well-known".to_owned()]),
        ..Owner::default()
    };
    let rules = Rules {
        owners: vec![owner],
        ..rules(&[])
    };
    let table = made_by(
        &services(&[
            ("acme", &["urlprefix-/.well-known"]),
            (
                "evil",
                &[
                    "urlprefix-*/.well-known/x",
                    "urlprefix-*.*/.well-known",
                    "urlprefix-*/other",
                ],
            ),
        ]),
        "",
        &rules,
    );
    assert_eq!(sources(&table), ["*/other", "/.well-known"]);
}

#[test]
fn a_name_in_tls_belongs_to_its_owner_whatever_paths_that_owns() {
    let owner = Owner {
        service: "own".to_owned(),
        hosts: BTreeSet::from(["part.org".to_owned()]),
        paths: BTreeSet::from(["/a".to_owned(), "/b".to_owned()]),
        ..Owner::default()
    };
    let wide = Owner {
        service: "wide".to_owned(),
        hosts: BTreeSet::from(["*.net".to_owned(), "*".to_owned()]),
        ..Owner::default()
    };
    for (owners, backend) in [(vec![owner.clone()], "/"), (vec![owner, wide], "wide")] {
        let rules = Rules {
            owners,
            sni: true,
            ..rules(&[])
        };
        let table = made_by(
            &services(&[("wide", &["urlprefix-*/ proto=tcp"])]),
            "",
            &rules,
        );
        let layout = laid_by(&table, &rules);
        let of_part = layout.sni.iter().filter(|(name, _)| name == "part.org");
        let found: Vec<&str> = of_part.map(|(_, backend)| backend.as_str()).collect();
        assert_eq!(found.len(), 1, "{:?}", layout.sni);
        assert!(found[0].starts_with(backend), "{found:?}");
    }
}

/// Left out, it would give its requests to a route without the rules.
#[test]
fn a_line_with_rules_whose_address_may_not_be_used_closes_its_route() {
    let lines = "route add s a.b/admin http://10.0.0.9:9000/ opts \"allow=ip:10.0.0.0/8\"\nroute add s a.b/free http://10.0.0.9:9000/";
    let list = instances("web", &[&["urlprefix-a.b/"]]);
    let lines = overrides::parse("fabio/config", lines, "dc1");
    let each = list.iter().map(|one| (one, true));
    let table = build(each, &lines, &rules(&[]), |_, _| {
        Some("it may not".to_owned())
    });
    assert_eq!(sources(&table), ["a.b/admin", "a.b/"]);
    let admin = &table.routes[0].targets[0];
    assert!(admin.options.access.is_closed() && !admin.up);
    assert_eq!(
        sentences(&table.refused),
        ["Line 2 of the key fabio/config: it may not"]
    );
}

proptest! {
    /// Whatever others claim, a target lets nobody in whom its own rules or the first rules of its route keep out.
    #[test]
    fn the_rules_of_a_target_only_grow(
        list in proptest::collection::vec("(|allow=ip:10\\.0\\.0\\.[0-3]/3[0-2]|deny=ip:10\\.0\\.0\\.[0-3]|allow=ip:10\\.0\\.0\\.0/[0-9]|allow=x|auth=ops)", 1..5),
        last in 0..4u8,
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let tags: Vec<String> = list.iter().map(|rule| format!("urlprefix-a.b/ {rule}")).collect();
        let all: Vec<Instance> = names.iter().zip(&tags).flat_map(|(name, tag)| instances(name, &[&[tag.as_str()]])).collect();
        let own = |one: &Instance| {
            let alone = made(std::slice::from_ref(one), "");
            alone.routes[0].targets[0].options.access.clone()
        };
        let address = std::net::IpAddr::from([10, 0, 0, last]);
        let admits = |access: &Access| {
            let allowed = access.allow.as_ref().is_none_or(|list| list.iter().any(|one| one.contains(address)));
            allowed && !access.deny.iter().any(|one| one.contains(address))
        };
        let first = all.iter().map(&own).find(|access| !access.is_open()).unwrap_or_default();
        let table = made(&all, "");
        for (target, one) in table.routes[0].targets.iter().zip(&all) {
            let access = &target.options.access;
            prop_assert!(!admits(access) || admits(&own(one)) && admits(&first));
            prop_assert!(access.auth.is_superset(&own(one).auth) && access.auth.is_superset(&first.auth));
        }
    }
}
