//! The files are swapped in and HAProxy must load them: reloaded and confirmed, or brought back to the
//! former ones.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::journal::Change;
use super::super::ports;
use super::super::set::{Candidate, Revision};
use super::super::tell::{Mode, STALE, Seen, Told};
use super::super::validate::{self, Master};
use super::reads::Other;
use super::{Applier, ApplyError, Rejection, Verdict, invocation, runs, runs_set, structure};
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::redact;
use crate::haproxy::stats::Running;
use crate::haproxy::supervise::{Death, Status};
use crate::text::shortened;

/// For a service manager to bring a HAProxy back that ended.
const RETURN: Duration = Duration::from_secs(5);

/// As many taken addresses are named.
const TAKEN: usize = 3;

/// A new worker reports what it has loaded.
const READS_ANOTHER: &str = " It is a new worker, so HAProxy reads another file than Gatewright writes. Mount the directory of the file for both, not the file alone, and start HAProxy with `-f` for it.";

/// Whether a set is the reason why HAProxy does not run it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// HAProxy did not take it.
    Set,
    /// HAProxy ended over it, as far as that was seen.
    Fatal,
    /// HAProxy was told in a way that may be lost, and still runs what it ran.
    Perhaps,
    /// HAProxy was killed during the reload, or it was down and started only from the former set.
    Hardly,
    /// HAProxy was down and did not start. Only if it starts from the former set is this one the reason.
    AtRest,
    /// Nothing is known.
    Unknown,
}

impl Blame {
    /// An end that nobody has seen counts as one over the set: finding out would end HAProxy once more.
    fn of(death: Death) -> Blame {
        match death {
            Death::Itself | Death::Unseen => Blame::Fatal,
            Death::Killed => Blame::Hardly,
        }
    }
}

impl Applier {
    /// The files are in place: HAProxy loads them and confirms them, or the former ones are put back. `master` is
    /// the one that they were validated for.
    pub(super) async fn take_effect(
        &mut self,
        candidate: &Candidate,
        mut change: Change,
        master: Option<&Master>,
        story: String,
        started: Instant,
        findings: Vec<Finding>,
    ) -> Result<Verdict, ApplyError> {
        let revision = candidate.revision.clone();
        if let Err(error) = change.told() {
            self.forget_workers();
            change.take_back().map_err(ApplyError::TakeBack)?;
            return Err(error.into());
        }
        self.learn_socket(&candidate.files);
        self.note_workers().await;
        // What was said to the former worker is gone with it.
        let former = self.memory.worker;
        self.memory.forget();
        self.haproxy.hold_restarts(true);
        let mut told = self.haproxy.tell().await;
        let limit = match &told {
            Told::Sent => self.options.confirm_timeout,
            Told::Loaded => STALE.min(self.options.confirm_timeout),
            // A command may fail after it has reloaded.
            _ => Duration::ZERO,
        };
        let mut seen = match &told {
            Told::Absent { .. } | Told::Ended { .. } | Told::NotStarted { .. } => Seen::Absent {
                reason: String::new(),
            },
            _ => self.confirm(limit, &revision).await,
        };
        let supervised = matches!(self.options.mode, Mode::Supervise { .. });
        if supervised && told == Told::Loaded && !runs(&seen, Some(&revision)) {
            // It had ended by itself and was started again from the former files in just this moment,
            // which says nothing of the new ones.
            self.note_workers().await;
            told = self.haproxy.tell().await;
            seen = self.confirm(limit, &revision).await;
        }
        // One that had ended before it was told is absent.
        if matches!(told, Told::Sent | Told::Unanswered { .. })
            && !matches!(seen, Seen::Running(_))
            && let Some(ended) = self.haproxy.end_of_told()
        {
            told = ended;
        }
        if runs(&seen, Some(&revision)) {
            self.has_read(&seen);
            change.finish()?;
            self.confirmed(Some(revision.clone()));
            self.reported(&seen);
            return Ok(Verdict::Confirmed {
                revision,
                took: started.elapsed(),
                means: self.haproxy.means().to_owned(),
                reloaded: true,
                story,
                findings,
            });
        }
        match told {
            Told::Absent { reason } => {
                change.finish()?;
                self.stands(&revision);
                Ok(Verdict::Written {
                    revision,
                    reason,
                    story,
                })
            }
            // No word about the set is not a word against it: HAProxy may run it, and then the former files
            // would be what no worker runs.
            Told::Loaded | Told::Sent if takes_its_word(&told, &seen) => {
                change.finish()?;
                self.history
                    .update(|state| state.applied = Some(revision.clone()));
                self.learn_last_good();
                Ok(Verdict::Written {
                    revision,
                    reason: format!("{}.", self.describe(&seen)),
                    story,
                })
            }
            Told::Loaded | Told::Sent => {
                let mut reason = format!(
                    "HAProxy was told to load revision {revision}, but {}.",
                    self.describe(&seen)
                );
                if let Seen::Running(running) = &seen
                    && !self.carrier.is_command()
                    && former.is_some_and(|former| former != running.pid)
                {
                    reason.push_str(READS_ANOTHER);
                }
                let blame = match (&seen, told) {
                    _ if !self.knows_workers() => Blame::Unknown,
                    (Seen::Running(_), Told::Sent) => Blame::Perhaps,
                    (Seen::Running(_), _) => Blame::Set,
                    _ => Blame::Unknown,
                };
                self.back(candidate, change, reason, Vec::new(), blame)
                    .await
            }
            Told::Failed { output } => {
                // What HAProxy prints may quote a value of its environment.
                let secrets = validate::secrets(candidate, &invocation(&self.options), master);
                let findings = validate::read_reload_findings(candidate, &output, &secrets);
                let output = redact::hide(&candidate.origin.secrets.hide(&output), &secrets);
                let blame = match elsewhere(candidate, &findings) {
                    true => Blame::Unknown,
                    false => Blame::Set,
                };
                let reason = match findings.iter().find(|f| f.severity == Severity::Error) {
                    Some(finding) => format!("HAProxy did not load it: {}", finding.message),
                    None if output.is_empty() => {
                        "HAProxy did not load it; its log says why (this version does not tell)."
                            .into()
                    }
                    None => format!("HAProxy did not load it: {}", shorten(&output)),
                };
                let of_other =
                    |one: &&Other| findings.iter().any(|f| f.file.as_ref() == Some(&one.file));
                let reason = match self.others.iter().find(of_other) {
                    Some(other) => format!("{reason} {}", other.in_words()),
                    None => reason,
                };
                let reason = candidate.origin.secrets.hide(&reason);
                self.back(candidate, change, reason, findings, blame).await
            }
            Told::Ended { reason, death } => {
                self.back(candidate, change, reason, Vec::new(), Blame::of(death))
                    .await
            }
            Told::NotStarted { reason } => {
                let reason = format!("{reason}{}", in_use(candidate));
                self.back(candidate, change, reason, Vec::new(), Blame::AtRest)
                    .await
            }
            Told::Unanswered { reason } => {
                // A reload command prints what HAProxy said.
                let secrets = validate::secrets(candidate, &invocation(&self.options), master);
                let reason = candidate.origin.secrets.hide(&reason);
                let reason = shorten(&redact::hide(&reason, &secrets));
                self.back(candidate, change, reason, Vec::new(), Blame::Unknown)
                    .await
            }
        }
    }

    /// Where there is nobody to tell or ask, what is written and has passed is what a failed change goes
    /// back to: nothing will ever confirm it.
    pub(super) fn stands(&mut self, revision: &Revision) {
        if !self.haproxy.can_tell() && !self.haproxy.can_ask() {
            self.history
                .update(|state| state.applied = Some(revision.clone()));
            self.learn_last_good();
        }
    }

    /// The former files are put back at once; then HAProxy is brought back to them if it runs
    /// something else.
    async fn back(
        &mut self,
        candidate: &Candidate,
        change: Change,
        reason: String,
        findings: Vec<Finding>,
        blame: Blame,
    ) -> Result<Verdict, ApplyError> {
        self.forget_workers();
        change.take_back().map_err(ApplyError::TakeBack)?;
        let good = self.last_good.as_ref().map(|set| set.revision.clone());
        self.history.update(|state| state.written = good);
        if let Some(good) = self.last_good.clone() {
            self.learn_socket(&good.files);
        }
        self.note_workers().await;
        let restored = self.bring_back(blame != Blame::Unknown).await;
        let kept = self.set_aside(candidate, &reason);
        let blame = match blame {
            Blame::AtRest if restored => Blame::Hardly,
            Blame::AtRest => Blame::Unknown,
            blame => blame,
        };
        if blame == Blame::Unknown {
            return Ok(Verdict::Unconfirmed { reason, restored });
        }
        let doubtful = matches!(blame, Blame::Hardly | Blame::Perhaps)
            && self
                .history
                .state()
                .rejected
                .of(&candidate.revision)
                .is_none();
        let seen = self.haproxy.seen(Duration::ZERO).await;
        let rejection = Rejection {
            revision: candidate.revision.to_string(),
            reason: shorten(&reason),
            // Before 3.1 a master may outlive the worker that it has lost over the set.
            fatal: matches!(blame, Blame::Fatal | Blame::Hardly) || !restored,
            doubtful,
            structure: structure(&candidate.files),
            build: self.build(&seen, self.master().await.as_ref()),
            worker: match &seen {
                Seen::Running(running) => Some(running.pid),
                _ => None,
            },
        };
        self.history.update(|state| state.rejected.note(rejection));
        if doubtful && blame == Blame::Hardly {
            return Ok(Verdict::Unconfirmed { reason, restored });
        }
        Ok(Verdict::Rejected {
            reason,
            findings,
            restored,
            kept,
        })
    }

    /// Whether HAProxy runs the last good set again. A HAProxy that gave no answer is not told again:
    /// what it was told already makes it load the files that are back.
    async fn bring_back(&mut self, answers: bool) -> bool {
        self.haproxy.hold_restarts(!self.has_configuration());
        let Some(good) = self.last_good.clone() else {
            return false;
        };
        let mute = match self.seen(Duration::ZERO).await {
            Seen::Unknown(why) => why.lasts(),
            _ => !self.haproxy.can_ask(),
        };
        if mute {
            return answers && matches!(self.haproxy.tell().await, Told::Loaded | Told::Sent);
        }
        let reports = self.reports(Some(good.revision.clone()));
        let wanted = |running: &Running| runs_set(running, &good) || reports(running);
        let runs_it =
            |seen: Seen| matches!(seen, Seen::Running(running) if runs_set(&running, &good));
        if !answers {
            let seen = self.haproxy.confirm(STALE, wanted).await;
            return runs_it(self.recognized(seen).await);
        }
        // A supervised HAProxy is started again by us, another one perhaps by its service manager.
        let deadline = Instant::now()
            + match self.options.mode {
                Mode::Supervise { .. } => self.options.confirm_timeout,
                _ => RETURN,
            };
        loop {
            if runs_it(self.seen(Duration::ZERO).await) {
                return true;
            }
            // Also when nothing answers: a master of 2.6 whose new worker failed after the fork may
            // live on without any, and a reload of good files brings one back.
            match self.haproxy.tell().await {
                Told::Loaded | Told::Sent => {
                    let limit = self.options.confirm_timeout;
                    let seen = self.haproxy.confirm(limit, wanted).await;
                    return runs_it(self.recognized(seen).await);
                }
                Told::Failed { .. } => return false,
                // It is started again and again, with growing pauses.
                Told::NotStarted { .. } => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let status = self.haproxy.serving(left).await;
                    if !matches!(status, Status::Running { .. }) {
                        return false;
                    }
                    let seen = self.haproxy.confirm(STALE, wanted).await;
                    return runs_it(self.recognized(seen).await);
                }
                _ if Instant::now() >= deadline => return false,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn describe(&self, seen: &Seen) -> String {
        let running = match seen {
            Seen::Running(running) => running,
            Seen::Absent { reason } => return reason.trim_end_matches('.').to_owned(),
            Seen::Unknown(why) => return why.to_string().trim_end_matches('.').to_owned(),
        };
        let pid = running.pid;
        match (&running.revision, &self.memory.unlike) {
            (Some(revision), _) => format!("its worker {pid} runs revision {revision}"),
            (None, Some(why)) => {
                format!("its new worker {pid} does not hold that set: {why}")
            }
            (None, None) if self.carrier.is_command() => {
                format!("its worker {pid} has loaded former files")
            }
            (None, None) => {
                format!("its worker {pid} runs a configuration that is not Gatewright's")
            }
        }
    }
}

/// Whether a set that HAProxy was told to load, and of which it is not known whether a worker runs it,
/// stays: the master itself has said that it loaded it, or the worker cannot be asked and waiting does
/// not change that.
fn takes_its_word(told: &Told, seen: &Seen) -> bool {
    let Seen::Unknown(why) = seen else {
        return false;
    };
    *told == Told::Loaded || why.lasts()
}

/// Which addresses of a set other programs hold, as sentences to follow HAProxy's own words.
fn in_use(candidate: &Candidate) -> String {
    let taken = ports::taken(&candidate.files, &[]);
    let sentence = |address: SocketAddr| {
        format!(
            " Another program listens on {address}. Stop that program or choose another address."
        )
    };
    taken.map(|one| sentence(one.address)).take(TAKEN).collect()
}

/// Whether all that HAProxy names is in files of others, which it loads as well.
fn elsewhere(candidate: &Candidate, findings: &[Finding]) -> bool {
    let is_ours = |path: &PathBuf| candidate.files.iter().any(|one| one.destination == *path);
    let errors = findings
        .iter()
        .filter(|one| one.severity == Severity::Error);
    let files: Vec<&PathBuf> = errors.filter_map(|one| one.file.as_ref()).collect();
    !files.is_empty() && !files.into_iter().any(is_ours)
}

fn shorten(text: &str) -> String {
    shortened(text.trim(), 500)
}
