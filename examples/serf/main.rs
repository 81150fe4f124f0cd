//! Without Consul: shows live traffic while members of a Serf cluster join, die, drain and leave.
//!
//! It starts a real agent for the balancer, three gateways with an agent each, and `gatewright run`, which starts
//! HAProxy; then it goes through the steps in `scenario`. It ends with code 0 only if every step saw what it should,
//! and leaves nothing running. `--instance NAME` makes it one of the gateways instead.

mod scenario;

use std::process::ExitCode;

use support::demo::instance;
use support::demo::screen::Screen;
use support::demo::show::Pace;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--instance", name] => instance::serve(name),
        [] => play(Pace::Calm),
        ["--fast"] => play(Pace::Fast),
        _ => Err("This example takes no argument but --fast.".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn play(pace: Pace) -> support::Outcome<()> {
    support::interrupt_on_signals()?;
    scenario::play(pace, &Screen::new())
}
