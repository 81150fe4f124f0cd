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
            Message::RenderedInterim {
                generation,
                former,
                result,
                compared,
                answers,
            } => self.rendered_interim(generation, former, result, compared, answers),
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
                snapshot,
            } => {
                self.applier = Some(applier);
                self.good_again();
                self.applier_is_back();
                if !snapshot {
                    self.core.snapshot_is_gone(Instant::now());
                }
                self.event(Event::Observed(observed(&observation)));
            }
            Message::Resumed { applier, verdict } => {
                self.applier = Some(applier);
                self.good_again();
                resumed(&verdict);
                self.applier_is_back();
            }
            Message::Opened { applier, parts } => self.opened(applier, parts),
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

    fn loaded(&mut self, generation: u64, result: Result<Templates, Vec<Diagnostic>>) {
        self.loading = false;
        if generation != self.generation {
            self.read_templates();
            return;
        }
        let result = result.map(|templates| {
            let literal = templates.set.literal_queries().clone();
            self.templates = Some(templates.set);
            Loaded {
                templates: templates.texts,
                literal,
                warnings: templates.warnings,
            }
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
            self.is_made_from(&revision, answers);
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
        if let Ok(template::Outcome::Complete(rendering)) = &result
            && rendering.files_read != self.files_read
        {
            self.files_read.clone_from(&rendering.files_read);
            self.watch_files();
        }
        if let Some(rendered) = how_ended(result, compared) {
            self.event(Event::Rendered(rendered));
            self.keep_open();
        }
    }

    fn rendered_interim(
        &mut self,
        generation: u64,
        former: Option<Former>,
        result: Result<template::Outcome, Vec<Diagnostic>>,
        compared: Option<Compared>,
        answers: Arc<BTreeMap<Query, Known>>,
    ) {
        if generation != self.generation {
            // The settings may be others by now, and the templates be compiled by them.
            self.event(Event::RenderedInterim(Rendered::Outdated));
            return;
        }
        if let Some(former) = &former {
            self.slots = former.set.slots().clone();
        }
        self.former = former;
        if let Some(compared) = &compared {
            self.is_made_from(&compared.candidate.revision, answers);
        }
        if let Some(rendered) = how_ended(result, compared) {
            self.event(Event::RenderedInterim(rendered));
            self.keep_open();
        }
    }

    /// Remembers what a set was made from, which may become the last good one or is it already.
    fn is_made_from(&mut self, revision: &Revision, answers: Arc<BTreeMap<Query, Known>>) {
        let made_from = MadeFrom::Answers(answers);
        if let Some(good) = &mut self.good
            && good.set.revision == *revision
        {
            good.made_from = Some(made_from.clone());
        }
        self.made_from.insert(revision.clone(), made_from);
    }

    /// Forgets sets that the core has no interest in any more.
    fn keep_open(&mut self) {
        let mut open: BTreeSet<Revision> = self.core.open_sets().cloned().collect();
        open.extend(self.good.as_ref().map(|good| good.set.revision.clone()));
        self.made_from.retain(|revision, _| open.contains(revision));
        if !self.core.may_make_interim() {
            self.former = None;
        }
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

/// How a rendering ended, for the core. A whole one comes with its set.
fn how_ended(
    result: Result<template::Outcome, Vec<Diagnostic>>,
    compared: Option<Compared>,
) -> Option<Rendered> {
    Some(match result {
        Err(errors) => Rendered::Failed(errors),
        Ok(template::Outcome::Incomplete {
            needed,
            absent,
            used,
        }) => Rendered::Incomplete {
            needed,
            absent,
            used,
        },
        Ok(template::Outcome::Complete(rendering)) => {
            let Compared {
                candidate,
                listeners,
                ..
            } = compared?;
            let crowded = rendering.crowded.iter();
            let crowded = crowded.map(|one| (one.name.clone(), one.to_string()));
            let noted = rendering.noted.into_iter();
            let noted = noted.map(|one| (one.text.clone(), one.text));
            Rendered::Complete {
                candidate,
                listeners,
                used: rendering.used,
                quarantined: rendering
                    .quarantined
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                noted: crowded.chain(noted).collect(),
            }
        }
    })
}

/// What came of starting HAProxy with the last good set.
fn resumed(verdict: &Verdict) {
    match verdict {
        Verdict::Confirmed { revision, .. } => {
            tracing::info!("HAProxy is started with the last good set, revision {revision}.");
        }
        Verdict::Unchanged => tracing::info!("HAProxy runs the last good set."),
        Verdict::Written { reason, .. } => tracing::warn!("{reason}"),
        Verdict::Unconfirmed { reason, .. } => {
            tracing::warn!(
                "HAProxy did not start with the last good set, and is started again and again: {reason}"
            );
        }
        other => {
            let why = other.why_not().unwrap_or_default();
            let why = why.trim_end().replace('\n', " ");
            tracing::warn!(
                "HAProxy could not be started with the last good set and waits for the first new one: {why}"
            );
        }
    }
}
