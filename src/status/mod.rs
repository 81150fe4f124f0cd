//! What the sidecar tells about itself: one value, read by the socket and by `gatewright status`.
//! It only reads; nothing here changes what the sidecar does.

pub mod model;
pub mod repeats;
pub mod socket;
