//! How a rendered set becomes what a real HAProxy runs: each promise in each mode, and each way to fail.

mod bench;
mod certificates;
mod commands;
mod conformance;
mod disk;
#[cfg(debug_assertions)] // A release build has no faults of files.
mod files;
mod reloads;
mod shared_addresses;
mod supervised;
mod validation;

use std::time::{Duration, Instant};

use gatewright::apply::execute::{Applier, ApplyError, Options};
use gatewright::apply::gate::Rules;
use gatewright::apply::lock::LockError;

/// Opens an applier once the lock is free: a child that is just being started holds the lock of an applier that was
/// dropped, too, until the child runs its program.
fn open(options: Options, rules: Rules) -> Applier {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Applier::open(options.clone(), rules.clone()) {
            Err(ApplyError::Lock(LockError::Held { .. })) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened.unwrap(),
        }
    }
}
