//! How interim sets are rendered, and what comes of it.

use super::*;
use crate::template::{NO_TEMPLATES, NO_THREAD};

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
        self.interim.rendering = Some((Arc::clone(&templates), answers.clone()));
        self.interim.rendering_number = self.interim.number;
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
        let Some((templates, answers)) = self.interim.rendering.take() else {
            return;
        };
        if self.interim.rendering_number != self.interim.number {
            // Another structure is the last good one by now.
            self.interim.compared = None;
            return;
        }
        match result {
            Rendered::Complete {
                candidate,
                used,
                quarantined,
                noted,
                listeners: _,
            } => {
                // Otherwise the newest set, of the same instances, says so.
                let says = self.interim.kept.as_ref().map(|kept| kept.obstacle);
                if matches!(
                    says,
                    Some(Obstacle::Templates | Obstacle::Rendering | Obstacle::Waiting)
                ) {
                    self.note(quarantined, noted, actions);
                }
                for query in &used {
                    self.watch(query.clone(), now, actions);
                }
                self.interim.asked.clone_from(&used);
                let used = Arc::new(used);
                if let Some(structure) = &mut self.interim.structure
                    && structure.used.is_empty()
                {
                    // A former process left it.
                    structure.used = Arc::clone(&used);
                }
                let origin = Origin {
                    templates,
                    answers,
                    used,
                    interim: true,
                };
                let revision = candidate.revision.clone();
                let latest = self.latest.as_ref();
                if latest.is_none_or(|latest| latest.revision != revision) {
                    self.interim.origins.insert(revision, origin);
                }
                self.offer_interim(candidate, now, actions);
                self.forget_origins();
            }
            Rendered::Incomplete { needed, absent, .. } => {
                self.interim_incomplete(needed, absent, answers, now, actions);
            }
            Rendered::Failed(errors) => {
                let pause = match errors.iter().any(|error| error.code == NO_THREAD) {
                    true => RETRY.0,
                    false => ASK_AGAIN,
                };
                self.interim.again.get_or_insert(now + pause);
                let why = match errors.first() {
                    Some(error) if error.code == NO_TEMPLATES => error.message.clone(),
                    Some(error) => format!("that set cannot be rendered: {error}"),
                    None => "that set cannot be rendered".to_owned(),
                };
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
        let unknown = self.interim.structure.as_ref();
        let unknown = unknown.is_some_and(|structure| structure.used.is_empty());
        let mut left = BTreeMap::new();
        let mut live_comes = false;
        for query in &needed {
            self.watch(query.clone(), now, actions);
            let live = self.watches.get(query).and_then(|one| one.known.clone());
            let former = self.memory.left_answer(query).map(|answer| {
                self.revisions += 1;
                let revision = self.revisions;
                Known { answer, revision }
            });
            left.extend(former.clone().map(|known| (query.clone(), known)));
            let known = match is_of_instances(query) {
                // Servers of the set in force may be newer.
                true if live.is_none() && self.changes_servers_only() => {
                    live_comes = true;
                    None
                }
                false if unknown => former.or(live),
                _ => live.or(former),
            };
            more.extend(known.map(|known| (query.clone(), known)));
        }
        self.interim.asked.extend(needed.iter().cloned());
        if let Some(structure) = &mut self.interim.structure
            && unknown
            && !left.is_empty()
        {
            left.extend(structure.answers.0.as_ref().clone());
            structure.answers = Answers(Arc::new(left));
        }
        // What was numbered here is no news.
        if let Some((revisions, ..)) = &mut self.interim.compared {
            *revisions = self.revisions;
        }
        self.interim.rounds += 1;
        if more.len() > answers.0.len() && self.interim.rounds <= self.timing.max_rounds {
            self.interim.wanted = Some(Answers(Arc::new(more)));
            return;
        }
        if live_comes {
            return;
        }
        self.interim.again.get_or_insert(now + ASK_AGAIN);
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
        let message = format!(
            "The servers of the last good set are not kept current, because {}.",
            why.trim_end_matches('.')
        );
        if kept.not_current.as_ref() != Some(&message) {
            let said = format!("{message} That set stays in force, because {reason}.");
            say(actions, Weight::Warning, said);
        }
        kept.not_current = Some(message);
    }

    pub(super) fn offer_interim(
        &mut self,
        candidate: Arc<Candidate>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let revision = &candidate.revision;
        let is = |set: Option<&Revision>| set == Some(revision);
        let runs = is(self.applied.as_ref().map(|applied| &applied.revision));
        let newest = is(self.refused.as_ref().map(|refused| &refused.revision));
        if newest || is(self.interim.refused.as_ref()) {
            self.interim.pending = None;
            self.interim.again.get_or_insert(now + ASK_AGAIN);
            self.suspect(revision);
            return;
        }
        let Some(kept) = &mut self.interim.kept else {
            return;
        };
        kept.not_current = None;
        if self.applying.is_none() && runs {
            self.interim.pending = None;
            return;
        }
        if kept.obstacle.lasts() && !std::mem::replace(&mut kept.logged, true) {
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
