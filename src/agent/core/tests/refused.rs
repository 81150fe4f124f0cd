//! Queries that the catalog refuses for their names or for the size of their answers.

use super::*;
use crate::catalog::ServiceName;

impl Bench {
    fn fails(&mut self, query: &Query, refused: bool) -> Vec<Action> {
        self.fails_again(query, refused, 3, None)
    }

    fn fails_again(
        &mut self,
        query: &Query,
        refused: bool,
        attempts: u32,
        outage: Option<&str>,
    ) -> Vec<Action> {
        let event = Event::WatchFailed {
            watch: self.core.watches()[query].id,
            query: query.clone(),
            error: "Consul rejected the query.".into(),
            attempts,
            refused,
            outage: outage.map(str::to_owned),
        };
        self.event(event)
    }
}

/// The answers of a rendering, by how many items each has.
fn rendered(actions: &[Action]) -> Vec<(String, usize)> {
    match actions {
        [Action::Render(answers)] => {
            let answers = answers.0.iter();
            answers
                .map(|(query, known)| (query.to_string(), known.answer.len()))
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

fn all() -> Query {
    let kind = Kind::Services {
        node_meta: BTreeMap::new(),
        filter: None,
    };
    Query {
        kind,
        scope: Query::service("").scope,
    }
}

/// A bench that has read a list of services, asked for these, and rendered nothing yet.
fn asked(names: &[&str], more: &[Query]) -> Bench {
    let mut bench = Bench::new();
    bench.event(Event::Loaded(Ok(Loaded {
        templates: "".into(),
        literal: BTreeSet::from([all()]),
        warnings: Vec::new(),
    })));
    let listed = |name: &&str| ServiceName {
        name: (*name).to_owned(),
        tags: Vec::new(),
        tags_left_out: 0,
    };
    let watch = bench.core.watches()[&all()].id;
    bench.event(Event::Answered {
        watch,
        query: all(),
        answer: Some(Arc::new(Answer::Services(
            names.iter().map(listed).collect(),
        ))),
        age: Duration::ZERO,
        filtered: false,
    });
    let mut needed = services(names);
    needed.extend(more.iter().cloned());
    let used = needed.iter().cloned().chain([all()]).collect();
    bench.event(Event::Rendered(Rendered::Incomplete {
        needed,
        absent: BTreeSet::new(),
        used,
    }));
    bench
}

#[test]
fn a_listed_service_whose_query_is_refused_is_left_out_alone() {
    let mut bench = asked(&["bad", "good"], &[]);
    bench.answer("good", 2);
    let actions = bench.fails(&Query::service("bad"), true);
    let bad = ("service \"bad\"".to_owned(), 0);
    assert!(rendered(&actions).contains(&bad));
    let used = bench.core.watches().keys().cloned().collect();
    bench.event(Event::Rendered(Rendered::Complete {
        candidate: candidate("one"),
        used,
        quarantined: Vec::new(),
        noted: BTreeMap::new(),
        listeners: Listeners::default(),
    }));
    let told = ["Service \"bad\" is left out because its query fails: Consul rejected the query."];
    assert_eq!(bench.core.quarantined, told);
    // Asked again it is refused again, which changes nothing.
    let left_out = |bench: &Bench| bench.core.watches()[&Query::service("bad")].left_out;
    bench.fails(&Query::service("bad"), true);
    assert!(left_out(&bench));
    bench.answer("bad", 1);
    assert!(!left_out(&bench));
    assert!(bench.core.left_out().is_empty());
}

#[test]
fn a_refused_query_is_waited_for_unless_its_name_is_a_listed_one() {
    // A name that the template writes, a filter, and a failure of the catalog.
    let mut filtered = Query::service("good");
    if let Kind::Service { filter, .. } = &mut filtered.kind {
        *filter = Some("Tags ==".to_owned());
    }
    let other = Query::service("other");
    let mut bench = asked(&["good"], &[filtered.clone(), other.clone()]);
    bench.fails(&filtered, true);
    bench.fails(&other, true);
    bench.fails(&Query::service("good"), false);
    for query in [&filtered, &other, &Query::service("good")] {
        assert!(bench.core.watches()[query].known.is_none(), "{query}");
    }
}

#[test]
fn a_refused_query_keeps_the_answer_it_had() {
    let mut bench = asked(&["good"], &[]);
    let actions = bench.answer("good", 2);
    let good = ("service \"good\"".to_owned(), 2);
    assert!(rendered(&actions).contains(&good));
    bench.fails(&Query::service("good"), true);
    let known = bench.core.watches()[&Query::service("good")].known.clone();
    assert_eq!(known.map(|known| known.answer.len()), Some(2));
    assert!(!bench.core.watches()[&Query::service("good")].left_out);
}

/// A proxy, an agent that starts, or an outage may refuse everything for a while.
#[test]
fn a_query_that_is_refused_for_a_while_leaves_no_service_out() {
    let mut bench = asked(&["good"], &[]);
    let good = Query::service("good");
    for attempt in 1..3 {
        bench.fails_again(&good, true, attempt, None);
    }
    bench.fails_again(&good, true, 9, Some("Consul cannot be reached."));
    assert!(bench.core.watches()[&good].known.is_none());
    // In another datacenter it may be another service.
    let mut far = good.clone();
    far.scope.datacenter = Some("dc2".to_owned());
    let mut bench = asked(&["good"], std::slice::from_ref(&far));
    bench.fails(&far, true);
    assert!(bench.core.watches()[&far].known.is_none());
}
