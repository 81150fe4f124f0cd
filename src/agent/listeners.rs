//! Which listeners of the last good set a new set may lose, and what becomes of the others. Pure; what
//! the listeners were made from is asked for only when one is lost.
//!
//! ```text
//! lost ─┬► released by the operator           ┐
//!       ├► made by an item that is gone       ┴► goes
//!       └► lost by anything else ─► waits ─┬► its section is kept, everything else goes on
//!                                          └► it cannot be kept: the gate refuses the set
//! ```
//!
//! The proof: the templates in force make the listener from the answers that the last good set was
//! made from, the item of the catalog whose loop wrote its `bind` line is not in today's answer, and
//! the guard has released that loss, because answers are what templates see. A listener that waits goes
//! on waiting until it returns, its item goes, or an operator releases it. What was found out, and what was
//! released, is left for the next process (`left`), because the snapshot may be of a later set by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::apply::gate;
use crate::apply::history::StoredSet;
use crate::apply::listeners::{CannotKeep, Lost, Wanted, keep, kept_since, listening_lines, lost};
use crate::apply::plan::configuration;
use crate::apply::set::{Candidate, Revision, Role, SetFile};
use crate::catalog::snapshot::Snapshot;
use crate::catalog::{ItemName, Known, Query};
use crate::haproxy::config::{Endpoint, Transport, Word, endpoints, lex};
use crate::template::SourceMap;

mod left;

pub use left::{Left, Unusable};

/// The number of the answers of a snapshot. Those of the catalog are counted from 1.
const OF_SNAPSHOT: u64 = 1 << 62;

/// The last good set, as far as listeners are concerned.
#[derive(Debug, Clone)]
pub struct Good {
    /// The set.
    pub set: Arc<StoredSet>,
    /// See [`listening_lines`].
    pub lines: Arc<str>,
    /// What it was made from, where that is known.
    pub made_from: Option<MadeFrom>,
}

impl Good {
    /// A set and the answers that it was made from.
    pub fn new(set: Arc<StoredSet>, made_from: Option<MadeFrom>) -> Good {
        Good {
            lines: listening_lines(&set.files).into(),
            set,
            made_from,
        }
    }
}

/// The answers that a set was made from.
#[derive(Debug, Clone)]
pub enum MadeFrom {
    /// By this process.
    Answers(Arc<BTreeMap<Query, Known>>),
    /// By a former one that left them.
    Snapshot(Arc<Snapshot>),
    /// By a former one that left the answers of a later set, which did not become the last good one. An item in
    /// them of which the templates make the listener proves as much; that they do not make it proves nothing.
    Later(Arc<Snapshot>),
}

impl MadeFrom {
    /// The answer to a query.
    pub fn answer(&self, query: &Query) -> Option<Known> {
        match self {
            MadeFrom::Answers(answers) => answers.get(query).cloned(),
            // Its age is of no interest here.
            MadeFrom::Snapshot(snapshot) | MadeFrom::Later(snapshot) => {
                snapshot.recall(query, 0).map(|recalled| Known {
                    answer: recalled.answer,
                    revision: OF_SNAPSHOT,
                })
            }
        }
    }

    /// The answers to these queries, as far as they are known.
    fn answers<'a>(&self, queries: impl Iterator<Item = &'a Query>) -> BTreeMap<Query, Known> {
        match self {
            MadeFrom::Answers(answers) => answers.as_ref().clone(),
            MadeFrom::Snapshot(_) | MadeFrom::Later(_) => queries
                .filter_map(|query| Some((query.clone(), self.answer(query)?)))
                .collect(),
        }
    }
}

/// An item of the catalog that a listener was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Datum {
    /// What it is, in words: `Key expose/a`.
    pub what: String,
    /// The queries whose answers had it; at least one.
    pub queries: Vec<Query>,
    name: ItemName,
}

impl Datum {
    /// Whether all its queries are answered, and none of the answers has the item.
    fn is_gone(&self, answers: &BTreeMap<Query, Known>) -> bool {
        self.queries.iter().all(|query| {
            let known = answers.get(query);
            known.is_some_and(|known| known.answer.has(&self.name) == Some(false))
        })
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queries: Vec<String> = self.queries.iter().map(ToString::to_string).collect();
        write!(out, "{} of {}", self.what, queries.join(" and "))
    }
}

/// What made a listener of the last good set, by today's templates.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// The answers that the set was made from are not known.
    Unknown,
    /// The templates do not make it from these answers.
    Not,
    /// Its `bind` line was written in the rounds of these items; perhaps of none.
    By(Vec<Datum>),
}

/// Why a listener may go.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// An operator has released it.
    Released,
    /// The item that it was made from is gone from the catalog.
    Gone(Datum),
}

/// Why a listener waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// It is not known what it was made from.
    Unknown,
    /// The templates do not make it any more, from the same answers.
    Template,
    /// A condition or a value of the catalog decides about it; no item of a list made it.
    Condition,
    /// The items that it was made from are in the catalog.
    There(Vec<Datum>),
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unknown => out.write_str(
                "The templates do not make it any more, and the answers that it was made from are not known.",
            ),
            Reason::Template => {
                out.write_str("The templates do not make it any more, also not from the former answers.")
            }
            Reason::Condition => out.write_str(
                "A condition or a value in the templates has changed, and no item of the catalog that is gone explains it.",
            ),
            Reason::There(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(
                    out,
                    "It was made from {}, which the catalog still has: a condition or a value has changed.",
                    items.join(" and ")
                )
            }
        }
    }
}

/// What was found out about a lost listener. Today's answers decide whether it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The listener.
    pub lost: Lost,
    /// What it was made from.
    pub reason: Reason,
    /// Since when it waits, in seconds since 1970.
    pub since: Option<u64>,
}

/// A listener of the last good set that the templates do not make and HAProxy keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The listener.
    pub lost: Lost,
    /// Why it waits.
    pub reason: Reason,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Why the new set cannot have its section, if it cannot. Then the whole set waits.
    pub cannot_keep: Option<CannotKeep>,
}

/// What was decided about the listeners that a set has lost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listeners {
    /// Those that may go.
    pub go: Vec<(Lost, Cause)>,
    /// Those that wait.
    pub wait: Vec<Waiting>,
}

impl Listeners {
    /// What was found out about each of them. A release is no finding.
    pub fn judged(&self) -> Vec<Judged> {
        let go = self.go.iter().filter_map(|(lost, why)| match why {
            Cause::Released => None,
            Cause::Gone(item) => Some(Judged {
                lost: lost.clone(),
                reason: Reason::There(vec![item.clone()]),
                since: None,
            }),
        });
        let wait = self.wait.iter().map(|one| Judged {
            lost: one.lost.clone(),
            reason: one.reason.clone(),
            since: Some(one.since),
        });
        go.chain(wait).collect()
    }

    /// Whether a listener is among those that are lost.
    pub fn have(&self, endpoint: &Endpoint) -> bool {
        let goes = self.go.iter().any(|(lost, _)| lost.endpoint == *endpoint);
        goes || self.wait.iter().any(|one| one.lost.endpoint == *endpoint)
    }
}

/// A set with what was decided about its listeners.
#[derive(Debug)]
pub struct Compared {
    /// The set, with the sections that are kept.
    pub candidate: Arc<Candidate>,
    /// The decisions.
    pub listeners: Listeners,
    /// The revision of the last good set that it was compared with.
    pub against: Option<Revision>,
    /// See [`listening_lines`].
    pub lines: Arc<str>,
}

/// What a set is compared with, and what is known of the listeners that were lost before.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The last good set.
    pub good: Option<Good>,
    /// What was found out so far, perhaps by a former process.
    pub judged: Vec<Judged>,
    /// What the operator has released.
    pub released: BTreeSet<Endpoint>,
    /// The gate's rules.
    pub rules: gate::Rules,
    /// Seconds since 1970.
    pub now: u64,
}

impl Reference {
    /// Whether the files besides the configuration are as in the last good set.
    pub fn other_files_are_as_in(&self, candidate: &Candidate) -> bool {
        let others = |files: &[SetFile]| -> Vec<(PathBuf, String)> {
            let files = files.iter().filter(|file| file.role != Role::Config);
            let file = |file: &SetFile| (file.destination.clone(), file.text.clone());
            files.map(file).collect()
        };
        let good = self.good.as_ref();
        good.is_some_and(|good| others(&good.set.files) == others(&candidate.files))
    }

    /// Decides about a set that was rendered from these answers. `make` renders others by the same
    /// templates.
    pub fn compare(
        &self,
        candidate: Candidate,
        answers: &BTreeMap<Query, Known>,
        make: impl FnOnce(&MadeFrom, BTreeMap<Query, Known>) -> Option<(Vec<String>, Vec<SourceMap>)>,
    ) -> Compared {
        let lines: Arc<str> = listening_lines(&candidate.files).into();
        let compared = |candidate, listeners, lines| Compared {
            candidate: Arc::new(candidate),
            listeners,
            against: self.good.as_ref().map(|good| good.set.revision.clone()),
            lines,
        };
        let Some(good) = self
            .good
            .as_ref()
            .filter(|good| good.lines != lines && !self.rules.allow_bind_loss)
        else {
            return compared(candidate, Listeners::default(), lines);
        };
        let (decided, listeners) = self.settle(&candidate, good, answers, make);
        let lines = match listeners.wait.is_empty() {
            true => lines,
            false => listening_lines(&decided.files).into(),
        };
        compared(decided, listeners, lines)
    }

    /// A section that is kept may take the place of a new one that covered another listener; that one is
    /// lost, too. So it is decided until no more are lost; each round has more of them.
    fn settle(
        &self,
        candidate: &Candidate,
        good: &Good,
        answers: &BTreeMap<Query, Known>,
        make: impl FnOnce(&MadeFrom, BTreeMap<Query, Known>) -> Option<(Vec<String>, Vec<SourceMap>)>,
    ) -> (Candidate, Listeners) {
        let good_binds = configuration(&good.set.files).binds();
        let all_lost = |candidate: &Candidate| {
            let mut lost = lost(&configuration(&candidate.files).binds(), &good_binds);
            // The gate only warns of those.
            lost.retain(|one| !one.conditional);
            lost
        };
        let is_new = |one: &Lost| {
            !self.released.contains(&one.endpoint)
                && !self.judged.iter().any(|judged| judged.lost == *one)
        };
        let mut make = Some(make);
        let mut former_set = None;
        let mut known = all_lost(candidate);
        loop {
            if known.iter().any(is_new)
                && let (Some(from), Some(make)) = (&good.made_from, make.take())
            {
                let made = make(from, from.answers(answers.keys()));
                let asked = answers.keys().cloned().collect();
                former_set =
                    made.map(|(texts, maps)| FormerSet::new(candidate, texts, maps, from, asked));
            }
            let listeners = self.decide(known.clone(), answers, |one| match &former_set {
                Some(former_set) => former_set.made(one),
                None => Made::Unknown,
            });
            let (decided, listeners) = self.carry_out(candidate.clone(), listeners, good);
            let mut more = all_lost(&decided);
            more.retain(|one| !known.contains(one));
            if more.is_empty() {
                return (decided, listeners);
            }
            known.extend(more);
            known.sort();
        }
    }

    /// Which of them may go.
    fn decide(
        &self,
        lost: Vec<Lost>,
        answers: &BTreeMap<Query, Known>,
        made: impl Fn(&Lost) -> Made,
    ) -> Listeners {
        let good = self.good.as_ref();
        let kept = good.map(|good| kept_since(&good.set.files));
        let kept = kept.unwrap_or_default();
        let mut listeners = Listeners::default();
        for lost in lost {
            let before = self.judged.iter().find(|one| one.lost == lost);
            let verdict = if self.released.contains(&lost.endpoint) {
                Ok(Cause::Released)
            } else {
                let made = match before.map(|one| &one.reason) {
                    None => made(&lost),
                    Some(Reason::There(items)) => Made::By(items.clone()),
                    Some(Reason::Condition) => Made::By(Vec::new()),
                    Some(Reason::Template) => Made::Not,
                    Some(Reason::Unknown) => Made::Unknown,
                };
                goes(made, answers)
            };
            match verdict {
                Ok(cause) => listeners.go.push((lost, cause)),
                Err(reason) => {
                    let section = (lost.kind.clone(), lost.section.clone());
                    let since = before.and_then(|one| one.since);
                    listeners.wait.push(Waiting {
                        since: since.or(kept.get(&section).copied()).unwrap_or(self.now),
                        lost,
                        reason,
                        cannot_keep: None,
                    });
                }
            }
        }
        listeners
    }

    /// The set with what waits in it, and with leave to lose what goes.
    fn carry_out(
        &self,
        candidate: Candidate,
        mut listeners: Listeners,
        good: &Good,
    ) -> (Candidate, Listeners) {
        let mut candidate = candidate;
        if !listeners.wait.is_empty() {
            let kept = if !self.rules.complete {
                Err(CannotKeep::OtherFiles)
            } else if !good.set.marked {
                Err(CannotKeep::Foreign)
            } else {
                let wanted: Vec<Wanted<'_>> = listeners
                    .wait
                    .iter()
                    .map(|one| Wanted {
                        lost: &one.lost,
                        since: one.since,
                    })
                    .collect();
                keep(&candidate.files, &good.set.files, &wanted)
            };
            match kept {
                Ok(with) => {
                    let mut origin = candidate.origin;
                    origin.secrets = origin.secrets.elsewhere();
                    candidate = Candidate { origin, ..with };
                }
                Err(error) => {
                    for one in &mut listeners.wait {
                        one.cannot_keep = Some(error.clone());
                    }
                }
            }
        }
        let go = listeners.go.iter().map(|(lost, _)| lost.endpoint.clone());
        candidate.may_lose = go.collect();
        (candidate, listeners)
    }
}

/// Why a listener may go, or why it waits.
fn goes(made: Made, answers: &BTreeMap<Query, Known>) -> Result<Cause, Reason> {
    match made {
        Made::Unknown => Err(Reason::Unknown),
        Made::Not => Err(Reason::Template),
        Made::By(items) => match items.iter().find(|item| item.is_gone(answers)) {
            Some(gone) => Ok(Cause::Gone(gone.clone())),
            None if items.is_empty() => Err(Reason::Condition),
            None => Err(Reason::There(items)),
        },
    }
}

/// The set that today's templates make of the answers that the last good one was made from.
struct FormerSet<'a> {
    files: Vec<SetFile>,
    maps: Vec<SourceMap>,
    from: &'a MadeFrom,
    /// What is asked today.
    asked: BTreeSet<Query>,
}

impl<'a> FormerSet<'a> {
    fn new(
        candidate: &Candidate,
        texts: Vec<String>,
        maps: Vec<SourceMap>,
        from: &'a MadeFrom,
        asked: BTreeSet<Query>,
    ) -> FormerSet<'a> {
        let files = candidate.files.iter().zip(texts);
        let files = files.map(|(file, text)| SetFile {
            text,
            ..file.clone()
        });
        FormerSet {
            files: files.collect(),
            maps,
            from,
            asked,
        }
    }

    /// What made a listener.
    fn made(&self, lost: &Lost) -> Made {
        let config = configuration(&self.files);
        let bind = config.binds().into_iter().find(|bind| {
            (&bind.kind, &bind.section) == (&lost.kind, &lost.section)
                && bind.endpoints.contains(&lost.endpoint)
        });
        let Some(bind) = bind else {
            return match self.from {
                MadeFrom::Later(_) => Made::Unknown,
                MadeFrom::Answers(_) | MadeFrom::Snapshot(_) => Made::Not,
            };
        };
        let path: &Path = config.path(bind.file);
        let file = self.files.iter().position(|file| file.destination == path);
        let Some((file, map)) = file.and_then(|at| Some((&self.files[at], self.maps.get(at)?)))
        else {
            return Made::Unknown;
        };
        // What decides is what wrote the word `bind`: the rest of its line may come from other items.
        let text = file.text.lines().nth(bind.line - 1).unwrap_or_default();
        let blanks = text.chars().take_while(|letter| letter.is_whitespace());
        let items = map.items_at(bind.line, blanks.count() + 1).into_iter();
        let data = items.filter_map(|item| {
            let name = item.name?;
            let has = |query: &&Query| {
                let known = self.from.answer(query);
                known.is_some_and(|known| known.answer.has(&name) == Some(true))
            };
            let queries: Vec<Query> = match item.query {
                Some(query) => vec![query],
                // Of a list that a helper made.
                None => self.asked.iter().filter(has).cloned().collect(),
            };
            (!queries.is_empty()).then_some(Datum {
                what: item.what,
                queries,
                name,
            })
        });
        Made::By(data.collect())
    }
}

/// Whether an operator means a listener by this address: as it is shown, or as a `bind` line has it.
pub fn is_meant(endpoint: &Endpoint, address: &str) -> bool {
    let address = address.trim();
    let words: Vec<Word> = lex(address.as_bytes()).unwrap_or_default();
    let read = match words.as_slice() {
        [word] => endpoints(word, Transport::Tcp),
        _ => Vec::new(),
    };
    endpoint.to_string() == address || read == [endpoint.clone()]
}

#[cfg(test)]
mod tests;
