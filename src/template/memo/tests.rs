//! A set that remembers renders what a set that knows nothing renders: text, queries, quarantine,
//! faults and source maps, after any changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use serde_json::json;

use crate::catalog::{Answer, Instance, KeyValue, Kind, Known, Node, Query, ServiceName, Status};
use crate::template::{Grammar, Options, Outcome, Source, TemplateSet};

const TEMPLATES: &[&str] = &[
    "{{#each (services) as |s|}}backend {{s.Name}} {{@index}}{{#if @last}} last{{/if}}\n{{#each (service s.Name)}}    server {{serverName this}} {{serverAddress this}} weight {{Weights.Passing}}\n{{else}}    # none of {{s.Name}}\n{{/each}}{{/each}}",
    "{{#each (services)}}backend {{Name}}\n{{#let (keyOrDefault Name \"none\") as |k|}}x {{k}}\n{{#each (service ../Name)}}y {{k}} {{ID}}\n{{/each}}{{/let}}{{/each}}",
    "{{#each (parameters \"names\") as |name at|}}backend {{name}} {{at}} {{#if @first}}first{{/if}}\n{{#each (service name) as |i n|}}    server {{name}} {{i.ID}} {{n}} {{@last}} {{lookup Tags 0}}\n{{/each}}{{/each}}",
    "{{#each (service \"a\")}}x {{ID}}{{#each Tags}} y {{../ID}} {{this}} {{@../index}}{{/each}}\n{{/each}}",
    "{{#each (service \"a\")}}\n    {{> line name=ID}}\n{{/each}}",
    "{{#each (service \"a\")}}{{> line name=ID}}{{/each}}x {{#each (service \"b\")}}{{> up}}{{/each}}",
    "{{> backend name=\"a\"}}{{> backend name=\"b\"}}\n    {{> backend name=\"a\"}}\n",
    "{{#> frame}}{{#each (service \"a\")}}x {{ID}}\n{{/each}}{{/frame}}",
    "{{#*inline \"x\"}}i {{ID}}\n{{/inline}}{{#each (service \"a\")}}{{> x}}{{/each}}",
    "{{#each (service \"a\")}}{{#if @first}}{{#*inline \"y\"}}i {{ID}}\n{{/inline}}{{/if}}{{> y}}{{/each}}",
    "set \"x {{#each (service \"a\")}}{{ID}} {{/each}}\" {{#each (service \"b\")}}{{Address}},{{/each}}\nset x {{#each (service \"a\")}}{{ServiceMeta.zone}} {{/each}}",
    "{{#each (tree \"t\")}}x {{Key}} {{Value}}{{/each}}\n{{#each (ls \"t\")}}x {{Key}} {{Value}} z\n{{/each}}",
    "x {{len (service \"a\")}}\n{{#if (service \"a\")}}y{{else}}z{{/if}} {{#unless (service \"b\")}}u{{/unless}}\n{{#with (first (service \"a\"))}}x {{ID}}{{/with}}",
    "{{#each (byTag (service \"a\"))}}x {{@key}}{{#each this}} {{ID}} {{@first}}{{/each}}\n{{/each}}{{#each (byMeta (service \"b\") \"zone\")}}x {{@key}}\n{{/each}}",
    "backend x\n    {{servers (service \"a\") options=\"check\" weight=true}}\n{{#each (parameters \"names\")}}    {{servers (service this)}}\n{{/each}}",
    "x {{key \"demanded\"}}\n{{#each (service \"a\")}}x {{key ID}}\n{{/each}}",
    "{{#each (parameters \"names\") as |p|}}{{#each (service \"a\")}}x {{p}} {{ID}} {{@index}}\n{{/each}}{{/each}}",
    "{{#each (parameters \"objects\") as |o|}}{{> bound Name=o.Name}}{{#with o}}{{> bound}}{{/with}}{{/each}}",
    "# {{#each (service \"a\" status=\"any\")}}{{ID}} {{Status}} {{/each}}\n{{#each (nodes)}}x {{Node}} {{Meta.rack}}\n{{/each}}{{#each (datacenters)}}y {{this}}{{/each}}",
    "{{#each (sortBy (service \"a\") \"Port\" \"desc\")}}x {{ID}} {{@index}}\n{{/each}}{{#each (services)}}{{#each Tags}}x {{this}} {{../Name}}\n{{/each}}{{/each}}",
    "{{#if (keyExists \"on\")}}{{#each (services)}}x {{#each (service Name)}}{{ID}}|{{@../index}} {{/each}}\n{{/each}}{{else}}off{{/if}}",
    "{{#each (parameters \"objects\")}}{{#each this}}x {{@key}} {{this}} {{@index}}\n{{#each (service \"a\")}}y {{@../key}} {{ID}}\n{{/each}}{{/each}}{{/each}}{{#each (service \"b\")}}x {{ID}}\n{{/each}}",
    "x {{parameter \"listen\"}} nothing is asked\n",
    "{{#each (service \"a\")}}x {{Nope}}\n{{/each}}",
    "{{slots (service \"a\") name=\"s\" spare=2}}\n{{#each (service \"b\")}}x {{ID}} {{serverId this}}\n{{/each}}",
    "{{#each (routes \"backends\" prefix=\"t\" overrides=\"\")}}backend {{name}}\n{{#each servers}}    server {{serverName this}} {{serverAddress this}} weight {{Weight}}\n{{/each}}{{/each}}",
    "{{#each (routes \"http\" prefix=\"t\")}}x {{key}} {{backend}}\n{{/each}}{{#with (routes prefix=\"t\" overrides=\"\")}}{{#each routes}}x {{source}}{{#each targets}} {{id}} {{share}}{{/each}}\n{{/each}}{{/with}}",
];

const PARTIALS: &[(&str, &str)] = &[
    (
        "line",
        "    server {{name}} {{@index}} {{Address}}\n    more {{@first}}\n",
    ),
    ("up", "{{../ID}} {{ID}} "),
    (
        "backend",
        "backend {{name}}\n{{#each (service name)}}x {{name}} {{ID}} {{../name}}\n{{/each}}",
    ),
    ("frame", "# begin\n{{> @partial-block}}# end\n"),
    (
        "bound",
        "{{#each (service \"a\")}}x {{Name}} {{ID}}\n{{/each}}",
    ),
];

#[derive(Debug, Clone, Default)]
struct Catalog {
    services: BTreeMap<String, Vec<Instance>>,
    keys: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
enum Change {
    Service(usize, Vec<(usize, u8)>),
    NoService(usize),
    Key(usize, Option<String>),
    Forget(Index),
    Nothing,
}

const SERVICES: [&str; 4] = ["a", "b", "c", "i1"];
const KEYS: [&str; 8] = ["a", "b", "on", "demanded", "t/x", "t/y/z", "i0", "i1"];

fn change() -> impl Strategy<Value = Change> {
    let ids = subsequence((0..6).collect::<Vec<usize>>(), 0..=6);
    let instances = ids.prop_flat_map(|ids| {
        let count = ids.len();
        (Just(ids), prop::collection::vec(0u8..8, count))
            .prop_map(|(ids, looks)| ids.into_iter().zip(looks).collect())
    });
    prop_oneof![
        6 => (0..SERVICES.len(), instances).prop_map(|(name, list)| Change::Service(name, list)),
        1 => (0..SERVICES.len()).prop_map(Change::NoService),
        3 => (0..KEYS.len(), prop::option::of("[a-c\"% ]{0,3}")).prop_map(|(key, value)| Change::Key(key, value)),
        1 => any::<Index>().prop_map(Change::Forget),
        1 => Just(Change::Nothing),
    ]
}

impl Catalog {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Service(name, list) => {
                let name = SERVICES[*name];
                let list = list.iter().map(|(id, looks)| instance(name, *id, *looks));
                self.services.insert(name.to_owned(), list.collect());
            }
            Change::NoService(name) => {
                self.services.remove(SERVICES[*name]);
            }
            Change::Key(key, value) => {
                let key = KEYS[*key].to_owned();
                match value {
                    Some(value) => self.keys.insert(key, value.clone()),
                    None => self.keys.remove(&key),
                };
            }
            Change::Forget(_) | Change::Nothing => {}
        }
    }

    fn answer(&self, query: &Query) -> Answer {
        let pair = |path: &str, value: &str| KeyValue {
            path: path.to_owned(),
            value: Some(value.to_owned()),
        };
        match &query.kind {
            Kind::Service { name, .. } => {
                Answer::Instances(self.services.get(name).cloned().unwrap_or_default())
            }
            Kind::Services { .. } => {
                let services = self.services.iter().map(|(name, list)| ServiceName {
                    name: name.clone(),
                    tags: list.iter().flat_map(|one| one.tags.to_vec()).collect(),
                    tags_left_out: 0,
                });
                Answer::Services(services.collect())
            }
            Kind::Key { path } => Answer::Key(self.keys.get(path).map(|value| pair(path, value))),
            Kind::Tree { .. } => {
                let below = self.keys.iter().filter(|(path, _)| path.starts_with("t/"));
                Answer::Tree(below.map(|(path, value)| pair(path, value)).collect())
            }
            Kind::Nodes { .. } => {
                let nodes = self.services.iter().map(|(name, list)| Node {
                    name: format!("n-{name}"),
                    id: String::new(),
                    address: "10.0.0.1".to_owned(),
                    datacenter: "dc1".to_owned(),
                    tagged_addresses: Default::default(),
                    meta: [("rack".to_owned(), list.len().to_string())].into(),
                });
                Answer::Nodes(nodes.collect())
            }
            Kind::Node { .. } => Answer::Node(None),
            Kind::Datacenters { .. } => Answer::Datacenters(self.keys.keys().cloned().collect()),
        }
    }
}

fn instance(service: &str, id: usize, looks: u8) -> Instance {
    let meta = [(
        "zone".to_owned(),
        if looks == 1 {
            String::new()
        } else {
            format!("z{looks}")
        },
    )];
    // The second id twice on one node: one of the two is put aside.
    let own = if id == 5 { 1 } else { id };
    let address = format!("10.0.0.{id}");
    let address = if looks == 2 { "bad" } else { &address };
    let port = 80 + i64::from(looks / 4);
    Instance {
        service_meta: meta.into(),
        tags: (0..looks % 3).map(|tag| format!("t{tag}")).collect(),
        status: if looks == 3 {
            Status::Warning
        } else {
            Status::Passing
        },
        weight_passing: i64::from(looks / 2),
        ..Instance::plain(
            service,
            &format!("n{}", id % 2),
            &format!("i{own}"),
            address,
            port,
        )
    }
}

fn load(templates: &[usize], grammar: Grammar, max_output: usize) -> TemplateSet {
    let source = |name: &str, text: &str, grammar| Source {
        name: name.to_owned(),
        path: name.into(),
        text: text.to_owned(),
        grammar,
    };
    // A name that is defined inline must not be defined for the others of a set.
    let texts = templates
        .iter()
        .map(|at| source(&format!("t{at}"), TEMPLATES[*at], grammar));
    let partials = PARTIALS
        .iter()
        .map(|(name, text)| source(name, text, Grammar::Haproxy));
    let parameters = json!({
        "listen": "127.0.0.1:80",
        "names": ["a", "b", "a", "none"],
        "objects": [{ "Name": "a", "x": 1 }, { "Name": "bound", "x": 1 }, { "Name": "a", "x": 2 }],
    });
    let options = Options {
        max_output,
        parameters: parameters.as_object().unwrap().clone(),
        ..Options::default()
    };
    TemplateSet::load(texts.collect(), partials.collect(), options)
        .unwrap()
        .0
}

/// Renders in rounds by both, and compares each; how many fragments were taken again, and how many
/// renderings were whole.
fn follow(
    templates: &[usize],
    grammar: Grammar,
    max_output: usize,
    changes: &[Change],
) -> Result<(usize, usize), TestCaseError> {
    let mut remembering = load(templates, grammar, max_output);
    let mut catalog = Catalog::default();
    let mut answers: BTreeMap<Query, Known> = BTreeMap::new();
    let (mut revision, mut complete) = (0, 0);
    for change in changes {
        catalog.apply(change);
        if let Change::Forget(which) = change
            && !answers.is_empty()
        {
            let query = answers.keys().nth(which.index(answers.len())).cloned();
            query.and_then(|query| answers.remove(&query));
        }
        for (query, known) in &mut answers {
            let answer = catalog.answer(query);
            if answer != *known.answer || matches!(change, Change::Nothing) {
                revision += 1;
                *known = Known {
                    answer: Arc::new(answer),
                    revision,
                };
            }
        }
        for _ in 0..8 {
            let mut fresh = load(templates, grammar, max_output);
            fresh.set_slots(remembering.slots().clone());
            let expected = fresh.render(&answers);
            let found = remembering.render(&answers);
            prop_assert!(found == expected, "{found:#?}\n{expected:#?}");
            match found {
                Ok(Outcome::Complete(rendering)) => {
                    complete += 1;
                    prop_assert_eq!(remembering.slots(), fresh.slots());
                    prop_assert_eq!(
                        remembering.source_maps(&rendering.files),
                        fresh.source_maps(&rendering.files)
                    );
                    break;
                }
                Ok(Outcome::Incomplete { needed, .. }) if !needed.is_empty() => {
                    for query in needed {
                        revision += 1;
                        let answer = Arc::new(catalog.answer(&query));
                        answers.insert(query, Known { answer, revision });
                    }
                }
                _ => break,
            }
        }
    }
    Ok((remembering.taken_again(), complete))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(support::cases(64)))]
    // D08
    #[test]
    fn what_is_remembered_is_what_would_be_rendered(
        templates in subsequence((0..TEMPLATES.len()).collect::<Vec<_>>(), 1..=4),
        grammar in prop_oneof![3 => Just(Grammar::Haproxy), 1 => Just(Grammar::Plain)],
        max_output in prop_oneof![4 => Just(1 << 20), 1 => 60usize..600],
        changes in prop::collection::vec(change(), 1..10),
    ) {
        follow(&templates, grammar, max_output, &changes)?;
    }
}

/// Each template by itself, so that none is hidden by a fault of another.
#[test]
fn each_template_is_remembered_rightly() {
    let full = |name, looks| Change::Service(name, (0..5).map(|id| (id, looks)).collect());
    let some = |name, looks| Change::Service(name, vec![(0, 4), (2, looks), (4, 4)]);
    let key = |key, value: &str| Change::Key(key, Some(value.to_owned()));
    let changes = [
        full(0, 4),
        full(1, 4),
        key(3, "x"),
        key(2, "x"),
        key(4, "1"),
        key(5, "2"),
        some(0, 4),
        some(0, 6),
        key(0, "k"),
        full(2, 7),
        some(0, 5),
        full(0, 4),
        Change::NoService(1),
        Change::Nothing,
        some(2, 4),
        key(6, "v"),
        key(4, ""),
        some(1, 4),
    ];
    let all = 0..TEMPLATES.len();
    let told: Vec<(usize, usize)> = all
        .clone()
        .map(|at| follow(&[at], Grammar::Haproxy, 1 << 20, &changes).unwrap())
        .collect();
    // 7 is written aside, 8 and 9 have inline partials, 22 is all or nothing, 23 is wrong.
    let never: Vec<usize> = all.clone().filter(|at| told[*at].0 == 0).collect();
    assert_eq!(never, [7, 8, 9, 22, 23], "{told:?}");
    let wrong: Vec<usize> = all.filter(|at| told[*at].1 == 0).collect();
    // 15 waits for keys that never come.
    assert_eq!(wrong, [15, 23], "{told:?}");
}
