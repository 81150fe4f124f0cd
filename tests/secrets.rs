//! Secrets stay secret: a token is searched for in every byte that the program and its children show,
//! and values of the catalog in what is logged and told.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use support::backend::Backend;
use support::consul::{Consul, instance};
use support::gatewright::{Setup, binary};
use support::haproxies::{Version, haproxies, oldest};
use support::process::{command, descendants};
use support::traffic::send;
use support::{ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const TOKEN: &str = "canary-0b4c6f7e-secret";
const PASSWORD: &str = "canary-5e1d-password";

const TEMPLATE: &str = r#"defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend in
    bind @bind@
    http-request set-header X-Note "{{keyOrDefault "note" "none"}}"
    http-request set-header X-Route "%[path,map(@dir@/routes.map,none)]"
    default_backend web
backend web
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}} weight {{Weights.Passing}} # {{#if ServiceMeta.password}}{{ServiceMeta.password}}{{/if}}
{{/each}}
"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// A program that notes its environment and arguments and becomes another one.
fn noting(setup: &Setup, name: &str, program: &str) -> String {
    let seen = setup.path("seen");
    std::fs::create_dir_all(&seen).unwrap();
    setup
        .script(
            name,
            &format!(
                "#!/bin/sh\n{{ cat /proc/$$/environ; echo \"$@\"; }} > {seen}/{name}.$$\nexec {program}\n"
            ),
        )
        .unwrap();
    setup.path(name)
}

/// What of the environment of its own children a program must show for the test to have looked at all.
fn seen(setup: &Setup, name: &str) -> Vec<String> {
    files_below(&setup.directory().join("seen"))
        .iter()
        .filter(|path| path.to_string_lossy().contains(name))
        .map(|path| text(&std::fs::read(path).unwrap()))
        .collect()
}

/// Passes requests on to Consul and counts those that carry the token and the password.
struct Gate {
    address: SocketAddr,
    with_token: Arc<AtomicUsize>,
    with_password: Arc<AtomicUsize>,
}

impl Gate {
    /// In front of `consul`; without one every answer is a 403.
    fn start(consul: Option<SocketAddr>) -> Gate {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let gate = Gate {
            address: listener.local_addr().unwrap(),
            with_token: Arc::default(),
            with_password: Arc::default(),
        };
        let (token, password) = (
            Arc::clone(&gate.with_token),
            Arc::clone(&gate.with_password),
        );
        // Ends with the test program; each connection ends with its request.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (token, password) = (Arc::clone(&token), Arc::clone(&password));
                std::thread::spawn(move || {
                    let mut head = String::new();
                    let mut reader = BufReader::new(&stream);
                    while reader.read_line(&mut head).is_ok_and(|size| size > 2) {}
                    if head.contains(&format!(": {TOKEN}\r\n")) {
                        token.fetch_add(1, Ordering::Relaxed);
                    }
                    if head.to_lowercase().contains("authorization: basic ") {
                        password.fetch_add(1, Ordering::Relaxed);
                    }
                    let Some(consul) = consul else {
                        let _ = (&stream).write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\nConnection: close\r\n\r\nACL not found");
                        return;
                    };
                    let Ok(mut upstream) = std::net::TcpStream::connect(consul) else {
                        return;
                    };
                    let head = head.trim_end().to_owned() + "\r\nConnection: close\r\n\r\n";
                    let _ = upstream.write_all(head.as_bytes());
                    let _ = std::io::copy(&mut upstream, &mut (&stream));
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        gate
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Settings for a supervised HAProxy.
fn settings(
    setup: &Setup,
    consul: &str,
    more: &str,
    format: &str,
    level: &str,
    entrance: SocketAddr,
) {
    let real = oldest();
    let program = noting(
        setup,
        "haproxy",
        &format!("{} \"$@\"", real.program().display()),
    );
    let template = TEMPLATE
        .replace("@bind@", &entrance.to_string())
        .replace("@dir@", setup.path("").trim_end_matches('/'));
    setup.file("haproxy.cfg.hbs", &template).unwrap();
    setup
        .file("routes.map.hbs", "/ {{keyOrDefault \"route\" \"none\"}}\n")
        .unwrap();
    setup
        .settings(&format!(
            "[consul]\naddresses = [\"{consul}\"]\n{more}\n\
             [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/haproxy.cfg\"\n\
             [[template]]\nsource = \"routes.map.hbs\"\ndestination = \"{{dir}}/routes.map\"\nkind = \"map\"\n\
             [haproxy]\nmode = \"supervise\"\nbinary = \"{program}\"\n\
             [apply]\nreload_interval = \"200ms\"\n\
             [log]\nlevel = \"{level}\"\nformat = \"{format}\"\n\
             [state]\ndirectory = \"{{dir}}/state\"\n",
        ))
        .unwrap();
    let file = setup.directory().join("gatewright.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

// P7
#[test]
fn a_token_is_nowhere_to_be_seen() {
    let consul = Consul::start().unwrap();
    let backend = Backend::start("one").unwrap();
    consul
        .register_instance("web", "one", backend.address())
        .unwrap();
    let gate = Gate::start(Some(consul.address()));
    let auth = format!("http_auth = \"user:{PASSWORD}\"\n");
    // By the environment, by a file, in the settings; each way to log.
    for (way, format) in [
        ("environment", "json"),
        ("file", "text"),
        ("settings", "json"),
    ] {
        let [port] = ports::free().unwrap();
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut setup = Setup::new().unwrap().env("NO_COLOR", "1");
        let more = match way {
            "environment" => {
                setup = setup.env("CONSUL_HTTP_TOKEN", TOKEN);
                String::new()
            }
            "file" => {
                setup.file("token", &format!("{TOKEN}\n")).unwrap();
                let path = setup.path("token");
                setup = setup.env("CONSUL_HTTP_TOKEN_FILE", &path);
                String::new()
            }
            _ => format!("token = \"{TOKEN}\"\n{auth}"),
        };
        settings(&setup, &gate.url(), &more, format, "trace", entrance);
        let before = gate.with_token.load(Ordering::Relaxed);
        let mut gatewright = setup.run().unwrap();
        wait_for(LIMIT, "the first answer", || {
            (send(entrance, 1).ok() == 1).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
        assert!(gate.with_token.load(Ordering::Relaxed) > before, "{way}");
        let changed = format!("changed by {way}");
        consul.set_key("note", &changed).unwrap();
        wait_for(LIMIT, "a change", || {
            setup
                .read("haproxy.cfg")
                .ok()?
                .contains(&changed)
                .then_some(())
        })
        .unwrap();

        let mut shown = vec![("log".to_owned(), gatewright.log())];
        let own = gatewright.process().pid();
        let limits = std::fs::read_to_string(format!("/proc/{own}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words[4], "0", "{core:?}");
        let family = descendants(own);
        assert!(!family.is_empty());
        for process in family.iter().chain([&own]) {
            let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            shown.push((format!("the command line of {process}"), text(&line)));
        }
        for process in &family {
            let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            assert!(!text(&environment).contains("CONSUL_"));
            shown.push((format!("the environment of {process}"), text(&environment)));
        }
        // The master and every validation.
        let children = seen(&setup, "haproxy");
        assert!(
            children.iter().any(|one| one.contains(" -c ")),
            "{children:?}"
        );
        assert!(
            children.iter().any(|one| !one.contains(" -c ")),
            "{children:?}"
        );
        assert!(children.iter().all(|one| !one.contains("CONSUL_")));
        let socket = setup.path("state/status.sock");
        for json in [&[][..], &["--json"]] {
            let mut status = command(&binary().unwrap(), ["status", "--socket", &socket]);
            let output = status.args(json).output().unwrap();
            assert_eq!(output.status.code(), Some(0));
            shown.push(("the status".to_owned(), text(&output.stdout)));
        }
        let config = setup.path("gatewright.toml");
        for words in [
            &["render", "-c", &config][..],
            &["render", "-c", &config, "--explain"],
            &["render", "-c", &config, "--diff"],
            &["capture", "-c", &config, "-o", "captured.json"],
            &["check", "-c", &config],
        ] {
            let output = setup.call(words).unwrap();
            let said = text(&output.stdout) + &text(&output.stderr);
            shown.push((words.join(" "), said));
        }
        // The settings are read again, and refused, with the secret on the wrong line.
        let good = setup.read("gatewright.toml").unwrap();
        let wrong = format!("{good}\n[consul.tls]\ntokn = \"{TOKEN}\"\n");
        setup.file("gatewright.toml", &wrong).unwrap();
        gatewright.reload();
        gatewright
            .wait_for_log(LIMIT, &["There is no setting `tokn` here"])
            .unwrap();
        let output = setup.call(&["check", "-c", &config]).unwrap();
        assert_eq!(output.status.code(), Some(3));
        shown.push(("the refused settings".to_owned(), text(&output.stderr)));
        assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
        shown.push(("the whole log".to_owned(), gatewright.log()));
        for path in files_below(setup.directory()) {
            if !path.ends_with("token") && !path.ends_with("gatewright.toml") {
                let name = path.display().to_string();
                shown.push((name, text(&std::fs::read(&path).unwrap_or_default())));
            }
        }
        for (what, text) in shown {
            for secret in [TOKEN, PASSWORD, "dXNlcjpjYW5hcnk"] {
                assert!(!text.contains(secret), "{what}: {text}");
            }
        }
    }
    assert!(gate.with_password.load(Ordering::Relaxed) > 0);
}

// P7
#[test]
fn no_error_tells_a_secret_and_a_reload_command_gets_none() {
    let refusing = Gate::start(None);
    let setup = Setup::new()
        .unwrap()
        .env("CONSUL_HTTP_TOKEN", TOKEN)
        .env("CONSUL_HTTP_AUTH", &format!("user:{PASSWORD}"));
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    settings(&setup, &refusing.url(), "", "text", "trace", entrance);
    setup.file("catalog.json", "{").unwrap();
    setup.file("broken.hbs", "{{#each").unwrap();
    setup
        .file("wrong.toml", &format!("[consul]\ntoken = \"{TOKEN}\n"))
        .unwrap();
    setup
        .file("open.toml", &format!("[consul]\ntoken = \"{TOKEN}\"\n"))
        .unwrap();
    let open = setup.directory().join("open.toml");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut shown = Vec::new();
    for words in [
        &["render", "-c", "gatewright.toml", "--timeout", "1"][..],
        &[
            "render",
            "-c",
            "gatewright.toml",
            "--consul-addr",
            "127.0.0.1:1",
            "--timeout",
            "1",
        ],
        &[
            "render",
            "-c",
            "gatewright.toml",
            "--catalog",
            "catalog.json",
        ],
        &["render", "-t", "broken.hbs", "--timeout", "1"],
        &[
            "capture",
            "-c",
            "gatewright.toml",
            "--consul-addr",
            "ftp://x",
        ],
        &[
            "capture",
            "-c",
            "gatewright.toml",
            "-o",
            "none.json",
            "--timeout",
            "1",
        ],
        &["check", "-c", "wrong.toml"],
        &["check", "-c", "open.toml"],
        &["check", "broken.hbs"],
        &["run", "-c", "wrong.toml"],
        &["run", "-c", "open.toml"],
        &["run", "-t", "broken.hbs", "--destination", "/x/y"],
        &["status", "-c", "gatewright.toml"],
        &["no-such-command"],
    ] {
        let output = setup.call(words).unwrap();
        assert_ne!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
        shown.push((
            words.join(" "),
            text(&output.stdout) + &text(&output.stderr),
        ));
    }
    assert!(refusing.with_token.load(Ordering::Relaxed) > 0);

    // A sidecar that Consul refuses.
    let mut gatewright = setup.run().unwrap();
    gatewright.wait_for_log(LIMIT, &["ACL not found"]).unwrap();
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    shown.push(("the log".to_owned(), gatewright.log()));

    // The command that reloads.
    let consul = Consul::start().unwrap();
    let gate = Gate::start(Some(consul.address()));
    settings(&setup, &gate.url(), "", "text", "trace", entrance);
    let command = noting(&setup, "reload", "true");
    let text_of = setup.read("gatewright.toml").unwrap();
    let text_of = text_of.replace(
        "mode = \"supervise\"",
        &format!("mode = \"command\"\ncommand = [\"{command}\"]"),
    );
    setup.file("gatewright.toml", &text_of).unwrap();
    let mut gatewright = setup.run().unwrap();
    wait_for(LIMIT, "the reload command", || {
        seen(&setup, "reload")
            .into_iter()
            .find(|one| one.ends_with('\n'))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    shown.push(("the log with a command".to_owned(), gatewright.log()));
    for one in seen(&setup, "reload") {
        assert!(!one.contains("CONSUL_"), "{one}");
        shown.push(("the reload command".to_owned(), one));
    }
    for (what, text) in shown {
        for secret in [TOKEN, PASSWORD, "dXNlcjpjYW5hcnk"] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
}

// C18
/// Values go where the template puts them, and nowhere else.
#[test]
fn a_value_is_neither_logged_nor_told() {
    let consul = Consul::start().unwrap();
    let backend = Backend::start("one").unwrap();
    let value = |step: &str| format!("canary-{step}-value");
    let register = |step: &str| {
        let mut body = instance("web", "one", backend.address());
        body["Meta"] = json!({ "password": value(step) });
        consul.register(&body).unwrap();
    };
    register("meta");
    consul.set_key("note", &value("first")).unwrap();
    consul.set_key("route", &value("first")).unwrap();
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let setup = Setup::new().unwrap().env("NO_COLOR", "1");
    settings(&setup, &consul.url(), "", "json", "debug", entrance);
    let mut gatewright = setup.run().unwrap();
    let told = Mutex::new(String::new());
    let until = |what: &str, holds: &dyn Fn(&serde_json::Value) -> bool| {
        setup
            .wait_for_status(LIMIT, what, |status| {
                told.lock().unwrap().push_str(&status.to_string());
                holds(status).then_some(())
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    };
    let holds = |name: &str, step: &str| {
        setup
            .read(name)
            .is_ok_and(|text| text.contains(&value(step)))
    };
    until("the first set", &|status| {
        status["state"] == "confirmed"
            && holds("haproxy.cfg", "first")
            && holds("routes.map", "first")
    });
    // By a reload, by a command to the map, and by the text of an instance.
    consul.set_key("note", &value("second")).unwrap();
    until("a reload", &|status| {
        status["state"] == "confirmed" && holds("haproxy.cfg", "second")
    });
    consul.set_key("route", &value("second")).unwrap();
    until("a change of the map", &|status| {
        status["state"] == "confirmed" && holds("routes.map", "second")
    });
    register("other");
    until("a change of an instance", &|status| {
        status["state"] == "confirmed" && holds("haproxy.cfg", "other")
    });
    // What its place cannot hold is refused without being shown.
    consul
        .set_key("note", &format!("{}%", value("third")))
        .unwrap();
    until("the refusal", &|status| {
        status["template_errors"][0]
            .as_str()
            .is_some_and(|error| error.contains("holds a `%`"))
    });
    consul.set_key("note", &value("fourth")).unwrap();
    until("the mended value", &|status| {
        status["state"] == "confirmed" && holds("haproxy.cfg", "fourth")
    });
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    for (what, text) in [
        ("status", told.into_inner().unwrap()),
        ("log", gatewright.log()),
    ] {
        assert!(!text.contains("canary"), "{what}: {text}");
    }
}

/// Lines of which HAProxy or the gate tells where `@` stands for a value that fits nowhere.
const LINES: [&str; 21] = [
    "    maxconn @",
    "    timeout client @",
    "    bind 127.0.0.1:@",
    "    bind 127.0.0.1:18081 ssl crt @",
    "    balance @",
    "    acl a src @",
    "    http-request set-header X \"%[@]\"",
    "    http-request set-var(txn.a) @",
    "    http-request deny deny_status @",
    "    use_backend @",
    "    use_backend be_@",
    "    use_backend x@-y",
    "    errorfile 503 @",
    "    option @",
    "    log @",
    "    stick-table type @ size 1k",
    "    server a 10.0.0.1:80 weight @",
    "    server a 10.0.0.1:80 @",
    "    server a @",
    "    filter @",
    "backend web\nbackend @\nbackend @",
];

/// All that `check` tells of a template with these lines and a secret of three kinds.
fn told_by_check(version: &Version, lines: &str, secret: &str) -> String {
    let template = format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout server 1s\n    timeout client 1s\nlisten in\n    bind 127.0.0.1:18080\n{{{{#each (service \"web\")}}}}\n{lines}\n{{{{/each}}}}\n"
    );
    let setup = Setup::new().unwrap().env("NO_COLOR", "1");
    setup.file("haproxy.cfg.hbs", &template).unwrap();
    setup.file("files/k.txt", secret).unwrap();
    let catalog = json!({"keys": {"k": secret}, "services": {"web": [
        {"Address": "10.0.0.1", "Port": 80, "ServiceMeta": {"db_password": secret}}]}});
    setup.file("catalog.json", &catalog.to_string()).unwrap();
    setup
        .settings("[templates]\nfiles = \"{dir}files\"\n[state]\ndirectory = \"{dir}state\"\n[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{dir}haproxy.cfg\"\n")
        .unwrap();
    let settings = setup.path("gatewright.toml");
    let haproxy = version.program().display().to_string();
    let words = ["check", "-c", &settings, "--haproxy", &haproxy, "--no-made"];
    let output = setup
        .call(&[&words[..], &["catalog.json"]].concat())
        .unwrap();
    let told = text(&[output.stdout, output.stderr].concat());
    assert_ne!(output.status.code(), Some(3), "{told}");
    told
}

/// A value that its place cannot take, as HAProxy, the gate and the helpers tell of it.
#[haproxies(ends)]
fn no_message_about_a_key_a_file_or_a_password_repeats_it(version: Version) {
    const VALUE: &str = "canary9";
    let helpers = [
        "    maxconn (parseInt @)",
        "    maxconn (add @ 1)",
        "    maxconn (divide 10 @)",
        "    # (parseJSON @)",
        "    # (parseYAML @)",
        "    # (parseBool @)",
        "    # (base64Decode @)",
        "    # (regexMatch \"(\" @)",
        "    # (timestamp @)",
    ];
    for line in LINES.iter().chain(&helpers) {
        for read in ["key \"k\"", "file \"k.txt\"", "byName"] {
            // A tag is written where a helper has it as its argument, too.
            let value = match read {
                "byName" => "ServiceMeta.db_password".to_owned(),
                read => format!("({read})"),
            };
            let tagged = match line.contains('(') && line.contains("@)") || line.contains("@ 1)") {
                true => line.replace('@', &value).replacen('(', "{{", 1),
                false => line.replace('@', &format!("{{{{{}}}}}", value.trim_matches(['(', ')']))),
            };
            let tagged = match tagged.contains("}}") {
                true => tagged,
                false => format!("{}}}}}", tagged.strip_suffix(')').unwrap()),
            };
            let told = told_by_check(&version, &tagged, VALUE);
            assert!(!told.contains(VALUE), "{tagged}: {told}");
        }
    }
}

/// A value that helpers have changed on its way, in the same places.
#[haproxies(ends)]
fn no_message_repeats_what_a_helper_made_of_a_secret(version: Version) {
    for (tag, secret, made) in [
        ("{{toLower (key \"k\")}}", "CANARY9", "canary9"),
        (
            "{{base64Decode (file \"k.txt\")}}",
            "Y2FuYXJ5OQ==",
            "canary9",
        ),
        (
            "{{replaceAll \"-\" \"\" ServiceMeta.db_password}}",
            "can-ary-9",
            "canary9",
        ),
        (
            "{{join \"\" (split \",\" (key \"k\"))}}",
            "can,ary,9",
            "canary9",
        ),
        ("{{sha256Hex (key \"k\")}}", "canary9", "ecbfc6a17a83"),
        (
            "{{#with (parseJSON (key \"k\"))}}{{password}}{{/with}}",
            r#"{"password": "c\u0061nary9"}"#,
            "canary9",
        ),
        (
            "{{#let (toLower ServiceMeta.db_password) as |v|}}{{v}}{{/let}}",
            "CANARY9",
            "canary9",
        ),
        (
            "{{#each (split \",\" (key \"k\"))}}{{#if @first}}{{trimSuffix \"-\" this}}{{/if}}{{/each}}",
            "canary9-,b",
            "canary9",
        ),
        ("{{add 1 (parseInt (key \"k\"))}}", "7777776", "7777777"),
    ] {
        // One in all places, the others in some.
        let lines = match tag.contains("toLower (key") {
            true => &LINES[..],
            false => &LINES[9..12],
        };
        for line in lines {
            let told = told_by_check(&version, &line.replace('@', tag), secret);
            for word in [secret, made] {
                assert!(!told.contains(word), "{line} of {tag}: {told}");
            }
        }
    }
}

/// Settings for a supervised HAProxy with this template.
fn supervised(setup: &Setup, version: &Version, template: &str) {
    setup.file("haproxy.cfg.hbs", template).unwrap();
    setup
        .settings(&format!(
            "[haproxy]\nmode = \"supervise\"\nbinary = {:?}\n[log]\nlevel = \"debug\"\n[state]\ndirectory = \"{{dir}}state\"\n[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n",
            version.program()
        ))
        .unwrap();
}

/// What HAProxy says of a set that it refuses goes into the log, the status and HAProxy's own lines.
#[haproxies(ends)]
fn a_refused_key_is_neither_logged_nor_told(version: Version) {
    let consul = Consul::start().unwrap();
    consul.set_key("mode", "tcp").unwrap();
    let [port] = ports::free().unwrap();
    let setup = Setup::new()
        .unwrap()
        .env("NO_COLOR", "1")
        .env("CONSUL_HTTP_ADDR", &consul.url());
    let template = format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout server 1s\n    timeout client 1s\nlisten in\n    bind 127.0.0.1:{port}\n    mode {{{{key \"mode\"}}}}\n"
    );
    supervised(&setup, &version, &template);
    let mut gatewright = setup.run().unwrap();
    let until = |what: &str, state: &str| {
        setup
            .wait_for_status(LIMIT, what, |status| {
                (status["state"] == state).then(|| status.to_string())
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()))
    };
    until("the first set", "confirmed");
    consul.set_key("mode", "canary9").unwrap();
    let told = until("the refusal", "held");
    assert!(told.contains("mode") && told.contains("(hidden)"), "{told}");
    assert!(!told.contains("canary9"), "{told}");
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    let log = gatewright.log();
    assert!(
        log.contains("(hidden)") && !log.contains("canary9"),
        "{log}"
    );
}

/// A later process knows the last good set by its files alone: no rendering has told it what is secret.
#[haproxies(ends)]
fn a_restart_does_not_tell_the_secrets_of_the_last_good_set(version: Version) {
    let mut consul = Consul::start().unwrap();
    consul.set_key("page", "CANARY9").unwrap();
    consul.set_key("note", "canary8").unwrap();
    let [port] = ports::free().unwrap();
    let setup = Setup::new()
        .unwrap()
        .env("NO_COLOR", "1")
        .env("CONSUL_HTTP_ADDR", &consul.url());
    let page = setup.path("canary9.http");
    setup
        .file("canary9.http", "HTTP/1.0 503 No\r\n\r\nnone\n")
        .unwrap();
    let folder = page.strip_suffix("canary9.http").unwrap();
    let template = format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout server 1s\n    timeout client 1s\nlisten in\n    bind 127.0.0.1:{port}\n    http-request set-header X-Note {{{{key \"note\"}}}}\n    errorfile 503 {folder}{{{{toLower (key \"page\")}}}}.http\n"
    );
    supervised(&setup, &version, &template);
    let mut gatewright = setup.run().unwrap();
    setup
        .wait_for_status(LIMIT, "the first set", |status| {
            (status["state"] == "confirmed").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    consul.kill();
    let snapshot = setup.path("state/snapshot.json");
    std::fs::remove_file(&snapshot).unwrap_or_else(|error| panic!("{snapshot}: {error}"));
    std::fs::remove_file(&page).unwrap();

    let mut gatewright = setup.run().unwrap();
    gatewright
        .wait_for_log(
            LIMIT,
            &["the last good set could not be applied", "(hidden)"],
        )
        .unwrap();
    gatewright
        .wait_for_log(LIMIT, &["HAProxy has ended"])
        .unwrap();
    let status = setup.status().unwrap().to_string();
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    for (what, told) in [("status", status), ("log", gatewright.log())] {
        let lower = told.to_lowercase();
        assert!(!lower.contains("canary"), "{what}: {told}");
    }
}

/// A catalog file that cannot be read is told of by its place, without the values of its keys.
#[test]
fn a_broken_catalog_file_is_told_without_its_values() {
    let setup = Setup::new().unwrap().env("NO_COLOR", "1");
    setup.file("t.hbs", "# {{key \"k\"}}\n").unwrap();
    setup
        .settings("[catalog]\nsource = \"file\"\nfile = \"{dir}catalog.json\"\n[haproxy]\nmode = \"none\"\nbinary = \"/bin/true\"\n[state]\ndirectory = \"{dir}state\"\n[[template]]\nsource = \"t.hbs\"\ndestination = \"{dir}haproxy.cfg\"\n")
        .unwrap();
    for catalog in [
        r#"{"keys": "canary9"}"#,
        r#"{"keys": {"k": {"a": "canary9"}}}"#,
        r#"{"keys": {"a": "canary9", "k": ["canary9"]}}"#,
        r#"{"keys": {"k": "canary9" x"#,
        r#"{"keys": {"k": "canary9"}, "services": {"web": "canary9"}}"#,
        r#"{"services": {"web": [{"Address": "10.0.0.1", "Port": 80, "ServiceMeta": {"password": ["canary9"]}}]}}"#,
        r#"{"answers": {"key \"k\"": {"a": "canary9"}}}"#,
    ] {
        setup.file("catalog.json", catalog).unwrap();
        for words in [
            &["check", "--no-made", "t.hbs", "catalog.json"][..],
            &["render", "-c", "gatewright.toml", "--timeout", "1"],
            &["render", "-t", "t.hbs", "--catalog", "catalog.json"],
        ] {
            let output = setup.call(words).unwrap();
            assert_ne!(output.status.code(), Some(0), "{words:?}: {catalog}");
            let told = text(&[output.stdout, output.stderr].concat());
            assert!(told.contains("catalog.json"), "{told}");
            assert!(!told.contains("canary"), "{words:?}: {told}");
        }
    }
    setup
        .file("catalog.json", r#"{"keys": "canary9"}"#)
        .unwrap();
    let mut gatewright = setup.run().unwrap();
    gatewright
        .wait_for_log(LIMIT, &["catalog.json", "line 1"])
        .unwrap();
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    let log = gatewright.log();
    assert!(!log.contains("canary"), "{log}");
}
