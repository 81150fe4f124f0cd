//! The sidecar: a pure core that decides and a loop that carries out.

pub mod core;
pub mod event;
pub mod explain;
pub mod files;
pub mod listeners;
mod pulse;
pub mod run;
mod snapshot;
mod systemd;
mod translate;
