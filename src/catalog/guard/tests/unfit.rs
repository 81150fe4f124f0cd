//! The guard does not count instances that are unfit: HAProxy never serves them.

use super::*;

impl Bench {
    /// A rendering leaves these out of the service.
    fn leave_out(&mut self, service: &str, ids: std::ops::Range<usize>) {
        let keys = instances(ids)
            .into_iter()
            .map(|one| (one.node.name.clone(), one.id));
        let unfit = Unfit::from([(Query::service(service), keys.collect())]);
        let out = self.guard.set_unfit(unfit);
        self.carry_out(out);
    }
}

#[test]
fn unfit_instances_that_vanish_in_mass_are_not_held() {
    let mut bench = Bench::of(20);
    bench.leave_out("web", 4..20);
    assert_eq!(bench.show("web", 0..4).len(), 4);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
    // Nor together with a single fit one, nor when they come again.
    bench.show("web", 0..20);
    bench.leave_out("web", 4..20);
    assert_eq!(bench.show("web", 0..3).len(), 3);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
}

#[test]
fn unfit_instances_that_stay_hide_no_loss_of_the_others() {
    let mut bench = Bench::of(20);
    bench.leave_out("web", 4..20);
    let shown = bench.show("web", 4..20);
    assert_eq!(shown.len(), 20, "the fit ones are held");
    let view = &bench.guard.views()[0];
    assert_eq!((view.present, view.held, view.reference), (0, 4, 4));
}

#[test]
fn what_is_unfit_no_longer_counts_again() {
    let mut bench = Bench::of(10);
    bench.leave_out("web", 5..10);
    bench.leave_out("web", 0..0);
    bench.show("web", 0..1);
    assert_eq!(bench.guard.views()[0].reference, 10);
}
