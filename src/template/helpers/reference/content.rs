//! What the reference says beside the tables.

use super::super::{DIFFERENCES, Group, PAIRS, Part, TABLE};
use super::{Block, CATALOG, SURROUNDINGS};

fn heading(level: u8, title: &str) -> Block {
    Block::Heading(level, title.to_owned())
}

fn text(words: &str) -> Block {
    Block::Text(words.to_owned())
}

fn list(points: &[&str]) -> Block {
    Block::List(points.iter().map(|point| (*point).to_owned()).collect())
}

fn code(lines: &str) -> Block {
    Block::Code("handlebars", lines.to_owned())
}

/// The whole of it.
pub fn blocks() -> Vec<Block> {
    let mut all = vec![
        heading(1, "The language of templates"),
        text(
            "Templates are Handlebars (https://handlebarsjs.com) in strict mode, with helpers that have consul-template's names and meaning, and fields in Consul's spelling.",
        ),
    ];
    all.extend(writing());
    all.extend(helpers());
    all.extend(differences());
    all
}

fn writing() -> Vec<Block> {
    vec![
        heading(2, "How a template is written"),
        code(
            "backend web\n{{#each (service \"web\" tag=\"prod\") as |s|}}\n    server {{serverName s}} {{serverAddress s}} check weight {{s.Weights.Passing}}\n{{else}}\n    # nothing healthy\n{{/each}}",
        ),
        list(&[
            "`{{Address}}` writes a field of what the block goes through; `{{Weights.Passing}}` goes on from there; `{{this}}` is the whole; `{{../Name}}` belongs to the block around; `{{Tags.0}}` is the first item of a list; `{{ServiceMeta.[a-b]}}` a field with other letters in its name.",
            "`{{join \",\" Tags}}` calls a helper: its name, then its parameters, then `name=value` pairs. A parameter is a path, a text in quotes, a number, true, false, null, or a call in parentheses: `{{toUpper (trimSpace (key \"a\"))}}`.",
            "`{{#each LIST}}…{{else}}…{{/each}}`, `{{#if X}}…{{else if Y}}…{{else}}…{{/if}}`, `{{#with X}}…{{/with}}` and `{{#let X as |name|}}…{{/let}}` are the blocks. `as |item index|` names what is gone through; a name holds within its block.",
            "`@index`, `@first`, `@last` and, for fields and groups, `@key` tell of the round; `@../index` that of the loop around.",
            "`{{> name}}` writes a partial: `name.hbs` in the folder templates.partials, one that comes with the program, or `{{#*inline \"name\"}}…{{/inline}}`. It sees what is around it; `{{> name s}}` lets it see from a value, `{{> name weight=3}}` gives it more fields. Its lines are indented like its tag. `{{#> name}}…{{/name}}` has a text for when there is none, and gives the partial `{{> @partial-block}}`.",
            "`{{!-- comment --}}` writes nothing. `\\{{` and `{{{{raw}}}}…{{{{/raw}}}}` write braces.",
        ]),
        heading(3, "Blanks and lines"),
        text(
            "A line that holds nothing but a block's tag, a comment or a partial leaves no line. Everything else stays as it is. `{{~x}}` takes the blanks and line ends before it away, `{{x~}}` those behind it.",
        ),
        heading(3, "What is an error"),
        list(&[
            "A field, parameter or partial that is not there; `default` and `index` are for what may be missing. A condition alone, `{{#if x.y}}`, is false then.",
            "A helper with too few or too many parameters, of the wrong kind, or with a pair that it does not take; a list or an object where a text is wanted; `{{{x}}}`.",
            "An item of the catalog that cannot be written while others of its list can is left out and named in the status. Everything else leaves the last good configuration in force. `gatewright check` refuses in both cases.",
        ]),
        heading(3, "What is waited for"),
        text(
            "Nothing is rendered from half the answers. Queries that are written out are asked at once; those with computed names when they are reached, in up to catalog.max_discovery_rounds rounds. `key`, `safeLs` and `safeTree` wait until there is something.",
        ),
        heading(3, "Bounds"),
        text(
            "A template has 1 MiB, a file that is made of it 64 MiB and 5 s (templates.max_template, max_output, timeout); blocks and partials stand 32 deep; a text that a helper makes has 16 MiB, by replacing 1 MiB; a list that it makes 100,000 items.",
        ),
    ]
}

fn helpers() -> Vec<Block> {
    let mut all = vec![
        heading(2, "Helpers"),
        text(
            "Parameters are written NAME:kind; those in brackets may be left out, and the last one may be repeated where `…` follows. Kinds: text, number, truth, list, object, instance of a service, or any value. Where a text is wanted, a number and a truth value are taken for theirs; where a number is wanted, a text that is one. Behind each example, `|` shows what it writes.",
        ),
        heading(3, "The catalog of the examples"),
        Block::Code("json", CATALOG.trim_end().to_owned()),
        text("Beside it, the examples see these settings, and are files of the kind \"other\":"),
        Block::Code("toml", SURROUNDINGS.to_owned()),
    ];
    for group in Group::ALL {
        all.push(heading(3, group.title()));
        let of_group = TABLE.iter().filter(|entry| entry.group == group);
        all.extend(of_group.map(Block::Helper));
    }
    all.push(heading(3, "Pairs"));
    all.push(Block::List(
        PAIRS
            .iter()
            .map(|(name, kind, what)| format!("`{name}={kind}`: {what}"))
            .collect(),
    ));
    all
}

fn differences() -> Vec<Block> {
    let mut all = vec![
        heading(2, "Different from consul-template, and why"),
        text(
            "What is not in this table works under the same name with the same meaning: every function that is not named here, the order of its parameters (the piped value comes last), and the fields of instances, services, nodes and keys. Compared with consul-template 0.42.",
        ),
    ];
    for part in Part::ALL {
        all.push(heading(3, part.title()));
        let rows = DIFFERENCES
            .iter()
            .filter(|one| one.part == part)
            .map(|one| [one.theirs, one.here, one.why].map(str::to_owned))
            .collect();
        all.push(Block::Table(["consul-template", "here", "why"], rows));
    }
    all
}
