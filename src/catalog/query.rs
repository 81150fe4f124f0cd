//! What a template can ask of a catalog, as plain values.
//!
//! A [`Query`] is the identity of a watch: two templates that ask the same thing share one. It is
//! made by the template engine, answered by a source and never performs I/O itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a query is asked: Consul's datacenter, and its Enterprise namespace and partition.
///
/// `None` means "the agent's own", so nothing is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// Consul's `dc` parameter.
    pub datacenter: Option<String>,
    /// Consul Enterprise's `ns` parameter.
    pub namespace: Option<String>,
    /// Consul Enterprise's `partition` parameter.
    pub partition: Option<String>,
}

/// A health state as Consul aggregates it over the checks of an instance and its node.
///
/// Order is from good to bad. Maintenance is not a state of Consul's API but of its checks: an
/// instance with the check `_service_maintenance:…` or `_node_maintenance` is in maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Every check passes.
    Passing,
    /// The worst check warns.
    Warning,
    /// At least one check is critical.
    Critical,
    /// Somebody put the instance or its node into maintenance.
    Maintenance,
}

impl Status {
    /// Consul's word for the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
            Status::Maintenance => "maintenance",
        }
    }

    /// Reads Consul's word for a state.
    pub fn parse(word: &str) -> Option<Status> {
        [
            Status::Passing,
            Status::Warning,
            Status::Critical,
            Status::Maintenance,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Which states of health a service query lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HealthFilter {
    /// Only passing instances; Consul filters (`passing=1`).
    #[default]
    Passing,
    /// Every instance, whatever its state.
    Any,
    /// The listed states, sorted and without repeats; filtered by us after the answer.
    Only(Vec<Status>),
}

/// The question itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `/v1/health/service/NAME`, or `/v1/health/connect/NAME` with `connect`.
    Service {
        /// The service's name.
        name: String,
        /// Consul's `tag` parameter.
        tag: Option<String>,
        /// Ask for Connect-capable endpoints.
        connect: bool,
        /// Which states come through.
        health: HealthFilter,
        /// Consul's `near` parameter; the answer keeps Consul's order then.
        near: Option<String>,
        /// Consul's `filter` expression.
        filter: Option<String>,
        /// Consul's `node-meta` pairs.
        node_meta: BTreeMap<String, String>,
    },
    /// `/v1/catalog/services`.
    Services {
        /// Consul's `node-meta` pairs.
        node_meta: BTreeMap<String, String>,
        /// Consul's `filter` expression (1.14 and later).
        filter: Option<String>,
    },
    /// `/v1/catalog/nodes`.
    Nodes {
        /// Consul's `near` parameter; the answer keeps Consul's order then.
        near: Option<String>,
        /// Consul's `filter` expression.
        filter: Option<String>,
        /// Consul's `node-meta` pairs.
        node_meta: BTreeMap<String, String>,
    },
    /// `/v1/catalog/node/NAME`.
    Node {
        /// The node's name.
        name: String,
    },
    /// `/v1/catalog/datacenters`; it does not block, so it is polled.
    Datacenters {
        /// Leave out those that do not answer at the moment.
        ignore_down: bool,
    },
    /// `/v1/kv/PATH`; `key`, `keyExists` and `keyOrDefault` all read this one.
    Key {
        /// The key's path, without a leading slash.
        path: String,
    },
    /// `/v1/kv/PREFIX?recurse`; `ls` and `tree` both read this one.
    Tree {
        /// The folder, without a leading slash and without a trailing one.
        prefix: String,
    },
}

/// One distinct question to a catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Query {
    /// The question.
    pub kind: Kind,
    /// Where it is asked.
    pub scope: Scope,
}

/// What is wrong with a name that is a path within Consul's HTTP API.
pub const ANOTHER_PATH: &str =
    "holds `.`, `..` or nothing between its slashes, so Consul takes it for another path";

/// Why Consul cannot be asked for something of this name, to follow the name. Its HTTP server redirects a path with
/// `.`, `..` or `//` to another one, even when they are encoded, and answers 400 to one that cannot be printed
/// (Consul 1.8.7).
pub fn unaskable(name: &str) -> Option<&'static str> {
    let mut parts = name.strip_suffix('/').unwrap_or(name).split('/');
    if parts.any(|part| matches!(part, "" | "." | "..")) {
        return Some(ANOTHER_PATH);
    }
    let hidden = !name.chars().all(is_printable);
    hidden.then_some("holds a character that cannot be printed, which Consul refuses")
}

/// As Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the blank.
fn is_printable(letter: char) -> bool {
    // A mark is escaped only at the beginning of a text.
    let text = String::from_iter(['a', letter]);
    !letter.is_control() && !text.escape_debug().to_string().contains("\\u{")
}

impl Query {
    /// The query for the passing instances of a service in the agent's own datacenter.
    pub fn service(name: &str) -> Query {
        Query {
            kind: Kind::Service {
                name: name.to_owned(),
                tag: None,
                connect: false,
                health: HealthFilter::Passing,
                near: None,
                filter: None,
                node_meta: BTreeMap::new(),
            },
            scope: Scope::default(),
        }
    }

    /// The query for one key in the agent's own datacenter.
    pub fn key(path: &str) -> Query {
        Query {
            kind: Kind::Key {
                path: path.to_owned(),
            },
            scope: Scope::default(),
        }
    }
}

/// Written as a template would ask it: `service "web" tag="prod" dc="east"`.
impl fmt::Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match &self.kind {
            Kind::Service {
                name,
                tag,
                connect,
                health,
                near,
                filter,
                node_meta,
            } => {
                write!(out, "service {name:?}")?;
                push(&mut words, "tag", tag);
                if *connect {
                    words.push("connect=true".to_owned());
                }
                match health {
                    HealthFilter::Passing => {}
                    HealthFilter::Any => words.push("status=\"any\"".to_owned()),
                    HealthFilter::Only(states) => {
                        let states: Vec<_> = states.iter().map(|state| state.as_str()).collect();
                        words.push(format!("status={:?}", states.join(",")));
                    }
                }
                push(&mut words, "near", near);
                push(&mut words, "filter", filter);
                push_meta(&mut words, node_meta);
            }
            Kind::Services { node_meta, filter } => {
                out.write_str("services")?;
                push(&mut words, "filter", filter);
                push_meta(&mut words, node_meta);
            }
            Kind::Nodes {
                near,
                filter,
                node_meta,
            } => {
                out.write_str("nodes")?;
                push(&mut words, "near", near);
                push(&mut words, "filter", filter);
                push_meta(&mut words, node_meta);
            }
            Kind::Node { name } => write!(out, "node {name:?}")?,
            Kind::Datacenters { ignore_down } => out.write_str(match ignore_down {
                true => "datacenters true",
                false => "datacenters",
            })?,
            Kind::Key { path } => write!(out, "key {path:?}")?,
            Kind::Tree { prefix } => write!(out, "tree {prefix:?}")?,
        }
        push(&mut words, "dc", &self.scope.datacenter);
        push(&mut words, "ns", &self.scope.namespace);
        push(&mut words, "partition", &self.scope.partition);
        for word in words {
            write!(out, " {word}")?;
        }
        Ok(())
    }
}

fn push(words: &mut Vec<String>, name: &str, value: &Option<String>) {
    if let Some(value) = value {
        words.push(format!("{name}={value:?}"));
    }
}

fn push_meta(words: &mut Vec<String>, meta: &BTreeMap<String, String>) {
    for (key, value) in meta {
        words.push(format!("nodeMeta={:?}", format!("{key}:{value}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C17
    #[test]
    fn what_consul_cannot_be_asked_for() {
        for name in [
            "",
            ".",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "/a",
            "a/.",
            "a//",
            "we\u{200b}b",
            "we\u{a0}b",
            "\u{202e}x",
            "a\nb",
            "a\u{2028}",
        ] {
            assert!(unaskable(name).is_some(), "{name:?}");
        }
        for name in [
            "web",
            "a/b",
            "a/",
            "a.b",
            "..a",
            "a..",
            "my service",
            "\u{fc}n\u{ef}",
            "e\u{301}",
            "a\"b\\'c",
            "\u{2603}",
            "\\u{200b}",
        ] {
            assert_eq!(unaskable(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_query_reads_as_a_template_would_ask_it() {
        let mut query = Query::service("web");
        assert_eq!(query.to_string(), r#"service "web""#);
        if let Kind::Service { tag, health, .. } = &mut query.kind {
            *tag = Some("prod".into());
            *health = HealthFilter::Only(vec![Status::Passing, Status::Warning]);
        }
        query.scope.datacenter = Some("east".into());
        assert_eq!(
            query.to_string(),
            r#"service "web" tag="prod" status="passing,warning" dc="east""#
        );
        assert_eq!(Query::key("a/b").to_string(), r#"key "a/b""#);
    }
}
