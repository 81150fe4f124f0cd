//! The half of the core that deals with HAProxy: which set is applied when, what its end means, and
//! what a look at HAProxy changes.

use super::*;
use crate::apply::gate::{LAST_SERVERS_LOST, SERVERS_LOST};
use crate::apply::origin::{SECTION_LOST, TEXT_CUT};
use crate::diagnostic::Severity;

/// What sets that are refused have lost of the last good one's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// Since when it is this.
    since: Instant,
    /// Whether any of them had too few left: what returns then does not shorten the time of the others.
    left_too_few: bool,
    what: Vec<String>,
}

impl Loss {
    /// What stands in a refusal, after a former one.
    fn of(why: &[Diagnostic], former: Option<Loss>, now: Instant) -> Option<Loss> {
        let what: Vec<String> = why
            .iter()
            .filter(|why| is_loss(why))
            .map(|one| one.message.clone())
            .collect();
        match former {
            _ if what.is_empty() => None,
            Some(former) if former.what == what => Some(former),
            former => Some(Loss {
                since: now,
                left_too_few: why.iter().any(|one| one.code == LAST_SERVERS_LOST)
                    || former.is_some_and(|former| former.left_too_few),
                what,
            }),
        }
    }
}

impl Core {
    /// Takes a freshly rendered set: the newest wins, and nothing is done twice.
    pub(super) fn offer(
        &mut self,
        candidate: Arc<Candidate>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.latest = Some(Arc::clone(&candidate));
        self.needs_reload = None;
        let revision = &candidate.revision;
        let underway = self
            .applying
            .as_ref()
            .is_some_and(|applying| applying.revision == *revision);
        let in_force = self.applying.is_none()
            && self
                .applied
                .as_ref()
                .is_some_and(|applied| applied.revision == *revision);
        if self
            .refused
            .as_ref()
            .is_some_and(|refused| refused.revision == *revision)
        {
            self.pending = None;
            say_about(
                actions,
                Weight::Detail,
                "The rendered set was refused before and is not tried again.".to_owned(),
                revision,
            );
        } else if underway || in_force {
            self.pending = None;
            if underway {
                // An interim set that is the newest one as well is applied as that.
                self.newest_goes();
            }
            if in_force {
                // The catalog is back at what runs: what was refused in between is history.
                self.refused = None;
                self.loss = None;
                (self.retries, self.not_before) = (0, None);
                self.is_good(&candidate.revision, now, actions);
            }
        } else {
            self.pending = Some(candidate);
            self.fresh = self.applying.is_none();
        }
        self.forget_origins();
    }

    pub(super) fn apply_ended(
        &mut self,
        revision: &Revision,
        outcome: Outcome,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let candidate = self.applying.take();
        let interim = self.applies_interim();
        let counts = match &outcome {
            Outcome::Confirmed { reloaded, .. } => !reloaded,
            Outcome::Unchanged
            | Outcome::NeedsReload(_)
            | Outcome::Refused(_)
            | Outcome::StillRejected(_) => true,
            _ => false,
        };
        self.pace.applied(counts, now);
        let first = self.applied.is_none();
        let cause = Cause::of(self.repair, self.applied.as_ref(), revision);
        self.counts.ended(cause, &outcome);
        // The status shows what HAProxy is now.
        self.next_look = self.next_look.min(now + LOOK_AFTER);
        let Some(outcome) = self.interim_ended(candidate.clone(), outcome, now, actions) else {
            return;
        };
        if let Outcome::Unchanged | Outcome::Confirmed { .. } | Outcome::Written { .. } = outcome {
            self.in_force.clone_from(&candidate);
            self.is_good(revision, now, actions);
            if !interim {
                self.retries = 0;
            }
        }
        let interval = now + self.timing.reload_interval;
        let newer_waits = self.pending.is_some();
        if !interim {
            self.newest_ended(revision, &outcome);
        }
        match outcome {
            Outcome::Unchanged => {
                self.settle_on(revision, true, String::new(), now);
                if !interim {
                    self.not_before = None;
                }
                if first {
                    let message =
                        "HAProxy already runs this configuration; nothing was written or reloaded.";
                    say_about(actions, Weight::Info, message.to_owned(), revision);
                }
            }
            Outcome::NeedsReload(reason) => {
                say_about(
                    actions,
                    Weight::Detail,
                    format!("Only a reload will do for this change: {reason}."),
                    revision,
                );
                if !newer_waits {
                    self.pending = candidate;
                    self.needs_reload = Some(reason);
                }
                self.next_look = self.next_look.max(now + LOOK_AFTER);
            }
            Outcome::Confirmed {
                means,
                reloaded,
                changes,
                took,
            } => {
                let story = format!("{changes}: {means} confirmed in {}", milliseconds(took));
                let line = format!("{story}, revision {revision}.");
                let notice = Notice::new(Weight::Info, line).about(revision).took(took);
                actions.push(Action::Say(notice));
                self.settle_on(revision, true, story, now);
                match reloaded {
                    true => {
                        self.counts.reloads += 1;
                        self.repair = false;
                        self.no_reload_before = Some(interval);
                    }
                    false => self.counts.by_commands += 1,
                }
            }
            Outcome::Written { reason, changes } => {
                let story = format!("{changes}: written, not confirmed: {reason}");
                say_about(
                    actions,
                    Weight::Warning,
                    format!("{story} Revision {revision}."),
                    revision,
                );
                self.settle_on(revision, false, story, now);
                self.repair = false;
                self.no_reload_before = Some(interval);
            }
            Outcome::Refused(why) => {
                self.refuse(revision, why, false, now, actions);
                self.not_before = None;
            }
            Outcome::Rejected(why) => {
                self.refuse(revision, why, true, now, actions);
                self.repair = false;
                self.no_reload_before = Some(interval);
            }
            Outcome::StillRejected(why) => match &mut self.refused {
                Some(refused) if refused.revision == *revision => {
                    refused.again = Some(now + ASK_AGAIN);
                }
                _ => self.refuse(revision, why, true, now, actions),
            },
            Outcome::Busy(reason) => {
                say_about(actions, Weight::Warning, reason, revision);
                self.no_reload_before = Some(now + self.timing.reload_interval.max(RETRY.0));
                if !newer_waits {
                    self.pending = candidate;
                    self.needs_reload = Some("it was tried".to_owned());
                }
            }
            Outcome::Failed(error) | Outcome::Unconfirmed(error) => {
                self.retries += 1;
                self.failure.clone_from(&error);
                let pause = self.pause();
                say_about(
                    actions,
                    Weight::Error,
                    format!(
                        "{error} {}; trying again in {}.",
                        self.in_force_now(),
                        seconds(pause)
                    ),
                    revision,
                );
                self.not_before = Some(now + pause);
                if !newer_waits {
                    self.pending = candidate;
                }
            }
        }
    }

    fn settle_on(&mut self, revision: &Revision, confirmed: bool, story: String, now: Instant) {
        // One that HAProxy was brought back to says nothing of a later one that was refused.
        let is_latest = |latest: &Arc<Candidate>| latest.revision == *revision;
        if self.latest.as_ref().is_none_or(is_latest) {
            self.refused = None;
            self.loss = None;
        }
        self.applied = Some(Applied {
            revision: revision.clone(),
            confirmed,
            at: now,
            story,
        });
    }

    fn refuse(
        &mut self,
        revision: &Revision,
        why: Vec<Diagnostic>,
        by_haproxy: bool,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.retries = 0;
        let mut why = why;
        if let Some(first) = why.first_mut() {
            first.notes.extend(self.kept_note());
        }
        let known = self
            .refused
            .as_ref()
            .is_some_and(|refused| refused.revision == *revision && refused.why == why);
        let who = match (by_haproxy, self.has_last_good()) {
            (true, true) => "HAProxy did not take it and the last good files are back",
            (true, false) => "HAProxy did not take it; no configuration is in force yet",
            (false, true) => "Nothing was changed; the last good configuration stays in force",
            (false, false) => "Nothing was changed; no configuration is in force yet",
        };
        for (index, diagnostic) in why.iter().enumerate() {
            let message = if index == 0 {
                format!("Set {revision} is refused. {diagnostic} {who}.")
            } else {
                diagnostic.to_string()
            };
            // Said once; that nothing has changed is a detail.
            let weight = match diagnostic.severity {
                _ if known => Weight::Detail,
                Severity::Error => Weight::Error,
                Severity::Warning => Weight::Warning,
            };
            say_about(actions, weight, message, revision);
        }
        if !why.iter().any(is_loss) {
            // What is lost is judged as a whole: no service is tried by itself.
            self.suspect(revision);
        }
        self.loss = Loss::of(&why, self.loss.take(), now);
        self.refused = Some(Refused {
            revision: revision.clone(),
            why,
            by_haproxy,
            again: Some(now + ASK_AGAIN),
        });
    }

    /// When a set may lose the servers that it has lost, if it is refused for nothing else.
    pub(super) fn loss_due(&self) -> Option<Instant> {
        let refused = self.refused.as_ref()?;
        let has = |code| refused.why.iter().any(|why| why.code == code);
        // What a value has lost is the operator's to release.
        if has(SECTION_LOST) || has(TEXT_CUT) {
            return None;
        }
        let loss = self.loss.as_ref()?;
        let rule = self.guard.rules().default;
        let hold = match loss.left_too_few {
            true => rule.hold_last?,
            false => rule.hold?,
        };
        Some(loss.since + hold)
    }

    /// Lets a set that was refused for the servers it has lost be taken. False when there is none.
    pub(super) fn allow_loss(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        if self.loss.take().is_none() {
            return false;
        }
        if let Some(refused) = &mut self.refused {
            refused.again = Some(now);
        }
        actions.push(Action::AllowLoss);
        true
    }

    /// Lets a set that HAProxy rejected be loaded again. False when there is none.
    pub(super) fn load_rejected(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Some(refused) = self.refused.as_mut().filter(|refused| refused.by_haproxy) else {
            return false;
        };
        refused.again = Some(now);
        actions.push(Action::ForgetRejections);
        true
    }

    /// A set that was refused is tried again after a while: what validation says may differ, and HAProxy's
    /// program may be another one than that which rejected it.
    pub(super) fn ask_again(&mut self, now: Instant) {
        if self.pending.is_some() || self.applying.is_some() {
            return;
        }
        let Some(refused) = &mut self.refused else {
            return;
        };
        if refused.again.take_if(|again| now >= *again).is_some() {
            if refused.by_haproxy && !self.observed.reachable {
                refused.again = Some(now + ASK_AGAIN);
                return;
            }
            let latest = self.latest.clone();
            let latest = latest.filter(|latest| latest.revision == refused.revision);
            self.pending = latest;
            self.drop_outdated();
            if let (None, Some(refused)) = (&self.pending, &mut self.refused) {
                refused.again = Some(now + ASK_AGAIN);
            }
        }
    }

    // Looking.

    pub(super) fn looked(&mut self, observed: Observed, now: Instant, actions: &mut Vec<Action>) {
        self.observing = false;
        self.next_look = now + self.timing.compare_interval;
        if !observed.servers.leaving.is_empty() {
            self.next_look = self.next_look.min(now + LEAVING);
        }
        for drift in &observed.drift {
            if !self.observed.drift.contains(drift) {
                say(
                    actions,
                    Weight::Warning,
                    format!(
                        "{drift} The next change writes it anew; until then HAProxy must not be reloaded by hand."
                    ),
                );
            }
        }
        for sentence in &observed.servers.by_hand {
            if !self.observed.servers.by_hand.contains(sentence) {
                say(actions, Weight::Warning, sentence.clone());
            }
        }
        for note in &observed.notes {
            if !self.observed.notes.contains(note) {
                say(actions, Weight::Warning, note.clone());
            }
        }
        self.compared(&observed, actions);
        self.observed = observed;
        if self.applying.is_some() || self.pending.is_some() {
            return;
        }
        let Some(applied) = &mut self.applied else {
            return;
        };
        if !self.observed.reachable {
            if applied.confirmed {
                applied.confirmed = false;
                say(
                    actions,
                    Weight::Warning,
                    "No HAProxy worker answers any more. The files stay current and are confirmed when it comes back.".to_owned(),
                );
            }
            return;
        }
        if self.observed.running.as_ref() == Some(&applied.revision) {
            if !applied.confirmed {
                applied.confirmed = true;
                let revision = applied.revision.clone();
                say_about(
                    actions,
                    Weight::Info,
                    format!("HAProxy runs revision {revision}: confirmed."),
                    &revision,
                );
            }
            return;
        }
        // Somebody else reloaded HAProxy, or it came back with older files: bring it to ours.
        applied.confirmed = false;
        if !self.timing.tells {
            return;
        }
        if let Some(ours) = &self.in_force
            && ours.revision == applied.revision
            && self
                .refused
                .as_ref()
                .is_none_or(|refused| refused.revision != ours.revision)
        {
            let running = match &self.observed.running {
                Some(revision) => format!("revision {revision}"),
                None => "a configuration without our revision".to_owned(),
            };
            say_about(
                actions,
                Weight::Warning,
                format!(
                    "HAProxy runs {running} instead of {}; it is brought back.",
                    ours.revision
                ),
                &ours.revision,
            );
            self.pending = Some(Arc::clone(ours));
        }
    }

    /// What differs between the worker and the file: put right, or only a reload does it.
    fn compared(&mut self, observed: &Observed, actions: &mut Vec<Action>) {
        if let Some(what) = &observed.servers.repaired {
            self.counts.divergences += 1;
            let message = format!(
                "HAProxy's worker did not run what the file holds ({what}); it was put right by commands."
            );
            say(actions, Weight::Warning, message);
        }
        let Some(what) = &observed.servers.differs else {
            return;
        };
        if self.observed.servers.differs.as_ref() == Some(what) {
            return; // The reload waits, or has not helped either.
        }
        self.counts.divergences += 1;
        let reloads = self.timing.tells && self.in_force.is_some();
        let remedy = match reloads {
            true => "HAProxy is reloaded",
            false => "Reload HAProxy",
        };
        let message =
            format!("HAProxy's worker does not run what the file holds ({what}). {remedy}.");
        say(actions, Weight::Warning, message);
        if reloads {
            self.repair = true;
            self.pending = self.pending.take().or_else(|| self.in_force.clone());
        }
    }
}

/// Whether a set is refused for what it has lost.
pub(super) fn is_loss(why: &Diagnostic) -> bool {
    [SERVERS_LOST, LAST_SERVERS_LOST, SECTION_LOST, TEXT_CUT].contains(&why.code)
}
