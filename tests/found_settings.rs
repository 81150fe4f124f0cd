//! Commands without arguments: the settings file that is found is named, another user's is refused, and nothing to
//! render is an error. And services that no catalog shows.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output};

use support::consul::Consul;
use support::gatewright::Setup;
use support::haproxies::oldest;
use support::scene::{Catalog, Given, HEAD};

const TEMPLATE: &str = "frontend f\n    mode http\n    timeout client 1s\n    bind 127.0.0.1:1\n    \
                        http-request return status 200\n";

fn setup(settings: &str) -> Setup {
    let setup = Setup::new().unwrap();
    setup.file(&format!("{settings}.hbs"), TEMPLATE).unwrap();
    let text = format!(
        "[catalog]\nsource = \"file\"\nfile = \"catalog.json\"\n[haproxy]\nbinary = {:?}\n\
         [state]\ndirectory = \"state\"\n[[template]]\nsource = \"{settings}.hbs\"\ndestination = \"{settings}.cfg\"\n",
        oldest().program()
    );
    setup.file(&format!("{settings}.toml"), &text).unwrap();
    setup.file("catalog.json", "{\"services\": {}}").unwrap();
    setup
}

/// What a command says, with the texts of its output and of its errors.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code();
    (code, text(&output.stdout), text(&output.stderr))
}

fn call(setup: &Setup, words: &[&str]) -> (Option<i32>, String, String) {
    said(&setup.call(words).unwrap())
}

#[test]
fn commands_without_arguments_find_the_settings_here_and_say_so() {
    let setup = setup("gatewright");
    let named = format!("the settings file {}", setup.path("gatewright.toml"));
    for words in [
        &["render"][..],
        &["check"],
        &["capture"],
        &["render", "--diff"],
    ] {
        let (code, out, err) = call(&setup, words);
        assert!(err.contains(&named), "{words:?} {out}{err}");
        assert!(matches!(code, Some(0 | 9)), "{words:?} {code:?} {out}{err}");
        assert!(!out.contains(&named), "{out}");
    }
    assert!(call(&setup, &["render"]).1.contains("frontend f"));
    // What is named counts.
    setup.file("own.hbs", "# mine\n").unwrap();
    for words in [
        &["render", "-t", "own.hbs"][..],
        &["render", "-c", "gatewright.toml"],
        &["check", "gatewright.hbs"],
    ] {
        let (_, _, err) = call(&setup, words);
        assert!(!err.contains("settings file"), "{words:?} {err}");
    }
    // The sidecar and those who ask it meet.
    let mut command = setup.command(&["run"]).unwrap();
    let log = setup.directory().join("gatewright.log");
    let mut running = support::process::Process::start("Gatewright", &mut command, &log).unwrap();
    let limit = crate::reaching::stage::LIMIT;
    let answers = || (call(&setup, &["status"]).0 == Some(0)).then_some(());
    support::wait_for(limit, "the status", answers).unwrap();
    assert_eq!(call(&setup, &["release", "--all"]).0, Some(0));
    assert_eq!(running.stop(limit).unwrap(), 0);
    assert!(running.output().contains(&named), "{}", running.output());
}

#[test]
fn the_settings_of_the_system_are_found_where_there_are_none_here() {
    let setup = setup("other");
    let etc = "mount -t tmpfs -o mode=755 none /etc && mkdir /etc/gatewright && \
               sed \"s|\\\"other|\\\"$PWD/other|g; s|\\\"catalog.json|\\\"$PWD/catalog.json|\" other.toml > /etc/gatewright/gatewright.toml && exec \"$0\" render";
    let inner = setup.command(&[]).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", etc])
        .arg(inner.get_program())
        .current_dir(setup.directory())
        .output()
        .unwrap();
    let (code, out, err) = said(&output);
    assert_eq!(code, Some(0), "{out}{err}");
    let named = "the settings file /etc/gatewright/gatewright.toml";
    assert!(
        err.contains(named) && out.contains("frontend f"),
        "{out}{err}"
    );
}

// L07
#[test]
fn settings_that_another_user_could_have_put_there_are_not_found() {
    let setup = setup("gatewright");
    let file = setup.directory().join("gatewright.toml");
    let bits = |bits| std::fs::set_permissions(&file, PermissionsExt::from_mode(bits)).unwrap();
    bits(0o664);
    assert_eq!(call(&setup, &["render"]).0, Some(0));
    bits(0o666);
    let (code, _, err) = call(&setup, &["render"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("can be written by everybody"), "{err}");
    bits(0o644);
    chown(&file, Some(61_234), None).unwrap();
    let (code, _, err) = call(&setup, &["check"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("belongs to the user 61234"), "{err}");
    assert_eq!(
        call(&setup, &["render", "-c", "gatewright.toml"]).0,
        Some(0)
    );
}

#[test]
fn nothing_to_render_is_an_error_of_every_command() {
    let setup = Setup::new().unwrap();
    setup.file("empty/notes.txt", "").unwrap();
    setup.file("few.toml", "[log]\nlevel = \"info\"\n").unwrap();
    setup
        .file("none.toml", "[parameters]\nservices = []\n")
        .unwrap();
    for words in [
        &["run"][..],
        &["render"],
        &["check"],
        &["capture"],
        &["run", "--listen", "127.0.0.1:1"],
        &["render", "-t", "shipped:tcp"],
        &["check", "empty"],
        &["check", "-c", "few.toml"],
        &["run", "-c", "none.toml"],
    ] {
        let (code, out, err) = call(&setup, words);
        assert_eq!(code, Some(3), "{words:?} {out}{err}");
        assert!(
            err.contains("nothing-to-render") && err.contains("--service"),
            "{err}"
        );
    }
}

// B12
#[test]
fn a_service_that_the_catalog_has_never_shown_is_a_standing_warning() {
    let consul = Consul::start().unwrap();
    let text = format!(
        "{HEAD}{{{{#each (service \"web\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}}\n{{{{/each}}}}\n\
         {{{{#each (service \"wbe\")}}}}\n    server {{{{serverName this}}}} {{{{serverAddress this}}}}\n{{{{else}}}}\n    # none\n{{{{/each}}}}\n"
    );
    let mut scene = Given::consul(&consul.url())
        .template(&text)
        .instances(&consul, &["one"])
        .run();
    let warned = |status: &serde_json::Value| {
        let warnings = status["warnings"].to_string();
        assert!(!warnings.contains("service \\\"web\\\""), "{warnings}");
        warnings.contains("never shown an instance for service \\\"wbe\\\"")
    };
    scene.confirmed("the warning", warned);
    scene.logged(&["WARN", "never shown an instance"]);
    // Another change does not end it; an instance does.
    let two = scene.backend("two");
    consul.instance("two", two);
    scene.confirmed("the warning", |status| {
        scene.file().contains("two") && warned(status)
    });
    let three = scene.backend("three");
    consul.register_instance("wbe", "three", three).unwrap();
    scene.confirmed("no warning", |status| !warned(status));
    // One that was there is known, also after a restart.
    consul.deregister("three").unwrap();
    scene
        .gatewright
        .stop(crate::reaching::stage::LIMIT)
        .unwrap();
    scene.gatewright = scene.setup.run().unwrap();
    scene.until("the set again", |status| {
        status["applied"]["confirmed"] == true && !warned(status)
    });
}
