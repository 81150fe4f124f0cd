//! The master's command socket: which processes there are, and a reload with its outcome.
//!
//! One reload at a time, each awaited: a second one that comes while the first loads is lost or
//! refused, and on 3.2 it resets clients. Decides nothing about what to do with an outcome.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::address::Address;
use super::process::Watch;
use super::socket::{SocketError, ask};

/// What a master says that is still starting, or loading for somebody else (3.2).
const IN_PROGRESS: &str = "Another reload is still in progress";

/// Between two tries while the master replaces itself.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two looks at a master that is to answer.
const LOOK: Duration = Duration::from_millis(200);

/// A master that has counted a reload and has no worker for this long has failed.
const NO_WORKER: Duration = Duration::from_millis(300);

/// A master's command socket (`-S`).
#[derive(Debug, Clone)]
pub struct MasterSocket {
    /// Where it is.
    pub path: PathBuf,
    /// For one question and answer; a reload has a limit of its own.
    pub limit: Duration,
}

/// How a reload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// A new worker has loaded the configuration.
    Loaded {
        /// What HAProxy printed (2.7 and later).
        output: String,
    },
    /// The configuration was not loaded; the former worker serves on.
    Failed {
        /// What HAProxy printed (2.7 and later; 2.6 tells nothing here).
        output: String,
    },
    /// The master itself has ended, as it does before 3.1 when the new worker fails after the fork.
    MasterGone {
        /// Its former worker still lived then. A master that ends by itself, or of SIGTERM, ends its
        /// workers first; that of a master that was killed lives on for a second (2.6 to 3.2).
        killed: bool,
    },
}

/// A master that is about to load, and its worker, watched for their ends.
#[derive(Debug)]
pub struct Watched {
    master: Option<Watch>,
    worker: Option<Watch>,
}

impl Watched {
    /// Takes hold of both, as far as they are visible here.
    pub fn new(master: i32, worker: Option<i32>) -> Watched {
        Watched {
            master: Watch::new(master),
            worker: worker.and_then(Watch::new),
        }
    }

    /// Whether the master has ended.
    pub fn gone(&self) -> bool {
        self.master.as_ref().is_some_and(Watch::gone)
    }

    /// Whether it looks as if somebody had killed the master: its worker outlives it.
    pub fn killed(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| !worker.gone())
    }

    fn outcome(&self) -> Reload {
        Reload::MasterGone {
            killed: self.killed(),
        }
    }
}

/// One line of `show proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// For the master the reloads it has done, for a worker those it has outlived.
    pub reloads: u64,
    /// For the master: failed reloads since the last good one.
    pub failed: u64,
    /// HAProxy's version.
    pub version: String,
}

/// What `show proc` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// The master.
    pub master: Process,
    /// The worker that serves. Empty after a failed reload on 3.2, which then lists the serving one
    /// among the old.
    pub workers: Vec<Process>,
    /// Workers that only finish their connections.
    pub old_workers: Vec<Process>,
}

impl Processes {
    /// Reads the answer of any version from 2.4 to 3.2.
    pub fn parse(text: &str) -> Option<Processes> {
        let mut master = None;
        let mut workers = Vec::new();
        let mut old_workers = Vec::new();
        let mut old = false;
        for line in text.lines() {
            if line.starts_with('#') {
                old = line.starts_with("# old workers");
                continue;
            }
            let Some((kind, process)) = parse_line(line) else {
                continue;
            };
            match kind {
                "master" => master = Some(process),
                "worker" if old => old_workers.push(process),
                "worker" => workers.push(process),
                _ => {}
            }
        }
        Some(Processes {
            master: master?,
            workers,
            old_workers,
        })
    }

    /// Workers that only finish their connections, the 3.2 quirk taken into account.
    pub fn old_count(&self) -> usize {
        self.old_workers
            .len()
            .saturating_sub(usize::from(self.workers.is_empty()))
    }
}

/// `23440   master  3 [failed: 1]   0d00h00m03s   2.6.12-1+deb12u4`
fn parse_line(line: &str) -> Option<(&str, Process)> {
    let (line, failed) = match (line.find("[failed:"), line.find(']')) {
        (Some(open), Some(close)) if open < close => {
            let failed = line[open + 8..close].trim().parse().ok()?;
            (format!("{}{}", &line[..open], &line[close + 1..]), failed)
        }
        _ => (line.to_owned(), 0),
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = match *words.get(1)? {
        "master" => "master",
        "worker" => "worker",
        _ => return None,
    };
    let process = Process {
        pid: words[0].parse().ok()?,
        reloads: words.get(2)?.parse().ok()?,
        failed,
        version: words.get(4).copied().unwrap_or_default().to_owned(),
    };
    Some((kind, process))
}

impl MasterSocket {
    fn address(&self) -> Address {
        Address::File(self.path.clone())
    }

    /// Sends one command to the master.
    pub async fn command(&self, line: &str) -> Result<String, SocketError> {
        ask(&self.address(), line, self.limit).await
    }

    /// Sends one command to the serving worker. One command only: after a `;` the next one would go
    /// to the master.
    pub async fn worker_command(&self, line: &str) -> Result<String, SocketError> {
        self.command(&format!("@1 {line}")).await
    }

    /// Lists the processes once.
    pub async fn processes(&self) -> Result<Processes, SocketError> {
        let answer = self.command("show proc").await?;
        Processes::parse(&answer).ok_or_else(|| match answer.trim() {
            "" => SocketError::Cut {
                socket: self.address(),
            },
            _ => SocketError::strange(&self.address(), "show proc", &answer),
        })
    }

    /// Lists the processes, trying again while the master replaces itself.
    pub async fn processes_within(&self, limit: Duration) -> Result<Processes, SocketError> {
        let started = Instant::now();
        loop {
            match self.processes().await {
                Err(error) if error.may_pass() && started.elapsed() < limit => {}
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reloads and waits for the outcome. A refused or unanswered request (somebody else reloads) is
    /// made again until the limit.
    pub async fn reload(&self, limit: Duration) -> Result<Reload, SocketError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let before = self.processes_within(left).await?;
            let watched = Watched::new(before.master.pid, worker_of(&before));
            let left = deadline.saturating_duration_since(Instant::now());
            let socket = self.address();
            let answer = tokio::select! {
                answer = ask(&socket, "reload", left) => answer,
                // Cancel safe: the request was made, and this master will not answer it.
                () = self.exchanged(&before) => Ok(String::new()),
            };
            let outcome = match answer {
                Ok(answer) => match parse_reply(&answer) {
                    // It says nothing about this configuration; the next try does.
                    Some(Reload::Failed { output }) if output.contains(IN_PROGRESS) => None,
                    Some(outcome) => Some(outcome),
                    None => self.follow(&before, &watched, deadline).await?,
                },
                Err(SocketError::Cut { .. }) => self.follow(&before, &watched, deadline).await?,
                Err(error) if error.may_pass() => None,
                Err(error) => return Err(error),
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if watched.gone() {
                return Ok(watched.outcome());
            }
            if Instant::now() >= deadline {
                return Err(SocketError::TimedOut {
                    socket: self.address(),
                    limit,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends when the master has become one of a version that does not answer `reload`: its program was
    /// exchanged for an older one, and it keeps the connection of the request open.
    async fn exchanged(&self, before: &Processes) {
        if !answers_reload(&before.master.version) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            if let Ok(now) = self.processes().await
                && !answers_reload(&now.master.version)
            {
                return;
            }
        }
    }

    /// After a request without an answer. 2.6 never answers: there its counter tells, which moves
    /// when the load is over. `None`: newer versions answer unless another reload came between, so
    /// the request has to be made again. The version is that of the moment: a master that replaces
    /// itself becomes what is on the disk.
    async fn follow(
        &self,
        before: &Processes,
        watched: &Watched,
        deadline: Instant,
    ) -> Result<Option<Reload>, SocketError> {
        let mut counted = None;
        loop {
            if watched.gone() {
                return Ok(Some(watched.outcome()));
            }
            match self.processes().await {
                Ok(now) if now.master.pid != before.master.pid => {
                    return Ok(Some(watched.outcome()));
                }
                Ok(now)
                    if now.master.reloads > before.master.reloads
                        && !always_answers(before, &now) =>
                {
                    let counted = *counted.get_or_insert_with(Instant::now);
                    // Without any worker the new one has failed after the fork: the master is about to
                    // end, or lives on with nobody serving (both seen on 2.6.12).
                    if !now.workers.is_empty() || counted.elapsed() > NO_WORKER {
                        return Ok(Some(compare(before, &now)));
                    }
                }
                Ok(now) if answers_reload(&now.master.version) => return Ok(None),
                Ok(_) => {}
                // While it loads it may take the question and answer later, for two seconds where an
                // address is taken (2.6).
                Err(SocketError::TimedOut { .. }) => {}
                Err(error) if error.may_pass() => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(SocketError::TimedOut {
                    socket: self.address(),
                    limit: self.limit,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether the master was and is of a version that answers `reload`.
fn always_answers(before: &Processes, now: &Processes) -> bool {
    answers_reload(&before.master.version) && answers_reload(&now.master.version)
}

/// The worker that serves, the 3.2 quirk taken into account.
fn worker_of(processes: &Processes) -> Option<i32> {
    let all = processes.workers.iter().chain(&processes.old_workers);
    all.map(|worker| worker.pid).next()
}

/// Success is no failed reload and another worker (right in 30 of 30 reloads, good and bad, on 2.6).
fn compare(before: &Processes, now: &Processes) -> Reload {
    let worker = |processes: &Processes| processes.workers.first().map(|worker| worker.pid);
    let output = String::new();
    if now.master.failed == 0 && worker(now).is_some() && worker(now) != worker(before) {
        Reload::Loaded { output }
    } else {
        Reload::Failed { output }
    }
}

/// The answer of 2.7 and later: `Success=1`, `--`, and what HAProxy printed while loading.
fn parse_reply(answer: &str) -> Option<Reload> {
    let (first, rest) = answer.split_once('\n')?;
    let output = rest.strip_prefix("--\n").unwrap_or(rest).trim().to_owned();
    match first.trim() {
        "Success=1" => Some(Reload::Loaded { output }),
        "Success=0" => Some(Reload::Failed { output }),
        _ => None,
    }
}

/// Whether this version answers `reload` with the outcome: 2.7 and later.
fn answers_reload(version: &str) -> bool {
    let mut numbers = version
        .split(|character: char| !character.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (2, 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER_A_FAILURE_2_6: &str = "\
#<PID>          <type>          <reloads>       <uptime>        <version>      
23440           master          3 [failed: 1]   0d00h00m03s     2.6.12-1+deb12u4
# workers
23466           worker          1               0d00h00m02s     2.6.12-1+deb12u4
# programs

";
    const OLD_WORKERS_3_2: &str = "\
#<PID>          <type>          <reloads>       <uptime>        <version>      
2430            master          4 [failed: 0]   0d00h00m06s     3.2.26-1       
# workers
2473            worker          0               0d00h00m02s     3.2.26-1       
# old workers
2456            worker          1               0d00h00m03s     3.2.26-1       


";
    const AFTER_A_FAILURE_3_2: &str = "\
#<PID>          <type>          <reloads>       <uptime>        <version>      
2430            master          5 [failed: 1]   0d00h00m06s     3.2.26-1       
# workers
# old workers
2473            worker          1               0d00h00m03s     3.2.26-1       

";

    #[test]
    fn show_proc_of_every_version_is_read() {
        let failed = Processes::parse(AFTER_A_FAILURE_2_6).unwrap();
        assert_eq!((failed.master.reloads, failed.master.failed), (3, 1));
        assert_eq!(failed.master.version, "2.6.12-1+deb12u4");
        assert_eq!((failed.workers[0].pid, failed.old_count()), (23466, 0));
        let old = Processes::parse(OLD_WORKERS_3_2).unwrap();
        assert_eq!((old.workers[0].pid, old.old_count()), (2473, 1));
        let quirk = Processes::parse(AFTER_A_FAILURE_3_2).unwrap();
        assert_eq!((quirk.workers.len(), quirk.old_count()), (0, 0));
        assert_eq!(Processes::parse(""), None);
        assert_eq!(Processes::parse("Unknown command: show proc\n"), None);
    }

    #[test]
    fn a_reload_of_2_6_is_judged_by_counter_and_worker() {
        let before = Processes::parse(AFTER_A_FAILURE_2_6).unwrap();
        let mut good = before.clone();
        good.master.failed = 0;
        good.workers[0].pid += 1;
        assert!(matches!(compare(&before, &good), Reload::Loaded { .. }));
        assert!(matches!(compare(&before, &before), Reload::Failed { .. }));
    }

    #[test]
    fn a_reload_of_2_7_and_later_answers_itself() {
        let reply = "Success=0\n--\n[NOTICE] (1) : x\n[ALERT] (1) : y\n\n";
        let Some(Reload::Failed { output }) = parse_reply(reply) else {
            panic!("failed");
        };
        assert_eq!(output, "[NOTICE] (1) : x\n[ALERT] (1) : y");
        assert!(matches!(
            parse_reply("Success=1\n--\n"),
            Some(Reload::Loaded { .. })
        ));
        assert_eq!(parse_reply(""), None);
        let versions = ["2.6.12-1+deb12u4", "2.7.0", "2.8.25-5cf5d0683", "3.0-dev1"];
        assert_eq!(
            versions.map(answers_reload),
            [false, true, true, true],
            "by version"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).{0,200}") {
            let _ = Processes::parse(&text);
            let _ = Processes::parse(&format!("1 master {text}"));
            let _ = parse_reply(&text);
            let _ = answers_reload(&text);
        }
    }
}
