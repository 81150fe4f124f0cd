//! How a rendered set of files becomes what HAProxy runs: judged, staged, validated, swapped in,
//! told to HAProxy and confirmed, or put back.

pub mod carrier;
pub mod environment;
pub mod execute;
pub mod files;
pub mod gate;
pub mod history;
pub mod journal;
pub mod listeners;
pub mod lock;
pub mod origin;
pub mod plan;
mod ports;
pub mod preview;
pub mod rejections;
pub mod roots;
pub mod set;
pub mod stage;
pub mod target;
pub mod tell;
pub mod validate;
pub mod verdict;
