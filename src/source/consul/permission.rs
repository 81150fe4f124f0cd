//! Asks Consul what the token may read, so that "it is gone" can be told from "it is hidden": Consul
//! leaves out of its answers what a token may not read, without a word (before 1.11).
//!
//! `POST /v1/internal/acl/authorize` answers for any token about itself (Consul 1.8 and later: its own
//! page in the browser uses it). It changes nothing. Where it is not there, or a proxy lets no POST
//! through, the nodes that are still shown have to do.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::query;
use crate::catalog::guard::{Permission, Right};
use crate::catalog::{Answer, Kind, Query, Scope};

/// Consul refuses more in one request.
const AT_ONCE: usize = 64;
/// How long the list of nodes may take.
const NODES: Duration = Duration::from_secs(10);

/// Whether the token may read all of this.
pub(super) async fn ask(client: &Client, scope: &Scope, rights: Vec<Right>) -> Permission {
    let whole = query::or(scope, &client.defaults);
    let request = query::authorize(&whole);
    for some in rights.chunks(AT_ONCE) {
        let answer = client.post(&request, body(some, &whole)).await;
        match answer.map(|(status, body)| read(some, status, &body)) {
            Some(Said::Given) => {}
            Some(Said::Denied(right)) => return Permission::Denied(right),
            Some(Said::NoRights) => return Permission::Certain,
            Some(Said::Nothing) => return seen(client, scope, &rights).await,
            None | Some(Said::Unable) => return Permission::Silent,
        }
    }
    Permission::Given
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Given,
    Denied(Right),
    /// This Consul knows no rights.
    NoRights,
    /// It does not know the question.
    Nothing,
    /// It cannot answer at the moment.
    Unable,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted<'a> {
    resource: &'static str,
    segment: &'a str,
    access: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict {
    resource: String,
    segment: String,
    allow: bool,
}

fn words(right: &Right) -> (&'static str, &str) {
    match right {
        Right::Node(name) => ("node", name),
        Right::Service(name) => ("service", name),
        Right::Key(path) => ("key", path),
    }
}

fn body(rights: &[Right], scope: &Scope) -> String {
    let wanted: Vec<Wanted<'_>> = rights
        .iter()
        .map(|right| {
            let (resource, segment) = words(right);
            Wanted {
                resource,
                segment,
                access: "read",
                // Nodes are in none.
                namespace: scope.namespace.as_deref().filter(|_| resource != "node"),
                partition: scope.partition.as_deref(),
            }
        })
        .collect();
    // Plain text always has a JSON form.
    serde_json::to_string(&wanted).unwrap_or_default()
}

/// Strict: an answer to another question proves nothing.
fn read(rights: &[Right], status: StatusCode, body: &[u8]) -> Said {
    match status.as_u16() {
        200 => {}
        // Consul 1.8.7: 401.
        401 | 403 if body.starts_with(b"ACL support disabled") => return Said::NoRights,
        429 | 500..=599 => return Said::Unable,
        _ => return Said::Nothing,
    }
    let Ok(verdicts) = serde_json::from_slice::<Vec<Verdict>>(body) else {
        return Said::Nothing;
    };
    let matches = |(right, verdict): (&Right, &Verdict)| {
        words(right) == (verdict.resource.as_str(), verdict.segment.as_str())
    };
    if verdicts.len() != rights.len() || !rights.iter().zip(&verdicts).all(matches) {
        return Said::Nothing;
    }
    let denied = rights.iter().zip(&verdicts).find(|(_, one)| !one.allow);
    denied.map_or(Said::Given, |(right, _)| Said::Denied(right.clone()))
}

/// The nodes that the token sees: a node that it does not see may be hidden.
async fn seen(client: &Client, scope: &Scope, rights: &[Right]) -> Permission {
    let mut wanted = rights.iter().filter_map(|right| match right {
        Right::Node(name) => Some(name),
        Right::Service(_) | Right::Key(_) => None,
    });
    if wanted.clone().next().is_none() {
        return Permission::Untold;
    }
    let query = Query {
        kind: Kind::Nodes {
            near: None,
            filter: None,
            node_meta: Default::default(),
        },
        scope: scope.clone(),
    };
    let Ok((Answer::Nodes(nodes), _)) = client.read_once(&query, NODES).await else {
        return Permission::Silent;
    };
    let nodes: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    match wanted.find(|name| !nodes.contains(name.as_str())) {
        Some(name) => Permission::Unseen(name.clone()),
        None => Permission::Untold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> Vec<Right> {
        vec![
            Right::Node("n1".into()),
            Right::Service("web".into()),
            Right::Key("a/\"b".into()),
        ]
    }

    fn answer(allow: [bool; 3]) -> String {
        let one = |(right, allow): (Right, bool)| {
            let (resource, segment) = words(&right);
            serde_json::json!({"Resource": resource, "Segment": segment, "Access": "read", "Allow": allow})
        };
        let all: Vec<_> = rights().into_iter().zip(allow).map(one).collect();
        serde_json::to_string(&all).unwrap()
    }

    fn said(status: u16, body: &str) -> Said {
        let status = StatusCode::from_u16(status).unwrap();
        read(&rights(), status, body.as_bytes())
    }

    // B10
    #[test]
    fn only_an_answer_to_the_whole_question_gives_or_denies() {
        assert_eq!(said(200, &answer([true; 3])), Said::Given);
        for (at, right) in rights().into_iter().enumerate() {
            let mut allow = [true; 3];
            allow[at] = false;
            assert_eq!(said(200, &answer(allow)), Said::Denied(right));
        }
        let other = answer([true; 3]).replace("n1", "n2");
        let short = answer([true; 3]).replacen("true", "\"true\"", 1);
        for body in ["", "[]", "null", "{}", "[{}]", "[null]", &other, &short] {
            assert_eq!(said(200, body), Said::Nothing, "{body}");
        }
        assert_eq!(said(401, "ACL support disabled"), Said::NoRights);
        assert_eq!(said(403, "ACL not found"), Said::Nothing);
        for status in [301, 400, 404, 405] {
            assert_eq!(said(status, ""), Said::Nothing);
        }
        for status in [429, 500, 503] {
            assert_eq!(said(status, "No path to datacenter"), Said::Unable);
        }
    }

    #[test]
    fn the_question_names_the_scope_where_there_is_one() {
        let scope = Scope {
            namespace: Some("team".into()),
            ..Scope::default()
        };
        assert_eq!(
            body(&rights()[..2], &scope),
            r#"[{"Resource":"node","Segment":"n1","Access":"read"},{"Resource":"service","Segment":"web","Access":"read","Namespace":"team"}]"#
        );
        assert!(!body(&rights(), &Scope::default()).contains("Namespace"));
    }
}
