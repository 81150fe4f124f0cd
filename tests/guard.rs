//! Nothing is emptied by accident (P2), and Consul may be gone (P3): whatever the catalog loses at
//! once is held, what is meant passes at once, and the last answers outlive Consul and us.

mod losses;
mod permissions;
mod snapshot;
mod stage;
