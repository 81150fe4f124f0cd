//! Every way of telling HAProxy keeps the same promises: no request fails over a change, what is on
//! disk is what runs, and starting, ending and faults of others leave nothing worse than it was.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::Setup;
use support::haproxies::{Version, haproxies, newest, oldest};
use support::haproxy::cli;
use support::measured::note;
use support::process;
use support::traffic::send;
use support::{http, wait_for};

mod changes;
mod crashes;
mod ending;
mod world;

use world::World;

const LIMIT: Duration = Duration::from_secs(30);
/// The end after SIGTERM: ten seconds for work on its way, and some for a busy machine.
const END: Duration = Duration::from_secs(12);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Supervise,
    Master,
    Signal,
    Command,
}

use Mode::{Command, Master, Signal as Usr2, Supervise};

// What others do to HAProxy.

// G09 G17 J05
#[test]
fn a_haproxy_that_others_restarted_is_brought_back_by_the_master_socket() {
    brought_back(Master);
}

// G09 G17 J05
#[test]
fn a_haproxy_that_others_restarted_is_brought_back_by_signal() {
    brought_back(Usr2);
}

fn brought_back(mode: Mode) {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, mode, &oldest(), 2);
    world.start(&consul);
    let ours = world.converge(&[0, 1]);
    let signal = |world: &mut World, signal| world.haproxy.as_mut().unwrap().signal(signal);

    world.write_by_hand();
    signal(&mut world, Signal::SIGUSR2);
    world
        .gatewright()
        .wait_for_log(
            LIMIT,
            &[
                "HAProxy runs a configuration without our revision instead of",
                "it is brought back.",
            ],
        )
        .unwrap();
    assert_eq!(world.converge(&[0, 1]), ours, "{mode:?}");

    world.haproxy.as_mut().unwrap().stop(LIMIT).unwrap();
    world.wait_for_state("unconfirmed");
    world.write_by_hand();
    world.start_haproxy();
    assert_eq!(world.converge(&[0, 1]), ours, "{mode:?}");
    world.end();
}

// G08 J04
#[test]
fn a_haproxy_that_starts_later_is_confirmed_without_a_further_write() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &newest(), 2);
    world.run(&consul);
    world.wait_for_state("unconfirmed");
    let stamp = world.stamp();
    world.start_haproxy();
    world.converge(&[0, 1]);
    assert_eq!(world.stamp(), stamp);
    let uptime = cli(&world.path("master.sock"), "show proc").unwrap();
    assert!(!uptime.contains("# old workers\n1"), "{uptime}");
    world.end();
}

// One and again.

// E10
#[test]
fn a_second_instance_on_the_same_destination_says_so_and_goes() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &newest(), 2);
    world.start(&consul);
    let stamp = world.stamp();
    let pid = world.gatewright().process().pid();
    let settings = world.setup.read("gatewright.toml").unwrap();
    let elsewhere = settings
        .replace(&world.setup.path("state"), &world.setup.path("state-2"))
        .replace(
            &world.setup.path("status.sock"),
            &world.setup.path("2.sock"),
        );
    world.setup.file("second.toml", &elsewhere).unwrap();
    for (file, lock) in [
        ("gatewright.toml", world.setup.path("state/lock")),
        (
            "second.toml",
            world.setup.path(".haproxy.cfg.gatewright.lock"),
        ),
    ] {
        let output = world
            .setup
            .call(&["run", "-c", &world.setup.path(file)])
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(8), "{text}");
        assert_eq!(
            text.trim_end(),
            format!(
                "error[state]: Another Gatewright (process {pid}) already manages this destination; it holds the lock {lock}. \
                 Stop it, or give this one another destination and state directory."
            )
        );
    }
    assert_eq!(world.stamp(), stamp);
    world.wait_for_state("confirmed");
    world.end();
}

// J07
#[test]
fn a_restart_in_an_unchanged_world_changes_nothing_by_the_master_socket() {
    restarted_unchanged(Master, &oldest());
}

// J07
#[test]
fn a_restart_in_an_unchanged_world_changes_nothing_by_signal() {
    restarted_unchanged(Usr2, &newest());
}

// J07
#[test]
fn a_restart_in_an_unchanged_world_changes_nothing_under_supervise() {
    restarted_unchanged(Supervise, &newest());
}

fn restarted_unchanged(mode: Mode, version: &Version) {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, mode, version, 2);
    world.start(&consul);
    let (stamp, worker) = (world.stamp(), world.worker());
    // A supervised HAProxy outlives its parent only when that is killed.
    match mode {
        Supervise => world.gatewright().process().kill(),
        _ => world.end(),
    }
    world.run(&consul);
    world.converge(&[0, 1]);
    world
        .gatewright()
        .wait_for_log(
            LIMIT,
            &["HAProxy already runs this configuration; nothing was written or reloaded."],
        )
        .unwrap();
    assert_eq!(world.stamp(), stamp, "{mode:?}");
    assert_eq!(world.worker(), worker, "{mode:?}");
    if mode == Supervise {
        // Adopted is as good as started: it goes with us.
        let master = world.master().unwrap();
        world.end();
        wait_for(LIMIT, "the adopted HAProxy's end", || {
            (!process::exists(master)).then_some(())
        })
        .unwrap();
    }
}

// Consul's faults.

#[test]
fn a_consul_that_goes_and_comes_back_empty_changes_nothing_until_it_is_whole() {
    let mut consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 2);
    // Without the guard, the gate alone.
    world.settings("[guard]\nenabled = false\n[gate]\nmin_servers = { web = 1 }\n");
    world.start(&consul);
    let (stamp, worker) = (world.stamp(), world.worker());
    let traffic = world.traffic();
    consul.kill();
    let failing = world
        .setup
        .wait_for_status(LIMIT, "a failing query", |status| {
            status["queries"]
                .as_array()?
                .iter()
                .find(|query| query["error"].is_string())
                .cloned()
        })
        .unwrap();
    let query = failing["query"].as_str().unwrap();
    assert!(query.contains(&world.service), "{failing}");
    consul.restart().unwrap();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["catalog answers", "again after"])
        .unwrap();
    world.wait_for_state("held");
    assert_eq!(world.stamp(), stamp);
    assert_eq!(world.worker(), worker);
    world.register(&consul, 1);
    world.converge(&[1]);
    world.register(&consul, 0);
    world.converge(&[0, 1]);
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    world.end();
}

// Settings.

#[test]
fn changed_settings_are_applied_on_sighup_and_broken_ones_change_nothing_under_supervise() {
    changed_settings(Supervise);
}

#[test]
fn changed_settings_are_applied_on_sighup_and_broken_ones_change_nothing_by_the_master_socket() {
    changed_settings(Master);
}

fn changed_settings(mode: Mode) {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, mode, &oldest(), 2);
    world.start(&consul);
    let (stamp, worker) = (world.stamp(), world.worker());

    // Nothing is different: nothing is done, and the supervised HAProxy is still ours.
    world.gatewright().reload();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["The settings and templates are read again."])
        .unwrap();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["The templates were read again."])
        .unwrap();
    world.converge(&[0, 1]);
    assert_eq!(world.stamp(), stamp);
    assert_eq!(world.worker(), worker);

    world.settings_with("31s", "");
    world.gatewright().reload();
    wait_for(LIMIT, "the new parameter", || {
        world.file().contains("timeout server 31s").then_some(())
    })
    .unwrap_or_else(|error| world.fail(&error));
    world.converge(&[0, 1]);

    let (stamp, worker) = (world.stamp(), world.worker());
    world.settings("surprise = 1\n[haproxi]\n");
    world.gatewright().reload();
    world
        .gatewright()
        .wait_for_log(
            LIMIT,
            &["haproxi", "The settings read before stay in force."],
        )
        .unwrap();
    world.converge(&[0, 1]);
    assert_eq!(world.stamp(), stamp);
    assert_eq!(world.worker(), worker);
    let warnings = world.status().unwrap()["warnings"].clone();
    let wrong = format!(
        "{}:20:2: There is no setting `haproxi` here. Did you mean `haproxy`? The settings read before stay in force.",
        world.setup.path("gatewright.toml")
    );
    let warnings = warnings.as_array().unwrap();
    assert!(warnings.contains(&wrong.into()), "{warnings:?}");
    consul.deregister(world.id(1)).unwrap();
    world.converge(&[0]);
    world.end();
}

#[test]
fn a_supervised_haproxy_is_still_kept_and_ended_after_a_sighup() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 2);
    world.start(&consul);
    world.gatewright().reload();
    world
        .gatewright()
        .wait_for_log(LIMIT, &["The templates were read again."])
        .unwrap();
    world.converge(&[0, 1]);
    let master = world.master().unwrap();
    kill(Pid::from_raw(master.cast_signed()), Signal::SIGKILL).unwrap();
    wait_for(LIMIT, "another HAProxy", || {
        world.master().filter(|pid| *pid != master)
    })
    .unwrap_or_else(|error| world.fail(&error));
    world.converge(&[0, 1]);
    world.gatewright().reload();
    let again = || {
        let log = world.setup.read("gatewright.log").ok()?;
        (log.matches("The templates were read again.").count() >= 2).then_some(())
    };
    wait_for(LIMIT, "the settings to be read again", again).unwrap();
    world.end();
    assert_eq!(send(world.entrance, 1).failed, 1);
}
