//! Child processes within their limits, with a shell as the child.

use std::time::Duration;

use gatewright::haproxy::child::{ChildError, Limits, run};
use tokio::process::Command;

use crate::real::eventually;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(20),
    output: 100,
};

// F08
#[tokio::test]
async fn both_streams_come_in_order_and_capped() {
    let ended = run(shell("echo one; echo two >&2; exit 3"), LIMITS)
        .await
        .unwrap();
    assert_eq!(ended.output, b"one\ntwo\n");
    assert_eq!(ended.status.code(), Some(3));
    let loud = run(shell("head -c 1000000 /dev/zero"), LIMITS)
        .await
        .unwrap();
    assert_eq!(loud.output.len(), 100);
}

// F06 G12
#[tokio::test]
async fn at_the_limit_the_whole_group_dies() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", file.display());
    let limits = Limits {
        time: Duration::from_millis(700),
        ..LIMITS
    };
    let error = run(shell(&script), limits).await.unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    let grandchild: i32 = std::fs::read_to_string(file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    eventually("the grandchild is dead", || {
        std::fs::read_to_string(format!("/proc/{grandchild}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

// F07
#[tokio::test]
async fn a_missing_program_is_named() {
    let error = run(Command::new("/no/such/program"), LIMITS)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "The program /no/such/program was not found. Install it or give its full path."
    );
}
