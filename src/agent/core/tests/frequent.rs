//! Services that change the structure of the configuration again and again.

use super::*;
use crate::agent::core::frequent::{shapes, steadied_instances};
use crate::catalog::Instance;

fn instance(id: u8, tag: &str) -> Instance {
    Instance {
        tags: [tag.to_owned()].into(),
        ..Instance::plain("web", "n", &id.to_string(), "10.0.0.1", i64::from(id))
    }
}

/// A bench whose configuration is what the answers make of it: tags are structure, ports are servers.
struct Stage {
    bench: Bench,
    structure: String,
    reloads: usize,
    said: Vec<String>,
}

impl Stage {
    fn new() -> Stage {
        let mut bench = Bench::new();
        bench.looks = false;
        bench.event(loaded(&["api", "web"]));
        let mut stage = Stage {
            bench,
            structure: String::new(),
            reloads: 0,
            said: Vec::new(),
        };
        stage.show("api", &[instance(1, "a")]);
        stage.show("web", &[instance(1, "a"), instance(2, "a")]);
        stage.pass(Duration::from_secs(20));
        assert_eq!(stage.reloads, 1);
        stage
    }

    fn show(&mut self, service: &str, list: &[Instance]) {
        let query = Query::service(service);
        let event = Event::Answered {
            watch: self.bench.core.watches()[&query].id,
            query,
            answer: Some(Arc::new(Answer::Instances(list.to_vec()))),
            age: Duration::ZERO,
            filtered: false,
        };
        let actions = self.bench.core.handle(event, self.bench.now);
        self.carry_out(actions, 0);
    }

    fn carry_out(&mut self, actions: Vec<Action>, old_workers: usize) {
        for action in actions {
            let event = match action {
                Action::Render(answers) => complete(&text(&answers), &["api", "web"]),
                Action::RenderInterim(answers, _) => {
                    let Event::Rendered(rendered) = complete(&text(&answers), &["api", "web"])
                    else {
                        unreachable!()
                    };
                    Event::RenderedInterim(rendered)
                }
                Action::Apply(set, means) => {
                    let structure = structure(&set.files[0].text);
                    let same = structure == self.structure;
                    let outcome = match (same, means) {
                        (true, _) => by_commands(),
                        (false, Means::Commands) => Outcome::NeedsReload("tags".into()),
                        (false, _) => {
                            self.structure = structure;
                            self.reloads += 1;
                            Outcome::Confirmed {
                                means: "reload".into(),
                                reloaded: true,
                                changes: String::new(),
                                took: Duration::ZERO,
                            }
                        }
                    };
                    let revision = set.revision.clone();
                    Event::Applied { revision, outcome }
                }
                Action::Observe => Event::Observed(Observed {
                    reachable: true,
                    running: self.bench.core.applied().map(|one| one.revision.clone()),
                    old_workers,
                    ..Observed::default()
                }),
                Action::Say(notice) => {
                    self.said.push(notice.message);
                    continue;
                }
                _ => continue,
            };
            let more = self.bench.core.handle(event, self.bench.now);
            self.carry_out(more, old_workers);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.pass_with(time, 0);
    }

    /// Lets time pass while so many old workers live.
    fn pass_with(&mut self, time: Duration, old_workers: usize) {
        let end = self.bench.now + time;
        for _ in 0..10_000 {
            let due = self.bench.core.poll_timeout().unwrap_or(end).min(end);
            self.bench.now = self.bench.now.max(due);
            let actions = self.bench.core.handle_timeout(self.bench.now);
            self.carry_out(actions, old_workers);
            if self.bench.now >= end {
                return;
            }
        }
        panic!("it spins");
    }

    fn runs(&self) -> &str {
        let in_force = self.bench.core.in_force.as_ref().unwrap();
        &in_force.files[0].text
    }
}

fn text(answers: &Answers) -> String {
    let lines = answers.0.iter().map(|(query, known)| match &*known.answer {
        Answer::Instances(list) => {
            let tags: BTreeSet<&String> = list.iter().flat_map(|one| one.tags.iter()).collect();
            let ports: Vec<i64> = list.iter().map(|one| one.port).collect();
            format!("{query} {tags:?}|{ports:?}\n")
        }
        other => panic!("{other:?}"),
    });
    lines.collect()
}

fn structure(text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.split_once('|'));
    lines.map(|(tags, _)| tags).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_service_causes_three_reloads_a_minute_and_others_go() {
    let mut stage = Stage::new();
    for round in 0..20 {
        let tag = format!("t{round}");
        let port = 50 + round;
        let mut one = instance(1, &tag);
        one.port = i64::from(port);
        stage.show("web", &[one, instance(2, &tag)]);
        stage.pass(Duration::from_millis(2_600));
        // Its servers are those of now, whatever its tags are.
        assert!(
            stage.runs().contains(&format!("[{port}, 2]")),
            "{}",
            stage.runs()
        );
    }
    assert_eq!(stage.reloads, 1 + 3);
    assert!(stage.runs().contains("t2"), "{}", stage.runs());
    let said = stage.said.iter().filter(|said| said.contains("too often"));
    assert_eq!(said.count(), 1, "{:?}", stage.said);
    // Another service's change goes meanwhile, alone.
    stage.show("api", &[instance(1, "b")]);
    stage.pass(Duration::from_millis(2_600));
    assert!(stage.runs().contains("\"b\""), "{}", stage.runs());
    assert!(stage.runs().contains("t2"), "{}", stage.runs());
    assert_eq!(stage.reloads, 1 + 4);
    // A minute after the first of its reloads the newest structure goes.
    stage.pass(Duration::from_secs(20));
    assert!(stage.runs().contains("t19"), "{}", stage.runs());
    assert_eq!(stage.reloads, 1 + 5);
}

#[test]
fn the_last_old_workers_are_kept_for_other_services() {
    let mut stage = Stage::new();
    let change = |stage: &mut Stage, round: usize, old_workers| {
        stage.show("web", &[instance(1, &format!("t{round}"))]);
        stage.pass_with(Duration::from_secs(61), old_workers);
    };
    for round in 0..3 {
        change(&mut stage, round, round + 1);
    }
    assert_eq!(stage.reloads, 1 + 3);
    // Three of five live, and it has caused all of them.
    change(&mut stage, 3, 3);
    assert_eq!(stage.reloads, 1 + 3);
    stage.show("api", &[instance(1, "b")]);
    stage.pass_with(Duration::from_secs(20), 4);
    assert_eq!(stage.reloads, 1 + 4);
    // Once they end it goes on, and none waits for ever.
    stage.pass_with(Duration::from_secs(20), 1);
    assert!(stage.runs().contains("t3"), "{}", stage.runs());
    stage.pass_with(Duration::from_secs(20), 4);
    change(&mut stage, 4, 4);
    assert!(stage.runs().contains("t3"), "{}", stage.runs());
    stage.pass_with(Duration::from_secs(600), 4);
    assert!(stage.runs().contains("t4"), "{}", stage.runs());
}

#[test]
fn a_release_lets_a_frequent_change_go() {
    let mut stage = Stage::new();
    for round in 0..5 {
        stage.show("web", &[instance(1, &format!("t{round}"))]);
        stage.pass(Duration::from_millis(2_600));
    }
    assert!(stage.runs().contains("t2"), "{}", stage.runs());
    let named = ["web".to_owned()];
    let (names, actions) = stage.bench.core.release(Some(&named), stage.bench.now);
    assert_eq!(names, named);
    stage.carry_out(actions, 0);
    stage.pass(Duration::from_millis(2_600));
    assert!(stage.runs().contains("t4"), "{}", stage.runs());
}

#[test]
fn changes_of_servers_are_never_too_many() {
    let mut stage = Stage::new();
    for round in 10..60 {
        stage.show("web", &[instance(round, "a"), instance(round + 1, "a")]);
        stage.pass(Duration::from_millis(1_100));
        let ports = format!("[{round}, {}]", round + 1);
        assert!(stage.runs().contains(&ports), "{}", stage.runs());
    }
    assert_eq!(stage.reloads, 1);
    assert!(!stage.said.iter().any(|said| said.contains("too often")));
}

fn lists() -> impl Strategy<Value = Vec<Instance>> {
    let one = (0..8_u8, "[abc]", 0..3_u8, 1..5_i64);
    prop::collection::vec(one, 1..8).prop_map(|all| {
        let of = |(id, tag, meta, port): (u8, String, u8, i64)| {
            let mut one = instance(id, &tag);
            one.port = port;
            one.service_meta = [("m".to_owned(), meta.to_string())].into_iter().collect();
            (id, one)
        };
        let by_id: BTreeMap<u8, Instance> = all.into_iter().map(of).collect();
        by_id.into_values().collect()
    })
}

proptest! {
    #[test]
    fn kept_structure_has_the_former_tags_and_the_servers_of_now(good in lists(), newest in lists()) {
        let kept = steadied_instances(&good, &newest);
        prop_assert_eq!(shapes(&kept), shapes(&good));
        prop_assert!(kept.is_sorted_by(|one, other| one.key() < other.key()));
        for one in &newest {
            let of_now = kept.iter().find(|other| other.key() == one.key());
            let known = good.iter().any(|other| other.key() == one.key() || other.tags == one.tags);
            let lone = shapes(&good).len() == 1;
            prop_assert_eq!(of_now.map(|other| other.port), (known || lone).then_some(one.port));
        }
        // Whoever has gone stays only as the last one with its tags and metadata.
        for gone in kept.iter().filter(|one| !newest.iter().any(|other| other.key() == one.key())) {
            let others = kept.iter().filter(|one| newest.iter().any(|other| other.key() == one.key()));
            prop_assert!(!shapes(&others.cloned().collect::<Vec<_>>()).contains(&(&gone.tags[..], &gone.service_meta)));
        }
        prop_assert_eq!(steadied_instances(&good, &good), good);
    }
}
