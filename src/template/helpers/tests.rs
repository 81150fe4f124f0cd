use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3i64..70).prop_map(Value::from),
        "[ a-c0-9/.,=|%$(){}+*\\[\\]\\\\~:\"'\\-é\\n]{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("%5.2f|%-3d"),
            Just("a/b/c"),
            Just("zone|int,b"),
            Just("ServiceMeta.zone"),
            Just("desc"),
            Just("9223372036854775807"),
            Just("{\"a\":[1]}"),
            Just("a: &x [1]\nb: *x"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let fields = prop_oneof![
            Just("Key"),
            Just("Value"),
            Just("Tags"),
            Just("Port"),
            Just("Address"),
            Just("Node"),
            Just("ID"),
            Just("ServiceMeta"),
            Just("zone"),
            Just("a/b"),
            Just("a"),
        ]
        .prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(fields, inner, 0..5)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a helper is called with, it gives a value or a sentence, and the same one again.
    #[test]
    fn no_helper_panics_whatever_it_is_given(values in prop::collection::vec(value(), 6)) {
        for entry in TABLE {
            let (Action::Pure(function) | Action::Lenient(function)) = entry.action else {
                continue;
            };
            let (least, most) = entry.parameters;
            for count in least..=most.min(values.len()) {
                let call = || Call {
                    name: entry.name,
                    values: values.iter().take(count).collect(),
                    pairs: Vec::new(),
                };
                let given = function(&call());
                if let Err(sentence) = &given {
                    prop_assert!(sentence.ends_with('.'), "{}: {sentence}", entry.name);
                }
                prop_assert_eq!(given, function(&call()));
            }
        }
    }
}

/// What a helper makes of values.
fn given(name: &str, values: &[Value]) -> Given {
    let entry = find(name).unwrap();
    let (Action::Pure(function) | Action::Lenient(function)) = entry.action else {
        panic!("{name} reads more than its parameters");
    };
    function(&Call {
        name: entry.name,
        values: values.iter().collect(),
        pairs: Vec::new(),
    })
}

/// As consul-template 0.42 wrote it for the same parameters.
#[test]
fn helpers_give_what_consul_template_gives() {
    let cases = json!([
        ["toTitle", ["a-b c_d e.f it's 49ers x/y 1st ab12cd"], "A-B C_d E.f It's 49Ers X/Y 1St Ab12cd"],
        ["trim", [" ;", "; a ;"], "a"],
        ["split", ["", "abé"], ["a", "b", "é"]],
        ["split", [",", " a, b "], ["a", " b"]],
        ["split", [",", ""], []],
        ["splitToMap", [",", "=", " a=1,b,c=2=3, d =4 "], { " d ": "4", "a": "1", "c": "2=3" }],
        ["replaceAll", ["", "-", "ab"], "-a-b-"],
        ["regexReplaceAll", ["a(b)?", "<$1x$0>", "abac"], "<ab><a>c"],
        ["regexReplaceAll", ["(?P<n>a)", "<${n}>", "abac"], "<a>b<a>c"],
        ["indent", [2, "a\n\nb\n"], "  a\n\n  b\n"],
        ["print", [1, 2, "a", 3, 4, true, "b", "c"], "1 2a3 4 truebc"],
        ["divide", [2, -7], -3],
        ["divide", [2.0, 5], 2.5],
        ["modulo", [4, -7], -3],
        ["subtract", [1, 5], 4],
        ["minimum", [2, 2.5], 2],
        ["maximum", [3, 2.5], 3],
        ["parseInt", [""], 0],
        ["parseInt", ["+5"], 5],
        ["parseBool", [""], false],
        ["parseFloat", [""], 0.0],
        ["parseJSON", [""], {}],
        ["toJSON", [{ "b": [1, 2.5], "a": "<x&y>" }], "{\"a\":\"\\u003cx\\u0026y\\u003e\",\"b\":[1,2.5]}"],
        ["toUnescapedJSON", [{ "a": "<x&y>" }], "{\"a\":\"<x&y>\"}"],
        ["toJSONPretty", [{ "b": [1], "c": {}, "d": [] }], "{\n  \"b\": [\n    1\n  ],\n  \"c\": {},\n  \"d\": []\n}"],
        ["base64URLEncode", ["a?>~ÿ"], "YT8-fsO_"],
        ["loop", ["2"], [0, 1]],
        ["loop", [3, 1], []],
        ["slice", ["abcd", 1, 3], "bc"],
        ["eq", [1, 2, 1], true],
        ["and", [1, 0, 2], 0],
        ["or", ["", 0, "x"], "x"],
        ["contains", ["b", "abc"], true],
        ["containsAll", [[], ["a"]], true],
        ["containsAny", [[], ["a"]], false],
        ["containsNone", [[], ["a"]], true],
        ["containsNotAll", [[], ["a"]], false],
        ["explodeMap", [{ "a/b": 1, "a/c/d": 2, "e/": 3 }], { "a": { "b": 1, "c": { "d": 2 } }, "e": {} }],
        [
            "mergeMap",
            [{ "a": 1, "m": { "x": 1 }, "z": "" }, { "a": 2, "b": 3, "m": { "y": 2, "x": 5 }, "z": "q" }],
            { "a": 1, "b": 3, "m": { "x": 1, "y": 2 }, "z": "q" },
        ],
        [
            "mergeMapWithOverride",
            [{ "a": 1, "m": { "x": 1 }, "z": "" }, { "a": 2, "b": 3, "m": { "y": 2, "x": 5 }, "z": "q", "w": 0 }],
            { "a": 2, "b": 3, "m": { "x": 5, "y": 2 }, "w": 0, "z": "q" },
        ],
    ]);
    for case in cases.as_array().unwrap() {
        let name = case[0].as_str().unwrap();
        let found = given(name, case[1].as_array().unwrap());
        assert_eq!(found.as_ref(), Ok(&case[2]), "{name} {}", case[1]);
    }
}

#[test]
fn what_helpers_refuse_is_said() {
    for (name, values, sentence) in [
        (
            "loop",
            json!([1_000_000]),
            "`loop` makes at most 100000 numbers and was asked for 1000000.",
        ),
        (
            "index",
            json!([[1, 2], 5]),
            "There is no item 5 in a list of 2; the first is item 0.",
        ),
        (
            "index",
            json!(["text", 1]),
            "a text of 4 letters has no items or fields.",
        ),
        (
            "slice",
            json!([[1, 2], 1, 5]),
            "`slice` wants a beginning and an end from 0 to 2, in this order.",
        ),
        (
            "indent",
            json!([2_000_000, "a"]),
            "The result of `indent` would be larger than 1 MiB.",
        ),
        (
            "split",
            json!(["", "a".repeat(100_001)]),
            "`split` makes at most 100000 parts of a text.",
        ),
        (
            "parseUint",
            json!(["-1"]),
            "`parseUint` wants a whole number that is not negative as its first parameter and got a text of 2 letters.",
        ),
        (
            "modulo",
            json!([2, 1.5]),
            "`modulo` wants a whole number as its second parameter and got the number 1.5.",
        ),
        (
            "multiply",
            json!([u64::MAX, 2]),
            "The result is too large for a 64-bit number.",
        ),
        (
            "explode",
            json!([[{ "Key": "a", "Value": "1" }, { "Key": "a/b", "Value": "2" }]]),
            "The key `a/b` lies in what is no folder but has a value itself.",
        ),
        (
            "byMeta",
            json!(["shard|int", [{ "ServiceMeta": { "shard": "x" } }]]),
            "The metadata `shard` of an instance is a text of 1 letters that is no whole number, so that `|int` cannot sort by it.",
        ),
        (
            "parseYAML",
            json!(["a: ["]),
            "The text is no YAML: line 2, column 1.",
        ),
        (
            "mergeMap",
            json!([1, {}]),
            "`mergeMap` wants an object, such as parseJSON and explode give, and got the number 1.",
        ),
    ] {
        let found = given(name, values.as_array().unwrap());
        assert_eq!(found, Err(sentence.to_owned()), "{name}");
    }
    let deep = json!([[{ "Key": "/".repeat(100), "Value": "" }]]);
    assert!(given("explode", deep.as_array().unwrap()).is_err());
}
