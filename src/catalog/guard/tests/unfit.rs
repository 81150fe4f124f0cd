//! The guard does not count instances that are unfit: HAProxy never serves them.

use super::*;
use crate::catalog::fitness::Fitness;

/// Out of range, so that the instance is left out wherever it is rendered.
const NO_PORT: i64 = 0;

impl Bench {
    /// The source shows these, of which some are unfit; gives the ids of the fit ones that templates see.
    fn show_unfit(
        &mut self,
        fit: std::ops::Range<usize>,
        unfit: std::ops::Range<usize>,
    ) -> Vec<String> {
        let unfit = instances(unfit).into_iter().map(|one| Instance {
            port: NO_PORT,
            ..one
        });
        let mut list: Vec<Instance> = unfit.chain(instances(fit)).collect();
        list.sort();
        self.present.insert("web".to_owned(), list.clone());
        let query = Query::service("web");
        let answer = Arc::new(Answer::Instances(list));
        let out = self.guard.take(&query, answer, self.filtered, self.now);
        self.carry_out(out);
        match self.guard.effective(&query).as_deref() {
            Some(Answer::Instances(list)) => {
                let fit = list.iter().filter(|one| one.port != NO_PORT);
                fit.map(|one| one.id.clone()).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn unfit_instances_that_vanish_in_mass_are_not_held() {
    let mut bench = Bench::new(Rules::default());
    bench.show_unfit(0..4, 4..20);
    assert_eq!(bench.show_unfit(0..4, 0..0).len(), 4);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
    // Nor together with a single fit one, nor when they come again.
    bench.show_unfit(0..4, 4..20);
    assert_eq!(bench.show_unfit(0..3, 0..0).len(), 3);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
}

#[test]
fn unfit_instances_that_stay_hide_no_loss_of_the_others() {
    let mut bench = Bench::new(Rules::default());
    bench.show_unfit(0..4, 4..20);
    assert_eq!(bench.show_unfit(0..0, 4..20).len(), 4);
    let view = &bench.guard.views()[0];
    assert_eq!((view.present, view.held, view.reference), (0, 4, 4));
}

#[test]
fn unfit_instances_that_come_as_fit_ones_go_hide_no_loss() {
    let mut bench = Bench::new(Rules::default());
    bench.show_unfit(0..4, 0..0);
    assert_eq!(bench.show_unfit(0..0, 4..20).len(), 4);
    let view = &bench.guard.views()[0];
    assert_eq!((view.present, view.held, view.reference), (0, 4, 4));
    // They stand for none of those that are held, under whatever name.
    assert_eq!(bench.show_unfit(0..0, 20..40).len(), 4);
    assert_eq!(bench.show_unfit(0..4, 20..40).len(), 4);
    assert!(bench.guard.views().is_empty());
}

#[test]
fn instances_that_turn_unfit_in_mass_are_held_as_they_were() {
    let mut bench = Bench::new(Rules::default());
    bench.show_unfit(0..4, 0..0);
    assert_eq!(bench.show_unfit(0..0, 0..4), ["00", "01", "02", "03"]);
    let view = &bench.guard.views()[0];
    assert_eq!((view.present, view.held), (0, 4));
    assert_eq!(bench.show_unfit(0..4, 0..0).len(), 4);
    assert!(bench.guard.views().is_empty());
}

#[test]
fn one_instance_of_many_that_turns_unfit_leaves() {
    let mut bench = Bench::new(Rules::default());
    bench.show_unfit(0..10, 0..0);
    assert_eq!(bench.show_unfit(0..9, 9..10).len(), 9);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
}

#[test]
fn what_is_unfit_no_longer_counts_again() {
    let mut bench = Bench::new(Rules::default());
    bench.show_unfit(0..5, 5..10);
    bench.show("web", 0..10);
    bench.show("web", 0..1);
    assert_eq!(bench.guard.views()[0].reference, 10);
}

fn denies(network: &str) -> Rules {
    Rules {
        fitness: Fitness {
            deny: vec![network.parse().unwrap()],
            ..Fitness::default()
        },
        ..Rules::default()
    }
}

#[test]
fn networks_that_the_operator_denies_are_no_loss() {
    let mut bench = Bench::of(20);
    let out = bench.guard.set_rules(denies("10.0.0.8/29"), bench.now);
    bench.carry_out(out);
    // Of twenty, eight are denied and one goes.
    bench.show("web", 0..19);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
    bench.show("web", 0..0);
    assert_eq!(bench.guard.views()[0].reference, 12);
}

#[test]
fn what_is_held_leaves_when_the_operator_denies_its_network() {
    let mut bench = Bench::of(20);
    assert_eq!(bench.show("web", 0..0).len(), 20);
    let out = bench.guard.set_rules(denies("10.0.0.8/29"), bench.now);
    assert!(out.iter().any(|one| matches!(one, Output::Changed(_))));
    bench.carry_out(out);
    assert_eq!(bench.effective("web").len(), 12);
    let view = &bench.guard.views()[0];
    assert_eq!((view.held, view.reference), (12, 12));
    let out = bench.guard.set_rules(denies("10.0.0.0/8"), bench.now);
    bench.carry_out(out);
    assert!(bench.effective("web").is_empty() && bench.guard.views().is_empty());
}
