//! A diagnostic as a person reads it: the sentence, the line of the file and a caret under the place.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Severity, is_unplain, plain};

/// The diagnostic as several lines of text, ending in a line end. Colours only when asked for.
pub fn render(diagnostic: &Diagnostic, colours: bool) -> String {
    let renderer = if colours {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = harmless(&diagnostic.message);
    let title = level.primary_title(&message).id(diagnostic.code);
    let path = diagnostic
        .place
        .as_ref()
        .map(|place| place.path.display().to_string())
        .unwrap_or_default();
    let shown = diagnostic
        .place
        .as_ref()
        .map(|place| place.text.replace(is_unplain, "\u{fffd}"))
        .unwrap_or_default();
    let mut group = Group::with_title(title);
    if let Some(place) = &diagnostic.place {
        if place.line == 0 {
            group = group.element(annotate_snippets::Origin::path(&path));
        } else {
            let (start, end) = span(&shown, place.column, place.length);
            let mut snippet = Snippet::source(&shown).line_start(place.line).path(&path);
            if place.column > 0 {
                snippet = snippet.annotation(AnnotationKind::Primary.span(start..end));
            } else {
                snippet = snippet.annotation(AnnotationKind::Primary.span(0..shown.len()));
            }
            group = group.element(snippet);
        }
    }
    for fact in diagnostic.facts() {
        group = group.element(Level::NOTE.message(harmless(&fact)));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    let mut text = renderer.render(&[group]);
    text.push('\n');
    text
}

/// Text of several lines that does nothing to a terminal.
fn harmless(text: &str) -> String {
    let lines = text.split('\n').map(|line| plain(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Byte offsets of a stretch given in characters.
fn span(line: &str, column: usize, length: usize) -> (usize, usize) {
    let offset = |characters: usize| {
        line.char_indices()
            .nth(characters)
            .map_or(line.len(), |(at, _)| at)
    };
    let start = offset(column.saturating_sub(1));
    let end = offset(column.saturating_sub(1) + length.max(1));
    (start, end.max(start))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Place;
    use super::*;

    // L09
    #[test]
    fn nothing_of_the_catalog_does_anything_to_a_terminal() {
        let line = "server \u{202e}a\u{1b}[31m wieght";
        let diagnostic = Diagnostic::error("haproxy", "it is \u{1b}[31m\nred")
            .at(Place::at(Path::new("x"), line, 1, 16, 6))
            .note(line);
        let text = render(&diagnostic, false);
        assert!(
            !text.contains(['\u{202e}', '\u{1b}']),
            "{}",
            text.escape_debug()
        );
        assert!(
            text.contains("server �a�[31m wieght\n  |                ^^^^^^\n"),
            "{text}"
        );
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let source = "[consul]\nadress = \"x\"\n";
        let diagnostic = Diagnostic::error("unknown-key", "There is no setting `consul.adress`.")
            .at(Place::bytes(Path::new("gatewright.toml"), source, 9..15))
            .help("Did you mean `address`?");
        assert_eq!(
            render(&diagnostic, false),
            "\
error[unknown-key]: There is no setting `consul.adress`.
 --> gatewright.toml:2:1
  |
2 | adress = \"x\"
  | ^^^^^^
  |
  = help: Did you mean `address`?
"
        );
    }
}
