//! Steps on files as tests see them: which were taken in which order, and one that fails as a broken
//! disk makes it fail. Only debug builds have this, and nothing is noted or fails on a thread on which
//! no test has called [`calm`] or [`fail`].

use std::cell::RefCell;
use std::io::Error;
use std::path::{Path, PathBuf};

pub use super::Step;

/// A step that was taken or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What.
    pub step: Step,
    /// On what.
    pub path: PathBuf,
}

#[derive(Default)]
struct Plan {
    taken: Vec<Taken>,
    fails: Option<Fails>,
}

struct Fails {
    /// The number of the step, from 0.
    from: usize,
    /// As from `errno`.
    code: i32,
    /// Whether each later step that needs the disk fails too.
    stays: bool,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = RefCell::default();
}

/// Forgets what this thread has taken; every step goes well and is noted from now on.
pub fn calm() {
    PLAN.set(Some(Plan::default()));
}

/// Forgets what this thread has taken. The step with this number, from 0, fails; with `stays` also every later one that
/// writes: as long as a disk is broken, files can still be removed and renamed.
pub fn fail(number: usize, code: i32, stays: bool) {
    PLAN.set(Some(Plan {
        taken: Vec::new(),
        fails: Some(Fails {
            from: number,
            code,
            stays,
        }),
    }));
}

/// What this thread has taken since.
pub fn taken() -> Vec<Taken> {
    PLAN.with_borrow(|plan| match plan {
        Some(plan) => plan.taken.clone(),
        None => Vec::new(),
    })
}

pub(super) fn step(step: Step, path: &Path) -> std::io::Result<()> {
    PLAN.with_borrow_mut(|plan| {
        let Some(plan) = plan else {
            return Ok(());
        };
        let number = plan.taken.len();
        plan.taken.push(Taken {
            step,
            path: path.to_owned(),
        });
        let writes = matches!(
            step,
            Step::Create | Step::Write | Step::Sync | Step::SyncNames | Step::MakeDirectory
        );
        match &plan.fails {
            Some(fails) if number == fails.from || fails.stays && writes && number > fails.from => {
                Err(Error::from_raw_os_error(fails.code))
            }
            _ => Ok(()),
        }
    })
}
