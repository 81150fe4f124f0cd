//! `gatewright schema`: JSON Schemas of what is read and written, for editors and scripts.

use std::io::Write;

use clap::ValueEnum;

use crate::exit;

use super::Failure;

/// Print the JSON Schema of catalog files or of `check --format json`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright schema catalog > catalog.schema.json   # then \"$schema\": \"./catalog.schema.json\" in a catalog
  gatewright schema check")]
pub struct Schema {
    /// Which
    #[arg(value_enum, value_name = "NAME")]
    name: Name,
}

/// What there is a schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Catalog files
    Catalog,
    /// What `check --format json` prints
    Check,
}

impl Schema {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let text = match self.name {
            Name::Catalog => crate::catalog::fixture::SCHEMA,
            Name::Check => crate::diagnostic::CHECK_SCHEMA,
        };
        // A reader that has gone wants no more.
        let _ = anstream::stdout().lock().write_all(text.as_bytes());
        Ok(exit::OK)
    }
}
