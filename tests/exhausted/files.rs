//! Files that are no files or far too large, and a system that does not tell of changes.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use serde_json::Value;

use super::{LIMIT, warns};
use support::consul::Consul;
use support::scene::{Given, Scene, TEMPLATE};
use support::{temp, usage};

/// What memory a program may take that reads no more than it may, in MB; a build for tests is a large one.
const MEMORY: f64 = 150.0;

fn given(consul: &Consul) -> Given {
    Given::consul(&consul.url()).instances(consul, &["one"])
}

fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn pipe(path: &Path) {
    remove(path);
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
}

fn zero(path: &Path) {
    remove(path);
    symlink("/dev/zero", path).unwrap();
}

/// A gigabyte of nothing.
fn sparse(path: &Path) {
    remove(path);
    std::fs::File::create(path)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
}

fn socket(path: &Path) {
    remove(path);
    drop(UnixListener::bind(path).unwrap());
}

type Fault = (fn(&Path), &'static str);

fn is(one: fn(&Path), other: fn(&Path)) -> bool {
    std::ptr::fn_addr_eq(one, other)
}

const FAULTS: [Fault; 4] = [
    (pipe, "it is not a regular file"),
    (zero, "it is not a regular file"),
    (sparse, "it has more than 16 MiB"),
    (socket, "it is not a regular file"),
];

fn says(status: &Value, list: &str, words: &str) -> bool {
    let texts = status[list].as_array().into_iter().flatten();
    texts
        .filter_map(Value::as_str)
        .any(|text| text.contains(words))
}

fn is_small(scene: &mut Scene) {
    let (_, most) = usage::memory(scene.gatewright.process().pid()).unwrap();
    assert!(most < MEMORY, "{most} MB");
}

// D11 E13 M07
#[test]
fn a_template_that_is_no_file_is_told_and_the_last_good_one_stays() {
    let consul = Consul::start().unwrap();
    let given = given(&consul)
        .set(
            "templates",
            "partials = \"{dir}/partials\"\nfiles = \"{dir}/files\"",
        )
        .template(&TEMPLATE.replace("# note", "# {{file \"text\"}}\n    # note"));
    given.setup.file("partials/p.hbs", "# partial").unwrap();
    given.setup.file("files/text", "read").unwrap();
    let mut scene = given.serve();
    for name in ["haproxy.cfg.hbs", "partials/p.hbs", "files/text"] {
        let path = scene.setup.directory().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        for (fault, words) in FAULTS {
            fault(&path);
            // A partial that is no file is none, as before; a file that is read may have a mebibyte.
            let told = match name {
                "haproxy.cfg.hbs" => words,
                "files/text" if is(fault, sparse) => "it has more than 1 MiB",
                "files/text" if is(fault, zero) => "it lies outside of templates.files",
                "files/text" => words,
                _ if is(fault, sparse) => words,
                _ => "",
            };
            if !told.is_empty() {
                scene.until(&format!("the fault of {name}"), |status| {
                    says(status, "template_errors", told)
                });
            }
            remove(&path);
            std::fs::write(&path, &text).unwrap();
            scene.confirmed("the end of the fault", |status| {
                status["template_errors"]
                    .as_array()
                    .is_some_and(Vec::is_empty)
            });
        }
        scene.goes_on(&consul, name);
    }
    is_small(&mut scene);
    scene.end();
}

// J04 M07
#[test]
fn settings_that_are_no_file_are_told_and_those_read_before_stay() {
    let consul = Consul::start().unwrap();
    let mut scene = given(&consul).serve();
    let path = scene.setup.directory().join("gatewright.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    for (fault, words) in FAULTS {
        fault(&path);
        scene.gatewright.reload();
        scene.until("the fault", |status| says(status, "settings_errors", words));
        remove(&path);
        std::fs::write(&path, &text).unwrap();
        scene.gatewright.reload();
        scene.confirmed("the end of the fault", |status| {
            status["settings_errors"]
                .as_array()
                .is_some_and(Vec::is_empty)
        });
    }
    scene.goes_on(&consul, "after");
    is_small(&mut scene);
    scene.end();
}

/// Every other file that a command reads is named with its fault, within the time and the memory of a small one.
#[test]
fn no_command_reads_what_is_no_file() {
    let consul = Consul::start().unwrap();
    let given = given(&consul);
    let setup = &given.setup;
    let odd = setup.directory().join("odd");
    let settings = |more: &str| {
        let text = format!(
            "[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/haproxy.cfg\"\n\
             [state]\ndirectory = \"{{dir}}/state\"\n{more}"
        );
        setup.settings(&text).unwrap();
    };
    let calls: [(&str, &[&str]); 8] = [
        ("", &["render", "--catalog", "odd", "-c", "gatewright.toml"]),
        (
            "",
            &[
                "check",
                "haproxy.cfg.hbs",
                "odd.json",
                "-c",
                "gatewright.toml",
            ],
        ),
        ("", &["migrate", "odd"]),
        ("", &["render", "-c", "odd"]),
        (
            "[consul]\ntoken_file = \"{dir}/odd\"\n",
            &["run", "-c", "gatewright.toml"],
        ),
        (
            "[consul]\naddresses = [\"https://127.0.0.1:1\"]\ntls.ca_file = \"{dir}/odd\"\n",
            &["run", "-c", "gatewright.toml"],
        ),
        (
            "[catalog]\nsource = \"file\"\nfile = \"{dir}/odd\"\n",
            &["render", "-c", "gatewright.toml"],
        ),
        (
            "[haproxy]\nmode = \"signal\"\npid_file = \"{dir}/odd\"\n",
            &["check", "-c", "gatewright.toml"],
        ),
    ];
    symlink("odd", setup.directory().join("odd.json")).unwrap();
    for (fault, _) in FAULTS {
        fault(&odd);
        for (more, words) in calls {
            settings(more);
            let mut command = setup.command(words).unwrap();
            // No more addresses than a build for tests needs.
            let limited = format!("ulimit -v {}; exec \"$@\"", 700 << 10);
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-c", &limited, "sh"])
                .arg(command.get_program());
            shell
                .args(command.get_args())
                .current_dir(setup.directory());
            command = shell;
            let began = Instant::now();
            let output = command.output().unwrap();
            assert!(began.elapsed() < LIMIT, "{words:?}");
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            if more.contains("pid_file") {
                continue; // It is only read where HAProxy is told.
            }
            let named = ["is not a regular file", "has more than"];
            assert!(
                output.status.code().is_some_and(|code| code > 0)
                    && named.iter().any(|words| said.contains(words)),
                "{words:?}: {said}"
            );
        }
    }
}

/// Starts Gatewright where a limit of its user namespace is 0.
fn without(limit: &str) -> Vec<String> {
    let script = format!("echo 0 > /proc/sys/user/{limit}; exec \"$@\"");
    ["unshare", "-Ur", "sh", "-ec", &script, "sh"]
        .map(str::to_owned)
        .to_vec()
}

// D11 E13
#[test]
fn without_inotify_templates_and_settings_are_looked_at_every_two_seconds() {
    // Far less than the comparison that is made in any case, every 30 s.
    let soon = Duration::from_secs(12);
    for (limit, cause) in [
        ("max_inotify_instances", "max_user_instances"),
        ("max_inotify_watches", "max_user_watches"),
    ] {
        let consul = Consul::start().unwrap();
        let given = given(&consul)
            .set("templates", "partials = \"{dir}/partials\"")
            .through(&without(limit));
        std::fs::create_dir(given.setup.directory().join("partials")).unwrap();
        let mut scene = given.serve();
        scene.until("the warning", |status| warns(status, &["every 2 s", cause]));
        let began = Instant::now();
        scene.template(&TEMPLATE.replace("# note", "# first\n    # note"));
        scene.confirmed("the new template", |_| scene.file().contains("# first\n"));
        assert!(began.elapsed() < soon, "{:?}", began.elapsed());
        // A file that is renamed over, a new partial, and the settings.
        let began = Instant::now();
        let text = scene.setup.read("haproxy.cfg.hbs").unwrap();
        let text = text.replace("# first", "# {{> second}}");
        scene.setup.file("partials/second.hbs", "second").unwrap();
        scene.setup.file("new", &text).unwrap();
        let at = |name: &str| scene.setup.directory().join(name);
        std::fs::rename(at("new"), at("haproxy.cfg.hbs")).unwrap();
        scene.confirmed("the renamed template", |_| {
            scene.file().contains("# second\n")
        });
        let settings = scene.setup.read("gatewright.toml").unwrap();
        let settings = settings.replace("[state]", "[parameters]\na = \"b\"\n\n[state]");
        scene.setup.file("gatewright.toml", &settings).unwrap();
        scene.logged(&["The settings file has changed and is read again."]);
        assert!(began.elapsed() < 2 * soon, "{:?}", began.elapsed());
        assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
    }
}

// D11
#[test]
fn without_inotify_a_catalog_file_is_followed() {
    let place = temp::directory().unwrap();
    let catalog = place.path().join("catalog.json");
    let consul = Consul::start().unwrap();
    let mut scene_of = given(&consul).set(
        "catalog",
        &format!("source = \"file\"\nfile = {:?}", catalog.display()),
    );
    scene_of = scene_of.through(&without("max_inotify_instances"));
    let write = |note: &str| {
        let text = format!(
            "{{ \"services\": {{ \"web\": [{{ \"Address\": \"127.0.0.1\", \"Port\": 9, \"ID\": \"one\" }}] }}, \"keys\": {{ \"note\": {note:?} }} }}"
        );
        std::fs::write(&catalog, text).unwrap();
    };
    write("first");
    let mut scene = scene_of.run();
    scene.follows("first");
    write("second");
    scene.follows("second");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}
