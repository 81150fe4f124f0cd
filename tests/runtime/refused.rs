//! What HAProxy's own programs say about a change that was told: a file that `haproxy -c` refuses is
//! undone, and a new server may have to show that it lives before it gets traffic.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::gateway::{Gateway, HEAD};
use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::haproxy::{revision, revision_of};
use support::traffic::{Limits, Traffic};

const TEMPLATE: &str = "
backend web
    balance roundrobin
    {{servers (service \"@service@\") weight=true}}
";

/// Validates only when `hold` is not there, and refuses while `refuse` is.
const VALIDATOR: &str = "#!/bin/sh
case \" $* \" in *' -c '*)
    while [ -e @dir@hold ]; do sleep 0.02; done
    if [ -e @dir@refuse ]; then
        echo '[ALERT]    (1) : config : refused for the test' >&2
        exit 1
    fi
esac
exec @haproxy@ \"$@\"
";

// F01
#[haproxies]
fn commands_of_a_refused_file_are_undone(version: Version) {
    let consul = Consul::start().unwrap();
    let template = format!("{HEAD}{TEMPLATE}");
    let mut gateway = Gateway::new(&consul, &version, &template, "", "");
    let binary = version.program();
    let validator = VALIDATOR
        .replace("@dir@", &gateway.setup.path(""))
        .replace("@haproxy@", &binary.display().to_string());
    gateway.setup.script("haproxy", &validator).unwrap();
    let instances: Vec<Backend> = (0..4).map(|n| gateway.instance(&n.to_string())).collect();
    let at = |n: usize| instances[n].address();
    for n in 0..3 {
        gateway.register(&n.to_string(), at(n), 10);
    }
    let mark = gateway.start(&[at(0), at(1), at(2)]);
    let file = std::fs::metadata(gateway.path("haproxy.cfg")).unwrap();
    let stamp = (file.ino(), file.mtime(), file.mtime_nsec());
    let (text, serving) = (gateway.file(), gateway.serving());

    type Change<'c> = (&'static str, Box<dyn Fn() + 'c>, Box<dyn Fn() + 'c>);
    let set = |n: usize, place: usize, weight| gateway.register(&n.to_string(), at(place), weight);
    let set = &set;
    let changes: [Change<'_>; 4] = [
        (
            "added",
            Box::new(|| set(3, 3, 10)),
            Box::new(|| gateway.deregister("3")),
        ),
        (
            "removed",
            Box::new(|| gateway.deregister("1")),
            Box::new(|| set(1, 1, 10)),
        ),
        (
            "readdressed",
            Box::new(|| set(2, 3, 10)),
            Box::new(|| set(2, 2, 10)),
        ),
        (
            "weighed",
            Box::new(|| set(0, 0, 20)),
            Box::new(|| set(0, 0, 10)),
        ),
    ];
    for (what, change, back) in &changes {
        gateway.setup.file("hold", "").unwrap();
        gateway.setup.file("refuse", "").unwrap();
        change();
        gateway.wait(&format!("the command: {what}"), || {
            (gateway.serving() != serving).then_some(())
        });
        std::fs::remove_file(gateway.path("hold")).unwrap();
        gateway.wait(&format!("undone: {what}"), || {
            let status = gateway.status()?;
            let held = status["state"] == "held"
                && status["held"]["why"]
                    .to_string()
                    .contains("refused for the test");
            (held && gateway.serving() == serving).then_some(())
        });
        assert_eq!(
            revision(&gateway.path("stats.sock"), &text),
            revision_of(&text),
            "{version} {what}"
        );
        assert_eq!(gateway.file(), text, "{version} {what}");
        let file = std::fs::metadata(gateway.path("haproxy.cfg")).unwrap();
        assert_eq!(
            (file.ino(), file.mtime(), file.mtime_nsec()),
            stamp,
            "{version} {what}"
        );
        gateway.assert_not_reloaded(&mark);
        std::fs::remove_file(gateway.path("refuse")).unwrap();
        back();
        gateway.converge(&[at(0), at(1), at(2)]);
        gateway.wait("no server but those", || {
            (gateway.servers().len() == 3).then_some(())
        });
        assert_eq!(gateway.file(), text, "{version} {what}");
    }
    let status = gateway.status().unwrap();
    assert_eq!(status["haproxy"]["divergences"], 0, "{version}");
    gateway.assert_not_reloaded(&mark);
    (0..3).for_each(|n| gateway.deregister(&n.to_string()));
}

const CHECKED: &str = "
backend web
    balance roundrobin
    option httpchk GET /health
    {{servers (service \"@service@\") options=\"check inter 200ms fall 1 rise 2\"}}
";

// H15
#[haproxies(ends)]
fn a_dead_instance_that_is_added_gets_no_request(version: Version) {
    let consul = Consul::start().unwrap();
    let template = format!("{HEAD}{CHECKED}");
    let mut gateway = Gateway::new(
        &consul,
        &version,
        &template,
        "new_servers = \"checked\"",
        "",
    );
    let (alive, dead) = (gateway.instance("alive"), gateway.instance("dead"));
    dead.set_healthy(false);
    gateway.register("alive", alive.address(), 1);
    let mark = gateway.start(&[alive.address()]);
    let limits = Limits {
        clients: 4,
        pause: Duration::ZERO,
        requests: u64::MAX,
        time: Duration::from_secs(120),
    };
    let traffic = Traffic::start_kept(gateway.entrance, limits, &["web"]);
    gateway.register("dead", dead.address(), 1);
    gateway.converge(&[alive.address(), dead.address()]);
    gateway.wait("some checks", || (dead.checks() >= 3).then_some(()));
    // Before `init-state` (3.1) two commands on one line make it wait for its checks, and another
    // thread of HAProxy may send one request between them.
    let most = u64::from(!version.has_init_state());
    let before = dead.requests();
    assert!(before <= most, "{version}: {before}");
    let operational = gateway.server("web", dead.address()).unwrap().operational;
    assert_eq!(operational, 0, "{version}");
    dead.set_healthy(true);
    gateway.wait("its first request", || {
        (dead.requests() > before).then_some(())
    });
    let report = traffic.stop();
    let answered: BTreeMap<String, u64> = report.answers;
    assert_eq!(
        report.failed, 0,
        "{version}: {:?} {answered:?}",
        report.errors
    );
    gateway.assert_not_reloaded(&mark);
    gateway.deregister("alive");
    gateway.deregister("dead");
}
