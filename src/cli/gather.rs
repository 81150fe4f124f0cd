//! One rendering, once: asks the catalog in rounds until the templates have all they need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::fixture::made::Made;
use crate::catalog::fixture::{self, Fixture};
use crate::catalog::{Answer, Kind, Known, Query, snapshot};
use crate::diagnostic::{Diagnostic, Place, reworded};
use crate::exit;
use crate::source::{Freshness, Source};
use crate::template::{Outcome, Rendering, TemplateSet};
use crate::text;

use super::Failure;

/// Where answers come from.
pub enum Catalog {
    /// A live one, and how long one query may take.
    Live(Source, Duration),
    /// A file.
    Fixture(Box<Fixture>, std::path::PathBuf),
    /// One that nobody wrote.
    Made(Arc<Made>),
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
                    return Err(Failure {
                        // A catalog file is somebody's to mend, like the template.
                        code: match catalog {
                            Catalog::Live(..) => exit::CATALOG,
                            _ => exit::TEMPLATE,
                        },
                        diagnostics: missing_keys(set, &absent),
                    });
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
        Catalog::Live(source, patience) => match source.read_once(query, *patience).await {
            Ok((answer, freshness)) => Ok((answer, Some(freshness))),
            Err(error) => Err(Failure::one(
                exit::CATALOG,
                Diagnostic::error("catalog", error.to_string()).note(format!("asked for: {query}")),
            )),
        },
        Catalog::Made(made) => match made.answer(query) {
            Ok(answer) => Ok((answer, None)),
            Err(error) => Err(Failure::one(
                exit::TEMPLATE,
                Diagnostic::error("fixture", error.to_string()),
            )),
        },
        Catalog::Fixture(fixture, path) => match fixture.answer(query) {
            Ok(answer) => Ok((answer, None)),
            Err(error) => Err(Failure::one(
                exit::TEMPLATE,
                Diagnostic::error("fixture", error.to_string())
                    .at(recorded_at(path, query))
                    .help("Record it again with `gatewright capture`."),
            )),
        },
    }
}

fn missing_keys(set: &mut TemplateSet, absent: &BTreeSet<Query>) -> Vec<Diagnostic> {
    let told = absent.iter().map(|query| {
        let diagnostic = Diagnostic::error(
            "missing-key",
            format!("The template demands {query}, which the catalog does not have."),
        )
        .help(match query.kind {
            Kind::Tree { .. } => {
                "Write a key below it, or use ls and tree instead of safeLs and safeTree."
            }
            _ => "Write the key, or use {{keyOrDefault \"…\" \"…\"}} or {{#if (keyExists \"…\")}}.",
        });
        match set.asked_at(query) {
            Some(place) => diagnostic.at(place),
            None => diagnostic,
        }
    });
    told.collect()
}

/// Where a catalog file has the answer to a query.
fn recorded_at(path: &std::path::Path, query: &Query) -> Place {
    let text = text::read(path, text::OF_CATALOG).unwrap_or_default();
    let name = serde_json::to_string(&query.to_string()).unwrap_or_default();
    match text.find(&name) {
        Some(at) => {
            let place = Place::bytes(path, &text, at..at + name.len());
            place.without(&fixture::secrets::of_text(&text))
        }
        None => Place::file(path),
    }
}

/// Reads a fixture.
pub fn read_fixture(path: &std::path::Path) -> Result<Fixture, Failure> {
    let wrong = |diagnostic| Failure::one(exit::TEMPLATE, diagnostic);
    let text = text::read(path, text::OF_CATALOG).map_err(|error| {
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
        let secrets = fixture::secrets::of_text(&text);
        let mut told = misread(path, &text, &error).without(&secrets);
        told.place = told.place.map(|place| place.without(&secrets));
        wrong(told)
    })
}

/// What is wrong with a catalog file, at the value or name that is meant.
fn misread(path: &std::path::Path, text: &str, error: &serde_json::Error) -> Diagnostic {
    let place = Place::at(path, text, error.line(), error.column().max(1), 1);
    let message = error.to_string();
    // The place says it.
    let message = match message.rsplit_once(" at line ") {
        Some((before, _)) => before,
        None => &message,
    };
    if !error.is_data() {
        return Diagnostic::error("fixture", format!("This is no JSON: {message}."))
            .at(place)
            .help("Mend the text here or right before.");
    }
    let (mut sentence, help) = reworded(message, "field");
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    Diagnostic::error("fixture", sentence)
        .at(whole_word(place))
        .help(help.unwrap_or_else(|| {
            "`gatewright schema catalog` prints what a catalog file may hold.".to_owned()
        }))
}

/// The reader tells where a quoted text ends; the whole of it is meant.
fn whole_word(mut place: Place) -> Place {
    let letters: Vec<char> = place.text.chars().collect();
    let end = place.column - 1;
    if letters.get(end) == Some(&'"')
        && let Some(length) = letters[..end]
            .iter()
            .rev()
            .position(|letter| *letter == '"')
    {
        place.column -= length + 1;
        place.length = length + 2;
    }
    place
}
