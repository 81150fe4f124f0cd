//! Services whose newest data may be why a set is refused. Each is tried by itself, so that one with bad data
//! keeps the servers that it had and costs no other.

use super::*;

/// So many services are named in a sentence.
const NAMED: usize = 5;

/// A service whose newest data are in a set that was refused, or that needs a reload while reloads wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    /// The answer's revision.
    pub(super) revision: u64,
    /// Whether a set was refused in which nothing else is new.
    pub(super) proved: bool,
}

/// That the servers of these services are not current.
pub(super) fn as_before(suspects: &[(&Query, Suspect)], obstacle: Obstacle) -> Option<String> {
    let named = suspects.iter().take(NAMED);
    let mut names: Vec<String> = named.map(|(query, _)| query.to_string()).collect();
    match suspects.len().checked_sub(NAMED) {
        _ if names.is_empty() => return None,
        Some(more @ 1..) => names.push(format!("{more} more")),
        _ => {}
    }
    let why = match obstacle {
        Obstacle::Reload => "needs a reload that waits",
        _ => "is refused",
    };
    Some(format!(
        "The servers of {} stay as they were: a set with their newest data {why}.",
        names.join(", ")
    ))
}

impl Interim {
    /// The suspicion against this answer.
    pub(super) fn suspect_of(&self, query: &Query, known: &Known) -> Option<Suspect> {
        let suspect = self.suspects.get(query).copied();
        suspect.filter(|one| one.revision == known.revision)
    }
}

impl Core {
    /// Services whose answers of now are in a set that was refused.
    pub(super) fn open_suspects(&self) -> Vec<(&Query, Suspect)> {
        let suspects = self.interim.suspects.iter();
        let now = suspects.filter_map(|(query, _)| {
            let known = self.watches.get(query)?.known.as_ref()?;
            Some((query, self.interim.suspect_of(query, known)?))
        });
        now.collect()
    }

    /// A set is refused: the data of each service that has changed since the last good one may be the
    /// reason. A single one is.
    pub(in crate::agent::core) fn suspect(&mut self, revision: &Revision) {
        let interim = &mut self.interim;
        let (Some(origin), Some(structure)) = (interim.origins.get(revision), &interim.structure)
        else {
            return;
        };
        let former = &structure.answers.0;
        let new = |query: &&Query| !same(origin.answers.0.get(query), former.get(query));
        // What the structure did not ask before has no former answer.
        let mut others = structure
            .used
            .iter()
            .filter(|query| former.contains_key(query));
        if origin.templates != structure.templates
            || others.any(|query| !is_of_instances(query) && new(&query))
        {
            return; // The structure is the reason, as far as can be told.
        }
        let changed = structure.used.iter().filter(|query| is_of_instances(query));
        let changed: Vec<&Query> = changed.filter(new).collect();
        for query in &changed {
            let Some(known) = origin.answers.0.get(query) else {
                continue;
            };
            let suspect = Suspect {
                revision: known.revision,
                proved: changed.len() == 1,
            };
            let former = interim.suspects.get(query);
            let same = former.filter(|former| former.revision == suspect.revision);
            if same.is_none_or(|former| suspect.proved && !former.proved) {
                interim.suspects.insert((*query).clone(), suspect);
                interim.changes += 1;
            }
        }
    }
}
