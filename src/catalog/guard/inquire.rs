//! The part of the guard that asks Consul why something vanished, and what it makes of the answers.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::{self, Evidence, Finding, Inquiry, Permission, Sight, Silence, States};
use super::hold::Hold;
use super::output::{End, Output};
use super::{Guard, items};
use crate::catalog::{Query, Scope, Status};

/// How often Consul is asked about a hold, while there are few.
const PACE: Duration = Duration::from_secs(10);
/// So many holds are asked about at that pace.
const FEW: usize = 50;
/// How many questions are on their way at a time.
pub(super) const AT_A_TIME: usize = 8;
/// A question that was not answered for so long is asked again.
pub(super) const LOST: Duration = Duration::from_secs(60);

/// The canary in one datacenter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Canary {
    /// Whether it was ever seen: only then its absence proves anything.
    pub seen: bool,
    pub sight: Sight,
    /// When it was answered last.
    pub at: Option<Instant>,
    /// The first look, until there is an answer of any kind.
    pub first: Option<Instant>,
}

impl Guard {
    /// Takes what came of an [`Inquiry`].
    #[must_use]
    pub fn inspected(&mut self, evidence: Evidence, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some((scope, seen)) = &evidence.canary {
            self.saw_canary(scope, *seen, now);
        }
        if let Some(query) = &evidence.about {
            self.learn(query, &evidence, now, &mut out);
        }
        self.judge_holds(now, &mut out);
        self.ask(now, &mut out);
        out
    }

    pub(super) fn holds(&self) -> impl Iterator<Item = (&Query, &Hold)> {
        self.holding
            .iter()
            .filter_map(|query| Some((query, self.queries.get(query)?.hold.as_ref()?)))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.holds()
            .filter(|(_, hold)| hold.asked.is_some())
            .count()
    }

    /// The more there is to ask, the more seldom.
    pub(super) fn pace(&self) -> Duration {
        PACE * (1 + u32::try_from(self.holding.len() / FEW).unwrap_or(u32::MAX - 1))
    }

    /// A pause between two looks counts for no longer than this.
    pub(super) fn longest_count(&self) -> Duration {
        2 * self.pace()
    }

    /// Asks about the holds that are due, a few at a time.
    pub(super) fn ask(&mut self, now: Instant, out: &mut Vec<Output>) {
        for (scope, canary) in &mut self.canaries {
            if canary.first.is_some_and(|due| now >= due) {
                canary.first = Some(now + PACE);
                out.push(Output::Ask(Box::new(Inquiry {
                    about: None,
                    unfiltered: None,
                    canary: Some(evidence::canary(&self.rules.canary, scope)),
                    rights: Vec::new(),
                })));
            }
        }
        let mut free = AT_A_TIME.saturating_sub(
            self.holds()
                .filter(|(_, hold)| hold.asked.is_some_and(|asked| now < asked + LOST))
                .count(),
        );
        let mut due: Vec<(Instant, Query)> = self
            .holds()
            .filter(|(_, hold)| hold.asked.is_none_or(|asked| now >= asked + LOST))
            .filter(|(_, hold)| now >= hold.ask_at)
            .map(|(query, hold)| (hold.ask_at, query.clone()))
            .collect();
        due.sort();
        for (_, query) in due {
            if free == 0 {
                return;
            }
            free -= 1;
            let scope = canary_scope(&query.scope);
            let Some(hold) = self
                .queries
                .get_mut(&query)
                .and_then(|one| one.hold.as_mut())
            else {
                continue;
            };
            hold.asked = Some(now);
            // A look at the canary before the loss proves nothing about it.
            let known = self.canaries.get(&scope).and_then(|canary| canary.at);
            let recent = known.is_some_and(|at| at > hold.since && at + PACE / 2 > now);
            let canary = (!self.rules.canary.is_empty() && !recent)
                .then(|| evidence::canary(&self.rules.canary, &scope));
            let held = hold.items.values().map(|held| &held.item);
            out.push(Output::Ask(Box::new(Inquiry {
                rights: evidence::rights(held),
                unfiltered: evidence::unfiltered(&query),
                about: Some(query),
                canary,
            })));
        }
    }

    pub(super) fn look_for_canary(&mut self, scope: &Scope, now: Instant, out: &mut Vec<Output>) {
        if self.rules.canary.is_empty() {
            return;
        }
        let scope = canary_scope(scope);
        if let Entry::Vacant(place) = self.canaries.entry(scope) {
            place.insert(Canary {
                first: Some(now),
                ..Canary::default()
            });
            self.ask(now, out);
        }
    }

    fn saw_canary(&mut self, scope: &Scope, seen: Result<bool, Silence>, now: Instant) {
        let canary = self.canaries.entry(canary_scope(scope)).or_default();
        if seen != Err(Silence::Unknown) {
            canary.first = None;
            canary.at = Some(now);
        }
        canary.sight = match seen {
            Ok(true) => {
                canary.seen = true;
                Sight::Visible
            }
            Ok(false) | Err(Silence::Forbidden) if canary.seen => Sight::Lost,
            _ => Sight::Unknown,
        };
    }

    /// What an inquiry says about the hold of a query.
    fn learn(&mut self, query: &Query, evidence: &Evidence, now: Instant, out: &mut Vec<Output>) {
        let (pace, most) = (self.pace(), self.longest_count());
        let rule = self.rules.of(query);
        let start = now.checked_sub(rule.window).unwrap_or(now);
        let sight = self
            .canaries
            .get(&canary_scope(&query.scope))
            .map(|canary| canary.sight)
            .unwrap_or_default();
        let Some(guarded) = self.queries.get_mut(query) else {
            return;
        };
        let filtered = match &evidence.instances {
            Some(Ok(_)) => evidence.filtered,
            _ => guarded.filtered,
        } && !guarded.filtered_before;
        let count = guarded.count;
        let Some(hold) = &mut guarded.hold else {
            return;
        };
        // What vanished after the question was asked may stand in this answer as it was before.
        let outrun = hold.asked.take().is_some_and(|asked| hold.ask_at > asked);
        let states = evidence
            .instances
            .as_ref()
            .and_then(|read| read.as_ref().ok());
        let states = states.map(|instances| States::new(instances));
        let mut in_maintenance = BTreeSet::new();
        if let Some(states) = &states {
            let maintained =
                |(node, id): &items::Key| states.at(node, id) == Some(Status::Maintenance);
            let shown = hold.shown(count);
            let departed = guarded.departed.keys().filter(|key| maintained(key));
            in_maintenance.extend(
                departed
                    .chain(shown.iter().filter(|key| maintained(key)))
                    .cloned(),
            );
            hold.items.retain(|key, _| !maintained(key));
        }
        guarded
            .departed
            .retain(|key, _| !in_maintenance.contains(key));
        guarded.forgive(in_maintenance.len());
        let Some(hold) = &mut guarded.hold else {
            return;
        };
        if !in_maintenance.is_empty() {
            // What came during the hold was not in the reference and may be lost, too.
            let later = hold.items.values().filter(|held| held.later);
            hold.reference = hold.reference.max(count + later.count());
        }
        hold.finding = finding(
            hold,
            count,
            evidence,
            states.as_ref(),
            sight,
            filtered,
            &self.rules.canary,
        );
        hold.late = evidence.permission == Permission::Given;
        // A pause of this process or of Consul is not time that has run.
        if hold.finding.counts() {
            hold.clock = hold.reading(now, most);
        } else if let Finding::NotPermitted(_) = hold.finding {
            // Nor is what ran while nobody knew of it.
            hold.begin_again(hold.clock);
        }
        hold.counted = now;
        self.apply_rule(query, now);
        self.expire(query, start, now, out);
        let Some(guarded) = self.queries.get_mut(query) else {
            return;
        };
        let Some(hold) = &mut guarded.hold else {
            return;
        };
        let next = hold.due().filter(|_| hold.finding.counts());
        hold.ask_at = match outrun {
            true => now,
            false => next.map_or(now + pace, |due| due.clamp(now + PACE / 100, now + pace)),
        };
        if hold.held(count) == 0 {
            self.end(query, End::Maintenance, now, out);
            return;
        }
        if !in_maintenance.is_empty() {
            out.push(Output::Changed(query.clone()));
        }
        if self.is_fine(query, now) {
            let why = match in_maintenance.is_empty() {
                true => End::Returned,
                false => End::Maintenance,
            };
            self.end(query, why, now, out);
            return;
        }
        if let Some(guarded) = self.queries.get_mut(query)
            && let Some(hold) = &mut guarded.hold
            && !outrun
            && !std::mem::replace(&mut hold.told, true)
        {
            out.extend(self.view(query).map(Output::Began));
        }
    }

    /// Lets go what the time of a hold allows.
    fn expire(&mut self, query: &Query, start: Instant, now: Instant, out: &mut Vec<Output>) {
        let rule = self.rules.of(query);
        let Some(guarded) = self.queries.get_mut(query) else {
            return;
        };
        let (count, lately) = (guarded.count, guarded.reference(start));
        let Some(hold) = guarded.hold.as_mut().filter(|hold| hold.finding.counts()) else {
            return;
        };
        let floor = rule.floor(query, hold.reference);
        let shown = count + hold.held(count);
        let fits = |left| rule.is_fine(left, lately.max(shown), floor);
        let expired = hold.expire(count, count < floor, fits);
        if expired.left.is_empty() {
            return;
        }
        let over = hold.held(count) == 0;
        guarded.remember(now, shown, start);
        let departed = expired.left.into_iter().map(|key| (key, now));
        guarded.departed.extend(departed);
        if !over {
            out.push(Output::Changed(query.clone()));
            return;
        }
        self.end(query, End::Time, now, out);
        if let Some(guarded) = self.queries.get_mut(query)
            && expired.quiet
        {
            guarded.settle();
        }
    }
}

/// What an inquiry says about the loss behind a hold.
fn finding(
    hold: &Hold,
    count: usize,
    evidence: &Evidence,
    states: Option<&States<'_>>,
    sight: Sight,
    filtered: bool,
    canary: &str,
) -> Finding {
    if sight == Sight::Lost {
        return Finding::NotPermitted(format!("The token no longer sees the service {canary}"));
    }
    if filtered {
        return Finding::NotPermitted("The answer was filtered by ACLs".to_owned());
    }
    match &evidence.permission {
        Permission::Denied(right) => {
            return Finding::NotPermitted(format!("The token may not read {right}"));
        }
        Permission::Unseen(node) => {
            return Finding::NotPermitted(format!(
                "The node {node:?} is gone from the catalog as well, and Consul does not tell whether the token may read it"
            ));
        }
        Permission::Silent if states.is_some() => return Finding::Silent,
        Permission::Certain | Permission::Given | Permission::Untold | Permission::Silent => {}
    }
    match (&evidence.instances, states) {
        (_, Some(states)) => {
            let shown = hold.shown(count);
            let held = shown.iter().filter_map(|key| hold.items.get(key));
            Finding::of(held.map(|held| &held.item), states)
        }
        (None, _) if evidence.permission == Permission::Given => Finding::Readable,
        (None, _) if sight == Sight::Visible || canary.is_empty() => Finding::Absent,
        (Some(Err(Silence::Forbidden)), _) => {
            Finding::NotPermitted("The token may not read it any more".to_owned())
        }
        (Some(Err(Silence::CutOff)), _) => Finding::NotPermitted(
            "So many members failed at once that this machine may be the one that is cut off"
                .to_owned(),
        ),
        _ => Finding::Silent,
    }
}

/// The canary is the servers' own service: one in each datacenter.
fn canary_scope(scope: &Scope) -> Scope {
    Scope {
        datacenter: scope.datacenter.clone(),
        ..Scope::default()
    }
}
