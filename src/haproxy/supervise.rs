//! Being HAProxy's parent: start it, keep it running, end it gracefully, reap everything.
//!
//! A task owns the child; the others hold a [`Supervisor`], which is a channel and a status. A
//! master that already answers on the socket is adopted, never doubled: a second one would share the
//! ports and silently take half of the traffic. Never starts HAProxy before it is told to, that is,
//! before a set of files is in place, and not while restarts are held during a change.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::check::Invocation;
use super::child::{self, Lifetime, Owned};
use super::master::MasterSocket;
use super::process::{Master, Watch};
use super::redact;
use crate::catalog::secrets::Secrets;

/// How long a master may refuse its socket while it replaces itself (up to 0.9 s were seen with
/// 10,000 servers on 2.6).
const REPLACING: Duration = Duration::from_secs(1);

/// How to be the parent.
#[derive(Debug, Clone)]
pub struct Options {
    /// Program, flags (`-W` among them), files, directory and environment.
    pub invocation: Invocation,
    /// The master socket, made by HAProxy for its owner only.
    pub socket: PathBuf,
    /// From start to the first worker that serves.
    pub start_limit: Duration,
    /// From the graceful end to the hard one.
    pub stop_limit: Duration,
    /// First wait before HAProxy is started again; doubles up to `longest_wait`.
    pub first_wait: Duration,
    /// Longest wait before HAProxy is started again.
    pub longest_wait: Duration,
}

/// What the supervised HAProxy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Not started yet: no set of files is in place.
    Waiting,
    /// Started; no worker answers yet.
    Starting {
        /// The master.
        pid: i32,
    },
    /// Serving.
    Running {
        /// The master.
        pid: i32,
    },
    /// It has ended and is started again after a while, or when restarts are no longer held.
    Down {
        /// How it ended and its last words.
        reason: String,
        /// By what.
        death: Death,
    },
    /// Told to end; connections are finished.
    Stopping {
        /// The master.
        pid: i32,
    },
    /// Ended for good.
    Stopped,
}

impl Status {
    /// Whether HAProxy serves, is down or has ended for good.
    fn is_settled(&self) -> bool {
        !matches!(self, Status::Waiting | Status::Starting { .. })
    }
}

/// By what a HAProxy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// By itself, as after a fatal alert.
    Itself,
    /// Somebody killed it (SIGKILL, SIGTERM), or its worker, for which it ends with 128 and the signal.
    Killed,
    /// That was not seen: it is not our child.
    Unseen,
}

impl Death {
    fn of(status: ExitStatus) -> Death {
        let by = |signal: Signal| {
            status.signal() == Some(signal as i32) || status.code() == Some(128 + signal as i32)
        };
        match by(Signal::SIGKILL) || by(Signal::SIGTERM) {
            true => Death::Killed,
            false => Death::Itself,
        }
    }
}

enum Order {
    Start,
    Hold(bool),
    Renew(Box<Options>),
    Stop,
    Kill,
}

/// A handle to the task that owns HAProxy. When the last handle is dropped HAProxy is left running.
#[derive(Debug, Clone)]
pub struct Supervisor {
    orders: mpsc::UnboundedSender<Order>,
    status: watch::Receiver<Status>,
    socket: PathBuf,
    withheld: Arc<watch::Sender<[Secrets; 2]>>,
}

impl Supervisor {
    /// Starts the task; HAProxy itself only with [`Supervisor::start`]. Needs a tokio runtime.
    pub fn new(options: Options) -> Supervisor {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (publish, status) = watch::channel(Status::Waiting);
        let socket = options.socket.clone();
        let (withheld, hidden) = watch::channel(<[Secrets; 2]>::default());
        if std::process::id() == 1 {
            tokio::spawn(reap_as_process_one(publish.subscribe()));
        }
        let task = Task {
            wait: options.first_wait,
            options,
            orders: receiver,
            publish,
            held: false,
            wanted: false,
            met: false,
            hidden,
        };
        tokio::spawn(task.run());
        Supervisor {
            orders,
            status,
            socket,
            withheld: Arc::new(withheld),
        }
    }

    /// The master socket, which stays the same for life.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// From the next start on HAProxy is started like this. The socket must be the same.
    pub fn renew(&self, options: Options) {
        let _ = self.orders.send(Order::Renew(Box::new(options)));
    }

    /// What the log does not show of HAProxy's messages from here on, besides what it did not show last: the former files
    /// may be put back.
    pub fn withhold(&self, secrets: Secrets) {
        self.withheld.send_modify(|[newest, former]| {
            *former = std::mem::replace(newest, secrets);
        });
    }

    /// The same in place of what it did not show last.
    pub fn withhold_instead(&self, secrets: Secrets) {
        self.withheld.send_modify(|[newest, _]| *newest = secrets);
    }

    /// What HAProxy does now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// To be woken at each change.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Starts HAProxy (or adopts a running one) and waits until it serves or has failed. Once begun,
    /// it is kept running.
    pub async fn start(&self, limit: Duration) -> Status {
        let _ = self.orders.send(Order::Start);
        self.settled(limit).await
    }

    /// Starts a HAProxy that is down without a further wait, and waits until it serves or has failed.
    pub async fn start_again(&self, limit: Duration) -> Status {
        let mut status = self.status.clone();
        status.mark_unchanged();
        let _ = self.orders.send(Order::Start);
        let settled = async {
            if status.changed().await.is_ok() {
                let _ = status.wait_for(Status::is_settled).await;
            }
        };
        let _ = timeout(limit, settled).await;
        self.status()
    }

    /// Waits until HAProxy serves, is down or has ended for good.
    pub async fn settled(&self, limit: Duration) -> Status {
        let mut status = self.status.clone();
        let _ = timeout(limit, status.wait_for(Status::is_settled)).await;
        self.status()
    }

    /// While held, an HAProxy that ends is not started again: the files are being changed.
    pub fn hold_restarts(&self, held: bool) {
        let _ = self.orders.send(Order::Hold(held));
    }

    /// Ends HAProxy gracefully, hard after the limit, and waits for it.
    pub async fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
        self.ended().await;
    }

    /// Ends HAProxy at once and waits for it.
    pub async fn kill(&self) {
        let _ = self.orders.send(Order::Kill);
        self.ended().await;
    }

    async fn ended(&self) {
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| *status == Status::Stopped).await;
    }
}

/// A master, ours or adopted.
enum Running {
    Child(Owned, LastWords),
    Adopted(i32, Watch),
}

type LastWords = tokio::task::JoinHandle<String>;

/// How a life of HAProxy ended.
enum End {
    Itself(String, Death),
    OnOrder,
}

struct Task {
    options: Options,
    orders: mpsc::UnboundedReceiver<Order>,
    publish: watch::Sender<Status>,
    held: bool,
    wanted: bool,
    /// Whether this task has begun with a HAProxy before.
    met: bool,
    wait: Duration,
    hidden: watch::Receiver<[Secrets; 2]>,
}

impl Task {
    async fn run(mut self) {
        while self.until_wanted().await {
            let began = Instant::now();
            let end = match self.begin().await {
                Ok(running) => self.live(running).await,
                Err(reason) => Some(End::Itself(reason, Death::Itself)),
            };
            match end {
                None => return,
                Some(End::OnOrder) => break,
                Some(End::Itself(reason, death)) => {
                    tracing::warn!(%reason, "HAProxy has ended");
                    self.set(Status::Down { reason, death });
                }
            }
            if began.elapsed() > 3 * self.options.longest_wait {
                self.wait = self.options.first_wait;
            }
            if !self.back_off().await {
                break;
            }
        }
        self.set(Status::Stopped);
    }

    /// Waits for the order to start and for restarts to be allowed; false when told to end.
    async fn until_wanted(&mut self) -> bool {
        while !self.wanted || self.held {
            match self.orders.recv().await {
                Some(Order::Start) => self.wanted = true,
                Some(Order::Hold(held)) => self.held = held,
                Some(Order::Renew(options)) => self.options = *options,
                Some(Order::Stop | Order::Kill) | None => return false,
            }
        }
        true
    }

    /// The wait before the next start; a change of the files ends it. False when told to end.
    async fn back_off(&mut self) -> bool {
        let until = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(self.options.longest_wait);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                // Cancel safe: nothing is taken from the channel by a cancelled receive.
                order = self.orders.recv() => match order {
                    Some(Order::Hold(held)) => {
                        let released = self.held && !held;
                        self.held = held;
                        if released {
                            return true;
                        }
                    }
                    Some(Order::Start) => return true,
                    Some(Order::Renew(options)) => self.options = *options,
                    Some(Order::Stop | Order::Kill) | None => return false,
                },
            }
        }
    }

    async fn begin(&mut self) -> Result<Running, String> {
        // One that an earlier Gatewright left may be replacing itself just now and refuse for a
        // moment. What we started ourselves has been waited for.
        let patience = if std::mem::replace(&mut self.met, true) {
            Duration::ZERO
        } else {
            REPLACING
        };
        if let Some(adopted) = adopt(&self.options.socket, patience).await {
            return Ok(adopted);
        }
        let socket = self.options.socket.display();
        let mut command = self.options.invocation.command([
            "-db".into(),
            "-S".into(),
            format!("{socket},mode,0600").into(),
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::piped());
        // The program may be on a disk that takes its time.
        let start = move || child::spawn(&mut command, Lifetime::Own);
        let started = tokio::task::spawn_blocking(start).await;
        let started = started.unwrap_or_else(|error| Err(error.into()));
        let mut child = started.map_err(|cause| {
            format!(
                "HAProxy could not be started ({}): {cause}",
                self.options.invocation.binary.display()
            )
        })?;
        let secrets = redact::secret_values(&self.options.invocation.environment);
        let words = tokio::spawn(listen(child.take_stderr(), secrets, self.hidden.clone()));
        Ok(Running::Child(child, words))
    }

    /// From start to end; `None` when every handle is gone.
    async fn live(&mut self, mut running: Running) -> Option<End> {
        let pid = running.pid();
        self.set(Status::Starting { pid });
        let socket = MasterSocket {
            path: self.options.socket.clone(),
            limit: Duration::from_secs(1),
        };
        let serves = serves(socket);
        tokio::pin!(serves);
        let mut starting = true;
        let late = Instant::now() + self.options.start_limit;
        loop {
            tokio::select! {
                // Cancel safe: see `Running::ended`.
                (reason, death) = running.ended() => return Some(End::Itself(reason, death)),
                () = &mut serves, if starting => {
                    starting = false;
                    self.set(Status::Running { pid });
                }
                () = tokio::time::sleep_until(late), if starting => {
                    running.signal(Signal::SIGTERM);
                    starting = false;
                }
                // Cancel safe: nothing is taken from the channel by a cancelled receive.
                order = self.orders.recv() => match order {
                    None => return None,
                    Some(Order::Start) => {}
                    Some(Order::Hold(held)) => self.held = held,
                    Some(Order::Renew(options)) => self.options = *options,
                    Some(Order::Stop) => {
                        self.set(Status::Stopping { pid });
                        self.finish(running).await;
                        return Some(End::OnOrder);
                    }
                    Some(Order::Kill) => {
                        self.set(Status::Stopping { pid });
                        finish_now(running).await;
                        return Some(End::OnOrder);
                    }
                },
            }
        }
    }

    /// Graceful until the limit or a second order.
    async fn finish(&mut self, mut running: Running) {
        running.signal(Signal::SIGUSR1);
        let limit = Instant::now() + self.options.stop_limit;
        loop {
            tokio::select! {
                _ = running.ended() => return,
                () = tokio::time::sleep_until(limit) => break,
                order = self.orders.recv() => match order {
                    Some(Order::Stop | Order::Kill) | None => break,
                    Some(Order::Start | Order::Hold(_) | Order::Renew(_)) => {}
                },
            }
        }
        finish_now(running).await;
    }

    fn set(&self, status: Status) {
        // A second end wakes the watchers too, although it may look like the first.
        self.publish.send_replace(status);
    }
}

/// SIGTERM ends a master and its workers in some milliseconds; what does not obey is killed.
async fn finish_now(mut running: Running) {
    running.signal(Signal::SIGTERM);
    if timeout(Duration::from_secs(2), running.ended())
        .await
        .is_err()
    {
        running.kill_group();
        let _ = timeout(Duration::from_secs(2), running.ended()).await;
    }
}

impl Running {
    fn pid(&self) -> i32 {
        match self {
            Running::Child(child, _) => child.pid(),
            Running::Adopted(pid, _) => *pid,
        }
    }

    /// Waits for the end. Cancel safe: a child stays to be reaped, an adopted one is only looked at.
    async fn ended(&mut self) -> (String, Death) {
        match self {
            Running::Child(child, words) => {
                let status = child.wait().await;
                // A worker that outlives its master for a second holds the pipe.
                let words = match timeout(Duration::from_millis(300), &mut *words).await {
                    Ok(Ok(words)) => words,
                    _ => {
                        words.abort();
                        String::new()
                    }
                };
                match status {
                    Ok(status) => {
                        let reason = format!("HAProxy ended with {status}. {words}");
                        (reason.trim().to_owned(), Death::of(status))
                    }
                    Err(error) => {
                        let reason = format!("HAProxy could not be waited for: {error}.");
                        (reason, Death::Unseen)
                    }
                }
            }
            Running::Adopted(_, watch) => {
                while !watch.gone() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                ("The adopted HAProxy has ended.".into(), Death::Unseen)
            }
        }
    }

    fn signal(&self, signal: Signal) {
        match self {
            Running::Child(child, _) => child.signal(signal),
            Running::Adopted(pid, watch) if !watch.gone() => {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
            Running::Adopted(..) => {}
        }
    }

    fn kill_group(&self) {
        match self {
            Running::Child(child, _) => child.signal_group(Signal::SIGKILL),
            Running::Adopted(..) => self.signal(Signal::SIGKILL),
        }
    }
}

async fn adopt(socket: &Path, patience: Duration) -> Option<Running> {
    let answered = match socket.exists() {
        true => {
            let socket = MasterSocket {
                path: socket.to_owned(),
                limit: Duration::from_secs(1),
            };
            socket.processes_within(patience).await.ok()
        }
        false => None,
    };
    // One whose socket was removed still has the listeners: another one beside it would share them.
    let pid = match answered {
        Some(processes) => processes.master.pid,
        None => Master::of_socket(socket)?.pid(),
    };
    tracing::info!(
        pid,
        "adopted the HAProxy that runs with the master socket of the settings"
    );
    Some(Running::Adopted(pid, Watch::new(pid)?))
}

/// Ends when the master has a worker that answers.
async fn serves(socket: MasterSocket) {
    loop {
        // After a failed reload 3.2 lists the serving one among the old.
        if let Ok(processes) = socket.processes().await
            && !(processes.workers.is_empty() && processes.old_workers.is_empty())
            && matches!(socket.worker_command("show version").await, Ok(text) if text.contains('.'))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Hands HAProxy's messages on to our log and keeps the last lines for the reason of its end.
async fn listen(
    stderr: Option<tokio::process::ChildStderr>,
    secrets: Vec<String>,
    hidden: watch::Receiver<[Secrets; 2]>,
) -> String {
    let mut last = std::collections::VecDeque::new();
    if let Some(stderr) = stderr {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line).await, Ok(count) if count > 0) {
            let [newest, former] = hidden.borrow().clone();
            let text = newest.hide(String::from_utf8_lossy(&line).trim_end());
            let text = former.hide(&text);
            let text: String = redact::hide(&text, &secrets)
                .chars()
                .take(1000)
                .map(|character| {
                    if character.is_control() {
                        ' '
                    } else {
                        character
                    }
                })
                .collect();
            line.clear();
            tracing::info!(target: "haproxy", "{text}");
            if text.starts_with("[ALERT]") {
                last.push_back(text);
            }
            if last.len() > 8 {
                last.pop_front();
            }
        }
    }
    last.into_iter().collect::<Vec<_>>().join(" ")
}

/// As process 1 nobody else reaps what lost its parent, such as the workers of a dead master.
async fn reap_as_process_one(mut status: watch::Receiver<Status>) {
    let Ok(mut ended) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())
    else {
        return;
    };
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ended.recv() => {}
            _ = tick.tick() => {}
            gone = status.changed() => if gone.is_err() {
                return;
            },
        }
        child::reap_orphans();
    }
}
