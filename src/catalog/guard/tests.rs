//! The guard's rules, one by one and over any sequence of answers and times.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::catalog::{HealthFilter, Instance, Node, Status};

mod recovery;
mod rights;
mod unfit;

fn instance(id: &str) -> Instance {
    let number: u32 = id.parse().unwrap();
    let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
    Instance::plain("web", "node", id, &address.to_string(), 80)
}

fn instances(ids: impl IntoIterator<Item = usize>) -> Vec<Instance> {
    let ids: BTreeSet<String> = ids.into_iter().map(|id| format!("{id:02}")).collect();
    ids.iter().map(|id| instance(id)).collect()
}

/// A guard with its own clock and a Consul that says of what is gone what it is told to.
struct Bench {
    guard: Guard,
    now: Instant,
    /// What an unfiltered answer shows besides the present.
    hidden: BTreeMap<String, Vec<Instance>>,
    present: BTreeMap<String, Vec<Instance>>,
    canary: Result<bool, Silence>,
    reads: Option<Silence>,
    filtered: bool,
    permission: Permission,
    answers: bool,
    told: Vec<String>,
    asked: usize,
}

impl Bench {
    fn new(rules: Rules) -> Bench {
        Bench {
            guard: Guard::new(rules),
            now: Instant::now() + Duration::from_secs(1_000_000),
            hidden: BTreeMap::new(),
            present: BTreeMap::new(),
            canary: Ok(true),
            reads: None,
            filtered: false,
            permission: Permission::Certain,
            answers: true,
            told: Vec::new(),
            asked: 0,
        }
    }

    fn of(count: usize) -> Bench {
        let mut bench = Bench::new(Rules::default());
        bench.show("web", 0..count);
        bench
    }

    fn show(&mut self, service: &str, ids: impl IntoIterator<Item = usize>) -> Vec<String> {
        let list = instances(ids);
        self.present.insert(service.to_owned(), list.clone());
        let answer = Arc::new(Answer::Instances(list));
        let query = Query::service(service);
        let out = self.guard.take(&query, answer, self.filtered, self.now);
        self.carry_out(out);
        self.effective(service)
    }

    fn effective(&self, service: &str) -> Vec<String> {
        match self.guard.effective(&Query::service(service)).as_deref() {
            Some(Answer::Instances(list)) => list.iter().map(|one| one.id.clone()).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Changed(_) => {}
                Output::Began(view) => self.told.push(format!(
                    "{}: {} of {} held. {}",
                    view.query, view.held, view.reference, view.reason
                )),
                Output::Ended { hold, why } => self.told.push(format!("{}: {why}", hold.query)),
                Output::Ask(inquiry) => {
                    self.asked += 1;
                    if self.answers {
                        let evidence = self.evidence(*inquiry);
                        let out = self.guard.inspected(evidence, self.now);
                        self.carry_out(out);
                    }
                }
            }
        }
    }

    fn evidence(&self, inquiry: Inquiry) -> Evidence {
        let instances = inquiry.unfiltered.map(|query| {
            let Kind::Service { name, health, .. } = query.kind else {
                panic!("{query}")
            };
            assert_eq!(health, HealthFilter::Any);
            let list = |of: &BTreeMap<String, Vec<Instance>>| of.get(&name).cloned();
            match self.reads {
                Some(silence) => Err(silence),
                None => Ok([list(&self.present), list(&self.hidden)]
                    .into_iter()
                    .flatten()
                    .flatten()
                    .collect()),
            }
        });
        Evidence {
            about: inquiry.about,
            instances,
            filtered: self.filtered,
            canary: inquiry.canary.map(|query| (query.scope, self.canary)),
            permission: self.permission.clone(),
        }
    }

    /// Lets time pass, with all that falls due on the way.
    fn after(&mut self, seconds: u64) -> Vec<String> {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..20_000 {
            match self.guard.poll_timeout().filter(|due| *due <= end) {
                None => {
                    self.now = end;
                    return self.effective("web");
                }
                Some(due) => {
                    self.now = self.now.max(due);
                    let out = self.guard.handle_timeout(self.now);
                    assert!(!out.is_empty(), "it was woken for nothing");
                    self.carry_out(out);
                }
            }
        }
        panic!("it spins");
    }

    fn hide(&mut self, service: &str, ids: impl IntoIterator<Item = usize>, status: Status) {
        let mut list = instances(ids);
        for one in &mut list {
            one.status = status;
        }
        self.hidden.insert(service.to_owned(), list);
    }

    fn view(&self) -> View {
        let views = self.guard.views();
        assert_eq!(views.len(), 1, "{views:?}");
        views[0].clone()
    }
}

#[test]
fn single_removals_pass_at_once() {
    let mut bench = Bench::of(4);
    assert_eq!(bench.show("web", 0..3).len(), 3);
    bench.after(61);
    assert_eq!(bench.show("web", 0..2).len(), 2);
    bench.after(61);
    assert_eq!(bench.show("web", 0..1).len(), 1);
    // One by one within the window adds up.
    let mut bench = Bench::of(10);
    for left in [9, 8, 7] {
        assert_eq!(bench.show("web", 0..left).len(), left);
    }
    assert_eq!(bench.show("web", 0..6).len(), 7);
    assert_eq!(bench.view().reference, 10);
    assert_eq!(
        bench.told,
        ["service \"web\": 1 of 10 held. Of these 1 is gone from the catalog."]
    );
    // And is forgotten after it.
    assert_eq!(bench.after(61).len(), 6);
    assert_eq!(bench.show("web", 0..5).len(), 5);
}

// B07
#[test]
fn an_emptied_list_is_held_until_it_returns_or_is_released() {
    let mut bench = Bench::of(10);
    assert_eq!(bench.show("web", []).len(), 10);
    assert_eq!(bench.after(10_000).len(), 10);
    assert_eq!(bench.view().ends_at, None);
    // New ones go in at once, each in the place of a held one; seven of ten are enough.
    assert_eq!(bench.show("web", 10..16).len(), 10);
    assert_eq!(bench.show("web", 10..17).len(), 7);
    assert_eq!(
        bench.told,
        [
            "service \"web\": 10 of 10 held. Of these 10 are gone from the catalog.",
            "service \"web\": enough of them are back",
        ]
    );
    assert_eq!(bench.show("web", []).len(), 7);
    let (names, out) = bench.guard.release(Some(&["api".into()]), bench.now);
    assert_eq!((names.len(), out.len()), (0, 0));
    let (names, out) = bench.guard.release(Some(&["web".into()]), bench.now);
    assert_eq!(names, ["web"]);
    bench.carry_out(out);
    assert_eq!(bench.effective("web").len(), 0);
    assert_eq!(bench.guard.views(), []);
}

#[test]
fn a_lost_share_is_held_for_its_time() {
    let mut bench = Bench::of(10);
    bench.hide("web", 4..10, Status::Critical);
    assert_eq!(bench.show("web", 0..4).len(), 10);
    assert_eq!(bench.view().reason, "Of these 6 are critical.");
    assert_eq!(bench.after(30).len(), 10);
    // After a later loss a share may leave in its time, and the rest in that of the later loss.
    assert_eq!(bench.show("web", 0..3).len(), 10);
    assert_eq!(bench.after(29).len(), 10);
    assert_eq!(bench.after(2).len(), 7);
    assert_eq!(bench.after(28).len(), 7);
    assert_eq!(bench.after(2), ["00", "01", "02"]);
    assert_eq!(bench.guard.views(), []);
    assert!(bench.asked <= 15, "{} questions in 91 s", bench.asked);
}

// B08
#[test]
fn an_agent_that_restarts_loses_nothing() {
    let mut bench = Bench::of(2);
    assert_eq!(bench.show("web", []).len(), 2);
    bench.after(5);
    bench.hide("web", [0], Status::Critical);
    assert_eq!(
        bench.show("web", [1]).len(),
        1,
        "one of two may be critical"
    );
    assert_eq!(bench.show("web", 0..2).len(), 2);
    // A list of two that loses both and gets one back has lost one.
    assert_eq!(bench.guard.views(), []);
}

// B13
#[test]
fn maintenance_passes_at_once_even_of_the_last() {
    let mut bench = Bench::of(6);
    bench.hide("web", 1..6, Status::Maintenance);
    assert_eq!(bench.show("web", [0]), ["00"]);
    bench.hide("web", 0..6, Status::Maintenance);
    assert_eq!(bench.show("web", []).len(), 0);
    assert_eq!(bench.told.len(), 0, "{:?}", bench.told);
    // Those that went to maintenance one by one do not add up with a real loss.
    let mut bench = Bench::of(10);
    for gone in 1..=6 {
        bench.hide("web", 0..gone, Status::Maintenance);
        assert_eq!(bench.show("web", gone..10).len(), 10 - gone);
    }
    assert_eq!(bench.show("web", 7..10).len(), 3);
    // Some in maintenance, the others gone: the others are held.
    let mut bench = Bench::of(10);
    bench.hide("web", 0..3, Status::Maintenance);
    assert_eq!(bench.show("web", [9]).len(), 7);
    assert_eq!(bench.view().reason, "Of these 6 are gone from the catalog.");
    // Until Consul has answered, all of them are.
    let mut bench = Bench::of(2);
    bench.answers = false;
    assert_eq!(bench.show("web", []).len(), 2);
    assert_eq!(bench.view().reason, "The catalog is being asked why.");
}

// B13
#[test]
fn maintenance_after_the_question_is_asked_about_again_at_once() {
    let mut bench = Bench::of(6);
    let inquiry = || Inquiry {
        about: Some(Query::service("web")),
        unfiltered: evidence::unfiltered(&Query::service("web")),
        canary: None,
        rights: Vec::new(),
    };
    bench.answers = false;
    bench.hide("web", 3..6, Status::Maintenance);
    assert_eq!(bench.show("web", 0..3).len(), 6);
    // Consul answers, then the last three go to maintenance, too, then its answer arrives.
    let outrun = bench.evidence(inquiry());
    bench.now += Duration::from_millis(1);
    bench.hide("web", 0..6, Status::Maintenance);
    assert_eq!(bench.show("web", []).len(), 6);
    bench.answers = true;
    let asked = bench.asked;
    let out = bench.guard.inspected(outrun, bench.now);
    bench.carry_out(out);
    assert_eq!(bench.asked, asked + 1);
    assert_eq!(bench.effective("web").len(), 0);
    assert_eq!(bench.told.len(), 0, "{:?}", bench.told);
}

// B10
#[test]
fn without_permission_the_time_does_not_run() {
    for filtered in [false, true] {
        let mut bench = Bench::of(10);
        bench.filtered = filtered;
        bench.canary = if filtered { Ok(true) } else { Ok(false) };
        assert_eq!(bench.show("web", 0..2).len(), 10);
        assert_eq!(bench.after(10_000).len(), 10);
        assert_eq!(
            bench.view().reason,
            if filtered {
                "The answer was filtered by ACLs, so the time of the hold does not run."
            } else {
                "The token no longer sees the service consul, so the time of the hold does not run."
            }
        );
        assert_eq!(bench.view().ends_at, None);
        // The rights are back and the instances are not: now it runs.
        bench.filtered = false;
        bench.canary = Ok(true);
        assert_eq!(bench.after(30).len(), 10);
        assert_eq!(bench.after(61).len(), 2);
    }
    // A token that never saw the canary, or never saw all, proves nothing by it.
    for filtered in [false, true] {
        let mut bench = Bench::new(Rules::default());
        bench.canary = Ok(filtered);
        bench.filtered = filtered;
        bench.show("web", 0..10);
        assert_eq!(bench.show("web", 0..2).len(), 10);
        assert_eq!(bench.after(61).len(), 2);
    }
}

#[test]
fn while_consul_does_not_tell_the_time_does_not_run() {
    for silence in [Silence::Unknown, Silence::Forbidden] {
        let mut bench = Bench::of(10);
        bench.reads = Some(silence);
        assert_eq!(bench.show("web", 0..2).len(), 10);
        assert_eq!(bench.after(10_000).len(), 10);
        bench.reads = None;
        assert_eq!(bench.after(75).len(), 2);
    }
}

// I09
#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let mut bench = Bench::of(10);
    assert_eq!(bench.show("web", 0..2).len(), 10);
    // Stopped for ten minutes; then everything is due at once.
    bench.now += Duration::from_secs(600);
    let before = bench.asked;
    let out = bench.guard.handle_timeout(bench.now);
    bench.carry_out(out);
    assert_eq!(bench.asked - before, 1);
    assert_eq!(bench.effective("web").len(), 10);
    assert_eq!(bench.show("web", 0..10).len(), 10);
    assert_eq!(bench.guard.views(), []);
}

#[test]
fn a_held_one_whose_place_is_taken_goes_at_once() {
    let mut bench = Bench::of(10);
    bench.show("web", []);
    let mut renamed = instances([3]);
    renamed[0].id = "other".into();
    let query = Query::service("web");
    let answer = Arc::new(Answer::Instances(renamed));
    let out = bench.guard.take(&query, answer, false, bench.now);
    bench.carry_out(out);
    let shown = bench.effective("web");
    assert_eq!(shown.len(), 10);
    assert!(!shown.contains(&"03".to_owned()) && shown.contains(&"other".to_owned()));
    // All of them under other names: no loss at all.
    let mut renamed = instances(0..10);
    for one in &mut renamed {
        one.id.push('x');
    }
    let out = bench.guard.take(
        &query,
        Arc::new(Answer::Instances(renamed)),
        false,
        bench.now,
    );
    bench.carry_out(out);
    assert_eq!(bench.effective("web").len(), 10);
    assert_eq!(bench.guard.views(), []);
}

fn shown(bench: &mut Bench, list: &[Instance]) -> Vec<String> {
    let answer = Arc::new(Answer::Instances(list.to_vec()));
    let query = Query::service("web");
    let out = bench.guard.take(&query, answer, false, bench.now);
    bench.carry_out(out);
    bench.effective("web")
}

// B07
#[test]
fn instances_of_one_node_are_told_apart_by_their_ids() {
    let mut two = instances([1, 2]);
    // On one machine, at two ports, with no metadata.
    two[1].address = two[0].address.clone();
    two[1].port = 81;
    let mut bench = Bench::new(Rules::default());
    assert_eq!(shown(&mut bench, &two), ["01", "02"]);
    // One of two may go at once; when both go they are both held.
    assert_eq!(shown(&mut bench, &two[..1]), ["01"]);
    bench.after(3_600);
    assert_eq!(shown(&mut bench, &two), ["01", "02"]);
    bench.after(3_600);
    assert_eq!(shown(&mut bench, &[]), ["01", "02"]);
    assert_eq!(bench.view().held, 2);
    // One of them is back: the other one is a single removal.
    assert_eq!(shown(&mut bench, &two[1..]), ["02"]);
    assert_eq!(bench.guard.views(), []);

    // The same id on two nodes is two instances.
    let mut twins = vec![instance("01"), instance("01")];
    twins[1].node = Node::named("other").into();
    twins[1].address = "10.0.1.1".into();
    let mut bench = Bench::new(Rules::default());
    shown(&mut bench, &twins);
    assert_eq!(shown(&mut bench, &[]), ["01", "01"]);
    assert_eq!(bench.view().held, 2);
}

// B15
#[test]
fn an_address_of_ipv6_is_the_same_in_every_spelling() {
    let of = |id: &str, address: &str| Instance {
        address: address.into(),
        ..instance(id)
    };
    let mut bench = Bench::new(Rules::default());
    let two = [of("01", "2001:db8::1"), of("02", "::ffff:10.0.0.2")];
    shown(&mut bench, &two);
    assert_eq!(shown(&mut bench, &[]), ["01", "02"]);
    // Both come back under other ids, at the same addresses in other words.
    let back = [of("11", "2001:DB8:0:0::1"), of("12", "10.0.0.2")];
    assert_eq!(shown(&mut bench, &back), ["11", "12"]);
    assert_eq!(bench.guard.views(), []);
    // Another port is another place: such an instance takes the place of any held one.
    let mut bench = Bench::new(Rules::default());
    let four = [two.to_vec(), vec![instance("03"), instance("04")]].concat();
    shown(&mut bench, &four);
    shown(&mut bench, &[]);
    let mut elsewhere = back.clone();
    elsewhere[0].port = 81;
    assert_eq!(shown(&mut bench, &elsewhere[..1]), ["01", "02", "03", "11"]);
    assert_eq!(shown(&mut bench, &back[..1]), ["02", "03", "04", "11"]);
}

// B15
#[test]
fn two_at_one_address_are_two_until_one_of_them_goes() {
    let mut clash = instances([1, 2]);
    clash[1].address = clash[0].address.clone();
    let mut bench = Bench::new(Rules::default());
    assert_eq!(shown(&mut bench, &clash), ["01", "02"]);
    // What stays stands where the other one stood.
    assert_eq!(shown(&mut bench, &clash[1..]), ["02"]);
    assert_eq!(bench.guard.views(), []);
    assert_eq!(shown(&mut bench, &[]), ["02"]);
    assert_eq!(bench.view().held, 1);
}

// B07
#[test]
fn lists_of_every_size_are_held_when_they_are_emptied() {
    for count in [1, 2, 100] {
        let mut bench = Bench::of(count);
        assert_eq!(bench.show("web", []).len(), count);
        assert_eq!(bench.view().held, count);
        // All of them back, one of them on another node.
        let mut list = instances(0..count);
        list[0].node = Node::named("other").into();
        list.sort();
        assert_eq!(shown(&mut bench, &list).len(), count);
        assert_eq!(bench.guard.views(), []);
    }
    let mut bench = Bench::of(0);
    assert_eq!(bench.show("web", []), Vec::<String>::new());
    assert_eq!(bench.guard.views(), []);
}

#[test]
fn many_services_that_each_lose_one_are_held_together() {
    let mut rules = Rules::default();
    rules.default.max_loss = 70;
    let mut bench = Bench::new(rules);
    for service in 0..10 {
        bench.show(&format!("s{service}"), 0..3);
    }
    let mut held = 0;
    for service in 0..10 {
        held += bench.show(&format!("s{service}"), 0..1).len() - 1;
    }
    // Fifteen of thirty may go, so the eighth service and those after it lose nothing.
    assert_eq!(held, 6, "{:?}", bench.told);
    assert_eq!(bench.guard.views().len(), 3);
    for service in 0..5 {
        bench.show(&format!("s{service}"), 0..3);
    }
    assert_eq!(bench.guard.views(), [], "the sum is what counts");
}

#[test]
fn other_lists_are_guarded_too_and_may_lose_their_only_item() {
    let services = Query {
        kind: Kind::Services {
            node_meta: Default::default(),
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
    let mut take = |answer: &Arc<Answer>| {
        let out = bench
            .guard
            .take(&services, Arc::clone(answer), false, bench.now);
        bench.carry_out(out);
        bench.guard.effective(&services).unwrap()
    };
    let all = names(&["api", "consul", "web"]);
    let wiped = names(&["consul"]);
    take(&all);
    assert_eq!(take(&wiped), all, "the servers' own name does not count");
    let tree = Query {
        kind: Kind::Tree {
            prefix: "a".to_owned(),
        },
        scope: Scope::default(),
    };
    let one = Arc::new(Answer::Tree(vec![crate::catalog::KeyValue {
        path: "a/b".into(),
        value: Some("1".into()),
    }]));
    let none = Arc::new(Answer::Tree(Vec::new()));
    for answer in [&one, &none] {
        let out = bench
            .guard
            .take(&tree, Arc::clone(answer), false, bench.now);
        bench.carry_out(out);
        assert_eq!(bench.guard.effective(&tree).as_ref(), Some(answer));
    }
}

#[test]
fn what_a_former_process_believed_is_the_measure() {
    let mut bench = Bench::new(Rules::default());
    bench.now += Duration::from_secs(500);
    let answer = Arc::new(Answer::Instances(instances(0..12)));
    // Five were present then and seven more held: the measure is ten.
    let query = Query::service("web");
    bench.guard.restore(&query, answer, 10, false, bench.now);
    bench.guard.restore_canary(None);
    bench.canary = Ok(false);
    assert_eq!(bench.guard.reference(&query, bench.now), Some(10));
    assert_eq!(bench.show("web", 7..12).len(), 10);
    assert_eq!(
        bench.view().reason,
        "The token no longer sees the service consul, so the time of the hold does not run."
    );
}

#[test]
fn a_guard_that_is_switched_off_holds_nothing() {
    let mut bench = Bench::of(10);
    bench.show("web", []);
    let off = Rules {
        enabled: false,
        ..Rules::default()
    };
    let out = bench.guard.set_rules(off, bench.now);
    bench.carry_out(out);
    assert_eq!(bench.effective("web").len(), 0);
    bench.show("web", 0..10);
    assert_eq!(bench.show("web", []).len(), 0);
}

#[test]
fn questions_are_bounded_however_much_is_held() {
    let mut bench = Bench::new(Rules::default());
    for service in 0..500 {
        bench.show(&format!("s{service}"), 0..2);
    }
    bench.show("web", 0..2);
    bench.answers = false;
    bench.asked = 0;
    for service in 0..500 {
        bench.show(&format!("s{service}"), []);
    }
    assert_eq!(bench.asked, 8, "a few at a time");
}

/// What came while something was held counts as soon as that goes.
#[test]
fn a_loss_at_the_end_of_an_older_hold_is_judged_by_what_was_there() {
    let mut bench = Bench::new(Rules::default());
    bench.show("web", [0, 1, 3, 5, 6, 8]);
    bench.show("web", []);
    for seconds in [3, 26, 31] {
        bench.after(seconds);
    }
    bench.show("web", [0, 1, 7]);
    assert_eq!(bench.show("web", [0]), ["00", "01", "03", "05", "06", "08"]);

    let mut bench = Bench::of(6);
    bench.show("web", []);
    bench.show("web", [0, 1, 7]);
    bench.hide("web", 2..6, Status::Maintenance);
    assert_eq!(bench.show("web", [0]), ["00", "01", "07"]);
}

/// One step of the world.
#[derive(Debug, Clone)]
enum Step {
    Show(u8, BTreeSet<usize>),
    After(u64),
    Hidden(BTreeSet<usize>, Status),
    Canary(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || proptest::collection::btree_set(0usize..12, 0..12);
    let status = prop_oneof![Just(Status::Critical), Just(Status::Maintenance)];
    let step = prop_oneof![
        4 => (0u8..3, some()).prop_map(|(service, ids)| Step::Show(service, ids)),
        2 => (0u64..40).prop_map(Step::After),
        1 => (some(), status).prop_map(|(ids, status)| Step::Hidden(ids, status)),
        1 => any::<bool>().prop_map(Step::Canary),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn whatever_comes_the_guard_keeps_its_promises(steps in steps()) {
        let mut bench = Bench::new(Rules::default());
        bench.show("web", []);
        let mut ever: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::After(seconds) => { bench.after(seconds); }
                Step::Hidden(ids, status) => bench.hide("web", ids, status),
                Step::Canary(seen) => bench.canary = Ok(seen),
                Step::Show(service, ids) => {
                    let name = ["web", "api", "db"][service as usize];
                    let before: BTreeSet<String> = match bench.present.contains_key(name) {
                        true => bench.effective(name).into_iter().collect(),
                        false => BTreeSet::new(),
                    };
                    let query = Query::service(name);
                    let held = bench.guard.holding.contains(&query);
                    let stayed = bench.present.get(name).cloned().unwrap_or_default();
                    let shown = bench.show(name, ids);
                    let present = &bench.present[name];
                    let known = ever.entry(name.to_owned()).or_default();
                    known.extend(present.iter().map(|one| one.id.clone()));
                    // Present ones are shown as they are, in order, and nothing is made up.
                    for one in present {
                        prop_assert!(shown.contains(&one.id));
                    }
                    prop_assert!(shown.is_sorted());
                    prop_assert!(shown.iter().all(|id| known.contains(id)));
                    // With as many as before, the answer is what is shown.
                    let (was, is) = (stayed.len(), present.len());
                    if is >= was && !held {
                        prop_assert_eq!(shown.len(), is);
                    }
                    // Nothing but a named end takes more than the rule's share at once.
                    let in_maintenance = bench.hidden.values().flatten()
                        .any(|one| one.status == Status::Maintenance);
                    if !in_maintenance && !before.is_empty() {
                        let left = shown.len().max(1);
                        prop_assert!(
                            left + 1 >= was || left * 100 >= was * 70,
                            "{} of {} are left", left, was
                        );
                        prop_assert!(!shown.is_empty());
                    }
                }
            }
        }
        // With the rights there and time enough, only what leaves too few is held.
        bench.canary = Ok(true);
        bench.after(400);
        for (name, present) in &bench.present {
            let shown = bench.effective(name);
            if !present.is_empty() {
                prop_assert_eq!(shown.len(), present.len(), "{}", name);
            }
        }
        // An operator's release ends all of it.
        let (_, out) = bench.guard.release(None, bench.now);
        bench.carry_out(out);
        for (name, present) in &bench.present {
            prop_assert_eq!(bench.effective(name).len(), present.len());
        }
        prop_assert_eq!(bench.guard.views(), vec![]);
    }

    #[test]
    fn the_order_of_answers_of_several_queries_does_not_matter(
        first in proptest::collection::btree_set(0usize..12, 1..12),
        second in proptest::collection::btree_set(0usize..12, 0..12),
    ) {
        let run = |order: [&str; 2]| {
            let mut bench = Bench::of(12);
            bench.show("api", 0..12);
            for name in order {
                let ids = if name == "web" { &first } else { &second };
                bench.show(name, ids.iter().copied());
            }
            (bench.effective("web"), bench.effective("api"))
        };
        // Losses below the overall rule; above it the first one passes, and so must the sum.
        if (24 - first.len() - second.len()) * 2 <= 24 {
            prop_assert_eq!(run(["web", "api"]), run(["api", "web"]));
        }
    }
}
