//! Consul's JSON into the catalog's types. Pure, strict about structure, never panics.
//!
//! `null` where a list belongs, `[null]` and `[{}]` are errors: read as "nothing" they would empty a
//! configuration. A single odd number is not: it becomes a value that is judged later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use base64::Engine as _;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, de::DeserializeOwned};

use super::intern::Interner;
use super::listed;
use super::stream::Stream;
use crate::catalog::{
    Answer, HealthFilter, Instance, KeyValue, Kind, Meta, Node, NodeDetail, NodeService, Pairs,
    Status,
};

/// The answer in the body of a 200. The error says what is wrong with it.
pub(super) fn parse(kind: &Kind, body: &[u8]) -> Result<Answer, String> {
    match kind {
        Kind::Service { health, near, .. } => {
            let mut list = Instances::new(health, near.is_none());
            read_each(body, |entry| list.take(entry))?;
            Ok(list.finish())
        }
        Kind::Services { .. } => listed::services(body),
        Kind::Nodes { near, .. } => {
            let nodes: Vec<NodeBody> = read(body)?;
            let mut nodes: Vec<Node> = nodes.into_iter().map(node).collect();
            if near.is_none() {
                nodes.sort();
            }
            Ok(Answer::Nodes(nodes))
        }
        Kind::Node { .. } => {
            // Consul 1.8.7 answers `null` for a node that does not exist.
            let detail: Option<DetailBody> = read(body)?;
            Ok(Answer::Node(
                detail.map(|detail| Box::new(node_detail(detail))),
            ))
        }
        Kind::Datacenters { .. } => Ok(Answer::Datacenters(sorted(read(body)?))),
        Kind::Key { path } => {
            let [pair]: [PairBody; 1] = read(body)?;
            if pair.key != *path {
                return Err("the answer is about another key".to_owned());
            }
            Ok(Answer::Key(Some(key_value(pair)?)))
        }
        Kind::Tree { .. } => {
            let pairs: Vec<PairBody> = read(body)?;
            let mut pairs = pairs
                .into_iter()
                .filter(|pair| !pair.key.ends_with('/'))
                .map(key_value)
                .collect::<Result<Vec<_>, _>>()?;
            pairs.sort();
            Ok(Answer::Tree(pairs))
        }
    }
}

/// A long answer, read while it arrives.
pub(super) struct Arriving<'a> {
    stream: Stream,
    list: Instances<'a>,
}

impl<'a> Arriving<'a> {
    /// `None` where the answers to such a query are not lists that may be long.
    pub(super) fn new(kind: &'a Kind) -> Option<Arriving<'a>> {
        let Kind::Service { health, near, .. } = kind else {
            return None;
        };
        Some(Arriving {
            stream: Stream::new(),
            list: Instances::new(health, near.is_none()),
        })
    }

    /// Takes the next piece of the body. The error says what is wrong with it.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), String> {
        let list = &mut self.list;
        let read = |entry: &[u8]| {
            list.take(read(entry)?);
            Ok(())
        };
        self.stream.feed(piece, read)
    }

    /// After the last piece.
    pub(super) fn finish(self) -> Result<Answer, String> {
        self.stream.finish()?;
        Ok(self.list.finish())
    }
}

/// Instances as they come.
struct Instances<'a> {
    health: &'a HealthFilter,
    /// Whether their order says nothing.
    sorts: bool,
    list: Vec<Instance>,
    interner: Interner,
    /// With so many, those that are there too often are left out.
    sieve_at: usize,
}

/// So many instances are kept before any is looked for a second time.
const FEW: usize = 4096;

impl Instances<'_> {
    fn new(health: &HealthFilter, sorts: bool) -> Instances<'_> {
        Instances {
            health,
            sorts,
            list: Vec::new(),
            interner: Interner::new(),
            sieve_at: FEW,
        }
    }

    fn take(&mut self, entry: HealthEntry) {
        let mut instance = instance(entry);
        if !lets_through(self.health, instance.status) {
            return;
        }
        self.interner.intern(&mut instance);
        self.list.push(instance);
        if self.list.len() >= self.sieve_at {
            sieve(&mut self.list);
            self.sieve_at = FEW.max(2 * self.list.len());
        }
    }

    fn finish(mut self) -> Answer {
        if self.sorts {
            self.list.sort();
        }
        sieve(&mut self.list);
        self.list.shrink_to_fit();
        Answer::Instances(self.list)
    }
}

/// Leaves out an instance that is there more than twice, the same in everything: that it is there twice is
/// all that can be said of it. The others keep their order.
fn sieve(list: &mut Vec<Instance>) {
    let mut order: Vec<usize> = (0..list.len()).collect();
    order.sort_by(|one, two| list[*one].cmp(&list[*two]));
    let mut over = vec![false; list.len()];
    for run in order.chunk_by(|one, two| list[*one] == list[*two]) {
        for again in run.iter().skip(2) {
            over[*again] = true;
        }
    }
    let mut over = over.into_iter();
    list.retain(|_| !over.next().unwrap_or_default());
}

/// What a 404 without a body says, for the kinds where it is an answer.
pub(super) fn absent(kind: &Kind) -> Option<Answer> {
    match kind {
        Kind::Key { .. } => Some(Answer::Key(None)),
        Kind::Tree { .. } => Some(Answer::Tree(Vec::new())),
        _ => None,
    }
}

/// A check that is in the state that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Check {
    pub(super) node: String,
    pub(super) check: String,
    /// The name of the service it is about; empty when it is about the node.
    pub(super) service: String,
    /// The index at which it changed last: it may have been in another state meanwhile.
    pub(super) modified: u64,
}

/// The checks in the body of a 200.
pub(super) fn checks(body: &[u8]) -> Result<BTreeSet<Check>, String> {
    let mut all = BTreeSet::new();
    let take = |entry: StateEntry| {
        all.insert(Check {
            node: entry.node,
            check: entry.check_id,
            service: entry.service_name,
            modified: entry.modify_index,
        });
    };
    read_each(body, take)?;
    Ok(all)
}

/// An instance as the list of its node names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeEntry {
    pub(super) id: String,
    pub(super) service: String,
    /// The index at which it changed last.
    pub(super) modified: u64,
}

/// What is registered on a node; nothing when it does not exist.
pub(super) fn on_node(body: &[u8]) -> Result<Vec<NodeEntry>, String> {
    let all: Option<OnNodeBody> = read(body)?;
    let entries = all.into_iter().flat_map(|all| all.services.into_values());
    let entry = |entry: OnNodeEntry| NodeEntry {
        id: entry.id,
        service: entry.service,
        modified: entry.modify_index,
    };
    Ok(entries.map(entry).collect())
}

/// Whether a query for instances in these states wants one in this state.
pub(super) fn lets_through(health: &HealthFilter, status: Status) -> bool {
    match health {
        HealthFilter::Passing => status == Status::Passing,
        HealthFilter::Any => true,
        HealthFilter::Only(states) => states.contains(&status),
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| wrong(&error))
}

/// Reads a list item by item: whole, as Consul writes it, a long one takes several times the room of what
/// is kept of it.
fn read_each<T: DeserializeOwned>(body: &[u8], take: impl FnMut(T)) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let of = PhantomData;
    json.deserialize_seq(Each { take, of })
        .and_then(|()| json.end())
        .map_err(|error| wrong(&error))
}

struct Each<T, F> {
    take: F,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            (self.take)(item);
        }
        Ok(())
    }
}

/// serde_json's own text may quote a value, and values are secrets: this says only where it is.
fn wrong(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "does not have the shape of this answer",
        serde_json::error::Category::Eof => "ends too early",
        _ => "is not JSON",
    };
    format!(
        "the body {what} (line {}, column {})",
        error.line(),
        error.column()
    )
}

fn instance(entry: HealthEntry) -> Instance {
    let HealthEntry {
        node,
        service,
        checks,
    } = entry;
    let weights = service.weights.unwrap_or_default();
    Instance {
        address: if service.address.is_empty() {
            node.address.clone()
        } else {
            service.address
        },
        id: service.id,
        name: service.service,
        port: service.port.0.unwrap_or(0),
        node: Arc::new(self::node(node)),
        service_tagged_addresses: service
            .tagged_addresses
            .iter()
            .map(|(name, at)| (name.clone(), (at.address.clone(), at.port.0.unwrap_or(0))))
            .collect(),
        service_meta: service.meta,
        tags: sorted(service.tags).into(),
        status: aggregated(&checks),
        weight_passing: weights.passing.0.unwrap_or(1),
        weight_warning: weights.warning.0.unwrap_or(1),
    }
}

/// The worst state, as Consul's `HealthChecks.AggregatedStatus` has it; a word it does not know
/// counts as critical.
fn aggregated(checks: &[CheckBody]) -> Status {
    let state = |check: &CheckBody| {
        let id = check.check_id.as_str();
        if id == "_node_maintenance" || id.starts_with("_service_maintenance:") {
            return Status::Maintenance;
        }
        match check.status.as_str() {
            "passing" => Status::Passing,
            "warning" => Status::Warning,
            _ => Status::Critical,
        }
    };
    checks.iter().map(state).max().unwrap_or(Status::Passing)
}

fn node(body: NodeBody) -> Node {
    Node {
        name: body.node,
        id: body.id,
        address: body.address,
        datacenter: body.datacenter,
        tagged_addresses: body.tagged_addresses,
        meta: body.meta,
    }
}

fn node_detail(body: DetailBody) -> NodeDetail {
    let mut services: Vec<NodeService> = body
        .services
        .into_values()
        .map(|service| NodeService {
            id: service.id,
            name: service.service,
            tags: sorted(service.tags).into(),
            meta: service.meta,
            address: service.address,
            port: service.port.0.unwrap_or(0),
        })
        .collect();
    services.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    NodeDetail {
        node: node(body.node),
        services,
    }
}

fn key_value(pair: PairBody) -> Result<KeyValue, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(pair.value.unwrap_or_default())
        .map_err(|_| "a value is not base64".to_owned())?;
    Ok(KeyValue {
        path: pair.key,
        value: String::from_utf8(bytes).ok(),
    })
}

pub(super) fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: NodeBody,
    service: ServiceBody,
    // Required: without its checks an instance would count as passing.
    #[serde(deserialize_with = "or_null")]
    checks: Vec<CheckBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeBody {
    #[serde(rename = "ID", default, deserialize_with = "or_null")]
    id: String,
    node: String,
    address: String,
    #[serde(default, deserialize_with = "or_null")]
    datacenter: String,
    #[serde(default, deserialize_with = "or_null")]
    tagged_addresses: Meta,
    #[serde(default, deserialize_with = "or_null")]
    meta: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceBody {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    #[serde(default, deserialize_with = "or_null")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    address: String,
    #[serde(default, deserialize_with = "or_null")]
    tagged_addresses: Pairs<ServiceAddress>,
    #[serde(default, deserialize_with = "or_null")]
    meta: Meta,
    #[serde(default)]
    port: Number,
    #[serde(default)]
    weights: Option<WeightsBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceAddress {
    #[serde(default, deserialize_with = "or_null")]
    address: String,
    #[serde(default)]
    port: Number,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct WeightsBody {
    #[serde(default)]
    passing: Number,
    #[serde(default)]
    warning: Number,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateEntry {
    node: String,
    #[serde(rename = "CheckID")]
    check_id: String,
    #[serde(default, deserialize_with = "or_null")]
    service_name: String,
    modify_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OnNodeBody {
    #[serde(deserialize_with = "or_null")]
    services: BTreeMap<String, OnNodeEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OnNodeEntry {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    modify_index: u64,
}

#[derive(Deserialize)]
struct CheckBody {
    #[serde(rename = "CheckID")]
    check_id: String,
    #[serde(rename = "Status")]
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DetailBody {
    node: NodeBody,
    #[serde(deserialize_with = "or_null")]
    services: BTreeMap<String, ServiceBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PairBody {
    key: String,
    // Present even when empty: Consul 1.8.7 writes an empty value as null.
    #[serde(deserialize_with = "Option::deserialize")]
    value: Option<String>,
}

/// A field whose `null` means its empty value; Go writes nil lists and maps so.
fn or_null<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A number of any kind; `None` when it is missing, no number or does not fit.
#[derive(Debug, Default, Clone, Copy)]
struct Number(Option<i64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        from.deserialize_any(AnyNumber)
    }
}

struct AnyNumber;

impl Visitor<'_> for AnyNumber {
    type Value = Number;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number(Some(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(i64::try_from(value).ok()))
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Number, E> {
        Ok(Number(None))
    }

    fn visit_str<E: de::Error>(self, _value: &str) -> Result<Number, E> {
        Ok(Number(None))
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<Number, E> {
        Ok(Number(None))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Number, E> {
        Ok(Number(None))
    }
}

#[cfg(test)]
mod tests;
