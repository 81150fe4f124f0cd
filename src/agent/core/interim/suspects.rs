//! Services whose newest data may be why the newest set is refused. Each is tried by itself, so that one with
//! bad data keeps the servers that it had and costs no other.

use super::*;

/// A service whose newest data are in a set that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    /// Of the answer.
    pub(super) revision: u64,
    /// Whether a set was refused in which nothing else is new.
    pub(super) proved: bool,
}

pub(super) fn as_before(query: &Query) -> String {
    format!("The servers of {query} stay as they were: a set with its newest data is refused.")
}

impl Interim {
    /// Whether the answer is in a set that was refused.
    pub(super) fn is_suspect(&self, query: &Query, known: &Known) -> Option<Suspect> {
        let suspect = self.suspects.get(query).copied();
        suspect.filter(|one| one.revision == known.revision)
    }
}

impl Core {
    /// The newest set is refused: the data of each service that has changed may be the reason.
    pub(in crate::agent::core) fn suspect(&mut self, revision: &Revision) {
        let interim = &mut self.interim;
        let (Some(origin), Some(structure)) = (interim.origins.get(revision), &interim.structure)
        else {
            return;
        };
        let new = |query: &&Query| {
            let structure = structure.answers.0.get(query);
            !same(origin.answers.0.get(query), structure)
        };
        let mut others = structure
            .used
            .iter()
            .filter(|query| !is_of_instances(query));
        if origin.templates != structure.templates || others.any(|query| new(&query)) {
            return; // The structure is the reason, as far as can be told.
        }
        let changed = structure.used.iter().filter(|query| is_of_instances(query));
        let changed: Vec<&Query> = changed.filter(new).collect();
        for query in &changed {
            let Some(known) = origin.answers.0.get(query) else {
                continue;
            };
            let suspect = Suspect {
                revision: known.revision,
                proved: changed.len() == 1,
            };
            let former = interim.suspects.get(query);
            if former.is_none_or(|former| former.revision != suspect.revision) {
                interim.suspects.insert((*query).clone(), suspect);
            }
        }
        interim.changes += 1;
        if let [one] = changed[..]
            && let Some(kept) = &mut interim.kept
        {
            kept.not_current = Some(as_before(one));
        }
    }

    pub(super) fn trial_of(&self, revision: &Revision) -> Option<Query> {
        self.interim.origins.get(revision)?.trial.clone()
    }

    /// Nothing else was new in a set that was refused.
    pub(super) fn prove(&mut self, query: &Query, why: &str, actions: &mut Vec<Action>) {
        if let Some(suspect) = self.interim.suspects.get_mut(query) {
            suspect.proved = true;
        }
        self.interim.changes += 1;
        let message = as_before(query);
        if !why.is_empty() {
            say(actions, Weight::Warning, format!("{message} {why}."));
        }
        if let Some(kept) = &mut self.interim.kept {
            kept.not_current = Some(message);
        }
    }
}
