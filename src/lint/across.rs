//! Lints that need several catalogs or several sets of templates: what no catalog has, and what no template uses.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::fixture::Fixture;
use crate::catalog::{Kind, Query};
use crate::diagnostic::{Diagnostic, Place, nearest};
use crate::template::outline::{At, Inline, Node, Outlines, each_node};

/// A set of templates rendered from a catalog that somebody recorded or wrote.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// The catalog.
    pub fixture: &'a Fixture,
    /// What the templates asked it.
    pub used: &'a BTreeSet<Query>,
}

/// What the templates of a set ask for and none of its catalogs has. Without a catalog nothing is said.
pub fn across(outlines: &Outlines, recorded: &[Recorded<'_>]) -> Vec<Diagnostic> {
    if recorded.is_empty() {
        return Vec::new();
    }
    let written = outlines.queries();
    let mut asked: BTreeMap<&Query, Option<(At, &str)>> = BTreeMap::new();
    for query in recorded.iter().flat_map(|one| one.used) {
        asked.insert(query, None);
    }
    for (at, helper, query) in written.iter().rev() {
        // Where a key is waited for counts.
        let known = asked.entry(query).or_insert(None);
        if known.is_none_or(|(_, known)| known != "key" || *helper == "key") {
            *known = Some((*at, helper));
        }
    }
    let catalogs: Vec<&Fixture> = recorded.iter().map(|one| one.fixture).collect();
    asked
        .into_iter()
        .filter_map(|(query, place)| missing(outlines, &catalogs, query, place))
        .collect()
}

fn missing(
    outlines: &Outlines,
    catalogs: &[&Fixture],
    query: &Query,
    place: Option<(At, &str)>,
) -> Option<Diagnostic> {
    let answered = |fixture: &&&Fixture| fixture.answers.contains_key(&query.to_string());
    if catalogs.iter().any(|fixture| answered(&fixture)) {
        return None;
    }
    let (code, name, message, help) = match &query.kind {
        Kind::Service { name, .. } => {
            let mut known = catalogs.iter().flat_map(|fixture| fixture.services.keys());
            if known.any(|known| known == name) {
                return None;
            }
            let asked: Vec<String> = service_names(catalogs);
            let help = match nearest(name, asked.iter().map(String::as_str)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!(
                    "Record a catalog with it by `gatewright capture`, or write it into one: \"services\": {{ \"{name}\": [] }} says that it may be empty."
                ),
            };
            let message = format!(
                "No catalog has the service `{name}`, so nothing is known of what its servers become."
            );
            ("service-in-no-catalog", name, message, help)
        }
        Kind::Key { path } => {
            let mut known = catalogs.iter().flat_map(|fixture| fixture.keys.keys());
            // Other helpers do without the key.
            if place.is_none_or(|(_, helper)| helper != "key") || known.any(|known| known == path) {
                return None;
            }
            let keys = catalogs.iter().flat_map(|fixture| fixture.keys.keys());
            let help = match nearest(path, keys.map(String::as_str)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!(
                    "Write {{{{keyOrDefault \"{path}\" …}}}} if it may be absent, or put it into a catalog."
                ),
            };
            let message = format!(
                "No catalog has the key `{path}`, and `key` waits until it exists: nothing is applied before."
            );
            ("key-in-no-catalog", path, message, help)
        }
        _ => return None,
    };
    let diagnostic = Diagnostic::warning(code, message).help(help);
    Some(match place {
        Some((at, _)) => diagnostic.at(outlines.word(at, name, "")),
        None => diagnostic.note(format!("asked for: {query}")),
    })
}

fn service_names(catalogs: &[&Fixture]) -> Vec<String> {
    let answers = catalogs.iter().flat_map(|fixture| fixture.answers.keys());
    let named = answers.filter_map(|query| {
        let name = query.strip_prefix("service \"")?.split('"').next()?;
        Some(name.to_owned())
    });
    let listed = catalogs.iter().flat_map(|fixture| fixture.services.keys());
    listed.cloned().chain(named).collect()
}

/// Partials, and partials defined in templates, that none of these sets uses. What comes with the program may stay
/// unused.
pub fn unused<'a>(sets: impl IntoIterator<Item = &'a Outlines>) -> Vec<Diagnostic> {
    let mut used_files = BTreeSet::new();
    let mut used_inline = BTreeSet::new();
    let mut files = BTreeMap::new();
    let mut inline = BTreeMap::new();
    for set in sets {
        let (partials, names) = set.reached();
        for index in set.templates..set.sources.len() {
            let source = &set.sources[index];
            if partials.contains(&index) {
                used_files.insert(source.path.clone());
            } else if !source.path.starts_with("shipped:partials") {
                files.insert(source.path.clone(), source.name.clone());
            }
        }
        let looked_at = (0..set.templates).chain(partials);
        for one in looked_at.flat_map(|index| inline_in(&set.nodes[index])) {
            let place = set.word(one.at, &one.name, "");
            let key = (place.path.clone(), place.line, place.column);
            if names.contains(one.name.as_str()) {
                used_inline.insert(key.clone());
            }
            inline.insert(key, (one.name.clone(), place));
        }
    }
    let files = files
        .into_iter()
        .filter(|(path, _)| !used_files.contains(path));
    let files = files.map(|(path, name)| {
        Diagnostic::warning(
            "unused-partial",
            format!("No template includes the partial `{name}`."),
        )
        .at(Place::file(&path))
        .help(format!(
            "Include it by {{{{> {name}}}}}, or take the file away."
        ))
    });
    let inline = inline
        .into_iter()
        .filter(|(key, _)| !used_inline.contains(key));
    let inline = inline.map(|(_, (name, place))| {
        Diagnostic::warning(
            "unused-inline",
            format!("Nothing includes the partial `{name}`."),
        )
        .at(place)
        .help(format!("Include it by {{{{> {name}}}}}, or take it away."))
    });
    files.chain(inline).collect()
}

fn inline_in(nodes: &[Node]) -> Vec<&Inline> {
    let mut found = Vec::new();
    each_node(nodes, &mut |node| {
        if let Node::Inline(inline) = node {
            found.push(inline);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::templates::tests::set;
    use super::*;
    use crate::diagnostic::render;

    fn told(template: &str, catalogs: &[&str]) -> String {
        let outlines = set(template, &[]);
        let fixtures: Vec<Fixture> = catalogs
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        let used = BTreeSet::from([Query::service("computed")]);
        let recorded: Vec<Recorded<'_>> = fixtures
            .iter()
            .map(|fixture| Recorded {
                fixture,
                used: &used,
            })
            .collect();
        let found = across(&outlines, &recorded);
        found.iter().map(|one| render(one, false)).collect()
    }

    #[test]
    fn what_no_catalog_has_is_told_with_its_place() {
        let template = "{{#each (service \"wbe\")}}{{else}}{{/each}}\n{{key \"a/b\"}} {{keyOrDefault \"a/c\" 1}}\n";
        let web = r#"{"services": {"web": [], "computed": []}}"#;
        assert_eq!(
            told(template, &[web, "{}"]),
            "warning[service-in-no-catalog]: No catalog has the service `wbe`, so nothing is known of what its servers become.
 --> t.hbs:1:19
  |
1 | {{#each (service \"wbe\")}}{{else}}{{/each}}
  |                   ^^^
  |
  = help: Did you mean `web`?
warning[key-in-no-catalog]: No catalog has the key `a/b`, and `key` waits until it exists: nothing is applied before.
 --> t.hbs:2:8
  |
2 | {{key \"a/b\"}} {{keyOrDefault \"a/c\" 1}}
  |        ^^^
  |
  = help: Write {{keyOrDefault \"a/b\" …}} if it may be absent, or put it into a catalog.
"
        );
        assert_eq!(told(template, &[]), "", "without a catalog");
        let all = r#"{"services": {"computed": []}, "keys": {"a/b": ""}, "answers": {"service \"wbe\"": []}}"#;
        assert_eq!(told(template, &[web, all]), "");
        // What only a rendering shows has no place.
        assert_eq!(
            told("x", &["{}"]),
            "warning[service-in-no-catalog]: No catalog has the service `computed`, so nothing is known of what its servers become.
 |
 = note: asked for: service \"computed\"
 = help: Record a catalog with it by `gatewright capture`, or write it into one: \"services\": { \"computed\": [] } says that it may be empty.
"
        );
    }

    #[test]
    fn partials_that_no_set_uses_are_told() {
        let one = set(
            "{{#*inline \"i\"}}{{/inline}}{{#*inline \"j\"}}{{/inline}}{{> j}}{{> a}}",
            &[("a", ""), ("b", ""), ("c", "")],
        );
        let two = set("{{> b}}", &[("a", ""), ("b", ""), ("c", "")]);
        let found: Vec<String> = unused([&one, &two])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "c.hbs: No template includes the partial `c`. Include it by {{> c}}, or take the file away.",
                "t.hbs:1:13: Nothing includes the partial `i`. Include it by {{> i}}, or take it away.",
            ]
        );
    }
}
