//! A query as a request to Consul's HTTP API: the path and the parameters. Pure.
//!
//! Names come from templates and from the catalog itself, so every path segment and every value is
//! percent-encoded, and what cannot be a segment is refused rather than sent elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::index;
use crate::catalog::{HealthFilter, Kind, Query, Scope, Status, unaskable};

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One request, without what changes from one asking to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Path, encoded.
    pub(super) path: String,
    /// Parameters, not yet encoded.
    params: Vec<(&'static str, String)>,
    /// Whether Consul blocks on it; what does not block is polled.
    pub(super) blocks: bool,
}

/// Which consistency to ask for, and whether to block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    /// The index to wait beyond; 0 answers at once.
    pub(super) index: u64,
    /// How long Consul may hold the request.
    pub(super) wait: Duration,
    /// Let any server answer, not the leader alone.
    pub(super) stale: bool,
}

/// The request for a query; `defaults` fills a scope that the query leaves open.
///
/// The error says why the query cannot be asked.
pub(super) fn request(query: &Query, defaults: &Scope) -> Result<Request, String> {
    let mut params = Vec::new();
    let path = match &query.kind {
        Kind::Service {
            name,
            tag,
            connect,
            health,
            near,
            filter,
            node_meta,
        } => {
            if *health == HealthFilter::Passing {
                params.push(("passing", "1".to_owned()));
            }
            push(&mut params, "tag", tag);
            push(&mut params, "near", near);
            push(&mut params, "filter", filter);
            push_meta(&mut params, node_meta);
            let kind = if *connect { "connect" } else { "service" };
            format!("/v1/health/{kind}/{}", segment("service name", name)?)
        }
        Kind::Services { node_meta, filter } => {
            push(&mut params, "filter", filter);
            push_meta(&mut params, node_meta);
            "/v1/catalog/services".to_owned()
        }
        Kind::Nodes {
            near,
            filter,
            node_meta,
        } => {
            push(&mut params, "near", near);
            push(&mut params, "filter", filter);
            push_meta(&mut params, node_meta);
            "/v1/catalog/nodes".to_owned()
        }
        Kind::Node { name } => format!("/v1/catalog/node/{}", segment("node name", name)?),
        Kind::Datacenters { .. } => {
            return Ok(Request {
                path: "/v1/catalog/datacenters".to_owned(),
                params,
                blocks: false,
            });
        }
        Kind::Key { path } => {
            if path.is_empty() {
                return Err("the key is empty".to_owned());
            }
            format!("/v1/kv/{}", segments(path)?)
        }
        Kind::Tree { prefix } => {
            params.push(("recurse", "1".to_owned()));
            match prefix.trim_end_matches('/') {
                "" => "/v1/kv/".to_owned(),
                // The slash keeps `app` from reading `application/…` too.
                prefix => format!("/v1/kv/{}/", segments(prefix)?),
            }
        }
    };
    push_scope(&mut params, &or(&query.scope, defaults));
    Ok(Request {
        path,
        params,
        blocks: true,
    })
}

/// The request that asks what the token may do; namespace and partition stand in its body.
pub(super) fn authorize(scope: &Scope) -> Request {
    let mut params = Vec::new();
    push(&mut params, "dc", &scope.datacenter);
    Request {
        path: "/v1/internal/acl/authorize".to_owned(),
        params,
        blocks: false,
    }
}

/// The request for all checks in a state.
pub(super) fn checks(scope: &Scope, state: Status) -> Request {
    let mut params = Vec::new();
    push_scope(&mut params, scope);
    Request {
        path: format!("/v1/health/state/{state}"),
        params,
        blocks: true,
    }
}

/// A scope, with what it leaves open filled from `defaults`.
pub(super) fn or(scope: &Scope, defaults: &Scope) -> Scope {
    let or = |own: &Option<String>, default: &Option<String>| own.clone().or(default.clone());
    Scope {
        datacenter: or(&scope.datacenter, &defaults.datacenter),
        namespace: or(&scope.namespace, &defaults.namespace),
        partition: or(&scope.partition, &defaults.partition),
    }
}

impl Request {
    /// The request target: path, `?` and parameters.
    pub(super) fn target(&self, mode: Mode) -> String {
        let mut target = self.path.clone();
        let mut separator = '?';
        let mut add = |name: &str, value: Option<&str>| {
            target.push(separator);
            target.push_str(name);
            if let Some(value) = value {
                // Writing into a String cannot fail.
                let _ = write!(target, "={}", utf8_percent_encode(value, ENCODED));
            }
            separator = '&';
        };
        for (name, value) in &self.params {
            add(name, Some(value));
        }
        if self.blocks {
            if mode.stale {
                add("stale", None);
            }
            if mode.index != index::FRESH {
                add("index", Some(&mode.index.to_string()));
                add("wait", Some(&format!("{}ms", mode.wait.as_millis())));
            }
        }
        target
    }
}

/// A name as one path segment. Encoding does not help: see [`unaskable`].
fn segment(what: &str, name: &str) -> Result<String, String> {
    match (name, unaskable(name)) {
        ("", _) => Err(format!("the {what} is empty")),
        (_, Some(why)) => Err(format!("the {what} {name:?} {why}")),
        (_, None) => Ok(utf8_percent_encode(name, ENCODED).to_string()),
    }
}

/// A key's path: each segment on its own. Empty ones would be merged by Consul's HTTP server.
fn segments(path: &str) -> Result<String, String> {
    let (body, end) = match path.strip_suffix('/') {
        Some(body) => (body, "/"),
        None => (path, ""),
    };
    let parts: Result<Vec<_>, _> = body
        .split('/')
        .map(|part| segment("key's path segment", part))
        .collect();
    Ok(parts?.join("/") + end)
}

fn push_scope(params: &mut Vec<(&'static str, String)>, scope: &Scope) {
    push(params, "dc", &scope.datacenter);
    push(params, "ns", &scope.namespace);
    push(params, "partition", &scope.partition);
}

fn push(params: &mut Vec<(&'static str, String)>, name: &'static str, value: &Option<String>) {
    if let Some(value) = value {
        params.push((name, value.clone()));
    }
}

fn push_meta(params: &mut Vec<(&'static str, String)>, meta: &BTreeMap<String, String>) {
    for (key, value) in meta {
        params.push(("node-meta", format!("{key}:{value}")));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(query: &Query, index: u64) -> String {
        let mode = Mode {
            index,
            wait: Duration::from_secs(60),
            stale: false,
        };
        request(query, &Scope::default()).unwrap().target(mode)
    }

    fn of(kind: Kind) -> Query {
        Query {
            kind,
            scope: Scope::default(),
        }
    }

    #[test]
    fn each_kind_has_its_path() {
        assert_eq!(
            target(&Query::service("web"), 0),
            "/v1/health/service/web?passing=1"
        );
        assert_eq!(
            target(&Query::service("web"), 7),
            "/v1/health/service/web?passing=1&index=7&wait=60000ms"
        );
        assert_eq!(target(&Query::key("a b/c?d"), 0), "/v1/kv/a%20b/c%3Fd");
        let tree = |prefix: &str| {
            of(Kind::Tree {
                prefix: prefix.into(),
            })
        };
        assert_eq!(
            target(&tree("app"), 3),
            "/v1/kv/app/?recurse=1&index=3&wait=60000ms"
        );
        assert_eq!(target(&tree(""), 0), "/v1/kv/?recurse=1");
        assert_eq!(
            target(&of(Kind::Node { name: "n/1".into() }), 0),
            "/v1/catalog/node/n%2F1"
        );
        // Datacenters are polled, so an index means nothing.
        assert_eq!(
            target(&of(Kind::Datacenters { ignore_down: true }), 9),
            "/v1/catalog/datacenters"
        );
        let nodes = Kind::Nodes {
            near: Some("_agent".into()),
            filter: Some("Meta.a == \"b&c\"".into()),
            node_meta: [("rack".to_owned(), "1".to_owned())].into(),
        };
        assert_eq!(
            target(&of(nodes), 0),
            "/v1/catalog/nodes?near=_agent&filter=Meta.a%20%3D%3D%20%22b%26c%22&node-meta=rack%3A1"
        );
    }

    #[test]
    fn the_query_s_own_scope_wins_over_the_default() {
        let defaults = Scope {
            datacenter: Some("east".into()),
            namespace: Some("team".into()),
            partition: None,
        };
        let mode = Mode {
            index: 0,
            wait: Duration::ZERO,
            stale: true,
        };
        let mut query = Query::key("a");
        let request_target = |query: &Query| request(query, &defaults).unwrap().target(mode);
        assert_eq!(request_target(&query), "/v1/kv/a?dc=east&ns=team&stale");
        query.scope.datacenter = Some("west".into());
        assert_eq!(request_target(&query), "/v1/kv/a?dc=west&ns=team&stale");
    }

    // C17
    #[test]
    fn what_cannot_be_a_segment_is_not_asked() {
        for query in [
            Query::service(""),
            Query::service(".."),
            Query::service("."),
            Query::key(""),
            Query::key("a/../../v1/agent/self"),
            Query::key("a//b"),
            Query::service("a/../b"),
            Query::service("/a"),
            Query::service("a//b"),
            Query::service("./a"),
        ] {
            assert!(request(&query, &Scope::default()).is_err(), "{query}");
        }
    }

    proptest! {
        // C17
        #[test]
        fn no_name_leaves_its_segment(name in any::<String>()) {
            if let Ok(request) = request(&Query::service(&name), &Scope::default()) {
                let rest = request.path.strip_prefix("/v1/health/service/").unwrap();
                prop_assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
                let url = reqwest::Url::parse(&format!("http://h{}", request.path)).unwrap();
                prop_assert_eq!(url.path(), request.path.as_str());
                let back = percent_encoding::percent_decode_str(rest).decode_utf8().unwrap();
                prop_assert_eq!(back.as_ref(), name.as_str());
            }
        }
    }
}
