use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fuzzing::kinds;
use super::*;
use crate::catalog::Query;

fn service(health: HealthFilter) -> Kind {
    let mut kind = Query::service("web").kind;
    if let Kind::Service { health: own, .. } = &mut kind {
        *own = health;
    }
    kind
}

fn entry(id: &str, port: Value, check: (&str, &str)) -> Value {
    json!({
        "Node": {"ID": "u", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
                 "TaggedAddresses": {"lan": "10.0.0.1"}, "Meta": null},
        "Service": {"ID": id, "Service": "web", "Tags": ["b", "a", "b"], "Address": "",
                    "TaggedAddresses": {"lan": {"Address": "10.0.0.9", "Port": 7}},
                    "Meta": {"k": "v"}, "Port": port, "Weights": {"Passing": 3, "Warning": 1}},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing", "Output": "x"},
                   {"CheckID": check.0, "Status": check.1}]
    })
}

fn instances(health: HealthFilter, entries: Value) -> Vec<Instance> {
    match parse(&service(health), entries.to_string().as_bytes()).unwrap() {
        Answer::Instances(list) => list,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_instance_has_the_fields_a_template_sees() {
    let list = instances(
        HealthFilter::Passing,
        json!([
            entry("w2", json!(80), ("c", "passing")),
            entry("w1", json!(81), ("c", "passing"))
        ]),
    );
    assert_eq!(list[0].id, "w1");
    let first = &list[0];
    assert_eq!((first.address.as_str(), first.port), ("10.0.0.1", 81));
    assert_eq!(first.tags[..], ["a", "b"]);
    assert_eq!((first.weight_passing, first.weight_warning), (3, 1));
    assert_eq!(
        first.service_tagged_addresses.get("lan"),
        Some(&("10.0.0.9".to_owned(), 7))
    );
}

// C14 C15
#[test]
fn order_and_what_no_template_sees_are_no_change() {
    let list: Vec<Value> = (0..5)
        .map(|number| entry(&format!("w{number}"), json!(80 + number), ("c", "passing")))
        .collect();
    let known = instances(HealthFilter::Passing, json!(list));
    let mut noisy: Vec<Value> = list.into_iter().rev().collect();
    noisy.rotate_left(2);
    for (index, one) in noisy.iter_mut().enumerate() {
        for part in ["Node", "Service"] {
            one[part]["CreateIndex"] = json!(index);
            one[part]["ModifyIndex"] = json!(1000 + index);
        }
        one["Service"]["EnableTagOverride"] = json!(true);
        one["Service"]["Tags"] = json!(["a", "b"]);
        one["Checks"][1]["Output"] = json!(format!("HTTP GET took {index} ms"));
        one["Checks"][1]["Notes"] = json!("again");
        one["Checks"][1]["ModifyIndex"] = json!(2000 + index);
        one["Coord"] = json!({ "Vec": [0.1 * index as f64], "Error": 1.5 });
    }
    assert_eq!(instances(HealthFilter::Passing, json!(noisy)), known);
}

// B13 B14
#[test]
fn the_worst_check_of_node_and_service_counts() {
    let all = json!([
        entry("a", json!(1), ("c", "passing")),
        entry("b", json!(1), ("c", "warning")),
        entry("c", json!(1), ("c", "critical")),
        entry("d", json!(1), ("c", "odd")),
        entry("e", json!(1), ("_service_maintenance:e", "critical")),
        entry("f", json!(1), ("_node_maintenance", "critical")),
    ]);
    let states = |health| -> Vec<Status> {
        let list = instances(health, all.clone());
        list.into_iter().map(|instance| instance.status).collect()
    };
    use Status::*;
    assert_eq!(
        states(HealthFilter::Any),
        [
            Passing,
            Warning,
            Critical,
            Critical,
            Maintenance,
            Maintenance
        ]
    );
    assert_eq!(states(HealthFilter::Passing), [Passing]);
    assert_eq!(
        states(HealthFilter::Only(vec![Warning, Maintenance])),
        [Warning, Maintenance, Maintenance]
    );
}

#[test]
fn an_odd_number_does_not_fail_the_list() {
    for (port, read) in [
        (json!(-1), -1),
        (json!(99999), 99999),
        (json!(u64::MAX), 0),
        (json!(1.5), 0),
        (json!("80"), 0),
        (json!(null), 0),
    ] {
        let list = instances(
            HealthFilter::Any,
            json!([entry("a", port, ("c", "passing"))]),
        );
        assert_eq!(list[0].port, read);
    }
    let list = json!([entry("a", json!([]), ("c", "passing"))]).to_string();
    assert!(parse(&service(HealthFilter::Any), list.as_bytes()).is_err());
}

// A07
#[test]
fn nonsense_is_an_error_and_not_an_empty_list() {
    for body in [
        "", "null", "[null]", "[{}]", "{}", "[", "<html>", "[[]]", "[1]",
    ] {
        for kind in [service(HealthFilter::Any), Query::key("a").kind] {
            assert!(parse(&kind, body.as_bytes()).is_err(), "{kind:?} {body}");
        }
    }
    let mut entry = entry("a", json!(1), ("c", "passing"));
    entry.as_object_mut().unwrap().remove("Checks");
    assert!(
        parse(
            &service(HealthFilter::Any),
            json!([entry]).to_string().as_bytes()
        )
        .is_err()
    );
    for kind in kinds() {
        let null = parse(&kind, b"null");
        match kind {
            Kind::Node { .. } => assert_eq!(null, Ok(Answer::Node(None))),
            _ => assert!(null.is_err(), "{kind:?}"),
        }
    }
}

// A14
#[test]
fn depth_length_doubles_and_bad_text_are_errors_or_harmless() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let long = format!("[{}]", "9".repeat(1 << 20));
    let bad = b"[{\"Node\": \"\xff\xfe\"}]".to_vec();
    for body in [deep.into_bytes(), long.into_bytes(), bad] {
        for kind in kinds() {
            assert!(parse(&kind, &body).is_err(), "{kind:?}");
        }
    }
    let twice = r#"[{"Node":{"Node":"n","Node":"m","Address":"10.0.0.1"},
        "Service":{"ID":"w","Service":"web"},"Checks":[]}]"#;
    assert!(parse(&service(HealthFilter::Any), twice.as_bytes()).is_err());
    let mut port = entry("w", json!(1), ("c", "passing")).to_string();
    port = port.replace("\"Port\":1,", &format!("\"Port\":{},", "9".repeat(1 << 20)));
    // A number that no integer holds is no reason to lose the other instances.
    let list = parse(&service(HealthFilter::Any), format!("[{port}]").as_bytes());
    assert!(list.is_err() || list.is_ok_and(|list| list.len() == 1));
}

// C14 C16
#[test]
fn the_lists_are_sorted() {
    let kinds = kinds();
    assert_eq!(
        parse(&kinds[1], br#"{"web":["b","a"],"consul":null}"#)
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        parse(
            &Kind::Datacenters { ignore_down: false },
            br#"["west","east"]"#
        ),
        Ok(Answer::Datacenters(vec!["east".into(), "west".into()]))
    );
    let tree =
        br#"[{"Key":"b","Value":"Yg=="},{"Key":"a/","Value":null},{"Key":"a/x","Value":"/w=="}]"#;
    let pair = |path: &str, value: Option<&str>| KeyValue {
        path: path.into(),
        value: value.map(Into::into),
    };
    assert_eq!(
        parse(&kinds[6], tree),
        Ok(Answer::Tree(vec![pair("a/x", None), pair("b", Some("b"))]))
    );
    let key = |body: &[u8]| parse(&Query::key("a").kind, body);
    assert_eq!(
        key(br#"[{"Key":"a","Value":null}]"#),
        Ok(Answer::Key(Some(pair("a", Some("")))))
    );
    assert!(key(br#"[{"Key":"a","Value":"%"}]"#).is_err());
    assert!(key(br#"[{"Key":"a"}]"#).is_err());
    assert!(key(br#"[{"Key":"b","Value":"Yg=="}]"#).is_err());
}

#[test]
fn an_error_does_not_quote_a_value() {
    let error = parse(
        &Kind::Datacenters { ignore_down: false },
        br#"{"canary":1}"#,
    )
    .unwrap_err();
    assert!(!error.contains("canary"), "{error}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "Node", "Service", "Checks", "ID", "Address", "Port", "Tags", "Key", "Value", "Meta",
        "CheckID", "Status", "Weights", "Services", "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(String::from), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Reads a body in pieces of this size.
fn arrive(kind: &Kind, body: &[u8], size: usize) -> Result<Answer, String> {
    let mut arriving = Arriving::new(kind).unwrap();
    for piece in body.chunks(size) {
        arriving.feed(piece)?;
    }
    arriving.finish()
}

// A13 A14
#[test]
fn a_list_that_is_read_in_pieces_is_the_same() {
    let entries: Vec<Value> = (0..40)
        .map(|number| {
            let mut one = entry(&format!("w{}", number % 30), json!(80), ("c", "passing"));
            one["Checks"][0]["Output"] = json!("]}, [{ \" \\\" \\ \u{1F600}");
            one
        })
        .collect();
    let bodies = [
        json!(entries).to_string(),
        serde_json::to_string_pretty(&entries).unwrap(),
        " [ ] \n".to_owned(),
    ];
    for body in &bodies {
        let kind = service(HealthFilter::Passing);
        let whole = parse(&kind, body.as_bytes()).unwrap();
        for size in [1, 2, 3, 7, 64, 1 << 20] {
            assert_eq!(arrive(&kind, body.as_bytes(), size).as_ref(), Ok(&whole));
        }
        for cut in 0..body.trim_end().len().min(3_000) {
            assert!(arrive(&kind, &body.as_bytes()[..cut], 5).is_err(), "{cut}");
        }
    }
}

#[test]
fn an_instance_that_is_there_many_times_takes_the_room_of_two() {
    let mut nearest = service(HealthFilter::Any);
    if let Kind::Service { near, .. } = &mut nearest {
        *near = Some("_agent".into());
    }
    for kind in [service(HealthFilter::Any), nearest] {
        let mut list = Instances::new(
            match &kind {
                Kind::Service { health, .. } => health,
                _ => panic!(),
            },
            matches!(&kind, Kind::Service { near: None, .. }),
        );
        for round in 0..10_000 {
            for id in ["b", "a", "c"] {
                let port = if id == "c" { round % 2 } else { 80 };
                let one = entry(id, json!(port), ("c", "passing")).to_string();
                list.take(serde_json::from_str(&one).unwrap());
            }
            assert!(list.list.len() <= FEW + 8, "{}", list.list.len());
        }
        let Answer::Instances(list) = list.finish() else {
            panic!()
        };
        let ids: Vec<(&str, i64)> = list.iter().map(|one| (one.id.as_str(), one.port)).collect();
        let wanted = match kind {
            Kind::Service { near: None, .. } => [
                ("a", 80),
                ("a", 80),
                ("b", 80),
                ("b", 80),
                ("c", 0),
                ("c", 0),
                ("c", 1),
                ("c", 1),
            ],
            _ => [
                ("b", 80),
                ("a", 80),
                ("c", 0),
                ("b", 80),
                ("a", 80),
                ("c", 1),
                ("c", 0),
                ("c", 1),
            ],
        };
        assert_eq!(ids, wanted);
    }
}

proptest! {
    // A14
    #[test]
    fn in_pieces_any_body_is_the_same_answer_or_an_error_too(
        value in any_json(),
        cut in any::<prop::sample::Index>(),
        noise in "[\\[\\]{},:\"\\\\ a0]{0,12}",
        size in 1usize..9,
    ) {
        let kind = service(HealthFilter::Any);
        let text = value.to_string();
        let listed = format!("[{text},{text}]");
        let whole = text.as_bytes();
        let part = &listed.as_bytes()[..cut.index(listed.len() + 1)];
        for body in [whole, listed.as_bytes(), part, noise.as_bytes()] {
            prop_assert_eq!(arrive(&kind, body, size).ok(), parse(&kind, body).ok());
        }
    }

    // A14
    #[test]
    fn any_json_is_read_without_a_panic(value in any_json(), cut in any::<prop::sample::Index>()) {
        let text = value.to_string();
        let cut = cut.index(text.len() + 1);
        for kind in kinds() {
            let _ = parse(&kind, text.as_bytes());
            let _ = parse(&kind, &text.as_bytes()[..cut]);
        }
    }

    // A14
    #[test]
    fn any_bytes_are_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        for kind in kinds() {
            let _ = parse(&kind, &body);
        }
    }
}
