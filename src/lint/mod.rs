//! What is allowed and yet most likely not meant: in templates, in the configurations they make, and in what the
//! catalogs of a check never show. Each finding has a stable code by which it can be turned off.
//!
//! Pure: templates and configurations go in, findings come out. It refuses nothing; errors are found elsewhere.

mod across;
mod allow;
mod configuration;
mod help;
mod shape;
mod table;
mod templates;

pub use across::{Recorded, across, unused};
pub use allow::{Allowed, Comments, Used};
pub use configuration::{About, configuration};
pub use help::help_for;
pub use table::{Example, LINTS, Lint, Of, find, reference};
pub use templates::templates;
