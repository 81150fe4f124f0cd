//! The part of the core that keeps servers current while the newest set cannot be applied.
//!
//! An *interim set* has the last good structure and the servers of now: the templates of the last good
//! set, its answers, and today's answers where a query asks for instances. It is applied as any other
//! set; the newest set goes on being tried beside it.
//!
//! ```text
//! newest set ─► refused, waits, fails ─► obstacle ─┐
//! an answer about instances changes ───────────────┴► interim set ─► applied ─► the last good set
//! ```
//!
//! An interim set that would be the newest set once more is not made. Where the data of services are why the
//! newest set is refused, those services keep the servers that they had: each service that has changed is
//! tried by itself, so that one with bad data costs no other.

use super::*;

/// A query that is new has so long a time for its first answer before servers go on without it.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// Why an interim set is not applied that a former process's answers make.
const NEWER: &str = "that set is newer than the answers that are known";

/// What keeps the newest set from being applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The templates on disk cannot be read, and none were read before.
    Templates,
    /// The rendering fails.
    Rendering,
    /// An answer or a key is missing.
    Waiting,
    /// Validation, the gate or HAProxy refuses the set.
    Refused,
    /// It waits for a reload.
    Reload,
    /// Applying it fails and is tried again.
    Failing,
}

impl Obstacle {
    /// Whether it is more than a short wait in the usual course.
    fn lasts(self) -> bool {
        self != Obstacle::Reload
    }

    /// The reason, to follow "because".
    pub fn reason(self) -> &'static str {
        match self {
            Obstacle::Templates => "the templates on disk cannot be read",
            Obstacle::Rendering => "the newest set cannot be rendered",
            Obstacle::Waiting => "the newest set waits for an answer or a key",
            Obstacle::Refused => "the newest set is refused",
            Obstacle::Reload => "the newest set waits for a reload",
            Obstacle::Failing => "the newest set could not be applied yet",
        }
    }
}

/// What a set was made from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    templates: Arc<str>,
    answers: Answers,
    used: Arc<BTreeSet<Query>>,
    /// Whether it is an interim set.
    interim: bool,
    /// The suspect that it is tried with.
    trial: Option<Query>,
}

/// The last good structure.
#[derive(Debug, Clone)]
struct Structure {
    templates: Arc<str>,
    answers: Answers,
    /// The queries that its templates ask; none before that is known.
    used: Arc<BTreeSet<Query>>,
    /// A former process left it, and perhaps not for the set in force, which is a moment newer then. A
    /// set that differs from that one in servers only proves it.
    unproved: bool,
}

/// Since when a structure is kept in place of the newest one, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Since when.
    pub since: Instant,
    /// Why.
    pub obstacle: Obstacle,
    /// Why its servers are not current, a whole sentence, if they are not.
    pub not_current: Option<String>,
    /// Whether the log says so.
    told: bool,
}

/// The state of interim sets.
#[derive(Debug, Clone, Default)]
pub(super) struct Interim {
    structure: Option<Structure>,
    origins: BTreeMap<Revision, Origin>,
    /// The templates and answers of the last rendering of the newest set.
    attempt: Option<(Arc<str>, Answers)>,
    kept: Option<Kept>,
    /// What was looked at last: nothing is compared twice.
    compared: Option<(u64, u64, Obstacle)>,
    /// Counts what the comparison depends on, besides the answers.
    changes: u64,
    wanted: Option<Answers>,
    rendering: Option<(Arc<str>, Answers, Option<Query>)>,
    rounds: u32,
    pending: Option<Arc<Candidate>>,
    needs_reload: bool,
    /// Whether the set that is being applied is one.
    applying: bool,
    /// Whether the set that was applied last is one.
    was_last: bool,
    /// Whether the rendering that began last is of one.
    was_rendered: bool,
    /// The last one that was refused.
    refused: Option<Revision>,
    suspects: BTreeMap<Query, Suspect>,
    /// The suspect that the wanted set is tried with.
    trial: Option<Query>,
    not_before: Option<Instant>,
    retries: u32,
}

/// Whether a query asks for instances, which servers are made from.
fn is_of_instances(query: &Query) -> bool {
    matches!(query.kind, Kind::Service { .. })
}

fn same(one: Option<&Known>, two: Option<&Known>) -> bool {
    one.map(|known| known.revision) == two.map(|known| known.revision)
}

impl Interim {
    pub(super) fn is_rendering(&self) -> bool {
        self.rendering.is_some()
    }

    pub(super) fn pending(&self) -> Option<&Arc<Candidate>> {
        self.pending.as_ref()
    }

    /// What a former process left.
    pub(super) fn restore(&mut self, templates: Option<Arc<str>>, unproved: bool) {
        self.structure = Some(Structure {
            templates: templates.unwrap_or_default(),
            answers: Answers(Arc::default()),
            used: Arc::default(),
            unproved,
        });
    }

    fn drop_pending(&mut self) {
        (self.wanted, self.pending, self.needs_reload) = (None, None, false);
    }

    /// After the templates were read again.
    pub(super) fn templates_changed(&mut self) {
        self.changes += 1;
    }

    /// After the settings were read again: the structure stays, what was tried is forgotten.
    pub(super) fn settings_changed(&mut self) {
        self.drop_pending();
        (self.refused, self.not_before, self.retries) = (None, None, 0);
        self.suspects.clear();
        self.changes += 1;
    }
}

impl Core {
    /// Whether the last good structure is kept in place of the newest one, and why.
    pub fn structure_kept(&self) -> Option<&Kept> {
        let kept = self.interim.kept.as_ref()?;
        (kept.obstacle.lasts() || self.runs_interim()).then_some(kept)
    }

    /// Whether an interim set may differ from the last good one in its servers only.
    pub fn changes_servers_only(&self) -> bool {
        let structure = self.interim.structure.as_ref();
        structure.is_some_and(|structure| structure.unproved)
    }

    /// Whether the set in force is an interim one.
    fn runs_interim(&self) -> bool {
        let origin = |set: &Arc<Candidate>| self.interim.origins.get(&set.revision);
        let in_force = self.in_force.as_ref().and_then(origin);
        in_force.is_some_and(|origin| origin.interim)
    }

    /// What keeps the newest set from being applied, if anything does.
    fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        if !self.templates_loaded {
            return (!self.template_errors.is_empty()).then_some(Obstacle::Templates);
        }
        if !self.render_errors.is_empty() {
            Some(Obstacle::Rendering)
        } else if self.waits_from().is_some_and(|from| now >= from) {
            Some(Obstacle::Waiting)
        } else if self.refused.is_some() {
            Some(Obstacle::Refused)
        } else if self.retries > 0 {
            Some(Obstacle::Failing)
        } else if self.pending.is_some() && self.wants_reload() {
            Some(Obstacle::Reload)
        } else {
            None
        }
    }

    /// From when on the newest set counts as waiting: at once for a key that does not exist, after a
    /// while for an answer that is on its way.
    fn waits_from(&self) -> Option<Instant> {
        let waiting = &self.waiting;
        let since = match waiting.since {
            Some(since) if !waiting.absent.is_empty() => return Some(since),
            Some(since) => Some(since),
            // A rendering that cannot begin.
            None if self.unanswered() => self.burst.map(|(first, _)| first),
            None => None,
        };
        since.map(|since| since + FIRST_ANSWER)
    }

    fn unanswered(&self) -> bool {
        let open = |watched: &Watched| watched.known.is_none() && watched.failing.is_none();
        self.changed && self.templates_loaded && self.watches.values().any(open)
    }

    /// When time alone makes an obstacle.
    pub(super) fn obstacle_due(&self) -> Option<Instant> {
        let structure = self.interim.structure.is_some() && self.templates_loaded;
        let kept = self.interim.kept.as_ref().map(|kept| kept.obstacle);
        let unseen = !matches!(kept, Some(Obstacle::Waiting | Obstacle::Rendering));
        self.waits_from().filter(|_| structure && unseen)
    }

    /// Compares the structure's servers with the catalog's where the newest set is not applied.
    pub(super) fn look_at_servers(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(obstacle) = self.obstacle(now) else {
            self.no_obstacle(actions);
            return;
        };
        let Some(structure) = &self.interim.structure else {
            return;
        };
        let kept = self.interim.kept.get_or_insert(Kept {
            since: now,
            obstacle,
            not_current: None,
            told: false,
        });
        kept.obstacle = obstacle;
        let compared = (self.revisions, self.interim.changes, obstacle);
        if self.interim.compared == Some(compared) {
            return;
        }
        self.interim.compared = Some(compared);
        let newest = |query: &Query| self.watches.get(query).and_then(|one| one.known.as_ref());
        let mut answers = structure.answers.0.as_ref().clone();
        for (query, known) in &mut answers {
            if is_of_instances(query)
                && let Some(now) = newest(query)
                && self.interim.is_suspect(query, now).is_none()
            {
                known.clone_from(now);
            }
        }
        let mut used = structure.used.iter();
        let is_newest = structure.templates == self.templates
            && used.all(|query| same(answers.get(query), newest(query)));
        let mut used = structure.used.iter();
        let differs = used.any(|query| !same(answers.get(query), structure.answers.0.get(query)));
        let unknown = structure.used.is_empty();
        self.interim.trial = None;
        if !differs && !unknown {
            // Nothing else is to be done: a suspect is tried.
            let suspects = self.interim.suspects.iter();
            let mut open = suspects.filter_map(|(query, suspect)| {
                let now = newest(query).filter(|now| now.revision == suspect.revision)?;
                (!suspect.proved).then(|| (query.clone(), now.clone()))
            });
            self.interim.trial = open.next().map(|(query, now)| {
                answers.insert(query.clone(), now);
                query
            });
        }
        let differs = differs || self.interim.trial.is_some();
        let wanted = unknown || (differs && !is_newest);
        self.interim.wanted = wanted.then(|| Answers(Arc::new(answers)));
        if !wanted {
            self.interim.drop_pending();
        }
    }

    fn no_obstacle(&mut self, actions: &mut Vec<Action>) {
        self.interim.compared = None;
        self.interim.drop_pending();
        self.interim.trial = None;
        if self.runs_interim() || self.interim.applying || self.pending.is_some() {
            return;
        }
        self.interim.suspects.clear();
        if self.interim.kept.take().is_some_and(|kept| kept.told) {
            let message = "The newest set is applied. The former structure is not kept any more.";
            say(actions, Weight::Info, message.to_owned());
        }
    }
}

mod applying;
mod origins;
mod rendering;
mod suspects;

use suspects::{Suspect, as_before};

#[cfg(test)]
impl Core {
    /// What of interim sets decides what comes next, as numbers.
    pub(super) fn interim_key(
        &self,
        due: impl Fn(Option<Instant>) -> u16,
        set: impl Fn(Option<&Revision>) -> u16,
        number: impl Fn(&Answers) -> u16,
    ) -> [u16; 10] {
        let interim = &self.interim;
        let answers = |answers: Option<&Answers>| answers.map_or(99, &number);
        let compared = interim.compared.map(|(revisions, changes, obstacle)| {
            let same = (revisions, changes) == (self.revisions, interim.changes);
            2 + obstacle as u16 * 2 + u16::from(same)
        });
        let flags = [
            interim.needs_reload,
            interim.applying,
            interim.was_last,
            interim.was_rendered,
            interim.kept.is_some(),
            self.runs_interim(),
        ];
        [
            flags.iter().fold(0, |all, flag| all * 2 + u16::from(*flag)),
            answers(interim.structure.as_ref().map(|one| &one.answers)),
            compared.unwrap_or(0),
            answers(interim.wanted.as_ref()),
            answers(interim.rendering.as_ref().map(|(_, answers, _)| answers)),
            set(interim.pending.as_ref().map(|one| &one.revision)),
            set(interim.refused.as_ref()),
            due(interim.not_before),
            u16::try_from(interim.retries).unwrap_or(u16::MAX),
            answers(interim.attempt.as_ref().map(|(_, answers)| answers)),
        ]
    }
}
