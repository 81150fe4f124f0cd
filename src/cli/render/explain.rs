//! `gatewright render --explain`: each query, the size and age of its answer, and the lines that came of it.

use std::collections::BTreeMap;

use crate::apply::set::Candidate;
use crate::source::Freshness;
use crate::template::{SourceMap, TemplateSet};

use super::super::gather::Gathered;

/// Each query, its answer and its lines.
pub fn explain(set: &mut TemplateSet, gathered: &Gathered, candidate: &Candidate) -> String {
    let maps = set.source_maps(&gathered.rendering.files);
    let bold = anstyle::Style::new().bold();
    let dim = anstyle::Style::new().dimmed();
    let mut text = format!(
        "{bold}revision {}{bold:#}: {} queries\n",
        candidate.revision,
        gathered.answers.len()
    );
    let left_out: BTreeMap<_, usize> =
        gathered
            .rendering
            .quarantined
            .iter()
            .fold(BTreeMap::new(), |mut counts, one| {
                *counts.entry(one.query.as_ref()).or_default() += 1;
                counts
            });
    for (query, (known, freshness)) in &gathered.answers {
        text.push_str(&format!(
            "\n{bold}{query}{bold:#}\n  {} known",
            known.answer.len()
        ));
        if let Some(count) = left_out.get(&Some(query)) {
            text.push_str(&format!(", {count} left out"));
        }
        if let Some(freshness) = freshness {
            text.push_str(&format!(", {}", how_fresh(freshness)));
        }
        text.push('\n');
        let mut made = 0;
        for ((file, content), map) in candidate
            .files
            .iter()
            .zip(&gathered.rendering.files)
            .zip(&maps)
        {
            let lines = map.lines_of(query);
            made += lines.len();
            for line in lines {
                let shown = content.lines().nth(line - 1).unwrap_or_default();
                text.push_str(&format!(
                    "  {}:{line}: {}{dim}{}{dim:#}\n",
                    file.destination.display(),
                    shown.trim(),
                    from(map, line)
                ));
            }
        }
        if made == 0 {
            text.push_str("  no line came of it\n");
        }
    }
    text
}

fn from(map: &SourceMap, line: usize) -> String {
    match map
        .origin(line)
        .and_then(|origin| origin.chain.into_iter().next())
    {
        Some(position) => format!("  ← {}:{}", position.path.display(), position.line),
        None => String::new(),
    }
}

/// `at most 12 ms old, index 40, answered in 3 ms`.
pub fn how_fresh(freshness: &Freshness) -> String {
    let age = freshness
        .last_contact
        .max(freshness.age.unwrap_or_default());
    format!(
        "at most {} ms old, index {}, answered in {} ms",
        age.as_millis(),
        freshness.index,
        freshness.took.as_millis()
    )
}
