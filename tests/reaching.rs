//! The way to HAProxy when a part of it fails: its reload command, its master socket, its program, or all of it.

pub mod stage;
mod two;

use std::time::{Duration, Instant};

use support::haproxies::{Version, haproxies, newest, oldest};

use stage::{COMMAND, GLOBAL, MASTER, SUPERVISE, Stage};

/// Lines before the backend that need a reload.
fn structure(number: u32) -> String {
    format!("backend more-{number}\n    http-request return status 200\n")
}

// G12
#[haproxies(ends)]
fn a_reload_command_that_fails_is_run_again_until_it_works(version: Version) {
    let mut stage = Stage::start(&version, COMMAND, GLOBAL);
    stage.load();
    for (number, (fails, said)) in [
        (
            "echo It is locked.; exit 3",
            "exit status: 3. It is locked.",
        ),
        ("kill -9 $$", "signal: 9"),
        ("head -c 100000 /dev/urandom; exit 1", "exit status: 1"),
    ]
    .into_iter()
    .enumerate()
    {
        let number = number as u32;
        stage.setup.file("broken", fails).unwrap();
        stage.template(GLOBAL, &structure(number));
        stage.logged(&["The reload command ended with", said, "trying again in 2 s"]);
        let status = stage.until("a status", |status| {
            status["failure"].is_string() || status["state"] != "confirmed"
        });
        assert!(!status.to_string().contains("by\":\"haproxy"), "{status}");
        if number == 1 {
            stage.restart();
            stage.logged(&["trying again in 1 s"]);
        }
        // Servers do not wait for it.
        std::fs::remove_file(stage.path("broken")).unwrap();
        stage.follows(&format!("backend more-{number}\n"));
    }
    stage.register(2);
    stage.serves(&["one", "two"]);
    stage.no_failure();
}

/// What becomes of the master socket's path.
fn take(stage: &Stage, by: &str) {
    std::fs::remove_file(stage.path("master.sock")).unwrap();
    match by {
        "a file" => std::fs::write(stage.path("master.sock"), "").unwrap(),
        "a socket that nobody has" => {
            drop(std::os::unix::net::UnixListener::bind(stage.path("master.sock")).unwrap());
        }
        _ => {}
    }
}

// H01 G08
#[haproxies(ends)]
fn a_haproxy_without_its_master_socket_takes_commands_and_reloads(version: Version) {
    for by in ["nothing", "a file", "a socket that nobody has"] {
        let mut stage = Stage::start(&version, MASTER, GLOBAL);
        stage.load();
        take(&stage, by);
        stage.until("a warning", |status| {
            let said = status["warnings"].to_string();
            said.contains("nothing answers on its master socket")
                && said.contains("Restart HAProxy")
        });
        let commands =
            |stage: &Stage| stage.until("a status", |_| true)["haproxy"]["by_commands"].as_u64();
        let before = commands(&stage);
        stage.register(2);
        stage.serves(&["one", "two"]);
        stage.confirmed("the second instance", |_| {
            stage.file().matches("    server ").count() == 2
        });
        assert!(commands(&stage) > before, "{version}, {by}");
        stage.template(GLOBAL, &structure(1));
        stage.follows("backend more-1\n");
        stage.logged(&["reload by SIGUSR2, because the master socket is gone"]);
        // A Gatewright that has never seen the socket finds the process.
        stage.restart();
        stage.template(GLOBAL, &structure(2));
        stage.follows("backend more-2\n");
        stage.register(3);
        stage.serves(&["one", "three", "two"]);
        stage.no_failure();
        // A restart of HAProxy brings the socket back.
        let _ = std::fs::remove_file(stage.path("master.sock"));
        stage.kill_haproxy();
        stage.confirmed("no warning", |status| {
            !status["warnings"].to_string().contains("master socket")
                && status["haproxy"]["reachable"] == true
                && stage.path("master.sock").exists()
        });
        stage.template(GLOBAL, &structure(3));
        stage.follows("backend more-3\n");
    }
}

// H01
#[haproxies(ends)]
fn without_any_socket_a_reload_brings_the_master_socket_back(version: Version) {
    let mut stage = Stage::start(&version, MASTER, "");
    stage.load();
    take(&stage, "nothing");
    stage.until("a warning", |status| {
        status["warnings"]
            .to_string()
            .contains("nothing answers on its master socket")
    });
    stage.register(2);
    stage.serves(&["one", "two"]);
    stage.confirmed("the second instance", |status| {
        stage.file().matches("    server ").count() == 2
            && !status["warnings"].to_string().contains("master socket")
    });
    stage.logged(&["reload by SIGUSR2, because the master socket is gone"]);
    assert!(stage.path("master.sock").exists());
    stage.no_failure();
}

// H01 G08
#[haproxies(ends)]
fn a_supervised_haproxy_without_its_socket_is_reloaded_and_never_doubled(version: Version) {
    let mut stage = Stage::start(&version, SUPERVISE, GLOBAL);
    stage.load();
    take(&stage, "nothing");
    stage.template(GLOBAL, &structure(1));
    stage.follows("backend more-1\n");
    // The next Gatewright adopts it.
    stage.restart();
    stage.template(GLOBAL, &structure(2));
    stage.follows("backend more-2\n");
    stage.register(2);
    stage.serves(&["one", "two"]);
    stage.no_failure();
    let log = stage.gatewright.log();
    assert!(log.contains("adopted the HAProxy that runs"), "{log}");
    support::gatewright::end_with_haproxy(&mut stage.gatewright).unwrap();
    assert!(
        std::net::TcpStream::connect(stage.entrance).is_err(),
        "a second one listens"
    );
}

// F04
#[test]
fn a_haproxy_exchanged_for_another_version_is_reloaded_at_once() {
    for (from, to) in [(newest(), oldest()), (oldest(), newest())] {
        let mut stage = Stage::start(&from, MASTER, GLOBAL);
        stage.load();
        stage.exchange(&to);
        let began = Instant::now();
        stage.template(GLOBAL, &structure(1));
        stage.follows("backend more-1\n");
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{from} to {to}: {:?}",
            began.elapsed()
        );
        stage.until("the version", |status| {
            let version = status["haproxy"]["version"].as_str().unwrap_or_default();
            version.starts_with(&to.name())
        });
        // And on it goes: by commands and by reloads.
        stage.register(2);
        stage.serves(&["one", "two"]);
        stage.template(GLOBAL, &structure(2));
        stage.follows("backend more-2\n");
        stage.no_failure();
        assert_eq!(stage.ends(), 0);
    }
}

// G08 J04
#[haproxies(ends)]
fn an_absent_haproxy_is_waited_for_once(version: Version) {
    let mut stage = Stage::start(&version, MASTER, GLOBAL);
    stage.without_haproxy();
    stage.register(2);
    let servers = |stage: &Stage, count: usize| {
        stage.until("written", |status| {
            status["applied"]["confirmed"] == false
                && stage.file().matches("    server ").count() == count
        });
    };
    servers(&stage, 2);
    for (number, count) in [(1, 1), (2, 3), (3, 2)] {
        let began = Instant::now();
        stage.register(count);
        stage.template(GLOBAL, &structure(number));
        servers(&stage, count);
        stage.wait("the structure", || {
            stage
                .file()
                .contains(&format!("more-{number}\n"))
                .then_some(())
        });
        assert!(
            began.elapsed() < Duration::from_secs(7),
            "{:?}",
            began.elapsed()
        );
    }
    stage.with_haproxy();
    stage.confirmed("HAProxy is back", |status| {
        status["applied"]["confirmed"] == true
    });
    stage.serves(&["one", "two"]);
    stage.template(GLOBAL, &structure(4));
    stage.follows("backend more-4\n");
}

// J09 J10
/// An earlier Gatewright carried the revision in a variable that all sets shared.
#[haproxies(ends)]
fn a_haproxy_of_an_earlier_gatewright_is_taken_over_without_a_reload(version: Version) {
    let mut stage = Stage::start(&version, MASTER, GLOBAL);
    assert_eq!(stage.gatewright.stop(stage::LIMIT).unwrap(), 0);
    let text = stage.file();
    let variable = support::haproxy::variable_of(&text).unwrap();
    let earlier = text.replace(variable, "proc.gatewright_revision");
    stage.setup.file("haproxy.cfg", &earlier).unwrap();
    // Its state, too.
    for set in std::fs::read_dir(stage.path("state/sets")).unwrap() {
        let set = set.unwrap().path();
        let file = set.join("0-haproxy.cfg");
        let digest = |text: &str| gatewright::catalog::snapshot::digest(text);
        let former = std::fs::read_to_string(&file).unwrap();
        let now = former.replace(variable, "proc.gatewright_revision");
        let manifest = std::fs::read_to_string(set.join("manifest.json")).unwrap();
        let manifest = manifest.replace(&digest(&former), &digest(&now));
        std::fs::write(set.join("manifest.json"), manifest).unwrap();
        std::fs::write(file, now).unwrap();
    }
    stage.kill_haproxy();
    stage.serves(&["one"]);
    stage.restart();
    stage.confirmed("the new variable", |_| stage.file() == text);
    let socket = stage.path("master.sock");
    let processes = support::haproxy::cli(&socket, "show proc").unwrap();
    let master = processes
        .lines()
        .find(|line| line.contains("master"))
        .unwrap();
    assert_eq!(master.split_whitespace().nth(2), Some("0"), "{processes}");
    stage.register(2);
    stage.serves(&["one", "two"]);
    stage.template(GLOBAL, &structure(1));
    stage.follows("backend more-1\n");
}
