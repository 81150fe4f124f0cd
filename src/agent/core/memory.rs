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
    /// The answers of the rendering under way.
    rendering: Option<Answers>,
    /// The last complete one.
    complete: Option<(Answers, Revision)>,
    /// Since when that is not on disk.
    unsaved: Option<Instant>,
    saving: bool,
    saved_at: Option<Instant>,
    /// After a failure.
    not_before: Option<Instant>,
    failed: bool,
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
    /// Once all of it is outdated it takes no room any more.
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
            ..Memory::default()
        }
    }

    /// Whether there is a snapshot on disk, as far as is known.
    pub fn exists(&self) -> bool {
        self.former.is_some() || self.saved_at.is_some()
    }

    /// When it was last written by this process.
    pub fn saved_at(&self) -> Option<Instant> {
        self.saved_at
    }

    /// The answers that the last good set was made from when this process started, if they are these.
    pub fn of_last_good(&self) -> Option<Arc<Snapshot>> {
        let former = self.former.as_ref().filter(|former| former.usable)?;
        Some(Arc::clone(&former.snapshot))
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
            former.forget();
        }
    }

    pub(super) fn rendering(&mut self, answers: &Answers) {
        if self.keeps {
            self.rendering = Some(answers.clone());
        }
    }

    /// Something besides the answers is to be kept.
    pub(super) fn changed(&mut self, now: Instant) {
        if self.complete.is_some() {
            self.unsaved.get_or_insert(now);
        }
    }

    pub(super) fn rendered(&mut self, revision: &Revision, now: Instant) {
        let Some(answers) = self.rendering.take() else {
            return;
        };
        let complete = Some((answers, revision.clone()));
        if self.complete != complete {
            self.complete = complete;
            self.unsaved.get_or_insert(now);
        }
    }
}

impl Core {
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
        if memory.saving {
            return None;
        }
        let unsaved = memory.unsaved? + SAVE_AFTER;
        let interval = memory.saved_at.map(|at| at + SAVE_INTERVAL);
        Some(unsaved).max(interval).max(memory.not_before)
    }

    pub(super) fn save(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.save_due().is_some_and(|due| now >= due)
            && let Some(content) = self.unsaved(now)
        {
            self.memory.saving = true;
            actions.push(Action::Save(content));
        }
    }

    /// Whether the snapshot is being written.
    pub fn is_saving(&self) -> bool {
        self.memory.saving
    }

    /// What is to be written at the end of the process: ages grow also where nothing changes.
    pub fn last_snapshot(&mut self, now: Instant) -> Option<Content> {
        self.memory.unsaved.get_or_insert(now);
        self.unsaved(now)
    }

    fn unsaved(&mut self, now: Instant) -> Option<Content> {
        self.memory.unsaved.take()?;
        let (answers, revision) = self.memory.complete.clone()?;
        let kept = answers.0.iter().map(|(query, known)| {
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
        })
    }

    pub(super) fn saved(
        &mut self,
        result: Result<(), String>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let memory = &mut self.memory;
        memory.saving = false;
        match result {
            Ok(()) => {
                memory.saved_at = Some(now);
                memory.not_before = None;
                memory.failed = false;
            }
            Err(error) => {
                memory.unsaved.get_or_insert(now);
                memory.not_before = Some(now + SAVE_AGAIN);
                let weight = match std::mem::replace(&mut memory.failed, true) {
                    true => Weight::Detail,
                    false => Weight::Warning,
                };
                let message = format!(
                    "The snapshot for a start without the catalog could not be written. {error} It is tried again in {}.",
                    seconds(SAVE_AGAIN)
                );
                say(actions, weight, message);
            }
        }
    }
}
