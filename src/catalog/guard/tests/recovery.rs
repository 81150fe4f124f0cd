//! A hold ends as gently as it began: while instances return, held ones leave one for one, and a rule
//! that becomes shorter takes at most half at a time.

use super::*;

/// Waits until nothing more leaves, and gives the numbers that were shown, with the seconds between.
fn numbers(bench: &mut Bench, seconds: u64) -> Vec<(u64, usize)> {
    let mut numbers = Vec::new();
    let (mut last, mut since) = (bench.effective("web").len(), 0);
    for _ in 0..seconds {
        let shown = bench.after(1).len();
        since += 1;
        if shown != last {
            numbers.push((since, shown));
            (last, since) = (shown, 0);
        }
    }
    numbers
}

fn wiped() -> Bench {
    let mut bench = Bench::of(10);
    assert_eq!(bench.show("web", []).len(), 10);
    bench.after(10_000);
    bench
}

// B07
#[test]
fn after_a_wipe_the_held_ones_leave_one_for_one() {
    // In their order, in another one, and under new addresses; slower than the hold's time, too.
    let orders: [&[usize]; 3] = [
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        &[9, 4, 0, 7, 2, 8, 1, 6, 3, 5],
        &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
    ];
    for order in orders {
        for pause in [1, 20, 58] {
            let mut bench = wiped();
            for returned in 1..=10 {
                let back = order[..returned].iter().copied();
                let shown = bench.show("web", back).len();
                let enough = returned >= 7;
                assert_eq!(
                    shown,
                    if enough { returned } else { 10 },
                    "{order:?} {pause}"
                );
                assert_eq!(bench.after(pause).len(), shown, "{order:?} {pause}");
            }
            assert_eq!(bench.guard.views(), []);
        }
    }
}

#[test]
fn a_recovery_that_stops_lets_half_go_at_a_time() {
    let mut bench = wiped();
    assert_eq!(bench.show("web", [3]).len(), 10);
    let end = bench.view().ends_at.unwrap();
    assert_eq!(end - bench.now, Duration::from_secs(240));
    let numbers = numbers(&mut bench, 300);
    assert_eq!(numbers, [(60, 5), (60, 3), (60, 2), (60, 1)]);
    assert_eq!(bench.guard.views(), []);
    assert!(bench.now > end);
    // As long as there is a sign of recovery now and then, none leaves but for a returned one.
    let mut bench = wiped();
    for returned in [1, 2, 3, 4] {
        assert_eq!(bench.show("web", 0..returned).len(), 10);
        assert_eq!(bench.after(59).len(), 10);
    }
    assert_eq!(bench.after(2).len(), 5);
}

#[test]
fn losses_between_the_returns_take_nothing_away() {
    let mut bench = wiped();
    // Known ones and new ones come and go.
    for back in [
        vec![0],
        vec![0, 10],
        vec![10],
        vec![],
        vec![1, 11, 12],
        vec![11],
        vec![0, 11, 13, 14],
    ] {
        assert_eq!(bench.show("web", back.clone()).len(), 10, "{back:?}");
        assert_eq!(bench.after(15).len(), 10, "{back:?}");
    }
    bench.after(20);
    // What was there for long and is lost again is shown again.
    let shown = bench.show("web", []);
    assert_eq!(shown.len(), 10);
    for id in ["00", "11", "13"] {
        assert!(shown.contains(&id.to_owned()), "{id} in {shown:?}");
    }
}

#[test]
fn instances_that_come_and_go_under_new_names_displace_none_for_long() {
    let mut bench = wiped();
    for number in 100..200 {
        let name = format!("{number}");
        assert_eq!(bench.show("web", [number]).len(), 10);
        bench.after(5);
        assert!(bench.effective("web").contains(&name));
        let shown = bench.show("web", []);
        bench.after(5);
        assert_eq!(shown, bench.effective("web"));
        let known: Vec<String> = (0..10).map(|id| format!("{id:02}")).collect();
        assert_eq!(shown, known, "after {name}");
    }
    let hold = bench.guard.queries[&Query::service("web")]
        .hold
        .as_ref()
        .unwrap();
    assert!(hold.items.len() <= 20, "{}", hold.items.len());
}

#[test]
fn one_that_comes_and_goes_keeps_the_others_no_longer_than_a_share_a_window() {
    let mut bench = Bench::of(10);
    bench.hide("web", 4..10, Status::Critical);
    assert_eq!(bench.show("web", 0..4).len(), 10);
    let mut numbers = Vec::new();
    for round in 0..30 {
        let present = if round % 2 == 0 { 3 } else { 4 };
        bench.show("web", 0..present);
        numbers.push(bench.after(20).len());
    }
    numbers.dedup();
    assert_eq!(numbers.last(), Some(&4), "{numbers:?}");
    assert!(
        numbers
            .windows(2)
            .all(|pair| pair[1] + 1 >= pair[0] || pair[1] * 10 >= pair[0] * 7),
        "{numbers:?}"
    );
}

#[test]
fn maintenance_within_a_recovery_takes_only_itself() {
    let mut bench = wiped();
    bench.show("web", [0, 1, 10]);
    // One of those that are held, and one that has returned.
    bench.hide("web", [1, 5], Status::Maintenance);
    let shown = bench.show("web", [0, 10]);
    assert!(
        !shown.contains(&"01".into()) && !shown.contains(&"05".into()),
        "{shown:?}"
    );
    assert_eq!(shown.len(), 8);
    assert_eq!(bench.after(59).len(), 8);
}

#[test]
fn a_shorter_rule_counts_from_when_it_is_set() {
    let mut bench = Bench::of(10);
    assert_eq!(bench.show("web", 0..2).len(), 10);
    bench.after(50);
    let mut rules = Rules::default();
    rules.default.hold = Some(Duration::from_secs(20));
    let out = bench.guard.set_rules(rules, bench.now);
    bench.carry_out(out);
    assert_eq!(bench.effective("web").len(), 10);
    assert_eq!(numbers(&mut bench, 100), [(20, 5), (20, 3), (20, 2)]);
    // A longer one takes nothing away either.
    let mut bench = Bench::of(10);
    bench.show("web", 0..2);
    bench.after(50);
    let mut rules = Rules::default();
    rules.default.hold = Some(Duration::from_secs(100));
    let out = bench.guard.set_rules(rules, bench.now);
    bench.carry_out(out);
    assert_eq!(numbers(&mut bench, 100), [(50, 2)]);
}

#[test]
fn the_last_ones_that_have_a_time_leave_together() {
    let mut rules = Rules::default();
    rules.default.hold_last = Some(Duration::from_secs(300));
    let mut bench = Bench::new(rules);
    bench.show("web", 0..10);
    bench.show("web", []);
    assert_eq!(
        bench.view().ends_at,
        Some(bench.now + Duration::from_secs(300))
    );
    assert_eq!(bench.after(299).len(), 10);
    assert_eq!(bench.after(2).len(), 0);
}

#[test]
fn names_do_not_stand_for_one_another() {
    let services = Query {
        kind: Kind::Services {
            node_meta: BTreeMap::new(),
            filter: None,
        },
        scope: Scope::default(),
    };
    let names = |names: &[&str]| {
        let list = names.iter().map(|name| crate::catalog::ServiceName {
            name: (*name).to_owned(),
            tags: Vec::new(),
            tags_left_out: 0,
        });
        Arc::new(Answer::Services(list.collect()))
    };
    let mut bench = Bench::new(Rules::default());
    bench.show("web", 0..1);
    let mut shown = 0;
    for answer in [
        names(&["api", "consul", "db", "web"]),
        names(&["consul"]),
        names(&["consul", "new"]),
    ] {
        let out = bench.guard.take(&services, answer, false, bench.now);
        bench.carry_out(out);
        shown = bench.guard.effective(&services).unwrap().len();
    }
    assert_eq!(shown, 5, "all of them, and the new one");
    assert_eq!(bench.view().held, 3);
    // Half of three, at the most.
    bench.after(61);
    assert!(bench.guard.effective(&services).unwrap().len() >= 3);
}

impl Bench {
    /// Another process takes over, with what this one leaves.
    fn restart(&mut self) {
        let mut guard = Guard::new(self.guard.rules().clone());
        for name in self.present.keys() {
            let query = Query::service(name);
            let answer = self.guard.effective(&query).unwrap();
            let reference = self.guard.reference(&query, self.now).unwrap();
            let eases = self.guard.eases(&query);
            guard.restore(&query, answer, reference, eases, self.now);
            assert_eq!(guard.eases(&query), eases);
        }
        guard.restore_canary(None);
        self.guard = guard;
        for (name, list) in self.present.clone() {
            let answer = Arc::new(Answer::Instances(list));
            let out = self
                .guard
                .take(&Query::service(&name), answer, self.filtered, self.now);
            self.carry_out(out);
        }
    }
}

// J03
#[test]
fn a_restart_within_a_recovery_takes_nothing_away() {
    for returned in 0..7 {
        let mut bench = wiped();
        bench.show("web", 0..returned);
        bench.after(30);
        bench.restart();
        assert_eq!(bench.effective("web").len(), 10, "{returned}");
        assert_eq!(bench.after(59).len(), 10, "{returned}");
        bench.restart();
        bench.show("web", 0..returned.max(1));
        assert_eq!(bench.after(59).len(), 10, "{returned}");
        // Nor does it make the end less gentle.
        assert!(bench.after(2).len() >= 5, "{returned}");
    }
}

/// How many of a service are in rotation over time, and what may change that.
struct Rotation {
    shown: usize,
    before: Vec<(Instant, usize)>,
    /// The last loss or return.
    stirred: Instant,
    /// Whether the hold under way has left none.
    deep: bool,
}

/// Judges each change of every service by the promise.
#[derive(Default)]
struct Judge(BTreeMap<String, Rotation>);

impl Judge {
    /// After an answer; `stirred` when it has lost or gained any.
    fn answered(&mut self, bench: &Bench, name: &str, stirred: bool) -> Result<(), TestCaseError> {
        if let Some(one) = self.0.get_mut(name)
            && stirred
        {
            one.stirred = bench.now;
        }
        self.look(bench)
    }

    fn look(&mut self, bench: &Bench) -> Result<(), TestCaseError> {
        let rule = bench.guard.rules().default;
        for (name, present) in &bench.present {
            let shown = bench.effective(name).len();
            let one = self.0.entry(name.clone()).or_insert(Rotation {
                shown,
                before: Vec::new(),
                stirred: bench.now,
                deep: false,
            });
            let was = one.shown;
            one.shown = shown;
            let held = bench.guard.holding.contains(&Query::service(name));
            let deep = one.deep || present.is_empty();
            one.deep = deep && held;
            one.before
                .retain(|(until, _)| *until + rule.window > bench.now);
            one.before.push((bench.now, was));
            let most = one
                .before
                .iter()
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0);
            let share = shown + 1 >= most || shown * 100 >= most * (100 - rule.max_loss);
            let quiet = bench.now - one.stirred;
            let over = shown < was && Some(quiet) >= rule.hold;
            prop_assert!(
                share || over,
                "{} of {} are left of {} after {:?}",
                shown,
                most,
                name,
                quiet
            );
            prop_assert!(
                share || !deep || shown * 2 >= was,
                "{} of {} are left of {} at once",
                shown,
                was,
                name
            );
            if over {
                one.before.clear();
            }
        }
        Ok(())
    }
}

/// One step of a recovery.
#[derive(Debug, Clone)]
enum Step {
    Show(u8, BTreeSet<usize>),
    After(u64),
    Canary(bool),
    Permission(Permission),
    Silent(bool),
    Hold(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = prop_oneof![
        proptest::collection::btree_set(0usize..12, 0..12),
        proptest::collection::btree_set(0usize..12, 0..3),
        proptest::collection::btree_set(0usize..40, 0..12),
    ];
    let permission = prop_oneof![
        3 => Just(Permission::Certain),
        1 => Just(Permission::Given),
        1 => Just(Permission::Denied(Right::Node("n".into()))),
    ];
    let step = prop_oneof![
        6 => (0u8..2, some).prop_map(|(service, ids)| Step::Show(service, ids)),
        6 => (0u64..70).prop_map(Step::After),
        1 => any::<bool>().prop_map(Step::Canary),
        1 => permission.prop_map(Step::Permission),
        1 => any::<bool>().prop_map(Step::Silent),
        1 => (1u64..6).prop_map(|tens| Step::Hold(10 * tens)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// More than the rule's share leaves within its window only when nothing was lost and nothing has returned
    /// for the hold's time; and at most half at once where a hold has once left none.
    #[test]
    fn servers_leave_in_mass_only_after_a_quiet_time(steps in steps()) {
        let mut bench = Bench::new(Rules::default());
        let mut judge = Judge::default();
        for step in steps {
            match step {
                Step::Show(service, ids) => {
                    let name = ["web", "api"][service as usize];
                    let stirred = bench.present.get(name) != Some(&instances(ids.clone()));
                    bench.show(name, ids);
                    judge.answered(&bench, name, stirred)?;
                }
                Step::After(seconds) if bench.present.contains_key("web") => {
                    for _ in 0..seconds {
                        bench.after(1);
                        judge.look(&bench)?;
                    }
                }
                Step::After(seconds) => bench.now += Duration::from_secs(seconds),
                Step::Canary(seen) => bench.canary = Ok(seen),
                Step::Permission(permission) => bench.permission = permission,
                Step::Silent(silent) => bench.reads = silent.then_some(Silence::Unknown),
                Step::Hold(seconds) => {
                    let mut rules = bench.guard.rules().clone();
                    rules.default.hold = Some(Duration::from_secs(seconds));
                    let out = bench.guard.set_rules(rules, bench.now);
                    bench.carry_out(out);
                    judge.look(&bench)?;
                }
                Step::Restart => {
                    bench.restart();
                    judge.look(&bench)?;
                }
            }
        }
    }
}
