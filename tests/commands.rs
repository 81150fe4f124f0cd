//! The command line: exit codes and exact texts, as a person or a script meets them.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use serde_json::json;

use support::backend::Backend;
use support::consul::{Consul, instance};
use support::gatewright::{Setup, binary};
use support::haproxies::oldest;
use support::process::{Process, command, descendants};
use support::traffic::send;
use support::{ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const TEMPLATE: &str = r#"defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend in
    bind 127.0.0.1:18080
    default_backend web
backend web
    # note: {{keyOrDefault "note" "none"}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}} weight {{Weights.Passing}}
{{/each}}
"#;

const CATALOG: &str = r#"{"services": {"web": [
  {"Node": "n1", "ID": "a", "Address": "10.0.0.1", "Port": 80},
  {"Node": "n2", "ID": "b", "Address": "10.0.0.2", "Port": 80},
  {"Node": "n3", "ID": "c", "Address": "unix@/x", "Port": 80}
]}}
"#;

const RENDERED: &str = "defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend in
    bind 127.0.0.1:18080
    default_backend web
backend web
    # note: none
    server n1:a 10.0.0.1:80 weight 1
    server n2:b 10.0.0.2:80 weight 1
";

const LEFT_OUT: &str = "warning[quarantined]: Instance c on node n3 of service \"web\" is left out because its address `unix@/x` is no IP address.\n\n";

fn setup() -> Setup {
    let setup = Setup::new().unwrap();
    setup.file("haproxy.cfg.hbs", TEMPLATE).unwrap();
    setup.file("catalog.json", CATALOG).unwrap();
    // Nothing of the machine's own state is looked at.
    setup
        .file(
            "base.toml",
            &format!(
                "[state]\ndirectory = \"{}\"\n[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{}\"\n\
                 [haproxy]\nbinary = \"{}\"\n",
                setup.path("state"),
                setup.path("haproxy.cfg"),
                oldest().program().display()
            ),
        )
        .unwrap();
    setup
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output and standard error, compared at once so that a failure shows all.
fn expect(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr)
        ),
        (Some(code), stdout.to_owned(), stderr.to_owned())
    );
}

#[test]
fn each_command_has_help_with_examples() {
    let setup = setup();
    for name in [
        "run", "render", "check", "capture", "status", "release", "migrate", "helpers",
    ] {
        let output = setup.call(&[name, "--help"]).unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        let help = text(&output.stdout);
        assert!(
            help.contains(&format!("Usage: gatewright {name} [")),
            "{help}"
        );
        assert!(
            help.contains(&format!("\nExamples:\n  gatewright {name}")),
            "{help}"
        );
        assert!(!help.contains('\x1b'), "{help}");
    }
    let help = text(&setup.call(&["--help"]).unwrap().stdout);
    for part in [
        "Keeps HAProxy's configuration equal to what Consul says is healthy",
        "gatewright run --service airavata-api --listen 127.0.0.1:8080",
        " 10  no sidecar answers on the status socket",
    ] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    let unknown = setup.call(&["rendr"]).unwrap();
    expect(
        &unknown,
        2,
        "",
        "error: unrecognized subcommand 'rendr'\n\n  tip: a similar subcommand exists: 'render'\n\n\
         Usage: gatewright <COMMAND>\n\nFor more information, try '--help'.\n",
    );
}

#[test]
fn render_answers_from_a_catalog_file() {
    let setup = setup();
    let words = ["render", "-c", "base.toml", "--catalog", "catalog.json"];
    expect(&setup.call(&words).unwrap(), 0, RENDERED, LEFT_OUT);

    let output = setup
        .call(&[&words[..], &["-o", "out.cfg"]].concat())
        .unwrap();
    expect(&output, 0, "", LEFT_OUT);
    assert_eq!(setup.read("out.cfg").unwrap(), RENDERED);

    let output = setup.call(&[&words[..], &["--explain"]].concat()).unwrap();
    let dir = setup.path("");
    let dir = dir.trim_end_matches('/');
    let explained = text(&output.stdout);
    let (first, rest) = explained.split_once('\n').unwrap();
    assert!(
        first.starts_with("revision ") && first.ends_with(": 2 queries"),
        "{first}"
    );
    assert_eq!(
        rest,
        format!(
            "\nservice \"web\"\n  3 known, 1 left out\n  \
             {dir}/haproxy.cfg:11: server n1:a 10.0.0.1:80 weight 1  ← {dir}/haproxy.cfg.hbs:12\n  \
             {dir}/haproxy.cfg:12: server n2:b 10.0.0.2:80 weight 1  ← {dir}/haproxy.cfg.hbs:12\n\
             \nkey \"note\"\n  0 known\n  \
             {dir}/haproxy.cfg:10: # note: none  ← {dir}/haproxy.cfg.hbs:10\n"
        )
    );
}

#[test]
fn render_shows_the_difference_and_says_so_by_its_exit_code() {
    let setup = setup();
    let words = [
        "render",
        "-c",
        "base.toml",
        "--catalog",
        "catalog.json",
        "--diff",
    ];
    let all = setup.call(&words).unwrap();
    assert_eq!(all.status.code(), Some(9));
    // What is written has the revision too.
    let written: String = text(&all.stdout)
        .lines()
        .skip(3)
        .map(|line| format!("{}\n", &line[1..]))
        .collect();
    setup.file("haproxy.cfg", &written).unwrap();
    expect(&setup.call(&words).unwrap(), 0, "", LEFT_OUT);

    setup
        .file("haproxy.cfg", &written.replace("10.0.0.2", "10.0.0.9"))
        .unwrap();
    let output = setup.call(&words).unwrap();
    let path = setup.path("haproxy.cfg");
    expect(
        &output,
        9,
        &format!(
            "--- {path}\n+++ {path} (rendered)\n@@ -9,7 +9,7 @@\n backend web\n     # note: none\n     \
             server n1:a 10.0.0.1:80 weight 1\n-    server n2:b 10.0.0.9:80 weight 1\n\
             +    server n2:b 10.0.0.2:80 weight 1\n \n \
             # Written by Gatewright; the worker is asked for this value after each reload.\n global\n"
        ),
        LEFT_OUT,
    );
    setup.file("other.cfg", &written).unwrap();
    let output = setup.call(&[&words[..], &["other.cfg"]].concat()).unwrap();
    expect(&output, 0, "", LEFT_OUT);
}

#[test]
fn check_tells_good_from_refused_and_where() {
    let setup = setup();
    let words = [
        "check",
        "-c",
        "base.toml",
        "--no-made",
        "--allow",
        "no-hard-stop-after",
        "--allow",
        "no-idle-close",
        "--allow",
        "no-check",
        "--allow",
        "no-else",
    ];
    let good = setup
        .call(&[&words[..], &["haproxy.cfg.hbs", "catalog.json"]].concat())
        .unwrap();
    expect(
        &good,
        0,
        "good    haproxy.cfg.hbs with catalog.json\n1 good, 0 refused. 0 errors and 1 warning.\n",
        LEFT_OUT,
    );
    assert!(setup.read("haproxy.cfg").is_err(), "nothing is written");

    let wrong = TEMPLATE.replace(" weight {{Weights.Passing}}", " wieght 1");
    setup.file("wrong.cfg.hbs", &wrong).unwrap();
    setup
        .file(
            "catalog.json",
            &CATALOG
                .replace("unix@/x", "10.0.0.3")
                .replace("\"c\"", "\"b\""),
        )
        .unwrap();
    let refused = setup
        .call(&[&words[..], &["wrong.cfg.hbs", "catalog.json"]].concat())
        .unwrap();
    assert_eq!(refused.status.code(), Some(5));
    assert_eq!(
        text(&refused.stdout),
        "refused wrong.cfg.hbs with catalog.json\n0 good, 1 refused. 1 error and 0 warnings.\n"
    );
    let first = "error[haproxy]: 'server web/n1:a' : unknown keyword 'wieght'; did you mean 'weight' maybe ?
  --> wrong.cfg.hbs:12:55
   |
12 |     server {{serverName this}} {{serverAddress this}} wieght 1
   |                                                       ^^^^^^
   |
";
    let told = text(&refused.stderr);
    assert!(told.starts_with(first), "{told}");
    assert!(
        told.contains("   = note: made from instance a on node n1 of service \"web\"\n"),
        "{told}"
    );

    let broken = TEMPLATE.replace("{{/each}}\n", "");
    setup.file("broken.cfg.hbs", &broken).unwrap();
    let output = setup
        .call(&[&words[..], &["broken.cfg.hbs", "catalog.json"]].concat())
        .unwrap();
    expect(
        &output,
        4,
        "refused broken.cfg.hbs with catalog.json\n0 good, 1 refused. 1 error and 0 warnings.\n",
        "error[unclosed-block]: The block `each` is opened here and never closed.
  --> broken.cfg.hbs:11:1
   |
11 | {{#each (service \"web\")}}
   | ^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = help: Add {{/each}}.

",
    );

    // The gate speaks here too, and a set of several files is checked as one.
    setup
        .file(
            "gate.toml",
            &format!(
                "{}[gate]\nmin_servers = {{ web = 9 }}\n",
                setup.read("base.toml").unwrap()
            ),
        )
        .unwrap();
    let gate = setup
        .call(&["check", "-c", "gate.toml", "catalog.json"])
        .unwrap();
    assert_eq!(gate.status.code(), Some(5));
    let told = text(&gate.stderr);
    assert!(
        told.starts_with(
            "error[too-few-servers]: The backend `web` has 3 of the 9 servers it must have.\n"
        ),
        "{told}"
    );

    let missing = setup
        .call(&[
            "check",
            "-c",
            "base.toml",
            "--no-made",
            "--haproxy",
            "/no/haproxy",
        ])
        .unwrap();
    expect(
        &missing,
        1,
        "refused haproxy.cfg.hbs with an empty catalog\n0 good, 1 refused. 1 error and 0 warnings.\n",
        "error[validator]: HAProxy's validation could not be run, so nothing was changed. The program /no/haproxy was not found. Install it or give its full path.
 |
 = help: Name HAProxy's program with --haproxy or haproxy.binary.

",
    );
}

#[test]
fn a_captured_catalog_renders_as_the_live_one() {
    let consul = Consul::start().unwrap();
    for number in 1..=3 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        let mut body = instance("web", &format!("web-{number}"), address);
        body["Tags"] = json!(["v1", "ünïcode \"quoted\""]);
        body["Meta"] = json!({"zone": "a b"});
        consul.register(&body).unwrap();
    }
    let mut bad = instance("web", "bad\nid", SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    bad["Port"] = json!(1_u64 << 40);
    consul.register(&bad).unwrap();
    consul.set_key("note", "from a key").unwrap();
    wait_for(LIMIT, "four instances", || {
        (consul.passing("web").ok()?.len() == 4).then_some(())
    })
    .unwrap();
    let setup = setup();
    setup
        .file(
            "haproxy.cfg.hbs",
            &TEMPLATE.replace(
                " weight",
                " # {{join Tags \" \"}} {{ServiceMeta.zone}} {{#each (services)}}{{Name}} {{/each}}{{#each (nodes)}}{{Node}} {{/each}}{{#each (datacenters)}}{{this}} {{/each}}weight",
            ),
        )
        .unwrap();
    let address = consul.url();
    let live = setup
        .call(&["render", "-c", "base.toml", "--consul-addr", &address])
        .unwrap();
    assert_eq!(live.status.code(), Some(0), "{}", text(&live.stderr));
    assert!(text(&live.stdout).contains("# note: from a key\n"));
    assert!(text(&live.stdout).contains("consul web test dc1 weight 1\n"));
    let capture = setup
        .call(&[
            "capture",
            "-c",
            "base.toml",
            "--consul-addr",
            &address,
            "-o",
            "today.json",
        ])
        .unwrap();
    expect(&capture, 0, "", "");
    let mode = std::fs::metadata(setup.path("today.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = setup
        .call(&["render", "-c", "base.toml", "--catalog", "today.json"])
        .unwrap();
    expect(&again, 0, &text(&live.stdout), &text(&live.stderr));
    let screen = setup
        .call(&["capture", "-c", "base.toml", "--consul-addr", &address])
        .unwrap();
    expect(&screen, 0, &setup.read("today.json").unwrap(), "");
    let checked = setup
        .call(&["check", "-c", "base.toml", "today.json"])
        .unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn wrong_settings_are_told_with_their_place() {
    let setup = setup();
    setup
        .file(
            "wrong.toml",
            "[consul]\nadresses = [\"http://127.0.0.1:8500\"]\n",
        )
        .unwrap();
    let output = setup.call(&["render", "-c", "wrong.toml"]).unwrap();
    expect(
        &output,
        3,
        "",
        "error[unknown-key]: There is no setting `adresses` here.
 --> wrong.toml:2:1
  |
2 | adresses = [\"http://127.0.0.1:8500\"]
  | ^^^^^^^^
  |
  = help: Did you mean `addresses`?

",
    );
    setup
        .file("wrong.toml", "[consul]\ntoken = \"canary-4711\"\n")
        .unwrap();
    std::fs::set_permissions(
        setup.path("wrong.toml"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let output = setup.call(&["render", "-c", "wrong.toml"]).unwrap();
    expect(
        &output,
        3,
        "",
        "error[readable-secret]: This file holds `consul.token` and can be read by others.
 --> wrong.toml:2:1
  |
2 | token = (secret)
  | ^^^^^
  |
  = help: Run `chmod 600 wrong.toml`, or use `token_file`.

",
    );
    let output = setup.call(&["render", "-c", "missing.toml"]).unwrap();
    expect(
        &output,
        3,
        "",
        "error[unreadable]: The settings file cannot be read: No such file or directory (os error 2).
--> missing.toml
 = help: Name an existing file with --config, or leave --config out to use flags and Consul's environment variables only.

",
    );
}

// J14
#[test]
fn without_consul_or_a_sidecar_it_says_so() {
    let setup = setup();
    let [port] = ports::free().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let output = setup
        .call(&[
            "render",
            "-c",
            "base.toml",
            "--consul-addr",
            &address.to_string(),
        ])
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    let told = text(&output.stderr);
    assert!(
        told.starts_with(&format!(
            "error[catalog]: Consul at http://{address} cannot be reached"
        )),
        "{told}"
    );
    assert!(
        told.contains("Connection refused")
            && told.contains("Check that the agent runs and that the address is right."),
        "{told}"
    );
    let socket = setup.path("none.sock");
    let output = setup.call(&["status", "--socket", &socket]).unwrap();
    expect(
        &output,
        10,
        "",
        &format!(
            "error[not-running]: No sidecar answers on {socket}: No such file or directory (os error 2).
 |
 = help: Start one with `gatewright run`, or name its socket with --socket or its settings with --config.

"
        ),
    );
}

#[test]
fn helpers_are_listed_and_found_by_name() {
    let setup = setup();
    let all = text(&setup.call(&["helpers"]).unwrap().stdout);
    for call in [
        "service NAME:text [STATES:text]",
        "key PATH:text",
        "serverName INSTANCE:object",
        "#each LIST:value",
    ] {
        assert!(all.lines().any(|line| line.trim() == call), "{call}\n{all}");
    }
    assert!(!all.contains('\x1b'));
    let some = text(&setup.call(&["helpers", "SERVERN"]).unwrap().stdout);
    assert_eq!(
        some,
        "\
serverName INSTANCE:object
  A legal, unique and stable name for an instance, from its node and id.

    {{#each (service \"v1.web\")}}server {{serverName this}} {{serverAddress this}} check{{/each}}

    | server n1:web-1 10.0.0.1:8080 check
"
    );
    let none = setup.call(&["helpers", "toUper"]).unwrap();
    assert_eq!(none.status.code(), Some(2));
    let said = text(&none.stderr);
    assert!(said.contains("Did you mean `toUpper`?"), "{said}");
    let whole = text(&setup.call(&["helpers", "--all"]).unwrap().stdout);
    assert!(whole.contains("\nDifferent from consul-template, and why\n"));
    let markdown = text(&setup.call(&["helpers", "--markdown"]).unwrap().stdout);
    assert!(markdown.contains("\n#### `serverName INSTANCE:object`\n"));
}

#[test]
fn run_needs_no_settings_file() {
    let consul = Consul::start().unwrap();
    let backend = Backend::start("one").unwrap();
    consul
        .register_instance("web", "one", backend.address())
        .unwrap();
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let setup = Setup::new().unwrap();
    let state = setup.path("state");
    let mut gatewright = Process::start(
        "Gatewright",
        command(
            &binary().unwrap(),
            [
                "run",
                "--service",
                "web",
                "--state-dir",
                &state,
                "--listen",
                &entrance.to_string(),
                "--consul-addr",
                &consul.address().to_string(),
                "--haproxy",
                &oldest().program().display().to_string(),
                "--log-format",
                "text",
            ],
        )
        .env_remove("CONSUL_HTTP_ADDR"),
        &setup.directory().join("gatewright.log"),
    )
    .unwrap();
    wait_for(LIMIT, "the first answer", || {
        (send(entrance, 1).answers.contains_key("one")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.last_lines(20)));
    let socket = setup.path("state/status.sock");
    let shown = wait_for(LIMIT, "the status", || {
        let output = setup.call(&["status", "--socket", &socket]).ok()?;
        let shown = text(&output.stdout);
        shown
            .starts_with("confirmed: HAProxy runs what the catalog says\n")
            .then_some(shown)
    })
    .unwrap();
    assert!(
        shown.contains("service \"web\": 1 known, at most"),
        "{shown}"
    );
    assert!(!shown.contains('\x1b'));
    // A second one beside it is told who has the lock.
    let second = setup
        .call(&["run", "--service", "web", "--state-dir", &state])
        .unwrap();
    assert_eq!(second.status.code(), Some(8));
    assert!(
        text(&second.stderr).starts_with(&format!(
            "error[state]: Another Gatewright (process {}) already manages this destination;",
            gatewright.pid()
        )),
        "{}",
        text(&second.stderr)
    );
    let children = descendants(gatewright.pid());
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    assert!(
        !gatewright.output().contains('\x1b'),
        "{}",
        gatewright.output()
    );
    assert!(
        !children
            .iter()
            .any(|child| support::process::exists(*child))
    );
}

#[test]
fn migrate_converts_lists_what_is_left_and_says_so_by_its_exit_code() {
    let setup = setup();
    let whole = "backend web\n{{range service \"web\"}}\n    server {{.Node}} {{.Address}}:{{.Port}}\n{{end}}\n";
    let converted = "backend web\n{{#each (service \"web\")}}\n    server {{Node}} {{Address}}:{{Port}}\n{{/each}}\n";
    setup.file("a.ctmpl", whole).unwrap();
    let told = |rest: &str| format!("{}: {rest}", setup.path("a.ctmpl"));
    let lines = "  Empty lines and blanks at the ends of lines may differ from what consul-template writes; --exact keeps them.\n";
    let done = told(&format!("5 tags converted, nothing left.\n{lines}"));
    let path = setup.path("a.ctmpl");
    expect(
        &setup.call(&["migrate", &path]).unwrap(),
        0,
        converted,
        &done,
    );
    expect(
        &setup.call(&["migrate", &path, "--check"]).unwrap(),
        0,
        "",
        &done,
    );
    let output = setup.call(&["migrate", &path, "-o", "a.cfg.hbs"]).unwrap();
    expect(&output, 0, "", &done);
    assert_eq!(setup.read("a.cfg.hbs").unwrap(), converted);
    let exact = setup.call(&["migrate", &path, "--exact"]).unwrap();
    expect(
        &exact,
        0,
        &converted
            .replace("\")}}", "\")}}{{!}}")
            .replace("{{/each}}", "{{/each}}{{!}}"),
        &told("5 tags converted, nothing left.\n"),
    );

    setup
        .file(
            "a.ctmpl",
            "maxconn {{key \"m\"}} {{env \"HOST\"}}\n# {{timestamp}}\n",
        )
        .unwrap();
    expect(
        &setup.call(&["migrate", &path]).unwrap(),
        4,
        "maxconn {{key \"m\"}} {{env \"HOST\"}}\n# {{!-- gatewright migrate: line 2: {{timestamp}} --}}\n",
        &format!(
            "warning[not-converted]: There is no helper `timestamp`.\n --> {path}:2:3\n  |\n2 | # {{{{timestamp}}}}\n  |   ^^^^^^^^^^^^^\n  |\n  \
             = help: It is not here. A file with the time in it is never the same.\n\n\
             {path}: 2 tags converted, 1 left; look for \"gatewright migrate\" in the result.\n  \
             line 1: {{{{key \"m\"}}}} is one word here. Where it holds several, write {{{{raw (key \"m\")}}}} and set templates.allow_raw = true.\n  \
             Set templates.environment = [\"HOST\"] in the settings.\n"
        ),
    );

    setup
        .file("a.ctmpl", "a\n{{range service \"web\"}}\n")
        .unwrap();
    expect(
        &setup.call(&["migrate", &path]).unwrap(),
        4,
        "",
        &format!(
            "error[go-template]: This block is never closed.\n --> {path}:2:1\n  |\n2 | {{{{range service \"web\"}}}}\n  | ^^^^^^^^^^^^^^^^^^^^^^^\n  |\n  \
             = help: Add {{{{end}}}} where it ends.\n\n"
        ),
    );
    let missing = setup.call(&["migrate", "no.ctmpl"]).unwrap();
    expect(
        &missing,
        1,
        "",
        "error[unreadable]: no.ctmpl cannot be read: No such file or directory (os error 2).\n |\n = help: Name the file of a Go template, or - for the standard input.\n\n",
    );
    let empty = setup
        .call(&["migrate", "a.ctmpl", "--left-delimiter", ""])
        .unwrap();
    assert_eq!(empty.status.code(), Some(2));
}
