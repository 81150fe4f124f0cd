use std::path::Path;

use super::*;

/// What is told of a configuration, all of whose servers come from the catalog: code, line, column, and the word there.
fn told_of(text: &str, about: About<'_>) -> Vec<(String, String)> {
    let config = Config::parse_files([(Path::new("/h.cfg"), text)]);
    let texts = [text];
    let about = About {
        texts: &texts,
        ..about
    };
    configuration(&config, &about)
        .into_iter()
        .map(|one| {
            let line = text
                .split('\n')
                .nth(one.line.saturating_sub(1))
                .unwrap_or_default();
            let from = line.chars().skip(one.column.saturating_sub(1));
            let word: String = from.take_while(|letter| !letter.is_whitespace()).collect();
            let place = format!("{} {}:{} {word}", one.code, one.line, one.column);
            (
                place,
                format!("{} {}", one.message, one.help.unwrap_or_default()),
            )
        })
        .collect()
}

fn about() -> About<'static> {
    About {
        texts: &[],
        version: None,
        master: None,
        complete: false,
        from_catalog: &|_, _| true,
    }
}

fn codes(text: &str) -> Vec<String> {
    let told = told_of(text, about());
    told.into_iter().map(|(place, _)| place).collect()
}

fn on(version: Version, text: &str) -> Vec<String> {
    let about = About {
        version: Some(version),
        ..about()
    };
    told_of(text, about)
        .into_iter()
        .map(|(place, _)| place)
        .collect()
}

const NONE: [&str; 0] = [];
const V2_6: Version = Version::new(2, 6, 12);
const V3_2: Version = Version::new(3, 2, 26);

#[test]
fn an_algorithm_that_is_laid_out_once_needs_reloads() {
    let backend = |lines: &str| format!("backend b\n{lines}    server a 10.0.0.1:80 id 7 check\n");
    for (lines, told) in [
        (
            "    balance static-rr\n",
            "balance-needs-reload 2:13 static-rr",
        ),
        ("    balance source\n", "balance-needs-reload 2:13 source"),
        (
            "    balance hdr(Host)\n    hash-type map-based\n",
            "balance-needs-reload 2:13 hdr(Host)",
        ),
    ] {
        assert_eq!(codes(&backend(lines)), [told]);
    }
    for lines in [
        "",
        "    balance leastconn\n",
        "    balance uri\n    hash-type consistent\n",
        "    balance first\n",
        "    balance sticky\n",
    ] {
        assert_eq!(codes(&backend(lines)), NONE, "{lines}");
    }
    // The one of its defaults.
    assert_eq!(
        codes("defaults\n balance static-rr\nbackend b\n server a 10.0.0.1:80 check\n"),
        ["balance-needs-reload 2:10 static-rr"]
    );
    let (_, sentence) = &told_of(&backend("    balance source\n"), about())[0];
    assert_eq!(
        sentence,
        "`balance source` is laid out when HAProxy loads it, so each instance of the backend `b` that comes or goes needs a reload. Add `hash-type consistent`, or keep it and write the servers by the helper `slots`."
    );
    // Slots do without, and so do servers that never change.
    assert_eq!(
        codes(
            "backend b\n balance static-rr\n server b-1 10.0.0.1:80 id 1 check\n server b-2 127.0.0.1:1 id 2 disabled check\n"
        ),
        NONE
    );
    let fixed = About {
        from_catalog: &|_, _| false,
        ..about()
    };
    assert_eq!(told_of(&backend("    balance static-rr\n"), fixed), []);
}

#[test]
fn what_haproxy_adds_no_server_with_needs_reloads() {
    let server = |rest: &str| format!("backend b\n server a 10.0.0.1:80 check {rest}\n");
    assert_eq!(
        codes(&server("resolvers dns")),
        ["server-needs-reload 2:29 resolvers"]
    );
    assert_eq!(
        codes(&server("init-addr none")),
        ["server-needs-reload 2:29 init-addr"]
    );
    assert_eq!(
        on(V2_6, &server("cookie a")),
        ["server-needs-reload 2:29 cookie"]
    );
    assert_eq!(on(V3_2, &server("cookie a")), NONE);
    assert_eq!(codes(&server("cookie a")), NONE, "some versions take it");
    assert_eq!(
        codes(&server(
            "no-check weight 7 ssl verify none sni str(a) check"
        )),
        NONE
    );
    assert_eq!(
        codes("backend b\n default-server check resolvers dns\n server a 10.0.0.1:80\n"),
        ["server-needs-reload 2:23 resolvers"]
    );
    assert_eq!(
        codes("backend b\n server a db.example:80 check\n"),
        ["server-needs-reload 2:11 db.example:80"]
    );
    assert_eq!(
        codes("backend b\n server a [::1]:80 check\n server b ipv4@10.0.0.1:80 check\n"),
        NONE
    );
    assert_eq!(
        codes("backend b\n server a \"${HOST}:80\" check\n"),
        ["server-needs-reload 2:11 \"${HOST}:80\""]
    );
    assert_eq!(
        codes("backend b\n server a 10.0.0.1:80 check\n default-server inter 2s\n"),
        ["server-needs-reload 3:2 default-server"]
    );
    assert_eq!(
        codes(
            "backend b\n use-server a if { src 10.0.0.0/8 }\n server a 10.0.0.1:80 check\nbackend c\n acl up srv_is_up(b/a)\n server c 10.0.0.2:80 track b/a\n"
        ),
        [
            "server-needs-reload 2:13 a",
            "server-needs-reload 5:9 srv_is_up(b/a)",
            "server-needs-reload 6:29 b/a"
        ]
    );
}

#[test]
fn servers_on_a_ring_need_ids() {
    for balance in [
        "random",
        "source\n hash-type consistent",
        "hash path\n hash-type consistent",
    ] {
        let text = format!("backend b\n balance {balance}\n server a 10.0.0.1:80 check");
        let told = codes(&format!("{text}\n"));
        assert_eq!(told.len(), 1, "{balance}");
        assert!(told[0].starts_with("ring-without-id"), "{told:?}");
        assert_eq!(codes(&format!("{text} id 7\n")), NONE);
        assert_eq!(on(V3_2, &format!("{text} hash-key addr-port\n")), NONE);
    }
}

#[test]
fn addresses_and_checks() {
    assert_eq!(
        codes(
            "backend b\n server a 10.0.0.1:80 check id 1\n server b 10.0.0.1:80 check id 2 weight 3\n server c 10.0.0.1:80 check sni str(c)\n server d 10.0.0.1:80 disabled check\n"
        ),
        ["duplicate-address 3:11 10.0.0.1:80"]
    );
    assert_eq!(
        codes("backend b\n server a 10.0.0.1:80\n server b 10.0.0.2:80\n"),
        ["no-check 2:9 a"]
    );
    assert_eq!(
        codes("backend b\n default-server check\n server a 10.0.0.1:80\n"),
        NONE
    );
    assert_eq!(
        codes("backend b\n default-server check\n server a 10.0.0.1:80 no-check\n"),
        ["no-check 3:9 a"]
    );
    assert_eq!(
        codes("backend b\n option httpchk\n server a 10.0.0.1:80\n"),
        ["check-option-unused 2:9 httpchk"]
    );
    assert_eq!(
        codes("backend b\n option httpchk\n"),
        NONE,
        "nobody to check"
    );
    assert_eq!(
        codes("defaults\n mode log\nbackend b\n server a 10.0.0.1:80\n"),
        NONE
    );
    assert_eq!(
        codes("backend b\n server a 10.0.0.1:80 check inter 21s\n"),
        ["slow-check 2:29 inter"]
    );
    assert_eq!(
        codes("backend b\n server a 10.0.0.1:80 check fall 40\n"),
        ["slow-check 2:29 fall"]
    );
    assert_eq!(
        codes("backend b\n default-server inter 5m\n server a 10.0.0.1:80 check\n"),
        ["slow-check 2:17 inter"]
    );
    for good in [
        "inter 20s",
        "inter 50s fastinter 1s",
        "inter 2000",
        "inter 500ms fall 20",
    ] {
        assert_eq!(
            codes(&format!("backend b\n server a 10.0.0.1:80 check {good}\n")),
            NONE,
            "{good}"
        );
    }
    let (_, sentence) = &told_of("backend b\n server a 10.0.0.1:80 check inter 1m\n", about())[0];
    assert_eq!(
        sentence,
        "A server of the backend `b` that dies is found after 180 s (inter 1m, fall 3). Lower `inter`, or add `fastinter 1s`: the time between checks once one has failed."
    );
    assert_eq!(
        codes("backend b\n server-template w 1-3 w.service.consul:80 check\n"),
        ["server-template 2:2 server-template"]
    );
    assert_eq!(
        codes(
            "defaults\n load-server-state-from-file global\nbackend b\n server a 10.0.0.1:80 check\n"
        ),
        ["server-state-file 2:2 load-server-state-from-file"]
    );
    assert_eq!(
        codes(
            "defaults\n load-server-state-from-file none\nbackend b\n server a 10.0.0.1:80 check\n"
        ),
        NONE
    );
}

#[test]
fn global_and_sockets() {
    let complete = |master, text: &str| {
        let about = About {
            complete: true,
            master,
            ..about()
        };
        let told = told_of(text, about);
        told.into_iter().map(|(place, _)| place).collect::<Vec<_>>()
    };
    assert_eq!(
        complete(None, "global\n maxconn 10\n"),
        ["no-hard-stop-after 1:1 global"]
    );
    assert_eq!(
        complete(None, "frontend f\n bind :8080\n"),
        ["no-hard-stop-after 0:0 frontend"]
    );
    let listens = "frontend f\n bind :8080\n bind 127.0.0.1:1023\n";
    for (global, frontend, told) in [
        ("", listens, &["keeps-root 1:1 global"][..]),
        (" group haproxy\n", "", &["keeps-root 1:1 global"]),
        (" chroot /x\n", "", &["keeps-root 1:1 global"]),
        (
            " gid 99\nglobal\n maxconn 9\n",
            "",
            &["keeps-root 1:1 global"],
        ),
        (" chroot /x\n user haproxy\n", listens, &[]),
        (" uid 99\n gid 99\n", listens, &[]),
        ("global\n user haproxy\n", listens, &[]),
        ("", "frontend f\n bind :1024-2000\n bind /run/f.sock\n", &[]),
    ] {
        let text = format!("global\n hard-stop-after 10m\n{global}{frontend}");
        assert_eq!(complete(None, &text), told, "{text}");
        assert_eq!(codes(&text), NONE, "another file may say it");
    }
    assert_eq!(
        codes("global\n maxconn 10\n"),
        NONE,
        "another file may say it"
    );
    let global = |line: &str| format!("global\n hard-stop-after 10m\n{line}");
    assert_eq!(complete(Some(true), &global("")), NONE);
    assert_eq!(
        complete(Some(true), &global(" stats socket /s\n")),
        ["no-admin-socket 3:15 /s"]
    );
    assert_eq!(
        complete(Some(true), &global(" stats socket /s level admin\n")),
        NONE
    );
    assert_eq!(
        complete(Some(false), &global("")),
        ["no-admin-socket 1:1 global"]
    );
    assert_eq!(
        complete(Some(false), &global(" stats socket /s level admin\n")),
        ["no-expose-fd 3:15 /s"]
    );
    assert_eq!(
        complete(
            Some(false),
            &global(" stats socket /s level admin expose-fd listeners\n")
        ),
        NONE
    );
    assert_eq!(
        complete(Some(false), &global(" stats socket /s\n")),
        ["no-admin-socket 3:15 /s", "no-expose-fd 3:15 /s"]
    );
}

#[test]
fn frontends_and_single_lines() {
    let text = "defaults\n mode http\nfrontend a\n bind :80\nfrontend b\n bind :81\nfrontend c\n mode tcp\n bind :82\nfrontend s\n bind :83\n stats enable\nfrontend n\n";
    assert_eq!(codes(text), ["no-idle-close 3:10 a"]);
    let (_, sentence) = &told_of(text, about())[0];
    assert!(
        sentence.starts_with("The frontends `a`, `b` have no `option idle-close-on-response`: "),
        "{sentence}"
    );
    assert_eq!(
        codes(&text.replace("mode http\n", "mode http\n option idle-close-on-response\n")),
        NONE
    );
    assert_eq!(
        codes(
            "defaults\n mode http\n option idle-close-on-response\nfrontend a\n bind :80\n no option idle-close-on-response\n"
        ),
        ["no-idle-close 4:10 a"]
    );

    let shared = "frontend web\n default_backend web\nbackend web\n";
    assert_eq!(codes(shared), ["shared-name 3:9 web"]);
    assert_eq!(on(V3_2, shared), NONE, "HAProxy says so itself");
    let old = "global\n stats bind-process 1\ndefaults\n option accept-invalid-http-request\nprogram p\n command true\n";
    assert_eq!(
        on(V2_6, old),
        [
            "deprecated-keyword 2:8 bind-process",
            "deprecated-keyword 4:9 accept-invalid-http-request",
            "deprecated-keyword 5:9 p"
        ]
    );
    assert_eq!(on(V3_2, old), NONE);
    assert_eq!(
        codes(
            "frontend f\n http-request deny if\n use_backend b unless\n http-request deny if { src ::1 }\n monitor fail if\n acl x path if\n"
        ),
        [
            "empty-condition 2:20 if",
            "empty-condition 3:16 unless",
            "empty-condition 5:15 if"
        ]
    );
}

#[test]
fn columns_count_characters_and_several_files_are_kept_apart() {
    let texts = [
        "global\n hard-stop-after 1m\n",
        "backend é\n server é 10.0.0.1:80 resolvers x check\n",
    ];
    let paths = ["/a.cfg", "/b.cfg"].map(Path::new);
    let config = Config::parse_files(paths.into_iter().zip(texts));
    let found = configuration(
        &config,
        &About {
            texts: &texts,
            ..about()
        },
    );
    let places: Vec<_> = found
        .iter()
        .map(|one| (one.file.as_deref(), one.line, one.column))
        .collect();
    assert_eq!(places, [(Some(Path::new("/b.cfg")), 2, 23)]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(frontend|backend|server|global|stats socket|balance|option|if|inter|id|[a-z]|\n| |é|\"|[0-9:./-]){0,80}") {
        codes(&text);
        on(V2_6, &text);
    }
}
