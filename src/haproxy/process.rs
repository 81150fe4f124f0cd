//! Which process is the HAProxy master, proved before it is signalled: a pid file may be empty for a
//! moment, stale, or name a process that has taken the number over.
//!
//! The process is held by a pidfd while it is examined and signalled, so a number that is reused
//! in between reaches nobody. Never signals what is not proved to be a master that handles the
//! signal now.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::crash;
use crate::text;

/// SIGUSR2 as a bit of the masks in `/proc/PID/status`.
const RELOAD_SIGNAL_BIT: u64 = 1 << (12 - 1);

/// What a master hands to itself when it replaces itself: another HAProxy that got it would take itself for that
/// master (`show env` and `/proc` of 2.6.12 to 3.2.26).
const HANDED_ON: [&str; 6] = [
    "HAPROXY_LOAD_SUCCESS",
    "HAPROXY_MWORKER_REEXEC",
    "HAPROXY_MWORKER_WAIT_ONLY",
    "HAPROXY_PROCESSES",
    "HAPROXY_STARTUPLOGS_FD",
    "HAPROXY_STARTUP_VERSION",
];

/// The values of environment variables.
pub type Values = BTreeMap<OsString, OsString>;

/// How a running master was started, as far as it matters to validation.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its flags and files.
    pub line: CommandLine,
    /// The directory that its relative paths start from.
    pub directory: Option<PathBuf>,
    /// `None` when it may not be read.
    pub environment: Option<Environment>,
}

/// The environment of a running master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// What it passes on at its next reload.
    pub values: Values,
    /// It belongs to neither root nor our own user, who could have our programs load what he likes by it.
    pub foreign: bool,
}

/// Whether HAProxy alone may set a variable.
pub fn is_handed_on(name: &str) -> bool {
    HANDED_ON.contains(&name)
}

/// Why there is no master to signal.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// HAProxy is not running: no pid file, or nobody has that number any more.
    #[error("HAProxy is not running: {reason}.")]
    NotRunning {
        /// What was looked at.
        reason: String,
    },
    /// The pid file cannot be used.
    #[error("The pid file {} cannot be used: {reason}. Name the file that HAProxy's `-p` or `pidfile` writes.", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The number belongs to something else.
    #[error(
        "Process {pid} is not an HAProxy master ({reason}), so it is not signalled. If the pid file is stale, remove it."
    )]
    NotMaster {
        /// The number.
        pid: i32,
        /// What it is instead.
        reason: String,
    },
    /// It would be killed by the signal, or lose it.
    #[error("The HAProxy master {pid} did not become ready for a reload within {} s: it is still starting or loading.", waited.as_secs())]
    NotReady {
        /// The number.
        pid: i32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The system would not let us look or signal.
    #[error(
        "Process {pid} cannot be examined or signalled: {cause}. Run Gatewright as the same user, or use the master socket."
    )]
    Denied {
        /// The number.
        pid: i32,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// A pid file holds a number or two.
const PID_FILE_MAX: u64 = 4096;

/// A process proved to be an HAProxy master, held by a pidfd.
#[derive(Debug)]
pub struct Master {
    pid: i32,
    handle: OwnedFd,
}

impl Master {
    /// Finds the master through its pid file. HAProxy truncates the file at each reload, so an empty
    /// one is read again, three times 50 ms apart.
    pub async fn find(pid_file: &Path) -> Result<Master, ProcessError> {
        let mut text = String::new();
        for _ in 0..4 {
            text = match text::read(pid_file, PID_FILE_MAX) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(ProcessError::NotRunning {
                        reason: format!("there is no pid file {}", pid_file.display()),
                    });
                }
                Err(error) => {
                    return Err(ProcessError::PidFile {
                        path: pid_file.to_owned(),
                        reason: error.to_string(),
                    });
                }
            };
            if !text.trim().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let first = text.lines().next().unwrap_or_default().trim();
        let pid = first.parse().map_err(|_| ProcessError::PidFile {
            path: pid_file.to_owned(),
            reason: if first.is_empty() {
                "it is empty".into()
            } else {
                "it does not hold a process id".into()
            },
        })?;
        Master::open(pid)
    }

    /// Takes hold of a process and proves that it is a master.
    pub fn open(pid: i32) -> Result<Master, ProcessError> {
        if pid <= 1 || pid.cast_unsigned() == std::process::id() {
            let reason = "process 1 and Gatewright itself are never signalled".into();
            return Err(ProcessError::NotMaster { pid, reason });
        }
        let handle = hold(pid)?;
        prove(pid)?;
        let master = Master { pid, handle };
        // What was read is about the process that is held only if that one still lives.
        if master.gone() {
            return Err(gone(pid));
        }
        Ok(master)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended.
    pub fn gone(&self) -> bool {
        ended(&self.handle)
    }

    /// Sends SIGUSR2 as soon as the master handles it. In the first 50 to 80 ms of its life the signal
    /// kills it, and while it loads a configuration the signal is ignored and lost (2.6 to 3.0).
    pub async fn signal_reload(&self, limit: Duration) -> Result<(), ProcessError> {
        let started = Instant::now();
        while !ready(self.pid) {
            if self.gone() {
                return Err(gone(self.pid));
            }
            if started.elapsed() >= limit {
                let waited = started.elapsed();
                return Err(ProcessError::NotReady {
                    pid: self.pid,
                    waited,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pidfd_send_signal(self.handle.as_fd(), Signal::USR2).map_err(|error| match error {
            rustix::io::Errno::SRCH => gone(self.pid),
            other => denied(self.pid, other.into()),
        })?;
        crash::point("signal sent");
        Ok(())
    }

    /// The one master that was started with `-S` for this socket, where it is visible here: for a socket
    /// whose file is gone. `None` also where several were.
    pub fn of_socket(socket: &Path) -> Option<Master> {
        // The workers have the same arguments.
        let mut masters = processes()
            .filter(|pid| runs_haproxy(*pid))
            .filter_map(|pid| Master::open(pid).ok())
            .filter(|master| master.has_socket(socket));
        let master = masters.next()?;
        masters.next().is_none().then_some(master)
    }

    /// Whether it was started with `-S` for this socket. In another mount namespace the path may mean
    /// another one, and the number that it has in another process namespace another process.
    pub fn has_socket(&self, socket: &Path) -> bool {
        let mounts = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let own = mounts("self");
        if own.is_none() || mounts(&self.pid.to_string()) != own {
            return false;
        }
        let directory = std::fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        let wanted = real(socket);
        arguments(self.pid).is_some_and(|arguments| {
            sockets(&arguments).any(|path| real(&directory.join(path)) == wanted)
        })
    }

    /// Whether it handles SIGUSR2 now, so that it is not loading.
    pub fn is_ready(&self) -> bool {
        ready(self.pid)
    }

    /// How many workers it has, old ones included.
    pub fn workers(&self) -> usize {
        workers(self.pid).count()
    }

    /// The master of a worker, where both are visible here.
    pub fn above(worker: i32) -> Result<Master, ProcessError> {
        let parent = status_of(worker).ok_or_else(|| gone(worker))?.parent;
        Master::open(parent)
    }

    /// How it was started; `None` when it has just ended.
    pub fn started(&self) -> Option<Started> {
        let mut line = CommandLine::parse(&arguments(self.pid)?);
        // `master-worker` in its configuration does the same, and lasts until it ends (2.6 to 3.2).
        if !line.flags.iter().any(|flag| flag == "-W") {
            line.flags.push("-W".into());
        }
        Some(Started {
            line,
            directory: std::fs::read_link(format!("/proc/{}/cwd", self.pid)).ok(),
            environment: self.environment(),
        })
    }

    fn environment(&self) -> Option<Environment> {
        let bytes = std::fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        let user = user_of(self.pid)?;
        Some(Environment {
            values: values(&bytes),
            foreign: user != 0 && user != nix::unistd::geteuid().as_raw(),
        })
    }
}

/// As `/proc/PID/status` has it. The owner of `/proc/PID` is root where the process may not be dumped.
fn effective_user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

/// The effective user of a process, where that can be seen.
pub fn user_of(pid: i32) -> Option<u32> {
    effective_user(&status_text(pid)?)
}

/// A mask of signals (`SigCgt:`) or capabilities (`CapEff:`) of a process: a number, or `self`.
pub fn status_mask(process: impl Display, name: &str) -> Option<u64> {
    let text = status_text(process)?;
    let mask = text.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn status_text(process: impl Display) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{process}/status")).ok()
}

/// The content of `/proc/PID/environ`, without what a master hands to itself.
fn values(bytes: &[u8]) -> Values {
    let mut values = Values::new();
    for entry in bytes.split(|byte| *byte == 0) {
        let Some(at) = entry.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let name = OsString::from_vec(entry[..at].to_vec());
        if !name.to_str().is_some_and(is_handed_on) {
            // As getenv(3) finds it, the first one counts.
            let value = || OsString::from_vec(entry[at + 1..].to_vec());
            values.entry(name).or_insert_with(value);
        }
    }
    values
}

/// Watches a process of any kind for its end, whoever its parent is.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Takes hold of a process; `None` when it is not visible here (another pid namespace).
    pub fn new(pid: i32) -> Option<Watch> {
        hold(pid).ok().map(Watch)
    }

    /// Whether it has ended.
    pub fn gone(&self) -> bool {
        ended(&self.0)
    }
}

fn hold(pid: i32) -> Result<OwnedFd, ProcessError> {
    let number = Pid::from_raw(pid).ok_or_else(|| gone(pid))?;
    pidfd_open(number, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH | rustix::io::Errno::INVAL => gone(pid),
        other => denied(pid, other.into()),
    })
}

/// A pidfd becomes readable when its process has ended.
fn ended(handle: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut watched = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut watched, PollTimeout::ZERO), Ok(count) if count > 0)
}

fn gone(pid: i32) -> ProcessError {
    ProcessError::NotRunning {
        reason: format!("there is no process {pid}"),
    }
}

fn denied(pid: i32, cause: std::io::Error) -> ProcessError {
    ProcessError::Denied { pid, cause }
}

fn prove(pid: i32) -> Result<(), ProcessError> {
    let not = |reason: &str| ProcessError::NotMaster {
        pid,
        reason: reason.into(),
    };
    let executable =
        std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|cause| denied(pid, cause))?;
    if !is_haproxy(&executable) {
        return Err(not(&format!("it runs {}", executable.display())));
    }
    let arguments = arguments(pid).ok_or_else(|| gone(pid))?;
    // `master-worker` in `global` makes a master too.
    if !is_master_worker(&arguments) && workers(pid).next().is_none() {
        return Err(not(
            "it was started without -W or -Ws, and has no worker, as it has with `master-worker` in `global`",
        ));
    }
    let parent = status_of(pid).ok_or_else(|| gone(pid))?.parent;
    if runs_haproxy(parent) {
        return Err(not(&format!("it is a worker of the master {parent}")));
    }
    Ok(())
}

/// `haproxy`, also when a package upgrade has replaced the file under the running process.
fn is_haproxy(executable: &Path) -> bool {
    let name = executable.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(" (deleted)").starts_with("haproxy")
}

fn is_master_worker(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "-W" || argument == "-Ws")
}

fn runs_haproxy(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| is_haproxy(&exe))
}

fn workers(master: i32) -> impl Iterator<Item = i32> {
    processes().filter(move |child| parent(*child) == Some(master) && runs_haproxy(*child))
}

/// A path without links in its folders; the file itself may be gone.
fn real(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// The paths of `-S PATH[,OPTION…]`.
fn sockets(arguments: &[OsString]) -> impl Iterator<Item = PathBuf> {
    let values = arguments.windows(2).filter(|pair| pair[0] == "-S");
    values.map(|pair| {
        let bytes = pair[1].as_encoded_bytes();
        let path = bytes.split(|byte| *byte == b',').next().unwrap_or_default();
        let path = path.strip_prefix(b"unix@").unwrap_or(path);
        PathBuf::from(OsString::from_vec(path.to_vec()))
    })
}

/// Whether SIGUSR2 has a handler now and a worker has been there for a while.
fn ready(pid: i32) -> bool {
    let (Some(master), Some(now)) = (status_of(pid), uptime()) else {
        return false;
    };
    let settled = processes()
        .filter_map(status_of)
        .any(|child| child.parent == pid && now - child.started > 0.3);
    now - master.started > 1.0 && settled && catches_reload_signal(pid)
}

fn catches_reload_signal(pid: i32) -> bool {
    status_mask(pid, "SigCgt:").is_some_and(|mask| mask & RELOAD_SIGNAL_BIT != 0)
}

struct Status {
    parent: i32,
    /// Seconds after boot.
    started: f64,
}

fn status_of(pid: i32) -> Option<Status> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent of a process, where that can be seen.
pub fn parent(pid: i32) -> Option<i32> {
    status_of(pid).map(|status| status.parent)
}

/// The name in the second field may hold blanks and parentheses (proc(5)).
fn parse_stat(text: &str) -> Option<Status> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(19)?.parse().ok()?;
    Some(Status {
        parent: fields.get(1)?.parse().ok()?,
        // USER_HZ is 100 on every architecture that HAProxy packages exist for.
        started: ticks / 100.0,
    })
}

fn uptime() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn processes() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn arguments(pid: i32) -> Option<Vec<OsString>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    (!bytes.is_empty()).then(|| {
        bytes
            .split(|byte| *byte == 0)
            .map(|argument| OsString::from_vec(argument.to_vec()))
            .collect()
    })
}

/// A master's command line, reduced to what `-c` must be given to judge alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Flags that can change the verdict.
    pub flags: Vec<OsString>,
    /// The files and directories of `-f` and `--`, in order.
    pub files: Vec<PathBuf>,
}

impl CommandLine {
    /// Reads the arguments, the program's name first. Dropped: what names sockets, pid files and
    /// processes, `-q`, which hides the alerts, and `-C`, which the process's directory shows already. (Flags as in the 2.6 and 3.2 management manuals,
    /// section 3.)
    pub fn parse(arguments: &[OsString]) -> CommandLine {
        let mut line = CommandLine {
            flags: Vec::new(),
            files: Vec::new(),
        };
        let mut rest = arguments.iter().skip(1).peekable();
        while let Some(argument) = rest.next() {
            match argument.to_str().unwrap_or_default() {
                "--" => line.files.extend(rest.by_ref().map(PathBuf::from)),
                "-f" => line.files.extend(rest.next().map(PathBuf::from)),
                "-W" | "-Ws" => line.flags.push("-W".into()),
                "-n" | "-N" | "-m" | "-L" => {
                    line.flags.push(argument.clone());
                    line.flags.extend(rest.next().cloned());
                }
                "-p" | "-S" | "-x" | "-C" => {
                    rest.next();
                }
                "-sf" | "-st" => while rest.next_if(|next| is_number(next)).is_some() {},
                "-D" | "-db" | "-d" | "-q" | "-V" | "-c" => {}
                _ => line.flags.push(argument.clone()),
            }
        }
        line
    }
}

fn is_number(text: &OsStr) -> bool {
    !text.is_empty() && text.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> CommandLine {
        let arguments: Vec<OsString> = text.split(' ').map(OsString::from).collect();
        CommandLine::parse(&arguments)
    }

    // F03
    #[test]
    fn the_command_line_keeps_what_changes_the_verdict() {
        let parsed = line(
            "haproxy -sf 27012 27013 -x sockpair@3 -Ws -S /run/m.sock -p pid -q -dr -n 2000 -f a.cfg -f conf.d -- b.cfg c.cfg",
        );
        assert_eq!(parsed.flags, ["-W", "-dr", "-n", "2000"]);
        let files: Vec<PathBuf> = ["a.cfg", "conf.d", "b.cfg", "c.cfg"]
            .map(PathBuf::from)
            .into();
        assert_eq!(parsed.files, files);
    }

    #[test]
    fn the_master_socket_of_a_command_line_is_read() {
        let text = "haproxy -W -S /run/m.sock,mode,660 -f a.cfg -S unix@m.sock";
        let arguments: Vec<OsString> = text.split(' ').map(OsString::from).collect();
        let found: Vec<PathBuf> = sockets(&arguments).collect();
        assert_eq!(found, [PathBuf::from("/run/m.sock"), "m.sock".into()]);
        assert_eq!(sockets(&[OsString::from("-S")]).count(), 0);
    }

    #[test]
    fn the_effective_user_of_a_process_is_read() {
        let status = "Name:\thaproxy\nUid:\t1000\t99\t1000\t1000\nGid:\t1\t2\t3\t4\n";
        assert_eq!(effective_user(status), Some(99));
        assert_eq!(effective_user("Uid:\t1000\n"), None);
        assert_eq!(effective_user(""), None);
    }

    #[test]
    fn an_environment_is_read_without_what_a_master_hands_to_itself() {
        let read = values(b"A=1\0B=x=y\0HAPROXY_MWORKER_REEXEC=1\0A=2\0junk\0C=\0\0");
        let pairs = [("A", "1"), ("B", "x=y"), ("C", "")];
        let expected: Values = pairs
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        assert_eq!(read, expected);
        assert!(values(b"").is_empty());
    }

    #[test]
    fn a_process_name_with_parentheses_is_read() {
        let text = "17 (ha) proxy (x)) S 4 17 17 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 250 0 0";
        let status = parse_stat(text).unwrap();
        assert_eq!(status.parent, 4);
        assert!((status.started - 2.5).abs() < 1e-9);
        assert!(parse_stat("17 (cut").is_none());
    }

    // G07
    #[tokio::test]
    async fn a_pid_file_that_fills_late_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        assert!(matches!(
            Master::find(&file).await,
            Err(ProcessError::NotRunning { .. })
        ));
        std::fs::write(&file, "").unwrap();
        let late = file.clone();
        let writer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(70)).await;
            std::fs::write(late, "1\n").unwrap();
        });
        let error = Master::find(&file).await.unwrap_err();
        writer.await.unwrap();
        assert!(
            matches!(error, ProcessError::NotMaster { pid: 1, .. }),
            "{error}"
        );
        std::fs::write(&file, "abc").unwrap();
        assert!(matches!(
            Master::find(&file).await,
            Err(ProcessError::PidFile { .. })
        ));
    }
}
