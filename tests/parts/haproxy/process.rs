//! Which processes Gatewright accepts as HAProxy's master.

use std::process::Command;

use gatewright::haproxy::process::{Master, ProcessError};

// G06 G14
#[tokio::test]
async fn nothing_but_a_master_is_accepted() {
    for pid in [-1, 0, 1, std::process::id().cast_signed()] {
        assert!(matches!(
            Master::open(pid),
            Err(ProcessError::NotMaster { .. } | ProcessError::NotRunning { .. })
        ));
    }
    let mut decoy = Command::new("sleep").arg("600").spawn().unwrap();
    let error = Master::open(decoy.id().cast_signed()).unwrap_err();
    assert!(matches!(error, ProcessError::NotMaster { .. }), "{error}");
    assert!(decoy.try_wait().unwrap().is_none());
    decoy.kill().unwrap();
    decoy.wait().unwrap();
}
