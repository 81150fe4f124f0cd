//! Ids and slots as templates write them.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{complete, load, rendered};
use super::*;

/// A catalog of instances of `web`, by their last number.
fn catalog(numbers: &[u8]) -> String {
    let instances: Vec<String> = numbers
        .iter()
        .map(|n| format!(r#"{{"Address": "10.0.0.{n}", "Port": 80, "Node": "n{n}", "ID": "web"}}"#))
        .collect();
    format!(r#"{{"services": {{"web": [{}]}}}}"#, instances.join(","))
}

fn lines(set: &mut TemplateSet, numbers: &[u8]) -> Vec<String> {
    let rendering = complete(set, &catalog(numbers)).unwrap();
    rendering.files[0].lines().map(str::to_owned).collect()
}

#[test]
fn an_id_is_the_same_wherever_it_is_written() {
    let template = "{{servers (service \"web\")}}\n{{#each (service \"web\")}}server {{serverName this}} {{serverAddress this}} id {{serverId this}}\n{{/each}}";
    let mut set = load(template, &[]).unwrap();
    let all = lines(&mut set, &[1, 2, 3, 4, 5]);
    assert_eq!(all.len(), 10);
    assert_eq!(all[..5], all[5..]);
    // Others come and go.
    let some = lines(&mut set, &[5, 3]);
    assert!(some.iter().all(|line| all.contains(line)), "{some:#?}");
    let without = lines(
        &mut load("{{servers (service \"web\") id=false}}", &[]).unwrap(),
        &[7],
    );
    assert_eq!(without, ["server n7:web 10.0.0.7:80"]);
}

#[test]
fn instances_from_elsewhere_have_ids_too() {
    assert_eq!(
        rendered(
            r#"x {{#each (parseJSON "[{\"Node\":\"n1\",\"ID\":\"web-1\"}]")}}{{serverId this}}{{/each}}"#,
            &[]
        ),
        format!("x {}", server_id("n1", "web-1"))
    );
}

const SLOTS: &str = "{{slots (service \"web\") name=\"api\" spare=2}}";

fn slots(set: &mut TemplateSet, numbers: &[u8]) -> Vec<String> {
    lines(set, numbers)
        .into_iter()
        .enumerate()
        .map(|(index, line)| {
            let number = index + 1;
            let rest = line
                .strip_prefix(&format!("server api-{number} "))
                .unwrap_or_else(|| panic!("{line}"));
            let disabled = format!("127.0.0.1:1 id {number} disabled");
            let used = rest.strip_suffix(&format!(":80 id {number}"));
            match used.and_then(|used| used.strip_prefix("10.0.0.")) {
                Some(number) => number.to_owned(),
                None => {
                    assert_eq!(rest, disabled);
                    "-".to_owned()
                }
            }
        })
        .collect()
}

#[test]
fn slots_outlive_the_templates_and_the_program() {
    let mut set = load(SLOTS, &[]).unwrap();
    assert_eq!(slots(&mut set, &[1, 2, 3]), ["1", "2", "3", "-", "-"]);
    let text = lines(&mut set, &[2, 3]).join("\n");
    // Other templates of the same program.
    let mut next = load(SLOTS, &[]).unwrap();
    next.set_slots(set.slots().clone());
    assert_eq!(slots(&mut next, &[2, 3]), ["-", "2", "3", "-", "-"]);
    assert_eq!(slots(&mut next, &[0, 2, 3]), ["0", "2", "3", "-", "-"]);
    // Another program, from the last good file.
    let mut other = load(SLOTS, &[]).unwrap();
    other.remember_slots(["global\n", &text].into_iter());
    assert_eq!(slots(&mut other, &[2, 3]), ["-", "2", "3", "-", "-"]);
    // What was rendered since then counts more than the file.
    assert_eq!(slots(&mut other, &[0, 2, 3]), ["0", "2", "3", "-", "-"]);
    other.remember_slots([text.as_str()].into_iter());
    assert_eq!(slots(&mut other, &[0, 2, 3]), ["0", "2", "3", "-", "-"]);
    let many = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(slots(&mut other, &many).len(), 9);
    assert_eq!(slots(&mut other, &[]).len(), 9);
}

#[test]
fn a_rendering_that_is_not_used_changes_no_slot() {
    let template = "{{slots (service \"web\") name=\"api\" spare=2}}{{#if (key \"broken\")}}{{#each (service \"web\")}}{{no}}{{/each}}{{/if}}";
    let mut set = load(template, &[]).unwrap();
    let with = |numbers: &[u8], key: &str| {
        catalog(numbers).replacen('{', &format!(r#"{{"keys": {{"broken": "{key}"}},"#), 1)
    };
    complete(&mut set, &with(&[1, 2], "")).unwrap();
    let before = set.slots().clone();
    assert!(complete(&mut set, &with(&[2, 3], "yes")).is_err());
    assert_eq!(set.slots(), &before);
    // Without answers the list is empty; that is no rendering either.
    assert!(matches!(
        set.render(&BTreeMap::new()),
        Ok(Outcome::Incomplete { .. })
    ));
    assert_eq!(set.slots(), &before);
}

// B15
#[test]
fn one_address_in_several_spellings_is_one_server() {
    let text = "backend b\n{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n";
    let mut set = load(text, &[]).unwrap();
    let instance = |id: &str, address: &str, port: u16| {
        format!(r#"{{"Address": "{address}", "Port": {port}, "Node": "n", "ID": "{id}"}}"#)
    };
    let list = [
        instance("a", "2001:db8::1", 80),
        instance("b", "2001:DB8:0:0::1", 80),
        instance("c", "2001:db8::1", 81),
        instance("d", "10.0.0.1", 80),
        instance("e", "::ffff:10.0.0.1", 80),
        instance("f", "10.0.0.2", 80),
    ];
    let catalog = format!(r#"{{"services": {{"web": [{}]}}}}"#, list.join(","));
    let rendering = complete(&mut set, &catalog).unwrap();
    let servers = rendering.files[0]
        .lines()
        .filter(|line| line.contains("server "));
    assert_eq!(servers.count(), 4, "{}", rendering.files[0]);
    let told: Vec<String> = rendering
        .quarantined
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (sentence, id) in told.iter().zip(["b", "e"]) {
        assert!(
            sentence.contains(&format!("Instance {id} on node n"))
                && sentence.contains("has the same address"),
            "{sentence}"
        );
    }
}

#[test]
fn nearly_used_slots_are_told() {
    let mut set = load(SLOTS, &[]).unwrap();
    let rendering = complete(&mut set, &catalog(&[1, 2, 3])).unwrap();
    assert_eq!(rendering.crowded, []);
    let rendering = complete(&mut set, &catalog(&[1, 2, 3, 4])).unwrap();
    let told: Vec<String> = rendering.crowded.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "4 of 5 slots of api are used; when none is free, HAProxy is reloaded with 2 more. Raise spare= in the template to have more at once."
        ]
    );
}

#[test]
fn what_slots_cannot_do_is_said() {
    for (template, words) in [
        ("{{slots (service \"web\")}}", "`slots` wants name="),
        (
            "{{slots (service \"web\") name=\"a b\"}}",
            "`slots` wants name=",
        ),
        (
            "{{slots (service \"web\") name=\"a\" spare=0}}",
            "whole number from 1 to 65536",
        ),
        (
            "{{slots (service \"web\") name=\"a\" options=(key \"words\")}}",
            "written in the template",
        ),
        (
            "{{slots (service \"web\") name=\"a\"}}\n{{slots (service \"web\") name=\"a\"}}",
            "The name `a` is used by two `slots`.",
        ),
        (
            r#"{{slots (parseJSON "[{\"Address\":\"10.0.0.1\",\"Port\":80},{\"Address\":\"10.0.0.1\",\"Port\":80}]") name="a"}}"#,
            "the same address",
        ),
        (
            "{{slots (service \"web\") nam=\"a\"}}",
            "Did you mean `name=`?",
        ),
    ] {
        let text = rendered(template, &[]);
        assert!(text.contains(words), "{template}\n{text}");
    }
}

#[test]
fn slots_have_a_source_map() {
    let mut set = load(SLOTS, &[]).unwrap();
    let rendering = complete(&mut set, &catalog(&[1, 2, 3, 4])).unwrap();
    let maps = set.source_maps(&rendering.files);
    let query: BTreeSet<_> = rendering.used.clone();
    assert_eq!(maps[0].lines_of(query.first().unwrap()), [1, 2, 3, 4, 5, 6]);
}
