//! What the sidecar tells about itself: one value, read by the socket, by `gatewright status`, and without
//! words of the configuration by an HTTP listener as metrics, health, JSON and a page.
//! It only reads; nothing here changes what the sidecar does.

pub mod heartbeat;
pub mod http;
pub mod metrics;
pub mod model;
mod page;
mod parts;
mod places;
pub mod process;
mod public;
pub mod repeats;
mod routes;
pub mod socket;
pub mod words;
