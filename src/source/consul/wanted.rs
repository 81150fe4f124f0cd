//! The questions that somebody wants answered, and what is known of each. Watches come and go here; the task that asks
//! (`follow`) takes it from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::asked::Asked;
use super::client::Client;
use super::schedule::Load;
use crate::catalog::Answer;
use crate::source::seen::Seen;

/// What all watches of a source share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Arc<Client>,
    wanted: Mutex<Wanted>,
    /// Something has come or gone.
    pub(super) changed: Notify,
    load: Mutex<Load>,
}

#[derive(Debug, Default)]
struct Wanted {
    questions: BTreeMap<Asked, Question>,
    /// Those that have come or gone since they were last taken.
    changes: Vec<Asked>,
}

#[derive(Debug)]
struct Question {
    told: watch::Sender<Seen<Answer>>,
    watches: usize,
}

/// One watch's interest in a question; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Interest {
    shared: Arc<Shared>,
    asked: Asked,
}

impl Shared {
    pub(super) fn new(client: Arc<Client>) -> Shared {
        Shared {
            client,
            wanted: Mutex::default(),
            changed: Notify::new(),
            load: Mutex::default(),
        }
    }

    /// A watch begins.
    pub(super) fn want(
        self: &Arc<Self>,
        asked: Asked,
    ) -> (Interest, watch::Receiver<Seen<Answer>>) {
        let mut wanted = self.wanted();
        if !wanted.questions.contains_key(&asked) {
            wanted.changes.push(asked.clone());
        }
        let question = wanted
            .questions
            .entry(asked.clone())
            .or_insert_with(|| Question {
                told: watch::Sender::new(Seen::Nothing),
                watches: 0,
            });
        question.watches += 1;
        let seen = question.told.subscribe();
        drop(wanted);
        self.changed.notify_one();
        let shared = Arc::clone(self);
        (Interest { shared, asked }, seen)
    }

    /// Each question that has come, with where to tell the answer, or gone since the last call.
    pub(super) fn changes(&self) -> Vec<(Asked, Option<watch::Sender<Seen<Answer>>>)> {
        let mut wanted = self.wanted();
        let changes = std::mem::take(&mut wanted.changes);
        let told = |asked: &Asked| Some(wanted.questions.get(asked)?.told.clone());
        let with = |asked: Asked| {
            let told = told(&asked);
            (asked, told)
        };
        changes.into_iter().map(with).collect()
    }

    /// Lets [`Shared::changes`] give all there are.
    pub(super) fn begin_anew(&self) {
        let mut wanted = self.wanted();
        wanted.changes = wanted.questions.keys().cloned().collect();
    }

    /// What is known of a question that somebody wants answered.
    pub(super) fn seen(&self, asked: &Asked) -> Option<Seen<Answer>> {
        let wanted = self.wanted();
        Some(wanted.questions.get(asked)?.told.borrow().clone())
    }

    pub(super) fn load(&self) -> Load {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_load(&self, load: Load) {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut wanted = self.shared.wanted();
        let Some(question) = wanted.questions.get_mut(&self.asked) else {
            return;
        };
        question.watches -= 1;
        if question.watches == 0 {
            wanted.questions.remove(&self.asked);
            wanted.changes.push(self.asked.clone());
            drop(wanted);
            self.shared.changed.notify_one();
        }
    }
}
