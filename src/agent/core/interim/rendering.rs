//! How interim sets are rendered, and what comes of it.

use super::*;
use crate::template::NO_TEMPLATES;

impl Core {
    /// Whether an interim set is to be rendered.
    pub(in crate::agent::core) fn has_to_render_interim(&self) -> bool {
        self.interim.wanted.is_some() && !self.rendering && !self.interim.is_rendering()
    }

    /// Whether it is rendered before the newest set: they take turns where both can go.
    pub(in crate::agent::core) fn interim_is_rendered(&self, newest_goes: bool) -> bool {
        self.has_to_render_interim() && !(newest_goes && self.interim.was_rendered)
    }

    pub(in crate::agent::core) fn render_interim(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let (Some(answers), Some(structure)) =
            (self.interim.wanted.take(), &self.interim.structure)
        else {
            return;
        };
        let templates = Arc::clone(&structure.templates);
        let trial = self.interim.trial.take();
        self.interim.rendering = Some((Arc::clone(&templates), answers.clone(), trial));
        self.interim.was_rendered = true;
        self.pace.renders(now);
        actions.push(Action::RenderInterim(answers, templates));
    }

    pub(in crate::agent::core) fn rendered_interim(
        &mut self,
        result: Rendered,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.pace.rendered(now);
        let Some((templates, answers, trial)) = self.interim.rendering.take() else {
            return;
        };
        match result {
            Rendered::Complete {
                candidate,
                used,
                quarantined,
                noted,
                listeners: _,
            } => {
                self.interim.rounds = 0;
                self.note(quarantined, noted, actions);
                if let Some(structure) = &mut self.interim.structure
                    && structure.templates == templates
                    && structure.used.is_empty()
                {
                    // A former process left it.
                    structure.used = Arc::new(used.clone());
                    structure.answers = answers.clone();
                }
                let origin = Origin {
                    templates,
                    answers,
                    used: Arc::new(used),
                    interim: true,
                    trial,
                };
                let known = &mut self.interim.origins;
                known.entry(candidate.revision.clone()).or_insert(origin);
                self.offer_interim(candidate, actions);
            }
            Rendered::Incomplete { needed, absent, .. } => {
                self.interim_incomplete(needed, absent, answers, now, actions);
            }
            Rendered::Failed(errors) => {
                let unknown = errors.iter().any(|error| error.code == NO_TEMPLATES);
                let why = match (unknown, errors.first()) {
                    (true, _) | (_, None) => {
                        "the templates of the last good set are not known".to_owned()
                    }
                    (false, Some(error)) => format!("they cannot be rendered: {error}"),
                };
                let why = why.trim_end_matches('.').to_owned();
                self.not_current(why, actions);
            }
            Rendered::Outdated => self.interim.compared = None,
        }
    }

    /// An answer that the structure needs and that only a former process knows, or nobody does.
    pub(super) fn interim_incomplete(
        &mut self,
        needed: BTreeSet<Query>,
        absent: BTreeSet<Query>,
        answers: Answers,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let mut more = answers.0.as_ref().clone();
        let mut live_comes = false;
        for query in &needed {
            self.watch(query.clone(), now, actions);
            let live = self.watches.get(query).and_then(|one| one.known.clone());
            let known = match live.filter(|_| is_of_instances(query)) {
                Some(live) => Some(live),
                // Servers of the set in force may be newer.
                None if is_of_instances(query) && self.changes_servers_only() => {
                    live_comes = true;
                    None
                }
                None => self.memory.left(query).map(|answer| {
                    self.revisions += 1;
                    Known {
                        answer,
                        revision: self.revisions,
                    }
                }),
            };
            more.extend(known.map(|known| (query.clone(), known)));
        }
        self.interim.rounds += 1;
        if more.len() > answers.0.len() && self.interim.rounds <= self.timing.max_rounds {
            let more = Answers(Arc::new(more));
            if let Some(structure) = &mut self.interim.structure
                && structure.used.is_empty()
            {
                structure.answers = more.clone();
            }
            self.interim.wanted = Some(more);
            return;
        }
        if live_comes {
            self.interim.rounds = 0;
            return;
        }
        let missing = needed.union(&absent).next();
        let missing = missing.map_or_else(|| "an answer".to_owned(), ToString::to_string);
        self.not_current(format!("the answer to {missing} is not known"), actions);
    }

    /// The servers are not kept current.
    pub(super) fn not_current(&mut self, why: String, actions: &mut Vec<Action>) {
        let Some(kept) = &mut self.interim.kept else {
            return;
        };
        let reason = kept.obstacle.reason();
        let message =
            format!("The servers of the last good set are not kept current, because {why}.");
        if kept.not_current.as_ref() != Some(&message) {
            let said = format!("{message} That set stays in force, because {reason}.");
            say(actions, Weight::Warning, said);
        }
        kept.not_current = Some(message);
    }

    pub(super) fn offer_interim(&mut self, candidate: Arc<Candidate>, actions: &mut Vec<Action>) {
        let proved = self.interim.suspects.iter().find(|(_, one)| one.proved);
        let proved = proved.map(|(query, _)| as_before(query));
        let Some(kept) = &mut self.interim.kept else {
            return;
        };
        kept.not_current = proved;
        let revision = &candidate.revision;
        let is = |set: Option<&Revision>| set == Some(revision);
        let runs = is(self.applied.as_ref().map(|applied| &applied.revision));
        let refused = is(self.interim.refused.as_ref())
            || is(self.refused.as_ref().map(|refused| &refused.revision));
        let trial = self.trial_of(revision);
        if let Some(query) = trial.filter(|_| refused) {
            self.prove(&query, "", actions);
        }
        let Some(kept) = &mut self.interim.kept else {
            return;
        };
        if self.applying.is_none() && runs || refused {
            self.interim.pending = None;
            return;
        }
        if !std::mem::replace(&mut kept.told, true) {
            let message = format!(
                "Gatewright keeps the last good structure, because {}, and updates its servers.",
                kept.obstacle.reason()
            );
            say(actions, Weight::Warning, message);
        }
        self.interim.pending = Some(candidate);
        self.interim.needs_reload = false;
    }
}
