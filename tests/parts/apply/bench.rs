//! A directory with one destination, whose page says a word, and the HAProxy and the applier beside it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatewright::apply::execute::{Applier, Means, Options, Verdict};
use gatewright::apply::gate::Rules;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::apply::tell::Mode;
use gatewright::haproxy::process::Master;
use gatewright::haproxy::supervise::{Status, Supervisor};
use support::haproxies::Version;

use super::open;
use crate::real::{Haproxy, configuration, free_port, get};

/// A directory with a destination, a port and what is started for it.
pub struct Bench {
    directory: tempfile::TempDir,
    pub version: Version,
    pub port: u16,
    pub haproxy: Option<Haproxy>,
    /// Masters that outlive their supervisor.
    masters: Vec<i32>,
}

/// How HAProxy is told of new files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Master,
    Supervise,
    Signal,
    Command,
}

impl Bench {
    pub fn new(version: &Version) -> Bench {
        Bench {
            directory: tempfile::tempdir().unwrap(),
            version: version.clone(),
            port: free_port(),
            haproxy: None,
            masters: Vec::new(),
        }
    }

    /// With a HAProxy on a configuration that somebody wrote by hand.
    pub async fn with_haproxy(version: &Version) -> Bench {
        let mut bench = Bench::new(version);
        std::fs::write(bench.main(), bench.text("by-hand")).unwrap();
        bench.haproxy = Some(Haproxy::start(version, bench.path(), &bench.main()).await);
        bench
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn main(&self) -> PathBuf {
        self.path().join("haproxy.cfg")
    }

    pub fn text(&self, word: &str) -> String {
        configuration(self.path(), self.port, word)
    }

    pub fn set(&self, text: String) -> Candidate {
        Candidate::new(vec![SetFile {
            destination: self.main(),
            role: Role::Config,
            mode: None,
            text,
        }])
    }

    pub fn options(&self, way: Way) -> Options {
        let socket = self.path().join("master.sock");
        let mode = match way {
            Way::Master => Mode::Master { socket },
            Way::Supervise => Mode::Supervise {
                socket,
                stop_limit: Duration::from_secs(5),
            },
            Way::Signal => Mode::Signal {
                pid_file: self.path().join("pid"),
            },
            Way::Command => {
                let pid = self.path().join("pid");
                let script = format!("kill -USR2 $(cat {})", pid.display());
                Mode::Command {
                    argv: ["sh".into(), "-c".into(), OsString::from(script)].into(),
                }
            }
        };
        let mut options = Options::new(
            self.path().join("state"),
            vec![(self.main(), Role::Config)],
            mode,
            self.version.program().to_owned(),
        );
        options.confirm_timeout = Duration::from_secs(15);
        if matches!(way, Way::Signal | Way::Command) {
            options.stats_socket = Some(self.path().join("stats.sock").into());
        }
        options
    }

    pub fn applier(&self, way: Way) -> Applier {
        open(self.options(way), Rules::default())
    }

    /// Applies and keeps hold of a supervised HAProxy.
    pub async fn apply(&mut self, applier: &mut Applier, text: String) -> Verdict {
        let verdict = applier.apply(&self.set(text), Means::Any).await;
        if let Some(supervisor) = applier.supervisor() {
            self.note(&supervisor);
        }
        verdict
    }

    pub fn note(&mut self, supervisor: &Supervisor) {
        if let Status::Running { pid } | Status::Starting { pid } = supervisor.status() {
            self.masters.push(pid);
        }
    }

    pub fn live(&self) -> String {
        std::fs::read_to_string(self.main()).unwrap()
    }

    /// Nothing of ours lies beside the destination but the lock.
    pub fn assert_clean(&self) {
        let names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("gatewright-"))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }

    pub async fn serves(&self, word: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = get(self.port).await;
            if matches!(&answer, Ok(body) if body == word) {
                return;
            }
            assert!(Instant::now() < deadline, "wanted {word}, got {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in &self.masters {
            if Master::open(*pid).is_ok() {
                let group = nix::unistd::Pid::from_raw(*pid);
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

pub fn confirmed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Confirmed { .. })
}
