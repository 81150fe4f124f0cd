//! The part of the core that deals with the catalog: what is watched, what came of it, and what of
//! that the guard lets templates see.

use super::*;
use crate::catalog::guard::{Evidence, Output};

/// One watched query.
#[derive(Debug, Clone)]
pub struct Watched {
    pub(super) id: WatchId,
    pub(super) known: Option<Known>,
    /// Until the next answer.
    pub failing: Option<Failing>,
    /// When the last answer came, changed or not.
    pub answered_at: Option<Instant>,
    /// How old it was when it came.
    pub age: Duration,
    /// Whether it is the snapshot's, for want of a live one.
    pub from_snapshot: bool,
    /// Whether it counts as an empty one: the catalog lists the name and refuses the query.
    pub(super) left_out: bool,
    /// Whether any answer so far, also one of a former process, held something.
    pub(super) shown: bool,
}

/// How a query fails.
#[derive(Debug, Clone)]
pub struct Failing {
    /// The last error, a whole sentence.
    pub error: String,
    /// When it began.
    pub since: Instant,
    /// Whether every other query fails with it.
    pub outage: bool,
}

impl Watched {
    /// The last answer, with what the guard keeps in it.
    pub fn answer(&self) -> Option<&Arc<Answer>> {
        self.known.as_ref().map(|known| &known.answer)
    }
}

/// Why a watch brought nothing.
pub(super) struct Failed {
    /// A whole sentence.
    pub error: String,
    /// How many times in a row.
    pub attempts: u32,
    /// The cause is the query, by its name or by the size of its answer.
    pub refused: bool,
    /// Every query fails, for the same reason: a whole sentence about the catalog.
    pub outage: Option<String>,
}

/// What a watch brought.
pub(super) struct News {
    /// The content, when it is the first or differs.
    pub answer: Option<Arc<Answer>>,
    /// How old it was when it came.
    pub age: Duration,
    /// Whether Consul left something out for want of rights.
    pub filtered: bool,
}

/// A query is taken to be refused for good once Consul has refused it so often in a row.
const BLAMED: u32 = 3;

impl Core {
    /// Switches the guard on, and gives it and the rendering what a former process knew.
    #[must_use]
    pub fn remember(mut self, rules: Rules, memory: Memory) -> Core {
        self.guard = Guard::new(rules);
        for datacenter in memory.canary_seen() {
            self.guard.restore_canary(datacenter.clone());
        }
        if memory.has_last_good() {
            let unproved = !memory.left().is_some_and(|(_, usable)| usable);
            self.interim.restore(memory.templates(), unproved);
        }
        self.memory = memory;
        self
    }

    /// After the settings were read again.
    #[must_use]
    pub fn set_guard_rules(&mut self, rules: Rules, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let output = self.guard.set_rules(rules, now);
        self.guarded(output, now, &mut actions);
        self.go_on(now, &mut actions);
        actions
    }

    /// Lets go what the guard holds of these services, or all of it, and a set that was refused
    /// because it has lost servers. Gives the names of what was held.
    #[must_use]
    pub fn release(
        &mut self,
        services: Option<&[String]>,
        now: Instant,
    ) -> (Vec<String>, Vec<Action>) {
        let mut actions = Vec::new();
        let (mut names, output) = self.guard.release(services, now);
        self.guarded(output, now, &mut actions);
        if services.is_none() && self.allow_loss(now, &mut actions) {
            names.push("what the set that is held back has lost".to_owned());
        }
        if services.is_none() && self.load_rejected(now, &mut actions) {
            names.push("the set that HAProxy rejected".to_owned());
        }
        self.go_on(now, &mut actions);
        (names, actions)
    }

    /// Starts every watch anew, as after a change of Consul's settings. What is known stays.
    #[must_use]
    pub fn restart_watches(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (query, watched) in &mut self.watches {
            actions.push(Action::StopWatch(watched.id));
            self.next_watch += 1;
            watched.id = WatchId(self.next_watch);
            actions.push(Action::StartWatch(watched.id, query.clone()));
        }
        actions
    }

    pub(super) fn watch(&mut self, query: Query, now: Instant, actions: &mut Vec<Action>) {
        if self.watches.contains_key(&query) {
            return;
        }
        if let Some(recalled) = self.memory.recall(&query) {
            let (answer, reference) = (recalled.answer, recalled.reference);
            self.guard
                .restore(&query, answer, reference, recalled.eased, now);
        }
        let left = self.memory.left_answer(&query);
        let shown = left.is_some_and(|answer| !answer.is_empty());
        self.next_watch += 1;
        let id = WatchId(self.next_watch);
        actions.push(Action::StartWatch(id, query.clone()));
        let watched = Watched {
            id,
            known: None,
            failing: None,
            answered_at: None,
            age: Duration::ZERO,
            from_snapshot: false,
            left_out: false,
            shown,
        };
        self.watches.insert(query, watched);
    }

    pub(super) fn answered(
        &mut self,
        id: WatchId,
        query: &Query,
        news: News,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(watched) = current(&mut self.watches, id, query) else {
            return;
        };
        if let Some(since) = self.outage.take() {
            let message = format!("The catalog answers again after {}.", seconds(now - since));
            say(actions, Weight::Info, message);
        }
        if let Some(failing) = watched.failing.take() {
            let weight = match failing.outage {
                true => Weight::Detail,
                false => Weight::Info,
            };
            let message = format!(
                "The catalog answers {query} again after {}.",
                seconds(now - failing.since)
            );
            say(actions, weight, message);
        }
        watched.answered_at = Some(now);
        watched.age = news.age;
        watched.from_snapshot = false;
        watched.left_out = false;
        self.memory.forget(query);
        let Some(answer) = news.answer else {
            self.guard.confirm(query, news.filtered);
            return;
        };
        watched.shown |= !answer.is_empty();
        let easing = self.guard.easing();
        let output = self.guard.take(query, answer, news.filtered, now);
        if self.guard.easing() != easing {
            self.memory.changed(now);
        }
        self.guarded(output, now, actions);
    }

    pub(super) fn inspected(
        &mut self,
        evidence: Evidence,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let kept = |guard: &Guard| (guard.canary_seen().count(), guard.easing());
        let before = kept(&self.guard);
        let output = self.guard.inspected(evidence, now);
        if kept(&self.guard) != before {
            self.memory.changed(now);
        }
        self.guarded(output, now, actions);
    }

    /// Carries out what the guard wants.
    pub(super) fn guarded(&mut self, output: Vec<Output>, now: Instant, actions: &mut Vec<Action>) {
        for output in output {
            match output {
                Output::Changed(query) => self.show(&query, now),
                Output::Ask(inquiry) => actions.push(Action::Inspect(inquiry)),
                Output::Began(hold) => {
                    say(actions, Weight::Warning, began(&hold, now));
                }
                Output::Ended { hold, why } => {
                    let message = format!(
                        "The hold of {} ended after {}: {why}.",
                        hold.query,
                        seconds(now - hold.since)
                    );
                    say(actions, Weight::Info, message);
                }
            }
        }
    }

    /// What templates see of a query, if that has changed.
    fn show(&mut self, query: &Query, now: Instant) {
        let Some(watched) = self.watches.get_mut(query) else {
            return;
        };
        let Some(answer) = self.guard.effective(query) else {
            return;
        };
        if watched.answer() == Some(&answer) {
            return;
        }
        self.revisions += 1;
        let former = watched.known.replace(Known {
            answer,
            revision: self.revisions,
        });
        // The first answer to a query that a rendering found belongs to that rendering's rounds.
        if former.is_some() {
            self.rounds = 0;
        }
        self.mark_changed(now);
    }

    pub(super) fn watch_failed(
        &mut self,
        id: WatchId,
        query: &Query,
        failure: Failed,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(watched) = current(&mut self.watches, id, query) else {
            return;
        };
        let Failed {
            error,
            attempts,
            refused,
            outage,
        } = failure;
        let former = watched.failing.take();
        let same = former.as_ref().is_some_and(|former| former.error == error);
        watched.failing = Some(Failing {
            error: error.clone(),
            since: former.map_or(now, |former| former.since),
            outage: outage.is_some(),
        });
        let unknown = watched.known.is_none();
        // Once may be a proxy or an agent that starts.
        let blamed = refused && outage.is_none() && attempts >= BLAMED;
        // Said once when it begins or turns into something else; repeats are a detail.
        match outage {
            Some(sentence) if self.outage.is_none() => {
                self.outage = Some(now);
                let known = |watched: &&Watched| watched.known.is_some();
                let keep = self.watches.values().filter(known).count();
                let message = format!("{sentence}{}", kept(keep));
                say(actions, Weight::Warning, message);
            }
            None if !same && attempts <= 1 => {
                let kept = if unknown {
                    ""
                } else {
                    " What is known stays in force."
                };
                say(actions, Weight::Warning, format!("{error}{kept}"));
            }
            _ => say(actions, Weight::Detail, error),
        }
        if unknown {
            self.answer_from_memory(query, now, actions);
            if blamed {
                self.leave_out(query, now);
            }
        }
    }

    /// Takes no instances for the answer to a query that is refused for good and whose name comes from the catalog:
    /// one bad name never keeps the other services waiting. A service that had instances before keeps them.
    fn leave_out(&mut self, query: &Query, now: Instant) {
        let answer = match &query.kind {
            Kind::Service { filter: None, .. } => Answer::Instances(Vec::new()),
            Kind::Node { .. } => Answer::Node(None),
            _ => return,
        };
        let lists = |watched: &Watched| match (&query.kind, watched.answer().map(|one| &**one)) {
            (Kind::Service { name, .. }, Some(Answer::Services(list))) => {
                list.iter().any(|one| one.name == *name)
            }
            (Kind::Node { name }, Some(Answer::Nodes(list))) => {
                list.iter().any(|one| one.name == *name)
            }
            _ => false,
        };
        let mut others = self.watches.iter();
        let is_listed = others.any(|(other, watched)| other.scope == query.scope && lists(watched));
        if let Some(watched) = self.watches.get_mut(query)
            && watched.known.is_none()
            && !watched.shown
            && is_listed
        {
            self.revisions += 1;
            watched.known = Some(Known {
                answer: Arc::new(answer),
                revision: self.revisions,
            });
            watched.left_out = true;
            self.mark_changed(now);
        }
    }

    /// What [`Core::leave_out`] has left out of the last rendering, one sentence each.
    pub(super) fn left_out(&self) -> BTreeSet<String> {
        let sentence = |query: &Query| {
            let watched = self.watches.get(query).filter(|one| one.left_out)?;
            let what = match &query.kind {
                Kind::Service { name, .. } => format!("Service {name:?}"),
                Kind::Node { name } => format!("Node {name:?}"),
                _ => return None,
            };
            let error = &watched.failing.as_ref()?.error;
            Some(format!(
                "{what} is left out because its query fails: {error}"
            ))
        };
        self.used.iter().filter_map(sentence).collect()
    }

    /// Cancels the watches of queries that neither the last rendering nor the last good structure asks.
    pub(super) fn cancel_unused(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut used = Arc::clone(&self.used);
        let others = self.structure_asks().filter(|query| !used.contains(query));
        let others: Vec<Query> = others.cloned().collect();
        if !others.is_empty() {
            Arc::make_mut(&mut used).extend(others);
        }
        self.watches.retain(|query, watched| {
            let keep = used.contains(query);
            if !keep {
                actions.push(Action::StopWatch(watched.id));
            }
            keep
        });
        let output = self.guard.keep_only(&used, now);
        self.guarded(output, now, actions);
    }
}

/// The watch of a query, unless the message comes from one that was cancelled.
fn current<'a>(
    watches: &'a mut BTreeMap<Query, Watched>,
    id: WatchId,
    query: &Query,
) -> Option<&'a mut Watched> {
    watches.get_mut(query).filter(|watched| watched.id == id)
}

/// What an outage leaves in force.
fn kept(queries: usize) -> String {
    match queries {
        0 => String::new(),
        1 => " One query keeps its last answer.".to_owned(),
        queries => format!(" {queries} queries keep their last answers."),
    }
}

fn began(hold: &View, now: Instant) -> String {
    let release = hold.service.as_deref().unwrap_or("--all");
    let time = match hold.ends_at {
        Some(end) => format!(", in {}", seconds(end.saturating_duration_since(now))),
        None => String::new(),
    };
    format!(
        "{} of {} vanished from {} and are held, besides {} that are there; HAProxy's own checks decide about them. {} The hold ends when they return{time}, or by `gatewright release {release}`.",
        hold.held, hold.reference, hold.query, hold.present, hold.reason
    )
}
