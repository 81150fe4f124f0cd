//! Gatewright keeps HAProxy's configuration equal to what a service catalog says is healthy.
//!
//! Data flows one way, and a module imports only from those above it:
//!
//! ```text
//! source ──► catalog ──► template ──► apply (plan, gate, stage, execute) ──► status
//!                 ▲                       │
//!                 └────── agent: one loop owns all state, Event → Vec<Action>
//! ```
//!
//! * [`catalog`]: queries and answers as plain values;
//! * [`source`]: Consul, read by blocking queries, one task a query;
//! * [`haproxy`]: what HAProxy is: its configuration language, its validation, its sockets, its process;
//! * [`routes`]: Fabio's routes, from tags and keys to one table;
//! * [`template`]: Handlebars, configuration escaping, the queries a template makes;
//! * [`lint`]: what is allowed and most likely not meant, in templates and configurations;
//! * [`migrate`]: templates of consul-template as ones of ours;
//! * [`apply`]: how a rendered set becomes what HAProxy runs;
//! * [`agent`]: the pure core of the sidecar and the loop around it;
//! * [`status`]: what it tells;
//! * [`cli`], [`settings`], [`diagnostic`], [`exit`]: the shell;
//! * [`descriptors`], [`text`]: limits on what is open and on what is read;
//! * [`markdown`]: the pages of `gatewright help` on a terminal;
//! * [`crash`]: where tests end the program.

// Files that tests/parts includes, too, call the library by its name.
#[cfg(test)]
extern crate self as gatewright;

pub mod agent;
pub mod apply;
pub mod catalog;
pub mod cli;
pub mod crash;
pub mod descriptors;
pub mod diagnostic;
pub mod exit;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod haproxy;
pub mod lint;
pub mod markdown;
pub mod migrate;
pub mod routes;
pub mod settings;
pub mod source;
pub mod status;
pub mod template;
pub mod text;
