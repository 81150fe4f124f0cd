//! Sets that HAProxy does not load, or does not survive, although its validation says yes: each is loaded once, and
//! not again before its content, HAProxy's program or the operator's mind has changed. And sets that would serve
//! nothing: they are refused before.

use support::haproxies::{Version, haproxies, newest, oldest};

use crate::reaching::stage::{COMMAND, GLOBAL, MASTER, SIGNAL, SUPERVISE, Stage};

/// Validation binds nothing, so it accepts this.
const UNLOADABLE: &str = "    stats socket {dir}none/x.sock level admin\n";

/// No process can have this user: before 3.1 the master ends over it.
const FATAL: &str = "    uid -1\n";

fn unloadable() -> String {
    format!("{GLOBAL}{UNLOADABLE}")
}

/// Makes it loadable.
fn mend(stage: &Stage) {
    std::fs::create_dir(stage.path("none")).unwrap();
}

/// How often HAProxy's master has begun to load its files.
fn loads(stage: &Stage) -> u64 {
    stage.wait("the master's list", || {
        let text = support::haproxy::cli(&stage.path("master.sock"), "show proc").ok()?;
        let line = text.lines().find(|line| line.contains("master"))?;
        line.split_whitespace().nth(2)?.parse().ok()
    })
}

// G02
#[haproxies(ends)]
fn a_set_that_haproxy_cannot_load_is_loaded_once(version: Version) {
    let mut stage = Stage::start(&version, MASTER, GLOBAL);
    let bad = unloadable();
    stage.load();
    stage.template(&bad, "");
    stage.held(&["by\":\"haproxy", "release --all"]);
    let after = loads(&stage);
    // Neither looks at HAProxy, nor a restart, nor another set in between bring it back to HAProxy.
    stage.looks();
    stage.restart();
    stage.held(&["is not loaded again"]);
    stage.looks();
    assert_eq!(loads(&stage), after);
    let good = format!("{GLOBAL}    nbthread 2\n");
    stage.template(&good, "");
    stage.follows("nbthread 2");
    let after = loads(&stage);
    stage.template(&bad, "");
    stage.held(&["is not loaded again"]);
    stage.looks();
    assert_eq!(loads(&stage), after);
    // The operator has it loaded again, in vain and then well.
    let taken_back = |stage: &Stage| {
        let log = stage.gatewright.log();
        log.matches("HAProxy did not take it").count()
    };
    let before = taken_back(&stage);
    let settings = stage.setup.path("gatewright.toml");
    let released = stage.setup.call(&["release", "--all", "-c", &settings]);
    assert!(released.unwrap().status.success());
    stage.wait("another rejection", || {
        (taken_back(&stage) > before).then_some(())
    });
    assert!(loads(&stage) > after);
    mend(&stage);
    stage.gatewright.reload();
    stage.follows("none/x.sock");
    stage.no_failure();
}

// G02
#[haproxies(ends)]
fn a_set_that_kills_haproxy_is_never_loaded_twice(version: Version) {
    for told in [MASTER, SIGNAL, COMMAND] {
        let mut stage = Stage::start(&version, told, GLOBAL);
        stage.template(&format!("{GLOBAL}{FATAL}"), "");
        stage.held(&["by\":\"haproxy"]);
        let ends = stage.ends();
        if !version.is_oldest() {
            // 3.1 and later outlive it.
            assert_eq!(ends, 0, "{version} {told}");
            stage.serves(&["one"]);
            continue;
        }
        assert_eq!(ends, 1, "{version} {told}");
        stage.until("HAProxy is back", |status| {
            status["haproxy"]["reachable"] == true
        });
        stage.serves(&["one"]);
        // Other servers make another set that would end it, too.
        stage.register(2);
        stage.held(&["ended over this configuration before"]);
        stage.looks();
        stage.restart();
        stage.held(&["by\":\"haproxy"]);
        stage.gatewright.reload();
        stage.looks();
        assert_eq!(stage.ends(), ends, "{version} {told}");
        stage.template(GLOBAL, "");
        stage.confirmed("the good set", |_| !stage.file().contains("uid -1"));
        stage.serves(&["one", "two"]);
    }
}

// G02 G10
#[haproxies(ends)]
fn a_supervised_haproxy_ends_once_over_a_set(version: Version) {
    let mut stage = Stage::start(&version, SUPERVISE, GLOBAL);
    let fatal = "Cannot set uid -1";
    stage.template(&format!("{GLOBAL}{FATAL}"), "");
    stage.held(&["by\":\"haproxy"]);
    let ends = |stage: &Stage| {
        stage
            .gatewright
            .log()
            .matches("\"HAProxy has ended\"")
            .count()
    };
    let before = ends(&stage);
    assert!(before <= 1, "{}", stage.gatewright.log());
    stage.serves(&["one"]);
    stage.register(2);
    stage.looks();
    stage.gatewright.reload();
    stage.looks();
    assert_eq!(ends(&stage), before, "{version}: {fatal}");
    stage.restart();
    stage.held(&["by\":\"haproxy"]);
    stage.looks();
    assert_eq!(ends(&stage), before, "{version}");
    stage.template(GLOBAL, "");
    stage.confirmed("the good set", |_| !stage.file().contains("uid -1"));
    stage.serves(&["one", "two"]);
}

// G02
#[test]
fn another_program_of_haproxy_gets_a_rejected_set_again() {
    let stage = Stage::start(&newest(), MASTER, GLOBAL);
    let bad = unloadable();
    stage.template(&bad, "");
    stage.held(&["by\":\"haproxy"]);
    stage.looks();
    let before = loads(&stage);
    mend(&stage);
    stage.looks();
    assert_eq!(loads(&stage), before, "nobody has said so");
    stage.exchange(&oldest());
    let mut stage = stage;
    stage.restart();
    stage.follows("none/x.sock");
}

/// What makes the sections of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Key,
    File,
}

const WHOLE: &str = "backend first\n    http-request return status 200\n\
                     backend last\n    server s 127.0.0.1:9\n    timeout server 30s";

/// The value becomes this one.
fn write(stage: &Stage, by: By, text: &str) {
    match by {
        By::Key => stage.catalog(1, text),
        By::File => {
            stage.setup.file("more.new", text).unwrap();
            std::fs::rename(stage.path("more.new"), stage.path("files/more.cfg")).unwrap();
        }
    }
}

// F02
#[haproxies(ends)]
fn a_value_that_is_cut_is_refused_until_the_operator_says_that_it_is_meant(version: Version) {
    for by in [By::Key, By::File] {
        let mut stage = Stage::start(&version, MASTER, GLOBAL);
        write(&stage, by, WHOLE);
        let value = match by {
            By::Key => "{{raw (key \"more\")}}\n".to_owned(),
            By::File => "{{raw (file \"more.cfg\")}}\n".to_owned(),
        };
        stage.template(GLOBAL, &value);
        stage.follows("timeout server 30s\n");
        // `haproxy -c` accepts each of them; the first gives servers three milliseconds.
        for (end, why) in [
            ("0s", "in the middle of a line"),
            ("backend last", "backend `last`"),
        ] {
            let (cut, _) = WHOLE.rsplit_once(end).unwrap();
            write(&stage, by, cut);
            stage.held(&[why, "release --all"]);
            stage.restart();
            stage.held(&[why]);
            assert!(stage.file().contains("timeout server 30s\n"), "{by:?}");
            write(&stage, by, WHOLE);
            stage.confirmed("the whole value", |_| true);
        }
        // A whole line less is no cut, and a template may drop the value.
        write(&stage, by, WHOLE.rsplit_once('\n').unwrap().0);
        stage.confirmed("a line less", |_| {
            !stage.file().contains("timeout server 30s\n")
        });
        write(&stage, by, WHOLE.rsplit_once("backend last").unwrap().0);
        stage.held(&["backend `last`"]);
        let settings = stage.setup.path("gatewright.toml");
        let released = stage
            .setup
            .call(&["release", "--all", "-c", &settings])
            .unwrap();
        assert!(released.status.success(), "{by:?}");
        stage.confirmed("what is meant", |_| !stage.file().contains("backend last"));
        stage.template(GLOBAL, "");
        stage.confirmed("no value", |_| !stage.file().contains("backend first"));
    }
}

// F02
#[haproxies(ends)]
fn a_root_that_is_not_there_is_refused_before_haproxy_loads_it(version: Version) {
    for told in [MASTER, SIGNAL, SUPERVISE] {
        let mut stage = Stage::start(&version, told, GLOBAL);
        let root = |name: &str| format!("{GLOBAL}    chroot {{dir}}{name}\n");
        stage.setup.file("file", "").unwrap();
        stage.template(&root("none"), "");
        stage.held(&["none does not exist", "by\":\"validation"]);
        stage.template(&root("file"), "");
        stage.held(&["file is no directory"]);
        assert_eq!(stage.ends(), 0);
        stage.serves(&["one"]);
        std::fs::create_dir(stage.path("none")).unwrap();
        stage.template(&root("none"), "");
        stage.restart();
        stage.confirmed("the root", |_| stage.file().contains("chroot"));
        stage.serves(&["one"]);
    }
}

// F01
#[haproxies(ends)]
fn missing_files_users_and_groups_are_refused_before_the_load(version: Version) {
    let stage = Stage::start(&version, MASTER, GLOBAL);
    let before = loads(&stage);
    for (global, more) in [
        ("    user nobody-of-this-name\n", ""),
        ("    group nobody-of-this-name\n", ""),
        ("    lua-load {dir}none.lua\n", ""),
        (
            "",
            "frontend more\n    bind {dir}more.sock ssl crt {dir}none.pem\n",
        ),
        (
            "",
            "frontend more\n    bind {dir}more.sock ssl crt-list {dir}none.list\n",
        ),
    ] {
        stage.template(&format!("{GLOBAL}{global}"), more);
        let named = format!("{global}{more}");
        let what = if named.contains("nobody") {
            "nobody-of-this-name"
        } else {
            "none."
        };
        stage.held(&[what, "by\":\"validation"]);
        stage.template(GLOBAL, "");
        stage.confirmed("the good set", |_| true);
    }
    assert_eq!(loads(&stage), before);
}
