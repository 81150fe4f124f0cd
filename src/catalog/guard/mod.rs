//! The guard against mass loss: between what the source answers and what templates see.
//!
//! A template sees the answer and, besides, the items that vanished from it in mass: HAProxy's own
//! checks decide about those. What is new or changed passes at once, always. A loss is judged by
//! numbers, not by identity: as many new ones are no loss.
//!
//! While something is held, Consul is asked why: instances in maintenance go at once, and a token
//! that lost its rights proves nothing. A hold ends when the items return, when nothing was lost and
//! nothing returned for its time, or by an operator's release. While instances return, held ones leave
//! one for one.
//!
//! Pure: the time is an argument, and questions to Consul come out as values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

mod evidence;
mod hold;
mod inquire;
mod items;
mod output;
mod rules;
#[cfg(test)]
mod tests;

pub use evidence::{Evidence, Inquiry, Permission, Right, Silence};
pub use output::{End, Output, View};
pub use rules::{Rule, Rules};

use self::evidence::Finding;
use self::hold::{Guarded, Hold};
use self::inquire::{AT_A_TIME, Canary, LOST};
use self::items::Present;
use super::{Answer, Kind, Query, Scope};

/// The guard over all queries.
#[derive(Debug, Clone)]
pub struct Guard {
    rules: Rules,
    queries: BTreeMap<Query, Guarded>,
    holding: BTreeSet<Query>,
    canaries: BTreeMap<Scope, Canary>,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(rules: Rules) -> Guard {
        Guard {
            rules,
            queries: BTreeMap::new(),
            holding: BTreeSet::new(),
            canaries: BTreeMap::new(),
        }
    }

    /// What the operator asks.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// After the settings were read again: holds are judged anew.
    #[must_use]
    pub fn set_rules(&mut self, rules: Rules, now: Instant) -> Vec<Output> {
        let others = self.rules.fitness != rules.fitness;
        self.rules = rules;
        let mut out = Vec::new();
        if others {
            self.count_again(&mut out);
        }
        if !self.rules.enabled {
            let all: Vec<Query> = self.holding.iter().cloned().collect();
            for query in all {
                self.end(&query, End::Off, now, &mut out);
            }
        }
        let all: Vec<Query> = self.holding.iter().cloned().collect();
        for query in all {
            self.apply_rule(&query, now);
        }
        self.judge_holds(now, &mut out);
        out
    }

    /// Takes the source's answer to a query. `filtered` is Consul's word that something was left
    /// out for want of rights.
    #[must_use]
    pub fn take(
        &mut self,
        query: &Query,
        answer: Arc<Answer>,
        filtered: bool,
        now: Instant,
    ) -> Vec<Output> {
        let mut out = vec![Output::Changed(query.clone())];
        let count = items::count(&answer, &self.rules);
        if self.rules.enabled && items::is_guarded(query) {
            self.look_for_canary(&query.scope, now, &mut out);
        }
        let rule = self.rules.of(query);
        let most = self.longest_count();
        let Some(guarded) = self.queries.get_mut(query) else {
            let guarded = Guarded::new(answer, count, filtered);
            self.queries.insert(query.clone(), guarded);
            return out;
        };
        if !self.rules.enabled || !items::is_guarded(query) {
            guarded.present = answer;
            guarded.count = count;
            return out;
        }
        // Nearly always all are fit, and counting them has shown it.
        let fit = guarded.count == guarded.present.len() && count == answer.len();
        let fitness = (!fit).then_some(&self.rules.fitness);
        let mut vanished = items::vanished(&guarded.present, &answer, fitness);
        let start = now.checked_sub(rule.window).unwrap_or(now);
        let former = std::mem::replace(&mut guarded.count, count);
        let before = std::mem::replace(&mut guarded.present, Arc::clone(&answer));
        guarded.filtered = filtered;
        if let Some(hold) = &mut guarded.hold {
            let arrived = items::vanished(&answer, &before, fitness);
            hold.compare(&Present::of(&answer, fitness), &arrived, now, most);
        } else {
            guarded.remember(now, former, start);
        }
        if !vanished.is_empty() {
            let present = Present::of(&answer, fitness);
            vanished.retain(|item| !present.replaces(item));
        }
        let holds = guarded.hold.is_some();
        if self.is_fine(query, now) {
            if let Some(guarded) = self.queries.get_mut(query) {
                let departed = vanished.iter().map(|item| (item.key(), now));
                guarded.departed.extend(departed);
                guarded.filtered_before = filtered;
                guarded.eased = false;
            }
            self.end(query, End::Returned, now, &mut out);
        } else if holds || (count < former && !vanished.is_empty()) {
            self.hold(query, vanished, now, &mut out);
        }
        self.judge_holds(now, &mut out);
        self.ask(now, &mut out);
        out
    }

    /// Takes that the source's answer is as before, but for Consul's word on what was left out.
    pub fn confirm(&mut self, query: &Query, filtered: bool) {
        if let Some(guarded) = self.queries.get_mut(query) {
            guarded.filtered = filtered;
            if guarded.hold.is_none() {
                guarded.filtered_before = filtered;
            }
        }
    }

    /// Does what has fallen due.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        self.ask(now, &mut out);
        out
    }

    /// When [`Guard::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let in_flight = self.in_flight();
        let next = self
            .holds()
            .filter_map(|(_, hold)| match hold.asked {
                Some(asked) => Some(asked + LOST),
                None if in_flight >= AT_A_TIME => None,
                None => Some(hold.ask_at),
            })
            .min();
        let first = self.canaries.values().filter_map(|canary| canary.first);
        first.chain(next).min()
    }

    /// Lets go what is held of these services (or queries, as a template asks them), or everything.
    /// Gives the names of what was.
    #[must_use]
    pub fn release(
        &mut self,
        services: Option<&[String]>,
        now: Instant,
    ) -> (Vec<String>, Vec<Output>) {
        let mut out = Vec::new();
        let mut names = BTreeSet::new();
        let all: Vec<Query> = self.holding.iter().cloned().collect();
        for query in all {
            let service = service_of(&query);
            let named = services.is_none_or(|services| {
                let text = query.to_string();
                services
                    .iter()
                    .any(|one| Some(one.as_str()) == service || *one == text)
            });
            if named {
                names.insert(service.map_or_else(|| query.to_string(), str::to_owned));
                self.end(&query, End::Released, now, &mut out);
            }
        }
        self.judge_holds(now, &mut out);
        (names.into_iter().collect(), out)
    }

    /// What templates see of a query.
    pub fn effective(&self, query: &Query) -> Option<Arc<Answer>> {
        let guarded = self.queries.get(query)?;
        Some(match &guarded.hold {
            None => Arc::clone(&guarded.present),
            Some(hold) => {
                let shown = hold.shown(guarded.count);
                let held = shown.iter().filter_map(|key| hold.items.get(key));
                let held = held.map(|held| &held.item);
                Arc::new(items::with(query, &guarded.present, held))
            }
        })
    }

    /// Forgets all queries but these.
    #[must_use]
    pub fn keep_only(&mut self, used: &BTreeSet<Query>, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        let unused: Vec<Query> = self.holding.difference(used).cloned().collect();
        for query in unused {
            self.end(&query, End::Unasked, now, &mut out);
        }
        self.queries.retain(|query, _| used.contains(query));
        out.retain(|output| matches!(output, Output::Ended { .. }));
        out
    }

    /// What is held.
    pub fn views(&self) -> Vec<View> {
        self.holding
            .iter()
            .filter_map(|query| self.view(query))
            .collect()
    }

    // What outlives the process.

    /// By how many the next answer to a query is judged.
    pub fn reference(&self, query: &Query, now: Instant) -> Option<usize> {
        let start = now.checked_sub(self.rules.of(query).window).unwrap_or(now);
        self.queries
            .get(query)
            .map(|guarded| guarded.reference(start))
    }

    /// Whether a hold of this query leaves, or left, too few: the next process lets it go as gently.
    pub fn eases(&self, query: &Query) -> bool {
        let guarded = self.queries.get(query);
        guarded.is_some_and(|guarded| self.is_eased(query, guarded))
    }

    /// How many holds do.
    pub fn easing(&self) -> usize {
        self.holding
            .iter()
            .filter(|query| self.eases(query))
            .count()
    }

    fn is_eased(&self, query: &Query, guarded: &Guarded) -> bool {
        guarded.hold.as_ref().map_or(guarded.eased, |hold| {
            let floor = self.rules.of(query).floor(query, hold.reference);
            hold.eased || guarded.count < floor
        })
    }

    /// The datacenters in which the canary was seen.
    pub fn canary_seen(&self) -> impl Iterator<Item = Option<&str>> {
        let seen = self.canaries.iter().filter(|(_, canary)| canary.seen);
        seen.map(|(scope, _)| scope.datacenter.as_deref())
    }

    /// Takes over what a former process believed. `eased` is its [`Guard::eases`].
    pub fn restore(
        &mut self,
        query: &Query,
        answer: Arc<Answer>,
        reference: usize,
        eased: bool,
        now: Instant,
    ) {
        let count = items::count(&answer, &self.rules);
        let mut guarded = Guarded::new(answer, count, false);
        // What was held then was counted by nobody.
        guarded.count = guarded.count.min(reference);
        guarded.believed.push_back((now, reference));
        guarded.eased = eased;
        self.queries.insert(query.clone(), guarded);
    }

    /// Takes over that a former process has seen the canary.
    pub fn restore_canary(&mut self, datacenter: Option<String>) {
        let scope = Scope {
            datacenter,
            ..Scope::default()
        };
        self.canaries.entry(scope).or_default().seen = true;
    }

    // Judging.

    /// Whether the present of a query is no mass loss, by its own rule and over all services.
    fn is_fine(&self, query: &Query, now: Instant) -> bool {
        let Some(guarded) = self.queries.get(query) else {
            return true;
        };
        let rule = self.rules.of(query);
        let start = now.checked_sub(rule.window).unwrap_or(now);
        let reference = guarded.reference(start);
        let floor = rule.floor(query, reference);
        rule.is_fine(guarded.count, reference, floor)
            && (guarded.count >= reference
                || !matches!(query.kind, Kind::Service { .. })
                || self.is_fine_overall(now))
    }

    /// After the operator let other instances through: those that are left out now were not lost.
    fn count_again(&mut self, out: &mut Vec<Output>) {
        for (query, guarded) in &mut self.queries {
            let count = items::count(&guarded.present, &self.rules);
            let before = std::mem::replace(&mut guarded.count, count);
            guarded.forgive(before.saturating_sub(count));
            if let Some(hold) = &mut guarded.hold {
                let held = hold.items.len();
                hold.items
                    .retain(|_, held| held.item.is_fit(&self.rules.fitness));
                let unfit = held - hold.items.len();
                guarded.forgive(unfit);
                out.push(Output::Changed(query.clone()));
            }
        }
    }

    fn is_fine_overall(&self, now: Instant) -> bool {
        let window = self.rules.default.window;
        let start = now.checked_sub(window).unwrap_or(now);
        let services = self
            .queries
            .iter()
            .filter(|(query, _)| matches!(query.kind, Kind::Service { .. }));
        let (present, reference) = services.fold((0, 0), |(present, reference), (_, guarded)| {
            let own = guarded.reference(start);
            (present + guarded.count.min(own), reference + own)
        });
        self.rules.is_fine_overall(present, reference)
    }

    fn hold(
        &mut self,
        query: &Query,
        vanished: Vec<items::Item>,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let most = self.longest_count();
        let rule = self.rules.of(query);
        let start = now.checked_sub(rule.window).unwrap_or(now);
        let Some(guarded) = self.queries.get_mut(query) else {
            return;
        };
        let count = guarded.count;
        let reference = guarded.reference(start);
        let eased = std::mem::take(&mut guarded.eased);
        let hold = guarded.hold.get_or_insert_with(|| {
            let limit = rule.hold_for(count, rule.floor(query, reference));
            let interchangeable = matches!(query.kind, Kind::Service { .. });
            let mut hold = Hold::new(reference, interchangeable, limit, now);
            hold.eased = eased;
            hold
        });
        hold.count(count, now, most);
        hold.add(vanished, now, most);
        let empty = hold.held(count) == 0;
        self.holding.insert(query.clone());
        if empty {
            self.end(query, End::Replaced, now, out);
        } else {
            self.apply_rule(query, now);
        }
    }

    /// What is present, and the settings, decide how long a hold lasts.
    fn apply_rule(&mut self, query: &Query, now: Instant) {
        let most = self.longest_count();
        let rule = self.rules.of(query);
        if let Some(guarded) = self.queries.get_mut(query)
            && let Some(hold) = &mut guarded.hold
        {
            let floor = rule.floor(query, hold.reference);
            hold.set_limit(rule.hold_for(guarded.count, floor), now, most);
        }
    }

    /// What was a loss may be none since something else has changed.
    fn judge_holds(&mut self, now: Instant, out: &mut Vec<Output>) {
        let fine: Vec<Query> = self
            .holding
            .iter()
            .filter(|query| self.is_fine(query, now))
            .cloned()
            .collect();
        for query in fine {
            self.end(&query, End::Returned, now, out);
        }
    }

    fn end(&mut self, query: &Query, why: End, now: Instant, out: &mut Vec<Output>) {
        let view = self.view(query);
        self.holding.remove(query);
        let window = self.rules.of(query).window;
        let Some(guarded) = self.queries.get_mut(query) else {
            return;
        };
        let Some(hold) = guarded.hold.take() else {
            return;
        };
        match why {
            // What is present now is the measure.
            End::Released | End::Off | End::Unasked => guarded.settle(),
            End::Time | End::Returned | End::Maintenance | End::Replaced => {
                let start = now.checked_sub(window).unwrap_or(now);
                guarded.remember(now, hold.reference, start);
            }
        }
        guarded.filtered_before = guarded.filtered;
        let departed = hold.items.into_keys().map(|key| (key, now));
        guarded.departed.extend(departed);
        if let (true, Some(hold)) = (hold.told, view) {
            out.push(Output::Ended { hold, why });
        }
        out.push(Output::Changed(query.clone()));
    }

    fn view(&self, query: &Query) -> Option<View> {
        let guarded = self.queries.get(query)?;
        let hold = guarded.hold.as_ref()?;
        let whole = guarded.count < self.rules.of(query).floor(query, hold.reference);
        let runs = hold.finding.counts() || hold.finding == Finding::Open;
        Some(View {
            query: query.clone(),
            service: service_of(query).map(str::to_owned),
            present: guarded.count,
            held: hold.held(guarded.count),
            reference: hold.reference,
            reason: hold.finding.sentence(&self.rules.canary),
            since: hold.since,
            ends_at: hold.last_due(guarded.count, whole).filter(|_| runs),
        })
    }
}

/// The service that a query is of.
fn service_of(query: &Query) -> Option<&str> {
    match &query.kind {
        Kind::Service { name, .. } => Some(name),
        _ => None,
    }
}
