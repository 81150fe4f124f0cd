//! What the operator asks of the guard, and when a loss is fine. Never looks at a single item.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalog::fitness::Fitness;
use crate::catalog::{Kind, Query};

/// So many must be lost in all services together before that counts as a mass.
const OVERALL_LEAST: usize = 4;

/// What the operator asks of the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether anything is ever held.
    pub enabled: bool,
    /// For everything that has no rule of its own.
    pub default: Rule,
    /// For the instances of single services.
    pub services: BTreeMap<String, Rule>,
    /// A service that a token with its rights sees at all times; empty for none.
    pub canary: String,
    /// The share of all instances, in percent, that all services together may lose within the window
    /// of the default rule.
    pub overall_max_loss: usize,
    /// Which instances count: HAProxy never serves the others.
    pub fitness: Fitness,
}

/// What one query may lose, and how long a loss beyond that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The largest share, in percent, that may vanish within the window.
    pub max_loss: usize,
    /// The time over which losses add up.
    pub window: Duration,
    /// With fewer instances than this any loss is held.
    pub min_instances: usize,
    /// How long a loss beyond the share is held; `None` for ever.
    pub hold: Option<Duration>,
    /// How long a loss is held that leaves too few; `None` for ever.
    pub hold_last: Option<Duration>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            enabled: true,
            default: Rule::default(),
            services: BTreeMap::new(),
            canary: "consul".to_owned(),
            overall_max_loss: 50,
            fitness: Fitness::default(),
        }
    }
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            max_loss: 30,
            window: Duration::from_secs(60),
            min_instances: 1,
            hold: Some(Duration::from_secs(60)),
            hold_last: None,
        }
    }
}

impl Rules {
    /// The rule for a query.
    pub fn of(&self, query: &Query) -> Rule {
        match &query.kind {
            Kind::Service { name, .. } => self.services.get(name).copied(),
            _ => None,
        }
        .unwrap_or(self.default)
    }

    /// Whether all services together have lost no more than they may.
    pub fn is_fine_overall(&self, present: usize, reference: usize) -> bool {
        let lost = reference.saturating_sub(present);
        lost < OVERALL_LEAST || lost * 100 <= reference * self.overall_max_loss
    }
}

impl Rule {
    /// The number below which a loss leaves too few. The minimum is of instances; of anything else
    /// the last one of many must stay, while a list of one may become empty.
    pub(super) fn floor(&self, query: &Query, reference: usize) -> usize {
        match query.kind {
            Kind::Service { .. } => self.min_instances,
            _ => usize::from(reference > 1),
        }
    }

    /// Whether so many are enough after there were `reference`. A single one may always go, unless
    /// it leaves too few.
    pub fn is_fine(&self, present: usize, reference: usize, floor: usize) -> bool {
        present >= reference
            || present >= floor
                && (present + 1 >= reference
                    || present * 100 >= reference * (100 - self.max_loss.min(100)))
    }

    /// How long the loss is held that leaves so many.
    pub(super) fn hold_for(&self, present: usize, floor: usize) -> Option<Duration> {
        match present < floor {
            true => self.hold_last,
            false => self.hold,
        }
    }
}
