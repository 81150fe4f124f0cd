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
                candidate,
            } => self.rendered(generation, set, result, candidate),
            Message::Applied {
                applier,
                candidate,
                verdict,
            } => {
                self.applier = Some(applier);
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
                self.applier_is_back();
                self.event(Event::Observed(observed(&observation)));
            }
            Message::Resumed { applier, verdict } => {
                self.applier = Some(applier);
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
        candidate: Option<Arc<Candidate>>,
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
        let rendered = match (result, candidate) {
            (Err(errors), _) => Rendered::Failed(errors),
            (Ok(template::Outcome::Complete(rendering)), Some(candidate)) => {
                if rendering.files_read != self.files_read {
                    self.files_read = rendering.files_read;
                    self.watch_files();
                }
                Rendered::Complete {
                    candidate,
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
    }
}

/// What came of starting HAProxy with the last good set.
fn resumed(verdict: &Verdict) {
    match verdict {
        Verdict::Confirmed { revision, .. } => {
            tracing::info!("HAProxy is started with the last good set, revision {revision}.");
        }
        Verdict::Unchanged => tracing::info!("HAProxy runs the last good set."),
        other => tracing::warn!(
            "HAProxy could not be started with the last good set and waits for the first new one: {other:?}"
        ),
    }
}
