//! Compiling a template in pieces. The engine counts lines and columns from the start of its text for each tag, so its
//! time grows with the square of a text's size. Here no text is much larger than a piece, and the result is the
//! same. Pure.
//!
//! A piece is some lines of one body: of the template itself, or of a block between its tags. It is taken out of the text
//! and a line with a mark stands for it; an edge, a line of its own, stands on either side of it. The engine takes
//! blanks and a line end off the text beside a tag, but no mark and no edge. So the text of the template on either
//! side of a mark, and within the edges, is what it would be in the whole. (handlebars 6.4, `Template::compile2`.)

use handlebars::template::{TemplateElement as Element, TemplateMapping};
use handlebars::{Template, TemplateError};

use super::scan::{Tag, TagKind};

/// The size from which on a piece is taken out, in bytes.
const PIECE: usize = 2 << 10;

/// Stands around the number of a piece.
const MARK: char = '\u{1}';
/// Begins and ends a piece.
const EDGE: &str = "\u{2}\n";

/// Compiles a template with these tags.
pub fn compile(text: &str, tags: &[Tag], name: String) -> Result<Template, TemplateError> {
    match in_pieces(text, tags, PIECE) {
        Some(mut template) => {
            template.name = Some(name);
            Ok(template)
        }
        // What is wrong is told of the whole.
        None => Template::compile_with_name(text, name),
    }
}

/// The compiled template, or nothing where it is to be compiled as a whole.
fn in_pieces(text: &str, tags: &[Tag], size: usize) -> Option<Template> {
    if text.len() < 2 * size || !may_be_cut(text) {
        return None;
    }
    let compiled = cut(text, tags, size).into_iter().map(|piece| {
        let template = Template::compile(&piece.text).ok()?;
        Some(Some((template, piece)))
    });
    let mut pieces = Pieces(compiled.collect::<Option<_>>()?);
    let (mut whole, rest) = pieces.0.pop()??;
    pieces.put_in(&mut whole, &rest.lines)?;
    Some(whole)
}

/// Whether the scan and the engine agree where tags end: not for raw blocks, comments that end in `--~}}`, and
/// three backslashes before a tag.
fn may_be_cut(text: &str) -> bool {
    let odd = ["{{{{", "--~}}", r"\\\{{", "\u{1}", "\u{2}"];
    !odd.iter().any(|odd| text.contains(odd))
}

/// Lines of a template.
#[derive(Default)]
struct Piece {
    text: String,
    /// The line of the template, from 1, of each of its lines.
    lines: Vec<usize>,
    /// The blanks before the mark that stands for it, and before its second edge.
    indent: String,
    end_indent: String,
}

/// Where a piece may begin.
struct Begin {
    text: usize,
    line: usize,
    indent: String,
}

/// The pieces of a template, and what is left of it as the last one.
fn cut(text: &str, tags: &[Tag], size: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = Piece::default();
    // For each body that is open, where its next piece would begin.
    let mut bodies: Vec<Option<Begin>> = vec![None];
    let mut tags = tags.iter().peekable();
    let (mut at, mut tag_ends) = (0, 0);
    // Whether the last tag takes all blanks behind it away.
    let mut greedy = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let words = line.trim_start_matches([' ', '\t']);
        let indent = &line[..line.len() - words.len()];
        let may_begin = index > 0
            && at >= tag_ends
            && !greedy
            && !words.starts_with(char::is_whitespace)
            && !words.is_empty()
            && !words.starts_with("{{~");
        if may_begin && let Some(body) = bodies.last_mut() {
            if let Some(begin) = body.take_if(|begin| rest.text.len() - begin.text >= size) {
                let taken = rest.take(begin, number, indent);
                rest.mark(&taken, pieces.len());
                pieces.push(taken);
            }
            body.get_or_insert_with(|| Begin {
                text: rest.text.len(),
                line: rest.lines.len(),
                indent: indent.to_owned(),
            });
        }
        rest.text.push_str(line);
        rest.lines.push(number);
        at += line.len();
        while let Some(tag) = tags.next_if(|tag| tag.range.start < at) {
            tag_ends = tag.range.end;
            match tag.kind {
                TagKind::Open => bodies.push(None),
                TagKind::Else => bodies.last_mut().into_iter().for_each(|body| *body = None),
                TagKind::Close => drop(bodies.pop()),
                TagKind::Skipped => continue,
                TagKind::Partial | TagKind::Expression | TagKind::Unescaped => {}
            }
            greedy = text[tag.range.clone()].trim_end_matches('}').ends_with('~');
        }
    }
    // Blanks at the end stand on the line behind the last one, to the engine.
    rest.lines
        .push(rest.lines.last().map_or(1, |last| last + 1));
    pieces.push(rest);
    pieces
}

impl Piece {
    /// Takes the last lines away, as a piece. Line `number` with its indentation comes next.
    fn take(&mut self, begin: Begin, number: usize, end_indent: &str) -> Piece {
        let text = self.text.split_off(begin.text);
        let lines = self.lines.split_off(begin.line);
        let first = lines.first().copied().unwrap_or(number);
        Piece {
            text: format!("{EDGE}{text}{end_indent}{EDGE}"),
            lines: [&[first], &lines[..], &[number]].concat(),
            indent: begin.indent,
            end_indent: end_indent.to_owned(),
        }
    }

    /// A text at its end without the second edge.
    fn without_end<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_suffix(EDGE)?.strip_suffix(&*self.end_indent)
    }

    /// A line that stands for a piece.
    fn mark(&mut self, piece: &Piece, number: usize) {
        let Piece { indent, lines, .. } = piece;
        self.text
            .push_str(&format!("{indent}{MARK}{number}{MARK}\n"));
        self.lines.extend(lines.first());
    }
}

/// The pieces that were not put in yet.
struct Pieces(Vec<Option<(Template, Piece)>>);

impl Pieces {
    /// Puts the pieces in where their marks stand, with the lines of the template. Nothing where the engine made
    /// something else of a mark or an edge.
    fn put_in(&mut self, template: &mut Template, lines: &[usize]) -> Option<()> {
        let elements = std::mem::take(&mut template.elements);
        let mut mapping = std::mem::take(&mut template.mapping).into_iter();
        for mut element in elements {
            let at = match mapping.next() {
                Some(mut at) => {
                    at.0 = *lines.get(at.0.checked_sub(1)?)?;
                    Some(at)
                }
                None => None,
            };
            match &mut element {
                Element::RawString(text) if text.contains(MARK) => {
                    self.at_marks(text, at, template)?;
                    continue;
                }
                Element::HelperBlock(block) => {
                    for inner in block.template.iter_mut().chain(&mut block.inverse) {
                        self.put_in(inner, lines)?;
                    }
                }
                Element::PartialBlock(block) | Element::DecoratorBlock(block) => {
                    if let Some(inner) = &mut block.template {
                        self.put_in(inner, lines)?;
                    }
                }
                _ => {}
            }
            template.elements.push(element);
            template.mapping.extend(at);
        }
        Some(())
    }

    /// A text with marks in it, and what they stand for.
    fn at_marks(
        &mut self,
        text: &str,
        mut at: Option<TemplateMapping>,
        into: &mut Template,
    ) -> Option<()> {
        let mut parts = text.split(MARK);
        let mut open = parts.next()?.to_owned();
        while let Some(number) = parts.next() {
            let (mut inner, piece) = self.0.get_mut(number.parse::<usize>().ok()?)?.take()?;
            open.truncate(open.strip_suffix(&*piece.indent)?.len());
            self.put_in(&mut inner, &piece.lines)?;
            let last = inner.elements.pop()?;
            let last_at = inner.mapping.pop();
            if inner.elements.is_empty() {
                let text = piece.without_end(raw(&last)?)?;
                open.push_str(text.strip_prefix(EDGE)?);
            } else {
                open.push_str(raw(inner.elements.first()?)?.strip_prefix(EDGE)?);
                into.elements.push(Element::RawString(open));
                into.mapping.extend(at);
                into.elements.extend(inner.elements.into_iter().skip(1));
                into.mapping.extend(inner.mapping.into_iter().skip(1));
                open = piece.without_end(raw(&last)?)?.to_owned();
                at = last_at;
            }
            open.push_str(parts.next()?.strip_prefix('\n')?);
        }
        into.elements.push(Element::RawString(open));
        into.mapping.extend(at);
        Some(())
    }
}

fn raw(element: &Element) -> Option<&str> {
    match element {
        Element::RawString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scan::scan;
    use super::*;

    fn tags(text: &str) -> Vec<Tag> {
        let (tags, faults) = scan(text, 64);
        assert_eq!(faults, [], "{text}");
        tags
    }

    /// Checks that pieces of a size make the same as the whole, and tells whether there were any.
    fn is_the_same(text: &str, size: usize) -> bool {
        let made = in_pieces(text, &tags(text), size);
        if let Some(made) = &made {
            assert_eq!(
                Ok(made),
                Template::compile(text).as_ref().map_err(|_| ()),
                "{text:?}"
            );
        }
        made.is_some()
    }

    const SERVICES: &str = "backend b\n  balance first\n{{#each (service \"b\") as |s|}}\n  server {{s.ID}} {{s.Address}}\n{{else}}\n  # none\n{{/each}}\n\n";

    #[test]
    fn pieces_make_the_same_as_the_whole() {
        for text in [
            SERVICES.repeat(20),
            // A block around everything, as a variable of consul-template becomes one.
            format!(
                "{{{{#let (key \"a\") as |a|}}}}\n{}{{{{/let}}}}\n",
                SERVICES.repeat(20)
            ),
            "{{a}} {{b}}\n".repeat(30),
            "{{#each a}}\n{{b}}\n{{/each}}\n".repeat(30),
            "\r\n  {{> p}}\r\n\t{{! c }}\r\n".repeat(30),
            "{{#if a}}\n  x\n  {{else if b}}\n  y\n{{else}}\n  é {{c}}\n{{/if}}\n".repeat(30),
            "  \\{{a}} \\\\{{b}}\n\n".repeat(30),
            "{{#*inline \"i\"}}\n{{a}}\n{{/inline}}\n{{#> i}}\n  b\n{{/i}}\n".repeat(30),
            "{{#if a}}x{{/if}} {{!-- a\nb {{x}} --}}\n".repeat(30),
            "a\n{{~b~}}\nc\n{{d}}\n  e\n".repeat(30),
        ] {
            for size in [1, 10, 50, 100] {
                assert!(is_the_same(&text, size), "{text}");
            }
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_compiled_as_a_whole() {
        for text in [
            "{{{{raw}}}} {{x}} {{{{/raw}}}}",
            "{{!-- a --~}}",
            r"\\\{{x}}",
            "\u{1}",
        ] {
            let text = format!("{text}\n{}", SERVICES.repeat(9));
            assert!(in_pieces(&text, &scan(&text, 64).0, 1).is_none(), "{text}");
        }
    }

    /// The engine's time is the sum of the squares of these sizes.
    #[test]
    fn no_piece_grows_with_the_template() {
        let largest = |count| {
            let text = SERVICES.repeat(count);
            let pieces = cut(&text, &tags(&text), PIECE);
            let largest = pieces.iter().map(|piece| piece.text.len()).max().unwrap();
            let all: usize = pieces.iter().map(|piece| piece.text.len()).sum();
            assert!(
                all < text.len() + text.len() / 50,
                "{all} of {}",
                text.len()
            );
            largest
        };
        assert!(largest(200) < 2 * PIECE);
        assert_eq!(largest(200), largest(400));
    }

    /// Whole blocks and lines, so that most of them can be compiled.
    fn body() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "a",
            " ",
            "\n",
            "\n",
            "\n",
            "\r\n",
            "  b\n",
            "\t",
            "é",
            "\u{a0}",
            "{{x}}",
            "{{~x}}",
            "{{x~}}",
            "{{~x~}}",
            "{{> p}}",
            "  {{> p}}\n",
            "{{! c }}",
            "{{!-- c\n{{ --}}\n",
            "\\{{x}}",
            "\\\\{{x}}",
            "\"",
            "'",
            "{{x \"}}\"}}",
            "{{&x}}",
            "\r",
        ])
        .prop_map(str::to_owned);
        leaf.prop_recursive(5, 60, 8, |inner| {
            let many = prop::collection::vec(inner, 0..8).prop_map(|parts| parts.concat());
            let around = prop::sample::select(vec![
                ("", ""),
                ("{{#if a}}", "{{/if}}"),
                ("\n{{#if a}}\n", "\n{{/if}}\n"),
                ("  {{#each a}}\n", "{{else}}\n{{/each}}\n"),
                ("{{~#if a}}", "{{else if b}} {{~/if~}}"),
                ("{{#if a~}}\n", "{{~else~}}\nx\n {{/if}}"),
                ("{{#*inline \"i\"}}\n", "{{/inline}}\n"),
                ("{{#> p}}\n", "{{/p}}\n"),
            ]);
            (around, many)
                .prop_map(|((before, behind), inside)| format!("{before}{inside}{behind}"))
        })
    }

    proptest! {
        #[test]
        fn any_template_is_the_same(parts in prop::collection::vec(body(), 1..12), size in 1..40_usize) {
            let text = parts.concat();
            if scan(&text, 64).1.is_empty() {
                is_the_same(&text, size);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[{}#/^!\"'~a\\\\ \n\u{1}\u{2}é|-]{0,60}", size in 1..9_usize) {
            in_pieces(&text, &scan(&text, 4).0, size);
        }
    }
}
