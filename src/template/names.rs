//! Names of servers and backends, and ids: legal for HAProxy, unique, and the same for the same instance for ever.
//!
//! Both depend on the node and the service id alone, so that neither a change nor a reload renames
//! a server or moves clients that need not move. HAProxy takes letters, digits and `_ . : -` in
//! names given at run time (management manual 9.3 "add server"; the configuration takes the same),
//! and ids from 1 to 2147483647 (configuration manual 5.2 "id"). Nothing here reads the catalog.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Longer names are cut and told apart by their hash.
const MAX_NAME: usize = 100;

/// The ids that instances get. The low ones are left to what HAProxy numbers by itself.
pub const IDS: RangeInclusive<u32> = 1_000..=0x7fff_ffff;

/// HAProxy puts a server on the ring of consistent hashing and `random` at the hash of its id times
/// 4096, kept in 32 bits: ids that are equal in their low 20 bits have the same places there. Of two
/// at one place each gets a part; of three the middle one gets nothing (2.6, 2.8 and 3.2, by
/// experiment; 3.0 has other places).
const RING: u32 = (1 << 20) - 1;

/// How often an id is looked for whose place on the ring is not full; after that any free one does.
const ROUNDS: u32 = 64;

/// The name of the server for one instance: `NODE:ID` where both are plain, else a cleaned form
/// that ends in `::` and a hash of the originals.
///
/// Two instances never share a name: a plain node holds no colon, so the first colon parts the
/// two; a plain name holds no `::`, so no plain name looks like a cleaned one.
pub fn server_name(node: &str, id: &str) -> String {
    if plain(node, false) && plain(id, true) && node.len() + id.len() < MAX_NAME {
        return format!("{node}:{id}");
    }
    let cut = (MAX_NAME - 24) / 2;
    format!(
        "{}:{}::{}",
        clean(node, cut),
        clean(id, cut),
        hash(node, id)
    )
}

/// The name of a backend for one service: its own where that is legal, else a cleaned form that ends in
/// `::` and a hash of the original. No two services share one: a plain name holds no `::`.
pub fn backend_name(service: &str) -> String {
    if plain(service, true) && service.len() < MAX_NAME {
        return service.to_owned();
    }
    format!("{}::{}", clean(service, MAX_NAME - 22), hash("", service))
}

/// The id of the server for one instance that is alone, or that nothing is known about beside it.
pub fn server_id(node: &str, id: &str) -> u32 {
    hashed(node, id, 0)
}

/// The ids of the servers for several instances, in their order; each is told by its node and id,
/// and no two are the same. Every one has its [`server_id`], but where that would be an id twice or
/// a third server at one place of HAProxy's ring: there the first by node and id keep theirs.
pub fn server_ids(instances: &[(&str, &str)]) -> Vec<u32> {
    settle(instances, hashed)
}

fn settle(instances: &[(&str, &str)], hash: impl Fn(&str, &str, u32) -> u32) -> Vec<u32> {
    let mut ids: Vec<u32> = instances
        .iter()
        .map(|(node, id)| hash(node, id, 0))
        .collect();
    let mut places: Vec<(u32, usize)> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| (id & RING, index))
        .collect();
    places.sort_unstable();
    let mut late = Vec::new();
    for place in places.chunk_by_mut(|one, two| one.0 == two.0) {
        if place.len() == 1 {
            continue;
        }
        place.sort_unstable_by_key(|(_, index)| instances[*index]);
        let mut kept = Vec::new();
        for (_, index) in place {
            if kept.len() < 2 && !kept.contains(&ids[*index]) {
                kept.push(ids[*index]);
            } else {
                late.push(*index);
            }
        }
    }
    if late.is_empty() {
        return ids;
    }
    late.sort_unstable_by_key(|index| instances[*index]);
    // First hashes are taken before anybody looks for another one, so that the late ones never
    // drive out an instance that had nothing to do with them.
    let mut taken: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (index, id) in ids.iter().enumerate() {
        if !late.contains(&index) {
            taken.entry(id & RING).or_default().push(*id);
        }
    }
    for index in late {
        let (node, id) = instances[index];
        let mut round = 0;
        ids[index] = loop {
            round += 1;
            let next = hash(node, id, round);
            let there = taken.entry(next & RING).or_default();
            if !there.contains(&next) && (there.len() < 2 || round > ROUNDS) {
                there.push(next);
                break next;
            }
        };
    }
    ids
}

fn plain(text: &str, colons: bool) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|letter| legal(letter) || (colons && letter == ':'))
        && !text.contains("::")
        && !text.starts_with(':')
}

fn legal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-')
}

fn clean(text: &str, length: usize) -> String {
    text.chars()
        .take(length)
        .map(|letter| if legal(letter) { letter } else { '_' })
        .collect()
}

/// Eighty bits, as twenty hexadecimal digits.
fn hash(node: &str, id: &str) -> String {
    digest(node, id, 0).as_ref()[..10]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One of [`IDS`], from other bits than those in names.
fn hashed(node: &str, id: &str, round: u32) -> u32 {
    let digest = digest(node, id, round);
    let number = digest.as_ref()[10..18]
        .iter()
        .fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let count = u64::from(IDS.end() - IDS.start() + 1);
    // The rest is below 2^31.
    IDS.start() + u32::try_from(number % count).unwrap_or_default()
}

fn digest(node: &str, id: &str, round: u32) -> ring::digest::Digest {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(&(node.len() as u64).to_be_bytes());
    hash.update(node.as_bytes());
    hash.update(id.as_bytes());
    if round > 0 {
        hash.update(&round.to_be_bytes());
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    // C07 C08
    #[test]
    fn plain_names_stay_readable_and_others_are_told_apart() {
        assert_eq!(server_name("node-1", "web-1"), "node-1:web-1");
        assert_eq!(server_name("n", "host:web:80"), "n:host:web:80");
        let names = [
            server_name("a b", "c"),
            server_name("a_b", "c"),
            server_name("a/b", "c"),
            server_name("a:b", "c"),
            server_name("a", "b:c"),
            server_name("a", ":b"),
            server_name("a", "b::c"),
            server_name("", "c"),
            server_name("a", ""),
            server_name(&"x".repeat(300), "c"),
            server_name(&"x".repeat(301), "c"),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= MAX_NAME, "{name}");
            assert!(!names[..index].contains(name), "{name}");
        }
    }

    #[test]
    fn ids_stay_what_they_are() {
        // A change of these numbers moves the clients of everybody's consistent hashing.
        assert_eq!(server_id("node-1", "web-1"), 422_979_268);
        assert_eq!(server_ids(&[("node-1", "web-1")]), [422_979_268]);
        assert!(IDS.contains(&server_id("", "")));
    }

    #[test]
    fn ten_thousand_instances_have_ten_thousand_ids() {
        let names: Vec<(String, String)> = (0..10_000)
            .map(|number| (format!("node-{}", number % 100), format!("web-{number}")))
            .collect();
        let instances: Vec<(&str, &str)> = names
            .iter()
            .map(|(node, id)| (node.as_str(), id.as_str()))
            .collect();
        let ids = server_ids(&instances);
        let unique: std::collections::BTreeSet<u32> = ids.iter().copied().collect();
        assert_eq!(unique.len(), ids.len());
        assert!(ids.iter().all(|id| IDS.contains(id)));
    }

    /// Few first hashes, which share few places; more ids later.
    fn crowded(node: &str, id: &str, round: u32) -> u32 {
        let number = hashed(node, id, round);
        match round {
            0 => 1_000 + number % 5 + (number >> 8) % 3 * (RING + 1),
            _ => 1_000 + number % 40 + (number >> 8) % 3 * (RING + 1),
        }
    }

    type Names = std::collections::BTreeSet<(String, String)>;

    fn by_name(names: &Names, turned: bool) -> BTreeMap<(String, String), u32> {
        let mut list: Vec<(&str, &str)> = names
            .iter()
            .map(|(node, id)| (node.as_str(), id.as_str()))
            .collect();
        if turned {
            list.reverse();
        }
        let ids = settle(&list, crowded);
        list.into_iter()
            .map(|(node, id)| (node.to_owned(), id.to_owned()))
            .zip(ids)
            .collect()
    }

    proptest! {
        #[test]
        fn ids_are_unique_and_come_of_the_instance(
            names in proptest::collection::btree_set(("[abc]{1,2}", "[a-e]{1,2}"), 0..25),
            others in proptest::collection::btree_set(("[abc]{1,2}", "[a-e]{1,2}"), 0..25),
        ) {
            let ids = by_name(&names, false);
            prop_assert_eq!(&ids, &by_name(&names, true));
            let mut places: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
            for id in ids.values() {
                prop_assert!(IDS.contains(id));
                *places.entry(id & RING).or_default().entry(*id).or_default() += 1;
            }
            for at_one in places.values() {
                prop_assert!(at_one.len() <= 2 && at_one.values().all(|count| *count == 1));
            }
            // Whoever shares no place with others keeps the first hash, whatever these do.
            let all: Names = names.union(&others).cloned().collect();
            let place = |(node, id): &(String, String)| crowded(node, id, 0) & RING;
            let later = by_name(&all, false);
            for name in &names {
                if all.iter().filter(|other| place(other) == place(name)).count() == 1 {
                    prop_assert_eq!(later[name], crowded(&name.0, &name.1, 0));
                    prop_assert_eq!(later[name], ids[name]);
                }
            }
        }

        // C07 C08
        #[test]
        fn names_are_legal_and_never_collide(
            pairs in proptest::collection::btree_set(("[ab._:/ é]{0,4}", "[ab._:/ é]{0,4}"), 0..40)
        ) {
            let mut seen = BTreeMap::new();
            for (node, id) in pairs {
                let name = server_name(&node, &id);
                prop_assert!(name.chars().all(|letter| legal(letter) || letter == ':'));
                prop_assert!(!name.is_empty() && name.len() <= MAX_NAME);
                prop_assert_eq!(seen.insert(name, (node, id)), None);
            }
        }

        // C07
        #[test]
        fn backends_are_legal_and_no_two_services_share_one(
            services in proptest::collection::btree_set("[aA._:/ é\u{202e}]{1,4}|a{98,102}|global|program", 0..40)
        ) {
            let mut seen = BTreeMap::new();
            for service in services {
                let name = backend_name(&service);
                prop_assert!(name.chars().all(|letter| legal(letter) || letter == ':'));
                prop_assert!(!name.is_empty() && name.len() <= MAX_NAME);
                prop_assert_eq!(seen.insert(name, service), None);
            }
        }
    }
}
