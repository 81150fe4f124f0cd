//! Whether commands cost the worker less than a reload. Pure; a model of what was measured.
//!
//! Measured on 2.6 to 3.2, two cores: `add server` holds all threads and walks the servers that the
//! backend has, so that 10,000 into one backend take 13 to 17 s; a reload of 10,000 servers takes
//! 0.2 to 0.9 s. But a reload also costs a process, its connections and its checks, so it must be the
//! cheaper one by far, or the commands must hold up traffic noticeably.

use std::fmt;

use super::Steps;
use crate::haproxy::runtime::Command;

/// Microseconds of one `add server` into an empty backend.
const ADD: u64 = 100;
/// Nanoseconds more for each server that is there already.
const ADD_EACH: u64 = 150;
/// Microseconds of any other command.
const OTHER: u64 = 30;
/// Microseconds of one map entry.
const ENTRY: u64 = 3;
/// Microseconds of one pattern of an ACL, which takes a command of its own (10 to 13 measured).
const PATTERN: u64 = 13;
/// Microseconds of one command about a certificate.
const CERTIFICATE: u64 = 1_000;
/// Microseconds of a reload, and of each server in it.
const RELOAD: u64 = 100_000;
const RELOAD_EACH: u64 = 60;
/// Commands that take longer than this are weighed against a reload.
const NOTICEABLE: u64 = 500_000;

/// What commands take, and what a reload would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// How many commands.
    pub commands: usize,
    /// Their time in microseconds.
    pub commands_time: u64,
    /// That of a reload.
    pub reload_time: u64,
}

impl Cost {
    /// The cost of steps on a worker with so many servers.
    pub fn of(steps: &Steps, servers: usize) -> Cost {
        let entries: usize = steps.maps.iter().map(|map| map.entries.len()).sum();
        let patterns: usize = steps.acls.iter().map(|acl| acl.patterns.len()).sum();
        let certificates = steps.certificates.commands();
        let mut cost = Cost {
            commands: steps.servers.all().count()
                + steps.maps.len()
                + steps.acls.len()
                + certificates,
            commands_time: entries as u64 * ENTRY
                + patterns as u64 * PATTERN
                + certificates as u64 * CERTIFICATE,
            reload_time: RELOAD + servers as u64 * RELOAD_EACH,
        };
        let mut there = servers as u64;
        for command in steps.servers.all() {
            cost.commands_time += match command {
                Command::AddServer { .. } => {
                    there += 1;
                    ADD + there * ADD_EACH / 1000
                }
                _ => OTHER,
            };
        }
        cost
    }

    /// Why a reload is the better choice, if it is.
    pub fn too_high(&self) -> Option<String> {
        (self.commands_time > NOTICEABLE && self.commands_time > self.reload_time).then(|| {
            format!(
                "{} commands would take about {}, a reload about {}",
                self.commands,
                seconds(self.commands_time),
                seconds(self.reload_time)
            )
        })
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.commands {
            1 => out.write_str("1 command"),
            count => write!(out, "{count} commands"),
        }
    }
}

fn seconds(micros: u64) -> String {
    format!("{:.1} s", micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::runtime::ServerRef;

    fn adding(count: usize, there: usize) -> Cost {
        let mut steps = Steps::default();
        for number in 0..count {
            steps.servers.first.push(Command::AddServer {
                at: ServerRef::new("api", format!("s{number}")),
                address: [127, 0, 0, 1].into(),
                port: 80,
                options: Vec::new(),
            });
        }
        Cost::of(&steps, there)
    }

    #[test]
    fn few_are_told_and_very_many_are_loaded() {
        assert_eq!(adding(1, 10_000).too_high(), None);
        assert_eq!(adding(1_000, 1_000).too_high(), None);
        assert_eq!(
            adding(10_000, 0).too_high().as_deref(),
            Some("10000 commands would take about 8.5 s, a reload about 0.1 s")
        );
    }
}
