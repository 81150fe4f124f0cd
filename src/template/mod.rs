//! Templates: Handlebars in strict mode, with the catalog's helpers and configuration escaping.
//!
//! Nothing here reads the catalog or writes a file: answers go in, text and the queries that were
//! used come out.

mod answers;
mod closed;
mod engine;
mod escape;
mod flow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod helpers;
mod judge;
mod listeners;
mod load;
mod memo;
mod names;
pub mod outline;
mod pieces;
mod place;
mod recorder;
mod rewrite;
mod scan;
mod scope;
pub mod shape;
mod shipped;
mod slots;
mod source_map;
mod tables;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::Query;
use crate::catalog::fitness::Fitness;
use crate::catalog::secrets::Secrets;

pub use engine::{NO_TEMPLATES, NO_THREAD, TemplateSet};
pub use escape::Grammar;
pub use judge::{Quarantined, instance_words};
pub use names::{backend_name, server_id, server_ids, server_name};
pub use shipped::{shipped, shipped_names, shipped_partials};
pub use slots::{Crowded, Slots};
pub use source_map::{Item, Origin, Part, Position, SourceMap};

/// All that a set of templates is compiled from, and where its files go: enough to compile the same
/// set again after the files have changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// In the order of the settings.
    pub templates: Vec<Source>,
    /// With the shipped ones.
    pub partials: Vec<Source>,
    /// The files that the templates make, in the same order.
    pub destinations: Vec<PathBuf>,
}

/// A template or partial as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A partial's name in `{{> name}}`; for templates only a label.
    pub name: String,
    /// Its file, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The language of what it makes; a partial takes that of the template around it.
    pub grammar: Grammar,
}

/// What templates may do, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Which instances are let through.
    pub fitness: Fitness,
    /// Names of metadata whose values no message shows; `*` stands for anything.
    pub secrets: Vec<String>,
    /// This machine's addresses.
    pub local_addresses: BTreeSet<IpAddr>,
    /// Lets instances through that are an address on which the rendered configuration, Gatewright, its
    /// Consul or its Serf agent listens.
    pub own_listeners: bool,
    /// Where Gatewright, its Consul and its Serf agent listen.
    pub listens: BTreeSet<SocketAddr>,
    /// The files that the templates make; the helper `file` does not read them.
    pub destinations: Vec<PathBuf>,
    /// Whether the helper `raw` may write values as they are.
    pub raw: bool,
    /// Environment variables that may be read, with their values.
    pub environment: BTreeMap<String, Option<String>>,
    /// The folder below which files may be read.
    pub files: Option<PathBuf>,
    /// The addresses that the helper `sockaddr` finds.
    pub interfaces: helpers::Interfaces,
    /// Values for `(parameter "name")`.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// The largest template, in bytes.
    pub max_template: usize,
    /// The largest rendered file, in bytes.
    pub max_output: usize,
    /// How deep blocks may stand inside each other, and partials include each other.
    pub max_nesting: usize,
    /// How long one rendering may take.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            fitness: Fitness::default(),
            secrets: Vec::new(),
            local_addresses: BTreeSet::new(),
            own_listeners: false,
            listens: BTreeSet::new(),
            destinations: Vec::new(),
            raw: false,
            environment: BTreeMap::new(),
            files: None,
            interfaces: helpers::Interfaces::default(),
            parameters: serde_json::Map::new(),
            max_template: 1 << 20,
            max_output: 64 << 20,
            max_nesting: 32,
            timeout: Duration::from_secs(5),
        }
    }
}

/// How a rendering ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Everything asked was known.
    Complete(Rendering),
    /// Something was not.
    Incomplete {
        /// Queries without an answer.
        needed: BTreeSet<Query>,
        /// Keys and folders that are demanded and do not exist.
        absent: BTreeSet<Query>,
        /// All queries asked.
        used: BTreeSet<Query>,
    },
}

/// A whole rendering.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// The text of each template, in the order in which they were given.
    pub files: Vec<String>,
    /// The queries asked.
    pub used: BTreeSet<Query>,
    /// What was left out, of the answers used and while rendering.
    pub quarantined: Vec<Quarantined>,
    /// Slots that are nearly all used.
    pub crowded: Vec<Crowded>,
    /// What is odd in what is used.
    pub noted: BTreeSet<Noted>,
    /// Files read by the helper `file`.
    pub files_read: BTreeSet<PathBuf>,
    /// What no message about it may show.
    pub secrets: Secrets,
}

/// Something odd that is used all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Noted {
    /// The code of its diagnostic.
    pub code: &'static str,
    /// Whole sentences.
    pub text: String,
}

#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;
