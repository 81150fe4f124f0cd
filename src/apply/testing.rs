//! Test support: an applier for a directory whose last one has just gone.

use std::time::{Duration, Instant};

use super::execute::{Applier, ApplyError, Options};
use super::gate::Rules;
use super::lock::LockError;

/// Opens it, once the lock is free: a child that another test is just starting holds the lock of an applier that is
/// gone, too, until it has become its program.
pub fn open(options: Options, rules: Rules) -> Applier {
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
