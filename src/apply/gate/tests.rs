//! What the gate refuses, and what it lets through.

use super::*;
use crate::haproxy::config::quote;

const GOOD: &str = "\
defaults
    mode tcp
frontend web
    bind *:8080
    bind 127.0.0.1:9000-9002
    default_backend api
backend api
    server a 10.0.0.1:80 check
    server b 10.0.0.2:80 check
";

fn file(path: &str, role: Role, text: &str) -> SetFile {
    SetFile {
        destination: path.into(),
        role,
        mode: None,
        text: text.into(),
    }
}

fn set(text: &str) -> Vec<SetFile> {
    vec![file("/h.cfg", Role::Config, text)]
}

fn codes(
    files: Vec<SetFile>,
    last: Option<&str>,
    rules: &Rules,
) -> Vec<(Severity, &'static str, usize)> {
    let last = last.map(set);
    judge(&Candidate::new(files), last.as_deref(), rules)
        .iter()
        .map(|f| (f.severity, f.code, f.line))
        .collect()
}

fn of(text: &str) -> Vec<(Severity, &'static str, usize)> {
    codes(set(text), Some(GOOD), &Rules::default())
}

const E: Severity = Severity::Error;
const W: Severity = Severity::Warning;

#[test]
fn a_good_set_passes() {
    assert_eq!(of(GOOD), []);
}

// F02
#[test]
fn nothing_and_next_to_nothing_are_refused() {
    for text in ["", "\n \n", "# only a comment\n"] {
        assert_eq!(of(text), [(E, "empty-configuration", 0)], "{text:?}");
    }
    assert_eq!(
        codes(vec![], None, &Rules::default()),
        [(E, "empty-configuration", 0)]
    );
    let found = codes(set("backend b\n server s h:1\n"), None, &Rules::default());
    assert_eq!(found, [(E, "no-frontend", 0)]);
    // A local peer, logs and datagrams are something to listen for.
    for text in [
        "peers p\n peer a 127.0.0.1:1024\n",
        "peers p\n bind 127.0.0.1:1024\n server a\n",
        "log-forward l\n bind 127.0.0.1:514\n log global\n",
        "log-forward l\n dgram-bind 127.0.0.1:514\n log global\n",
    ] {
        assert_eq!(codes(set(text), None, &Rules::default()), [], "{text:?}");
    }
    for text in [
        "peers p\n peer a\n",
        "peers p\n disabled\n peer a 127.0.0.1:1024\n",
    ] {
        let found = codes(set(text), None, &Rules::default());
        assert_eq!(found, [(E, "no-frontend", 0)], "{text:?}");
    }
}

// F02 G18
#[test]
fn a_lost_bind_is_refused_by_meaning_not_by_text() {
    let same = GOOD
        .replace("*:8080", "ipv4@0.0.0.0:8080")
        .replace("127.0.0.1:9000-9002", "127.0.0.1:9002,127.0.0.1:9000-9001");
    assert_eq!(of(&same), []);
    assert_eq!(
        of(&GOOD.replace("127.0.0.1:9000-9002", ":9000-9010")),
        [],
        "a wildcard covers it"
    );
    assert_eq!(of(&GOOD.replace("*:8080", "[::]:8080 v4v6")), []);
    assert_eq!(
        of(&GOOD.replace("*:8080", "[::]:8080")),
        [(E, "bind-lost", 0)]
    );
    assert_eq!(
        of(&GOOD.replace("9000-9002", "9000-9001")),
        [(E, "bind-lost", 0)]
    );
    assert_eq!(
        of(&GOOD.replace("*:8080", "quic4@:8080")),
        [(E, "bind-lost", 0)]
    );
    assert_eq!(
        of(&GOOD.replace("default_backend", "disabled\n default_backend")).len(),
        3
    );
    let allow = Rules {
        allow_bind_loss: true,
        ..Rules::default()
    };
    assert_eq!(
        codes(set(&GOOD.replace("*:8080", "*:8081")), Some(GOOD), &allow),
        []
    );
    let found = judge(
        &Candidate::new(set(&GOOD.replace("*:8080", "*:8081"))),
        Some(&set(GOOD)),
        &Rules::default(),
    );
    assert_eq!(
        found[0].message,
        "The last good set listens on *:8080 (frontend `web`); this one does not."
    );
}

// F02
#[test]
fn a_required_backend_exists_and_has_its_servers() {
    let mut rules = Rules::default();
    rules.min_servers.insert("api".into(), 2);
    assert_eq!(codes(set(GOOD), None, &rules), []);
    let one = GOOD.replace("10.0.0.2:80 check", "10.0.0.2:80 check disabled");
    assert_eq!(codes(set(&one), None, &rules), [(E, "too-few-servers", 7)]);
    let maybe = GOOD.replace("    server b", "    .if feature(X)\n    server b") + "    .endif\n";
    assert_eq!(
        codes(set(&maybe), None, &rules),
        [(W, "too-few-servers", 7)]
    );
    rules.min_servers.insert("apy".into(), 0);
    let found = judge(&Candidate::new(set(GOOD)), None, &rules);
    assert_eq!(found[0].code, "missing-backend");
    assert_eq!(found[0].help.as_deref(), Some("Did you mean `api`?"));
}

// F02
#[test]
fn servers_of_one_machine_and_of_ipv6_count_each() {
    let servers = |list: &[String]| {
        let lines: String = list
            .iter()
            .enumerate()
            .map(|(number, address)| format!("    server s{number} {address} check\n"))
            .collect();
        set(&format!(
            "frontend f\n    bind :80\n    default_backend b\nbackend b\n{lines}"
        ))
    };
    let hundred: Vec<String> = (1..=100).map(|n| format!("10.0.0.{n}:80")).collect();
    let two = ["10.0.0.1:80".to_owned(), "10.0.0.1:81".to_owned()];
    let six = ["[2001:db8::1]:80".to_owned(), "2001:db8::2:80".to_owned()];
    for (list, count) in [
        (&hundred[..0], 0),
        (&hundred[..1], 1),
        (&two[..], 2),
        (&six[..], 2),
        (&hundred[..], 100),
    ] {
        let need = |need: usize| Rules {
            min_servers: BTreeMap::from([("b".to_owned(), need)]),
            ..Rules::default()
        };
        assert_eq!(codes(servers(list), None, &need(count)), [], "{list:?}");
        let missing = codes(servers(list), None, &need(count + 1));
        assert_eq!(missing, [(E, "too-few-servers", 4)], "{list:?}");
    }
}

// F02
#[test]
fn a_default_minimum_spares_what_answers_by_itself() {
    let rules = Rules {
        require_servers_default: 1,
        ..Rules::default()
    };
    let text = format!("{GOOD}backend r\n http-request redirect location /x\nbackend empty\n");
    assert_eq!(
        codes(set(&text), None, &rules),
        [(E, "too-few-servers", 12)]
    );
}

#[test]
fn names_are_there_once() {
    let text = format!(
        "{GOOD}    server a 10.0.0.3:80\nbackend web\nlisten api\n bind :1\nlisten api\n bind :2\n"
    );
    assert_eq!(
        of(&text),
        [
            (E, "duplicate-section", 14),
            (E, "duplicate-section", 12),
            (E, "duplicate-server", 10),
        ]
    );
    let found = judge(
        &Candidate::new(set(&format!("{GOOD}    server a 10.0.0.3:80\n"))),
        None,
        &Rules::default(),
    );
    assert_eq!(
        found[0].message,
        "The server `a` of the backend `api` is already there on line 8."
    );
}

#[test]
fn beside_a_configuration_of_others_a_comment_is_enough_but_no_loss_of_all() {
    let beside = Rules {
        complete: false,
        ..Rules::default()
    };
    let comment = || set("# Which set HAProxy runs.\n");
    assert_eq!(codes(comment(), None, &beside), []);
    assert_eq!(codes(comment(), Some("# Another.\n"), &beside), []);
    let empty = [(E, "empty-configuration", 0)];
    assert_eq!(codes(comment(), Some(GOOD), &beside), empty);
    assert_eq!(codes(comment(), None, &Rules::default()), empty);
    assert_eq!(codes(set(" \n"), None, &beside), empty);
    let map = || {
        vec![SetFile {
            destination: "/h.map".into(),
            role: Role::Map,
            mode: None,
            text: "/a b\n".into(),
        }]
    };
    assert_eq!(codes(map(), None, &beside), []);
    assert_eq!(codes(map(), Some(GOOD), &beside), empty);
    assert_eq!(codes(map(), None, &Rules::default()), empty);
}

#[test]
fn backends_that_are_chosen_exist() {
    let text = GOOD.replace(
        "default_backend api",
        "default_backend apo\n use_backend %[path]",
    );
    assert_eq!(of(&text), [(E, "unknown-backend", 6)]);
    let rules = Rules {
        complete: false,
        ..Rules::default()
    };
    assert_eq!(codes(set(&text), Some(GOOD), &rules), []);
}

#[test]
fn map_values_name_backends_that_exist() {
    let text = GOOD.replace(
        "    default_backend",
        "    use_backend a%[hdr(host),lower,map(/h.map,qi)]\n    default_backend",
    );
    let map = "# hosts\none.example  pi\ntwo.example po \nthree\n";
    let mut files = set(&text);
    files.push(file("/h.map", Role::Map, map));
    assert_eq!(
        codes(files, Some(GOOD), &Rules::default()),
        [
            (E, "map-without-value", 4),
            (E, "unknown-backend-in-map", 3),
            (E, "unknown-backend-in-map", 6),
        ]
    );
    // Through a variable that other rules may set as well, it is a warning.
    let text = GOOD.replace(
        "    default_backend",
        "    http-request set-var(txn.b) hdr(host),map(/h.map)\n    use_backend %[var(txn.b)]\n    default_backend",
    );
    let mut files = set(&text);
    files.push(file("/h.map", Role::Map, "x api\ny nope\n"));
    let found = codes(files, Some(GOOD), &Rules::default());
    assert_eq!(found, [(W, "unknown-backend-in-map", 2)]);
}

#[test]
fn bytes_that_have_no_place_are_refused() {
    assert_eq!(
        of(&GOOD.replace("tcp", "tcp\u{1b}")),
        [(E, "control-character", 2)]
    );
    assert_eq!(
        of(&GOOD.replace('\n', "\r\n")),
        [],
        "the line ends of Windows are fine"
    );
    let found = judge(
        &Candidate::new(set(&GOOD.replace("mode tcp", "mode \"tcp"))),
        None,
        &Rules::default(),
    );
    assert_eq!(
        (found[0].code, found[0].line, found[0].column),
        ("unreadable-line", 2, 10)
    );
    let mut cut = Candidate::new(set(GOOD));
    cut.files[0].text.pop();
    let found = judge(&cut, None, &Rules::default());
    assert_eq!(found[0].code, "no-final-newline");
    let rules = Rules {
        allowed_sections: Some(["global", "frontend", "backend"].map(str::to_owned).into()),
        ..Rules::default()
    };
    assert_eq!(
        codes(set(GOOD), None, &rules),
        [(E, "section-not-allowed", 1)]
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(frontend |backend |listen |a|b| server a h:1| bind :1-9| use_backend %\\[src,map\\(/h.map,|\\)\\]|\n|\\.if|é){0,40}", map in "\\PC{0,40}") {
        let mut files = set(&text);
        files.push(file("/h.map", Role::Map, &map));
        judge(&Candidate::new(files), Some(&set(GOOD)), &Rules::default());
    }

    #[test]
    fn whatever_is_quoted_adds_no_finding(value in "[a-z \"'\\\\$#{}%é]{1,20}") {
        let text = format!("{GOOD}    http-request set-header x {}\n", quote(&value).unwrap());
        proptest::prop_assert_eq!(of(&text), []);
    }
}

// E12 J03
#[test]
fn the_last_good_files_are_the_measure_of_a_first_set() {
    let backend = |name: &str, count: usize| {
        let servers: String = (0..count)
            .map(|index| format!("    server s{index} 10.0.0.{index}:80\n"))
            .collect();
        format!("backend {name}\n{servers}    server slot 127.0.0.1:1 disabled\n")
    };
    let lost = |before: &str, now: &str| -> Vec<(&'static str, String)> {
        let rules = crate::catalog::guard::Rules::default();
        judge_loss(&Candidate::new(set(now)), &set(before), &rules)
            .into_iter()
            .map(|finding| (finding.code, finding.message))
            .collect()
    };
    let ten = backend("web", 10);
    assert_eq!(lost(&ten, &backend("web", 12)), []);
    assert_eq!(lost(&ten, &backend("web", 7)), []);
    assert_eq!(lost(&backend("web", 2), &backend("web", 1)), []);
    assert_eq!(lost(&backend("web", 0), &backend("web", 0)), []);
    assert_eq!(
        lost(&ten, &backend("web", 6)),
        [(
            SERVERS_LOST,
            "The backend `web` had 10 enabled servers in the last good configuration and would have 6.".to_owned()
        )]
    );
    assert_eq!(lost(&ten, &backend("web", 0))[0].0, LAST_SERVERS_LOST);
    // A backend under another name is no loss; one that has gone with all its servers is.
    assert_eq!(lost(&ten, &backend("other", 10)), []);
    assert_eq!(lost(&ten, "backend other\n")[0].0, LAST_SERVERS_LOST);
}

fn two(first: &str, second: &str) -> Vec<(Severity, &'static str, usize)> {
    let text = format!(
        "frontend a\n bind {first}\n default_backend b\nfrontend c\n bind {second}\n default_backend b\n\
         backend b\n server s 10.0.0.1:80\n"
    );
    codes(set(&text), None, &Rules::default())
}

// F05
#[test]
fn two_sections_on_one_address_are_refused() {
    for (first, second) in [
        ("*:80", ":80"),
        (":80", "0.0.0.0:80"),
        ("127.0.0.1:80", "ipv4@127.0.0.1:80 ssl crt /c.pem"),
        ("10.0.0.1:80,10.0.0.2:80", "10.0.0.2:80 accept-proxy"),
        (":8000-8100", ":8050"),
        (":8000-8100", ":8100-8200"),
        ("[::]:80", ":::80"),
        ("[::]:80 v4v6", "[::]:80 v6only"),
        ("[::1]:80", "ipv6@::1:80"),
        (
            "quic4@:443 ssl crt /c.pem",
            "quic4@0.0.0.0:443 ssl crt /c.pem",
        ),
        (":80 interface eth0", ":80 interface eth0 mss 1400"),
        (":80 namespace a", ":80 namespace a"),
        (":80 process 1/1-2", ":80 process 1/3-4"),
        (":80 thread 1", ":80 thread 2"),
        ("localhost:80", "localhost:80"),
        ("\"${IP}:80\"", "\"${IP}:80\""),
    ] {
        let found = two(first, second);
        assert_eq!(found, [(E, "address-shared", 5)], "{first} and {second}");
    }
}

// F05
#[test]
fn what_the_kernel_tells_apart_may_listen_beside_each_other() {
    for (first, second) in [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "*:80"),
        ("[::]:80 v4v6", "127.0.0.1:80"),
        (":443 ssl crt /c.pem", "quic4@:443 ssl crt /c.pem"),
        (":80 interface eth0", ":80 interface eth1"),
        (":80 interface eth0", ":80"),
        (":80 namespace a", ":80 namespace b"),
        (":8000-8100", ":8101-8200"),
        ("/run/a.sock", "/run/b.sock"),
        ("\"${ONE}:80\"", "\"${TWO}:80\""),
        ("10.0.0.1:80", "10.0.0.2:80"),
    ] {
        assert_eq!(two(first, second), [], "{first} and {second}");
    }
    let one_section = "frontend a\n bind :80 shards by-thread\n bind :80 thread 1\n bind :80 thread 2\n\
                       \x20default_backend b\nbackend b\n server s 10.0.0.1:80\n";
    assert_eq!(codes(set(one_section), None, &Rules::default()), []);
    let either = "frontend a\n.if defined(X)\n bind :80\n.endif\n bind :81\nfrontend c\n.if !defined(X)\n bind :80\n.endif\n bind :82\n";
    assert_eq!(codes(set(either), None, &Rules::default()), []);
    let off = "frontend a\n bind :80\nfrontend c\n disabled\n bind :80\n";
    assert_eq!(codes(set(off), None, &Rules::default()), []);
}

// F05
#[test]
fn other_kinds_of_section_share_no_address_either() {
    for (kind, word) in [
        ("listen", "bind"),
        ("peers", "bind"),
        ("log-forward", "bind"),
    ] {
        let text = format!("frontend a\n bind :1514\n{kind} c\n {word} :1514\n");
        let found = codes(set(&text), None, &Rules::default());
        assert_eq!(found, [(E, "address-shared", 4)], "{kind}");
    }
    let datagrams =
        "log-forward a\n dgram-bind :514\nlog-forward c\n bind :514\n dgram-bind :514\n";
    let found = codes(set(datagrams), None, &Rules::default());
    assert_eq!(found, [(E, "address-shared", 5)]);
}

// F05
#[test]
fn an_address_that_the_last_good_set_shares_is_a_warning() {
    let text = "frontend a\n bind :80\nfrontend c\n bind :80\n";
    assert_eq!(
        codes(set(text), Some(text), &Rules::default()),
        [(W, "address-shared", 4)]
    );
    let more = format!("{text} bind :81\nlisten d\n bind :81\n");
    let found = codes(set(&more), Some(text), &Rules::default());
    assert_eq!(found, [(E, "address-shared", 7), (W, "address-shared", 4)]);
    // Each line has one finding, however many sections there are.
    let many: String = (0..90)
        .map(|n| format!("frontend f{n}\n bind :80\n"))
        .collect();
    assert_eq!(codes(set(&many), None, &Rules::default()).len(), 89);
}
