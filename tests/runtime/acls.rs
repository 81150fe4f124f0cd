//! Pattern files of ACLs (`-f FILE`) change by commands: the worker stays the same process, and what it
//! decides follows the file at once. A file that is more than that is reloaded.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::gateway::{Gateway, HEAD};
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::http;
use support::traffic::{Limits, Traffic};

/// The blocked paths; each case replaces the rules.
const TEMPLATE: &str = "
    @rules@

backend web
    {{servers (service \"@service@\")}}
";

/// A pattern file as people write one: with comments, blank lines and blanks before the patterns.
const PATTERNS: &str = "# Blocked by the operators.

{{#each (parseJSON (key \"@service@/blocked\"))}}
    {{this}}
# After each.

{{/each}}
";

/// A gateway whose rules name `@dir@blocked.acl`, on a set that blocks these paths.
fn start<'a>(
    consul: &'a Consul,
    version: &Version,
    rules: &str,
    patterns: &str,
    blocked: &[&str],
) -> Gateway<'a> {
    // One thread: with two, a file could change between two rules of one request.
    let template = format!("{HEAD}{TEMPLATE}").replace("global\n", "global\n    nbthread 1\n");
    let template = template.replace("@rules@", rules);
    let mut gateway = Gateway::new(
        consul,
        version,
        &template,
        "",
        "[[template]]\nsource = \"{dir}blocked.acl.hbs\"\ndestination = \"{dir}blocked.acl\"\nkind = \"other\"\n",
    );
    let text = patterns.replace("@service@", &gateway.service);
    gateway.setup.file("blocked.acl.hbs", &text).unwrap();
    // A path that is written in an odd way is not validated from a copy of the file.
    gateway.setup.file("blocked.acl", "").unwrap();
    block(&gateway, blocked);
    gateway.run();
    gateway.converge(&[]);
    gateway
}

fn block(gateway: &Gateway<'_>, paths: &[&str]) {
    let key = format!("{}/blocked", gateway.service);
    let text = json!(paths).to_string();
    gateway.consul.set_key(&key, &text).unwrap();
}

/// Waits until exactly these of the paths are denied, the file holds them and the worker has confirmed it.
fn denies(gateway: &Gateway<'_>, denied: &[&str], asked: &[&str]) {
    let is_denied = |path: &&&str| http::get(gateway.entrance, path).is_ok_and(|a| a.status == 403);
    let wanted: BTreeSet<&&str> = denied.iter().collect();
    gateway.wait(&format!("{denied:?} denied"), || {
        let found: BTreeSet<&&str> = asked.iter().filter(is_denied).collect();
        (found == wanted).then_some(())
    });
    gateway.wait("the confirmation", || gateway.confirmed());
}

// H11
#[haproxies]
fn patterns_change_without_a_reload(version: Version) {
    let consul = Consul::start().unwrap();
    for (case, rules) in [
        (
            "one use",
            "http-request deny if { path -f @dir@blocked.acl }",
        ),
        (
            "several uses, one of them of any case",
            "acl one path_beg -i -f @dir@blocked.acl\n    acl two path -f @dir@blocked.acl\n    http-request deny if one or two",
        ),
        (
            "beside patterns in the line and another file",
            "acl one path -f @dir@blocked.acl /always\n    http-request deny if one",
        ),
    ] {
        let gateway = start(&consul, &version, rules, PATTERNS, &["/a"]);
        let asked = ["/a", "/b", "/c", "/d"];
        denies(&gateway, &["/a"], &asked);
        let mark = gateway.mark();
        for paths in [
            &["/a", "/b"][..],
            &["/c"],
            &["/b", "/a", "/d", "/a"],
            &[],
            &["/c"],
        ] {
            block(&gateway, paths);
            let denied: BTreeSet<&str> = paths.iter().copied().collect();
            let denied: Vec<&str> = denied.into_iter().collect();
            denies(&gateway, &denied, &asked);
        }
        // Only the comments differ.
        let text = PATTERNS
            .replace("operators", "people")
            .replace("@service@", &gateway.service);
        gateway.setup.file("blocked.acl.hbs", &text).unwrap();
        gateway.wait("the other comment", || {
            let file = gateway.setup.read("blocked.acl").ok()?;
            file.contains("people").then_some(())?;
            gateway.confirmed()
        });
        gateway.assert_not_reloaded(&mark);
        let shown = gateway.by_hand(&format!("show acl {}", gateway.setup.path("blocked.acl")));
        assert_eq!(shown.matches("0x").count(), 1, "{version}, {case}: {shown}");
    }
}

// H04 H11
#[haproxies(ends)]
fn patterns_with_blanks_and_signs_change_without_a_reload(version: Version) {
    let consul = Consul::start().unwrap();
    let rules = "http-request deny if { req.hdr(x) -m str -f @dir@blocked.acl }";
    let gateway = start(&consul, &version, rules, PATTERNS, &["plain"]);
    let mark = gateway.mark();
    block(&gateway, &["a b", "a;b", "c\\d", "e\\", "f\"g'"]);
    gateway.wait("the patterns", || {
        let shown = gateway.by_hand(&format!("show acl {}", gateway.setup.path("blocked.acl")));
        let mut lines = shown
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.1));
        lines
            .by_ref()
            .eq(["a b", "a;b", "c\\d", "e\\", "f\"g'"])
            .then_some(())?;
        gateway.confirmed()
    });
    gateway.assert_not_reloaded(&mark);
    // What the command line cannot carry comes by a reload.
    block(&gateway, &["a<<b"]);
    gateway.wait("the reload", || {
        let shown = gateway.by_hand(&format!("show acl {}", gateway.setup.path("blocked.acl")));
        shown.contains("a<<b").then_some(())?;
        gateway.confirmed()
    });
    assert_ne!(gateway.mark().worker, mark.worker, "{version}");
}

// H11
/// No answer is made of the old patterns and the new ones.
#[haproxies(ends)]
fn five_thousand_patterns_change_at_once(version: Version) {
    const COUNT: usize = 5_000;
    let consul = Consul::start().unwrap();
    let rules = "http-request return status 200 content-type text/plain string v1 if { str(key-0) -f @dir@blocked.acl } { str(key-4999) -f @dir@blocked.acl }\n    \
        http-request return status 200 content-type text/plain string v2 if { str(other-0) -f @dir@blocked.acl } { str(other-4999) -f @dir@blocked.acl }\n    \
        http-request return status 500";
    let names = |what: &str| -> Vec<String> { (0..COUNT).map(|n| format!("{what}-{n}")).collect() };
    let set = |gateway: &Gateway<'_>, what: &str| {
        let names = names(what);
        block(
            gateway,
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    };
    let first = names("key");
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let gateway = start(&consul, &version, rules, PATTERNS, &first);
    let mark = gateway.mark();
    let limits = Limits {
        clients: 2,
        pause: Duration::ZERO,
        requests: u64::MAX,
        time: Duration::from_secs(120),
    };
    let traffic = Traffic::start_kept(gateway.entrance, limits, &["v"]);
    for (what, answer) in [("other", "v2"), ("key", "v1"), ("other", "v2")] {
        set(&gateway, what);
        let wanted = BTreeSet::from([answer.to_owned()]);
        gateway.wait(&format!("{answer} from now on"), || {
            (traffic.look(|report| report.recent(100))? == wanted).then_some(())
        });
        gateway.wait("the confirmation", || gateway.confirmed());
    }
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{version}: {:?}", report.errors);
    gateway.assert_not_reloaded(&mark);
}

// H11
#[haproxies(ends)]
fn a_file_that_is_more_than_patterns_is_reloaded(version: Version) {
    let consul = Consul::start().unwrap();
    for (case, rules) in [
        (
            "a map of addresses behind -M",
            "acl one path -M -f @dir@blocked.acl\n    http-request deny if one",
        ),
        (
            "the page of an error, too",
            "errorfile 503 @dir@blocked.acl\n    http-request deny if { path -f @dir@blocked.acl }",
        ),
    ] {
        let patterns = match case {
            "the page of an error, too" => {
                "HTTP/1.0 503 x\r\n\r\n{{#each (parseJSON (key \"@service@/blocked\"))}}\n{{this}}\n{{/each}}\n"
            }
            _ => PATTERNS,
        };
        let gateway = start(&consul, &version, rules, patterns, &["/a"]);
        let asked = ["/a", "/b"];
        denies(&gateway, &["/a"], &asked);
        let mark = gateway.mark();
        block(&gateway, &["/b"]);
        denies(&gateway, &["/b"], &asked);
        assert_ne!(gateway.mark().worker, mark.worker, "{version}, {case}");
    }
}

// H11
/// Under two names the worker may hold the patterns twice, and both follow.
#[haproxies(ends)]
fn a_file_under_several_names_changes_under_each(version: Version) {
    let consul = Consul::start().unwrap();
    let mut names = vec!["@dir@./blocked.acl"];
    if version.has_init_state() {
        names.extend(["file@@dir@blocked.acl", "opt@@dir@blocked.acl"]);
    }
    for name in names {
        let rules = format!(
            "http-request deny if {{ path -f @dir@blocked.acl }}\n    http-request deny if {{ path_beg -f {name} }}"
        );
        let gateway = start(&consul, &version, &rules, PATTERNS, &["/a"]);
        let asked = ["/a", "/b", "/b/c"];
        denies(&gateway, &["/a"], &asked);
        let mark = gateway.mark();
        block(&gateway, &["/b"]);
        denies(&gateway, &["/b", "/b/c"], &asked);
        gateway.assert_not_reloaded(&mark);
    }
}

// H11
/// A pattern that HAProxy refuses costs nobody the former list: a denied client is denied at every moment.
#[haproxies(ends)]
fn a_refused_pattern_leaves_the_former_list_in_force(version: Version) {
    let consul = Consul::start().unwrap();
    let rules = "http-request deny if { src -f @dir@blocked.acl }";
    let gateway = start(&consul, &version, rules, PATTERNS, &["127.0.0.1"]);
    let mark = gateway.mark();
    let denied = || http::get(gateway.entrance, "/").map(|answer| answer.status);
    gateway.wait("the denial", || (denied().ok() == Some(403)).then_some(()));
    block(&gateway, &["127.0.0.1", "10.0.0.300"]);
    gateway.wait("the refusal", || {
        assert_eq!(denied().unwrap(), 403, "{version}");
        let status = gateway.status()?;
        (status["state"] == "held").then_some(())
    });
    for _ in 0..20 {
        assert_eq!(denied().unwrap(), 403, "{version}");
    }
    gateway.assert_not_reloaded(&mark);
    block(&gateway, &["10.0.0.30"]);
    gateway.wait("the mended list", || (denied().ok()? != 403).then_some(()));
}
