//! What is under way, in numbers and in a sentence.

use std::time::Duration;

/// What is under way, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Questions.
    pub asked: usize,
    /// Requests under way.
    pub under_way: usize,
    /// The most there may be at the moment.
    pub budget: usize,
    /// The limit of Consul's that was found.
    pub limit: Option<usize>,
    /// Questions that Consul holds.
    pub held: usize,
    /// Whether there are more questions than can be held.
    pub crowded: bool,
    /// How old an answer can be at the worst that nothing held or named.
    pub worst_age: Duration,
    /// How long the last sweep took.
    pub sweep: Duration,
}

impl Load {
    /// What somebody should know and do about a limit of Consul's.
    pub fn limited(&self) -> Option<String> {
        let limit = self.limit?;
        Some(format!(
            "Consul takes no more than {limit} connections of this address at the moment, so {} queries share {} and leave the rest to others. \
             Raise limits.http_max_conns_per_client in Consul's configuration, or set consul.max_connections to less.",
            self.asked, self.budget
        ))
    }

    /// Why a change may be seen late.
    pub fn late(&self) -> Option<String> {
        self.crowded.then(|| {
            format!(
                "{} queries share {} connections to Consul; {} of them block. A change that Consul's lists of services, nodes and failing checks \
                 do not name may take up to {} s. Raise consul.max_connections for more blocking queries.",
                self.asked, self.budget, self.held, self.worst_age.as_secs()
            )
        })
    }
}
