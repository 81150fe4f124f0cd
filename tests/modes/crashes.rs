//! Consul, HAProxy's master, its worker and Gatewright are killed in every kind of order, and start again:
//! the file lists every good instance all the while, HAProxy runs it after at most one reload, and
//! nothing is left over.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Consul,
    Master,
    Worker,
    Gatewright,
}

/// Orders that differ in what is there when the next one dies. A worker's death is its master's (2.6).
const ORDERS: [&[Part]; 9] = [
    &[Part::Gatewright],
    &[Part::Worker],
    &[Part::Gatewright, Part::Master],
    &[Part::Master, Part::Gatewright],
    &[Part::Worker, Part::Gatewright],
    &[Part::Consul, Part::Gatewright],
    &[Part::Gatewright, Part::Consul, Part::Master],
    &[Part::Consul, Part::Worker, Part::Gatewright],
    &[Part::Master, Part::Gatewright, Part::Consul],
];

/// Moments that differ from run to run; the seed is told by a failure.
fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

// J06 J12
#[test]
fn killed_in_any_order_all_parts_converge_under_supervise() {
    in_any_order(Supervise);
}

// J06 J12
#[test]
fn killed_in_any_order_all_parts_converge_by_the_master_socket() {
    in_any_order(Master);
}

fn in_any_order(mode: Mode) {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let mut random = random(seed);
    let mut consul = Consul::start_persistent().unwrap();
    let mut world = World::new(&consul, mode, &oldest(), 2);
    // Without checks: those fail for a while where their agent starts again, which is another fault.
    for (id, backend) in &world.instances {
        consul.deregister(id).unwrap();
        let address = backend.address();
        consul
            .register_instance(&world.service, id, address)
            .unwrap();
    }
    world.settle_in_consul(&consul, &[0, 1]);
    // A Consul that has just started may answer without them, and hold the next answer back for so long.
    world.settings("[consul]\nwait = \"5s\"\n");
    world.start(&consul);
    let mut orders: Vec<Vec<Part>> = ORDERS.map(<[Part]>::to_vec).into();
    for _ in 0..3 {
        let all = [Part::Consul, Part::Master, Part::Worker, Part::Gatewright];
        let count = 2 + random(4);
        orders.push((0..count).map(|_| all[random(4) as usize]).collect());
    }
    for (round, order) in orders.iter().enumerate() {
        let place = format!("{mode:?}, seed {seed}, {order:?}");
        let before = world.master();
        let loaded = reloads(&world);
        // Something is under way in every second round.
        let moving = round % 2 == 1;
        if moving {
            consul
                .set_key(&format!("{}/weight", world.service), &round.to_string())
                .unwrap();
        }
        let mut consul_is_down = false;
        for part in order {
            std::thread::sleep(Duration::from_millis(random(60)));
            match part {
                Part::Consul => {
                    consul.kill();
                    consul_is_down = true;
                }
                Part::Gatewright => world.gatewright().process().kill(),
                Part::Master => end(world.master()),
                Part::Worker => end(world.worker()),
            }
            let listed = world.listed();
            assert_eq!(listed, world.names(&[0, 1]), "{place}");
        }
        if consul_is_down {
            consul.restart().unwrap();
        }
        if mode == Master && order.iter().any(|part| part.is_haproxy()) {
            // As a service manager does.
            let _ = world.haproxy.as_mut().unwrap().wait(LIMIT);
            world.start_haproxy();
        }
        if order.contains(&Part::Gatewright) {
            world.run(&consul);
        }
        world.settle_in_consul(&consul, &[0, 1]);
        // A worker may answer for a moment when its master is on its way out.
        let now = wait_for(LIMIT, "a master that stays", || {
            let master = world.master()?;
            world.converge(&[0, 1]);
            (world.master()? == master).then_some(master)
        })
        .unwrap_or_else(|error| world.fail(&format!("{place}: {error}")));
        if moving {
            let weight = format!(" weight {round}\n");
            wait_for(LIMIT, "the weight", || {
                world.file().contains(&weight).then_some(())
            })
            .unwrap_or_else(|error| world.fail(&format!("{place}: {error}")));
            world.converge(&[0, 1]);
        }
        assert_eq!(send(world.entrance, 5).failed, 0, "{place}");
        let since = match Some(now) == before {
            true => reloads(&world) - loaded,
            false => reloads(&world),
        };
        assert!(since <= 1, "{place}: {since} reloads");
        leaves_nothing_over(&world, &place);
    }
    let master = world.master().unwrap();
    let family = process::descendants(master);
    world.end();
    if mode == Supervise {
        wait_for(LIMIT, "HAProxy's end", || {
            let gone = |pid: &u32| !process::exists(*pid);
            (gone(&master) && family.iter().all(gone)).then_some(())
        })
        .unwrap();
    }
}

impl Part {
    fn is_haproxy(self) -> bool {
        matches!(self, Part::Master | Part::Worker)
    }
}

fn end(pid: Option<u32>) {
    if let Some(pid) = pid {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

/// How often this master has loaded its files anew.
fn reloads(world: &World) -> u64 {
    let processes = wait_for(LIMIT, "the master's list", || {
        let text = cli(&world.path("master.sock"), "show proc").ok()?;
        let line = text.lines().find(|line| line.contains("master"))?;
        line.split_whitespace().nth(2)?.parse().ok()
    });
    processes.unwrap_or_else(|error| world.fail(&error))
}

/// Waits for it: a snapshot may just be written.
fn leaves_nothing_over(world: &World, place: &str) {
    wait_for(LIMIT, "nothing left over", || {
        left_over(world).is_empty().then_some(())
    })
    .unwrap_or_else(|error| world.fail(&format!("{place}: {error} {:?}", left_over(world))));
}

/// Files of a change that has ended.
fn left_over(world: &World) -> Vec<String> {
    [world.path(""), world.path("state")]
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            let lock = name.ends_with(".lock");
            name.contains(".gatewright-") && !lock || name == "journal.json"
        })
        .collect()
}

// I06
/// A mistake of ours while a set is applied ends the program, which says so; the files are good, and the
/// next start goes on.
#[test]
fn a_panic_while_a_set_is_applied_ends_the_program_and_the_next_goes_on() {
    let consul = Consul::start().unwrap();
    let mut world = World::new(&consul, Master, &oldest(), 2);
    world.start(&consul);
    let worker = world.worker();
    world.end();
    let setup = std::mem::replace(&mut world.setup, Setup::new().unwrap());
    world.setup = setup.env("GATEWRIGHT_PANIC_AT", "file renamed");
    consul.deregister(world.id(1)).unwrap();
    world.run(&consul);
    let code = world.gatewright().process().wait(LIMIT).unwrap();
    let log = world.gatewright().log();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("a part of the program has failed"), "{log}");
    assert_eq!(world.worker(), worker);
    assert_eq!(send(world.entrance, 5).failed, 0);
    let setup = std::mem::replace(&mut world.setup, Setup::new().unwrap());
    world.setup = setup.env("GATEWRIGHT_PANIC_AT", "");
    world.run(&consul);
    world.converge(&[0]);
    leaves_nothing_over(&world, "after a panic");
    world.end();
}
