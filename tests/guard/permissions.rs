//! A token that loses its rights: Consul says "200 `[]`" then, and means something else.

use super::stage::{LIMIT, Stage};
use support::consul::Consul;
use support::measured::note;
use support::wait_for;

// B10 B11 E07
#[test]
fn lost_permissions_remove_nothing() {
    let consul = Consul::start_with_acl().unwrap();
    let read = "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }";
    let policy = consul.create_policy("gatewright", read).unwrap();
    let token = consul.create_token("gatewright").unwrap();
    let mut stage = Stage::new(&consul.url(), 3, "");
    stage.setup.file("token", &token.secret).unwrap();
    let settings = stage.setup.read("gatewright.toml").unwrap();
    stage
        .setup
        .settings(&settings.replace(
            "[consul]\n",
            "[consul]\ntoken_file = \"{dir}token\"\nwait = \"2s\"\n",
        ))
        .unwrap();
    stage.register(&consul, 0..3);
    stage = stage.start();

    // The policy is reduced to nothing: 200 and an empty list, without a word (Consul 1.8.7).
    wait_for(LIMIT, "the canary in the snapshot", || {
        let snapshot = stage.setup.read("state/snapshot.json").ok()?;
        snapshot.contains("\"canary_seen\":[null]").then_some(())
    })
    .unwrap();
    consul.update_policy(&policy, "gatewright", "").unwrap();
    let hold = stage.holds(3, "The token no longer sees the service consul");
    assert!(hold["ends_in_seconds"].is_null(), "{hold}");
    stage.shows(&[0, 1, 2]);
    assert_eq!(
        stage.count_log("The token no longer sees the service consul"),
        1
    );

    // Started without rights it is held by what was seen before.
    stage.gatewright().process().kill();
    stage.run();
    stage.holds(3, "The token no longer sees the service consul");
    stage.shows(&[0, 1, 2]);
    consul.update_policy(&policy, "gatewright", read).unwrap();
    stage.until("the end of the hold", |status| {
        let over = status["holds"].as_array()?.is_empty() && status["queries"][0]["items"] == 3;
        over.then_some(())
    });

    // The token is deleted: 403, and nothing changes.
    consul.delete_token(&token).unwrap();
    stage.until("a refused query", |status| {
        let error = status["queries"][0]["error"].as_str()?;
        error.contains("403").then_some(())
    });
    stage.shows(&[0, 1, 2]);
    // Another one is read from the file, and all goes on.
    let token = consul.create_token("gatewright").unwrap();
    stage.setup.file("token", &token.secret).unwrap();
    stage.until("the new token", |status| {
        status["queries"][0]["error"].is_null().then_some(())
    });
    stage.shows(&[0, 1, 2]);
    let requests = stage.quiet();
    note(
        "e07",
        "servers removed when the policy was reduced",
        "0 of 3",
    );
    note(
        "e07",
        "requests failed meanwhile",
        format!("0 of {requests}"),
    );
    stage.stop();
}
