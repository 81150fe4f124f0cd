mod flapping;
mod interim;
mod listeners;
mod model;
mod refused;
mod restless;

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::agent::listeners::Listeners;
use crate::apply::set::{Role, SetFile};
use crate::apply::verdict::Servers;
use crate::template::NO_THREAD;

const TIMING: Timing = Timing {
    settle: Duration::from_millis(50),
    max_settle: Duration::from_secs(1),
    reload_interval: Duration::from_secs(2),
    compare_interval: Duration::from_secs(10),
    max_rounds: 3,
    tells: true,
};

fn candidate(text: &str) -> Arc<Candidate> {
    Arc::new(Candidate::new(vec![SetFile {
        destination: PathBuf::from("/h.cfg"),
        role: Role::Config,
        mode: None,
        text: text.to_owned(),
    }]))
}

fn services(names: &[&str]) -> BTreeSet<Query> {
    names.iter().map(|name| Query::service(name)).collect()
}

fn loaded(names: &[&str]) -> Event {
    Event::Loaded(Ok(Loaded {
        templates: "".into(),
        literal: services(names),
        warnings: Vec::new(),
    }))
}

fn complete(text: &str, names: &[&str]) -> Event {
    Event::Rendered(Rendered::Complete {
        candidate: candidate(text),
        used: services(names),
        quarantined: Vec::new(),
        noted: BTreeMap::new(),
        listeners: Listeners::default(),
    })
}

fn confirmed(text: &str) -> Event {
    Event::Applied {
        revision: candidate(text).revision.clone(),
        outcome: Outcome::Confirmed {
            means: "reload".into(),
            reloaded: true,
            changes: "+1 −0 servers in web".into(),
            took: Duration::from_millis(92),
        },
    }
}

fn ended(text: &str, outcome: Outcome) -> Event {
    Event::Applied {
        revision: candidate(text).revision.clone(),
        outcome,
    }
}

fn by_commands() -> Outcome {
    Outcome::Confirmed {
        means: "1 command".into(),
        reloaded: false,
        changes: "+1 −0 servers in web".into(),
        took: Duration::from_millis(2),
    }
}

/// A machine with its own clock; notices are left out of what it returns. Unless it is told not to,
/// it answers each look at HAProxy: all is as it was applied. What may only be done by commands is
/// answered too: by default they do not do.
struct Bench {
    core: Core,
    now: Instant,
    looks: bool,
    by_commands: bool,
}

impl Bench {
    fn new() -> Bench {
        let now = Instant::now();
        let (core, actions) = Core::new(TIMING, now);
        assert_eq!(actions, [Action::LoadTemplates]);
        Bench {
            core,
            now,
            looks: true,
            by_commands: false,
        }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let actions = self.core.handle(event, self.now);
        self.seen(actions)
    }

    fn seen(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut actions = silent(actions);
        let tried = actions
            .iter()
            .position(|action| matches!(action, Action::Apply(_, Means::Commands)));
        if let Some(Action::Apply(candidate, _)) = tried.map(|at| actions.remove(at)) {
            let revision = candidate.revision.clone();
            let outcome = match self.by_commands {
                true => by_commands(),
                false => Outcome::NeedsReload("the structure differs".into()),
            };
            let more = self
                .core
                .handle(Event::Applied { revision, outcome }, self.now);
            let more = self.seen(more);
            actions.extend(more);
        }
        if self.looks && actions.contains(&Action::Observe) {
            actions.retain(|action| *action != Action::Observe);
            let running = self.core.applied().map(|applied| applied.revision.clone());
            let observed = Observed {
                reachable: running.is_some(),
                running,
                ..Observed::default()
            };
            let more = self.core.handle(Event::Observed(observed), self.now);
            actions.extend(self.seen(more));
        }
        actions
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        let actions = self.core.handle_timeout(self.now);
        self.seen(actions)
    }

    /// Lets time pass to the machine's own deadlines until it does something.
    fn wait(&mut self) -> Vec<Action> {
        for _ in 0..100 {
            let deadline = self.core.poll_timeout().expect("nothing is due");
            self.now = self.now.max(deadline);
            let actions = self.core.handle_timeout(self.now);
            let actions = self.seen(actions);
            if !actions.is_empty() {
                return actions;
            }
        }
        panic!("it does nothing");
    }

    fn answer(&mut self, name: &str, tags: usize) -> Vec<Action> {
        let query = Query::service(name);
        let watch = self.core.watches()[&query].id;
        self.event(Event::Answered {
            watch,
            query,
            answer: Some(Arc::new(Answer::Datacenters(vec![String::new(); tags]))),
            age: Duration::ZERO,
            filtered: false,
        })
    }

    /// Changes the answer and lets it be rendered.
    fn change(&mut self, tags: usize) {
        let mut actions = self.answer("web", tags);
        if actions.is_empty() {
            actions = self.wait();
        }
        assert!(matches!(actions[..], [Action::Render(_)]), "{actions:?}");
    }

    fn applied(mut self, text: &str) -> Bench {
        self.event(loaded(&["web"]));
        self.change(1);
        assert_eq!(self.event(complete(text, &["web"])), []);
        assert_eq!(self.wait(), [Action::Apply(candidate(text), Means::Any)]);
        assert_eq!(self.event(confirmed(text)), []);
        self
    }
}

fn silent(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, Action::Say(_)))
        .collect()
}

mod guard;

// B18
#[test]
fn nothing_is_rendered_before_every_query_has_answered() {
    let mut bench = Bench::new();
    let actions = bench.event(loaded(&["a", "b"]));
    assert_eq!(
        actions,
        [
            Action::StartWatch(WatchId(1), Query::service("a")),
            Action::StartWatch(WatchId(2), Query::service("b")),
        ]
    );
    assert_eq!(bench.answer("a", 1), []);
    assert_eq!(bench.after(Duration::from_secs(5)), []);
    // The first answer waited long enough for the both of them.
    assert!(matches!(&bench.answer("b", 1)[..], [Action::Render(answers)] if answers.0.len() == 2));
}

#[test]
fn commands_go_out_at_once_and_need_no_quiet_time() {
    let mut bench = Bench::new().applied("one");
    bench.by_commands = true;
    for step in 2..50 {
        bench.after(Duration::from_millis(5));
        bench.change(step);
        let text = format!("set {step}");
        assert_eq!(bench.event(complete(&text, &["web"])), []);
        let applied = bench.core.applied().map(|applied| applied.revision.clone());
        assert_eq!(applied, Some(candidate(&text).revision.clone()));
    }
    assert_eq!(bench.core.counts().by_commands, 48);
    assert_eq!(bench.core.counts().reloads, 1);
}

// G04
#[test]
fn a_reload_waits_for_a_quiet_time_but_not_for_ever() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    let start = bench.now;
    let mut loaded = None;
    for step in 2..200 {
        let mut actions = bench.after(Duration::from_millis(20));
        actions.extend(bench.answer("web", step));
        if actions
            .iter()
            .any(|action| matches!(action, Action::Render(_)))
        {
            actions.extend(bench.event(complete(&format!("set {step}"), &["web"])));
        }
        if actions
            .iter()
            .any(|action| matches!(action, Action::Apply(..)))
        {
            loaded = Some(bench.now - start);
            break;
        }
    }
    let loaded = loaded.expect("a restless catalog must not starve the reload");
    assert!(loaded >= TIMING.max_settle, "{loaded:?}");
    assert!(loaded <= TIMING.max_settle + TIMING.settle, "{loaded:?}");
}

#[test]
fn what_only_a_reload_puts_right_is_reloaded() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.looks = false;
    assert_eq!(bench.wait(), [Action::Observe]);
    let observed = Observed {
        reachable: true,
        running: Some(candidate("one").revision.clone()),
        servers: Servers {
            differs: Some("api/a is not there".into()),
            ..Servers::default()
        },
        ..Observed::default()
    };
    assert_eq!(
        bench.event(Event::Observed(observed.clone())),
        [Action::Apply(candidate("one"), Means::Reload)]
    );
    assert_eq!(bench.event(confirmed("one")), []);
    assert_eq!(bench.core.counts().divergences, 1);
    // It has not helped: that is said by the status, and no further reload tried.
    assert_eq!(bench.wait(), [Action::Observe]);
    assert_eq!(bench.event(Event::Observed(observed)), []);
    assert_eq!(bench.wait(), [Action::Observe]);
}

// G04
#[test]
fn the_newest_set_wins_and_reloads_keep_their_distance() {
    let mut bench = Bench::new().applied("one");
    bench.change(2);
    // Within the interval nothing is applied, and a newer set replaces the one that waits.
    assert_eq!(bench.event(complete("two", &["web"])), []);
    bench.change(3);
    assert_eq!(bench.event(complete("three", &["web"])), []);
    let started = bench.now;
    assert_eq!(
        bench.wait(),
        [Action::Apply(candidate("three"), Means::Any)]
    );
    assert!(bench.now - started <= TIMING.reload_interval);
    // While it is being applied, no other one starts.
    bench.change(4);
    assert_eq!(bench.event(complete("four", &["web"])), []);
    assert_eq!(bench.after(Duration::from_secs(60)), []);
    assert_eq!(bench.event(confirmed("three")), []);
    assert_eq!(
        bench.after(TIMING.reload_interval),
        [Action::Apply(candidate("four"), Means::Any)]
    );
}

#[test]
fn a_change_that_is_taken_back_in_time_is_never_applied() {
    let mut bench = Bench::new().applied("one");
    bench.change(2);
    assert_eq!(bench.event(complete("two", &["web"])), []);
    bench.change(1);
    assert_eq!(bench.event(complete("one", &["web"])), []);
    assert_eq!(bench.core.pending(), None);
    assert_eq!(bench.after(TIMING.reload_interval), []);
}

#[test]
fn a_refused_set_is_not_tried_again_until_something_changes() {
    for by_haproxy in [false, true] {
        let mut bench = Bench::new().applied("one");
        bench.after(TIMING.reload_interval);
        bench.change(2);
        assert_eq!(bench.event(complete("bad", &["web"])), []);
        assert_eq!(bench.wait(), [Action::Apply(candidate("bad"), Means::Any)]);
        let why = vec![Diagnostic::error("haproxy", "no")];
        bench.event(ended(
            "bad",
            if by_haproxy {
                Outcome::Rejected(why)
            } else {
                Outcome::Refused(why)
            },
        ));
        assert_eq!(
            bench.core.refused().map(|refused| refused.by_haproxy),
            Some(by_haproxy)
        );
        bench.change(3);
        assert_eq!(bench.event(complete("bad", &["web"])), []);
        bench.change(4);
        bench.event(complete("good", &["web"]));
        bench.wait();
        assert!(bench.core.is_applying());
        bench.event(confirmed("good"));
        assert_eq!(bench.core.refused(), None);
    }
}

#[test]
fn what_validation_refused_is_shown_to_it_again_after_a_minute() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.change(2);
    bench.event(complete("bad", &["web"]));
    bench.wait();
    let why = || Outcome::Refused(vec![Diagnostic::error("address-taken", "It is taken.")]);
    for _ in 0..3 {
        assert_eq!(bench.event(ended("bad", why())), []);
        let refused = bench.now;
        assert_eq!(bench.wait(), [Action::Apply(candidate("bad"), Means::Any)]);
        assert_eq!(bench.now - refused, ASK_AGAIN);
    }
    bench.event(confirmed("bad"));
    assert_eq!(bench.core.refused(), None);
}

#[test]
fn what_haproxy_rejected_is_asked_about_while_it_answers_and_is_not_told_twice() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.change(2);
    bench.event(complete("bad", &["web"]));
    bench.wait();
    let why = || vec![Diagnostic::error("rejected", "It is not loaded.")];
    let asked = |bench: &mut Bench, answer: Outcome| {
        bench.event(ended("bad", answer));
        let rejected = bench.now;
        loop {
            match &bench.wait()[..] {
                [Action::Observe] => {}
                [Action::Apply(..)] => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bench.now - rejected, ASK_AGAIN);
    };
    asked(&mut bench, Outcome::Rejected(why()));
    asked(&mut bench, Outcome::StillRejected(why()));
    let rejected = |bench: &Bench| bench.core.counts().ends[&End::Rejected];
    assert_eq!(rejected(&bench), 1);
    // HAProxy was started anew meanwhile.
    bench.event(confirmed("bad"));
    assert_eq!(bench.core.refused(), None);
}

#[test]
fn what_haproxy_rejected_is_loaded_again_when_the_operator_says_so() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.change(2);
    bench.event(complete("bad", &["web"]));
    bench.wait();
    let why = vec![Diagnostic::error("rejected", "It is not loaded.")];
    bench.event(ended("bad", Outcome::Rejected(why)));
    let (names, actions) = bench.core.release(None, bench.now);
    assert_eq!(names, ["the set that HAProxy rejected"]);
    assert!(actions.contains(&Action::ForgetRejections), "{actions:?}");
    // What validation refused is not for the operator to release.
    bench.core.settings_changed(TIMING);
    let (names, actions) = bench.core.release(None, bench.now);
    assert!(
        names.is_empty() && actions.is_empty(),
        "{names:?} {actions:?}"
    );
}

#[test]
fn new_settings_may_allow_what_was_refused() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.change(2);
    bench.event(complete("bad", &["web"]));
    bench.wait();
    let why = vec![Diagnostic::error("bind-lost", "A bind is lost.")];
    bench.event(ended("bad", Outcome::Refused(why)));
    bench.core.settings_changed(TIMING);
    bench.event(Event::TemplatesChanged);
    let actions = bench.event(loaded(&["web"]));
    assert!(matches!(actions[..], [Action::Render(_)]));
    assert_eq!(bench.event(complete("bad", &["web"])), []);
    assert_eq!(bench.wait(), [Action::Apply(candidate("bad"), Means::Any)]);
}

#[test]
fn what_could_not_be_tried_is_tried_again_with_growing_pauses() {
    let mut bench = Bench::new().applied("one");
    bench.after(TIMING.reload_interval);
    bench.change(2);
    bench.event(complete("two", &["web"]));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(
            bench.event(ended("two", Outcome::Failed("The disk is full.".into()))),
            []
        );
        let failed = bench.now;
        assert_eq!(bench.wait(), [Action::Apply(candidate("two"), Means::Any)]);
        pauses.push((bench.now - failed).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

// I11
#[test]
fn a_rendering_that_cannot_begin_is_tried_again_with_growing_pauses() {
    let mut bench = Bench::new().applied("one");
    bench.change(2);
    let not_begun = || {
        let error = Diagnostic::error(NO_THREAD, "No thread can be started to render: why.");
        Event::Rendered(Rendered::Failed(vec![error]))
    };
    let mut pauses = Vec::new();
    for retry in 0..9 {
        let actions = bench.core.handle(not_begun(), bench.now);
        if retry == 0 {
            let said = "No thread can be started to render: why. The last good configuration stays in force; trying again in 1 s.";
            assert!(
                matches!(&actions[..], [Action::Say(notice)] if notice.message == said),
                "{actions:?}"
            );
        }
        assert_eq!(bench.core.template_errors().count(), 1);
        let failed = bench.now;
        let actions = bench.wait();
        assert!(matches!(actions[..], [Action::Render(_)]), "{actions:?}");
        pauses.push((bench.now - failed).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // A change does not wait for it, and one rendering does for both.
    bench.event(not_begun());
    bench.change(3);
    assert_eq!(bench.event(complete("three", &["web"])), []);
    assert_eq!(bench.core.template_errors().count(), 0);
    assert_eq!(
        bench.wait(),
        [Action::Apply(candidate("three"), Means::Any)]
    );
    bench.event(confirmed("three"));
    assert_eq!(bench.after(Duration::from_secs(600)), []);
}

#[test]
fn a_template_that_fails_waits_for_a_change() {
    let mut bench = Bench::new().applied("one");
    bench.change(2);
    let error = Diagnostic::error("helper", "It fails.");
    bench.event(Event::Rendered(Rendered::Failed(vec![error])));
    assert_eq!(bench.after(Duration::from_secs(600)), []);
    bench.change(3);
}

// B17
#[test]
fn an_unused_query_is_cancelled_and_its_late_answers_are_dropped() {
    let mut bench = Bench::new();
    bench.event(loaded(&["a", "b"]));
    let late = bench.core.watches()[&Query::service("b")].id;
    bench.answer("a", 1);
    bench.answer("b", 1);
    let actions = bench.event(complete("one", &["a"]));
    assert_eq!(actions, [Action::StopWatch(late)]);
    assert_eq!(bench.wait(), [Action::Apply(candidate("one"), Means::Any)]);
    bench.event(confirmed("one"));
    let actions = bench.event(Event::Answered {
        watch: late,
        query: Query::service("b"),
        answer: Some(Arc::new(Answer::Datacenters(Vec::new()))),
        age: Duration::ZERO,
        filtered: false,
    });
    assert_eq!(actions, []);
    assert_eq!(bench.core.watches().len(), 1);
}

// D13
#[test]
fn queries_found_while_rendering_are_watched_for_a_bounded_number_of_rounds() {
    let mut bench = Bench::new();
    bench.event(loaded(&["s0"]));
    let mut rendering = bench.answer("s0", 1);
    let mut started = 0;
    for round in 1..10 {
        if !matches!(rendering[..], [Action::Render(_)]) {
            break;
        }
        let name = format!("s{round}");
        let actions = bench.event(Event::Rendered(Rendered::Incomplete {
            needed: services(&[&name]),
            absent: BTreeSet::new(),
            used: services(&["s0", &name]),
        }));
        match &actions[..] {
            [Action::StartWatch(_, query)] => {
                assert_eq!(*query, Query::service(&name));
                started += 1;
                rendering = bench.answer(&name, 1);
            }
            _ => break,
        }
    }
    assert_eq!(started, TIMING.max_rounds);
}

#[test]
fn a_rendering_that_finds_queries_goes_on_as_soon_as_they_are_answered() {
    let mut bench = Bench::new();
    bench.event(loaded(&["s0"]));
    assert!(matches!(bench.answer("s0", 1)[..], [Action::Render(_)]));
    bench.now += Duration::from_secs(2);
    bench.event(Event::Rendered(Rendered::Incomplete {
        needed: services(&["s1"]),
        absent: BTreeSet::new(),
        used: services(&["s0", "s1"]),
    }));
    assert!(matches!(bench.answer("s1", 1)[..], [Action::Render(_)]));
    bench.now += Duration::from_secs(2);
    bench.event(complete("one", &["s0", "s1"]));
    // What changes then waits for its turn.
    assert_eq!(bench.answer("s0", 2), []);
    let due = bench.core.poll_timeout().unwrap();
    assert!(due > bench.now);
}

// B22
#[test]
fn a_failing_query_holds_nothing_back_that_does_not_use_it() {
    let mut bench = Bench::new();
    bench.event(loaded(&["a", "b"]));
    bench.answer("a", 1);
    let query = Query::service("b");
    let watch = bench.core.watches()[&query].id;
    let actions = bench.event(Event::WatchFailed {
        watch,
        query,
        error: "Consul answered 500.".into(),
        attempts: 1,
        refused: false,
        outage: None,
    });
    assert!(matches!(&actions[..], [Action::Render(answers)] if answers.0.len() == 1));
}

// G17
#[test]
fn a_haproxy_that_somebody_else_moved_is_brought_back() {
    let mut bench = Bench::new().applied("one");
    bench.looks = false;
    assert_eq!(bench.wait(), [Action::Observe]);
    let other = candidate("other").revision.clone();
    let actions = bench.event(Event::Observed(Observed {
        running: Some(other),
        reachable: true,
        ..Observed::default()
    }));
    // Not before the distance between two reloads.
    assert_eq!(actions, []);
    bench.looks = true;
    assert_eq!(bench.wait(), [Action::Apply(candidate("one"), Means::Any)]);
}

// G08
#[test]
fn a_haproxy_that_is_gone_is_no_error_and_is_confirmed_when_it_comes_back() {
    let mut bench = Bench::new().applied("one");
    bench.looks = false;
    assert_eq!(bench.wait(), [Action::Observe]);
    assert_eq!(bench.event(Event::Observed(Observed::default())), []);
    assert_eq!(
        bench.core.applied().map(|applied| applied.confirmed),
        Some(false)
    );
    assert_eq!(bench.wait(), [Action::Observe]);
    let actions = bench.event(Event::Observed(Observed {
        running: Some(candidate("one").revision.clone()),
        reachable: true,
        ..Observed::default()
    }));
    assert_eq!(actions, []);
    assert_eq!(
        bench.core.applied().map(|applied| applied.confirmed),
        Some(true)
    );
}

// D02
#[test]
fn broken_templates_leave_the_old_ones_in_force() {
    let mut bench = Bench::new().applied("one");
    assert_eq!(
        bench.event(Event::TemplatesChanged),
        [Action::LoadTemplates]
    );
    let error = Diagnostic::error("syntax", "It is broken.");
    assert_eq!(bench.event(Event::Loaded(Err(vec![error.clone()]))), []);
    assert_eq!(bench.core.template_errors().collect::<Vec<_>>(), [&error]);
    bench.after(TIMING.reload_interval);
    bench.change(2);
}

/// What the world does next, for the property below.
#[derive(Debug, Clone)]
enum Step {
    Change(u8),
    Fail,
    Wait(u16),
    Finish(u8),
    Restart,
    Edit(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Change),
        1 => Just(Step::Fail),
        4 => (0u16..3000).prop_map(Step::Wait),
        4 => (0u8..6).prop_map(Step::Finish),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Edit),
    ]
}

/// A world around the machine: it renders what it is given, applies one set at a time, and breaks
/// the rules' words with an assertion.
struct World {
    bench: Bench,
    content: u8,
    rendering: Option<Option<u8>>,
    applying: Option<Arc<Candidate>>,
    observing: bool,
    running: Option<Revision>,
    reloads: Vec<Instant>,
}

fn text(content: u8) -> String {
    format!("content {content}")
}

impl World {
    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Render(answers) => {
                    assert!(self.rendering.is_none(), "two renderings at once");
                    let known = answers.0.values().next();
                    self.rendering = Some(known.map(|known| known.answer.len() as u8));
                }
                Action::Apply(candidate, _) => {
                    assert!(self.applying.is_none(), "two sets in flight");
                    assert!(!self.observing, "applied while HAProxy was being looked at");
                    self.applying = Some(candidate);
                }
                Action::Observe => {
                    assert!(self.applying.is_none() && !self.observing);
                    self.observing = true;
                }
                Action::StartWatch(..) | Action::StopWatch(_) | Action::LoadTemplates => {}
                Action::RenderInterim(..) => unreachable!("all is made from one service"),
                Action::Inspect(_)
                | Action::Save(_)
                | Action::AllowLoss
                | Action::ForgetRejections => {}
                Action::Say(_) => unreachable!("notices are left out"),
            }
        }
    }

    fn event(&mut self, event: Event) {
        let actions = self.bench.event(event);
        self.carry_out(actions);
    }

    fn change(&mut self, content: u8) {
        self.content = content;
        let actions = self.bench.answer("web", content.into());
        self.carry_out(actions);
    }

    fn finish(&mut self, how: u8) {
        match self.rendering.take() {
            Some(Some(content)) => self.event(complete(&text(content), &["web"])),
            Some(None) => self.event(Event::Rendered(Rendered::Incomplete {
                needed: services(&["web"]),
                absent: BTreeSet::new(),
                used: services(&["web"]),
            })),
            None => {}
        }
        if self.observing {
            self.observing = false;
            let observed = Observed {
                running: self.running.clone(),
                reachable: self.running.is_some(),
                ..Observed::default()
            };
            self.event(Event::Observed(observed));
        }
        if let Some(candidate) = self.applying.take() {
            let outcome = match how {
                0 => Outcome::Failed("It failed.".into()),
                1 => Outcome::Busy("It is busy.".into()),
                _ if self.running.as_ref() == Some(&candidate.revision) => Outcome::Unchanged,
                _ => {
                    if let Some(last) = self.reloads.last() {
                        assert!(
                            self.bench.now - *last >= TIMING.reload_interval,
                            "reloads too close"
                        );
                    }
                    self.reloads.push(self.bench.now);
                    self.running = Some(candidate.revision.clone());
                    Outcome::Confirmed {
                        means: "reload".into(),
                        reloaded: true,
                        changes: "a change".into(),
                        took: Duration::from_millis(1),
                    }
                }
            };
            self.event(Event::Applied {
                revision: candidate.revision.clone(),
                outcome,
            });
        }
    }
}

proptest! {
    /// Whatever happens, one thing is in flight at a time, and when the world calms down HAProxy
    /// runs what the catalog says last.
    #[test]
    fn it_always_converges(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World {
            bench: Bench {
                looks: false,
                ..Bench::new()
            },
            content: 0,
            rendering: None,
            applying: None,
            observing: false,
            running: None,
            reloads: Vec::new(),
        };
        world.event(loaded(&["web"]));
        for step in steps {
            match step {
                Step::Change(content) => world.change(content),
                Step::Fail => {
                    let query = Query::service("web");
                    let watch = world.bench.core.watches()[&query].id;
                    world.event(Event::WatchFailed { watch, query, error: "no".into(), attempts: 1, refused: false, outage: None });
                }
                Step::Wait(time) => {
                    let actions = world.bench.after(Duration::from_millis(time.into()));
                    world.carry_out(actions);
                }
                Step::Finish(how) => world.finish(how),
                Step::Restart => world.running = None,
                Step::Edit(broken) => {
                    world.event(Event::TemplatesChanged);
                    world.event(if broken {
                        Event::Loaded(Err(vec![Diagnostic::error("syntax", "broken")]))
                    } else {
                        loaded(&["web"])
                    });
                }
            }
        }
        world.change(9);
        for _ in 0..60 {
            world.finish(5);
            if let Some(due) = world.bench.core.poll_timeout() {
                world.bench.now = world.bench.now.max(due);
                let actions = world.bench.after(Duration::ZERO);
                world.carry_out(actions);
            }
        }
        prop_assert_eq!(world.running.as_ref(), Some(&candidate(&text(9)).revision));
        prop_assert!(world.bench.core.applied().is_some_and(|applied| applied.confirmed));
    }
}
