//! The part of the core that deals with listeners that a new set has lost: which wait, what the
//! operator has released, and what is said of both.

use super::*;
use crate::agent::listeners::{Cause as Why, Judged, Left, Listeners, Waiting, is_meant};
use crate::apply::gate::BIND_LOST;
use crate::apply::listeners::in_shell;
use crate::haproxy::config::Endpoint;

/// What is known of the listeners of the last good set that the templates do not make.
#[derive(Debug, Clone, Default)]
pub struct Register {
    now: Listeners,
    released: BTreeSet<Endpoint>,
    /// What a former process has found out, until the first rendering of this one is judged.
    recalled: Vec<Judged>,
}

impl Register {
    /// The listeners that wait for an operator.
    pub fn waiting(&self) -> &[Waiting] {
        &self.now.wait
    }

    /// Those that the operator has released, until they are gone.
    pub fn released(&self) -> &BTreeSet<Endpoint> {
        &self.released
    }

    /// What was found out about listeners that were lost.
    pub fn judged(&self) -> Vec<Judged> {
        let mut judged = self.now.judged();
        judged.extend(self.recalled.iter().cloned());
        judged
    }

    /// What the next process needs.
    pub fn left(&self) -> Left {
        Left {
            released: self.released.clone(),
            judged: self.judged(),
        }
    }
}

impl Core {
    /// Listeners that wait, and those that were released.
    pub fn listeners(&self) -> &Register {
        &self.register
    }

    /// Begins with what a former process has left.
    #[must_use]
    pub fn recall_listeners(mut self, left: Left) -> Core {
        self.register.released = left.released;
        self.register.recalled = left.judged;
        self
    }

    /// The last good set is another one than a rendering was compared with, and listens elsewhere.
    pub fn compare_again(&mut self, now: Instant) {
        self.mark_changed(now);
    }

    /// Releases listeners that wait, by their addresses, or all of them. Gives what was released.
    #[must_use]
    pub fn release_listeners(
        &mut self,
        addresses: Option<&[String]>,
        now: Instant,
    ) -> (Vec<String>, Vec<Action>) {
        let mut actions = Vec::new();
        let mut names = Vec::new();
        let endpoints = self.register.now.wait.iter().map(|one| &one.lost.endpoint);
        let mut released = BTreeSet::new();
        for endpoint in endpoints {
            let meant = |address: &&String| is_meant(endpoint, address);
            match addresses {
                None => names.push(format!("listener {endpoint}")),
                Some(addresses) => match addresses.iter().find(meant) {
                    Some(address) => names.push(address.clone()),
                    None => continue,
                },
            }
            released.insert(endpoint.clone());
        }
        if !released.is_empty() {
            self.register.released.extend(released);
            // It may be the same set that was refused for them.
            self.refused = None;
            self.memory.changed_at_once(now);
            self.mark_changed(now);
        }
        self.go_on(now, &mut actions);
        (names, actions)
    }

    /// Takes what was decided about a set that was rendered.
    pub(super) fn listeners_judged(
        &mut self,
        new: Listeners,
        at: Instant,
        actions: &mut Vec<Action>,
    ) {
        let before = self.register.left();
        let Register {
            now,
            released,
            recalled,
        } = &mut self.register;
        recalled.clear();
        released.retain(|endpoint| new.have(endpoint));
        for one in &new.wait {
            let same = |former: &&Waiting| former.lost == one.lost;
            let former = now.wait.iter().find(same);
            if former.is_none_or(|former| former.cannot_keep != one.cannot_keep) {
                say(actions, Weight::Warning, began(one));
            }
        }
        for (lost, why) in &new.go {
            let known = now.go.iter().any(|(former, _)| former == lost);
            if !known {
                // The same set may have been refused for it.
                let for_it = |why: &Diagnostic| why.code == BIND_LOST;
                if let Some(refused) = &self.refused
                    && refused.why.iter().any(for_it)
                {
                    self.refused = None;
                }
                let why = match why {
                    Why::Released => "it was released".to_owned(),
                    Why::Gone(item) => format!("{item} is gone from the catalog"),
                };
                let message = format!(
                    "The listener {} ({} `{}`) is removed: {why}.",
                    lost.endpoint, lost.kind, lost.section
                );
                say(actions, Weight::Info, message);
            }
        }
        for former in &now.wait {
            let endpoint = &former.lost.endpoint;
            if !new.have(endpoint) {
                let message = format!("The listener {endpoint} no longer waits for an operator.");
                say(actions, Weight::Info, message);
            }
        }
        *now = new;
        if self.register.left() != before {
            self.memory.changed(at);
        }
    }

    /// What a set that is refused keeps, which may be the reason.
    pub(super) fn kept_note(&self) -> Option<String> {
        let waiting = self.register.waiting().iter();
        let kept: Vec<String> = waiting
            .filter(|one| one.cannot_keep.is_none())
            .map(|one| one.lost.endpoint.to_string())
            .collect();
        (!kept.is_empty()).then(|| {
            format!(
                "The set keeps listeners that wait for an operator: {}. Run `gatewright release --listener ADDRESS` to release one.",
                kept.join(", ")
            )
        })
    }
}

fn began(one: &Waiting) -> String {
    let lost = &one.lost;
    let meanwhile = match &one.cannot_keep {
        None => "Its section is kept as it was, and everything else goes on.".to_owned(),
        Some(error) => format!("The whole set waits with it, because {error}."),
    };
    format!(
        "The listener {} ({} `{}`) waits for an operator. {} {meanwhile} If it is meant to go, run `gatewright release --listener {}`.",
        lost.endpoint,
        lost.kind,
        lost.section,
        one.reason,
        in_shell(&lost.endpoint.to_string())
    )
}
