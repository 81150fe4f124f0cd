//! An instance as a process of its own, so that it can be killed or frozen like one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Form;
use crate::process::{Process, command};
use crate::{Outcome, wait_for};

/// A running instance. When dropped it is killed.
pub struct Instance {
    /// Its name, which it answers with.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl Instance {
    /// Starts `program --instance NAME [--framed] [--service SERVICE]`, which is the example `airavata`, and
    /// waits until it says where it listens.
    pub fn start(program: &Path, name: &str, form: &Form, directory: &Path) -> Outcome<Instance> {
        let mut words = vec!["--instance", name];
        if form.framed {
            words.push("--framed");
        }
        if let Some(service) = &form.service {
            words.extend(["--service", service]);
        }
        let log = directory.join(format!("{name}.log"));
        // One that was there before under this name has left its own words.
        let _ = std::fs::remove_file(&log);
        let mut process = Process::start(name, &mut command(program, words), &log)?;
        let address = wait_for(Duration::from_secs(60), &format!("instance {name}"), || {
            let output = process.output();
            if !process.is_running() {
                return Some(Err(format!("Instance {name} ended: {output}")));
            }
            output.strip_suffix('\n')?.parse().ok().map(Ok)
        })??;
        Ok(Instance {
            name: name.to_owned(),
            address,
            process,
        })
    }

    /// Freezes it: the system still takes connections for it, and nothing is answered.
    pub fn hang(&mut self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen one go on.
    pub fn go_on(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Kills it without notice, as a spot instance is. It is gone when this returns.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
