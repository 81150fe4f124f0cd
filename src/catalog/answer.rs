//! What a catalog answers, as lean types: only the fields a template can see.
//!
//! A field that no template can read (check output, modify indexes) is not here, so a change of
//! it is no change. Every value is hostile until the template engine has escaped it.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pairs::Pairs;
use super::query::{Kind, Status};

/// String pairs: Consul's metadata and tagged addresses.
pub type Meta = Pairs<String>;

/// One instance of a service, from `/v1/health/service/NAME`.
///
/// Field names in templates keep Consul's spelling and consul-template's choice of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The node that it is registered on; all its instances share one copy.
    pub node: Arc<Node>,
    /// `ID`: the service instance's id, unique on its node.
    pub id: String,
    /// `Name`: the service's name.
    pub name: String,
    /// `Address`: the service's address, or the node's where the service has none.
    pub address: String,
    /// `Port`, as Consul holds it: any number until the instance has been judged.
    pub port: i64,
    /// `ServiceTaggedAddresses`: name to (address, port).
    pub service_tagged_addresses: Pairs<(String, i64)>,
    /// `ServiceMeta`.
    pub service_meta: Meta,
    /// `Tags`, sorted. Instances with the same ones share them.
    pub tags: Arc<[String]>,
    /// `Status`: the worst of its checks and its node's.
    pub status: Status,
    /// `Weights.Passing`.
    pub weight_passing: i64,
    /// `Weights.Warning`.
    pub weight_warning: i64,
}

impl Instance {
    /// The node's name and the id, which tell it from all other instances of the service.
    pub fn key(&self) -> (&str, &str) {
        (&self.node.name, &self.id)
    }

    /// A passing instance without tags or metadata, on a node in `dc1` with the same address.
    pub fn plain(service: &str, node: &str, id: &str, address: &str, port: i64) -> Instance {
        Instance {
            node: Arc::new(Node {
                address: address.to_owned(),
                datacenter: "dc1".to_owned(),
                ..Node::named(node)
            }),
            id: id.to_owned(),
            name: service.to_owned(),
            address: address.to_owned(),
            port,
            service_tagged_addresses: Pairs::new(),
            service_meta: Meta::new(),
            tags: Arc::default(),
            status: Status::Passing,
            weight_passing: 1,
            weight_warning: 1,
        }
    }
}

/// By [`Instance::key`] first.
impl Ord for Instance {
    fn cmp(&self, other: &Instance) -> Ordering {
        fn rest(one: &Instance) -> impl Ord {
            (
                &one.node,
                (&one.name, &one.address, one.port),
                (&one.service_tagged_addresses, &one.service_meta, &one.tags),
                (one.status, one.weight_passing, one.weight_warning),
            )
        }
        let by_key = self.key().cmp(&other.key());
        by_key.then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl PartialOrd for Instance {
    fn partial_cmp(&self, other: &Instance) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A service's name and tags, from `/v1/catalog/services`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// `Name`.
    pub name: String,
    /// `Tags`, sorted.
    pub tags: Vec<String>,
    /// How many tags it has besides, which take too much room.
    pub tags_left_out: usize,
}

/// A node, from `/v1/catalog/nodes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// `Node`: the name.
    pub name: String,
    /// `ID`: the uuid, empty when Consul has none.
    pub id: String,
    /// `Address`.
    pub address: String,
    /// `Datacenter`.
    pub datacenter: String,
    /// `TaggedAddresses`.
    pub tagged_addresses: Meta,
    /// `Meta`.
    pub meta: Meta,
}

impl Node {
    /// A node of which only the name is known.
    pub fn named(name: &str) -> Node {
        Node {
            name: name.to_owned(),
            ..Node::default()
        }
    }
}

/// A service as `/v1/catalog/node/NAME` lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeService {
    /// `ID`.
    pub id: String,
    /// `Service`: the service's name.
    pub name: String,
    /// `Tags`, sorted.
    pub tags: Arc<[String]>,
    /// `Meta`.
    pub meta: Meta,
    /// `Address`, empty when the node's is meant.
    pub address: String,
    /// `Port`, unjudged.
    pub port: i64,
}

/// A node with its services, from `/v1/catalog/node/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeDetail {
    /// `Node`: the node itself.
    pub node: Node,
    /// `Services`, sorted by name and id.
    pub services: Vec<NodeService>,
}

/// A key and its value, from `/v1/kv/…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyValue {
    /// The whole path.
    pub path: String,
    /// The decoded value. `None` when it is not UTF-8, which a template may not use as text.
    pub value: Option<String>,
}

/// The answer to one [`super::Query`], of the kind the query asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Kind::Service`: sorted by node and id unless `near` was asked for.
    Instances(Vec<Instance>),
    /// To `Kind::Services`: sorted by name.
    Services(Vec<ServiceName>),
    /// To `Kind::Nodes`: sorted by name unless `near` was asked for.
    Nodes(Vec<Node>),
    /// To `Kind::Node`: `None` when there is no such node.
    Node(Option<Box<NodeDetail>>),
    /// To `Kind::Datacenters`: sorted.
    Datacenters(Vec<String>),
    /// To `Kind::Key`: `None` when there is no such key.
    Key(Option<KeyValue>),
    /// To `Kind::Tree`: sorted by path; folders (paths that end in a slash) are left out.
    Tree(Vec<KeyValue>),
}

impl Answer {
    /// The answer to a question for something that does not exist.
    pub fn nothing(kind: &Kind) -> Answer {
        match kind {
            Kind::Service { .. } => Answer::Instances(Vec::new()),
            Kind::Services { .. } => Answer::Services(Vec::new()),
            Kind::Nodes { .. } => Answer::Nodes(Vec::new()),
            Kind::Node { .. } => Answer::Node(None),
            Kind::Datacenters { .. } => Answer::Datacenters(Vec::new()),
            Kind::Key { .. } => Answer::Key(None),
            Kind::Tree { .. } => Answer::Tree(Vec::new()),
        }
    }

    /// How many things the answer holds, for people to read.
    pub fn len(&self) -> usize {
        match self {
            Answer::Instances(list) => list.len(),
            Answer::Services(list) => list.len(),
            Answer::Nodes(list) => list.len(),
            Answer::Node(node) => usize::from(node.is_some()),
            Answer::Datacenters(list) => list.len(),
            Answer::Key(value) => usize::from(value.is_some()),
            Answer::Tree(list) => list.len(),
        }
    }

    /// Whether the item of that name is here; `None` when this is a list of other things, or none.
    pub fn has(&self, item: &ItemName) -> Option<bool> {
        Some(match (self, item) {
            (Answer::Instances(list), ItemName::Instance { node, id }) => {
                list.iter().any(|one| one.key() == (node, id))
            }
            (Answer::Services(list), ItemName::Service(name)) => {
                list.iter().any(|one| one.name == *name)
            }
            (Answer::Nodes(list), ItemName::Node(name)) => list.iter().any(|one| one.name == *name),
            (Answer::Tree(list), ItemName::Key(path)) => list.iter().any(|one| one.path == *path),
            _ => return None,
        })
    }

    /// The name of an item of a list, by its place.
    pub fn name_of(&self, place: usize) -> Option<ItemName> {
        Some(match self {
            Answer::Instances(list) => {
                let one = list.get(place)?;
                ItemName::Instance {
                    node: one.node.name.clone(),
                    id: one.id.clone(),
                }
            }
            Answer::Services(list) => ItemName::Service(list.get(place)?.name.clone()),
            Answer::Nodes(list) => ItemName::Node(list.get(place)?.name.clone()),
            Answer::Tree(list) => ItemName::Key(list.get(place)?.path.clone()),
            Answer::Datacenters(_) | Answer::Node(_) | Answer::Key(_) => return None,
        })
    }

    /// Whether the answer holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// By what an item of a list is the same one, whatever else is known of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ItemName {
    /// An instance, by its node and id.
    Instance {
        /// The node.
        node: String,
        /// The id.
        id: String,
    },
    /// A service.
    Service(String),
    /// A node.
    Node(String),
    /// A key, by its whole path.
    Key(String),
}

/// An answer and where it stands in time. Shared, never changed in place.
#[derive(Debug, Clone)]
pub struct Known {
    /// The answer.
    pub answer: Arc<Answer>,
    /// Counts the contents this query has had; equal numbers mean equal answers.
    pub revision: u64,
}
