//! What comes out of the guard: what changed, what is to be asked, and holds as people see them.

use tokio::time::Instant;

use super::evidence::Inquiry;
use crate::catalog::Query;

/// What the guard wants done, or has done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// What templates see of this query may differ now.
    Changed(Query),
    /// Consul is to be asked.
    Ask(Box<Inquiry>),
    /// A hold began; its reason is known.
    Began(View),
    /// A hold that people were told of has ended.
    Ended {
        /// The hold as it was.
        hold: View,
        /// What ended it.
        why: End,
    },
}

/// What ends a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Enough items are there again.
    Returned,
    /// Those that are gone are in maintenance.
    Maintenance,
    /// Others stand at the addresses of those that are gone.
    Replaced,
    /// The time of the operator's rule has run.
    Time,
    /// The operator let them go.
    Released,
    /// The guard was switched off.
    Off,
    /// No template asks for them any more.
    Unasked,
}

impl std::fmt::Display for End {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            End::Returned => "enough of them are back",
            End::Maintenance => "they are in maintenance",
            End::Replaced => "others took their places",
            End::Time => "its time is over",
            End::Released => "it was released",
            End::Off => "the guard was switched off",
            End::Unasked => "no template asks for them any more",
        })
    }
}

/// One hold, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The query.
    pub query: Query,
    /// Its service, where it is of one.
    pub service: Option<String>,
    /// How many items the catalog shows.
    pub present: usize,
    /// How many are held.
    pub held: usize,
    /// By how many the loss is judged.
    pub reference: usize,
    /// Why, a whole sentence.
    pub reason: String,
    /// When it began.
    pub since: Instant,
    /// When its time has run, if nothing is lost or returns until then; `None` when it does not run or has
    /// no end.
    pub ends_at: Option<Instant>,
}
