//! A map of a thousand entries changes in one step: no answer is made of an old and a new entry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gateway::{Gateway, HEAD};
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::traffic::{Limits, Traffic};

const ENTRIES: usize = 1_000;
const STEPS: usize = 8;

/// One answer looks up the first and the last entry. One thread: with two, a map could change between
/// the two look-ups of one request, which has nothing to do with how it was changed.
const TEMPLATE: &str = "
    http-request return status 200 content-type text/plain lf-string \"%[str(key-0000),map(@dir@routes.map)] %[str(key-0999),map(@dir@routes.map)]\"

backend web
    {{servers (service \"@service@\")}}
";

const MAP: &str = "{{#each (parseJSON (key \"@service@/routes\"))}}
{{@key}} {{this}}
{{/each}}
";

#[haproxies]
fn a_thousand_entries_change_at_once(version: Version) {
    let consul = Consul::start().unwrap();
    let template = format!("{HEAD}{TEMPLATE}").replace("global\n", "global\n    nbthread 1\n");
    let mut gateway = Gateway::new(
        &consul,
        &version,
        &template,
        "",
        "[[template]]\nsource = \"{dir}routes.map.hbs\"\ndestination = \"{dir}routes.map\"\nkind = \"map\"\n",
    );
    let map = MAP.replace("@service@", &gateway.service);
    gateway.setup.file("routes.map.hbs", &map).unwrap();
    set(&gateway, 0);
    gateway.run();
    gateway.converge(&[]);
    let mark = gateway.mark();
    let limits = Limits {
        clients: 4,
        pause: Duration::ZERO,
        requests: u64::MAX,
        time: Duration::from_secs(120),
    };
    // Of any host; every answer begins with the value's first letter.
    let traffic = Traffic::start_kept(gateway.entrance, limits, &["v"]);
    for step in 1..=STEPS {
        set(&gateway, step);
        let wanted = BTreeSet::from([format!("v{step} v{step}")]);
        gateway.wait(&format!("{wanted:?} from now on"), || {
            (traffic.look(|report| report.recent(200))? == wanted).then_some(())
        });
    }
    gateway.wait("the confirmation", || {
        let file = gateway.setup.read("routes.map").ok()?;
        (file.matches(&format!(" v{STEPS}\n")).count() == ENTRIES).then_some(())?;
        gateway.confirmed()
    });
    let report = traffic.stop();
    assert_eq!(report.failed, 0, "{version}: {:?}", report.errors);
    let whole: BTreeSet<String> = (0..=STEPS).map(|step| format!("v{step} v{step}")).collect();
    let seen: BTreeSet<String> = report.answers.keys().cloned().collect();
    assert!(seen.is_subset(&whole), "{version}: {:?}", report.answers);
    gateway.assert_not_reloaded(&mark);
    // Traffic's map is the file's, entry by entry, without a version left behind.
    let shown = gateway.by_hand(&format!("show map {}", gateway.setup.path("routes.map")));
    let values = shown
        .lines()
        .filter(|line| line.ends_with(&format!(" v{STEPS}")));
    assert_eq!(values.count(), ENTRIES, "{version}");
    assert_eq!(
        shown.lines().filter(|line| line.contains("key-")).count(),
        ENTRIES
    );
    println!(
        "{version}: {} answers over {STEPS} changes of {ENTRIES} entries",
        report.ok()
    );
}

fn set(gateway: &Gateway<'_>, step: usize) {
    let entries: BTreeMap<String, String> = (0..ENTRIES)
        .map(|n| (format!("key-{n:04}"), format!("v{step}")))
        .collect();
    let text = serde_json::to_string(&entries).unwrap();
    let key = format!("{}/routes", gateway.service);
    gateway.consul.set_key(&key, &text).unwrap();
}
