//! The environment variables that a configuration reads: HAProxy gets what the settings name, a set is validated with
//! what the running HAProxy has, and a variable that it does not have is named with the remedy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;

use serde_json::Value;

use support::gatewright::{Gatewright, Setup};
use support::haproxies::{Version, haproxies};
use support::haproxy::cli;
use support::process::{Process, command};
use support::{ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// The lines of the settings by which everybody may read a file that a template of its name makes.
pub fn written(name: &str, kind: &str) -> String {
    format!(
        "[[template]]\nsource = \"{name}.hbs\"\ndestination = \"{{dir}}{name}\"\nkind = \"{kind}\"\nmode = \"0644\"\n"
    )
}

/// One HAProxy and one Gatewright on a template without instances. The order of the fields is the order in which
/// they stop.
pub struct Stage {
    pub gatewright: Option<Gatewright>,
    pub haproxy: Option<Process>,
    pub setup: Setup,
    pub version: Version,
    pub port: u16,
}

impl Stage {
    pub fn new(version: &Version) -> Stage {
        let [port] = ports::free().unwrap();
        let stage = Stage {
            gatewright: None,
            haproxy: None,
            setup: Setup::new().unwrap(),
            version: version.clone(),
            port,
        };
        stage
            .setup
            .file("catalog.json", "{\"services\": {}}")
            .unwrap();
        stage
    }

    pub fn env(mut self, name: &str, value: &str) -> Stage {
        self.setup = self.setup.env(name, value);
        self
    }

    /// A configuration with these lines in `global` and in its frontend; `@port@` and `@dir@` are filled in.
    pub fn text(&self, global: &str, frontend: &str) -> String {
        let text = format!(
            "global\n    stats socket @dir@stats.sock mode 600 level admin\n    fd-hard-limit 2000\n    httpclient.ssl.verify none\n{global}\n\
             defaults\n    mode http\n    timeout connect 2s\n    timeout client 10s\n    timeout server 10s\n\
             frontend in\n{frontend}\n    http-request return status 200 content-type text/plain string yes\n"
        );
        text.replace("@port@", &self.port.to_string())
            .replace("@dir@", &self.setup.path(""))
    }

    pub fn template(&self, global: &str, frontend: &str) {
        let text = self.text(global, frontend);
        self.setup.file("haproxy.cfg.hbs", &text).unwrap();
    }

    /// A mode with further lines of [haproxy].
    pub fn settings(&self, mode: &str, lines: &str) {
        let how = match mode {
            "signal" => "pid_file = \"{dir}haproxy.pid\"\nstats_socket = \"{dir}stats.sock\"",
            "command" => "command = [\"{dir}reload\"]\nstats_socket = \"{dir}stats.sock\"",
            _ => "master_socket = \"{dir}master.sock\"",
        };
        let text = format!(
            "[haproxy]\nmode = \"{mode}\"\nbinary = {:?}\n{how}\n{lines}\n\
             [catalog]\nsource = \"file\"\nfile = \"catalog.json\"\n\
             [apply]\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
             [state]\ndirectory = \"{{dir}}state\"\n\
             [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n",
            self.version.program()
        );
        self.setup.settings(&text).unwrap();
        let reload = format!(
            "#!/bin/sh\nkill -USR2 $(cat {})\n",
            self.setup.path("haproxy.pid")
        );
        self.setup.script("reload", &reload).unwrap();
    }

    /// Starts HAProxy with nothing but this environment on what a service manager would have started it on.
    pub fn start_haproxy(&mut self, words: &[&str], environment: &[(&str, &str)], text: &str) {
        self.setup.file("haproxy.cfg", text).unwrap();
        let (pid_file, file) = (
            self.setup.path("haproxy.pid"),
            self.setup.path("haproxy.cfg"),
        );
        let mut start = command(self.version.program(), words);
        start.args(["-p", &pid_file, "-f", &file]);
        start.env_clear().envs(environment.iter().copied());
        let log = self.setup.directory().join("haproxy.log");
        self.haproxy = Some(Process::start("HAProxy", &mut start, &log).unwrap());
        self.wait("HAProxy to serve", || self.answers().then_some(()));
    }

    pub fn run(&mut self) {
        self.gatewright = Some(self.setup.run().unwrap());
    }

    /// Whether HAProxy answers on loopback.
    pub fn answers(&self) -> bool {
        let ask = || {
            let mut stream =
                TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.ends_with("yes").then_some(())
        };
        ask().is_some()
    }

    pub fn wait<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(LIMIT, what, probe).unwrap_or_else(|error| {
            let log = self.gatewright.as_ref().map(Gatewright::log);
            panic!(
                "{error}\n{:?}\n{}",
                self.setup.status(),
                log.unwrap_or_default()
            )
        })
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, || self.setup.status().ok().filter(&holds))
    }

    pub fn confirmed(&self) -> Value {
        self.until("the confirmation", |status| status["state"] == "confirmed")
    }

    /// Waits until each of these parts stands in one warning of the status.
    pub fn warns(&self, parts: &[&str]) {
        self.until(&format!("a warning with {parts:?}"), |status| {
            warnings(status)
                .iter()
                .any(|text| parts.iter().all(|part| text.contains(part)))
        });
    }

    /// Waits until a set is refused with each of these parts in what is told of it.
    pub fn refuses(&self, parts: &[&str]) {
        self.until(&format!("a refusal with {parts:?}"), |status| {
            let why = status["held"]["why"].to_string();
            parts.iter().all(|part| why.contains(part))
        });
    }

    pub fn end(mut self) {
        if let Some(mut gatewright) = self.gatewright.take() {
            assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
        }
    }
}

/// The warnings but the one that HAProxy runs as root, which it does here.
pub fn warnings(status: &Value) -> Vec<String> {
    let texts = status["warnings"].as_array().into_iter().flatten();
    texts
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .filter(|text| !text.contains("runs as root"))
        .collect()
}

/// The environment of HAProxy's worker, by its own word.
fn worker_environment(stage: &Stage) -> String {
    cli(&stage.setup.directory().join("stats.sock"), "show env").unwrap()
}

const BIND: &str = "    bind \"${LB_ADDR}:@port@\"";

// F03 F11
#[haproxies(ends)]
fn a_supervised_haproxy_gets_what_the_settings_name_and_nothing_else(version: Version) {
    let mut stage = Stage::new(&version)
        .env("LB_ADDR", "127.0.0.1")
        .env("CONSUL_HTTP_TOKEN", "t0ken-of-gatewright")
        .env("UNNAMED", "x");
    stage.template(
        "    localpeer \"$PEER\"\n.if !defined(STAGE)\n    unknown-keyword\n.endif",
        BIND,
    );
    stage.settings(
        "supervise",
        "environment = [\"LB_ADDR\", \"STAGE=test\", \"PEER=lb one\"]",
    );
    stage.run();
    let status = stage.confirmed();
    assert_eq!(warnings(&status), Vec::<String>::new());
    assert!(stage.answers());
    let environment = worker_environment(&stage);
    assert!(environment.contains("STAGE=test\n"), "{environment}");
    assert!(
        environment.contains("HAPROXY_LOCALPEER=lb one\n"),
        "{environment}"
    );
    for name in ["CONSUL_", "UNNAMED", "t0ken"] {
        assert!(!environment.contains(name), "{environment}");
    }
    // What would not start is refused, with these values.
    let both = format!("{BIND}\n    bind \"${{STAGE}}:@port@\"");
    stage.template("    localpeer \"$PEER\"", &both);
    stage.refuses(&["'test'"]);
    stage.end();
}

// F03 K01
#[haproxies(ends)]
fn a_variable_that_haproxy_does_without_is_warned_of_with_the_setting(version: Version) {
    let mut stage = Stage::new(&version)
        .env("LB_ADDR", "127.0.0.1")
        .env("SIZE", "100");
    stage.template(
        "    maxconn \"${SIZE-50}\"\n.if defined(LB_ADDR)\n    unknown-keyword\n.endif",
        "    bind \"${LB_ADDR}:@port@\"\n    http-request set-header X-Region \"%[env(REGION)]\"\n    option forwardfor \"${FORWARD}\"",
    );
    stage.settings("supervise", "");
    stage.run();
    stage.confirmed();
    let everywhere =
        "so that this line listens on every address. Add \"LB_ADDR\" to haproxy.environment";
    let file = stage.setup.path("haproxy.cfg:");
    for parts in [
        [&file, "LB_ADDR", everywhere],
        [
            &file,
            "REGION",
            "`env(REGION)` returns nothing. Add \"REGION=VALUE\"",
        ],
        [
            &file,
            "FORWARD",
            "an empty word: HAProxy 2.6 ends the line there",
        ],
        [&file, "SIZE", "Add \"SIZE\" to haproxy.environment"],
    ] {
        stage.warns(&parts);
    }
    let settings = "environment = [\"LB_ADDR\", \"SIZE\", \"REGION=eu\", \"FORWARD=\"]";
    stage.template("    maxconn \"${SIZE-50}\"", BIND);
    stage.settings("supervise", settings);
    // A HAProxy that runs keeps its environment.
    stage.gatewright.as_mut().unwrap().reload();
    stage.warns(&["process", "LB_ADDR", "Restart Gatewright"]);
    stage.gatewright.take().unwrap().stop(LIMIT).unwrap();
    stage.run();
    let status = stage.confirmed();
    assert_eq!(warnings(&status), Vec::<String>::new());
    stage.end();
}

// F01 F03
#[haproxies(ends)]
fn a_refusal_names_the_variable_and_the_setting(version: Version) {
    let mut stage = Stage::new(&version).env("LB_BIND", "127.0.0.1:1");
    stage.template("", "    bind \"$LB_BIND\"");
    stage.settings("supervise", "");
    stage.run();
    stage.refuses(&["LB_BIND", "Add \\\"LB_BIND\\\" to haproxy.environment"]);
    let bind = "    bind 127.0.0.1:@port@\n";
    for (line, name) in [
        ("    timeout client \"$WAIT\"", "WAIT"),
        ("    timeout client \"${MANY}s\"", "MANY"),
        ("    acl a src \"${NET}/99\"", "NET"),
    ] {
        stage.template("", &format!("{bind}{line}"));
        stage.refuses(&[
            &format!("lacks {name}"),
            &format!("Add \\\"{name}=VALUE\\\" to haproxy.environment"),
        ]);
    }
    // The same by `check`, with its place in the template.
    let output = stage
        .setup
        .call(&["check", "-c", &stage.setup.path("gatewright.toml")])
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    for part in [
        "error[missing-variable]",
        "haproxy.cfg.hbs:",
        "haproxy.environment",
    ] {
        assert!(said.contains(part), "{said}");
    }
    stage.end();
}

// F03
#[haproxies(ends)]
fn a_set_is_validated_with_the_environment_of_the_running_haproxy(version: Version) {
    for mode in ["master", "signal", "command"] {
        let mut stage = Stage::new(&version).env("WRONG", "x");
        let global = ".if !defined(STAGE)\n    unknown-keyword\n.endif\n.if defined(WRONG)\n    unknown-keyword\n.endif";
        let socket = stage.setup.path("master.sock");
        let environment = [
            ("LB_ADDR", "127.0.0.1"),
            ("STAGE", "test"),
            ("API_TOKEN", "s3cr3t-t0ken"),
        ];
        let text = stage.text(global, BIND);
        stage.start_haproxy(&["-W", "-db", "-S", &socket], &environment, &text);
        let one_more = "    http-request set-header X-Stage \"$STAGE\"";
        stage.template(global, &format!("{BIND}\n{one_more}"));
        // What the settings say is not what HAProxy would load with.
        stage.settings(
            mode,
            "environment = [\"LB_ADDR=not an address\", \"STAGE=test\"]",
        );
        stage.run();
        stage.confirmed();
        assert!(stage.answers(), "{mode}");
        let master = stage.haproxy.as_ref().unwrap().pid();
        let process = format!("(process {master})");
        stage.warns(&["haproxy.environment gives LB_ADDR another value", &process]);
        let status = stage.confirmed();
        assert_eq!(
            warnings(&status).len(),
            1,
            "{mode}: {:?}",
            warnings(&status)
        );

        stage.template(
            global,
            &format!("{BIND}\n    http-request set-header X-Zone \"z$ZONE\""),
        );
        let remedy = "(systemd: `Environment=ZONE=VALUE` in HAProxy's unit), and restart HAProxy.";
        stage.warns(&[&process, "ZONE", remedy]);
        stage.template(global, &format!("{BIND}\n    timeout client \"$ZONE\""));
        stage.refuses(&[&process, "ZONE", "where HAProxy is started"]);
        // A secret of HAProxy's stays one where HAProxy quotes it.
        stage.template(global, &format!("{BIND}\n    mode \"$API_TOKEN\""));
        stage.refuses(&["(hidden)"]);
        let log = stage.gatewright.as_ref().unwrap().log();
        for secret in ["s3cr3t", "not an address"] {
            let status = stage.setup.status().unwrap().to_string();
            assert!(
                !log.contains(secret) && !status.contains(secret),
                "{mode}: {log}"
            );
        }
        stage.end();
    }
}

// F03 I12
#[haproxies(ends)]
fn an_environment_that_may_not_be_read_is_told(version: Version) {
    const USER: u32 = 61_234;
    const GROUP: u32 = 61_235;
    let mut stage = Stage::new(&version);
    let socket = format!("{},mode,0660,gid,{GROUP}", stage.setup.path("master.sock"));
    let text = stage.text("", "    bind \"${LB_ADDR}:@port@\"");
    let environment = [("LB_ADDR", "127.0.0.1"), ("ZONE", "a")];
    stage.start_haproxy(&["-W", "-db", "-S", &socket], &environment, &text);
    stage.setup = stage.setup.user(USER, GROUP);
    chown(stage.setup.directory(), Some(USER), Some(GROUP)).unwrap();
    chown(
        stage.setup.directory().join("haproxy.cfg"),
        Some(USER),
        Some(GROUP),
    )
    .unwrap();
    stage.template(
        "",
        &format!("{BIND}\n    http-request set-header X-Zone \"z$ZONE\""),
    );
    stage.settings("master", "environment = [\"LB_ADDR=127.0.0.1\"]");
    stage.run();
    stage.warns(&[
        "ZONE",
        "cannot be read",
        "\"ZONE=VALUE\", with the value that HAProxy has",
    ]);
    let status = stage.confirmed();
    let about = |name: &str| warnings(&status).iter().any(|text| text.contains(name));
    assert!(!about("LB_ADDR"), "{status}");
    stage.end();
}

// F11 L02
#[haproxies(ends)]
fn what_gatewright_needs_itself_is_passed_on_only_by_name_and_warned_of(version: Version) {
    let mut stage = Stage::new(&version)
        .env("CONSUL_HTTP_TOKEN", "t0ken-of-gatewright")
        .env("HAPROXY_PROCESSES", "|type=m;pid=1")
        .env("HAPROXY_ZONE", "a");
    stage.template("", "    bind 127.0.0.1:@port@");
    let lines = "environment = [\"CONSUL_HTTP_TOKEN\", \"NOT_SET\"]";
    stage.settings("supervise", lines);
    stage.run();
    stage.confirmed();
    stage.warns(&["haproxy.environment gives HAProxy CONSUL_HTTP_TOKEN"]);
    stage.warns(&[
        "haproxy.environment names NOT_SET, which Gatewright's own environment does not have",
    ]);
    let environment = worker_environment(&stage);
    assert!(
        environment.contains("CONSUL_HTTP_TOKEN=t0ken"),
        "{environment}"
    );
    assert!(environment.contains("HAPROXY_ZONE=a\n"), "{environment}");
    assert!(!environment.contains("|type=m;pid=1"), "{environment}");
    // HAProxy quotes the value where it refuses it.
    stage.template(
        "",
        "    bind 127.0.0.1:@port@\n    mode \"$CONSUL_HTTP_TOKEN\"",
    );
    stage.refuses(&["(hidden)"]);
    let log = stage.gatewright.as_ref().unwrap().log();
    let status = stage.setup.status().unwrap().to_string();
    assert!(!log.contains("t0ken") && !status.contains("t0ken"), "{log}");
    stage.end();
}

#[haproxies(ends)]
fn what_haproxy_or_the_configuration_sets_itself_is_not_missing(version: Version) {
    let mut stage = Stage::new(&version);
    stage.template(
        "    setenv ZONE a\n    presetenv REGION \"r-$ZONE\"\n    log-tag \"${HAPROXY_LOCALPEER}-$REGION\"\n    description \"${HAPROXY_CFGFILES} ${.LINE}\"",
        "    bind 127.0.0.1:@port@\n.if defined(NOWHERE)\n    timeout client \"$NOWHERE\"\n.endif\n    timeout client \"${NOWHERE-10s}\"",
    );
    stage.settings("supervise", "");
    stage.run();
    let status = stage.confirmed();
    assert_eq!(warnings(&status), Vec::<String>::new());
    // And after a reload, which 2.6 to 3.0 do with what the configuration has set before.
    stage.template(
        "    setenv ZONE a",
        "    bind 127.0.0.1:@port@\n    http-request set-header X-Zone \"z$ZONE\"",
    );
    let status = stage.until("the second set", |status| {
        status["state"] == "confirmed" && status["haproxy"]["reloads"].as_u64() >= Some(1)
    });
    assert_eq!(warnings(&status), Vec::<String>::new());
    stage.end();
}

// K01
#[test]
fn settings_that_name_no_variable_are_refused_at_the_place() {
    let setup = Setup::new().unwrap();
    std::fs::set_permissions(setup.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    for (value, part) in [
        (
            "[\"LB-ADDR\"]",
            "`LB-ADDR` is not the name of an environment variable",
        ),
        ("[\"A\", \"A=1\"]", "`haproxy.environment` names `A` twice."),
        (
            "[\"HAPROXY_MWORKER_REEXEC=1\"]",
            "HAProxy sets HAPROXY_MWORKER_REEXEC itself",
        ),
        ("{ A = \"1\" }", "expected a sequence"),
    ] {
        setup
            .settings(&format!("[haproxy]\nenvironment = {value}\n"))
            .unwrap();
        let output = setup
            .call(&["render", "-c", &setup.path("gatewright.toml")])
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(
            said.contains(part) && said.contains("gatewright.toml:2:"),
            "{said}"
        );
    }
}

// L14 F03
#[haproxies(ends)]
fn an_answer_to_a_reload_hides_the_secrets_of_the_environment(version: Version) {
    const SECRET: &str = "s3cr3t-t0ken";
    for mode in ["master", "command", "supervise"] {
        let mut stage = Stage::new(&version);
        let bind = "    bind 127.0.0.1:@port@";
        let settings = match mode {
            "supervise" => format!("environment = [\"API_TOKEN={SECRET}\"]"),
            _ => String::new(),
        };
        if mode != "supervise" {
            let socket = stage.setup.path("master.sock");
            let text = stage.text("", bind);
            let environment = [("API_TOKEN", SECRET)];
            stage.start_haproxy(&["-W", "-db", "-S", &socket], &environment, &text);
        }
        stage.template("", &format!("{bind}\n    http-request set-header X-One 1"));
        stage.settings(mode, &settings);
        stage.run();
        stage.confirmed();
        // `haproxy -c` does not open the address, and a reload quotes it.
        if mode == "command" {
            let said = format!("[ALERT] (1) : Starting frontend in: cannot bind [/{SECRET}.sock]");
            let reload = format!("#!/bin/sh\necho '{said}'\nexit 1\n");
            stage.setup.script("reload", &reload).unwrap();
        }
        let nowhere = "    bind \"unix@@dir@none/${API_TOKEN}.sock\"";
        stage.template("", &format!("{bind}\n{nowhere}"));
        // A command that fails says nothing of the set, which is tried again.
        let told = |status: &Value| match mode {
            "command" => status["not_applied"].to_string(),
            _ => status["held"]["why"].to_string(),
        };
        let hidden = mode == "command" || mode == "master" && version.tells_why_a_reload_failed();
        stage.until("the failure", |status| {
            let told = told(status);
            told != "null" && (!hidden || told.contains("(hidden)"))
        });
        let status = stage.setup.status().unwrap().to_string();
        let log = stage.gatewright.as_ref().unwrap().log();
        let kept = std::fs::read_dir(stage.setup.directory().join("state/rejected"));
        let reasons = kept
            .into_iter()
            .flatten()
            .map(|set| std::fs::read_to_string(set.unwrap().path().join("reason.txt")).unwrap());
        let state = stage.setup.read("state/state.json").unwrap();
        for text in reasons.chain([status, log, state]) {
            assert!(!text.contains(SECRET), "{mode}: {text}");
        }
        assert!(stage.answers(), "{mode}");
        stage.end();
    }
}

// L07 L12
#[test]
fn a_secret_in_open_settings_is_warned_of_at_the_start() {
    let mut stage = Stage::new(&support::haproxies::oldest());
    stage.template("", "    bind 127.0.0.1:@port@");
    stage.settings("supervise", "environment = [\"API_TOKEN=s3cr3t-t0ken\"]");
    let settings = stage.setup.path("gatewright.toml");
    std::fs::set_permissions(&settings, PermissionsExt::from_mode(0o644)).unwrap();
    stage.run();
    stage.confirmed();
    stage.warns(&[
        &format!("Everybody on this machine can read the settings file {settings}"),
        "the value of API_TOKEN",
    ]);
    let status = stage.setup.status().unwrap().to_string();
    let log = stage.gatewright.as_ref().unwrap().log();
    assert!(
        !log.contains("s3cr3t") && !status.contains("s3cr3t"),
        "{log}"
    );
    stage.end();
}
