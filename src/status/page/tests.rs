//! The page is well formed and holds nothing that others could make it hold.

use proptest::prelude::*;

use super::*;
use crate::status::model::tests::status;

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "link", "br", "!DOCTYPE"];

/// Walks the tags: each is closed in order, attributes are quoted, and only known elements are there.
fn well_formed(html: &str) -> Result<(), String> {
    const KNOWN: [&str; 29] = [
        "!DOCTYPE", "a", "body", "br", "code", "dd", "div", "dl", "dt", "footer", "h1", "h2",
        "head", "html", "li", "link", "main", "meta", "p", "section", "small", "span", "style",
        "table", "td", "th", "title", "tr", "ul",
    ];
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        if rest[..at].contains('>') && open.last() != Some(&"style") {
            return Err(format!("a bare > in {:?}", &rest[..at]));
        }
        let end = rest[at..].find('>').ok_or("an open tag")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split(' ').next().unwrap();
        if !KNOWN.contains(&name) {
            return Err(format!("unknown element {tag:?}"));
        }
        if !tag.matches('"').count().is_multiple_of(2) {
            return Err(format!("an open attribute in {tag:?}"));
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("{tag} closes something else"));
            }
        } else if !VOID.contains(&name) {
            open.push(name);
        }
    }
    match open.is_empty() {
        true => Ok(()),
        false => Err(format!("open at the end: {open:?}")),
    }
}

#[test]
fn the_page_is_well_formed_and_loads_nothing() {
    for status in [status(), status().public()] {
        let html = page(&status);
        well_formed(&html).unwrap_or_else(|wrong| panic!("{wrong}\n{html}"));
        for part in [
            "<script",
            "javascript:",
            "http://",
            "//cdn",
            "src=",
            "@import",
            "url(",
        ] {
            let own = html.replace("https://127.0.0.1:8501", "");
            let own = own.replace("Consul at http://127.0.0.1:8500", "");
            assert!(!own.contains(part), "{part} in {html}");
        }
        for part in [
            "http-equiv=\"refresh\"",
            "name=\"viewport\"",
            "prefers-color-scheme:dark",
            "1,204,567",
            "waiting",
            "HAProxy",
        ] {
            assert!(
                html.to_lowercase().contains(&part.to_lowercase()),
                "{part} not in {html}"
            );
        }
    }
    well_formed(&page_without(34.0)).unwrap();
}

#[test]
fn long_lists_are_counted_not_listed() {
    let mut status = status();
    status.quarantined = (0..5_000)
        .map(|n| format!("Instance {n} is unfit."))
        .collect();
    let one = status.queries[1].clone();
    status.queries = vec![one; 5_000];
    let html = page(&status);
    assert!(html.len() < 64 << 10, "{}", html.len());
    assert!(html.contains("4,950 more instances are left out"));
    assert!(html.contains("and 4,950 more"));
}

proptest! {
    // L09
    #[test]
    fn no_name_breaks_the_page(name in "(?s).{0,40}") {
        let mut status = status();
        status.queries[0].query = name.clone();
        status.queries[0].error = Some(name.clone());
        status.quarantined = vec![name.clone()];
        status.warnings = vec![name.clone()];
        status.waiting_for = vec![name];
        let wrong = well_formed(&page(&status));
        prop_assert!(wrong.is_ok(), "{wrong:?}");
    }
}
