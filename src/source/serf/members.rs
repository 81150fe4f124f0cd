//! What Serf's members offer, in Consul's words: each tag that names services makes instances, under the rules
//! of [`Mapping`]. Answers queries from a list of members. Pure; tags are hostile until they are escaped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::guard::Silence;
use crate::catalog::{
    Answer, HealthFilter, Instance, Kind, Meta, Node, NodeDetail, NodeService, Query, ServiceName,
    Status,
};

/// More services than this on one member are ignored.
const MOST_SERVICES: usize = 64;

/// Failures within this time may have one cause.
const AT_ONCE: Duration = Duration::from_secs(60);

/// How long a member stays of which the agent says nothing any more. An agent that started again learns of the others
/// one after the other, and of some only when two agents next compare all that they know: each 30 s, as Serf is set up
/// for a local network (memberlist's PushPullInterval).
const UNTOLD: Duration = Duration::from_secs(30);

/// More members than this do not stay: each read could else add as many as a list has.
const MOST_UNTOLD: usize = 10_000;

/// What Serf says of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It answers.
    Alive,
    /// It is on its way out, by its own will.
    Leaving,
    /// It has left, by its own will or by `serf force-leave`.
    Left,
    /// It does not answer the others any more.
    Failed,
    /// None of these.
    Unknown,
}

impl State {
    /// Reads Serf's word.
    pub(super) fn parse(word: &str) -> State {
        match word {
            "alive" => State::Alive,
            "leaving" => State::Leaving,
            "left" => State::Left,
            "failed" => State::Failed,
            _ => State::Unknown,
        }
    }
}

/// A member as Serf lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The address it gossips from.
    pub address: Option<IpAddr>,
    /// Whether it lives, by the agent's word.
    pub state: State,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What becomes of a member that Serf calls failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failed {
    /// It stays, and HAProxy's own checks decide: Serf sees the member's agent fail, not its service.
    #[default]
    Keep,
    /// It is critical, as an instance in Consul whose check fails; but nobody is while at least half fail.
    Remove,
}

/// Which tags mean what: `[serf.tags]` of the settings. Of every one but the first, `TAG.SERVICE` holds for that
/// service alone and goes before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// The tags that name the member's services, with commas between them; the first that it has counts.
    pub service: Vec<String>,
    /// The port.
    pub port: String,
    /// The address, where it is not the member's own.
    pub address: String,
    /// The weight.
    pub weight: String,
    /// The instance's id, where it is not the service's name.
    pub id: String,
    /// Consul's tags, with commas between them.
    pub tags: String,
    /// The member's datacenter.
    pub datacenter: String,
    /// `true` takes the instance out: no new connection, those that there are may end.
    pub drain: String,
    /// The same, under Consul's word.
    pub maintenance: String,
    /// What becomes of failed members; a setting of its own.
    #[serde(skip)]
    pub failed: Failed,
}

impl Default for Mapping {
    fn default() -> Mapping {
        Mapping {
            service: vec!["service".to_owned(), "role".to_owned()],
            port: "port".to_owned(),
            address: "address".to_owned(),
            weight: "weight".to_owned(),
            id: "id".to_owned(),
            tags: "tags".to_owned(),
            datacenter: "dc".to_owned(),
            drain: "drain".to_owned(),
            maintenance: "maintenance".to_owned(),
            failed: Failed::Keep,
        }
    }
}

impl Mapping {
    /// Whether a tag has a meaning of its own, so that it is no metadata.
    fn means(&self, tag: &str) -> bool {
        let names = [
            &self.port,
            &self.address,
            &self.weight,
            &self.id,
            &self.tags,
            &self.datacenter,
            &self.drain,
            &self.maintenance,
        ];
        let names = names.into_iter();
        self.service.iter().any(|name| name == tag)
            || names.clone().any(|name| name == tag)
            || names.filter(|name| !name.is_empty()).any(|name| {
                tag.strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            })
    }
}

/// A list of members and what they offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Sorted by name.
    list: Vec<Member>,
    /// Those that count as failed, which not every member does whose agent seems to be gone, and since when.
    failed: BTreeMap<String, Instant>,
    /// Those that were here, are not in the list, and neither failed nor left; and since when.
    untold: Vec<(Member, Instant)>,
    /// The names of further members, whose name or tags are no text or too long.
    pub unreadable: BTreeSet<String>,
    /// By service, sorted by node and id, whatever their state; those of members that left, too.
    instances: BTreeMap<String, Vec<(State, Instance)>>,
    nodes: BTreeMap<String, Arc<Node>>,
}

impl Members {
    /// Reads a list by the rules; `before` is the one that was believed last. While so many fail that the agent may
    /// be the one that is cut off, only those count as failed that did so well before. One that was here and of which
    /// nothing is said stays for 30 s; one that cannot be read any more goes.
    pub fn new(
        mut list: Vec<Member>,
        unreadable: Vec<String>,
        mapping: &Mapping,
        before: Option<&Members>,
        now: Instant,
    ) -> Members {
        list.sort();
        list.dedup_by(|a, b| a.name == b.name);
        let unreadable = BTreeSet::from_iter(unreadable);
        let cut_off = looks_cut_off(&list);
        let untold = before.map_or_else(Vec::new, |was| was.untold_by(&list, &unreadable, now));
        let mut failed: BTreeMap<String, Instant> = list
            .iter()
            .filter(|one| one.state == State::Failed)
            .filter_map(|one| {
                let since = before.and_then(|was| was.failed.get(&one.name));
                let since = since.copied().unwrap_or(now);
                (!cut_off || since + AT_ONCE < now).then(|| (one.name.clone(), since))
            })
            .collect();
        // Silence does not bring a failed one back.
        let still = before.into_iter().flat_map(|was| &was.failed);
        let still = still.filter(|(name, _)| untold.iter().any(|(one, _)| one.name == **name));
        failed.extend(still.map(|(name, since)| (name.clone(), *since)));
        let mut instances: BTreeMap<String, Vec<(State, Instance)>> = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        let all = list.iter().chain(untold.iter().map(|(member, _)| member));
        for member in all.filter(|member| member.state != State::Unknown) {
            let node = Arc::new(node(member, mapping));
            let services = services(member, mapping);
            let ids = ids(member, &services, mapping);
            for (service, id) in services.into_iter().zip(ids) {
                let counts = failed.contains_key(&member.name);
                let one = instance(member, counts, &node, (&service, id), mapping);
                let of_service = instances.entry(service).or_default();
                of_service.push((member.state, one));
            }
            if is_here(member.state) {
                nodes.insert(node.name.clone(), node);
            }
        }
        for list in instances.values_mut() {
            list.sort_by(|(_, a), (_, b)| a.key().cmp(&b.key()));
        }
        Members {
            list,
            failed,
            untold,
            unreadable,
            instances,
            nodes,
        }
    }

    /// The members that were here and that a newer list does not have.
    fn untold_by(
        &self,
        list: &[Member],
        unreadable: &BTreeSet<String>,
        now: Instant,
    ) -> Vec<(Member, Instant)> {
        let here = self.list.iter().filter(|one| is_here(one.state));
        let before = self.untold.iter().cloned();
        before
            .chain(here.map(|one| (one.clone(), now)))
            .filter(|(one, since)| {
                let told = list.binary_search_by(|other| other.name.cmp(&one.name));
                told.is_err() && !unreadable.contains(&one.name) && now < *since + UNTOLD
            })
            .take(MOST_UNTOLD)
            .collect()
    }

    /// When the next of the members goes of which the agent says nothing.
    pub fn next_end(&self) -> Option<Instant> {
        self.untold.iter().map(|(_, since)| *since + UNTOLD).min()
    }

    /// How many stay of which the agent says nothing.
    pub fn untold(&self) -> usize {
        self.untold.len()
    }

    /// How many members are in a state, by the agent's word.
    pub fn count(&self, state: State) -> usize {
        count(&self.list, state)
    }

    /// The answer to a query, or why Serf has none: a part of a sentence.
    pub fn answer(&self, query: &Query) -> Result<Answer, String> {
        if let Some(why) = unanswerable(query) {
            return Err(why);
        }
        Ok(match &query.kind {
            Kind::Service { health, .. } => {
                let mut list = self.of_service(query, is_here);
                list.retain(|instance| match health {
                    HealthFilter::Any => true,
                    HealthFilter::Passing => instance.status == Status::Passing,
                    HealthFilter::Only(states) => states.contains(&instance.status),
                });
                Answer::Instances(list)
            }
            Kind::Services { node_meta, .. } => {
                let services = self.instances.iter().filter_map(|(name, list)| {
                    let here: Vec<_> = list
                        .iter()
                        .filter(|(state, one)| is_here(*state) && has(&one.node.meta, node_meta))
                        .collect();
                    let tags: BTreeSet<String> = here
                        .iter()
                        .flat_map(|(_, one)| one.tags.iter().cloned())
                        .collect();
                    (!here.is_empty()).then(|| ServiceName {
                        name: name.clone(),
                        tags: tags.into_iter().collect(),
                        tags_left_out: 0,
                    })
                });
                Answer::Services(services.collect())
            }
            Kind::Nodes { node_meta, .. } => {
                let nodes = self
                    .nodes
                    .values()
                    .filter(|node| has(&node.meta, node_meta));
                Answer::Nodes(nodes.map(|node| Node::clone(node)).collect())
            }
            Kind::Node { name } => Answer::Node(self.nodes.get(name).map(|node| {
                let services = self.instances.values().flatten();
                let services = services.filter(|(_, one)| one.node.name == *name);
                Box::new(NodeDetail {
                    node: Node::clone(node),
                    services: services.map(|(_, one)| node_service(one)).collect(),
                })
            })),
            _ => return Err("Serf does not know it".to_owned()),
        })
    }

    /// What became of the instances that a query does not see any more: those of members that left, or that drain
    /// them, are in maintenance, by their own will. When most members fail at once, nothing else is proved.
    pub fn evidence(&self, query: &Query) -> Result<Vec<Instance>, Silence> {
        let mut list = self.of_service(query, |_| true);
        if self.looks_cut_off() {
            // An agent that is cut off hears of no such will.
            list.retain(|one| one.status == Status::Maintenance);
            if list.is_empty() {
                return Err(Silence::CutOff);
            }
        }
        Ok(list)
    }

    /// Whether so many members fail that the agent itself may be the one that is cut off.
    pub fn looks_cut_off(&self) -> bool {
        looks_cut_off(&self.list)
    }

    /// Whether the agent has forgotten most of what it knew, as after a start without having joined: members
    /// that were alive are neither failed nor gone but not there, and nobody is there in their place.
    pub fn has_forgotten(&self, before: &Members) -> bool {
        let listed = self.list.iter().map(|one| &one.name);
        let known: BTreeSet<&String> = listed.chain(&self.unreadable).collect();
        let alive = before.list.iter().filter(|one| one.state == State::Alive);
        let (there, missing): (Vec<_>, Vec<_>) = alive.partition(|one| known.contains(&one.name));
        let were = there.len() + missing.len();
        were > 1 && 2 * missing.len() >= were && 2 * self.count(State::Alive) <= were
    }

    fn of_service(&self, query: &Query, lets: impl Fn(State) -> bool) -> Vec<Instance> {
        let Kind::Service {
            name,
            tag,
            node_meta,
            ..
        } = &query.kind
        else {
            return Vec::new();
        };
        let all = self.instances.get(name).into_iter().flatten();
        all.filter(|(state, one)| {
            lets(*state)
                && tag.as_ref().is_none_or(|tag| one.tags.contains(tag))
                && has(&one.node.meta, node_meta)
        })
        .map(|(_, one)| one.clone())
        .collect()
    }
}

fn count(list: &[Member], state: State) -> usize {
    list.iter().filter(|one| one.state == state).count()
}

/// Half of them or more, and not only one.
fn looks_cut_off(list: &[Member]) -> bool {
    let failed = count(list, State::Failed);
    failed > 1 && failed >= count(list, State::Alive)
}

/// Whether a member counts as being there.
fn is_here(state: State) -> bool {
    matches!(state, State::Alive | State::Failed | State::Leaving)
}

/// Why Serf cannot answer a query, whatever its members: a part of a sentence.
pub fn unanswerable(query: &Query) -> Option<String> {
    let scope = &query.scope;
    let scoped =
        scope.datacenter.is_some() || scope.namespace.is_some() || scope.partition.is_some();
    let (near, filter, connect) = match &query.kind {
        Kind::Service {
            near,
            filter,
            connect,
            ..
        } => (near.is_some(), filter.is_some(), *connect),
        Kind::Nodes { near, filter, .. } => (near.is_some(), filter.is_some(), false),
        Kind::Services { filter, .. } => (false, filter.is_some(), false),
        Kind::Node { .. } => (false, false, false),
        Kind::Datacenters { .. } => return Some("Serf has no list of datacenters".to_owned()),
        Kind::Key { .. } | Kind::Tree { .. } => {
            return Some("Serf has no keys and values".to_owned());
        }
    };
    let why = match (scoped, near, filter, connect) {
        (true, ..) => "Serf has no datacenters, namespaces and partitions to choose from",
        (_, true, ..) => "Serf does not sort by distance (near)",
        (_, _, true, _) => "Serf has no filter expressions; tag and nodeMeta work",
        (_, _, _, true) => "Serf has no Connect",
        _ => return None,
    };
    Some(why.to_owned())
}

fn has(meta: &Meta, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| meta.get(key) == Some(value))
}

/// The names of what a member offers.
fn services(member: &Member, mapping: &Mapping) -> BTreeSet<String> {
    let tag = mapping.service.iter().find_map(|tag| member.tags.get(tag));
    words(tag.map_or("", String::as_str))
        .take(MOST_SERVICES)
        .collect()
}

/// The value of a tag for a service: its own goes before that for all.
fn tag_for<'a>(member: &'a Member, name: &str, service: &str) -> Option<&'a str> {
    let own = member.tags.get(&format!("{name}.{service}"));
    own.or_else(|| member.tags.get(name))
        .map(|text| text.trim())
}

/// The ids of a member's services, in their order. A node has an id once, as in Consul: one that another service has, or
/// that is another's name, does not count.
fn ids(member: &Member, services: &BTreeSet<String>, mapping: &Mapping) -> Vec<String> {
    let given = |service: &String| tag_for(member, &mapping.id, service);
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for id in services.iter().filter_map(given) {
        *count.entry(id).or_default() += 1;
    }
    let counts = |id: &&str, service: &String| {
        *id == service || (count.get(id) == Some(&1) && !services.contains(*id))
    };
    let ids = services.iter().map(|service| {
        let id = given(service).filter(|id| counts(id, service));
        id.unwrap_or(service).to_owned()
    });
    ids.collect()
}

fn words(list: &str) -> impl Iterator<Item = String> {
    list.split(',')
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
}

fn node(member: &Member, mapping: &Mapping) -> Node {
    Node {
        name: member.name.clone(),
        id: String::new(),
        address: member
            .address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        datacenter: member
            .tags
            .get(&mapping.datacenter)
            .cloned()
            .unwrap_or_default(),
        tagged_addresses: Default::default(),
        meta: member.tags.clone().into_iter().collect(),
    }
}

fn instance(
    member: &Member,
    counts_as_failed: bool,
    node: &Arc<Node>,
    (service, id): (&str, String),
    mapping: &Mapping,
) -> Instance {
    let tag = |name: &str| tag_for(member, name, service);
    let is_true = |name: &str| {
        tag(name)
            .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
    };
    let out = is_true(&mapping.drain) || is_true(&mapping.maintenance);
    let status = match (member.state, mapping.failed) {
        (State::Leaving | State::Left | State::Unknown, _) => Status::Maintenance,
        _ if out => Status::Maintenance,
        (State::Failed, Failed::Remove) if counts_as_failed => Status::Critical,
        (State::Failed | State::Alive, _) => Status::Passing,
    };
    let mut tags: Vec<String> = words(tag(&mapping.tags).unwrap_or_default()).collect();
    tags.sort();
    tags.dedup();
    let meta = member.tags.iter().filter(|(name, _)| !mapping.means(name));
    Instance {
        node: Arc::clone(node),
        id,
        name: service.to_owned(),
        address: tag(&mapping.address).unwrap_or(&node.address).to_owned(),
        // What is no number is no port; the instance is left out and shown.
        port: tag(&mapping.port)
            .and_then(|port| port.parse().ok())
            .unwrap_or(0),
        service_tagged_addresses: Default::default(),
        service_meta: meta
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        tags: tags.into(),
        status,
        weight_passing: tag(&mapping.weight)
            .and_then(|weight| weight.parse().ok())
            .unwrap_or(1),
        weight_warning: 1,
    }
}

fn node_service(instance: &Instance) -> NodeService {
    NodeService {
        id: instance.id.clone(),
        name: instance.name.clone(),
        tags: instance.tags.clone(),
        meta: instance.service_meta.clone(),
        address: instance.address.clone(),
        port: instance.port,
    }
}
