//! What has happened since the start, as numbers for the status. Nothing is decided by them.

use std::collections::BTreeMap;

use super::Applied;
use crate::agent::event::Outcome;
use crate::apply::set::Revision;

/// What has happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes that HAProxy took by a reload.
    pub reloads: u64,
    /// Changes that the running worker took by commands.
    pub by_commands: u64,
    /// How often the worker did not run what the file held.
    pub divergences: u64,
    /// How applying ended. What only showed that a reload is needed is not counted.
    pub ends: BTreeMap<End, u64>,
    /// Ends at which HAProxy had been told to reload, by what they were for.
    pub reload_ends: BTreeMap<(Cause, End), u64>,
}

/// How applying a set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// HAProxy ran it already.
    Unchanged,
    /// The worker took it by commands.
    Commands,
    /// The worker of a reload reports it.
    Reload,
    /// The files are current and nobody could be told.
    Written,
    /// Validation or the gate refused it.
    Refused,
    /// HAProxy did not take it.
    Rejected,
    /// HAProxy was told and nothing shows that it took it.
    Unconfirmed,
    /// HAProxy has too many old workers.
    Busy,
    /// It could not be tried.
    Failed,
}

impl End {
    /// All of them.
    pub const ALL: [End; 9] = [
        End::Unchanged,
        End::Commands,
        End::Reload,
        End::Written,
        End::Refused,
        End::Rejected,
        End::Unconfirmed,
        End::Busy,
        End::Failed,
    ];

    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Unchanged => "unchanged",
            End::Commands => "commands",
            End::Reload => "reload",
            End::Written => "written",
            End::Refused => "refused",
            End::Rejected => "rejected",
            End::Unconfirmed => "unconfirmed",
            End::Busy => "busy",
            End::Failed => "failed",
        }
    }

    fn of(outcome: &Outcome) -> Option<End> {
        Some(match outcome {
            Outcome::Unchanged => End::Unchanged,
            Outcome::Confirmed { reloaded: true, .. } => End::Reload,
            Outcome::Confirmed { .. } => End::Commands,
            Outcome::Written { .. } => End::Written,
            Outcome::Refused(_) => End::Refused,
            Outcome::Rejected(_) => End::Rejected,
            Outcome::NeedsReload(_) | Outcome::StillRejected(_) => return None,
            Outcome::Busy(_) => End::Busy,
            Outcome::Failed(_) => End::Failed,
            Outcome::Unconfirmed(_) => End::Unconfirmed,
        })
    }
}

/// What a reload was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The first set since the start or since new settings.
    First,
    /// A change that commands do not make.
    Structure,
    /// The worker did not run what the file held, and commands did not put it right.
    Repair,
    /// HAProxy was restarted or reloaded by others, or lost what commands had told it.
    Foreign,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 4] = [
        Cause::First,
        Cause::Structure,
        Cause::Repair,
        Cause::Foreign,
    ];

    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::First => "first",
            Cause::Structure => "structure",
            Cause::Repair => "repair",
            Cause::Foreign => "foreign",
        }
    }

    /// Why a set is applied beside what was applied before.
    pub(super) fn of(repair: bool, before: Option<&Applied>, revision: &Revision) -> Cause {
        match before {
            None => Cause::First,
            _ if repair => Cause::Repair,
            Some(before) if before.revision == *revision => Cause::Foreign,
            Some(_) => Cause::Structure,
        }
    }
}

impl Counts {
    /// Applying ended.
    pub(super) fn ended(&mut self, cause: Cause, outcome: &Outcome) {
        let Some(end) = End::of(outcome) else { return };
        *self.ends.entry(end).or_default() += 1;
        if matches!(end, End::Reload | End::Rejected | End::Unconfirmed) {
            *self.reload_ends.entry((cause, end)).or_default() += 1;
        }
    }
}
