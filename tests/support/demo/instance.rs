//! An instance of the service: a process of its own, so that it can be killed like one.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::backend::Backend;
use crate::process::{Process, command};
use crate::{Outcome, http, wait_for};

/// A running instance. When dropped it is killed.
pub struct Instance {
    /// Its name, which is also its service id.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl Instance {
    /// Starts this program again as an instance and waits until it says where it listens.
    pub fn start(name: &'static str, directory: &Path) -> Outcome<Instance> {
        let own = std::env::current_exe()
            .map_err(|error| format!("The path of this program is not known: {error}."))?;
        let log = directory.join(format!("{name}.log"));
        // Of a former one of this name; it would be read as this one's.
        let _ = std::fs::remove_file(&log);
        let mut process = Process::start(name, &mut command(&own, ["--instance", name]), &log)?;
        let address = wait_for(Duration::from_secs(10), &format!("instance {name}"), || {
            let output = process.output();
            if !process.is_running() {
                return Some(Err(format!("Instance {name} ended: {output}")));
            }
            let whole = output.split_inclusive('\n');
            let mut lines = whole.filter_map(|line| line.strip_suffix('\n'));
            lines.find_map(|line| line.parse().ok()).map(Ok)
        })
        .map_err(|error| format!("{error} It wrote: {:?}", process.output()))??;
        Ok(Instance {
            name,
            address,
            process,
        })
    }

    /// Makes `/health` answer 200 or 503. Everything else is answered as before.
    pub fn set_healthy(&self, healthy: bool) -> Outcome<()> {
        let path = if healthy {
            "/health/pass"
        } else {
            "/health/fail"
        };
        http::put(self.address, path, "")
            .map(drop)
            .map_err(|error| format!("Instance {} does not answer: {error}.", self.name))
    }

    /// Kills it without notice.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// Is an instance, until the standard input ends: that is when the starter has gone, however it went.
pub fn serve(name: &str) -> Outcome<()> {
    let backend = Backend::start(name)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", backend.address())
        .and_then(|()| out.flush())
        .map_err(|error| format!("The address cannot be told: {error}."))?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
