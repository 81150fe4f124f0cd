//! One rendering, once: asks the catalog in rounds until the templates have all they need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::fixture::Fixture;
use crate::catalog::{Answer, Known, Query, snapshot};
use crate::diagnostic::{Diagnostic, Place};
use crate::exit;
use crate::source::Freshness;
use crate::source::consul::Consul;
use crate::template::{Outcome, Rendering, TemplateSet};

use super::Failure;

/// Where answers come from.
pub enum Catalog {
    /// A live Consul, and how long one question may take.
    Live(Consul, Duration),
    /// A file.
    Fixture(Box<Fixture>, std::path::PathBuf),
}

/// A rendering and the answers it was made from.
pub struct Gathered {
    /// The rendering.
    pub rendering: Rendering,
    /// The answers, and how fresh those of a live Consul are.
    pub answers: BTreeMap<Query, (Known, Option<Freshness>)>,
}

/// Renders, asking for what is missing for at most `rounds` rounds.
pub async fn gather(
    set: &mut TemplateSet,
    catalog: &Catalog,
    rounds: u32,
) -> Result<Gathered, Failure> {
    let mut answers: BTreeMap<Query, (Known, Option<Freshness>)> = BTreeMap::new();
    let mut needed = set.literal_queries().clone();
    for _ in 0..=rounds {
        for query in std::mem::take(&mut needed) {
            let (answer, freshness) = ask(catalog, &query).await?;
            let known = Known {
                answer: Arc::new(answer),
                revision: answers.len() as u64 + 1,
            };
            answers.insert(query, (known, freshness));
        }
        let known = answers
            .iter()
            .map(|(query, (known, _))| (query.clone(), known.clone()))
            .collect();
        match set
            .render(&known)
            .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?
        {
            Outcome::Complete(rendering) => {
                answers.retain(|query, _| rendering.used.contains(query));
                return Ok(Gathered { rendering, answers });
            }
            Outcome::Incomplete {
                needed: more,
                absent,
                ..
            } => {
                if more.is_empty() {
                    return Err(missing_keys(&absent));
                }
                needed = more;
            }
        }
    }
    Err(Failure::one(
        exit::TEMPLATE,
        Diagnostic::error(
            "too-many-rounds",
            format!("The templates still asked for new queries after {rounds} rounds."),
        )
        .help("Raise catalog.max_discovery_rounds if this is meant."),
    ))
}

async fn ask(catalog: &Catalog, query: &Query) -> Result<(Answer, Option<Freshness>), Failure> {
    match catalog {
        Catalog::Live(consul, patience) => match consul.read_once(query, *patience).await {
            Ok((answer, freshness)) => Ok((answer, Some(freshness))),
            Err(error) => Err(Failure::one(
                exit::CATALOG,
                Diagnostic::error("catalog", error.to_string()).note(format!("asked for: {query}")),
            )),
        },
        Catalog::Fixture(fixture, path) => match fixture.answer(query) {
            Ok(answer) => Ok((answer, None)),
            Err(error) => Err(Failure::one(
                exit::TEMPLATE,
                Diagnostic::error("fixture", error.to_string())
                    .at(Place::file(path))
                    .help("Record it again with `gatewright capture`."),
            )),
        },
    }
}

fn missing_keys(absent: &BTreeSet<Query>) -> Failure {
    let keys: Vec<String> = absent.iter().map(ToString::to_string).collect();
    Failure::one(
        exit::CATALOG,
        Diagnostic::error(
            "missing-key",
            format!(
                "The templates demand what the catalog does not have: {}.",
                keys.join(", ")
            ),
        )
        .help("Write the key, or use {{keyOrDefault \"…\" \"…\"}} or {{keyExists \"…\"}}; ls and tree instead of safeLs and safeTree."),
    )
}

/// Reads a fixture.
pub fn read_fixture(path: &std::path::Path) -> Result<Fixture, Failure> {
    let wrong = |diagnostic| Failure::one(exit::TEMPLATE, diagnostic);
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(
            Diagnostic::error(
                "unreadable",
                format!("The catalog file cannot be read: {error}."),
            )
            .at(Place::file(path)),
        )
    })?;
    if snapshot::is_snapshot(&text) {
        return match snapshot::decode(&text) {
            Ok(snapshot) => Ok(snapshot.catalog),
            Err(error) => Err(wrong(
                Diagnostic::error("snapshot", format!("The snapshot cannot be used: {error}."))
                    .at(Place::file(path)),
            )),
        };
    }
    serde_json::from_str(&text).map_err(|error| {
        wrong(
            Diagnostic::error("fixture", format!("This is no catalog file: {error}."))
                .at(Place::at(path, &text, error.line(), error.column().max(1), 1))
                .help("It is JSON with services, keys, nodes, datacenters and answers; `gatewright capture` records one."),
        )
    })
}
