//! What members do, and what becomes of their servers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use super::stage::{CHECK, Gateway, Stage};
use support::measured;
use support::network::Network;
use support::serf::Agent;

#[test]
fn a_member_joins_is_tagged_anew_and_leaves_without_a_reload() {
    let mut stage = Stage::start(2, "");
    let before = stage.changes().0;

    let begun = Instant::now();
    let gateway = Gateway::start("gw2", &stage.balancer, &[("weight", "50")]);
    stage.gateways.push(gateway);
    stage.serves(&["gw0", "gw1", "gw2"]);
    measured::note("serf", "agent started: in rotation after", took(begun));
    assert_eq!(stage.servers()["gw2"].weight, 50);
    stage.answers("gw2");

    let begun = Instant::now();
    stage.gateways[2]
        .agent
        .set_tags(&[("weight", "7")])
        .unwrap();
    stage.waits("the weight", || {
        (stage.servers().get("gw2")?.weight == 7).then_some(())
    });
    measured::note("serf", "tag weight: followed after", took(begun));

    // Another port, by a tag for this service alone.
    let moved = support::backend::Backend::start("moved").unwrap();
    let port = moved.address().port().to_string();
    stage.gateways[2]
        .agent
        .set_tags(&[("port.airavata-api", &port)])
        .unwrap();
    stage.gateways[2].address = moved.address();
    stage.serves(&["gw0", "gw1", "gw2"]);
    stage.answers("moved");

    // Without the tag that the template asks for, and with it again.
    stage.gateways[2]
        .agent
        .set_tags(&[("tags", "test")])
        .unwrap();
    stage.serves(&["gw0", "gw1"]);
    stage.gateways[2]
        .agent
        .set_tags(&[("tags", "prod,test")])
        .unwrap();
    stage.serves(&["gw0", "gw1", "gw2"]);

    // It drains, and comes back.
    stage.gateways[2]
        .agent
        .set_tags(&[("drain", "true")])
        .unwrap();
    stage.serves(&["gw0", "gw1"]);
    stage.is_silent("moved");
    stage.gateways[2].agent.delete_tag("drain").unwrap();
    stage.serves(&["gw0", "gw1", "gw2"]);
    stage.answers("moved");

    let begun = Instant::now();
    stage.gateways[2].agent.leave().unwrap();
    stage.serves(&["gw0", "gw1"]);
    measured::note("serf", "left: out of rotation after", took(begun));
    // Nobody is asked for consent when the last ones leave by their own will.
    stage.gateways[1].agent.leave().unwrap();
    stage.serves(&["gw0"]);

    assert_eq!(stage.changes().0, before, "a reload");
    let requests = stage.quiet();
    measured::note(
        "serf",
        "joined, tagged, left: requests failed",
        format!("0 of {requests}"),
    );
}

#[test]
fn a_killed_member_goes_by_haproxys_check_long_before_serf_knows() {
    let mut stage = Stage::start(3, "");
    let before = stage.changes();
    stage.is_sound("gw1");

    let begun = Instant::now();
    stage.gateways[1].agent.kill();
    stage.gateways[1].backend = None;
    stage.checks("gw1", false);
    let by_check = begun.elapsed();
    assert!(
        !stage
            .balancer
            .members()
            .unwrap()
            .values()
            .any(|state| state == "failed")
    );
    stage.is_silent("gw1");
    stage.balancer.sees("gw1", "failed").unwrap();
    measured::note(
        "serf",
        "killed: out of rotation by HAProxy's check after",
        seconds(by_check),
    );
    measured::note("serf", "killed: known to Serf after", took(begun));
    assert!(by_check < 20 * CHECK, "{by_check:?}");

    // Serf's word is heard, and changes nothing: the server stays, and HAProxy keeps it down.
    stage.status("one failed member", |status| {
        (status["consul"]["members"]["failed"] == 1).then_some(())
    });
    stage.has_changed(before);
    assert_eq!(stage.servers()["gw1"].operational, 0);
    assert_eq!(stage.servers().len(), 3);

    // It is back on its former port: again by HAProxy's check, without a change.
    let address = stage.gateways[1].address;
    let again = support::backend::Backend::start_on("gw1", address.port()).unwrap();
    stage.gateways[1].backend = Some(again);
    stage.checks("gw1", true);
    stage.answers("gw1");
    let Stage {
        gateways, balancer, ..
    } = &mut stage;
    gateways[1].agent.restart(Some(balancer)).unwrap();
    balancer.sees("gw1", "alive").unwrap();
    stage.has_changed(before);
    let requests = stage.quiet();
    measured::note(
        "serf",
        "killed and back: requests failed",
        format!("0 of {requests}"),
    );
}

#[test]
fn a_frozen_agent_takes_no_traffic_from_its_service() {
    let mut stage = Stage::start(3, "");
    let before = stage.changes();
    stage.gateways[2].agent.pause();
    stage.balancer.sees("gw2", "failed").unwrap();
    stage.status("one failed member", |status| {
        (status["consul"]["members"]["failed"] == 1).then_some(())
    });
    stage.answers("gw2");
    stage.has_changed(before);
    stage.gateways[2].agent.resume();
    stage.balancer.sees("gw2", "alive").unwrap();
    stage.answers("gw2");
    stage.has_changed(before);
    stage.quiet();
}

#[test]
fn failed_members_go_where_the_settings_say_so_but_not_half_of_them_at_once() {
    let mut stage = Stage::start(4, "failed = \"remove\"\n");
    stage.gateways[3].agent.pause();
    stage.serves(&["gw0", "gw1", "gw2"]);
    stage.is_silent("gw3");
    let before = stage.changes();

    // Three of five: it may be the balancer that is cut off. Nobody goes, and it is said.
    stage.gateways[0].agent.pause();
    stage.gateways[1].agent.pause();
    for name in ["gw0", "gw1"] {
        stage.balancer.sees(name, "failed").unwrap();
    }
    stage.status("three failed members", |status| {
        let consul = &status["consul"];
        (consul["members"]["failed"] == 3 && consul["cut_off"] == true).then_some(())
    });
    let told = stage.status("a warning", |status| {
        let list = status["warnings"].as_array()?.iter();
        list.filter_map(|one| one.as_str())
            .find(|one| one.contains("3 members of Serf fail and 2 are alive"))
            .map(str::to_owned)
    });
    assert!(told.contains("cut off"), "{told}");
    stage.answers("gw0");
    stage.answers("gw1");

    stage.gateways[0].agent.resume();
    stage.gateways[1].agent.resume();
    stage.status("no warning any more", |status| {
        let consul = &status["consul"];
        (consul["members"]["failed"] == 1 && consul["cut_off"] == false).then_some(())
    });
    stage.serves(&["gw0", "gw1", "gw2"]);
    stage.gateways[3].agent.resume();
    stage.serves(&["gw0", "gw1", "gw2", "gw3"]);
    assert_eq!(stage.changes().0, before.0, "a reload");
    stage.quiet();
}

#[test]
fn a_balancer_that_is_cut_off_keeps_everybody() {
    let network = Network::default();
    // Where failed members are to go, which is the harder case.
    let mut stage = Stage::start_on(&network, 3, "failed = \"remove\"\n");
    let before = stage.changes();
    // They have joined the balancer, and hear of each other by gossip.
    for gateway in &stage.gateways {
        for name in ["gw0", "gw1", "gw2"] {
            gateway.agent.sees(name, "alive").unwrap();
        }
    }
    network.isolate(stage.balancer.port());
    for name in ["gw0", "gw1", "gw2"] {
        stage.balancer.sees(name, "failed").unwrap();
    }
    let told = stage.status("a warning", |status| {
        let list = status["warnings"].as_array()?.iter();
        list.filter_map(|one| one.as_str())
            .find(|one| one.contains("3 members of Serf fail and 1 are alive"))
            .map(str::to_owned)
    });
    assert!(told.contains("cut off"), "{told}");
    // The others see only the balancer fail.
    stage.gateways[0].agent.sees("lb", "failed").unwrap();
    stage.gateways[0].agent.sees("gw1", "alive").unwrap();
    stage.serves(&["gw0", "gw1", "gw2"]);
    for name in ["gw0", "gw1", "gw2"] {
        stage.answers(name);
    }
    stage.nothing_failed();

    let healed = Instant::now();
    network.heal();
    stage.status("no warning any more", |status| {
        let consul = &status["consul"];
        (consul["members"]["alive"] == 4 && consul["cut_off"] == false).then_some(())
    });
    measured::note("serf", "partition healed: whole again after", took(healed));
    stage.serves(&["gw0", "gw1", "gw2"]);
    assert_eq!(stage.changes().0, before.0, "a reload");
    let requests = stage.quiet();
    measured::note(
        "serf",
        "balancer cut off: requests failed",
        format!("0 of {requests}"),
    );
}

#[test]
fn a_member_that_leaves_goes_while_most_of_the_others_fail() {
    let mut stage = Stage::start(1, "");
    let mut others: Vec<Agent> = ["other0", "other1", "other2"]
        .map(|name| Agent::start(name, &[("role", "other")], Some(&stage.balancer)).unwrap())
        .into();
    others.iter_mut().for_each(Agent::kill);
    stage.status("three failed members", |status| {
        let consul = &status["consul"];
        (consul["members"]["failed"] == 3 && consul["cut_off"] == true).then_some(())
    });
    stage.gateways[0].agent.leave().unwrap();
    // Serf may tell a leave to failed members only, and then it is a failure.
    let gateway = OsStr::new("gw0");
    stage.balancer.command("force-leave", &[gateway]).unwrap();
    stage.serves(&[]);
}

#[test]
fn members_whose_tags_turn_unreadable_hold_up_nobody() {
    let mut stage = Stage::start(1, "");
    let others = ["other0", "other1", "other2"]
        .map(|name| Agent::start(name, &[("role", "other")], Some(&stage.balancer)).unwrap());
    stage.status("all members", |status| {
        (status["consul"]["members"]["alive"] == 5).then_some(())
    });
    let tag = OsStr::from_bytes(b"note=caf\xe9");
    for other in &others {
        other.command("tags", &[OsStr::new("-set"), tag]).unwrap();
    }
    let told = stage.status("a warning", |status| {
        let list = status["warnings"].as_array()?.iter();
        list.filter_map(|one| one.as_str())
            .find(|one| one.contains("3 members of Serf are left out"))
            .map(str::to_owned)
    });
    assert!(told.contains(": other0, other1, other2. "), "{told}");
    let gateway = Gateway::start("gw1", &stage.balancer, &[]);
    stage.gateways.push(gateway);
    stage.serves(&["gw0", "gw1"]);
    stage.answers("gw1");
    stage.status("no error", |status| {
        status["queries"][0]["error"].is_null().then_some(())
    });
    stage.quiet();
}

fn took(begun: Instant) -> String {
    seconds(begun.elapsed())
}

fn seconds(time: std::time::Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
