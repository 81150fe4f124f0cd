//! Cases at once, as many as there are processors, with progress on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cases::Case;
use crate::diagnostic::plain;

/// Checks all cases and gives what came of them in their order.
pub fn run<T: Send>(
    cases: &[Case],
    jobs: Option<usize>,
    check: impl Fn(&Case) -> T + Sync,
) -> Vec<T> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(processors).clamp(1, cases.len().max(1));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(cases.iter().map(|_| None).collect::<Vec<Option<T>>>());
    let progress = Progress::new(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((index, case)) = take(&next, cases) {
                    let result = check(case);
                    progress.told(&case.name);
                    if let Ok(mut done) = done.lock() {
                        done[index] = Some(result);
                    }
                }
            });
        }
    });
    progress.end();
    let done = done.into_inner().unwrap_or_default();
    done.into_iter().flatten().collect()
}

fn take<'a>(next: &AtomicUsize, cases: &'a [Case]) -> Option<(usize, &'a Case)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, cases.get(index)?))
}

/// A line on the terminal that is written over.
struct Progress {
    total: usize,
    done: AtomicUsize,
    shown: bool,
}

impl Progress {
    fn new(total: usize) -> Progress {
        Progress {
            total,
            done: AtomicUsize::new(0),
            shown: total > 1 && std::io::stderr().is_terminal(),
        }
    }

    fn told(&self, name: &str) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.shown {
            let name: String = plain(name).chars().take(60).collect();
            let line = format!("\r{done}/{} {name}\x1b[K\r", self.total);
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = std::io::stderr().write_all(b"\x1b[K");
        }
    }
}
