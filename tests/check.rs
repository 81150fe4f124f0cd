//! `check`, `render` and `capture` as people and CI meet them: from what HAProxy says to the place in the template
//! and the instance behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use support::gatewright::Setup;
use support::haproxies::{Version, haproxies, oldest};
use support::process::{Process, command};
use support::{ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const TEMPLATE: &str = r#"global
    hard-stop-after 30s
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend in
    bind 127.0.0.1:18080
    default_backend web
backend web
    balance roundrobin
{{#each (service "web" tag="prod")}}
    server {{serverName this}} {{serverAddress this}} check # {{ServiceMeta.zone}}
{{else}}
    # nothing healthy
{{/each}}
"#;

const THREE: &str = r#"{"services": {"web": [
  {"Address": "10.0.0.1", "Port": 80, "Tags": ["prod"], "ServiceMeta": {"zone": "a"}},
  {"Address": "10.0.0.2", "Port": 80, "Tags": ["prod"], "ServiceMeta": {"zone": "b"}},
  {"Address": "10.0.0.3", "Port": 80, "Tags": ["test"], "ServiceMeta": {"zone": "c"}}
]}}
"#;

fn repository() -> Setup {
    let setup = Setup::new().unwrap();
    setup.file("haproxy.cfg.hbs", TEMPLATE).unwrap();
    setup.file("fixtures/three.json", THREE).unwrap();
    setup
}

fn check(setup: &Setup, words: &[&str]) -> (Option<i32>, String, String) {
    let haproxy = oldest().program().display().to_string();
    // The templates here are about something else.
    let allow = ["--allow", "no-idle-close"];
    let words = [&["check", "--haproxy", &haproxy], &allow[..], words].concat();
    told(setup.call(&words).unwrap())
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_repository_is_checked_with_what_lies_in_it_and_with_made_catalogs() {
    let setup = repository();
    let good = (
        Some(0),
        "good    haproxy.cfg.hbs with fixtures/three.json and 6 made ones\n1 good, 0 refused. 0 errors and 0 warnings.\n".to_owned(),
        String::new(),
    );
    assert_eq!(check(&setup, &["."]), good);

    // What only a catalog that nobody recorded shows: with nothing healthy the backend is gone.
    setup
        .file(
            "haproxy.cfg.hbs",
            &TEMPLATE.replace(
                "backend web\n    balance roundrobin\n",
                "{{#if (service \"web\" tag=\"prod\")}}\nbackend web\n{{/if}}\n",
            ),
        )
        .unwrap();
    let (code, out, error) = check(&setup, &["."]);
    assert_eq!(code, Some(5), "{error}");
    assert_eq!(
        out,
        "refused haproxy.cfg.hbs with nothing healthy (1 of 7)\n0 good, 1 refused. 1 error and 0 warnings.\n"
    );
    assert_eq!(
        error,
        "error[haproxy]: Proxy 'in': unable to find required default_backend: 'web'.
  --> haproxy.cfg.hbs:10:21
   |
10 |     default_backend web
   |                     ^^^
   |
   = note: rendered as /haproxy.cfg:10: default_backend web
   = note: found with nothing healthy
   = help: Add a section `backend web`, or correct the name.

"
    );
    assert_eq!(check(&setup, &[".", "--no-made"]).0, Some(0));
}

/// Each is right for the catalog that somebody wrote.
#[test]
fn each_made_catalog_shows_the_mistake_that_it_is_made_for() {
    const SERVER: &str =
        "    server {{serverName this}} {{serverAddress this}} check # {{ServiceMeta.zone}}\n";
    const BACKEND: &str = "backend web\n    balance roundrobin\n";
    const THREE: &str = r#"{"services": {"web": [
      {"Address": "10.0.0.1", "Port": 8001, "Tags": ["prod"], "ServiceMeta": {"zone": "a", "weight": "10", "role": "backup"}},
      {"Address": "10.0.0.2", "Port": 8002, "Tags": ["prod"], "ServiceMeta": {"zone": "b", "weight": "20", "role": "check"}}
    ]}}"#;
    let checked = |place: &str, mistake: &str| {
        let setup = repository();
        let template = TEMPLATE.replace(place, mistake);
        setup.file("haproxy.cfg.hbs", &template).unwrap();
        setup.file("fixtures/three.json", THREE).unwrap();
        check(&setup, &["."])
    };
    for (place, mistake, cases, message) in [
        (
            SERVER,
            "    server {{Node}} {{serverAddress this}} check\n",
            "two instances on one node (1 of 7)",
            "another server named 'node-1'",
        ),
        (
            SERVER,
            "    server {{ServiceMeta.zone}} {{serverAddress this}} check\n",
            "two instances on one node, with many instances (2 of 7)",
            "another server named 'a'",
        ),
        (
            SERVER,
            "listen l-{{serverName this}}\n    bind 127.0.0.1:{{Port}}\n",
            "many instances (1 of 7)",
            "error[address-shared]",
        ),
        (
            BACKEND,
            "{{#if (gt (len (service \"web\" tag=\"prod\")) 1)}}\nbackend web\n{{/if}}\n",
            "nothing healthy, with one instance (2 of 7)",
            "unable to find required default_backend",
        ),
        (
            BACKEND,
            "{{#if (lt (len (service \"web\" tag=\"prod\")) 50)}}\nbackend web\n{{/if}}\n",
            "many instances (1 of 7)",
            "frontend 'in' has no backend capability",
        ),
    ] {
        let (code, out, error) = checked(place, mistake);
        assert_eq!(code, Some(5), "{mistake} {out} {error}");
        let refused = format!("refused haproxy.cfg.hbs with {cases}");
        assert!(out.contains(&refused), "{mistake} {out} {error}");
        assert!(error.contains(message), "{mistake} {error}");
    }
    // Where metadata is empty or missing, the instance is left out and nothing is refused.
    for right in [
        "    server {{serverName this}} {{serverAddress this}} check weight {{ServiceMeta.weight}}\n",
        "    server {{serverName this}} {{serverAddress this}} check {{ServiceMeta.role}}\n",
    ] {
        let (code, out, error) = checked(SERVER, right);
        assert_eq!(code, Some(0), "{right} {out} {error}");
        assert!(!error.contains("empty metadata"), "{right} {error}");
    }
}

#[haproxies]
fn a_message_of_haproxy_leads_to_the_tag_the_include_and_the_instance(version: Version) {
    let setup = repository();
    setup
        .file(
            "partials/line.hbs",
            "server {{serverName this}} {{serverAddress this}} cookie {{ServiceMeta.zone}} on-error {{ServiceMeta.error}}\n",
        )
        .unwrap();
    setup
        .file(
            "haproxy.cfg.hbs",
            &TEMPLATE.replace(
                "server {{serverName this}} {{serverAddress this}} check # {{ServiceMeta.zone}}",
                "{{> line}}",
            ),
        )
        .unwrap();
    setup
        .file(
            "fixtures/three.json",
            &THREE
                .replace(
                    "\"zone\": \"a\"",
                    "\"zone\": \"a\", \"error\": \"mark-down\"",
                )
                .replace("\"zone\": \"b\"", "\"zone\": \"b\", \"error\": \"heavy\""),
        )
        .unwrap();
    let haproxy = version.program().display().to_string();
    let words = [
        "check",
        ".",
        "--no-made",
        "--partials",
        "partials",
        "--haproxy",
        &haproxy,
    ];
    let (code, _, error) = told(setup.call(&words).unwrap());
    assert_eq!(code, Some(5), "{version}: {error}");
    let (first, rest) = error.split_once('\n').unwrap();
    assert!(first.starts_with("error[haproxy]: "), "{version}: {first}");
    assert!(first.contains("heavy"), "{version}: {first}");
    let place = " --> partials/line.hbs:1:88
  |
1 | server {{serverName this}} {{serverAddress this}} cookie {{ServiceMeta.zone}} on-error {{ServiceMeta.error}}
  |                                                                                        ^^^^^^^^^^^^^^^^^^^^^
  |
  = note: included from haproxy.cfg.hbs:14
  = note: rendered as /haproxy.cfg:14: server node-2:web-2 10.0.0.2:80 cookie b on-error heavy
  = note: made from instance web-2 on node node-2 of service \"web\" tag=\"prod\"
";
    assert!(rest.starts_with(place), "{version}: {error}");
}

#[test]
fn an_expected_text_is_compared_and_written_on_request() {
    let setup = repository();
    assert_eq!(check(&setup, &[".", "--update"]).0, Some(0));
    let expected = "fixtures/three.expected/haproxy.cfg";
    let written = setup.read(expected).unwrap();
    assert!(
        written.ends_with("server node-2:web-2 10.0.0.2:80 check # b\n"),
        "{written}"
    );
    assert_eq!(check(&setup, &["."]).0, Some(0));
    setup
        .file(
            "haproxy.cfg.hbs",
            &TEMPLATE.replace("check #", "check inter 1s #"),
        )
        .unwrap();
    let (code, out, error) = check(&setup, &[".", "--no-made"]);
    assert_eq!(code, Some(9));
    assert_eq!(
        out,
        "refused haproxy.cfg.hbs with fixtures/three.json\n0 good, 1 refused. 1 error and 0 warnings.\n"
    );
    assert_eq!(
        error,
        "error[unexpected-output]: The rendered text differs from line 13 on from what is expected in fixtures/three.expected/haproxy.cfg.
  --> haproxy.cfg.hbs:14:1
   |
14 |     server {{serverName this}} {{serverAddress this}} check inter 1s # {{ServiceMeta.zone}}
   | ^^^^^^^^^^^
   |
   = note: --- expected
           +++ rendered
           @@ -12,3 +12,3 @@
                balance roundrobin
           -    server node-1:web-1 10.0.0.1:80 check # a
           -    server node-2:web-2 10.0.0.2:80 check # b
           +    server node-1:web-1 10.0.0.1:80 check inter 1s # a
           +    server node-2:web-2 10.0.0.2:80 check inter 1s # b
   = help: If it is as it should be now, run `gatewright check --update`.

"
    );
    assert_eq!(check(&setup, &[".", "--no-made", "--update"]).0, Some(0));
    assert_eq!(check(&setup, &[".", "--no-made"]).0, Some(0));
}

#[test]
fn a_watching_check_checks_again_on_each_save() {
    let setup = repository();
    let mut command = setup
        .command(&["check", ".", "--no-made", "--watch", "--haproxy"])
        .unwrap();
    command.arg(oldest().program());
    let log = setup.directory().join("watch.log");
    let watching = Process::start("gatewright check", &mut command, &log).unwrap();
    let seen = |what: &str, count: usize| {
        wait_for(LIMIT, what, || {
            let text = std::fs::read_to_string(&log).ok()?;
            (text.matches(what).count() >= count).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{:?}", std::fs::read_to_string(&log)));
    };
    seen("1 good, 0 refused.", 1);
    seen("Waiting for a change", 1);
    setup
        .file("haproxy.cfg.hbs", &TEMPLATE.replace("check", "chek"))
        .unwrap();
    seen("0 good, 1 refused.", 1);
    seen("Waiting for a change", 2);
    setup.file("haproxy.cfg.hbs", TEMPLATE).unwrap();
    seen("1 good, 0 refused.", 2);
    drop(watching);
}

#[test]
fn a_watching_check_keeps_its_messages_and_what_was_on_the_screen() {
    let setup = repository();
    setup.file("haproxy.cfg.hbs", "{{#each}").unwrap();
    let watch = format!(
        "{} check . --no-made --watch --haproxy {}",
        setup.command(&[]).unwrap().get_program().display(),
        oldest().program().display()
    );
    // A terminal of its own.
    let log = setup.directory().join("watch.log");
    let mut command = command(Path::new("script"), ["-qec", &watch, "/dev/null"]);
    command.current_dir(setup.directory());
    let watching = Process::start("script", &mut command, &log).unwrap();
    let read = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let seen = |what: &str, count: usize| {
        let look = || (read().matches(what).count() >= count).then_some(());
        wait_for(LIMIT, what, look).unwrap_or_else(|error| panic!("{error}\n{}", read()));
    };
    seen("Waiting for a change", 1);
    setup.file("haproxy.cfg.hbs", TEMPLATE).unwrap();
    seen("Waiting for a change", 2);
    let text = read();
    assert!(text.contains("haproxy.cfg.hbs:1:"), "{text}");
    for erases in ["\u{1b}[2J", "\u{1b}[3J", "\u{1b}[H", "\u{1b}[J", "\u{1b}c"] {
        assert!(!text.contains(erases), "{text:?}");
    }
    drop(watching);
}

#[test]
fn fifty_templates_with_five_catalogs_each_are_checked_at_once() {
    let setup = Setup::new().unwrap();
    for template in 0..50 {
        setup
            .file(&format!("t{template}/haproxy.cfg.hbs"), TEMPLATE)
            .unwrap();
        for fixture in 0..5 {
            let path = format!("t{template}/fixtures/{fixture}.json");
            setup.file(&path, THREE).unwrap();
        }
    }
    let began = std::time::Instant::now();
    let (code, out, error) = check(&setup, &[".", "--no-made"]);
    support::measured::note(
        "check",
        "50 templates with 5 catalogs each",
        format!("{:.1} s", began.elapsed().as_secs_f64()),
    );
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("good    t49/haproxy.cfg.hbs with 5 catalogs\n"));
    assert!(out.ends_with("50 good, 0 refused. 0 errors and 0 warnings.\n"));
}

#[test]
fn a_line_of_the_result_is_traced_to_what_made_it() {
    let setup = repository();
    let words = [
        "render",
        "-t",
        "haproxy.cfg.hbs:out.cfg",
        "--catalog",
        "fixtures/three.json",
        "--trace",
    ];
    let trace = |line: &str| told(setup.call(&[&words[..], &[line]].concat()).unwrap());
    let (code, out, error) = trace("14");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(
        out.replace(&setup.path(""), ""),
        r#"out.cfg:14:     server node-2:web-2 10.0.0.2:80 check # b

  "    server "  haproxy.cfg.hbs:14:1  text
  "node-2:web-2" haproxy.cfg.hbs:14:12  {{serverName this}}
  " "            haproxy.cfg.hbs:14:31  text
  "10.0.0.2:80"  haproxy.cfg.hbs:14:32  {{serverAddress this}}
  " check # "    haproxy.cfg.hbs:14:54  text
  "b"            haproxy.cfg.hbs:14:63  {{ServiceMeta.zone}}

Instance web-2 on node node-2 of service "web" tag="prod"
  Address         10.0.0.2
  ID              web-2
  Name            web
  Node            node-2
  NodeAddress     10.0.0.2
  NodeDatacenter  dc1
  Port            80
  ServiceMeta     {"zone":"b"}
  Tags            ["prod"]

service "web" tag="prod"
  2 known
"#
    );
    for (line, message) in [
        ("99", "The result has 14 lines, and line 99 is wanted."),
        ("0", "`0` names no line."),
        ("x:1", "No file of the result is called `x`."),
    ] {
        let (code, _, error) = trace(line);
        assert_eq!(code, Some(2), "{line}");
        assert!(
            error.starts_with(&format!("error[trace]: {message}\n")),
            "{error}"
        );
    }
}

#[test]
fn the_plan_for_a_running_haproxy_is_told_without_being_carried_out() {
    let setup = Setup::new().unwrap();
    let [port] = ports::free().unwrap();
    let template = TEMPLATE
        .replace("127.0.0.1:18080", &format!("127.0.0.1:{port}"))
        .replace(
            "    hard-stop-after 30s\n",
            &format!(
                "    hard-stop-after 30s\n    stats socket {} level admin\n",
                setup.path("stats.sock")
            ),
        );
    setup.file("haproxy.cfg.hbs", &template).unwrap();
    setup.file("three.json", THREE).unwrap();
    setup
        .file("four.json", &THREE.replace("\"test\"", "\"prod\""))
        .unwrap();
    let haproxy = oldest();
    setup
        .settings(&format!(
            "[state]\ndirectory = \"{{dir}}/state\"\n\
             [haproxy]\nbinary = \"{}\"\nmode = \"master\"\nmaster_socket = \"{{dir}}/master.sock\"\n\
             [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/haproxy.cfg\"\n",
            haproxy.program().display()
        ))
        .unwrap();
    let plan = |catalog: &str| {
        let words = [
            "render",
            "-c",
            "gatewright.toml",
            "--catalog",
            catalog,
            "--plan",
        ];
        told(setup.call(&words).unwrap())
    };
    let (code, out, error) = plan("three.json");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("HAProxy is not running: ")
            && out.ends_with(
                "Changes: first configuration.\nThe files would be written and nobody told: HAProxy is not running.\n"
            ),
        "{out}"
    );

    // What a sidecar would have written, and a HAProxy that has loaded it.
    let candidate = rendered_with_marker(&setup);
    setup.file("haproxy.cfg", &candidate).unwrap();
    let master = setup.path("master.sock");
    let file = setup.path("haproxy.cfg");
    let words = ["-W", "-S", &master, "-f", &file];
    let mut command = support::process::command(haproxy.program(), words);
    let log = setup.directory().join("haproxy.log");
    let running = Process::start("HAProxy", &mut command, &log).unwrap();
    wait_for(LIMIT, "HAProxy", || {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        std::net::TcpStream::connect(address).ok()
    })
    .unwrap();
    let (code, out, error) = plan("three.json");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("HAProxy 2.6.12"),
        "it says what runs: {out}"
    );
    assert!(
        out.ends_with(
            "Changes: none.\nNothing would be done: HAProxy runs this and the files are current.\n"
        ),
        "{out}"
    );

    let (code, out, _) = plan("four.json");
    assert_eq!(code, Some(0));
    let (_, commands) = out.split_once("Changes: ").unwrap();
    assert!(
        commands.contains("Runtime API commands, without a reload:\n"),
        "{out}"
    );
    assert!(
        commands.contains("\n    add server web/node-3:web-3 10.0.0.3:80 "),
        "{out}"
    );

    setup
        .file(
            "haproxy.cfg.hbs",
            &template.replace("balance roundrobin", "balance leastconn"),
        )
        .unwrap();
    let (code, out, _) = plan("three.json");
    assert_eq!(code, Some(0));
    assert!(out.contains("\nReload, because "), "{out}");

    setup
        .file(
            "haproxy.cfg.hbs",
            &template.replace("balance roundrobin", "balance most"),
        )
        .unwrap();
    let (code, out, error) = plan("three.json");
    assert_eq!(code, Some(5));
    assert!(
        out.ends_with("Refused: the live files and HAProxy would stay as they are.\n"),
        "{out}"
    );
    assert!(error.contains("haproxy.cfg.hbs:13:"), "{error}");
    assert_eq!(setup.read("haproxy.cfg").unwrap(), candidate);
    drop(running);
}

/// The text that the sidecar writes: with the marker of its revision, which `--diff` shows.
fn rendered_with_marker(setup: &Setup) -> String {
    let words = [
        "render",
        "-c",
        "gatewright.toml",
        "--catalog",
        "three.json",
        "--diff",
    ];
    let (code, out, _) = told(setup.call(&words).unwrap());
    assert_eq!(code, Some(9));
    let lines = out.lines().filter_map(|line| line.strip_prefix('+'));
    lines
        .filter(|line| !line.starts_with("++ "))
        .map(|line| format!("{line}\n"))
        .collect()
}
