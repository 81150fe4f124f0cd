//! The sidecar's loop. It owns the core and everything that does work for it; each piece of work
//! runs in a task of its own, takes what it works on with it and brings it back in a message.
//!
//! The loop decides nothing: what it is told by the core, it does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::core::{Core, Timing};
use super::event::{Action, Answers, Event, Loaded, Rendered, WatchId};
use super::files::FileWatch;
use super::listeners::{Compared, Good, MadeFrom, Reference};
use super::pulse::Pulse;
use super::snapshot;
use super::systemd::Systemd;
use super::translate::{event_of, inspect, observed, outcome, say};
use crate::apply::execute::{Applier, Ending, Means, Observation, Verdict};
use crate::apply::gate;
use crate::apply::origin::Origin;
use crate::apply::set::{Candidate, Revision};
use crate::catalog::guard::{self, Evidence, Inquiry};
use crate::catalog::snapshot::Content;
use crate::catalog::{Known, Query};
use crate::diagnostic::Diagnostic;
use crate::haproxy::supervise::Supervisor;
use crate::source::{Source, Update, Watch};
use crate::status::http::{Listen, Sources, StatusListener};
use crate::status::model::{Frame, Status};
use crate::status::socket::{Question, Released, StatusSocket};
use crate::template::{self, NO_TEMPLATES, Slots, TemplateSet, Texts};

mod apply_thread;
mod messages;
mod settings;
mod work;

use apply_thread::ApplyThread;

/// How long the end waits for a set that is being applied, and for the last snapshot.
const LAST_WORK: Duration = Duration::from_secs(10);
/// For the last snapshot at least.
const LAST_SNAPSHOT: Duration = Duration::from_secs(3);
/// For HAProxy to end at once.
const LAST_KILL: Duration = Duration::from_secs(5);
/// For what is tidied up last.
const LAST_FILES: Duration = Duration::from_secs(1);

/// Compiles the templates as they are on disk.
pub type LoadTemplates =
    Arc<dyn Fn() -> Result<(TemplateSet, Vec<Diagnostic>), Vec<Diagnostic>> + Send + Sync>;
/// Compiles the templates of a former set.
pub type Compile = Arc<dyn Fn(Texts) -> Result<TemplateSet, Vec<Diagnostic>> + Send + Sync>;
/// Makes a set of rendered texts.
pub type MakeSet = Arc<dyn Fn(Vec<String>) -> Candidate + Send + Sync>;
/// Opens the applier: takes the locks and reads what is known.
pub type OpenApplier = Arc<dyn Fn() -> Result<Applier, String> + Send + Sync>;
/// Reads the settings again.
pub type ReadSettings = Arc<dyn Fn() -> Result<Parts, Vec<Diagnostic>> + Send + Sync>;

/// All that settings decide.
pub struct Parts {
    /// Where answers come from.
    pub source: Source,
    /// Whether that differs from other parts: what it was made from.
    pub source_identity: String,
    /// When things happen.
    pub timing: Timing,
    /// The templates.
    pub load_templates: LoadTemplates,
    /// The templates of a former set.
    pub compile: Compile,
    /// What rendered texts become.
    pub make_set: MakeSet,
    /// How sets are applied.
    pub open_applier: OpenApplier,
    /// What may vanish from the catalog, and for how long it is kept.
    pub guard: guard::Rules,
    /// What a set must be.
    pub gate: gate::Rules,
    /// Where the snapshot lies.
    pub state_directory: PathBuf,
    /// Files and folders whose change means that the templates must be read again.
    pub template_files: Vec<PathBuf>,
    /// The settings file.
    pub settings_file: Option<PathBuf>,
    /// How HAProxy is told, in a word.
    pub mode: String,
    /// Whether HAProxy is our child.
    pub supervised: bool,
    /// What the status always says.
    pub warnings: Vec<String>,
    /// Where the status is served by HTTP.
    pub listen: Option<Listen>,
}

/// How the loop is asked and what tells others that it turns.
pub struct Telling {
    /// What is asked.
    pub questions: mpsc::Receiver<Question>,
    /// Who asks by HTTP.
    pub sources: Sources,
    /// The listener, open already, so that an address that cannot be had has failed before this.
    pub listener: Option<StatusListener>,
    /// Where the status is asked for on this machine.
    pub socket: StatusSocket,
}

/// What came of a task.
enum Message {
    Loaded {
        generation: u64,
        result: Result<Templates, Vec<Diagnostic>>,
    },
    Rendered {
        generation: u64,
        set: Box<TemplateSet>,
        result: Result<template::Outcome, Vec<Diagnostic>>,
        /// The set, where the rendering is whole.
        compared: Option<Compared>,
        answers: Arc<BTreeMap<Query, Known>>,
    },
    RenderedInterim {
        generation: u64,
        /// The set's templates, where they could be compiled.
        former: Option<Former>,
        result: Result<template::Outcome, Vec<Diagnostic>>,
        compared: Option<Compared>,
        answers: Arc<BTreeMap<Query, Known>>,
    },
    Applied {
        applier: Box<Applier>,
        candidate: Arc<Candidate>,
        verdict: Box<Verdict>,
    },
    Observed {
        applier: Box<Applier>,
        observation: Box<Observation>,
        /// Whether the snapshot's file exists.
        snapshot: bool,
    },
    Resumed {
        applier: Box<Applier>,
        verdict: Box<Verdict>,
    },
    /// New settings are in force, or why the former ones stay.
    Opened {
        applier: Result<Box<Applier>, String>,
        parts: Result<Box<Parts>, String>,
    },
    Inspected(Evidence),
    Saved(Result<(), String>),
    /// A task panicked.
    Lost,
    /// A template, partial or read file differs from what was read.
    TemplatesChanged,
    /// The settings file differs.
    SettingsChanged,
    Settings(Result<Box<Parts>, Vec<Diagnostic>>),
}

/// Templates that were read from their files.
struct Templates {
    set: Box<TemplateSet>,
    /// What it was compiled from.
    texts: Arc<str>,
    warnings: Vec<Diagnostic>,
}

/// The templates of the last good set, by which interim sets are rendered.
struct Former {
    texts: Arc<str>,
    set: Box<TemplateSet>,
}

/// Work for the applier.
enum Asked {
    Apply(Arc<Candidate>, Means),
    Observe,
}

/// What the applier is allowed before its next work.
#[derive(Default)]
struct Consent {
    /// To take a set that has lost servers.
    loss: bool,
    /// To load again what HAProxy has rejected.
    rejections: bool,
}

/// The sidecar.
pub struct Sidecar {
    core: Core,
    parts: Parts,
    read_settings: ReadSettings,
    frame: Frame,
    watches: BTreeMap<WatchId, Watch>,
    /// The compiled templates, while no rendering has them.
    templates: Option<Box<TemplateSet>>,
    /// The templates of interim sets, between two of them.
    former: Option<Former>,
    /// Who has which slot, for templates that are loaded later.
    slots: Slots,
    /// Which templates are in force; a rendering of older ones is dropped.
    generation: u64,
    /// Whether templates are being read.
    loading: bool,
    /// The applier, while no task has it.
    applier: Option<Box<Applier>>,
    /// Where it works.
    apply_thread: ApplyThread,
    /// What the core asked for while HAProxy was being started or settings came into force.
    asked: Option<Asked>,
    consent: Consent,
    /// The last good set and what it was made from.
    good: Option<Good>,
    /// The set that was rendered last, as it was compared with the last good one.
    compared: Option<(Revision, Option<Revision>, Arc<str>)>,
    /// What the sets that may become the last good one were made from.
    made_from: BTreeMap<Revision, MadeFrom>,
    /// Where the snapshot is.
    snapshot: PathBuf,
    /// Whether a part is gone without which nothing can be applied any more.
    lost: bool,
    /// The HAProxy of ours, whoever has the applier.
    supervisor: Option<Supervisor>,
    /// Tells the applier, whoever has it, that we are ending.
    ending: Ending,
    /// Settings that wait for the applier to come back.
    waiting_settings: Option<Box<Parts>>,
    /// Whether the settings are being read, and whether they are to be read once more after that.
    reading_settings: bool,
    read_again: bool,
    listener: Option<StatusListener>,
    socket: StatusSocket,
    systemd: Systemd,
    /// Whom a listener asks.
    sources: Sources,
    files_read: BTreeSet<PathBuf>,
    file_watch: Option<FileWatch>,
    updates: mpsc::Sender<Update>,
    messages: mpsc::Sender<Message>,
}

impl Sidecar {
    /// Runs until it is told to end. `applier` is open already, so that a second instance has
    /// failed before this.
    pub async fn run(
        parts: Parts,
        mut applier: Applier,
        read_settings: ReadSettings,
        telling: Telling,
    ) -> std::io::Result<()> {
        let Telling {
            mut questions,
            sources,
            listener,
            socket,
        } = telling;
        let now = Instant::now();
        let path = parts.state_directory.join(snapshot::NAME);
        let memory = snapshot::recall(&path, &mut applier, &parts.guard, now);
        let listeners = snapshot::recall_listeners(&path);
        let apply_thread = ApplyThread::start()?;
        let mut pulse = Pulse::new(sources.heartbeat.clone());
        // Until here a signal ends the process by itself, whatever the disk does.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        // Meant for HAProxy, most likely; without this they would end us.
        let mut user_one = signal(SignalKind::user_defined1())?;
        let mut user_two = signal(SignalKind::user_defined2())?;
        let (updates, mut update_queue) = mpsc::channel(256);
        let (messages, mut message_queue) = mpsc::channel(16);
        let (core, actions) = Core::new(parts.timing, now);
        let revision = applier.last_good_revision().cloned();
        let left = memory.left().map(|(answers, of_good)| match of_good {
            true => MadeFrom::Snapshot(answers),
            false => MadeFrom::Later(answers),
        });
        let made_from = revision.zip(left).into_iter().collect();
        let core = core.remember(parts.guard.clone(), memory);
        let core = core.recall_listeners(listeners);
        let mut sidecar = Sidecar {
            core,
            frame: Frame {
                started: now,
                mode: parts.mode.clone(),
                warnings: parts.warnings.clone(),
                settings_errors: Vec::new(),
                listening: listener.as_ref().map(|one| one.address().to_string()),
            },
            parts,
            read_settings,
            watches: BTreeMap::new(),
            templates: None,
            former: None,
            slots: Slots::read(
                applier
                    .last_good()
                    .into_iter()
                    .flatten()
                    .map(|file| file.text.as_str()),
            ),
            generation: 0,
            supervisor: applier.guardian(),
            ending: applier.ending(),
            loading: false,
            applier: Some(Box::new(applier)),
            apply_thread,
            asked: None,
            consent: Consent::default(),
            good: None,
            compared: None,
            made_from,
            snapshot: path,
            lost: false,
            waiting_settings: None,
            reading_settings: false,
            read_again: false,
            listener,
            socket,
            systemd: Systemd::from_environment(),
            sources,
            files_read: BTreeSet::new(),
            file_watch: None,
            updates,
            messages,
        };
        for warning in &sidecar.frame.warnings {
            tracing::warn!("{warning}");
        }
        sidecar.good_again();
        sidecar.watch_files();
        sidecar.start_haproxy();
        sidecar.carry_out(actions);
        sidecar.systemd.tell(NotifyState::Ready);
        loop {
            pulse.beat(&mut sidecar.systemd);
            let due = sidecar.core.poll_timeout();
            tokio::select! {
                // Cancel-safe: a signal that is not taken now is taken in the next turn.
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    tracing::info!("The settings and templates are read again.");
                    sidecar.systemd.tell(NotifyState::Reloading);
                    sidecar.settings_again();
                }
                // Cancel-safe: a beat that is missed comes with the next turn.
                () = pulse.due() => {}
                _ = user_one.recv() => tracing::warn!("SIGUSR1 is not used here and was ignored."),
                _ = user_two.recv() => tracing::warn!("SIGUSR2 is not used here and was ignored."),
                // Cancel-safe: a message stays in its queue until it is taken.
                Some(update) = update_queue.recv() => {
                    sidecar.event(event_of(update));
                    // Answers that came together are taken together, a bounded number a turn.
                    for _ in 0..64 {
                        let Ok(update) = update_queue.try_recv() else { break };
                        sidecar.event(event_of(update));
                    }
                }
                Some(message) = message_queue.recv() => {
                    sidecar.message(message);
                    if sidecar.lost {
                        return Err(std::io::Error::other(
                            "a part of the program has failed and nothing could be applied any more; the files and HAProxy are as they were",
                        ));
                    }
                }
                Some(question) = questions.recv() => sidecar.answer(question),
                // Cancel-safe: the deadline is asked anew in each turn.
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    sidecar.core.processor_time(processor_time());
                    let actions = sidecar.core.handle_timeout(Instant::now());
                    sidecar.carry_out(actions);
                }
            }
        }
        sidecar
            .end(&mut message_queue, &mut terminate, &mut interrupt)
            .await;
        Ok(())
    }

    /// Ends gracefully, or at once at a second signal, whatever the disk does.
    async fn end(
        mut self,
        messages: &mut mpsc::Receiver<Message>,
        terminate: &mut Signal,
        interrupt: &mut Signal,
    ) {
        tracing::info!("Ending; a second signal ends at once.");
        self.systemd.tell(NotifyState::Stopping);
        self.listener = None;
        self.watches.clear();
        self.ending.begin();
        let at_once = tokio::select! {
            // Cancel-safe: the files are in a state from which HAProxy starts at every moment, and killing HAProxy
            // takes over where the graceful end was.
            () = self.end_gracefully(messages) => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        };
        if let Some(supervisor) = self.supervisor.as_ref().filter(|_| at_once) {
            // One that is being started from a disk that hangs is left.
            let _ = timeout(LAST_KILL, supervisor.kill()).await;
        }
        let (socket, applier) = (self.socket, self.applier);
        self.apply_thread.end(move || drop((socket, applier))).await;
    }

    /// Lets a set that is on its way arrive or be taken back, and ends a HAProxy of ours.
    async fn end_gracefully(&mut self, messages: &mut mpsc::Receiver<Message>) {
        let limit = Instant::now() + LAST_WORK;
        let last = async {
            while self.applier.is_none() || self.core.is_saving() {
                match messages.recv().await {
                    Some(
                        Message::Applied { applier, .. }
                        | Message::Observed { applier, .. }
                        | Message::Resumed { applier, .. }
                        | Message::Opened {
                            applier: Ok(applier),
                            ..
                        },
                    ) => {
                        self.applier = Some(applier);
                    }
                    Some(Message::Saved(result)) => {
                        // Two at a time would be in each other's way; the last one follows.
                        let _ = self.core.handle(Event::Saved(result), Instant::now());
                    }
                    Some(Message::Opened { .. }) | None => break,
                    Some(_) => {}
                }
            }
        };
        let _ = timeout_at(limit, last).await;
        if let Some(content) = self.core.last_snapshot(Instant::now()) {
            let path = self.snapshot.clone();
            let left = self.core.listeners().left();
            let write =
                tokio::task::spawn_blocking(move || snapshot::write(&path, &content, &left));
            let limit = limit.max(Instant::now() + LAST_SNAPSHOT);
            let problem = match timeout_at(limit, write).await {
                Ok(Ok(Err(error))) => Some(error),
                Err(_) => Some("The disk does not answer.".to_owned()),
                Ok(_) => None,
            };
            if let Some(problem) = problem {
                tracing::warn!(
                    "The snapshot for a start without the catalog could not be written. {problem}"
                );
            }
        }
        if let Some(supervisor) = &self.supervisor {
            tracing::info!("HAProxy is ended gracefully.");
            supervisor.stop().await;
        }
    }

    fn event(&mut self, event: Event) {
        self.core.processor_time(processor_time());
        let actions = self.core.handle(event, Instant::now());
        self.carry_out(actions);
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Status(back) => {
                let _ = back.send(self.status());
            }
            Question::Release(services, back) => {
                let services = services.as_deref();
                let now = Instant::now();
                let (mut released, actions) = self.core.release(services, now);
                self.carry_out(actions);
                if services.is_none() {
                    let (listeners, actions) = self.core.release_listeners(None, now);
                    released.extend(listeners);
                    self.carry_out(actions);
                }
                self.released(released, back);
            }
            Question::ReleaseListeners(addresses, back) => {
                let (released, actions) = self
                    .core
                    .release_listeners(addresses.as_deref(), Instant::now());
                self.carry_out(actions);
                self.released(released, back);
            }
        }
    }

    fn released(&self, released: Vec<String>, back: oneshot::Sender<Released>) {
        let status = self.status();
        let _ = back.send(Released {
            released,
            holds: status.holds,
            listeners: status.listeners,
        });
    }

    fn status(&self) -> Status {
        let source = self.parts.source.status();
        let mut frame = self.frame.clone();
        frame.warnings.extend(self.faults());
        Status::of(&self.core, &source, &frame, Instant::now())
    }

    /// What the system denies at the moment, and without which all goes on.
    fn faults(&self) -> impl Iterator<Item = String> {
        let files = self.file_watch.as_ref().and_then(FileWatch::problem);
        [
            files,
            self.socket.problem(),
            self.core.memory().problem().map(str::to_owned),
        ]
        .into_iter()
        .flatten()
    }
}

/// What this process has used of the processor, and the children that it has waited for.
fn processor_time() -> Duration {
    let of = |who| getrusage(who).map(|usage| [usage.user_time(), usage.system_time()]);
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| of(who).ok())
        .flatten()
        .map(|time| Duration::from_micros(time.num_microseconds().unsigned_abs()))
        .sum()
}
