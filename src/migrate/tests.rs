//! What the conversion does with what it cannot convert, with what Go refuses, and with any text at all.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::tree::{Node, Operand, Pipe, Term, Word};
use super::{Delimiters, Migration, migrate, parser, proof};
use crate::diagnostic::render;
use crate::template::{Grammar, Options, Outcome, Source, TemplateSet};

fn converted(text: &str, exact: bool) -> Migration {
    let delimiters = Delimiters::default();
    migrate(Path::new("t.ctmpl"), text, &delimiters, exact)
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// The result, and what is left: each as its line and the first words of the reason.
fn left(text: &str) -> (String, Vec<(usize, String)>) {
    let made = converted(text, false);
    let left = made.left.iter().map(|one| {
        let line = one.place.as_ref().map_or(0, |place| place.line);
        (line, one.message.clone())
    });
    assert_eq!(proof(Path::new("t.hbs"), &made.text), [], "{}", made.text);
    (made.text, left.collect())
}

#[test]
fn what_cannot_be_converted_stays_in_its_place() {
    for (template, text, why) in [
        (
            "a {{timestamp}} b",
            "a {{!-- gatewright migrate: line 1: {{timestamp}} --}} b",
            "There is no helper `timestamp`.",
        ),
        (
            "{{range service \"web\"}}\n{{.Address | sprig_upper}} x\n{{end}}\n",
            "{{#each (service \"web\")}}\n{{!-- gatewright migrate: line 2: {{.Address | sprig_upper}} --}} x\n{{/each}}\n",
            "There is no helper `sprig_upper`.",
        ),
        (
            "{{with secret \"a\"}}\nx\n{{end}}\ny\n",
            "{{!-- gatewright migrate: line 1: {{with secret \"a\"}}\nx\n{{end}} --}}\ny\n",
            "There is no helper `secret`.",
        ),
        (
            "{{scratch.Set \"a\" \"b\"}}",
            "{{!-- gatewright migrate: line 1: {{scratch.Set \"a\" \"b\"}} --}}",
            "There is no helper `scratch`.",
        ),
        (
            "{{range loop 3}}{{if eq . 1}}{{break}}{{end}}{{end}}",
            "{{#each (loop 3)}}{{#if (eq this 1)}}{{!-- gatewright migrate: line 1: {{break}} --}}{{/if}}{{/each}}",
            "A loop goes through its whole list.",
        ),
        (
            "{{.Address}}",
            "{{!-- gatewright migrate: line 1: {{.Address}} --}}",
            "`.` is nothing at the top of a template.",
        ),
        (
            "{{$}}",
            "{{!-- gatewright migrate: line 1: {{$}} --}}",
            "`$` is nothing at the top of a template.",
        ),
        (
            "{{range service \"web\"}}{{.Checks}}{{end}}",
            "{{#each (service \"web\")}}{{!-- gatewright migrate: line 1: {{.Checks}} --}}{{/each}}",
            "There is no `Checks` here.",
        ),
        (
            "{{range service \"web\"}}{{.Tags}}{{end}}",
            "{{#each (service \"web\")}}{{!-- gatewright migrate: line 1: {{.Tags}} --}}{{/each}}",
            "A list is written here; consul-template writes it in brackets.",
        ),
        (
            "{{template \"x\"}}",
            "{{!-- gatewright migrate: line 1: {{template \"x\"}} --}}",
            "No template `x` is defined in this file.",
        ),
        (
            "{{nothing 1}}",
            "{{!-- gatewright migrate: line 1: {{nothing 1}} --}}",
            "`nothing` is no function of consul-template.",
        ),
        (
            "{{range service \"web?peer=a\"}}{{end}}",
            "{{!-- gatewright migrate: line 1: {{range service \"web?peer=a\"}}{{end}} --}}",
            "Consul is not asked for a `peer`.",
        ),
        (
            "{{toUpper \"a\" \"b\"}}",
            "{{!-- gatewright migrate: line 1: {{toUpper \"a\" \"b\"}} --}}",
            "`toUpper` does not take 2 parameters here.",
        ),
    ] {
        assert_eq!(
            left(template),
            (
                text.to_owned(),
                vec![(
                    1 + template[..template.find("sprig").unwrap_or(0)]
                        .matches('\n')
                        .count(),
                    why.to_owned()
                )]
            ),
            "{template}"
        );
    }
}

#[test]
fn a_variable_that_changes_is_left_and_keeps_its_first_value() {
    let (text, left) = left("{{$x := 1}}\n{{range loop 2}}{{$x = 2}}{{end}}\na {{$x}}\n");
    assert_eq!(
        text,
        "{{#let 1 as |x|}}\n{{#each (loop 2)}}{{!-- gatewright migrate: line 2: {{$x = 2}} --}}{{/each}}\na {{x}}\n{{/let}}\n"
    );
    assert_eq!(left[0].0, 2);
    assert!(left[0].1.contains("it is still the first one"), "{left:?}");
}

#[test]
fn what_reads_a_variable_that_is_left_is_left_too() {
    let (_, left) = left("{{$x := timestamp}}\na {{$x}}\n{{if $x}}b{{end}}\n");
    let lines: Vec<usize> = left.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 3]);
    assert_eq!(left[1].1, "`$x` is set on line 1, which is left as it was.");
}

#[test]
fn a_named_template_that_includes_itself_is_left() {
    let (text, left) =
        left("{{define \"a\"}}{{if .}}{{template \"a\" .}}{{end}}{{end}}x{{template \"a\" \"y\"}}");
    assert_eq!(left.len(), 2, "{text}");
    assert_eq!(
        left[0].1,
        "The template `a` includes itself, and partials here end."
    );
}

#[test]
fn more_variables_than_blocks_may_stand_inside_each_other_are_left() {
    let many: String = (0..40)
        .map(|at| format!("{{{{$v{at} := \"{at}\"}}}}\n"))
        .collect();
    let (text, left) = left(&many);
    assert_eq!(left.len(), 8, "{text}");
    assert!(left[0].1.starts_with("More than 32 blocks"), "{left:?}");
}

#[test]
fn other_delimiters_leave_double_braces_alone() {
    let delimiters = Delimiters {
        left: "[[".to_owned(),
        right: "]]".to_owned(),
    };
    let template = "a {{b}} \\{{c [[ key \"x\" ]] {[[ key \"y\" ]]}\n";
    let made = migrate(Path::new("t"), template, &delimiters, false).unwrap();
    assert_eq!(
        made.text,
        "a \\{{b}} \\\\{{!}}\\{{c {{key \"x\"}} {{print \"{\"}}{{key \"y\"}}}\n"
    );
    assert_eq!(proof(Path::new("t.hbs"), &made.text), []);
}

#[test]
fn older_versions_had_a_method() {
    let (text, left) = left("{{range service \"web\"}}{{if .Tags.Contains \"a\"}}x{{end}}{{end}}");
    assert_eq!(left, []);
    assert_eq!(
        text,
        "{{#each (service \"web\")}}{{#if (contains \"a\" Tags)}}x{{/if}}{{/each}}"
    );
}

/// Everything that is listed, by its first words, and whether the rest of the text is converted.
#[test]
fn a_name_that_may_hold_more_than_a_name_is_converted_marked_and_listed() {
    for (template, call) in [
        (
            "{{range service (env \"SVC\")}}x{{end}}",
            "(service (env \"SVC\"))",
        ),
        (
            "{{range service (key \"app/svc\")}}x{{end}}",
            "(service (key \"app/svc\"))",
        ),
        (
            "{{with key \"app/svc\"}}{{range service .}}x{{end}}{{end}}",
            "(service this)",
        ),
        (
            "{{range ls \"svc\"}}{{range service .Value}}x{{end}}{{end}}",
            "(service Value)",
        ),
        (
            "{{range ls \"svc\"}}{{$n := .Key}}{{range service $n}}x{{end}}{{end}}",
            "(service n)",
        ),
        (
            "{{range split \",\" \"prod.web,api\"}}{{range service .}}x{{end}}{{end}}",
            "(service this)",
        ),
        (
            "{{range split \",\" (key \"names\")}}{{range service .}}x{{end}}{{end}}",
            "(service this)",
        ),
        (
            "{{define \"s\"}}{{range service .}}x{{end}}{{end}}{{template \"s\" \"prod.web\"}}{{template \"s\" \"web\"}}",
            "(service this)",
        ),
        (
            "{{define \"s\"}}{{range service .}}x{{end}}{{end}}{{template \"s\" (key \"a\")}}",
            "(service this)",
        ),
        (
            "{{range service (replaceAll \"_\" \".\" \"prod_web\")}}x{{end}}",
            "(service (replaceAll \"_\" \".\" \"prod_web\"))",
        ),
        (
            "{{range service (printf \"%-4s.web\" \"prod\")}}x{{end}}",
            "(service (printf \"%-4s.web\" \"prod\"))",
        ),
        (
            "{{range service (join \".\" (split \",\" \"prod,web\"))}}x{{end}}",
            "(service (join \".\" (split \",\" \"prod,web\")))",
        ),
        (
            "{{range service (printf \"%s@dc1\" (key \"a\"))}}x{{end}}",
            "(service (key \"a\") dc=\"dc1\")",
        ),
        (
            "{{len (service (env \"SVC\"))}}",
            "len (service (env \"SVC\"))",
        ),
        (
            "{{$s := service (env \"SVC\")}}{{range $s}}x{{end}}",
            "(service (env \"SVC\"))",
        ),
        (
            "{{define \"s\"}}{{len .}}{{end}}{{template \"s\" (service (env \"SVC\"))}}",
            "(service (env \"SVC\"))",
        ),
        (
            "{{if true}}{{else if service (env \"SVC\")}}x{{end}}",
            "(service (env \"SVC\"))",
        ),
        (
            "{{range split \",\" \"a@dc1,b\"}}{{key .}}{{end}}",
            "{{key this}}",
        ),
    ] {
        for exact in [false, true] {
            let made = converted(template, exact);
            assert_eq!(made.left.len(), 1, "{template}: {:?}", made.left);
            assert!(
                made.left[0].message.contains("is taken whole"),
                "{template}"
            );
            assert!(made.text.contains(call), "{template}: {}", made.text);
            assert!(
                made.text.contains("{{!-- gatewright migrate: line 1: {{"),
                "{}",
                made.text
            );
            assert_eq!(proof(Path::new("t.hbs"), &made.text), [], "{}", made.text);
        }
    }
    for template in [
        "{{range services}}{{range service .Name}}x{{end}}{{end}}",
        "{{range $s := services}}{{$n := $s.Name | toLower}}{{range service ($s.Name | toLower)}}x{{end}}{{end}}",
        "{{range split \",\" \"a,b\"}}{{range service .}}x{{end}}{{range service (printf \"%s-api\" .)}}x{{end}}{{end}}",
        "{{define \"s\"}}{{range service .}}x{{end}}{{end}}{{template \"s\" \"a\"}}{{template \"s\" \"b\"}}",
        "{{range service (printf \"%s.%s\" (env \"TIER\") (key \"name\"))}}x{{end}}",
        "{{$t := \"prod\"}}{{range service (printf \"%s-web\" $t)}}x{{end}}",
    ] {
        assert_eq!(converted(template, false).left, [], "{template}");
    }
}

#[test]
fn a_block_on_a_line_of_its_own_has_its_mark_on_the_line_before() {
    let (text, left) = left("a\n  {{range service (env \"SVC\")}}\n  x\n  {{end}}\nb\n");
    assert_eq!(left.len(), 1);
    assert_eq!(
        text,
        "a\n  {{!-- gatewright migrate: line 2: {{range service (env \"SVC\")}} --}}\n  {{#each (service (env \"SVC\"))}}\n  x\n  {{/each}}\nb\n"
    );
}

#[test]
fn what_go_writes_otherwise_is_listed() {
    let inside = |tag: &str| format!("{{{{range service \"web\"}}}}{tag}{{{{end}}}}");
    for (template, why) in [
        (
            "{{printf \"%e\" 1.5}}".to_owned(),
            "`printf` here does not write `%e` as Go does.",
        ),
        (
            "{{printf \"%*d\" 4 1}}".to_owned(),
            "`printf` here does not write `%*d` as Go does.",
        ),
        (
            "{{printf \"%T\" 1}}".to_owned(),
            "`printf` here does not write `%T` as Go does.",
        ),
        (
            "{{printf \"%s %s\" 1}}".to_owned(),
            "`printf` has another number of values than its format has verbs.",
        ),
        (
            "{{printf \"%d\" 1 2}}".to_owned(),
            "`printf` has another number of values than its format has verbs.",
        ),
        (
            "{{split \",\" \"a\"}}".to_owned(),
            "A list is written here; consul-template writes it in brackets.",
        ),
        (
            inside("{{printf \"%v\" .Tags}}"),
            "A list is written here; consul-template writes it in brackets.",
        ),
        (
            inside("{{print .Tags}}"),
            "A list is written here; consul-template writes it in brackets.",
        ),
        (
            inside("{{.ServiceMeta}}"),
            "A list is written here; consul-template writes it in brackets.",
        ),
        (
            inside("{{$t := .Tags}}{{printf \"%s|\" .Tags}}"),
            "A list is written here; consul-template writes it in brackets.",
        ),
        (
            "deny if { path_beg /a\\{{key \"x\"}} \\\\{{key \"x\"}} \\{{\"x\"}} }".to_owned(),
            "A value stands right behind a backslash, which a configuration refuses.",
        ),
        (
            inside("{{toJSON .}}"),
            "The fields of `this` may be others than consul-template's, and in another order.",
        ),
        (
            "{{service \"web\" | toJSON}}".to_owned(),
            "The fields of `(service \"web\")` may be others than consul-template's, and in another order.",
        ),
        (
            "{{tree \"a\" | byKey | toJSON}}".to_owned(),
            "The fields of `(byKey (tree \"a\"))` may be others than consul-template's, and in another order.",
        ),
        (
            "{{key \"a\" | parseJSON | toYAML}}".to_owned(),
            "consul-template puts texts of YAML into other quotes, and writes large numbers otherwise.",
        ),
        (
            "{{$p := key \"a\" | parseJSON}}{{if ne $p.mode \"\"}}x{{end}}".to_owned(),
            "Go takes a missing p.mode for unequal to an empty text.",
        ),
    ] {
        let (_, left) = left(&template);
        let told: Vec<&str> = left.iter().map(|(_, told)| told.as_str()).collect();
        assert_eq!(told, [why], "{template}");
    }
}

#[test]
fn what_a_person_should_know_is_noted() {
    let made = converted(
        "a {{key \"x\"}} {{keyOrDefault \"y\" \"1\"}} {{join \" \" (split \",\" \"a,b\")}}\n{{key \"z\"}}\n{{env \"HOST\"}}{{range $n := split \",\" \"a\"}}{{range service $n}}{{end}}{{end}}{{file \"f\"}}",
        false,
    );
    let lines: Vec<String> = made
        .notes
        .iter()
        .map(|(line, note)| format!("{line}: {note}"))
        .collect();
    assert_eq!(
        lines,
        [
            "1: {{key \"x\"}} is one word here. Where it holds several, write {{raw (key \"x\")}} and set templates.allow_raw = true.",
            "1: {{join \" \" (split \",\" \"a,b\")}} is one word here. Where it holds several, write {{raw (join \" \" (split \",\" \"a,b\"))}} and set templates.allow_raw = true.",
            "2: {{key \"z\"}} begins a line, where a value is refused in a configuration. Write the keyword in the template, or {{raw …}}.",
            "3: {{env \"HOST\"}} begins a line, where a value is refused in a configuration. Write the keyword in the template, or {{raw …}}.",
            "3: {{file \"f\"}} is one word here. Where it holds several, write {{raw (file \"f\")}} and set templates.allow_raw = true.",
        ]
    );
    assert_eq!(made.environment, ["HOST"]);
    assert!(made.files);
}

#[test]
fn what_go_refuses_is_an_error_with_its_place() {
    let delimiters = Delimiters::default();
    for (template, shown) in [
        (
            "a\n{{range service \"web\"}}\nb",
            "This block is never closed. 2:1",
        ),
        ("{{end}}", "No block is open here. 1:1"),
        ("{{else}}", "No block is open here. 1:1"),
        (
            "{{if x}}{{else}}{{else}}{{end}}",
            "This block has its `else` already. 1:17",
        ),
        (
            "{{range x}}{{else if y}}{{end}}",
            "This `else` opens another kind of block than it is in. 1:12",
        ),
        ("a {{ key \"x\" ", "A tag begins here that never ends. 1:3"),
        ("{{ (key \"x\" }}", "This parenthesis is never closed. 1:4"),
        ("{{ x) }}", "No parenthesis is open here. 1:5"),
        (
            "{{ \"a }}",
            "The quoted text is not closed on its line. 1:4",
        ),
        ("{{ `a }}", "The text in backquotes is never closed. 1:4"),
        (
            "{{ \"\\q\" }}",
            "This text holds an escape that means nothing, or is no UTF-8. 1:4",
        ),
        ("{{ $x }}", "`$x` is not set here. 1:4"),
        ("{{ $x = 1 }}", "`$x` is not set anywhere before. 1:7"),
        ("{{}}", "A value is missing here. 1:3"),
        ("{{if}}{{end}}", "A value is missing here. 1:5"),
        ("{{ x | }}", "No function follows this `|`. 1:6"),
        ("{{ x | 1 }}", "Only a function can follow `|`. 1:8"),
        ("{{ 1x }}", "`1x` is no number that can be used here. 1:4"),
        ("{{ a ; b }}", "`;` stands in a tag, where it cannot. 1:6"),
        ("{{ a\"b\" }}", "`\"` cannot follow a name. 1:5"),
        ("{{ é;}}", "`;` cannot follow a name. 1:5"),
        ("{{ : }}", "`:` stands alone. 1:4"),
        ("{{/* a", "The comment is never closed. 1:1"),
        (
            "{{/* a */ b}}",
            "A comment must end right before the closing delimiter. 1:10",
        ),
        ("{{break}}", "`break` stands outside of a `range`. 1:1"),
        (
            "{{template x}}",
            "`template` wants the name of a template here. 1:12",
        ),
        (
            "{{if x}}{{define \"a\"}}{{end}}{{end}}",
            "`define` stands inside of a block. 1:11",
        ),
        (
            "{{define \"a\"}}{{end}}{{define \"a\"}}{{end}}",
            "A template `a` is defined already. 1:31",
        ),
        (
            "{{ x range }}",
            "`range` stands where a value is wanted. 1:6",
        ),
        ("{{$a, $b := 1}}", "Too many variables are set here. 1:5"),
        ("{{ \u{7} }}", "This character cannot stand in a tag. 1:4"),
    ] {
        let wrong = migrate(Path::new("t"), template, &delimiters, false).unwrap_err();
        let place = wrong.place.as_ref().unwrap();
        assert_eq!(
            format!("{} {}:{}", wrong.message, place.line, place.column),
            shown,
            "{template}"
        );
        assert!(wrong.help.is_some());
    }
    let wrong = migrate(Path::new("t.ctmpl"), "a\n{{ key | }}\n", &delimiters, false).unwrap_err();
    assert_eq!(
        render(&wrong, false),
        "error[go-template]: No function follows this `|`.\n --> t.ctmpl:2:8\n  |\n2 | {{ key | }}\n  |        ^\n  |\n  = help: Write one, or take the `|` out.\n"
    );
}

// Any text, and templates put together of any parts.

const WORDS: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    "\n",
    "if",
    "range",
    "with",
    "else",
    "end",
    "define",
    "block",
    "template",
    "break",
    "\"x\"",
    "`y`",
    "$",
    "$x",
    ":=",
    "=",
    ",",
    "|",
    "(",
    ")",
    ".",
    ".A",
    "1",
    "'c'",
    "nil",
    "true",
    "key",
    "service",
    "{{/*",
    "*/}}",
    "\\",
    "{",
    "é",
    "printf",
    "\"%s.%v\"",
];

fn never_panics(text: &str) {
    for exact in [false, true] {
        if let Ok(made) = migrate(Path::new("t"), text, &Delimiters::default(), exact) {
            let wrong = proof(Path::new("t.hbs"), &made.text);
            assert_eq!(wrong, [], "{text:?} became {:?}", made.text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(support::cases(1000)))]

    #[test]
    fn no_text_makes_it_panic(text in "(?s)[{}a\"$.|() \\-\n/*:=`'1é]{0,40}") {
        never_panics(&text);
    }

    #[test]
    fn no_words_make_it_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..24)) {
        never_panics(&words.concat());
        never_panics(&words.join(" "));
    }

    /// Templates of text and blocks, with all kinds of blanks and trims around: what Go writes, and what
    /// the conversion writes, are the same.
    #[test]
    fn blanks_and_lines_are_those_of_go(template in template()) {
        let nodes = parser::parse(&template, &Delimiters::default()).unwrap();
        let mut expected = String::new();
        Go { source: &template }.write(&nodes, &mut expected);
        let exact = converted(&template, true);
        prop_assert_eq!(&exact.left, &Vec::new());
        prop_assert_eq!(&rendered(&exact.text), &expected, "exact: {}", &exact.text);
        let loose = converted(&template, false);
        let written = rendered(&loose.text);
        let lines = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.trim_end().to_owned()).collect()
        };
        prop_assert_eq!(lines(&written), lines(&expected), "{}", &loose.text);
        if !loose.loses_lines {
            prop_assert_eq!(&written, &expected, "{}", &loose.text);
        }
    }
}

/// Text, values, comments, variables and blocks of them.
fn template() -> impl Strategy<Value = String> {
    let blank = prop::sample::select(
        &[
            "", "", "\n", "\n", "\n  ", " ", " \n", "\n\n", "a", "a\n", "\nb ", "c\n\t",
        ][..],
    );
    let trims = prop::sample::select(
        &[
            ("{{", "}}"),
            ("{{", "}}"),
            ("{{- ", "}}"),
            ("{{", " -}}"),
            ("{{- ", " -}}"),
        ][..],
    );
    let tag = move |code: &'static str| {
        (blank.clone(), trims.clone(), blank.clone()).prop_map(
            move |(before, (left, right), after)| format!("{before}{left}{code}{right}{after}"),
        )
    };
    let single = prop_oneof![
        tag("\"v\""),
        tag("len \"abc\""),
        tag("/* c */"),
        tag("$x := \"y\""),
    ];
    single.prop_recursive(4, 24, 4, move |inner| {
        let inside = prop::collection::vec(inner, 0..3).prop_map(|parts| parts.concat());
        let block = |open: &'static str| {
            (tag(open), inside.clone(), tag("end")).prop_map(|(a, b, c)| a + &b + &c)
        };
        let whole = |open: &'static str| {
            (
                tag(open),
                inside.clone(),
                tag("else"),
                inside.clone(),
                tag("end"),
            )
                .prop_map(|(a, b, c, d, e)| a + &b + &c + &d + &e)
        };
        prop_oneof![
            block("if true"),
            block("if false"),
            whole("if true"),
            whole("if false"),
            block("range loop 2"),
            whole("range loop 0"),
            whole("range $i, $e := loop 3"),
            block("with \"w\""),
            whole("if $z := \"\""),
            prop::collection::vec(inside.clone(), 1..3).prop_map(|parts| parts.concat()),
        ]
    })
}

fn rendered(text: &str) -> String {
    let template = Source {
        name: "t".to_owned(),
        path: "t.hbs".into(),
        text: text.to_owned(),
        grammar: Grammar::Plain,
    };
    let (mut set, _) = TemplateSet::load(vec![template], Vec::new(), Options::default())
        .unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"));
    match set.render(&BTreeMap::new()) {
        Ok(Outcome::Complete(mut rendering)) => rendering.files.remove(0),
        other => panic!("{other:?}\n{text}"),
    }
}

/// What Go writes, for the few values of the templates above.
struct Go<'a> {
    source: &'a str,
}

impl Go<'_> {
    fn write(&self, nodes: &[Node], out: &mut String) {
        for node in nodes {
            match node {
                Node::Text(range) => {
                    let space = super::lexer::SPACE;
                    let mut text = &self.source[range.clone()];
                    if self.source[..range.start].ends_with(" -}}") {
                        text = text.trim_start_matches(space);
                    }
                    if self.source[range.end..].starts_with("{{- ") {
                        text = text.trim_end_matches(space);
                    }
                    out.push_str(text);
                }
                Node::Action(_, pipe) if pipe.names.is_empty() => match self.value(pipe).as_str() {
                    "v" => out.push('v'),
                    _ => out.push('3'),
                },
                Node::Branch(branch) => {
                    let value = self.value(&branch.pipe);
                    let rounds = match (branch.word, value.as_str()) {
                        (Word::Range, count) => count.parse().unwrap(),
                        (_, "false" | "") => 0,
                        _ => 1,
                    };
                    for _ in 0..rounds {
                        self.write(&branch.body, out);
                    }
                    if rounds == 0 {
                        for (_, _, nodes) in &branch.others {
                            self.write(nodes, out);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn value(&self, pipe: &Pipe) -> String {
        let last = pipe.commands[0].operands.last().unwrap();
        match &last.term {
            Term::Text(text) | Term::Number(text) => text.clone(),
            Term::Bool(truth) => truth.to_string(),
            other => panic!("{other:?} of {:?}", Operand::clone(last)),
        }
    }
}
