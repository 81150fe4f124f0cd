//! What much and many costs: a catalog that never rests, many instances, many services, slow parts, little
//! memory. Processor time is that of Gatewright with the children it starts, from /proc; no test asserts
//! how long anything took.

mod clock;
pub mod flapping;
mod many;
mod scarce;

use std::time::Duration;

/// For everything that is waited for.
const LIMIT: Duration = Duration::from_secs(60);
