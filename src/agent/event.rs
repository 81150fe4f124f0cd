//! All that can happen to the sidecar, and all that it can do. The only messages between the pure
//! core and the loop around it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::listeners::Listeners;
use crate::apply::set::{Candidate, Revision};
use crate::apply::verdict::{Means, Servers};
use crate::catalog::guard::{Evidence, Inquiry};
use crate::catalog::snapshot::Content;
use crate::catalog::{Answer, Known, Query};
use crate::diagnostic::Diagnostic;

pub use crate::source::WatchId;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Templates were read and compiled, or refused.
    Loaded(Result<Loaded, Vec<Diagnostic>>),
    /// A watch got an answer. `changed` is false when the content is as before.
    Answered {
        /// Which watch.
        watch: WatchId,
        /// Its query.
        query: Query,
        /// The content, when it is the first or differs.
        answer: Option<Arc<Answer>>,
        /// How old the answer was when it came: the server's last contact with its leader.
        age: Duration,
        /// Whether Consul said that it left something out for want of rights.
        filtered: bool,
    },
    /// A watch failed and goes on trying.
    WatchFailed {
        /// Which watch.
        watch: WatchId,
        /// Its query.
        query: Query,
        /// A whole sentence.
        error: String,
        /// How many times in a row.
        attempts: u32,
        /// Whether the cause is the query, by its name or by the size of its answer.
        refused: bool,
        /// Every query of the catalog fails, for the same reason: a whole sentence about the catalog.
        outage: Option<String>,
    },
    /// What came of [`Action::Inspect`].
    Inspected(Evidence),
    /// The snapshot was written, or could not be, in a whole sentence.
    Saved(Result<(), String>),
    /// Rendering ended.
    Rendered(Rendered),
    /// Rendering an interim set ended.
    RenderedInterim(Rendered),
    /// Applying ended.
    Applied {
        /// What was applied.
        revision: Revision,
        /// How it ended.
        outcome: Outcome,
    },
    /// HAProxy and the files were looked at.
    Observed(Observed),
    /// A template, a partial or a file read by a template changed on disk.
    TemplatesChanged,
}

/// A compiled set of templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Their texts, from which they can be compiled again ([`crate::template::Texts`]).
    pub templates: Arc<str>,
    /// The queries that can be read off the templates before any rendering.
    pub literal: BTreeSet<Query>,
    /// What is odd, but works.
    pub warnings: Vec<Diagnostic>,
}

/// How a rendering ended.
#[derive(Debug, Clone)]
pub enum Rendered {
    /// Every query used was answered.
    Complete {
        /// The set.
        candidate: Arc<Candidate>,
        /// The queries that made it.
        used: BTreeSet<Query>,
        /// Instances left out, one sentence each.
        quarantined: Vec<String>,
        /// What is used and odd, such as slots that are nearly all used: what it is about, and a sentence.
        noted: BTreeMap<String, String>,
        /// What was decided about the listeners of the last good set that the templates do not make.
        listeners: Listeners,
    },
    /// Something is not known yet.
    Incomplete {
        /// Queries without an answer.
        needed: BTreeSet<Query>,
        /// Keys that Consul does not have, which a template demands.
        absent: BTreeSet<Query>,
        /// All queries asked.
        used: BTreeSet<Query>,
    },
    /// A template failed.
    Failed(Vec<Diagnostic>),
    /// The templates or settings were replaced meanwhile.
    Outdated,
}

/// How applying a set ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The files and the running HAProxy were equal to it already.
    Unchanged,
    /// The running worker reports its revision.
    Confirmed {
        /// What was done, such as `reload`.
        means: String,
        /// Whether that was a reload.
        reloaded: bool,
        /// What changed, in words.
        changes: String,
        /// From the start of applying to the confirmation.
        took: Duration,
    },
    /// The files are current; HAProxy is not running or is not asked.
    Written {
        /// Why it is not confirmed.
        reason: String,
        /// What changed, in words.
        changes: String,
    },
    /// Validation or the gate refused it; the live files were not touched.
    Refused(Vec<Diagnostic>),
    /// HAProxy did not take it; the last good files are back.
    Rejected(Vec<Diagnostic>),
    /// HAProxy has rejected it before and was not told again.
    StillRejected(Vec<Diagnostic>),
    /// Only a reload will do, for the reason given; nothing was changed.
    NeedsReload(String),
    /// Not now: HAProxy still has too many old workers.
    Busy(String),
    /// It could not be tried; nothing changed.
    Failed(String),
    /// HAProxy was told and nothing shows that it took it; the former files are back.
    Unconfirmed(String),
}

/// What a look at HAProxy and the files showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// What the worker reports; `None` when none answers or it carries none.
    pub running: Option<Revision>,
    /// The worker's process id.
    pub worker: Option<i32>,
    /// HAProxy's version.
    pub version: Option<String>,
    /// Workers that still serve their last connections.
    pub old_workers: usize,
    /// Files that are not as they were written.
    pub drift: Vec<String>,
    /// Whether a worker answered at all.
    pub reachable: bool,
    /// Whether it runs the set that a worker confirmed last, in this process's life or before it.
    pub confirmed: bool,
    /// Its servers beside the file.
    pub servers: Servers,
    /// What somebody should know, a sentence each.
    pub notes: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read and compile the templates again.
    LoadTemplates,
    /// Watch a query.
    StartWatch(WatchId, Query),
    /// Cancel a watch and its request.
    StopWatch(WatchId),
    /// Render from these answers.
    Render(Answers),
    /// Render an interim set from these answers, by these templates.
    RenderInterim(Answers, Arc<str>),
    /// Validate, swap in, tell and confirm, by these means.
    Apply(Arc<Candidate>, Means),
    /// Look at HAProxy and the files.
    Observe,
    /// Ask Consul once, beside the watches, and bring the answer back.
    Inspect(Box<Inquiry>),
    /// Write the snapshot.
    Save(Content),
    /// Let the applier take a set that has lost servers since the last good one.
    AllowLoss,
    /// Let the applier load sets again that HAProxy has rejected.
    ForgetRejections,
    /// Log a line.
    Say(Notice),
}

/// The answers to render from. Equal when they hold the same revisions.
#[derive(Debug, Clone)]
pub struct Answers(pub Arc<BTreeMap<Query, Known>>);

impl PartialEq for Answers {
    fn eq(&self, other: &Answers) -> bool {
        let mut pairs = self.0.iter().zip(other.0.iter());
        self.0.len() == other.0.len()
            && pairs
                .all(|((one, known), (two, other))| one == two && known.revision == other.revision)
    }
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Somebody must look.
    Error,
    /// Somebody may want to look.
    Warning,
    /// A change.
    Info,
    /// A detail.
    Detail,
}

/// One line of log.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// How much it matters.
    pub weight: Weight,
    /// A whole sentence.
    pub message: String,
    /// The set it is about.
    pub revision: Option<Revision>,
    /// How long it took.
    pub took: Option<Duration>,
    /// Where it is said; lines from one place are of one kind, and many of a kind are summed up.
    pub kind: &'static Location<'static>,
}

impl Notice {
    /// A line that the caller says.
    #[track_caller]
    pub fn new(weight: Weight, message: impl Into<String>) -> Notice {
        Notice {
            weight,
            message: message.into(),
            revision: None,
            took: None,
            kind: Location::caller(),
        }
    }

    /// About this set.
    #[must_use]
    pub fn about(self, revision: &Revision) -> Notice {
        Notice {
            revision: Some(revision.clone()),
            ..self
        }
    }

    /// About something that took so long.
    #[must_use]
    pub fn took(self, took: Duration) -> Notice {
        Notice {
            took: Some(took),
            ..self
        }
    }
}
