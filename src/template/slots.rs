//! Slots: a fixed number of numbered servers, given to instances as they come and go. They are for
//! backends that HAProxy adds no server to at run time (`static-rr`, map-based hashing).
//!
//! An instance, told by its address, keeps its slot as long as it lives. A slot that was left
//! remembers who had it: when that one comes back it gets the slot again, unless another has it. A
//! new one takes the lowest free slot. Slots are never taken away. This reads and writes no file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The address of a slot that nobody has. It is never connected to, because the server is disabled;
/// if somebody enables it by hand, each attempt is refused at once and never leaves the machine.
pub const SPARE_ADDRESS: &str = "127.0.0.1:1";

/// The most slots that are read back for one name, and the most spare ones that a template may
/// want: a stray line must not make a file of millions.
pub const MOST: usize = 65_536;

/// Who has which slot, by the names that templates give to groups of slots. Cheap to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots(Arc<BTreeMap<String, Group>>);

/// The slots of one name, the first one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group(Vec<Slot>);

/// One slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slot {
    /// Who has it, or had it last; empty when nobody ever did.
    address: String,
    /// Whether somebody has it.
    used: bool,
}

/// Slots that are nearly all used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowded {
    /// The name of the group.
    pub name: String,
    /// How many are used.
    pub used: usize,
    /// How many there are.
    pub total: usize,
    /// How many are added when none is free.
    pub spare: usize,
}

impl fmt::Display for Crowded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} of {} slots of {} are used; when none is free, HAProxy is reloaded with {} more. Raise spare= in the template to have more at once.",
            self.used, self.total, self.name, self.spare
        )
    }
}

impl Slots {
    /// Reads slots back from rendered texts: lines `server NAME-N ADDRESS id N …`. Other servers are
    /// passed over.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Slots {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for line in texts.into_iter().flat_map(str::lines) {
            if let Some((name, number, address)) = slot_line(line) {
                // Of two slots with one address the first counts.
                let address = address.filter(|address| seen.insert((name, *address)));
                groups
                    .entry(name.to_owned())
                    .or_default()
                    .put(number, address);
            }
        }
        Slots(Arc::new(groups))
    }

    /// The slots of a name; none when it is new.
    pub fn group(&self, name: &str) -> Group {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// Takes over the groups whose names are not known here.
    pub fn add_missing(&mut self, others: &Slots) {
        let groups = Arc::make_mut(&mut self.0);
        for (name, group) in others.0.iter() {
            if !groups.contains_key(name) {
                groups.insert(name.clone(), group.clone());
            }
        }
    }

    /// Puts a group in; false when one of that name is there already.
    pub fn insert(&mut self, name: &str, group: Group) -> bool {
        if self.0.contains_key(name) {
            return false;
        }
        Arc::make_mut(&mut self.0).insert(name.to_owned(), group);
        true
    }
}

impl Group {
    /// Gives these addresses their slots and adds `spare` slots whenever none is left free. At first
    /// there are `spare` more than addresses. Each address may be there once; the order is no matter.
    pub fn assign(&mut self, addresses: &BTreeSet<&str>, spare: usize) {
        let mut total = self.0.len();
        if total == 0 {
            total = addresses.len() + spare;
        }
        while total <= addresses.len() {
            total += spare.max(1);
        }
        self.0.resize_with(total, Slot::default);
        let mut new = addresses.clone();
        for slot in &mut self.0 {
            slot.used = new.remove(slot.address.as_str());
        }
        let free = self.0.iter_mut().filter(|slot| !slot.used);
        for (slot, address) in free.zip(new) {
            *slot = Slot {
                address: address.to_owned(),
                used: true,
            };
        }
    }

    /// Notes what a file says of a slot.
    fn put(&mut self, number: usize, address: Option<&str>) {
        if self.0.len() < number {
            self.0.resize_with(number, Slot::default);
        }
        if let (Some(slot), Some(address)) = (self.0.get_mut(number - 1), address) {
            *slot = Slot {
                address: address.to_owned(),
                used: true,
            };
        }
    }

    /// The slots in order: who has each, if anybody.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        self.0
            .iter()
            .map(|slot| slot.used.then_some(slot.address.as_str()))
    }

    /// Whether so many are used that somebody should know: four of five.
    pub fn crowded(&self, name: &str, spare: usize) -> Option<Crowded> {
        let (used, total) = (self.iter().flatten().count(), self.0.len());
        (used * 5 >= total * 4).then(|| Crowded {
            name: name.to_owned(),
            used,
            total,
            spare,
        })
    }
}

/// The name, number and address of a server line that is a slot: its id is its number.
fn slot_line(line: &str) -> Option<(&str, usize, Option<&str>)> {
    let mut words = line.split_ascii_whitespace();
    let (Some("server"), Some(server), Some(address), Some("id"), Some(id)) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return None;
    };
    let (name, number) = server.rsplit_once('-')?;
    if number != id || number.starts_with(['0', '+']) {
        return None;
    }
    let number = number.parse().ok().filter(|number| *number <= MOST)?;
    let spare = address == SPARE_ADDRESS && words.next() == Some("disabled");
    Some((name, number, (!spare).then_some(address)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assigned(group: &mut Group, addresses: &[&str], spare: usize) -> Vec<String> {
        group.assign(&addresses.iter().copied().collect(), spare);
        group
            .iter()
            .map(|address| address.unwrap_or("-").to_owned())
            .collect()
    }

    #[test]
    fn instances_keep_their_slots_and_slots_only_grow() {
        let mut group = Group::default();
        assert_eq!(assigned(&mut group, &["c", "a"], 2), ["a", "c", "-", "-"]);
        assert_eq!(assigned(&mut group, &["c", "b"], 2), ["b", "c", "-", "-"]);
        let full = ["b", "c", "a", "d", "-", "-"];
        assert_eq!(assigned(&mut group, &["a", "b", "c", "d"], 2), full);
        let empty = ["-"; 6];
        assert_eq!(assigned(&mut group, &[], 2), empty);
        // Who comes back finds the slot again, in whatever order.
        let back = ["-", "-", "-", "d", "-", "-"];
        assert_eq!(assigned(&mut group, &["d"], 2), back);
        let more = ["e", "-", "a", "d", "-", "-"];
        assert_eq!(assigned(&mut group, &["d", "a", "e"], 2), more);
        assert_eq!(assigned(&mut Group::default(), &[], 3), ["-"; 3]);
    }

    #[test]
    fn four_of_five_are_told() {
        let mut group = Group::default();
        group.assign(&["a", "b", "c"].into(), 2);
        assert_eq!(group.crowded("api", 2), None);
        group.assign(&["a", "b", "c", "d"].into(), 2);
        assert_eq!(
            group.crowded("api", 2).map(|crowded| crowded.to_string()),
            Some("4 of 5 slots of api are used; when none is free, HAProxy is reloaded with 2 more. Raise spare= in the template to have more at once.".to_owned())
        );
    }

    #[test]
    fn only_slots_are_read_back() {
        let slots = Slots::read([
            "backend b\n    server api-2 10.0.0.1:80 id 2 check\n    server api-3 127.0.0.1:1 id 3 disabled check\n",
            "    server api-1-1 [fd00::1]:80 id 1\n    server api-4 10.0.0.1:80 id 4\n",
            "    server other-1 10.0.0.9:80 check\n    server other-2 10.0.0.9:80 id 1\n    server other-x 10.0.0.9:80 id x\n",
            "    server huge-2000000000 10.0.0.9:80 id 2000000000\n    server other-01 h:1 id 01\n    server other-0 h:1 id 0\n",
        ]);
        let names: Vec<&String> = slots.0.keys().collect();
        assert_eq!(names, ["api", "api-1"]);
        let api = slots.group("api");
        let read: Vec<Option<&str>> = api.iter().collect();
        assert_eq!(read, [None, Some("10.0.0.1:80"), None, None]);
    }

    proptest! {
        #[test]
        fn come_and_go(
            spare in 1..4_usize,
            steps in proptest::collection::vec(proptest::collection::btree_set(0..12_u8, 0..12), 1..30),
        ) {
            let mut group = Group::default();
            for step in steps {
                let names: BTreeSet<String> = step.iter().map(|n| format!("10.0.0.{n}:80")).collect();
                let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                let before = group.clone();
                group.assign(&wanted, spare);
                let mut again = before.clone();
                again.assign(&wanted, spare);
                prop_assert_eq!(&again, &group, "the same comes of the same");
                again.assign(&wanted, spare);
                prop_assert_eq!(&again, &group, "nothing changes when nothing changed");
                // Nobody is lost, nobody has two slots, one is free.
                let mut there: Vec<&str> = group.iter().flatten().collect();
                there.sort_unstable();
                prop_assert_eq!(there, wanted.iter().copied().collect::<Vec<_>>());
                prop_assert!(group.0.len() > wanted.len());
                prop_assert!(group.0.len() >= before.0.len(), "slots are never taken away");
                for (old, new) in before.iter().zip(group.iter()) {
                    if old.is_some_and(|old| wanted.contains(old)) {
                        prop_assert_eq!(old, new, "who lives stays");
                    }
                }
                // A file gives the same slots back.
                let lines: Vec<String> = group.iter().enumerate().map(|(index, address)| {
                    let number = index + 1;
                    match address {
                        Some(address) => format!("server x-{number} {address} id {number} check"),
                        None => format!("server x-{number} {SPARE_ADDRESS} id {number} disabled"),
                    }
                }).collect();
                let read = Slots::read(lines.iter().map(String::as_str)).group("x");
                prop_assert!(read.iter().eq(group.iter()));
            }
        }
    }
}
