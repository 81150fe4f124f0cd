//! The part of the core that deals with the snapshot: which answers are worth keeping and when, and
//! what a former process left.
//!
//! Live answers always win. What was left is used only for a query that fails, and only while the
//! last good files are those that were rendered from it: else they are newer.

use super::*;
use crate::catalog::snapshot::{Content, Kept, Recalled, Snapshot};

/// Changes that come together are written together, and never in the way of the change itself.
const SAVE_AFTER: Duration = Duration::from_millis(250);
/// The shortest time between two writes.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// After a write that failed.
const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// What is kept across processes.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Whether anything is.
    keeps: bool,
    former: Option<Former>,
    /// Whether a former process left a good set.
    last_good: bool,
    /// What the last good set was made from.
    good: Option<(Answers, Arc<str>, Revision)>,
    /// Since when that is not on disk.
    unsaved: Option<Instant>,
    /// Since when it is being written.
    saving: Option<Instant>,
    saved_at: Option<Instant>,
    /// After a write.
    not_before: Option<Instant>,
    problem: Option<String>,
}

/// What a former process left.
#[derive(Debug, Clone)]
struct Former {
    snapshot: Arc<Snapshot>,
    /// When it was read: the process's time, and seconds since 1970.
    at: Instant,
    wall: u64,
    /// Whether the last good files were rendered from it.
    usable: bool,
    /// What was answered live since.
    outdated: BTreeSet<Query>,
    told: bool,
}

impl Former {
    /// Once all of it is outdated and another set is the last good one, it takes no room any more.
    fn forget(&mut self) {
        let count = self.snapshot.len();
        if count == 0 || self.outdated.len() < count {
            return;
        }
        let outdated = self.outdated.iter();
        if outdated.filter(|query| self.snapshot.has(query)).count() == count {
            self.snapshot = Arc::new(self.snapshot.without_answers());
        }
    }
}

impl Memory {
    /// A memory that begins with what a former process left, read at `at`, which is `wall` in seconds
    /// since 1970. `last_good` is the revision of the files that a failed change goes back to.
    pub fn new(
        snapshot: Option<Snapshot>,
        last_good: Option<&Revision>,
        at: Instant,
        wall: u64,
    ) -> Memory {
        let former = snapshot.map(|snapshot| Former {
            usable: last_good.is_some_and(|good| good.as_str() == snapshot.revision),
            snapshot: Arc::new(snapshot),
            at,
            wall,
            outdated: BTreeSet::new(),
            told: false,
        });
        Memory {
            keeps: true,
            former,
            last_good: last_good.is_some(),
            ..Memory::default()
        }
    }

    /// Whether there is a snapshot on disk, as far as is known.
    pub fn exists(&self) -> bool {
        self.former.is_some() || self.saved_at.is_some()
    }

    /// Why it could not be written, a whole sentence, until it can.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The time of what this process wrote last: later changes are not in it, even while it was written.
    pub fn saved_at(&self) -> Option<Instant> {
        self.saved_at
    }

    /// The answers that a former process left, and whether the last good set was made from them.
    pub fn left(&self) -> Option<(Arc<Snapshot>, bool)> {
        let former = self.former.as_ref()?;
        Some((Arc::clone(&former.snapshot), former.usable))
    }

    /// Whether a former process left a good set.
    pub(super) fn has_last_good(&self) -> bool {
        self.last_good
    }

    /// An answer that a former process left, whatever came since.
    pub(super) fn left_answer(&self, query: &Query) -> Option<Arc<Answer>> {
        let former = self.former.as_ref()?;
        let recalled = former.snapshot.recall(query, former.wall)?;
        Some(recalled.answer)
    }

    /// The templates that a former process left.
    pub(super) fn templates(&self) -> Option<Arc<str>> {
        let templates = self.former.as_ref()?.snapshot.templates.as_deref()?;
        Some(templates.into())
    }

    pub(super) fn canary_seen(&self) -> &[Option<String>] {
        match &self.former {
            Some(former) => &former.snapshot.canary_seen,
            None => &[],
        }
    }

    pub(super) fn recall(&self, query: &Query) -> Option<Recalled> {
        let former = self.former.as_ref()?;
        if former.outdated.contains(query) {
            return None;
        }
        former.snapshot.recall(query, former.wall)
    }

    /// A live answer came.
    pub(super) fn forget(&mut self, query: &Query) {
        if let Some(former) = &mut self.former
            && !former.outdated.contains(query)
        {
            former.outdated.insert(query.clone());
            if self.good.is_some() {
                former.forget();
            }
        }
    }

    /// Something besides the answers is to be kept.
    pub(super) fn changed(&mut self, now: Instant) {
        if self.good.is_some() {
            self.unsaved.get_or_insert(now);
        }
    }

    /// The same, and an operator relies on it.
    pub(super) fn changed_at_once(&mut self, now: Instant) {
        if self.good.is_some() {
            self.unsaved = now.checked_sub(SAVE_AFTER).or(Some(now));
        }
    }

    /// What the last good set was made from, from now on.
    pub(super) fn good(
        &mut self,
        answers: Answers,
        templates: Arc<str>,
        revision: &Revision,
        now: Instant,
    ) {
        let good = Some((answers, templates, revision.clone()));
        if self.keeps && self.good != good {
            self.good = good;
            self.unsaved.get_or_insert(now);
            if let Some(former) = &mut self.former {
                former.forget();
            }
        }
    }
}

impl Core {
    /// Whether there is a set that a failed change goes back to.
    pub fn has_last_good(&self) -> bool {
        self.in_force.is_some() || self.memory.last_good || self.memory.good.is_some()
    }

    /// A query that fails is answered by the snapshot, where that is not older than the files.
    pub(super) fn answer_from_memory(
        &mut self,
        query: &Query,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(recalled) = self.memory.recall(query) else {
            return;
        };
        let Some(former) = &mut self.memory.former else {
            return;
        };
        let told = std::mem::replace(&mut former.told, true);
        let age = seconds(recalled.age + now.saturating_duration_since(former.at));
        if !former.usable {
            if !told {
                let message = format!(
                    "The snapshot of {age} ago is not used: the last good configuration was not rendered from it and may be newer. That one stays in force until the catalog answers."
                );
                say(actions, Weight::Warning, message);
            }
            return;
        }
        if !told {
            let message = format!(
                "The catalog does not answer; the answers of {age} ago are used until it does."
            );
            say(actions, Weight::Warning, message);
        }
        let (at, answer) = (former.at, recalled.answer);
        let Some(watched) = self.watches.get_mut(query) else {
            return;
        };
        self.revisions += 1;
        watched.known = Some(Known {
            answer,
            revision: self.revisions,
        });
        watched.answered_at = Some(at);
        watched.age = recalled.age;
        watched.from_snapshot = true;
        self.mark_changed(now);
    }

    /// When the snapshot is to be written.
    pub(super) fn save_due(&self) -> Option<Instant> {
        let memory = &self.memory;
        if memory.saving.is_some() {
            return None;
        }
        let unsaved = memory.unsaved? + SAVE_AFTER;
        Some(unsaved).max(memory.not_before)
    }

    pub(super) fn save(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.save_due().is_some_and(|due| now >= due)
            && let Some(content) = self.unsaved(now)
        {
            self.memory.saving = Some(now);
            actions.push(Action::Save(content));
        }
    }

    /// Somebody has removed the snapshot that was written.
    pub fn snapshot_is_gone(&mut self, now: Instant) {
        if self.memory.saved_at.is_some() && !self.is_saving() {
            self.memory.changed(now);
        }
    }

    /// Whether the snapshot is being written.
    pub fn is_saving(&self) -> bool {
        self.memory.saving.is_some()
    }

    /// What is to be written at the end of the process: ages grow also where nothing changes.
    pub fn last_snapshot(&mut self, now: Instant) -> Option<Content> {
        self.memory.unsaved.get_or_insert(now);
        self.unsaved(now)
    }

    fn unsaved(&mut self, now: Instant) -> Option<Content> {
        self.memory.unsaved.take()?;
        let (answers, templates, revision) = self.memory.good.clone()?;
        let is_answer = |(query, _): &(&Query, &Known)| {
            let watched = self.watches.get(*query);
            !watched.is_some_and(|watched| watched.left_out)
        };
        let kept = answers.0.iter().filter(is_answer).map(|(query, known)| {
            let watched = self.watches.get(query);
            let since = watched
                .and_then(|watched| watched.answered_at)
                .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            Kept {
                query: query.clone(),
                answer: Arc::clone(&known.answer),
                age: since + watched.map_or(Duration::ZERO, |watched| watched.age),
                reference: self
                    .guard
                    .reference(query, now)
                    .unwrap_or(known.answer.len()),
                eased: self.guard.eases(query),
            }
        });
        Some(Content {
            revision: revision.to_string(),
            answers: kept.collect(),
            canary_seen: self
                .guard
                .canary_seen()
                .map(|datacenter| datacenter.map(str::to_owned))
                .collect(),
            templates,
        })
    }

    pub(super) fn saved(
        &mut self,
        result: Result<(), String>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let memory = &mut self.memory;
        let started = memory.saving.take();
        match result {
            Ok(()) => {
                memory.saved_at = started.or(Some(now));
                memory.not_before = Some(now + SAVE_INTERVAL);
                memory.problem = None;
            }
            Err(error) => {
                memory.unsaved.get_or_insert(now);
                memory.not_before = Some(now + SAVE_AGAIN);
                let weight = match memory.problem {
                    Some(_) => Weight::Detail,
                    None => Weight::Warning,
                };
                let problem = format!(
                    "The snapshot for a start without the catalog could not be written. {error}"
                );
                let message = format!("{problem} It is tried again in {}.", seconds(SAVE_AGAIN));
                memory.problem = Some(problem);
                say(actions, weight, message);
            }
        }
    }
}
