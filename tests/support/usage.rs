//! What a process has used, read from /proc (Linux, proc(5)): processor time with that of the children
//! it waited for, memory, connections.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_link, read_to_string};

use nix::unistd::{SysconfVar, sysconf};

use super::Outcome;
use super::process::{descendants, exists};

/// Processor time in milliseconds, in steps of the kernel's tick (10 ms).
#[derive(Debug, Clone, Copy, Default)]
pub struct Time {
    /// The process itself, user and system.
    pub own: f64,
    /// Children that ended and were waited for.
    pub children: f64,
}

/// What a process has used of the processor since its start.
pub fn time(pid: u32) -> Outcome<Time> {
    let stat = read(pid, "stat")?;
    // The name in parentheses may hold anything.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let words: Vec<f64> = rest
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0.0))
        .collect();
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let sum = |from: usize| {
        let both = words.get(from..from + 2).unwrap_or_default();
        both.iter().sum::<f64>() * 1000.0 / ticks as f64
    };
    Ok(Time {
        own: sum(11),
        children: sum(13),
    })
}

/// Resident memory in megabytes (10⁶ bytes): now, and the most there ever was.
pub fn memory(pid: u32) -> Outcome<(f64, f64)> {
    let status = read(pid, "status")?;
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024.0 / 1e6)
    };
    match (value("VmRSS:"), value("VmHWM:")) {
        (Some(now), Some(most)) => Ok((now, most)),
        _ => Err(format!("/proc/{pid}/status names no memory.")),
    }
}

/// How many descriptors the process has open.
pub fn descriptors(pid: u32) -> Outcome<usize> {
    let folder = format!("/proc/{pid}/fd");
    read_dir(&folder)
        .map(Iterator::count)
        .map_err(|error| format!("{folder} cannot be read: {error}."))
}

/// How many threads it has.
pub fn threads(pid: u32) -> Outcome<usize> {
    let folder = format!("/proc/{pid}/task");
    read_dir(&folder)
        .map(Iterator::count)
        .map_err(|error| format!("{folder} cannot be read: {error}."))
}

/// Its descendants that have ended and that nobody has waited for.
pub fn zombies(pid: u32) -> usize {
    descendants(pid)
        .into_iter()
        .filter(|child| !exists(*child))
        .count()
}

/// How many established TCP connections to a port the process has.
pub fn connections(pid: u32, port: u16) -> Outcome<usize> {
    let folder = format!("/proc/{pid}/fd");
    let files = read_dir(&folder).map_err(|error| format!("{folder} cannot be read: {error}."))?;
    let own: BTreeSet<String> = files
        .flatten()
        .filter_map(|file| Some(read_link(file.path()).ok()?.to_str()?.to_owned()))
        .collect();
    let table = ["net/tcp", "net/tcp6"].map(|name| read(pid, name).unwrap_or_default());
    let suffix = format!(":{port:04X}");
    let ours = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [Some(remote), Some(state), Some(inode)] = [2, 3, 9].map(|at| words.get(at)) else {
            return false;
        };
        let established = *state == "01";
        established && remote.ends_with(&suffix) && own.contains(&format!("socket:[{inode}]"))
    };
    Ok(table
        .iter()
        .flat_map(|text| text.lines())
        .filter(ours)
        .count())
}

fn read(pid: u32, name: &str) -> Outcome<String> {
    let path = format!("/proc/{pid}/{name}");
    read_to_string(&path).map_err(|error| format!("{path} cannot be read: {error}."))
}
