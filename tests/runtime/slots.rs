//! A backend whose algorithm takes no servers at run time has slots: instances move in and out of them
//! without a reload, and only running out of them costs one.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gateway::{Gateway, HEAD};
use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::traffic::{Limits, Traffic};

const TEMPLATE: &str = "
backend web
    balance static-rr
    {{slots (service \"@service@\") name=\"web\" spare=2 options=\"check inter 1s\"}}
";

// H06
#[haproxies]
fn instances_move_in_and_out_of_slots(version: Version) {
    let consul = Consul::start().unwrap();
    let template = format!("{HEAD}{TEMPLATE}");
    let mut gateway = Gateway::new(&consul, &version, &template, "", "");
    let instances: Vec<Backend> = (0..6).map(|n| gateway.instance(&n.to_string())).collect();
    let at =
        |numbers: &[usize]| -> Vec<_> { numbers.iter().map(|n| instances[*n].address()).collect() };
    let register = |n: usize| gateway.register(&n.to_string(), instances[n].address(), 1);
    (0..3).for_each(register);
    let mark = gateway.start(&at(&[0, 1, 2]));
    let limits = Limits {
        clients: 4,
        pause: Duration::from_millis(2),
        requests: u64::MAX,
        time: Duration::from_secs(120),
    };
    let traffic = Traffic::start_kept(gateway.entrance, limits, &["web"]);
    let all_serve = |numbers: &[usize]| {
        gateway.converge(&at(numbers));
        let names: BTreeSet<String> = numbers
            .iter()
            .map(|n| instances[*n].name().to_owned())
            .collect();
        gateway.wait(&format!("answers of {names:?}"), || {
            (traffic.look(|report| report.recent(40))? == names).then_some(())
        });
    };
    all_serve(&[0, 1, 2]);

    // Three slots and two spare ones.
    gateway.register("3", instances[3].address(), 1);
    all_serve(&[0, 1, 2, 3]);
    gateway.deregister("1");
    all_serve(&[0, 2, 3]);
    gateway.register("4", instances[4].address(), 1);
    all_serve(&[0, 2, 3, 4]);
    gateway.assert_not_reloaded(&mark);

    // The fifth one takes the last slot: HAProxy is loaded with more.
    gateway.register("5", instances[5].address(), 1);
    all_serve(&[0, 2, 3, 4, 5]);
    let loaded = gateway.mark();
    assert_eq!(
        loaded.reloads.as_u64(),
        mark.reloads.as_u64().map(|n| n + 1)
    );
    gateway.register("1", instances[1].address(), 1);
    all_serve(&[0, 1, 2, 3, 4, 5]);
    gateway.deregister("0");
    all_serve(&[1, 2, 3, 4, 5]);
    gateway.assert_not_reloaded(&loaded);
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{version}: {:?}", report.errors);
    (0..6).for_each(|n| gateway.deregister(&n.to_string()));
}
