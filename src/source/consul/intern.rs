//! Interns what many instances have in common (nodes, tags, metadata), so that each value is in memory once. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Instance, Meta, Node};

/// So many values are kept before any is dropped that no instance has.
const FEW: usize = 64;

/// The values of all instances.
#[derive(Debug)]
pub(super) struct Interner {
    nodes: Values<Arc<Node>>,
    tags: Values<Arc<[String]>>,
    metadata: Values<Meta>,
}

impl Interner {
    pub(super) fn new() -> Interner {
        Interner {
            nodes: Values::new(|node| Arc::strong_count(node) > 1),
            tags: Values::new(|tags| Arc::strong_count(tags) > 1),
            metadata: Values::new(Meta::is_shared),
        }
    }

    /// Replaces what the instance has in common with others by the copy that they have.
    pub(super) fn intern(&mut self, instance: &mut Instance) {
        self.nodes.intern(&mut instance.node);
        self.tags.intern(&mut instance.tags);
        self.metadata.intern(&mut instance.service_meta);
    }
}

#[derive(Debug)]
struct Values<T> {
    known: BTreeSet<T>,
    /// Whether anything besides this set has the value.
    in_use: fn(&T) -> bool,
    prune_at: usize,
}

impl<T: Clone + Ord> Values<T> {
    fn new(in_use: fn(&T) -> bool) -> Values<T> {
        Values {
            known: BTreeSet::new(),
            in_use,
            prune_at: FEW,
        }
    }

    fn intern(&mut self, value: &mut T) {
        if let Some(known) = self.known.get(value) {
            *value = known.clone();
            return;
        }
        if self.known.len() >= self.prune_at {
            self.known.retain(self.in_use);
            self.prune_at = FEW.max(2 * self.known.len());
        }
        self.known.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(number: usize) -> Instance {
        Instance {
            service_meta: Meta::from([("version".to_owned(), "1".to_owned())]),
            tags: ["a".to_owned(), "b".to_owned()].into(),
            ..Instance::plain("web", "node-1", &format!("web-{number}"), "10.0.0.1", 80)
        }
    }

    #[test]
    fn equal_values_of_instances_are_in_memory_once() {
        let mut interner = Interner::new();
        let [mut one, mut two] = [instance(1), instance(2)];
        let before = two.clone();
        interner.intern(&mut one);
        interner.intern(&mut two);
        assert_eq!(two, before);
        assert!(Arc::ptr_eq(&one.node, &two.node));
        assert!(Arc::ptr_eq(&one.tags, &two.tags));
        assert!(two.service_meta.is_shared());
    }

    #[test]
    fn values_that_no_instance_has_are_dropped() {
        let mut interner = Interner::new();
        let mut kept = Vec::new();
        for number in 0..100 * FEW {
            let mut one = instance(number);
            one.tags = [number.to_string()].into();
            interner.intern(&mut one);
            if number % 100 == 0 {
                kept.push(one);
            }
        }
        let known = interner.tags.known.len();
        assert!((kept.len()..=2 * kept.len()).contains(&known), "{known}");
    }
}
