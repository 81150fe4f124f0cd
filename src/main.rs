//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatewright::cli::close_inherited();
    ExitCode::from(gatewright::cli::main())
}
