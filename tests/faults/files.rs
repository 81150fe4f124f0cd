//! Faults of the files: a full disk, swapped templates, several files of a set, and kills at any moment.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{LIMIT, assert_parts, first, given};
use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::oldest;
use support::haproxy::{HAProxy, check};
use support::scene::{TEMPLATE, filled};
use support::traffic::{Limits, Traffic};
use support::{ports, temp, wait_for};

/// A small file system of its own, gone with the value.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn mount(at: PathBuf) -> Disk {
        Disk::with(at, "size=128k")
    }

    /// With these limits, in the words of tmpfs.
    pub fn with(at: PathBuf, limits: &str) -> Disk {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("{limits},mode=755");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &at);
        Disk(at)
    }

    pub fn writable(&self, yes: bool) {
        let how = if yes { "remount,rw" } else { "remount,ro" };
        mount(&["-o", how], &self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(words: &[&str], at: &Path) {
    let output = Command::new("mount").args(words).arg(at).output().unwrap();
    assert!(
        output.status.success(),
        "This test mounts a small file system, which only root may: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

// E01 E05 E07
#[test]
fn a_full_or_read_only_disk_keeps_the_file_that_is_there() {
    let place = temp::directory().unwrap();
    let disk = Disk::mount(place.path().join("disk"));
    let consul = Consul::start().unwrap();
    let given = given(&consul).destination("etc/haproxy.cfg");
    symlink(&disk.0, given.setup.directory().join("etc")).unwrap();
    let mut scene = given.serve();
    let before = scene.file();

    let filler = disk.0.join("filler");
    // As much as fits.
    let _ = std::fs::write(&filler, vec![0; 1 << 20]);
    consul.set_key("note", "full").unwrap();
    let line = scene.logged(&["the disk is full. Free some space on that file system."]);
    assert_parts(
        &line,
        &[
            "Cannot write ",
            "/.haproxy.cfg.gatewright-new: the disk is full.",
            "The files that HAProxy reads are as they were.",
            "The last good configuration stays in force; trying again in",
        ],
    );
    assert_eq!(scene.file(), before);
    std::fs::remove_file(&filler).unwrap();
    scene.goes_on(&consul, "full");

    let before = scene.file();
    disk.writable(false);
    consul.set_key("note", "fixed").unwrap();
    let line = scene.logged(&["the file system is read-only."]);
    assert_parts(
        &line,
        &["Mount it writable or choose another destination (under systemd: ReadWritePaths)."],
    );
    assert_eq!(scene.file(), before);
    // Found at a start it is a mistake: told at once. Settings that are read again go on holding.
    let settings = scene.setup.path("gatewright.toml");
    let output = scene.setup.call(&["run", "-c", &settings]).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_parts(
        &String::from_utf8_lossy(&output.stderr),
        &["haproxy.cfg: the file system is read-only. Mount it writable"],
    );
    scene.gatewright.reload();
    scene.logged(&["trying again in 4 s"]);
    assert_eq!(scene.file(), before);
    disk.writable(true);
    scene.goes_on(&consul, "fixed");
    assert_eq!(leftovers(&disk.0), BTreeSet::new());
    scene.end();
}

/// What staging and swapping leave beside the files while they are at work.
fn leftovers(directory: &Path) -> BTreeSet<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("gatewright-"))
        .collect()
}

// D11 E13
#[test]
fn a_template_that_is_swapped_as_a_config_map_is_picked_up() {
    let consul = Consul::start().unwrap();
    let given = given(&consul);
    let setup = &given.setup;
    let (template, map) = (
        setup.directory().join("haproxy.cfg.hbs"),
        setup.directory().join("map"),
    );
    let text = setup.read("haproxy.cfg.hbs").unwrap();
    setup.file("map/..one/haproxy.cfg.hbs", &text).unwrap();
    let text = text.replace("    # note", "    # swapped\n    # note");
    setup.file("map/..two/haproxy.cfg.hbs", &text).unwrap();
    std::fs::remove_file(&template).unwrap();
    symlink("..one", map.join("..data")).unwrap();
    symlink("..data/haproxy.cfg.hbs", map.join("haproxy.cfg.hbs")).unwrap();
    symlink("map/haproxy.cfg.hbs", &template).unwrap();
    let scene = given.serve();
    assert!(!scene.file().contains("swapped"));
    symlink("..two", map.join("..new")).unwrap();
    std::fs::rename(map.join("..new"), map.join("..data")).unwrap();
    scene.confirmed("the swapped template", |_| {
        scene.file().contains("# swapped\n")
    });
    scene.goes_on(&consul, "after");
    scene.end();
}

const WITH_MAP: &str = r#"defaults
    mode http
    option idle-close-on-response
    errorfile 503 @dir@/503.http
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
    use_backend %[path,map_beg(@dir@/paths.map)] if { path,map_beg(@dir@/paths.map) -m found }
    default_backend web

backend web
    # note: {{keyOrDefault "note" "none"}}
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}

backend {{keyOrDefault "second" "other"}}
    http-request return status 200 content-type text/plain string second
"#;

// D14 F10 L06
#[test]
fn a_set_of_three_files_is_swapped_as_one() {
    let consul = Consul::start().unwrap();
    let given = given(&consul).template(WITH_MAP).more(
        "[[template]]\nsource = \"paths.map.hbs\"\ndestination = \"{dir}/paths.map\"\nkind = \"map\"\n\n\
         [[template]]\nsource = \"503.http.hbs\"\ndestination = \"{dir}/503.http\"\nkind = \"other\"\n",
    );
    given
        .setup
        .file(
            "paths.map.hbs",
            "/second {{keyOrDefault \"second\" \"other\"}}{{keyOrDefault \"suffix\" \"\"}}\n",
        )
        .unwrap();
    given
        .setup
        .file(
            "503.http.hbs",
            "HTTP/1.0 503 Unavailable\r\nX-Note: {{keyOrDefault \"note\" \"none\"}}\r\nContent-Length: 0\r\n\r\n",
        )
        .unwrap();
    let scene = given.serve();
    let second = || {
        support::http::get(scene.entrance, "/second")
            .map(|answer| answer.body)
            .unwrap_or_default()
    };
    assert_eq!(second(), "second");
    // The backend's name and the map's value change together; neither fits the other's old form.
    consul.set_key("second", "renamed").unwrap();
    scene.confirmed("the renamed backend", |_| {
        scene
            .setup
            .read("paths.map")
            .is_ok_and(|text| text == "/second renamed\n")
    });
    assert_eq!(second(), "second");
    scene.goes_on(&consul, "three");
    assert_parts(
        &scene.setup.read("503.http").unwrap(),
        &["X-Note: three\r\n"],
    );

    let names = ["haproxy.cfg", "paths.map", "503.http"];
    let before = names.map(|name| scene.setup.read(name).unwrap());
    consul.set_key("suffix", "x").unwrap();
    let status = scene.until("the refusal", |status| status["state"] == "held");
    assert_parts(
        &first(&status, "held"),
        &[
            "paths.map.hbs:1:1",
            "There is no backend `(hidden)`, which `use_backend` on line 11 may choose.",
            // The other value is a key's.
            "Did you mean `(hidden)`?",
        ],
    );
    assert_eq!(names.map(|name| scene.setup.read(name).unwrap()), before);
    assert_eq!(second(), "second");
    consul.delete_key("suffix").unwrap();
    scene.goes_on(&consul, "after");
    // Whatever things are called in the catalog, files are written where the settings say (L06).
    let evil = Backend::start("evil").unwrap();
    consul
        .register_instance("web", "../../evil", evil.address())
        .unwrap();
    consul.set_key("second", "../evil").unwrap();
    scene.until("the refusal", |status| status["state"] == "held");
    consul.delete_key("second").unwrap();
    scene.goes_on(&consul, "good");
    let mut left = vec![scene.setup.directory().to_owned()];
    while let Some(path) = left.pop() {
        assert!(
            !path.to_string_lossy().contains("evil"),
            "{}",
            path.display()
        );
        if path.is_dir() && !path.is_symlink() {
            let inside = std::fs::read_dir(&path).unwrap();
            left.extend(inside.map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(leftovers(scene.setup.directory()), BTreeSet::new());
    scene.end();
}

// E03 E11 J12
#[test]
fn killed_at_any_moment_it_leaves_a_good_file_and_converges() {
    let consul = Consul::start().unwrap();
    let backends = [
        Backend::start("one").unwrap(),
        Backend::start("two").unwrap(),
    ];
    consul
        .register_instance("web", "one", backends[0].address())
        .unwrap();
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let setup = Setup::new().unwrap();
    let text = filled(TEMPLATE, &setup, entrance);
    let start = format!(
        "{}    server first {}\n",
        text.split("    # note").next().unwrap(),
        backends[0].address()
    );
    let haproxy = HAProxy::start(&oldest(), &start).unwrap();
    let file = haproxy.config();
    setup.file("haproxy.cfg.hbs", &text).unwrap();
    setup
        .settings(&format!(
            "[consul]\naddresses = [\"{}\"]\n\n\
             [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{}\"\n\n\
             [haproxy]\nmode = \"master\"\nbinary = \"{}\"\nmaster_socket = \"{}\"\nmax_old_workers = 50\n\n\
             [apply]\nsettle = \"10ms\"\nreload_interval = \"100ms\"\ncompare_interval = \"1s\"\n\n\
             [state]\ndirectory = \"{{dir}}/state\"\n",
            consul.url(),
            file.display(),
            oldest().program().display(),
            haproxy.master_socket().display(),
        ))
        .unwrap();
    let traffic = Traffic::start(
        entrance,
        Limits {
            clients: 2,
            pause: Duration::from_millis(5),
            requests: 50_000,
            time: Duration::from_secs(150),
        },
    );
    let mut random = moments(0x5eed);
    for round in 0..15 {
        let mut gatewright = setup.run().unwrap();
        // Some rounds are killed at their start, others while a change is under way.
        if round % 3 != 0 {
            converged(&setup, &gatewright);
        }
        consul.set_key("note", &format!("round-{round}")).unwrap();
        if round % 2 == 0 {
            consul
                .register_instance("web", "two", backends[1].address())
                .unwrap();
        } else {
            consul.deregister("two").unwrap();
        }
        std::thread::sleep(Duration::from_millis(random() % 400));
        gatewright.process().kill();
        let (code, output) = check(&oldest(), &file).unwrap();
        assert_eq!(code, 0, "round {round}: {output}");
    }
    let mut gatewright = setup.run().unwrap();
    wait_for(LIMIT, "the last note", || {
        std::fs::read_to_string(&file)
            .ok()?
            .contains("# note: round-14\n")
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    converged(&setup, &gatewright);
    assert_eq!(leftovers(haproxy.directory()), BTreeSet::new());
    wait_for(LIMIT, "answers of both", || {
        let recent = traffic.look(|report| report.recent(20))?;
        (recent.len() == 2).then_some(())
    })
    .unwrap();
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}

fn converged(setup: &Setup, gatewright: &Gatewright) {
    setup
        .wait_for_status(LIMIT, "the worker to confirm", |status| {
            (status["state"] == "confirmed"
                && status["haproxy"]["running"] == status["applied"]["revision"])
                .then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
}

/// The same moments in every run.
fn moments(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    }
}
