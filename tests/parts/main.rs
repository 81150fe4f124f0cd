//! Parts of the library against the real programs.

// All of this is tests; clippy.toml's leave reaches only the functions marked so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod apply;
mod haproxy;
mod lint;
mod real;
mod source;
mod status;
mod template;
