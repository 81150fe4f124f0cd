//! The examples that run are a promise of the README: they must play to their end, see what they should, and leave
//! nothing running.

use std::path::Path;
use std::time::Duration;

use support::process::{Process, command};
use support::temp;

#[test]
fn the_quick_start_sees_what_it_should() {
    plays("quickstart");
}

#[test]
fn the_example_with_serf_sees_what_it_should() {
    plays("serf");
}

fn plays(name: &str) {
    let directory = temp::directory().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_gatewright"));
    let example = binary.with_file_name("examples").join(name);
    let mut example = Process::start(
        "The example",
        command(&example, ["--fast"]).env("GATEWRIGHT_BIN", binary),
        &directory.path().join("log"),
    )
    .unwrap();
    let code = example.wait(Duration::from_secs(400)).unwrap();
    assert_eq!(code, 0, "{}", example.output());
}
