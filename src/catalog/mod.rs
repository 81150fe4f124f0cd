//! What is known of the services: queries, their answers and the store of both. Pure: no I/O, no
//! clock.

mod answer;
pub mod fitness;
pub mod fixture;
pub mod guard;
mod network;
mod pairs;
mod query;
pub mod secrets;
pub mod snapshot;

pub use answer::{
    Answer, Instance, ItemName, KeyValue, Known, Meta, Node, NodeDetail, NodeService, ServiceName,
};
pub use network::{Network, one_spelling};
pub use pairs::Pairs;
pub use query::{ANOTHER_PATH, HealthFilter, Kind, Query, Scope, Status, unaskable};
