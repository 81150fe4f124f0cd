//! The part of the core that keeps servers current while the newest set cannot be applied.
//!
//! An *interim set* has the last good structure and the servers of now: the templates of the last good
//! set, its answers, and today's answers where a query asks for instances. Files that templates read and
//! parameters are those of today. It is applied as any other
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
    /// When the newest set met the obstacle.
    pub since: Instant,
    /// What keeps the newest set from being applied.
    pub obstacle: Obstacle,
    /// Why the servers are not current, a whole sentence, if they are not.
    pub not_current: Option<String>,
    /// Whether the log says that an interim set is made.
    logged: bool,
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
    rendering: Option<(Arc<str>, Answers)>,
    /// Counts the structures, to know a rendering of an older one.
    number: u64,
    /// The number at the start of the rendering.
    rendering_number: u64,
    /// What interim renderings have asked of late.
    asked: BTreeSet<Query>,
    /// Whether a comparison waits for its time.
    waits: bool,
    rounds: u32,
    pending: Option<Arc<Candidate>>,
    needs_reload: bool,
    /// Whether the set that is being applied is an interim set.
    applying: bool,
    /// Whether HAProxy had too many old workers for a reload when that was tried last.
    busy: bool,
    /// Whether the set that was applied last is an interim set.
    was_last: bool,
    /// Whether the last rendering that began makes an interim set.
    was_rendered: bool,
    /// The interim set that was refused last.
    refused: Option<Revision>,
    suspects: BTreeMap<Query, Suspect>,
    /// Whether a suspect is tried next, although other services have changed.
    trial_next: bool,
    /// When what was refused or has failed is tried again.
    again: Option<Instant>,
    not_before: Option<Instant>,
    retries: u32,
}

/// Whether a query asks for instances, which servers are made from.
fn is_of_instances(query: &Query) -> bool {
    matches!(query.kind, Kind::Service { .. })
}

fn same(one: Option<&Known>, two: Option<&Known>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => one.revision == two.revision || one.answer == two.answer,
        (one, two) => one.is_none() && two.is_none(),
    }
}

impl Interim {
    pub(super) fn is_rendering(&self) -> bool {
        self.rendering.is_some()
    }

    /// Whether a structure is kept, told of or not.
    pub(super) fn keeps(&self) -> bool {
        self.kept.is_some()
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
    pub fn structure_kept(&self) -> Option<Kept> {
        let kept = self.interim.kept.as_ref()?;
        let shown = kept.obstacle.lasts() || self.runs_interim();
        let suspects = || suspects::as_before(&self.open_suspects(), kept.obstacle);
        shown.then(|| Kept {
            not_current: kept.not_current.clone().or_else(suspects),
            ..kept.clone()
        })
    }

    /// Whether interim sets may be made.
    pub fn may_make_interim(&self) -> bool {
        self.interim.keeps()
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
        (structure && unseen).then(|| self.waits_from()).flatten()
    }

    /// Compares the structure's servers with the catalog's where the newest set is not applied.
    pub(super) fn look_at_servers(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.interim.again.take_if(|again| now >= *again).is_some() {
            self.interim.refused = None;
            for suspect in self.interim.suspects.values_mut() {
                suspect.proved = false;
            }
            self.interim.changes += 1;
        }
        let Some(obstacle) = self.obstacle(now) else {
            self.no_obstacle(now, actions);
            return;
        };
        let Some(structure) = &self.interim.structure else {
            return;
        };
        if structure.used.is_empty() && !obstacle.lasts() {
            return; // What a former process left is not needed in the usual course.
        }
        let kept = self.interim.kept.get_or_insert(Kept {
            since: now,
            obstacle,
            not_current: None,
            logged: false,
        });
        kept.obstacle = obstacle;
        let compared = (self.revisions, self.interim.changes, obstacle);
        if self.interim.compared == Some(compared) {
            return;
        }
        // It costs as much as there are queries, so it is a part of the work that has its pace.
        self.interim.waits =
            !self.pace.is_ready(now) || self.rendering || self.interim.is_rendering();
        if self.interim.waits {
            return;
        }
        self.interim.compared = Some(compared);
        self.interim.rounds = 0;
        let newest = |query: &Query| self.watches.get(query).and_then(|one| one.known.as_ref());
        let mut answers = structure.answers.0.as_ref().clone();
        for (query, known) in &mut answers {
            if is_of_instances(query)
                && let Some(now) = newest(query)
                && self.interim.suspect_of(query, now).is_none()
            {
                known.clone_from(now);
            }
        }
        let unknown = structure.used.is_empty();
        if !unknown {
            // A query that the structure did not ask before has no former answer.
            for (query, watched) in &self.watches {
                if let (false, Some(known)) = (answers.contains_key(query), &watched.known) {
                    answers.insert(query.clone(), known.clone());
                }
            }
        }
        let mut used = structure.used.iter();
        let mut differs =
            used.any(|query| !same(answers.get(query), structure.answers.0.get(query)));
        // Suspects are tried where nothing else is to be done, and after each set that was.
        if !unknown && (!differs || std::mem::take(&mut self.interim.trial_next)) {
            let open = self.open_suspects();
            let mut open = open.iter().filter(|(_, suspect)| !suspect.proved);
            if let Some((query, _)) = open.next()
                && let Some(now) = newest(query)
            {
                answers.insert((*query).clone(), now.clone());
                differs = true;
            }
        }
        let mut used = structure.used.iter();
        let is_newest = structure.templates == self.templates
            && used.all(|query| same(answers.get(query), newest(query)));
        let wanted = unknown || (differs && !is_newest);
        self.interim.wanted = wanted.then(|| Answers(Arc::new(answers)));
        if !wanted {
            self.interim.drop_pending();
            if !differs && let Some(kept) = &mut self.interim.kept {
                kept.not_current = None;
            }
        }
    }

    /// When the comparison that waits may be made, and what was refused be tried again.
    pub(super) fn look_due(&self) -> Option<Instant> {
        let idle = !self.rendering && !self.interim.is_rendering();
        let waits = self.interim.waits && idle;
        let compare = waits.then(|| self.pace.ready_at()).flatten();
        let again = self.interim.again.filter(|_| self.interim.keeps());
        compare.into_iter().chain(again).min()
    }

    fn no_obstacle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        (self.interim.compared, self.interim.waits) = (None, false);
        self.interim.drop_pending();
        if self.runs_interim() || self.interim.applying || self.pending.is_some() {
            return;
        }
        self.interim.suspects.clear();
        let interim = &mut self.interim;
        (interim.again, interim.refused, interim.trial_next) = (None, None, false);
        (interim.not_before, interim.retries) = (None, 0);
        if let Some(kept) = interim.kept.take()
            && kept.logged
        {
            let message = format!(
                "HAProxy runs the newest set again; the last good structure was kept for {}.",
                seconds(now - kept.since)
            );
            say(actions, Weight::Info, message);
        }
    }
}

mod applying;
mod origins;
mod rendering;
mod suspects;

use suspects::Suspect;

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
            answers(interim.rendering.as_ref().map(|(_, answers)| answers)),
            set(interim.pending.as_ref().map(|one| &one.revision)),
            set(interim.refused.as_ref()),
            due(interim.not_before),
            u16::try_from(interim.retries).unwrap_or(u16::MAX),
            answers(interim.attempt.as_ref().map(|(_, answers)| answers)),
        ]
    }
}
