//! `gatewright render --trace LINE`: the whole story of one line of the result.

use serde_json::Value;

use crate::apply::set::Candidate;
use crate::catalog::fixture::Fixture;
use crate::catalog::{Answer, Query};
use crate::diagnostic::{Diagnostic, Place, plain};
use crate::exit;
use crate::template::{Item, Origin, Part, SourceMap, TemplateSet, instance_words};

use super::super::gather::Gathered;
use super::super::{Failure, near};
use super::explain::how_fresh;

/// The story of a line, given as `LINE` or `FILE:LINE`.
pub fn trace(
    set: &mut TemplateSet,
    gathered: &Gathered,
    candidate: &Candidate,
    wanted: &str,
) -> Result<String, Failure> {
    let (index, line) = find(candidate, gathered, wanted)?;
    let maps = set.source_maps(&gathered.rendering.files);
    let text = &gathered.rendering.files[index];
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let destination = candidate.files[index].destination.display();
    let bold = anstyle::Style::new().bold();
    let mut story = format!("{bold}{destination}:{line}{bold:#}: {}\n", plain(shown));
    let map = &maps[index];
    match map.origin(line) {
        None => story.push_str("\nNothing of a template made this line.\n"),
        Some(origin) => {
            parts(&mut story, map, line, shown);
            includes(&mut story, &origin);
            items(&mut story, &origin, gathered);
            queries(&mut story, &origin, gathered);
        }
    }
    Ok(story)
}

/// The file, by its place in the set, and the line.
fn find(
    candidate: &Candidate,
    gathered: &Gathered,
    wanted: &str,
) -> Result<(usize, usize), Failure> {
    let usage = |message: String| {
        let files = candidate.files.iter();
        let names: Vec<String> = files
            .map(|file| file.destination.display().to_string())
            .collect();
        Failure::one(
            exit::USAGE,
            Diagnostic::error("trace", message).help(format!(
                "Write --trace LINE, or --trace FILE:LINE with one of {}.",
                names.join(", ")
            )),
        )
    };
    let (file, line) = match wanted.rsplit_once(':') {
        Some((file, line)) => (Some(file), line),
        None => (None, wanted),
    };
    let line: usize = line
        .parse()
        .ok()
        .filter(|line| *line > 0)
        .ok_or_else(|| usage(format!("`{}` names no line.", plain(wanted))))?;
    let index = match file {
        None => 0,
        Some(file) => candidate
            .files
            .iter()
            .position(|one| {
                let name = one.destination.file_name();
                one.destination.as_os_str() == file || name.is_some_and(|name| name == file)
            })
            .ok_or_else(|| {
                usage(format!(
                    "No file of the result is called `{}`.",
                    plain(file)
                ))
            })?,
    };
    let count = gathered
        .rendering
        .files
        .get(index)
        .map_or(0, |text| text.lines().count());
    if line > count {
        return Err(usage(format!(
            "The result has {count} lines, and line {line} is wanted."
        )));
    }
    Ok((index, line))
}

/// Each stretch of the line beside what made it.
fn parts(story: &mut String, map: &SourceMap, line: usize, shown: &str) {
    let dim = anstyle::Style::new().dimmed();
    let letters: Vec<char> = shown.chars().collect();
    let rows: Vec<(String, Part)> = map
        .parts(line)
        .into_iter()
        .map(|mut part| {
            part.place.path = near(&part.place.path);
            let end = (part.column - 1 + part.length).min(letters.len());
            let text: String = letters[(part.column - 1).min(end)..end].iter().collect();
            (format!("{:?}", plain(&text)), part)
        })
        .collect();
    let width = rows.iter().map(|(text, _)| text.chars().count()).max();
    story.push('\n');
    for (text, part) in rows {
        let what = match part.value {
            true => tag(&part.place),
            false => "text".to_owned(),
        };
        let blanks = width.unwrap_or(0) - text.chars().count();
        story.push_str(&format!(
            "  {text}{} {dim}{}{dim:#}  {what}\n",
            " ".repeat(blanks),
            part.place
        ));
    }
}

/// The text of a tag.
fn tag(place: &Place) -> String {
    let letters = place.text.chars().skip(place.column.saturating_sub(1));
    letters.take(place.length).collect()
}

fn includes(story: &mut String, origin: &Origin) {
    for position in origin.chain.iter().skip(1) {
        story.push_str(&format!(
            "  included from {}:{}:{}\n",
            near(&position.path).display(),
            position.line,
            position.column
        ));
    }
}

/// Each item that was gone through, with its fields.
fn items(story: &mut String, origin: &Origin, gathered: &Gathered) {
    let bold = anstyle::Style::new().bold();
    for item in &origin.items {
        story.push_str(&format!("\n{bold}{}{bold:#}", item.what));
        if let Some(query) = &item.query {
            story.push_str(&format!(" of {query}"));
        }
        story.push('\n');
        for (name, value) in fields(item, origin, gathered) {
            story.push_str(&format!("  {name:<15} {}\n", plain(&value)));
        }
    }
}

/// The fields of an instance, as a catalog file has them.
fn fields(item: &Item, origin: &Origin, gathered: &Gathered) -> Vec<(String, String)> {
    let of = |query: &Query| {
        let (known, _) = gathered.answers.get(query)?;
        let Answer::Instances(list) = known.answer.as_ref() else {
            return None;
        };
        let one = list
            .iter()
            .find(|one| instance_words(&one.node.name, &one.id) == item.what)?;
        let mut only = Fixture::default();
        only.record(query, &Answer::Instances(vec![one.clone()]));
        let value = serde_json::to_value(&only).ok()?;
        value["answers"][query.to_string()][0].as_object().cloned()
    };
    let queries = item.query.iter().chain(&origin.queries);
    let fields = queries.into_iter().find_map(of).unwrap_or_default();
    fields
        .into_iter()
        .map(|(name, value)| {
            let shown = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            (name, shown)
        })
        .collect()
}

fn queries(story: &mut String, origin: &Origin, gathered: &Gathered) {
    let bold = anstyle::Style::new().bold();
    for query in &origin.queries {
        story.push_str(&format!("\n{bold}{query}{bold:#}\n"));
        if let Some((known, freshness)) = gathered.answers.get(query) {
            story.push_str(&format!("  {} known", known.answer.len()));
            if let Some(freshness) = freshness {
                story.push_str(&format!(", {}", how_fresh(freshness)));
            }
            story.push('\n');
        }
    }
}
