//! Values where they land, and HAProxy's tokenizer in small as an oracle.

use proptest::prelude::*;

use super::*;

/// HAProxy's tokenizer in small, as an oracle of its own: words by line, variables expanded
/// to `${}` so that one that slips in is seen.
fn words(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut found: Vec<String> = Vec::new();
        let mut word: Option<String> = None;
        let mut letters = line.chars().peekable();
        let (mut double, mut single) = (false, false);
        while let Some(letter) = letters.next() {
            match letter {
                '\\' if !single => {
                    let next = letters.next().ok_or("backslash at the end")?;
                    let taken = if double {
                        "\"\\$".contains(next)
                    } else {
                        " #\\\"'nrt".contains(next)
                    };
                    let word = word.get_or_insert_default();
                    if !taken {
                        word.push('\\');
                    }
                    word.push(next);
                }
                '"' if !single => {
                    double = !double;
                    word.get_or_insert_default();
                }
                '\'' if !double => {
                    single = !single;
                    word.get_or_insert_default();
                }
                '$' if double => return Err("a variable".into()),
                '#' if !double && !single => break,
                ' ' | '\t' if !double && !single => found.extend(word.take()),
                letter => word.get_or_insert_default().push(letter),
            }
        }
        if double || single {
            return Err("open quotes".into());
        }
        found.extend(word);
        // `while (*args[cur_arg])`: an empty word ends the line.
        let read = found.iter().position(String::is_empty);
        found.truncate(read.unwrap_or(found.len()));
        lines.push(found);
    }
    Ok(lines)
}

fn write(grammar: Grammar, parts: &[(&str, bool)]) -> Result<String, Refusal> {
    let mut escaper = Escaper::new(grammar);
    let mut out = String::new();
    for (text, data) in parts {
        if *data {
            escaper.value(text, Origin::Catalog, &mut out)?;
        } else {
            escaper.literal(text, &mut out)?;
        }
    }
    escaper.missing().map_or(Ok(out), Err)
}

// C01 C03 D04
#[test]
fn a_value_is_escaped_by_where_it_lands() {
    for (before, value, after, expected) in [
        ("set a ", "b c", "\n", "set a b\\ c\n"),
        ("set \"x ", "$a \"\\", "\"", "set \"x \\$a \\\"\\\\\""),
        ("set x ", "$a", "", "set x $a"),
        ("set '", "a\"b c#", "'", "set 'a\"b c#'"),
        ("set a", "", " b", "set a b"),
        ("set ", "", "b", "set b"),
        ("set ", "", "\"b\"", "set \"b\""),
        ("set \"a", "", "\" b", "set \"a\" b"),
        ("set \"", "", "a\" b", "set \"a\" b"),
        ("", "", "\n", "\n"),
        ("  ", "", " set b\n", "   set b\n"),
        ("server s a:1 ", "", " ssl", "server s a:1  ssl"),
        ("server s a:1 check ", "", "", "server s a:1 check "),
        ("server s a:1 ", "", "# c", "server s a:1 # c"),
        ("server s a:1 \"", "", "\"", "server s a:1 \"\""),
        (
            "http-request allow ",
            "",
            " if { src 10.0.0.1 }",
            "http-request allow  if { src 10.0.0.1 }",
        ),
        (
            "acl a src 10.0.0.1 ",
            "",
            " 10.0.0.2",
            "acl a src 10.0.0.1  10.0.0.2",
        ),
        (
            "http-request set-var(txn.a) str(a",
            "",
            ")",
            "http-request set-var(txn.a) str(a)",
        ),
        ("set x # ", "", " y", "set x #  y"),
        ("set x ", "y\n", "\n", "set x y\n"),
        ("set x \"", "y\r\n", "\" z", "set x \"y\" z"),
        ("server s a:1 ", "\n", " ssl", "server s a:1  ssl"),
        (
            "user u insecure-password ",
            "-a%b$c",
            "\n",
            "user u insecure-password -a%b$c\n",
        ),
        (
            "user u insecure-password ",
            "{",
            "\n",
            "user u insecure-password {\n",
        ),
        ("acl a path_beg ", "/a%20b", "\n", "acl a path_beg /a%20b\n"),
        (
            "http-request deny if { path ",
            "/a%20b",
            " }",
            "http-request deny if { path /a%20b }",
        ),
        (
            "bind :443 ssl crt ",
            "/x%y.pem",
            "\n",
            "bind :443 ssl crt /x%y.pem\n",
        ),
        ("# note ", "a b", "\n", "# note a b\n"),
        ("a ", "#b", "", "a \\#b"),
        (
            "server s 10.0.0.1:80 crt ",
            "/a@b",
            "",
            "server s 10.0.0.1:80 crt /a@b",
        ),
        ("bind unix@", "/run/x", "", "bind unix@/run/x"),
        ("a ", "{{key \"x\"}}", "", "a {{key\\ \\\"x\\\"}}"),
        ("backend ", "a.B:c_d-1", "-x", "backend a.B:c_d-1-x"),
        ("a \"\\$", "B", "\"", "a \"\\$B\""),
        ("a \"${A}", "B", "\"", "a \"${A}B\""),
        ("a \"$A.", "B", "\"", "a \"$A.B\""),
        ("a '$", "B", "'", "a '$B'"),
        ("a $", "B", "", "a $B"),
        ("a \"$\"", "B", "", "a \"$\"B"),
        // What follows the name is no name.
        (
            "use_backend b if { path ",
            "/\u{e9}",
            " }",
            "use_backend b if { path /\u{e9} }",
        ),
    ] {
        assert_eq!(
            write(
                Grammar::Haproxy,
                &[(before, false), (value, true), (after, false)]
            ),
            Ok(expected.to_owned()),
            "{before:?} {value:?} {after:?}"
        );
    }
    for (before, value, refusal) in [
        ("a ", "b\nc", Refusal::Control),
        ("a ", "\0", Refusal::Control),
        ("a '", "it's", Refusal::SingleQuote),
        ("a \\", "b", Refusal::AfterBackslash),
        ("  ", "program", Refusal::BeginsLine),
        ("a b\n", "program", Refusal::BeginsLine),
        ("  \"", "program", Refusal::BeginsLine),
        ("  '", "program", Refusal::BeginsLine),
        ("use_", "backend", Refusal::BeginsLine),
        ("a ", "%[env(TOKEN)]", Refusal::Expression),
        ("acl a src ", "-f", Refusal::Option),
        ("acl a src \"", "-f", Refusal::Option),
        ("use_backend b if { src ", "}", Refusal::Option),
        ("server s ", "unix@/run/x", Refusal::Address),
        ("server s ", "/run/x", Refusal::Address),
        ("server s \"", "/run/x", Refusal::Address),
        ("server s ipv4", "@1", Refusal::Address),
        ("dispatch ", "fd@3", Refusal::Address),
        ("server ", "$TOKEN", Refusal::Variable),
        ("server s ", "$TOKEN", Refusal::Variable),
        ("server s \"", "${TOKEN}", Refusal::Variable),
        ("a \"$", "HOME", Refusal::VariableName),
        ("a \"b ${", "HOME", Refusal::VariableName),
        ("a \"${HO", "ME", Refusal::VariableName),
        ("a 'b'\"$A", "B", Refusal::VariableName),
        (
            "http-request set-header x \"%[env(A)]$",
            "B",
            Refusal::VariableName,
        ),
        ("a b(", "c),d", Refusal::Argument),
        ("a %[str(", "c d", Refusal::Argument),
        ("backend ", "w\u{200b}b", Refusal::Name),
        ("backend \"", "my service", Refusal::Name),
        ("backend web-", "\u{e9}", Refusal::Name),
        ("    use_backend ", "a/../b", Refusal::Name),
        ("listen ", "a,b", Refusal::Name),
        ("server ", "a b", Refusal::Name),
    ] {
        assert_eq!(
            write(Grammar::Haproxy, &[(before, false), (value, true)]),
            Err(refusal),
            "{before:?} {value:?}"
        );
    }
    assert_eq!(
        write(
            Grammar::Map,
            &[
                ("", false),
                ("a.example", true),
                (" ", false),
                ("b c", true)
            ]
        ),
        Ok("a.example b c".to_owned())
    );
    for value in ["a b", "#a", ""] {
        assert_eq!(
            write(Grammar::Map, &[(value, true)]),
            Err(Refusal::EndsWord)
        );
    }
}

// C02
#[test]
fn an_empty_value_is_refused_where_the_line_would_mean_something_else() {
    for (before, after, refusal) in [
        ("set ", " b", Refusal::Empty),
        ("set ", "\n", Refusal::Empty),
        ("set ", "", Refusal::Empty),
        ("set ", "# c", Refusal::Empty),
        ("set \"", "\"\n", Refusal::Empty),
        ("set '", "' b", Refusal::Empty),
        (
            "server s a:1 cookie ",
            " ssl verify required",
            Refusal::Empty,
        ),
        (
            "http-request set-header X-A ",
            " if { src 10.0.0.1 }",
            Refusal::Empty,
        ),
        ("http-request allow if ", " a\n", Refusal::Empty),
        ("http-request allow if { src ", " }\n", Refusal::Empty),
        ("acl a src ", "\n", Refusal::Empty),
        ("user u password ", "\n", Refusal::Empty),
        ("server s ", ":80", Refusal::EmptyAddress),
        ("server s 10.0.0.1:", "\n", Refusal::EmptyAddress),
        ("bind ", ":80", Refusal::EmptyAddress),
        ("bind \"", ":80\"", Refusal::EmptyAddress),
        ("bind ipv4@", ":80", Refusal::EmptyAddress),
        ("log ", ":514 local0", Refusal::EmptyAddress),
        ("set a(", ")", Refusal::EmptyArgument),
        ("set a(b,", ",c)", Refusal::EmptyArgument),
        ("set %[", "]", Refusal::EmptyArgument),
        ("server s a:1 \"", "\" ssl", Refusal::EmptyQuotes),
        ("server s a:1 check \"", "\" ssl", Refusal::EmptyQuotes),
    ] {
        let parts = [(before, false), ("", true), (after, false)];
        assert_eq!(
            write(Grammar::Haproxy, &parts),
            Err(refusal),
            "{before:?} {after:?}"
        );
    }
    // A block between the quotes wrote nothing.
    let parts = [("server s a:1 \"", false), ("\" ssl", false)];
    assert_eq!(write(Grammar::Haproxy, &parts), Err(Refusal::EmptyQuotes));
    // Quotes that the template wrote at once are its own.
    let parts = [("server s a:1 \"\" ssl", false)];
    assert!(write(Grammar::Haproxy, &parts).is_ok());
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("server s ".to_owned()),
        Just(" ".to_owned()),
        Just("\n    set x ".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("# c".to_owned()),
        Just("word".to_owned()),
        Just("server s a:1 ".to_owned()),
        Just("\n http-request deny ".to_owned()),
        Just(" if { src ".to_owned()),
    ]
}

/// Stands for an empty value in the harmless text.
const NOTHING: &str = "\u{e000}";

proptest! {
    // C02 C03
    /// Whatever the values are, the words of each line are as many as with harmless values, less those that are
    /// empty, and the template's own words stay; or the file is refused.
    #[test]
    fn no_value_changes_the_structure(
        pieces in proptest::collection::vec((piece(), prop_oneof![any::<String>(), Just(String::new())]), 1..6)
    ) {
        let mut hostile = Vec::new();
        let mut harmless = Vec::new();
        for (text, value) in &pieces {
            hostile.push((text.as_str(), false));
            hostile.push((value.as_str(), true));
            harmless.push((text.as_str(), false));
            harmless.push((if value.is_empty() { NOTHING } else { "v" }, true));
        }
        let (Ok(hostile), Ok(harmless)) =
            (write(Grammar::Haproxy, &hostile), write(Grammar::Haproxy, &harmless))
        else {
            return Ok(());
        };
        // Templates that leave quotes open are broken without any value.
        if let Ok(mut expected) = words(&harmless) {
            for line in &mut expected {
                line.retain(|word| !word.chars().all(|letter| NOTHING.contains(letter)));
            }
            let found = words(&hostile);
            prop_assert!(found.is_ok(), "{found:?}\n{hostile}");
            let count = |lines: &[Vec<String>]| -> Vec<usize> { lines.iter().map(Vec::len).collect() };
            prop_assert_eq!(count(&found.unwrap()), count(&expected), "{}", hostile);
        }
    }

    // C03
    #[test]
    fn a_value_arrives_as_it_was(value in "\\PC{1,20}") {
        for (before, after) in [("a ", ""), ("a \"", "\""), ("a '", "'")] {
            let parts = [(before, false), (value.as_str(), true), (after, false)];
            if let Ok(text) = write(Grammar::Haproxy, &parts) {
                prop_assert_eq!(&words(&text).unwrap()[0][1], &value);
            }
        }
    }
}
