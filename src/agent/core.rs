//! The sidecar's decisions, as a machine: an event and the time go in, actions come out. It knows
//! no socket, file, process or clock, so every rule here is tested without one.
//!
//! The rules, in the order in which data flows:
//!
//! * every query found in the templates is watched; one that a complete rendering did not use is
//!   cancelled;
//! * a change is rendered at once and tried by commands to the running worker; only a reload waits for a
//!   short quiet time, but never longer than a bound;
//! * nothing is rendered while a watched query has neither an answer nor an error, and nothing is
//!   applied that was not rendered from complete answers;
//! * one set is applied at a time, the newest wins, and two reloads keep their distance;
//! * a set that was refused is asked about once a minute until the rendered content changes; HAProxy does
//!   not load one again that it has rejected, until its program changes or the operator says so;
//! * while the newest set cannot be applied, the last good structure goes on with the servers of now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::counts::{Cause, Counts, End};
use self::interim::Interim;
use self::pace::Pace;
use self::watches::News;
use super::event::{
    Action, Answers, Event, Loaded, Notice, Observed, Outcome, Rendered, WatchId, Weight,
};
use crate::apply::set::{Candidate, Revision};
use crate::apply::verdict::Means;
use crate::catalog::guard::{Guard, Rules, View};
use crate::catalog::{Answer, Kind, Known, Query};
use crate::diagnostic::Diagnostic;

/// The first and the longest pause before something that failed here is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest while nothing is in force: HAProxy serves nothing meanwhile.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// How long a set that was refused is left alone while nothing changes. Asking again touches neither the
/// live files nor a HAProxy that has rejected it.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How often servers are looked at that were removed and still have connections.
const LEAVING: Duration = Duration::from_secs(1);

/// How soon HAProxy is looked at after it was given something.
const LOOK_AFTER: Duration = Duration::from_millis(200);

/// What the settings say to the machine, mostly times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A reload waits for so long a quiet time.
    pub settle: Duration,
    /// But no longer than this.
    pub max_settle: Duration,
    /// The shortest time between two reloads.
    pub reload_interval: Duration,
    /// How often HAProxy and the files are looked at.
    pub compare_interval: Duration,
    /// Whether anybody is told of a set. If not, a HAProxy that runs something else is left alone.
    pub tells: bool,
    /// How many renderings in a row may discover further queries.
    pub max_rounds: u32,
}

/// What HAProxy is known to have taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The set.
    pub revision: Revision,
    /// Whether the running worker reported it.
    pub confirmed: bool,
    /// When.
    pub at: Instant,
    /// What changed and what was done, in words.
    pub story: String,
}

/// A set that is not in force, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The set.
    pub revision: Revision,
    /// Why.
    pub why: Vec<Diagnostic>,
    /// Whether HAProxy itself rejected it after validation had passed.
    pub by_haproxy: bool,
    /// When it is asked about again: a busy address may be free, a missing file be there, HAProxy's
    /// program be another one.
    pub again: Option<Instant>,
}

/// What keeps a change from being rendered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waiting {
    /// Queries without an answer yet.
    pub needed: BTreeSet<Query>,
    /// Keys that Consul does not have.
    pub absent: BTreeSet<Query>,
    /// Since when.
    pub since: Option<Instant>,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Core {
    timing: Timing,
    next_watch: u64,
    revisions: u64,
    watches: BTreeMap<Query, Watched>,
    guard: Guard,
    memory: Memory,
    templates_loaded: bool,
    /// The texts of the templates that were loaded last.
    templates: Arc<str>,
    /// The queries that the last rendering asked.
    used: Arc<BTreeSet<Query>>,
    interim: Interim,
    loading: bool,
    template_errors: Vec<Diagnostic>,
    render_errors: Vec<Diagnostic>,
    /// Whether there is a change that no rendering has seen.
    changed: bool,
    /// First and latest change of those that came close together.
    burst: Option<(Instant, Instant)>,
    rendering: bool,
    /// When a rendering that could not even begin is tried again, and how often that was in a row.
    render_again: Option<Instant>,
    render_retries: u32,
    rounds: u32,
    waiting: Waiting,
    quarantined: Vec<String>,
    noted: BTreeMap<String, String>,
    register: Register,
    /// Rendered and not yet applied.
    pending: Option<Arc<Candidate>>,
    /// Why commands do not do for the pending one, once that was tried.
    needs_reload: Option<String>,
    /// Whether what runs can only be put right by a reload.
    repair: bool,
    /// Whether the pending one was rendered with nothing being applied.
    fresh: bool,
    /// Being applied.
    applying: Option<Arc<Candidate>>,
    pace: Pace,
    /// The last one that was rendered whole, whatever came of it.
    latest: Option<Arc<Candidate>>,
    applied: Option<Applied>,
    /// The same set, to bring HAProxy back to. Older than the latest where that was refused.
    in_force: Option<Arc<Candidate>>,
    refused: Option<Refused>,
    /// What the sets that are refused have lost since the last good one.
    loss: Option<applying::Loss>,
    /// After a failure.
    not_before: Option<Instant>,
    /// After a reload.
    no_reload_before: Option<Instant>,
    /// Failed tries to apply in a row, and why the last of them failed.
    retries: u32,
    failure: String,
    counts: Counts,
    observed: Observed,
    observing: bool,
    next_look: Instant,
    /// Since when the catalog answers nothing, as far as it has been said.
    outage: Option<Instant>,
}

impl Core {
    /// A machine that knows nothing yet, and its first actions.
    pub fn new(timing: Timing, now: Instant) -> (Core, Vec<Action>) {
        let core = Core {
            timing,
            next_watch: 0,
            revisions: 0,
            watches: BTreeMap::new(),
            guard: Guard::new(Rules {
                enabled: false,
                ..Rules::default()
            }),
            memory: Memory::default(),
            templates_loaded: false,
            templates: "".into(),
            used: Arc::default(),
            interim: Interim::default(),
            loading: true,
            template_errors: Vec::new(),
            render_errors: Vec::new(),
            changed: false,
            burst: None,
            rendering: false,
            render_again: None,
            render_retries: 0,
            rounds: 0,
            waiting: Waiting::default(),
            quarantined: Vec::new(),
            noted: BTreeMap::new(),
            register: Register::default(),
            pending: None,
            needs_reload: None,
            repair: false,
            fresh: false,
            applying: None,
            pace: Pace::default(),
            latest: None,
            applied: None,
            in_force: None,
            refused: None,
            loss: None,
            not_before: None,
            no_reload_before: None,
            retries: 0,
            failure: String::new(),
            counts: Counts::default(),
            observed: Observed::default(),
            observing: false,
            // The first look is soon: a HAProxy that runs the last good set makes us ready.
            next_look: now + LOOK_AFTER.min(timing.compare_interval),
            outage: None,
        };
        (core, vec![Action::LoadTemplates])
    }

    /// Takes one event and says what to do.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::TemplatesChanged => self.load_templates(&mut actions),
            Event::Loaded(result) => self.loaded(result, now, &mut actions),
            Event::Answered {
                watch,
                query,
                answer,
                age,
                filtered,
            } => {
                let news = News {
                    answer,
                    age,
                    filtered,
                };
                self.answered(watch, &query, news, now, &mut actions);
            }
            Event::WatchFailed {
                watch,
                query,
                error,
                attempts,
                refused,
                outage,
            } => {
                let failure = watches::Failed {
                    error,
                    attempts,
                    refused,
                    outage,
                };
                self.watch_failed(watch, &query, failure, now, &mut actions);
            }
            Event::Inspected(evidence) => self.inspected(evidence, now, &mut actions),
            Event::Saved(result) => self.saved(result, now, &mut actions),
            Event::Rendered(result) => self.rendered(result, now, &mut actions),
            Event::RenderedInterim(result) => self.rendered_interim(result, now, &mut actions),
            Event::Applied { revision, outcome } => {
                self.apply_ended(&revision, outcome, now, &mut actions);
            }
            Event::Observed(observed) => self.looked(observed, now, &mut actions),
        }
        self.go_on(now, &mut actions);
        actions
    }

    /// How much processor time the process and its children have used since the start. Told with each
    /// event, it is what work costs; else the time it takes is.
    pub fn processor_time(&mut self, used: Duration) {
        self.pace.used(used);
    }

    /// Does what has fallen due. Harmless when nothing has.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.go_on(now, &mut actions);
        actions
    }

    /// When [`Core::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let render = match self.has_to_render() {
            _ if self.interim.is_rendering() => None,
            _ if self.has_to_render_interim() => self.pace.ready_at(),
            true if self.needs_reload.is_some() => self.settled_at().max(self.render_ready_at()),
            true => self.render_ready_at(),
            false => None,
        };
        let apply = match (&self.pending, &self.applying) {
            (Some(_), None) if self.observing => None,
            (Some(pending), None) if !self.is_current(pending) => None,
            (Some(_), None) if self.wants_reload() => {
                let earliest = self.no_reload_before.max(self.not_before);
                match self.rendering || self.has_to_render() {
                    true => self
                        .overdue_at()
                        .map(|end| earliest.map_or(end, |at| at.max(end))),
                    false => self.settled_at().max(earliest),
                }
            }
            (Some(_), None) if self.newer_comes() => None,
            (Some(_), None) if self.fresh => self.not_before,
            (Some(_), None) => self.not_before.max(self.pace.ready_at()),
            _ => None,
        };
        let look = (!self.observing && self.applying.is_none()).then_some(self.next_look);
        let again = match &self.refused {
            Some(refused) if self.pending.is_none() && self.applying.is_none() => refused.again,
            _ => None,
        };
        let interim = match (&self.applying, self.observing) {
            (None, false) => self.interim_due().flatten(),
            _ => None,
        };
        let guard = self.guard.poll_timeout();
        let save = self.save_due();
        let loss = self.loss_due();
        let render_again = self.render_again;
        let obstacle = self.obstacle_due();
        let servers = self.look_due();
        [
            render,
            render_again,
            apply,
            look,
            again,
            guard,
            save,
            loss,
            interim,
            obstacle,
            servers,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// After the settings were read again. What was refused may be allowed now, and what was applied
    /// may have to go elsewhere: the next rendering is offered as if it were the first.
    pub fn settings_changed(&mut self, timing: Timing) {
        self.timing = timing;
        self.refused = None;
        self.applied = None;
        self.pending = None;
        self.latest = None;
        self.in_force = None;
        self.interim.settings_changed();
        self.needs_reload = None;
        self.not_before = None;
        self.no_reload_before = None;
        self.retries = 0;
    }

    /// Whether a set is being applied right now.
    pub fn is_applying(&self) -> bool {
        self.applying.is_some()
    }

    // What is due.

    fn go_on(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let output = self.guard.handle_timeout(now);
        self.guarded(output, now, actions);
        if self.render_again.take_if(|again| now >= *again).is_some() {
            self.mark_changed(now);
        }
        self.look_at_servers(now, actions);
        let settled = self.settled_at().is_none_or(|end| now >= end);
        // While a reload or the pace waits, what changes meanwhile is rendered once.
        let paced = self.pace.is_ready(now);
        let waits = self.needs_reload.is_some() && !settled;
        let newest_goes = self.has_to_render() && !waits;
        if paced && self.interim_is_rendered(newest_goes) {
            self.render_interim(now, actions);
        } else if newest_goes
            && self
                .render_ready_at()
                .is_none_or(|ready_at| now >= ready_at)
            && !self.interim.is_rendering()
        {
            self.changed = false;
            self.render_again = None;
            self.rendering = true;
            self.pace.renders(now);
            let answers = self
                .watches
                .iter()
                .filter_map(|(query, watched)| Some((query.clone(), watched.known.clone()?)))
                .collect();
            let answers = Answers(Arc::new(answers));
            self.attempts(&answers);
            actions.push(Action::Render(answers));
        }
        if self.loss_due().is_some_and(|due| now >= due) {
            self.allow_loss(now, actions);
        }
        self.ask_again(now);
        let passed = |earliest: Option<Instant>| earliest.is_none_or(|earliest| now >= earliest);
        // A rendering under way may make a reload needless, unless it has waited long enough.
        let overdue = self.overdue_at().is_some_and(|end| now >= end);
        let newest = !self.rendering && !self.has_to_render();
        let reload = settled && passed(self.no_reload_before) && (newest || overdue);
        let due = match self.wants_reload() {
            true => reload,
            false => self.fresh || (paced && !self.newer_comes()),
        };
        let free = self.applying.is_none() && !self.observing;
        let current = self.pending.as_ref();
        let current = current.is_some_and(|pending| self.is_current(pending));
        let newest_goes = current && passed(self.not_before) && due;
        if free && self.interim_goes(now, newest_goes) {
            self.apply_interim(now, actions);
        } else if free
            && newest_goes
            && let Some(candidate) = self.pending.take()
        {
            self.newest_goes();
            self.not_before = None;
            self.needs_reload = None;
            self.fresh = false;
            self.pace.applies(now);
            let means = match (self.repair, reload) {
                (true, _) => Means::Reload,
                (false, true) => Means::Any,
                (false, false) => Means::Commands,
            };
            if reload {
                self.burst = None;
            }
            actions.push(Action::Apply(Arc::clone(&candidate), means));
            self.applying = Some(candidate);
        }
        if self.applying.is_none() && !self.observing && now >= self.next_look {
            self.observing = true;
            actions.push(Action::Observe);
        }
        self.save(now, actions);
    }
}

#[track_caller]
fn say(actions: &mut Vec<Action>, weight: Weight, message: String) {
    actions.push(Action::Say(Notice::new(weight, message)));
}

#[track_caller]
fn say_about(actions: &mut Vec<Action>, weight: Weight, message: String, revision: &Revision) {
    let notice = Notice::new(weight, message).about(revision);
    actions.push(Action::Say(notice));
}

/// How long is waited after so many failures in a row.
fn pause(retries: u32) -> Duration {
    let doubled = RETRY.0 * 2u32.saturating_pow(retries.clamp(1, 8) - 1);
    doubled.min(RETRY.1)
}

impl Core {
    /// The pause before what failed is tried again.
    fn pause(&self) -> Duration {
        match self.has_last_good() {
            true => pause(self.retries),
            false => pause(self.retries).min(RETRY_FIRST),
        }
    }

    /// What is in force while a set is not.
    fn in_force_now(&self) -> &'static str {
        match self.has_last_good() {
            true => "The last good configuration stays in force",
            false => "No configuration is in force yet",
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

mod applying;
mod counts;
mod interim;
mod listeners;
mod memory;
mod pace;
mod rendering;
mod view;
mod watches;

pub use interim::{Kept, Obstacle};
pub use listeners::Register;
pub use memory::Memory;
pub use watches::Watched;

#[cfg(test)]
mod tests;
