//! Between the words of those who do the work and those of the core: updates of a source and
//! verdicts of the applier become events, notices become log lines.

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::{Event, Notice, Observed, Outcome, Weight};
use super::explain::explain;
use crate::apply::execute::{Observation, Verdict};
use crate::apply::set::{Candidate, Revision};
use crate::apply::tell::Seen;
use crate::catalog::guard::{Evidence, Inquiry, Permission, Right, Silence};
use crate::catalog::{Answer, Instance};
use crate::diagnostic::{Diagnostic, Severity, with_causes};
use crate::haproxy::Finding;
use crate::source::{ErrorClass, ReadError, Source, Update};
use crate::status::repeats;
use crate::template::TemplateSet;

/// An update of a source as an event.
pub fn event_of(update: Update) -> Event {
    let age = |freshness: &crate::source::Freshness| {
        freshness
            .last_contact
            .max(freshness.age.unwrap_or_default())
    };
    match update {
        Update::Answered {
            watch,
            query,
            answer,
            freshness,
        } => Event::Answered {
            watch,
            query,
            answer: Some(answer),
            age: age(&freshness),
            filtered: freshness.filtered_by_acls,
        },
        Update::Unchanged {
            watch,
            query,
            freshness,
        } => Event::Answered {
            watch,
            query,
            answer: None,
            age: age(&freshness),
            filtered: freshness.filtered_by_acls,
        },
        Update::Failed {
            watch,
            query,
            error,
            attempts,
            outage,
            ..
        } => Event::WatchFailed {
            watch,
            query,
            refused: error.blames_query(),
            outage: outage.then(|| error.of_all()),
            error: error.to_string(),
            attempts,
        },
    }
}

/// How long one question beside the watches may take.
const INSPECTION: Duration = Duration::from_secs(10);

/// Asks the catalog what the guard wants to know.
pub async fn inspect(source: &Source, inquiry: Inquiry) -> Evidence {
    let silence = |error: ReadError| match error.class {
        ErrorClass::Forbidden => Silence::Forbidden,
        _ => Silence::Unknown,
    };
    let mut filtered = false;
    let known = inquiry
        .about
        .as_ref()
        .and_then(|query| source.evidence(query));
    let known = known.map(|known| {
        known.map(|(list, hidden)| {
            filtered = hidden;
            list
        })
    });
    let instances = match &inquiry.unfiltered {
        Some(_) if known.is_some() => known,
        Some(query) => Some(match source.read_once(query, INSPECTION).await {
            Ok((Answer::Instances(list), freshness)) => {
                filtered = freshness.filtered_by_acls;
                Ok(list)
            }
            Ok(_) => Err(Silence::Unknown),
            Err(error) => Err(silence(error)),
        }),
        None => None,
    };
    let canary = match inquiry.canary {
        Some(query) => {
            let read = source.read_once(&query, INSPECTION).await;
            let seen = read.map(|(answer, _)| !answer.is_empty()).map_err(silence);
            Some((query.scope, seen))
        }
        None => None,
    };
    let permission = match (&inquiry.about, &instances) {
        (None, _) | (_, Some(Err(_))) => Permission::Silent,
        (Some(query), instances) => {
            let shown = instances.as_ref().and_then(|read| read.as_deref().ok());
            let rights = unproven(inquiry.rights, shown.unwrap_or_default());
            let asked = source.permission(&query.scope, rights, INSPECTION);
            asked.await
        }
    };
    Evidence {
        about: inquiry.about,
        instances,
        filtered,
        canary,
        permission,
    }
}

/// The rights that nothing of what is shown proves.
fn unproven(rights: Vec<Right>, shown: &[Instance]) -> Vec<Right> {
    let nodes: BTreeSet<&str> = shown.iter().map(|one| one.node.name.as_str()).collect();
    let services: BTreeSet<&str> = shown.iter().map(|one| one.name.as_str()).collect();
    let proved = |right: &Right| match right {
        Right::Node(name) => nodes.contains(name.as_str()),
        Right::Service(name) => services.contains(name.as_str()),
        Right::Key(_) => false,
    };
    rights.into_iter().filter(|right| !proved(right)).collect()
}

/// The note about a worker that runs as root.
const AS_ROOT: &str = "HAProxy's worker runs as root, so a fault in it gives away the machine. Add `user haproxy` and `group haproxy` to `global`, or start HAProxy as another user.";

/// A look at HAProxy in the core's words.
pub fn observed(observation: &Observation) -> Observed {
    let mut observed = Observed {
        drift: observation
            .drift
            .iter()
            .map(|path| {
                format!(
                    "The file {} was changed or removed by somebody else.",
                    path.display()
                )
            })
            .collect(),
        old_workers: observation.old_workers.unwrap_or_default(),
        servers: observation.servers.clone(),
        notes: observation
            .root
            .then(|| AS_ROOT.to_owned())
            .into_iter()
            .chain(observation.notes.clone())
            .collect(),
        ..Observed::default()
    };
    if let Seen::Running(running) = &observation.seen {
        observed.reachable = true;
        observed.confirmed =
            observation.confirmed.is_some() && running.revision == observation.confirmed;
        observed.running.clone_from(&running.revision);
        observed.worker = Some(running.pid);
        observed.version = Some(running.version.clone());
    }
    observed
}

/// Logs a line.
pub fn say(notice: &Notice) {
    let revision = notice.revision.as_ref().map(Revision::as_str);
    let took_ms = notice.took.map(|took| took.as_millis() as u64);
    let message = &notice.message;
    repeats::of_kind(notice.kind, || match notice.weight {
        Weight::Error => tracing::error!(revision, took_ms, "{message}"),
        Weight::Warning => tracing::warn!(revision, took_ms, "{message}"),
        Weight::Info => tracing::info!(revision, took_ms, "{message}"),
        Weight::Detail => tracing::debug!(revision, took_ms, "{message}"),
    });
}

/// The verdict in the core's words; findings point into the templates where that is known.
pub fn outcome(
    verdict: Verdict,
    candidate: &Candidate,
    mut templates: Option<&mut TemplateSet>,
) -> Outcome {
    let mut explained = |findings: &[Finding]| {
        let mut maps = None;
        let of = |severity| {
            let is = move |finding: &&Finding| finding.severity == severity;
            findings.iter().filter(is)
        };
        // Where an error names no place, a warning may be what tells it.
        let nowhere = of(Severity::Error).any(|finding| finding.file.is_none());
        of(Severity::Error)
            .chain(of(Severity::Warning).filter(|_| nowhere))
            .map(|finding| {
                let maps = maps.get_or_insert_with(|| match &mut templates {
                    Some(set) => {
                        let texts: Vec<String> = candidate
                            .files
                            .iter()
                            .map(|file| file.text.clone())
                            .collect();
                        set.source_maps(&texts)
                    }
                    None => Vec::new(),
                });
                explain(finding, candidate, maps)
            })
            .collect::<Vec<_>>()
    };
    let hide = |text: String| candidate.origin.secrets.hide(&text);
    match verdict {
        Verdict::Unchanged => Outcome::Unchanged,
        Verdict::Confirmed {
            took,
            means,
            reloaded,
            story,
            findings,
            ..
        } => {
            for finding in &findings {
                tracing::debug!("HAProxy warns: {}", finding.message);
            }
            Outcome::Confirmed {
                means,
                reloaded,
                changes: hide(story),
                took,
            }
        }
        Verdict::NeedsReload { reason } => Outcome::NeedsReload(hide(reason)),
        Verdict::Written { reason, story, .. } => Outcome::Written {
            reason: hide(reason),
            changes: hide(story),
        },
        Verdict::Refused { findings, kept } => {
            let mut why = explained(&findings);
            if let (Some(first), Some(kept)) = (why.first_mut(), kept) {
                first
                    .notes
                    .push(format!("The refused set is in {}.", kept.display()));
            }
            Outcome::Refused(why)
        }
        Verdict::Rejected {
            reason,
            findings,
            restored,
            ..
        } => {
            let mut why = explained(&findings);
            if why.is_empty() {
                why.push(rejected(hide(reason)));
            } else if let Some(first) = why.first_mut() {
                let help = first.help.take().map_or(String::new(), |help| help + " ");
                first.help = Some(help + NOT_AGAIN);
            }
            if !restored {
                why.push(Diagnostic::error(
                    "not-restored",
                    "HAProxy could not be brought back to the last good set by us; its files are back.",
                ));
            }
            Outcome::Rejected(why)
        }
        Verdict::StillRejected { reason } => Outcome::StillRejected(vec![rejected(hide(reason))]),
        // Nothing shows that HAProxy does not like the set, and the former files are back: it may be
        // tried again.
        Verdict::Unconfirmed { reason, .. } => Outcome::Unconfirmed(hide(reason)),
        Verdict::Busy { old_workers } => Outcome::Busy(format!(
            "HAProxy still has {old_workers} old workers with open connections; the next reload waits. Lower hard-stop-after, or raise haproxy.max_old_workers."
        )),
        Verdict::Failed { error } => Outcome::Failed(with_causes(&error)),
    }
}

/// What becomes of a set that HAProxy has rejected.
const NOT_AGAIN: &str = "Gatewright does not load this set again before its content or HAProxy's program changes. `gatewright release --all` has it loaded again.";

fn rejected(reason: String) -> Diagnostic {
    Diagnostic {
        help: Some(NOT_AGAIN.to_owned()),
        ..Diagnostic::error("rejected", reason)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::catalog::Query;
    use crate::catalog::fixture::Fixture;
    use crate::source::{Freshness, WatchId};

    // B10
    #[test]
    fn what_is_shown_proves_the_rights_that_it_stands_under() {
        let text = r#"{"services": {"web": [{"Address": "10.0.0.1", "Port": 80, "Node": "n1"}]}}"#;
        let fixture: Fixture = serde_json::from_str(text).unwrap();
        let Ok(Answer::Instances(shown)) = fixture.answer(&Query::service("web")) else {
            panic!("no instances");
        };
        let rights = || {
            vec![
                Right::Node("n1".into()),
                Right::Node("n2".into()),
                Right::Service("web".into()),
                Right::Service("api".into()),
                Right::Key("n1".into()),
            ]
        };
        assert_eq!(unproven(rights(), &[]), rights());
        let left = [
            rights()[1].clone(),
            rights()[3].clone(),
            rights()[4].clone(),
        ];
        assert_eq!(unproven(rights(), &shown), left);
    }

    // B24
    #[test]
    fn the_age_of_a_cached_answer_is_its_age() {
        let freshness = |last_contact: u64, age: Option<u64>| Freshness {
            at: Instant::now(),
            last_contact: Duration::from_secs(last_contact),
            age: age.map(Duration::from_secs),
            known_leader: true,
            filtered_by_acls: false,
            index: 1,
            took: Duration::ZERO,
        };
        for (freshness, expected) in [
            (freshness(0, None), 0),
            (freshness(2, Some(300)), 300),
            (freshness(7, Some(0)), 7),
        ] {
            let update = Update::Unchanged {
                watch: WatchId(1),
                query: Query::service("web"),
                freshness,
            };
            let Event::Answered { age, .. } = event_of(update) else {
                panic!("not an answer");
            };
            assert_eq!(age, Duration::from_secs(expected));
        }
    }
}
