//! Settings and files that change while it runs.

use super::*;

impl Sidecar {
    /// Asked for while they are read, they are read once more after that, however often it was asked.
    pub(super) fn settings_again(&mut self) {
        if self.reading_settings {
            self.read_again = true;
            return;
        }
        self.reading_settings = true;
        let read = Arc::clone(&self.read_settings);
        self.work(move || Message::Settings(read().map(Box::new)));
    }

    pub(super) fn settings_read(&mut self, result: Result<Box<Parts>, Vec<Diagnostic>>) {
        match result {
            Err(errors) => {
                self.frame.settings_errors = errors
                    .iter()
                    .map(|error| format!("{error} The settings read before stay in force."))
                    .collect();
                for error in &self.frame.settings_errors {
                    tracing::error!("{error}");
                }
                // Templates may have changed all the same.
                self.event(Event::TemplatesChanged);
            }
            Ok(parts) => {
                self.frame.settings_errors.clear();
                self.waiting_settings = Some(parts);
                self.applier_is_back();
            }
        }
    }

    /// New settings come into force when nothing is being applied, and what was asked for meanwhile is done.
    pub(super) fn applier_is_back(&mut self) {
        let Some(former) = self.applier.take_if(|_| self.waiting_settings.is_some()) else {
            match self.asked.take() {
                Some(Asked::Apply(candidate, means)) => self.apply(candidate, means),
                Some(Asked::Observe) => self.observe(),
                None => {}
            }
            return;
        };
        let Some(parts) = self.waiting_settings.take() else {
            return;
        };
        let open_former = Arc::clone(&self.parts.open_applier);
        let supervisor = self.supervisor.clone();
        let messages = self.messages.clone();
        self.on_apply_thread(async move {
            // The locks are the old applier's until it is gone. HAProxy stays ours meanwhile.
            drop(former);
            let (applier, parts) = match open(&parts.open_applier, supervisor.as_ref()) {
                Ok(mut applier) => {
                    // An operator has looked at it; a set over which HAProxy ended takes more than that.
                    applier.forget_rejections(false);
                    (Ok(applier), Ok(parts))
                }
                Err(error) => (open(&open_former, supervisor.as_ref()), Err(error)),
            };
            let applier = applier.map(Box::new);
            let _ = messages.send(Message::Opened { applier, parts }).await;
        });
    }

    pub(super) fn opened(
        &mut self,
        applier: Result<Box<Applier>, String>,
        parts: Result<Box<Parts>, String>,
    ) {
        match applier {
            Ok(applier) => {
                self.ending = applier.ending();
                self.applier = Some(applier);
            }
            Err(error) => {
                tracing::error!("{error}");
                self.lost = true;
            }
        }
        match parts {
            Ok(parts) => self.come_into_force(*parts),
            Err(error) => {
                self.frame.settings_errors =
                    vec![format!("{error} The settings read before stay in force.")];
                tracing::error!("{}", self.frame.settings_errors[0]);
            }
        }
        self.applier_is_back();
    }

    fn come_into_force(&mut self, parts: Parts) {
        self.good_again();
        // Under another mode HAProxy is left to those who manage it from now on.
        self.supervisor = self.applier.as_mut().and_then(|applier| applier.guardian());
        let source_changed = parts.source_identity != self.parts.source_identity;
        self.core.settings_changed(parts.timing);
        self.former = None;
        let actions = self
            .core
            .set_guard_rules(parts.guard.clone(), Instant::now());
        self.carry_out(actions);
        self.frame.mode.clone_from(&parts.mode);
        self.frame.warnings.clone_from(&parts.warnings);
        self.listen(parts.listen.clone());
        let old = std::mem::replace(&mut self.parts, parts);
        if source_changed {
            tracing::info!("The catalog's settings have changed; every query is asked anew.");
            let actions = self.core.restart_watches();
            self.carry_out(actions);
        } else {
            self.parts.source = old.source;
        }
        self.watch_files();
        self.event(Event::TemplatesChanged);
    }

    /// Serves the status by HTTP where the settings say so now. An address that cannot be had leaves the
    /// former one in use.
    fn listen(&mut self, wanted: Option<Listen>) {
        match (&self.listener, wanted) {
            (_, None) => self.listener = None,
            (Some(listener), Some(wanted)) if listener.is_as(&wanted) => {}
            (former, Some(wanted)) => {
                // The same address with other names has to be given up first.
                if former
                    .as_ref()
                    .is_some_and(|one| one.address() == wanted.address)
                {
                    self.listener = None;
                }
                match StatusListener::start(wanted, self.sources.clone()) {
                    Ok(listener) => {
                        tracing::info!("The status is served on http://{}/.", listener.address());
                        self.listener = Some(listener);
                    }
                    Err(error) => {
                        tracing::error!("{error}");
                        self.frame.settings_errors.push(error);
                    }
                }
            }
        }
        self.frame.listening = self.listener.as_ref().map(|one| one.address().to_string());
    }

    // Files.

    pub(super) fn watch_files(&mut self) {
        let templates = self
            .parts
            .template_files
            .iter()
            .chain(&self.files_read)
            .cloned()
            .collect();
        let settings = self.parts.settings_file.iter().cloned().collect();
        let messages = self.messages.clone();
        // The old watch ends first. What it has said is not said again.
        let former = self.file_watch.take();
        let known = former.as_ref().and_then(FileWatch::problem);
        drop(former);
        self.file_watch = FileWatch::start(vec![templates, settings], known, move |group| {
            let message = if group == 0 {
                Message::TemplatesChanged
            } else {
                Message::SettingsChanged
            };
            let _ = messages.blocking_send(message);
        })
        .inspect_err(|error| {
            tracing::warn!("Changes of templates and settings are not noticed by themselves: {error}. SIGHUP reads them again.");
        })
        .ok();
    }
}

/// Opens an applier that goes on with the HAProxy that is already ours.
fn open(open: &OpenApplier, supervisor: Option<&Supervisor>) -> Result<Applier, String> {
    let mut applier = open()?;
    match supervisor {
        Some(supervisor) if !applier.inherit(supervisor.clone()) => Err(
            "The master socket of a supervised HAProxy cannot change while it runs. Restart Gatewright for that.".to_owned(),
        ),
        _ => Ok(applier),
    }
}
