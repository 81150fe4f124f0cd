//! The guard and the snapshot inside the core: what is rendered, saved, asked and said.

use super::*;
use crate::catalog::guard::{Evidence, Inquiry, Permission};
use crate::catalog::snapshot::{Content, decode, encode};
use crate::catalog::{Instance, Scope};

pub(super) fn web(count: usize) -> Arc<Answer> {
    let list = (0..count).map(|id| {
        let port = id as i64 + 1;
        Instance::plain("web", "node", &id.to_string(), "10.0.0.1", port)
    });
    Arc::new(Answer::Instances(list.collect()))
}

/// A core with the guard and a snapshot, and everything it did.
struct Stage {
    core: Core,
    now: Instant,
    did: Vec<Action>,
}

impl Stage {
    fn new(left: Option<(&Content, &str)>) -> Stage {
        let now = Instant::now() + Duration::from_secs(100_000);
        let (core, _) = Core::new(TIMING, now);
        let snapshot = left.map(|(content, _)| {
            decode(&String::from_utf8(encode(content, 1_000)).unwrap()).unwrap()
        });
        let good = left.map(|(_, text)| candidate(text).revision.clone());
        let memory = Memory::new(snapshot, good.as_ref(), now, 1_060);
        let mut stage = Stage {
            core: core.remember(Rules::default(), memory),
            now,
            did: Vec::new(),
        };
        stage.event(loaded(&["web"]));
        stage
    }

    /// Until nothing is due: renderings are completed by `text`, sets confirmed, questions answered.
    fn settle(&mut self, text: &str) {
        for _ in 0..100 {
            let mut open = std::mem::take(&mut self.did);
            if open.is_empty() {
                match self.core.poll_timeout() {
                    Some(due) if due <= self.now + Duration::from_secs(3) => {
                        self.now = self.now.max(due);
                        let actions = self.core.handle_timeout(self.now);
                        self.did.extend(silent(actions));
                        continue;
                    }
                    _ => return,
                }
            }
            match open.remove(0) {
                Action::Render(_) => self.event(complete(text, &["web"])),
                Action::Apply(candidate, _) => {
                    let revision = candidate.revision.clone();
                    let outcome = by_commands();
                    self.event(Event::Applied { revision, outcome });
                }
                Action::Observe => self.event(Event::Observed(Observed {
                    reachable: true,
                    running: self.core.applied().map(|applied| applied.revision.clone()),
                    ..Observed::default()
                })),
                Action::Save(_) => self.event(Event::Saved(Ok(()))),
                _ => {}
            }
            let new = std::mem::take(&mut self.did);
            self.did = open.into_iter().chain(new).collect();
        }
        panic!("it does not settle: {:?}", self.did);
    }

    fn event(&mut self, event: Event) {
        let actions = self.core.handle(event, self.now);
        self.did.extend(silent(actions));
    }

    fn answer(&mut self, count: usize) {
        self.watched(Some(web(count)));
    }

    fn watched(&mut self, answer: Option<Arc<Answer>>) {
        let query = Query::service("web");
        let watch = self.core.watches()[&query].id;
        let event = match answer {
            Some(answer) => Event::Answered {
                watch,
                query,
                answer: Some(answer),
                age: Duration::ZERO,
                filtered: false,
            },
            None => Event::WatchFailed {
                watch,
                query,
                error: "Consul is away.".into(),
                attempts: 1,
                refused: false,
                outage: None,
            },
        };
        self.event(event);
    }

    fn shown(&self) -> Option<usize> {
        let watched = &self.core.watches()[&Query::service("web")];
        watched.answer().map(|answer| answer.len())
    }

    fn take<T>(&mut self, mut find: impl FnMut(&Action) -> Option<T>) -> Vec<T> {
        let found = self.did.iter().filter_map(&mut find).collect();
        self.did.clear();
        found
    }

    fn saved(&mut self) -> Option<Content> {
        self.now += Duration::from_secs(2);
        let actions = self.core.handle_timeout(self.now);
        self.did.extend(silent(actions));
        let mut saved = self.take(|action| match action {
            Action::Save(content) => Some(content.clone()),
            _ => None,
        });
        assert!(saved.len() < 2, "two at a time");
        saved.pop()
    }
}

fn silent(actions: Vec<Action>) -> Vec<Action> {
    super::silent(actions)
}

/// What a process leaves that has shown so many.
fn left(count: usize, text: &str) -> Content {
    let mut stage = Stage::new(None);
    stage.answer(count);
    stage.take(|_| None::<()>);
    stage.event(complete(text, &["web"]));
    stage.event(ended(text, by_commands()));
    let evidence = Evidence {
        about: None,
        instances: None,
        filtered: false,
        canary: Some((Scope::default(), Ok(true))),
        permission: Permission::Certain,
    };
    stage.event(Event::Inspected(evidence));
    stage.saved().expect("it is saved")
}

#[test]
fn a_mass_loss_is_not_rendered_and_its_reason_is_asked_for() {
    let mut stage = Stage::new(None);
    stage.answer(10);
    stage.settle("ten");
    stage.answer(0);
    assert_eq!(stage.shown(), Some(10));
    let did = std::mem::take(&mut stage.did);
    assert!(
        !did.iter().any(|one| matches!(one, Action::Render(_))),
        "{did:?}"
    );
    let asked: Vec<&Inquiry> = did
        .iter()
        .filter_map(|one| match one {
            Action::Inspect(inquiry) => Some(&**inquiry),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 1, "{did:?}");
    assert_eq!(
        asked[0].unfiltered.as_ref().unwrap().to_string(),
        r#"service "web" status="any""#
    );
    // Said once, when the reason is known.
    let evidence = Evidence {
        about: asked[0].about.clone(),
        instances: Some(Ok(Vec::new())),
        filtered: false,
        canary: Some((Scope::default(), Ok(true))),
        permission: Permission::Certain,
    };
    let said = |actions: Vec<Action>| -> Vec<String> {
        actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Say(notice) => Some(notice.message),
                _ => None,
            })
            .collect()
    };
    let actions = stage.core.handle(Event::Inspected(evidence), stage.now);
    assert_eq!(
        said(actions),
        [
            "10 of 10 vanished from service \"web\" and are held, besides 0 that are there; HAProxy's own checks decide about them. Of these 10 are gone from the catalog. The hold ends when they return, or by `gatewright release web`."
        ]
    );
    let (names, actions) = stage.core.release(Some(&["web".into()]), stage.now);
    assert_eq!(names, ["web"]);
    assert!(actions.iter().any(|one| matches!(one, Action::Render(_))));
    assert_eq!(
        said(actions),
        ["The hold of service \"web\" ended after 0 s: it was released."]
    );
    assert_eq!(stage.shown(), Some(0));
}

// J03
#[test]
fn what_a_former_process_showed_is_the_measure() {
    let content = left(10, "ten");
    assert_eq!(content.canary_seen, [None]);
    let mut stage = Stage::new(Some((&content, "ten")));
    stage.answer(0);
    assert_eq!(stage.shown(), Some(10));
    assert_eq!(stage.core.holds()[0].reference, 10);
    // The same with other files: the guard's measure does not depend on them.
    let mut stage = Stage::new(Some((&content, "other")));
    stage.answer(2);
    assert_eq!(stage.shown(), Some(10));
}

// J01
#[test]
fn a_query_that_fails_is_answered_by_the_snapshot() {
    let content = left(10, "ten");
    let mut stage = Stage::new(Some((&content, "ten")));
    assert_eq!(stage.shown(), None);
    stage.watched(None);
    assert_eq!(stage.shown(), Some(10));
    let watched = &stage.core.watches()[&Query::service("web")];
    assert!(watched.from_snapshot && watched.failing.is_some());
    // Read at 998 or later, seen again at 1,060.
    assert!(watched.age >= Duration::from_secs(60), "{:?}", watched.age);
    assert!(stage.did.iter().any(|one| matches!(one, Action::Render(_))));
    // A template that has changed meanwhile is applied.
    stage.settle("changed");
    assert!(stage.core.applied().is_some());
    // Live answers win.
    stage.answer(11);
    assert_eq!(stage.shown(), Some(11));
    assert!(!stage.core.watches()[&Query::service("web")].from_snapshot);
    // All of what was left is outdated and takes no room any more.
    let left = stage.core.memory.left();
    assert!(left.is_some_and(|(left, _)| left.is_empty()));
}

// J02
#[test]
fn a_snapshot_older_than_the_files_is_not_rendered() {
    let content = left(10, "ten");
    let mut stage = Stage::new(Some((&content, "newer")));
    stage.watched(None);
    assert_eq!(stage.shown(), None);
    // Without one at all nothing is made up either (J02).
    let mut stage = Stage::new(None);
    stage.watched(None);
    assert_eq!(stage.shown(), None);
}

#[test]
fn the_snapshot_is_written_at_most_once_a_second_and_never_late() {
    let mut stage = Stage::new(None);
    let start = stage.now;
    let mut saves: Vec<(Instant, usize)> = Vec::new();
    let mut newest = 0;
    for step in 1..700 {
        if step < 600 {
            stage.answer(step);
        }
        stage.now += Duration::from_millis(10);
        let mut rendered = None;
        for action in std::mem::take(&mut stage.did) {
            match action {
                Action::Render(answers) => {
                    rendered = answers.0.values().next().map(|known| known.answer.len());
                }
                Action::Save(content) => {
                    saves.push((stage.now, content.answers[0].answer.len()));
                    stage.event(Event::Saved(Ok(())));
                }
                Action::Apply(candidate, _) => {
                    let revision = candidate.revision.clone();
                    let outcome = by_commands();
                    stage.event(Event::Applied { revision, outcome });
                }
                Action::Observe => stage.event(Event::Observed(Observed {
                    reachable: true,
                    running: stage.core.applied().map(|applied| applied.revision.clone()),
                    ..Observed::default()
                })),
                _ => {}
            }
        }
        if let Some(count) = rendered {
            newest = count;
            stage.event(complete(&format!("set {count}"), &["web"]));
        }
        let actions = stage.core.handle_timeout(stage.now);
        stage.did.extend(silent(actions));
    }
    while let Some(content) = stage.saved() {
        saves.push((stage.now, content.answers[0].answer.len()));
        stage.event(Event::Saved(Ok(())));
    }
    assert!(saves.len() >= 5, "{saves:?}");
    let span = (stage.now - start).as_secs() as usize;
    assert!(saves.len() <= span + 2, "{} in {span} s", saves.len());
    let last = saves.last().unwrap().1;
    assert!(last >= newest, "{last} of {newest}");
    // A write that failed is tried again, and what is unchanged is not written again.
    stage.event(Event::Saved(Err("No space.".into())));
    assert_eq!(stage.saved(), None);
    stage.now += Duration::from_secs(60);
    assert!(stage.saved().is_some());
    stage.event(Event::Saved(Ok(())));
    assert_eq!(stage.saved(), None);
}

#[test]
fn a_set_refused_for_lost_servers_is_let_through_by_a_release() {
    let refused = |code| {
        let mut stage = Stage::new(None);
        stage.answer(1);
        stage.take(|_| None::<()>);
        stage.event(complete("one", &["web"]));
        stage.now += Duration::from_secs(5);
        let actions = stage.core.handle_timeout(stage.now);
        stage.did.extend(silent(actions));
        let outcome = Outcome::Refused(vec![Diagnostic::error(code, "lost")]);
        stage.event(ended("one", outcome));
        stage.event(Event::Observed(Observed::default()));
        stage.take(|_| None::<()>);
        stage
    };
    let allowed = |stage: &mut Stage| {
        stage.take(|one| match one {
            Action::AllowLoss => Some(1),
            Action::Apply(..) => Some(2),
            _ => None,
        })
    };
    let mut stage = refused("last-servers-lost");
    for _ in 0..20 {
        stage.now += Duration::from_secs(10);
        let actions = stage.core.handle_timeout(stage.now);
        assert!(!actions.contains(&Action::AllowLoss));
        // Asked again now and then, and refused again.
        if actions.iter().any(|one| matches!(one, Action::Apply(..))) {
            let why = vec![Diagnostic::error("last-servers-lost", "lost")];
            stage.event(ended("one", Outcome::Refused(why)));
        }
        let looks = stage.take(|one| (*one == Action::Observe).then_some(()));
        if actions.contains(&Action::Observe) || !looks.is_empty() {
            stage.event(Event::Observed(Observed::default()));
        }
    }
    stage.event(Event::Observed(Observed::default()));
    stage.take(|_| None::<()>);
    let (names, actions) = stage.core.release(None, stage.now);
    assert_eq!(names.len(), 1);
    stage.did.extend(silent(actions));
    assert_eq!(allowed(&mut stage), [1, 2]);
    // A share goes by itself after its time.
    let mut stage = refused("servers-lost");
    stage.now += Duration::from_secs(61);
    let actions = stage.core.handle_timeout(stage.now);
    stage.did.extend(silent(actions));
    assert!(allowed(&mut stage).contains(&1));
}

/// The first that return do not take the place of all others.
#[test]
fn a_loss_that_left_too_few_has_no_shorter_time_when_some_return() {
    // A set of so many instances is refused whenever it is tried.
    let refuse = |stage: &mut Stage, count: usize, code: &'static str, seconds: u64| {
        let text = format!("{count} left");
        stage.answer(count);
        for _ in 0..seconds {
            while !stage.did.is_empty() {
                match stage.did.remove(0) {
                    Action::Render(_) => stage.event(complete(&text, &["web"])),
                    Action::Apply(candidate, _) => {
                        let revision = candidate.revision.clone();
                        let outcome = Outcome::Refused(vec![Diagnostic::error(code, text.clone())]);
                        stage.event(Event::Applied { revision, outcome });
                    }
                    Action::Observe => stage.event(Event::Observed(Observed::default())),
                    Action::AllowLoss => return true,
                    _ => {}
                }
            }
            stage.now += Duration::from_secs(1);
            let actions = stage.core.handle_timeout(stage.now);
            stage.did.extend(silent(actions));
        }
        false
    };
    let mut stage = Stage::new(None);
    assert!(!refuse(&mut stage, 0, "last-servers-lost", 200));
    assert!(!refuse(&mut stage, 1, "servers-lost", 200));
    // Where there are never too few, each loss has its whole time.
    let mut stage = Stage::new(None);
    assert!(!refuse(&mut stage, 1, "servers-lost", 50));
    assert!(!refuse(&mut stage, 2, "servers-lost", 55));
    assert!(refuse(&mut stage, 2, "servers-lost", 20));
}

/// A hold that has left none is kept as such, however often the process ends.
#[test]
fn the_snapshot_tells_that_a_hold_has_left_too_few() {
    let mut stage = Stage::new(None);
    stage.answer(10);
    stage.take(|_| None::<()>);
    stage.event(complete("ten", &["web"]));
    stage.event(ended("ten", by_commands()));
    let content = stage.saved().expect("it is saved");
    assert!(!content.answers[0].eased);
    stage.event(Event::Saved(Ok(())));
    stage.answer(0);
    let content = stage.saved().expect("it is saved again");
    assert!(content.answers[0].eased);
    // The next process sees the first one return, and the one after that nothing new.
    let mut stage = Stage::new(Some((&content, "ten")));
    stage.answer(1);
    assert_eq!(stage.shown(), Some(10));
    stage.take(|_| None::<()>);
    stage.event(complete("ten", &["web"]));
    stage.event(ended("ten", Outcome::Unchanged));
    assert!(stage.saved().expect("it is saved").answers[0].eased);
}

// I09
#[test]
fn after_a_long_stop_everything_due_is_done_once() {
    let mut bench = Bench::new().applied("one");
    bench.change(2);
    assert_eq!(bench.event(complete("two", &["web"])), []);
    bench.looks = false;
    // Stopped for ten minutes in the middle of a burst; then all deadlines have passed at once.
    bench.now += Duration::from_secs(600);
    let mut done = Vec::new();
    for _ in 0..10 {
        let actions = bench.core.handle_timeout(bench.now);
        done.extend(silent(actions));
    }
    let applies = done.iter().filter(|one| matches!(one, Action::Apply(..)));
    assert_eq!(applies.count(), 1, "{done:?}");
    assert!(done.len() <= 2, "{done:?}");
    assert_eq!(bench.event(confirmed("two")), [Action::Observe]);
    bench.event(Event::Observed(Observed {
        reachable: true,
        running: Some(candidate("two").revision.clone()),
        ..Observed::default()
    }));
    // And the distance between reloads is kept from there.
    bench.looks = true;
    bench.change(3);
    assert_eq!(bench.event(complete("three", &["web"])), []);
    let before = bench.now;
    bench.wait();
    assert!(bench.now - before >= TIMING.reload_interval - TIMING.max_settle);
}
