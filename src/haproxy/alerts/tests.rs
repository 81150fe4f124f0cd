//! Lines recorded from the real programs, and what they mean.

use proptest::prelude::*;

use super::*;

fn seen(findings: &[Finding]) -> Vec<(Severity, usize, usize, &str)> {
    findings
        .iter()
        .map(|f| (f.severity, f.line, f.column, f.message.as_str()))
        .collect()
}

#[test]
fn an_alert_that_was_cut_short_still_says_something() {
    let stderr = b"[ALERT]    (123) : config : parsing [/h.cfg:7] : ";
    let findings = parse(stderr, b"", Places::default());
    assert_eq!(findings[0].message, "HAProxy gives no reason");
    assert_eq!(findings[0].line, 7);
}

#[test]
fn alerts_have_a_place_and_no_noise() {
    let stderr = b"\
[NOTICE]   (24899) : haproxy version is 2.6.12-1+deb12u4
[NOTICE]   (24899) : path to executable is haproxy26
[ALERT]    (24899) : config : parsing [/stage/unk.cfg:9] : unknown keyword 'defualt_backend' in 'frontend' section; did you mean 'default_backend' maybe ?
[ALERT]    (24899) : config : [/stage/unk.cfg:11] : 'server b/s' : unknown keyword 'chek'; did you mean 'check' maybe ?
[ALERT]    (24963) : config : parsing [/stage/unk.cfg:12]: truncated or invalid hexadecimal sequence at position 42:
  http-request return status 200 string a\\xZZ
                                         ^
[ALERT]    (25035) : config : parsing [/stage/unk.cfg:13]: too many words, truncating after word 64, position 247: <h60>.
[WARNING]  (25036) : config : parsing [/stage/unk.cfg:13]: argument number 3 at position 23 is empty and marks the end of the argument list; all subsequent arguments will be ignored:
  server s 127.0.0.1:1 \"\" check
                       ^
[ALERT]    (24979) : config : Parsing [/stage/unk.cfg:14]: frontend 'f' has the same name as frontend 'f' declared at /stage/unk.cfg:7.
[ALERT]    (24899) : config : Error(s) found in configuration file : /stage/unk.cfg
[ALERT]    (24899) : config : Fatal errors found in configuration.
";
    let destinations = BTreeMap::from([("/stage/unk.cfg".into(), "/etc/h.cfg".into())]);
    let places = Places {
        destinations: Some(&destinations),
        config: None,
        ..Places::default()
    };
    let findings = parse(stderr, b"", places);
    assert!(
        findings
            .iter()
            .all(|f| f.file.as_deref() == Some(Path::new("/etc/h.cfg")))
    );
    assert_eq!(
        seen(&findings),
        [
            (
                Severity::Error,
                9,
                0,
                "unknown keyword 'defualt_backend' in 'frontend' section; did you mean 'default_backend' maybe ?"
            ),
            (
                Severity::Error,
                11,
                0,
                "'server b/s' : unknown keyword 'chek'; did you mean 'check' maybe ?"
            ),
            (
                Severity::Error,
                12,
                42,
                "truncated or invalid hexadecimal sequence"
            ),
            (
                Severity::Error,
                13,
                247,
                "too many words, truncating after word 64, position 247: <h60>."
            ),
            (
                Severity::Warning,
                13,
                23,
                "argument number 3 is empty and marks the end of the argument list; all subsequent arguments will be ignored"
            ),
            (
                Severity::Error,
                14,
                0,
                "frontend 'f' has the same name as frontend 'f' declared at /etc/h.cfg:7."
            ),
        ]
    );
}

#[test]
fn messages_without_a_place_find_their_line() {
    let config = Config::parse_files([(
        Path::new("/h.cfg"),
        "frontend f\n bind :80\n use_backend nosuch2 if a\n default_backend nosuch\nbackend b\n server s h:1\n",
    )]);
    let stderr = b"\
[ALERT]    (24915) : config : Proxy 'f': unable to find required default_backend: 'nosuch'.
[ALERT]    (25403) : Proxy 'f': unable to find required use_backend: 'nosuch2'.
[ALERT]    (25403) : 'server b/s' : something new
[WARNING]  (25427) : missing timeouts for backend 'b'.
   | While not properly invalid, you will certainly encounter various problems
   | timeouts are set to a non-zero value: 'client', 'connect', 'server'.
[ALERT]    (25403) : Fatal errors found in configuration.
";
    let places = Places {
        destinations: None,
        config: Some(&config),
        ..Places::default()
    };
    let findings = parse(stderr, b"Warnings were found.\n", places);
    let lines: Vec<usize> = findings.iter().map(|f| f.line).collect();
    assert_eq!(lines, [4, 3, 6, 5]);
    assert_eq!(findings[0].file.as_deref(), Some(Path::new("/h.cfg")));
    assert_eq!(
        findings[3].message,
        "missing timeouts for backend 'b'. While not properly invalid, you will certainly encounter various problems timeouts are set to a non-zero value: 'client', 'connect', 'server'."
    );
}

#[test]
fn a_summary_is_the_finding_when_nothing_else_is() {
    let stdout = b"Configuration file has no error but will not start (no listener) => exit(2).\n";
    let findings = parse(b"", stdout, Places::default());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Error);
    let findings = parse(
        b"[ALERT] (1) : Fatal errors found in configuration.\n",
        b"",
        Places::default(),
    );
    assert_eq!(findings.len(), 1);
    assert!(parse(b"", b"Configuration file is valid\n", Places::default()).is_empty());
}

#[test]
fn a_reload_reply_is_a_verdict_with_reasons() {
    let good = b"Success=1\n--\n[NOTICE]   (24279) : New worker (24297) forked\n[NOTICE]   (24279) : Loading success.\n[WARNING]  (24279) : Former worker (24281) exited with code 143 (Terminated)\n\n";
    assert_eq!(
        reload_reply(good, Places::default()),
        ReloadReply::Loaded(Vec::new())
    );
    let bad = b"Success=0\n--\n[ALERT] (23523) : config : parsing [/h.cfg:11] : unknown keyword 'bogus' in 'frontend' section\n[WARNING] (23523) : Loading failure!\n\n";
    let ReloadReply::Refused(findings) = reload_reply(bad, Places::default()) else {
        panic!("it was refused");
    };
    assert_eq!(
        seen(&findings),
        [(
            Severity::Error,
            11,
            0,
            "unknown keyword 'bogus' in 'frontend' section"
        )]
    );
    assert_eq!(
        reload_reply(
            b"Success=0\n--\n[WARNING] (1) : Loading failure!\n",
            Places::default()
        ),
        ReloadReply::Refused(vec![without_reason("[WARNING] (1) : Loading failure!")])
    );
    assert_eq!(
        reload_reply(b"", Places::default()),
        ReloadReply::Unknown(String::new())
    );
}

#[test]
fn a_refusal_whose_only_reason_is_called_a_warning_names_it() {
    let said = b"[NOTICE]   (6185) : haproxy version is 3.2.26-1\n\
        [WARNING]  (6185) : config : parsing [/p.cfg:8]: The 'program' section is deprecated and will be eventually removed.\n\
        [ALERT]    (6185) : config : Error(s) found in configuration file : /p.cfg\n";
    let expected = "The 'program' section is deprecated and will be eventually removed.";
    assert_eq!(
        seen(&parse(said, b"", Places::default())),
        [(Severity::Error, 8, 0, expected)]
    );
    // One without a place is no reason for certain; the summary stays beside it.
    let said = b"[WARNING]  (1) : config : missing timeouts for frontend 'f'.\n\
        [ALERT]    (1) : config : Fatal errors found in configuration.\n";
    let severities: Vec<Severity> = parse(said, b"", Places::default())
        .iter()
        .map(|finding| finding.severity)
        .collect();
    assert_eq!(severities, [Severity::Warning, Severity::Error]);
}

// F08
#[test]
fn bytes_that_are_no_text_are_escaped() {
    let findings = parse(
        b"[ALERT] (1) : config : bad \xff\x1b[31m\n",
        b"",
        Places::default(),
    );
    assert_eq!(findings[0].message, "bad \u{fffd}\\x1b[31m");
}

proptest! {
    // F08
    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "(\\[ALERT\\]| \\(1\\)| : |config|\\[|\\]|:|[0-9]|at position |'|server |/|é|\n){0,30}") {
        parse(&bytes, &bytes, Places::default());
        let config = Config::parse("backend b\n");
        parse(text.as_bytes(), b"", Places { config: Some(&config), ..Places::default() });
        reload_reply(&bytes, Places::default());
    }
}
