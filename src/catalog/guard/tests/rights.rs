//! What a token may not see is not gone: no time runs for it.

use super::*;

fn denied() -> Permission {
    Permission::Denied(Right::Node("n7".into()))
}

// B10
#[test]
fn no_time_runs_while_the_token_may_not_read_a_node() {
    let unseen = Permission::Unseen("n7".into());
    for permission in [denied(), unseen, Permission::Silent] {
        let mut bench = Bench::of(10);
        bench.permission = permission.clone();
        assert_eq!(bench.show("web", 0..5).len(), 10);
        assert_eq!(bench.after(10_000).len(), 10);
        assert_eq!(bench.view().ends_at, None);
        assert_eq!(
            bench.view().reason,
            match permission {
                Permission::Denied(_) =>
                    "The token may not read the node \"n7\", so the time of the hold does not run.",
                Permission::Unseen(_) =>
                    "The node \"n7\" is gone from the catalog as well, and Consul does not tell whether the token may read it, so the time of the hold does not run.",
                _ => "The catalog does not tell why, so the time of the hold does not run.",
            }
        );
        // The rights are back and the instances are not: its whole time runs from there.
        bench.permission = Permission::Given;
        assert_eq!(bench.after(55).len(), 10);
        assert_eq!(bench.after(20).len(), 5);
    }
}

#[test]
fn time_before_the_rights_were_lost_counts_for_nothing() {
    let mut bench = Bench::of(10);
    assert_eq!(bench.show("web", 0..5).len(), 10);
    for _ in 0..20 {
        bench.permission = denied();
        assert_eq!(bench.after(15).len(), 10);
        bench.permission = Permission::Given;
        assert_eq!(bench.after(45).len(), 10);
    }
}

/// The servers may act on a policy that the agent does not know yet.
#[test]
fn the_tokens_rights_are_believed_only_after_a_while() {
    let mut rules = Rules::default();
    rules.default.hold = Some(Duration::from_secs(5));
    for (permission, seconds) in [(Permission::Given, 44), (Permission::Certain, 4)] {
        let mut bench = Bench::new(rules.clone());
        bench.show("web", 0..10);
        bench.permission = permission;
        assert_eq!(bench.show("web", 0..5).len(), 10);
        assert_eq!(bench.after(seconds).len(), 10);
        assert_eq!(bench.after(2).len(), 5);
    }
}

#[test]
fn a_part_of_other_lists_may_be_hidden_too() {
    let node = |name: String| crate::catalog::Node {
        name,
        id: String::new(),
        address: "10.0.0.1".into(),
        datacenter: "dc1".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
    };
    let nodes = Query {
        kind: Kind::Nodes {
            near: None,
            filter: None,
            node_meta: Default::default(),
        },
        scope: Scope::default(),
    };
    let answer = |count: usize| {
        let list = (0..count).map(|number| node(format!("n{number}")));
        Arc::new(Answer::Nodes(list.collect()))
    };
    for (permission, left) in [
        (denied(), 10),
        (Permission::Given, 5),
        (Permission::Untold, 5),
    ] {
        let mut bench = Bench::new(Rules::default());
        bench.show("web", 0..1);
        bench.permission = permission.clone();
        for count in [10, 5] {
            let out = bench.guard.take(&nodes, answer(count), false, bench.now);
            bench.carry_out(out);
        }
        let reason = bench.view().reason;
        bench.after(100);
        let shown = bench.guard.effective(&nodes).unwrap();
        assert_eq!(shown.len(), left, "{permission:?}");
        if permission == Permission::Given {
            assert_eq!(reason, "The token may read them, so they are gone.");
        }
    }
}

#[test]
fn all_nodes_of_what_vanished_are_asked_about_or_an_even_part() {
    for (count, most) in [(3, 4), (2_000, 513)] {
        let item = |number: usize| {
            let mut one = instance("1");
            one.node = Node::named(&format!("n{number:04}")).into();
            items::Item::Instance(Box::new(one))
        };
        let items: Vec<items::Item> = (0..count).chain([0]).map(item).collect();
        let rights = evidence::rights(items.iter());
        assert_eq!(rights[0], Right::Node("n0000".into()));
        assert_eq!(rights.last(), Some(&Right::Service("web".into())));
        assert!(
            rights.len() > most / 2 && rights.len() <= most,
            "{}",
            rights.len()
        );
    }
}
