//! All tests against the real programs, as one program: one file a promise.

// All of this is tests; clippy.toml's leave reaches only the functions marked so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod addresses;
mod airavata;
mod broken;
mod check;
mod commands;
mod computed_names;
mod consul;
mod data;
mod environment;
mod exhausted;
mod faults;
mod field;
mod files_alone;
mod first_start;
mod formats;
mod found_settings;
mod guard;
mod hostile;
mod hostile_catalogs;
mod identity;
mod interim;
mod layouts;
mod listeners;
mod load;
mod local_users;
mod map;
mod migrate;
mod modes;
mod mounts;
mod privileges;
mod quickstart;
mod reaching;
mod real_parts;
mod recovery;
mod rejected;
mod routes;
mod runtime;
mod secrets;
mod serf;
mod shipped_templates;
mod soak;
mod sockets;
mod telling;
