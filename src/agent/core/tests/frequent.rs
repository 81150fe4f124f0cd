//! Services that change the structure of the configuration again and again.

use super::*;
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

/// How often the log says that a reload waits for others.
fn told(stage: &Stage) -> usize {
    let said = stage.said.iter();
    said.filter(|said| said.contains("change too often"))
        .count()
}

#[test]
fn a_service_causes_three_reloads_a_minute_and_others_go() {
    let mut stage = Stage::new();
    for round in 0..20 {
        stage.show("web", &[instance(1, &format!("t{round}"))]);
        stage.pass(Duration::from_millis(2_600));
    }
    assert_eq!(stage.reloads, 1 + 3);
    assert!(stage.runs().contains("t2"), "{}", stage.runs());
    assert_eq!(told(&stage), 1, "{:?}", stage.said);
    assert_eq!(stage.bench.core.noted().count(), 1);
    // Servers of others are those of now.
    stage.show("api", &[instance(7, "a")]);
    stage.pass(Duration::from_millis(200));
    assert!(stage.runs().contains("[7]"), "{}", stage.runs());
    assert!(stage.runs().contains("t2"), "{}", stage.runs());
    // A reload that another service wants goes, with all changes.
    stage.show("api", &[instance(7, "b")]);
    stage.pass(Duration::from_millis(2_600));
    assert!(stage.runs().contains("\"b\""), "{}", stage.runs());
    assert!(stage.runs().contains("t19"), "{}", stage.runs());
    assert_eq!(stage.reloads, 1 + 4);
    assert_eq!(stage.bench.core.noted().count(), 0);
    // A minute after one of its reloads the next one goes.
    stage.show("web", &[instance(1, "last")]);
    stage.pass(Duration::from_millis(2_600));
    assert_eq!(stage.reloads, 1 + 4);
    stage.pass(Duration::from_secs(60));
    assert!(stage.runs().contains("last"), "{}", stage.runs());
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
    // Once they end it goes on, and none waits for ever.
    stage.pass_with(Duration::from_secs(20), 1);
    assert!(stage.runs().contains("t3"), "{}", stage.runs());
    stage.pass_with(Duration::from_secs(20), 4);
    change(&mut stage, 4, 4);
    assert!(stage.runs().contains("t3"), "{}", stage.runs());
    stage.pass_with(Duration::from_secs(600), 4);
    assert!(stage.runs().contains("t4"), "{}", stage.runs());
    // Another service takes the last but one.
    change(&mut stage, 5, 4);
    change(&mut stage, 6, 4);
    assert!(stage.runs().contains("t5"), "{}", stage.runs());
    stage.show("api", &[instance(1, "b")]);
    stage.pass_with(Duration::from_secs(20), 4);
    assert!(stage.runs().contains("\"b\""), "{}", stage.runs());
}

#[test]
fn a_release_lets_the_reload_go_that_waits_for_others() {
    let mut stage = Stage::new();
    for round in 0..5 {
        stage.show("web", &[instance(1, &format!("t{round}"))]);
        stage.pass(Duration::from_millis(2_600));
    }
    assert!(stage.runs().contains("t2"), "{}", stage.runs());
    let (names, actions) = stage.bench.core.release(None, stage.bench.now);
    assert_eq!(names, ["the reload that waits"]);
    stage.carry_out(actions, 0);
    stage.pass(Duration::from_millis(2_600));
    assert!(stage.runs().contains("t4"), "{}", stage.runs());
}

#[test]
fn who_waits_for_a_reload_stops_nobody_elses_servers() {
    let mut stage = Stage::new();
    for round in 0..5 {
        stage.show("web", &[instance(1, &format!("t{round}"))]);
        stage.pass(Duration::from_millis(2_600));
    }
    // The service that waits keeps its own servers, since its data need a reload.
    stage.show("web", &[instance(3, "t9")]);
    for port in 10..30 {
        stage.show("api", &[instance(port, "a")]);
        stage.pass(Duration::from_millis(500));
        assert!(
            stage.runs().contains(&format!("[{port}]")),
            "{}",
            stage.runs()
        );
        assert!(stage.runs().contains("{\"t2\"}|[1]"), "{}", stage.runs());
    }
    // With the tags that HAProxy has, its servers go, too.
    stage.show("web", &[instance(3, "t2")]);
    stage.pass(Duration::from_secs(2));
    assert!(stage.runs().contains("{\"t2\"}|[3]"), "{}", stage.runs());
    assert_eq!(stage.reloads, 1 + 3);
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
    assert_eq!(told(&stage), 0);
}
