//! Without Consul: members of a Serf cluster, and a plain file, as the catalog. Real agents are killed, frozen, let
//! go, tagged anew and cut off under traffic, and no request fails.

mod agents;
mod file;
mod members;
mod routes;
mod stage;
