//! Fabio's routes: what the tags of services (`urlprefix-…`) and lines in the key-value store ask for, as
//! one table of sources, targets and shares. Pure.
//!
//! A tag is read by [`tag::parse`], lines by [`overrides`], both are brought together by [`table::build`],
//! and [`layout`] says what of it becomes a backend, a map entry or a listener. What cannot be used is
//! refused by itself, with its reason, and never keeps the rest from being used. The rules are those of
//! Fabio 1.6 and 1.7; where this differs on purpose the place says so.

mod access;
pub mod layout;
mod limits;
mod options;
pub mod overrides;
mod owners;
mod reserved;
mod sharing;
mod source;
pub mod table;
pub mod tag;
mod weights;

pub use access::Access;
pub use options::{HostHeader, Options, Protocol, Redirect};
pub use owners::Owner;
pub use source::Source;
pub use table::{Item, Route, Rules, Table, Target};
pub use weights::{scaled, shares};

#[cfg(test)]
mod tests;
