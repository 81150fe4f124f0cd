//! Servers go on while the newest set cannot be applied: which set is rendered and applied when.

use super::*;
use crate::agent::core::Obstacle;
use crate::catalog::KeyValue;
use crate::catalog::snapshot::{Snapshot, decode, encode};

fn key() -> Query {
    Query::key("mode")
}

fn used() -> BTreeSet<Query> {
    BTreeSet::from([key(), Query::service("web")])
}

/// A machine whose templates read a key and a service.
struct Stage {
    bench: Bench,
    templates: Arc<str>,
}

impl Stage {
    /// One instance and the key "a" are applied.
    fn new() -> Stage {
        let mut stage = Stage {
            bench: Bench {
                by_commands: true,
                ..Bench::new()
            },
            templates: "one".into(),
        };
        stage.load();
        stage.key(Some("a"));
        stage.web(1);
        assert_eq!(stage.complete("a 1"), []);
        assert_eq!(stage.running(), "a 1");
        stage
    }

    fn load(&mut self) -> Vec<Action> {
        self.bench.event(Event::Loaded(Ok(Loaded {
            templates: Arc::clone(&self.templates),
            literal: used(),
            warnings: Vec::new(),
        })))
    }

    fn answer(&mut self, query: Query, answer: Arc<Answer>) -> Vec<Action> {
        let watch = self.bench.core.watches()[&query].id;
        self.bench.event(Event::Answered {
            watch,
            query,
            answer: Some(answer),
            age: Duration::ZERO,
            filtered: false,
        })
    }

    fn key(&mut self, value: Option<&str>) -> Vec<Action> {
        let value = value.map(|value| KeyValue {
            path: "mode".into(),
            value: Some(value.into()),
        });
        self.answer(key(), Arc::new(Answer::Key(value)))
    }

    fn web(&mut self, count: usize) -> Vec<Action> {
        self.answer(Query::service("web"), super::guard::web(count))
    }

    fn rendered(text: &str) -> Rendered {
        Rendered::Complete {
            candidate: candidate(text),
            used: used(),
            quarantined: Vec::new(),
            noted: BTreeMap::new(),
            listeners: Listeners::default(),
        }
    }

    fn complete(&mut self, text: &str) -> Vec<Action> {
        self.bench.event(Event::Rendered(Stage::rendered(text)))
    }

    fn interim(&mut self, text: &str) -> Vec<Action> {
        let event = Event::RenderedInterim(Stage::rendered(text));
        self.bench.event(event)
    }

    /// The text of the set in force, of those that these tests make.
    fn running(&self) -> String {
        let applied = &self
            .bench
            .core
            .applied()
            .expect("nothing is applied")
            .revision;
        let texts = ["a", "b", "c"].map(|key| [1, 2, 3, 4].map(|web| format!("{key} {web}")));
        let mut texts = texts.into_iter().flatten();
        let found = texts.find(|text| candidate(text).revision == *applied);
        found.expect("another set")
    }

    fn kept(&self) -> Option<Obstacle> {
        self.bench.core.structure_kept().map(|kept| kept.obstacle)
    }

    /// The newest set is refused, with the key "b".
    fn refused() -> Stage {
        let mut stage = Stage::new();
        assert_renders(&stage.key(Some("b")), "b", 1);
        stage.bench.by_commands = false;
        stage.complete("b 1");
        assert_eq!(
            stage.bench.wait(),
            [Action::Apply(candidate("b 1"), Means::Any)]
        );
        stage.bench.by_commands = true;
        let refused = ended("b 1", Outcome::Refused(vec![Diagnostic::error("x", "No.")]));
        assert_eq!(stage.bench.event(refused), []);
        assert_eq!(stage.kept(), Some(Obstacle::Refused));
        stage
    }
}

fn shown(answers: &Answers) -> (Option<String>, usize) {
    let key = match &*answers.0[&key()].answer {
        Answer::Key(Some(key)) => key.value.clone(),
        _ => None,
    };
    (key, answers.0[&Query::service("web")].answer.len())
}

#[track_caller]
fn assert_renders(actions: &[Action], key: &str, web: usize) {
    match actions {
        [Action::Render(answers)] => assert_eq!(shown(answers), (Some(key.to_owned()), web)),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_renders_interim(actions: &[Action], templates: &str, key: &str, web: usize) {
    match actions {
        [Action::RenderInterim(answers, by)] => {
            assert_eq!(shown(answers), (Some(key.to_owned()), web));
            assert_eq!(&**by, templates);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn servers_go_on_while_the_newest_set_is_refused() {
    let mut stage = Stage::refused();
    for web in 2..4 {
        assert_renders_interim(&stage.web(web), "one", "a", web);
        // Applied by commands at once; the newest set is rendered behind it.
        let text = format!("a {web}");
        assert_renders(&stage.interim(&text), "b", web);
        assert_eq!(stage.running(), text);
        assert_eq!(stage.kept(), Some(Obstacle::Refused));
        let newest = format!("b {web}");
        stage.bench.by_commands = false;
        assert_eq!(stage.complete(&newest), []);
        let due = stage.bench.wait();
        assert_eq!(due, [Action::Apply(candidate(&newest), Means::Any)]);
        stage.bench.by_commands = true;
        let why = vec![Diagnostic::error("x", "No.")];
        stage.bench.event(ended(&newest, Outcome::Refused(why)));
        assert_eq!(stage.running(), text);
    }
    // The key is mended: the newest set is the one in force.
    assert_renders(&stage.key(Some("a")), "a", 3);
    assert_eq!(stage.complete("a 3"), []);
    assert_eq!(stage.kept(), None);
    assert_eq!(stage.bench.core.refused(), None);
}

#[test]
fn servers_go_on_while_a_key_is_missing() {
    let mut stage = Stage::new();
    assert!(matches!(stage.key(None)[..], [Action::Render(_)]));
    let waits = |stage: &mut Stage| {
        stage.bench.event(Event::Rendered(Rendered::Incomplete {
            needed: BTreeSet::new(),
            absent: BTreeSet::from([key()]),
            used: used(),
        }))
    };
    assert_eq!(waits(&mut stage), []);
    assert_eq!(stage.kept(), Some(Obstacle::Waiting));
    assert_renders_interim(&stage.web(2), "one", "a", 2);
    assert!(matches!(stage.interim("a 2")[..], [Action::Render(_)]));
    assert_eq!(stage.running(), "a 2");
    waits(&mut stage);
    // It exists again, with another value.
    assert_renders(&stage.key(Some("b")), "b", 2);
    assert_eq!(stage.complete("b 2"), []);
    assert_eq!((stage.running().as_str(), stage.kept()), ("b 2", None));
}

#[test]
fn servers_go_on_while_templates_fail_and_by_the_former_ones() {
    let mut stage = Stage::new();
    stage.bench.event(Event::TemplatesChanged);
    stage.templates = "two".into();
    assert_renders(&stage.load(), "a", 1);
    let fails = |stage: &mut Stage| {
        let error = Diagnostic::error("helper", "It fails.");
        stage
            .bench
            .event(Event::Rendered(Rendered::Failed(vec![error])))
    };
    assert_eq!(fails(&mut stage), []);
    assert_renders_interim(&stage.web(2), "one", "a", 2);
    assert!(matches!(stage.interim("a 2")[..], [Action::Render(_)]));
    assert_eq!(stage.running(), "a 2");
    assert_eq!(stage.kept(), Some(Obstacle::Rendering));
    fails(&mut stage);
    // A former template that fails as well says so, once.
    stage.web(3);
    let error = Diagnostic::error("helper", "It fails.");
    let event = Event::RenderedInterim(Rendered::Failed(vec![error]));
    stage.bench.event(event);
    let kept = stage.bench.core.structure_kept().unwrap();
    assert_eq!(
        kept.not_current.as_deref(),
        Some(
            "The servers of the last good set are not kept current, because that set cannot be rendered: It fails."
        )
    );
}

#[test]
fn servers_go_on_while_a_reload_waits_and_it_never_takes_them_back() {
    let mut stage = Stage::new();
    stage.key(Some("b"));
    stage.bench.by_commands = false;
    assert_eq!(stage.complete("b 1"), []);
    stage.bench.by_commands = true;
    // It waits for a quiet time.
    assert_renders_interim(&stage.web(2), "one", "a", 2);
    assert_eq!(stage.interim("a 2"), []);
    assert_eq!(
        (stage.running().as_str(), stage.kept()),
        ("a 2", Some(Obstacle::Reload))
    );
    // The set that waits is older than these servers, so it is rendered again before it is loaded.
    stage.bench.by_commands = false;
    assert_renders(&stage.bench.wait(), "b", 2);
    let loads = Action::Apply(candidate("b 2"), Means::Any);
    assert_eq!(stage.complete("b 2"), [loads]);
    stage.bench.event(confirmed("b 2"));
    assert_eq!((stage.running().as_str(), stage.kept()), ("b 2", None));
}

#[test]
fn a_restless_catalog_does_not_starve_a_reload_beside_interim_sets() {
    let mut stage = Stage::new();
    stage.bench.after(TIMING.reload_interval);
    stage.key(Some("b"));
    stage.bench.by_commands = false;
    stage.complete("b 1");
    let start = stage.bench.now;
    let mut web = 1;
    let mut queue = Vec::new();
    while !queue
        .iter()
        .any(|one| matches!(one, Action::Apply(_, Means::Any)))
    {
        assert!(
            stage.bench.now - start < TIMING.max_settle * 2,
            "it starves"
        );
        let render = |one: &Action| matches!(one, Action::Render(_) | Action::RenderInterim(..));
        match queue.iter().position(render).map(|at| queue.remove(at)) {
            Some(Action::Render(answers)) => {
                stage.bench.by_commands = false;
                let text = format!("b {}", shown(&answers).1);
                queue.extend(stage.complete(&text));
            }
            Some(Action::RenderInterim(answers, _)) => {
                stage.bench.by_commands = true;
                let text = format!("a {}", shown(&answers).1);
                queue.extend(stage.interim(&text));
            }
            _ => {
                web += 1;
                let mut more = stage.bench.after(Duration::from_millis(10));
                more.extend(stage.web(web));
                queue.extend(more);
            }
        }
    }
}

#[test]
fn the_same_set_is_not_made_twice() {
    // Nothing but instances differs: what is refused is refused for them.
    let mut stage = Stage::new();
    stage.web(2);
    stage.bench.by_commands = false;
    stage.complete("a 2");
    stage.bench.wait();
    let why = vec![Diagnostic::error("x", "No.")];
    assert_eq!(stage.bench.event(ended("a 2", Outcome::Refused(why))), []);
    assert!(matches!(stage.web(3)[..], [Action::Render(_)]));
}

#[test]
fn an_interim_set_that_is_refused_or_fails_says_so() {
    let mut stage = Stage::refused();
    stage.web(2);
    stage.bench.by_commands = false;
    // It needs a reload.
    assert_renders(&stage.interim("a 2"), "b", 2);
    assert_eq!(stage.complete("b 1"), []);
    let reload = Action::Apply(candidate("a 2"), Means::Any);
    assert_eq!(stage.bench.wait(), [reload]);
    let failed = Outcome::Failed("The disk is full.".into());
    assert_eq!(stage.bench.event(ended("a 2", failed)), []);
    assert_eq!(stage.bench.core.failure(), None);
    assert_eq!(
        stage.bench.wait(),
        [Action::Apply(candidate("a 2"), Means::Any)]
    );
    let why = vec![Diagnostic::error("x", "No.")];
    stage.bench.event(ended("a 2", Outcome::Refused(why)));
    let stale = |stage: &Stage| {
        let kept = stage.bench.core.structure_kept().unwrap();
        let sentence = "The servers of service \"web\" stay as they were: a set with their newest data is refused.";
        assert_eq!(kept.not_current.as_deref(), Some(sentence));
        assert_eq!(stage.running(), "a 1");
    };
    stale(&stage);
    // What has nothing to do with it does not make them current.
    assert_renders(&stage.key(Some("c")), "c", 2);
    stale(&stage);
    // After a while it is tried again.
    stage.complete("c 2");
    let mut tried = Vec::new();
    for _ in 0..20 {
        match &stage.bench.wait()[..] {
            [Action::RenderInterim(..)] => {
                stage.bench.by_commands = true;
                tried = stage.interim("a 2");
                break;
            }
            [Action::Apply(set, _)] => {
                let text = if set.revision == candidate("c 2").revision {
                    "c 2"
                } else {
                    "b 1"
                };
                let why = vec![Diagnostic::error("x", "No.")];
                tried.extend(stage.bench.event(ended(text, Outcome::Refused(why))));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.running(), "a 2", "{tried:?}");
}

#[test]
fn servers_go_on_after_a_restart_with_broken_templates() {
    // What the former process left.
    let mut stage = Stage::new();
    stage.bench.core = stage.bench.core.remember(
        Rules {
            enabled: false,
            ..Rules::default()
        },
        Memory::new(None, None, stage.bench.now, 1_000),
    );
    stage.web(2);
    stage.complete("a 2");
    let content = stage.bench.core.last_snapshot(stage.bench.now).unwrap();
    assert_eq!(&*content.templates, "one");
    let text = String::from_utf8(encode(&content, 1_000)).unwrap();
    let snapshot: Snapshot = decode(&text).unwrap();
    let good = candidate("a 2").revision.clone();

    let mut bench = Bench {
        by_commands: true,
        ..Bench::new()
    };
    let memory = Memory::new(Some(snapshot), Some(&good), bench.now, 1_000);
    let rules = Rules {
        enabled: false,
        ..Rules::default()
    };
    bench.core = bench.core.remember(rules, memory);
    let mut stage = Stage {
        bench,
        templates: "broken".into(),
    };
    let broken = Event::Loaded(Err(vec![Diagnostic::error("syntax", "It is broken.")]));
    let actions = stage.bench.event(broken);
    assert!(
        matches!(&actions[..], [Action::RenderInterim(answers, by)] if answers.0.is_empty() && &**by == "one"),
        "{actions:?}"
    );
    assert_eq!(stage.kept(), Some(Obstacle::Templates));
    // What it asks is watched, and is as it was until the catalog answers.
    let event = Event::RenderedInterim(Rendered::Incomplete {
        needed: used(),
        absent: BTreeSet::new(),
        used: used(),
    });
    let actions = stage.bench.event(event);
    let (watches, rest) = actions.split_at(2);
    assert!(
        watches
            .iter()
            .all(|one| matches!(one, Action::StartWatch(..)))
    );
    assert_renders_interim(rest, "one", "a", 2);
    assert_eq!(stage.interim("a 2"), []);
    assert_eq!(stage.running(), "a 2");
    assert_eq!(stage.key(Some("b")), []);
    assert_renders_interim(&stage.web(3), "one", "a", 3);
    assert_eq!(stage.interim("a 3"), []);
    assert_eq!(stage.running(), "a 3");
    // The templates are mended.
    stage.templates = "two".into();
    assert_renders(&stage.load(), "b", 3);
    assert_eq!(stage.complete("b 3"), []);
    assert_eq!((stage.running().as_str(), stage.kept()), ("b 3", None));
}

#[test]
fn without_the_former_templates_it_says_so() {
    let mut bench = Bench::new();
    let good = candidate("a 1").revision.clone();
    let memory = Memory::new(None, Some(&good), bench.now, 1_000);
    bench.core = bench.core.remember(Rules::default(), memory);
    let broken = Event::Loaded(Err(vec![Diagnostic::error("syntax", "It is broken.")]));
    assert!(matches!(
        bench.event(broken)[..],
        [Action::RenderInterim(..)]
    ));
    let unknown = vec![Diagnostic::error(
        crate::template::NO_TEMPLATES,
        "the templates of the last good set are not known",
    )];
    let event = Event::RenderedInterim(Rendered::Failed(unknown));
    let said = |action: &Action| match action {
        Action::Say(notice) => Some(notice.message.clone()),
        _ => None,
    };
    let actions = bench.core.handle(event, bench.now);
    assert_eq!(
        actions.iter().filter_map(said).collect::<Vec<_>>(),
        [
            "The servers of the last good set are not kept current, because the templates of the last good set are not known. That set stays in force, because the templates on disk cannot be read."
        ]
    );
}

#[test]
fn one_service_with_bad_data_stops_no_other() {
    let names = ["a", "b", "c"];
    let all = services(&names);
    let mut bench = Bench {
        by_commands: true,
        ..Bench::new()
    };
    bench.event(loaded(&names));
    for name in names {
        bench.answer(name, 1);
    }
    let set = |numbers: [usize; 3]| format!("{numbers:?}");
    let rendered = |numbers: [usize; 3]| Rendered::Complete {
        candidate: candidate(&set(numbers)),
        used: all.clone(),
        quarantined: Vec::new(),
        noted: BTreeMap::new(),
        listeners: Listeners::default(),
    };
    let numbers =
        |answers: &Answers| names.map(|name| answers.0[&Query::service(name)].answer.len());
    assert_eq!(bench.event(Event::Rendered(rendered([1; 3]))), []);
    // HAProxy refuses what has 2 of `b`; every service changes in one burst.
    let play = |bench: &mut Bench, mut queue: Vec<Action>| {
        let mut tried = Vec::new();
        for _ in 0..40 {
            let Some(action) = queue.pop() else { break };
            let (answers, interim) = match &action {
                Action::Render(answers) => (answers, false),
                Action::RenderInterim(answers, _) => (answers, true),
                Action::Apply(..) => continue,
                other => panic!("{other:?}"),
            };
            let made = numbers(answers);
            let bad = made[1] == 2;
            bench.by_commands = !bad;
            let event = match interim {
                true => Event::RenderedInterim(rendered(made)),
                false => Event::Rendered(rendered(made)),
            };
            tried.push((made, interim));
            queue.extend(bench.event(event));
            if bad {
                if !bench.core.is_applying() {
                    bench.wait();
                }
                bench.by_commands = true;
                let why = vec![Diagnostic::error("x", "No.")];
                queue.extend(bench.event(ended(&set(made), Outcome::Refused(why))));
            }
        }
        tried
    };
    let runs = |bench: &Bench, numbers: [usize; 3]| {
        let applied = bench.core.applied().map(|applied| applied.revision.clone());
        assert_eq!(applied, Some(candidate(&set(numbers)).revision.clone()));
    };
    let mut queue = Vec::new();
    for (name, count) in [("a", 2), ("b", 2), ("c", 2)] {
        queue.extend(bench.answer(name, count));
    }
    queue.truncate(1);
    // The rendering under way is of the first change alone.
    play(&mut bench, queue);
    for _ in 0..4 {
        let more = bench.after(TIMING.reload_interval);
        play(&mut bench, more);
    }
    runs(&bench, [2, 1, 2]);
    let kept = bench.core.structure_kept().unwrap();
    assert_eq!(
        kept.not_current.as_deref(),
        Some(
            "The servers of service \"b\" stay as they were: a set with their newest data is refused."
        )
    );
    // The others go on, and it is tried again once it has changed.
    let more = bench.answer("c", 3);
    play(&mut bench, more);
    runs(&bench, [2, 1, 3]);
    let more = bench.answer("b", 3);
    play(&mut bench, more);
    bench.after(TIMING.reload_interval);
    runs(&bench, [2, 3, 3]);
    assert_eq!(bench.core.structure_kept(), None);
}

#[test]
fn a_structure_that_a_killed_process_left_may_change_servers_only() {
    // The process was killed a moment after the last change, before it was on disk.
    let left = |needs_reload: bool| {
        let mut stage = Stage::new();
        let rules = Rules {
            enabled: false,
            ..Rules::default()
        };
        let memory = Memory::new(None, None, stage.bench.now, 1_000);
        stage.bench.core = stage.bench.core.remember(rules.clone(), memory);
        stage.web(2);
        stage.complete("a 2");
        let content = stage.bench.core.last_snapshot(stage.bench.now).unwrap();
        let text = String::from_utf8(encode(&content, 1_000)).unwrap();
        let mut bench = Bench {
            by_commands: !needs_reload,
            ..Bench::new()
        };
        let newer = candidate("a 3").revision.clone();
        let memory = Memory::new(Some(decode(&text).unwrap()), Some(&newer), bench.now, 1_000);
        bench.core = bench.core.remember(rules, memory);
        let mut stage = Stage {
            bench,
            templates: "broken".into(),
        };
        let broken = vec![Diagnostic::error("syntax", "It is broken.")];
        stage.bench.event(Event::Loaded(Err(broken)));
        assert!(stage.bench.core.changes_servers_only());
        let incomplete = |needed: BTreeSet<Query>| {
            Event::RenderedInterim(Rendered::Incomplete {
                needed,
                absent: BTreeSet::new(),
                used: used(),
            })
        };
        // The servers that it left may be older than those of the set in force.
        let actions = silent(stage.bench.event(incomplete(used())));
        assert!(
            matches!(&actions[..], [.., Action::RenderInterim(answers, _)] if answers.0.len() == 1)
        );
        let web = BTreeSet::from([Query::service("web")]);
        assert_eq!(stage.bench.event(incomplete(web)), []);
        assert_eq!(stage.kept(), Some(Obstacle::Templates));
        // The answer is of the query alone; the key's is still the former one.
        let actions = stage.web(3);
        assert!(
            matches!(&actions[..], [Action::RenderInterim(..)]),
            "{actions:?}"
        );
        stage.interim("a 3");
        stage
    };
    let stage = left(false);
    assert_eq!(stage.running(), "a 3");
    assert!(!stage.bench.core.changes_servers_only());
    let stage = left(true);
    assert_eq!(stage.bench.core.applied(), None);
    let kept = stage.bench.core.structure_kept().unwrap();
    assert_eq!(
        kept.not_current.as_deref(),
        Some(
            "The servers of the last good set are not kept current, because that set is newer than the answers that are known."
        )
    );
}

/// A mended key makes the newest set the one that is just being applied as an interim set, which fails.
#[test]
fn an_interim_set_that_became_the_newest_one_is_tried_as_that() {
    let mut stage = Stage::new();
    stage.key(None);
    stage.bench.event(Event::Rendered(Rendered::Incomplete {
        needed: BTreeSet::new(),
        absent: BTreeSet::from([key()]),
        used: used(),
    }));
    assert_renders_interim(&stage.web(2), "one", "a", 2);
    let event = Event::RenderedInterim(Stage::rendered("a 2"));
    let actions = silent(stage.bench.core.handle(event, stage.bench.now));
    let apply = Action::Apply(candidate("a 2"), Means::Commands);
    assert!(actions.contains(&apply), "{actions:?}");
    let absent = Rendered::Incomplete {
        needed: BTreeSet::new(),
        absent: BTreeSet::from([key()]),
        used: used(),
    };
    if actions.iter().any(|one| matches!(one, Action::Render(_))) {
        stage.bench.event(Event::Rendered(absent));
    }
    assert_renders(&stage.key(Some("a")), "a", 2);
    assert_eq!(stage.complete("a 2"), []);
    let failed = Outcome::Failed("No answer.".into());
    assert_eq!(stage.bench.event(ended("a 2", failed)), []);
    assert!(stage.bench.core.failure().is_some());
    let loads = Action::Apply(candidate("a 2"), Means::Any);
    assert_eq!(stage.bench.wait(), [loads]);
    stage.bench.event(confirmed("a 2"));
    assert_eq!((stage.running().as_str(), stage.kept()), ("a 2", None));
    assert_eq!(stage.bench.core.failure(), None);
}

#[test]
fn a_bad_service_costs_no_other_while_a_key_is_missing() {
    let names = ["b", "c"];
    let all: BTreeSet<Query> = services(&names).into_iter().chain([key()]).collect();
    let mut bench = Bench {
        by_commands: true,
        ..Bench::new()
    };
    bench.event(Event::Loaded(Ok(Loaded {
        templates: "one".into(),
        literal: all.clone(),
        warnings: Vec::new(),
    })));
    let of_key = |bench: &mut Bench, value: Option<&str>| {
        let watch = bench.core.watches()[&key()].id;
        let value = value.map(|value| KeyValue {
            path: "mode".into(),
            value: Some(value.into()),
        });
        bench.event(Event::Answered {
            watch,
            query: key(),
            answer: Some(Arc::new(Answer::Key(value))),
            age: Duration::ZERO,
            filtered: false,
        })
    };
    let set = |numbers: [usize; 2]| format!("{numbers:?}");
    let rendered = |numbers: [usize; 2]| Rendered::Complete {
        candidate: candidate(&set(numbers)),
        used: all.clone(),
        quarantined: Vec::new(),
        noted: BTreeMap::new(),
        listeners: Listeners::default(),
    };
    of_key(&mut bench, Some("a"));
    bench.answer("b", 1);
    bench.answer("c", 1);
    bench.event(Event::Rendered(rendered([1, 1])));
    let mut queue = of_key(&mut bench, None);
    queue.extend(bench.answer("b", 2));
    queue.extend(bench.answer("c", 2));
    let absent = || Rendered::Incomplete {
        needed: BTreeSet::new(),
        absent: BTreeSet::from([key()]),
        used: all.clone(),
    };
    for _ in 0..30 {
        let Some(action) = queue.pop() else {
            queue.extend(bench.after(Duration::from_secs(1)));
            continue;
        };
        match action {
            Action::Render(_) => queue.extend(bench.event(Event::Rendered(absent()))),
            Action::RenderInterim(answers, _) => {
                let made = names.map(|name| answers.0[&Query::service(name)].answer.len());
                bench.by_commands = made[0] == 1;
                let event = Event::RenderedInterim(rendered(made));
                queue.extend(bench.event(event));
                bench.by_commands = true;
            }
            // What only a reload would do is refused, for the data of `b`.
            Action::Apply(set, _) => {
                let revision = set.revision.clone();
                let outcome = Outcome::Refused(vec![Diagnostic::error("x", "No.")]);
                queue.extend(bench.event(Event::Applied { revision, outcome }));
            }
            other => panic!("{other:?}"),
        }
    }
    let applied = bench.core.applied().map(|applied| applied.revision.clone());
    assert_eq!(applied, Some(candidate(&set([1, 2])).revision.clone()));
    let kept = bench.core.structure_kept().unwrap();
    assert!(kept.not_current.unwrap().contains("service \"b\""));
}
