//! What is sent to Consul, as opposed to what templates ask. Templates, routes and the guard ask for a service in several
//! states of health; Consul is asked once, for all of them, and each gets its part. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::answer::{self, Check, NodeEntry};
use super::query::{self, Request};
use crate::catalog::{Answer, HealthFilter, Kind, Query, Scope, Status};

/// One question to Consul.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// A query, for any state of health where it is one for instances.
    Query(Query),
    /// The checks in a state.
    Checks(Scope, Status),
    /// What is registered on a node.
    OnNode(Scope, String),
}

/// What Consul says to it.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Answer(Answer),
    Checks(BTreeSet<Check>),
    OnNode(Vec<NodeEntry>),
}

impl Asked {
    /// What has to be asked for a query; `defaults` fills a scope that the query leaves open.
    pub(super) fn of(query: &Query, defaults: &Scope) -> Asked {
        let mut query = query.clone();
        query.scope = query::or(&query.scope, defaults);
        if let Kind::Service { health, .. } = &mut query.kind {
            *health = HealthFilter::Any;
        }
        Asked::Query(query)
    }

    /// The list of all services, whose index moves with each registration.
    pub(super) fn services(scope: &Scope) -> Asked {
        let (node_meta, filter) = Default::default();
        Asked::all(scope, Kind::Services { node_meta, filter })
    }

    /// The list of all nodes.
    pub(super) fn nodes(scope: &Scope) -> Asked {
        let (near, node_meta, filter) = Default::default();
        Asked::all(
            scope,
            Kind::Nodes {
                near,
                filter,
                node_meta,
            },
        )
    }

    fn all(scope: &Scope, kind: Kind) -> Asked {
        let scope = scope.clone();
        Asked::Query(Query { kind, scope })
    }

    /// The service that is asked for, with where. A proxy of Connect has another name than its service.
    pub(super) fn service(&self) -> Option<(&Scope, &str)> {
        match self {
            Asked::Query(Query {
                kind:
                    Kind::Service {
                        name,
                        connect: false,
                        ..
                    },
                scope,
            }) => Some((scope, name)),
            _ => None,
        }
    }

    /// Whether it is a list of all services, whose index moves with each registration.
    pub(super) fn is_list_of_services(&self) -> bool {
        matches!(self, Asked::Query(query) if matches!(query.kind, Kind::Services { .. }))
    }

    /// Whether Consul can hold the request until something changes.
    pub(super) fn blocks(&self) -> bool {
        !matches!(self, Asked::Query(query) if matches!(query.kind, Kind::Datacenters { .. }))
    }

    /// The request. The error says why it cannot be made.
    pub(super) fn request(&self, defaults: &Scope) -> Result<Request, String> {
        match self {
            Asked::Query(query) => query::request(query, defaults),
            Asked::Checks(scope, state) => Ok(query::checks(scope, *state)),
            Asked::OnNode(scope, name) => {
                let (kind, scope) = (Kind::Node { name: name.clone() }, scope.clone());
                query::request(&Query { kind, scope }, defaults)
            }
        }
    }

    /// What the body of a 200 says.
    pub(super) fn parse(&self, body: &[u8]) -> Result<Reply, String> {
        Ok(match self {
            Asked::Query(query) => Reply::Answer(answer::parse(&query.kind, body)?),
            Asked::Checks(..) => Reply::Checks(answer::checks(body)?),
            Asked::OnNode(..) => Reply::OnNode(answer::on_node(body)?),
        })
    }

    /// What a 404 without a body says, where that is an answer.
    pub(super) fn absent(&self) -> Option<Reply> {
        match self {
            Asked::Query(query) => answer::absent(&query.kind).map(Reply::Answer),
            Asked::Checks(..) | Asked::OnNode(..) => None,
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Asked::Query(query) => query.fmt(out),
            Asked::Checks(_, state) => write!(out, "the {state} checks"),
            Asked::OnNode(_, name) => write!(out, "node {name:?}"),
        }
    }
}

/// The part of an answer for any state of health that a query asks for; the whole of it is shared, not copied.
pub(super) fn part(query: &Query, answer: &Arc<Answer>) -> Arc<Answer> {
    let (Kind::Service { health, .. }, Answer::Instances(list)) = (&query.kind, &**answer) else {
        return Arc::clone(answer);
    };
    let wanted = |status: Status| answer::lets_through(health, status);
    if list.iter().all(|one| wanted(one.status)) {
        return Arc::clone(answer);
    }
    let part = list.iter().filter(|one| wanted(one.status));
    Arc::new(Answer::Instances(part.cloned().collect()))
}
