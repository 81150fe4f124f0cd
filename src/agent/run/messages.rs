//! What came of the tasks, back into the loop.

use super::*;

impl Sidecar {
    pub(super) fn message(&mut self, message: Message) {
        match message {
            Message::Loaded { generation, result } => self.loaded(generation, result),
            Message::Rendered {
                generation,
                set,
                result,
                compared,
                answers,
            } => self.rendered(generation, set, result, compared, answers),
            Message::Applied {
                applier,
                candidate,
                verdict,
            } => {
                self.applier = Some(applier);
                self.good_again();
                let revision = candidate.revision.clone();
                let outcome = outcome(*verdict, &candidate, self.templates.as_deref_mut());
                self.applier_is_back();
                self.event(Event::Applied { revision, outcome });
            }
            Message::Observed {
                applier,
                observation,
            } => {
                self.applier = Some(applier);
                self.good_again();
                self.applier_is_back();
                if !self.snapshot.exists() {
                    self.core.snapshot_is_gone(Instant::now());
                }
                self.event(Event::Observed(observed(&observation)));
            }
            Message::Resumed { applier, verdict } => {
                self.applier = Some(applier);
                self.good_again();
                resumed(&verdict);
                self.applier_is_back();
                match self.asked.take() {
                    Some(Asked::Apply(candidate, means)) => self.apply(candidate, means),
                    Some(Asked::Observe) => self.observe(),
                    None => {}
                }
            }
            Message::Inspected(evidence) => self.event(Event::Inspected(evidence)),
            Message::Saved(result) => self.event(Event::Saved(result)),
            Message::Lost => self.lost = true,
            Message::TemplatesChanged => self.event(Event::TemplatesChanged),
            Message::SettingsChanged => {
                tracing::info!("The settings file has changed and is read again.");
                self.settings_again();
            }
            Message::Settings(result) => {
                self.reading_settings = false;
                if std::mem::take(&mut self.read_again) {
                    self.settings_again();
                    return;
                }
                self.settings_read(result);
                self.systemd.tell(NotifyState::Ready);
            }
        }
    }

    fn loaded(
        &mut self,
        generation: u64,
        result: Result<(Box<TemplateSet>, Vec<Diagnostic>), Vec<Diagnostic>>,
    ) {
        if generation != self.generation {
            return; // Newer templates are being read.
        }
        let result = result.map(|(mut set, warnings)| {
            set.set_slots(self.slots.clone());
            let literal = set.literal_queries().clone();
            self.templates = Some(set);
            Loaded { literal, warnings }
        });
        self.event(Event::Loaded(result));
    }

    fn rendered(
        &mut self,
        generation: u64,
        set: Box<TemplateSet>,
        result: Result<template::Outcome, Vec<Diagnostic>>,
        compared: Option<Compared>,
        answers: Arc<BTreeMap<Query, Known>>,
    ) {
        if generation == self.generation {
            self.slots = set.slots().clone();
        }
        // Templates that were replaced meanwhile are dropped; broken new ones leave these.
        if self.templates.is_none() {
            self.templates = Some(set);
        }
        if generation != self.generation {
            self.event(Event::Rendered(Rendered::Outdated));
            return;
        }
        if let Some(compared) = &compared {
            let revision = compared.candidate.revision.clone();
            let made_from = MadeFrom::Answers(answers);
            if let Some(good) = &mut self.good
                && good.set.revision == revision
            {
                good.made_from = Some(made_from.clone());
            }
            self.made_from.insert(revision.clone(), made_from);
            self.compared = Some((
                revision,
                compared.against.clone(),
                Arc::clone(&compared.lines),
            ));
            if self.listens_elsewhere() {
                self.event(Event::Rendered(Rendered::Outdated));
                return;
            }
        }
        let rendered = match (result, compared) {
            (Err(errors), _) => Rendered::Failed(errors),
            (Ok(template::Outcome::Complete(rendering)), Some(compared)) => {
                if rendering.files_read != self.files_read {
                    self.files_read = rendering.files_read;
                    self.watch_files();
                }
                Rendered::Complete {
                    candidate: compared.candidate,
                    listeners: compared.listeners,
                    used: rendering.used,
                    quarantined: rendering
                        .quarantined
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    noted: rendering
                        .crowded
                        .iter()
                        .map(|one| (one.name.clone(), one.to_string()))
                        .chain(
                            rendering
                                .noted
                                .into_iter()
                                .map(|one| (one.text.clone(), one.text)),
                        )
                        .collect(),
                }
            }
            (
                Ok(template::Outcome::Incomplete {
                    needed,
                    absent,
                    used,
                }),
                _,
            ) => Rendered::Incomplete {
                needed,
                absent,
                used,
            },
            (Ok(template::Outcome::Complete(_)), None) => return,
        };
        self.event(Event::Rendered(rendered));
        // The core says by now which sets are of interest.
        let mut open: BTreeSet<Revision> = self.core.open_sets().cloned().collect();
        open.extend(self.good.as_ref().map(|good| good.set.revision.clone()));
        self.made_from.retain(|revision, _| open.contains(revision));
    }

    /// The applier is back: another set may be the last good one.
    pub(super) fn good_again(&mut self) {
        let Some(applier) = &self.applier else {
            return;
        };
        let set = applier.last_good_set();
        let revision = set.as_ref().map(|set| &set.revision);
        let made_from = revision.and_then(|revision| self.made_from.get(revision));
        if let (Some(good), Some(set)) = (&mut self.good, &set)
            && good.set == *set
        {
            // The same text may have been made from newer answers.
            good.made_from = made_from.cloned();
            return;
        }
        self.good = set.clone().map(|set| Good::new(set, made_from.cloned()));
        if self.listens_elsewhere() {
            self.core.compare_again(Instant::now());
        }
    }

    /// Whether the set that was rendered last was compared with another one than is the last good one
    /// by now, and that one listens at other addresses.
    fn listens_elsewhere(&self) -> bool {
        let (Some((revision, against, lines)), Some(good)) = (&self.compared, &self.good) else {
            return false;
        };
        *revision != good.set.revision
            && against.as_ref() != Some(&good.set.revision)
            && *lines != good.lines
    }
}

/// What came of starting HAProxy with the last good set.
fn resumed(verdict: &Verdict) {
    match verdict {
        Verdict::Confirmed { revision, .. } => {
            tracing::info!("HAProxy is started with the last good set, revision {revision}.");
        }
        Verdict::Unchanged => tracing::info!("HAProxy runs the last good set."),
        Verdict::Written { reason, .. } => tracing::warn!("{reason}"),
        other => tracing::warn!(
            "HAProxy could not be started with the last good set and waits for the first new one: {other:?}"
        ),
    }
}
