//! How often this process has validated and commanded, and how it ended. Only ever counted up, read by
//! the status alone: nothing is decided by it. A count of the process outlives the applier, which new
//! settings replace.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::check::{CheckError, Outcome};
use super::runtime::Batch;

/// The counts of this process.
pub static TALLY: Tally = Tally::new();

/// Counts of validations and of commands to workers.
#[derive(Debug)]
pub struct Tally {
    valid: AtomicU64,
    invalid: AtomicU64,
    not_run: AtomicU64,
    validation_microseconds: AtomicU64,
    batches_done: AtomicU64,
    batches_refused: AtomicU64,
    batches_failed: AtomicU64,
    commands: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    /// Validations that found nothing wrong.
    pub valid: u64,
    /// Those that refused the files.
    pub invalid: u64,
    /// Those that could not be run or were cut off, which says nothing about the files.
    pub not_run: u64,
    /// How long all of them took together.
    pub validation_time: Duration,
    /// Batches of commands of which each was carried out.
    pub batches_done: u64,
    /// Batches in which the worker refused a command.
    pub batches_refused: u64,
    /// Batches that the worker did not answer in full.
    pub batches_failed: u64,
    /// Commands that were answered.
    pub commands: u64,
}

impl Tally {
    const fn new() -> Tally {
        Tally {
            valid: AtomicU64::new(0),
            invalid: AtomicU64::new(0),
            not_run: AtomicU64::new(0),
            validation_microseconds: AtomicU64::new(0),
            batches_done: AtomicU64::new(0),
            batches_refused: AtomicU64::new(0),
            batches_failed: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        }
    }

    /// A validation ended.
    pub(super) fn validated(&self, outcome: &Result<Outcome, CheckError>, took: Duration) {
        let which = match outcome {
            Ok(Outcome::Valid { .. }) => &self.valid,
            Ok(Outcome::Invalid { .. }) => &self.invalid,
            Err(_) => &self.not_run,
        };
        which.fetch_add(1, Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.validation_microseconds
            .fetch_add(microseconds, Relaxed);
    }

    /// A batch of so many commands ended.
    pub(super) fn told(&self, count: usize, batch: &Batch) {
        let which = if batch.refusal().is_some() {
            &self.batches_refused
        } else if batch.is_done(count) {
            &self.batches_done
        } else {
            &self.batches_failed
        };
        which.fetch_add(1, Relaxed);
        self.commands.fetch_add(batch.answers.len() as u64, Relaxed);
    }

    /// The counts now.
    pub fn counted(&self) -> Counted {
        Counted {
            valid: self.valid.load(Relaxed),
            invalid: self.invalid.load(Relaxed),
            not_run: self.not_run.load(Relaxed),
            validation_time: Duration::from_micros(self.validation_microseconds.load(Relaxed)),
            batches_done: self.batches_done.load(Relaxed),
            batches_refused: self.batches_refused.load(Relaxed),
            batches_failed: self.batches_failed.load(Relaxed),
            commands: self.commands.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::runtime::Answer;

    #[test]
    fn each_end_is_counted_once() {
        let tally = Tally::new();
        let second = Duration::from_secs(1);
        tally.validated(&Ok(Outcome::Valid { output: Vec::new() }), second);
        tally.validated(&Err(CheckError::Killed { signal: 9 }), second);
        let batch = |answers: Vec<Answer>| Batch {
            answers,
            error: None,
            took: second,
        };
        tally.told(1, &batch(vec![Answer::Done]));
        tally.told(2, &batch(vec![Answer::Done]));
        let expected = Counted {
            valid: 1,
            not_run: 1,
            validation_time: second * 2,
            batches_done: 1,
            batches_failed: 1,
            commands: 2,
            ..Counted::default()
        };
        assert_eq!(tally.counted(), expected);
    }
}
