//! What the core asks for is begun here, each piece in a task of its own.

use super::*;

impl Sidecar {
    /// A HAProxy of ours starts from the last good set, whether or not the catalog answers.
    pub(super) fn start_haproxy(&mut self) {
        let supervised = self.parts.supervised;
        let Some(mut applier) = self
            .applier
            .take_if(|applier| supervised && applier.last_good().is_some())
        else {
            return;
        };
        let messages = self.messages.clone();
        self.on_apply_thread(async move {
            let verdict = Box::new(applier.resume().await);
            let _ = messages.send(Message::Resumed { applier, verdict }).await;
        });
    }

    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::LoadTemplates => self.load_templates(),
                Action::StartWatch(id, query) => {
                    let watch = self.parts.source.watch(id, query, self.updates.clone());
                    self.watches.insert(id, watch);
                }
                Action::StopWatch(id) => {
                    self.watches.remove(&id);
                }
                Action::Render(answers) => self.render(answers),
                Action::RenderInterim(answers, templates) => {
                    self.render_interim(answers, templates);
                }
                Action::Apply(candidate, means) => self.apply(candidate, means),
                Action::Observe => self.observe(),
                Action::Inspect(inquiry) => self.inspect(*inquiry),
                Action::Save(content) => self.save(content),
                Action::AllowLoss => self.consent.loss = true,
                Action::ForgetRejections => self.consent.rejections = true,
                Action::Say(notice) => say(&notice),
            }
        }
    }

    fn inspect(&self, inquiry: Inquiry) {
        let source = self.parts.source.clone();
        let messages = self.messages.clone();
        self.task(async move {
            let evidence = inspect(&source, inquiry).await;
            let _ = messages.send(Message::Inspected(evidence)).await;
        });
    }

    fn save(&self, content: Content) {
        let path = self.snapshot.clone();
        let left = self.core.listeners().left();
        self.work(move || {
            let written = snapshot::write(&path, &content, &left);
            Message::Saved(written)
        });
    }

    /// Asked for while they are read, they are read once more after that.
    fn load_templates(&mut self) {
        self.generation += 1;
        self.read_templates();
    }

    pub(super) fn read_templates(&mut self) {
        if std::mem::replace(&mut self.loading, true) {
            return;
        }
        let watched = self.file_watch.as_ref().map(FileWatch::started);
        let generation = self.generation;
        let load = Arc::clone(&self.parts.load_templates);
        self.work(move || {
            // A change after this is noticed.
            if let Some(watched) = watched {
                watched.wait();
            }
            let result = load().map(|(set, warnings)| Templates {
                texts: to_text(&set.texts()),
                set: Box::new(set),
                warnings,
            });
            Message::Loaded { generation, result }
        });
    }

    fn render(&mut self, Answers(answers): Answers) {
        let generation = self.generation;
        let make_set = Arc::clone(&self.parts.make_set);
        let Some(mut set) = self.templates.take() else {
            // The core renders only what is loaded, one at a time.
            tracing::error!("A rendering was asked for without templates.");
            return;
        };
        set.set_slots(self.slots.clone());
        let reference = self.reference();
        self.work(move || {
            let (result, compared) = render(&mut set, &answers, &make_set, &reference);
            Message::Rendered {
                generation,
                set,
                result,
                compared,
                answers,
            }
        });
    }

    fn render_interim(&mut self, Answers(answers): Answers, texts: Arc<str>) {
        let generation = self.generation;
        let compile = Arc::clone(&self.parts.compile);
        let make_set = Arc::clone(&self.parts.make_set);
        let slots = self.slots.clone();
        let former = self.former.take().filter(|former| former.texts == texts);
        let reference = self.reference();
        let servers_only = self.core.changes_servers_only();
        self.work(move || {
            let former = former.map_or_else(
                || {
                    let set = from_text(&texts).and_then(|texts| compile(texts))?;
                    Ok(Former {
                        texts,
                        set: Box::new(set),
                    })
                },
                Ok,
            );
            let (former, (result, compared)) = match former {
                Ok(mut former) => {
                    former.set.set_slots(slots);
                    let (mut result, compared) =
                        render(&mut former.set, &answers, &make_set, &reference);
                    if let Some(compared) = compared.as_ref().filter(|_| servers_only)
                        && !reference.other_files_are_as_in(&compared.candidate)
                    {
                        result = Err(unknown("the last good set has other files"));
                    }
                    (Some(former), (result, compared))
                }
                Err(errors) => (None, (Err(errors), None)),
            };
            Message::RenderedInterim {
                generation,
                former,
                result,
                compared,
                answers,
            }
        });
    }

    /// What the listeners of the next set are compared with.
    fn reference(&self) -> Reference {
        let register = self.core.listeners();
        Reference {
            good: self.good.clone(),
            judged: register.judged(),
            released: register.released().clone(),
            rules: self.parts.gate.clone(),
            now: snapshot::wall(),
        }
    }

    pub(super) fn apply(&mut self, candidate: Arc<Candidate>, means: Means) {
        let Some(mut applier) = self.applier.take() else {
            self.asked = Some(Asked::Apply(candidate, means));
            return;
        };
        let messages = self.messages.clone();
        let consent = std::mem::take(&mut self.consent);
        self.on_apply_thread(async move {
            consent.give(&mut applier);
            let verdict = Box::new(applier.apply(&candidate, means).await);
            let _ = messages
                .send(Message::Applied {
                    applier,
                    candidate,
                    verdict,
                })
                .await;
        });
    }

    pub(super) fn observe(&mut self) {
        let Some(mut applier) = self.applier.take() else {
            self.asked = Some(Asked::Observe);
            return;
        };
        let messages = self.messages.clone();
        let snapshot = self.snapshot.clone();
        self.on_apply_thread(async move {
            let observation = Box::new(applier.observe().await);
            let _ = messages
                .send(Message::Observed {
                    applier,
                    observation,
                    snapshot: snapshot.exists(),
                })
                .await;
        });
    }

    /// Runs something long beside the loop.
    pub(super) fn work(&self, work: impl FnOnce() -> Message + Send + 'static) {
        let messages = self.messages.clone();
        self.watch_task(tokio::task::spawn_blocking(move || {
            let message = work();
            let _ = messages.blocking_send(message);
        }));
    }

    /// Runs work of the applier's, whose disk may be slow.
    pub(super) fn on_apply_thread(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.watch_task(self.apply_thread.spawn(work));
    }

    /// Runs something that waits beside the loop.
    fn task(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.watch_task(tokio::spawn(task));
    }

    /// A task that panics has what it worked on with it: nothing can go on without that.
    fn watch_task(&self, task: JoinHandle<()>) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                let _ = messages.send(Message::Lost).await;
            }
        });
    }
}

impl Consent {
    fn give(self, applier: &mut Applier) {
        if self.loss {
            applier.allow_loss();
        }
        if self.rejections {
            applier.forget_rejections(true);
        }
    }
}

/// Renders, and compares the listeners of a set that is whole with those of the last good one.
fn render(
    set: &mut TemplateSet,
    answers: &BTreeMap<Query, Known>,
    make_set: &MakeSet,
    reference: &Reference,
) -> (Result<template::Outcome, Vec<Diagnostic>>, Option<Compared>) {
    let mut result = set.render(answers);
    let compared = match &mut result {
        Ok(template::Outcome::Complete(rendering)) => {
            let mut candidate = make_set(std::mem::take(&mut rendering.files));
            candidate.origin =
                Origin::of(&candidate.files, set.texts_in_use(candidate.files.len()));
            candidate.origin.secrets = rendering.secrets.clone();
            Some(reference.compare(candidate, answers, |from, former| {
                set.made_from(former, |query| from.answer(query))
            }))
        }
        _ => None,
    };
    (result, compared)
}

fn to_text(texts: &Texts) -> Arc<str> {
    // Plain texts and paths; a path that is no text cannot be read back, and is not known then.
    serde_json::to_string(texts).unwrap_or_default().into()
}

fn from_text(texts: &str) -> Result<Texts, Vec<Diagnostic>> {
    serde_json::from_str(texts)
        .map_err(|_| unknown("the templates of the last good set are not known"))
}

fn unknown(message: &str) -> Vec<Diagnostic> {
    vec![Diagnostic::error(NO_TEMPLATES, message)]
}
