//! The reader of HAProxy's messages against what real programs print.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gatewright::diagnostic::Severity;
use gatewright::haproxy::alerts::{Places, parse};
use gatewright::haproxy::config::Config;
use support::haproxies::{Version, haproxies};

/// Gatewright understands what each version says about the same broken files.
#[haproxies]
fn the_real_programs_are_understood(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.cfg");
    let start = "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:1\n";
    let cases = [
        (" defualt_backend b\n", 8, 0, "unknown keyword"),
        (
            " http-request return status 200 string \"abc\n",
            8,
            40,
            "unmatched quote",
        ),
        (
            " default_backend nosuch\n",
            8,
            0,
            "unable to find required default_backend",
        ),
        (
            " default_backend b\nbackend b\n server s 127.0.0.1:1 chek\n",
            10,
            0,
            "unknown keyword 'chek'",
        ),
        (
            " default_backend b\nbackend b\n server s h:1\n server s h:2\n",
            11,
            0,
            "",
        ),
    ];
    for (text, line, column, words) in cases {
        let text = format!("{start}{text}");
        std::fs::write(&path, &text).unwrap();
        let output = Command::new(version.program())
            .arg("-c")
            .arg("-f")
            .arg(&path)
            .output()
            .unwrap();
        let destinations = BTreeMap::from([(path.clone(), PathBuf::from("/etc/h.cfg"))]);
        let config = Config::parse_files([(Path::new("/etc/h.cfg"), text.as_str())]);
        let places = Places {
            destinations: Some(&destinations),
            config: Some(&config),
            ..Places::default()
        };
        let findings = parse(&output.stderr, &output.stdout, places);
        let found = findings.iter().any(|f| {
            f.severity == Severity::Error
                && (f.line, f.column) == (line, column)
                && f.message.contains(words)
                && f.file.as_deref() == Some(Path::new("/etc/h.cfg"))
        });
        assert!(found, "{version}: {text}: {findings:#?}");
    }
}
