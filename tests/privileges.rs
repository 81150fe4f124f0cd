//! Gatewright as a user of its own beside an HAProxy of root: what a group lets it do is enough, and what it
//! may not do is named.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::Setup;
use support::haproxies::oldest;
use support::haproxy::HAProxy;
use support::traffic::send;
use support::{ports, tools, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
/// Neither is anybody's on a usual system.
const USER: u32 = 61_234;
const GROUP: u32 = 61_235;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

// I12 L11
#[test]
fn a_user_of_its_own_is_enough_and_what_it_may_not_do_is_named() {
    let consul = Consul::start().unwrap();
    let backend = Backend::start("one").unwrap();
    consul
        .register_instance("web", "one", backend.address())
        .unwrap();
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = format!(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 10s\n    timeout server 10s\n\
         frontend in\n    bind {entrance}\n    default_backend web\nbackend web\n"
    );
    let options = format!("mode 660 gid {GROUP}");
    let haproxy = HAProxy::start_with(&oldest(), &text, &options).unwrap();
    let setup = Setup::new().unwrap().user(USER, GROUP);
    let servers = "{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n";
    setup
        .file("haproxy.cfg.hbs", &format!("{text}{servers}"))
        .unwrap();
    setup
        .settings(&format!(
            "[consul]\naddresses = [\"{}\"]\n\n\
             [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{}\"\n\n\
             [haproxy]\nmode = \"master\"\nbinary = \"{}\"\nmaster_socket = \"{}\"\n\n\
             [apply]\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\n\
             [state]\ndirectory = \"{{dir}}/state\"\n",
            consul.url(),
            haproxy.config().display(),
            oldest().program().display(),
            haproxy.master_socket().display(),
        ))
        .unwrap();
    chown(setup.directory(), Some(USER), Some(GROUP)).unwrap();

    // It may not write there: said at once, with the exit code of wrong settings.
    mode(haproxy.directory(), 0o755);
    let settings = setup.path("gatewright.toml");
    let output = setup.call(&["run", "-c", &settings]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let why =
        "permission is denied. Give the user of Gatewright the right to write in that directory.";
    assert!(said.contains(why), "{said}");

    // It may write, but the socket is root's.
    chown(haproxy.directory(), None, Some(GROUP)).unwrap();
    mode(haproxy.directory(), 0o775);
    chown(haproxy.config(), None, Some(GROUP)).unwrap();
    mode(&haproxy.config(), 0o640);
    mode(&haproxy.master_socket(), 0o600);
    let mut gatewright = setup.run().unwrap();
    let socket = haproxy.master_socket().display().to_string();
    let denied = format!("Access to {socket} is denied. Give the socket a group and a mode");
    let warned = |status: &serde_json::Value| {
        let warnings = status["warnings"].as_array()?;
        let mut texts = warnings.iter().filter_map(|text| text.as_str());
        texts.any(|text| text.starts_with(&denied)).then_some(())
    };
    setup
        .wait_for_status(LIMIT, "the missing right", warned)
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));

    // With the group on it, all goes by itself.
    chown(haproxy.master_socket(), None, Some(GROUP)).unwrap();
    mode(&haproxy.master_socket(), 0o660);
    consul.set_key("any", "change").unwrap();
    setup
        .wait_for_status(LIMIT, "the worker to confirm", |status| {
            (status["state"] == "confirmed" && warned(status).is_none()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", gatewright.log()));
    wait_for(LIMIT, "an answer", || {
        (send(entrance, 1).ok() == 1).then_some(())
    })
    .unwrap();
    // HAProxy's group can still read what a reload by root reads anyway.
    let found = std::fs::metadata(haproxy.config()).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o640);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&found), GROUP);
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}

// L10
/// What is built is what was looked at: each crate from one registry with its checksum, and no unsafe code of
/// ours.
#[test]
fn crates_are_locked_and_our_code_is_safe() {
    let read = |name: &str| std::fs::read_to_string(tools::root().join(name)).unwrap();
    let lock = read("Cargo.lock");
    let mut crates = 0;
    for package in lock.split("[[package]]").skip(1) {
        let ours = ["gatewright", "matrix", "support"];
        if ours
            .iter()
            .any(|name| package.contains(&format!("name = \"{name}\"")))
        {
            continue;
        }
        crates += 1;
        let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        assert!(
            package.contains(registry) && package.contains("checksum = \""),
            "{package}"
        );
    }
    assert!(crates > 50, "{crates}");
    assert!(read("Cargo.toml").contains("unsafe_code = \"deny\""));
    let rules = read(".cargo/deny.toml");
    for part in [
        "[licenses]",
        "[bans]",
        "[sources]",
        "[advisories]",
        "unknown-git = \"deny\"",
    ] {
        assert!(rules.contains(part), "{part}");
    }
    let mut left = vec![tools::root().join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap();
            left.extend(inside.map(|entry| entry.unwrap().path()));
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("allow(unsafe_code)"), "{}", path.display());
        }
    }
}
