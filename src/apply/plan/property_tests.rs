//! The plan as a whole: for any two configurations of a family, what it says leads a worker from the
//! first to the second or says that only a reload will do, whatever is cut, refused, forgotten or set
//! by hand on the way.
//!
//! The worker is a fake one. `tests/parts/apply/conformance.rs` includes it and the family, and holds it to the real
//! HAProxy 2.6.

mod applied;
mod family;
mod worker;

use proptest::prelude::*;
use proptest::sample::Index;

use self::applied::{Applied, Told, files, load};
use self::family::{Line, Lines, OPTIONS, Site, named, sites};
use self::worker::{Knobs, Worker};
use super::*;
use crate::haproxy::runtime::{AdminState, Command, ServerRef, ServerState};

/// Whether the worker runs what the files say, servers that leave aside: seen by the pools, and seen
/// line by line, with every option, by what a worker that had loaded them would run.
fn check_runs(worker: &Worker, site: &Site, by_hand: &BTreeSet<ServerRef>) {
    let rows = worker.rows();
    for pool in pools(&files(site)) {
        for (server, what) in pool.compare(rows.iter().filter(|row| row.backend == pool.backend)) {
            let at = ServerRef::new(&pool.backend, server);
            let allowed = what == Difference::Leaving || by_hand.contains(&at);
            assert!(allowed, "{at}: {what}\n{site:#?}");
        }
    }
    let fresh = load(site);
    assert_eq!(worker.map, fresh.map);
    let sorted = |worker: &Worker| BTreeSet::from_iter(worker.acl.clone());
    assert_eq!(sorted(worker), sorted(&fresh));
    for (name, backend) in &fresh.backends {
        let running = &worker.backends[name].servers;
        for (server, wanted) in &backend.servers {
            let at = ServerRef::new(name, server);
            let Some(runs) = running.get(server) else {
                panic!("{at} is not there");
            };
            let (one, two) = (&runs.row, &wanted.row);
            assert_eq!((one.address, one.port), (two.address, two.port), "{at}");
            assert_eq!(runs.options, wanted.options, "{at}");
            assert_eq!(runs.checks, wanted.checks, "{at} checks");
            assert!(!two.forced_id || one.id == two.id, "{at}");
            if !by_hand.contains(&at) {
                assert_eq!(one.user_weight, two.user_weight, "{at}");
                assert_eq!(one.admin.serves(), two.admin.serves(), "{at}");
            }
        }
        for (server, row) in running.iter().map(|(name, server)| (name, &server.row)) {
            let leaves = !row.admin.serves();
            assert!(
                backend.servers.contains_key(server) || leaves,
                "{name}/{server}"
            );
        }
    }
}

// H11
/// A server is added, its checks are refused, HAProxy refuses the files as well, and all is led back: the
/// server leaves without checks, and must not come back like that.
#[test]
fn a_server_whose_checks_were_refused_does_not_come_back_without_them() {
    let checked = OPTIONS.iter().position(|words| *words == "check").unwrap();
    let site = |hosts: &[u8]| {
        let line = |host: &u8| Line {
            name: format!("s{host}"),
            host: *host,
            port: 8001,
            weight: None,
            id: None,
            disabled: false,
            options: checked,
        };
        let lines = Lines {
            name: "b0".into(),
            balance: 0,
            defaults: 0,
            servers: hosts.iter().map(line).collect(),
            template: None,
            between: false,
        };
        Site {
            backends: vec![lines],
            map: Vec::new(),
            acl: Vec::new(),
            comment: 0,
        }
    };
    let (old, new, policy) = (site(&[1]), site(&[1, 2]), Policy::default());
    for connections in [0, 1] {
        let mut applied = Applied::start(&old);
        let refuse = Knobs {
            refuse: Some(1),
            ..Knobs::default()
        };
        assert_eq!(applied.attempt(&old, &new, policy, refuse), Told::Differs);
        let second = &applied.worker.backends["b0"].servers["s2"];
        assert!(!second.checks, "the second command is the one for checks");
        let back = applied.attempt(&new, &old, policy, Knobs::default());
        assert_eq!(back, Told::Runs);
        let backend = applied.worker.backends.get_mut("b0").unwrap();
        backend.servers.get_mut("s2").unwrap().connections = connections;
        applied.change(&old, &new, policy, Knobs::default());
        check_runs(&applied.worker, &new, &BTreeSet::new());
    }
}

/// What somebody does to a server.
#[derive(Debug, Clone)]
enum Hand {
    State(Index, ServerState),
    Weight(Index, u16),
}

fn hands() -> impl Strategy<Value = Vec<Hand>> {
    let state = prop_oneof![Just(ServerState::Drain), Just(ServerState::Maint)];
    let hand = prop_oneof![
        (any::<Index>(), state).prop_map(|(at, state)| Hand::State(at, state)),
        (any::<Index>(), 1..9_u16).prop_map(|(at, weight)| Hand::Weight(at, weight)),
    ];
    prop::collection::vec(hand, 0..4)
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>()).prop_map(|(checked, take_back)| Policy {
        new_servers: match checked {
            true => NewServers::Checked,
            false => NewServers::Up,
        },
        hand_weights: match take_back {
            true => HandWeights::TakeBack,
            false => HandWeights::Keep,
        },
    })
}

fn knobs() -> impl Strategy<Value = Knobs> {
    let at = || prop::option::weighted(0.4, 0..25_usize);
    (at(), at()).prop_map(|(truncate, refuse)| Knobs { truncate, refuse })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(100) })]

    // H11
    /// There, again, and back.
    #[test]
    fn a_plan_leads_from_one_to_the_other_or_says_reload(
        sites in sites(2).prop_map(named), policy in policy()
    ) {
        let none = BTreeSet::new();
        let (old, new) = (&sites[0], &sites[1]);
        let mut applied = Applied::start(old);
        check_runs(&applied.worker, old, &none);
        prop_assert_ne!(applied.change(old, new, policy, Knobs::default()), Told::Differs);
        check_runs(&applied.worker, new, &none);
        prop_assert_eq!(applied.plan(new, new, policy), Plan::Nothing);
        prop_assert_ne!(applied.change(new, old, policy, Knobs::default()), Told::Differs);
        check_runs(&applied.worker, old, &none);
    }

    // H11
    /// Cut, refused, told once more; servers come back while they leave or after they have gone; and now
    /// and then HAProxy refuses the new files, so that all is led back.
    #[test]
    fn a_batch_that_ends_badly_is_put_right(
        sites in sites(6).prop_map(named),
        knobs in prop::collection::vec((knobs(), prop::bool::weighted(0.2)), 6),
        gone in any::<u32>(),
        connected in any::<u32>(),
        policy in policy()
    ) {
        let none = BTreeSet::new();
        let mut applied = Applied::start(&sites[0]);
        let mut runs = &sites[0];
        for (round, site) in sites.iter().enumerate().skip(1) {
            let (knobs, refused) = knobs[round];
            if refused {
                // Then the former files stay, and so must what runs.
                applied.attempt(runs, site, policy, knobs);
                let back = applied.attempt(site, runs, policy, Knobs::default());
                if back != Told::Runs {
                    applied = Applied::start(runs);
                }
            } else {
                applied.change(runs, site, policy, knobs);
                runs = site;
            }
            check_runs(&applied.worker, runs, &none);
            for (number, server) in applied.worker.backends.values_mut().flat_map(|b| b.servers.values_mut()).enumerate() {
                server.connections = connected >> ((number + round) % 32) & 1;
            }
            applied.let_go(|number| gone >> ((number + 5 * round) % 32) & 1 == 1);
            check_runs(&applied.worker, runs, &none);
            prop_assert_eq!(applied.plan(runs, runs, policy), Plan::Nothing);
        }
    }

    // H12
    /// What people have set stays, unless the files say otherwise or the operator takes it back.
    #[test]
    fn what_people_set_stays(
        sites in sites(2).prop_map(named), hands in hands(), policy in policy()
    ) {
        let (old, new) = (&sites[0], &sites[1]);
        let mut applied = Applied::start(old);
        let rows = applied.worker.rows();
        let mut by_hand = BTreeSet::new();
        for hand in hands.iter().filter(|_| !rows.is_empty()) {
            let command = match hand {
                Hand::State(at, state) => {
                    let row = at.get(&rows);
                    Command::SetState { at: ServerRef::new(&row.backend, &row.server), state: *state }
                }
                Hand::Weight(at, weight) => {
                    let row = at.get(&rows);
                    Command::SetWeight { at: ServerRef::new(&row.backend, &row.server), weight: *weight }
                }
            };
            if let (true, Command::SetState { at, .. } | Command::SetWeight { at, .. }) =
                (applied.worker.carry_out(&command).is_done(), &command)
            {
                by_hand.insert(at.clone());
            }
        }
        let before = applied.worker.clone();
        let told = applied.attempt(old, new, policy, Knobs::default());
        prop_assert_ne!(told, Told::Differs);
        if told == Told::Runs {
            check_runs(&applied.worker, new, &by_hand);
            // Servers whose lines only HAProxy can read are nobody's to set.
            let differs = compare(&files(old), &files(new)).pools;
            let is_ours = |at: &ServerRef| differs.iter().any(|(_, pool)| {
                pool.backend == at.backend && pool.servers.contains_key(&at.server)
            });
            let (was, is) = (load(old), load(new));
            for at in &by_hand {
                let of = |worker: &Worker| worker.backends[&at.backend].servers.get(&at.server).cloned();
                let (Some(was), Some(is), Some(held), Some(runs)) =
                    (of(&was), of(&is), of(&before), of(&applied.worker)) else { continue };
                let up = |admin: AdminState| !admin.maint();
                if up(was.row.admin) && up(is.row.admin) {
                    prop_assert_eq!(runs.row.admin, held.row.admin, "{}", at);
                }
                let keep = policy.hand_weights == HandWeights::Keep && was.row.user_weight == is.row.user_weight;
                match keep {
                    true => prop_assert_eq!(runs.row.user_weight, held.row.user_weight),
                    false if is_ours(at) =>
                        prop_assert_eq!(runs.row.user_weight, is.row.user_weight),
                    false => {}
                }
            }
        }
    }
}
