//! The templates and partials that come with the program.

use super::{Grammar, Source};

const TEMPLATES: &[(&str, &str)] = &[
    ("http", include_str!("../../templates/http.cfg.hbs")),
    ("tcp", include_str!("../../templates/tcp.cfg.hbs")),
    ("routes", include_str!("../../templates/routes.cfg.hbs")),
    (
        "routes-http",
        include_str!("../../templates/routes-http.map.hbs"),
    ),
    (
        "routes-sni",
        include_str!("../../templates/routes-sni.map.hbs"),
    ),
    (
        "routes-noroute",
        include_str!("../../templates/routes-noroute.html.hbs"),
    ),
    (
        "routes-unavailable",
        include_str!("../../templates/routes-unavailable.html.hbs"),
    ),
];

const PARTIALS: &[(&str, &str)] = &[
    (
        "global",
        include_str!("../../templates/partials/global.hbs"),
    ),
    (
        "defaults",
        include_str!("../../templates/partials/defaults.hbs"),
    ),
    (
        "forwarded",
        include_str!("../../templates/partials/forwarded.hbs"),
    ),
    ("page", include_str!("../../templates/partials/page.hbs")),
    ("stats", include_str!("../../templates/partials/stats.hbs")),
];

/// The names of the templates.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(name, _)| *name)
}

/// The text of a template.
pub fn shipped(name: &str) -> Option<&'static str> {
    TEMPLATES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// The partials. A partial of the same name in the user's folder takes the place of one of these.
pub fn shipped_partials() -> Vec<Source> {
    PARTIALS
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            path: format!("shipped:partials/{name}").into(),
            text: (*text).to_owned(),
            grammar: Grammar::Haproxy,
        })
        .collect()
}
