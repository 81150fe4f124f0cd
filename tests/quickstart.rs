//! The quick start is a promise of the README: it must play to its end, see what it should, and leave nothing running.

use std::path::Path;
use std::time::Duration;

use crate::support::process::{Process, command};
use crate::support::temp;

#[test]
fn the_quick_start_sees_what_it_should() {
    let directory = temp::directory().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_gatewright"));
    let example = binary.with_file_name("examples").join("quickstart");
    let mut quickstart = Process::start(
        "The quick start",
        command(&example, ["--fast"]).env("GATEWRIGHT_BIN", binary),
        &directory.path().join("log"),
    )
    .unwrap();
    let code = quickstart.wait(Duration::from_secs(180)).unwrap();
    assert_eq!(code, 0, "{}", quickstart.output());
}
