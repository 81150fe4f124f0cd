//! A HAProxy with servers that answer, an applier beside it, and the one question that every test ends
//! with: are the files, the worker and its revision equal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatewright::apply::execute::{Applier, Means, Options, Verdict};
use gatewright::apply::gate::Rules;
use gatewright::apply::journal;
use gatewright::apply::plan::{self, Difference};
use gatewright::apply::set::{Candidate, REVISION_VARIABLE, Role, SetFile, revision_variable};
use gatewright::apply::tell::Mode;
use gatewright::haproxy::master::{MasterSocket, Processes};
use gatewright::haproxy::runtime::{self, ServerRow, Session};
use gatewright::haproxy::stats::{Running, WorkerSocket};
use support::haproxies::Version;
use support::ports;
use tokio::task::JoinHandle;

use super::super::open;
use super::proxy::Proxy;
use crate::real::{Haproxy, get};

const LONG: Duration = Duration::from_secs(20);

/// Which servers `backend web` has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Servers {
    Former,
    Next,
    /// The former ones under another time-out, which only a reload brings.
    Loaded,
    /// What `haproxy -c` refuses.
    Refused,
    /// What `haproxy -c` accepts and HAProxy cannot load: a socket that it cannot make.
    Rejected,
}

/// HAProxy, and the proxies before its sockets.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub version: Version,
    ports: [u16; 10],
    /// Of its stats socket.
    level: &'static str,
    main: PathBuf,
    pub stats: Option<Proxy>,
    pub master: Option<Proxy>,
    reloads: u64,
    haproxy: Option<Haproxy>,
}

impl Bench {
    /// With HAProxy on the former servers.
    pub async fn start(version: &Version, level: &'static str) -> Bench {
        let mut bench = Bench::new(version, level);
        let former = bench.set(Servers::Former).files.remove(0).text;
        bench.run(&former).await;
        bench
    }

    fn new(version: &Version, level: &'static str) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        Bench {
            main: directory.path().join("haproxy.cfg"),
            directory,
            version: version.clone(),
            ports: ports::free().unwrap(),
            level,
            stats: None,
            master: None,
            reloads: 0,
            haproxy: None,
        }
    }

    async fn run(&mut self, text: &str) {
        std::fs::write(&self.main, text).unwrap();
        self.haproxy = Some(Haproxy::start(&self.version, self.path(), &self.main).await);
        self.worker().await;
        self.reloads = self.processes().await.master.reloads;
    }

    /// Once more, from the files as they are; nobody stands before its socket any more.
    pub async fn again(&mut self) {
        self.stats = None;
        self.haproxy = None;
        self.haproxy = Some(Haproxy::start(&self.version, self.path(), &self.main).await);
        self.worker().await;
        self.reloads = self.processes().await.master.reloads;
    }

    /// On the former servers as somebody has written them, with a proxy before the stats socket.
    pub async fn by_hand(version: &Version) -> Bench {
        let mut bench = Bench::written_by_hand(version).await;
        bench.stats = Some(Proxy::before(&bench.socket()));
        bench
    }

    /// The same without a proxy.
    pub async fn written_by_hand(version: &Version) -> Bench {
        let mut bench = Bench::new(version, "admin");
        let text = bench.text(Servers::Former);
        bench.run(&text).await;
        bench
    }

    /// On a configuration that stands elsewhere.
    pub async fn at(version: &Version, main: PathBuf) -> Bench {
        let mut bench = Bench::new(version, "admin");
        bench.main = main;
        let former = bench.set(Servers::Former).files.remove(0).text;
        bench.run(&former).await;
        bench.stats = Some(Proxy::before(&bench.socket()));
        bench
    }

    /// The same with a proxy before the stats socket, which takes the commands.
    pub async fn with_proxy(version: &Version) -> Bench {
        let mut bench = Bench::start(version, "admin").await;
        bench.stats = Some(Proxy::before(&bench.socket()));
        bench
    }

    pub fn proxy(&self) -> &Proxy {
        self.stats.as_ref().or(self.master.as_ref()).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn main(&self) -> PathBuf {
        self.main.clone()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("stats.sock")
    }

    pub fn master_path(&self) -> PathBuf {
        self.path().join("master.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub fn port(&self) -> u16 {
        self.ports[9]
    }

    pub fn set(&self, servers: Servers) -> Candidate {
        Candidate::new(vec![SetFile {
            destination: self.main(),
            role: Role::Config,
            mode: None,
            text: self.text(servers),
        }])
    }

    /// Without a revision, as somebody writes it by hand.
    pub fn text(&self, servers: Servers) -> String {
        let server = |name: &str, port: usize, rest: &str| {
            let port = self.ports[port];
            format!("    server {name} 127.0.0.1:{port} {rest}\n")
        };
        let broken = match servers {
            Servers::Rejected => "    stats socket /no/such/directory/x.sock\n",
            _ => "",
        };
        let limit = match servers {
            Servers::Loaded => 6,
            _ => 5,
        };
        let mut text = format!(
            "global\n    stats socket {} level {}\n{broken}    hard-stop-after 5s\n    httpclient.ssl.verify none\n\
             defaults\n    mode http\n    option idle-close-on-response\n    http-reuse never\n    timeout connect 5s\n    timeout client 5s\n    timeout server {limit}s\n\
             frontend all-servers\n",
            self.socket().display(),
            self.level
        );
        for port in &self.ports[..9] {
            text += &format!("    bind 127.0.0.1:{port}\n");
        }
        text +=
            "    http-request return status 200 content-type text/plain lf-string %[dst_port]\n";
        text += &format!(
            "frontend f\n    bind 127.0.0.1:{}\n    default_backend web\nbackend web\n    balance roundrobin\n",
            self.port()
        );
        text += &server("keep1", 0, "weight 10 id 1");
        text += &server("keep2", 1, "weight 10 id 2 check");
        match servers {
            Servers::Former | Servers::Loaded | Servers::Rejected | Servers::Refused => {
                text += &server("moved", 2, "weight 10 id 3");
                text += &server("weighed", 3, "weight 10 id 4");
                text += &server("gone1", 4, "weight 10 id 5");
                text += &server("gone2", 5, "weight 10 id 6 check");
                if servers == Servers::Refused {
                    text += "    nonsense\n";
                }
            }
            Servers::Next => {
                text += &server("moved", 6, "weight 10 id 3");
                text += &server("weighed", 3, "weight 20 id 4");
                text += &server("new1", 7, "weight 10 id 7 check");
                text += &server("new2", 8, "weight 10 id 8");
            }
        }
        text
    }

    pub fn options(&self) -> Options {
        let mut options = Options::new(
            self.state(),
            vec![(self.main(), Role::Config)],
            Mode::Master {
                socket: self.master_path(),
            },
            self.version.program().to_owned(),
        );
        options.confirm_timeout = Duration::from_secs(15);
        options.max_old_workers = 50;
        if self.stats.is_some() {
            options.stats_socket = Some(self.socket().into());
        }
        options
    }

    pub fn applier(&self) -> Applier {
        open(self.options(), Rules::default())
    }

    /// An applier that knows that the former servers run.
    pub async fn settled(&self) -> Applier {
        self.settled_with(self.options()).await
    }

    pub async fn settled_with(&self, options: Options) -> Applier {
        let mut applier = open(options, Rules::default());
        let verdict = applier.apply(&self.set(Servers::Former), Means::Any).await;
        assert!(matches!(verdict, Verdict::Unchanged), "{verdict:?}");
        assert!(applier.observe().await.servers.differs.is_none());
        applier
    }

    /// The master's own list, past every proxy.
    pub async fn processes(&self) -> Processes {
        let master = MasterSocket {
            path: self.real_master(),
            limit: Duration::from_secs(5),
        };
        master.processes_within(LONG).await.unwrap()
    }

    pub fn real_master(&self) -> PathBuf {
        match &self.master {
            Some(_) => super::proxy::behind(&self.master_path()),
            None => self.master_path(),
        }
    }

    /// What the serving worker runs, past every proxy.
    pub async fn worker(&self) -> (Running, Vec<ServerRow>) {
        let session = Session {
            socket: WorkerSocket::Master(self.real_master()),
            version: runtime::Version::new(2, 6, 0),
            limit: Duration::from_secs(5),
            variable: revision_variable(&self.main()),
        };
        let deadline = Instant::now() + LONG;
        loop {
            match session.servers(None).await {
                Ok((running, rows)) if !running.stopping => return (running, rows),
                answer => assert!(Instant::now() < deadline, "no worker: {answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the serving worker answers in time.
    pub async fn responds(&self) -> bool {
        let socket = WorkerSocket::Master(self.real_master());
        let answer = socket
            .running(Duration::from_secs(5), REVISION_VARIABLE)
            .await;
        answer.is_ok_and(|running| !running.stopping)
    }

    /// Applies as the agent does: by commands, by a reload where only that does, once more after a
    /// failure; and looks until nothing is left to do. Says what came of it.
    pub async fn bring(&self, applier: &mut Applier, servers: Servers) -> Vec<String> {
        let candidate = self.set(servers);
        let mut told = Vec::new();
        let mut means = Means::Commands;
        for _ in 0..6 {
            let verdict = applier.apply(&candidate, means).await;
            told.push(format!("{verdict:?}"));
            means = match verdict {
                Verdict::Confirmed { .. } | Verdict::Unchanged => {
                    let seen = applier.observe().await;
                    if !seen.diverges() && seen.servers.differs.is_none() {
                        return told;
                    }
                    told.push(format!("{seen:?}"));
                    match seen.servers.differs {
                        Some(_) => Means::Reload,
                        None => Means::Commands,
                    }
                }
                Verdict::NeedsReload { .. } => Means::Any,
                _ => Means::Commands,
            };
        }
        panic!("it does not end: {told:#?}");
    }

    /// Looks until what was removed is gone, so that the next round adds it anew.
    pub async fn tidy(&self, applier: &mut Applier) {
        let deadline = Instant::now() + LONG;
        while !applier.observe().await.servers.leaving.is_empty() {
            assert!(Instant::now() < deadline, "removed servers stay");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fails, with the place, unless all are equal.
    pub async fn assert_equal(&self, servers: Servers, place: &str) {
        if let Err(why) = self.equal(servers).await {
            panic!("{place}: {why}");
        }
    }

    /// The files hold these servers, the worker runs what the files hold, and it carries their
    /// revision. Says what is not so.
    async fn equal(&self, servers: Servers) -> Result<(), String> {
        let wanted = self.set(servers);
        let text = std::fs::read_to_string(self.main()).unwrap();
        if text != wanted.files[0].text {
            return Err(format!("the file is not that of {servers:?}: {text}"));
        }
        let (running, rows) = self.worker().await;
        if running.revision.as_ref() != Some(&wanted.revision) || running.changing.is_some() {
            return Err(format!("wanted revision {}: {running:?}", wanted.revision));
        }
        for pool in plan::pools(&wanted.files) {
            let mut found = pool.compare(rows.iter().filter(|row| row.backend == pool.backend));
            found.retain(|(_, what)| *what != Difference::Leaving);
            if !found.is_empty() {
                return Err(format!("{found:?}"));
            }
        }
        match journal::recover(&self.state()).unwrap() {
            None => Ok(()),
            Some(_) => Err("the journal holds a change".to_owned()),
        }
    }

    /// How many reloads there were since the last question.
    pub async fn reloads(&mut self) -> u64 {
        let now = self.processes().await.master.reloads;
        let count = now - self.reloads;
        self.reloads = now;
        count
    }
}

/// Requests all the while, and how many of them failed.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Traffic {
    pub fn to(port: u16) -> Traffic {
        Traffic::paced(port, Duration::ZERO)
    }

    /// With a pause after each request.
    pub fn paced(port: u16, pause: Duration) -> Traffic {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (ends, counts): (_, Arc<AtomicUsize>) = (Arc::clone(&stop), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                if let Err(error) = get(port).await {
                    eprintln!("a request failed: {error}");
                    counts.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(pause).await;
            }
        });
        Traffic { stop, failed, task }
    }

    pub async fn failed(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.failed.load(Ordering::Relaxed)
    }
}
