//! The guard's rule for the first set of a process that knows nothing of what the catalog showed
//! before: the last good files are the measure. Afterwards the guard itself judges each answer.

use std::collections::BTreeMap;

use super::super::plan::configuration;
use super::super::set::{Candidate, Role, SetFile};
use crate::catalog::guard::Rules;
use crate::diagnostic::Severity;
use crate::haproxy::Finding;

/// The code of a loss that is held for a time.
pub const SERVERS_LOST: &str = "servers-lost";
/// The code of a loss that leaves too few.
pub const LAST_SERVERS_LOST: &str = "last-servers-lost";

/// What a set has lost since the last good one, beyond what the guard lets go: in each backend that
/// both have, and in all together.
pub fn judge_loss(new: &Candidate, last_good: &[SetFile], rules: &Rules) -> Vec<Finding> {
    if !rules.enabled {
        return Vec::new();
    }
    let (before, now) = (enabled(last_good), enabled(&new.files));
    let main = new.files.iter().find(|file| file.role == Role::Config);
    let mut findings = Vec::new();
    let lost = |what: String, present: usize, reference: usize, floor: usize| {
        Finding {
        severity: Severity::Error,
        code: match present < floor {
            true => LAST_SERVERS_LOST,
            false => SERVERS_LOST,
        },
        message: format!(
            "{what} had {reference} enabled servers in the last good configuration and would have {present}."
        ),
        file: main.map(|file| file.destination.clone()),
        line: 0,
        column: 0,
        help: Some(
            "If they are meant to go, run `gatewright release --all`; else look at why the catalog does not show them.".into(),
        ),
    }
    };
    let rule = rules.default;
    for (name, reference) in &before {
        let floor = rule.min_instances.min(*reference);
        match now.get(name) {
            Some(present) if !rule.is_fine(*present, *reference, floor) => {
                findings.push(lost(
                    format!("The backend `{name}`"),
                    *present,
                    *reference,
                    floor,
                ));
            }
            _ => {}
        }
    }
    let (reference, present): (usize, usize) = (before.values().sum(), now.values().sum());
    let emptied = present == 0 && reference > 0;
    if findings.is_empty() && (emptied || !rules.is_fine_overall(present, reference)) {
        findings.push(lost(
            "All backends together".to_owned(),
            present,
            reference,
            1,
        ));
    }
    findings
}

/// Backend → servers that are not disabled, conditional ones included.
fn enabled(files: &[SetFile]) -> BTreeMap<String, usize> {
    configuration(files)
        .backends()
        .iter()
        .map(|backend| (backend.name.clone(), backend.enabled_servers().1))
        .collect()
}
