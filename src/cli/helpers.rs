//! `gatewright helpers`: the template language, from the table that registers it.

use std::io::Write;

use crate::exit;
use crate::template::helpers::TABLE;

use super::Failure;

/// List the helpers of the template language, each with an example
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gatewright helpers
  gatewright helpers server")]
pub struct Helpers {
    /// Only helpers whose name holds this
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Helpers {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let bold = anstyle::Style::new().bold();
        let dim = anstyle::Style::new().dimmed();
        let wanted = self.name.unwrap_or_default().to_lowercase();
        let mut out = anstream::stdout().lock();
        for entry in TABLE {
            if !entry.name.to_lowercase().contains(&wanted) {
                continue;
            }
            // A reader that has gone, such as `head`, wants no more.
            if writeln!(
                out,
                "{bold}{}{bold:#}\n  {}\n  {dim}{}{dim:#}",
                entry.name, entry.what, entry.example
            )
            .is_err()
            {
                break;
            }
        }
        Ok(exit::OK)
    }
}
