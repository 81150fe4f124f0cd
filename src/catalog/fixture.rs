//! A catalog in a file: recorded from live Consul, or written by hand for a test.
//!
//! ```json
//! {
//!   "services": { "web": [ { "Address": "10.0.0.1", "Port": 8080, "Tags": ["prod"] } ] },
//!   "keys": { "config/maxconn": "2000" },
//!   "datacenters": ["dc1"],
//!   "nodes": [ { "Node": "n1", "Address": "10.0.0.1" } ],
//!   "answers": { "service \"web\" near=\"_agent\"": [ { "Address": "10.0.0.2", "Port": 80 } ] }
//! }
//! ```
//!
//! `answers` holds whole answers under the query as a template writes it; a recording has only
//! these. What is not there is worked out from the other parts, with Consul's meaning of tags and
//! states. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Answer, HealthFilter, Instance, KeyValue, Kind, Meta, Node, NodeDetail, NodeService, Query,
    ServiceName, Status,
};

/// A catalog in a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fixture {
    /// Instances by service name, whatever their state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Vec<InstanceEntry>>,
    /// Values by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
    /// Names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<String>,
    /// Nodes; those of the instances are added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeEntry>,
    /// Whole answers by the query's text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, AnswerEntry>,
}

/// An answer of any kind, told apart by its shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AnswerEntry {
    /// No such key or node.
    Absent(()),
    /// A key's value.
    Value(String),
    /// A list of datacenters; any other list when it is empty.
    Names(Vec<String>),
    /// Instances of a service.
    Instances(Vec<InstanceEntry>),
    /// Nodes.
    Nodes(Vec<NodeEntry>),
    /// Keys below a prefix.
    Keys(BTreeMap<String, String>),
    /// Services and their tags.
    Services(BTreeMap<String, Vec<String>>),
    /// A node and its services.
    Node(Box<NodeDetailEntry>),
}

/// An instance; what is left out has a plain default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct InstanceEntry {
    /// The instance's address.
    pub address: String,
    /// Its port.
    pub port: i64,
    /// Its id; by default the service's name and its place in the list.
    #[serde(rename = "ID", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its service; by default the one it is listed under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its node; by default `node-` and its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's uuid.
    #[serde(rename = "NodeID", default, skip_serializing_if = "String::is_empty")]
    pub node_id: String,
    /// The node's address; by default the instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_address: Option<String>,
    /// The node's datacenter; by default `dc1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_datacenter: Option<String>,
    /// The node's tagged addresses.
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    pub node_tagged_addresses: Meta,
    /// The node's metadata.
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    pub node_meta: Meta,
    /// The service's tagged addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// The instance's metadata.
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    pub service_meta: Meta,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// `passing` by default, `warning`, `critical` or `maintenance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusEntry>,
    /// Its weights; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
}

/// Consul's words for states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum StatusEntry {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

/// An address with its port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TaggedAddress {
    /// The address.
    pub address: String,
    /// The port.
    pub port: i64,
}

/// Consul's weights of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Weights {
    /// While it passes.
    pub passing: i64,
    /// While it warns.
    #[serde(default = "one")]
    pub warning: i64,
}

fn one() -> i64 {
    1
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct NodeEntry {
    /// Its name.
    pub node: String,
    /// Its uuid.
    #[serde(rename = "ID", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its address.
    #[serde(default)]
    pub address: String,
    /// Its datacenter; by default `dc1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// Its tagged addresses.
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    pub tagged_addresses: Meta,
    /// Its metadata.
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    pub meta: Meta,
}

/// A node and its services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct NodeDetailEntry {
    /// The node.
    pub node: NodeEntry,
    /// Its services.
    #[serde(default)]
    pub services: Vec<NodeServiceEntry>,
}

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct NodeServiceEntry {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub service: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its metadata.
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    pub meta: Meta,
    /// Its address.
    #[serde(default)]
    pub address: String,
    /// Its port.
    #[serde(default)]
    pub port: i64,
}

/// A recorded answer that does not fit its query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The answer recorded under {query} is not of the kind that the query gives.")]
pub struct Misfit {
    /// The query as text.
    pub query: String,
}

impl Fixture {
    /// The catalog's answer to a query.
    pub fn answer(&self, query: &Query) -> Result<Answer, Misfit> {
        let text = query.to_string();
        match self.answers.get(&text) {
            Some(entry) => recorded(&query.kind, entry).ok_or(Misfit { query: text }),
            None => Ok(self.work_out(query)),
        }
    }

    /// Adds an answer as it was recorded.
    pub fn record(&mut self, query: &Query, answer: &Answer) {
        self.answers.insert(query.to_string(), entry(answer));
    }

    fn work_out(&self, query: &Query) -> Answer {
        match &query.kind {
            Kind::Service {
                name, tag, health, ..
            } => {
                let mut list = self.instances(name);
                list.retain(|instance| {
                    let tagged = tag.as_ref().is_none_or(|tag| instance.tags.contains(tag));
                    let state = match health {
                        HealthFilter::Any => true,
                        HealthFilter::Passing => instance.status == Status::Passing,
                        HealthFilter::Only(states) => states.contains(&instance.status),
                    };
                    let datacenter = query
                        .scope
                        .datacenter
                        .as_ref()
                        .is_none_or(|datacenter| instance.node_datacenter == *datacenter);
                    tagged && state && datacenter
                });
                Answer::Instances(list)
            }
            Kind::Services { .. } => Answer::Services(
                self.services
                    .keys()
                    .map(|name| {
                        let instances = self.instances(name);
                        let mut tags: Vec<String> = instances
                            .into_iter()
                            .flat_map(|instance| instance.tags)
                            .collect();
                        tags.sort();
                        tags.dedup();
                        ServiceName {
                            name: name.clone(),
                            tags,
                        }
                    })
                    .collect(),
            ),
            Kind::Nodes { .. } => Answer::Nodes(self.nodes().into_values().collect()),
            Kind::Node { name } => Answer::Node(self.nodes().remove(name).map(|node| {
                let mut services: Vec<NodeService> = self
                    .services
                    .keys()
                    .flat_map(|name| self.instances(name))
                    .filter(|instance| instance.node == *name)
                    .map(|instance| NodeService {
                        id: instance.id,
                        name: instance.name,
                        tags: instance.tags,
                        meta: instance.service_meta,
                        address: instance.address,
                        port: instance.port,
                    })
                    .collect();
                services.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
                Box::new(NodeDetail { node, services })
            })),
            Kind::Datacenters { .. } => {
                let mut names = self.datacenters.clone();
                if names.is_empty() {
                    names.push("dc1".to_owned());
                }
                names.sort();
                Answer::Datacenters(names)
            }
            Kind::Key { path } => Answer::Key(self.keys.get(path).map(|value| key(path, value))),
            Kind::Tree { prefix } => Answer::Tree(
                self.keys
                    .iter()
                    .filter(|(path, _)| {
                        prefix.is_empty()
                            || path
                                .strip_prefix(prefix.as_str())
                                .is_some_and(|rest| rest.starts_with('/'))
                    })
                    .map(|(path, value)| key(path, value))
                    .collect(),
            ),
        }
    }

    fn instances(&self, name: &str) -> Vec<Instance> {
        let entries = self.services.get(name).map(Vec::as_slice);
        instances(name, entries.unwrap_or_default())
    }

    fn nodes(&self) -> BTreeMap<String, Node> {
        let of_instances = self
            .services
            .keys()
            .flat_map(|name| self.instances(name))
            .map(|instance| Node {
                name: instance.node,
                id: instance.node_id,
                address: instance.node_address,
                datacenter: instance.node_datacenter,
                tagged_addresses: instance.node_tagged_addresses,
                meta: instance.node_meta,
            });
        of_instances
            .chain(self.nodes.iter().map(node))
            .map(|node| (node.name.clone(), node))
            .collect()
    }
}

fn recorded(kind: &Kind, entry: &AnswerEntry) -> Option<Answer> {
    use AnswerEntry as Entry;
    Some(match (kind, entry) {
        (Kind::Service { .. }, Entry::Names(none)) if none.is_empty() => {
            Answer::Instances(Vec::new())
        }
        // Consul's order is kept where it was asked for.
        (
            Kind::Service {
                name,
                near: Some(_),
                ..
            },
            Entry::Instances(list),
        ) => Answer::Instances(in_order(name, list)),
        (Kind::Service { name, .. }, Entry::Instances(list)) => {
            Answer::Instances(instances(name, list))
        }
        (Kind::Services { .. }, Entry::Services(services)) => Answer::Services(
            services
                .iter()
                .map(|(name, tags)| ServiceName {
                    name: name.clone(),
                    tags: tags.clone(),
                })
                .collect(),
        ),
        // An empty object is read as no keys.
        (Kind::Services { .. }, Entry::Keys(none)) if none.is_empty() => {
            Answer::Services(Vec::new())
        }
        (Kind::Nodes { .. }, Entry::Names(none)) if none.is_empty() => Answer::Nodes(Vec::new()),
        (Kind::Nodes { .. }, Entry::Nodes(list)) => Answer::Nodes(list.iter().map(node).collect()),
        (Kind::Node { .. }, Entry::Absent(())) => Answer::Node(None),
        (Kind::Node { .. }, Entry::Node(detail)) => Answer::Node(Some(Box::new(NodeDetail {
            node: node(&detail.node),
            services: detail
                .services
                .iter()
                .map(|service| NodeService {
                    id: service.id.clone(),
                    name: service.service.clone(),
                    tags: service.tags.clone(),
                    meta: service.meta.clone(),
                    address: service.address.clone(),
                    port: service.port,
                })
                .collect(),
        }))),
        (Kind::Datacenters { .. }, Entry::Names(names)) => Answer::Datacenters(names.clone()),
        (Kind::Key { .. }, Entry::Absent(())) => Answer::Key(None),
        (Kind::Key { path }, Entry::Value(value)) => Answer::Key(Some(key(path, value))),
        (Kind::Tree { .. }, Entry::Keys(keys)) => {
            Answer::Tree(keys.iter().map(|(path, value)| key(path, value)).collect())
        }
        _ => return None,
    })
}

fn entry(answer: &Answer) -> AnswerEntry {
    match answer {
        Answer::Instances(list) => {
            AnswerEntry::Instances(list.iter().map(instance_entry).collect())
        }
        Answer::Services(list) => AnswerEntry::Services(
            list.iter()
                .map(|service| (service.name.clone(), service.tags.clone()))
                .collect(),
        ),
        Answer::Nodes(list) => AnswerEntry::Nodes(list.iter().map(node_entry).collect()),
        Answer::Node(None) | Answer::Key(None) => AnswerEntry::Absent(()),
        Answer::Node(Some(detail)) => AnswerEntry::Node(Box::new(NodeDetailEntry {
            node: node_entry(&detail.node),
            services: detail
                .services
                .iter()
                .map(|service| NodeServiceEntry {
                    id: service.id.clone(),
                    service: service.name.clone(),
                    tags: service.tags.clone(),
                    meta: service.meta.clone(),
                    address: service.address.clone(),
                    port: service.port,
                })
                .collect(),
        })),
        Answer::Datacenters(names) => AnswerEntry::Names(names.clone()),
        Answer::Key(Some(key)) => AnswerEntry::Value(key.value.clone().unwrap_or_default()),
        Answer::Tree(keys) => AnswerEntry::Keys(
            keys.iter()
                .map(|key| (key.path.clone(), key.value.clone().unwrap_or_default()))
                .collect(),
        ),
    }
}

fn instances(service: &str, entries: &[InstanceEntry]) -> Vec<Instance> {
    let mut list = in_order(service, entries);
    list.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
    list
}

fn in_order(service: &str, entries: &[InstanceEntry]) -> Vec<Instance> {
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| instance(service, index + 1, entry))
        .collect()
}

fn instance(service: &str, place: usize, entry: &InstanceEntry) -> Instance {
    let name = entry.name.clone().unwrap_or_else(|| service.to_owned());
    let weights = entry.weights.as_ref();
    let mut tags = entry.tags.clone();
    tags.sort();
    tags.dedup();
    Instance {
        node: entry
            .node
            .clone()
            .unwrap_or_else(|| format!("node-{place}")),
        id: entry
            .id
            .clone()
            .unwrap_or_else(|| format!("{name}-{place}")),
        node_id: entry.node_id.clone(),
        address: entry.address.clone(),
        port: entry.port,
        node_address: entry
            .node_address
            .clone()
            .unwrap_or_else(|| entry.address.clone()),
        node_datacenter: entry
            .node_datacenter
            .clone()
            .unwrap_or_else(|| "dc1".to_owned()),
        node_tagged_addresses: entry.node_tagged_addresses.clone(),
        node_meta: entry.node_meta.clone(),
        service_tagged_addresses: entry
            .service_tagged_addresses
            .iter()
            .map(|(name, tagged)| (name.clone(), (tagged.address.clone(), tagged.port)))
            .collect(),
        service_meta: entry.service_meta.clone(),
        tags,
        status: match entry.status {
            None | Some(StatusEntry::Passing) => Status::Passing,
            Some(StatusEntry::Warning) => Status::Warning,
            Some(StatusEntry::Critical) => Status::Critical,
            Some(StatusEntry::Maintenance) => Status::Maintenance,
        },
        weight_passing: weights.map_or(1, |weights| weights.passing),
        weight_warning: weights.map_or(1, |weights| weights.warning),
        name,
    }
}

fn instance_entry(instance: &Instance) -> InstanceEntry {
    InstanceEntry {
        address: instance.address.clone(),
        port: instance.port,
        id: Some(instance.id.clone()),
        name: Some(instance.name.clone()),
        node: Some(instance.node.clone()),
        node_id: instance.node_id.clone(),
        node_address: Some(instance.node_address.clone()),
        node_datacenter: Some(instance.node_datacenter.clone()),
        node_tagged_addresses: instance.node_tagged_addresses.clone(),
        node_meta: instance.node_meta.clone(),
        service_tagged_addresses: instance
            .service_tagged_addresses
            .iter()
            .map(|(name, (address, port))| {
                let tagged = TaggedAddress {
                    address: address.clone(),
                    port: *port,
                };
                (name.clone(), tagged)
            })
            .collect(),
        service_meta: instance.service_meta.clone(),
        tags: instance.tags.clone(),
        status: match instance.status {
            Status::Passing => None,
            Status::Warning => Some(StatusEntry::Warning),
            Status::Critical => Some(StatusEntry::Critical),
            Status::Maintenance => Some(StatusEntry::Maintenance),
        },
        weights: (instance.weight_passing != 1 || instance.weight_warning != 1).then_some(
            Weights {
                passing: instance.weight_passing,
                warning: instance.weight_warning,
            },
        ),
    }
}

fn node(entry: &NodeEntry) -> Node {
    Node {
        name: entry.node.clone(),
        id: entry.id.clone(),
        address: entry.address.clone(),
        datacenter: entry.datacenter.clone().unwrap_or_else(|| "dc1".to_owned()),
        tagged_addresses: entry.tagged_addresses.clone(),
        meta: entry.meta.clone(),
    }
}

fn node_entry(node: &Node) -> NodeEntry {
    NodeEntry {
        node: node.name.clone(),
        id: node.id.clone(),
        address: node.address.clone(),
        datacenter: Some(node.datacenter.clone()),
        tagged_addresses: node.tagged_addresses.clone(),
        meta: node.meta.clone(),
    }
}

fn key(path: &str, value: &str) -> KeyValue {
    KeyValue {
        path: path.to_owned(),
        value: Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_HAND: &str = r#"{
        "services": { "web": [
            { "Address": "10.0.0.1", "Port": 8080, "Tags": ["prod"] },
            { "Address": "10.0.0.2", "Port": 8080, "Status": "critical" }
        ] },
        "keys": { "a/b": "1", "a/c/d": "2", "ab": "3" }
    }"#;

    fn fixture() -> Fixture {
        serde_json::from_str(BY_HAND).unwrap()
    }

    #[test]
    fn a_fixture_by_hand_answers_with_consuls_meaning() {
        let fixture = fixture();
        let mut query = Query::service("web");
        let count = |query: &Query| fixture.answer(query).unwrap().len();
        assert_eq!(count(&query), 1, "only the passing one");
        let Kind::Service { health, tag, .. } = &mut query.kind else {
            unreachable!()
        };
        *health = HealthFilter::Any;
        *tag = None;
        assert_eq!(count(&query), 2);
        assert_eq!(count(&Query::service("nothing")), 0);
        let tree = Query {
            kind: Kind::Tree { prefix: "a".into() },
            scope: Default::default(),
        };
        assert_eq!(count(&tree), 2, "`ab` is not below `a`");
        assert_eq!(count(&Query::key("a/b")), 1);
        assert_eq!(count(&Query::key("a/x")), 0);
    }

    #[test]
    fn a_recording_gives_back_what_was_recorded() {
        let source = fixture();
        let kinds = [
            Query::service("web").kind,
            Query::service("nothing").kind,
            Kind::Services {
                node_meta: Meta::new(),
                filter: None,
            },
            Kind::Nodes {
                near: None,
                filter: None,
                node_meta: Meta::new(),
            },
            Kind::Node {
                name: "node-1".into(),
            },
            Kind::Node { name: "no".into() },
            Kind::Datacenters { ignore_down: false },
            Kind::Datacenters { ignore_down: true },
            Query::key("a/b").kind,
            Query::key("no").kind,
            Kind::Tree { prefix: "a".into() },
            Kind::Tree {
                prefix: "no".into(),
            },
        ];
        for fixture in [source, Fixture::default()] {
            let mut recording = Fixture::default();
            for kind in kinds.clone() {
                let query = Query {
                    kind,
                    scope: Default::default(),
                };
                let answer = fixture.answer(&query).unwrap();
                recording.record(&query, &answer);
                let text = serde_json::to_string(&recording).unwrap();
                let read: Fixture = serde_json::from_str(&text).unwrap();
                assert_eq!(read.answer(&query), Ok(answer), "{query}: {text}");
            }
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_an_error() {
        let fixture: Fixture =
            serde_json::from_str(r#"{"answers": {"service \"web\"": "text"}}"#).unwrap();
        assert!(fixture.answer(&Query::service("web")).is_err());
    }
}
