//! What the status reads of the core. It changes nothing.

use super::*;

impl Core {
    /// The watched queries.
    pub fn watches(&self) -> &BTreeMap<Query, Watched> {
        &self.watches
    }

    /// What the guard holds.
    pub fn holds(&self) -> Vec<View> {
        self.guard.views()
    }

    /// The answers on disk.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What HAProxy has taken.
    pub fn applied(&self) -> Option<&Applied> {
        self.applied.as_ref()
    }

    /// What it has not.
    pub fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    /// Why the last try to apply a set failed, until one succeeds or is refused.
    pub fn failure(&self) -> Option<&str> {
        (self.retries > 0).then_some(self.failure.as_str())
    }

    /// What a rendering waits for.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Instances left out.
    pub fn quarantined(&self) -> &[String] {
        &self.quarantined
    }

    /// What is used and odd, such as slots that are nearly all used; a sentence each.
    pub fn noted(&self) -> impl Iterator<Item = &String> {
        self.noted.values()
    }

    /// What is wrong with the templates on disk, and with the last rendering.
    pub fn template_errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.template_errors.iter().chain(&self.render_errors)
    }

    /// The revision that waits for its turn.
    pub fn pending(&self) -> Option<&Revision> {
        self.pending
            .as_ref()
            .or(self.applying.as_ref())
            .map(|candidate| &candidate.revision)
    }

    /// The sets whose answers are still of interest: rendered last, waiting, being applied, in force.
    pub fn open_sets(&self) -> impl Iterator<Item = &Revision> {
        let newest = [&self.latest, &self.pending, &self.applying, &self.in_force];
        newest
            .into_iter()
            .flatten()
            .chain(self.interim.pending())
            .map(|candidate| &candidate.revision)
    }

    /// What has happened since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The last look at HAProxy.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }
}
