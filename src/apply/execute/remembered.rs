//! What need not be done again: a set that runs or is written already, and one that this HAProxy has rejected.

use super::*;

impl Applier {
    /// The verdict of a set that runs already, or that is written where Gatewright cannot reach HAProxy.
    pub(super) fn already(
        &mut self,
        candidate: &Candidate,
        seen: &Seen,
    ) -> Result<Option<Verdict>, ApplyError> {
        let revision = Some(&candidate.revision);
        let known = runs(seen, revision) || self.history.state().written.as_ref() == revision;
        // Read from the disk: others may have edited what was written.
        if !known || !is_live(&candidate.files) {
            return Ok(None);
        }
        // What a former process has written it knows by its text only.
        self.haproxy.withhold_instead(&candidate.origin.secrets);
        if runs(seen, revision) {
            self.confirmed(revision.cloned());
            self.reported(seen);
            return Ok(Some(Verdict::Unchanged));
        }
        if !self.haproxy.can_ask() && self.history.state().applied.as_ref() == revision {
            return Ok(Some(Verdict::Unchanged));
        }
        if let Seen::Unknown(why) = seen
            && why.lasts()
            && self.haproxy.can_tell()
            && self.history.state().applied.as_ref() == revision
        {
            return Ok(Some(Verdict::Written {
                revision: candidate.revision.clone(),
                reason: why.to_string(),
                story: "no change".to_owned(),
            }));
        }
        let written = self.history.state().written.as_ref() == revision;
        if !self.haproxy.can_tell() && written {
            self.stands(&candidate.revision);
            return Ok(Some(Verdict::Written {
                revision: candidate.revision.clone(),
                reason: "nobody is told in this mode".to_owned(),
                story: "no change".to_owned(),
            }));
        }
        let supervised = matches!(self.options.mode, Mode::Supervise { .. });
        match seen {
            Seen::Absent { reason }
                if !supervised && self.history.state().written.as_ref() == revision =>
            {
                Ok(Some(Verdict::Written {
                    revision: candidate.revision.clone(),
                    reason: reason.clone(),
                    story: "no change".to_owned(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// What this HAProxy has rejected before it would reject again.
    pub(super) async fn remembered(&self, candidate: &Candidate, seen: &Seen) -> Option<Verdict> {
        let rejected = &self.history.state().rejected;
        rejected.of(&candidate.revision)?;
        let build = self.build(seen, self.master().await.as_ref());
        still(rejected.against(&candidate.revision, &build)?)
    }

    /// A set that must be loaded, and over which this HAProxy has ended before: with other servers it would
    /// do so again. The structure of the last good set has been loaded.
    pub(super) fn killed_before(
        &self,
        candidate: &Candidate,
        seen: &Seen,
        master: Option<&Master>,
    ) -> Option<Verdict> {
        let rejected = &self.history.state().rejected;
        if !rejected.any_fatal() {
            return None;
        }
        let new = structure(&candidate.files);
        let good = self.last_good.as_ref();
        if good.is_some_and(|good| structure(&good.files) == new) {
            return None;
        }
        still(rejected.fatal_as(&new, &self.build(seen, master))?)
    }

    /// What is known of HAProxy's program: the one that the next reload starts.
    pub(super) fn build(&self, seen: &Seen, master: Option<&Master>) -> Build {
        let program = validate::program(&invocation(&self.options), master);
        Build {
            version: match seen {
                Seen::Running(running) => Some(running.version.clone()),
                _ => None,
            },
            file: notes::stamp(&program),
        }
    }

    /// What a worker reports it has loaded.
    pub(super) fn reported(&mut self, seen: &Seen) {
        if let Seen::Running(running) = seen
            && let Some(revision) = &running.revision
        {
            self.history
                .update(|state| state.rejected.reported(revision, running.pid));
        }
    }
}

fn still(rejection: &Rejection) -> Option<Verdict> {
    let before = match rejection.fatal {
        true => "HAProxy has ended over this configuration before, so it is not loaded again.",
        false => "HAProxy has rejected this set before, so it is not loaded again.",
    };
    Some(Verdict::StillRejected {
        reason: format!("{before} {}", rejection.reason),
    })
}
