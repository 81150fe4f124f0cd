//! HAProxy's Runtime API as typed values: what can be said to a running worker, what its answers
//! mean on each version, what it tells about its servers, maps and certificates, and the connection
//! that carries both.
//!
//! Decides nothing about when something is said; what is not in its tables is a refusal, never a
//! guess.

mod answer;
mod capability;
mod certificates;
mod command;
mod encode;
mod maps;
mod session;
mod state;
mod version;

pub use answer::{Answer, Refusal};
pub use capability::{Dynamic, algorithm, init_state, keyword, names_loaded_file, waits_removable};
pub use certificates::{CertificateInfo, CertificateNames, CrtListEntry};
#[cfg(any(test, fuzzing))]
pub(crate) use certificates::{
    parse_certificate, parse_certificates, parse_crt_list, parse_crt_lists,
};
pub use command::{Command, Pem, ServerRef, ServerState};
pub use encode::{COMMAND_LIMIT, Unspeakable};
pub use maps::{MapInfo, parse_map_entries, parse_maps, parse_patterns};
pub use session::{Batch, SendError, Session};
pub use state::{
    AdminState, ServerConnections, ServerRow, Strange, parse_server_connections,
    parse_servers_state,
};
pub use version::Version;
