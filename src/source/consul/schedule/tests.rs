//! The schedule against a Consul of the imagination: it answers a read within 5 ms and a held question when its answer
//! changes, or after a minute. What the schedule is told of changes is what signals would say.

use proptest::prelude::*;

use super::outage::{APART_MOST, AWAY_MOST};
use super::queues::SWEEP_RATE;
use super::*;

const WAIT: Duration = Duration::from_secs(60);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A question of the model, with when its answer changed and when that was seen.
#[derive(Debug, Default, Clone)]
struct Asked {
    version: u64,
    seen: Option<u64>,
    changed: Option<Instant>,
    /// The longest that a change waited until it was seen.
    late: Duration,
    /// Answered 403, or as if Consul were away.
    refused: bool,
    alone: bool,
    requests: u32,
}

struct Model {
    schedule: Schedule,
    now: Instant,
    asked: BTreeMap<u64, Asked>,
    /// What is under way: until when, the version that it will bring, and how.
    under_way: BTreeMap<u64, (Instant, u64, How)>,
    /// Of that, what Consul has no connection for.
    over: BTreeSet<u64>,
    random: fastrand::Rng,
    most: usize,
    peak: usize,
    away: bool,
    /// More connections are refused.
    limit: usize,
    /// When each request went out.
    sent: Vec<Instant>,
}

impl Model {
    fn new(most: usize, sorts: &[Sort], seed: u64) -> Model {
        let start = Instant::now();
        let mut schedule = Schedule::new(most, seed);
        let mut asked = BTreeMap::new();
        for (number, sort) in (1..).zip(sorts) {
            schedule.add(number, *sort, Pace::default());
            asked.insert(number, Asked::default());
        }
        Model {
            schedule,
            now: start,
            asked,
            under_way: BTreeMap::new(),
            over: BTreeSet::new(),
            random: fastrand::Rng::with_seed(seed),
            most,
            peak: 0,
            away: false,
            limit: usize::MAX,
            sent: Vec::new(),
        }
    }

    /// Lets time pass.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.send();
            let ends = self
                .under_way
                .iter()
                .map(|(number, (at, ..))| (*at, *number))
                .min();
            let wakes = self.schedule.wakes_at(self.now);
            let next = ends.map(|(at, _)| at).into_iter().chain(wakes).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if let Some((_, number)) = ends.filter(|(at, _)| *at <= self.now) {
                self.end(number);
            }
        }
    }

    fn send(&mut self) {
        while let Some(step) = self.schedule.next(self.now) {
            match step {
                Step::GiveUp(number) => {
                    self.over.remove(&number);
                    let (_, _, how) = self.under_way.remove(&number).unwrap();
                    assert_ne!(how, How::Read);
                }
                Step::Ask(number, how) => {
                    let asked = self.asked.get_mut(&number).unwrap();
                    asked.requests += 1;
                    let over = self.under_way.len() - self.over.len() >= self.limit;
                    if over {
                        self.over.insert(number);
                    }
                    let held = !over
                        && how != How::Read
                        && asked.seen == Some(asked.version)
                        && !self.away;
                    let takes = if held && how == How::Turn {
                        millis(5000)
                    } else if held {
                        WAIT
                    } else {
                        millis(self.random.u64(1..=5))
                    };
                    let former = self
                        .under_way
                        .insert(number, (self.now + takes, asked.version, how));
                    assert_eq!(former, None, "{number} is asked twice");
                    self.sent.push(self.now);
                }
            }
            self.peak = self.peak.max(self.under_way.len());
            assert!(self.under_way.len() <= self.most);
        }
        assert_eq!(self.schedule.load().under_way, self.under_way.len());
    }

    fn end(&mut self, number: u64) {
        let over = self.over.remove(&number);
        let (_, version, _) = self.under_way.remove(&number).unwrap();
        let asked = self.asked.get_mut(&number).unwrap();
        let failure = |everyone| Failure {
            everyone,
            lost: everyone,
            address: everyone,
            ..Failure::default()
        };
        if self.away {
            self.schedule.failed(number, failure(true), self.now);
        } else if over {
            let refused = Failure {
                refused: true,
                everyone: true,
                ..Failure::default()
            };
            self.schedule.failed(number, refused, self.now);
        } else if asked.alone {
            let failure = Failure {
                everyone: true,
                address: true,
                ..Failure::default()
            };
            self.schedule.failed(number, failure, self.now);
        } else if asked.refused {
            self.schedule.failed(number, failure(false), self.now);
        } else {
            let changed = asked.seen.is_some_and(|seen| seen != version);
            asked.seen = Some(version);
            if let Some(at) = asked.changed.filter(|_| version == asked.version) {
                asked.late = asked.late.max(self.now - at);
                asked.changed = None;
            }
            self.schedule.answered(number, changed, 0, self.now);
        }
    }

    /// The answer to a question changes; whoever waits for that hears of it.
    fn change(&mut self, number: u64) {
        let asked = self.asked.get_mut(&number).unwrap();
        asked.version += 1;
        asked.changed.get_or_insert(self.now);
        if let Some((at, version, How::Hold | How::Turn)) = self.under_way.get_mut(&number) {
            (*at, *version) = (self.now + millis(1), asked.version);
        }
    }

    fn all_current(&self) -> bool {
        self.asked
            .values()
            .all(|one| one.refused || one.seen == Some(one.version))
    }

    /// The longest that a change waited, or still waits.
    fn latest(&self) -> Duration {
        let waits = |one: &Asked| {
            one.late
                .max(one.changed.map_or(Duration::ZERO, |at| self.now - at))
        };
        self.asked
            .values()
            .filter(|one| !one.refused)
            .map(waits)
            .max()
            .unwrap_or_default()
    }

    fn requests_since(&self, from: Instant) -> usize {
        self.sent.iter().filter(|at| **at >= from).count()
    }

    /// The most requests within any second.
    fn busiest_second(&self, from: Instant) -> usize {
        let sent: Vec<_> = self.sent.iter().filter(|at| **at >= from).collect();
        let within = |first: usize| {
            sent[first..]
                .iter()
                .take_while(|at| ***at < *sent[first] + Duration::from_secs(1))
                .count()
        };
        (0..sent.len()).map(within).max().unwrap_or(0)
    }
}

fn crowd(count: usize) -> Vec<Sort> {
    let signals = [Sort::Signal; 4];
    signals
        .into_iter()
        .chain(vec![Sort::Signalled; count])
        .collect()
}

#[test]
fn few_questions_are_all_held() {
    let mut model = Model::new(53, &[Sort::Alone; 30], 1);
    model.pass(millis(200));
    assert_eq!((model.schedule.load().held, model.sent.len()), (30, 60));
    for number in 1..=30 {
        model.change(number);
        model.pass(millis(50));
    }
    assert!(model.latest() < millis(30), "{:?}", model.latest());
    let rest = model.now;
    model.pass(WAIT * 4);
    assert_eq!(model.requests_since(rest), 4 * 30);
}

#[test]
fn a_thousand_first_answers_come_before_anything_waits() {
    let mut model = Model::new(53, &crowd(1000), 1);
    model.pass(millis(2));
    assert_eq!(model.schedule.load().held, 0);
    // 3 ms each, 53 at a time.
    model.pass(millis(100));
    assert!(model.all_current());
    model.pass(millis(50));
    let load = model.schedule.load();
    assert_eq!((load.held, load.crowded), (44, true));
    assert!(
        model
            .asked
            .iter()
            .take(4)
            .all(|(number, _)| model.under_way.contains_key(number))
    );
}

#[test]
fn at_rest_a_hundred_questions_cost_less_than_a_request_a_second() {
    for count in [300, 1000] {
        let mut model = Model::new(53, &crowd(count), 1);
        model.pass(Duration::from_secs(300));
        let rest = model.now;
        model.pass(Duration::from_secs(600));
        let rate = model.requests_since(rest) as f64 / 600.0;
        assert!(rate <= count as f64 / 100.0, "{rate}");
        assert!(
            model.busiest_second(rest) <= SWEEP_RATE + 44,
            "{}",
            model.busiest_second(rest)
        );
    }
}

#[test]
fn what_a_signal_names_is_read_at_once_and_the_second_time_is_told_by_consul() {
    let mut model = Model::new(53, &crowd(1000), 1);
    model.pass(Duration::from_secs(20));
    for number in [500, 5, 1004, 777] {
        model.change(number);
        model.schedule.name(number, model.now);
        model.pass(millis(100));
        // No signal this time.
        model.change(number);
        model.pass(millis(100));
    }
    assert!(model.latest() < millis(50), "{:?}", model.latest());
}

#[test]
fn what_no_signal_shows_is_found_within_the_stated_age() {
    let mut model = Model::new(53, &crowd(300), 1);
    model.pass(Duration::from_secs(20));
    for number in 5..=304 {
        model.change(number);
    }
    model.pass(Duration::from_secs(230));
    let stated = model.schedule.load().worst_age;
    assert!(
        stated <= Duration::from_secs(220) && model.latest() <= stated,
        "{:?}",
        model.latest()
    );
    assert!(model.all_current());
}

#[test]
fn questions_that_nothing_signals_take_turns() {
    let mut model = Model::new(10, &[Sort::Alone; 30], 1);
    model.pass(Duration::from_secs(10));
    for number in 1..=30 {
        model.change(number);
        model.pass(Duration::from_secs(1));
    }
    model.pass(Duration::from_secs(30));
    // 8 are held for 5 s each.
    assert!(
        model.latest() <= Duration::from_secs(21),
        "{:?}",
        model.latest()
    );
    assert!(model.all_current());
}

#[test]
fn a_sweep_reads_fifty_a_second_and_does_not_hold_up_what_is_named() {
    let mut model = Model::new(53, &crowd(1000), 1);
    model.pass(Duration::from_secs(30));
    let rest = model.now;
    for number in 5..=1004 {
        model.change(number);
        model.schedule.sweep(number);
    }
    model.schedule.name(7, model.now);
    model.pass(millis(100));
    assert_eq!(model.asked[&7].seen, Some(1));
    model.pass(Duration::from_secs(21));
    assert!(model.all_current());
    // Those that were held, or now are, and the one that was named, are not part of it.
    assert!(
        model.busiest_second(rest) <= 2 * SWEEP_RATE + 150,
        "{}",
        model.busiest_second(rest)
    );
}

#[test]
fn a_limit_of_consul_s_leaves_a_quarter_to_others_and_is_tried_again() {
    let mut model = Model::new(53, &crowd(300), 1);
    model.limit = 20;
    model.pass(Duration::from_secs(10));
    assert!(model.all_current());
    let load = model.schedule.load();
    assert!(load.limit.is_some_and(|limit| limit <= 20), "{load:?}");
    assert!(load.budget <= 15 && model.under_way.len() <= 15, "{load:?}");
    model.limit = usize::MAX;
    model.pass(Duration::from_secs(65));
    assert_eq!(model.schedule.load().limit, None);
    assert!(model.schedule.load().held > 40);
}

// A01
#[test]
fn an_outage_costs_one_request_at_a_time_and_all_is_asked_anew() {
    let mut model = Model::new(53, &crowd(1000), 1);
    model.pass(Duration::from_secs(30));
    model.away = true;
    for number in model.under_way.keys().copied().collect::<Vec<_>>() {
        model.end(number);
    }
    model.pass(Duration::from_secs(60));
    let steady = model.now;
    model.pass(Duration::from_secs(600));
    assert!(
        model.requests_since(steady) <= 600,
        "{}",
        model.requests_since(steady)
    );
    assert!(model.under_way.len() <= 1);
    for number in 1..=1004 {
        model.change(number);
    }
    model.away = false;
    model.pass(AWAY_MOST + APART_MOST + millis(300));
    assert!(model.all_current());
}

#[test]
fn one_question_that_fails_as_if_all_did_stops_no_other() {
    for sorts in [vec![Sort::Alone; 12], crowd(100)] {
        let mut model = Model::new(20, &sorts, 1);
        let bad = sorts.len() as u64;
        for number in [1, bad] {
            let asked = model.asked.get_mut(&number).unwrap();
            (asked.alone, asked.refused) = (true, true);
        }
        model.pass(Duration::from_secs(100));
        assert!(model.all_current());
        model.away = true;
        for number in model.under_way.keys().copied().collect::<Vec<_>>() {
            model.end(number);
        }
        model.pass(Duration::from_secs(20));
        model.away = false;
        for number in 2..bad {
            model.change(number);
        }
        // Each probe may meet one of the two first.
        model.pass(3 * AWAY_MOST + APART_MOST + Duration::from_secs(35));
        assert!(model.all_current());
    }
}

#[test]
fn nothing_is_left_to_do_when_all_have_gone_during_an_outage() {
    let mut model = Model::new(20, &[Sort::Alone; 3], 1);
    model.away = true;
    model.pass(Duration::from_secs(5));
    for number in 1..=3 {
        model.schedule.remove(number);
        model.under_way.remove(&number);
    }
    model.now += AWAY_MOST;
    assert_eq!(model.schedule.next(model.now), None);
    assert_eq!(model.schedule.wakes_at(model.now), None);
}

#[test]
fn registrations_without_end_keep_nobody_from_being_read() {
    let mut model = Model::new(53, &crowd(1000), 1);
    model.pass(Duration::from_secs(30));
    let rest = model.now;
    for _ in 0..400 {
        for number in 5..=1004 {
            model.schedule.sweep(number);
        }
        model.pass(Duration::from_secs(1));
    }
    let unread = |one: &&Asked| one.requests < 2;
    assert_eq!(model.asked.values().filter(unread).count(), 0);
    let oldest = model
        .schedule
        .entries
        .values()
        .filter(|one| one.sort == Sort::Signalled);
    let oldest = oldest
        .map(|one| model.now - one.asked.unwrap())
        .max()
        .unwrap();
    assert!(oldest <= Duration::from_secs(70), "{oldest:?}");
    assert!(
        model.requests_since(rest) <= 400 * (SWEEP_RATE + 2),
        "{}",
        model.requests_since(rest)
    );
}

#[test]
fn a_question_that_came_during_an_outage_is_asked_after_it() {
    let mut model = Model::new(53, &[Sort::Alone], 1);
    model.away = true;
    model.pass(Duration::from_secs(10));
    model.schedule.add(2, Sort::Alone, Pace::default());
    model.asked.insert(2, Asked::default());
    model.schedule.remove(1);
    model.under_way.remove(&1);
    model.pass(Duration::from_secs(10));
    assert!(model.asked[&2].requests > 0, "it asks for all now");
    model.away = false;
    model.pass(Duration::from_secs(6));
    assert!(model.asked[&2].seen.is_some());
}

// B25
#[test]
fn fifty_sources_come_back_apart() {
    for watches in [1, 2, 20] {
        let mut sent = Vec::new();
        let back = Duration::from_secs(300);
        for seed in 0..50 {
            let mut model = Model::new(53, &vec![Sort::Alone; watches], seed);
            model.pass(Duration::from_secs(20));
            model.away = true;
            for number in model.under_way.keys().copied().collect::<Vec<_>>() {
                model.end(number);
            }
            model.pass(back);
            model.away = false;
            let from = model.now;
            model.pass(Duration::from_secs(10));
            assert!(model.all_current());
            let first: Vec<_> = model
                .sent
                .iter()
                .filter(|at| **at >= from)
                .take(watches)
                .collect();
            assert!(first.iter().all(|at| **at - from <= AWAY_MOST + APART_MOST));
            sent.extend(
                model
                    .sent
                    .iter()
                    .filter(|at| **at >= from)
                    .map(|at| *at - from),
            );
        }
        sent.sort();
        let within = |from: &Duration| {
            sent.partition_point(|at| *at < *from + millis(1000))
                - sent.partition_point(|at| at < from)
        };
        let peak = sent.iter().map(within).max().unwrap();
        let mean = sent
            .iter()
            .filter(|at| **at < Duration::from_secs(10))
            .count()
            / 10;
        assert!(
            peak < 5 * mean,
            "{watches}: {peak} in a second, {mean} in the mean"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_question_starves_and_the_budget_holds(
        seed: u64,
        most in 1usize..80,
        signalled in 0usize..150,
        alone in 1usize..60,
        refused in prop::collection::btree_set(1u64..200, 0..20),
        limit in prop::option::of(5usize..40),
        events in prop::collection::vec((0u8..8, 1u64..200, 0u64..3000), 1..60),
    ) {
        let sorts: Vec<Sort> = crowd(signalled).into_iter().chain(vec![Sort::Alone; alone]).collect();
        let mut model = Model::new(most, &sorts, seed);
        model.limit = limit.unwrap_or(usize::MAX);
        for number in &refused {
            if let Some(asked) = model.asked.get_mut(number) {
                asked.refused = true;
            }
        }
        for (kind, number, pause) in events {
            let known = model.asked.contains_key(&number);
            match kind {
                0 | 1 if known => {
                    model.change(number);
                    model.schedule.name(number, model.now);
                }
                2 if known => {
                    model.change(number);
                    model.schedule.sweep(number);
                }
                3 if known => model.change(number),
                4 => model.away = true,
                5 | 6 => model.away = false,
                7 if known => model.schedule.set_sort(number, Sort::Signalled, model.now),
                _ => {}
            }
            model.pass(millis(pause));
        }
        model.away = false;
        // The longest backoff, and the age that is stated.
        model.pass(Duration::from_secs(40));
        model.pass(model.schedule.load().worst_age.max(WAIT) + Duration::from_secs(40));
        let stale = model.asked.iter().filter(|(_, one)| !one.refused && one.seen != Some(one.version));
        let stale: Vec<_> = stale.map(|(number, one)| (number, one, &model.schedule.entries[number])).collect();
        prop_assert!(stale.is_empty(), "{:?} {:?}", stale, model.schedule.load());
        prop_assert!(model.peak <= most);
    }
}
