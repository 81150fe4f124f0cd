//! A small map that takes little room: most of what a catalog holds is ten thousand times a few pairs.
//!
//! A `BTreeMap` takes room for eleven pairs as soon as it holds one.

use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names with their values, sorted by name. A clone shares them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pairs<V>(Arc<[(String, V)]>);

impl<V> Pairs<V> {
    /// No pair.
    pub fn new() -> Pairs<V> {
        Pairs(Arc::default())
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a clone has the same pairs.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        let at = self
            .0
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        at.ok()
            .and_then(|at| self.0.get(at))
            .map(|(_, value)| value)
    }

    /// Whether a name is here.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The pairs, by name.
    pub fn iter(&self) -> Iter<'_, V> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The names, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values, by name.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The pairs, with values that may be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut V)>
    where
        V: Clone,
    {
        let pairs = Arc::make_mut(&mut self.0).iter_mut();
        pairs.map(|(name, value)| (&*name, value))
    }

    /// The values, by name, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V>
    where
        V: Clone,
    {
        self.iter_mut().map(|(_, value)| value)
    }

    /// Adds a pair, or replaces the one of its name. Not for many: each moves all.
    pub fn insert(&mut self, name: String, value: V)
    where
        V: Clone,
    {
        let all = self.0.iter().cloned();
        *self = all.chain([(name, value)]).collect();
    }
}

impl<V> Default for Pairs<V> {
    fn default() -> Pairs<V> {
        Pairs::new()
    }
}

/// The last of two pairs of one name counts.
impl<V> FromIterator<(String, V)> for Pairs<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(pairs: I) -> Pairs<V> {
        let mut all: Vec<(String, V)> = pairs.into_iter().collect();
        all.reverse();
        all.sort_by(|(one, _), (two, _)| one.cmp(two));
        all.dedup_by(|(later, _), (first, _)| later == first);
        Pairs(all.into())
    }
}

impl<V, const N: usize> From<[(String, V); N]> for Pairs<V> {
    fn from(pairs: [(String, V); N]) -> Pairs<V> {
        pairs.into_iter().collect()
    }
}

/// What [`Pairs::iter`] gives.
pub type Iter<'a, V> =
    std::iter::Map<slice::Iter<'a, (String, V)>, fn(&'a (String, V)) -> (&'a String, &'a V)>;

impl<'a, V> IntoIterator for &'a Pairs<V> {
    type Item = (&'a String, &'a V);
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Iter<'a, V> {
        self.iter()
    }
}

impl<V: Serialize> Serialize for Pairs<V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Pairs<V>, D::Error> {
        from.deserialize_map(Reader(PhantomData))
    }
}

struct Reader<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Reader<V> {
    type Value = Pairs<V>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
        let mut all = Vec::new();
        while let Some(pair) = map.next_entry()? {
            all.push(pair);
        }
        Ok(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_as_a_map_that_is_sorted(pairs in proptest::collection::vec(("[a-c]{0,2}", 0..9), 0..12)) {
            let map: BTreeMap<String, i32> = pairs.iter().cloned().collect();
            let small: Pairs<i32> = pairs.iter().cloned().collect();
            prop_assert_eq!(small.len(), map.len());
            prop_assert_eq!(small.is_empty(), map.is_empty());
            prop_assert!(small.iter().eq(map.iter()));
            prop_assert!(small.keys().eq(map.keys()));
            prop_assert!(small.values().eq(map.values()));
            for name in ["", "a", "bb", "cc", "d"] {
                prop_assert_eq!(small.get(name), map.get(name));
            }
            let text = serde_json::to_string(&small).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(&serde_json::from_str::<Pairs<i32>>(&text).unwrap(), &small);
            let mut grown = Pairs::new();
            for (name, value) in pairs {
                grown.insert(name, value);
            }
            prop_assert_eq!(grown, small);
        }
    }
}
