//! How Gatewright runs a validator, with a script as the validator.

use std::collections::BTreeMap;
use std::time::Duration;

use gatewright::apply::lock::Lock;
use gatewright::haproxy::check::{CheckError, Invocation, Outcome, check};
use gatewright::haproxy::child::ChildError;

fn script(text: &str) -> (tempfile::TempDir, Invocation) {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("haproxy");
    support::script::write(&binary, &format!("#!/bin/sh\n{text}\n")).unwrap();
    let invocation = Invocation {
        binary,
        flags: vec!["-W".into()],
        files: vec!["/a.cfg".into(), "/b.cfg".into()],
        working_directory: None,
        environment: BTreeMap::from([("LB_ADDR".into(), "127.0.0.1".into())]),
    };
    (directory, invocation)
}

const LIMIT: Duration = Duration::from_secs(20);

// F03 F11
#[tokio::test]
async fn flags_files_and_a_clean_environment_are_handed_over() {
    let (_directory, invocation) =
        script("echo \"$@\"; env | grep -v -e ^PATH= -e ^PWD= -e ^_=; exit 0");
    let Outcome::Valid { output } = check(&invocation, LIMIT).await.unwrap() else {
        panic!("valid");
    };
    assert_eq!(output, b"-W -c -f /a.cfg -f /b.cfg\nLB_ADDR=127.0.0.1\n");
}

// F11
/// Whatever is open here, a validator has three descriptors, and nothing to read.
#[tokio::test]
async fn a_validator_gets_no_input_and_no_descriptor_of_ours() {
    let (directory, invocation) = script("cat; ls -l /proc/$$/fd");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let _open = std::fs::File::open(&secret).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _lock = Lock::acquire(
        &directory.path().join("state"),
        &directory.path().join("h.cfg"),
    )
    .unwrap();
    let Outcome::Valid { output } = check(&invocation, LIMIT).await.unwrap() else {
        panic!("valid");
    };
    let listed = String::from_utf8(output).unwrap();
    let inherited: Vec<String> = (3..1024)
        .filter(|number| {
            let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
            let flags = about.ok().and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
                u32::from_str_radix(line.trim(), 8).ok()
            });
            // O_CLOEXEC
            flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
        })
        .map(|number| format!(" {number} -> "))
        .collect();
    let open: Vec<&str> = listed
        .lines()
        .filter(|line| line.contains("->"))
        // What the shell opens for itself is at 10 and above.
        .filter(|line| !line.ends_with("/haproxy") && !line.contains(" 10 -> "))
        // This program may have been started with descriptors; see `close_inherited`.
        .filter(|line| !inherited.iter().any(|number| line.contains(number)))
        .collect();
    assert_eq!(open.len(), 3, "{listed}");
    assert!(open[0].ends_with("-> /dev/null"), "{listed}");
    for line in &open[1..] {
        assert!(line.contains("-> pipe:"), "{listed}");
    }
    drop(listener);
}

// F07 I11
#[tokio::test]
async fn what_cannot_be_started_is_never_a_yes() {
    let (directory, invocation) = script("exit 0");
    // Open for writing (ETXTBSY), as while a package is being unpacked.
    let busy = std::fs::File::options()
        .write(true)
        .open(&invocation.binary)
        .unwrap();
    let error = check(&invocation, LIMIT).await.unwrap_err();
    assert!(
        matches!(&error, CheckError::Run(ChildError::Start { .. })),
        "{error}"
    );
    drop(busy);
    assert!(matches!(
        check(&invocation, LIMIT).await,
        Ok(Outcome::Valid { .. })
    ));
    // Empty, as after a package was unpacked onto a full disk; no program; not executable.
    let program = |name: &str, text: &[u8], mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let binary = directory.path().join(name);
        std::fs::write(&binary, text).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(mode)).unwrap();
        Invocation {
            binary,
            ..invocation.clone()
        }
    };
    for (name, text, mode) in [
        ("empty", &b""[..], 0o755),
        ("rubbish", b"\x7fELF\0\0", 0o755),
        ("data", b"#!/bin/sh\nexit 0\n", 0o644),
    ] {
        let outcome = check(&program(name, text, mode), LIMIT).await;
        assert!(outcome.is_err(), "{name}: {outcome:?}");
    }
}

// F06 F07
#[tokio::test]
async fn each_end_has_its_class() {
    let (_a, two) = script("exit 2");
    assert!(matches!(
        check(&two, LIMIT).await,
        Ok(Outcome::Invalid {
            no_listener: true,
            ..
        })
    ));
    let (_b, killed) = script("kill -9 $$");
    let error = check(&killed, LIMIT).await.unwrap_err();
    assert!(matches!(error, CheckError::Killed { signal: 9 }), "{error}");
    let (_c, seven) = script("exit 7");
    assert!(matches!(
        check(&seven, LIMIT).await,
        Err(CheckError::Unknown { status: 7, .. })
    ));
    let (_d, slow) = script("sleep 60");
    let error = check(&slow, Duration::from_millis(300)).await.unwrap_err();
    assert!(
        matches!(error, CheckError::Run(ChildError::TimedOut { .. })),
        "{error}"
    );
}
