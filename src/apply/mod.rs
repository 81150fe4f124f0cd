//! How a rendered set of files becomes what HAProxy runs: judged, staged, validated, swapped in,
//! told to HAProxy and confirmed, or put back.

pub mod gate;
pub mod plan;
pub mod set;
