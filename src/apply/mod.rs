//! How a rendered set of files becomes what HAProxy runs: judged, staged, validated, swapped in,
//! told to HAProxy and confirmed, or put back.

pub mod files;
pub mod history;
pub mod journal;
pub mod lock;
pub mod set;
pub mod stage;
