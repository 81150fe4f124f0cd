//! Which set a worker has loaded where others own the whole configuration, so that no file carries a revision of ours.
//! Gatewright gives the revision to the worker by a command; it ends with the worker.
//!
//! Two things must be so. The worker began to load after the files of the set were in place: it is none of those that
//! the master listed then, and a master loads one set after the other. And whatever it shows of the files (maps,
//! patterns, certificates, crt-lists) is read back and is that of the set.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::carrier::Carrier;
use super::super::plan::Comparison;
use super::super::set::{Revision, Role, SetFile};
use super::super::tell::{STALE, Seen, Unknown};
use super::super::validate;
use super::super::verdict::Options;
use super::telling::{Outcome, Telling, mark};
use super::{ABSENT, Applier, MOMENT, invocation, is_live, runs};
use crate::haproxy::socket::SocketError;
use crate::haproxy::stats::Running;

/// Between two looks at a worker that does not hold the files.
const AGAIN: Duration = Duration::from_millis(20);

impl Applier {
    /// From here on the files change, so it is not known of any worker which of them it has loaded.
    pub(super) fn forget_workers(&mut self) {
        if self.carrier.is_command() {
            self.history.update(|state| state.earlier = None);
        }
    }

    /// The files are in place: each worker that there is may have loaded former ones, and no later one has.
    pub(super) async fn note_workers(&mut self) {
        if !self.carrier.is_command() {
            return;
        }
        let listed = match self.haproxy.workers().await {
            Some(Ok(listed)) => Some(listed),
            None | Some(Err(SocketError::Absent { .. })) => match self.haproxy.seen(ABSENT).await {
                Seen::Running(running) => Some(vec![running.pid]),
                Seen::Absent { .. } => Some(Vec::new()),
                Seen::Unknown(_) => None,
            },
            Some(Err(_)) => None,
        };
        self.history.update(|state| state.earlier = listed);
    }

    /// Whether it is known which workers may have loaded former files: else none can be told from them.
    pub(super) fn knows_workers(&self) -> bool {
        !self.carrier.is_command() || self.history.state().earlier.is_some()
    }

    /// Whether a worker reports this revision, or has loaded what is written and was not given a revision yet.
    pub(super) fn reports(&self, revision: Option<Revision>) -> impl Fn(&Running) -> bool + use<> {
        let earlier = self.history.state().earlier.clone();
        let earlier = earlier.filter(|_| self.carrier.is_command());
        move |running| {
            revision.is_some() && running.revision == revision
                || is_new(running, earlier.as_deref())
        }
    }

    /// What runs now; a worker that has loaded the written set is given its revision.
    pub(super) async fn seen(&mut self, patience: Duration) -> Seen {
        let seen = self.haproxy.seen(patience).await;
        self.recognized(seen).await
    }

    /// Waits until a worker reports the revision; the last thing seen otherwise.
    pub(super) async fn confirm(&mut self, limit: Duration, revision: &Revision) -> Seen {
        let wanted = self.reports(Some(revision.clone()));
        let seen = self.haproxy.confirm(limit, wanted).await;
        self.recognized(seen).await
    }

    /// A worker that has loaded the written set is given its revision.
    pub(super) async fn recognized(&mut self, seen: Seen) -> Seen {
        let state = self.history.state();
        let (Seen::Running(running), true) = (&seen, self.carrier.is_command()) else {
            return seen;
        };
        let Some(written) = state.written.clone() else {
            return seen;
        };
        if !is_new(running, state.earlier.as_deref()) {
            return seen;
        }
        let set = match self.history.load_set(&written) {
            Some(set) if is_live(&set.files) => set,
            _ => return seen,
        };
        self.memory.meet(running);
        let Some(session) = self.session(running).await else {
            return Seen::Unknown(Unknown::Mute { pid: running.pid });
        };
        self.known_master().await;
        let reading = Telling {
            session: &session,
            running,
            old: &written,
            new: &written,
            pools: Vec::new(),
            backends: &[],
            directory: self.directory(),
        };
        let others = self.others_of(&set.files);
        // For a moment the stats socket may lead to the former worker again. What has lasted is not waited for twice.
        let patience = match self.memory.unlike {
            Some(_) => Duration::ZERO,
            None => STALE,
        };
        let deadline = Instant::now() + patience;
        let held = loop {
            let held = reading.holds(&set.files, &others).await;
            if held.is_ok() && mark(&session, written.as_str()).await {
                let now = self.haproxy.seen(MOMENT).await;
                if matches!(&now, Seen::Running(now) if now.pid == running.pid)
                    && runs(&now, Some(&written))
                {
                    self.memory.unlike = None;
                    return now;
                }
            }
            if Instant::now() >= deadline {
                break held;
            }
            tokio::time::sleep(AGAIN).await;
        };
        let (why, is_read) = match held {
            Err(Outcome::Refused { why }) => (why, false),
            Err(Outcome::Differs { why }) => (why, true),
            _ => (
                "it does not report the revision that it was given".to_owned(),
                true,
            ),
        };
        let why = set.secrets().hide(&why);
        self.memory.unlike = Some(why.clone());
        let pid = running.pid;
        match is_read {
            true => seen,
            false => Seen::Unknown(Unknown::Unread { pid, why }),
        }
    }

    /// How two sets differ.
    pub(super) fn difference(&self, old: &[SetFile], new: &[SetFile]) -> Comparison {
        self.carrier.compare(old, new, &self.others_of(new))
    }

    /// The configurations of others that name the files of a set which has none.
    pub(super) fn others_of(&self, files: &[SetFile]) -> Vec<SetFile> {
        match self.carrier {
            Carrier::File(_) => Vec::new(),
            Carrier::Command(_) => {
                let base = invocation(&self.options);
                as_files(validate::others(files, &base, self.memory.master.as_ref()))
            }
        }
    }

    /// Reads the sockets of the configuration with which HAProxy runs this set.
    pub(super) fn learn_socket(&mut self, files: &[SetFile]) {
        match self.carrier {
            Carrier::File(_) => self.haproxy.learn_socket(files),
            Carrier::Command(_) => {
                let others = self.others_of(files);
                self.haproxy.learn_socket(&others);
            }
        }
    }

    /// Files of the set that no configuration names, in words.
    pub(super) fn unnamed(&mut self) -> Vec<String> {
        let Some(good) = self.last_good.clone().filter(|_| self.carrier.is_command()) else {
            return Vec::new();
        };
        // What this worker has loaded does not change with the file of others.
        if let Some((of, told)) = &self.memory.unnamed
            && *of == good.revision
        {
            return told.clone();
        }
        let others = self.others_of(&good.files);
        let texts = || others.iter().chain(&good.files);
        let is_named = |file: &&SetFile| {
            let path = &file.destination;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let folder = path.parent().map(|folder| folder.to_string_lossy());
            texts().any(|text| {
                text.destination != *path
                    && (text.text.contains(&*name)
                        || folder
                            .as_ref()
                            .is_some_and(|folder| names_folder(&text.text, folder)))
            })
        };
        let unnamed = good.files.iter().filter(|file| !is_named(file));
        let sentence = |file: &SetFile| {
            format!(
                "No configuration that HAProxy loads names {}, so HAProxy does not use that file. Name it there, or correct `destination` or `config_files` in the settings.",
                file.destination.display()
            )
        };
        let told: Vec<String> = unnamed.map(sentence).collect();
        self.memory.unnamed = Some((good.revision.clone(), told.clone()));
        told
    }
}

/// Whether a word of the text is this folder: HAProxy loads all certificates of one.
fn names_folder(text: &str, folder: &str) -> bool {
    text.split_whitespace()
        .any(|word| word.trim_end_matches('/') == folder)
}

/// The configurations that the settings name beside a set without one.
pub(in crate::apply) fn others_of(options: &Options, files: &[SetFile]) -> Vec<SetFile> {
    match options.carrier() {
        Some(Carrier::Command(_)) => as_files(validate::others(files, &invocation(options), None)),
        _ => Vec::new(),
    }
}

fn as_files(others: Vec<(PathBuf, String)>) -> Vec<SetFile> {
    let file = |(destination, text)| SetFile {
        destination,
        role: Role::Config,
        mode: None,
        text,
    };
    others.into_iter().map(file).collect()
}

/// Whether a worker that reports nothing is later than all that may have loaded former files.
fn is_new(running: &Running, earlier: Option<&[i32]>) -> bool {
    running.revision.is_none()
        && running.changing.is_none()
        && earlier.is_some_and(|earlier| !earlier.contains(&running.pid))
}
