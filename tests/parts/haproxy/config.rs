//! The lexer against a real `haproxy -c`: both refuse the same lines at the same byte, and both see the same first
//! word.

use std::path::Path;
use std::process::Command;

use gatewright::haproxy::config::{LexErrorKind, lex, quote};
use support::haproxies::oldest;

/// What HAProxy says of line 2 of a file, in few words.
fn ask(haproxy: &Path, line: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cfg");
    std::fs::write(&path, format!("global\n{line}\n")).unwrap();
    let output = Command::new(haproxy)
        .arg("-c")
        .arg("-f")
        .arg(&path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The tokenizer's error at a byte of the line, if this is one.
fn tokenizer_error(said: &str) -> Option<(LexErrorKind, usize)> {
    let line = said.lines().find(|line| line.contains(":2]"))?;
    let kinds = [
        ("unmatched quote", LexErrorKind::UnmatchedQuote),
        ("hexadecimal sequence", LexErrorKind::BadHexadecimal),
        ("forbidden first char", LexErrorKind::BadVariableName),
        ("unmatched brace", LexErrorKind::UnmatchedBrace),
        ("word expansion sequence", LexErrorKind::BadExpansion),
        ("too many words", LexErrorKind::TooManyWords),
    ];
    let (_, kind) = kinds.into_iter().find(|(words, _)| line.contains(words))?;
    let position = line.split("position ").nth(1)?;
    let digits: String = position.chars().take_while(char::is_ascii_digit).collect();
    Some((kind, digits.parse::<usize>().ok()?.checked_sub(1)?))
}

fn compare(haproxy: &Path, line: &str) {
    let said = ask(haproxy, line);
    let theirs = tokenizer_error(&said);
    match lex(line.as_bytes()) {
        Err(ours) if ours.kind == LexErrorKind::TooManyWords => {
            // HAProxy counts the place in the words put together, not in the line.
            assert_eq!(
                theirs.map(|(kind, _)| kind),
                Some(ours.kind),
                "{line:?}: {said}"
            );
        }
        Err(ours) => assert_eq!(theirs, Some((ours.kind, ours.at)), "{line:?}: {said}"),
        Ok(words) => {
            assert_eq!(theirs, None, "{line:?}: {said}");
            let Some(first) = words.first().filter(|w| !w.opaque && !w.text.is_empty()) else {
                return;
            };
            if first.text.starts_with("zz") && !first.text.contains(char::is_control) {
                let echo = format!("unknown keyword '{}'", first.text);
                assert!(said.contains(&echo), "{line:?}: {echo}: {said}");
            }
        }
    }
}

#[test]
fn tricky_lines_mean_the_same_to_haproxy() {
    let haproxy = oldest();
    let lines = [
        r#"zz\ a "b c""#,
        r#"zz"a b"'c d'\#e x"#,
        r"zz'a\' b",
        r"zz'a\'b",
        r#"zz\"\'\$\\\q"#,
        r#""zz\"\'\$\\\q\#\ x""#,
        r"zz\x41\x4",
        r"zz\x41b\x2z",
        r"zz'\x4'",
        r#"zz "\x4""#,
        "zz\\",
        "zz a\\ ",
        "zz \"a\\",
        "zz#a \"",
        "zz '#' \"#\" # '",
        "zz\ta\u{b}b\u{c}c",
        "zz\u{b}a",
        "zz a\r\"",
        "zz \"a\rb\"",
        "zz \"$A\" \"${A}\" \"${A-b c}\" \"${A[*]}\" \"${A[*]-x}\" \"$.LINE\"",
        r#"zz "$""#,
        r#"zz "${}""#,
        r#"zz "${A""#,
        r#"zz "${A-b""#,
        r#"zz "${A[x]}""#,
        r#"zz "${A[*}""#,
        r#"zz "$A[*]""#,
        r#"zz "${A.b}""#,
        r#"zz "$.NOPE""#,
        r#"zz "$1""#,
        r#"zz $1 '$1' \$1"#,
        "zzé\u{2028}ü 'ñ",
        "zz \"\" ''",
        "   \"\" zz \"x",
        "zz{a}[b](c)%[d],e;f|g&h*i?j<k>l~m!n^o=p+q`r@s",
    ];
    for line in lines {
        compare(haproxy.program(), line);
    }
    for count in [62, 63, 64] {
        compare(haproxy.program(), &format!("zz{}", " w".repeat(count)));
        compare(haproxy.program(), &format!("zz{} ", " w".repeat(count)));
        compare(haproxy.program(), &format!("zz{} # c", " w".repeat(count)));
    }
}

#[test]
fn random_lines_mean_the_same_to_haproxy() {
    let haproxy = oldest();
    let mut random = fastrand::Rng::with_seed(26);
    let pieces = [
        "a", " ", "\"", "'", "\\", "$", "{", "}", "#", "x", "4", "1", "_", "-", ".", "[*]", "$A",
        "${", "\\x4", "\t", "é", "zz",
    ];
    for _ in 0..300 {
        let length = random.usize(1..14);
        let line: String = (0..length)
            .map(|_| pieces[random.usize(..pieces.len())])
            .collect();
        compare(haproxy.program(), &format!("zz{line}"));
    }
}

#[test]
fn a_quoted_word_is_one_word_to_haproxy() {
    let haproxy = oldest();
    for word in [
        "zz",
        "zz a",
        "zz\"'\\$A${B}#%[x]",
        "zz\\x41\\n",
        "zzé ü",
        "zz$",
        "zz\\",
    ] {
        let said = ask(haproxy.program(), &quote(word).unwrap());
        assert!(
            said.contains(&format!("unknown keyword '{word}'")),
            "{word}: {said}"
        );
    }
}
