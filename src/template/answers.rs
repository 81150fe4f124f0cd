//! Answers as the values that templates see, in Consul's spelling, without what was found unfit
//! ([`super::judge`]).

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::judge::{Quarantined, Standard, instance_words, judge, node_fault, node_service_fault};
use super::names::server_ids;
use crate::catalog::fitness::{name_fault, shorten};
use crate::catalog::{
    ANOTHER_PATH, Answer, Instance, ItemName, KeyValue, Known, Meta, Node, Query, ServiceName,
};

/// The field of an instance with its server's id, which is settled among those of one answer. No
/// template need know it: the helper `serverId` reads it.
pub const SERVER_ID: &str = "@serverId";

/// An answer as it was judged. Values are made of it when they are asked for, one item at a time
/// where that is enough: as JSON an instance takes ten times the room.
#[derive(Debug)]
pub struct Slot {
    query: Query,
    answer: Arc<Answer>,
    /// Of the answer, as the catalog counts.
    pub revision: u64,
    /// What is known of each item.
    items: Vec<Item>,
    /// The places in the answer of those that are not left out.
    kept: Vec<usize>,
    /// Who was left out.
    pub quarantined: Vec<Quarantined>,
}

/// What is known of an item of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// A number that two items share only if they are equal.
    stamp: u64,
    /// Whether it was found to be fit by itself, whatever stands beside it.
    pub fit: bool,
    /// Of an instance that is kept: its server's id, settled among all of them. It is part of what
    /// templates see, so another id is another item.
    server_id: u32,
}

impl Slot {
    /// Judges an answer. Items equal to those of `last`, the answer before, keep their stamps;
    /// `next` is the last number given out.
    pub fn new(
        query: &Query,
        known: &Known,
        standard: Standard<'_>,
        last: Option<&Arc<Slot>>,
        next: &mut u64,
    ) -> Slot {
        let mut quarantined = Vec::new();
        let answer = Arc::clone(&known.answer);
        let before = last.map(|last| (last.answer.as_ref(), last.items.as_slice()));
        let mut items = match (answer.as_ref(), before) {
            (Answer::Instances(new), Some((Answer::Instances(old), items))) => {
                stamps(new, old, items, next)
            }
            (Answer::Services(new), Some((Answer::Services(old), items))) => {
                stamps(new, old, items, next)
            }
            (Answer::Nodes(new), Some((Answer::Nodes(old), items))) => {
                stamps(new, old, items, next)
            }
            (Answer::Tree(new), Some((Answer::Tree(old), items))) => stamps(new, old, items, next),
            (other, _) => (0..other.len()).map(|_| Item::new(next)).collect(),
        };
        let mut leave_out = |kind: &str, name: &str, reason: String| {
            quarantined.push(Quarantined {
                query: Some(query.clone()),
                what: format!("{kind} {}", shorten(name)),
                reason,
            });
            Some(())
        };
        let kept = match answer.as_ref() {
            Answer::Instances(list) => {
                let kept = judge(query, list, &mut items, standard, &mut quarantined);
                settle(list, &kept, &mut items, next);
                kept
            }
            Answer::Services(list) => sieve(list, |service| {
                if let Some(fault) = name_fault(&service.name) {
                    return leave_out("Service", &service.name, format!("its name {fault}"));
                }
                if service.tags_left_out > 0 {
                    let reason = format!("{} of them take too much room", service.tags_left_out);
                    leave_out("A part of the tags of service", &service.name, reason);
                }
                None
            }),
            Answer::Nodes(list) => sieve(list, |node| {
                leave_out("Node", &node.name, node_fault(node)?)
            }),
            Answer::Tree(list) => sieve(list, |key| {
                let fault = if key.path.contains(char::is_control) {
                    "holds a control character"
                } else if key.path.split('/').any(|part| matches!(part, "." | "..")) {
                    ANOTHER_PATH
                } else {
                    return None;
                };
                leave_out("Key", &key.path, format!("its path {fault}"))
            }),
            Answer::Node(Some(detail)) => {
                sieve(&detail.services, |service| {
                    leave_out("Service", &service.id, node_service_fault(service)?)
                });
                (0..1).collect()
            }
            other => (0..other.len()).collect(),
        };
        Slot {
            query: query.clone(),
            answer,
            revision: known.revision,
            items,
            kept,
            quarantined,
        }
    }

    /// The instances, whether or not they are left out; none if it is another kind of answer.
    pub fn instances(&self) -> &[Instance] {
        match self.answer.as_ref() {
            Answer::Instances(list) => list,
            _ => &[],
        }
    }

    /// The instances that are not left out; none if it is another kind of answer.
    pub fn kept_instances(&self) -> impl Iterator<Item = &Instance> {
        let list = self.instances();
        self.kept.iter().filter_map(|place| list.get(*place))
    }

    /// The services that are not left out; none if it is another kind of answer.
    pub fn kept_services(&self) -> impl Iterator<Item = &ServiceName> {
        let list = match self.answer.as_ref() {
            Answer::Services(list) => list.as_slice(),
            _ => &[],
        };
        self.kept.iter().filter_map(|place| list.get(*place))
    }

    /// Whether it is a list of services with this one.
    pub fn lists_service(&self, name: &str) -> bool {
        match self.answer.as_ref() {
            Answer::Services(list) => list.iter().any(|service| service.name == name),
            _ => false,
        }
    }

    /// The answer as the catalog has it.
    pub fn known(&self) -> Known {
        Known {
            answer: Arc::clone(&self.answer),
            revision: self.revision,
        }
    }

    /// By what an item is the same in another answer.
    pub fn name(&self, index: usize) -> Option<ItemName> {
        self.answer.name_of(*self.kept.get(index)?)
    }

    /// How an item is called in sentences.
    pub fn words(&self, index: usize) -> Option<(String, Option<Query>)> {
        let place = *self.kept.get(index)?;
        let what = match self.answer.as_ref() {
            Answer::Instances(list) => {
                let one = list.get(place)?;
                instance_words(&one.node.name, &one.id)
            }
            Answer::Services(list) => format!("Service {}", shorten(&list.get(place)?.name)),
            Answer::Nodes(list) => format!("Node {}", shorten(&list.get(place)?.name)),
            Answer::Tree(keys) => format!("Key {}", shorten(&keys.get(place)?.path)),
            Answer::Datacenters(_) | Answer::Node(_) | Answer::Key(_) => return None,
        };
        Some((what, Some(self.query.clone())))
    }

    /// Whether there is no such thing.
    pub fn is_absent(&self) -> bool {
        matches!(self.answer.as_ref(), Answer::Node(None) | Answer::Key(None))
    }

    /// How many items are not left out.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// The stamp of an item.
    pub fn stamp(&self, index: usize) -> Option<u64> {
        let place = self.kept.get(index)?;
        self.items.get(*place).map(|item| item.stamp)
    }

    /// An item of a list, as templates see it.
    pub fn item(&self, index: usize) -> Value {
        let Some(place) = self.kept.get(index) else {
            return Value::Null;
        };
        let item = match self.answer.as_ref() {
            Answer::Instances(list) => {
                let id = self.items.get(*place).map_or(0, |item| item.server_id);
                list.get(*place).map(|one| instance(one, id))
            }
            Answer::Services(list) => list
                .get(*place)
                .map(|service| json!({ "Name": service.name, "Tags": printable(&service.tags) })),
            Answer::Nodes(list) => list.get(*place).map(node),
            Answer::Datacenters(names) => names.get(*place).map(|name| name.clone().into()),
            Answer::Tree(keys) => list_key(&self.query, keys.get(*place)),
            Answer::Node(_) | Answer::Key(_) => None,
        };
        item.unwrap_or_default()
    }

    /// The whole of it, as templates see it.
    pub fn value(&self) -> Value {
        match self.answer.as_ref() {
            Answer::Node(None) | Answer::Key(None) => Value::Null,
            Answer::Node(Some(detail)) => {
                let services: Value = detail
                    .services
                    .iter()
                    .filter(|service| node_service_fault(service).is_none())
                    .map(|service| {
                        json!({
                            "ID": service.id, "Service": service.name, "Name": service.name,
                            "Tags": printable(&service.tags), "Meta": service.meta,
                            "Address": service.address, "Port": service.port,
                        })
                    })
                    .collect();
                json!({ "Node": node(&detail.node), "Services": services })
            }
            Answer::Key(Some(key)) => match &key.value {
                Some(text) => text.clone().into(),
                // Told apart from a text by its kind; the helper `key` says so.
                None => json!({ "Binary": true }),
            },
            _ => (0..self.len()).map(|index| self.item(index)).collect(),
        }
    }
}

impl Item {
    fn new(next: &mut u64) -> Item {
        *next += 1;
        Item {
            stamp: *next,
            fit: false,
            server_id: 0,
        }
    }
}

/// The items of an answer, those that stayed as they were. Answers are sorted, so that one walk along
/// both finds them; where they are not, an item may count as new without need.
fn stamps<T: Ord>(new: &[T], old: &[T], items: &[Item], next: &mut u64) -> Vec<Item> {
    let mut former = old.iter().zip(items).peekable();
    new.iter()
        .map(|item| {
            while let Some((old, known)) = former.peek() {
                match (*old).cmp(item) {
                    Ordering::Greater => break,
                    Ordering::Less => former.next(),
                    Ordering::Equal => {
                        let known = **known;
                        former.next();
                        return known;
                    }
                };
            }
            Item::new(next)
        })
        .collect()
}

/// The tags that can stand in a file. One instance's tag must not stop what lists all of them; where
/// the instance itself is used, it is put aside and named.
pub fn printable(tags: &[String]) -> Vec<&String> {
    tags.iter()
        .filter(|tag| !tag.contains(char::is_control))
        .collect()
}

/// The places of those without a fault.
fn sieve<T>(list: &[T], mut fault: impl FnMut(&T) -> Option<()>) -> Vec<usize> {
    (0..list.len())
        .filter(|place| fault(&list[*place]).is_none())
        .collect()
}

/// Gives each kept instance the id of its server.
fn settle(list: &[Instance], kept: &[usize], items: &mut [Item], next: &mut u64) {
    let identities: Vec<(&str, &str)> = kept.iter().map(|place| list[*place].key()).collect();
    for (place, id) in kept.iter().zip(server_ids(&identities)) {
        let item = &mut items[*place];
        if item.server_id != id {
            *item = Item {
                server_id: id,
                fit: item.fit,
                ..Item::new(next)
            };
        }
    }
}

fn instance(one: &Instance, server_id: u32) -> Value {
    let node = &one.node;
    let tagged: Map<String, Value> = one
        .service_tagged_addresses
        .iter()
        .map(|(name, (address, port))| (name.clone(), json!({ "Address": address, "Port": port })))
        .collect();
    json!({
        SERVER_ID: server_id,
        "Node": node.name,
        "NodeID": node.id,
        "NodeAddress": node.address,
        "NodeDatacenter": node.datacenter,
        "NodeTaggedAddresses": node.tagged_addresses,
        "NodeMeta": node.meta,
        "ID": one.id,
        "Name": one.name,
        "Address": one.address,
        "Port": one.port,
        "ServiceTaggedAddresses": tagged,
        "ServiceMeta": one.service_meta,
        "Tags": &one.tags[..],
        "Status": one.status.as_str(),
        // HAProxy takes weights from 0 to 256 (configuration manual 5.2).
        "Weights": { "Passing": weight(one.weight_passing), "Warning": weight(one.weight_warning) },
    })
}

fn weight(weight: i64) -> i64 {
    weight.clamp(0, 256)
}

fn node(node: &Node) -> Value {
    let meta = |meta: &Meta| -> Value { json!(meta) };
    json!({
        "Node": node.name,
        "ID": node.id,
        "Address": node.address,
        "Datacenter": node.datacenter,
        "TaggedAddresses": meta(&node.tagged_addresses),
        "Meta": meta(&node.meta),
    })
}

fn list_key(query: &Query, key: Option<&KeyValue>) -> Option<Value> {
    let prefix = match &query.kind {
        crate::catalog::Kind::Tree { prefix } => prefix.as_str(),
        _ => "",
    };
    key.map(|key| {
        let relative = key
            .path
            .strip_prefix(prefix)
            .unwrap_or(&key.path)
            .trim_start_matches('/');
        json!({ "Key": relative, "Path": key.path, "Value": key.value })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::listeners::Listeners;
    use super::*;
    use crate::catalog::fitness::Fitness;
    use crate::catalog::fixture::Fixture;

    fn value(query: &Query, answer: &Answer, host_names: bool) -> (Value, Vec<Quarantined>) {
        let known = Known {
            answer: Arc::new(answer.clone()),
            revision: 1,
        };
        let own = Listeners::default();
        let fitness = Fitness {
            host_names,
            loopback: None,
            ..Fitness::default()
        };
        let standard = Standard {
            fitness: &fitness,
            own: &own,
        };
        let slot = Slot::new(query, &known, standard, None, &mut 0);
        (slot.value(), slot.quarantined)
    }

    /// Three servers at one place of HAProxy's ring: the last gets another id, until one goes.
    #[test]
    fn an_item_is_another_one_when_its_server_id_is() {
        let mut places: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        let three = (0..1_000_000).find_map(|number| {
            let id = format!("web-{number:06}");
            let place = server_ids(&[("n", &id)])[0] % (1 << 20);
            let there = places.entry(place).or_default();
            there.push(id);
            (there.len() == 3).then(|| there.clone())
        });
        let three = three.unwrap();
        let known = |ids: &[String]| {
            let list: Vec<Value> = (1..)
                .zip(ids)
                .map(|(port, id)| json!({ "Address": "10.0.0.1", "Port": port, "Node": "n", "ID": id }))
                .collect();
            let fixture = json!({ "services": { "web": list } });
            let fixture: Fixture = serde_json::from_value(fixture).unwrap();
            let answer = fixture.answer(&Query::service("web")).unwrap();
            let Answer::Instances(mut list) = answer else {
                panic!("no instances")
            };
            // Their ports stay what they were when one is missing.
            for one in &mut list {
                one.port = three.iter().position(|id| *id == one.id).unwrap() as i64 + 1;
            }
            Known {
                answer: Arc::new(Answer::Instances(list)),
                revision: 1,
            }
        };
        let query = Query::service("web");
        let mut next = 0;
        let own = Listeners::default();
        let fitness = Fitness::default();
        let standard = Standard {
            fitness: &fitness,
            own: &own,
        };
        let all = Slot::new(&query, &known(&three), standard, None, &mut next);
        let all = Arc::new(all);
        let two = Slot::new(&query, &known(&three[1..]), standard, Some(&all), &mut next);
        let alone = server_ids(&[("n", &three[2])])[0];
        assert_ne!(all.item(2)[SERVER_ID], alone);
        assert_eq!(two.item(1)[SERVER_ID], alone);
        assert_ne!(two.stamp(1), all.stamp(2));
        assert_eq!(two.item(0), all.item(1));
        assert_eq!(two.stamp(0), all.stamp(1));
    }

    // B15 C06 C09 C10
    #[test]
    fn bad_instances_are_left_out_and_named() {
        let fixture: Fixture = serde_json::from_str(
            r#"{ "services": { "web": [
                { "Address": "10.0.0.1", "Port": 80, "ID": "good" },
                { "Address": "10.0.0.1", "Port": 80, "ID": "same" },
                { "Address": "unix@/run/x", "Port": 80, "ID": "socket" },
                { "Address": "db.example", "Port": 80, "ID": "name" },
                { "Address": "0.0.0.0", "Port": 80, "ID": "any" },
                { "Address": "10.0.0.2", "Port": 0, "ID": "zero" },
                { "Address": "10.0.0.2", "Port": 1099511627776, "ID": "huge" },
                { "Address": "10.0.0.2", "Port": 80, "ID": "line\nprogram x" },
                { "Address": "10.0.0.2", "Port": 80, "ID": "tag", "Tags": ["a\u0000"] },
                { "Address": "::1", "Port": 65535, "ID": "six", "Weights": { "Passing": 9999 } }
            ] } }"#,
        )
        .unwrap();
        let query = Query::service("web");
        let answer = fixture.answer(&query).unwrap();
        let ids = |value: &Value| -> Vec<String> {
            let list = value.as_array().unwrap();
            list.iter()
                .map(|item| item["ID"].as_str().unwrap().to_owned())
                .collect()
        };
        let (kept, out) = value(&query, &answer, false);
        assert_eq!(ids(&kept), ["good", "six"]);
        assert_eq!(out.len(), 8);
        assert_eq!(kept[1]["Weights"]["Passing"], 256);
        let sentences: Vec<String> = out.iter().map(ToString::to_string).collect();
        assert!(
            sentences.contains(
                &"Instance zero on node node-zero of service \"web\" is left out because its port 0 is not between 1 and 65535."
                    .to_owned()
            ),
            "{sentences:#?}"
        );
        assert!(sentences.iter().all(|text| !text.contains('\n')));
        let sick: Fixture = serde_json::from_str(
            r#"{ "services": { "web": [
                { "Address": "10.0.0.1", "Port": 80, "ID": "stale", "Status": "critical" },
                { "Address": "10.0.0.1", "Port": 80, "ID": "live" }
            ] } }"#,
        )
        .unwrap();
        let any = Query {
            kind: match query.kind.clone() {
                crate::catalog::Kind::Service { name, .. } => crate::catalog::Kind::Service {
                    name,
                    tag: None,
                    connect: false,
                    health: crate::catalog::HealthFilter::Any,
                    near: None,
                    filter: None,
                    node_meta: BTreeMap::new(),
                },
                other => other,
            },
            scope: query.scope.clone(),
        };
        let (best, _) = value(&any, &sick.answer(&any).unwrap(), false);
        assert_eq!(ids(&best), ["live"], "the healthiest at one address stays");
        let (kept, _) = value(&query, &answer, true);
        assert_eq!(ids(&kept), ["good", "name", "six"]);
    }
}
