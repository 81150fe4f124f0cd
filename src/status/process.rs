//! What this process costs, read from /proc when somebody asks.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// This process's own use of the machine. What cannot be read is 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The most that it may have.
    pub max_fds: u64,
    /// Processor time since the start, in user and system mode.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: u64,
    /// Its children alive: a validation, and under `supervise` HAProxy's master.
    pub children: u64,
}

impl Process {
    /// As it is now.
    pub fn read() -> Process {
        let page = rustix::param::page_size() as u64;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = pages.split(' ').nth(1).and_then(|text| text.parse().ok());
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in parentheses may hold anything; utime is the 12th field after it (proc(5)).
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse().ok());
        Process {
            resident_bytes: pages.unwrap_or(0u64) * page,
            open_fds: entries("/proc/self/fd").saturating_sub(1),
            max_fds: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
                .map_or(0, |(soft, _)| soft),
            cpu_seconds: (field(11).unwrap_or(0u64) + field(12).unwrap_or(0u64)) as f64 / ticks,
            threads: field(17).unwrap_or(0),
            children: children(),
        }
    }
}

fn entries(folder: &str) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| entries.count() as u64)
}

/// Each thread has the children that it has made.
fn children() -> u64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return 0;
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .map(|children| children.split_whitespace().count() as u64)
        .sum()
}

/// The wall clock in seconds; only shown, nothing is decided by it.
pub fn wall_clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let process = Process::read();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.open_fds >= 3, "{process:?}");
        assert!(process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.threads >= 1, "{process:?}");
    }
}
