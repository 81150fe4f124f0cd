//! What goes into the executor and what comes out of it: its options, its verdicts, its errors and what
//! it observes. Plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::carrier::Carrier;
use super::files::FileError;
use super::lock::LockError;
use super::plan::Policy;
use super::rejections::Rejection;
use super::set::{Revision, Role};
use super::tell::{Mode, Seen};
use crate::catalog::secrets::Secrets;
use crate::diagnostic::with_causes;
use crate::haproxy::Finding;
use crate::haproxy::address::Address;
use crate::haproxy::check::CheckError;
use crate::haproxy::supervise::Status;

/// How sets are applied.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ours alone; see `history`.
    pub state_directory: PathBuf,
    /// Good sets that are kept.
    pub keep: usize,
    /// Every file of the set with its role; the first configuration is the main one.
    pub destinations: Vec<(PathBuf, Role)>,
    /// How HAProxy is told.
    pub mode: Mode,
    /// HAProxy's stats socket, if it is to be asked there rather than through the master.
    pub stats_socket: Option<Address>,
    /// HAProxy's program.
    pub binary: PathBuf,
    /// Flags for a HAProxy whose own are not known, besides `-W`.
    pub flags: Vec<OsString>,
    /// Configuration files that HAProxy loads before those of the set.
    pub extra_files: Vec<PathBuf>,
    /// HAProxy's environment, when we start it, or validate it and may not read its own.
    pub environment: BTreeMap<OsString, OsString>,
    /// Names in it that the settings name; the others are passed on everywhere.
    pub named_variables: BTreeSet<String>,
    /// Where HAProxy's relative paths start, if its own directory is not known.
    pub working_directory: Option<PathBuf>,
    /// For `haproxy -c`.
    pub validate_timeout: Duration,
    /// From telling HAProxy to the worker's report; also for the reload itself.
    pub confirm_timeout: Duration,
    /// For a reload command.
    pub command_timeout: Duration,
    /// With this many workers still finishing, no further reload.
    pub max_old_workers: usize,
    /// Whether servers and maps are changed by commands to the running worker.
    pub commands: bool,
    /// What the operator has chosen for them.
    pub policy: Policy,
    /// When a server that was removed is deleted.
    pub drain: Drain,
    /// How often all servers of the worker are compared with the file.
    pub audit_interval: Duration,
}

/// When a server that was removed and takes no new traffic is deleted at the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// For its connections to end by themselves.
    pub time: Duration,
    /// The same for single backends.
    pub backends: BTreeMap<String, Duration>,
    /// Whether connections that are left then are shut.
    pub shutdown_sessions: bool,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            time: Duration::from_secs(60),
            backends: BTreeMap::new(),
            shutdown_sessions: false,
        }
    }
}

impl Options {
    /// The configuration files of the set, the main one first.
    pub fn configurations(&self) -> impl Iterator<Item = &PathBuf> {
        let all = self.destinations.iter();
        all.filter(|(_, role)| *role == Role::Config)
            .map(|(path, _)| path)
    }

    /// How it is known which set a worker runs.
    pub fn carrier(&self) -> Option<Carrier> {
        Carrier::of(&self.destinations, !self.extra_files.is_empty())
    }

    /// The files by which it is known that HAProxy loads the set: its configurations, or else all of it.
    pub fn key_files(&self) -> Vec<PathBuf> {
        let configurations: Vec<PathBuf> = self.configurations().cloned().collect();
        match configurations.is_empty() {
            true => self
                .destinations
                .iter()
                .map(|(path, _)| path.clone())
                .collect(),
            false => configurations,
        }
    }

    /// The usual limits.
    pub fn new(
        state_directory: PathBuf,
        destinations: Vec<(PathBuf, Role)>,
        mode: Mode,
        binary: PathBuf,
    ) -> Options {
        Options {
            state_directory,
            keep: 5,
            destinations,
            mode,
            stats_socket: None,
            binary,
            flags: Vec::new(),
            extra_files: Vec::new(),
            environment: BTreeMap::new(),
            named_variables: BTreeSet::new(),
            working_directory: None,
            validate_timeout: Duration::from_secs(30),
            confirm_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(30),
            max_old_workers: 5,
            commands: true,
            policy: Policy::default(),
            drain: Drain::default(),
            audit_interval: Duration::from_secs(60),
        }
    }
}

/// Why nothing could be done; nothing was changed unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another Gatewright has the destination.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be written, read or removed.
    #[error("{0} The files that HAProxy reads are as they were.")]
    File(#[from] FileError),
    /// No file can be put where the settings name one.
    #[error(transparent)]
    Destination(FileError),
    /// The former files could not be put back.
    #[error(
        "The former files could not be put back: {0} The journal in the state directory is kept; they are put back at the next try."
    )]
    TakeBack(FileError),
    /// `haproxy -c` could not be run.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The running HAProxy does not load a file of the set.
    #[error("The running HAProxy (process {pid}) does not load {}. Start it with `-f` for that file, or correct the destination in the settings.", destination.display())]
    NotLoaded {
        /// The master.
        pid: i32,
        /// The file.
        destination: PathBuf,
    },
    /// The running HAProxy reads another file.
    #[error("The running HAProxy (process {pid}) reads another file than Gatewright writes as {}: it runs in another mount namespace or below another root. Mount the directory of that file for both.", destination.display())]
    AnotherFile {
        /// The master.
        pid: i32,
        /// Our file.
        destination: PathBuf,
    },
    /// The running HAProxy has a single file mounted.
    #[error("The running HAProxy (process {pid}) has the single file {} mounted, so it keeps the former one when Gatewright replaces it. Mount the directory instead of the file.", file.display())]
    MountedAlone {
        /// The master.
        pid: i32,
        /// The file, as HAProxy names it.
        file: PathBuf,
    },
    /// A file of the set is none of those that the settings name.
    #[error("The set writes {}, which the settings do not name any more.", destination.display())]
    Elsewhere {
        /// The file.
        destination: PathBuf,
    },
    /// A validation that was under way when we were told to end.
    #[error("Gatewright ends, so the validation under way was given up. Nothing was changed.")]
    Ending,
    /// There is no such set to go back to.
    #[error("There is no earlier good set to go back to.")]
    NothingKept,
    /// Settings without any configuration.
    #[error(
        "No destination is a configuration file of HAProxy, and the settings name none of others. Name the configuration that uses these files in `config_files` of [haproxy], or add a template whose destination is a configuration file."
    )]
    NoConfiguration,
}

/// By which means a set may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Only by commands to the running worker.
    Commands,
    /// By commands where they do, by a reload where not.
    Any,
    /// By a reload, even where nothing seems to differ.
    Reload,
}

/// What came of applying a set.
#[derive(Debug)]
pub enum Verdict {
    /// Commands do not do, and nothing else was allowed. Nothing was changed.
    NeedsReload {
        /// Why, in words.
        reason: String,
    },
    /// HAProxy runs it already and the files are current: nothing was written, nobody was told.
    Unchanged,
    /// The worker reports it.
    Confirmed {
        /// Its revision.
        revision: Revision,
        /// From the start to the report.
        took: Duration,
        /// How HAProxy was told.
        means: String,
        /// Whether it has loaded its files for it.
        reloaded: bool,
        /// What has changed, in words.
        story: String,
        /// Warnings.
        findings: Vec<Finding>,
    },
    /// The files are current; HAProxy is not running, or nobody is to be told.
    Written {
        /// Its revision.
        revision: Revision,
        /// Why nobody was told.
        reason: String,
        /// What has changed, in words.
        story: String,
    },
    /// The validation or the gate says no; the files were not touched.
    Refused {
        /// All that was found; at least one is an error.
        findings: Vec<Finding>,
        /// Where it is set aside.
        kept: Option<PathBuf>,
    },
    /// HAProxy did not take it. It is not loaded again before something has changed (see `rejections`).
    Rejected {
        /// In words.
        reason: String,
        /// What HAProxy printed.
        findings: Vec<Finding>,
        /// Whether the last good files are back and HAProxy runs them.
        restored: bool,
        /// Where it is set aside.
        kept: Option<PathBuf>,
    },
    /// HAProxy has rejected it before, so it was not loaded again. Nothing was changed.
    StillRejected {
        /// In words.
        reason: String,
    },
    /// Nothing shows whether HAProxy took it, or HAProxy ended just then for the first time.
    Unconfirmed {
        /// In words.
        reason: String,
        /// Whether the last good files are back and HAProxy runs them. False also when there is no
        /// socket to ask: then the new files stay.
        restored: bool,
    },
    /// Too many old workers still finish; nothing was done.
    Busy {
        /// How many.
        old_workers: usize,
    },
    /// Something of ours failed; try again later.
    Failed {
        /// What.
        error: ApplyError,
    },
}

impl Verdict {
    /// Why HAProxy does not run the set by this, if it does not.
    pub fn why_not(&self) -> Option<String> {
        Some(match self {
            Verdict::Unchanged | Verdict::Confirmed { .. } => return None,
            Verdict::NeedsReload { reason }
            | Verdict::Written { reason, .. }
            | Verdict::Rejected { reason, .. }
            | Verdict::StillRejected { reason }
            | Verdict::Unconfirmed { reason, .. } => reason.clone(),
            Verdict::Refused { findings, .. } => in_words(findings),
            Verdict::Busy { old_workers } => {
                format!("HAProxy still has {old_workers} old workers with open connections.")
            }
            Verdict::Failed { error } => with_causes(error),
        })
    }

    /// The same without secrets.
    pub fn without(mut self, secrets: &Secrets) -> Verdict {
        let hide = |text: &mut String| *text = secrets.hide(text);
        match &mut self {
            Verdict::NeedsReload { reason }
            | Verdict::StillRejected { reason }
            | Verdict::Unconfirmed { reason, .. }
            | Verdict::Rejected { reason, .. } => hide(reason),
            Verdict::Written { reason, story, .. } => [reason, story].into_iter().for_each(hide),
            Verdict::Confirmed { story, .. } => hide(story),
            Verdict::Unchanged
            | Verdict::Refused { .. }
            | Verdict::Busy { .. }
            | Verdict::Failed { .. } => {}
        }
        if let Verdict::Confirmed { findings, .. }
        | Verdict::Refused { findings, .. }
        | Verdict::Rejected { findings, .. } = &mut self
        {
            let texts = findings
                .iter_mut()
                .flat_map(|one| one.help.iter_mut().chain([&mut one.message]));
            texts.for_each(hide);
        }
        self
    }
}

/// Findings as lines, each with its place.
pub fn in_words(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let file = finding.file.as_ref().map_or(String::new(), |file| {
            format!("{}:{}: ", file.display(), finding.line)
        });
        format!("{file}{}\n", finding.message)
    });
    lines.collect()
}

/// How things stand, without changing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What runs.
    pub seen: Seen,
    /// What the destinations were last given.
    pub written: Option<Revision>,
    /// What HAProxy was last told to load without a complaint.
    pub applied: Option<Revision>,
    /// What a worker last reported.
    pub confirmed: Option<Revision>,
    /// The set that HAProxy did not take.
    pub rejected: Option<Rejection>,
    /// Destinations that others have edited or removed.
    pub drift: Vec<PathBuf>,
    /// Workers that only finish their connections, where that is known.
    pub old_workers: Option<usize>,
    /// The supervised HAProxy.
    pub supervised: Option<Status>,
    /// The servers of the worker, as far as they were looked at.
    pub servers: Servers,
    /// Whether the worker has root's rights, which it needs for its start only.
    pub root: bool,
    /// What somebody should know, such as rights that are missing; a sentence each.
    pub notes: Vec<String>,
}

/// How the servers of the worker compare with the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// Servers that were removed and still have connections.
    pub leaving: Vec<String>,
    /// What people have set by hand, one sentence each.
    pub by_hand: Vec<String>,
    /// What differed from the file and was put right, in words.
    pub repaired: Option<String>,
    /// What differs from the file and only a reload puts right, in words.
    pub differs: Option<String>,
}

impl Observation {
    /// Whether HAProxy runs something else than what the files hold: it was restarted, or others
    /// reloaded it.
    pub fn diverges(&self) -> bool {
        match (&self.seen, &self.written) {
            (Seen::Running(running), Some(written)) => running.revision.as_ref() != Some(written),
            _ => false,
        }
    }
}
