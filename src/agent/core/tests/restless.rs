//! Services whose data need a reload that waits: nobody else's servers wait with them.

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
    /// Whether too many old workers live.
    busy: bool,
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
            busy: false,
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
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
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
                        (false, _) if self.busy => Outcome::Busy("old workers".into()),
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
                    ..Observed::default()
                }),
                Action::Say(notice) => {
                    self.said.push(notice.message);
                    continue;
                }
                _ => continue,
            };
            let more = self.bench.core.handle(event, self.bench.now);
            self.carry_out(more);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.bench.now + time;
        for _ in 0..10_000 {
            let due = self.bench.core.poll_timeout().unwrap_or(end).min(end);
            self.bench.now = self.bench.now.max(due);
            let actions = self.bench.core.handle_timeout(self.bench.now);
            self.carry_out(actions);
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
fn who_needs_a_reload_that_waits_stops_nobody_elses_servers() {
    let mut stage = Stage::new();
    stage.busy = true;
    for round in 0..40 {
        // Tags of one service change again and again, which needs a reload, and so do its servers.
        stage.show("web", &[instance(3, &format!("t{round}"))]);
        stage.pass(Duration::from_millis(250));
        let port = 10 + round;
        stage.show("api", &[instance(port, "a")]);
        stage.pass(Duration::from_millis(250));
        let runs = stage.runs();
        assert!(runs.contains(&format!("[{port}]")), "{runs}");
        assert!(runs.contains("{\"a\"}|[1, 2]"), "{runs}");
    }
    assert_eq!(stage.reloads, 1);
    let kept = stage.bench.core.structure_kept().unwrap();
    let why = kept.not_current.unwrap();
    assert!(why.contains("service \"web\" stay as they were"), "{why}");
    // With the tags that HAProxy has, its servers go, too.
    stage.show("web", &[instance(4, "a")]);
    stage.pass(Duration::from_secs(2));
    assert!(stage.runs().contains("{\"a\"}|[4]"), "{}", stage.runs());
    // The reload brings all of it.
    stage.show("web", &[instance(5, "z")]);
    stage.busy = false;
    stage.pass(Duration::from_secs(20));
    assert!(stage.runs().contains("{\"z\"}|[5]"), "{}", stage.runs());
    assert_eq!(stage.reloads, 2);
    assert!(stage.bench.core.structure_kept().is_none());
}

#[test]
fn a_new_service_that_waits_for_a_reload_stops_nobody_elses_servers() {
    let mut stage = Stage::new();
    stage.busy = true;
    stage.show("web", &[instance(3, "t")]);
    stage.pass(Duration::from_secs(2));
    stage.show("api", &[instance(10, "b")]);
    stage.pass(Duration::from_secs(2));
    // Both need it; each tries alone and fails, and what follows is judged anew.
    assert!(stage.runs().contains("{\"a\"}|[1]\n"), "{}", stage.runs());
    stage.show("api", &[instance(11, "a")]);
    stage.pass(Duration::from_secs(2));
    assert!(stage.runs().contains("{\"a\"}|[11]\n"), "{}", stage.runs());
    // Nothing is done again and again while nothing changes.
    let before = stage.said.len();
    stage.pass(Duration::from_secs(600));
    let said = stage.said.len() - before;
    assert!(said <= 700, "{said} messages in ten minutes");
    stage.busy = false;
    stage.pass(Duration::from_secs(20));
    assert!(stage.runs().contains("{\"t\"}|[3]"), "{}", stage.runs());
}
