//! Who may use a route.

use std::collections::BTreeSet;

use crate::catalog::Network;

/// How many networks a route may allow, and how many it may deny: each is a line or more of the configuration.
pub const MOST_NETWORKS: usize = 128;

/// Who may use a route: a request has to pass all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// `allow=`: the only networks that may; without it all may. An empty list closes the route, as does a rule that cannot
    /// be read, which Fabio ignores.
    pub allow: Option<Vec<Network>>,
    /// `deny=`: the networks that may not use it.
    pub deny: Vec<Network>,
    /// `auth=`: members of each of these lists of users.
    pub auth: BTreeSet<String>,
}

impl Access {
    /// Whether the route has no rule.
    pub fn is_open(&self) -> bool {
        *self == Access::default()
    }

    /// Whether the route answers 403 to every request.
    pub fn is_closed(&self) -> bool {
        self.allow.as_ref().is_some_and(Vec::is_empty)
    }

    /// Lets the route answer 403 to every request.
    pub fn close(&mut self) {
        self.allow = Some(Vec::new());
    }

    /// The rules of both together. They close the route where they need more networks than a route may have.
    pub fn and(&self, other: &Access) -> Access {
        let allow = match (&self.allow, &other.allow) {
            (Some(one), Some(two)) => {
                let both = one
                    .iter()
                    .flat_map(|one| two.iter().filter_map(|two| one.overlap(*two)));
                Some(sorted(both.collect()))
            }
            (one, two) => one.clone().or_else(|| two.clone()),
        };
        let mut both = Access {
            allow,
            deny: sorted([self.deny.as_slice(), other.deny.as_slice()].concat()),
            auth: self.auth.union(&other.auth).cloned().collect(),
        };
        if both
            .allow
            .iter()
            .chain([&both.deny])
            .any(|list| list.len() > MOST_NETWORKS)
        {
            both.deny.clear();
            both.close();
        }
        both
    }
}

/// In one order, each once.
pub(super) fn sorted(mut list: Vec<Network>) -> Vec<Network> {
    list.sort_unstable();
    list.dedup();
    list
}
