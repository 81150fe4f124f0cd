//! The world around the machine: the catalog, the files and HAProxy in a few numbers, and what each step makes of
//! them.

use std::path::PathBuf;

use super::*;
use crate::apply::set::{Role, SetFile};
use crate::apply::verdict::Servers;

/// What may happen on the way to any state.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// How often the structure that is wanted changes.
    pub changes: u8,
    /// How often the servers do.
    pub deploys: u8,
    /// With 2 and no deploy there are 289,151 states, all of them good, which take a minute;
    /// `GATEWRIGHT_MODEL_FAULTS` sets it.
    pub faults: u8,
}

const TIMING: Timing = Timing {
    settle: Duration::from_secs(1),
    max_settle: Duration::from_secs(3),
    reload_interval: Duration::from_secs(2),
    compare_interval: Duration::from_secs(10),
    max_rounds: 3,
    tells: true,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nothing was done yet.
    Begun,
    /// The files are swapped in and the journal says so; HAProxy is being told.
    Swapped,
}

#[derive(Clone)]
pub struct World {
    pub core: Core,
    pub now: Instant,
    /// The structure that the catalog wants, and how many deploys its servers have had.
    pub wanted: u8,
    pub deployed: u8,
    /// What the live files hold, and what a failed change goes back to.
    pub files: u8,
    good: u8,
    /// The set of a change that has not ended.
    journal: Option<u8>,
    pub worker: Option<u8>,
    /// What HAProxy has rejected.
    rejected: Option<u8>,
    /// The set, and whether it is an interim one.
    rendering: Option<(u8, bool)>,
    applying: Option<(u8, Means, Phase)>,
    observing: bool,
    left: Budget,
}

fn candidate(content: u8) -> Arc<Candidate> {
    Arc::new(Candidate::new(vec![SetFile {
        destination: PathBuf::from("/h.cfg"),
        role: Role::Config,
        mode: None,
        text: format!("content {content}"),
    }]))
}

/// A set of this structure, with the servers of so many deploys.
fn set_of(structure: u8, deployed: u8) -> u8 {
    structure + STRUCTURES * deployed
}

fn structure(content: u8) -> u8 {
    content % STRUCTURES
}

fn deployed(content: u8) -> u8 {
    content / STRUCTURES
}

/// The sets by their numbers, made once.
pub struct Sets(Vec<Arc<Candidate>>);

impl Sets {
    pub fn new() -> Sets {
        let most = set_of(UNLOADABLE, DEPLOYS);
        Sets((FORMER..=most).map(candidate).collect())
    }

    fn revision(&self, content: u8) -> &Revision {
        &self.0[usize::from(content)].revision
    }

    fn number(&self, revision: &Revision) -> u8 {
        let found = self.0.iter().position(|set| set.revision == *revision);
        u8::try_from(found.unwrap()).unwrap()
    }
}

fn query() -> Query {
    Query::service("web")
}

fn key() -> Query {
    Query::key("structure")
}

fn used() -> BTreeSet<Query> {
    BTreeSet::from([query(), key()])
}

fn by_commands(from: u8, to: u8) -> bool {
    let (one, two) = (structure(from), structure(to));
    from != to && (one == two || one.max(two) == TOLD)
}

fn is_good(content: u8) -> bool {
    content != FOREIGN && structure(content) <= TOLD
}

impl World {
    /// Gatewright has just started beside a HAProxy on the former set, which is its last good one.
    pub fn new(sets: &Sets, budget: Budget) -> World {
        let now = Instant::now();
        let mut world = World {
            core: Core::new(TIMING, now).0,
            now,
            wanted: FORMER,
            deployed: 0,
            files: FORMER,
            good: FORMER,
            journal: None,
            worker: Some(FORMER),
            rejected: None,
            rendering: None,
            applying: None,
            observing: false,
            left: Budget {
                faults: std::env::var("GATEWRIGHT_MODEL_FAULTS")
                    .ok()
                    .and_then(|number| number.parse().ok())
                    .unwrap_or(budget.faults),
                ..budget
            },
        };
        world.start(sets);
        world
    }

    fn start(&mut self, sets: &Sets) {
        let (core, _) = Core::new(TIMING, self.now);
        self.core = core;
        // Work costs nothing here, so that the pace never waits.
        self.core.pace.used(Duration::ZERO);
        (self.rendering, self.applying, self.observing) = (None, None, false);
        let loaded = Loaded {
            templates: "".into(),
            literal: used(),
            warnings: Vec::new(),
        };
        self.event(Event::Loaded(Ok(loaded)), sets);
        self.answer(key(), self.wanted, sets);
        self.answer(query(), self.deployed, sets);
    }

    fn answer(&mut self, query: Query, number: u8, sets: &Sets) {
        let watch = self.core.watches()[&query].id;
        let answer = Answer::Datacenters(vec![String::new(); usize::from(number)]);
        let event = Event::Answered {
            watch,
            query,
            answer: Some(Arc::new(answer)),
            age: Duration::ZERO,
            filtered: false,
        };
        self.event(event, sets);
    }

    fn render(&mut self, answers: &Answers, interim: bool) {
        assert_eq!(self.rendering, None, "two renderings at once");
        let number = |query| u8::try_from(answers.0[&query].answer.len()).unwrap();
        self.rendering = Some((set_of(number(key()), number(query())), interim));
    }

    fn event(&mut self, event: Event, sets: &Sets) {
        let actions = self.core.handle(event, self.now);
        self.carry_out(actions, sets);
    }

    fn carry_out(&mut self, actions: Vec<Action>, sets: &Sets) {
        for action in actions {
            match action {
                Action::Render(answers) => self.render(&answers, false),
                Action::RenderInterim(answers, _) => self.render(&answers, true),
                Action::Apply(candidate, means) => {
                    assert_eq!(self.applying, None, "two sets in flight");
                    assert!(!self.observing, "applied while HAProxy is looked at");
                    let content = sets.number(&candidate.revision);
                    self.applying = Some((content, means, Phase::Begun));
                }
                Action::Observe => {
                    assert!(self.applying.is_none() && !self.observing);
                    self.observing = true;
                }
                Action::StartWatch(..)
                | Action::StopWatch(_)
                | Action::LoadTemplates
                | Action::Inspect(_)
                | Action::Save(_)
                | Action::AllowLoss
                | Action::ForgetRejections
                | Action::Say(_) => {}
            }
        }
    }

    /// The world after this step; `None` where it cannot happen.
    pub fn after(&self, step: Step, sets: &Sets) -> Option<World> {
        if !self.may(step) {
            return None;
        }
        let mut world = self.clone();
        if step.is_fault() {
            world.left.faults = world.left.faults.checked_sub(1)?;
        }
        world.take(step, sets)?;
        world.check(self, sets);
        Some(world)
    }

    /// False for steps that surely cannot happen: a look that copies nothing.
    fn may(&self, step: Step) -> bool {
        if step.is_fault() && self.left.faults == 0 {
            return false;
        }
        match step {
            Step::Change(content) => self.left.changes > 0 && content != self.wanted,
            Step::Deploy => self.left.deploys > 0,
            Step::Rendered => self.rendering.is_some(),
            Step::Observed => self.observing,
            Step::HaproxyStarts => self.worker.is_none(),
            Step::Applied
            | Step::TimedOut
            | Step::Busy
            | Step::SignalLost
            | Step::AnsweredLate
            | Step::Crash { told: true } => self.applying.is_some(),
            Step::Time | Step::Crash { told: false } | Step::OthersReload | Step::HaproxyKilled => {
                true
            }
        }
    }

    fn take(&mut self, step: Step, sets: &Sets) -> Option<()> {
        match step {
            Step::Change(content) => {
                // What kills HAProxy at its start is another matter than what it is told while it runs.
                let starts = content == UNLOADABLE && self.worker.is_none();
                if content == self.wanted || starts {
                    return None;
                }
                self.left.changes = self.left.changes.checked_sub(1)?;
                self.wanted = content;
                self.answer(key(), content, sets);
            }
            Step::Deploy => {
                self.left.deploys = self.left.deploys.checked_sub(1)?;
                self.deployed += 1;
                self.answer(query(), self.deployed, sets);
            }
            Step::Rendered => {
                let (content, interim) = self.rendering.take()?;
                let rendered = Rendered::Complete {
                    candidate: Arc::clone(&sets.0[usize::from(content)]),
                    used: used(),
                    quarantined: Vec::new(),
                    noted: BTreeMap::new(),
                    listeners: Default::default(),
                };
                let event = match interim {
                    true => Event::RenderedInterim(rendered),
                    false => Event::Rendered(rendered),
                };
                self.event(event, sets);
            }
            Step::Observed => {
                if !self.observing {
                    return None;
                }
                self.observing = false;
                if self.journal.is_none() && self.worker == Some(self.files) {
                    self.good = self.files;
                }
                let observed = Observed {
                    reachable: self.worker.is_some(),
                    running: self
                        .worker
                        .filter(|content| *content != FOREIGN)
                        .map(|content| sets.revision(content).clone()),
                    servers: Servers::default(),
                    ..Observed::default()
                };
                self.event(Event::Observed(observed), sets);
            }
            Step::Time => {
                let due = self.core.poll_timeout()?;
                self.now = self.now.max(due);
                let actions = self.core.handle_timeout(self.now);
                self.carry_out(actions, sets);
            }
            Step::HaproxyStarts => {
                if self.worker.is_some() {
                    return None;
                }
                assert!(is_good(self.files), "HAProxy starts from {}", self.files);
                self.worker = Some(self.files);
            }
            Step::OthersReload => {
                if self.worker? == FOREIGN {
                    return None;
                }
                self.worker = Some(FOREIGN);
            }
            Step::HaproxyKilled => {
                // A start from files that only the start shows to be bad is HAProxy's own end.
                let core = &self.core;
                let held = [&core.latest, &core.pending, &core.applying];
                let held = held.map(|set| set.as_ref().map(|set| sets.number(&set.revision)));
                let rendering = self.rendering.map(|(content, _)| content);
                let told = [Some(self.wanted), Some(self.files), rendering];
                let of_it = |set: &Option<u8>| set.map(structure) == Some(UNLOADABLE);
                if self.worker.is_none() || held.iter().chain(&told).any(of_it) {
                    return None;
                }
                self.worker = None;
            }
            Step::Crash { told } => {
                let swapped = matches!(self.applying, Some((_, _, Phase::Swapped)));
                if told {
                    let (content, ..) = self.applying.filter(|_| swapped)?;
                    self.worker = self.worker.map(|former| match is_good(content) {
                        true => content,
                        false => former,
                    });
                }
                self.start(sets);
            }
            Step::Applied | Step::TimedOut | Step::Busy | Step::SignalLost | Step::AnsweredLate => {
                let (content, means, phase) = self.applying?;
                let outcome = match phase {
                    Phase::Begun => self.begin(content, means, step)?,
                    Phase::Swapped => Some(self.tell(content, step)?),
                };
                if let Some(outcome) = outcome {
                    self.applying = None;
                    let revision = sets.revision(content).clone();
                    self.event(Event::Applied { revision, outcome }, sets);
                }
            }
        }
        Some(())
    }

    /// What the applier does up to the swap of the files; `Some(None)`: it goes on from there.
    fn begin(&mut self, content: u8, means: Means, step: Step) -> Option<Option<Outcome>> {
        if let Some(journal) = self.journal.take() {
            match self.worker == Some(journal) {
                true => self.good = journal,
                false => self.files = self.good,
            }
        }
        let runs = self.worker == Some(content) && self.files == content;
        let fault = step != Step::Applied;
        let outcome = if means != Means::Reload && runs {
            self.good = content;
            Outcome::Unchanged
        } else if self.rejected == Some(content) {
            Outcome::StillRejected(why())
        } else if self.worker.is_none() && self.files == content {
            written()
        } else if means != Means::Reload
            && self.worker == Some(self.good)
            && by_commands(self.good, content)
            && step != Step::SignalLost
        {
            return match step {
                Step::Applied => {
                    (self.worker, self.files, self.good) = (Some(content), content, content);
                    Some(Some(confirmed(false)))
                }
                // The commands are undone.
                Step::TimedOut => Some(Some(Outcome::Failed("No answer.".into()))),
                _ => None,
            };
        } else if means == Means::Commands {
            Outcome::NeedsReload("it is so".into())
        } else {
            return match step {
                Step::Busy => Some(Some(Outcome::Busy("Old workers.".into()))),
                Step::TimedOut => Some(Some(Outcome::Failed("No answer.".into()))),
                Step::Applied if structure(content) == INVALID => {
                    Some(Some(Outcome::Refused(why())))
                }
                Step::Applied => {
                    self.files = content;
                    self.journal = Some(content);
                    self.applying = Some((content, means, Phase::Swapped));
                    Some(None)
                }
                _ => None,
            };
        };
        // Nothing can go wrong where nothing is done.
        (!fault || step == Step::SignalLost && means == Means::Commands).then_some(Some(outcome))
    }

    fn tell(&mut self, content: u8, step: Step) -> Option<Outcome> {
        self.journal = None;
        match step {
            Step::Applied if self.worker.is_none() => Some(written()),
            Step::Applied if structure(content) == UNLOADABLE => {
                self.files = self.good;
                self.rejected = Some(content);
                // It is brought back, should others have moved it.
                self.worker = Some(self.good);
                Some(rejected())
            }
            Step::Applied => {
                (self.worker, self.good) = (Some(content), content);
                Some(confirmed(true))
            }
            Step::SignalLost | Step::AnsweredLate => {
                let worker = self.worker?;
                self.files = self.good;
                let loaded = step == Step::AnsweredLate && is_good(content);
                self.worker = Some(if loaded { content } else { worker });
                Some(Outcome::Failed("No answer.".into()))
            }
            _ => None,
        }
    }

    /// What must be so in every state.
    fn check(&self, before: &World, sets: &Sets) {
        let live = structure(self.files);
        assert_ne!(live, INVALID, "the live files were never validated");
        assert!(is_good(self.good), "{}", self.good);
        let unloadable = live == UNLOADABLE;
        assert!(
            !unloadable || self.journal.is_some(),
            "HAProxy would not start from the files"
        );
        assert_ne!(self.worker.map(structure), Some(INVALID));
        // A newer set is never overwritten by an older one: what is begun is the latest, or what is in
        // force while the latest is refused.
        if let (None, Some((content, _, Phase::Begun))) = (before.applying, self.applying) {
            let is = |set: &Option<Arc<Candidate>>| {
                set.as_ref()
                    .is_some_and(|set| set.revision == *sets.revision(content))
            };
            let refused = self.core.refused.as_ref().map(|refused| &refused.revision);
            let latest = self.core.latest.as_ref().map(|set| &set.revision);
            assert!(
                is(&self.core.latest)
                    || is(&self.core.in_force) && refused == latest
                    || self.core.applies_interim(),
                "an older set is applied"
            );
            assert!(
                deployed(content) >= deployed(self.good),
                "servers are taken back"
            );
            if self.core.applies_interim() {
                let in_force = self.core.in_force.as_ref();
                let kept = in_force.map(|set| structure(sets.number(&set.revision)));
                assert_eq!(Some(structure(content)), kept, "another structure");
            }
        }
    }

    /// What the files and the worker must hold in the end, if this is it.
    pub fn has_converged(&self, sets: &Sets) -> bool {
        let at_rest = self.applying.is_none() && self.rendering.is_none();
        let equal = self.journal.is_none()
            && (self.worker == Some(self.files) || self.nothing_was_applied())
            && self.files == self.good
            && is_good(self.files);
        let wanted = set_of(self.wanted, self.deployed);
        // Servers are current whatever becomes of the structure.
        let right = match is_good(wanted) {
            true => self.files == wanted,
            false => self.core.applied.is_none() || deployed(self.files) == self.deployed,
        };
        let said = match is_good(wanted) {
            true => self.core.applied().is_some_and(|applied| {
                applied.confirmed && applied.revision == *sets.revision(wanted)
            }),
            false => self
                .core
                .refused()
                .is_some_and(|refused| refused.revision == *sets.revision(wanted)),
        };
        at_rest && equal && right && said
    }

    /// Whether it has found nothing but refused sets since its start, and so leaves HAProxy to whoever
    /// made it load something else.
    fn nothing_was_applied(&self) -> bool {
        self.core.applied.is_none() && !is_good(self.wanted)
    }

    /// The next step of a world in which nothing goes wrong any more.
    pub fn calm(&self, sets: &Sets) -> World {
        let order = [
            Step::HaproxyStarts,
            Step::Rendered,
            Step::Applied,
            Step::Observed,
            Step::Time,
        ];
        let mut found = order.iter().filter_map(|step| self.after(*step, sets));
        found.next().unwrap()
    }

    /// The same for any two worlds that cannot be told apart from here on: instants count by their
    /// distance from now, and what has passed is passed.
    pub fn key(&self, sets: &Sets) -> Vec<u8> {
        let core = &self.core;
        let ms = |time: Duration| u16::try_from(time.as_millis().min(65_000)).unwrap() + 1;
        let due =
            |at: Option<Instant>| at.map_or(0, |at| ms(at.saturating_duration_since(self.now)));
        let ago = |at: Instant, most: Duration| ms((self.now - at).min(most));
        let set =
            |revision: Option<&Revision>| revision.map_or(99, |one| u16::from(sets.number(one)));
        let of = |one: &Option<Arc<Candidate>>| set(one.as_ref().map(|one| &one.revision));
        let small = |number: Option<u8>| number.map_or(99, u16::from);
        let (first, latest) = core.burst.map_or((0, 0), |(first, latest)| {
            (ago(first, TIMING.max_settle), ago(latest, TIMING.settle))
        });
        let phase = self.applying.map_or(99, |(content, means, phase)| {
            u16::from(content) + 10 * (means as u16) + 100 * (phase as u16)
        });
        let flags = [
            core.changed,
            core.rendering,
            core.needs_reload.is_some(),
            core.repair,
            core.fresh,
            core.observing,
            core.applied
                .as_ref()
                .is_some_and(|applied| applied.confirmed),
            core.refused
                .as_ref()
                .is_some_and(|refused| refused.by_haproxy),
            core.observed.reachable,
            self.observing,
            self.rendering.is_some_and(|(_, interim)| interim),
        ];
        let flags = flags.iter().fold(0, |all, flag| all * 2 + u16::from(*flag));
        let parts = [
            flags,
            first,
            latest,
            of(&core.pending),
            of(&core.applying),
            of(&core.latest),
            of(&core.in_force),
            set(core.applied.as_ref().map(|applied| &applied.revision)),
            set(core.refused.as_ref().map(|refused| &refused.revision)),
            due(core.refused.as_ref().and_then(|refused| refused.again)),
            due(core.not_before),
            due(core.no_reload_before),
            u16::try_from(core.retries).unwrap(),
            due(Some(core.next_look)),
            set(core.observed.running.as_ref()),
            u16::from(set_of(self.wanted, self.deployed)),
            u16::from(self.files),
            u16::from(self.good),
            small(self.journal),
            small(self.worker),
            small(self.rejected),
            small(self.rendering.map(|(content, _)| content)),
            phase,
            u16::from(self.left.changes),
            u16::from(self.left.faults),
            u16::from(self.left.deploys),
        ];
        // Bytes are compared at once.
        let mut key = Vec::with_capacity(2 * parts.len() + 20);
        let interim = core.interim_key(due, set, |answers| {
            let number = |query| answers.0.get(&query).map_or(0, |known| known.answer.len());
            number(self::key()) as u16 + 10 * number(query()) as u16
        });
        for part in parts.into_iter().chain(interim) {
            key.extend_from_slice(&part.to_be_bytes());
        }
        key
    }
}

fn why() -> Vec<Diagnostic> {
    vec![Diagnostic::error("haproxy", "no")]
}

fn rejected() -> Outcome {
    Outcome::Rejected(why())
}

fn written() -> Outcome {
    Outcome::Written {
        reason: "HAProxy is not running".into(),
        changes: "a change".into(),
    }
}

fn confirmed(reloaded: bool) -> Outcome {
    Outcome::Confirmed {
        means: "it was told".into(),
        reloaded,
        changes: "a change".into(),
        took: Duration::from_millis(1),
    }
}
