use proptest::prelude::*;

use super::*;
use crate::apply::set::Role;
use crate::catalog::fixture::Fixture;
use crate::template::{Grammar, Options, Outcome, Source, TemplateSet};

const TEMPLATE: &str = "\
frontend in
    bind :80
{{#each (ls \"expose\")}}
listen tcp_{{Key}}
    bind :{{Value}}
{{/each}}
{{#each (services)}}
{{#if (contains \"tcp\" Tags)}}
listen service_{{Name}}
    bind :{{trimPrefix \"s\" Name}}
{{/if}}
{{/each}}
{{#if (eq (keyOrDefault \"extra\" \"on\") \"on\")}}
frontend extra
    bind :81
{{/if}}
frontend many
    bind :82
{{#each (ls \"ports\")}}
    bind :{{Key}}
{{/each}}
";

/// Ports of everything that the templates listen at because of the catalog.
#[derive(Debug, Clone, Default, PartialEq)]
struct Catalog {
    expose: BTreeMap<u16, u16>,
    services: BTreeMap<u16, bool>,
    ports: BTreeSet<u16>,
    without_extra: bool,
}

impl Catalog {
    fn answers(&self, set: &TemplateSet, revision: u64) -> BTreeMap<Query, Known> {
        let quoted = |key: String, value: String| format!("{key:?}: {value:?}");
        let mut keys = vec![quoted("none".into(), "none".into())];
        let expose = self.expose.iter();
        keys.extend(expose.map(|(key, port)| quoted(format!("expose/{key}"), port.to_string())));
        let ports = self.ports.iter();
        keys.extend(ports.map(|port| quoted(format!("ports/{port}"), "x".into())));
        if self.without_extra {
            keys.push(quoted("extra".into(), "off".into()));
        }
        let services = self.services.iter().map(|(port, tagged)| {
            let tag = if *tagged { "tcp" } else { "http" };
            format!("\"s{port}\": [{{\"Address\": \"10.0.0.1\", \"Port\": 1, \"Node\": \"n\", \"ID\": \"i\", \"Tags\": [\"{tag}\"]}}]")
        });
        let services: Vec<String> = services.collect();
        let text = format!(
            "{{\"services\": {{{}}}, \"keys\": {{{}}}}}",
            services.join(","),
            keys.join(",")
        );
        let fixture = serde_json::from_str::<Fixture>(&text).unwrap();
        let queries = set.literal_queries().iter();
        queries
            .map(|query| {
                let answer = Arc::new(fixture.answer(query).unwrap());
                (query.clone(), Known { answer, revision })
            })
            .collect()
    }
}

fn templates(text: &str) -> TemplateSet {
    let source = Source {
        name: "t".into(),
        path: "t.hbs".into(),
        text: text.into(),
        grammar: Grammar::Haproxy,
    };
    let (set, _) = TemplateSet::load(vec![source], Vec::new(), Options::default()).unwrap();
    set
}

fn candidate(set: &mut TemplateSet, answers: &BTreeMap<Query, Known>) -> Candidate {
    let Ok(Outcome::Complete(rendering)) = set.render(answers) else {
        panic!("not complete");
    };
    Candidate::new(vec![SetFile {
        destination: "/h.cfg".into(),
        role: Role::Config,
        mode: None,
        text: rendering.files[0].clone(),
    }])
}

fn reference(good: &Candidate, made_from: Option<MadeFrom>) -> Reference {
    let set = StoredSet {
        revision: good.revision.clone(),
        marked: true,
        files: good.files.clone(),
        origin: good.origin.clone(),
    };
    Reference {
        good: Some(Good::new(Arc::new(set), made_from)),
        judged: Vec::new(),
        released: BTreeSet::new(),
        rules: gate::Rules::default(),
        now: 1_000,
    }
}

/// From one catalog to another, by templates that may have changed.
fn changed(before: &Catalog, after: &Catalog, text: &str) -> (Reference, Compared) {
    let mut set = templates(TEMPLATE);
    let former = before.answers(&set, 1);
    let good = candidate(&mut set, &former);
    let reference = reference(&good, Some(MadeFrom::Answers(Arc::new(former))));
    let mut set = templates(text);
    let compared = compare(&reference, &mut set, after, 2);
    (reference, compared)
}

fn compare(
    reference: &Reference,
    set: &mut TemplateSet,
    catalog: &Catalog,
    revision: u64,
) -> Compared {
    let answers = catalog.answers(set, revision);
    let candidate = candidate(set, &answers);
    let compared = reference.compare(candidate.clone(), &answers, |from, former| {
        set.made_from(former, |query| from.answer(query))
    });
    // What was rendered last is still known to the templates.
    let text = candidate.files[0].text.clone();
    let maps = set.source_maps(std::slice::from_ref(&text));
    assert!(maps[0].origin(1).is_some());
    compared
}

fn ports(compared: &Compared) -> (Vec<String>, Vec<String>) {
    let listeners = &compared.listeners;
    let go = listeners.go.iter().map(|(lost, _)| lost);
    let wait = listeners.wait.iter().map(|one| &one.lost);
    let port = |lost: &Lost| {
        lost.endpoint
            .to_string()
            .trim_start_matches("*:")
            .to_owned()
    };
    (go.map(port).collect(), wait.map(port).collect())
}

fn some() -> Catalog {
    Catalog {
        expose: BTreeMap::from([(1, 101), (2, 102)]),
        services: BTreeMap::from([(201, true), (202, true)]),
        ports: BTreeSet::from([301, 302]),
        without_extra: false,
    }
}

// G18
#[test]
fn a_listener_goes_with_the_item_that_made_it() {
    let mut after = some();
    after.expose.remove(&1);
    after.services.remove(&202);
    after.ports.remove(&301);
    let (_, compared) = changed(&some(), &after, TEMPLATE);
    let (go, wait) = ports(&compared);
    assert_eq!((go.len(), wait), (3, vec![]));
    let why: Vec<String> = compared
        .listeners
        .go
        .iter()
        .map(|(lost, why)| match why {
            Cause::Gone(item) => format!("{}: {item}", lost.endpoint),
            Cause::Released => panic!("{lost:?}"),
        })
        .collect();
    let expected = [
        "*:101: Key expose/1 of tree \"expose\"",
        "*:202: Service s202 of services",
        "*:301: Key ports/301 of tree \"ports\"",
    ];
    assert_eq!(why, expected);
    let candidate = &compared.candidate;
    assert_eq!(candidate.may_lose.len(), 3);
    assert!(!candidate.files[0].text.contains("Kept by"));
}

// G18
#[test]
fn a_listener_waits_where_its_item_is_there() {
    let mut after = some();
    after.expose.insert(1, 103); // another value
    after.services.insert(202, false); // another tag
    after.without_extra = true;
    let (mut reference, compared) = changed(&some(), &after, TEMPLATE);
    let (go, wait) = ports(&compared);
    assert_eq!(
        (go, wait),
        (vec![], ["81", "101", "202"].map(String::from).to_vec())
    );
    let reasons: Vec<&Reason> = compared
        .listeners
        .wait
        .iter()
        .map(|one| &one.reason)
        .collect();
    assert!(matches!(
        reasons[..],
        [Reason::Condition, Reason::There(_), Reason::There(_)]
    ));
    let text = &compared.candidate.files[0].text;
    assert!(
        text.contains("bind :101") && !text.contains("bind :103"),
        "{text}"
    );
    assert!(compared.candidate.may_lose.is_empty());

    // The set with them is the last good one now. Later the item goes after all.
    reference.judged = compared.listeners.judged();
    let set = StoredSet {
        revision: compared.candidate.revision.clone(),
        marked: true,
        files: compared.candidate.files.clone(),
        origin: compared.candidate.origin.clone(),
    };
    reference.good = Some(Good::new(Arc::new(set), None));
    reference.now = 2_000;
    let mut set = templates(TEMPLATE);
    let again = compare(&reference, &mut set, &after, 2);
    assert_eq!(again.candidate, compared.candidate);
    assert_eq!(again.listeners, compared.listeners);
    after.expose.remove(&1);
    let gone = compare(&reference, &mut set, &after, 3);
    assert_eq!(ports(&gone).0, ["101"]);
    // And the operator releases another.
    reference.released = BTreeSet::from([endpoint(":81")]);
    let released = compare(&reference, &mut set, &after, 3);
    assert_eq!(
        ports(&released),
        (vec!["81".into(), "101".into()], vec!["202".into()])
    );
    assert!(!released.candidate.files[0].text.contains("bind :81\n"));
}

// G18
#[test]
fn another_template_or_unknown_answers_prove_nothing() {
    let mut after = some();
    after.expose.remove(&1);
    let other = TEMPLATE.replace("bind :{{Value}}", "bind :9{{Value}}");
    let (mut reference, compared) = changed(&some(), &after, &other);
    let (go, wait) = ports(&compared);
    assert_eq!(
        (go, wait),
        (vec![], ["101", "102"].map(String::from).to_vec())
    );
    assert!(
        compared
            .listeners
            .wait
            .iter()
            .all(|one| one.reason == Reason::Template)
    );
    if let Some(good) = &mut reference.good {
        good.made_from = None;
    }
    let mut set = templates(TEMPLATE);
    let compared = compare(&reference, &mut set, &after, 2);
    let reasons: Vec<&Reason> = compared
        .listeners
        .wait
        .iter()
        .map(|one| &one.reason)
        .collect();
    assert_eq!(reasons, [&Reason::Unknown]);
    // What a process before this one wrote counts from then on.
    let set = StoredSet {
        revision: compared.candidate.revision.clone(),
        marked: true,
        files: compared.candidate.files.clone(),
        origin: compared.candidate.origin.clone(),
    };
    reference.good = Some(Good::new(Arc::new(set), None));
    reference.now = 5_000;
    let mut set = templates(TEMPLATE);
    let again = compare(&reference, &mut set, &after, 2);
    assert_eq!(again.listeners.wait[0].since, 1_000);
    assert_eq!(again.candidate, compared.candidate);
}

// G18
#[test]
fn an_item_beside_the_listener_on_its_line_did_not_make_it() {
    let text = "\
{{#if (eq (keyOrDefault \"extra\" \"on\") \"on\")}}
frontend f
    bind :80 {{#each (ls \"ports\")}}name p{{Key}} {{/each}}
    bind {{#each (ls \"ports\")}}{{#unless @first}},{{/unless}}:{{Key}}{{/each}}
{{/if}}
frontend g
    bind :90
";
    let mut before = some();
    let mut after = some();
    after.ports.remove(&301);
    let compared = |before: &Catalog, after: &Catalog| {
        let mut set = templates(text);
        let former = before.answers(&set, 1);
        let good = candidate(&mut set, &former);
        let reference = reference(&good, Some(MadeFrom::Answers(Arc::new(former))));
        ports(&compare(&reference, &mut set, after, 2))
    };
    let wait = |ports: &[&str]| (vec![], ports.iter().map(ToString::to_string).collect());
    assert_eq!(compared(&before, &after), wait(&["301"]));
    after.without_extra = true;
    assert_eq!(compared(&before, &after), wait(&["80", "301", "302"]));
    before.ports.clear();
    after.without_extra = false;
    assert_eq!(compared(&before, &after).1, Vec::<String>::new());
}

#[test]
fn a_set_that_cannot_keep_its_listeners_is_left_to_the_gate() {
    let mut after = some();
    after.without_extra = true;
    let (mut reference, _) = changed(&some(), &some(), TEMPLATE);
    let mut set = templates(TEMPLATE);
    let answers = after.answers(&set, 2);
    let plain = candidate(&mut set, &answers);
    let mut check = |reference: &Reference, expected: CannotKeep| {
        let compared = compare(reference, &mut set, &after, 2);
        let wait = &compared.listeners.wait;
        assert_eq!(wait[0].cannot_keep.as_ref(), Some(&expected));
        assert_eq!(*compared.candidate, plain);
    };
    reference.rules.complete = false;
    check(&reference, CannotKeep::OtherFiles);
    reference.rules.complete = true;
    if let Some(good) = &mut reference.good {
        let foreign = StoredSet {
            marked: false,
            ..good.set.as_ref().clone()
        };
        good.set = Arc::new(foreign);
    }
    check(&reference, CannotKeep::Foreign);
    reference.rules.allow_bind_loss = true;
    let compared = compare(&reference, &mut set, &after, 2);
    assert_eq!(compared.listeners, Listeners::default());
}

fn endpoint(address: &str) -> Endpoint {
    let words = lex(address.as_bytes()).unwrap();
    endpoints(&words[0], Transport::Tcp).remove(0)
}

#[test]
fn an_operator_names_a_listener_as_it_is_shown_or_as_it_is_bound() {
    let any = endpoint(":80");
    for address in ["*:80", ":80", "0.0.0.0:80", "ipv4@*:80", " *:80 "] {
        assert!(is_meant(&any, address), "{address}");
    }
    for address in [
        "",
        "80",
        "*:81",
        "127.0.0.1:80",
        "*:80,*:81",
        "*:80 x",
        "\"",
        "*:80-81",
    ] {
        assert!(!is_meant(&any, address), "{address}");
    }
    let quic = endpoint("quic4@:443");
    assert!(is_meant(&quic, &quic.to_string()));
    assert!(is_meant(&endpoint("/run/a.sock"), "unix@/run/a.sock"));
}

fn catalogs() -> impl Strategy<Value = Catalog> {
    let expose = prop::collection::btree_map(1..5u16, 101..104u16, 0..4);
    let services = prop::collection::btree_map(201..205u16, any::<bool>(), 0..4);
    let ports = prop::collection::btree_set(301..305u16, 0..4);
    (expose, services, ports, any::<bool>()).prop_map(|(expose, services, ports, without_extra)| {
        Catalog {
            expose,
            services,
            ports,
            without_extra,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // G18
    #[test]
    fn what_goes_has_lost_its_item_and_all_else_is_still_there(before in catalogs(), after in catalogs()) {
        let (reference, compared) = changed(&before, &after, TEMPLATE);
        let (go, wait) = ports(&compared);
        for port in &go {
            let port: u16 = port.parse().unwrap();
            let keys = before.expose.iter().filter(|(_, value)| **value == port);
            let items_gone = match port {
                101..=103 => keys.into_iter().any(|(key, _)| !after.expose.contains_key(key)),
                201..=204 => !after.services.contains_key(&port),
                301..=304 => !after.ports.contains(&port),
                _ => false,
            };
            prop_assert!(items_gone, "{port}");
        }
        for port in wait {
            let port: u16 = port.parse().unwrap();
            let there = match port {
                101..=103 => before.expose.iter().any(|(key, value)| *value == port && after.expose.contains_key(key)),
                201..=204 => after.services.contains_key(&port),
                81 => after.without_extra,
                _ => false,
            };
            prop_assert!(there, "{port}");
        }
        if let Some(good) = &reference.good
            && compared.listeners.wait.iter().all(|one| one.cannot_keep.is_none())
        {
            let refused = gate::judge(&compared.candidate, Some(&good.set.files), &reference.rules);
            prop_assert!(refused.iter().all(|finding| finding.code != "bind-lost"), "{refused:?}");
        }
    }
}

/// What a former process leaves: answers of a set that did not become the last good one.
fn later(set: &TemplateSet, catalog: &Catalog) -> MadeFrom {
    let answers = catalog.answers(set, 1).into_iter();
    let content = crate::catalog::snapshot::Content {
        revision: "0123456789ab".into(),
        answers: answers
            .map(|(query, known)| crate::catalog::snapshot::Kept {
                query,
                reference: known.answer.len(),
                answer: known.answer,
                age: std::time::Duration::ZERO,
                eased: false,
            })
            .collect(),
        templates: "".into(),
        canary_seen: Vec::new(),
    };
    let text = String::from_utf8(crate::catalog::snapshot::encode(&content, 1)).unwrap();
    MadeFrom::Later(Arc::new(crate::catalog::snapshot::decode(&text).unwrap()))
}

// G18
#[test]
fn another_process_knows_what_a_listener_was_made_from() {
    // 101 has gone from the last good set, the set without it is not confirmed, and then 102 goes.
    let mut first = some();
    first.expose.remove(&1);
    first.without_extra = true;
    let (reference, compared) = changed(&some(), &first, TEMPLATE);
    assert_eq!(ports(&compared), (vec!["101".into()], vec!["81".into()]));
    let left = Left {
        released: BTreeSet::new(),
        judged: compared.listeners.judged(),
    };
    let left = Left::decode(&String::from_utf8(left.encode()).unwrap()).unwrap();
    let mut set = templates(TEMPLATE);
    let mut next = Reference {
        judged: left.judged,
        now: 9_000,
        ..reference
    };
    let from = later(&set, &first);
    let good = next.good.take().unwrap();
    next.good = Some(Good::new(good.set, Some(from)));
    let mut second = first.clone();
    second.expose.remove(&2);
    second.ports.remove(&302);
    let compared = compare(&next, &mut set, &second, 3);
    let (go, wait) = ports(&compared);
    assert_eq!(go, ["101", "102", "302"]);
    assert_eq!(wait, ["81"]);
    assert_eq!(compared.listeners.wait[0].reason, Reason::Condition);
    assert_eq!(compared.listeners.wait[0].since, 1_000);

    // Without what was found out, a later set proves nothing about what it does not have.
    next.judged = Vec::new();
    let compared = compare(&next, &mut set, &second, 4);
    let (go, wait) = ports(&compared);
    assert_eq!(go, ["102", "302"]);
    assert_eq!(wait, ["81", "101"]);
    let mut reasons = compared.listeners.wait.iter().map(|one| &one.reason);
    assert!(reasons.all(|reason| *reason == Reason::Unknown));
}
