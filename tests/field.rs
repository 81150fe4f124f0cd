//! Configurations and templates in the style of real ones, each with its verdict on each HAProxy: `golden/field/NAME`
//! holds the template (or several, with a `gatewright.toml`), what it reads, its catalogs in `fixtures`, and
//! `expected.txt`. A comment in the template explains a verdict that a reader would not expect.
//!
//! `FIELD=write tests/run field::` writes the verdicts anew; read every one that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::gatewright::Setup;
use support::haproxies::{Version, haproxies, known};
use support::tools;

const FEWEST: usize = 75;

/// Where the templates' files would lie on a real machine.
const REAL: &str = "/etc/haproxy/";
const ALL: &str = "all versions";

/// A case and its catalog, which is empty where the case has none.
type Key = (String, String);
type Verdicts = BTreeMap<Key, String>;

#[haproxies]
fn each_configuration_of_the_field_has_its_verdict(version: Version) {
    let folder = tools::root().join("tests/golden/field");
    if std::env::var_os("FIELD").is_some_and(|word| word == "write") {
        if version.is_oldest() {
            write(&folder);
        }
        return;
    }
    let kept = kept(&folder, version.behaves_as());
    let cases: BTreeSet<&String> = kept.keys().map(|(case, _)| case).collect();
    assert!(cases.len() >= FEWEST, "{} cases", cases.len());
    let told = told(&folder, &version);
    let mut wrong = Vec::new();
    for key in kept.keys().chain(told.keys()).collect::<BTreeSet<_>>() {
        let (kept, told) = (kept.get(key), told.get(key));
        if kept != told {
            let (case, catalog) = key;
            wrong.push(format!(
                "{case} {catalog} on {version}: {told:?}, expected {kept:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `gatewright check` says of every case.
fn told(folder: &Path, version: &Version) -> Verdicts {
    let setup = Setup::new().unwrap();
    certificates(&setup);
    let mut sets = Vec::new();
    for case in inside(folder) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let is_set = case.join("gatewright.toml").exists();
        let place = match is_set {
            true => format!("sets/{name}"),
            false => format!("alone/{name}"),
        };
        copy(&case, &setup, &place);
        if is_set {
            sets.push(place);
        }
    }
    let haproxy = version.program().display().to_string();
    let check = |words: &[&str]| {
        let words = [
            &["check", "--no-made", "--haproxy", &haproxy, "--format=json"],
            words,
        ]
        .concat();
        let output = setup.call(&words).unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| {
            panic!(
                "{words:?}: {why}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        let cases = report["cases"].as_array().unwrap();
        cases.iter().map(verdict).collect::<Verdicts>()
    };
    let mut told = check(&["alone"]);
    for set in sets {
        let settings = format!("{set}/gatewright.toml");
        let fixtures = format!("{set}/fixtures");
        told.extend(check(&["-c", &settings, &fixtures]));
    }
    told
}

/// `good`, or `warned:` or `refused:` with the codes that say so.
fn verdict(case: &Value) -> (Key, String) {
    let codes = |severity: &str| {
        let diagnostics = case["diagnostics"].as_array().unwrap().iter();
        diagnostics
            .filter(|one| one["severity"] == severity)
            .map(|one| one["code"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let listed = |word: &str, codes: BTreeSet<&str>| {
        let codes: Vec<&str> = codes.into_iter().collect();
        format!("{word}: {}", codes.join(" "))
    };
    let verdict = match (codes("error"), codes("warning")) {
        (errors, _) if !errors.is_empty() => listed("refused", errors),
        (_, warnings) if !warnings.is_empty() => listed("warned", warnings),
        _ => "good".to_owned(),
    };
    let template = case["templates"][0].as_str().unwrap();
    let name = template.split('/').nth(1).unwrap().to_owned();
    let catalog = case["catalog"].as_str().unwrap_or_default();
    let catalog = catalog.rsplit('/').next().unwrap().to_owned();
    ((name, catalog), verdict)
}

/// The verdicts of `expected.txt` in each case for one version.
fn kept(folder: &Path, version: &str) -> Verdicts {
    let mut kept = Verdicts::new();
    for case in inside(folder) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(case.join("expected.txt")).unwrap_or_default();
        for line in text.lines() {
            let (head, verdict) = line.split_once(": ").unwrap();
            let (versions, catalog) = head.split_once(" with ").unwrap_or((head, ""));
            if versions == ALL || versions.split(", ").any(|one| one == version) {
                let before = kept.insert((name.clone(), catalog.to_owned()), verdict.to_owned());
                assert_eq!(before, None, "{name}: {line}");
            }
        }
    }
    kept
}

/// Writes `expected.txt` in each case, by all known versions.
fn write(folder: &Path) {
    let mut found: BTreeMap<Key, Vec<(String, Vec<&str>)>> = BTreeMap::new();
    for name in tools::HAPROXY_VERSIONS {
        for (key, verdict) in told(folder, &known(name)) {
            let verdicts = found.entry(key).or_default();
            match verdicts.iter_mut().find(|(other, _)| *other == verdict) {
                Some((_, versions)) => versions.push(name),
                None => verdicts.push((verdict, vec![name])),
            }
        }
    }
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for ((case, catalog), verdicts) in found {
        let text = texts.entry(case).or_default();
        for (verdict, versions) in verdicts {
            let mut head = match versions.len() == tools::HAPROXY_VERSIONS.len() {
                true => ALL.to_owned(),
                false => versions.join(", "),
            };
            if !catalog.is_empty() {
                head.push_str(&format!(" with {catalog}"));
            }
            text.push_str(&format!("{head}: {verdict}\n"));
        }
    }
    for (case, text) in texts {
        std::fs::write(folder.join(case).join("expected.txt"), text).unwrap();
    }
}

/// A certificate with its key under the names that configurations use, and its authority: itself.
fn certificates(setup: &Setup) {
    let names = ["site.example".to_owned(), "shop.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = made.cert.pem();
    let both = format!("{certificate}{}", made.signing_key.serialize_pem());
    for name in ["site.pem", "shop.pem", "wild.pem"] {
        setup.file(&format!("certs/{name}"), &both).unwrap();
    }
    setup.file("certs/ca.pem", &certificate).unwrap();
}

/// Copies a case, with its paths as they are there. The line for HAProxy's own client spares reading the system's
/// certificate authorities each time.
fn copy(from: &Path, setup: &Setup, to: &str) {
    let here = setup.path(&format!("{to}/"));
    let certificates = setup.path("certs/");
    let mut waiting = vec![from.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|one| one.unwrap().path()),
            );
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replacen(
                "\nglobal\n",
                "\nglobal\n    httpclient.ssl.verify none\n",
                1,
            )
            .replace(&format!("{REAL}certs/"), &certificates)
            .replace(&format!("{REAL}certs"), certificates.trim_end_matches('/'))
            .replace(REAL, &here);
        let place = path.strip_prefix(from).unwrap().display();
        setup.file(&format!("{to}/{place}"), &text).unwrap();
    }
}

fn inside(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths
}
