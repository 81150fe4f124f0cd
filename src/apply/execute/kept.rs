//! Good sets that are kept, applied again: by an operator's order, or at a start while the catalog is away.

use super::*;

impl Applier {
    /// Goes back to a kept good set: the given one, or the newest before the current. The gate is not
    /// asked: this is an operator's order.
    pub async fn roll_back(&mut self, to: Option<&Revision>) -> Verdict {
        let current = self.last_good.as_ref().map(|set| set.revision.clone());
        let wanted = match to {
            Some(revision) => Some(revision.clone()),
            None => self
                .history
                .kept()
                .into_iter()
                .find(|kept| Some(kept) != current.as_ref()),
        };
        let kept = wanted.and_then(|revision| self.history.load_set(&revision));
        self.apply_kept(kept).await
    }

    /// Applies the last good set again, without asking the gate: for a start while the catalog is
    /// away. A supervised HAProxy is started with it; where the set cannot be applied, with the live files.
    pub async fn resume(&mut self) -> Verdict {
        let verdict = self.resume_set().await;
        let failed = match &verdict {
            Verdict::Failed {
                error: ApplyError::Ending,
            } => return verdict,
            Verdict::Failed { .. } | Verdict::Refused { .. } => verdict.why_not(),
            _ => return verdict,
        };
        if !matches!(self.options.mode, Mode::Supervise { .. }) || !self.has_configuration() {
            return verdict;
        }
        self.haproxy.adopt().await;
        match &self.last_good {
            Some(good) => Verdict::Written {
                revision: good.revision.clone(),
                reason: format!(
                    "HAProxy is started from the live files, because the last good set could not be applied: {}",
                    failed.unwrap_or_default().trim_end()
                ),
                story: String::new(),
            },
            None => verdict,
        }
    }

    async fn resume_set(&mut self) -> Verdict {
        if self.pending.is_some() {
            // A change that a crash left complete may be the last good set itself.
            let seen = self.look().await;
            if let Err(error) = self.settle(&seen).await {
                return self.end(Err(error));
            }
        }
        let good = self.last_good.as_deref().cloned();
        self.apply_kept(good).await
    }

    async fn apply_kept(&mut self, set: Option<StoredSet>) -> Verdict {
        let Some(set) = set else {
            return Verdict::Failed {
                error: ApplyError::NothingKept,
            };
        };
        // The settings may name other files since it was kept.
        let known = |file: &SetFile| {
            self.options
                .destinations
                .iter()
                .any(|(path, _)| *path == file.destination)
        };
        if let Some(file) = set.files.iter().find(|file| !known(file)) {
            return Verdict::Failed {
                error: ApplyError::Elsewhere {
                    destination: file.destination.clone(),
                },
            };
        }
        let secrets = set.secrets();
        let mut candidate = match set.marked {
            true => Candidate {
                revision: set.revision,
                files: set.files,
                may_lose: BTreeSet::new(),
                origin: set.origin,
            },
            false => Candidate::new(set.files),
        };
        candidate.origin.secrets = secrets.clone();
        // HAProxy may be started from the files as they are.
        self.haproxy.withhold(&secrets);
        let result = self.try_apply(&candidate, Means::Any, false).await;
        self.end(result.map(|verdict| verdict.without(&secrets)))
    }
}
