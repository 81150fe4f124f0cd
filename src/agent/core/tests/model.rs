//! Every state that the machine can reach in a small world, and what must be so in each of them.
//!
//! The machine is the real [`Core`]. The world around it is a few numbers: what the catalog wants, what
//! the live files hold, what the worker has loaded, how far a change has come. What can happen next is
//! tried from every state, breadth first; a bounded number of changes of the catalog and of faults keeps
//! the whole finite. From every state, too, the world is let be without a further fault, and the machine
//! has to come to what the catalog wants. That is not a property of single states, which is why this is
//! no ready-made checker.

mod world;

use std::collections::VecDeque;

use super::super::*;
use world::{Budget, Sets, World};

/// The set that runs at the beginning; one that only a reload brings; one that commands bring.
const FORMER: u8 = 0;
const LOADED: u8 = 1;
const TOLD: u8 = 2;
/// What validation refuses; what it accepts and HAProxy cannot load.
const INVALID: u8 = 3;
const UNLOADABLE: u8 = 4;
/// So many structures there are; a set is one of them with the servers of so many deploys at the most.
const STRUCTURES: u8 = 5;
const DEPLOYS: u8 = 2;
/// What somebody else made HAProxy load.
const FOREIGN: u8 = 90;

/// A calm world must be where it should after so many steps, and at one instant only so many happen.
const CALM: usize = 120;
const AT_ONCE: usize = 20;

/// What happens next. The last group are faults.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Step {
    Change(u8),
    Deploy,
    Rendered,
    Applied,
    Observed,
    Time,
    HaproxyStarts,

    TimedOut,
    Busy,
    SignalLost,
    AnsweredLate,
    Crash { told: bool },
    OthersReload,
    HaproxyKilled,
}

impl Step {
    fn is_fault(self) -> bool {
        self >= Step::TimedOut
    }
}

const STEPS: [Step; 19] = [
    Step::Deploy,
    Step::Change(FORMER),
    Step::Change(LOADED),
    Step::Change(TOLD),
    Step::Change(INVALID),
    Step::Change(UNLOADABLE),
    Step::Rendered,
    Step::Applied,
    Step::Observed,
    Step::Time,
    Step::HaproxyStarts,
    Step::TimedOut,
    Step::Busy,
    Step::SignalLost,
    Step::AnsweredLate,
    Step::Crash { told: false },
    Step::Crash { told: true },
    Step::OthersReload,
    Step::HaproxyKilled,
];

/// How a state was reached, for the message of a failure.
fn path(steps: &BTreeMap<usize, (usize, Step)>, mut at: usize) -> Vec<Step> {
    let mut way = Vec::new();
    while let Some((from, step)) = steps.get(&at) {
        way.push(*step);
        at = *from;
    }
    way.reverse();
    way
}

// G01 G13 J12
#[test]
fn in_every_state_one_change_at_a_time_and_it_converges() {
    let budget = Budget {
        changes: 2,
        deploys: 0,
        faults: 1,
    };
    go_through(budget, "states");
}

// G01
#[test]
fn in_every_state_servers_go_on_whatever_becomes_of_the_structure() {
    let budget = Budget {
        changes: 1,
        deploys: DEPLOYS,
        faults: 1,
    };
    go_through(budget, "states_with_deploys");
}

fn go_through(budget: Budget, name: &str) {
    let sets = Sets::new();
    let mut seen = BTreeSet::new();
    let mut calm_ends_well = BTreeSet::new();
    let mut came = BTreeMap::new();
    let mut queue = VecDeque::from([(0, World::new(&sets, budget))]);
    let mut last = 0;
    seen.insert(queue[0].1.key(&sets));
    // The usual run stops at the states that are the fewest steps away.
    let most = if support::long() { usize::MAX } else { 12_000 };
    while seen.len() < most
        && let Some((number, world)) = queue.pop_front()
    {
        converges(&world, &sets, &mut calm_ends_well, || path(&came, number));
        for step in STEPS {
            let next = std::panic::catch_unwind(|| world.after(step, &sets));
            let next = next.unwrap_or_else(|_| panic!("{:?}, then {step:?}", path(&came, number)));
            if let Some(next) = next
                && seen.insert(next.key(&sets))
            {
                last += 1;
                came.insert(last, (number, step));
                queue.push_back((last, next));
            }
        }
    }
    if support::long() {
        support::measured::note("model", name, seen.len());
    }
    assert!(seen.len() > 10_000, "{} states only", seen.len());
}

/// Without a further fault it comes to what is wanted, and never does much without time passing.
fn converges(
    world: &World,
    sets: &Sets,
    known: &mut BTreeSet<Vec<u8>>,
    way: impl Fn() -> Vec<Step>,
) {
    let mut world = world.clone();
    let mut passed = Vec::new();
    let mut at_once = 0;
    for _ in 0..CALM {
        let key = world.key(sets);
        if known.contains(&key) || world.has_converged(sets) {
            known.extend(passed);
            known.insert(key);
            return;
        }
        passed.push(key);
        let next = std::panic::catch_unwind(|| world.calm(sets));
        let next = next.unwrap_or_else(|_| panic!("{:?}, then calm", way()));
        at_once = match next.now == world.now {
            true => at_once + 1,
            false => 0,
        };
        assert!(at_once < AT_ONCE, "no time passes: {:?}", way());
        world = next;
    }
    panic!(
        "it does not converge: {:?}; wanted {}, files {}, worker {:?}, {:?}",
        way(),
        world.wanted,
        world.files,
        world.worker,
        world.core
    );
}
