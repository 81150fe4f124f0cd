//! What one service may take of the table.

use super::*;

/// What is told of the limits.
fn told(table: &Table) -> Vec<String> {
    let items = table.refused.iter();
    items
        .filter(|item| item.what.starts_with("A part of service"))
        .map(|item| item.text.clone())
        .collect()
}

fn is_closed(table: &Table, service: &str) -> bool {
    let targets = table.routes.iter().flat_map(|route| &route.targets);
    let mut own = targets.filter(|target| target.service == service);
    own.all(|target| target.options.access.is_closed())
}

/// A service with these tags, before and behind two that behave well.
fn beside(tags: &[String]) -> Table {
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut list = instances("first", &[&["urlprefix-first.org/"]]);
    list.extend(instances("greedy", &[&tags]));
    list.extend(instances(
        "last",
        &[&["urlprefix-last.org/", "urlprefix-/0000 strip=/0000"]],
    ));
    made(&list, "")
}

#[test]
fn the_routes_of_one_service_are_bounded_and_those_of_others_are_not() {
    let tags: Vec<String> = (0..25_000)
        .map(|number| format!("urlprefix-/{number:04} strip=/{number}"))
        .collect();
    let table = beside(&tags);
    assert_eq!(
        told(&table),
        ["22952 tags of routes are more than the 2048 that are read of an instance"]
    );
    let sources = sources(&table);
    assert_eq!(sources.len(), 2048 + 2);
    for kept in ["first.org/", "last.org/", "/0000", "/0255"] {
        assert!(sources.iter().any(|source| source == kept), "{kept}");
    }
    assert!(!is_closed(&table, "greedy"));
    // The same in many instances, each with other routes.
    let lists: Vec<Vec<String>> = tags.chunks(10).map(<[String]>::to_vec).collect();
    let lists: Vec<Vec<&str>> = lists
        .iter()
        .map(|list| list.iter().map(String::as_str).collect())
        .collect();
    let lists: Vec<&[&str]> = lists.iter().map(Vec::as_slice).collect();
    let table = made(&instances("greedy", &lists), "");
    assert_eq!(table.routes.len(), 2048);
}

#[test]
fn the_bytes_of_the_tags_of_a_service_are_bounded() {
    let long = |at: usize, number: usize| format!("urlprefix-/{at}-{number}-{}/", "x".repeat(980));
    let lists: Vec<Vec<String>> = (0..4)
        .map(|at| {
            let mut tags: Vec<String> = (0..500).map(|number| long(at, number)).collect();
            tags.push("urlprefix-/same".to_owned());
            tags
        })
        .collect();
    let lists: Vec<Vec<&str>> = lists
        .iter()
        .map(|list| list.iter().map(String::as_str).collect())
        .collect();
    let lists: Vec<&[&str]> = lists.iter().map(Vec::as_slice).collect();
    let mut list = instances("first", &[&["urlprefix-first.org/"]]);
    list.extend(instances("greedy", &lists));
    list.extend(instances("last", &[&["urlprefix-last.org/"]]));
    let table = made(&list, "");
    let [told] = told(&table).try_into().unwrap();
    assert!(
        told.ends_with("tags of routes are beyond the 256 KiB that are read of all its tags"),
        "{told}"
    );
    let text: usize = sources(&table).iter().map(String::len).sum();
    assert!((250_000..263_000).contains(&text), "{text} bytes");
    let sources = sources(&table);
    for kept in ["first.org/", "last.org/"] {
        assert!(sources.iter().any(|source| source == kept), "{kept}");
    }
    // A rule of access that does not fit closes the service.
    let tags: Vec<String> = (0..2_000)
        .map(|number| format!("{} deny=ip:10.0.0.0/8", long(0, number)))
        .collect();
    assert!(is_closed(&beside(&tags), "greedy"));
}

#[test]
fn rules_of_access_come_before_what_is_open() {
    let mut tags: Vec<String> = (0..2_200)
        .map(|number| format!("urlprefix-/{number}"))
        .collect();
    tags.push("urlprefix-/admin deny=ip:10.0.0.0/8".to_owned());
    tags.push("urlprefix-/users auth=ops".to_owned());
    let table = beside(&tags);
    let sources = sources(&table);
    assert!(
        ["/admin", "/users"]
            .iter()
            .all(|one| sources.iter().any(|source| source == one))
    );
    assert_eq!(
        told(&table),
        [
            "2 of its targets are in more than 2048 routes",
            "152 tags of routes are more than the 2048 that are read of an instance"
        ]
    );
    assert!(!is_closed(&table, "greedy"));
}

#[test]
fn a_service_that_loses_a_rule_of_access_is_closed() {
    let rule = |number: usize| format!("urlprefix-/{number} allow=ip:10.0.0.0/8");
    let mut tags: Vec<String> = (0..2049).map(rule).collect();
    tags.insert(0, "urlprefix-/".to_owned());
    let table = beside(&tags);
    let text = &told(&table)[0];
    assert!(
        text.contains("all its routes answer 403 to everybody"),
        "{text}"
    );
    assert!(is_closed(&table, "greedy"));
    assert!(!is_closed(&table, "first") && !is_closed(&table, "last"));
}

#[test]
fn the_parts_that_a_service_splits_off_are_bounded() {
    let tags: Vec<Vec<String>> = (0..1_000)
        .map(|number| vec![format!("urlprefix-a.b/ strip=/{number}")])
        .collect();
    let tags: Vec<Vec<&str>> = tags
        .iter()
        .map(|list| list.iter().map(String::as_str).collect())
        .collect();
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    let mut list = instances("greedy", &tags);
    list.extend(instances("well", &[&["urlprefix-a.b/ strip=/well"]]));
    let table = made(&list, "");
    let layout = laid(&table);
    assert_eq!(layout.splits.len(), 129);
    assert!(
        layout
            .backends
            .values()
            .any(|one| one.services.contains("well"))
    );
    // By their weights each may be split off once more.
    let weights: Vec<String> = (0..10_000)
        .map(|number| format!("urlprefix-/ weight=0.{:05}", number + 1))
        .collect();
    let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
    let each: Vec<&[&str]> = weights.chunks(1).collect();
    let layout = laid(&made(&instances("greedy", &each), ""));
    assert!(layout.splits.len() <= 1, "{}", layout.splits.len());
}

#[test]
fn the_targets_of_one_service_are_bounded() {
    let tags: Vec<String> = (0..200)
        .map(|number| format!("urlprefix-/{number}"))
        .collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let list = instances("greedy", &vec![tags.as_slice(); 200]);
    let table = made(&list, "");
    let targets = table.routes.iter().map(|route| route.targets.len());
    assert_eq!(targets.sum::<usize>(), 30_000);
    assert_eq!(told(&table), ["it has 10000 more targets than 30000"]);
}

#[test]
fn rules_that_multiply_close_the_route() {
    let lists: Vec<String> = (0..2)
        .map(|round| {
            let list = (0..128).map(|number| match round {
                0 => format!("ip:10.{number}.0.0/16"),
                _ => format!("ip:10.{}.{number}.0/24", number / 2),
            });
            list.collect::<Vec<String>>().join(",")
        })
        .collect();
    for (tags, closed) in [
        (vec![format!("urlprefix-/ allow={}", lists[0])], false),
        (
            vec![format!("urlprefix-/ allow={},ip:10.9.0.0/16", lists[0])],
            true,
        ),
        (
            lists
                .iter()
                .map(|list| format!("urlprefix-/ allow={list}"))
                .collect(),
            false,
        ),
        (
            lists
                .iter()
                .map(|list| format!("urlprefix-/ deny={list}"))
                .collect(),
            true,
        ),
        (
            (0..300)
                .map(|number| format!("urlprefix-/ allow=ip:10.0.0.0/8 strip=/{number}"))
                .collect(),
            true,
        ),
    ] {
        let table = beside(&tags);
        assert_eq!(is_closed(&table, "greedy"), closed, "{}", tags.len());
        assert!(!is_closed(&table, "last"));
    }
}

#[test]
fn only_some_tags_of_a_service_are_named() {
    let tags: Vec<String> = (0..5_000)
        .map(|number| format!("urlprefix-:{number}x"))
        .collect();
    let table = beside(&tags);
    assert_eq!(table.refused.len(), 52);
    let texts = [
        "only 50 of its tags that are left out or odd are named, and 1998 are not",
        "2952 tags of routes are more than the 2048 that are read of an instance",
    ];
    assert_eq!(told(&table), texts);
    // A rule that is not read closes what is.
    let mut tags: Vec<String> = (0..3_000)
        .map(|number| format!("urlprefix-:{number}x deny="))
        .collect();
    tags.push("urlprefix-/x".to_owned());
    assert!(is_closed(&beside(&tags), "greedy"));
}

/// Consul takes both for one service.
#[test]
fn another_spelling_of_a_service_gets_no_room_beside_its_own() {
    let tags: Vec<String> = (0..1_200)
        .map(|number| format!("urlprefix-/{number}"))
        .collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut list: Vec<Instance> = Vec::new();
    for number in 0..4 {
        let name = if number % 2 == 0 { "web" } else { "WEB" };
        let mut one = instances(name, &[&tags]).remove(0);
        one.id = format!("{number}");
        one.tags = tags.iter().map(|tag| format!("{tag}-{number}")).collect();
        list.push(one);
    }
    let table = made(&list, "");
    assert_eq!(table.routes.len(), 2 * 2048);
}

#[test]
fn a_surplus_whose_rules_stand_on_its_route_closes_nothing() {
    let tag = "urlprefix-a.b/ host=dst allow=ip:10.0.0.0/8";
    let one = [tag];
    let tags: Vec<&[&str]> = vec![&one; 140];
    let table = made(&instances("web", &tags), "");
    let closed = |route: &Route| {
        let mut targets = route.targets.iter();
        targets.any(|one| one.options.access.is_closed())
    };
    assert!(!table.routes.iter().any(closed));
    assert!(!table.refused.is_empty());
}
