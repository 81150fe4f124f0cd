//! Arguments in, exit code out.

use std::process::ExitCode;

/// Gives memory back to the system after a peak, from whichever thread it was allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gatewright::cli::close_inherited();
    ExitCode::from(gatewright::cli::main())
}
