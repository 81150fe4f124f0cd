//! What fails: a reload that does not happen or loads other files, a broken configuration of others, Gatewright killed.

use super::*;

// G01 G03
#[haproxies(ends)]
fn a_worker_of_former_files_is_not_confirmed_and_the_files_go_back(version: Version) {
    let mut site = Site::new(&version);
    site.start_haproxy();
    site.settings_with("command", "confirm_timeout = \"2s\"");
    site.stage.run();
    site.confirmed("one");
    site.stage.setup.script("reload", "#!/bin/sh\n").unwrap();
    let page = site.stage.setup.read("403.http").unwrap();
    site.keys(r#"{"hosts/a": "one", "page": "never"}"#);
    site.log(&["was told to load", "runs revision"]);
    site.stage.wait("the former page", || {
        (site.stage.setup.read("403.http").unwrap() == page).then_some(())
    });
    site.answers("/bad", 403, "no");
    assert_ne!(site.stage.setup.status().unwrap()["state"], "confirmed");
    site.stage.end();
}

// G01 G03
#[haproxies(ends)]
fn a_worker_that_has_loaded_another_map_is_not_confirmed(version: Version) {
    let site = Site::confirmed_in(&version, "command");
    // The file is another one while HAProxy loads it.
    let reload = "#!/bin/sh
cd $(dirname $0)
master=$(cat haproxy.pid)
before=$(pgrep -P $master)
cp hosts.map kept
echo '/a foreign' > other
mv other hosts.map
kill -USR2 $master
while test -z \"$(pgrep -P $master | grep -vxF \"$before\")\"; do sleep 0.05; done
while pgrep -P $master | grep -qxF \"$before\"; do sleep 0.05; done
mv kept hosts.map
";
    site.stage.setup.script("reload", reload).unwrap();
    site.keys(r#"{"hosts/a": "one", "page": "never"}"#);
    site.log(&[
        "does not hold that set",
        "hosts.map is another than the file",
    ]);
    assert_ne!(site.stage.setup.status().unwrap()["state"], "confirmed");
    site.stage.end();
}

// E05 I12
#[haproxies(ends)]
fn a_haproxy_with_a_map_mounted_alone_is_told_nothing(version: Version) {
    let mut site = Site::new(&version);
    site.start_haproxy();
    site.stage.haproxy.take().unwrap().stop(LIMIT).unwrap();
    let map = site.stage.setup.path("hosts.map");
    site.haproxy_after(&format!("mount --bind {map} {map}"));
    site.answers("/a", 200, "old");
    site.settings("signal");
    site.stage.run();
    site.log(&["has the single file", &map]);
    assert_eq!(site.stage.setup.read("hosts.map").unwrap(), "/a old\n");
    assert_eq!(site.asks("/a").unwrap().1, "old");
    site.stage.end();
}

// F03 G02
#[haproxies(ends)]
fn a_configuration_of_others_that_is_broken_refuses_each_set(version: Version) {
    let site = Site::confirmed_in(&version, "master");
    let reloads = site.reloads();
    site.configuration("    unknown-keyword", LINES);
    site.keys(r#"{"hosts/a": "two"}"#);
    site.stage.refuses(&["unknown-keyword", "site.cfg"]);
    site.answers("/a", 200, "one");
    assert_eq!(site.stage.setup.read("hosts.map").unwrap(), "/a one\n");
    site.configuration("", LINES);
    site.keys(r#"{"hosts/a": "three"}"#);
    site.confirmed("three");
    assert_eq!(site.reloads(), reloads);
    site.stage.end();
}

// G03 G17
#[haproxies(ends)]
fn a_worker_that_takes_no_commands_is_told_and_keeps_its_files(version: Version) {
    let mut site = Site::new(&version);
    let text = site.stage.setup.read("etc/site.cfg").unwrap();
    let text = text.replace("level admin", "level operator");
    site.stage.setup.file("etc/site.cfg", &text).unwrap();
    site.start_haproxy();
    site.settings("signal");
    site.stage.run();
    site.answers("/a", 200, "one");
    site.stage.warns(&["takes no commands", "level admin"]);
    let reloads = site.reloads();
    site.stop();
    site.stage.run();
    site.stage.warns(&["takes no commands", "level admin"]);
    site.keys(r#"{"hosts/a": "two", "page": "never"}"#);
    site.answers("/a", 200, "two");
    site.answers("/bad", 403, "never");
    assert_eq!(site.reloads(), reloads + 1);
    site.stage.end();
}

// J06 J12
#[test]
fn killed_at_any_place_of_a_change_it_converges_with_one_reload() {
    let mut site = Site::confirmed_in(&oldest(), "master");
    site.stop();
    let settings = site.stage.setup.path("gatewright.toml");
    // Every second place: the next effect of a change follows at once.
    for at in (1..).step_by(2) {
        let (place, page) = (at.to_string(), format!("page {at}"));
        site.keys(&format!(
            "{{\"hosts/a\": \"host{at}\", \"page\": \"{page}\"}}"
        ));
        let words = ["run", "-c", &settings];
        let mut start = site.stage.setup.command(&words).unwrap();
        start.env("GATEWRIGHT_CRASH_AT", &place);
        let log = site.stage.setup.directory().join("killed.log");
        let mut killed = Process::start("Gatewright", &mut start, &log).unwrap();
        let lived = site.stage.wait("an end or the change", || {
            let is_done = || {
                let status = site.stage.setup.status().ok()?;
                (status["state"] == "confirmed" && site.asks("/bad").ok()?.1 == page).then_some(())
            };
            match killed.exit_status() {
                Some(_) => Some(false),
                None => is_done().map(|()| true),
            }
        });
        if lived {
            killed.stop(LIMIT).unwrap();
            assert!(at > 20, "{at} places");
            break;
        }
        site.stage.run();
        site.answers("/bad", 403, &page);
        site.confirmed(&format!("host{at}"));
        let status = site.stage.setup.status().unwrap();
        assert!(
            status["haproxy"]["reloads"].as_u64() <= Some(1),
            "{at}: {status}"
        );
        site.stop();
    }
}
