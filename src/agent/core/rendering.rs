//! The part of the core that renders: when templates are read, when a change is rendered, and what a
//! rendering means.

use super::*;
use crate::template::NO_THREAD;

/// How many services without an instance are named, and what the others are kept under.
const NAMED: usize = 10;
const MORE: &str = "more services without an instance";

impl Core {
    // Templates.

    pub(super) fn load_templates(&mut self, actions: &mut Vec<Action>) {
        self.loading = true;
        actions.push(Action::LoadTemplates);
    }

    pub(super) fn loaded(
        &mut self,
        result: Result<Loaded, Vec<Diagnostic>>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.loading = false;
        match result {
            Err(errors) => {
                let kept = if self.templates_loaded {
                    " The templates read before stay in force."
                } else {
                    ""
                };
                for error in &errors {
                    say(actions, Weight::Error, format!("{error}{kept}"));
                }
                self.template_errors = errors;
            }
            Ok(Loaded {
                templates,
                literal,
                warnings,
            }) => {
                for warning in &warnings {
                    say(actions, Weight::Warning, warning.to_string());
                }
                if self.templates_loaded {
                    say(
                        actions,
                        Weight::Info,
                        "The templates were read again.".to_owned(),
                    );
                }
                self.template_errors.clear();
                self.templates_loaded = true;
                self.templates = templates;
                self.interim.templates_changed();
                self.rounds = 0;
                for query in literal {
                    self.watch(query, now, actions);
                }
                self.mark_changed(now);
            }
        }
    }

    // Rendering.

    pub(super) fn mark_changed(&mut self, now: Instant) {
        // A burst ends with a quiet time or with what it was for: a restless catalog starves nothing.
        let waits = self.pending.is_some() || self.rendering || self.changed;
        let first = match self.burst {
            Some((first, latest)) if waits || now < latest + self.timing.settle => first,
            _ => now,
        };
        self.changed = true;
        self.burst = Some((first, now));
    }

    /// Whether every watched query has an answer or an error by now.
    fn may_render(&self) -> bool {
        self.templates_loaded
            && !self.loading
            && self
                .watches
                .values()
                .all(|watched| watched.known.is_some() || watched.failing.is_some())
    }

    /// When the latest changes have settled.
    pub(super) fn settled_at(&self) -> Option<Instant> {
        let (first, latest) = self.burst?;
        Some((latest + self.timing.settle).min(first + self.timing.max_settle))
    }

    /// When a reload has waited long enough for them.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        self.burst.map(|(first, _)| first + self.timing.max_settle)
    }

    /// Whether there is something to render. One rendering is kept ready while a set is being applied.
    pub(super) fn has_to_render(&self) -> bool {
        let ahead = self.applying.is_some() && self.pending.is_some();
        self.changed && !self.rendering && !ahead && self.may_render()
    }

    /// When the pace lets the newest be rendered. A rendering that goes on with the queries which the last one found is a
    /// part of that work, and there are few in a row: it does not wait once more.
    pub(super) fn render_ready_at(&self) -> Option<Instant> {
        match self.rounds {
            0 => self.pace.ready_at(),
            _ => None,
        }
    }

    /// Whether the pending set, rendered while another one was being applied, is about to be replaced.
    pub(super) fn newer_comes(&self) -> bool {
        !self.fresh && (self.rendering || self.has_to_render())
    }

    pub(super) fn wants_reload(&self) -> bool {
        self.needs_reload.is_some() || self.repair
    }

    pub(super) fn rendered(&mut self, result: Rendered, now: Instant, actions: &mut Vec<Action>) {
        self.rendering = false;
        self.pace.rendered(now);
        // It says nothing of the templates, and nothing of the catalog need change for it to pass.
        let not_begun = match &result {
            Rendered::Failed(errors) => errors.iter().any(|error| error.code == NO_THREAD),
            _ => false,
        };
        self.render_retries = if not_begun {
            self.render_retries + 1
        } else {
            0
        };
        match result {
            Rendered::Failed(errors) => {
                let again = not_begun.then(|| pause(self.render_retries));
                self.render_again = again.map(|pause| now + pause);
                let next = again.map_or(String::new(), |pause| {
                    format!("; trying again in {}", seconds(pause))
                });
                for error in &errors {
                    say(
                        actions,
                        Weight::Error,
                        format!("{error} {}{next}.", self.in_force_now()),
                    );
                }
                self.render_errors = errors;
            }
            Rendered::Outdated => self.mark_changed(now),
            Rendered::Incomplete {
                needed,
                absent,
                used,
            } => self.incomplete(needed, absent, used, now, actions),
            Rendered::Complete {
                candidate,
                used,
                quarantined,
                noted,
                listeners,
            } => {
                self.rounds = 0;
                self.render_errors.clear();
                self.waiting = Waiting::default();
                self.used = Arc::new(used);
                self.cancel_unused(now, actions);
                self.note(quarantined, noted, actions);
                self.listeners_judged(listeners, now, actions);
                self.attempted(&candidate.revision);
                self.offer(candidate, now, actions);
            }
        }
        self.drop_outdated();
    }

    /// Takes what a rendering says of the instances. Each is said once, not again for each instance that
    /// comes.
    pub(super) fn note(
        &mut self,
        mut quarantined: Vec<String>,
        noted: BTreeMap<String, String>,
        actions: &mut Vec<Action>,
    ) {
        quarantined.extend(self.left_out());
        for sentence in &quarantined {
            if !self.quarantined.contains(sentence) {
                say(actions, Weight::Warning, sentence.clone());
            }
        }
        self.quarantined = quarantined;
        let noted: BTreeMap<String, String> = noted.into_iter().chain(self.never_shown()).collect();
        for (name, sentence) in &noted {
            if !self.noted.contains_key(name) {
                say(actions, Weight::Warning, sentence.clone());
            }
        }
        self.noted = noted;
    }

    /// Services that templates read and the catalog has not shown so far: the name may be misspelt.
    fn never_shown(&self) -> Vec<(String, String)> {
        let is_never = |query: &&Query| {
            let watched = self.watches.get(query);
            matches!(query.kind, Kind::Service { .. })
                && watched.is_some_and(|one| one.answered_at.is_some() && !one.shown)
        };
        let never: Vec<&Query> = self.used.iter().filter(is_never).collect();
        let named = never.iter().take(NAMED).map(|query| {
            let sentence = format!(
                "The catalog has never shown an instance for {query}. Correct the name, or wait: Gatewright adds the instances once they are registered."
            );
            (query.to_string(), sentence)
        });
        let more = never.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| {
            let sentence =
                format!("The catalog has never shown an instance for {more} more services.");
            (MORE.to_owned(), sentence)
        });
        named.chain(more).collect()
    }

    fn incomplete(
        &mut self,
        needed: BTreeSet<Query>,
        absent: BTreeSet<Query>,
        used: BTreeSet<Query>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.render_errors.clear();
        let fresh: Vec<Query> = needed
            .iter()
            .filter(|query| !self.watches.contains_key(query))
            .cloned()
            .collect();
        if !fresh.is_empty() {
            self.rounds += 1;
            if self.rounds > self.timing.max_rounds {
                say(
                    actions,
                    Weight::Error,
                    format!(
                        "The templates still asked for new queries after {} rounds, the last one being {}. \
                         {}. Raise catalog.max_discovery_rounds if this is meant.",
                        self.timing.max_rounds,
                        fresh[0],
                        self.in_force_now()
                    ),
                );
            } else {
                for query in fresh {
                    self.watch(query, now, actions);
                }
                self.mark_changed(now);
            }
        }
        for query in absent.difference(&self.waiting.absent) {
            say(
                actions,
                Weight::Warning,
                format!(
                    "A template waits for {query}, which the catalog does not have. {} until it exists; {} would not wait.",
                    match self.has_last_good() {
                        true => "The last good structure stays in force",
                        false => "Nothing is rendered",
                    },
                    match query.kind {
                        Kind::Tree { .. } => "ls and tree",
                        _ => "keyOrDefault",
                    }
                ),
            );
        }
        // With an answer missing, a template may not have reached all that it asks; without one,
        // what it did not ask is not needed.
        if needed.is_empty() {
            self.used = Arc::new(used);
            self.cancel_unused(now, actions);
        }
        self.waiting = Waiting {
            since: self.waiting.since.or(Some(now)),
            needed,
            absent,
        };
    }
}
