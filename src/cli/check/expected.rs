//! The text that a template is expected to make of a catalog, kept in a file beside the catalog.

use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::super::{Failure, near};
use crate::apply::files;
use crate::diagnostic::{Diagnostic, Place};
use crate::exit;
use crate::template::SourceMap;
use crate::text;

/// The code of a text that is not the expected one.
pub const CODE: &str = "unexpected-output";

/// Longer differences are cut, in lines.
const SHOWN: usize = 40;

/// `fixtures/three.expected/haproxy.cfg` for the template `haproxy.cfg.hbs` and the catalog
/// `fixtures/three.json`.
pub fn path(catalog: &Path, template: &Path) -> PathBuf {
    let name = template.file_name().map(Path::new).unwrap_or(template);
    let name = match name.extension() {
        Some(extension) if extension == "hbs" => name.with_extension(""),
        _ => name.to_owned(),
    };
    // A shipped template is named, it is no file.
    let name = name.to_string_lossy().replace("shipped:", "");
    catalog.with_extension("expected").join(name)
}

/// Compares a rendered text with what is expected, or writes it. What nobody expects is not compared.
pub fn compare(
    path: &Path,
    text: &str,
    map: &SourceMap,
    update: bool,
) -> Result<Option<Diagnostic>, Failure> {
    if update {
        write(path, text)?;
        return Ok(None);
    }
    match text::read(path, text::OWN) {
        Ok(expected) if expected == text => Ok(None),
        Ok(expected) => Ok(Some(different(path, &expected, text, map))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::one(
            exit::FAILURE,
            Diagnostic::error(
                "unreadable",
                format!("The expected text cannot be read: {error}."),
            )
            .at(Place::file(path)),
        )),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let access = files::Access {
        mode: 0o644,
        owner: None,
    };
    let unwritable = |error: String| {
        Failure::one(
            exit::FAILURE,
            Diagnostic::error("unwritable", error).at(Place::file(path)),
        )
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| unwritable(format!("The folder cannot be made: {error}.")))?;
    }
    if text::read(path, text::OWN).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    files::replace(path, text.as_bytes(), access).map_err(|error| unwritable(error.to_string()))
}

fn different(path: &Path, expected: &str, text: &str, map: &SourceMap) -> Diagnostic {
    let first = expected
        .lines()
        .zip(text.lines())
        .take_while(|(one, other)| one == other)
        .count()
        + 1;
    let shown = TextDiff::from_lines(expected, text)
        .unified_diff()
        .context_radius(1)
        .header("expected", "rendered")
        .to_string();
    let mut lines: Vec<&str> = shown.lines().take(SHOWN).collect();
    if shown.lines().count() > SHOWN {
        lines.push("…");
    }
    let place = map
        .parts(first)
        .into_iter()
        .next()
        .map(|part| part.place)
        .unwrap_or_else(|| Place::at(path, expected, first, 0, 1));
    Diagnostic::error(
        CODE,
        format!(
            "The rendered text differs from line {first} on from what is expected in {}.",
            near(path).display()
        ),
    )
    .at(place)
    .note(lines.join("\n"))
    .help("If it is as it should be now, run `gatewright check --update`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_text_lies_beside_the_catalog() {
        let path = |template| path(Path::new("f/three.json"), Path::new(template));
        let expected = |name: &str| Path::new("f/three.expected").join(name);
        assert_eq!(path("t/haproxy.cfg.hbs"), expected("haproxy.cfg"));
        assert_eq!(path("hosts.map.hbs"), expected("hosts.map"));
        assert_eq!(path("shipped:http"), expected("http"));
    }
}
