//! How interim sets are applied, and how that ends.

use super::*;
use crate::agent::core::applying::is_loss;

impl Core {
    /// When the pending interim set may be applied.
    pub(in crate::agent::core) fn interim_due(&self) -> Option<Option<Instant>> {
        self.interim.pending.as_ref()?;
        let earliest = self.interim.not_before;
        match self.interim.needs_reload {
            false => Some(earliest),
            // One reload brings the newest set.
            true if self.pending.is_some() && self.wants_reload() => None,
            true => Some(earliest.max(self.no_reload_before).max(self.settled_at())),
        }
    }

    /// Whether the pending interim set goes before the newest one: they take turns where both can go.
    pub(in crate::agent::core) fn interim_goes(&self, now: Instant, newest_goes: bool) -> bool {
        let due = self.interim_due();
        let due = due.is_some_and(|at| at.is_none_or(|at| now >= at));
        due && !(newest_goes && self.interim.was_last)
    }

    pub(in crate::agent::core) fn apply_interim(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(candidate) = self.interim.pending.take() else {
            return;
        };
        let means = match std::mem::take(&mut self.interim.needs_reload) {
            true => Means::Any,
            false => Means::Commands,
        };
        (self.interim.applying, self.interim.was_last) = (true, true);
        self.pace.applies(now);
        actions.push(Action::Apply(Arc::clone(&candidate), means));
        self.applying = Some(candidate);
    }

    /// The newest set is applied from now on.
    pub(in crate::agent::core) fn newest_goes(&mut self) {
        (self.interim.applying, self.interim.was_last) = (false, false);
    }

    /// Takes how the newest set ended. Who needs a reload that waits for old workers must not keep the servers of all
    /// others from being current.
    pub(in crate::agent::core) fn newest_ended(&mut self, revision: &Revision, outcome: &Outcome) {
        self.interim.busy = match outcome {
            Outcome::Busy(_) => true,
            Outcome::NeedsReload(_) => self.interim.busy,
            _ => false,
        };
        if self.interim.busy {
            self.suspect(revision);
        }
    }

    /// Whether the set that is being applied is an interim one.
    pub(in crate::agent::core) fn applies_interim(&self) -> bool {
        self.interim.applying
    }

    /// Takes the end of an interim set that was not applied. What does not concern it is given back.
    pub(in crate::agent::core) fn interim_ended(
        &mut self,
        candidate: Option<Arc<Candidate>>,
        outcome: Outcome,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<Outcome> {
        if !std::mem::take(&mut self.interim.applying) {
            return Some(outcome);
        }
        let Some(candidate) = candidate else {
            return Some(outcome);
        };
        let interval = self.timing.reload_interval;
        let revision = candidate.revision.clone();
        let rejected = matches!(outcome, Outcome::Rejected(_));
        match outcome {
            Outcome::Unchanged | Outcome::Confirmed { .. } | Outcome::Written { .. } => {
                (self.interim.retries, self.interim.not_before) = (0, None);
                return Some(outcome);
            }
            Outcome::NeedsReload(_) if self.changes_servers_only() => {
                self.interim.refused = Some(revision);
                self.not_current(NEWER.to_owned(), actions);
            }
            // The newest set's reload waits and brings all: who needs one keeps the servers that it had until then.
            Outcome::NeedsReload(_) if !self.obstacle_lasts() => {
                self.suspect(&revision);
                self.interim.again.get_or_insert(now + ASK_AGAIN);
            }
            Outcome::NeedsReload(_) => self.interim_again(candidate, true),
            Outcome::Refused(why) | Outcome::StillRejected(why) | Outcome::Rejected(why) => {
                if rejected {
                    self.no_reload_before = Some(now + interval);
                }
                self.interim.refused = Some(revision.clone());
                self.interim.again.get_or_insert(now + ASK_AGAIN);
                let before = self.interim.changes;
                if !why.iter().any(is_loss) {
                    self.suspect(&revision);
                }
                let why = why.first().map(ToString::to_string).unwrap_or_default();
                match self.interim.changes == before {
                    true => self.not_current(format!("that set is refused, too: {why}"), actions),
                    false => {
                        let message = format!("An interim set is refused: {why}");
                        say_about(actions, Weight::Warning, message, &revision);
                    }
                }
            }
            Outcome::Busy(reason) => {
                say_about(actions, Weight::Detail, reason, &revision);
                self.no_reload_before = Some(now + interval.max(RETRY.0));
                self.interim_again(candidate, true);
            }
            Outcome::Failed(error) | Outcome::Unconfirmed(error) => {
                self.interim.retries += 1;
                let pause = pause(self.interim.retries);
                let message = format!(
                    "{error} The servers of the last good structure are tried again in {}.",
                    seconds(pause)
                );
                say_about(actions, Weight::Error, message, &revision);
                self.interim.not_before = Some(now + pause);
                self.interim_again(candidate, false);
            }
        }
        None
    }

    /// Whether what keeps the newest set from being applied is more than a reload that waits.
    fn obstacle_lasts(&self) -> bool {
        let kept = self.interim.kept.as_ref();
        kept.is_none_or(|kept| kept.obstacle.lasts())
    }

    /// It waits for its turn again, unless a newer one does.
    pub(super) fn interim_again(&mut self, candidate: Arc<Candidate>, reload: bool) {
        if self.interim.pending.is_none() && self.interim.kept.is_some() {
            self.interim.pending = Some(candidate);
            self.interim.needs_reload = reload;
        }
    }
}
