//! Faults: whatever breaks, the last good configuration serves on, the message says what and where, and
//! when it is mended everything goes on by itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::oldest;
use support::scene::{Given, TEMPLATE};
use support::traffic::send;
use support::{ports, process, script, temp, wait_for};

pub mod files;

const LIMIT: Duration = Duration::from_secs(30);

/// Two instances of one service.
fn given(consul: &Consul) -> Given {
    Given::consul(&consul.url()).instances(consul, &["one", "two"])
}

fn first(status: &Value, list: &str) -> String {
    let list = match list {
        "held" => &status["held"]["why"],
        list => &status[list],
    };
    list[0].as_str().unwrap_or_default().to_owned()
}

fn assert_parts(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

// D02 D05
#[test]
fn a_broken_template_leaves_the_old_one_in_force() {
    let consul = Consul::start().unwrap();
    let given = given(&consul).set("templates", "partials = \"{dir}/partials\"");
    given.setup.file("partials/a.hbs", "    # a\n").unwrap();
    given.setup.file("partials/b.hbs", "    # b\n").unwrap();
    let scene = given.serve();
    let before = scene.file();
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "\n{{/each}}",
            "",
            &[
                "haproxy.cfg.hbs:14:1",
                "The block `each` is opened here and never closed.",
            ],
        ),
        (
            "serverAddress",
            "serverAdress",
            &[
                "haproxy.cfg.hbs:15:",
                "There is no helper `serverAdress`.",
                "Did you mean `serverAddress`?",
            ],
        ),
        (
            "service \"web\"",
            "service",
            &["haproxy.cfg.hbs:14:", "`service`"],
        ),
        (
            "    # note",
            "{{> missing}}\n    # note",
            &["haproxy.cfg.hbs:13:5", "There is no partial `missing`."],
        ),
    ];
    for (find, put, parts) in cases {
        let broken = TEMPLATE.replace(find, put);
        assert_ne!(broken, TEMPLATE);
        scene.template(&broken);
        let status = scene.until("the error of the template", |status| {
            status["state"] == "held" && first(status, "template_errors").contains(parts[1])
        });
        assert_parts(&first(&status, "template_errors"), parts);
        // The catalog is followed all the same, through the old template.
        scene.template(TEMPLATE);
        scene.confirmed("the mended template", |status| {
            first(status, "template_errors").is_empty()
        });
        assert_eq!(scene.file(), before);
    }

    scene.setup.file("partials/a.hbs", "{{> b}}\n").unwrap();
    scene.setup.file("partials/b.hbs", "{{> a}}\n").unwrap();
    scene.template(&TEMPLATE.replace("    # note", "{{> a}}\n    # note"));
    let status = scene.until("the error of the cycle", |status| {
        first(status, "template_errors").contains("without end")
    });
    assert_parts(
        &first(&status, "template_errors"),
        &["Partials include each other without end: a → b → a."],
    );
    scene
        .setup
        .file("partials/b.hbs", "    # mended\n")
        .unwrap();
    scene.confirmed("the mended partial", |_| {
        scene.file().contains("    # mended\n")
    });
    scene.goes_on(&consul, "after");
    scene.end();
}

// D02
#[test]
fn an_error_while_templates_are_broken_does_not_stop_the_catalog() {
    let consul = Consul::start().unwrap();
    let scene = given(&consul).serve();
    scene.template("{{#each");
    scene.until("the error of the template", |status| {
        !first(status, "template_errors").is_empty()
    });
    consul.set_key("note", "meanwhile").unwrap();
    scene.wait("the change through the old template", || {
        let file = scene.setup.read("haproxy.cfg").ok()?;
        file.contains("# note: meanwhile\n").then_some(())
    });
    scene.end();
}

// F01
#[test]
fn what_haproxy_refuses_is_told_at_the_line_of_the_template() {
    let consul = Consul::start().unwrap();
    let scene = given(&consul).serve();
    let before = scene.file();
    scene.template(&TEMPLATE.replace("{{serverAddress this}}", "{{serverAddress this}} chek"));
    let status = scene.until("the refusal", |status| status["state"] == "held");
    assert_eq!(status["held"]["by"], "validation");
    assert_parts(
        &first(&status, "held"),
        &[
            "haproxy.cfg.hbs:15:5",
            "unknown keyword 'chek'; did you mean 'check' maybe ?",
        ],
    );
    assert_eq!(scene.file(), before);
    scene.template(&TEMPLATE.replace("{{serverAddress this}}", "{{serverAddress this}} check"));
    scene.confirmed("the mended template", |_| scene.file().contains(" check\n"));
    scene.goes_on(&consul, "after");
    // It was told once, and not tried again. The log is written beside the status, a moment later.
    scene
        .gatewright
        .wait_for_log(LIMIT, &["is refused."])
        .unwrap();
    let log = scene.gatewright.log();
    assert_eq!(log.matches("is refused.").count(), 1, "{log}");
    scene.end();
}

// F05
#[test]
fn a_new_address_that_is_taken_pauses_nobody() {
    let consul = Consul::start().unwrap();
    let scene = given(&consul).serve();
    let reloads = scene.setup.status().unwrap()["haproxy"]["reloads"].clone();
    let [port] = ports::free().unwrap();
    let taken = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let other = TcpListener::bind(taken).unwrap();
    let two = TEMPLATE.replace(
        "    default_backend",
        &format!("    bind {taken}\n    default_backend"),
    );
    scene.template(&two);
    let status = scene.until("the refusal", |status| status["state"] == "held");
    assert_parts(
        &first(&status, "held"),
        &[
            "haproxy.cfg.hbs:10:10",
            &format!("Another program listens on {taken} already"),
        ],
    );
    // HAProxy was not told: at a reload that meets a taken address it listens nowhere for two seconds.
    assert_eq!(status["haproxy"]["reloads"], reloads);
    drop(other);
    // What was refused is tried again when something differs.
    consul.set_key("note", "free").unwrap();
    scene.wait("the second address", || {
        (send(taken, 1).ok() == 1).then_some(())
    });
    scene.end();
}

// F02 G18
#[test]
fn the_gate_refuses_what_haproxy_would_take() {
    let consul = Consul::start().unwrap();
    let scene = given(&consul)
        .set("gate", "min_servers = { web = 2 }")
        .serve();
    consul.deregister("one").unwrap();
    let status = scene.until("the refusal", |status| status["state"] == "held");
    assert_parts(
        &first(&status, "held"),
        &[
            "haproxy.cfg.hbs:12:1",
            "The backend `web` has 1 of the 2 servers it must have.",
        ],
    );
    scene.all_serve(&[]);
    scene.wait("answers of both", || {
        let recent = scene.look(|report| report.recent(20))?;
        (recent.len() == 2).then_some(())
    });
    let third = Backend::start("three").unwrap();
    consul
        .register_instance("web", "three", third.address())
        .unwrap();
    scene.confirmed("the third instance", |_| scene.file().contains("three"));

    let [other] = ports::free().unwrap();
    scene.template(&TEMPLATE.replace("@bind@", &format!("127.0.0.1:{other}")));
    let status = scene.until("the listener that waits", |status| {
        status["state"] == "guarded"
    });
    let waits = &status["listeners"][0];
    assert_eq!(waits["address"], scene.entrance.to_string());
    assert_eq!(waits["section"], "frontend in");
    scene.all_serve(&["two"]);
    scene.template(TEMPLATE);
    scene.goes_on(&consul, "after");
    scene.end();
}

/// Does as HAProxy does, unless a file beside it says otherwise.
fn wrapper(directory: &Path) -> PathBuf {
    let path = directory.join("wrapper");
    let text = format!(
        "#!/bin/sh\n\
         case \" $* \" in *' -c '*)\n\
         if [ -e {dir}/kill ]; then kill -9 $$; fi\n\
         if [ -e {dir}/hang ]; then echo $$ > {dir}/pid; sleep 600 & wait; fi\n\
         ls -l /proc/$$/fd > {dir}/fds\n\
         if [ -e {dir}/slow ]; then\n\
         mkdir {dir}/one || touch {dir}/two; echo x >> {dir}/count; sleep 0.5\n\
         {haproxy} \"$@\"; code=$?; rmdir {dir}/one; exit $code; fi\n\
         ;; esac\nexec {haproxy} \"$@\"\n",
        dir = directory.display(),
        haproxy = oldest().program().display(),
    );
    script::write(&path, &text).unwrap();
    path
}

// F06 F07 F11 F12
#[test]
fn a_validation_that_is_killed_or_hangs_is_never_a_yes() {
    let directory = temp::directory().unwrap();
    let consul = Consul::start().unwrap();
    let scene = given(&consul)
        .binary(&wrapper(directory.path()))
        .set("haproxy", "validate_timeout = \"3s\"")
        .serve();
    let before = scene.file();

    std::fs::write(directory.path().join("kill"), "").unwrap();
    consul.set_key("note", "killed").unwrap();
    scene.logged(&[
        "HAProxy's validation was killed by signal 9, so nothing was changed.",
        "The last good configuration stays in force; trying again in",
    ]);
    assert_eq!(scene.file(), before);
    std::fs::remove_file(directory.path().join("kill")).unwrap();
    scene.goes_on(&consul, "killed");

    let before = scene.file();
    std::fs::write(directory.path().join("hang"), "").unwrap();
    consul.set_key("note", "hung").unwrap();
    let line = scene.logged(&["HAProxy's validation could not be run"]);
    assert_parts(&line, &["wrapper did not end within 3 s and was killed"]);
    assert_eq!(scene.file(), before);
    std::fs::remove_file(directory.path().join("hang")).unwrap();
    let hung: u32 = std::fs::read_to_string(directory.path().join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    wait_for(LIMIT, "the end of the validation that hangs", || {
        (!process::exists(hung)).then_some(())
    })
    .unwrap();
    scene.goes_on(&consul, "hung");

    // A slow one: changes meanwhile wait, the newest wins, and never do two run at once.
    let slow = directory.path().join("slow");
    std::fs::write(&slow, "").unwrap();
    for number in 0..20 {
        consul.set_key("note", &format!("n-{number}")).unwrap();
    }
    scene.goes_on(&consul, "newest");
    std::fs::remove_file(slow).unwrap();
    let count = std::fs::read_to_string(directory.path().join("count")).unwrap();
    let count = count.lines().count();
    assert!(
        (1..20).contains(&count),
        "{count} validations of 21 changes"
    );
    assert!(!directory.path().join("two").exists(), "two ran at once");
    // Nothing that is open in Gatewright, or was when it was started, reaches a validator (F11).
    let open = std::fs::read_to_string(directory.path().join("fds")).unwrap();
    for line in open.lines() {
        let Some((about, target)) = line.split_once(" -> ") else {
            continue;
        };
        let number: u32 = about.rsplit(' ').next().unwrap().parse().unwrap();
        // What the shell opens for itself is at 10 and a little above.
        let known = matches!(number, 0..=2 | 10..=15);
        assert!(
            known && !target.contains("socket:") && !target.contains("anon_inode"),
            "{open}"
        );
    }
    scene.end();
}
