//! Changes under load: no request fails, and no update is lost.

use super::*;

/// 100 changes of the catalog and 20 of a key, each with requests around it.
fn a_hundred_changes(mode: Mode, version: &Version) {
    let consul = &Consul::start().unwrap();
    let mut world = World::new(consul, mode, version, 5);
    world.start(consul);
    let traffic = world.traffic();
    for change in 0..100 {
        let number = 1 + change % 4;
        let id = world.id(number).to_owned();
        match (change / 4 + number) % 6 {
            0 => consul.maintenance(&id, true).unwrap(),
            1 => consul.maintenance(&id, false).unwrap(),
            2 => consul.set_check(&id, "fail").unwrap(),
            3 => consul.set_check(&id, "pass").unwrap(),
            4 => consul.deregister(&id).unwrap(),
            _ => world.register(consul, number),
        }
        if change % 5 == 4 {
            let weight = (10 + change).to_string();
            consul
                .set_key(&format!("{}/weight", world.service), &weight)
                .unwrap();
        }
        let before = traffic.look(|report| report.ok() + report.failed);
        wait_for(LIMIT, "ten further requests", || {
            traffic.look(|report| (report.ok() + report.failed >= before + 10).then_some(()))
        })
        .unwrap();
    }
    world.settle_in_consul(consul, &[0, 1, 3]);
    world.converge(&[0, 1, 3]);
    // The key is watched apart from the service, so its last change may come after.
    wait_for(LIMIT, "the last weight in the file", || {
        world.file().contains(" weight 109\n").then_some(())
    })
    .unwrap();
    world.converge(&[0, 1, 3]);
    let report = traffic.stop();
    assert_eq!(
        report.failed,
        0,
        "{mode:?} on {version}: {:?} of {} requests",
        report.errors,
        report.ok()
    );
    let haproxy = world.status().unwrap()["haproxy"].clone();
    let applied = ["reloads", "by_commands"].map(|field| haproxy[field].as_u64().unwrap());
    assert!(
        applied.iter().sum::<u64>() > 3,
        "{mode:?} on {version}: {haproxy}"
    );
    println!(
        "{mode:?} on {version}: {applied:?} reloads and sets by command, {} requests, the slowest in {:?}",
        report.ok(),
        report.slowest
    );
    world.end();
}

// G01 G15
#[haproxies(ends)]
fn no_request_fails_over_a_hundred_changes_under_supervise(version: Version) {
    a_hundred_changes(Supervise, &version);
}

// G01 G15
#[haproxies]
fn no_request_fails_over_a_hundred_changes_by_the_master_socket(version: Version) {
    a_hundred_changes(Master, &version);
}

// G01 G15
#[haproxies(ends)]
fn no_request_fails_over_a_hundred_changes_by_signal(version: Version) {
    a_hundred_changes(Usr2, &version);
}

// G01 G15
#[test]
fn no_request_fails_over_a_hundred_changes_by_command() {
    a_hundred_changes(Command, &oldest());
}

/// Pairs of changes that need a reload each, at gaps of 0 to 400 ms and with next to no distance kept between
/// two reloads: HAProxy runs each of the later ones in the end.
fn no_update_is_lost(mode: Mode) {
    let pairs = support::cases(40);
    let consul = &Consul::start().unwrap();
    let mut world = World::new(consul, mode, &oldest(), 2);
    let key = format!("{}/queue", world.service);
    let more = format!("backend spare\n    timeout queue {{{{keyOrDefault \"{key}\" \"1\"}}}}s\n");
    world
        .setup
        .file("haproxy.cfg.hbs", &world.template(&more))
        .unwrap();
    let settings = world.setup.read("gatewright.toml").unwrap();
    let settings = settings.replace("reload_interval = \"200ms\"", "reload_interval = \"1ms\"");
    world.setup.file("gatewright.toml", &settings).unwrap();
    world.start(consul);
    let mut lost = Vec::new();
    for pair in 0..pairs {
        let gap = Duration::from_millis(400) * pair / (pairs - 1);
        let [first, second] = [2 * pair + 10, 2 * pair + 11];
        consul.set_key(&key, &first.to_string()).unwrap();
        std::thread::sleep(gap);
        consul.set_key(&key, &second.to_string()).unwrap();
        let line = format!("    timeout queue {second}s\n");
        let arrived = wait_for(LIMIT, &line, || {
            let runs = world.file().contains(&line) && world.running() == world.written();
            runs.then_some(())
        });
        if let Err(error) = arrived {
            lost.push(format!("{gap:?}: {error}"));
        }
    }
    assert_eq!(lost, [""; 0], "{mode:?}");
    world.converge(&[0, 1]);
    let reloads = world.status().unwrap()["haproxy"]["reloads"].as_u64();
    let reloads = reloads.unwrap();
    assert!(reloads > u64::from(pairs), "{mode:?}: {reloads}");
    world.end();
    let what = format!("lost updates at gaps of 0 to 400 ms, {mode:?}");
    note(
        "g01",
        &what.to_lowercase(),
        format!("{} of {pairs}, {reloads} reloads", lost.len()),
    );
}

// G01
#[test]
fn no_update_is_lost_at_any_gap_under_supervise() {
    no_update_is_lost(Supervise);
}

// G01
#[test]
fn no_update_is_lost_at_any_gap_by_the_master_socket() {
    no_update_is_lost(Master);
}

// G01
#[test]
fn no_update_is_lost_at_any_gap_by_signal() {
    no_update_is_lost(Usr2);
}

// G01
#[test]
fn no_update_is_lost_at_any_gap_by_command() {
    no_update_is_lost(Command);
}

#[test]
fn requests_follow_the_catalog() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Supervise, &oldest(), 3);
    world.start(&consul);
    let traffic = world.traffic();
    let follow = |world: &World, numbers: &[usize]| {
        let wanted = world.names(numbers);
        wait_for(LIMIT, &format!("traffic to {wanted:?}"), || {
            (traffic.look(|report| report.recent(30))? == wanted).then_some(())
        })
        .unwrap_or_else(|error| world.fail(&error));
    };
    follow(&world, &[0, 1, 2]);
    let id = format!("{}-3", world.service);
    let backend = Backend::start(&id).unwrap();
    world.instances.push((id, backend));
    world.register(&consul, 3);
    follow(&world, &[0, 1, 2, 3]);
    consul.set_check(world.id(1), "fail").unwrap();
    follow(&world, &[0, 2, 3]);
    consul.set_check(world.id(1), "pass").unwrap();
    consul.deregister(world.id(0)).unwrap();
    follow(&world, &[1, 2, 3]);
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}
