//! What each set was made from, and which of them has the last good structure.

use super::*;

impl Core {
    /// The newest set is rendered from these answers.
    pub(in crate::agent::core) fn attempts(&mut self, answers: &Answers) {
        self.interim.attempt = Some((Arc::clone(&self.templates), answers.clone()));
        self.interim.was_rendered = false;
    }

    /// This set came of the last attempt.
    pub(in crate::agent::core) fn attempted(&mut self, revision: &Revision) {
        if let Some((templates, answers)) = &self.interim.attempt {
            let origin = Origin {
                templates: Arc::clone(templates),
                answers: answers.clone(),
                used: Arc::clone(&self.used),
                interim: false,
            };
            self.interim.origins.insert(revision.clone(), origin);
        }
    }

    /// This set is the last good one from now on.
    pub(in crate::agent::core) fn is_good(
        &mut self,
        revision: &Revision,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(origin) = self.interim.origins.get(revision) else {
            return;
        };
        self.interim.structure = Some(Structure {
            templates: Arc::clone(&origin.templates),
            answers: origin.answers.clone(),
            used: Arc::clone(&origin.used),
            unproved: false,
        });
        self.interim.changes += 1;
        let good = &origin.answers.0;
        let newest = !origin.interim;
        let still = |query: &Query, suspect: &mut Suspect| {
            let known = good.get(query);
            known.is_none_or(|known| known.revision < suspect.revision)
        };
        self.interim.suspects.retain(still);
        let (answers, templates) = (origin.answers.clone(), Arc::clone(&origin.templates));
        self.memory.good(answers, templates, revision, now);
        if newest {
            self.interim.number += 1;
            self.interim.drop_pending();
            self.interim.asked.clear();
        }
        self.interim.trial_next = true;
        if let Some(kept) = &mut self.interim.kept {
            kept.not_current = None;
        }
        self.forget_origins();
        self.cancel_unused(now, actions);
    }

    /// Forgets what sets were made from that are of no interest any more.
    pub(in crate::agent::core) fn forget_origins(&mut self) {
        let open: BTreeSet<Revision> = self.open_sets().cloned().collect();
        self.interim.origins.retain(|one, _| open.contains(one));
    }

    /// Whether a set has servers at least as new as those of an interim set that is in force.
    pub(in crate::agent::core) fn is_current(&self, candidate: &Candidate) -> bool {
        let origin = |revision| self.interim.origins.get(revision);
        let in_force = self.in_force.as_ref().map(|set| &set.revision);
        let (Some(new), Some(old)) = (origin(&candidate.revision), in_force.and_then(origin))
        else {
            return true;
        };
        let mut used = new.used.iter().filter(|query| is_of_instances(query));
        !old.interim
            || used.all(|query| {
                let of =
                    |origin: &Origin| origin.answers.0.get(query).map_or(0, |one| one.revision);
                of(new) >= of(old)
            })
    }

    /// Drops the pending set where its servers are older than those in force.
    pub(in crate::agent::core) fn drop_outdated(&mut self) {
        if self
            .pending
            .as_ref()
            .is_some_and(|set| !self.is_current(set))
        {
            (self.pending, self.needs_reload) = (None, None);
        }
    }

    /// The queries of the structure and of interim sets, whether or not the newest set asks them.
    pub(in crate::agent::core) fn structure_asks(&self) -> impl Iterator<Item = &Query> {
        let structure = self.interim.structure.iter();
        let used = structure.flat_map(|structure| structure.used.iter());
        used.chain(&self.interim.asked)
    }
}
