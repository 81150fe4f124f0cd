//! Requests made of the pieces by which paths and hosts hide where they lead: none reaches what a rule forbids.

use super::conformance::Gateway;
use super::*;
use support::haproxies::{Version, haproxies};

/// What hosts are made of, one piece or up to three.
const HOSTS: [&str; 18] = [
    "gw.org",
    "gw.org:81",
    "gw.org.",
    "a.wild.org",
    "a.wild.org:81",
    "GW.ORG",
    ".",
    ":80",
    ":81",
    "/public",
    "/",
    "%2f",
    ",",
    "[::1]",
    "*",
    "@",
    "\\",
    "14:",
];
/// What paths are made of, up to six pieces each.
const PATHS: [&str; 40] = [
    "/",
    "/",
    "//",
    "/public",
    "/open",
    "/admin",
    "/admin",
    "admin",
    "%61dmin",
    "%2561dmin",
    "a%64min",
    "%%36%31dmin",
    "..",
    "/..",
    "/../",
    "%2e",
    "%2E%2e",
    "%252e",
    ".",
    "/.",
    "%2f",
    "%2F",
    "%252f",
    "\\",
    "%5c",
    "%255C",
    ";",
    ";x=1",
    "%3b",
    "%253B",
    "%00",
    "%2500",
    "%c0%ae",
    "%c0%af",
    "?",
    "#",
    "%23",
    "%3f",
    "x",
    "%u002e",
];

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // Knuth's linear congruence; the upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        let count = 1 + self.below(most);
        (0..count)
            .map(|_| pieces[self.below(pieces.len())])
            .collect()
    }
}

/// A path as a target may read it that decodes it so many times.
fn read(path: &str, times: usize) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut path = path.to_owned();
    for _ in 0..times {
        path = decoded(&plain(&path));
    }
    plain(&path)
}

/// Without parameters of segments, backslashes, dots, empty segments, and what stands behind a zero.
fn plain(path: &str) -> String {
    let mut segments = Vec::new();
    let path = path.replace('\\', "/");
    for segment in path.split('\0').next().unwrap_or_default().split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

fn decoded(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A host as a target may read it.
fn name(host: &str) -> String {
    let host = host.to_lowercase();
    let name = host.split(':').next().unwrap_or_default();
    name.trim_end_matches('.').to_owned()
}

#[haproxies]
fn no_generated_request_reaches_what_a_rule_forbids(version: Version) {
    let tags = json!({
        "web": ["urlprefix-gw.org:81/", "urlprefix-gw.org/", "urlprefix-gw.org/public", "urlprefix-*.wild.org/", "urlprefix-/open"],
        "admin": ["urlprefix-gw.org/admin deny=ip:127.0.0.0/8", "urlprefix-gw.org:81/admin allow=ip:10.0.0.0/8",
                  "urlprefix-*.wild.org/admin auth=ops", "urlprefix-*.wild.org:81/ allow=ip:10.0.0.0/8"],
    });
    let gateway = Gateway::start(&version, &tags, "");
    let worker = gateway.haproxy.worker();
    let mut dice = Dice(16);
    let (mut reached, mut kept) = (0, 0);
    for number in 0..2000 {
        let host = dice.text(&HOSTS, if number % 5 == 4 { 3 } else { 1 });
        let path = format!("/{}", dice.text(&PATHS, 6));
        let (status, answer) = match number % 4 {
            0 => {
                let fields = [
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", host.as_str()),
                    (":path", path.as_str()),
                ];
                h2::ask(gateway.entrance, &fields)
            }
            1 => {
                let lines = format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n");
                ask_raw(gateway.entrance, lines.as_bytes())
            }
            _ => ask(gateway.entrance, &host, &path, &[]),
        };
        if status != 200 {
            kept += usize::from(matches!(status, 401 | 403));
            continue;
        }
        reached += 1;
        let (_, got) = answer
            .rsplit_once("web ")
            .unwrap_or_else(|| panic!("{version}: {host} {path} {answer}"));
        let (passed, got) = got.split_once(" host=").unwrap();
        let to = name(got.split(' ').next().unwrap_or_default());
        for times in 0..3 {
            let meant = read(passed, times);
            let protected = to == "gw.org" || to.ends_with(".wild.org");
            assert!(
                !(protected && meant.starts_with("/admin")),
                "{version}: {host:?} {path:?} as {meant:?} {answer}"
            );
        }
    }
    // Enough of them came through, and enough were kept out by a rule, to tell something.
    assert!(reached > 50 && kept > 50, "{version}: {reached} {kept}");
    assert_eq!(gateway.haproxy.worker(), worker, "{version}");
}
