//! What can break, how it is broken and how it is mended again.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stage::{Stage, TEMPLATE};

/// One thing that goes wrong, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    ConsulKilled,
    ConsulFrozen,
    ConsulWiped,
    MasterKilled,
    WorkerKilled,
    WorkerFrozen,
    GatewrightKilled,
    GatewrightFrozen,
    GatewrightEnded,
    SettingsReadAgain,
    TemplateBroken,
    RenderingFails,
    KeyDeleted,
    ConfigurationRefused,
    StructureChanged,
    SocketDeleted,
    DiskFull,
    Flapping,
    Maintenance,
    ReloadedByHand,
}

impl Fault {
    pub const ALL: &[Fault] = &[
        Fault::ConsulKilled,
        Fault::ConsulFrozen,
        Fault::ConsulWiped,
        Fault::MasterKilled,
        Fault::WorkerKilled,
        Fault::WorkerFrozen,
        Fault::GatewrightKilled,
        Fault::GatewrightFrozen,
        Fault::GatewrightEnded,
        Fault::SettingsReadAgain,
        Fault::TemplateBroken,
        Fault::RenderingFails,
        Fault::KeyDeleted,
        Fault::ConfigurationRefused,
        Fault::StructureChanged,
        Fault::SocketDeleted,
        Fault::DiskFull,
        Fault::Flapping,
        Fault::Maintenance,
        Fault::ReloadedByHand,
    ];
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

impl Stage {
    /// Breaks something, goes on for so long, and mends it. What comes of it is seen at the next calm.
    pub fn suffer(&mut self, fault: Fault, hold: Duration, random: &mut fastrand::Rng) {
        match fault {
            Fault::ConsulKilled => {
                self.consul.kill();
                std::thread::sleep(hold);
                self.consul.restart().unwrap();
            }
            Fault::ConsulFrozen => {
                self.consul.pause();
                std::thread::sleep(hold);
                self.consul.resume();
            }
            Fault::ConsulWiped => {
                self.consul.wipe().unwrap();
                std::thread::sleep(hold);
                self.instances.write_all(&self.consul);
                self.consul.set_key("needed", "here").unwrap();
            }
            Fault::MasterKilled => {
                let begun = Instant::now();
                self.haproxy.kill();
                std::thread::sleep(hold / 4);
                self.start_haproxy(begun);
            }
            Fault::WorkerKilled => {
                // The master of 2.6 ends with it, by code 137.
                let Some(worker) = self.worker() else { return };
                let begun = Instant::now();
                signal(worker, Signal::SIGKILL);
                self.haproxy.wait(super::stage::LIMIT).unwrap();
                self.start_haproxy(begun);
            }
            Fault::WorkerFrozen => {
                let Some(worker) = self.worker() else { return };
                signal(worker, Signal::SIGSTOP);
                std::thread::sleep(hold);
                signal(worker, Signal::SIGCONT);
            }
            Fault::GatewrightKilled => {
                self.churn(hold, random);
                self.gatewright.process().kill();
                self.churn(hold, random);
                self.start_gatewright();
            }
            Fault::GatewrightFrozen => {
                self.gatewright.process().signal(Signal::SIGSTOP);
                self.churn(hold, random);
                self.gatewright.process().signal(Signal::SIGCONT);
            }
            Fault::GatewrightEnded => {
                let code = self.gatewright.stop(super::stage::LIMIT).unwrap();
                assert_eq!(code, 0);
                self.churn(hold, random);
                self.start_gatewright();
            }
            Fault::SettingsReadAgain => {
                for _ in 0..5 {
                    self.gatewright.reload();
                    self.churn(hold / 5, random);
                }
            }
            Fault::TemplateBroken => {
                self.write_template(&format!("{TEMPLATE}{{{{#if"));
                self.churn(hold, random);
                self.servers_go_on(fault);
                self.write_template(TEMPLATE);
            }
            Fault::RenderingFails => {
                self.write_template(&format!("{TEMPLATE}    # {{{{parameter \"absent\"}}}}\n"));
                self.churn(hold, random);
                self.servers_go_on(fault);
                self.write_template(TEMPLATE);
            }
            Fault::KeyDeleted => {
                self.consul.delete_key("needed").unwrap();
                self.churn(hold, random);
                self.servers_go_on(fault);
                self.consul.set_key("needed", "here").unwrap();
            }
            Fault::ConfigurationRefused => {
                self.write_template(&format!("{TEMPLATE}    no-such-keyword\n"));
                self.churn(hold, random);
                self.servers_go_on(fault);
                self.write_template(TEMPLATE);
            }
            Fault::StructureChanged => {
                let timeout = random.u32(10..60);
                let text =
                    TEMPLATE.replace("timeout server 10s", &format!("timeout server {timeout}s"));
                self.write_template(&text);
                self.churn(hold, random);
            }
            Fault::SocketDeleted => {
                let _ = std::fs::remove_file(self.disk.0.join("stats.sock"));
                self.churn(hold, random);
            }
            Fault::DiskFull => {
                let filler = self.disk.0.join("filler");
                // It takes what there is and fails at the end of it.
                let _ = std::fs::write(&filler, vec![0; 256 << 10]);
                self.churn(hold, random);
                std::fs::remove_file(&filler).unwrap();
            }
            Fault::Flapping => {
                let end = Instant::now() + hold;
                while Instant::now() < end {
                    self.instances.change(&self.consul);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Fault::Maintenance => {
                self.consul.set_node_check("elsewhere", false).unwrap();
                self.churn(hold, random);
            }
            Fault::ReloadedByHand => {
                signal(self.haproxy.pid(), Signal::SIGUSR2);
                self.churn(hold, random);
            }
        }
    }

    /// Changes now and then.
    fn churn(&mut self, time: Duration, random: &mut fastrand::Rng) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.instances.change(&self.consul);
            std::thread::sleep(Duration::from_millis(random.u64(10..150)));
        }
    }
}
