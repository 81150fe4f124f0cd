//! Ends: an end leaves nothing worse than it was, and takes a supervised HAProxy along.

use super::*;

// I03 J11
#[test]
fn an_end_leaves_a_haproxy_of_others_alone() {
    let mut consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &oldest(), 2);
    world.start(&consul);
    let worker = world.worker();
    let untouched = |world: &World, stamp: &(u64, i64, i64, String)| {
        assert_eq!(world.worker(), worker);
        assert_eq!(world.stamp(), *stamp);
        assert_eq!(send(world.entrance, 5).failed, 0);
    };

    let stamp = world.stamp();
    world.end();
    untouched(&world, &stamp);

    world.run(&consul);
    world.converge(&[0, 1]);
    untouched(&world, &stamp);
    world.setup.file("slow", "").unwrap();
    consul.deregister(world.id(1)).unwrap();
    wait_for(LIMIT, "a validation", || {
        world.path("validating").exists().then_some(())
    })
    .unwrap();
    world.end();
    untouched(&world, &stamp);
    std::fs::remove_file(world.path("slow")).unwrap();

    consul.kill();
    world.run(&consul);
    world
        .setup
        .wait_for_status(LIMIT, "a failing query", |status| {
            status["queries"][0]["error"].as_str().map(drop)
        })
        .unwrap();
    world.end();
    untouched(&world, &stamp);
}

// J11
#[test]
fn a_supervised_haproxy_finishes_its_requests_and_ends_with_us() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 2);
    world.start(&consul);
    let slow = slow_request(&world, Duration::from_secs(2));
    world.end();
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
    assert_eq!(send(world.entrance, 1).failed, 1);
}

// I03
#[test]
fn a_second_signal_ends_a_supervised_haproxy_at_once() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &newest(), 2);
    world.start(&consul);
    let slow = slow_request(&world, Duration::from_secs(20));
    let family = process::descendants(world.gatewright().process().pid());
    world.gatewright().process().signal(Signal::SIGTERM);
    world
        .gatewright()
        .wait_for_log(LIMIT, &["HAProxy is ended gracefully."])
        .unwrap();
    world.end_by_second_signal(&family);
    let _ = slow.join().unwrap();
}

// I03
#[test]
fn a_supervised_haproxy_ends_with_us_while_a_set_is_being_validated() {
    let consul = Consul::start().unwrap();
    let mut world = validating(&consul, &oldest());
    world.end();
}

// I03
#[test]
fn a_second_signal_ends_a_supervised_haproxy_while_a_set_is_being_validated() {
    let consul = Consul::start().unwrap();
    let mut world = validating(&consul, &newest());
    let slow = slow_request(&world, Duration::from_secs(20));
    let family = process::descendants(world.gatewright().process().pid());
    world.gatewright().process().signal(Signal::SIGTERM);
    world
        .gatewright()
        .wait_for_log(LIMIT, &["Ending;"])
        .unwrap();
    world.end_by_second_signal(&family);
    let _ = slow.join().unwrap();
}

/// A supervised HAProxy and a validation that does not end.
fn validating(consul: &Consul, version: &Version) -> World {
    let mut world = World::new(consul, Supervise, version, 2);
    world.start(consul);
    world.setup.file("slow", "").unwrap();
    consul.deregister(world.id(1)).unwrap();
    wait_for(LIMIT, "a validation", || {
        world.path("validating").exists().then_some(())
    })
    .unwrap();
    world
}

/// A request that is with an instance when this returns.
fn slow_request(
    world: &World,
    delay: Duration,
) -> std::thread::JoinHandle<std::io::Result<http::Answer>> {
    for (_, backend) in &world.instances {
        backend.set_delay(delay);
    }
    let entrance = world.entrance;
    let request = std::thread::spawn(move || http::get(entrance, "/slow"));
    wait_for(LIMIT, "the request to be on its way", || {
        let sessions = cli(&world.path("stats.sock"), "show stat -1 2 -1").ok()?;
        let current = |line: &str| line.split(',').nth(4)?.parse::<u32>().ok();
        let (backend, _) = sessions.split_once("\n\n").unwrap_or((&sessions, ""));
        backend
            .lines()
            .find_map(|line| current(line).filter(|count| *count > 0))
            .map(drop)
    })
    .unwrap();
    request
}
