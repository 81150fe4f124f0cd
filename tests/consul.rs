//! Consul and the network to it go wrong in every way there is: the last good configuration serves on, no
//! request fails that is ours, Consul is not hammered, and when it is mended everything goes on.

mod fake;
mod load;
mod network;
mod semantics;
mod stage;
